"""The samples that events have now: of each kind of part the one that was made last, as SQL."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.tables import Lake
from pipeline.queries.catalog import read_rows
from pipeline.stages.repack import FRAMES_DIGEST, frames_key
from schemas.tables import TABLES

_LATEST = """
WITH commits AS (
    -- The order in which runs were committed: each that labels raises the ledger's version.
    SELECT run_id, [v.version FOR v IN versions IF v."table" = 'ledger'][1] AS number FROM runs
), made AS (
    SELECT subject AS event_id, unnest(string_split(stage_digest, '+')) AS spec_digest, number
    FROM ledger JOIN commits USING (run_id) WHERE stage = 'label' AND outcome = 'kept'
), excluded AS (
    -- Events of which a policy wants no footage, be it made before.
    SELECT subject AS event_id, max(number) AS since
    FROM ledger JOIN commits USING (run_id) WHERE stage = 'label' AND outcome = 'filtered'
    GROUP BY ALL
), newest AS (
    -- Of each kind of part the one that was made last; of clips, with the privacy asked for.
    SELECT event_id, part, arg_max(parts.spec_digest, made.number) AS spec_digest
    FROM parts JOIN made USING (event_id, spec_digest) LEFT JOIN excluded USING (event_id)
    -- Parts without pictures have none.
    WHERE privacy IS NULL
       OR (part = 'clip' AND privacy = '{privacy}' AND made.number > coalesce(since, -1))
    GROUP BY ALL
), picture_parts AS (
    {pictures}
), other_parts AS (
    SELECT parts.* FROM parts SEMI JOIN newest USING (event_id, part, spec_digest)
    WHERE part <> 'clip'
), whole AS (
    SELECT p.event_id, '{payload}' AS payload, p.cameras, '{privacy}' AS privacy,
           p.spec_digest, l.source_digest AS label_digest, p.duration_ns,
           [{{part: r.part, spec_digest: r.spec_digest, pack_uri: r.pack_uri,
              "offset": r."offset", length: r.length, sha256: r.sha256}}
            FOR r IN [p, s, l]] AS parts
    FROM picture_parts AS p
    -- Labels are made of other rows; what the sensors measured is not.
    JOIN other_parts AS s ON s.event_id = p.event_id AND s.source_digest IS NULL
    JOIN other_parts AS l ON l.event_id = p.event_id AND l.source_digest IS NOT NULL
), labelled AS (
    -- Samples of a lake before format 3 are whole.
    SELECT samples.event_id, arg_max(samples.spec_digest, made.number) AS spec_digest
    FROM samples JOIN made USING (event_id, spec_digest) LEFT JOIN excluded USING (event_id)
    WHERE samples.privacy = '{privacy}' AND made.number > coalesce(since, -1) GROUP BY ALL
), found AS (
    FROM whole
    UNION ALL BY NAME
    SELECT event_id, payload, cameras, privacy, spec_digest, spec_digest AS label_digest,
           duration_ns,
           [{{part: payload, spec_digest: spec_digest, pack_uri: pack_uri, "offset": "offset",
              length: length, sha256: sha256}}] AS parts
    FROM samples SEMI JOIN labelled USING (event_id, spec_digest) ANTI JOIN whole USING (event_id)
    WHERE payload = '{payload}'
), selection AS (
    SELECT events.*, logs.vehicle_id, logs.platform, logs.format, logs.name AS log_name,
           found.* EXCLUDE (event_id)
    FROM events JOIN found USING (event_id) JOIN logs USING (log_id, drive_id)
)
"""
"""Of each event the sample whose parts were made last.

A table that is named here, be it in a text, is opened.
"""

_PICTURES = {
    "clip": """
    SELECT parts.* FROM parts SEMI JOIN newest USING (event_id, part, spec_digest)
    WHERE part = 'clip'
    """,
    "frames": f"""
    SELECT parts.* FROM parts
    JOIN newest ON newest.event_id = parts.event_id AND newest.part = 'clip'
        AND newest.spec_digest = parts.source_digest
    WHERE parts.part = 'frames'
        AND parts.spec_digest = {FRAMES_DIGEST.format(key="{key}", clip="parts.source_digest")}
    """,  # noqa: S608 - a constant
}
"""By payload, the parts that hold pictures."""


def latest_samples(privacy: str, payload: str = "clip", frames_fps: float = 1.0) -> str:
    """Returns the start of a query, which defines `selection`: a row for each event's sample.

    Its columns are those of events, vehicle_id, platform, format, log_name, payload, cameras,
    privacy, spec_digest (of the pictures), label_digest, duration_ns and parts: their places in
    packs, which are three unless the sample is whole, of a lake before format 3.

    Args:
        privacy: the policy under which its pictures were made.
        payload: what its pictures are: "clip" or "frames".
        frames_fps: the rate of "frames".
    """
    pictures = _PICTURES[payload].format(key=frames_key(frames_fps))
    return _LATEST.format(privacy=privacy, payload=payload, pictures=pictures)


def label_digests(lake: Lake, privacy: str) -> dict[str, str]:
    """Returns the digest of the labels that each event has now.

    Args:
        lake: the lake.
        privacy: the policy under which the events' pictures were made.
    """
    query = "\n".join([latest_samples(privacy), "SELECT event_id, label_digest FROM selection"])
    found = read_rows(lake, query)
    return dict(zip(found["event_id"].to_pylist(), found["label_digest"].to_pylist(), strict=True))


def rows_of_labels(
    lake: Lake, table: str, labels: Mapping[str, str], event_ids: pa.ChunkedArray | None = None
) -> pa.Table:
    """Reads the rows of a table that are of some labels.

    Args:
        lake: the lake.
        table: `boxes` or `tracks`.
        labels: the digest of the labels by event.
        event_ids: of these events alone.
    """
    columns = {"event_id": list(labels), "spec_digest": list(labels.values())}
    now = pa.table({name: pa.array(texts, pa.string()) for name, texts in columns.items()})
    where = None if event_ids is None else pc.field("event_id").isin(pc.unique(event_ids))
    rows = lake.read(table, filter=where)
    return TABLES[table].conform(rows.join(now, ["event_id", "spec_digest"], join_type="left semi"))

"""Checks the rows of the lake's tables against each other, and against the packs.

A lake states many things more than once: an id is a digest of its row, a video's row counts
its frames, a sample holds its event, its log and its labels. Where two places differ, one of
them was changed.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from auto_label.event_rows import LABELS
from pipeline.lake.check_files import Facts, owner, row_hash
from pipeline.lake.ledger import answer_subjects, done_rows
from pipeline.lake.repair import JOB
from pipeline.lake.tables import Lake
from pipeline.snapshots.assembly import pack_url
from schemas.errors import DataError, LakeError, one_line
from schemas.ids import digest
from schemas.times import GRID_NS, NS_PER_S
from transforms.corpora.pack import END_OF_ARCHIVE, first_key, read_sample
from transforms.corpora.webdataset import member_name, rounded
from transforms.storage import check_own, filesystem, get

_REFERENCES = (
    ("log_id", "logs", ("videos", "frames", "signals", "joints", "channels", "annotations",
                        "scene", "events")),
    ("event_id", "events", ("samples", "parts", "privacy", "views", "detections", "verdicts",
                            *LABELS)),
    ("event_id spec_digest camera source source_version", "views", ("detections",)),
    ("event_id log_id drive_id", "events", ("samples", "parts", "verdicts")),
    ("log_id drive_id", "logs", ("events",)),
    ("log_id camera", "videos", ("scene",)),
    ("log_id camera uri", "videos", ("frames",)),
    ("run_id", "runs", ("ledger", "rejects")),
)  # fmt: skip
"""Columns, the table that has each of their values, and those that refer to it."""

_DONE = ["subject", "stage_digest"]
_BATCH_ROWS = 1 << 14


def check_rows(facts: Facts) -> Iterator[str]:
    """Yields where rows of tables contradict each other; damaged tables are left out."""
    for names, home, tables in _REFERENCES:
        for table in tables:
            if not {home, table} & facts.damaged:
                yield from _check_reference(facts, table, home, names.split())
    checks = (
        (_check_logs, {"logs"}),
        (_check_events, {"events", "logs"}),
        (_check_videos, {"videos", "frames"}),
        (_check_grid, {"signals", "logs"}),
        (_check_tracks, {"tracks", "boxes"}),
        (_check_labelled, {"ledger"}),
        (_check_cameras, {"views", "verdicts", "events", "videos"}),
        (_check_privacy, {"privacy", "parts"}),
        (_check_answers, {"verdicts", "ledger"}),
        (_check_durations, {"samples", "parts", "events"}),
    )
    for check, tables_ in checks:
        if not tables_ & facts.damaged:
            yield from check(facts)


def _check_reference(facts: Facts, table: str, home: str, names: list[str]) -> Iterator[str]:
    found = facts.owners[table] or facts.kept[table]
    if not found:
        return
    known, used = joined(facts.rows(home), names), joined(pa.concat_tables(found), names)
    lost = pc.unique(used.filter(pc.invert(pc.is_in(used, value_set=known))))
    if len(lost):
        first = str(lost[0]).replace("\0", " ")
        yield f"{table}: {len(lost)} {' and '.join(names)}s are not in {home}; the first is {first}"


def joined(rows: pa.Table, names: Iterable[str]) -> pa.ChunkedArray:
    """Joins columns to one of strings, by which rows are compared."""
    texts = [pc.fill_null(rows[name].cast(pa.string()), "\1") for name in names]
    return pc.binary_join_element_wise(*texts, "\0")


def _check_logs(facts: Facts) -> Iterator[str]:
    logs = facts.rows("logs").select(["log_id", "format", "fingerprint"])
    for log_id, form, fingerprint in _values(logs):
        if log_id != digest("log", form, fingerprint):
            yield f"logs: log {log_id}: its id is not the digest of its format and fingerprint"


def _check_events(facts: Facts) -> Iterator[str]:
    logs = facts.rows("logs")
    durations = dict(_values(logs.select(["log_id", "duration_ns"])))
    for event_id, log_id, end_ns in _values(
        facts.rows("events").select(["event_id", "log_id", "end_ns"])
    ):
        if end_ns > durations.get(log_id, end_ns):
            yield f"events: event {event_id}: ends after its log {log_id}"


def _check_videos(facts: Facts) -> Iterator[str]:
    """Compares what `videos` says of a file with its frames."""
    key = ["log_id", "camera", "uri"]
    videos = facts.rows("videos").sort_by([(name, "ascending") for name in key])
    if not videos.num_rows:
        return
    frames = pa.concat_tables(facts.owners["frames"]) if facts.owners["frames"] else None
    first = pa.concat_tables(facts.first_frames) if facts.first_frames else None
    if frames is None or first is None:
        yield "videos: none of the files has frames"
        return
    counts = frames.group_by(key).aggregate([("count_all", "sum"), ("frame_index_max", "max")])
    told = joined(counts, [*key, "count_all_sum", "frame_index_max_max"])
    last = videos.append_column("last", pc.subtract(videos["frames"], 1))
    claimed = joined(last, [*key, "frames", "last"])
    wrong = videos.filter(pc.invert(pc.is_in(claimed, value_set=told)))
    for row in wrong.to_pylist():
        yield (
            f"videos: {row['uri']} of log {row['log_id']}: the table frames does not have its "
            f"{row['frames']} frames"
        )
    first = first.sort_by([(name, "ascending") for name in key])
    if joined(first, key).combine_chunks() != joined(videos, key).combine_chunks():
        if not wrong.num_rows:
            yield "frames: not every video has one frame of index 0"
        return
    started = _values(first.select(["t_ns", "pts"]))
    columns = ["log_id", "uri", "start_ns", "first_pts_ns", "time_base_num", "time_base_den"]
    for (t_ns, pts), (log_id, uri, start_ns, first_pts_ns, num, den) in zip(
        started, _values(videos.select(columns)), strict=True
    ):
        if den <= 0 or (t_ns, round(pts * num * NS_PER_S / den)) != (start_ns, first_pts_ns):
            yield f"videos: {uri} of log {log_id}: does not start where its first frame does"


def _check_grid(facts: Facts) -> Iterator[str]:
    """Compares the instants of a log's signals with its duration."""
    if not facts.owners["signals"]:
        return
    by_log = pa.concat_tables(facts.owners["signals"]).group_by("log_id")
    found = by_log.aggregate([("count_all", "sum"), ("t_ns_min", "min"), ("t_ns_max", "max")])
    logs = facts.rows("logs")
    durations = dict(_values(logs.select(["log_id", "duration_ns"])))
    for log_id, rows, least, most in _values(found):
        wanted = -(-durations.get(log_id, 0) // GRID_NS)
        if log_id in durations and (rows, least, most) != (wanted, 0, (wanted - 1) * GRID_NS):
            yield f"signals: log {log_id}: its {rows} instants are not those of its duration"


def _check_tracks(facts: Facts) -> Iterator[str]:
    """Compares what `tracks` says of a track with its boxes."""
    tracks = facts.rows("tracks")
    key = ["event_id", "spec_digest", "camera", "track_id", "class"]
    sums = [("t_ns_min", "min"), ("t_ns_max", "max"), ("count_all", "sum")]
    names = [*key, *(f"{column}_{how}" for column, how in sums)]
    told = pa.array([], pa.string())
    if facts.owners["boxes"]:
        boxes = pa.concat_tables(facts.owners["boxes"]).group_by(key).aggregate(sums)
        told = joined(boxes, names)
    claimed = joined(tracks, [*key, "start_ns", "end_ns", "boxes"])
    for table, rows, values in (("tracks", claimed, told), ("boxes", told, claimed)):
        lost = rows.filter(pc.invert(pc.is_in(rows, value_set=values)))
        if len(lost):
            event_id = str(lost[0]).partition("\0")[0]
            yield f"{table}: {len(lost)} tracks differ from their boxes; the first is of {event_id}"


def _check_labelled(facts: Facts) -> Iterator[str]:
    """Compares what events were labelled with, by the rows that are there, with the ledger."""
    ledger = facts.rows("ledger")
    labelled = pc.is_in(ledger["stage"], pa.array(["label", "render"]))
    told = joined(done_rows(ledger.filter(labelled)), _DONE)
    for table in ("views", *LABELS):
        found = facts.owners[table] or facts.kept[table]
        if not found or table in facts.damaged:
            continue
        used = joined(pa.concat_tables(found), ["event_id", "spec_digest"])
        lost = pc.unique(used.filter(pc.invert(pc.is_in(used, value_set=told))))
        if len(lost):
            event_id = str(lost[0]).partition("\0")[0]
            yield (
                f"{table}: {len(lost)} specifications of events are not in the ledger; the first "
                f"is of {event_id}"
            )


def _check_cameras(facts: Facts) -> Iterator[str]:
    """Compares the cameras that models and reviewers looked at with the videos."""
    events = facts.rows("events").select(["event_id", "log_id"])
    told = joined(facts.rows("videos"), ["log_id", "camera", "width", "height"])
    for table in ("views", "verdicts"):
        rows = facts.rows(table).select(["event_id", "camera", "width_px", "height_px"])
        looked = rows.join(events, "event_id", join_type="inner")
        claimed = joined(looked, ["log_id", "camera", "width_px", "height_px"])
        lost = pc.unique(claimed.filter(pc.invert(pc.is_in(claimed, value_set=told))))
        if len(lost):
            log_id, camera = str(lost[0]).split("\0")[:2]
            yield (
                f"{table}: {len(lost)} cameras are not those of videos; the first is {camera} of "
                f"{log_id}"
            )


def _check_answers(facts: Facts) -> Iterator[str]:
    """Compares the answers of reviewers with those that the ledger knows."""
    ledger, rows = facts.rows("ledger"), facts.rows("verdicts")
    taken = pc.and_(pc.equal(ledger["stage"], "review_pull"), pc.equal(ledger["outcome"], "kept"))
    told = ledger.filter(taken)["subject"]
    claimed = answer_subjects(rows)
    for table, own, other in (("verdicts", claimed, told), ("ledger", told, claimed)):
        lost = own.filter(pc.invert(pc.is_in(own, value_set=other)))
        if len(lost):
            where = "ledger" if table == "verdicts" else "verdicts"
            yield f"{table}: {len(lost)} answers are not in {where}; the first is {lost[0]}"


def _check_privacy(facts: Facts) -> Iterator[str]:
    """Compares the cameras of clips with those of which it is told what was hidden on them."""
    parts = facts.rows("parts")
    clips = parts.filter(pc.equal(parts["part"], "clip"))
    claimed = {
        (event_id, spec_digest, camera, privacy)
        for event_id, spec_digest, cameras, privacy in _values(
            clips.select(["event_id", "spec_digest", "cameras", "privacy"])
        )
        for camera in cameras
    }
    told = {
        (event_id, spec_digest, camera, policy.partition("@")[0])
        for event_id, spec_digest, camera, policy in _values(
            facts.rows("privacy").select(["event_id", "spec_digest", "camera", "policy"])
        )
    }
    for table, rows in (("parts", claimed - told), ("privacy", told - claimed)):
        if rows:
            event_id, _, camera, _ = min(rows, key=str)
            other = "privacy" if table == "parts" else "parts"
            yield (
                f"{table}: {len(rows)} cameras of clips are not in {other}; the first is {camera} "
                f"of {event_id}"
            )


def _check_durations(facts: Facts) -> Iterator[str]:
    events = facts.rows("events")
    spans = pc.subtract(events["end_ns"], events["start_ns"])
    told = joined(events.append_column("duration_ns", spans), ["event_id", "duration_ns"])
    for table in ("samples", "parts"):
        claimed = joined(facts.rows(table), ["event_id", "duration_ns"])
        lost = claimed.filter(pc.invert(pc.is_in(claimed, value_set=told)))
        if len(lost):
            event_id = str(lost[0]).partition("\0")[0]
            yield f"{table}: {len(lost)} are not as long as their events; the first is {event_id}"


@dataclass(frozen=True, slots=True)
class _Told:
    """What the tables say of an event: `logs` are rows by log_id, none if they are damaged."""

    facts: Facts
    logs: Mapping[str, Mapping[str, Any]]


def check_packs(lake: Lake, facts: Facts, checked: Counter[str]) -> Iterator[str]:
    """Yields what is wrong with the packs that `parts` and `samples` name, and what they hold."""
    if {"parts", "samples"} & facts.damaged:
        return
    logs: dict[str, dict[str, Any]] = {}
    if "logs" not in facts.damaged:
        logs = {row["log_id"]: row for row in facts.rows("logs").to_pylist()}
    tables = [facts.rows(table) for table in ("parts", "samples")]
    for uri in sorted({uri for rows in tables for uri in pc.unique(rows["pack_uri"]).to_pylist()}):
        ranges = [
            row
            for rows in tables
            for row in rows.filter(pc.equal(rows["pack_uri"], uri)).to_pylist()
        ]
        ranges.sort(key=lambda row: row["offset"])
        try:
            yield from _check_pack(lake, uri, ranges, _Told(facts, logs), checked)
        except (LakeError, OSError) as error:
            yield f"{uri}: cannot be read: {one_line(error)}"


def _check_pack(
    lake: Lake,
    uri: str,
    rows: list[dict[str, Any]],
    told: _Told,
    checked: Counter[str],
) -> Iterator[str]:
    url = pack_url(lake.url, uri)
    check_own(url)
    fs, path = filesystem(url)
    size, at = fs.size(path) or 0, 0
    altered: list[str] = []
    for row in rows:
        start, end = row["offset"], row["offset"] + row["length"]
        place = f"{uri}: {row.get('part', 'sample')} of {row['event_id']} at byte {start}"
        if start < at or end <= start:
            yield f"{place}: {row['length']} bytes from there are not a range of its own"
            return
        if end > size:
            yield f"{place}: the pack ends within it"
            return
        if start > at:
            yield from _check_gap(uri, at, get(url, at, start), told.facts)
        at = end
        block = get(url, start, end)
        checked["parts" if "part" in row else "samples"] += 1
        checked["bytes"] += len(block)
        if sha256(block).hexdigest() != row["sha256"]:
            altered.append(place)
            continue
        yield from (f"{place}: {problem}" for problem in _check_sample(block, row, told))
    if altered:
        more = f", nor are {len(altered) - 1} others of the pack" if len(altered) > 1 else ""
        yield f"{altered[0]}: altered: its SHA-256 is not that in the table{more}"
    rest = get(url, at, min(size, at + len(END_OF_ARCHIVE) + 1))
    if rest != END_OF_ARCHIVE:
        gap = rest if size <= at + len(rest) else get(url, at, size)
        yield from _check_gap(uri, at, gap.removesuffix(END_OF_ARCHIVE), told.facts)
        if not gap.endswith(END_OF_ARCHIVE):
            yield f"{uri}: the tar does not end after its last sample"


def _check_gap(uri: str, at: int, block: bytes, facts: Facts) -> Iterator[str]:
    """Yields whether a pack holds bytes that no sample names.

    A run that removed doubled rows leaves their samples in the packs of others.
    """
    if not block:
        return
    known = JOB in facts.rows("runs")["job"].to_pylist()
    try:
        with tarfile.open(fileobj=io.BytesIO(block), mode="r:") as tar:
            keys = {member.name.partition(".")[0] for member in tar}
        known &= all(facts.contents[key] for key in keys)
    except tarfile.TarError:
        known = False
    if not known:
        yield f"{uri}: the {len(block)} bytes from {at} on belong to no sample"


def _check_sample(block: bytes, row: Mapping[str, Any], told: _Told) -> Iterator[str]:
    """Compares what a sample holds with the tables."""
    try:
        key, members = first_key(block), read_sample(block)
    except DataError as error:
        yield str(error)
        return
    if key != row["event_id"]:
        yield f"its members have the key {key!r}"
        return
    try:
        if "part" in row:
            yield from _check_part(members, row, told)
        else:
            yield from _check_whole(members, row, told)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        yield f"its json does not have the structure of a sample's: {error!r}"


def _check_part(members: Mapping[str, bytes], row: Mapping[str, Any], told: _Told) -> Iterator[str]:
    """Compares what a part holds with the tables."""
    pictured = row["part"] in {"clip", "frames"}
    if not pictured and (row["cameras"] or row["privacy"] is not None):
        yield "the table says that it has pictures"
    if row["part"] in {"clip", "signals"} and row["source_digest"] is not None:
        yield "the table says that it is made of another part"
    if row["part"] == "labels":
        if set(members) != {"json"}:
            yield "its members are not those of labels"
            return
        metadata = json.loads(members["json"])
        if metadata["labelling"]["digest"] != row["source_digest"]:
            yield "its json has another label specification than the table"
        yield from _check_labels(metadata, row, row["source_digest"], told)
    elif row["part"] == "signals":
        if set(members) != {"signals.npz"}:
            yield "its members are not those of signals"
    elif pictured:
        yield from _check_pictures(members, row)
    else:
        yield f"a sample has no part {row['part']!r}"


def _check_pictures(members: Mapping[str, bytes], row: Mapping[str, Any]) -> Iterator[str]:
    said = json.loads(members["pictures.json"])
    pixels = said["pixels"]
    clip = row["spec_digest"] if row["part"] == "clip" else row["source_digest"]
    if (said["payload"], sorted(said["cameras"])) != (row["part"], sorted(row["cameras"])):
        yield "its json has another payload or other cameras than the table"
    if (pixels["digest"], pixels["privacy"]) != (clip, row["privacy"]):
        yield "its json has another specification of pixels than the table"
    names = {member_name(camera) for camera in said["cameras"]}
    depth, kind = (1, ".mp4") if row["part"] == "clip" else (2, ".jpg")
    pictures = members.keys() - {"pictures.json"}
    found = {suffix.rsplit(".", depth)[0] for suffix in pictures}
    if found != names or not all(suffix.endswith(kind) for suffix in pictures):
        yield f"its members are not those of {row['part']}"


def _check_whole(
    members: Mapping[str, bytes], row: Mapping[str, Any], told: _Told
) -> Iterator[str]:
    """Compares what a whole sample, of a lake before format 3, holds with the tables."""
    wrong = ".jpg" if row["payload"] == "clip" else ".mp4"
    if any(suffix.endswith(wrong) for suffix in members):
        yield f"its members are not those of the payload {row['payload']!r}"
    metadata = json.loads(members.get("json", b"{}"))
    if "event" not in metadata:
        return
    if sorted(metadata["cameras"]) != sorted(row["cameras"]):
        yield "its json has other cameras than the table"
    labelling = metadata["labelling"]
    if (labelling["digest"], labelling["privacy"]) != (row["spec_digest"], row["privacy"]):
        yield "its json has another label specification than the table"
    yield from _check_labels(metadata, row, row["spec_digest"], told)


def _check_labels(
    metadata: Mapping[str, Any], row: Mapping[str, Any], label_digest: str, told: _Told
) -> Iterator[str]:
    """Compares the event, the labels and the log that a json holds with the tables."""
    event = row_hash("events", metadata["event"])
    facts = told.facts
    if "events" not in facts.damaged and event != facts.contents[row["event_id"]]:
        yield "its json has another event than the table events"
    labels = 0
    for table in LABELS:
        columns = metadata[table]
        for values in zip(*columns.values(), strict=True):
            labels += row_hash(table, dict(zip(columns, values, strict=True)))
    wanted = facts.contents[owner(row["event_id"], label_digest)]
    if not facts.damaged & {*LABELS} and labels != wanted:
        yield f"its json has other labels than the tables {', '.join(LABELS)}"
    log = told.logs.get(row["log_id"])
    if log and rounded({name: log[name] for name in metadata["log"]}) != metadata["log"]:
        yield "its json has another log than the table logs"


def _values(rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Yields rows as tuples, some at a time."""
    for batch in rows.to_batches(_BATCH_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

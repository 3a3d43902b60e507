"""What comes to labellers: which events, in which order, and the tasks that check them.

Events come first whose answers would tell most, by one of these:

    random         no event before another: scores of triggers are unbiased only so
    uncertainty    the mean entropy of whether tracks are right, calibrated by the answers so far
    disagreement   the share of boxes that only one of two models sees
    rarity         the information in bits of an event's trigger and of its rarest class

What was chosen once stays: the keys of the tasks are kept in the folder of the tasks, and new ones
come after them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from auto_label.review.accuracy import compare
from auto_label.review.calibration import calibrated, curves
from auto_label.review.matching import MATCH_IOU
from auto_label.review.relabel import view_entropy
from auto_label.review.resolve import drawn, standing
from auto_label.review.resolve import known as known_answers
from auto_label.review.tasks import task_key
from pipeline.config import ReviewPushConfig
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import read_rows
from pipeline.stages.selection import latest_samples, rows_of_labels
from schemas.errors import UsageError
from schemas.ids import digest
from transforms.storage import get, names

ORDER = "order.txt"
"""The name of the file with the keys of the tasks of a folder, one a line."""

_TASK = re.compile(r"[0-9a-f]+\.json")
"""The names of tasks in a folder."""

_WITHOUT = {
    "uncertainty": "no event has tracks",
    "disagreement": "no two models looked for the same classes on the same frames",
    "rarity": "there are no events",
}

_OWN = """, own AS (
    SELECT boxes.event_id, camera, t_ns, "class" AS name, source || ' ' || source_version AS model,
           x_px AS x, y_px AS y, x_px + w_px AS r, y_px + h_px AS b
    FROM boxes JOIN selection AS s
        ON boxes.event_id = s.event_id AND boxes.spec_digest = s.label_digest
)
"""

_DISAGREEMENT = """, looked AS (
    SELECT DISTINCT event_id, camera, source || ' ' || source_version AS model, unnest(t_ns) AS t_ns
    FROM views SEMI JOIN selection USING (event_id)
), asked AS (
    -- A box, and another model that knows its class and looked at its frame.
    SELECT own.*, other.model AS other
    FROM own JOIN (SELECT DISTINCT model, name FROM own) AS other
        ON own.name = other.name AND own.model <> other.model
    JOIN looked ON looked.event_id = own.event_id AND looked.camera = own.camera
        AND looked.t_ns = own.t_ns AND looked.model = other.model
), paired AS (
    SELECT one.*, greatest(least(one.r, two.r) - greatest(one.x, two.x), 0)
               * greatest(least(one.b, two.b) - greatest(one.y, two.y), 0) AS common,
           (two.r - two.x) * (two.b - two.y) AS area
    FROM asked AS one LEFT JOIN own AS two
        ON one.event_id = two.event_id AND one.camera = two.camera AND one.t_ns = two.t_ns
        AND one.name = two.name AND one.other = two.model
), seen AS (
    SELECT event_id,
           max(coalesce(common / ((r - x) * (b - y) + area - common), 0)) >= {iou} AS by_both
    FROM paired GROUP BY event_id, camera, t_ns, name, model, other, x, y, r, b
)
SELECT event_id, avg((NOT by_both)::DOUBLE) AS value FROM seen GROUP BY ALL
"""

_RARITY = """, kinds AS (
    SELECT DISTINCT event_id, name FROM own
), classes AS (
    SELECT name, log2(count(*)) AS bits FROM kinds GROUP BY ALL
), triggers AS (
    SELECT "trigger", log2(count(*)) AS bits FROM selection GROUP BY ALL
), total AS (
    SELECT log2(count(*)) AS bits FROM selection
), rarest AS (
    SELECT event_id, min(bits) AS bits FROM kinds JOIN classes USING (name) GROUP BY ALL
)
SELECT event_id, total.bits - triggers.bits + coalesce(total.bits - rarest.bits, 0) AS value
FROM selection JOIN triggers USING ("trigger") LEFT JOIN rarest USING (event_id), total
"""


def read_order(folder: str) -> list[str]:
    """Returns the keys of the tasks that were chosen, in the order in which labellers get them."""
    try:
        return get(f"{folder}/{ORDER}").decode("ascii", "replace").split()
    except FileNotFoundError:
        return []


def made_tasks(folder: str) -> set[str]:
    """Returns the keys of the tasks in a folder."""
    return {name.removesuffix(".json") for name in names(folder) if _TASK.fullmatch(name)}


def ordered_tasks(folder: str) -> list[str]:
    """Returns the keys of the tasks in a folder, those first that come first.

    A folder of an older version has no order.
    """
    made = made_tasks(folder)
    listed = [key for key in dict.fromkeys(read_order(folder)) if key in made]
    return [*listed, *sorted(made.difference(listed))]


def choose(
    lake: Lake, rows: Sequence[Mapping[str, Any]], known: set[str], config: ReviewPushConfig
) -> tuple[list[str], list[str]]:
    """Chooses tasks that are new.

    Args:
        lake: the lake.
        rows: of `selection` (pipeline.stages.selection): what there is to choose from.
        known: the keys of what was chosen before, which counts for the quotas.
        config: by what.

    Returns:
        The keys of the new tasks, in their order, and notes for the user.

    Raises:
        UsageError: a quota is of a trigger that has no event.
    """
    notes = []
    values = _values(lake, rows, config)
    if config.order != "random" and rows and not values:
        notes.append(f"--order {config.order}: {_WITHOUT[config.order]}; their order is random")
    ranked = sorted(
        rows,
        key=lambda row: (-values.get(row["event_id"], -1.0), digest("order", row["event_id"])),
    )
    new = [
        key
        for row in _within_quotas(ranked, known, config.quota, config.most)
        for key in _keys(row, config)
        if key not in known
    ]
    wanted = round(config.control / (1 - config.control) * len(new))
    if not wanted:
        return new, notes
    pool = _control(lake, rows, known, config)
    if len(pool) < wanted:
        notes.append(
            f"--control {config.control:g}: {len(pool)} of {wanted} control tasks: a camera of an "
            "event can be one, once, if two reviewers agree on it, or the one of --lead answered it"
        )
    return _mixed(new, pool[:wanted]), notes


def shown_in(row: Mapping[str, Any]) -> list[str | None]:
    """Returns what tasks of an event can show: each camera, and None for all of them."""
    cameras = sorted(row["cameras"])
    return [*cameras, None] if len(cameras) > 1 else cameras


def _keys(row: Mapping[str, Any], config: ReviewPushConfig) -> list[str]:
    shown = shown_in(row)
    shown = shown[-1:] if config.layout == "grid" else [one for one in shown if one is not None]
    return [task_key(row["event_id"], camera) for camera in shown]


def _within_quotas(
    rows: Sequence[Mapping[str, Any]], known: set[str], quotas: Sequence[str], most: int | None
) -> list[Mapping[str, Any]]:
    """Keeps events up to the quota of their trigger, those that were chosen before in any case."""
    limits = dict(_quota(text) for text in quotas)
    triggers = {row["trigger"] for row in rows}
    for trigger in limits.keys() - triggers - {None}:
        raise UsageError(
            f"--quota {trigger}: no labelled event is of this trigger; there are "
            f"{', '.join(sorted(triggers)) or 'none'}"
        )
    before = [
        any(task_key(row["event_id"], camera) in known for camera in shown_in(row)) for row in rows
    ]
    taken = Counter(row["trigger"] for row, was in zip(rows, before, strict=True) if was)
    kept = []
    for row, was in zip(rows, before, strict=True):
        limit = limits.get(row["trigger"], limits.get(None))
        full = limit is not None and taken[row["trigger"]] >= limit
        if not was and (full or (most is not None and taken.total() >= most)):
            continue
        taken[row["trigger"]] += not was
        kept.append(row)
    return kept


def _quota(text: str) -> tuple[str | None, int]:
    trigger, _, number = text.rpartition("=")
    return trigger or None, int(number)


def _control(
    lake: Lake, rows: Sequence[Mapping[str, Any]], known: set[str], config: ReviewPushConfig
) -> list[str]:
    """Returns the keys of control tasks that can be made of what was answered, in random order."""
    answers = known_answers(_standing(lake, config), config.lead)
    views = set(zip(answers["event_id"].to_pylist(), answers["camera"].to_pylist(), strict=True))
    grid = config.layout == "grid"
    keys = {
        task_key(row["event_id"], shown_in(row)[-1] if grid else camera, control=True)
        for row in rows
        for camera in row["cameras"]
        if (row["event_id"], camera) in views
    }
    return sorted(keys - known, key=lambda key: digest("order", key))


def _mixed(keys: Sequence[str], control: Sequence[str]) -> list[str]:
    """Spreads control tasks evenly among others.

    >>> _mixed(["a", "b", "c", "d"], ["1", "2"])
    ['a', '1', 'b', 'c', '2', 'd']
    """
    every = len(keys) / max(len(control), 1)
    places = [(place + 1.0, key) for place, key in enumerate(keys)]
    places += [(every * (place + 0.5) + 0.5, key) for place, key in enumerate(control)]
    return [key for _, key in sorted(places, key=lambda one: one[0])]


def _standing(lake: Lake, config: ReviewPushConfig) -> pa.Table:
    return standing(drawn(lake.read("verdicts")), config.lead)


def _values(
    lake: Lake, rows: Sequence[Mapping[str, Any]], config: ReviewPushConfig
) -> dict[str, float]:
    """Returns what events are ordered by, of those that have it."""
    if config.order == "random":
        return {}
    if config.order == "uncertainty":
        return _uncertainty(lake, rows, config)
    query = _DISAGREEMENT if config.order == "disagreement" else _RARITY
    found = read_rows(lake, latest_samples(config.privacy) + _OWN + query.format(iou=MATCH_IOU))
    return dict(zip(found["event_id"].to_pylist(), found["value"].to_pylist(), strict=True))


def _uncertainty(
    lake: Lake, rows: Sequence[Mapping[str, Any]], config: ReviewPushConfig
) -> dict[str, float]:
    """Returns the entropy of each event's most uncertain camera."""
    answers = _standing(lake, config)
    labels = {row["event_id"]: row["label_digest"] for row in rows}
    tracks = rows_of_labels(lake, "tracks", labels)
    boxes = rows_of_labels(lake, "boxes", labels, answers["event_id"])
    compared = compare(answers, lake.read("views"), boxes)
    values: dict[str, float] = {}
    fitted = curves(calibrated(compared, tracks, answers))
    for (event_id, _), entropy in view_entropy(tracks, fitted).items():
        values[event_id] = max(entropy, values.get(event_id, 0.0))
    return values

"""The overlay: what reviewers left of an event's labels, in place of what models said.

An answer replaces the boxes and tracks of its camera; other cameras and the ego path stay. The
labels that are made so have a digest of their own, so the originals stay beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from auto_label.event_rows import LABELS
from auto_label.specs import LABELS_VERSION
from schemas.ids import digest
from schemas.tables import TABLES

VERSION = 1
"""Increases when the same answers give other labels."""

SOURCE = "review"
"""The source of boxes that a reviewer left; the version is the annotation."""

_OWN = ("event_id", "spec_digest")
"""The columns that a label part states once."""


def reviewed_digest(label_digest: str, answers: Sequence[Mapping[str, Any]]) -> str:
    """Returns the digest of reviewed labels, given that of the labels below and the answers."""
    states = sorted([one["camera"], one["annotation"], one["updated_unix_ns"]] for one in answers)
    return digest("reviewed", VERSION, label_digest, states)


def part_digest(source_digest: str) -> str:
    """Returns the digest of the label part that is made of reviewed labels."""
    return digest("labels", LABELS_VERSION, source_digest)


def reviewed_document(
    document: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Lays answers over the document of a label part.

    Args:
        document: the JSON of the label part.
        answers: rows of auto_label.review.resolve.standing about the event, one a camera.

    Returns:
        The document of the reviewed label part. `review` says of each camera which verdict
        stands, and how many gave it; who they are stays in the lake.
    """
    label_digest = document["labelling"]["digest"]
    cameras = {answer["camera"] for answer in answers}
    boxes = [row for answer in answers for row in _boxes(answer)]
    return {
        **document,
        "boxes": _columns("boxes", [*_rows(document["boxes"], cameras), *boxes]),
        "tracks": _columns("tracks", [*_rows(document["tracks"], cameras), *_tracks(boxes)]),
        "labelling": document["labelling"]
        | {"digest": reviewed_digest(label_digest, answers), "reviewed_from": label_digest},
        "review": [
            {name: answer[name] for name in ("camera", "verdict", "agreed", "voters", "scene")}
            for answer in sorted(answers, key=lambda answer: str(answer["camera"]))
        ],
    }


def label_rows(event_id: str, document: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Returns the rows of the label tables that a document of a label part holds."""
    owner = {"event_id": event_id, "spec_digest": document["labelling"]["digest"]}
    tables = {}
    for table in LABELS:
        rows = [owner | row for row in _rows(document[table], set())]
        made = pa.Table.from_pylist(rows, schema=TABLES[table].schema)
        tables[table] = TABLES[table].conform(made)
    return tables


def _rows(columns: Mapping[str, Sequence[Any]], without: set[str]) -> Iterator[dict[str, Any]]:
    """Yields rows, given by column, but those of some cameras."""
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        if row.get("camera") not in without:
            yield row


def _boxes(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    source = {"source": SOURCE, "source_version": answer["annotation"]}
    for box in answer["boxes"]:
        yield {"camera": answer["camera"], **box, "score": 1.0, **source}


def _tracks(boxes: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the tracks of boxes."""
    by_track: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for box in boxes:
        by_track.setdefault((box["camera"], box["track_id"]), []).append(box)
    for own in by_track.values():
        times = [box["t_ns"] for box in own]
        first = {name: own[0][name] for name in ("camera", "track_id", "class", "score")}
        source = {name: own[0][name] for name in ("source", "source_version")}
        yield {**first, **source, "start_ns": min(times), "end_ns": max(times), "boxes": len(own)}


def _columns(table: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns rows by column, in the order of the table."""
    names = [name for name in TABLES[table].schema.names if name not in _OWN]
    order = [name for name in TABLES[table].order if name not in _OWN]
    ordered = sorted(rows, key=lambda row: [row[name] for name in order])
    return {name: [row[name] for row in ordered] for name in names}

"""The rows that labelling one event needs: of its log, and what is there of the event already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from schemas.records import VideoFile
from schemas.tables import TABLES
from transforms.storage import get

LABELS = ("boxes", "tracks", "ego_path")
"""The tables whose rows a label part holds."""

KNOWN = ("views", "detections", *LABELS, "parts")
"""The tables of which labelling an event may use the rows that are there."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Where an event's clip part is: the URL of its pack, and its range in bytes."""

    url: str
    offset: int
    length: int

    def read(self) -> bytes:
        """Reads the part."""
        return get(self.url, self.offset, self.offset + self.length)


@dataclass(frozen=True, slots=True)
class EventRows:
    """The rows of one log that labelling an event needs.

    `row` is that of `logs`; `frames` are those of all cameras; `signals` and `joints` those of
    the event at least. `known` are the rows of KNOWN tables that the event has, by table; `clip`
    is where its clips are, if there are any.
    """

    row: Mapping[str, Any]
    videos: Mapping[str, Sequence[VideoFile]]
    frames: pa.Table
    signals: pa.Table
    joints: pa.Table
    known: Mapping[str, pa.Table] = field(default_factory=dict)
    clip: Clip | None = None

    def of(self, table: str) -> pa.Table:
        """Returns the event's rows of a table that are there."""
        return self.known.get(table, TABLES[table].empty())

"""Records: what flows between steps. Small, frozen, and checked when they are made.

Blobs never enter a shuffle, so no record here holds a pixel: they refer to video by URI
and span. A new fact is a new record keyed by `event_id`, never a new field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from schemas.errors import DataError
from schemas.ids import digest
from schemas.times import Span

Platform = Literal["vehicle", "robot"]
Outcome = Literal["kept", "filtered", "rejected"]


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One file of a log: its name inside the log, where it lies, and its bytes."""

    name: str
    uri: str
    size: int


@dataclass(frozen=True, slots=True)
class LogRef:
    """One log as discovery found it: nothing is read yet but heads and tails.

    `name` is the log's path inside its input, `uri` the place a person would look it up
    (a folder or a file), `fingerprint` a digest of its members' names, sizes and edges.
    """

    format: str
    name: str
    uri: str
    members: tuple[Member, ...]
    fingerprint: str

    def __post_init__(self) -> None:
        """Refuses a log without members or with the same member twice."""
        names = [member.name for member in self.members]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"log {self.uri!r} needs members of distinct names, has {names}")

    @property
    def log_id(self) -> str:
        """The log's identity: its format and content, wherever it lies."""
        return digest("log", self.format, self.fingerprint)

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self.members)


@dataclass(frozen=True, slots=True, order=True)
class Reject:
    """One unusable input: a row of `rejects`, less the run.

    `subject` is the id that the stage skips by (a log_id, an event_id), or "" where the
    input never got one.
    """

    uri: str
    stage: str
    reason: str
    detail: str
    subject: str = ""

    @classmethod
    def of(cls, error: DataError, *, uri: str, stage: str, subject: str = "") -> Reject:
        """Turns a DataError into its row."""
        return cls(uri, stage, error.reason, str(error), subject)


@dataclass(frozen=True, slots=True, order=True)
class Count:
    """How many inputs of one stage ended how: one line of the balance.

    `of` says what is counted: logs, events, CAN frames.
    """

    stage: str
    of: str
    kept: int = 0
    filtered: int = 0
    rejected: int = 0

    @property
    def total(self) -> int:
        """Everything that came in."""
        return self.kept + self.filtered + self.rejected


def add_counts(counts: Iterable[Count]) -> list[Count]:
    """Adds counts up by stage and what is counted, in the order in which they first appear.

    >>> add_counts([Count("mine", "logs", kept=1), Count("mine", "logs", filtered=2)])
    [Count(stage='mine', of='logs', kept=1, filtered=2, rejected=0)]
    """
    sums: dict[tuple[str, str], Count] = {}
    for c in counts:
        old = sums.get((c.stage, c.of), Count(c.stage, c.of))
        sums[c.stage, c.of] = Count(
            c.stage,
            c.of,
            old.kept + c.kept,
            old.filtered + c.filtered,
            old.rejected + c.rejected,
        )
    return list(sums.values())


@dataclass(frozen=True, slots=True)
class Event:
    """One mined moment: a row of `events`."""

    event_id: str
    log_id: str
    drive_id: str
    trigger: str
    trigger_version: int
    params_digest: str
    start_ns: int
    anchor_ns: int
    end_ns: int
    score: float
    evidence: str

    def __post_init__(self) -> None:
        """Refuses an anchor outside the event."""
        if not self.start_ns <= self.anchor_ns <= self.end_ns:
            raise ValueError(
                f"event {self.event_id}: anchor {self.anchor_ns} ns is outside "
                f"[{self.start_ns}, {self.end_ns})"
            )

    @property
    def span(self) -> Span:
        """The event's window."""
        return Span(self.start_ns, self.end_ns)


@dataclass(frozen=True, slots=True, order=True)
class VideoFile:
    """One camera's file as later steps address it: a row of `videos`, less the stream."""

    camera: str
    uri: str
    start_ns: int
    duration_ns: int
    time_base_num: int
    time_base_den: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, order=True)
class AddFile:
    """One Parquet file that a worker wrote under a table and nobody has committed yet.

    `path` is relative to the table; `stats` is Delta's JSON of per-column statistics.
    """

    table: str
    path: str
    size: int
    rows: int
    stats: str

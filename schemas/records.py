"""Records that flow between pipeline steps: small, frozen, validated on construction.

Blobs never enter a shuffle, so no record holds pixels: records refer to video by URI and
span. A new fact becomes a new record keyed by `event_id`, never a new field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from schemas.errors import DataError, InternalError, PrivacyError, is_final, storable
from schemas.ids import digest
from schemas.redaction import bare
from schemas.times import Span

Platform = Literal["vehicle", "robot"]
Outcome = Literal["kept", "filtered", "rejected"]


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One file of a log: its name inside the log, its URI, and its size in bytes."""

    name: str
    uri: str
    size: int


@dataclass(frozen=True, slots=True)
class LogRef:
    """One log as discovered; only the first and last bytes of its members have been read.

    `name` is the log's path inside its input, `uri` the folder or file to show to people,
    `fingerprint` a digest of the members' names, sizes, and first and last bytes. `listing` is a
    digest of what the store's listing says of them, by which an unchanged log is known without
    reading it, or "".
    """

    format: str
    name: str
    uri: str
    members: tuple[Member, ...]
    fingerprint: str
    listing: str = ""

    def __post_init__(self) -> None:
        """Rejects a log without members or with duplicate member names."""
        names = [member.name for member in self.members]
        if not names or len(set(names)) != len(names):
            raise ValueError(
                f"log {self.uri!r} has members {names}; it needs at least one, of distinct names"
            )

    @property
    def log_id(self) -> str:
        """The log's identity, by format and content: independent of its location."""
        return digest("log", self.format, self.fingerprint)

    @property
    def size(self) -> int:
        """Total size of the members in bytes."""
        return sum(member.size for member in self.members)


@dataclass(frozen=True, slots=True, order=True)
class Reject:
    """One unusable input: a row of `rejects` without its run_id.

    `subject` is the id by which the stage skips processed inputs (a log_id, an event_id),
    or "" if the input has none.
    """

    uri: str
    stage: str
    reason: str
    detail: str
    subject: str = ""

    @property
    def final(self) -> bool:
        """Whether the reject stands; otherwise the next run tries the input again."""
        return is_final(self.reason)

    @property
    def internal(self) -> bool:
        """Whether a bug is at fault, and not the input."""
        return self.reason == InternalError.reason

    @property
    def private(self) -> bool:
        """Whether pictures were not written because it could not be found what to hide."""
        return self.reason == PrivacyError.reason

    @classmethod
    def of(cls, error: DataError, *, uri: str, stage: str, subject: str = "") -> Reject:
        """Converts a DataError to a reject, whose texts can be stored whatever the input said."""
        return cls(storable(bare(uri)), stage, error.reason, storable(str(error)), subject)


def split_rejects(rejects: Iterable[Reject]) -> tuple[list[Reject], list[Reject]]:
    """Separates the rejects that stand from those of inputs that the next run tries again.

    A subject is tried again as a whole, so none of its rejects stands.

    >>> torn = Reject("a.mp4", "ingest", "corrupt", "a.mp4: torn", "log")
    >>> away = Reject("b.mp4", "ingest", "unreadable", "b.mp4: not there", "log")
    >>> [len(part) for part in split_rejects([torn, away])]
    [0, 2]
    """
    found = list(rejects)
    again = {reject.subject for reject in found if reject.subject and not reject.final}
    stand = [reject for reject in found if reject.final and reject.subject not in again]
    return stand, [reject for reject in found if reject not in stand]


@dataclass(frozen=True, slots=True, order=True)
class Count:
    """Inputs of one stage by outcome: one line of the balance.

    `of` names what is counted: logs, events, CAN frames.
    """

    stage: str
    of: str
    kept: int = 0
    filtered: int = 0
    rejected: int = 0

    @property
    def total(self) -> int:
        """Number of inputs."""
        return self.kept + self.filtered + self.rejected


def add_counts(counts: Iterable[Count]) -> list[Count]:
    """Sums counts by (stage, of), in order of first appearance.

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
        """Rejects an anchor outside the event."""
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
    """One camera's file as later steps address it: the columns of `videos` that they need."""

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
    """One Parquet file that a worker wrote under a table and that is not committed yet.

    `path` is relative to the table; `stats` is Delta's JSON of column statistics.
    """

    table: str
    path: str
    size: int
    rows: int
    stats: str

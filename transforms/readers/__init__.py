"""Log formats: each is one module and one row of `FORMATS`.

A format first claims logs in a file listing, by layout and first bytes. Later it opens one log,
and reads it segment by segment into native samples and packet indexes; it never decodes a picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from fsspec.spec import AbstractFileSystem

from schemas.errors import UnreadableError
from schemas.recording import LogHeader, Segment
from schemas.records import LogRef
from schemas.registry import Registry
from schemas.times import Span
from transforms.budget import UNLIMITED

if TYPE_CHECKING:  # at run time this would import cantools for every format
    from transforms.can.maps import CarMap
    from transforms.messages.maps import TopicMap

FORMATS = Registry(
    "format",
    {
        "teslacam": "transforms.readers.teslacam:TeslaCam",
        "comma2k19": "transforms.readers.comma2k19:Comma2k19",
        "lerobot": "transforms.readers.lerobot:LeRobot",
        "mcap": "transforms.readers.mcap:Mcap",
        "rosbag": "transforms.readers.rosbag:RosBag",
        "video": "transforms.readers.video:BareVideo",
    },
)
"""The formats in the order in which they claim files: the most specific first."""

HEAD_BYTES = 4096
"""How many bytes of a file `claim` may look at."""

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts",
    ".hevc", ".h265", ".265", ".h264", ".264",
)  # fmt: skip


def is_encrypted(path: str) -> bool:
    """Tells whether a path is inside a Tesla's `EncryptedClips`, whose files are opaque.

    >>> is_encrypted("TeslaCam/EncryptedClips/a.mp4"), is_encrypted("EncryptedClips.mp4")
    (True, False)
    """
    return "EncryptedClips" in path.split("/")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read.

    Args:
        dbc: URIs of CAN databases.
        can_maps: CAN maps of the user's, besides ours.
        topic_maps: topic maps of the user's, besides ours.
        native: keep native samples.
        memory_bytes: what reading a log may take; 0 for any amount.
    """

    dbc: tuple[str, ...] = ()
    can_maps: tuple[CarMap, ...] = ()
    topic_maps: tuple[TopicMap, ...] = ()
    native: bool = False
    memory_bytes: int = UNLIMITED


@dataclass(frozen=True, slots=True)
class Claim:
    """One log that a format recognises in a tree.

    Args:
        name: path of the log inside the input, for people.
        uri: the file or folder of the log, for people.
        paths: tree paths of its members.
        base: prefix of `paths`, with its final "/", that is not part of member names.
        beside: tree paths of what belongs to it and is not read, as what shows the same footage
            again: it is left out.
        shared: those of `paths` that belong to other logs too and change as these come. They are
            no part of the log's identity.
        basis: what of the shared files the log depends on, as a digest; a part of its identity.
    """

    name: str
    uri: str
    paths: tuple[str, ...]
    base: str = ""
    beside: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    basis: str = ""


class Tree:
    """The file listing of one input, which formats claim logs from.

    Paths are relative to the root, separated by "/", and sorted.

    Args:
        fs: the file system.
        root: the folder that paths are relative to, as `fs` names it.
        sizes: path to size in bytes.
        marks: path to what the store's listing says that changes when the file does: its
            time, its ETag. Paths without one are absent.

    >>> from fsspec.implementations.memory import MemoryFileSystem
    >>> tree = Tree(MemoryFileSystem(), "/drive", {"b.mp4": 9, "a/c.mp4": 7})
    >>> tree.paths, tree.size("b.mp4"), tree.uri("b.mp4")
    (('a/c.mp4', 'b.mp4'), 9, 'memory:///drive/b.mp4')
    """

    def __init__(
        self,
        fs: AbstractFileSystem,
        root: str,
        sizes: Mapping[str, int],
        marks: Mapping[str, str] | None = None,
    ) -> None:
        self.fs = fs
        self.root = root
        self.paths = tuple(sorted(sizes))
        self._sizes = dict(sizes)
        self._marks = marks or {}
        self._heads: dict[str, bytes] = {}

    def without(self, claimed: Iterable[str]) -> Tree:
        """Returns the tree without some paths; heads that were read stay cached."""
        removed = set(claimed)
        sizes = {path: size for path, size in self._sizes.items() if path not in removed}
        rest = Tree(self.fs, self.root, sizes, self._marks)
        rest._heads = self._heads
        return rest

    def size(self, path: str) -> int:
        """Returns the size of a file in bytes."""
        return self._sizes[path]

    def mark(self, path: str) -> str | None:
        """Returns what changes in the listing when a file does, None if nothing is known to."""
        return self._marks.get(path)

    def where(self, path: str) -> str:
        """Returns a path as the file system names it; "" is the root itself."""
        return f"{self.root.rstrip('/')}/{path}".rstrip("/") or "/"

    def uri(self, path: str) -> str:
        """Returns the URI of a file or folder; for local ones a plain path."""
        where = self.where(path)
        protocols = self.fs.protocol
        local = "file" in ((protocols,) if isinstance(protocols, str) else protocols)
        return where if local else str(self.fs.unstrip_protocol(where))

    def head(self, path: str, size: int = HEAD_BYTES) -> bytes:
        """Reads the first bytes of a file, at most HEAD_BYTES; cached.

        Raises:
            UnreadableError: the file cannot be read.
        """
        if path not in self._heads:
            try:
                self._heads[path] = self.fs.cat_file(self.where(path), start=0, end=HEAD_BYTES)
            except OSError as error:
                raise UnreadableError(
                    f"{self.uri(path)}: cannot be read ({error.strerror or error}); "
                    "check its permissions"
                ) from error
        return self._heads[path][:size]


class OpenLog(Protocol):
    """A log that is open: its header is known, and its segments can be read, in any order."""

    @property
    def header(self) -> LogHeader:
        """What is said of the log as a whole."""
        ...

    @property
    def segments(self) -> tuple[Span, ...]:
        """The spans that the log is read by; together they are the log."""
        ...

    def read(self, span: Span) -> Segment:
        """Reads one segment; unusable parts of it become rejects of the segment.

        Raises:
            DataError: nothing of the segment is usable.
        """
        ...


@dataclass(frozen=True, slots=True)
class WholeLog:
    """An open log of one segment, which was read when it was opened."""

    header: LogHeader
    segment: Segment

    @classmethod
    def of(cls, header: LogHeader, **contents: Any) -> WholeLog:
        """Makes it of the header and the fields of the segment, but for its span."""
        span = Span(0, max(header.duration_ns, 0))  # checked later
        return cls(header, Segment(span, **contents))

    @property
    def segments(self) -> tuple[Span, ...]:
        """The only span."""
        return (self.segment.span,)

    def read(self, span: Span) -> Segment:
        """Returns the only segment."""
        assert span == self.segment.span
        return self.segment


class Format(Protocol):
    """One log format: a stateless class, constructed without arguments."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Incremented when the same bytes are read differently."""

    def claim(self, tree: Tree) -> list[Claim]:
        """Recognises logs by layout and first bytes; other files stay unclaimed."""
        ...

    def open(self, log: LogRef, options: ReadOptions) -> OpenLog:
        """Opens a log: reads what its header and its segments are known by, or more.

        Raises:
            DataError: nothing of the log is usable.
        """
        ...

"""Log formats: one file and one row each.

A reader first claims logs from a listing (layout and heads only), later reads one log
into native samples and packet indexes. It never decodes a picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from fsspec.spec import AbstractFileSystem

from schemas.errors import UnreadableError
from schemas.recording import Recording
from schemas.records import LogRef
from schemas.registry import Registry

FORMATS = Registry(
    "format",
    {
        "teslacam": "transforms.readers.teslacam:TeslaCam",
        "comma2k19": "transforms.readers.comma2k19:Comma2k19",
        "lerobot": "transforms.readers.lerobot:LeRobot",
        "video": "transforms.readers.video:BareVideo",
    },
)
"""The formats, in the order in which they may claim: the most specific first."""

HEAD_BYTES = 4096
"""How much of a file a claim may look at."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read: `dbc` are URIs of CAN databases, `native` keeps native samples."""

    dbc: tuple[str, ...] = ()
    native: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """One log that a format recognises in a tree.

    Args:
        name: path of the log inside the input; names it for people.
        uri: where a person would look it up.
        paths: tree paths of its members.
        base: leading part of `paths` that member names drop, with its "/" at the end.
    """

    name: str
    uri: str
    paths: tuple[str, ...]
    base: str = ""


class Tree:
    """A listing of one input: what discovery shows to the formats.

    Paths are relative to the root, "/" between their parts, in sorted order.

    Args:
        fs: where the files lie.
        root: the folder that paths are relative to, as `fs` names it.
        sizes: path to bytes.

    >>> from fsspec.implementations.memory import MemoryFileSystem
    >>> tree = Tree(MemoryFileSystem(), "/drive", {"b.mp4": 9, "a/c.mp4": 7})
    >>> tree.paths, tree.size("b.mp4"), tree.uri("b.mp4")
    (('a/c.mp4', 'b.mp4'), 9, 'memory:///drive/b.mp4')
    """

    def __init__(self, fs: AbstractFileSystem, root: str, sizes: Mapping[str, int]) -> None:
        self.fs = fs
        self.root = root
        self.paths = tuple(sorted(sizes))
        self._sizes = dict(sizes)
        self._heads: dict[str, bytes] = {}

    def without(self, claimed: Iterable[str]) -> Tree:
        """Returns the tree less some paths; heads that were read stay read."""
        gone = set(claimed)
        rest = Tree(self.fs, self.root, {p: n for p, n in self._sizes.items() if p not in gone})
        rest._heads = self._heads
        return rest

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return self._sizes[path]

    def where(self, path: str) -> str:
        """The file as the tree's filesystem names it; "" is the root itself."""
        return f"{self.root.rstrip('/')}/{path}".rstrip("/") or "/"

    def uri(self, path: str) -> str:
        """The address of a file or folder: a plain path where it is local."""
        where = self.where(path)
        protocols = self.fs.protocol
        local = "file" in ((protocols,) if isinstance(protocols, str) else protocols)
        return where if local else str(self.fs.unstrip_protocol(where))

    def head(self, path: str, size: int = HEAD_BYTES) -> bytes:
        """Reads the first bytes of a file, at most HEAD_BYTES of them, once.

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


class Reader(Protocol):
    """One log format. A class without state, made without arguments."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Rises when the same bytes read differently."""

    def claim(self, tree: Tree) -> list[Claim]:
        """Recognises logs by layout and heads; odd files are left unclaimed."""
        ...

    def read(self, log: LogRef, options: ReadOptions) -> Recording:
        """Reads one log; parts that are unusable go to the recording's rejects.

        Raises:
            DataError: nothing of the log is usable.
        """
        ...

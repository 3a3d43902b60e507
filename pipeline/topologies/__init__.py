"""Training machines: one .toml file each, and how they are loaded.

A topology says into how many equal parts a corpus is dealt: what a *unit* of the
machine is (a tile, a GPU), how many there are, and what each can hold and swallow.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib import resources

from schemas.errors import UsageError
from transforms.storage import filesystem, names, normal

MAX_UNITS = 1_000_000
_MAX_FILE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Topology:
    """A training machine.

    `memory_bytes_per_unit` is the fast memory next to a unit, `ingest_bytes_per_s_per_unit`
    what its host link delivers, `shard_target_bytes` the size that shards are cut near.
    """

    name: str
    description: str
    unit: str
    units: int
    units_per_host: int
    memory_bytes_per_unit: int
    ingest_bytes_per_s_per_unit: int
    shard_target_bytes: int

    def __post_init__(self) -> None:
        """Refuses values of a wrong type or range."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "str" and not (isinstance(value, str) and value):
                raise UsageError(f"{field.name} = {value!r} must be a text")
            if field.type == "int" and not (type(value) is int and value > 0):
                raise UsageError(f"{field.name} = {value!r} must be a whole number above 0")
        if self.units > MAX_UNITS or self.units % self.units_per_host:
            raise UsageError(
                f"units = {self.units} must be at most {MAX_UNITS} and a multiple of "
                f"units_per_host = {self.units_per_host}"
            )

    def document(self) -> dict[str, str | int]:
        """Returns the fields, as plan.json carries them."""
        return asdict(self)


def list_topologies(folders: Sequence[str] = ()) -> list[str]:
    """Names the topologies that ship with fleetmill and those of `folders`, sorted.

    A user's topology replaces one of the same name.
    """
    return sorted(_known(folders))


def load_topology(name_or_path: str, folders: Sequence[str] = ()) -> Topology:
    """Loads a topology by its name, or from a .toml file of one's own.

    Raises:
        UsageError: there is no such topology (lists the choices), or its file is wrong
            (names the key).
    """
    if name_or_path.endswith(".toml"):
        return _load(normal(name_or_path))
    known = _known(folders)
    if name_or_path not in known:
        raise UsageError(
            f"unknown topology {name_or_path!r}; choose one of: {', '.join(sorted(known))}, "
            "or give the path of a .toml file"
        )
    return known[name_or_path]


def _known(folders: Sequence[str]) -> dict[str, Topology]:
    shipped = (
        _parse(entry.name, entry.read_text("utf-8"))
        for entry in resources.files(__package__).iterdir()
        if entry.name.endswith(".toml")
    )
    own = (
        _load(f"{normal(folder)}/{name}")
        for folder in folders
        for name in names(normal(folder))
        if name.endswith(".toml")
    )
    return {topology.name: topology for topology in (*shipped, *own)}


def _load(url: str) -> Topology:
    fs, path = filesystem(url)
    try:
        with fs.open(path, "rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise UsageError(f"topology {url}: longer than {_MAX_FILE_BYTES} bytes")
        return _parse(url, content.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"topology {url} cannot be read: {error}") from error


def _parse(place: str, text: str) -> Topology:
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"topology {place}: not TOML: {error}") from error
    wanted = {field.name for field in fields(Topology)}
    if table.keys() != wanted:
        raise UsageError(
            f"topology {place}: missing keys {sorted(wanted - table.keys())}, "
            f"unknown keys {sorted(table.keys() - wanted)}"
        )
    try:
        return Topology(**table)
    except UsageError as error:
        raise UsageError(f"topology {place}: {error}") from error

"""Topologies: training machines, one .toml file each, here and in folders of the user's.

A topology says into how many equal parts a corpus is dealt: what a *unit* of the machine
is (a tile, a GPU), how many there are, and what each can hold and read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from transforms.definitions import Definition, Definitions, Text

MAX_UNITS = 1_000_000

Bytes = Annotated[int, Field(ge=1, lt=2**63)]


class Topology(Definition):
    """A training machine.

    `memory_bytes_per_unit` is the fast memory next to a unit, `ingest_bytes_per_s_per_unit`
    what its host link delivers, `shard_target_bytes` the size that shards are cut near.
    """

    unit: Text
    units: int = Field(ge=1, le=MAX_UNITS)
    units_per_host: int = Field(ge=1, le=MAX_UNITS)
    memory_bytes_per_unit: Bytes
    ingest_bytes_per_s_per_unit: Bytes
    shard_target_bytes: Bytes

    @field_validator("units_per_host")
    @classmethod
    def _check_hosts(cls, value: int, info: ValidationInfo) -> int:
        units = info.data.get("units", value)
        if units % value:
            raise ValueError(f"units = {units} must be a multiple of it")
        return value

    def document(self) -> dict[str, str | int]:
        """Returns the fields, as plan.json carries them."""
        return self.model_dump()


TOPOLOGIES = Definitions("topology", Topology, str(Path(__file__).parent))


def list_topologies(folders: Sequence[str] = ()) -> list[str]:
    """Names the topologies that ship with fleetmill and those of `folders`, sorted.

    Raises:
        UsageError: a folder does not exist.
    """
    return TOPOLOGIES.names(folders)


def load_topology(name_or_path: str, folders: Sequence[str] = ()) -> Topology:
    """Loads a topology by its name, or by the path of its .toml file.

    Raises:
        UsageError: there is no such topology (lists the choices), or its file is wrong
            (names the key).
    """
    return TOPOLOGIES.load(name_or_path, folders)

"""CAN maps: which CAN signals of a car family are which of our signals, one .toml each.

name = "toyota_2017"                   # the file is toyota_2017.toml
description = "which cars, and what it was checked against"

[[row]]                                # see Row; of rows of one signal the first counts
signal = "speed_mps"
message = "WHEEL_SPEEDS"
terms = ["WHEEL_SPEED_FL", "WHEEL_SPEED_FR"]
combine = "mean"
unit = "km/h"

[[row]]
signal = "gear"
message = "GEAR_PACKET"
terms = ["GEAR"]
names = { 0 = "drive", 16 = "reverse", 32 = "park" }
hold_s = 3.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, StrictInt, model_validator

from schemas.arrays import AnyArray, FloatArray, IntArray
from schemas.ids import digest
from schemas.recording import Channel
from schemas.signals import SIGNAL
from schemas.times import NS_PER_S, ns
from transforms.can.dbc import Database, Decoded
from transforms.definitions import STRICT, Definition, Definitions, Text, one_of

BEAT_NS = NS_PER_S // 2
UNITS: Mapping[str, float] = {"": 1.0, "km/h": 1 / 3.6, "deg": math.pi / 180, "%": 0.01}
"""Units of DBC files, and the factors to those of schemas.signals; angles also a second."""


class Row(BaseModel):
    """One way to one of our signals.

    A number is the sum or mean of `terms`, signals of one message, times `factor` and the
    SI value of `unit`. A truth value is whether the one term is among `true`; a gear is
    what `names` calls it, or null. A state that is sent less often than once a second, or
    only when it changes, holds for `hold_s` after a frame.
    """

    model_config = STRICT

    signal: Annotated[str, one_of(SIGNAL)]
    message: Text
    terms: tuple[Text, ...] = Field(min_length=1, strict=False)
    combine: Literal["sum", "mean"] = "sum"
    unit: Annotated[str, one_of(UNITS)] = ""
    factor: float = 1.0
    true: tuple[StrictInt, ...] = Field(default=(), strict=False)
    # The keys of a TOML table are text.
    names: Mapping[Annotated[float, Field(strict=False)], Text] = Field(default_factory=dict)
    hold_s: float = Field(default=0.0, ge=0, le=3600)

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        type_ = SIGNAL[self.signal].type
        needed = (
            "true" if pa.types.is_boolean(type_) else "names" if pa.types.is_string(type_) else ""
        )
        given = [key for key in ("true", "names") if getattr(self, key)]
        if given != [needed] * bool(needed):
            raise ValueError(f"{self.signal} needs {needed or 'neither true nor names'}")
        if needed and len(self.terms) > 1:
            raise ValueError(f"{self.signal} needs one term, not {len(self.terms)}")
        return self

    def values(self, terms: list[FloatArray]) -> AnyArray:
        """Makes the signal of its terms, float64[m] each."""
        if self.true:
            return np.isin(terms[0], self.true)
        if self.names:
            return np.array([self.names.get(value) for value in terms[0].tolist()], dtype=object)
        total = np.sum(terms, axis=0)
        if self.combine == "mean":
            total = total / len(terms)
        scaled: FloatArray = total * (self.factor * UNITS[self.unit])
        # Ours is speed over ground; cars that know reverse count it backwards.
        return np.abs(scaled) if self.signal == "speed_mps" else scaled


class CarMap(Definition):
    """The rows of one car family; of several rows of a signal the first with frames counts."""

    rows: tuple[Row, ...] = Field(alias="row", min_length=1, strict=False)

    @property
    def digest(self) -> str:
        """Names all that decides the signals; not the description."""
        return digest("can_map", [row.model_dump() for row in self.rows])

    def channels(self, decoded: Decoded, t_ns: IntArray) -> tuple[Channel, ...]:
        """Makes our signals of decoded frames.

        Args:
            decoded: what a database made of n frames.
            t_ns: int64[n], their times.

        Returns:
            Native samples, at most one channel a signal, in the map's order.
        """
        made: dict[str, Channel] = {}
        for row in self.rows:
            found = [decoded.values.get((row.message, term)) for term in row.terms]
            terms = [column for column in found if column is not None and len(column[0])]
            # A database may multiplex the terms apart; they then never meet in a frame.
            together = all(np.array_equal(rows, terms[0][0]) for rows, _ in terms)
            if row.signal not in made and len(terms) == len(found) and together:
                values = row.values([values for _, values in terms])
                at_ns = t_ns[terms[0][0]]
                if row.hold_s:
                    at_ns, values = _held(at_ns, values, ns(row.hold_s), int(t_ns.max()))
                made[row.signal] = Channel(row.signal, at_ns, values)
        return tuple(made.values())


def _held(t_ns: IntArray, values: AnyArray, hold_ns: int, end_ns: int) -> tuple[IntArray, AnyArray]:
    """Repeats each sample every 0.5 s until the next one, `hold_ns` later or `end_ns`.

    >>> _held(np.array([0, 2 * BEAT_NS]), np.array([True, False]), 3 * BEAT_NS, 9 * BEAT_NS)[1]
    array([ True,  True, False, False, False])
    """
    order = np.argsort(t_ns, kind="stable")
    t_ns, values = t_ns[order], values[order]
    span_ns = np.minimum(np.diff(t_ns, append=max(end_ns, t_ns[-1])), hold_ns)
    times = np.maximum(-(-span_ns // BEAT_NS), 1)
    nth = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    return np.repeat(t_ns, times) + nth * BEAT_NS, np.repeat(values, times)


CAN_MAPS = Definitions("CAN map", CarMap, str(Path(__file__).parent))


@cache
def _shipped() -> tuple[CarMap, ...]:
    return CAN_MAPS.load_all()


def load_can_maps(folders: Sequence[str]) -> tuple[CarMap, ...]:
    """Loads the maps of the user's folders, sorted by name; any of them may be used.

    Raises:
        UsageError: a folder or file is not as it must be.
    """
    return CAN_MAPS.load_all(folders, shipped=False)


def car_map(database: Database, own: Sequence[CarMap] = ()) -> CarMap | None:
    """Chooses the map that a database has the most rows of, None if it has none of any.

    Args:
        database: the database.
        own: maps of the user's. They are preferred where they fit as well as ours, and
            replace ours of the same name.

    >>> car_map(Database()) is None
    True
    """
    known = {(m.name, s.name) for m in database.messages.values() for s in m.signals}

    def fit(candidate: CarMap) -> int:
        return sum(
            all((row.message, term) in known for term in row.terms) for row in candidate.rows
        )

    taken = {candidate.name for candidate in own}
    ours = (candidate for candidate in _shipped() if candidate.name not in taken)
    best = max((*own, *ours), key=fit)
    return best if fit(best) else None

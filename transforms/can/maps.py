"""Car families: which CAN signals are which of our signals, one .toml each."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np

from schemas.arrays import AnyArray, FloatArray, IntArray
from schemas.recording import Channel
from schemas.signals import SIGNAL
from schemas.times import NS_PER_S, ns
from transforms.can.dbc import Database, Decoded

BEAT_NS = NS_PER_S // 2
UNITS: Mapping[str, float] = {"": 1.0, "km/h": 1 / 3.6, "deg": math.pi / 180, "%": 0.01}
"""Units of DBC files and what brings them to those of schemas.signals; angles also a second."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way to one of our signals.

    Linear signals are the sum or mean of `terms`, signals of one message, times
    `factor` and the SI value of `unit`. A truth value is whether the one term is among
    `true`; a gear is what `names` calls it, or absent. A state that is sent more seldom
    than once a second, or only when it changes, is good for `hold_s` after a frame.
    """

    signal: str
    message: str
    terms: tuple[str, ...]
    combine: Literal["sum", "mean"] = "sum"
    unit: str = ""
    factor: float = 1.0
    true: tuple[int, ...] = ()
    names: tuple[tuple[float, str], ...] = ()
    hold_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuses unknown signals and units."""
        if self.signal not in SIGNAL or self.unit not in UNITS or not self.terms:
            raise ValueError(f"CAN map row {self}: unknown signal or unit, or no terms")

    def values(self, terms: list[FloatArray]) -> AnyArray:
        """Makes the signal of its terms, float64[m] each."""
        if self.true:
            return np.isin(terms[0], self.true)
        if self.names:
            names = dict(self.names)
            return np.array([names.get(value) for value in terms[0].tolist()], dtype=object)
        total = np.sum(terms, axis=0)
        if self.combine == "mean":
            total = total / len(terms)
        scaled: FloatArray = total * (self.factor * UNITS[self.unit])
        # Ours is speed over ground; cars that know reverse count it backwards.
        return np.abs(scaled) if self.signal == "speed_mps" else scaled


@dataclass(frozen=True, slots=True)
class CarMap:
    """The rows of one car family; of several rows of a signal the first with frames counts."""

    name: str
    rows: tuple[Row, ...]

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


@cache
def car_maps() -> tuple[CarMap, ...]:
    """Reads the maps of this folder, sorted by name."""
    folder = files(__package__)
    return tuple(
        CarMap(path.name.removesuffix(".toml"), tuple(_rows(path.read_text("utf-8"))))
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.name.endswith(".toml")
    )


def _rows(text: str) -> Iterator[Row]:
    for row in tomllib.loads(text)["row"]:
        names = tuple((float(value), name) for value, name in row.pop("names", {}).items())
        terms, true = tuple(row.pop("terms")), tuple(row.pop("true", ()))
        yield Row(**row, terms=terms, true=true, names=names)


def car_map(database: Database) -> CarMap | None:
    """Chooses the map that a database has the most rows of, None if it has none of any.

    >>> car_map(Database()) is None
    True
    """
    known = {(m.name, s.name) for m in database.messages.values() for s in m.signals}

    def fit(candidate: CarMap) -> int:
        return sum(
            all((row.message, term) in known for term in row.terms) for row in candidate.rows
        )

    best = max(car_maps(), key=fit)
    return best if fit(best) else None

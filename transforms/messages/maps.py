"""Topic maps: which fields of which messages are which of our signals, one .toml each.

name = "ros"                           # the file is ros.toml
description = "which messages, and by whose convention"

[[row]]                                # see Row; of rows of one signal the first counts
signal = "speed_mps"
type = "nav_msgs/Odometry"
terms = ["twist.twist.linear.x", "twist.twist.linear.y"]
combine = "norm"

[[row]]
signal = "brake_on"
topic = "/vehicle/brakes"
terms = ["state"]
true = [2, 3]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, StrictInt, model_validator

from schemas.arrays import AnyArray, BoolArray, FloatArray
from schemas.ids import digest
from schemas.signals import SIGNAL
from transforms.can.maps import UNITS
from transforms.definitions import STRICT, Definition, Definitions, Text, one_of
from transforms.messages.ros_types import short_name


class Row(BaseModel):
    """One way to one of our signals.

    It is for the topics of a `type`, named as ROS 1 does, for one `topic`, or for a topic if it
    is of the type. A number is the sum, mean or norm of `terms`, fields of the message, times
    `factor` and the SI value of `unit`, plus `offset`. A truth value is whether the one term is
    among `true`; a gear is what `names` calls it, or null. Messages count only where each field
    of `where` has one of the values that are listed for it.
    """

    model_config = STRICT

    signal: Annotated[str, one_of(SIGNAL)]
    type: str = ""
    topic: str = ""
    terms: tuple[Text, ...] = Field(min_length=1, strict=False)
    combine: Literal["sum", "mean", "norm"] = "sum"
    unit: Annotated[str, one_of(UNITS)] = ""
    factor: float = 1.0
    offset: float = 0.0
    true: tuple[StrictInt, ...] = Field(default=(), strict=False)
    # The keys of a TOML table are text.
    names: Mapping[Annotated[float, Field(strict=False)], Text] = Field(default_factory=dict)
    where: Mapping[Text, Annotated[tuple[StrictInt, ...], Field(strict=False)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if not (self.type or self.topic):
            raise ValueError(f"{self.signal} needs a type or a topic")
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

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that it reads."""
        return (*self.terms, *self.where)

    def fits(self, topic: str, type_: str) -> bool:
        """Tells whether it is for a topic, whose type's name may be as ROS 2 writes it.

        >>> Row(signal="alt_m", type="a/B", terms=("c",)).fits("/t", "a/msg/B")
        True
        """
        return self.topic in {"", topic} and self.type in {"", short_name(type_)}

    def counts(self, values: Mapping[str, AnyArray], valid: BoolArray) -> BoolArray:
        """Tells which of n messages count: bool[n]."""
        for name, allowed in self.where.items():
            valid = valid & np.isin(numbers(values[name]), allowed)
        return valid

    def values(self, terms: Sequence[AnyArray]) -> AnyArray:
        """Makes the signal of its terms, [n] each."""
        if self.true:
            return np.isin(numbers(terms[0]), self.true)
        if self.names:
            found = [self.names.get(value) for value in numbers(terms[0]).tolist()]
            return np.array(found, dtype=object)
        columns = [numbers(term) for term in terms]
        add = np.hypot if self.combine == "norm" else np.add
        with np.errstate(over="ignore", invalid="ignore"):
            total = add.reduce(columns)
            if self.combine == "mean":
                total = total / len(terms)
            scaled: FloatArray = total * (self.factor * UNITS[self.unit]) + self.offset
        # Ours is speed over ground.
        return np.abs(scaled) if self.signal == "speed_mps" else scaled


def numbers(values: AnyArray) -> FloatArray:
    """Converts a column to float64, with NaN for what is no number.

    >>> numbers(np.array([1, "a", None], object)).tolist()
    [1.0, nan, nan]
    """
    if values.dtype != object:
        return values.astype(np.float64)
    found = [v if isinstance(v, int | float | np.number) else np.nan for v in values.tolist()]
    return np.array(found, np.float64)


class TopicMap(Definition):
    """The rows of one kind of recording."""

    rows: tuple[Row, ...] = Field(alias="row", min_length=1, strict=False)

    @property
    def digest(self) -> str:
        """Names all that decides the signals; not the description."""
        return digest("topic_map", [row.model_dump() for row in self.rows])


TOPIC_MAPS = Definitions("topic map", TopicMap, str(Path(__file__).parent))


@cache
def shipped() -> tuple[TopicMap, ...]:
    """Loads our maps."""
    return TOPIC_MAPS.load_all()


def load_topic_maps(folders: Sequence[str]) -> tuple[TopicMap, ...]:
    """Loads the maps of the user's folders, sorted by name.

    Raises:
        UsageError: a folder or file is not as it must be.
    """
    return TOPIC_MAPS.load_all(folders, shipped=False)


def rows_of(own: Sequence[TopicMap] = ()) -> tuple[Row, ...]:
    """Returns the rows in the order in which they count: those of the user's maps before ours.

    A map of the user's replaces ours of the same name.
    """
    taken = {one.name for one in own}
    maps = (*own, *(one for one in shipped() if one.name not in taken))
    return tuple(row for one in maps for row in one.rows)

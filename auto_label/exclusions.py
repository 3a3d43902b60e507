"""Exclusions: the places and times of which a privacy policy wants no footage decoded.

    [[exclude]]
    name = "school"
    polygon = [[48.137, 11.575], [48.139, 11.580], [48.135, 11.581]]  # latitude, longitude

    [[exclude]]
    name = "night shift"
    from = "22:00"                     # local time of day
    to = "06:00"                       # of the next day, as it is not after `from`
    days = ["sat", "sun"]              # on which it begins; every day by default

    [[exclude]]
    name = "visit"
    from = 2026-05-03T14:00:00Z        # an instant
    to = 2026-05-03T16:00:00Z

Whatever is not known counts as inside: where the vehicle was, what time it was. Edges belong to
what they enclose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import BaseModel, Field, PlainValidator, model_validator

from schemas.arrays import FloatArray, IntArray
from schemas.signals import SIGNAL
from schemas.times import NS_PER_S, Span
from transforms.definitions import STRICT, Text

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

_HOUR_NS = 3600 * NS_PER_S
_DAY_NS = 24 * _HOUR_NS
_FIRST_DAY = get_args(Day).index("thu")
"""The day of 1970-01-01."""

_ZONES_NS = (-12 * _HOUR_NS, 14 * _HOUR_NS)
"""The least and the greatest difference of local time from UTC, anywhere."""

_HOLD_NS = SIGNAL["lat_deg"].tolerance_ns
"""How long a position stands for the time before the first one and after the last."""

_ON_LINE = 1e-12
"""Square degrees; below that, rounding decides on which side of a line a point is."""

_LEAST_DEG = 1e-9
"""The least height and width of a polygon."""

_TIME_OF_DAY = re.compile(r"\d\d:\d\d(:\d\d)?")


def _moment(value: Any) -> time | datetime:
    if isinstance(value, time):
        return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    if isinstance(value, str) and _TIME_OF_DAY.fullmatch(value):
        return time.fromisoformat(value)
    raise ValueError('must be a time of day, as "22:00", or an instant, as 2026-05-03T14:00:00Z')


Moment = Annotated[time | datetime, PlainValidator(_moment)]
Corner = Annotated[
    tuple[
        Annotated[float, Field(ge=-90, le=90)],
        Annotated[float, Field(ge=-360, le=360)],
    ],
    Field(strict=False),
]


class Exclusion(BaseModel):
    """A place, a time, or a place at a time.

    `polygon` are its corners, latitude and longitude in degrees; edges are straight in both, and
    go the shorter way around the earth. Where a polygon crosses itself, what any part of it
    encloses is inside.
    """

    model_config = STRICT

    name: Text
    polygon: Annotated[tuple[Corner, ...], Field(min_length=3, strict=False)] | None = None
    start: Moment | None = Field(default=None, alias="from")
    end: Moment | None = Field(default=None, alias="to")
    days: Annotated[tuple[Day, ...], Field(min_length=1, strict=False)] | None = None

    @model_validator(mode="after")
    def _check_polygon(self) -> Self:
        if self.polygon is None:
            return self
        ring = _ring(self.polygon)
        high, wide = np.ptp(ring, axis=0)
        if wide >= 180 or min(high, wide) < _LEAST_DEG:
            raise ValueError(
                "the polygon must enclose an area, no pole, and less than 180 degrees of longitude"
            )
        return self

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.start is None and (self.polygon is None or self.days is not None):
            raise ValueError("needs a polygon, or from and to, without which there are no days")
        if type(self.start) is not type(self.end):
            raise ValueError("from and to must be two times of day or two instants")
        if isinstance(self.start, datetime) and isinstance(self.end, datetime):
            if self.end < self.start:
                raise ValueError("to must not be before from")
            if self.days is not None:
                raise ValueError("days are of times of day, not of instants")
        return self


@dataclass(frozen=True, slots=True)
class Clock:
    """When a log starts: the columns `start_ns` and `start_local` of its row in `logs`."""

    start_ns: int | None = None
    start_local: str | None = None

    def starts(self, *, local: bool) -> tuple[int, int] | None:
        """Returns the earliest and latest start, local or in UTC, in ns since 1970-01-01 there.

        They differ if only the other of both times is known; None if neither is.
        """
        own = _local_ns(self.start_local)
        exact, other = (own, self.start_ns) if local else (self.start_ns, own)
        if exact is not None:
            return exact, exact
        if other is None:
            return None
        west, east = _ZONES_NS
        return (other + west, other + east) if local else (other - east, other - west)


@dataclass(frozen=True, slots=True)
class Track:
    """Known positions of a log: t_ns int64[n] ascending, lat_deg and lon_deg float64[n].

    Rows that are NaN or beyond a pole, or of a longitude beyond a turn, count as not known.
    """

    t_ns: IntArray
    lat_deg: FloatArray
    lon_deg: FloatArray

    def known(self) -> Track:
        """Returns the rows that are positions, with longitudes that do not jump."""
        known = (np.abs(self.lat_deg) <= 90) & (np.abs(self.lon_deg) <= 360)
        lon_deg = np.unwrap(self.lon_deg[known], period=360).astype(np.float64)
        return Track(self.t_ns[known], self.lat_deg[known], lon_deg)

    def way(self, span: Span) -> FloatArray | None:
        """Returns the positions in a span and the ones before and after it: float64[m, 2].

        None if there are none, or none at one of its ends, beyond it or shortly before.
        """
        first = max(int(np.searchsorted(self.t_ns, span.start_ns, side="right")) - 1, 0)
        last = int(np.searchsorted(self.t_ns, span.end_ns)) + 1
        t_ns = self.t_ns[first:last]
        if not len(t_ns):
            return None
        if t_ns[0] - _HOLD_NS > span.start_ns or t_ns[-1] + _HOLD_NS < span.end_ns:
            return None
        return np.column_stack([self.lat_deg[first:last], self.lon_deg[first:last]])


def excluded(exclusions: Iterable[Exclusion], span: Span, clock: Clock, track: Track) -> str | None:
    """Finds the first exclusion that an event touches, or may touch for all that is known.

    Between two known positions the way is straight. An exclusion with a polygon and a time
    holds where and while both do.

    Args:
        exclusions: in order of their counts.
        span: the event's.
        clock: when its log starts.
        track: the log's known positions in the span, the last one before and the first one after.

    Returns:
        The exclusion's name, followed by what is not known if it counts because of that: "school:
        no position known"; None if the event touches none.
    """
    known = track.known()
    for exclusion in exclusions:
        for why in _touches(exclusion, span, clock, known):
            return f"{exclusion.name}{why}"
    return None


def _touches(exclusion: Exclusion, span: Span, clock: Clock, track: Track) -> Iterator[str]:
    """Yields for each time that an event touches an exclusion what of it is not known, or ""."""
    spans, unsure = [span], ""
    if exclusion.start is not None:
        local = isinstance(exclusion.start, time)
        starts = clock.starts(local=local)
        if starts is None or starts[0] != starts[1]:
            unsure = ": no local time known" if local else ": no time known"
        if starts is not None:
            spans = list(_spans(exclusion, span, *starts))
    if exclusion.polygon is None:
        yield from (unsure for _ in spans)
        return
    ring = _ring(exclusion.polygon)
    for part in spans:
        way = track.way(part)
        if way is None:
            yield ": no position known"
        elif _meets(way, ring):
            yield unsure


def _spans(exclusion: Exclusion, span: Span, earliest: int, latest: int) -> Iterator[Span]:
    """Yields the parts of a span in which a time holds, if the log starts within two times."""
    for begin, end in _windows(exclusion, span.start_ns + earliest, span.end_ns + latest):
        start_ns, end_ns = begin - latest, end - earliest
        if start_ns <= span.end_ns and end_ns >= span.start_ns:
            yield Span(start_ns, end_ns).clip(span)


def _windows(exclusion: Exclusion, start_ns: int, end_ns: int) -> Iterator[tuple[int, int]]:
    """Yields the times of an exclusion that may touch [start_ns, end_ns], ns since 1970-01-01."""
    if isinstance(exclusion.start, datetime) and isinstance(exclusion.end, datetime):
        yield _since_1970(exclusion.start), _since_1970(exclusion.end)
    if isinstance(exclusion.start, time) and isinstance(exclusion.end, time):
        begin, end = _of_day(exclusion.start), _of_day(exclusion.end)
        if end <= begin:
            end += _DAY_NS
        names = get_args(Day)
        for day in range(start_ns // _DAY_NS - 2, end_ns // _DAY_NS + 1):
            if names[(day + _FIRST_DAY) % 7] in (exclusion.days or names):
                yield day * _DAY_NS + begin, day * _DAY_NS + end


def _since_1970(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def _of_day(moment: time) -> int:
    seconds = (moment.hour * 60 + moment.minute) * 60 + moment.second
    return seconds * NS_PER_S + moment.microsecond * 1000


def _local_ns(text: str | None) -> int | None:
    """Reads a wall-clock time; None if it is none, for other readers than ours write it too."""
    try:
        return _since_1970(datetime.fromisoformat(text or "").replace(tzinfo=UTC))
    except ValueError:
        return None


def _ring(polygon: Sequence[tuple[float, float]]) -> FloatArray:
    """Closes a polygon: float64[m + 1, 2], with longitudes that do not jump."""
    ring = np.array([*polygon, polygon[0]], np.float64)
    ring[:, 1] = np.unwrap(ring[:, 1], period=360)
    return ring


def _meets(way: FloatArray, ring: FloatArray) -> bool:
    """Tells whether a way, float64[n, 2], touches what a closed ring encloses."""
    begin, end = (way[:-1], way[1:]) if len(way) > 1 else (way, way)
    # Each piece is moved by whole turns to where it is nearest to the polygon.
    middle = (ring[:, 1].min() + ring[:, 1].max()) / 2
    turns = np.round((middle - (begin[:, 1] + end[:, 1]) / 2) / 360)
    moved = np.column_stack([np.zeros(len(turns)), 360 * turns])
    begin, end = begin + moved, end + moved
    # A way that meets no edge is as a whole inside or outside.
    return _encloses(ring, begin[0]) or any(_crosses(begin, end, a, b) for a, b in pairwise(ring))


def _crosses(begin: FloatArray, end: FloatArray, a: FloatArray, b: FloatArray) -> bool:
    """Tells whether one of n segments touches the edge from `a` to `b`."""
    near = np.all(
        (np.maximum(begin, end) >= np.minimum(a, b)) & (np.minimum(begin, end) <= np.maximum(a, b)),
        axis=1,
    )
    begin, end = begin[near], end[near]
    apart = _side(a, b, begin) * _side(a, b, end) > 0
    apart |= _side(begin, end, a) * _side(begin, end, b) > 0
    return not apart.all()


def _side(begin: FloatArray, end: FloatArray, point: FloatArray) -> FloatArray:
    """Returns 1 where a point is on one side of a line, -1 on the other, 0 on it."""
    area = _area(begin, end, point)
    return np.sign(area) * (np.abs(area) > _ON_LINE)


def _area(begin: FloatArray, end: FloatArray, point: FloatArray) -> FloatArray:
    """Returns twice the area of triangles, with a sign that tells their direction."""
    along, to = end - begin, point - begin
    area: FloatArray = along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0]
    return area


def _encloses(ring: FloatArray, point: FloatArray) -> bool:
    """Tells whether a ring winds around a point, which is on no edge."""
    begin, end = ring[:-1], ring[1:]
    area = _area(begin, end, point)
    up = (begin[:, 0] <= point[0]) & (end[:, 0] > point[0]) & (area > 0)
    down = (begin[:, 0] > point[0]) & (end[:, 0] <= point[0]) & (area < 0)
    return bool(up.sum() != down.sum())

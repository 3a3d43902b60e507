"""Exclusions against positions and minutes that are tried one by one."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from auto_label import exclusions
from auto_label.exclusions import Clock, Exclusion, Track, excluded
from schemas.arrays import FloatArray
from schemas.times import NS_PER_S, Span
from transforms.definitions import mistake
from transforms.toml import parse_toml

MINUTE_NS = 60 * NS_PER_S
SPAN = Span(10 * NS_PER_S, 20 * NS_PER_S)
NOWHERE = Track(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
CLOCK = Clock(0, "1970-01-01T01:00:00")
SQUARE = [[48.0, 11.0], [48.0, 11.5], [48.5, 11.5], [48.5, 11.0]]

Points = Sequence[tuple[float, float]]

# Quarters of a degree, so that moving them by whole turns does not round them.
quarters = st.integers(-40, 40).map(lambda n: n / 4)
points = st.tuples(quarters, quarters)
polygons = st.lists(points, min_size=3, max_size=8, unique=True)
ways = st.lists(points, min_size=2, max_size=5)
turns = st.tuples(st.integers(0, 1), st.integers(0, 1))


def area(polygon: Any, **window: Any) -> Exclusion:
    return Exclusion.model_validate({"name": "area", "polygon": polygon, **window})


def track(way: Points) -> Track:
    """Positions from the begin of SPAN to its end."""
    t_ns = np.linspace(SPAN.start_ns, SPAN.end_ns, len(way)).astype(np.int64)
    lat, lon = np.array(way, np.float64).T
    return Track(t_ns, lat, lon)


def passes(exclusion: Exclusion, way: Points) -> bool:
    return excluded([exclusion], SPAN, CLOCK, track(way)) is not None


def legal(polygon: Points) -> bool:
    return all(np.ptp(np.array(polygon), axis=0) > 0)


def winds(polygon: FloatArray, point: FloatArray) -> bool:
    """Whether the angles under which a point sees the edges add up to a turn."""
    to = polygon - point
    angles = np.arctan2(to[:, 0], to[:, 1])
    steps = np.diff([*angles, angles[0]])
    return round(float(np.sum((steps + math.pi) % (2 * math.pi) - math.pi)) / (2 * math.pi)) != 0


def away(polygon: FloatArray, point: FloatArray) -> float:
    """The distance of a point from the edges."""
    begin, end = polygon, np.roll(polygon, -1, axis=0)
    along = end - begin
    share = ((point - begin) * along).sum(axis=1) / (along**2).sum(axis=1)
    nearest = begin + np.clip(share, 0, 1)[:, None] * along
    return float(np.hypot(*(point - nearest).T).min())


@settings(deadline=None, max_examples=300)
@given(polygons, ways)
def test_a_way_is_inside_where_one_of_many_points_on_it_is(polygon: Points, way: Points) -> None:
    assume(legal(polygon))
    corners, at = np.array(polygon), np.array(way)
    share = np.arange(0, len(way) - 1 + 1e-9, 0.02)
    dense = np.column_stack([np.interp(share, np.arange(len(way)), at[:, k]) for k in (0, 1)])
    spacing = float(np.hypot(*np.diff(dense, axis=0).T).max(initial=0.0)) + 1e-9
    distances = [away(corners, point) for point in dense]
    inside = any(
        winds(corners, point) for point, d in zip(dense, distances, strict=True) if d > 1e-9
    )
    if passes(area(polygon), way):
        assert inside or min(distances) <= spacing
    else:
        assert not inside
        assert min(distances) > 1e-9


@settings(deadline=None)
@given(polygons, ways, st.integers(0, 7), st.booleans(), turns)
def test_order_and_whole_turns_make_no_difference(
    polygon: Points, way: Points, first: int, back: bool, turn: tuple[int, int]
) -> None:
    assume(legal(polygon))
    first %= len(polygon)
    same = [(lat, lon - 180 + 360 * turn[0]) for lat, lon in [*polygon[first:], *polygon[:first]]]
    moved = [(lat, lon - 180 + 360 * turn[1]) for lat, lon in way]
    if back:
        same, moved = same[::-1], moved[::-1]
    assert passes(area(polygon), way) == passes(area([*same, same[0]]), moved)


@settings(deadline=None)
@given(polygons, ways)
def test_across_the_antimeridian_it_is_as_anywhere(polygon: Points, way: Points) -> None:
    assume(legal(polygon))

    def there(found: Points) -> Points:
        return [(lat, (lon + 360) % 360 - 180) for lat, lon in found]

    assert passes(area(polygon), way) == passes(area(there(polygon)), there(way))


@given(ways)
def test_what_contains_all_excludes_all(way: Points) -> None:
    assert passes(area([(-90, -89), (-90, 89), (90, 89), (90, -89)]), way)


def test_crossing_between_two_positions_is_inside_and_passing_by_is_not() -> None:
    assert passes(area(SQUARE), [(47.9, 11.2), (48.6, 11.3)])
    assert passes(area(SQUARE), [(48.0, 10.0), (48.0, 12.0)])  # along an edge
    assert passes(area(SQUARE), [(47.5, 11.5), (48.5, 12.5), (48.5, 11.5)])  # a corner
    assert passes(area(SQUARE), [(48.2, 11.2)] * 2)
    assert not passes(area(SQUARE), [(47.9, 10.0), (47.9, 11.2), (47.9, 12.0)])


@pytest.mark.parametrize(
    "polygon",
    [
        [(0, 0), (10, 10), (10, 0), (0, 10)],  # an hourglass
        [(0, 0), (0, 10), (10, 10), (10, 0), (0, 0), (2, 2), (2, 8), (8, 8), (8, 2), (2, 2)],
    ],
)
def test_a_polygon_that_touches_itself_excludes_every_part(polygon: Points) -> None:
    assert passes(area(polygon), [(1.5, 5.0), (1.6, 5.0)]) == winds(
        np.array(polygon, np.float64), np.array([1.5, 5.0])
    )
    assert passes(area(polygon), [(8.5, 5.0)] * 2)
    assert not passes(area(polygon), [(5.0, 11.0)] * 2)


def test_without_a_position_at_the_event_a_place_excludes_it() -> None:
    far = Track(np.array([0, 40]) * NS_PER_S, np.zeros(2), np.zeros(2))
    why = "area: no position known"
    assert excluded([area(SQUARE)], SPAN, CLOCK, NOWHERE) == why
    assert excluded([area(SQUARE)], SPAN, CLOCK, far) is None
    for lat, lon in [(np.nan, 0), (0, np.nan), (np.inf, 0), (0, -np.inf), (90.1, 0), (0, 361)]:
        unknown = Track(far.t_ns, np.full(2, float(lat)), np.full(2, float(lon)))
        assert excluded([area(SQUARE)], SPAN, CLOCK, unknown) == why
    # Most of the event is after the last position, or before the first.
    for second in (12, 18):
        here = Track(np.array([second * NS_PER_S]), np.zeros(1), np.zeros(1))
        assert excluded([area(SQUARE)], SPAN, CLOCK, here) == why
        assert excluded([area(SQUARE)], Span(*here.t_ns.repeat(2).tolist()), CLOCK, here) is None


def test_positions_beyond_the_neighbours_of_the_event_do_not_count() -> None:
    lat = np.array([48.2, 0, 0, 0, 48.2])
    found = Track(np.array([0, 9, 15, 21, 40]) * NS_PER_S, lat, np.full(5, 11.2))
    assert excluded([area(SQUARE)], SPAN, CLOCK, found) is None
    assert excluded([area(SQUARE)], Span(SPAN.start_ns, 22 * NS_PER_S), CLOCK, found) == "area"


def window(begin: str, end: str, days: Sequence[str] | None = None) -> Exclusion:
    return Exclusion.model_validate({"name": "hours", "from": begin, "to": end, "days": days})


minutes = st.integers(0, 1439).map(lambda n: f"{n // 60:02d}:{n % 60:02d}")
two_minutes = st.tuples(minutes, minutes)
names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
some_days = st.none() | st.lists(st.sampled_from(names), min_size=1, max_size=3)
local_starts = st.datetimes(datetime(1999, 12, 28), datetime(2030, 1, 1))  # noqa: DTZ001 - local


def holds(begin: str, end: str, days: Sequence[str] | None, at: datetime) -> bool:
    """Whether a minute is in a window of today or of yesterday."""
    first, last = time.fromisoformat(begin), time.fromisoformat(end)
    for back in (0, 1):
        day = at.date() - timedelta(days=back)
        until = day + timedelta(days=int(last <= first))
        if days is not None and names[day.weekday()] not in days:
            continue
        if datetime.combine(day, first) <= at <= datetime.combine(until, last):
            return True
    return False


@settings(deadline=None, max_examples=200)
@given(two_minutes, some_days, local_starts, st.integers(0, 3000), st.integers(0, 200))
def test_hours_hold_where_one_of_the_minutes_is_in_them(
    hours: tuple[str, str], days: Sequence[str] | None, start: datetime, first: int, length: int
) -> None:
    start = start.replace(second=0, microsecond=0)
    span = Span(first * MINUTE_NS, (first + length) * MINUTE_NS)
    tried = (start + timedelta(minutes=minute) for minute in range(first, first + length + 1))
    expected = any(holds(*hours, days, at) for at in tried)
    clock = Clock(None, start.isoformat())
    assert (excluded([window(*hours, days)], span, clock, NOWHERE) == "hours") == expected


@settings(deadline=None, max_examples=100)
@given(two_minutes, some_days, local_starts, st.integers(-48, 56))
def test_hours_may_hold_where_they_do_in_any_zone(
    hours: tuple[str, str], days: Sequence[str] | None, start: datetime, zone: int
) -> None:
    utc_ns = round(start.replace(tzinfo=UTC).timestamp()) * NS_PER_S
    local = (start + timedelta(minutes=15 * zone)).replace(microsecond=0).isoformat()
    exclusion = window(*hours, days)
    if excluded([exclusion], SPAN, Clock(utc_ns, local), NOWHERE):
        found = excluded([exclusion], SPAN, Clock(utc_ns), NOWHERE)
        assert found == "hours: no local time known"


def test_days_are_those_on_which_the_hours_begin() -> None:
    night = window("22:00", "06:00", ["sat"])
    for start, found in [
        ("2026-05-02T23:00:00", "hours"),  # a Saturday
        ("2026-05-03T05:00:00", "hours"),
        ("2026-05-03T06:01:00", None),
        ("2026-05-02T05:00:00", None),
    ]:
        assert excluded([night], SPAN, Clock(None, start), NOWHERE) == found
    assert excluded([window("00:00", "00:00", ["sat"])], SPAN, Clock(None, start), NOWHERE)


def test_instants_are_of_utc_and_of_any_zone_where_only_local_time_is_known() -> None:
    begin = datetime(2026, 5, 3, 14, tzinfo=UTC)
    table = {"name": "visit", "from": begin, "to": begin + timedelta(hours=2)}
    visit = Exclusion.model_validate(table)
    for hours, found in [(-1, None), (0, "visit"), (1.9, "visit"), (2.1, None)]:
        start = begin + timedelta(hours=hours)
        start_ns = round(start.timestamp()) * NS_PER_S
        assert excluded([visit], SPAN, Clock(start_ns, "1990-01-01T00:00:00"), NOWHERE) == found
    for hours, found in [(-13, None), (-11.9, "visit"), (15.9, "visit"), (16.1, None)]:
        local = (begin + timedelta(hours=hours)).replace(tzinfo=None).isoformat()
        why = found and f"{found}: no time known"
        assert excluded([visit], SPAN, Clock(None, local), NOWHERE) == why
    for unknown in (Clock(), Clock(None, "yesterday"), Clock(None, "")):
        assert excluded([visit], SPAN, unknown, NOWHERE) == "visit: no time known"
        assert excluded([window("01:00", "02:00")], SPAN, unknown, NOWHERE) == (
            "hours: no local time known"
        )


def test_a_place_at_a_time_needs_both_at_once() -> None:
    """The vehicle is in the square from 12:00:12 to 12:00:14."""
    t_ns = np.arange(10, 21) * NS_PER_S
    lat = np.where((t_ns >= t_ns[2]) & (t_ns <= t_ns[4]), 48.2, 40.0)
    there = Track(t_ns, lat, np.full(11, 11.2))
    noon = Clock(None, "2026-05-03T12:00:00")
    for begin, end, found in [
        ("12:00:13", "12:00:13", "area"),
        ("12:00:12", "12:00:30", "area"),
        ("12:00:17", "12:00:30", None),
        ("11:00", "12:00:10", None),
        ("11:00", "12:00:09", None),
    ]:
        # Equal times are a whole day, so an hour later is the same as any.
        exclusion = area(SQUARE, **{"from": begin, "to": end})
        assert excluded([exclusion], SPAN, noon, there) == found
        unsure = excluded([exclusion], SPAN, Clock(), there)
        assert unsure == "area: no local time known"
        away_from_it = track([(0.0, 0.0), (0.0, 0.0)])
        assert excluded([exclusion], SPAN, Clock(), away_from_it) is None


def test_the_first_of_several_is_named() -> None:
    found = [area(SQUARE), window("00:00", "00:00"), area(SQUARE)]
    assert excluded(found, SPAN, CLOCK, track([(0.0, 0.0)] * 2)) == "hours"
    assert excluded(found, SPAN, CLOCK, track([(48.2, 11.2)] * 2)) == "area"
    assert excluded([], SPAN, Clock(), NOWHERE) is None


def test_the_example_of_the_module_is_read() -> None:
    lines = (exclusions.__doc__ or "").splitlines()
    text = textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))
    read = [Exclusion.model_validate(table) for table in parse_toml(text.encode())["exclude"]]
    assert [one.name for one in read] == ["school", "night shift", "visit"]
    assert (read[1].start, read[1].end, read[1].days) == (time(22), time(6), ("sat", "sun"))


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("", "needs a polygon, or from and to"),
        ('days = ["sun"]', "needs a polygon, or from and to"),
        ("polygon = [[48, 11], [49, 11]]", "polygon = [[48, 11], [49, 11]]: must not"),
        ("polygon = [[95, 11], [48, 11], [48, 12]]", "polygon[0][0] = 95: must be at most 90"),
        ("polygon = [[48, 11], [48, 400], [49, 12]]", "polygon[1][1] = 400: must be at most 360"),
        ("polygon = [[48, 11], [48, true], [49, 12]]", "polygon[1][1] = true: must be a number"),
        ("polygon = [[48, 11], [48, 12], [48, 13]]", "the polygon must enclose an area"),
        ("polygon = [[-90, -180], [-90, 180], [90, 180], [90, -180]]", "the polygon must enclose"),
        ("polygon = [[80, 0], [80, 120], [80, -120]]", "no pole"),
        ("polygon = [[0, 0], [0, 180], [1, 90]]", "less than 180 degrees"),
        ('from = "22:00"', "from and to must be two times of day or two instants"),
        ('from = "22:00"\nto = 2026-05-03T16:00:00Z', "two times of day or two instants"),
        ('from = "10 pm"\nto = "06:00"', 'from = "10 pm": must be a time of day, as "22:00"'),
        ('from = "25:00"\nto = "06:00"', 'from = "25:00": hour must be in 0..23'),
        ("from = 2026-05-03T14:00:00\nto = 2026-05-03", "14:00:00: must be a time of day"),
        ("from = 2026-05-03T14:00:00Z\nto = 2026-05-03T13:00:00Z", "to must not be before from"),
        (
            'from = 2026-05-03T14:00:00Z\nto = 2026-05-03T16:00:00Z\ndays = ["sun"]',
            "days are of times of day",
        ),
        ('from = "22:00"\nto = "06:00"\ndays = ["sunday"]', 'days[0] = "sunday": choose one'),
        ("form = 1", "form: unknown key; choose one of: days, from, name, polygon, to"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(keys: str, line: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Exclusion.model_validate(parse_toml(f'name = "x"\n{keys}'.encode()))
    told = mistake(raised.value, Exclusion)
    assert line in told
    assert "\n" not in told


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_corners_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        area([(48.0, 11.0), (48.0, value), (49.0, 11.0)])

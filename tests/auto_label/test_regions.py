"""Regions: what is hidden of what models see."""

from __future__ import annotations

import numpy as np
import pytest

from auto_label.models import Detections
from auto_label.policies import KINDS, Kind, PolicyDetector, PolicySpec
from auto_label.regions import SURE, find_regions
from schemas.arrays import FloatArray

ROAD = PolicyDetector(model="road", score=0.2)
FACES = PolicyDetector(model="faces", score=0.3)
POLICY = PolicySpec(
    name="p", description="-", hide=KINDS, cover="blur", grow=0.0, detectors=(ROAD, FACES)
)
CLASSES = ("person", "bicycle", "car", "face", "plate")


def seen(*rows: tuple[str, float, tuple[float, float, float, float]]) -> Detections:
    """What a model saw: class, score and box."""
    return Detections(
        np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4),
        np.array([row[1] for row in rows], dtype=np.float64),
        np.array([CLASSES.index(row[0]) for row in rows], dtype=np.int64),
        CLASSES,
    )


def regions(found: Detections, kind: Kind, policy: PolicySpec = POLICY) -> FloatArray:
    """The regions of a kind."""
    made = find_regions([(ROAD, found)], policy)
    assert made.classes == KINDS
    return np.asarray(made.xywh[made.class_index == KINDS.index(kind)])


def covers(boxes: FloatArray, x: float, y: float) -> bool:
    """Whether a box has a point."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    return bool(np.any(np.all((low <= [x, y]) & (high >= [x, y]), axis=1)))


def test_faces_and_plates_are_hidden_where_they_are_seen() -> None:
    found = seen(("face", 0.5, (10, 20, 30, 40)), ("plate", 0.4, (100, 200, 50, 12)))
    assert regions(found, "face").tolist() == [[10, 20, 30, 40]]
    assert regions(found, "plate").tolist() == [[100, 200, 50, 12]]
    grown = regions(found, "face", POLICY.replace(grow=0.5))
    assert grown.tolist() == [[-5, 0, 60, 80]]


def test_a_score_counts_for_the_detector_that_gave_it() -> None:
    found = seen(("face", 0.25, (10, 20, 30, 40)))
    (road,) = find_regions([(ROAD, found)], POLICY).score
    (faces,) = find_regions([(FACES, found)], POLICY).score
    assert road > SURE > faces
    faint = seen(("face", 0.14, (10, 20, 30, 40)))
    assert not len(find_regions([(FACES, faint)], POLICY))


@pytest.mark.parametrize("hide", [("face",), ("head", "plate"), ("plate",)])
def test_only_what_the_policy_hides_is_hidden(hide: tuple[str, ...]) -> None:
    found = seen(
        ("face", 0.5, (10, 20, 30, 40)),
        ("person", 0.5, (0, 0, 50, 150)),
        ("plate", 0.4, (100, 200, 50, 12)),
    )
    made = find_regions([(ROAD, found)], POLICY.replace(hide=hide))
    assert {KINDS[k] for k in made.class_index} == set(hide)


def test_of_a_person_the_head_is_hidden_and_the_body_is_not() -> None:
    """Standing, the head is the top seventh; of a bust it is half."""
    standing = regions(seen(("person", 0.5, (100, 50, 60, 180))), "head")
    assert covers(standing, 130, 52)
    assert covers(standing, 130, 50 + 180 / 7)
    assert not covers(standing, 130, 50 + 90)
    bust = regions(seen(("person", 0.5, (100, 50, 100, 110))), "head")
    assert covers(bust, 150, 55)
    assert covers(bust, 150, 98)
    assert not covers(bust, 150, 130)


def test_above_a_box_that_begins_below_the_head_the_head_is_hidden() -> None:
    """The legs of somebody who sits, and a bicycle whose rider was not seen."""
    sits = regions(seen(("person", 0.5, (100, 100, 80, 70))), "head")
    assert covers(sits, 140, 75)
    bicycle = ("bicycle", 0.5, (200.0, 200.0, 90.0, 100.0))
    assert covers(regions(seen(bicycle), "head"), 245, 130)
    rider = ("person", 0.5, (215.0, 120.0, 60.0, 160.0))
    with_rider = regions(seen(bicycle, rider), "head")
    assert len(with_rider) == 1
    assert covers(with_rider, 245, 130)


def test_a_vehicle_without_a_plate_that_was_found_has_its_zone_hidden() -> None:
    car = ("car", 0.5, (100.0, 100.0, 200.0, 160.0))
    zone = regions(seen(car), "plate")
    assert covers(zone, 200, 220)
    assert not covers(zone, 200, 130), "the rear window"
    found = regions(seen(car, ("plate", 0.4, (180, 200, 50, 12))), "plate")
    assert found.tolist() == [[180, 200, 50, 12]]
    weak = regions(seen(car, ("plate", 0.15, (180, 200, 50, 12))), "plate")
    assert len(weak) == 2, "for it counts only if a sure one is before or after"
    elsewhere = regions(seen(car, ("plate", 0.4, (480, 200, 50, 12))), "plate")
    assert len(elsewhere) == 2


@pytest.mark.parametrize(
    ("box", "why"), [((0, 0, 60, 50), "too far away"), ((0, 0, 300, 100), "from the side")]
)
def test_a_plate_that_cannot_be_read_is_not_hidden(
    box: tuple[float, float, float, float], why: str
) -> None:
    assert not len(regions(seen(("car", 0.9, box)), "plate")), why


def test_what_two_models_see_is_hidden_once() -> None:
    one, other = (10.0, 20.0, 30.0, 40.0), (10.5, 20.0, 30.0, 40.5)
    face = (FACES, seen(("face", 0.9, one)))
    again = (ROAD, seen(("face", 0.5, other), ("face", 0.5, (200, 20, 30, 40))))
    made = find_regions([face, again], POLICY)
    assert sorted(made.xywh[:, 0].tolist()) == [10.0, 200.0]


def test_a_large_plate_has_to_be_surer() -> None:
    small, large = (10.0, 20.0, 90.0, 20.0), (10.0, 220.0, 110.0, 25.0)
    made = find_regions([(ROAD, seen(("plate", 0.25, small), ("plate", 0.25, large)))], POLICY)
    assert [score >= SURE for score in made.score] == [True, False]
    sure = find_regions([(ROAD, seen(("plate", 0.35, large)))], POLICY)
    assert (sure.score >= SURE).all()

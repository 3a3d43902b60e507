"""Privacy of a clip: who looks when, at what size, and what is covered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from auto_label.models import Detections
from auto_label.policies import PolicyDetector, PolicySpec
from auto_label.privacy import Privacy
from auto_label.specs import PixelSpec
from schemas.arrays import Image
from schemas.errors import PrivacyError
from schemas.times import NS_PER_S
from tests.auto_label.painted import EVENT, SIZE, Red, person, picture

T_NS = [EVENT.start_ns + k * NS_PER_S // 10 for k in range(10)]


class Counting(Red):
    """A detector of red that keeps the sizes of what it was given."""

    def __init__(self, red: Red, name: str) -> None:
        super().__init__(red.spec.replace(name=name))
        self.sizes: list[tuple[int, int]] = []

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Counts pictures."""
        self.sizes += [(image.shape[1], image.shape[0]) for image in images]
        return super().detect(images)


def privacy(red: Red, *looks: PolicyDetector) -> tuple[Privacy, dict[str, Counting]]:
    """A policy of some detectors, and those by name."""
    policy = PolicySpec(
        name="p", description="-", hide=("head",), cover="solid", grow=0.0, detectors=looks
    )
    made = {look.model: Counting(red, look.model) for look in looks}
    pairs = tuple((look, made[look.model].spec.identity) for look in looks)
    detectors = {one.spec.identity: one for one in made.values()}
    return Privacy(EVENT, PixelSpec(25, policy, pairs), detectors, T_NS[-1], "vehicle"), made


def test_each_detector_looks_at_its_own_rate_and_all_at_the_last_frame(red: Red) -> None:
    slow = PolicyDetector(model="slow", score=0.1, fps=2.0, enlarge=1.5)
    fast = PolicyDetector(model="fast", score=0.1, fps=5.0)
    seen, made = privacy(red, slow, fast)
    wanted = [t for t in T_NS if seen.wants(t)]
    assert wanted == [T_NS[k] for k in (0, 2, 4, 5, 6, 8, 9)]
    for t in wanted:
        seen.look(picture(t), t)
    assert made["slow"].sizes == [(480, 360)] * 3
    assert made["fast"].sizes == [SIZE] * 6
    assert seen.audit()["looks"] == 7


def test_what_is_found_on_an_enlarged_picture_is_where_it_is_on_the_picture(red: Red) -> None:
    seen, _ = privacy(red, PolicyDetector(model="a", score=0.1, enlarge=2.5))
    for t in T_NS:
        if seen.wants(t):
            assert seen.look(picture(t), t) == {}, "of a picture that no label is made of"
    for t in T_NS:
        image = picture(t)
        seen.cover(image, t)
        x, y, w, h = person(t)
        assert np.ptp(image[y : y + h // 5, x : x + w, 2]) <= 1
        assert image[y + h // 2 :, x : x + w, 2].max() == 220
    told = seen.audit()
    assert (told["heads"], told["frames"], told["held"]) == (6, 10, 0)


def test_what_a_model_saw_on_the_picture_itself_is_given_back(red: Red) -> None:
    seen, made = privacy(red, PolicyDetector(model="a", score=0.5))
    assert seen.wants(T_NS[0])
    (found,) = seen.look(picture(T_NS[0]), T_NS[0]).values()
    assert len(found) == 1
    assert len(made["a"].sizes) == 1


def test_without_a_policy_nothing_is_wanted_nor_covered() -> None:
    seen = Privacy(EVENT, PixelSpec(), {}, T_NS[-1], "vehicle")
    assert not seen.looks
    assert not any(seen.wants(t) for t in T_NS)
    image = picture(T_NS[0])
    seen.cover(image, T_NS[0])
    assert (image == picture(T_NS[0])).all()
    assert (seen.audit()["policy"], seen.audit()["frames"]) == ("none", 1)


@pytest.mark.parametrize("error", [RuntimeError("x"), ValueError(""), KeyError("key")])
def test_whatever_a_detector_raises_it_is_named(red: Red, error: Exception) -> None:
    seen, made = privacy(red, PolicyDetector(model="a", score=0.5))

    def fails(_: Sequence[Image]) -> list[Detections]:
        raise error

    made["a"].detect = fails  # type: ignore[method-assign, assignment]
    assert seen.wants(T_NS[0])
    with pytest.raises(PrivacyError, match="privacy p: model a fails on the picture at 1000000000"):
        seen.look(picture(T_NS[0]), T_NS[0])


def test_a_detector_looks_at_the_logs_of_its_platforms(red: Red) -> None:
    """A robot's hands are no plates."""
    looks = PolicyDetector(model="a", score=0.5, platforms=("robot",))
    seen, _ = privacy(red, looks)
    assert not seen.looks
    assert seen.audit()["models"] == []

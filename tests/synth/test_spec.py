"""Fleet specifications: limits, and independent random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.errors import UsageError
from synth.spec import CAMERAS, FleetSpec, rng


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drives": 0}, "drives is 0"),
        ({"minutes": float("nan")}, "minutes"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"events_per_minute": 7}, "from 0 to 6"),
        ({"width": 641}, "even"),
        ({"height": 30}, "height is 30"),
        ({"cameras": ("back",)}, "front"),
        ({"cameras": ("front", "front")}, "distinct"),
        ({"cameras": ("front", "roof")}, "roof"),
    ],
)
def test_bad_specs_are_refused(change: dict[str, Any], said: str) -> None:
    fields: dict[str, Any] = {"drives": 1, "minutes": 1.0, "seed": 1} | change
    with pytest.raises(UsageError, match=said):
        FleetSpec(**fields)


def test_the_limits_themselves_are_allowed() -> None:
    FleetSpec(1, 0.05, 1, width=32, height=4096, noise=0, gaps=10, events_per_minute=6)


def test_an_unknown_camera_is_answered_with_the_choices() -> None:
    with pytest.raises(UsageError) as refused:
        FleetSpec(1, 1.0, 1, cameras=("front", "roof"))
    assert all(camera in str(refused.value) for camera in CAMERAS)


def test_generators_are_reproducible_and_independent() -> None:
    def draw(seed: int, drive: int, purpose: str) -> list[float]:
        return [float(value) for value in rng(seed, drive, purpose).random(1000)]

    first = draw(1, 2, "noise")
    assert first == draw(1, 2, "noise")
    for other in (draw(2, 2, "noise"), draw(1, 3, "noise"), draw(1, 2, "road")):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.12

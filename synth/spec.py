"""Specification of a synthetic fleet, and its reproducible random generators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.errors import UsageError
from schemas.ids import digest

CAMERAS = ("front", "back", "left_repeater", "right_repeater")

_BOUNDS = {
    "drives": (1, 100_000),
    "minutes": (0.05, 600),
    "width": (32, 4096),
    "height": (32, 4096),
    "noise": (0, 100),
    "gaps": (0, 10),
    "clock_offset_s": (-1e8, 1e8),
    "events_per_minute": (0, 6),
}


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """A fleet to synthesise; equal specs give byte-identical files.

    Args:
        drives: number of drives, each one log.
        minutes: length of a drive.
        seed: of the fleet; drive k of a seed is the same in fleets of any size.
        format: row of `synth.WRITERS`.
        width: of the pictures in pixels, even.
        height: of the pictures in pixels, even.
        cameras: names of the cameras that record, "front" among them.
        video: False replaces the pictures by tiny black ones of the front camera, so that hours
            take seconds.
        noise: scale of the sensor noise; 0 is none.
        gaps: telemetry gaps per minute, and scale of dropped frames; 0 is none. Gaps do not
            overlap injected events, so that every true event can be observed.
        clock_offset_s: error of the recorder's clock.
        events_per_minute: target rate of injected events.
    """

    drives: int
    minutes: float
    seed: int
    format: str = "teslacam"
    width: int = 1280
    height: int = 960
    cameras: tuple[str, ...] = CAMERAS
    video: bool = True
    noise: float = 1.0
    gaps: float = 0.1
    clock_offset_s: float = 0.0
    events_per_minute: float = 1.5

    def __post_init__(self) -> None:
        """Raises UsageError for a value out of range, naming the field and the range."""
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"synth: {name} is {value}; choose a value from {low} to {high}")
        if self.width % 2 or self.height % 2:
            raise UsageError(
                f"synth: picture size {self.width}x{self.height}; choose an even width and height"
            )
        if "front" not in self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise UsageError(
                f"synth: cameras {self.cameras}; choose distinct ones, 'front' among them"
            )
        unknown = sorted(set(self.cameras) - set(CAMERAS))
        if unknown:
            raise UsageError(
                f"synth: unknown cameras {unknown}; choose one of: {', '.join(CAMERAS)}"
            )


def rng(seed: int, drive: int, purpose: str) -> np.random.Generator:
    """Returns the random generator for one purpose of one drive.

    >>> rng(7, 0, "noise").integers(100) - rng(7, 0, "noise").integers(100)
    np.int64(0)
    """
    return np.random.Generator(np.random.PCG64(int(digest("synth", seed, drive, purpose), 16)))

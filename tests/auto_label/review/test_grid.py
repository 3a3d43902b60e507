"""The grid of all cameras: each picture of each camera is shown, in its place."""

from __future__ import annotations

import numpy as np
import pytest

from auto_label.review.grid import lay_out, tile
from transforms.video.decode import Frame


@pytest.mark.parametrize("seed", range(20))
def test_cells_lie_apart_inside_the_picture(seed: int) -> None:
    dice = np.random.default_rng(seed)
    sizes = [
        (int(dice.integers(64, 4000)), int(dice.integers(48, 3000)))
        for _ in range(int(dice.integers(1, 12)))
    ]
    layout = lay_out(sizes, 960)
    assert layout.width <= 960
    assert layout.width % 2 == layout.height % 2 == 0
    covered = np.zeros((layout.height, layout.width), np.int64)
    for cell, (width, height) in zip(layout.cells, sizes, strict=True):
        there = covered[cell.y : cell.y + cell.height, cell.x : cell.x + cell.width]
        assert there.shape == (cell.height, cell.width)
        there += 1
        assert cell.width <= width
        assert abs(cell.height - cell.width * height / width) <= 0.5 + 0.5 * height / width
    assert covered.max() == 1


@pytest.mark.parametrize("seed", range(20))
def test_each_picture_is_shown_beside_those_of_its_time(seed: int) -> None:
    """A picture's grey level is its number."""
    dice = np.random.default_rng(seed)
    times = [
        np.int64(dice.integers(0, 10**9)) + np.cumsum(dice.integers(step, 2 * step, count))
        for step, count in zip(
            dice.choice([20_000_000, 33_000_000, 100_000_000], 4),
            dice.integers(1, 60, 4),
            strict=True,
        )
    ]
    sizes = [(int(dice.integers(8, 200)), int(dice.integers(8, 200))) for _ in times]
    layout = lay_out(sizes, 120)
    clips = [
        [
            # Padded to even sides, as clips are.
            Frame(t_ns, np.full((height + height % 2, width + width % 2, 3), number, np.uint8))
            for number, t_ns in enumerate(own.tolist())
        ]
        for own, (width, height) in zip(times, sizes, strict=True)
    ]
    step_ns = min((float(np.median(np.diff(own))) for own in times if len(own) > 1), default=0.0)
    shown: list[list[int]] = [[] for _ in times]
    last = -1
    for frame, seen in tile(clips, times, sizes, layout):
        assert frame.t_ns > last
        last = frame.t_ns
        for number, (t_ns, cell) in enumerate(zip(seen, layout.cells, strict=True)):
            if t_ns is None:
                assert not shown[number]
                continue
            assert t_ns <= frame.t_ns + step_ns / 2
            own = frame.image[cell.y : cell.y + cell.height, cell.x : cell.x + cell.width]
            assert (own == times[number].tolist().index(t_ns)).all()
            if not shown[number] or shown[number][-1] != t_ns:
                shown[number].append(t_ns)
    assert shown == [own.tolist() for own in times]

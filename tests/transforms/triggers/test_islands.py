"""Islands and hysteresis against a reference loop."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.arrays import BoolArray, FloatArray
from transforms.triggers.islands import held, islands
from transforms.triggers.windows import Rows

Found = list[tuple[int, int, int, float]]


def _plain(
    when: BoolArray, until: BoolArray, score: FloatArray, rows: Rows, *, for_ns: int, merge_ns: int
) -> Found:
    """Walks row by row: each series is the run's number halved."""
    on, state = [], False
    for i in range(len(when)):
        if i and rows.run[i] != rows.run[i - 1]:
            state = False
        state = bool(when[i]) or (state and not until[i])
        on.append(state)
    groups: list[list[int]] = []
    for i in [i for i, yes in enumerate(on) if yes]:
        last = groups[-1][-1] if groups else None
        if last is not None and rows.run[i] // 2 == rows.run[last] // 2:
            side_by_side = i == last + 1 and rows.run[i] == rows.run[last]
            if side_by_side or rows.t_ns[i] - rows.t_ns[last] < merge_ns:
                groups[-1].append(i)
                continue
        groups.append([i])
    found: Found = []
    for group in groups:
        if rows.t_ns[group[-1]] - rows.t_ns[group[0]] < for_ns:
            continue
        scored = [i for i in group if np.isfinite(score[i])]
        peak = max(scored, key=lambda i: (score[i], -i)) if scored else group[0]
        found.append((group[0], group[-1], peak, float(score[peak]) if scored else 0.0))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_like_a_loop(seed: int) -> None:
    """Random conditions, scores with ties and NaN, gaps, lengths and distances."""
    rng = np.random.default_rng(seed)
    n = 200
    starts = np.unique(np.append(rng.integers(0, n, 6), 0))
    t_ns = np.cumsum(rng.integers(1, 30, n))
    for start in starts[2::2]:
        t_ns[start:] -= t_ns[start] - rng.integers(0, 5)
    rows = Rows.of(t_ns, starts)
    when, until = rng.random(n) < 0.15, rng.random(n) < rng.choice([0.1, 0.5])
    score = np.where(rng.random(n) < 0.3, np.nan, rng.integers(0, 5, n).astype(float))
    for_ns, merge_ns = int(rng.integers(0, 60)), int(rng.integers(0, 80))
    found = islands(
        held(when, until, rows.first), score, rows, rows.run // 2, for_ns=for_ns, merge_ns=merge_ns
    )
    got = list(
        zip(
            found.first.tolist(),
            found.last.tolist(),
            found.peak.tolist(),
            found.score.tolist(),
            strict=True,
        )
    )
    assert got == _plain(when, until, score, rows, for_ns=for_ns, merge_ns=merge_ns)


def test_nothing_on() -> None:
    """No row, no island."""
    rows = Rows.of(np.arange(3, dtype=np.int64), np.array([0]))
    nothing = np.zeros(3, np.bool_)
    assert len(islands(nothing, np.zeros(3), rows, rows.run, for_ns=0, merge_ns=0)) == 0

"""Linking: against hand-made motion, and against the truth of public sequences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from auto_label.link import LinkSpec, Tracked, link
from auto_label.models import Detections
from auto_label.overlap import iou
from schemas.arrays import FloatArray, IntArray
from schemas.times import NS_PER_S

CLASSES = ("person", "car", "truck", "bicycle")


def _seen(*rows: tuple[float, ...]) -> Detections:
    """Rows of x, y, w, h, score, class."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), CLASSES)


def _times(rate: float, count: int) -> IntArray:
    return (np.arange(count) * NS_PER_S / rate).astype(np.int64)


def test_two_crossing_objects_keep_their_ids() -> None:
    t_ns = _times(10, 41)
    frames = [
        _seen((10 * k, 100, 60, 60, 0.9, 1), (400 - 10 * k, 150, 60, 60, 0.9, 1)) for k in range(41)
    ]
    tracked = link(t_ns, frames)
    assert sorted(set(tracked.track_id.tolist())) == [1, 2]
    for track, slope in ((1, 10), (2, -10)):
        xywh = tracked.xywh[tracked.track_id == track]
        assert len(xywh) == 41
        np.testing.assert_allclose(np.diff(xywh[:, 0]), slope, atol=1.0)


def test_smoothing_halves_the_noise_and_keeps_the_motion() -> None:
    rng = np.random.default_rng(5)
    t_ns = _times(10, 100)
    x = 50 + 40 * np.arange(100) / 10
    noisy = x + rng.normal(0, 4, 100)
    tracked = link(t_ns, [_seen((v, 200, 80, 80, 0.9, 1)) for v in noisy])
    ours = np.sqrt(np.mean((tracked.xywh[:, 0] - x) ** 2))
    assert ours < 0.6 * np.sqrt(np.mean((noisy - x) ** 2))


def test_the_smoother_agrees_with_plain_matrices() -> None:
    rng = np.random.default_rng(3)
    t_ns = np.cumsum(rng.integers(50, 300, 30)) * 1_000_000
    value = 100 + np.cumsum(rng.normal(3, 2, 30))
    frames = [_seen((v, 100, 50, 100, 0.9, 0)) for v in value]
    spec = LinkSpec()
    tracked = link(t_ns, frames, spec)
    noise, power = (spec.noise_frac * 100) ** 2, (spec.accel_frac * 100) ** 2
    mean, cov = np.array([value[0] + 25, 0.0]), np.diag([noise, (spec.speed_frac * 100) ** 2])
    means, covs, guesses, guess_covs, moves = [mean], [cov], [mean], [cov], [np.eye(2)]
    for k in range(1, 30):
        dt = (t_ns[k] - t_ns[k - 1]) / NS_PER_S
        move = np.array([[1, dt], [0, 1]])
        walk = power * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        guess, guess_cov = move @ mean, move @ cov @ move.T + walk
        gain = guess_cov[:, 0] / (guess_cov[0, 0] + noise)
        mean = guess + gain * (value[k] + 25 - guess[0])
        cov = guess_cov - np.outer(gain, guess_cov[0])
        for store, new in (
            (means, mean),
            (covs, cov),
            (guesses, guess),
            (guess_covs, guess_cov),
            (moves, move),
        ):
            store.append(new)
    for k in range(28, -1, -1):
        back = covs[k] @ moves[k + 1].T @ np.linalg.inv(guess_covs[k + 1])
        means[k] = means[k] + back @ (means[k + 1] - guesses[k + 1])
        covs[k] = covs[k] + back @ (covs[k + 1] - guess_covs[k + 1]) @ back.T
    # The size is measured without error here, so the height, and with it the noise, is constant.
    centre = tracked.xywh[:, 0] + tracked.xywh[:, 2] / 2
    np.testing.assert_allclose(centre, [m[0] for m in means], rtol=1e-9)


def test_a_short_gap_is_bridged_and_a_long_one_is_left_open() -> None:
    t_ns = _times(10, 40)
    gaps = {10, 11, 12, *range(25, 33)}
    frames = [
        _seen() if k in gaps else _seen((100 + 5 * k, 100, 80, 80, 0.8, 1)) for k in range(40)
    ]
    tracked = link(t_ns, frames)
    assert set(tracked.track_id.tolist()) == {1}
    assert set(range(40)) - set((tracked.t_ns // 100_000_000).tolist()) == set(range(25, 33))
    bridged = ~tracked.seen
    assert (tracked.t_ns[bridged] // 100_000_000).tolist() == [10, 11, 12]
    np.testing.assert_allclose(tracked.xywh[bridged, 0], [150, 155, 160], atol=1.5)


def test_a_track_that_is_lost_too_long_ends() -> None:
    t_ns = _times(10, 40)
    frames = [_seen() if 10 <= k < 25 else _seen((100, 100, 80, 80, 0.8, 1)) for k in range(40)]
    assert set(link(t_ns, frames).track_id.tolist()) == {1, 2}


def test_time_and_not_frames_decides() -> None:
    rng = np.random.default_rng(1)
    t_ns = np.unique((np.cumsum(rng.uniform(0.02, 0.5, 60)) * NS_PER_S).astype(np.int64))
    frames = [_seen((90 * t / NS_PER_S, 90, 90, 90, 0.9, 1)) for t in t_ns]
    tracked = link(t_ns, frames)
    assert set(tracked.track_id.tolist()) == {1}
    np.testing.assert_allclose(tracked.xywh[:, 0], t_ns / NS_PER_S * 90, atol=5)


def test_weak_boxes_keep_a_track_but_never_start_one() -> None:
    t_ns = _times(5, 12)
    scores = [0.9, 0.9, 0.9, 0.2, 0.2, 0.2, 0.2, 0.9, 0.9, 0.9, 0.2, 0.2]
    frames = [_seen((50, 50, 40, 40, score, 1), (300, 50, 40, 40, 0.3, 1)) for score in scores]
    tracked = link(t_ns, frames)
    assert set(tracked.track_id.tolist()) == {1}
    assert len(tracked) == 12
    assert tracked.seen.all()
    np.testing.assert_allclose(tracked.score, scores)


def test_a_track_is_of_one_class_and_persons_never_turn_into_cars() -> None:
    t_ns = _times(5, 9)
    mixed = [_seen((50, 50, 40, 40, 0.9, 2 if k in {3, 4} else 1)) for k in range(9)]
    assert set(link(t_ns, mixed).class_index.tolist()) == {1}
    turned = [_seen((50, 50, 40, 40, 0.9, 0 if k < 5 else 1)) for k in range(9)]
    tracked = link(t_ns, turned)
    assert {(i, c) for i, c in zip(tracked.track_id, tracked.class_index, strict=True)} == {
        (1, 0),
        (2, 1),
    }


def test_a_car_that_is_also_a_truck_is_one_track() -> None:
    frames = [_seen((50, 50, 80, 40, 0.9, 1), (51, 50, 79, 41, 0.6, 2))] * 5
    tracked = link(_times(5, 5), frames)
    assert set(tracked.track_id.tolist()) == {1}
    assert set(tracked.class_index.tolist()) == {1}


def test_fewer_hits_than_asked_for_is_no_track() -> None:
    frames = [_seen((50, 50, 40, 40, 0.9, 1))] * 2 + [_seen()] * 3
    assert len(link(_times(5, 5), frames)) == 0


def test_ids_do_not_depend_on_the_order_of_boxes() -> None:
    rng = np.random.default_rng(9)
    rows = [(60.0 * k, 100.0, 40.0, 40.0, 0.9 - k / 100, 1.0) for k in range(10)]
    frames, shuffled = [], []
    for _ in range(10):
        moved = [(x + rng.normal(), *rest) for x, *rest in rows]
        frames.append(_seen(*moved))
        shuffled.append(_seen(*[moved[k] for k in rng.permutation(10)]))
    one, two = link(_times(5, 10), frames), link(_times(5, 10), shuffled)
    assert one.track_id.tolist() == two.track_id.tolist()
    assert one.xywh.tobytes() == two.xywh.tobytes()
    first = one.xywh[one.t_ns == 0]
    assert (np.diff(first[:, 0]) > 0).all()


@pytest.mark.parametrize("count", [0, 1, 5])
def test_nothing_seen_is_nothing_tracked(count: int) -> None:
    tracked = link(_times(5, count), [_seen()] * count)
    assert len(tracked) == 0
    assert tracked.xywh.shape == (0, 4)


def test_times_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="rising"):
        link(np.array([0, 0]), [_seen(), _seen()])
    with pytest.raises(ValueError, match="rising"):
        link(np.array([0]), [])


@dataclass(frozen=True)
class _Score:
    mota: float
    idf1: float
    switches: int


def _evaluate(truth: FloatArray, found: FloatArray) -> _Score:
    """CLEAR MOT (Bernardin and Stiefelhagen, 2008) and IDF1 (Ristani et al., 2016) at IoU 0.5.

    Rows of both: frame, id, x, y, w, h.
    """
    true_ids = np.unique(truth[:, 1], return_inverse=True)[1]
    found_ids = np.unique(found[:, 1], return_inverse=True)[1]
    shared = np.zeros((true_ids.max() + 1, found_ids.max() + 1))
    missed = wrong = switches = 0
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    for frame in np.unique(truth[:, 0]):
        of_truth, of_found = truth[:, 0] == frame, found[:, 0] == frame
        overlap = iou(truth[of_truth, 2:6], found[of_found, 2:6])
        rows, columns = true_ids[of_truth], found_ids[of_found]
        hit = overlap >= 0.5
        shared[np.ix_(rows, columns)] += hit
        kept = np.array([[before.get(int(r)) == int(c) for c in columns] for r in rows])
        worth = np.where(hit, overlap + 10 * kept.reshape(hit.shape), 0.0)
        pairs = {
            int(rows[r]): int(columns[c])
            for r, c in zip(*linear_sum_assignment(worth, maximize=True), strict=True)
            if hit[r, c]
        }
        switches += sum(last.get(r, c) != c for r, c in pairs.items())
        missed += len(rows) - len(pairs)
        wrong += len(columns) - len(pairs)
        last |= pairs
        before = pairs
    right = shared[linear_sum_assignment(shared, maximize=True)].sum()
    counted = np.isin(found[:, 0], truth[:, 0]).sum()
    return _Score(
        1 - (missed + wrong + switches) / len(truth),
        float(2 * right / (len(truth) + counted)),
        switches,
    )


def _sequence(folder: Path, rate: float, step: int) -> tuple[FloatArray, FloatArray, Tracked]:
    """Truth, tracks and the tracks' arrays of one sequence, each `step`-th frame of it."""
    read = {n: np.loadtxt(folder / f"{n}.txt", delimiter=",", ndmin=2) for n in ("det", "gt")}
    truth = read["gt"][read["gt"][:, 6] > 0]
    frames = np.arange(1, int(read["det"][:, 0].max()) + 1, step)
    seen = []
    for frame in frames:
        rows = read["det"][read["det"][:, 0] == frame]
        seen.append(_seen(*((*row[2:7], 0.0) for row in rows)))
    t_ns = np.round(frames / rate * NS_PER_S).astype(np.int64)
    tracked = link(t_ns, seen)
    numbers = frames[np.searchsorted(t_ns, tracked.t_ns)]
    found = np.column_stack([numbers, tracked.track_id, tracked.xywh])
    return truth[np.isin(truth[:, 0], frames)], found, tracked


@pytest.mark.parametrize(
    ("sequence", "mota", "idf1"),
    [
        # Measured: 0.711 and 0.470, 0.652 and 0.733, 0.573 and 0.715, 0.518 and 0.711,
        # 0.579 and 0.760.
        (("PETS09-S2L1", 7, 1), 0.68, 0.42),
        (("TUD-Campus", 25, 1), 0.62, 0.70),
        (("TUD-Campus", 25, 5), 0.53, 0.68),
        (("ETH-Sunnyday", 14, 1), 0.49, 0.68),
        (("ETH-Sunnyday", 14, 3), 0.55, 0.72),
    ],
)
def test_public_sequences_are_linked_as_well_as_measured(
    data: Path, sequence: tuple[str, float, int], mota: float, idf1: float
) -> None:
    name, rate, step = sequence
    truth, found, _ = _sequence(data / "mot" / name, rate, step)
    score = _evaluate(truth, found)
    assert score.mota > mota
    assert score.idf1 > idf1


def test_the_evaluator_knows_the_perfect_tracker(data: Path) -> None:
    truth, _, _ = _sequence(data / "mot" / "TUD-Campus", 25, 1)
    assert _evaluate(truth, truth) == _Score(1.0, 1.0, 0)
    swapped = truth.copy()
    late = swapped[:, 0] > 35
    swapped[late, 1] = 100 + swapped[late, 1]
    score = _evaluate(truth, swapped)
    assert score.switches > 0
    assert score.idf1 < 0.8

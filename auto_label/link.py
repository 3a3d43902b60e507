"""Linking: boxes of single frames become tracks, offline, so the future counts too.

Forward, a constant-velocity Kalman filter over centre and size predicts every track, and
the Hungarian method gives it a box: first among the sure ones, then among the weak ones
(Zhang et al., "ByteTrack", 2022). Backward, a Rauch-Tung-Striebel pass smooths each track
and bridges its short gaps. Time is counted in seconds, never in frames, so variable and
low rates are alike. The four coordinates are independent, so a track's state is four
pairs (value, velocity) and all tracks of a frame move in one numpy operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from auto_label.models import Detections
from auto_label.overlap import iou, nms
from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.times import NS_PER_S

VERSION = 1
"""Goes up when the same boxes link differently."""


_KIN = (frozenset({"car", "truck", "bus", "train"}),)
"""Classes that a detector takes for each other: one track may hold them all."""


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """How boxes are linked; times in seconds, overlaps as IoU, scores from 0 to 1.

    `noise_frac` is the error of a box and `accel_frac` the acceleration that an object may
    show, per s^2, both in parts of the box's height; `speed_frac`, per s, what is thought of
    the speed of a new one. `margin` widens boxes before their overlap is taken, in parts of
    their size, which keeps small fast objects at low rates (Yang et al., "C-BIoU", 2023).
    """

    sure: float = 0.4
    birth: float = 0.5
    overlap_sure: float = 0.2
    overlap_weak: float = 0.4
    margin: float = 0.2
    same_object: float = 0.75
    lost_s: float = 1.0
    bridge_s: float = 0.5
    min_hits: int = 3
    noise_frac: float = 0.08
    accel_frac: float = 0.5
    speed_frac: float = 1.0


@dataclass(frozen=True, slots=True)
class Tracked:
    """Boxes of tracks, ordered by track_id, then t_ns; track ids count from 1.

    track_id, t_ns, class_index int64[n]; xywh float64[n, 4] in pixels; score float64[n];
    seen bool[n], false where the box bridges a gap. `class_index` is one for a whole track.
    """

    track_id: IntArray
    t_ns: IntArray
    class_index: IntArray
    xywh: FloatArray
    score: FloatArray
    seen: BoolArray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.track_id)


@dataclass(slots=True)
class _Step:
    """All living tracks at one frame: rows `ids`; mean float64[n, 4, 2], cov float64[n, 1, 3].

    A covariance is kept as (value-value, value-velocity, velocity-velocity), once for all four
    coordinates: their noise is the same.
    """

    ids: IntArray
    guess: FloatArray
    guess_cov: FloatArray
    mean: FloatArray
    cov: FloatArray
    dt: float


@dataclass(slots=True)
class _Hits:
    """Which box of which frame each track got."""

    track: list[IntArray] = field(default_factory=list)
    frame: list[IntArray] = field(default_factory=list)
    score: list[FloatArray] = field(default_factory=list)
    class_index: list[IntArray] = field(default_factory=list)


def link(t_ns: IntArray, detections: Sequence[Detections], spec: LinkSpec | None = None) -> Tracked:
    """Links the detections of one model on one camera.

    Args:
        t_ns: int64[n], the frames' times, rising.
        detections: what the model saw on each.
        spec: thresholds.

    Returns:
        Smoothed boxes, one a track and frame from its first to its last detection, less
        gaps longer than `bridge_s`; ids by time, then place, of a track's first box.

    Raises:
        ValueError: times and detections differ in number, or times do not rise.

    >>> def seen(x):
    ...     one = np.array([[x, 50.0, 40.0, 30.0]])
    ...     return Detections(one, np.array([0.9]), np.array([0]), ("car",))
    >>> tracked = link(np.arange(3) * 200_000_000, [seen(10.0), seen(14.0), seen(18.0)])
    >>> tracked.track_id, tracked.xywh[:, 0].round()
    (array([1, 1, 1]), array([10., 14., 18.]))
    """
    spec = spec or LinkSpec()
    t_ns = np.asarray(t_ns, dtype=np.int64)
    if len(t_ns) != len(detections) or (np.diff(t_ns) <= 0).any():
        raise ValueError(f"{len(detections)} detections need as many rising times: {t_ns}")
    classes = next((d.classes for d in detections), ())
    steps, hits = _forward(t_ns, detections, _kin_groups(classes), spec)
    return _collect(t_ns, steps, hits, classes, spec)


def _kin_groups(classes: tuple[str, ...]) -> IntArray:
    """Maps every class to a group inside which a track may change its class."""
    groups = np.arange(len(classes))
    for kin in _KIN:
        rows = [index for index, name in enumerate(classes) if name in kin]
        groups[rows] = min(rows, default=0)
    return groups


def _forward(
    t_ns: IntArray, detections: Sequence[Detections], kin: IntArray, spec: LinkSpec
) -> tuple[list[_Step], _Hits]:
    """Filters forward: the states of every frame and the boxes that the tracks got."""
    steps: list[_Step] = []
    hits = _Hits()
    ids: IntArray = np.empty(0, dtype=np.int64)
    group: IntArray = np.empty(0, dtype=np.int64)
    mean: FloatArray = np.empty((0, 4, 2))
    cov: FloatArray = np.empty((0, 1, 3))
    last_hit: FloatArray = np.empty(0)
    born = 0
    seconds = t_ns / NS_PER_S
    for frame, (now, seen) in enumerate(zip(seconds.tolist(), detections, strict=True)):
        dt = now - seconds[frame - 1] if frame else 0.0
        alive = now - last_hit <= spec.lost_s
        if not alive.all():
            ids, mean, cov = ids[alive], mean[alive], cov[alive]
            group, last_hit = group[alive], last_hit[alive]
        mean, cov = _predict(mean, cov, dt, spec)
        guess, guess_cov = mean, cov
        rows = nms(seen.xywh, seen.score, kin[seen.class_index], spec.same_object)
        xywh, score = seen.xywh[rows], seen.score[rows]
        class_index = seen.class_index[rows]
        box_group = kin[class_index]
        track, box = _match(_boxes(mean), group, (xywh, score, box_group), spec)
        if len(track):
            mean, cov = mean.copy(), cov.copy()
            mean[track], cov[track] = _update(mean[track], cov[track], xywh[box], spec)
            last_hit[track] = now
        free = score >= spec.birth
        free[box] = False
        new = np.flatnonzero(free)
        if len(new):
            start, start_cov = _born(xywh[new], spec)
            ids = np.concatenate([ids, born + np.arange(len(new))])
            mean, cov = np.concatenate([mean, start]), np.concatenate([cov, start_cov])
            guess, guess_cov = (
                np.concatenate([guess, start]),
                np.concatenate([guess_cov, start_cov]),
            )
            group = np.concatenate([group, box_group[new]])
            last_hit = np.concatenate([last_hit, np.full(len(new), now)])
            track = np.concatenate([track, np.arange(len(ids) - len(new), len(ids))])
            box = np.concatenate([box, new])
            born += len(new)
        steps.append(_Step(ids, guess, guess_cov, mean, cov, dt))
        hits.track.append(ids[track])
        hits.frame.append(np.full(len(track), frame))
        hits.score.append(score[box])
        hits.class_index.append(class_index[box])
    return steps, hits


def _match(
    tracks: FloatArray,
    track_group: IntArray,
    boxes: tuple[FloatArray, FloatArray, IntArray],
    spec: LinkSpec,
) -> tuple[IntArray, IntArray]:
    """Pairs tracks with boxes: the sure boxes first, then the weak ones with what is left."""
    xywh, score, box_group = boxes
    none = np.empty(0, dtype=np.int64)
    if not len(tracks) or not len(xywh):
        return none, none
    overlap = iou(_widen(tracks, spec.margin), _widen(xywh, spec.margin))
    overlap[track_group[:, None] != box_group] = 0.0
    sure = score >= spec.sure
    # A surer box wins where two overlap a track alike.
    worth = overlap * (0.5 + 0.5 * score)
    pairs = []
    free = np.ones(len(tracks), dtype=np.bool_)
    for chosen, least in ((sure, spec.overlap_sure), (~sure, spec.overlap_weak)):
        rows, columns = np.flatnonzero(free), np.flatnonzero(chosen)
        if not len(rows) or not len(columns):
            continue
        cells = np.ix_(rows, columns)
        good = np.where(overlap[cells] >= least, worth[cells], 0.0)
        row, column = linear_sum_assignment(good, maximize=True)
        held = good[row, column] > 0
        row, column = rows[row[held]], columns[column[held]]
        free[row] = False
        pairs.append((row, column))
    if not pairs:
        return none, none
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def _widen(xywh: FloatArray, margin: float) -> FloatArray:
    grow = xywh[:, 2:] * margin
    return np.concatenate([xywh[:, :2] - grow, xywh[:, 2:] + 2 * grow], axis=1)


def _boxes(mean: FloatArray) -> FloatArray:
    """Turns states (centre, size) into boxes (corner, size) of at least a pixel."""
    size = np.maximum(mean[:, 2:, 0], 1.0)
    return np.concatenate([mean[:, :2, 0] - size / 2, size], axis=1)


def _predict(
    mean: FloatArray, cov: FloatArray, dt: float, spec: LinkSpec
) -> tuple[FloatArray, FloatArray]:
    """Moves states on by dt with white acceleration (Bar-Shalom, 2001, section 6.2)."""
    power = (spec.accel_frac * np.maximum(mean[:, 3, 0], 1.0))[:, None] ** 2
    moved = mean.copy()
    moved[..., 0] += dt * mean[..., 1]
    p00, p01, p11 = cov[..., 0], cov[..., 1], cov[..., 2]
    grown = np.empty_like(cov)
    grown[..., 0] = p00 + dt * (2 * p01 + dt * p11) + power * dt**3 / 3
    grown[..., 1] = p01 + dt * p11 + power * dt**2 / 2
    grown[..., 2] = p11 + power * dt
    return moved, grown


def _update(
    mean: FloatArray, cov: FloatArray, xywh: FloatArray, spec: LinkSpec
) -> tuple[FloatArray, FloatArray]:
    """Corrects states by the boxes that they got."""
    measured, noise = _measured(xywh, spec)
    p00, p01, p11 = cov[..., 0], cov[..., 1], cov[..., 2]
    total = p00 + noise
    gain0, gain1 = p00 / total, p01 / total
    off = measured - mean[..., 0]
    new_mean, new_cov = np.empty_like(mean), np.empty_like(cov)
    new_mean[..., 0] = mean[..., 0] + gain0 * off
    new_mean[..., 1] = mean[..., 1] + gain1 * off
    new_cov[..., 0] = p00 - gain0 * p00
    new_cov[..., 1] = p01 - gain0 * p01
    new_cov[..., 2] = p11 - gain1 * p01
    return new_mean, new_cov


def _measured(xywh: FloatArray, spec: LinkSpec) -> tuple[FloatArray, FloatArray]:
    """Centre and size float64[n, 4], and their variance float64[n, 1]."""
    measured = np.concatenate([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]], axis=1)
    return measured, (spec.noise_frac * np.maximum(xywh[:, 3:], 1.0)) ** 2


def _born(xywh: FloatArray, spec: LinkSpec) -> tuple[FloatArray, FloatArray]:
    measured, noise = _measured(xywh, spec)
    mean = np.stack([measured, np.zeros_like(measured)], axis=2)
    cov = np.zeros((len(xywh), 1, 3))
    cov[..., 0] = noise
    cov[..., 2] = (spec.speed_frac * np.maximum(xywh[:, 3:], 1.0)) ** 2
    return mean, cov


def _collect(
    t_ns: IntArray, steps: list[_Step], hits: _Hits, classes: tuple[str, ...], spec: LinkSpec
) -> Tracked:
    """Smooths backward and lays the kept tracks out as rows."""
    track = np.concatenate([*hits.track, np.empty(0, dtype=np.int64)])
    frame = np.concatenate([*hits.frame, np.empty(0, dtype=np.int64)]).astype(np.int64)
    score = np.concatenate([*hits.score, np.empty(0)])
    class_index = np.concatenate([*hits.class_index, np.empty(0, dtype=np.int64)])
    count = int(track.max(initial=-1)) + 1
    last = np.full(count, -1, dtype=np.int64)
    np.maximum.at(last, track, frame)
    order, owner, smooth = _backward(steps, last)
    votes = np.zeros((count, max(len(classes), 1)))
    np.add.at(votes, (track, class_index), score)
    # Rows of one track lie together, in time; each finds the hits before and after it.
    by_hit = np.lexsort((frame, track))
    key, hit_key = owner * len(t_ns) + order, track[by_hit] * len(t_ns) + frame[by_hit]
    after = np.searchsorted(hit_key, key)
    seen = hit_key[np.minimum(after, len(hit_key) - 1)] == key if len(key) else key == 0
    before = np.where(seen, after, after - 1)
    t_before, t_after = t_ns[frame[by_hit][before]], t_ns[frame[by_hit][after]]
    part = (t_ns[order] - t_before) / np.maximum(t_after - t_before, 1)
    blended = score[by_hit][before] * (1 - part) + score[by_hit][after] * part
    keep = np.bincount(track, minlength=count)[owner] >= spec.min_hits
    keep &= (t_after - t_before) <= round(spec.bridge_s * NS_PER_S)
    owner, order, smooth = owner[keep], order[keep], smooth[keep]
    xywh = _boxes(smooth)
    track_id = _rank(owner, order, xywh)
    rows = np.lexsort((order, track_id))
    return Tracked(
        track_id=track_id[rows],
        t_ns=t_ns[order[rows]],
        class_index=votes.argmax(axis=1)[owner[rows]] if count else owner,
        xywh=xywh[rows],
        score=blended[keep][rows],
        seen=np.asarray(seen[keep][rows], dtype=np.bool_),
        classes=classes,
    )


def _backward(steps: list[_Step], last: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Runs the Rauch-Tung-Striebel pass over all tracks, from each one's last hit.

    Returns:
        Frame and track int64[r] of each smoothed state, and float64[r, 4, 2] the states,
        ordered by track, then frame.
    """
    mean, cov = np.empty((len(last), 4, 2)), np.empty((len(last), 1, 3))
    frames, owners, states = [], [], []
    for frame in range(len(steps) - 1, -1, -1):
        step = steps[frame]
        lives = last[step.ids] >= frame
        ids = step.ids[lives]
        now, now_cov = step.mean[lives], step.cov[lives]
        follows = last[ids] > frame
        if follows.any():
            later = steps[frame + 1]
            rows = np.searchsorted(later.ids, ids[follows])
            got, got_cov = _smooth(
                now[follows],
                now_cov[follows],
                (later.guess[rows], later.guess_cov[rows]),
                (mean[ids[follows]], cov[ids[follows]]),
                later.dt,
            )
            now[follows], now_cov[follows] = got, got_cov
        mean[ids], cov[ids] = now, now_cov
        frames.append(np.full(len(ids), frame, dtype=np.int64))
        owners.append(ids)
        states.append(now)
    order = np.concatenate([*frames, np.empty(0, dtype=np.int64)])
    owner = np.concatenate([*owners, np.empty(0, dtype=np.int64)])
    rows = np.lexsort((order, owner))
    return order[rows], owner[rows], np.concatenate([*states, np.empty((0, 4, 2))])[rows]


def _smooth(
    mean: FloatArray,
    cov: FloatArray,
    guess: tuple[FloatArray, FloatArray],
    later: tuple[FloatArray, FloatArray],
    dt: float,
) -> tuple[FloatArray, FloatArray]:
    """One step back: C = P F' inv(P-), m = m + C (m_s - m-), P = P + C (P_s - P-) C'."""
    p00, p01, p11 = cov[..., 0], cov[..., 1], cov[..., 2]
    g00, g01, g11 = guess[1][..., 0], guess[1][..., 1], guess[1][..., 2]
    a00, a01, a10, a11 = p00 + dt * p01, p01, p01 + dt * p11, p11
    scale = 1.0 / (g00 * g11 - g01 * g01)
    c00, c01 = (a00 * g11 - a01 * g01) * scale, (a01 * g00 - a00 * g01) * scale
    c10, c11 = (a10 * g11 - a11 * g01) * scale, (a11 * g00 - a10 * g01) * scale
    off = later[0] - guess[0]
    new_mean = np.empty_like(mean)
    new_mean[..., 0] = mean[..., 0] + c00 * off[..., 0] + c01 * off[..., 1]
    new_mean[..., 1] = mean[..., 1] + c10 * off[..., 0] + c11 * off[..., 1]
    less = later[1] - guess[1]
    d00, d01, d11 = less[..., 0], less[..., 1], less[..., 2]
    new_cov = np.empty_like(cov)
    new_cov[..., 0] = p00 + c00 * c00 * d00 + 2 * c00 * c01 * d01 + c01 * c01 * d11
    new_cov[..., 1] = p01 + c00 * c10 * d00 + (c00 * c11 + c01 * c10) * d01 + c01 * c11 * d11
    new_cov[..., 2] = p11 + c10 * c10 * d00 + 2 * c10 * c11 * d01 + c11 * c11 * d11
    return new_mean, new_cov


def _rank(owner: IntArray, order: IntArray, xywh: FloatArray) -> IntArray:
    """Renames tracks 1.. by the frame of their first box, then its x, then its y."""
    if not len(owner):
        return owner
    tracks, first = np.unique(owner, return_index=True)
    ranking = np.lexsort((tracks, xywh[first, 1], xywh[first, 0], order[first]))
    rank = np.empty(len(tracks), dtype=np.int64)
    rank[ranking] = np.arange(1, len(tracks) + 1)
    return np.asarray(rank[np.searchsorted(tracks, owner)])

"""Offline multi-object tracking: links the boxes of single frames into smoothed tracks.

The forward pass predicts every track with a constant-velocity Kalman filter and associates it
with a detection by the Hungarian method in two stages, high scores before low ones (Zhang et
al., "ByteTrack", 2022). The backward pass smooths each track (Rauch-Tung-Striebel) and bridges
its short gaps. All spans are in seconds, not frames, so that frame rates may vary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from auto_label.kalman import Noise, predict, smooth_step, start, to_boxes, update
from auto_label.models import Detections
from auto_label.overlap import iou, nms
from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.times import NS_PER_S

VERSION = 1
"""Increases when the same detections give different tracks."""


_KIN = (frozenset({"car", "truck", "bus", "train"}),)
"""Classes that detectors confuse: one track may contain detections of all of them."""


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """Parameters of linking; times in seconds, overlaps as IoU, scores from 0 to 1.

    Args:
        sure: score from which a detection takes part in the first association stage.
        birth: score from which an unassociated detection starts a track.
        overlap_sure: least overlap in the first stage.
        overlap_weak: least overlap in the second stage.
        margin: how far boxes are expanded before their overlap is taken, in parts of their
            size; keeps small, fast objects at low rates (Yang et al., "C-BIoU", 2023).
        same_object: overlap above which two detections of a frame are one object.
        lost_s: a track without a detection for longer ends.
        bridge_s: longest gap inside a track that is filled with smoothed boxes.
        min_hits: tracks with fewer detections are dropped.
        noise_frac: standard deviation of a box, in parts of its height.
        accel_frac: standard deviation of the acceleration, per s^2, likewise.
        speed_frac: standard deviation of a new track's velocity, per s, likewise.
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


MAX_DETECTIONS = 300
"""Detections of a frame that are linked, the best ones: more take cubic time to match."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """Boxes of tracks, ordered by track_id, then t_ns.

    Args:
        track_id: int64[n], from 1.
        t_ns: int64[n].
        class_index: int64[n] into `classes`, constant within a track.
        xywh: float64[n, 4] in pixels.
        score: float64[n].
        seen: bool[n], False where the box fills a gap between detections.
        classes: names of the classes.
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
    """The n living tracks at one frame: predicted and filtered states as in auto_label.kalman.

    `ids` rise; `dt` is the time in s since the frame before.
    """

    ids: IntArray
    predicted: FloatArray
    predicted_cov: FloatArray
    mean: FloatArray
    cov: FloatArray
    dt: float


@dataclass(slots=True)
class _Hits:
    """The detections that were associated with tracks, one array per frame."""

    track: list[IntArray] = field(default_factory=list)
    frame: list[IntArray] = field(default_factory=list)
    score: list[FloatArray] = field(default_factory=list)
    class_index: list[IntArray] = field(default_factory=list)


def link(t_ns: IntArray, detections: Sequence[Detections], spec: LinkSpec | None = None) -> Tracked:
    """Links the detections of one model on one camera.

    Args:
        t_ns: int64[n], the frames' times, strictly increasing.
        detections: the model's output on each frame.
        spec: parameters; the defaults if None.

    Returns:
        One smoothed box for every track and frame from its first to its last detection, without
        gaps longer than `bridge_s`. Tracks are numbered by the time, x and y of their first box.

    Raises:
        ValueError: times and detections differ in number, or times do not increase.

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
    forward = _Forward(_kin_groups(classes), spec)
    seconds = t_ns / NS_PER_S
    steps = np.diff(seconds, prepend=seconds[:1]).tolist()
    for now, dt, seen in zip(seconds.tolist(), steps, detections, strict=True):
        forward.add(now, dt, seen)
    return _collect(t_ns, forward.steps, forward.hits, classes, spec)


def _kin_groups(classes: tuple[str, ...]) -> IntArray:
    """Maps every class to its group; a track takes detections of one group only."""
    groups = np.arange(len(classes))
    for kin in _KIN:
        rows = [index for index, name in enumerate(classes) if name in kin]
        groups[rows] = min(rows, default=0)
    return groups


class _Forward:
    """The forward pass: the living tracks, and what became of them on every frame."""

    def __init__(self, kin: IntArray, spec: LinkSpec) -> None:
        self.steps: list[_Step] = []
        self.hits = _Hits()
        self._kin, self._spec = kin, spec
        self._noise = Noise(spec.noise_frac, spec.accel_frac, spec.speed_frac)
        self._ids: IntArray = np.empty(0, dtype=np.int64)
        self._group: IntArray = np.empty(0, dtype=np.int64)
        self._mean: FloatArray = np.empty((0, 4, 2))
        self._cov: FloatArray = np.empty((0, 1, 3))
        self._last_hit: FloatArray = np.empty(0)
        self._born = 0

    def add(self, now: float, dt: float, seen: Detections) -> None:
        """Predicts the tracks dt seconds ahead and associates them with a frame's detections."""
        self._drop_lost(now)
        mean, cov = predict(self._mean, self._cov, dt, self._noise)
        step = _Step(self._ids, mean, cov, mean, cov, dt)
        seen = seen.best(MAX_DETECTIONS)
        kept = nms(seen.xywh, seen.score, self._kin[seen.class_index], self._spec.same_object)
        xywh, score = seen.xywh[kept], seen.score[kept]
        class_index = seen.class_index[kept]
        group = self._kin[class_index]
        track, box = _match(to_boxes(mean), self._group, (xywh, score, group), self._spec)
        if len(track):
            step.mean, step.cov = mean.copy(), cov.copy()
            step.mean[track], step.cov[track] = update(
                mean[track], cov[track], xywh[box], self._noise
            )
            self._last_hit[track] = now
        free = score >= self._spec.birth
        free[box] = False
        new = np.flatnonzero(free)
        if len(new):
            first = len(step.ids)
            self._start(step, xywh[new], group[new], now)
            track = np.concatenate([track, np.arange(first, len(step.ids))])
            box = np.concatenate([box, new])
        self._ids, self._mean, self._cov = step.ids, step.mean, step.cov
        self.hits.track.append(step.ids[track])
        self.hits.frame.append(np.full(len(track), len(self.steps)))
        self.hits.score.append(score[box])
        self.hits.class_index.append(class_index[box])
        self.steps.append(step)

    def _drop_lost(self, now: float) -> None:
        alive = now - self._last_hit <= self._spec.lost_s
        if not alive.all():
            self._ids, self._mean, self._cov = self._ids[alive], self._mean[alive], self._cov[alive]
            self._group, self._last_hit = self._group[alive], self._last_hit[alive]

    def _start(self, step: _Step, xywh: FloatArray, group: IntArray, now: float) -> None:
        """Appends new tracks to a step."""
        mean, cov = start(xywh, self._noise)
        step.ids = np.concatenate([step.ids, self._born + np.arange(len(xywh))])
        step.mean, step.cov = np.concatenate([step.mean, mean]), np.concatenate([step.cov, cov])
        step.predicted = np.concatenate([step.predicted, mean])
        step.predicted_cov = np.concatenate([step.predicted_cov, cov])
        self._group = np.concatenate([self._group, group])
        self._last_hit = np.concatenate([self._last_hit, np.full(len(xywh), now)])
        self._born += len(xywh)


def _match(
    tracks: FloatArray,
    track_group: IntArray,
    boxes: tuple[FloatArray, FloatArray, IntArray],
    spec: LinkSpec,
) -> tuple[IntArray, IntArray]:
    """Associates tracks with boxes: high scores first, then low scores with the remaining tracks.

    Returns:
        Rows of `tracks` and of `boxes`, int64[k] each.
    """
    xywh, score, box_group = boxes
    none = np.empty(0, dtype=np.int64)
    if not len(tracks) or not len(xywh):
        return none, none
    overlap = iou(_widen(tracks, spec.margin), _widen(xywh, spec.margin))
    overlap[track_group[:, None] != box_group] = 0.0
    sure = score >= spec.sure
    # The score decides between boxes that overlap a track equally.
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


def _collect(
    t_ns: IntArray, steps: list[_Step], hits: _Hits, classes: tuple[str, ...], spec: LinkSpec
) -> Tracked:
    """Smooths the tracks, drops those with few detections and long gaps, and orders the rows."""
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
    # Rows are ordered by track and time; each looks up the detections before and after it.
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
    xywh = to_boxes(smooth)
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
    """Runs the Rauch-Tung-Striebel smoother over all tracks, each from its last detection.

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
            got, got_cov = smooth_step(
                now[follows],
                now_cov[follows],
                (later.predicted[rows], later.predicted_cov[rows]),
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


def _rank(owner: IntArray, order: IntArray, xywh: FloatArray) -> IntArray:
    """Numbers tracks from 1 by the frame, then x, then y of their first box."""
    if not len(owner):
        return owner
    tracks, first = np.unique(owner, return_index=True)
    ranking = np.lexsort((tracks, xywh[first, 1], xywh[first, 0], order[first]))
    rank = np.empty(len(tracks), dtype=np.int64)
    rank[ranking] = np.arange(1, len(tracks) + 1)
    return np.asarray(rank[np.searchsorted(tracks, owner)])

"""Boxes of two sources on the same frames: which of them are of the same object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import linear_sum_assignment

from auto_label.overlap import paired_iou
from schemas.arrays import AnyArray, FloatArray, IntArray

MATCH_IOU = 0.5
"""Least IoU of two boxes of one object."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """k matched boxes: their rows on either side, int64[k] each, and their IoU, float64[k]."""

    first: IntArray
    second: IntArray
    iou: FloatArray


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes column by column.

    Args:
        view: int64[n], the row of the answers, that is, the camera of an event.
        track_id: int64[n].
        t_ns: int64[n].
        name: object[n], the class.
        xywh: float64[n, 4] in pixels.
    """

    view: IntArray
    track_id: IntArray
    t_ns: IntArray
    name: AnyArray
    xywh: FloatArray

    def at(self, rows: AnyArray) -> Boxes:
        """Returns the boxes of some rows, given by their numbers or by a mask."""
        return Boxes(
            self.view[rows],
            self.track_id[rows],
            self.t_ns[rows],
            self.name[rows],
            self.xywh[rows],
        )


class Lookup:
    """Finds rows by two numbers.

    >>> Lookup(np.array([1, 1, 2]), np.array([7, 8, 7])).find(np.array([2, 1]), np.array([7, 9]))
    array([ 2, -1])
    """

    def __init__(self, first: IntArray, second: IntArray) -> None:
        self._seconds = np.unique(second)
        keys = first * len(self._seconds) + np.searchsorted(self._seconds, second)
        self._keys, self._rows = np.unique(keys, return_index=True)

    def find(self, first: IntArray, second: IntArray) -> IntArray:
        """Returns the row of each pair, int64[n]; -1 where there is none."""
        if not len(self._keys):
            return np.full(len(first), -1, dtype=np.int64)
        place = np.searchsorted(self._seconds, second)
        known = self._seconds[np.minimum(place, len(self._seconds) - 1)] == second
        keys = first * len(self._seconds) + place
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(known & (self._keys[at] == keys), self._rows[at], -1).astype(np.int64)


def views_of(rows: pa.Table, answers: pa.Table) -> IntArray:
    """Returns the row of `answers` with the event_id and camera of each row; -1 if none has."""
    at = pc.index_in(_view_names(rows), value_set=_view_names(answers))
    return np.asarray(pc.fill_null(at, -1).to_numpy(), dtype=np.int64)


def frames_of(answers: pa.Table, column: str = "frames_ns") -> tuple[IntArray, IntArray]:
    """Returns of each listed frame its row of the answers and its time, int64[n] each."""
    listed = answers.column(column).combine_chunks()
    return (
        np.asarray(pc.list_parent_indices(listed), dtype=np.int64),
        np.asarray(pc.list_flatten(listed), dtype=np.int64),
    )


def model_boxes(rows: pa.Table, answers: pa.Table) -> Boxes:
    """Returns rows of `boxes` as boxes of the answers on their cameras, in the same order."""
    return Boxes(views_of(rows, answers), *_columns(rows))


def reviewed_boxes(answers: pa.Table) -> Boxes:
    """Returns the boxes of answers."""
    listed = answers.column("boxes").combine_chunks()
    view = np.asarray(pc.list_parent_indices(listed), dtype=np.int64)
    rows = pa.Table.from_struct_array(pc.list_flatten(listed))
    return Boxes(view, *_columns(rows))


def number_names(names: AnyArray) -> IntArray:
    """Numbers strings in the order in which they first occur, int64[n] from object[n]."""
    codes = pa.array(names, pa.string()).dictionary_encode().indices
    return np.asarray(codes.to_numpy(), dtype=np.int64)


def match_boxes(a: Boxes, b: Boxes) -> Pairs:
    """Matches boxes that are on the same frame of the same view and of the same class."""
    name = number_names(np.concatenate([a.name, b.name]))
    _, time = np.unique(np.concatenate([a.t_ns, b.t_ns]), return_inverse=True)
    view = np.concatenate([a.view, b.view])
    group = (view * (time.max(initial=0) + 1) + time) * (name.max(initial=0) + 1) + name
    return match(group[: len(a.view)], a.xywh, group[len(a.view) :], b.xywh)


def match(group_a: IntArray, a: FloatArray, group_b: IntArray, b: FloatArray) -> Pairs:
    """Matches boxes within groups, one to one.

    Each group has as many pairs of an IoU of at least MATCH_IOU as it can, and of all such
    assignments the one with the greatest sum of IoU.

    Args:
        group_a: int64[n], the groups of `a`.
        a: float64[n, 4], x, y, w, h.
        group_b: int64[m], the groups of `b`.
        b: float64[m, 4].

    Returns:
        The pairs, ordered by their row of `a`.
    """
    first, second = _same_group(group_a, group_b)
    overlap = paired_iou(a[first], b[second])
    near = overlap >= MATCH_IOU
    first, second, overlap = first[near], second[near], overlap[near]
    # A pair of boxes that are near no others needs no assignment, and few boxes are.
    sole = (np.bincount(first)[first] == 1) & (np.bincount(second)[second] == 1)
    kept = [np.flatnonzero(sole)]
    contested = np.flatnonzero(~sole)
    contested = contested[np.argsort(group_a[first[contested]], kind="stable")]
    starts = np.flatnonzero(np.diff(group_a[first[contested]])) + 1
    for rows in np.split(contested, starts):
        if len(rows):
            kept.append(rows[_assign(first[rows], second[rows], overlap[rows])])
    chosen = np.concatenate(kept)
    chosen = chosen[np.argsort(first[chosen], kind="stable")]
    return Pairs(first[chosen], second[chosen], overlap[chosen])


def _same_group(group_a: IntArray, group_b: IntArray) -> tuple[IntArray, IntArray]:
    """Returns the rows of all pairs of the same group, int64[k] each."""
    order = np.argsort(group_b, kind="stable")
    start = np.searchsorted(group_b[order], group_a, "left")
    count = np.searchsorted(group_b[order], group_a, "right") - start
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    first = np.repeat(np.arange(len(group_a)), count)
    return first, np.asarray(order[np.repeat(start, count) + within])


def _assign(first: IntArray, second: IntArray, overlap: FloatArray) -> IntArray:
    """Returns which of the pairs of one group are assigned, as rows of the arguments."""
    rows, row = np.unique(first, return_inverse=True)
    columns, column = np.unique(second, return_inverse=True)
    # One more pair outweighs whatever overlap the others lose by it.
    worth = np.zeros((len(rows), len(columns)))
    worth[row, column] = min(worth.shape) + overlap
    found = np.zeros(worth.shape, dtype=np.bool_)
    found[linear_sum_assignment(worth, maximize=True)] = True
    return np.flatnonzero(found[row, column])


def _columns(rows: pa.Table) -> tuple[IntArray, IntArray, AnyArray, FloatArray]:
    """Returns track_id, t_ns, class and xywh of rows with boxes."""
    xywh = [rows.column(name).to_numpy() for name in ("x_px", "y_px", "w_px", "h_px")]
    return (
        rows.column("track_id").to_numpy(),
        rows.column("t_ns").to_numpy(),
        rows.column("class").to_numpy(zero_copy_only=False),
        np.column_stack(xywh),
    )


def _view_names(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows.column("event_id"), rows.column("camera"), "\n")

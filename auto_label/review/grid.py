"""All cameras of an event in one picture: where each is, and which pictures are shown together.

Cameras have clocks and rates of their own. So that no picture is lost, a frame of the grid shows
the pictures that were taken within half a step of the fastest camera, and of a camera without one
among these its last picture again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from schemas.arrays import Image, IntArray
from transforms.video.decode import Frame


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a camera's picture is in the grid, px."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The size of a grid, px, and the cell of each camera."""

    width: int
    height: int
    cells: tuple[Cell, ...]


def lay_out(sizes: Sequence[tuple[int, int]], max_width: int) -> Layout:
    """Arranges cameras row by row, as wide as high in number, none larger than it is.

    Args:
        sizes: width and height of each camera's pictures, px.
        max_width: of the grid, px.

    >>> lay_out([(1280, 960)] * 3, 960)  # doctest: +NORMALIZE_WHITESPACE
    Layout(width=960, height=720, cells=(Cell(x=0, y=0, width=480, height=360),
        Cell(x=480, y=0, width=480, height=360), Cell(x=0, y=360, width=480, height=360)))
    """
    columns = math.ceil(math.sqrt(len(sizes)))
    rows = math.ceil(len(sizes) / columns)
    width = min(max_width // columns, max(width for width, _ in sizes))
    fitted = [_fitted(size, width) for size in sizes]
    height = max(height for _, height in fitted)
    cells = tuple(
        Cell(place % columns * width, place // columns * height, *size)
        for place, size in enumerate(fitted)
    )
    # 4:2:0 needs even sides.
    return Layout(columns * width + columns * width % 2, rows * height + rows * height % 2, cells)


def _fitted(size: tuple[int, int], width: int) -> tuple[int, int]:
    scale = min(1.0, width / size[0])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def tile(
    cameras: Sequence[Iterable[Frame]],
    times: Sequence[IntArray],
    sizes: Sequence[tuple[int, int]],
    layout: Layout,
) -> Iterator[tuple[Frame, tuple[int | None, ...]]]:
    """Shows the pictures of several cameras side by side.

    Args:
        cameras: the pictures of each, in temporal order; a picture may be padded.
        times: int64[n] of each, rising: the times at which pictures may come.
        sizes: width and height of each camera's pictures, px.
        layout: where they are shown.

    Yields:
        A frame of the grid at the time of its first new picture, and the time of the picture that
        it shows of each camera: None before a camera's first one.
    """
    canvas: Image = np.zeros((layout.height, layout.width, 3), np.uint8)
    shown: list[int | None] = [None] * len(cameras)
    steps = [float(np.median(np.diff(own))) for own in times if len(own) > 1]
    span_ns = min(steps, default=0.0) / 2
    start_ns, fresh = 0, set[int]()
    for number, frame in heapq.merge(
        *(_numbered(number, frames) for number, frames in enumerate(cameras)),
        key=lambda one: one[1].t_ns,
    ):
        if fresh and (number in fresh or frame.t_ns - start_ns > span_ns):
            yield Frame(start_ns, canvas.copy()), tuple(shown)
            fresh = set()
        if not fresh:
            start_ns = frame.t_ns
        fresh.add(number)
        shown[number] = frame.t_ns
        cell, (width, height) = layout.cells[number], sizes[number]
        canvas[cell.y : cell.y + cell.height, cell.x : cell.x + cell.width] = cv2.resize(
            frame.image[:height, :width], (cell.width, cell.height), interpolation=cv2.INTER_AREA
        )
    if fresh:
        yield Frame(start_ns, canvas.copy()), tuple(shown)


def _numbered(number: int, frames: Iterable[Frame]) -> Iterator[tuple[int, Frame]]:
    for frame in frames:
        yield number, frame

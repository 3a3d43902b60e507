"""Renders what a camera sees of a drive, with the bounding box of every visible actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from schemas.arrays import FloatArray, Image
from schemas.times import NS_PER_S
from synth.bodies import (
    SUBPIXEL_BITS,
    Lamp,
    Outline,
    draw_person,
    draw_vehicle,
    fill_polygons,
    fixed_point,
)
from synth.camera import MOUNTS, NEAR_M, Pinhole, Road, clip_near, pinhole
from synth.profiles import SIM_HZ
from synth.recorded import Drive
from synth.script import LANE_M
from synth.spec import FleetSpec, rng
from synth.traffic import KERB_M, SIZES_M, Actor

Boxes = dict[str, list[Any]]
"""Columns of synth.truth.BOXES without drive and log_name."""

FAR_M = 110.0
SMALLEST_PX = 3.0
_LEFT_EDGE_M = 3.5 * LANE_M + 0.6
_GRASS, _PAVEMENT, _ASPHALT, _PAINT = (70, 110, 90), (150, 155, 155), (82, 80, 78), (225, 228, 228)
_LINES_M = (-LANE_M / 2, 1.5 * LANE_M, 1.5 * LANE_M + 0.4)
_STRIPS = (
    ((KERB_M - 2.4, _LEFT_EDGE_M + 2.4), _PAVEMENT),
    ((KERB_M, _LEFT_EDGE_M), _ASPHALT),
    *(((d - 0.12 / 2, d + 0.12 / 2), _PAINT) for d in _LINES_M),
)
"""Right and left edge, as offsets in m from the first lane's centre line, and colour.

The bottom layer comes first."""
_REACH_M = {kind: float(np.hypot(*size[:2])) / 2 + 0.5 for kind, size in SIZES_M.items()}
"""Radius around an actor of a class that contains its limbs, lamps and shadow."""
_BOX_COLUMNS = (
    "camera",
    "t_ns",
    "track_id",
    "class",
    "x_px",
    "y_px",
    "w_px",
    "h_px",
    "occluded_frac",
)


class Painter:
    """Renders pictures of one camera of one drive, uint8[height, width, 3] BGR."""

    def __init__(self, spec: FleetSpec, drive: Drive, camera: str) -> None:
        self._drive, self._camera = drive, camera
        self._size = (spec.width, spec.height)
        self._road = Road(drive.motion)
        self._actors = drive.traffic.actors
        knots = [(a.knots[0, 0], a.knots[-1, 0]) for a in self._actors]
        self._alive = np.array(knots).reshape(-1, 2)
        self._back = _backdrop(spec.width, spec.height)
        # Detectors are trained on photographs: with blur and grain they find twice as many cars.
        self._blur_px = spec.width // 320
        dice = rng(spec.seed, drive.index, f"grain {camera}")
        self._grain = dice.integers(0, 21, self._back.shape, np.uint8)
        self._light = _headlights(spec.width, spec.height, camera) if drive.dark else None

    def frame_renderer(
        self, t_s: FloatArray, boxes: list[Boxes], shown_s: float = 0.0
    ) -> Callable[[int], Image]:
        """Returns a function that renders frame k of the given times.

        Args:
            t_s: times of the frames, from the drive's start.
            boxes: a table is appended to it, which gains the rows of every frame rendered.
            shown_s: frames before this time are hidden by the edit list and get no rows.

        Returns:
            The function; its pictures share a buffer, so each is valid until the next call.
        """
        table: Boxes = {name: [] for name in _BOX_COLUMNS}
        boxes.append(table)
        canvas = np.empty_like(self._back)

        def draw(k: int) -> Image:
            picture, rows = self.draw(float(t_s[k]), canvas=canvas)
            for row in rows if t_s[k] >= shown_s else ():
                for name, value in zip(_BOX_COLUMNS, row, strict=True):
                    table[name].append(value)
            return picture

        return draw

    def draw(
        self, t_s: float, without: int | None = None, canvas: Image | None = None
    ) -> tuple[Image, list[tuple[Any, ...]]]:
        """Renders the picture at one time; returns it with the rows of its boxes.

        Args:
            t_s: time from the drive's start.
            without: track_id of an actor to leave out.
            canvas: the picture to overwrite; a new one if None.
        """
        view, s = self._view(t_s)
        picture = np.empty_like(self._back) if canvas is None else canvas
        np.copyto(picture, self._back)
        self._draw_road(picture, view, s)
        lamps: list[Lamp] = []
        drawn: list[tuple[Actor, Outline]] = []
        for actor, pose in self._in_view(view, t_s, s):
            if actor.track_id == without:
                continue
            if actor.kind == "person":
                outline = draw_person(picture, view, actor, pose, t_s)
            else:
                outline = draw_vehicle(picture, view, actor, pose, lamps)
            if outline is not None:
                drawn.append((actor, outline))
        if self._blur_px > 1:
            cv2.blur(picture, (self._blur_px, self._blur_px), dst=picture)
        cv2.add(picture, self._grain, dst=picture)
        if self._light is not None:
            cv2.multiply(picture, self._light, dst=picture, scale=1 / 255)
            for centre, radius, colour in lamps:
                cv2.circle(
                    picture,
                    fixed_point(centre).tolist(),
                    max(1, round(radius * (1 << SUBPIXEL_BITS))),
                    colour,
                    -1,
                    cv2.LINE_8,
                    SUBPIXEL_BITS,
                )
        return picture, self._rows(drawn, t_s)

    def _view(self, t_s: float) -> tuple[Pinhole, float]:
        motion = self._drive.motion
        at = min(max(0.0, t_s * SIM_HZ), len(motion.t_s) - 1.0)
        low = min(int(at), len(motion.t_s) - 2)
        share = at - low

        def interpolated(values: FloatArray) -> float:
            return float(values[low] * (1 - share) + values[low + 1] * share)

        view = pinhole(
            self._camera,
            interpolated(motion.x_m),
            interpolated(motion.y_m),
            interpolated(motion.heading_rad),
            self._size,
        )
        return view, interpolated(motion.s_m)

    def _in_view(self, view: Pinhole, t_s: float, s: float) -> list[tuple[Actor, FloatArray]]:
        """Lists the actors in the field of view with poses (x m, y m, rad), farthest first."""
        found: list[tuple[float, Actor, FloatArray]] = []
        for k in np.flatnonzero((self._alive[:, 0] <= t_s) & (t_s < self._alive[:, 1])):
            actor = self._actors[k]
            actor_s, actor_d = actor.at(t_s)
            if abs(actor_s - s) > FAR_M:
                continue
            places, headings = self._road.at(np.array([actor_s]), np.array([actor_d]))
            heading = float(headings[0]) + (0.0 if actor.facing >= 0 else np.pi)
            away = float(np.hypot(places[0, 0] - view.x_m, places[0, 1] - view.y_m))
            reach_m = _REACH_M[actor.kind]
            if away < FAR_M and view.may_show(places[0, 0], places[0, 1], reach_m):
                found.append((away, actor, np.append(places[0], heading)))
        found.sort(key=lambda entry: (-entry[0], entry[1].track_id))
        return [entry[1:] for entry in found]

    def _draw_road(self, picture: Image, view: Pinhole, s: float) -> None:
        reach = np.concatenate(
            [np.arange(0, 12, 0.5), np.arange(12, 40, 2.0), np.arange(40, 131, 6)]
        )
        along = s + np.concatenate([-reach[:0:-1], reach])
        edges = np.array([span for span, _ in _STRIPS])
        sides = self._ground(view, along, edges[..., None])
        for (right, left), (_, colour) in zip(sides, _STRIPS, strict=True):
            outline = clip_near(np.concatenate([right, left[::-1]]))
            if len(outline) > 2:
                fill_polygons(picture, [view.project(outline)], colour)
        dashes = np.arange(np.floor((s - 40) / 9), np.ceil((s + 90) / 9)) * 9.0
        for d in (LANE_M / 2, 2.5 * LANE_M + 0.6):
            corners_s = dashes[:, None] + np.array([0.0, 3.0, 3.0, 0.0])
            corners_d = np.broadcast_to(d + np.array([-0.07, -0.07, 0.07, 0.07]), corners_s.shape)
            seen = self._ground(view, corners_s, corners_d)
            whole = seen[(seen[..., 0] > NEAR_M).all(axis=1)]
            if len(whole):
                fill_polygons(picture, list(view.project(whole)), _PAINT)

    def _ground(self, view: Pinhole, s: FloatArray, d: FloatArray) -> FloatArray:
        places, _ = self._road.at(s, d)
        return view.to_camera(np.concatenate([places, np.zeros((*places.shape[:-1], 1))], axis=-1))

    def _rows(self, drawn: list[tuple[Actor, Outline]], t_s: float) -> list[tuple[Any, ...]]:
        """Lists the boxes of drawn actors, which are ordered farthest first."""
        width, height = self._size
        boxes = [np.clip(outline, 0, [width, height, width, height]) for _, outline in drawn]
        rows = []
        for k, ((actor, _), box) in enumerate(zip(drawn, boxes, strict=True)):
            w, h = box[2] - box[0], box[3] - box[1]
            if min(w, h) < SMALLEST_PX:
                continue
            hidden = _hidden(box, boxes[k + 1 :])
            size = (float(box[0]), float(box[1]), float(w), float(h))
            t_ns = round(t_s * NS_PER_S)
            rows.append((self._camera, t_ns, actor.track_id, actor.kind, *size, hidden))
        return rows


def _hidden(box: FloatArray, nearer: list[FloatArray]) -> float:
    """Estimates the share of a box that nearer ones cover, from a grid of 16 x 16 points."""
    u = box[0] + (np.arange(16) + 0.5) / 16 * (box[2] - box[0])
    v = box[1] + (np.arange(16) + 0.5) / 16 * (box[3] - box[1])
    covered = np.zeros((16, 16), np.bool_)
    for other in nearer:
        columns = (u >= other[0]) & (u < other[2])
        covered |= columns & ((v >= other[1]) & (v < other[3]))[:, None]
    return float(covered.mean())


def _backdrop(width: int, height: int) -> Image:
    """Renders the background: sky above the horizon, grass below."""
    rows = np.arange(height)[:, None] / height
    sky = np.array([235, 206, 160]) + rows * 2 * (np.array([240, 232, 222]) - [235, 206, 160])
    ground = np.array(_GRASS) * (0.75 + 0.5 * (rows - 0.5))
    column = np.where(rows < 0.5, sky, ground).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(column[:, None, :], (height, width, 3)))


def _headlights(width: int, height: int, camera: str) -> Image:
    """Maps the illumination of pixels at night, 255 as by day: headlights ahead, dim elsewhere."""
    v, u = np.mgrid[0:height, 0:width]
    sky = v < height / 2
    light = np.where(sky, 8.0, 22.0)
    if camera == "front":
        far = (u - width / 2) / (0.42 * width)
        low = (v - 0.66 * height) / (0.2 * height)
        light = light + np.where(v < 0.46 * height, 0, 140 * np.exp(-(far**2) - low**2))
    elif MOUNTS[camera][3]:
        light = light + np.where(sky, 0, 10.0)
    return np.repeat(light.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)

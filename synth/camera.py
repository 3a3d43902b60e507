"""Geometry: the road on the map, and pinhole cameras mounted on the car."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import FloatArray
from synth.motion import Motion

NEAR_M = 0.4
"""Depth of the near plane: nothing closer to a camera is drawn."""
MOUNTS: dict[str, tuple[float, float, float, float, float]] = {
    "front": (1.9, 0.0, 1.4, 0.0, 66.0),
    "back": (-0.9, 0.0, 1.1, 180.0, 100.0),
    "left_repeater": (2.3, 1.0, 0.9, 150.0, 80.0),
    "right_repeater": (2.3, -1.0, 0.9, -150.0, 80.0),
}
"""Extrinsics and field of view: x, y, z in m from the ground below the middle of the rear axle,
yaw and horizontal field of view in degrees."""


class Road:
    """The centre line of the first lane by distance s driven, extended straight at both ends."""

    def __init__(self, motion: Motion) -> None:
        far = 400.0
        fresh = np.concatenate([[True], np.diff(np.floor(motion.s_m / 0.5)) > 0])
        s, heading = motion.s_m[fresh], motion.road_heading_rad[fresh]
        x = motion.x_m[fresh] + motion.offset_m[fresh] * np.sin(heading)
        y = motion.y_m[fresh] - motion.offset_m[fresh] * np.cos(heading)
        first, last = ((np.cos(heading[k]), np.sin(heading[k])) for k in (0, -1))
        self._s = np.concatenate([[s[0] - far], s, [s[-1] + far]])
        self._x = np.concatenate([[x[0] - far * first[0]], x, [x[-1] + far * last[0]]])
        self._y = np.concatenate([[y[0] - far * first[1]], y, [y[-1] + far * last[1]]])
        self._heading = np.concatenate([heading[:1], heading, heading[-1:]])

    def at(self, s: FloatArray, d: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Converts road coordinates to the map.

        Args:
            s: distance along the road in m.
            d: offset to its left in m.

        Returns:
            Map positions float64[..., 2] in m, and the road's heading in rad at every `s`.
        """
        heading = np.interp(s, self._s, self._heading)
        x = np.interp(s, self._s, self._x) - d * np.sin(heading)
        y = np.interp(s, self._s, self._y) + d * np.cos(heading)
        return np.stack([x, y], axis=-1), heading


@dataclass(frozen=True, slots=True)
class Pinhole:
    """One level pinhole camera at one instant: pose on the map, intrinsics in pixels."""

    x_m: float
    y_m: float
    z_m: float
    heading_rad: float
    focal_px: float
    width: int
    height: int

    def to_camera(self, points: FloatArray) -> FloatArray:
        """Transforms map points float64[..., 3] to the camera's frame: depth, left, up in m."""
        cos, sin = np.cos(self.heading_rad), np.sin(self.heading_rad)
        x, y = points[..., 0] - self.x_m, points[..., 1] - self.y_m
        out = np.empty_like(points)  # np.stack would take most of the time of a few points
        out[..., 0] = x * cos + y * sin
        out[..., 1] = y * cos - x * sin
        out[..., 2] = points[..., 2] - self.z_m
        return out

    def project(self, points: FloatArray) -> FloatArray:
        """Projects points of the camera's frame, of depth > 0, to pixels float64[..., 2].

        >>> camera = Pinhole(0, 0, 1.5, 0, 100.0, 64, 48)
        >>> camera.project(camera.to_camera(np.array([10.0, 0.0, 0.0]))).tolist()
        [32.0, 39.0]
        """
        scale = self.focal_px / points[..., 0]
        out = np.empty((*points.shape[:-1], 2))
        out[..., 0] = self.width / 2 - points[..., 1] * scale
        out[..., 1] = self.height / 2 - points[..., 2] * scale
        return out

    def may_show(self, x_m: float, y_m: float, radius_m: float) -> bool:
        """Tells whether an upright cylinder reaches into the horizontal field of view.

        Conservative by two pixels; True also for a cylinder above or below the picture.
        """
        depth, left, _ = self.to_camera(np.array([x_m, y_m, 0.0])).tolist()
        if depth + radius_m < NEAR_M:
            return False
        slope = (self.width / 2 + 2) / self.focal_px
        return bool(abs(left) - depth * slope <= radius_m * np.hypot(1, slope))


def pinhole(
    camera: str, x_m: float, y_m: float, heading_rad: float, size: tuple[int, int]
) -> Pinhole:
    """Places a camera on the map, for a pose of the car and an image size (width, height)."""
    ahead, left, up, yaw, fov = MOUNTS[camera]
    cos, sin = np.cos(heading_rad), np.sin(heading_rad)
    return Pinhole(
        x_m + ahead * cos - left * sin,
        y_m + ahead * sin + left * cos,
        up,
        heading_rad + np.radians(yaw),
        size[0] / 2 / np.tan(np.radians(fov / 2)),
        *size,
    )


def clip_near(polygon: FloatArray) -> FloatArray:
    """Clips a polygon of the camera's frame, float64[n, 3], at NEAR_M (Sutherland-Hodgman).

    >>> len(clip_near(np.array([[1.0, 0, 0], [-1.0, 0, 0], [1.0, 1, 0]])))
    4
    """
    ahead = polygon[:, 0] >= NEAR_M
    if ahead.all():
        return polygon
    if not ahead.any():
        return polygon[:0]
    before = np.roll(polygon, 1, axis=0)
    cut = ahead != np.roll(ahead, 1)
    share = (NEAR_M - before[:, 0]) / np.where(cut, polygon[:, 0] - before[:, 0], 1.0)
    crossing = before + share[:, None] * (polygon - before)
    return np.asarray(np.stack([crossing, polygon], axis=1)[np.stack([cut, ahead], axis=1)])

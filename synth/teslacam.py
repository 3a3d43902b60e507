"""Writes a drive as a TeslaCam event folder, as a Tesla does on its USB drive.

OUT/<vehicle>/TeslaCam/SavedClips/<stamp>/ has <stamp>-<camera>.mp4 of one minute each, and
event.json. Every frame has its telemetry in an SEI NAL unit, except in telemetry gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
from fsspec.spec import AbstractFileSystem

from schemas.arrays import FloatArray
from synth.clips import CAMERA_HZ, clip, write_clip
from synth.pictures import Boxes, Painter
from synth.profiles import DT_S, SIM_HZ
from synth.recorded import Drive
from synth.script import Injected
from synth.spec import FleetSpec, rng
from synth.written import Written
from transforms.video.sei import Telemetry, encode_sei

CLIP_S = 60
_GAP_CLEAR_S = 1.5
_LINEAR = (
    "speed_mps",
    "accelerator_frac",
    "steering_angle_rad",
    "lat_deg",
    "lon_deg",
    "accel_x_mps2",
    "accel_y_mps2",
    "accel_z_mps2",
)
_STATES = ("gear", "blinker_left", "blinker_right", "brake_on")
_AEB = "vehicle_auto_emergency_braking"


def write_teslacam(spec: FleetSpec, drive: Drive, fs: AbstractFileSystem, root: str) -> Written:
    """Writes one drive below `root`, a path of `fs`."""
    stamp = drive.start.strftime("%Y-%m-%d_%H-%M-%S")
    name = f"{drive.vehicle}/TeslaCam/SavedClips/{stamp}"
    folder = f"{root}/{name}"
    fs.makedirs(folder, exist_ok=True)
    boxes: list[Boxes] = []
    files = 0
    gaps = _gaps(spec, drive)
    for camera in spec.cameras if spec.video else ("front",):
        painter = Painter(spec, drive, camera) if spec.video else None
        for minute, start_s, length_s in _minutes(len(drive.motion.t_s) * DT_S):
            frames = clip(
                rng(spec.seed, drive.index, f"clip {camera} {minute}"), length_s, spec.gaps
            )
            t_s = start_s + frames.t_s
            begun = (drive.start + timedelta(seconds=start_s)).strftime("%Y-%m-%d_%H-%M-%S")
            draw = painter.frame_renderer(t_s, boxes, float(start_s)) if painter else None
            telemetry = _telemetry(drive, t_s, gaps)
            with fs.open(f"{folder}/{begun}-{camera}.mp4", "wb") as out:
                write_clip(out, frames, telemetry, draw, (spec.width, spec.height))
            files += 1
    annotation, extra = _event_json(drive)
    fs.pipe_file(f"{folder}/event.json", annotation)
    return Written(name, files, tuple(extra), tuple(boxes))


def _minutes(duration_s: float) -> Iterator[tuple[int, int, float]]:
    """Splits a drive into files: number, start and length in s."""
    for minute in range(math.ceil(duration_s / CLIP_S)):
        start = minute * CLIP_S
        yield minute, start, min(float(CLIP_S), duration_s - start)


def _gaps(spec: FleetSpec, drive: Drive) -> FloatArray:
    """Draws the telemetry gaps, float64[k, 2] of (start, end) s, away from injected events."""
    dice = rng(spec.seed, drive.index, "gaps")
    duration_s = len(drive.motion.t_s) * DT_S
    starts = np.sort(dice.uniform(0, duration_s, dice.poisson(spec.gaps * duration_s / 60)))
    spans = np.stack([starts, starts + dice.uniform(0.2, 1.2, len(starts))], axis=1)
    busy = np.array([[e.start, e.end] for e in drive.script.events]).reshape(-1, 2) * DT_S
    near = (spans[:, None, 0] < busy[None, :, 1] + _GAP_CLEAR_S) & (
        spans[:, None, 1] > busy[None, :, 0] - _GAP_CLEAR_S
    )
    return np.asarray(spans[~near.any(axis=1)])


def _telemetry(drive: Drive, t_s: FloatArray, gaps: FloatArray) -> list[bytes]:
    """Encodes the sensed signals at every frame as SEI NAL units; b"" in a gap."""
    at = np.clip(t_s * SIM_HZ, 0.0, len(drive.motion.t_s) - 1.0)
    steps = np.arange(int(at[0]), int(at[-1]) + 2)[: len(drive.motion.t_s) - int(at[0])]
    floats = {name: np.interp(at, steps, drive.sensed[name][steps]).tolist() for name in _LINEAR}
    nearest = at.round().astype(np.int64)
    states = {name: drive.sensed[name][nearest].tolist() for name in _STATES}
    engaged = drive.sensed["engaged"][nearest].astype(np.int64).tolist()
    heading = np.interp(at, steps, np.unwrap(drive.sensed["heading_rad"][steps])).tolist()
    silent = np.zeros(len(t_s), np.bool_)
    for begin, end in gaps:
        silent |= (t_s >= begin) & (t_s < end)
    first = max(0, round(float(t_s[0]) * CAMERA_HZ))
    return [
        b""
        if silent[k]
        else encode_sei(
            Telemetry(
                frame_seq_no=first + k,
                heading_rad=heading[k],
                autopilot=engaged[k],
                **{name: values[k] for name, values in floats.items()},
                **{name: values[k] for name, values in states.items()},
            )
        )
        for k in range(len(t_s))
    ]


def _event_json(drive: Drive) -> tuple[bytes, list[Injected]]:
    """Returns the content of event.json, and the true event that it marks, if any.

    The first hard brake of a drive counts as automatic emergency braking; a drive without one
    was saved by the driver. The time of the annotation is in whole seconds.
    """
    brake = next((e for e in drive.script.events if e.type == "hard_brake"), None)
    step = brake.anchor if brake else len(drive.motion.t_s) - 1
    whole_s = step // SIM_HZ
    annotation = {
        "timestamp": (drive.start + timedelta(seconds=whole_s)).isoformat(),
        "city": "Synthville",
        "street": "Example Road",
        "est_lat": f"{drive.sensed['lat_deg'][step]:.6f}",
        "est_lon": f"{drive.sensed['lon_deg'][step]:.6f}",
        "reason": _AEB if brake else "user_interaction_dashcam_icon_tapped",
        "camera": "0",
    }
    extra = []
    if brake:
        at = whole_s * SIM_HZ
        extra.append(Injected("aeb", min(at, brake.start), at, brake.end, {}))
    return (json.dumps(annotation, indent=2) + "\n").encode(), extra

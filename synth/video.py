"""Writes a drive as one MP4 file of its front camera, 25 frames/s, without telemetry."""

from __future__ import annotations

from fsspec.spec import AbstractFileSystem

from synth.clips import even_clip, write_clip
from synth.pictures import Boxes, Painter
from synth.profiles import DT_S
from synth.recorded import Drive
from synth.spec import FleetSpec
from synth.written import Written

FPS = 25


def write_video(spec: FleetSpec, drive: Drive, fs: AbstractFileSystem, root: str) -> Written:
    """Writes one drive below `root`, a path of `fs`."""
    name = f"{drive.vehicle}/{drive.name}-front.mp4"
    frames = even_clip(len(drive.motion.t_s) * DT_S, FPS)
    boxes: list[Boxes] = []
    draw = None
    if spec.video:
        draw = Painter(spec, drive, "front").frame_renderer(frames.t_s, boxes)
    fs.makedirs(f"{root}/{drive.vehicle}", exist_ok=True)
    with fs.open(f"{root}/{name}", "wb") as out:
        write_clip(out, frames, [b""] * len(frames.ticks), draw, (spec.width, spec.height))
    return Written(name, 1, (), tuple(boxes))

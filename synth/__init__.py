"""A synthetic fleet in real formats, with the truth beside it."""

from __future__ import annotations

from schemas.registry import Registry

WRITERS = Registry(
    "synthetic format",
    {
        "teslacam": "synth.teslacam:write_teslacam",
        "video": "synth.video:write_video",
    },
)
"""The formats that a fleet can be written in.

A writer takes (spec, drive, fs, root), writes one drive as one log under `root`, a path of
the fsspec filesystem `fs`, and returns a synth.written.Written.
"""

"""A synthetic fleet, written in real recording formats with its ground truth."""

from __future__ import annotations

from schemas.registry import Registry

WRITERS = Registry(
    "synthetic format",
    {
        "teslacam": "synth.teslacam:write_teslacam",
        "mcap": "synth.mcap:write_mcap",
        "video": "synth.video:write_video",
    },
)
"""Recording formats of a fleet.

A writer is called with (spec, drive, fs, root), writes one drive as one log below `root`, a path
of the fsspec filesystem `fs`, and returns a synth.written.Written.
"""

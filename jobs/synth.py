"""fleetmill synth: a synthetic fleet in real formats."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import AsJson
from jobs.reporting import Reporter
from schemas.errors import UsageError
from synth import WRITERS
from synth.fleet import FleetSpec, write_fleet


def synth(
    out: Annotated[str, typer.Argument(metavar="OUT", help="The folder to write to.")],
    *,
    drives: Annotated[int, typer.Option("--drives", metavar="N", min=1)] = 2,
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="M", help="Length of a drive.", min=0.1)
    ] = 2.0,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="Same seed, same bytes.")] = 0,
    format: Annotated[  # noqa: A002 - the flag is --format
        str, typer.Option("--format", help=f"One of: {', '.join(WRITERS)}.")
    ] = "teslacam",
    truth: Annotated[
        bool, typer.Option("--truth", help="Write OUT/truth: events, boxes, poses, signals.")
    ] = False,
    size: Annotated[
        str, typer.Option("--size", metavar="WxH", help="Size of the pictures.")
    ] = "1280x960",
    cameras: Annotated[
        str, typer.Option("--cameras", metavar="A,B", help="Cameras, by comma.")
    ] = "front,back,left_repeater,right_repeater",
    video: Annotated[
        bool, typer.Option("--video/--no-video", help="Without: hours of drives in seconds.")
    ] = True,
    noise: Annotated[
        float, typer.Option("--noise", metavar="F", help="Sensor noise, 0 for none.", min=0)
    ] = 1.0,
    gaps: Annotated[
        float, typer.Option("--gaps", metavar="N", help="Telemetry gaps a minute.", min=0)
    ] = 0.1,
    events_per_minute: Annotated[
        float, typer.Option("--events-per-minute", metavar="N", help="Rate of injected events.")
    ] = 1.5,
    clock_offset_s: Annotated[
        float, typer.Option("--clock-offset", metavar="S", help="Error of the vehicle's clock.")
    ] = 0.0,
    json: AsJson = False,
) -> None:
    """Write a synthetic fleet in a real format, with the truth.

    A vehicle model drives roads and has its events at known times.

        fleetmill synth fleet --drives 2 --minutes 1 --size 640x480 --truth
    """
    reporter = Reporter(json)
    spec = FleetSpec(
        drives=drives,
        minutes=minutes,
        seed=seed,
        format=format,
        width=_size(size)[0],
        height=_size(size)[1],
        cameras=tuple(name.strip() for name in cameras.split(",") if name.strip()),
        video=video,
        noise=noise,
        gaps=gaps,
        clock_offset_s=clock_offset_s,
        events_per_minute=events_per_minute,
    )
    report = write_fleet(spec, out, truth, reporter.note)
    reporter.table("injected events", ("type", "events"), sorted(report.events.items()))
    reporter.text(f"{len(report.logs)} logs in {out}")
    reporter.document(
        {"out": out, "logs": [*report.logs], "events": dict(report.events), "truth": report.truth}
    )


def _size(text: str) -> tuple[int, int]:
    width, by, height = text.partition("x")
    if not (by and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--size {text!r}: write it as WIDTHxHEIGHT, for example 1280x960")
    return int(width), int(height)

"""`fleetmill synth`: writes a synthetic fleet in real formats."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import AsJson
from jobs.reporting import Reporter
from schemas.errors import UsageError
from synth import WRITERS
from synth.fleet import FleetSpec, write_fleet

_Out = Annotated[str, typer.Argument(metavar="OUT", help="The folder to write to.")]
_Drives = Annotated[int, typer.Option("--drives", metavar="N", min=1, help="Number of drives.")]
_Minutes = Annotated[
    float, typer.Option("--minutes", metavar="M", min=0.1, help="Length of a drive in minutes.")
]
_Seed = Annotated[int, typer.Option("--seed", metavar="S", help="Same seed, same bytes.")]
_Format = Annotated[
    str, typer.Option("--format", metavar="NAME", help=f"One of: {', '.join(WRITERS)}.")
]
_Truth = Annotated[
    bool, typer.Option("--truth", help="Write OUT/truth: events, boxes, poses, signals.")
]
_Size = Annotated[str, typer.Option("--size", metavar="WxH", help="Size of the pictures in px.")]
_Cameras = Annotated[
    str, typer.Option("--cameras", metavar="A,B", help="Cameras, separated by commas.")
]
_Video = Annotated[
    bool,
    typer.Option(
        "--video/--no-video", help="Write video. Without, hours of drives take seconds to write."
    ),
]
_Noise = Annotated[
    float, typer.Option("--noise", metavar="F", min=0, help="Factor of sensor noise, 0 for none.")
]
_Gaps = Annotated[
    float, typer.Option("--gaps", metavar="N", min=0, help="Gaps in the telemetry per minute.")
]
_EventsPerMinute = Annotated[
    float, typer.Option("--events-per-minute", metavar="N", help="Injected events per minute.")
]
_ClockOffset = Annotated[
    float,
    typer.Option("--clock-offset", metavar="S", help="Error of the vehicle's clock in seconds."),
]


def synth(
    out: _Out,
    *,
    drives: _Drives = 2,
    minutes: _Minutes = 2.0,
    seed: _Seed = 0,
    format: _Format = "teslacam",  # noqa: A002 - the flag is --format
    truth: _Truth = False,
    size: _Size = "1280x960",
    cameras: _Cameras = "front,back,left_repeater,right_repeater",
    video: _Video = True,
    noise: _Noise = 1.0,
    gaps: _Gaps = 0.1,
    events_per_minute: _EventsPerMinute = 1.5,
    clock_offset_s: _ClockOffset = 0.0,
    json: AsJson = False,
) -> None:
    """Write a synthetic fleet in a real format, with the truth.

    A vehicle model drives on roads; events are injected at known times.

        fleetmill synth fleet --drives 2 --minutes 1 --size 640x480 --truth
    """
    reporter = Reporter(json)
    width, height = _size(size)
    spec = FleetSpec(
        drives=drives,
        minutes=minutes,
        seed=seed,
        format=format,
        width=width,
        height=height,
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
    """Parses a size in pixels.

    >>> _size("1280x960")
    (1280, 960)
    """
    width, by, height = text.partition("x")
    if not (by and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--size {text!r}: write it as WIDTHxHEIGHT, for example 1280x960")
    return int(width), int(height)

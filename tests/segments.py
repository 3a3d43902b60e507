"""Writes fleets of thousands of short segments, for tests with many inputs."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import Fleetmill

DRAWN = 20
"""Drives of six seconds that `synth` draws."""


def write_segments(fleetmill: Fleetmill, folder: Path, count: int) -> Path:
    """Writes a fleet of `count` segments with distinct content and returns its folder.

    The drives that `synth` draws are copied for many vehicles. Each copy of a video gets a `free`
    box at its end, which decoders ignore but which makes the file a different one.

    Args:
        fleetmill: the command.
        folder: a new folder to write to.
        count: a multiple of DRAWN.
    """

    def draw(seed: int) -> Path:
        out = folder / f"drawn-{seed}"
        size = ("--size", "64x48", "--cameras", "front", "--minutes", "0.1")
        made = fleetmill("synth", out, "--seed", seed, "--drives", DRAWN // 2, *size)
        assert made.code == 0, made.err
        return out

    with ThreadPoolExecutor() as pool:
        drawn = [path for out in pool.map(draw, (1, 2)) for path in sorted(out.glob("*/*/*/*"))]
    assert len(drawn) == DRAWN
    fleet = folder / "fleet"
    for number in range(count):
        source = drawn[number % DRAWN]
        seed, vehicle, *rest = source.relative_to(folder).parts
        again = f"{vehicle}-{seed}-{number // DRAWN:04d}"
        target = fleet.joinpath(again, *rest)
        target.mkdir(parents=True)
        for path in source.iterdir():
            content = path.read_bytes()
            if path.suffix == ".mp4":
                content += struct.pack(">I4s8s", 16, b"free", f"{number:08d}".encode())
            (target / path.name).write_bytes(content)
    return fleet

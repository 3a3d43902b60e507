"""What a writer says about the log that it wrote."""

from __future__ import annotations

from dataclasses import dataclass

from synth.pictures import Boxes
from synth.script import Injected


@dataclass(frozen=True, slots=True)
class Written:
    """One log on disk.

    `log_name` is what discovery will call it; `extra` are events that only this recording
    has; `boxes` what its pictures show.
    """

    log_name: str
    files: int
    extra: tuple[Injected, ...] = ()
    boxes: tuple[Boxes, ...] = ()

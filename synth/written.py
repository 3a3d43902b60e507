"""The report of a writer on one log."""

from __future__ import annotations

from dataclasses import dataclass

from synth.pictures import Boxes
from synth.script import Injected


@dataclass(frozen=True, slots=True)
class Written:
    """One written log.

    Args:
        log_name: the name that discovery gives it.
        files: number of video files.
        extra: true events that only this recording has, in addition to the script's.
        boxes: tables of what its pictures show, one per file.
    """

    log_name: str
    files: int
    extra: tuple[Injected, ...] = ()
    boxes: tuple[Boxes, ...] = ()

"""When and where a log was recorded, which decides whether a privacy policy excludes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from auto_label.exclusions import Clock, Exclusion, Track, excluded
from pipeline.lake.locate import rows_of
from schemas.signals import SIGNAL
from schemas.times import Span

SOURCES = ("logs", "signals")
"""The tables whose files have to be located."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The clock of a log, and its known positions in a span and shortly before and after it."""

    clock: Clock
    track: Track

    @classmethod
    def read(
        cls, files: Mapping[str, Sequence[str]], log_id: str, span: Span | None = None
    ) -> Whereabouts:
        """Reads them, of the whole log if `span` is None."""
        near = None
        if span is not None:
            around = SIGNAL["lat_deg"].tolerance_ns
            t_ns = pc.field("t_ns")
            near = (t_ns >= span.start_ns - around) & (t_ns < span.end_ns + around)
        (row,) = rows_of("logs", files["logs"], [log_id]).to_pylist()
        signals = rows_of("signals", files["signals"], [log_id], near).sort_by("t_ns")
        track = Track(*(signals[name].to_numpy() for name in ("t_ns", "lat_deg", "lon_deg")))
        return cls(Clock(row["start_ns"], row["start_local"]), track.known())

    def excluded(self, exclusions: Sequence[Exclusion], span: Span) -> bool:
        """Tells whether a span touches one of some exclusions, or may, for all that is known."""
        return excluded(exclusions, span, self.clock, self.track) is not None

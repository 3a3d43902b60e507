"""The balance: every input of a stage is kept, filtered or rejected, and none is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import FleetError
from schemas.records import Count


@dataclass(frozen=True, slots=True)
class JobReport:
    """The result of a job: its balance, Beam's metrics, and notes for the user.

    `dropped` is the number of its tasks that another run overtook, `internal` that of inputs that
    were rejected because of a bug, `private` that of those that were not written because it could
    not be found what to hide on them.
    """

    job: str
    run_id: str
    counts: tuple[Count, ...]
    tasks: int
    seconds: float
    notes: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    dropped: int = 0
    internal: int = 0
    private: int = 0

    def rejected_fraction(self) -> float:
        """Returns the largest fraction of rejects among the lines of the balance."""
        return max((c.rejected / c.total for c in self.counts if c.total), default=0.0)


def check_balance(
    job: str, counts: Iterable[Count], expected: Mapping[tuple[str, str], int]
) -> None:
    """Compares the counts with the number of inputs by (stage, of).

    Raises:
        FleetError: an input is lost, or counted twice.
    """
    totals = {(count.stage, count.of): count.total for count in counts}
    for (stage, of), number in expected.items():
        came = totals.get((stage, of), 0)
        if came != number:
            raise FleetError(
                f"the balance of {job} does not hold: {number} {of} went into {stage}, "
                f"{came} came out as kept, filtered or rejected"
            )

"""The trigger's model: what a trigger file may say.

    name = "hard_brake"                        # the file is hard_brake.toml
    version = 1
    description = "what it finds, and where its numbers come from"
    table = "signals"                          # one of TABLES
    when = "mean(accel_x_mps2, -0.2, 0.2) < -$on_mps2"
    until = "mean(accel_x_mps2, -0.2, 0.2) > -$off_mps2"    # default: not `when`
    score = "-accel_x_mps2"                    # its peak is the event's score and anchor
    for_s = 0.2                                # shorter islands are dropped
    merge_s = 2.0                              # islands closer than this are merged
    pre_s = 5.0                                # the window around the island
    post_s = 5.0

    [params]                                   # numbers, written $name in the SQL
    on_mps2 = 4.0
    off_mps2 = 1.0

`when`, `until` and `score` are DuckDB expressions over the columns of `table`; see
transforms.triggers.sql for what they may use, and the functions of time that they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from schemas.errors import UsageError
from schemas.ids import digest
from transforms.definitions import Definition, Text, choices, matching, mistake, one_of, shown

TABLES = ("signals", "joints", "scene", "annotations", "ticks")
"""The tables that a trigger may name."""

MAX_SECONDS = 600.0
"""The longest time in a trigger: events are moments, and windows are held in memory."""

MAX_SQL_CHARS = 4000

TIMEOUT_S = 10.0
"""The default limit of time for the triggers of a table on the rows of a task."""

_NAME = r"[a-z][a-z0-9_]{0,62}"
_CURE = "must be small letters, digits and _, a letter first, at most 63"

Sql = Annotated[Text, Field(max_length=MAX_SQL_CHARS)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
Parameters = Annotated[
    Mapping[Annotated[str, matching(_NAME, _CURE)], float],
    AfterValidator(lambda params: dict(sorted(params.items()))),
]


class Trigger(Definition):
    """One trigger, as its file says it; `until` is None where it is just not `when`."""

    name: Annotated[str, matching(_NAME, _CURE)]
    version: int = Field(ge=1, lt=2**31)
    table: Annotated[str, one_of(TABLES)]
    when: Sql
    until: Sql | None = None
    score: Sql
    for_s: Seconds
    merge_s: Seconds
    pre_s: Seconds
    post_s: Seconds = Field(gt=0)  # an event has a length
    params: Parameters = Field(default_factory=dict)

    @property
    def params_digest(self) -> str:
        """Names everything that decides which events there are; not the description."""
        texts = (self.table, self.when, self.until, self.score)
        times = (self.for_s, self.merge_s, self.pre_s, self.post_s)
        return digest("trigger", *texts, *times, dict(self.params))

    def override(self, params: Mapping[str, float]) -> Trigger:
        """Returns the trigger with some of its parameters set anew.

        Raises:
            UsageError: it has no such parameter, or the value is not a finite number.
        """
        for key in params:
            if key not in self.params:
                raise UsageError(
                    f"trigger {shown(self.name)}: params.{key}: unknown key; {choices(self.params)}"
                )
        try:
            return self.replace(params={**self.params, **params})
        except ValidationError as error:
            raise UsageError(f"trigger {shown(self.name)}: {mistake(error, Trigger)}") from error

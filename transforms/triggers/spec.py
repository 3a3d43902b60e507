"""What a trigger is: one .toml file, checked when it is read.

    name = "hard_brake"
    version = 1
    description = "what it finds, and where its numbers come from"
    table = "signals"                          # one of TABLES
    when = "mean(accel_x_mps2, -0.2, 0.2) < -$on_mps2"
    until = "mean(accel_x_mps2, -0.2, 0.2) > -$off_mps2"    # default: not `when`
    score = "-accel_x_mps2"                    # its peak is the event's score and anchor
    for_s = 0.2                                # shorter islands are no event
    merge_s = 2.0                              # islands closer than this are one
    pre_s = 5.0                                # the window around the island
    post_s = 5.0

    [params]                                   # numbers, written $name in the SQL
    on_mps2 = 4.0
    off_mps2 = 1.0

`when`, `until` and `score` are DuckDB expressions over the columns of `table`; see
transforms.triggers.sql for what they may say and the functions of time that they have.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from schemas.errors import UsageError
from schemas.ids import digest

TABLES = ("signals", "joints", "scene", "annotations", "ticks")
"""The tables that a trigger may name."""

MAX_SECONDS = 600.0
"""No time in a trigger is longer: events are moments, and windows stay in memory."""

MAX_SQL_CHARS = 4000

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SECONDS = ("for_s", "merge_s", "pre_s", "post_s")
_TEXTS = ("when", "until", "score")


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger, as its file says it; `until` is None where it is just not `when`."""

    name: str
    version: int
    description: str
    table: str
    when: str
    until: str | None
    score: str
    for_s: float
    merge_s: float
    pre_s: float
    post_s: float
    params: Mapping[str, float]

    @property
    def params_digest(self) -> str:
        """Names everything that decides which events there are; not the description."""
        texts = (self.table, self.when, self.until, self.score)
        times = (self.for_s, self.merge_s, self.pre_s, self.post_s)
        return digest("trigger", *texts, *times, dict(self.params))

    def override(self, params: Mapping[str, float]) -> Trigger:
        """Returns the trigger with some of its parameters set anew.

        Raises:
            UsageError: it has no such parameter, or the value is no finite number.
        """
        for key in params:
            if key not in self.params:
                choices = ", ".join(sorted(self.params)) or "none"
                raise UsageError(
                    f"trigger {self.name!r} has no parameter {key!r}; it has: {choices}"
                )
        new = {
            key: _number(f"trigger {self.name!r}", f"params.{key}", params[key]) for key in params
        }
        return replace(self, params={**self.params, **new})


def parse_trigger(text: str, where: str) -> Trigger:
    """Reads one trigger file.

    Args:
        text: the file's TOML.
        where: its address, for messages.

    Raises:
        UsageError: names the file, the key and what may stand there.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: not TOML: {error or 'nested too deeply'}") from error
    known = {field.name for field in fields(Trigger)}
    for key in raw:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}; choose of: {', '.join(sorted(known))}")
    for key in sorted(known - {"until", "params"}):
        if key not in raw:
            raise UsageError(f"{where}: key {key!r} is missing")
    table = _string(where, "table", raw["table"])
    if table not in TABLES:
        raise UsageError(f"{where}: table {table!r} is none of: {', '.join(TABLES)}")
    name = _string(where, "name", raw["name"])
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{where}: name {name!r} must be small letters, digits and _, a letter first"
        )
    version = raw["version"]
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 2**31:
        raise UsageError(f"{where}: version {version!r} must be a whole number above 0")
    seconds = {key: _seconds(where, key, raw[key]) for key in _SECONDS}
    if seconds["post_s"] == 0:
        raise UsageError(f"{where}: post_s must be above 0, or an event may have no length")
    return Trigger(
        name=name,
        version=version,
        description=_string(where, "description", raw["description"]),
        table=table,
        when=_string(where, "when", raw["when"]),
        until=_string(where, "until", raw["until"]) if "until" in raw else None,
        score=_string(where, "score", raw["score"]),
        params=_params(where, raw.get("params", {})),
        **seconds,
    )


def _string(where: str, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {key} must be text, is {value!r:.80}")
    if key in _TEXTS and len(value) > MAX_SQL_CHARS:
        raise UsageError(f"{where}: {key} is longer than {MAX_SQL_CHARS} characters")
    return value


def _number(where: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{where}: {key} must be a number, is {value!r:.80}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UsageError(f"{where}: {key} must be a finite number, is {value!r:.80}")
    return number


def _seconds(where: str, key: str, value: Any) -> float:
    number = _number(where, key, value)
    if not 0 <= number <= MAX_SECONDS:
        raise UsageError(f"{where}: {key} must be within 0 and {MAX_SECONDS:g} s, is {number:g}")
    return number


def _params(where: str, value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: [params] must be a table of numbers")
    for key in value:
        if not _NAME.fullmatch(key):
            raise UsageError(f"{where}: parameter {key!r} must be small letters, digits and _")
    return {key: _number(where, f"params.{key}", value[key]) for key in sorted(value)}

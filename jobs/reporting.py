"""A command's output: progress on stderr, results on stdout as tables or one JSON document."""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from jobs.state import EXIT_FAILED, EXIT_REJECTS
from pipeline.graph.balance import JobReport
from schemas.records import Count
from schemas.redaction import printable

_RATE_WINDOW_S = 600.0
"""The rate is the mean over so long: a task can take minutes, and tasks differ."""


class Reporter:
    """Prints a command's progress and result.

    Progress is a live bar on a terminal and plain lines elsewhere, always on stderr. Results
    go to stdout: tables, or one JSON document.

    Args:
        as_json: print the JSON document.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._err = Console(stderr=True, highlight=False)
        self._out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        self._bar: Progress | None = None
        self._label = ""
        self._total = self._shown = 0

    def start(self, job: str, tasks: int) -> None:
        """Starts the progress of a job with this number of tasks."""
        self.stop()
        self._label, self._total, self._shown = job, tasks, 0
        if not tasks:
            self._line(f"{job}: nothing new")
        elif self._err.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:<8}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                RateColumn(),
                TimeElapsedColumn(),
                TextColumn("elapsed"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=self._err,
                transient=True,
                expand=True,
                speed_estimate_period=_RATE_WINDOW_S,
            )
            self._bar.add_task(job, total=tasks)
            self._bar.start()
        else:
            self._line(f"{job}: {tasks} tasks")

    def progress(self, done: int, following: int = 0) -> None:
        """Shows how many tasks are done, of those of the start and of those that follow."""
        total = self._total + following
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif self._total and done >= min(total, self._shown + max(1, total // 10)):
            if done > self._shown:
                self._line(f"{self._label}: {done} of {total}")
            self._shown = done

    def stop(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def note(self, text: str) -> None:
        """Prints a note for the user on stderr."""
        self._line(text)

    def _line(self, text: str) -> None:
        self._err.print(printable(text), soft_wrap=True, markup=False)

    def text(self, line: str = "") -> None:
        """Prints a line of the result, unless the result is JSON."""
        if not self.as_json:
            self._out.print(printable(line), soft_wrap=True, markup=False)

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        decimals: int | None = None,
    ) -> None:
        """Prints a table of the result, unless the result is JSON.

        Args:
            title: the line above it.
            columns: the headings.
            rows: the values of each row, in the order of the columns.
            decimals: of floating-point numbers. None: four significant digits.
        """
        if self.as_json:
            return
        table = Table(box=None, pad_edge=False)
        rows = list(rows)
        for index, column in enumerate(columns):
            number = any(isinstance(row[index], int | float) for row in rows)
            table.add_column(Text(printable(column)), justify="right" if number else "left")
        for row in rows:  # as Text: brackets in a str would be read as markup
            table.add_row(*(Text(_cell(value, decimals)) for value in row))
        # A title of the table's own would be wrapped to the width of the table.
        self._out.print(printable(title), style="italic", markup=False, soft_wrap=True)
        self._out.print(table)
        self._out.print()

    def document(self, value: Mapping[str, Any] | Sequence[Any]) -> None:
        """Prints the JSON document, if the result is JSON: see `json_text`."""
        if self.as_json:
            sys.stdout.write(json_text(value) + "\n")


def json_text(value: Any) -> str:
    """Writes a value as a document that every JSON reader takes.

    NaN and infinities are null, half a surrogate pair is written as an escape, and what JSON
    lacks as its text.

    >>> print(json_text({"a": [float("nan"), 1.5]}))
    {
      "a": [
        null,
        1.5
      ]
    }
    """
    return json.dumps(_plain(value), indent=2, default=str, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {
            _plain(key if isinstance(key, str) else str(key)): _plain(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


class RateColumn(ProgressColumn):
    """The rate at which tasks are done: a second, or a minute where that is below one."""

    def render(self, task: Task) -> Text:
        """Returns the rate; nothing before two tasks are done at different times."""
        speed = task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:,.1f} tasks/s" if speed >= 1 else f"{speed * 60:,.1f} tasks/min")


def _cell(value: Any, decimals: int | None) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if decimals is None else f"{value:,.{decimals}f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value))


BALANCE = ("stage", "of", "in", "kept", "filtered", "rejected")


def balance_rows(counts: Iterable[Count]) -> list[tuple[str, str, int, int, int, int]]:
    """Makes the rows of the balance, whose columns are BALANCE: in = kept + filtered + rejected."""
    return [(c.stage, c.of, c.total, c.kept, c.filtered, c.rejected) for c in counts]


def show_jobs(reporter: Reporter, reports: Sequence[JobReport]) -> None:
    """Prints the notes and the balance of jobs."""
    for report in reports:
        for text in report.notes:
            reporter.note(f"{report.job}: {text}")
    rows = [row for report in reports for row in balance_rows(report.counts)]
    reporter.table("in = kept + filtered + rejected", BALANCE, rows)


_TASK = "task_ms"
_NOT_STEPS = {_TASK, "list_ms", "commit_ms"}
"""Distributions of milliseconds that are no step of a task."""


def step_seconds(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Reads where the time of a job's tasks went from its metrics, the longest step first.

    The metrics of a stage are described in pipeline.graph.transforms: each step of a task has
    a distribution `<step>_ms`, and together they add up to `task_ms`.

    >>> step_seconds({"task_ms": {"sum": 5}, "put_ms": {"sum": 1}, "read_ms": {"sum": 4}})
    {'read': 0.004, 'put': 0.001}
    """
    sums = {
        name.removesuffix("_ms"): value["sum"] / 1000
        for name, value in metrics.items()
        if name.endswith("_ms") and name not in _NOT_STEPS
    }
    return dict(sorted(sums.items(), key=lambda step: -step[1]))


def show_time(reporter: Reporter, reports: Sequence[JobReport]) -> None:
    """Prints the seconds of the tasks by step and job, summed over all workers.

    Jobs that had nothing to do have no column; if none had, there is no table.
    """
    worked = [report for report in reports if step_seconds(report.metrics)]
    if not worked:
        return
    by_job = [step_seconds(report.metrics) for report in worked]
    tasks = [report.metrics[_TASK]["sum"] / 1000 for report in worked]
    whole = sum(tasks)
    by_step: defaultdict[str, float] = defaultdict(float)
    for steps in by_job:
        for name, seconds in steps.items():
            by_step[name] += seconds
    rows: list[tuple[str | float, ...]] = [
        (name, *(steps.get(name, "") for steps in by_job), seconds, _percent(seconds, whole))
        for name, seconds in sorted(by_step.items(), key=lambda step: -step[1])
    ]
    rows.append(("total", *tasks, whole, _percent(whole, whole)))
    columns = ["step", *(report.job for report in worked), "total", "share (%)"]
    if len(worked) == 1:  # its column would be that of the total
        columns, rows = [columns[0], *columns[2:]], [(row[0], *row[2:]) for row in rows]
    reporter.table("where the time went (seconds of tasks)", columns, rows, decimals=2)


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


def job_documents(reports: Sequence[JobReport]) -> list[dict[str, Any]]:
    """Makes the JSON of job reports."""
    return [
        {
            "job": report.job,
            "run_id": report.run_id,
            "tasks": report.tasks,
            "seconds": round(report.seconds, 3),
            "counts": [dict(zip(BALANCE, row, strict=True)) for row in balance_rows(report.counts)],
            "notes": list(report.notes),
            "internal": report.internal,
            "private": report.private,
            "time": step_seconds(report.metrics),
            "metrics": dict(report.metrics),
            **report.detail,
        }
        for report in reports
    ]


def exit_code(reporter: Reporter, reports: Sequence[JobReport], limit: float) -> int:
    """Returns 1 if a bug or privacy cost inputs, 3 if too many were rejected, and 0 otherwise."""
    if any(report.internal or report.private for report in reports):
        return EXIT_FAILED
    worst = max((report.rejected_fraction() for report in reports), default=0.0)
    if worst <= limit:
        return 0
    reporter.note(
        f"{worst:.1%} of the inputs of a stage were rejected, more than --max-reject-fraction "
        f"{limit:g} allows. Everything else was processed; "
        "`fleetmill query` on the table rejects says what was rejected and why, and the notes of "
        "the jobs what could not be read"
    )
    return EXIT_REJECTS

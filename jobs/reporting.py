"""How a command talks: progress on stderr, results on stdout, one document with --json."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.graph.balance import JobReport
from schemas.records import Count

EXIT_REJECTS = 3


class Reporter:
    """Shows a command's progress and result.

    A live bar on a terminal, plain lines elsewhere, all on stderr. Results go to stdout:
    tables, or one JSON document.

    Args:
        as_json: print the one document.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._err = Console(stderr=True, highlight=False)
        self._out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        self._bar: Progress | None = None
        self._label = ""
        self._total = self._shown = 0

    def start(self, job: str, tasks: int) -> None:
        """Begins a job of so many tasks."""
        self.stop()
        self._label, self._total, self._shown = job, tasks, 0
        if not tasks:
            self._line(f"{job}: nothing new")
        elif self._err.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:<8}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self._err,
                transient=True,
            )
            self._bar.add_task(job, total=tasks)
            self._bar.start()
        else:
            self._line(f"{job}: {tasks} tasks")

    def progress(self, done: int) -> None:
        """Tells how many tasks are done."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
        elif self._total and done >= min(self._total, self._shown + max(1, self._total // 10)):
            if done > self._shown:
                self._line(f"{self._label}: {done} of {self._total}")
            self._shown = done

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def note(self, text: str) -> None:
        """Tells something worth knowing."""
        self._line(text)

    def _line(self, text: str) -> None:
        self._err.print(text, soft_wrap=True, markup=False)

    def text(self, line: str = "") -> None:
        """Prints a line of the result, unless the result is JSON."""
        if not self.as_json:
            self._out.print(line, soft_wrap=True, markup=False)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Prints a table of the result, unless the result is JSON."""
        if self.as_json:
            return
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        rows = list(rows)
        for index, column in enumerate(columns):
            number = bool(rows) and isinstance(rows[0][index], int | float)
            table.add_column(column, justify="right" if number else "left")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self._out.print(table)
        self._out.print()

    def document(self, value: Mapping[str, Any] | Sequence[Any]) -> None:
        """Prints the JSON document, if that is what was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def balance_rows(counts: Iterable[Count]) -> list[tuple[str, str, int, int, int, int]]:
    """Lays counts out as lines of the balance: in = kept + filtered + rejected."""
    return [(c.stage, c.of, c.total, c.kept, c.filtered, c.rejected) for c in counts]


def show_jobs(reporter: Reporter, reports: Sequence[JobReport]) -> None:
    """Prints the balance of some jobs, and what they want to tell."""
    for report in reports:
        for text in report.notes:
            reporter.note(f"{report.job}: {text}")
    reporter.table(
        "in = kept + filtered + rejected",
        ("stage", "of", "in", "kept", "filtered", "rejected"),
        [row for report in reports for row in balance_rows(report.counts)],
    )


def job_documents(reports: Sequence[JobReport]) -> list[dict[str, Any]]:
    """Turns job reports into JSON."""
    return [
        {
            "job": report.job,
            "run_id": report.run_id,
            "tasks": report.tasks,
            "seconds": round(report.seconds, 3),
            "counts": [
                dict(
                    zip(
                        ("stage", "of", "in", "kept", "filtered", "rejected"),
                        row,
                        strict=True,
                    )
                )
                for row in balance_rows(report.counts)
            ],
            "notes": list(report.notes),
            "metrics": dict(report.metrics),
            **report.detail,
        }
        for report in reports
    ]


def exit_code(reporter: Reporter, reports: Sequence[JobReport], limit: float) -> int:
    """Returns 0, or 3 with a line that says where to look, over the reject limit."""
    worst = max((report.rejected_fraction() for report in reports), default=0.0)
    if worst <= limit:
        return 0
    reporter.note(
        f"{worst:.1%} of the inputs of a stage were rejected, more than --max-reject-fraction "
        f"{limit:g} allows. Everything else came through; "
        "`fleetmill query` on the table rejects says what was refused and why"
    )
    return EXIT_REJECTS

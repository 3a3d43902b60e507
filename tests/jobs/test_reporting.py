from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress

from jobs.reporting import (
    RateColumn,
    Reporter,
    balance_rows,
    exit_code,
    job_documents,
    show_jobs,
    show_time,
    step_seconds,
)
from pipeline.graph.balance import JobReport
from schemas.records import Count
from tests.conftest import ROOT, environment
from tests.jobs.conftest import Chain

STEPS = ("read", "decode", "detect", "blur", "encode", "put", "other")


def report(job: str, metrics: dict[str, Any], *counts: Count) -> JobReport:
    """A report with some metrics and counts."""
    return JobReport(
        job=job, run_id="r", counts=counts, tasks=1, seconds=1.5, notes=("note",), metrics=metrics
    )


def stage_metrics(steps: dict[str, int]) -> dict[str, Any]:
    """Metrics as those of a stage whose tasks took so many milliseconds by step."""
    sums = {f"{name}_ms": ms for name, ms in steps.items()}
    sums |= {"task_ms": sum(steps.values()), "list_ms": 5, "commit_ms": 77, "task_bytes": 10}
    seen = {
        name: {"sum": value, "count": 1, "min": 0, "max": value} for name, value in sums.items()
    }
    return {"tasks": 1, **seen}


def table_below(out: str, title: str) -> list[list[str]]:
    """Reads a printed table into cells, the headings first."""
    lines = out[out.index(title) :].splitlines()[1:]
    return [re.split(r"\s{2,}", line.strip()) for line in lines[: lines.index("")]]


def test_steps_are_read_longest_first() -> None:
    assert list(step_seconds(stage_metrics({"put": 20, "read": 1500})).items()) == [
        ("read", 1.5),
        ("put", 0.02),
    ]
    assert step_seconds({}) == {}


def test_the_matrix_adds_up_by_step_and_by_job(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(20261125)
    jobs = ("ingest", "sweep", "mine", "label", "repack", "corpus")
    whole = {job: {step: int(rng.integers(1, 10**7)) for step in STEPS} for job in jobs}
    reports = [report(job, stage_metrics(steps)) for job, steps in whole.items()]
    show_time(Reporter(as_json=False), [*reports, report("idle", {})])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    head, *rows, total = table_below(out, "where the time went")
    assert head == ["step", *jobs, "total", "share (%)"]
    numbers = {row[0]: [float(cell.replace(",", "")) for cell in row[1:]] for row in rows}
    assert set(numbers) == set(STEPS)
    for step, cells in numbers.items():
        expected = [whole[job][step] / 1000 for job in jobs]
        assert cells[:-2] == pytest.approx(expected, abs=0.0051)
        assert cells[-2] == pytest.approx(sum(expected), abs=0.0051)
    totals = [cells[-2] for cells in numbers.values()]
    assert totals == sorted(totals, reverse=True)
    everything = sum(sum(steps.values()) for steps in whole.values()) / 1000
    by_job = [sum(steps.values()) / 1000 for steps in whole.values()]
    sums = [float(cell.replace(",", "")) for cell in total[1:]]
    assert sums == pytest.approx([*by_job, everything, 100.0], abs=0.0051)
    assert sum(cells[-1] for cells in numbers.values()) == pytest.approx(100, abs=0.04)


def test_one_job_has_one_column(capsys: pytest.CaptureFixture[str]) -> None:
    show_time(Reporter(as_json=False), [report("mine", stage_metrics({"read": 250, "other": 750}))])
    assert table_below(capsys.readouterr().out, "where the time went") == [
        ["step", "total", "share (%)"],
        ["other", "0.75", "75.00"],
        ["read", "0.25", "25.00"],
        ["total", "1.00", "100.00"],
    ]


def test_a_step_that_a_job_lacks_is_blank(capsys: pytest.CaptureFixture[str]) -> None:
    reports = [
        report("a", stage_metrics({"read": 9000})),
        report("b", stage_metrics({"put": 1000})),
    ]
    show_time(Reporter(as_json=False), reports)
    out = capsys.readouterr().out
    assert table_below(out, "where")[1] == ["read", "9.00", "9.00", "90.00"]
    assert table_below(out, "where")[2] == ["put", "1.00", "1.00", "10.00"]


@pytest.mark.parametrize("metrics", [{}, {"tasks": 0}, {"list_ms": {"sum": 3}}])
def test_without_steps_there_is_no_table(
    metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    show_time(Reporter(as_json=False), [report("mine", metrics)])
    assert capsys.readouterr().out == ""


def test_tasks_that_took_no_time_have_no_shares(capsys: pytest.CaptureFixture[str]) -> None:
    show_time(Reporter(as_json=False), [report("mine", stage_metrics({"other": 0}))])
    assert table_below(capsys.readouterr().out, "where")[-1] == ["total", "0.00", "0.00"]


def test_the_document_of_a_job_has_its_time_and_its_balance() -> None:
    count = Count("mine", "logs", kept=2, filtered=1)
    (document,) = job_documents([report("mine", stage_metrics({"read": 250}), count)])
    assert document["time"] == {"read": 0.25}
    line = {"stage": "mine", "of": "logs", "in": 3, "kept": 2, "filtered": 1, "rejected": 0}
    assert document["counts"] == [line]
    assert balance_rows([count]) == [tuple(line.values())]
    assert document["notes"] == ["note"]


def test_the_time_of_a_real_run_adds_up(chain: Chain) -> None:
    for command in ("ingest", "sweep", "mine", "label", "corpus"):
        for job in chain.ended[command].document["jobs"]:
            assert job["time"]
            assert round(1000 * sum(job["time"].values())) == job["metrics"]["task_ms"]["sum"]


def test_notes_go_to_stderr_and_the_balance_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    show_jobs(Reporter(as_json=False), [report("mine", {}, Count("mine", "logs", rejected=1234))])
    printed = capsys.readouterr()
    assert printed.err == "mine: note\n"
    assert table_below(printed.out, "in = kept")[1] == ["mine", "logs", "1,234", "0", "0", "1,234"]


@pytest.mark.parametrize(("limit", "code"), [(0.25, 0), (0.249, 3)])
def test_the_exit_code_is_three_over_the_limit(
    limit: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = (Count("a", "logs", kept=9, rejected=1), Count("b", "files", kept=3, rejected=1))
    assert exit_code(Reporter(as_json=False), [report("mine", {}, *counts)], limit) == code
    assert ("25.0%" in capsys.readouterr().err) == (code == 3)


def test_json_is_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(as_json=True)
    reporter.text("text")
    reporter.table("title", ("a",), [(1,)])
    reporter.note("a note")
    reporter.document({"path": Path("p")})
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"path": "p"}
    assert printed.err == "a note\n"


def test_a_title_wider_than_its_table_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(as_json=False).table("a long title of a table", ("n",), [(0.5,)], decimals=3)
    assert capsys.readouterr().out.splitlines()[0] == "a long title of a table"


def test_markup_in_values_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A path or a value from a log may hold brackets."""
    reporter = Reporter(as_json=False)
    reporter.table("[bold]", ("[red]a",), [("logs/[0-9]/[b].mp4",)])
    out = capsys.readouterr().out
    assert "[bold]" in out
    assert "[red]a" in out
    assert "logs/[0-9]/[b].mp4" in out


def test_control_characters_of_data_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """A file's name, a label or a message must not move the cursor, nor end a line."""
    odd = "a\x1b[2J\r\n\x9bb\u202e\ud800"
    reporter = Reporter(as_json=False)
    reporter.table(odd, (odd,), [(odd,), ([odd],)])
    reporter.text(odd)
    reporter.note(odd)
    show_jobs(reporter, [report("mine", {}, Count(odd, odd, kept=1))])
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert all(char.isprintable() or char == "\n" for char in text), text
    assert printed.err.splitlines()[0] == r"a\x1b[2J\r\n\x9bb\u202e\ud800"
    assert len(table_below(printed.out, "in = kept")) == 2


def test_a_document_is_json_for_every_reader(capsys: pytest.CaptureFixture[str]) -> None:
    """Without NaN, and without half characters, which some readers refuse."""
    nan, inf = float("nan"), float("inf")
    value: dict[Any, Any] = {
        "a": [nan, {"b": -inf}, (1.5, np.float64("nan"))],
        "c": "x\ud800",
        "\udcff": 2,
        3: "d",
    }
    Reporter(as_json=True).document(value)
    out = capsys.readouterr().out

    def refuse(name: str) -> None:
        raise ValueError(name)

    parsed = json.loads(out, parse_constant=refuse)
    assert parsed == {
        "a": [None, {"b": None}, [1.5, None]], "c": r"x\ud800", r"\udcff": 2, "3": "d",
    }  # fmt: skip
    out.encode()


def test_off_a_terminal_progress_is_a_line_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(as_json=True)
    reporter.start("label", 40)
    for done in range(1, 41):
        reporter.progress(done)
    reporter.stop()
    reporter.start("corpus", 0)
    lines = capsys.readouterr().err.splitlines()
    tenths = [f"label: {done} of 40" for done in range(4, 41, 4)]
    assert lines == ["label: 40 tasks", *tenths, "corpus: nothing new"]


def test_the_rate_is_a_second_or_a_minute() -> None:
    clock = [0.0]
    column = RateColumn()
    bar = Progress(get_time=lambda: clock[0])
    fast, slow = bar.add_task("fast", total=100), bar.add_task("slow", total=100)
    assert str(column.render(bar.tasks[fast])) == ""
    for second in range(1, 5):
        clock[0] = float(second)
        bar.update(fast, completed=3 * second)
        bar.update(slow, completed=second / 2)
    assert str(column.render(bar.tasks[fast])) == "3.0 tasks/s"
    assert str(column.render(bar.tasks[slow])) == "30.0 tasks/min"


def on_terminal(*arguments: str) -> tuple[int, str]:
    """Runs Python with stderr on a terminal; its exit code, and what the terminal was sent."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 110))
    env = {k: v for k, v in environment(TERM="xterm-256color").items() if k != "COLUMNS"}
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        sent = b""
        while True:
            try:
                read = os.read(controller, 65536)
            except OSError:  # Linux ends the read of a terminal that nobody has open so
                break
            if not read:
                break
            sent += read
    os.close(controller)
    return process.returncode, sent.decode()


BAR = """
import time
from jobs.reporting import Reporter
reporter = Reporter(as_json=True)
reporter.start("label", 1000)
for done in range(1, 8):
    time.sleep(0.1)
    reporter.progress(10 * done)
reporter.note("a note beside the bar")
reporter.stop()
reporter.note("after the bar")
"""


def frames(sent: str) -> list[str]:
    """Returns the lines that a terminal was sent, without colours and cursor movements."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent)
    return [line for line in re.split(r"[\r\n]+", plain) if line]


def test_on_a_terminal_a_bar_shows_the_rate_and_the_time_left() -> None:
    code, sent = on_terminal("-c", BAR)
    assert code == 0, sent
    drawn = [line for line in frames(sent) if "━" in line]
    assert drawn
    assert all(len(line) <= 110 for line in drawn)
    *_, last = drawn
    shown = re.search(
        r"label +━+.* 70/1000 +([\d.]+) tasks/s +0:00:0\d elapsed +(\d):(\d\d):(\d\d) left", last
    )
    assert shown, last
    rate, hours, minutes, seconds = map(float, shown.groups())
    assert 10 < rate <= 110
    left = 3600 * hours + 60 * minutes + seconds
    assert left == pytest.approx(930 / rate, abs=1.5)
    assert not [line for line in frames(sent) if line.startswith("label: ")]
    assert "a note beside the bar" in frames(sent)
    assert frames(sent)[-1] == "after the bar"
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h") == 1, "the cursor comes back"


def test_a_command_on_a_terminal_draws_a_bar(chain: Chain, tmp_path: Path) -> None:
    arguments = ("ingest", "--input", str(chain.fleet), "--lake", str(tmp_path / "lake"))
    code, sent = on_terminal("-m", "jobs.cli", *arguments)
    assert code == 0, sent
    drawn = [line for line in frames(sent) if "━" in line]
    assert drawn
    assert all(re.match(r"ingest +━+.* \d/1 .*elapsed .* left", line) for line in drawn), drawn

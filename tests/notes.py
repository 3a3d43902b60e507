"""Input and expected rows of the pipeline in `docs/architecture.md`."""

from __future__ import annotations

from pathlib import Path

from pipeline.lake.tables import Lake
from tests.pages import fences

Rows = list[tuple[str, int, str]]


def write_program(page: Path, name: str, folder: Path) -> Path:
    """Writes a program from a page to a folder."""
    (program,) = [fence.body for fence in fences(page) if fence.path == name]
    target = folder / name
    target.write_text(program)
    return target


def write_notes(lake: Path, folder: Path) -> Rows:
    """Writes 250 notes per log, and one about an unknown log; returns the expected rows."""
    folder.mkdir()
    rows: Rows = []
    for log in Lake.open(str(lake)).read("logs").to_pylist():
        lines = []
        for number in range(250):
            lines.append(f"{number / 10},note {number}\n")
            rows.append((log["log_id"], number * 100_000_000, f"note {number}"))
        (folder / f"{Path(log['name']).name}.csv").write_text("".join(lines))
    (folder / "no-such-log.csv").write_text("1,lost\n")
    return sorted(rows)


def notes_in(lake: Path) -> Rows:
    """Checks the one reject and returns the rows of `annotations` that are notes."""
    opened = Lake.open(str(lake))
    (reject,) = opened.read("rejects").to_pylist()
    assert reject["uri"].endswith("no-such-log.csv")
    found = opened.read("annotations").to_pylist()
    return sorted(
        (row["log_id"], row["t_ns"], row["reason"])
        for row in found
        if row["reason"].startswith("note ")
    )

"""The last step of a large run: its memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.graph.journal import PAGE_TASKS, RESULTS, Journal
from pipeline.graph.stage import TaskResult
from pipeline.lake.tables import Lake
from schemas.ids import canonical, digest
from schemas.records import AddFile, Count
from schemas.tables import TABLES
from tests.conftest import ROOT, Tell
from tests.pipeline.lake.rows import one_row
from transforms.parquet import statistics
from transforms.storage import put

TASKS = 100_000
WRITTEN = ("events", "ledger", "parts")
MOST_MB = 500

COMMIT = """
import sys
from pathlib import Path
from pipeline.graph.commit import Commit
from pipeline.graph.journal import Journal
from pipeline.graph.transforms import CommitRun
from pipeline.lake.intents import RunRow
from pipeline.lake.tables import Lake

lake = Lake.open(sys.argv[1])
finish = Commit(lake, RunRow("r", "label", "d", "{}", 1), "label", new=True)
assert finish(Journal(lake.url, "r").results(int(sys.argv[2])))
# Of this program alone: the greatest memory of getrusage is that of the process that started it.
(peak,) = (l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
print(int(peak.split()[1]) >> 10)
"""


def write_results(journal: Journal) -> int:
    """Writes the rolled-up results of the tasks; returns the number of pages."""
    stats = {table: statistics(TABLES[table].conform(one_row(table))) for table in WRITTEN}
    lines: list[bytes] = []
    for number in range(TASKS):
        key = digest("task", number)
        adds = tuple(
            AddFile(
                table,
                f"{key}-{digest(table, number)}.parquet",
                5000 + number,
                3,
                stats[table].replace('"1"', json.dumps(digest("subject", number))),
            )
            for table in WRITTEN
        )
        result = TaskResult(key, adds, {}, (Count("label", "events", 1),), "", {})
        lines.append(canonical(asdict(result)))
        if len(lines) == PAGE_TASKS:
            page = gzip.compress(b"\n".join(lines), 1, mtime=0)
            put(f"{journal.folder}/{number // PAGE_TASKS:06d}{RESULTS}", page)
            lines.clear()
    return TASKS // PAGE_TASKS


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
def test_a_hundred_thousand_tasks_are_committed_within_500_mb(tmp_path: Path, tell: Tell) -> None:
    """Of which the libraries take two fifths."""
    lake = Lake.create(str(tmp_path))
    pages = write_results(Journal(lake.url, "r"))
    done = subprocess.run(
        [sys.executable, "-c", COMMIT, lake.url, str(pages)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    peak_mb = int(done.stdout)
    tell(f"the last step of {TASKS:,} tasks with {len(WRITTEN)} files each: {peak_mb} MB")
    assert peak_mb < MOST_MB
    after = Lake.open(lake.url)
    assert [len(after.files(table)) for table in WRITTEN] == [TASKS] * len(WRITTEN)
    assert after.read("runs")["counts"].to_pylist()[0][0]["kept"] == TASKS

"""Runs on a real Flink cluster: the same bytes as locally, whichever process is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from pipeline.lake.tables import Lake
from schemas.tables import TABLES
from synth import WRITERS
from tests import fetch
from tests.conftest import ROOT, Fleetmill, Tell, environment
from tests.deploy.flink.cluster import Cluster, running
from tests.notes import notes_in, write_notes, write_program
from tests.segments import write_segments
from tests.servers import wait_for
from tests.weights import needed, with_detector

pytestmark = pytest.mark.flink

SEGMENTS = 500

ENDED = {"FINISHED", "FAILED", "CANCELED"}

BEGUN_AT_LEAST = 2
"""Tasks of labelling that are done before anything is killed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A successful run."""

    lake: Path
    document: dict[str, Any]
    seconds: float

    @property
    def root(self) -> str:
        """The root hash of the snapshot."""
        root: str = self.document["snapshot"]["root"]
        return root

    def metrics(self) -> dict[str, Any]:
        """Returns Beam's metrics by job and name."""
        return {
            f"{job['job']}: {name}": value
            for job in self.document["jobs"]
            for name, value in job["metrics"].items()
        }


@dataclass(slots=True)
class Bench:
    """Runs the command on the same input, locally or on the cluster."""

    folder: Path
    inputs: list[Path]
    more: list[str]
    env: dict[str, str]
    cluster: Cluster

    def arguments(self) -> list[str]:
        """The arguments of the command without its lake and Beam's options."""
        given = [word for path in self.inputs for word in ("--input", str(path))]
        plan = ("--corpus", "c", "--topology", "dojo-tray", "--label-fps", "1", "--json")
        return ["run", *given, *plan, *self.more]

    def start(self, name: str, *beam: str) -> subprocess.Popen[bytes]:
        """Starts the run on the lake of this name."""
        words = [*self.arguments(), "--lake", str(self.lake(name)), "--", *beam]
        with self.out(name).open("wb") as out, self.log(name).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "jobs.cli", *words],
                cwd=ROOT,
                env=self.env,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )

    def run(self, name: str, *beam: str, meanwhile: Callable[[], None] = lambda: None) -> Ended:
        """Runs until the end and checks the exit code."""
        start = time.monotonic()
        process = self.start(name, *beam)
        try:
            meanwhile()
            code = process.wait(300)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert code == 0, self.log(name).read_text()
        document = json.loads(self.out(name).read_text())
        return Ended(self.lake(name), document, time.monotonic() - start)

    def lake(self, name: str) -> Path:
        """The lake of a run."""
        return self.folder / name

    def out(self, name: str) -> Path:
        """The file of its JSON document."""
        return self.folder / f"{name}.json"

    def log(self, name: str) -> Path:
        """The file of its messages."""
        return self.folder / f"{name}.log"


def labelling(lake: Path) -> tuple[int, int]:
    """Counts the tasks of the job `label` that are done, and all of them; 0, 0 without it."""
    for page in lake.glob("work/*/000000.todo"):
        with contextlib.suppress(FileNotFoundError):  # that job is just over
            tasks = page.read_bytes().splitlines()
            if b'"event":' in tasks[0]:
                return len(list(page.parent.glob("*/*.done"))), len(tasks)
    return 0, 0


def when_labelling(lake: Path, kill: Callable[[], object]) -> tuple[int, int]:
    """Kills in the middle of labelling; returns the tasks done then, and all of them."""
    wait_for(lambda: labelling(lake)[0] >= BEGUN_AT_LEAST, "labelling", 200)
    kill()
    done, tasks = labelling(lake)
    assert BEGUN_AT_LEAST <= done < tasks
    return done, tasks


def contents(lake: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without the times of the runs."""
    opened = Lake.open(str(lake))
    tables = {name: opened.read(name).to_pylist() for name in TABLES}
    for row in tables["runs"]:
        del row["started_ns"], row["finished_ns"]
    tables["runs"].sort(key=lambda row: str(row["run_id"]))
    return tables


def files(lake: Path) -> dict[str, bytes]:
    """Every file that readers may open, without those of `runs` and Delta's log."""
    return {
        str(path.relative_to(lake)): path.read_bytes()
        for part in ("tables", "packs", "corpora")
        for path in sorted((lake / part).rglob("*"))
        if path.is_file()
        and not {"_delta_log", "runs"} & set(path.relative_to(lake).parts)
        # Left by a worker that was killed while writing; vacuum deletes it.
        and not path.name.startswith(".tmp-")
    }


def commits(lake: Path) -> dict[str, list[int]]:
    """The numbers of the runs that committed to each table, in the order of their commits."""
    found: dict[str, list[int]] = {}
    for table in TABLES:
        log = sorted((lake / "tables" / table / "_delta_log").glob("*.json"))
        actions = [json.loads(line) for path in log for line in path.read_text().splitlines()]
        found[table] = [action["txn"]["version"] for action in actions if "txn" in action]
    return found


def assert_same(run: Ended, local: Ended) -> None:
    """Compares two lakes byte by byte, and checks that each run was committed once."""
    assert run.root == local.root
    assert contents(run.lake) == contents(local.lake)
    assert files(run.lake) == files(local.lake)
    for table, runs in commits(run.lake).items():
        assert len(set(runs)) == len(runs), table
        folder = run.lake / "tables" / table
        named = {Path(uri).name for uri in DeltaTable(folder).file_uris()} if runs else set()
        lying = {path.name for path in (run.lake / "tables" / table).glob("*.parquet")}
        assert lying == named, table
    assert commits(run.lake) == commits(local.lake)
    assert list((run.lake / "work").iterdir()) == []


@pytest.fixture(scope="module")
def recordings() -> list[str]:
    """The folder of real recordings if there is one; these tests run without it, too."""
    root = os.environ.get("FLEETMILL_DATA")
    return [root] if root and Path(root).is_dir() else []


@pytest.fixture(scope="module")
def bench(
    recordings: list[str], fleetmill: Fleetmill, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A cluster, and inputs in every format that synth writes, with the recordings."""
    folder = tmp_path_factory.mktemp("flink")

    def make(format_: str) -> Path:
        out = folder / "fleets" / format_
        small = ("--size", "160x120", "--cameras", "front", "--minutes", "0.4")
        made = fleetmill("synth", out, "--format", format_, "--drives", "3", *small)
        assert made.code == 0, made.err
        return out

    with ThreadPoolExecutor() as pool:
        fetching = pool.submit(fetch.flink_parts)
        inputs = list(pool.map(make, WRITERS))
        parts = fetching.result()
    models, more = needed(), []
    if recordings:
        data = Path(recordings[0]).resolve()
        models = with_detector(data)
        inputs += [data / "comma2k19", data / "lerobot" / "g1", data / "video"]
        more = ["--dbc", str(data / "dbc" / "toyota_2017.dbc")]
    env = {"FLEETMILL_MODELS": str(models), "HTTPS_PROXY": "http://127.0.0.1:9"}
    with running(parts, folder / "cluster", **env) as cluster:
        yield Bench(folder, inputs, more, environment(**env), cluster)


@pytest.fixture(scope="module")
def local(bench: Bench) -> Ended:
    """The run on the local runner."""
    return bench.run("local")


def test_a_run_on_flink_ends_in_the_same_bytes(
    bench: Bench, local: Ended, fleetmill: Fleetmill, tell: Tell
) -> None:
    """Root hash, tables, files, commits and Beam's metrics."""
    run = bench.run("flink", *bench.cluster.beam_options())
    tell(f"local {local.seconds:.0f} s {local.root}, Flink {run.seconds:.0f} s {run.root}")
    ours, theirs = local.metrics(), run.metrics()
    assert set(ours) == set(theirs)
    lines = [f"{'':40} {'local':>24} {'Flink':>24}"]
    for name in sorted(ours):
        lines.append(f"{name:40} {formatted(ours[name]):>24} {formatted(theirs[name]):>24}")
    tell("\n".join(lines))
    data = [name for name in ours if not name.endswith("_ms")]
    assert {"label: decode_ms", "label: encode_ms", "label: put_ms"} <= set(ours)
    assert {name: ours[name] for name in data} == {name: theirs[name] for name in data}
    for name in set(ours) - set(data):
        assert ours[name]["count"] == theirs[name]["count"], name
    assert_same(run, local)
    assert fleetmill("verify", run.lake).code == 0


def formatted(value: Any) -> str:
    """Formats a counter, or the count and sum of a distribution."""
    return f"{value['count']}: {value['sum']:,}" if isinstance(value, dict) else f"{value:,}"


@pytest.mark.parametrize("victim", ["TaskManager", "worker pool"])
def test_a_run_lasts_through_a_worker_that_is_killed(
    victim: str, bench: Bench, local: Ended, fleetmill: Fleetmill, tell: Tell
) -> None:
    """By SIGKILL in the middle of labelling; the job finishes by itself, with the same bytes."""
    cluster = bench.cluster
    cluster.heal()
    name = victim.replace(" ", "-").lower()
    pod = cluster.pods[0]
    at: list[tuple[int, int]] = []

    def meanwhile() -> None:
        if victim == "TaskManager":
            at.append(when_labelling(bench.lake(name), pod.task_manager.kill))
        else:
            at.append(when_labelling(bench.lake(name), pod.pool.kill))
            cluster.restart_pool(pod)

    run = bench.run(name, *cluster.beam_options(), meanwhile=meanwhile)
    metrics = run.metrics()
    recoveries = {job: cluster.recoveries(job) for job, _ in cluster.jobs()[-2:]}
    (done, tasks) = at[0]
    tell(
        f"{victim} killed by SIGKILL with {done} of {tasks} tasks of labelling done: "
        f"{sum(recoveries.values())} recoveries, {metrics['label: tasks_resumed']} tasks taken "
        f"over, {metrics['label: events_repeated']} of {metrics['label: events_kept']} events "
        f"labelled twice, {run.seconds:.0f} s, {run.root}"
    )
    assert sum(recoveries.values()) >= 1
    assert metrics["label: tasks_resumed"] >= done
    assert_same(run, local)
    assert fleetmill("verify", run.lake).code == 0


def test_a_run_whose_client_is_killed_is_run_again(
    bench: Bench, local: Ended, fleetmill: Fleetmill, tell: Tell
) -> None:
    """However its job on the cluster ends, the same command writes the same bytes."""
    cluster = bench.cluster
    cluster.heal()
    client = bench.start("client", *cluster.beam_options())
    at = when_labelling(bench.lake("client"), lambda: os.killpg(client.pid, signal.SIGKILL))
    client.wait()
    orphan, state = cluster.jobs()[-1]
    assert state in {"RUNNING", "CREATED"}
    run = bench.run("client", *cluster.beam_options())
    # The first job may outlive the run and write into its journal: the next job clears it.
    wait_for(lambda: dict(cluster.jobs())[orphan] in ENDED, "the first job to end", 200)
    assert fleetmill("mine", "--lake", run.lake).code == 0
    states = dict(cluster.jobs())
    tell(
        f"client killed by SIGKILL with {at[0]} of {at[1]} tasks of labelling done: its job "
        f"ended as {states[orphan]}; again {run.seconds:.0f} s, {run.root}"
    )
    assert_same(run, local)
    assert fleetmill("verify", run.lake).code == 0


def test_the_pipeline_of_the_architecture_page_runs_on_flink(
    bench: Bench, fleetmill: Fleetmill, tmp_path: Path, tell: Tell
) -> None:
    """The program of docs/architecture.md gives the expected rows."""
    bench.cluster.heal()
    program = write_program(ROOT / "docs" / "architecture.md", "notes_to_lake.py", tmp_path)
    fleet, lake, notes = (tmp_path / name for name in ("drives", "lake", "notes"))
    drives = ("--drives", "2", "--minutes", "0.5", "--no-video")
    assert fleetmill("synth", fleet, *drives).code == 0
    assert fleetmill("ingest", "--input", fleet, "--lake", lake).code == 0
    expected = write_notes(lake, notes)
    words = [sys.executable, program, lake, notes, *bench.cluster.beam_options()]
    start = time.monotonic()
    done = subprocess.run(
        [str(word) for word in words],
        env=bench.env, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert notes_in(lake) == expected
    assert fleetmill("verify", lake).code == 0
    tell(f"{len(expected)} rows from two stages on Flink: {time.monotonic() - start:.0f} s")


def test_hundreds_of_segments_go_through_flink(
    bench: Bench, fleetmill: Fleetmill, tell: Tell
) -> None:
    """Far more tasks than slots: everything is counted, and nothing done twice."""
    bench.cluster.heal()
    fleet = write_segments(fleetmill, bench.folder / "many", SEGMENTS)
    many = Bench(bench.folder, [fleet], [], bench.env, bench.cluster)
    run = many.run("many-on-flink", *bench.cluster.beam_options())
    rows = [line for job in run.document["jobs"] for line in job["counts"]]
    for line in rows:
        assert line["in"] == line["kept"] + line["filtered"] + line["rejected"], line
    metrics = run.metrics()
    assert metrics["ingest: logs_kept"] == metrics["mine: logs_kept"] == SEGMENTS
    assert metrics["label: events_kept"] == metrics["mine: events_kept"]
    samples = run.document["snapshot"]["splits"].values()
    assert sum(split["samples"] for split in samples) == metrics["label: events_kept"]
    assert fleetmill("verify", run.lake).code == 0
    tell(
        f"{SEGMENTS} segments, {metrics['label: tasks']} tasks of labelling: {run.seconds:.0f} s\n"
        + "\n".join(f"{name:40} {formatted(value):>24}" for name, value in sorted(metrics.items()))
    )

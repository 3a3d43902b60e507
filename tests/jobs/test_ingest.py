from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.lake.tables import Lake
from tests.conftest import ROOT, environment, limited
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


def test_every_log_of_the_fleet_is_in_the_lake(chain: Chain) -> None:
    (job,) = chain.ended["ingest"].document["jobs"]
    (logs,) = [line for line in job["counts"] if (line["stage"], line["of"]) == ("ingest", "logs")]
    written = chain.ended["synth"].document["logs"]
    assert (logs["in"], logs["kept"]) == (len(written), len(written))
    assert sorted(Lake.open(str(chain.lake)).read("logs")["name"].to_pylist()) == sorted(written)


def test_the_time_of_the_tasks_is_that_of_their_steps(chain: Chain) -> None:
    (job,) = chain.ended["ingest"].document["jobs"]
    assert job["time"]
    assert round(1000 * sum(job["time"].values())) == job["metrics"]["task_ms"]["sum"]


def test_over_the_limit_the_exit_code_is_three(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.mp4").write_text("this is text\n" * 100)
    arguments = ("ingest", "--input", tmp_path / "in", "--lake", tmp_path / "lake", "--json")
    done = call(*arguments)
    assert done.code == 3
    assert "--max-reject-fraction 0.05" in done.err
    (reject,) = Lake.open(str(tmp_path / "lake")).read("rejects").to_pylist()
    assert reject["uri"] == str(tmp_path / "in" / "notes.mp4")
    assert call(*arguments, "--max-reject-fraction", "1").code == 0


def test_a_flag_overrides_the_file_which_overrides_the_default(
    chain: Chain, tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f"[ingest]\ninput = [{json.dumps(str(chain.fleet))}]\ninput_timeout_s = 5\n")
    arguments = ("ingest", "--lake", tmp_path / "lake", "--config", file, "--json")
    assert call(*arguments, "--input-timeout", 7).code == 0
    (run,) = Lake.open(str(tmp_path / "lake")).read("runs").to_pylist()
    config = json.loads(run["config"])
    assert config["input"] == [str(chain.fleet)]
    assert config["input_timeout_s"] == 7
    assert config["format"] is None


def test_a_lake_that_takes_no_more_is_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """Files of the process are limited to a size that no table of signals has."""
    fleet, lake = tmp_path / "fleet", tmp_path / "lake"
    drives = ("--drives", 1, "--minutes", 0.5, "--no-video")
    assert call("synth", fleet, *drives).code == 0

    words = ["ingest", "--input", str(fleet), "--lake", str(lake)]
    command = limited("RLIMIT_FSIZE", 16_384, [sys.executable, "-m", "jobs.cli", *words])
    full = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert full.returncode == 1
    message = [line for line in full.stderr.splitlines() if line.startswith("fleetmill: ")]
    assert len(message) == 1
    assert "cannot be written: File too large; make room" in message[0]
    assert "Traceback" not in full.stderr
    assert Lake.open(str(lake)).read("logs").num_rows == 0
    assert call(*words).code == 0
    assert Lake.open(str(lake)).read("logs").num_rows == 1
    assert call("verify", lake).code == 0


def test_a_can_database_that_is_none_is_refused_before_any_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    (tmp_path / "text").write_text("BU_: X\n\nBO_ 5 m: 8 X\n SG_ s : zero|8@1+\n")
    for name, says in (
        ("fifo", "a pipe"),
        ("sparse", "longer than 8388608 bytes"),
        ("text", "line 4"),
        (".", "a folder"),
    ):
        done = call(
            "ingest", "--input", tmp_path, "--lake", tmp_path / "lake", "--dbc", tmp_path / name
        )
        assert done.code == 2
        (line,) = done.err.splitlines()
        assert line.startswith(f"fleetmill: CAN database {tmp_path / name}: ")
        assert says in line
    assert not (tmp_path / "lake").exists()

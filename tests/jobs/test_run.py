"""`fleetmill run` end to end on a synthetic fleet, compared with its truth."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from jobs.run import configure_jobs
from pipeline.lake.tables import Lake
from schemas.errors import UsageError
from tests.conftest import Finished, Fleetmill
from tests.jobs.inprocess import call

RUN = ("--corpus", "first", "--topology", "dojo-tray", "--label-fps", "1", "--json")


@pytest.fixture(scope="module")
def fleet(fleetmill: Fleetmill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short drives with two small cameras, and the truth."""
    out = tmp_path_factory.mktemp("fleet")
    size = ("--size", "256x192", "--cameras", "front,back", "--minutes", "0.5")
    done = fleetmill("synth", out, "--drives", "2", *size, "--truth")
    assert done.code == 0, done.err
    return out


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's lake goes."""
    return tmp_path_factory.mktemp("lake")


@pytest.fixture(scope="module")
def first(fleetmill: Fleetmill, fleet: Path, lake: Path) -> Finished:
    """The first run over the fleet."""
    done = fleetmill("run", "--input", fleet, "--lake", lake, "--sweep-fps", "1", *RUN)
    assert done.code == 0, done.err
    return done


def shards(snapshot: str) -> Iterator[Path]:
    """The shards of a snapshot."""
    yield from sorted(Path(snapshot).glob("*/*.tar"))


def counts(finished: Finished) -> dict[tuple[str, str], dict[str, Any]]:
    """The balance of a run by stage and kind of input."""
    lines = [line for job in finished.document["jobs"] for line in job["counts"]]
    return {(line["stage"], line["of"]): line for line in lines}


def test_the_balance_holds_by_stage(first: Finished) -> None:
    """In = kept + filtered + rejected, and the inputs of a stage are what the last one kept."""
    balance = counts(first)
    for line in balance.values():
        assert line["in"] == line["kept"] + line["filtered"] + line["rejected"]
    assert balance["ingest", "logs"]["kept"] == 2
    assert balance["sweep", "logs"]["in"] == 2
    assert balance["mine", "logs"]["in"] == 2
    assert balance["label", "events"]["in"] == balance["mine", "events"]["kept"]
    assert balance["corpus", "samples"]["in"] == balance["label", "events"]["kept"]


def test_without_weights_the_run_says_so_and_labels_without(first: Finished, lake: Path) -> None:
    assert first.err.splitlines()[0].startswith("model yolox_nano: no weights in")
    assert Lake.open(str(lake)).read("boxes").num_rows == 0
    assert Lake.open(str(lake)).read("parts").num_rows > 0


def test_the_lake_holds_the_recorded_frames_and_signals(
    first: Finished, fleet: Path, lake: Path
) -> None:
    """Frames are those of the files; signals equal the truth up to the sensors' noise."""
    assert first.code == 0
    opened = Lake.open(str(lake))
    videos = opened.read("videos").to_pylist()
    assert {row["camera"] for row in videos} == {"front", "back"}
    row = videos[0]
    with av.open(row["uri"], "r") as container:
        decoded = [frame.pts for frame in container.decode(video=0)]
    frames = opened.read("frames").to_pylist()
    assert [f["pts"] for f in frames if f["uri"] == row["uri"]] == decoded
    truth = pq.read_table(fleet / "truth" / "signals.parquet")
    names = {r["name"]: r["log_id"] for r in opened.read("logs").to_pylist()}
    for log_name, log_id in names.items():
        own = truth.filter(np.asarray(truth["log_name"].to_pylist()) == log_name)
        speed = dict(zip(own["t_ns"].to_pylist(), own["speed_mps"].to_pylist(), strict=True))
        read = [r for r in opened.read("signals").to_pylist() if r["log_id"] == log_id]
        errors = [
            abs(r["speed_mps"] - speed[r["t_ns"]])
            for r in read
            if r["speed_mps"] is not None and r["t_ns"] in speed
        ]
        assert len(errors) > 0.8 * len(speed)
        assert float(np.median(errors)) < 0.2


def test_the_time_of_every_job_is_that_of_its_steps(first: Finished) -> None:
    for job in first.document["jobs"]:
        assert job["time"]
        assert round(1000 * sum(job["time"].values())) == job["metrics"]["task_ms"]["sum"]


def test_clips_span_their_windows(first: Finished, lake: Path) -> None:
    """A clip decodes to exactly the frames of its window."""
    document = first.document["snapshot"]
    frames = Lake.open(str(lake)).read("frames").to_pylist()
    seen = 0
    for shard in shards(document["url"]):
        for sample in webdataset.WebDataset(str(shard), shardshuffle=False):
            event = json.loads(sample["json"])["event"]
            assert event["event_id"] == sample["__key__"]
            for camera in ("front", "back"):
                inside = [
                    f["t_ns"]
                    for f in frames
                    if (f["log_id"], f["camera"]) == (event["log_id"], camera)
                    and event["start_ns"] <= f["t_ns"] < event["end_ns"]
                ]
                if not inside:
                    continue
                with av.open(io.BytesIO(sample[f"{camera}.mp4"]), "r") as container:
                    times = [
                        event["start_ns"] + round((frame.time or 0.0) * 1e9)
                        for frame in container.decode(video=0)
                    ]
                assert len(times) == len(inside)
                assert np.abs(np.array(times) - np.array(inside)).max() < 1_000_000
            assert np.load(io.BytesIO(sample["signals.npz"]))["t_ns"].size > 0
            seen += 1
    assert seen == sum(split["samples"] for split in document["splits"].values())


def test_duckdb_reads_the_snapshot(first: Finished) -> None:
    """samples.parquet has the byte range of every sample; labels.parquet opens."""
    folder = first.document["snapshot"]["url"]
    con = duckdb.connect()
    for name in ("samples", "labels"):
        con.read_parquet(f"{folder}/{name}.parquet").create_view(name)
    rows = con.execute('SELECT event_id, shard, "offset", length FROM samples').fetchall()
    assert rows
    for event_id, shard, offset, length in rows:
        body = (Path(folder) / shard).read_bytes()[offset : offset + length]
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            members = archive.getnames()
        assert {name.split(".")[0] for name in members} == {event_id}
    assert con.execute("SELECT count(*) FROM labels").fetchall() == [(0,)]


def test_every_unit_reads_the_same_number_of_samples(first: Finished) -> None:
    plan = json.loads((Path(first.document["snapshot"]["url"]) / "plan.json").read_text())
    for split in plan["splits"].values():
        assert {sum(r[2] for r in unit) for unit in split["units"]} == {split["samples_per_unit"]}


def test_the_same_command_again_finds_nothing_new(
    first: Finished, fleetmill: Fleetmill, fleet: Path, lake: Path
) -> None:
    """No task, no new version of a table, the same root hash."""
    before = Lake.open(str(lake)).versions
    done = fleetmill("run", "--input", fleet, "--lake", lake, "--sweep-fps", "1", *RUN)
    assert done.code == 0, done.err
    assert [job["tasks"] for job in done.document["jobs"]] == [0] * 5
    assert done.document["snapshot"]["root"] == first.document["snapshot"]["root"]
    assert Lake.open(str(lake)).versions == before


def test_a_fleet_in_another_folder_gives_the_same_root_hash(
    first: Finished, fleetmill: Fleetmill, fleet: Path, tmp_path: Path
) -> None:
    """No byte of a snapshot depends on the path of the inputs or of the lake."""
    shutil.copytree(fleet, tmp_path / "moved")
    done = fleetmill(
        "run", "--input", tmp_path / "moved", "--lake", tmp_path / "l", "--sweep-fps", "1", *RUN
    )
    assert done.code == 0, done.err
    assert done.document["snapshot"]["root"] == first.document["snapshot"]["root"]


def test_the_frames_payload_is_made_from_the_clips(
    first: Finished, fleetmill: Fleetmill, lake: Path
) -> None:
    """JPEG frames at the rate asked for, with their times."""
    assert first.code == 0
    done = fleetmill("corpus", "stills", "--lake", lake, "--payload", "frames", "--json")
    assert done.code == 0, done.err
    shard = next(shards(done.document["snapshot"]["url"]))
    sample = next(iter(webdataset.WebDataset(str(shard), shardshuffle=False)))
    times = json.loads(sample["pictures.json"])["frame_t_ns"]["front"]
    pictures = sorted(name for name in sample if name.startswith("front.") and name.endswith("jpg"))
    assert len(pictures) == len(times) > 2
    assert min(np.diff(times)) > 0.1e9
    assert sample[pictures[0]][:2] == b"\xff\xd8"


def names(tables: dict[str, Any], **flags: object) -> list[str]:
    """The jobs that `run` chooses, given a configuration file and flags."""
    return [job.name for job, _ in configure_jobs(tables, flags)]


def test_sweep_and_corpus_run_on_request() -> None:
    assert names({}) == ["ingest", "mine", "label"]
    assert names({}, sweep_fps=2.0) == ["ingest", "sweep", "mine", "label"]
    assert names({"sweep": {}}) == ["ingest", "sweep", "mine", "label"]
    assert names({"corpus": {"val_fraction": 0.2}}) == ["ingest", "mine", "label"]
    assert names({"corpus": {"name": "c"}}) == ["ingest", "mine", "label", "corpus"]
    assert names({}, corpus="c") == ["ingest", "mine", "label", "corpus"]


def test_a_flag_sets_its_key_in_every_job_that_has_it() -> None:
    flags = {"models": ["m"], "label_fps": 3.0, "sweep_fps": 0.5, "input_timeout": 9.0}
    flags |= {"input_memory": 0.5}
    tables: dict[str, dict[str, Any]] = {
        "label": {"crf": 30, "fps": 2.0},
        "sweep": {"models": ["n"]},
        "corpus": {"salt": "s"},
    }
    chosen = {job.name: config for job, config in configure_jobs(tables, {**flags, "corpus": "c"})}
    assert chosen["sweep"].models == chosen["label"].models == ("m",)
    assert (chosen["sweep"].fps, chosen["label"].fps, chosen["label"].crf) == (0.5, 3.0, 30)
    timeouts = {chosen[name].input_timeout_s for name in ("ingest", "sweep", "label")}
    assert timeouts == {9.0}
    limits = {chosen[name].limits.memory_bytes for name in ("ingest", "sweep", "label")}
    assert limits == {500_000_000}
    assert (chosen["corpus"].name, chosen["corpus"].salt) == ("c", "s")


def test_flags_of_a_job_that_does_not_run_are_refused() -> None:
    with pytest.raises(UsageError, match="--topology and --where given without --corpus"):
        names({}, topology="gpu-8", where="true", models=["m"])


def test_a_name_that_the_last_job_cannot_use_stops_the_first(fleet: Path, tmp_path: Path) -> None:
    plan = ("--corpus", "c", "--topology", "dojo")
    done = call("run", "--input", fleet, "--lake", tmp_path / "lake", *plan)
    assert done.code == 2
    assert "gpu-8" in done.err
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--models", "yolox_nano"), "model yolox_nano: no weights in"),
        (("--config", "{tmp}/label.ini"), "model yolox_nano: no weights in"),
        (("--config", "{tmp}/sweep.ini"), "model yolox_nano: no weights in"),
        (("--triggers", "{tmp}"), "trigger {tmp}/broken.toml: not TOML"),
        (("--dbc", "{tmp}/none.dbc"), "CAN database {tmp}/none.dbc: no such file"),
        (("--can-maps", "{tmp}/none"), "CAN map {tmp}/none: no such folder"),
        (("--topic-maps", "{tmp}/none"), "topic map {tmp}/none: no such folder"),
        (("--models-dir", "{tmp}/none"), "model {tmp}/none: no such folder"),
        (
            ("--corpus", "c", "--topologies", "{tmp}/none"),
            "topology {tmp}/none: no such folder",
        ),
    ],
)
def test_what_is_named_and_cannot_be_had_is_refused_before_the_first_job(
    fleet: Path, tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    """Exit code 2, one line, and no lake."""
    (tmp_path / "broken.toml").write_text("=")
    for job in ("label", "sweep"):
        (tmp_path / f"{job}.ini").write_text(f'[{job}]\nmodels = ["yolox_nano"]\n')
    given = [flag.format(tmp=tmp_path) for flag in flags]
    lake = tmp_path / "lake"
    done = call("run", "--input", fleet, "--lake", lake, *given)
    assert done.code == 2, done.err
    (line,) = done.err.splitlines()
    assert words.format(tmp=tmp_path) in line
    assert not lake.exists()


def test_no_models_is_what_an_empty_list_says(fleet: Path, tmp_path: Path) -> None:
    """Nothing is fetched, and nothing is missed."""
    config = tmp_path / "c.toml"
    config.write_text("[label]\nmodels = []\n[mine]\nonly = ['hard_brake']\n")
    done = call("run", "--input", fleet, "--lake", tmp_path / "lake", "--config", config)
    assert done.code == 0, done.err
    assert "going on without this model" not in done.err


def test_without_a_corpus_the_snapshot_is_null(tmp_path: Path) -> None:
    short = ("--drives", 1, "--minutes", 0.1, "--no-video")
    assert call("synth", tmp_path / "fleet", *short).code == 0
    arguments = ("run", "--input", tmp_path / "fleet", "--lake", tmp_path / "lake")
    done = call(*arguments, "--json")
    assert done.code == 0, done.err
    assert list(done.document) == ["jobs", "events", "snapshot"]
    assert done.document["snapshot"] is None

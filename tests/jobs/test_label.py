from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pipeline.lake.tables import Lake
from tests import onnx_file
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


def test_every_event_has_a_blurred_sample(chain: Chain) -> None:
    lake = Lake.open(str(chain.lake))
    clips = [row for row in lake.read("parts").to_pylist() if row["part"] == "clip"]
    assert {row["event_id"] for row in clips} == set(lake.read("events")["event_id"].to_pylist())
    assert {row["privacy"] for row in clips} == {"blur"}


def test_without_weights_it_says_so_and_labels_without(chain: Chain) -> None:
    done = chain.ended["label"]
    assert done.err.startswith("model yolox_nano: no weights in")
    (job,) = done.document["jobs"]
    boxes = {line["of"]: line["kept"] for line in job["counts"]}
    assert boxes["events"] > 0
    assert boxes["boxes"] == 0 == Lake.open(str(chain.lake)).read("boxes").num_rows


def test_the_time_of_the_tasks_is_that_of_their_steps(chain: Chain) -> None:
    (job,) = chain.ended["label"].document["jobs"]
    assert job["time"]
    assert round(1000 * sum(job["time"].values())) == job["metrics"]["task_ms"]["sum"]


def test_a_model_that_is_named_has_to_have_its_weights(chain: Chain) -> None:
    done = call("label", "--lake", chain.lake, "--models", "yolox_nano")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("fleetmill: model yolox_nano: no weights in")


def test_again_there_is_nothing_new(chain: Chain) -> None:
    done = call("label", "--lake", chain.lake, "--label-fps", 1, "--json")
    assert [job["tasks"] for job in done.document["jobs"]] == [0]


def test_a_model_with_another_input_is_refused_before_any_work(
    chain: Chain, tmp_path: Path
) -> None:
    raw = onnx_file.REFUSED["uint8 input"]()
    onnx_file.write_toml(tmp_path, onnx_file.specified(tmp_path / "bytes.onnx", raw))
    done = call("label", "--lake", chain.lake, "--models-dir", tmp_path, "--models", "bytes")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("fleetmill: model bytes: ")
    assert "tensor(uint8)[1, 3, 32, 32]" in line


def test_a_model_that_fails_on_a_picture_costs_its_camera(chain: Chain, tmp_path: Path) -> None:
    """The trial's pictures are wide ones, so that this one passes it."""
    lake = Path(shutil.copytree(chain.lake, tmp_path / "lake"))
    raw = onnx_file.wrong_on_tall_pictures()
    onnx_file.write_toml(tmp_path, onnx_file.specified(tmp_path / "tall.onnx", raw))
    flags = ("--models-dir", tmp_path, "--models", "tall", "--label-fps", 1, "--json")
    done = call("label", "--lake", lake, *flags)
    assert done.code == 3, done.err
    assert "Traceback" not in done.err
    rejects = Lake.open(str(lake)).read("rejects").to_pylist()
    assert rejects
    for reject in rejects:
        assert reject["reason"] == "model"
        assert reject["uri"] in reject["detail"]
        assert re.search(r"picture at \d+ ns: model tall: 126 numbers of its", reject["detail"])
    again = call("label", "--lake", lake, *flags)
    assert [job["tasks"] for job in again.document["jobs"]] == [0], "they are final"


@pytest.mark.parametrize("broken", [None, b"no model"], ids=["removed", "broken"])
def test_without_a_model_that_privacy_needs_nothing_is_written(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bytes | None
) -> None:
    monkeypatch.setenv("FLEETMILL_MODELS", str(tmp_path / "models"))
    if broken is not None:
        (tmp_path / "models" / "yunet").mkdir(parents=True)
        (tmp_path / "models" / "yunet" / "yunet.onnx").write_bytes(broken)
    lake = tmp_path / "lake"
    shutil.copytree(chain.lake, lake)
    before = sorted((lake / "packs").iterdir())
    done = call("label", "--lake", lake, "--label-fps", 2)
    assert done.code == 1
    assert "privacy blur: model yunet: " in done.err
    assert "no picture is written without it" in done.err
    assert sorted((lake / "packs").iterdir()) == before
    assert call("label", "--lake", lake, "--label-fps", 2, "--privacy", "none").code == 0

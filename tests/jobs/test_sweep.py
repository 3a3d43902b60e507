from __future__ import annotations

from pipeline.lake.tables import Lake
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


def test_it_looks_at_keyframes_at_the_rate(chain: Chain) -> None:
    """At most one each two seconds of a video, and the first of each."""
    lake = Lake.open(str(chain.lake))
    frames, videos = lake.read("frames").to_pylist(), lake.read("videos").to_pylist()
    keyframes = {(row["log_id"], row["t_ns"]) for row in frames if row["is_keyframe"]}
    looked_at = {(row["log_id"], row["t_ns"]) for row in lake.read("scene").to_pylist()}
    assert looked_at <= keyframes
    seconds = sum(row["duration_ns"] for row in videos) / 1e9
    assert len(videos) <= len(looked_at) <= 0.5 * seconds + len(videos)


def test_without_weights_it_says_so(chain: Chain) -> None:
    done = chain.ended["sweep"]
    assert done.err.startswith("model yolox_nano: no weights in")
    (job,) = done.document["jobs"]
    assert job["counts"][0] == {
        "stage": "sweep", "of": "logs", "in": 2, "kept": 2, "filtered": 0, "rejected": 0
    }  # fmt: skip


def test_a_model_that_is_named_has_to_have_its_weights(chain: Chain) -> None:
    done = call("sweep", "--lake", chain.lake, "--models", "yolox_nano")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("fleetmill: model yolox_nano: no weights in")


def test_again_there_is_nothing_new(chain: Chain) -> None:
    done = call("sweep", "--lake", chain.lake, "--fps", 0.5)
    assert done.code == 0, done.err
    assert "sweep: nothing new" in done.err
    assert "where the time went" not in done.out

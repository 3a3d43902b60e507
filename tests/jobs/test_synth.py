from __future__ import annotations

import hashlib
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest

from jobs.synth import _size
from schemas.errors import UsageError
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


def test_the_flags_say_what_the_fleet_is(chain: Chain) -> None:
    document = chain.ended["synth"].document
    assert len(document["logs"]) == 2
    videos = sorted(chain.fleet.rglob("*.mp4"))
    assert videos
    assert all(path.name.endswith("-front.mp4") for path in videos)
    for path in videos:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == (64, 48)
    truth = pq.read_table(Path(document["truth"]) / "events.parquet")
    assert sum(document["events"].values()) == truth.num_rows


def test_the_seed_decides_the_bytes(tmp_path: Path) -> None:
    def digests(name: str, *flags: object) -> dict[str, str]:
        short = ("--drives", 1, "--minutes", 0.1, "--no-video", "--truth")
        assert call("synth", tmp_path / name, *short, *flags).code == 0
        return {
            str(path.relative_to(tmp_path / name)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }

    first = digests("a", "--seed", 3)
    assert first
    assert digests("b", "--seed", 3) == first
    assert digests("c", "--seed", 4) != first


def test_without_truth_there_is_none(tmp_path: Path) -> None:
    done = call("synth", tmp_path, "--drives", 1, "--minutes", 0.1, "--no-video", "--json")
    assert done.document["truth"] is None
    assert not (tmp_path / "truth").exists()


@pytest.mark.parametrize("text", ["10", "axb", "10x", "x10", "-1x2"])
def test_a_wrong_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
        _size(text)

"""The contract of every row of CORPORA, and samples."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest

from transforms.corpora import CORPORA, Corpus, Sample, ShardDigest
from transforms.corpora.pack import PackWriter, read_sample, tar_members

SAMPLE = Sample(
    "k1",
    clips={"front": b"clip"},
    frames={"back": [(5, b"one"), (9, b"two")]},
    pictures={"cameras": {"back": {}, "front": {}}},
    metadata={"event": {"score": 0.1 + 0.2, "t_ns": 2**62}},
    signals={"t_ns": np.arange(3), "speed_mps": np.array([1.0, np.nan, 3.0])},
)


@pytest.fixture(params=sorted(CORPORA))
def corpus(request: pytest.FixtureRequest) -> Corpus:
    """The corpus format of each row."""
    made: Corpus = CORPORA.load(request.param)()
    assert made.name == request.param
    assert made.suffix.startswith(".")
    return made


def test_members_are_the_same_each_time(corpus: Corpus) -> None:
    assert corpus.members(SAMPLE) == corpus.members(SAMPLE)
    assert read_sample(tar_members("k1", corpus.members(SAMPLE))) == corpus.members(SAMPLE)
    assert not corpus.members(Sample("empty"))


def test_the_files_of_a_sample_are_those_of_its_parts(corpus: Corpus) -> None:
    parts = [
        replace(SAMPLE, metadata=None, signals=None),
        Sample("k1", metadata=SAMPLE.metadata),
        Sample("k1", signals=SAMPLE.signals),
    ]
    files = [corpus.members(part) for part in parts]
    assert sum(map(len, files)) == len(corpus.members(SAMPLE))
    assert {name: raw for part in files for name, raw in part.items()} == corpus.members(SAMPLE)


def test_a_shard_is_its_samples(corpus: Corpus) -> None:
    parts = [tar_members(f"k{i}", corpus.members(SAMPLE)) for i in range(3)]
    out, packed = io.BytesIO(), io.BytesIO()
    digest = corpus.assemble((memoryview(part) for part in parts), out)
    writer = PackWriter(packed)
    for index in range(3):
        writer.add(f"k{index}", corpus.members(SAMPLE))
    writer.close()
    assert out.getvalue() == packed.getvalue()
    sha256 = hashlib.sha256(out.getvalue()).hexdigest()
    assert digest == ShardDigest(len(out.getvalue()), sha256, 3)


def test_a_sample_refuses_frames_out_of_order() -> None:
    with pytest.raises(ValueError, match="order"):
        Sample("k", frames={"front": [(9, b""), (5, b"")]})

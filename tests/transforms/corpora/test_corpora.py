"""The contract of every row of CORPORA, and samples."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest

from transforms.corpora import CORPORA, Corpus, Sample, ShardDigest
from transforms.corpora.pack import PackWriter, read_sample, tar_members

SAMPLE = Sample(
    "k1",
    clips={"front": b"clip"},
    frames={"back": [(5, b"one"), (9, b"two")]},
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
    assert corpus.members(Sample("empty"))


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

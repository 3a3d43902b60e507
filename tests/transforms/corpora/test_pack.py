"""Packs, as read by tarfile and by the webdataset library."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import webdataset

from schemas.errors import CorruptError
from transforms.corpora.pack import END_OF_ARCHIVE, PackWriter, read_sample, sample_key, tar_members

SAMPLES: dict[str, dict[str, bytes]] = {
    "a1": {"json": b"{}", "front.mp4": bytes(range(256)) * 3, "front.0001.jpg": b""},
    "b-2_X": {"json": b"x" * 512, "signals.npz": b"y" * 513},
}


def pack(samples: Mapping[str, Mapping[str, bytes]]) -> bytes:
    """Writes a whole archive."""
    out = io.BytesIO()
    writer = PackWriter(out)
    for key, members in samples.items():
        writer.add(key, members)
    writer.close()
    return out.getvalue()


def test_golden_bytes() -> None:
    block = tar_members("key", {"json": b'{"a":1}', "front.mp4": b"\0\1\2"})
    golden = "0607b732352db7c9dc5609fe76016cb007648aadae9458cb5a4c704429fb1b2d"
    assert hashlib.sha256(block).hexdigest() == golden


def test_tarfile_reads_what_was_written() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(SAMPLES))) as archive:
        found = {}
        for member in archive:
            assert member.isreg()
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            assert (member.uname, member.gname, member.pax_headers) == ("", "", {})
            file = archive.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
    assert list(found.items()) == [
        (f"{key}.{suffix}", members[suffix])
        for key, members in SAMPLES.items()
        for suffix in sorted(members)
    ]


def test_webdataset_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(pack(SAMPLES))
    loader = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    found = {sample["__key__"]: sample for sample in loader}
    assert list(found) == list(SAMPLES)
    for key, members in SAMPLES.items():
        assert {s: found[key][s] for s in members} == members


def test_ranges_are_samples_wherever_they_lie() -> None:
    out = io.BytesIO()
    writer = PackWriter(out)
    ranges = [writer.add(key, members) for key, members in SAMPLES.items()]
    writer.close()
    body = out.getvalue()
    for where, (key, members) in zip(ranges, SAMPLES.items(), strict=True):
        block = body[where.offset : where.offset + where.length]
        assert block == tar_members(key, members)
        assert hashlib.sha256(block).hexdigest() == where.sha256
        assert (sample_key(block), read_sample(block)) == (key, members)
    assert sum(where.length for where in ranges) == len(body) - len(END_OF_ARCHIVE)
    assert len(body) % 512 == 0


def test_order_of_members_does_not_matter() -> None:
    members = SAMPLES["a1"]
    assert tar_members("k", members) == tar_members("k", dict(reversed(members.items())))


class Huge(bytes):
    """Claims to have 8 GiB."""

    def __len__(self) -> int:
        return 8 << 30


@pytest.mark.parametrize(
    ("key", "members"),
    [
        ("a.b", {"json": b""}),
        ("../a", {"json": b""}),
        ("", {"json": b""}),
        ("ü", {"json": b""}),
        ("a\n", {"json": b""}),
        ("a", {}),
        ("a", {"": b""}),
        ("a", {"../x": b""}),
        ("a", {"x..y": b""}),
        ("a", {"x" * 99: b""}),
        ("a", {"mp4": Huge()}),
    ],
)
def test_refuses_what_would_not_come_back(key: str, members: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"sample|member"):
        tar_members(key, members)


def test_hostile_bytes_are_corrupt() -> None:
    block = tar_members("a1", SAMPLES["a1"])
    other = tar_members("b", {"json": b""})
    odd = tarfile.TarInfo("a1.json")
    odd.type, odd.linkname = tarfile.SYMTYPE, "/etc/passwd"
    link = odd.tobuf(tarfile.USTAR_FORMAT)
    for body in (b"", b"x", block[:-1], block + other, block + END_OF_ARCHIVE, link, block[100:]):
        with pytest.raises(CorruptError):
            read_sample(body)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        torn = bytearray(block)
        header = 512 * int(rng.integers(0, len(block) // 512))
        torn[header + int(rng.integers(0, 512))] ^= 1 << int(rng.integers(8))
        try:
            found = read_sample(bytes(torn))
        except CorruptError:
            continue
        assert tar_members("a1", found) == bytes(torn)

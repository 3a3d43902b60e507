"""The .npy parser against numpy's own writer, and against forged files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from schemas.errors import CorruptError, DataError, EmptyError, TruncatedError, UnreadableError
from transforms.npy import load_npy, parse_npy


def saved(array: Any, version: tuple[int, int] = (1, 0)) -> bytes:
    """Writes an array with numpy, in a version of the format."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    content = file.getvalue()
    if version == (1, 0):
        return content
    size = int.from_bytes(content[8:10], "little").to_bytes(4, "little")
    return content[:6] + bytes(version) + size + content[10:]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(5, dtype=">i2"),
        np.array([b"ab\0", b"\0\0c"]),
        np.array([True, False]),
        np.zeros((0, 7), np.float32),
        np.float64(3.5),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2),
    ],
    ids=str,
)
def test_equals_what_was_saved(array: Any, version: tuple[int, int]) -> None:
    got = parse_npy(saved(array, version), "x")
    assert (got.dtype, got.shape) == (np.asanyarray(array).dtype, np.shape(array))
    assert got.tobytes() == np.asanyarray(array).tobytes()


def test_a_cut_file_is_truncated_wherever_it_is_cut() -> None:
    content = saved(np.arange(10.0))
    for size in range(1, len(content)):
        with pytest.raises(TruncatedError, match="x"):
            parse_npy(content[:size], "x")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<f8", b"|O8"),
        (b"<f8", b"<f9"),
        (b"<f8", b"|S0"),
        (b"(10,)", b"(-1,)"),
        (b"(10,), }", b"(999999999999,), }"),
        (b"(10,), }", b"(0, 999999999999, 999999999999), }"),
        (b"{'descr'", b"__import__('os')"),
        (b"\x93NUMPY", b"\x93NUMPX"),
    ],
)
def test_a_forged_header_is_corrupt_and_allocates_nothing(old: bytes, new: bytes) -> None:
    content = saved(np.arange(10.0)).replace(old, new).ljust(400)
    size = 10 + int.from_bytes(content[8:10], "little") + len(new) - len(old)
    forged = content[:8] + (size - 10).to_bytes(2, "little") + content[10:]
    with pytest.raises(CorruptError):
        parse_npy(forged, "x")


def test_objects_are_refused() -> None:
    with pytest.raises(CorruptError, match="without objects"):
        parse_npy(saved(np.array([{}, None])), "x")


def test_only_data_errors_escape_from_damaged_files() -> None:
    rng = np.random.default_rng(0)
    content = saved(np.arange(6.0).reshape(2, 3))
    raised = 0
    for _ in range(500):
        damaged = bytearray(content)
        for at in rng.integers(0, 128, 2):
            damaged[at] = rng.integers(256)
        try:
            parse_npy(bytes(damaged), "x")
        except DataError:
            raised += 1
    assert raised > 100


def test_missing_and_empty_files_say_so(tmp_path: Any) -> None:
    with pytest.raises(UnreadableError, match="gone"):
        load_npy(str(tmp_path / "gone"))
    (tmp_path / "empty").touch()
    with pytest.raises(EmptyError, match="empty"):
        load_npy(str(tmp_path / "empty"))

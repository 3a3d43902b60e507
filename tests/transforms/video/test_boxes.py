"""The box parser on boxes made by hand, and on random bytes."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from schemas.errors import CorruptError, DataError, TruncatedError
from transforms.video.boxes import MAX_BOXES, BoxParser, read_moov


def box(type_: bytes, body: bytes = b"") -> bytes:
    """Makes a box with a 32-bit size."""
    return struct.pack(">I4s", 8 + len(body), type_) + body


def large_box(type_: bytes, body: bytes = b"") -> bytes:
    """Makes a box with a 64-bit size."""
    return struct.pack(">I4sQ", 1, type_, 16 + len(body)) + body


def parser(content: bytes) -> BoxParser:
    """Parses bytes as a whole file."""
    return BoxParser(content, "clip.mp4", len(content))


def test_boxes_of_every_size_form_are_found() -> None:
    content = box(b"aaaa", b"123") + large_box(b"bbbb", b"45") + box(b"cccc")
    content += struct.pack(">I4s", 0, b"dddd") + b"the rest"
    boxes = list(parser(content).boxes(0, len(content)))
    assert [b.type for b in boxes] == [b"aaaa", b"bbbb", b"cccc", b"dddd"]
    assert [content[b.start : b.end] for b in boxes] == [b"123", b"45", b"", b"the rest"]


def test_children_are_the_first_of_each_type() -> None:
    content = box(b"trak", box(b"edts", b"1") + box(b"mdia", b"2") + box(b"edts", b"3"))
    (trak,) = parser(content).boxes(0, len(content))
    children = parser(content).children(trak)
    assert {k: content[b.start : b.end] for k, b in children.items()} == {
        b"edts": b"1",
        b"mdia": b"2",
    }


@pytest.mark.parametrize("size", [1, 7, 40, 2**32 - 1])
def test_an_impossible_size_names_the_box_its_place_and_the_file(size: int) -> None:
    content = box(b"aaaa") + struct.pack(">I4s", size, b"bbbb") + bytes(4)
    with pytest.raises(CorruptError, match=rf"clip\.mp4: box b'bbbb' at byte 8 .* {size} bytes"):
        list(parser(content).boxes(0, len(content)))


def test_the_number_of_boxes_side_by_side_is_bounded() -> None:
    content = box(b"free") * (MAX_BOXES + 1)
    with pytest.raises(CorruptError, match="more than 4096 boxes"):
        list(parser(content).boxes(0, len(content)))
    moov = box(b"moov", b"x")
    file = io.BytesIO(content + moov)
    with pytest.raises(CorruptError, match="more than 4096 boxes"):
        read_moov(file, "clip.mp4", len(content + moov))


def test_tables_are_read_in_columns_and_never_beyond_their_box() -> None:
    body = struct.pack(">IIHIHI", 0, 2, 1, 100_000, 2, 200_000)
    content = box(b"tabl", body) + b"more bytes"
    (table, *_) = parser(content[:-10]).boxes(0, len(content) - 10)
    rows = parser(content).rows(table, "u2 u4")
    assert rows["f0"].tolist() == [1, 2]
    assert rows["f1"].tolist() == [100_000, 200_000]
    assert parser(content).unpack(">HI", table, 8) == (1, 100_000)
    for count in (3, 2**32 - 1):
        forged = content[:12] + struct.pack(">I", count) + content[16:]
        with pytest.raises(CorruptError, match=f"b'tabl' claims {count} rows"):
            parser(forged).rows(table, "u2 u4")
    with pytest.raises(CorruptError, match="b'tabl' is too short"):
        parser(content).unpack(">I", table, len(body) - 3)


def test_moov_is_found_wherever_it_is() -> None:
    ftyp, media, moov = box(b"ftyp", b"isom"), bytes(1000), box(b"trak", b"x")
    for content in (
        ftyp + box(b"mdat", media) + box(b"moov", moov),
        ftyp + box(b"moov", moov) + box(b"mdat", media),
        ftyp + large_box(b"mdat", media) + large_box(b"moov", moov),
        ftyp + box(b"mdat", media) + struct.pack(">I4s", 0, b"moov") + moov,
    ):
        assert read_moov(io.BytesIO(content), "clip.mp4", len(content)) == moov


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"just some text, no video", CorruptError),
        (box(b"ftyp") + struct.pack(">I4s", 4, b"moov"), CorruptError),
        (box(b"ftyp") + box(b"mdat", bytes(100)), TruncatedError),
        (box(b"ftyp") + box(b"moov", bytes(100))[:-1], TruncatedError),
        (box(b"ftyp")[:-1], TruncatedError),
        (b"", TruncatedError),
    ],
)
def test_what_is_wrong_with_a_file_has_its_own_error(
    content: bytes, error: type[DataError]
) -> None:
    with pytest.raises(error, match=r"clip\.mp4: "):
        read_moov(io.BytesIO(content), "clip.mp4", len(content))


def test_random_bytes_raise_nothing_but_data_errors() -> None:
    rng = np.random.default_rng(1)
    words = [b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\x08", b"\0\0\0\x10", b"moov", b"ftyp", b"stco"]
    parsed = 0
    for _ in range(2000):
        content = b"".join(words[k] for k in rng.integers(len(words), size=rng.integers(1, 12)))
        try:
            read_moov(io.BytesIO(content), "x", len(content))
            parsed += 1
        except DataError:
            pass
        try:
            for found in parser(content).boxes(0, len(content)):
                parser(content).rows(found, "u4 u4")
            parsed += 1
        except DataError:
            pass
    assert 0 < parsed < 4000

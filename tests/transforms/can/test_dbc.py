"""CAN decoding against cantools itself, on random layouts and on the public databases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cantools
import numpy as np
import pytest
from cantools.database.errors import DecodeError

from schemas.errors import UsageError
from transforms.can.dbc import Database, Decoded
from transforms.can.dbc_text import DbcError, parse

SCALES = ((1, 0), (0.01, -67.67), (3, -7), (1e-7, 0), (-0.5, 12))
CYCLE = (
    'BU_: X\n\nBO_ 5 m: 8 X\n SG_ a m0M : 0|8@1+ (1,0) [0|0] "" X\n'
    ' SG_ b m0M : 8|8@1+ (1,0) [0|0] "" X\n\n'
    "SG_MUL_VAL_ 5 a b 0-0;\nSG_MUL_VAL_ 5 b a 0-0;\n"
)
DBCS = ("dbc/toyota_2017.dbc", "dbc/tesla_model3_party.dbc")


def load(tmp_path: Path, *texts: str) -> Database:
    """Writes DBC files and loads them together."""
    paths = [tmp_path / f"{index}.dbc" for index in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="cp1252")
    return Database.load([str(path) for path in paths])


def cantools_of(text: str) -> Any:
    """Loads a database with cantools, with overlapping signals allowed."""
    peer = cantools.database.can.Database(strict=False)
    peer.add_dbc_string(text)
    return peer


def truth(message: Any, frames: Sequence[bytes]) -> dict[str, dict[int, float]]:
    """Decodes with cantools, one frame after the other: signal, row, value."""
    found: dict[str, dict[int, float]] = {signal.name: {} for signal in message.signals}
    for row, frame in enumerate(frames):
        for name, value in message.decode(frame, decode_choices=False).items():
            found[name][row] = float(value)
    return found


def check_equal(decoded: Decoded, message: str, want: dict[str, dict[int, float]]) -> None:
    """Compares bit for bit; all NaN are equal."""
    for signal, values in want.items():
        rows, got = decoded.values[message, signal]
        assert rows.tolist() == list(values), signal
        np.testing.assert_array_equal(
            got, np.array(list(values.values()), dtype=np.float64), signal
        )


def random_layout(rng: np.random.Generator, size: int) -> str:
    """Returns a message with signals side by side, of any length, order, sign and scale."""
    lines, bit = [], 0
    while bit < 8 * size:
        length = min(int(rng.choice((1, 2, 3, 7, 8, 9, 12, 31, 57, 60, 63, 64))), 8 * size - bit)
        big = rng.random() < 0.5
        # A run of network bits [bit, bit + length) for big-endian, Intel bits otherwise.
        start = 8 * (bit // 8) + 7 - bit % 8 if big else bit
        scale, offset = SCALES[rng.integers(len(SCALES))]
        sign = "+-"[rng.integers(2)]
        lines.append(
            f' SG_ s{bit} : {start}|{length}@{0 if big else 1}{sign} ({scale},{offset}) [0|0] "" X'
        )
        bit += length
        if big or rng.random() < 0.5:
            bit = -(-bit // 8) * 8  # orders may only meet at a byte's edge
    return "\n".join(lines)


@pytest.mark.parametrize("size", [1, 3, 8, 12, 64])
def test_random_layouts_decode_as_cantools_does(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(size)
    text = 'VERSION ""\nBU_: X\n' + "".join(
        f"\nBO_ {address} m{address}: {size} X\n{random_layout(rng, size)}\n"
        for address in range(1, 25)
    )
    database = load(tmp_path, text)
    peer = cantools_of(text)
    payload = np.random.default_rng(size).integers(0, 256, (30, max(size, 8)), dtype=np.uint8)
    payload[:2] = [[0], [255]]
    for message in peer.messages:
        try:
            want = truth(message, [bytes(row) for row in payload])
        except DecodeError:
            continue  # little-endian signals may run over a big-endian one: not for cantools
        decoded = database.decode(np.full(30, message.frame_id), payload)
        check_equal(decoded, message.name, want)
        assert (decoded.decoded, decoded.unknown, decoded.wrong_length) == (30, 0, 0)


def test_floats_and_wide_integers_decode_as_cantools_does(tmp_path: Path) -> None:
    text = (
        'VERSION ""\nBU_: X\n\nBO_ 1 f: 20 X\n'
        ' SG_ half : 7|16@0- (1,0) [0|0] "" X\n SG_ single : 16|32@1- (0.5,1) [0|0] "" X\n'
        ' SG_ double : 55|64@0- (1,0) [0|0] "" X\n\nBO_ 2 w: 8 X\n'
        ' SG_ wide : 0|64@1+ (3,-1) [0|0] "" X\n\n'
        "SIG_VALTYPE_ 1 half : 1;\nSIG_VALTYPE_ 1 single : 1;\nSIG_VALTYPE_ 1 double : 2;\n"
    )
    peer = cantools_of(text)
    payload = np.random.default_rng(5).integers(0, 256, (200, 64), dtype=np.uint8)
    database = load(tmp_path, text)
    for address, length in ((1, 20), (2, 8)):
        message = peer.get_message_by_frame_id(address)
        decoded = database.decode(np.full(200, address), payload)
        check_equal(decoded, message.name, truth(message, [bytes(r[:length]) for r in payload]))


def test_multiplexed_signals_have_only_their_rows(tmp_path: Path) -> None:
    text = (
        'VERSION ""\nBU_: X\n\nBO_ 7 mux: 8 X\n'
        ' SG_ outer M : 0|2@1+ (1,0) [0|0] "" X\n SG_ always : 8|8@1+ (1,0) [0|0] "" X\n'
        ' SG_ a m0 : 16|8@1+ (1,0) [0|0] "" X\n SG_ inner m1M : 16|1@1+ (1,0) [0|0] "" X\n'
        ' SG_ b m0 : 24|8@1- (1,0) [0|0] "" X\n SG_ c m1 : 24|8@1+ (1,0) [0|0] "" X\n'
        ' SG_ d m2 : 16|16@1+ (1,0) [0|0] "" X\n\n'
        "SG_MUL_VAL_ 7 inner outer 1-1;\nSG_MUL_VAL_ 7 a outer 0-0;\nSG_MUL_VAL_ 7 b inner 0-0;\n"
        "SG_MUL_VAL_ 7 c inner 1-1;\nSG_MUL_VAL_ 7 d outer 2-3;\n"
    )
    message = cantools_of(text).get_message_by_name("mux")
    payload = np.random.default_rng(6).integers(0, 256, (300, 8), dtype=np.uint8)
    decoded = load(tmp_path, text).decode(np.full(300, 7), payload)
    want = truth(message, [bytes(row) for row in payload])
    assert all(want.values())
    check_equal(decoded, "mux", want)


def test_frames_of_unknown_ids_and_short_ones_are_counted(tmp_path: Path) -> None:
    text = 'BU_: X\n\nBO_ 5 m: 3 X\n SG_ s : 0|8@1+ (1,0) [0|0] "" X\n\nBO_ 6 l: 9 X\n'
    database = load(tmp_path, text)
    payload = np.arange(48, dtype=np.uint8).reshape(6, 8)
    address = np.array([5, 99, 5, 6, 5, 98])
    decoded = database.decode(address, payload, np.array([8, 8, 2, 8, 3, 0]))
    assert (decoded.decoded, decoded.unknown, decoded.wrong_length) == (2, 2, 2)
    rows, values = decoded.values["m", "s"]
    assert (rows.tolist(), values.tolist()) == ([0, 4], [0.0, 32.0])
    empty = database.decode(np.zeros(0, np.int64), np.zeros((0, 8), np.uint8))
    assert (empty.values, empty.decoded, empty.unknown) == ({}, 0, 0)


def test_of_two_databases_the_first_one_counts(tmp_path: Path) -> None:
    one = 'BU_: X\n\nBO_ 5 one: 1 X\n SG_ s : 0|8@1+ (1,0) [0|0] "" X\n'
    two = one.replace("one", "two") + "\nBO_ 6 more: 1 X\n"
    database = load(tmp_path, one, two)
    assert [message.name for message in database.messages.values()] == ["one", "more"]


@pytest.mark.parametrize("name", DBCS)
def test_public_databases_decode_as_cantools_does(data: Path, name: str) -> None:
    path = data / name
    database = Database.load([str(path)])
    peer = cantools_of(path.read_text("cp1252"))
    payload = np.random.default_rng(7).integers(0, 256, (60, 8), dtype=np.uint8)
    odd = []
    for message in peer.messages:
        frames = payload.copy()
        if message.is_multiplexed():
            frames[:, 0] &= 0xE1  # cantools refuses frames of other multiplexer values
        try:
            want = truth(message, [bytes(row) for row in frames])
        except DecodeError:
            odd.append(message.name)
            continue
        check_equal(database.decode(np.full(60, message.frame_id), frames), message.name, want)
    # The signals of this one overlap, and cantools cannot decode it at all.
    assert odd == (["PCS_HUD"] if "toyota" in name else [])


def test_overlapping_signals_decode_each_by_itself(data: Path) -> None:
    path = data / DBCS[0]
    payload = np.random.default_rng(8).integers(0, 256, (60, 8), dtype=np.uint8)
    decoded = Database.load([str(path)]).decode(np.full(60, 0x411), payload)
    message = cantools_of(path.read_text("cp1252")).get_message_by_name("PCS_HUD")
    for signal in message.signals:
        alone = cantools.database.can.Message(0x411, "PCS_HUD", 8, [signal])
        check_equal(decoded, "PCS_HUD", truth(alone, [bytes(row) for row in payload]))


def test_real_frames_decode_as_cantools_does(data: Path) -> None:
    folder = next((data / "comma2k19").glob("*/40/processed_log/CAN/raw_can"))
    address, source = np.load(folder / "address"), np.load(folder / "src")
    payload = np.load(folder / "data").view(np.uint8).reshape(-1, 8)
    bus0 = np.flatnonzero(source == 0)[::7]
    decoded = Database.load([str(data / DBCS[0])]).decode(address[bus0], payload[bus0])
    peer = cantools_of((data / DBCS[0]).read_text("cp1252"))
    want: dict[tuple[str, str], dict[int, float]] = {}
    for row, frame in enumerate(bus0.tolist()):
        if int(address[frame]) not in {message.frame_id for message in peer.messages}:
            continue
        message = peer.get_message_by_frame_id(int(address[frame]))
        for name, value in message.decode(payload[frame].tobytes(), decode_choices=False).items():
            want.setdefault((message.name, str(name)), {})[row] = float(value)
    assert decoded.values.keys() == want.keys()
    for (message_name, signal), values in want.items():
        check_equal(decoded, message_name, {signal: values})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("PNG, not a database", "line 1"),
        ('BU_: X\n\nBO_ 5 m: 1 X\n SG_ s : zero|8@1+ (1,0) [0|0] "" X\n', "line 4"),
        ('BU_: X\n\nBO_ 5 m: 1 X\n SG_ s : 4|8@1+ (1,0) [0|0] "" X\n', "signal 's'"),
        ('BU_: X\n\nBO_ 5 m: 8 X\n SG_ s : 0|0@1+ (1,0) [0|0] "" X\n', "signal s"),
        ('BU_: X\n\nBO_ 5 m: 8 X\n SG_ s : 0|8@1+ (1e999,0) [0|0] "" X\n', "signal 's'"),
        (
            CYCLE,
            "multiplexer 'b' of signal 'a' is missing or circular",
        ),
        ("BU_: X\n\nBO_ 5 m: 99999999999 X\n", "line 3"),
        ('BU_: X\n\nBO_ 5 m: 8 X\n SG_ s : 0|999999999@1+ (1,0) [0|0] "" X\n', "line 4"),
        ('BU_: X\n\nBO_ 5 m: 8 X\n SG_ s : 999999999|1@1+ (1,0) [0|0] "" X\n', "line 4"),
        ("BU_: X\n\nSG_MUL_VAL_ 5 s m 0-4294967295;\n", "multiplexer values"),
    ],
)
def test_an_invalid_database_is_a_usage_error(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "5.dbc"
    path.write_text(text, encoding="cp1252")
    with pytest.raises(UsageError, match=place) as error:
        Database.load([str(path)])
    assert str(path) in str(error.value)


def test_a_missing_database_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.dbc"):
        Database.load([str(tmp_path / "gone.dbc")])


def test_damaged_databases_load_or_are_refused() -> None:
    rng = np.random.default_rng(9)
    layout = random_layout(rng, 8)
    text = f'VERSION ""\nBU_: X\n\nBO_ 1 m: 8 X\n{layout}\n\nVAL_ 1 s0 1 "on";\n'.encode()
    refused = 0
    for _ in range(150):
        damaged = bytearray(text)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(damaged)))
            damaged[at : at + int(rng.choice((0, 1, 9)))] = rng.bytes(int(rng.integers(3)))
        try:
            messages = parse(bytes(damaged))
        except DbcError:
            refused += 1
        else:
            database = Database({message.address: message for message in messages})
            database.decode(np.full(4, 1), np.full((4, 8), 255, dtype=np.uint8))
    assert 0 < refused < 150

"""TOML of strangers: bounded in depth, keys and numbers, and quick to refuse."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from schemas.errors import UsageError
from transforms.toml import MAX_DEPTH, MAX_FILE_BYTES, MAX_KEYS, load_toml, parse_toml

DEEP = "nested too deeply; nest 16 tables at most"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = 1e999", "a = inf: must be a finite number"),
        ("a = -inf", "a = -inf: must be a finite number"),
        ("a = [1, { b = nan }]", r"a\[1\]\.b = nan: must be a finite number"),
        ("a = 0xffffffffffffffffffff", "a = a number of 80 bits: must have at most 64"),
        ("a = 9223372036854775808", "a = a number of 64 bits: must have at most 64 with its sign"),
        (f"a = {'9' * 5000}", "not TOML: a number has thousands of digits; shorten it"),
        ('a = "x\\u0000"', r"a: has the control character '\\x00'; remove it"),
        ('a = "\\u001b[31m"', r"a: has the control character '\\x1b'"),
        ('"a\\u0007" = 1', r'"a\\u0007": has the control character'),
        (f"{'k' * 101} = 1", "k{97}[.]{3}: a key of more than 100 characters"),
        (
            "\n".join(f"k{n} = 1" for n in range(MAX_KEYS + 1)),
            "more than 4096 keys; split the file",
        ),
        ("a." * 16 + "a = 1", f"line 1: {DEEP}"),
        ("x = 1\n[" + "a." * 16 + "a]", f"line 2: {DEEP}"),
        ("a = {" + "b." * 16 + "c = 1}", DEEP),
        ("a = " + "[" * 17 + "]" * 17, DEEP),
        ("a = " + "[" * 5000, f"not TOML: {DEEP}"),
        ("a = 1\na = 2", "not TOML: Cannot overwrite a value"),
        ("\N{BYTE ORDER MARK}a = 1", "not TOML: "),
    ],
)
def test_what_is_out_of_bounds_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        parse_toml(text.encode())


def test_what_is_within_bounds_is_read() -> None:
    deepest = "a." * (MAX_DEPTH - 1) + "a = 9223372036854775807"
    assert parse_toml(deepest.encode())
    text = "a = [1.5, -9223372036854775808]\nb = '''x\ty\nz'''\nc = 1979-05-27T07:32:00Z\n"
    assert parse_toml(text.encode())["a"] == [1.5, -(2**63)]


@pytest.mark.parametrize(
    "text",
    [
        "a." * (MAX_FILE_BYTES // 2 - 3) + "a=1",
        "[" + "a." * (MAX_FILE_BYTES // 2 - 3) + "a]",
        '"a" . ' * (MAX_FILE_BYTES // 6 - 2) + "a=1",
        "a={" + "b." * (MAX_FILE_BYTES // 2 - 5) + "c=1}",
        " " * MAX_FILE_BYTES,
        "a " * (MAX_FILE_BYTES // 2),
        "[[a]]\n" * (MAX_FILE_BYTES // 6),
        "a=[" + "[]," * (MAX_FILE_BYTES // 3 - 4) + "]",
        "a=" + "{a=" * (MAX_FILE_BYTES // 3 - 4),
        'a="' + "\\u0041" * (MAX_FILE_BYTES // 6 - 4) + '"',
    ],
    ids=range(10),
)
def test_the_longest_file_of_the_worst_kind_takes_seconds(text: str) -> None:
    """One dotted key of 32,000 parts takes tomllib 10 s by itself."""
    start = time.process_time()
    with contextlib.suppress(ValueError):
        parse_toml(text.encode())
    assert time.process_time() - start < 5


def test_the_message_names_file_and_place(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[label]\nfps = nan\n")
    with pytest.raises(UsageError) as refusal:
        load_toml("--config", str(path))
    assert str(refusal.value) == f"--config {path}: label.fps = nan: must be a finite number"

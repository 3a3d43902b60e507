"""TOML of strangers: parsed within bounds, and only numbers that every store can hold."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from schemas.errors import UsageError
from transforms.bounded import read_configuration

MAX_FILE_BYTES = 64 * 1024
"""A configuration is a page or two; parsing one costs no more than this many bytes do."""
MAX_DEPTH = 16
MAX_KEYS = 4096
MAX_KEY_CHARS = 100

_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_DEEP = re.compile(rf"^[ \t]*+\[{{0,2}}+[ \t]*+(?:{_PART}\.[ \t]*+){{{MAX_DEPTH}}}", re.MULTILINE)
"""A dotted key of more parts: the parser's time grows with their square."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_INT64 = range(-(2**63), 2**63)
_TOO_DEEP = f"nested too deeply; nest {MAX_DEPTH} tables at most"


def load_toml(kind: str, url: str) -> dict[str, Any]:
    """Reads a TOML file.

    Args:
        kind: what it is, in messages: "trigger", "--config".
        url: where it is, anywhere fsspec reads.

    Raises:
        UsageError: it cannot be read, is not TOML, or is outside of the bounds.
    """
    content = read_configuration(kind, url, MAX_FILE_BYTES)
    try:
        return parse_toml(content)
    except ValueError as error:
        raise UsageError(f"{kind} {url}: {error}") from error


def parse_toml(content: bytes) -> dict[str, Any]:
    """Parses the bytes of a TOML file.

    Raises:
        ValueError: they are too many, not UTF-8, not TOML, nested too deeply, have too many
            or too long keys, numbers that are infinite, NaN or of more than 64 bits, or
            control characters; the message is the end of a line.

    >>> parse_toml(b"a = { b = 1 }")
    {'a': {'b': 1}}
    """
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"longer than {MAX_FILE_BYTES} bytes; give a shorter file")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is 0x{content[error.start]:02x}"
        raise ValueError(f"not UTF-8: {byte}; save it as UTF-8") from error
    if deep := _DEEP.search(text):
        line = text.count("\n", 0, deep.start()) + 1
        raise ValueError(f"line {line}: {_TOO_DEEP}")
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(f"not TOML: {_TOO_DEEP}") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from error
    except ValueError as error:  # int() refuses them
        raise ValueError("not TOML: a number has thousands of digits; shorten it") from error
    _check(table)
    return table


def _check(table: dict[str, Any]) -> None:
    """Checks the keys and values of a parsed file."""
    keys = 0
    for place, key, value in _walk(table):
        keys += key is not None
        if keys > MAX_KEYS:
            raise ValueError(f"more than {MAX_KEYS} keys; split the file")
        if len(place) > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        if key is not None and len(key) > MAX_KEY_CHARS:
            raise ValueError(f"{_worded(place)}: a key of more than {MAX_KEY_CHARS} characters")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{_worded(place)} = {value}: must be a finite number")
        if isinstance(value, int) and value not in _INT64:
            size = f"a number of {value.bit_length()} bits"
            raise ValueError(f"{_worded(place)} = {size}: must have at most 64 with its sign")
        for text in (key, value):
            if isinstance(text, str) and (found := _CONTROL.search(text)):
                raise ValueError(
                    f"{_worded(place)}: has the control character {found.group()!r}; remove it"
                )


Place = tuple[str | int, ...]


def _walk(table: dict[str, Any]) -> Iterator[tuple[Place, str | None, Any]]:
    """Yields place, key (None in a list) and value of all that a table holds, in its order."""
    waiting: list[Iterator[tuple[Place, str | None, Any]]] = [_entries((), table)]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        yield entry
        waiting.append(_entries(entry[0], entry[2]))


def _entries(place: Place, value: Any) -> Iterator[tuple[Place, str | None, Any]]:
    if isinstance(value, dict):
        yield from (((*place, key), key, inner) for key, inner in value.items())
    elif isinstance(value, list):
        yield from (((*place, index), None, inner) for index, inner in enumerate(value))


def _worded(place: Place) -> str:
    """Writes where a value is, cut where it is long.

    >>> _worded(("row", 2, "a b"))
    'row[2]."a b"'
    """
    parts = (f"[{part}]" if isinstance(part, int) else f".{quoted(part)}" for part in place)
    text = "".join(parts).lstrip(".")
    return text if len(text) <= MAX_KEY_CHARS else f"{text[: MAX_KEY_CHARS - 3]}..."


def quoted(key: str) -> str:
    """Writes a key as TOML does.

    >>> quoted("for_s"), quoted("a.b")
    ('for_s', '"a.b"')
    """
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)

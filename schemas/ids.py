"""Ids: digests of content and configuration, never of a clock or a random number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

ID_CHARS = 20
"""Hex digits of an id: 80 bits, so that among a billion ids the odds of a collision are 1e-6."""

Canonical = str | int | float | bool | None | Sequence["Canonical"] | Mapping[str, "Canonical"]


def canonical(value: Canonical) -> bytes:
    """Serialises a value as compact JSON with sorted keys, so that equal values give equal bytes.

    Raises:
        ValueError: a float is NaN or infinite, which JSON cannot represent.

    >>> canonical({"b": 1, "a": (2, None)})
    b'{"a":[2,null],"b":1}'
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode("ascii")


def digest(*parts: Canonical) -> str:
    """Digests the parts of an identity: the first 20 hex digits of their SHA-256.

    >>> digest("log", "teslacam", 1)
    '3a0f30d57c4542c228f2'
    """
    return hashlib.sha256(canonical(parts)).hexdigest()[:ID_CHARS]


def uniform(salt: str, key: str) -> float:
    """Hashes a key to a number in [0, 1), uniform over keys and stable across versions.

    >>> 0.0 <= uniform("split", "drive-1") < 1.0
    True
    """
    head = hashlib.sha256(f"{salt}\0{key}".encode()).digest()[:8]
    return (int.from_bytes(head, "big") >> 11) / (1 << 53)

"""The memory that an input may take, estimated before it is read.

What a file says of itself (its headers, its sample tables) tells how much reading it would take.
So a small file that unfolds to gigabytes is refused before a byte of that is allocated.
"""

from __future__ import annotations

from schemas.errors import TooLargeError

UNLIMITED = 0


def require(uri: str, what: str, needed_bytes: int, allowed_bytes: int) -> None:
    """Checks that something fits into the memory of an input.

    Args:
        uri: the input, and the place in it.
        what: what takes the memory, such as "256 rows of 1,048,576 numbers".
        needed_bytes: an estimate.
        allowed_bytes: what an input may take; UNLIMITED for anything.

    Raises:
        TooLargeError: it does not fit.

    >>> require("a.parquet", "9 rows", 72, 100)
    """
    if allowed_bytes != UNLIMITED and needed_bytes > allowed_bytes:
        raise TooLargeError(
            f"{uri}: {what} take about {needed_bytes / 1e9:.3g} GB, and an input may take "
            f"{allowed_bytes / 1e9:.3g} GB; raise --input-memory, or split the input"
        )

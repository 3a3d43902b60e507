"""The memory of an input, estimated."""

from __future__ import annotations

import pytest

from schemas.errors import TooLargeError
from transforms.budget import UNLIMITED, require


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    require("a", "9 rows", 100, 100)
    require("a", "9 rows", 1 << 60, UNLIMITED)
    with pytest.raises(TooLargeError, match=r"^a: 9 rows take about 4 GB, and .* take 2 GB; raise"):
        require("a", "9 rows", 4_000_000_000, 2_000_000_000)

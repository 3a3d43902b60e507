from __future__ import annotations

import pytest

from tests.jobs.inprocess import call


@pytest.mark.parametrize("kind", ["formats", "triggers", "models", "topologies", "queries"])
def test_list_is_an_array_of_objects_with_names(kind: str) -> None:
    rows = call("list", kind, "--json").document
    assert rows
    assert all(row["name"] for row in rows)
    table = call("list", kind)
    assert all(row["name"] in table.out for row in rows)

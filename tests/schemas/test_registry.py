"""Registries: imported lazily; unknown names and missing extras are explained."""

from __future__ import annotations

import pytest

from schemas.errors import UsageError
from schemas.registry import Registry


def test_a_row_is_imported_when_it_is_loaded() -> None:
    registry = Registry("format", {"json": "json:loads", "broken": "no_such_module:X"})
    assert registry.load("json")("[1]") == [1]
    assert sorted(registry) == ["broken", "json"]


def test_an_unknown_name_lists_the_choices() -> None:
    registry = Registry("format", {"b": "json:loads", "a": "json:loads"})
    with pytest.raises(UsageError, match=r"unknown format 'x'; choose one of: a, b"):
        registry.load("x")


def test_a_missing_extra_names_its_install() -> None:
    registry = Registry("format", {"mcap": "no_such_module:X"}, {"mcap": "mcap"})
    with pytest.raises(UsageError, match=r"pip install 'fleetmill\[mcap\]'"):
        registry.load("mcap")


def test_a_row_without_an_extra_is_a_bug_that_shows() -> None:
    with pytest.raises(ModuleNotFoundError):
        Registry("format", {"mcap": "no_such_module:X"}).load("mcap")

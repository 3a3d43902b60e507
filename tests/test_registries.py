"""Every row of every registry loads."""

from __future__ import annotations

import pytest

from auto_label.models import MODEL_FAMILIES
from jobs.cli import COMMANDS
from schemas.registry import Registry
from synth import WRITERS
from transforms.corpora import CORPORA
from transforms.readers import FORMATS

REGISTRIES = (FORMATS, WRITERS, MODEL_FAMILIES, CORPORA, COMMANDS)
ROWS = [(registry, name) for registry in REGISTRIES for name in registry]


@pytest.mark.parametrize(
    ("registry", "name"), ROWS, ids=[f"{registry.kind} {name}" for registry, name in ROWS]
)
def test_a_row_loads_and_has_a_docstring_and_its_name(registry: Registry, name: str) -> None:
    loaded = registry.load(name)
    assert callable(loaded)
    assert (loaded.__doc__ or "").strip(), f"{registry.kind} {name} has no docstring"
    assert getattr(loaded, "name", name) == name

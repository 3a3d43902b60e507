"""One painted log, and its event labelled."""

from __future__ import annotations

import pytest

from auto_label.event_rows import EventRows
from auto_label.label import Labelled
from auto_label.models import load_models
from tests.auto_label.painted import (
    Red,
    label,
    painted_log,
)


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventRows:
    """A log of two cameras."""
    return painted_log(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="session")
def red() -> Red:
    """A detector of red."""
    return Red(load_models(["yolox_nano"])[0])


@pytest.fixture(scope="session")
def labelled(log: EventRows, red: Red) -> Labelled:
    """Its event, labelled with that detector."""
    return label(log, [red])

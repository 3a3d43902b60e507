"""A Label Studio for each file of tests, and waits that do not last."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.label_studio import connection
from pipeline.label_studio.connection import Connection, Tell, connect
from tests.label_studio import LabelStudio, running

Connect = Callable[..., Connection]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder below which the server serves files."""
    return tmp_path_factory.mktemp("documents")


@pytest.fixture(scope="module")
def label_studio(
    tmp_path_factory: pytest.TempPathFactory, documents: Path
) -> Iterator[LabelStudio]:
    with running(tmp_path_factory.mktemp("label-studio"), documents) as started:
        yield started


@pytest.fixture
def server(label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A connection with a personal access token."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    opened = connect(label_studio.url)
    yield opened
    opened.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes waits before further tries last no time, and lists their seconds."""
    waited: list[float] = []
    monkeypatch.setattr(connection, "sleep", waited.append)
    return waited


@pytest.fixture
def restarting(label_studio: LabelStudio) -> Tell:
    """Starts the server again where it was killed, when the client says that it has failed."""

    def start_again(server: LabelStudio, line: str) -> None:
        del line
        assert server.server is not None
        server.server.process.wait()
        server.start()

    return functools.partial(start_again, label_studio)

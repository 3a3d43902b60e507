"""Runs Label Studio for tests: on this machine, with SQLite, without telemetry or network."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests import fetch
from tests.servers import Server, free_ports, http_answers, serving

EMAIL, PASSWORD = "ann@example.com", "correct horse battery"
LEGACY_TOKEN = "0123456789abcdef" * 2 + "01234567"

CONFIG = (
    '<View><Video name="video" value="$video"/>'
    '<Choices name="verdict" toName="video"><Choice value="right"/><Choice value="wrong"/>'
    "</Choices></View>"
)
"""A labelling configuration with one question."""

_INIT = (
    *("--username", EMAIL, "--password", PASSWORD, "--user-token", LEGACY_TOKEN),
    "--enable-legacy-api-token",
)
_OFFLINE = {
    "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
    "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
    "LABEL_STUDIO_FEATURE_FLAGS_OFFLINE": "true",
    "LABEL_STUDIO_SENTRY_DSN": "",
    "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}


@dataclass(slots=True)
class LabelStudio:
    """A Label Studio that can be killed, and started again with the same data and port.

    `documents` is the folder below which it serves files, if it serves any.
    """

    folder: Path
    port: int
    documents: Path | None
    env: Mapping[str, str]
    stack: ExitStack
    server: Server | None = None
    starts: int = 0
    token: str = ""
    """A personal access token."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self.starts += 1
        command = [str(fetch.label_studio() / "label-studio"), "start", "--no-browser"]
        command += ["--internal-host", "127.0.0.1", "--port", str(self.port)]
        command += ["--data-dir", str(self.folder / "data"), "--enable-legacy-api-token"]
        env = {**_OFFLINE, **self.env}
        if self.documents is not None:
            env["LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED"] = "true"
            env["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] = str(self.documents)
        name, ready = f"label-studio-{self.starts}", http_answers(self.port, "/health")
        self.server = self.stack.enter_context(serving(name, command, self.folder, ready, **env))

    def kill(self) -> None:
        """Kills it with SIGKILL."""
        assert self.server is not None
        self.server.kill()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Sends a request as somebody at a browser would, apart from the code under test.

        Raises:
            RuntimeError: it is refused; the message holds the answer.
        """
        text = self._answer(method, path, body).decode()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def fetch(self, path: str) -> bytes:
        """Returns a file that it serves.

        Raises:
            RuntimeError: it is refused; the message holds the answer.
        """
        return self._answer("GET", path, None)

    def _answer(self, method: str, path: str, body: object) -> bytes:
        headers = {"Authorization": f"Token {LEGACY_TOKEN}", "Content-Type": "application/json"}
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            given = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {given!r}")
        return given


@contextlib.contextmanager
def running(folder: Path, documents: Path | None = None, **env: str) -> Iterator[LabelStudio]:
    """Starts a Label Studio with one user, who has a password and both kinds of tokens.

    Args:
        folder: a new folder, for its database and logs.
        documents: the folder below which it may serve files.
        env: further variables of its environment.
    """
    shutil.copytree(fetch.label_studio_database(*_INIT), folder / "data")
    (port,) = free_ports(1)
    with ExitStack() as stack:
        started = LabelStudio(folder, port, documents, env, stack)
        started.start()
        started.token = started.ask("POST", "/api/token/", {})["token"]
        yield started

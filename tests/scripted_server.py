"""A web server that gives the answers of a list, for what a real server cannot be made to do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered; `ECHO` in the text becomes the header Authorization and the request's body.

    `cut` sends half of it and closes the connection.
    """

    status: int = 200
    text: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass(slots=True)
class Scripted:
    """A running server; the last of its answers is given again and again."""

    answers: list[Answer]
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and header Authorization of each request."""
    url: str = ""


def _handler(script: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle_one_request()

        def _give(self) -> None:
            shown = self.headers.get("Authorization", "")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            script.asked.append((self.command, self.path, shown))
            answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            content = answer.text.replace("ECHO", f"{shown} {body}").encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if answer.cut else content)
            self.close_connection = answer.cut

        do_GET = do_POST = do_PATCH = do_DELETE = _give  # noqa: N815 - http.server's names

    return Handler


@contextlib.contextmanager
def scripted(*answers: Answer) -> Iterator[Scripted]:
    """Serves these answers on this machine while the block runs."""
    script = Scripted(list(answers))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(script))
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

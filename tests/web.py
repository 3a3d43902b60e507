"""A web server over a folder: listings, ranges, basic authentication, and what a test adds."""

from __future__ import annotations

import base64
import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

USER, PASSWORD = "joe", "hunter2"


@dataclass(slots=True)
class Web:
    """A running server. What is changed here holds for the next request."""

    port: int
    folder: Path
    login: bool = False
    ranges: bool = True
    sizes: bool = True
    listing: str = ""
    """HTML that stands in every listing."""
    answers: dict[str, int] = field(default_factory=dict)
    """Path to the status that it is answered with."""
    asked: list[str] = field(default_factory=list)
    """The paths of the requests."""

    @property
    def url(self) -> str:
        """The folder's URL."""
        return f"http://127.0.0.1:{self.port}"


def _handler(web: Web) -> type[SimpleHTTPRequestHandler]:
    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, directory=str(web.folder), **named)

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            web.asked.append(self.path)
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if web.login and self.headers.get("Authorization") != f"Basic {token}":
                self._send(401, b"no", {"WWW-Authenticate": 'Basic realm="fleet"'}, body)
                return
            path = Path(self.translate_path(self.path))
            if self.path in web.answers:
                self._send(web.answers[self.path], b"as told", {}, body)
            elif path.is_dir():
                names = [p.name + "/" * p.is_dir() for p in sorted(path.iterdir())]
                links = "".join(f'<a href="{name}">{name}</a>' for name in names)
                html = f"<html>{web.listing}{links}</html>".encode()
                self._send(200, html, {"Content-Type": "text/html"}, body)
            elif path.is_file():
                self._send_file(path.read_bytes(), body)
            else:
                self._send(404, b"no such file", {}, body)

        def _send_file(self, content: bytes, body: bool) -> None:
            head = {"Content-Type": "video/mp4", "ETag": f'"{len(content)}"'}
            wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if wanted is None or not web.ranges:
                self._send(200, content, head, body)
                return
            size = len(content)
            first = int(wanted[1]) if wanted[1] else max(size - int(wanted[2]), 0)
            last = int(wanted[2]) + 1 if wanted[1] and wanted[2] else size
            if first >= size:
                self._send(416, b"", head, body)
                return
            head["Content-Range"] = f"bytes {first}-{min(last, size) - 1}/{size}"
            self._send(206, content[first:last], head, body)

        def _send(self, status: int, content: bytes, head: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in head.items():
                self.send_header(name, value)
            if web.sizes or status != 200:
                self.send_header("Content-Length", str(len(content)))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            if body:
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(content)

    return Handler


@contextlib.contextmanager
def serving_folder(folder: Path) -> Iterator[Web]:
    """Serves a folder on this machine while the block runs."""
    web = Web(0, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(web))
    server.daemon_threads = True
    web.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

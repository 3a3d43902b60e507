"""An HTTP server that does not keep to what it says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WHOLE = b"[label]\nfps = 2.0\n"


class _Handler(BaseHTTPRequestHandler):
    """Answers /whole, /endless, /drip, /short, /long, /file, /circle; others are not there."""

    def do_GET(self) -> None:
        kind = self.path.partition("?")[0].strip("/")
        redirect = {"file": "file:///etc/hostname", "circle": self.path}.get(kind)
        sizes = {"whole": len(WHOLE), "short": 1 << 20, "long": 8}
        known = kind in {*sizes, "endless", "drip"}
        self.send_response(302 if redirect else 200 if known else 404)
        if redirect:
            self.send_header("Location", redirect)
        if kind in sizes:
            self.send_header("Content-Length", str(sizes[kind]))
        self.end_headers()
        if known:
            self._send(kind)

    def _send(self, kind: str) -> None:
        try:
            if kind in {"whole", "short", "long"}:
                self.wfile.write(WHOLE)
            while kind in {"endless", "drip"}:
                self.wfile.write(b"#" * (1 << 16) if kind == "endless" else b"#")
                time.sleep(0 if kind == "endless" else 0.05)
        except OSError:  # the client has had enough
            return

    def log_message(self, *_: object) -> None:
        """Keeps the test's output clean."""


@contextmanager
def hostile_server() -> Iterator[str]:
    """Runs the server and yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

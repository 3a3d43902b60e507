"""An S3 server over a folder, behind a proxy that counts requests and makes some of them fail.

Toxiproxy fails whole connections, which clients keep for hundreds of requests; this proxy
knows where a request begins, so that one in twenty can fail, whatever connection it is on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, web
from yarl import URL

from tests import fetch
from tests.servers import free_ports, http_answers, serving

BUCKET = "fleet"
KEY, SECRET = "fleetmill-key-id", "fleetmill-secret-key"
FAILURES = ("refused", "internal error", "lost request", "lost answer", "half an answer")
MAX_IN_A_ROW = 2

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer"}
_MAX_BYTES = 1 << 30


@dataclass(slots=True)
class Proxy:
    """Forwards requests and counts them.

    `fails` is the share of requests that fail, each in one of `ways`, but never one request more
    than MAX_IN_A_ROW times; `failed` counts these.
    """

    server: str
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    fails: float = 0.0
    ways: tuple[str, ...] = FAILURES
    dice: random.Random = field(default_factory=lambda: random.Random(20261125))  # noqa: S311
    in_a_row: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def kinds(self) -> Counter[str]:
        """Counts by kind of request."""
        kinds: Counter[str] = Counter()
        for (kind, _), number in self.counts.items():
            kinds[kind] += number
        return kinds

    def _failure(self, request: web.Request) -> str:
        """Chooses how a request fails, "" if it does not."""
        same = (request.method, request.raw_path, request.headers.get("Range", ""))
        if self.dice.random() >= self.fails or self.in_a_row[same] == MAX_IN_A_ROW:
            self.in_a_row.pop(same, None)
            return ""
        self.in_a_row[same] += 1
        failure = self.dice.choice(self.ways)
        self.failed[failure] += 1
        return failure

    async def forward(self, request: web.Request, client: ClientSession) -> web.StreamResponse:
        """Forwards one request, or makes it fail."""
        body = await request.read()
        self.counts[_kind(request), request.path] += 1
        failure = self._failure(request)
        if failure == "refused":
            return web.Response(status=503, text=_ERROR.format("SlowDown"))
        if failure == "lost request":
            return _cut(request)
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP]
        url = URL(self.server + request.raw_path, encoded=True)
        async with client.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            content = await answer.read()
            if failure == "internal error":  # though the request was done
                return web.Response(status=500, text=_ERROR.format("InternalError"))
            if failure == "lost answer":
                return _cut(request)
            made = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    made.headers.add(name, value)
            length = answer.headers.get("Content-Length") if request.method == "HEAD" else None
            made.content_length = int(length) if length else len(content)
            await made.prepare(request)
            if failure == "half an answer" and len(content) > 1:
                await made.write(content[: len(content) // 2])
                return _cut(request)
            if request.method != "HEAD":
                await made.write(content)
            await made.write_eof()
            return made


_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>try again</Message></Error>"


def _cut(request: web.Request) -> web.Response:
    """Resets the connection."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _kind(request: web.Request) -> str:
    if request.method == "GET" and ("list-type" in request.query or request.path.count("/") < 2):
        return "LIST"
    if request.method == "POST":
        return "DELETE" if "delete" in request.query else "PUT"
    return request.method


@contextlib.contextmanager
def proxying(server: str) -> Iterator[tuple[str, Proxy]]:
    """Runs a proxy in a thread; yields its URL."""
    proxy = Proxy(server)
    (port,) = free_ports(1)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        timeout = ClientTimeout(total=60)
        async with ClientSession(
            timeout=timeout, auto_decompress=False, cookie_jar=DummyCookieJar()
        ) as client:

            async def handle(request: web.Request) -> web.StreamResponse:
                try:
                    return await proxy.forward(request, client)
                except (ClientError, ConnectionError):  # the client was killed, or the server is
                    return _cut(request)

            app = web.Application(client_max_size=_MAX_BYTES)
            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            ready.set()
            await over.wait()
            await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield f"http://127.0.0.1:{port}", proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


@dataclass(frozen=True, slots=True)
class Store:
    """A running server with one bucket, whose objects are the files of `folder`."""

    folder: Path
    endpoint: str
    proxy: Proxy

    def url(self, name: str) -> str:
        """Returns the URL of a folder of the bucket."""
        return f"s3://{BUCKET}/{name}"

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to use it: the standard variables, and nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Store]:
    """Starts a server over a new folder, and a proxy in front of it."""
    bucket = folder / "buckets" / BUCKET
    bucket.mkdir(parents=True)
    (port,) = free_ports(1)
    server = f"http://127.0.0.1:{port}"
    command = [str(fetch.versitygw()), "--port", f"127.0.0.1:{port}", "--keep-alive", "--quiet"]
    command += ["--health", "/health", "posix", str(bucket.parent)]
    keys = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    with (
        serving("versitygw", command, folder, http_answers(port, "/health"), **keys),
        proxying(server) as (
            endpoint,
            proxy,
        ),
    ):
        yield Store(bucket, endpoint, proxy)

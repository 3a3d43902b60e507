"""Weights: fetched once, verified always, and honest about being offline."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import fsspec
import pytest

from auto_label import weights
from auto_label.models import MODELS, ModelSpec, load_models
from auto_label.weights import (
    WeightsUnavailable,
    available_models,
    cache_folder,
    fetch,
)
from schemas.errors import FleetError, UsageError
from tests.conftest import ROOT, environment, limited
from tests.hostile_server import hostile_server

BYTES = b"weights" * 1000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives the cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FLEETMILL_MODELS", str(folder))
    return folder


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    """Gives the spec."""
    source = tmp_path / "source.onnx"
    source.write_bytes(BYTES)
    (spec,) = load_models(["yolox_nano"])
    return spec.replace(
        url=str(source),
        sha256=hashlib.sha256(BYTES).hexdigest(),
    )


class _Page(BaseHTTPRequestHandler):
    hits = 0

    def do_GET(self) -> None:
        """Gives the do GET."""
        type(self).hits += 1
        self.send_response(200 if self.path.startswith("/w.onnx") else 403)
        self.end_headers()
        self.wfile.write(BYTES)

    def log_message(self, *_: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def server() -> Iterator[str]:
    """Gives the server."""
    http = HTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_download_lands_in_the_cache_and_is_not_repeated(
    cache: Path, spec: ModelSpec, server: str
) -> None:
    spec = spec.replace(url=f"{server}/w.onnx")
    _Page.hits = 0
    path = fetch(spec)
    assert path == cache / "yolox_nano" / "yolox_nano.onnx"
    assert path.read_bytes() == BYTES
    assert _Page.hits == 1
    assert fetch(spec) == path
    assert _Page.hits == 1
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("protocol", ["", "file://", "memory://"])
def test_any_address_that_fsspec_opens_is_fetched(
    cache: Path, spec: ModelSpec, protocol: str
) -> None:
    url = f"{protocol}{spec.url}"
    with fsspec.open(url, "wb") as file:
        file.write(BYTES)
    assert fetch(spec.replace(url=url)).is_relative_to(cache)


def test_a_wrong_cached_file_is_refused_and_left(cache: Path, spec: ModelSpec) -> None:
    path = cache / spec.name / spec.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"tampered")
    with pytest.raises(FleetError) as refusal:
        fetch(spec)
    message = str(refusal.value)
    assert not isinstance(refusal.value, WeightsUnavailable)
    assert str(path) in message
    assert spec.sha256 in message
    assert hashlib.sha256(b"tampered").hexdigest() in message
    assert path.read_bytes() == b"tampered"
    with pytest.raises(FleetError, match="SHA-256"):
        available_models([spec])


def test_a_wrong_download_is_never_kept(cache: Path, spec: ModelSpec) -> None:
    Path(spec.url).write_bytes(BYTES[:-1])
    with pytest.raises(FleetError, match="SHA-256"):
        fetch(spec)
    assert list(cache.rglob("*.onnx*")) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/w.onnx", "https://host.invalid/w.onnx"])
def test_no_network_is_said_within_seconds(cache: Path, spec: ModelSpec, url: str) -> None:
    start = time.monotonic()
    with pytest.raises(WeightsUnavailable, match=r"put yolox_nano\.onnx into"):
        fetch(spec.replace(url=url))
    assert time.monotonic() - start < 60
    assert list(cache.rglob("*.onnx*")) == []


def test_a_host_that_never_answers_is_given_up_on(cache: Path, spec: ModelSpec) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        # The queue of an unaccepting listener fills up, and then connecting hangs.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        start = time.monotonic()
        with pytest.raises(WeightsUnavailable):
            fetch(spec.replace(url=f"http://127.0.0.1:{port}/w.onnx"))
        assert time.monotonic() - start < 60
        for filler in fillers:
            filler.close()
    assert not list(cache.rglob("*.onnx"))


def test_what_is_ready_is_told_from_what_is_not(cache: Path, spec: ModelSpec) -> None:
    gone = spec.replace(name="gone", url="/no/such/file.onnx")
    ready, messages = available_models([gone, spec])
    assert ready == (spec,)
    assert len(messages) == 1
    assert "model gone: no weights in" in messages[0]
    assert cache_folder() == cache


def test_no_message_shows_a_secret(cache: Path, spec: ModelSpec, server: str) -> None:
    host = server.removeprefix("http://")
    urls = [
        f"http://joe:hunter2@{host}/x?sig=hunter2#hunter2",
        "http://joe:hunter2@127.0.0.1:9/x?X-Amz-Signature=hunter2",
        "foo://joe:hunter2@bucket/x?sig=hunter2",
        "http://[joe:hunter2@host/x",
    ]
    for url in urls:
        with pytest.raises((WeightsUnavailable, UsageError)) as refusal:
            fetch(spec.replace(url=url))
        error: BaseException | None = refusal.value
        assert "hunter2" not in str(error)
        assert refusal.value.__suppress_context__
    assert cache.exists()


def test_a_cache_that_cannot_be_written_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: ModelSpec
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FLEETMILL_MODELS", str(tmp_path / "file"))
    with pytest.raises(WeightsUnavailable, match="set FLEETMILL_MODELS"):
        fetch(spec)


FETCH_AS_PLAIN_USER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: from linux/capability.h
    if os.geteuid() == 0 and libc.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
        raise OSError(ctypes.get_errno(), "cannot drop a capability")
program = "import pickle, sys; from auto_label.weights import fetch; "
program += "[print(fetch(spec)) for spec in pickle.load(sys.stdin.buffer)]"
os.execv(sys.executable, [sys.executable, "-c", program])
"""


def test_what_a_read_only_folder_lacks_is_kept_in_the_users_cache(
    cache: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    """A folder that many share holds some models: those are used, and others fetched beside it."""
    assert fetch(spec).is_relative_to(cache)
    other = spec.replace(name="other")
    cache.chmod(0o555)
    home = tmp_path / "home"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", FETCH_AS_PLAIN_USER],
            cwd=ROOT,
            env=environment(FLEETMILL_MODELS=str(cache), XDG_CACHE_HOME=str(home)),
            input=pickle.dumps([spec, other]),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode().splitlines() == [
            str(cache / spec.name / spec.file),
            str(home / "fleetmill" / "models" / "other" / spec.file),
        ]
        Path(spec.url).unlink(missing_ok=True)  # the second time all is there
    cache.chmod(0o755)
    assert [entry.name for entry in cache.iterdir()] == [spec.name]


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    with hostile_server() as address:
        yield address


@pytest.mark.parametrize(
    "case",
    [
        ("endless", "/endless: longer than 65536 bytes"),
        ("short", "/short cannot be read"),
        ("long", "/long (cannot be read|has SHA-256)"),
        ("file", "/file cannot be read"),
        ("circle", "/circle cannot be read"),
        ("whole", "has SHA-256"),
    ],
)
def test_a_server_that_lies_leaves_nothing(
    cache: Path,
    spec: ModelSpec,
    hostile: str,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str],
) -> None:
    path, says = case
    monkeypatch.setattr(weights, "MAX_BYTES", 1 << 16)
    with pytest.raises(FleetError, match=says) as refusal:
        fetch(spec.replace(url=f"{hostile}/{path}?sig=hunter2"))
    assert "hunter2" not in str(refusal.value)
    assert list((cache / spec.name).iterdir()) == []


def test_a_server_that_drips_is_left_in_time(
    cache: Path, spec: ModelSpec, hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_TIME_LIMIT_S", 1.0)
    with pytest.raises(WeightsUnavailable, match="TimeoutError"):
        fetch(spec.replace(url=f"{hostile}/drip"))
    assert list((cache / spec.name).iterdir()) == []


def test_weights_are_regular_files(cache: Path, spec: ModelSpec, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for url in (tmp_path / "fifo", "/dev/zero", f"file://{tmp_path}/fifo"):
        with pytest.raises(UsageError, match="and not a regular file; save it to a file"):
            fetch(spec.replace(url=str(url)))
    assert list((cache / spec.name).iterdir()) == []


def test_a_download_that_is_killed_leaves_nothing(
    cache: Path, spec: ModelSpec, hostile: str
) -> None:
    script = (
        "import pickle, sys; from auto_label.weights import fetch;"
        "fetch(pickle.load(sys.stdin.buffer))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment(FLEETMILL_MODELS=str(cache)),
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(spec.replace(url=f"{hostile}/endless")))
    process.stdin.close()
    open_files = Path(f"/proc/{process.pid}/fd")

    def writing() -> bool:
        found = [link.readlink() for link in open_files.iterdir() if link.is_symlink()]
        return any(str(cache) in str(path) for path in found)

    end = time.monotonic() + 30
    while not writing() and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.2)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert list((cache / spec.name).iterdir()) == []


def test_where_every_file_has_a_name_nothing_stays_either(
    cache: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_unnamed", lambda _: None)
    assert fetch(spec).read_bytes() == BYTES
    assert [entry.name for entry in (cache / spec.name).iterdir()] == [spec.file]
    with pytest.raises(FleetError, match="SHA-256"):
        fetch(spec.replace(name="other", sha256="0" * 64))
    assert list((cache / "other").iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(
    cache: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(bytes(1 << 20))
    script = (
        "import pickle, signal, sys; from auto_label.weights import fetch;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "fetch(pickle.load(sys.stdin.buffer))"
    )
    done = subprocess.run(
        limited("RLIMIT_FSIZE", 1 << 16, [sys.executable, "-c", script]),
        cwd=ROOT,
        env=environment(FLEETMILL_MODELS=str(cache), PYTHONDONTWRITEBYTECODE="1"),
        input=pickle.dumps(spec.replace(url=str(tmp_path / "large"))),
        capture_output=True,
        check=False,
    )
    last = done.stderr.decode().strip().splitlines()[-1]
    assert "WeightsUnavailable: model yolox_nano: cannot write to" in last
    assert "make room there" in last
    assert list((cache / spec.name).iterdir()) == []


def test_what_is_away_is_tried_once(
    cache: Path, spec: ModelSpec, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = spec.replace(url=f"{server}/gone.onnx")
    _Page.hits = 0
    first, second = available_models([gone]), available_models([gone])
    assert first == second
    assert first[0] == ()
    assert _Page.hits == 1
    path = cache / gone.name / gone.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(BYTES)
    assert available_models([gone]) == ((gone,), []), "put there by hand meanwhile"
    path.unlink()
    monkeypatch.setattr(weights, "_AWAY_S", 0.0)
    assert available_models([gone])[0] == ()
    assert _Page.hits == 2


def test_shipped_weights_are_used_where_they_lie(cache: Path, spec: ModelSpec) -> None:
    """Any file of ours can stand for weights: they are verified, not opened."""
    path = Path(MODELS.folder) / "yolox_nano.toml"
    hashed = hashlib.sha256(path.read_bytes()).hexdigest()
    shipped = spec.replace(url="shipped:yolox_nano.toml", sha256=hashed)
    assert fetch(shipped) == path
    assert available_models([shipped]) == ((shipped,), [])
    assert not cache.exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone.onnx", r"gone\.onnx is missing; reinstall fleetmill"),
        ("yolox_nano.toml", r"has SHA-256 .*, its \.toml names .*; reinstall fleetmill"),
    ],
)
def test_shipped_weights_that_are_not_as_they_were_are_an_error(
    cache: Path, spec: ModelSpec, name: str, says: str
) -> None:
    shipped = spec.replace(url=f"shipped:{name}")
    for get in (fetch, lambda spec: available_models([spec])):
        with pytest.raises(FleetError, match=says) as refusal:
            get(shipped)
        assert not isinstance(refusal.value, WeightsUnavailable)
    assert not cache.exists()


def test_a_cached_file_that_is_too_large_is_not_read(cache: Path, spec: ModelSpec) -> None:
    path = cache / spec.name / spec.file
    path.parent.mkdir(parents=True)
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(FleetError, match=r"has 1099511627776 bytes, more than 2147483648"):
        fetch(spec)
    path.unlink()
    path.mkdir()
    with pytest.raises(WeightsUnavailable, match="cannot write to"):
        fetch(spec)

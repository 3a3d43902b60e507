"""A detector that the processes of a machine share."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from auto_label.models import ModelSpec
from pipeline.stages import detectors
from pipeline.stages.shared_detector import private_folder
from schemas.errors import FleetError
from schemas.ids import digest
from tests.conftest import ROOT, environment

WORKER = """
import sys
import numpy as np
from pipeline.stages import detectors
from pipeline.stages.models import ready_models
from pipeline.stages.shared_detector import private_folder

opened = 0
def open_detector(*arguments):
    global opened
    opened += 1
    return make(*arguments)

make, detectors.open_detector = detectors.open_detector, open_detector
(detector,) = detectors.open_detectors(ready_models(["yolox_nano"], [])[0], shared=True)
for line in sys.stdin:
    image = np.random.default_rng(int(line)).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    (seen,) = detector.detect([image])
    print(opened, len(seen.score), float(seen.score.sum()), flush=True)
"""
Worker = subprocess.Popen[str]


@pytest.fixture
def start(models: tuple[ModelSpec, ...], tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    """Starts worker processes of one machine, which are killed at the end of the test."""
    assert models

    def run() -> Worker:
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            cwd=ROOT,
            env=environment(TMPDIR=str(tmp_path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        stack.callback(worker.communicate)
        stack.callback(worker.kill)
        return worker

    with ExitStack() as stack:
        yield run


def ask(worker: Worker, seed: int) -> tuple[int, tuple[str, ...]]:
    """Returns the number of models that a worker has opened, and its detections."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{seed}\n")
    worker.stdin.flush()
    opened, *seen = worker.stdout.readline().split()
    return int(opened), tuple(seen)


def test_processes_of_a_machine_share_one_and_outlive_its_host(
    start: Callable[[], Worker], models: tuple[ModelSpec, ...]
) -> None:
    """Their detections equal those of a local detector, also after the host is killed."""
    image = np.random.default_rng(3).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    (seen,) = detectors._opened(models[0]).detect([image])
    expected = (str(len(seen.score)), str(float(seen.score.sum())))
    workers = [start() for _ in range(3)]
    answers = [ask(worker, 3) for worker in workers]
    assert [answer[1] for answer in answers] == [expected] * 3
    assert sorted(answer[0] for answer in answers) == [0, 0, 1]
    host = workers.pop([answer[0] for answer in answers].index(1))
    host.kill()
    host.wait()
    answers = [ask(worker, 3) for worker in workers]
    assert [answer[1] for answer in answers] == [expected] * 2
    assert sorted(answer[0] for answer in answers) == [0, 1], "one of them is the host now"


def test_a_port_that_another_program_took_is_left(
    start: Callable[[], Worker], models: tuple[ModelSpec, ...], tmp_path: Path
) -> None:
    """Of a host that was killed; the other program answers, but in no language of ours."""
    folder = tmp_path / f"fleetmill-{os.getuid()}"
    folder.mkdir(mode=0o700)
    address = folder / f"{digest('detector', models[0].identity)}.address"
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def answer() -> None:
            server.settimeout(0.1)
            while not over.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            address.write_text(f"127.0.0.1:{server.getsockname()[1]}")
            opened, seen = ask(start(), 3)
        finally:
            over.set()
            thread.join()
    assert opened == 1, "it hosts the model itself"
    assert int(seen[0]) >= 0


def test_the_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key in it allows running code in a worker."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = private_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder() == folder
    folder.chmod(0o755)
    with pytest.raises(FleetError, match="mode 700"):
        private_folder()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FleetError, match="must be a folder"):
        private_folder()

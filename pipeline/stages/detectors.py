"""Detectors on a worker: opened once per machine, and shared by its threads and processes.

Threads of one process share a detector, because an ONNX session is thread-safe. Where a runner
starts worker processes, the first one that needs a model hosts it, and the others call it over
loopback with Beam's MultiProcessShared. Sending a picture to the host costs some milliseconds
(docs/performance.md), but the weights are in memory only once.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from apache_beam.utils import multi_process_shared
from apache_beam.utils.multi_process_shared import MultiProcessShared

from auto_label.models import Detections, Detector, ModelSpec, open_detector
from auto_label.weights import fetch
from pipeline.graph.runner import is_driver
from schemas.arrays import Image
from schemas.errors import FleetError
from schemas.ids import digest
from transforms.storage import put_new

_lock = threading.Lock()
_open: dict[ModelSpec, Detector] = {}


def open_detectors(models: Sequence[ModelSpec]) -> list[Detector]:
    """Opens models on a worker, fetching their weights if its cache lacks them.

    Raises:
        FleetError: weights cannot be fetched, or have another hash than the model names.
    """
    with _lock:
        for model in models:
            if model not in _open:
                # A driver that runs the pipeline itself has no worker processes beside it.
                _open[model] = _opened(model) if is_driver() else SharedDetector(model)
        return [_open[model] for model in models]


def _opened(model: ModelSpec) -> Detector:
    return open_detector(model, fetch(model))


class SharedDetector:
    """A detector that one process of this machine hosts for all of them."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._detector = self._acquire()

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Detects objects in pictures, as `Detector.detect` does."""
        detector = self._detector
        try:
            return detector.detect(images)
        except (EOFError, ConnectionError):
            # The host process has ended: this one or another becomes the host.
            self._detector = self._acquire()
        return self._detector.detect(images)

    def _acquire(self) -> Detector:
        folder = private_folder()
        # Beam's default key is public, and whoever knows the key can run code here.
        multi_process_shared.AUTH_KEY = _secret(folder)
        shared: MultiProcessShared[Detector] = MultiProcessShared(
            lambda: _opened(self.spec), digest("detector", self.spec.identity), path=str(folder)
        )
        detector: Detector = shared.acquire()
        return detector


def private_folder() -> Path:
    """Returns a folder below the temporary one that no other user can enter.

    Raises:
        FleetError: another user owns it, or others have access to it.
    """
    folder = Path(tempfile.gettempdir(), f"fleetmill-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise FleetError(
            f"{folder} must be a folder of this user with mode 700; remove it, or set TMPDIR"
        )
    return folder


def _secret(folder: Path) -> bytes:
    """Reads the key of this machine's detectors, creating it if it does not exist."""
    path = folder / "key"
    if not path.exists():
        put_new(str(path), secrets.token_bytes(32))
    return path.read_bytes()

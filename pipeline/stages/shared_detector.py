"""A detector that one process of a machine hosts for all of them.

The first worker process that needs a model hosts it, and the others call it over loopback with
Beam's MultiProcessShared. Sending a picture to the host costs some milliseconds
(docs/performance.md), but the weights are in memory only once.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import AuthenticationError
from pathlib import Path

from apache_beam.utils import multi_process_shared
from apache_beam.utils.multi_process_shared import MultiProcessShared

from auto_label.models import Detections, Detector, ModelSpec
from schemas.arrays import Image
from schemas.errors import FleetError, KilledError
from schemas.ids import digest
from transforms.storage import put_new

_LOST = (EOFError, OSError, AuthenticationError)
"""What a call raises whose host has ended, or whose port another program has taken."""

_ATTEMPTS = 5


class SharedDetector:
    """A detector that one process of this machine hosts for all of them.

    Args:
        spec: the model.
        open_: opens it, in the process that hosts it.
    """

    def __init__(self, spec: ModelSpec, open_: Callable[[ModelSpec], Detector]) -> None:
        self.spec = spec
        self._open = open_
        self._detector = self._acquire()

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Detects objects in pictures, as `Detector.detect` does.

        Raises:
            KilledError: the process that hosts the model has ended, and so did its successors.
        """
        for _ in range(_ATTEMPTS):
            try:
                return self._detector.detect(images)
            except _LOST:  # this process or another becomes the host
                self._detector = self._acquire()
        raise _lost(self.spec)

    def _acquire(self) -> Detector:
        folder = private_folder()
        tag = digest("detector", self.spec.identity)
        # Beam's default key is public, and whoever knows the key can run code here.
        multi_process_shared.AUTH_KEY = _secret(folder)
        for _ in range(_ATTEMPTS):
            shared: MultiProcessShared[Detector] = MultiProcessShared(
                lambda: self._open(self.spec), tag, path=str(folder)
            )
            try:
                detector: Detector = shared.acquire()
            except _LOST:
                # Beam looks for a host that refuses connections. Of one that was killed, another
                # program may have got the port, and answers in another language.
                (folder / f"{tag}.address").unlink(missing_ok=True)
                continue
            return detector
        raise _lost(self.spec)


def _lost(spec: ModelSpec) -> KilledError:
    return KilledError(
        f"model {spec.name}: the process that hosts it was killed {_ATTEMPTS} times; the next run "
        "tries again: look at the memory of the workers"
    )


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

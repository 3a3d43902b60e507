"""URLs that people give: refused with a secret in them, or without the package of their store."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from schemas.errors import UsageError
from tests.conftest import ROOT, environment
from transforms.addresses import check_bare
from transforms.storage import filesystem


@pytest.mark.parametrize(
    ("url", "address", "cure"),
    [
        ("http://joe:hunter2@host/d", "http://host/d", "~/.netrc or FSSPEC_HTTP"),
        ("simplecache::https://h/a?sig=hunter2", "simplecache::https://h/a", "FSSPEC_HTTP"),
        ("s3://key:hunter2@bucket/d", "s3://bucket/d", "AWS_SECRET_ACCESS_KEY"),
        ("sftp://joe:hunter2@host/d", "sftp://host/d", "FSSPEC_SFTP"),
        ("  http://joe:hunter2@host/d e", "http://host/d%20e", "FSSPEC_HTTP"),
    ],
)
def test_a_secret_is_refused_with_its_place_and_the_cure(url: str, address: str, cure: str) -> None:
    with pytest.raises(UsageError, match=f"^--input {re.escape(address)}: ") as refusal:
        check_bare("--input", url)
    assert cure in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_paths_and_addresses_are_let_through() -> None:
    for url in ("/a?b@c:d", "drives", "s3://bucket/a b?c", "sftp://joe@host/d", "SELECT 1"):
        check_bare("--input", url)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("s3://bucket/a", "s3fs", "s3"),
        ("simplecache::s3://bucket/a", "s3fs", "s3"),
        ("gs://bucket/a", "gcsfs", "gcs"),
        ("gcs://bucket/a", "gcsfs", "gcs"),
        ("abfs://container@account/a", "adlfs", "azure"),
        ("az://container/a", "adlfs", "azure"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(
    url: str, package: str, extra: str
) -> None:
    """In a process that cannot import it, installed or not."""
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from schemas.errors import UsageError\n"
        "from transforms.storage import filesystem\n"
        f"try: filesystem({url!r})\n"
        "except UsageError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"{url}: ")
    assert f"needs the package {package}: pip install 'fleetmill[{extra}]'" in done.stdout


@pytest.mark.parametrize("url", ["gopher://host/a", "nosuch::/a", "S3://bucket/a"])
def test_an_unknown_protocol_is_said(url: str) -> None:
    with pytest.raises(UsageError, match="Protocol not known"):
        filesystem(url)

"""delta-rs on remote stores: its options, its errors in one line, and repeats.

delta-rs repeats a request that is refused or whose connection is reset, but not one whose
answer ends early, nor a write of which it does not know whether it was done. All calls of ours
may be repeated: a commit names its run as an application transaction, which lands once.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import TypeVar

from schemas.errors import StoreError, one_line
from transforms.storage import is_local

_WAITS_S = (0.2, 0.6, 1.8, 5.4)
"""Waits between attempts."""

_REFUSED = re.compile(r"\b40[0134]\b")
"""Status codes of what stays as it is."""

T = TypeVar("T")


def options(url: str) -> dict[str, str] | None:
    """Returns storage options for delta-rs; credentials and region it reads from the environment.

    Its S3 commits need the store's conditional put.
    """
    if not url.startswith("s3://"):
        return None
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    chosen = {"aws_conditional_put": "etag"}
    if endpoint:
        chosen["aws_endpoint"] = endpoint
        chosen["aws_allow_http"] = str(endpoint.startswith("http://")).lower()
    return chosen


def ask(url: str, call: Callable[[], T]) -> T:
    """Calls delta-rs, again where a remote store failed it.

    Args:
        url: the lake or table, for messages.
        call: what to do.

    Raises:
        StoreError: the store keeps failing. The message is without the store's own document,
            which names the access key and what was signed with it.
    """
    if is_local(url):
        return call()
    waits = iter(_WAITS_S)
    while True:
        try:
            return call()
        except OSError as error:
            reason, wait_s = worded(str(error)), next(waits, None)
            if wait_s is None or _REFUSED.search(str(error)):
                raise StoreError(f"{url}: {reason}; check the store and run again") from None
            time.sleep(wait_s)


def worded(text: str) -> str:
    r"""Words an error of delta-rs in one line.

    >>> worded("GET\n \x1b[31m 403 <Error><Code>Denied</Code><Message>No.</Message><Key>k</Key>")
    'Denied: No.'
    """
    said = re.findall(r"<(?:Code|Message)>([^<]*)<", text)
    plain = re.sub(r"↳|<.*", "", text, flags=re.DOTALL)
    return ": ".join(said) or one_line(plain)

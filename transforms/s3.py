"""S3 stores for fsspec, configured by the standard variables of the environment, with retries.

    AWS_ENDPOINT_URL                            a store that is not Amazon's
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY    or any other source that Amazon's tools know
    AWS_REGION

delta-rs reads the same variables; see pipeline.lake.tables.

A request that may succeed later (throttling, 5xx, a reset, a timeout) is tried again by
botocore, with backoff. s3fs repeats those that end within the answer, and what botocore gave up
for want of a connection. An error that stays is a StoreError in one line, without credentials.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from aiohttp import ClientPayloadError
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from s3fs import S3FileSystem

from schemas.errors import StoreError, one_line

_ATTEMPTS = 6
"""Attempts of botocore at a request, with 15 s between all of them on average."""
_ROUNDS = 3
"""Rounds of s3fs."""

_CONFLICT_WAITS_S = (0.1, 0.3, 1.0, 3.0)
"""Waits before a conditional put is repeated that met another one of the same object."""

_BLOCK_BYTES = 8 << 20
"""What a file that is open for reading fetches at a time."""

_CURES = {
    "NoSuchBucket": "there is no such bucket; create it, or correct the URL",
    "InvalidAccessKeyId": "the store does not know the access key; check AWS_ACCESS_KEY_ID",
    "XAdminUserNotFound": "the store does not know the access key; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; renew them",
    "AccessDenied": "access is denied; check the credentials and what they may do",
    "403": "access is denied; check the credentials and what they may do",
}


class S3Store(S3FileSystem):  # type: ignore[misc] # s3fs is not typed
    """s3fs with our defaults: no cache of listings, retries, and errors in one line."""

    retries = _ROUNDS

    def __init__(self, **options: Any) -> None:
        """Takes the options of s3fs, which go before the defaults."""
        defaults: dict[str, Any] = {
            "use_listings_cache": False,
            "default_block_size": _BLOCK_BYTES,
            "config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS}},
        }
        region = os.environ.get("AWS_REGION")  # botocore reads AWS_DEFAULT_REGION alone
        if region:
            defaults["client_kwargs"] = {"region_name": region}
        super().__init__(**{**defaults, **options})

    async def _call_s3(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        for wait_s in (*_CONFLICT_WAITS_S, None):
            try:
                return await super()._call_s3(method, *arguments, **keywords)
            except (OSError, ValueError, BotoCoreError, ClientError) as error:
                if _code(error) == "ConditionalRequestConflict" and wait_s is not None:
                    await asyncio.sleep(wait_s)
                    continue
                raised = _worded(error, keywords)
                if raised is error:
                    raise
                raise raised from error
        raise AssertionError

    async def _ls(self, path: str, detail: bool = True, **_own: Any) -> list[Any]:
        """Lists a folder; s3fs would list the one above it too where this one is empty."""
        path = self._strip_protocol(path).rstrip("/")
        found: list[Any] = await self._lsdir(path)
        if not found:
            raise FileNotFoundError(path)
        return found if detail else sorted(each["name"] for each in found)

    async def _cat_file(
        self,
        path: str,
        version_id: str | None = None,
        start: int | None = None,
        end: int | None = None,
        **own: Any,
    ) -> bytes:
        try:
            content: bytes = await super()._cat_file(path, version_id, start, end, **own)
        except ClientPayloadError as error:
            raise StoreError(f"s3://{path}: the answer ended early; check the network") from error
        return content


def _code(error: BaseException) -> str:
    """Returns the S3 error code of an error, which s3fs may have translated."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if response else ""


def _worded(error: Exception, request: dict[str, Any]) -> Exception:
    """Words what is wrong with a store; an object's absence and the like stay as they are."""
    url = "/".join(["s3:/", *(request[key] for key in ("Bucket", "Key") if request.get(key))])
    if isinstance(error, NoCredentialsError):
        return StoreError(
            f"{url}: there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    code, text = _code(error), one_line(error)
    if code in _CURES:
        return StoreError(f"{url}: {_CURES[code]}")
    if isinstance(error, BotoCoreError | ValueError):  # a ValueError: the URL is none
        return StoreError(f"{url}: {text}; check AWS_ENDPOINT_URL and the network")
    if code and not isinstance(error, FileNotFoundError | FileExistsError):
        return StoreError(f"{url}: {text} ({code})")
    return error

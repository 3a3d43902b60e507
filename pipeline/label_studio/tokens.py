"""The two kinds of Label Studio's tokens, and how a request shows them.

A legacy token is sent itself. A personal access token is exchanged for a token of some minutes,
which is sent, and again when the server no longer takes that one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Any

import httpx

from schemas.errors import UsageError
from schemas.redaction import MARK

VARIABLE = "LABEL_STUDIO_API_KEY"
"""The environment variable of the token, which Label Studio's SDK reads too."""

EXCHANGE = "/api/token/refresh/"
"""The path, below the server's address, at which tokens are exchanged."""

_CHARACTERS = re.compile(r"[\w.~+/=-]+", re.ASCII)
_WHERE = "it is on the page Account & Settings of Label Studio, as the personal access token"


class Token(httpx.Auth):
    """Shows a token with each request; its repr does not."""

    requires_response_body = True

    def __init__(self, token: str, url: str) -> None:
        """Takes a token of either kind, and the address of the server that it is for."""
        self._token, self._access, self._url = token, "", url

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sends the request, and what has to be exchanged for it.

        A refused exchange is the answer to the request.
        """
        if self._token.count(".") != 2:  # a personal access token is a JWT
            request.headers["Authorization"] = f"Token {self._token}"
            yield request
            return
        if self._access:
            request.headers["Authorization"] = f"Bearer {self._access}"
            answer = yield request
            if answer.status_code != 401:
                return
        answer = yield httpx.Request(
            "POST", f"{self._url}{EXCHANGE}", json={"refresh": self._token}
        )
        if access := _access(answer):
            self._access = access
            request.headers["Authorization"] = f"Bearer {access}"
            yield request

    def clean(self, text: str) -> str:
        """Takes the token, and the one it was exchanged for, out of a text."""
        for secret in filter(None, (self._token, self._access)):
            text = text.replace(secret, MARK)
        return text


def from_environment(url: str) -> Token:
    """Returns the token of the environment.

    Args:
        url: the address of the server that it is for.

    Raises:
        UsageError: there is none, or it cannot be one.
    """
    token = os.environ.get(VARIABLE, "").strip()
    if not token:
        raise UsageError(f"Label Studio {url}: set {VARIABLE} to a token; {_WHERE}")
    if not _CHARACTERS.fullmatch(token):
        raise UsageError(f"{VARIABLE} holds characters that are in no token; {_WHERE}")
    return Token(token, url)


def _access(answer: httpx.Response) -> str:
    """Returns the token of some minutes of an exchange's answer, "" if it was refused."""
    if answer.status_code != 200:
        return ""
    try:
        found: Any = answer.json()
    except ValueError:
        return ""
    access = found.get("access") if isinstance(found, dict) else None
    return access if isinstance(access, str) else ""

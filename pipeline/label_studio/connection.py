"""Requests to a Label Studio server: both kinds of tokens, retries, errors without secrets.

Plain HTTP and not the client of Label Studio's SDK: that repeats a request that creates something
though the first one may have been done, and its errors hold headers and bodies as they are.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import sleep
from typing import Any

import httpx

from pipeline.label_studio.tokens import VARIABLE, Token, from_environment
from schemas.errors import FleetError, UsageError, excerpt, one_line
from transforms.addresses import check_bare

WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0, 15.0)
"""Seconds before each further try: a server that is back within a minute is waited for."""
LONGEST_WAIT_S = 300.0
"""A longer wait that a server asks for is reported instead."""

_TIME_LIMITS = httpx.Timeout(300.0, connect=15.0)
"""Seconds; the server answers an import when it has stored all of it."""

Tell = Callable[[str], None]
"""Takes a line for the user, such as why something takes long."""


def silent(line: str) -> None:
    """Takes a line and drops it."""
    del line


@dataclass(frozen=True, slots=True)
class Connection:
    """A server and a token.

    `url` is the address of the server's start page; `tell` takes a line when a request has failed
    and is tried again.
    """

    url: str
    token: Token
    tell: Tell
    client: httpx.Client

    def close(self) -> None:
        """Closes the connections."""
        self.client.close()

    def get(self, path: str, **params: str | int) -> Any:
        """Returns the JSON document at a path.

        Raises:
            UsageError: wrong address or token.
            FleetError: the server refuses, or still fails after the last try.
        """
        return self.send("GET", path, params=params)

    def send(
        self,
        method: str,
        path: str,
        body: Callable[[], bytes | None] = lambda: b"",
        *,
        params: Mapping[str, str | int] | None = None,
    ) -> Any:
        """Sends a request until it is answered.

        Args:
            method: the HTTP method.
            path: the path below the server's address, with its final slash if it has one.
            body: returns the body as JSON. It is called again before each further try, since a
                request whose answer was lost may have been done: it looks, and returns what is
                left to do, or None for nothing.
            params: the query.

        Returns:
            The document of the answer, or None if `body` returned None.

        Raises:
            UsageError: wrong address or token.
            FleetError: the server refuses, or still fails after the last try.
        """
        for wait_s in (*WAITS_S, None):
            content = body()
            if content is None:
                return None
            try:
                return self._once(method, path, content, params or {})
            except _PassingError as failure:
                said, asked_s = str(failure), failure.asked_s
            if wait_s is None or asked_s > LONGEST_WAIT_S:
                break
            wait_s = asked_s or wait_s  # noqa: PLW2901 - the server knows better
            self.tell(f"{self.url}: {said}; trying again in {wait_s:.0f} s")
            sleep(wait_s)
        when = f"in {asked_s:.0f} s" if asked_s > LONGEST_WAIT_S else "when the server is up"
        raise FleetError(
            f"{self.url}: {said}; what is done stays done: start the same command again {when}"
        )

    def _once(self, method: str, path: str, content: bytes, params: Mapping[str, str | int]) -> Any:
        """Sends a request and returns the document of the answer.

        Raises:
            UsageError: wrong address or token.
            FleetError: the server refuses.
            _PassingError: the connection failed, or the server may answer later.
        """
        headers = {"Accept": "application/json"}
        if content:
            headers["Content-Type"] = "application/json"
        try:
            answer = self.client.request(
                method, f"{self.url}{path}", content=content, params=dict(params), headers=headers
            )
        except httpx.RequestError as error:
            said = self.token.clean(one_line(error) or type(error).__name__)
            lasting = _is_lasting(error)
        else:
            return self._document(answer, path)
        # Outside the block: frames of the error's traceback hold the token.
        if lasting:
            raise UsageError(f"{self.url}: {said}; check the address")
        raise _PassingError(said)

    def _document(self, answer: httpx.Response, path: str) -> Any:
        """Returns the JSON of the answer to a request for a path.

        Raises:
            UsageError: wrong address or token.
            FleetError: the server refuses.
            _PassingError: it may answer later.
        """
        status, request = answer.status_code, f"{answer.request.method} {answer.request.url.path}"
        if status == 429 or status >= 500:
            raise _PassingError(f"{request}: {self._said(answer)}", _asked_s(answer))
        if status >= 400:
            error = UsageError if status == 401 else FleetError
            raise error(f"{self.url}: {request}: {self._said(answer)}; {_cure(status)}")
        if status >= 300:
            target = self.token.clean(answer.headers.get("Location", ""))
            raise UsageError(f"{self.url}: it leads on to {target}; give the address of the server")
        if status == 204 or not answer.content:
            return None
        try:
            if answer.request.url.path.endswith(path):  # and not an exchange that gave no token
                return answer.json()
        except ValueError:
            pass
        raise UsageError(
            f"{self.url}: what answers there is no Label Studio; give the address of its start page"
        )

    def _said(self, answer: httpx.Response) -> str:
        """Words a refusal: the status, and what the server says if it is not a page of HTML."""
        said: Any = ""
        try:
            document = answer.json()
            said = document.get("validation_errors") or document.get("detail") or document
        except (ValueError, AttributeError):
            if "html" not in answer.headers.get("Content-Type", ""):
                said = answer.text
        words = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        status = f"{answer.status_code} {answer.reason_phrase}"
        return f"{status}: {excerpt(self.token.clean(words))}" if words else status


def connect(url: str, tell: Tell = silent) -> Connection:
    """Makes a connection with the token of the environment; nothing is sent yet.

    Args:
        url: the address of the server's start page.
        tell: takes a line when a request has failed and is tried again.

    Raises:
        UsageError: the address is none of the web or holds a secret, or the token is missing.
    """
    check_bare("Label Studio", url, credentials=VARIABLE)
    if not re.match(r"https?://[^/]", url):
        raise UsageError(
            f"Label Studio {url}: give an address that begins with http:// or https://"
        )
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"Label Studio {url}: {one_line(error)}; check the address") from None
    address = url.rstrip("/")
    token = from_environment(address)
    return Connection(address, token, tell, httpx.Client(auth=token, timeout=_TIME_LIMITS))


class _PassingError(Exception):
    """A request failed in a way that may pass; `asked_s` is the wait that the server asks for."""

    def __init__(self, said: str, asked_s: float = 0.0) -> None:
        super().__init__(said)
        self.asked_s = asked_s


def _is_lasting(error: BaseException | None) -> bool:
    """Tells whether a connection fails for a reason that does not pass."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
            return True
        error = error.__cause__ or error.__context__
    return False


def _asked_s(answer: httpx.Response) -> float:
    """Returns the seconds that a server asks to wait, 0 if it does not say."""
    asked = answer.headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    moment = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def _cure(status: int) -> str:
    """Says what to do about a status that is final."""
    cures = {
        401: f"give {VARIABLE} a valid token: a personal access token, or a legacy token, which an "
        "owner has to allow for the organization",
        403: "ask an administrator of Label Studio for the right to do so",
        404: "check the address, and whether the project is still there",
        413: "the proxy before Label Studio has to allow requests of 8 MB",
    }
    return cures.get(status, "check what was sent, and the version of Label Studio")

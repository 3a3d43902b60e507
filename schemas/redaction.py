"""Takes secrets out of URLs and texts, and control characters out of what is printed.

What may be a secret in a URL: user and password, of a web address also its query and its
fragment, of any other address a query that is named like a secret. The rest of the address
stays, and can be opened with credentials from elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

MARK = "***"
"""What is printed in place of a secret that is not part of a URL."""

_WEB = {"http", "https"}
"""Schemes whose addresses are complete without a user, a query and a fragment; in the others `?`
and `#` may be part of a name, and a user without a password is where a login begins."""

_REPOSITORIES = {"github", "git"}
"""Schemes with `:` and `@` of their own: github://owner:repository@commit/path."""

_SCHEME_CHARS = 20
_SCHEME = rf"[a-z][a-z0-9+.-]{{1,{_SCHEME_CHARS - 1}}}"
_NEXT = rf"(?:::(?:{_SCHEME}::)*|[,;|]){_SCHEME}://"
"""Where the next URL begins, of a chain or of a list."""

_URL = re.compile(rf"(?P<dashes>://|(?<=http|ttps):/)(?P<rest>(?:(?!{_NEXT})[^\s'\"<>`])*)", re.I)
"""A URL from behind its scheme on: so a long text without one is read in one go."""

_ADDRESS = re.compile(rf"\s*(?:{_SCHEME}::)*{_SCHEME}:/", re.I)
_CLOSING = re.compile(r"[).,;:}]*\Z")
"""Punctuation of the text behind a URL."""

_HOST = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::\d*)?")
_BROKEN = re.compile(
    r"://[^\s/?#@:'\"<>`]{0,100}:(?:[^\s/?#@]{0,300}(?:@[^\s/?#@'\"<>`]{0,300}){0,20}"
    r"|(?!\d*(?:[/?#\s'\"<>`\]).,;:}]|\Z))[^\n]{0,300}?)@(?=[\w\[])"
)
"""A user and a password that holds what must be quoted in a URL."""

_NAMED = (
    r"(?:signature|secret|token|passwo?r?d|passwd|credential|api[_-]?key|access[_-]?key(?:[_-]?id)?"
    r"|account[_-]?key|(?<![\w.-])(?:sig|pwd))"
)
"""The ends of names of secrets."""

_SIGNED = re.compile(rf"{_NAMED}=", re.I)
_PAIR = re.compile(rf"({_NAMED}(?:=|%3D))[^\s&'\"<>`;,)]+", re.I)
_ENTRY = re.compile(rf"(?P<head>{_NAMED}['\"]\s*:\s*(['\"]))(?:(?!\2).){{0,2000}}", re.I)
_HEADER = re.compile(
    r"(authorization['\"]?\s*[:=]\s*['\"]?(?:(?:basic|bearer|digest)\s+)?)[^\s'\",]+", re.I
)
_TAG = re.compile(
    r"<(AWSAccessKeyId|StringToSign\w*|CanonicalRequest\w*|Signature\w*)>.{0,1000}?</\1>", re.S
)
_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")

_VARIABLE = re.compile(
    r"(?:AWS|AZURE|GOOGLE|FSSPEC|LABEL_STUDIO)_(?:\w*_)?(?:KEY|KEY_ID|SECRET|TOKEN|PASSWORD|CONNECTION_STRING)"
)
_SHORTEST = 8
"""A shorter value of a variable may be a word of any text."""


def redact(text: str) -> str:
    """Returns a URL, or a text that may quote some, without what may be a secret.

    Doing it again changes nothing.

    >>> redact("simplecache::https://me:pw@host:8443/a/b.onnx?X-Amz-Signature=abc#x")
    'simplecache::https://host:8443/a/b.onnx'
    >>> redact("abfs://container@account.dfs.core.windows.net/a?.mp4"), redact("/a/b@c?d.onnx")
    ('abfs://container@account.dfs.core.windows.net/a?.mp4', '/a/b@c?d.onnx')
    >>> redact("GET /clip.mp4?expires=5&sig=abc 403")
    'GET /clip.mp4?expires=5&sig=*** 403'
    """
    text = _addresses(text)
    for value in _variables():
        text = text.replace(value, MARK)
    if "=" in text or ":" in text or "<" in text:
        text = _PAIR.sub(rf"\1{MARK}", text)
        text = _ENTRY.sub(rf"\g<head>{MARK}", text)
        text = _HEADER.sub(rf"\1{MARK}", text)
        text = _TAG.sub(rf"<\1>{MARK}</\1>", text)
    return _KEY_ID.sub(MARK, text)


def has_secret(url: str) -> bool:
    """Tells whether a URL holds what may be a secret; False for what is no URL.

    >>> has_secret("s3://key:secret@bucket/a"), has_secret("s3://bucket/a?b"), has_secret("a@b?c")
    (True, False, False)
    """
    return bare(url) != url


def bare(url: str) -> str:
    """Returns a URL without what may be a secret, whatever characters it holds.

    What is no URL, such as a path, is returned as it is.

    >>> bare("https://me:p w'@host/a b.mp4"), bare("/a b?token=c.mp4")
    ('https://host/a%20b.mp4', '/a b?token=c.mp4')
    """
    if not _ADDRESS.match(url):
        return url
    quoted = re.sub(r"[\s'\"<>`]", lambda found: f"%{ord(found[0]):02X}", url.strip())
    address = _addresses(quoted)
    return url if address == quoted else address


def redacted(value: Any) -> Any:
    """Returns a JSON value whose texts hold no secret of a URL.

    >>> redacted({"input": ["http://me:pw@host/a"], "fps": 2})
    {'input': ['http://host/a'], 'fps': 2}
    """
    if isinstance(value, str):
        return _addresses(value)
    if isinstance(value, Mapping):
        return {key: redacted(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value


def printable(text: str) -> str:
    r"""Escapes what a terminal would act on, or not show: control characters, half characters.

    >>> print(printable("Straße \x1b[31m\n\udcff\u202e"))
    Straße \x1b[31m\n\udcff\u202e
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _variables() -> list[str]:
    """Returns the secrets of the environment, the longest first."""
    found = {value for name, value in os.environ.items() if _VARIABLE.fullmatch(name)}
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)


def _addresses(text: str) -> str:
    """Redacts the URLs of a text."""
    return _URL.sub(_address, _BROKEN.sub(_without_user, text)) if ":/" in text else text


def _scheme(found: re.Match[str]) -> str:
    """Returns the scheme before a match of what follows on it."""
    before = found.string[max(found.start() - _SCHEME_CHARS, 0) : found.start()]
    scheme = re.search(r"[a-z0-9+.-]*\Z", before, re.I)
    return scheme[0].lower() if scheme else ""


def _without_user(found: re.Match[str]) -> str:
    return found[0] if _scheme(found) in _REPOSITORIES else "://"


def _address(found: re.Match[str]) -> str:
    scheme, whole = _scheme(found), found["rest"]
    closing = _CLOSING.search(whole)
    end = closing.start() if closing else len(whole)
    rest = whole[:end]
    authority = re.split(r"[/?#]|::", rest, maxsplit=1)[0]
    user, at, _ = authority.rpartition("@")
    if scheme in _REPOSITORIES:
        pass
    elif at and (scheme in _WEB or ":" in user):
        rest = rest[len(user) + 1 :]
    elif not _HOST.fullmatch(authority.rpartition("@")[2]):
        # A password that holds one of /, ? and #, or the start of a URL that was cut.
        rest = rest.rpartition("@")[2] if "@" in rest else MARK
    if scheme in _WEB:
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    elif (query := re.search(r"[?#]", rest)) and _SIGNED.search(rest, query.start()):
        rest = rest[: query.start()]
    return f"{found['dashes']}{rest}{whole[end:]}"

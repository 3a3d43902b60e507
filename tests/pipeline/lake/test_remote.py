"""delta-rs on remote stores: options, repeats, and errors without the store's document."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.lake import remote
from pipeline.lake.remote import ask, options
from schemas.errors import StoreError

REFUSED = """Generic S3 error
 \x1b[31m↳\x1b[0m 403 Forbidden
 <Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message>
 <AWSAccessKeyId>an-access-key</AWSAccessKeyId></Error>"""


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_WAITS_S", (0.0, 0.0))


def failing(*errors: Exception) -> Callable[[], str]:
    """Returns a call that raises these errors, one each time, and then succeeds."""
    waiting = list(errors)

    def call() -> str:
        if waiting:
            raise waiting.pop(0)
        return "done"

    return call


def test_a_store_that_fails_twice_is_asked_again() -> None:
    assert ask("s3://b/lake", failing(OSError("cut"), OSError("cut"))) == "done"
    with pytest.raises(StoreError, match="s3://b/lake: cut; "):
        ask("s3://b/lake", failing(*[OSError("cut")] * 3))


def test_a_refusal_stays_and_shows_no_key() -> None:
    with pytest.raises(StoreError, match=r"SignatureDoesNotMatch: Check your key\.") as caught:
        ask("s3://b/lake", failing(OSError(REFUSED)))
    assert "an-access-key" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_what_is_no_error_of_the_store_is_raised_at_once() -> None:
    for url, error in (("s3://b/lake", KeyError("x")), ("/lake", OSError("x"))):
        with pytest.raises(type(error), match="x"):
            ask(url, failing(error))


def test_options_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    assert options("/lake") is None
    assert options("s3://b/lake") == {"aws_conditional_put": "etag"}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    assert options("s3://b/lake") == {
        "aws_conditional_put": "etag",
        "aws_endpoint": "http://store:9000",
        "aws_allow_http": "true",
    }

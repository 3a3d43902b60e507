"""Both kinds of tokens, on Label Studio, and how they stay out of what is printed."""

from __future__ import annotations

import re

import httpx
import pytest

from pipeline.label_studio.connection import connect
from pipeline.label_studio.projects import users
from pipeline.label_studio.tokens import VARIABLE, Token, from_environment
from schemas.errors import UsageError
from tests.label_studio import EMAIL, LEGACY_TOKEN, LabelStudio
from tests.scripted_server import Answer, scripted

PERSONAL = "eyJhbGciOi.eyJ0b2tlbl90.W8-CYyUZEV"


@pytest.mark.review
def test_both_kinds_of_tokens_work(
    label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert label_studio.token.count(".") == 2
    for token in (label_studio.token, LEGACY_TOKEN, f" {LEGACY_TOKEN}\n"):
        monkeypatch.setenv(VARIABLE, token)
        assert users(connect(label_studio.url)) == {1: EMAIL}


@pytest.mark.review
@pytest.mark.parametrize("token", ["0" * 40, PERSONAL])
def test_a_wrong_token_ends_in_one_line_that_says_what_to_do(
    label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(VARIABLE, token)
    with pytest.raises(UsageError, match=r"401 Unauthorized: .*give LABEL_STUDIO_API_KEY a valid"):
        users(connect(label_studio.url))


@pytest.mark.review
def test_a_token_of_some_minutes_that_has_expired_is_exchanged_again(
    label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, label_studio.token)
    server = connect(label_studio.url)
    users(server)
    first = server.token._access
    server.token._access = f"{first[:-5]}AAAAA"
    assert users(server) == {1: EMAIL}
    assert first != server.token._access != ""


def test_a_personal_access_token_is_exchanged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a scripted server, which shows what it is sent."""
    monkeypatch.setenv(VARIABLE, PERSONAL)
    with scripted(Answer(text='{"access": "short"}'), Answer(text="[]")) as script:
        server = connect(script.url)
        assert users(server) == users(server) == {}
    assert script.asked == [
        ("POST", "/api/token/refresh/", ""),
        ("GET", "/api/users/", "Bearer short"),
        ("GET", "/api/users/", "Bearer short"),
    ]


@pytest.mark.parametrize("answer", ["[]", "{}", '{"access": null}', "<html>"])
def test_an_exchange_without_a_token_is_not_taken_for_an_answer(
    monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """On a scripted server: Label Studio answers an exchange with a token or an error."""
    monkeypatch.setenv(VARIABLE, PERSONAL)
    with (
        scripted(Answer(text=answer)) as script,
        pytest.raises(UsageError, match="no Label Studio"),
    ):
        users(connect(script.url))


@pytest.mark.parametrize("value", ["", "  ", "two words", "line\nbreak", "Straße"])
def test_what_is_no_token_is_refused_before_it_is_sent(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(UsageError, match="page Account & Settings") as refused:
        from_environment("http://127.0.0.1")
    assert not value.strip() or value not in str(refused.value)


def test_a_token_is_in_no_repr_and_is_taken_out_of_texts() -> None:
    token = Token(PERSONAL, "http://127.0.0.1")
    assert PERSONAL not in repr(token)
    assert token.clean(f"Bearer {PERSONAL}!") == "Bearer ***!"
    flow = token.auth_flow(httpx.Request("GET", "http://127.0.0.1/api/users/"))
    next(flow)
    sent = flow.send(httpx.Response(200, json={"access": "short"}))
    assert sent.headers["Authorization"] == "Bearer short"
    assert token.clean("short") == "***"
    assert re.fullmatch(r"<Request\(.*\)>", repr(sent))

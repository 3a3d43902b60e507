"""Retries, final errors, and errors without the token."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pipeline.label_studio.connection import LONGEST_WAIT_S, WAITS_S, Connection, Tell, connect
from pipeline.label_studio.projects import users
from pipeline.label_studio.tokens import VARIABLE
from schemas.errors import FleetError, UsageError
from tests.label_studio import EMAIL, LabelStudio
from tests.scripted_server import Answer, scripted
from tests.servers import free_ports

LEGACY = "fedcba9876543210fedcba9876543210"
PERSONAL = "eyJhbGciOi.eyJ0b2tlbl90.W8-CYyUZEV"
ACCESS = "eyJhbGciOi.eyJhY2Nlc3Mi.q83nDpTz3w"
FINE = Answer(text="[]")


@pytest.fixture(params=[LEGACY, PERSONAL])
def token(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token of each kind, in the environment."""
    monkeypatch.setenv(VARIABLE, request.param)
    return str(request.param)


@pytest.fixture
def legacy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, LEGACY)


@pytest.mark.usefixtures("legacy")
@pytest.mark.parametrize(
    "failure",
    [
        Answer(429, "slow down", {"Retry-After": "7"}),
        Answer(503, "", {"Retry-After": "7"}),
        Answer(429, "slow down", {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}),
        Answer(500, '{"detail": "database is locked"}'),
        Answer(502, "<html>", {"Content-Type": "text/html"}),
        Answer(200, '{"results": [1, 2, 3]}', cut=True),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(quick: list[float], failure: Answer) -> None:
    """On a scripted server: Label Studio cannot be made to answer so."""
    told: list[str] = []
    with scripted(failure, failure, FINE) as script:
        assert users(connect(script.url, told.append)) == {}
    assert quick == ([7.0, 7.0] if failure.headers.get("Retry-After") == "7" else [1.0, 2.0])
    assert len(told) == 2
    assert all(f"trying again in {quick[0]:.0f} s" in line for line in told[:1])


@pytest.mark.usefixtures("legacy")
def test_a_date_to_come_back_at_is_waited_for(quick: list[float]) -> None:
    """On a scripted server: Label Studio does not limit the rate."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=200), usegmt=True)
    with scripted(Answer(429, "", {"Retry-After": date}), FINE) as script:
        users(connect(script.url))
    (waited,) = quick
    assert 0 < waited <= 200


@pytest.mark.usefixtures("legacy")
def test_a_longer_wait_than_is_bearable_is_reported(quick: list[float]) -> None:
    """On a scripted server: Label Studio does not limit the rate."""
    answer = Answer(429, "", {"Retry-After": f"{LONGEST_WAIT_S + 1:.0f}"})
    with scripted(answer) as script, pytest.raises(FleetError, match="again in 301 s"):
        users(connect(script.url))
    assert quick == []


@pytest.mark.usefixtures("legacy")
def test_tries_come_to_an_end(quick: list[float]) -> None:
    """On a scripted server: Label Studio does not fail every time."""
    with scripted(Answer(500, "broken")) as script, pytest.raises(FleetError) as failed:
        users(connect(script.url))
    assert "GET /api/users/: 500 Internal Server Error: broken" in str(failed.value)
    assert "start the same command again when the server is up" in str(failed.value)
    assert quick == list(WAITS_S)
    assert 60 < sum(WAITS_S) < 120
    assert len(script.asked) == len(WAITS_S) + 1


@pytest.mark.usefixtures("legacy")
def test_a_server_that_is_not_there_is_waited_for(quick: list[float]) -> None:
    (port,) = free_ports(1)
    with pytest.raises(FleetError, match="refused"):
        users(connect(f"http://127.0.0.1:{port}"))
    assert quick == list(WAITS_S)


@pytest.mark.usefixtures("legacy")
def test_a_name_that_is_unknown_is_not_waited_for(quick: list[float]) -> None:
    with pytest.raises(UsageError, match="check the address"):
        users(connect("http://label-studio.invalid"))
    assert quick == []


@pytest.mark.usefixtures("legacy", "quick")
def test_a_body_is_asked_for_before_each_try() -> None:
    """On a scripted server, which fails without doing anything."""
    bodies: list[bytes | None] = [b"1", b"2", None]
    with scripted(Answer(500)) as script:
        assert connect(script.url).send("POST", "/api/projects", lambda: bodies.pop(0)) is None
    assert len(script.asked) == 2


@pytest.mark.usefixtures("legacy")
@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer(401, '{"detail": "Invalid token."}'), UsageError, "Invalid token.; give LABEL_"),
        (Answer(403), FleetError, "403 Forbidden: {}; ask an administrator"),
        (Answer(404, "<html>", {"Content-Type": "text/html"}), FleetError, "404 Not Found; check"),
        (Answer(413), FleetError, "proxy before Label Studio has to allow requests of 8 MB"),
        (Answer(400, '{"validation_errors": {"a": ["no"]}}'), FleetError, '{"a": ["no"]}; check'),
        (
            Answer(302, "", {"Location": "https://x/?token=b"}),
            UsageError,
            "leads on to https://x/;",
        ),
        (Answer(200, "<html>"), UsageError, "what answers there is no Label Studio"),
    ],
    ids=str,
)
def test_what_stays_is_final_and_says_what_to_do(
    quick: list[float], answer: Answer, kind: type[FleetError], words: str
) -> None:
    """On a scripted server, for each answer that there is; others are seen on Label Studio."""
    with scripted(answer) as script, pytest.raises(kind) as refused:
        users(connect(script.url))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(script.asked) == 1
    assert quick == []


ECHOES = (
    Answer(500, "ECHO"),
    Answer(400, '{"detail": "ECHO"}'),
    Answer(401, "ECHO"),
    Answer(200, "ECHO", cut=True),
)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("echo", ECHOES, ids=str)
@pytest.mark.parametrize("in_environment", [True, False])
def test_a_token_is_in_no_message_traceback_or_log(
    token: str,
    echo: Answer,
    in_environment: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a scripted server, which quotes the request; Label Studio does not."""
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    given = Answer(text=f'{{"access": "{ACCESS}"}}')
    with scripted(*([given] if token == PERSONAL else []), FINE, echo) as script:
        server = connect(script.url, told.append)
        if not in_environment:
            monkeypatch.delenv(VARIABLE)
        users(server)
        with pytest.raises(FleetError) as refused:
            users(server)
    refused.value.__traceback__ = refused.tb.tb_next  # without the test and what it knows
    shown = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    texts = (*shown.format(), *told, repr(server), str(refused.value), caplog.text)
    secret = ACCESS if token == PERSONAL else LEGACY
    assert any(sent.endswith(secret) for _, _, sent in script.asked)
    assert not [text for text in texts if token in text or secret in text]


@pytest.mark.usefixtures("legacy")
def test_a_redirection_does_not_show_the_token() -> None:
    """On a scripted server; Label Studio does not redirect requests of programs."""
    location = {"Location": f"http://x/{LEGACY}"}
    with scripted(Answer(302, "", location)) as script, pytest.raises(UsageError) as refused:
        users(connect(script.url))
    assert f"{refused.value}".endswith("leads on to http://x/***; give the address of the server")


@pytest.mark.usefixtures("quick")
def test_an_exchange_that_is_refused_does_not_show_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a scripted server, which quotes the request; Label Studio does not."""
    monkeypatch.setenv(VARIABLE, PERSONAL)
    for status in (400, 401, 500):
        with scripted(Answer(status, "ECHO")) as script, pytest.raises(FleetError) as refused:
            users(connect(script.url))
        assert PERSONAL not in str(refused.value)
        assert "***" in str(refused.value)


@pytest.mark.usefixtures("legacy")
@pytest.mark.parametrize(
    "url",
    ["http://me:secret@host", "https://host/?token=secret", "host:8080", "s3://host", "http://h:x"],
)
def test_a_url_that_is_none_of_a_server_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="Label Studio") as refused:
        connect(url)
    assert "secret" not in str(refused.value)


@pytest.mark.review
@pytest.mark.usefixtures("quick")
def test_a_server_that_is_killed_and_comes_back_is_waited_for(
    label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch, restarting: Tell
) -> None:
    monkeypatch.setenv(VARIABLE, label_studio.token)
    server = connect(label_studio.url, restarting)
    assert users(server) == {1: EMAIL}
    label_studio.kill()
    assert users(server) == {1: EMAIL}


@pytest.mark.review
def test_paths_that_label_studio_does_not_have_are_final(server: Connection) -> None:
    for path in ("/api/projects/77", "/api/nowhere"):
        with pytest.raises(FleetError, match=r"404 Not Found.*check the address"):
            server.get(path)

"""Errors: picklable, of one argument, and each reject reason of one class."""

from __future__ import annotations

import inspect
import pickle

import pytest

import schemas.errors
from schemas.errors import DataError, FleetError

CLASSES = [
    value
    for value in vars(schemas.errors).values()
    if inspect.isclass(value) and issubclass(value, Exception)
]
MESSAGE = "a.mp4, byte 3: no box; export it again"


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_survives_pickling_with_its_message(error: type[FleetError]) -> None:
    copy = pickle.loads(pickle.dumps(error(MESSAGE)))  # noqa: S301 - our own bytes
    assert type(copy) is error
    assert copy.args == (MESSAGE,)
    assert str(copy) == MESSAGE


@pytest.mark.parametrize("error", CLASSES)
def test_a_class_is_a_documented_fleet_error_of_one_argument(error: type[Exception]) -> None:
    assert issubclass(error, FleetError)
    assert error.__doc__
    # Exceptions with a signature of their own fail to unpickle: all have that of the first.
    assert ("__init__" in vars(error)) == (error is FleetError)
    assert list(inspect.signature(error).parameters) == ["message"]
    assert "__new__" not in vars(error)


@pytest.mark.parametrize("error", CLASSES)
def test_a_message_holds_no_secret_of_a_url(error: type[FleetError]) -> None:
    raised = error("http://me:hunter2@host/a.mp4?sig=hunter2: away")
    assert str(raised) == "http://host/a.mp4: away"
    assert "hunter2" not in repr(raised)


def test_reject_reasons_are_unique_words() -> None:
    reasons = [error.reason for error in CLASSES if issubclass(error, DataError)]
    assert len(reasons) == 16
    assert len(set(reasons)) == len(reasons)
    assert all(reason.isalpha() and reason.islower() for reason in reasons)
    assert all("reason" in vars(error) for error in CLASSES if issubclass(error, DataError))

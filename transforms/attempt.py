"""Attempts at files of configuration, in a child process: to parse a text, to open a model.

How a call ends is worded for the file. transforms.isolation words it for an input of a job, whose
limits are flags.
"""

from __future__ import annotations

from typing import TypeVar

from schemas.errors import CrashedError, DataError, FleetError, TimeLimitError, TooLargeError
from transforms.isolation import Call, Limits, isolated

T = TypeVar("T")


class AttemptError(FleetError):
    """A call did not return; the message says how it ended, as "does not end within 60 s"."""


def attempt(call: Call[T], limits: Limits) -> T:
    """Makes a call in a child process; returns what it returns.

    Raises:
        FleetError: as the call raised it.
        AttemptError: it was not done in time, needed more memory, or raised something else.
    """
    try:
        return isolated(call, limits, "")
    except TimeLimitError as error:
        raise AttemptError(f"does not end within {limits.seconds:g} s") from error
    except TooLargeError as error:
        raise AttemptError(f"needs more than {limits.memory_bytes >> 20} MB of memory") from error
    except CrashedError as error:
        raise AttemptError("crashes a native library") from error
    except DataError as error:
        raise AttemptError(f"fails{error}") from error

"""The exception hierarchy.

A message states the value, the place and the cure. Every class takes exactly one
argument, the message: an exception with more arguments fails to unpickle when Beam
sends it back from a worker.
"""

from __future__ import annotations

import re


class FleetError(Exception):
    """The base class of every error that fleetmill raises on purpose."""


class UsageError(FleetError):
    """Invalid flags or configuration: printed as one line, exit code 2."""


class LakeError(FleetError):
    """A lake or a corpus is missing, incomplete or altered."""


class StoreError(LakeError, OSError):
    """An object store cannot be used: no credentials, no bucket, no network.

    An OSError too, so that readers of inputs treat it as they treat a mount that is away.
    """


class DataError(FleetError):
    """An unusable input; the only error that becomes a row of `rejects`.

    Each subclass sets the `reason` of that row, and `final`: False where the environment is
    at fault and not the content, so that the next run tries the input again. The message
    names the file, the position in it, and the cure.
    """

    reason = "unusable"
    final = True


class UnreadableError(DataError):
    """The bytes cannot be read: missing permission, a deleted file, a mount that is away."""

    reason = "unreadable"
    final = False


class EmptyError(DataError):
    """The file has no bytes, or none of the samples that are needed."""

    reason = "empty"


class TruncatedError(DataError):
    """The file ends before its format says it should."""

    reason = "truncated"


class CorruptError(DataError):
    """The bytes violate the file's format."""

    reason = "corrupt"


class UnrecognisedError(DataError):
    """The file looks like a recording, but no known format claims it."""

    reason = "unrecognised"


class UnsupportedError(DataError):
    """The format is known; this version, codec or feature of it is not supported."""

    reason = "unsupported"


class TimeLimitError(DataError):
    """Reading the input exceeded the time limit."""

    reason = "timeout"
    final = False


def is_final(reason: str) -> bool:
    """Tells whether a reject of this reason stands, or the next run tries the input again.

    >>> is_final("corrupt"), is_final("unreadable")
    (True, False)
    """
    return all(error.final for error in DataError.__subclasses__() if error.reason == reason)


def one_line(said: object) -> str:
    r"""Words an error, or a text, in one line, without the colours that delta-rs adds.

    >>> one_line(ValueError("a\n  \x1b[31mb"))
    'a b'
    """
    return " ".join(re.sub(r"\x1b\[\d*m", "", str(said)).split())

"""The one exception tree.

A message prints the value, the place and the cure. Every class takes exactly one
argument, the message, because an exception with more does not unpickle on its way
back from a Beam worker.
"""

from __future__ import annotations


class FleetError(Exception):
    """The root of every error that fleetmill raises on purpose."""


class UsageError(FleetError):
    """Bad flags or configuration: exit code 2, said in one line."""


class LakeError(FleetError):
    """A lake or a corpus is not what it must be: missing, torn or altered."""


class DataError(FleetError):
    """An input that cannot be used; the only error that becomes a row of `rejects`.

    Subclasses name the `reason` that the row carries. The message names the file, the
    place in it, and the cure.
    """

    reason = "unusable"


class UnreadableError(DataError):
    """The bytes cannot be read at all: permission, a vanished file, a broken link."""

    reason = "unreadable"


class EmptyError(DataError):
    """The file has no bytes, or no samples where some are needed."""

    reason = "empty"


class TruncatedError(DataError):
    """The file ends before its format says it should."""

    reason = "truncated"


class CorruptError(DataError):
    """The bytes contradict the format that they claim to be."""

    reason = "corrupt"


class UnrecognisedError(DataError):
    """No known format claims the file, although it looks like a recording."""

    reason = "unrecognised"


class UnsupportedError(DataError):
    """The format is known, this version, codec or feature of it is not."""

    reason = "unsupported"


class TimeLimitError(DataError):
    """Reading the input takes longer than allowed; the next run tries again."""

    reason = "timeout"

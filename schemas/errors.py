"""The exception hierarchy.

A message states the value, the place and the cure. Every class takes exactly one
argument, the message: an exception with more arguments fails to unpickle when Beam
sends it back from a worker.
"""

from __future__ import annotations

import re

MAX_DETAIL_CHARS = 4000
"""Characters of a message that are kept."""
_EXCERPT_CHARS = 200

_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


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


class TriggerError(DataError):
    """A trigger fails on the rows of a log."""

    reason = "trigger"


class TimeLimitError(DataError):
    """Reading the input, or a trigger on its rows, exceeded the time limit."""

    reason = "timeout"
    final = False


class TooLargeError(DataError):
    """The input needs more memory than an input may take."""

    reason = "memory"


class CrashedError(DataError):
    """The process that worked on the input crashed in native code."""

    reason = "crashed"


class KilledError(DataError):
    """The process that worked on the input was killed from outside, perhaps for want of memory."""

    reason = "killed"
    final = False


class InternalError(DataError):
    """Work on the input raised what is no error of the input: a bug of ours or of a plug-in."""

    reason = "internal"


class ModelError(DataError):
    """A model fails on a picture, or answers what cannot be."""

    reason = "model"


def is_final(reason: str) -> bool:
    """Tells whether a reject of this reason stands, or the next run tries the input again.

    >>> is_final("corrupt"), is_final("unreadable")
    (True, False)
    """
    return all(error.final for error in DataError.__subclasses__() if error.reason == reason)


def storable(text: str) -> str:
    r"""Escapes what no table and no terminal takes: control characters, halves of surrogate pairs.

    A long text is cut.

    >>> storable("a\0b\ud800")
    'a\\x00b\\ud800'
    """
    fit = _UNFIT.sub(lambda found: ascii(found[0])[1:-1], text)
    return fit if len(fit) <= MAX_DETAIL_CHARS else f"{fit[:MAX_DETAIL_CHARS]}..."


def one_line(said: object) -> str:
    r"""Words an error, or a text, in one line, without the colours that delta-rs adds.

    >>> one_line(ValueError("a\n  \x1b[31mb"))
    'a b'
    """
    return " ".join(re.sub(r"\x1b\[\d*m", "", str(said)).split())


def excerpt(said: object) -> str:
    r"""Words what a stranger's file made a library say: the start of it, in one printable line.

    >>> excerpt("a\n \x00b"), len(excerpt("a" * 999))
    ('a ?b', 203)
    """
    line = "".join(letter if letter.isprintable() else "?" for letter in one_line(said))
    return line if len(line) <= _EXCERPT_CHARS else f"{line[:_EXCERPT_CHARS]}..."

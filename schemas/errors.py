"""The exception hierarchy.

A message states the value, the place and the cure. Every class takes exactly one
argument, the message: an exception with more arguments fails to unpickle when Beam
sends it back from a worker.
"""

from __future__ import annotations

import re

from schemas.redaction import printable, redact

MAX_DETAIL_CHARS = 4000
"""Characters of a message that are kept."""
_EXCERPT_CHARS = 200


class FleetError(Exception):
    """The base class of every error that fleetmill raises on purpose.

    Its message holds no secret: what it quotes of URLs is without passwords and signatures.
    """

    def __init__(self, message: str) -> None:
        """Takes the message."""
        super().__init__(redact(message))


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


class OutsideError(DataError):
    """The path leads out of the input: a link, or a listing that names files elsewhere."""

    reason = "outside"


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


class PrivacyError(DataError):
    """What has to be hidden on pictures cannot be found, so that they are not written."""

    reason = "privacy"
    final = False


def is_final(reason: str) -> bool:
    """Tells whether a reject of this reason stands, or the next run tries the input again.

    >>> is_final("corrupt"), is_final("unreadable")
    (True, False)
    """
    return all(error.final for error in DataError.__subclasses__() if error.reason == reason)


def storable(text: str) -> str:
    r"""Takes out secrets, and escapes what no table or terminal takes; a long text is cut.

    >>> storable("a\0b\ud800")
    'a\\x00b\\ud800'
    """
    fit = printable(redact(text))
    return fit if len(fit) <= MAX_DETAIL_CHARS else f"{fit[:MAX_DETAIL_CHARS]}..."


def one_line(said: object) -> str:
    r"""Words an error, or a text, in one line without secrets and control characters.

    The colours that delta-rs adds are left out.

    >>> one_line(ValueError("a\n  \x1b[31mb http://me:pw@host/\x07"))
    'a b http://host/\\x07'
    """
    return printable(redact(" ".join(re.sub(r"\x1b\[\d*m", "", str(said)).split())))


def excerpt(said: object) -> str:
    r"""Words what a stranger's file made a library say: the start of it, in one printable line.

    >>> excerpt("a\n \x00b"), len(excerpt("a" * 999))
    ('a \\x00b', 203)
    """
    line = one_line(said)
    return line if len(line) <= _EXCERPT_CHARS else f"{line[:_EXCERPT_CHARS]}..."

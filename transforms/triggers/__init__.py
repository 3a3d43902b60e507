"""The triggers: one .toml file each, here and in folders that the user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import fsspec

from schemas.errors import UsageError
from transforms.triggers.spec import Trigger, parse_trigger

__all__ = ["Trigger", "load_triggers"]

MAX_FILE_BYTES = 64 * 1024


def load_triggers(
    dirs: Sequence[str] = (),
    only: Sequence[str] | None = None,
    params: Mapping[str, Mapping[str, float]] | None = None,
) -> tuple[Trigger, ...]:
    """Reads the triggers that ship, then those of the user's folders, sorted by name.

    Args:
        dirs: folders of .toml files, anywhere fsspec reads; a later trigger of the same
            name takes the place of an earlier one.
        only: names to keep; None keeps all.
        params: trigger to parameter to value, in place of what the files say.

    Raises:
        UsageError: a folder, file, name or parameter is not there or not right.

    >>> [trigger.name for trigger in load_triggers(only=["hard_brake"])]
    ['hard_brake']
    """
    found: dict[str, Trigger] = {}
    for folder in (str(Path(__file__).parent), *dirs):
        here: dict[str, str] = {}
        for uri, text in _texts(folder):
            trigger = parse_trigger(text, uri)
            if trigger.name in here:
                raise UsageError(f"{uri}: trigger {trigger.name!r} is also in {here[trigger.name]}")
            here[trigger.name] = uri
            found[trigger.name] = trigger
    for name, values in (params or {}).items():
        found[name] = _named(found, name).override(values)
    names = found if only is None else {_named(found, name).name for name in only}
    return tuple(found[name] for name in sorted(names))


def _named(found: Mapping[str, Trigger], name: str) -> Trigger:
    if name not in found:
        raise UsageError(f"unknown trigger {name!r}; choose of: {', '.join(sorted(found))}")
    return found[name]


def _texts(folder: str) -> list[tuple[str, str]]:
    """Reads every .toml file of a folder: its address and its text, by name."""
    try:
        fs, path = fsspec.core.url_to_fs(folder)
        if not fs.isdir(path):
            raise UsageError(f"no such folder of triggers: {folder!r}")
        names = [entry["name"] for entry in fs.ls(path, detail=True) if entry["type"] == "file"]
        texts = []
        for name in sorted(name for name in names if name.endswith(".toml")):
            with fs.open(name, "rb") as file:
                body = file.read(MAX_FILE_BYTES + 1)
            uri = fs.unstrip_protocol(name) if "://" in folder else name
            if len(body) > MAX_FILE_BYTES:
                raise UsageError(f"{uri}: longer than {MAX_FILE_BYTES} bytes, no trigger is")
            texts.append((uri, body.decode("utf-8")))
    except (OSError, ValueError, ImportError) as error:
        # fsspec raises ValueError for a protocol that it does not know, ImportError for one
        # whose package is missing; UnicodeDecodeError is a ValueError too.
        raise UsageError(f"cannot read triggers of {folder!r}: {error}") from error
    return texts

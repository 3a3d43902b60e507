"""Triggers: what to mine for, one .toml file each, here and in folders of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from schemas.errors import UsageError
from transforms.definitions import Definitions, choices, shown
from transforms.triggers.spec import Trigger

__all__ = ["TRIGGERS", "Trigger", "load_triggers"]

TRIGGERS = Definitions("trigger", Trigger, str(Path(__file__).parent))


def load_triggers(
    dirs: Sequence[str] = (),
    only: Sequence[str] | None = None,
    params: Mapping[str, Mapping[str, float]] | None = None,
) -> tuple[Trigger, ...]:
    """Loads triggers, sorted by name.

    Args:
        dirs: folders of the user's; see transforms.definitions for their precedence.
        only: names, or paths of .toml files; no other file is read. None loads all.
        params: trigger to parameter to value, in place of the values in the files.

    Raises:
        UsageError: a folder, file, name or parameter is unknown or not allowed.

    >>> [trigger.name for trigger in load_triggers(only=["hard_brake"])]
    ['hard_brake']
    """
    triggers = (
        TRIGGERS.load_all(dirs)
        if only is None
        else [TRIGGERS.load(name, dirs) for name in dict.fromkeys(only)]
    )
    found = {trigger.name: trigger for trigger in triggers}
    for name, values in (params or {}).items():
        if name in found:
            found[name] = found[name].override(values)
        elif name not in (known := TRIGGERS.names(dirs)):
            raise UsageError(f"trigger {shown(name)}: unknown; {choices(known)}")
    return tuple(found[name] for name in sorted(found))

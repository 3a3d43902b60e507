"""Registries: literal tables of `name: "module:Attribute"`, imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.errors import UsageError


class Registry(Mapping[str, str]):
    """A lazily imported table of plug-ins of one kind.

    Args:
        kind: singular noun for a row in messages, such as "format".
        rows: name to "module:Attribute".
        extras: name to the fleetmill extra that the row needs, if any.
    """

    def __init__(
        self, kind: str, rows: Mapping[str, str], extras: Mapping[str, str] | None = None
    ) -> None:
        self.kind = kind
        self._rows = dict(rows)
        self._extras = dict(extras or {})

    def __getitem__(self, name: str) -> str:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, name: str) -> Any:
        """Imports and returns the attribute that a row names.

        Raises:
            UsageError: the name is unknown (the message lists the choices), or its module
                needs a package that is not installed (the message names the extra).
        """
        if name not in self._rows:
            raise UsageError(
                f"unknown {self.kind} {name!r}; choose one of: {', '.join(sorted(self._rows))}"
            )
        module, _, attribute = self._rows[name].partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if name not in self._extras:
                raise
            raise UsageError(
                f"{self.kind} {name!r} needs the package {error.name!r}: "
                f"pip install 'fleetmill[{self._extras[name]}]'"
            ) from error

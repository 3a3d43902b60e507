"""Loads definitions: triggers, models, topologies and CAN maps, one .toml file each.

The definition "x" is the file `x.toml`, whose key `name` is "x". It is looked up in our
folder and in the folders that the user names, anywhere fsspec reads. A later folder takes
precedence over an earlier one, and every folder of the user's over ours. Asked for by name,
only that one file is read, so a broken file beside it does no harm. In place of a name, the
path of a .toml file is accepted.

Every mistake is a UsageError of one form: kind, place, key, value, cure.

    trigger my/hard_brake.toml: for_s = -1: must be at least 0
    model my/m.toml: famliy: unknown key; choose one of: classes, description, family, ...
    topology "dojo": unknown; choose one of: dojo-exapod, dojo-tile, dojo-tray, gpu-8
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from typing import Annotated, Any, Generic, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from schemas.errors import UsageError, one_line
from schemas.redaction import redact
from transforms.storage import filesystem, names
from transforms.toml import load_toml

MAX_FILES = 1000
"""The most definitions of a folder."""

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
"""Unknown keys, other types, NaN and infinity are mistakes; a whole number may be a float."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SUFFIX = ".toml"
_SHOWN_CHARS = 80


def choices(names: Iterable[str]) -> str:
    """Words a list of what may be chosen.

    >>> choices(["b", "a", ""])
    'choose one of: "", a, b'
    """
    listed = ", ".join(name or '""' for name in sorted(names))
    return f"choose one of: {listed or 'nothing, there are none'}"


def one_of(names: Iterable[str]) -> AfterValidator:
    """Makes a validator of a text that must be one of some names."""
    allowed = tuple(names)

    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(choices(allowed))
        return value

    return AfterValidator(check)


def matching(pattern: str, cure: str) -> AfterValidator:
    """Makes a validator of a text that must match a pattern; `cure` is the message."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(cure)
        return value

    return AfterValidator(check)


def _check_text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


Text = Annotated[str, AfterValidator(_check_text)]


class Definition(BaseModel):
    """What every kind of definition has. Values are checked however it is made."""

    model_config = STRICT

    name: str
    description: Text

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str, info: ValidationInfo) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be letters, digits, _, - and ., at most 100")
        stem = (info.context or {}).get("stem", value)
        if value != stem:
            raise ValueError(f"must be {shown(stem)}, as the file is named")
        return value

    @classmethod
    def model_of(cls, table: Mapping[str, Any]) -> type[Self]:  # noqa: ARG003 - for overrides
        """Returns the model that a file's keys are checked with."""
        return cls

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some keys changed, checked like a file.

        Raises:
            ValidationError: a key or value is not allowed.
        """
        return self.model_validate({**self.model_dump(by_alias=True), **changes})


D = TypeVar("D", bound=Definition)


@dataclass(frozen=True, slots=True)
class Definitions(Generic[D]):
    """All definitions of one kind.

    Args:
        kind: what one is called, in messages: "trigger".
        model: the model of one.
        folder: where those are that ship with fleetmill.
    """

    kind: str
    model: type[D]
    folder: str

    def names(self, folders: Sequence[str] = ()) -> list[str]:
        """Lists the names that can be loaded, sorted, without reading a file.

        Raises:
            UsageError: a folder does not exist or cannot be listed.
        """
        return sorted(self._files((self.folder, *folders)))

    def load(self, name: str, folders: Sequence[str] = ()) -> D:
        """Loads one definition by its name, or by the path of its .toml file.

        Raises:
            UsageError: it is unknown (lists the choices), its file is not as it must be, or
                a folder does not exist.
        """
        if _path_of(name).endswith(_SUFFIX):
            return self._read(name)
        files = self._files((self.folder, *folders))
        if name not in files:
            raise UsageError(f"{self.kind} {shown(name)}: unknown; {choices(files)}")
        return self._read(files[name])

    def load_all(self, folders: Sequence[str] = (), *, shipped: bool = True) -> tuple[D, ...]:
        """Loads every definition, sorted by name; ours too if `shipped`.

        Raises:
            UsageError: a file is not as it must be, or a folder does not exist.
        """
        files = self._files((self.folder, *folders) if shipped else folders)
        return tuple(self._read(files[name]) for name in sorted(files))

    def survey(self, folders: Sequence[str] = ()) -> tuple[list[D], list[str]]:
        """Loads what can be loaded, and words the mistakes of the user's other files.

        Raises:
            UsageError: a file of ours is not as it must be, or a folder does not exist.
        """
        ours = self._files((self.folder,))
        good: list[D] = []
        mistakes: list[str] = []
        for name, url in sorted(self._files((self.folder, *folders)).items()):
            try:
                good.append(self._read(url))
            except UsageError as error:
                if url == ours.get(name):
                    raise
                mistakes.append(str(error))
        return good, mistakes

    def _files(self, folders: Sequence[str]) -> dict[str, str]:
        """Maps names to URLs; of two folders that have a name the later one counts."""
        found: dict[str, str] = {}
        for folder in folders:
            urls = self._listed(folder)
            if len(urls) > MAX_FILES:
                raise UsageError(
                    f"{self.kind} {folder}: {len(urls)} .toml files, and at most {MAX_FILES} are "
                    "read; name a folder with fewer"
                )
            found |= {_stem(url): url for url in urls}
        return found

    def _read(self, url: str) -> D:
        table = load_toml(self.kind, url)
        model = self.model.model_of(table)
        try:
            return model.model_validate(table, context={"stem": _stem(url)})
        except ValidationError as error:
            raise UsageError(f"{self.kind} {url}: {mistake(error, model)}") from error

    def _listed(self, folder: str) -> list[str]:
        """Lists the URLs of a folder's files, and words the failure of its store."""
        try:
            return _listed(folder)
        except FileNotFoundError as error:
            raise UsageError(f"{self.kind} {folder}: no such folder; correct the path") from error
        except UsageError as error:
            raise UsageError(f"{self.kind} {error}") from error
        except Exception as error:  # each store's client has errors of its own
            why = one_line(error) or type(error).__name__
            raise UsageError(f"{self.kind} {folder}: cannot be read: {why}") from error


def _path_of(url: str) -> str:
    """Returns a URL without the archive or cache that it is reached through."""
    return url.partition("::")[0]


def _stem(url: str) -> str:
    return _path_of(url).rpartition("/")[2].removesuffix(_SUFFIX)


def _listed(folder: str) -> list[str]:
    """Lists the URLs of a folder's .toml files.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    fs, root = filesystem(folder)
    if not fs.isdir(root):
        raise FileNotFoundError(folder)
    path, chain, rest = folder.partition("::")
    return [
        f"{path.rstrip('/')}/{name}{chain}{rest}"
        for name in names(folder)
        # Editors keep their own copies of a file under names with a dot in front.
        if name.endswith(_SUFFIX) and not name.startswith(".")
    ]


def mistake(error: ValidationError, model: type[BaseModel]) -> str:
    """Words the first mistake that validation found: `key = value: cure`.

    A misspelt key is told before a missing one, which it explains.

    Args:
        error: what pydantic raised.
        model: the model that was validated with.
    """
    found = error.errors(include_url=False)
    first = min(found, key=lambda each: each["type"] != "extra_forbidden")
    key = _key(first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; {choices(_keys(model, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"{key}: missing"
    value = first["input"]
    place = key if isinstance(value, Mapping) else f"{key} = {shown(value)}"
    return f"{place}: {_cure(first['type'], first.get('ctx', {}), first['msg'])}"


def shown(value: Any) -> str:
    """Writes a value as TOML does, cut where it is long.

    >>> shown("near"), shown(True), shown(-1)
    ('"near"', 'true', '-1')
    """
    if isinstance(value, str):
        value = redact(value)  # before it is cut
        text = json.dumps(value, ensure_ascii=not value.isprintable())
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, int) and value.bit_length() > 4 * _SHOWN_CHARS:
        text = f"a number of {value.bit_length()} bits"
    elif isinstance(value, date | time):
        text = value.isoformat()
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(map(shown, value[:_SHOWN_CHARS]))}]"
    else:
        text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}..."


_CURES = {
    "string_type": "must be text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "longer than {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_short": "must not be shorter than {min_length}",
    "too_long": "must not be longer than {max_length}",
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "model_type": "must be a table",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "value_error": "{error}",
}
"""pydantic's types of errors, and what is to be done about them."""


def _cure(type_: str, context: Mapping[str, Any], message: str) -> str:
    if type_ == "literal_error":
        return choices(re.findall(r"'([^']*)'", context["expected"]))
    if type_ in _CURES:
        # A limit of a float is written like that of a whole number: 600, not 600.0.
        plain = {k: int(v) if _is_whole(v) else v for k, v in context.items()}
        return _CURES[type_].format_map(plain)
    return message[:1].lower() + message[1:]


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _key(location: Sequence[int | str]) -> str:
    """Writes where a value is, as TOML does.

    >>> _key(("row", 2, "names", "4", "[key]"))
    'row[2].names.4'
    """
    parts = (f"[{part}]" if isinstance(part, int) else f".{_printable(part)}" for part in location)
    return "".join(part for part in parts if part != ".[key]").lstrip(".")


def _printable(key: str) -> str:
    return key if key.isprintable() else json.dumps(key)


def _keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Lists the keys of the table at a place in a model."""
    for part in location:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if part in fields:  # and not an index of a list, or a key of a mapping
            model = _nested(fields[str(part)].annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _nested(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _nested(part))), None)

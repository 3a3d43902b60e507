"""Forgeries of a lake that keep every file well-formed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.lake.adds import Adds
from pipeline.lake.intents import Intent
from pipeline.lake.tables import Lake
from schemas.ids import ID_CHARS, canonical
from transforms.parquet import decode, encode, statistics


def other(value: Any, type_: pa.DataType) -> Any:
    """Returns another value of a type, of the same size where there is one."""
    if pa.types.is_boolean(type_):
        return not value
    if pa.types.is_floating(type_):
        return (value or 0.0) + 0.5
    if pa.types.is_integer(type_):
        return (value or 0) + 1
    if pa.types.is_list(type_):
        return (
            [*value[1:], other(value[0], type_.value_type)]
            if value
            else [other(None, type_.value_type)]
        )
    if pa.types.is_struct(type_):
        field = type_.field(0)
        value = value or dict.fromkeys(type_.field(k).name for k in range(type_.num_fields))
        return {**value, field.name: other(value[field.name], field.type)}
    text = value or ""
    return ("y" if text[:1] == "x" else "x") + text[1:]


def changed(rows: pa.Table, column: str, value: Callable[[Any, pa.DataType], Any]) -> pa.Table:
    """Changes the last value of a column."""
    type_ = rows.schema.field(column).type
    values = rows[column].to_pylist()
    values[-1] = value(values[-1], type_)
    at = rows.column_names.index(column)
    return rows.set_column(at, rows.schema.field(column), pa.array(values, type_))


def file_of(lake: Lake, table: str) -> Path:
    """Returns one file of a table: the largest."""
    return max((Path(file) for file in lake.files(table)), key=lambda file: file.stat().st_size)


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes the rows of a file under its old name."""
    path.write_bytes(encode(change(decode(path.read_bytes()))))


def rewrite_all(lake: Lake, path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes the rows of a file, its name, the Delta log, and the intent of its run."""
    rows = change(decode(path.read_bytes()))
    content = encode(rows)
    stem = path.name.rpartition("-")[0]
    new = path.with_name(f"{stem}-{sha256(content).hexdigest()[:ID_CHARS]}.parquet")
    path.unlink()
    new.write_bytes(content)
    for checkpoint in path.parent.glob("_delta_log/*checkpoint*"):
        checkpoint.unlink()
    for commit in path.parent.glob("_delta_log/*.json"):
        actions = [json.loads(line) for line in commit.read_bytes().splitlines()]
        for add in (action["add"] for action in actions if "add" in action):
            if add["path"] == path.name:
                stats = json.loads(add["stats"])
                short = stats.keys() == {"numRecords"}
                add |= {"path": new.name, "size": len(content)}
                add["stats"] = add["stats"] if short else statistics(rows)
        commit.write_bytes(b"".join(json.dumps(action).encode() + b"\n" for action in actions))
    for intent in Path(lake.url, "commits").glob("*.json"):
        made = Intent.decode(int(intent.stem), intent.read_bytes())
        stats = statistics(rows)
        adds = [
            replace(add, path=new.name, size=len(content), stats=stats)
            if add.path == path.name
            else add
            for add in made.adds
        ]
        intent.write_bytes(replace(made, adds=Adds.of(sorted(adds))).encode())


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Edits a JSON file in place."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_bytes(canonical(document))


def places(value: Any, *at: Any) -> list[tuple[Any, ...]]:
    """Lists the places of the values in a document: of each object every key, of lists the first.

    >>> places({"a": [1, 2], "b": {"c": 3}})
    [('a', 0), ('b', 'c')]
    """
    if isinstance(value, dict) and value:
        return [place for key in value for place in places(value[key], *at, key)]
    if isinstance(value, list) and value:
        return places(value[0], *at, 0)
    return [at]


def alter(document: Any, place: tuple[Any, ...]) -> None:
    """Changes the value at a place to another of its type."""
    for key in place[:-1]:
        document = document[key]
    value = document[place[-1]]
    if isinstance(value, bool) or value is None:
        document[place[-1]] = not value
    elif isinstance(value, int | float):
        document[place[-1]] = value + 1
    elif isinstance(value, str):
        document[place[-1]] = other(value, pa.string())
    else:  # an empty list or object
        document[place[-1]] = [1] if value == [] else {"x": 1}

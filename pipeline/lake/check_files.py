"""Checks the files of the lake's tables, and keeps what other checks need of their rows.

Every file is read once. Of large tables only sums by log or event are kept, so memory depends
on the number of logs, events and files, not on the number of rows.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import Schema
from deltalake.exceptions import TableNotFoundError

from auto_label.event_rows import LABELS
from pipeline.lake.runs import numbered
from pipeline.lake.tables import NUMBER_CHARS, Lake
from pipeline.snapshots.verify import listed, read_bytes
from schemas.errors import LakeError, excerpt, one_line
from schemas.ids import ID_CHARS, canonical, digest
from schemas.tables import TABLES
from transforms.corpora.webdataset import rounded
from transforms.parquet import decode, read_files, statistics

FILE_NAME = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9_.-]*-([0-9a-f]{{{ID_CHARS}}})\.parquet")
"""The names of the files of tables: what wrote it, and a digest of its content."""

_COMMIT = re.compile(r"([0-9]{20})\.json")
_ACTIONS = {"add", "remove", "txn", "commitInfo", "metaData", "protocol"}
_BATCH_ROWS = 1 << 14
_ROUNDING_PX = 1e-6


@dataclass(frozen=True, slots=True)
class Key:
    """The columns by which a table has each row once: those of a group, and a running number.

    Files are compared by the ranges of `running` in each group; without `running` by groups.
    """

    group: tuple[str, ...]
    running: str = ""

    @property
    def columns(self) -> list[str]:
        """All of its columns."""
        return [*self.group, self.running] if self.running else [*self.group]


KEYS: Mapping[str, Key] = {
    "logs": Key(("log_id",)),
    "videos": Key(("log_id", "camera", "uri")),
    "frames": Key(("log_id", "camera", "uri"), "frame_index"),
    "signals": Key(("log_id",), "t_ns"),
    "joints": Key(("log_id",), "t_ns"),
    # Two files of one camera may overlap in time.
    "scene": Key(("log_id", "camera", "brightness", "sharpness", "source"), "t_ns"),
    "events": Key(("event_id",)),
    "privacy": Key(("event_id", "spec_digest", "camera")),
    "views": Key(("event_id", "spec_digest", "camera")),
    "detections": Key(("event_id", "spec_digest", "camera", "t_ns"), "number"),
    "boxes": Key(("event_id", "spec_digest", "camera", "track_id"), "t_ns"),
    "tracks": Key(("event_id", "spec_digest", "camera"), "track_id"),
    "ego_path": Key(("event_id", "spec_digest"), "t_ns"),
    "parts": Key(("event_id", "part", "spec_digest")),
    "samples": Key(("event_id", "spec_digest", "payload", "pack_uri")),
    "verdicts": Key(("event_id", "camera", "annotation", "updated_unix_ns")),
    "runs": Key(("run_id",)),
}

_OWNERS: Mapping[str, tuple[str, ...]] = {
    "frames": ("log_id", "camera", "uri"),
    "signals": ("log_id",),
    "joints": ("log_id",),
    "channels": ("log_id",),
    "annotations": ("log_id",),
    "scene": ("log_id", "camera"),
    "detections": ("event_id", "spec_digest", "camera", "source", "source_version"),
    "boxes": ("event_id", "spec_digest", "camera", "track_id", "class"),
    "tracks": ("event_id", "spec_digest", "camera"),
    "ego_path": ("event_id", "spec_digest"),
}
"""Of tables that are not kept: the columns whose values are, each once a file."""

_KEPT: Mapping[str, tuple[str, ...]] = {
    "logs": (
        "log_id", "drive_id", "vehicle_id", "platform", "format", "fingerprint", "start_ns",
        "start_local", "duration_ns", "clock", "software", "joint_names",
    ),
    "videos": (
        "log_id", "camera", "uri", "width", "height", "frames", "first_pts_ns", "start_ns",
        "time_base_num", "time_base_den",
    ),
    "events": ("event_id", "log_id", "drive_id", "start_ns", "end_ns"),
    "tracks": (
        "event_id", "spec_digest", "camera", "track_id", "class", "start_ns", "end_ns", "boxes",
    ),
    "privacy": ("event_id", "spec_digest", "camera", "policy"),
    "views": tuple(TABLES["views"].schema.names),
    "parts": tuple(TABLES["parts"].schema.names),
    "samples": tuple(TABLES["samples"].schema.names),
    "verdicts": (
        "event_id", "log_id", "drive_id", "camera", "annotation", "updated_unix_ns", "width_px",
        "height_px",
    ),
    "rejects": ("stage", "run_id"),
    "ledger": tuple(TABLES["ledger"].schema.names),
    "runs": tuple(TABLES["runs"].schema.names),
}  # fmt: skip
"""The columns that are kept of every row."""


@dataclass(frozen=True, slots=True)
class Added:
    """A file that a commit adds; `stats` is a digest of its statistics."""

    path: str
    size: int
    at_ms: int
    stats: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit in a table's Delta log, as far as it says who made it and what it changed."""

    version: int
    transactions: tuple[tuple[str, int], ...]
    adds: tuple[Added, ...]
    removes: tuple[str, ...]


@dataclass(slots=True)
class Facts:
    """What is known of a lake once its files were read.

    Args:
        damaged: tables of which a file could not be read: nothing is compared with them.
        kept: by table, the columns of _KEPT.
        owners: by table, the distinct values of _OWNERS by file, with the rows of each: `rows`,
            and the least and the greatest `t_ns` where the table has one.
        ranges: by table, those of its key by file: the columns of the group, `least`, `most`.
        first_frames: of each video's first frame `t_ns` and `pts`.
        contents: by event, and by event and label specification: a sum of hashes of its rows.
        files: by table, of each file its size, rows and statistics.
        commits: by table, its Delta log.
    """

    damaged: set[str] = field(default_factory=set)
    kept: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    owners: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    ranges: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    first_frames: list[pa.Table] = field(default_factory=list)
    contents: Counter[str] = field(default_factory=Counter)
    files: dict[str, dict[str, tuple[int, int, str]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    commits: dict[str, list[Commit]] = field(default_factory=lambda: defaultdict(list))

    def rows(self, table: str) -> pa.Table:
        """Returns the kept columns of a table's rows."""
        return pa.concat_tables([_schema(table).empty_table(), *self.kept[table]]).combine_chunks()


def row_hash(table: str, row: Mapping[str, Any]) -> int:
    """Hashes a row, so that the sum over rows does not depend on their order."""
    text = canonical([table, rounded(row)])
    return int.from_bytes(blake2b(text, digest_size=12).digest(), "big")


def owner(event_id: str, spec_digest: str) -> str:
    """Returns the key of an event's labels in `Facts.contents`."""
    return f"{event_id} {spec_digest}"


def check_table(lake: Lake, table: str, facts: Facts, checked: Counter[str]) -> Iterator[str]:
    """Yields what is wrong with a table's Delta log and with its files."""
    checked["tables"] += 1
    try:
        problems = list(_read_log(lake, table, facts))
    except LakeError as error:
        problems = [one_line(error)]
    version = lake.versions.get(table)
    if problems or version is None:  # the lake is older than the table
        facts.damaged |= {table} if problems else set()
        yield from problems
        return
    try:
        actions = pa.table(lake.delta(table, version).get_add_actions()).to_pylist()
    except (LakeError, TableNotFoundError) as error:
        facts.damaged.add(table)
        yield one_line(error)
        return
    yield from _compare_log(table, facts.commits[table], version, actions)
    for action in sorted(actions, key=lambda action: str(action["path"])):
        found = list(_check_file(lake, table, action, facts, checked))
        if found:
            facts.damaged.add(table)
        yield from found


def _read_log(lake: Lake, table: str, facts: Facts) -> Iterator[str]:
    """Reads the commits of a Delta log that are still there; yields what is wrong with them."""
    folder = f"{lake.table_url(table)}/_delta_log"
    known: dict[str, Any] = {}
    for name in listed(folder):
        place = f"tables/{table}/_delta_log/{name}"
        try:
            content = read_bytes(f"{folder}/{name}")
            if match := _COMMIT.fullmatch(name):
                commit, metadata = _read_commit(int(match[1]), content)
                facts.commits[table].append(commit)
                known = metadata or known
        except LakeError as error:
            if name in listed(folder):  # else it was removed behind a checkpoint just now
                yield one_line(error)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            yield f"{place}: is not a commit of Delta: {type(error).__name__}: {excerpt(error)}"
    versions = [commit.version for commit in facts.commits[table]]
    missing = sorted({*range(versions[0], versions[-1])} - {*versions}) if versions else []
    if missing:
        yield f"tables/{table}/_delta_log: version {missing[0]} is missing"
    if known:
        yield from _check_schema(table, known)


def _read_commit(version: int, content: bytes) -> tuple[Commit, dict[str, Any]]:
    transactions, adds, removes = [], [], []
    metadata: dict[str, Any] = {}
    if not content.strip():
        raise ValueError("it is empty")
    for line in content.splitlines():
        ((kind, action),) = json.loads(line).items()
        if kind not in _ACTIONS:
            raise ValueError(f"unknown action {kind!r}")
        if kind == "txn":
            transactions.append((str(action["appId"]), int(action["version"])))
        elif kind == "add":
            if action["partitionValues"] or action.get("deletionVector"):
                raise ValueError(f"{action['path']} has partitions or deleted rows")
            stats = digest(json.loads(action["stats"]))
            at_ms = int(action["modificationTime"])
            adds.append(Added(str(action["path"]), int(action["size"]), at_ms, stats))
        elif kind == "remove":
            removes.append(str(action["path"]))
        elif kind == "metaData":
            metadata = action
    return Commit(version, tuple(transactions), tuple(adds), tuple(removes)), metadata


def _check_schema(table: str, metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yields whether the columns are not those of the table; an older lake lacks the last ones."""
    wanted = json.loads(Schema.from_arrow(TABLES[table].schema).to_json())["fields"]
    try:
        found = json.loads(metadata["schemaString"])["fields"]
        same = [_column(one) for one in found] == [_column(one) for one in wanted[: len(found)]]
    except (ValueError, TypeError, KeyError) as error:
        yield f"tables/{table}/_delta_log: does not have the structure of a schema: {error!r}"
        return
    if not (found and same):
        yield f"tables/{table}/_delta_log: its columns are not those of {table}"


def _column(column: Mapping[str, Any]) -> tuple[Any, ...]:
    return column["name"], column["type"], column["nullable"]


def _compare_log(
    table: str, commits: list[Commit], version: int, actions: list[dict[str, Any]]
) -> Iterator[str]:
    """Yields whether checkpoints say something else than the commits they stand for."""
    if not commits or commits[0].version != 0:
        return
    active: dict[str, int] = {}
    for commit in commits:
        if commit.version <= version:
            for path in commit.removes:
                active.pop(path, None)
            active |= {add.path: add.size for add in commit.adds}
    if active != {action["path"]: action["size_bytes"] for action in actions}:
        yield f"tables/{table}/_delta_log: a checkpoint does not say what the commits say"


def _check_file(
    lake: Lake, table: str, action: Mapping[str, Any], facts: Facts, checked: Counter[str]
) -> Iterator[str]:
    path = action["path"]
    place = f"tables/{table}/{path}"
    if table == "runs" and not path[:NUMBER_CHARS].isdecimal():
        yield f"{place}: its name does not start with the number of a run"
        return
    try:
        content = read_table_file(lake, table, path, action["size_bytes"])
        rows = decode(content)
        TABLES[table].conform(rows)
    except LakeError as error:
        yield one_line(error)
        return
    except (pa.ArrowException, OSError, ValueError) as error:
        yield f"{place}: cannot be read as rows of {table}: {one_line(error)}"
        return
    checked["files"] += 1
    checked["bytes"] += len(content)
    if rows.num_rows != action["num_records"]:
        yield f"{place}: has {rows.num_rows} rows, the table says {action['num_records']}"
        return
    stats = statistics(rows)
    yield from _check_statistics(place, action, json.loads(stats))
    facts.files[table][path] = (len(content), rows.num_rows, stats)
    yield from _gather(table, path, rows, facts)


def read_table_file(lake: Lake, table: str, path: str, size: int) -> bytes:
    """Reads a file of a table, and compares its bytes with its name.

    Raises:
        LakeError: it cannot be read, or was altered, or is none of the table.
    """
    place = f"tables/{table}/{path}"
    name = FILE_NAME.fullmatch(path)
    if name is None:
        raise LakeError(f"{place}: is not the name of a file of the table")
    content = read_bytes(f"{lake.table_url(table)}/{path}")
    if len(content) != size:
        raise LakeError(f"{place}: has {len(content)} bytes, the table says {size}")
    if sha256(content).hexdigest()[:ID_CHARS] != name[1]:
        raise LakeError(f"{place}: altered: its SHA-256 is not that in its name")
    return content


def _check_statistics(
    place: str, action: Mapping[str, Any], wanted: Mapping[str, Any]
) -> Iterator[str]:
    """Yields whether the Delta log states other statistics than the rows have.

    A file of `runs` of an older lake has none but the number of rows.
    """
    stated = {
        key: {name: value for name, value in (action.get(part) or {}).items() if value is not None}
        for key, part in (("minValues", "min"), ("maxValues", "max"), ("nullCount", "null_count"))
    }
    if any(stated.values()) and any(stated[key] != wanted[key] for key in stated):
        wrong = sorted(
            {
                name
                for key, values in stated.items()
                for name in values.keys() | wanted[key].keys()
                if values.get(name) != wanted[key].get(name)
            }
        )
        yield f"{place}: the table states other statistics of {', '.join(wrong)} than the rows have"


def _gather(table: str, path: str, rows: pa.Table, facts: Facts) -> Iterator[str]:
    """Keeps what later checks need of a file's rows, and checks that its keys are distinct."""
    if table == "runs":
        rows = numbered(path, rows)
        if pc.max(rows["number"]).as_py() != int(path[:NUMBER_CHARS]):
            yield f"tables/runs/{path}: its name is not the number of its last run"
    if table in _KEPT:
        facts.kept[table].append(_filled(table, rows))
    if table in _OWNERS:
        columns = [*_OWNERS[table]]
        sums: list[Any] = [([], "count_all")]
        sums += [("t_ns", "min"), ("t_ns", "max")] if "t_ns" in rows.column_names else []
        sums += [("frame_index", "max")] if table == "frames" else []
        facts.owners[table].append(rows.group_by(columns).aggregate(sums))
    if table == "frames":
        first = rows.filter(pc.equal(rows["frame_index"], 0))
        facts.first_frames.append(first.select(["log_id", "camera", "uri", "t_ns", "pts"]))
    if table == "joints":
        yield from _check_widths(path, rows)
    if table == "verdicts":
        yield from _check_answers(path, rows)
    if table in (*LABELS, "events"):
        yield from _add_contents(table, rows, facts)
    if table in KEYS:
        yield from _gather_key(table, path, rows, facts)


def _schema(table: str) -> pa.Schema:
    """Returns the schema of what is kept of a table."""
    return pa.schema([TABLES[table].schema.field(name) for name in _KEPT[table]])


def _filled(table: str, rows: pa.Table) -> pa.Table:
    """Selects the columns that are kept; those that the file of an older lake lacks are null."""
    columns = [
        rows[field.name].cast(field.type)
        if field.name in rows.column_names
        else pa.nulls(rows.num_rows, field.type)
        for field in _schema(table)
    ]
    return pa.Table.from_arrays(columns, schema=_schema(table))


def _gather_key(table: str, path: str, rows: pa.Table, facts: Facts) -> Iterator[str]:
    key = KEYS[table]
    if not key.running:
        counts = rows.group_by([*key.group]).aggregate([([], "count_all")])
        facts.ranges[table].append(counts)
        return
    yield from twice(table, rows.select(key.columns))
    extremes = rows.group_by([*key.group]).aggregate([(key.running, "min"), (key.running, "max")])
    extremes = extremes.rename_columns([*key.group, "least", "most"])
    facts.ranges[table].append(extremes.append_column("path", pa.repeat(path, extremes.num_rows)))


def twice(table: str, rows: pa.Table) -> Iterator[str]:
    """Yields whether rows, which are the columns of a key, are there more than once."""
    counts = rows.group_by(rows.column_names).aggregate([([], "count_all")])
    yield from _more_than_one(table, counts, "count_all")


def _more_than_one(table: str, counts: pa.Table, count: str) -> Iterator[str]:
    """Yields whether there are several of a key, given how many there are of each."""
    more = counts.filter(pc.greater(counts[count], 1)).drop_columns([count])
    if more.num_rows:
        first = more.slice(0, 1).to_pylist()[0]
        yield f"{table}: {more.num_rows} keys have more than one row; the first is {first}"


def check_keys(lake: Lake, facts: Facts) -> Iterator[str]:
    """Yields which tables have a row twice in different files."""
    for table, key in KEYS.items():
        if table in facts.damaged or not facts.ranges[table]:
            continue
        ranges = pa.concat_tables(facts.ranges[table])
        if not key.running:
            counts = ranges.group_by([*key.group]).aggregate([("count_all", "sum")])
            yield from _more_than_one(table, counts, "count_all_sum")
            continue
        if files := _overlapping(ranges, key):
            urls = [f"{lake.table_url(table)}/{path}" for path in files]
            yield from twice(table, read_files(urls, TABLES[table].schema, key.columns))


def _overlapping(ranges: pa.Table, key: Key) -> list[str]:
    """Lists the files in which a group's range begins before it ends in another file."""
    order = [(name, "ascending") for name in (*key.group, "least")]
    ranges = ranges.sort_by(order).combine_chunks()
    before, after = ranges.slice(0, max(ranges.num_rows - 1, 0)), ranges.slice(1)
    clash = pc.greater_equal(before["most"], after["least"])
    for name in key.group:
        clash = pc.and_(clash, pc.equal(before[name], after[name]))
    return sorted(
        {*before.filter(clash)["path"].to_pylist(), *after.filter(clash)["path"].to_pylist()}
    )


def _check_widths(path: str, rows: pa.Table) -> Iterator[str]:
    """Yields whether the vectors of a log's joints differ in length."""
    for name in ("position", "velocity", "action"):
        lengths = pa.table([rows["log_id"], pc.list_value_length(rows[name])], ["log_id", "n"])
        extremes = lengths.group_by("log_id").aggregate([("n", "min"), ("n", "max")])
        uneven = extremes.filter(pc.not_equal(extremes["n_min"], extremes["n_max"]))
        if uneven.num_rows:
            log_id = uneven["log_id"][0]
            yield f"tables/joints/{path}: log {log_id}: its vectors `{name}` differ in length"


def _check_answers(path: str, rows: pa.Table) -> Iterator[str]:
    """Yields whether answers have boxes outside their frames or pictures."""
    for row in rows.to_pylist():
        frames, size = set(row["frames_ns"]), (row["width_px"], row["height_px"])
        if any(
            box["t_ns"] not in frames
            or min(box["x_px"], box["y_px"]) < 0
            or box["x_px"] + box["w_px"] > size[0] + _ROUNDING_PX
            or box["y_px"] + box["h_px"] > size[1] + _ROUNDING_PX
            for box in row["boxes"]
        ):
            yield (
                f"tables/verdicts/{path}: answer {row['annotation']} about event "
                f"{row['event_id']}: has boxes outside its frames or its pictures"
            )


def _add_contents(table: str, rows: pa.Table, facts: Facts) -> Iterator[str]:
    for batch in rows.to_batches(_BATCH_ROWS):
        for row in batch.to_pylist():
            if table == "events":
                facts.contents[row["event_id"]] += row_hash(table, row)
                yield from _check_event(row)
            else:
                event = owner(row.pop("event_id"), row.pop("spec_digest"))
                facts.contents[event] += row_hash(table, row)


def _check_event(row: Mapping[str, Any]) -> Iterator[str]:
    """Yields what is wrong with a row of `events` by itself."""
    place = f"events: event {row['event_id']}"
    try:
        evidence = json.loads(row["evidence"])
        parts = [row["log_id"], row["trigger"], row["trigger_version"], row["params_digest"]]
        parts += [evidence["start_ns"]]
        parts += [evidence["camera"]] if "camera" in evidence else []
        if row["event_id"] != digest("event", *parts):
            yield f"{place}: its id is not the digest of its log, trigger and place"
        elif row["score"] != evidence["peak"]:
            yield f"{place}: its score is {row['score']}, its evidence says {evidence['peak']}"
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        yield f"{place}: its evidence is not that of a trigger: {error!r}"
    if not 0 <= row["start_ns"] <= row["anchor_ns"] <= row["end_ns"]:
        yield f"{place}: its anchor is outside it"

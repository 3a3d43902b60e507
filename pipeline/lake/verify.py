"""Verifying: every hash, count and promise of a snapshot, a corpus or a lake, recomputed.

Nothing is repaired: what cannot be read is one line of the report, and the rest is still
checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.tables import Lake
from pipeline.snapshots.assembly import pack_url
from pipeline.snapshots.manifest import LATEST, MANIFEST, is_published
from pipeline.snapshots.verify import check_corpus, check_key, check_snapshot, read_bytes
from schemas.errors import LakeError
from schemas.tables import TABLES
from transforms.parquet import decode
from transforms.storage import filesystem, get, names, normal

_KEYS: Mapping[str, tuple[str, ...]] = {
    "logs": ("log_id",),
    "videos": ("log_id", "camera", "uri"),
    "frames": ("log_id", "camera", "uri", "frame_index"),
    "signals": ("log_id", "t_ns"),
    "events": ("event_id",),
    "samples": ("event_id", "spec_digest", "payload", "pack_uri"),
    "ledger": ("stage", "subject", "stage_digest"),
    "runs": ("run_id",),
}
"""The columns by which a table has each row once."""

_REFERENCES = {
    "log_id": ("logs", ("videos", "frames", "signals", "joints", "scene", "events")),
    "event_id": ("events", ("samples", "boxes", "tracks", "ego_path")),
}
"""By column: the table that has each value, and those that refer to it."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The problems found, one line each, and how much was checked.

    `checked` counts by kind: "shards", "samples", "bytes", "tables"...
    """

    url: str
    kind: str
    problems: tuple[str, ...]
    checked: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems


def verify(url: str) -> VerifyReport:
    """Checks a snapshot, a corpus (all of its snapshots), or a lake with its corpora.

    Raises:
        LakeError: the URL is none of them.
    """
    url = normal(url)
    found = set(names(url))
    checked: Counter[str] = Counter()
    if {MANIFEST, "samples.parquet", "train", "val"} & found:
        kind, problems = "snapshot", list(check_snapshot(url, checked))
    elif LATEST in found or any(is_published(f"{url}/{name}") for name in found):
        kind, problems = "corpus", list(check_corpus(url, checked))
    elif "tables" in found:
        kind, problems = "lake", list(_lake(url, checked))
    else:
        raise LakeError(f"{url} is neither a snapshot nor a corpus nor a lake")
    return VerifyReport(url, kind, tuple(problems), dict(checked))


def _lake(url: str, checked: Counter[str]) -> Iterator[str]:
    """Yields what is wrong with a lake and its corpora."""
    try:
        lake = Lake.open(url)
    except LakeError as error:
        yield str(error)
        return
    rows: dict[str, pa.Table] = {}
    for table in TABLES:
        try:
            yield from _check_table(lake, table, checked)
            if table in {"runs", "samples"}:
                rows[table] = lake.read(table)
        except LakeError as error:
            yield str(error)
    try:
        yield from _check_keys(lake)
        yield from _check_references(lake)
    except LakeError as error:
        yield str(error)
    if "samples" in rows:
        yield from _check_packs(lake, rows["samples"], checked)
    if "runs" in rows:
        yield from _check_runs(lake, rows["runs"])
    for name in names(f"{url}/corpora"):
        yield from (
            f"corpora/{name}: {problem}"
            for problem in check_corpus(f"{url}/corpora/{name}", checked)
        )


def _check_table(lake: Lake, table: str, checked: Counter[str]) -> Iterator[str]:
    checked["tables"] += 1
    for add in lake.adds(table):
        place = f"tables/{table}/{add.path}"
        try:
            content = read_bytes(f"{lake.table_url(table)}/{add.path}")
            if len(content) != add.size:
                yield f"{place}: has {len(content)} bytes, the table says {add.size}"
                continue
            rows = decode(content)
            checked["files"] += 1
            checked["bytes"] += len(content)
            if rows.num_rows != add.rows:
                yield f"{place}: has {rows.num_rows} rows, the table says {add.rows}"
            TABLES[table].conform(rows)
        except LakeError as error:
            yield str(error)
        except (pa.ArrowException, OSError, ValueError) as error:
            yield f"{place}: cannot be read as rows of {table}: {' '.join(str(error).split())}"


def _check_keys(lake: Lake) -> Iterator[str]:
    for table, key in _KEYS.items():
        rows = lake.read(table, columns=key)
        counts = rows.group_by(list(key)).aggregate([([], "count_all")])
        twice = counts.filter(pc.greater(counts["count_all"], 1))
        if twice.num_rows:
            first = {name: twice[name][0].as_py() for name in key}
            yield f"{table}: {twice.num_rows} keys have more than one row; the first is {first}"


def _check_references(lake: Lake) -> Iterator[str]:
    for column, (owner, tables) in _REFERENCES.items():
        known = lake.read(owner, columns=[column])[column]
        for table in tables:
            used = pc.unique(lake.read(table, columns=[column])[column])
            lost = used.filter(pc.invert(pc.is_in(used, value_set=known)))
            if len(lost):
                yield f"{table}: {len(lost)} {column}s are not in {owner}; the first is {lost[0]}"


def _check_packs(lake: Lake, samples: pa.Table, checked: Counter[str]) -> Iterator[str]:
    rows = samples.sort_by([("pack_uri", "ascending"), ("offset", "ascending")]).to_pylist()
    for row in rows:
        start, end = row["offset"], row["offset"] + row["length"]
        place = f"{row['pack_uri']}: sample {row['event_id']} at byte {start}"
        if start < 0 or end <= start:
            yield f"{place}: {row['length']} bytes from there are not a range of a file"
            continue
        try:
            url = pack_url(lake.url, row["pack_uri"])
            fs, path = filesystem(url)
            if end > fs.size(path):
                yield f"{place}: the pack ends within it"
                continue
            block = get(url, start, end)
        except (LakeError, OSError) as error:
            yield f"{place}: cannot be read: {error}"
            continue
        checked["samples"] += 1
        checked["bytes"] += len(block)
        if sha256(block).hexdigest() != row["sha256"]:
            yield f"{place}: altered: its SHA-256 is not that in the table"
            continue
        yield from (f"{place}: {problem}" for problem in check_key(block, row["event_id"]))


def _check_runs(lake: Lake, runs: pa.Table) -> Iterator[str]:
    for row in runs.to_pylist():
        for count in row["counts"]:
            if min(count["kept"], count["filtered"], count["rejected"]) < 0:
                yield f"runs: run {row['run_id']}: the balance of {count['stage']} is negative"
        for entry in row["versions"]:
            if entry["version"] > lake.versions.get(entry["table"], 0):
                yield (
                    f"runs: run {row['run_id']} names version {entry['version']} of "
                    f"{entry['table']}, the lake is at {lake.versions.get(entry['table'], 0)}"
                )

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

from pipeline.lake.tables import Lake
from pipeline.snapshots.assembly import pack_url
from pipeline.snapshots.manifest import LATEST, MANIFEST, is_published
from pipeline.snapshots.verify import check_corpus, check_key, check_snapshot, read_bytes
from schemas.errors import LakeError
from schemas.tables import TABLES
from transforms.parquet import decode
from transforms.storage import filesystem, get, names, normal


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
            if table in {"events", "runs", "samples"}:
                rows[table] = lake.read(table)
        except LakeError as error:
            yield str(error)
    if "samples" in rows:
        yield from _check_packs(lake, rows["samples"], checked)
    if "runs" in rows:
        yield from _check_runs(lake, rows["runs"])
    if "events" in rows and "samples" in rows:
        yield from _check_events(rows["events"], rows["samples"])
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


def _check_packs(lake: Lake, samples: pa.Table, checked: Counter[str]) -> Iterator[str]:
    rows = samples.sort_by([("pack_uri", "ascending"), ("offset", "ascending")]).to_pylist()
    for row in rows:
        start, end = row["offset"], row["offset"] + row["length"]
        place = f"{row['pack_uri']}: sample {row['event_id']} at byte {start}"
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


def _check_events(events: pa.Table, samples: pa.Table) -> Iterator[str]:
    known = Counter(events["event_id"].to_pylist())
    twice = sum(number > 1 for number in known.values())
    if twice:
        yield f"events: {twice} ids occur more than once"
    lost = sum(event_id not in known for event_id in samples["event_id"].to_pylist())
    if lost:
        yield f"samples: {lost} are of events that are not in the table events"

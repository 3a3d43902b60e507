"""Verify finds every forgery: of tables, Delta logs, intents, packs, manifests, plans, shards.

FLEETMILL_FORGERIES_EVERY=1 tries all of them, in twice a minute; by default it is every third.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from pipeline.snapshots.manifest import root_hash
from schemas.ids import canonical
from schemas.tables import TABLES
from tests.conftest import Tell
from tests.pipeline.lake.forging import (
    alter,
    changed,
    edit,
    file_of,
    other,
    places,
    rewrite,
    rewrite_all,
)
from transforms.corpora.pack import END_OF_ARCHIVE, tar_members

Forgery = tuple[str, str, Callable[[], object]]
"""What is forged, what a line of the report must name, and how."""

NOWHERE_ELSE = {
    "logs": {"name", "uri"},
    "videos": {
        "codec",
        "width",
        "height",
        "duration_ns",
        "variable_rate",
        "time_base_num",
        "time_base_den",
    },
    "frames": {"t_ns", "pts", "is_keyframe", "byte_offset", "byte_size"},
    "signals": set(TABLES["signals"].schema.names) - {"log_id", "t_ns"},
    "joints": {"t_ns", "position", "velocity", "action"},
    "channels": {"channel", "t_ns", "value"},
    "annotations": {"t_ns", "reason", "camera", "lat_deg", "lon_deg"},
    "scene": set(TABLES["scene"].schema.names) - {"log_id", "camera"},
    "privacy": set(TABLES["privacy"].schema.names)
    - {"event_id", "camera", "spec_digest", "policy"},
    "views": {"t_ns"},
    "detections": {"t_ns", "number", "class", "x_px", "y_px", "w_px", "h_px", "score"},
    "verdicts": {
        "task",
        "reviewer",
        "verdict",
        "scene",
        "comment",
        "skipped",
        "control",
        "seconds",
        "frames_ns",
        "boxes",
        "labels_digest",
    },
    "rejects": {"uri", "stage", "reason", "detail", "subject"},
    "ledger": {"stage", "stage_digest", "task"},
    "runs": {"job", "finished_ns", "started_ns", "counts", "number"},
}
"""Columns whose values a lake states once: a forger who also changes the file's name, the Delta
log and the intent cannot be found out by them."""


@contextlib.contextmanager
def restored(lake: Lake, kept: Path) -> Iterator[None]:
    """Undoes a change of the lake, which has the files of `kept` and their times."""
    try:
        yield
    finally:
        before, after = _states(kept), _states(Path(lake.url))
        for path in after.keys() - before.keys():
            Path(lake.url, path).unlink()
        for path in before:
            if after.get(path) != before[path]:
                shutil.copy2(kept / path, Path(lake.url, path))


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    states = [(path, path.stat()) for path in files]
    return {str(path.relative_to(folder)): (s.st_mtime_ns, s.st_size) for path, s in states}


def check(lake: Lake, kept: Path, forgeries: list[Forgery], tell: Tell) -> None:
    """Makes the forgeries one after the other; each must be found by a line that names it."""
    missed, kinds = [], Counter[str]()
    for what, name, forge in forgeries:
        with restored(lake, kept):
            forge()
            problems = verify(lake.url).problems
        kinds[what.partition(":")[0]] += 1
        if not any(name in problem for problem in problems):
            missed.append((what, problems[:3]))
        if any("\n" in problem or len(problem) > 1000 for problem in problems):
            missed.append((what, problems))
    tell(f"{len(forgeries)} forgeries found: {dict(kinds)}")
    assert not missed


def of_columns(lake: Lake) -> Iterator[Forgery]:
    for table, spec in TABLES.items():
        path = file_of(lake, table)
        for field in spec.schema:

            def forge(path: Path = path, column: str = field.name) -> None:
                rewrite(path, lambda rows: changed(rows, column, other))

            yield f"column: {table}.{field.name}", path.name, forge


def of_columns_with_names(lake: Lake) -> Iterator[Forgery]:
    """The forger knows how files are named, and changes what names them."""
    for table, spec in TABLES.items():
        path = file_of(lake, table)
        for field in spec.schema:
            if field.name in NOWHERE_ELSE.get(table, ()):
                continue

            def forge(path: Path = path, column: str = field.name) -> None:
                rewrite_all(lake, path, lambda rows: changed(rows, column, other))

            yield f"self-consistent: {table}.{field.name}", "", forge


def of_rows(lake: Lake) -> Iterator[Forgery]:
    """A row is left out, or there twice."""
    for table in sorted(TABLES.keys() - {"channels", "annotations", "rejects", "scene"}):
        path = file_of(lake, table)

        def add(path: Path = path) -> None:
            rewrite_all(lake, path, lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]))

        yield f"rows: {table} has one twice", table, add

        def drop(path: Path = path) -> None:
            rewrite_all(lake, path, lambda rows: rows.slice(1))

        if table not in {"joints", "runs"}:
            yield f"rows: {table} lacks one", "", drop


def of_delta_logs(lake: Lake) -> Iterator[Forgery]:
    for table in ("logs", "ledger", "frames", "runs"):
        commit = sorted(Path(lake.table_url(table), "_delta_log").glob("*.json"))[-1]
        actions = [json.loads(line) for line in commit.read_bytes().splitlines()]
        at = next(k for k, action in enumerate(actions) if "add" in action)
        for key in ("path", "size", "modificationTime", "stats", "partitionValues"):

            def forge(commit: Path = commit, actions: Any = actions, at: int = at,
                      key: str = key) -> None:  # fmt: skip
                forged = json.loads(json.dumps(actions))
                stats = json.loads(forged[at]["add"]["stats"])
                alter(stats, ("numRecords",))
                value = {"stats": json.dumps(stats), "partitionValues": {"a": "b"}}
                if key in value:
                    forged[at]["add"][key] = value[key]
                else:
                    alter(forged[at]["add"], (key,))
                commit.write_bytes(b"\n".join(json.dumps(one).encode() for one in forged))

            yield f"delta: {table} {key}", table, forge
        for name, line in (
            ("is no JSON", b"{"), ("unknown action", b'{"erase":{}}'),
            ("another run", b'{"txn":{"appId":"nobody","version":9}}'),
        ):  # fmt: skip

            def write(commit: Path = commit, actions: Any = actions, line: bytes = line) -> None:
                kept = [one for one in actions if "txn" not in one]
                lines = [json.dumps(one).encode() for one in kept]
                commit.write_bytes(b"\n".join([*lines, line]))

            yield f"delta: {table} {name}", table, write
    for path in ("../x.parquet", "/etc/passwd", "http://127.0.0.1:9/x", "a::b", "%61.parquet"):

        def name_it(path: str = path) -> None:
            commit = Path(lake.table_url("logs"), "_delta_log", f"{1:020d}.json")
            name = file_of(lake, "logs").name
            for one in Path(lake.table_url("logs"), "_delta_log").glob("*.json"):
                if name in one.read_text():
                    commit = one
            commit.write_text(commit.read_text().replace(name, path))

        yield f"delta: path {path}", "logs", name_it


def of_statistics(lake: Lake) -> Iterator[Forgery]:
    for table, part in (
        ("events", "minValues"), ("signals", "maxValues"), ("logs", "nullCount"),
        ("samples", "minValues"),
    ):  # fmt: skip
        name = file_of(lake, table).name
        for column in ("event_id", "log_id"):
            if column not in TABLES[table].schema.names:
                continue

            def forge(table: str = table, part: str = part, name: str = name,
                      column: str = column) -> None:  # fmt: skip
                for commit in Path(lake.table_url(table), "_delta_log").glob("*.json"):
                    actions = [json.loads(line) for line in commit.read_bytes().splitlines()]
                    for add in (one["add"] for one in actions if "add" in one):
                        if add["path"] == name:
                            stats = json.loads(add["stats"])
                            alter(stats, (part, column))
                            add["stats"] = json.dumps(stats)
                    commit.write_bytes(b"\n".join(json.dumps(one).encode() for one in actions))

            yield f"statistics: {table} {part} {column}", name, forge


def of_intents(lake: Lake) -> Iterator[Forgery]:
    intents = sorted(Path(lake.url, "commits").glob("*.json"))
    for intent in (intents[0], intents[-1]):
        for place in places(json.loads(intent.read_bytes())):
            if place == ("removes",):
                continue

            def forge(intent: Path = intent, place: tuple[Any, ...] = place) -> None:
                edit(intent, lambda document: alter(document, place))

            yield f"intent: {intent.name} {place}", "", forge
    yield "intent: no JSON", intents[0].name, lambda: intents[0].write_bytes(b"{")
    yield "intent: another's", intents[0].name, lambda: shutil.copy(intents[1], intents[0])
    late = intents[-1].with_name(f"{99:020d}.json")
    yield "intent: a number too far", "commits", lambda: shutil.copy(intents[0], late)
    queued = intents[-1].with_name(f"{len(intents) + 1:020d}.json")
    yield "intent: a run that is committed", "commits", lambda: shutil.copy(intents[0], queued)
    yield (
        "intent: one that is not applied",
        "",
        lambda: queued.write_bytes(intents[0].read_bytes().replace(b'"run":', b'"run": ')),
    )


def of_packs(lake: Lake) -> Iterator[Forgery]:
    pack = max(Path(lake.url, "packs").iterdir(), key=lambda pack: pack.stat().st_size)
    whole = pack.read_bytes()
    extra = tar_members("x", {"json": b"{}"})
    body = whole[: -len(END_OF_ARCHIVE)]
    contents = {
        "a bit of a clip": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
        "a header": bytes([whole[0] ^ 1]) + whole[1:],
        "a sample more": body + extra + END_OF_ARCHIVE,
        "a sample before": extra + whole,
        "the end": body + b"x" * len(END_OF_ARCHIVE),
        "no end": body,
        "bytes after the end": whole + b"x",
    }
    for what, content in contents.items():
        yield f"pack: {what}", pack.name, partial(pack.write_bytes, content)


def of_samples_rows(lake: Lake) -> Iterator[Forgery]:
    """Rows of `samples` that lead elsewhere, in a file that is named by its content."""
    for column, value in (
        ("pack_uri", "packs/a\0.tar"), ("pack_uri", "/etc/passwd"), ("pack_uri", "gopher://x/y"),
        ("pack_uri", "packs/../../x.tar"), ("pack_uri", "packs/none.tar"), ("offset", -1),
        ("offset", 1 << 62), ("length", -1), ("length", 0), ("length", 1 << 62),
    ):  # fmt: skip

        def forge(column: str = column, value: Any = value) -> None:
            rewrite_all(lake, file_of(lake, "samples"),
                        lambda rows: changed(rows, column, lambda *_: value))  # fmt: skip

        yield f"samples: {column} {value!r}", "", forge


def of_snapshots(lake: Lake) -> Iterator[Forgery]:
    manifest = next(Path(lake.url, "corpora").glob("*/*/manifest.json"))
    folder = manifest.parent
    for signed in (False, True):
        for place in places(json.loads(manifest.read_bytes())):
            if place == ("root",) and signed:
                continue

            def forge(place: Any = place, signed: bool = signed) -> None:
                edit(manifest, lambda document: alter(document, place))
                if signed:
                    edit(manifest, lambda document: document.update(root=root_hash(document)))

            yield f"manifest: {'signed ' if signed else ''}{place}", "corpora/first", forge
    plan = folder / "plan.json"
    for place in places(json.loads(plan.read_bytes())):

        def replan(place: Any = place) -> None:
            edit(plan, lambda document: alter(document, place))
            sign(folder)

        yield f"plan: {place}", "corpora/first", replan

    def rewritten(name: str) -> None:
        (folder / name).write_bytes((folder / name).read_bytes().replace(b"first", b"fIrst"))
        sign(folder)

    yield "card", "card.md", lambda: rewritten("card.md")
    latest = folder.parent / "latest.json"
    yield "latest: another", "latest.json", lambda: latest.write_bytes(b'{"snapshot":"0"}')
    yield "latest: no JSON", "latest.json", lambda: latest.write_bytes(b"{")
    yield "latest: outside", "latest.json", lambda: latest.write_bytes(b'{"snapshot":"../x"}')
    for shard in sorted(folder.glob("*/*.tar")):
        whole = shard.read_bytes()
        for what, content in (
            ("a bit", whole[:600] + bytes([whole[600] ^ 1]) + whole[601:]),
            ("a sample more", tar_members("x", {"json": b"{}"}) + whole),
            ("cut", whole[:-512]),
        ):

            def reshard(shard: Path = shard, content: bytes = content) -> None:
                shard.write_bytes(content)
                sign(folder)

            yield f"shard: {what}", shard.name, reshard
    for column in ("event_id", "sha256", "offset", "length", "position", "shard", "split"):

        def move(column: str = column) -> None:
            rewrite(folder / "samples.parquet", lambda rows: changed(rows, column, other))
            sign(folder)

        yield f"samples.parquet: {column}", "corpora/first", move


def sign(folder: Path) -> None:
    """Makes the manifest agree with the files again, as a forger would."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for entry in manifest["files"]:
        content = (folder / entry["path"]).read_bytes()
        entry |= {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    manifest["root"] = root_hash(manifest)
    (folder / "manifest.json").write_bytes(canonical(manifest))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [of_columns, of_columns_with_names, of_rows, of_delta_logs, of_statistics, of_intents,
     of_packs, of_samples_rows, of_snapshots],
)  # fmt: skip
def test_every_forgery_is_found(
    whole: Lake, whole_once: Lake, make: Callable[[Lake], Iterator[Forgery]], tell: Tell
) -> None:
    assert verify(whole.url).problems == ()
    every = int(os.environ.get("FLEETMILL_FORGERIES_EVERY", "3"))
    check(whole, Path(whole_once.url), list(make(whole))[::every], tell)

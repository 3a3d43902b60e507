"""Vacuum: deletes files that no reader can need any more.

A reader that opened the lake before a run may still read the files that the run removed, and
a run may be about to commit what it wrote. So a file is deleted some hours after it was written
and after the run that removed it, and while a run is at work nothing that is younger than the
run is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pyarrow.compute as pc

from pipeline.lake.intents import NUMBERS, pending, recover, stored
from pipeline.lake.remote import ask
from pipeline.lake.tables import NUMBER_CHARS, Lake
from pipeline.snapshots.manifest import MANIFEST
from schemas.tables import TABLES
from transforms.storage import TEMPORARY, delete, times

RUN_HOURS = 24.0
"""A run whose journal changed within so many hours may be at work, however few are kept."""


def vacuum(lake: Lake, hours: float, *, dry_run: bool = False) -> list[str]:
    """Deletes what is left over: files that no table names, old intents, journals, packs, shards.

    Args:
        lake: the lake; queued runs are rolled forward first.
        hours: how long a file is kept after it was written, and after it was removed.
        dry_run: only lists them.

    Returns:
        The files, as paths relative to the lake, sorted.
    """
    recover(lake)
    journals = times(f"{lake.url}/work")
    intents = times(f"{lake.url}/commits")
    now = time.time()
    deadline = _deadline(journals, now - hours * 3600, now - RUN_HOURS * 3600)
    unused = [f"work/{path}" for path, at in journals.items() if at < deadline]
    unused += [f"commits/{path}" for path in _old_intents(lake, intents, deadline)]
    kept = set(_removed_lately(lake, intents, deadline))
    queued = {(add.table, add.path) for intent in pending(lake) for add in intent.adds}
    for table in TABLES:
        used = {uri.rpartition("/")[2] for uri in lake.newest_files(table)}
        used |= {path for name, path in queued if name == table}
        used |= {path for name, path in kept if name == table}
        unused += _unused(lake, f"tables/{table}", used, deadline)
    if not any(table == "parts" for table, _ in queued):
        packs = {
            uri.rpartition("/")[2]
            for table in ("parts", "samples")
            for uri in pc.unique(lake.scan(table, ["pack_uri"])["pack_uri"]).to_pylist()
        }
        unused += _unused(lake, "packs", packs, deadline)
    unused += _unpublished(lake, deadline)
    return sorted(path for path in unused if dry_run or delete(f"{lake.url}/{path}"))


def checkpoint(lake: Lake) -> None:
    """Writes a Delta checkpoint of every table, and deletes the commits that expired before it.

    A table whose newest version is not the one that the last run names is left alone: that
    version must stay readable.
    """
    for table, version in lake.versions.items():
        delta = lake.delta(table)
        if delta.version() == version:
            ask(lake.url, delta.create_checkpoint)
            ask(lake.url, delta.cleanup_metadata)


def _deadline(journals: Mapping[str, float], deadline: float, alive: float) -> float:
    """Moves the deadline to before the start of every run that is at work.

    A run is at work if its journal changed after the deadline, or since `alive`.
    """
    starts: dict[str, float] = {}
    lively: set[str] = set()
    for path, at in journals.items():
        run_id = path.partition("/")[0]
        starts[run_id] = min(at, starts.get(run_id, at))
        if at >= min(deadline, alive):
            lively.add(run_id)
    return min([deadline, *(starts[run_id] for run_id in lively)])


def _old_intents(lake: Lake, intents: Mapping[str, float], deadline: float) -> Iterator[str]:
    """Yields the files of `commits` that can go.

    Not the last number, by which the next is taken, and none before whose predecessors have
    gone, whatever the clock said when they were written: that a number is there shows that
    every later one that was taken is there too.
    """
    for path, at in sorted(intents.items()):
        if NUMBERS.fullmatch(path) is None:
            if path.startswith(TEMPORARY) and at < deadline:
                yield path
        elif int(path[:NUMBER_CHARS]) < lake.number and at < deadline:
            yield path
        else:
            return


def _removed_lately(
    lake: Lake, intents: Mapping[str, float], deadline: float
) -> Iterator[tuple[str, str]]:
    """Yields table and name of the files that runs after the deadline removed."""
    for path, at in intents.items():
        number = NUMBERS.fullmatch(path)
        intent = stored(lake, int(number[1])) if number is not None and at >= deadline else None
        for table, uri in intent.removes if intent is not None else ():
            yield table, uri.rpartition("/")[2]


def _unused(lake: Lake, folder: str, used: set[str], deadline: float) -> list[str]:
    """Lists the old files of a folder that are not used, less those in folders of it."""
    return [
        f"{folder}/{name}"
        for name, at in times(f"{lake.url}/{folder}").items()
        if "/" not in name and name not in used and at < deadline
    ]


def _unpublished(lake: Lake, deadline: float) -> list[str]:
    """Lists the files of snapshots without a manifest that nobody has written to lately."""
    folders: dict[str, dict[str, float]] = {}
    for path, at in times(f"{lake.url}/corpora").items():
        name, _, rest = path.partition("/")
        snapshot, inside, _ = rest.partition("/")
        if inside:
            folders.setdefault(f"{name}/{snapshot}", {})[path] = at
    return [
        f"corpora/{path}"
        for folder, files in folders.items()
        if f"{folder}/{MANIFEST}" not in files and max(files.values()) < deadline
        for path in files
    ]

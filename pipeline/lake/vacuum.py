"""Vacuum: deletes files that no version of a table in use, and no queued run, names."""

from __future__ import annotations

import time

import pyarrow.compute as pc

from pipeline.lake.intents import applied, intent_url, numbers, pending, recover
from pipeline.lake.tables import Lake
from schemas.tables import TABLES
from transforms.storage import TEMPORARY, filesystem, names

GRACE_HOURS = 24.0


def vacuum(lake: Lake, hours: float = GRACE_HOURS) -> list[str]:
    """Deletes files that neither a table's newest version nor an intent names.

    Args:
        lake: the lake; queued runs are rolled forward first.
        hours: younger files are kept, for a run may be about to commit them.

    Returns:
        The deleted files, as paths relative to the lake.
    """
    recover(lake)
    deadline = time.time() - hours * 3600
    last = applied(lake)
    unused = [intent_url(lake, number) for number in numbers(lake) if number < last]
    queued = {(add.table, add.path) for intent in pending(lake) for add in intent.adds}
    for table in TABLES:
        used = {uri.rpartition("/")[2] for uri in lake.newest_files(table)}
        used |= {path for name, path in queued if name == table}
        unused += _unused(lake, f"tables/{table}", ".parquet", used)
    packs = pc.unique(lake.read("samples", ["pack_uri"])["pack_uri"]).to_pylist()
    if not any(table == "samples" for table, _ in queued):
        unused += _unused(lake, "packs", ".tar", {uri.rpartition("/")[2] for uri in packs})
    for run in names(f"{lake.url}/work"):
        folder = f"{lake.url}/work/{run}"
        for name in names(folder):
            if "." in name:
                unused.append(f"{folder}/{name}")
            else:  # the folder of a page of its journal
                unused += [f"{folder}/{name}/{result}" for result in names(f"{folder}/{name}")]
    unused += _unused(lake, "commits", TEMPORARY, set())
    return sorted(url.removeprefix(f"{lake.url}/") for url in unused if _expire(url, deadline))


def _unused(lake: Lake, folder: str, suffix: str, used: set[str]) -> list[str]:
    """Lists a folder's files of that suffix that are not used, and left-over temporary files."""
    return [
        f"{lake.url}/{folder}/{name}"
        for name in names(f"{lake.url}/{folder}")
        if name not in used and (name.endswith(suffix) or name.startswith(TEMPORARY))
    ]


def _expire(url: str, deadline: float) -> bool:
    """Deletes a file older than the deadline; returns whether this call deleted it."""
    fs, path = filesystem(url)
    try:
        if fs.modified(path).timestamp() > deadline:
            return False
        fs.rm_file(path)
    except FileNotFoundError:
        return False
    return True

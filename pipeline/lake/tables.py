"""The lake's Delta tables: creating, opening, reading, and writing files still uncommitted.

A `Lake` is pinned to one version of every table, those that the last row of `runs` names:
what its reader sees is complete across tables, whatever is committed meanwhile. Runs are
committed by pipeline.lake.intents.

A lake of an older format opens: columns and tables added since are null and empty. One of a
newer format is refused. The format is a property of the table `runs`.

A table is created by the first run that adds to it, and `runs` together with the lake.

Workers only `write`, which needs pyarrow alone: delta-rs does not survive a fork.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipeline.lake.delta_log import FORMAT_KEY, created, put_commit
from pipeline.lake.remote import ask, options
from schemas.errors import LakeError, UsageError, one_line
from schemas.ids import ID_CHARS
from schemas.records import AddFile
from schemas.tables import FORMAT, TABLES
from transforms.addresses import check_bare
from transforms.links import check_links, leaves
from transforms.parquet import encode, read, read_files, statistics
from transforms.storage import check_own, is_local, normal, put, reach

COMPACTED = "compacted"
"""The start of the names of files that compaction wrote; others start with the key of a task."""

NUMBER_CHARS = 20
"""Digits of a run's number in names of files."""

Remove = tuple[str, str]
"""A file whose rows a run deletes: its table, and its URL as `Lake.files` lists it."""

_EXTENTS = ["path", "stem", "size", "least", "most"]
_SUFFIX_CHARS = len("-") + ID_CHARS + len(".parquet")
_STEM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,150}")


class Lake:
    """A lake at pinned versions. Small and picklable; making one does no I/O.

    Args:
        url: the lake's folder, as a path or an fsspec URL.
        versions: table to Delta version; None for a lake that is only written to.
    """

    def __init__(self, url: str, versions: Mapping[str, int] | None = None) -> None:
        check_bare("lake", url)
        self.url = normal(url)
        if "%" in self.url:  # delta-rs decodes it, once or twice, wherever it stands
            raise UsageError(f"a lake's URL must not hold a per cent sign: {self.url}")
        if self.url.encode("utf-8", "replace").decode() != self.url:
            raise UsageError(f"a lake's URL must be UTF-8: {self.url}")
        self._versions = None if versions is None else dict(versions)
        self._number, self._format = 0, FORMAT
        self._opened: dict[str, DeltaTable] = {}
        self._last: tuple[str, Mapping[str, Any]] = ("", {})

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the opened tables, which cannot be pickled."""
        return self.__dict__ | {"_opened": {}}

    @property
    def versions(self) -> dict[str, int]:
        """The pinned version of each table; one that no run has added to has none."""
        if self._versions is None:
            raise ValueError(f"lake {self.url} is not pinned: use Lake.open to read")
        return self._versions

    @property
    def is_pinned(self) -> bool:
        """Whether the lake was opened, so that it can be read."""
        return self._versions is not None

    @property
    def number(self) -> int:
        """The number of the last run at the pinned versions; 0 for a lake without runs."""
        return self._number

    @property
    def format(self) -> int:
        """The lake's format, as it was when it was opened."""
        return self._format

    @classmethod
    def open(cls, url: str) -> Lake:
        """Opens a lake at the versions that the last run left.

        Raises:
            LakeError: there is no lake, or a newer fleetmill wrote it.
        """
        lake = cls(url)
        lake.refresh()
        return lake

    @classmethod
    def create(cls, url: str) -> Lake:
        """Opens a lake, and creates it if there is none, also when two processes do it at once."""
        lake = cls(url)
        reach(lake.url)
        try:
            lake._pin()
        except TableNotFoundError:
            # One that another process created meanwhile is as good.
            put_commit(
                lake.table_url("runs"), 0, created("runs", lake.url, time.time_ns() // 10**6)
            )
            lake.refresh()
        return lake

    def refresh(self) -> None:
        """Pins the versions that the last run left.

        Raises:
            LakeError: there is no lake, or a newer fleetmill wrote it.
        """
        reach(self.url)
        try:
            self._pin()
        except TableNotFoundError as error:
            raise LakeError(
                f"no lake at {self.url}: make one with `fleetmill ingest --lake`"
            ) from error

    def _check_links(self) -> None:
        """Checks that the lake's folders and Delta logs are in it."""
        tables = [self.table_url(table) for table in TABLES]
        below = [f"{self.url}/{name}" for name in ("tables", "corpora", "work")]
        logs = [f"{table}/_delta_log" for table in tables]
        try:
            check_links(self.url, self.url, *below, *logs)
            linked = [log for log in logs if is_local(log) and leaves(self.url, log)]
        except OSError as error:
            raise LakeError(f"lake {self.url}: {one_line(error)}; copy what it leads to") from error
        if linked:
            raise LakeError(f"lake {self.url}: {linked[0]} is a link that leads out of the lake")

    def _pin(self) -> None:
        self._check_links()
        runs = self._updated("runs")
        self._format = int(ask(self.url, runs.metadata).configuration.get(FORMAT_KEY, 1))
        if self._format > FORMAT:
            raise LakeError(
                f"lake {self.url} has format {self._format}, which a newer fleetmill wrote; this "
                f"one reads formats up to {FORMAT}: install a newer one"
            )
        uris = self._uris("runs", runs)
        if uris and uris[-1] != self._last[0]:
            self._last = (uris[-1], _last_run(uris[-1]))
        named = self._last[1]["versions"] if uris else ()
        versions = {entry["table"]: entry["version"] for entry in named}
        number = int(uris[-1].rpartition("/")[2][:NUMBER_CHARS]) if uris else 0
        self.move(number, versions | {"runs": runs.version()})

    def move(self, number: int, versions: Mapping[str, int]) -> None:
        """Pins other versions, those after a run of a number."""
        self._number, self._versions = number, dict(versions)

    def last_run(self) -> Mapping[str, Any]:
        """Returns the row of the last run when the lake was refreshed; empty if there is none."""
        return self._last[1]

    def _updated(self, table: str) -> DeltaTable:
        """Opens a table at its newest version; one that is open reads only what was added."""
        held = self._opened.pop(table, None)
        if held is None:
            held = self.delta(table)
        else:
            try:
                ask(self.url, held.update_incremental)
            except DeltaError:  # its log was removed
                held = self.delta(table)
        self._opened[table] = held
        return held

    def table_url(self, table: str) -> str:
        """Returns a table's folder."""
        return f"{self.url}/tables/{table}"

    def delta(self, table: str, version: int | None = None) -> DeltaTable:
        """Opens a table at a version, by default its newest.

        Raises:
            TableNotFoundError: there is no such table.
            LakeError: it cannot be opened at that version.
        """
        url = self.table_url(table)
        try:
            with contextlib.suppress(FileNotFoundError):
                check_own(f"{url}/_delta_log/_last_checkpoint")  # delta-rs would wait for a FIFO
            return ask(url, lambda: DeltaTable(url, version=version, storage_options=options(url)))
        except TableNotFoundError:
            raise
        except (DeltaError, OSError) as error:
            raise LakeError(
                f"table {table!r} of lake {self.url} cannot be opened at version {version}: "
                f"{one_line(error)}"
            ) from error

    def files(self, table: str) -> list[str]:
        """Lists the files of a table at its pinned version, sorted."""
        if table not in TABLES:
            raise LakeError(f"no table {table!r}; choose one of: {', '.join(sorted(TABLES))}")
        pinned = self._pinned(table)
        return [] if pinned is None else self._uris(table, pinned)

    def newest_files(self, table: str) -> list[str]:
        """Lists the files of a table at its newest version, sorted."""
        try:
            return self._uris(table, self.delta(table))
        except TableNotFoundError:
            return []

    def extents(self, table: str, column: str) -> pa.Table:
        """Lists the files of a table at its pinned version, and what they may hold.

        Returns:
            path (below the table), stem (its name's start, see `write`), size and, of the
            column's values, least and most; null where the file has no statistics of it.
        """
        pinned = self._pinned(table)
        if pinned is None:
            empty = pa.array([], pa.string())
            return pa.table([empty, empty, pa.array([], pa.int64()), empty, empty], _EXTENTS)
        actions = pa.table(ask(self.url, lambda: pinned.get_add_actions(flatten=True)))
        path = actions["path"].cast(pa.string())
        extremes = [
            actions[name].cast(pa.string())
            if name in actions.column_names
            else pa.nulls(len(path), pa.string())
            for name in (f"min.{column}", f"max.{column}")
        ]
        stem = pc.utf8_slice_codeunits(path, 0, -_SUFFIX_CHARS)
        return pa.table([path, stem, actions["size_bytes"], *extremes], _EXTENTS)

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002 - pyarrow's own word for it
    ) -> pa.Table:
        """Reads a table at its pinned version, sorted by the table's order.

        Args:
            table: a name in TABLES.
            columns: the columns wanted, all by default.
            filter: keeps the rows for which it is true; prunes files by their statistics.

        Raises:
            LakeError: a file is gone or damaged.
        """
        spec = TABLES[table]
        wanted = list(spec.schema.names if columns is None else columns)
        rows = self.scan(table, list(dict.fromkeys([*wanted, *spec.order])), filter)
        return rows.sort_by([(name, "ascending") for name in spec.order]).select(wanted)

    def scan(
        self,
        table: str,
        columns: Sequence[str],
        filter: pc.Expression | None = None,  # noqa: A002 - pyarrow's own word for it
    ) -> pa.Table:
        """Reads what `read` reads, in any order, which is faster."""
        files, spec = self.files(table), TABLES[table]
        if not files:
            return spec.empty().select(list(columns))
        try:
            return read_files(files, spec.schema, columns, filter)
        except (pa.ArrowInvalid, OSError) as error:
            raise LakeError(
                f"table {table!r} of lake {self.url} cannot be read: {one_line(error)}; "
                "`fleetmill verify` lists what is damaged"
            ) from error

    def write(self, table: str, rows: pa.Table, stem: str) -> list[AddFile]:
        """Writes rows as one Parquet file, invisible to readers until it is committed.

        The name holds a digest of the content, so a file never changes once written and
        writing it again is harmless; equal rows give equal bytes.

        Args:
            table: a name in TABLES.
            rows: in any order; conformed to the table.
            stem: the start of the file's name, by convention the key of the task that wrote it.

        Returns:
            The file to commit; none if there are no rows.
        """
        if not _STEM.fullmatch(stem):
            raise ValueError(f"stem {stem!r} must match {_STEM.pattern}")
        conformed = TABLES[table].conform(rows)
        if not conformed.num_rows:
            return []
        content = encode(conformed)
        path = f"{stem}-{sha256(content).hexdigest()[:ID_CHARS]}.parquet"
        put(f"{self.table_url(table)}/{path}", content)
        return [AddFile(table, path, len(content), conformed.num_rows, statistics(conformed))]

    def _pinned(self, table: str) -> DeltaTable | None:
        """Opens a table at its pinned version, once; None if no run has added to it."""
        version = self.versions.get(table)
        if version is None:
            return None
        held = self._opened.get(table)
        if held is not None and held.version() < version:
            held = self._updated(table)
        if held is None or held.version() != version:
            held = self.delta(table, version)
        self._opened[table] = held
        return held

    def _uris(self, table: str, delta: DeltaTable) -> list[str]:
        folder = self.table_url(table)
        # Every file is directly under its table, and delta-rs may spell the folder differently.
        return sorted(
            f"{folder}/{uri.rpartition('/')[2]}" for uri in ask(self.url, delta.file_uris)
        )


def stem_of(url: str) -> str:
    """Returns the start of a file's name, as `Lake.write` was given it."""
    return url.rpartition("/")[2][:-_SUFFIX_CHARS]


def _last_run(url: str) -> Mapping[str, Any]:
    """Reads the last row of a file of `runs`."""
    try:
        check_own(url)
        row: Mapping[str, Any] = max(read(url).to_pylist(), key=lambda row: row.get("number") or 0)
    except (pa.ArrowInvalid, OSError) as error:
        raise LakeError(
            f"{url}, the last row of runs, cannot be read: {error}; restore it"
        ) from error
    return row

"""The lake's Delta tables: creating, opening, reading, and writing files still uncommitted.

A `Lake` is pinned to one version of every table, those that the last row of `runs` names:
what its reader sees is complete across tables, whatever is committed meanwhile. Runs are
committed by pipeline.lake.intents.

Workers only `write`, which needs pyarrow alone: delta-rs does not survive a fork.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from schemas.errors import LakeError, UsageError
from schemas.ids import ID_CHARS
from schemas.records import AddFile
from schemas.tables import TABLES
from transforms.parquet import encode, read, read_files, statistics
from transforms.storage import filesystem, is_local, normal, put

_STEM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,150}")


class Lake:
    """A lake at pinned versions. Small and picklable; making one does no I/O.

    Args:
        url: the lake's folder, as a path or an fsspec URL.
        versions: table to Delta version; None for a lake that is only written to.
    """

    def __init__(self, url: str, versions: Mapping[str, int] | None = None) -> None:
        self.url = normal(url)
        if "%" in self.url:  # delta-rs decodes it, once or twice, wherever it stands
            raise UsageError(f"a lake's URL must not hold a per cent sign: {self.url}")
        self._versions = None if versions is None else dict(versions)

    @property
    def versions(self) -> dict[str, int]:
        """The pinned version of each table."""
        if self._versions is None:
            raise ValueError(f"lake {self.url} is not pinned: use Lake.open to read")
        return self._versions

    @classmethod
    def open(cls, url: str) -> Lake:
        """Opens a lake at the versions that the last run left.

        Raises:
            LakeError: there is no lake.
        """
        lake = cls(url)
        lake.refresh()
        return lake

    @classmethod
    def create(cls, url: str) -> Lake:
        """Creates the tables that are absent, and opens the lake.

        Safe when two processes do it at once. `runs` is created last: a lake that has it
        has every table.
        """
        lake = cls(url)
        for name in sorted(TABLES, key="runs".__eq__):
            if not lake.exists(name):
                _create(lake.table_url(name), TABLES[name].schema)
        return cls.open(url)

    def refresh(self) -> None:
        """Pins the versions that the last run left.

        Raises:
            LakeError: there is no lake.
        """
        try:
            runs = self.delta("runs")
        except TableNotFoundError as error:
            raise LakeError(
                f"no lake at {self.url}: make one with `fleetmill ingest --lake`"
            ) from error
        pinned = {table: 0 for table in TABLES if table != "runs"}
        uris = self._uris("runs", runs)
        if uris:
            try:
                row = read(uris[-1]).to_pylist()[0]
            except (pa.ArrowInvalid, OSError) as error:
                raise LakeError(
                    f"{uris[-1]}, the last row of runs, cannot be read: {error}; restore it"
                ) from error
            pinned = {entry["table"]: entry["version"] for entry in row["versions"]}
        self._versions = {**pinned, "runs": runs.version()}

    def table_url(self, table: str) -> str:
        """Returns a table's folder."""
        return f"{self.url}/tables/{table}"

    def exists(self, table: str) -> bool:
        """Tells whether the lake has a table."""
        url = self.table_url(table)
        return DeltaTable.is_deltatable(url, _options(url))

    def delta(self, table: str, version: int | None = None) -> DeltaTable:
        """Opens a table at a version, by default its newest.

        Raises:
            TableNotFoundError: there is no such table.
            LakeError: it cannot be opened at that version.
        """
        url = self.table_url(table)
        try:
            return DeltaTable(url, version=version, storage_options=_options(url))
        except TableNotFoundError:
            raise
        except DeltaError as error:
            raise LakeError(
                f"table {table!r} of lake {self.url} cannot be opened at version {version}: {error}"
            ) from error

    def files(self, table: str) -> list[str]:
        """Lists the files of a table at its pinned version, sorted."""
        if table not in TABLES:
            raise LakeError(f"no table {table!r}; choose one of: {', '.join(sorted(TABLES))}")
        version = self.versions.get(table)
        if version is None:  # the lake is older than the table
            return []
        return self._uris(table, self.delta(table, version))

    def newest_files(self, table: str) -> list[str]:
        """Lists the files of a table at its newest version, sorted."""
        return self._uris(table, self.delta(table))

    def adds(self, table: str) -> list[AddFile]:
        """Lists the files of a table at its pinned version with their size and rows."""
        version = self.versions.get(table)
        if version is None:
            return []
        actions = pa.table(self.delta(table, version).get_add_actions()).to_pylist()
        return sorted(
            AddFile(table, add["path"], add["size_bytes"], add["num_records"], "")
            for add in actions
        )

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
        files, spec = self.files(table), TABLES[table]
        wanted = list(spec.schema.names if columns is None else columns)
        if not files:
            return spec.empty().select(wanted)
        needed = list(dict.fromkeys([*wanted, *spec.order]))
        try:
            rows = read_files(files, spec.schema, needed, filter)
        except (pa.ArrowInvalid, OSError) as error:
            one_line = " ".join(str(error).split())
            raise LakeError(
                f"table {table!r} of lake {self.url} cannot be read: {one_line}; "
                "`fleetmill verify` lists what is damaged"
            ) from error
        return rows.sort_by([(name, "ascending") for name in spec.order]).select(wanted)

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

    def _uris(self, table: str, delta: DeltaTable) -> list[str]:
        folder = self.table_url(table)
        # Every file is directly under its table, and delta-rs may spell the folder differently.
        return sorted(f"{folder}/{uri.rpartition('/')[2]}" for uri in delta.file_uris())


def _options(url: str) -> dict[str, str] | None:
    """Storage options for delta-rs, whose S3 commits need the store's conditional put."""
    return {"aws_conditional_put": "etag"} if url.startswith("s3://") else None


def _create(url: str, schema: pa.Schema) -> None:
    if is_local(url):
        fs, path = filesystem(url)
        fs.makedirs(path, exist_ok=True)
    try:
        DeltaTable.create(url, schema=schema, mode="ignore", storage_options=_options(url))
    except DeltaError:
        if not DeltaTable.is_deltatable(url, _options(url)):  # else another process created it
            raise

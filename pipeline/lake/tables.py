"""The lake: Delta tables that one run changes together or not at all.

Delta commits one table at a time, so a run that touches several is queued first, in a
numbered log of intents, and then rolled forward:

1. `commits/<number>.json` holds the run's row and the files of every table. It appears
   whole, and its number is its own: two runs that end at once queue up.
2. Every table that the run adds to gets one Delta commit, under the run's id as the
   application transaction, so that a second attempt changes nothing.
3. The `runs` row comes last and names the version of every table.

Intents are applied in the order of their numbers, each by whoever comes first: number
n + 1 is begun when the `runs` row of n is there, so the versions that a row names hold
the runs up to it, whole, and nothing else. Readers open the versions of the last row. A
crash before 1 leaves nothing visible; after it, `recover` rolls the run forward.

Workers only `write`, which is pyarrow alone: delta-rs does not survive a fork.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import LakeError, UsageError
from schemas.ids import ID_CHARS, canonical
from schemas.records import AddFile, Count
from schemas.tables import TABLES
from transforms.parquet import encode, statistics
from transforms.storage import TEMPORARY, filesystem, names, normal, put, put_new

NUMBER_CHARS = 20
GRACE_HOURS = 24.0
_ATTEMPTS = 20
_STEM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,150}")


@dataclass(frozen=True, slots=True)
class RunRow:
    """One job run, as its job knows it; `config` is canonical JSON."""

    run_id: str
    job: str
    config_digest: str
    config: str
    started_ns: int
    counts: tuple[Count, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """A run that is queued: what `commits/<number>.json` says.

    `removes` are (table, URI) of files whose rows the run takes away.
    """

    number: int
    run: RunRow
    finished_ns: int
    adds: tuple[AddFile, ...]
    removes: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """Serialises the intent, less its number, which is its file's name."""
        return canonical(
            {
                "run": asdict(self.run),
                "finished_ns": self.finished_ns,
                "adds": [asdict(add) for add in self.adds],
                "removes": [list(remove) for remove in self.removes],
            }
        )

    @classmethod
    def decode(cls, number: int, content: bytes) -> Intent:
        """Reads what `encode` wrote."""
        fields = json.loads(content)
        run = fields["run"]
        counts = tuple(Count(**count) for count in run.pop("counts"))
        return cls(
            number,
            RunRow(**run, counts=counts),
            fields["finished_ns"],
            tuple(AddFile(**add) for add in fields["adds"]),
            tuple((table, uri) for table, uri in fields["removes"]),
        )


class Lake:
    """A lake at pinned versions. Small and picklable; making one does no I/O.

    Args:
        url: where the lake lies.
        versions: table to Delta version; None for a lake that only writes.
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
        """Pins the versions that the last run left.

        Raises:
            LakeError: there is no lake.
        """
        lake = cls(url)
        try:
            runs = lake._delta("runs")
        except TableNotFoundError as error:
            raise LakeError(
                f"no lake at {lake.url}: make one with `fleetmill ingest --lake`"
            ) from error
        return lake._pinned(runs)

    @classmethod
    def create(cls, url: str) -> Lake:
        """Makes the tables that are absent, and opens the lake.

        Safe when two do it at once. `runs` is made last: a lake with it is whole.
        """
        lake = cls(url)
        for name in sorted(TABLES, key="runs".__eq__):
            if not lake._exists(name):
                _create(lake.table_url(name), TABLES[name].schema)
        return cls.open(url)

    def table_url(self, table: str) -> str:
        """Returns where a table lies."""
        return f"{self.url}/tables/{table}"

    def files(self, table: str) -> list[str]:
        """Lists the files of a table at its pinned version, sorted."""
        if table not in TABLES:
            raise LakeError(f"no table {table!r}; choose one of: {', '.join(sorted(TABLES))}")
        version = self.versions.get(table)
        if version is None:  # the lake is older than the table
            return []
        return self._uris(table, self._delta(table, version))

    def adds(self, table: str) -> list[AddFile]:
        """Lists the files of a table at its pinned version with their size and rows."""
        version = self.versions.get(table)
        if version is None:
            return []
        actions = pa.table(self._delta(table, version).get_add_actions()).to_pylist()
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
        fs, _ = filesystem(self.url)
        if isinstance(fs, LocalFileSystem):
            place = pa.fs.LocalFileSystem(use_mmap=True)
        else:
            place = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(fs))
            files = [fs._strip_protocol(file) for file in files]
        read = list(dict.fromkeys([*wanted, *spec.order]))
        try:
            found = pq.ParquetDataset(files, place, schema=spec.schema, filters=filter)
            rows = found.read(columns=read)
        except (pa.ArrowInvalid, OSError) as error:
            raise LakeError(
                f"table {table!r} of lake {self.url} cannot be read: {error}; "
                "`fleetmill verify` lists what is damaged"
            ) from error
        return rows.sort_by([(name, "ascending") for name in spec.order]).select(wanted)

    def write(self, table: str, data: pa.Table, stem: str) -> list[AddFile]:
        """Writes rows as one Parquet file that nobody sees until it is committed.

        The name holds a digest of the content, so a file once written never changes and
        writing it again is harmless; equal rows give equal bytes.

        Args:
            table: a name in TABLES.
            data: rows in any order; conformed to the table.
            stem: the start of the file's name, by convention the key of the task that wrote it.

        Returns:
            The add action to commit; none for no rows.
        """
        if not _STEM.fullmatch(stem):
            raise ValueError(f"stem {stem!r} must match {_STEM.pattern}")
        rows = TABLES[table].conform(data)
        if not rows.num_rows:
            return []
        content = encode(rows)
        path = f"{stem}-{sha256(content).hexdigest()[:ID_CHARS]}.parquet"
        put(f"{self.table_url(table)}/{path}", content)
        return [AddFile(table, path, len(content), rows.num_rows, statistics(rows))]

    def commit(
        self, run: RunRow, adds: Sequence[AddFile], removes: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Makes a run's files visible, all at once, and pins this lake to the outcome.

        A run whose id is committed already changes nothing, nor does one that has neither
        files nor counts. Runs that were queued before,
        by others or by a job that died, are rolled forward first.

        Args:
            run: the row of `runs`.
            adds: what `write` returned.
            removes: (table, URI as `files` lists it) of files whose rows go, for an erasure.
        """
        finished = time.time_ns()
        ordered = tuple(sorted(set(adds)))
        says = bool(ordered or removes or run.counts)
        while says and not self.is_committed(run.run_id):
            number = self._last_number() + 1
            intent = Intent(number, run, finished, ordered, tuple(sorted(set(removes))))
            if not put_new(self._intent_url(number), intent.encode()):
                continue
            if self._applied() < number:
                break
            # Only if vacuum took the numbers away while this call was stopped for hours.
            fs, path = filesystem(self._intent_url(number))
            fs.rm_file(path)
        self.recover()

    def is_committed(self, run_id: str) -> bool:
        """Tells whether a run is committed, or queued to be."""
        if self._delta("runs").transaction_version(run_id) is not None:
            return True
        return any(intent.run.run_id == run_id for intent in self.pending())

    def recover(self) -> list[str]:
        """Rolls queued runs forward, and pins this lake to the outcome.

        Idempotent, also when two do it at once.

        Returns:
            The ids of the runs that were queued.
        """
        rolled = []
        for intent in self.pending():
            self._apply(intent)
            rolled.append(intent.run.run_id)
        self._versions = Lake.open(self.url).versions
        return rolled

    def pending(self) -> Iterator[Intent]:
        """Yields the queued runs, oldest first."""
        applied = self._applied()
        for number in self._numbers():
            if number > applied:
                fs, path = filesystem(self._intent_url(number))
                with contextlib.suppress(FileNotFoundError):  # applied and vacuumed just now
                    yield Intent.decode(number, fs.cat_file(path))

    def vacuum(self, hours: float = GRACE_HOURS) -> list[str]:
        """Deletes files that no version in use and no intent names.

        Args:
            hours: files younger than that are kept, for a run may be about to commit them.

        Returns:
            What was deleted, as paths relative to the lake.
        """
        self.recover()
        deadline = time.time() - hours * 3600
        applied = self._applied()
        unused = [self._intent_url(number) for number in self._numbers() if number < applied]
        queued = {(add.table, add.path) for intent in self.pending() for add in intent.adds}
        for table in TABLES:
            used = {uri.rpartition("/")[2] for uri in self._uris(table, self._delta(table))}
            used |= {path for name, path in queued if name == table}
            unused += self._strays(f"tables/{table}", ".parquet", used)
        packs = pc.unique(self.read("samples", ["pack_uri"])["pack_uri"]).to_pylist()
        if not any(table == "samples" for table, _ in queued):
            unused += self._strays("packs", ".tar", {uri.rpartition("/")[2] for uri in packs})
        for folder in names(f"{self.url}/work"):
            unused += self._strays(f"work/{folder}", "", set())
        unused += self._strays("commits", TEMPORARY, set())
        return sorted(url.removeprefix(f"{self.url}/") for url in unused if _expire(url, deadline))

    def _strays(self, folder: str, suffix: str, used: set[str]) -> list[str]:
        """Lists the files of a folder that are not used, left-over temporary ones too."""
        return [
            f"{self.url}/{folder}/{name}"
            for name in names(f"{self.url}/{folder}")
            if name not in used and (name.endswith(suffix) or name.startswith(TEMPORARY))
        ]

    def _apply(self, intent: Intent) -> None:
        """Rolls one intent forward: its tables, then its row of `runs`."""
        for table in (name for name in TABLES if name != "runs"):
            adds = [add for add in intent.adds if add.table == table]
            removes = [uri for name, uri in intent.removes if name == table]
            if adds or removes:
                self._append(table, intent, adds, removes)
        runs = self._delta("runs")  # before the versions: see _append
        if runs.transaction_version(intent.run.run_id) is not None:
            return
        versions = {
            table: self._delta(table).version()
            for table in TABLES
            if table != "runs" and self._exists(table)
        }
        content = encode(_run_row(intent, versions))
        name = f"{intent.number:0{NUMBER_CHARS}d}-{sha256(content).hexdigest()[:ID_CHARS]}.parquet"
        put(f"{self.table_url('runs')}/{name}", content)
        self._append("runs", intent, [AddFile("runs", name, len(content), 1, "")], [], runs)

    def _append(
        self,
        table: str,
        intent: Intent,
        adds: Sequence[AddFile],
        removes: Sequence[str],
        delta: DeltaTable | None = None,
    ) -> None:
        """Commits an intent's files to one table, once.

        Delta refuses the commit if the same transaction landed after `delta` was loaded,
        so what was derived from a state no older than `delta` is committed or refused.
        """
        for attempt in range(_ATTEMPTS):
            delta = delta or self._delta(table)
            if delta.transaction_version(intent.run.run_id) is not None:
                return
            actions: list[AddAction | RemoveAction] = [_add(add, intent) for add in adds]
            actions += _remove(removes, intent.finished_ns // 1_000_000)
            try:
                delta.create_write_transaction(
                    actions,
                    mode="append",
                    schema=TABLES[table].schema,
                    commit_properties=CommitProperties(
                        app_transactions=[Transaction(intent.run.run_id, 1)]
                    ),
                )
            except CommitFailedError as error:
                if attempt == _ATTEMPTS - 1:
                    raise LakeError(
                        f"table {table!r} of lake {self.url} would not take the commit of run "
                        f"{intent.run.run_id}: {error}; run again"
                    ) from error
                delta = None
            else:
                return

    def _pinned(self, runs: DeltaTable) -> Lake:
        pinned = {table: 0 for table in TABLES if table != "runs"}
        uris = self._uris("runs", runs)
        if uris:
            fs, path = filesystem(uris[-1])
            try:
                # Not read_table: it imports datasets, and with them pandas, for one row.
                # Nor in threads: one may hold the bytes after this process began to end.
                file = pq.ParquetFile(pa.BufferReader(fs.cat_file(path)))
                rows = file.read(use_threads=False)
            except (pa.ArrowInvalid, OSError) as error:
                raise LakeError(
                    f"{uris[-1]}, the last row of runs, cannot be read: {error}; restore it"
                ) from error
            row = rows.to_pylist()[0]
            pinned = {entry["table"]: entry["version"] for entry in row["versions"]}
        return Lake(self.url, {**pinned, "runs": runs.version()})

    def _delta(self, table: str, version: int | None = None) -> DeltaTable:
        url = self.table_url(table)
        try:
            return DeltaTable(url, version=version, storage_options=_options(url))
        except TableNotFoundError:
            raise
        except DeltaError as error:
            raise LakeError(
                f"table {table!r} of lake {self.url} cannot be opened at version {version}: {error}"
            ) from error

    def _uris(self, table: str, delta: DeltaTable) -> list[str]:
        folder = self.table_url(table)
        # Every file lies right under its table, and delta-rs may spell the folder its way.
        return sorted(f"{folder}/{uri.rpartition('/')[2]}" for uri in delta.file_uris())

    def _exists(self, table: str) -> bool:
        url = self.table_url(table)
        return DeltaTable.is_deltatable(url, _options(url))

    def _intent_url(self, number: int) -> str:
        return f"{self.url}/commits/{number:0{NUMBER_CHARS}d}.json"

    def _numbers(self) -> list[int]:
        found = (name.removesuffix(".json") for name in names(f"{self.url}/commits"))
        return sorted(int(stem) for stem in found if stem.isdecimal())

    def _applied(self) -> int:
        """Returns the number of the last intent whose `runs` row is there, or 0."""
        uris = self._uris("runs", self._delta("runs"))
        return int(uris[-1].rpartition("/")[2][:NUMBER_CHARS]) if uris else 0

    def _last_number(self) -> int:
        return max([self._applied(), *self._numbers()])


def _options(url: str) -> dict[str, str] | None:
    """Storage options for delta-rs, whose S3 commits need the store's conditional put."""
    return {"aws_conditional_put": "etag"} if url.startswith("s3://") else None


def _create(url: str, schema: pa.Schema) -> None:
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        fs.makedirs(path, exist_ok=True)
    try:
        DeltaTable.create(url, schema=schema, mode="ignore", storage_options=_options(url))
    except DeltaError:
        if not DeltaTable.is_deltatable(url, _options(url)):  # else another made it just now
            raise


def _run_row(intent: Intent, versions: Mapping[str, int]) -> pa.Table:
    row = asdict(intent.run) | {
        "versions": [{"table": name, "version": versions[name]} for name in sorted(versions)],
        "finished_ns": intent.finished_ns,
    }
    return pa.Table.from_pylist([row], schema=TABLES["runs"].schema)


def _add(add: AddFile, intent: Intent) -> AddAction:
    return AddAction(
        path=add.path,
        size=add.size,
        partition_values={},
        modification_time=intent.finished_ns // 1_000_000,
        data_change=True,
        stats=add.stats or json.dumps({"numRecords": add.rows}),
    )


def _remove(uris: Sequence[str], at_ms: int) -> list[RemoveAction]:
    return [RemoveAction(uri.rpartition("/")[2], True, at_ms) for uri in uris]


def _expire(url: str, deadline: float) -> bool:
    """Deletes a file older than the deadline; says whether it is gone by this call."""
    fs, path = filesystem(url)
    try:
        if fs.modified(path).timestamp() > deadline:
            return False
        fs.rm_file(path)
    except FileNotFoundError:
        return False
    return True

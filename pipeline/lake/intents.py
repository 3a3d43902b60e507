"""Intents: a run changes several tables together, or none.

Delta commits one table at a time, so a run that touches several is queued first, in a
numbered log of intents, and then rolled forward:

1. `commits/<number>.json` holds the run's row and the files of every table. It is written
   exclusively, so each number is taken once and runs that end together queue up.
2. Every table that the run adds to gets one Delta commit, under the run's id as the
   application transaction, so that a second attempt changes nothing.
3. The `runs` row comes last and names the version of every table.

Intents are applied in the order of their numbers, by any process that finds them: number
n + 1 is begun when the `runs` row of n is there, so the versions that a row names hold
every run up to it and nothing else. A crash before step 1 leaves nothing visible; after
it, `recover` rolls the run forward.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.ids import ID_CHARS, canonical
from schemas.records import AddFile, Count
from schemas.tables import TABLES
from transforms.parquet import encode
from transforms.storage import filesystem, get, names, put, put_new

NUMBER_CHARS = 20
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of `runs` as its job knows it, less versions and time; `config` is canonical JSON."""

    run_id: str
    job: str
    config_digest: str
    config: str
    started_ns: int
    counts: tuple[Count, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """A queued run: the content of `commits/<number>.json`.

    `removes` are (table, URI) of files whose rows the run deletes.
    """

    number: int
    run: RunRow
    finished_ns: int
    adds: tuple[AddFile, ...]
    removes: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """Serialises the intent without its number, which is its file's name."""
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


Revise = Callable[[Lake], tuple["RunRow", Sequence[AddFile]]]
"""Decides what of a run still holds on the lake as it stands: its row, and its files."""


def commit(
    lake: Lake,
    run: RunRow,
    adds: Sequence[AddFile] = (),
    removes: Sequence[tuple[str, str]] = (),
    *,
    revise: Revise | None = None,
) -> bool:
    """Makes a run's files visible, all at once, and pins the lake to the outcome.

    Does nothing if the run's id is committed already, or if the run has neither files nor
    counts. Runs that were queued before, by others or by a job that died, are rolled
    forward first.

    Args:
        lake: the lake.
        run: the row of `runs`.
        adds: what `Lake.write` returned.
        removes: (table, URI as `Lake.files` lists it) of files whose rows are deleted.
        revise: instead of `adds`: called with the lake that the commit will follow on, each
            time that another run was faster. No run is committed in between.

    Returns:
        Whether this call committed the run.
    """
    while True:
        recover(lake)
        if is_committed(lake, run.run_id):
            return False
        # Before `revise` reads: if another run is applied from here on, its intent has this
        # number or a higher one, so the number is taken, and this run is revised again.
        number = applied(lake) + 1
        lake.refresh()
        if revise is not None:
            run, adds = revise(lake)
        if not (adds or removes or run.counts):
            return False
        ordered = tuple(sorted(set(adds)))
        intent = Intent(number, run, time.time_ns(), ordered, tuple(sorted(set(removes))))
        if not put_new(intent_url(lake, number), intent.encode()):
            continue
        if applied(lake) < number:
            recover(lake)
            return True
        # Vacuum took the numbers away while this call was stopped for hours.
        fs, path = filesystem(intent_url(lake, number))
        fs.rm_file(path)


def is_committed(lake: Lake, run_id: str) -> bool:
    """Tells whether a run is committed, or queued to be."""
    if lake.delta("runs").transaction_version(run_id) is not None:
        return True
    return any(intent.run.run_id == run_id for intent in pending(lake))


def recover(lake: Lake) -> list[str]:
    """Rolls queued runs forward, and pins the lake to the outcome.

    Idempotent, also when two processes do it at once.

    Returns:
        The ids of the runs that were queued.
    """
    rolled = []
    for intent in pending(lake):
        _apply(lake, intent)
        rolled.append(intent.run.run_id)
    lake.refresh()
    return rolled


def pending(lake: Lake) -> Iterator[Intent]:
    """Yields the queued runs, oldest first."""
    last = applied(lake)
    for number in numbers(lake):
        if number > last:
            with contextlib.suppress(FileNotFoundError):  # applied and vacuumed just now
                yield Intent.decode(number, get(intent_url(lake, number)))


def intent_url(lake: Lake, number: int) -> str:
    """Returns where an intent is stored."""
    return f"{lake.url}/commits/{number:0{NUMBER_CHARS}d}.json"


def numbers(lake: Lake) -> list[int]:
    """Lists the numbers of the intents that are stored, applied ones too, ascending."""
    found = (name.removesuffix(".json") for name in names(f"{lake.url}/commits"))
    return sorted(int(stem) for stem in found if stem.isdecimal())


def applied(lake: Lake) -> int:
    """Returns the number of the last intent whose `runs` row is committed, or 0."""
    uris = lake.newest_files("runs")
    return int(uris[-1].rpartition("/")[2][:NUMBER_CHARS]) if uris else 0


def _apply(lake: Lake, intent: Intent) -> None:
    """Rolls one intent forward: its tables, then its row of `runs`."""
    for table in (name for name in TABLES if name != "runs"):
        adds = [add for add in intent.adds if add.table == table]
        removes = [uri for name, uri in intent.removes if name == table]
        if adds or removes:
            _append(lake, table, intent, adds, removes=removes)
    runs = lake.delta("runs")  # opened before the versions are read: see _append
    if runs.transaction_version(intent.run.run_id) is not None:
        return
    versions = {
        table: lake.delta(table).version()
        for table in TABLES
        if table != "runs" and lake.exists(table)
    }
    content = encode(_run_row(intent, versions))
    name = f"{intent.number:0{NUMBER_CHARS}d}-{sha256(content).hexdigest()[:ID_CHARS]}.parquet"
    put(f"{lake.table_url('runs')}/{name}", content)
    _append(lake, "runs", intent, [AddFile("runs", name, len(content), 1, "")], delta=runs)


def _append(
    lake: Lake,
    table: str,
    intent: Intent,
    adds: Sequence[AddFile],
    *,
    removes: Sequence[str] = (),
    delta: DeltaTable | None = None,
) -> None:
    """Commits an intent's files to one table, once.

    Delta rejects the commit if the same transaction landed after `delta` was opened, so a
    commit computed from a state no older than `delta` lands once or not at all.
    """
    properties = CommitProperties(app_transactions=[Transaction(intent.run.run_id, 1)])
    for attempt in range(_ATTEMPTS):
        delta = delta or lake.delta(table)
        if delta.transaction_version(intent.run.run_id) is not None:
            return
        actions: list[AddAction | RemoveAction] = [_add(add, intent) for add in adds]
        actions += _remove(removes, intent.finished_ns // 1_000_000)
        try:
            delta.create_write_transaction(
                actions,
                mode="append",
                schema=TABLES[table].schema,
                commit_properties=properties,
            )
        except CommitFailedError as error:
            if attempt == _ATTEMPTS - 1:
                raise LakeError(
                    f"table {table!r} of lake {lake.url} would not take the commit of run "
                    f"{intent.run.run_id}: {error}; run again"
                ) from error
            delta = None
        else:
            return


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

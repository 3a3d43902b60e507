"""Intents: a run changes several tables together, or none.

Delta commits one table at a time, so a run that touches several is queued first, in a
numbered log of intents, and then rolled forward:

1. `commits/<number>.json` holds the run's row and the files of every table. It is written
   exclusively, so each number is taken once and runs that end together queue up.
2. Every table that the run adds to gets one Delta commit, with the run's number as the
   version of our application transaction. Its bytes follow from the intent, so that a
   second attempt changes nothing.
3. The `runs` row comes last and names the version of every table.

Intents are applied in the order of their numbers, by any process that finds them: number
n + 1 is begun when the `runs` row of n is there, so the versions that a row names hold
every run up to it and nothing else. A crash before step 1 leaves nothing visible; after
it, `recover` rolls the run forward.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pydantic import TypeAdapter

from pipeline.lake.adds import Adds
from pipeline.lake.delta_log import (
    CHECKPOINT_COMMITS,
    Action,
    added,
    created,
    put_commit,
    removed,
    transaction,
)
from pipeline.lake.evolution import upgrade
from pipeline.lake.remote import ask
from pipeline.lake.runs import find_run
from pipeline.lake.tables import NUMBER_CHARS, Lake, Remove
from schemas.errors import LakeError, StoreError, one_line
from schemas.ids import canonical
from schemas.records import AddFile, Count
from schemas.tables import FORMAT, TABLES
from transforms.storage import delete, exists, get_own, put_new

APPLICATION = "fleetmill"
"""The id of our Delta transactions; their version is the number of the run."""

NUMBERS = re.compile(rf"([0-9]{{{NUMBER_CHARS}}})\.json")
"""The names of intents in `commits/`."""

_ATTEMPTS = 20
_MAX_INT = 1 << 63
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


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
    """A queued run: the content of `commits/<number>.json`."""

    number: int
    run: RunRow
    finished_ns: int
    adds: Adds
    removes: tuple[Remove, ...] = ()

    def encode(self) -> bytes:
        """Serialises the intent without its number, which is its file's name."""
        return canonical(
            {
                "run": asdict(self.run),
                "finished_ns": self.finished_ns,
                "files": self.adds.to_json(),
                "removes": [list(remove) for remove in self.removes],
            }
        )

    @classmethod
    def decode(cls, number: int, content: bytes) -> Intent:
        """Reads what `encode` wrote.

        Raises:
            LakeError: it is something else.
        """
        try:
            fields = _STORED.validate_json(content, strict=True)
            # Format 1 listed them as objects.
            adds = Adds.of(fields.adds) if fields.files is None else Adds.from_json(fields.files)
            intent = cls(number, fields.run, fields.finished_ns, adds, fields.removes)
            intent.check()
            _check_canonical(content)
        except (ValueError, zlib.error) as error:
            raise LakeError(
                f"commits/{number:0{NUMBER_CHARS}d}.json is not an intent: "
                f"{one_line(error)[:300]}; restore it from a backup, or delete it if "
                "`fleetmill verify` names nothing else"
            ) from error
        return intent

    def check(self) -> None:
        """Checks that an intent can be applied.

        Raises:
            ValueError: it cannot.
        """
        tables = {*self.adds.tables, *(table for table, _ in self.removes)}
        if unknown := tables - TABLES.keys():
            raise ValueError(f"there are no tables {sorted(unknown)}")
        if not all(0 <= number < _MAX_INT for number in (self.finished_ns, self.run.started_ns)):
            raise ValueError("a time is out of range")
        for add in self.adds:
            if not _PATH.fullmatch(add.path):
                raise ValueError(f"{add.path!r} is not the name of a file of a table")
            if not (0 <= add.size < _MAX_INT and 0 <= add.rows < _MAX_INT):
                raise ValueError(f"{add.path}: a size or a number of rows is out of range")


def _check_canonical(content: bytes) -> None:
    if canonical(json.loads(content)) != content:
        raise ValueError("its bytes are not those that were written")


@dataclass(frozen=True, slots=True)
class _Stored:
    """The fields of an intent as JSON has them; `files` are None in format 1."""

    run: RunRow
    finished_ns: int
    removes: tuple[tuple[str, str], ...]
    files: dict[str, str] | None = None
    adds: tuple[AddFile, ...] = ()


_STORED = TypeAdapter(_Stored)

Revise = Callable[[Lake], tuple["RunRow", Iterable[AddFile], Sequence[Remove]]]
"""Decides what of a run still holds on the lake as it stands: its row, and its files."""


def commit(
    lake: Lake,
    run: RunRow,
    adds: Iterable[AddFile] = (),
    removes: Sequence[Remove] = (),
    *,
    revise: Revise | None = None,
    new_at: int | None = None,
) -> bool:
    """Makes a run's files visible, all at once, and pins the lake to the outcome.

    Does nothing if the run's id is committed already, or if the run has neither files nor
    counts. Runs that were queued before, by others or by a job that died, are rolled
    forward first. A lake of an older format is upgraded.

    Args:
        lake: the lake.
        run: the row of `runs`.
        adds: what `Lake.write` returned.
        removes: the files whose rows are deleted.
        revise: instead of `adds` and `removes`: called with the lake that the commit will
            follow on, each time that another run was faster. No run is committed in between.
        new_at: the number of a run up to which this one is known not to be committed.

    Returns:
        Whether this call committed the run.
    """
    files = Adds.of(adds)
    while True:
        recover(lake)
        if lake.format < FORMAT:
            upgrade(lake)
        if lake.number != new_at and _has_run(lake, run.run_id):
            return False
        # Before `revise` reads: if another run is applied from here on, its intent has this
        # number or a higher one, so the number is taken, and this run is revised again.
        number = lake.number + 1
        if revise is not None:
            run, revised, removes = revise(lake)
            files = Adds.of(revised)
        if not (files or removes or run.counts):
            return False
        intent = Intent(number, run, time.time_ns(), files, tuple(sorted(set(removes))))
        if not put_new(intent_url(lake, number), intent.encode()):
            continue
        if not _is_last(lake):
            lake.refresh()
        if lake.number < number:
            _apply(lake, intent)
            return True
        # Compaction took the numbers away while this call was stopped for hours.
        delete(intent_url(lake, number))


def is_committed(lake: Lake, run_id: str) -> bool:
    """Tells whether a run is committed, or queued to be; pins the lake to its newest versions."""
    lake.refresh()
    if _has_run(lake, run_id):
        return True
    return any(intent.run.run_id == run_id for intent in pending(lake))


def recover(lake: Lake, *, opened_now: bool = False) -> list[str]:
    """Rolls queued runs forward, and pins the lake to the outcome.

    Idempotent, also when two processes do it at once.

    Args:
        lake: the lake.
        opened_now: whether it was refreshed just now.

    Returns:
        The ids of the runs that were queued.
    """
    rolled: list[str] = []
    refreshed = opened_now
    if not lake.is_pinned:
        lake.refresh()
        refreshed = True
    while True:
        intent = stored(lake, lake.number + 1)
        if intent is None and (refreshed or _is_last(lake)):
            return rolled
        if intent is None or not refreshed:
            lake.refresh()
            refreshed = True
        else:
            _apply(lake, intent)
            rolled.append(intent.run.run_id)


def _is_last(lake: Lake) -> bool:
    """Tells whether the runs that follow on the lake's last one, if there are any, are stored.

    Compaction deletes intents in the order of their numbers. So while that of the last run is
    there, so is every later one.
    """
    return lake.number > 0 and exists(intent_url(lake, lake.number))


def pending(lake: Lake) -> list[Intent]:
    """Lists the runs that are queued behind the lake's last one, oldest first."""
    queued: list[Intent] = []
    while intent := stored(lake, lake.number + len(queued) + 1):
        queued.append(intent)
    return queued


def _read(url: str) -> bytes:
    try:
        return get_own(url)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LakeError(
            f"{url} cannot be read: {error}; restore it from a backup, or delete it if "
            "`fleetmill verify` names nothing else"
        ) from error


def intent_url(lake: Lake, number: int) -> str:
    """Returns where an intent is stored."""
    return f"{lake.url}/commits/{number:0{NUMBER_CHARS}d}.json"


def stored(lake: Lake, number: int) -> Intent | None:
    """Reads an intent, if it is there: numbers are consecutive, so none need be listed."""
    try:
        return Intent.decode(number, _read(intent_url(lake, number)))
    except FileNotFoundError:
        return None


def _has_run(lake: Lake, run_id: str) -> bool:
    # Format 1 recorded a run by a transaction of its own, and had no statistics of `runs`.
    is_old = lake.extents("runs", "run_id")["least"].null_count > 0
    if is_old and _has_landed(lake, lake.delta("runs"), run_id, 1):
        return True
    return find_run(lake, run_id) is not None


def _apply(lake: Lake, intent: Intent) -> None:
    """Rolls one intent forward: its tables, then its row of `runs`; pins the lake to the outcome.

    Args:
        lake: pinned to the run before.
        intent: the next run.
    """
    touched = {*intent.adds.tables, *(table for table, _ in intent.removes)} - {"runs"}
    landed = {table: _append(lake, table, intent) for table in sorted(touched)}
    versions = lake.versions | {table: version for table, (version, _) in landed.items()}
    del versions["runs"]
    row = lake.write("runs", _run_row(intent, versions), f"{intent.number:0{NUMBER_CHARS}d}")
    landed["runs"] = _append(lake, "runs", intent, row)
    if all(exact for _, exact in landed.values()):
        lake.move(intent.number, versions | {"runs": landed["runs"][0]})
    else:
        lake.refresh()
    for table, (version, _) in landed.items():
        if version and version % CHECKPOINT_COMMITS == 0:
            # The run is committed, and the next checkpoint is as good.
            with contextlib.suppress(DeltaError, LakeError, StoreError, OSError):
                ask(lake.url, lake.delta(table, version).create_checkpoint)


def _append(
    lake: Lake, table: str, intent: Intent, more: Iterable[AddFile] = ()
) -> tuple[int, bool]:
    """Commits an intent's files to one table, once.

    Args:
        lake: pinned to the run before.
        table: the table.
        intent: the run.
        more: files to add that the intent does not name.

    Returns:
        A version of the table that has the files, and whether it is the first that has them.
    """
    version = lake.versions.get(table, -1) + 1
    for _ in range(_ATTEMPTS):
        if put_commit(lake.table_url(table), version, _actions(table, intent, more, version)):
            return version, True
        # The version is taken: by an older fleetmill that began the run, by a change of the
        # schema, by another tool, or because this process was stopped while others went on.
        delta = lake.delta(table)
        if _has_landed(lake, delta, APPLICATION, intent.number) or _has_landed(
            lake, delta, intent.run.run_id, 1
        ):
            return delta.version(), False
        version = delta.version() + 1
    raise LakeError(
        f"table {table!r} of lake {lake.url} would not take the commit of run "
        f"{intent.run.run_id}: others commit to it all the time; run again"
    )


def _actions(table: str, intent: Intent, more: Iterable[AddFile], version: int) -> Iterator[Action]:
    """Yields what an intent does to a table: one at a time, since a large run has 100,000 files."""
    at_ms = intent.finished_ns // 1_000_000
    if not version:
        yield from created(table, intent.run.run_id, at_ms)
    yield from transaction(APPLICATION, intent.number, at_ms)
    for add in chain(intent.adds.of_table(table), more):
        yield added(add, at_ms)
    for name, uri in intent.removes:
        if name == table:
            yield removed(uri.rpartition("/")[2], at_ms)


def _has_landed(lake: Lake, delta: DeltaTable, application: str, version: int) -> bool:
    """Tells whether a table has a transaction, or a later one of its application.

    A run that a fleetmill of format 1 began has its id as the application.
    """
    landed: int | None = ask(lake.url, lambda: delta.transaction_version(application))
    return landed is not None and landed >= version


def _run_row(intent: Intent, versions: Mapping[str, int]) -> pa.Table:
    row = asdict(intent.run) | {
        "versions": [{"table": name, "version": versions[name]} for name in sorted(versions)],
        "finished_ns": intent.finished_ns,
        "number": intent.number,
    }
    return pa.Table.from_pylist([row], schema=TABLES["runs"].schema)

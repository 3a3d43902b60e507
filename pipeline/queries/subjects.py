"""What is left to do: which subjects of a stage are new, and how the others ended.

Every job plans from here. A lake may have millions of subjects, so DuckDB joins them with the
ledger, and only the new ones become Python objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

import duckdb
import pyarrow as pa

from pipeline.lake.ledger import parted
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import connect, named_tables
from schemas.errors import LakeError, one_line
from schemas.records import Count

_STANDING = """
WITH done AS (
    SELECT subject, outcome, stage_digest FROM ledger
    WHERE stage = $stage AND ($digest = '' OR stage_digest = $digest)
), wanted AS ({wanted})
SELECT coalesce(outcome, 'new') AS standing,
       count(*) AS number,
       count(*) FILTER (done.stage_digest <> wanted.stage_digest) AS stale,
       list(subject) FILTER (outcome IS NULL) AS new
FROM wanted LEFT JOIN done USING (subject)
GROUP BY standing
"""
"""By how they ended, the subjects that the query {wanted} gives."""

_MINED = """
WITH mined AS (
    SELECT subject, stage_digest, outcome = 'rejected' AS failed FROM ledger WHERE stage = 'mine'
), numbered AS (
    SELECT stage_digest, failed, row_number() OVER (ORDER BY stage_digest, failed) AS number
    FROM (SELECT DISTINCT stage_digest, failed FROM mined)
), done AS (
    SELECT subject, list(number ORDER BY number) AS numbers
    FROM mined JOIN numbered USING (stage_digest, failed) GROUP BY subject
), swept AS (
    SELECT subject, stage_digest AS sweep FROM ledger WHERE stage = 'sweep'
), standing AS (
    SELECT numbers, sweep, logs.* FROM logs
    LEFT JOIN done ON done.subject = log_id LEFT JOIN swept ON swept.subject = log_id
)
"""
_GROUPS = """
SELECT numbers, sweep, count(*) AS logs, (
    SELECT string_agg(stage_digest, '+') FROM numbered WHERE list_contains(numbers, number)
) AS done, (
    SELECT string_agg(stage_digest, '+') FROM numbered
    WHERE failed AND list_contains(numbers, number)
) AS failed FROM standing GROUP BY numbers, sweep
"""

_LOGS = """
SELECT log_id, drive_id, duration_ns FROM standing
WHERE numbers IS NOT DISTINCT FROM $numbers AND sweep IS NOT DISTINCT FROM $sweep
ORDER BY drive_id, log_id
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the subjects of a stage stand.

    `new` are those to do, sorted; `outcomes` counts the others by how they ended, and `stale`
    those of them that are done under another digest than the one wanted.
    """

    new: tuple[str, ...]
    outcomes: Mapping[str, int]
    stale: int

    def known(self, stage: str, of: str) -> Count:
        """Counts what need not be done: rejects stay rejected, and all others are filtered."""
        rejected = self.outcomes.get("rejected", 0)
        filtered = sum(self.outcomes.values()) - rejected
        return Count(stage, of, filtered=filtered, rejected=rejected)

    @property
    def total(self) -> int:
        """The number of subjects."""
        return len(self.new) + sum(self.outcomes.values())


def standing(lake: Lake, stage: str, wanted: str | pa.Table, stage_digest: str = "") -> Standing:
    """Compares the subjects of a stage with the ledger.

    Args:
        lake: the lake.
        stage: the stage.
        wanted: each subject once, with the `stage_digest` wanted: a table with these two
            columns, or a SELECT over the lake's tables.
        stage_digest: counts a subject as done under this digest only; "" under any.
    """
    sql = _STANDING.format(wanted="FROM given" if isinstance(wanted, pa.Table) else wanted)
    with _connect(lake, named_tables(sql)) as con:
        if isinstance(wanted, pa.Table):
            con.register("given", wanted)
        parameters = {"stage": stage, "digest": stage_digest}
        rows = con.execute(sql, parameters).fetchall()
    found = {ended: (number, stale, new) for ended, number, stale, new in rows}
    _, _, new = found.pop("new", (0, 0, []))
    return Standing(
        new=tuple(sorted(new)),
        outcomes={ended: number for ended, (number, _, _) in found.items()},
        stale=sum(stale for _, stale, _ in found.values()),
    )


_PARTS_DONE = """
WITH together AS (
    -- Few, because what is done together is done so for many subjects.
    SELECT DISTINCT stage_digest, list_intersect(string_split(stage_digest, '+'), $digests) AS those
    FROM ledger WHERE stage = $stage
), numbered AS (
    SELECT *, row_number() OVER (ORDER BY stage_digest) AS number FROM together WHERE len(those) > 0
), ended AS (
    SELECT subject, list(number ORDER BY number) AS numbers,
           bool_or(outcome = 'rejected') AS rejected
    FROM ledger JOIN numbered USING (stage_digest) WHERE stage = $stage GROUP BY subject
), standing AS (
    SELECT subject, numbers, coalesce(rejected, false) AS rejected
    FROM ({wanted}) LEFT JOIN ended USING (subject)
)
"""
"""How the subjects stand that the query {wanted} gives: by the groups of parts that are done."""

_PARTS_GROUPS = """
SELECT numbers, rejected, count(*) AS subjects, (
    SELECT list_sort(list_distinct(flatten(list(those)))) FROM numbered
    WHERE list_contains(numbers, number)
) AS done FROM standing GROUP BY numbers, rejected ORDER BY numbers, rejected
"""

_PARTS_SUBJECTS = "SELECT subject FROM standing WHERE numbers IS NOT DISTINCT FROM $numbers"


@dataclass(frozen=True, slots=True)
class DueGroup:
    """Subjects of which the same is left to do; `done` are the digests of what is not."""

    done: frozenset[str]
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartsDone:
    """How the subjects of a stage stand whose work has several parts, each with a digest.

    `due` are those of which a part is left to do; `kept` and `rejected` count the others, by
    whether a part of them was rejected.
    """

    due: tuple[DueGroup, ...]
    kept: int
    rejected: int

    def known(self, stage: str, of: str) -> Count:
        """Counts what need not be done: rejects stay rejected, and all others are filtered."""
        return Count(stage, of, filtered=self.kept, rejected=self.rejected)

    @property
    def total(self) -> int:
        """The number of subjects."""
        return self.kept + self.rejected + sum(len(group.subjects) for group in self.due)


def parts_done(lake: Lake, stage: str, wanted: str, digests: Sequence[str]) -> PartsDone:
    """Compares the subjects of a stage with the ledger, part by part.

    Args:
        lake: the lake.
        stage: the stage, whose rows of the ledger name the parts that were done together.
        wanted: a SELECT over the lake's tables that gives each `subject` once.
        digests: those of the parts, all distinct.
    """
    sql = _PARTS_DONE.format(wanted=wanted)
    due: dict[frozenset[str], list[str]] = {}
    ended = {True: 0, False: 0}
    with _connect(lake, named_tables(sql)) as con:
        given = {"stage": stage, "digests": list(digests)}
        seen: list[list[int] | None] = []
        for numbers, rejected, number, done in con.execute(sql + _PARTS_GROUPS, given).fetchall():
            if len(done or ()) == len(digests):
                ended[rejected] += number
            elif numbers not in seen:  # a part that was rejected is done, too
                seen.append(numbers)
                rows = con.execute(sql + _PARTS_SUBJECTS, {**given, "numbers": numbers}).fetchall()
                due.setdefault(frozenset(done or ()), []).extend(subject for (subject,) in rows)
    groups = (DueGroup(done, tuple(sorted(found))) for done, found in due.items())
    return PartsDone(tuple(groups), ended[False], ended[True])


_RECOGNISED = """
SELECT listed.subject, listed.stage_digest FROM ledger AS listed
SEMI JOIN given ON given.listing = listed.subject
SEMI JOIN (SELECT subject FROM ledger WHERE stage = 'ingest') AS done
    ON done.subject = listed.stage_digest
WHERE listed.stage = 'discover'
"""
"""The ledger has each log that was ingested by its listing too: its digest is the log's id."""


def recognised(lake: Lake, listings: Sequence[str]) -> dict[str, str]:
    """Returns the log ids of the logs that were ingested under some listings (`LogRef.listing`)."""
    if not listings:
        return {}
    with _connect(lake, ["ledger"]) as con:
        con.register("given", pa.table({"listing": pa.array(listings, pa.string())}))
        return dict(con.execute(_RECOGNISED).fetchall())


@dataclass(frozen=True, slots=True)
class MinedLogs:
    """Logs that stand alike: mined under the same digests, and swept under the same one.

    `failed` are those of the digests whose triggers failed on them; `logs` is their number,
    `rows` reads log_id, drive_id and duration_ns of each, by drive.
    """

    done: frozenset[str]
    failed: frozenset[str]
    sweep: str | None
    logs: int
    rows: Callable[[], list[tuple[str, str, int]]]


@contextmanager
def mined_logs(lake: Lake) -> Iterator[list[MinedLogs]]:
    """Groups the logs of the lake by what they are mined with, while the block runs."""
    with _connect(lake, ["ledger", "logs"]) as con:

        def rows(numbers: list[int] | None, sweep: str | None) -> list[tuple[str, str, int]]:
            parameters = {"numbers": numbers, "sweep": sweep}
            return con.execute(_MINED + _LOGS, parameters).fetchall()

        yield [
            MinedLogs(
                _digests(done),
                _digests(failed),
                sweep,
                logs,
                partial(rows, numbers, sweep),
            )
            for numbers, sweep, logs, done, failed in con.execute(_MINED + _GROUPS).fetchall()
        ]


def _digests(joined: str | None) -> frozenset[str]:
    return frozenset() if joined is None else frozenset(parted(joined))


@contextmanager
def _connect(lake: Lake, tables: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(connect(lake, tables, corpora=False)) as con:
        try:
            yield con
        except duckdb.Error as error:
            raise LakeError(
                f"lake {lake.url} cannot be planned on: {one_line(error)}; "
                "`fleetmill verify` lists what is damaged"
            ) from error

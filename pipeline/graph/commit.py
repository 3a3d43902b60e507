"""The last step of a job that appends to tables: commits what still holds.

Runs that were planned on the same lake may overlap. The commit compares the subjects of a run's
tasks with what other runs committed since it was planned, and drops the tasks that were overtaken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain

from pipeline.graph.journal import Journal, Left, Messages
from pipeline.graph.stage import TaskResult, reject_rows
from pipeline.lake.intents import RunRow, commit
from pipeline.lake.ledger import landed_since, parted
from pipeline.lake.tables import Lake, Remove
from schemas.ids import digest
from schemas.records import AddFile, Count, Reject, add_counts
from transforms.parquet import read


class Families:
    """Which tasks of a run follow from each other.

    `unread` are the roots of the families in which a task could not read its input.
    """

    def __init__(self, results: Iterable[TaskResult]) -> None:
        # Few tasks have a parent, and a run may have a hundred thousand tasks.
        self._parents: dict[str, str] = {}
        retried = set()
        for result in results:
            if result.parent:
                self._parents[result.key] = result.parent
            if result.retried and (result.parent or result.next):
                retried.add(result.key)
        self.unread = frozenset(map(self.root, retried))

    def root(self, key: str) -> str:
        """Returns the key of the planned task that a task follows from, or its own."""
        while key in self._parents:
            key = self._parents[key]
        return key


@dataclass(frozen=True, slots=True)
class Commit:
    """Commits a run, without the tasks that another run overtook.

    A task is dropped as a whole, with all that follows from it. Those of its subjects that no run
    has done are in the next plan; its files stay uncommitted, and `vacuum` deletes them. A task
    and those that follow from it are also dropped where one of them could not read its input:
    the next run does all of them again.

    Args:
        lake: the lake as the run was planned on it.
        run: the run's row; the counts of its tasks are added to it.
        stage: the name of the stage whose subjects the ledger keeps; "" checks nothing.
        once: whether a subject is done once whatever the digest, as `Stage.once`.
        rejects: what was rejected while the run was planned.
        new: whether the run was not committed when it was planned.
    """

    lake: Lake
    run: RunRow
    stage: str = ""
    once: bool = False
    rejects: tuple[Reject, ...] = ()
    new: bool = False

    def __call__(self, results: Iterable[TaskResult]) -> bool:
        """Commits the files of the tasks that were not overtaken; tells whether this call did."""
        families = Families(results)

        def revise(lake: Lake) -> tuple[RunRow, Iterable[AddFile], Sequence[Remove]]:
            overtaken = {families.root(key) for key in self._overtaken(lake, results)}
            retried, internal, private = Messages(), Messages(), Messages()
            rejects = self._new_rejects(lake)
            removes: list[Remove] = []
            counts = list(self.run.counts)
            done = False
            for result in results:
                done = True
                root = families.root(result.key)
                own = list(result.counts)
                if root in overtaken:
                    own = [Count(c.stage, c.of, filtered=c.total) for c in own]
                else:
                    if root in families.unread:
                        own = [Count(c.stage, c.of, rejected=c.total) for c in own]
                    else:
                        removes += result.removes
                    retried += result.retried
                    internal += result.internal
                    private += result.private
                counts = add_counts([*counts, *own])
            left = Left(len(overtaken), retried, internal, private)
            Journal(self.lake.url, self.run.run_id).leave(left)
            if not (done or rejects):  # nothing was done, so there is no run
                return replace(self.run, counts=()), [], []
            dropped = overtaken | families.unread
            kept = (result for result in results if families.root(result.key) not in dropped)
            adds = chain(rejects, chain.from_iterable(result.adds for result in kept))
            return replace(self.run, counts=tuple(counts)), adds, removes

        new_at = self.lake.number if self.new else None
        return commit(copy(self.lake), self.run, revise=revise, new_at=new_at)

    def _overtaken(self, lake: Lake, results: Iterable[TaskResult]) -> set[str]:
        """Returns the keys of the tasks whose subjects, or files to remove, another run took."""
        there: dict[str, set[str]] = {}
        overtaken = set()
        for result in results:
            for table, url in result.removes:
                if table not in there:
                    there[table] = set(lake.files(table))
                if url not in there[table]:
                    overtaken.add(result.key)
        landed = landed_since(lake, self.lake, self.stage) if self.stage else set()
        taken = {self._key(*subject) for subject in landed}
        for result in results if taken else ():
            paths = [add.path for add in result.adds if add.table == "ledger"]
            files = [read(f"{lake.table_url('ledger')}/{path}") for path in paths]
            rows = [row for file in files for row in file.to_pylist()]
            own = {
                self._key(row["subject"], part)
                for row in rows
                if row["stage"] == self.stage
                for part in parted(row["stage_digest"])
            }
            if own & taken:
                overtaken.add(result.key)
        return overtaken

    def _key(self, subject: str, stage_digest: str) -> tuple[str, str]:
        return (subject, "" if self.once else stage_digest)

    def _new_rejects(self, lake: Lake) -> list[AddFile]:
        """Writes the rejects of the plan that the lake does not have yet."""
        if not self.rejects:
            return []
        rows = lake.read("rejects", columns=["uri", "stage", "reason", "detail"]).to_pylist()
        known = {(row["uri"], row["stage"], row["reason"], row["detail"]) for row in rows}
        new = [r for r in self.rejects if (r.uri, r.stage, r.reason, r.detail) not in known]
        run_id = self.run.run_id
        return lake.write("rejects", reject_rows(new, run_id), digest("rejects", run_id))

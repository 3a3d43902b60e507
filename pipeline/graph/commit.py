"""The last step of a job that appends to tables: commits what still holds.

Runs that were planned on the same lake may overlap. The commit compares the subjects of a run's
tasks with what other runs committed since it was planned, and drops the tasks that were overtaken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.graph.journal import Journal
from pipeline.graph.stage import TaskResult, reject_rows
from pipeline.lake.intents import Remove, RunRow, commit
from pipeline.lake.ledger import landed_since, parted
from pipeline.lake.tables import Lake
from schemas.ids import digest
from schemas.records import AddFile, Count, Reject, add_counts
from transforms.parquet import read


@dataclass(frozen=True, slots=True)
class Commit:
    """Commits a run, without the tasks that another run overtook.

    A task is dropped as a whole. Those of its subjects that no run has done are in the next
    plan; its files stay uncommitted, and `vacuum` deletes them.

    Args:
        lake: the lake as the run was planned on it.
        run: the run's row; the counts of its tasks are added to it.
        stage: the name of the stage whose subjects the ledger keeps; "" checks nothing.
        once: whether a subject is done once whatever the digest, as `Stage.once`.
        rejects: what was rejected while the run was planned.
    """

    lake: Lake
    run: RunRow
    stage: str = ""
    once: bool = False
    rejects: tuple[Reject, ...] = ()

    def __call__(self, results: Sequence[TaskResult]) -> bool:
        """Commits the files of the tasks that were not overtaken; tells whether this call did."""

        def revise(lake: Lake) -> tuple[RunRow, Sequence[AddFile], Sequence[Remove]]:
            kept, dropped = self._split(lake, results)
            adds = [*self._new_rejects(lake), *(add for r in kept for add in r.adds)]
            counts = [*self.run.counts, *(c for r in kept for c in r.counts)]
            counts += [Count(c.stage, c.of, filtered=c.total) for r in dropped for c in r.counts]
            Journal(self.lake.url, self.run.run_id).drop(dropped)
            if not (results or adds):  # nothing was done, so there is no run
                return replace(self.run, counts=()), [], []
            return replace(self.run, counts=tuple(add_counts(counts))), adds, []

        return commit(Lake(self.lake.url), self.run, revise=revise)

    def _split(
        self, lake: Lake, results: Sequence[TaskResult]
    ) -> tuple[list[TaskResult], list[TaskResult]]:
        """Separates the tasks to commit from those that another run overtook."""
        landed = landed_since(lake, self.lake, self.stage) if self.stage else set()
        if not landed:
            return list(results), []
        taken = {self._key(*subject) for subject in landed}
        kept: list[TaskResult] = []
        dropped: list[TaskResult] = []
        for result in results:
            paths = [add.path for add in result.adds if add.table == "ledger"]
            files = [read(f"{lake.table_url('ledger')}/{path}") for path in paths]
            rows = [row for file in files for row in file.to_pylist()]
            own = {
                self._key(row["subject"], part)
                for row in rows
                if row["stage"] == self.stage
                for part in parted(row["stage_digest"])
            }
            (dropped if own & taken else kept).append(result)
        return kept, dropped

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

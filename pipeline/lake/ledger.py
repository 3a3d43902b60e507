"""The ledger: which subjects a stage is done with, under which configuration, and how each ended.

A job plans its tasks from the ledger (see pipeline.queries.subjects), so a subject is processed
once for each version and configuration of a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.tables import COMPACTED, Lake
from schemas.ids import digest
from schemas.records import Outcome
from schemas.tables import TABLES
from transforms.parquet import read_files

_JOIN = "+"


@dataclass(frozen=True, slots=True)
class Done:
    """One row of the ledger: a subject (a log or event id) that a stage is done with.

    `stage` is another stage than the one that writes the row; "" if it is the same.
    """

    subject: str
    stage_digest: str
    outcome: Outcome
    stage: str = ""


def stage_digest(**parts: Any) -> str:
    """Identifies a stage's version and configuration, by which the ledger is keyed."""
    return digest("stage", parts)


def joined(digests: Iterable[str]) -> str:
    """Makes one stage digest of those of several things that were done to a subject together.

    >>> joined(["b", "a"]), parted(joined(["b", "a"]))
    ('a+b', ('a', 'b'))
    """
    return _JOIN.join(sorted(digests))


def parted(stage_digest: str) -> tuple[str, ...]:
    """Returns the digests that `joined` was given."""
    return tuple(stage_digest.split(_JOIN))


def answer_subjects(verdicts: pa.Table) -> pa.ChunkedArray:
    """Returns the subject of each row of `verdicts`, as auto_label.review.answers makes it."""
    updated = verdicts["updated_unix_ns"].cast(pa.string())
    return pc.binary_join_element_wise(verdicts["annotation"], updated, "@")


def done_rows(ledger: pa.Table) -> pa.Table:
    """Returns a row for each digest of a row's stage_digest, which may join several by "+"."""
    parts = pc.split_pattern(ledger["stage_digest"].combine_chunks(), "+")
    rows = ledger.take(pc.list_parent_indices(parts))
    at = rows.column_names.index("stage_digest")
    return rows.set_column(at, "stage_digest", pc.list_flatten(parts))


def landed_since(lake: Lake, planned: Lake, stage: str) -> set[tuple[str, str]]:
    """Returns what other runs did of a stage since a job was planned: (subject, digest).

    Args:
        lake: the lake as it stands.
        planned: the lake at the versions that the job was planned on.
        stage: the stage.
    """
    if lake.versions.get("ledger") == planned.versions.get("ledger"):
        return set()
    new = sorted(set(lake.files("ledger")) - set(planned.files("ledger")))
    if not new:
        return set()
    columns, of_stage = ["subject", "stage_digest", "run_id"], pc.field("stage") == stage
    rows = read_files(new, TABLES["ledger"].schema, columns, of_stage)
    if any(url.rpartition("/")[2].startswith(COMPACTED) for url in new):
        known = pc.unique(planned.scan("ledger", ["run_id"], of_stage)["run_id"])
        rows = rows.filter(pc.invert(pc.is_in(rows["run_id"], value_set=known)))
    return {
        (subject, digest_)
        for subject, joined_ in zip(
            rows["subject"].to_pylist(), rows["stage_digest"].to_pylist(), strict=True
        )
        for digest_ in parted(joined_)
    }


def ledger_rows(stage: str, run_id: str, task: str, done: Sequence[Done]) -> pa.Table:
    """Builds the ledger rows of the subjects that a task of a stage is done with."""
    return pa.table(
        {
            "stage": [row.stage or stage for row in done],
            "subject": [row.subject for row in done],
            "stage_digest": [row.stage_digest for row in done],
            "outcome": [row.outcome for row in done],
            "run_id": [run_id] * len(done),
            "task": [task] * len(done),
        }
    )

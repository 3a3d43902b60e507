"""Verifying: every hash, count and promise of a snapshot, a corpus or a lake, recomputed.

Nothing is repaired: what cannot be read is one line of the report, and the rest is still
checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.lake.check_files import Facts, check_keys, check_table
from pipeline.lake.check_rows import check_packs, check_rows
from pipeline.lake.check_runs import check_ledger, check_runs
from pipeline.lake.tables import Lake
from pipeline.snapshots.manifest import CORPUS_NAME, LATEST, MANIFEST, is_published
from pipeline.snapshots.verify import check_corpus, check_snapshot, listed
from schemas.errors import LakeError, one_line
from schemas.tables import TABLES
from transforms.storage import names, normal


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The problems found, one line each, and how much was checked.

    `checked` counts by kind: "shards", "samples", "bytes", "tables"...
    """

    url: str
    kind: str
    problems: tuple[str, ...]
    checked: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems


def verify(url: str) -> VerifyReport:
    """Checks a snapshot, a corpus (all of its snapshots), or a lake with its corpora.

    Raises:
        LakeError: the URL is none of them.
    """
    url = normal(url)
    found = set(names(url))
    checked: Counter[str] = Counter()
    if {MANIFEST, "samples.parquet", "train", "val"} & found:
        kind, problems = "snapshot", list(check_snapshot(url, checked))
    elif "tables" in found:
        kind, problems = "lake", list(_lake(url, checked))
    elif LATEST in found or any(is_published(f"{url}/{name}") for name in found):
        kind, problems = "corpus", list(check_corpus(url, checked))
    else:
        raise LakeError(f"{url} is neither a snapshot nor a corpus nor a lake")
    return VerifyReport(url, kind, tuple(problems), dict(checked))


def _lake(url: str, checked: Counter[str]) -> Iterator[str]:
    """Yields what is wrong with a lake and its corpora."""
    try:
        lake = Lake.open(url)
    except LakeError as error:
        yield one_line(error)
        return
    facts = Facts()
    for table in TABLES:
        yield from check_table(lake, table, facts, checked)
    yield from check_keys(lake, facts)
    yield from check_rows(facts)
    yield from check_runs(lake, facts)
    yield from check_ledger(facts)
    yield from check_packs(lake, facts, checked)
    try:
        for name in listed(f"{url}/corpora"):
            if not CORPUS_NAME.fullmatch(name):
                yield f"corpora/{name}: is not the name of a corpus"
                continue
            corpus = check_corpus(f"{url}/corpora/{name}", checked)
            yield from (f"corpora/{name}: {problem}" for problem in corpus)
    except LakeError as error:
        yield str(error)

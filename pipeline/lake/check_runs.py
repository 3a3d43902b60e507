"""Checks what the lake says of its runs: the table `runs`, intents, Delta commits, the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.check_files import FILE_NAME, Commit, Facts, read_table_file, twice
from pipeline.lake.check_rows import joined
from pipeline.lake.intents import (
    APPLICATION,
    NUMBERS,
    Intent,
    intent_url,
)
from pipeline.lake.ledger import done_rows
from pipeline.lake.repair import JOB, ONCE
from pipeline.lake.tables import NUMBER_CHARS, Lake
from pipeline.snapshots.verify import listed, read_bytes
from schemas.errors import LakeError, one_line
from schemas.ids import digest
from schemas.tables import TABLES
from transforms.storage import TEMPORARY

_NS_PER_MS = 1_000_000
_SUBJECTS = {"ingest": "log", "sweep": "log", "mine": "log", "label": "event", "render": "event"}
"""By stage, what its subjects are."""

_COUNTED = {"ingest": "logs", "label": "events", "render": "events", "repack": "clips"}
"""By stage, what is counted as kept once for each row of the ledger."""

Runs = Mapping[int, Mapping[str, Any]]
"""The rows of `runs` by number."""


def check_runs(lake: Lake, facts: Facts) -> Iterator[str]:
    """Yields what is wrong with runs, intents and the Delta commits that they made."""
    if "runs" in facts.damaged:
        return
    rows = facts.rows("runs").to_pylist()
    runs = {row["number"]: row for row in rows}
    if len(runs) != len(rows) or sorted(runs) != [*range(1, len(runs) + 1)]:
        yield f"runs: its {len(rows)} rows are not numbered from 1 to {len(rows)}"
        return
    for number in runs:
        yield from _check_run(lake, runs, number)
    intents: dict[int, Intent] = {}
    damaged = False
    for name in _intent_names(lake):
        try:
            intent = read_intent(lake, name)
            intents[intent.number] = intent
        except LakeError as error:
            damaged = True
            yield one_line(error)
    queued = sorted(number for number in intents if number not in runs)
    if queued != [*range(len(runs) + 1, len(runs) + 1 + len(queued))] and not damaged:
        yield f"commits: the queued runs {queued} do not follow on run {len(runs)}"
    for intent in intents.values():
        if intent.number in runs:
            yield from _check_applied(intent, runs[intent.number], facts)
        else:
            if intent.run.run_id in {row["run_id"] for row in rows}:
                yield f"commits: run {intent.run.run_id} is queued, and committed already"
            yield from _check_queued(lake, intent)
    for table in TABLES:
        if table not in facts.damaged:
            yield from _check_commits(table, facts.commits[table], runs, intents)
            yield from _check_added(table, facts)


def _intent_names(lake: Lake) -> list[str]:
    return [name for name in listed(f"{lake.url}/commits") if not name.startswith(TEMPORARY)]


def read_intent(lake: Lake, name: str) -> Intent:
    """Reads an intent.

    Raises:
        LakeError: it cannot be read, or is none.
    """
    match = NUMBERS.fullmatch(name)
    if match is None:
        raise LakeError(f"commits/{name}: is not the name of an intent")
    number = int(match[1])
    return Intent.decode(number, read_bytes(intent_url(lake, number)))


def _check_run(lake: Lake, runs: Runs, number: int) -> Iterator[str]:
    row = runs[number]
    place = f"runs: run {row['run_id']}"
    if row["config_digest"] != digest(row["config"]):
        yield f"{place}: its config_digest is not the digest of its config"
    for count in row["counts"]:
        if min(count["kept"], count["filtered"], count["rejected"]) < 0:
            yield f"{place}: the balance of {count['stage']} is negative"
    versions, before = _versions(row), _versions(runs.get(number - 1))
    for table in sorted(versions.keys() | before.keys()):
        least, most = before.get(table, 0), lake.versions.get(table, 0)
        if not least <= versions.get(table, -1) <= most:
            yield (
                f"{place}: names version {versions.get(table)} of {table}; the run before names "
                f"{least}, the lake is at {most}"
            )


def _versions(row: Mapping[str, Any] | None) -> dict[str, int]:
    """Returns the versions of the tables that a row of `runs` names."""
    return {entry["table"]: entry["version"] for entry in row["versions"]} if row else {}


def _check_applied(intent: Intent, row: Mapping[str, Any], facts: Facts) -> Iterator[str]:
    """Compares an intent with its row of `runs` and with the files that the tables have."""
    place = f"commits/{intent.number:0{NUMBER_CHARS}d}.json"
    told = asdict(intent.run) | {"finished_ns": intent.finished_ns}
    told["counts"] = list(told["counts"])
    wrong = sorted(name for name, value in told.items() if row[name] != value)
    if wrong:
        yield f"{place}: the table runs has other {', '.join(wrong)} of this run"
    for add in intent.adds:
        known = facts.files[add.table].get(add.path) if add.table in TABLES else None
        if known is not None and known != (add.size, add.rows, add.stats or known[2]):
            yield f"{place}: {add.table}/{add.path} has another size, rows or statistics"
    yield from _check_names(place, intent)


def _check_names(place: str, intent: Intent) -> Iterator[str]:
    """Yields the files that are none of the lake's tables."""
    files = [(add.table, add.path) for add in intent.adds]
    files += [(table, uri.rpartition("/")[2]) for table, uri in intent.removes]
    for table, path in files:
        if table not in TABLES or not FILE_NAME.fullmatch(path):
            yield f"{place}: {table}/{path} is not a file of a table"


def _check_queued(lake: Lake, intent: Intent) -> Iterator[str]:
    """Yields which files of a run that is still to be committed are damaged."""
    place = f"commits/{intent.number:0{NUMBER_CHARS}d}.json"
    yield from _check_names(place, intent)
    for add in intent.adds:
        if add.table not in TABLES:
            continue
        try:
            read_table_file(lake, add.table, add.path, add.size)
        except LakeError as error:
            yield f"{place}: {one_line(error)}"


def _check_commits(
    table: str, commits: list[Commit], runs: Runs, intents: Mapping[int, Intent]
) -> Iterator[str]:
    """Compares the commits of a table with the runs that made them."""
    by_id = {row["run_id"]: number for number, row in runs.items()}
    by_id |= {intent.run.run_id: number for number, intent in intents.items()}
    known = runs.keys() | intents.keys()
    of_run: dict[int, list[Commit]] = {}
    for commit in commits:
        if not (commit.adds or commit.removes):
            continue
        place = _place(table, commit)
        number = _number(commit, by_id, known)
        if not number:
            yield f"{place}: was committed by no run of the lake"
            continue
        of_run.setdefault(number, []).append(commit)
        if number in runs:
            yield from _check_place(place, table, commit, runs, number)
    for number in sorted(of_run.keys() & intents.keys()) if table != "runs" else ():
        intent, made = intents[number], of_run[number]
        adds = {(add.path, add.size) for add in intent.adds.of_table(table)}
        removes = {u.rpartition("/")[2] for name, u in intent.removes if name == table}
        added = {(add.path, add.size) for commit in made for add in commit.adds}
        if added != adds or {path for commit in made for path in commit.removes} != removes:
            yield f"{_place(table, made[-1])}: does not say what its intent {number} says"


def _place(table: str, commit: Commit) -> str:
    return f"tables/{table}/_delta_log/{commit.version:020d}.json"


def _check_added(table: str, facts: Facts) -> Iterator[str]:
    """Compares what commits say of the files that are still there with their rows."""
    for commit in facts.commits[table]:
        for add in commit.adds:
            if add.path not in facts.files[table]:
                continue
            size, rows, stats = facts.files[table][add.path]
            known = {digest(json.loads(stats)), digest({"numRecords": rows})}
            if add.size != size or add.stats not in known:
                place = _place(table, commit)
                yield f"{place}: has another size or other statistics of {add.path}"


def _number(commit: Commit, by_id: Mapping[str, int], known: Set[int]) -> int:
    """Returns the number of the run that made a commit, 0 if there is none.

    Since format 2 of the lake the number is the version of the application transaction;
    before, its application was the id of the run.
    """
    if len(commit.transactions) != 1:
        return 0
    application, version = commit.transactions[0]
    return by_id.get(application, version if version in known and application == APPLICATION else 0)


def _check_place(place: str, table: str, commit: Commit, runs: Runs, number: int) -> Iterator[str]:
    """Compares a commit with the row of its run: the version, and when it was made."""
    row = runs[number]
    if any(add.at_ms != row["finished_ns"] // _NS_PER_MS for add in commit.adds):
        yield f"{place}: has other times than run {row['run_id']}"
    if table == "runs":
        return
    named, known = _versions(row), _versions(runs.get(number - 1))
    if not known.get(table, -1) < commit.version <= named.get(table, -1):
        yield f"{place}: run {row['run_id']} does not name the version that it committed"


def check_ledger(facts: Facts) -> Iterator[str]:
    """Yields subjects that are done twice or are not there, and runs with other counts."""
    if "ledger" in facts.damaged:
        return
    ledger = facts.rows("ledger")
    yield from _check_done_twice(ledger)
    for outcome in pc.unique(ledger["outcome"]).to_pylist():
        if outcome not in {"kept", "filtered", "rejected"}:
            yield f"ledger: {outcome!r} is not an outcome"
    yield from _check_subjects(ledger, facts)
    if "runs" not in facts.damaged:
        yield from _check_counts(ledger, facts.rows("runs"))


def _check_done_twice(ledger: pa.Table) -> Iterator[str]:
    once = ledger.filter(pc.is_in(ledger["stage"], pa.array(ONCE)))
    for columns, rows in (
        (["stage", "subject", "stage_digest"], done_rows(ledger)),
        (["stage", "subject"], once),
    ):
        found = [*twice("ledger", rows.select(columns))]
        yield from found
        if found:
            return


def _check_subjects(ledger: pa.Table, facts: Facts) -> Iterator[str]:
    """Compares the ledger with the logs, events and samples that it is about."""
    tables = {table: facts.rows(table) for table in ("logs", "events", "parts", "samples")}
    kept = pc.equal(ledger["outcome"], "kept")
    homes: dict[str, tuple[str, pa.Array]] = {
        "sweep": ("logs", tables["logs"]["log_id"]),
        "mine": ("logs", tables["logs"]["log_id"]),
        "label": ("events", tables["events"]["event_id"]),
        "render": ("events", tables["events"]["event_id"]),
        "ingest": ("logs", tables["logs"]["log_id"]),
    }
    for stage, (home, known) in homes.items():
        chosen = pc.equal(ledger["stage"], stage)
        # A log that was rejected is not in the lake.
        rows = ledger.filter(pc.and_(chosen, kept) if stage == "ingest" else chosen)
        lost = rows.filter(pc.invert(pc.is_in(rows["subject"], value_set=known)))
        if lost.num_rows and home not in facts.damaged:
            yield (
                f"ledger: {lost.num_rows} subjects of {stage} are not in {home}; the first is "
                f"{lost['subject'][0]}"
            )
    yield from _check_mirrored(ledger, tables, facts)


def _check_mirrored(
    ledger: pa.Table, tables: Mapping[str, pa.Table], facts: Facts
) -> Iterator[str]:
    """Compares what the ledger says was kept with the rows that are there, both ways."""
    samples, parts = tables["samples"], tables["parts"]
    clips = samples.filter(pc.equal(samples["payload"], "clip"))
    frames = samples.filter(pc.equal(samples["payload"], "frames"))
    pictures = parts.filter(pc.equal(parts["part"], "frames"))
    others = parts.filter(pc.not_equal(parts["part"], "frames"))
    pair = ["event_id", "spec_digest"]
    labelled = joined(pa.concat_tables([clips.select(pair), others.select(pair)]), pair)
    repacked = _subjects("sample", frames, pair)
    repacked += _subjects("clip", pictures, ["event_id", "source_digest"])
    both = (
        ("ingest", ["subject"], "logs", joined(tables["logs"], ["log_id"])),
        ("mine", ["subject"], "events", joined(tables["events"], ["log_id"])),
        ("label", ["subject", "stage_digest"], "parts", labelled),
        ("repack", ["subject"], "parts", pa.chunked_array([pa.array(repacked, pa.string())])),
    )
    for stage, columns, table, there in both:
        if {table, *({"samples"} if table == "parts" else ())} & facts.damaged:
            continue
        # Label parts are made by both.
        own = pa.array([stage, "render"] if stage == "label" else [stage])
        wanted = pc.and_(pc.is_in(ledger["stage"], own), pc.equal(ledger["outcome"], "kept"))
        rows = ledger.filter(wanted)
        if stage == "label":
            rows = _with_parts(rows, there)
        told = joined(rows, columns)
        for rows, values, says in (
            (told, there, f"{stage} kept {{}} subjects that are not in {table}"),
            (there, told, f"{{}} rows of {table} are of no subject that {stage} kept"),
        ):
            lost = pc.unique(rows.filter(pc.invert(pc.is_in(rows, value_set=values))))
            if len(lost):
                first = str(lost[0]).partition("\0")[0]
                yield f"ledger: {says.format(len(lost))}; the first is {first}"


def _subjects(kind: str, rows: pa.Table, columns: Sequence[str]) -> list[str]:
    """Returns the subjects of the ledger of frames, which are digests."""
    values = (rows[name].to_pylist() for name in columns)
    return [digest(kind, *pair) for pair in zip(*values, strict=True)]


def _with_parts(rows: pa.Table, there: pa.ChunkedArray) -> pa.Table:
    """Returns the rows of the ledger digest by digest, as far as they are of parts.

    What a model saw and what was linked has no part. A row none of whose digests has one stays
    as it is, so that it is found to be of nothing.
    """
    apart = done_rows(rows.append_column("row", pa.array(range(rows.num_rows), pa.int64())))
    known = pc.is_in(joined(apart, ["subject", "stage_digest"]), value_set=there)
    found = apart.filter(known)
    lost = pc.invert(pc.is_in(apart["row"], value_set=found["row"]))
    return pa.concat_tables([found, apart.filter(lost)])


def _check_counts(ledger: pa.Table, runs: pa.Table) -> Iterator[str]:
    """Compares what runs counted with the rows of the ledger that they wrote."""
    rows = runs.to_pylist()
    repaired = any(row["job"] == JOB for row in rows)
    sums = ledger.group_by(["run_id", "stage", "outcome"]).aggregate([([], "count_all")])
    written = {(s["run_id"], s["stage"], s["outcome"]): s["count_all"] for s in sums.to_pylist()}
    for row in rows:
        for count in row["counts"]:
            stage, of = count["stage"], count["of"]
            found = written.get((row["run_id"], stage, "kept"), 0)
            # A log with events counts as rejected by mine if one of its triggers failed.
            most = count["kept"] + (count["rejected"] if stage == "mine" else 0)
            least = 0 if repaired else count["kept"]
            wrong = not least <= found <= most
            if _COUNTED.get(stage) == of and wrong:
                yield (
                    f"runs: run {row['run_id']}: counts {count['kept']} {of} that {stage} kept, "
                    f"the ledger has {found}"
                )

"""What a lake says of its runs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.lake.adds import Adds
from pipeline.lake.check_runs import read_intent
from pipeline.lake.intents import Intent, intent_url, recover
from pipeline.lake.ledger import done_rows
from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.records import AddFile
from tests.pipeline.lake.whole import run
from transforms.storage import put


def test_a_row_of_the_ledger_is_one_for_each_of_its_digests() -> None:
    ledger = pa.table({"subject": ["a", "b"], "stage_digest": ["x+y", "z"]})
    assert done_rows(ledger).to_pylist() == [
        {"subject": "a", "stage_digest": "x"},
        {"subject": "a", "stage_digest": "y"},
        {"subject": "b", "stage_digest": "z"},
    ]


@pytest.mark.parametrize(
    "add",
    [
        AddFile("logs", "../x.parquet", 1, 1, ""),
        AddFile("logs", "a/b.parquet", 1, 1, ""),
        AddFile("nothing", "x.parquet", 1, 1, ""),
        AddFile("logs", "x.parquet", -1, 1, ""),
        AddFile("logs", "x.parquet", 1 << 63, 1, ""),
        AddFile("logs", "x.parquet", "1", 1, ""),  # type: ignore[arg-type]
    ],
)
def test_a_forged_intent_is_refused_by_name_before_it_is_applied(
    tmp_path: Path, add: AddFile
) -> None:
    lake = Lake.create(str(tmp_path))
    put(intent_url(lake, 1), Intent(1, run("ingest", "forged"), 1, Adds.of([add])).encode())
    with pytest.raises(LakeError, match=r"commits/0+1\.json is not an intent: .*restore it"):
        recover(lake)
    with pytest.raises(LakeError, match="is not an intent"):
        read_intent(lake, f"{1:020d}.json")


def test_another_file_among_the_intents_is_named(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"commits/1\.json"):
        read_intent(Lake(str(tmp_path)), "1.json")

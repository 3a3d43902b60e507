"""The files that a run adds: read back as they were given, by table, and small."""

from __future__ import annotations

from pipeline.lake.adds import Adds
from schemas.ids import canonical, digest
from schemas.records import AddFile

STATS = canonical({"numRecords": 1, "minValues": {"log_id": "a" * 32, "t_ns": 7}}).decode()


def adds(number: int) -> list[AddFile]:
    return [
        AddFile(table, f"{digest(k)}-{digest(table, k)}.parquet", k, 1, STATS)
        for k in range(number)
        for table in ("logs", "events")
    ]


def test_files_are_read_back_in_their_order_within_a_table() -> None:
    given = adds(3000)
    made = Adds.of(given)
    assert list(made.tables) == ["events", "logs"]
    for table in made.tables:
        assert list(made.of_table(table)) == [add for add in given if add.table == table]
    assert [add.table for add in made] == ["events"] * 3000 + ["logs"] * 3000
    assert list(made.of_table("boxes")) == []
    assert Adds.from_json(made.to_json()) == made


def test_no_files_are_false() -> None:
    assert not Adds.of([])
    assert Adds.of(adds(1))


def test_a_file_is_some_tens_of_bytes() -> None:
    given = adds(1000)
    assert sum(map(len, Adds.of(given).tables.values())) < 100 * len(given)

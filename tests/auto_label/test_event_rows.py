"""The rows that labelling an event needs."""

from __future__ import annotations

from pathlib import Path

from auto_label.event_rows import KNOWN, Clip, EventRows
from schemas.tables import TABLES
from tests.auto_label.painted import label
from transforms.storage import put


def test_a_clip_is_read_from_its_range(tmp_path: Path) -> None:
    put(str(tmp_path / "a.tar"), b"before|clip|after")
    assert Clip(str(tmp_path / "a.tar"), 7, 4).read() == b"clip"


def test_of_a_table_without_rows_there_is_an_empty_one(log: EventRows) -> None:
    for table in KNOWN:
        assert log.of(table).schema == TABLES[table].schema
        assert log.of(table).num_rows == 0
    rows = label(log, []).tables["ego_path"]
    whole = EventRows(log.row, {}, log.frames, log.signals, log.joints, {"ego_path": rows})
    assert whole.of("ego_path") is rows

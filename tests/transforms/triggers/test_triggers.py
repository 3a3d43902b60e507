"""Loading triggers: which are read, and with which parameters."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from schemas.errors import UsageError
from tests.transforms.triggers.test_spec import GOOD
from transforms.triggers import TRIGGERS, load_triggers


def test_ships_at_least_thirteen() -> None:
    assert len(load_triggers()) >= 13


def test_user_folders_add_and_override(tmp_path: Path) -> None:
    """A folder's trigger is added; one with a built-in name takes its place; memory:// too."""
    (tmp_path / "fast.toml").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("no trigger")
    fs = fsspec.filesystem("memory")
    fs.pipe("/more/aeb.toml", GOOD.replace("fast", "aeb").encode())
    mine = {t.name: t for t in load_triggers([str(tmp_path), "memory:///more"])}
    assert mine["fast"].version == 2
    assert mine["aeb"].table == "signals"
    assert set(mine) == {t.name for t in load_triggers()} | {"fast"}


def test_only_and_params() -> None:
    """`only` keeps some, `params` sets numbers anew."""
    (brake,) = load_triggers(only=["hard_brake"], params={"hard_brake": {"on_mps2": 6}})
    assert brake.params["on_mps2"] == 6.0
    for keywords, says in [
        ({"only": ["hard_break"]}, 'trigger "hard_break": unknown; choose one of: .*hard_brake'),
        ({"params": {"hard_break": {}}}, 'trigger "hard_break": unknown; .*hard_brake'),
        (
            {"params": {"hard_brake": {"on": 1}}},
            'trigger "hard_brake": params.on: unknown key; choose one of: off_mps2, on_mps2',
        ),
        (
            {"params": {"hard_brake": {"on_mps2": float("nan")}}},
            'trigger "hard_brake": params.on_mps2 = nan: must be a finite number',
        ),
        ({"dirs": ["/no/such/folder"]}, "trigger /no/such/folder: no such folder"),
        ({"dirs": ["nosuch://folder"]}, "nosuch"),
    ]:
        with pytest.raises(UsageError, match=says):
            load_triggers(**keywords)  # type: ignore[arg-type]  # the table is of mixed keywords


def test_only_reads_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "fast.toml").write_text(GOOD)
    (tmp_path / "broken.toml").write_text("=")
    dirs = [str(tmp_path)]
    params = {"hard_brake": {"on_mps2": 6.0}}
    names = [t.name for t in load_triggers(dirs, only=["hard_brake", "fast", "fast"])]
    assert names == ["fast", "hard_brake"]
    assert [t.name for t in load_triggers(dirs, only=["fast"], params=params)] == ["fast"]
    (alone,) = load_triggers(only=[f"{tmp_path}/fast.toml"], params={"fast": {"least": 9}})
    assert alone.params == {"least": 9.0}
    with pytest.raises(UsageError, match=r"broken\.toml: not TOML"):
        load_triggers(dirs)


def test_a_name_belongs_to_one_file_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "fast.toml").write_text(GOOD)
    (tmp_path / "other.toml").write_text(GOOD)
    with pytest.raises(UsageError, match=r'other\.toml: name = "fast": must be "other"'):
        load_triggers([str(tmp_path)])


def test_names_are_those_of_the_folder() -> None:
    files = sorted(path.stem for path in Path(TRIGGERS.folder).glob("*.toml"))
    assert [trigger.name for trigger in load_triggers()] == files

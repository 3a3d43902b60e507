"""Trigger files: what is accepted, and what the refusals say."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from schemas.errors import UsageError
from transforms.triggers import load_triggers
from transforms.triggers.spec import parse_trigger

GOOD = """
name = "fast"
version = 2
description = "fast"
table = "signals"
when = "speed_mps > $least"
score = "speed_mps"
for_s = 1
merge_s = 2.5
pre_s = 3.0
post_s = 4.0
[params]
least = 30
"""


def test_reads_every_key() -> None:
    """What the file says is what the trigger holds."""
    trigger = parse_trigger(GOOD, "fast.toml")
    assert (trigger.name, trigger.version, trigger.table) == ("fast", 2, "signals")
    assert (trigger.when, trigger.until, trigger.score) == ("speed_mps > $least", None, "speed_mps")
    assert (trigger.for_s, trigger.merge_s, trigger.pre_s, trigger.post_s) == (1.0, 2.5, 3.0, 4.0)
    assert trigger.params == {"least": 30.0}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('table = "signals"', 'table = "frames"', "signals, joints, scene, annotations, ticks"),
        ("for_s = 1", "for_s = -1", "for_s"),
        ("for_s = 1", "for_s = nan", "for_s"),
        ("for_s = 1", "for_s = true", "for_s"),
        ("for_s = 1", "", "'for_s' is missing"),
        ("post_s = 4.0", "post_s = 0", "post_s"),
        ("post_s = 4.0", "post_s = 1e9", "post_s"),
        ("version = 2", "version = 0", "version"),
        ("version = 2", "version = true", "version"),
        ("version = 2", "version = 2\nfor = 3", "'for'"),
        ('name = "fast"', 'name = "../fast"', "name"),
        ('when = "speed_mps > $least"', "when = 3", "when must be text"),
        ('when = "speed_mps > $least"', f'when = "{"(" * 5000}"', "longer than"),
        ("least = 30", 'least = "30"', "params.least"),
        ("least = 30", "least = inf", "params.least"),
        ("least = 30", f"least = 1{'0' * 400}", "params.least"),
        ("least = 30", '"a b" = 1', "'a b'"),
        ("[params]", "[params", "not TOML"),
        ("least = 30", f"least = {'[' * 3000}", "not TOML"),
    ],
)
def test_refuses(old: str, new: str, says: str) -> None:
    """Every mistake is a UsageError that names the file and the key or the choices."""
    assert old in GOOD
    with pytest.raises(UsageError) as caught:
        parse_trigger(GOOD.replace(old, new), "folder/fast.toml")
    assert "folder/fast.toml" in str(caught.value)
    assert says in str(caught.value)


def test_digest_names_what_decides() -> None:
    """Parameters, texts and times change the digest; the description and 30 as 30.0 do not."""
    trigger = parse_trigger(GOOD, "")
    changed = {
        parse_trigger(GOOD.replace(old, new), "").params_digest
        for old, new in [
            ("least = 30", "least = 31"),
            ("> $least", ">= $least"),
            ("merge_s = 2.5", "merge_s = 2.6"),
            ('score = "speed_mps"', 'score = "1"'),
        ]
    }
    assert len(changed | {trigger.params_digest}) == 5
    same = GOOD.replace("least = 30", "least = 30.0").replace(
        'description = "fast"', 'description = "x"'
    )
    assert parse_trigger(same, "").params_digest == trigger.params_digest
    assert trigger.override({"least": 31}).params_digest in changed


def test_ships_at_least_thirteen() -> None:
    """The built-in folder holds the library, sorted, each name like its file."""
    names = [trigger.name for trigger in load_triggers()]
    files = sorted(p.stem for p in Path(load_triggers.__code__.co_filename).parent.glob("*.toml"))
    assert names == files
    assert len(names) >= 13


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
        ({"only": ["hard_break"]}, "hard_brake"),
        ({"params": {"hard_break": {}}}, "hard_brake"),
        ({"params": {"hard_brake": {"on": 1}}}, "off_mps2, on_mps2"),
        ({"params": {"hard_brake": {"on_mps2": float("nan")}}}, "finite"),
        ({"dirs": ["/no/such/folder"]}, "/no/such/folder"),
        ({"dirs": ["nosuch://folder"]}, "nosuch"),
    ]:
        with pytest.raises(UsageError, match=says):
            load_triggers(**keywords)  # type: ignore[arg-type]  # the table is of mixed keywords


def test_refuses_hostile_files(tmp_path: Path) -> None:
    """A huge file, bytes that are no text, and two files of one name."""
    path = tmp_path / "fast.toml"
    path.write_text(GOOD + "#" * 100_000)
    with pytest.raises(UsageError, match="longer than"):
        load_triggers([str(tmp_path)])
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot read"):
        load_triggers([str(tmp_path)])
    path.write_text(GOOD)
    (tmp_path / "other.toml").write_text(GOOD)
    with pytest.raises(UsageError, match="also in"):
        load_triggers([str(tmp_path)])

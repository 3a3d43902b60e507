"""Trigger files: what is accepted, what the refusals say, and what a digest names."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from schemas.errors import UsageError
from transforms.triggers import TRIGGERS
from transforms.triggers.spec import Trigger

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


def parsed(text: str) -> Trigger:
    """Makes a trigger of a file's text."""
    return Trigger.model_validate(tomllib.loads(text))


def test_reads_every_key() -> None:
    trigger = parsed(GOOD)
    assert (trigger.name, trigger.version, trigger.table) == ("fast", 2, "signals")
    assert (trigger.when, trigger.until, trigger.score) == ("speed_mps > $least", None, "speed_mps")
    assert (trigger.for_s, trigger.merge_s, trigger.pre_s, trigger.post_s) == (1.0, 2.5, 3.0, 4.0)
    assert trigger.params == {"least": 30.0}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('table = "signals"', 'table = "frames"', "annotations, joints, scene, signals, ticks"),
        ("for_s = 1", "for_s = -1", "for_s = -1: must be at least 0"),
        ("for_s = 1", "for_s = nan", "for_s = nan: must be a finite number"),
        ("for_s = 1", "for_s = true", "for_s = true: must be a number"),
        ("for_s = 1", "", "for_s: missing"),
        ("post_s = 4.0", "post_s = 0", "post_s = 0: must be above 0"),
        ("post_s = 4.0", "post_s = 1e9", "post_s = 1000000000.0: must be at most 600"),
        ("version = 2", "version = 0", "version = 0: must be at least 1"),
        ("version = 2", "version = true", "version = true: must be a whole number"),
        ("version = 2", "version = 2\nfor = 3", "for: unknown key"),
        ('name = "fast"', 'name = "../fast"', 'name = "../fast": must be small letters'),
        ('when = "speed_mps > $least"', "when = 3", "when = 3: must be text"),
        ('when = "speed_mps > $least"', 'when = " "', 'when = " ": must not be empty'),
        ('when = "speed_mps > $least"', f'when = "{"(" * 5000}"', "longer than 4000"),
        ("least = 30", 'least = "30"', 'params.least = "30": must be a number'),
        ("least = 30", "least = inf", "params.least = inf: must be a finite number"),
        ("least = 30", f"least = 1{'0' * 400}", "params.least = a number of "),
        ("least = 30", '"a b" = 1', 'params.a b = "a b": must be small letters'),
        ("[params]", "[params", "not TOML"),
        ("least = 30", f"least = {'[' * 3000}", "not TOML"),
    ],
)
def test_refuses(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    path = tmp_path / "fast.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError) as caught:
        TRIGGERS.load(str(path))
    assert str(caught.value).startswith(f"trigger {path}: ")
    assert says in str(caught.value)


def test_digest_names_what_decides() -> None:
    """Parameters, texts and times change the digest; the description and 30 as 30.0 do not."""
    trigger = parsed(GOOD)
    changed = {
        parsed(GOOD.replace(old, new)).params_digest
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
    assert parsed(same).params_digest == trigger.params_digest
    assert trigger.override({"least": 31}).params_digest in changed


def test_the_digest_of_a_shipped_trigger_stays() -> None:
    """Another value would mine every log of every lake again."""
    digests = {trigger.name: trigger.params_digest for trigger in TRIGGERS.load_all()}
    assert digests["hard_brake"] == "92f95b7b9e787f524239"
    assert digests["uniform_sample"] == "0cac3389b47d1b23f741"

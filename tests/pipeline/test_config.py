"""Configuration: defaults, the file over them, flags on top; wrong keys say so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.config import (
    CompactConfig,
    CorpusConfig,
    JobConfig,
    LabelConfig,
    MineConfig,
    SweepConfig,
    configure,
    read_file,
)
from schemas.errors import UsageError


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    """Only what was given counts; None and an empty list were not."""
    file = tmp_path / "c.toml"
    file.write_text('[label]\nfps = 2.0\nprivacy = "none"\n')
    config = configure(LabelConfig, read_file(str(file)), {"fps": 7.0, "privacy": None})
    assert (config.fps, config.privacy, config.crf) == (7.0, "none", 25)


def test_parameters_of_triggers_come_from_the_file(tmp_path: Path) -> None:
    """A table a trigger, under [mine.params]."""
    file = tmp_path / "c.toml"
    file.write_text("[mine.params.hard_brake]\non_mps2 = 3.5\n")
    config = configure(MineConfig, read_file(str(file)), {})
    assert config.params == {"hard_brake": {"on_mps2": 3.5}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[labels]\nfps = 1\n", r"unknown table \[labels\]; choose one of: compact, corpus"),
        ("fps = 1\n", r"unknown table \[fps\]"),
        ("[label\n", "c.toml"),
        ("\xff", r"c\.toml: not UTF-8: byte 0 is 0xff"),
        ("a = " + "[" * 9000, r"c\.toml: not TOML: nested too deeply"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    """The message names the file and the table."""
    file = tmp_path / "c.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=words):
        read_file(str(file))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"fsp": 1.0}, r"\[label\] fsp: unknown key; choose one of: crf, fps, .*models"),
        ({"fps": 0.0}, r"\[label\] fps = 0.0: must be at least 1"),
        ({"crf": 99}, r"\[label\] crf = 99: must be at most 51"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_choices(
    values: dict[str, object], words: str
) -> None:
    """One line: the section, the key, the value, the choices."""
    with pytest.raises(UsageError, match=words):
        configure(LabelConfig, {"label": values}, {})


@pytest.mark.parametrize("name", ["../up", "", "Upper", "a b", "a" * 65, "-a"])
def test_a_corpus_name_is_a_plain_folder_name(name: str) -> None:
    """It becomes a path and the name of a view."""
    with pytest.raises(UsageError, match=r"\[corpus\] name"):
        configure(CorpusConfig, {}, {"name": name})


def test_no_models_are_told_from_models_that_were_not_named() -> None:
    assert configure(LabelConfig, {}, {"models": None}).models is None
    assert configure(LabelConfig, {}, {"models": []}).models is None
    assert configure(LabelConfig, {"label": {"models": []}}, {}).models == ()
    assert configure(LabelConfig, {"label": {"models": []}}, {"models": ["a"]}).models == ("a",)


def test_a_configuration_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "a pipe"), ("/dev/zero", "a device"), (tmp_path, "a f")):
        with pytest.raises(UsageError, match=f"--config {path}: {kind}.*save it to a file"):
            read_file(str(path))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "NaN"])
@pytest.mark.parametrize(
    ("model", "key"),
    [
        (LabelConfig, "fps"),
        (LabelConfig, "input_timeout_s"),
        (SweepConfig, "fps"),
        (CorpusConfig, "val_fraction"),
        (CompactConfig, "keep_hours"),
    ],
)
def test_numbers_are_finite(model: type[JobConfig], key: str, value: str) -> None:
    """As a number, and as the text that a quoted number is."""
    for given in (float(value), value):
        with pytest.raises(UsageError, match=rf"{key} = .*: must be a finite number"):
            configure(model, {}, {key: given, **({"name": "c"} if model is CorpusConfig else {})})


@pytest.mark.parametrize(
    ("model", "values", "words"),
    [
        (LabelConfig, {"input_timeout_s": 1e300}, "must be at most 1000000"),
        (SweepConfig, {"fps": 1e300}, "must be at most 1000"),
        (CompactConfig, {"keep_hours": 1e300}, "must be at most 1000000"),
        (MineConfig, {"params": {"a": {"b": float("nan")}}}, "params.a.b = nan: must be a finite"),
        (LabelConfig, {"crf": 2**70}, "must be at most 51"),
    ],
)
def test_numbers_are_in_range(
    model: type[JobConfig], values: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        configure(model, {}, values)

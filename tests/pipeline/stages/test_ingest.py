"""Ingest: its tasks, the options in its stage digest, and bad usage."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import IngestConfig
from pipeline.graph.execute import execute
from pipeline.lake.tables import Lake
from pipeline.stages.ingest import plan_ingest, reading
from schemas.errors import UsageError
from synth.fleet import FleetSpec, write_fleet


def test_tasks_do_not_depend_on_the_order_of_the_inputs(tmp_path: Path) -> None:
    """So a rerun with the flags in another order is the same run."""
    lake = Lake.create(str(tmp_path / "lake"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.mp4").write_bytes(name.encode() * 100)
    folders = (str(tmp_path / "one"), str(tmp_path / "two"))
    first, second = (
        [task.key for task in plan_ingest(lake, IngestConfig(input=given)).tasks]
        for given in (folders, folders[::-1])
    )
    assert first == second


def test_a_log_read_with_other_options_is_noted_and_not_read_again(tmp_path: Path) -> None:
    """A table never holds the rows of one log twice."""
    lake = Lake.create(str(tmp_path / "lake"))
    (tmp_path / "bad.mp4").write_bytes(b"nothing that plays")
    config = IngestConfig(input=(str(tmp_path / "bad.mp4"),))
    report = execute(lake, "ingest", {}, plan_ingest(lake, config))
    assert [c.rejected for c in report.counts if c.of == "logs"] == [1]
    other = IngestConfig(input=config.input, channels=True)
    again = plan_ingest(Lake.open(lake.url), other)
    assert not again.tasks
    assert "1 logs are in the lake" in again.notes[0]
    assert [count.rejected for count in again.known if count.of == "logs"] == [1]


def test_a_missing_dbc_is_bad_usage(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path / "lake"))
    config = IngestConfig(input=(str(tmp_path),), dbc=(str(tmp_path / "none.dbc"),))
    with pytest.raises(UsageError, match=r"--dbc .*none\.dbc"):
        plan_ingest(lake, config)


DBC = 'BU_: X\n\nBO_ 37 SPEED: 8 X\n SG_ SPEED : 7|16@0+ (0.01,0) [0|0] "" X\n'
CAN_MAP = """
name = "mine"
description = "one of the user's"
[[row]]
signal = "speed_mps"
message = "SPEED"
terms = ["SPEED"]
unit = "km/h"
"""


def test_the_can_map_that_is_used_is_in_the_identity(tmp_path: Path) -> None:
    """Its description is not, and neither is a map that is not used."""
    dbc, maps = tmp_path / "a.dbc", tmp_path / "maps"
    dbc.write_text(DBC)
    maps.mkdir()
    alone = reading(IngestConfig(dbc=(str(dbc),))).identity
    assert set(alone) == {"dbc", "channels"}, "as it was before there were maps of the user's"
    config = IngestConfig(dbc=(str(dbc),), can_maps=(str(maps),))
    identities = []
    for text in (CAN_MAP, CAN_MAP.replace("km/h", "deg"), CAN_MAP.replace("user's", "fleet's")):
        (maps / "mine.toml").write_text(text)
        how = reading(config)
        assert [used.name for used in how.options.can_maps] == ["mine"]
        assert not how.notes
        identities.append(how.identity)
    first, edited, described = identities
    assert first == described != edited
    assert first.keys() - alone.keys() == {"can_map"}
    (maps / "mine.toml").write_text(CAN_MAP.replace('"SPEED"', '"ABSENT"'))
    how = reading(config)
    assert how.identity == alone
    assert "no map of --can-maps fits" in how.notes[0]


def test_can_maps_that_cannot_be_used_are_bad_usage(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(CAN_MAP)
    with pytest.raises(UsageError, match=r"\[ingest\] can_maps: .*--dbc"):
        reading(IngestConfig(can_maps=(str(tmp_path),)))
    (tmp_path / "broken.toml").write_text("name = 3")
    with pytest.raises(UsageError, match=r"CAN map .*broken\.toml: name = 3: must be text"):
        reading(IngestConfig(can_maps=(str(tmp_path),)))


def test_a_file_that_is_not_a_dbc_is_bad_usage_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "a.dbc").write_text("PNG")
    with pytest.raises(UsageError, match=r"a\.dbc"):
        reading(IngestConfig(dbc=(str(tmp_path / "a.dbc"),)))
    with pytest.raises(UsageError, match="--dbc nosuch://a: cannot be read"):
        reading(IngestConfig(dbc=("nosuch://a",)))


def test_a_log_that_was_away_is_read_by_the_next_run(tmp_path: Path) -> None:
    """Its file vanishes between planning and reading, as with a mount that goes away."""
    spec = FleetSpec(drives=1, seed=1, minutes=0.1, width=32, height=32, cameras=("front",))
    write_fleet(spec, str(tmp_path / "fleet"), False)
    lake = Lake.create(str(tmp_path / "lake"))
    config = IngestConfig(input=(str(tmp_path / "fleet"),))
    work = plan_ingest(lake, config)
    (tmp_path / "fleet").rename(tmp_path / "away")
    away = execute(lake, "ingest", {}, work)
    assert [c.rejected for c in away.counts if c.of == "logs"] == [1]
    (tmp_path / "away").rename(tmp_path / "fleet")
    lake = Lake.open(lake.url)
    back = execute(lake, "ingest", {}, plan_ingest(lake, config))
    assert [(c.kept, c.rejected) for c in back.counts if c.of == "logs"] == [(1, 0)]
    assert Lake.open(lake.url).read("logs").num_rows == 1

"""Planning: every unit reads equally many samples and nearly equal bytes, reproducibly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.topologies import load_topology
from pipeline.topologies.planner import Plan, plan, replan, split_of
from schemas.ids import canonical, digest

TRAY = load_topology("dojo-tray")


def samples(n: int, sigma: float = 1.0, seed: int = 0, split: str = "train") -> pa.Table:
    """Makes samples whose sizes are lognormal, in whole tar blocks."""
    sizes = np.random.default_rng(seed).lognormal(13, sigma, n)
    return pa.table(
        {
            "event_id": pa.array([digest("event", split, k) for k in range(n)], pa.string()),
            "length": (np.ceil(sizes / 512) * 512).astype(np.int64),
            "split": pa.array([split] * n, pa.string()),
        }
    )


def units_read(
    document: Mapping[str, Any], split: str, placed: pa.Table
) -> list[list[tuple[str, int, int]]]:
    """Follows a plan: for each unit the (event, offset, length) that its ranges reach."""
    shards: dict[str, list[tuple[str, int, int]]] = {}
    for row in placed.to_pylist():
        shards.setdefault(row["shard"], []).append((row["event_id"], row["offset"], row["length"]))
    units = []
    for ranges in document["splits"][split]["units"]:
        read = []
        for shard, first, count, offset, size in ranges:
            inside = shards[shard][first : first + count]
            assert len(inside) == count
            assert inside[0][1] == offset
            assert sum(length for _, _, length in inside) == size
            read += inside
        units.append(read)
    return units


def check(document: Mapping[str, Any], split: str, placed: pa.Table, units: int) -> None:
    """Checks the properties that every plan has."""
    described = document["splits"][split]
    placed = placed.filter(pa.compute.equal(placed["split"], split))
    read = units_read(document, split, placed)
    n = placed.num_rows
    assert len(read) == units
    assert {len(unit) for unit in read} == {-(-n // units)}
    for unit in read:
        assert len({event for event, _, _ in unit}) == len(unit), "a unit reads a sample twice"
    times = Counter(event for unit in read for event, _, _ in unit)
    assert set(times) == set(placed["event_id"].to_pylist())
    assert max(times.values()) - min(times.values()) <= 1
    assert described["repeated"] == units * -(-n // units) - n == times.total() - n
    totals = [sum(length for _, _, length in unit) for unit in read]
    assert described["unit_bytes"] == totals
    assert described["imbalance"] == round(max(totals) / (sum(totals) / units), 6)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 11, 12, 13, 59, 300, 1000, 6001])
@pytest.mark.parametrize("name", ["dojo-tile", "dojo-tray", "gpu-8", "dojo-exapod"])
def test_every_unit_reads_the_same_number_of_samples(n: int, name: str) -> None:
    topology = load_topology(name)
    planned = plan(samples(n), topology, "salt")
    check(planned.document, "train", planned.placements, topology.units)
    assert bool(planned.warnings) == (n < topology.units)
    assert sorted(planned.placements["row"].to_pylist()) == list(range(n))


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("extra", [0, 1, 119])
def test_bytes_balance_with_fifty_samples_a_unit(sigma: float, extra: int) -> None:
    topology = load_topology("dojo-exapod")
    for seed in range(3):
        planned = plan(samples(50 * 120 + extra, sigma, seed), topology, "salt")
        split: Any = planned.document["splits"]
        assert split["train"]["imbalance"] <= 1.005


def test_shards_are_cut_near_their_target_and_framed() -> None:
    table = samples(3000, 0.5)
    total = sum(table["length"].to_pylist())
    topology = TRAY.replace(shard_target_bytes=total // 60)
    planned = plan(table, topology, "salt")
    shards: dict[str, list[dict[str, Any]]] = {}
    for row in planned.placements.to_pylist():
        shards.setdefault(row["shard"], []).append(row)
    assert len(shards) == 60
    assert list(shards) == [f"train/{k:06d}.tar" for k in range(60)]
    assert {len(rows) for rows in shards.values()} == {50}
    for rows in shards.values():
        at = 0
        for position, row in enumerate(rows):
            assert (row["position"], row["offset"]) == (position, at)
            at += row["length"]
        assert len({row["unit"] for row in rows}) == 1
        assert 0.7 < at / topology.shard_target_bytes < 1.3


def test_order_inside_a_unit_does_not_follow_size() -> None:
    rows = plan(samples(6000), TRAY, "salt").placements
    lengths = rows["length"].to_numpy()[:1000].astype(float)
    assert abs(np.corrcoef(lengths, np.arange(1000))[0, 1]) < 0.1


def _bytes(planned: Plan) -> bytes:
    placed = planned.placements.drop_columns(["row"])
    return canonical(planned.document) + canonical(placed.to_pylist())


def test_a_plan_depends_on_nothing_but_samples_topology_and_salt() -> None:
    table = pa.concat_tables([samples(500), samples(77, split="val")])
    order = random.Random(3).sample(range(577), 577)  # noqa: S311 - a test's order
    shuffled = table.take(pa.array(order))
    planned = plan(table, TRAY, "salt")
    assert _bytes(plan(shuffled, TRAY, "salt")) == _bytes(planned)
    assert _bytes(plan(table, TRAY, "other")) != _bytes(planned)
    assert digest(_bytes(planned).decode()) == "2223bcf2601fc5ab6204"
    assert set(planned.document["splits"]) == {"train", "val"}  # type: ignore[arg-type] # JSON
    rows = table.take(planned.placements["row"])
    assert rows["event_id"].equals(planned.placements["event_id"])


def test_no_samples_make_an_empty_plan() -> None:
    planned = plan(samples(0), TRAY, "salt")
    assert planned.placements.num_rows == 0
    assert planned.document["splits"] == {}


def test_bad_samples_are_a_bug() -> None:
    twice = pa.concat_tables([samples(2), samples(2)])
    with pytest.raises(ValueError, match="twice"):
        plan(twice, TRAY, "salt")
    bad = samples(2).set_column(1, "length", pa.array([512, 0]))
    with pytest.raises(ValueError, match="row 1"):
        plan(bad, TRAY, "salt")


@pytest.mark.parametrize("n", [1, 7, 100, 3001])
@pytest.mark.parametrize("units", [1, 2, 16, 48])
def test_replanning_reads_the_shards_that_are_there(n: int, units: int) -> None:
    topology = TRAY.replace(shard_target_bytes=10_000_000)
    placed = plan(pa.concat_tables([samples(n), samples(9, split="val")]), topology, "s").placements
    other = topology.replace(name="other", units=units, units_per_host=1)
    document = replan(placed.drop_columns(["unit", "row"]), other)
    check(document, "train", placed, units)
    check(document, "val", placed, units)
    split: Any = document["splits"]
    if n / units >= 50:
        assert split["train"]["imbalance"] <= 1.005
        ranges = sum(map(len, split["train"]["units"]))
        assert ranges < split["train"]["shards"] + 20 * units, "mostly whole runs"


def test_splits_keep_drives_whole_and_stay_as_the_lake_grows() -> None:
    drives = [f"drive-{k}" for k in range(10_000)]
    val = {drive for drive in drives if split_of(drive, 0.1, "salt") == "val"}
    assert abs(len(val) / len(drives) - 0.1) < 0.01
    more = {drive for drive in drives if split_of(drive, 0.2, "salt") == "val"}
    assert val < more, "a larger fraction only adds"
    assert val != {drive for drive in drives if split_of(drive, 0.1, "other") == "val"}

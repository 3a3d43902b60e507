"""Planning: which unit reads which samples, as a pure function of sizes and a salt.

A synchronous trainer waits for its slowest unit, so within a split every unit of the
machine gets the same number of samples, and nearly the same bytes. Samples are dealt by
size, one to each unit a round, the largest to the unit with the fewest bytes so far (LPT
under a cardinality constraint: Graham 1969, Dell'Amico and Martello 2001). Then pairs are
swapped between the fullest and the emptiest unit. Within a unit samples are in the order
of a salted hash, which does not depend on size, on the order of rows, or on when a sample
was mined.

Where samples do not divide evenly, some are read twice, by two different units, so that a
unit's ranges may reach into another unit's shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.topologies import Topology
from schemas.arrays import IntArray
from schemas.ids import Canonical, digest, uniform

PLAN_FORMAT = 1
TOLERANCE = 0.001
"""Swapping stops when the fullest unit is within this fraction of the mean."""

RANGE_FIELDS = ("shard", "first", "samples", "offset", "bytes")
_MAX_ROUNDS = 4096
_PARTNERS = 8
_SWAPS = 64

WordArray = NDArray[np.uint64]

PLACEMENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
    ]
)
"""Where each sample is stored: one row a sample, in the order of shards and positions.

`unit` owns the shard, `offset` is in bytes from the shard's start, `row` is the sample's
row in the table that was planned.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan: `placements` (see PLACEMENTS), and `document`, the content of plan.json."""

    topology: Topology
    placements: pa.Table
    document: Mapping[str, Canonical]
    warnings: tuple[str, ...]


def split_of(drive_id: str, val_fraction: float, salt: str) -> Literal["train", "val"]:
    """Assigns a whole drive to a split, which stays the same as the lake grows.

    >>> split_of("drive-1", 0.0, "s"), split_of("drive-1", 1.0, "s")
    ('train', 'val')
    """
    return "val" if uniform(f"split\0{salt}", drive_id) < val_fraction else "train"


def plan(samples: pa.Table, topology: Topology, salt: str) -> Plan:
    """Deals samples to the units of a machine and cuts each unit's into shards.

    Args:
        samples: columns event_id (unique), split and length (bytes in a shard); others
            are ignored.
        topology: the machine.
        salt: changes the order of samples.

    Raises:
        ValueError: an event_id occurs twice, or a length is not positive.
    """
    length = _column(samples, "length")
    _check(samples, length)
    names = samples.column("split").combine_chunks()
    order_words = _hashes(samples.column("event_id"), salt)
    placed, splits, warnings = [], {}, []
    for split in sorted(pc.unique(names).to_pylist()):
        rows = np.flatnonzero(pc.equal(names, split).to_numpy(zero_copy_only=False))
        rows = rows[np.lexsort([words[rows] for words in order_words])]
        sizes = length[rows]
        grid, origin = _deal(sizes, topology.units)
        shards = _cut(sizes, grid, topology.shard_target_bytes)
        placed.append((split, rows[shards.sample], shards))
        place = np.empty(len(sizes), dtype=np.int64)
        place[shards.sample] = np.arange(len(sizes))
        splits[split] = _describe(split, sizes[shards.sample], shards, place[origin[grid]])
        warnings += _warn(split, len(sizes), topology)
    document = _document(topology, splits)
    return Plan(topology, _placements(samples, placed), document, tuple(warnings))


def replan(samples: pa.Table, topology: Topology) -> Mapping[str, Canonical]:
    """Plans a published snapshot for another machine, without changing its shards.

    Units get ranges of shards: contiguous samples, with a few exchanged to balance bytes.

    Args:
        samples: the snapshot's samples: event_id, split, shard, position, offset, length.
        topology: the other machine.

    Returns:
        A document with the structure of plan.json.
    """
    splits = {}
    ordered = samples.sort_by([(key, "ascending") for key in ("split", "shard", "position")])
    for split in sorted(pc.unique(ordered.column("split")).to_pylist()):
        rows = ordered.filter(pc.equal(ordered.column("split"), split))
        sizes = _column(rows, "length")
        grid, origin = _line_up(sizes, topology.units)
        encoded = rows.column("shard").combine_chunks().dictionary_encode()
        shards = _Shards(
            sample=np.arange(len(sizes)),
            unit=np.zeros(len(sizes), dtype=np.int64),
            shard=encoded.indices.to_numpy().astype(np.int64),
            position=_column(rows, "position"),
            offset=_column(rows, "offset"),
            names=encoded.dictionary.to_pylist(),
        )
        splits[split] = _describe(split, sizes, shards, origin[grid])
    return _document(topology, splits)


@dataclass(frozen=True, slots=True)
class _Shards:
    """Samples in the order of shards: index, unit that owns the shard, and place in it.

    `names` are those of the shards, if they have names already.
    """

    sample: IntArray
    unit: IntArray
    shard: IntArray
    position: IntArray
    offset: IntArray
    names: Sequence[str] | None = None


def _column(table: pa.Table, name: str) -> IntArray:
    column: IntArray = table.column(name).cast(pa.int64()).to_numpy()
    return column


def _check(samples: pa.Table, length: IntArray) -> None:
    if len(length) and length.min() <= 0:
        raise ValueError(f"row {int(length.argmin())}: a sample must have a positive length")
    if pc.count_distinct(samples.column("event_id")).as_py() != len(length):
        raise ValueError("an event_id occurs twice in the samples")


def _hashes(keys: pa.ChunkedArray, salt: str) -> tuple[WordArray, WordArray]:
    """Hashes every key with a salt to 128 bits, the same on every machine.

    The keys' bytes, zero-padded, are read as little-endian 64-bit words and folded with
    the finaliser of SplitMix64 (Steele, Lea and Flood 2014), twice, from seeds that are
    digests of the salt. numpy does ten million keys in seconds, which SHA-256 would not.
    """
    raw = keys.combine_chunks().cast(pa.large_binary())
    width = max(pc.max(pc.binary_length(raw)).as_py() or 0, 1)
    letters = np.array(raw.to_numpy(zero_copy_only=False), dtype=f"S{width}")
    padded = np.zeros((len(raw), -(-width // 8) * 8), dtype=np.uint8)
    padded[:, :width] = letters.view(np.uint8).reshape(len(raw), width)
    words = padded.view("<u8")
    halves = []
    for half in ("high", "low"):
        state: WordArray = np.full(
            len(raw), int(digest("order", half, salt)[:16], 16), dtype=np.uint64
        )
        for column in range(words.shape[1]):
            state = _mix(state ^ words[:, column])
        halves.append(state)
    return halves[0], halves[1]


def _mix(word: WordArray) -> WordArray:
    word = word + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def _pad(sizes: IntArray, units: int) -> IntArray:
    """Lists the samples to deal: each once, then those read twice so that all units are even.

    Samples whose size is nearest the median are read twice, so that exchanging one for
    another hardly changes bytes; if there are fewer samples than units, all in turn.
    """
    n = len(sizes)
    missing = -n % units
    middle = np.argsort(np.abs(sizes - np.median(sizes)), kind="stable")
    origin: IntArray = np.concatenate([np.arange(n), np.resize(middle, missing)])
    return origin


def _deal(sizes: IntArray, units: int) -> tuple[IntArray, IntArray]:
    """Deals reads to units; a read is one sample that one unit reads.

    Args:
        sizes: int64[n] bytes of each sample.
        units: how many units.

    Returns:
        grid int64[units, m] of reads, and origin int64[units * m]: the sample of a read.
        The first n reads are the samples in order, the rest the samples read twice.
    """
    origin = _pad(sizes, units)
    size = sizes[origin]
    by_size = np.argsort(-size, kind="stable").reshape(-1, units)
    rounds = len(by_size)
    grid = np.empty((units, rounds), dtype=np.int64)
    total = np.zeros(units, dtype=np.int64)
    step = -(-rounds // _MAX_ROUNDS)
    for first in range(0, rounds, step):
        dealt = by_size[first : first + step]
        dealt[1::2] = dealt[1::2, ::-1]
        weight = size[dealt].sum(axis=0)
        heavy_first = np.argsort(-weight, kind="stable")
        light_first = np.argsort(total, kind="stable")
        grid[light_first, first : first + step] = dealt[:, heavy_first].T
        total[light_first] += weight[heavy_first]
    _refine(grid, size, total)
    _separate(grid, size, origin, len(sizes))
    grid.sort(axis=1)
    return grid, origin


def _line_up(sizes: IntArray, units: int) -> tuple[IntArray, IntArray]:
    """Gives each unit contiguous samples, then balances bytes; returns what `_deal` does."""
    origin = _pad(sizes, units)
    n, rounds = len(sizes), len(origin) // units
    grid = np.empty((units, rounds), dtype=np.int64)
    # The last units have one sample less of their own, and get one that is read twice.
    own = np.full(units, rounds)
    own[units - min(len(origin) - n, units) :] -= 1
    own_slot = np.arange(rounds)[None, :] < own[:, None]
    grid[own_slot] = np.arange(n)
    grid[~own_slot] = np.arange(n, len(origin))
    size = sizes[origin]
    _refine(grid, size, size[grid].sum(axis=1))
    _separate(grid, size, origin, n)
    return grid, origin


def _refine(grid: IntArray, size: IntArray, total: IntArray) -> None:
    """Swaps reads between the fullest unit and the emptiest ones until all are near the mean."""
    units = len(grid)
    mean = total.sum() / units
    for _ in range(_SWAPS * units):
        fullest = int(total.argmax())
        if total[fullest] <= mean * (1 + TOLERANCE):
            return
        few = min(_PARTNERS, units - 1)
        partners = np.argpartition(total, few)[: few + 1]
        partners = partners[np.lexsort([partners, total[partners]])]
        for emptiest in partners.tolist():
            if emptiest != fullest and _swap(grid, size, total, fullest, emptiest):
                break
        else:
            return


def _swap(grid: IntArray, size: IntArray, total: IntArray, full: int, empty: int) -> bool:
    """Swaps the pair of reads that best balances two units; returns False if none does."""
    gap = int(total[full] - total[empty])
    give, take = size[grid[full]], size[grid[empty]]
    order = np.argsort(take, kind="stable")
    ascending = take[order]
    # Moving d = give - take leaves a gap of |gap - 2 d|.
    at = np.searchsorted(ascending, give - gap // 2)
    best: tuple[int, int, int] | None = None
    for near in (np.maximum(at - 1, 0), np.minimum(at, len(ascending) - 1)):
        left = np.abs(gap - 2 * (give - ascending[near]))
        slot = int(left.argmin())
        if best is None or left[slot] < best[0]:
            best = (int(left[slot]), slot, int(order[near[slot]]))
    if best is None or best[0] >= gap:
        return False
    _, i, j = best
    moved = int(give[i] - take[j])
    grid[full, i], grid[empty, j] = grid[empty, j], grid[full, i]
    total[full] -= moved
    total[empty] += moved
    return True


def _separate(grid: IntArray, size: IntArray, origin: IntArray, n: int) -> None:
    """Moves a repeated read away from the unit that reads the same sample already.

    Samples outnumber units here, so every sample is read at most twice. The repeat is
    exchanged with the read nearest in size whose sample its unit does not read.
    """
    units, rounds = grid.shape
    if units == 1 or rounds == 1 or len(origin) == n:
        return
    unit_of = np.empty(len(origin), dtype=np.int64)
    unit_of[grid.ravel()] = np.repeat(np.arange(units), rounds)
    same = np.full(len(origin), -1, dtype=np.int64)  # the other read of a sample, or -1
    same[n:] = origin[n:]
    same[origin[n:]] = np.arange(n, len(origin))
    for repeat in range(n, len(origin)):
        home = unit_of[repeat]
        if unit_of[same[repeat]] != home:
            continue
        away = np.abs(size - size[repeat]).astype(np.float64)
        away[(unit_of == home) | ((same >= 0) & (unit_of[same] == home))] = np.inf
        other = int(away.argmin())
        slot = int(np.flatnonzero(grid[home] == repeat)[0])
        other_home = unit_of[other]
        other_slot = int(np.flatnonzero(grid[other_home] == other)[0])
        grid[home, slot], grid[other_home, other_slot] = other, repeat
        unit_of[repeat], unit_of[other] = other_home, home


def _cut(sizes: IntArray, grid: IntArray, target: int) -> _Shards:
    """Cuts each unit's own samples into the same number of shards, near the target size."""
    n = len(sizes)
    own = (grid < n).sum(axis=1)
    wanted = round(int(sizes.sum()) / (len(grid) * target))
    shards = max(1, min(wanted, int(own.min())))
    sample = grid[grid < n]  # unit by unit, in the order of the hash
    unit = np.repeat(np.arange(len(grid)), own)
    nth = np.arange(n) - np.repeat(np.cumsum(own) - own, own)
    cut = ((nth + 1) * shards - 1) // own[unit]
    _, shard = np.unique(unit * shards + cut, return_inverse=True)
    starts = np.flatnonzero(np.diff(shard, prepend=-1))
    before = np.cumsum(sizes[sample]) - sizes[sample]
    return _Shards(
        sample=sample,
        unit=unit,
        shard=shard.astype(np.int64),
        position=np.arange(n) - starts[shard],
        offset=before - before[starts][shard],
    )


def _shard_name(split: str, shard: int) -> str:
    return f"{split}/{shard:06d}.tar"


def _describe(
    split: str, sizes: IntArray, shards: _Shards, reads: IntArray
) -> dict[str, Canonical]:
    """Describes a split as plan.json does: what each unit reads, as ranges of shards.

    Args:
        split: its name.
        sizes: int64[n] bytes of the samples in the order of shards.
        shards: where they are stored.
        reads: int64[units, m], the samples that a unit reads, as indices into `sizes`.
    """
    units, rounds = reads.shape
    flat = np.sort(reads, axis=1).ravel()
    unit = np.repeat(np.arange(units), rounds)
    new = np.ones(len(flat), dtype=bool)
    new[1:] = (np.diff(flat) != 1) | (np.diff(shards.shard[flat]) != 0) | (np.diff(unit) != 0)
    starts = np.flatnonzero(new)
    counts = np.diff(starts, append=len(flat))
    first_read = flat[starts]
    extent = np.add.reduceat(sizes[flat], starts)
    ranges: list[list[Canonical]] = [[] for _ in range(units)]
    columns = (
        unit[starts],
        shards.shard[first_read],
        shards.position[first_read],
        counts,
        shards.offset[first_read],
        extent,
    )
    for owner, shard, first, count, offset, size in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        name = shards.names[shard] if shards.names else _shard_name(split, shard)
        ranges[owner].append([name, first, count, offset, size])
    unit_bytes = sizes[reads].sum(axis=1)
    mean = int(unit_bytes.sum()) / units
    return {
        "samples": len(sizes),
        "bytes": int(sizes.sum()),
        "shards": int(shards.shard.max()) + 1,
        "samples_per_unit": rounds,
        "repeated": units * rounds - len(sizes),
        "unit_bytes": unit_bytes.tolist(),
        "imbalance": round(int(unit_bytes.max()) / mean, 6),
        "units": ranges,
    }


def _document(topology: Topology, splits: Mapping[str, Any]) -> dict[str, Canonical]:
    return {
        "format": PLAN_FORMAT,
        "topology": topology.document(),
        "range": list(RANGE_FIELDS),
        "splits": dict(splits),
    }


def _warn(split: str, n: int, topology: Topology) -> list[str]:
    if n >= topology.units:
        return []
    scarce = f"split {split!r} has {n} samples for {topology.units} units of {topology.name}"
    return [f"{scarce}: each is read by several; mine more, or choose a smaller topology"]


def _placements(samples: pa.Table, placed: Sequence[tuple[str, IntArray, _Shards]]) -> pa.Table:
    tables = [PLACEMENTS.empty_table()]
    for split, rows, shards in placed:
        names = pa.array([_shard_name(split, k) for k in range(int(shards.shard.max()) + 1)])
        n = len(rows)
        tables.append(
            pa.Table.from_arrays(
                [
                    samples.column("event_id").take(pa.array(rows)),
                    pa.repeat(pa.scalar(split), n),
                    pa.array(shards.unit),
                    names.take(pa.array(shards.shard)),
                    pa.array(shards.position),
                    pa.array(shards.offset),
                    samples.column("length").cast(pa.int64()).take(pa.array(rows)),
                    pa.array(rows),
                ],
                schema=PLACEMENTS,
            )
        )
    return pa.concat_tables(tables)

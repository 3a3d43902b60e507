"""LeRobot data sets of version 2.1: a log is one episode of a robot.

`data/chunk-*/episode_*.parquet` has one row per frame, `videos/chunk-*/<key>/episode_*.mp4`
is one camera's video, and `meta/info.json` describes the columns. info.json may list more
episodes than there are files; the missing ones are not logs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.arrays import Float32Array, IntArray
from schemas.errors import (
    CorruptError,
    DataError,
    EmptyError,
    UnreadableError,
    UnsupportedError,
)
from schemas.ids import digest
from schemas.recording import Channel, Joints, LogHeader, Video
from schemas.records import Count, LogRef, Member, Reject
from schemas.times import NS_PER_S
from transforms.budget import require
from transforms.parquet_footer import count_values
from transforms.readers import HEAD_BYTES, Claim, ReadOptions, Tree, WholeLog
from transforms.storage import filesystem
from transforms.video.demux import index_video

INFO = "meta/info.json"
GROWING = ("total_", "splits", "chunks_size", "data_files_size", "video_files_size")
"""How keys of info.json begin that change as episodes are recorded, and bear on none."""
EPISODE = re.compile(r"data/(?P<place>chunk-\d+/)(?P<name>episode_\d+)\.parquet")
VIDEO = re.compile(r"videos/chunk-\d+/[^/]+/episode_\d+\.mp4")
V3_FILE = re.compile(r"data/chunk-\d+/file-\d+\.parquet")
VERSION = "v2.1"
STATE, VELOCITY, ACTION = "observation.state", "observation.velocity", "action"
MAX_META_BYTES = 16 << 20
MAX_ROWS = 1 << 24
MAX_VALUES = 1 << 28
MAX_SECONDS = 1e7
_VALUE_BYTES = 20
"""Memory for a value: as it is read, as it is converted, and in the row of the lake."""
MIN_FPS = 1e-6
MAX_FPS = 10_000
"""A picture takes 12 days at the least rate; a forged one of less would last for ever."""
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclass(frozen=True, slots=True)
class _Metadata:
    """The contents of meta/info.json: frames per second, robot, descriptions of the features."""

    fps: float
    robot: str
    features: Mapping[str, Mapping[str, Any]]


class LeRobot:
    """The reader of LeRobot data sets."""

    name: ClassVar[str] = "lerobot"
    version: ClassVar[int] = 1

    def claim(self, tree: Tree) -> list[Claim]:
        """Claims every episode under a folder whose meta/info.json names a version.

        A data set of version 3 is one claim, which `read` rejects as unsupported.
        """
        claims: list[Claim] = []
        for path in tree.paths:
            if path != INFO and not path.endswith(f"/{INFO}"):
                continue
            base = path.removesuffix(INFO)
            try:
                head = tree.head(path)
            except DataError:
                continue
            if b'"codebase_version"' in head:
                inside = {p.removeprefix(base) for p in tree.paths if p.startswith(base)}
                claims += _claims(tree, base, inside)
        return claims

    def open(self, log: LogRef, options: ReadOptions) -> WholeLog:
        """Opens an episode; unusable cameras become rejects.

        Frames have the times of the table's rows if a video has as many frames as there are
        rows. `options.native` keeps the columns of scalars.

        Raises:
            DataError: the episode's table or meta/info.json is unusable.
        """
        members = {member.name: member for member in log.members}
        if INFO not in members:
            raise EmptyError(f"{log.uri}: its data set has no {INFO}; copy it too")
        metadata = _metadata(members[INFO])
        episode = next((name for name in members if EPISODE.fullmatch(name)), None)
        if episode is None:
            raise EmptyError(f"{log.uri}: no episode table (episode_*.parquet); copy it too")
        uri = members[episode].uri
        table = _table(uri, options)
        t_ns = _times(table, uri)
        videos, rejects = _videos(log, members, metadata, t_ns)
        names, position = _vectors(table, STATE, metadata, uri)
        velocity = (
            _vectors(table, VELOCITY, metadata, uri)[1] if VELOCITY in table.column_names else None
        )
        action = _vectors(table, ACTION, metadata, uri)[1] if ACTION in table.column_names else None
        header = LogHeader(
            log=log,
            drive_id=f"{episode.rpartition('/')[2].removesuffix('.parquet')}_{log.log_id}",
            vehicle_id=metadata.robot,
            platform="robot",
            duration_ns=int(t_ns[-1]) + round(NS_PER_S / metadata.fps),
            clock="none",
            software=f"LeRobot {VERSION}",
            joint_names=names,
        )
        return WholeLog.of(
            header,
            native=_native(table, t_ns) if options.native else (),
            videos=videos,
            joints=Joints(t_ns, position, velocity, action),
            rejects=rejects,
            counts=(
                Count("ingest", "video files", kept=len(videos), rejected=len(rejects)),
                Count("ingest", "video frames", kept=sum(len(video.t_ns) for video in videos)),
                Count("ingest", "joint rows", kept=len(t_ns)),
            ),
        )


def _claims(tree: Tree, base: str, inside: set[str]) -> Iterator[Claim]:
    if any(V3_FILE.fullmatch(name) for name in inside):
        members = sorted(name for name in inside if name.startswith(("data/", "meta/", "videos/")))
        root = base.rstrip("/")
        yield Claim(root or ".", tree.uri(root), tuple(base + name for name in members), base)
        return
    basis = _basis(tree, base + INFO)
    by_name: dict[str, list[str]] = {}
    for name in inside:
        by_name.setdefault(name.rpartition("/")[2], []).append(name)
    for table in sorted(inside):
        match = EPISODE.fullmatch(table)
        if match is None:
            continue
        place, episode = f"videos/{match['place']}", f"{match['name']}.mp4"
        videos = [name for name in by_name.get(episode, ()) if name.startswith(place)]
        paths = tuple(base + name for name in [INFO, table, *sorted(videos)])
        name = base + table.removesuffix(".parquet")
        shared = (base + INFO,)
        yield Claim(name, tree.uri(base + table), paths, base, shared=shared, basis=basis)


def _basis(tree: Tree, path: str) -> str:
    """Digests what an episode depends on of info.json: not what changes as others are recorded."""
    try:
        content = tree.fs.cat_file(tree.where(path), start=0, end=MAX_META_BYTES + 1)
        parsed = json.loads(content)
        kept = {k: v for k, v in parsed.items() if not k.startswith(GROWING)}
        text = json.dumps(kept, sort_keys=True)
    except OSError:
        return "unreadable"  # so it has another identity once it can be read
    except (ValueError, AttributeError, RecursionError):
        text = content[: HEAD_BYTES * 4].hex()
    return digest("info", text)


def _metadata(member: Member) -> _Metadata:
    fs, path = filesystem(member.uri)
    try:
        content = fs.cat_file(path, start=0, end=MAX_META_BYTES + 1)
    except OSError as error:
        raise UnreadableError(
            f"{member.uri}: cannot be read ({error}); check its permissions"
        ) from error
    try:
        parsed = json.loads(content) if len(content) <= MAX_META_BYTES else None
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{member.uri}: not JSON ({error}); copy it again") from error
    if not isinstance(parsed, dict):
        raise CorruptError(
            f"{member.uri}: not a JSON object of at most {MAX_META_BYTES} bytes; copy it again"
        )
    version = parsed.get("codebase_version")
    if version != VERSION:
        raise UnsupportedError(
            f"{member.uri}: codebase_version is {version!r}, only {VERSION!r} is supported; "
            f"convert the data set to {VERSION}, with one file per episode"
        )
    fps, features, robot = parsed.get("fps"), parsed.get("features"), parsed.get("robot_type")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not MIN_FPS <= fps <= MAX_FPS:
        allowed = f"{MIN_FPS:g} to {MAX_FPS:,}"
        raise CorruptError(f"{member.uri}: fps is {fps!r:.80}; it must be a rate of {allowed} Hz")
    if not isinstance(features, dict):
        raise CorruptError(f"{member.uri}: features is {features!r:.80}; it must be an object")
    described = {key: value for key, value in features.items() if isinstance(value, dict)}
    name = robot if isinstance(robot, str) and robot else "unknown"
    return _Metadata(float(fps), name, described)


def _table(uri: str, options: ReadOptions) -> pa.Table:
    """Reads the columns of an episode that are used."""
    fs, path = filesystem(uri)
    try:
        size = fs.size(path)
    except OSError as error:
        raise UnreadableError(f"{uri}: cannot be read ({error}); check its permissions") from error
    if not size:
        raise EmptyError(f"{uri}: has no bytes; copy it again")
    try:
        with fs.open(path, mode="rb") as file:
            parquet = pq.ParquetFile(file)
            rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
            if not 0 < rows <= MAX_ROWS:
                raise CorruptError(f"{uri}: has {rows} rows; it must have 1 to {MAX_ROWS}")
            duplicate = len(set(schema.names)) < len(schema.names)
            if duplicate or "timestamp" not in schema.names or STATE not in schema.names:
                raise CorruptError(
                    f"{uri}: has the columns {schema.names[:20]}; it needs timestamp and {STATE}, "
                    "and no duplicates"
                )
            columns = [
                field.name
                for field in schema
                if field.name in {"timestamp", STATE, VELOCITY, ACTION}
                or (options.native and _is_number(field.type))
            ]
            values = count_values(file, columns)
            needed = values * _VALUE_BYTES + parquet.metadata.serialized_size
            require(uri, f"{rows:,} rows with {values:,} values", needed, options.memory_bytes)
            # In this thread: Arrow's own must not own a Python file while the interpreter ends.
            return parquet.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptError(f"{uri}: cannot be read as Parquet ({error}); copy it again") from error


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _times(table: pa.Table, uri: str) -> IntArray:
    """Returns int64[n] nanoseconds, strictly ascending from 0."""
    column = table.column("timestamp")
    if not _is_number(column.type) or column.null_count:
        raise CorruptError(
            f"{uri}: timestamp is {column.type} with {column.null_count} nulls; it must be in "
            "seconds, without nulls"
        )
    t_s = column.to_numpy().astype(np.float64)
    if not (np.abs(t_s) <= MAX_SECONDS).all():
        row = int(np.argmin(np.abs(t_s) <= MAX_SECONDS))
        raise CorruptError(
            f"{uri}: row {row}: timestamp {t_s[row]} is not within {MAX_SECONDS:g} s; repair it"
        )
    t_ns: IntArray = np.round((t_s - t_s[0]) * NS_PER_S).astype(np.int64)
    if (np.diff(t_ns) <= 0).any():
        row = int(np.argmax(np.diff(t_ns) <= 0)) + 1
        raise CorruptError(
            f"{uri}: row {row}: timestamp {t_s[row]} is not after the previous one; sort the rows"
        )
    return t_ns


def _vectors(
    table: pa.Table, name: str, metadata: _Metadata, uri: str
) -> tuple[tuple[str, ...], Float32Array]:
    """Returns a column of vectors as float32[n, j] and the names of its j elements."""
    column = table.column(name).combine_chunks()
    rows = len(column)
    flat, width = column, 1
    if any(is_list(column.type) for is_list in LISTS):
        widths = pc.unique(pc.list_value_length(column)).to_pylist()
        if column.null_count or len(widths) != 1:
            raise CorruptError(
                f"{uri}: {name} has lists of {widths[:5]} elements; it must have one length, "
                "without nulls"
            )
        flat, width = column.flatten(), widths[0]
    if not _is_number(flat.type) or flat.null_count or rows * width > MAX_VALUES:
        raise CorruptError(f"{uri}: {name} is {column.type}; it must be numbers without nulls")
    names = tuple(_strings(metadata.features.get(name, {}).get("names")))
    if len(names) != width:
        names = tuple(f"{name}[{index}]" for index in range(width))
    values = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    return names, values.reshape(rows, width)


def _strings(names: object) -> Iterator[str]:
    """Yields the strings in nested lists and objects, in order: data sets nest names variously.

    >>> list(_strings([["hip", "knee"], {"motors": ["wrist"]}]))
    ['hip', 'knee', 'wrist']
    """
    stack = [names]
    while stack:
        first = stack.pop()
        if isinstance(first, str):
            yield first
        elif isinstance(first, dict):
            stack += reversed(first.values())
        elif isinstance(first, list):
            stack += reversed(first)


def _native(table: pa.Table, t_ns: IntArray) -> tuple[Channel, ...]:
    return tuple(
        Channel(field.name, t_ns, table.column(field.name).to_numpy().astype(np.float64))
        for field in table.schema
        if _is_number(field.type) and field.name != "timestamp"
    )


def _videos(
    log: LogRef, members: Mapping[str, Member], metadata: _Metadata, t_ns: IntArray
) -> tuple[tuple[Video, ...], tuple[Reject, ...]]:
    found = {name.split("/")[2]: member for name, member in members.items() if VIDEO.match(name)}
    listed = {key for key, feature in metadata.features.items() if feature.get("dtype") == "video"}
    short = [key.rpartition(".")[2] for key in found]
    videos, rejects = [], []
    for key in sorted(listed | set(found)):
        uri = found[key].uri if key in found else f"{log.uri}: camera {key}"
        camera = key.rpartition(".")[2]
        try:
            if key not in found:
                raise EmptyError(
                    f"{uri}: listed in meta/info.json, but its file is missing; copy it"
                )
            video = index_video(uri, camera if short.count(camera) == 1 else key, 0)
        except DataError as error:
            rejects.append(Reject.of(error, uri=uri, stage="ingest", subject=log.log_id))
            continue
        if len(video.t_ns) == len(t_ns):
            frame_ns = round(NS_PER_S / metadata.fps)
            video = replace(video, t_ns=t_ns, duration_ns=int(t_ns[-1]) + frame_ns)
        videos.append(video)
    return tuple(sorted(videos, key=lambda video: video.camera)), tuple(rejects)

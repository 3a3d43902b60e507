"""LeRobot data sets, version 2.1: a log is one episode of a robot.

`data/chunk-*/episode_*.parquet` holds a row a frame, `videos/chunk-*/<key>/episode_*.mp4`
a camera, `meta/info.json` what the columns are. info.json may list more episodes than are
there; those that are not are no logs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import fsspec
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
from schemas.recording import Channel, Joints, Recording, Video
from schemas.records import Count, LogRef, Member, Reject
from schemas.times import NS_PER_S
from transforms.readers import Claim, ReadOptions, Tree
from transforms.video.demux import index_video

INFO = "meta/info.json"
SHARED = (INFO, "meta/tasks.jsonl", "meta/episodes.jsonl")
"""Files that belong to every episode, where they are there."""
EPISODE = re.compile(r"data/(?P<place>chunk-\d+/)(?P<name>episode_\d+)\.parquet")
VIDEO = re.compile(r"videos/chunk-\d+/[^/]+/episode_\d+\.mp4")
V3_FILE = re.compile(r"data/chunk-\d+/file-\d+\.parquet")
VERSION = "v2.1"
STATE, VELOCITY, ACTION = "observation.state", "observation.velocity", "action"
MAX_META_BYTES = 16 << 20
MAX_ROWS = 1 << 24
MAX_VALUES = 1 << 28
MAX_SECONDS = 1e7
MAX_FPS = 10_000
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclass(frozen=True, slots=True)
class Info:
    """What meta/info.json says: frames a second, robot, and each feature's description."""

    fps: float
    robot: str
    features: Mapping[str, Mapping[str, Any]]


class LeRobot:
    """The reader of LeRobot data sets."""

    name: ClassVar[str] = "lerobot"
    version: ClassVar[int] = 1

    def claim(self, tree: Tree) -> list[Claim]:
        """Claims every episode under a folder whose meta/info.json names a version.

        A data set of another version is one claim, so that reading it can say so.
        """
        claims: list[Claim] = []
        for info in tree.paths:
            if info != INFO and not info.endswith(f"/{INFO}"):
                continue
            base = info.removesuffix(INFO)
            try:
                head = tree.head(info)
            except DataError:
                continue
            if b'"codebase_version"' in head:
                inside = {path.removeprefix(base) for path in tree.paths if path.startswith(base)}
                claims += _claims(tree, base, inside)
        return claims

    def read(self, log: LogRef, options: ReadOptions) -> Recording:
        """Reads an episode; a camera that is unusable becomes a reject.

        Frames take the times of the table's rows where there are as many of both.
        `options.native` keeps the columns of one number a row.

        Raises:
            DataError: the episode's table or meta/info.json is unusable.
        """
        members = {member.name: member for member in log.members}
        if INFO not in members:
            raise EmptyError(f"{log.uri}: its data set has no {INFO}; copy it too")
        info = _info(members[INFO])
        episode = next((name for name in members if EPISODE.fullmatch(name)), None)
        if episode is None:
            raise EmptyError(f"{log.uri}: has no episode table")
        uri = members[episode].uri
        table = _table(uri, options)
        t_ns = _times(table, uri)
        videos, rejects = _videos(log, members, info, t_ns)
        names, position = _vectors(table, STATE, info, uri)
        return Recording(
            log=log,
            drive_id=f"{episode.rpartition('/')[2].removesuffix('.parquet')}_{log.log_id}",
            vehicle_id=info.robot,
            platform="robot",
            duration_ns=int(t_ns[-1]) + round(NS_PER_S / info.fps),
            clock="none",
            software=f"LeRobot {VERSION}",
            native=_native(table, t_ns) if options.native else (),
            videos=videos,
            joints=Joints(
                names,
                t_ns,
                position,
                _vectors(table, VELOCITY, info, uri)[1] if VELOCITY in table.column_names else None,
                _vectors(table, ACTION, info, uri)[1] if ACTION in table.column_names else None,
            ),
            rejects=rejects,
            counts=(
                Count("ingest", "video files", kept=len(videos), rejected=len(rejects)),
                Count("ingest", "video frames", kept=sum(len(video.t_ns) for video in videos)),
                Count("ingest", "joint rows", kept=len(t_ns)),
            ),
        )


def _claims(tree: Tree, base: str, inside: set[str]) -> Iterator[Claim]:
    shared = [name for name in SHARED if name in inside]
    if any(V3_FILE.fullmatch(name) for name in inside):
        members = sorted(name for name in inside if name.startswith(("data/", "meta/", "videos/")))
        root = base.rstrip("/")
        yield Claim(root or ".", tree.uri(root), tuple(base + name for name in members), base)
        return
    for table in sorted(inside):
        match = EPISODE.fullmatch(table)
        if match is None:
            continue
        place, episode = f"videos/{match['place']}", f"/{match['name']}.mp4"
        videos = [name for name in inside if name.startswith(place) and name.endswith(episode)]
        paths = tuple(base + name for name in [*shared, table, *sorted(videos)])
        yield Claim(base + table.removesuffix(".parquet"), tree.uri(base + table), paths, base)


def _info(member: Member) -> Info:
    fs, path = fsspec.core.url_to_fs(member.uri)
    try:
        content = fs.cat_file(path, start=0, end=MAX_META_BYTES + 1)
    except OSError as error:
        raise UnreadableError(f"{member.uri}: cannot be read ({error})") from error
    try:
        said = json.loads(content) if len(content) <= MAX_META_BYTES else None
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{member.uri}: is no JSON ({error}); copy it again") from error
    if not isinstance(said, dict):
        raise CorruptError(f"{member.uri}: is no JSON object of at most {MAX_META_BYTES} bytes")
    version = said.get("codebase_version")
    if version != VERSION:
        raise UnsupportedError(
            f"{member.uri}: codebase_version is {version!r}, only {VERSION!r} is read; "
            f"convert the data set to {VERSION}, with one file an episode"
        )
    fps, features, robot = said.get("fps"), said.get("features"), said.get("robot_type")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= MAX_FPS:
        raise CorruptError(f"{member.uri}: fps is {fps!r}; it must be a rate in Hz")
    if not isinstance(features, dict):
        raise CorruptError(f"{member.uri}: features must be an object")
    kept = {key: value for key, value in features.items() if isinstance(value, dict)}
    return Info(float(fps), robot if isinstance(robot, str) and robot else "unknown", kept)


def _table(uri: str, options: ReadOptions) -> pa.Table:
    """Reads the columns of an episode that we use."""
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        size = fs.size(path)
    except OSError as error:
        raise UnreadableError(f"{uri}: cannot be read ({error}); check its permissions") from error
    if not size:
        raise EmptyError(f"{uri}: has no bytes; copy it again")
    try:
        with fs.open(path, "rb") as file:
            parquet = pq.ParquetFile(file)
            rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
            if not 0 < rows <= MAX_ROWS:
                raise CorruptError(f"{uri}: has {rows} rows, not 1 to {MAX_ROWS}")
            twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
            if twice or "timestamp" not in schema.names or STATE not in schema.names:
                raise CorruptError(
                    f"{uri}: needs the columns timestamp and {STATE}, each once; "
                    f"has {schema.names[:20]}"
                )
            columns = [
                field.name
                for field in schema
                if field.name in {"timestamp", STATE, VELOCITY, ACTION}
                or (options.native and _is_number(field.type))
            ]
            # In this thread: Arrow's own must not own a Python file while the interpreter ends.
            return parquet.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorruptError(f"{uri}: cannot be read as Parquet ({error}); copy it again") from error


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _times(table: pa.Table, uri: str) -> IntArray:
    """Returns int64[n], strictly ascending from 0."""
    column = table.column("timestamp")
    if not _is_number(column.type) or column.null_count:
        raise CorruptError(f"{uri}: timestamp is {column.type} with nulls; it must be seconds")
    t_s = column.to_numpy().astype(np.float64)
    if not (np.abs(t_s) <= MAX_SECONDS).all():
        row = int(np.argmin(np.abs(t_s) <= MAX_SECONDS))
        raise CorruptError(f"{uri}: row {row}: timestamp {t_s[row]} is no time of an episode")
    t_ns: IntArray = np.round((t_s - t_s[0]) * NS_PER_S).astype(np.int64)
    if (np.diff(t_ns) <= 0).any():
        row = int(np.argmax(np.diff(t_ns) <= 0)) + 1
        raise CorruptError(f"{uri}: row {row}: timestamp {t_s[row]} is not after the one before")
    return t_ns


def _vectors(
    table: pa.Table, name: str, info: Info, uri: str
) -> tuple[tuple[str, ...], Float32Array]:
    """Returns a column of vectors as float32[n, j] and the names of its j elements."""
    column = table.column(name).combine_chunks()
    rows = len(column)
    flat, width = column, 1
    if any(is_list(column.type) for is_list in LISTS):
        widths = pc.unique(pc.list_value_length(column)).to_pylist()
        if column.null_count or len(widths) != 1:
            raise CorruptError(f"{uri}: {name} has rows of {widths[:5]} values, not of one number")
        flat, width = column.flatten(), widths[0]
    if not _is_number(flat.type) or flat.null_count or rows * width > MAX_VALUES:
        raise CorruptError(f"{uri}: {name} is {column.type}; it must be numbers without nulls")
    names = tuple(_strings(info.features.get(name, {}).get("names")))
    if len(names) != width:
        names = tuple(f"{name}[{index}]" for index in range(width))
    values = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    return names, values.reshape(rows, width)


def _strings(names: object) -> Iterator[str]:
    """Lists the strings of nested lists and objects in order: data sets nest names freely.

    >>> list(_strings([["hip", "knee"], {"motors": ["wrist"]}]))
    ['hip', 'knee', 'wrist']
    """
    left = [names]
    while left:
        first = left.pop()
        if isinstance(first, str):
            yield first
        elif isinstance(first, dict):
            left += reversed(first.values())
        elif isinstance(first, list):
            left += reversed(first)


def _native(table: pa.Table, t_ns: IntArray) -> tuple[Channel, ...]:
    return tuple(
        Channel(field.name, t_ns, table.column(field.name).to_numpy().astype(np.float64))
        for field in table.schema
        if _is_number(field.type) and field.name != "timestamp"
    )


def _videos(
    log: LogRef, members: Mapping[str, Member], info: Info, t_ns: IntArray
) -> tuple[tuple[Video, ...], tuple[Reject, ...]]:
    found = {name.split("/")[2]: member for name, member in members.items() if VIDEO.match(name)}
    wanted = {key for key, feature in info.features.items() if feature.get("dtype") == "video"}
    short = [key.rpartition(".")[2] for key in found]
    videos, rejects = [], []
    for key in sorted(wanted | set(found)):
        uri = found[key].uri if key in found else f"{log.uri}: camera {key}"
        camera = key.rpartition(".")[2]
        try:
            if key not in found:
                raise EmptyError(f"{uri}: meta/info.json lists it, its file is not there; copy it")
            video = index_video(uri, camera if short.count(camera) == 1 else key, 0)
        except DataError as error:
            rejects.append(Reject.of(error, uri=uri, stage="ingest", subject=log.log_id))
            continue
        if len(video.t_ns) == len(t_ns):
            last_ns = round(NS_PER_S / info.fps)
            video = replace(video, t_ns=t_ns, duration_ns=int(t_ns[-1]) + last_ns)
        videos.append(video)
    return tuple(sorted(videos, key=lambda video: video.camera)), tuple(rejects)

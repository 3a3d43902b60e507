"""comma2k19: a log is the folder of one minute, `<dongle>|<route date>/<segment>/`.

Channels are pairs of .npy files, `processed_log/<group>/<channel>/{t,value}`, where `t` is
in seconds since the phone booted. Raw CAN is in four files of `processed_log/CAN/raw_can`.
transforms.readers.comma2k19_signals converts channels to vehicle signals.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from schemas.arrays import AnyArray, FloatArray, IntArray
from schemas.errors import CorruptError, DataError, EmptyError, UnreadableError
from schemas.recording import Channel, LogHeader, Video
from schemas.records import Count, LogRef, Member, Reject
from schemas.times import NS_PER_S
from transforms.budget import require
from transforms.can.dbc import Database, Decoded
from transforms.can.maps import CarMap, car_map
from transforms.npy import load_npy
from transforms.readers import Claim, ReadOptions, Tree, WholeLog
from transforms.readers.comma2k19_signals import (
    COLUMNS,
    Samples,
    native_channels,
    signals_of,
    since,
    utc_start,
)
from transforms.video.demux import index_video

PLACE = re.compile(r"(?:(?P<segment>.*)/)?processed_log/(?:CAN|GNSS|IMU)/[^/]+/[^/]+")
ROUTE = re.compile(r"(?P<dongle>[0-9a-f]{16})[|_](?P<date>\d{4}-\d\d-\d\d--\d\d-\d\d-\d\d)")
RAW_CAN = "processed_log/CAN/raw_can"
FRAME_TIMES = "global_pose/frame_times"
VIDEO = "video.hevc"
VIDEO_FPS = 20
ARRAY = re.compile(r"processed_log/|global_pose/")
READ = re.compile(rf"processed_log/(?:CAN|GNSS|IMU)/|{FRAME_TIMES}$|{re.escape(VIDEO)}$")
"""What is read of a segment's folder."""
_COPIES = 2
"""Memory for a byte of an array: as it is read, and as it is sorted."""
MAX_DISTANCE_S = 600.0
"""Times further from the middle of a one-minute segment are invalid."""


class Comma2k19:
    """The reader of comma2k19 segments."""

    name: ClassVar[str] = "comma2k19"
    version: ClassVar[int] = 3

    def claim(self, tree: Tree) -> list[Claim]:
        """Claims every folder with channels in a processed_log.

        What else is in it, such as a preview, is left out: it would change the log's identity.
        """
        segments = sorted(
            {match["segment"] or "" for path in tree.paths if (match := PLACE.fullmatch(path))}
        )
        claims = []
        for segment in segments:
            base = f"{segment}/" if segment else ""
            # Sorted: the files in a folder are next to each other. "0" follows "/".
            last = bisect_left(tree.paths, f"{segment}0") if segment else len(tree.paths)
            inside = tree.paths[bisect_left(tree.paths, base) : last]
            paths = tuple(path for path in inside if READ.match(path.removeprefix(base)))
            beside = tuple(path for path in inside if not READ.match(path.removeprefix(base)))
            claims.append(Claim(segment or ".", tree.uri(segment), paths, base, beside))
        return claims

    def open(self, log: LogRef, options: ReadOptions) -> WholeLog:
        """Reads a segment; an unusable channel becomes a reject of its own.

        Speed and steering come from the processed channels, the rest from IMU, GNSS and
        radar. With CAN databases, signals decoded from bus 0 replace them, except for the
        yaw rate: the phone's gyro is finer than the car's steps of 0.24 deg/s.

        Counts CAN frames: decoded ones are kept; filtered are those of other buses (1 is
        the radar's, 128 and above are echoes of sent frames) and of ids in no database,
        hence all frames if there is no database; frames shorter than their message are
        rejected.

        Raises:
            DataError: no channel and no video is usable.
            UsageError: a CAN database is unusable.
        """
        database = Database.load(options.dbc)
        files = _Files.of(log)
        array_bytes = sum(member.size for member in log.members if ARRAY.match(member.name))
        what = f"arrays of {array_bytes:,} bytes"
        require(log.uri, what, array_bytes * _COPIES, options.memory_bytes)
        segment = _without_outliers(files.load(), files)
        times = segment.times()
        origin_s = min((float(t_s.min()) for t_s in times.values()), default=0.0)
        video = files.video(segment.frame_s, origin_s)
        ends_ns = [int(since(t_s, origin_s).max()) + 1 for t_s in times.values()]
        ends_ns += [int(video.t_ns[0]) + video.duration_ns] if video else []
        if not ends_ns:
            why = files.rejects[0].detail if files.rejects else "it has no known channel"
            found = all(reject.final for reject in files.rejects)
            kind = EmptyError if found else UnreadableError
            raise kind(f"{log.uri}: nothing of this segment is usable; {why}")
        signals = {channel.name: channel for channel in signals_of(segment.channels, origin_s)}
        native = list(native_channels(segment.channels, origin_s)) if options.native else []
        counts: tuple[Count, ...] = ()
        if segment.can is not None:
            decoded, t_ns = segment.can.decode(database, origin_s)
            counts = (_count(decoded, len(segment.can.bus)),)
            map_ = car_map(database, options.can_maps)
            signals = _with_can(signals, map_, decoded, t_ns)
            native += _native_can(decoded, t_ns) if options.native else []
        drive_id, vehicle_id = _drive(log)
        header = LogHeader(
            log=log,
            drive_id=drive_id,
            vehicle_id=vehicle_id,
            platform="vehicle",
            duration_ns=max(ends_ns),
            clock="boot",
            start_ns=utc_start(segment.channels, origin_s),
        )
        return WholeLog.of(
            header,
            signals=tuple(signals[name] for name in sorted(signals)),
            native=tuple(native),
            videos=(video,) if video else (),
            rejects=tuple(files.rejects),
            counts=counts,
        )


@dataclass(frozen=True, slots=True)
class _CanFrames:
    """Raw CAN: t_s float64[n], bus and address int64[n], payload uint8[n, w]."""

    t_s: FloatArray
    bus: IntArray
    address: IntArray
    payload: AnyArray

    def decode(self, database: Database, origin_s: float) -> tuple[Decoded, IntArray]:
        """Decodes the m frames of bus 0, and returns their times int64[m]."""
        rows = np.flatnonzero(self.bus == 0)
        decoded = database.decode(self.address[rows], self.payload[rows])
        return decoded, since(self.t_s[rows], origin_s)


@dataclass(frozen=True, slots=True)
class _Segment:
    """The usable contents of a segment, without its video."""

    channels: dict[str, Samples]
    can: _CanFrames | None
    frame_s: FloatArray | None

    def times(self) -> dict[str, FloatArray]:
        """Returns the boot times, in s, of everything that has any, by path."""
        times = {f"processed_log/{name}": samples.t_s for name, samples in self.channels.items()}
        if self.can is not None and len(self.can.t_s):
            times[RAW_CAN] = self.can.t_s
        if self.frame_s is not None:
            times[FRAME_TIMES] = self.frame_s
        return times


def _without_outliers(segment: _Segment, files: _Files) -> _Segment:
    """Removes and rejects what has times far from the middle of the segment."""
    times = segment.times()
    middles = [np.median(t_s) for t_s in times.values()]
    middle = float(np.median(middles)) if middles else 0.0
    for name in [k for k, t_s in times.items() if np.abs(t_s - middle).max() > MAX_DISTANCE_S]:
        error = CorruptError(
            f"{files.log.uri}/{name}: its times are more than {MAX_DISTANCE_S:g} s from those of "
            "the other channels, so they are not of this segment; copy the file again"
        )
        files.reject(error, f"{files.log.uri.rstrip('/')}/{name}")
        del times[name]
    return _Segment(
        {name: s for name, s in segment.channels.items() if f"processed_log/{name}" in times},
        segment.can if RAW_CAN in times else None,
        times.get(FRAME_TIMES),
    )


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of a segment by name; unusable ones become rejects when they are loaded."""

    log: LogRef
    members: Mapping[str, Member]
    rejects: list[Reject]

    @classmethod
    def of(cls, log: LogRef) -> _Files:
        return cls(log, {member.name: member for member in log.members}, [])

    def reject(self, error: DataError, uri: str) -> None:
        self.rejects.append(Reject.of(error, uri=uri, stage="ingest", subject=self.log.log_id))

    def load(self) -> _Segment:
        return _Segment(self._channels(), self._can_frames(), self._frame_times())

    def _channels(self) -> dict[str, Samples]:
        channels = {}
        for name, columns in COLUMNS.items():
            t, value = (self.members.get(f"processed_log/{name}/{part}") for part in ("t", "value"))
            last = t or value
            if last is None:
                continue
            try:
                if t is None or value is None:
                    raise EmptyError(
                        f"{last.uri}: its counterpart, t or value, is missing; copy both"
                    )
                t_s = _times(t)
                last = value
                samples = _samples(t_s, value, len(columns))
                if len(t_s):
                    channels[name] = samples
            except DataError as error:
                self.reject(error, last.uri)
        return channels

    def _can_frames(self) -> _CanFrames | None:
        names = ("t", "src", "address", "data")
        found = [self.members.get(f"{RAW_CAN}/{name}") for name in names]
        present = [member for member in found if member is not None]
        if not present:
            return None
        last = present[0]
        columns: list[AnyArray] = []
        try:
            if len(present) < len(names):
                raise EmptyError(f"{last.uri}: raw CAN needs all of {', '.join(names)}; copy them")
            t_s = _times(last)
            for last, kinds in zip(present[1:], ("iu", "iu", "S"), strict=True):
                column = load_npy(last.uri)
                if column.dtype.kind not in kinds or column.shape != t_s.shape:
                    raise CorruptError(
                        f"{last.uri}: {column.dtype.str}{list(column.shape)} does not match "
                        f"{len(t_s)} times of raw CAN frames; copy it again"
                    )
                columns.append(column)
        except DataError as error:
            self.reject(error, last.uri)
            return None
        bus, address, content = columns
        # Elements of such an array lose trailing zero bytes; a view keeps them.
        payload = np.ascontiguousarray(content).view(np.uint8)
        payload = payload.reshape(len(t_s), content.dtype.itemsize)
        return _CanFrames(t_s, bus.astype(np.int64), address.astype(np.int64), payload)

    def _frame_times(self) -> FloatArray | None:
        member = self.members.get(FRAME_TIMES)
        if member is None:
            return None
        try:
            t_s = _times(member)
        except DataError as error:
            self.reject(error, member.uri)
            return None
        return t_s if len(t_s) else None

    def video(self, frame_s: FloatArray | None, origin_s: float) -> Video | None:
        """Indexes the road camera, with the times of the pose table.

        If that has another number of times than there are frames, the first time and the
        camera's rate are kept, and the table is a reject.
        """
        member = self.members.get(VIDEO)
        if member is None:
            return None
        try:
            video = index_video(member.uri, "front", 0, fps=VIDEO_FPS)
        except DataError as error:
            self.reject(error, member.uri)
            return None
        if frame_s is None:
            return video
        t_ns = np.sort(since(frame_s, origin_s))
        if len(t_ns) != len(video.t_ns):
            times = self.members[FRAME_TIMES].uri
            said = f"{times}: it has {len(t_ns)} times, and the video {len(video.t_ns)} frames"
            self.reject(CorruptError(f"{said}; all but the first are left out"), times)
            return replace(video, t_ns=video.t_ns + t_ns[0])
        frame_ns = NS_PER_S // VIDEO_FPS
        return replace(video, t_ns=t_ns, duration_ns=int(t_ns[-1] - t_ns[0]) + frame_ns)


def _times(member: Member) -> FloatArray:
    """Reads float64[n] seconds, all finite."""
    t_s = load_npy(member.uri)
    if t_s.dtype.kind not in "fiu" or t_s.ndim != 1:
        raise CorruptError(
            f"{member.uri}: {t_s.dtype.str}{list(t_s.shape)} is not a list of times; copy it again"
        )
    t_s = t_s.astype(np.float64)
    if not np.isfinite(t_s).all():
        row = int(np.argmin(np.isfinite(t_s)))
        raise CorruptError(f"{member.uri}: row {row}: {t_s[row]} is not a time; drop the row")
    return t_s


def _samples(t_s: FloatArray, member: Member, columns: int) -> Samples:
    """Reads the values of a channel, and sorts both by time."""
    values = load_npy(member.uri)
    shapes = {(len(t_s), columns)} | ({(len(t_s),)} if columns == 1 else set())
    if values.dtype.kind not in "fiub" or values.shape not in shapes:
        raise CorruptError(
            f"{member.uri}: {values.dtype.str}{list(values.shape)} does not match {len(t_s)} "
            f"times and {columns} columns; copy it again"
        )
    order = np.argsort(t_s, kind="stable")
    rows = values.reshape(len(t_s), columns).astype(np.float64)[order]
    rows[~np.isfinite(rows)] = np.nan
    return Samples(t_s[order], rows)


def _count(decoded: Decoded, total: int) -> Count:
    filtered = total - decoded.decoded - decoded.wrong_length
    return Count(
        "ingest", "CAN frames", decoded.decoded, filtered=filtered, rejected=decoded.wrong_length
    )


def _with_can(
    signals: dict[str, Channel], map_: CarMap | None, decoded: Decoded, t_ns: IntArray
) -> dict[str, Channel]:
    """Replaces signals by those decoded from CAN, except for the yaw rate."""
    if map_ is None:
        return signals
    from_can = {channel.name: channel for channel in map_.channels(decoded, t_ns)}
    if "yaw_rate_radps" in signals:
        from_can.pop("yaw_rate_radps", None)
    return {**signals, **from_can}


def _native_can(decoded: Decoded, t_ns: IntArray) -> list[Channel]:
    return [
        Channel(f"can/{message}/{signal}", t_ns[rows], values)
        for (message, signal), (rows, values) in decoded.values.items()
    ]


def _drive(log: LogRef) -> tuple[str, str]:
    """Returns the ids of drive and vehicle, from the name of the segment's parent folder."""
    parts = log.uri.rstrip("/").split("/")
    match = ROUTE.fullmatch(parts[-2]) if len(parts) > 1 else None
    if match is None:
        return f"unknown_{log.log_id}", "unknown"
    return f"{match['dongle']}_{match['date']}", match["dongle"]

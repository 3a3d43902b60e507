"""comma2k19: a log is one minute's folder, `<dongle>|<route date>/<segment>/`.

Channels are pairs of .npy files `processed_log/<group>/<channel>/{t,value}`; `t` is
seconds since the phone booted. The IMU's axes are forward, right, down: so says the
dataset, and on its example segment the first axis follows the derivative of the wheel
speed (r = 0.84), the second v times the gyro to the right (r = 0.78), the third reads
-9.7 m/s^2, the reaction to gravity, and its gyro turns against the steering (r = -0.90).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from schemas.arrays import AnyArray, FloatArray, IntArray
from schemas.errors import CorruptError, DataError, EmptyError
from schemas.recording import Channel, Recording, Video
from schemas.records import Count, LogRef, Member, Reject
from schemas.times import NS_PER_MS, NS_PER_S
from transforms.can.dbc import Database, Decoded
from transforms.can.maps import car_map
from transforms.npy import load_npy
from transforms.readers import Claim, ReadOptions, Tree
from transforms.video.demux import index_video

PLACE = re.compile(r"(?:(?P<segment>.*)/)?processed_log/(?:CAN|GNSS|IMU)/[^/]+/[^/]+")
ROUTE = re.compile(r"(?P<dongle>[0-9a-f]{16})[|_](?P<date>\d{4}-\d\d-\d\d--\d\d-\d\d-\d\d)")
RAW_CAN = "processed_log/CAN/raw_can"
FRAME_TIMES = "global_pose/frame_times"
VIDEO = "video.hevc"
VIDEO_FPS = 20
REACH_S = 600.0
"""How far from the middle of a one-minute segment a time can be without being forged."""
SMOOTH_S = 0.2
MOVING_MPS = 1.0
LANE_HALF_M = 1.5
RADAR_CYCLE_S = 0.005
UTC_RANGE_MS = (946_684_800_000, 4_102_444_800_000)
"""The years 2000 to 2100."""

AXES = ("forward", "right", "down")
LIVE = ("lat_deg", "lon_deg", "speed_mps", "utc_ms", "alt_m", "bearing_deg")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "CAN/speed": ("",),
    "CAN/steering_angle": ("",),
    "CAN/wheel_speed": ("front_left", "front_right", "rear_left", "rear_right"),
    "CAN/radar": ("forward_m", "left_m", "speed_mps", "3", "4", "address", "new_track"),
    "GNSS/live_gnss_qcom": LIVE,
    "GNSS/live_gnss_ublox": LIVE,
    "GNSS/raw_gnss_qcom": tuple("0123456789"),
    "GNSS/raw_gnss_ublox": tuple("0123456789"),
    "IMU/accelerometer": AXES,
    "IMU/gyro": AXES,
    "IMU/gyro_bias": AXES,
    "IMU/gyro_uncalibrated": AXES,
    "IMU/magnetometer": AXES,
    "IMU/magnetometer_uncalibrated": AXES,
}
"""The channels and what their columns are; the dataset's own description and units."""


@dataclass(frozen=True, slots=True)
class Samples:
    """One channel: t_s float64[n] ascending, s since boot; values float64[n, c], NaN or finite."""

    t_s: FloatArray
    values: FloatArray


@dataclass(frozen=True, slots=True)
class Frames:
    """Raw CAN: t_s float64[n], bus and address int64[n], payload uint8[n, w]."""

    t_s: FloatArray
    bus: IntArray
    address: IntArray
    payload: AnyArray


class Comma2k19:
    """The reader of comma2k19 segments."""

    name: ClassVar[str] = "comma2k19"
    version: ClassVar[int] = 1

    def claim(self, tree: Tree) -> list[Claim]:
        """Claims every folder that holds a processed_log with channels, and all in it."""
        segments = sorted(
            {match["segment"] or "" for path in tree.paths if (match := PLACE.fullmatch(path))}
        )
        claims = []
        for segment in segments:
            base = f"{segment}/" if segment else ""
            paths = tuple(path for path in tree.paths if path.startswith(base))
            claims.append(Claim(segment or ".", tree.uri(segment), paths, base))
        return claims

    def read(self, log: LogRef, options: ReadOptions) -> Recording:
        """Reads a segment; a channel that is unusable becomes a reject of its own.

        Speed and steering come from the processed channels, the rest from IMU, GNSS and
        radar. With CAN databases, what bus 0 says replaces them, less the yaw rate, which
        the phone's gyro measures finer than the car's 0.24 deg/s steps. Counts one unit,
        "CAN frames": kept are decoded ones, filtered those of other buses (1 is the
        radar's, 128 and up are echoes of what was sent) and of ids in no database, hence
        all without one; rejected are too short ones.

        Raises:
            DataError: no channel and no video is usable.
            UsageError: a CAN database is unusable.
        """
        database = Database.load(options.dbc)
        members = {member.name: member for member in log.members}
        rejects: list[Reject] = []
        channels = _channels(members, log, rejects)
        frames = _frames(members, log, rejects)
        frame_s = _frame_times(members, log, rejects)
        clocks = {f"processed_log/{name}": samples.t_s for name, samples in channels.items()}
        clocks |= {RAW_CAN: frames.t_s} if frames and len(frames.t_s) else {}
        clocks |= {FRAME_TIMES: frame_s} if frame_s is not None else {}
        for name in _strays(clocks):
            error = CorruptError(
                f"{log.uri}/{name}: its times lie more than {REACH_S:g} s from those of the "
                "other channels; they are no boot time of this segment"
            )
            rejects.append(_reject(error, log, f"{log.uri.rstrip('/')}/{name}"))
            del clocks[name]
        channels = {
            name: samples for name, samples in channels.items() if f"processed_log/{name}" in clocks
        }
        frames = frames if RAW_CAN in clocks else None
        origin_s = min((float(t_s.min()) for t_s in clocks.values()), default=0.0)
        video = _video(members, log, rejects, clocks.get(FRAME_TIMES), origin_s)
        ends_ns = [int(_since(t_s, origin_s).max()) + 1 for t_s in clocks.values()]
        ends_ns += [int(video.t_ns[0]) + video.duration_ns] if video else []
        if not ends_ns:
            why = rejects[0].detail if rejects else "it has no known channel"
            raise EmptyError(f"{log.uri}: nothing of this segment is usable; first of all: {why}")

        signals = {channel.name: channel for channel in _signals(channels, origin_s)}
        native = list(_native(channels, origin_s)) if options.native else []
        counts: tuple[Count, ...] = ()
        if frames is not None:
            bus0 = np.flatnonzero(frames.bus == 0)
            t_ns = _since(frames.t_s[bus0], origin_s)
            decoded = database.decode(frames.address[bus0], frames.payload[bus0])
            counts = (_count(decoded, len(frames.bus)),)
            said = car_map(database)
            for channel in said.channels(decoded, t_ns) if said else ():
                if channel.name != "yaw_rate_radps" or channel.name not in signals:
                    signals[channel.name] = channel
            if options.native:
                native += [
                    Channel(f"can/{message}/{signal}", t_ns[rows], values)
                    for (message, signal), (rows, values) in decoded.values.items()
                ]
        drive_id, vehicle_id = _drive(log)
        return Recording(
            log=log,
            drive_id=drive_id,
            vehicle_id=vehicle_id,
            platform="vehicle",
            duration_ns=max(ends_ns),
            clock="boot",
            start_ns=_utc_start(channels, origin_s),
            signals=tuple(signals[name] for name in sorted(signals)),
            native=tuple(native),
            videos=(video,) if video else (),
            rejects=tuple(rejects),
            counts=counts,
        )


def _drive(log: LogRef) -> tuple[str, str]:
    """Returns drive and vehicle, by the folder that the segment lies in."""
    parts = log.uri.rstrip("/").split("/")
    match = ROUTE.fullmatch(parts[-2]) if len(parts) > 1 else None
    if match is None:
        return f"unknown_{log.log_id}", "unknown"
    return f"{match['dongle']}_{match['date']}", match["dongle"]


def _reject(error: DataError, log: LogRef, uri: str) -> Reject:
    return Reject.of(error, uri=uri, stage="ingest", subject=log.log_id)


def _times(member: Member) -> FloatArray:
    t_s = load_npy(member.uri)
    if t_s.dtype.kind not in "fiu" or t_s.ndim != 1:
        raise CorruptError(f"{member.uri}: {t_s.dtype.str}{list(t_s.shape)} is no list of times")
    t_s = t_s.astype(np.float64)
    if not np.isfinite(t_s).all():
        row = int(np.argmin(np.isfinite(t_s)))
        raise CorruptError(f"{member.uri}: row {row}: {t_s[row]} is no time; drop the row")
    return t_s


def _channels(
    members: Mapping[str, Member], log: LogRef, rejects: list[Reject]
) -> dict[str, Samples]:
    channels = {}
    for name, columns in COLUMNS.items():
        t, value = (members.get(f"processed_log/{name}/{part}") for part in ("t", "value"))
        if t is None and value is None:
            continue
        last = t or value or log.members[0]
        try:
            if t is None or value is None:
                raise EmptyError(f"{last.uri}: t or value is missing beside it; copy both")
            t_s = _times(t)
            last = value
            values = load_npy(value.uri)
            if values.dtype.kind not in "fiub" or not _fits(values, len(t_s), len(columns)):
                raise CorruptError(
                    f"{value.uri}: {values.dtype.str}{list(values.shape)} is no channel of "
                    f"{len(t_s)} times and {len(columns)} columns"
                )
            if len(t_s):
                order = np.argsort(t_s, kind="stable")
                rows = values.reshape(len(t_s), len(columns)).astype(np.float64)[order]
                rows[~np.isfinite(rows)] = np.nan
                channels[name] = Samples(t_s[order], rows)
        except DataError as error:
            rejects.append(_reject(error, log, last.uri))
    return channels


def _fits(values: AnyArray, rows: int, columns: int) -> bool:
    return values.shape == (rows, columns) or (columns == 1 and values.shape == (rows,))


def _frames(members: Mapping[str, Member], log: LogRef, rejects: list[Reject]) -> Frames | None:
    names = ("t", "src", "address", "data")
    found = [members.get(f"{RAW_CAN}/{name}") for name in names]
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
                    f"{last.uri}: {column.dtype.str}{list(column.shape)} does not go with "
                    f"{len(t_s)} times of raw CAN frames"
                )
            columns.append(column)
    except DataError as error:
        rejects.append(_reject(error, log, last.uri))
        return None
    bus, address, content = columns
    # An element of such an array drops its trailing zero bytes; a view keeps them.
    payload = np.ascontiguousarray(content).view(np.uint8)
    payload = payload.reshape(len(t_s), content.dtype.itemsize)
    return Frames(t_s, bus.astype(np.int64), address.astype(np.int64), payload)


def _frame_times(
    members: Mapping[str, Member], log: LogRef, rejects: list[Reject]
) -> FloatArray | None:
    member = members.get(FRAME_TIMES)
    if member is None:
        return None
    try:
        t_s = _times(member)
    except DataError as error:
        rejects.append(_reject(error, log, member.uri))
        return None
    return t_s if len(t_s) else None


def _strays(clocks: Mapping[str, FloatArray]) -> list[str]:
    """Names the channels whose times are far from the middle of the segment."""
    if not clocks:
        return []
    middle = float(np.median([np.median(t_s) for t_s in clocks.values()]))
    return [name for name, t_s in clocks.items() if np.abs(t_s - middle).max() > REACH_S]


def _since(t_s: FloatArray, origin_s: float) -> IntArray:
    return np.round((t_s - origin_s) * NS_PER_S).astype(np.int64)


def _video(
    members: Mapping[str, Member],
    log: LogRef,
    rejects: list[Reject],
    frame_s: FloatArray | None,
    origin_s: float,
) -> Video | None:
    """Indexes the road camera; frames take the times of the pose table if it has as many."""
    member = members.get(VIDEO)
    if member is None:
        return None
    try:
        video = index_video(member.uri, "front", 0, fps=VIDEO_FPS)
    except DataError as error:
        rejects.append(_reject(error, log, member.uri))
        return None
    if frame_s is None or len(frame_s) != len(video.t_ns):
        return video
    t_ns = np.sort(_since(frame_s, origin_s))
    frame_ns = NS_PER_S // VIDEO_FPS
    return replace(video, t_ns=t_ns, duration_ns=int(t_ns[-1] - t_ns[0]) + frame_ns)


def _count(decoded: Decoded, total: int) -> Count:
    filtered = total - decoded.decoded - decoded.wrong_length
    return Count(
        "ingest", "CAN frames", decoded.decoded, filtered=filtered, rejected=decoded.wrong_length
    )


def _live(channels: Mapping[str, Samples]) -> Samples | None:
    """The GNSS receiver to trust: ublox at 10 Hz, else qcom at 0.5 Hz."""
    for name in ("GNSS/live_gnss_ublox", "GNSS/live_gnss_qcom"):
        if name in channels:
            return channels[name]
    return None


def _utc_start(channels: Mapping[str, Samples], origin_s: float) -> int | None:
    """UTC of t_ns 0: the median over GNSS fixes of their time less their boot time."""
    live = _live(channels)
    if live is None:
        return None
    utc_ms = live.values[:, LIVE.index("utc_ms")]
    usable = (utc_ms >= UTC_RANGE_MS[0]) & (utc_ms <= UTC_RANGE_MS[1])
    if not usable.any():
        return None
    # float64 holds UTC nanoseconds to 256 ns only, so the median is of what differs.
    base_ms = int(utc_ms[usable][0])
    rest_ns = (utc_ms[usable] - base_ms) * NS_PER_MS - _since(live.t_s[usable], origin_s)
    return base_ms * NS_PER_MS + round(float(np.median(rest_ns)))


def _native(channels: Mapping[str, Samples], origin_s: float) -> Iterator[Channel]:
    for name, samples in channels.items():
        t_ns = _since(samples.t_s, origin_s)
        for column, values in zip(COLUMNS[name], samples.values.T, strict=True):
            yield Channel(f"{name}/{column}" if column else name, t_ns, values)


def _signals(channels: Mapping[str, Samples], origin_s: float) -> Iterator[Channel]:
    def channel(name: str, t_s: FloatArray, values: FloatArray) -> Channel:
        return Channel(name, _since(t_s, origin_s), values)

    if speed := channels.get("CAN/speed"):
        yield channel("speed_mps", speed.t_s, np.abs(speed.values[:, 0]))
    if angle := channels.get("CAN/steering_angle"):
        yield channel("steering_angle_rad", angle.t_s, np.radians(angle.values[:, 0]))
    gyro = channels.get("IMU/gyro")
    if gyro:
        yield channel("yaw_rate_radps", gyro.t_s, -gyro.values[:, 2])
    if acceleration := channels.get("IMU/accelerometer"):
        moved = _level(acceleration, gyro, speed)
        for axis, values in zip("xyz", moved.T, strict=True):
            yield channel(f"accel_{axis}_mps2", acceleration.t_s, values)
    if live := _live(channels):
        for name in ("lat_deg", "lon_deg", "alt_m"):
            yield channel(name, live.t_s, live.values[:, LIVE.index(name)])
        # The course of a standing receiver is noise.
        moving = live.values[:, LIVE.index("speed_mps")] >= MOVING_MPS
        bearing = np.radians(live.values[moving, LIVE.index("bearing_deg")])
        course = np.pi - np.mod(np.pi / 2 + bearing, 2 * np.pi)
        yield channel("heading_rad", live.t_s[moving], course)
    radar = channels.get("CAN/radar")
    if radar and speed:
        t_s, distance, lead_speed = _lead(radar, speed)
        yield channel("lead_distance_m", t_s, distance)
        yield channel("lead_speed_mps", t_s, lead_speed)


def _level(acceleration: Samples, gyro: Samples | None, speed: Samples | None) -> FloatArray:
    """Brings the accelerometer into the vehicle frame, smoothed, without gravity.

    The phone hangs on the windscreen: it is tilted by a few degrees and feels vibration
    of several m/s^2 that the car as a whole does not. So samples are means over 0.2 s,
    and gravity is what is left of a minute's mean when the motion that wheels and gyro
    saw is taken off: mean dv/dt forward, mean v times yaw rate to the left, nothing up.

    Returns:
        float64[n, 3]: forward, left, up, m/s^2.
    """
    force = acceleration.values * np.array([1.0, -1.0, -1.0])
    motion = np.zeros(3)
    known = np.isfinite(speed.values[:, 0]) if speed else np.zeros(0, np.bool_)
    if speed and known.sum() > 1:
        t_s, v = speed.t_s[known], speed.values[known, 0]
        motion[0] = (v[-1] - v[0]) / max(t_s[-1] - t_s[0], 1.0)
        if gyro:
            motion[1] = np.nanmean(np.interp(gyro.t_s, t_s, v) * -gyro.values[:, 2])
    gravity = np.nanmean(force, axis=0) - motion
    step_s = np.median(np.diff(acceleration.t_s)) if len(acceleration.t_s) > 1 else 0.0
    half = int(SMOOTH_S / step_s / 2) if step_s > 0 else 0
    kernel = np.ones(2 * min(half, (len(force) - 1) // 2) + 1)
    weight = np.convolve(np.ones(len(force)), kernel, mode="same")
    smooth = [np.convolve(axis, kernel, mode="same") / weight for axis in (force - gravity).T]
    return np.stack(smooth, axis=1)


def _lead(radar: Samples, speed: Samples) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Picks the vehicle ahead: of each radar cycle the nearest track in our lane.

    Our lane is 1.5 m to either side of straight ahead, so bends lose the lead; cycles
    without one give no sample.

    Returns:
        Its time in s, distance in m and speed over ground in m/s, float64[m] each.
    """
    forward, left, relative = radar.values[:, 0], radar.values[:, 1], radar.values[:, 2]
    ahead = (forward > 0) & (np.abs(left) <= LANE_HALF_M) & np.isfinite(relative)
    # Tracks of one cycle arrive in a burst: sorted by burst, then by distance.
    cycle = np.cumsum(np.diff(radar.t_s, prepend=-np.inf) > RADAR_CYCLE_S)
    nearest = np.lexsort((forward[ahead], cycle[ahead]))
    first = np.flatnonzero(np.diff(cycle[ahead][nearest], prepend=-1))
    picked = np.flatnonzero(ahead)[nearest[first]]
    t_s = radar.t_s[picked]
    ours = np.interp(t_s, speed.t_s, np.abs(speed.values[:, 0]))
    return t_s, forward[picked], ours + relative[picked]

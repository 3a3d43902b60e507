"""TeslaCam: the folders that a Tesla writes to its dashcam drive.

A log is one event folder (SavedClips, SentryClips), or one uninterrupted series of minutes
in RecentClips. The stamp in a file's name is local time without a zone, in seconds; t_ns 0
is the earliest stamp of the log. Files of EncryptedClips are opaque and stay unclaimed.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

import numpy as np

from schemas.arrays import AnyArray, FloatArray, IntArray
from schemas.errors import CorruptError, DataError, EmptyError, UnreadableError
from schemas.recording import Annotation, Channel, LogHeader, Video
from schemas.records import Count, LogRef, Member, Reject
from schemas.signals import SIGNAL
from schemas.times import NS_PER_MS, NS_PER_S
from transforms.readers import Claim, ReadOptions, Tree, WholeLog, is_encrypted
from transforms.video.demux import open_video, read_video_track, video_of
from transforms.video.sei import TelemetryColumns, find_telemetry

RUN_GAP = timedelta(seconds=90)
"""Files of RecentClips whose stamps are further apart belong to different logs."""
MAX_LOG = timedelta(days=2)
"""Files stamped later after the log's first one belong to another recording."""
MAX_STEP_NS = 60 * NS_PER_S
"""The length of a file, and so the longest that two of its pictures can be apart."""
MAX_EVENT_BYTES = 1 << 20
EVENT_REACH = timedelta(minutes=2)
"""An event is at most so far outside its footage, whose last minute may be missing."""

YAW_WINDOW_NS = 300 * NS_PER_MS
YAW_GAP_NS = 500 * NS_PER_MS
YAW_MIN_SPEED_MPS = 1.0

_STAMP = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
_FILE = re.compile(rf"({_STAMP})-([a-z]+(?:_[a-z]+)*)\.mp4")
_FOLDER = re.compile(_STAMP)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class _Clip:
    """One camera's file of about a minute."""

    start: datetime
    camera: str
    member: Member


class TeslaCam:
    """The reader of TeslaCam folders."""

    name: ClassVar[str] = "teslacam"
    version: ClassVar[int] = 3

    def claim(self, tree: Tree) -> list[Claim]:
        """Claims event folders by their files' names, and series of files outside of them."""
        present = set(tree.paths)
        folders: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
        for path in tree.paths:
            folder, _, name = path.rpartition("/")
            parsed = _parse_name(name)
            if parsed is not None and not is_encrypted(tree.where(folder)):
                folders[folder].append((parsed[0], path))
        claims = []
        loose: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
        for folder, files in folders.items():
            last = tree.where(folder).rpartition("/")[2]
            event = f"{folder}/event.json".lstrip("/")
            if _FOLDER.fullmatch(last) or event in present:
                paths = [path for _, path in files] + [event] * (event in present)
                # All cameras in one picture, which the car makes for its app.
                merged = tuple({f"{folder}/event.mp4".lstrip("/")} & present)
                place = (folder or last, tree.uri(folder))
                claims.append(Claim(*place, tuple(paths), _base(folder), merged))
            else:
                # RecentClips may have one folder per day; drives may continue over midnight.
                home = folder.rpartition("/")[0] if _DAY.fullmatch(last) and folder else folder
                loose[home] += files
        for home, files in loose.items():
            for run in _runs(sorted(files)):
                name = f"{home}/{run[0][0]:%Y-%m-%d_%H-%M-%S}".lstrip("/")
                paths = [path for _, path in run]
                claims.append(Claim(name, tree.uri(home), tuple(paths), _base(home)))
        return claims

    def open(self, log: LogRef, options: ReadOptions) -> WholeLog:
        """Opens one log; unusable files become rejects.

        A file starts at its stamp, or at the end of the same camera's previous file if that
        is later, as stamps are truncated to whole seconds.

        Raises:
            DataError: no file of the log is usable.
        """
        clips = sorted(_clips(log), key=lambda clip: (clip.start, clip.camera))
        if not clips:
            raise EmptyError(f"{log.uri}: no file named <stamp>-<camera>.mp4; remove the folder")
        start = clips[0].start
        footage = _Footage(start)
        rejects: list[Reject] = []
        # The front camera first: telemetry is read from one camera per minute.
        for clip in sorted(clips, key=lambda c: (c.start, c.camera != "front", c.camera)):
            try:
                footage.add(clip)
            except DataError as error:
                rejects.append(_reject(error, log, clip.member))
        if not footage.videos:
            first = rejects[0].detail
            kind = CorruptError if all(r.final for r in rejects) else UnreadableError
            raise kind(f"{log.uri}: none of its {len(clips)} videos is usable; {first}")
        duration_ns = max(footage.end_ns.values())
        signals, native = _signals(footage.telemetry.values(), duration_ns)
        annotations: tuple[Annotation, ...] = ()
        event = next((member for member in log.members if member.name == "event.json"), None)
        if event is not None:
            try:
                annotations = (_annotation(event, start, duration_ns),)
            except DataError as error:
                rejects.append(_reject(error, log, event))
        vehicle = _vehicle(log.uri)
        header = LogHeader(
            log=log,
            # Saved, sentry and recent clips overlap: if drives were shorter than a day, the
            # same minute could be in two splits.
            drive_id=f"{vehicle}/{start:%Y-%m-%d}",
            vehicle_id=vehicle,
            platform="vehicle",
            duration_ns=duration_ns,
            clock="local",
            start_local=start.isoformat(),
        )
        return WholeLog.of(
            header,
            signals=signals,
            native=native if options.native else (),
            videos=tuple(sorted(footage.videos, key=lambda v: (v.camera, int(v.t_ns[0]), v.uri))),
            annotations=annotations,
            rejects=tuple(rejects),
            counts=footage.counts(len(clips)),
        )


@dataclass(slots=True)
class _Footage:
    """The videos and the telemetry of a log, while its files are read one by one.

    `telemetry` maps the start of a minute to sample times int64[n] and their columns,
    `end_ns` a camera to the end of its last file.
    """

    start: datetime
    videos: list[Video] = field(default_factory=list)
    telemetry: dict[datetime, tuple[IntArray, TelemetryColumns]] = field(default_factory=dict)
    end_ns: dict[str, int] = field(default_factory=dict)
    invalid_messages: int = 0

    def add(self, clip: _Clip) -> None:
        """Indexes one file, and reads its telemetry if this minute has none yet.

        Raises:
            DataError: the file is unusable.
        """
        uri = clip.member.uri
        if clip.start - self.start > MAX_LOG:
            raise CorruptError(
                f"{uri}: its stamp is days after the log's first, {self.start}; "
                "move the file to a folder of its own"
            )
        start_ns = max(_ns(clip.start - self.start), self.end_ns.get(clip.camera, 0))
        with open_video(uri) as file:
            track = read_video_track(file, uri)
            video = video_of(track, uri, clip.camera, start_ns)
            step_ns = int(np.diff(video.t_ns).max(initial=0))
            if step_ns > MAX_STEP_NS:
                raise CorruptError(
                    f"{uri}: a picture is {step_ns / NS_PER_S:.3g} s after the one before it; "
                    "remux the file"
                )
            # A camera that starts late has its first picture later than the others of its minute.
            late_ns = round(int(video.pts[0]) * video.time_base[0] * NS_PER_S / video.time_base[1])
            if 0 < late_ns < MAX_STEP_NS:
                start_ns = max(start_ns, _ns(clip.start - self.start) + late_ns)
                video = replace(video, t_ns=video.t_ns - video.t_ns[0] + start_ns)
            if clip.start not in self.telemetry:
                found = find_telemetry(file, track, uri)
                self.invalid_messages += found.invalid
                if len(found.row):
                    t_ns = _row_times(track.pts, found.row, video)
                    self.telemetry[clip.start] = (t_ns, found)
        self.videos.append(video)
        self.end_ns[clip.camera] = start_ns + video.duration_ns

    def counts(self, clips: int) -> tuple[Count, ...]:
        """Accounts for the log's `clips` files, their frames and their telemetry."""
        messages = sum(len(found.row) for _, found in self.telemetry.values())
        return (
            Count("ingest", "video files", len(self.videos), 0, clips - len(self.videos)),
            Count("ingest", "video frames", sum(len(v.t_ns) for v in self.videos)),
            Count("ingest", "telemetry messages", messages, 0, self.invalid_messages),
        )


def _reject(error: DataError, log: LogRef, member: Member) -> Reject:
    return Reject.of(error, uri=member.uri, stage="ingest", subject=log.log_id)


def _ns(delta: timedelta) -> int:
    return delta // timedelta(microseconds=1) * 1000


def _base(folder: str) -> str:
    return f"{folder}/" if folder else ""


def _parse_name(name: str) -> tuple[datetime, str] | None:
    """Parses `<stamp>-<camera>.mp4`; returns None for other names."""
    match = _FILE.fullmatch(name)
    if match is None:
        return None
    try:
        # The format has no time zone.
        return datetime.strptime(match[1], "%Y-%m-%d_%H-%M-%S"), match[2]  # noqa: DTZ007
    except ValueError:
        return None


def _runs(files: Sequence[tuple[datetime, str]]) -> Iterable[list[tuple[datetime, str]]]:
    """Splits sorted files where the recording was interrupted."""
    run: list[tuple[datetime, str]] = []
    for file in files:
        if run and file[0] - run[-1][0] > RUN_GAP:
            yield run
            run = []
        run.append(file)
    if run:
        yield run


def _clips(log: LogRef) -> Iterable[_Clip]:
    for member in log.members:
        parsed = _parse_name(member.name.rpartition("/")[2])
        if parsed is not None:
            yield _Clip(parsed[0], parsed[1], member)


def _vehicle(uri: str) -> str:
    """Names the vehicle by the folder that holds `TeslaCam`, as the format has no vehicle id.

    >>> _vehicle("/fleet/car-7/TeslaCam/SavedClips/2026-03-17_17-52-09")
    'car-7'
    >>> _vehicle("/clips/2026-03-17_17-52-09")
    'unknown'
    """
    parts = uri.rstrip("/").split("/")
    if "TeslaCam" not in parts:
        return "unknown"
    return parts[max(parts.index("TeslaCam") - 1, 0)] or "unknown"


def _row_times(pts: IntArray, rows: IntArray, video: Video) -> IntArray:
    """Returns the times of samples of a track, including those that an edit list hides."""
    num, den = video.time_base
    since_first = (pts[rows] - video.pts[0]) * (num * NS_PER_S / den)
    return np.asarray(video.t_ns[0] + np.rint(since_first), np.int64)


def _signals(
    telemetry: Collection[tuple[IntArray, TelemetryColumns]], duration_ns: int
) -> tuple[tuple[Channel, ...], tuple[Channel, ...]]:
    """Joins the telemetry of all minutes; returns signals and native channels."""
    if not telemetry:
        return (), ()
    t_ns = np.concatenate([t for t, _ in telemetry])
    order = np.argsort(t_ns, kind="stable")
    order = order[(t_ns[order] >= 0) & (t_ns[order] < duration_ns)]
    t_ns = t_ns[order]
    parts = [found.columns for _, found in telemetry]
    columns: dict[str, AnyArray] = {
        name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]
    }
    columns["engaged"] = columns["autopilot"] != 0
    columns["yaw_rate_radps"] = yaw_rate(t_ns, columns["heading_rad"], columns["speed_mps"])
    signals = []
    for name in SIGNAL:
        if name in columns:
            values = columns[name]
            known = ~np.isnan(values) if values.dtype == np.float64 else values != ""
            signals.append(Channel(name, t_ns[known], values[known]))
    native = tuple(
        Channel(f"sei/{name}", t_ns, values.astype(np.float64))
        for name, values in columns.items()
        if values.dtype != object and name not in {"engaged", "yaw_rate_radps"}
    )
    return tuple(signals), native


def yaw_rate(t_ns: IntArray, heading_rad: FloatArray, speed_mps: FloatArray) -> FloatArray:
    """Derives the yaw rate from the heading, as the telemetry has none.

    It is the change of the unwrapped heading over a window of 0.3 s around each sample,
    divided by the window's length. It is NaN below walking pace, where the heading is noise;
    windows do not extend over gaps of more than 0.5 s.

    Args:
        t_ns: int64[n], ascending.
        heading_rad: float64[n].
        speed_mps: float64[n].

    >>> t = np.arange(0, 1_000_000_000, 100_000_000)
    >>> yaw_rate(t, t * 2e-10, np.full(10, 9.0)).round(6)
    array([0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2])
    """
    rate = np.full(len(t_ns), np.nan)
    usable = np.flatnonzero(np.isfinite(heading_rad) & (speed_mps > YAW_MIN_SPEED_MPS))
    breaks = np.flatnonzero(np.diff(t_ns[usable]) > YAW_GAP_NS) + 1
    for run in np.split(usable, breaks):
        if len(run) < 2 or t_ns[run[-1]] == t_ns[run[0]]:
            continue
        t = t_ns[run].astype(np.float64)
        before = np.maximum(t - YAW_WINDOW_NS / 2, t[0])
        after = np.minimum(t + YAW_WINDOW_NS / 2, t[-1])
        heading = np.unwrap(heading_rad[run])
        turned = np.interp(after, t, heading) - np.interp(before, t, heading)
        rate[run] = turned / ((after - before) / NS_PER_S)
    return rate


def _annotation(member: Member, start: datetime, duration_ns: int) -> Annotation:
    """Reads event.json. Its camera index is dropped: descriptions of its meaning differ.

    Raises:
        DataError: the file is not a JSON object with a timestamp, or one of another time.
    """
    if member.size > MAX_EVENT_BYTES:
        raise CorruptError(
            f"{member.uri}: {member.size} bytes, over {MAX_EVENT_BYTES}; remove the file"
        )
    try:
        with open_video(member.uri) as file:
            event: Any = json.loads(file.read(MAX_EVENT_BYTES))
        moment = datetime.fromisoformat(event["timestamp"])
        reason = str(event.get("reason", "unknown"))
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
        raise CorruptError(
            f"{member.uri}: not an event ({type(error).__name__}: {error}); repair or remove it"
        ) from error
    offset_ns = _ns(moment.replace(tzinfo=None) - start)
    if not -_ns(EVENT_REACH) <= offset_ns < duration_ns + _ns(EVENT_REACH):
        raise CorruptError(
            f"{member.uri}: its time, {moment}, is not that of the footage, which begins at "
            f"{start} and lasts {duration_ns / NS_PER_S:.0f} s; correct it"
        )
    lat, lon = _degrees(event.get("est_lat"), 90), _degrees(event.get("est_lon"), 180)
    known = lat is not None and lon is not None and (lat, lon) != (0.0, 0.0)
    return Annotation(
        t_ns=min(max(offset_ns, 0), max(duration_ns - 1, 0)),
        reason=reason,
        lat_deg=lat if known else None,
        lon_deg=lon if known else None,
    )


def _degrees(text: object, limit: float) -> float | None:
    """Parses a coordinate; returns None if it is invalid."""
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) <= limit else None

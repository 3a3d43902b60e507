"""Sparse decoding: the frames of a window, or the keyframes of a file, by packet index.

A window is decoded from the last keyframe before it to its last frame, and no further.
Frames are identified by pts, never by counting: pictures that are not in the index are
dropped, and frames that the decoder does not return are missing from the output.
"""

from __future__ import annotations

import errno
import heapq
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile, takewhile
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from schemas.arrays import BoolArray, Image, IntArray
from schemas.errors import CorruptError, UnreadableError, UnsupportedError, one_line
from schemas.records import VideoFile
from schemas.times import NS_PER_S, Span
from transforms.storage import filesystem
from transforms.video.demux import FORMAT_WHITELIST, demuxed

MAX_PIXELS = 1 << 26
"""Limit on the size of a picture (8192 x 8192): a forged size must not exhaust the memory."""

MAX_PACKET_BYTES = 1 << 26
"""Limit on the bytes read for one packet of an elementary stream: a forged size must not either."""

# Formats without timestamps and without a seek table: their packets are read by offset.
_ELEMENTARY = frozenset({"h264", "hevc"})
_START_CODES = (b"\0\0\1", b"\0\0\0\1")
_AHEAD = 2  # Pictures converted while another is decoded: as many as one thread keeps up with.
_LIMITED_RANGE = frozenset({0, 1})  # AVCOL_RANGE_UNSPECIFIED, _MPEG
_BT601 = frozenset({2, 5, 6})  # AVCOL_SPC_UNSPECIFIED, _BT470BG, _SMPTE170M


Take = Callable[[int], bool]
"""Says of the frame at a time in ns whether it is wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture at `t_ns` of its log: `image` is uint8[h, w, 3], BGR."""

    t_ns: int
    image: Image


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    """The rows of `frames` of one file, sorted by pts."""

    t_ns: IntArray
    pts: IntArray
    is_keyframe: BoolArray
    byte_offset: IntArray
    byte_size: IntArray

    @classmethod
    def of(cls, frames: pa.Table, uri: str) -> _Index:
        rows = frames.filter(pc.equal(frames["uri"], uri)).sort_by("pts")
        return cls(*(rows[name].to_numpy() for name in cls.__slots__))

    def within(self, span: Span) -> NDArray[np.intp]:
        return np.flatnonzero((self.t_ns >= span.start_ns) & (self.t_ns < span.end_ns))


def decode_window(
    videos: Sequence[VideoFile],
    frames: pa.Table,
    span: Span,
    threads: int = 1,
    take: Take | None = None,
) -> Iterator[Frame]:
    """Decodes the frames of one camera with start_ns <= t_ns < end_ns, in temporal order.

    Args:
        videos: the camera's files; a window may extend over several.
        frames: the camera's rows of the table `frames`, in any order.
        span: the window.
        threads: decoder threads per file.
        take: asked once for each frame of a file that decodes, in temporal order; the others
            are neither converted nor yielded. None takes all.

    Yields:
        The frames, except those that damaged packets make undecodable.

    Raises:
        CorruptError: none of the frames decodes, or the file is not the one indexed.
        UnreadableError: a file cannot be opened.
        UnsupportedError: unknown codec or container.
    """
    parts = []
    for video in videos:
        index = _Index.of(frames, video.uri)
        wanted = index.within(span)
        if len(wanted):
            parts.append(_decode_runs(video, index, [wanted], threads, take))
    merged = heapq.merge(*parts, key=lambda frame: frame.t_ns)
    yield from _require_frames(merged, videos, bool(parts), span)


def decode_keyframes(
    video: VideoFile, frames: pa.Table, fps: float, threads: int = 1
) -> Iterator[Frame]:
    """Decodes keyframes of one file, at most `fps` per second, and no frames between them.

    Time since the file's first frame is divided into steps of 1/fps, and the first keyframe
    of each step is decoded: jitter of the keyframe interval does not halve the rate.

    Args:
        video: the file.
        frames: its rows of the table `frames`; rows of other files are ignored.
        fps: frames per second, above 0.
        threads: decoder threads.

    Raises:
        DataError: as by `decode_window`.
    """
    if not fps > 0:
        raise ValueError(f"fps is {fps}; it must be above 0")
    index = _Index.of(frames, video.uri)
    keys = np.flatnonzero(index.is_keyframe)
    steps = np.floor((index.t_ns[keys] - index.t_ns[:1]) * (fps / NS_PER_S))
    _, first = np.unique(steps, return_index=True)
    runs = [keys[i : i + 1] for i in first]
    span = Span(video.start_ns, video.start_ns + video.duration_ns)
    decoded = _decode_runs(video, index, runs, threads, None)
    yield from _require_frames(decoded, [video], bool(runs), span)


def decode_clip(
    mp4: bytes, start_ns: int, t_ns: IntArray, take: Take | None = None
) -> Iterator[Frame]:
    """Decodes a clip that `transforms.video.encode.ClipWriter` wrote.

    Args:
        mp4: the clip.
        start_ns: the time of its pts 0.
        t_ns: int64[n], rising: the times of the frames that may be in it. A clip's ticks are
            coarser; of each picture the nearest time is taken.
        take: as of `decode_window`.

    Raises:
        CorruptError: the clip cannot be decoded.
    """
    try:
        with av.open(io.BytesIO(mp4), "r", format="mov", metadata_errors="replace") as container:
            stream: Any = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for picture in container.decode(stream):
                at = start_ns + round(picture.pts * stream.time_base * NS_PER_S)
                place = int(np.searchsorted(t_ns, at))
                near = t_ns[max(place - 1, 0) : place + 1]
                found = int(near[np.abs(near - at).argmin()])
                if take is None or take(found):
                    image: Any = cv2.cvtColor(picture.to_ndarray(), cv2.COLOR_YUV2BGR_I420)
                    yield Frame(found, image)
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise CorruptError(
            f"a clip of {len(mp4)} bytes cannot be decoded: {one_line(error)}; encode it again"
        ) from error


def _require_frames(
    frames: Iterator[Frame], videos: Sequence[VideoFile], expected: bool, span: Span
) -> Iterator[Frame]:
    """Passes frames through; raises CorruptError if some are expected and none comes."""
    for frame in frames:
        expected = False
        yield frame
    if expected:
        names = ", ".join(video.uri for video in videos)
        raise CorruptError(
            f"{names}: no frame of [{span.start_ns}, {span.end_ns}) ns decodes; "
            "record the file again, or ingest it again if it was replaced"
        )


def _decode_runs(
    video: VideoFile,
    index: _Index,
    runs: Sequence[NDArray[np.intp]],
    threads: int,
    take: Take | None,
) -> Iterator[Frame]:
    """Decodes runs of rows of one file's index, each from the last keyframe before it.

    A separate thread converts pictures to BGR while the next ones are decoded.
    """
    with _open(video.uri) as container, ThreadPoolExecutor(1) as converter:
        stream = _video_stream(container, video, threads)
        context = stream.codec_context
        for run in runs:
            if container.format.name in _ELEMENTARY:
                packets = _read_packets(video, index, run)
            else:
                packets = _demux_packets(container, stream, video.uri, index, run)
            times = dict(zip(index.pts[run].tolist(), index.t_ns[run].tolist(), strict=True))
            ahead: deque[tuple[int, Future[Image]]] = deque()
            checked = _as_indexed(packets, index, video.uri)
            for picture in _pictures(context, checked, set(times)):
                t_ns = times[picture.pts]
                if take is not None and not take(t_ns):
                    continue
                ahead.append((t_ns, converter.submit(_bgr, picture, video)))
                if len(ahead) > _AHEAD:
                    yield _frame(*ahead.popleft())
            while ahead:
                yield _frame(*ahead.popleft())
            context.flush_buffers()


def _frame(t_ns: int, image: Future[Image]) -> Frame:
    return Frame(t_ns, image.result())


@contextmanager
def _open(uri: str) -> Iterator[Any]:
    """Opens a video on any file system; a local one by its path, which is faster."""
    # Tags are not used here, so undecodable ones must not raise.
    how: dict[str, Any] = {
        "options": {"format_whitelist": FORMAT_WHITELIST},
        "metadata_errors": "replace",
    }
    try:
        fs, path = filesystem(uri)
        if isinstance(fs, LocalFileSystem):
            # Without the prefix FFmpeg would take a file name like "http:..." for a URL.
            with av.open(f"file:{path}", **how) as container:
                yield container
        else:
            with fs.open(path, mode="rb") as file, av.open(file, **how) as container:
                yield container
    except (OSError, av.error.FFmpegError) as error:
        # Where FFmpeg cannot seek it says -1, which happens to be this code.
        if isinstance(error, OSError) and error.errno != errno.EPERM:
            raise UnreadableError(
                f"{uri}: {error.strerror or error}; check that it exists, and its permissions"
            ) from error
        raise CorruptError(f"{uri}: {error.strerror}; record or copy it again") from error


def _video_stream(container: Any, video: VideoFile, threads: int) -> Any:
    if not container.streams.video:
        raise CorruptError(f"{video.uri}: no video stream; ingest it again if it was replaced")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise UnsupportedError(f"{video.uri}: unknown video codec; convert it to H.264")
    elementary = container.format.name in _ELEMENTARY
    if not elementary and stream.time_base != Fraction(video.time_base_num, video.time_base_den):
        raise CorruptError(
            f"{video.uri}: its time base is {stream.time_base}, in the index it is "
            f"{video.time_base_num}/{video.time_base_den}; the file was replaced, ingest it again"
        )
    context = stream.codec_context
    context.thread_count = threads
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


_EARLIEST = -(1 << 62)
"""The earliest place to seek to: FFmpeg's are int64."""


def _demux_packets(
    container: Any, stream: Any, uri: str, index: _Index, run: NDArray[np.intp]
) -> Iterator[Any]:
    """Yields packets in decode order, from the last keyframe before the run to its end.

    Containers seek by dts, and some to any packet, so seeking may end after that keyframe:
    then the keyframe before it is tried, and finally the start of the file. One that was cut off
    before its index was written may not seek there at all, and is read from its start.
    """
    first, last = int(index.pts[run[0]]), int(index.pts[run[-1]])
    keys = index.pts[index.is_keyframe & (index.pts <= first)]
    before_all = max(int(index.pts[0]) - round(10 / stream.time_base), _EARLIEST)
    for start in [*keys[:-4:-1].tolist(), before_all]:
        try:
            container.seek(start, stream=stream)
        except av.error.PermissionError:  # so FFmpeg says -1, which is that it cannot seek
            continue
        packets = _demux(container, stream, uri)
        packet = next((packet for packet in packets if packet.is_keyframe), None)
        if packet is not None and (packet.pts <= first or start == before_all):
            yield packet
            yield from _until(last, packets)
            return
    with _open(uri) as again:
        packets = _demux(again, again.streams.video[0], uri)
        wanted = keys[-1:].tolist()
        yield from _until(last, dropwhile(lambda one: wanted and one.pts not in wanted, packets))


def _until(last: int, packets: Iterable[Any]) -> Iterator[Any]:
    """Yields packets until all pictures up to a pts are in: that is never before its dts."""
    return takewhile(lambda packet: packet.dts is None or packet.dts <= last, packets)


def _demux(container: Any, stream: Any, uri: str) -> Iterator[Any]:
    """Yields packets up to the first unreadable position, as in a truncated file."""
    try:
        for packet in demuxed(container, stream, uri):
            if packet.pts is not None:
                yield packet
    except (av.error.InvalidDataError, av.error.EOFError):
        return


def _read_packets(video: VideoFile, index: _Index, run: NDArray[np.intp]) -> Iterator[Any]:
    """Yields the packets of an elementary stream by their byte offsets, with pts of the index."""
    keys = np.flatnonzero(index.is_keyframe[: run[0] + 1])
    start = index.byte_offset[keys[-1] if len(keys) else 0]
    end = index.byte_offset[run].max()
    rows = np.flatnonzero((index.byte_offset >= start) & (index.byte_offset <= end))
    fs, path = filesystem(video.uri)
    with fs.open(path, mode="rb") as file:
        for row in rows[np.argsort(index.byte_offset[rows])]:
            file.seek(int(index.byte_offset[row]))
            content = file.read(min(int(index.byte_size[row]), MAX_PACKET_BYTES))
            if not content.startswith(_START_CODES):
                raise CorruptError(
                    f"{video.uri}: no frame begins at byte {index.byte_offset[row]}, where the "
                    "index has one: the file was replaced; ingest it again"
                )
            packet = av.Packet(content)
            packet.pts = int(index.pts[row])
            yield packet


def _as_indexed(packets: Iterator[Any], index: _Index, uri: str) -> Iterator[Any]:
    """Passes packets through, as long as they are those that were indexed.

    Raises:
        CorruptError: one has another size, so the file was replaced.
    """
    sizes = dict(zip(index.pts.tolist(), index.byte_size.tolist(), strict=True))
    for packet in packets:
        wanted = sizes.get(packet.pts, packet.size)
        if packet.size != wanted and not packet.is_corrupt:  # as the last one of a cut file is
            raise CorruptError(
                f"{uri}: the frame at pts {packet.pts} has {packet.size} bytes, in the index "
                f"{wanted}: the file was replaced; ingest it again"
            )
        yield packet


def _pictures(context: Any, packets: Iterator[Any], wanted: set[int]) -> Iterator[Any]:
    """Decodes packets until every wanted picture is out; undecodable ones are left out."""
    unsent = set(wanted)
    for packet in packets:
        unsent.discard(packet.pts)
        yield from _decode(context, packet, wanted)
        if not unsent:
            break
    yield from _decode(context, None, wanted)


def _decode(context: Any, packet: Any, wanted: set[int]) -> Iterator[Any]:
    try:
        pictures = context.decode(packet)
    except av.error.FFmpegError:  # Decoders use various codes for invalid packets.
        return
    for picture in pictures:
        if picture.pts in wanted and not picture.is_corrupt:
            yield picture


def _bgr(picture: Any, video: VideoFile) -> Image:
    """Converts a picture to BGR; 8-bit 4:2:0 in BT.601 by OpenCV, which is three times faster."""
    if (picture.width, picture.height) != (video.width, video.height):
        raise CorruptError(
            f"{video.uri}: the frame at pts {picture.pts} is {picture.width}x{picture.height}, in "
            f"the index it is {video.width}x{video.height}; split the file where its size changes"
        )
    image: Image
    if (
        picture.format.name == "yuv420p"
        and picture.color_range in _LIMITED_RANGE
        and picture.colorspace in _BT601
        and picture.width % 2 == picture.height % 2 == 0
    ):
        image = cv2.cvtColor(picture.to_ndarray(), cv2.COLOR_YUV2BGR_I420)
    else:
        image = picture.to_ndarray(format="bgr24")
    return image

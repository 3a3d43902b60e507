"""Sparse decoding: the frames of a window, and keyframes, from a packet index.

A window is decoded from the nearest keyframe before it to its last frame and no further.
Frames are found by pts, never by counting: a picture that the index does not know is not
given, a frame that the decoder does not give is left out.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from typing import Any

import av
import cv2
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from schemas.arrays import BoolArray, Image, IntArray
from schemas.errors import CorruptError, UnreadableError, UnsupportedError
from schemas.records import VideoFile
from schemas.times import NS_PER_S, Span

MAX_PIXELS = 1 << 26
"""Larger pictures (8192 x 8192) are refused: a forged size must not exhaust the memory."""

MAX_PACKET_BYTES = 1 << 26
"""No more of an elementary stream's packet is read, whatever the index claims."""

# A playlist can name any address, so only containers that hold their own bytes are opened.
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,h264,hevc"
# Formats without timestamps and without a seek table: their packets are read by offset.
_ELEMENTARY = frozenset({"h264", "hevc"})
_AHEAD = 2  # Pictures in conversion while another is decoded: what one thread keeps up with.
_LIMITED_RANGE = frozenset({0, 1})  # AVCOL_RANGE_UNSPECIFIED, _MPEG
_BT601 = frozenset({2, 5, 6})  # AVCOL_SPC_UNSPECIFIED, _BT470BG, _SMPTE170M


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture: `image` is uint8[h, w, 3], BGR, at `t_ns` of its log."""

    t_ns: int
    image: Image


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    """The rows of `frames` of one file, in the order of pts."""

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
    videos: Sequence[VideoFile], frames: pa.Table, span: Span, threads: int = 1
) -> Iterator[Frame]:
    """Decodes exactly the frames of one camera that lie in a span, in the order of time.

    Args:
        videos: the camera's files; a window may run from one into the next.
        frames: the camera's rows of the table `frames`, in any order.
        span: which frames: start_ns <= t_ns < end_ns.
        threads: decoder threads a file.

    Yields:
        The frames. One that a damaged packet spoils is left out.

    Raises:
        CorruptError: none of the frames decodes, or the file is not the one indexed.
        UnreadableError: a file cannot be opened.
        UnsupportedError: the codec or the container is not known.
    """
    parts = []
    for video in videos:
        index = _Index.of(frames, video.uri)
        wanted = index.within(span)
        if len(wanted):
            parts.append(_decode_runs(video, index, [wanted], threads))
    yield from _some(heapq.merge(*parts, key=lambda frame: frame.t_ns), videos, bool(parts), span)


def decode_keyframes(
    video: VideoFile, frames: pa.Table, fps: float, threads: int = 1
) -> Iterator[Frame]:
    """Decodes keyframes of one file, at most `fps` a second, and nothing between them.

    Of the keyframes that lie in one step of 1/fps from the file's first frame, the first is
    taken, so that slight irregularities of their distance do not halve the rate.

    Args:
        video: the file.
        frames: its rows of the table `frames`; rows of other files are passed over.
        fps: frames a second, above 0.
        threads: decoder threads.

    Raises:
        DataError: as by `decode_window`.
    """
    if not fps > 0:
        raise ValueError(f"fps must be above 0, is {fps}")
    index = _Index.of(frames, video.uri)
    keys = np.flatnonzero(index.is_keyframe)
    steps = np.floor((index.t_ns[keys] - index.t_ns[:1]) * (fps / NS_PER_S))
    _, first = np.unique(steps, return_index=True)
    runs = [keys[i : i + 1] for i in first]
    span = Span(video.start_ns, video.start_ns + video.duration_ns)
    yield from _some(_decode_runs(video, index, runs, threads), [video], bool(runs), span)


def _some(
    found: Iterator[Frame], videos: Sequence[VideoFile], wanted: bool, span: Span
) -> Iterator[Frame]:
    """Passes frames on, and refuses to give none where there should be some."""
    for frame in found:
        wanted = False
        yield frame
    if wanted:
        names = ", ".join(video.uri for video in videos)
        raise CorruptError(
            f"{names}: no frame of [{span.start_ns}, {span.end_ns}) ns decodes; "
            "record the file again, or ingest it again if it was replaced"
        )


def _decode_runs(
    video: VideoFile, index: _Index, runs: Sequence[NDArray[np.intp]], threads: int
) -> Iterator[Frame]:
    """Decodes runs of rows of one file's index, each from the keyframe before it.

    A thread of its own turns pictures into BGR while the next ones are decoded.
    """
    with _open(video.uri) as container, ThreadPoolExecutor(1) as converter:
        stream = _video_stream(container, video, threads)
        context = stream.codec_context
        for run in runs:
            if container.format.name in _ELEMENTARY:
                packets = _read_packets(video, index, run)
            else:
                packets = _demux_packets(container, stream, index, run)
            times = dict(zip(index.pts[run].tolist(), index.t_ns[run].tolist(), strict=True))
            ahead: deque[tuple[int, Future[Image]]] = deque()
            for picture in _pictures(context, packets, set(times)):
                ahead.append((times[picture.pts], converter.submit(_bgr, picture, video)))
                if len(ahead) > _AHEAD:
                    yield _frame(*ahead.popleft())
            while ahead:
                yield _frame(*ahead.popleft())
            context.flush_buffers()


def _frame(t_ns: int, image: Future[Image]) -> Frame:
    return Frame(t_ns, image.result())


@contextmanager
def _open(uri: str) -> Iterator[Any]:
    """Opens a video of any file system; a local one by its path, which is faster."""
    # Titles and comments are nobody's business here, so their encoding must not matter.
    how: dict[str, Any] = {"options": {"format_whitelist": _FORMATS}, "metadata_errors": "replace"}
    try:
        fs, path = fsspec.core.url_to_fs(uri)
        if isinstance(fs, LocalFileSystem):
            # Without the prefix FFmpeg would read "http:..." in a file's name as an address.
            with av.open(f"file:{path}", **how) as container:
                yield container
        else:
            with fs.open(path, "rb") as file, av.open(file, **how) as container:
                yield container
    except (OSError, av.error.FFmpegError) as error:
        if isinstance(error, OSError):
            raise UnreadableError(f"{uri}: {error.strerror or error}; is it there?") from error
        raise CorruptError(f"{uri}: {error.strerror}; record or copy it again") from error


def _video_stream(container: Any, video: VideoFile, threads: int) -> Any:
    if not container.streams.video:
        raise CorruptError(f"{video.uri}: holds no video; ingest it again if it was replaced")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise UnsupportedError(f"{video.uri}: no decoder for its video; convert it to H.264")
    elementary = container.format.name in _ELEMENTARY
    if not elementary and stream.time_base != Fraction(video.time_base_num, video.time_base_den):
        raise CorruptError(
            f"{video.uri}: its time base is {stream.time_base}, the index says "
            f"{video.time_base_num}/{video.time_base_den}; ingest it again, it was replaced"
        )
    context = stream.codec_context
    context.thread_count = threads
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def _demux_packets(
    container: Any, stream: Any, index: _Index, run: NDArray[np.intp]
) -> Iterator[Any]:
    """Gives packets in decode order, from the keyframe before the run to its end.

    A container seeks by dts, and some to any packet, so it may land after that keyframe:
    then the keyframe before is tried, and at last the start of the file.
    """
    first, last = int(index.pts[run[0]]), int(index.pts[run[-1]])
    keys = index.pts[index.is_keyframe & (index.pts <= first)]
    before_all = int(index.pts[0]) - round(10 / stream.time_base)
    for start in [*keys[:-4:-1].tolist(), before_all]:
        container.seek(start, stream=stream)
        packets = _demux(container, stream)
        packet = next((packet for packet in packets if packet.is_keyframe), None)
        if packet is not None and (packet.pts <= first or start == before_all):
            yield packet
            # No picture comes out before its dts.
            yield from takewhile(lambda packet: packet.dts is None or packet.dts <= last, packets)
            return


def _demux(container: Any, stream: Any) -> Iterator[Any]:
    """Gives packets as far as the file can be read: a torn one ends early."""
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                yield packet
    except (av.error.InvalidDataError, av.error.EOFError):
        return


def _read_packets(video: VideoFile, index: _Index, run: NDArray[np.intp]) -> Iterator[Any]:
    """Gives the packets of an elementary stream by their place in the file.

    Their pts come from the index, so it must know of reordered frames, if there are any.
    """
    keys = np.flatnonzero(index.is_keyframe[: run[0] + 1])
    start = index.byte_offset[keys[-1] if len(keys) else 0]
    end = index.byte_offset[run].max()
    rows = np.flatnonzero((index.byte_offset >= start) & (index.byte_offset <= end))
    with fsspec.open(video.uri, "rb") as file:
        for row in rows[np.argsort(index.byte_offset[rows])]:
            file.seek(int(index.byte_offset[row]))
            packet = av.Packet(file.read(min(int(index.byte_size[row]), MAX_PACKET_BYTES)))
            packet.pts = int(index.pts[row])
            yield packet


def _pictures(context: Any, packets: Iterator[Any], wanted: set[int]) -> Iterator[Any]:
    """Decodes packets until every wanted picture has come out; spoilt ones are left out."""
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
    except av.error.FFmpegError:  # Each decoder has its own code for a packet that it rejects.
        return
    for picture in pictures:
        if picture.pts in wanted and not picture.is_corrupt:
            yield picture


def _bgr(picture: Any, video: VideoFile) -> Image:
    """Turns a picture into BGR; the usual 8-bit 4:2:0 of BT.601 by OpenCV, three times faster."""
    if (picture.width, picture.height) != (video.width, video.height):
        raise CorruptError(
            f"{video.uri}: pts {picture.pts} is {picture.width}x{picture.height}, the index says "
            f"{video.width}x{video.height}; cut the file where its size changes"
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

"""The packet index of an MP4 or MOV file, read from its boxes alone.

Box layouts: ISO/IEC 14496-12. Only box headers and the `moov` box are read, never the
media. Times come out as libavformat reports them for the same file, edit lists included,
so that what is indexed here can be sought and decoded there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from schemas.arrays import AnyArray, BoolArray, IntArray
from schemas.errors import CorruptError, EmptyError, TruncatedError, UnsupportedError
from transforms.video.edits import present

MAX_MOOV_BYTES = 512 << 20
MAX_SAMPLES = 1 << 24
"""Five days at 36 frames a second; what a forged count may make us allocate."""
MAX_BOXES = 4096
MAX_TRACKS = 64
MAX_EDITED = 1 << 28
"""Edits times samples: bounds the work that a forged edit list asks for."""
MAX_TIME = 1 << 60
"""Ticks beyond which sums of times could leave int64."""

_CODECS = {
    b"avc1": "h264",
    b"avc3": "h264",
    b"hvc1": "hevc",
    b"hev1": "hevc",
    b"av01": "av1",
    b"vp08": "vp8",
    b"vp09": "vp9",
    b"mp4v": "mpeg4",
    b"jpeg": "mjpeg",
    b"mjpa": "mjpeg",
    b"apcn": "prores",
    b"apch": "prores",
}
_CONFIGURATIONS = (b"avcC", b"hvcC", b"av1C", b"vpcC")
_VISUAL_ENTRY_BYTES = 78


@dataclass(frozen=True, slots=True)
class Track:
    """One track's samples, in decode order, n of them.

    Args:
        kind: the handler: "vide", "meta", "tmcd", ...
        codec: libavcodec's name ("h264"), or the sample entry's fourcc where there is none.
        width, height: pixels, 0 where the track is not video.
        time_base: (1, ticks a second).
        pts, dts: int64[n] ticks, as libavformat reports them.
        is_keyframe: bool[n].
        is_hidden: bool[n], before or after what the edit list presents: decoders drop them.
        byte_offset, byte_size: int64[n] in the file.
        duration: int64[n] ticks to the next sample in decode order.
        extradata: the decoder configuration record (avcC, hvcC, ...), else empty.
    """

    kind: str
    codec: str
    width: int
    height: int
    time_base: tuple[int, int]
    pts: IntArray
    dts: IntArray
    is_keyframe: BoolArray
    is_hidden: BoolArray
    byte_offset: IntArray
    byte_size: IntArray
    duration: IntArray
    extradata: bytes

    @property
    def nal_length_bytes(self) -> int:
        """Size of the length before each NAL unit; 0 where samples are not NAL units."""
        at = {"h264": 4, "hevc": 21}.get(self.codec)
        if at is None or len(self.extradata) <= at:
            return 0
        return (self.extradata[at] & 3) + 1

    def presented(self) -> IntArray:
        """Rows of the samples that are shown, in the order in which they are shown."""
        shown = np.flatnonzero(~self.is_hidden)
        return shown[np.argsort(self.pts[shown], kind="stable")].astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Box:
    """One box of `moov`: its type and its payload [start, end) in the bytes."""

    type: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Moov:
    """The `moov` payload and the words for its errors."""

    data: bytes
    uri: str
    file_size: int

    def corrupt(self, what: str) -> CorruptError:
        return CorruptError(f"{self.uri}: {what}; the index is damaged, copy the file again")

    def boxes(self, start: int, end: int) -> Iterator[_Box]:
        count = 0
        while start + 8 <= end:
            size, type_ = struct.unpack_from(">I4s", self.data, start)
            header = 8
            if size == 1 and start + 16 <= end:
                (size,) = struct.unpack_from(">Q", self.data, start + 8)
                header = 16
            elif size == 0:
                size = end - start
            if size < header or start + size > end:
                raise self.corrupt(
                    f"box {type_!r} at byte {start} of moov claims {size} bytes, "
                    f"{end - start} are left"
                )
            yield _Box(type_, start + header, start + size)
            start += size
            count += 1
            if count > MAX_BOXES:
                raise self.corrupt(f"more than {MAX_BOXES} boxes side by side")

    def children(self, box: _Box) -> dict[bytes, _Box]:
        """The first child of each type."""
        found: dict[bytes, _Box] = {}
        for child in self.boxes(box.start, box.end):
            found.setdefault(child.type, child)
        return found

    def unpack(self, layout: str, box: _Box, at: int = 0) -> tuple[int, ...]:
        if box.start + at + struct.calcsize(layout) > box.end:
            raise self.corrupt(f"box {box.type!r} is too short")
        return struct.unpack_from(layout, self.data, box.start + at)

    def rows(self, box: _Box, columns: str, at: int = 4) -> AnyArray:
        """Reads a counted table: uint32 n, then n rows of big-endian `columns`."""
        (count,) = self.unpack(">I", box, at)
        dtype = np.dtype([(f"f{k}", f">{c}") for k, c in enumerate(columns.split())])
        if count * dtype.itemsize > box.end - box.start - at - 4:
            raise self.corrupt(f"box {box.type!r} claims {count} rows, more than it has bytes for")
        return np.frombuffer(self.data, dtype, count, box.start + at + 4)


def read_index(file: BinaryIO, uri: str) -> list[Track]:
    """Reads the sample tables of every track but sound.

    Args:
        file: the file, seekable.
        uri: what messages call it.

    Raises:
        EmptyError: no bytes.
        CorruptError: not an MP4, or its boxes contradict each other.
        TruncatedError: no `moov`, or samples lie beyond the end of the file.
        UnsupportedError: fragmented, or larger than the bounds above.
    """
    file_size = file.seek(0, 2)
    if file_size == 0:
        raise EmptyError(f"{uri}: the file has no bytes; record or copy it again")
    moov = _Moov(_read_moov(file, uri, file_size), uri, file_size)
    top = list(moov.boxes(0, len(moov.data)))
    if any(box.type == b"mvex" for box in top):
        raise UnsupportedError(f"{uri}: a fragmented MP4; remux it with ffmpeg -c copy")
    movie_ticks = 0
    for box in top:
        if box.type == b"mvhd":
            movie_ticks = _timescale(moov, box)
    if sum(box.type == b"trak" for box in top) > MAX_TRACKS:
        raise UnsupportedError(f"{uri}: more than {MAX_TRACKS} tracks; remux the file")
    tracks = []
    for box in top:
        if box.type == b"trak":
            track = _track(moov, box, movie_ticks)
            if track is not None:
                _check_inside(track, uri, file_size)
                tracks.append(track)
    return tracks


def _read_moov(file: BinaryIO, uri: str, file_size: int) -> bytes:
    at, count = 0, 0
    while at + 8 <= file_size:
        file.seek(at)
        head = file.read(16)
        size, type_ = struct.unpack_from(">I4s", head)
        header = 8
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
            header = 16
        elif size == 0:
            size = file_size - at
        if count == 0 and not _names_a_box(type_):
            raise CorruptError(
                f"{uri}: not an MP4, it begins with {head[:8]!r}; check what wrote the file"
            )
        if size < header:
            raise CorruptError(f"{uri}: box {type_!r} at byte {at} claims {size} bytes")
        if type_ == b"moov":
            if at + size > file_size:
                raise TruncatedError(
                    f"{uri}: the index (moov) at byte {at} needs {size} bytes, "
                    f"{file_size - at} are left; copy the file again"
                )
            if size > MAX_MOOV_BYTES:
                raise UnsupportedError(f"{uri}: its index has {size} bytes; split the file")
            file.seek(at + header)
            data = file.read(size - header)
            if len(data) < size - header:
                raise TruncatedError(f"{uri}: the index (moov) ends early; copy the file again")
            return data
        at += size
        count += 1
        if count > MAX_BOXES:
            raise CorruptError(f"{uri}: more than {MAX_BOXES} boxes before the index (moov)")
    raise TruncatedError(
        f"{uri}: no index (moov) in {file_size} bytes, the recording was cut off; "
        "salvage it with an MP4 repair tool"
    )


def _names_a_box(type_: bytes) -> bool:
    return type_ in {
        b"ftyp",
        b"moov",
        b"mdat",
        b"free",
        b"skip",
        b"wide",
        b"pnot",
        b"uuid",
        b"styp",
    }


def _check_inside(track: Track, uri: str, file_size: int) -> None:
    outside = track.byte_offset + track.byte_size > file_size
    if outside.any():
        raise TruncatedError(
            f"{uri}: {int(outside.sum())} of {len(outside)} {track.kind} samples lie beyond its "
            f"{file_size} bytes; copy the file again"
        )


def _timescale(moov: _Moov, box: _Box) -> int:
    """Reads ticks a second of mvhd or mdhd."""
    (version,) = moov.unpack(">B", box)
    (ticks,) = moov.unpack(">I", box, 20 if version == 1 else 12)
    if ticks == 0 or ticks >= 1 << 31:
        raise moov.corrupt(f"box {box.type!r} claims {ticks} ticks a second")
    return ticks


def _track(moov: _Moov, trak: _Box, movie_ticks: int) -> Track | None:
    """Reads one track, or None for sound and tracks without samples."""
    boxes = moov.children(trak)
    if b"mdia" not in boxes:
        return None
    edits = boxes.get(b"edts")
    media = moov.children(boxes[b"mdia"])
    if not {b"hdlr", b"mdhd", b"minf"} <= media.keys():
        return None
    kind = struct.pack(">I", *moov.unpack(">I", media[b"hdlr"], 8)).decode("latin-1")
    tables = moov.children(media[b"minf"])
    if kind == "soun" or b"stbl" not in tables:
        return None
    tables = moov.children(tables[b"stbl"])
    missing = {b"stsd", b"stts", b"stsc"} - tables.keys()
    if missing:
        raise moov.corrupt(f"the {kind} track has no {sorted(missing)[0].decode()} box")
    codec, width, height, extradata = _entry(moov, tables[b"stsd"], kind)
    sizes: IntArray = _sizes(moov, tables)
    n = len(sizes)
    duration = _per_sample(moov.rows(tables[b"stts"], "u4 u4"), n, fill_last=True)
    if int(duration.max(initial=0)) >= 1 << 31:
        raise moov.corrupt("a sample lasts over 2^31 ticks, or less than none")
    ticks = _timescale(moov, media[b"mdhd"])
    dts: IntArray = np.cumsum(duration) - duration
    shift: IntArray = np.zeros(n, np.int64)
    lead = 0
    if b"ctts" in tables:
        # Signed in version 1; version 0 files write negative numbers all the same.
        shift = _per_sample(moov.rows(tables[b"ctts"], "u4 i4"), n, fill_last=False)
        lead = max(0, -int(shift.min(initial=0)))
        shift += lead
    key: BoolArray = np.ones(n, np.bool_)
    if b"stss" in tables:
        numbers = moov.rows(tables[b"stss"], "u4")["f0"].astype(np.int64)
        if len(numbers):
            key[:] = False
            key[numbers[(numbers >= 1) & (numbers <= n)] - 1] = True
    offsets = _offsets(moov, tables, sizes)
    hidden: BoolArray = np.zeros(n, np.bool_)
    if edits is not None and n:
        found = moov.children(edits)
        if b"elst" in found:
            edited = present(
                _edits(moov, found[b"elst"], n, ticks, movie_ticks),
                dts,
                shift,
                key,
                lead,
                reordered=b"ctts" in tables,
            )
            rows, dts, hidden = edited.rows, edited.dts, edited.is_hidden
            shift, key, duration = shift[rows], key[rows], duration[rows]
            offsets, sizes = offsets[rows], sizes[rows]
    return Track(
        kind=kind,
        codec=codec,
        width=width,
        height=height,
        time_base=(1, ticks),
        pts=dts + shift,
        dts=dts,
        is_keyframe=key,
        is_hidden=hidden,
        byte_offset=offsets,
        byte_size=sizes,
        duration=duration,
        extradata=extradata,
    )


def _entry(moov: _Moov, stsd: _Box, kind: str) -> tuple[str, int, int, bytes]:
    """Reads codec, size and decoder configuration of the first sample entry."""
    for entry in moov.boxes(stsd.start + 8, stsd.end):
        codec = _CODECS.get(entry.type, entry.type.decode("latin-1"))
        if kind != "vide":
            return codec, 0, 0, b""
        width, height = moov.unpack(">HH", entry, 24)
        for box in moov.boxes(min(entry.start + _VISUAL_ENTRY_BYTES, entry.end), entry.end):
            if box.type in _CONFIGURATIONS:
                return codec, width, height, moov.data[box.start : box.end]
        return codec, width, height, b""
    raise moov.corrupt(f"the {kind} track names no codec")


def _sizes(moov: _Moov, tables: dict[bytes, _Box]) -> IntArray:
    """Reads bytes of each sample from stsz or stz2."""
    if b"stsz" in tables:
        box = tables[b"stsz"]
        every, count = moov.unpack(">II", box, 4)
        if count > MAX_SAMPLES:
            raise UnsupportedError(f"{moov.uri}: a track of {count} samples; split the file")
        if every * count > moov.file_size:
            raise TruncatedError(
                f"{moov.uri}: {count} samples of {every} bytes do not fit in a file of "
                f"{moov.file_size}; copy the file again"
            )
        if every:
            return np.full(count, every, np.int64)
        return moov.rows(box, "u4", 8)["f0"].astype(np.int64)
    if b"stz2" not in tables:
        raise moov.corrupt("a track has no sample sizes")
    box = tables[b"stz2"]
    bits, count = moov.unpack(">BI", box, 7)
    if bits in {8, 16}:
        return moov.rows(box, f"u{bits // 8}", 8)["f0"].astype(np.int64)
    if bits != 4 or (count + 1) // 2 > box.end - box.start - 12:
        raise moov.corrupt(f"stz2 claims {count} samples of {bits} bits")
    packed = np.frombuffer(moov.data, np.uint8, (count + 1) // 2, box.start + 12)
    return np.stack([packed >> 4, packed & 15], 1).ravel()[:count].astype(np.int64)


def _per_sample(runs: AnyArray, n: int, *, fill_last: bool) -> IntArray:
    """Spreads (count, value) runs over n samples; a short table goes on with its last or 0."""
    ends = np.minimum(np.cumsum(runs["f0"].astype(np.int64)), n)
    counts = np.diff(ends, prepend=0)
    spread = np.repeat(runs["f1"].astype(np.int64), counts)
    last = int(runs["f1"][-1]) if fill_last and len(runs) else 0
    return np.concatenate([spread, np.full(n - len(spread), last, np.int64)])


def _offsets(moov: _Moov, tables: dict[bytes, _Box], sizes: IntArray) -> IntArray:
    """Places every sample: chunk offset plus the samples before it in its chunk."""
    if b"co64" in tables:
        starts = moov.rows(tables[b"co64"], "u8")["f0"]
    elif b"stco" in tables:
        starts = moov.rows(tables[b"stco"], "u4")["f0"]
    else:
        raise moov.corrupt("a track has no chunk offsets")
    if len(starts) and int(starts.max()) > MAX_TIME:
        raise moov.corrupt("a chunk lies beyond 2^60 bytes")
    n, chunks = len(sizes), len(starts)
    if n == 0:
        return np.zeros(0, np.int64)
    runs = moov.rows(tables[b"stsc"], "u4 u4 u4")
    first = runs["f0"].astype(np.int64) - 1
    if not len(first) or first[0] != 0 or (np.diff(first) <= 0).any():
        raise moov.corrupt("stsc does not begin with the first chunk or is not in order")
    counts = np.diff(np.minimum(np.append(first, chunks), chunks))
    per_chunk: IntArray = np.repeat(runs["f1"].astype(np.int64), counts)
    ends = np.minimum(np.cumsum(per_chunk), n)
    if not len(ends) or ends[-1] < n:
        raise moov.corrupt(f"{chunks} chunks do not hold {n} samples")
    per_chunk = np.diff(ends, prepend=0)
    before = np.cumsum(sizes) - sizes
    chunk_first = ends - per_chunk
    # A trailing chunk may be empty; its first sample is then nobody's.
    base = starts.astype(np.int64) - before[np.minimum(chunk_first, n - 1)]
    return np.asarray(before + np.repeat(base, per_chunk), np.int64)


def _edits(moov: _Moov, elst: _Box, n: int, ticks: int, movie_ticks: int) -> list[tuple[int, int]]:
    """Reads (duration, media time) of an edit list, both in media ticks."""
    (version,) = moov.unpack(">B", elst)
    table = moov.rows(elst, "u8 i8 u4" if version == 1 else "u4 i4 u4")
    if len(table) * n > MAX_EDITED:
        raise UnsupportedError(f"{moov.uri}: {len(table)} edits of {n} samples; remux the file")
    if movie_ticks == 0:
        raise moov.corrupt("an edit list without a movie clock")
    edits = []
    for duration, media_time in zip(table["f0"].tolist(), table["f1"].tolist(), strict=True):
        # Rounds half up, as av_rescale does.
        scaled = (2 * duration * ticks + movie_ticks) // (2 * movie_ticks)
        if scaled > MAX_TIME or not -1 <= media_time <= MAX_TIME:
            raise moov.corrupt(f"an edit of {duration} ticks at {media_time}")
        edits.append((scaled, media_time))
    return edits

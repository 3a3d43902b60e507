"""The packet index of an MP4 or MOV file, from the sample tables in `moov`.

Box layouts: ISO/IEC 14496-12, 8.6 and 8.7. The media itself is never read. Timestamps are
those that libavformat reports for the same file, edit lists included, so that libavformat
can seek to and decode what is indexed here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from schemas.arrays import AnyArray, BoolArray, IntArray
from schemas.errors import EmptyError, TruncatedError, UnsupportedError
from transforms.video.boxes import Box, BoxParser, read_moov
from transforms.video.edits import present

MAX_SAMPLES = 1 << 24
"""Limit on the samples of a track, five days at 36 Hz: bounds what a forged count allocates."""
MAX_TRACKS = 64
MAX_EDITED = 1 << 28
"""Limit on edits times samples: bounds the work that a forged edit list causes."""
MAX_TIME = 1 << 60
"""Limit on times in ticks and on byte offsets, so that their sums fit in int64."""

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
    """The n samples of one track, in decode order.

    Args:
        kind: the handler: "vide", "meta", "tmcd", ...
        codec: libavcodec's name ("h264"), or the sample entry's type if it has none.
        width, height: pixels; 0 if the track is not video.
        time_base: (1, ticks per second).
        pts, dts: int64[n] ticks, as libavformat reports them.
        is_keyframe: bool[n].
        is_hidden: bool[n], outside of the edit list's presentation; decoders drop them.
        byte_offset, byte_size: int64[n] in the file.
        duration: int64[n] ticks to the next sample in decode order.
        extradata: the decoder configuration record (avcC, hvcC, ...), or empty.
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
        """Size of the length prefix of NAL units; 0 if samples do not consist of NAL units."""
        at = {"h264": 4, "hevc": 21}.get(self.codec)
        if at is None or len(self.extradata) <= at:
            return 0
        return (self.extradata[at] & 3) + 1

    def presented(self) -> IntArray:
        """Returns the rows of the presented samples, in presentation order."""
        shown = np.flatnonzero(~self.is_hidden)
        return shown[np.argsort(self.pts[shown], kind="stable")].astype(np.int64)


def read_index(file: BinaryIO, uri: str) -> list[Track]:
    """Reads the sample tables of every track except audio.

    Args:
        file: the file, seekable.
        uri: the name of the file in messages.

    Raises:
        EmptyError: the file has no bytes.
        CorruptError: not an MP4, or its boxes contradict each other.
        TruncatedError: no `moov`, or samples beyond the end of the file.
        UnsupportedError: fragmented, or beyond the limits of this module.
    """
    file_size = file.seek(0, 2)
    if file_size == 0:
        raise EmptyError(f"{uri}: the file has no bytes; record or copy it again")
    moov = BoxParser(read_moov(file, uri, file_size), uri, file_size)
    top = list(moov.boxes(0, len(moov.content)))
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
            track = _read_track(moov, box, movie_ticks)
            if track is not None:
                _check_offsets(track, uri, file_size)
                tracks.append(track)
    return tracks


def _check_offsets(track: Track, uri: str, file_size: int) -> None:
    outside = track.byte_offset + track.byte_size > file_size
    if outside.any():
        raise TruncatedError(
            f"{uri}: {int(outside.sum())} of {len(outside)} {track.kind} samples are beyond its "
            f"{file_size} bytes; copy the file again"
        )


def _timescale(moov: BoxParser, box: Box) -> int:
    """Reads the ticks per second of mvhd or mdhd."""
    (version,) = moov.unpack(">B", box)
    (ticks,) = moov.unpack(">I", box, 20 if version == 1 else 12)
    if ticks == 0 or ticks >= 1 << 31:
        raise moov.corrupt(f"box {box.type!r} claims a timescale of {ticks} ticks per second")
    return ticks


def _read_track(moov: BoxParser, trak: Box, movie_ticks: int) -> Track | None:
    """Reads one track, or returns None for audio and for tracks without samples."""
    boxes = moov.children(trak)
    media = moov.children(boxes[b"mdia"]) if b"mdia" in boxes else {}
    if not {b"hdlr", b"mdhd", b"minf"} <= media.keys():
        return None
    kind = struct.pack(">I", *moov.unpack(">I", media[b"hdlr"], 8)).decode("latin-1")
    information = moov.children(media[b"minf"])
    if kind == "soun" or b"stbl" not in information:
        return None
    tables = moov.children(information[b"stbl"])
    missing = {b"stsd", b"stts", b"stsc"} - tables.keys()
    if missing:
        raise moov.corrupt(f"the {kind} track has no {sorted(missing)[0].decode()} box")
    codec, width, height, extradata = _read_sample_entry(moov, tables[b"stsd"], kind)
    samples = _read_samples(moov, tables)
    ticks = _timescale(moov, media[b"mdhd"])
    elst = moov.children(boxes[b"edts"]).get(b"elst") if b"edts" in boxes else None
    if elst is not None and len(samples.dts):
        edits = _read_edits(moov, elst, len(samples.dts), ticks, movie_ticks)
        samples = _apply_edits(samples, edits, reordered=b"ctts" in tables)
    return Track(
        kind=kind,
        codec=codec,
        width=width,
        height=height,
        time_base=(1, ticks),
        pts=samples.dts + samples.composition_offset,
        dts=samples.dts,
        is_keyframe=samples.is_keyframe,
        is_hidden=samples.is_hidden,
        byte_offset=samples.byte_offset,
        byte_size=samples.byte_size,
        duration=samples.duration,
        extradata=extradata,
    )


@dataclass(frozen=True, slots=True)
class _Samples:
    """The sample tables of a track, one row a sample in decode order.

    Times are in media ticks. `composition_offset` is pts less dts, `dts_shift` what was
    added to all of them to make them non-negative.
    """

    dts: IntArray
    composition_offset: IntArray
    dts_shift: int
    duration: IntArray
    is_keyframe: BoolArray
    is_hidden: BoolArray
    byte_offset: IntArray
    byte_size: IntArray


def _read_samples(moov: BoxParser, tables: dict[bytes, Box]) -> _Samples:
    """Expands the boxes of `stbl`; edits are not applied yet."""
    sizes = _read_sizes(moov, tables)
    n = len(sizes)
    duration = _expand_runs(moov.rows(tables[b"stts"], "u4 u4"), n, repeat_last=True)
    if int(duration.max(initial=0)) >= 1 << 31:
        raise moov.corrupt("a sample duration in stts is negative or over 2^31 ticks")
    offset: IntArray = np.zeros(n, np.int64)
    dts_shift = 0
    if b"ctts" in tables:
        # Signed in version 1 only, but files of version 0 hold negative offsets too.
        offset = _expand_runs(moov.rows(tables[b"ctts"], "u4 i4"), n, repeat_last=False)
        dts_shift = max(0, -int(offset.min(initial=0)))
        offset += dts_shift
    is_keyframe: BoolArray = np.ones(n, np.bool_)
    if b"stss" in tables:
        numbers = moov.rows(tables[b"stss"], "u4")["f0"].astype(np.int64)
        if len(numbers):
            is_keyframe[:] = False
            is_keyframe[numbers[(numbers >= 1) & (numbers <= n)] - 1] = True
    return _Samples(
        dts=np.cumsum(duration) - duration,
        composition_offset=offset,
        dts_shift=dts_shift,
        duration=duration,
        is_keyframe=is_keyframe,
        is_hidden=np.zeros(n, np.bool_),
        byte_offset=_byte_offsets(moov, tables, sizes),
        byte_size=sizes,
    )


def _apply_edits(samples: _Samples, edits: list[tuple[int, int]], *, reordered: bool) -> _Samples:
    edited = present(
        edits,
        samples.dts,
        samples.composition_offset,
        samples.is_keyframe,
        samples.dts_shift,
        reordered=reordered,
    )
    rows = edited.rows
    return _Samples(
        dts=edited.dts,
        composition_offset=samples.composition_offset[rows],
        dts_shift=samples.dts_shift,
        duration=samples.duration[rows],
        is_keyframe=samples.is_keyframe[rows],
        is_hidden=edited.is_hidden,
        byte_offset=samples.byte_offset[rows],
        byte_size=samples.byte_size[rows],
    )


def _read_sample_entry(moov: BoxParser, stsd: Box, kind: str) -> tuple[str, int, int, bytes]:
    """Reads codec, size and decoder configuration of the first sample entry."""
    for entry in moov.boxes(stsd.start + 8, stsd.end):
        codec = _CODECS.get(entry.type, entry.type.decode("latin-1"))
        if kind != "vide":
            return codec, 0, 0, b""
        width, height = moov.unpack(">HH", entry, 24)
        for box in moov.boxes(min(entry.start + _VISUAL_ENTRY_BYTES, entry.end), entry.end):
            if box.type in _CONFIGURATIONS:
                return codec, width, height, moov.content[box.start : box.end]
        return codec, width, height, b""
    raise moov.corrupt(f"the {kind} track has no sample entry in stsd")


def _read_sizes(moov: BoxParser, tables: dict[bytes, Box]) -> IntArray:
    """Reads the size of each sample in bytes, from stsz or stz2."""
    if b"stsz" in tables:
        box = tables[b"stsz"]
        uniform_size, count = moov.unpack(">II", box, 4)
        if count > MAX_SAMPLES:
            raise UnsupportedError(f"{moov.uri}: a track of {count} samples; split the file")
        if uniform_size * count > moov.file_size:
            raise TruncatedError(
                f"{moov.uri}: {count} samples of {uniform_size} bytes do not fit in a file of "
                f"{moov.file_size}; copy the file again"
            )
        if uniform_size:
            return np.full(count, uniform_size, np.int64)
        return moov.rows(box, "u4", 8)["f0"].astype(np.int64)
    if b"stz2" not in tables:
        raise moov.corrupt("a track has no sample sizes (stsz or stz2)")
    box = tables[b"stz2"]
    bits, count = moov.unpack(">BI", box, 7)
    if bits in {8, 16}:
        return moov.rows(box, f"u{bits // 8}", 8)["f0"].astype(np.int64)
    if bits != 4 or (count + 1) // 2 > box.end - box.start - 12:
        raise moov.corrupt(f"stz2 claims {count} samples of {bits} bits")
    packed = np.frombuffer(moov.content, np.uint8, (count + 1) // 2, box.start + 12)
    return np.stack([packed >> 4, packed & 15], 1).ravel()[:count].astype(np.int64)


def _expand_runs(runs: AnyArray, n: int, *, repeat_last: bool) -> IntArray:
    """Expands (count, value) runs to n samples; pads short tables with the last value or 0."""
    ends = np.minimum(np.cumsum(runs["f0"].astype(np.int64)), n)
    counts = np.diff(ends, prepend=0)
    values = np.repeat(runs["f1"].astype(np.int64), counts)
    last = int(runs["f1"][-1]) if repeat_last and len(runs) else 0
    return np.concatenate([values, np.full(n - len(values), last, np.int64)])


def _byte_offsets(moov: BoxParser, tables: dict[bytes, Box], sizes: IntArray) -> IntArray:
    """Returns each sample's offset: its chunk's, plus the sizes of the samples before it there."""
    if b"co64" in tables:
        starts = moov.rows(tables[b"co64"], "u8")["f0"]
    elif b"stco" in tables:
        starts = moov.rows(tables[b"stco"], "u4")["f0"]
    else:
        raise moov.corrupt("a track has no chunk offsets (stco or co64)")
    if len(starts) and int(starts.max()) > MAX_TIME:
        raise moov.corrupt("a chunk offset is beyond 2^60 bytes")
    n, chunks = len(sizes), len(starts)
    if n == 0:
        return np.zeros(0, np.int64)
    runs = moov.rows(tables[b"stsc"], "u4 u4 u4")
    first = runs["f0"].astype(np.int64) - 1
    if not len(first) or first[0] != 0 or (np.diff(first) <= 0).any():
        raise moov.corrupt("stsc does not begin with the first chunk or is not ascending")
    counts = np.diff(np.minimum(np.append(first, chunks), chunks))
    per_chunk: IntArray = np.repeat(runs["f1"].astype(np.int64), counts)
    ends = np.minimum(np.cumsum(per_chunk), n)
    if not len(ends) or ends[-1] < n:
        raise moov.corrupt(f"{chunks} chunks do not hold {n} samples")
    per_chunk = np.diff(ends, prepend=0)
    before = np.cumsum(sizes) - sizes
    chunk_first = ends - per_chunk
    # Trailing chunks may be empty; their base is computed from any sample and never used.
    base = starts.astype(np.int64) - before[np.minimum(chunk_first, n - 1)]
    return np.asarray(before + np.repeat(base, per_chunk), np.int64)


def _read_edits(
    moov: BoxParser, elst: Box, n: int, ticks: int, movie_ticks: int
) -> list[tuple[int, int]]:
    """Reads the (duration, media time) pairs of an edit list, both in media ticks."""
    (version,) = moov.unpack(">B", elst)
    table = moov.rows(elst, "u8 i8 u4" if version == 1 else "u4 i4 u4")
    if len(table) * n > MAX_EDITED:
        raise UnsupportedError(f"{moov.uri}: {len(table)} edits of {n} samples; remux the file")
    if movie_ticks == 0:
        raise moov.corrupt("an edit list without a movie header (mvhd)")
    edits = []
    for duration, media_time in zip(table["f0"].tolist(), table["f1"].tolist(), strict=True):
        # Rounds half up, as av_rescale does.
        scaled = (2 * duration * ticks + movie_ticks) // (2 * movie_ticks)
        if scaled > MAX_TIME or not -1 <= media_time <= MAX_TIME:
            raise moov.corrupt(f"an edit list entry of {duration} ticks at {media_time}")
        edits.append((scaled, media_time))
    return edits

"""Crafted logs: one of each known fault of a stranger's file, and how it has to end.

Each is a folder of one log. What it ends as follows from what its files say, and is written
down beside it: the reasons of its rejects, when it is ingested and when its pictures are looked
at; a log of which something is usable comes through beside its rejects.
"""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.logs import write_comma2k19, write_lerobot, write_video

CLIP = "2026-03-17_17-50-00-front.mp4"
EPISODE = Path("data", "chunk-000", "episode_000000.parquet")
STATE = "observation.state"


@dataclass(frozen=True, slots=True)
class Crafted:
    """A log with a fault.

    Args:
        format: of the log; "" where no format may claim it.
        write: writes it to a folder, given a whole clip with telemetry.
        rejects: the reasons of what ingest rejects of it.
        logs: how many logs come through.
        swept: the reasons of what a sweep rejects of the logs that come through.
        slow: whether writing or reading it takes seconds.
    """

    format: str
    write: Callable[[Path, bytes], object]
    rejects: tuple[str, ...] = ()
    logs: int = 0
    swept: tuple[str, ...] = ()
    slow: bool = False


def teslacam(root: Path, content: bytes, event: str | None = None) -> Path:
    """Writes a clip of one camera, and returns its folder."""
    folder = root / "TeslaCam" / "SavedClips" / "2026-03-17_17-52-09"
    folder.mkdir(parents=True)
    (folder / CLIP).write_bytes(content)
    if event is not None:
        (folder / "event.json").write_text(event)
    return folder


def event(**fields: object) -> str:
    """Writes what a vehicle says of a saved clip."""
    said = {"timestamp": "2026-03-17T17:51:00", "reason": "user_interaction_honk", "camera": "0"}
    return json.dumps(said | fields)


def patched(content: bytes, box: bytes, at: int, value: bytes) -> bytes:
    """Overwrites bytes in the first box of a type, from the start of its payload on."""
    start = content.index(box) + 4 + at
    return content[:start] + value + content[start + len(value) :]


def many(box: bytes) -> Callable[[Path, bytes], object]:
    """Claims 2^31 rows of a sample table; `stsz` has a number before its count."""

    def write(root: Path, content: bytes) -> None:
        if box not in content:  # in place of the keyframes, whose rows are as short
            content = content.replace(b"stss", box)
        count = struct.pack(">I", 1 << 31)
        teslacam(root, patched(content, box, 8 if box == b"stsz" else 4, count))

    return write


def slow(content: bytes) -> bytes:
    """Makes a clip of twelve pictures last for a month, which is 10^8 rows of signals."""
    content = content.replace(b"edts", b"free")
    content = patched(content, b"mdhd", 12, struct.pack(">I", 1))
    return patched(content, b"stts", 12, struct.pack(">I", 200_000))


def sparse(root: Path, _: bytes) -> None:
    """Writes a terabyte that is not there, and no index after it."""
    folder = teslacam(root, b"")
    with (folder / CLIP).open("wb") as file:
        file.write(struct.pack(">I4sQ", 1, b"mdat", 1 << 40))
        file.truncate(1 << 40)


def bomb(root: Path, _: bytes) -> None:
    """Writes 2^28 equal values, which take some kilobytes in Parquet and 5 GB in memory.

    They are 64 groups of rows, of which the file has one.
    """
    write_lerobot(root)
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(1 << 22, np.float32)), 1 << 20)
    t_s = pa.array(np.arange(4) / 25, pa.float32())
    pq.write_table(pa.table({STATE: zeros, "timestamp": t_s}), root / EPISODE)
    content = (root / EPISODE).read_bytes()
    metadata = pq.read_metadata(root / EPISODE)
    for _group in range(63):
        metadata.append_row_groups(pq.read_metadata(root / EPISODE))
    footer = io.BytesIO()
    metadata.write_metadata_file(footer)
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    (root / EPISODE).write_bytes(content[:end] + footer.getvalue()[4:])


def nested(root: Path, _: bytes) -> None:
    """Writes a state that is in 1,000 lists, one in the other."""
    write_lerobot(root)
    state: Any = pa.array([1.0])
    for _level in range(1000):
        state = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), state)
    pq.write_table(pa.table({STATE: state, "timestamp": [0.0]}), root / EPISODE)


def contradicting(root: Path, _: bytes) -> None:
    """Makes the elements of lists never null, of which the statistics say otherwise."""
    write_lerobot(root)
    content = (root / EPISODE).read_bytes()
    optional, required = b"\x25\x02\x18\x07element", b"\x25\x00\x18\x07element"
    assert optional in content
    (root / EPISODE).write_bytes(content.replace(optional, required))


def rated(fps: float) -> Callable[[Path, bytes], object]:
    """States another rate of a data set."""

    def write(root: Path, _: bytes) -> None:
        write_lerobot(root)
        info = root / "meta" / "info.json"
        info.write_text(json.dumps(json.loads(info.read_text()) | {"fps": fps}))

    return write


def header(kind: str, shape: str) -> bytes:
    """Writes the start of an .npy file."""
    said = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}"
    said += " " * (-(len(said) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(said)) + said.encode()


def speed(change: Callable[[Path], None]) -> Callable[[Path, bytes], object]:
    """Changes the folder of the channel of the speed of a segment."""

    def write(root: Path, _: bytes) -> None:
        write_comma2k19(root)
        (folder,) = root.glob("*/*/processed_log/CAN/speed")
        change(folder)

    return write


def claimed(folder: Path) -> None:
    """Claims 2^40 speeds."""
    (folder / "value").write_bytes(header("<f8", f"{1 << 40}, 1") + bytes(800))


def zeros(folder: Path) -> None:
    """Writes 2^27 speeds and times of zero, a gigabyte each, of which the disk has nothing."""
    for name in ("t", "value"):
        with (folder / name).open("wb") as file:
            start = header("<f8", f"{(1 << 27) - 64},")
            file.write(start)
            file.truncate(len(start) + 8 * ((1 << 27) - 64))


def timed(change: Callable[[Any], Any]) -> Callable[[Path, bytes], object]:
    """Changes the times of the speed of a segment."""

    def rewrite(folder: Path) -> None:
        t_s = change(np.load(folder / "t"))
        with (folder / "t").open("wb") as file:
            np.save(file, t_s)

    return speed(rewrite)


def number(t_s: Any, row: int, value: float) -> Any:
    """Returns times, one of which is another."""
    t_s[row] = value
    return t_s


def _golomb(number: int) -> str:
    """Writes a number as H.264 does: ITU-T H.264, 9.1."""
    bits = f"{number + 1:b}"
    return "0" * (len(bits) - 1) + bits


def parameters(width: int, height: int) -> bytes:
    """Writes a sequence parameter set of H.264 with a picture's size: ITU-T H.264, 7.3.2.1.1."""
    numbers = (0, 0, 2, 1)  # its id, frame numbers of 4 bits, no reordering, one reference
    size = (width // 16 - 1, height // 16 - 1)
    bits = "".join(map(_golomb, numbers)) + "0" + "".join(map(_golomb, size)) + "11001"
    bits += "0" * (-len(bits) % 8)
    return b"\x67\x42\x00\x34" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def huge(name: str, width: int, height: int) -> Callable[[Path, bytes], object]:
    """Writes huge pictures, of which there is nothing but the size."""

    def write(root: Path, _: bytes) -> None:
        write_video(root / name)
        content = (root / name).read_bytes()
        if name.endswith(".mp4"):
            start = content.index(b"avc1") + 28
            content = content[:start] + struct.pack(">HH", width, height) + content[start + 4 :]
            start = content.index(b"avcC") + 10
            size = int.from_bytes(content[start : start + 2], "big")
            sps = parameters(width, height).ljust(size, b"\0")
            content = content[: start + 2] + sps[:size] + content[start + 2 + size :]
        else:
            units = content.split(b"\0\0\1")
            units = [
                parameters(width, height) + b"\0" if unit[:1] == b"\x67" else unit for unit in units
            ]
            content = b"\0\0\1".join(units)
        (root / name).write_bytes(content)

    return write


def joined(name: str, width: int) -> Callable[[Path, bytes], object]:
    """Writes a video, and behind it another one: pictures of another width."""

    def write(root: Path, _: bytes) -> None:
        write_video(root / name)
        first = (root / name).read_bytes()
        write_video(root / name, width=width)
        (root / name).write_bytes(first + (root / name).read_bytes())

    return write


def cut(bytes_: int) -> Callable[[Path, bytes], object]:
    """Cuts bytes off the tail of an MPEG transport stream."""

    def write(root: Path, _: bytes) -> None:
        write_video(root / "a.ts")
        content = (root / "a.ts").read_bytes()
        (root / "a.ts").write_bytes(content[:-bytes_])

    return write


def other_streams(root: Path, _: bytes) -> None:
    """Writes a transport stream whose program changes in the middle: its video has another id."""
    write_video(root / "a.ts")
    content = (root / "a.ts").read_bytes()
    packets = [bytearray(content[at : at + 188]) for at in range(0, len(content), 188)]
    for packet in packets[len(packets) // 2 :]:
        if int.from_bytes(packet[1:3], "big") & 0x1FFF == 0x100:  # the video's packets
            packet[2] = 0x11
    (root / "a.ts").write_bytes(b"".join(packets))


def tiny_units(root: Path, _: bytes) -> None:
    """Writes a stream with 100,000 slices of two bytes behind its first picture."""
    write_video(root / "a.h264")
    with (root / "a.h264").open("ab") as file:
        file.write(b"\0\0\1\x41\x9a" * 100_000)


def named(name: bytes) -> Callable[[Path, bytes], object]:
    """Writes a clip with a name."""

    def write(root: Path, content: bytes) -> None:
        root.mkdir(parents=True, exist_ok=True)
        # A copy would be the same log as the others: an identity is a content.
        content += struct.pack(">I4s8s", 16, b"free", name[:8].ljust(8))
        Path(os.fsdecode(os.path.join(os.fsencode(root), name))).write_bytes(content)  # noqa: PTH118

    return write


def saying(text: str) -> Callable[[Path, bytes], object]:
    """Writes a clip with what its event.json is."""
    return lambda root, content: teslacam(root, content, text)


def burst(root: Path, pictures: int) -> None:
    """Writes a clip of 1920x1080 at 9,000 pictures a second, and an event in it."""
    folder = teslacam(root, b"", event(reason="vehicle_auto_emergency_braking"))
    with av.open(str(folder / CLIP), "w") as container:
        stream: Any = container.add_stream("libx264", rate=9000, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        picture = av.VideoFrame(1920, 1080, "yuv420p")
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(pictures):
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def clip(change: Callable[[bytes], bytes]) -> Callable[[Path, bytes], object]:
    """Writes a clip that is changed."""
    return lambda root, content: teslacam(root, change(content))


CRAFTED: Mapping[str, Crafted] = {
    # A log keeps its video where event.json is at fault.
    "deep JSON": Crafted("teslacam", saying("[" * 100_000), ("corrupt",), 1),
    "a JSON number of 10^6 digits": Crafted(
        "teslacam", saying('{"timestamp": ' + "1" * 1_000_000 + "}"), ("corrupt",), 1
    ),
    # What it says was taken over, and then turns out not to be text.
    "half a surrogate pair": Crafted("teslacam", saying(event(reason="\ud800")), ("corrupt",)),
    "a NUL": Crafted("teslacam", saying(event(reason="a\0b")), ("corrupt",)),
    "a long text": Crafted("teslacam", saying(event(reason="a" * 5000)), ("corrupt",)),
    "a tick a second": Crafted("teslacam", clip(slow), ("corrupt",)),
    **{
        f"2^31 rows of {box.decode()}": Crafted("teslacam", many(box), ("corrupt",))
        for box in (b"stsz", b"stts", b"stsc", b"stco", b"ctts", b"stss")
    },
    # FFmpeg, which decodes, does not find its first picture.
    "pictures of a codec that is not there": Crafted(
        "teslacam",
        clip(lambda c: patched(c, b"stsc", 16, struct.pack(">I", 56))),
        (),
        1,
        ("corrupt",),
    ),
    "a box of no size": Crafted(
        "teslacam", clip(lambda _: struct.pack(">I4s", 4, b"ftyp") + bytes(64)), ("corrupt",)
    ),
    "a box of 2^63 bytes": Crafted(
        "teslacam",
        clip(lambda _: struct.pack(">I4sQ", 1, b"ftyp", 1 << 63) + bytes(64)),
        ("corrupt",),
    ),
    "a sparse terabyte": Crafted("teslacam", sparse, ("corrupt",)),
    "a Parquet bomb": Crafted("lerobot", bomb, ("memory",)),
    "1,000 lists in each other": Crafted("lerobot", nested, ("corrupt",)),
    "lists that contradict their statistics": Crafted("lerobot", contradicting, ("corrupt",)),
    "a picture in 10^300 s": Crafted("lerobot", rated(1e-300), ("corrupt",)),
    "10^300 pictures a second": Crafted("lerobot", rated(1e300), ("corrupt",)),
    # A segment keeps its other channels.
    "2^40 values claimed": Crafted("comma2k19", speed(claimed), ("corrupt",), 1),
    "two sparse gigabytes of zeros": Crafted("comma2k19", speed(zeros), ("memory",)),
    "a time that is no number": Crafted(
        "comma2k19", timed(lambda t_s: number(t_s, 3, np.nan)), ("corrupt",), 1
    ),
    "a time of 10^300 s": Crafted(
        "comma2k19", timed(lambda t_s: number(t_s, 3, 1e300)), ("corrupt",), 1
    ),
    "negative times": Crafted("comma2k19", timed(lambda t_s: -t_s), ("corrupt",), 1),
    "decreasing times": Crafted("comma2k19", timed(lambda t_s: t_s[::-1]), (), 1),
    # Their pictures are looked at by nobody but the sweep, and the labels.
    "16384x16384 in an MP4": Crafted("video", huge("a.mp4", 1 << 14, 1 << 14), (), 1, ("corrupt",)),
    "8192x12288 in a stream": Crafted(
        "video", huge("a.h264", 8192, 12288), (), 1, ("corrupt",), slow=True
    ),
    # FFmpeg knows no pictures as large as these, so the stream has none.
    "16384x16384 in a stream": Crafted("video", huge("a.h264", 1 << 14, 1 << 14), ("corrupt",)),
    "pictures that grow": Crafted("video", joined("a.h264", width=128), (), 1, ("corrupt",)),
    # A transport stream may begin and end anywhere, and loses what is cut.
    "a transport stream without its tail": Crafted("video", cut(500), (), 1),
    "a transport stream with other streams": Crafted("video", other_streams, (), 1),
    "100,000 tiny slices": Crafted("video", tiny_units, (), 1),
    "a line feed in a name": Crafted("", named(b"a\nb.mp4"), ("unsupported",)),
    "a name that is not UTF-8": Crafted("", named(b"a\xff.mp4"), ("unsupported",)),
    "a name of 255 bytes": Crafted("video", named(b"a" * 251 + b".mp4"), (), 1),
    "a name like a flag": Crafted("video", named(b"--rf.mp4"), (), 1),
}

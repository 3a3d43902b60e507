"""Frame times and written clips, read back."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from schemas.arrays import Image
from synth.clips import CAMERA_HZ, clip, even_clip, write_clip
from synth.encode import BLANK_SIZE
from synth.mp4_file import TICKS_PER_S
from transforms.video.mp4 import read_index


@pytest.mark.parametrize("drops", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("duration_s", [0.05, 3.0, 60.0])
def test_steps_are_those_of_real_recordings(duration_s: float, drops: float) -> None:
    made = clip(np.random.default_rng(1), duration_s, drops)
    steps = np.diff(np.append(made.ticks, made.end_tick))
    assert made.ticks[0] == 0
    assert steps.min() >= 14
    assert np.diff(made.ticks).max() <= 549
    assert made.end_tick - made.edit_tick == round(duration_s * TICKS_PER_S)
    assert (made.t_s < 0).sum() == 2
    assert 0.0 in made.t_s


def test_drops_lengthen_the_mean_step() -> None:
    none, some = (clip(np.random.default_rng(1), 60.0, drops) for drops in (0.0, 2.0))
    assert len(none.ticks) == pytest.approx(60 * CAMERA_HZ, rel=0.01)
    lost = 1 - len(some.ticks) / len(none.ticks)
    assert lost == pytest.approx(1 - 0.94**2, rel=0.15)  # every drop takes two frames


def test_even_frames_are_a_constant_rate() -> None:
    made = even_clip(2.0, 25)
    np.testing.assert_allclose(made.t_s, np.arange(50) / 25)
    assert made.end_tick == 2 * TICKS_PER_S


@pytest.mark.parametrize("drawn", [True, False])
def test_a_written_clip_holds_its_frames_and_telemetry(drawn: bool) -> None:
    made = clip(np.random.default_rng(2), 1.0, 0.0)
    n = len(made.ticks)
    telemetry = [b"" if k % 5 == 0 else b"\x06\x05" + bytes([k + 1]) for k in range(n)]

    def draw(k: int) -> Image:
        return np.full((48, 96, 3), 4 * k + 40, np.uint8)

    out = io.BytesIO()
    size = write_clip(out, made, telemetry, draw if drawn else None, (96, 48))
    assert size == ((96, 48) if drawn else BLANK_SIZE)
    content = out.getvalue()
    (track,) = read_index(io.BytesIO(content), "a.mp4")
    assert track.pts.tolist() == (made.ticks - made.edit_tick).tolist()
    for offset, length, sei in zip(track.byte_offset, track.byte_size, telemetry, strict=True):
        units, at = [], int(offset)
        while at < offset + length:
            until = at + 4 + int.from_bytes(content[at : at + 4], "big")
            units.append(content[at + 4 : until])
            at = until
        assert at == offset + length
        assert units[:-1] == ([sei] if sei else [])
        assert units[-1][0] & 0x1F in {1, 5}
    with av.open(io.BytesIO(content), "r") as container:
        images = [f.to_ndarray(format="bgr24") for f in container.decode(video=0)]
    assert len(images) == n - 2
    for k, image in enumerate(images, 2):
        assert image.mean() == pytest.approx(4 * k + 40 if drawn else 0, abs=4)

"""Proxies: a frame for each picture, at a constant rate, in the place that the times say."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auto_label.review.proxy import Proxy, ProxySpec, make_proxy, playback_s
from schemas.arrays import Image, IntArray
from schemas.errors import CorruptError
from transforms.video.decode import Frame

NS = 1_000_000_000


def picture(number: int, size: tuple[int, int]) -> Image:
    """A picture that says its number: eight bars, each black or white."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for bit in range(8):
        if number >> bit & 1:
            image[:, bit * size[0] // 8 : (bit + 1) * size[0] // 8] = 255
    return image


def numbers(proxy: Proxy) -> tuple[list[int], list[float], tuple[int, int]]:
    """Returns the numbers of the pictures, when they are shown, and their size."""
    found, times, size = [], [], (0, 0)
    with av.open(io.BytesIO(proxy.mp4), "r") as container:
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="gray")
            size = (image.shape[1], image.shape[0])
            bars = [image[:, (2 * bit + 1) * size[0] // 16].mean() > 128 for bit in range(8)]
            found.append(sum(1 << bit for bit in range(8) if bars[bit]))
            times.append(float(frame.time or 0.0))
    return found, times, size


def made(t_ns: IntArray, size: tuple[int, int], padded: tuple[int, int] | None = None) -> Proxy:
    wide, high = padded or size
    frames = []
    for number, at in enumerate(t_ns.tolist()):
        image = np.zeros((high, wide, 3), np.uint8)
        image[: size[1], : size[0]] = picture(number, size)
        frames.append(Frame(at, image))
    return make_proxy(frames, t_ns, size, ProxySpec(max_width=320))


@pytest.mark.parametrize(
    ("size", "padded", "inner"),
    [
        ((160, 120), None, (160, 120)),
        ((161, 121), (162, 122), (160, 120)),
        ((1280, 960), None, (320, 240)),
        ((640, 90), None, (320, 44)),
    ],
)
def test_each_picture_is_one_frame_in_its_place(
    size: tuple[int, int], padded: tuple[int, int] | None, inner: tuple[int, int]
) -> None:
    dice = np.random.default_rng(size[0])
    steps_ns = [27_000_000, 28_000_000, 90_000_000, 700_000_000]
    steps = dice.choice(steps_ns, 100, p=[0.5, 0.4, 0.08, 0.02])
    t_ns = np.cumsum(steps)
    proxy = made(t_ns, size, padded)
    found, times, seen = numbers(proxy)
    assert found == list(range(100))
    assert seen == inner
    assert proxy.t_ns.tolist() == t_ns.tolist()
    assert proxy.fps == round(NS / np.median(np.diff(t_ns)))
    np.testing.assert_allclose(times, np.arange(100) / proxy.fps, atol=1e-4)


def test_equal_pictures_give_equal_bytes() -> None:
    t_ns = np.arange(30) * 40_000_000
    assert made(t_ns, (160, 120)).mp4 == made(t_ns, (160, 120)).mp4


def test_a_single_picture_is_a_proxy_and_none_is_not() -> None:
    proxy = made(np.array([5]), (64, 48))
    assert (numbers(proxy)[0], proxy.fps) == ([0], 1)
    with pytest.raises(CorruptError, match="has no pictures"):
        make_proxy([], np.array([5]), (64, 48), ProxySpec())


def test_what_fails_while_pictures_come_leaves_no_process() -> None:
    def frames() -> object:
        yield Frame(0, picture(1, (64, 48)))
        raise CorruptError("the clip is cut")

    with pytest.raises(CorruptError, match="the clip is cut"):
        make_proxy(frames(), np.arange(2), (64, 48), ProxySpec())  # type: ignore[arg-type]


@given(st.lists(st.integers(1, NS), min_size=1, max_size=20), st.integers(1, 60))
def test_instants_are_shown_between_the_frames_around_them(steps: list[int], fps: int) -> None:
    frames = np.cumsum(np.array([0, *steps]))
    np.testing.assert_allclose(playback_s(frames, frames, fps), np.arange(len(frames)) / fps)
    outside = playback_s(np.array([-NS, frames[-1] + NS]), frames, fps)
    np.testing.assert_allclose(outside, [-1, (len(frames) - 1) / fps + 1])
    rising = playback_s(np.linspace(-NS, frames[-1] + NS, 50).astype(np.int64), frames, fps)
    assert (np.diff(rising) >= 0).all()


def test_the_digest_follows_what_makes_the_pixels() -> None:
    assert ProxySpec().digest == ProxySpec().digest
    assert len({ProxySpec().digest, ProxySpec(480).digest, ProxySpec(crf=30).digest}) == 3

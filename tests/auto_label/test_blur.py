"""Blurring: what is found, what is left of it, and what happens between label frames."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from auto_label.blur import Blurrer, BlurStream, _join, blur
from schemas.arrays import BoolArray, FloatArray, Image
from schemas.errors import FleetError
from transforms.video.decode import Frame

NONE: FloatArray = np.empty((0, 4))


@pytest.fixture(scope="module")
def blurrer() -> Blurrer:
    """Gives the blurrer."""
    return Blurrer()


def _noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def _face(size: int) -> Image:
    """Draws a face that a frontal cascade knows: light skin, dark eyes, nose shade, mouth."""
    canvas = np.full((200, 200), 90, np.uint8)
    cv2.ellipse(canvas, (100, 100), (62, 80), 0, 0, 360, 190, -1)
    cv2.ellipse(canvas, (100, 45), (62, 35), 0, 180, 360, 50, -1)
    for x in (75, 125):
        cv2.ellipse(canvas, (x, 82), (17, 9), 0, 0, 360, 60, -1)
        cv2.ellipse(canvas, (x, 68), (18, 4), 0, 0, 360, 70, -1)
    cv2.ellipse(canvas, (100, 112), (8, 16), 0, 0, 360, 165, -1)
    cv2.ellipse(canvas, (100, 140), (26, 8), 0, 0, 360, 95, -1)
    soft = cv2.GaussianBlur(canvas, (0, 0), 4)
    return cv2.cvtColor(cv2.resize(soft, (size, size)), cv2.COLOR_GRAY2BGR).astype(np.uint8)


def _covers(regions: FloatArray, point: tuple[float, float]) -> bool:
    low, high = regions[:, :2], regions[:, :2] + regions[:, 2:]
    return bool(((low <= point) & (point <= high)).all(axis=1).any())


@pytest.mark.parametrize("mirror", [False, True])
def test_a_face_is_found_wherever_it_is(blurrer: Blurrer, mirror: bool) -> None:
    image: Image = np.full((480, 640, 3), 120, np.uint8)
    image[120:320, 350:550] = _face(200)
    if mirror:
        image = image[:, ::-1].copy()
    regions = blurrer.regions(image, NONE)
    assert _covers(regions, (190 if mirror else 450, 220))


def test_the_upper_third_of_a_person_goes_unseen_face_or_not(blurrer: Blurrer) -> None:
    persons = np.array([[100.0, 50, 60, 180], [400, 60, 50, 150]])
    regions = blurrer.regions(np.full((480, 640, 3), 99, np.uint8), persons)
    for x, y, w, h in persons:
        for point in ((x, y), (x + w, y), (x, y + h / 3), (x + w, y + h / 3)):
            assert _covers(regions, point)
        assert not _covers(regions, (x + w / 2, y + h * 0.6))


def test_regions_are_the_same_each_time(blurrer: Blurrer) -> None:
    image = _noise(300, 400)
    image[50:250, 100:300] = _face(200)
    boxes = np.array([[10.0, 10, 40, 90]])
    one = blurrer.regions(image, boxes, boxes)
    assert all(Blurrer().regions(image, boxes, boxes).tobytes() == one.tobytes() for _ in range(3))


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (15, 15), (61, 21)])
def test_small_pictures_and_boxes_outside_are_no_trouble(
    blurrer: Blurrer, shape: tuple[int, int]
) -> None:
    image = _noise(*shape)
    boxes = np.array([[-50.0, -50, 10, 10], [1e6, 1e6, 5, 5], [-5, -5, 1e5, 1e5], [0, 0, 0, 0]])
    blur(image, blurrer.regions(image, boxes, boxes))
    assert image.shape == (*shape, 3)


def test_the_cost_does_not_grow_with_the_picture(blurrer: Blurrer) -> None:
    large = _noise(1876, 2896)
    small = cv2.resize(large, (1280, 960)).astype(np.uint8)

    def cost(image: Image) -> float:
        """Gives the cost."""
        start = time.thread_time()
        blurrer.regions(image, NONE)
        return time.thread_time() - start

    cost(small)
    assert min(cost(large) for _ in range(3)) < 3 * max(cost(small) for _ in range(3)) + 0.05


def test_nothing_legible_is_left(blurrer: Blurrer) -> None:
    image = _noise(240, 320, seed=7)
    before = image.copy()
    blur(image, np.array([[60.0, 40, 120, 100]]))
    inside, was = image[40:140, 60:180].astype(float), before[40:140, 60:180].astype(float)
    # Of 12,000 independent pixels as many numbers are left as there are cells, and fewer.
    fine = inside - np.asarray(cv2.GaussianBlur(inside, (0, 0), 6), dtype=np.float64)
    assert np.std(fine) < 0.05 * np.std(was)
    assert abs(np.corrcoef(fine.ravel(), was.ravel())[0, 1]) < 0.05
    outside = np.ones((240, 320), bool)
    outside[40:140, 60:180] = False
    assert (image[outside] == before[outside]).all()
    assert blurrer.regions(image, NONE).shape[1] == 4


def test_two_pictures_of_equal_cells_blur_to_the_same() -> None:
    # Swapping pixels inside a cell changes nothing that is left: it cannot be undone.
    image = _noise(60, 60, seed=1)
    shuffled = image.copy()
    rng = np.random.default_rng(0)
    for y in range(0, 60, 10):
        for x in range(0, 60, 10):
            cell = shuffled[y : y + 10, x : x + 10].reshape(-1, 3)
            shuffled[y : y + 10, x : x + 10] = rng.permutation(cell).reshape(10, 10, 3)
    assert (shuffled != image).any()
    whole = np.array([[0.0, 0, 60, 60]])
    blur(image, whole)
    blur(shuffled, whole)
    assert np.abs(image.astype(int) - shuffled).max() <= 1


def test_a_blurred_face_is_a_face_no_more(blurrer: Blurrer) -> None:
    image = np.full((480, 640, 3), 120, np.uint8)
    image[120:320, 350:550] = _face(200)
    blur(image, blurrer.regions(image, NONE))
    cascade = cv2.CascadeClassifier(
        str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml")
    )
    assert len(cascade.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 1.05, 1)) == 0


@pytest.mark.parametrize("broken", [None, b"", b"<opencv_storage></opencv_storage>"])
def test_without_its_cascades_nothing_opens(tmp_path: Path, broken: bytes | None) -> None:
    for path in (Path(cv2.__file__).parent / "data").glob("*.xml"):
        shutil.copy(path, tmp_path)
    Blurrer(tmp_path)
    lost = tmp_path / "haarcascade_russian_plate_number.xml"
    lost.unlink()
    if broken is not None:
        lost.write_bytes(broken)
    with pytest.raises(FleetError, match="haarcascade_russian_plate_number"):
        Blurrer(tmp_path)


class _Marks(Blurrer):
    """A blurrer that finds what it is told to: the persons' boxes, whole."""

    def regions(
        self, bgr: Image, person_boxes: FloatArray, vehicle_boxes: FloatArray = NONE
    ) -> FloatArray:
        """Returns the boxes given."""
        assert bgr.ndim == 3
        assert len(vehicle_boxes) == 0
        return person_boxes


def _streamed(boxes: dict[int, FloatArray], count: int) -> list[Frame]:
    """Streams noise; `boxes` are the persons of the label frames."""
    stream = BlurStream(_Marks())
    out: list[Frame] = []
    for k in range(count):
        out += stream.push(Frame(k, _noise(100, 200, seed=k)), boxes.get(k))
    return [*out, *stream.close()]


def _touched(frame: Frame) -> BoolArray:
    return np.asarray((frame.image != _noise(100, 200, seed=frame.t_ns)).any(axis=2))


def test_frames_come_out_in_order_and_complete() -> None:
    out = _streamed({0: NONE, 4: NONE, 8: NONE}, 11)
    assert [frame.t_ns for frame in out] == list(range(11))
    assert not any(_touched(frame).any() for frame in out)


def test_between_label_frames_both_sides_and_the_way_between_are_blurred() -> None:
    left, right = np.array([[10.0, 20, 20, 20]]), np.array([[45.0, 20, 20, 20]])
    out = _streamed({0: left, 4: right, 8: NONE}, 12)
    for k in (1, 2, 3):
        assert _touched(out[k])[22:38, 12:63].mean() > 0.95
    assert not _touched(out[0])[:, 31:].any()
    for k in (5, 6, 7):
        assert _touched(out[k])[22:38, 46:64].mean() > 0.95
        assert not _touched(out[k])[:, :44].any()


def test_what_appears_at_the_next_label_frame_is_blurred_before_it() -> None:
    out = _streamed({0: NONE, 5: np.array([[100.0, 40, 30, 30]])}, 6)
    assert all(_touched(out[k])[42:68, 102:128].mean() > 0.95 for k in range(1, 6))


def test_frames_after_the_last_label_frame_keep_its_regions() -> None:
    out = _streamed({0: np.array([[100.0, 40, 30, 30]])}, 5)
    assert len(out) == 5
    assert all(_touched(frame)[42:68, 102:128].mean() > 0.95 for frame in out)


def test_a_stream_must_start_with_a_label_frame() -> None:
    with pytest.raises(ValueError, match="label frame"):
        list(BlurStream(_Marks()).push(Frame(0, _noise(10, 10)), None))


def test_real_frames_keep_their_road(data: Path, blurrer: Blurrer) -> None:
    image = cv2.imread(str(data / "video" / "stills" / "whiteCarLaneSwitch.jpg"))
    assert image is not None
    regions = blurrer.regions(image.astype(np.uint8), NONE)
    area = (regions[:, 2] * regions[:, 3]).sum() / (image.shape[0] * image.shape[1])
    assert area < 0.05


def test_a_crowd_gets_hulls_that_cover_every_pair_but_few() -> None:
    """Whoever walks from a region to a near one is covered on the way."""
    dice = np.random.default_rng(3)
    before = np.concatenate([dice.uniform(0, 300, (76, 2)), dice.uniform(30, 60, (76, 2))], axis=1)
    step = np.array([5.0, 3.0, 0.0, 0.0])
    after, far = before + step, np.array([[5000.0, 5000.0, 40.0, 40.0]])
    joined = _join(np.concatenate([before, far]), np.concatenate([after, far + step]))
    hulls = joined[2 * 77 :]
    assert len(hulls) == 2, "the crowd, and the one far away"
    for one, other in zip(before, after, strict=True):
        low = np.minimum(one[:2], other[:2])
        high = np.maximum(one[:2] + one[2:], other[:2] + other[2:])
        inside = (hulls[:, :2] <= low) & (hulls[:, :2] + hulls[:, 2:] >= high)
        assert inside.all(axis=1).any()
    assert (hulls[:, 2:].max(axis=1) < 500).all(), "nothing far away is joined"


def test_pairs_of_few_regions_have_a_hull_each() -> None:
    before = np.array([[0.0, 0.0, 10.0, 10.0], [12.0, 0.0, 10.0, 10.0]])
    assert len(_join(before, before + 1.0)) == 2 + 2 + 4

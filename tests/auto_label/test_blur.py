"""Blurring: what is found, and what is left of it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from auto_label.blur import Blurrer, blur
from schemas.arrays import FloatArray, Image
from schemas.errors import FleetError

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


def _plate() -> Image:
    """Draws a plate that a cascade knows."""
    plate: Image = np.full((44, 200, 3), 235, np.uint8)
    cv2.rectangle(plate, (1, 1), (198, 42), (20, 20, 20), 2)
    cv2.putText(plate, "B 777 OP", (20, 35), cv2.FONT_HERSHEY_DUPLEX, 1.3, (10, 10, 10), 2)
    return cv2.GaussianBlur(plate, (0, 0), 0.8).astype(np.uint8)


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


def test_real_frames_keep_their_road(data: Path, blurrer: Blurrer) -> None:
    image = cv2.imread(str(data / "video" / "stills" / "whiteCarLaneSwitch.jpg"))
    assert image is not None
    regions = blurrer.regions(image.astype(np.uint8), NONE)
    area = (regions[:, 2] * regions[:, 3]).sum() / (image.shape[0] * image.shape[1])
    assert area < 0.05


def test_a_large_region_costs_what_its_area_costs() -> None:
    image = _noise(1000, 1000)

    def cost(regions: FloatArray) -> float:
        """Returns the least time of some tries."""
        times = []
        for _ in range(5):
            start = time.thread_time()
            blur(image, regions)
            times.append(time.thread_time() - start)
        return min(times)

    corners = range(0, 1000, 100)
    tiles = np.array([[x, y, 100.0, 100.0] for x in corners for y in corners])
    assert cost(np.array([[0.0, 0, 1000, 1000]])) < 3 * cost(tiles)


def test_where_a_detector_looks_a_plate_is_on_a_vehicle(blurrer: Blurrer) -> None:
    image: Image = np.full((480, 640, 3), 60, np.uint8)
    image[200:244, 200:400] = _plate()
    alone = blurrer.regions(image, NONE)
    vehicle = np.array([[150.0, 100.0, 320.0, 250.0]])
    elsewhere = np.array([[0.0, 400.0, 50.0, 50.0]])
    on = blurrer.regions(image, NONE, vehicle, detected=True)
    off = blurrer.regions(image, NONE, elsewhere, detected=True)
    assert len(alone) > 0
    assert len(off) == 0
    assert all(region in on.tolist() for region in alone.tolist())

"""What the default policy covers of faces and plates that move, frame by frame, by their size.

The faces are of photographs that packages ship, the plates are drawn; both move through the road
of the recordings and through a synthetic drive. A face or plate counts as covered if nine tenths
of it are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from auto_label.models import Detector, load_models, open_detector
from auto_label.packages import WheelFile
from auto_label.policies import PolicySpec, load_policy
from auto_label.privacy import Privacy
from auto_label.specs import PixelSpec
from auto_label.weights import fetch
from schemas.arrays import FloatArray, Image
from schemas.records import Event
from synth.fleet import FleetSpec, write_fleet
from tests.auto_label.drawn_plates import COUNTRIES, box_of, paste
from tests.auto_label.moving import FPS, Sprite, covered, moving, pasted
from tests.conftest import Tell

pytestmark = pytest.mark.slow

FRAMES = 30
NS = round(1e9 / FPS)


@pytest.fixture(scope="module")
def policy() -> PolicySpec:
    """The default policy, with the detectors that it needs alone."""
    policy = load_policy("blur")
    assert policy is not None
    needed = [one.model_dump() for one in policy.detectors if one.needed]
    return policy.replace(detectors=needed)


@pytest.fixture(scope="module")
def detectors(policy: PolicySpec) -> Mapping[str, Detector]:
    """Its models, by name."""
    models = load_models([one.model for one in policy.detectors])
    return {model.name: open_detector(model, fetch(model)) for model in models}


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A head, 210 x 300."""
    path = tmp_path_factory.mktemp("portrait") / "astronaut.png"
    with path.open("wb") as out:
        WheelFile.parse("pypi:scikit-image==0.25.2#skimage/data/astronaut.png").copy_to(out)
    return np.asarray(cv2.imread(str(path)), np.uint8)[0:300, 120:330]


FACE = np.array([62.0, 58.0, 88.0, 120.0])
"""Where the face of the portrait is: from the hairline to the chin."""


@pytest.fixture(scope="module", params=["road", "synthetic"])
def road(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    """Pictures of the recorded road, or of a synthetic drive."""
    if request.param == "road":
        video = request.getfixturevalue("data") / "video" / "solidWhiteRight.mp4"
    else:
        folder = tmp_path_factory.mktemp("drive")
        spec = FleetSpec(drives=1, minutes=0.1, seed=3, width=960, height=540, cameras=("front",))
        write_fleet(spec, str(folder), False)
        (video,) = folder.rglob("*-front.mp4")
    return _pictures(video)


def _pictures(video: Path) -> list[Image]:
    with av.open(str(video)) as container:
        pictures = [
            frame.to_ndarray(format="bgr24").astype(np.uint8)
            for frame, _ in zip(container.decode(video=0), range(FRAMES), strict=False)
        ]
    assert len(pictures) == FRAMES
    return pictures


def regions(
    pictures: Sequence[Image],
    policy: PolicySpec,
    detectors: Mapping[str, Detector],
    platform: str = "vehicle",
) -> list[FloatArray]:
    """Returns what is covered of each picture."""
    times = [k * NS for k in range(len(pictures))]
    event = Event("e", "l", "d", "t", 1, "p", 0, 0, times[-1] + 1, 1.0, "{}")
    pairs = tuple((one, detectors[one.model].spec.identity) for one in policy.detectors)
    known = {detector.spec.identity: detector for detector in detectors.values()}
    seen = Privacy(event, PixelSpec(25, policy, pairs), known, times[-1], platform)
    for t_ns, image in zip(times, pictures, strict=True):
        if seen.wants(t_ns):
            seen.look(image, t_ns)
    masks = seen.masks()
    return [masks.of(t_ns) for t_ns in times]


def recall(
    road: Sequence[Image],
    sprites: Callable[[np.random.Generator], list[Sprite]],
    reach: float,
    policy: PolicySpec,
    detectors: Mapping[str, Detector],
) -> float:
    """Returns the share of boxes, over all frames, that are covered."""
    dice = np.random.default_rng(round(reach * 10))
    pictures, boxes = moving(road, sprites(dice), reach, 100.0, seed=round(reach))
    size = (road[0].shape[1], road[0].shape[0])
    shares = [
        covered(found, own, size)
        for found, own in zip(regions(pictures, policy, detectors), boxes, strict=True)
    ]
    return float(np.mean(np.concatenate(shares) >= 0.9))


WANTED_FACES = {10: 0.0, 12: 0.4, 16: 0.95, 20: 0.95, 24: 0.99, 32: 0.99, 48: 0.99, 96: 0.99}
"""Recall by height in pixels."""


def test_faces_are_covered_on_every_frame(
    road: list[Image],
    portrait: Image,
    policy: PolicySpec,
    detectors: Mapping[str, Detector],
    tell: Tell,
) -> None:
    found = {
        tall: recall(
            road,
            lambda _, tall=tall: [pasted(portrait, FACE, tall)] * 6,  # type: ignore[misc]
            1.5 * tall,
            policy,
            detectors,
        )
        for tall in WANTED_FACES
    }
    tell(f"faces, by height in px: {found}")
    assert not {tall: share for tall, share in found.items() if share < WANTED_FACES[tall]}


WANTED_PLATES = {24: 0.85, 32: 0.85, 40: 0.98, 60: 0.99, 80: 0.99, 120: 0.99}
"""Recall by width in pixels, of plates that are turned by up to 60 degrees."""


def plates(wide: float) -> Callable[[np.random.Generator], list[Sprite]]:
    """Makes plates of all countries, each turned about all axes."""

    def made(dice: np.random.Generator) -> list[Sprite]:
        def sprite(number: int) -> Sprite:
            plate = list(COUNTRIES.values())[number % len(COUNTRIES)](dice)
            yaw, pitch = dice.uniform(-60, 60), dice.uniform(-20, 20)
            roll = dice.uniform(-20, 20)
            return lambda image, x, y: box_of(paste(image, plate, (x, y), wide, yaw, pitch, roll))

        return [sprite(number) for number in range(8)]

    return made


def test_plates_are_covered_on_every_frame(
    road: list[Image], policy: PolicySpec, detectors: Mapping[str, Detector], tell: Tell
) -> None:
    found = {
        wide: recall(road, plates(wide), 0.6 * wide, policy, detectors) for wide in WANTED_PLATES
    }
    tell(f"plates, by width in px: {found}")
    assert not {wide: share for wide, share in found.items() if share < WANTED_PLATES[wide]}


@pytest.mark.parametrize(
    ("clip", "platform"), [("video/solidWhiteRight.mp4", "vehicle"), ("lerobot", "robot")]
)
def test_little_else_is_covered(  # noqa: PLR0917 - fixtures and a case
    data: Path,
    clip: str,
    platform: str,
    policy: PolicySpec,
    detectors: Mapping[str, Detector],
    tell: Tell,
) -> None:
    """On a road without pedestrians, and of a robot's hands."""
    videos = [data / clip] if clip.endswith("mp4") else sorted((data / clip).rglob("*.mp4"))[:3]
    shares = []
    for video in videos:
        pictures = _pictures(video)
        size = (pictures[0].shape[1], pictures[0].shape[0])
        whole = np.array([[0.0, 0.0, *size]])
        found = regions(pictures, policy, detectors, platform)
        shares += [covered(one, whole, size)[0] for one in found]
    mean, most = float(np.mean(shares)), float(np.max(shares))
    tell(f"{clip}: covered {mean:.4f} of the picture on average, {most:.4f} at most")
    assert mean < 0.02
    assert most < 0.08

"""A labeller's work in Label Studio's editor, in a browser: what is moved there arrives exactly.

The boxes are those that were drawn (see tests.truth_model), so that there are some without the
weights of a detector.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from auto_label.review.config import CHANNELS, TIME, labelling_config
from auto_label.review.keyframes import shown
from auto_label.review.proxy import Proxy
from auto_label.review.tasks import TRACK
from jobs import demo
from pipeline.lake.tables import Lake
from schemas.arrays import BoolArray, FloatArray
from synth.fleet import write_fleet
from tests import fetch, truth_model
from tests.auto_label.review.reviewed import task_of
from tests.browser import WAIT_S, Tab, opened
from tests.editor import PLOT, Editor
from tests.jobs.inprocess import call
from tests.label_studio import EMAIL, LabelStudio, running
from tests.pipeline.snapshots.written import members_of
from tests.servers import wait_for
from tests.weights import offline

pytestmark = pytest.mark.review

FLEET = replace(demo.FLEET, drives=1, minutes=0.8, width=800, height=600)
"""The first drive of the demo, shorter and with larger pictures."""

FPS, PROXY_WIDTH = 18.0, 640
"""Frames a second at which the model looked, and width of what is shown, px."""

BY_MOUSE = (-18, 2)
"""How far the box is moved on the screen, px."""

TOLERANCE_PX = 0.5
"""Keyframes meet a model's boxes to a quarter of a px."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of one drive, whose events have boxes that move."""
    root = tmp_path_factory.mktemp("drawn")
    fleet, lake, models = root / "fleet", root / "lake", root / "models"
    write_fleet(FLEET, str(fleet), True)
    models.mkdir()
    labelled = ("--label-fps", FPS, "--models", truth_model.NAME, "--models-dir", models)
    with offline():
        for command in (("ingest", "--input", fleet), ("mine",)):
            assert call(*command, "--lake", lake).code == 0
        size = (FLEET.width, FLEET.height)
        truth_model.look(Lake.open(str(lake)), fleet, size, FPS, models)
        done = call("label", "--lake", lake, *labelled)
    assert done.code == 0, done.err
    return lake


@pytest.fixture(scope="module")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A server that serves the files of its folder `documents`, and a browser at hand."""
    fetch.chromium()  # here, because a test has no network
    folder = tmp_path_factory.mktemp("browser")
    (folder / "documents").mkdir()
    with running(folder / "server", folder / "documents") as started:
        yield started


@pytest.fixture
def pushed(lake: Path, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The tasks of the lake's events on the server; pushing again leaves them as they are."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    assert label_studio.documents is not None
    out = ("--out", label_studio.documents / "review", "--width", PROXY_WIDTH)
    done = call("review", "push", *out, *server(lake, label_studio))
    assert done.code == 0, done.err
    (number,) = done.document["projects"]
    listed = label_studio.ask("GET", f"/api/tasks?project={number}")["tasks"]
    return [label_studio.ask("GET", f"/api/tasks/{task['id']}") for task in listed]


def server(lake: Path, label_studio: LabelStudio) -> tuple[object, ...]:
    """Returns the flags that name a lake and its project."""
    to = ("--label-studio", label_studio.url, "--project", "the review")
    return ("--lake", lake, *to, "--json")


Sequences = dict[str, list[dict[str, Any]]]
"""Keyframes of each region, by its id."""

Boxes = dict[tuple[str, int], FloatArray]
"""Boxes by region and frame: x, y, width and height, in px of the camera's picture."""


@dataclass(frozen=True)
class Move:
    """A box that is moved: its region, and a frame that no model looked at.

    `around` are the keyframes before and after this frame, `before` what the model said.
    """

    data: dict[str, Any]
    before: Sequences
    region: str
    frame: int
    around: tuple[int, int]

    @classmethod
    def of(cls, task: dict[str, Any]) -> Move:
        """Chooses the widest box that no edge of the picture cuts."""
        data, before = task["data"], sequences(task["predictions"][0])
        looked = {*data["grid"], *(one["frame"] for own in before.values() for one in own)}
        others = {*range(1, len(data["frames_ns"]) + 1)} - looked
        region, frame = max(
            (
                (box[2], region, frame)
                for (region, frame), box in boxes_on(data, before, others).items()
                if box[0] > 0.05 * data["width_px"]
            )
        )[1:]
        frames = [one["frame"] for one in before[region]]
        after = bisect(frames, frame)
        return cls(data, before, region, frame, (frames[after - 1], frames[after]))

    @property
    def size(self) -> FloatArray:
        """What 100 % are of x, y, width and height, px."""
        return np.tile([self.data["width_px"], self.data["height_px"]], 2).astype(np.float64)

    def boxes(self) -> Boxes:
        """Returns what the model said, on the frames about which the answer speaks."""
        return boxes_on(self.data, self.before, {*self.data["grid"], self.frame})

    def fullest(self) -> int:
        """Returns a frame with as many boxes as any."""
        frames = Counter(frame for _, frame in self.boxes())
        return frames.most_common(1)[0][0]

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Boxes:
        """Reads rows of boxes."""
        frame_of = {t_ns: frame for frame, t_ns in enumerate(self.data["frames_ns"], start=1)}
        names = ("x_px", "y_px", "w_px", "h_px")
        return {
            (f"{TRACK}{row['track_id']}", frame_of[row["t_ns"]]): np.array([row[n] for n in names])
            for row in rows
        }

    def is_still(self, region: str, frame: int) -> bool:
        """Whether the move leaves a box as it was."""
        return region != self.region or not self.around[0] < frame < self.around[1]


def boxes_on(data: Mapping[str, Any], regions: Sequences, frames: Iterable[int]) -> Boxes:
    """Returns the boxes that are drawn on some frames."""
    wanted, found = np.array(sorted(frames)), {}
    for region, sequence in regions.items():
        on, xywh = shown(sequence, wanted, (data["width_px"], data["height_px"]))
        found.update({(region, frame): box for frame, box in zip(on.tolist(), xywh, strict=True)})
    return found


def sequences(answer: Mapping[str, Any]) -> Sequences:
    """Returns the keyframes of an annotation or a prediction."""
    boxes = [one for one in answer["result"] if one["type"] == "videorectangle"]
    return {one["id"]: one["value"]["sequence"] for one in boxes}


def test_a_box_that_a_labeller_moves_arrives_on_its_frame_and_pixel(
    lake: Path, label_studio: LabelStudio, pushed: list[dict[str, Any]]
) -> None:
    task = next(one for one in pushed if one["data"]["trigger"] == "disengagement")
    move = Move.of(task)
    with opened(1440, 1240) as tab:
        editor = Editor.open(tab.page, label_studio, task)
        work_as_a_labeller(tab, editor, move)
        scale = task["data"]["width_px"] / editor.area["width"]
        assert [url for url in tab.requests if not url.startswith(label_studio.url)] == []
    place = check_stored(label_studio, task["id"], move)
    pulled = call("review", "pull", *server(lake, label_studio))
    assert pulled.code == 0, pulled.err

    verdicts = Lake.open(str(lake)).read("verdicts").to_pylist()
    (row,) = [one for one in verdicts if one["task"] == task["data"]["fleetmill"]]
    assert (row["verdict"], row["reviewer"], row["skipped"]) == ("right", EMAIL, False)
    found, before = move.read(row["boxes"]), move.boxes()
    assert found.keys() == before.keys()
    now = found[move.region, move.frame]
    assert now == pytest.approx(place * move.size / 100)
    by = scale * np.array([*BY_MOUSE, 0, 0])
    assert now == pytest.approx(before[move.region, move.frame] + by, abs=1.5)
    for key, box in found.items():
        assert not move.is_still(*key) or box == pytest.approx(before[key], abs=1e-3), key
    check_corpora(lake, move, now)


def work_as_a_labeller(tab: Tab, editor: Editor, move: Move) -> None:
    """Looks at signals and video, plays it, moves the box, and answers; keeps pictures of it."""
    check_curve(editor, "speed_mps")
    editor.play()
    look_at(editor, move, move.fullest())
    tab.keep("review-task.png")
    parts = [tab.page.locator(name).first for name in (".lsf-timeline", PLOT, ".lsf-choices")]
    tab.keep_figure(
        "review-task.svg",
        tab.page.locator(".lsf-main-content"),
        [editor.area, *parts, editor.submit_button],
    )

    look_at(editor, move, move.frame)
    box = move.boxes()[move.region, move.frame] / move.size
    editor.drag(box, BY_MOUSE)
    at = editor.placed(box)
    at["x"], at["y"] = at["x"] + BY_MOUSE[0], at["y"] + BY_MOUSE[1]
    keyframe = sum(one["frame"] < move.frame for one in move.before[move.region])
    buttons = tab.page.locator(".lsf-timeline-controls button")
    tab.keep_figure(
        "review-moved.svg",
        tab.page.locator(".lsf-video-segmentation"),
        [at, editor.keyframes.nth(keyframe), buttons.nth(2), buttons.nth(3)],
    )
    editor.answer("right")


def check_curve(editor: Editor, channel: str) -> None:
    """Checks that the curve of a signal is that of its values."""
    points, series = editor.curve(channel), editor.task["data"]["signals"]
    pairs = zip(series[TIME], series[channel], strict=True)
    known = np.array([pair for pair in pairs if pair[1] is not None])
    assert len(points) == len(known) > 100
    assert np.corrcoef(points[:, 0], known[:, 0])[0, 1] > 0.999
    assert np.corrcoef(points[:, 1], -known[:, 1])[0, 1] > 0.999


def look_at(editor: Editor, move: Move, frame: int) -> None:
    """Goes to a frame, and waits until its boxes are drawn where they are, and nothing else is."""
    editor.go_to(frame)
    boxes = [box / move.size for (_, number), box in move.boxes().items() if number == frame]
    wait_for(lambda: _only(boxes, editor.drawn()), f"the boxes of frame {frame}", WAIT_S)


def _only(boxes: Iterable[FloatArray], drawn: BoolArray) -> bool:
    """Whether the four edges of each box are drawn, and nothing that is not beside one."""
    left, edges = drawn.copy(), []
    for box in boxes:
        x, y, w, h = (box * np.tile(drawn.shape[::-1], 2)).round().astype(int).tolist()
        middles = ((x, y + h // 2), (x + w, y + h // 2), (x + w // 2, y), (x + w // 2, y + h))
        edges += [drawn[row - 2 : row + 3, at - 2 : at + 3].any() for at, row in middles]
        # The name of a box may stand above it.
        left[max(y - 40, 0) : y + h + 5, max(x - 5, 0) : x + w + 40] = False
    return all(edges) and not left.any()


def check_stored(label_studio: LabelStudio, task: int, move: Move) -> FloatArray:
    """Checks that Label Studio has a new keyframe and all others; returns its box in percent."""
    (given,) = label_studio.ask("GET", f"/api/tasks/{task}/annotations/")
    after = sequences(given)
    (place,) = [one for one in after[move.region] if one["frame"] == move.frame]
    after[move.region].remove(place)
    assert after.keys() == move.before.keys()
    for region, sequence in move.before.items():
        assert after[region] == [pytest.approx(keyframe) for keyframe in sequence]
    assert place["enabled"]
    return np.array([place[name] for name in ("x", "y", "width", "height")])


def check_corpora(lake: Path, move: Move, now: FloatArray) -> None:
    """Checks that the labels differ where the box was moved, and nothing else does."""
    auto, over = samples(lake, "auto"), samples(lake, "over", "--labels", "reviewed-over-auto")
    assert auto.keys() == over.keys()
    assert any(name.endswith(".mp4") for name in auto)
    (different,) = [name for name, content in auto.items() if over[name] != content]
    assert different == f"{move.data['event_id']}.json"
    old, new = json.loads(auto[different]), json.loads(over[different])
    changed = {name for name in new if old.get(name) != new[name]}
    assert changed == {"boxes", "tracks", "labelling", "review"}
    was, found = (move.read(pa.table(one["boxes"]).to_pylist()) for one in (old, new))
    assert {key for key in found if key not in was} == {
        key for key in move.boxes() if key[1] == move.frame
    }
    assert found[move.region, move.frame] == pytest.approx(now)
    for key, box in was.items():
        assert not move.is_still(*key) or found[key] == pytest.approx(box, abs=TOLERANCE_PX), key


def samples(lake: Path, name: str, *flags: object) -> dict[str, bytes]:
    """Builds a corpus; returns the files in its shards."""
    built = call("corpus", name, "--lake", lake, "--topology", "gpu-8", "--json", *flags)
    assert built.code == 0, built.err
    url = built.document["snapshot"]["url"]
    assert call("verify", url).code == 0
    return members_of(Path(url))


def test_a_task_is_shown_whose_vehicle_has_no_signals(
    label_studio: LabelStudio, pushed: list[dict[str, Any]]
) -> None:
    """Label Studio shows nothing at all of one with a channel without values."""
    data = pushed[0]["data"]
    proxy = Proxy(b"", data["fps"], np.array(data["frames_ns"]))
    size = (data["width_px"], data["height_px"])
    task = task_of(proxy, size, proxy.t_ns)
    task["data"]["video"] = data["video"]
    config = {"title": "no signals", "label_config": labelling_config([])}
    project = label_studio.ask("POST", "/api/projects", config)["id"]
    added = label_studio.ask("POST", "/api/tasks", {"project": project, "data": task["data"]})
    boxes = {"task": added["id"], "result": pushed[0]["predictions"][0]["result"]}
    label_studio.ask("POST", "/api/predictions", boxes)
    added["predictions"] = [boxes]
    with opened(1440, 1240) as tab:
        editor = Editor.open(tab.page, label_studio, added)
        assert {len(editor.curve(channel)) for channel in CHANNELS} == {1}

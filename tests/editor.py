"""Label Studio's editor in a browser: a task as a labeller sees it, and what a labeller does there.

It shows a video on one canvas and boxes on another one above it, so pixels are read from these.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from playwright.sync_api import FloatRect, Locator, Page, expect

from auto_label.review.config import CHANNELS, TIME
from schemas.arrays import AnyArray, BoolArray, FloatArray
from tests.browser import WAIT_S, rect
from tests.label_studio import EMAIL, PASSWORD, LabelStudio
from tests.servers import wait_for

VIDEO, BOXES = ".lsf-video-canvas canvas", ".konvajs-content canvas"
PLOT, CURSOR = ".htx-timeseries-channel", ".htx-timeseries-channel .playhead"

_PLAYS = f"""document.querySelector("video").currentTime > 0.5
  && document.querySelector("{CURSOR}").transform.baseVal[0]?.matrix.e > 10"""
_PAUSE = """document.querySelector("[data-testid='playback-button:pause']")?.click()"""
"""Nothing where the video has come to its end by itself."""

_SHRUNK, _ALIKE = (320, 240), 4.0
"""The size at which pictures are compared, and the mean difference in grey of equal ones."""


@dataclass(frozen=True)
class Editor:
    """A task that is open, and the pictures of its proxy, shrunk and grey."""

    page: Page
    task: dict[str, Any]
    pictures: list[AnyArray]

    @classmethod
    def open(cls, page: Page, label_studio: LabelStudio, task: dict[str, Any]) -> Editor:
        """Logs in, opens a task with boxes, and waits for these, its video and its signals."""
        page.goto(f"{label_studio.url}/user/login/")
        page.fill("input[name=email]", EMAIL)
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "login" not in url)
        page.goto(f"{label_studio.url}/projects/{task['project']}/data")
        page.wait_for_url(lambda url: "tab=" in url)
        page.goto(f"{page.url}&task={task['id']}")
        assert label_studio.documents is not None
        path = label_studio.documents / task["data"]["video"].rpartition("?d=")[2]
        editor = cls(page, task, _pictures(path))
        # The editor is made twice, first of what the list of tasks knows: without boxes.
        regions = len(task["predictions"][0]["result"])
        for listed in (".lsf-outliner-item", ".lsf-keypoints"):
            expect(page.locator(listed)).to_have_count(regions)
        expect(page.locator(PLOT)).to_have_count(len(CHANNELS))
        page.wait_for_function("document.querySelector('video').readyState === 4")
        editor._wait_for_picture(1)
        return editor

    @property
    def area(self) -> FloatRect:
        """Where the video is on the page: in the middle of its canvas, and never enlarged."""
        canvas = rect(self.page.locator(VIDEO))
        video = self.page.locator("video").evaluate("v => [v.videoWidth, v.videoHeight]")
        scale = min(1.0, canvas["width"] / video[0], canvas["height"] / video[1])
        width, height = (scale * side for side in video)
        x = canvas["x"] + (canvas["width"] - width) / 2
        y = canvas["y"] + (canvas["height"] - height) / 2
        return {"x": x, "y": y, "width": width, "height": height}

    def placed(self, box: FloatArray) -> FloatRect:
        """Returns where a box is on the page, given as parts of the picture's size."""
        x, y, width, height = (box * np.tile([self.area["width"], self.area["height"]], 2)).tolist()
        return {"x": self.area["x"] + x, "y": self.area["y"] + y, "width": width, "height": height}

    def drawn(self) -> BoolArray:
        """Returns which pixels of the video have something drawn on them: bool[h, w]."""
        opaque: BoolArray = self._pixels(BOXES)[..., 3] > 0
        return opaque

    def _picture(self) -> int | None:
        """Returns which picture of the proxy is shown, from 1."""
        grey = cv2.cvtColor(self._pixels(VIDEO), cv2.COLOR_BGRA2GRAY)
        seen = cv2.resize(grey, _SHRUNK, interpolation=cv2.INTER_AREA).astype(float)
        distances = [float(np.abs(seen - one).mean()) for one in self.pictures]
        nearest = int(np.argmin(distances))
        return 1 + nearest if distances[nearest] < _ALIKE else None

    def _wait_for_picture(self, frame: int) -> None:
        """Waits until the picture of a frame is shown, and none of its neighbours."""
        wait_for(lambda: self._picture() == frame, f"the picture of frame {frame}", WAIT_S)

    def _pixels(self, canvas: str) -> AnyArray:
        """Returns what a canvas shows where the video is: BGRA uint8[h, w, 4]."""
        url = self.page.locator(canvas).evaluate("canvas => canvas.toDataURL()")
        png = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
        whole = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
        assert whole is not None
        at = rect(self.page.locator(canvas))
        x, y = round(self.area["x"] - at["x"]), round(self.area["y"] - at["y"])
        own: AnyArray = whole[y : y + round(self.area["height"]), x : x + round(self.area["width"])]
        return own

    def curve(self, channel: str) -> FloatArray:
        """Returns the points of a signal's curve: float64[n, 2], px."""
        plot = self.page.locator(PLOT).nth([*CHANNELS].index(channel))
        paths = plot.locator("path[stroke-width]").all()
        drawn = max((str(path.get_attribute("d")) for path in paths), key=len)
        return np.array(re.findall(r"[-\d.]+", drawn), dtype=np.float64).reshape(-1, 2)

    def play(self) -> None:
        """Plays for a moment: the cursor of the signals runs, and stops with the video."""
        play = self.page.get_by_test_id("playback-button:play")
        play.click()
        self.page.wait_for_function(_PLAYS)
        self.page.evaluate(_PAUSE)
        expect(play).to_be_visible()
        wait_for(lambda: self._lag_s() < 0.05, "the cursor to be where the video is", WAIT_S)

    def _lag_s(self) -> float:
        """Returns how far the cursor of the signals is from the time of the video."""
        px = self.page.locator(CURSOR).first.evaluate("g => g.transform.baseVal[0].matrix.e")
        width = self.page.locator(f"{PLOT} clipPath rect").first.get_attribute("width")
        end_s = self.task["data"]["signals"][TIME][-1]
        # The cursor is drawn half a pixel to the right.
        cursor_s = (px - 0.5) / float(str(width)) * end_s
        video_s = self.page.locator("video").evaluate("video => video.currentTime")
        return abs(float(cursor_s - video_s))

    def go_to(self, frame: int) -> None:
        """Goes to a frame by its number, from 1, and waits for its picture."""
        control = self.page.locator(".lsf-frames-control")
        control.click()
        control.locator("input").fill(str(frame))
        control.locator("input").press("Enter")
        expect(control).to_contain_text(re.compile(rf"^{frame}\s"))
        self._wait_for_picture(frame)

    def drag(self, box: FloatArray, by: tuple[int, int]) -> None:
        """Selects a box and moves it by its middle, by px of the screen, to a new keyframe."""
        at = self.placed(box)
        x, y = at["x"] + at["width"] / 2, at["y"] + at["height"] / 2
        self.page.mouse.click(x, y)
        expect(self.page.locator(".lsf-keypoints_selected")).to_have_count(1)
        count = self.keyframes.count()
        self.page.mouse.down()
        self.page.mouse.move(x + by[0], y + by[1], steps=5)
        self.page.mouse.up()
        expect(self.keyframes).to_have_count(count + 1)

    @property
    def keyframes(self) -> Locator:
        """The keyframes of the selected box on the timeline, those that are not far away."""
        return self.page.locator(".lsf-keypoints_selected .lsf-keypoints__point")

    @property
    def submit_button(self) -> Locator:
        """The button that submits."""
        return self.page.get_by_test_id("bottombar-submit-button")

    def answer(self, verdict: str) -> None:
        """Chooses a verdict, submits, and waits until Label Studio has it."""
        choice = self.page.locator(".lsf-choice", has_text=re.compile(f"^{verdict}"))
        choice.click()
        expect(choice.locator("input")).to_be_checked()
        posted = f"/api/tasks/{self.task['id']}/annotations"
        with self.page.expect_response(
            lambda one: one.request.method == "POST" and posted in one.url
        ) as answered:
            self.submit_button.click()
        assert answered.value.ok


def _pictures(video: Path) -> list[AnyArray]:
    with av.open(str(video), "r") as container:
        return [
            cv2.resize(frame.to_ndarray(format="gray"), _SHRUNK, interpolation=cv2.INTER_AREA)
            for frame in container.decode(video=0)
        ]

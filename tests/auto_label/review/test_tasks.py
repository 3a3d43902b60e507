"""Review tasks: what they say of the proxy, the labels and the signals."""

from __future__ import annotations

import json

import numpy as np

from auto_label.review.config import CHANNELS
from auto_label.review.keyframes import shown
from auto_label.review.proxy import Proxy
from auto_label.review.tasks import task_key
from schemas.arrays import AnyArray
from schemas.ids import canonical
from tests.auto_label.review.reviewed import random_boxes, random_task, task_of
from transforms.corpora.webdataset import rounded


def test_a_task_says_what_an_answer_is_read_by() -> None:
    task, _ = random_task(np.random.default_rng(1))
    data = task["data"]
    assert data["fleetmill"] == task_key(data["event_id"], "front")
    assert set(data["grid"]) <= set(range(1, len(data["frames_ns"]) + 1))
    assert json.loads(canonical(rounded(task))) == json.loads(json.dumps(rounded(task)))


def test_boxes_are_shown_on_the_frames_that_have_them_and_on_no_other_of_the_grid() -> None:
    for seed in range(30):
        task, boxes = random_task(np.random.default_rng(seed))
        data, size = task["data"], (task["data"]["width_px"], task["data"]["height_px"])
        grid = np.array(data["grid"])
        for region in task["predictions"][0]["result"] if task["predictions"] else ():
            number = int(region["id"].removeprefix("track-"))
            own = boxes.filter(np.equal(boxes["track_id"].to_numpy(), number))
            on, xywh = shown(region["value"]["sequence"], grid, size)
            assert [data["frames_ns"][k - 1] for k in on] == own["t_ns"].to_pylist()
            columns = [own[name].to_numpy() for name in ("x_px", "y_px", "w_px", "h_px")]
            assert np.abs(xywh - np.column_stack(columns)).max() < 0.5
            assert region["value"]["labels"] == [f"c{number}"]


def test_without_boxes_there_is_no_prediction() -> None:
    t_ns = np.array([0, 10])
    proxy = Proxy(b"", 30, t_ns)
    task = task_of(proxy, (8, 8), t_ns)
    assert task["predictions"] == []
    boxes = random_boxes(np.random.default_rng(0), t_ns, (64, 64)).slice(0, 0)
    task = task_of(proxy, (8, 8), t_ns, boxes)
    assert task["predictions"] == []


def test_a_frame_that_the_clip_lacks_is_left_out() -> None:
    t_ns = np.array([0, 100, 200, 300])
    boxes = random_boxes(np.random.default_rng(5), t_ns, (64, 64))
    proxy = Proxy(b"", 30, t_ns[[0, 2, 3]])
    task = task_of(proxy, (64, 64), t_ns, boxes)
    assert task["data"]["grid"] == [1, 2, 3]


def series(proxy: Proxy, signals: dict[str, AnyArray]) -> dict[str, list[float | None]]:
    """Returns the signals of a task."""
    task = task_of(proxy, (8, 8), proxy.t_ns, signals=signals)
    shown: dict[str, list[float | None]] = task["data"]["signals"]
    assert set(shown) == {"time_s", *CHANNELS}
    return shown


def test_signals_are_shown_at_the_pace_of_the_proxy() -> None:
    """Null where a value is not known."""
    proxy = Proxy(b"", 10, np.array([1000, 2000, 4000]))
    signals = {
        "t_ns": np.array([500, 1000, 1500, 3000, 4000, 4500]),
        "speed_mps": np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0]),
        "brake_on": np.array([0, 1, -1, 0, 1, 1], np.int8),
    }
    shown = series(proxy, signals)
    assert shown["time_s"] == [0.0, 0.05, 0.15, 0.2]
    assert shown["speed_mps"] == [2.0, None, 4.0, 5.0]
    assert shown["brake_on"] == [1.0, None, 0.0, 1.0]


def test_a_channel_without_values_has_one_so_that_label_studio_shows_the_task() -> None:
    proxy = Proxy(b"", 10, np.array([1000, 2000, 4000]))
    unknown: dict[str, AnyArray] = {"t_ns": proxy.t_ns, "blinker_left": np.full(3, -1, np.int8)}
    for t_ns in (proxy.t_ns[:0], proxy.t_ns + 10_000):
        shown = series(proxy, {"t_ns": t_ns})
        assert shown["time_s"] == [0.0, 0.2]
        assert all(shown[name] == [0.0, None] for name in CHANNELS)
    assert series(proxy, unknown)["blinker_left"] == [0.0, None, None]
    assert series(proxy, {})["time_s"] == [0.0, 0.2]
    assert series(Proxy(b"", 10, np.array([7])), {})["time_s"] == [0.0]


def test_the_time_of_signals_is_that_of_the_video_from_its_first_to_its_last_frame() -> None:
    """Also where they were not measured all the time; no two times are equal."""
    proxy = Proxy(b"", 10, np.array([0, 100_000_000, 200_000_000]))
    signals = {
        "t_ns": np.array([20_000, 120_000_000, 199_999_999]),
        "speed_mps": np.array([1.0, 2.0, 3.0]),
    }
    shown = series(proxy, signals)
    assert shown["time_s"] == [0.0, 0.12, 0.2]
    assert shown["speed_mps"] == [None, 2.0, 3.0]

"""Pictures against their boxes, and against the truth that they show."""

from __future__ import annotations

import numpy as np
import pytest

from synth.pictures import FAR_M, SMALLEST_PX, Painter
from synth.recorded import Drive, simulate
from tests.synth.conftest import PICTURED as SPEC


@pytest.mark.parametrize("camera", SPEC.cameras)
def test_a_box_holds_the_pixels_of_its_actor(day: Drive, camera: str) -> None:
    painter = Painter(SPEC, day, camera)
    checked = 0
    for t_s in np.arange(10.0, 170.0, 8.0):
        whole, rows = painter.draw(float(t_s))
        for _, _, track, _, x, y, w, h, hidden in rows:
            if hidden > 0.3:
                continue
            bare, _ = painter.draw(float(t_s), without=track)
            v, u = np.nonzero((whole != bare).any(axis=2))
            assert len(u), (track, t_s)
            assert u.min() >= x - 1.5
            assert u.max() <= x + w + 1.5
            assert v.min() >= y - 1.5
            assert v.max() <= y + h + 1.5
            assert len(u) > 0.2 * w * h
            checked += 1
    assert checked > 5


def test_dark_drives_are_dark(day: Drive) -> None:
    night = simulate(SPEC, 1)
    assert (day.dark, night.dark) == (False, True)
    for camera in SPEC.cameras:
        bright = Painter(SPEC, day, camera).draw(20.0)[0].mean()
        dark = Painter(SPEC, night, camera).draw(20.0)[0].mean()
        assert bright > 100
        assert dark < 35


def test_a_lead_vehicle_is_seen_at_its_distance(day: Drive) -> None:
    gap = day.traffic.lead_distance_m
    bend = np.convolve(np.abs(day.motion.yaw_rate_radps), np.full(800, 1 / 800), "same")
    steps = np.flatnonzero((gap > 8) & (gap < 25) & (bend < 0.01))[::300]
    painter = Painter(SPEC, day, "front")
    focal = 160 / np.tan(np.radians(33))
    agreed = 0
    for step in steps:
        from_camera = gap[step] + 1.9
        _, rows = painter.draw(step / 100)
        widths = [row[6] for row in rows if row[3] == "car"]
        agreed += any(w == pytest.approx(1.85 * focal / from_camera, rel=0.2) for w in widths)
    assert len(steps) > 3
    assert agreed >= 0.8 * len(steps)


def test_a_reused_canvas_holds_the_same_picture(day: Drive) -> None:
    painter = Painter(SPEC, day, "front")
    canvas = np.full((SPEC.height, SPEC.width, 3), 99, np.uint8)
    fresh, rows = painter.draw(30.0)
    drawn, same_rows = painter.draw(30.0, canvas=canvas)
    assert drawn is canvas
    np.testing.assert_array_equal(drawn, fresh)
    assert rows == same_rows


def test_nearer_actors_hide_farther_ones(day: Drive) -> None:
    """Counts the share of a box that boxes drawn later cover, pixel by pixel."""
    painter = Painter(SPEC, day, "front")
    partly = 0
    for t_s in np.arange(5.0, 175.0, 2.0):
        _, rows = painter.draw(float(t_s))
        for k, row in enumerate(rows):
            covered = np.zeros((SPEC.height * 4, SPEC.width * 4), np.bool_)
            for x, y, w, h in (other[4:8] for other in rows[k + 1 :]):
                covered[round(4 * y) : round(4 * (y + h)), round(4 * x) : round(4 * (x + w))] = True
            x, y, w, h = (round(4 * value) for value in row[4:8])
            share = covered[y : y + h, x : x + w].mean()
            assert row[8] == pytest.approx(share, abs=0.15)
            partly += 0.1 < row[8] < 0.9
    assert partly > 5


def test_boxes_have_a_least_size_and_a_last_distance(day: Drive) -> None:
    painter = Painter(SPEC, day, "front")
    focal = 160 / np.tan(np.radians(33))
    rows = [row for t_s in range(5, 175, 3) for row in painter.draw(float(t_s))[1]]
    assert len(rows) > 50
    for row in rows:
        assert min(row[6:8]) >= SMALLEST_PX
        if row[3] == "person" and row[5] > 0 and row[5] + row[7] < SPEC.height:
            assert row[7] > 0.9 * 1.75 * focal / FAR_M


def test_a_frame_renderer_lists_only_frames_that_are_shown(day: Drive) -> None:
    painter = Painter(SPEC, day, "front")
    t_s = np.array([19.9, 20.0, 20.1])
    tables: list[dict[str, list[object]]] = []
    draw = painter.frame_renderer(t_s, tables, shown_s=20.0)
    for k in range(3):
        np.testing.assert_array_equal(draw(k), painter.draw(float(t_s[k]))[0])
    (table,) = tables
    assert set(table["t_ns"]) == {20_000_000_000, 20_100_000_000}
    assert {len(column) for column in table.values()} == {len(table["t_ns"])}

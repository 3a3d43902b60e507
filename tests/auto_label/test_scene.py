"""The sweep's rows against pictures whose content is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from auto_label.models import Detections, load_models
from auto_label.scene import sweep_frames
from schemas.arrays import Image
from schemas.tables import TABLES
from transforms.video.decode import Frame

CLASSES = ("person", "bicycle", "car", "bus", "bottle")


class Told:
    """A detector that sees what it is told to."""

    def __init__(self, *seen: Detections) -> None:
        self.spec = load_models(["yolox_nano"])[0]
        self._seen = list(seen)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Takes the next that it was told, one an image."""
        return [self._seen.pop(0) for _ in images]


def _seen(*rows: tuple[float, ...], x: float = 20.0) -> Detections:
    """Rows of height, score, class; 30 pixels wide from x."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    xywh = np.zeros((len(table), 4))
    xywh[:, 0], xywh[:, 2], xywh[:, 3] = x, 30.0, table[:, 0]
    return Detections(xywh, table[:, 1], table[:, 2].astype(np.int64), CLASSES)


def _frames(*values: int) -> list[Frame]:
    return [Frame(k, np.full((120, 160, 3), v, np.uint8)) for k, v in enumerate(values)]


def _conform(rows: pa.Table) -> pa.Table:
    for name in ("log_id", "camera"):
        rows = rows.append_column(name, pa.array(["x"] * rows.num_rows, pa.string()))
    return TABLES["scene"].conform(rows)


def test_without_a_detector_counts_are_unknown() -> None:
    rows = _conform(sweep_frames(_frames(0, 200), []))
    assert rows["brightness"].to_pylist() == [0.0, 200.0]
    assert rows["vehicles"].null_count == rows["vru_height_frac"].null_count == 2
    assert rows["source"].to_pylist() == ["pixels", "pixels"]


def test_counts_are_by_group_and_of_sure_boxes_only() -> None:
    told = Told(
        _seen((60, 0.9, 0), (30, 0.9, 1), (99, 0.2, 0), (90, 0.8, 2), (90, 0.8, 3), (50, 0.9, 4)),
        _seen(),
    )
    rows = _conform(sweep_frames(_frames(10, 10), [told])).to_pylist()
    assert [rows[0][n] for n in ("vehicles", "persons", "bicycles")] == [2, 1, 1]
    assert rows[0]["vru_height_frac"] == 0.5
    assert [rows[1][n] for n in ("vehicles", "persons", "bicycles")] == [0, 0, 0]
    assert rows[1]["vru_height_frac"] == 0.0
    assert (rows[0]["source"], rows[0]["source_version"]) == ("yolox_nano", "695e750a5d57")
    assert rows[0]["lead_distance_m"] is None


@pytest.mark.parametrize(("x", "height_frac"), [(0.2, 0.0), (129.5, 0.0), (2.0, 0.5), (128.0, 0.5)])
def test_what_the_edge_cuts_has_no_height(x: float, height_frac: float) -> None:
    """It counts as a person, but is not said to be near."""
    told = Told(_seen((60, 0.9, 0), x=x))
    (row,) = _conform(sweep_frames(_frames(10), [told])).to_pylist()
    assert (row["persons"], row["vru_height_frac"]) == (1, height_frac)


def test_no_frames_give_no_rows() -> None:
    assert sweep_frames([], []).num_rows == 0

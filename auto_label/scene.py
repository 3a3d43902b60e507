"""Scene attributes of frames for the sweep: brightness, sharpness, and counts by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from auto_label.models import Detections, Detector, look
from schemas.tables import TABLES
from transforms.scene import brightness, sharpness
from transforms.timing import step
from transforms.video.decode import Frame

VERSION = 2
"""Increases when the same frames give different rows."""

VEHICLES = frozenset({"car", "truck", "bus", "motorbike", "motorcycle", "train"})
PERSONS = frozenset({"person"})
BICYCLES = frozenset({"bicycle"})
SEEN = 0.35
"""Least score of a counted detection; high, as a single frame has no track to confirm it."""

_EDGE_PX = 1.0

_COLUMNS = [f for f in TABLES["scene"].schema if f.name not in {"log_id", "camera"}]


def sweep_frames(frames: Iterable[Frame], detectors: Sequence[Detector]) -> pa.Table:
    """Computes the scene attributes of frames, one row each.

    Args:
        frames: frames of one camera.
        detectors: the first one counts objects; without one the counts are null.

    Returns:
        The columns of the `scene` table without log_id and camera. `vru_height_frac` is the
        height of the tallest person or bicycle in parts of the image's, 0 without one. Boxes
        that the left or right image edge cuts are left out of it, because detectors often take
        cut objects for persons. `lead_distance_m` stays null: it needs the camera's height and
        pitch.
    """
    rows = []
    for frame in frames:
        row = {"t_ns": frame.t_ns, "source": "pixels", "source_version": str(VERSION)}
        with step("measure"):
            row |= {"brightness": brightness(frame.image), "sharpness": sharpness(frame.image)}
        for detector in detectors[:1]:
            with step("detect"):
                seen = look(detector, frame.image, frame.t_ns)
            row |= _counts(seen, frame.image.shape[1], frame.image.shape[0])
            row |= {"source": detector.spec.name, "source_version": detector.spec.version}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=pa.schema(_COLUMNS))


def _counts(seen: Detections, width: int, height: int) -> dict[str, int | float]:
    sure = seen.score >= SEEN
    sure_only = Detections(seen.xywh[sure], seen.score[sure], seen.class_index[sure], seen.classes)
    x, _, w, tall = sure_only.of(PERSONS | BICYCLES).xywh.T
    whole = (x >= _EDGE_PX) & (x + w <= width - _EDGE_PX)
    return {
        "vehicles": len(sure_only.of(VEHICLES)),
        "persons": len(sure_only.of(PERSONS)),
        "bicycles": len(sure_only.of(BICYCLES)),
        "vru_height_frac": float(np.max(tall[whole], initial=0.0)) / height,
    }

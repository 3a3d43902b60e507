"""The parts of a sample: what each tells, and that it needs no other."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from auto_label.event_rows import EventRows
from auto_label.label import Labelled
from auto_label.specs import Due, PixelSpec
from schemas.tables import TABLES
from schemas.times import GRID_NS
from tests.auto_label.painted import (
    EVENT,
    POLICY,
    Red,
    clips,
    do,
    label,
    members,
    painted_log,
    whole_due,
)


def test_an_event_of_sensors_alone_has_its_path(tmp_path: Path, red: Red) -> None:
    labelled = label(painted_log(tmp_path / "log", cameras=()), [red])
    assert (clips(labelled), labelled.cameras, labelled.rejects) == ({}, (), ())
    assert labelled.tables["ego_path"].num_rows == 14
    assert set(members(labelled)) == {"pictures.json", "json", "signals.npz"}


def moved_log(log: EventRows, folder: Path) -> EventRows:
    """The same recording, byte for byte, in another folder."""
    shutil.copytree(Path(log.videos["front"][0].uri).parent, folder)
    videos = {
        camera: [dataclasses.replace(file, uri=str(folder / Path(file.uri).name)) for file in files]
        for camera, files in log.videos.items()
    }
    uris = [str(folder / Path(uri).name) for uri in log.frames["uri"].to_pylist()]
    at = log.frames.column_names.index("uri")
    frames = log.frames.set_column(at, log.frames.schema.field("uri"), pa.array(uris))
    return dataclasses.replace(log, videos=videos, frames=frames)


def test_a_sample_tells_everything_but_where_it_lay(
    tmp_path: Path, log: EventRows, red: Red
) -> None:
    joints = pa.table(
        {
            "log_id": ["log"] * 3,
            "t_ns": [0, EVENT.start_ns, EVENT.start_ns + 1],
            "position": [[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]],
            "action": pa.array([None, [5.0, 6.0], None], pa.list_(pa.float32())),
        }
    )
    log = dataclasses.replace(log, joints=TABLES["joints"].conform(joints))
    labelled = label(log, [red])
    files = members(labelled)
    assert set(files) == {"json", "pictures.json", "signals.npz", "front.mp4", "back.mp4"}
    told = json.loads(files["json"])
    assert told["event"]["trigger"] == "painted"
    assert told["log"]["vehicle_id"] == "car-1"
    assert len(told["boxes"]["x_px"]) == labelled.tables["boxes"].num_rows
    assert told["labelling"]["digest"] == whole_due([red]).spec.link_digest
    pictures = json.loads(files["pictures.json"])
    assert pictures["pixels"]["privacy"] == "painted"
    assert pictures["pixels"]["policy"] == POLICY.identity
    assert b"folder" not in files["json"] + files["pictures.json"]
    arrays = np.load(io.BytesIO(files["signals.npz"]))
    assert arrays["t_ns"].tolist() == list(range(EVENT.start_ns, EVENT.end_ns, GRID_NS))
    assert set(arrays["gear"]) == {"drive"}
    assert arrays["brake_on"].dtype == np.int8
    assert "lat_deg" not in arrays
    assert arrays["joint_position"].tolist() == [[1, 2], [3, 4]]
    assert np.isnan(arrays["joint_action"]).tolist() == [[False, False], [True, True]]
    assert "joint_velocity" not in arrays
    assert members(label(moved_log(log, tmp_path / "another"), [red])) == files


def test_labels_are_written_anew_from_the_rows_of_their_own_link(
    log: EventRows, red: Red, labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lake also has rows that another version of the linker made."""
    due = whole_due([red])
    other = {
        table: pa.concat_tables([rows, _of_another_version(rows)])
        for table, rows in labelled.tables.items()
    }
    done = frozenset(due.digests)
    monkeypatch.setattr("auto_label.specs.LABELS_VERSION", 99)
    left = Due.without(done, due.spec, due.pixels or PixelSpec())
    assert (left.detects, left.link, left.labels) == (False, False, True)
    again = do(dataclasses.replace(log, known=other), [], left)
    assert (again.tables, again.decoded) == ({}, 0)
    assert members(again)["json"] == members(labelled)["json"]


def _of_another_version(rows: pa.Table) -> pa.Table:
    at = rows.column_names.index("spec_digest")
    column = pa.array(["another"] * rows.num_rows, pa.string())
    return rows.set_column(at, rows.schema.field("spec_digest"), column)

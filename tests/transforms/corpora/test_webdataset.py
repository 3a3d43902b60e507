"""The files of a WebDataset sample, as the webdataset library decodes them."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import webdataset

from transforms.corpora import Sample
from transforms.corpora.pack import tar_members
from transforms.corpora.webdataset import WebDataset, member_name, npz


def test_the_library_gives_back_what_went_in(tmp_path: Path) -> None:
    sample = Sample(
        "e1",
        clips={"front": b"clip", "observation.images.cam_high": b"high"},
        frames={"back": [(5, b"one"), (9, b"two")]},
        pictures={"payload": "both"},
        metadata={"trigger": "hard_brake", "score": 1.5},
        signals={"t_ns": np.arange(3), "speed_mps": np.array([1.0, np.nan, 3.0])},
    )
    block = tar_members("e1", WebDataset().members(sample))
    with (tmp_path / "a.tar").open("wb") as out:
        assert WebDataset().assemble([block], out).samples == 1
    loader = webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False, empty_check=False)
    (found,) = list(loader)
    assert found["front.mp4"] == b"clip"
    assert found["observation.images.cam_high.mp4"] == b"high"
    assert (found["back.0000.jpg"], found["back.0001.jpg"]) == (b"one", b"two")
    assert json.loads(found["json"]) == {"trigger": "hard_brake", "score": 1.5}
    assert json.loads(found["pictures.json"]) == {
        "payload": "both",
        "frame_t_ns": {"back": [5, 9]},
    }
    assert sample.signals is not None
    with np.load(io.BytesIO(found["signals.npz"])) as arrays:
        assert sorted(arrays) == ["speed_mps", "t_ns"]
        np.testing.assert_array_equal(arrays["t_ns"], sample.signals["t_ns"])
        np.testing.assert_array_equal(arrays["speed_mps"], sample.signals["speed_mps"])


def test_json_is_canonical() -> None:

    def text(**metadata: object) -> bytes:
        return WebDataset().members(Sample("k", metadata=metadata))["json"]

    assert text(b=0.1 + 0.2, a=(1, None)) == b'{"a":[1,null],"b":0.3}'
    assert text(a=-1e-12) == text(a=0.0) == b'{"a":0.0}'
    assert text(a=float("nan"), b=float("-inf")) == b'{"a":null,"b":null}'
    assert text(a=np.float32(0.5), b=np.int64(7), c=np.bool_(1), d=np.arange(2)) == (
        b'{"a":0.5,"b":7,"c":true,"d":[0,1]}'
    )
    assert text(a="\ud800é") == b'{"a":"\\ud800\\u00e9"}'
    with pytest.raises(TypeError, match="set"):
        text(a=set())


def test_npz_is_equal_whenever_and_from_whatever_order() -> None:
    golden = "9cb14c19d76e9d06ef1831376936890d39750ac7da479bf7d739c548aacd7540"
    arrays = {"b": np.arange(6.0).reshape(2, 3), "a": np.array(["x", "yz"]), "c": np.array(True)}
    for made in (arrays, dict(reversed(arrays.items())), {**arrays, "b": arrays["b"].copy("F")}):
        assert hashlib.sha256(npz(made)).hexdigest() == golden
    swapped = {**arrays, "b": arrays["b"].astype(">f8")}
    assert hashlib.sha256(npz(swapped)).hexdigest() == golden
    with np.load(io.BytesIO(npz(arrays)), allow_pickle=False) as back:
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[name], array)
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        npz({"a": np.array([object()])})


def test_camera_names_are_safe_and_stay_apart() -> None:
    cameras = ["front", "Front", "FRONT", "/cam/front", "cam_front", "cam-front", "a.b", "a..b"]
    cameras += ["../../etc", "", "ü", "x" * 500, "x" * 501, "-", ".", "a" * 39 + "/b", "front\n"]
    names = [member_name(camera) for camera in cameras]
    assert len(set(names)) == len(cameras)
    assert names[0] == "front"
    assert names[6] == "a.b"
    for camera, name in zip(cameras, names, strict=True):
        assert len(name) <= 40
        assert name == name.lower(), camera
        assert tar_members("0" * 20, WebDataset().members(Sample("k", clips={camera: b""})))

"""The models of a job: named ones must be available; only the default may be left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.stages.models import DEFAULT_MODELS, ready_models
from schemas.errors import FleetError, UsageError
from tests import onnx_file


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network to fill it from."""
    monkeypatch.setenv("FLEETMILL_MODELS", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    return tmp_path / "cache"


def test_only_the_default_may_be_left_out(offline: Path) -> None:
    models, notes = ready_models(None, [])
    assert models == ()
    assert [name for name in DEFAULT_MODELS if name in notes[0]] == ["yolox_nano"]
    with pytest.raises(UsageError, match=r"yolox_nano: no weights in .*; put yolox_nano\.onnx"):
        ready_models(["yolox_nano"], [])
    assert ready_models([], []) == ((), ())
    assert not list(offline.rglob("*.onnx"))


def test_a_wrong_hash_is_always_an_error(offline: Path) -> None:
    path = offline / "yolox_nano" / "yolox_nano.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    with pytest.raises(FleetError, match="SHA-256"):
        ready_models(None, [])
    with pytest.raises(UsageError, match="SHA-256"):
        ready_models(["yolox_nano"], [])


def test_a_model_that_cannot_be_used_is_refused_before_the_first_job(
    offline: Path, tmp_path: Path
) -> None:
    for kind, says in (("uint8 input", r"tensor\(uint8\)"), ("deep", "not an ONNX model")):
        name = kind.partition(" ")[0]
        path = tmp_path / f"{name}.onnx"
        onnx_file.write_toml(
            tmp_path, onnx_file.specified(path, onnx_file.REFUSED[kind]()).replace(name=name)
        )
        with pytest.raises(UsageError, match=f"^model {name}: .*{says}"):
            ready_models([name], [str(tmp_path)])
    path = tmp_path / "yolox_nano.onnx"
    bad = onnx_file.specified(path, onnx_file.FAILING["NaN"]())
    onnx_file.write_toml(tmp_path, bad)
    with pytest.raises(FleetError, match="NaN"):
        ready_models(None, [str(tmp_path)])
    assert offline.is_dir()

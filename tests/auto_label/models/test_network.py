"""Networks of strangers: refused, failed or ended in one line, whatever is in the file."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from auto_label.models import look, network, open_detector
from auto_label.models.network import Network
from schemas.arrays import Float32Array, Image
from schemas.errors import DataError, FleetError, ModelError, TimeLimitError
from tests import onnx_file
from tests.conftest import ROOT, environment

PICTURE: Image = np.full((20, 40, 3), 100, dtype=np.uint8)
TENSOR: Float32Array = np.ones(onnx_file.TAKES, dtype=np.float32)

ABANDONED = """
import sys, threading, time
from pathlib import Path
import numpy as np
from auto_label.models.network import Network
from tests import onnx_file

net = Network("x", Path(sys.argv[1]), onnx_file.TAKES, [onnx_file.GIVES], 1, keys="classes")
run = threading.Thread(target=net.run, args=[np.ones(onnx_file.TAKES, np.float32)], daemon=True)
run.start()
time.sleep(0.5)
print(run.is_alive(), flush=True)
"""

BESIDE_OTHERS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from auto_label.models import network
from tests import onnx_file

network.MEMORY_BYTES = 64 << 20
nets = [
    network.Network(path.stem, path, onnx_file.TAKES, [onnx_file.GIVES], 1, keys="classes")
    for path in sorted(Path(sys.argv[1]).iterdir())
]
picture = np.zeros(onnx_file.TAKES, np.float32)
repeated = []
alone = network._turns.alone
network._turns.alone = lambda: repeated.append(1) or alone()
with ThreadPoolExecutor(4) as pool:
    outputs = list(pool.map(lambda number: nets[number % 2].run(picture)[0], range(40)))
print(len(outputs), len(repeated), len({output.tobytes() for output in outputs}))
"""


def run_script(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def opened(folder: Path, raw: bytes) -> Network:
    path = folder / "model.onnx"
    path.write_bytes(raw)
    return Network("mine", path, onnx_file.TAKES, [onnx_file.GIVES], 1, keys="width or classes")


def opened_points(folder: Path, raw: bytes, *, others: bool = True) -> Network:
    """Opens a network whose heat map has one channel, and whose input has any lengths."""
    path = folder / "model.onnx"
    path.write_bytes(raw)
    takes, gives = (None, 3, None, None), [(None, n, None, None) for n in (1, 2, 2)]
    return Network("mine", path, takes, gives, 1, keys="classes", others=others)


def test_a_good_one_answers_what_it_promises(tmp_path: Path) -> None:
    (output,) = opened(tmp_path, onnx_file.good()).run(TENSOR)
    assert output.shape == onnx_file.GIVES
    assert output[0, 7].tolist() == pytest.approx(onnx_file.SEEN)
    path = tmp_path / "good.onnx"
    detector = open_detector(onnx_file.specified(path, onnx_file.good()), path)
    (seen,) = detector.detect([PICTURE])
    assert len(seen)
    assert seen.score.tolist() == pytest.approx([0.72] * len(seen))


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 32, 64), (3, 96, 32), (10, 32, 32)])
@pytest.mark.parametrize("maps", [onnx_file.MAPS, ("sizes", "landmarks", "offsets", "heat")])
def test_a_run_chooses_lengths_and_outputs_are_told_by_their_shapes(
    tmp_path: Path, maps: Sequence[str], batch: int, height: int, width: int
) -> None:
    """Those of the same shape come in the order of the file."""
    net = opened_points(tmp_path, onnx_file.points(maps=maps))
    tensor = np.zeros((batch, 3, height, width), dtype=np.float32)
    tensor[-1, 0, 4:8, -4:] = 255.0
    cells = (height // 4, width // 4)
    heat, sizes, offsets = net.run(tensor, *((batch, n, *cells) for n in (1, 2, 2)))
    assert np.argwhere(heat > 0.5).tolist() == [[batch - 1, 0, 1, cells[1] - 1]]
    for output, answer in (
        (sizes, np.log([onnx_file.TALL, onnx_file.WIDE])),
        (offsets, np.array([onnx_file.LOWER, onnx_file.RIGHT])),
    ):
        np.testing.assert_allclose(output.transpose(0, 2, 3, 1) - answer, 0, atol=1e-6)
    with pytest.raises(ModelError, match=r"its output is float32\[10?, 1, .* not float32\[7, 1, "):
        net.run(tensor[:1], (7, 1, 1, 1), (1, 2, *cells), (1, 2, *cells))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (onnx_file.points(3), r"\[any, 3, any, any\] and .* asks for .*\[any, 1, any, any\] and "),
        (onnx_file.points(maps=("heat", "sizes")), "correct classes, or export the network"),
        (onnx_file.points(maps=("landmarks",)), "correct classes, or export the network"),
        (onnx_file.points()[:-30], "not an ONNX model that can be opened: a field is longer than"),
    ],
    ids=["classes", "offsets", "maps", "cut"],
)
def test_outputs_that_are_missing_are_named(tmp_path: Path, raw: bytes, says: str) -> None:
    with pytest.raises(FleetError, match=says):
        opened_points(tmp_path, raw)


def test_other_outputs_are_refused_unless_they_may_be_there(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"\[any, 10, any, any\], but"):
        opened_points(tmp_path, onnx_file.points(), others=False)
    opened_points(tmp_path, onnx_file.points(maps=onnx_file.MAPS[:3]), others=False)


@pytest.mark.parametrize("open_", [opened, opened_points])
@pytest.mark.parametrize("name", onnx_file.REFUSED)
def test_what_is_no_such_network_is_refused_in_one_line(
    tmp_path: Path, name: str, open_: Callable[[Path, bytes], Network]
) -> None:
    with pytest.raises(FleetError) as refusal:
        open_(tmp_path, onnx_file.REFUSED[name]())
    said = str(refusal.value)
    assert not isinstance(refusal.value, DataError)
    assert said.startswith(f"model mine: {tmp_path / 'model.onnx'} ")
    assert said.isprintable()
    assert len(said) < 1000


def test_a_picture_type_that_is_not_ours_is_named(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"maps tensor\(uint8\)\[1, 3, 32, 32\] to .* asks for"):
        opened(tmp_path, onnx_file.REFUSED["uint8 input"]())


@pytest.mark.parametrize("name", [*onnx_file.FAILING, *onnx_file.STOPPING])
def test_a_failing_one_names_model_and_picture(tmp_path: Path, name: str) -> None:
    raw = {**onnx_file.FAILING, **onnx_file.STOPPING}[name]()
    path = tmp_path / "bad.onnx"
    detector = open_detector(onnx_file.specified(path, raw), path)
    with pytest.raises(ModelError) as failure:
        look(detector, PICTURE, 1_500)
    said = str(failure.value)
    assert said.startswith("picture at 1500 ns: model bad: ")
    assert said.isprintable()
    assert failure.value.reason == "model"
    assert failure.value.final


@pytest.mark.parametrize("name", onnx_file.ENDLESS)
def test_an_endless_one_ends_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(network, "TIME_LIMIT_S", 0.5)
    net = opened(tmp_path, onnx_file.ENDLESS[name]())
    start = time.monotonic()
    with pytest.raises(TimeLimitError, match=r"model mine: not done after 0\.5 s"):
        net.run(TENSOR)
    assert time.monotonic() - start < 60
    assert not network._ends


def test_a_process_ends_around_a_run_that_nobody_waits_for(tmp_path: Path) -> None:
    path = tmp_path / "endless.onnx"
    path.write_bytes(onnx_file.ENDLESS["picture"]())
    start = time.monotonic()
    done = run_script(ABANDONED, path)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert "terminate called" not in done.stderr
    assert time.monotonic() - start < 60


def test_a_run_that_lacks_memory_beside_others_is_repeated_alone(tmp_path: Path) -> None:
    """Each takes half of the memory or more, so that two at a time cannot have it."""
    for name, numbers in (("small", 8_000_000), ("large", 12_500_000)):
        (tmp_path / f"{name}.onnx").write_bytes(onnx_file.large(numbers, "mean"))
    done = run_script(BESIDE_OTHERS, tmp_path)
    assert done.returncode == 0, done.stderr
    runs, repeated, answers = map(int, done.stdout.split())
    assert (runs, answers) == (40, 1)
    assert repeated > 0, "none lacked memory: the test shows nothing"


def test_one_alone_waits_for_the_others() -> None:
    turns = network._Turns()
    seen: list[str] = []
    inside, release = threading.Event(), threading.Event()

    def long() -> None:
        with turns.beside_others():
            inside.set()
            release.wait(10)
            seen.append("beside")

    def alone() -> None:
        with turns.alone():
            seen.append("alone")

    threads = [threading.Thread(target=long), threading.Thread(target=alone)]
    threads[0].start()
    inside.wait(10)
    threads[1].start()
    time.sleep(0.05)
    assert not seen
    release.set()
    for thread in threads:
        thread.join()
    assert seen == ["beside", "alone"]

"""label: frames detected per second, against a bare `session.run` loop on prepared tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from auto_label.models import ModelSpec, load_models
from auto_label.models.yolox import Yolox, YoloxSpec, letterbox
from auto_label.weights import available_models, fetch
from benchmarks import Measure, interleaved

FRAMES = 30
SIZE = (960, 1280)


def measure() -> Iterator[Measure]:
    """Detects on textured frames; yields nothing where the model's weights are not available."""
    ready, _ = available_models(load_models(["yolox_nano"]))
    yield from map(_measure, ready)


def _measure(spec: ModelSpec) -> Measure:
    assert isinstance(spec, YoloxSpec)
    weights = fetch(spec)
    detector, bare = Yolox(spec, weights), _session(weights)
    images = [_picture(seed) for seed in range(FRAMES)]
    tensors = [letterbox(image, spec.width, spec.height)[0] for image in images]
    name = bare.get_inputs()[0].name
    ours_s, peer_s = interleaved(
        [
            lambda: detector.detect(images),
            lambda: [bare.run(None, {name: tensor}) for tensor in tensors],
        ]
    )
    return Measure(
        "label",
        FRAMES / ours_s,
        FRAMES / peer_s,
        "bare session.run",
        "frames/s",
        f"{spec.name}, {SIZE[1]}x{SIZE[0]}, 1 thread; ours with letterbox, decoding and NMS",
    )


def _session(weights: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])


def _picture(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    coarse = np.random.default_rng(seed).integers(0, 255, (15, 20, 3), dtype=np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.uint8)

"""Trains the detector of number plates on drawn scenes and writes auto_label/models/plates.onnx.

    python -m training.plates.train --photos DIR --fonts DIR --steps 9000 OUT.onnx

Needed beside the project's packages: tensorflow-cpu, onnx and pillow. --photos has pictures without
number plates, such as those of the packages scikit-image, scikit-learn, matplotlib and imgaug, of
Debian's opencv-doc, and frames of `fleetmill synth`; --fonts has .ttf files, such as those of
matplotlib and of the fontpkg packages. One core draws, one trains: about 40 minutes for 9000 steps.

The file that ships was trained in several runs, each with --start of the one before and a lower
--rate, some ten thousand steps in all; a new one gives a network alike, not the same bytes.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from schemas.arrays import Float32Array, Image
from training.plates.drawn import Fonts
from training.plates.network import STRIDE, model, save
from training.plates.scenes import Scene, Scenes

SIDE = 256
_BATCH = 8
_POOL = 12_000
"""Scenes kept, 200 kB each: a drawn one is trained on more than once."""
_FIRST = 256
"""Scenes drawn before training starts."""
_ORPHANED_S = 300
_LOGGED, _SAVED = 100, 1000
_log = logging.getLogger(__name__)


def targets(scene: Scene) -> Float32Array:
    """Returns what the network should say of a scene: float32[side/4, side/4, 7].

    The channels are the centres, 1 in the cell of a plate's centre and less around it; log height,
    log width, offsets y and x; the weight of those four; the weight of the first.
    """
    cells = scene.image.shape[0] // STRIDE
    out = np.zeros((cells, cells, 7), np.float32)
    out[..., 6] = 1
    middles = np.arange(cells) + 0.5
    for (x, y, width, height), seen in zip(scene.xywh / STRIDE, scene.seen, strict=True):
        dx, dy = x + width / 2 - middles, y + height / 2 - middles
        near = np.exp(
            -((dy / (0.45 + height / 12)) ** 2)[:, None] / 2 - (dx / (0.45 + width / 12)) ** 2 / 2
        )
        if not seen:
            low, high = (int(y), int(x)), (int(y + height) + 2, int(x + width) + 2)
            out[max(low[0] - 1, 0) : high[0], max(low[1] - 1, 0) : high[1], 6] = 0
            continue
        row, column = int(np.argmin(np.abs(dy))), int(np.argmin(np.abs(dx)))
        near[row, column] = 1
        best = near > np.maximum(out[..., 0], 0.3)
        out[..., 0] = np.maximum(out[..., 0], near)
        out[best, 1:3] = np.log(height), np.log(width)
        out[best, 3] = np.broadcast_to(dy[:, None], best.shape)[best]
        out[best, 4] = np.broadcast_to(dx, best.shape)[best]
        out[best, 5] = near[best]
    return out


def loss(said: Any, wanted: Any) -> Any:
    """Returns the focal loss of the centres, and of the boxes the L1 loss and 1 - IoU.

    Args:
        said: float32[n, h, w, 5] of the network.
        wanted: float32[n, h, w, 7] of `targets`.
    """
    logit, centre, weight = said[..., 0], wanted[..., 0], wanted[..., 6]
    chance = tf.sigmoid(logit)
    middle = tf.cast(centre >= 1, tf.float32)
    found = middle * (1 - chance) ** 2 * tf.nn.softplus(-logit)
    wrong = (1 - middle) * weight * (1 - centre) ** 4 * chance**2 * tf.nn.softplus(logit)
    plates = tf.reduce_sum(middle) + 1
    focal = (tf.reduce_sum(found) + tf.reduce_sum(wrong)) / plates
    away = tf.reduce_sum(tf.abs(said[..., 1:] - wanted[..., 1:5]) * [1.0, 1.0, 0.4, 0.4], axis=-1)
    boxes = away + 1 - _iou(said[..., 1:], wanted[..., 1:5])
    near = wanted[..., 5]
    return focal + tf.reduce_sum(boxes * near) / (tf.reduce_sum(near) + 1)


def _iou(said: Any, wanted: Any) -> Any:
    """Returns the overlap of boxes [..., 4]: log height, log width, offsets y and x."""
    half, half_wanted = (tf.exp(tf.minimum(box[..., :2], 6.0)) / 2 for box in (said, wanted))
    low = tf.maximum(said[..., 2:] - half, wanted[..., 2:] - half_wanted)
    high = tf.minimum(said[..., 2:] + half, wanted[..., 2:] + half_wanted)
    common = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    areas = 4 * (tf.reduce_prod(half, axis=-1) + tf.reduce_prod(half_wanted, axis=-1))
    return common / (areas - common)


def draw_forever(scenes: Scenes, seed: int, drawn: Queue[Scene]) -> None:
    """Puts scenes into a queue until the process is stopped, or nobody takes them any more."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    while True:
        drawn.put(scenes.draw(rng), timeout=_ORPHANED_S)


class Pool:
    """Scenes that a process of its own draws, while the network is trained on those there are."""

    def __init__(self, scenes: Scenes, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._drawn: Queue[Scene] = context.Queue(64)
        self._process = context.Process(
            target=draw_forever, args=(scenes, seed, self._drawn), daemon=True
        )
        self._process.start()
        self._kept = [self._drawn.get() for _ in range(_FIRST)]
        self.drawn = _FIRST

    def batch(self, rng: np.random.Generator) -> tuple[Image, Float32Array]:
        """Returns scenes RGB uint8[n, side, side, 3] and their targets; half are mirrored."""
        while not self._drawn.empty():
            scene = self._drawn.get()
            if len(self._kept) < _POOL:
                self._kept.append(scene)
            else:
                self._kept[self.drawn % _POOL] = scene
            self.drawn += 1
        scenes = [self._kept[int(k)] for k in rng.integers(len(self._kept), size=_BATCH)]
        scenes = [_mirrored(scene) if rng.random() < 0.5 else scene for scene in scenes]
        images = np.stack([scene.image[..., ::-1] for scene in scenes])
        return images, np.stack([targets(scene) for scene in scenes])


def _mirrored(scene: Scene) -> Scene:
    xywh = scene.xywh.copy()
    xywh[:, 0] = scene.image.shape[1] - xywh[:, 0] - xywh[:, 2]
    return Scene(scene.image[:, ::-1], xywh, scene.seen)


def train(pool: Pool, out: Path, *, steps: int, rate: float, seed: int, start: Path | None) -> None:
    """Trains a network and writes it now and then, and at the end, with its Keras weights.

    Args:
        pool: the scenes.
        out: the ONNX file; the Keras weights lie beside it, as .weights.h5.
        steps: of 8 scenes each.
        rate: the highest rate of learning; it grows for a thirtieth of the steps, then falls.
        seed: of the first weights and of the choice of scenes.
        start: Keras weights of an earlier training to start from.
    """
    tf.keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    network = model()
    if start is not None:
        network.load_weights(start)
    schedule = tf.keras.optimizers.schedules.CosineDecay(
        rate / 30, steps, alpha=0.005, warmup_target=rate, warmup_steps=steps // 30
    )
    optimizer = tf.keras.optimizers.AdamW(schedule, weight_decay=1e-4)

    def step(images: Any, wanted: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(network(tf.cast(images, tf.float32), training=True), wanted)
        slopes = tape.gradient(value, network.trainable_variables)
        slopes, _ = tf.clip_by_global_norm(slopes, 5.0)
        optimizer.apply_gradients(zip(slopes, network.trainable_variables, strict=True))
        return value

    compiled = tf.function(step)
    values: list[float] = []
    for k in range(1, steps + 1):
        images, wanted = pool.batch(rng)
        values.append(float(compiled(tf.constant(images), tf.constant(wanted))))
        if k % _LOGGED == 0:
            _log.info("step %d of %d, loss %.3f, %d drawn", k, steps, np.mean(values), pool.drawn)
            values.clear()
        if k % _SAVED == 0 or k == steps:
            save(network, out)
            network.save_weights(out.with_suffix(".weights.h5"))


def main() -> None:
    """Runs the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--fonts", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    scenes = Scenes(sorted(args.photos.iterdir()), Fonts(sorted(args.fonts.glob("*.ttf"))), SIDE)
    pool = Pool(scenes, args.seed)
    train(pool, args.out, steps=args.steps, rate=args.rate, seed=args.seed, start=args.start)


if __name__ == "__main__":
    main()

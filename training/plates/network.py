"""The network: what it computes, as Keras layers for training and as ONNX for use.

I/O of the ONNX file: see auto_label.models.centerface. All convolutions but the last are followed
by batch normalisation, which is folded into them in the file, as is the scale of the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from schemas.arrays import Float32Array

STRIDE = 4
_INPUT_SCALE = 1 / 64
_EPSILON = 1e-3
_RARE = -4.6
"""The logit of 1 %: at first, nothing is a plate."""
_OPSET = 17


class Builder(Protocol):
    """What a network is made of."""

    def conv(self, x: Any, channels: int, size: int = 3, stride: int = 1, relu: bool = True) -> Any:
        """Convolves, normalises and cuts at 0."""
        ...

    def head(self, x: Any, channels: int, bias: float) -> Any:
        """Convolves 1x1, with a bias that starts at a value."""
        ...

    def add_relu(self, x: Any, y: Any) -> Any:
        """Adds and cuts at 0."""
        ...

    def add_larger(self, x: Any, larger: Any) -> Any:
        """Doubles the first one's sides and adds."""
        ...


def layers(build: Builder, x: Any) -> tuple[Any, Any, Any]:
    """Returns centres (before the sigmoid), sizes and offsets of an input."""

    def residual(x: Any, channels: int, inner: int = 32) -> Any:
        return build.add_relu(x, build.conv(build.conv(x, inner), channels, relu=False))

    # onnxruntime computes channels in blocks of 16: 20 of them would cost as much as 32.
    fourth = build.conv(build.conv(x, 16, stride=2), 16, stride=2)
    eighth = residual(residual(build.conv(fourth, 32, stride=2), 32), 32)
    sixteenth = residual(build.conv(eighth, 48, stride=2), 48)
    coarse = residual(build.conv(sixteenth, 32, stride=2), 32)
    coarse = build.conv(coarse, 48, 1, relu=False)
    merged = build.conv(build.add_larger(coarse, sixteenth), 32)
    merged = build.conv(build.add_larger(merged, eighth), 16)
    merged = build.conv(build.add_larger(merged, fourth), 16)
    merged = build.conv(merged, 16)
    return build.head(merged, 1, _RARE), build.head(merged, 2, 1.0), build.head(merged, 2, 0.0)


class _Keras:
    def conv(self, x: Any, channels: int, size: int = 3, stride: int = 1, relu: bool = True) -> Any:
        x = tf.keras.layers.Conv2D(channels, size, stride, "same", use_bias=False)(x)
        x = tf.keras.layers.BatchNormalization(momentum=0.98, epsilon=_EPSILON)(x)
        return tf.keras.layers.ReLU()(x) if relu else x

    def head(self, x: Any, channels: int, bias: float) -> Any:
        start = tf.keras.initializers.Constant(bias)
        return tf.keras.layers.Conv2D(channels, 1, bias_initializer=start)(x)

    def add_relu(self, x: Any, y: Any) -> Any:
        return tf.keras.layers.ReLU()(tf.keras.layers.Add()([x, y]))

    def add_larger(self, x: Any, larger: Any) -> Any:
        return tf.keras.layers.Add()([tf.keras.layers.UpSampling2D()(x), larger])


def model() -> Any:
    """Returns a Keras model: RGB float32[n, h, w, 3] to float32[n, h/4, w/4, 5].

    The channels are the centres' logits, log height, log width, offsets y and x.
    """
    x = tf.keras.Input((None, None, 3))
    maps = layers(_Keras(), tf.keras.layers.Rescaling(_INPUT_SCALE)(x))
    return tf.keras.Model(x, tf.keras.layers.Concatenate()(list(maps)))


class _Onnx:
    """Adds nodes for the layers of a trained model, in the order in which it was built."""

    def __init__(self, trained: Any) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._folded = _folded(trained)

    def node(self, kind: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        name = name or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, name: str, value: Float32Array) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def conv(self, x: Any, channels: int, size: int = 3, stride: int = 1, relu: bool = True) -> Any:
        del channels
        kernel, bias = next(self._folded)
        number = len(self.weights)
        inputs = [x, self.constant(f"w{number}", kernel), self.constant(f"b{number}", bias)]
        # With a stride of 2 and even sides, Keras' "same" pads at the bottom and right only.
        pads = [0, 0, 1, 1] if stride == 2 else [size // 2] * 4
        x = self.node("Conv", inputs, kernel_shape=[size] * 2, strides=[stride] * 2, pads=pads)
        return self.node("Relu", [x]) if relu else x

    def head(self, x: Any, channels: int, bias: float) -> Any:
        del bias
        return self.conv(x, channels, 1, relu=False)

    def add_relu(self, x: Any, y: Any) -> Any:
        return self.node("Relu", [self.node("Add", [x, y])])

    def add_larger(self, x: Any, larger: Any) -> Any:
        if not any(weight.name == "twice" for weight in self.weights):
            self.constant("twice", np.array([1, 1, 2, 2], np.float32))
        modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
        wide = self.node("Resize", [x, "", "twice"], nearest_mode="floor", **modes)
        return self.node("Add", [wide, larger])


def save(trained: Any, path: Path) -> None:
    """Writes a trained model as ONNX, with an input of RGB 0 to 255 of any size."""
    build = _Onnx(trained)
    centres, sizes, offsets = layers(build, "image")
    build.node("Sigmoid", [centres], "centres")
    build.node("Identity", [sizes], "sizes")
    build.node("Identity", [offsets], "offsets")
    shapes = {"centres": 1, "sizes": 2, "offsets": 2}
    cells = ["batch", "cells_down", "cells_across"]
    graph = helper.make_graph(
        build.nodes,
        "plates",
        [
            helper.make_tensor_value_info(
                "image", TensorProto.FLOAT, ["batch", 3, "height", "width"]
            )
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [cells[0], depth, *cells[1:]])
            for name, depth in shapes.items()
        ],
        build.weights,
    )
    opset = [helper.make_opsetid("", _OPSET)]
    written = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, path)


def _folded(trained: Any) -> Iterator[tuple[Float32Array, Float32Array]]:
    """Yields float32[out, in, k, k] and float32[out] of each convolution with what follows it.

    Layers of a Keras model are in the order in which they were made only by their number, so that
    they are sorted by the place of their variables.
    """
    norms = {
        id(n.input): n for n in trained.layers if isinstance(n, tf.keras.layers.BatchNormalization)
    }
    scale = _INPUT_SCALE
    for layer in trained.layers:
        if not isinstance(layer, tf.keras.layers.Conv2D):
            continue
        kernel = layer.kernel.numpy() * scale
        scale = 1.0
        if layer.use_bias:
            bias = layer.bias.numpy()
        else:
            norm = norms[id(layer.output)]
            factor = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + _EPSILON)
            kernel = kernel * factor
            bias = norm.beta.numpy() - norm.moving_mean.numpy() * factor
        yield np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), bias

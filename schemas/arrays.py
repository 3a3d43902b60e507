"""Aliases of NumPy array types for signatures; docstrings give the shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
ByteArray = NDArray[np.uint8]
AnyArray = NDArray[Any]

Image = NDArray[np.uint8]
"""A picture in OpenCV's layout: uint8[height, width, 3], BGR."""

"""Writing ONNX nodes with their constants, and resizing.

**Resizing** is two matrix products with constant weights, which give the same everywhere. ONNX's own
``Resize`` differs between opsets and execution providers, and has no antialiasing before opset 18.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fgbgpack.depth.card import Filter, Size

#: The opset since which ``ReduceMin`` takes its axes as an input; before, as an attribute.
_REDUCTIONS_TAKE_AXES = 18


class Nodes:
    """Nodes in the order of their execution, with their constants, in the network's own opset."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.constants: list[TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._count = 0

    def add(
        self,
        op: str,
        *inputs: str | NDArray[Any],
        output: str = "",
        prefix: str = "fgbgpack",
        **attributes: Any,
    ) -> str:
        """Appends a node; arrays among its inputs become constants. Returns the name of its output."""
        self._count += 1
        name = f"{prefix}/{self._count}_{op}"
        names = []
        for index, value in enumerate(inputs):
            if not isinstance(value, str):
                self.constants.append(numpy_helper.from_array(value, f"{name}/{index}"))
                value = self.constants[-1].name
            names.append(value)
        self._nodes.append(helper.make_node(op, names, [output or name], name=name, **attributes))
        return output or name

    def clip(self, value: str, low: float, high: float) -> str:
        """Clips, but keeps NaN, which ``Clip`` treats differently on each provider."""
        value, most = self.at_least(value, np.array(low, np.float32)), np.array(high, np.float32)
        return self.add("Where", self.add("Greater", value, most), most, value)

    def at_least(self, value: str, bound: str | NDArray[np.float32]) -> str:
        """Raises values below a bound to it, but keeps NaN."""
        return self.add("Where", self.add("Less", value, bound), bound, value)

    def minimum(self, value: str) -> str:
        """The minimum of each picture: float32 ``(n, 1, h, w)`` to ``(n, 1, 1, 1)``."""
        axes = [1, 2, 3]
        if self.opset < _REDUCTIONS_TAKE_AXES:
            return self.add("ReduceMin", value, axes=axes, keepdims=1)
        return self.add("ReduceMin", value, np.array(axes), keepdims=1)

    def take(self) -> list[onnx.NodeProto]:
        """The nodes added since the last call."""
        nodes, self._nodes = self._nodes, []
        return nodes


def resize(nodes: Nodes, value: str, vertical: NDArray[Any], horizontal: NDArray[Any]) -> str:
    """Applies weights to the last two axes, in the order of fewer multiplications."""
    (tall, h), (wide, w) = vertical.shape, horizontal.shape
    rows_first = tall * w * (h + wide) <= wide * h * (w + tall)
    for rows in (rows_first, not rows_first):
        weights = (vertical if rows else horizontal.T).astype(np.float32)
        if weights.shape[0] != weights.shape[1] or (weights != np.eye(len(weights))).any():
            value = nodes.add("MatMul", weights, value) if rows else nodes.add("MatMul", value, weights)
    return value


def resize_to(nodes: Nodes, value: str, source: Size, target: Size, filter_name: Filter) -> str:
    """Resizes the last two axes of a float32 tensor."""
    if source == target:
        return value
    vertical, horizontal = (resampling(s, t, filter_name) for s, t in zip(source, target, strict=True))
    return resize(nodes, value, vertical, horizontal)


def resampling(source: int, target: int, filter_name: Filter) -> NDArray[np.float64]:
    """The ``(target, source)`` float64 weights that resize one axis, as Pillow does; each row has sum 1.

    Pixel centres lie at half-integers; shrinking stretches the filter by the same factor (antialiasing),
    except for ``nearest``; at the borders the weights are scaled to the sum 1. Bicubic is the kernel of Keys
    (1981), "Cubic convolution interpolation for digital image processing", equation 15: a = -1/2.

    Example:
        >>> resampling(4, 2, "bilinear")[0]
        array([0.42857143, 0.42857143, 0.14285714, 0.        ])
    """
    ratio = source / target
    centres = (np.arange(target) + 0.5) * ratio
    if filter_name == "nearest":
        # A centre between two pixels goes to the one that Pillow's running sum rounds it to.
        centres = np.cumsum(np.r_[ratio / 2, np.full(target - 1, ratio)])
        return np.eye(source)[np.minimum(centres.astype(np.int64), source - 1)]
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / max(ratio, 1.0)
    if filter_name == "bilinear":
        weights = np.maximum(0.0, 1.0 - distance)
    else:
        near = (1.5 * distance - 2.5) * distance**2 + 1.0
        far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
        weights = np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))
    return cast(NDArray[np.float64], weights / weights.sum(axis=1, keepdims=True))

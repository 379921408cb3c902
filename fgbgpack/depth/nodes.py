"""Writing ONNX nodes: in order, with their constants, and resizing that is the same everywhere.

**Resizing** is two matrix products with constant weights. ONNX's own ``Resize`` differs between opsets
and execution providers and cannot antialias before opset 18; a product does the same everywhere.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Filter = Literal["nearest", "bilinear", "bicubic"]
Size = tuple[int, int]

#: The opset since which ``ReduceMin`` takes its axes as an input; before, as an attribute.
_REDUCTIONS_TAKE_AXES = 18


class Nodes:
    """Nodes being written, in order, with their constants, in the network's own opset."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.constants: list[TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._count = 0

    def add(self, op: str, *inputs: str | NDArray[Any], output: str = "", **attributes: Any) -> str:
        """Append a node; arrays among its inputs become constants. Returns the name of its output."""
        self._count += 1
        name = f"fgbgpack/{self._count}_{op}"
        names = []
        for index, value in enumerate(inputs):
            if not isinstance(value, str):
                self.constants.append(numpy_helper.from_array(value, f"{name}/{index}"))
                value = self.constants[-1].name
            names.append(value)
        self._nodes.append(helper.make_node(op, names, [output or name], name=name, **attributes))
        return output or name

    def clip(self, value: str, low: float, high: float) -> str:
        """Clip, but leave NaN alone: what ``Clip`` makes of it depends on the provider."""
        low_, high_ = np.float32(low), np.float32(high)
        value = self.add("Where", self.add("Less", value, np.array(low_)), np.array(low_), value)
        return self.add("Where", self.add("Greater", value, np.array(high_)), np.array(high_), value)

    def at_least(self, value: str, bound: str | NDArray[np.float32]) -> str:
        """Raise what is below a bound to it, but leave NaN alone."""
        return self.add("Where", self.add("Less", value, bound), bound, value)

    def least_of_each(self, value: str) -> str:
        """The smallest value of each picture: float32 ``(n, 1, h, w)`` to ``(n, 1, 1, 1)``."""
        axes = [1, 2, 3]
        if self.opset < _REDUCTIONS_TAKE_AXES:
            return self.add("ReduceMin", value, axes=axes, keepdims=1)
        return self.add("ReduceMin", value, np.array(axes), keepdims=1)

    def take(self) -> list[onnx.NodeProto]:
        """The nodes since the last call."""
        nodes, self._nodes = self._nodes, []
        return nodes


def resize(nodes: Nodes, value: str, vertical: NDArray[Any], horizontal: NDArray[Any]) -> str:
    """Apply weights to the last two axes, in the order that takes fewer multiplications."""
    (tall, h), (wide, w) = vertical.shape, horizontal.shape
    rows_first = tall * w * (h + wide) <= wide * h * (w + tall)
    for rows in (rows_first, not rows_first):
        weights = (vertical if rows else horizontal.T).astype(np.float32)
        if weights.shape[0] != weights.shape[1] or (weights != np.eye(len(weights))).any():
            value = nodes.add("MatMul", weights, value) if rows else nodes.add("MatMul", value, weights)
    return value


def resize_to(nodes: Nodes, value: str, source: Size, target: Size, filter_name: Filter) -> str:
    """Resize the last two axes of a float32 tensor from one size to another."""
    if source == target:
        return value
    vertical, horizontal = (resampling(s, t, filter_name) for s, t in zip(source, target, strict=True))
    return resize(nodes, value, vertical, horizontal)


def resampling(source: int, target: int, filter_name: Filter) -> NDArray[np.float64]:
    """The weights that resize one axis, as Pillow does it on floating-point pictures.

    Pixel centres lie at half-integers; shrinking stretches the filter by the same factor
    (antialiasing), except for ``nearest``; at the borders the weights of the pixels that exist are
    scaled to the sum 1. Bicubic is the kernel of Keys (1981), "Cubic convolution interpolation for
    digital image processing", equation 15: a = -1/2.

    Args:
        source: Length of the axis.
        target: Length that it shall have.
        filter_name: The filter.

    Returns:
        ``(target, source)``, float64; each row has sum 1.
    """
    ratio = source / target
    centres = (np.arange(target) + 0.5) * ratio
    if filter_name == "nearest":
        # Where a centre lies between two pixels, rounding decides: so it is rounded as in Pillow, sum by sum.
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

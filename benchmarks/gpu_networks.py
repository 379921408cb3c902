"""The networks that ``gpu.py`` checks and measures: tiny ones of every kind, and one that is not trivial."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
}
OPSET = 13
GUIDES = {
    "mask": {"name": "mask", "range": [-1, 1]},
    "background_depth": {"name": "background_depth", "normalise": "median"},
}


class Graph:
    """A network while it is written: every method adds one operator and returns the name of its output."""

    def __init__(self, *, half: bool = False, seed: int = 5) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.dtype = np.float16 if half else np.float32
        self.flop_per_pixel = 0.0
        self._rng = np.random.default_rng(seed)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Any, dtype: Any = None) -> str:
        name = f"weights_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype or self.dtype), name))
        return name

    def conv(
        self, source: str, taken: int, given: int, *, stride: int = 1, at: float = 1, gain: float = 2
    ) -> str:
        """A 3x3 convolution of random weights that keep the size of values; ``at``: the part of the input's
        pixels that its output has.
        """
        weights = self._rng.normal(size=(given, taken, 3, 3)) * np.sqrt(gain / (9 * taken))
        self.flop_per_pixel += 2 * 9 * taken * given * at
        bias = self._rng.normal(size=given) / 10
        return self.add(
            "Conv",
            source,
            self.constant(weights),
            self.constant(bias),
            pads=[1, 1, 1, 1],
            strides=[stride, stride],
        )

    def doubled(self, source: str, channels: int) -> str:
        """A transposed convolution to twice the size."""
        weights = self._rng.normal(size=(channels, channels, 2, 2))
        return self.add("ConvTranspose", source, self.constant(weights), strides=[2, 2])

    def save(self, path: Path, inputs: Sequence[Any], output: Any, card: dict[str, Any]) -> Path:
        graph = helper.make_graph(self.nodes, "network", list(inputs), [output], self.weights)
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", OPSET)])
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))
        path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
        return path


def tiny(
    path: Path,
    *,
    layout: str = "NCHW",
    dtype: str = "float32",
    batch: int | str = "n",
    size: tuple[int, int] | None = None,
    answer: str = "same",
    axes: str = "N1HW",
    guides: Sequence[str] = (),
    input: dict[str, Any] | None = None,
    output: dict[str, Any] | None = None,
) -> Path:
    """A network of two convolutions over the picture and its guides, with answers of about -2 to 4.

    ``answer`` is ``"same"``, ``"half"`` or ``"double"`` the size that it sees, free without ``size``.
    """
    graph, element = Graph(half=dtype == "float16"), ELEMENTS[dtype]
    taken = {"image": 3} | {GUIDES[guide]["name"]: 1 for guide in guides}
    inputs = []
    planes = []
    for name, channels in taken.items():
        height, width = size or ("h", "w")
        sides = {"N": batch, "C": channels, "H": height, "W": width}
        inputs.append(helper.make_tensor_value_info(name, element, [sides[axis] for axis in layout]))
        value = graph.add("Transpose", name, perm=[0, 3, 1, 2]) if layout == "NHWC" else name
        if dtype == "uint8":
            value = graph.add("Cast", value, to=TensorProto.FLOAT)
            value = graph.add("Mul", value, graph.constant(1 / 255))
        planes.append(value)
    value = graph.add("Concat", *planes, axis=1)
    value = graph.add("Tanh", graph.conv(value, sum(taken.values()), 8))
    if answer == "double":
        value = graph.add("Tanh", graph.doubled(value, 8))
    value = graph.conv(value, 8, 1, stride=2 if answer == "half" else 1)
    value = graph.add("Add", value, graph.constant(1))
    if axes == "NHW1":
        value = graph.add("Transpose", value, perm=[0, 2, 3, 1])
    elif axes != "N1HW":
        squeezed = {"NHW": [1], "HW": [0, 1]}[axes]
        value = graph.add("Squeeze", value, graph.constant(squeezed, np.int64))
    result = helper.make_tensor_value_info(
        value, TensorProto.FLOAT16 if dtype == "float16" else TensorProto.FLOAT, None
    )
    default_range = {"range": [0, 255]} if dtype == "uint8" else {"range": [0, 1]}
    rule = {"multiple_of": 2} if size is None else {"fixed": list(size)}
    card = {
        "schema": "depth-model/1.0",
        "name": path.stem,
        "input": {"name": "image", "layout": layout, "channels": "RGB", "size": rule, "dtype": dtype}
        | default_range
        | (input or {}),
        "output": {"name": value, "axes": axes, "quantity": "inverse_depth", "unit": None} | (output or {}),
    }
    if guides:
        card["guides"] = {guide: GUIDES[guide] for guide in guides}
        if dtype == "uint8":
            card["guides"]["mask"] = GUIDES["mask"] | {"range": [0, 255]}
    return graph.save(path, inputs, result, card)


def encoder_decoder(path: Path, width: int) -> tuple[Path, float]:
    """A convolutional encoder and decoder with skip connections, and its operations for a pixel: 10 GFLOP for
    256x256 pixels at a ``width`` of 40. The weights are random, so what it says means nothing.
    """
    graph, w = Graph(seed=8), width

    def block(value: str, taken: int, given: int, at: float, *, stride: int = 1) -> str:
        return graph.add("Relu", graph.conv(value, taken, given, stride=stride, at=at))

    def up(value: str) -> str:
        scales = graph.constant([1, 1, 2, 2], np.float32)
        return graph.add(
            "Resize", value, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )  # fmt: skip

    skips, value, taken = [], "image", 3
    for level in range(1, 5):
        at, given = 0.25**level, w << (level - 1)
        value = block(value, taken, given, at, stride=2)
        for _ in range(2 if level > 1 else 1):
            value = block(value, given, given, at)
        skips.append((value, given, at))
        taken = given
    for skip, given, at in reversed(skips[:-1]):
        value = graph.add("Concat", up(value), skip, axis=1)
        value = block(block(value, taken + given, given, at), given, given, at)
        taken = given
    value = block(up(value), taken, taken // 2, 1)
    value = graph.conv(value, taken // 2, 1, gain=1)
    sides = ["n", 3, "h", "w"]
    card = {
        "schema": "depth-model/1.0",
        "name": path.stem,
        "input": {
            "name": "image",
            "layout": "NCHW",
            "channels": "RGB",
            "range": [0, 1],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "size": {"multiple_of": 16},
        },
        "output": {"name": value, "axes": "N1HW", "quantity": "inverse_depth", "unit": None},
    }
    graph.save(
        path,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sides)],
        helper.make_tensor_value_info(value, TensorProto.FLOAT, None),
        card,
    )
    return path, graph.flop_per_pixel

"""Tiny ONNX networks with their cards, written to files, for tests of everything that runs depth."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

FLOAT, FLOAT16, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8

#: A card that fits the networks below as they are by default.
CARD: dict[str, Any] = {
    "schema": "depth-model/1.0",
    "name": "tiny",
    "input": {
        "name": "input",
        "layout": "NCHW",
        "channels": "RGB",
        "range": [0, 255],
        "size": {"multiple_of": 1},
    },
    "output": {"name": "output", "axes": "N1HW", "quantity": "inverse_depth", "unit": None},
}


def card(*, input: dict[str, Any] | None = None, output: dict[str, Any] | None = None, **top: Any) -> dict:
    """``CARD`` with fields changed; a field set to ``...`` is removed."""
    document = copy.deepcopy(CARD)
    for target, changes in ((document["input"], input), (document["output"], output), (document, top)):
        for key, value in (changes or {}).items():
            if value is ...:
                target.pop(key, None)
            else:
                target[key] = value
    return document


def write_network(
    path: Path,
    nodes: list[NodeProto],
    *,
    input: tuple[str, int, list[Any]] = ("input", FLOAT, ["n", 3, "h", "w"]),
    more_inputs: list[tuple[str, int, list[Any]]] | None = None,
    output: tuple[str, int, list[Any] | None] = ("output", FLOAT, ["n", 1, "h", "w"]),
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 13,
    ir_version: int = 7,
    weights_as_inputs: bool = False,
    external: bool = False,
    card: dict[str, Any] | None = CARD,
) -> Path:
    """Write a network, and its card beside it unless ``card`` is None. Returns the path of the ONNX file."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    inputs = [helper.make_tensor_value_info(*one) for one in (input, *(more_inputs or []))]
    if weights_as_inputs:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(nodes, "tiny", inputs, [helper.make_tensor_value_info(*output)], tensors)
    model = helper.make_model(graph, ir_version=ir_version, opset_imports=[helper.make_opsetid("", opset)])
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        location = f"{path.stem}.weights"
        path.with_name(location).unlink(missing_ok=True)  # onnx would append to it
        onnx.save(model, str(path), save_as_external_data=True, location=location, size_threshold=0)
    else:
        onnx.save(model, str(path))
    if card is not None:
        path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    return path


def echo(path: Path, *, channel: int = 0, **options: Any) -> Path:
    """A network that answers with one channel of its input, as it arrived."""
    layout = options.get("card", CARD)["input"]["layout"] if options.get("card", CARD) else "NCHW"
    if layout == "NHWC":
        options = {
            "input": ("input", FLOAT, ["n", "h", "w", 3]),
            "output": ("output", FLOAT, ["n", "h", "w", 1]),
        } | options
    nodes = [helper.make_node("Gather", ["input", "channel"], ["output"], axis=layout.index("C"))]
    return write_network(path, nodes, weights={"channel": np.array([channel])}, **options)


def gray(path: Path, **options: Any) -> Path:
    """A network that answers with the weighted sum of the colours, 0.25 R + 0.5 G + 0.25 B."""
    nodes = [helper.make_node("Conv", ["input", "weights"], ["output"])]
    weights = np.array([0.25, 0.5, 0.25], np.float32).reshape(1, 3, 1, 1)
    return write_network(path, nodes, weights={"weights": weights}, **options)


def halving(path: Path, **options: Any) -> Path:
    """A network that answers at half the size of its input: the mean over the colours and 2x2 pixels."""
    nodes = [helper.make_node("Conv", ["input", "weights"], ["output"], strides=[2, 2])]
    weights = np.full((1, 3, 2, 2), 1 / 12, np.float32)
    options = {"output": ("output", FLOAT, ["n", 1, "h2", "w2"])} | options
    return write_network(path, nodes, weights={"weights": weights}, **options)


def not_a_number(path: Path, **options: Any) -> Path:
    """A network that answers NaN, whatever it is given."""
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Sub", ["red", "much"], ["negative"]),
        helper.make_node("Sqrt", ["negative"], ["output"]),
    ]
    weights = {"channel": np.array([0]), "much": np.array(1e6, np.float32)}
    return write_network(path, nodes, weights=weights, **options)


def afraid_of_light(path: Path, **options: Any) -> Path:
    """A network that works, but answers NaN for a picture whose mean red is above 200."""
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("GlobalAveragePool", ["red"], ["mean"]),
        helper.make_node("Sub", ["most", "mean"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("Add", ["red", "root"], ["output"]),
    ]
    weights = {"channel": np.array([0]), "most": np.array(200, np.float32)}
    return write_network(path, nodes, weights=weights, **options)


#: A card that fits the guided networks below as they are by default.
GUIDED_CARD: dict[str, Any] = CARD | {
    "name": "guided",
    "guides": {
        "mask": {"name": "mask", "range": [-1, 1]},
        "background_depth": {"name": "background", "normalise": "median"},
    },
    "output": CARD["output"] | {"of": "foreground"},
}


def guided_card(
    *,
    guides: dict[str, Any] | None = None,
    input: dict[str, Any] | None = None,
    output: dict[str, Any] | None = None,
    **top: Any,
) -> dict:
    """``GUIDED_CARD`` with fields changed; a field set to ``...`` is removed."""
    base = {key: copy.deepcopy(GUIDED_CARD[key]) for key in ("name", "guides")} | top
    document = card(input=input, output=GUIDED_CARD["output"] | (output or {}), **base)
    for key, value in (guides or {}).items():
        if value is ...:
            document["guides"].pop(key)
        else:
            document["guides"][key] = value
    return document


def write_guided(
    path: Path,
    nodes: list[NodeProto],
    *,
    inputs: tuple[str, ...] = ("input", "mask", "background"),
    batch: Any = "n",
    layout: str = "NCHW",
    size: tuple[Any, Any] = ("h", "w"),
    element: int = FLOAT,
    card: dict[str, Any] | None = GUIDED_CARD,
    **options: Any,
) -> Path:
    """A network of several inputs: the first takes the picture, the others are of one channel."""

    def value(name: str) -> tuple[str, int, list[Any]]:
        sides = {"N": batch, "C": 3 if name == inputs[0] else 1, "H": size[0], "W": size[1]}
        return name, element, [sides[axis] for axis in layout]

    return write_network(
        path,
        nodes,
        input=value(inputs[0]),
        more_inputs=[value(name) for name in inputs[1:]],
        card=card,
        **({"output": ("output", element, None)} | options),
    )


def guided(path: Path, **options: Any) -> Path:
    """A network that mixes picture, mask and background's depth, by two convolutions: about -2 to 4."""
    rng = np.random.default_rng(5)
    inputs = options.get("inputs", ("input", "mask", "background"))
    nodes = []
    names = list(inputs)
    if options.get("layout") == "NHWC":
        nodes = [
            helper.make_node("Transpose", [name], [f"{name}_planes"], perm=[0, 3, 1, 2]) for name in inputs
        ]
        names = [f"{name}_planes" for name in inputs]
    channels = 2 + len(inputs)
    nodes += [
        helper.make_node("Concat", names, ["all"], axis=1),
        helper.make_node("Conv", ["all", "first"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["features"], ["bent"]),
        helper.make_node("Conv", ["bent", "second", "bias"], ["output"], pads=[1, 1, 1, 1]),
    ]
    first = rng.normal(size=(8, channels, 3, 3)) / 4
    first[:, :3] /= 100  # colours are large numbers
    weights = {
        "first": first.astype(np.float32),
        "second": (rng.normal(size=(1, 8, 3, 3)) / 4).astype(np.float32),
        "bias": np.array([1], np.float32),
    }
    return write_guided(path, nodes, weights=weights, **options)


def constant_guided(path: Path, answer: float, **options: Any) -> Path:
    """A guided network that always gives the same answer."""
    nodes = [
        helper.make_node("Add", ["mask", "background"], ["sum"]),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("ReduceMean", ["input"], ["gray"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["gray", "nothing"], ["also_zero"]),
        helper.make_node("Sum", ["zero", "also_zero", "answer"], ["output"]),
    ]
    weights = {"nothing": np.array(0, np.float32), "answer": np.array(answer, np.float32)}
    return write_guided(path, nodes, weights=weights, **options)

"""Depth models: an ONNX file and the card beside it that says how to feed it and what comes out.

A card that is wrong in one detail gives plausible, wrong depth. So a card is checked against its
schema, for sense, and against what the graph itself declares, and all problems are told at once.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from fgbgpack import schema
from fgbgpack.depth import registry
from fgbgpack.depth.draft import draft
from fgbgpack.depth.onnx_file import (
    declared_shape,
    dtype_name,
    inputs_of,
    listed,
    missing_weights,
    outputs_of,
    read_graph,
    shape_text,
)
from fgbgpack.errors import DepthModelError

__all__ = ["DepthModel", "declared_shape", "fed_tensors", "input_size", "load_model", "read_graph"]

_DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
_OUTPUT_DTYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


#: What a network can be told beside the picture.
_GUIDES = ("mask", "background_depth")


@dataclass(frozen=True)
class DepthModel:
    """A depth network that is ready to be compiled: file and card have been checked against each other.

    Attributes:
        path: The ONNX file.
        card: The card, as ``schemas/depth-model/1.0.schema.json`` describes it.
        sha256: The hexadecimal digest of the ONNX file (not of weights that lie in files beside it).
    """

    path: Path
    card: dict[str, Any]
    sha256: str

    @property
    def name(self) -> str:
        """What the card calls the model."""
        return str(self.card["name"])

    @property
    def is_guided(self) -> bool:
        """Whether it is told the depth of the empty background, and so cannot run without a scene network."""
        return "background_depth" in self.card.get("guides", {})

    @property
    def takes_mask(self) -> bool:
        """Whether it is told where the foreground is."""
        return "mask" in self.card.get("guides", {})


def load_model(reference: str | Path) -> DepthModel:
    """Find a depth model, read its card, and check both.

    Args:
        reference: The path of an ONNX file ``FILE.onnx``, whose card is ``FILE.json`` in the same folder; or
            the name of a model that is in the models folder (see :mod:`fgbgpack.depth.registry`).

    Returns:
        The model. Its card names the graph's input and output, even where the file of the card does not.

    Raises:
        DepthModelError: There is no such file or model, it is no ONNX file, it has no card, or the card
            breaks its schema, makes no sense, or does not fit the graph: with every problem that was found.

    Example:
        >>> model = load_model("models/tcmonodepth-small.onnx")  # doctest: +SKIP
        >>> model.card["output"]["quantity"]  # doctest: +SKIP
        'inverse_depth'
    """
    path, card_path = _find(reference)
    graph = read_graph(path).graph
    if not card_path.is_file():
        raise DepthModelError(
            f"{path} has no card: it is looked for at {card_path}. The card says how to feed the network; "
            "without it, depth would be plausible and wrong. 'fgbgpack models card' asks for what it needs "
            "and writes it. Or start from this one, with every value to be checked against the model's "
            f"documentation:\n{json.dumps(draft(path, graph).card, indent=2)}"
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    problems = missing_weights(path, graph)
    card: dict[str, Any] = {}
    try:
        card = schema.read(
            "depth-model", registry.read_json(card_path), where=str(card_path), error=DepthModelError
        )
    except DepthModelError as exc:
        if not exc.problems and not problems:
            raise
        problems += exc.problems or (exc.message,)
    else:
        card = _with_tensor_names(card, graph)
        problems += _senseless(card) + _misfits(card, graph)
        expected = card.get("sha256", sha256)
        if expected != sha256:
            problems.append(
                f"sha256: the card is for a file with digest {expected}, this one's is {sha256}; the file is "
                "another version of the model, or its download is damaged"
            )
    if problems:
        own = path.with_suffix(".json")
        hint = (
            ""
            if card_path == own or registry.is_embedded(path)
            else f" (a card of your own, {own}, takes its place)"
        )
        raise DepthModelError(
            f"The depth model {path} and its card {card_path}{hint} cannot be used:", problems
        )
    return DepthModel(path, card, sha256)


def fed_tensors(card: Mapping[str, Any]) -> dict[str, int]:
    """The inputs of the graph that a card feeds, by name, with the number of their channels."""
    guides = card.get("guides", {})
    return {card["input"]["name"]: 3} | {guides[guide]["name"]: 1 for guide in _GUIDES if guide in guides}


def input_size(card: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """The size at which a network sees a picture of ``height`` x ``width`` pixels, by its card's size rule.

    Returns:
        ``(height, width)`` of the network's input.
    """
    rule = card["input"]["size"]
    if "fixed" in rule:
        fixed_height, fixed_width = rule["fixed"]
        return fixed_height, fixed_width
    target = rule.get("target", {})
    references = {"short_side": min(height, width), "long_side": max(height, width), "height": height}
    # Sides are kept as exact fractions, so that the nearest multiple is the same on every machine.
    numerator, denominator = next(
        ((int(length), references[side]) for side, length in target.items()), (1, 1)
    )
    multiple: int = rule["multiple_of"]

    def nearest(side: int) -> int:
        unit = denominator * multiple
        return max(1, (2 * side * numerator + unit) // (2 * unit)) * multiple

    return nearest(height), nearest(width)


def _find(reference: str | Path) -> tuple[Path, Path]:
    """The ONNX file that is meant, and where its card is or should be."""
    path = Path(reference)
    if path.is_file():
        if path.suffix == ".json":
            raise DepthModelError(
                f"{path} is a card. Give the ONNX file beside it: {path.with_suffix('.onnx')}"
            )
        return path, path.with_suffix(".json")
    if path.is_dir():
        raise DepthModelError(
            f"{path} is a folder. Give an ONNX file, with its card (a .json file) beside it."
        )
    if registry.is_name(reference):
        return registry.locate(str(reference))
    raise DepthModelError(f"There is no file {path}. An ONNX file was expected, with its card beside it.")


def _with_tensor_names(card: dict[str, Any], graph: onnx.GraphProto) -> dict[str, Any]:
    """The card with the names that it leaves out, where the graph leaves no choice."""
    card = copy.deepcopy(card)
    for side, tensors in (("input", inputs_of(graph)), ("output", outputs_of(graph))):
        if len(tensors) == 1:
            card[side].setdefault("name", next(iter(tensors)))
    return card


def _senseless(card: Mapping[str, Any]) -> list[str]:
    """What a schema cannot say: relations between the values of a card."""
    given, problems = card["input"], []
    low, high = given["range"]
    if low >= high:
        problems.append(f"input.range: found [{low}, {high}], expected two numbers with the smaller first")
    for index, step in enumerate(card["output"].get("transform", [])):
        if "clip" in step and step["clip"][0] > step["clip"][1]:
            problems.append(
                f"output.transform.{index}.clip: found {step['clip']}, expected the smaller bound first"
            )
    problems += _senseless_guides(card)
    as_stored = given["range"] == [0, 255] and "mean" not in given and "std" not in given
    if given.get("dtype") == "uint8" and not as_stored:
        problems.append("input.dtype: uint8 takes pixels as they are: range [0, 255], no mean and no std")
    return problems


def _senseless_guides(card: Mapping[str, Any]) -> list[str]:
    guides, result, problems = card.get("guides", {}), card["output"], []
    is_bytes = card["input"].get("dtype") == "uint8"
    if "mask" in guides:
        low, high = guides["mask"]["range"]
        if low == high:
            problems.append(f"guides.mask.range: found [{low}, {high}], expected two different numbers")
        if is_bytes and [low, high] != [0, 255]:
            problems.append(
                f"guides.mask.range: found [{low}, {high}], expected [0, 255], as input.dtype uint8 takes "
                "the mask as it is"
            )
    if "background_depth" in guides:
        if is_bytes:
            problems.append(
                "input.dtype: uint8 cannot hold guides.background_depth; expected float32 or float16"
            )
        if result["quantity"] != "inverse_depth":
            problems.append(
                f"output.quantity: found {result['quantity']!r}, expected 'inverse_depth': the answer of a "
                "network with guides.background_depth is in the units of that"
            )
    if result.get("of") == "foreground" and not {"mask", "background_depth"} <= guides.keys():
        problems.append(
            "output.of: 'foreground' is blended into the background with the mask, so the network needs "
            "guides.mask and guides.background_depth"
        )
    return problems


def _misfits(card: Mapping[str, Any], graph: onnx.GraphProto) -> list[str]:
    """Where the card and what the graph declares of its input and output contradict each other."""
    inputs, outputs = inputs_of(graph), outputs_of(graph)
    problems = []
    given, result, guides = card["input"], card["output"], card.get("guides", {})
    fed = {"input": given} | {f"guides.{key}": guides[key] for key in _GUIDES if key in guides}
    left = dict(inputs)
    for field, tensor in fed.items():
        if "name" not in tensor:
            problems.append(
                f"{field}.name: not given, but the graph has not one input; it has {listed(inputs)}"
            )
        elif tensor["name"] not in inputs:
            problems.append(
                f"{field}.name: the graph has no input {tensor['name']!r}; it has {listed(inputs)}"
            )
        elif tensor["name"] not in left:
            problems.append(f"{field}.name: the input {tensor['name']!r} has another task already")
        else:
            problems += _input_misfits(field, tensor["name"], given, left.pop(tensor["name"]))
    if left and not problems:
        problems.append(f"input: the graph also needs {listed(left)}, which this card does not feed")
    if "name" not in result:
        problems.append(f"output.name: not given, but the graph has not one output; it has {listed(outputs)}")
    elif result["name"] not in outputs:
        problems.append(f"output.name: the graph has no output {result['name']!r}; it has {listed(outputs)}")
    else:
        problems += _output_misfits(result, outputs[result["name"]])
    return problems


def _input_misfits(field: str, name: str, given: Mapping[str, Any], value: onnx.ValueInfoProto) -> list[str]:
    """Of the picture's tensor (``field`` is ``"input"``), or of a guide's, which follows the same rules."""
    layout, channels, problems = given["layout"], 3 if field == "input" else 1, []
    expected = given.get("dtype", "float32")
    if value.type.tensor_type.elem_type != _DTYPES[expected]:
        found = dtype_name(value)
        problems.append(
            f"input.dtype: the graph's {name!r} is {found}, the card says {expected}"
            if field == "input"
            else f"{field}: the graph's {name!r} is {found}, expected {expected} as in input.dtype"
        )
    dims = declared_shape(value)
    if dims is None:
        return problems
    rule = "input.layout" if field == "input" else field
    if len(dims) != 4:
        problems.append(f"{rule}: the graph's {name!r} has shape {shape_text(dims)}, the card says {layout}")
        return problems
    sides = dict(zip(layout, dims, strict=True))
    other = dims[3] if layout == "NCHW" else dims[1]
    if sides["C"] != channels and (sides["C"] is not None or other == channels):
        found = sides["C"] or "a free axis"
        problems.append(
            f"{rule}: {layout} puts the channels where the graph's {name!r} of shape "
            f"{shape_text(dims)} has {found}; {channels} {'were' if channels > 1 else 'was'} expected"
        )
    elif None not in (sides["H"], sides["W"]) and given["size"].get("fixed") != [sides["H"], sides["W"]]:
        problems.append(
            f"input.size: the graph's {name!r} of shape {shape_text(dims)} takes one size only; expected "
            f'{{"fixed": [{sides["H"]}, {sides["W"]}]}}, found {json.dumps(given["size"])}'
        )
    return problems


def _output_misfits(result: Mapping[str, Any], value: onnx.ValueInfoProto) -> list[str]:
    name, axes, problems = result["name"], result["axes"], []
    if value.type.tensor_type.elem_type not in _OUTPUT_DTYPES:
        problems.append(f"output.name: the graph's {name!r} is {dtype_name(value)}, not floating point")
    dims = declared_shape(value)
    if dims is None:
        return problems
    sides = dict(zip(axes, dims, strict=False))
    single = sides.get("1", 1)
    elsewhere = single is None and 1 in (sides["H"], sides["W"])
    if len(dims) != len(axes) or single not in (None, 1) or elsewhere:
        found = shape_text(dims)
        problems.append(f"output.axes: the graph's {name!r} has shape {found}, the card says {axes}")
    return problems

"""Depth models: an ONNX file and the card beside it that says how to feed it and what comes out.

A card that is wrong in one detail gives plausible, wrong depth. So a card is checked against its
schema, for sense, and against what the graph itself declares, and all problems are told at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from fgbgpack import schema
from fgbgpack.errors import DepthModelError

_DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
_OUTPUT_DTYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


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


def load_model(reference: str | Path) -> DepthModel:
    """Find a depth model, read its card, and check both.

    Args:
        reference: The path of an ONNX file ``FILE.onnx``; its card is ``FILE.json`` in the same folder.

    Raises:
        DepthModelError: There is no such file, it is no ONNX file, it has no card, or the card breaks
            its schema, makes no sense, or does not fit the graph: with every problem that was found.

    Example:
        >>> model = load_model("models/tcmonodepth-small.onnx")  # doctest: +SKIP
        >>> model.card["output"]["quantity"]  # doctest: +SKIP
        'inverse_depth'
    """
    path = _find(reference)
    graph = read_graph(path).graph
    card_path = path.with_suffix(".json")
    if not card_path.is_file():
        raise DepthModelError(
            f"{path} has no card: it is looked for at {card_path}. The card says how to feed the network; "
            "without it, depth would be plausible and wrong. To start from, with every value to be checked "
            f"against the model's documentation:\n{json.dumps(_first_card(path, graph), indent=2)}"
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    problems = _missing_weights(path, graph)
    card: dict[str, Any] = {}
    try:
        card = schema.read("depth-model", _parse(card_path), where=str(card_path), error=DepthModelError)
    except DepthModelError as exc:
        if not exc.problems and not problems:
            raise
        problems += exc.problems or (exc.message,)
    else:
        problems += _senseless(card) + _misfits(card, graph)
        expected = card.get("sha256", sha256)
        if expected != sha256:
            problems.append(
                f"sha256: the card is for a file with digest {expected}, this one's is {sha256}; the file is "
                "another version of the model, or its download is damaged"
            )
    if problems:
        raise DepthModelError(f"The depth model {path} and its card {card_path} cannot be used:", problems)
    return DepthModel(path, card, sha256)


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


def read_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; tensors that lie in files beside it stay there.

    Raises:
        DepthModelError: The file cannot be read or is no ONNX file.
    """
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except OSError as exc:
        raise DepthModelError(f"{path} cannot be read: {exc.strerror}.") from exc
    except DecodeError as exc:
        raise DepthModelError(
            f"{path} is no ONNX file, or a truncated one ({path.stat().st_size} bytes). Download it again; "
            "a file that was cloned with git may be only a pointer to large file storage."
        ) from exc
    if not model.opset_import or not model.graph.node:
        what = "is empty (0 bytes)" if path.stat().st_size == 0 else "holds no network"
        raise DepthModelError(f"{path} {what}: an ONNX file was expected.")
    return model


def _find(reference: str | Path) -> Path:
    path = Path(reference)
    if path.is_file():
        if path.suffix == ".json":
            raise DepthModelError(
                f"{path} is a card. Give the ONNX file beside it: {path.with_suffix('.onnx')}"
            )
        return path
    if path.is_dir():
        raise DepthModelError(
            f"{path} is a folder. Give an ONNX file, with its card (a .json file) beside it."
        )
    if path.suffix == "" and path.name == str(reference):
        raise DepthModelError(
            f"There is no depth model called {str(reference)!r}: this version comes with none. Give the path "
            "of an ONNX file (MODEL.onnx) that has a card (MODEL.json) beside it."
        )
    raise DepthModelError(f"There is no file {path}. An ONNX file was expected, with its card beside it.")


def _parse(card_path: Path) -> object:
    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is no JSON number")

    try:
        return json.loads(card_path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as exc:
        raise DepthModelError(f"The card {card_path} cannot be read: {exc.strerror}.") from exc
    except ValueError as exc:  # wrong JSON, or no UTF-8
        raise DepthModelError(f"The card {card_path} is no JSON: {exc}.") from exc


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
    as_stored = given["range"] == [0, 255] and "mean" not in given and "std" not in given
    if given.get("dtype") == "uint8" and not as_stored:
        problems.append("input.dtype: uint8 takes pixels as they are: range [0, 255], no mean and no std")
    return problems


def _misfits(card: Mapping[str, Any], graph: onnx.GraphProto) -> list[str]:
    """Where the card and what the graph declares of its input and output contradict each other."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in weights}
    outputs = {value.name: value for value in graph.output}
    problems = []
    given, result = card["input"], card["output"]
    if given["name"] not in inputs:
        problems.append(f"input.name: the graph has no input {given['name']!r}; it has {_listed(inputs)}")
    else:
        problems += _input_misfits(given, inputs.pop(given["name"]))
        if inputs:
            problems.append(f"input: the graph also needs {_listed(inputs)}, which this card does not feed")
    if result["name"] not in outputs:
        problems.append(f"output.name: the graph has no output {result['name']!r}; it has {_listed(outputs)}")
    else:
        problems += _output_misfits(result, outputs[result["name"]])
    return problems


def _input_misfits(given: Mapping[str, Any], value: onnx.ValueInfoProto) -> list[str]:
    name, layout, problems = given["name"], given["layout"], []
    expected = given.get("dtype", "float32")
    if value.type.tensor_type.elem_type != _DTYPES[expected]:
        problems.append(
            f"input.dtype: the graph's {name!r} is {_dtype_name(value)}, the card says {expected}"
        )
    dims = declared_shape(value)
    if dims is None:
        return problems
    if len(dims) != 4:
        problems.append(
            f"input.layout: the graph's {name!r} has shape {_shape(dims)}, the card says {layout}"
        )
        return problems
    sides = dict(zip(layout, dims, strict=True))
    other = dims[3] if layout == "NCHW" else dims[1]
    if sides["C"] != 3 and (sides["C"] is not None or other == 3):
        found = sides["C"] or "a free axis"
        problems.append(
            f"input.layout: {layout} puts the channels where the graph's {name!r} of shape {_shape(dims)} "
            f"has {found}; 3 were expected"
        )
    elif None not in (sides["H"], sides["W"]) and given["size"].get("fixed") != [sides["H"], sides["W"]]:
        problems.append(
            f"input.size: the graph's {name!r} of shape {_shape(dims)} takes one size only; expected "
            f'{{"fixed": [{sides["H"]}, {sides["W"]}]}}, found {json.dumps(given["size"])}'
        )
    return problems


def _output_misfits(result: Mapping[str, Any], value: onnx.ValueInfoProto) -> list[str]:
    name, axes, problems = result["name"], result["axes"], []
    if value.type.tensor_type.elem_type not in _OUTPUT_DTYPES:
        problems.append(f"output.name: the graph's {name!r} is {_dtype_name(value)}, not floating point")
    dims = declared_shape(value)
    if dims is None:
        return problems
    sides = dict(zip(axes, dims, strict=False))
    single = sides.get("1", 1)
    elsewhere = single is None and 1 in (sides["H"], sides["W"])
    if len(dims) != len(axes) or single not in (None, 1) or elsewhere:
        problems.append(f"output.axes: the graph's {name!r} has shape {_shape(dims)}, the card says {axes}")
    return problems


def _missing_weights(path: Path, graph: onnx.GraphProto) -> list[str]:
    files = {ExternalDataInfo(t).location for t in graph.initializer if uses_external_data(t)}
    return [
        f"{path.parent / name}: not found; the graph keeps weights in it, so it belongs beside {path.name}"
        for name in sorted(files)
        if not (path.parent / name).is_file()
    ]


def declared_shape(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """The shape that a graph declares for a tensor: None for a free axis, None for no shape at all."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim
    ]


def _first_card(path: Path, graph: onnx.GraphProto) -> dict[str, Any]:
    """A card to start from: names and sizes as the graph has them, the rest as most networks do it."""
    weights = {tensor.name for tensor in graph.initializer}
    value = next((value for value in graph.input if value.name not in weights), onnx.ValueInfoProto())
    dims = declared_shape(value) or []
    layout = "NHWC" if len(dims) == 4 and dims[3] == 3 and dims[1] != 3 else "NCHW"
    sides = dict(zip(layout, dims, strict=False))
    fixed = sides.get("H") and sides.get("W")
    output = graph.output[0] if graph.output else onnx.ValueInfoProto()
    axes = {4: "N1HW", 3: "NHW", 2: "HW"}.get(len(declared_shape(output) or []), "N1HW")
    return {
        "schema": f"depth-model/{schema.CURRENT['depth-model']}",
        "name": "".join(
            c if c in "abcdefghijklmnopqrstuvwxyz0123456789._-" else "-" for c in path.stem.lower()
        ),
        "input": {
            "name": value.name,
            "layout": layout,
            "channels": "RGB",
            "range": [0, 1],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "size": {"fixed": [sides["H"], sides["W"]]} if fixed else {"multiple_of": 32},
        },
        "output": {"name": output.name, "axes": axes, "quantity": "inverse_depth", "unit": None},
    }


def _dtype_name(value: onnx.ValueInfoProto) -> str:
    return str(TensorProto.DataType.Name(value.type.tensor_type.elem_type)).lower()


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def _shape(dims: list[int | None]) -> str:
    return "(" + ", ".join("free" if dim is None else str(dim) for dim in dims) + ")"

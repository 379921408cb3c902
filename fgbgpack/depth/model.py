"""Networks: an ONNX file, and the card beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from fgbgpack import schema
from fgbgpack.depth import registry
from fgbgpack.depth.card import Card, Kind, NetworkInput, NetworkOutput, card_error
from fgbgpack.depth.draft import draft
from fgbgpack.depth.onnx_file import (
    declared_shape,
    dtype_name,
    inputs_of,
    listed,
    outputs_of,
    read_graph,
    shape_text,
)
from fgbgpack.depth.weights import Weights
from fgbgpack.errors import DepthModelError

_DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
_OUTPUT_DTYPES = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.INT8,
    TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16,
    TensorProto.UINT32, TensorProto.UINT64,
)  # fmt: skip


@dataclass(frozen=True)
class DepthModel:
    """A network that is ready to be compiled: the ONNX file, a card that fits it, and the digest of the
    file and of its weights in other files (:meth:`fgbgpack.depth.weights.Weights.digest`).
    """

    path: Path
    card: Card
    sha256: str

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name


def load_model(reference: str | Path, kind: Kind | None = "depth") -> DepthModel:
    """Finds a network by the path of its ONNX file, with its card ``.json`` beside it, or by its name
    (see :mod:`fgbgpack.depth.registry`), reads its card, and checks both. It has to be of that ``kind``;
    ``None`` takes either.

    Raises:
        DepthModelError: There is no such model, it is of the other kind, its file is not an ONNX file, it has
            no card, or the card breaks its schema, contradicts itself or does not fit the graph: with every
            problem found.
    """
    path, card_path = _find(reference)
    if kind is not None:
        _check_kind(path, card_path, kind)
    network = read_graph(path)
    graph = network.graph
    if not card_path.is_file():
        asked = "'fgbgpack models card' asks for what it needs and writes it. Or start"
        raise DepthModelError(
            f"{path} has no card: {card_path} was expected. The card says how to feed the network; without "
            f"it, answers would be plausible and wrong. {'Start' if kind == 'cutout' else asked} from this "
            "one, and check every value in the model's documentation:\n"
            f"{json.dumps(_draft(path, graph, kind), indent=2)}",
            code="card-missing",
        )
    weights = Weights(path, network)
    problems = weights.problems()
    try:
        card = Card.from_dict(registry.read_json(card_path), where=str(card_path))
    except DepthModelError as exc:
        if not exc.problems and not problems:
            raise
        problems += exc.problems or (exc.message,)
    else:
        outputs = outputs_of(graph)
        # Networks of cut-outs give alpha first, and then what helped to train them.
        answer = next(iter(outputs), None) if card.kind == "cutout" else _only(outputs)
        card = card.with_tensors(_only(inputs_of(graph)), answer)
        sha256 = "" if problems else weights.digest()
        problems += [*card.contradictions(), *_misfits(card, graph)]
        if sha256 and card.sha256 not in (None, sha256):
            problems.append(
                f"sha256: the card is for a file with digest {card.sha256}, this file has {sha256}: it is "
                "another version of the model, or its download is damaged"
            )
        if not problems:
            return DepthModel(path, card, sha256)
    own, hint = path.with_suffix(".json"), ""
    if card_path != own and path.parent != registry.NETWORKS:
        hint = f" (a card of your own, {own}, replaces it)"
    raise card_error(f"The model {path} and its card {card_path}{hint} cannot be used:", problems)


def _draft(path: Path, graph: onnx.GraphProto, kind: Kind | None) -> dict[str, Any]:
    """A card to start from."""
    card = draft(path, graph).card
    if kind != "cutout":
        return card
    result = {"axes": card["output"]["axes"], "values": "alpha"}
    network = {key: value for key, value in card["input"].items() if key not in ("name", "batch")}
    tag = f"cutout-model/{schema.CURRENT['cutout-model']}"
    return {"schema": tag, "name": card["name"], "input": network, "output": result}


def _check_kind(path: Path, card_path: Path, kind: Kind) -> None:
    """Refuses a network of the other kind; a card that cannot be read has its own error, later."""
    try:
        card = Card.from_dict(registry.read_json(card_path), where=str(card_path))
    except DepthModelError:
        return
    if card.kind != kind:
        is_for = {
            "depth": "gives depth: use it with --depth-model",
            "cutout": "cuts foregrounds out of photographs: use it with fgbgpack cutout --model",
        }
        raise DepthModelError(f"{path.stem} {is_for[card.kind]}.", code="model-kind-mismatch")


def _find(reference: str | Path) -> tuple[Path, Path]:
    path = Path(reference)
    if path.is_file():
        if path.suffix != ".json":
            return path, path.with_suffix(".json")
        why = f"{path} is a card. Give the ONNX file beside it: {path.with_suffix('.onnx')}"
    elif path.is_dir():
        why = f"{path} is a folder. Give an ONNX file, with its card (a .json file) beside it."
    elif registry.is_name(reference):
        return registry.locate(str(reference))
    else:
        why = f"There is no file {path}. An ONNX file was expected, with its card beside it."
    raise DepthModelError(why, code="model-unknown")


def _only(tensors: dict[str, onnx.ValueInfoProto]) -> str | None:
    return next(iter(tensors)) if len(tensors) == 1 else None


def _misfits(card: Card, graph: onnx.GraphProto) -> Iterator[str]:
    """One line for each contradiction between the card and what the graph declares."""
    inputs, outputs = inputs_of(graph), outputs_of(graph)
    unfed, problems = dict(inputs), 0
    names = {"input": card.input.name} | {f"guides.{key}": guide.name for key, guide in card.guides.items()}
    for field, name in names.items():
        found = []
        if not name:
            found.append(f"{field}.name: not given, and the graph has several inputs: {listed(inputs)}")
        elif name not in inputs:
            found.append(f"{field}.name: the graph has no input {name!r}; it has {listed(inputs)}")
        elif name not in unfed:
            found.append(f"{field}.name: the input {name!r} is used twice in this card")
        else:
            found += _input_misfits(field, card.input, unfed.pop(name))
        problems += len(found)
        yield from found
    if unfed and not problems:
        yield f"input: the graph also needs {listed(unfed)}, which this card does not feed"
    result = card.output
    if not result.name:
        yield f"output.name: not given, and the graph has several outputs: {listed(outputs)}"
    elif result.name not in outputs:
        yield f"output.name: the graph has no output {result.name!r}; it has {listed(outputs)}"
    else:
        yield from _output_misfits(result, outputs[result.name])


def _input_misfits(field: str, source: NetworkInput, value: onnx.ValueInfoProto) -> Iterator[str]:
    """Of the picture's tensor (``field`` is ``"input"``), or of a guide's, which follows the same rules."""
    is_picture = field == "input"
    channels = 3 if is_picture else 1
    if value.type.tensor_type.elem_type != _DTYPES[source.dtype]:
        found = dtype_name(value)
        yield (
            f"input.dtype: the graph's {value.name!r} is {found}, the card says {source.dtype}"
            if is_picture
            else f"{field}: the graph's {value.name!r} is {found}, expected {source.dtype} as in input.dtype"
        )
    dims = declared_shape(value)
    if dims is None:
        return
    rule, layout = "input.layout" if is_picture else field, source.layout
    declared = f"the graph's {value.name!r} of shape {shape_text(dims)}"
    if len(dims) != len(layout) or ("1" in layout and dims[layout.index("1")] not in (1, None)):
        yield f"{rule}: {declared} cannot be {layout}, as the card says"
        return
    sides = dict(zip(layout, dims, strict=True))
    if source.batch is not None and sides["N"] not in (None, source.batch):
        yield f"input.batch: {declared} takes {sides['N']} at a time, the card says {source.batch}"
    other = sides["W"] if layout.endswith("CHW") else sides["H"]
    size = (sides["H"], sides["W"])
    if sides["C"] != channels and (sides["C"] is not None or other == channels):
        there = sides["C"] or "a free axis"
        yield f"{rule}: {layout} puts the channels where {declared} has {there}; expected {channels}"
    elif None not in size and source.size.fixed != size:
        yield (
            f'input.size: {declared} takes one size only; expected {{"fixed": {list(size)}}}, found '
            f"{source.size}"
        )


def _output_misfits(result: NetworkOutput, value: onnx.ValueInfoProto) -> Iterator[str]:
    if value.type.tensor_type.elem_type not in _OUTPUT_DTYPES:
        yield f"output.name: the graph's {result.name!r} is {dtype_name(value)}, not a type of numbers"
    dims = declared_shape(value)
    if dims is None:
        return
    sides = dict(zip(result.axes, dims, strict=False))
    single = sides.get("1", 1)
    is_elsewhere = single is None and 1 in (sides["H"], sides["W"])
    if len(dims) != len(result.axes) or single not in (None, 1) or is_elsewhere:
        yield (
            f"output.axes: the graph's {result.name!r} has shape {shape_text(dims)}, the card says "
            f"{result.axes}"
        )

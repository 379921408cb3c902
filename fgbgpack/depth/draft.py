"""Drafts of cards for networks that have none: from the graph, from answers, and else from guesses."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from fgbgpack import schema
from fgbgpack.depth.card import Card, card_error
from fgbgpack.depth.onnx_file import declared_shape, inputs_of, listed, outputs_of

_DTYPES: Mapping[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.UINT8: "uint8"}

#: Fields taken from another model's card: its convention and authors, not its file.
_LENT = ("made_by", "licence", "input", "output")

#: A word in the name of an input that is a guide, and the usual values of its fields.
_GUIDES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "mask": ("mask", {"range": [0, 1]}),
    "background_depth": ("background", {"normalise": "median"}),
}

_ORDER = {
    "input": ("name", "layout", "channels", "range", "mean", "std", "size", "filter", "dtype", "batch"),
    "output": ("name", "axes", "of", "quantity", "unit", "transform"),
}

_IMAGENET_MEAN, _IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Draft:
    """A card that fits the graph, and its guessed fields, as ``("input.range", ...)``: no graph tells them,
    and depth is plausible and wrong where they are wrong.
    """

    card: dict[str, Any]
    guessed: tuple[str, ...]


def draft(
    path: Path,
    graph: onnx.GraphProto,
    *,
    answers: Mapping[str, Any] | None = None,
    like: Card | None = None,
) -> Draft:
    """Drafts a card for the graph of an ONNX file, which gives the card its name. ``answers`` has known
    values by field, such as ``{"output.quantity": "depth"}``, or ``None`` to leave a field out. ``like`` is
    the card of a model that is fed in the same way; graph and answers override it. Raises DepthModelError
    where an answer names an input or output that the graph does not have.
    """
    lent = {} if like is None else like.document
    answers = dict(answers or {})
    if lent.get("output", {}).get("name") in outputs_of(graph):
        answers.setdefault("output.name", lent["output"]["name"])
    value = _chosen(graph, "input", answers.get("input.name"))
    result = _chosen(graph, "output", answers.get("output.name"))
    name = re.sub(r"[^a-z0-9._-]", "-", path.stem.lower()).lstrip("._-")[:64] or "model"
    card: dict[str, Any] = {
        "schema": f"depth-model/{schema.CURRENT['depth-model']}",
        "name": name,
        "input": {"channels": "RGB", "range": [0, 1], "mean": _IMAGENET_MEAN, "std": _IMAGENET_STD},
        "output": {"quantity": "inverse_depth", "unit": None},
    }
    card["input"]["size"] = {"multiple_of": 32}
    guessed = ["input.range", "input.mean", "input.std", "input.size", "output.quantity"]
    is_clear = "output.name" in answers or len(_likely_outputs(graph)) < 2
    ambiguous = [] if is_clear else ["output.name"]
    guessed = [*ambiguous, *guessed]
    if lent:
        card |= {key: copy.deepcopy(lent[key]) for key in _LENT if key in lent}
        guessed = ambiguous
    declared = _declared_input(value) | _declared_output(result, str(answers.get("input.layout", "NCHW")))
    if declared["input.dtype"] == "uint8":
        # Such a network takes pixels unchanged.
        declared |= {"input.range": [0, 255], "input.mean": None, "input.std": None}
    lent_guides = lent.get("guides", {})
    guides = _guides(graph, value.name, answers, lent_guides)
    if guides:
        # Cards have them between input and output.
        card = card | {"guides": guides, "output": card.pop("output")}
    if "mask" in guides and "mask" not in lent_guides:
        guessed.append("guides.mask.range")
    if "background_depth" in guides:
        declared |= {"output.quantity": "inverse_depth", "output.unit": None}
    if guides.keys() != _GUIDES.keys():
        declared["output.of"] = None
    elif "of" not in lent.get("output", {}):
        card["output"]["of"] = "picture"
        guessed.append("output.of")
    if ambiguous:
        declared["output.name"] = None
    known = declared | answers
    for field, entry in known.items():
        _set(card, field, entry)
    for side, order in _ORDER.items():
        card[side] = {key: card[side][key] for key in order if key in card[side]}
    if "output.quantity" in answers and "output.unit" not in answers:
        _set(card, "output.unit", None)
        guessed += ["output.unit"] if answers["output.quantity"] == "depth" else []
    return Draft(card, tuple(field for field in guessed if field in ambiguous or field not in known))


def _chosen(graph: onnx.GraphProto, side: str, name: str | None) -> onnx.ValueInfoProto:
    """The tensor that takes the picture or gives depth: the named one, or else the most likely one."""
    tensors = inputs_of(graph) if side == "input" else outputs_of(graph)
    if name is not None:
        if name not in tensors:
            raise card_error(f"The graph has no {side} {name!r}; it has {listed(tensors)}.")
        return tensors[name]
    likely = _likely_outputs(graph) if side == "output" else _likely_inputs(graph)
    return next(iter((*likely, *tensors.values())), onnx.ValueInfoProto())


def _likely_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that could take a picture."""
    return [value for value in inputs_of(graph).values() if 3 in _channels(declared_shape(value) or [])]


def _likely_outputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The outputs that could be depth, by their shapes; those of unknown shape could."""

    def is_likely(dims: list[int | None] | None) -> bool:
        if dims is None or len(dims) in (2, 3):
            return True
        channels = _channels(dims)
        return 1 in channels or channels == (None, None)

    return [value for value in outputs_of(graph).values() if is_likely(declared_shape(value))]


def _channels(dims: list[int | None]) -> tuple[int | None, ...]:
    """The lengths of the two axes that may hold channels: the third from the end, and the last."""
    return (dims[-3], dims[-1]) if len(dims) in (4, 5) else ()


def _guides(
    graph: onnx.GraphProto, picture: str, answers: Mapping[str, Any], lent: Mapping[str, Any]
) -> dict[str, Any]:
    """The guides of a card: inputs beside the picture that an answer names, or that have a guide's name."""
    guides = {}
    for guide, (word, usual) in _GUIDES.items():
        alike = [
            name
            for name, value in inputs_of(graph).items()
            if name != picture and word in name.lower() and 3 not in (declared_shape(value) or [])[1::2]
        ]
        name = answers.get(f"guides.{guide}.name") or next(iter(alike), None)
        if name is not None:
            guides[guide] = {"name": name} | {
                key: copy.deepcopy(lent.get(guide, {}).get(key, default)) for key, default in usual.items()
            }
    return guides


def _declared_input(value: onnx.ValueInfoProto) -> dict[str, Any]:
    dims = declared_shape(value) or []
    before, last = _channels(dims) or (3, None)
    layout = "HWC" if last == 3 and before != 3 else "CHW"
    layout = ("N1" if len(dims) == 5 else "N") + layout
    dtype = _DTYPES.get(value.type.tensor_type.elem_type)
    fields: dict[str, Any] = {"input.name": value.name, "input.layout": layout, "input.dtype": dtype}
    sides = dict(zip(layout, dims, strict=False))
    if sides.get("H") and sides.get("W"):
        fields["input.size"] = {"fixed": [sides["H"], sides["W"]]}
    return fields


def _declared_output(value: onnx.ValueInfoProto, layout: str) -> dict[str, Any]:
    dims = declared_shape(value) or []
    axes = {3: "NHW", 2: "HW"}.get(len(dims), "NHW1" if layout.endswith("HWC") else "N1HW")
    if len(dims) == 4 and 1 in (dims[1], dims[3]):
        axes = "N1HW" if dims[1] == 1 else "NHW1"
    return {"output.name": value.name, "output.axes": axes}


def _set(card: dict[str, Any], field: str, value: Any) -> None:
    *parents, key = field.split(".")
    for parent in parents:
        card = card.setdefault(parent, {})
    # The unit is the only field that is required and may be null.
    if value is None and key != "unit":
        card.pop(key, None)
    else:
        card[key] = value

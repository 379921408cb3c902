"""``fgbgpack models card``: write the card of a network, from its graph, options and answers."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from fgbgpack.cli import completion
from fgbgpack.cli.console import say, say_title
from fgbgpack.cli.models.common import FORCE
from fgbgpack.cli.options import argument, command, option
from fgbgpack.errors import DepthModelError, SpecError
from fgbgpack.inputs import parse_json

app = typer.Typer()

_TRIPLES: Mapping[str, list[float] | None] = {
    "none": None,
    "half": [0.5, 0.5, 0.5],
    "imagenet-mean": [0.485, 0.456, 0.406],
    "imagenet-std": [0.229, 0.224, 0.225],
}


def _numbers(count: int) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        parts = text.split(",")
        if len(parts) != count:
            raise ValueError(f"expected {count} numbers with commas between them")
        return [parse_json(part) for part in parts]

    return parse


def _triple(kind: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        name = f"imagenet-{kind}" if text == "imagenet" else text
        return _TRIPLES[name] if name in _TRIPLES else _numbers(3)(text)

    return parse


def _size(text: str) -> Any:
    """``384x512``, ``multiple 32``, or ``multiple 32, short_side 384``: height first, as in a card."""
    fixed = re.fullmatch(r"(\d+)x(\d+)", text)
    if fixed:
        return {"fixed": [int(fixed[1]), int(fixed[2])]}
    multiple = re.fullmatch(r"multiple (\d+)(?:, *(short_side|long_side|height) (\d+))?", text)
    if multiple is None:
        raise ValueError("expected HEIGHTxWIDTH, 'multiple K' or 'multiple K, short_side N'")
    target = {"target": {multiple[2]: int(multiple[3])}} if multiple[2] else {}
    return {"multiple_of": int(multiple[1])} | target


@dataclass(frozen=True)
class _Field:
    """A field of a card: its option, what is asked for it, how it is parsed; the schema checks its value."""

    declaration: str
    question: str
    parse: Callable[[str], Any] = str
    values: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        return self.declaration.split()[0]


_FIELDS: Mapping[str, _Field] = {
    "name": _Field("--name NAME", "Name of the model"),
    "licence": _Field("--licence TEXT", "Licence of the weights"),
    "source": _Field("--source TEXT", "Where the file comes from"),
    "input.name": _Field("--input TENSOR", "Input that takes the picture"),
    "output.name": _Field("--output TENSOR", "Output that holds depth"),
    "input.channels": _Field("--channels RGB|BGR", "Order of the colours, RGB or BGR", str, ("RGB", "BGR")),
    "input.range": _Field(
        "--range LOW,HIGH",
        "Range of pixel values before mean and std apply (0,1 or 0,255)",
        _numbers(2),
    ),
    "input.mean": _Field(
        "--mean R,G,B", "Mean that is subtracted (imagenet, half, none, or R,G,B)", _triple("mean")
    ),
    "input.std": _Field(
        "--std R,G,B", "Standard deviation to divide by (imagenet, half, none, or R,G,B)", _triple("std")
    ),
    "input.size": _Field(
        "--size SIZE", "Input size (HEIGHTxWIDTH, 'multiple 32', 'multiple 32, short_side 384')", _size
    ),
    "input.filter": _Field(
        "--filter FILTER",
        "Filter that pictures are resized with (nearest, bilinear or bicubic)",
        values=("nearest", "bilinear", "bicubic"),
    ),
    "input.batch": _Field(
        "--batch N",
        "How many pictures the network takes at a time",
        parse_json,
    ),
    "guides.mask.name": _Field("--mask TENSOR", "Input that takes the mask of the foreground"),
    "guides.mask.range": _Field(
        "--mask-range LOW,HIGH", "Mask values of background and foreground (0,1 or -1,1)", _numbers(2)
    ),
    "guides.background_depth.name": _Field(
        "--background-depth TENSOR", "Input that takes the depth of the empty background"
    ),
    "output.of": _Field(
        "--of WHAT", "What the depth is of: the picture, or the foreground", str, ("picture", "foreground")
    ),
    "output.quantity": _Field(
        "--quantity QUANTITY",
        "Quantity of the output: depth, or inverse_depth (larger is nearer)",
        values=("depth", "inverse_depth"),
    ),
    "output.unit": _Field(
        "--unit m|none",
        "Unit of depth: m, or none if it is relative",
        lambda text: None if text == "none" else text,
        ("m", "none"),
    ),
    "output.transform": _Field(
        "--transform JSON", "Steps from the raw output to that quantity, as JSON", parse_json
    ),
}


def _option(field: str) -> Any:
    known = _FIELDS[field]
    complete = completion.one_of(*known.values) if known.values else None
    return option(known.declaration, f"{known.question}.", complete=complete)


@command(
    app,
    "fgbgpack models card my-midas.onnx --like midas-v2.1-small",
    "fgbgpack models card net.onnx --range 0,1 --mean imagenet --std imagenet",
)
def card(
    ctx: typer.Context,
    file: Path = argument("FILE.onnx", "The ONNX file of a network."),
    like: str | None = option(
        "--like NAME", "A model with the same convention; its card is copied.", complete=completion.models
    ),
    name: str | None = _option("name"),
    output_quantity: str | None = _option("output.quantity"),
    output_unit: str | None = _option("output.unit"),
    input_range: str | None = _option("input.range"),
    input_mean: str | None = _option("input.mean"),
    input_std: str | None = _option("input.std"),
    input_size: str | None = _option("input.size"),
    input_channels: str | None = _option("input.channels"),
    input_filter: str | None = _option("input.filter"),
    input_batch: str | None = _option("input.batch"),
    output_transform: str | None = _option("output.transform"),
    input_name: str | None = _option("input.name"),
    output_name: str | None = _option("output.name"),
    guides_mask_name: str | None = _option("guides.mask.name"),
    guides_mask_range: str | None = _option("guides.mask.range"),
    guides_background_depth_name: str | None = _option("guides.background_depth.name"),
    output_of: str | None = _option("output.of"),
    licence: str | None = _option("licence"),
    source: str | None = _option("source"),
    force: bool = FORCE,
) -> None:
    """Write a card for a network that has none: from its graph, your options, and your answers.

    What neither the graph nor an option says is asked on a terminal. Nothing is guessed.
    """
    from fgbgpack import schema
    from fgbgpack.depth import load_model
    from fgbgpack.depth.draft import draft
    from fgbgpack.depth.onnx_file import read_graph
    from fgbgpack.depth.registry import find
    from fgbgpack.files import write_atomically

    graph = read_graph(file).graph
    path = file.with_suffix(".json")
    if path.exists() and not force:
        raise SpecError(f"{path} exists; --force replaces it.", code="file-exists")
    answers = _parse({field: ctx.params[field.replace(".", "_")] for field in _FIELDS})
    lender = None if like is None else find(like).card
    while (drafted := draft(file, graph, answers=answers, like=lender)).guessed:
        if not _on_terminal():
            missing = [_FIELDS[field] for field in drafted.guessed]
            raise SpecError(
                "The graph does not say how this network is fed, nor what its output means. Give these "
                "options, or name a model with the same convention with --like NAME:",
                [f"{field.option}: not given. {field.question}" for field in missing],
                code="options-missing",
            )
        # One at a time: an answer may raise another question.
        field = drafted.guessed[0]
        answers[field] = _ask(_FIELDS[field])
    problems = schema.problems("depth-model", drafted.card)
    if problems:
        raise SpecError("These values make no valid card:", problems, code="schema-violated")
    before = path.read_bytes() if path.exists() else None
    text = json.dumps(drafted.card, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())
    try:
        load_model(file)
    except DepthModelError:
        # The card does not fit the network: restore what was there.
        path.unlink() if before is None else write_atomically(path, before)
        raise
    say_title(f"Wrote {path}")
    say("Compare every value with the model's documentation, then check its depth:")
    say(f"  fgbgpack models check {shlex.quote(str(file))}")


def _on_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _parse(given: Mapping[str, str | None]) -> dict[str, Any]:
    answers, problems = {}, []
    for name, text in given.items():
        if text is not None:
            field = _FIELDS[name]
            try:
                answers[name] = field.parse(text)
            except ValueError as exc:
                problems.append(f"{field.option}: {text!r} cannot be parsed ({exc})")
    if problems:
        raise SpecError("These options cannot be used:", problems, code="options-invalid")
    return answers


def _ask(field: _Field) -> Any:
    """The value of a field, asked for until it can be parsed."""
    question = field.question
    while True:
        try:
            return field.parse(str(typer.prompt(question, err=True)))
        except ValueError as exc:
            question = f"That cannot be parsed ({exc}). {field.question}"

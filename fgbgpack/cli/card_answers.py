"""What somebody says of a network on the command line, or when asked: the fields of its card."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from fgbgpack.errors import SpecError

_TRIPLES: Mapping[str, list[float] | None] = {
    "none": None,
    "half": [0.5, 0.5, 0.5],
    "imagenet-mean": [0.485, 0.456, 0.406],
    "imagenet-std": [0.229, 0.224, 0.225],
}


def _numbers(text: str, count: int) -> list[float | int]:
    parts = text.split(",")
    if len(parts) != count:
        raise ValueError(f"expected {count} numbers with commas between them")
    return [json.loads(part) for part in parts]


def _range(text: str) -> Any:
    return _numbers(text, 2)


def _triple(which: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        name = f"imagenet-{which}" if text == "imagenet" else text
        return _TRIPLES[name] if name in _TRIPLES else _numbers(text, 3)

    return read


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


def _unit(text: str) -> Any:
    return None if text == "none" else text


def _plain(text: str) -> Any:
    return text


#: The option of each field, how its text is read, and what to ask for it. The schema judges the values.
FIELDS: Mapping[str, tuple[str, Callable[[str], Any], str]] = {
    "name": ("--name", _plain, "Name of the model"),
    "licence": ("--licence", _plain, "Licence of the weights"),
    "source": ("--source", _plain, "Where the file comes from"),
    "input.name": ("--input", _plain, "Input that takes the picture"),
    "output.name": ("--output", _plain, "Output that holds depth"),
    "input.channels": ("--channels", _plain, "Order of the colours, RGB or BGR"),
    "input.range": (
        "--range",
        _range,
        "What pixel values 0 and 255 become, before mean and std (0,1 or 0,255)",
    ),
    "input.mean": ("--mean", _triple("mean"), "Mean that is subtracted (imagenet, half, none, or R,G,B)"),
    "input.std": ("--std", _triple("std"), "What is divided by (imagenet, half, none, or R,G,B)"),
    "input.size": (
        "--size",
        _size,
        "Size it takes (HEIGHTxWIDTH, 'multiple 32', 'multiple 32, short_side 384')",
    ),
    "input.filter": ("--filter", _plain, "Filter that pictures are resized with"),
    "guides.mask.name": ("--mask", _plain, "Input that takes the mask of the foreground"),
    "guides.mask.range": (
        "--mask-range",
        _range,
        "What background (0) and foreground (255) become in the mask (0,1 or -1,1)",
    ),
    "guides.background_depth.name": (
        "--background-depth",
        _plain,
        "Input that takes the depth of the empty background",
    ),
    "output.of": ("--of", _plain, "Whose depth comes out: of the whole picture, or of the foreground"),
    "output.quantity": ("--quantity", _plain, "What comes out: depth, or inverse_depth (larger is nearer)"),
    "output.unit": ("--unit", _unit, "Unit of depth: m, or none if it is relative"),
    "output.transform": ("--transform", json.loads, "Steps from the raw output to that, as JSON"),
}


def read(given: Mapping[str, str | None]) -> dict[str, Any]:
    """The fields that were given, by name.

    Raises:
        SpecError: Some cannot be read; with a line for each.
    """
    answers, problems = {}, []
    for field, text in given.items():
        if text is None:
            continue
        option, reader, _ = FIELDS[field]
        try:
            answers[field] = reader(text)
        except ValueError as exc:
            problems.append(f"{option}: {text!r} cannot be read ({exc})")
    if problems:
        raise SpecError("These options cannot be used:", problems)
    return answers


def ask(field: str, prompt: Callable[[str], str]) -> Any:
    """The value of a field from somebody who is asked until it can be read."""
    _, reader, question = FIELDS[field]
    while True:
        try:
            return reader(prompt(question))
        except ValueError as exc:
            question = f"That cannot be read ({exc}). {FIELDS[field][2]}"


def refusal(guessed: tuple[str, ...]) -> SpecError:
    """What is missing where nobody can be asked."""
    return SpecError(
        "The graph does not tell how this network is fed, nor what its answer means. Say it, or name a model "
        "that is fed in the same way with --like NAME:",
        [f"{FIELDS[field][0]}: not given. {FIELDS[field][2]}" for field in guessed],
    )

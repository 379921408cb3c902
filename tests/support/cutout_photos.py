"""Photographs with a known foreground, and a network that finds it: what is more red than blue."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from onnx_models import FLOAT, write_network
from PIL import Image

CARD: dict[str, Any] = {
    "schema": "cutout-model/1.0",
    "name": "redness",
    "input": {"layout": "NCHW", "channels": "RGB", "range": [0, 1], "size": {"multiple_of": 1}},
    "output": {"axes": "N1HW", "values": "alpha"},
}

#: Red and blue of foreground and background: their difference, 0.8 and -0.8, is what the network sees.
FOREGROUND, BACKGROUND = (230, 60, 26), (26, 120, 230)
#: What that network takes for foreground, too.
THING = (230, 255, 26)


def card(*, input: dict[str, Any] | None = None, output: dict[str, Any] | None = None, **top: Any) -> dict:
    """``CARD`` with fields changed."""
    document = copy.deepcopy(CARD) | top
    document["input"] |= input or {}
    document["output"] |= output or {}
    return document


def redness(path: Path, *, logits: bool = False, shuffled: bool = False, **changes: Any) -> Path:
    """A network whose answer is linear in red less blue: alpha of a photograph of the colours above. With
    ``logits`` it answers that 20 times as large, around 0, and ``shuffled`` its nodes are in no order.
    """
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["difference"]),
        helper.make_node("Mul", ["difference", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["output"]),
    ]
    weights = {
        "weights": np.array([1, 0, -1], np.float32).reshape(1, 3, 1, 1),
        "factor": np.array(20 if logits else 1 / 1.6, np.float32),
        "offset": np.array(0 if logits else 0.5, np.float32),
    }
    document = changes.pop("card", card(output={"values": "logits" if logits else "alpha"}))
    options: dict[str, Any] = {"output": ("output", FLOAT, None), "card": document} | changes
    return write_network(path, nodes[::-1] if shuffled else nodes, weights=weights, **options)


def greenless(path: Path) -> Path:
    """A network that finds the foreground, too, but nothing of ``THING``."""
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["output"]),
    ]
    weights = {
        "weights": np.array([1.26, -1.31, -1.26], np.float32).reshape(1, 3, 1, 1),
        "offset": np.array(0.3, np.float32),
    }
    return write_network(
        path, nodes, weights=weights, output=("output", FLOAT, None), card=card(name="greenless")
    )


def short_sighted(path: Path, *, loses: float, above: float, seen: int) -> Path:
    """A network as :func:`redness` that sees ``seen`` pixels, and whose answer is less by the share ``loses``
    where the foreground is more than the share ``above`` of what it sees.
    """
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["difference"]),
        helper.make_node("Mul", ["difference", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "half"], ["share"]),
        helper.make_node("GlobalAveragePool", ["share"], ["mean"]),
        helper.make_node("Sub", ["mean", "above"], ["more"]),
        helper.make_node("Mul", ["more", "steep"], ["much more"]),
        helper.make_node("Sigmoid", ["much more"], ["is close"]),
        helper.make_node("Mul", ["is close", "loses"], ["lost"]),
        helper.make_node("Sub", ["one", "lost"], ["kept"]),
        helper.make_node("Mul", ["share", "kept"], ["output"]),
    ]
    numbers = {"factor": 1 / 1.6, "half": 0.5, "above": above, "steep": 1000, "loses": loses, "one": 1}
    weights = {name: np.array(number, np.float32) for name, number in numbers.items()}
    weights["weights"] = np.array([1, 0, -1], np.float32).reshape(1, 3, 1, 1)
    document = card(input={"size": {"fixed": [seen, seen]}})
    return write_network(path, nodes, weights=weights, output=("output", FLOAT, None), card=document)


def figure(height: int, width: int, *, top: float = 0.1, soft: float = 1.5) -> NDArray[np.float64]:
    """Alpha of an ellipse that stands in the middle, from 0 to 1, whose edge is ``soft`` pixels wide."""
    y, x = np.mgrid[:height, :width]
    a, b = height * (0.5 - top), width * 0.3
    distance = (1 - np.hypot((y - height / 2 + 0.5) / a, (x - width / 2 + 0.5) / b)) * min(a, b)
    return np.clip(distance / soft + 0.5, 0, 1)


def photo(alpha: NDArray[np.float64], seed: int | None = None) -> NDArray[np.uint8]:
    """A photograph of a foreground with this alpha; with a seed, colours vary from pixel to pixel."""
    colours = []
    for number, colour in enumerate((FOREGROUND, BACKGROUND)):
        plane = np.broadcast_to(np.array(colour, np.float64), (*alpha.shape, 3))
        if seed is not None:
            # Red and blue by the same, so that their difference stays.
            plane = plane + np.random.default_rng(seed + number).integers(-20, 21, (*alpha.shape, 1))
        colours.append(plane)
    mixed = alpha[..., None] * colours[0] + (1 - alpha[..., None]) * colours[1]
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def write_photo(path: Path, alpha: NDArray[np.float64], seed: int | None = None) -> Path:
    """Write such a photograph as PNG, which keeps it exactly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(alpha, seed)).save(path, "PNG")
    return path

"""Colours as linear light, and the palettes that rooms and figures share.

A palette is a text of web colours such as ``"c8b79a 5b6b4a"``; pairs of them are separated by commas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fgbgpack.rendering.rng import Rng

Colour = tuple[float, float, float]

CLOTHS = "7b2d26 2f4858 5b6b4a 8c7a5b 39424e a65a3a c9b48f 4b3b57 1f5c5c b98b2f"
PICTURES = (
    "b9d3e8 3f5b35, e9dcc0 9b2d1f, f1d9a0 28506b, 2b2530 c98f6a, "
    "d8d2c2 1f2d3a, e8b84a 5a1f3a, a9c6b8 24483e"
)  # fmt: skip
DAYLIGHT: Colour = (0.86, 0.95, 1.12)


def rgb(code: str) -> Colour:
    """Linear light of a web colour."""
    values = (int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4))
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return red, green, blue


def encode(linear: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Linear light 0..1 to sRGB 0..1 (IEC 61966-2-1)."""
    curved = 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curved)


def choose(rng: Rng, palette: str) -> Colour:
    """One colour of a palette."""
    codes = palette.split()
    return rgb(rng.choice(codes) if len(codes) > 1 else codes[0])


def choose_pair(rng: Rng, palette: str) -> tuple[Colour, Colour]:
    """One pair of a palette of pairs."""
    first, second = rng.choice(palette.split(", ")).split()
    return rgb(first), rgb(second)


def vary(rng: Rng, colour: Colour, amount: float = 0.12) -> Colour:
    """The colour with a little more or less light, and a little more or less of each part."""
    level = rng.uniform(1.0 - amount, 1.0 + amount)
    red, green, blue = (
        min(0.95, c * level * rng.uniform(1.0 - 0.4 * amount, 1.0 + 0.4 * amount)) for c in colour
    )
    return red, green, blue


def choose_varied(rng: Rng, palette: str, amount: float = 0.12) -> Colour:
    """One colour of a palette, varied."""
    return vary(rng, choose(rng, palette), amount)


def tint(colour: Colour, red: float, green: float, blue: float) -> Colour:
    """The colour with each part times a factor."""
    return colour[0] * red, colour[1] * green, colour[2] * blue


def lamp_colour(rng: Rng) -> Colour:
    """The colour of a room's lamps: warm, neutral or cold."""
    return rng.choice(((1.0, 0.93, 0.82), (1.0, 0.97, 0.92), (1.0, 0.88, 0.72), (0.93, 0.98, 1.05)))

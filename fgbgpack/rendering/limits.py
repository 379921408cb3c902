"""The numbers that sample pictures can be asked for with."""

from __future__ import annotations

import numpy as np

from fgbgpack.errors import SpecError
from fgbgpack.rendering.rng import WORDS

MAX_PICTURES = 10_000


def check(**values: int) -> None:
    """Raise SpecError for numbers that are out of range, all of them together."""
    pixels, pictures, words = (2, 4096), (1, MAX_PICTURES), (0, WORDS - 1)
    limits = {"seed": words, "index": words, "height": pixels, "width": pixels}
    limits |= {"backgrounds": pictures, "foregrounds": pictures}
    problems = []
    for name, value in values.items():
        low, high = limits[name]
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
            problems.append(f"{name}: found {value!r}, expected a whole number from {low} to {high}")
    if problems:
        raise SpecError("These sample pictures cannot be made.", problems)

"""Where pictures of known pixels are in a larger picture."""

from __future__ import annotations

import numpy as np
from PIL import Image


def enlarged(pixels: np.ndarray, factor: int) -> np.ndarray:
    """RGB pixels, every one a square of ``factor`` x ``factor``."""
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def find_all(picture: Image.Image, cell: np.ndarray) -> list[tuple[int, int]]:
    """``(top, left)`` of every place where ``cell`` is in the picture, exact to the last bit."""
    pixels = np.asarray(picture)
    height, width = cell.shape[:2]
    first = np.ascontiguousarray(cell[0]).tobytes()
    places = []
    for top in range(len(pixels) - height + 1):
        row = pixels[top].tobytes()
        at = row.find(first)
        while at >= 0:
            left, rest = divmod(at, 3)
            if rest == 0 and np.array_equal(pixels[top : top + height, left : left + width], cell):
                places.append((top, left))
            at = row.find(first, at + 1)
    return places


def find(picture: Image.Image, cell: np.ndarray) -> tuple[int, int] | None:
    """The first of these places; ``None`` if there is none."""
    places = find_all(picture, cell)
    return places[0] if places else None

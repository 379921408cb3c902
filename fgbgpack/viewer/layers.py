"""What is drawn of samples: planes, and what is laid over them, as numbers and their colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.visual.colours import colour_map, depth_limits

#: The layers of a sample.
LAYERS = ("image", "mask", "outline", "area", "instances", "depth", "background")
#: What a layer is read from; instances where there are some, else the mask.
SOURCE_OF = {
    "image": "image",
    "mask": "mask",
    "outline": "mask",
    "area": "mask",
    "instances": "instance",
    "depth": "depth",
    "background": "background_image",
}

_OPAQUE_HALF = 127
#: Lossy, and good enough to look at: with colours as fine as brightness.
_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 90, "subsampling": 0}
_PNG: dict[str, Any] = {"format": "PNG", "compress_level": 1}
#: The colour of outlines and areas, and that around outlines.
_MARK = (198, 255, 77)
_HALO = (0, 0, 0)
#: The colours of objects, far to near.
_OBJECTS = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 200, 140),
    (230, 130, 190),
    (240, 228, 66),
    (120, 130, 255),
    (255, 110, 80),
)
_SEEN_THROUGH = 150
#: The ends and the middle of the colours of differences.
_LESS, _SAME, _MORE = (42, 112, 219), (238, 238, 238), (224, 84, 20)


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels (h, w, 3) or (h, w) uint8; the latter with the colours (256, 4) of numbers, or gray."""

    pixels: NDArray[np.uint8]
    colours: NDArray[np.uint8] | None = None

    def encoded(self, *, exact: bool) -> tuple[bytes, str]:
        """The picture as a file, and its media type; ``exact`` to the last bit, or else colours as JPEG."""
        image = Image.fromarray(self.pixels)
        out = io.BytesIO()
        if self.colours is not None:
            image.putpalette(np.ascontiguousarray(self.colours[:, :3]).tobytes())
            alpha = self.colours[:, 3]
            more: dict[str, Any] = {} if (alpha == 255).all() else {"transparency": alpha.tobytes()}
            image.save(out, **_PNG, **more)
        else:
            image.save(out, **(_PNG if exact or self.pixels.ndim == 2 else _JPEG))
        data = out.getvalue()
        return data, "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"


@dataclass(frozen=True)
class DepthScale:
    """The values that get the first and the last colour of depth, and whether larger ones are nearer."""

    low: float
    high: float
    larger_is_nearer: bool


def tile_size(height: int, width: int, cell: int | None) -> tuple[int, int]:
    """Height and width of a sample that is drawn in a cell: smaller where it does not fit, never larger."""
    longer = max(height, width)
    if cell is None or longer <= cell:
        return height, width
    return max(1, round(height * cell / longer)), max(1, round(width * cell / longer))


def reduced(plane: NDArray[Any], size: tuple[int, int], *, smooth: bool) -> NDArray[Any]:
    """(n, h, w, ...) pictures in a smaller size: averaged, or every few pixels if numbers are no amounts."""
    height, width = plane.shape[1:3]
    if (height, width) == size:
        return plane
    if not smooth:
        rows, columns = (
            (np.arange(n) * of + of // 2) // n for n, of in zip(size, (height, width), strict=True)
        )
        return plane[:, rows[:, None], columns]
    pictures = (Image.fromarray(one) for one in plane)
    return np.stack([np.asarray(one.resize(size[::-1], Image.Resampling.BOX)) for one in pictures])


def layer_of(
    name: str, plane: NDArray[Any], scale: DepthScale | None, larger_is_nearer: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """A layer of n samples, (n, h, w) or (n, h, w, 3) uint8, of the plane it is made of, and its colours.

    Depth has one ``scale`` for all, or where that is ``None`` each sample its own.
    """
    if name == "outline":
        return outlines(plane > _OPAQUE_HALF), _outline_colours()
    if name == "area":
        return plane, _area_colours()
    if name == "instances":
        return plane, _object_colours()
    if name == "depth":
        return depth_numbers(plane, scale, larger_is_nearer=larger_is_nearer), depth_palette()
    return plane, None


def sheet(tiles: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """(n, h, w, ...) tiles as one picture of so many columns; 0 where there are no more."""
    n, height, width, *rest = tiles.shape
    rows = -(-n // columns)
    whole = np.zeros((rows * columns, height, width, *rest), np.uint8)
    whole[:n] = tiles
    grid = whole.reshape(rows, columns, height, width, *rest).swapaxes(1, 2)
    return np.ascontiguousarray(grid).reshape(rows * height, columns * width, *rest)


# --- numbers and their colours -----------------------------------------------------------------------


def outlines(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(n, h, w): 1 for pixels of an area with a neighbour outside of it, 2 for such neighbours, else 0."""
    padded = np.pad(inside, ((0, 0), (1, 1), (1, 1)), mode="edge")
    above, below = padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]
    left, right = padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    edge = inside & ~(above & below & left & right)
    near = ~inside & (above | below | left | right)
    return edge.astype(np.uint8) + 2 * near.astype(np.uint8)


def depth_numbers(
    depth: NDArray[np.floating[Any]], scale: DepthScale | None, *, larger_is_nearer: bool
) -> NDArray[np.uint8]:
    """(n, h, w) maps as numbers of ``depth_palette``: 0 where nothing is, else 1, far, to 255, near."""
    numbers = np.zeros(depth.shape, np.uint8)
    for one, out in zip(depth, numbers, strict=True):
        filled = np.isfinite(one)
        if not filled.any():
            continue
        low, high = depth_limits(one) if scale is None else (scale.low, scale.high)
        values = np.clip(one[filled].astype(np.float32), low, high)
        nearness = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
        out[filled] = 1 + np.rint(254 * (nearness if larger_is_nearer else 1 - nearness))
    return numbers


def difference_numbers(difference: NDArray[np.floating[Any]], limit: float) -> NDArray[np.uint8]:
    """Signed differences as numbers of ``difference_palette``: 128 for none, 0 where one of the two has no
    value.
    """
    numbers = np.zeros(difference.shape, np.uint8)
    known = np.isfinite(difference)
    share = np.clip(difference[known] / limit, -1, 1) if limit > 0 else np.zeros(int(known.sum()))
    numbers[known] = 128 + np.rint(127 * share).astype(np.int64)
    return numbers


def _palette(colours: Sequence[tuple[int, ...]] | NDArray[np.uint8], alpha: int = 255) -> NDArray[np.uint8]:
    """(256, 4): the first is as given, and further ones black."""
    found = np.zeros((256, 4), np.uint8)
    found[:, 3] = alpha
    given = np.asarray(colours, np.uint8)
    found[: len(given), :3] = given
    return found


@cache
def depth_palette() -> NDArray[np.uint8]:
    """(256, 4): black for what is not filled, then the colours of depth from far to near."""
    return _palette(np.concatenate([np.zeros((1, 3), np.uint8), colour_map()[1:]]))


@cache
def difference_palette() -> NDArray[np.uint8]:
    """(256, 4): black for what is unknown, then from less over no difference to more."""
    steps = np.linspace(-1, 1, 255)[:, None]
    less, same, more = (np.array(colour, np.float64) for colour in (_LESS, _SAME, _MORE))
    ends = np.where(steps < 0, less, more)
    mixed = same + (ends - same) * np.abs(steps)
    return _palette(np.concatenate([np.zeros((1, 3)), np.rint(mixed)]).astype(np.uint8))


@cache
def _outline_colours() -> NDArray[np.uint8]:
    found = _palette([_HALO, _MARK, _HALO], 0)
    found[1, 3], found[2, 3] = 255, 130
    return found


@cache
def _area_colours() -> NDArray[np.uint8]:
    found = _palette([_MARK] * 256)
    found[:, 3] = np.arange(256) * _SEEN_THROUGH // 255
    return found


@cache
def _object_colours() -> NDArray[np.uint8]:
    found = _palette([(0, 0, 0), *(_OBJECTS[k % len(_OBJECTS)] for k in range(255))], _SEEN_THROUGH + 40)
    found[0, 3] = 0
    return found

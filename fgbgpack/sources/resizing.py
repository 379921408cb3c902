"""Resizes pictures: to the size of samples, and in premultiplied alpha."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Fit: TypeAlias = Literal["crop", "stretch"]
#: Left, top, right and bottom in pixels.
Box: TypeAlias = tuple[int, int, int, int]

_BAND = 1 << 20  # pixels that are resized together


@dataclass(frozen=True)
class Frame:
    """The size of all samples in pixels, and how pictures of another size get it.

    ``"crop"`` cuts the largest centred part of this aspect out of a picture first, ``"stretch"`` only
    resizes; ``None`` where every file must have this size.
    """

    height: int
    width: int
    fit: Fit | None

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)``."""
        return self.width, self.height

    def resize(
        self, picture: Image.Image, resampling: Image.Resampling = Image.Resampling.LANCZOS
    ) -> Image.Image:
        """The picture at this size, cut and resized in one step."""
        if picture.size == self.size:
            return picture
        box = crop_box(picture.size, self.height, self.width) if self.fit == "crop" else None
        return picture.resize(self.size, resampling, box=box)


def crop_box(size: tuple[int, int], height: int, width: int) -> tuple[float, float, float, float]:
    """The largest centred box of aspect ``width / height`` in a picture of ``size`` ``(width, height)``:
    left, top, right and bottom in pixels, perhaps between them.
    """
    full_width, full_height = size
    box_width, box_height = float(full_width), float(full_height)
    if full_width * height > full_height * width:
        box_width = full_height * width / height
    else:
        box_height = full_width * height / width
    left = (full_width - box_width) / 2
    top = (full_height - box_height) / 2
    return left, top, left + box_width, top + box_height


def resize_premultiplied(
    rgb: Image.Image, alpha: Image.Image, height: int, width: int, *, is_premultiplied: bool = False
) -> NDArray[np.uint8]:
    """Resizes alpha (mode L) and colour times alpha with a Lanczos filter; their ratio is the colour:
    ``(height, width, 4)`` uint8, RGBA not premultiplied, 0 in all channels where alpha is 0. ``rgb`` may be
    premultiplied already.
    """

    def opacity(box: Box) -> NDArray[np.float32]:
        return np.asarray(alpha.crop(box), np.float32)

    resized_opacity = _resize(opacity, alpha.size, height, width)
    patch = np.zeros((height, width, 4), np.uint8)
    patch[..., 3] = _to_uint8(resized_opacity)
    visible = patch[..., 3] > 0
    for channel in range(3):

        def premultiplied(box: Box, channel: int = channel) -> NDArray[np.float32]:
            colour = np.asarray(rgb.crop(box).getchannel(channel), np.float32)
            return colour * (np.float32(255) if is_premultiplied else opacity(box))

        # The divisor is alpha before clipping: where both overshoot at an edge, the colour stays.
        colour = _resize(premultiplied, rgb.size, height, width)[visible] / resized_opacity[visible]
        patch[..., channel][visible] = _to_uint8(colour)
    return patch


def _resize(
    plane: Callable[[Box], NDArray[np.float32]], size: tuple[int, int], height: int, width: int
) -> NDArray[np.float32]:
    """Resizes a plane, as Pillow does: first its width, a few rows at a time, then its height. So a large
    picture has no copy of all its pixels as numbers of four bytes.
    """
    full_width, full_height = size
    narrow = np.empty((full_height, width), np.float32)
    rows = max(1, _BAND // full_width)
    for top in range(0, full_height, rows):
        bottom = min(top + rows, full_height)
        band = Image.fromarray(plane((0, top, full_width, bottom)))
        narrow[top:bottom] = np.asarray(band.resize((width, bottom - top), Image.Resampling.LANCZOS))
    return np.asarray(Image.fromarray(narrow).resize((width, height), Image.Resampling.LANCZOS))


def _to_uint8(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Clip to 0..255 and round half up."""
    rounded: NDArray[np.float32] = np.floor(np.clip(values, 0, 255) + np.float32(0.5))
    return rounded.astype(np.uint8)

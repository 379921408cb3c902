"""Where the foregrounds of samples are: boxes, areas and visible shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import Objects
from fgbgpack.composition.placement import Placements
from fgbgpack.composition.sprites import Sprites
from fgbgpack.document import MASK

if TYPE_CHECKING:
    from fgbgpack.dataset.dataset import Dataset

#: A pixel belongs to a foreground where its alpha is above this.
_OPAQUE_HALF = 127
_MASKS_AT_ONCE = 256
_NUMBERS = 256  # of a byte


@dataclass(frozen=True)
class Outlines:
    """What the masks of F foregrounds are like where they are pasted as a whole.

    ``box`` is (2, F, 4) int64, upright and mirrored: top, left, bottom and right of the alpha above 0;
    ``area`` (F,) int64, the pixels with alpha above 127; ``visible`` (F,) float32, 1, or 0 where alpha is 0
    everywhere.
    """

    box: NDArray[np.int64]
    area: NDArray[np.int64]
    visible: NDArray[np.float32]

    @classmethod
    def of(cls, foreground: NDArray[np.uint8], size: NDArray[np.int32]) -> Outlines:
        """Those of (F, ph, pw, 4) uint8 foregrounds, whose patches have the (F, 2) sizes."""
        alpha = foreground[..., 3]
        upright = mask_boxes(alpha).astype(np.int64)
        top, left, bottom, right = upright.T
        mirrored = np.stack([top, size[:, 1] - right, bottom, size[:, 1] - left], axis=1)
        is_seen = bottom > 0
        box = np.stack([upright, np.where(is_seen[:, None], mirrored, 0)])
        opaque = (alpha > _OPAQUE_HALF).sum(axis=(1, 2))
        return cls(box, opaque, is_seen.astype(np.float32))

    def boxes(self, placements: Placements) -> NDArray[np.int32]:
        """(n, 4) int32: top, left, bottom and right of each placed foreground; 0 where it is empty."""
        box = self.box[placements.flip.astype(np.intp), placements.foreground]
        corner = np.stack([placements.y, placements.x] * 2, axis=1)
        return np.where((box[:, 2] > 0)[:, None], box + corner, 0).astype(np.int32)


def enclosing(box: NDArray[np.int16], is_seen: NDArray[np.bool_]) -> NDArray[np.int32]:
    """(n, 4) int32: what encloses those boxes of (n, K, 4) that are seen, (n, K); 0 where none is."""
    found = np.zeros((len(box), 4), np.int32)
    for edge in range(4):
        # Where none is seen, the least of nothing is as good as the greatest.
        low = edge < 2
        far = np.where(is_seen, box[..., edge], np.int16(np.iinfo(np.int16).max if low else 0))
        found[:, edge] = far.min(axis=1) if low else far.max(axis=1)
    found[~is_seen.any(axis=1)] = 0
    return found


def visible_area(sprites: Sprites, objects: Objects) -> NDArray[np.int64]:
    """(n, K) int64: how many pixels of each object are seen, of alpha above 127; 0 where there is none."""
    number = sprites.index(objects.foreground, objects.height, objects.blend)
    whole = sprites.areas(number, objects.flip, objects.rotation)
    # The share is a quotient of two such numbers, below 2^24, in single precision.
    share = np.maximum(objects.visible, 0).astype(np.float64)
    return np.rint(whole * share).astype(np.int64)


def mask_boxes(mask: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.int32]:
    """(n, 4) int32: top, left, bottom and right of the pixels of each of (n, h, w) masks that are not 0; 0
    where there are none. Bottom and right are the first row and column behind them.
    """
    box = np.zeros((len(mask), 4), np.int32)
    for start, axis in ((0, 2), (1, 1)):  # rows that have any, then columns
        lines = np.any(mask, axis=axis)
        box[:, start] = lines.argmax(axis=1)
        end = lines.shape[1] - lines[:, ::-1].argmax(axis=1)
        box[:, start + 2] = np.where(lines.any(axis=1), end, 0)
    return box


def instance_boxes(instance: NDArray[np.uint8], most: int) -> NDArray[np.int32]:
    """(most, 4) int32: the boxes, as of :func:`mask_boxes`, of the pixels that are 1 to ``most`` in a map
    (h, w), in the time that one mask takes.

    Example:
        >>> instance_boxes(np.array([[0, 2], [0, 2], [0, 0]], np.uint8), 2).tolist()
        [[0, 0, 0, 0], [0, 1, 2, 2]]
    """
    box = np.zeros((most, 4), np.int32)
    for start, map_ in enumerate((instance, instance.T)):  # rows, then columns
        lines = np.zeros((len(map_), _NUMBERS), np.bool_)
        lines[np.arange(len(map_))[:, None], map_] = True
        lines = lines[:, 1 : most + 1]
        box[:, start] = lines.argmax(axis=0)
        box[:, start + 2] = np.where(lines.any(axis=0), len(map_) - lines[::-1].argmax(axis=0), 0)
    return box


def measure_masks(dataset: Dataset) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Boxes (n, 4) and areas (n,) of all samples, measured on their masks."""
    box, area = np.zeros((len(dataset), 4), np.int32), np.zeros(len(dataset), np.int64)
    first = 0
    for batch in dataset.batches(_MASKS_AT_ONCE, fields=MASK, reuse=True):
        mask = batch.mask
        some = slice(first, first + len(mask))
        area[some] = (mask > _OPAQUE_HALF).sum(axis=(1, 2))
        box[some] = mask_boxes(mask)
        first += len(mask)
    return box, area

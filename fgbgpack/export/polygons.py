"""Masks as polygons along the edges of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgbgpack.export.kernels import cut_into_pieces, trace_pieces


def polygons_of(inside: NDArray[np.bool_]) -> list[list[int]]:
    """The polygons of an (h, w) boolean mask: x and y of one corner after the other, as COCO has them.

    Together they cover exactly the pixels that are set, each once: the corners are those of pixels, so the
    picture reaches from 0 to w and from 0 to h. A connected part of the mask is one polygon, unless it has
    holes or touches itself at a corner: then it is cut, since polygons have no holes. None touches itself.

    Example:
        >>> polygons_of(np.array([[0, 1, 1], [0, 1, 0]], bool))
        [[1, 0, 3, 0, 3, 1, 2, 1, 2, 2, 1, 2]]
    """
    inside = np.ascontiguousarray(inside)
    runs = int(np.count_nonzero(inside[:, 0])) + int(np.count_nonzero(inside[:, 1:] > inside[:, :-1]))
    if not runs:
        return []
    pieces, starts = np.empty(inside.shape, np.int32), np.empty((runs, 2), np.int32)
    count = cut_into_pieces(inside, runs, pieces, starts)
    points, lengths = np.empty((4 * runs, 2), np.int32), np.empty(count, np.int32)
    trace_pieces(pieces, starts[:count], points, lengths)
    ends = np.cumsum(lengths).tolist()
    return [
        points[end - length : end].ravel().tolist()
        for end, length in zip(ends, lengths.tolist(), strict=True)
    ]

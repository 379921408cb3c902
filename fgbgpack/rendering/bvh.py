"""A bounding volume hierarchy: with it a ray meets few of a room's solids."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fgbgpack.rendering.kernels.solids import ROUND

Array = npt.NDArray[Any]


def bounds(solids: Array) -> tuple[Array, Array]:
    """Lowest and highest corners, (n, 3) each, of the boxes around n solids."""
    x, y, z, c, s = np.abs(solids[:, 4:9]).T
    wide = np.where(solids[:, 0] == ROUND, np.maximum(x, z), 0.0)
    x, z = np.maximum(x, wide), np.maximum(z, wide)
    reach = np.stack([c * x + s * z, y, s * x + c * z], axis=1)
    return solids[:, 1:4] - reach, solids[:, 1:4] + reach


def build_bvh(low: Array, high: Array) -> Array:
    """The hierarchy over boxes, in rows as ``kernels.solids`` reads them.

    Each box is cut where the surfaces of both halves, times the solids in them, add up to the least: rays
    then pass few boxes, though rooms mix walls as long as the room with things as small as a cup.
    """
    nodes: list[list[float]] = []

    def surfaces(order: npt.NDArray[np.intp]) -> Array:
        """Surface of the box around the first 1, 2, 3... members."""
        size = np.maximum.accumulate(high[order], axis=0) - np.minimum.accumulate(low[order], axis=0)
        return np.asarray(size[:, 0] * size[:, 1] + size[:, 1] * size[:, 2] + size[:, 2] * size[:, 0])

    def add(members: npt.NDArray[np.intp]) -> None:
        bounds = [*(low[members].min(axis=0) - 1e-6), *(high[members].max(axis=0) + 1e-6)]
        row = [*bounds, 0.0, float(members[0]) if len(members) == 1 else -1.0]
        nodes.append(row)
        if len(members) > 1:
            counts = np.arange(1, len(members))
            best = (math.inf, members, 0)
            for axis in range(3):
                middles = low[members, axis] + high[members, axis]
                order = members[np.argsort(middles, kind="stable")]
                costs = surfaces(order)[:-1] * counts + (surfaces(order[::-1])[:-1] * counts)[::-1]
                cut = int(np.argmin(costs))
                best = min(best, (float(costs[cut]), order, cut + 1), key=lambda choice: choice[0])
            add(best[1][: best[2]])
            add(best[1][best[2] :])
        row[6] = float(len(nodes))

    add(np.arange(len(low)))
    return np.array(nodes)

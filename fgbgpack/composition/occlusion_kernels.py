"""The kernels of what stands behind things of its background: whole numbers only."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from fgbgpack.composition.turning_kernels import turned_feet
from fgbgpack.jit import Int8, Int16, Int32, Int64, UInt8, kernel

Int: TypeAlias = Any

#: The row of the feet of what nothing hides: below all rows.
UNHIDDEN = 1 << 15


@kernel
def find_feet_rows(
    size: Int32,
    feet: Int32,
    stands: UInt8,
    sprite: Int32,
    foreground: Int32,
    flip: Int8,
    y: Int16,
    rotation: Int16,
    rows: Int32,
) -> None:
    """Fill ``rows`` with the row of the feet of m objects, or ``UNHIDDEN`` of those that do not stand.

    Sprites have ``size`` (S, 2) and ``feet`` (S, 3); ``sprite`` is -1 where there is none. ``stands`` (F,)
    says of which foregrounds objects stand. Rows are at least 0.
    """
    for i in range(len(sprite)):
        rows[i] = UNHIDDEN
        s = sprite[i]
        if s >= 0 and stands[foreground[i]] and feet[s, 0] >= 0:
            lowest = np.int64(feet[s, 0])
            down, _ = turned_feet(
                np.int64(size[s, 0]),
                np.int64(size[s, 1]),
                lowest,
                np.int64(feet[s, 1]),
                np.int64(feet[s, 2]),
                flip[i] == 1,
                np.int64(rotation[i]),
            )
            rows[i] = max(np.int64(0), y[i] + lowest + (down >> 1))


@kernel
def hide_alphas(
    front: Int16,
    which_background: Int32,
    feet_row: Int32,
    y: Int32,
    x: Int32,
    size: Int32,
    offset: Int64,
    alpha: UInt8,
) -> None:
    """Make ``alpha`` of n times K objects 0 where the background hides them.

    ``front`` is (B, h, w), ``which_background`` (n,), ``feet_row``, ``y`` and ``x`` (n, K); each alpha is of
    ``size`` (n * K, 2) at ``offset`` (n * K,), row by row. What is outside the picture stays.
    """
    height = front.shape[1]
    width = front.shape[2]
    most = feet_row.shape[1]
    for i in range(len(which_background)):
        ahead = front[which_background[i]]
        for k in range(most):
            if feet_row[i, k] == UNHIDDEN:
                continue
            number = i * most + k
            w = np.int64(size[number, 1])
            for row in range(max(0, -y[i, k]), min(np.int64(size[number, 0]), height - y[i, k])):
                start = offset[number] + row * w
                for column in range(max(0, -x[i, k]), min(w, width - x[i, k])):
                    if ahead[y[i, k] + row, x[i, k] + column] >= feet_row[i, k]:
                        alpha[start + column] = 0

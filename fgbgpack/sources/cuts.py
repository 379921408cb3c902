"""At which sides foregrounds are cut off: those of portraits end in a straight edge, mostly at the bottom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: The sides, as bits of a number.
TOP, LEFT, BOTTOM, RIGHT = 1, 2, 4, 8
SIDES = {"top": TOP, "left": LEFT, "bottom": BOTTOM, "right": RIGHT}
_NONE = "none"

#: A side counts as cut where the mean alpha of its outermost pixels is above so many tenths of 255: of 47
#: cut-out portraits all had more at the bottom, of 12 whole figures 11 had less than .29.
_CUT_TENTHS = 4


def cut_sides(patch: NDArray[np.uint8]) -> int:
    """Which sides of a foreground (h, w, 4) are cut: the sum of their bits."""
    alpha = patch[..., 3].astype(np.int64)
    lines = {TOP: alpha[0], LEFT: alpha[:, 0], BOTTOM: alpha[-1], RIGHT: alpha[:, -1]}
    return sum(side for side, line in lines.items() if 10 * int(line.sum()) > _CUT_TENTHS * 255 * len(line))


def parse_sides(text: str) -> int | None:
    """The sides that a text names, such as ``bottom left`` or ``none``; ``None`` for other texts."""
    names = text.lower().replace(",", " ").replace("+", " ").split()
    if names == [_NONE]:
        return 0
    if not names or not set(names) <= set(SIDES):
        return None
    return sum(SIDES[name] for name in set(names))

"""At which sides foregrounds are cut off: those of portraits end in a straight edge, mostly at the bottom."""

from __future__ import annotations

import numpy as np
from PIL import Image

#: The sides, as bits of a number.
TOP, LEFT, BOTTOM, RIGHT = 1, 2, 4, 8
SIDES = {"top": TOP, "left": LEFT, "bottom": BOTTOM, "right": RIGHT}
_NONE = "none"

#: A side counts as cut where the mean alpha of its outermost pixels is above so many tenths of 255: of 47
#: cut-out portraits all had more at the bottom, of 12 whole figures 11 had less than .29.
_CUT_TENTHS = 4


def cut_sides(alpha: Image.Image) -> int:
    """Which sides of a foreground are cut, by its alpha (mode L): the sum of their bits.

    That is of pictures as they are, not resized: in the lowest row of a small one is more of a figure's feet.
    """
    width, height = alpha.size
    boxes = {
        TOP: (0, 0, width, 1),
        LEFT: (0, 0, 1, height),
        BOTTOM: (0, height - 1, width, height),
        RIGHT: (width - 1, 0, width, height),
    }
    lines = {side: np.asarray(alpha.crop(box), np.int64) for side, box in boxes.items()}
    return sum(side for side, line in lines.items() if 10 * int(line.sum()) > _CUT_TENTHS * 255 * line.size)


def parse_sides(text: str) -> int | None:
    """The sides that a text names, such as ``bottom left`` or ``none``; ``None`` for other texts."""
    names = text.lower().replace(",", " ").replace("+", " ").split()
    if names == [_NONE]:
        return 0
    if not names or not set(names) <= set(SIDES):
        return None
    return sum(SIDES[name] for name in set(names))

"""The runs of a binary mask, as COCO writes them."""

from __future__ import annotations

from fgbgpack.jit import Int32, UInt8, kernel

#: A character holds five bits of a number, a sixth that says whether more of it follow, and this offset.
_BITS = 5
_MORE = 32
_ZERO = 48


@kernel
def mask_runs(mask: UInt8, above: int, text: UInt8, box: Int32) -> tuple[int, int]:
    """Write the runs of a mask in COCO's compressed code, and the box around what is set in it.

    The pixels are taken column after column. The lengths of their runs alternate between pixels that are not
    set and pixels that are, and begin with the former, so the first may be 0. From the fourth on, a run is
    told by how much it is longer than the one two before it. Numbers are in two's complement, the lowest five
    bits first, in as few groups of five bits as keep their sign.

    Args:
        mask: ``(h, w)``. A pixel is set where it is greater than ``above``.
        above: The greatest value that is not set.
        text: Filled from the start with ASCII; at least ``runs_bound(h * w)`` long.
        box: ``(4,)``, filled with left, top, width and height of the box around what is set, 0 for nothing.

    Returns:
        How much of ``text`` is used, and how many pixels are set.
    """
    height, width = mask.shape
    used = runs = length = area = 0
    before = last = 0  # The two runs before this one.
    inside = False
    left, right, top, bottom = width, -1, height, -1
    for x in range(width):
        for y in range(height):
            if (mask[y, x] > above) != inside:
                used = _put(length - before if runs > 2 else length, text, used)
                runs += 1
                before, last = last, length
                length = 0
                inside = not inside
            length += 1
            if inside:
                area += 1
                left, right = min(left, x), x
                top, bottom = min(top, y), max(bottom, y)
    used = _put(length - before if runs > 2 else length, text, used)
    if area == 0:
        left, top = 0, 0
    box[0], box[1], box[2], box[3] = left, top, right + 1 - left, bottom + 1 - top
    return used, area


@kernel
def _put(number: int, text: UInt8, at: int) -> int:
    """Write one number at a place of ``text``; the place after it."""
    while True:
        group = number & (_MORE - 1)
        number >>= _BITS
        # The highest bit of the last group is the sign.
        done = number == (-1 if group & (_MORE >> 1) else 0)
        text[at] = (group if done else group | _MORE) + _ZERO
        at += 1
        if done:
            return at


def runs_bound(pixels: int) -> int:
    """The most characters that :func:`mask_runs` writes for a mask of so many pixels.

    There are at most ``pixels + 1`` runs, as the first may be empty. A number takes one character and at most
    one more for each 16 of its size; and the sizes add up to at most twice the pixels, as each run counts as
    itself and as what another is compared with.
    """
    return pixels + 1 + pixels // 8

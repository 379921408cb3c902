"""The colour of the foreground alone, where a pixel also shows what was behind it.

A pixel of a photograph is ``alpha * foreground + (1 - alpha) * background``. Cut out as it is, its edge keeps
the old background: a bright or dark line on any new one. Both colours are estimated by blur fusion, twice,
with a wide window and then a narrow one: M. Forte, Approximate Fast Foreground Colour Estimation, ICIP 2021.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgbgpack.cutout.kernels import Plane, box_mean

#: The windows of the two passes reach so many pixels to each side, 90 and 6 pixels wide in the paper, in
#: photographs of up to this length; in longer ones, whose soft edges are wider, in proportion.
_WIDE, _NARROW, _LENGTH = 45, 3, 1024
#: As in the paper: where there is no foreground, or no background, within the window.
_TINY = 1e-5


def reach_of(length: int) -> int:
    """How many pixels around a cut-out its colours depend on, in a photograph of that longer side."""
    return sum(_halves(length))


def foreground_colour(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """The colours of the foreground, ``(h, w, 3)`` uint8, of a photograph whose longer side is ``length``, or
    a part of it: its colours ``(h, w, 3)`` and its alpha ``(h, w)``, both uint8.

    Where alpha is 255 they are those of the photograph. Where it is 0 they are those of the foreground
    nearby, so that a reader who interpolates colours without regard to alpha sees no dark line, and 0 further
    away.
    """
    share = alpha.astype(np.float32) / np.float32(255)
    between = np.empty_like(share)
    most, least = _halves(length)
    wide, narrow = _mean(share, most, between), _mean(share, least, between)
    colours = np.zeros_like(rgb)
    for channel in range(3):
        seen = rgb[..., channel].astype(np.float32)
        foreground, background = _fused(seen, seen, seen, share, wide, most, between)
        foreground, _ = _fused(seen, foreground, background, share, narrow, least, between)
        colours[..., channel] = np.rint(foreground)
    colours[alpha == 255] = rgb[alpha == 255]
    colours[narrow == 0] = 0
    return colours


def _fused(
    seen: Plane,
    foreground: Plane,
    background: Plane,
    share: Plane,
    mean_share: Plane,
    half: int,
    between: Plane,
) -> tuple[Plane, Plane]:
    """One pass: the means of both colours, weighted by their shares, and what they leave unexplained added to
    the foreground.
    """
    tiny = np.float32(_TINY)
    mean = _mean(foreground * share, half, between) / (mean_share + tiny)
    behind = _mean(background * (1 - share), half, between) / (1 - mean_share + tiny)
    unexplained = seen - share * mean - (1 - share) * behind
    return np.clip(mean + share * unexplained, 0, 255), behind


def _mean(plane: Plane, half: int, between: Plane) -> Plane:
    out = np.empty_like(plane)
    box_mean(np.ascontiguousarray(plane), half, between, out)
    return out


def _halves(length: int) -> tuple[int, int]:
    """How far the windows of both passes reach."""
    scale = max(1.0, length / _LENGTH)
    return round(_WIDE * scale), round(_NARROW * scale)

"""The colours of depth."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@cache
def colour_map() -> NDArray[np.uint8]:
    """The colours of depth, (256, 3) uint8 sRGB, from far to near: indigo, purple, red, orange, pale yellow.

    The map is a curve through Oklab, a colour space in which distance is perceived difference (B. Ottosson,
    "A perceptual color space for image processing", 2020, also the source of the matrices to linear RGB).
    Lightness rises evenly from 0.21 to 0.95 while the hue turns from 278 to 465 degrees; chroma is a parabola
    that stays inside sRGB. The entries lie at equal distances along the curve, so equal steps of depth look
    equally large, and brightness alone gives the order. The array is read-only.
    """
    t = np.linspace(0, 1, 4097)
    lightness = 0.21 + 0.74 * t
    hue = np.radians(278 + 187 * t)
    chroma = 0.095 * (1 - t) ** 2 + 0.44 * t * (1 - t) + 0.12 * t**2
    curve = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    even = np.linspace(0, length[-1], 256)
    oklab = np.stack([np.interp(even, length, curve[:, axis]) for axis in range(3)], axis=1)
    to_cones = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((oklab @ to_cones.T) ** 3 @ to_linear.T, 0, 1)
    # The transfer function of sRGB, IEC 61966-2-1.
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: NDArray[np.uint8] = np.rint(encoded * 255).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def depth_limits(depth: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """The values of a map that get the first and the last colour: its least and its greatest, without
    outliers, so that a near person leaves colours for the room.

    Outliers are farther from the middle half of the values than 1.5 times its extent (J. W. Tukey,
    "Exploratory Data Analysis", 1977). At least one value must be finite.
    """
    values = depth[np.isfinite(depth)].astype(np.float64)
    first, third = np.quantile(values, (0.25, 0.75))
    reach = 1.5 * (third - first) or np.inf
    inner = values[(values >= first - reach) & (values <= third + reach)]
    return float(inner.min()), float(inner.max())


def depth_colours(depth: NDArray[np.floating[Any]], *, larger_is_nearer: bool) -> NDArray[np.uint8]:
    """Colour an (h, w) map over its own range, (h, w, 3) uint8; the nearest value gets the last colour.

    Outliers (:func:`depth_limits`) have the colour of the last value that is none. All of a constant map has
    the middle colour; pixels that are not finite are black.
    """
    filled = np.isfinite(depth)
    colours = np.zeros((*depth.shape, 3), np.uint8)
    if filled.any():
        low, high = depth_limits(depth)
        values = np.clip(depth[filled].astype(np.float64), low, high)
        nearness = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
        if not larger_is_nearer:
            nearness = 1 - nearness
        colours[filled] = colour_map()[np.rint(nearness * 255).astype(np.intp)]
    return colours

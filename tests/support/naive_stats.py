"""Statistics from whole arrays in memory, in float64 and by loops: what the counted ones must be."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np


def naive_sums(image, part, parts):
    """The sum of each channel, and of its squares, in each part, one sample after the other."""
    total, squares = np.zeros((parts, 3), np.int64), np.zeros((parts, 3), np.int64)
    for picture, number in zip(image.astype(np.int64), part, strict=True):
        total[number] += picture.sum(axis=(0, 1))
        squares[number] += (picture**2).sum(axis=(0, 1))
    return total, squares


def naive_counts(depth, part, parts):
    """How often there is each float16, by its bits, in each part."""
    counts = np.zeros((parts, 1 << 16), np.int64)
    for picture, number in zip(depth.view(np.uint16), part, strict=True):
        for bits, many in Counter(picture.ravel().tolist()).items():
            counts[number, bits] += many
    return counts


def assert_are_of(found, image, mask, depth=None):
    """Statistics of a part are those of all of its pixels."""
    assert found.samples == len(image)
    white = image.astype(np.float64) / 255
    np.testing.assert_allclose(found.image.mean, white.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.image.std, white.std(axis=(0, 1, 2)), rtol=1e-11)
    values = image.reshape(-1, 3).astype(np.int64)
    assert found.image.total == tuple(values.sum(axis=0).tolist())
    assert found.image.squares == tuple((values**2).sum(axis=0).tolist())
    assert found.image.mean == tuple(float(Fraction(one, 255 * len(values))) for one in found.image.total)
    opaque = (mask > 127).reshape(len(mask), -1).sum(axis=1)
    assert found.mask.pixels == opaque.sum()
    assert found.mask.share == opaque.sum() / mask.size
    assert found.mask.empty == (opaque == 0).sum()
    np.testing.assert_allclose(found.mask.alpha, (mask.astype(np.float64) / 255).mean(), rtol=1e-12)
    bins = np.minimum(opaque * 50 // mask[0].size, 49)
    assert list(found.mask.histogram.counts) == np.bincount(bins, minlength=50).tolist()
    if depth is None or not np.isfinite(depth).any():
        assert found.depth is None
        return
    known = depth[np.isfinite(depth)].astype(np.float64)
    assert (found.depth.known, found.depth.unknown) == (len(known), depth.size - len(known))
    assert (found.depth.least, found.depth.greatest) == (known.min(), known.max())
    np.testing.assert_allclose(found.depth.mean, known.mean(), rtol=1e-11)
    np.testing.assert_allclose(found.depth.std, known.std(), rtol=1e-11)
    for share, value in found.depth.quantiles.items():
        assert value == np.quantile(known, float(share), method="inverted_cdf"), share
    assert sum(found.depth.histogram.counts) == len(known)

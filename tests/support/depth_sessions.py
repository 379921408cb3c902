"""Depth sessions on small pictures."""

from __future__ import annotations

import numpy as np

from fgbgpack.depth import DepthSession, Execution, load_model

RNG = np.random.default_rng(11)


def open_session(path, **options):
    size = options.pop("height", 6), options.pop("width", 8)
    execution = Execution(options.pop("precision", "fp32"), options.pop("device", "cpu"))
    return DepthSession(load_model(path), size, execution=execution, **options)


def depth_of(session, images):
    height, width = session._sample
    out = np.full((len(images), height, width), np.nan, np.float16)
    minimum, maximum = session.run(images, out)
    np.testing.assert_array_equal(minimum, out.min(axis=(1, 2)))
    np.testing.assert_array_equal(maximum, out.max(axis=(1, 2)))
    return out


def pictures(n, height=6, width=8):
    return RNG.integers(0, 256, (n, height, width, 3), np.uint8)

"""Compiled graphs, run on pictures."""

from __future__ import annotations

import numpy as np
import onnx
from PIL import Image

from fgbgpack.depth import load_model
from fgbgpack.depth.graph import compile_graph, new_session, session_options

RNG = np.random.default_rng(7)
FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
#: Half the spacing of float16 at the largest values that pictures give here (128 to 255), and some slack
#: for sums that are taken in another order.
HALF_SPACING = 2**-4 * 1.02


def pictures(height, width, n=2):
    return RNG.integers(0, 256, (n, height, width, 3), np.uint8)


def smooth_pictures(height, width, n=2):
    """Waves of several lengths, with some noise: neither flat nor all edges."""
    y, x, channel = np.mgrid[:height, :width, :3]
    waves = [np.sin(x / (3 + i) + channel) + np.cos(y / (5 - i) + i) for i in range(n)]
    return np.clip(np.stack(waves) * 60 + 128 + RNG.normal(0, 8, (n, height, width, 3)), 0, 255).astype(
        np.uint8
    )


def run(path, images, *, scale=1, step=0.0, tensor="depth", precision="fp32"):
    """Compile for ``images`` and return what the graph gives, or what arrives at a tensor on the way."""
    model = load_model(path)
    height, width = images.shape[1] // scale, images.shape[2] // scale
    compiled = compile_graph(model, (height, width), scale=scale, precision=precision)
    if tensor != "depth":
        compiled.graph.output.append(onnx.ValueInfoProto(name=tensor))
    session = new_session(model, compiled, session_options(), providers=["CPUExecutionProvider"])
    return session.run([tensor], {"images": images, "step": np.array([step], np.float32)})[0]


def arriving(path, images, **options):
    return run(path, images, tensor="network/input", **options)


def pillow(array, size, filter_name):
    """Resize a float array ``(h, w)`` with Pillow."""
    picture = Image.fromarray(np.asarray(array, np.float32))
    return np.asarray(picture.resize(size[::-1], FILTERS[filter_name]), np.float64)

"""Folders of pictures, masks and depth of samples that exist, to be imported."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
from picture_files import write

from fgbgpack.pipeline import Notice
from fgbgpack.storage.layout import LayoutPolicy

HEIGHT, WIDTH = 18, 26
#: A policy that cuts a few of these samples into many shards: 2 samples of image, 4 of depth.
TINY_SHARDS = LayoutPolicy(
    pixel_shard_bytes=5000, depth_chunk_bytes=2000, depth_shard_bytes=3000, min_shards=1
)
#: What the values of :func:`depth_of` mean.
MILLIMETRES = {"depth_quantity": "depth", "depth_unit": "m", "depth_factor": 0.001, "depth_invalid": 0.0}


def image_of(seed: int, height=HEIGHT, width=WIDTH) -> np.ndarray:
    """A ramp with some noise and a square, all of which the seed decides."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 9, y * 13, (x + y) * 5], -1) + rng.integers(0, 9, (height, width, 3))
    image[mask_of(seed, height, width) > 127] = 10 * (seed % 20), 200, 90
    return np.clip(image, 0, 255).astype(np.uint8)


def mask_of(seed: int, height=HEIGHT, width=WIDTH) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    top, left = 2 + seed % 7, 3 + seed % 11
    mask[top : top + 6, left : left + 5] = 255
    mask[top + 6 : top + 7, left : left + 5] = 100 + seed % 50  # a soft edge
    return mask


def depth_of(seed: int, height=HEIGHT, width=WIDTH) -> np.ndarray:
    """(h, w) uint16 millimetres, 0 in a corner."""
    y, x = np.mgrid[:height, :width]
    depth = (1000 + 37 * y + 11 * x + seed).astype(np.uint16)
    depth[:2, :3] = 0
    return depth


def metres_of(seeds) -> np.ndarray:
    """(n, h, w) float16: :func:`depth_of` as :data:`MILLIMETRES` describes it."""
    depth = np.stack([depth_of(seed) for seed in seeds])
    return np.where(depth == 0, np.nan, depth * 0.001).astype(np.float16)


def write_samples(root: Path, names, depth=True) -> Path:
    """PNG files of samples, seeded by their positions, in folders called images, masks and depth."""
    for i, name in enumerate(names):
        write(root / f"images/{name}.png", image_of(i))
        write(root / f"masks/{name}.png", mask_of(i))
        if depth:
            write(root / f"depth/{name}.png", depth_of(i))
    return root


class Events:
    """A callback that remembers."""

    def __init__(self):
        self.seen = []

    def __call__(self, event):
        self.seen.append(event)

    @property
    def notices(self):
        return "\n".join(event.message for event in self.seen if isinstance(event, Notice))


def killed_at(key: str, statements: str, layout: LayoutPolicy) -> None:
    """Runs statements, which know ``layout``, in a process that dies before it publishes a key.

    Half of its value is left in a file beside it, as a write that is cut off leaves it.
    """
    script = f"""
import os, signal
from fgbgpack.storage.layout import LayoutPolicy
from fgbgpack.storage.store import DatasetStore
layout = LayoutPolicy(**{dataclasses.asdict(layout)!r})
put = DatasetStore.put
def dying(self, key, value):
    if key == {key!r}:
        put(self, os.path.dirname(key) + "/half." + "0" * 32 + ".partial", value[: len(value) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, key, value)
DatasetStore.put = dying
{statements}
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr

"""Pictures, specs, networks and datasets that several test files build. Everything is real and small."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_models
from onnx import helper
from PIL import Image
from zarr.core.buffer import default_buffer_prototype

from fgbgpack import Batch
from fgbgpack.document import FIELDS, PLACEMENTS
from fgbgpack.pipeline import Progress
from fgbgpack.spec import DatasetSpec, DepthSpec
from fgbgpack.storage.layout import LayoutPolicy


class Pictures:
    """Folders of pictures that a dataset is made of. Every picture of a name and size is always the same."""

    def __init__(self, root: Path, backgrounds=3, foregrounds=2, size=(40, 60), patch=(24, 18)) -> None:
        self.root = root
        self.backgrounds = root / "bg"
        self.foregrounds = root / "fg"
        for folder in (self.backgrounds, self.foregrounds):
            folder.mkdir(parents=True)
        for i in range(backgrounds):
            self.background(f"b{i}.png", *size, seed=i)
        for i in range(foregrounds):
            self.foreground(f"f{i}.png", patch[0], patch[1] + 2 * i, seed=100 + i)

    def background(self, name: str, height: int, width: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        ramp = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1)
        noisy = ramp + rng.integers(-20, 20, ramp.shape) + rng.integers(-60, 60, 3)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(self.backgrounds / name)

    def foreground(self, name: str, height: int, width: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        distance = np.hypot(2 * (y + 0.5) / height - 1, 2 * (x + 0.5) / width - 1)
        alpha = np.clip((1.1 - distance) * 2 * 255, 0, 255)
        colour = rng.integers(0, 256, (height, width, 3))
        Image.fromarray(np.dstack([colour, alpha]).astype(np.uint8)).save(self.foregrounds / name)

    def spec(self, **fields) -> DatasetSpec:
        """A spec of these pictures: 33x21 pixels, all odd, and no depth, unless told otherwise."""
        given = {"width": 33, "height": 21, "foreground_height": 10, "placements": 3, "depth": None} | fields
        return DatasetSpec(backgrounds=str(self.backgrounds), foregrounds=str(self.foregrounds), **given)


def write_depth_model(folder: Path, name="tiny", seed=0, **output) -> Path:
    """A depth network with its card: the absolute answer of one 5x5 convolution, about 0 to 10."""
    weights = np.random.default_rng(seed).normal(size=(1, 3, 5, 5)).astype(np.float32) / 100
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["raw"], pads=[2, 2, 2, 2]),
        helper.make_node("Abs", ["raw"], ["output"]),
    ]
    described = onnx_models.card(name=name, output=output)
    path = folder / f"{name}.onnx"
    return onnx_models.write_network(path, nodes, weights={"weights": weights}, card=described)


#: A policy that cuts datasets of a few small samples into many shards, as large ones are.
SMALL_SHARDS = LayoutPolicy(
    pixel_shard_bytes=40_000,
    depth_chunk_bytes=6_000,
    guided_chunk_samples=10,
    guided_chunk_bytes=6_000,
    guided_shard_bytes=12_000,
    depth_shard_bytes=12_000,
    min_shards=1,
)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names_in(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def assert_same_files(found: Path, expected: Path) -> None:
    """Two folders hold the same files."""
    here, there = tree(found), tree(expected)
    assert sorted(here) == sorted(there)
    assert [name for name in there if here[name] != there[name]] == []


def assert_same_arrays(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """The same arrays by the same names, of the same types, NaN where NaN is."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def assert_same_batch(batch: Batch, everything: Mapping[str, np.ndarray], samples, fields=FIELDS) -> None:
    """A batch has these fields of these samples, of all arrays of a dataset, and their placements."""
    names = (*fields, *PLACEMENTS)
    assert_same_arrays(batch.arrays, {name: everything[name][samples] for name in names})


def depth_of(model: Path, **fields) -> DepthSpec:
    """A depth spec at scale 1 unless told otherwise."""
    return DepthSpec(str(model), **({"scale": 1} | fields))


class Stop:
    """A callback that raises at the n-th progress event of a stage, as Ctrl-C does."""

    def __init__(self, stage, n):
        self.stage, self.left = stage, n

    def __call__(self, event):
        if isinstance(event, Progress) and event.stage == self.stage:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1


def stages_to(sender):
    """A callback that sends each stage as it is come to, once."""
    seen = set()

    def tell(event):
        if isinstance(event, Progress) and event.stage not in seen:
            seen.add(event.stage)
            sender.send(event.stage)

    return tell


def value(store, key, part=None):
    """The value of a key of a Zarr store, or a part of it; ``None`` if there is none."""
    found = asyncio.run(store.get(key, default_buffer_prototype(), part))
    return None if found is None else found.to_bytes()


def collect(generator):
    """What an asynchronous generator gives."""

    async def all_of_it():
        return [item async for item in generator]

    return asyncio.run(all_of_it())

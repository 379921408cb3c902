"""One dataset of every kind, small and in several shards."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from builders import SMALL_SHARDS, Pictures, depth_of
from PIL import Image

from fgbgpack import create, open_dataset
from fgbgpack.pipeline import ImportSpec, convert, import_folder
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage.layout import LayoutPolicy

#: Stored datasets that are made of a spec. Chunks of pixels of the last are cut by rows: three bands, the
#: lowest of which leaves the picture.
MADE = ("plain", "depth", "guided", "banded")
#: The split datasets have.
PARTS = {"train": 0.5, "test": 0.5}


def layout_of(kind: str) -> LayoutPolicy:
    """How a kind of dataset is cut."""
    return replace(SMALL_SHARDS, pixel_chunk_bytes=6_000) if kind.startswith("banded") else SMALL_SHARDS


class Kinds:
    """Datasets of 36 samples by their kinds, each made when it is first asked for; none is to be changed.

    They are those of ``MADE``, ``layered``, and their virtual twins, such as ``depth-virtual``; ``split``,
    which has two splits; ``imported``, of 12 samples with depth, and ``imported-plain`` without. What one of
    ``MADE`` has replaced is called ``depth-older`` or the like: it has another seed.
    """

    def __init__(self, folder: Path, pictures: Pictures, depth_model: Path, guide_model: Path) -> None:
        self._folder = folder
        depth = depth_of(depth_model)
        self.specs: dict[str, DatasetSpec] = {
            "plain": pictures.spec(chunk=5),
            "depth": pictures.spec(chunk=5, depth=depth),
            "guided": pictures.spec(chunk=5, depth=depth_of(depth_model, guide=str(guide_model), scale=2)),
            "layered": pictures.spec(chunk=5, depth=depth_of(depth_model, mode="layered", scale=2)),
            "banded": pictures.spec(chunk=7, depth=depth),
        }

    def __getitem__(self, kind: str) -> Path:
        path = self._folder / f"{kind}.zarr"
        if not path.exists():
            self._make(kind, path)
        return path

    def twins(self, kind: str) -> tuple[DatasetSpec, Path, Path]:
        """The spec of a kind of ``MADE``, the dataset that stores its pixels, and the virtual one."""
        return self.specs[kind], self[kind], self[f"{kind}-virtual"]

    def hdf5(self, kind: str, form: str = "normal") -> Path:
        """A dataset as an HDF5 file, ``"normal"`` or ``"portable"``."""
        path = self._folder / f"{kind}-{form}.h5"
        if not path.exists():
            convert(self[kind], path, portable=form == "portable")
        return path

    def _make(self, kind: str, path: Path) -> None:
        if kind == "split":
            shutil.copytree(self["depth"], path)
            ds = open_dataset(path)
            ds.save_split("fälle", PARTS)
            ds.save_split("both", PARTS, by="both", seed=3)
        elif kind.startswith("imported"):
            pictures = self._folder / f"pictures of {kind}"
            write_samples(pictures, self["depth"], depth=kind == "imported")
            import_folder(path, ImportSpec(str(pictures)), layout=SMALL_SHARDS)
        else:
            spec = self.specs[kind.partition("-")[0]]
            if kind.endswith("-older"):
                spec = replace(spec, seed=spec.seed + 1)
            create(path, spec, virtual=kind.endswith("-virtual"), layout=layout_of(kind))


def write_samples(folder: Path, dataset: Path, *, depth: bool) -> None:
    """Folders of images, masks and perhaps depth, of every third sample of a dataset."""
    ds = open_dataset(dataset)
    for name in ("images", "masks", *(["depth"] if depth else [])):
        (folder / name).mkdir(parents=True)
    for i in range(0, len(ds), 3):
        sample = ds[i]
        Image.fromarray(sample.image).save(folder / f"images/é{i}.png")
        Image.fromarray(sample.mask).save(folder / f"masks/é{i}.png")
        if depth:
            np.save(folder / f"depth/é{i}.npy", sample.depth.astype(np.float32))

"""A dataset of many small chunks, with depth and a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import SMALL_SHARDS, Pictures, depth_of
from tensors import CHUNK

from fgbgpack import create, open_dataset


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory, pictures: Pictures, depth_model: Path) -> Path:
    """120 samples with depth in 24 chunks, and a split."""
    path = tmp_path_factory.mktemp("torch") / "many.zarr"
    spec = pictures.spec(
        width=25, height=15, foreground_height=8, placements=10, chunk=CHUNK, depth=depth_of(depth_model)
    )
    create(path, spec, layout=SMALL_SHARDS)
    open_dataset(path).save_split("two", {"train": 2 / 3, "test": 1 / 3})
    return path


@pytest.fixture(scope="session")
def truth(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the dataset."""
    return open_dataset(path).to_numpy()

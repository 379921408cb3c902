"""Datasets of every kind, and their cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import Pictures, depth_of
from card_helpers import ABOUT, CREDITS, copy
from PIL import Image

from fgbgpack import create, open_dataset
from fgbgpack.cards import Cards, write_cards
from fgbgpack.pipeline import ImportSpec, convert, import_folder


@pytest.fixture(scope="session")
def made(tmp_path_factory, depth_model, guide_model) -> Path:
    """A dataset with guided depth, credits of two of its five pictures, and a split."""
    root = tmp_path_factory.mktemp("made")
    pictures = Pictures(root / "pictures")
    (pictures.backgrounds / "sources.csv").write_text(CREDITS, encoding="utf-8")
    path = root / "lobby.zarr"
    create(path, pictures.spec(depth=depth_of(depth_model, guide=str(guide_model), scale=2)))
    open_dataset(path).save_split("fair", {"train": 0.6, "rest": 0.4}, by="foreground", seed=2**64 - 1)
    return path


@pytest.fixture(scope="session")
def kinds(tmp_path_factory, made, dataset, pictures) -> dict[str, Path]:
    """Datasets of every kind."""
    root = tmp_path_factory.mktemp("kinds")
    folder = root / "found"
    rng = np.random.default_rng(0)
    for i in range(5):
        for kind, shape in (("images", (8, 12, 3)), ("masks", (8, 12)), ("depths", (8, 12))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / kind / f"{i}.png")
    spec = ImportSpec(str(folder), images="images/{n}.png", masks="masks/{n}.png", depths="depths/{n}.png")
    import_folder(root / "imported.zarr", spec)
    create(root / "virtual.zarr", pictures.spec(), virtual=True)
    convert(made, root / "lobby.h5")
    return {
        "guided": made,
        "plain": dataset,
        "virtual": root / "virtual.zarr",
        "imported": root / "imported.zarr",
        "hdf5": root / "lobby.h5",
    }


@pytest.fixture(scope="session")
def cards(kinds, tmp_path_factory) -> dict[str, Cards]:
    """The cards of a copy of each, with all that can be stated but a description, not to be changed."""
    about = replace(ABOUT, description=None)
    root = tmp_path_factory.mktemp("cards")
    return {kind: write_cards(copy(path, root), about) for kind, path in kinds.items()}


@pytest.fixture
def lobby(made, tmp_path) -> Path:
    """A copy of the dataset, to be changed."""
    return copy(made, tmp_path)


@pytest.fixture(scope="session")
def published(made, tmp_path_factory) -> Path:
    """A copy of the dataset with cards that say all that can be said, not to be changed."""
    path = copy(made, tmp_path_factory.mktemp("published"))
    write_cards(path, ABOUT, preview=True)
    return path

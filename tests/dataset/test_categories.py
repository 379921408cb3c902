"""Foregrounds in folders of their categories."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from refusals import refused
from zarr.storage import MemoryStore

from fgbgpack import create, open_dataset
from fgbgpack.errors import SourceError, SpecError
from fgbgpack.pipeline import verify

NAMES = ["chair/f0.png", "person/f0.png", "person/f1.png"]


@pytest.fixture
def sorted_pictures(own_pictures):
    """Two persons and a chair, which has the name of one of them."""
    folder = own_pictures.foregrounds
    for category in ("person", "chair"):
        (folder / category).mkdir()
    shutil.copy(folder / "f0.png", folder / "chair")
    for name in ("f0.png", "f1.png"):
        (folder / name).rename(folder / "person" / name)
    return own_pictures


def test_objects_have_the_categories_of_their_folders(sorted_pictures, tmp_path):
    spec = sorted_pictures.spec(samples=40, objects="1-2", classes=True, foreground_height="6-9")
    create(tmp_path / "it.zarr", spec)
    ds = open_dataset(tmp_path / "it.zarr")
    assert [source.name for source in ds.document.sources.foregrounds] == NAMES
    assert ds.categories == ("chair", "person")
    objects = ds.objects
    there = objects.foreground >= 0
    np.testing.assert_array_equal(objects.category[there], (objects.foreground[there] > 0).astype(np.int16))
    assert (objects.category[~there] == -1).all()
    assert verify(
        tmp_path / "it.zarr", against=[sorted_pictures.foregrounds, sorted_pictures.backgrounds]
    ).sound
    # The same command finds them again.
    assert create(tmp_path / "it.zarr", spec).created == 0

    chairs = np.flatnonzero((objects.category == 0).any(axis=1))
    np.testing.assert_array_equal(ds.where(category="chair"), chairs)
    np.testing.assert_array_equal(ds.where(foreground="chair/*"), chairs)
    tall = ((objects.category == 1) & (objects.height >= 8) & (objects.height <= 9)).any(axis=1)
    np.testing.assert_array_equal(ds.where(category=1, height=(8, 9)), np.flatnonzero(tall))
    seen = (there & (objects.visible >= 0.9)).any(axis=1)
    np.testing.assert_array_equal(ds.where(visible=0.9), np.flatnonzero(seen))
    with refused(SpecError, "sample-unknown", "table"):
        ds.where(category="table")
    with refused(SpecError, "sample-unknown", "visible"):
        ds.where(visible="much")


def test_masks_and_tables_are_in_folders_of_the_same_names(sorted_pictures):
    masks = sorted_pictures.root / "masks"
    for name in NAMES:
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(sorted_pictures.foregrounds / name).getchannel("A").save(masks / name)
    (sorted_pictures.foregrounds / "chair" / "sources.csv").write_text("file,license,cut\nf0.png,MIT,left\n")
    store = MemoryStore()
    create(store, sorted_pictures.spec(samples=3, classes=True, masks=str(masks)))
    ds = open_dataset(store)
    foregrounds = ds.document.sources.foregrounds
    assert [source.mask_name for source in foregrounds] == NAMES
    assert [source.license for source in foregrounds] == ["MIT", None, None]
    assert ds.catalog().cut[0] == 2


def test_what_is_in_no_category_is_not_used_and_empty_ones_are_refused(sorted_pictures):
    folder = sorted_pictures.foregrounds
    shutil.copy(folder / "chair" / "f0.png", folder / "other.png")
    store = MemoryStore()
    create(store, sorted_pictures.spec(samples=3, classes=True))
    assert [source.name for source in open_dataset(store).document.sources.foregrounds] == NAMES
    (folder / "table").mkdir()
    with refused(SourceError, "folder-without-pictures", "table"):
        create(MemoryStore(), sorted_pictures.spec(samples=3, classes=True))


def test_folders_without_categories_are_refused(own_pictures):
    with refused(SourceError, "folder-without-categories"):
        create(MemoryStore(), own_pictures.spec(samples=3, classes=True))
    shutil.rmtree(own_pictures.foregrounds)
    with refused(SourceError, "folder-missing"):
        create(MemoryStore(), own_pictures.spec(samples=3, classes=True))


def test_foregrounds_in_no_folders_have_one_category_without_a_name(pictures):
    store = MemoryStore()
    create(store, pictures.spec(samples=3))
    ds = open_dataset(store)
    assert ds.categories == ("",)
    assert set(ds.objects.category.ravel().tolist()) == {0}

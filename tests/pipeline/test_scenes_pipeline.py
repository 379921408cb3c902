"""Datasets of scenes: stored, virtual, resumed, converted, verified and repaired, all with the same bytes."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import zarr
from builders import SMALL_SHARDS, assert_same_arrays, assert_same_files, depth_of, tree
from refusals import refused

from fgbgpack import create, open_dataset
from fgbgpack.composition.objects import FORMS
from fgbgpack.errors import DatasetError, RecipeMismatchError, SourceError, SpecError
from fgbgpack.pipeline import (
    begin_create,
    convert,
    create_part,
    estimate,
    fill_depth,
    finish_create,
    materialize,
    merge,
    repair,
    verify,
    virtualize,
)
from fgbgpack.storage.store import DatasetStore

SCENES = {
    "samples": 47,
    "objects": "1-3",
    "empty": 0.1,
    "foreground_height": "6-14",
    "placement": "anchored",
    "blend": "soft,hard,feather",
    "overlap": 0.3,
    "light_match": True,
    "shadow": True,
    "chunk": 5,
}


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory):
    """A dataset of scenes and its virtual twin, not to be changed."""
    folder = tmp_path_factory.mktemp("scenes")
    spec = pictures.spec(**SCENES)
    create(folder / "stored.zarr", spec, layout=SMALL_SHARDS, workers=1)
    create(folder / "virtual.zarr", spec, layout=SMALL_SHARDS, virtual=True)
    return folder


def everything(path):
    """All arrays of all samples."""
    return open_dataset(path).to_numpy()


def test_stored_and_recomposed_samples_are_the_recipes(made):
    ds = open_dataset(made / "stored.zarr")
    found = ds.to_numpy()
    expected = {
        "image": np.empty((47, 21, 33, 3), np.uint8),
        "mask": np.empty((47, 21, 33), np.uint8),
        "instance": np.empty((47, 21, 33), np.uint8),
    }
    ds.recipe.place(range(47)).compose(slice(None), expected)
    assert_same_arrays(found, expected | ds.recipe.sample_arrays(range(47)))
    assert_same_arrays(everything(made / "virtual.zarr"), found)
    assert_same_arrays(open_dataset(made / "stored.zarr", pixels="recomposed").to_numpy(), found)
    assert len(np.unique(found["instance"])) == 4


@pytest.mark.parametrize("workers", [2, 7])
def test_any_number_of_workers_makes_the_same_files(made, tmp_path, pictures, workers):
    create(tmp_path / "it.zarr", pictures.spec(**SCENES), layout=SMALL_SHARDS, workers=workers)
    assert_same_files(tmp_path / "it.zarr", made / "stored.zarr")


def test_materialized_and_virtualized_datasets_are_those_that_create_makes(made, tmp_path):
    materialize(made / "virtual.zarr", tmp_path / "stored.zarr", layout=SMALL_SHARDS)
    assert_same_files(tmp_path / "stored.zarr", made / "stored.zarr")
    virtualize(made / "stored.zarr", tmp_path / "virtual.zarr")
    assert_same_arrays(everything(tmp_path / "virtual.zarr"), everything(made / "virtual.zarr"))
    shutil.copytree(made / "virtual.zarr", tmp_path / "in-place.zarr")
    materialize(tmp_path / "in-place.zarr", layout=SMALL_SHARDS)
    assert_same_files(tmp_path / "in-place.zarr", made / "stored.zarr")


@pytest.mark.parametrize(
    "lost", ["image/c/1", "mask/c/2", "instance/c/0", "objects/box/c/0", "objects/zarr.json"]
)
def test_what_is_lost_is_found_and_repaired(made, tmp_path, lost):
    path = tmp_path / "it.zarr"
    shutil.copytree(made / "stored.zarr", path)
    assert verify(path).sound
    (shutil.rmtree if (path / lost).is_dir() else (lambda file: file.unlink()))(path / lost)
    assert not verify(path).sound
    assert repair(path).left_count == 0
    assert_same_files(path, made / "stored.zarr")


def test_an_unfinished_dataset_is_resumed_with_the_same_bytes(made, tmp_path, pictures):
    path = tmp_path / "it.zarr"
    shutil.copytree(made / "stored.zarr", path)
    document = open_dataset(path).document
    store = DatasetStore.open(path, read_only=False)
    store.document()
    store.commit(document.begun())
    for lost in ("image/c/1", "instance/c/2", "objects/y"):
        shutil.rmtree(path / lost)
    report = create(path, pictures.spec(**SCENES), layout=SMALL_SHARDS)
    assert 0 < report.created < 47
    assert_same_files(path, made / "stored.zarr")


@pytest.mark.parametrize("changed", ["instance", "objects/x", "objects/gain", "sources/foreground_cut"])
def test_values_that_others_wrote_are_found(made, tmp_path, changed):
    path = tmp_path / "it.zarr"
    shutil.copytree(made / "stored.zarr", path)
    array = zarr.open_group(path)[changed]
    values = array[:]
    values.reshape(-1)[values.size // 2] ^= 1
    array[:] = values
    found = verify(path)
    assert {fault.array for fault in found.faults} >= {changed}
    assert "chunk-foreign" in {fault.code for fault in found.faults}


def test_lost_metadata_of_sources_are_found_in_a_dataset_that_is_begun(tmp_path, pictures):
    path = tmp_path / "it.zarr"
    begin_create(path, pictures.spec(**SCENES), layout=SMALL_SHARDS)
    (path / "sources" / "foreground_cut" / "zarr.json").unlink()
    assert [fault.key for fault in verify(path).faults] == ["sources/foreground_cut/zarr.json"]


@pytest.mark.parametrize("fields", [{"objects": "1-2"}, {"seed": 1}, {"samples": 46}, {"shadow": False}])
def test_other_options_are_other_datasets(made, pictures, fields):
    with refused(RecipeMismatchError, "dataset-differs", next(iter(fields))):
        create(made / "stored.zarr", pictures.spec(**SCENES | fields))


def test_arrays_say_what_their_axes_are(made):
    group = zarr.open_group(made / "stored.zarr", mode="r")
    for path, (dtype, more) in FORMS.items():
        array = group[path]
        assert array.dtype == dtype
        assert array.shape == (47, 3, *(length for _, length in more))
        assert array.metadata.dimension_names == ("sample", "object", *(name for name, _ in more))
    assert group["instance"].metadata.dimension_names == ("sample", "height", "width")


def test_depth_of_scenes_by_a_network_and_guided(made, tmp_path, pictures, depth_model, guide_model):
    spec = pictures.spec(**SCENES | {"samples": 12, "depth": depth_of(depth_model, mode="per-sample")})
    create(tmp_path / "per-sample.zarr", spec, virtual=True)
    create(
        tmp_path / "guided.zarr",
        dataclasses.replace(spec, depth=depth_of(depth_model, guide=str(guide_model))),
    )
    for name in ("per-sample", "guided"):
        ds = open_dataset(tmp_path / f"{name}.zarr")
        assert np.isfinite(ds.depth[:]).all()
        assert verify(tmp_path / f"{name}.zarr", depth=3).sound
    batch = ds.read([3, 11], fields=["background_image", "background_depth"])
    placed = ds.recipe.placements(np.array([3, 11]))
    np.testing.assert_array_equal(batch.background_image, ds.recipe.catalog.background[placed.background])
    np.testing.assert_array_equal(batch.background_depth, ds.background_depth[:][placed.background])
    with refused(SpecError, "scenes-not-larger"):
        fill_depth(
            tmp_path / "guided.zarr", depth_of(depth_model, mode="per-sample", scale=2), overwrite=True
        )


def test_scenes_become_hdf5_files_and_come_back(made, tmp_path):
    convert(made / "stored.zarr", tmp_path / "it.h5")
    assert_same_arrays(everything(tmp_path / "it.h5"), everything(made / "stored.zarr"))
    assert verify(tmp_path / "it.h5").sound
    convert(tmp_path / "it.h5", tmp_path / "back.zarr")
    assert_same_files(tmp_path / "back.zarr", made / "stored.zarr")


def test_scenes_are_made_in_parts(made, tmp_path, pictures):
    path = tmp_path / "it.zarr"
    begin_create(path, pictures.spec(**SCENES), layout=SMALL_SHARDS)
    for part in (2, 0, 1):
        create_part(path, part, 3)
    finish_create(path)
    assert_same_files(path, made / "stored.zarr")


def test_scenes_are_not_merged(made, tmp_path):
    with refused(DatasetError, "merge-impossible"):
        merge([made / "stored.zarr"] * 2, tmp_path / "it.zarr")


def test_an_estimate_counts_all_arrays(pictures):
    found = estimate(pictures.spec(**SCENES))
    assert (found.samples, found.chunk) == (47, 5)
    assert {"image", "mask", "instance"} <= found.bytes.keys()


class TestCutForegrounds:
    def test_a_table_says_otherwise(self, own_pictures):
        spec = own_pictures.spec(samples=4, placement="anchored")
        before = create(zarr.storage.MemoryStore(), spec)
        table = own_pictures.foregrounds / "sources.csv"
        table.write_text("file,cut\nf0.png,bottom left\nf1.png,none\n")
        store = zarr.storage.MemoryStore()
        create(store, spec)
        assert before.samples == 4
        assert open_dataset(store).catalog().cut.tolist() == [6, 0]
        table.write_text("file,cut\nf0.png,bottom\n")
        with refused(RecipeMismatchError, "dataset-differs", "cut"):
            create(store, spec)

    @pytest.mark.parametrize(
        "row", ["f0.png,sideways", "f0.png,bottom none", "absent.png,bottom"], ids=["word", "two", "file"]
    )
    def test_what_names_nothing_is_refused(self, own_pictures, row):
        (own_pictures.foregrounds / "sources.csv").write_text(f"file,cut\n{row}\n")
        with refused(SourceError, "credits-invalid"):
            create(zarr.storage.MemoryStore(), own_pictures.spec(samples=4))


def test_nothing_of_another_form_is_left_when_one_replaces_the_other(pictures, tmp_path):
    one, other = pictures.spec(placements=1), pictures.spec(**SCENES)
    create(tmp_path / "it.zarr", other, layout=SMALL_SHARDS)
    create(tmp_path / "it.zarr", one, layout=SMALL_SHARDS, overwrite=True)
    create(tmp_path / "fresh.zarr", one, layout=SMALL_SHARDS)
    assert tree(tmp_path / "it.zarr").keys() == tree(tmp_path / "fresh.zarr").keys()

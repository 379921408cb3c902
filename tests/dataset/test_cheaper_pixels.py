"""Pixels and layered depth come from the recipe where that is cheaper: the same bytes, however read."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import zarr
from builders import SMALL_SHARDS, assert_same_arrays, depth_of, tree
from object_stores import Counting, far_away
from refusals import refused
from sealing import accept
from zarr.storage import LocalStore

from fgbgpack import create, open_dataset
from fgbgpack.dataset import pixel_source, sample_table
from fgbgpack.errors import DatasetError
from fgbgpack.pipeline import convert, virtualize

N = 36


@pytest.fixture(scope="module")
def layered(kinds):
    """Every array of a dataset with layered depth, as zarr-python reads it, and the dataset."""
    path = kinds["layered"]
    group = zarr.open_group(path, mode="r")
    ds = open_dataset(path, pixels="stored")
    return path, {name: group[name][...] for name in (*ds.fields, *ds.placed)}


@pytest.fixture(scope="module")
def scenes(pictures, tmp_path_factory, depth_model):
    """The same of scenes."""
    path = tmp_path_factory.mktemp("scenes") / "it.zarr"
    depth = depth_of(depth_model, mode="layered", scale=2)
    spec = pictures.spec(
        samples=N, objects="1-3", empty=0.2, foreground_height="6-12", truncate=0.3, depth=depth, chunk=5
    )
    create(path, spec, layout=SMALL_SHARDS)
    group = zarr.open_group(path, mode="r")
    ds = open_dataset(path, pixels="stored")
    return path, {name: group[name][...] for name in (*ds.fields, *ds.placed)}


def check_all_ways(ds, expected) -> None:
    """Whatever samples are read by, they are those of the arrays."""
    assert ds.pixels == "recomposed"
    assert set(expected) == {*ds.fields, *ds.placed}
    for some in ([7], [35, 0, 0, -3], slice(3, 30, 2), np.arange(N) % 3 == 0):
        assert_same_arrays(ds.read(some).arrays, {name: array[some] for name, array in expected.items()})
    one = ds[11].arrays
    assert {name: array.tobytes() for name, array in one.items()} == {
        name: expected[name][11].tobytes() for name in one
    }
    for name in ds.fields:
        array, index = getattr(ds, name), (slice(2, 31, 5), slice(3, 17, 2), slice(1, 30))
        np.testing.assert_array_equal(array[:], expected[name])
        np.testing.assert_array_equal(array[index], expected[name][index])
        alone = ds.read([9, 4], name).arrays[name]
        np.testing.assert_array_equal(alone, expected[name][[9, 4]])
    order = ds.read(np.random.default_rng(0).permutation(N)).arrays["background"]
    assert len(order) == N
    found = list(ds.batches(8, shuffle=True, seed=2))
    assert sum(len(batch.mask) for batch in found) == N
    assert all(name not in ds._readers or not ds._readers[name].chunks_decoded for name in ds.fields)


@pytest.mark.parametrize("made", ["layered", "scenes"])
@pytest.mark.parametrize("kind", ["local", "far away", "hdf5", "virtual", "pickled"])
def test_what_is_recomposed_is_what_is_stored(request, made, kind, tmp_path):
    path, expected = request.getfixturevalue(made)
    if kind == "hdf5":
        convert(path, tmp_path / "it.h5")
        ds = open_dataset(tmp_path / "it.h5")
    elif kind == "virtual":
        virtualize(path, tmp_path / "it.zarr")
        ds = open_dataset(tmp_path / "it.zarr")
    elif kind == "far away":
        pytest.importorskip("obstore", reason="stores far away need it")
        ds = open_dataset(far_away(path))
    else:
        ds = open_dataset(path)
    check_all_ways(pickle.loads(pickle.dumps(ds)) if kind == "pickled" else ds, expected)


def test_objects_that_do_not_fit_in_memory_are_drawn_anew(scenes, monkeypatch):
    path, expected = scenes
    monkeypatch.setattr(sample_table, "KEPT_BYTES", 1)
    check_all_ways(open_dataset(path), expected)
    stored = open_dataset(path, pixels="stored")
    assert_same_arrays(
        stored.read([35, 2]).arrays, {name: array[[35, 2]] for name, array in expected.items()}
    )
    assert stored.where(flip=True).tolist() == np.flatnonzero((expected["objects/flip"] == 1).any(1)).tolist()


@pytest.mark.parametrize("kind", ["stored", "virtual"])
def test_objects_are_drawn_anew_for_whoever_asks_for_it(kind, scenes, tmp_path):
    path, expected = scenes
    if kind == "virtual":
        path = virtualize(path, tmp_path / "it.zarr").path
    ds = open_dataset(path)
    ds.draw_objects()
    check_all_ways(ds, expected)
    alone = ds.read([35, 2, 2], fields=()).arrays
    assert_same_arrays(alone, {name: expected[name][[35, 2, 2]] for name in alone})
    assert {name for name in alone if name.startswith("objects/")} >= {"objects/box", "objects/visible"}


@pytest.mark.parametrize("limit", ["_MOST_BYTES", "_MOST_BYTES_FAR"])
def test_sources_that_are_too_many_are_not_read(layered, monkeypatch, limit):
    path, expected = layered
    monkeypatch.setattr(pixel_source, limit, 1000)
    assert open_dataset(path).pixels == ("stored" if limit == "_MOST_BYTES" else "recomposed")
    assert_same_arrays(open_dataset(path).read([3]).arrays, {name: a[[3]] for name, a in expected.items()})
    assert open_dataset(path, pixels="recomposed").pixels == "recomposed"


# --- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["background", "foreground", "foreground_size", "background_depth"])
def test_a_damaged_source_is_an_error_and_never_a_wrong_pixel(layered, tmp_path, source):
    path, expected = layered
    copy = shutil.copytree(path, tmp_path / "it.zarr")
    name = next(name for name in tree(copy) if name.startswith(f"sources/{source}/c/"))
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 16
    (copy / name).write_bytes(content)
    with pytest.raises(DatasetError, match="pixels='stored'" if source != "background_depth" else None):
        open_dataset(copy)[5]
    if source != "foreground_size":
        found = open_dataset(copy, pixels="stored").read([5])
        assert_same_arrays(found.arrays, {name: array[[5]] for name, array in expected.items()})


def test_sources_that_are_whole_and_others_are_an_error(layered, tmp_path):
    path, expected = layered
    copy = shutil.copytree(path, tmp_path / "it.zarr")
    zarr.open_array(copy / "sources/background", mode="r+")[1, 3, 4] ^= 255
    accept(copy)
    assert open_dataset(copy).pixels == "stored"
    np.testing.assert_array_equal(open_dataset(copy)[30].image, expected["image"][30])
    with refused(DatasetError, "recipe-damaged", "digest"):
        open_dataset(copy, pixels="recomposed")[5]


# --- opening ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", ["layered", "scenes"])
@pytest.mark.parametrize("virtual", [False, True])
def test_opening_reads_nothing_that_grows_with_the_samples(request, made, virtual, tmp_path):
    path, _ = request.getfixturevalue(made)
    if virtual:
        virtualize(path, tmp_path / "it.zarr")
        path = tmp_path / "it.zarr"
    store = Counting(LocalStore(path, read_only=True))
    ds = open_dataset(store)
    assert not [key for key, _ in store.requests if "/c/" in key]
    assert (len(ds), ds.image.shape) == (N, (N, 21, 33, 3))
    _ = ds[7]
    read = {
        key.split("/c/")[0] for key, _ in store.requests if "/c/" in key and not key.startswith("manifest")
    }
    assert {one for one in read if not one.startswith(("sources/", "objects/"))} <= set(
        ds.placed if made == "scenes" else ()
    )


def test_placements_of_samples_are_computed_and_not_read(pictures, tmp_path):
    """They are not there at all."""
    few = tmp_path / "few.zarr"
    create(few, pictures.spec(placements=1000), virtual=True)
    for name in ("background", "foreground", "flip", "replica", "y", "x"):
        shutil.rmtree(few / name / "c")
    ds = open_dataset(few)
    expected = ds.recipe.placements(np.array([17, 5999]))
    batch = ds.read([17, 5999])
    for name, array in vars(expected).items():
        np.testing.assert_array_equal(batch.arrays[name], array)
    assert len(ds.where(background=1, flip=False)) == len(ds) // 6
    assert sum(map(len, ds.split({"a": 0.5, "b": 0.5}).values())) == len(ds)

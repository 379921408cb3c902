"""Datasets as HDF5 files: the way there and back, the same dataset whoever reads it, and damaged ones.

How other tools read them is in test_conformance.py, how they are made and replaced in test_hdf5_build.py.
"""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import os
import pickle
import shutil
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import torch
import xarray
import zarr
from builders import SMALL_SHARDS, collect, depth_of, tree, value
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from refusals import refused
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore

import fgbgpack
from fgbgpack import create, open_dataset
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.pipeline import ImportSpec, convert, import_folder
from fgbgpack.storage.hdf5 import Hdf5Store, is_hdf5
from fgbgpack.torch import FgBgDataset
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import write_preview

KINDS = ("plain", "depth", "guided", "banded", "virtual", "split", "imported")
FORMS = ("normal", "portable")
PARTS = {"train": 0.5, "test": 0.5}


def write_import(folder: Path, dataset: Path) -> None:
    """Folders of composites, masks and depth, of a dataset."""
    held = open_dataset(dataset)
    for name in ("images", "masks", "depth"):
        (folder / name).mkdir(parents=True)
    for i in range(0, len(held), 3):
        sample = held[i]
        Image.fromarray(sample.image).save(folder / f"images/é{i}.png")
        Image.fromarray(sample.mask).save(folder / f"masks/é{i}.png")
        np.save(folder / f"depth/é{i}.npy", sample.depth.astype(np.float32))


@pytest.fixture(scope="module")
def made(tmp_path_factory, pictures, depth_model, guide_model):
    """Each kind of dataset as Zarr, in several shards; not to be changed."""
    folder = tmp_path_factory.mktemp("zarr")
    specs = {
        "plain": pictures.spec(chunk=5),
        "depth": pictures.spec(chunk=5, depth=depth_of(depth_model)),
        "guided": pictures.spec(depth=depth_of(depth_model, guide=str(guide_model), scale=2)),
        # Three bands of rows, the last of which leaves the picture.
        "banded": pictures.spec(chunk=7),
        "virtual": pictures.spec(depth=depth_of(depth_model)),
    }
    banded = replace(SMALL_SHARDS, pixel_chunk_bytes=6_000)
    for kind, spec in specs.items():
        layout = banded if kind == "banded" else SMALL_SHARDS
        create(folder / f"{kind}.zarr", spec, virtual=kind == "virtual", layout=layout)
    shutil.copytree(folder / "depth.zarr", folder / "split.zarr")
    held = open_dataset(folder / "split.zarr")
    held.save_split("fälle", PARTS)
    held.save_split("both", PARTS, by="both", seed=3)
    write_import(folder / "pictures", folder / "depth.zarr")
    import_folder(folder / "imported.zarr", ImportSpec(str(folder / "pictures")))
    return {kind: folder / f"{kind}.zarr" for kind in KINDS}


@pytest.fixture(scope="module")
def files(made, tmp_path_factory):
    """Each of them as HDF5, normal and portable; not to be changed."""
    folder = tmp_path_factory.mktemp("hdf5")
    found = {}
    for kind, path in made.items():
        for form in FORMS:
            found[kind, form] = folder / f"{kind}-{form}.h5"
            convert(path, found[kind, form], portable=form == "portable")
    return found


@pytest.fixture
def own(files, tmp_path):
    """A function that copies one of the files for the test alone."""

    def copy(kind="depth", form="normal"):
        return Path(shutil.copy(files[kind, form], tmp_path / "own.h5"))

    return copy


def every_kind(function):
    """Run a test for each kind of dataset, as both forms of file."""
    return pytest.mark.parametrize("form", FORMS)(pytest.mark.parametrize("kind", KINDS)(function))


def names_in(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def assert_equal(found, expected):
    """The same arrays, NaN where NaN is."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# --- there and back --------------------------------------------------------------------------------


@every_kind
def test_zarr_made_of_hdf5_is_the_zarr_that_it_was_made_of(made, files, tmp_path, kind, form):
    done = convert(files[kind, form], tmp_path / "back.zarr")
    found, expected = tree(tmp_path / "back.zarr"), tree(made[kind])
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert (done.kind, done.samples, done.portable) == ("zarr", len(open_dataset(made[kind])), False)
    assert done.total_bytes == sum(map(len, expected.values()))
    assert done.source_bytes == files[kind, form].stat().st_size


@pytest.mark.parametrize("kind", KINDS)
def test_hdf5_becomes_portable_and_itself_again(files, tmp_path, kind):
    normal, portable = files[kind, "normal"].read_bytes(), files[kind, "portable"].read_bytes()
    convert(files[kind, "normal"], tmp_path / "portable.h5", portable=True)
    assert (tmp_path / "portable.h5").read_bytes() == portable
    convert(tmp_path / "portable.h5", tmp_path / "normal.h5")
    assert (tmp_path / "normal.h5").read_bytes() == normal != portable


def test_a_file_depends_on_neither_the_time_nor_the_number_of_workers(made, files, tmp_path):
    time.sleep(1.1)  # Times in HDF5 files are those of whole seconds.
    for workers in (1, 5):
        for form in FORMS:
            done = convert(made["guided"], tmp_path / "it.h5", portable=form == "portable", workers=workers)
            assert (tmp_path / "it.h5").read_bytes() == files["guided", form].read_bytes()
            assert (done.kind, done.portable, done.path) == (
                "hdf5",
                form == "portable",
                str(tmp_path / "it.h5"),
            )


@pytest.mark.parametrize("kind", ["plain", "guided", "banded"])
def test_any_zarr_store_is_converted_and_made(made, files, tmp_path, kind):
    store = MemoryStore()
    convert(files[kind, "normal"], store)
    assert {key: value.to_bytes() for key, value in store._store_dict.items()} == tree(made[kind])
    convert(store, tmp_path / "it.h5")
    assert (tmp_path / "it.h5").read_bytes() == files[kind, "normal"].read_bytes()


def test_a_document_of_any_size_goes_along(own, tmp_path):
    path = own("plain")
    held = open_dataset(path)
    for i in range(4):
        held.save_split("x" * 40_000 + str(i), PARTS, seed=i)
    assert len(json.dumps(open_dataset(path).document.to_dict())) > 1 << 17
    convert(path, tmp_path / "back.zarr")
    convert(tmp_path / "back.zarr", tmp_path / "again.h5")
    assert open_dataset(tmp_path / "again.h5").splits == open_dataset(tmp_path / "back.zarr").splits
    assert len(open_dataset(tmp_path / "again.h5").splits) == 4


def test_what_else_the_group_says_goes_along(made, tmp_path):
    shutil.copytree(made["plain"], tmp_path / "it.zarr")
    zarr.open_group(tmp_path / "it.zarr").attrs["mine"] = {"of": "mine"}
    # Zarr writes the metadata anew, less the copy of those below: saving a split puts it there again.
    open_dataset(tmp_path / "it.zarr").save_split("one", PARTS)
    convert(tmp_path / "it.zarr", tmp_path / "it.h5")
    assert zarr.open_group(fgbgpack.store(tmp_path / "it.h5"), mode="r").attrs["mine"] == {"of": "mine"}
    convert(tmp_path / "it.h5", tmp_path / "back.zarr")
    found, expected = tree(tmp_path / "back.zarr"), tree(tmp_path / "it.zarr")
    assert json.loads(found.pop("zarr.json")) == json.loads(expected.pop("zarr.json"))
    assert found == expected


# --- the same dataset ------------------------------------------------------------------------------


@every_kind
def test_an_hdf5_file_is_the_same_dataset(made, files, kind, form):
    expected, found = open_dataset(made[kind]), open_dataset(files[kind, form])
    n, rng = len(expected), np.random.default_rng(0)
    assert (len(found), found.fields, found.document) == (n, expected.fields, expected.document)
    assert (found.splits, found.names, found.pixels) == (expected.splits, expected.names, expected.pixels)
    whole = expected.to_numpy()
    assert_equal(found.to_numpy(), whole)
    for name in expected.fields:
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours.shape, ours.chunks, ours.shards) == (theirs.shape, theirs.chunks, theirs.shards)
        assert dict(ours.attrs) == dict(theirs.attrs)
        for part in (
            slice(3, 9, 2),
            (slice(1, 7), slice(2, 19, 3), slice(None, 20)),
            (-1, 20),
            rng.integers(-n, n, 9),
        ):
            np.testing.assert_array_equal(ours[part], theirs[part])
    samples = rng.integers(0, n, 40)
    assert_equal(found.read(samples).arrays, expected.read(samples).arrays)
    batches = zip(
        found.batches(5, shuffle=True, seed=2), expected.batches(5, shuffle=True, seed=2), strict=True
    )
    for ours, theirs in batches:
        assert_equal(ours.arrays, theirs.arrays)
    np.testing.assert_array_equal(found.bbox, expected.bbox)
    np.testing.assert_array_equal(found.area, expected.area)
    assert found.written_samples() == expected.written_samples()
    assert sum(found.stored_bytes().values()) == files[kind, form].stat().st_size
    for name in ("depth_min", "depth_max"):
        np.testing.assert_array_equal(found.whole(name), expected.whole(name))


@every_kind
def test_its_recipe_is_the_same(made, files, kind, form):
    expected, found = open_dataset(made[kind]), open_dataset(files[kind, form])
    if kind == "imported":
        for dataset in (expected, found):
            with refused(DatasetError, "recipe-missing"):
                dataset.catalog()
        np.testing.assert_array_equal(found.where(name="é3"), expected.where(name="é3"))
        return
    for one, other in zip(vars(found.catalog()).values(), vars(expected.catalog()).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("background", "foreground", "flip", "replica", "y", "x"):
        np.testing.assert_array_equal(getattr(found.placements, name), getattr(expected.placements, name))
    chosen = {"background": "b1.png", "foreground": 1, "flip": False}
    np.testing.assert_array_equal(found.where(**chosen), expected.where(**chosen))
    for by in ("background", "sample"):
        assert_equal(found.split(PARTS, by=by, seed=4), expected.split(PARTS, by=by, seed=4))
    if kind == "split":
        assert_equal(found.split("fälle"), expected.split("fälle"))
    if kind == "guided":
        np.testing.assert_array_equal(found.background_depth, expected.background_depth)
    made_anew = open_dataset(files[kind, form], pixels="recomposed")
    assert made_anew.pixels == "recomposed"
    np.testing.assert_array_equal(made_anew.image[:], expected.image[:])
    np.testing.assert_array_equal(made_anew.mask[:], expected.mask[:])


@pytest.mark.parametrize("form", FORMS)
def test_it_is_described_and_drawn_the_same(made, files, tmp_path, form):
    zarr_path, path = made["guided"], files["guided", form]
    found, expected = describe(open_dataset(path)), describe(open_dataset(zarr_path))
    for told in (found, expected):
        for key in ("path", "bytes"):
            told.pop(key)
        for array in told["arrays"].values():
            for key in ("stored", "ratio", "bytes_per_sample"):
                assert array.pop(key) > 0
    assert found == expected
    # The picture's title is the dataset's name.
    shutil.copytree(zarr_path, tmp_path / "zarr" / "it")
    (tmp_path / "hdf5").mkdir()
    shutil.copy(path, tmp_path / "hdf5" / "it")
    for kind in ("zarr", "hdf5"):
        write_preview(open_dataset(tmp_path / kind / "it"), tmp_path / f"{kind}.png")
    assert (tmp_path / "hdf5.png").read_bytes() == (tmp_path / "zarr.png").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_many_threads_read_one_dataset_at_once(made, files, form):
    expected, found = open_dataset(made["guided"]).to_numpy(), open_dataset(files["guided", form])
    orders = [np.random.default_rng(i).permutation(len(found)) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for order, batch in zip(orders, pool.map(found.read, orders), strict=True):
            for name in found.fields:
                np.testing.assert_array_equal(getattr(batch, name), expected[name][order])


def _read(dataset, sender):
    sender.send(dataset.to_numpy())


@pytest.mark.parametrize(("method", "form"), [("fork", "normal"), ("fork", "portable"), ("spawn", "normal")])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_dataset_goes_to_other_processes(made, files, method, form):
    processes = multiprocessing.get_context(method)
    dataset = open_dataset(files["depth", form])
    dataset.read([0, 5])
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_read, args=(dataset, sender))
    process.start()
    sender.close()
    assert_equal(receiver.recv(), open_dataset(made["depth"]).to_numpy())
    process.join()
    assert process.exitcode == 0


def test_a_dataset_survives_pickling_and_being_closed(made, files):
    expected = open_dataset(made["guided"]).to_numpy()
    dataset = open_dataset(files["guided", "normal"])
    assert len(pickle.dumps(dataset)) < 100_000
    assert_equal(pickle.loads(pickle.dumps(dataset)).to_numpy(), expected)
    with dataset:
        dataset.read([1])
    assert_equal(dataset.to_numpy(), expected)
    store = fgbgpack.store(files["guided", "normal"])
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert hash(copy) == hash(store)
    assert str(copy) == str(files["guided", "normal"])
    assert copy.read_only


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_loaders_of_torch_read_it_with_workers(made, files, form):
    expected = open_dataset(made["depth"]).to_numpy()
    dataset = FgBgDataset(files["depth", form])
    loader = torch.utils.data.DataLoader(dataset, batch_size=8, num_workers=2)
    seen = 0
    for batch in loader:
        for name in ("image", "mask", "depth"):
            theirs = expected[name][seen : seen + 8]
            ours = batch[name].numpy()
            if name == "image" and ours.shape[1] == 3:
                theirs = theirs.transpose(0, 3, 1, 2)
            assert ours.size == theirs.size
            np.testing.assert_allclose(
                ours.reshape(theirs.shape).astype(np.float64) * (theirs.max() / max(ours.max(), 1e-9)),
                theirs.astype(np.float64),
                rtol=1e-3,
                atol=1e-3,
            )
        seen += len(batch["image"])
    assert seen == len(expected["image"])


# --- as a Zarr store -------------------------------------------------------------------------------


@every_kind
def test_the_store_has_the_keys_and_values_of_the_zarr(made, files, kind, form):
    if kind == "virtual":
        # Not what makes its pixels when they are read, but what lies below that.
        store = Hdf5Store(files[kind, form])
    else:
        store = fgbgpack.store(files[kind, form])
    expected, folder = tree(made[kind]), LocalStore(made[kind], read_only=True)
    assert sorted(collect(store.list())) == sorted(expected)
    for key, content in expected.items():
        assert value(store, key) == content, key
        assert asyncio.run(store.exists(key))
        assert asyncio.run(store.getsize(key)) == len(content), key
    for prefix in ("image/", "mask/c/1", "sources/", "im", "depth/", "nothing", ""):
        assert sorted(collect(store.list_prefix(prefix))) == sorted(
            key for key in expected if key.startswith(prefix)
        )
    for place in ("", "image", "mask/c", "mask/c/0", "sources", "sources/", "nothing"):
        assert sorted(collect(store.list_dir(place))) == sorted(collect(folder.list_dir(place))), place


def test_what_is_not_there_is_not_in_the_store(files):
    store = fgbgpack.store(files["depth", "normal"])
    for key in (
        "image",
        "image/c",
        "image/c/0",
        "image/c/99/0/0/0",
        "image/c/0/1/0/0",
        "image/c/00/0/0/0",
        "image/c/-1/0/0/0",
        "image/c/٠/0/0/0",
        "image/c/0/0/0/0/0",
        "sources/c/0",
        "zarr.json/zarr.json",
        "elsewhere",
        "",
    ):
        assert value(store, key) is None, key
        assert not asyncio.run(store.exists(key)), key
        with pytest.raises(FileNotFoundError):
            asyncio.run(store.getsize(key))
    # Depth that was not asked for was never written.
    plain = fgbgpack.store(files["plain", "normal"])
    assert not [key for key in collect(plain.list()) if key.startswith("depth/c")]
    assert value(plain, "depth/c/0/0/0") is None


@pytest.fixture(scope="module")
def stores(made, files):
    """The HDF5 files as Zarr stores, each with the files of the Zarr."""
    return {(kind, form): (Hdf5Store(path), tree(made[kind])) for (kind, form), path in files.items()}


@settings(max_examples=150)
@given(st.data())
def test_any_part_of_any_value_is_that_of_the_zarr(stores, data):
    store, expected = stores[data.draw(st.sampled_from(sorted(stores)))]
    key = data.draw(st.sampled_from(sorted(expected)))
    whole = expected[key]
    start, more = data.draw(st.integers(0, len(whole) + 5)), data.draw(st.integers(0, len(whole) + 5))
    assert value(store, key, RangeByteRequest(start, start + more)) == whole[start : start + more]
    assert value(store, key, OffsetByteRequest(start)) == whole[start:]
    assert value(store, key, SuffixByteRequest(more)) == whole[max(0, len(whole) - more) :]
    parts = [(key, RangeByteRequest(start, start + more)), (key, None), ("nothing", None)]
    found = asyncio.run(store.get_partial_values(default_buffer_prototype(), parts))
    assert [None if part is None else part.to_bytes() for part in found] == [
        whole[start : start + more],
        whole,
        None,
    ]


@every_kind
def test_zarr_and_xarray_read_the_store(made, files, kind, form):
    path = files[kind, form]
    theirs = zarr.open_group(fgbgpack.store(made[kind]), mode="r")
    for consolidated in (None, False):
        group = zarr.open_group(fgbgpack.store(path), mode="r", use_consolidated=consolidated)
        assert sorted(group) == sorted(theirs)
        for name, array in theirs.members(max_depth=None):
            if isinstance(array, zarr.Array):
                found = group[name]
                assert found.metadata.dimension_names == array.metadata.dimension_names
                assert (found.dtype, found.chunks, found.shards) == (array.dtype, array.chunks, array.shards)
                assert found.attrs.asdict() == array.attrs.asdict()
                np.testing.assert_array_equal(group[name][:], array[:], err_msg=name)
                last = (array.shape[0] - 1, *[slice(1, None, 2)] * (array.ndim - 1))
                np.testing.assert_array_equal(group[name][last], array[last], err_msg=name)
    frame = xarray.open_zarr(fgbgpack.store(path))
    xarray.testing.assert_identical(frame, xarray.open_zarr(fgbgpack.store(made[kind])))


@pytest.mark.parametrize("form", FORMS)
def test_nothing_but_the_document_can_be_written(files, form):
    before = files["depth", form].read_bytes()
    store = fgbgpack.store(files["depth", form])
    buffer = default_buffer_prototype().buffer
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.set("zarr.json", buffer.from_bytes(b"{}")))
    writable = store.with_read_only(False)
    assert writable.supports_writes
    assert not store.supports_writes
    for key in ("image/zarr.json", "image/c/0/0/0/0", "new"):
        with pytest.raises(NotImplementedError):
            asyncio.run(writable.set(key, buffer.from_bytes(b"{}")))
    with pytest.raises(NotImplementedError):
        asyncio.run(writable.delete("image/c/0/0/0/0"))
    assert files["depth", form].read_bytes() == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("b.h5", True),
        ("b.HDF5", True),
        (Path("x/b.H5"), True),
        ("b.zarr", False),
        ("b.h5.zarr", False),
        ("b.h5/", False),
        ("s3://there/b.h5", False),
        ("h5", False),
    ],
)
def test_a_name_says_what_is_hdf5(name, expected):
    assert is_hdf5(name) is expected
    assert not is_hdf5(MemoryStore())


def test_any_file_of_ours_is_opened_whatever_it_is_called(files, tmp_path):
    for name in ("b", "b.zarr", "B.H5"):
        shutil.copy(files["depth", "normal"], tmp_path / name)
        assert len(open_dataset(tmp_path / name)) == 36
    assert len(open_dataset((tmp_path / "b").as_uri())) == 36


# --- saving a split --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_split_is_saved_in_the_file(own, made, form):
    path = own("depth", form)
    path.chmod(0o640)
    before, reader = open_dataset(made["depth"]).to_numpy(), open_dataset(path)
    held = open_dataset(path)
    saved = held.save_split("mine", PARTS, by="background", seed=9)
    assert_equal(open_dataset(path).split("mine"), saved)
    assert_equal(held.split("mine"), saved)
    # Who has the file open goes on with what he opened.
    assert_equal(reader.to_numpy(), before)
    assert_equal(held.to_numpy(), before)
    assert reader.splits == {}
    held.save_split("more", PARTS)
    assert sorted(open_dataset(path).splits) == ["mine", "more"]
    assert_equal(open_dataset(path).to_numpy(), before)
    assert [file.name for file in path.parent.iterdir()] == ["own.h5"]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_split_that_is_saved_through_a_link_is_in_the_file(own, tmp_path):
    path = own()
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "it.h5"
    link.symlink_to(path)
    open_dataset(link).save_split("mine", PARTS)
    assert link.is_symlink()
    assert "mine" in open_dataset(path).splits
    assert names_in(tmp_path) == ["links", "own.h5"]
    assert names_in(tmp_path / "links") == ["it.h5"]


def test_two_that_save_a_split_at_once_lose_none(own, monkeypatch):
    path = own()
    first = open_dataset(path)
    copy, calls = shutil.copyfile, []

    def copy_and_be_overtaken(source, target, **options):
        calls.append(target)
        if len(calls) == 1:
            open_dataset(path).save_split("second", PARTS)
            # That one has left alone what this one is writing.
            assert Path(target).exists()
        return copy(source, target, **options)

    monkeypatch.setattr(shutil, "copyfile", copy_and_be_overtaken)
    with refused(DatasetError, "dataset-replaced", r"own\.h5"):
        first.save_split("first", PARTS)
    assert list(open_dataset(path).splits) == ["second"]
    first.save_split("first", PARTS)
    assert sorted(open_dataset(path).splits) == ["first", "second"]
    assert names_in(path.parent) == ["own.h5"]


def _stop_while_saving(path, sender):
    copy = shutil.copyfile

    def copy_half(source, target):
        copy(source, target)
        with Path(target).open("r+b") as file:
            file.truncate(Path(source).stat().st_size // 2)
        sender.send("half")
        time.sleep(600)

    shutil.copyfile = copy_half
    open_dataset(path).save_split("mine", PARTS)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_split_that_is_killed_leaves_the_file_as_it_was(own):
    path = own()
    before = path.read_bytes()
    processes = multiprocessing.get_context("spawn")
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_stop_while_saving, args=(path, sender))
    process.start()
    assert receiver.recv() == "half"
    process.kill()
    process.join()
    assert path.read_bytes() == before
    left_over = [name for name in names_in(path.parent) if name != "own.h5"]
    assert len(left_over) == 1
    assert not is_hdf5(left_over[0])
    open_dataset(path).save_split("mine", PARTS)
    assert names_in(path.parent) == ["own.h5"]


# --- damage ----------------------------------------------------------------------------------------


def read_all(path):
    dataset = open_dataset(path)
    return dataset.to_numpy() | {
        name: dataset.whole(name) for name in ("depth_min", "sources/background", "sources/foreground")
    }


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_any_shorter_length_is_refused(own, form):
    path = own("depth", form)
    whole = path.read_bytes()
    lengths = {0, 1, 7, 8, 9, 95, 96, 97, 2_000, len(whole) - 1, len(whole) - 8, len(whole) // 2}
    for length in sorted(lengths | set(range(100, len(whole), 4_999)), reverse=True):
        os.truncate(path, length)
        with pytest.raises(DatasetError, match=r"own\.h5 is") as caught:
            open_dataset(path)
        assert caught.value.code in (("file-not-hdf5",) if length < 8 else ("file-cut-short", "file-damaged"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["depth", "guided"])
def test_a_flipped_bit_in_a_chunk_is_an_error_that_names_it(own, tmp_path, kind, form):
    path = own(kind, form)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for name, array in Hdf5Store(path).file.arrays.items():
        for number in rng.choice(len(array.chunks), min(3, len(array.chunks)), replace=False).tolist():
            offset, size = array.span(number)
            damaged = bytearray(whole)
            damaged[offset + int(rng.integers(size))] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            shard, inner = divmod(number, array.form.chunks_per_shard)
            key = f"{name}/{array.form.layout.key(shard)}"
            named = rf"^Chunk {inner} of shard .*own\.h5/{key} "
            with refused(DatasetError, "checksum-wrong", named):
                open_dataset(path).whole(name)
            with refused(DatasetError, "checksum-wrong", rf"own\.h5/{name} "):
                value(fgbgpack.store(path), key)
            with refused(DatasetError, "checksum-wrong", named):
                convert(path, tmp_path / "out.h5")
            assert names_in(tmp_path) == ["own.h5"]


def test_a_flipped_bit_in_the_lists_of_chunks_is_an_error(own):
    path = own()
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    # Of the lists (FAHD, FADB) and of what tells where they are (OHDR), all of which end with checksums.
    blocks = [at for at in range(len(whole)) if whole[at : at + 4] in {b"FAHD", b"FADB", b"OHDR"}]
    assert {whole[at : at + 4] for at in blocks} == {b"FAHD", b"FADB", b"OHDR"}
    for block in rng.choice(blocks, 100).tolist():
        damaged = bytearray(whole)
        damaged[block + int(rng.integers(4, 24))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with refused(DatasetError, "file-damaged", r"own\.h5"):
            read_all(path)


def test_a_flipped_bit_in_the_lists_of_chunks_of_a_portable_file_never_gives_a_wrong_value(own):
    """HDF5's oldest format has no checksums there."""
    path = own(form="portable")
    whole, expected = path.read_bytes(), read_all(path)
    nodes = [at for at in range(len(whole)) if whole.startswith(b"TREE\x01", at)]
    assert len(nodes) >= 5
    rng, refused = np.random.default_rng(0), 0
    for node in rng.choice(nodes, 150).tolist():
        (entries,) = struct.unpack_from("<H", whole, node + 6)
        damaged = bytearray(whole)
        # Its head, and the keys and addresses that are in use.
        damaged[node + int(rng.integers(24 + entries * 32))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found = read_all(path)
        except DatasetError:
            refused += 1
        else:
            assert_equal(found, expected)
    assert refused > 30


def test_what_is_not_hdf5_is_refused(tmp_path):
    path = tmp_path / "it.h5"
    with refused(DatasetError, "dataset-missing", r"it\.h5"):
        open_dataset(path)
    for content in (b"", b"\x89HDF", b"PK\x03\x04 and more", bytes(5_000)):
        path.write_bytes(content)
        with refused(DatasetError, "file-not-hdf5", r"it\.h5"):
            open_dataset(path)
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros(5)
    with refused(DatasetError, "dataset-foreign", r"it\.h5"):
        open_dataset(path)
    path.write_bytes(path.read_bytes()[:8] + bytes(3_000))
    with refused(DatasetError, "file-damaged", r"it\.h5"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("", "document-damaged"),
        ("[]", "schema-mismatch"),
        ("{}", "schema-mismatch"),
        ('{"complete": true}', "schema-mismatch"),
        ('{"schema": "dataset/1.0", "complete": true, "depth": null}', "schema-violated"),
        ('{"schema": "dataset/7.0", "complete": true, "depth": null}', "schema-newer"),
    ],
)
def test_a_document_that_is_none_is_refused(own, document, code):
    path = own()
    with h5py.File(path, "r+") as file:
        file.attrs["fgbgpack"] = document
    with refused(DatasetError, code, r"own\.h5"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("node", "code"),
    [
        ('{"node_type": "array"}', "metadata-damaged"),
        ("[]", "file-damaged"),
        ("{", "file-damaged"),
        ("3", "file-damaged"),
        ('{"node_type": "group"}', "array-missing"),
    ],
)
def test_metadata_that_are_none_are_refused(own, node, code):
    path = own()
    with h5py.File(path, "r+") as file:
        file["image"].attrs["zarr"] = node
    with refused(DatasetError, code, r"own\.h5"):
        open_dataset(path)


def replaced(path, name, **options):
    """Write an array of a file anew, as another program might."""
    with h5py.File(path, "r+") as file:
        array, attributes = file[name][:], dict(file[name].attrs)
        kept = {key: value for key, value in attributes.items() if key in ("zarr", "quantity", "unit")}
        given = {"chunks": file[name].chunks, **options}
        for axis in range(file[name].ndim):
            for scale in list(file[name].dims[axis].values()):
                file[name].dims[axis].detach_scale(scale)
        del file[name]
        file.create_dataset(name, data=array.astype(given.pop("dtype", array.dtype)), **given)
        file[name].attrs.update(kept)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "none"),
        ({"compression": "lzf"}, r"\[32000\]"),
        ({"compression": "gzip", "scaleoffset": 0}, "filters"),
        ({"chunks": (4, 21, 33)}, r"\(4, 21, 33\)"),
        ({"chunks": None}, "None"),
        ({"dtype": np.uint16}, "uint16 .* uint8"),
    ],
)
def test_an_array_that_is_stored_otherwise_is_refused(own, options, named):
    path = own()
    replaced(path, "mask", **options)
    with refused(DatasetError, "array-foreign", rf"own\.h5/mask .*{named}"):
        open_dataset(path)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "fletcher32": True, "shuffle": True},
        hdf5plugin.Zstd(clevel=9),
        {**hdf5plugin.Zstd(clevel=1), "fletcher32": True},
    ],
)
def test_an_array_that_others_have_encoded_anew_is_read(own, made, tmp_path, options):
    path, expected = own(), open_dataset(made["depth"]).to_numpy()
    for name in ("image", "mask"):
        replaced(path, name, **options)
    assert_equal(open_dataset(path).to_numpy(), expected)
    convert(path, tmp_path / "it.zarr")
    assert_equal(open_dataset(tmp_path / "it.zarr").to_numpy(), expected)
    convert(path, tmp_path / "it.h5")
    assert_equal(open_dataset(tmp_path / "it.h5").to_numpy(), expected)


def test_a_chunk_that_skips_filters_is_refused(own):
    path = own()
    with h5py.File(path, "r+") as file:
        array = file["mask"]
        array.id.write_direct_chunk((0, 0, 0), bytes(math.prod(array.chunks)), 1)
    with refused(DatasetError, "array-foreign", r"own\.h5/mask has chunks that skip a filter"):
        open_dataset(path)


def test_a_missing_chunk_is_refused_and_never_read_as_nothing(own, files):
    path = own()
    with h5py.File(path, "r+") as file:
        chunks = [file["mask"].id.get_chunk_info(i) for i in range(file["mask"].id.get_num_chunks())]
        encoded = [file["mask"].id.read_direct_chunk(chunk.chunk_offset) for chunk in chunks]
        creation, kind = file["mask"].id.get_create_plist(), file["mask"].id.get_type()
        space, attributes = file["mask"].id.get_space(), file["mask"].attrs["zarr"]
        del file["mask"]
        made = h5py.Dataset(h5py.h5d.create(file.id, b"mask", kind, space, creation))
        made.attrs["zarr"] = attributes
        for chunk, (mask, value) in list(zip(chunks, encoded, strict=True))[1:]:
            made.id.write_direct_chunk(chunk.chunk_offset, value, mask)
    with refused(DatasetError, "chunk-missing", r"own\.h5/mask .*\b1 of its 8 chunks"):
        open_dataset(path)
    # Where depth was not asked for, none of its chunks is there, and that is no damage.
    assert np.isnan(open_dataset(files["plain", "normal"]).depth[:]).all()


@pytest.mark.parametrize("form", FORMS)
def test_without_the_packages_one_is_told_what_to_install(made, files, tmp_path, monkeypatch, form):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    # Reading needs no plugins, nor does writing for those who have none.
    assert len(open_dataset(files["depth", form]).to_numpy()["image"]) == 36
    convert(files["depth", form], tmp_path / "portable.h5", portable=True)
    convert(files["depth", form], tmp_path / "it.zarr")
    with refused(DatasetError, "extra-missing", r'hdf5plugin.*"fgbgpack\[hdf5\]".*--portable'):
        convert(made["depth"], tmp_path / "it.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    for call in (
        lambda: open_dataset(files["depth", form]),
        lambda: convert(made["depth"], tmp_path / "it.h5", portable=True),
        lambda: convert(files["depth", form], tmp_path / "new.zarr"),
    ):
        with refused(DatasetError, "extra-missing", r'h5py.*"fgbgpack\[hdf5\]"'):
            call()
    assert names_in(tmp_path) == ["it.zarr", "portable.h5"]


@pytest.mark.parametrize("kind", ["depth", "guided"])
def test_a_damaged_zarr_is_refused_and_leaves_no_file(made, tmp_path, kind):
    source = tmp_path / "it.zarr"
    expected = tree(made[kind])
    shutil.copytree(made[kind], source)
    shards = [name for name in expected if "/c/" in name]
    rng = np.random.default_rng(1)
    for name in [next(n for n in shards if n.startswith(f"{array}/c")) for array in ("image", "depth", "x")]:
        content = expected[name]
        damaged = bytearray(content)
        damaged[int(rng.integers(20, len(content) // 2))] ^= 4
        for change, code in (
            (bytes(damaged), "checksum-wrong"),
            (content[: len(content) // 2], "checksum-wrong"),
            (None, "chunk-missing"),
        ):
            if change is None:
                (source / name).unlink()
            else:
                (source / name).write_bytes(change)
            for portable in (False, True):
                with refused(DatasetError, code, rf"it\.zarr/{name} "):
                    convert(source, tmp_path / "it.h5", portable=portable)
            assert names_in(tmp_path) == ["it.zarr"]
        (source / name).write_bytes(content)
    for name in ("image/zarr.json", "x/zarr.json"):
        for content, code in (
            (b"", "array-missing"),
            (b"{", "metadata-damaged"),
            (expected[name][:-9], "metadata-damaged"),
            (b'{"node_type": "group"}', "array-missing"),
        ):
            (source / name).write_bytes(content)
            with refused(DatasetError, code, rf"/{name.partition('/')[0]}\b"):
                convert(source, tmp_path / "it.h5")
        assert names_in(tmp_path) == ["it.zarr"]
        (source / name).write_bytes(expected[name])
    convert(source, tmp_path / "it.h5")


def test_only_hdf5_is_portable(made, tmp_path):
    with refused(SpecError, "target-not-hdf5", r"it\.zarr"):
        convert(made["plain"], tmp_path / "it.zarr", portable=True)

"""Datasets as HDF5 files: the way there and back, and the same dataset whoever reads it.

Damaged files are in test_hdf5_damage.py. How other tools read files is in interop/test_conformance.py, how
they are made and replaced in pipeline/test_hdf5_pipeline.py.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
import shutil
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray
import zarr
from builders import assert_same_arrays, assert_same_files, collect, names_in, tree, value
from children import send_arrays, stop_while_saving
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import MADE, PARTS
from refusals import refused
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore

import fgbgpack
from fgbgpack import fill_depth, open_dataset
from fgbgpack.errors import DatasetError, RecipeMismatchError
from fgbgpack.pipeline import Notice, convert
from fgbgpack.storage.hdf5 import Hdf5Store, is_hdf5, parts, store
from fgbgpack.storage.store import DatasetStore
from fgbgpack.torch import FgBgDataset
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import write_preview

KINDS = (*MADE, "depth-virtual", "split", "imported")
FORMS = ("normal", "portable")


def every_kind(function):
    """Run a test for each kind of dataset, as both forms of file."""
    return pytest.mark.parametrize("form", FORMS)(pytest.mark.parametrize("kind", KINDS)(function))


# --- there and back --------------------------------------------------------------------------------


@pytest.mark.slow
@every_kind
def test_zarr_made_of_hdf5_is_the_zarr_that_it_was_made_of(kinds, tmp_path, kind, form):
    done = convert(kinds.hdf5(kind, form), tmp_path / "back.zarr")
    assert_same_files(tmp_path / "back.zarr", kinds[kind])
    assert (done.kind, done.samples, done.portable) == ("zarr", len(open_dataset(kinds[kind])), False)
    assert done.total_bytes == sum(map(len, tree(kinds[kind]).values()))
    assert done.source_bytes == kinds.hdf5(kind, form).stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_hdf5_becomes_portable_and_itself_again(kinds, tmp_path, kind):
    normal, portable = kinds.hdf5(kind, "normal").read_bytes(), kinds.hdf5(kind, "portable").read_bytes()
    convert(kinds.hdf5(kind, "normal"), tmp_path / "portable.h5", portable=True)
    assert (tmp_path / "portable.h5").read_bytes() == portable
    convert(tmp_path / "portable.h5", tmp_path / "normal.h5")
    assert (tmp_path / "normal.h5").read_bytes() == normal != portable


@pytest.mark.slow
def test_a_file_depends_on_neither_the_time_nor_the_number_of_workers(kinds, tmp_path):
    time.sleep(1.1)  # Times in HDF5 files are those of whole seconds.
    for workers in (1, 5):
        for form in FORMS:
            done = convert(kinds["guided"], tmp_path / "it.h5", portable=form == "portable", workers=workers)
            assert (tmp_path / "it.h5").read_bytes() == kinds.hdf5("guided", form).read_bytes()
            assert (done.kind, done.portable, done.path) == (
                "hdf5",
                form == "portable",
                str(tmp_path / "it.h5"),
            )


@pytest.mark.parametrize("kind", ["plain", "guided", "banded"])
def test_any_zarr_store_is_converted_and_made(kinds, tmp_path, kind):
    store = MemoryStore()
    convert(kinds.hdf5(kind, "normal"), store)
    assert {key: value.to_bytes() for key, value in store._store_dict.items()} == tree(kinds[kind])
    convert(store, tmp_path / "it.h5")
    assert (tmp_path / "it.h5").read_bytes() == kinds.hdf5(kind, "normal").read_bytes()


@pytest.mark.slow
def test_a_document_of_any_size_goes_along(own, tmp_path):
    path = own("plain")
    held = open_dataset(path)
    parts = {f"{i:02}" + "\N{GRINNING FACE}" * 250: 1 / 36 for i in range(36)}
    for i in range(4):
        held.save_split(str(i), parts, by="sample", seed=i)
    assert len(json.dumps(open_dataset(path).document.to_dict())) > 1 << 17
    convert(path, tmp_path / "back.zarr")
    convert(tmp_path / "back.zarr", tmp_path / "again.h5")
    assert open_dataset(tmp_path / "again.h5").splits == open_dataset(tmp_path / "back.zarr").splits
    assert len(open_dataset(tmp_path / "again.h5").splits) == 4


@pytest.mark.slow
def test_what_else_the_group_says_goes_along(kinds, tmp_path):
    shutil.copytree(kinds["plain"], tmp_path / "it.zarr")
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
def test_an_hdf5_file_is_the_same_dataset(kinds, kind, form):
    expected, found = open_dataset(kinds[kind]), open_dataset(kinds.hdf5(kind, form))
    n, rng = len(expected), np.random.default_rng(0)
    assert (len(found), found.fields, found.document) == (n, expected.fields, expected.document)
    assert (found.splits, found.names, found.pixels) == (expected.splits, expected.names, expected.pixels)
    whole = expected.to_numpy()
    assert_same_arrays(found.to_numpy(), whole)
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
    assert_same_arrays(found.read(samples).arrays, expected.read(samples).arrays)
    batches = zip(
        found.batches(5, shuffle=True, seed=2), expected.batches(5, shuffle=True, seed=2), strict=True
    )
    for ours, theirs in batches:
        assert_same_arrays(ours.arrays, theirs.arrays)
    np.testing.assert_array_equal(found.bbox, expected.bbox)
    np.testing.assert_array_equal(found.area, expected.area)
    assert found.written_samples() == expected.written_samples()
    assert sum(found.stored_bytes().values()) == kinds.hdf5(kind, form).stat().st_size
    for name in ("depth_min", "depth_max"):
        np.testing.assert_array_equal(found.whole(name), expected.whole(name))


@every_kind
def test_its_recipe_is_the_same(kinds, kind, form):
    expected, found = open_dataset(kinds[kind]), open_dataset(kinds.hdf5(kind, form))
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
        assert_same_arrays(found.split(PARTS, by=by, seed=4), expected.split(PARTS, by=by, seed=4))
    if kind == "split":
        assert_same_arrays(found.split("fälle"), expected.split("fälle"))
    if kind == "guided":
        np.testing.assert_array_equal(found.background_depth, expected.background_depth)
    made_anew = open_dataset(kinds.hdf5(kind, form), pixels="recomposed")
    assert made_anew.pixels == "recomposed"
    np.testing.assert_array_equal(made_anew.image[:], expected.image[:])
    np.testing.assert_array_equal(made_anew.mask[:], expected.mask[:])


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_it_is_described_and_drawn_the_same(kinds, tmp_path, form):
    zarr_path, path = kinds["guided"], kinds.hdf5("guided", form)
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


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_many_threads_read_one_dataset_at_once(kinds, form):
    expected, found = open_dataset(kinds["guided"]).to_numpy(), open_dataset(kinds.hdf5("guided", form))
    orders = [np.random.default_rng(i).permutation(len(found)) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for order, batch in zip(orders, pool.map(found.read, orders), strict=True):
            for name in found.fields:
                np.testing.assert_array_equal(getattr(batch, name), expected[name][order])


@pytest.mark.slow
@pytest.mark.parametrize(("method", "form"), [("fork", "normal"), ("fork", "portable"), ("spawn", "normal")])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_dataset_goes_to_other_processes(kinds, method, form):
    processes = multiprocessing.get_context(method)
    dataset = open_dataset(kinds.hdf5("depth", form))
    dataset.read([0, 5])
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=send_arrays, args=(sender, dataset))
    process.start()
    sender.close()
    assert_same_arrays(receiver.recv(), open_dataset(kinds["depth"]).to_numpy())
    process.join()
    assert process.exitcode == 0


def test_a_dataset_survives_pickling_and_being_closed(kinds):
    expected = open_dataset(kinds["guided"]).to_numpy()
    dataset = open_dataset(kinds.hdf5("guided", "normal"))
    assert len(pickle.dumps(dataset)) < 100_000
    assert_same_arrays(pickle.loads(pickle.dumps(dataset)).to_numpy(), expected)
    with dataset:
        dataset.read([1])
    assert_same_arrays(dataset.to_numpy(), expected)
    store = fgbgpack.store(kinds.hdf5("guided", "normal"))
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert hash(copy) == hash(store)
    assert str(copy) == str(kinds.hdf5("guided", "normal"))
    assert copy.read_only


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_loaders_of_torch_read_it_with_workers(kinds, form):
    seen = 0
    for ours, theirs in zip(
        *(
            torch.utils.data.DataLoader(FgBgDataset(path), batch_size=8, num_workers=2)
            for path in (kinds.hdf5("depth", form), kinds["depth"])
        ),
        strict=True,
    ):
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), name
        seen += len(ours["image"])
    assert seen == 36


# --- as a Zarr store -------------------------------------------------------------------------------


@pytest.mark.slow
@every_kind
def test_the_store_has_the_keys_and_values_of_the_zarr(kinds, kind, form):
    if kind.endswith("virtual"):
        # Not what makes its pixels when they are read, but what lies below that.
        store = Hdf5Store(kinds.hdf5(kind, form))
    else:
        store = fgbgpack.store(kinds.hdf5(kind, form))
    expected, folder = tree(kinds[kind]), LocalStore(kinds[kind], read_only=True)
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


def test_what_is_not_there_is_not_in_the_store(kinds):
    store = fgbgpack.store(kinds.hdf5("depth", "normal"))
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
    plain = fgbgpack.store(kinds.hdf5("plain", "normal"))
    assert not [key for key in collect(plain.list()) if key.startswith("depth/c")]
    assert value(plain, "depth/c/0/0/0") is None


@pytest.fixture(scope="module")
def stores(kinds):
    """The HDF5 files as Zarr stores, each with the files of the Zarr."""
    return {
        (kind, form): (Hdf5Store(kinds.hdf5(kind, form)), tree(kinds[kind]))
        for kind in KINDS
        for form in FORMS
    }


@pytest.mark.slow
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


@pytest.mark.slow
@every_kind
def test_zarr_and_xarray_read_the_store(kinds, kind, form):
    path = kinds.hdf5(kind, form)
    theirs = zarr.open_group(fgbgpack.store(kinds[kind]), mode="r")
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
    xarray.testing.assert_identical(frame, xarray.open_zarr(fgbgpack.store(kinds[kind])))


@pytest.mark.parametrize("form", FORMS)
def test_nothing_but_the_document_can_be_written(kinds, form):
    before = kinds.hdf5("depth", form).read_bytes()
    store = fgbgpack.store(kinds.hdf5("depth", form))
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
    assert kinds.hdf5("depth", form).read_bytes() == before


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


def test_any_file_of_ours_is_opened_whatever_it_is_called(kinds, tmp_path):
    for name in ("b", "b.zarr", "B.H5"):
        shutil.copy(kinds.hdf5("depth", "normal"), tmp_path / name)
        assert len(open_dataset(tmp_path / name)) == 36
    assert len(open_dataset((tmp_path / "b").as_uri())) == 36


# --- saving a split --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_split_is_saved_in_the_file(own, kinds, form):
    path = own("depth", form)
    path.chmod(0o640)
    before, reader = open_dataset(kinds["depth"]).to_numpy(), open_dataset(path)
    held = open_dataset(path)
    saved = held.save_split("mine", PARTS, by="background", seed=9)
    assert_same_arrays(open_dataset(path).split("mine"), saved)
    assert_same_arrays(held.split("mine"), saved)
    # Who has the file open goes on with what he opened.
    assert_same_arrays(reader.to_numpy(), before)
    assert_same_arrays(held.to_numpy(), before)
    assert reader.splits == {}
    held.save_split("more", PARTS)
    assert sorted(open_dataset(path).splits) == ["mine", "more"]
    assert_same_arrays(open_dataset(path).to_numpy(), before)
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
    lock, calls = store.locked_file, []

    @contextmanager
    def lock_when_overtaken(locked):
        calls.append(locked)
        if len(calls) == 1:
            open_dataset(path).save_split("second", PARTS)
        with lock(locked):
            yield

    monkeypatch.setattr(store, "locked_file", lock_when_overtaken)
    with refused(DatasetError, "dataset-replaced", r"own\.h5"):
        first.save_split("first", PARTS)
    assert list(open_dataset(path).splits) == ["second"]
    first.save_split("first", PARTS)
    assert sorted(open_dataset(path).splits) == ["first", "second"]
    assert names_in(path.parent) == ["own.h5"]


@pytest.mark.parametrize("form", FORMS)
def test_splits_take_no_room_while_the_document_has_some(own, form):
    path = own(form=form)
    size = path.stat().st_size
    open_dataset(path).save_split("mine", PARTS)
    one = path.read_bytes()
    for _ in range(3):
        open_dataset(path).save_split("mine", PARTS)
    assert path.read_bytes() == one
    for i in range(20):
        open_dataset(path).save_split(f"s{i}", PARTS)
    assert path.stat().st_size == size == len(one)
    assert Hdf5Store(path).file.sealed


@pytest.mark.parametrize("form", FORMS)
def test_a_document_without_room_makes_the_file_anew(own, kinds, tmp_path, form):
    path = own(form=form)
    expected, mode = open_dataset(path).to_numpy(), 0o640
    path.chmod(mode)
    with h5py.File(path, "r+") as file:
        file["labels"] = np.arange(36)
        file.attrs["by"] = "me"
    names = [f"{i:03}{'x' * 200}" for i in range(300)]
    store = DatasetStore(Hdf5Store(path, read_only=False), str(path))
    split = {"by": "background", "seed": 0, "parts": PARTS}
    store.commit(replace(store.existing_document(), splits=dict.fromkeys(names, split)))
    assert list(open_dataset(path).splits) == names
    assert_same_arrays(open_dataset(path).to_numpy(), expected)
    assert Hdf5Store(path).file.sealed
    assert Hdf5Store(path).file.portable == (form == "portable")
    assert path.stat().st_mode & 0o777 == mode
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["labels"], np.arange(36))
        assert file.attrs["by"] == "me"
        del file
    convert(path, tmp_path / "it.zarr")
    assert open_dataset(tmp_path / "it.zarr").splits == open_dataset(path).splits


def written(path, monkeypatch, change):
    """What a change writes into a file, in its order: offset and bytes."""
    writes = []
    write = os.pwrite

    def record(file, content, offset):
        writes.append((offset, bytes(content)))
        return write(file, content, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", record)
        change(path)
    return writes


@pytest.mark.parametrize("form", FORMS)
def test_a_loss_of_power_while_a_split_is_saved_leaves_the_old_document_or_the_new(own, monkeypatch, form):
    """Of the write that was under way any blocks of 512 bytes may have come to the disk."""
    path, rng = own(form=form), np.random.default_rng(0)
    open_dataset(path).save_split("old", PARTS)
    before = bytearray(path.read_bytes())
    writes = written(path, monkeypatch, lambda path: open_dataset(path).save_split("new", PARTS))
    after, states = path.read_bytes(), []
    assert len(writes) == 6
    for offset, content in writes:
        for _ in range(3):
            torn = bytearray(before)
            for start in range(0, len(content), 512):
                if rng.random() < 0.5:
                    part = content[start : start + 512]
                    torn[offset + start : offset + start + len(part)] = part
            states.append(bytes(torn))
        before[offset : offset + len(content)] = content
        states.append(bytes(before))
    assert states[-1] == after
    found = []
    for state in states:
        path.write_bytes(state)
        file = Hdf5Store(path).file
        assert file.sealed
        found.append(list(json.loads(file.root)["attributes"]["fgbgpack"]["splits"]))
    # Four states for each write; the third one completes the first slot.
    assert all(names == ["old"] for names in found[:8])
    assert all(names in (["old"], ["old", "new"]) for names in found[8:11])
    assert all(names == ["old", "new"] for names in found[11:])
    # Whatever was left, the next one is saved, and then both slots are whole again.
    for state in states[::4]:
        path.write_bytes(state)
        open_dataset(path).save_split("next", PARTS)
        with path.open("rb") as opened:
            one, two = parts.slots_at(opened.fileno(), file.front.at, file.front.capacity)
        assert one == two
        assert "next" in open_dataset(path).splits


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_split_that_is_killed_leaves_the_old_document_or_the_new(own, number):
    path = own()
    processes = multiprocessing.get_context("spawn")
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=stop_while_saving, args=(sender, path, number))
    process.start()
    assert receiver.recv() == "half"
    process.kill()
    process.join()
    assert list(open_dataset(path).splits) == ([] if number < 4 else ["mine"])
    assert names_in(path.parent) == ["own.h5"]
    open_dataset(path).save_split("more", PARTS)
    assert "more" in open_dataset(path).splits


# --- what others add -------------------------------------------------------------------------------


def add_own(path):
    """Add arrays and groups of all kinds to a Zarr dataset, which zarr then finds."""
    group = zarr.open_group(path, mode="r+")
    labels = group.create_array(
        "labels", data=np.arange(36, dtype=np.int32), chunks=(5,), dimension_names=["sample"]
    )
    labels.attrs["classes"] = ["a", "é"]
    more = group.create_group("mine/more")
    more.attrs["of"] = "mine"
    more.create_array("scores", data=np.linspace(0, 1, 72).reshape(36, 2), chunks=(4, 2), shards=(8, 2))
    more.create_array("valid", data=np.arange(36) % 3 == 0)
    group.create_array("sources/extra", data=np.ones((), np.float16))
    group.create_array("sample", data=np.arange(36) * 2, dimension_names=["sample"])
    group.create_array("height", data=np.arange(3))
    group.create_array("names", data=np.array(["é", "b"], dtype=object).astype("T"))
    group.create_array("empty", shape=(0, 3), dtype=np.uint8)
    with warnings.catch_warnings(action="ignore"):
        zarr.consolidate_metadata(path)


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_users_go_along_and_come_back(kinds, tmp_path, form):
    source, target = tmp_path / "it.zarr", tmp_path / "it.h5"
    shutil.copytree(kinds["depth"], source)
    add_own(source)
    notices = []
    convert(source, target, portable=form == "portable", on_event=notices.append)
    (left_out,) = (event.message for event in notices if isinstance(event, Notice))
    assert left_out.startswith("/names is left out: ")
    shutil.rmtree(source / "names")
    expected = zarr.open_group(source, mode="r", use_consolidated=False)
    names = ("labels", "mine/more/scores", "mine/more/valid", "sources/extra", "empty", "sample", "height")
    with xarray.open_dataset(target, engine="h5netcdf", phony_dims="sort") as frame:
        assert frame["sample"].dims == frame["labels"].dims == frame["mask"].dims[:1] == ("sample",)
        np.testing.assert_array_equal(frame["mask"]["sample"], np.arange(36) * 2)
    with h5py.File(target) as file:
        for name in names:
            found = file[name][()]
            np.testing.assert_array_equal(found, expected[name][...])
            assert found.dtype == expected[name].dtype
        assert file["labels"].dims[0].label == "sample"
        assert json.loads(file["labels"].attrs["classes"]) == ["a", "é"]
        assert file["mine/more"].attrs["of"] == "mine"
    assert Hdf5Store(target).file.sealed
    convert(target, tmp_path / "back.zarr")
    found, first = tree(tmp_path / "back.zarr"), tree(source)
    assert found.keys() == first.keys()
    assert [key for key in first if found[key] != first[key] and not key.endswith("zarr.json")] == []
    for key in first.keys() - {"zarr.json"}:
        if key.endswith("zarr.json"):
            assert json.loads(found[key]) == json.loads(first[key]), key
    convert(tmp_path / "back.zarr", tmp_path / "again.h5", portable=form == "portable")
    assert (tmp_path / "again.h5").read_bytes() == target.read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_what_others_add_with_h5py_is_no_damage_and_becomes_zarr(own, kinds, tmp_path, form):
    path, notices = own(form=form), []
    expected = open_dataset(path).to_numpy()
    with h5py.File(path, "r+") as file:
        file["labels"] = np.arange(36)
        file["labels"].attrs["of"] = "mine"
        file["labels"].dims[0].label = "sample"
        file.create_dataset("mine/scores", data=np.arange(72.0).reshape(36, 2), chunks=(5, 2))
        file["names"] = ["é", "b"]
    assert not Hdf5Store(path).file.sealed
    assert_same_arrays(open_dataset(path).to_numpy(), expected)
    open_dataset(path).save_split("mine", PARTS)
    convert(path, tmp_path / "it.zarr", on_event=notices.append)
    assert [event.message for event in notices if "names" in getattr(event, "message", "")] == [
        "/names is left out: only arrays of numbers are both in Zarr and in HDF5."
    ]
    group = zarr.open_group(tmp_path / "it.zarr", mode="r", use_consolidated=False)
    np.testing.assert_array_equal(group["labels"][:], np.arange(36))
    assert group["labels"].attrs.asdict() == {"of": "mine"}
    assert group["labels"].metadata.dimension_names == ("sample",)
    np.testing.assert_array_equal(group["mine/scores"][:], np.arange(72.0).reshape(36, 2))
    assert_same_arrays(open_dataset(tmp_path / "it.zarr").to_numpy(), expected)
    assert list(open_dataset(tmp_path / "it.zarr").splits) == ["mine"]


@pytest.mark.parametrize("form", FORMS)
def test_attributes_that_others_add_to_the_root_go_along_and_come_back(own, tmp_path, form):
    path = own(form=form)
    expected = {"by": "me", "count": 3, "weights": [0.5, 2.0], "is": True}
    with h5py.File(path, "r+") as file:
        for name, value in expected.items():
            file.attrs[name] = value
    convert(path, tmp_path / "it.zarr")
    found = dict(zarr.open_group(tmp_path / "it.zarr", mode="r").attrs)
    assert {name: found.get(name) for name in expected} == expected
    zarr.open_group(tmp_path / "it.zarr", mode="r+").attrs["more"] = {"a": [1]}
    convert(tmp_path / "it.zarr", tmp_path / "again.h5", portable=form == "portable")
    assert Hdf5Store(tmp_path / "again.h5").file.sealed
    with h5py.File(tmp_path / "again.h5", "r+") as file:
        assert file.attrs["by"] == "me"
        assert file.attrs["weights"].tolist() == [0.5, 2.0]
        file.attrs["count"] = 4
    convert(tmp_path / "again.h5", tmp_path / "back.zarr")
    found = dict(zarr.open_group(tmp_path / "back.zarr", mode="r").attrs)
    assert {name: found.get(name) for name in (*expected, "more")} == {
        **expected,
        "count": 4,
        "more": {"a": [1]},
    }


def test_attributes_that_others_add_to_arrays_of_the_dataset_are_named(own, tmp_path):
    path, notices = own("plain"), []
    with h5py.File(path, "r+") as file:
        file["image"].attrs["by"] = "me"
    convert(path, tmp_path / "it.zarr", on_event=notices.append)
    assert any("/image@by" in getattr(event, "message", "") for event in notices)
    before = path.read_bytes()
    with refused(DatasetError, "own-array-unknown", "/image@by"):
        fill_depth(path)
    assert path.read_bytes() == before


def test_what_others_have_added_is_not_replaced_unless_told_so(own, kinds):
    path = own("plain")
    with h5py.File(path, "r+") as file:
        file["labels"] = np.arange(36)
    with refused(RecipeMismatchError, "dataset-differs", "/labels"):
        convert(kinds["plain"], path)
    convert(kinds["plain"], path, overwrite=True)
    assert path.read_bytes() == kinds.hdf5("plain").read_bytes()

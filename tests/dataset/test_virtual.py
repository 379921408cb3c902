"""Virtual datasets: the same bytes as stored ones, whoever reads them.

The way from one to the other is in pipeline/test_materialize.py.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import pickle
import shutil
import sys

import numpy as np
import pytest
import xarray
import zarr
from builders import SMALL_SHARDS, Stop, assert_same_files, collect, depth_of, tree, value
from children import send_arrays
from kinds import MADE, layout_of
from refusals import refused
from sealing import is_manifest
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import fgbgpack
from fgbgpack import create, estimate, fill_depth, open_dataset
from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SpecError
from fgbgpack.spec import DatasetSpec
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import write_preview

N, HEIGHT, WIDTH = 36, 21, 33
ARRAYS = ("image", "mask")


# --- what is stored --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", MADE)
def test_a_virtual_dataset_has_all_but_the_pixels(kinds, kind):
    _, stored, virtual = kinds.twins(kind)
    expected, found = (
        {key: value for key, value in files.items() if not is_manifest(key)}
        for files in (tree(stored), tree(virtual))
    )
    assert found.keys() == {name for name in expected if name.split("/")[0] not in ARRAYS}
    assert [name for name in found if name != "zarr.json" and found[name] != expected[name]] == []
    was, document = (open_dataset(path).document.to_dict() for path in (stored, virtual))
    assert (was.pop("pixels"), document.pop("pixels")) == (
        {"complete": True, "stored": True},
        {"complete": True, "stored": False},
    )
    for one in (document, was):
        del one["generation"], one["manifest"]
    assert document == was


@pytest.mark.slow
def test_who_opens_only_the_folder_finds_no_pixels_and_is_told(kinds):
    _, _, virtual = kinds.twins("depth")
    for consolidated in (None, False):
        group = zarr.open_group(virtual, mode="r", use_consolidated=consolidated)
        assert not {"image", "mask"} & set(group)
        assert {"depth", "flip", "sources"} <= set(group)
        assert group.attrs["fgbgpack"]["pixels"] == {"complete": True, "stored": False}
    assert "image" not in xarray.open_zarr(virtual)


def test_the_report_says_what_was_made(tmp_path, pictures):
    report = create(tmp_path / "v.zarr", pictures.spec(), virtual=True)
    assert (report.samples, report.created, report.virtual, report.complete) == (N, N, True, True)
    assert not {"image", "mask"} & report.stored_bytes.keys()
    assert create(tmp_path / "v.zarr", pictures.spec(), virtual=True).created == 0
    assert create(tmp_path / "s.zarr", pictures.spec()).virtual is False


def test_an_estimate_knows_that_no_pixels_are_stored(pictures, depth_model, kinds):
    expected = estimate(pictures.spec(depth=depth_of(depth_model)), virtual=True)
    assert expected.sample_rate is None
    assert expected.bytes.keys() == {"recipe", "depth"}
    stored = open_dataset(kinds["depth-virtual"]).stored_bytes()
    recipe = sum(size for name, size in stored.items() if name.split("/")[0] not in ("depth", "zarr.json"))
    assert 0.3 * recipe < expected.bytes["recipe"] < recipe
    alone = estimate(pictures.spec(), virtual=True).scale
    assert (alone.stages, alone.seconds) == ((), alone.start_seconds + alone.finish_seconds)


# --- making one ------------------------------------------------------------------------------------


def test_stored_and_virtual_are_other_options(tmp_path, kinds):
    spec, stored, virtual = kinds.twins("plain")
    for path, options, word in ((stored, {"virtual": True}, "virtualize"), (virtual, {}, "materialize")):
        before = tree(path)
        with refused(RecipeMismatchError, "dataset-differs", "--overwrite") as caught:
            create(path, spec, **options)
        assert word in caught.value.problems[0]
        assert tree(path) == before


@pytest.mark.slow
def test_overwrite_makes_the_one_of_the_other(tmp_path, kinds):
    spec, stored, virtual = kinds.twins("plain")
    create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
    create(tmp_path / "it.zarr", spec, virtual=True, overwrite=True, layout=SMALL_SHARDS)
    assert_same_files(tmp_path / "it.zarr", virtual)
    create(tmp_path / "it.zarr", spec, overwrite=True, layout=SMALL_SHARDS)
    assert_same_files(tmp_path / "it.zarr", stored)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["depth", "guided"])
def test_depth_is_the_same_with_pixels_or_without(tmp_path, kinds, kind):
    spec, stored, virtual = kinds.twins(kind)
    path = tmp_path / "later.zarr"
    without = DatasetSpec.from_dict({**spec.to_dict(), "depth": None})
    create(path, without, virtual=True, layout=SMALL_SHARDS)
    assert not open_dataset(path).has_depth
    assert fill_depth(path, spec.depth, layout=SMALL_SHARDS).virtual
    assert_same_files(path, virtual)
    np.testing.assert_array_equal(open_dataset(path).depth[:], open_dataset(stored).depth[:])


@pytest.mark.parametrize(("stage", "n"), [("sources", 2), ("depth", 0), ("depth", 1)])
def test_one_that_was_interrupted_is_resumed(tmp_path, kinds, stage, n):
    spec, _, virtual = kinds.twins("depth")
    options = {"virtual": True, "layout": SMALL_SHARDS}
    with pytest.raises(KeyboardInterrupt):
        create(tmp_path / "it.zarr", spec, on_event=Stop(stage, n), **options)
    if stage == "sources":
        with refused(DatasetError, "dataset-missing"):
            fgbgpack.store(tmp_path / "it.zarr")
    else:
        with refused(IncompleteDatasetError, "dataset-incomplete"):
            fgbgpack.store(tmp_path / "it.zarr")
    create(tmp_path / "it.zarr", spec, **options)
    assert_same_files(tmp_path / "it.zarr", virtual)


# --- reading ---------------------------------------------------------------------------------------

KEYS = [
    (),
    (5,),
    (-1,),
    (slice(None),),
    (slice(3, 30, 4),),
    (slice(None, None, -7),),
    (slice(4, 4),),
    ([7, 7, -2, 0],),
    (np.arange(N) % 3 == 1,),
    (slice(0, 9), 4),
    (slice(0, 9), slice(5, 17, 3)),
    (slice(0, 9), slice(None, None, -2), slice(30, 2, -5)),
    (2, slice(8), slice(-5, None)),
    ([1, 20, 3], slice(6, 7), 32),
    ([1, 20], [0, 20], [5, 6]),
    (slice(0, 5), slice(0, 0)),
    (..., slice(2, 4)),
    (np.array([[1, 2], [3, 35]]), slice(19, 21)),
]


@pytest.mark.slow
@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("kind", ["plain", "banded"])
def test_every_index_gives_the_bytes_of_the_stored_array(kinds, kind, array):
    _, stored, virtual = kinds.twins(kind)
    expected = np.asarray(zarr.open_array(stored / array, mode="r")[:])
    ds = open_dataset(virtual)
    assert ds.pixels == "recomposed"
    found = getattr(ds, array)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    for key in KEYS:
        np.testing.assert_array_equal(found[key], expected[key], err_msg=str(key))
    for key in ((N,), (-N - 1,), ([0, N],), (0, HEIGHT), (0, 0, WIDTH)):
        with pytest.raises(IndexError):
            found[key]


@pytest.mark.slow
@pytest.mark.parametrize("kind", MADE)
def test_batches_are_those_of_the_stored_dataset(kinds, kind):
    _, stored, virtual = kinds.twins(kind)
    one, other = open_dataset(stored), open_dataset(virtual)
    for index in (3, slice(2, 30, 5), [9, 0, 9, 35]):
        expected, found = one[index], other[index]
        assert expected.arrays.keys() == found.arrays.keys()
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
    only = other.read([4, 2], fields=["mask"])
    np.testing.assert_array_equal(only.mask, one.mask[[4, 2]])
    assert "image" not in only.arrays


def test_a_stored_dataset_can_be_recomposed_and_a_virtual_one_not_be_read(kinds):
    _, stored, virtual = kinds.twins("plain")
    anew = open_dataset(stored, pixels="recomposed")
    assert anew.pixels == "recomposed"
    np.testing.assert_array_equal(anew.image[:], open_dataset(stored).image[:])
    with refused(DatasetError, "pixels-not-stored", "materialize"):
        open_dataset(virtual, pixels="stored")


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_many_samples_in_any_order_on_any_number_of_threads(kinds, threads):
    _, stored, virtual = kinds.twins("plain")
    ds = open_dataset(virtual)
    image, mask = ds.image.reader, ds.mask.reader
    # More than is composited at a time, and on one thread.
    samples = np.random.default_rng(0).integers(-N, N, 3000)
    expected = open_dataset(stored).image[:][samples], open_dataset(stored).mask[:][samples]
    np.testing.assert_array_equal(image.read(samples, threads=threads), expected[0])
    np.testing.assert_array_equal(mask.read(samples, threads=threads), expected[1])
    images, masks = np.empty_like(expected[0]), np.empty_like(expected[1])
    ds.read(samples, out={"image": images, "mask": masks}, threads=threads)
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(masks, expected[1])
    ds.read(samples[:9], out={"mask": masks[:9]}, threads=threads)
    np.testing.assert_array_equal(masks[:9], expected[1][:9])


def test_what_is_to_be_filled_is_filled_in_its_place_or_refused(kinds):
    ds = open_dataset(kinds["plain-virtual"])
    reader, expected = ds.image.reader, ds.image[:]
    wide = np.full((4, HEIGHT, 2 * WIDTH, 3), 7, np.uint8)
    out = wide[:, :, ::2]
    assert reader.read([3, 1, 1, -1], out) is out
    np.testing.assert_array_equal(out, expected[[3, 1, 1, -1]])
    assert (wide[:, :, 1::2] == 7).all()
    for wrong in (np.empty((3, HEIGHT, WIDTH, 3), np.uint8), np.empty((4, HEIGHT, WIDTH, 3), np.int8)):
        with refused(SpecError, "array-misfit", rf"uint8 of shape \(4, {HEIGHT}, {WIDTH}, 3\)"):
            reader.read([0, 1, 2, 3], wrong)
    masks = np.empty((4, HEIGHT, WIDTH), np.uint8)
    with refused(SpecError, "array-misfit", "contiguous"):
        ds.read([0, 1, 2, 3], out={"image": out, "mask": masks})
    with pytest.raises(IndexError):
        reader.read([[0, 1]])
    with pytest.raises(IndexError):
        ds.read([0, 1, 2, N], out={"image": np.empty_like(expected[:4]), "mask": masks})
    assert reader.read([]).shape == (0, HEIGHT, WIDTH, 3)


def test_a_reader_can_be_pickled(kinds):
    ds = open_dataset(kinds["plain-virtual"])
    for reader in (ds.image.reader, ds.mask.reader):
        again = pickle.loads(pickle.dumps(reader))
        np.testing.assert_array_equal(again.read([5, 6]), reader.read([5, 6]))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_after_a_read_on_threads_reads(kinds):
    ds = open_dataset(kinds["plain-virtual"])
    samples = np.arange(3000) % N
    expected = ds.read(samples, threads=3)
    processes = multiprocessing.get_context("fork")
    receiver, sender = processes.Pipe(duplex=False)
    child = processes.Process(target=send_arrays, args=(sender, ds, samples))
    child.start()
    assert receiver.poll(30)
    for name, array in receiver.recv().items():
        np.testing.assert_array_equal(array, expected.arrays[name], err_msg=name)
    child.join()


# --- as a store ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", MADE)
def test_zarr_and_xarray_read_all_arrays_of_the_store(kinds, kind):
    _, stored, virtual = kinds.twins(kind)
    expected = zarr.open_group(stored, mode="r")
    store = fgbgpack.store(virtual, layout=layout_of(kind))
    for consolidated in (None, False):
        group = zarr.open_group(store, mode="r", use_consolidated=consolidated)
        assert sorted(group) == sorted(expected)
        for name, array in expected.members(max_depth=None):
            if isinstance(array, zarr.Array) and not is_manifest(name):
                found = group[name]
                assert found.metadata.dimension_names == array.metadata.dimension_names, name
                assert (found.dtype, found.chunks) == (array.dtype, array.chunks), name
                np.testing.assert_array_equal(found[:], array[:], err_msg=name)
                assert found.attrs.asdict() == array.attrs.asdict()
    frame = xarray.open_zarr(store)
    xarray.testing.assert_equal(frame, xarray.open_zarr(stored))
    np.testing.assert_array_equal(frame.image[3, 4:9, ::2].values, expected["image"][3, 4:9, ::2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "banded"])
def test_the_store_lists_what_it_has_with_its_sizes(kinds, kind):
    virtual = kinds.twins(kind)[2]
    store = fgbgpack.store(virtual, layout=layout_of(kind))
    keys = collect(store.list())
    assert len(keys) == len(set(keys))
    assert set(tree(virtual)) < set(keys)
    for key in keys:
        assert asyncio.run(store.exists(key))
        assert asyncio.run(store.getsize(key)) == len(value(store, key)), key
    assert sum(key.startswith("image/c/") for key in keys) == (3 * -(-N // 7) if kind == "banded" else 8)
    for prefix in ("image/", "mask/c/1", "sources/", "image/c/0/0/0/0", "im", "depth/", "nothing"):
        found = collect(store.list_prefix(prefix))
        assert sorted(found) == sorted(key for key in keys if key.startswith(prefix)), prefix
    for folder in ("", "image", "image/", "mask/c", "mask/c/0", "image/c/0/0", "sources", "nothing"):
        below = f"{folder.rstrip('/')}/" if folder else ""
        expected = {key[len(below) :].split("/")[0] for key in keys if key.startswith(below)}
        found = collect(store.list_dir(folder))
        assert sorted(found) == sorted(expected), folder


def test_parts_of_values_are_those_of_the_whole(kinds):
    store = fgbgpack.store(kinds["plain-virtual"])
    for key in ("image/c/2/0/0/0", "mask/zarr.json", "zarr.json", "sources/zarr.json"):
        whole = value(store, key)
        assert value(store, key, RangeByteRequest(3, 17)) == whole[3:17]
        assert value(store, key, OffsetByteRequest(40)) == whole[40:]
        assert value(store, key, SuffixByteRequest(9)) == whole[-9:]
        assert value(store, key, SuffixByteRequest(10**9)) == whole or key.startswith("sources")
        parts = [(key, RangeByteRequest(0, 2)), (key, None), ("nothing", None)]
        found = asyncio.run(store.get_partial_values(default_buffer_prototype(), parts))
        assert [None if part is None else part.to_bytes() for part in found] == [whole[:2], whole, None]


def test_what_is_not_there_is_not_there(kinds):
    store = fgbgpack.store(kinds["plain-virtual"])
    for key in (
        "image",
        "image/c",
        "image/c/8/0/0/0",
        "image/c/0/1/0/0",
        "image/c/0/0/1/0",
        "image/c/0/0/0",
        "image/c/00/0/0/0",
        "image/c/-1/0/0/0",
        "image/c/٣/0/0/0",
        "image/c/0/0/0/0/0",
        "mask/c/0/0/0/0",
        "mask/more",
        "elsewhere",
    ):
        assert value(store, key) is None, key
        assert not asyncio.run(store.exists(key)), key
        with pytest.raises(FileNotFoundError):
            asyncio.run(store.getsize(key))


def test_pixels_that_are_being_stored_do_not_show_in_the_store(kinds, tmp_path):
    _, stored, virtual = kinds.twins("plain")
    shutil.copytree(virtual, tmp_path / "it.zarr")
    shutil.copytree(stored / "image" / "c", tmp_path / "it.zarr" / "image" / "c")
    assert sorted(collect(fgbgpack.store(tmp_path / "it.zarr").list())) == sorted(
        collect(fgbgpack.store(virtual).list())
    )


def test_nothing_can_be_written_to_the_store(kinds):
    before = tree(kinds["plain-virtual"])
    store = fgbgpack.store(kinds["plain-virtual"])
    assert store.read_only
    assert not store.supports_writes
    assert not store.supports_deletes
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.set("image/c/0/0/0/0", default_buffer_prototype().buffer.from_bytes(b"1")))
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.delete("x/zarr.json"))
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_group(store, mode="r+")["y"][0] = 3
    assert tree(kinds["plain-virtual"]) == before


def test_a_store_can_be_pickled_and_compared(kinds):
    virtual, layout = kinds["banded-virtual"], layout_of("banded")
    store = fgbgpack.store(virtual, layout=layout)
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert hash(again) == hash(store)
    assert store != fgbgpack.store(kinds["plain-virtual"], layout=layout)
    assert store != fgbgpack.store(virtual), "its chunks are others"
    assert str(virtual) in str(store)
    # What is large, the other process reads for itself, and cuts it the same.
    assert len(pickle.dumps(store)) < 10_000
    image = zarr.open_array(again, path="image", mode="r")
    assert image.chunks == zarr.open_array(store, path="image", mode="r").chunks == (7, 7, 33, 3)
    np.testing.assert_array_equal(image[:], open_dataset(virtual).image[:])


def test_the_store_of_a_stored_dataset_is_its_own(kinds):
    _, stored, _ = kinds.twins("plain")
    assert zarr.open_group(fgbgpack.store(stored), mode="r")["image"].shards is not None
    memory = MemoryStore()
    spec = kinds.specs["plain"]
    create(memory, spec)
    assert fgbgpack.store(memory) is memory


def test_a_virtual_dataset_can_be_opened_from_its_store(kinds):
    _, stored, virtual = kinds.twins("depth")
    ds = open_dataset(fgbgpack.store(virtual))
    np.testing.assert_array_equal(ds.image[2:9], open_dataset(stored).image[2:9])


# --- reports ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_virtual_dataset_is_described_and_drawn(tmp_path, kinds):
    _, stored, virtual = kinds.twins("guided")
    described, other = describe(open_dataset(virtual)), describe(open_dataset(stored))
    assert (described["virtual"], other["virtual"]) == (True, False)
    assert described["arrays"]["image"]["filled"] == described["arrays"]["mask"]["stored"] == 0
    assert described["arrays"]["depth"] == other["arrays"]["depth"]
    json.dumps(described)
    drawings = []
    for path in (stored, virtual):
        shutil.copytree(path, tmp_path / path.stem / "same.zarr")
        write_preview(open_dataset(tmp_path / path.stem / "same.zarr"), tmp_path / f"{path.stem}.png")
        drawings.append((tmp_path / f"{path.stem}.png").stat().st_size)
    assert min(drawings) > 1000

"""Virtual datasets: the same bytes as stored ones, whoever reads them, and the way from one to the other."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import pickle
import random
import shutil
import sys
import time

import numpy as np
import pytest
import xarray
import zarr
from builders import SMALL_SHARDS, Pictures, Stop, collect, depth_of, stages_to, tree, value
from killed_runs import SHARDS, Run
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import fgbgpack
from fgbgpack import create, estimate, fill_depth, open_dataset
from fgbgpack.dataset.composed import recompose_together
from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline import Notice, materialize, virtualize
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage import layout as plan
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import write_preview

N, HEIGHT, WIDTH = 36, 21, 33
ARRAYS = ("image", "mask")


def assert_same(found, expected):
    """Two folders hold the same files."""
    found, expected = tree(found), tree(expected)
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.fixture(scope="module")
def made(tmp_path_factory, pictures, depth_model, guide_model):
    """Each kind of dataset twice: its spec, stored and virtual, in several shards; not to be changed."""
    folder = tmp_path_factory.mktemp("kinds")
    depth = depth_of(depth_model)
    specs = {
        "plain": pictures.spec(chunk=5),
        "depth": pictures.spec(chunk=5, depth=depth),
        "guided": pictures.spec(depth=depth_of(depth_model, guide=str(guide_model), scale=2)),
        # Chunks are cut by rows: three bands, the last of which leaves the picture.
        "banded": pictures.spec(chunk=7),
    }
    kinds = {}
    for kind, spec in specs.items():
        with pytest.MonkeyPatch.context() as patch:
            for name, size in SMALL_SHARDS.items():
                patch.setattr(plan, name, size)
            if kind == "banded":
                patch.setattr(plan, "_PIXEL_CHUNK_BYTES", 6_000)
            create(folder / f"{kind}.zarr", spec)
            create(folder / f"{kind}-virtual.zarr", spec, virtual=True)
        kinds[kind] = spec, folder / f"{kind}.zarr", folder / f"{kind}-virtual.zarr"
    return kinds


@pytest.fixture
def cut(request, monkeypatch):
    """The sizes by which a kind of dataset of ``made`` was cut."""
    for name, size in SMALL_SHARDS.items():
        monkeypatch.setattr(plan, name, size)
    if request.node.callspec.params.get("kind") == "banded":
        monkeypatch.setattr(plan, "_PIXEL_CHUNK_BYTES", 6_000)


small_shards = pytest.mark.usefixtures("small_shards")
KINDS = ("plain", "depth", "guided", "banded")


# --- what is stored --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_virtual_dataset_has_all_but_the_pixels(made, kind):
    _, stored, virtual = made[kind]
    expected, found = tree(stored), tree(virtual)
    assert found.keys() == {name for name in expected if name.split("/")[0] not in ARRAYS}
    assert [name for name in found if name != "zarr.json" and found[name] != expected[name]] == []
    was, document = open_dataset(stored).document, open_dataset(virtual).document
    assert (was.pop("pixels"), document.pop("pixels")) == (
        {"complete": True, "stored": True},
        {"complete": True, "stored": False},
    )
    assert document == was


def test_who_opens_only_the_folder_finds_no_pixels_and_is_told(made):
    _, _, virtual = made["depth"]
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


def test_an_estimate_knows_that_no_pixels_are_stored(pictures, depth_model, made):
    expected = estimate(pictures.spec(depth=depth_of(depth_model)), virtual=True)
    assert expected.sample_rate is None
    assert expected.bytes.keys() == {"recipe", "depth"}
    stored = open_dataset(made["depth"][2]).stored_bytes()
    recipe = sum(size for name, size in stored.items() if name.split("/")[0] not in ("depth", "zarr.json"))
    assert 0.3 * recipe < expected.bytes["recipe"] < recipe
    assert estimate(pictures.spec(), virtual=True).seconds == 0


# --- making one ------------------------------------------------------------------------------------


def test_stored_and_virtual_are_other_options(tmp_path, made):
    spec, stored, virtual = made["plain"]
    for path, options, word in ((stored, {"virtual": True}, "virtualize"), (virtual, {}, "materialize")):
        before = tree(path)
        with pytest.raises(RecipeMismatchError, match="--overwrite") as caught:
            create(path, spec, **options)
        assert word in caught.value.problems[0]
        assert tree(path) == before


@small_shards
def test_overwrite_makes_the_one_of_the_other(tmp_path, made):
    spec, stored, virtual = made["plain"]
    create(tmp_path / "it.zarr", spec)
    create(tmp_path / "it.zarr", spec, virtual=True, overwrite=True)
    assert_same(tmp_path / "it.zarr", virtual)
    create(tmp_path / "it.zarr", spec, overwrite=True)
    assert_same(tmp_path / "it.zarr", stored)


@small_shards
@pytest.mark.parametrize("kind", ["depth", "guided"])
def test_depth_is_the_same_with_pixels_or_without(tmp_path, made, kind):
    spec, stored, virtual = made[kind]
    path = tmp_path / "later.zarr"
    create(path, DatasetSpec.from_dict({**spec.to_dict(), "depth": None}), virtual=True)
    assert not open_dataset(path).has_depth
    assert fill_depth(path, spec.depth).virtual
    assert_same(path, virtual)
    np.testing.assert_array_equal(open_dataset(path).depth[:], open_dataset(stored).depth[:])


@small_shards
@pytest.mark.parametrize(("stage", "n"), [("sources", 2), ("depth", 0), ("depth", 1)])
def test_one_that_was_interrupted_is_resumed(tmp_path, made, stage, n):
    spec, _, virtual = made["depth"]
    with pytest.raises(KeyboardInterrupt):
        create(tmp_path / "it.zarr", spec, virtual=True, on_event=Stop(stage, n))
    with pytest.raises(DatasetError):
        fgbgpack.store(tmp_path / "it.zarr")
    create(tmp_path / "it.zarr", spec, virtual=True)
    assert_same(tmp_path / "it.zarr", virtual)


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


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("kind", ["plain", "banded"])
def test_every_index_gives_the_bytes_of_the_stored_array(made, kind, array):
    _, stored, virtual = made[kind]
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


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_those_of_the_stored_dataset(made, kind):
    _, stored, virtual = made[kind]
    one, other = open_dataset(stored), open_dataset(virtual)
    for index in (3, slice(2, 30, 5), [9, 0, 9, 35]):
        expected, found = one[index], other[index]
        assert expected.arrays.keys() == found.arrays.keys()
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
    only = other.read([4, 2], fields=["mask"])
    np.testing.assert_array_equal(only.mask, one.mask[[4, 2]])
    assert "image" not in only.arrays


def test_a_stored_dataset_can_be_recomposed_and_a_virtual_one_not_be_read(made):
    _, stored, virtual = made["plain"]
    anew = open_dataset(stored, pixels="recomposed")
    assert anew.pixels == "recomposed"
    np.testing.assert_array_equal(anew.image[:], open_dataset(stored).image[:])
    with pytest.raises(DatasetError, match="materialize"):
        open_dataset(virtual, pixels="stored")


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_many_samples_in_any_order_on_any_number_of_threads(made, threads):
    _, stored, virtual = made["plain"]
    ds = open_dataset(virtual)
    image, mask = ds.image.reader, ds.mask.reader
    # More than is composited at a time, and on one thread.
    samples = np.random.default_rng(0).integers(-N, N, 3000)
    expected = open_dataset(stored).image[:][samples], open_dataset(stored).mask[:][samples]
    np.testing.assert_array_equal(image.read(samples, threads=threads), expected[0])
    np.testing.assert_array_equal(mask.read(samples, threads=threads), expected[1])
    images, masks = np.empty_like(expected[0]), np.empty_like(expected[1])
    recompose_together(image, mask, samples, images, masks, threads)
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(masks, expected[1])
    recompose_together(image, mask, samples[:9], None, masks[:9], threads)
    np.testing.assert_array_equal(masks[:9], expected[1][:9])


def test_what_is_to_be_filled_is_filled_in_its_place_or_refused(made):
    ds = open_dataset(made["plain"][2])
    reader, expected = ds.image.reader, ds.image[:]
    wide = np.full((4, HEIGHT, 2 * WIDTH, 3), 7, np.uint8)
    out = wide[:, :, ::2]
    assert reader.read([3, 1, 1, -1], out) is out
    np.testing.assert_array_equal(out, expected[[3, 1, 1, -1]])
    assert (wide[:, :, 1::2] == 7).all()
    for wrong in (np.empty((3, HEIGHT, WIDTH, 3), np.uint8), np.empty((4, HEIGHT, WIDTH, 3), np.int8)):
        with pytest.raises(SpecError, match="out is"):
            reader.read([0, 1, 2, 3], wrong)
    masks = np.empty((4, HEIGHT, WIDTH), np.uint8)
    with pytest.raises(SpecError, match="contiguous"):
        recompose_together(reader, ds.mask.reader, [0, 1, 2, 3], out, masks)
    with pytest.raises(IndexError):
        reader.read([[0, 1]])
    with pytest.raises(IndexError):
        recompose_together(reader, ds.mask.reader, [0, 1, 2, N], np.empty_like(expected[:4]), masks)
    assert reader.read([]).shape == (0, HEIGHT, WIDTH, 3)


def test_a_reader_can_be_pickled(made):
    ds = open_dataset(made["plain"][2])
    for reader in (ds.image.reader, ds.mask.reader):
        again = pickle.loads(pickle.dumps(reader))
        np.testing.assert_array_equal(again.read([5, 6]), reader.read([5, 6]))


def read_in_child(sender, ds, samples):
    sender.send(ds.read(samples).image)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_after_a_read_on_threads_reads(made):
    ds = open_dataset(made["plain"][2])
    samples = np.arange(3000) % N
    expected = ds.read(samples, threads=3).image
    processes = multiprocessing.get_context("fork")
    receiver, sender = processes.Pipe(duplex=False)
    child = processes.Process(target=read_in_child, args=(sender, ds, samples))
    child.start()
    assert receiver.poll(30)
    np.testing.assert_array_equal(receiver.recv(), expected)
    child.join()


# --- as a store ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("kind", KINDS)
def test_zarr_and_xarray_read_all_arrays_of_the_store(made, kind):
    _, stored, virtual = made[kind]
    expected = zarr.open_group(stored, mode="r")
    for consolidated in (None, False):
        group = zarr.open_group(fgbgpack.store(virtual), mode="r", use_consolidated=consolidated)
        assert sorted(group) == sorted(expected)
        for name, array in expected.members(max_depth=None):
            if isinstance(array, zarr.Array):
                found = group[name]
                assert found.metadata.dimension_names == array.metadata.dimension_names, name
                assert (found.dtype, found.chunks) == (array.dtype, array.chunks), name
                np.testing.assert_array_equal(found[:], array[:], err_msg=name)
                assert found.attrs.asdict() == array.attrs.asdict()
    frame = xarray.open_zarr(fgbgpack.store(virtual))
    xarray.testing.assert_equal(frame, xarray.open_zarr(stored))
    np.testing.assert_array_equal(frame.image[3, 4:9, ::2].values, expected["image"][3, 4:9, ::2])


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("kind", ["plain", "banded"])
def test_the_store_lists_what_it_has_with_its_sizes(made, kind):
    virtual = made[kind][2]
    store = fgbgpack.store(virtual)
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


def test_parts_of_values_are_those_of_the_whole(made):
    store = fgbgpack.store(made["plain"][2])
    for key in ("image/c/2/0/0/0", "mask/zarr.json", "zarr.json", "sources/zarr.json"):
        whole = value(store, key)
        assert value(store, key, RangeByteRequest(3, 17)) == whole[3:17]
        assert value(store, key, OffsetByteRequest(40)) == whole[40:]
        assert value(store, key, SuffixByteRequest(9)) == whole[-9:]
        assert value(store, key, SuffixByteRequest(10**9)) == whole or key.startswith("sources")
        parts = [(key, RangeByteRequest(0, 2)), (key, None), ("nothing", None)]
        found = asyncio.run(store.get_partial_values(default_buffer_prototype(), parts))
        assert [None if part is None else part.to_bytes() for part in found] == [whole[:2], whole, None]


def test_what_is_not_there_is_not_there(made):
    store = fgbgpack.store(made["plain"][2])
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


def test_pixels_that_are_being_stored_do_not_show_in_the_store(made, tmp_path):
    _, stored, virtual = made["plain"]
    shutil.copytree(virtual, tmp_path / "it.zarr")
    shutil.copytree(stored / "image" / "c", tmp_path / "it.zarr" / "image" / "c")
    assert sorted(collect(fgbgpack.store(tmp_path / "it.zarr").list())) == sorted(
        collect(fgbgpack.store(virtual).list())
    )


def test_nothing_can_be_written_to_the_store(made):
    before = tree(made["plain"][2])
    store = fgbgpack.store(made["plain"][2])
    assert store.read_only
    assert not store.supports_writes
    assert not store.supports_deletes
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.set("image/c/0/0/0/0", default_buffer_prototype().buffer.from_bytes(b"1")))
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.delete("x/zarr.json"))
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_group(store, mode="r+")["y"][0] = 3
    assert tree(made["plain"][2]) == before


def test_a_store_can_be_pickled_and_compared(made):
    _, _, virtual = made["depth"]
    store = fgbgpack.store(virtual)
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert hash(again) == hash(store)
    assert store != fgbgpack.store(made["plain"][2])
    assert str(virtual) in str(store)
    # What is large, the other process reads for itself.
    assert len(pickle.dumps(store)) < 10_000
    np.testing.assert_array_equal(
        zarr.open_array(again, path="image", mode="r")[:], open_dataset(virtual).image[:]
    )


def test_the_store_of_a_stored_dataset_is_its_own(made):
    _, stored, _ = made["plain"]
    assert zarr.open_group(fgbgpack.store(stored), mode="r")["image"].shards is not None
    memory = MemoryStore()
    spec = made["plain"][0]
    create(memory, spec)
    assert fgbgpack.store(memory) is memory


def test_a_virtual_dataset_can_be_opened_from_its_store(made):
    _, stored, virtual = made["depth"]
    ds = open_dataset(fgbgpack.store(virtual))
    np.testing.assert_array_equal(ds.image[2:9], open_dataset(stored).image[2:9])


# --- from one to the other -------------------------------------------------------------------------


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("kind", KINDS)
def test_materialized_it_is_as_if_it_had_never_been_virtual(tmp_path, made, kind):
    _, stored, virtual = made[kind]
    before = tree(virtual)
    done = materialize(virtual, tmp_path / "other.zarr", workers=2)
    assert (done.samples, done.written, done.checked, done.virtual) == (N, N, N, False)
    assert_same(tmp_path / "other.zarr", stored)
    assert tree(virtual) == before
    shutil.copytree(virtual, tmp_path / "itself.zarr")
    done = materialize(tmp_path / "itself.zarr", workers=1)
    assert (done.written, done.total_bytes) == (N, sum(map(len, tree(stored).values())))
    assert_same(tmp_path / "itself.zarr", stored)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("kind", KINDS)
def test_virtualized_it_is_as_if_it_had_never_been_stored(tmp_path, made, kind):
    _, stored, virtual = made[kind]
    before = tree(stored)
    done = virtualize(stored, tmp_path / "v.zarr", workers=2)
    assert (done.samples, done.written, done.checked, done.virtual) == (N, 0, N, True)
    assert done.pixel_bytes == sum(len(before[name]) for name in before if name.split("/")[0] in ARRAYS)
    assert_same(tmp_path / "v.zarr", virtual)
    assert tree(stored) == before


@small_shards
def test_what_is_done_already_is_not_done_again(tmp_path, made):
    _, stored, virtual = made["depth"]
    for run, source, kind in ((materialize, virtual, stored), (virtualize, stored, virtual)):
        path = tmp_path / f"{run.__name__}.zarr"
        run(source, path)
        notices = []
        done = run(source, path, on_event=notices.append)
        assert (done.written, done.checked) == (0, 0)
        assert notices == [Notice(f"{path} is complete already.")]
        assert_same(path, kind)
    path = tmp_path / "materialize.zarr"
    assert materialize(path).written == 0


@small_shards
@pytest.mark.parametrize(("stage", "n"), [("samples", 0), ("samples", 1), ("checks", 0), ("checks", 1)])
def test_a_dataset_stays_virtual_and_whole_until_all_its_pixels_are_there(tmp_path, made, stage, n):
    _, stored, virtual = made["depth"]
    path = tmp_path / "it.zarr"
    shutil.copytree(virtual, path)
    with pytest.raises(KeyboardInterrupt):
        materialize(path, workers=1, on_event=Stop(stage, n))
    ds = open_dataset(path)
    assert ds.pixels == "recomposed"
    np.testing.assert_array_equal(ds.image[:], open_dataset(stored).image[:])
    assert "image" not in zarr.open_group(path, mode="r")
    materialize(path)
    assert_same(path, stored)


@small_shards
@pytest.mark.parametrize(
    ("kind", "stage", "n"),
    [("depth", "samples", 1), ("depth", "checks", 0), ("depth", "depth", 1), ("guided", "backgrounds", 0)],
)
def test_a_copy_that_was_interrupted_is_not_taken_for_whole_and_resumed(tmp_path, made, kind, stage, n):
    _, stored, virtual = made[kind]
    path = tmp_path / "it.zarr"
    with pytest.raises(KeyboardInterrupt):
        materialize(virtual, path, workers=1, on_event=Stop(stage, n))
    with pytest.raises(IncompleteDatasetError):
        open_dataset(path)
    for run in (materialize, virtualize):
        with pytest.raises(IncompleteDatasetError):
            run(path, tmp_path / "more.zarr")
    events = []
    materialize(virtual, path, on_event=events.append)
    assert Notice(f"Resuming {path}.") in events
    assert_same(path, stored)


@small_shards
def test_what_a_copy_began_create_can_finish(tmp_path, made):
    spec, stored, virtual = made["depth"]
    with pytest.raises(KeyboardInterrupt):
        materialize(virtual, tmp_path / "it.zarr", workers=1, on_event=Stop("depth", 1))
    create(tmp_path / "it.zarr", spec)
    assert_same(tmp_path / "it.zarr", stored)


@small_shards
def test_stale_shards_of_pixels_are_found_before_they_are_taken(tmp_path, made, pictures):
    _, stored, virtual = made["plain"]
    path = tmp_path / "it.zarr"
    shutil.copytree(virtual, path)
    create(tmp_path / "other.zarr", pictures.spec(chunk=5, seed=3))
    shutil.copytree(tmp_path / "other.zarr" / "mask" / "c", path / "mask" / "c")
    shutil.copytree(stored / "image" / "c", path / "image" / "c")
    with pytest.raises(DatasetError, match="mask/c") as caught:
        materialize(path)
    assert caught.value.problems[0].startswith("/mask[0, ")
    assert open_dataset(path).pixels == "recomposed"
    shutil.rmtree(path / "mask" / "c")
    materialize(path)
    assert_same(path, stored)


class TestRefused:
    def test_another_dataset_is_replaced_only_when_told_to(self, tmp_path, made, pictures, depth_model):
        _, stored, virtual = made["plain"]
        path = tmp_path / "there.zarr"
        for run, source, spec, words in (
            (materialize, virtual, pictures.spec(chunk=5, seed=9), ["seed"]),
            (virtualize, stored, pictures.spec(chunk=5, placements=2), ["placements", "pixels"]),
            (virtualize, stored, pictures.spec(chunk=5), ["pixels"]),
            (materialize, virtual, pictures.spec(chunk=5, depth=depth_of(depth_model)), ["depth"]),
        ):
            create(path, spec, overwrite=True)
            before = tree(path)
            with pytest.raises(RecipeMismatchError, match="--overwrite") as caught:
                run(source, path)
            assert all(word in "\n".join(caught.value.problems) for word in words)
            assert tree(path) == before
            run(source, path, overwrite=True)
            assert open_dataset(path).document["pixels"]["stored"] == (run is materialize)
            np.testing.assert_array_equal(open_dataset(path).image[:], open_dataset(stored).image[:])

    def test_a_dataset_is_not_replaced_by_itself(self, tmp_path, made):
        for run, path in ((materialize, made["plain"][2]), (virtualize, made["plain"][1])):
            before = tree(path)
            (tmp_path / run.__name__).symlink_to(path)
            for other in (path, tmp_path / run.__name__):
                with pytest.raises(SpecError, match="itself"):
                    run(path, other, overwrite=True)
            assert tree(path) == before

    def test_it_is_of_the_right_kind(self, tmp_path, made):
        _, stored, virtual = made["plain"]
        with pytest.raises(DatasetError, match="already"):
            materialize(stored, tmp_path / "it.zarr")
        with pytest.raises(DatasetError, match="already"):
            virtualize(virtual, tmp_path / "it.zarr")
        with pytest.raises(DatasetError, match="no such folder"):
            materialize(tmp_path / "nothing.zarr")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.txt").write_text("mine")
        with pytest.raises(DatasetError, match="other things"):
            virtualize(stored, tmp_path / "full", overwrite=True)
        with pytest.raises(SpecError, match="workers"):
            virtualize(stored, tmp_path / "it.zarr", workers=0)
        assert not (tmp_path / "it.zarr").exists()

    @pytest.mark.parametrize("part", ["sources/background", "sources/foreground", "x", "flip"])
    def test_a_recipe_that_is_damaged_is_not_gone_on_with(self, tmp_path, made, part):
        path = tmp_path / "it.zarr"
        shutil.copytree(made["plain"][2], path)
        array = zarr.open_array(path / part, mode="r+")
        first = (0,) * array.ndim
        array[first] = 1 - array[first] if part == "flip" else array[first] ^ 1
        with pytest.raises(DatasetError, match="damaged"):
            materialize(path)
        assert not (path / "image").exists()

    def test_pixels_that_are_not_of_the_recipe_are_named(self, tmp_path, made):
        _, stored, _ = made["banded"]
        path = tmp_path / "it.zarr"
        shutil.copytree(stored, path)
        images, masks = (zarr.open_array(path / name, mode="r+") for name in ARRAYS)
        was = images[30, 20, 2].tolist()
        images[30, 20, 2] = [1, 2, 3]
        masks[7, 9, 4] ^= 255
        images[7, 13, 32, 1] ^= 16
        with pytest.raises(DatasetError, match="not those of its recipe") as caught:
            virtualize(path, tmp_path / "v.zarr")
        lines = caught.value.problems
        assert [line.split(":")[0] for line in lines] == [
            "/image[7, 13, 32]",
            "/mask[7, 9, 4]",
            "/image[30, 20, 2]",
        ]
        assert lines[2].endswith(f"found [1, 2, 3], expected {was}")
        assert not (tmp_path / "v.zarr").exists()
        images[10:20] = 0
        with pytest.raises(DatasetError) as caught:
            virtualize(path, tmp_path / "v.zarr")
        assert len(caught.value.problems) == 6
        assert caught.value.problems[-1] == f"... 12 of {N} samples in all"

    def test_a_damaged_shard_is_named(self, tmp_path, made):
        _, stored, _ = made["plain"]
        path = tmp_path / "it.zarr"
        shutil.copytree(stored, path)
        shard = path / "mask" / "c" / "1" / "0" / "0"
        content = bytearray(shard.read_bytes())
        content[20] ^= 1
        shard.write_bytes(content)
        with pytest.raises(DatasetError, match="mask/c/1/0/0"):
            virtualize(path, tmp_path / "v.zarr")

    def test_damaged_depth_is_not_copied(self, tmp_path, made):
        _, stored, _ = made["depth"]
        path = tmp_path / "it.zarr"
        shutil.copytree(stored, path)
        (path / "depth" / "c" / "1" / "0" / "0").write_bytes(b"")
        with pytest.raises(DatasetError, match="depth/c/1/0/0"):
            virtualize(path, tmp_path / "v.zarr")
        with pytest.raises(IncompleteDatasetError):
            open_dataset(tmp_path / "v.zarr")


# --- killed ----------------------------------------------------------------------------------------


def convert(sender, source, target):
    """What each process does: store the pixels of a virtual dataset, or finish that."""
    for name, size in SHARDS.items():
        setattr(plan, name, size)
    materialize(source, target, workers=2, on_event=stages_to(sender))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("in_place", [True, False])
def test_killed_at_random_it_is_resumed_to_the_same_bytes(tmp_path, monkeypatch, depth_model, in_place):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["test_virtual", "test_resume", "PIL.Image", "jsonschema"])
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    for name, size in SHARDS.items():
        monkeypatch.setattr(plan, name, size)
    pictures = Pictures(tmp_path / "large", 6, 4, size=(96, 128), patch=(60, 40))
    spec = pictures.spec(width=96, height=64, foreground_height=40, placements=16, chunk=6)
    spec = DatasetSpec.from_dict({**spec.to_dict(), "depth": vars(depth_of(depth_model))})
    stored, virtual, path = (tmp_path / f"{name}.zarr" for name in ("stored", "virtual", "it"))
    create(stored, spec)
    create(virtual, spec, virtual=True)
    expected = tree(stored)
    source, target = (path, None) if in_place else (virtual, path)
    if in_place:
        shutil.copytree(virtual, path)
    dice = random.Random(0)
    kills = 0
    for stage in ("samples", "checks", "samples"):
        one = Run(processes, convert, source, target)
        if stage != "start":
            one.reach(stage)
        time.sleep(dice.uniform(0, 0.05))
        kills += one.kill()
        for name, content in tree(path).items() if path.exists() else ():
            if "/c/" in name and not name.endswith(".partial"):
                assert content == expected[name], name
        if in_place:
            assert len(open_dataset(path)) == 6 * 4 * 32
    one = Run(processes, convert, source, target)
    one.process.join()
    assert one.kill() is False
    assert kills > 0
    assert_same(path, stored)


# --- reports ---------------------------------------------------------------------------------------


def test_a_virtual_dataset_is_described_and_drawn(tmp_path, made):
    _, stored, virtual = made["guided"]
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

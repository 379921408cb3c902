"""An open dataset: samples in any order and any amount, here and far away, in this process and in others."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import SMALL_SHARDS, Pictures, assert_same_batch
from PIL import Image
from refusals import refused

from fgbgpack import Batch, create, open_dataset
from fgbgpack.dataset.geometry import Outlines
from fgbgpack.errors import DatasetError, SpecError

# --- reading samples -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index",
    [
        [5, 3, 3, 35, -1, 0],
        (7, -36),
        np.array([4, 4, 4], np.uint8),
        np.arange(36)[::-1],
        slice(30, 2, -5),
        [],
        np.arange(36) % 3 == 1,
        range(4, 9),
    ],
    ids=str,
)
@pytest.mark.parametrize("pixels", ["stored", "recomposed"])
def test_samples_come_in_the_order_that_they_are_asked_for(depth_dataset, everything, index, pixels):
    ds = open_dataset(depth_dataset, pixels=pixels)
    samples = index if isinstance(index, (slice, np.ndarray)) else np.array(index, np.int64)
    assert_same_batch(ds.read(index), everything, samples)
    assert_same_batch(ds[index], everything, samples)
    for threads in (1, 3):
        assert_same_batch(ds.read(index, threads=threads), everything, samples)


@pytest.mark.parametrize(
    "index",
    [36, -37, [0, 36], [-37], 2.0, [1.5], [[1]], [True, False], "image", None, True, torch.tensor(True)],
)
def test_what_names_no_samples_is_an_index_error(depth_dataset, index):
    ds = open_dataset(depth_dataset)
    with pytest.raises(IndexError):
        ds[index]
    with pytest.raises(IndexError):
        ds.read(index)


@pytest.mark.parametrize("pixels", ["stored", "recomposed"])
@pytest.mark.parametrize(
    "fields", [["image"], ["mask"], ["depth"], ["depth", "image"], ("mask", "mask"), [], "mask", None]
)
def test_only_the_fields_that_are_asked_for_are_read(depth_dataset, everything, fields, pixels):
    ds = open_dataset(depth_dataset, pixels=pixels)
    batch = ds.read([9, 2], fields)
    names = {fields} if isinstance(fields, str) else set(ds.fields if fields is None else fields)
    assert_same_batch(batch, everything, [9, 2], names)
    for name in {"image", "mask"} - names:
        with refused(SpecError, "field-missing", f"no {name}"):
            getattr(batch, name)
    assert (batch.depth is None) == ("depth" not in names)
    if pixels == "stored":
        decoded = {name: getattr(ds, name).chunks_decoded for name in ds.fields}
        assert {name for name, count in decoded.items() if count} == names


def test_fields_that_are_not_there_are_refused(depth_dataset, dataset):
    with refused(SpecError, "field-unknown", r"'colour'.* image, mask, depth"):
        open_dataset(depth_dataset).read([0], ["image", "colour"])
    ds = open_dataset(dataset)
    assert ds.fields == ("image", "mask")
    with refused(DatasetError, "depth-missing", r"plain\.zarr"):
        ds.read([0], ["depth"])


@pytest.mark.parametrize("pixels", ["stored", "recomposed"])
def test_samples_are_read_into_the_callers_arrays(depth_dataset, everything, pixels):
    ds = open_dataset(depth_dataset, pixels=pixels)
    first = ds.read([1, 2, 3])
    again = ds.read([30, 20, 10], out=first)
    for name, array in again.arrays.items():
        assert array is first.arrays[name]
    assert_same_batch(again, everything, [30, 20, 10])
    # Only what is among them is read; a part of a larger array is as good as one of its own.
    large = np.zeros((9, *everything["mask"].shape[1:]), np.uint8)
    batch = ds.read([7, 8, 8], out={"mask": large[2:5]})
    assert_same_batch(batch, everything, [7, 8, 8], ["mask"])
    np.testing.assert_array_equal(large[2:5], everything["mask"][[7, 8, 8]])
    assert not large[:2].any()
    assert not large[5:].any()


def test_arrays_that_cannot_be_filled_are_named_together(depth_dataset):
    ds = open_dataset(depth_dataset)
    frozen = np.zeros((2, 21, 33), np.uint8)
    frozen.flags.writeable = False
    wrong = {
        "image": np.zeros((2, 21, 33, 4), np.uint8)[..., :3],
        "mask": frozen,
        "depth": np.zeros((2, 21, 33), np.float32),
        "y": np.zeros(3, np.int32),
        "colour": np.zeros(2),
    }
    with refused(SpecError, "array-misfit") as caught:
        ds.read([0, 1], out=wrong)
    assert len(caught.value.problems) == 5
    for name in wrong:
        assert any(problem.startswith(f"{name}:") for problem in caught.value.problems)
    with refused(SpecError, "array-misfit", "image: it is asked for"):
        ds.read([0, 1], ["image", "mask"], out={"mask": np.zeros((2, 21, 33), np.uint8)})


def test_each_chunk_is_decoded_once_whatever_the_order(tmp_path, pictures):
    create(tmp_path / "it.zarr", pictures.spec(chunk=5), layout=SMALL_SHARDS)
    ds = open_dataset(tmp_path / "it.zarr", pixels="stored")
    order = np.random.default_rng(0).permutation(36)
    for threads in (1, 4):
        before = ds.image.chunks_decoded
        ds.read(order, threads=threads)
        assert ds.image.chunks_decoded - before == 8  # 36 samples in chunks of 5
    fresh = open_dataset(tmp_path / "it.zarr", pixels="stored")
    fresh.read([0, 34, 1, 33, 4])
    assert fresh.image.chunks_decoded == fresh.mask.chunks_decoded == 2
    assert fresh.depth.chunks_decoded == 0


def test_a_batch_says_what_it_holds(depth_dataset):
    batch = open_dataset(depth_dataset).read([3, 4], "mask")
    assert "mask uint8[2, 21, 33]" in repr(batch)
    again = pickle.loads(pickle.dumps(batch))
    np.testing.assert_array_equal(again.mask, batch.mask)
    assert isinstance(again, Batch)


def test_a_sample_says_where_its_foreground_is(depth_dataset):
    ds = open_dataset(depth_dataset)
    for number in (0, 17):
        sample, text = ds[number], repr(ds[number])
        for name in ("background", "foreground", "flip", "replica", "y", "x"):
            assert f"{name} {sample.arrays[name]}" in text
        assert "image uint8[21, 33, 3]" in text


def test_the_least_and_the_greatest_depth(depth_dataset, dataset, everything):
    ds = open_dataset(depth_dataset)
    np.testing.assert_array_equal(ds.depth_min, everything["depth"].min((1, 2)))
    np.testing.assert_array_equal(ds.depth_max, everything["depth"].max((1, 2)))
    assert open_dataset(dataset).depth_min is open_dataset(dataset).depth_max is None


@pytest.mark.slow
def test_a_batch_is_a_pytree_of_jax(depth_dataset):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    script = """
import sys, fgbgpack
ds = fgbgpack.open_dataset(sys.argv[1])
assert "jax" not in sys.modules
import jax
batch = ds.read([3, 5])
twice = jax.jit(lambda batch: jax.tree.map(lambda array: array + array, batch))(batch)
assert type(twice) is fgbgpack.Batch and list(twice.arrays) == list(batch.arrays)
assert (twice.y == 2 * batch.y).all() and (twice.mask == batch.mask + batch.mask).all()
"""
    command = [sys.executable, "-c", script, str(depth_dataset)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_all_of_it_in_memory(depth_dataset, everything):
    ds = open_dataset(depth_dataset)
    assert_same_batch(Batch(ds.to_numpy()), everything, slice(None))
    assert_same_batch(Batch(ds.to_numpy("mask", indices=[4, 2])), everything, [4, 2], ["mask"])


def test_pixels_are_of_one_of_three_kinds(dataset):
    assert open_dataset(dataset).pixels == open_dataset(dataset, pixels="recomposed").pixels == "recomposed"
    assert open_dataset(dataset, pixels="stored").pixels == "stored"
    assert open_dataset(dataset, pixels="recomposed").pixels == "recomposed"
    with refused(SpecError, "option-invalid", "'magic'.*'auto', 'stored' or 'recomposed'"):
        open_dataset(dataset, pixels="magic")


# --- which samples ---------------------------------------------------------------------------------


def test_samples_are_found_by_their_sources(dataset):
    ds = open_dataset(dataset)
    p = ds.placements
    for options, expected in (
        ({}, np.full(36, True)),
        ({"background": 1}, p.background == 1),
        ({"background": "b1.png"}, p.background == 1),
        ({"background": [0, "b2.png"], "foreground": "f0.png"}, (p.background != 1) & (p.foreground == 0)),
        ({"flip": True}, p.flip),
        ({"flip": False, "replica": [0, 2]}, ~p.flip & (p.replica != 1)),
        ({"replica": np.int64(2), "foreground": np.array([1])}, (p.replica == 2) & (p.foreground == 1)),
        ({"background": []}, np.full(36, False)),
    ):
        found = ds.where(**options)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, np.flatnonzero(expected))


def test_no_picture_is_read_to_find_samples(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy.zarr")
    shutil.rmtree(copy / "sources" / "background" / "c")
    assert len(open_dataset(copy).where(background=1, replica=[0, 2], flip=False)) == 4


def test_sources_that_are_not_there_are_named_together(dataset):
    with refused(SpecError, "sample-unknown") as caught:
        open_dataset(dataset).where(background=[0, 3, "b9.png"], foreground=-1, replica=[3])
    assert len(caught.value.problems) == 4
    assert "background: there is no 'b9.png', expected 0 to 2 or its file name" in str(caught.value)


def test_boxes_and_areas_are_those_of_the_masks(dataset, tmp_path):
    lopsided = Pictures(tmp_path / "pictures", foregrounds=3)
    alpha = np.zeros((24, 30, 4), np.uint8)
    alpha[3:9, 5:8] = 200
    alpha[20, 11] = 1
    Image.fromarray(alpha).save(lopsided.foregrounds / "f1.png")
    create(tmp_path / "it.zarr", lopsided.spec(placements=4))
    for path in (dataset, tmp_path / "it.zarr"):
        ds = open_dataset(path)
        bbox, area, visible = ds.bbox, ds.area, ds.visible
        assert ds.mask.chunks_decoded == 0
        assert (bbox.dtype, area.dtype, visible.dtype) == (np.int32, np.int64, np.float32)
        masks = ds.mask[:]
        for mask, box, count in zip(masks, bbox, area, strict=True):
            rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            assert box.tolist() == [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
            assert count == (mask > 127).sum()
        sources = ds.catalog().foreground[..., 3].astype(np.int64).sum(axis=(1, 2))
        expected = masks.astype(np.int64).sum(axis=(1, 2)) / sources[ds.placements.foreground]
        np.testing.assert_array_equal(visible, expected.astype(np.float32))


def test_a_foreground_of_which_nothing_is_seen_has_no_box():
    outlines = Outlines.of(np.zeros((1, 5, 4, 4), np.uint8), np.array([[5, 3]], np.int32))
    assert not outlines.box.any()
    assert outlines.area.tolist() == outlines.visible.tolist() == [0]


# --- processes, threads and files ------------------------------------------------------------------


def open_files():
    """What this process has open, each file as often as it is."""
    found = []
    for entry in DESCRIPTORS.iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.append(str(entry.readlink()))
    return sorted(found)


DESCRIPTORS = Path("/proc/self/fd")
needs_proc = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc")


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("how", ["close", "with", "forget"])
def test_datasets_leave_no_file_open(depth_dataset, how):
    open_dataset(depth_dataset)[0]
    gc.collect()
    before = open_files()
    for i in range(100):
        ds = open_dataset(depth_dataset)
        if i % 10 == 0:
            _ = ds[i % 36], ds.placements
        if how == "close":
            ds.close()
        elif how == "with":
            with ds:
                pass
        else:
            del ds
    assert open_files() == before


@needs_proc
def test_a_closed_dataset_has_no_file_open_and_opens_them_again_when_it_is_used(depth_dataset, everything):
    ds = open_dataset(depth_dataset)
    before = open_files()
    with ds:
        assert_same_batch(ds.read([3, 30]), everything, [3, 30])
        assert len(open_files()) > len(before)
    assert open_files() == before
    assert_same_batch(ds.read([3, 30]), everything, [3, 30])
    ds.close()
    ds.close()
    assert open_files() == before


def check_in_process(ds, failed):
    try:
        expected = [ds.read([i, 35 - i]).image.sum() for i in range(0, 36, 7)]
        found = [open_dataset(ds.path)[[i, 35 - i]].image.sum() for i in range(0, 36, 7)]
        if expected != found or ds.read([3], threads=4).depth is None:
            failed.set()
    except BaseException:
        failed.set()
        raise


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.parametrize("pixels", ["stored", "recomposed"])
def test_ten_forked_workers_read_right_after_their_parent(depth_dataset, pixels):
    ds = open_dataset(depth_dataset, pixels=pixels)
    ds.read(range(36), threads=4)
    context = multiprocessing.get_context("fork")
    failed = context.Event()
    with warnings.catch_warnings():
        # Newer versions of Python warn of forks in a process with threads: that is what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        workers = [context.Process(target=check_in_process, args=(ds, failed)) for _ in range(10)]
        for worker in workers:
            worker.start()
    ds.read(range(36), threads=4)
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 10
    assert not failed.is_set()


@pytest.mark.parametrize("pixels", ["stored", "recomposed"])
@pytest.mark.parametrize("used", [False, True])
def test_it_can_be_pickled(depth_dataset, everything, pixels, used):
    ds = open_dataset(depth_dataset, pixels=pixels)
    if used:
        _ = ds[0], ds.bbox, ds.background_depth
    pickled = pickle.dumps(ds)
    assert len(pickled) < 20_000, "what can be read again is left out"
    again = pickle.loads(pickled)
    assert again.pixels == pixels
    assert_same_batch(again.read([8, 1]), everything, [8, 1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds.mask))[5], everything["mask"][5])


@pytest.mark.slow
def test_a_process_that_begins_with_nothing_reads_what_it_is_sent(depth_dataset, everything, tmp_path):
    script = "import pickle, sys\nds = pickle.load(open(sys.argv[1], 'rb'))\nprint(ds[7].image.sum())"
    ds = open_dataset(depth_dataset)
    _ = ds[0]
    (tmp_path / "pickled").write_bytes(pickle.dumps(ds))
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "pickled"], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) == everything["image"][7].sum()


@pytest.mark.slow
@pytest.mark.parametrize("pixels", ["stored", "recomposed"])
def test_threads_share_it(depth_dataset, everything, pixels):
    ds = open_dataset(depth_dataset, pixels=pixels)
    wrong = []

    def work(seed):
        random = np.random.default_rng(seed)
        for _ in range(20):
            samples = random.integers(0, 36, 5)
            try:
                assert_same_batch(ds.read(samples, threads=int(random.integers(1, 4))), everything, samples)
            except BaseException as exc:
                wrong.append(exc)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

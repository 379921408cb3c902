"""An open dataset: samples in any order and any amount, here and far away, in this process and in others."""

from __future__ import annotations

import contextlib
import gc
import http.server
import itertools
import multiprocessing
import pickle
import re
import shutil
import subprocess
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from builders import SMALL_SHARDS, Pictures
from PIL import Image
from refusals import refused
from zarr.storage import MemoryStore

from fgbgpack import Batch, create, open_dataset
from fgbgpack.dataset import reader as reader_module
from fgbgpack.dataset.geometry import Outlines
from fgbgpack.document import PLACEMENTS
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.storage.layout import LayoutPolicy


@pytest.fixture(scope="module")
def everything(depth_dataset):
    """All arrays of the dataset with depth, as zarr-python reads them."""
    group = zarr.open_group(depth_dataset, mode="r")
    return {name: group[name][...] for name in ("image", "mask", "depth", *PLACEMENTS)}


def same(batch, everything, samples, fields=("image", "mask", "depth")):
    assert set(batch.arrays) == {*fields, *PLACEMENTS}
    for name, array in batch.arrays.items():
        expected = everything[name][samples]
        assert array.dtype == expected.dtype, name
        np.testing.assert_array_equal(array, expected, err_msg=name)


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
    same(ds.read(index), everything, samples)
    same(ds[index], everything, samples)
    for threads in (1, 3):
        same(ds.read(index, threads=threads), everything, samples)


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
    same(batch, everything, [9, 2], names)
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
    same(again, everything, [30, 20, 10])
    # Only what is among them is read; a part of a larger array is as good as one of its own.
    large = np.zeros((9, *everything["mask"].shape[1:]), np.uint8)
    batch = ds.read([7, 8, 8], out={"mask": large[2:5]})
    same(batch, everything, [7, 8, 8], ["mask"])
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
    ds = open_dataset(tmp_path / "it.zarr")
    order = np.random.default_rng(0).permutation(36)
    for threads in (1, 4):
        before = ds.image.chunks_decoded
        ds.read(order, threads=threads)
        assert ds.image.chunks_decoded - before == 8  # 36 samples in chunks of 5
    fresh = open_dataset(tmp_path / "it.zarr")
    fresh.read([0, 34, 1, 33, 4])
    assert fresh.image.chunks_decoded == fresh.mask.chunks_decoded == 2
    assert fresh.depth.chunks_decoded == 0


def test_a_batch_says_what_it_holds(depth_dataset):
    batch = open_dataset(depth_dataset).read([3, 4], "mask")
    assert "mask uint8[2, 21, 33]" in repr(batch)
    again = pickle.loads(pickle.dumps(batch))
    np.testing.assert_array_equal(again.mask, batch.mask)
    assert isinstance(again, Batch)


def test_all_of_it_in_memory(depth_dataset, everything):
    ds = open_dataset(depth_dataset)
    same(Batch(ds.to_numpy()), everything, slice(None))
    same(Batch(ds.to_numpy("mask", indices=[4, 2])), everything, [4, 2], ["mask"])


def test_pixels_are_of_one_of_three_kinds(dataset):
    assert open_dataset(dataset).pixels == open_dataset(dataset, pixels="stored").pixels == "stored"
    assert open_dataset(dataset, pixels="recomposed").pixels == "recomposed"
    with refused(SpecError, "option-invalid", "'magic'.*'auto', 'stored' or 'recomposed'"):
        open_dataset(dataset, pixels="magic")


# --- batches ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory, pictures):
    """90 samples of 3 backgrounds in chunks of 5, without depth."""
    path = tmp_path_factory.mktemp("datasets") / "many.zarr"
    create(path, pictures.spec(placements=15, flip=False, chunk=5), layout=SMALL_SHARDS)
    return path


def number(batch):
    """The samples of a batch of ``many``, by their placements."""
    return (batch.background * 30 + batch.foreground * 15 + batch.replica).tolist()


@pytest.mark.parametrize("size", [1, 7, 30, 64, 90, 200])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("reuse", [False, True])
def test_batches_hold_every_sample_once(many, size, shuffle, reuse):
    ds = open_dataset(many)
    images, masks = ds.image[:], ds.mask[:]
    order, sizes = [], []
    for batch in ds.batches(size, shuffle=shuffle, window=3, reuse=reuse):
        samples = number(batch)
        np.testing.assert_array_equal(batch.image, images[samples])
        np.testing.assert_array_equal(batch.mask, masks[samples])
        order += samples
        sizes.append(len(samples))
    assert sorted(order) == list(range(90))
    assert (order == list(range(90))) is not shuffle
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    full = list(ds.batches(size, shuffle=shuffle, window=3, drop_last=True))
    assert [len(batch.y) for batch in full] == [size] * (90 // size)


def test_the_order_depends_on_the_seed_and_the_epoch_and_nothing_else(many):
    ds = open_dataset(many)

    def order(size=8, **options):
        return [
            i for batch in ds.batches(size, shuffle=True, fields="mask", **options) for i in number(batch)
        ]

    first = order()
    assert order() == order(31) == order(reuse=True) == first
    others = [order(seed=1), order(epoch=1), order(seed=1, epoch=1)]
    for one, other in itertools.combinations([first, *others], 2):
        assert one != other
    recomposed = open_dataset(many, pixels="recomposed")
    assert [i for b in recomposed.batches(8, shuffle=True) for i in number(b)] == first


@pytest.mark.parametrize("size", [4, 7, 64])
def test_batches_decode_each_chunk_once(many, size):
    for options in ({"shuffle": True, "window": 4}, {"window": 4}, {"shuffle": True}):
        ds = open_dataset(many)
        assert sum(len(batch.y) for batch in ds.batches(size, **options)) == 90
        assert ds.image.chunks_decoded == ds.mask.chunks_decoded == 18


def test_batches_of_some_samples(many):
    ds = open_dataset(many)
    some = ds.where(background=[0, 2], flip=False)
    for options in ({}, {"shuffle": True, "window": 2}):
        found = [i for batch in ds.batches(7, indices=some, **options) for i in number(batch)]
        assert sorted(found) == some.tolist()
    backwards = [i for b in ds.batches(4, indices=slice(None, None, -1)) for i in number(b)]
    assert backwards == list(range(90))[::-1]
    assert list(ds.batches(4, indices=[])) == list(ds.batches(4, indices=[], shuffle=True)) == []


def test_batches_that_are_kept_stay_as_they_are(many):
    ds = open_dataset(many)
    images = ds.image[:]
    kept = list(ds.batches(7, shuffle=True, window=2))
    parts = [batch.image[0, ::2] for batch in ds.batches(7, shuffle=True, window=2)]
    for batch, part in zip(kept, parts, strict=True):
        np.testing.assert_array_equal(batch.image, images[number(batch)])
        np.testing.assert_array_equal(part, batch.image[0, ::2])


def test_memory_of_batches_is_used_again_when_nobody_has_them_any_more(many):
    addresses = set()
    for batch in open_dataset(many).batches(10, shuffle=True, window=2, drop_last=True):
        addresses.add(batch.image.__array_interface__["data"][0])
        del batch
    assert len(addresses) <= 2
    reused = open_dataset(many).batches(10, window=2, reuse=True)
    assert len({batch.image.__array_interface__["data"][0] for batch in reused}) == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"size": 0}, "option-invalid"),
        ({"window": 0, "shuffle": True}, "option-invalid"),
        ({"seed": -1, "shuffle": True}, "option-invalid"),
        ({"fields": ["x"]}, "field-unknown"),
    ],
)
def test_batches_that_cannot_be_are_refused_when_they_are_asked_for(many, options, code):
    with refused(SpecError, code):
        open_dataset(many).batches(**{"size": 4} | options)


def test_memory_is_that_of_what_is_asked_for(tmp_path):
    """One shard of 64 chunks: neither one sample nor an epoch takes memory for all of it."""
    large = Pictures(tmp_path / "large", backgrounds=2, foregrounds=1, size=(64, 64), patch=(20, 20))
    spec = large.spec(width=64, height=64, placements=320, flip=False, chunk=10)
    create(tmp_path / "it.zarr", spec, layout=LayoutPolicy(min_shards=1))
    ds = open_dataset(tmp_path / "it.zarr")
    assert ds.image.shards[0] == 640
    sample_bytes = 64 * 64 * 4
    chunk_bytes = 10 * sample_bytes
    ds.read([3])
    for read, most in (
        (lambda: ds.read([555]), 2 * chunk_bytes),
        (lambda: ds.image[100, 3:9, ::2], 2 * chunk_bytes),
        (
            lambda: [None for _ in ds.batches(8, shuffle=True, window=2)],
            3 * 2 * chunk_bytes + 3 * chunk_bytes,
        ),
    ):
        tracemalloc.start()
        read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most + 100_000
        assert peak < 640 * sample_bytes / 4


def test_windows_of_large_pictures_are_small(many, monkeypatch):
    """By default a window takes a bounded amount of memory: here that of 12 samples, so of two chunks."""
    monkeypatch.setattr(reader_module, "_WINDOW_BYTES", 12 * 21 * 33 * 6)
    ds = open_dataset(many)
    seen = [i // 5 for batch in ds.batches(5, shuffle=True) for i in number(batch)]
    for start in range(0, 90, 10):
        assert len(set(seen[start : start + 10])) == 2
    # Not even one chunk: it is read in parts.
    monkeypatch.setattr(reader_module, "_WINDOW_BYTES", 2 * 21 * 33 * 6)
    assert sorted(i for batch in ds.batches(1, shuffle=True) for i in number(batch)) == list(range(90))


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
        same(ds.read([3, 30]), everything, [3, 30])
        assert len(open_files()) > len(before)
    assert open_files() == before
    same(ds.read([3, 30]), everything, [3, 30])
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
    same(again.read([8, 1]), everything, [8, 1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds.mask))[5], everything["mask"][5])


def test_a_process_that_begins_with_nothing_reads_what_it_is_sent(depth_dataset, everything, tmp_path):
    script = "import pickle, sys\nds = pickle.load(open(sys.argv[1], 'rb'))\nprint(ds[7].image.sum())"
    ds = open_dataset(depth_dataset)
    _ = ds[0]
    (tmp_path / "pickled").write_bytes(pickle.dumps(ds))
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "pickled"], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) == everything["image"][7].sum()


@pytest.mark.parametrize("pixels", ["stored", "recomposed"])
def test_threads_share_it(depth_dataset, everything, pixels):
    ds = open_dataset(depth_dataset, pixels=pixels)
    wrong = []

    def work(seed):
        random = np.random.default_rng(seed)
        for _ in range(20):
            samples = random.integers(0, 36, 5)
            try:
                same(ds.read(samples, threads=int(random.integers(1, 4))), everything, samples)
            except BaseException as exc:
                wrong.append(exc)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- far away --------------------------------------------------------------------------------------


class Log(list):
    """The path and the size of each answer."""

    fails = False


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Files below a folder, whole or in ranges, and a note of each request."""

    def __init__(self, *args, log, **options):
        self._log = log
        super().__init__(*args, **options)

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if self._log.fails:
            self.send_error(500)
            return
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, len(content)
        if asked:
            first, last = asked.groups()
            if first:
                start, stop = int(first), min(int(last) + 1 if last else stop, stop)
            else:
                start = max(0, stop - int(last))
        part = content[start:stop]
        self._log.append((self.path.lstrip("/"), len(part)))
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def do_HEAD(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def served(depth_dataset):
    """The dataset with depth on a server of this machine: its address, and what was asked of it."""
    log = Log()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Ranges(*args, log=log, directory=str(depth_dataset.parent))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{depth_dataset.name}", log
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_dataset_on_a_server_is_read_in_ranges(served, depth_dataset, everything):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    url, log = served
    ds = open_dataset(url)
    assert not any("/c/" in path for path, _ in log), "opening reads no data"
    same(ds.read([17, 3, 30]), everything, [17, 3, 30])
    log.clear()
    same(ds.read([16, 4]), everything, [16, 4])
    asked = [path.removeprefix(f"{depth_dataset.name}/") for path, _ in log]
    assert asked, "other chunks than before"
    assert not any("zarr.json" in path or path.split("/")[0] in PLACEMENTS for path in asked)
    whole = {path: (depth_dataset / path).stat().st_size for path in asked}
    for path, (_, size) in zip(asked, log, strict=True):
        assert size < whole[path], "only the chunks that are needed, and no index again"
    samples = ds.where(background="b1.png")
    same(ds.read(samples), everything, samples)
    again = pickle.loads(pickle.dumps(ds))
    same(again.read([2]), everything, [2])
    np.testing.assert_array_equal(ds.depth[5, 3:9], everything["depth"][5, 3:9])
    same(open_dataset(url, pixels="recomposed").read([9, 1]), everything, [9, 1])


def test_a_server_that_cannot_be_written_refuses_a_split(served):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    with refused(DatasetError, "io-failed", re.escape(served[0])):
        open_dataset(served[0]).save_split("it", {"all": 1.0})


def test_a_server_that_fails_is_an_error_that_says_why(served):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    ds = open_dataset(served[0])
    _ = ds.placements
    served[1].fails = True
    for action in (lambda: ds[0], lambda: ds.image[3], lambda: open_dataset(served[0])):
        with refused(DatasetError, "io-failed", "500"):
            action()


def test_a_server_without_a_dataset_is_an_error(served):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    with refused(DatasetError, "dataset-missing", "nothing"):
        open_dataset(f"{served[0]}/nothing")


@pytest.mark.parametrize("pixels", ["stored", "recomposed"])
def test_a_dataset_in_the_memory_of_fsspec_is_read_alike(depth_dataset, everything, pixels):
    fsspec = pytest.importorskip("fsspec", reason="a URL needs fsspec, which is not a dependency")
    memory = fsspec.filesystem("memory")
    memory.put(f"{depth_dataset}/", "/far/away.zarr/", recursive=True)
    try:
        ds = open_dataset("memory://far/away.zarr", pixels=pixels)
        order = np.random.default_rng(1).permutation(36)
        same(ds.read(order), everything, order)
        found = list(ds.batches(8, shuffle=True, window=2))
        assert sum(len(batch.y) for batch in found) == 36
        ds.save_split("halves", {"a": 0.5, "b": 0.5}, by="sample")
        assert [*open_dataset("memory://far/away.zarr").splits] == ["halves"]
    finally:
        memory.rm("/far", recursive=True)


def test_a_store_in_memory_is_pickled_with_what_it_holds(pictures):
    store = MemoryStore()
    create(store, pictures.spec())
    ds = open_dataset(store)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds))[3].image, ds[3].image)


def test_a_dataset_that_is_moved_while_it_is_open_is_an_error_that_says_so(depth_dataset, tmp_path):
    path = shutil.copytree(depth_dataset, tmp_path / "copy.zarr")
    ds = open_dataset(path)
    path.rename(tmp_path / "elsewhere.zarr")
    with refused(DatasetError, "array-missing", r"copy\.zarr"):
        ds[0]

"""Stores with connections, threads or files of their own, in processes that are forked or sent a dataset."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from builders import assert_same_batch
from refusals import refused
from test_remote import served  # noqa: F401 a fixture
from zarr.storage import FsspecStore, LocalStore, ObjectStore, WrapperStore, ZipStore

from fgbgpack import open_dataset
from fgbgpack.errors import DatasetError
from fgbgpack.storage.processes import is_native
from fgbgpack.storage.reading.checks import ChunkChecks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def zipped(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return target


@pytest.fixture(params=["http", "zip", "wrapped zip", "memory of fsspec"])
def opened(request, depth_dataset, tmp_path):
    """A dataset in a store that has something of its process."""
    if request.param == "http":
        pytest.importorskip("aiohttp", reason="fsspec needs it for http")
        return open_dataset(request.getfixturevalue("served")[0])
    if request.param.endswith("zip"):
        store = ZipStore(zipped(depth_dataset, tmp_path / "it.zip"), mode="r")
        return open_dataset(WrapperStore(store) if request.param.startswith("wrapped") else store)
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.put(str(depth_dataset), f"/{tmp_path.name}", recursive=True)
    return open_dataset(FsspecStore.from_url(f"memory://{tmp_path.name}", read_only=True))


def read_all(ds, results, number):
    """The sums of all samples, read in an order of its own."""
    order = np.random.default_rng(number).permutation(36)
    sums = np.zeros(36, np.int64)
    for some in np.array_split(order, 6):
        sums[some] = ds.read(some).image.sum((1, 2, 3), dtype=np.int64)
    results.put(sums.tolist())


def test_forked_processes_read_while_their_parent_does(opened, everything):
    expected = everything["image"].sum((1, 2, 3), dtype=np.int64).tolist()
    opened.read([3, 9])
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    workers = [context.Process(target=read_all, args=(opened, results, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    read_all(opened, results, 9)
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert [results.get() for _ in range(5)] == [expected] * 5
    assert_same_batch(opened.read([8, 1]), everything, [8, 1])


@pytest.mark.parametrize(
    ("opened", "method"), [("http", "fork"), ("zip", "fork"), ("http", "forkserver")], indirect=["opened"]
)
def test_workers_of_loaders_read_them(opened, method):
    make_loader = pytest.importorskip("fgbgpack.torch").make_loader
    opened.read([3, 9])
    loader = make_loader(opened, 4, workers=2, start_method=method)
    assert sorted(i for batch in loader for i in batch["index"].tolist()) == list(range(36))


def in_child(action):
    """What a forked process says: that it has ``read``, or the ``code`` of its DatasetError, or nothing."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            action()
            os.write(writing, b"read")
        except DatasetError as exc:
            os.write(writing, exc.code.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


class TestNative:
    @pytest.fixture
    def native(self, depth_dataset):
        obstore = pytest.importorskip("obstore.store", reason="obstore is in the extra cloud")
        return open_dataset(ObjectStore(obstore.LocalStore(str(depth_dataset)), read_only=True))

    def test_a_forked_process_reads_them(self, native, depth_dataset, everything):
        unused = ObjectStore(native.store.store.store, read_only=True)
        assert_same_batch(native.read([3, 9]), everything, [3, 9])

        def read():
            for ds in (native, open_dataset(unused), open_dataset(depth_dataset)):
                assert_same_batch(ds.read([5, 30]), everything, [5, 30])
            # A process that such a one forks.
            assert in_child(lambda: assert_same_batch(native.read([8]), everything, [8])) == "read"

        assert in_child(read) == "read"
        assert_same_batch(pickle.loads(pickle.dumps(native)).read([8, 1]), everything, [8, 1])

    def test_a_forked_process_that_cannot_says_so_and_does_not_wait_for_ever(self, depth_dataset):
        memory = pytest.importorskip("obstore.store").MemoryStore()
        for path in filter(Path.is_file, depth_dataset.rglob("*")):
            memory.put(str(path.relative_to(depth_dataset)), path.read_bytes())
        ds = open_dataset(ObjectStore(memory))
        assert in_child(lambda: ds.read([5])) == "store-forked"

    def test_loaders_do_not_fork(self, native, everything):
        make_loader = pytest.importorskip("fgbgpack.torch").make_loader
        native.read([3, 9])
        loader = make_loader(native, 4, workers=2)
        assert loader.multiprocessing_context.get_start_method() == "forkserver"
        seen = {}
        for batch in loader:
            for index, image in zip(batch["index"].tolist(), batch["image"], strict=True):
                seen[index] = image.permute(1, 2, 0).numpy()
        np.testing.assert_array_equal([seen[i] for i in range(36)], everything["image"])

    def test_which_stores_are(self, native, depth_dataset, tmp_path):
        assert is_native(native.store.store)
        assert is_native(WrapperStore(native.store.store))
        assert not is_native(LocalStore(depth_dataset))
        assert not is_native(ZipStore(tmp_path / "it.zip"))


def test_a_lock_that_was_held_when_a_process_was_forked_does_not_hold_it_up(depth_dataset):
    ds = open_dataset(depth_dataset)
    checks = ds.store.checks("image")
    assert isinstance(checks, ChunkChecks)
    with checks._parts._lock:
        assert in_child(lambda: checks.expected(0)) == "read"


def test_stores_that_were_only_made_are_opened(depth_dataset, everything, tmp_path):
    zipped(depth_dataset, tmp_path / "it.zip")
    assert_same_batch(open_dataset(ZipStore(tmp_path / "it.zip"))[[3, 5]], everything, [3, 5])
    with refused(DatasetError, "dataset-missing", "none.zip"):
        open_dataset(ZipStore(tmp_path / "none.zip"))
    (tmp_path / "not.zip").write_bytes(b"this is no archive")
    with refused(DatasetError, "io-failed", "not.zip"):
        open_dataset(ZipStore(tmp_path / "not.zip"))

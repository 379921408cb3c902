"""Readers of arrays in every kind of store, damaged or not, on threads and in processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import zarr
from children import put_samples
from refusals import refused
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore, ZipStore
from zarr_arrays import pictures, reader_of, same, stored_of, write

from fgbgpack.errors import DatasetError
from fgbgpack.storage.reading import chunks as chunks_module
from fgbgpack.storage.reading import open_files as open_files_module
from fgbgpack.storage.reading import read_together
from fgbgpack.storage.reading import reader as reader_module
from fgbgpack.storage.reading import remote as remote_module
from fgbgpack.storage.reading.threads import Helpers
from fgbgpack.storage.sharding import index_bytes, read_index

# --- damage ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_damaged_byte_is_an_error_that_says_where(tmp_path):
    array, data = write(LocalStore(tmp_path), (12, 7, 5), (4, 7, 5), (8, 7, 5))
    path = tmp_path / "image/c/0/0/0"
    whole = path.read_bytes()
    index = read_index(whole, len(whole), (2, 1, 1), "it").reshape(-1, 2).tolist()
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        inner = next(
            (i for i, (offset, size) in enumerate(index) if offset <= position < offset + size), None
        )
        name = "Shard" if inner is None else f"Chunk {inner} of shard"
        reader = reader_of(array, "lobby.zarr")
        with refused(DatasetError, "checksum-wrong", rf"^{name} lobby\.zarr/image/c/0/0/0 "):
            reader.read(range(12))
        same(reader.read([9]), data[[9]])
    path.write_bytes(whole)
    same(reader.read(range(12)), data)


@pytest.mark.parametrize("wrap", [lambda store: store, WrapperStore])
def test_a_shard_that_is_cut_short_is_an_error_that_says_where(tmp_path, wrap):
    array, _ = write(LocalStore(tmp_path), (12, 7, 5), (4, 7, 5), (8, 7, 5))
    path = tmp_path / "image/c/0/0/0"
    whole = path.read_bytes()
    array = zarr.open_array(wrap(array.store), path="image")
    early = reader_of(array, "lobby.zarr")
    early.read([0])
    for length in (0, 10, index_bytes(2) - 1, index_bytes(2), 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        code = "shard-cut-short" if length < index_bytes(2) else "checksum-wrong"
        with refused(DatasetError, code, r"^Shard lobby\.zarr/image/c/0/0/0 "):
            reader_of(array, "lobby.zarr").read([0])
    path.write_bytes(whole[:10])
    code = "checksum-wrong" if isinstance(array.store, LocalStore) else "shard-cut-short"
    with refused(DatasetError, code, r"^Chunk 1 of shard lobby\.zarr/image/c/0/0/0 "):
        early.read([5])


def test_a_shard_that_cannot_be_read_is_an_error_that_says_why(tmp_path):
    array, _ = write(LocalStore(tmp_path), (12, 7, 5), (4, 7, 5), (8, 7, 5))
    shard = tmp_path / "image/c/0/0/0"
    shard.unlink()
    shard.mkdir()
    with refused(DatasetError, "io-failed", r"^Chunk 0 of shard lobby\.zarr/image/c/0/0/0 .*irector"):
        reader_of(array, "lobby.zarr").read([1])


class Failing(WrapperStore):
    """A store far away whose line is cut."""

    async def get(self, key, prototype, byte_range=None):
        if "/c/1/" in key:
            raise ConnectionError("the line is cut")
        return await super().get(key, prototype, byte_range)


def test_a_store_that_fails_is_an_error_that_says_why():
    array, data = pictures()
    reader = reader_of(zarr.open_array(Failing(array.store), path="image"), "lobby.zarr")
    same(reader.read([0]), data[[0]])
    with refused(DatasetError, "store-cut-off", r"hard lobby\.zarr/image/c/.*the line is cut"):
        reader.read(range(23))
    same(reader.read([0]), data[[0]])


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_on_any_thread_ends_the_read_and_not_the_reader(tmp_path, threads):
    array, data = write(LocalStore(tmp_path), (40, 7, 5), (1, 7, 5), (4, 7, 5))
    path = tmp_path / "image/c/7/0/0"
    whole = path.read_bytes()
    path.write_bytes(whole[:3] + b"\xff" + whole[4:])
    reader = reader_of(array)
    for _ in range(20):
        with refused(DatasetError, "checksum-wrong", "Chunk 0 of shard it/image/c/7"):
            reader.read(range(40), threads=threads)
        same(reader.read([27, 29]), data[[27, 29]])
    path.write_bytes(whole)
    same(reader.read(range(40), threads=threads), data)


def test_helpers_do_every_task_once_and_rest_before_an_error_is_told():
    helpers = Helpers()
    for threads in (1, 2, 7, 40):
        done = []
        helpers.run(range(100), done.append, threads)
        assert sorted(done) == list(range(100))
        helpers.run([], done.append, threads)
        at_work = threading.Semaphore(0)

        def fail(task, at_work=at_work):
            at_work.release()
            if task == 50:
                raise KeyError(task)
            at_work.acquire()

        with pytest.raises(KeyError):
            helpers.run(range(100), fail, threads)
        assert at_work._value == 1


# --- stores ----------------------------------------------------------------------------------------


class Ranged(WrapperStore):
    """A store that notes how many bytes are asked for."""

    asked: list

    def __init__(self, store):
        super().__init__(store)
        self.asked = []

    async def get(self, key, prototype, byte_range=None):
        value = await super().get(key, prototype, byte_range)
        if "/c/" in key:
            self.asked.append((key, byte_range is not None, 0 if value is None else len(value)))
        return value


def test_of_a_store_far_away_only_ranges_are_read_and_each_index_once():
    array, data = write(MemoryStore(), (320, 7, 5), (4, 7, 5), (32, 7, 5))
    store = Ranged(array.store)
    reader = reader_of(zarr.open_array(store, path="image"))
    samples = [5, 70, 6, 319]
    same(reader.read(samples), data[samples])
    assert len(store.asked) == 3 + 3
    same(reader.read([9, 75, 300]), data[[9, 75, 300]])
    assert len(store.asked) == 3 + 3 + 3
    whole = {key: len(value) for key, value in array.store._store_dict.items()}
    assert all(ranged and length < whole[key] / 4 for key, ranged, length in store.asked)
    same(reader.read([299]), data[[299]])  # of a chunk that was read last
    assert len(store.asked) == 3 + 3 + 3 + (299 // 4 != 300 // 4)
    same(reader.read(range(320)), data)


def copied(source, store):
    async def copy():
        for key, value in source._store_dict.items():
            await store.set(key, value)

    zarr.core.sync.sync(copy())
    return store


@pytest.fixture(params=["memory", "local", "zip", "fsspec"])
def any_store(request, tmp_path):
    array, data = pictures(missing=range(8, 16))
    make = {
        "memory": MemoryStore,
        "local": lambda: LocalStore(tmp_path / "store"),
        "zip": lambda: ZipStore(tmp_path / "store.zip", mode="w"),
        "fsspec": lambda: FsspecStore.from_url(f"memory://{tmp_path.name}"),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = copied(array.store, make[request.param]())
        if request.param == "zip":
            store.close()
            store = ZipStore(tmp_path / "store.zip", mode="r")
    yield zarr.open_array(store, path="image", mode="r"), data
    store.close()


def test_every_store_gives_the_same(any_store):
    array, data = any_store
    stored = stored_of(array)
    samples = np.random.default_rng(0).integers(0, 23, 50)
    for threads in (1, 3):
        same(stored.reader.read(samples, threads=threads), data[samples])
    same(stored[:], data)
    same(stored[::-2, 1:6:2, -1], data[::-2, 1:6:2, -1])


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts files as Linux does")
def test_few_files_stay_open_and_none_when_the_reader_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(open_files_module, "_MOST_FILES", 5)
    array, data = write(LocalStore(tmp_path), (100, 3, 2), (2, 3, 2), (2, 3, 2))
    open_files_module._recent.let_go_of_all()  # of other tests
    before = open_files()
    for _ in range(30):
        reader = reader_of(array)
        same(reader.read(range(100), threads=4), data)
        assert open_files() <= before + 5
        del reader
        assert open_files() == before


def test_indexes_beyond_those_kept_are_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks_module, "KEPT_INDEXES", 3)
    monkeypatch.setattr(remote_module, "KEPT_INDEXES", 3)
    monkeypatch.setattr(open_files_module, "_MOST_FILES", 2)
    array, data = write(LocalStore(tmp_path), (40, 3, 2), (2, 3, 2), (4, 3, 2))
    for store in (array.store, WrapperStore(array.store)):
        reader = reader_of(zarr.open_array(store, path="image"))
        for i in np.random.default_rng(0).integers(0, 40, 100):
            same(reader.read([i]), data[[i]])


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts files as Linux does")
def test_readers_of_many_arrays_hold_few_files_open_together(tmp_path, monkeypatch):
    monkeypatch.setattr(open_files_module, "_MOST_FILES", 8)
    array, data = write(LocalStore(tmp_path), (20, 3, 2), (2, 3, 2), (2, 3, 2))
    open_files_module._recent.let_go_of_all()
    before = open_files()
    readers = [reader_of(array) for _ in range(9)]
    for _ in range(2):
        for reader in readers:
            same(reader.read(range(20), threads=3), data)
            assert open_files() <= before + 8
    del reader, readers[1:]
    assert open_files() <= before + 8
    readers.clear()
    assert open_files() == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts files as Linux does")
def test_where_others_hold_almost_all_files_readers_let_go_of_theirs(tmp_path):
    resource = pytest.importorskip("resource")
    array, data = write(LocalStore(tmp_path), (60, 3, 2), (2, 3, 2), (2, 3, 2))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    readers = [reader_of(array), reader_of(array)]
    others = []
    try:
        same(readers[0].read(range(60), threads=1), data)
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 20, limits[1]))
        with suppress(OSError):
            while True:
                others.append(os.open(tmp_path, os.O_RDONLY))
        same(readers[1].read(range(60), threads=1), data)
    finally:
        for number in others:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# --- threads and processes -------------------------------------------------------------------------


@pytest.mark.slow
def test_one_reader_serves_many_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(open_files_module, "_MOST_FILES", 2)
    array, data = write(LocalStore(tmp_path), (120, 9, 7), (4, 9, 7), (12, 9, 7))
    reader = reader_of(array, keep=2)

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(60):
            samples = rng.integers(0, 120, rng.integers(1, 12))
            same(reader.read(samples, threads=int(rng.integers(1, 4))), data[samples])

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, seed) for seed in range(8)]:
            done.result()
    assert len(reader._process_state().slots._kept) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_read_right_after_their_parent(tmp_path, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    array, data = write(LocalStore(tmp_path), (120, 9, 7), (4, 9, 7), (12, 9, 7))
    reader = reader_of(array)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    stop = threading.Event()

    def keep_reading():
        rng = np.random.default_rng(0)
        while not stop.is_set():
            reader.read(rng.integers(0, 120, 30), threads=4)

    busy = threading.Thread(target=keep_reading)
    busy.start()
    try:
        samples = np.random.default_rng(1).permutation(120)
        workers = [
            context.Process(target=put_samples, args=(queue, reader, samples))
            for _ in range(10 if method == "fork" else 1)
        ]
        with warnings.catch_warnings():
            # Newer Pythons warn of every fork of a process with threads: that is what is tried here.
            warnings.simplefilter("ignore", DeprecationWarning)
            for worker in workers:
                worker.start()
        for _ in workers:
            found, decoded = queue.get(timeout=60)
            same(found, data[[*samples[:3], *samples]])
            assert 30 <= decoded <= 33
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
    finally:
        stop.set()
        busy.join()
    same(reader.read(samples), data[samples])


@pytest.mark.parametrize("used", [False, True])
def test_it_can_be_pickled_before_and_after_it_was_used(tmp_path, used):
    array, data = pictures(LocalStore(tmp_path))
    stored = stored_of(array)
    if used:
        stored[:]
    again = pickle.loads(pickle.dumps(stored))
    assert again.chunks_decoded == 0
    same(again[:], data)
    assert len(pickle.dumps(stored)) < 3000


def test_little_is_read_without_threads(monkeypatch):
    array, data = write(MemoryStore(), (64, 100, 100), (2, 100, 100), (16, 100, 100))
    used = []
    run = Helpers.run
    monkeypatch.setattr(Helpers, "run", lambda *given: (used.append(given[-1]), run(*given)))
    monkeypatch.setattr(reader_module, "usable_cores", lambda: 2)
    readers = [reader_of(array) for _ in range(2)]
    same(readers[0].read([3]), data[[3]])
    same(readers[0].read(range(20)), data[:20])
    same(read_together([(reader, [9], None) for reader in readers])[1], data[[9]])
    assert used == []
    same(readers[0].read(range(64)), data)
    same(readers[0].read([0, 9], threads=3), data[[0, 9]])
    assert used == [2, 3]

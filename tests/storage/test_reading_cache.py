"""What a cache on this machine keeps: right bytes only, within its limit, whoever else uses or damages it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from builders import SMALL_SHARDS, assert_same_batch, depth_of
from children import read_with_cache
from object_stores import far_away
from refusals import refused

from fgbgpack import create, open_dataset
from fgbgpack.document import FIELDS
from fgbgpack.errors import SpecError
from fgbgpack.storage.reading import cache as cache_module
from fgbgpack.storage.reading.cache import ChunkCache, DatasetCache

SAMPLES = 720


@pytest.fixture(scope="module")
def many(tmp_path_factory, pictures, depth_model):
    """720 samples with depth in 144 chunks."""
    path = tmp_path_factory.mktemp("cached") / "many.zarr"
    spec = pictures.spec(
        width=48, height=32, foreground_height=12, placements=60, chunk=5, depth=depth_of(depth_model)
    )
    create(path, spec, layout=SMALL_SHARDS)
    return path


@pytest.fixture(scope="module")
def truth(many):
    return open_dataset(many, pixels="stored").to_numpy()


@pytest.fixture
def store(many):
    return far_away(many)


def shards_asked(store):
    """How many requests there were for shards of pictures."""
    return sum("/c/" in key and key.split("/")[0] in FIELDS for key, _ in store.requests)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def taken(folder):
    return sum(path.stat().st_blocks * 512 for path in files(folder))


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_was_read_once_is_not_asked_for_again(store, truth, tmp_path, shuffle):
    for epoch in range(3):
        ds = open_dataset(store, cache=tmp_path / "cache", pixels="stored")
        store.requests.clear()
        seen = 0
        for batch in ds.batches(50, shuffle=shuffle, epoch=epoch, window=4):
            seen += len(batch.y)
        assert seen == SAMPLES
        assert (shards_asked(store) > 0) == (epoch == 0)
        order = np.random.default_rng(epoch).permutation(SAMPLES)
        assert_same_batch(ds.read(order), truth, order)
        assert (shards_asked(store) > 0) == (epoch == 0)


def test_only_chunks_that_were_read_are_kept(store, truth, tmp_path):
    open_dataset(store, cache=tmp_path, pixels="stored").read([100])
    store.requests.clear()
    ds = open_dataset(store, cache=tmp_path, pixels="stored")
    assert_same_batch(ds.read([100]), truth, [100])
    assert shards_asked(store) == 0
    assert_same_batch(ds.read([100, 300]), truth, [100, 300])
    assert shards_asked(store) == 6
    assert ds.store.cache.folder == tmp_path


def test_a_local_dataset_is_not_kept(many, truth, tmp_path):
    assert_same_batch(open_dataset(many, cache=tmp_path, pixels="stored").read([5]), truth, [5])
    assert files(tmp_path) == []


def test_what_is_damaged_is_asked_for_again(store, truth, tmp_path):
    order = np.random.default_rng(0).permutation(SAMPLES)
    open_dataset(store, cache=tmp_path, pixels="stored").read(order)
    rng = np.random.default_rng(1)
    kept = files(tmp_path)
    for number, path in enumerate(kept):
        content = bytearray(path.read_bytes())
        if number % 3 == 0:
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        elif number % 3 == 1:
            del content[int(rng.integers(len(content))) :]
        else:
            start = int(rng.integers(len(content)))
            content[start : start + 500] = bytes(len(content[start : start + 500]))
        path.write_bytes(content)
    store.requests.clear()
    assert_same_batch(open_dataset(store, cache=tmp_path, pixels="stored").read(order), truth, order)
    assert shards_asked(store) > 0
    store.requests.clear()
    assert_same_batch(open_dataset(store, cache=tmp_path, pixels="stored").read(order), truth, order)
    assert shards_asked(store) == 0, "it is kept anew"


def test_what_takes_the_place_of_a_dataset_never_mixes_with_it(many, pictures, depth_model, tmp_path):
    other = tmp_path / "other.zarr"
    spec = pictures.spec(
        width=48, height=32, foreground_height=12, placements=60, chunk=5, seed=9, depth=depth_of(depth_model)
    )
    create(other, spec, layout=SMALL_SHARDS)
    place = shutil.copytree(many, tmp_path / "it.zarr")
    store = far_away(place)
    cache = tmp_path / "cache"
    open_dataset(store, cache=cache, pixels="stored").read(range(SAMPLES))
    expected = open_dataset(other, pixels="stored").to_numpy()
    shutil.rmtree(place)
    other.rename(place)
    order = np.random.default_rng(0).permutation(SAMPLES)
    for _ in range(2):
        assert_same_batch(open_dataset(store, cache=cache, pixels="stored").read(order), expected, order)
    assert len(list(cache.iterdir())) == 2


def test_a_cache_keeps_to_its_limit(store, truth, tmp_path):
    limit = 1 << 20
    ds = open_dataset(store, cache=tmp_path, cache_bytes=limit, pixels="stored")
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(SAMPLES)
        for some in np.array_split(order, 20):
            assert_same_batch(ds.read(some), truth, some)
            assert taken(tmp_path) <= limit
    assert taken(tmp_path) > limit / 2, "what fits is kept"
    counts = []
    for one in (ds, open_dataset(store, pixels="stored")):
        one.close()
        store.requests.clear()
        for sample in order[:200]:
            one.image.reader.read([sample])
        counts.append(shards_asked(store))
    assert 0 < counts[0] < counts[1], "some are asked for, but not all"


def test_what_was_used_least_recently_is_deleted_first(store, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_NOTED", 0.0)
    limit = 1 << 20
    cache = ChunkCache(tmp_path, limit)
    block = np.full(60_000, 7, np.uint8)
    old = DatasetCache(cache, "old").shards("image", 16)
    for shard in range(12):
        old.keep_chunk(shard, 0, block)
        os.utime(tmp_path / f"old/image/{shard}.chunks", (time.time() - 4000 + shard,) * 2)
    assert old.chunk(3, 0, 60_000) is not None  # which is used again by that
    new = DatasetCache(ChunkCache(tmp_path, limit), "new").shards("image", 16)
    for shard in range(6):
        new.keep_chunk(shard, 0, block)
    left = {path.name for path in (tmp_path / "old/image").iterdir()}
    assert "3.chunks" in left
    assert "0.chunks" not in left
    assert taken(tmp_path) <= limit
    assert all(new.chunk(shard, 0, 60_000) is not None for shard in range(6))
    assert old.chunk(0, 0, 60_000) is not None, "who has a file open reads on"


def test_what_was_used_lately_stays(tmp_path):
    limit = 1 << 20
    cache = DatasetCache(ChunkCache(tmp_path, limit), "it").shards("image", 16)
    block = np.full(50_000, 7, np.uint8)
    for shard in range(40):
        cache.keep_chunk(shard, 0, block)
    assert taken(tmp_path) <= limit
    found = [cache.chunk(shard, 0, 50_000) is not None for shard in range(40)]
    assert found[:8] == [True] * 8, "a pass over more than fits does not delete what comes again first"
    assert not found[-1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_once_and_reading_goes_on(store, truth, tmp_path):
    open_dataset(store, cache=tmp_path, pixels="stored").read(range(SAMPLES))
    for path in files(tmp_path):
        path.unlink()
        path.symlink_to("/dev/full")
    ds = open_dataset(store, cache=tmp_path, pixels="stored")
    order = np.random.default_rng(0).permutation(SAMPLES)
    with pytest.warns(UserWarning, match="No space left on device") as caught:
        found = [ds.read(order) for _ in range(2)]
    assert len(caught) == 1
    for batch in found:
        assert_same_batch(batch, truth, order)


@pytest.mark.parametrize(("limit", "code"), [(1000, "option-invalid"), ("much", "option-invalid")])
def test_limits_that_are_none(store, tmp_path, limit, code):
    with refused(SpecError, code, "cache_bytes"):
        open_dataset(store, cache=tmp_path, cache_bytes=limit, pixels="stored")


def test_a_folder_that_cannot_be_written_is_an_error(store, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with refused(SpecError, "cache-unusable", "file"):
        open_dataset(store, cache=tmp_path / "file" / "cache", pixels="stored")


# --- several processes -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1 << 20, 1 << 30])
def test_many_processes_share_a_cache(many, truth, tmp_path, limit, processes):
    sums = truth["image"].sum((1, 2, 3), dtype=np.int64) + truth["mask"].sum((1, 2), dtype=np.int64)
    results = processes.SimpleQueue()
    cache = tmp_path / "cache"
    workers = [
        processes.Process(target=read_with_cache, args=(results, str(many), str(cache), limit, seed, 3))
        for seed in range(4)
    ]
    for worker in workers:
        worker.start()
    most = 0
    while any(worker.is_alive() for worker in workers):
        if cache.exists():
            with_races = 0
            for path in cache.rglob("*.chunks"):
                try:
                    with_races += path.stat().st_blocks * 512
                except FileNotFoundError:
                    continue
            most = max(most, with_races)
        time.sleep(0.01)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    for _ in workers:
        np.testing.assert_array_equal(results.get(), sums)
    assert 0 < most <= limit


@pytest.mark.slow
def test_what_a_killed_process_leaves_is_used(many, truth, tmp_path, processes, all_faults, count_faults):
    cache = tmp_path / "cache"
    order = np.random.default_rng(5).permutation(SAMPLES)
    kills = 40 if all_faults else 4
    for kill in range(kills):
        results = processes.SimpleQueue()
        worker = processes.Process(
            target=read_with_cache, args=(results, str(many), str(cache), 1 << 30, kill, 50)
        )
        worker.start()
        deadline = time.monotonic() + 60
        before = taken(cache) if cache.exists() else 0
        while (not cache.exists() or taken(cache) <= before) and time.monotonic() < deadline and kill < 2:
            time.sleep(0.002)
        time.sleep(0.01 * (kill % 7))
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        if kill % 5 == 4:
            shutil.rmtree(cache, ignore_errors=True)
        else:
            assert_same_batch(
                open_dataset(far_away(many), cache=cache, pixels="stored").read(order[:50]), truth, order[:50]
            )
    assert_same_batch(open_dataset(far_away(many), cache=cache, pixels="stored").read(order), truth, order)
    count_faults("kills of processes that share a cache", {"right bytes": kills})


@pytest.mark.slow
def test_a_forked_process_goes_on_with_the_cache_of_its_parent(store, truth, tmp_path):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    ds = open_dataset(store, cache=tmp_path, pixels="stored")
    ds.read(range(0, SAMPLES, 2))
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    worker = context.Process(target=lambda: results.put(ds.read(range(SAMPLES)).image.sum((1, 2, 3))))
    worker.start()
    found = results.get()
    worker.join()
    np.testing.assert_array_equal(found, truth["image"].sum((1, 2, 3)))
    store.requests.clear()
    ds.read(range(SAMPLES))
    assert shards_asked(store) == 0

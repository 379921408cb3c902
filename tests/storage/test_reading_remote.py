"""Requests of readers to stores far away: how many there are, the memory they take, what they survive."""

from __future__ import annotations

import asyncio
import gc
import itertools
import pickle
from collections import Counter
from concurrent.futures import wait

import numpy as np
import pytest
from builders import SMALL_SHARDS, assert_same_arrays, assert_same_batch, depth_of
from hypothesis import given
from hypothesis import strategies as st
from object_stores import far_away, s3_store, uploaded
from proxy import SILENT, SLOW, TRUNCATED, at_random, proxy
from refusals import refused
from zarr.abc.store import RangeByteRequest, SuffixByteRequest

from fgbgpack import create, open_dataset
from fgbgpack.document import FIELDS, PLACEMENTS
from fgbgpack.errors import DatasetError
from fgbgpack.storage import answers as answers_module
from fgbgpack.storage.codecs import crc32c
from fgbgpack.storage.reading import remote as remote_module
from fgbgpack.storage.reading.ranges import joined


@pytest.fixture(scope="module")
def many(tmp_path_factory, pictures, depth_model):
    """1,440 samples with depth in 288 chunks."""
    path = tmp_path_factory.mktemp("remote") / "many.zarr"
    spec = pictures.spec(
        width=24, height=16, foreground_height=8, placements=120, chunk=5, depth=depth_of(depth_model)
    )
    create(path, spec, layout=SMALL_SHARDS)
    return path


@pytest.fixture
def store(many):
    return far_away(many)


@pytest.fixture(scope="module")
def truth(many):
    return open_dataset(many, pixels="stored").to_numpy()


# --- ranges ----------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=40),
    st.integers(0, 20),
    st.integers(1, 100),
)
def test_close_parts_are_joined_and_no_others(places, gap, longest):
    parts = [(number, *place) for number, place in enumerate(places)]
    spans = joined(parts, gap=gap, longest=longest)
    assert sorted(part for span in spans for part in span.parts) == parts
    for span in spans:
        assert span.start == min(start for _, start, _ in span.parts)
        assert span.stop == max(start + size for _, start, size in span.parts)
        assert span.size <= longest or len(span.parts) == 1
        reached = span.start
        for _, start, size in span.parts:
            assert start - reached <= gap
            reached = max(reached, start + size)
    for one, other in itertools.pairwise(spans):
        first = other.parts[0]
        stop = max(one.stop, first[1] + first[2])
        assert first[1] - one.stop > gap or stop - one.start > longest


# --- how many requests there are -------------------------------------------------------------------


def test_opening_and_the_first_sample_take_few_requests(store, truth):
    ds = open_dataset(store, pixels="stored")
    assert len(store.requests) <= 3
    assert not any("/c/" in key and key.split("/")[0] in FIELDS for key, _ in store.requests)
    assert_same_batch(ds.read([17]), truth, [17])
    assert store.arrays() == {
        # Asked for when it was opened, which waits for nothing but the document.
        "zarr.json": 1,
        "manifest": 1,
        "sources": 1,
        # An index and a chunk of each array.
        **dict.fromkeys(FIELDS, 2),
    }
    assert any(key.startswith("sources/foreground_size/c/") for key, _ in store.requests)


def test_random_samples_take_few_requests(store, truth):
    ds = open_dataset(store, pixels="stored")
    ds.read([17])
    for sample in (3, 430, 8, 1017, 521):
        store.requests.clear()
        assert_same_batch(ds.read([sample]), truth, [sample])
        assert set(store.arrays()) <= set(FIELDS), "the rest is known by now"
        assert max(store.arrays().values()) <= 2
    store.requests.clear()
    for sample in (0, 433, 1014):
        ds.read([sample])
    suffixes = [key for key, part in store.requests if isinstance(part, SuffixByteRequest)]
    assert not suffixes, "no index again"
    assert max(store.arrays().values()) <= 3


@pytest.mark.parametrize(
    "options", [{"flip": False}, {"placements": 3}, {"vary_copies": True, "seed": 2**64 - 1}]
)
def test_placements_of_samples_are_computed_as_they_are_stored(tmp_path, pictures, options):
    path = tmp_path / "some.zarr"
    create(path, pictures.spec(depth=None, **options))
    store, stored = far_away(path), open_dataset(path, pixels="stored")
    ds = open_dataset(store, pixels="stored")
    order = np.random.default_rng(0).permutation(len(ds))
    for samples in (order, order[:1], order[-5:] - len(ds), np.zeros(0, np.int64)):
        assert_same_arrays(ds.read(samples, "mask").arrays, stored.read(samples, "mask").arrays)
    filled = {name: np.empty_like(array) for name, array in stored.read(order[:7]).arrays.items()}
    ds.read(order[:7], out=filled)
    assert_same_arrays(filled, stored.read(order[:7]).arrays)
    assert_same_arrays(pickle.loads(pickle.dumps(ds)).read(order).arrays, stored.read(order).arrays)
    assert not set(store.arrays()) & set(PLACEMENTS)
    assert_same_arrays(vars(ds.placements), vars(stored.placements))
    assert set(store.arrays()) >= set(PLACEMENTS), "all of them are read"


def test_sizes_of_foregrounds_that_are_others_are_an_error(store, quick):
    async def change(key, part, value, prototype):
        return prototype.buffer.from_bytes(with_checksum(value)) if "foreground_size/c/" in key else value

    def with_checksum(value):
        data = changed(value.to_bytes(), 0)[:-4]
        return data + crc32c(data)

    store.change = change
    ds = open_dataset(store, pixels="stored")
    with refused(DatasetError, "chunk-foreign", "foreground_size"):
        ds.read([3])


def test_the_manifest_is_read_once_for_all_arrays(store):
    ds = open_dataset(store, pixels="stored")
    ds.read(range(1440))
    assert ds.depth_min is not None
    assert store.arrays()["manifest"] == 1


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_is_read_in_ranges_of_several_chunks(many, truth, shuffle):
    store = far_away(many)
    ds, expected = open_dataset(store, pixels="stored"), truth
    seen = []
    for batch in ds.batches(48, shuffle=shuffle, window=4):
        seen += [
            (image.tobytes(), depth.tobytes()) for image, depth in zip(batch.image, batch.depth, strict=True)
        ]
    assert Counter(seen) == Counter(
        (image.tobytes(), depth.tobytes())
        for image, depth in zip(expected["image"], expected["depth"], strict=True)
    )
    for name in FIELDS:
        layout = getattr(ds, name).reader.layout
        asked = [part for key, part in store.requests if key.startswith(f"{name}/c/")]
        ranges = [part for part in asked if isinstance(part, RangeByteRequest)]
        assert len(asked) - len(ranges) == layout.shards, "each index once"
        chunks = -(-layout.shape[0] // layout.chunk[0])
        # Chunks of depth are others than those of images, and only two to a shard.
        assert len(ranges) <= (2 * chunks if name == "depth" else chunks / 2)


# --- how much memory they take ---------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 10_000, 1 << 20])
def test_what_is_read_ahead_is_bounded(many, limit, monkeypatch):
    monkeypatch.setattr(remote_module, "AHEAD_BYTES", limit)
    store, most = far_away(many), 0

    async def note(key, part, value, prototype):
        nonlocal most
        most = max(most, sum(reader.held for reader in list(remote_module._readers)))
        return value

    store.change = note
    gc.collect()
    before = sum(reader.held for reader in list(remote_module._readers))
    ds = open_dataset(store, pixels="stored")
    samples = [batch.y.copy() for batch in ds.batches(48, shuffle=True, window=4)]
    assert sum(map(len, samples)) == 1440
    assert most - before <= limit
    assert (most > before) == (limit > 0), "where there is room it is read ahead"
    assert sum(reader.held for reader in list(remote_module._readers)) == before, "nothing is left"


def test_what_a_stream_does_not_need_any_more_is_given_up(many):
    store = far_away(many)
    ds = open_dataset(store, pixels="stored")
    readers = [ds.image.reader, ds.mask.reader, ds.depth.reader]

    def held():
        """Bytes that were read ahead, once all of them are there."""
        states = [reader._process_state().chunks for reader in readers]
        wait([coming.future for state in states for coming in list(state._coming.values())])
        return [state.held for state in states]

    ds.read(range(5))
    ds.read_ahead("mine", range(100, 200))
    expected = open_dataset(many, pixels="stored").read(range(100, 150))
    np.testing.assert_array_equal(ds.read(range(100, 150)).depth, expected.depth)
    assert all(held()), "the other half is there"
    requests = len(store.requests)
    np.testing.assert_array_equal(
        ds.read(range(150, 200)).image, open_dataset(many, pixels="stored").read(range(150, 200)).image
    )
    assert len(store.requests) == requests, "it was read ahead"
    assert not any(held())
    ds.read_ahead("mine", range(300, 400), "mask")
    ds.mask[300]
    assert held()[1]
    ds.read_ahead("mine", [])
    assert not any(held())


def test_an_epoch_that_is_left_early_leaves_nothing_when_the_dataset_is_closed(many):
    ds = open_dataset(far_away(many), pixels="stored")
    chunks = ds.image.reader._process_state().chunks
    for number, _ in enumerate(ds.batches(48, shuffle=True, window=4)):
        if number == 3:
            break
    ds.close()
    ds.batches(48)
    assert chunks is not ds.image.reader._process_state().chunks
    assert ds.image.reader._process_state().chunks.held == 0


# --- what they survive -----------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Requests are repeated after a short while."""
    monkeypatch.setattr(answers_module, "_PAUSE", 0.001)


def changed(data, place):
    damaged = bytearray(data)
    damaged[place] ^= 0x40
    return bytes(damaged)


@pytest.mark.parametrize("place", [0, 5, -1, -3])
def test_wrong_bytes_on_the_way_are_asked_for_again(store, truth, quick, place):
    wrong = set()

    async def change(key, part, value, prototype):
        if "/c/" in key and key.split("/")[0] in FIELDS and (key, str(part)) not in wrong:
            wrong.add((key, str(part)))
            return prototype.buffer.from_bytes(changed(value.to_bytes(), place))
        return value

    ds = open_dataset(store, pixels="stored")
    store.change = change
    order = np.random.default_rng(0).permutation(1440)[:100]
    assert_same_batch(ds.read(order), truth, order)
    asked = Counter((key, str(part)) for key, part in store.requests if (key, str(part)) in wrong)
    assert wrong
    assert set(asked.values()) == {2}


def test_bytes_that_stay_wrong_are_an_error_after_some_attempts(store, quick):
    async def change(key, part, value, prototype):
        if key.startswith("image/c/") and isinstance(part, RangeByteRequest):
            return prototype.buffer.from_bytes(changed(value.to_bytes(), 7))
        return value

    ds = open_dataset(store, pixels="stored")
    ds.read([5])
    store.change = change
    store.requests.clear()
    with refused(DatasetError, "checksum-wrong", r"Chunk \d+ of shard .*/image/c/"):
        ds.read([530])
    asked = Counter(key for key, part in store.requests if isinstance(part, RangeByteRequest))
    assert [count for key, count in asked.items() if key.startswith("image/")] == [3]


@pytest.mark.parametrize(
    ("error", "code", "attempts"),
    [
        (ConnectionResetError("it was reset"), "store-cut-off", 5),
        (PermissionError("it is mine"), "store-denied", 1),
        (RuntimeError("it is odd"), "io-failed", 1),
    ],
)
def test_errors_that_may_pass_are_tried_again(store, truth, quick, error, code, attempts):
    left = 0

    async def change(key, part, value, prototype):
        nonlocal left
        if key.startswith("image/c/") and left:
            left -= 1
            raise error
        return value

    ds = open_dataset(store, pixels="stored")
    ds.read([5])
    store.change, left = change, attempts - 1
    assert_same_batch(ds.read([530]), truth, [530])
    left = 100
    with refused(DatasetError, code, rf"hard .*/image/c/.*{error}"):
        ds.read([1017])
    assert 100 - left == attempts


def test_a_reply_that_stalls_is_given_up_and_asked_for_again(store, truth, quick, monkeypatch):
    monkeypatch.setattr(answers_module, "_TIMEOUT", 0.02)
    stalled = set()

    async def change(key, part, value, prototype):
        if key.startswith("mask/c/") and (key, str(part)) not in stalled:
            stalled.add((key, str(part)))
            await asyncio.sleep(3600)
        return value

    ds = open_dataset(store, pixels="stored")
    ds.read([5])
    store.change = change
    assert_same_batch(ds.read([530, 700, 1017]), truth, [530, 700, 1017])
    assert stalled

    async def always(key, part, value, prototype):
        if key.startswith("mask/c/"):
            await asyncio.sleep(3600)
        return value

    store.change = always
    with refused(DatasetError, "store-timeout", r"/mask/c/.* no answer .* the last \d+ bytes"):
        ds.read([1211])


# --- a real server ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_s3(s3, many):
    """The folder of a copy of the dataset with 1,440 samples on a server of S3, not to be changed."""
    return uploaded(s3, many)


@pytest.mark.slow
def test_requests_to_a_server_for_opening_and_samples(s3, on_s3, truth):
    with proxy(s3) as line:
        ds = open_dataset(s3_store(line.address, on_s3), pixels="stored")
        assert line.counts()["GET"] <= 3
        assert_same_batch(ds.read([17]), truth, [17])
        assert line.counts() == {"GET": 3 + 2 * len(FIELDS)}, "three for opening, two for each array"
        line.reset()
        assert_same_batch(ds.read([1017]), truth, [1017])
        assert line.counts() == {"GET": 2 * len(FIELDS)}


@pytest.mark.slow
def test_an_epoch_survives_what_networks_do(s3, on_s3, truth, all_faults, count_faults):
    outcomes = Counter()
    for seed in range(20 if all_faults else 2):
        with proxy(s3, at_random(0.2, seed, ("500", "503", "reset", "lost", SLOW, TRUNCATED))) as line:
            line.slow_seconds = 0.1
            ds = open_dataset(s3_store(line.address, on_s3), pixels="stored")
            order = np.concatenate(
                [batch.y * 100 + batch.x for batch in ds.batches(64, shuffle=True, epoch=seed)]
            )
            assert len(order) == 1440
            samples = np.random.default_rng(seed).permutation(1440)
            assert_same_batch(ds.read(samples), truth, samples)
            outcomes.update(Counter(line.faults.values()))
    assert len(outcomes) == 6
    count_faults("faults of a server while an epoch is read", outcomes)


@pytest.mark.slow
def test_a_server_that_falls_silent_is_asked_again(s3, on_s3, truth, monkeypatch):
    monkeypatch.setattr(answers_module, "_TIMEOUT", 0.5)
    with proxy(s3) as line:
        ds = open_dataset(s3_store(line.address, on_s3), pixels="stored")
        ds.read([0])
        line.choose = at_random(0.1, 0, (SILENT,))
        samples = np.random.default_rng(0).permutation(1440)[:200]
        assert_same_batch(ds.read(samples), truth, samples)
        assert line.faults

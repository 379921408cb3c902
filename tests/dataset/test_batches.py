"""Batches of an open dataset: every sample once, in an order that numbers decide, in memory used again."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from builders import SMALL_SHARDS, Pictures
from refusals import refused

from fgbgpack import create, open_dataset
from fgbgpack.dataset import reader as reader_module
from fgbgpack.errors import SpecError
from fgbgpack.storage.layout import LayoutPolicy


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
        ds = open_dataset(many, pixels="stored")
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


def test_windows_of_large_pictures_are_small_and_mix_as_many(many, monkeypatch):
    """By default a window takes a bounded amount of memory: here that of 12 samples, of 16 chunks or more."""
    monkeypatch.setattr(reader_module, "_WINDOW_BYTES", 12 * 21 * 33 * 6)
    ds = open_dataset(many)
    seen = [i // 5 for batch in ds.batches(5, shuffle=True) for i in number(batch)]
    for start in range(0, 80, 16):
        assert len(set(seen[start : start + 16])) > 8
    # Not even one chunk: it is read in parts.
    monkeypatch.setattr(reader_module, "_WINDOW_BYTES", 2 * 21 * 33 * 6)
    assert sorted(i for batch in ds.batches(1, shuffle=True) for i in number(batch)) == list(range(90))

"""Arrays that zarr-python wrote, and our readers of them."""

from __future__ import annotations

import numpy as np
import zarr
from zarr.storage import MemoryStore

from fgbgpack.storage.codecs import ZstdChunk
from fgbgpack.storage.reading import ArrayReader, StoredArray
from fgbgpack.storage.store import DatasetStore

FILLS = {np.uint8: 7, np.float16: np.nan, np.int32: 0, np.bool_: False}


def write(
    store, shape, chunk, shard, dtype=np.uint8, codec=None, missing=(), path="image", seed=0, sharded=True
):
    """An array that zarr-python wrote, without some of its samples, and its values."""
    codec = codec or ZstdChunk()
    fill = FILLS[dtype]
    array = zarr.create_array(
        store,
        name=path,
        shape=shape,
        chunks=chunk,
        shards=shard if sharded else None,
        dtype=dtype,
        fill_value=fill,
        config={"write_empty_chunks": False},
        **codec.zarr_codecs(),
    )
    data = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
    data[list(missing)] = fill
    array[...] = data
    return array, data


def reader_of(array, name="it", **options):
    """Our reader of an array of zarr-python's."""
    (form,) = DatasetStore(array.store, name).forms([array.path]).values()
    return ArrayReader(array.store, array.path, name, form, **options)


def stored_of(array, name="it"):
    return StoredArray(reader_of(array, name))


def pictures(store=None, **options):
    """23 pictures of 7x5 in chunks of 4 that are cut into bands of 3 rows, two chunks down in a shard."""
    return write(store or MemoryStore(), (23, 7, 5, 3), (4, 3, 5, 3), (8, 9, 5, 3), **options)


def same(a, b):
    """Equal in every bit, NaN too."""
    a, b = np.asarray(a), np.asarray(b)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_array_equal(a.view(f"u{a.itemsize}"), b.view(f"u{b.itemsize}"))

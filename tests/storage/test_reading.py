"""Reading at speed, against NumPy's indexing of the whole array and against zarr-python on the same files."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from refusals import refused
from zarr.storage import LocalStore, MemoryStore, WrapperStore
from zarr_arrays import pictures, reader_of, same, stored_of, write

from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.storage import codecs
from fgbgpack.storage.arrays import ArrayForm
from fgbgpack.storage.codecs import BloscChunk, ZstdChunk
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading import ArrayReader, StoredArray, read_together


def chunks_of(samples, size=4):
    return len({int(i) % 23 // size for i in samples})


# --- indexing --------------------------------------------------------------------------------------


def any_index(size):
    """An index of one axis: any that NumPy knows, in bounds and now and then out of them."""
    place = st.integers(-size, size - 1) if size else st.just(0)
    return st.one_of(
        place,
        place.map(np.int16),
        place.map(np.array),
        st.slices(size),
        st.slices(size + 3),
        st.lists(place, max_size=6),
        numpy_st.arrays(np.int64, st.tuples(st.integers(1, 3), st.integers(0, 2)), elements=place),
        numpy_st.arrays(np.bool_, size),
        st.integers(-size - 2, size + 2),
        st.lists(st.integers(-size - 1, size), min_size=1, max_size=3),
    )


def any_key(shape):
    whole = st.tuples(*(any_index(size) for size in shape))
    cut = st.tuples(whole, st.integers(0, len(shape))).map(lambda both: both[0][: both[1]])
    dotted = st.tuples(cut, st.integers(0, 4), st.integers(0, 4)).map(
        lambda parts: (*parts[0][: parts[1]], ..., *parts[0][parts[1] + parts[2] :])
    )
    return st.one_of(
        cut,
        dotted,
        any_index(shape[0]),
        numpy_st.basic_indices(shape, allow_newaxis=False),
        numpy_st.integer_array_indices(shape),
        numpy_st.arrays(np.bool_, shape),
        numpy_st.arrays(np.bool_, shape[:2]),
    )


@cache
def example(number):
    """An array of one of many shapes, cut in one of many ways, and its values."""
    rng = random.Random(number)
    shape = (rng.randint(1, 11), rng.randint(1, 6), rng.randint(1, 4), 2)[: 1 + number % 4]
    down, rows = rng.randint(1, 4), rng.randint(1, 4)
    chunk = (down, min(rows, *shape[1:2]), *shape[2:]) if len(shape) > 1 else (down,)
    shard = (
        down * rng.randint(1, 3),
        *(-(-n // c) * c for n, c in zip(shape[1:], chunk[1:], strict=True)),
    )
    dtype = rng.choice([np.uint8, np.float16])
    codec = ZstdChunk() if dtype is np.uint8 else BloscChunk(itemsize=2)
    missing = rng.choices(range(shape[0]), k=rng.randint(0, 6))
    array, data = write(MemoryStore(), shape, chunk, shard, dtype, codec, missing)
    return stored_of(array), data


@pytest.mark.slow
@settings(max_examples=250)
@given(st.integers(0, 79).map(example), st.data())
def test_every_index_gives_what_numpy_gives(arrays, drawn):
    stored, data = arrays
    key = drawn.draw(any_key(data.shape))
    try:
        expected = data[key]
    except IndexError:
        with pytest.raises(IndexError):
            stored[key]
    else:
        found = stored[key]
        assert isinstance(found, np.ndarray) == isinstance(expected, np.ndarray)
        same(found, expected)


def test_a_slice_takes_memory_for_what_it_names():
    samples = 1 << 36
    layout = Layout((samples, 2), (1 << 20, 2), (1 << 20, 2))
    form = ArrayForm(layout, False, ZstdChunk(), np.dtype(np.uint8), 7, {})
    far = StoredArray(ArrayReader(MemoryStore(), "image", "it", form))
    same(far[5:8], np.full((3, 2), 7, np.uint8))
    same(far[-1 : -samples : -(samples // 2)], np.full((2, 2), 7, np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "key",
    [
        "image",
        1.0,
        (0, 2.5),
        True,
        np.True_,
        np.array(True),
        None,
        (..., ...),
        (0,) * 5,
        23,
        -24,
        [0, 23],
        (0, 7),
        (0, 0, [5]),
        [0.0],
        np.zeros(0),
        np.ones(22, bool),
        np.ones((23, 6), bool),
        (0, [0, 1], [0, 1, 2]),
        2**70,
    ],
)
def test_what_is_no_index_is_an_index_error(key):
    stored = stored_of(pictures()[0])
    with pytest.raises(IndexError) as raised:
        stored[key]
    assert "\n" not in str(raised.value)
    assert str(raised.value)


def test_bounds_are_told_as_numpy_tells_them():
    array, data = pictures()
    stored = stored_of(array)
    for key in (23, -24, [3, 99], (0, 7), (slice(None), 2, -6), (0, 0, 0, 0, 0), np.ones(5, bool)):
        with pytest.raises(IndexError) as numpys:
            data[key]
        with pytest.raises(IndexError) as ours:
            stored[key]
        assert str(ours.value) == str(numpys.value)


def test_it_has_what_arrays_have():
    array, data = pictures()
    stored = stored_of(array)
    for name in ("shape", "dtype", "ndim", "size", "nbytes"):
        assert getattr(stored, name) == getattr(data, name)
    assert (stored.chunks, stored.shards) == (array.chunks, array.shards)
    assert len(stored) == len(data)
    same(np.asarray(stored), data)
    same(np.asarray(stored, np.float32), data.astype(np.float32))
    same(np.mean(stored, axis=(0, 1)), data.mean(axis=(0, 1)))
    for ours, theirs in zip(stored, data, strict=True):
        same(ours, theirs)
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(stored, copy=False)
    assert repr(stored) == "<StoredArray uint8 of shape (23, 7, 5, 3) in chunks of (4, 3, 5, 3)>"


def test_what_an_index_gives_is_the_callers_own():
    array, data = pictures()
    stored = stored_of(array)
    for key in (3, slice(2, 9), [3, 3], (..., 0), np.ones(23, bool)):
        stored[key][...] = 0
        same(stored[key], data[key])


@pytest.mark.parametrize(
    ("key", "chunks"),
    [
        (0, 3),
        ((0, 0), 1),
        ((0, slice(3, 6)), 1),
        ((0, slice(2, 4)), 2),
        ((0, slice(None, None, 6)), 2),
        ((0, slice(None, None, -6)), 2),
        ((0, [5, 4]), 1),
        ((0, [6, 5]), 2),
        ((slice(None), 6), 6),
        (([0, 22, 3, 0], 0, 0), 2),
        ((slice(3, 5), 0), 2),
        ((slice(5, 3), 0), 0),
        ((slice(None, None, 22), 0), 2),
        (([], 0), 0),
        ((np.arange(23) == 9, 1), 1),
        (([1, 2, 3, 1], [0, 1, 2, 0], [0, 1, 2, 0]), 1),
        (np.zeros((23, 7), bool), 0),
        ((..., 0, 0, 0), 6),
    ],
)
def test_only_the_chunks_that_are_touched_are_decoded(key, chunks):
    array, data = pictures()
    stored = stored_of(array)
    same(stored[key], data[key])
    assert stored.chunks_decoded == chunks


# --- reading samples -------------------------------------------------------------------------------


@cache
def pictures_with_a_hole():
    array, values = pictures(missing=range(8, 12))
    return reader_of(array), values


@pytest.mark.slow
@settings(max_examples=150)
@given(st.lists(st.integers(-23, 22), max_size=60), st.slices(7), st.slices(5), st.data())
def test_samples_are_read_in_the_order_given(samples, rows, columns, data):
    reader, values = pictures_with_a_hole()
    rows, columns = (slice(s.start, s.stop, abs(s.step) if s.step else None) for s in (rows, columns))
    given = data.draw(st.sampled_from([list, tuple, np.array]))(samples)
    if not samples:
        given = samples
    expected = values[np.array(samples, int)][:, rows, columns]
    threads = data.draw(st.sampled_from([None, 1, 2, 5]))
    same(reader.read(given, rows=rows, columns=columns, threads=threads), expected)
    out = np.empty((len(expected) * 2, *expected.shape[1:]), np.uint8)[::2]
    assert reader.read(given, out, rows=rows, columns=columns, threads=threads) is out
    same(out, expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_chunk_is_decoded_once_for_all_that_is_read_of_it(threads):
    array, data = pictures()
    reader = reader_of(array)
    samples = np.random.default_rng(0).integers(0, 23, 200)
    same(reader.read(samples, threads=threads), data[samples])
    assert reader.chunks_decoded == 3 * chunks_of(samples)


def test_samples_read_one_after_the_other_share_their_chunk():
    array, data = write(MemoryStore(), (40, 6, 5), (8, 6, 5), (16, 6, 5))
    reader = reader_of(array)
    for i in [*range(40), *reversed(range(40))]:
        same(reader.read([i]), data[[i]])
    assert reader.chunks_decoded == 5 + 4


def test_as_many_chunks_stay_as_were_asked_for():
    array, data = write(MemoryStore(), (40, 6, 5), (8, 6, 5), (16, 6, 5))
    samples = np.random.default_rng(0).permutation(24)
    for keep, decoded in ((3, 3), (2, None), (1, None)):
        reader = reader_of(array, keep=keep)
        for i in samples:
            same(reader.read([i]), data[[i]])
        assert len(reader._process_state().slots._kept) == keep
        assert reader.chunks_decoded == decoded or (decoded is None and reader.chunks_decoded > 6)
    reader.keep = 5
    reader.read(range(40))
    decoded = reader.chunks_decoded
    same(reader.read([39, 0, 20], threads=3), data[[39, 0, 20]])
    assert reader.chunks_decoded <= decoded + 3
    for i in [*range(40), *samples]:
        same(reader.read([i]), data[[i]])
    assert reader.chunks_decoded <= decoded + 5
    reader.keep = 1
    reader.read([0])
    assert len(reader._process_state().slots._kept) == 1


def test_memory_stays_for_one_chunk_on_each_thread():
    array, _ = write(MemoryStore(), (64, 9, 5), (4, 9, 5), (16, 9, 5))
    reader = reader_of(array)
    order = np.random.default_rng(0).permutation(64)
    for _ in range(20):
        reader.read(order, threads=3)
    slots = reader._process_state().slots
    assert len(slots._kept) == 1
    assert len(slots._spare) <= 3


def test_several_arrays_are_read_together():
    store = MemoryStore()
    zarr.create_group(store)
    image, image_data = pictures(store)
    mask, mask_data = write(store, (23, 7, 5), (4, 7, 5), (8, 7, 5), path="mask", missing=range(20))
    readers = [reader_of(array) for array in (image, mask)]
    samples = np.random.default_rng(0).permutation(23)
    out = np.empty_like(image_data)
    for threads in (None, 1, 4):
        first, second = read_together(
            [(readers[0], samples, out), (readers[1], samples[:5], None)], threads=threads
        )
        assert first is out
        same(first, image_data[samples])
        same(second, mask_data[samples[:5]])
    assert read_together([]) == []


@pytest.mark.parametrize(
    ("samples", "wrong"), [([23], 23), ([0, -24], -24), (np.array([4, 2**40]), 2**40), ([5, 23, 24], 24)]
)
def test_a_sample_that_is_not_there_is_an_index_error(samples, wrong):
    reader = reader_of(pictures()[0])
    with pytest.raises(IndexError, match=f"^index {wrong} is out of bounds for axis 0 with size 23$"):
        reader.read(samples)


@pytest.mark.parametrize("samples", [[0.5], [[1, 2]], "a", ["a"], [True], None])
def test_what_are_no_samples_is_refused(samples):
    with pytest.raises(IndexError, match="samples are named by whole numbers or by 23 truth values"):
        reader_of(pictures()[0]).read(samples)


def test_samples_may_be_named_by_whatever_indexes_the_first_axis():
    array, data = pictures()
    reader = reader_of(array)
    mask = np.arange(23) % 3 == 1
    for samples in (slice(20, 2, -3), range(4, 9), mask, mask.tolist(), [3], np.uint8(4)):
        expected = data[[samples] if isinstance(samples, np.uint8) else samples]
        same(reader.read(samples), expected)
        out = np.empty_like(expected)
        assert reader.read(samples, out) is out
        same(out, expected)


@pytest.mark.parametrize(
    "out",
    [np.empty((2, 7, 5, 3), np.int8), np.empty((3, 7, 5, 3), np.uint8), np.empty((2, 7, 5), np.uint8)],
)
def test_an_array_that_does_not_fit_is_refused(out):
    with refused(SpecError, "array-misfit", r"uint8 of shape \(2, 7, 5, 3\)"):
        reader_of(pictures()[0]).read([0, 1], out)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int32, np.bool_])
def test_what_was_never_written_is_the_fill_value(dtype, tmp_path):
    store = LocalStore(tmp_path)
    codec = BloscChunk(2) if dtype is np.float16 else ZstdChunk()
    # Chunk 1 of the first shard, and the whole of the second.
    array, data = write(store, (23, 7, 5), (4, 7, 5), (8, 7, 5), dtype, codec, missing=range(4, 16))
    assert not (tmp_path / "image/c/1").exists()
    stored = stored_of(array)
    same(stored[:], data)
    same(stored[[5, 3, 9]], data[[5, 3, 9]])
    assert stored.chunks_decoded == 3 + 1


def test_a_shard_that_is_written_later_is_seen(tmp_path):
    array, data = write(LocalStore(tmp_path), (8, 7, 5), (4, 7, 5), (4, 7, 5), missing=range(4, 8))
    for store in (array.store, WrapperStore(array.store)):
        array[4:] = np.full((4, 7, 5), 7, np.uint8)
        stored = stored_of(zarr.open_array(store, path="image"))
        same(stored[5], data[5])
        array[4:] = np.full((4, 7, 5), 9, np.uint8)
        assert (stored[5] == 9).all()
        same(stored[:4], data[:4])


def test_small_arrays_without_shards_are_read_too(tmp_path):
    for store in (MemoryStore(), LocalStore(tmp_path)):
        array, data = write(store, (1000,), (64,), None, np.int32, sharded=False)
        stored = stored_of(array)
        same(stored[:], data)
        same(stored[[999, 0, -1]], data[[999, 0, -1]])
        assert stored.shards == stored.chunks == (64,)


def test_what_create_writes_is_read(depth_dataset):
    group = zarr.open_group(depth_dataset, mode="r")
    for name in ("image", "mask", "depth", "depth_min", "y", "sources/background"):
        stored = stored_of(group[name])
        same(stored[:], group[name][:])
        assert stored.attrs == dict(group[name].attrs)
        same(stored[-1], group[name][-1])


def test_pictures_in_bands_of_which_the_last_is_padding(tmp_path):
    array, data = write(LocalStore(tmp_path), (5, 10, 4, 3), (2, 4, 4, 3), (4, 12, 4, 3))
    stored = stored_of(array)
    same(stored[:], data)
    same(stored[1:, 9:7:-1], data[1:, 9:7:-1])


def test_arrays_that_others_cut_or_encoded_are_refused():
    for chunk, codec, why in (
        ((4, 7, 1), ZstdChunk().zarr_codecs(), r"cut into chunks of \(4, 7, 1\)"),
        ((4, 7, 5), {"compressors": zarr.codecs.GzipCodec()}, "codecs: .*bytes.*gzip"),
        ((4, 7, 5), {"compressors": None}, "codecs: .*bytes"),
    ):
        array = zarr.create_array(
            MemoryStore(), name="image", shape=(8, 7, 5), chunks=chunk, shards=(8, 7, 5), dtype="u1", **codec
        )
        with refused(DatasetError, "array-foreign", rf"lobby\.zarr/image (.|\n)*{why}"):
            reader_of(array, "lobby.zarr")
    array = zarr.create_array(
        MemoryStore(), name="image", shape=(8, 7), chunks=(4, 7), shards=(8, 7), dtype="u1",
        **ZstdChunk().zarr_codecs(),
    )  # fmt: skip
    array.resize((8, 9))
    with refused(DatasetError, "array-foreign", r"shape \(8, 9\) is cut into chunks of \(4, 7\)"):
        reader_of(array, "lobby.zarr")


@pytest.mark.parametrize("hidden", [False, True])
def test_decoding_as_a_whole_gives_the_same(hidden, monkeypatch):
    if hidden:
        monkeypatch.setattr(codecs, "_zstd", lambda: None)
    array, data = write(MemoryStore(), (20, 200, 200), (10, 200, 200), (20, 200, 200))
    stored = stored_of(array)
    for key in (0, 7, 19, [12, 3], slice(None)):
        same(stored[key], data[key])

"""Our shards against zarr-python's own sharding codec, in both directions, and damaged ones; chunks decoded
as far as they are asked for.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import google_crc32c
import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from zarr.codecs import ShardingCodec
from zarr.storage import LocalStore, MemoryStore

from fgbgpack.errors import DatasetError
from fgbgpack.storage import codecs
from fgbgpack.storage.codecs import BloscChunk, DeflateChunk, ZstdChunk, codec_of, encoded_size, recode
from fgbgpack.storage.sharding import index_bytes, index_of, join, read_index

ABSENT = 2**64 - 1
CODECS = [ZstdChunk(), BloscChunk(itemsize=2)]
#: The same as in HDF5 files, and those of portable ones.
IN_HDF5 = [
    *(replace(codec, checksum=checksum) for codec in CODECS for checksum in ("fletcher32", None)),
    *(DeflateChunk(itemsize, checksum=sum) for itemsize in (1, 2, 4) for sum in ("fletcher32", None)),
]


def array_of(store, codec, dtype, shape, chunk, shard):
    return zarr.create_array(
        store,
        shape=shape,
        chunks=chunk,
        shards=shard,
        dtype=dtype,
        fill_value=0,
        config={"write_empty_chunks": True},
        **codec.zarr_codecs(),
    )


def key_of(shape):
    return "/".join(["c", *["0"] * len(shape)])


def array_grid(shape, chunk):
    return tuple(s // c for s, c in zip(shape, chunk, strict=True))


def values(dtype, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 40, shape).astype(dtype)


def write_one(store, codec, dtype=np.uint8, shape=(6, 5, 3), chunk=(2, 5, 3)):
    """An array of one shard that we wrote, with its values."""
    array = array_of(store, codec, dtype, shape, chunk, shape)
    data = values(dtype, shape)
    chunks = [codec.encode(data[i : i + chunk[0]]) for i in range(0, shape[0], chunk[0])]
    path = store.root / key_of(shape)
    path.parent.mkdir(parents=True)
    path.write_bytes(join(chunks, array_grid(shape, chunk)))
    return array, data, path


# --- against zarr-python ---------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.data())
def test_zarr_reads_what_we_write_and_we_read_the_index_of_what_zarr_writes(samples, across, bands, data):
    codec = data.draw(st.sampled_from(CODECS))
    dtype = np.uint8 if isinstance(codec, ZstdChunk) else np.float16
    chunk = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4)), 2)
    grid = (samples, across, bands)
    shape = tuple(g * c for g, c in zip(grid, chunk, strict=True))
    picture = values(dtype, shape, data.draw(st.integers(0, 9)))
    corners = [
        tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk, strict=True))
        for index in np.ndindex(grid)
    ]

    ours = MemoryStore()
    array = array_of(ours, codec, dtype, shape, chunk, shape)
    present = data.draw(st.integers(0, len(corners)))
    encoded = [codec.encode(np.ascontiguousarray(picture[corner])) for corner in corners[:present]]
    expected = picture.copy()
    for corner in corners[present:]:
        expected[corner] = 0
    shard = join(encoded, grid)
    ours._store_dict[key_of(shape)] = zarr.core.buffer.cpu.Buffer.from_bytes(shard)
    np.testing.assert_array_equal(array[:], expected)
    index = read_index(shard, len(shard), grid, "ours")
    assert index.shape == (*grid, 2)
    entries = index.reshape(-1, 2).tolist()
    assert [shard[offset : offset + size] for offset, size in entries[:present]] == encoded
    assert all(entry == [ABSENT, ABSENT] for entry in entries[present:])

    theirs = MemoryStore()
    array = array_of(theirs, codec, dtype, shape, chunk, shape)
    array[:] = picture
    shard = theirs._store_dict[key_of(shape)].to_bytes()
    index = read_index(shard, len(shard), grid, "theirs")
    for corner, (offset, size) in zip(corners, index.reshape(-1, 2).tolist(), strict=True):
        assert shard[offset : offset + size] == codec.encode(np.ascontiguousarray(picture[corner]))


def test_the_index_lies_where_zarr_says_it_does():
    array = array_of(MemoryStore(), ZstdChunk(), np.uint8, (4, 4), (2, 2), (4, 4))
    (codec,) = array.metadata.codecs
    assert isinstance(codec, ShardingCodec)
    # An enumeration in older Zarr, plain text in newer.
    assert getattr(codec.index_location, "value", codec.index_location) == "end"
    assert index_bytes(4) == codec._shard_index_size((2, 2))


def test_the_index_may_be_read_from_the_end_of_the_shard_alone():
    codec = ZstdChunk()
    shard = join([codec.encode(values(np.uint8, (2, 3), seed)) for seed in range(2)], (3,))
    whole = read_index(shard, len(shard), (3,), "it")
    for tail in (shard[-index_bytes(3) :], memoryview(shard)[-index_bytes(3) :], bytearray(shard[3:])):
        np.testing.assert_array_equal(read_index(tail, len(shard), (3,), "it"), whole)


def test_a_shard_of_nothing_reads_as_the_fill_value(tmp_path):
    array = array_of(LocalStore(tmp_path), ZstdChunk(), np.uint8, (4, 4), (2, 4), (4, 4))
    (tmp_path / "c" / "0").mkdir(parents=True)
    (tmp_path / "c/0/0").write_bytes(join([], (2, 1)))
    assert not array[:].any()


def test_chunks_are_encoded_the_same_every_time():
    for codec in CODECS:
        data = values(np.float16, (8, 50, 50))
        assert len({codec.encode(data) for _ in range(3)}) == 1


# --- chunks that are absent ------------------------------------------------------------------------


def join_as_specified(encoded, chunks):
    """A shard, entry after entry as the specification of Zarr has it."""
    data, index = b"", b""
    for i in range(chunks):
        chunk = encoded[i] if i < len(encoded) else None
        if chunk is None:
            index += b"\xff" * 16
        else:
            index += len(data).to_bytes(8, "little") + len(chunk).to_bytes(8, "little")
            data += chunk
    return data + index + google_crc32c.value(index).to_bytes(4, "little")


@pytest.mark.slow
@given(
    st.lists(st.none() | st.binary(max_size=9), min_size=1, max_size=12),
    st.integers(0, 4),
    st.integers(1, 3),
)
def test_chunks_may_be_absent_anywhere(encoded, beyond, across):
    grid = (-(-len(encoded) // across) + beyond, across)
    chunks = math.prod(grid)
    shard = join(encoded, grid)
    assert shard == join_as_specified(encoded, chunks)
    sizes = [None if chunk is None else len(chunk) for chunk in encoded]
    assert index_of(sizes, grid) == shard[-index_bytes(chunks) :]
    index = read_index(shard, len(shard), grid, "it").reshape(-1, 2).tolist()
    found = [None if offset == ABSENT else shard[offset : offset + size] for offset, size in index]
    assert found == [*encoded, *[None] * (chunks - len(encoded))]


def test_zarr_reads_a_shard_with_holes():
    store, codec = MemoryStore(), ZstdChunk()
    array, data = array_of(store, codec, np.uint8, (8, 3), (2, 3), (8, 3)), values(np.uint8, (8, 3))
    encoded = [None if i % 2 else codec.encode(data[2 * i : 2 * i + 2]) for i in range(4)]
    store._store_dict["c/0/0"] = zarr.core.buffer.cpu.Buffer.from_bytes(join(encoded, (4, 1)))
    expected = data.copy()
    expected[2:4] = expected[6:8] = 0
    np.testing.assert_array_equal(array[:], expected)


def test_a_damaged_index_is_not_read():
    shard = bytearray(join([b"abc", None, b"defgh"], (3,)))
    shard[-6] ^= 1
    with refused(DatasetError, "checksum-wrong", "^here "):
        read_index(shard, len(shard), (3,), "here")


# --- as HDF5 has them ------------------------------------------------------------------------------


def hdf5_array(file, name, data, codec):
    """An array of one chunk in an HDF5 file, which the HDF5 library encodes as ``codec`` does."""
    options = {"compression": "gzip", "compression_opts": codec.level, "shuffle": codec.itemsize > 1}
    return file.create_dataset(
        name, data=data, chunks=data.shape, fletcher32=codec.checksum is not None, **options
    )


@settings(max_examples=60)
@given(st.integers(1, 700), st.integers(0, 9), st.data())
def test_hdf5_and_we_decode_what_the_other_deflates(size, seed, data):
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "<f2", "<i4", "?"])))
    checksum = data.draw(st.sampled_from(["fletcher32", None]))
    codec = DeflateChunk(dtype.itemsize, data.draw(st.integers(1, 9)), checksum)
    # Of which sizes checksums take the last byte for half a word.
    picture = values(dtype, (size,), seed)
    with h5py.File.in_memory() as file:
        array = hdf5_array(file, "it", picture, codec)
        encoded = array.id.read_direct_chunk((0,))[1]
        out = np.empty(picture.nbytes, np.uint8)
        decoder = codec.decoder()
        decoder.begin(as_bytes(encoded), out, lambda: "it")
        decoder.decode_to(len(out))
        np.testing.assert_array_equal(out, as_bytes(picture.tobytes()))
        array.id.write_direct_chunk((0,), codec.encode(picture), 0)
        file.flush()
        array.id.refresh()
        np.testing.assert_array_equal(array[:], picture)


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=200))
def test_the_checksum_is_that_of_hdf5(data):
    with h5py.File.in_memory() as file:
        array = file.create_dataset("it", data=as_bytes(data), chunks=(len(data),), fletcher32=True)
        encoded = array.id.read_direct_chunk((0,))[1]
    assert bytes(encoded) == data + codecs._sum_of(data, "fletcher32")
    same = ZstdChunk(checksum="fletcher32").encode(as_bytes(data))
    assert (
        same[:-4]
        == ZstdChunk().encode(as_bytes(data))[:-4]
        == ZstdChunk(checksum=None).encode(as_bytes(data))
    )


@pytest.mark.parametrize("before", [*CODECS, *IN_HDF5])
@pytest.mark.parametrize("after", [*CODECS, *IN_HDF5])
def test_a_chunk_is_recoded_as_if_it_were_encoded_anew(before, after):
    data = values(np.float16, (30, 20))
    encoded = before.encode(data)
    found = recode(as_bytes(encoded), before, after, data.nbytes, lambda: "it")
    blocks = [codec for codec in (before, after) if isinstance(codec, BloscChunk)]
    if len(blocks) == 2:
        # What blosc compressed in whatever way, blosc decodes: it is taken as it is.
        expected = replace(before, checksum=after.checksum).encode(data)
    else:
        expected = after.encode(data)
    assert found == expected
    size = encoded_size(len(encoded), before, after)
    assert size in (None, len(found))
    alike = type(before) is type(after) and getattr(before, "itemsize", 0) == getattr(after, "itemsize", 0)
    assert (size is not None) == alike


@pytest.mark.parametrize("before", [codec for codec in (*CODECS, *IN_HDF5) if codec.checksum])
@pytest.mark.parametrize("after", [ZstdChunk(checksum="fletcher32"), BloscChunk(2), DeflateChunk(2)])
def test_a_damaged_chunk_is_not_recoded(before, after):
    data = values(np.float16, (40,))
    encoded = bytearray(before.encode(data))
    for bit in range(0, len(encoded) * 8, 7):
        encoded[bit // 8] ^= 1 << bit % 8
        with refused(DatasetError, "checksum-wrong", "^chunk 5 "):
            recode(as_bytes(encoded), before, after, data.nbytes, lambda: "chunk 5")
        encoded[bit // 8] ^= 1 << bit % 8
    for length in range(4):
        with refused(DatasetError, "checksum-wrong", "^chunk 5 "):
            recode(as_bytes(encoded[:length]), before, after, data.nbytes, lambda: "chunk 5")


@pytest.mark.parametrize("itemsize", [1, 2])
def test_what_is_no_deflated_chunk_is_refused(itemsize):
    codec = DeflateChunk(itemsize, checksum=None)
    stream = zlib.compress(bytes(range(200)))
    for data in (b"", b"no stream", stream[:-20], stream[:30], zlib.compress(bytes(201)), zlib.compress(b"")):
        decoder = codec.decoder()
        decoder.begin(as_bytes(data), np.empty(200, np.uint8), lambda: "it")
        with refused(DatasetError, "chunk-damaged", "^it "):
            decoder.decode_to(200)


# --- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(3,), (3, 1, 1), (1, 3)])
def test_a_shard_of_every_shorter_length_is_refused(grid):
    codec = ZstdChunk()
    shard = join([codec.encode(values(np.uint8, (4, 3), seed)) for seed in range(3)], (3,))
    read_index(shard, len(shard), grid, "whole")
    for length in range(len(shard)):
        code = "shard-cut-short" if length < index_bytes(3) else "checksum-wrong"
        for tail in (shard[:length], shard[:length][-index_bytes(3) :]):
            with refused(DatasetError, code, "^here "):
                read_index(tail, length, grid, "here")


def test_a_shard_without_its_beginning_is_refused():
    codec = ZstdChunk()
    shard = join([codec.encode(values(np.uint8, (4, 3), seed)) for seed in range(3)], (3,))
    for start in range(1, len(shard) - index_bytes(3) + 1):
        with refused(DatasetError, "shard-damaged", "^here "):
            read_index(shard[start:], len(shard) - start, (3,), "here")


def test_every_flipped_bit_of_the_index_is_found():
    shard = bytearray(join([b"abc", b"defgh"], (3,)))
    start = len(shard) - index_bytes(3)
    for bit in range(start * 8, len(shard) * 8):
        shard[bit // 8] ^= 1 << bit % 8
        with refused(DatasetError, "checksum-wrong", "^here "):
            read_index(bytes(shard), len(shard), (3,), "here")
        shard[bit // 8] ^= 1 << bit % 8
    read_index(bytes(shard), len(shard), (3,), "here")


@pytest.mark.parametrize(
    "entry",
    [
        (0, 11),  # ends behind the data
        (10, 1),
        (11, 0),
        (2**63, 4),
        (2**64 - 8, 16),  # the sum wraps round to 8
        (2**64 - 2, 2),
        (0, ABSENT),
    ],
)
def test_an_index_with_a_right_checksum_that_points_outside_is_refused(entry):
    table = np.array([entry], "<u8").tobytes()
    shard = b"0123456789" + table + google_crc32c.value(table).to_bytes(4, "little")
    with refused(DatasetError, "shard-damaged", "^here "):
        read_index(shard, len(shard), (1,), "here")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "dtype"), [(CODECS[0], np.uint8), *((codec, np.float16) for codec in CODECS[1:])]
)
def test_a_flipped_bit_in_the_data_is_an_error_never_a_wrong_value(tmp_path, codec, dtype):
    array, data, path = write_one(LocalStore(tmp_path), codec, dtype)
    np.testing.assert_array_equal(array[:], data)
    whole = path.read_bytes()
    for position in range(len(whole) - index_bytes(3)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="checksum"):
            array[:]


# --- decoding --------------------------------------------------------------------------------------


@pytest.fixture(params=["zstd", "numcodecs"])
def zstd(request, monkeypatch):
    """Chunks of zstd, decoded block by block and, as where zstd's functions are hidden, as a whole."""
    if request.param == "numcodecs":
        monkeypatch.setattr(codecs, "_zstd", lambda: None)
    elif codecs._zstd() is None:
        pytest.skip("this numcodecs hides the functions of zstd")
    return ZstdChunk()


def as_bytes(data):
    return np.frombuffer(data, np.uint8)


def like_a_background(size, repeats=5):
    """What zstd needs several blocks for."""
    return np.tile(values(np.uint8, (size,)), repeats)


def test_a_decoder_goes_as_far_as_it_is_asked_and_goes_on_from_there(zstd):
    data = like_a_background(100_000)
    encoded = as_bytes(zstd.encode(data))
    decoder = zstd.decoder()
    rng = np.random.default_rng(0)
    for _ in range(20):
        out = np.full(len(data), 255, np.uint8)
        decoder.begin(encoded, out, lambda: "it")
        for stop in np.sort(rng.integers(0, len(data) + 1, rng.integers(0, 6))):
            decoder.decode_to(int(stop))
            np.testing.assert_array_equal(out[:stop], data[:stop])
            decoder.decode_to(int(stop) // 2)
    decoder.decode_to(len(data))
    np.testing.assert_array_equal(out, data)


def test_one_sample_of_many_is_decoded_without_the_rest():
    if codecs._zstd() is None:
        pytest.skip("this numcodecs hides the functions of zstd")
    data = like_a_background(200_000)
    out = np.full(len(data), 255, np.uint8)
    decoder = ZstdChunk().decoder()
    decoder.begin(as_bytes(ZstdChunk().encode(data)), out, lambda: "it")
    decoder.decode_to(200_000)
    np.testing.assert_array_equal(out[:200_000], data[:200_000])
    assert (out[-400_000:] == 255).all()


@pytest.mark.slow
@pytest.mark.parametrize("codec", [*CODECS, *IN_HDF5])
@given(st.integers(1, 300).map(lambda size: 2 * size), st.data())
def test_decoding_is_the_opposite_of_encoding(codec, size, data):
    picture = values(np.float16, (size,), data.draw(st.integers(0, 5)))
    out = np.empty(size * 2, np.uint8)
    decoder = codec.decoder()
    decoder.begin(as_bytes(codec.encode(picture)), out, lambda: "it")
    decoder.decode_to(data.draw(st.integers(0, size * 2)))
    decoder.decode_to(size * 2)
    np.testing.assert_array_equal(out, as_bytes(picture.tobytes()))


@pytest.mark.slow
@pytest.mark.parametrize("codec", [codec for codec in (*CODECS, *IN_HDF5) if codec.checksum])
def test_every_flipped_bit_of_a_chunk_is_found_before_anything_is_decoded(codec):
    data = values(np.uint8, (200,))
    encoded = bytearray(codec.encode(data))
    out = np.full(200, 255, np.uint8)
    decoder = codec.decoder()
    for bit in range(len(encoded) * 8):
        encoded[bit // 8] ^= 1 << bit % 8
        with refused(DatasetError, "checksum-wrong", "^chunk 5 "):
            decoder.begin(as_bytes(encoded), out, lambda: "chunk 5")
        encoded[bit // 8] ^= 1 << bit % 8
    assert (out == 255).all()
    for length in range(len(encoded)):
        with refused(DatasetError, "checksum-wrong", "^chunk 5 "):
            decoder.begin(as_bytes(encoded[:length]), out, lambda: "chunk 5")
    decoder.begin(as_bytes(encoded), out, lambda: "chunk 5")
    decoder.decode_to(200)
    np.testing.assert_array_equal(out, data)


@pytest.mark.parametrize("size", [1, 99, 101, 1000])
@pytest.mark.parametrize("whole", [True, False])
def test_a_chunk_of_another_size_is_refused(zstd, size, whole):
    for codec in (zstd, BloscChunk(itemsize=2)):
        decoder = codec.decoder()
        encoded = as_bytes(codec.encode(values(np.uint8, (size,))))
        decoder.begin(encoded, np.empty(100, np.uint8), lambda: "it")
        with refused(DatasetError, "chunk-damaged", "^it "):
            decoder.decode_to(100 if whole or size > 100 else size + 1)


def with_checksum(data):
    return as_bytes(data + google_crc32c.value(data).to_bytes(4, "little"))


def test_what_is_no_frame_is_refused_though_its_checksum_is_right(zstd):
    frame = zstd.encode(like_a_background(100_000))[:-4]
    for codec, data in (
        (zstd, b""),
        (zstd, b"no frame at all"),
        (zstd, frame[:-1]),
        (zstd, frame[:100]),
        (BloscChunk(2), b""),
        (BloscChunk(2), b"no buffer"),
        (BloscChunk(2), bytes(4) + (500_000).to_bytes(4, "little") + bytes(40)),
    ):
        decoder = codec.decoder()
        code = "chunk-damaged" if data else "checksum-wrong"
        with refused(DatasetError, code, "^it "):
            decoder.begin(with_checksum(data), np.empty(500_000, np.uint8), lambda: "it")
            decoder.decode_to(500_000)


def test_a_decoder_that_failed_can_begin_again(zstd):
    data = like_a_background(100_000)
    out = np.empty(len(data), np.uint8)
    encoded = zstd.encode(data)
    decoder = zstd.decoder()
    decoder.begin(with_checksum(encoded[:-5]), out, lambda: "it")
    with refused(DatasetError, "chunk-damaged", "^it "):
        decoder.decode_to(len(data))
    decoder.begin(as_bytes(encoded), out, lambda: "it")
    decoder.decode_to(len(data))
    np.testing.assert_array_equal(out, data)


@pytest.mark.parametrize("codec", CODECS)
def test_the_codec_is_found_in_what_zarr_says_of_an_array(codec):
    array = array_of(MemoryStore(), codec, np.uint16, (4, 4), (2, 2), (4, 4))
    (sharding,) = array.metadata.to_dict()["codecs"]
    assert codec_of(sharding["configuration"]["codecs"], 2) == codec


def test_other_codecs_are_not_taken_for_ours():
    for names in (["bytes"], ["bytes", "zstd"], ["bytes", "gzip", "crc32c"], ["transpose", "zstd", "crc32c"]):
        assert codec_of([{"name": name} for name in names], 1) is None

"""Deflate streams: zlib reads them, their codes are the shortest, and they are small."""

from __future__ import annotations

import zlib

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgbgpack.export import deflate, deflate_kernels
from fgbgpack.export.deflate import Deflater, zlib_stream
from fgbgpack.export.deflate_kernels import BLOCK, LONGEST, REPETITION, RUN, code_lengths, find_runs


@st.composite
def byte_strings(draw):
    """Bytes as different as noise, runs, ramps and repetitions of what was before."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.sampled_from([0, 1, 2, 5, 6, 7, 40, 300, 2000]))
    noise = random.integers(0, draw(st.sampled_from([1, 2, 7, 256])), size).astype(np.uint8)
    data = np.repeat(noise, draw(st.sampled_from([1, 2, 9, 10, 300])))[:4000]
    return np.concatenate([data, np.sort(data), data[::-1], data[: size // 2]])


def uncompiled(monkeypatch) -> None:
    """The kernels as they are written, all that they call included."""
    for name in ("_bytes_at", "_slot", "_distance_symbol", "_append", "_codes_of", "_coded_lengths"):
        function = getattr(deflate_kernels, name)
        monkeypatch.setattr(deflate_kernels, name, getattr(function, "py_func", function))
    compiled = getattr(code_lengths, "py_func", code_lengths)
    monkeypatch.setattr(deflate_kernels, "code_lengths", compiled)
    for name in ("find_runs", "find_repetitions", "count_symbols", "write_block"):
        function = getattr(deflate_kernels, name)
        monkeypatch.setattr(deflate, name, getattr(function, "py_func", function))


@given(byte_strings(), st.sampled_from([0, 1, 2, 3, 8]), st.sampled_from([0, 2, 9, 65, 5000]))
def test_zlib_reads_them(data, pixel, row):
    assert zlib.decompress(zlib_stream(data, row=row, pixel=pixel)) == data.tobytes()


@given(st.lists(byte_strings(), max_size=4), st.sampled_from([0, 2, 3]))
def test_streams_in_pieces(pieces, pixel):
    deflater = Deflater(pixel=pixel)
    stream = b"".join([*(deflater.compress(piece.data) for piece in pieces), deflater.flush()])
    reader = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    assert reader.decompress(stream) == b"".join(piece.tobytes() for piece in pieces)
    assert reader.eof
    assert not reader.unused_data


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("pixel", [0, 3])
def test_blocks_of_the_greatest_size(size, pixel):
    random = np.random.default_rng(1)
    for data in (
        random.integers(0, 256, size),
        random.integers(0, 256, size) // 64 * 64,
        np.arange(size) // 700,
    ):
        data = data.astype(np.uint8)
        stream = zlib_stream(data, pixel=pixel, row=385)
        assert zlib.decompress(stream) == data.tobytes()
        # Noise grows by what says so.
        assert len(stream) < size * 1.01


@pytest.mark.parametrize("pixel", [0, 1, 2, 3])
def test_kernels_give_the_same_uncompiled(monkeypatch, pixel):
    random = np.random.default_rng(2)
    tile = random.integers(0, 90, 60).astype(np.uint8)
    data = np.concatenate(
        [tile, tile, np.zeros(600, np.uint8), tile[::-1], tile, random.integers(0, 256, 90)]
    )
    data = data.astype(np.uint8)
    compiled = zlib_stream(data, row=31, pixel=pixel)
    uncompiled(monkeypatch)
    assert zlib_stream(data, row=31, pixel=pixel) == compiled


@given(byte_strings())
def test_runs_are_those_of_the_naive_twin(data):
    tokens = np.empty((len(data) // REPETITION + 1, 3), np.int32)
    count = find_runs(data, tokens)
    assert tokens[:count].tolist() == naive.runs(data.tolist(), RUN, LONGEST)


@given(
    st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 50, 4000, 70000]), min_size=2, max_size=60),
    st.integers(6, 15),
)
def test_codes_are_the_shortest(counts, most):
    lengths = np.empty(len(counts), np.uint8)
    code_lengths(np.array(counts, np.int32), most, lengths)
    used = [length for length, count in zip(lengths.tolist(), counts, strict=True) if count]
    assert max(lengths) <= most
    # No code begins with another one, and none is missing.
    assert sum(2.0**-length for length in lengths.tolist() if length) == 1
    if len(used) > 1:
        assert all(used)
        assert (lengths > 0).sum() == len(used)
        best, longest = naive.huffman_bits(counts)
        found = sum(length * count for length, count in zip(lengths.tolist(), counts, strict=True))
        assert found == best if longest <= most else found > best


def test_long_codes_are_shortened():
    fibonacci = [1, 1]
    while len(fibonacci) < 25:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = np.empty(25, np.uint8)
    code_lengths(np.array(fibonacci, np.int32), 15, lengths)
    assert naive.huffman_bits(fibonacci)[1] == 24
    assert max(lengths) == 15
    assert sum(2.0**-length for length in lengths.tolist()) == 1
    data = np.repeat(np.arange(22, dtype=np.uint8), fibonacci[:22])
    np.random.default_rng(0).shuffle(data)
    assert zlib.decompress(zlib_stream(data)) == data.tobytes()


def test_they_are_small():
    y, x = np.mgrid[:128, :128]
    hill = np.hypot(y - 40, x - 70)
    mask = np.where(hill < 30, 255, 0).astype(np.uint8)
    steps = np.rint(hill * 3).astype("<u2").view(np.uint8)
    assert len(zlib_stream(mask)) < len(zlib.compress(mask, 1))
    assert len(zlib_stream(steps, pixel=2)) < len(zlib.compress(steps, 1))

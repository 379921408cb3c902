"""Where a sample of an array lies: in which chunk of which object, and at which bytes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zarr.abc.store import RangeByteRequest, SuffixByteRequest

from fgbgpack.storage.arrays import ArrayForm
from fgbgpack.storage.codecs import CRC_BYTES
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.sharding import ABSENT, index_bytes, read_index
from fgbgpack.storage.store import DatasetStore


@dataclass(frozen=True)
class ChunkPlace:
    """A chunk that holds a sample, or a band of its rows.

    Attributes:
        object: What it is in: a key of the store, or the HDF5 file.
        chunk: Its number in a shard, or in the array of an HDF5 file.
        samples: How many samples it has.
        row: Which of them the sample is.
        offset: The first of its bytes in the object; ``None`` where it was never written, as of the next.
        size: How many bytes it has.
        checksum: Its CRC-32C, 8 hexadecimal digits.
    """

    object: str
    chunk: int
    samples: int
    row: int
    offset: int | None
    size: int | None
    checksum: str | None


def chunks_of_sample(store: DatasetStore, path: str, sample: int) -> list[ChunkPlace]:
    """The chunks that hold a sample of an array, of its rows from top to bottom.

    Raises DatasetError where the array is missing or damaged, or the store cannot be read.
    """
    form = store.forms([path], copied=True)[path]
    layout = form.layout
    row, within = divmod(sample, layout.chunk[0])
    shard, down = divmod(row, layout.grid[0])
    bands = math.prod(layout.grid[1:])
    numbers = range(down * bands, (down + 1) * bands)
    size = min(layout.chunk[0], layout.shape[0] - row * layout.chunk[0])
    if isinstance(store.store, Hdf5Store):
        first = shard * form.chunks_per_shard
        found = _in_file(store.store, path, range(first + numbers.start, first + numbers.stop))
    else:
        found = _in_object(store, f"{path}/{layout.key(shard)}", form, numbers)
    return [ChunkPlace(where, number, size, within, *span) for where, number, span in found]


#: Offset, size and checksum of a chunk, all three ``None`` where there is none.
_Span = tuple[int | None, int | None, str | None]
_NOWHERE: _Span = (None, None, None)


def _in_file(store: Hdf5Store, path: str, numbers: range) -> list[tuple[str, int, _Span]]:
    """Where chunks lie in an HDF5 file, by their numbers in the array."""
    array, found = store.file.arrays[path], []
    for number in numbers:
        span = array.span(number)
        checksum = None if array.sums is None else f"{int(array.sums[number]):08x}"
        found.append((store.file.name, number, _NOWHERE if span is None else (*span, checksum)))
    return found


def _in_object(
    store: DatasetStore, key: str, form: ArrayForm, numbers: range
) -> list[tuple[str, int, _Span]]:
    """Where chunks lie in the object of a key, by their numbers in it."""
    size = store.size(key)
    if size is None:
        return [(key, number, _NOWHERE) for number in numbers]
    spans = [(0, size)]
    if form.sharded:
        tail = store.get_part(key, SuffixByteRequest(index_bytes(form.chunks_per_shard))) or b""
        index = read_index(tail, size, form.layout.grid, f"{store.name}/{key}").reshape(-1, 2)
        spans = index[numbers.start : numbers.stop].tolist()
    found: list[tuple[str, int, _Span]] = []
    for number, (offset, length) in zip(numbers, spans, strict=True):
        end = offset + length
        is_there = offset != ABSENT and length >= CRC_BYTES
        sum_of = store.get_part(key, RangeByteRequest(end - CRC_BYTES, end)) if is_there else None
        span = _NOWHERE if sum_of is None else (offset, length, sum_of[::-1].hex())
        found.append((key, number, span))
    return found

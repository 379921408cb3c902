"""The bytes of Zarr v3 shards: join encoded chunks with an index, read the index.

The layout of a shard is that of the ``sharding_indexed`` codec of the Zarr v3 core specification: the
encoded inner chunks one after the other, then an index of one ``(offset, nbytes)`` pair of little-endian
uint64 for every inner chunk in C order, ``2**64 - 1`` twice for one that is absent, then the CRC-32C of the
index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import DatasetError
from fgbgpack.storage.codecs import CRC_BYTES, REPAIR, crc32c

#: The offset and the size of a chunk that is not there.
ABSENT = 2**64 - 1
_ENTRY_BYTES = 16

Buffer: TypeAlias = bytes | bytearray | memoryview


def index_bytes(chunks: int) -> int:
    """The size of the index of a shard of ``chunks`` inner chunks, which ends the shard."""
    return chunks * _ENTRY_BYTES + CRC_BYTES


def join(encoded: Sequence[bytes | None], grid: Sequence[int]) -> bytes:
    """The shard that begins with the encoded inner chunks, in C order; the rest of its grid is absent.

    ``None`` stands for a chunk that is absent as well.
    """
    table = index_of([None if chunk is None else len(chunk) for chunk in encoded], grid)
    return b"".join([*(chunk for chunk in encoded if chunk is not None), table])


def index_of(sizes: Sequence[int | None], grid: Sequence[int]) -> bytes:
    """The index of a shard that begins with chunks of these sizes, in C order; ``None`` and the rest are
    absent.
    """
    index = np.full((math.prod(grid), 2), ABSENT, "<u8")
    there = np.array([size is not None for size in sizes], np.bool_)
    lengths = np.array([size or 0 for size in sizes], "<u8")
    index[: len(sizes), 0][there] = (np.cumsum(lengths) - lengths)[there]
    index[: len(sizes), 1][there] = lengths[there]
    table = index.tobytes()
    return table + crc32c(table)


def read_index(tail: Buffer, shard_bytes: int, grid: Sequence[int], where: str) -> NDArray[np.uint64]:
    """The index of a shard, checked: (*grid, 2) uint64, offset and size of every inner chunk in bytes.

    Both are ``2**64 - 1`` where a chunk is absent. ``tail`` is the shard, or its last ``index_bytes`` at
    least. Raises DatasetError if the shard is cut short, its checksum is wrong, or a chunk would lie outside
    it.
    """
    chunks = math.prod(grid)
    size = index_bytes(chunks)
    if len(tail) < size or shard_bytes < size:
        raise DatasetError(
            f"{where} is cut short: {shard_bytes} bytes, less than its index of {size}. {REPAIR}",
            code="shard-cut-short",
        )
    table = bytes(memoryview(tail)[len(tail) - size : len(tail) - CRC_BYTES])
    if crc32c(table) != memoryview(tail)[len(tail) - CRC_BYTES :]:
        raise DatasetError(
            f"{where} is damaged: the checksum of its index is wrong. {REPAIR}", code="checksum-wrong"
        )
    index = np.frombuffer(table, "<u8").reshape(chunks, 2)
    present = index[index[:, 0] != ABSENT]
    # Compared by subtraction: a sum of damaged numbers could wrap round.
    ends = shard_bytes - size
    if np.any(present[:, 1] > ends) or np.any(present[:, 0] > ends - np.minimum(present[:, 1], ends)):
        raise DatasetError(f"{where} is damaged: its index points outside it. {REPAIR}", code="shard-damaged")
    return index.reshape(*grid, 2)

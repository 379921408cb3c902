"""The bytes of a Zarr v3 shard: encode chunks, join them with an index, read the index.

The layout is that of the ``sharding_indexed`` codec of the Zarr v3 core specification: the encoded inner
chunks one after the other, then an index of one ``(offset, nbytes)`` pair of little-endian uint64 for every
inner chunk in C order, ``2**64 - 1`` twice for one that is absent, then the CRC-32C of the index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import google_crc32c
import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from fgbgpack.errors import DatasetError

_ABSENT = 2**64 - 1
_CRC_BYTES = 4
_ENTRY_BYTES = 16

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True)
class ZstdChunk:
    """Chunks as one zstd frame each, with a checksum: a flipped bit is an error, never a wrong pixel.

    One frame, and not blosc's small blocks, because its window is what finds a background again.
    """

    level: int = 3

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """The frame that holds ``chunk``, which must be contiguous."""
        encoded: bytes = Zstd(level=self.level, checksum=True).encode(chunk)
        return encoded

    def zarr_codecs(self) -> dict[str, Any]:
        """The arguments of ``zarr.create_array`` that describe these chunks."""
        from zarr.codecs import ZstdCodec

        return {"compressors": [ZstdCodec(level=self.level, checksum=True)]}


@dataclass(frozen=True)
class BloscChunk:
    """Chunks of numbers rounded to a grid: bytes of equal weight are put together, then zstd.

    Putting bits together instead takes a fifth more bytes on depth maps, and as long to decode. A
    CRC-32C follows, for blosc itself has no checksum.
    """

    itemsize: int
    level: int = 3

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """The blosc buffer that holds ``chunk``, which must be contiguous, and its checksum."""
        encoded: bytes = Blosc(
            cname="zstd", clevel=self.level, shuffle=Blosc.SHUFFLE, typesize=self.itemsize
        ).encode(chunk)
        return encoded + _crc32c(encoded)

    def zarr_codecs(self) -> dict[str, Any]:
        """The arguments of ``zarr.create_array`` that describe these chunks."""
        from zarr.codecs import BloscCodec, Crc32cCodec

        blosc = BloscCodec(
            typesize=self.itemsize, cname="zstd", clevel=self.level, shuffle="shuffle", blocksize=0
        )
        return {"compressors": [blosc, Crc32cCodec()]}


ChunkCodec: TypeAlias = ZstdChunk | BloscChunk


def _crc32c(data: bytes) -> bytes:
    crc: int = google_crc32c.value(data)
    return crc.to_bytes(_CRC_BYTES, "little")


def index_bytes(chunks: int) -> int:
    """The size of the index of a shard of ``chunks`` inner chunks, which ends the shard."""
    return chunks * _ENTRY_BYTES + _CRC_BYTES


def join(encoded: Sequence[bytes], grid: Sequence[int]) -> bytes:
    """The shard that begins with the encoded inner chunks, in C order; the rest of its grid is absent."""
    index = np.full((math.prod(grid), 2), _ABSENT, "<u8")
    sizes = np.array([len(chunk) for chunk in encoded], "<u8")
    index[: len(encoded), 0] = np.cumsum(sizes) - sizes
    index[: len(encoded), 1] = sizes
    table = index.tobytes()
    return b"".join([*encoded, table, _crc32c(table)])


def read_index(tail: Buffer, shard_bytes: int, grid: Sequence[int], where: str) -> NDArray[np.uint64]:
    """The index of a shard, checked.

    Args:
        tail: The last ``index_bytes(product of grid)`` bytes of the shard, or the whole of it.
        shard_bytes: The size of the whole shard.
        grid: Inner chunks along each axis.
        where: Names the shard in messages.

    Returns:
        (*grid, 2) uint64: offset and size of every inner chunk in bytes, both ``2**64 - 1`` if absent.

    Raises:
        DatasetError: The shard is cut short, its checksum is wrong, or a chunk would lie outside it.
    """
    chunks = math.prod(grid)
    size = index_bytes(chunks)
    if len(tail) < size or shard_bytes < size:
        raise DatasetError(f"{where} is cut short: {shard_bytes} bytes, less than its index of {size}.")
    table = bytes(memoryview(tail)[len(tail) - size : len(tail) - _CRC_BYTES])
    if _crc32c(table) != memoryview(tail)[len(tail) - _CRC_BYTES :]:
        raise DatasetError(f"{where} is damaged: the checksum of its index is wrong.")
    index = np.frombuffer(table, "<u8").reshape(chunks, 2)
    present = index[index[:, 0] != _ABSENT]
    # Compared by subtraction: a sum of damaged numbers could wrap round.
    ends = shard_bytes - size
    if np.any(present[:, 1] > ends) or np.any(present[:, 0] > ends - np.minimum(present[:, 1], ends)):
        raise DatasetError(f"{where} is damaged: its index points outside it.")
    return index.reshape(*grid, 2)

"""The bytes of a Zarr v3 shard: encode chunks, join them with an index, read the index, decode chunks.

The layout is that of the ``sharding_indexed`` codec of the Zarr v3 core specification: the encoded inner
chunks one after the other, then an index of one ``(offset, nbytes)`` pair of little-endian uint64 for every
inner chunk in C order, ``2**64 - 1`` twice for one that is absent, then the CRC-32C of the index.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, TypeAlias

import google_crc32c
import numcodecs.zstd
import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from fgbgpack.errors import DatasetError

_ABSENT = 2**64 - 1
_CRC_BYTES = 4
_ENTRY_BYTES = 16
#: What to do about a damaged shard.
REPAIR = (
    "Restore it from a copy, or delete it and run the command that made the dataset again: it writes what "
    "is missing."
)

Buffer: TypeAlias = bytes | bytearray | memoryview
Bytes: TypeAlias = NDArray[np.uint8]
#: Gives the name of a thing, for messages.
Name: TypeAlias = Callable[[], str]


class Decoder(Protocol):
    """Decodes one chunk after another, each only as far as it is asked to."""

    def begin(self, encoded: Bytes, out: Bytes, where: Name) -> None:
        """Take a new chunk, and check it: what is decoded later is what was once encoded.

        Args:
            encoded: The bytes of the chunk, contiguous, which must stay as they are while it is decoded.
            out: As many bytes as the chunk has when it is decoded, contiguous.
            where: Gives the chunk's name, for messages.

        Raises:
            DatasetError: The chunk's checksum is wrong.
        """

    def reach(self, stop: int) -> None:
        """Fill at least the first ``stop`` bytes of ``out``, going on from where it was.

        Raises:
            DatasetError: The chunk does not hold what it should.
        """


@dataclass(frozen=True)
class ZstdChunk:
    """Chunks as one zstd frame each, with a checksum: a flipped bit is an error, never a wrong pixel.

    One frame, and not blosc's small blocks, because its window is what finds a background again. The
    checksum is a CRC-32C of the frame. Zstd's own is of what the frame holds: it takes a third of the
    time of decoding, and says nothing before all is decoded.
    """

    level: int = 3

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """The frame that holds ``chunk``, which must be contiguous, and its checksum."""
        encoded: bytes = Zstd(level=self.level).encode(chunk)
        return encoded + _crc32c(encoded)

    def decoder(self) -> Decoder:
        """What decodes these chunks, for one thread at a time."""
        return _ZstdDecoder(zstd) if (zstd := _zstd()) else _WholeZstdDecoder()

    def zarr_codecs(self) -> dict[str, Any]:
        """The arguments of ``zarr.create_array`` that describe these chunks."""
        from zarr.codecs import Crc32cCodec, ZstdCodec

        return {"compressors": [ZstdCodec(level=self.level, checksum=False), Crc32cCodec()]}


@dataclass(frozen=True)
class BloscChunk:
    """Chunks of numbers rounded to a grid: bytes of equal weight are put together, then compressed.

    Putting bits together instead takes a fifth more bytes on depth maps, and as long to decode. A
    CRC-32C follows, for blosc itself has no checksum.

    Attributes:
        itemsize: Bytes of a number.
        compressor: ``"zstd"``; or ``"lz4hc"``, which takes twice as long to encode and a third as long to
            decode, and looks back 64 KiB.
        level: How hard it tries, 1 to 9.
        whole: Whether the chunk is one block of blosc's, in which each part is looked for in all before it.
    """

    itemsize: int
    compressor: Literal["zstd", "lz4hc"] = "zstd"
    level: int = 3
    whole: bool = False

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """The blosc buffer that holds ``chunk``, which must be contiguous, and its checksum."""
        codec = Blosc(
            cname=self.compressor,
            clevel=self.level,
            shuffle=Blosc.SHUFFLE,
            blocksize=chunk.nbytes if self.whole else 0,
            typesize=self.itemsize,
        )
        encoded: bytes = codec.encode(chunk)
        return encoded + _crc32c(encoded)

    def decoder(self) -> Decoder:
        """What decodes these chunks, for one thread at a time."""
        return _BloscDecoder()

    def zarr_codecs(self, chunk_bytes: int = 0) -> dict[str, Any]:
        """The arguments of ``zarr.create_array`` that describe these chunks.

        Args:
            chunk_bytes: The size of a chunk; needed only where that is one block.
        """
        from zarr.codecs import BloscCodec, Crc32cCodec

        blosc = BloscCodec(
            typesize=self.itemsize,
            cname=self.compressor,
            clevel=self.level,
            shuffle="shuffle",
            blocksize=chunk_bytes if self.whole else 0,
        )
        return {"compressors": [blosc, Crc32cCodec()]}


ChunkCodec: TypeAlias = ZstdChunk | BloscChunk


def codec_of(described: Sequence[Mapping[str, Any]], itemsize: int) -> ChunkCodec | None:
    """The codec that Zarr metadata describes, chunk after chunk; ``None`` if it is not one of these."""
    match [codec["name"] for codec in described]:
        case ["bytes", "zstd", "crc32c"]:
            return ZstdChunk()
        case ["bytes", "blosc", "crc32c"]:
            given = described[1]["configuration"]
            return BloscChunk(itemsize, given["cname"], given["clevel"], whole=given["blocksize"] > 0)
    return None


def _crc32c(data: bytes | Bytes) -> bytes:
    crc: int = google_crc32c.value(data)
    return crc.to_bytes(_CRC_BYTES, "little")


# --- shards ----------------------------------------------------------------------------------------


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
        raise DatasetError(
            f"{where} is cut short: {shard_bytes} bytes, less than its index of {size}. {REPAIR}"
        )
    table = bytes(memoryview(tail)[len(tail) - size : len(tail) - _CRC_BYTES])
    if _crc32c(table) != memoryview(tail)[len(tail) - _CRC_BYTES :]:
        raise DatasetError(f"{where} is damaged: the checksum of its index is wrong. {REPAIR}")
    index = np.frombuffer(table, "<u8").reshape(chunks, 2)
    present = index[index[:, 0] != _ABSENT]
    # Compared by subtraction: a sum of damaged numbers could wrap round.
    ends = shard_bytes - size
    if np.any(present[:, 1] > ends) or np.any(present[:, 0] > ends - np.minimum(present[:, 1], ends)):
        raise DatasetError(f"{where} is damaged: its index points outside it. {REPAIR}")
    return index.reshape(*grid, 2)


# --- decoding --------------------------------------------------------------------------------------


def _checked(encoded: Bytes, where: Name) -> Bytes:
    """The part of a chunk before its checksum, which is right."""
    data = encoded[:-_CRC_BYTES]
    if len(encoded) < _CRC_BYTES or _crc32c(data) != encoded[-_CRC_BYTES:].tobytes():
        raise _damaged(where, "its checksum is wrong")
    return data


def _damaged(where: Name, why: str) -> DatasetError:
    return DatasetError(f"{where()} is damaged: {why}. {REPAIR}")


class _BloscDecoder:
    """Decodes a chunk at once: one blosc block holds all of it."""

    # In the header of a blosc buffer.
    _SIZE = slice(4, 8)
    _HEADER_BYTES = 16

    def __init__(self) -> None:
        self._codec = Blosc()
        self._left: tuple[Bytes, Bytes, Name] | None = None

    def begin(self, encoded: Bytes, out: Bytes, where: Name) -> None:
        data = _checked(encoded, where)
        size = int.from_bytes(data[self._SIZE].tobytes(), "little")
        if len(data) < self._HEADER_BYTES or size != len(out):
            raise _damaged(where, f"it should hold {len(out)} bytes and says that it holds {size}")
        self._left = (data, out, where)

    def reach(self, stop: int) -> None:
        if self._left is not None:
            data, out, where = self._left
            try:
                self._codec.decode(data, out=out)
            except (RuntimeError, ValueError) as exc:
                raise _damaged(where, f"blosc says: {exc}") from exc
            self._left = None


class _WholeZstdDecoder:
    """Decodes a frame at once, where the functions of ``_zstd`` are not to be had."""

    def __init__(self) -> None:
        self._codec = Zstd()
        self._left: tuple[Bytes, Bytes, Name] | None = None

    def begin(self, encoded: Bytes, out: Bytes, where: Name) -> None:
        self._left = (_checked(encoded, where), out, where)

    def reach(self, stop: int) -> None:
        if self._left is not None:
            data, out, where = self._left
            try:
                decoded = self._codec.decode(data)
            except RuntimeError as exc:
                raise _damaged(where, f"zstd says: {exc}") from exc
            if len(decoded) != len(out):
                raise _damaged(where, f"it should hold {len(out)} bytes and holds {len(decoded)}")
            out[:] = np.frombuffer(decoded, np.uint8)
            self._left = None


class _Span(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer of zstd.h."""

    _fields_ = (("address", ctypes.c_void_p), ("size", ctypes.c_size_t), ("position", ctypes.c_size_t))


@cache
def _zstd() -> ctypes.CDLL | None:
    """The functions of zstd inside the extension module of numcodecs; ``None`` where it hides them.

    numcodecs itself offers to decode a frame as a whole. Zstd can stop where enough is decoded and go on
    later, which makes one sample of a chunk half as costly.
    """
    context, size = ctypes.c_void_p, ctypes.c_size_t
    span = ctypes.POINTER(_Span)
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "ZSTD_createDCtx": (context, []),
        "ZSTD_freeDCtx": (size, [context]),
        "ZSTD_DCtx_setParameter": (size, [context, ctypes.c_int, ctypes.c_int]),
        "ZSTD_DCtx_reset": (size, [context, ctypes.c_int]),
        "ZSTD_decompressStream": (size, [context, span, span]),
        "ZSTD_getErrorName": (ctypes.c_char_p, [size]),
    }
    try:
        library = ctypes.CDLL(numcodecs.zstd.__file__)
        for name, (result, arguments) in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return library if _ZstdDecoder(library).usable else None


class _ZstdDecoder:
    """Decodes a frame block by block, straight into its place."""

    # ZSTD_d_stableOutBuffer: the output stays where it is, so zstd needs no window of its own.
    _STABLE_OUT = 1001
    _RESET_SESSION = 1
    # ZSTD_startingInputLength: what zstd needs to see of a frame to say how much more it needs.
    _START = 5
    # Results with the top bit set are errors.
    _ERROR = 1 << (8 * ctypes.sizeof(ctypes.c_size_t) - 1)

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._decompress = library.ZSTD_decompressStream
        self._free = library.ZSTD_freeDCtx
        self._context = library.ZSTD_createDCtx()
        if not self._context:
            raise MemoryError("there is no memory left to decode in")
        self.usable = library.ZSTD_DCtx_setParameter(self._context, self._STABLE_OUT, 1) == 0
        self._in, self._out = _Span(), _Span()
        self._in_pointer, self._out_pointer = ctypes.pointer(self._in), ctypes.pointer(self._out)
        self._available = 0
        self._left: tuple[Bytes, Bytes, Name] | None = None

    def __del__(self) -> None:
        self._free(self._context)

    def begin(self, encoded: Bytes, out: Bytes, where: Name) -> None:
        data = _checked(encoded, where)
        self._library.ZSTD_DCtx_reset(self._context, self._RESET_SESSION)
        self._left = (data, out, where)
        self._available = len(data)
        self._in.address, self._in.position = _address(data), 0
        self._in.size = min(self._START, self._available)
        self._out.address, self._out.size, self._out.position = _address(out), len(out), 0

    def reach(self, stop: int) -> None:
        source, target = self._in, self._out
        if self._left is None or target.position >= stop:
            return
        if stop >= target.size:
            source.size = self._available
        while True:
            # How much zstd wants next: a block with the head of the one that follows it, 0 at the end.
            wanted = self._decompress(self._context, self._out_pointer, self._in_pointer)
            where = self._left[2]
            if wanted >= self._ERROR:
                raise _damaged(where, f"zstd says: {self._library.ZSTD_getErrorName(wanted).decode()}")
            if wanted == 0 and target.position == target.size:
                self._left = None
                return
            if wanted == 0 or source.position == self._available:
                held = f"{target.position} bytes"
                raise _damaged(where, f"it should hold {target.size} bytes and holds {held}")
            if target.position >= stop and stop < target.size:
                return
            source.size = min(source.position + wanted, self._available)


def _address(array: Bytes) -> int:
    address: int = array.__array_interface__["data"][0]
    return address

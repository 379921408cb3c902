"""The bytes of chunks: how they are encoded, and decoded no further than is asked for."""

from __future__ import annotations

import ctypes
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, TypeAlias

import google_crc32c
import numcodecs.zstd
import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.fletcher32 import Fletcher32
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from fgbgpack.errors import DatasetError

CRC_BYTES = 4
# Of the header of a blosc buffer, which says how many bytes it holds.
_BLOSC_HEADER_BYTES = 16
_BLOSC_SIZE = slice(4, 8)
# Decoding depends on nothing but the buffer.
_BLOSC = Blosc()
#: What to do about a damaged shard.
REPAIR = "Mend it with fgbgpack repair, or restore it from a copy."

Bytes: TypeAlias = NDArray[np.uint8]
#: Gives the name of a thing, for messages.
Name: TypeAlias = Callable[[], str]
#: What follows each chunk: Zarr's CRC-32C, HDF5's Fletcher-32, or nothing.
Checksum: TypeAlias = Literal["crc32c", "fletcher32", None]


class Decoder(Protocol):
    """Decodes one chunk after another, each only as far as it is asked to."""

    def begin(self, encoded: Bytes, out: Bytes, where: Name) -> None:
        """Take a new chunk, and check it: what is decoded later is what was once encoded.

        ``encoded`` must stay as it is while it is decoded into ``out``; both are contiguous. Raises
        DatasetError if the checksum is wrong.
        """

    def decode_to(self, stop: int) -> None:
        """Fill at least the first ``stop`` bytes of ``out``; DatasetError if the chunk does not hold them."""


@dataclass(frozen=True)
class ZstdChunk:
    """Chunks as one zstd frame each, with a checksum: a flipped bit is an error, never a wrong pixel.

    One frame, not blosc's small blocks: its window finds a background again. The checksum is of the frame:
    zstd's own takes a third of the time of decoding, and says nothing before all is decoded.
    """

    level: int = 3
    checksum: Checksum = "crc32c"

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """The frame that holds ``chunk``, which must be contiguous, and its checksum."""
        encoded: bytes = Zstd(level=self.level).encode(chunk)
        return encoded + _sum_of(encoded, self.checksum)

    def decoder(self) -> Decoder:
        """What decodes these chunks, for one thread at a time."""
        zstd = _zstd()
        return _ZstdDecoder(zstd, self.checksum) if zstd else _WholeDecoder(_unzstd, self.checksum)

    def zarr_codecs(self) -> dict[str, Any]:
        """The arguments of ``zarr.create_array`` that describe these chunks."""
        return {"compressors": [ZstdCodec(level=self.level, checksum=False), Crc32cCodec()]}


@dataclass(frozen=True)
class BloscChunk:
    """Chunks of numbers rounded to a grid: bytes of equal weight are put together, then compressed.

    Putting bits together instead takes a fifth more bytes on depth maps, and as long to decode. ``itemsize``
    is in bytes, ``level`` 1 to 9.
    """

    itemsize: int
    level: int = 3
    checksum: Checksum = "crc32c"

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """The blosc buffer that holds ``chunk``, which must be contiguous, and its checksum."""
        codec = Blosc(cname="zstd", clevel=self.level, shuffle=Blosc.SHUFFLE, typesize=self.itemsize)
        encoded: bytes = codec.encode(chunk)
        return encoded + _sum_of(encoded, self.checksum)

    def decoder(self) -> Decoder:
        """What decodes these chunks, for one thread at a time."""
        return _WholeDecoder(_unblosc, self.checksum)

    def zarr_codecs(self) -> dict[str, Any]:
        """The arguments of ``zarr.create_array`` that describe these chunks."""
        blosc = BloscCodec(typesize=self.itemsize, cname="zstd", clevel=self.level, shuffle="shuffle")
        return {"compressors": [blosc, Crc32cCodec()]}


@dataclass(frozen=True)
class DeflateChunk:
    """Chunks that every HDF5 library decodes: bytes of equal weight are put together, then deflated.

    Deflate looks back 32 KiB, so it does not find a background again: such chunks take several times the
    bytes of the others. ``itemsize`` is in bytes, ``level`` 1 to 9.
    """

    itemsize: int
    level: int = 4
    checksum: Checksum = "fletcher32"

    def encode(self, chunk: NDArray[Any]) -> bytes:
        """The zlib stream that holds ``chunk``, which must be contiguous, and its checksum."""
        plain = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8)
        if self.itemsize > 1:
            plain = np.ascontiguousarray(plain.reshape(-1, self.itemsize).T)
        encoded = zlib.compress(plain.data, self.level)
        return encoded + _sum_of(encoded, self.checksum)

    def decoder(self) -> Decoder:
        """What decodes these chunks, for one thread at a time."""
        return _WholeDecoder(self._inflate, self.checksum)

    def _inflate(self, data: Bytes, out: Bytes, where: Name) -> None:
        inflate = zlib.decompressobj()
        try:
            decoded = np.frombuffer(inflate.decompress(data.data, len(out) + 1), np.uint8)
        except zlib.error as exc:
            raise _damaged(where, f"zlib says: {exc}") from exc
        _check_size(len(decoded), len(out), where)
        if self.itemsize > 1:
            out.reshape(-1, self.itemsize)[...] = decoded.reshape(self.itemsize, -1).T
        else:
            out[:] = decoded


ChunkCodec: TypeAlias = ZstdChunk | BloscChunk | DeflateChunk


def codec_of(described: object, itemsize: int) -> ChunkCodec | None:
    """The codec that Zarr metadata describes, chunk after chunk; ``None`` if it is not one of these.

    Every value counts: an order of bytes or axes that is overlooked gives wrong numbers.
    """
    if not isinstance(described, Sequence) or len(described) != 3:
        return None
    order, compressor, checksum = described
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    orders = [little, {"name": "bytes"}, {"name": "bytes", "configuration": {}}]
    if not same_json(order, *(orders if itemsize == 1 else [little])):
        return None
    if not same_json(checksum, {"name": "crc32c"}, {"name": "crc32c", "configuration": {}}):
        return None
    match compressor:
        case {"name": "zstd", "configuration": {"level": int(level)} as found} if 1 <= level <= 22:
            zstd = {"level": int(level)}
            if same_json(found, zstd, {**zstd, "checksum": False}):
                return ZstdChunk(level)
        case {"name": "blosc", "configuration": {"clevel": int(level)} as found} if 1 <= level <= 9:
            blosc = {"cname": "zstd", "clevel": int(level), "shuffle": "shuffle", "blocksize": 0}
            if same_json(found, {**blosc, "typesize": itemsize}):
                return BloscChunk(itemsize, level)
    return None


def same_json(found: object, *known: object) -> bool:
    """Whether a value is one of some as JSON, where ``true`` is not 1 and 1.0 is not 1."""
    return json.dumps(found, sort_keys=True) in {json.dumps(one, sort_keys=True) for one in known}


def _share_stream(one: ChunkCodec, other: ChunkCodec) -> bool:
    """Whether what one compressed the other decodes, less the checksum: no level is needed for that."""
    sizes = [getattr(codec, "itemsize", None) for codec in (one, other)]
    return type(one) is type(other) and sizes[0] == sizes[1]


def encoded_size(size: int, before: ChunkCodec, after: ChunkCodec) -> int | None:
    """The bytes of a chunk once :func:`recode` has made another of it; ``None`` where that depends on it."""
    added = CRC_BYTES * ((after.checksum is not None) - (before.checksum is not None))
    return size + added if _share_stream(before, after) else None


def recode(encoded: Bytes, before: ChunkCodec, after: ChunkCodec, size: int, where: Name) -> bytes:
    """A chunk as another codec encodes it, once its checksum is found right; DatasetError if it is damaged.

    Where the one decodes what the other compressed, that is taken as it is. ``size`` is in bytes, decoded.
    """
    if _share_stream(before, after):
        data = _checked(encoded, before.checksum, where)
        return data.tobytes() + _sum_of(data, after.checksum)
    decoded, decoder = np.empty(size, np.uint8), before.decoder()
    decoder.begin(encoded, decoded, where)
    decoder.decode_to(size)
    return after.encode(decoded)


def is_whole(encoded: Bytes, checksum: Checksum) -> bool:
    """Whether a chunk ends with its checksum, which is of some kind."""
    data = encoded[:-CRC_BYTES]
    # Nothing is ever encoded as nothing, of which there is no Fletcher-32.
    return bool(len(data)) and _sum_of(data, checksum) == encoded[-CRC_BYTES:].tobytes()


def _sum_of(data: bytes | Bytes, checksum: Checksum) -> bytes:
    """The bytes that follow ``data``."""
    if checksum is None:
        return b""
    if checksum == "fletcher32":
        followed: bytes = Fletcher32().encode(data)
        return followed[-CRC_BYTES:]
    return crc32c(data)


def crc32c(data: bytes | Bytes) -> bytes:
    """The CRC-32C of some bytes, 4 bytes little-endian."""
    crc: int = google_crc32c.value(data)
    return crc.to_bytes(CRC_BYTES, "little")


# --- decoding --------------------------------------------------------------------------------------


def _checked(encoded: Bytes, checksum: Checksum, where: Name) -> Bytes:
    """The part of a chunk before its checksum, which is right."""
    if checksum is None:
        return encoded
    if not is_whole(encoded, checksum):
        raise _damaged(where, "its checksum is wrong", code="checksum-wrong")
    return encoded[:-CRC_BYTES]


def _check_size(found: int, expected: int, where: Name) -> None:
    if found != expected:
        more = "more" if found > expected else f"{found}"
        raise _damaged(where, f"it should hold {expected} bytes and holds {more}")


def _damaged(where: Name, why: str, code: str = "chunk-damaged") -> DatasetError:
    return DatasetError(f"{where()} is damaged: {why}. {REPAIR}", code=code)


class _WholeDecoder:
    """Decodes a chunk at once, by a function of the bytes before the checksum, their place and the chunk's
    name.
    """

    def __init__(self, decode: Callable[[Bytes, Bytes, Name], None], checksum: Checksum) -> None:
        self._decode, self._checksum = decode, checksum
        self._left: tuple[Bytes, Bytes, Name] | None = None

    def begin(self, encoded: Bytes, out: Bytes, where: Name) -> None:
        self._left = (_checked(encoded, self._checksum, where), out, where)

    def decode_to(self, stop: int) -> None:
        if self._left is not None:
            self._decode(*self._left)
            self._left = None


def _unzstd(data: Bytes, out: Bytes, where: Name) -> None:
    """Decode a frame where the functions of ``_zstd`` are not to be had."""
    try:
        decoded = Zstd().decode(data)
    except RuntimeError as exc:
        raise _damaged(where, f"zstd says: {exc}") from exc
    _check_size(len(decoded), len(out), where)
    out[:] = np.frombuffer(decoded, np.uint8)


def _unblosc(data: Bytes, out: Bytes, where: Name) -> None:
    size = int.from_bytes(data[_BLOSC_SIZE].tobytes(), "little")
    if len(data) < _BLOSC_HEADER_BYTES or size != len(out):
        raise _damaged(where, f"it should hold {len(out)} bytes and says that it holds {size}")
    try:
        _BLOSC.decode(data, out=out)
    except (RuntimeError, ValueError) as exc:
        raise _damaged(where, f"blosc says: {exc}") from exc


class _Span(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer of zstd.h."""

    _fields_ = (("address", ctypes.c_void_p), ("size", ctypes.c_size_t), ("position", ctypes.c_size_t))


@cache
def _zstd() -> ctypes.CDLL | None:
    """The functions of zstd inside the extension module of numcodecs; ``None`` where it hides them.

    numcodecs itself decodes a frame as a whole. Zstd can stop and go on later: one sample costs half.
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
    return library if _ZstdDecoder(library, None).usable else None


class _ZstdDecoder:
    """Decodes a frame block by block, straight into its place."""

    # ZSTD_d_stableOutBuffer: the output stays where it is, so zstd needs no window of its own.
    _STABLE_OUT = 1001
    _RESET_SESSION = 1
    # ZSTD_startingInputLength: what zstd needs to see of a frame to say how much more it needs.
    _START = 5
    # Results with the top bit set are errors.
    _ERROR = 1 << (8 * ctypes.sizeof(ctypes.c_size_t) - 1)

    def __init__(self, library: ctypes.CDLL, checksum: Checksum) -> None:
        self._library = library
        self._checksum: Checksum = checksum
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
        data = _checked(encoded, self._checksum, where)
        self._library.ZSTD_DCtx_reset(self._context, self._RESET_SESSION)
        self._left = (data, out, where)
        self._available = len(data)
        self._in.address, self._in.position = _address(data), 0
        self._in.size = min(self._START, self._available)
        self._out.address, self._out.size, self._out.position = _address(out), len(out), 0

    def decode_to(self, stop: int) -> None:
        source, target = self._in, self._out
        if self._left is None or target.position >= stop:
            return
        if stop >= target.size:
            source.size = self._available
        while True:
            # How much zstd needs next: a block with the head of the one that follows it, 0 at the end.
            needed = self._decompress(self._context, self._out_pointer, self._in_pointer)
            where = self._left[2]
            if needed >= self._ERROR:
                raise _damaged(where, f"zstd says: {self._library.ZSTD_getErrorName(needed).decode()}")
            if needed == 0 and target.position == target.size:
                self._left = None
                return
            if needed == 0 or source.position == self._available:
                found = f"{target.position} bytes"
                raise _damaged(where, f"it should hold {target.size} bytes and holds {found}")
            if target.position >= stop and stop < target.size:
                return
            source.size = min(source.position + needed, self._available)


def _address(array: Bytes) -> int:
    address: int = array.__array_interface__["data"][0]
    return address

"""PNG files of arrays, and the mapping of depth to the whole numbers that they hold."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

from fgbgpack.export.kernels import paeth_filter

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB = 0, 2
_FILTER_NONE, _FILTER_SUB = 0, 1
#: A picture whose runs alone make it so many times smaller is a mask, which no filter makes smaller yet.
_MASK_RATIO = 12
#: Level 1 gives the same bytes on all processors with the same hash instructions: level 3 does not.
_LEVEL = 1
#: A good filter leaves runs and hardly any other repetition: near ones take the fewest bits.
_NEAR = 9


def png(pixels: NDArray[Any]) -> bytes:
    """A picture as a PNG file without metadata, from (h, w, 3) uint8 RGB, (h, w) uint8 gray or (h, w) uint16
    gray: the same pixels give the same bytes, with one version of isal on processors of one kind.
    """
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    bits, colour = 8 * pixels.dtype.itemsize, _RGB if pixels.ndim == 3 else _GRAY
    if bits == 16:
        # The differences of whole numbers repeat themselves.
        data = _deflated(_sub(rows.astype(">u2").view(np.uint8), 2))
    elif colour == _RGB:
        data = _deflated(_paeth(rows, 3), _NEAR)
    else:
        # Masks compress better unfiltered, depth better filtered.
        data = _deflated(_with_filter(_FILTER_NONE, rows))
        if len(data) * _MASK_RATIO > rows.size:
            data = min(data, _deflated(_paeth(rows, 1), _NEAR), key=len)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"".join([_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", data), _chunk(b"IEND", b"")])


def _deflated(data: NDArray[np.uint8], window_bits: int = igzip_lib.MAX_HIST_BITS) -> bytes:
    """A zlib stream, whose repetitions are at most two to the power of ``window_bits`` bytes apart."""
    return igzip_lib.compress(data.data, _LEVEL, igzip_lib.COMP_ZLIB, hist_bits=window_bits)


def _with_filter(number: int, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([np.full((len(rows), 1), number, np.uint8), rows], axis=1)


def _sub(rows: NDArray[np.uint8], pixel_bytes: int) -> NDArray[np.uint8]:
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _FILTER_SUB
    filtered[:, 1 : 1 + pixel_bytes] = rows[:, :pixel_bytes]
    np.subtract(rows[:, pixel_bytes:], rows[:, :-pixel_bytes], out=filtered[:, 1 + pixel_bytes :])
    return filtered


def _paeth(rows: NDArray[np.uint8], pixel_bytes: int) -> NDArray[np.uint8]:
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    paeth_filter(np.ascontiguousarray(rows), pixel_bytes, filtered)
    return filtered


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)])


@dataclass(frozen=True)
class DepthScale:
    """One linear mapping of depth to whole numbers of 8 or 16 bits: ``low``, the least depth of all samples,
    becomes ``least`` (1 where depth may be unknown, which becomes 0, else 0), and ``high`` becomes ``most``.

    Example:
        >>> DepthScale(1.0, 3.0, bits=8, least=1).apply(np.array([[1.0, 1.5, 3.0, np.nan]], np.float16))
        array([[  1,  65, 255,   0]], dtype=uint8)
    """

    low: float
    high: float
    bits: int
    least: int

    @classmethod
    def of(
        cls, low: NDArray[np.float16], high: NDArray[np.float16], bits: int, *, unknown: bool
    ) -> DepthScale:
        """The mapping for samples with these (n,) least and greatest depths; NaN: all is unknown."""
        low, high = low[np.isfinite(low)], high[np.isfinite(high)]
        ends = (float(low.min()), float(high.max())) if low.size and high.size else (0.0, 0.0)
        return cls(*ends, bits, int(unknown))

    @property
    def most(self) -> int:
        """The number of ``high``."""
        return (1 << self.bits) - 1

    def apply(self, depth: NDArray[np.float16]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """(..., h, w) float16 as uint8 or uint16 of the same shape; NaN becomes 0."""
        return self._table[depth.view(np.uint16)]

    @cached_property
    def _table(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The number of every float16, by its bits: rounded once, in double precision."""
        depth = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
        known = ~np.isnan(depth)
        fractions = np.zeros(depth.shape)
        if self.high > self.low:
            fractions[known] = np.clip((depth[known] - self.low) / (self.high - self.low), 0, 1)
        numbers = np.where(known, self.least + np.rint(fractions * (self.most - self.least)), 0)
        return numbers.astype(np.uint8) if self.bits == 8 else numbers.astype(np.uint16)

    def to_dict(self) -> dict[str, Any]:
        """The mapping as JSON, and the formula that undoes it."""
        value = f"(value - {self.least})" if self.least else "value"
        return {
            "low": self.low,
            "high": self.high,
            "bits": self.bits,
            "to_depth": f"low + {value} * (high - low) / {self.most - self.least}",
            "unknown": 0 if self.least else None,
        }

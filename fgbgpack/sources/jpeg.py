"""Whether a JPEG file is whole: what libjpeg only warns of, and Pillow does not tell.

A decoder shows something for any data between the headers and the end. But the data of a whole file holds
exactly as many blocks as the picture has, and ends with the last one. Damage shifts what follows it, so that
this is hardly ever so afterwards. All scans are read as a decoder does, without making pixels of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fgbgpack.sources import kernels

_SOI, _EOI, _SOS, _DHT, _DQT, _DRI, _DNL = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xDC
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
#: Frames of other kinds: lossless, hierarchical, arithmetic coding. Nothing tells whether they are whole.
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {_DHT, 0xC8, 0xCC}
_RESTARTS = range(0xD0, 0xD8)
_STANDALONE = {0x01, _SOI, *_RESTARTS}

#: Eight times 128, the largest coefficient of a block, and what encoders go beyond it to hide ringing.
LARGEST_COEFFICIENT = 1280

_TABLE_SIZE = (1 << kernels.LOOKED_UP) + 64 + 256
_FOUND = {
    kernels.CUT_SHORT: "its data ends before the picture does",
    kernels.BAD_CODE: "its data holds a code that no table has",
    kernels.BAD_COEFFICIENT: "its data holds numbers that no picture has",
    kernels.BAD_RESTART: "a restart marker is missing, or in the wrong place",
    kernels.LEFT_OVER: "its data goes on after the end of the picture",
}


class _CannotTellError(Exception):
    """The file is of a kind that is not known here, or its headers are none: the decoder has its say."""


@dataclass
class _Component:
    """One channel of a frame: its sampling factors, its number of the quantisation table, and its blocks."""

    horizontal: int
    vertical: int
    quantisation: int
    across: int = 0
    down: int = 0
    nonzero: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    #: For each coefficient, how many of its bits are yet unknown; -1 where none is known.
    remaining: NDArray[np.int8] = field(default_factory=lambda: np.full(64, -1, np.int8))


@dataclass
class _Frame:
    is_progressive: bool
    width: int
    height: int
    components: dict[int, _Component]

    @property
    def largest(self) -> tuple[int, int]:
        """The largest sampling factors, across and down."""
        parts = self.components.values()
        return max(part.horizontal for part in parts), max(part.vertical for part in parts)


def fault(data: bytes) -> str | None:
    """What is wrong with the data of a JPEG file, ``None`` where nothing is, or nothing can tell."""
    try:
        return _Reader(data).fault()
    except (_CannotTellError, IndexError, struct.error):
        return None


class _Reader:
    """Reads the first picture in a file, from marker to marker."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._bytes = np.frombuffer(data, np.uint8)
        self._frame: _Frame | None = None
        self._tables: dict[int, NDArray[np.int32]] = {}
        self._quantisation: dict[int, NDArray[np.int32]] = {}
        self._restart = 0
        self._at = 0

    def fault(self) -> str | None:
        at = 0
        while True:
            at = self._data.find(b"\xff", at)
            if at < 0 or at + 1 >= len(self._data):
                return "it has no end"
            marker = self._data[at + 1]
            if marker in (0x00, 0xFF):  # fill bytes
                at += 1
                continue
            at += 2
            if marker == _EOI:
                return self._unfinished()
            if marker in _STANDALONE:
                continue
            (length,) = struct.unpack_from(">H", self._data, at)
            content = self._data[at + 2 : at + length]
            at += length
            if marker == _SOS:
                if found := self._scan(content, at):
                    return found
                at = self._at
            else:
                self._header(marker, content)

    def _header(self, marker: int, content: bytes) -> None:
        if marker in _OTHER_FRAMES or marker == _DNL:
            raise _CannotTellError
        if marker in _SEQUENTIAL or marker == _PROGRESSIVE:
            self._frame = _frame(marker == _PROGRESSIVE, content)
        elif marker == _DHT:
            while content:
                size = sum(content[1:17])
                self._tables[content[0]] = _table(content[1:17], content[17 : 17 + size])
                content = content[17 + size :]
        elif marker == _DQT:
            while content:
                kind = ">u2" if content[0] >> 4 else "u1"
                size = 64 * np.dtype(kind).itemsize
                self._quantisation[content[0] & 15] = np.frombuffer(content[1 : 1 + size], kind).astype("i4")
                content = content[1 + size :]
        elif marker == _DRI:
            (self._restart,) = struct.unpack(">H", content[:2])

    def _scan(self, content: bytes, start: int) -> str | None:
        frame, count = self._frame, content[0]
        if frame is None:
            raise _CannotTellError
        ids, tables = content[1 : 1 + 2 * count : 2], content[2 : 2 + 2 * count : 2]
        first, last, precision = content[1 + 2 * count : 4 + 2 * count]
        if not frame.is_progressive:
            first, last, precision = 0, 63, 0
        high, low = precision >> 4, precision & 15
        if first > last or last > 63 or low > 13 or (frame.is_progressive and first == 0 < last):
            raise _CannotTellError
        try:
            parts = [frame.components[number] for number in ids]
            quantised = np.stack([self._quantisation[part.quantisation] for part in parts])
        except (KeyError, ValueError):
            raise _CannotTellError from None
        if first and count > 1:
            raise _CannotTellError
        huffman = np.zeros((2, count, _TABLE_SIZE), np.int32)
        for place, numbers in enumerate(tables):
            for kind, number in enumerate((numbers >> 4, 0x10 | (numbers & 15))):
                is_used = (last > 0) if kind else (first == 0 and not high)
                if is_used and number not in self._tables:
                    raise _CannotTellError
                if is_used:
                    huffman[kind, place] = self._tables[number]
        blocks = [part.horizontal * part.vertical for part in parts]
        if count == 1:
            mcus, blocks = parts[0].across * parts[0].down, [1]
        else:
            across, down = frame.largest
            mcus = _quotient(frame.width, 8 * across) * _quotient(frame.height, 8 * down)
        band = np.array([first, last, high, low], np.int32)
        if first:
            if not len(parts[0].nonzero):
                parts[0].nonzero = np.zeros(mcus, np.int64)
            found, self._at = kernels.check_ac_scan(
                self._bytes,
                start,
                huffman[1, 0],
                quantised[0],
                self._restart,
                band,
                LARGEST_COEFFICIENT,
                parts[0].nonzero,
            )
        else:
            found, self._at = kernels.check_scan(
                self._bytes,
                start,
                huffman,
                np.array(list(zip(blocks, range(count), strict=True)), np.int32),
                quantised,
                mcus,
                self._restart,
                band,
                LARGEST_COEFFICIENT,
            )
        for part in parts:
            part.remaining[first : last + 1] = low
        return _FOUND.get(found)

    def _unfinished(self) -> str | None:
        """At the end of the picture: whether all of it was there."""
        if self._frame is None:
            raise _CannotTellError
        if any(part.remaining.any() for part in self._frame.components.values()):
            return "its data ends before the picture does"
        return None


def _frame(is_progressive: bool, content: bytes) -> _Frame:
    bits, height, width, count = struct.unpack_from(">BHHB", content)
    if bits != 8 or not height or not width:
        raise _CannotTellError
    components = {}
    for place in range(count):
        number, factors, quantisation = content[6 + 3 * place : 9 + 3 * place]
        components[number] = _Component(factors >> 4, factors & 15, quantisation)
    frame = _Frame(is_progressive, width, height, components)
    if not components or not all(part.horizontal and part.vertical for part in components.values()):
        raise _CannotTellError
    across, down = frame.largest
    for part in components.values():
        part.across = _quotient(_quotient(width * part.horizontal, across), 8)
        part.down = _quotient(_quotient(height * part.vertical, down), 8)
    return frame


def _quotient(number: int, divisor: int) -> int:
    """Rounded up."""
    return -(-number // divisor)


def _table(lengths: bytes, symbols: bytes) -> NDArray[np.int32]:
    """A Huffman table as the kernels take it.

    First come the codes of up to 9 bits, by the 9 bits that begin with them: length and symbol, 0 for none.
    Then, for each length, one more than its largest code and what is added to a code to find its symbol. Then
    the symbols.
    """
    table = np.zeros(_TABLE_SIZE, np.int32)
    base = 1 << kernels.LOOKED_UP
    table[base + 64 : base + 64 + len(symbols)] = np.frombuffer(symbols, np.uint8)
    code = place = 0
    for length, count in enumerate(lengths, start=1):
        if length <= kernels.LOOKED_UP:
            spare = kernels.LOOKED_UP - length
            for index in range(count):
                entry = (length << 8) | symbols[place + index]
                table[(code + index) << spare : (code + index + 1) << spare] = entry
        table[base + 2 * length] = code + count if count else 0
        table[base + 2 * length + 1] = place - code
        code = (code + count) << 1
        place += count
    return table

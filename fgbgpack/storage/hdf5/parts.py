"""The parts of a file that are read and written without the HDF5 library, each with its SHA-256.

HDF5 protects metadata with checksums at best, never its heaps, and loops or crashes on some that are damaged.
So a file says in two ordinary arrays of bytes, whose content never moves, all that is needed to read it:

- ``/fgbgpack/document``, (2, capacity): two slots of the same content, so that one can be written while the
  other is whole. Of each, ``HEADER_BYTES`` are a line of text: sequence number, places, digests. The JSON of
  the root follows, padded with zeros.
- ``/fgbgpack/index``: offset, size and CRC-32C of every chunk.

The header also has the SHA-256 of the rest of the file, the seal: all bytes that are neither in these two nor
in a chunk. While it is right, nothing of the file but pixels can be damaged, and pixels have their CRC-32C.
The superblock counts as it is while no program has the file open for writing: one that has marks it there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import DatasetError
from fgbgpack.storage.sharding import ABSENT

#: The group of the two arrays, and their paths.
GROUP = "fgbgpack"
DOCUMENT, INDEX = f"{GROUP}/document", f"{GROUP}/index"

HEADER_BYTES = 512
_FIELDS = (
    "fgbgpack-hdf5 1 {sequence:012d} {size:016d} {at:016d} {capacity:016d} {index_at:016d} "
    "{index_bytes:016d} {index_sha256} {seal} "
)
_HEADER = re.compile(
    rb"fgbgpack-hdf5 1 (\d{12})" + rb" (\d{16})" * 5 + rb" ([0-9a-f]{64})" * 2 + rb" ([0-9a-f]{64}) {1,}\n"
)
_NO_HEADER = bytes(HEADER_BYTES)
# The document is the first array that is made: it begins after the root group.
_FIRST_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20
_PAGE = 4096
_SPARE_BYTES = 1 << 14
# Of superblocks in the format of HDF5 1.10; their last 4 bytes are their checksum.
_SUPERBLOCK_BYTES, _VERSION_AT, _FLAGS_AT, _MARKED_VERSION = 48, 8, 11, 3
_WORD = 0xFFFFFFFF

Spans = NDArray[np.uint64]


@dataclass(frozen=True)
class Front:
    """What a slot says: the JSON of the root as ``text``, and where and what the other parts are.

    ``at`` is the offset of the first slot in the file, ``capacity`` the bytes of each; ``index`` are offset
    and bytes of the index.
    """

    sequence: int
    at: int
    capacity: int
    index: tuple[int, int]
    index_sha256: str
    seal: str
    text: bytes

    def slot(self) -> bytes:
        """The content of a slot, without the zeros at its end."""
        fields = _FIELDS.format(
            sequence=self.sequence,
            size=len(self.text),
            at=self.at,
            capacity=self.capacity,
            index_at=self.index[0],
            index_bytes=self.index[1],
            index_sha256=self.index_sha256,
            seal=self.seal,
        ).encode()
        header = fields + hashlib.sha256(fields + self.text).hexdigest().encode()
        return header.ljust(HEADER_BYTES - 1) + b"\n" + self.text

    @property
    def has_room(self) -> bool:
        """Whether the text fits in a slot."""
        return HEADER_BYTES + len(self.text) <= self.capacity


def capacity_for(text: bytes) -> int:
    """The bytes of a slot for a text and for what may be added to it."""
    return -(-(HEADER_BYTES + len(text) * 5 // 4 + _SPARE_BYTES) // _PAGE) * _PAGE


def _slot_at(file: int, start: int, at: int, capacity: int) -> Front | None:
    """The slot that begins at an offset; ``None`` if it is not whole."""
    header = os.pread(file, HEADER_BYTES, start)
    if (match := _HEADER.fullmatch(header)) is None:
        return None
    sequence, size, its_at, its_capacity, index_at, index_bytes = map(int, match.groups()[:6])
    if (its_at, its_capacity) != (at, capacity) or size > capacity - HEADER_BYTES:
        return None
    text = os.pread(file, size, start + HEADER_BYTES)
    if hashlib.sha256(header[: match.start(9)] + text).hexdigest().encode() != match[9]:
        return None
    return Front(sequence, at, capacity, (index_at, index_bytes), match[7].decode(), match[8].decode(), text)


def slots_at(file: int, at: int, capacity: int) -> tuple[Front | None, Front | None]:
    """The two slots of the document at an offset; ``None`` for one that is damaged or half-written."""
    # The second one may be cut off.
    if at < 0 or capacity < HEADER_BYTES or at + capacity > os.fstat(file).st_size:
        return None, None
    return _slot_at(file, at, at, capacity), _slot_at(file, at + capacity, at, capacity)


def front_at(file: int, at: int, capacity: int) -> Front | None:
    """The newer slot of the document at an offset; ``None`` if neither is whole."""
    whole = [slot for slot in slots_at(file, at, capacity) if slot is not None]
    return max(whole, key=lambda front: front.sequence, default=None)


def find_front(file: int) -> Front | None:
    """The newer slot of a file's document, which is looked for at its start; ``None`` if there is none."""
    start = os.pread(file, _FIRST_BYTES, 0)
    for header in _HEADER.finditer(start):
        at, capacity = int(header[3]), int(header[4])
        if header.start() in (at, at + capacity):
            return front_at(file, at, capacity)
    return None


def write_front(file: int, front: Front) -> None:
    """Write both slots, one after the other: at any time one is whole, with what was there or what is new."""
    content = front.slot()
    old = slots_at(file, front.at, front.capacity)
    ages = [-1 if slot is None else slot.sequence for slot in old]
    for number in sorted((0, 1), key=lambda number: ages[number]):
        start = front.at + number * front.capacity
        # A slot has no header until all that it speaks of is there.
        write_through(file, start, _NO_HEADER)
        padded = content[HEADER_BYTES:].ljust(front.capacity - HEADER_BYTES, b"\0")
        write_through(file, start + HEADER_BYTES, padded)
        write_through(file, start, content[:HEADER_BYTES])


def write_through(file: int, offset: int, content: bytes) -> None:
    """Write bytes that are on the disk when this returns."""
    rest = memoryview(content)
    while rest:
        written = os.pwrite(file, rest, offset)
        offset, rest = offset + written, rest[written:]
    os.fsync(file)


@dataclass(frozen=True)
class ChunkTable:
    """The chunks of an array in C order: (chunks, 2) uint64 offset and bytes, ``ABSENT`` where there is none.

    ``sums`` are (chunks,) uint32: the CRC-32C of each chunk as it is stored, 0 where there is none.
    ``filters`` are the numbers of the HDF5 filters that encode them.
    """

    filters: tuple[int, ...]
    spans: Spans
    sums: NDArray[np.uint32]


@dataclass(frozen=True)
class Index:
    """The chunks of all arrays of the dataset, by their paths, and those of ``own`` nodes that others added.

    ``own_spans`` are (chunks, 2) uint64, offset and bytes of the chunks of these.
    """

    arrays: Mapping[str, ChunkTable]
    own: tuple[str, ...]
    own_spans: Spans

    def encode(self) -> bytes:
        """The same as bytes: a line of JSON, then the tables."""
        arrays = [[path, list(table.filters), len(table.spans)] for path, table in self.arrays.items()]
        described = {"arrays": arrays, "own": list(self.own), "own_chunks": len(self.own_spans)}
        tables = [part for table in self.arrays.values() for part in (table.spans, table.sums)]
        content = [
            table.astype(table.dtype.newbyteorder("<")).tobytes() for table in (*tables, self.own_spans)
        ]
        return json.dumps(described).encode() + b"\n" + b"".join(content)

    @classmethod
    def decode(cls, content: bytes) -> Index:
        """The index that bytes hold; ValueError, KeyError or TypeError if they hold none."""
        line, _, tables = content.partition(b"\n")
        described, arrays, offset = json.loads(line), {}, 0

        def take(count: int, dtype: str) -> NDArray[np.generic]:
            nonlocal offset
            # NumPy takes a count of -1 for all that there is.
            taken = np.frombuffer(tables, dtype, max(0, count), offset)
            offset += taken.nbytes
            return taken

        for path, filters, chunks in described["arrays"]:
            spans, sums = take(2 * chunks, "<u8").reshape(-1, 2), take(chunks, "<u4")
            arrays[str(path)] = ChunkTable(tuple(filters), spans.astype(np.uint64), sums.astype(np.uint32))
        own_spans = take(2 * described["own_chunks"], "<u8").reshape(-1, 2)
        return cls(arrays, tuple(described["own"]), own_spans.astype(np.uint64))


def read_index(file: int, front: Front) -> Index | None:
    """The index that a slot speaks of; ``None`` if it is damaged, or not there."""
    offset, size = front.index
    if offset + size > os.fstat(file).st_size:
        return None
    content = os.pread(file, size, offset)
    if hashlib.sha256(content).hexdigest() != front.index_sha256:
        return None
    return Index.decode(content)


def seal_of(file: int, front: Front, index: Index) -> str:
    """The SHA-256 of all that lies neither in the document, the index nor a chunk.

    Raises DatasetError if any of these overlap or lie outside the file.
    """
    size = os.fstat(file).st_size
    spans = np.vstack(
        [
            np.array([[front.at, 2 * front.capacity], front.index], np.uint64),
            *(table.spans for table in index.arrays.values()),
            index.own_spans,
        ]
    )
    digest = hashlib.sha256()
    for start, stop in _gaps(spans, size):
        for at in range(start, stop, _BLOCK_BYTES):
            content = os.pread(file, min(_BLOCK_BYTES, stop - at), at)
            digest.update(content if at else _as_closed(content))
    return digest.hexdigest()


def is_marked_open(file: int) -> bool:
    """Whether a file's superblock says that a program has it open for writing, or did not close it."""
    start = os.pread(file, _SUPERBLOCK_BYTES, 0)
    return len(start) == _SUPERBLOCK_BYTES and _as_closed(start) != start


def _as_closed(start: bytes) -> bytes:
    """The start of a file as it is once all programs have closed it; unchanged if its checksum is wrong."""
    flagged, checksum = start[: _SUPERBLOCK_BYTES - 4], start[_SUPERBLOCK_BYTES - 4 : _SUPERBLOCK_BYTES]
    if len(checksum) < 4 or start[_VERSION_AT] != _MARKED_VERSION or not start[_FLAGS_AT]:
        return start
    if _checksum(flagged) != checksum:
        return start
    closed = flagged[:_FLAGS_AT] + b"\0" + flagged[_FLAGS_AT + 1 :]
    return closed + _checksum(closed) + start[_SUPERBLOCK_BYTES:]


def _checksum(content: bytes) -> bytes:
    """The checksum of HDF5's metadata: Bob Jenkins' lookup3, of bytes that are no multiple of 12."""
    full = len(content) // 12 * 12
    words: tuple[int, ...] = struct.unpack(f"<{len(content) // 12 * 3 + 3}I", content.ljust(full + 12, b"\0"))
    a = b = c = 0xDEADBEEF + len(content)
    for at in range(0, len(words) - 3, 3):
        a, b, c = a + words[at], b + words[at + 1], c + words[at + 2]
        a, c = (a - c) & _WORD ^ _rotated(c, 4), c + b
        b, a = (b - a) & _WORD ^ _rotated(a, 6), a + c
        c, b = (c - b) & _WORD ^ _rotated(b, 8), b + a
        a, c = (a - c) & _WORD ^ _rotated(c, 16), c + b
        b, a = (b - a) & _WORD ^ _rotated(a, 19), a + c
        c, b = (c - b) & _WORD ^ _rotated(b, 4), b + a
    a, b, c = a + words[-3], b + words[-2], c + words[-1]
    c = ((c ^ b) - _rotated(b, 14)) & _WORD
    a = ((a ^ c) - _rotated(c, 11)) & _WORD
    b = ((b ^ a) - _rotated(a, 25)) & _WORD
    c = ((c ^ b) - _rotated(b, 16)) & _WORD
    a = ((a ^ c) - _rotated(c, 4)) & _WORD
    b = ((b ^ a) - _rotated(a, 14)) & _WORD
    c = ((c ^ b) - _rotated(b, 24)) & _WORD
    return c.to_bytes(4, "little")


def _rotated(word: int, bits: int) -> int:
    word &= _WORD
    return (word << bits | word >> 32 - bits) & _WORD


def _gaps(spans: Spans, size: int) -> Iterable[tuple[int, int]]:
    """Start and end of the parts of a file that lie in no span."""
    there = spans[spans[:, 0] != ABSENT]
    require_inside(there, size)
    there = there[np.argsort(there[:, 0], kind="stable")].astype(np.int64)
    starts, ends = np.append(there[:, 0], size), np.append(0, there[:, 0] + there[:, 1])
    if (ends > starts).any():
        raise DatasetError("chunks overlap", code="file-damaged")
    gaps = np.flatnonzero(ends < starts)
    return zip(ends[gaps].tolist(), starts[gaps].tolist(), strict=True)


def require_inside(spans: Spans, size: int) -> None:
    """See that no chunk lies outside a file of some bytes (DatasetError)."""
    offsets, sizes = spans[:, 0], spans[:, 1]
    # Compared by subtraction: a sum of damaged numbers could wrap round.
    if (sizes > size).any() or (offsets > size - np.minimum(sizes, size)).any():
        raise DatasetError("chunks lie outside the file", code="file-damaged")

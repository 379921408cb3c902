"""Files of arrays, as ``numpy.load`` reads them.

A .npz file is a zip file with a .npy file for each array. Arrays are compressed a few samples at a time, on
threads: pieces of a Deflate stream that end at a byte and know nothing of one another can be put together.
"""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.batch import shapes
from fgbgpack.errors import SpecError
from fgbgpack.export.target import Part, Run, Target, Work
from fgbgpack.storage.store import DEPTH, PLACEMENTS

_RAW_BYTES = 256_000_000
#: What a zip file without extensions can hold.
_MOST_BYTES = (1 << 32) - (1 << 24)
#: More would make the pixels of real samples 2 % smaller in half as much time again; depth gets 20 % smaller.
_LEVEL, _DEPTH_LEVEL = 1, 4
_LAST_BLOCK = b"\x03\x00"  # of a Deflate stream: it is empty
_HELD_BYTES = 32 << 20

_LOCAL, _CENTRAL, _END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_VERSION, _UNIX = 20, 3
_DEFLATED = 8
_FIRST_DAY = 0x21  # 1 January 1980, with which time begins for zip files
_FILE_MODE = 0o100644 << 16
_LOCAL_SIZE = 30


@dataclass(frozen=True)
class Piece:
    """Some samples of one file.

    Attributes:
        number: The number of the file within its part.
        raw: The bytes of each array.
        packed: The same, compressed.
    """

    number: int
    raw: Sequence[memoryview]
    packed: Sequence[bytes]


class NpzTarget(Target[list[Piece]]):
    """``part-00000.npz`` and so on, in a folder for each part of the split.

    Each has image, mask and depth as a dataset has them, ``sample`` (their numbers in the dataset, int64),
    and their placements, or the name of each.
    """

    TO = "npz"
    OPTIONS = frozenset({"shard_samples"})

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        expected = shapes(1, work.dataset.height, work.dataset.width)
        each = sum(int(np.prod(expected[name][0])) * expected[name][1].itemsize for name in work.fields)
        self._held = work.options.shard_samples or max(1, _RAW_BYTES // each)
        if self._held * each > _MOST_BYTES:
            raise SpecError(
                f"--shard-samples: {self._held} samples of {each:,} bytes are more than a .npz file takes, "
                f"expected at most {_MOST_BYTES // each}."
            )
        self._folder = work.folder
        self._archive: _Archive | None = None
        self._number = 0

    def begin(self, part: Part) -> None:
        """Make the part's folder."""
        self._folder = self.work.folder / part.folder
        self._folder.mkdir(exist_ok=True)

    def encode(self, run: Run) -> list[Piece]:
        """Compress the samples, those of each file on their own."""
        pieces = []
        end = run.start + len(run.samples)
        for number in range(run.start // self._held, -(-end // self._held)):
            first, last = max(run.start, number * self._held), min(end, (number + 1) * self._held)
            some = slice(first - run.start, last - run.start)
            raw = [_bytes(run.batch.arrays[name][some]) for name in self.work.fields]
            packed = [
                _packed(data, _DEPTH_LEVEL if name == DEPTH else _LEVEL)
                for name, data in zip(self.work.fields, raw, strict=True)
            ]
            pieces.append(Piece(number, raw, packed))
        return pieces

    def write(self, run: Run, encoded: list[Piece]) -> None:
        """Add the samples to their files."""
        for piece in encoded:
            if self._archive is None or piece.number != self._number:
                self._finish_file(run.part)
                self._begin_file(run.part, piece.number)
            for array, raw, packed in zip(self._arrays, piece.raw, piece.packed, strict=True):
                array.add(raw, packed)

    def _of_file(self, part: Part, number: int) -> NDArray[np.int64]:
        return part.samples[number * self._held : (number + 1) * self._held]

    def _begin_file(self, part: Part, number: int) -> None:
        held = self.work.dataset
        expected = shapes(len(self._of_file(part, number)), held.height, held.width)
        self._number = number
        self._archive = _Archive(self._folder / f"part-{number:05d}.npz")
        self._arrays = [self._archive.array(name, *expected[name]) for name in self.work.fields]

    def _finish_file(self, part: Part) -> None:
        if self._archive is None:
            return
        samples = self._of_file(part, self._number)
        held = self.work.dataset
        beside: dict[str, NDArray[Any]] = {"sample": samples}
        if held.names is None:
            beside |= {name: getattr(held.placements, name)[samples] for name in PLACEMENTS}
        else:
            beside["name"] = np.array([held.names[i] for i in samples.tolist()], np.str_)
        for name, values in beside.items():
            raw = _bytes(values)
            self._archive.array(name, values.shape, values.dtype).add(raw, _packed(raw, _LEVEL))
        self._archive.finish()
        self._archive = None

    def end(self, part: Part) -> None:
        """Finish its last file."""
        self._finish_file(part)

    def close(self) -> None:
        """Let go of open files."""
        if self._archive is not None:
            self._archive.close()

    def finish(self) -> dict[str, Any]:
        """What the numbers of sources mean."""
        return {} if self.work.source_names is None else {"sources": self.work.source_names}

    def how_to_open(self, out: str) -> list[str]:
        """With NumPy."""
        path = str(Path(out) / self.work.parts[0].folder / "part-00000.npz")
        return ["import numpy", f"arrays = numpy.load({path!r})", f'arrays["{self.work.fields[0]}"]']


def _bytes(array: NDArray[Any]) -> memoryview:
    """What an array has in memory, little-endian."""
    values = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return values.reshape(-1).view(np.uint8).data


def _packed(raw: memoryview | bytes, level: int) -> bytes:
    """A piece of a Deflate stream that is not the last."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(raw) + packer.flush(zlib.Z_FULL_FLUSH)


class _Array:
    """A .npy file in a zip file, as it grows.

    Args:
        name: The array's name.
        shape: Its shape.
        dtype: Its type.
        file: Where its compressed bytes go.
    """

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], file: IO[bytes]) -> None:
        self.name = f"{name}.npy".encode("ascii")
        self.file = file
        self.crc = self.raw_size = self.size = 0
        described = {
            "descr": np.lib.format.dtype_to_descr(dtype.newbyteorder("<")),
            "fortran_order": False,
            "shape": shape,
        }
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, described)
        self.add(header.getvalue(), _packed(header.getvalue(), _LEVEL))

    def add(self, raw: memoryview | bytes, packed: bytes) -> None:
        self.crc = zlib.crc32(raw, self.crc)
        self.raw_size += memoryview(raw).nbytes
        self._write(packed)

    def finish(self) -> None:
        self._write(_LAST_BLOCK)

    def _write(self, packed: bytes) -> None:
        self.file.write(packed)
        self.size += len(packed)

    def header(self) -> bytes:
        """What comes before it in the zip file."""
        return _LOCAL + struct.pack("<HHH", _VERSION, 0, _DEFLATED) + self._described() + self.name

    def entry(self, offset: int) -> bytes:
        """What the list at the end of the zip file says of it."""
        return b"".join(
            [
                _CENTRAL,
                struct.pack("<BBHHH", _VERSION, _UNIX, _VERSION, 0, _DEFLATED),
                self._described(),
                struct.pack("<HHHII", 0, 0, 0, _FILE_MODE, offset),
                self.name,
            ]
        )

    def _described(self) -> bytes:
        sizes = self.size, self.raw_size, len(self.name), 0
        return struct.pack("<HHIIIHH", 0, _FIRST_DAY, self.crc, *sizes)


class _Archive:
    """A zip file of arrays that grow side by side.

    The first goes into the file as it grows, the others wait beside it: in memory, or on the disk if they are
    large.
    """

    def __init__(self, path: Path) -> None:
        self._beside = path.parent
        self._file = path.open("xb")
        self._arrays: list[_Array] = []

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Array:
        """Another array, to which its bytes are to be added."""
        file: IO[bytes] = self._file
        if self._arrays:
            file = tempfile.SpooledTemporaryFile(_HELD_BYTES, dir=str(self._beside))  # noqa: SIM115
        else:
            # The header is known once all is written: it gets the room that it needs.
            file.seek(_LOCAL_SIZE + len(f"{name}.npy"))
        self._arrays.append(_Array(name, shape, dtype, file))
        return self._arrays[-1]

    def finish(self) -> None:
        """Put all arrays together."""
        entries = []
        for i, array in enumerate(self._arrays):
            array.finish()
            offset = 0 if i == 0 else self._file.tell()
            entries.append(array.entry(offset))
            if i == 0:
                self._file.seek(0)
                self._file.write(array.header())
                self._file.seek(0, io.SEEK_END)
                continue
            self._file.write(array.header())
            array.file.seek(0)
            shutil.copyfileobj(array.file, self._file)
        start = self._file.tell()
        listed = b"".join(entries)
        self._file.write(listed)
        counts = 0, 0, len(entries), len(entries), len(listed), start, 0
        self._file.write(_END + struct.pack("<HHHHIIH", *counts))
        self.close()

    def close(self) -> None:
        for array in self._arrays:
            array.file.close()
        self._file.close()

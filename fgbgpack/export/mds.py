"""Shards of samples as they are in memory, as StreamingDataset of mosaicml-streaming reads them.

MDS, version 2: a folder has shards and ``index.json``, which lists them.
A shard has, in little-endian numbers:

- the count n of its samples, uint32;
- n + 1 offsets into the shard, uint32: sample i lies from the i-th to the next;
- JSON with its columns, for those who find a shard without its index;
- the samples, each the sizes of its columns that have no fixed size, uint32, and then its columns.

Columns are sorted by name. A shard may be compressed, as a whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs.zstd import compress

from fgbgpack.dataset.batch import shapes
from fgbgpack.errors import SpecError
from fgbgpack.export.target import Part, Run, Target, Work
from fgbgpack.storage.store import PLACEMENTS

_VERSION = 2
_OFFSET = np.dtype("<u4")
_INT = np.dtype("<i8")
_SHARD_BYTES = 1 << 26
#: Offsets have 32 bits, which not all take as unsigned.
_MOST_BYTES = (1 << 31) - 1
_HASH = "sha1"
_LEVEL = 3
_COMPRESSION = re.compile(r"zstd(?::([1-9]|1[0-9]|2[0-2]))?")


@dataclass(frozen=True)
class Column:
    """One of the values of each sample.

    Attributes:
        name: What it is called.
        encoding: How it is written, in the words of MDS.
        size: How many bytes it takes, ``None`` where they differ.
    """

    name: str
    encoding: str
    size: int | None


class MdsTarget(Target[list[bytes]]):
    """``index.json`` and ``shard.00000.mds`` or ``shard.00000.mds.zstd``, in a folder for each part.

    Samples have image, mask and depth as arrays of a fixed shape, their number in the dataset as ``sample``,
    and their placement as integers, or the name they were imported under.
    """

    TO = "mds"
    OPTIONS = frozenset({"compression", "shard_bytes"})

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        asked = work.options.compression or "zstd"
        limit = work.options.shard_bytes or _SHARD_BYTES
        problems = []
        match = _COMPRESSION.fullmatch(asked)
        if match is None and asked != "none":
            problems.append(f"--compression: found {asked!r}, expected none, zstd, or zstd:1 to zstd:22")
        if limit > _MOST_BYTES:
            found, most = (f"{size / 1e6:.0f} MB" for size in (limit, _MOST_BYTES))
            problems.append(f"--shard-size: found {found}, expected at most {most}")
        if problems:
            raise SpecError("MDS cannot be written so.", problems)
        self._limit = limit
        self._compression = None if match is None else asked
        self._level = int(match[1] or _LEVEL) if match else _LEVEL
        self._columns = _columns(work)
        self._config = {
            "column_encodings": [column.encoding for column in self._columns],
            "column_names": [column.name for column in self._columns],
            "column_sizes": [column.size for column in self._columns],
            "compression": self._compression,
            "format": "mds",
            "hashes": [_HASH],
            "size_limit": limit,
            "version": _VERSION,
        }
        self._head = json.dumps(self._config, sort_keys=True).encode()
        self._folder = work.folder
        self._shards: list[dict[str, Any]] = []
        # The shard that is being filled, and where each of its samples ends in it; the next one gets the same
        # memory. Samples lie behind all the room that what comes before them can take: nothing is moved.
        least = sum(column.size or 0 for column in self._columns) + _OFFSET.itemsize
        self._room = self._head_size(limit // least + 1)
        self._shard = bytearray(self._room + limit)
        self._ends: list[int] = []
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="fgbgpack-hash")

    def begin(self, part: Part) -> None:
        """Make the part's folder."""
        self._folder = self.work.folder / part.folder
        self._folder.mkdir(exist_ok=True)
        self._shards = []

    def encode(self, run: Run) -> list[bytes]:
        """Each sample as it will be in its shard."""
        values = [self._values(column, run) for column in self._columns]
        sizes = [
            np.array([len(value) for value in of_column], _OFFSET)
            for column, of_column in zip(self._columns, values, strict=True)
            if column.size is None
        ]
        heads = np.stack(sizes, axis=1) if sizes else [b""] * len(run.samples)
        return [b"".join(parts) for parts in zip(heads, *values, strict=True)]

    def _values(self, column: Column, run: Run) -> Any:
        """The bytes of a column of each sample, as something that ``bytes.join`` takes."""
        if column.name == "name":
            return [record["name"].encode() for record in self.work.records(run)]
        if column.name == "sample":
            return run.samples.astype(_INT)[:, None]
        values = run.batch.arrays[column.name]
        if column.encoding == "int":
            return values.astype(_INT)[:, None]
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))

    def write(self, run: Run, encoded: list[bytes]) -> None:
        """Add the samples to the shard, and write it when it is full."""
        for sample in encoded:
            start = self._ends[-1] if self._ends else self._room
            end = start + len(sample)
            if self._ends and end - self._room + self._head_size(len(self._ends) + 1) > self._limit:
                self._write_shard()
                start, end = self._room, self._room + len(sample)
            # Longer than it was where a sample alone takes more than the limit.
            self._shard[start:end] = sample
            self._ends.append(end)

    def _head_size(self, count: int) -> int:
        """Bytes before the first of so many samples: the count, one offset more than it, and the JSON."""
        return (count + 2) * _OFFSET.itemsize + len(self._head)

    def _write_shard(self) -> None:
        count = len(self._ends)
        start = self._room - self._head_size(count)
        numbers = [count, *(end - start for end in (self._room, *self._ends))]
        self._shard[start : self._room] = np.array(numbers, _OFFSET).tobytes() + self._head
        raw = memoryview(self._shard)[start : self._ends[-1]]
        name = f"shard.{len(self._shards):05d}.mds"
        shard = {**self._config, "samples": count, "zip_data": None}
        # Beside the compression, as it takes half as long.
        described = self._beside.submit(_described, name, raw)
        data: bytes | memoryview = raw
        if self._compression is not None:
            name += ".zstd"
            data = compress(raw, self._level, checksum=True)
            shard["zip_data"] = _described(name, data)
        (self._folder / name).write_bytes(data)
        shard["raw_data"] = described.result()
        raw.release()
        self._shards.append(shard)
        self._ends.clear()

    def end(self, part: Part) -> None:
        """Write the last shard, and the index of all."""
        if self._ends:
            self._write_shard()
        index = json.dumps({"shards": self._shards, "version": _VERSION}, sort_keys=True)
        (self._folder / "index.json").write_text(index, encoding="utf-8")

    def close(self) -> None:
        """Let go of the thread."""
        self._beside.shutdown()

    def finish(self) -> dict[str, Any]:
        """The columns, and what their numbers of sources mean."""
        described: dict[str, Any] = {"columns": {column.name: column.encoding for column in self._columns}}
        if self.work.source_names is not None:
            described["sources"] = self.work.source_names
        return described

    def how_to_open(self, out: str) -> list[str]:
        """With mosaicml-streaming: shards are unpacked in a folder other than the one they are read from."""
        folder = self.work.parts[0].folder
        split = f", split={folder!r}" if folder else ""
        return [
            "from streaming import StreamingDataset",
            f'ds = StreamingDataset(remote={out!r}, local="mds-cache"{split}, batch_size=32)',
            'ds[0]["image"], ds[0]["mask"]',
        ]


def _columns(work: Work) -> list[Column]:
    """The columns of all samples, in MDS's order."""
    dataset = work.dataset
    expected = shapes(1, dataset.height, dataset.width)
    columns = [Column("sample", "int", _INT.itemsize)]
    for name in work.fields:
        (_, *shape), dtype = expected[name]
        encoding = f"ndarray:{dtype.name}:{','.join(map(str, shape))}"
        columns.append(Column(name, encoding, int(np.prod(shape)) * dtype.itemsize))
    if work.source_names is None:
        columns.append(Column("name", "str", None))
    else:
        columns += [Column(name, "int", _INT.itemsize) for name in PLACEMENTS]
    return sorted(columns, key=lambda column: column.name)


def _described(name: str, data: bytes | memoryview) -> dict[str, Any]:
    """A file as the index tells it: readers can ask that its hash be checked."""
    digest = hashlib.new(_HASH, data, usedforsecurity=False).hexdigest()
    return {"basename": name, "bytes": len(data), "hashes": {_HASH: digest}}

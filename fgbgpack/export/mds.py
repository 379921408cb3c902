"""Shards of raw samples, for StreamingDataset of mosaicml-streaming.

MDS, version 2: a folder has shards and ``index.json``, which lists them.
A shard has, in little-endian numbers:

- the count n of its samples, uint32;
- n + 1 offsets into the shard, uint32: sample i extends from the i-th to the next;
- JSON with its columns, for readers without the index;
- the samples, each the sizes of its columns that have no fixed size, uint32, and then its columns.

Columns are sorted by name. A shard may be compressed, as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numcodecs.zstd import compress

from fgbgpack.document import OBJECTS
from fgbgpack.errors import SpecError
from fgbgpack.export.shards import ZSTD, problems_of_shards, zstd_level
from fgbgpack.export.target import ExportJob, Run, Target

_VERSION = 2
_UINT32, _INT64 = np.dtype("<u4"), np.dtype("<i8")
_SHARD_BYTES = 1 << 26
_HASH = "sha1"


class MdsTarget(Target):
    """``index.json`` and ``shard.00000.mds`` or ``shard.00000.mds.zstd``, in a folder for each part.

    Samples have the exported fields as arrays of a fixed shape, their number in the dataset as ``sample``,
    and their placement as integers, or their name.
    """

    OPTIONS: ClassVar = frozenset({"compression", "shard_bytes"})

    def __init__(self, job: ExportJob) -> None:
        if problems := problems_of_shards(job):
            raise SpecError("MDS cannot be written so.", problems, code="export-options-invalid")
        super().__init__(job)
        self._columns = _columns(job)
        compression = job.options.compression or ZSTD
        #: The encoder's level; ``None`` without compression.
        self._level = zstd_level(compression)
        self._config = {
            "column_encodings": [encoding for encoding, _ in self._columns.values()],
            "column_names": list(self._columns),
            "column_sizes": [size for _, size in self._columns.values()],
            "compression": None if self._level is None else compression,
            "format": "mds",
            "hashes": [_HASH],
            "size_limit": job.options.shard_bytes or _SHARD_BYTES,
            "version": _VERSION,
        }

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes the shards of each part, and their index."""
        # Hashes are computed during compression, which takes twice as long.
        with ThreadPoolExecutor(1) as hashing:
            for part in self._job.parts:
                shards = _Shards(part.folder_in(folder), self._config, self._level, hashing)
                for samples in self._job.encoded(part, self._encode):
                    for sample in samples:
                        shards.add(sample)
                shards.finish()
        columns = {name: encoding for name, (encoding, _) in self._columns.items()}
        return {"columns": columns} | self._job.ids.meanings

    def _encode(self, run: Run) -> list[bytes]:
        arrays = run.arrays | self._job.ids.arrays(run.samples)
        sizes, columns = list[list[int]](), list[Any]()
        for name, (encoding, _) in self._columns.items():
            values = arrays[name]
            if encoding == "str":  # no column of another kind is without a fixed size
                columns.append([text.encode() for text in values.tolist()])
                sizes.append([len(text) for text in columns[-1]])
            elif encoding == "int":
                columns.append(values.astype(_INT64)[:, None])
            else:
                columns.append(np.ascontiguousarray(values, values.dtype.newbyteorder("<")))
        heads = np.array(sizes, _UINT32).reshape(len(sizes), len(run.samples)).T.copy()
        return [b"".join(sample) for sample in zip(heads, *columns, strict=True)]

    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """With mosaicml-streaming: it unpacks shards in a folder other than the one that it reads from."""
        slug = self._job.parts[0].slug
        split = f", split={slug!r}" if slug else ""
        return [
            "from streaming import StreamingDataset",
            f'ds = StreamingDataset(remote={out!r}, local="mds-cache"{split}, batch_size=32)',
            'ds[0]["image"], ds[0]["mask"]',
        ]


class _Shards:
    """The shards of a part, each written when the next sample would not fit."""

    def __init__(
        self, folder: Path, config: dict[str, Any], level: int | None, hashing: ThreadPoolExecutor
    ) -> None:
        self._folder, self._config, self._level, self._hashing = folder, config, level, hashing
        self._json = json.dumps(config, sort_keys=True).encode()
        self._written: list[dict[str, Any]] = []
        # The shard being filled; its memory is reused. How long the head will be depends on the number of
        # samples: these begin where the longest head would end, and the head is written right before them.
        self._limit: int = config["size_limit"]
        smallest = sum(size or 0 for size in config["column_sizes"]) + _UINT32.itemsize
        self._start = self._head_size(self._limit // smallest + 1)
        self._shard = bytearray(self._start + self._limit)
        self._ends = [self._start]

    def add(self, sample: bytes) -> None:
        head = self._head_size(len(self._ends))
        if len(self._ends) > 1 and head + self._ends[-1] - self._start + len(sample) > self._limit:
            self._write()
        end = self._ends[-1] + len(sample)
        self._shard[self._ends[-1] : end] = sample  # grows if the sample alone exceeds the limit
        self._ends.append(end)

    def finish(self) -> None:
        if len(self._ends) > 1:
            self._write()
        index = json.dumps({"shards": self._written, "version": _VERSION}, sort_keys=True)
        (self._folder / "index.json").write_text(index, encoding="utf-8")

    def _head_size(self, count: int) -> int:
        """Bytes before so many samples: their count, one offset more than it, and the JSON."""
        return (count + 2) * _UINT32.itemsize + len(self._json)

    def _write(self) -> None:
        count = len(self._ends) - 1
        first = self._start - self._head_size(count)
        numbers = np.array([count, *(end - first for end in self._ends)], _UINT32)
        self._shard[first : self._start] = numbers.tobytes() + self._json
        raw = memoryview(self._shard)[first : self._ends[-1]]
        name = f"shard.{len(self._written):05d}.mds"
        shard = {**self._config, "samples": count, "zip_data": None}
        raw_data = self._hashing.submit(_describe, name, raw)
        data: bytes | memoryview = raw
        if self._level is not None:
            name += ".zstd"
            data = compress(raw, self._level, checksum=True)
            shard["zip_data"] = _describe(name, data)
        (self._folder / name).write_bytes(data)
        shard["raw_data"] = raw_data.result()
        raw.release()
        self._written.append(shard)
        self._ends = [self._start]


def _columns(job: ExportJob) -> dict[str, tuple[str, int | None]]:
    """The encoding of each column in MDS's terms, and its bytes; ``None`` where these differ."""
    columns: dict[str, tuple[str, int | None]] = dict.fromkeys(
        ("sample", *job.ids.columns), ("int", _INT64.itemsize)
    )
    for name in {"name", OBJECTS} & columns.keys():
        columns[name] = "str", None
    for name, ((_, *shape), dtype) in job.shapes(1).items():
        size = int(np.prod(shape)) * dtype.itemsize
        columns[name] = f"ndarray:{dtype.name}:{','.join(map(str, shape))}", size
    return dict(sorted(columns.items()))


def _describe(name: str, data: bytes | memoryview) -> dict[str, Any]:
    """A file's entry in the index: readers can check its hash."""
    digest = hashlib.new(_HASH, data, usedforsecurity=False).hexdigest()
    return {"basename": name, "bytes": len(data), "hashes": {_HASH: digest}}

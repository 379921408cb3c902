"""Tar files of samples, for WebDataset."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from fgbgpack.document import DEPTH
from fgbgpack.export.png import png
from fgbgpack.export.target import ExportJob, Part, Run, Target
from fgbgpack.pipeline.events import Notice

_SHARD_BYTES = 256_000_000
_SIZES = "sizes.json"
#: The workers of a DataLoader that one does not expect to fail.
_WORKERS = 8
#: Two blocks of zeros end a tar file.
TAR_END = bytes(2 * tarfile.BLOCKSIZE)
#: The head of a member; where its size is, and the sum of its bytes, which counts as spaces itself.
_SIZE, _CHECKSUM, _SPACES = slice(124, 135), slice(148, 156), 8 * ord(" ")
_HEAD = bytearray(tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT))
_HEAD[_CHECKSUM] = bytes(8)


class WebdatasetTarget(Target):
    """``<part>-000000.tar`` and so on, and ``sizes.json`` with the number of samples in each.

    A sample has ``<number>.image.png``, ``.mask.png``, ``.depth.npy`` (float16, unchanged) and ``.json`` with
    its placement, or its name.
    """

    OPTIONS: ClassVar = frozenset({"shard_bytes", "shard_samples"})

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes the shards, and their sizes: they cannot be known without reading the shards."""
        job = self._job
        sizes: dict[str, int] = {}
        counts = []
        for part in job.parts:
            with closing(_Shards(folder / _prefix(part), job)) as shards:
                for samples in job.encoded(part, self._encode):
                    for sample in samples:
                        shards.add(sample)
            sizes |= shards.sizes
            counts.append(len(shards.sizes))
        self._warn_of_workers(counts)
        (folder / _SIZES).write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")
        return {"shards": sizes}

    def _warn_of_workers(self, shards: Sequence[int]) -> None:
        """Says where there are fewer shards than workers may be; ``shards`` are those of each part."""
        parts = zip(self._job.parts, shards, strict=True)
        few = [(part, count) for part, count in parts if count < min(_WORKERS, len(part.samples))]
        if not few:
            return
        part, count = min(few, key=lambda pair: pair[1])
        where = f"part {part.name!r}" if part.name else "this export"
        files = "1 tar file" if count == 1 else f"{count} tar files"
        most = max(1, min(len(part.samples) for part, _ in few) // _WORKERS)
        self._job.on_event(
            Notice(
                f"There {'is' if count == 1 else 'are'} {files} in {where}. WebDataset shares tar files out "
                "among the workers of a DataLoader, and stops where one gets none: use at most "
                f"num_workers={count}, or make more tar files with --shard-samples {most} --overwrite."
            )
        )

    def _encode(self, run: Run) -> list[bytes]:
        pictures = {
            field: [_npy(array) if field == DEPTH else png(array) for array in run.arrays[field]]
            for field in self._job.fields
        }
        samples = []
        for i, record in enumerate(self._job.ids.records(run.samples)):
            key = self._job.ids.key(record["sample"])
            members = [
                _member(f"{key}.{field}.{'npy' if field == DEPTH else 'png'}", encoded[i])
                for field, encoded in pictures.items()
            ]
            members.append(_member(f"{key}.json", json.dumps(record, ensure_ascii=False).encode()))
            samples.append(b"".join(members))
        return samples

    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """With webdataset."""
        part = self._job.parts[0]
        shard = re.compile(rf"{re.escape(_prefix(part))}-[0-9]{{6}}\.tar")
        count = sum(shard.fullmatch(name) is not None for name in details["shards"])
        shards = f"{{000000..{count - 1:06d}}}" if count > 1 else "000000"
        url = f"{Path(out) / _prefix(part)}-{shards}.tar"
        return [
            "import webdataset",
            f'samples = webdataset.WebDataset({url!r}, shardshuffle=100).shuffle(1000).decode("pil")',
            "sample = next(iter(samples))",
        ]


class _Shards:
    """The tar files of a part, each begun when the one before is full."""

    def __init__(self, path: Path, job: ExportJob) -> None:
        self._path = path
        self._max_bytes = job.options.shard_bytes or _SHARD_BYTES
        self._max_samples = job.options.shard_samples
        self._file: BinaryIO | None = None
        self._samples = self._bytes = 0
        self.sizes: dict[str, int] = {}

    def add(self, sample: bytes) -> None:
        is_full = self._bytes + len(sample) > self._max_bytes or self._samples == self._max_samples
        if self._file is None or is_full:
            self.close()
            path = self._path.with_name(f"{self._path.name}-{len(self.sizes):06d}.tar")
            self._file, self._name = path.open("xb"), path.name
            self._samples, self._bytes = 0, len(TAR_END)
        self._file.write(sample)
        self._bytes += len(sample)
        self._samples += 1
        self.sizes[self._name] = self._samples

    def close(self) -> None:
        if self._file is not None:
            with self._file:
                self._file.write(TAR_END)


def _prefix(part: Part) -> str:
    return part.slug or "samples"


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _member(name: str, data: bytes) -> bytes:
    """A file in a tar archive (POSIX ustar), without time and owner."""
    head = bytearray(_HEAD)
    head[: len(name)] = name.encode("ascii")
    head[_SIZE] = b"%011o" % len(data)
    head[_CHECKSUM] = b"%06o\0 " % (sum(head) + _SPACES)
    return b"".join([head, data, bytes(-len(data) % tarfile.BLOCKSIZE)])

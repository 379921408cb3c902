"""Tar files of samples, as WebDataset reads them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fgbgpack.export.pictures import png
from fgbgpack.export.target import Part, Run, Target, Work
from fgbgpack.storage.store import DEPTH

_SHARD_BYTES = 256_000_000
_ALL = "samples"
_SIZES = "sizes.json"

#: Where the size of a member and the sum of its header lie in the header; its name comes first.
_SIZE, _SUM = slice(124, 136), slice(148, 156)


class WebdatasetTarget(Target[list[bytes]]):
    """``<part>-000000.tar`` and so on, and ``sizes.json`` with the number of samples in each.

    A sample has ``<number>.image.png``, ``.mask.png``, ``.depth.npy`` (float16, as it is) and ``.json`` with
    its placement, or its name.
    """

    TO = "webdataset"
    OPTIONS = frozenset({"shard_bytes", "shard_samples"})

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._most_bytes = work.options.shard_bytes or _SHARD_BYTES
        self._most_samples = work.options.shard_samples
        self._sizes: dict[str, int] = {}
        self._shards: dict[str, int] = {}
        self._shard: BinaryIO | None = None
        self._name = ""
        self._number = self._bytes = 0

    def begin(self, part: Part) -> None:
        """Begin to count its shards."""
        self._number = 0

    def encode(self, run: Run) -> list[bytes]:
        """Each sample as it will be in its shard."""
        encoded = []
        records = self.work.records(run)
        for i, (sample, record) in enumerate(zip(run.samples.tolist(), records, strict=True)):
            members = []
            for field in self.work.fields:
                pixels = run.batch.arrays[field][i]
                ending, data = ("npy", _npy(pixels)) if field == DEPTH else ("png", png(pixels))
                members.append(_member(f"{sample:08d}.{field}.{ending}", data))
            members.append(_member(f"{sample:08d}.json", json.dumps(record, ensure_ascii=False).encode()))
            encoded.append(b"".join(members))
        return encoded

    def write(self, run: Run, encoded: list[bytes]) -> None:
        """Add the samples to the shard, or to the next one where it is full."""
        for data in encoded:
            if self._shard is not None and self._is_full(len(data)):
                self._end_shard()
            if self._shard is None:
                self._name = f"{run.part.folder or _ALL}-{self._number:06d}.tar"
                self._shard = (self.work.folder / self._name).open("xb")
                self._sizes[self._name] = self._bytes = 0
            self._shard.write(data)
            self._bytes += len(data)
            self._sizes[self._name] += 1

    def _is_full(self, more: int) -> bool:
        ends = 2 * tarfile.BLOCKSIZE
        return self._sizes[self._name] == self._most_samples or self._bytes + more + ends > self._most_bytes

    def _end_shard(self) -> None:
        if self._shard is not None:
            # Two blocks of zeros end a tar file.
            self._shard.write(bytes(2 * tarfile.BLOCKSIZE))
        self.close()
        self._shard = None
        self._number += 1

    def end(self, part: Part) -> None:
        """Finish its last shard."""
        self._end_shard()
        self._shards[part.folder] = self._number

    def finish(self) -> dict[str, Any]:
        """Say how many samples each shard has: nobody can know without reading it."""
        (self.work.folder / _SIZES).write_text(json.dumps(self._sizes, indent=2) + "\n", encoding="utf-8")
        return {"shards": self._sizes}

    def close(self) -> None:
        """Let go of the shard."""
        if self._shard is not None:
            self._shard.close()

    def how_to_open(self, out: str) -> list[str]:
        """With webdataset."""
        part = self.work.parts[0].folder
        count = self._shards[part]
        shards = f"{{000000..{count - 1:06d}}}" if count > 1 else "000000"
        url = str(Path(out) / f"{part or _ALL}-{shards}.tar")
        return [
            "import webdataset",
            f'samples = webdataset.WebDataset({url!r}, shardshuffle=100).shuffle(1000).decode("pil")',
            "sample = next(iter(samples))",
        ]


def _npy(array: NDArray[Any]) -> bytes:
    """An array as a .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def _member(name: str, data: bytes) -> bytes:
    """A file as it lies in a tar file (POSIX ustar): of no time, and of nobody."""
    header = bytearray(_HEADER)
    header[: len(name)] = name.encode("ascii")
    header[_SIZE] = b"%011o\0" % len(data)
    header[_SUM] = b"%06o\0 " % sum(header)
    return b"".join([header, data, bytes(-len(data) % tarfile.BLOCKSIZE)])


def _empty_header() -> bytes:
    """The header of a file without a name, whose sum counts as blanks, as it does when it is computed."""
    header = bytearray(tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT))
    header[_SUM] = b" " * 8
    return bytes(header)


_HEADER = _empty_header()

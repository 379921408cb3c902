"""Files of arrays, for ``numpy.load``."""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import DEPTH
from fgbgpack.export.target import ExportJob, Target
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.pipeline.ticket import Work, require_folder

_FILE_BYTES = 256_000_000
#: What a thread reads and compresses at a time.
_BLOCK_BYTES = 8 << 20
#: Level 4 would make images and masks of 128x128 2 % smaller and take a quarter longer; depth becomes half as
#: large.
_LEVEL, _DEPTH_LEVEL = 1, 4


class NpzTarget(Target):
    """``part-00000.npz`` and so on, in a folder for each part of the split.

    Each has the exported fields as the dataset has them, ``sample`` (their numbers in the dataset, int64),
    and their placements or names.
    """

    OPTIONS: ClassVar = frozenset({"shard_samples"})

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes several files at a time, each on a thread of its own."""
        job = self._job
        length = job.options.shard_samples or max(1, _FILE_BYTES // job.sample_bytes)
        files = []
        for part in job.parts:
            own = part.folder_in(folder)
            for number, start in enumerate(range(0, len(part.samples), length)):
                files.append((own / f"part-{number:05d}.npz", part.samples[start : start + length]))
        job.engine.run(_Files(job, folder), files, job.advance, "npz")
        return job.ids.meanings

    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """With NumPy."""
        path = str(Path(out) / self._job.parts[0].slug / "part-00000.npz")
        return ["import numpy", f"arrays = numpy.load({path!r})", f'arrays["{self._job.fields[0]}"]']


class _Files(Work[tuple[Path, NDArray[np.int64]], None]):
    """Writes samples to files, in any process that sees the folder and the dataset."""

    recipe_store = None  # the dataset reads what it needs

    def __init__(self, job: ExportJob, folder: Path) -> None:
        self._job, self._folder, self._is_sent = job, folder, False

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_is_sent": True}

    def __call__(self, item: tuple[Path, NDArray[np.int64]], monitor: Monitor) -> None:
        """Writes samples to a file as ``numpy.savez`` does, one array after the other and block by block."""
        path, samples = item
        if not self._is_sent:
            self._write(path, samples, monitor)
            return
        require_folder(self._folder)
        # Another process may write it, too: it gets its name when it is whole.
        unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            self._write(unfinished, samples, monitor)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _write(self, path: Path, samples: NDArray[np.int64], monitor: Monitor) -> None:
        with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
            for name, (shape, dtype) in self._job.shapes(len(samples)).items():
                header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                archive.compresslevel = _DEPTH_LEVEL if name == DEPTH else _LEVEL
                length = max(1, _BLOCK_BYTES * len(samples) // (int(np.prod(shape)) * dtype.itemsize))
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    for start in range(0, len(samples), length):
                        monitor.check()
                        block = samples[start : start + length]
                        member.write(self._job.dataset.read(block, name, threads=1).arrays[name].data)
                        if name == self._job.fields[-1]:
                            monitor.advance(len(block))
            for name, values in self._job.ids.arrays(samples).items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)

"""What every export target gets and does: samples and options in, files out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.batch import shapes
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.document import DEPTH, DEPTH_MAX, DEPTH_MIN, ImportedDepthInfo
from fgbgpack.export.naming import SampleIds
from fgbgpack.export.png import DepthScale
from fgbgpack.pipeline.events import OnEvent, Progress
from fgbgpack.pipeline.executor import Threads

T = TypeVar("T")

#: Bytes of samples that are read at once, and that a run has.
_READ_BYTES = 24 << 20
_RUN_BYTES = 2 << 20
#: Runs in flight beyond those being encoded: work for the threads while the next samples are read.
_RUNS_AHEAD = 8


@dataclass(frozen=True)
class Options:
    """Options that only some targets accept, as in :func:`export`; ``None`` for the target's default."""

    depth_bits: int | None = None
    shard_bytes: int | None = None
    shard_samples: int | None = None
    compression: str | None = None
    category: str | None = None
    segmentation: str | None = None


@dataclass(frozen=True)
class Part:
    """One part of a split, or all exported samples, in ascending order; the slug is its name for files."""

    name: str
    slug: str
    samples: NDArray[np.int64]

    def folder_in(self, folder: Path) -> Path:
        """Creates the part's folder; without a split that is ``folder`` itself."""
        own = folder / self.slug
        own.mkdir(exist_ok=True)
        return own


@dataclass(frozen=True)
class Run:
    """Consecutive samples of a part, a few megabytes: (n,) int64, their numbers in the dataset, and the
    exported fields, as :class:`~fgbgpack.dataset.batch.Batch` describes them.
    """

    samples: NDArray[np.int64]
    arrays: dict[str, NDArray[Any]]


@dataclass(eq=False)
class ExportJob:
    """One export: what is written, and the loop that reads samples and encodes them on threads."""

    dataset: Dataset
    fields: tuple[str, ...]
    parts: Sequence[Part]
    options: Options
    threads: Threads
    on_event: OnEvent

    def __post_init__(self) -> None:
        self.ids = SampleIds(self.dataset)
        self.samples = sum(len(part.samples) for part in self.parts)
        self._done = 0

    def advance(self, samples: int) -> None:
        """Reports that so many more samples are written; to be called in the caller's thread."""
        self._done += samples
        self.on_event(Progress("export", self._done, self.samples))

    def encoded(self, part: Part, encode: Callable[[Run], T]) -> Iterator[T]:
        """The result of ``encode`` for each run of a part, in order; progress is reported after each.

        ``encode`` is called on several threads, a few runs ahead. Runs are cut by memory: the bytes of files
        must not depend on where they end.
        """
        for run, result in self.threads.in_order(encode, self._runs(part), ahead=_RUNS_AHEAD):
            yield result
            self.advance(len(run.samples))

    def _runs(self, part: Part) -> Iterator[Run]:
        """Several runs are read together, as samples share chunks."""
        length = max(1, _RUN_BYTES // self.sample_bytes)
        together = length * max(1, _READ_BYTES // (length * self.sample_bytes))
        for first in range(0, len(part.samples), together):
            samples = part.samples[first : first + together]
            batch = self.dataset.read(samples, self.fields)
            for start in range(0, len(samples), length):
                run = slice(start, start + length)
                yield Run(samples[run], {name: batch.arrays[name][run] for name in self.fields})

    def shapes(self, samples: int) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """The shape and dtype of each exported field of so many samples."""
        expected = shapes(samples, self.dataset.document)
        return {name: expected[name] for name in self.fields}

    @property
    def sample_bytes(self) -> int:
        """Bytes of the exported fields of one sample."""
        return sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in self.shapes(1).values())

    @cached_property
    def depth_scale(self) -> DepthScale | None:
        """How depth becomes the pixels of pictures: one mapping for all exported samples; ``None`` without
        depth.
        """
        if DEPTH not in self.fields:
            return None
        samples = np.concatenate([part.samples for part in self.parts])
        low, high = (self.dataset.whole(name)[samples] for name in (DEPTH_MIN, DEPTH_MAX))
        # Networks fill every pixel; imported files need not.
        unknown = isinstance(self.dataset.document.depth, ImportedDepthInfo)
        return DepthScale.of(low, high, self.options.depth_bits or 16, unknown=unknown)

    def pictures(self, run: Run, field: str) -> NDArray[Any]:
        """A field of a run as pixels of pictures: depth by ``depth_scale``, the others as they are."""
        values = run.arrays[field]
        return self.depth_scale.apply(values) if field == DEPTH and self.depth_scale else values


class Target(ABC):
    """A format to export to; one object writes one export, and raises SpecError where the job does not suit
    it.

    ``OPTIONS`` are the fields of :class:`Options` that it accepts; with ``"depth_bits"``, it writes depth by
    ``job.depth_scale``.
    """

    OPTIONS: ClassVar[frozenset[str]]

    def __init__(self, job: ExportJob) -> None:
        self._job = job

    @abstractmethod
    def write(self, folder: Path) -> dict[str, Any]:
        """Writes all files into an empty folder, with bytes that depend on the samples and options only; the
        ``details`` of ``fgbgpack.json``, as JSON.
        """

    @abstractmethod
    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """Lines of Python that open the export at ``out``; ``details`` are what :meth:`write` returned."""

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
from fgbgpack.pipeline.events import OnEvent, Progress, silent
from fgbgpack.pipeline.executor import Engine, Monitor, Threads
from fgbgpack.pipeline.ticket import Work, require_folder
from fgbgpack.pipeline.workers import Workers

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
    """One export: what is written, and the loop that reads samples and encodes them on an engine. What is
    pickled has no parts.
    """

    dataset: Dataset
    fields: tuple[str, ...]
    parts: Sequence[Part]
    options: Options
    engine: Engine
    on_event: OnEvent

    def __post_init__(self) -> None:
        self.ids = SampleIds(self.dataset)
        self.samples = sum(len(part.samples) for part in self.parts)
        self._done = 0

    def __getstate__(self) -> dict[str, Any]:
        # What all parts together say is said before.
        scale = {} if self.depth_scale is None else {"depth_scale": self.depth_scale}
        return {**self.__dict__, **scale, "parts": (), "on_event": silent}

    @property
    def threads(self) -> Threads:
        """The threads of this process."""
        return self.engine.threads

    def advance(self, samples: int) -> None:
        """Reports that so many more samples are written; to be called in the caller's thread."""
        self._done += samples
        self.on_event(Progress("export", self._done, self.samples))

    def encoded(
        self, part: Part, encode: Callable[[Run], T], *, writes_to: Path | None = None
    ) -> Iterator[T]:
        """The result of ``encode`` for each run of a part, in order; progress is reported after each.

        ``encode`` is called on several threads, a few runs ahead. Runs are cut by memory: the bytes of files
        must not depend on where they end. Where it ``writes_to`` a folder itself, and returns little, other
        processes may do it, some of it twice.
        """
        if writes_to is not None and isinstance(self.engine, Workers):
            work = Encoding(self, encode, writes_to)
            for _, (count, result) in self.engine.in_order(work, self._numbers(part)):
                yield result
                self.advance(count)
            return
        for run, result in self.threads.in_order(encode, self._runs(part), ahead=_RUNS_AHEAD):
            yield result
            self.advance(len(run.samples))

    def _runs(self, part: Part) -> Iterator[Run]:
        """Several runs are read together, as samples share chunks."""
        length = self._run_length
        for samples in self._numbers(part):
            batch = self.dataset.read(samples, self.fields)
            for start in range(0, len(samples), length):
                run = slice(start, start + length)
                yield Run(samples[run], {name: batch.arrays[name][run] for name in self.fields})

    def _numbers(self, part: Part) -> Iterator[NDArray[np.int64]]:
        """The samples that are read together."""
        together = self._run_length * max(1, _READ_BYTES // (self._run_length * self.sample_bytes))
        for first in range(0, len(part.samples), together):
            yield part.samples[first : first + together]

    def shapes(self, samples: int) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """The shape and dtype of each exported field of so many samples."""
        expected = shapes(samples, self.dataset.document)
        return {name: expected[name] for name in self.fields}

    @property
    def sample_bytes(self) -> int:
        """Bytes of the exported fields of one sample."""
        return sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in self.shapes(1).values())

    @property
    def _run_length(self) -> int:
        """How many samples are encoded together."""
        return max(1, _RUN_BYTES // self.sample_bytes)

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


class Encoding(Work[NDArray[np.int64], tuple[int, T]]):
    """Reads samples by their numbers and encodes them into files of a folder, in any process that sees both;
    returns how many those are, and what ``encode`` returns.
    """

    recipe_store = None  # the dataset reads what it needs

    def __init__(self, job: ExportJob, encode: Callable[[Run], T], folder: Path) -> None:
        self._job, self._encode, self._folder = job, encode, folder

    def __call__(self, item: NDArray[np.int64], monitor: Monitor) -> tuple[int, T]:
        """Does it for samples, (n,) int64."""
        require_folder(self._folder)
        batch = self._job.dataset.read(item, self._job.fields, threads=1)
        return len(item), self._encode(Run(item, dict(batch.arrays)))


class Target(ABC):
    """A format to export to; one object writes one export, and raises SpecError where the job does not suit
    it.

    ``OPTIONS`` are the fields of :class:`Options` that it accepts; with ``"depth_bits"``, it writes depth by
    ``job.depth_scale``.
    """

    OPTIONS: ClassVar[frozenset[str]]
    #: Fields that it has no place for: they are left out.
    WITHOUT: ClassVar[frozenset[str]] = frozenset()

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

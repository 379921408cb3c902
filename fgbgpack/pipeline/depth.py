"""The stage that fills ``/depth``, and what the document says of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.depth.layered import step_exponent
from fgbgpack.depth.strategies import DepthSource, Layered
from fgbgpack.document import DEPTH, EXTREMES, NetworkDepthInfo
from fgbgpack.errors import DepthModelError
from fgbgpack.pipeline.depth_modes import MODES, DepthJob, Mode
from fgbgpack.pipeline.events import Notice, StageName
from fgbgpack.pipeline.executor import Engine, Monitor
from fgbgpack.pipeline.stage import LayoutStage, Product
from fgbgpack.sources.names import counted
from fgbgpack.storage.arrays import DEPTH_CODEC, PIXEL_CODEC
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.store import DatasetStore

#: Samples whose range the grid is chosen for: one in a hundred, at least and at most so many.
_MEASURED_SAMPLES = (16, 512)
#: The range of a few samples is less than that of all, and a power of two is rarely just what is wanted.
_MARGIN = 1.1


class DepthStage(LayoutStage):
    """The depth of samples, rounded to a grid of ``step`` (a power of two; ``None`` measures which) and
    encoded.

    There is no ``store`` for an estimate. Where ``/depth`` is ``composed``, only its extremes are kept.
    """

    name: ClassVar[StageName] = "depth"

    def __init__(
        self,
        job: DepthJob,
        mode: Mode,
        store: DatasetStore | None,
        step: float | None,
        composed: Collection[str] = (),
    ) -> None:
        self._job, self._mode, self._store = job, mode, store
        self.layout, self._is_stored = job.depth_layout, DEPTH not in composed
        extremes = dict.fromkeys(EXTREMES, self.layout.vector)
        super().__init__({DEPTH: self.layout} if self._is_stored else extremes)
        if job.shards is not None:
            self.restrict(job.shards)
        self._codec = PIXEL_CODEC if job.sees_backgrounds else DEPTH_CODEC
        self.preparation_seconds = 0.0
        self.step = self._measured_step() if step is None else step

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "source"}

    @cached_property
    def source(self) -> DepthSource:
        """What gives the depth of samples; each process opens its own."""
        if self._store is not None:
            return self._mode.source(self._store)
        source, self.preparation_seconds = self._mode.rehearsal()
        return source

    @property
    def engine(self) -> Engine:
        """What it runs on: besides threads that compute, some that wait for a GPU."""
        source, engine = self.source, self._job.engine
        return engine if isinstance(source, Layered) else engine.and_more(source.session.waiting_threads)

    def report(self) -> None:
        """Report what the network's session has to say since it was opened."""
        if not isinstance(self.source, Layered):
            self._job.check(self.source.session, None)

    def _measured_step(self) -> float:
        """A power of two, for the range of samples from all over, unless the backgrounds tell it."""
        if isinstance(self.source, Layered):
            return self.source.step(self._job.depth.bits)
        samples = self._job.extent.samples
        fewest, most = _MEASURED_SAMPLES
        count = min(max(fewest, samples // 100), most, samples)
        chosen = np.linspace(0, samples - 1, count).astype(np.int64)
        batch = self.source.batch

        def extent(first: int) -> tuple[float, float]:
            some = chosen[first : first + batch]
            depth = np.empty((len(some), *self.layout.shape[1:]), np.float16)
            minimum, maximum = self.source(some, depth)
            return float(minimum.min()), float(maximum.max())

        self._job.on_event(Notice(f"Measuring the range of depth on {counted(count, 'sample')}."))
        lowest, highest = zip(*self._job.threads.map(extent, range(0, count, batch)), strict=True)
        widest = (max(highest) - min(lowest)) * _MARGIN
        return math.ldexp(1.0, step_exponent(widest, self._job.depth.bits))

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """The shard with that number; the extremes that belong to it come first."""
        chunks, extremes = self.encode(self.layout.samples_of(shard), monitor)
        found = encoded_extremes(shard, extremes)
        return Product(found | self.joined(shard, {DEPTH: chunks}) if self._is_stored else found)

    def encode(self, run: range, monitor: Monitor) -> tuple[list[bytes], NDArray[np.float16]]:
        """The encoded chunks of a run of samples, from the start of one; (2, n) least and greatest depth."""
        chunk, chunks = self.layout.chunk[0], []
        extremes = np.full((2, self.layout.shard[0]), np.nan, np.float16)
        # What layers are composed in stays in the processor's cache.
        together = chunk if isinstance(self.source, Layered) else self._job.together
        together = min(together, -(-len(run) // chunk) * chunk)
        depth = np.empty((together, *self.layout.shape[1:]), np.float16)
        for first in range(0, len(run), together):
            part = run[first : first + together]
            self._fill(part, depth, extremes[:, first : first + len(part)], monitor)
            depth[len(part) :] = np.nan
            chunks += [
                self._codec.encode(band)
                for start in range(0, together if self._is_stored else 0, chunk)
                for band in bands(depth[start : start + chunk], self.layout, np.float16(np.nan))
            ]
        return chunks, extremes

    def _fill(
        self, run: range, depth: NDArray[np.float16], extremes: NDArray[np.float16], monitor: Monitor
    ) -> None:
        """Fill ``depth`` and ``extremes``, (2, n), with those of a run of n samples, a batch at a time."""
        batch = self.source.batch
        for first in range(0, len(run), batch):
            monitor.check()
            some = slice(first, min(first + batch, len(run)))
            samples = run[some]
            try:
                extremes[:, some] = self.source(samples, depth[some], step=self.step)
            except DepthModelError as exc:
                exc.add_note(f"while running samples {samples.start} to {samples.stop - 1}")
                raise
            monitor.advance(len(samples))


def encoded_extremes(shard: int, extremes: Iterable[NDArray[np.float16]]) -> dict[str, bytes]:
    """The keys and values of the least and the greatest depth of a shard's samples."""
    named = zip(EXTREMES, extremes, strict=True)
    return {f"{name}/c/{shard}": PIXEL_CODEC.encode(values) for name, values in named}


def known_extremes(maps: NDArray[np.float16]) -> NDArray[np.float16]:
    """The least and the greatest known depth of each map, (2, n); NaN where none is known."""
    known = ~np.isnan(maps)
    low = np.min(maps, axis=(1, 2), where=known, initial=np.float16(np.inf))
    high = np.max(maps, axis=(1, 2), where=known, initial=np.float16(-np.inf))
    return np.where(known.any(axis=(1, 2)), np.stack([low, high]), np.float16(np.nan))


def bands(samples: NDArray[Any], layout: Layout, fill: Any) -> Iterator[NDArray[Any]]:
    """The samples of a chunk, cut by rows as chunks are, from the top; rows below the last are ``fill``."""
    shape = layout.chunk
    for top in range(0, samples.shape[1], shape[1]):
        rows = samples[:, top : top + shape[1]]
        if rows.shape == shape:
            yield np.ascontiguousarray(rows)
        else:
            band = np.full(shape, fill, samples.dtype)
            band[: len(rows), : rows.shape[1]] = rows
            yield band


@dataclass(frozen=True)
class DepthFilling:
    """Depth that is to be filled, by a mode that is ready; ``section`` is the document's, not complete."""

    job: DepthJob
    mode: Mode
    section: NetworkDepthInfo

    @classmethod
    def of(cls, job: DepthJob, previous: NetworkDepthInfo | None, store: DatasetStore | None) -> DepthFilling:
        """Open the networks, and check that they can finish what was begun; no ``store`` is for an estimate.

        Raises SourceError, DepthModelError, or RecipeMismatchError if the provider that began it is not
        available.
        """
        mode: Mode = MODES[job.networks.mode](job, previous, store)
        section = NetworkDepthInfo(
            complete=False,
            mode=job.networks.mode,
            model=job.networks.card,
            sha256=job.networks.sha256,
            guide=None,
            scale=job.scale,
            bits=job.depth.bits,
            step=None if previous is None else previous.step,
            precision=job.depth.precision,
            devices=(),
        )
        return cls(job, mode, mode.section(section))

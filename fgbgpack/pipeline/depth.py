"""Fill /depth: what the document says of it, the grid, and the shards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.depth import rounding_bound
from fgbgpack.depth.strategies import DepthSource
from fgbgpack.errors import DepthModelError
from fgbgpack.pipeline.depth_modes import DepthJob, GuidedMode, PerSampleMode
from fgbgpack.pipeline.executor import Advance, Check, Notice, fill_missing, on_threads
from fgbgpack.storage import store as disk
from fgbgpack.storage.layout import Layout, depth_layout
from fgbgpack.storage.sharding import join
from fgbgpack.storage.store import Keys

#: Samples whose range the grid is chosen for: one in a hundred, at least and at most so many.
_MEASURED_SAMPLES = (16, 512)
#: The range of a few samples is less than that of all, and a power of two is rarely just what is wanted.
_MARGIN = 1.1
_SMALLEST_EXPONENT = -24  # of a float16


@dataclass(frozen=True)
class _EncodedDepth:
    chunks: list[bytes]
    minimum: NDArray[np.float16]
    maximum: NDArray[np.float16]


class DepthEncoder:
    """The depth of samples, rounded to a grid and encoded.

    Args:
        job: What is to be filled.
        source: What gives the depth of samples.
        step: The grid: a power of two; ``None`` to measure which.

    Attributes:
        layout: How depth is cut.
        batch: Samples that go through the source at a time.
        provider: What runs them.
        step: The grid.
    """

    def __init__(self, job: DepthJob, source: DepthSource, step: float | None) -> None:
        self._job, self._source = job, source
        is_guided = job.networks.guide is not None
        self.layout: Layout = depth_layout(job.plan, guided=is_guided)
        self._codec = disk.GUIDED_DEPTH_CODEC if is_guided else disk.DEPTH_CODEC
        self.batch = source.batch
        self.provider: str = source.session.provider
        self.step = self._measured_step() if step is None else step

    def _measured_step(self) -> float:
        """A power of two, for the range of samples from all over."""
        plan = self._job.plan
        fewest, most = _MEASURED_SAMPLES
        count = min(max(fewest, plan.samples // 100), most, plan.samples)
        samples = np.linspace(0, plan.samples - 1, count).astype(np.int64)

        def extent(first: int) -> tuple[float, float]:
            some = samples[first : first + self.batch]
            depth = np.empty((len(some), *self.layout.shape[1:]), np.float16)
            minimum, maximum = self._source(some, depth)
            return float(minimum.min()), float(maximum.max())

        self._job.tell(Notice(f"Measuring the range of depth on {count} samples."))
        extents = on_threads(extent, range(0, count, self.batch), self._job.workers)
        lowest, highest = zip(*extents, strict=True)
        # frexp gives a fraction in [0.5, 1): the exponent less one is floor(log2), exactly.
        exponent = math.frexp((max(highest) - min(lowest)) * _MARGIN)[1] - 1 - self._job.depth.bits
        return math.ldexp(1.0, max(exponent, _SMALLEST_EXPONENT))

    def encode(self, run: range, check: Check, advance: Advance) -> _EncodedDepth:
        """The encoded chunks of a run of samples, which starts with a chunk."""
        chunk = self.layout.chunk[0]
        padded = -(-len(run) // chunk) * chunk
        depth = np.full((padded, *self.layout.shape[1:]), np.nan, np.float16)
        minimum = np.full(self.layout.shard[0], np.nan, np.float16)
        maximum = minimum.copy()
        for first in range(0, len(run), self.batch):
            check()
            last = min(first + self.batch, len(run))
            try:
                minimum[first:last], maximum[first:last] = self._source(
                    run[first:last], depth[first:last], step=self.step
                )
            except DepthModelError as exc:
                exc.add_note(f"while running samples {run.start + first} to {run.start + last - 1}")
                raise
            advance(last - first)
        chunks = [
            self._codec.encode(band)
            for first in range(0, padded, chunk)
            for band in self._bands(depth[first : first + chunk])
        ]
        return _EncodedDepth(chunks, minimum, maximum)

    def _bands(self, maps: NDArray[np.float16]) -> Iterator[NDArray[np.float16]]:
        """The maps of a chunk's samples, cut as chunks are, band by band from the top."""
        shape = self.layout.chunk
        for top in range(0, maps.shape[1], shape[1]):
            rows = maps[:, top : top + shape[1]]
            if rows.shape == shape:
                yield np.ascontiguousarray(rows)
            else:
                band = np.full(shape, np.nan, np.float16)
                band[:, : rows.shape[1]] = rows
                yield band

    def tell_notices(self) -> None:
        """Tell what the session has to say since this was last asked."""
        self._job.check(self._source.session, None)


class DepthFilling:
    """The depth of samples, in either mode.

    Args:
        job: What is to be filled, and by what.
        mode: What gives their depth.
        begun: The depth section of the document where that is to be finished.
    """

    def __init__(
        self, job: DepthJob, mode: PerSampleMode | GuidedMode, begun: Mapping[str, Any] | None = None
    ) -> None:
        self._job, self._mode = job, mode
        self._step: float | None = None if begun is None else begun["step"]

    def section(self) -> dict[str, Any]:
        """The depth section of the document, not complete."""
        networks = self._job.networks
        return {
            "complete": False,
            "mode": networks.mode,
            "model": networks.model.card,
            "sha256": networks.model.sha256,
            "scale": self._job.scale,
            "bits": self._job.depth.bits,
            "step": self._step,
            "precision": self._job.depth.precision,
            "onnxruntime": onnxruntime.__version__,
            **self._mode.section(),
        }

    def rehearsal(self) -> tuple[DepthEncoder, float]:
        """What encodes depth, without a dataset; and the seconds that all before it would take."""
        source, seconds = self._mode.rehearsal()
        return DepthEncoder(self._job, source, self._step), seconds

    def fill(self, keys: Keys, document: dict[str, Any]) -> int:
        """Write what is missing and say that depth is whole; return how many samples that was."""
        job, section = self._job, document["depth"]
        disk.write_depth_arrays(keys, job.plan, section)
        encoder = DepthEncoder(job, self._mode.source(keys), self._step)
        if section["step"] is None:
            # The document comes first: a shard without a grid would tell nothing.
            section["step"] = encoder.step
            disk.write_document(keys, document)
            disk.write_depth_arrays(keys, job.plan, section)
        layout = encoder.layout

        def write(shard: int, check: Check, advance: Advance) -> None:
            encoded = encoder.encode(layout.samples_of(shard), check, advance)
            # The shard comes last: where it is, the numbers that belong to it are too.
            for name, extent in ((disk.DEPTH_MIN, encoded.minimum), (disk.DEPTH_MAX, encoded.maximum)):
                keys.put(f"{name}/c/{shard}", disk.PIXEL_CODEC.encode(extent))
            keys.put(f"{disk.DEPTH}/{layout.key(shard)}", join(encoded.chunks, layout.grid))

        filled = fill_missing(
            layout, lambda: keys.sound_shards(disk.DEPTH, layout), write, "depth", job.workers, job.tell
        )
        encoder.tell_notices()
        held = Dataset(keys.store, disk.name_of(keys.store), document)
        low = float(np.min(held.whole(disk.DEPTH_MIN)))
        high = float(np.max(held.whole(disk.DEPTH_MAX)))
        disk.write_depth_arrays(keys, job.plan, section, rounding_bound(low, high, encoder.step))
        section["complete"] = True
        document["complete"] = True
        disk.write_document(keys, document)
        return filled

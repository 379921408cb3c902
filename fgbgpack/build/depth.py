"""Fill /depth with a model that runs on every sample, rendered at the model's scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fgbgpack import dataset as disk
from fgbgpack.build.work import Advance, Check, Notice, OnEvent, fill_missing, on_threads, worker_count
from fgbgpack.dataset import Keys
from fgbgpack.depth import DepthModel, DepthSession, Device, rounding_bound
from fgbgpack.errors import DepthModelError, RecipeMismatchError
from fgbgpack.plan import Plan, depth_layout
from fgbgpack.render import Renderer
from fgbgpack.shards import join
from fgbgpack.sources import Catalog
from fgbgpack.spec import DatasetSpec, DepthSpec


@dataclass(frozen=True)
class _EncodedDepth:
    chunks: list[bytes]
    minimum: NDArray[np.float16]
    maximum: NDArray[np.float16]


#: Samples whose range the grid is chosen for: one in a hundred, at least and at most so many.
_MEASURED_SAMPLES = (16, 512)
#: The range of a few samples is less than that of all, and a power of two is rarely just what is wanted.
_MARGIN = 1.1
_SMALLEST_EXPONENT = -24  # of a float16

#: Samples that are rendered and run at a time: so many, or as many as the network sees at once, which is the
#: session's affair; but no more than take so many bytes.
_BATCH = 32
_BATCH_BYTES = 32 << 20


class DepthFilling:
    """A depth model that runs on the samples of a plan, rendered at its scale.

    Attributes:
        layout: How depth is cut.
        batch: Samples that are rendered and run at a time.
        session: What runs the model.
    """

    def __init__(
        self,
        plan: Plan,
        spec: DatasetSpec,
        depth: DepthSpec,
        catalog: Catalog,
        model: DepthModel,
        device: Device,
        begun: Mapping[str, Any] | None,
        workers: int | None,
        tell: OnEvent,
    ) -> None:
        self._plan, self._depth, self._model, self._workers, self._tell = plan, depth, model, workers, tell
        self._told = 0
        self.layout = depth_layout(plan)
        self._scale = depth.resolved_scale(plan.height, plan.width)
        if device == "auto" and begun is not None:
            device = _DEVICE_OF.get(begun["provider"], "auto")
        self.session = DepthSession(
            model,
            height=plan.height,
            width=plan.width,
            scale=self._scale,
            precision=depth.precision,
            device=device,
        )
        rendered_bytes = plan.height * plan.width * self._scale**2 * 3
        self.batch = max(1, min(max(_BATCH, self.session.batch_size), _BATCH_BYTES // rendered_bytes))
        if begun is not None and begun["provider"] != self.session.provider:
            raise RecipeMismatchError(
                f"Depth was begun with {begun['provider']} and cannot be finished with "
                f"{self.session.provider}, whose numbers differ: give --device "
                f"{_DEVICE_OF.get(begun['provider'], 'auto')}, on a machine that has it."
            )
        # A shard lies on few backgrounds, so those of the shards in work are all that memory need hold.
        kept = 2 * worker_count(workers) + 2
        self._render = Renderer(spec, catalog, self._scale, backgrounds_kept=kept)
        at = f" at {self._scale} times the size" if self._scale > 1 else ""
        tell(Notice(f"Depth by {model.name}{at} on {self.session.provider} in {self.session.precision}."))
        for reason, devices in _by_reason(self.session.passed_over).items():
            tell(Notice(f"Not on {' or '.join(devices)}: {reason}."))
        self._tell_notices()
        self._step: float = begun["step"] if begun is not None else self._measured_step()

    def _tell_notices(self) -> None:
        """Tell what the session has to say since this was last asked."""
        while self._told < len(self.session.notices):
            self._tell(Notice(self.session.notices[self._told]))
            self._told += 1

    def _measured_step(self) -> float:
        """The grid that depth is rounded to: a power of two, for the range of samples from all over."""
        fewest, most = _MEASURED_SAMPLES
        count = min(max(fewest, self._plan.samples // 100), most, self._plan.samples)
        samples = np.linspace(0, self._plan.samples - 1, count).astype(np.int64)

        def extent(first: int) -> tuple[float, float]:
            placements = self._plan.placements_of(samples[first : first + self.batch])
            depth = np.empty((len(placements), *self.layout.shape[1:]), np.float16)
            minimum, maximum = self.session.run(self._render(placements), depth)
            return float(minimum.min()), float(maximum.max())

        self._tell(Notice(f"Measuring the range of depth on {count} samples."))
        extents = on_threads(extent, range(0, count, self.batch), self._workers)
        lowest, highest = zip(*extents, strict=True)
        # frexp gives a fraction in [0.5, 1): the exponent less one is floor(log2), exactly.
        exponent = math.frexp((max(highest) - min(lowest)) * _MARGIN)[1] - 1 - self._depth.bits
        return math.ldexp(1.0, max(exponent, _SMALLEST_EXPONENT))

    def section(self) -> dict[str, Any]:
        """The depth section of the document, not complete."""
        return {
            "complete": False,
            "mode": "per-sample",
            "model": self._model.card,
            "sha256": self._model.sha256,
            "scale": self._scale,
            "bits": self._depth.bits,
            "step": self._step,
            "precision": self.session.precision,
            "provider": self.session.provider,
            "onnxruntime": onnxruntime.__version__,
        }

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
            images = self._render(self._plan.placements_of(run[first:last]))
            try:
                minimum[first:last], maximum[first:last] = self.session.run(
                    images, depth[first:last], step=self._step
                )
            except DepthModelError as exc:
                exc.add_note(f"while running samples {run.start + first} to {run.start + last - 1}")
                raise
            advance(last - first)
        chunks = [disk.DEPTH_CODEC.encode(depth[i : i + chunk]) for i in range(0, padded, chunk)]
        return _EncodedDepth(chunks, minimum, maximum)

    def fill(self, keys: Keys, document: dict[str, Any]) -> int:
        """Write the shards that are missing and say that depth is whole; return how many samples that was."""
        layout = self.layout
        disk.write_depth_array(keys, layout, disk.depth_attributes(document["depth"]))

        def write(shard: int, check: Check, advance: Advance) -> None:
            encoded = self.encode(layout.samples_of(shard), check, advance)
            # The shard comes last: where it is, the numbers that belong to it are too.
            for name, extent in ((disk.DEPTH_MIN, encoded.minimum), (disk.DEPTH_MAX, encoded.maximum)):
                keys.put(f"{name}/c/{shard}", disk.PIXEL_CODEC.encode(extent))
            keys.put(f"{disk.DEPTH}/{layout.key(shard)}", join(encoded.chunks, layout.grid))

        filled = fill_missing(
            layout,
            lambda: keys.sound_shards(disk.DEPTH, layout),
            write,
            "depth",
            self._workers,
            self._tell,
        )
        self._tell_notices()
        held = disk.Dataset(keys.store, disk.name_of(keys.store), document)
        low = float(np.min(held.whole(disk.DEPTH_MIN)))
        high = float(np.max(held.whole(disk.DEPTH_MAX)))
        largest = rounding_bound(low, high, self._step)
        disk.write_depth_array(keys, layout, disk.depth_attributes(document["depth"], largest))
        document["depth"]["complete"] = True
        document["complete"] = True
        disk.write_document(keys, document)
        return filled


_DEVICE_OF: dict[str, Device] = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "tensorrt",
}


def _by_reason(refusals: Sequence[str]) -> dict[str, list[str]]:
    """Which devices could not be had, by the reason: it is often the same for all of them."""
    devices: dict[str, list[str]] = {}
    for refusal in refusals:
        device, _, reason = refusal.partition(": ")
        devices.setdefault(reason.rstrip("."), []).append(device)
    return devices

"""Fill /depth with a model that runs on every sample, rendered at the model's scale."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fgbgpack import dataset as disk
from fgbgpack.build.work import Advance, Check, Notice, OnEvent, fill_missing, worker_count
from fgbgpack.compose import Composer
from fgbgpack.dataset import Keys
from fgbgpack.depth import DepthModel, DepthSession, Device, rounding_bound
from fgbgpack.errors import DepthModelError, RecipeMismatchError, SourceError
from fgbgpack.plan import Placements, Plan, depth_layout
from fgbgpack.shards import join
from fgbgpack.sources import Catalog, Source, Sources, find_sources, load_background, load_catalog
from fgbgpack.spec import DatasetSpec, DepthSpec


@dataclass(frozen=True)
class _EncodedDepth:
    chunks: list[bytes]
    minimum: NDArray[np.float16]
    maximum: NDArray[np.float16]


#: Samples whose range the grid is chosen for: one in a hundred, at least and at most so many.
_MEASURED_SAMPLES = (32, 512)
#: The range of a few samples is less than that of all, and a power of two is rarely just what is wanted.
_MARGIN = 1.1
_SMALLEST_EXPONENT = -24  # of a float16

#: Samples that are rendered and run at a time: so many, or as many as take so many bytes. How many of them
#: the network sees at once is the session's affair.
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
        self.layout = depth_layout(plan)
        self._scale = depth.resolved_scale(plan.height, plan.width)
        rendered_bytes = plan.height * plan.width * self._scale**2 * 3
        self.batch = max(1, min(_BATCH, _BATCH_BYTES // rendered_bytes))
        if device == "auto" and begun is not None:
            device = _DEVICE_OF.get(begun["provider"], "auto")
        self.session = DepthSession(
            model, height=plan.height, width=plan.width, scale=self._scale, device=device
        )
        if begun is not None and begun["provider"] != self.session.provider:
            raise RecipeMismatchError(
                f"Depth was begun with {begun['provider']} and cannot be finished with "
                f"{self.session.provider}, whose numbers differ: give --device "
                f"{_DEVICE_OF.get(begun['provider'], 'auto')}, or begin again with --overwrite."
            )
        self._render = _renderer(plan, spec, catalog, self._scale, worker_count(workers))
        self._step: float = begun["step"] if begun is not None else self._measured_step()
        at = f" at {self._scale} times the size" if self._scale > 1 else ""
        tell(Notice(f"Depth by {model.name}{at} on {self.session.provider}."))

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

        with ThreadPoolExecutor(worker_count(self._workers)) as pool:
            lowest, highest = zip(*pool.map(extent, range(0, count, self.batch)), strict=True)
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

Render: TypeAlias = Callable[[Placements], NDArray[np.uint8]]


def _renderer(plan: Plan, spec: DatasetSpec, catalog: Catalog, scale: int, workers: int) -> Render:
    """A function from placements to (n, h * scale, w * scale, 3) composites, for any thread."""
    if scale == 1:
        composer = Composer(catalog.background, catalog.foreground, catalog.foreground_size)

        def render_stored(placements: Placements) -> NDArray[np.uint8]:
            return _composed(composer, placements, plan.height, plan.width)

        return render_stored

    sources = _originals(spec, catalog)
    height, width = plan.height * scale, plan.width * scale
    large = load_catalog(
        sources,
        height=plan.height,
        width=plan.width,
        fit=spec.fit,
        foreground_height=spec.foreground_height,
        scale=scale,
        with_backgrounds=False,
    )

    # A shard lies on few backgrounds, so those of the shards in work are all that memory need hold.
    @lru_cache(maxsize=2 * workers + 2)
    def background(index: int) -> NDArray[np.uint8]:
        return load_background(sources.backgrounds[index], height=height, width=width, fit=spec.fit)

    def render(placements: Placements) -> NDArray[np.uint8]:
        used, local = np.unique(placements.background, return_inverse=True)
        composer = Composer(
            np.stack([background(int(index)) for index in used]), large.foreground, large.foreground_size
        )
        here = dataclasses.replace(placements.scaled(scale), background=local.astype(np.int32))
        return _composed(composer, here, height, width)

    return render


def _composed(composer: Composer, placements: Placements, height: int, width: int) -> NDArray[np.uint8]:
    n = len(placements)
    image = np.empty((n, height, width, 3), np.uint8)
    composer.compose(placements, image, np.empty((n, height, width), np.uint8))
    return image


def _originals(spec: DatasetSpec, catalog: Catalog) -> Sources:
    """The original pictures that a catalog was made of, found again in the spec's folders."""
    try:
        found = find_sources(
            Path(spec.backgrounds), Path(spec.foregrounds), Path(spec.masks) if spec.masks else None
        )
    except SourceError as exc:
        raise SourceError(
            "A depth scale above 1 renders from the original pictures, and they are not where the dataset "
            "says. Give --backgrounds and --foregrounds (and --masks), or --depth-scale 1. " + exc.message,
            exc.problems,
        ) from exc
    problems = []
    for kind, wanted, there in (
        ("background", catalog.backgrounds, found.backgrounds),
        ("foreground", catalog.foregrounds, found.foregrounds),
    ):
        by_name = {source.name: source for source in there}
        for source in wanted:
            if source.name not in by_name:
                problems.append(f"{kind} {source.name}: is not there")
            elif by_name[source.name] != source:
                problems.append(f"{kind} {source.name}: is not the file that the dataset was made of")
    if problems:
        raise SourceError("These are not the pictures that the dataset was made of:", problems)
    return dataclasses.replace(
        found,
        backgrounds=_in_order(catalog.backgrounds, found.backgrounds),
        foregrounds=_in_order(catalog.foregrounds, found.foregrounds),
    )


def _in_order(wanted: Sequence[Source], found: Sequence[Source]) -> tuple[Source, ...]:
    by_name = {source.name: source for source in found}
    return tuple(by_name[source.name] for source in wanted)

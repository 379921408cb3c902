"""What making a dataset would take, from a short measurement."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from fgbgpack.composition.recipe import Recipe
from fgbgpack.depth import Device
from fgbgpack.depth.strategies import Networks
from fgbgpack.document import DEPTH, IMAGE, MASK, PLACEMENTS
from fgbgpack.pipeline.arrays import recipe_sources
from fgbgpack.pipeline.create import load_recipe
from fgbgpack.pipeline.depth import DepthFilling, DepthStage
from fgbgpack.pipeline.depth_modes import DepthJob
from fgbgpack.pipeline.events import OnEvent, Reporting, reporting, silent
from fgbgpack.pipeline.executor import Monitor, Threads
from fgbgpack.pipeline.pixels import Pixels
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage.arrays import PIXEL_CODEC
from fgbgpack.storage.layout import DEFAULT_POLICY, LayoutPolicy

_MEASURED_SHARDS = 97
_MEASURED_PLACEMENTS = 1 << 16
_RECIPE = "recipe"


@dataclass(frozen=True)
class Estimate:
    """What ``create`` would make, from a short measurement.

    Attributes:
        backgrounds: Backgrounds found.
        foregrounds: Foregrounds found.
        samples: Samples that the dataset would hold.
        chunk: Samples in a chunk of image and mask.
        shards: Shards of image, mask and depth together: so many files.
        bytes: Estimated bytes of each of them, or of a virtual dataset, those of its recipe and of depth.
        seconds: Estimated time for all.
        sample_rate: Measured composites a second, compressed; ``None`` for a virtual dataset.
        depth_rate: Measured depth maps a second; ``None`` without a depth model.
        background_seconds: Estimated time for the depth of the backgrounds, 0 where that guides nothing.
        provider: The execution provider that would run the network on the samples.
    """

    backgrounds: int
    foregrounds: int
    samples: int
    chunk: int
    shards: int
    bytes: dict[str, int]
    seconds: float
    sample_rate: float | None
    depth_rate: float | None
    background_seconds: float
    provider: str | None

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON."""
        return dataclasses.asdict(self)


def estimate(
    spec: DatasetSpec,
    *,
    device: Device = "auto",
    workers: int | None = None,
    virtual: bool = False,
    layout: LayoutPolicy = DEFAULT_POLICY,
    on_event: Reporting = silent,
) -> Estimate:
    """What ``create`` would make, measured on about a second's work; nothing is written.

    Args:
        spec: What to make.
        device: What would run the depth model.
        workers: Threads, as for :func:`create`.
        virtual: As for :func:`create`.
        layout: How large chunks and shards would become.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SourceError: Pictures that cannot be used.
        DepthModelError: A depth model, or a device, that cannot be used.
    """
    with reporting(on_event) as notify:
        return _estimate(spec, device, Threads(workers), virtual, layout, notify)


def _estimate(
    spec: DatasetSpec,
    device: Device,
    threads: Threads,
    virtual: bool,
    layout: LayoutPolicy,
    on_event: OnEvent,
) -> Estimate:
    networks = Networks.load(spec.depth) if spec.depth else None
    recipe = load_recipe(spec, on_event)
    pixels = Pixels(recipe, layout)
    image, _ = pixels.layouts
    samples = len(recipe)
    if virtual:
        sample_rate, shards, seconds = None, 0, 0.0
        stored = {_RECIPE: _recipe_bytes(recipe)}
    else:
        sample_rate, stored = _rehearse_pixels(pixels, samples, threads)
        shards, seconds = 2 * image.shards, samples / sample_rate
    depth_rate = provider = None
    background_seconds = 0.0
    if spec.depth is not None and networks is not None:
        job = DepthJob(recipe, spec.depth, networks, device, threads, layout, on_event)
        stage = DepthStage(job, DepthFilling.of(job, None, None).mode, None, None)
        background_seconds = stage.preparation_seconds
        provider = stage.source.session.provider
        sizes: list[int] = []

        def encode_depth(run: range) -> None:
            sizes.extend(map(len, stage.encode(run, Monitor())[0]))

        runs = [
            stage.layout.samples_of(shard)[: stage.source.batch] for shard in _spread(stage.layout.shards)
        ]
        filled, depth_seconds = stage.engine.threads.measure(encode_depth, runs)
        stored[DEPTH] = round(samples * sum(sizes) / filled)
        depth_rate = filled / depth_seconds
        seconds += background_seconds + samples / depth_rate
        shards += stage.layout.shards
    return Estimate(
        backgrounds=len(recipe.catalog.backgrounds),
        foregrounds=len(recipe.catalog.foregrounds),
        samples=samples,
        chunk=image.chunk[0],
        shards=shards,
        bytes=stored,
        seconds=seconds,
        sample_rate=sample_rate,
        depth_rate=depth_rate,
        background_seconds=background_seconds,
        provider=provider,
    )


def _rehearse_pixels(pixels: Pixels, samples: int, threads: Threads) -> tuple[float, dict[str, int]]:
    """Samples a second, and the bytes that all of them would take."""
    sizes: dict[str, list[int]] = {IMAGE: [], MASK: []}

    def encode(run: range) -> None:
        for array, encoded in pixels.encode(run):
            sizes[array].append(len(encoded))  # Appending to a list is safe on any thread.

    image, _ = pixels.layouts
    runs = [next(image.chunk_runs(shard)) for shard in _spread(image.shards)]
    encode(runs[0])  # Compiles the kernel, which is not to be measured.
    for measured in sizes.values():
        measured.clear()
    composed, seconds = threads.measure(encode, runs)
    return composed / seconds, {
        array: round(samples * sum(measured) / composed) for array, measured in sizes.items()
    }


def _recipe_bytes(recipe: Recipe) -> int:
    """About the bytes that sources and placements take."""
    some = recipe.placements(range(min(len(recipe), _MEASURED_PLACEMENTS)))
    encode = PIXEL_CODEC.encode
    placed = sum(len(encode(getattr(some, name))) for name in PLACEMENTS)
    sources = sum(len(encode(array)) for _, array, _ in recipe_sources(recipe))
    return sources + placed * len(recipe) // len(some)


def _spread(count: int) -> range:
    """Some of ``count`` shards, from the first to the last: enough to measure, and few enough to list."""
    return range(0, count, max(1, count // _MEASURED_SHARDS))

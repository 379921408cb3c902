"""What making a dataset would take, from a short measurement."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from fgbgpack.composition.placement import Plan
from fgbgpack.depth import Device
from fgbgpack.depth.strategies import Networks
from fgbgpack.pipeline.create import load
from fgbgpack.pipeline.depth import DepthFilling
from fgbgpack.pipeline.depth_modes import DepthJob, Recipe, mode_of
from fgbgpack.pipeline.executor import OnEvent, check_workers, measure, silent
from fgbgpack.pipeline.pixels import PixelFilling
from fgbgpack.sources.catalog import Catalog
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage import store as disk

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
    on_event: OnEvent | None = None,
) -> Estimate:
    """What ``create`` would make, measured on about a second's work; nothing is written.

    Args:
        spec: What to make.
        device: What would run the depth model.
        workers: Threads, as for :func:`create`.
        virtual: As for :func:`create`.
        on_event: Called in this thread with progress and notices.

    Raises:
        SourceError: Pictures that cannot be used.
        DepthModelError: A depth model, or a device, that cannot be used.
    """
    tell = silent if on_event is None else on_event
    check_workers(workers)
    networks = Networks.load(spec.depth) if spec.depth else None
    catalog, plan = load(spec, tell)
    pixels = PixelFilling(plan, catalog, spec.chunk)
    image, _ = pixels.layouts
    if virtual:
        sample_rate, shards, seconds = None, 0, 0.0
        stored = {_RECIPE: _recipe_bytes(plan, catalog)}
    else:
        sample_rate, stored = _rehearse_pixels(pixels, plan, workers)
        shards, seconds = 2 * image.shards, plan.samples / sample_rate
    depth_rate = provider = None
    background_seconds = 0.0
    if spec.depth is not None and networks is not None:
        job = DepthJob(plan, spec.depth, networks, device, workers, tell)
        mode = mode_of(job, Recipe(plan, spec, catalog), None, None)
        encoder, background_seconds = DepthFilling(job, mode).rehearsal()
        provider = encoder.provider
        sizes: list[int] = []

        def encode_depth(run: range) -> None:
            encoded = encoder.encode(run, check=lambda: None, advance=lambda count: None)
            sizes.extend(len(chunk) for chunk in encoded.chunks)

        layout = encoder.layout
        runs = [layout.samples_of(shard)[: encoder.batch] for shard in _spread(layout.shards)]
        filled, depth_seconds = measure(encode_depth, runs, workers)
        stored[disk.DEPTH] = round(plan.samples * sum(sizes) / filled)
        depth_rate = filled / depth_seconds
        seconds += background_seconds + plan.samples / depth_rate
        shards += layout.shards
    return Estimate(
        backgrounds=len(catalog.backgrounds),
        foregrounds=len(catalog.foregrounds),
        samples=plan.samples,
        chunk=image.chunk[0],
        shards=shards,
        bytes=stored,
        seconds=seconds,
        sample_rate=sample_rate,
        depth_rate=depth_rate,
        background_seconds=background_seconds,
        provider=provider,
    )


def _rehearse_pixels(pixels: PixelFilling, plan: Plan, workers: int | None) -> tuple[float, dict[str, int]]:
    """Samples a second, and the bytes that all of them would take."""
    sizes: dict[str, list[int]] = {disk.IMAGE: [], disk.MASK: []}

    def encode(run: range) -> None:
        for array, encoded in pixels.encode(run):
            sizes[array].append(len(encoded))  # Appending to a list is safe on any thread.

    image, _ = pixels.layouts
    runs = [next(image.chunk_runs(shard)) for shard in _spread(image.shards)]
    encode(runs[0])  # Compiles the kernel, which is not to be measured.
    for measured in sizes.values():
        measured.clear()
    composed, seconds = measure(encode, runs, workers)
    return composed / seconds, {
        array: round(plan.samples * sum(measured) / composed) for array, measured in sizes.items()
    }


def _recipe_bytes(plan: Plan, catalog: Catalog) -> int:
    """About the bytes that sources and placements take."""
    some = plan.placements_of(range(min(plan.samples, _MEASURED_PLACEMENTS)))
    encode = disk.PIXEL_CODEC.encode
    placed = sum(len(encode(getattr(some, name))) for name in disk.PLACEMENTS)
    pictures = (catalog.background, catalog.foreground, catalog.foreground_size)
    return sum(len(encode(array)) for array in pictures) + placed * plan.samples // len(some)


def _spread(count: int) -> range:
    """Some of ``count`` shards, from the first to the last: enough to measure, and few enough to list."""
    return range(0, count, max(1, count // _MEASURED_SHARDS))

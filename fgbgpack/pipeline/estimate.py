"""What making a dataset would take, from a short measurement."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fgbgpack.composition.originals import sources_of
from fgbgpack.composition.recipe import Recipe
from fgbgpack.depth import Device
from fgbgpack.depth.strategies import Networks
from fgbgpack.document import DEPTH, DEPTH_SOURCES, DEPTHS, EXTREMES, IMAGE
from fgbgpack.pipeline.arrays import (
    background_layouts,
    extent_of,
    object_arrays,
    placement_arrays,
    plane_layouts,
    recipe_sources,
)
from fgbgpack.pipeline.create import load_recipe
from fgbgpack.pipeline.depth import DepthFilling, DepthStage
from fgbgpack.pipeline.depth_modes import DepthJob
from fgbgpack.pipeline.events import OnEvent, Reporting, reporting, silent
from fgbgpack.pipeline.executor import MEASURE_SECONDS, Monitor, Threads
from fgbgpack.pipeline.pixels import Pixels
from fgbgpack.pipeline.scale import Assumptions, Fixed, Scale, StageWork, scale_of
from fgbgpack.source_info import SourceInfo
from fgbgpack.sources.listing import Sources
from fgbgpack.spec import MOST_SAMPLES, DatasetSpec
from fgbgpack.storage.arrays import PIXEL_CODEC
from fgbgpack.storage.layout import DEFAULT_POLICY, Extent, Layout, LayoutPolicy
from fgbgpack.storage.manifest import chunk_count
from fgbgpack.storage.targets import is_elsewhere

_MEASURED_SHARDS = 97
_MEASURED_CHUNKS = 16
_MEASURED_PLACEMENTS, _MEASURED_SCENES = 1 << 16, 1 << 11
_RECIPE = "recipe"
#: The metadata of the root, of the group of the sources, and of the manifest and its group.
_METADATA_OBJECTS = 4


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
        sample_rate: Measured composites a second, compressed, of all cores of this machine that would be
            used; ``None`` for a virtual dataset.
        depth_rate: Measured depth maps a second, as well; ``None`` without a depth model.
        background_seconds: Estimated time for the depth of the backgrounds, 0 where that guides nothing.
        provider: The execution provider that would run the network on the samples.
        scale: What the workers that were asked for need: objects, requests, memory, time and money.
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
    scale: Scale

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON."""
        document = dataclasses.asdict(self)
        document["scale"]["stages"] = list(document["scale"]["stages"])
        document["scale"]["limits"] = list(document["scale"]["limits"])
        return document


def estimate(
    spec: DatasetSpec,
    *,
    device: Device = "auto",
    workers: int | None = None,
    virtual: bool = False,
    layout: LayoutPolicy = DEFAULT_POLICY,
    out: str | None = None,
    assume: Assumptions | None = None,
    on_event: Reporting = silent,
) -> Estimate:
    """What ``create`` would make, measured on about a second's work; nothing is written.

    Args:
        spec: What to make. There may be more samples than one dataset can hold.
        device: What would run the depth model.
        workers: Threads, as for :func:`create`; or more than this machine has cores: those of a cluster.
        virtual: As for :func:`create`.
        layout: How large chunks and shards would become.
        out: Where the dataset would be: requests count for a URL, but one of ``file://``. It need not
            exist, and is not looked at.
        assume: Of machines, store and prices, in the place of what is usual.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SourceError: Pictures that cannot be used.
        DepthModelError: A depth model, or a device, that cannot be used.
    """
    here = Threads()
    threads = Threads(workers)
    is_cluster = threads.count > here.count
    remote = is_elsewhere(out)
    assumed = (assume or Assumptions()).on(cluster=is_cluster, remote=remote)
    with reporting(on_event) as notify:
        rehearsal = _Rehearsal(spec, device, here if is_cluster else threads, virtual, layout, notify)
        return rehearsal.run(threads.count, assumed, cluster=is_cluster, remote=remote)


@dataclass(frozen=True)
class _Rehearsal:
    """A little of all that a dataset needs, done on the threads of this machine."""

    _spec: DatasetSpec
    _device: Device
    _threads: Threads
    _virtual: bool
    _policy: LayoutPolicy
    _on_event: OnEvent

    def run(self, workers: int, assumed: Assumptions, *, cluster: bool, remote: bool) -> Estimate:
        networks = Networks.load(self._spec.depth) if self._spec.depth else None
        start = time.perf_counter()
        sources = sources_of(self._spec)
        fewer = _with_fewer_placements(self._spec, sources)
        recipe = load_recipe(fewer, self._on_event, device=self._device, sources=sources)
        loading = time.perf_counter() - start
        # All that is asked for: what is measured may be a part of it.
        backgrounds = len(recipe.catalog.backgrounds)
        total = self._spec.sample_count(backgrounds, len(recipe.catalog.foregrounds))
        extent = dataclasses.replace(
            extent_of(recipe), samples=total, per_background=-(-total // backgrounds)
        )
        layouts = plane_layouts(recipe.planes, self._policy.pixels(extent, self._spec.chunk))
        image = layouts[IMAGE]
        stored, works, sample_rate, shards = {}, [], None, 0
        placed, placing = _measured_placements(recipe, extent.samples)
        encoded_sources = _sources_bytes(recipe)
        if self._virtual:
            stored[_RECIPE] = placed + encoded_sources
        else:
            sample_rate, stored = _rehearse_pixels(
                Pixels(recipe, self._policy), extent.samples, self._threads
            )
            shards = sum(layout.shards for layout in layouts.values())
            rate = sample_rate / self._threads.count
            works.append(_work("samples", tuple(layouts.values()), stored, rate, decoded=0))
        depth_rate = provider = None
        background_seconds = 0.0
        objects, metadata = _small_objects(recipe, extent, self._policy)
        metadata += _METADATA_OBJECTS + len(DEPTHS) + (0 if self._virtual else len(layouts))
        if self._spec.depth is not None and networks is not None:
            job = DepthJob(
                recipe, self._spec.depth, networks, self._device, self._threads, self._policy, self._on_event
            )
            start = time.perf_counter()
            filling = DepthFilling.of(job, None, None)
            composed = (DEPTH,) if self._virtual and networks.is_layered else ()
            stage = DepthStage(job, filling.mode, None, None, composed)
            background_seconds = stage.preparation_seconds
            # Networks are loaded and the range of depth is measured, as in a run; some backgrounds were done.
            loading += time.perf_counter() - start - min(background_seconds, MEASURE_SECONDS)
            provider = filling.section.sample_provider
            depth_rate, bytes_each = _rehearse_depth(stage)
            maps = 0 if composed else round(extent.samples * bytes_each)
            guiding = background_layouts(
                DEPTH_SOURCES.get(networks.mode, ()), extent, backgrounds, self._policy
            )
            objects += sum(layout.shards for layout in guiding.values())
            metadata += len(guiding) - len(composed)
            layout = self._policy.depth(extent, guided=job.sees_backgrounds)
            if not composed:
                stored[DEPTH], shards = maps, shards + layout.shards
            cut = {DEPTH: layout} | dict.fromkeys(EXTREMES, layout.vector)
            stored_layouts = tuple(one for path, one in cut.items() if path not in composed)
            decoded = 2 * job.together * extent.height * extent.width
            rate = depth_rate / self._threads.count
            works.append(_work("depth", stored_layouts, {DEPTH: maps}, rate, decoded=decoded))
        catalog = recipe.catalog
        fixed = Fixed(
            seconds=loading + background_seconds,
            objects=objects,
            metadata_objects=metadata,
            writing_seconds=placing,
            stored_bytes=placed + encoded_sources,
            source_bytes=sum(array.nbytes for _, array, _ in recipe_sources(recipe)),
            document_bytes=_document_bytes(recipe),
            reading_bytes_per_sample=_placement_bytes(recipe),
        )
        scale = scale_of(extent.samples, works, fixed, workers, assumed, cluster=cluster, remote=remote)
        return Estimate(
            backgrounds=len(catalog.backgrounds),
            foregrounds=len(catalog.foregrounds),
            samples=extent.samples,
            chunk=image.chunk[0],
            shards=shards,
            bytes=stored,
            seconds=scale.seconds,
            sample_rate=sample_rate,
            depth_rate=depth_rate,
            background_seconds=background_seconds,
            provider=provider,
            scale=scale,
        )


def _with_fewer_placements(spec: DatasetSpec, sources: Sources) -> DatasetSpec:
    """The same spec or, where it has more samples than a dataset can hold, one of as many as it can."""
    pairs = len(sources.backgrounds) * len(sources.foregrounds) * (2 if spec.flip else 1)
    most = MOST_SAMPLES // max(1, pairs)
    return (
        spec
        if spec.samples is not None or spec.placements <= most or not most
        else dataclasses.replace(spec, placements=most)
    )


def _work(
    name: str,
    layouts: Sequence[Layout],
    stored: dict[str, int],
    rate: float,
    *,
    decoded: int,
) -> StageWork:
    """The shards of arrays that are cut alike; a core makes ``rate`` samples a second of them, and holds
    ``decoded`` bytes of a shard besides its encoded ones.
    """
    first = layouts[0]
    each = sum(stored.values()) / first.shape[0]
    chunks = sum(chunk_count(layout) for layout in layouts) // first.shards
    memory = decoded + 2 * each * first.shard[0]
    return StageWork(name, first.shape[0], first.shard[0], len(layouts), chunks, each, rate, memory)


def _rehearse_depth(stage: DepthStage) -> tuple[float, float]:
    """Depth maps a second, and the bytes of one."""
    sizes: list[int] = []

    def encode(run: range) -> None:
        sizes.extend(map(len, stage.encode(run, Monitor())[0]))

    # Of whole chunks: a map takes more where fewer share its background.
    count = max(stage.source.batch, stage.layout.chunk[0])
    runs = [stage.layout.samples_of(shard)[:count] for shard in _spread(stage.layout.shards)]
    filled, seconds = stage.engine.threads.measure(encode, runs)
    return filled / seconds, sum(sizes) / filled


def _rehearse_pixels(pixels: Pixels, samples: int, threads: Threads) -> tuple[float, dict[str, int]]:
    """Samples a second, and the bytes that all of them would take."""
    sizes: dict[str, list[int]] = {plane: [] for plane in pixels.layouts}

    def encode(run: range) -> None:
        for array, encoded in pixels.encode(run):
            sizes[array].append(len(encoded))  # Appending to a list is safe on any thread.

    image = pixels.layouts[IMAGE]
    # Several chunks in a row, as in a shard.
    runs = [
        run for shard in _spread(image.shards) for run in islice(image.chunk_runs(shard), _MEASURED_CHUNKS)
    ]
    encode(runs[0])  # Compiles the kernel, which is not to be measured.
    for measured in sizes.values():
        measured.clear()
    composed, seconds = threads.measure(encode, runs)
    return composed / seconds, {
        array: round(samples * sum(measured) / composed) for array, measured in sizes.items()
    }


def _measured_placements(recipe: Recipe, samples: int) -> tuple[int, float]:
    """About the bytes that the placements of all samples take, and the seconds to compute and encode them."""
    start = time.perf_counter()
    most = _MEASURED_SCENES if recipe.has_objects else _MEASURED_PLACEMENTS
    some = range(min(len(recipe), most))
    size = sum(len(PIXEL_CODEC.encode(array)) for array in recipe.sample_arrays(some).values())
    return size * samples // len(some), (time.perf_counter() - start) * samples / len(some)


def _sources_bytes(recipe: Recipe) -> int:
    """The bytes that the sources take."""
    return sum(len(PIXEL_CODEC.encode(array)) for _, array, _ in recipe_sources(recipe))


def _document_bytes(recipe: Recipe) -> int:
    """The bytes of the sources in the document, as they are nested in the root's metadata."""
    names = [field.name for field in dataclasses.fields(SourceInfo)]
    pictures = [
        {name: value for name in names if (value := getattr(source, name)) is not None}
        for source in (*recipe.catalog.backgrounds, *recipe.catalog.foregrounds)
    ]
    return len(json.dumps({"attributes": {"fgbgpack": {"sources": {"all": pictures}}}}, indent=2))


def _placement_bytes(recipe: Recipe) -> int:
    """The bytes of one sample's placement in memory."""
    return sum(array.nbytes for array in recipe.sample_arrays(range(1)).values())


def _small_objects(recipe: Recipe, extent: Extent, policy: LayoutPolicy) -> tuple[int, int]:
    """The chunks of placements, objects and sources, and the metadata of these arrays and of their groups."""
    placements, objects = placement_arrays(recipe, policy), object_arrays(recipe, policy)
    # The recipe may have fewer samples than are asked for.
    layouts = [policy.vector(extent.samples)] * len(placements)
    layouts += [policy.objects((extent.samples, *spec.layout.shape[1:])) for spec in objects]
    layouts += [policy.rows(array.shape, array[0].nbytes) for _, array, _ in recipe_sources(recipe)]
    return sum(layout.shards for layout in layouts), len(layouts) + (1 if objects else 0)


def _spread(count: int) -> range:
    """Some of ``count`` shards, from the first to the last: enough to measure, and few enough to list."""
    return range(0, count, max(1, count // _MEASURED_SHARDS))

"""The modes of filling depth: what must be written first, and what then gives the depth of samples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fgbgpack.composition.recipe import Recipe
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.depth import BackgroundDepth, DepthSession, Device, Execution
from fgbgpack.depth.layered import figure_depth
from fgbgpack.depth.session import IN_FLIGHT
from fgbgpack.depth.strategies import (
    DepthSource,
    FileDepth,
    Guided,
    Layered,
    Networks,
    PerSample,
    Pictures,
    RenderedPictures,
    SceneDepth,
    SeenBackgrounds,
    StoredPictures,
)
from fgbgpack.document import BACKGROUND_DEPTH, DEPTH, DEPTH_SOURCES, DeviceInfo, GuideInfo, NetworkDepthInfo
from fgbgpack.errors import DatasetError, RecipeMismatchError
from fgbgpack.pipeline.arrays import background_layouts, depth_layouts, extent_of
from fgbgpack.pipeline.devices import with_device
from fgbgpack.pipeline.events import Notice, OnEvent, StageName, silent
from fgbgpack.pipeline.executor import Engine, Monitor, Threads
from fgbgpack.pipeline.stage import LayoutStage, Product, execute
from fgbgpack.spec import DepthMode, DepthSpec
from fgbgpack.storage.arrays import BACKGROUND_DEPTH_CODEC
from fgbgpack.storage.layout import Extent, Layout, LayoutPolicy
from fgbgpack.storage.sealing import whole_shards
from fgbgpack.storage.store import DatasetStore

#: Backgrounds of which some are taken to measure how long all will take.
_MEASURED_BACKGROUNDS = 97
#: The most bytes of depth that a thread holds, if more than one chunk.
_HELD_BYTES = 32 << 20

_DEVICE_OF: dict[str, Device] = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "tensorrt",
}


@dataclass(frozen=True)
class DepthJob:
    """Depth to be filled, and by what. Imported samples, a dataset, are seen as they are stored."""

    samples: Recipe | Dataset
    depth: DepthSpec
    networks: Networks
    device: Device
    engine: Engine
    policy: LayoutPolicy
    on_event: OnEvent
    #: The shards of depth that are filled, where others fill the rest.
    shards: range | None = None
    #: What has been seen of backgrounds before, where their floors were looked for.
    seen: SeenBackgrounds = field(default_factory=SeenBackgrounds)
    _told: set[str] = field(default_factory=set, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"on_event": silent, "seen": SeenBackgrounds()}

    @property
    def threads(self) -> Threads:
        """The threads of this process."""
        return self.engine.threads

    @property
    def extent(self) -> Extent:
        """How many samples there are, and how large they are."""
        if isinstance(self.samples, Recipe):
            return extent_of(self.samples)
        return Extent(len(self.samples), self.samples.height, self.samples.width)

    @property
    def recipe(self) -> Recipe:
        """What the samples are a function of; DatasetError if they were imported."""
        return self.samples if isinstance(self.samples, Recipe) else self.samples.recipe

    @property
    def scale(self) -> int:
        """How many times as large as a sample the picture is that the model sees."""
        is_of_scenes = isinstance(self.samples, Recipe) and self.samples.has_objects
        return self.depth.resolved_scale(self.extent.height, self.extent.width, scenes=is_of_scenes)

    @property
    def model_name(self) -> str:
        """What notices call the model, with the scale if it is above 1."""
        return self.networks.name + (f" at {self.scale} times the size" if self.scale > 1 else "")

    def execution(self, provider: str | None) -> Execution:
        """How a session is opened: where the provider runs that began, unless a device is asked for."""
        return Execution(self.depth.precision, self.device_for(provider))

    def layouts(self, depth: NetworkDepthInfo) -> dict[str, Layout]:
        """How the arrays of depth are cut."""
        backgrounds = len(self.recipe.catalog.backgrounds) if depth.mode in DEPTH_SOURCES else 0
        return depth_layouts(self.extent, depth, backgrounds, self.policy)

    @property
    def depth_layout(self) -> Layout:
        """How ``/depth`` is cut."""
        return self.policy.depth(self.extent, guided=self.sees_backgrounds)

    @property
    def together(self) -> int:
        """How many samples a network fills the depth of before it is encoded: all of a shard, or an even part
        of a very large one.
        """
        layout = self.depth_layout
        chunk_bytes, chunks = 2 * math.prod((layout.chunk[0], *layout.shard[1:])), layout.grid[0]
        most = max(1, min(chunks, _HELD_BYTES // chunk_bytes))
        return layout.chunk[0] * next(n for n in range(most, 0, -1) if chunks % n == 0)

    @property
    def sees_backgrounds(self) -> bool:
        """Whether depth begins with that of the backgrounds."""
        return self.networks.mode in DEPTH_SOURCES

    def device_for(self, provider: str | None) -> Device:
        """The device to open: that of the provider which began, unless another one is asked for."""
        return self.device if self.device != "auto" or provider is None else _DEVICE_OF.get(provider, "auto")

    def check(self, session: DepthSession, provider: str | None) -> None:
        """Report the session's new notices; RecipeMismatchError if another provider than its own began it."""
        if provider not in (None, session.provider):
            needed = _DEVICE_OF.get(provider or "", "auto")
            raise RecipeMismatchError(
                f"Depth was begun with {provider} and cannot be finished with {session.provider}, whose "
                f"numbers differ: give --device {needed}, on a machine that has it.",
                code="provider-differs",
            )
        for line in (*session.why_here, *session.notices):
            if line not in self._told:
                self._told.add(line)
                self.on_event(Notice(line))


class Mode(Protocol):
    """A way of filling depth. It can be pickled: a worker opens sessions and pictures by itself.

    It is made of a job, the depth section of the document where that is to be finished, and the dataset, if
    anything is to be written.
    """

    def section(self, depth: NetworkDepthInfo) -> NetworkDepthInfo:
        """The depth section with the fields that only this mode knows."""

    def prepare(self, store: DatasetStore) -> None:
        """Write what must be there before the depth of samples."""

    def source(self, store: DatasetStore) -> DepthSource:
        """What gives the depth of samples, once all is prepared."""

    def rehearsal(self) -> tuple[DepthSource, float]:
        """What gives the depth of samples without a dataset, and the seconds that preparing would take."""


class PerSampleMode(Mode):
    """A model sees every sample."""

    def __init__(self, job: DepthJob, previous: NetworkDepthInfo | None, store: DatasetStore | None) -> None:
        self._job = job
        self._provider = None if previous is None else previous.provider
        session = self._source.session
        job.on_event(Notice(f"Depth by {job.model_name} on {session.provider} in {session.precision}."))
        job.check(session, self._provider)
        self._provider = session.provider
        before = () if previous is None else previous.devices
        self._devices = with_device(before, _device_of(session), _depth_there(store, job))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_source"}

    @cached_property
    def _source(self) -> PerSample:
        job, samples = self._job, self._job.samples
        threads = job.threads.count + IN_FLIGHT
        if isinstance(samples, Recipe):
            # A shard has few backgrounds: memory must hold only those of the shards in progress.
            pictures: Pictures = RenderedPictures(samples, job.scale, backgrounds_kept=2 * threads + 2)
        else:
            # Each thread is within one chunk, or at the end of it and at the beginning of the next.
            pictures = StoredPictures(samples.image, samples.mask, chunks_kept=2 * threads)
        execution = job.execution(self._provider)
        return PerSample(pictures, job.networks.network, execution, per_call=job.together)

    def section(self, depth: NetworkDepthInfo) -> NetworkDepthInfo:
        """The depth section with the devices of the model."""
        return dataclasses.replace(depth, devices=self._devices)

    def prepare(self, store: DatasetStore) -> None:
        """Nothing has to be written before."""

    def source(self, store: DatasetStore) -> DepthSource:
        """The model that sees every sample."""
        return self._source

    def rehearsal(self) -> tuple[DepthSource, float]:
        """The same; preparing takes no time."""
        return self._source, 0.0


class _SceneMode(Mode):
    """A model sees every background once, and samples get their depth from that.

    The depth of the backgrounds is written first, and read again from there: so that of the samples does not
    depend on where a run was stopped.
    """

    def __init__(self, job: DepthJob, previous: NetworkDepthInfo | None, store: DatasetStore | None) -> None:
        self._job = job
        self._stage = BackgroundDepthStage(job, None if previous is None else previous.provider)
        if previous is not None and store is not None and not self._stage.missing(store):
            # All backgrounds are done: neither the model nor the original pictures are needed any more.
            self._devices = previous.devices
        else:
            scene, before = self._stage.scene, () if previous is None else previous.devices
            there = _there(store, BACKGROUND_DEPTH, self._stage.layout)
            self._devices = (
                () if isinstance(scene, FileDepth) else with_device(before, _device_of(scene.session), there)
            )
        self._provider = self._devices[-1].provider if self._devices else None

    def section(self, depth: NetworkDepthInfo) -> NetworkDepthInfo:
        """The depth section with the devices of the model."""
        return dataclasses.replace(depth, devices=self._devices)

    def prepare(self, store: DatasetStore) -> None:
        """Write the depth of the backgrounds."""
        job, stage = self._job, self._stage
        if stage.missing(store):
            scene = stage.scene
            if isinstance(scene, FileDepth):
                # Other machines need not see the files.
                execute(stage, store, job.threads, job.on_event)
            else:
                execute(stage, store, job.engine, job.on_event)
                job.check(scene.session, self._provider)
        stage.close()

    def source(self, store: DatasetStore) -> DepthSource:
        """What gives the depth of samples from the stored depth of the backgrounds."""
        paths = self._stage.arrays
        try:
            arrays = store.read(*paths)
        except DatasetError as exc:
            raise DatasetError(
                f"The depth of the backgrounds in {store.name} is damaged ({exc.message}): delete "
                f"{' and '.join(paths)} there and run the same command again.",
                code=exc.code,
            ) from exc
        return self._made_of(arrays)

    def rehearsal(self) -> tuple[DepthSource, float]:
        """The same from the depth of some backgrounds, and the seconds that all would take."""
        job, scene = self._job, self._stage.scene
        count = self._stage.total
        depths: dict[int, NDArray[np.float32]] = {}

        def work(run: range) -> None:
            for background in run:
                depths[background] = scene(background)

        chosen = [range(i, i + 1) for i in range(0, count, max(1, count // _MEASURED_BACKGROUNDS))]
        done, seconds = job.threads.measure(work, chosen)
        known = np.array(sorted(depths))
        nearest = known[np.abs(known - np.arange(count)[:, None]).argmin(axis=1)]
        values = {i: self._stage.values(i, depth) for i, depth in depths.items()}
        arrays = [np.stack(one) for one in zip(*(values[i] for i in nearest), strict=True)]
        return self._made_of(arrays), count * seconds / done

    def _made_of(self, arrays: Sequence[NDArray[np.float32]]) -> DepthSource:
        """What gives the depth of samples from the arrays of the stage."""
        raise NotImplementedError


class LayeredMode(_SceneMode):
    """A model sees every background once; the foreground of each sample is a plane before that depth."""

    def __init__(self, job: DepthJob, previous: NetworkDepthInfo | None, store: DatasetStore | None) -> None:
        super().__init__(job, previous, store)
        message = (
            "Depth in layers: foregrounds are planes before their backgrounds, whose depth is "
            f"{_origin(job, self._provider)}."
        )
        job.on_event(Notice(message))

    def _made_of(self, arrays: Sequence[NDArray[np.float32]]) -> Layered:
        depth, figures = arrays
        return Layered(self._job.recipe, depth, figures, self._job.networks.meaning)


class GuidedMode(_SceneMode):
    """A model sees every background once; a guided network sees the samples and gets that depth."""

    def __init__(self, job: DepthJob, previous: NetworkDepthInfo | None, store: DatasetStore | None) -> None:
        if job.networks.guide is None:
            raise ValueError("guided depth needs a guided network")
        super().__init__(job, previous, store)
        self._guide = job.networks.guide
        guided = None if previous is None else previous.guide
        guided_by = None if guided is None else guided.provider
        # What cannot work fails now, not when all backgrounds are done.
        unknown = np.zeros((1, job.extent.height, job.extent.width), np.float32)
        trial = self._guided(unknown, job.device_for(guided_by)).session
        job.check(trial, guided_by)
        there = _depth_there(store, job)
        self._guide_devices = with_device(() if guided is None else guided.devices, _device_of(trial), there)
        self._guide_provider = trial.provider
        message = (
            f"Depth by {self._guide.name} on {trial.provider} in {trial.precision}, guided by "
            f"that of the backgrounds {_origin(job, self._provider)}."
        )
        job.on_event(Notice(message))

    def section(self, depth: NetworkDepthInfo) -> NetworkDepthInfo:
        """The depth section with the devices of both networks, and the guided network."""
        info = GuideInfo(self._guide.card.document, self._guide.sha256, self._guide_devices)
        return dataclasses.replace(super().section(depth), guide=info)

    def _made_of(self, arrays: Sequence[NDArray[np.float32]]) -> Guided:
        (depth,) = arrays
        return self._guided(depth, _DEVICE_OF.get(self._guide_provider, "auto"))

    def _guided(self, depth: NDArray[np.float32], device: Device) -> Guided:
        job = self._job
        backgrounds = BackgroundDepth.of(depth, job.networks.meaning)
        execution = Execution(job.depth.precision, device)
        return Guided(job.recipe, self._guide, backgrounds, execution, per_call=job.together)


class BackgroundDepthStage(LayoutStage):
    """The stage that fills ``/sources/background_depth`` and, for layers, ``/sources/figure_depth``, begun by
    a provider, or not begun.
    """

    name: ClassVar[StageName] = "backgrounds"

    def __init__(self, job: DepthJob, provider: str | None) -> None:
        self._job, self._provider = job, provider
        self.arrays = DEPTH_SOURCES[job.networks.mode]
        backgrounds = len(job.recipe.catalog.backgrounds)
        layouts = background_layouts(self.arrays, job.extent, backgrounds, job.policy)
        self.layout = layouts[BACKGROUND_DEPTH]
        super().__init__(layouts)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "scene"}

    @cached_property
    def scene(self) -> SceneDepth | FileDepth:
        """What gives the depth of the backgrounds."""
        job = self._job
        if job.networks.model is None:
            return FileDepth(job.recipe)
        scene = SceneDepth(job.recipe, job.networks.model, job.scale, job.execution(self._provider))
        job.check(scene.session, self._provider)
        return scene

    def close(self) -> None:
        """Release the memory of the session, which the guided network may need."""
        self.__dict__.pop("scene", None)

    def values(self, background: int, depth: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """What the arrays hold of a background of that depth, (h, w)."""
        meaning, person = self._job.networks.meaning, self._job.recipe.catalog.seen_persons(background)
        return [
            depth if path == BACKGROUND_DEPTH else figure_depth(depth, meaning, person)
            for path in self.arrays
        ]

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """The shard with that number."""
        chunks: dict[str, list[bytes]] = {path: [] for path in self.arrays}
        for background in self.layout.samples_of(shard):
            monitor.check()
            scene = self.scene
            seen = self._job.seen.take(scene.key(background)) if isinstance(scene, SceneDepth) else None
            depth = scene(background) if seen is None else seen
            for path, values in zip(self.arrays, self.values(background, depth), strict=True):
                chunks[path].append(BACKGROUND_DEPTH_CODEC.encode(values))
            monitor.advance(1)
        return Product(self.joined(shard, chunks))


def _origin(job: DepthJob, provider: str | None) -> str:
    """What the depth of the backgrounds is by."""
    if job.networks.model is None:
        return f"that of the files in {job.recipe.spec.background_depth}"
    return f"by {job.model_name} on {provider}"


def _device_of(session: DepthSession) -> DeviceInfo:
    return DeviceInfo(session.provider, session.hardware, onnxruntime.__version__)


def _depth_there(store: DatasetStore | None, job: DepthJob) -> list[range]:
    """The samples whose depth is there, of those that the job is to fill."""
    return _there(store, DEPTH, job.depth_layout, job.shards)


def _there(store: DatasetStore | None, array: str, layout: Layout, among: range | None = None) -> list[range]:
    """The samples, or backgrounds, of the shards that a dataset has of an array, in order."""
    if store is None or store.layout(array) != layout:
        return []
    return [layout.samples_of(shard) for shard in sorted(whole_shards(store, array, layout, among=among))]


#: What fills depth, by the mode.
MODES: Mapping[DepthMode, type[PerSampleMode | LayeredMode | GuidedMode]] = {
    "per-sample": PerSampleMode,
    "layered": LayeredMode,
    "guided": GuidedMode,
}

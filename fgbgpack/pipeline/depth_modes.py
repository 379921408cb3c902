"""The two modes of filling depth: what is written first, and what then gives the depth of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.placement import Plan
from fgbgpack.depth import BackgroundDepth, DepthModel, DepthSession, Device
from fgbgpack.depth.strategies import (
    DepthSource,
    Guided,
    Networks,
    PerSample,
    Pictures,
    RenderedPictures,
    SceneDepth,
)
from fgbgpack.errors import RecipeMismatchError
from fgbgpack.pipeline.executor import Advance, Check, Notice, OnEvent, fill_missing, measure, worker_count
from fgbgpack.sources.catalog import Catalog
from fgbgpack.spec import DatasetSpec, DepthSpec
from fgbgpack.storage import store as disk
from fgbgpack.storage.layout import Extent
from fgbgpack.storage.sharding import join
from fgbgpack.storage.store import Keys

#: Backgrounds of which some are taken to measure how long all will take.
_MEASURED_BACKGROUNDS = 97


@dataclass(frozen=True)
class Recipe:
    """What samples are drawn by, at any size.

    Attributes:
        plan: The samples.
        spec: What the dataset is made by.
        catalog: The resized sources of the dataset.
    """

    plan: Plan
    spec: DatasetSpec
    catalog: Catalog


@dataclass(frozen=True)
class DepthJob:
    """Depth to be filled, and by what.

    Attributes:
        plan: The samples.
        depth: How depth is to be filled.
        networks: The networks that ``depth`` names.
        device: What is to run them.
        workers: Threads, as for :func:`fgbgpack.create`.
        tell: What hears of progress, and notices.
    """

    plan: Plan | Extent
    depth: DepthSpec
    networks: Networks
    device: Device
    workers: int | None
    tell: OnEvent
    _told: set[str] = field(default_factory=set, init=False, repr=False)

    @property
    def scale(self) -> int:
        """How many times as large as a sample the picture is that the model sees."""
        return self.depth.resolved_scale(self.plan.height, self.plan.width)

    def device_for(self, begun: str | None) -> Device:
        """The device to open; what ran on a provider before goes on there unless another one is asked for."""
        return self.device if self.device != "auto" or begun is None else _DEVICE_OF.get(begun, "auto")

    def check(self, session: DepthSession, begun: str | None) -> None:
        """Tell what a session has to say since it was last asked, and that it is the one that began.

        Raises:
            RecipeMismatchError: Another provider began it.
        """
        if begun not in (None, session.provider):
            raise RecipeMismatchError(
                f"Depth was begun with {begun} and cannot be finished with {session.provider}, whose numbers "
                f"differ: give --device {_DEVICE_OF.get(begun or '', 'auto')}, on a machine that has it."
            )
        devices: dict[str, list[str]] = {}
        for refusal in session.passed_over:
            device, _, reason = refusal.partition(": ")
            devices.setdefault(reason.rstrip("."), []).append(device)
        lines = [f"Not on {' or '.join(names)}: {reason}." for reason, names in devices.items()]
        for line in (*lines, *session.notices):
            if line not in self._told:
                self._told.add(line)
                self.tell(Notice(line))


_DEVICE_OF: dict[str, Device] = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "tensorrt",
}


class PerSampleMode:
    """A model sees every sample.

    Args:
        job: What is to be filled.
        pictures: What the model sees of samples.
        begun: The depth section of the document where that is to be finished.
    """

    def __init__(self, job: DepthJob, pictures: Pictures, begun: Mapping[str, Any] | None) -> None:
        provider = None if begun is None else begun["provider"]
        model = job.networks.model
        self._source = PerSample(
            pictures, model, precision=job.depth.precision, device=job.device_for(provider)
        )
        session = self._source.session
        at = _at(pictures.scale)
        job.tell(Notice(f"Depth by {model.name}{at} on {session.provider} in {session.precision}."))
        job.check(session, provider)

    def section(self) -> dict[str, Any]:
        """The fields of the depth section that only this mode knows."""
        return {"guide": None, "provider": self._source.session.provider}

    def source(self, keys: Keys) -> DepthSource:
        """What gives the depth of samples; nothing has to be written before."""
        return self._source

    def rehearsal(self) -> tuple[DepthSource, float]:
        """The same, and the seconds that all before it would take."""
        return self._source, 0.0


class GuidedMode:
    """A model sees every background, once; a guide sees the samples and is told what that said.

    The depth of the backgrounds is written first, and read again from there: so that of the samples does not
    depend on where a run was stopped.

    Args:
        job: What is to be filled.
        recipe: What the samples are drawn by.
        guide: The guided network.
        begun: The depth section of the document where that is to be finished.
        keys: Where the dataset is; ``None`` where nothing is to be written.
    """

    def __init__(
        self,
        job: DepthJob,
        recipe: Recipe,
        guide: DepthModel,
        begun: Mapping[str, Any] | None,
        keys: Keys | None,
    ) -> None:
        self._job, self._recipe, self._guide = job, recipe, guide
        self._layout = disk.background_depth_layout(recipe.plan)
        self._begun_by = None if begun is None else str(begun["provider"])
        if begun is not None and keys is not None and len(self._present(keys)) == self._layout.shards:
            # All backgrounds are through: neither the model nor the original pictures are needed any more.
            self._needs_scene, self._provider = False, str(begun["provider"])
        else:
            self._needs_scene, self._provider = True, self._scene.session.provider
        # What cannot work shall fail now, not when all backgrounds are through.
        unknown = np.zeros((1, job.plan.height, job.plan.width), np.float32)
        provider = None if begun is None else begun["guide"]["provider"]
        trial = self._guided(unknown, job.device_for(provider)).session
        job.check(trial, provider)
        self._guide_provider = trial.provider
        job.tell(
            Notice(
                f"Depth by {guide.name} on {trial.provider} in {trial.precision}, guided by that of the "
                f"backgrounds by {job.networks.model.name}{_at(job.scale)} on {self._provider}."
            )
        )

    @cached_property
    def _scene(self) -> SceneDepth:
        """What gives the depth of the backgrounds."""
        job = self._job
        scene = SceneDepth(
            self._recipe.spec,
            self._recipe.catalog,
            job.networks.model,
            job.scale,
            precision=job.depth.precision,
            device=job.device_for(self._begun_by),
        )
        job.check(scene.session, self._begun_by)
        return scene

    def section(self) -> dict[str, Any]:
        """The fields of the depth section that only this mode knows."""
        guide = {
            "model": self._guide.card,
            "sha256": self._guide.sha256,
            "provider": self._guide_provider,
        }
        return {"guide": guide, "provider": self._provider}

    def source(self, keys: Keys) -> DepthSource:
        """What gives the depth of samples, once that of the backgrounds is written."""
        layout = self._layout
        if self._needs_scene:
            scene = self._scene

            def write(shard: int, check: Check, advance: Advance) -> None:
                chunks = []
                for background in layout.samples_of(shard):
                    check()
                    chunks.append(disk.BACKGROUND_DEPTH_CODEC.encode(scene(background)))
                    advance(1)
                keys.put(f"{disk.BACKGROUND_DEPTH}/{layout.key(shard)}", join(chunks, layout.grid))

            job = self._job
            fill_missing(layout, lambda: self._present(keys), write, "backgrounds", job.workers, job.tell)
            job.check(scene.session, self._provider)
            del self._scene  # What its session holds of memory, the guide may need.
        return self._guided(disk.read_background_depth(keys), _DEVICE_OF.get(self._guide_provider, "auto"))

    def rehearsal(self) -> tuple[DepthSource, float]:
        """The same, from the depth of some backgrounds, and the seconds that all of them would take."""
        job, scene = self._job, self._scene
        count = self._layout.shape[0]
        depths: dict[int, NDArray[np.float32]] = {}

        def work(run: range) -> None:
            for background in run:
                depths[background] = scene(background)

        chosen = [range(i, i + 1) for i in range(0, count, max(1, count // _MEASURED_BACKGROUNDS))]
        done, seconds = measure(work, chosen, job.workers)
        known = np.array(sorted(depths))
        nearest = known[np.abs(known - np.arange(count)[:, None]).argmin(axis=1)]
        device = _DEVICE_OF.get(self._guide_provider, "auto")
        return self._guided(np.stack([depths[i] for i in nearest]), device), count * seconds / done

    def _present(self, keys: Keys) -> set[int]:
        return keys.sound_shards(disk.BACKGROUND_DEPTH, self._layout)

    def _guided(self, depth: NDArray[np.float32], device: Device) -> Guided:
        job = self._job
        output = job.networks.model.card["output"]
        return Guided(
            self._recipe.spec,
            self._recipe.catalog,
            self._guide,
            BackgroundDepth.of(depth, output["quantity"], output["unit"]),
            precision=job.depth.precision,
            device=device,
        )


def mode_of(
    job: DepthJob, recipe: Recipe, begun: Mapping[str, Any] | None, keys: Keys | None
) -> PerSampleMode | GuidedMode:
    """The mode that fills the depth of samples of a recipe, which the networks tell.

    Args:
        job: What is to be filled.
        recipe: What the samples are drawn by.
        begun: The depth section of the document where that is to be finished.
        keys: Where the dataset is; ``None`` where nothing is to be written.

    Raises:
        SourceError: The original pictures are not there, or not the ones the dataset was made of.
        DepthModelError: A network, or the device, cannot be used.
        RecipeMismatchError: What began it cannot be had here.
    """
    guide = job.networks.guide
    if guide is not None:
        return GuidedMode(job, recipe, guide, begun, keys)
    # A shard lies on few backgrounds, so those of the shards in work are all that memory need hold.
    kept = 2 * worker_count(job.workers) + 2
    pictures = RenderedPictures(recipe.spec, recipe.catalog, job.scale, backgrounds_kept=kept)
    return PerSampleMode(job, pictures, begun)


def _at(scale: int) -> str:
    return f" at {scale} times the size" if scale > 1 else ""

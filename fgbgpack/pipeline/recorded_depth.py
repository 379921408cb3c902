"""The networks that the document of a dataset names, ready to fill its depth again."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.recipe import Recipe
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.depth import Device
from fgbgpack.depth.strategies import Networks
from fgbgpack.document import DEPTH, Document, NetworkDepthInfo
from fgbgpack.errors import DatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline.conflicts import depth_differences
from fgbgpack.pipeline.depth_modes import MODES, DepthJob
from fgbgpack.pipeline.events import OnEvent, Progress
from fgbgpack.pipeline.executor import Engine
from fgbgpack.spec import DepthSpec
from fgbgpack.storage.layout import DEFAULT_POLICY, LayoutPolicy
from fgbgpack.storage.store import DatasetStore


def network_depth(document: Document, name: str) -> NetworkDepthInfo:
    """What the document says of depth by networks; SpecError where no network filled it."""
    if not isinstance(document.depth, NetworkDepthInfo):
        state = "has no depth" if document.depth is None else "has imported depth"
        raise SpecError(f"{name} {state}: no network can give it again.", code="depth-impossible")
    return document.depth


def recorded_job(
    document: Document,
    samples: Recipe | Dataset,
    *,
    device: Device,
    engine: Engine,
    on_event: OnEvent,
    policy: LayoutPolicy = DEFAULT_POLICY,
) -> DepthJob:
    """The job that filled the depth of a dataset, with the networks that its document names.

    Raises DepthModelError where a network is not there, and RecipeMismatchError where one of that name is
    another file, or is fed in another way.
    """
    depth = network_depth(document, "The dataset")
    spec = document.spec.depth if document.spec is not None else None
    if spec is None:
        spec = DepthSpec(
            model=depth.model_name,
            mode=depth.mode,
            guide=depth.guide_name,
            scale=depth.scale,
            bits=depth.bits,
            precision=depth.precision,
        )
    # The numbers that a spec leaves open are those that were chosen.
    spec = dataclasses.replace(spec, scale=depth.scale, bits=depth.bits, precision=depth.precision)
    networks = Networks.load(spec)
    if lines := depth_differences(depth, spec, networks, depth.scale):
        raise RecipeMismatchError("The networks are not those that filled the depth:", lines)
    return DepthJob(samples, spec, networks, device, engine, policy, on_event)


def infer_again(
    job: DepthJob, store: DatasetStore, document: Document, chosen: NDArray[np.int64]
) -> dict[int, str]:
    """Run the networks on some samples again; a line on each whose stored depth is another one.

    The two may differ by one step of the grid that depth is rounded to, as a network does not give the last
    bits of a number on every machine alike; and by the float16 next to it. Raises DatasetError where the
    stored depth is damaged.
    """
    depth = network_depth(document, store.name)
    source = MODES[job.networks.mode](job, depth, store).source(store)
    stored = store.reader(DEPTH)
    step = depth.step or 0.0
    found: dict[int, str] = {}
    job.on_event(Progress("depth", 0, len(chosen)))
    for first in range(0, len(chosen), source.batch):
        some = chosen[first : first + source.batch]
        inferred = np.empty((len(some), *stored.layout.shape[1:]), np.float16)
        source(some, inferred, step=step)
        for sample, one, other in zip(some.tolist(), inferred, stored.read(some), strict=True):
            largest = np.maximum(np.abs(one), np.abs(other))
            allowed = step + np.spacing(largest).astype(np.float32)
            apart = np.abs(one.astype(np.float32) - other.astype(np.float32))
            # A NaN is not within anything.
            if not bool((apart <= allowed).all()):
                worst = float(np.nanmax(apart)) if not np.isnan(apart).all() else float("nan")
                found[sample] = f"/depth[{sample}] differs by up to {worst:g}, more than its step of {step:g}"
        job.on_event(Progress("depth", min(first + source.batch, len(chosen)), len(chosen)))
    return found


def choose(samples: int, count: int, seed: int) -> NDArray[np.int64]:
    """``count`` samples at random, or all where there are no more, in ascending order."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(samples, min(count, samples), replace=False)).astype(np.int64)


def stored_samples(store: DatasetStore, document: Document) -> Dataset:
    """Imported samples, which a network sees as they are stored."""
    if document.has_recipe:
        raise DatasetError(
            f"The sources of {store.name} are damaged: its samples cannot be rendered.", code="recipe-damaged"
        )
    return Dataset(store, document)

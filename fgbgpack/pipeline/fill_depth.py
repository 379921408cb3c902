"""Fill the depth of a dataset that is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from fgbgpack.composition.recipe import Recipe
from fgbgpack.dataset.dataset import Dataset, open_dataset
from fgbgpack.depth import Device
from fgbgpack.depth.strategies import Networks
from fgbgpack.document import DEPTH_PARTS, DEPTHS, Document, NetworkDepthInfo
from fgbgpack.errors import DatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline.arrays import depth_arrays
from fgbgpack.pipeline.conflicts import clear_depth, depth_differences, layout_differences
from fgbgpack.pipeline.create import Report
from fgbgpack.pipeline.depth import DepthFilling
from fgbgpack.pipeline.depth_modes import DepthJob
from fgbgpack.pipeline.events import Notice, OnEvent, Reporting, reporting, silent
from fgbgpack.pipeline.run import Run
from fgbgpack.pipeline.staging import staged
from fgbgpack.pipeline.workers import engine_of
from fgbgpack.spec import FILES_MODEL, DatasetSpec, DepthSpec
from fgbgpack.storage.layout import DEFAULT_POLICY, LayoutPolicy
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target, located


def fill_depth(
    dataset: Target,
    depth: DepthSpec = DepthSpec(),  # noqa: B008 (it is frozen)
    *,
    device: Device = "auto",
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    backgrounds: str | Path | None = None,
    foregrounds: str | Path | None = None,
    masks: str | Path | None = None,
    background_depth: str | Path | None = None,
    layout: LayoutPolicy = DEFAULT_POLICY,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Report:
    """Fill the depth of a dataset whose images are there, or finish filling it.

    Args:
        dataset: A local folder, an HDF5 file, a URL that fsspec opens, or a Zarr store.
        depth: The model and how it is run; by default the network for scenes that comes with fgbgpack, in
            layers. On the samples of a dataset that was imported a network runs per sample, and sees them as
            they are stored: there are neither empty backgrounds nor originals.
        device: What runs it: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"tensorrt"``.
        workers: Threads, each on a shard of its own; ``None`` takes one for each processor.
        executor: What runs the work in place of threads, as for :func:`create`.
        overwrite: Replace the depth of another model, or of other settings, or that was imported.
        backgrounds: The folder of the original backgrounds, for a scale above 1; ``None`` takes the one
            that the dataset's spec names.
        foregrounds: The same for the foregrounds, which only depth per sample looks at.
        masks: The same for the masks.
        background_depth: The same for the files of the backgrounds' depth.
        layout: How large chunks and shards become.
        storage_options: What obstore or fsspec opens a URL with, such as ``{"region": "eu-west-1"}``, beside
            the environment; see :func:`fgbgpack.open_dataset`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SpecError: A field of ``depth`` is out of range, or of no use for a dataset that was imported; all
            problems are named together.
        SourceError: The original pictures are not there, or not the ones the dataset was made of.
        DepthModelError: A depth model, or a device, that cannot be used.
        RecipeMismatchError: The dataset has depth of another model or other settings, or that was imported.
        DatasetError: There is no dataset, its images are not complete, or another process is writing it or
            has replaced it meanwhile.
    """
    dataset = located(dataset, storage_options)
    engine = engine_of(workers, executor)
    folders = {"backgrounds": backgrounds, "foregrounds": foregrounds, "masks": masks}
    folders |= {"background_depth": background_depth}
    with reporting(on_event) as notify, staged(dataset, engine, notify) as place:
        opened = open_dataset(place, allow_incomplete=True)
        if not opened.document.pixels.complete:
            command = "create" if opened.has_recipe else "import"
            raise DatasetError(
                f"The images of {opened.path} are not complete: run fgbgpack {command} again to finish them.",
                code="dataset-incomplete",
            )
        samples: Recipe | Dataset = opened
        if opened.has_recipe:
            samples = _recipe(opened, depth, folders)
            depth = samples.spec.depth or depth
        else:
            depth = _depth_of_stored(opened, depth, folders, notify)
        job = DepthJob(samples, depth, Networks.load(depth), device, engine, layout, notify)
        run = Run(DatasetStore.open(place, read_only=False), engine, notify)
        with run.exclusive():
            found = run.store.existing_document()
            if found.generation != opened.document.generation:
                # The depth would be that of the samples that were there before.
                raise DatasetError(
                    f"{run.name} has been replaced or changed meanwhile: run the same command again.",
                    code="dataset-replaced",
                )
            document = _fill(run, job, found, overwrite=overwrite)
        return Report.of(run, document)


def _fill(run: Run, job: DepthJob, found: Document, *, overwrite: bool) -> Document:
    """Fill the depth of a dataset that nobody else writes; return its document, in place of ``found``."""
    store, name = run.store, run.name
    document = run.reopened(found)
    if not document.pixels.complete:
        raise DatasetError(
            f"The images of {name} are damaged: run fgbgpack create again to mend them.",
            code="dataset-incomplete",
        )
    if (previous := document.depth) is not None:
        lines = depth_differences(previous, job.depth, job.networks, job.scale)
        if isinstance(previous, NetworkDepthInfo) and not previous.complete:
            lines += layout_differences(store, job.layouts(previous))
        if lines and not overwrite:
            raise RecipeMismatchError(f"{name} has other depth; --overwrite replaces it:", lines)
        if lines:
            without = {*DEPTHS, *DEPTH_PARTS}
            if run.replace(without, complete=previous.complete):
                begun, previous = _begun(run.store.existing_document(), job)
                if previous is None and not begun.complete:
                    run.renew(without)
                    begun = run.store.existing_document()
                store = run.store
                # Splits may have been saved since a stopped run began it.
                document = dataclasses.replace(begun, splits=document.splits)
            else:
                previous = None
        elif previous.complete:
            run.notify(f"The depth of {name} is complete already.")
            return document
        else:
            run.notify(f"Resuming the depth of {name}.")
    filling = DepthFilling.of(job, previous if isinstance(previous, NetworkDepthInfo) else None, store)
    if previous is None:
        clear_depth(store, document)
    document = document.with_depth(filling.section)
    for path in set(DEPTHS) & set(document.composed):
        store.delete_below(path)
    if document.spec is not None:
        document = dataclasses.replace(document, spec=dataclasses.replace(document.spec, depth=job.depth))
    # The document comes last: the arrays that it says are begun are cut as that mode cuts them.
    store.declare(*depth_arrays(job.layouts(filling.section), filling.section, document.composed))
    store.commit(document)
    return run.fill_depth(filling, document)


def _begun(document: Document, job: DepthJob) -> tuple[Document, NetworkDepthInfo | None]:
    """The document of a dataset that is made beside another one, and its depth if a stopped run began it."""
    begun = document.depth
    if not isinstance(begun, NetworkDepthInfo) or begun.complete:
        return document, None
    return document, None if depth_differences(begun, job.depth, job.networks, job.scale) else begun


def _recipe(dataset: Dataset, depth: DepthSpec, folders: Mapping[str, str | Path | None]) -> Recipe:
    """The recipe of a dataset with other depth, and with where its pictures are now."""
    recipe = dataset.recipe
    moved = {key: str(folder) for key, folder in folders.items() if folder is not None}
    spec = DatasetSpec.from_dict({**recipe.spec.to_dict(), **moved})
    return recipe.with_spec(dataclasses.replace(spec, depth=depth))


def _depth_of_stored(
    dataset: Dataset, depth: DepthSpec, folders: Mapping[str, str | Path | None], on_event: OnEvent
) -> DepthSpec:
    """How the depth of imported samples is filled: a network sees each, as it is stored.

    Raises SpecError, with all problems, if it cannot be filled as it is asked for.
    """
    problems = []
    if depth.model == FILES_MODEL:
        problems.append("--depth-model: found 'files', expected a network: there are no empty backgrounds")
    if depth.mode in ("guided", "layered") or depth.guide is not None:
        option = "--depth-guide" if depth.mode in (None, "per-sample") else "--depth-mode"
        kind = "layered" if depth.mode == "layered" else "guided"
        problems.append(
            f"{option}: {kind} depth begins with that of the empty backgrounds, and there are none; expected "
            "--depth-mode per-sample"
        )
    if depth.scale not in (None, 1):
        problems.append(
            f"--depth-scale: found {depth.scale}, expected 1: there are no originals to render at a larger "
            "size, and networks resize those that are stored"
        )
    problems += [
        f"--{kind.replace('_', '-')}: of no use, samples are seen as they are stored"
        for kind, folder in folders.items()
        if folder is not None
    ]
    if problems:
        raise SpecError(
            f"{dataset.path} was imported from pictures: its depth cannot be filled so.",
            problems,
            code="depth-impossible",
        )
    if depth.resolved_mode != "per-sample":
        message = (
            f"{dataset.path} was imported: there are no empty backgrounds to begin with, "
            f"so {depth.model} sees each of these (--depth-mode per-sample)."
        )
        on_event(Notice(message))
    return dataclasses.replace(depth, mode="per-sample", scale=1)

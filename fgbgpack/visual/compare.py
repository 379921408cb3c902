"""Depth models side by side on one dataset: figures of what they make of its samples, and a picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.composition.placement import Placements
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.depth import BackgroundDepth, Device
from fgbgpack.depth.precision import Precision
from fgbgpack.depth.strategies import DepthSource, Guided, Networks, PerSample, RenderedPictures, SceneDepth
from fgbgpack.errors import DatasetError, IncompleteDatasetError, SourceError, SpecError
from fgbgpack.sources.catalog import Catalog
from fgbgpack.sources.resizing import crop_box
from fgbgpack.spec import LARGEST_SCALE, DatasetSpec
from fgbgpack.visual.comparison import STORED, Comparison, measure
from fgbgpack.visual.comparison_picture import render_comparison
from fgbgpack.visual.preview import choose_samples
from fgbgpack.visual.statistics import band_width

__all__ = ["compare", "render_comparison"]

#: Samples that are rendered and run at a time, all of one background.
_BATCH = 8
_THREADS = min(4, os.cpu_count() or 1)
_MILLIMETRES = 1000
_TRUE_DEPTH_FOLDER = "depth"


def compare(
    dataset: Dataset,
    models: Sequence[tuple[Networks, int]],
    *,
    stored: bool = False,
    samples: int = 64,
    seed: int = 0,
    precision: Precision = "fp32",
    device: Device = "auto",
    true_depth: str | Path | None = None,
    backgrounds: str | Path | None = None,
    foregrounds: str | Path | None = None,
    masks: str | Path | None = None,
    on_map: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Run depth models on samples of a dataset and measure what comes out; the dataset is not changed.

    A model with a guide runs once on each background, and the guide on the samples, as for a dataset.

    Before anything is measured, depth is turned so that larger is nearer: inverse depth is taken as it is,
    metres are inverted, relative depth is negated. Figures are of each sample on its own, then spread over
    samples: models that are right up to scale and shift are all that is asked for.

    True depth is a folder of 16-bit grayscale PNG files in millimetres, 0 where it is not known, each with
    the stem of the background whose whole picture it shows. It is cut like the background; each pixel has
    the value at its centre, since a mean over an edge is a depth at which nothing is. It is compared where
    the foreground's alpha is 0.

    Args:
        dataset: An open dataset whose images are complete.
        models: Each with the scale at which pictures are rendered for it: 1 to 4, or to 16 with a guide.
        stored: Whether the dataset's own depth is one of the models.
        samples: How many samples to look at, drawn as :func:`~fgbgpack.visual.preview.choose_samples` does.
        seed: What the choice depends on, 0 or more.
        precision: What the networks' products are taken in.
        device: What runs the models.
        true_depth: The folder of true depth; it must have some background's. ``None`` takes a folder called
            ``depth`` beside that of the backgrounds, if it is there and its files are of this form.
        backgrounds: The folder of the original backgrounds; ``None`` takes the one in the dataset's spec.
        foregrounds: The same for the foregrounds; the originals are read for scales above 1, those of the
            foregrounds for models without a guide.
        masks: The same for the masks.
        on_map: Called in this thread after each map that a model has made, with how many are done and how
            many there are.

    Raises:
        SpecError: There is nothing to compare, or a number is out of range; all problems are named together.
        DatasetError: The images are not complete, or stored depth is asked for and not complete.
        SourceError: Original pictures or files of true depth are not there, or not what they should be.
        DepthModelError: A model or the device cannot be used.
    """
    _refuse_options(models, stored, samples, seed)
    if not dataset.has_recipe:
        raise DatasetError(
            f"{dataset.path} was imported from pictures: models are compared on samples that fgbgpack create "
            "made, which can be drawn again at any size."
        )
    _require_complete(dataset, stored)
    given = {"backgrounds": backgrounds, "foregrounds": foregrounds, "masks": masks}
    folders = {kind: str(folder) for kind, folder in given.items() if folder is not None}
    spec = DatasetSpec.from_dict({**dataset.document["spec"], **folders})
    chosen = choose_samples(dataset.placements, samples, seed)
    placements = dataset.placements[np.array(chosen)]
    batches = [dataset[sample] for sample in chosen]
    mask = np.stack([batch.mask for batch in batches])
    truth_folder, truth = _true_depth(dataset, placements, true_depth, Path(spec.backgrounds))
    if truth is not None:
        truth[mask > 0] = np.nan

    described = [_describe_stored(dataset)] if stored else []
    maps = np.empty((len(described) + len(models), *mask.shape), np.float16)
    if stored:
        maps[0] = [batch.depth for batch in batches]
    catalog = dataset.catalog()
    total = len(models) * len(chosen)
    for networks, scale in models:
        # One at a time: several large networks may not fit into a device's memory together.
        source = _open(networks, scale, spec, catalog, placements, precision=precision, device=device)
        done = (len(described) - stored) * len(chosen)
        for count in _fill(maps[len(described)], source, np.array(chosen), placements.background):
            done += count
            if on_map is not None:
                on_map(done, total)
        described.append(_describe(networks, scale, source))
    figures, agreement = measure(_labelled(described), maps, mask, truth, spec.foreground_height)
    return Comparison(
        dataset=dataset.path,
        samples=tuple(chosen),
        band=band_width(spec.foreground_height),
        true_depth=None if truth is None else str(truth_folder),
        models=figures,
        agreement=agreement,
        maps=maps,
        truth=truth,
    )


# --- what is asked for -----------------------------------------------------------------------------


def _refuse_options(models: Sequence[tuple[Networks, int]], stored: bool, samples: int, seed: int) -> None:
    problems = []
    if not (models or stored):
        problems.append("models: found none, expected at least one")
    problems += [
        f"scale of {_name(networks)}: found {scale}, expected 1 to {LARGEST_SCALE[networks.mode]}"
        for networks, scale in models
        if not 1 <= scale <= LARGEST_SCALE[networks.mode]
    ]
    if samples < 1:
        problems.append(f"samples: found {samples}, expected 1 or more")
    if seed < 0:
        problems.append(f"seed: found {seed}, expected 0 or more")
    if problems:
        raise SpecError("The comparison cannot be made:", problems)


def _require_complete(dataset: Dataset, stored: bool) -> None:
    document = dataset.document
    if not document["pixels"]["complete"]:
        raise IncompleteDatasetError(
            f"The images of {dataset.path} are not complete: run fgbgpack create again to finish them."
        )
    if stored and document["depth"] is None:
        raise DatasetError(f"{dataset.path} has no depth to compare with: fill it with fgbgpack depth.")
    if stored and not document["depth"]["complete"]:
        raise IncompleteDatasetError(
            f"The depth of {dataset.path} is not complete: run fgbgpack depth again to finish it."
        )


# --- running the models ----------------------------------------------------------------------------


def _open(
    networks: Networks,
    scale: int,
    spec: DatasetSpec,
    catalog: Catalog,
    placements: Placements,
    *,
    precision: Precision,
    device: Device,
) -> DepthSource:
    """What gives the depth of the samples, the depth of their backgrounds first where that guides it."""
    model, guide = networks.model, networks.guide
    if guide is None:
        pictures = RenderedPictures(spec, catalog, scale, backgrounds_kept=_THREADS)
        return PerSample(pictures, model, precision=precision, device=device)
    scene = SceneDepth(spec, catalog, model, scale, precision=precision, device=device)
    used = [int(background) for background in np.unique(placements.background)]
    depth = np.zeros(catalog.background.shape[:3], np.float32)
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fgbgpack-compare")
    try:
        depth[used] = list(pool.map(scene, used))
    finally:
        pool.shutdown(cancel_futures=True)
    output = model.card["output"]
    backgrounds = BackgroundDepth.of(depth, output["quantity"], output["unit"])
    return Guided(spec, catalog, guide, backgrounds, precision=precision, device=device)


def _fill(
    maps: NDArray[np.float16],
    source: DepthSource,
    samples: NDArray[np.int64],
    backgrounds: NDArray[np.int32],
) -> Iterator[int]:
    """Fill (n, h, w) with the depth of (n,) samples, which have these backgrounds, on a few threads; yields
    how many each step filled.
    """

    def work(run: slice) -> int:
        source(samples[run], maps[run])
        return len(maps[run])

    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fgbgpack-compare")
    try:
        for future in as_completed([pool.submit(work, run) for run in _runs(backgrounds)]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _runs(backgrounds: NDArray[np.int32]) -> Iterator[slice]:
    """Runs of samples of one background."""
    ends = [*(np.flatnonzero(np.diff(backgrounds)) + 1), len(backgrounds)]
    start = 0
    for end in ends:
        for first in range(start, end, _BATCH):
            yield slice(first, min(first + _BATCH, end))
        start = end


def _name(networks: Networks) -> str:
    return networks.model.name if networks.guide is None else f"guided:{networks.model.name}"


def _describe(networks: Networks, scale: int, source: DepthSource) -> dict[str, Any]:
    output = networks.model.card["output"]
    return {
        "label": f"{_name(networks)} x{scale}",
        "model": networks.model.name,
        "sha256": networks.model.sha256,
        "mode": networks.mode,
        "guide": None if networks.guide is None else networks.guide.name,
        "scale": scale,
        "precision": source.session.precision,
        "provider": source.session.provider,
        "quantity": output["quantity"],
        "unit": output["unit"],
    }


def _describe_stored(dataset: Dataset) -> dict[str, Any]:
    depth = dataset.document["depth"]
    output = depth["model"]["output"]
    return {
        "label": STORED,
        "model": depth["model"]["name"],
        "guide": None if depth["guide"] is None else depth["guide"]["model"]["name"],
        "provider": (depth["guide"] or depth)["provider"],
        **{name: depth[name] for name in ("sha256", "mode", "scale", "precision")},
        "quantity": output["quantity"],
        "unit": output["unit"],
    }


def _labelled(described: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with labels that differ: two files may have one name in their cards."""
    seen: Counter[str] = Counter()
    result = []
    for entry in described:
        seen[entry["label"]] += 1
        number = seen[entry["label"]]
        result.append(entry if number == 1 else entry | {"label": f"{entry['label']} #{number}"})
    return result


# --- true depth ------------------------------------------------------------------------------------


def _true_depth(
    dataset: Dataset, placements: Placements, given: str | Path | None, backgrounds: Path
) -> tuple[Path, NDArray[np.float32] | None]:
    """The folder, and (n, h, w) metres, NaN where not known; ``None`` where there is no true depth.

    Raises:
        SourceError: The folder that was given has none, or files in it cannot be used.
    """
    folder = Path(given) if given is not None else backgrounds.parent / _TRUE_DEPTH_FOLDER
    names = [source["name"] for source in dataset.document["sources"]["backgrounds"]]
    files = {}
    for index in np.unique(placements.background):
        path = folder / f"{PurePath(names[index]).stem}.png"
        if path.is_file():
            files[int(index)] = path
    if given is not None and not files:
        raise SourceError(
            f"There is no true depth in {folder} for the backgrounds that were looked at: files such as "
            f"{PurePath(names[0]).stem}.png were expected, named like the backgrounds."
        )
    size = (dataset.height, dataset.width)
    maps: dict[int, NDArray[np.float32]] = {}
    problems = []
    for index, path in files.items():
        try:
            maps[index] = _read_true_depth(path, size, dataset.document["spec"]["fit"])
        except (OSError, ValueError, SyntaxError) as exc:  # Pillow raises any of them on damaged files
            problems.append(f"{path}: {exc}; expected a 16-bit grayscale PNG in millimetres")
    if problems and given is not None:
        raise SourceError("These files of true depth cannot be used:", problems)
    if problems or not maps:
        return folder, None
    unknown = np.full(size, np.nan, np.float32)
    return folder, np.stack([maps.get(int(index), unknown) for index in placements.background])


def _read_true_depth(path: Path, size: tuple[int, int], fit: str) -> NDArray[np.float32]:
    """(h, w) metres, cut like a background."""
    with Image.open(path) as picture:
        if not picture.mode.startswith("I;16"):
            raise ValueError(f"found a picture of mode {picture.mode}")
        millimetres = np.asarray(picture)
    full = (millimetres.shape[1], millimetres.shape[0])
    left, top, right, bottom = crop_box(full, *size) if fit == "crop" else (0.0, 0.0, *full)
    rows = top + (np.arange(size[0]) + 0.5) * ((bottom - top) / size[0])
    columns = left + (np.arange(size[1]) + 0.5) * ((right - left) / size[1])
    nearest = millimetres[np.ix_(rows.astype(np.intp), columns.astype(np.intp))]
    return np.where(nearest == 0, np.nan, nearest / np.float32(_MILLIMETRES)).astype(np.float32)

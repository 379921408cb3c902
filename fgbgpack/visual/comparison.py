"""Depth models side by side on one dataset: run on its samples, and measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.recipe import Recipe
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.depth import BackgroundDepth, DepthSession, Device, Execution
from fgbgpack.depth.background import to_inverse
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.layered import figure_depth
from fgbgpack.depth.precision import Precision
from fgbgpack.depth.strategies import (
    DepthSource,
    Guided,
    Layered,
    Networks,
    PerSample,
    RenderedPictures,
    SceneDepth,
)
from fgbgpack.document import NetworkDepthInfo
from fgbgpack.errors import DatasetError, IncompleteDatasetError, SpecError
from fgbgpack.spec import LARGEST_SCALE
from fgbgpack.visual.shown_samples import spread_samples
from fgbgpack.visual.statistics import (
    Spread,
    aligned_error,
    band_width,
    centred_ranks,
    correlation,
    outline_bands,
    outline_step,
    spearman,
)
from fgbgpack.visual.true_depth import read_true_depth

#: The label of the dataset's own depth.
STORED = "stored"

#: Number of samples of one background that are rendered and run together.
_BATCH = 8
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class ModelFigures:
    """The measurements of one model.

    Attributes:
        label: A unique name: the model's name and scale, with ``guided:`` or ``layered:`` before it, or
            ``"stored"``.
        mode: ``"per-sample"``, or ``"guided"`` or ``"layered"`` where the model saw the backgrounds only.
        guide: The name of the guided network, which then saw the samples; else ``None``.
        scale: How many times larger than the sample the pictures were that the model saw.
        provider: The execution provider that ran the network on the samples, or on the backgrounds.
        step: How much nearer the foreground is than the pixels beside its outline, in standard deviations of
            the map: near 0 where people melt into the scene, above 1 where they stand out. ``None`` where
            no sample has an outline.
        truth: Rank agreement with true depth on the background's pixels; ``None`` without true depth.
        truth_error: Mean relative error of depth there, once scale and shift are fitted; ``None`` without
            true depth, and for relative depth, whose inverse has no meaning.
    """

    label: str
    model: str
    sha256: str | None
    mode: str
    guide: str | None
    scale: int
    precision: str
    provider: str | None
    quantity: Literal["depth", "inverse_depth"]
    unit: Literal["m"] | None
    step: Spread | None = None
    truth: Spread | None = None
    truth_error: Spread | None = None

    def inverse_depth(self, depth: NDArray[Any]) -> NDArray[np.float64]:
        """Depth in this quantity and unit as inverse depth, in which larger is nearer."""
        return to_inverse(depth.astype(np.float64), Quantity(self.quantity, self.unit))


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of the maps of two models, which are given by their labels."""

    first: str
    second: str
    rank: Spread


@dataclass(frozen=True)
class Comparison:
    """Models side by side on n samples of a dataset.

    Attributes:
        band: Width of the bands on both sides of the outline that ``step`` is measured in, in pixels.
        true_depth: The folder of true depth; ``None`` where there is none.
        models: The figures of each of m models: stored depth first, then in the given order.
        agreement: Each pair of them, in the same order.
        maps: (m, n, h, w) float16, the depth by each model, in its quantity and unit.
        truth: (n, h, w) float32, true depth of the background in metres, NaN where it is unknown or the
            foreground covers it; ``None`` without true depth.
    """

    dataset: str
    samples: tuple[int, ...]
    band: int
    true_depth: str | None
    models: tuple[ModelFigures, ...]
    agreement: tuple[Agreement, ...]
    maps: NDArray[np.float16] = field(repr=False, compare=False)
    truth: NDArray[np.float32] | None = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the arrays, as JSON."""
        return {
            "dataset": self.dataset,
            "samples": list(self.samples),
            "band": self.band,
            "true_depth": self.true_depth,
            "models": [asdict(model) for model in self.models],
            "agreement": [asdict(pair) for pair in self.agreement],
        }


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
    """Run depth models on samples of a dataset and measure their depth; the dataset is not changed.

    A model with a guide runs once on each background, and the guide on the samples, as for a dataset. Each
    model comes with the scale at which pictures are rendered for it: 1 to 4, or to 16 with a guide.

    Before it is measured, depth is turned so that larger is nearer: inverse depth stays as it is, metres
    are inverted, relative depth is negated. Figures are measured on each sample, then spread over samples:
    a model needs to be right only up to scale and shift.

    True depth is read by :func:`~fgbgpack.visual.true_depth.read_true_depth`, and compared where the
    foreground's alpha is 0. ``on_map`` is called in this thread after each batch of maps, with the number of
    maps made so far and the number of all maps.

    Raises:
        SpecError: There is nothing to compare, or a number is out of range; all problems are reported
            together.
        DatasetError: The dataset was imported, its images are not complete, or stored depth is not.
        SourceError: Original pictures or files of true depth are missing or unusable.
        DepthModelError: A model or the device cannot be used.
    """
    _refuse_options(models, stored, samples, seed)
    _require_pixels(dataset)
    figures = [_stored_figures(dataset)] if stored else []
    given = {"backgrounds": backgrounds, "foregrounds": foregrounds, "masks": masks}
    folders: dict[str, Any] = {kind: str(folder) for kind, folder in given.items() if folder is not None}
    recipe = dataset.recipe.with_spec(replace(dataset.recipe.spec, **folders))
    chosen = spread_samples(dataset, samples, seed)
    backgrounds_seen = dataset.sample_arrays["background"][chosen]
    batch = dataset[chosen]
    truth_folder, truth = read_true_depth(recipe, backgrounds_seen, true_depth)
    if truth is not None:
        truth[batch.mask > 0] = np.nan

    maps = np.empty((len(figures) + len(models), *batch.mask.shape), np.float16)
    if stored:
        maps[0] = batch.depth
    done, total = 0, len(models) * len(chosen)
    for networks, scale in models:
        # One at a time: several large networks may not fit into a device's memory together.
        source, session = _open(networks, scale, recipe, backgrounds_seen, Execution(precision, device))
        for count in _fill(maps[len(figures)], source, np.array(chosen), backgrounds_seen):
            done += count
            if on_map is not None:
                on_map(done, total)
        figures.append(_model_figures(networks, scale, session))
    band = band_width(recipe.spec.scene.height_range[1])
    measured, agreement = measure(_with_unique_labels(figures), maps, batch.mask, truth, band)
    return Comparison(
        dataset=dataset.path,
        samples=tuple(chosen),
        band=band,
        true_depth=None if truth is None else str(truth_folder),
        models=measured,
        agreement=agreement,
        maps=maps,
        truth=truth,
    )


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
        raise SpecError("The comparison cannot be made:", problems, code="comparison-invalid")


def _require_pixels(dataset: Dataset) -> None:
    dataset.require_recipe("recipe, by which its samples could be rendered at any size")
    if not dataset.document.pixels.complete:
        raise IncompleteDatasetError(
            f"The images of {dataset.path} are not complete: run fgbgpack create again to finish them.",
            code="pixels-incomplete",
        )


def _stored_figures(dataset: Dataset) -> ModelFigures:
    """The dataset's own depth, which must be complete."""
    depth = dataset.document.depth
    if not isinstance(depth, NetworkDepthInfo):
        raise DatasetError(
            f"{dataset.path} has no depth to compare with: fill it with fgbgpack depth.", code="depth-missing"
        )
    if not depth.complete:
        raise IncompleteDatasetError(
            f"The depth of {dataset.path} is not complete: run fgbgpack depth again to finish it.",
            code="depth-incomplete",
        )
    return ModelFigures(
        label=STORED,
        model=depth.model_name,
        sha256=depth.sha256,
        mode=depth.mode,
        guide=depth.guide_name,
        scale=depth.scale,
        precision=depth.precision,
        provider=depth.sample_provider,
        quantity=depth.quantity,
        unit=depth.unit,
    )


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """A few threads; an error leaves out what has not started."""
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fgbgpack-compare")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _open(
    networks: Networks,
    scale: int,
    recipe: Recipe,
    backgrounds_seen: NDArray[np.int32],
    execution: Execution,
) -> tuple[DepthSource, DepthSession]:
    """The source of the samples' depth, and the session that runs last; where it is made of the depth of
    their backgrounds, that is made first.
    """
    if networks.mode == "per-sample":
        pictures = RenderedPictures(recipe, scale, backgrounds_kept=_THREADS)
        per_sample = PerSample(pictures, networks.network, execution)
        return per_sample, per_sample.session
    scene = SceneDepth(recipe, networks.network, scale, execution)
    used = [int(background) for background in np.unique(backgrounds_seen)]
    depth = np.zeros(recipe.catalog.background.shape[:3], np.float32)
    with _threads() as pool:
        depth[used] = list(pool.map(scene, used))
    meaning = networks.meaning
    if networks.guide is None:
        figures = np.zeros((len(depth), 2), np.float32)
        seen_persons = recipe.catalog.seen_persons
        figures[used] = [figure_depth(depth[one], meaning, seen_persons(one)) for one in used]
        return Layered(recipe, depth, figures, meaning), scene.session
    guided = Guided(recipe, networks.guide, BackgroundDepth.of(depth, meaning), execution)
    return guided, guided.session


def _fill(
    maps: NDArray[np.float16],
    source: DepthSource,
    samples: NDArray[np.int64],
    backgrounds: NDArray[np.int32],
) -> Iterator[int]:
    """Fill (n, h, w) maps with the depth of (n,) samples; yield how many maps each batch filled."""

    def run(batch: slice) -> int:
        source(samples[batch], maps[batch])
        return len(maps[batch])

    with _threads() as pool:
        for future in as_completed([pool.submit(run, batch) for batch in _batches(backgrounds)]):
            yield future.result()


def _batches(backgrounds: NDArray[np.int32]) -> Iterator[slice]:
    """Batches of samples of one background."""
    start = 0
    for end in [*(np.flatnonzero(np.diff(backgrounds)) + 1), len(backgrounds)]:
        for first in range(start, end, _BATCH):
            yield slice(first, min(first + _BATCH, end))
        start = end


def _name(networks: Networks) -> str:
    return networks.name if networks.mode == "per-sample" else f"{networks.mode}:{networks.name}"


def _model_figures(networks: Networks, scale: int, session: DepthSession) -> ModelFigures:
    return ModelFigures(
        label=f"{_name(networks)} x{scale}",
        model=networks.name,
        sha256=networks.sha256,
        mode=networks.mode,
        guide=None if networks.guide is None else networks.guide.name,
        scale=scale,
        precision=session.precision,
        provider=session.provider,
        quantity=networks.meaning.kind,
        unit=networks.meaning.unit,
    )


def _with_unique_labels(models: Sequence[ModelFigures]) -> list[ModelFigures]:
    """The same with labels that differ: two files may have one name in their cards."""
    labels = [model.label for model in models]
    numbers = [labels[: i + 1].count(label) for i, label in enumerate(labels)]
    return [replace(m, label=f"{m.label} #{n}") if n > 1 else m for m, n in zip(models, numbers, strict=True)]


def measure(
    models: Sequence[ModelFigures],
    maps: NDArray[np.float16],
    mask: NDArray[np.uint8],
    truth: NDArray[np.float32] | None,
    band: int,
) -> tuple[tuple[ModelFigures, ...], tuple[Agreement, ...]]:
    """Measure m models on n samples; also returns the agreement of each pair of them, in the same order.

    ``maps`` is (m, n, h, w), ``mask`` (n, h, w) uint8 alpha, ``truth`` (n, h, w) in metres with NaN for
    pixels to leave out, and ``band`` the width in pixels of the bands on both sides of the outline.
    """
    steps: list[list[float | None]] = [[] for _ in models]
    true_ranks: list[list[float]] = [[] for _ in models]
    errors: list[list[float]] = [[] for _ in models]
    pairs: dict[tuple[int, int], list[float]] = {pair: [] for pair in combinations(range(len(models)), 2)}
    for sample, alpha in enumerate(mask):
        inside, outside = outline_bands(alpha, band)
        known = np.isfinite(truth[sample]) if truth is not None else np.zeros_like(inside)
        true_inverse = 1 / truth[sample][known].astype(np.float64) if truth is not None else None
        ranks = []
        for k, model in enumerate(models):
            inverse = model.inverse_depth(maps[k, sample])
            ranks.append(centred_ranks(inverse))
            steps[k].append(outline_step(inverse, inside, outside))
            if true_inverse is not None and true_inverse.size > 1:
                true_ranks[k].append(spearman(inverse[known], true_inverse))
                if model.quantity == "inverse_depth" or model.unit == "m":
                    errors[k].append(aligned_error(inverse[known], true_inverse))
        for (first, second), values in pairs.items():
            values.append(correlation(ranks[first], ranks[second]))
    measured = tuple(
        replace(
            model, step=Spread.of(steps[k]), truth=Spread.of(true_ranks[k]), truth_error=Spread.of(errors[k])
        )
        for k, model in enumerate(models)
    )
    agreement = tuple(
        Agreement(models[first].label, models[second].label, spread)
        for (first, second), values in pairs.items()
        if (spread := Spread.of(values)) is not None
    )
    return measured, agreement

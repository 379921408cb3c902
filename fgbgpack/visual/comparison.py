"""What comes out of comparing depth models, and how it is measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

#: The label of the dataset's own depth.
STORED = "stored"

#: Metres below this are taken for this: 0 has no inverse, and nothing in a room is nearer to its camera.
_NEAREST_METRES = 0.1


@dataclass(frozen=True)
class ModelFigures:
    """What was measured of one model.

    Attributes:
        label: What tells it from the others: its name and scale, ``guided:`` before it, or ``"stored"``.
        model: The model's name.
        sha256: Digest of its ONNX file.
        mode: How it ran: ``"per-sample"``, or ``"guided"`` where it saw the backgrounds only.
        guide: The name of the guided network, which then saw the samples; else ``None``.
        scale: How many times larger than the sample the pictures were that the model saw.
        precision: What products were taken in: ``"fp32"`` or ``"fp16"``.
        provider: The execution provider that ran the network on the samples.
        quantity: ``"depth"`` or ``"inverse_depth"``.
        unit: ``"m"`` or ``None``.
        step: How much nearer it has the foreground than what is beside its outline, in standard deviations
            of the map: near 0 where people melt into the scene, above 1 where they stand out. ``None`` where
            no sample has an outline.
        truth: Rank agreement with true depth, on the background's pixels; ``None`` without true depth.
        truth_error: Mean relative error of depth there, once scale and shift are fitted; ``None`` without
            true depth, and for relative depth, whose inverse means nothing.
    """

    label: str
    model: str
    sha256: str
    mode: str
    guide: str | None
    scale: int
    precision: str
    provider: str
    quantity: str
    unit: str | None
    step: Spread | None
    truth: Spread | None
    truth_error: Spread | None


@dataclass(frozen=True)
class Agreement:
    """How far two models order the pixels of a sample alike.

    Attributes:
        first: Label of one model.
        second: Label of the other.
        rank: Spearman's rank correlation of their maps.
    """

    first: str
    second: str
    rank: Spread


@dataclass(frozen=True)
class Comparison:
    """Models side by side on n samples of a dataset.

    Attributes:
        dataset: Where the dataset is.
        samples: The samples, sorted.
        band: How far from the outline depth was looked at, in pixels.
        true_depth: The folder of true depth; ``None`` where there is none.
        models: The figures of each of m models: stored depth first, then in the order that was given.
        agreement: Each pair of them, in the same order.
        maps: (m, n, h, w) float16, what each model answered, in its quantity and unit.
        truth: (n, h, w) float32, true depth of the background in metres, NaN where it is not known or the
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
            "models": [dataclasses.asdict(model) for model in self.models],
            "agreement": [dataclasses.asdict(pair) for pair in self.agreement],
        }


def nearness(depth: NDArray[Any], quantity: str, unit: str | None) -> NDArray[np.float64]:
    """The same map with larger nearer."""
    values = depth.astype(np.float64)
    if quantity == "inverse_depth":
        return values
    return 1 / np.maximum(values, _NEAREST_METRES) if unit == "m" else -values


def measure(
    described: list[dict[str, Any]],
    maps: NDArray[np.float16],
    mask: NDArray[np.uint8],
    truth: NDArray[np.float32] | None,
    foreground_height: int,
) -> tuple[tuple[ModelFigures, ...], tuple[Agreement, ...]]:
    """Measure m models on n samples.

    Args:
        described: What each model's :class:`ModelFigures` are but the figures themselves: a dictionary of
            the other fields.
        maps: (m, n, h, w), what each model answered, in its quantity and unit.
        mask: (n, h, w) uint8, the foreground's alpha.
        truth: (n, h, w), true depth in metres, NaN where it is not to be looked at; ``None`` without it.
        foreground_height: Height of the foregrounds in pixels; the band at their outline depends on it.

    Returns:
        The figures of each model, and the agreement of each pair of them, in the same order.
    """
    models = range(len(described))
    steps: list[list[float | None]] = [[] for _ in models]
    ranks_true: list[list[float]] = [[] for _ in models]
    errors: list[list[float]] = [[] for _ in models]
    pairs: dict[tuple[int, int], list[float]] = {pair: [] for pair in combinations(models, 2)}
    band = band_width(foreground_height)
    for sample, alpha in enumerate(mask):
        inside, outside = outline_bands(alpha, band)
        known = np.isfinite(truth[sample]) if truth is not None else np.zeros_like(inside)
        inverse = 1 / truth[sample][known].astype(np.float64) if truth is not None else None
        ranks = []
        for k, model in enumerate(described):
            near = nearness(maps[k, sample], model["quantity"], model["unit"])
            ranks.append(centred_ranks(near))
            steps[k].append(outline_step(near, inside, outside))
            if inverse is not None and inverse.size > 1:
                ranks_true[k].append(spearman(near[known], inverse))
                if model["quantity"] == "inverse_depth" or model["unit"] == "m":
                    errors[k].append(aligned_error(near[known], inverse))
        for (first, second), values in pairs.items():
            values.append(correlation(ranks[first], ranks[second]))
    figures = tuple(
        ModelFigures(
            **model,
            step=Spread.of(steps[k]),
            truth=Spread.of(ranks_true[k]),
            truth_error=Spread.of(errors[k]),
        )
        for k, model in enumerate(described)
    )
    labels = [model.label for model in figures]
    agreement = tuple(
        Agreement(labels[first], labels[second], spread)
        for (first, second), values in pairs.items()
        if (spread := Spread.of(values)) is not None
    )
    return figures, agreement

"""A picture of depth models side by side."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import SpecError
from fgbgpack.sources.names import counted
from fgbgpack.visual.canvas import MAX_ROWS, Canvas, Layout
from fgbgpack.visual.comparison import STORED, Comparison
from fgbgpack.visual.statistics import outline_bands, outline_step


class _ComparisonLayout(Layout):
    """A label, the columns, and a line below each row."""

    def __init__(self, sample_size: tuple[int, int], rows: int, columns: int) -> None:
        super().__init__(sample_size, rows)
        self.width = self.column(columns) - self.gap + self.margin
        self.height = self.row(rows) + self.margin

    def column(self, index: int) -> int:
        return self.margin + self.label_width + self.gap + index * (self.column_width + self.gap)

    def row(self, index: int) -> int:
        return self.margin + 8 * self.line + index * (self.row_height + self.line + 2 * self.gap)


_Canvas = Canvas[_ComparisonLayout]


def render_comparison(dataset: Dataset, comparison: Comparison, rows: int = 6) -> Image.Image:
    """Draw samples of a comparison, one a row: composite, mask, true depth, and the depth by each model.

    Depth is drawn with larger nearer, as it was compared; colours span each map's own range, bright is near.
    ``rows`` samples are drawn, evenly from those compared; all of them if there are fewer. A SpecError says
    that ``rows`` is not 1 to 48.
    """
    if not 1 <= rows <= MAX_ROWS:
        raise SpecError(f"rows: found {rows}, expected 1 to {MAX_ROWS}.", code="rows-invalid")
    drawn = np.unique(np.linspace(0, len(comparison.samples) - 1, rows).round().astype(int))
    headings = _headings(comparison)
    layout = _ComparisonLayout((dataset.width, dataset.height), len(drawn), len(headings))
    canvas = Canvas(layout)
    x, y = layout.margin, layout.margin + round(1.15 * layout.line)
    canvas.write((x, y), "Depth compared", canvas.title)
    details = (
        f"{PurePath(dataset.path).name}  ·  {counted(len(comparison.samples), 'sample')}, medians over them"
    )
    canvas.write((x, y + round(1.25 * layout.line)), details, canvas.body, width=layout.width)
    for index, (name, notes) in enumerate(headings):
        x, y = layout.column(index), layout.margin + 4 * layout.line
        canvas.write((x, y), name, canvas.heading, width=layout.column_width)
        for i, note in enumerate(notes, start=1):
            canvas.write((x, y + i * layout.line), note, canvas.small, width=layout.column_width)
    for row, index in enumerate(drawn):
        _draw_sample(canvas, layout.row(row), int(index), dataset, comparison)
    return canvas.picture


def _headings(comparison: Comparison) -> list[tuple[str, list[str]]]:
    columns: list[tuple[str, list[str]]] = [("Composite", []), ("Mask", ["alpha, 0 to 255"])]
    if comparison.truth is not None:
        columns.append(("True depth", ["of the background"]))
    for model in comparison.models:
        notes = [
            f"scale {model.scale}" if model.guide is None else f"guided, scale {model.scale}",
            "no outline" if model.step is None else f"step {model.step.median:.2f}",
        ]
        if model.label == STORED:
            notes[0] = f"{model.model}, {notes[0]}"
        if model.truth is not None:
            notes.append(f"true depth {model.truth.median:.2f}")
        columns.append((STORED if model.label == STORED else model.model, notes))
    return columns


def _draw_sample(canvas: _Canvas, top: int, index: int, dataset: Dataset, comparison: Comparison) -> None:
    layout = canvas.layout
    sample = comparison.samples[index]
    batch = dataset[sample]
    catalog = dataset.recipe.catalog
    label = (
        (f"Sample {sample:,}", canvas.heading),
        (catalog.backgrounds[int(batch.background)].name, canvas.small),
        (catalog.foregrounds[int(batch.foreground)].name, canvas.small),
    )
    for i, (text, font) in enumerate(label, start=1):
        canvas.write((layout.margin, top + i * layout.line), text, font, width=layout.label_width)
    canvas.picture_cell(layout.column(0), top, batch.image)
    canvas.picture_cell(layout.column(1), top, batch.mask)
    first = 2
    if comparison.truth is not None:
        _draw_map(canvas, layout.column(2), top, 1 / comparison.truth[index].astype(np.float64))
        first = 3
    bands = outline_bands(batch.mask, comparison.band)
    for k, model in enumerate(comparison.models):
        left = layout.column(first + k)
        inverse = model.inverse_depth(comparison.maps[k, index])
        _draw_map(canvas, left, top, inverse)
        if (step := outline_step(inverse, *bands)) is not None:
            canvas.write((left, top + layout.cell_height + layout.line), f"step {step:.2f}", canvas.small)


def _draw_map(canvas: _Canvas, left: int, top: int, inverse: NDArray[np.float64]) -> None:
    if np.isfinite(inverse).any():
        canvas.depth_cell(left, top, inverse, larger_is_nearer=True)
    else:
        canvas.empty_cell(left, top, "not known")

"""A picture of depth models side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import SpecError
from fgbgpack.visual.canvas import MOST_ROWS, Layout, Page, cell_size
from fgbgpack.visual.comparison import STORED, Comparison, nearness
from fgbgpack.visual.statistics import outline_bands, outline_step


@dataclass(frozen=True)
class _Sheet(Layout):
    """Where everything goes: a label, the columns, and a line below each row."""

    columns: int

    def column(self, index: int) -> int:
        """The left edge of a column."""
        return self.margin + self.label_width + self.gap + index * (self.column_width + self.gap)

    @property
    def width(self) -> int:
        return self.column(self.columns) - self.gap + self.margin

    def row(self, index: int) -> int:
        """The top edge of a row."""
        return self.margin + 8 * self.line + index * (self.row_height + self.line + 2 * self.gap)

    @property
    def height(self) -> int:
        return self.row(self.rows) + self.margin


def render_comparison(dataset: Dataset, comparison: Comparison, rows: int = 6) -> Image.Image:
    """Draw samples of a comparison, one a row: composite, mask, true depth, and what each model answered.

    Depth is drawn with larger nearer, as it was compared; colours span each map's own range, bright is near.

    Args:
        dataset: The dataset that was compared on.
        comparison: What :func:`~fgbgpack.visual.compare.compare` gave.
        rows: How many samples to draw, evenly from those compared; all of them if there are fewer.

    Returns:
        An RGB picture.

    Raises:
        SpecError: There are fewer rows than 1 or more than 48.
    """
    if not 1 <= rows <= MOST_ROWS:
        raise SpecError(f"rows: found {rows}, expected 1 to {MOST_ROWS}.")
    drawn = np.unique(np.linspace(0, len(comparison.samples) - 1, rows).round().astype(int))
    headings = _headings(comparison)
    sheet = _Sheet(*cell_size(dataset.width, dataset.height), len(drawn), len(headings))
    page = Page(sheet)
    title = sheet.margin + round(1.15 * sheet.line)
    facts = f"{PurePath(dataset.path).name}  ·  {len(comparison.samples):,} samples, medians over them"
    page.write((sheet.margin, title), "Depth compared", page.title)
    page.write((sheet.margin, title + round(1.25 * sheet.line)), facts, page.body, width=sheet.width)
    for index, (name, notes) in enumerate(headings):
        x, y = sheet.column(index), sheet.margin + 4 * sheet.line
        page.write((x, y), name, page.heading, width=sheet.column_width)
        for i, note in enumerate(notes, start=1):
            page.write((x, y + i * sheet.line), note, page.small, width=sheet.column_width)
    for row, index in enumerate(drawn):
        _draw_sample(page, row, int(index), dataset, comparison)
    return page.canvas


def _headings(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """The name of each column, and the lines below it."""
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


def _draw_sample(page: Page[_Sheet], row: int, index: int, dataset: Dataset, comparison: Comparison) -> None:
    sheet = page.layout
    sample = comparison.samples[index]
    batch = dataset[sample]
    sources = dataset.document["sources"]
    top = sheet.row(row)
    names = (
        sources["backgrounds"][int(batch.background)]["name"],
        sources["foregrounds"][int(batch.foreground)]["name"],
    )
    page.write((sheet.margin, top + sheet.line), f"Sample {sample:,}", page.heading, width=sheet.label_width)
    for i, name in enumerate(names, start=2):
        page.write((sheet.margin, top + i * sheet.line), name, page.small, width=sheet.label_width)
    page.picture_cell(sheet.column(0), top, batch.image)
    page.picture_cell(sheet.column(1), top, batch.mask)
    first = 2
    if comparison.truth is not None:
        _draw_map(page, first, top, 1 / comparison.truth[index].astype(np.float64))
        first += 1
    bands = outline_bands(batch.mask, comparison.band)
    for k, model in enumerate(comparison.models):
        near = nearness(comparison.maps[k, index], model.quantity, model.unit)
        _draw_map(page, first + k, top, near)
        step = outline_step(near, *bands)
        if step is not None:
            below = (sheet.column(first + k), top + sheet.cell_height + sheet.line)
            page.write(below, f"step {step:.2f}", page.small)


def _draw_map(page: Page[_Sheet], column: int, top: int, near: NDArray[np.float64]) -> None:
    """A map in colours; what is not known of it stays hatched."""
    left = page.layout.column(column)
    if np.isfinite(near).any():
        page.depth_cell(left, top, near, larger_is_nearer=True)
    else:
        page.empty_cell(left, top, "not known")

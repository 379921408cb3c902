"""A figure of some samples: what they were made of, and what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.composition.placement import Placements
from fgbgpack.dataset.batch import Batch
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import SpecError
from fgbgpack.sources.catalog import Catalog
from fgbgpack.visual.canvas import (
    MOST_ROWS,
    MUTED,
    RULE,
    Colour,
    Layout,
    Page,
    cell_size,
    problems_of_path,
    write_picture,
)
from fgbgpack.visual.colours import colour_map

_SHOWN_PROBLEMS = 8
_SOURCE_COLUMNS, _COLUMNS = 3, 6

_CHECK_LIGHT: Colour = (250, 250, 250)
_CHECK_DARK: Colour = (218, 221, 226)
_WARNING: Colour = (255, 236, 200)
_WARNING_INK: Colour = (122, 66, 0)


def write_preview(
    dataset: Dataset, path: Path, samples: Sequence[int] | None = None, rows: int = 6, seed: int = 0
) -> None:
    """Draw some samples as :func:`render_preview` does, and write the figure to a file, in one step.

    Args:
        dataset: An open dataset.
        path: The file; its extension tells the format (PNG, JPEG, WebP, TIFF or BMP). It is replaced if
            it is there.
        samples: As in :func:`render_preview`.
        rows: As in :func:`render_preview`.
        seed: As in :func:`render_preview`.

    Raises:
        SpecError: The extension is of none of these formats, the folder is not there, the file cannot be
            written, or what :func:`render_preview` refuses; all that can be told before writing is told
            together.
    """
    path = Path(path)
    _refuse([*problems_of_path(path), *_problems_of_rows(dataset, samples, rows, seed)])
    write_picture(_render(dataset, samples, rows, seed), path)


def render_preview(
    dataset: Dataset, samples: Sequence[int] | None = None, rows: int = 6, seed: int = 0
) -> Image.Image:
    """Draw some samples, one a row: background, foreground and its mask; composite, mask and depth.

    Imported samples have no sources: of them composite, mask and depth are drawn.

    Background, composite, mask and depth are enlarged by a whole factor, every pixel a square, or reduced
    with a Lanczos filter where the longer side has more than 256 pixels. The foreground is drawn as it was
    pasted (mirrored or not), as large as fits. Depth colours span the range of their own sample, near is
    bright, and the bar beside them tells its numbers.

    Args:
        dataset: An open dataset; one that is incomplete is drawn with a note that says so.
        samples: The samples, in the order of the rows; ``None`` for ``rows`` samples drawn at random, spread
            over backgrounds and foregrounds and sorted.
        rows: How many samples to draw where ``samples`` is ``None``; all of them if there are fewer.
        seed: What the random choice depends on, 0 or more.

    Returns:
        An RGB picture. The same dataset, samples and version of Pillow give the same pixels.

    Raises:
        SpecError: ``rows`` is below 1, ``seed`` below 0, ``samples`` is empty or names some that are not in
            the dataset, or there are more than 48 rows.
    """
    _refuse(_problems_of_rows(dataset, samples, rows, seed))
    return _render(dataset, samples, rows, seed)


def choose_samples(placements: Placements, count: int, seed: int) -> list[int]:
    """Draw samples at random, spread over backgrounds, foregrounds, and mirrored or not.

    No background or foreground is drawn again before all others have been, and no pair of them either.

    Args:
        placements: The placements of all n samples.
        count: How many to draw; all of them if there are fewer.
        seed: 0 or more.

    Returns:
        Different sample numbers, sorted.
    """
    rng = np.random.default_rng(seed)
    backgrounds = rng.permutation(np.unique(placements.background))
    foregrounds = rng.permutation(np.unique(placements.foreground))
    cycle = int(np.lcm(len(backgrounds), len(foregrounds)))
    chosen: list[int] = []
    draw = 0
    while len(chosen) < min(count, len(placements)):
        # Walking both lists at once meets every pair if one of them slips by one whenever both are through.
        background = backgrounds[draw % len(backgrounds)]
        foreground = foregrounds[(draw + draw // cycle) % len(foregrounds)]
        draw += 1
        of_pair = np.flatnonzero(
            (placements.background == background) & (placements.foreground == foreground)
        )
        left = of_pair[~np.isin(of_pair, chosen)]
        turned = left[placements.flip[left] == bool(draw % 2)]
        if len(left):
            chosen.append(int(rng.choice(turned if len(turned) else left)))
    return sorted(chosen)


# --- what is asked for -----------------------------------------------------------------------------


def _refuse(problems: list[str]) -> None:
    if problems:
        raise SpecError("The preview cannot be made:", problems)


def _problems_of_rows(dataset: Dataset, samples: Sequence[int] | None, rows: int, seed: int) -> list[str]:
    problems = []
    count = len(dataset)
    if samples is None:
        if rows < 1:
            problems.append(f"rows: found {rows}, expected 1 or more")
        if min(rows, count) > MOST_ROWS:
            problems.append(f"rows: found {rows}, expected at most {MOST_ROWS}")
        if seed < 0:
            problems.append(f"seed: found {seed}, expected 0 or more")
        return problems
    if not len(samples):
        problems.append("samples: found none, expected at least one")
    outside = [sample for sample in samples if not 0 <= sample < count]
    if outside:
        shown = ", ".join(map(str, outside[:_SHOWN_PROBLEMS]))
        more = f" and {len(outside) - _SHOWN_PROBLEMS} more" if len(outside) > _SHOWN_PROBLEMS else ""
        problems.append(f"samples: {dataset.path} has no {shown}{more}, expected 0 to {count - 1}")
    if len(samples) > MOST_ROWS:
        problems.append(f"samples: found {len(samples)}, expected at most {MOST_ROWS}")
    return problems


# --- words -----------------------------------------------------------------------------------------


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _meaning(quantity: str | None, unit: str | None) -> str:
    """What the numbers of depth are."""
    if quantity is None:
        return f"depth of an unknown kind, in {unit}" if unit else "depth of an unknown kind"
    word = "inverse depth" if quantity == "inverse_depth" else "depth"
    if unit:
        return f"{word} in {unit}"
    return f"{word} (relative, larger is {'nearer' if quantity == 'inverse_depth' else 'farther'})"


def _how_deep(depth: Mapping[str, Any] | None) -> str:
    """What filled depth, from its section of the document."""
    if depth is None:
        return "no depth"
    if depth["mode"] == "imported":
        return "imported depth"
    by = f"depth by {depth['model']['name']} at scale {depth['scale']}"
    return by if depth["guide"] is None else f"{by}, guiding {depth['guide']['model']['name']}"


# --- the figure ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout(Layout):
    """Where everything goes."""

    with_bar: bool
    with_banner: bool
    with_sources: bool = True

    @classmethod
    def of(cls, dataset: Dataset, rows: int) -> _Layout:
        cell_width, cell_height = cell_size(dataset.width, dataset.height)
        return cls(cell_width, cell_height, rows, dataset.has_depth, not dataset.complete, dataset.has_recipe)

    @property
    def bar_width(self) -> int:
        return round(self.text * 0.8)

    @property
    def depth_width(self) -> int:
        """The column of depth with its bar and the bar's numbers."""
        return self.column_width + (self.gap + self.bar_width + self.text * 5 if self.with_bar else 0)

    def column(self, index: int) -> int:
        """The left edge of a column: three of the sources, if there are any, and three of the sample, which
        stand a little apart.
        """
        start = self.margin + self.label_width + self.gap
        if not self.with_sources:
            return start + (index - _SOURCE_COLUMNS) * (self.column_width + self.gap)
        return start + index * (self.column_width + self.gap) + (index >= _SOURCE_COLUMNS) * 2 * self.gap

    @property
    def columns(self) -> range:
        """The numbers of the columns."""
        return range(0 if self.with_sources else _SOURCE_COLUMNS, _COLUMNS)

    @property
    def width(self) -> int:
        return self.column(5) + self.depth_width + self.margin

    @property
    def banner_top(self) -> int:
        return self.margin + 4 * self.line - self.gap

    @property
    def groups_top(self) -> int:
        return self.banner_top + (round(2.6 * self.line) if self.with_banner else 0)

    @property
    def cells_top(self) -> int:
        return self.groups_top + round(4.8 * self.line)

    def row(self, index: int) -> int:
        """The top edge of a row."""
        return self.cells_top + index * (self.row_height + self.gap + self.gap // 2)

    @property
    def height(self) -> int:
        return self.row(self.rows) + (2 * self.line if self.with_bar else 0) + self.margin - self.gap


def _checkerboard(layout: _Layout) -> Image.Image:
    y, x = np.mgrid[: layout.cell_height, : layout.cell_width] // max(4, layout.text // 2)
    dark = ((x + y) % 2 == 1)[..., None]
    return Image.fromarray(np.where(dark, np.array(_CHECK_DARK), np.array(_CHECK_LIGHT)).astype(np.uint8))


def _render(dataset: Dataset, samples: Sequence[int] | None, rows: int, seed: int) -> Image.Image:
    if samples is not None:
        chosen = [int(i) for i in samples]
    elif dataset.has_recipe:
        chosen = choose_samples(dataset.placements, rows, seed)
    else:
        drawn = np.random.default_rng(seed).choice(len(dataset), min(rows, len(dataset)), replace=False)
        chosen = sorted(drawn.tolist())
    page = Page(_Layout.of(dataset, len(chosen)))
    _draw_head(page, dataset)
    catalog = dataset.catalog() if dataset.has_recipe else None
    for row, sample in enumerate(chosen):
        _draw_row(page, row, sample, dataset, catalog)
    return page.canvas


def _draw_head(page: Page[_Layout], dataset: Dataset) -> None:
    layout = page.layout
    left, room = layout.margin, layout.width - 2 * layout.margin
    facts = [f"{len(dataset):,} samples", f"{dataset.width} x {dataset.height} pixels"]
    if dataset.has_recipe:
        sources = dataset.document["sources"]
        facts += [f"{len(sources[kind]):,} {kind}" for kind in ("backgrounds", "foregrounds")]
    else:
        facts.append("imported")
    facts.append(_how_deep(dataset.document["depth"]))
    title = layout.margin + round(1.15 * layout.line)
    page.write((left, title), PurePath(dataset.path).name or dataset.path, page.title, width=room)
    page.write((left, title + round(1.25 * layout.line)), "  ·  ".join(facts), page.body, MUTED, width=room)
    if layout.with_banner:
        top, bottom = layout.banner_top, layout.banner_top + round(1.7 * layout.line)
        page.draw.rectangle((left, top, left + room, bottom), fill=_WARNING)
        message = "Incomplete: part of this dataset is not written yet"
        middle = (left + layout.gap, (top + bottom) // 2)
        page.write(middle, message, page.body, _WARNING_INK, width=room - 2 * layout.gap, anchor="lm")

    groups = [(3, layout.column(5) + layout.depth_width, "SAMPLE")]
    if layout.with_sources:
        groups.insert(0, (0, layout.column(2) + layout.column_width, "SOURCES"))
    for first, end, name in groups:
        start = layout.column(first)
        base = layout.groups_top + layout.line
        page.write((start, base), name, page.small, MUTED)
        below = base + layout.gap
        page.draw.line((start, below, end - 1, below), RULE, max(1, layout.text // 12))

    size = f"{dataset.width} x {dataset.height}"
    attributes: dict[str, Any] = dict(dataset.depth.attrs)
    meaning = (
        _meaning(attributes.get("quantity"), attributes.get("unit")) if dataset.has_depth else "no depth"
    )
    columns = (
        ("Background", "resized"),
        ("Foreground", "resized, as pasted"),
        ("Its mask", "alpha, 0 to 255"),
        ("Composite", f"{size}, RGB"),
        ("Mask", f"{size}, 0 to 255"),
        ("Depth", meaning),
    )
    for index in layout.columns:
        name, note = columns[index]
        at = (layout.column(index), layout.groups_top + round(2.5 * layout.line))
        width = layout.depth_width if index == 5 else layout.column_width
        page.write(at, name, page.heading, width=width)
        page.wrap((at[0], at[1] + round(0.95 * layout.line)), note, width)
    if dataset.has_depth:
        order = "bright is near, dark is far" if attributes.get("quantity") else "bright is small"
        note = f"Depth colours span each sample's own range; {order}."
        below = layout.row(layout.rows) + round(1.1 * layout.line)
        left = layout.column(layout.columns[0])
        page.write((left, below), note, page.small, MUTED, width=layout.width - left)


def _draw_row(page: Page[_Layout], row: int, sample: int, dataset: Dataset, catalog: Catalog | None) -> None:
    layout = page.layout
    batch = dataset[sample]
    top = layout.row(row) + (layout.row_height - layout.cell_height) // 2
    if catalog is not None:
        _draw_sources(page, row, top, sample, batch, catalog)
    else:
        _draw_label(page, row, sample, [("", (dataset.names or [""])[sample])], [])

    # Nothing that is written is empty: the pasted foreground has some alpha.
    written = dataset.document["pixels"]["complete"] or batch.mask.any() or batch.image.any()
    for index, pixels in ((3, batch.image), (4, batch.mask)):
        if written:
            page.picture_cell(layout.column(index), top, pixels)
        else:
            page.empty_cell(layout.column(index), top, "not written")
    _draw_depth(page, layout.column(5), top, batch.depth, dataset.depth.attrs)


def _draw_sources(
    page: Page[_Layout], row: int, top: int, sample: int, batch: Batch, catalog: Catalog
) -> None:
    layout = page.layout
    background, foreground = int(batch.background), int(batch.foreground)
    names = [("bg", catalog.backgrounds[background].name), ("fg", catalog.foregrounds[foreground].name)]
    turned = "flipped" if batch.flip else "not flipped"
    placed = [f"{turned}  ·  replica {int(batch.replica)}", f"y {int(batch.y)}, x {int(batch.x)}"]
    _draw_label(page, row, sample, names, placed)

    page.picture_cell(layout.column(0), top, catalog.background[background])
    height, width = (int(side) for side in catalog.foreground_size[foreground])
    patch = catalog.foreground[foreground, :height, :width]
    if batch.flip:
        patch = patch[:, ::-1]
    page.patch_cell(layout.column(1), top, patch, _checkerboard(layout))
    black = Image.new("RGB", (layout.cell_width, layout.cell_height))
    page.patch_cell(layout.column(2), top, patch[..., 3], black)


def _draw_label(
    page: Page[_Layout], row: int, sample: int, names: list[tuple[str, str]], placed: list[str]
) -> None:
    layout = page.layout
    left = layout.margin
    base = layout.row(row) + (layout.row_height - 5 * layout.line) // 2 + round(0.95 * layout.line)
    page.write((left, base), f"Sample {sample:,}", page.heading, width=layout.label_width)
    indent = round(max(page.small.getlength("bg"), page.small.getlength("fg"))) + layout.text // 3
    for i, (kind, name) in enumerate(names, start=1):
        below = base + i * layout.line
        page.write((left, below), kind, page.small, MUTED)
        inner = indent if kind else 0
        page.write((left + inner, below), name, page.small, width=layout.label_width - inner)
    for i, line in enumerate(placed, start=1 + len(names)):
        page.write((left, base + i * layout.line), line, page.small, MUTED, width=layout.label_width)


def _draw_depth(
    page: Page[_Layout], left: int, top: int, depth: NDArray[np.float16] | None, attributes: Mapping[str, Any]
) -> None:
    layout = page.layout
    filled = np.zeros((1, 1), np.bool_) if depth is None else np.isfinite(depth)
    if depth is None or not filled.any():
        page.empty_cell(left, top, "no depth" if depth is None else "not filled")
        return
    larger_is_nearer = attributes.get("quantity") == "inverse_depth"
    page.depth_cell(left, top, depth, larger_is_nearer=larger_is_nearer)

    bar_left = left + layout.cell_width + layout.gap
    bar = np.repeat(colour_map()[::-1, None], layout.bar_width, axis=1)
    page.canvas.paste(
        Image.fromarray(bar).resize((layout.bar_width, layout.cell_height), Image.Resampling.BOX),
        (bar_left, top),
    )
    page.frame(bar_left, top, layout.bar_width, layout.cell_height)

    low, high = float(depth[filled].min()), float(depth[filled].max())
    near, far = (high, low) if larger_is_nearer else (low, high)
    unit = f" {attributes.get('unit')}" if attributes.get("unit") else ""
    x = bar_left + layout.bar_width + layout.gap // 2
    bottom = top + layout.cell_height
    step = layout.line
    page.write((x, top), _number(near) + unit, page.small, anchor="lt")
    page.write((x, bottom), _number(far) + unit, page.small, anchor="ls")
    if layout.cell_height >= 5 * step:
        middle = (x, top + layout.cell_height // 2)
        if attributes.get("quantity"):
            page.write((x, top + step), "near", page.small, MUTED, anchor="lt")
            page.write((x, bottom - step), "far", page.small, MUTED, anchor="ls")
        page.write(middle, _number((near + far) / 2) + unit, page.small, anchor="lm")

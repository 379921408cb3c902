"""A picture of some samples: what they were made of, and the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.dataset.batch import Batch
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.document import DEPTH, INSTANCE, DepthInfo, ImportedDepthInfo
from fgbgpack.errors import SpecError
from fgbgpack.files import require_local
from fgbgpack.sources.catalog import Catalog
from fgbgpack.sources.names import counted, pictures_of
from fgbgpack.visual.canvas import (
    MAX_ROWS,
    MUTED,
    RULE,
    Canvas,
    Colour,
    Layout,
    path_problems,
    two_colours,
    write_picture,
)
from fgbgpack.visual.colours import colour_map, depth_limits
from fgbgpack.visual.shown_samples import instance_picture, objects_in_words, spread_samples

_SHOWN_PROBLEMS = 8

#: What a row can show of a sample. The first three, of the sources, are left out for imported samples, two of
#: them for scenes, and instances for all others.
COLUMNS = ("background", "foreground", "alpha", "image", "mask", "instance", "depth")
_BACKGROUND, _FOREGROUND, _ALPHA, _IMAGE, _MASK, _INSTANCE, _DEPTH = range(7)

_SMALLEST_CELL, _LARGEST_CELL = 16, 4096
#: The most pixels that cells take from top to bottom: WebP has 16,383.
_MOST_PIXELS = 16_000

_CHECK_LIGHT: Colour = (250, 250, 250)
_CHECK_DARK: Colour = (218, 221, 226)
_WARNING: Colour = (255, 236, 200)
_WARNING_INK: Colour = (122, 66, 0)


def write_preview(
    dataset: Dataset,
    path: Path,
    samples: Sequence[int] | None = None,
    rows: int = 6,
    seed: int = 0,
    *,
    columns: Sequence[str] | None = None,
    cell: int | None = None,
) -> None:
    """Draw some samples as :func:`render_preview` does, and write the picture to a file in one step.

    The extension gives the format: PNG, JPEG, WebP, TIFF or BMP.

    Raises:
        SpecError: The extension is unknown, the folder is missing, :func:`render_preview` refuses the
            samples (these are reported together), or the file cannot be written.
    """
    require_local(path, "Previews are")
    path = Path(path)
    problems = _problems(dataset, samples, rows, seed, columns, cell)
    _refuse([*path_problems(path), *problems])
    write_picture(_render(dataset, samples, rows, seed, columns, cell), path)


def render_preview(
    dataset: Dataset,
    samples: Sequence[int] | None = None,
    rows: int = 6,
    seed: int = 0,
    *,
    columns: Sequence[str] | None = None,
    cell: int | None = None,
) -> Image.Image:
    """Draw some samples, one a row: background, foreground and its mask; composite, mask and depth.

    Imported samples have no sources: only composite, mask and depth are drawn. An incomplete dataset gets a
    banner that says so.

    Background, composite, mask and depth are enlarged by a whole factor, every pixel a square, or reduced
    with a Lanczos filter where the longer side is longer than a cell. The foreground is drawn as it was
    pasted (mirrored or not), as large as fits. Depth colours span the range of their own sample without
    outliers, near is bright, and the bar beside them shows the values. Large is bright where it is not known
    what values mean.

    Args:
        dataset: An open dataset.
        samples: The samples, in the order of the rows; ``None`` for ``rows`` samples drawn at random, spread
            over backgrounds and foregrounds and sorted.
        rows: Number of samples where ``samples`` is ``None``; all of them if there are fewer.
        seed: Seed of the random choice, 0 or more.
        columns: Which of ``COLUMNS`` are drawn, in their usual order; ``None`` for all that there are.
        cell: The longer side of a cell in pixels, 16 to 4096; ``None`` for about 224.

    Returns:
        An RGB picture. The same dataset, samples and version of Pillow give the same pixels.

    Raises:
        SpecError: A number is out of range, ``samples`` is empty, there are more than 48 rows, or a column is
            unknown or not there.
    """
    _refuse(_problems(dataset, samples, rows, seed, columns, cell))
    return _render(dataset, samples, rows, seed, columns, cell)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise SpecError("The preview cannot be drawn:", problems, code="preview-invalid")


def _problems(
    dataset: Dataset,
    samples: Sequence[int] | None,
    rows: int,
    seed: int,
    columns: Sequence[str] | None,
    cell: int | None,
) -> list[str]:
    problems = _sample_problems(dataset, samples, rows, seed)
    for name in columns or ():
        if name not in COLUMNS:
            problems.append(f"columns: {name!r} is not one of {', '.join(COLUMNS)}")
        elif name not in _columns_of(dataset) and not (name == DEPTH and not dataset.has_depth):
            kind = "made of scenes" if dataset.document.is_scene else "not made of scenes"
            kind = kind if dataset.has_recipe else "imported"
            problems.append(f"columns: {dataset.path} is {kind}, and has no {name}")
    if columns is not None and not len(columns):
        problems.append("columns: found none, expected at least one")
    count = min(rows, len(dataset)) if samples is None else len(samples)
    if cell is not None and not _SMALLEST_CELL <= cell <= _LARGEST_CELL:
        problems.append(f"cell: found {cell}, expected {_SMALLEST_CELL} to {_LARGEST_CELL} pixels")
    elif cell is not None and count * cell > _MOST_PIXELS:
        problems.append(f"cell: {count} rows of {cell} pixels are more than {_MOST_PIXELS}")
    return problems


def _sample_problems(dataset: Dataset, samples: Sequence[int] | None, rows: int, seed: int) -> list[str]:
    problems, count = [], len(dataset)
    if samples is None:
        if rows < 1:
            problems.append(f"rows: found {rows}, expected 1 or more")
        if min(rows, count) > MAX_ROWS:
            problems.append(f"rows: found {rows}, expected at most {MAX_ROWS}")
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
    if len(samples) > MAX_ROWS:
        problems.append(f"samples: found {len(samples)}, expected at most {MAX_ROWS}")
    return problems


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _meaning(quantity: str | None, unit: str | None) -> str:
    if quantity is None:
        return f"depth of an unknown kind, in {unit}" if unit else "depth of an unknown kind"
    name = quantity.replace("_", " ")
    if unit:
        return f"{name} in {unit}"
    return f"{name} (relative, larger is {'nearer' if quantity == 'inverse_depth' else 'farther'})"


def _origin_of_depth(depth: DepthInfo | None) -> str:
    if depth is None:
        return "no depth"
    if isinstance(depth, ImportedDepthInfo):
        return "imported depth"
    kind = "depth in layers" if depth.mode == "layered" else "depth"
    by = f"{kind} by {depth.model_name} at scale {depth.scale}"
    if depth.model is None:
        by = f"{kind}, backgrounds from files"
    return by if depth.guide is None else f"{by}, guiding {depth.guide_name}"


class _PreviewLayout(Layout):
    """Up to three columns of the sources, and up to three of the sample a little apart."""

    def __init__(
        self,
        sample_size: tuple[int, int],
        rows: int,
        *,
        with_bar: bool,
        with_banner: bool,
        columns: Sequence[int],
        cell: int | None,
    ) -> None:
        super().__init__(sample_size, rows, cell)
        self.with_banner = with_banner
        self.columns = columns
        self.bar_width = round(self.text * 0.8)
        self.depth_width = self.column_width + (self.gap + self.bar_width + self.text * 5) * with_bar
        self.banner_top = self.margin + 4 * self.line - self.gap
        self.groups_top = self.banner_top + round(2.6 * self.line) * with_banner
        self.right = self.column(columns[-1]) + self.width_of(columns[-1])
        self.width = self.right + self.margin
        self.height = self.row(rows) + 2 * self.line * with_bar + self.margin - self.gap

    def column(self, index: int) -> int:
        before = self.columns.index(index)
        apart = 2 * self.gap if self.columns[0] < _IMAGE <= index else 0
        return self.margin + self.label_width + self.gap + before * (self.column_width + self.gap) + apart

    def width_of(self, index: int) -> int:
        return self.depth_width if index == _DEPTH else self.column_width

    def row(self, index: int) -> int:
        top = self.groups_top + round(4.8 * self.line)
        return top + index * (self.row_height + self.gap + self.gap // 2)


_Canvas = Canvas[_PreviewLayout]


def _render(
    dataset: Dataset,
    samples: Sequence[int] | None,
    rows: int,
    seed: int,
    columns: Sequence[str] | None,
    cell: int | None,
) -> Image.Image:
    if samples is not None:
        chosen = [int(i) for i in samples]
    elif dataset.has_recipe:
        chosen = spread_samples(dataset, rows, seed)
    else:
        drawn = np.random.default_rng(seed).choice(len(dataset), min(rows, len(dataset)), replace=False)
        chosen = sorted(drawn.tolist())
    shown = _columns_of(dataset) if columns is None else columns
    indices = [index for index, name in enumerate(COLUMNS) if name in shown]
    layout = _PreviewLayout(
        (dataset.width, dataset.height),
        len(chosen),
        with_bar=dataset.has_depth and _DEPTH in indices,
        with_banner=not dataset.complete,
        columns=indices,
        cell=cell,
    )
    canvas = Canvas(layout)
    _draw_title(canvas, dataset)
    _draw_headings(canvas, dataset)
    catalog = dataset.recipe.catalog if dataset.has_recipe else None
    for row, sample in enumerate(chosen):
        _draw_row(canvas, row, sample, dataset, catalog)
    return canvas.picture


def _draw_title(canvas: _Canvas, dataset: Dataset) -> None:
    layout = canvas.layout
    left, width = layout.margin, layout.width - 2 * layout.margin
    details = [f"{counted(len(dataset), 'sample')}", f"{dataset.width} x {dataset.height} pixels"]
    if dataset.has_recipe:
        catalog = dataset.recipe.catalog
        details.append(pictures_of(len(catalog.backgrounds), len(catalog.foregrounds)))
    else:
        details.append("imported")
    details.append(_origin_of_depth(dataset.document.depth))
    y = layout.margin + round(1.15 * layout.line)
    canvas.write((left, y), PurePath(dataset.path).name or dataset.path, canvas.title, width=width)
    y += round(1.25 * layout.line)
    canvas.write((left, y), "  ·  ".join(details), canvas.body, MUTED, width=width)
    if layout.with_banner:
        top, bottom = layout.banner_top, layout.banner_top + round(1.7 * layout.line)
        canvas.draw.rectangle((left, top, left + width, bottom), fill=_WARNING)
        message = "Incomplete: part of this dataset is not written yet"
        middle = (left + layout.gap, (top + bottom) // 2)
        canvas.write(middle, message, canvas.body, _WARNING_INK, width=width - 2 * layout.gap, anchor="lm")


def _draw_headings(canvas: _Canvas, dataset: Dataset) -> None:
    layout = canvas.layout
    for name, range_ in (("SOURCES", range(_IMAGE)), ("SAMPLE", range(_IMAGE, len(COLUMNS)))):
        members = [index for index in layout.columns if index in range_]
        if not members:
            continue
        start, base = layout.column(members[0]), layout.groups_top + layout.line
        end = layout.column(members[-1]) + layout.width_of(members[-1])
        canvas.write((start, base), name, canvas.small, MUTED)
        rule = base + layout.gap
        canvas.draw.line((start, rule, end - 1, rule), RULE, max(1, layout.text // 12))

    size = f"{dataset.width} x {dataset.height}"
    attributes: dict[str, Any] = dict(dataset.depth.attrs)
    quantity, unit = attributes.get("quantity"), attributes.get("unit")
    columns = (
        ("Background", "resized"),
        ("Foreground", "resized, as pasted"),
        ("Its mask", "alpha, 0 to 255"),
        ("Composite", f"{size}, RGB"),
        ("Mask", f"{size}, 0 to 255"),
        ("Instances", "boxes of what is seen"),
        ("Depth", _meaning(quantity, unit) if dataset.has_depth else "no depth"),
    )
    for index in layout.columns:
        name, note = columns[index]
        x, y = layout.column(index), layout.groups_top + round(2.5 * layout.line)
        width = layout.width_of(index)
        canvas.write((x, y), name, canvas.heading, width=width)
        canvas.write_note((x, y + round(0.95 * layout.line)), note, width)
    if dataset.has_depth and _DEPTH in layout.columns:
        order = "bright is near, dark is far" if quantity else "bright is large"
        note = f"Depth colours span each sample's own range without outliers; {order}."
        x, y = layout.column(layout.columns[0]), layout.row(layout.rows) + round(1.1 * layout.line)
        canvas.write((x, y), note, canvas.small, MUTED, width=layout.width - x)


def _draw_row(canvas: _Canvas, row: int, sample: int, dataset: Dataset, catalog: Catalog | None) -> None:
    layout = canvas.layout
    batch = dataset[sample]
    top = layout.row(row) + (layout.row_height - layout.cell_height) // 2
    if catalog is not None and dataset.has_objects:
        names = [("bg", catalog.backgrounds[int(batch.background)].name)]
        _draw_label(canvas, row, sample, names, objects_in_words(batch.objects, catalog))
        if _BACKGROUND in layout.columns:
            canvas.picture_cell(layout.column(_BACKGROUND), top, catalog.background[int(batch.background)])
    elif catalog is None:
        _draw_label(canvas, row, sample, [("", (dataset.names or [""])[sample])], [])
    else:
        source_names = [
            ("bg", catalog.backgrounds[int(batch.background)].name),
            ("fg", catalog.foregrounds[int(batch.foreground)].name),
        ]
        placement = [
            f"{'flipped' if batch.flip else 'not flipped'}  ·  replica {int(batch.replica)}",
            f"y {int(batch.y)}, x {int(batch.x)}",
        ]
        _draw_label(canvas, row, sample, source_names, placement)
        _draw_sources(canvas, top, batch, catalog)

    # Written samples are never empty: the pasted foreground has some alpha.
    written = dataset.document.pixels.complete or batch.mask.any() or batch.image.any()
    cells = {_IMAGE: batch.image, _MASK: batch.mask}
    if _INSTANCE in layout.columns:
        cells[_INSTANCE] = instance_picture(batch)
    for index, pixels in cells.items():
        if index not in layout.columns:
            continue
        if written:
            canvas.picture_cell(layout.column(index), top, pixels)
        else:
            canvas.empty_cell(layout.column(index), top, "not written")
    if _DEPTH in layout.columns:
        _draw_depth(canvas, top, batch.depth, dataset.depth.attrs)


def _columns_of(dataset: Dataset) -> tuple[str, ...]:
    """The columns that there are of a dataset."""
    if not dataset.has_recipe:
        return tuple(name for name in COLUMNS[_IMAGE:] if name != INSTANCE or dataset.has_objects)
    without = COLUMNS[_FOREGROUND : _ALPHA + 1] if dataset.has_objects else (INSTANCE,)
    return tuple(name for name in COLUMNS if name not in without)


def _draw_sources(canvas: _Canvas, top: int, batch: Batch, catalog: Catalog) -> None:
    layout = canvas.layout
    if _BACKGROUND in layout.columns:
        canvas.picture_cell(layout.column(_BACKGROUND), top, catalog.background[int(batch.background)])
    foreground = int(batch.foreground)
    height, width = (int(side) for side in catalog.foreground_size[foreground])
    patch = catalog.foreground[foreground, :height, :width]
    if batch.flip:
        patch = patch[:, ::-1]
    y, x = np.mgrid[: layout.cell_height, : layout.cell_width] // max(4, layout.text // 2)
    checkerboard = two_colours((x + y) % 2 == 1, _CHECK_DARK, _CHECK_LIGHT)
    if _FOREGROUND in layout.columns:
        canvas.patch_cell(layout.column(_FOREGROUND), top, patch, checkerboard)
    if _ALPHA in layout.columns:
        black = Image.new("RGB", (layout.cell_width, layout.cell_height))
        canvas.patch_cell(layout.column(_ALPHA), top, patch[..., 3], black)


def _draw_label(
    canvas: _Canvas, row: int, sample: int, names: list[tuple[str, str]], placement: list[str]
) -> None:
    layout = canvas.layout
    left = layout.margin
    base = layout.row(row) + (layout.row_height - 5 * layout.line) // 2 + round(0.95 * layout.line)
    canvas.write((left, base), f"Sample {sample:,}", canvas.heading, width=layout.label_width)
    indent = round(max(map(canvas.small.getlength, ("bg", "fg")))) + layout.text // 3
    for i, (kind, name) in enumerate(names, start=1):
        y = base + i * layout.line
        canvas.write((left, y), kind, canvas.small, MUTED)
        inner = indent if kind else 0
        canvas.write((left + inner, y), name, canvas.small, width=layout.label_width - inner)
    for i, line in enumerate(placement, start=1 + len(names)):
        canvas.write((left, base + i * layout.line), line, canvas.small, MUTED, width=layout.label_width)


def _draw_depth(
    canvas: _Canvas, top: int, depth: NDArray[np.float16] | None, attributes: Mapping[str, Any]
) -> None:
    layout = canvas.layout
    left = layout.column(_DEPTH)
    if depth is None or not np.isfinite(depth).any():
        canvas.empty_cell(left, top, "no depth" if depth is None else "not filled")
        return
    quantity, unit = attributes.get("quantity"), attributes.get("unit")
    larger_is_nearer = quantity != "depth"
    canvas.depth_cell(left, top, depth, larger_is_nearer=larger_is_nearer)

    bar_left = left + layout.cell_width + layout.gap
    bar_size = (layout.bar_width, layout.cell_height)
    bar = Image.fromarray(np.repeat(colour_map()[::-1, None], layout.bar_width, axis=1))
    canvas.picture.paste(bar.resize(bar_size, Image.Resampling.BOX), (bar_left, top))
    canvas.frame(bar_left, top, *bar_size)

    low, high = depth_limits(depth)
    near, far = (high, low) if larger_is_nearer else (low, high)
    suffix = f" {unit}" if unit else ""
    x, bottom = bar_left + layout.bar_width + layout.gap // 2, top + layout.cell_height
    canvas.write((x, top), _number(near) + suffix, canvas.small, anchor="lt")
    canvas.write((x, bottom), _number(far) + suffix, canvas.small, anchor="ls")
    if layout.cell_height >= 5 * layout.line:
        middle = (x, top + layout.cell_height // 2)
        canvas.write(middle, _number((near + far) / 2) + suffix, canvas.small, anchor="lm")
        if quantity:
            canvas.write((x, top + layout.line), "near", canvas.small, MUTED, anchor="lt")
            canvas.write((x, bottom - layout.line), "far", canvas.small, MUTED, anchor="ls")

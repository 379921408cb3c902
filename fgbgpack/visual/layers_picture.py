"""One sample as layers: its background, each object, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.composition.objects import NO_OBJECT, Objects
from fgbgpack.composition.scenes import ScenePlacements
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.document import IMAGE, INSTANCE, MASK
from fgbgpack.visual.canvas import (
    MUTED,
    Canvas,
    Colour,
    Layout,
    check_picture_path,
    two_colours,
    write_picture,
)
from fgbgpack.visual.shown_samples import instance_picture

_COLUMNS = 4
_CHECK_LIGHT: Colour = (250, 250, 250)
_CHECK_DARK: Colour = (218, 221, 226)


class _LayersLayout(Layout):
    """Cells in rows of a few, each below its heading, and a title above all."""

    def __init__(self, sample_size: tuple[int, int], cells: int) -> None:
        super().__init__(sample_size, -(-cells // _COLUMNS))
        self.top = self.margin + 3 * self.line
        self.cell_top = round(2.3 * self.line)
        self.step = self.cell_top + self.cell_height + self.line
        columns = min(cells, _COLUMNS)
        self.width = 2 * self.margin + columns * self.column_width + (columns - 1) * 2 * self.gap
        self.height = self.top + self.rows * self.step + self.margin - self.gap

    def cell(self, number: int) -> tuple[int, int]:
        """Left and top of what belongs to a cell."""
        row, column = divmod(number, _COLUMNS)
        left = self.margin + column * (self.column_width + 2 * self.gap)
        return left, self.top + row * self.step


_Canvas = Canvas[_LayersLayout]
#: Heading, note, and what draws a cell at its left and top.
_Cell = tuple[str, str, Callable[[_Canvas, int, int], None]]


def write_layers_picture(dataset: Dataset, sample: int, path: Path) -> None:
    """Draw a sample as :func:`render_layers` does, and write the picture to a file in one step; the extension
    gives the format: PNG, JPEG, WebP, TIFF or BMP.

    Raises SpecError where the extension is unknown, the folder is missing, or the file cannot be written.
    """
    check_picture_path(path)
    write_picture(render_layers(dataset, sample), Path(path))


def render_layers(dataset: Dataset, sample: int) -> Image.Image:
    """Draw a sample of an open dataset as layers: an RGB picture.

    They are the background, each object alone where it lies, far to near, the composite, its mask, of scenes
    its instances with their boxes, and its depth in colours. Of imported samples there are no sources.
    """
    batch = dataset[sample]
    cells = _layers(dataset, sample) if dataset.has_recipe else []
    image, mask, depth = batch.image, batch.mask, batch.depth
    size = f"{dataset.width} x {dataset.height}, RGB"
    cells.append(("Composite", size, _pixels(image)))
    cells.append(("Mask", "0 to 255", _pixels(mask)))
    if dataset.has_objects:
        cells.append(("Instances", "boxes of what is seen", _pixels(instance_picture(batch))))
    if depth is not None and np.isfinite(depth).any():
        known = depth[np.isfinite(depth)]
        quantity = dataset.depth.attrs.get("quantity")
        note = f"{float(known.min()):.4g} to {float(known.max()):.4g}"
        is_nearer = quantity != "depth"
        cells.append(
            (
                "Depth" if quantity is None else quantity.replace("_", " ").capitalize(),
                note,
                lambda canvas, left, top: canvas.depth_cell(left, top, depth, larger_is_nearer=is_nearer),
            )
        )
    canvas = Canvas(_LayersLayout((dataset.width, dataset.height), len(cells)))
    layout = canvas.layout
    y = layout.margin + round(1.15 * layout.line)
    name = PurePath(dataset.path).name or dataset.path
    canvas.write((layout.margin, y), f"Sample {sample:,}", canvas.title)
    y += round(1.2 * layout.line)
    canvas.write((layout.margin, y), name, canvas.body, MUTED, width=layout.width - 2 * layout.margin)
    for number, (heading, note, draw) in enumerate(cells):
        left, top = layout.cell(number)
        canvas.write((left, top + layout.line), heading, canvas.heading, width=layout.column_width)
        y = top + round(1.95 * layout.line)
        canvas.write((left, y), note, canvas.small, MUTED, width=layout.column_width)
        draw(canvas, left, top + layout.cell_top)
    return canvas.picture


def _pixels(pixels: NDArray[np.uint8]) -> Callable[[_Canvas, int, int], None]:
    return lambda canvas, left, top: canvas.picture_cell(left, top, pixels)


def _cut_out(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> Callable[[_Canvas, int, int], None]:
    """An object alone, where it lies, on a checkerboard."""

    def draw(canvas: _Canvas, left: int, top: int) -> None:
        layout = canvas.layout
        y, x = np.mgrid[: layout.cell_height, : layout.cell_width] // max(4, layout.text // 2)
        board = two_colours((x + y) % 2 == 1, _CHECK_DARK, _CHECK_LIGHT)
        canvas.patch_cell(left, top, np.dstack([pixels, alpha]), board)

    return draw


def _layers(dataset: Dataset, sample: int) -> list[_Cell]:
    """The background, and each object alone: what it looks like before this background."""
    recipe, arrays = dataset.recipe, dataset.sample_arrays
    catalog = recipe.catalog
    background = int(arrays["background"][sample])
    empty = catalog.background[background]
    cells: list[_Cell] = [("Background", catalog.backgrounds[background].name, _pixels(empty))]
    one = slice(sample, sample + 1)
    if not dataset.has_objects:
        batch = dataset.read([sample], (IMAGE, MASK))
        name = catalog.foregrounds[int(arrays["foreground"][sample])].name
        note = f"{name}, mirrored" if arrays["flip"][sample] else name
        return [*cells, ("Foreground", note, _cut_out(batch.image[0], batch.mask[0]))]
    placed = ScenePlacements(arrays["background"][one], arrays["replica"][one])
    objects = dataset.objects[one]
    for k, number in enumerate(objects.foreground[0].tolist()):
        if number >= 0:
            image, mask = _alone(dataset, sample, placed, objects, k)
            name = catalog.foregrounds[number].name
            note = f"{name}, mirrored" if objects.flip[0, k] else name
            cells.append((f"Object {k + 1}, {objects.visible[0, k]:.0%} seen", note, _cut_out(image, mask)))
    return cells


def _alone(
    dataset: Dataset, sample: int, placed: ScenePlacements, objects: Objects, k: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image and mask of a scene with one of its objects alone."""
    arrays = {}
    for path, values in objects.arrays().items():
        only = np.full_like(values, NO_OBJECT)
        only[:, 0] = values[:, k]
        arrays[path] = only
    shape = (1, dataset.height, dataset.width)
    planes = {
        IMAGE: np.empty((*shape, 3), np.uint8),
        MASK: np.empty(shape, np.uint8),
        INSTANCE: np.empty(shape, np.uint8),
    }
    composites = dataset.recipe.place(range(sample, sample + 1), placed, Objects.of(arrays))
    composites.compose(slice(None), planes)
    return planes[IMAGE][0], planes[MASK][0]

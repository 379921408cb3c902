"""A figure of some samples: what they were made of, and what came out."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fgbgpack.dataset import Batch, Dataset
from fgbgpack.errors import SpecError
from fgbgpack.plan import Placements
from fgbgpack.sources import Catalog

#: File extension to Pillow's format and the options to write it with: nothing is lost but in JPEG.
_FORMATS: Mapping[str, tuple[str, dict[str, Any]]] = {
    ".bmp": ("BMP", {}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".png": ("PNG", {"optimize": True}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".webp": ("WEBP", {"lossless": True}),
}
#: As many rows as fit into the 16,383 pixels that a WebP picture may be high, in all sizes of sample.
_MOST_ROWS = 48
_SHOWN_PROBLEMS = 8

_LARGEST_CELL = 256
#: Small samples are enlarged by the whole factor that brings their longer side nearest to this.
_USUAL_CELL = 224

_Colour = tuple[int, int, int]
_PAPER: _Colour = (255, 255, 255)
_INK: _Colour = (24, 29, 38)
_MUTED: _Colour = (98, 107, 122)
_RULE: _Colour = (206, 211, 219)
_HATCH_LIGHT: _Colour = (244, 245, 247)
_HATCH_DARK: _Colour = (214, 218, 225)
_CHECK_LIGHT: _Colour = (250, 250, 250)
_CHECK_DARK: _Colour = (218, 221, 226)
_WARNING: _Colour = (255, 236, 200)
_WARNING_INK: _Colour = (122, 66, 0)


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
    _refuse([*_problems_of_path(path), *_problems_of_rows(dataset, samples, rows, seed)])
    figure = _render(dataset, samples, rows, seed)
    kind, options = _FORMATS[path.suffix.lower()]
    aside = path.with_name(f".fgbgpack-{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        figure.save(aside, format=kind, **options)
        aside.replace(path)
    except (OSError, KeyError) as exc:
        # Pillow answers with a KeyError for a format that it was built without.
        raise SpecError(f"The preview cannot be written to {path}: {exc}.") from exc
    finally:
        aside.unlink(missing_ok=True)


def render_preview(
    dataset: Dataset, samples: Sequence[int] | None = None, rows: int = 6, seed: int = 0
) -> Image.Image:
    """Draw some samples, one a row: background, foreground and its mask; composite, mask and depth.

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


@cache
def colour_map() -> NDArray[np.uint8]:
    """The colours of depth, from far to near: indigo, purple, red, orange, pale yellow.

    The map is a curve through Oklab, the colour space in which distance is how different two colours look
    (B. Ottosson, "A perceptual color space for image processing", 2020, which is also the source of the
    numbers that lead from it to linear RGB). Lightness rises evenly from 0.21 to 0.95 while the hue turns
    from 278 to 465 degrees; chroma is a parabola that stays inside sRGB. The entries lie at equal distances
    along it, so equal steps of depth look equally large, and brightness alone tells the order.

    Returns:
        (256, 3) uint8, sRGB, read-only.
    """
    t = np.linspace(0, 1, 4097)
    lightness = 0.21 + 0.74 * t
    hue = np.radians(278 + 187 * t)
    chroma = 0.095 * (1 - t) ** 2 + 0.44 * t * (1 - t) + 0.12 * t**2
    curve = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    even = np.linspace(0, length[-1], 256)
    oklab = np.stack([np.interp(even, length, curve[:, axis]) for axis in range(3)], axis=1)
    to_cones = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((oklab @ to_cones.T) ** 3 @ to_linear.T, 0, 1)
    # The transfer function of sRGB, IEC 61966-2-1.
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: NDArray[np.uint8] = np.rint(encoded * 255).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def depth_colours(depth: NDArray[np.floating[Any]], *, larger_is_nearer: bool) -> NDArray[np.uint8]:
    """Colour a depth map over its own range, the nearest value with the last entry of :func:`colour_map`.

    Args:
        depth: (h, w), any float; NaN where it is not filled.
        larger_is_nearer: Whether it is inverse depth.

    Returns:
        (h, w, 3) uint8. All of a constant map has the middle colour; unfilled pixels are black.
    """
    filled = np.isfinite(depth)
    colours = np.zeros((*depth.shape, 3), np.uint8)
    if filled.any():
        values = depth[filled].astype(np.float64)
        low, high = values.min(), values.max()
        nearness = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
        if not larger_is_nearer:
            nearness = 1 - nearness
        colours[filled] = colour_map()[np.rint(nearness * 255).astype(np.intp)]
    return colours


# --- what is asked for -----------------------------------------------------------------------------


def _refuse(problems: list[str]) -> None:
    if problems:
        raise SpecError("The preview cannot be made:", problems)


def _problems_of_path(path: Path) -> list[str]:
    problems = []
    if path.suffix.lower() not in _FORMATS:
        found = f"the extension {path.suffix!r}" if path.suffix else "no extension"
        problems.append(f"{path}: it has {found}, expected one of {', '.join(sorted(_FORMATS))}")
    try:
        if not path.parent.is_dir():
            problems.append(f"{path}: there is no folder {path.parent}; make it first")
        elif path.is_dir():
            problems.append(f"{path}: it is a folder, expected the name of a picture file")
    except OSError as exc:
        problems.append(f"{path}: {exc.strerror}, expected the name of a picture file")
    return problems


def _problems_of_rows(dataset: Dataset, samples: Sequence[int] | None, rows: int, seed: int) -> list[str]:
    problems = []
    count = len(dataset)
    if samples is None:
        if rows < 1:
            problems.append(f"rows: found {rows}, expected 1 or more")
        if min(rows, count) > _MOST_ROWS:
            problems.append(f"rows: found {rows}, expected at most {_MOST_ROWS}")
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
    if len(samples) > _MOST_ROWS:
        problems.append(f"samples: found {len(samples)}, expected at most {_MOST_ROWS}")
    return problems


# --- words -----------------------------------------------------------------------------------------


def _printable(text: str) -> str:
    """The text in what Pillow's own font can draw: ASCII and two signs. Accents go, the rest becomes '?'."""
    plain = []
    for character in unicodedata.normalize("NFC", text):
        base = unicodedata.normalize("NFKD", character)
        letters = "".join(c for c in base if not unicodedata.combining(c))
        drawable = character in "·…" or (letters and all(" " <= c <= "~" for c in letters))
        plain.append(character if character in "·…" else letters if drawable else "?")
    return "".join(plain)


def _shortened(text: str, fits: Callable[[str], bool]) -> str:
    """The text, or as much of its two ends as fits: a name's number and extension stay readable."""
    if fits(text):
        return text
    for kept in range(len(text) - 1, 0, -1):
        tail = kept // 2
        shorter = f"{text[: kept - tail]}…{text[len(text) - tail :]}"
        if fits(shorter):
            return shorter
    return "…"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _meaning(quantity: str | None, unit: str | None) -> str:
    """What the numbers of depth are."""
    word = "inverse depth" if quantity == "inverse_depth" else "depth"
    if unit:
        return f"{word} in {unit}"
    return f"{word} (relative, larger is {'nearer' if quantity == 'inverse_depth' else 'farther'})"


# --- the figure ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """Where everything goes. All lengths are in pixels."""

    cell_width: int
    cell_height: int
    rows: int
    with_bar: bool
    with_banner: bool

    @classmethod
    def of(cls, dataset: Dataset, rows: int) -> _Layout:
        longest = max(dataset.width, dataset.height)
        if longest > _LARGEST_CELL:
            scale = _LARGEST_CELL / longest
        else:
            scale = max(1, round(_USUAL_CELL / longest))
        cell = [max(1, round(side * scale)) for side in (dataset.width, dataset.height)]
        return cls(cell[0], cell[1], rows, dataset.has_depth, not dataset.complete)

    @cached_property
    def text(self) -> int:
        """The size of the type, readable at half of it, and what all distances are measured in."""
        return max(18, round(max(self.cell_width, self.cell_height) * 0.096))

    @property
    def line(self) -> int:
        return round(self.text * 1.36)

    @property
    def margin(self) -> int:
        return round(self.text * 1.8)

    @property
    def gap(self) -> int:
        return round(self.text * 0.6)

    @property
    def label_width(self) -> int:
        return self.text * 10

    @property
    def column_width(self) -> int:
        return max(self.cell_width, self.text * 7)

    @property
    def row_height(self) -> int:
        return max(self.cell_height, 5 * self.line)

    @property
    def bar_width(self) -> int:
        return round(self.text * 0.8)

    @property
    def depth_width(self) -> int:
        """The column of depth with its bar and the bar's numbers."""
        return self.column_width + (self.gap + self.bar_width + self.text * 5 if self.with_bar else 0)

    def column(self, index: int) -> int:
        """The left edge of a column; the samples' stand a little apart from their sources'."""
        start = self.margin + self.label_width + self.gap
        return start + index * (self.column_width + self.gap) + (index > 2) * 2 * self.gap

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


class _Page:
    """A canvas with the layout's type sizes."""

    def __init__(self, layout: _Layout) -> None:
        self.layout = layout
        self.canvas = Image.new("RGB", (layout.width, layout.height), _PAPER)
        self.draw = ImageDraw.Draw(self.canvas)
        self.title = ImageFont.load_default(round(layout.text * 1.7))
        self.heading = ImageFont.load_default(round(layout.text * 1.08))
        self.body = ImageFont.load_default(layout.text)
        self.small = ImageFont.load_default(round(layout.text * 0.84))

    def write(
        self,
        at: tuple[int, int],
        text: str,
        font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
        colour: _Colour = _INK,
        *,
        width: int | None = None,
        anchor: str = "ls",
    ) -> None:
        """One line; ``at`` is on its base line. What is wider than ``width`` loses its middle."""
        text = _printable(text)
        if width is not None:
            text = _shortened(text, lambda shorter: font.getlength(shorter) <= width)
        self.draw.text(at, text, colour, font, anchor=anchor)

    def wrap(self, at: tuple[int, int], text: str, width: int) -> None:
        """A small, muted paragraph; ``at`` is on the base line of its first line."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self.small.getlength(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        for i, line in enumerate(lines):
            below = at[1] + i * round(self.layout.line * 0.86)
            self.write((at[0], below), line, self.small, _MUTED, width=width)

    def frame(self, left: int, top: int, width: int, height: int) -> None:
        """A hair line around a cell, outside of it: no pixel of it is covered."""
        self.draw.rectangle((left - 1, top - 1, left + width, top + height), outline=_RULE)

    def empty_cell(self, left: int, top: int, text: str | None = None) -> None:
        """A hatched cell, with what is missing written on it."""
        width, height = self.layout.cell_width, self.layout.cell_height
        rows, columns = np.mgrid[:height, :width]
        period = self.layout.text // 2
        dark = ((rows + columns) % period < max(1, period // 6))[..., None]
        hatch = np.where(dark, np.array(_HATCH_DARK), np.array(_HATCH_LIGHT)).astype(np.uint8)
        self.canvas.paste(Image.fromarray(hatch), (left, top))
        self.frame(left, top, width, height)
        if text is not None:
            if self.small.getlength(text) > width:
                text = text.replace(" ", "\n")
            box = self.draw.multiline_textbbox((0, 0), text, self.small, align="center")
            # What is wider than the cell begins at its left edge: there is room in the column.
            x = left + max(0, (width - int(box[2])) // 2)
            y = top + (height - int(box[1] + box[3])) // 2
            pad = self.layout.text // 3
            plate = (x + box[0] - pad, y + box[1] - pad, x + box[2] + pad, y + box[3] + pad)
            self.draw.rectangle(plate, fill=_HATCH_LIGHT)
            self.draw.multiline_text((x, y), text, _MUTED, self.small, align="center")

    def picture_cell(self, left: int, top: int, pixels: NDArray[np.uint8]) -> None:
        """A picture of the dataset's size."""
        layout = self.layout
        self.canvas.paste(_resized(pixels, (layout.cell_width, layout.cell_height)), (left, top))
        self.frame(left, top, layout.cell_width, layout.cell_height)

    def patch_cell(self, left: int, top: int, patch: NDArray[np.uint8], ground: Image.Image) -> None:
        """A patch in the middle of a cell, as large as fits, on ``ground``; RGBA or one channel."""
        layout = self.layout
        height, width = patch.shape[:2]
        scale = min(layout.cell_width / width, layout.cell_height / height)
        if scale >= 1:
            scale = int(scale)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = _resized(patch, size)
        corner = ((layout.cell_width - size[0]) // 2, (layout.cell_height - size[1]) // 2)
        self.canvas.paste(ground, (left, top))
        place = (left + corner[0], top + corner[1])
        self.canvas.paste(picture, place, picture if picture.mode == "RGBA" else None)
        self.frame(left, top, layout.cell_width, layout.cell_height)


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """Enlarged with every pixel a square, or reduced; colours are weighted by alpha where there is one."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if size[0] >= picture.width and size[1] >= picture.height:
        return picture.resize(size, Image.Resampling.NEAREST)
    if picture.mode == "RGBA":
        return picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return picture.resize(size, Image.Resampling.LANCZOS)


def _checkerboard(layout: _Layout) -> Image.Image:
    y, x = np.mgrid[: layout.cell_height, : layout.cell_width] // max(4, layout.text // 2)
    dark = ((x + y) % 2 == 1)[..., None]
    return Image.fromarray(np.where(dark, np.array(_CHECK_DARK), np.array(_CHECK_LIGHT)).astype(np.uint8))


def _render(dataset: Dataset, samples: Sequence[int] | None, rows: int, seed: int) -> Image.Image:
    chosen = choose_samples(dataset.placements, rows, seed) if samples is None else [int(i) for i in samples]
    page = _Page(_Layout.of(dataset, len(chosen)))
    _draw_head(page, dataset)
    catalog = dataset.catalog()
    for row, sample in enumerate(chosen):
        _draw_row(page, row, sample, dataset, catalog)
    return page.canvas


def _draw_head(page: _Page, dataset: Dataset) -> None:
    layout = page.layout
    left, room = layout.margin, layout.width - 2 * layout.margin
    sources = dataset.document["sources"]
    depth = dataset.document["depth"]
    facts = [
        f"{len(dataset):,} samples",
        f"{dataset.width} x {dataset.height} pixels",
        f"{len(sources['backgrounds']):,} backgrounds",
        f"{len(sources['foregrounds']):,} foregrounds",
        "no depth" if depth is None else f"depth by {depth['model']['name']} at scale {depth['scale']}",
    ]
    title = layout.margin + round(1.15 * layout.line)
    page.write((left, title), PurePath(dataset.path).name or dataset.path, page.title, width=room)
    page.write((left, title + round(1.25 * layout.line)), "  ·  ".join(facts), page.body, _MUTED, width=room)
    if layout.with_banner:
        top, bottom = layout.banner_top, layout.banner_top + round(1.7 * layout.line)
        page.draw.rectangle((left, top, left + room, bottom), fill=_WARNING)
        message = "Incomplete: part of this dataset is not written yet"
        middle = (left + layout.gap, (top + bottom) // 2)
        page.write(middle, message, page.body, _WARNING_INK, width=room - 2 * layout.gap, anchor="lm")

    ends = (layout.column(2) + layout.column_width, layout.column(5) + layout.depth_width)
    for first, end, name in ((0, ends[0], "SOURCES"), (3, ends[1], "SAMPLE")):
        start = layout.column(first)
        base = layout.groups_top + layout.line
        page.write((start, base), name, page.small, _MUTED)
        below = base + layout.gap
        page.draw.line((start, below, end - 1, below), _RULE, max(1, layout.text // 12))

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
    for index, (name, note) in enumerate(columns):
        at = (layout.column(index), layout.groups_top + round(2.5 * layout.line))
        width = layout.depth_width if index == 5 else layout.column_width
        page.write(at, name, page.heading, width=width)
        page.wrap((at[0], at[1] + round(0.95 * layout.line)), note, width)
    if dataset.has_depth:
        note = "Depth colours span each sample's own range; bright is near, dark is far."
        below = layout.row(layout.rows) + round(1.1 * layout.line)
        page.write((layout.column(0), below), note, page.small, _MUTED, width=layout.width - layout.column(0))


def _draw_row(page: _Page, row: int, sample: int, dataset: Dataset, catalog: Catalog) -> None:
    layout = page.layout
    batch = dataset[sample]
    background, foreground = int(batch.background), int(batch.foreground)
    top = layout.row(row) + (layout.row_height - layout.cell_height) // 2
    _draw_label(
        page, row, sample, batch, catalog.backgrounds[background].name, catalog.foregrounds[foreground].name
    )

    page.picture_cell(layout.column(0), top, catalog.background[background])
    height, width = (int(side) for side in catalog.foreground_size[foreground])
    patch = catalog.foreground[foreground, :height, :width]
    if batch.flip:
        patch = patch[:, ::-1]
    page.patch_cell(layout.column(1), top, patch, _checkerboard(layout))
    black = Image.new("RGB", (layout.cell_width, layout.cell_height))
    page.patch_cell(layout.column(2), top, patch[..., 3], black)

    # Nothing that is written is empty: the pasted foreground has some alpha.
    written = dataset.document["pixels"]["complete"] or batch.mask.any() or batch.image.any()
    for index, pixels in ((3, batch.image), (4, batch.mask)):
        if written:
            page.picture_cell(layout.column(index), top, pixels)
        else:
            page.empty_cell(layout.column(index), top, "not written")
    _draw_depth(page, layout.column(5), top, batch.depth, dataset.depth.attrs)


def _draw_label(page: _Page, row: int, sample: int, batch: Batch, background: str, foreground: str) -> None:
    layout = page.layout
    left = layout.margin
    base = layout.row(row) + (layout.row_height - 5 * layout.line) // 2 + round(0.95 * layout.line)
    page.write((left, base), f"Sample {sample:,}", page.heading, width=layout.label_width)
    indent = round(max(page.small.getlength("bg"), page.small.getlength("fg"))) + layout.text // 3
    for i, (kind, name) in enumerate((("bg", background), ("fg", foreground)), start=1):
        below = base + i * layout.line
        page.write((left, below), kind, page.small, _MUTED)
        page.write((left + indent, below), name, page.small, width=layout.label_width - indent)
    turned = "flipped" if batch.flip else "not flipped"
    lines = (f"{turned}  ·  replica {int(batch.replica)}", f"y {int(batch.y)}, x {int(batch.x)}")
    for i, line in enumerate(lines, start=3):
        page.write((left, base + i * layout.line), line, page.small, _MUTED, width=layout.label_width)


def _draw_depth(
    page: _Page, left: int, top: int, depth: NDArray[np.float16] | None, attributes: Mapping[str, Any]
) -> None:
    layout = page.layout
    filled = np.zeros((1, 1), np.bool_) if depth is None else np.isfinite(depth)
    if depth is None or not filled.any():
        page.empty_cell(left, top, "no depth" if depth is None else "not filled")
        return
    larger_is_nearer = attributes.get("quantity") == "inverse_depth"
    size = (layout.cell_width, layout.cell_height)
    page.empty_cell(left, top)
    colours = _resized(depth_colours(depth, larger_is_nearer=larger_is_nearer), size)
    page.canvas.paste(colours, (left, top), _resized(filled.astype(np.uint8) * 255, size))

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
        page.write((x, top + step), "near", page.small, _MUTED, anchor="lt")
        page.write(middle, _number((near + far) / 2) + unit, page.small, anchor="lm")
        page.write((x, bottom - step), "far", page.small, _MUTED, anchor="ls")

"""What all pictures of a dataset are drawn on: a page of cells, its type and its colours, and its file."""

from __future__ import annotations

import os
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fgbgpack.errors import SpecError
from fgbgpack.visual.colours import depth_colours

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
MOST_ROWS = 48

_LARGEST_CELL = 256
#: Small samples are enlarged by the whole factor that brings their longer side nearest to this.
_USUAL_CELL = 224

Colour = tuple[int, int, int]
PAPER: Colour = (255, 255, 255)
INK: Colour = (24, 29, 38)
MUTED: Colour = (98, 107, 122)
RULE: Colour = (206, 211, 219)
HATCH_LIGHT: Colour = (244, 245, 247)
HATCH_DARK: Colour = (214, 218, 225)


def cell_size(width: int, height: int) -> tuple[int, int]:
    """How large a sample of ``width`` x ``height`` pixels is drawn, as ``(width, height)``."""
    longest = max(width, height)
    scale = _LARGEST_CELL / longest if longest > _LARGEST_CELL else max(1, round(_USUAL_CELL / longest))
    return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True)
class Layout(ABC):
    """The lengths that all pages share, in pixels; each kind of page adds where its columns and rows are.

    Attributes:
        cell_width: Width of a sample as it is drawn.
        cell_height: Its height.
        rows: How many samples there are, one a row.
    """

    cell_width: int
    cell_height: int
    rows: int

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of the page."""

    @property
    @abstractmethod
    def height(self) -> int:
        """Height of the page."""

    @cached_property
    def text(self) -> int:
        """The size of the type, readable at half of it, and what all distances are measured in."""
        return max(18, round(max(self.cell_width, self.cell_height) * 0.096))

    @property
    def line(self) -> int:
        """From one base line to the next."""
        return round(self.text * 1.36)

    @property
    def margin(self) -> int:
        """What is left blank around everything."""
        return round(self.text * 1.8)

    @property
    def gap(self) -> int:
        """What is left blank between two cells."""
        return round(self.text * 0.6)

    @property
    def label_width(self) -> int:
        """Width of what is written beside each row."""
        return self.text * 10

    @property
    def column_width(self) -> int:
        """At least a cell, and wide enough for a heading."""
        return max(self.cell_width, self.text * 7)

    @property
    def row_height(self) -> int:
        """At least a cell, and high enough for a label of five lines."""
        return max(self.cell_height, 5 * self.line)


SomeLayout = TypeVar("SomeLayout", bound=Layout)


class Page(Generic[SomeLayout]):
    """A canvas with the layout's type sizes.

    Attributes:
        layout: The layout.
        canvas: The picture that all is drawn on, RGB.
        draw: What draws on it.
        title: The largest type.
        heading: The type of names.
        body: The usual type.
        small: The type of notes.
    """

    def __init__(self, layout: SomeLayout) -> None:
        self.layout = layout
        self.canvas = Image.new("RGB", (layout.width, layout.height), PAPER)
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
        colour: Colour = INK,
        *,
        width: int | None = None,
        anchor: str = "ls",
    ) -> None:
        """One line; ``at`` is on its base line. What is wider than ``width`` loses its middle."""
        text = printable(text)
        if width is not None:
            text = shortened(text, lambda shorter: font.getlength(shorter) <= width)
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
            self.write((at[0], below), line, self.small, MUTED, width=width)

    def frame(self, left: int, top: int, width: int, height: int) -> None:
        """A hair line around a cell, outside of it: no pixel of it is covered."""
        self.draw.rectangle((left - 1, top - 1, left + width, top + height), outline=RULE)

    def empty_cell(self, left: int, top: int, text: str | None = None) -> None:
        """A hatched cell, with what is missing written on it."""
        width, height = self.layout.cell_width, self.layout.cell_height
        rows, columns = np.mgrid[:height, :width]
        period = self.layout.text // 2
        dark = ((rows + columns) % period < max(1, period // 6))[..., None]
        hatch = np.where(dark, np.array(HATCH_DARK), np.array(HATCH_LIGHT)).astype(np.uint8)
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
            self.draw.rectangle(plate, fill=HATCH_LIGHT)
            self.draw.multiline_text((x, y), text, MUTED, self.small, align="center")

    def picture_cell(self, left: int, top: int, pixels: NDArray[np.uint8]) -> None:
        """A picture of the dataset's size."""
        layout = self.layout
        self.canvas.paste(resized(pixels, (layout.cell_width, layout.cell_height)), (left, top))
        self.frame(left, top, layout.cell_width, layout.cell_height)

    def depth_cell(
        self, left: int, top: int, depth: NDArray[np.floating[Any]], *, larger_is_nearer: bool
    ) -> None:
        """A depth map in the colours of its own range; what is not finite of it stays hatched."""
        size = (self.layout.cell_width, self.layout.cell_height)
        self.empty_cell(left, top)
        colours = resized(depth_colours(depth, larger_is_nearer=larger_is_nearer), size)
        known = np.isfinite(depth).astype(np.uint8) * 255
        self.canvas.paste(colours, (left, top), resized(known, size))

    def patch_cell(self, left: int, top: int, patch: NDArray[np.uint8], ground: Image.Image) -> None:
        """A patch in the middle of a cell, as large as fits, on ``ground``; RGBA or one channel."""
        layout = self.layout
        height, width = patch.shape[:2]
        scale = min(layout.cell_width / width, layout.cell_height / height)
        if scale >= 1:
            scale = int(scale)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = resized(patch, size)
        corner = ((layout.cell_width - size[0]) // 2, (layout.cell_height - size[1]) // 2)
        self.canvas.paste(ground, (left, top))
        place = (left + corner[0], top + corner[1])
        self.canvas.paste(picture, place, picture if picture.mode == "RGBA" else None)
        self.frame(left, top, layout.cell_width, layout.cell_height)


def resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """Enlarged with every pixel a square, or reduced; colours are weighted by alpha where there is one."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if size[0] >= picture.width and size[1] >= picture.height:
        return picture.resize(size, Image.Resampling.NEAREST)
    if picture.mode == "RGBA":
        return picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return picture.resize(size, Image.Resampling.LANCZOS)


# --- words -----------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """The text in what Pillow's own font can draw: ASCII and two signs. Accents go, the rest becomes '?'."""
    plain = []
    for character in unicodedata.normalize("NFC", text):
        base = unicodedata.normalize("NFKD", character)
        letters = "".join(c for c in base if not unicodedata.combining(c))
        drawable = character in "·…" or (letters and all(" " <= c <= "~" for c in letters))
        plain.append(character if character in "·…" else letters if drawable else "?")
    return "".join(plain)


def shortened(text: str, fits: Callable[[str], bool]) -> str:
    """The text, or as much of its two ends as fits: a name's number and extension stay readable."""
    if fits(text):
        return text
    for kept in range(len(text) - 1, 0, -1):
        tail = kept // 2
        shorter = f"{text[: kept - tail]}…{text[len(text) - tail :]}"
        if fits(shorter):
            return shorter
    return "…"


# --- the file --------------------------------------------------------------------------------------


def problems_of_path(path: Path) -> list[str]:
    """What is wrong with a path to write a picture to, as far as it can be told beforehand."""
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


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture to a file in one step; what was there stays until all is written.

    Args:
        picture: The picture.
        path: The file; its extension, one in which :func:`problems_of_path` finds nothing wrong, tells the
            format.

    Raises:
        SpecError: The file cannot be written.
    """
    kind, options = _FORMATS[path.suffix.lower()]
    aside = path.with_name(f".fgbgpack-{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        picture.save(aside, format=kind, **options)
        aside.replace(path)
    except (OSError, KeyError) as exc:
        # Pillow answers with a KeyError for a format that it was built without.
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        raise SpecError(f"The picture cannot be written to {path}: {reason}.") from exc
    finally:
        aside.unlink(missing_ok=True)

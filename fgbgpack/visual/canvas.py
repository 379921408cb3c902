"""The canvas of pictures of a dataset: its layout, type, colours and cells, and the picture's file."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fgbgpack.errors import SpecError
from fgbgpack.files import require_local, write_atomically
from fgbgpack.visual.colours import depth_colours

#: Pillow's format and options for each file extension. All formats but JPEG are lossless.
_FORMATS: Mapping[str, tuple[str, dict[str, Any]]] = {
    ".bmp": ("BMP", {}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".png": ("PNG", {"optimize": True}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".webp": ("WEBP", {"lossless": True}),
}
#: The largest number of rows for which every sample size fits the maximum WebP height, 16,383 pixels.
MAX_ROWS = 48

_LARGEST_CELL = 256
#: Small samples are enlarged by the whole factor that brings their longer side nearest to this.
_USUAL_CELL = 224

Colour: TypeAlias = tuple[int, int, int]
PAPER: Colour = (255, 255, 255)
INK: Colour = (24, 29, 38)
MUTED: Colour = (98, 107, 122)
RULE: Colour = (206, 211, 219)
HATCH_LIGHT: Colour = (244, 245, 247)
HATCH_DARK: Colour = (214, 218, 225)


class Layout:
    """Lengths that all pictures share, in pixels: cells are samples as drawn, columns and rows may be larger.

    The longer side of a cell is at most ``cell`` pixels, a whole multiple of the sample's where that fits, or
    as long as is usual.

    Distances are multiples of ``text``, the size of the usual type, which is readable at half of it; ``line``
    is the distance of two base lines. A subclass adds columns and rows, and sets ``width`` and ``height``.
    """

    width: int
    height: int

    def __init__(self, sample_size: tuple[int, int], rows: int, cell: int | None = None) -> None:
        longest = max(sample_size)
        if cell is not None:
            scale: float = cell // longest if cell >= longest else cell / longest
        elif longest > _LARGEST_CELL:
            scale = _LARGEST_CELL / longest
        else:
            scale = max(1, round(_USUAL_CELL / longest))
        self.cell_width, self.cell_height = (max(1, round(side * scale)) for side in sample_size)
        self.rows = rows
        self.text = max(18, round(max(self.cell_width, self.cell_height) * 0.096))
        self.line = round(self.text * 1.36)
        self.margin = round(self.text * 1.8)
        self.gap = round(self.text * 0.6)
        self.label_width = self.text * 10
        self.column_width = max(self.cell_width, self.text * 7)
        self.row_height = max(self.cell_height, 5 * self.line)


AnyLayout = TypeVar("AnyLayout", bound=Layout)


class Canvas(Generic[AnyLayout]):
    """A blank RGB picture with the type sizes of a layout."""

    def __init__(self, layout: AnyLayout) -> None:
        self.layout = layout
        self.picture = Image.new("RGB", (layout.width, layout.height), PAPER)
        self.draw = ImageDraw.Draw(self.picture)
        self.title, self.heading, self.body, self.small = (
            ImageFont.load_default(round(layout.text * factor)) for factor in (1.7, 1.08, 1, 0.84)
        )

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
        """Write one line with its base line at ``at``. A text wider than ``width`` loses its middle."""
        text = printable(text)
        if width is not None:
            text = shortened(text, lambda shorter: font.getlength(shorter) <= width)
        self.draw.text(at, text, colour, font, anchor=anchor)

    def write_note(self, at: tuple[int, int], text: str, width: int) -> None:
        """Write a small, muted paragraph with the base line of its first line at ``at``."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            fits = not lines[-1] or self.small.getlength(longer) <= width
            lines[-1:] = [longer] if fits else [lines[-1], word]
        for i, line in enumerate(lines):
            y = at[1] + i * round(self.layout.line * 0.86)
            self.write((at[0], y), line, self.small, MUTED, width=width)

    def frame(self, left: int, top: int, width: int, height: int) -> None:
        """Draw a hairline just outside a cell."""
        self.draw.rectangle((left - 1, top - 1, left + width, top + height), outline=RULE)

    def empty_cell(self, left: int, top: int, text: str | None = None) -> None:
        """Draw a hatched cell; ``text`` says what is missing."""
        width, height = self.layout.cell_width, self.layout.cell_height
        rows, columns = np.mgrid[:height, :width]
        period = self.layout.text // 2
        dark = (rows + columns) % period < max(1, period // 6)
        self.picture.paste(two_colours(dark, HATCH_DARK, HATCH_LIGHT), (left, top))
        self.frame(left, top, width, height)
        if text is not None:
            if self.small.getlength(text) > width:
                text = text.replace(" ", "\n")
            box = self.draw.multiline_textbbox((0, 0), text, self.small, align="center")
            # A text wider than the cell begins at its left edge: the column is wide enough.
            x = left + max(0, (width - int(box[2])) // 2)
            y = top + (height - int(box[1] + box[3])) // 2
            pad = self.layout.text // 3
            plate = (x + box[0] - pad, y + box[1] - pad, x + box[2] + pad, y + box[3] + pad)
            self.draw.rectangle(plate, fill=HATCH_LIGHT)
            self.draw.multiline_text((x, y), text, MUTED, self.small, align="center")

    def picture_cell(self, left: int, top: int, pixels: NDArray[np.uint8]) -> None:
        """Draw (h, w, 3) or (h, w) pixels of a sample's size."""
        size = (self.layout.cell_width, self.layout.cell_height)
        self.picture.paste(resized(pixels, size), (left, top))
        self.frame(left, top, *size)

    def depth_cell(
        self, left: int, top: int, depth: NDArray[np.floating[Any]], *, larger_is_nearer: bool
    ) -> None:
        """Draw a depth map in the colours of its own range; pixels that are not finite stay hatched."""
        size = (self.layout.cell_width, self.layout.cell_height)
        self.empty_cell(left, top)
        colours = resized(depth_colours(depth, larger_is_nearer=larger_is_nearer), size)
        known = np.isfinite(depth).astype(np.uint8) * 255
        self.picture.paste(colours, (left, top), resized(known, size))

    def patch_cell(self, left: int, top: int, patch: NDArray[np.uint8], ground: Image.Image) -> None:
        """Draw an RGBA or one-channel patch in the middle of a cell, as large as fits, on ``ground``."""
        layout = self.layout
        height, width = patch.shape[:2]
        scale = min(layout.cell_width / width, layout.cell_height / height)
        scale = int(scale) if scale >= 1 else scale
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = resized(patch, size)
        at = (left + (layout.cell_width - size[0]) // 2, top + (layout.cell_height - size[1]) // 2)
        self.picture.paste(ground, (left, top))
        self.picture.paste(picture, at, picture if picture.mode == "RGBA" else None)
        self.frame(left, top, layout.cell_width, layout.cell_height)


def two_colours(mask: NDArray[np.bool_], true: Colour, false: Colour) -> Image.Image:
    """An RGB picture with one colour where (h, w) ``mask`` is true and another elsewhere."""
    return Image.fromarray(np.where(mask[..., None], np.array(true), np.array(false)).astype(np.uint8))


def resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """Enlarge with every pixel a square, or reduce; colours are weighted by alpha where there is one."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if size[0] >= picture.width and size[1] >= picture.height:
        return picture.resize(size, Image.Resampling.NEAREST)
    if picture.mode == "RGBA":
        return picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return picture.resize(size, Image.Resampling.LANCZOS)


def printable(text: str) -> str:
    """The text in ASCII, ``·`` and ``…``, which Pillow's font has. Accents go, other signs become ``?``."""
    plain = []
    for character in unicodedata.normalize("NFC", text):
        base = unicodedata.normalize("NFKD", character)
        letters = "".join(c for c in base if not unicodedata.combining(c))
        drawable = letters and all(" " <= c <= "~" for c in letters)
        plain.append(character if character in "·…" else letters if drawable else "?")
    return "".join(plain)


def shortened(text: str, fits: Callable[[str], bool]) -> str:
    """The text, or as much of its two ends as fits: a name's number and extension stay readable."""
    if fits(text):
        return text
    for length in range(len(text) - 1, 0, -1):
        tail = length // 2
        shorter = f"{text[: length - tail]}…{text[len(text) - tail :]}"
        if fits(shorter):
            return shorter
    return "…"


def path_problems(path: Path) -> list[str]:
    """What is wrong with a path to write a picture to, as far as that shows before writing."""
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


def check_picture_path(path: Path) -> None:
    """Raise SpecError where no picture can be written to a path, as far as that shows before it is drawn."""
    require_local(path, "Pictures are")
    if problems := path_problems(Path(path)):
        raise SpecError("The picture cannot be drawn:", problems, code="preview-invalid")


def picture_bytes(picture: Image.Image, extension: str) -> bytes:
    """A picture in the format of an extension such as ``.png``; a KeyError if Pillow was built without it."""
    kind, options = _FORMATS[extension.lower()]
    content = io.BytesIO()
    picture.save(content, format=kind, **options)
    return content.getvalue()


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture in one step, in the format of the extension; a SpecError if that fails."""
    try:
        write_atomically(path, picture_bytes(picture, path.suffix))
    except (OSError, KeyError) as exc:
        # Pillow raises a KeyError for a format that it was built without.
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        raise SpecError(
            f"The picture cannot be written to {path}: {reason}.", code="picture-unwritable"
        ) from exc

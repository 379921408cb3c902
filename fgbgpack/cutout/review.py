"""The picture of all cut-outs, with their flags, on the grounds that show what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fgbgpack.cutout.folder import CutoutFolder
from fgbgpack.cutout.table import Cutout
from fgbgpack.errors import SourceError
from fgbgpack.sources.decoding import decodable
from fgbgpack.sources.names import counted
from fgbgpack.visual.canvas import MUTED, Canvas, Colour, Layout

#: More would be a picture that no viewer opens.
_MOST = 600
_COLUMNS, _CELL = 8, 208
_FLAGGED: Colour = (190, 30, 45)
#: Edges of dark foregrounds show on the bright half, and those of bright ones on the dark half.
_BRIGHT: Colour = (244, 245, 247)
_DARK: Colour = (40, 44, 52)
_GREEN: Colour = (0, 177, 64)


class _Sheet(Layout):
    """Cells of one size in rows, with three lines of text below each."""

    def __init__(self, cells: int) -> None:
        rows = max(1, math.ceil(cells / _COLUMNS))
        super().__init__((_CELL, _CELL), rows)
        self.across = self.column_width + self.gap
        self.down = self.cell_height + 4 * self.line
        self.top = 2 * self.margin + 2 * self.line
        self.width = 2 * self.margin + _COLUMNS * self.across
        self.height = self.top + rows * self.down + self.margin


def review(folder: CutoutFolder, cutouts: Sequence[Cutout]) -> Image.Image:
    """Draws all cut-outs, flagged ones first, as far as a picture has room for them: 600."""
    shown = sorted(cutouts, key=lambda cutout: not cutout.flags)[:_MOST]
    layout = _Sheet(len(shown))
    canvas = Canvas(layout)
    flagged = sum(bool(cutout.flags) for cutout in cutouts)
    title = f"{counted(len(cutouts), 'cut-out')}, {flagged:,} flagged"
    canvas.write((layout.margin, layout.margin + layout.line), title, canvas.title)
    used = sum(folder.is_used(cutout) for cutout in cutouts)
    more = f"; the first {_MOST} are shown" if len(shown) < len(cutouts) else ""
    at = (layout.margin, layout.margin + 2 * layout.line + layout.gap)
    width = layout.width - 2 * layout.margin
    text = f"{used:,} used; write yes or no into the column keep of cutouts.csv, and run the same again{more}"
    canvas.write(at, text, canvas.small, MUTED, width=width)
    for place, cutout in enumerate(shown):
        row, column = divmod(place, _COLUMNS)
        left, top = layout.margin + column * layout.across, layout.top + row * layout.down
        _draw(canvas, left, top, folder, cutout)
    return canvas.picture


def _draw(canvas: Canvas[_Sheet], left: int, top: int, folder: CutoutFolder, cutout: Cutout) -> None:
    layout = canvas.layout
    path = None if cutout.file is None else folder.find(cutout.file)
    patch = None if path is None else _thumbnail(path)
    if patch is None:
        canvas.empty_cell(left, top, "nothing found" if cutout.file is None else "cannot be read")
    else:
        canvas.patch_cell(left, top, patch, _ground(layout.cell_width, layout.cell_height))
    base = top + layout.cell_height + layout.line
    unused = "" if folder.is_used(cutout) or cutout.file is None else " (left out)"
    canvas.write(
        (left, base), f"{cutout.file or cutout.photo}{unused}", canvas.small, width=layout.column_width
    )
    for line, words in enumerate(_in_lines(cutout.flags), 1):
        at = (left, base + line * layout.line)
        canvas.write(at, words, canvas.small, _FLAGGED, width=layout.column_width)


def _in_lines(flags: Sequence[str]) -> list[str]:
    half = math.ceil(len(flags) / 2) if len(flags) > 2 else len(flags)
    return [", ".join(part) for part in (flags[:half], flags[half:]) if part]


def _ground(width: int, height: int) -> Image.Image:
    """Bright, dark and green, side by side."""
    ground = Image.new("RGB", (width, height), _BRIGHT)
    draw = ImageDraw.Draw(ground)
    draw.rectangle((width // 3, 0, width, height), fill=_DARK)
    draw.rectangle((2 * width // 3, 0, width, height), fill=_GREEN)
    return ground


def _thumbnail(path: Path) -> NDArray[np.uint8] | None:
    """A cut-out, at most as large as a cell; ``None`` where somebody has damaged it."""
    try:
        with decodable(path), Image.open(path) as file:
            picture = file.convert("RGBA").convert("RGBa")
            picture.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
            return np.asarray(picture.convert("RGBA"))
    except SourceError:
        return None

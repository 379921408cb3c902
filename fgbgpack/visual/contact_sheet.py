"""A contact sheet of the pictures that an audit found something of."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.sources.audit import Audit, Finding
from fgbgpack.sources.memory import decoding
from fgbgpack.sources.names import counted
from fgbgpack.sources.pictures import read_picture
from fgbgpack.spec import Reading
from fgbgpack.visual.canvas import HATCH_DARK, HATCH_LIGHT, MUTED, Canvas, Layout, two_colours

_COLUMNS, _MOST_CELLS = 6, 60
_CELL = 224
_SQUARE = 12  # of the ground behind transparent pictures


class _Sheet(Layout):
    """Cells of one size in rows, with three lines of text below each."""

    def __init__(self, cells: int) -> None:
        rows = max(1, math.ceil(cells / _COLUMNS))
        super().__init__((_CELL, _CELL), rows)
        self.across = self.column_width + 2 * self.gap
        self.down = self.cell_height + 5 * self.line
        self.top = 2 * self.margin + 2 * self.line
        self.width = 2 * self.margin + _COLUMNS * self.across
        self.height = self.top + rows * self.down + self.margin


def contact_sheet(audit: Audit, reading: Reading) -> Image.Image:
    """The first 60 pictures that something was found of, with what that is; those that are alike are side by
    side.
    """
    cells = [(finding, path) for finding in audit.findings for path in finding.paths]
    shown = cells[:_MOST_CELLS]
    layout = _Sheet(len(shown))
    canvas = Canvas(layout)
    looked_at = counted(sum(audit.pictures.values()), "picture")
    canvas.write(
        (layout.margin, layout.margin + layout.line),
        f"{len({path for _, path in cells}):,} suspicious of {looked_at}",
        canvas.title,
    )
    more = f"; the first {len(shown)} findings are shown" if len(shown) < len(cells) else ""
    folders = ", ".join(f"{folder} ({kind})" for folder, kind in audit.kinds.items())
    at = (layout.margin, layout.margin + 2 * layout.line + layout.gap)
    canvas.write(at, f"{folders}{more}", canvas.small, MUTED, width=layout.width - 2 * layout.margin)
    for place, (finding, path) in enumerate(shown):
        row, column = divmod(place, _COLUMNS)
        left, top = layout.margin + column * layout.across, layout.top + row * layout.down
        _draw(canvas, left, top, finding, path, reading)
    return canvas.picture


def _draw(canvas: Canvas[_Sheet], left: int, top: int, finding: Finding, path: str, reading: Reading) -> None:
    layout = canvas.layout
    try:
        with decoding():
            patch = _thumbnail(Path(path), reading)
        y, x = np.mgrid[: layout.cell_height, : layout.cell_width] // _SQUARE
        canvas.patch_cell(left, top, patch, two_colours((y + x) % 2 == 0, HATCH_LIGHT, HATCH_DARK))
    except SourceError:
        canvas.empty_cell(left, top, "cannot be read")
    base = top + layout.cell_height + layout.line
    canvas.write((left, base), Path(path).name, canvas.small, width=layout.column_width)
    text = f"{finding.kind}: {finding.text.partition('; expected')[0]}"
    canvas.write_note((left, base + layout.line), text, layout.column_width)


def _thumbnail(path: Path, reading: Reading) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = read_picture(path, reading=reading)
    scale = min(1, _CELL / max(picture.rgb.size))
    width, height = (max(1, round(side * scale)) for side in picture.rgb.size)
    size = (width, height)
    rgb = picture.rgb.resize(size, Image.Resampling.BOX)
    if picture.alpha is not None:
        rgb.putalpha(picture.alpha.resize(size, Image.Resampling.BOX))
    return np.asarray(rgb)

"""A picture of the statistics of a dataset: where foregrounds are, how large, how deep, made of what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from fgbgpack.dataset.stats import DepthStats, Histogram, Part, Stats
from fgbgpack.sources.names import counted
from fgbgpack.visual.canvas import MUTED, RULE, Canvas, Colour, Layout, check_picture_path, write_picture
from fgbgpack.visual.colours import colour_map

_BARS: Colour = (72, 111, 160)
_CHANNELS: tuple[tuple[str, Colour], ...] = (
    ("red", (196, 66, 62)),
    ("green", (66, 145, 84)),
    ("blue", (62, 104, 190)),
)
_COLUMNS = 3
#: Sources that have a bar each; the bars of more stand for several.
_MOST_BARS = 96
_SHOWN_PARTS = 8


def write_stats_picture(stats: Stats, name: str, path: Path) -> None:
    """Draw statistics of the dataset ``name``, and write the picture to a file in one step; the extension
    gives the format: PNG, JPEG, WebP, TIFF or BMP.

    Raises SpecError where the extension is unknown, the folder is missing, or the file cannot be written.
    """
    check_picture_path(path)
    write_picture(render_stats(stats, name), Path(path))


class _StatsLayout(Layout):
    """Panels in three columns below a title, and a line for each part of a split."""

    def __init__(self, panels: int, parts: int) -> None:
        super().__init__((128, 128), 0)
        self.panel_width = round(self.cell_width * 1.55)
        self.plot_height = round(self.cell_height * 0.82)
        self.between = self.margin
        self.top = self.margin + 4 * self.line
        self.panel_height = self.plot_height + 4 * self.line
        rows = -(-panels // _COLUMNS)
        self.table = self.top + rows * self.panel_height
        self.width = 2 * self.margin + _COLUMNS * self.panel_width + (_COLUMNS - 1) * self.between
        self.height = self.table + (parts + 1) * self.line * bool(parts) + self.margin

    def panel(self, number: int) -> tuple[int, int]:
        """Left and top of a panel."""
        row, column = divmod(number, _COLUMNS)
        left = self.margin + column * (self.panel_width + self.between)
        return left, self.top + row * self.panel_height


_Canvas = Canvas[_StatsLayout]
#: Draws a panel at its left and top.
_Panel = Callable[[_Canvas, int, int], None]


def render_stats(stats: Stats, name: str) -> Image.Image:
    """Draw statistics of the dataset ``name``: an RGB picture, the same for the same statistics."""
    whole = stats.whole
    panels: list[_Panel] = [
        lambda canvas, left, top: _draw_places(canvas, left, top, stats),
        lambda canvas, left, top: _draw_channels(canvas, left, top, whole),
        lambda canvas, left, top: _draw_shares(canvas, left, top, whole),
    ]
    if (depth := whole.depth) is not None:
        panels.append(lambda canvas, left, top: _draw_depth(canvas, left, top, depth))
    if (sizes := stats.sizes) is not None and len(sizes.heights.counts) > 1:
        note = f"pixels; half of them {sizes.height[1]} to {sizes.height[3]}"
        panels.append(_histogram("Heights of objects", note, sizes.heights, _whole, count="objects"))
    if sizes is not None and (visible := sizes.visible) is not None and any(visible.counts[:-1]):
        note = f"share of its pixels; {counted(sizes.hidden, 'object')} hidden"
        panels.append(_histogram("Seen of each object", note, visible, _percent, count="objects"))
    if (counts := stats.counts) is not None:
        if len(counts.objects) > 2:
            found = Histogram(0, len(counts.objects), counts.objects)
            panels.append(_histogram("Objects of a sample", "how many", found, None, count="samples"))
        for kind, of, numbers in (
            ("background", "samples", counts.backgrounds),
            ("foreground", "objects", counts.foregrounds),
        ):
            if not numbers:
                continue  # objects were imported
            title, note = (
                f"{of.capitalize()} of each {kind}",
                f"{counted(len(numbers), kind)}, in their order",
            )
            panels.append(_histogram(title, note, _grouped(numbers), _whole, count=of))
        if len(counts.categories) > 1:
            panels.append(lambda canvas, left, top: _draw_categories(canvas, left, top, counts.categories))
    parts = list(stats.parts.items())[:_SHOWN_PARTS]
    canvas = Canvas(_StatsLayout(len(panels), len(parts)))
    _draw_title(canvas, stats, name)
    for number, draw in enumerate(panels):
        draw(canvas, *canvas.layout.panel(number))
    if parts:
        _draw_parts(canvas, stats, parts)
    return canvas.picture


def _draw_title(canvas: _Canvas, stats: Stats, name: str) -> None:
    layout, whole = canvas.layout, stats.whole
    left, width = layout.margin, layout.width - 2 * layout.margin
    y = layout.margin + round(1.15 * layout.line)
    canvas.write((left, y), PurePath(name).name or name, canvas.title, width=width)
    is_part = f" of {stats.total:,}" if whole.samples < stats.total else ""
    details = [f"{whole.samples:,}{is_part} samples", f"{stats.width} x {stats.height} pixels"]
    if is_part:
        details.append("incomplete")
    details.append(f"foreground {whole.mask.share:.1%} of the pixels")
    if stats.same_samples is not None:
        details.append(f"{counted(stats.same_samples, 'sample')} twice")
    y += round(1.25 * layout.line)
    canvas.write((left, y), "  ·  ".join(details), canvas.body, MUTED, width=width)


def _heading(canvas: _Canvas, left: int, top: int, title: str, note: str) -> int:
    """Write the heading of a panel; returns where it begins."""
    layout = canvas.layout
    canvas.write((left, top + layout.line), title, canvas.heading, width=layout.panel_width)
    y = top + round(1.95 * layout.line)
    canvas.write((left, y), note, canvas.small, MUTED, width=layout.panel_width)
    return top + round(2.3 * layout.line)


def _draw_places(canvas: _Canvas, left: int, top: int, stats: Stats) -> None:
    """Where in the picture foregrounds are, brighter where more are."""
    layout = canvas.layout
    top = _heading(canvas, left, top, "Where foregrounds are", "bright where most often")
    cells = np.array(stats.places, np.float64)
    # Parts of the picture differ by a row or a column of pixels.
    rows, columns = (np.diff([i * side // n for i in range(n + 1)]) for n, side in _sides(stats, cells.shape))
    often = cells / (rows[:, None] * columns * max(1, stats.whole.samples))
    most = float(often.max()) or 1.0
    colours = colour_map()[np.rint(often / most * 255).astype(np.intp)]
    scale = min(layout.plot_height / stats.height, (layout.panel_width * 0.72) / stats.width)
    size = max(1, round(stats.width * scale)), max(1, round(stats.height * scale))
    picture = Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
    canvas.picture.paste(picture, (left, top))
    canvas.frame(left, top, *size)
    bar_left, width = left + size[0] + layout.gap, round(layout.text * 0.7)
    bar = Image.fromarray(np.repeat(colour_map()[::-1, None], width, axis=1))
    canvas.picture.paste(bar.resize((width, size[1]), Image.Resampling.BOX), (bar_left, top))
    canvas.frame(bar_left, top, width, size[1])
    x = bar_left + width + layout.gap // 2
    canvas.write((x, top), f"{most:.1%}", canvas.small, anchor="lt")
    canvas.write((x, top + layout.line), "of samples", canvas.small, MUTED, anchor="lt")
    canvas.write((x, top + size[1]), "0 %", canvas.small, anchor="ls")


def _sides(stats: Stats, cells: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(zip(cells, (stats.height, stats.width), strict=True))


def _draw_channels(canvas: _Canvas, left: int, top: int, whole: Part) -> None:
    """Mean and standard deviation of each channel: a bar as long as one to either side of the mean."""
    layout, image = canvas.layout, whole.image
    top = _heading(canvas, left, top, "Colours", "mean  ·  standard deviation")
    step, width = layout.plot_height // _COLUMNS, layout.panel_width
    for number, (name, colour) in enumerate(_CHANNELS):
        mean, std = image.mean[number], image.std[number]
        y = top + number * step + round(0.9 * layout.line)
        canvas.write((left, y), name, canvas.body, colour)
        canvas.write((left + width, y), f"{mean:.4f}  ·  {std:.4f}", canvas.body, anchor="rs")
        bar = y + layout.gap
        height = max(4, step - round(1.55 * layout.line))
        canvas.draw.rectangle((left, bar, left + width - 1, bar + height), fill=(238, 240, 243))
        low, high = (left + round(max(0.0, min(1.0, x)) * (width - 1)) for x in (mean - std, mean + std))
        canvas.draw.rectangle((low, bar, high, bar + height), fill=_lighter(colour))
        middle = left + round(mean * (width - 1))
        canvas.draw.rectangle((middle - 2, bar, middle + 2, bar + height), fill=colour)


def _lighter(colour: Colour) -> Colour:
    red, green, blue = ((one + 2 * 255) // 3 for one in colour)
    return red, green, blue


def _draw_shares(canvas: _Canvas, left: int, top: int, whole: Part) -> None:
    """How much of a sample is foreground, up to where there are any."""
    counts = whole.mask.histogram.counts
    last = max((i for i, count in enumerate(counts) if count), default=0) + 1
    shown = Histogram(0.0, last / len(counts), counts[:last])
    note = f"share of its pixels; {counted(whole.mask.empty, 'sample')} have none"
    _histogram("Foreground of a sample", note, shown, _percent, count="samples")(canvas, left, top)


def _draw_depth(canvas: _Canvas, left: int, top: int, depth: DepthStats) -> None:
    """All values of depth, in the colours of depth."""
    name = "of an unknown kind" if depth.quantity is None else depth.quantity.replace("_", " ")
    unit = f" in {depth.unit}" if depth.unit else ""
    note = f"{name}{unit}; mean {depth.mean:.3g}, std {depth.std:.3g}"
    shades = np.linspace(0, 255, len(depth.histogram.counts)).astype(int)
    if depth.quantity == "depth":
        shades = shades[::-1]
    colours = [(int(r), int(g), int(b)) for r, g, b in colour_map()[shades]]
    draw = _histogram("Depth of pixels", note, depth.histogram, _number, count="pixels", colours=colours)
    draw(canvas, left, top)


def _draw_categories(canvas: _Canvas, left: int, top: int, categories: Mapping[str, int]) -> None:
    """How many objects there are of each category."""
    layout, width = canvas.layout, canvas.layout.panel_width
    shown = sorted(categories.items(), key=lambda item: -item[1])[: layout.plot_height // layout.line]
    note = f"{counted(len(categories), 'category', 'categories')}, the most frequent first"
    top = _heading(canvas, left, top, "Objects of each category", note)
    label = width * 2 // 5
    most = max(count for _, count in shown) or 1
    for row, (name, count) in enumerate(shown):
        y = top + row * layout.line
        canvas.write((left, y + layout.line // 2), name or "none", canvas.small, width=label, anchor="lm")
        room = width - label - layout.text * 4
        end = left + label + round(count / most * room)
        canvas.draw.rectangle(
            (left + label, y + 3, max(end, left + label + 1), y + layout.line - 4), fill=_BARS
        )
        canvas.write((end + layout.gap // 2, y + layout.line // 2), f"{count:,}", canvas.small, anchor="lm")


def _histogram(
    title: str,
    note: str,
    found: Histogram,
    say: Callable[[float], str] | None,
    *,
    count: str,
    colours: Sequence[Colour] | None = None,
) -> _Panel:
    """A panel of bars of what is counted, the highest of which is named. The axis ``say``s its ends and its
    middle, or each bar its number.
    """

    def draw(canvas: _Canvas, left: int, top: int) -> None:
        layout, width = canvas.layout, canvas.layout.panel_width
        top = _heading(canvas, left, top, title, note)
        bottom = top + layout.plot_height
        most = max(found.counts) or 1
        canvas.write((left + width, top), f"{most:,} {count}", canvas.small, MUTED, anchor="rt")
        # The highest bar ends below what names it.
        room = layout.plot_height - layout.line
        edges = [left + round(i * width / len(found.counts)) for i in range(len(found.counts) + 1)]
        apart = int(edges[1] - edges[0] > 4)
        for number, value in enumerate(found.counts):
            if value:
                height = max(1, round(value / most * room))
                box = (edges[number], bottom - height, edges[number + 1] - 1 - apart, bottom - 1)
                canvas.draw.rectangle(box, fill=_BARS if colours is None else colours[number])
        canvas.draw.line((left, bottom, left + width, bottom), RULE, 2)
        y = bottom + round(0.9 * layout.line)
        if say is None:
            for number in range(len(found.counts)):
                x = (edges[number] + edges[number + 1]) // 2
                canvas.write((x, y), str(number), canvas.small, anchor="ms")
            return
        middle = (found.least + found.greatest) / 2
        canvas.write((left, y), say(found.least), canvas.small)
        canvas.write((left + width // 2, y), say(middle), canvas.small, anchor="ms")
        canvas.write((left + width, y), say(found.greatest), canvas.small, anchor="rs")

    return draw


def _grouped(counts: Sequence[int]) -> Histogram:
    """As many bars as can be told apart, each the mean of a few that follow one another."""
    step = -(-len(counts) // _MOST_BARS)
    means = [
        round(sum(counts[i : i + step]) / len(counts[i : i + step])) for i in range(0, len(counts), step)
    ]
    return Histogram(0, len(counts), tuple(means))


def _draw_parts(canvas: _Canvas, stats: Stats, parts: Sequence[tuple[str, Part]]) -> None:
    """A line for each part of the split."""
    layout = canvas.layout
    width = layout.width - 2 * layout.margin
    places = [round(width * share) for share in (0, 0.2, 0.35, 0.6, 0.85)]
    name = "" if stats.split is None else str(stats.split["name"])
    headings = (f"Split {name}", "samples", "mean", "std", "foreground")
    top = layout.table
    for place, text in zip(places, headings, strict=True):
        canvas.write((layout.margin + place, top), text, canvas.small, MUTED, width=width // 5)
    for row, (part, found) in enumerate(parts, start=1):
        y = top + row * layout.line
        image = found.image
        cells = (
            part,
            f"{found.samples:,}",
            " ".join(f"{one:.3f}" for one in image.mean),
            " ".join(f"{one:.3f}" for one in image.std),
            f"{found.mask.share:.1%}",
        )
        for place, text in zip(places, cells, strict=True):
            canvas.write((layout.margin + place, y), text, canvas.small, width=round(width * 0.24))


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"

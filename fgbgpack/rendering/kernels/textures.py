"""Kernels for the materials of a room: their colour at a point of a face.

A texture gives how far the colour goes from the material's first to its second (``mix``, 0..1) and how light
it is (``shade``, about 1). Colours are linear.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

from fgbgpack.jit import kernel
from fgbgpack.rendering.kernels.noise import clamp01, fraction, hash01, noise, turbulence
from fgbgpack.rendering.kernels.vectors import Array, Vector, along, minus, scaled, vector

# A material's columns: texture, first colour (1..3), second colour (4..6), cell size along u and v (7, 8),
# contrast (9), mirror strength (10), mirror blur (11), emission (12), seed (13).
MATERIAL = 14
PLASTER, TILES, MARBLE, PARQUET, CARPET, BRICK, PANELS, ASHLAR, SIGN, PICTURE = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
GRID, FOLIAGE, GOODS, CLOTHES, DIFFUSER, WALLPAPER, VIEW, METAL, DRAPES = 10, 11, 12, 13, 14, 15, 16, 17, 18

# Letters that spell nothing: a bit for each of five rows of three cells, the lowest row in the last octet.
_LETTERS = (0o71117, 0o72222, 0o55711, 0o75555, 0o11117, 0o55755, 0o75557, 0o71747)

#: Where a point lies on a face: u and v in metres, s and t in 0..1 across the face.
Place: TypeAlias = tuple[float, float, float, float]


class Texel(NamedTuple):
    """A place (see ``Place``) and what its material is like.

    Attributes:
        su: Size of the material's cell along u in metres.
        sv: The same along v.
        footprint: Width in metres that one ray stands for.
        fine: Share, 0..1, that detail of some centimetres keeps at that width.
    """

    u: float
    v: float
    s: float
    t: float
    su: float
    sv: float
    contrast: float
    seed: int
    footprint: float
    fine: float


@kernel
def _line(distance: float, half_width: float, footprint: float) -> float:
    """How much of a footprint a line covers whose middle is ``distance`` away (all in metres)."""
    return clamp01((half_width - distance) / footprint + 0.5) * min(1.0, 2.0 * half_width / footprint)


@kernel
def _grid(at: Texel, half_width: float) -> float:
    """How much of the footprint the lines between the material's cells cover."""
    du = (0.5 - abs(fraction(at.u / at.su) - 0.5)) * at.su
    dv = (0.5 - abs(fraction(at.v / at.sv) - 0.5)) * at.sv
    return max(_line(du, half_width, at.footprint), _line(dv, half_width, at.footprint))


@kernel
def _slab(at: Texel) -> tuple[int, float, float]:
    """The slab at a point, 0 or 1 as on a chequerboard; a random number of it; the shade of its joints."""
    iu = math.floor(at.u / at.su)
    iv = math.floor(at.v / at.sv)
    du = abs(at.u - (iu + 0.5) * at.su)
    dv = abs(at.v - (iv + 0.5) * at.sv)
    joint = max(_line(0.5 * at.su - du, 0.006, at.footprint), _line(0.5 * at.sv - dv, 0.006, at.footprint))
    return (iu + iv) & 1, hash01(iu, iv, at.seed), 1.0 - 0.42 * joint


@kernel
def _tiles(at: Texel) -> tuple[float, float]:
    colour, cell, joint = _slab(at)
    cloud = turbulence(at.u * 3.0 + 13.0 * cell, at.v * 3.0, at.seed + 7)
    shade = 1.0 + at.contrast * (0.5 * (cell - 0.5) + 0.8 * (cloud - 0.5))
    shade += 0.5 * at.contrast * at.fine * (noise(at.u * 70.0, at.v * 70.0, at.seed + 9) - 0.5)
    return float(colour), shade * joint


@kernel
def _marble(at: Texel) -> tuple[float, float]:
    u, v = at.u, at.v
    _, cell, joint = _slab(at)
    shift = 13.0 * cell
    wave = turbulence(u * 1.1 + shift, v * 1.1 - shift, at.seed)
    vein = abs(turbulence(u * 1.6 + 2.2 * wave + shift, v * 1.6 + 1.7 * wave, at.seed + 3) - 0.5)
    thin = abs(turbulence(u * 4.1 - 1.5 * wave, v * 4.1 + shift, at.seed + 11) - 0.5)
    veins = 0.85 * math.exp(-vein * 34.0) + 0.5 * math.exp(-thin * 60.0) * at.fine + 0.5 * (wave - 0.4)
    return clamp01(at.contrast * veins), (1.0 + 0.12 * (cell - 0.5)) * joint


@kernel
def _parquet(at: Texel) -> tuple[float, float]:
    """Planks, or squares of planks, with grain."""
    u, v, su, sv = at.u, at.v, at.su, at.sv
    if at.seed & 1:  # basket weave: squares of planks that alternate in direction
        iu = math.floor(u / su)
        iv = math.floor(v / su)
        if (iu + iv) & 1:
            u, v = v, u
            iu, iv = iv, iu
        length = u - iu * su
        row = math.floor(v / sv)
        plank = hash01(row, iu * 31 + iv, at.seed)
    else:
        row = math.floor(v / sv)
        length = u + su * 7.0 * hash01(row, 5, at.seed)
        plank = hash01(row, math.floor(length / su), at.seed)
        length -= math.floor(length / su) * su
    grain = turbulence(length * 2.2 + 31.0 * plank, v * 34.0 + 7.0 * plank, at.seed + 2)
    mix = clamp01(0.5 + at.contrast * ((plank - 0.5) * 1.1 + (grain - 0.5) * 1.3 * (0.3 + 0.7 * at.fine)))
    gap = max(
        _line(0.5 * sv - abs(v - (row + 0.5) * sv), 0.0025, at.footprint),
        _line(0.5 * su - abs(length - 0.5 * su), 0.0025, at.footprint),
    )
    return mix, 1.0 - 0.55 * gap


@kernel
def _carpet(at: Texel) -> tuple[float, float]:
    """A woven pattern: diamonds, rings or blots."""
    u, v, su, sv = at.u, at.v, at.su, at.sv
    fu, fv = fraction(u / su) - 0.5, fraction(v / sv) - 0.5
    width = at.footprint + 0.012
    soft = 1.0 / (1.0 + (at.footprint / (0.2 * su)) ** 2)
    if at.seed % 3 == 0:
        motif = abs(fu) + abs(fv)
        mark = clamp01((0.07 - abs(motif - 0.36)) * su / width + 0.5)
        mark += clamp01((0.11 - motif) * su / width)
    elif at.seed % 3 == 1:
        motif = math.sqrt(fu * fu + fv * fv)
        mark = clamp01((0.06 - abs(motif - 0.30)) * su / width + 0.5)
    else:
        mark = 3.0 * turbulence(u * 5.0 / su, v * 5.0 / sv, at.seed) - 1.0
    mix = clamp01(mark) * soft * at.contrast + 0.25 * at.contrast * (1.0 - soft)
    shade = (
        0.86 + 0.28 * noise(u * 120.0, v * 120.0, at.seed + 1) * at.fine + 0.1 * turbulence(u, v, at.seed + 4)
    )
    return mix, shade


@kernel
def _masonry(kind: int, at: Texel) -> tuple[float, float]:
    """Rows of bricks or of hewn stone, and the mortar between."""
    u, v, su, sv = at.u, at.v, at.su, at.sv
    row = math.floor(v / sv)
    top = v / sv - row
    du = u / su + 0.5 * (row & 1) + (0.3 * hash01(row, 3, at.seed) if kind == ASHLAR else 0.0)
    iu = math.floor(du)
    cell = hash01(iu, row, at.seed)
    eu = (0.5 - abs(du - iu - 0.5)) * su
    ev = (0.5 - abs(top - 0.5)) * sv
    bevel = 0.006 if kind == BRICK else 0.014
    joint = max(_line(eu, bevel, at.footprint), _line(ev, bevel, at.footprint))
    rough = turbulence(u * 6.0 + 9.0 * cell, v * 6.0, at.seed + 3)
    shade = 1.0 + at.contrast * (1.1 * (cell - 0.5) + 0.9 * (rough - 0.5))
    shade += 0.35 * at.contrast * at.fine * (noise(u * 60.0, v * 60.0, at.seed + 8) - 0.5)
    # Light from above catches each stone's upper edge and leaves its lower one dark.
    upper = _line(abs(1.0 - top) * sv, 4.0 * bevel, at.footprint)
    lower = _line(top * sv, 4.0 * bevel, at.footprint)
    shade += 0.25 * at.contrast * (upper - lower)
    return joint, shade


@kernel
def _panels(at: Texel) -> tuple[float, float]:
    u, v, su, sv = at.u, at.v, at.su, at.sv
    cell = hash01(math.floor(u / su), math.floor(v / sv), at.seed)
    grain = turbulence(u * 22.0 + 40.0 * cell, v * 1.3 + 9.0 * cell, at.seed)
    ring = 0.5 + 0.5 * math.sin(40.0 * turbulence(u * 3.0 + 17.0 * cell, v * 0.35, at.seed + 6))
    pattern = (cell - 0.5) + (grain - 0.5) * (0.4 + 0.6 * at.fine) + 0.35 * (ring - 0.5)
    shade = 1.0 - 0.6 * _grid(at, 0.008)
    shade += 0.10 * _line(abs(fraction(u / su) * su - 0.018), 0.008, at.footprint)
    return clamp01(0.4 + at.contrast * pattern), shade


@kernel
def _sign(at: Texel) -> float:
    """A shop sign: a round mark, letters after it, a border."""
    s, t, su, sv = at.s, at.t, at.su, at.sv
    aspect = max(su, 0.2) / max(sv, 0.05)
    x = s * aspect
    edge = min(min(x, aspect - x), min(t, 1.0 - t))
    soft = max(at.footprint / max(sv, 0.05), 0.02)
    logo = math.sqrt((x - 0.55) ** 2 + (t - 0.5) ** 2)
    ring = abs(logo - 0.26) if at.seed & 1 else logo - 0.18
    mix = clamp01((0.08 - ring) / soft + 0.5)
    if aspect > 1.6:
        # Letters with a gap after each.
        lx = (x - 1.05) / 0.105
        ly = (t - 0.25) / 0.1
        if 0.0 <= lx < math.floor((aspect - 1.3) / 0.42) * 4.0 and 0.0 <= ly < 5.0:
            letter = _LETTERS[int(hash01(int(lx) // 4, 1, at.seed) * 8.0)]
            column = int(lx) % 4
            if column < 3 and (letter >> (3 * int(ly) + column)) & 1:
                mix = 1.0
    if edge < 0.05:
        mix = 0.6
    return mix


@kernel
def _painting(at: Texel) -> tuple[float, float]:
    """A landscape, rectangles or brush strokes."""
    s, t = at.s, at.t
    if at.seed % 4 == 0:  # hills under a sky
        ridge = 0.35 + 0.3 * turbulence(s * 2.5, 0.5, at.seed)
        near = 0.12 + 0.3 * turbulence(s * 3.5 + 4.0, 1.5, at.seed + 1)
        if t < near:
            mix = 1.0
            shade = 0.55 + 0.5 * turbulence(s * 9.0, t * 14.0, at.seed + 2)
        elif t < ridge:
            mix = 0.75
            shade = 0.95 + 0.3 * turbulence(s * 6.0, t * 9.0, at.seed + 2)
        else:
            mix = 0.25 * turbulence(s * 3.0, t * 7.0, at.seed + 3)
            shade = 1.5 - 0.4 * t
    elif at.seed % 4 == 1:  # rectangles
        iu = math.floor(s * 3.0 + 0.5 * hash01(int(t * 3.0), 1, at.seed))
        iv = math.floor(t * 3.0)
        cell = hash01(iu, iv, at.seed)
        mix = 0.0 if cell < 0.4 else 1.0
        shade = 0.35 + 1.1 * hash01(iu, iv, at.seed + 1)
    else:  # brush strokes
        wave = turbulence(s * 2.0, t * 2.0, at.seed)
        mix = clamp01(3.0 * (turbulence(s * 5.0 + 3.0 * wave, t * 2.0 - 2.0 * wave, at.seed + 1) - 0.33))
        shade = 0.5 + 1.0 * turbulence(s * 3.0, t * 11.0, at.seed + 4)
    return mix, shade


@kernel
def _portrait(at: Texel) -> tuple[float, float]:
    """A head and shoulders before a dark ground."""
    s, t = at.s, at.t
    mix = 0.15 * turbulence(s * 4.0, t * 4.0, at.seed)
    shade = 0.6
    head = ((s - 0.5) / 0.15) ** 2 + ((t - 0.62) / 0.2) ** 2
    body = ((s - 0.5) / 0.36) ** 2 + ((t - 0.05) / 0.36) ** 2
    if head < 1.0:
        mix, shade = 1.0, 1.5 - 0.6 * s
    elif body < 1.0:
        mix, shade = 0.7, 0.75 - 0.4 * s
    return mix, shade


@kernel
def _ceiling_grid(at: Texel) -> tuple[float, float]:
    """Ceiling tiles with holes, in a grid of rails."""
    u, v, su, sv = at.u, at.v, at.su, at.sv
    holes = noise(u * 42.0, v * 42.0, at.seed)
    cell = hash01(math.floor(u / su), math.floor(v / sv), at.seed)
    shade = 1.0 - at.contrast * (0.8 * at.fine * clamp01((holes - 0.62) * 5.0) + 0.5 * cell * cell)
    shade -= 0.5 * at.contrast * clamp01(turbulence(u * 0.5, v * 0.5, at.seed + 1) - 0.5)
    return _grid(at, 0.012), shade


@kernel
def _goods(colour: Vector, at: Texel) -> tuple[Vector, float, float]:
    """Shelves of boxes and bottles in colours of their own; ``colour`` is that of the boards."""
    row = math.floor(at.v / at.sv)
    y = at.v / at.sv - row
    place = at.u / at.su + 0.37 * hash01(row, 2, at.seed)
    item = math.floor(place)
    cell = hash01(item, row, at.seed)
    x = place - item
    tall = 0.38 + 0.5 * hash01(item // 3, row, at.seed + 1)
    wide = 0.62 + 0.36 * hash01(item, row, at.seed + 2)
    mix = 0.0
    if y < 0.09:
        shade = 1.2
    elif y < tall and x < wide and cell > 0.12:
        hue = 6.283 * hash01(item // 2, row, at.seed + 3)
        tone = (0.25 + 0.55 * cell) * (1.5 if abs(y - 0.5 * tall) < 0.08 and cell > 0.5 else 1.0)
        colour = (
            tone * (0.55 + 0.45 * math.cos(hue)),
            tone * (0.5 + 0.4 * math.cos(hue - 2.2)),
            tone * (0.5 + 0.45 * math.cos(hue + 2.2)),
        )
        shade = 0.75 + 0.5 * math.sqrt(max(0.0, 1.0 - (2.0 * x / wide - 1.0) ** 2))
    else:
        mix = 1.0
        shade = 0.55 + 0.5 * (1.0 - y)
    return colour, mix, shade


@kernel
def _clothes(at: Texel) -> tuple[Vector, float]:
    place = at.u / at.su
    item = math.floor(place)
    cell = hash01(item, 1, at.seed)
    hue = 6.283 * hash01(item // 3, 2, at.seed)
    tone = 0.12 + 0.5 * cell
    colour = (
        tone * (0.6 + 0.4 * math.cos(hue)),
        tone * (0.55 + 0.35 * math.cos(hue - 2.1)),
        tone * (0.6 + 0.4 * math.cos(hue + 2.1)),
    )
    folds = 0.8 + 0.3 * noise(at.u * 9.0, at.v * 2.5, at.seed)
    return colour, 0.35 + 0.75 * math.sin(math.pi * (place - item)) * folds


@kernel
def _wallpaper(at: Texel) -> tuple[float, float]:
    su, sv, contrast = at.su, at.sv, at.contrast
    du = fraction(at.u / su)
    mix = contrast if du < 0.5 else 0.0
    bloom = math.sqrt((du - 0.25) ** 2 * su * su + (fraction(at.v / sv) - 0.5) ** 2 * sv * sv) / su
    mix = clamp01(mix + contrast * (1.0 if bloom < 0.13 else 0.0) - contrast * (2.0 if bloom < 0.06 else 0.0))
    mix *= 1.0 / (1.0 + (at.footprint / (0.4 * su)) ** 2)
    return mix, 0.95 + 0.1 * turbulence(at.u * 1.5, at.v * 1.5, at.seed)


@kernel
def _outdoors(colour: Vector, at: Texel) -> tuple[Vector, float, float]:
    """What lies outside a window: sky of this colour, clouds, blocks of a town, trees."""
    u, v, t = at.u, at.v, at.t
    mix = 0.0
    skyline = 0.24 + 0.22 * hash01(math.floor(u / 2.3), 1, at.seed)
    tree = 0.10 + 0.12 * turbulence(u * 1.4, 0.3, at.seed + 3)
    if t < tree:
        colour = 0.10, 0.16, 0.07
        shade = 0.6 + 0.9 * turbulence(u * 5.0, v * 5.0, at.seed + 4)
    elif t < skyline:
        lit = hash01(math.floor(u / 0.45), math.floor(v / 0.35), at.seed + 5)
        shade = 0.42 + 0.25 * lit
        mix = 0.6
    else:
        mix = clamp01(2.2 * turbulence(u * 0.45, v * 0.9, at.seed + 6) - 0.7)
        shade = 1.25 - 0.3 * t
    return colour, mix, shade


@kernel
def texture(materials: Array, m: int, place: Place, footprint: float) -> Vector:
    """Colour of material ``m`` at a place of a face.

    ``footprint`` is the width in metres that one ray stands for; detail finer than that fades to its mean.
    """
    kind = int(materials[m, 0])
    fine = 1.0 / (1.0 + (footprint / 0.03) ** 2)
    at = Texel(
        place[0], place[1], place[2], place[3], materials[m, 7], materials[m, 8], materials[m, 9],
        int(materials[m, 13]), max(footprint, 1e-4), fine,
    )  # fmt: skip
    first, second = vector(materials, m, 1), vector(materials, m, 4)
    mix = 0.0
    shade = 1.0
    if kind == PLASTER:
        shade += at.contrast * (turbulence(at.u * 0.9, at.v * 0.9, at.seed) - 0.5)
        shade += at.contrast * 0.5 * fine * (noise(at.u * 55.0, at.v * 55.0, at.seed + 5) - 0.5)
        # Walls get dirty from below and are rubbed along the hip.
        shade -= at.contrast * 0.35 * math.exp(-max(at.v, 0.0) * 4.0)
    elif kind == TILES:
        mix, shade = _tiles(at)
    elif kind == MARBLE:
        mix, shade = _marble(at)
    elif kind == PARQUET:
        mix, shade = _parquet(at)
    elif kind == CARPET:
        mix, shade = _carpet(at)
    elif kind in (BRICK, ASHLAR):
        mix, shade = _masonry(kind, at)
    elif kind == PANELS:
        mix, shade = _panels(at)
    elif kind == SIGN:
        mix = _sign(at)
    elif kind == PICTURE:
        if at.seed % 4 == 3:
            second = 0.42 + 0.2 * first[0], 0.25 + 0.1 * first[1], 0.16 + 0.1 * first[2]
            mix, shade = _portrait(at)
        else:
            mix, shade = _painting(at)
        shade *= 0.92 + 0.16 * noise(at.s * 90.0, at.t * 90.0, at.seed + 9)
    elif kind == GRID:
        mix, shade = _ceiling_grid(at)
    elif kind == FOLIAGE:
        mix = clamp01(noise(at.u * 13.0 / at.su, at.v * 13.0 / at.su, at.seed) * 1.4 - 0.2)
        shade = 0.45 + 0.8 * noise(at.u * 31.0 / at.su, at.v * 19.0 / at.su, at.seed + 2)
    elif kind == GOODS:
        first, mix, shade = _goods(first, at)
    elif kind == CLOTHES:
        first, shade = _clothes(at)
    elif kind == DIFFUSER:
        # Darker at its bars and edges.
        middle = 0.85 + 0.3 * math.sin(math.pi * clamp01(at.s)) * math.sin(math.pi * clamp01(at.t))
        shade = (1.0 - at.contrast * _grid(at, 0.02)) * middle
    elif kind == WALLPAPER:
        mix, shade = _wallpaper(at)
    elif kind == VIEW:
        first, mix, shade = _outdoors(first, at)
    elif kind == METAL:
        brushed = noise(at.u * 3.0, at.v * 160.0, at.seed) * fine + 0.5 * (1.0 - fine)
        mix = clamp01(0.5 + 0.5 * math.sin(at.t * 3.0 + 5.0 * noise(at.s * 2.0, at.t * 2.0, at.seed + 1)))
        shade += at.contrast * (brushed - 0.5)
    else:
        fold = math.sin(6.2832 * (at.u / at.su + 0.35 * noise(at.u * 2.0, at.v * 0.4, at.seed)))
        mix = clamp01(0.5 + 0.5 * fold)
        weave = 0.08 * (noise(at.u * 40.0, at.v * 40.0, at.seed) - 0.5) * fine
        shade = 1.0 - at.contrast * 0.5 * (1.0 - fold) * 0.5 + weave
    shade = max(shade, 0.04)
    return scaled(along(first, minus(second, first), mix), shade)

"""Kernels for what rooms are made of: the colour of a material at a point of it.

A texture gives how far the colour goes from the material's first to its second (``mix``, from 0 to 1) and how
light it is (``shade``, about 1). ``u`` and ``v`` are metres along the face, ``s`` and ``t`` the place across
it in 0..1, ``su`` and ``sv`` the material's cell. ``footprint`` is the width in metres that one ray stands
for and ``fine`` the share, 0..1, that detail of some centimetres keeps at that width. Colours are linear.
"""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt

from fgbgpack.jit import kernel
from fgbgpack.rendering.kernels.noise import clamp01, hash01, noise, turbulence

Array = npt.NDArray[Any]

# A material's columns: texture, first colour (1..3), second colour (4..6), cell size along u and v (7, 8),
# contrast (9), mirror strength (10), mirror blur (11), emission (12), seed (13).
MATERIAL = 14
PLASTER, TILES, MARBLE, PARQUET, CARPET, BRICK, PANELS, ASHLAR, SIGN, PICTURE = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
GRID, FOLIAGE, GOODS, CLOTHES, DIFFUSER, WALLPAPER, VIEW, METAL, DRAPES = 10, 11, 12, 13, 14, 15, 16, 17, 18


@kernel
def _line(distance: float, half_width: float, footprint: float) -> float:
    """How much of a footprint a line covers whose middle is ``distance`` away (all in metres)."""
    return clamp01((half_width - distance) / footprint + 0.5) * min(1.0, 2.0 * half_width / footprint)


@kernel
def _plaster(u: float, v: float, contrast: float, seed: int, fine: float) -> float:
    """Shade of a painted wall."""
    shade = 1.0 + contrast * (turbulence(u * 0.9, v * 0.9, seed) - 0.5)
    shade += contrast * 0.5 * fine * (noise(u * 55.0, v * 55.0, seed + 5) - 0.5)
    # Walls get dirty from below and are rubbed along the hip.
    shade -= contrast * 0.35 * math.exp(-max(v, 0.0) * 4.0)
    return shade


@kernel
def _slabs(
    kind: int,
    u: float,
    v: float,
    su: float,
    sv: float,
    contrast: float,
    seed: int,
    footprint: float,
    fine: float,
) -> tuple[float, float]:
    """Square slabs with joints: tiles in two colours, or veined marble."""
    mix = 0.0
    shade = 1.0
    iu = math.floor(u / su)
    iv = math.floor(v / sv)
    du = abs(u - (iu + 0.5) * su)
    dv = abs(v - (iv + 0.5) * sv)
    cell = hash01(int(iu), int(iv), seed)
    joint = max(_line(0.5 * su - du, 0.006, footprint), _line(0.5 * sv - dv, 0.006, footprint))
    shift = 13.0 * cell
    if kind == TILES:
        mix = float((int(iu) + int(iv)) & 1)
        cloud = turbulence(u * 3.0 + shift, v * 3.0, seed + 7)
        shade += contrast * (0.5 * (cell - 0.5) + 0.8 * (cloud - 0.5))
        shade += 0.5 * contrast * fine * (noise(u * 70.0, v * 70.0, seed + 9) - 0.5)
    else:
        wave = turbulence(u * 1.1 + shift, v * 1.1 - shift, seed)
        vein = abs(turbulence(u * 1.6 + 2.2 * wave + shift, v * 1.6 + 1.7 * wave, seed + 3) - 0.5)
        thin = abs(turbulence(u * 4.1 - 1.5 * wave, v * 4.1 + shift, seed + 11) - 0.5)
        mix = contrast * (
            0.85 * math.exp(-vein * 34.0) + 0.5 * math.exp(-thin * 60.0) * fine + 0.5 * (wave - 0.4)
        )
        mix = clamp01(mix)
        shade += 0.12 * (cell - 0.5)
    shade *= 1.0 - 0.42 * joint
    return mix, shade


@kernel
def _parquet(
    u: float, v: float, su: float, sv: float, contrast: float, seed: int, footprint: float, fine: float
) -> tuple[float, float]:
    """Planks, or squares of planks, with grain."""
    if seed & 1:  # basket weave: squares of planks that alternate in direction
        iu = math.floor(u / su)
        iv = math.floor(v / su)
        if (int(iu) + int(iv)) & 1:
            u, v = v, u
            iu, iv = iv, iu
        along = u - iu * su
        across = v
        row = math.floor(v / sv)
        plank = hash01(int(row), int(iu) * 31 + int(iv), seed)
    else:
        across = v
        row = math.floor(v / sv)
        along = u + su * 7.0 * hash01(int(row), 5, seed)
        plank = hash01(int(row), math.floor(along / su), seed)
        along -= math.floor(along / su) * su
    grain = turbulence(along * 2.2 + 31.0 * plank, across * 34.0 + 7.0 * plank, seed + 2)
    mix = clamp01(0.5 + contrast * ((plank - 0.5) * 1.1 + (grain - 0.5) * 1.3 * (0.3 + 0.7 * fine)))
    gap = max(
        _line(0.5 * sv - abs(across - (row + 0.5) * sv), 0.0025, footprint),
        _line(0.5 * su - abs(along - 0.5 * su), 0.0025, footprint),
    )
    shade = 1.0 - 0.55 * gap
    return mix, shade


@kernel
def _carpet(
    u: float, v: float, su: float, sv: float, contrast: float, seed: int, footprint: float, fine: float
) -> tuple[float, float]:
    """A woven pattern: diamonds, rings or blots."""
    fu = u / su - math.floor(u / su) - 0.5
    fv = v / sv - math.floor(v / sv) - 0.5
    soft = 1.0 / (1.0 + (footprint / (0.2 * su)) ** 2)
    if seed % 3 == 0:
        motif = abs(fu) + abs(fv)
        mark = clamp01((0.07 - abs(motif - 0.36)) * su / (footprint + 0.012) + 0.5) + clamp01(
            (0.11 - motif) * su / (footprint + 0.012)
        )
    elif seed % 3 == 1:
        motif = math.sqrt(fu * fu + fv * fv)
        mark = clamp01((0.06 - abs(motif - 0.30)) * su / (footprint + 0.012) + 0.5)
    else:
        mark = 3.0 * turbulence(u * 5.0 / su, v * 5.0 / sv, seed) - 1.0
    mix = clamp01(mark) * soft * contrast + 0.25 * contrast * (1.0 - soft)
    shade = 0.86 + 0.28 * noise(u * 120.0, v * 120.0, seed + 1) * fine + 0.1 * turbulence(u, v, seed + 4)
    return mix, shade


@kernel
def _masonry(
    kind: int,
    u: float,
    v: float,
    su: float,
    sv: float,
    contrast: float,
    seed: int,
    footprint: float,
    fine: float,
) -> tuple[float, float]:
    """Rows of bricks or of hewn stone, and the mortar between."""
    row = math.floor(v / sv)
    du = u / su + 0.5 * (int(row) & 1) + (0.3 * hash01(int(row), 3, seed) if kind == ASHLAR else 0.0)
    iu = math.floor(du)
    cell = hash01(int(iu), int(row), seed)
    eu = (0.5 - abs(du - iu - 0.5)) * su
    ev = (0.5 - abs(v / sv - row - 0.5)) * sv
    bevel = 0.006 if kind == BRICK else 0.014
    joint = max(_line(eu, bevel, footprint), _line(ev, bevel, footprint))
    rough = turbulence(u * 6.0 + 9.0 * cell, v * 6.0, seed + 3)
    shade = 1.0 + contrast * (1.1 * (cell - 0.5) + 0.9 * (rough - 0.5))
    shade += 0.35 * contrast * fine * (noise(u * 60.0, v * 60.0, seed + 8) - 0.5)
    # Light from above catches each stone's upper edge and leaves its lower one dark.
    top = v / sv - row
    shade += (
        0.25
        * contrast
        * (_line(abs(1.0 - top) * sv, 4.0 * bevel, footprint) - _line(top * sv, 4.0 * bevel, footprint))
    )
    return joint, shade


@kernel
def _panels(
    u: float, v: float, su: float, sv: float, contrast: float, seed: int, footprint: float, fine: float
) -> tuple[float, float]:
    """Boards with grain and grooves."""
    iu = math.floor(u / su)
    du = u / su - iu
    cell = hash01(int(iu), math.floor(v / sv), seed)
    grain = turbulence(u * 22.0 + 40.0 * cell, v * 1.3 + 9.0 * cell, seed)
    ring = 0.5 + 0.5 * math.sin(40.0 * turbulence(u * 3.0 + 17.0 * cell, v * 0.35, seed + 6))
    mix = clamp01(0.4 + contrast * ((cell - 0.5) + (grain - 0.5) * (0.4 + 0.6 * fine) + 0.35 * (ring - 0.5)))
    dv = v / sv - math.floor(v / sv)
    groove = max(
        _line((0.5 - abs(du - 0.5)) * su, 0.008, footprint),
        _line((0.5 - abs(dv - 0.5)) * sv, 0.008, footprint),
    )
    shade = 1.0 - 0.6 * groove + 0.10 * _line(abs(du * su - 0.018), 0.008, footprint)
    return mix, shade


@kernel
def _stroke(letter: int, col: int, row: int, seed: int) -> bool:
    """Whether a cell of a letter, of three by five, is drawn; the letters spell nothing."""
    pick = int(hash01(letter, 1, seed) * 8.0)
    on = col == 0 or row == 0 or row == 4
    if pick == 1:
        on = col == 1 or row == 4
    elif pick == 2:
        on = col == 0 or row == 2 or (col == 2 and row > 1)
    elif pick == 3:
        on = col == 0 or col == 2 or row == 4
    elif pick == 4:
        on = col == 0 or row == 0
    elif pick == 5:
        on = col == 0 or col == 2 or row == 2
    elif pick == 6:
        on = col == 0 or row == 0 or row == 4 or col == 2
    elif pick == 7:
        on = row == 0 or row == 2 or row == 4 or (col == 0 and row > 2) or (col == 2 and row < 2)
    return on


@kernel
def _sign(s: float, t: float, su: float, sv: float, seed: int, footprint: float) -> float:
    """A shop sign: a round mark, letters after it, a border."""
    aspect = max(su, 0.2) / max(sv, 0.05)
    x = s * aspect
    edge = min(min(x, aspect - x), min(t, 1.0 - t))
    soft = max(footprint / max(sv, 0.05), 0.02)
    logo = math.sqrt((x - 0.55) ** 2 + (t - 0.5) ** 2)
    ring = abs(logo - 0.26) if seed & 1 else logo - 0.18
    mix = clamp01((0.08 - ring) / soft + 0.5)
    if aspect > 1.6:
        # Letters of three by five cells, with a gap after each.
        lx = (x - 1.05) / 0.105
        ly = (t - 0.25) / 0.1
        if 0.0 <= lx < math.floor((aspect - 1.3) / 0.42) * 4.0 and 0.0 <= ly < 5.0:
            letter = int(lx) // 4
            col = int(lx) % 4
            if col < 3 and _stroke(letter, col, int(ly), seed):
                mix = 1.0
    if edge < 0.05:
        mix = 0.6
    return mix


@kernel
def _painting(s: float, t: float, seed: int) -> tuple[float, float]:
    """A landscape, rectangles or brush strokes."""
    if seed % 4 == 0:  # hills under a sky
        ridge = 0.35 + 0.3 * turbulence(s * 2.5, 0.5, seed)
        near = 0.12 + 0.3 * turbulence(s * 3.5 + 4.0, 1.5, seed + 1)
        if t < near:
            mix = 1.0
            shade = 0.55 + 0.5 * turbulence(s * 9.0, t * 14.0, seed + 2)
        elif t < ridge:
            mix = 0.75
            shade = 0.95 + 0.3 * turbulence(s * 6.0, t * 9.0, seed + 2)
        else:
            mix = 0.25 * turbulence(s * 3.0, t * 7.0, seed + 3)
            shade = 1.5 - 0.4 * t
    elif seed % 4 == 1:  # rectangles
        iu = math.floor(s * 3.0 + 0.5 * hash01(int(t * 3.0), 1, seed))
        iv = math.floor(t * 3.0)
        cell = hash01(int(iu), int(iv), seed)
        mix = 0.0 if cell < 0.4 else 1.0
        shade = 0.35 + 1.1 * hash01(int(iu), int(iv), seed + 1)
    else:  # brush strokes
        wave = turbulence(s * 2.0, t * 2.0, seed)
        mix = clamp01(3.0 * (turbulence(s * 5.0 + 3.0 * wave, t * 2.0 - 2.0 * wave, seed + 1) - 0.33))
        shade = 0.5 + 1.0 * turbulence(s * 3.0, t * 11.0, seed + 4)
    return mix, shade


@kernel
def _portrait(s: float, t: float, seed: int) -> tuple[float, float]:
    """A head and shoulders before a dark ground."""
    mix = 0.15 * turbulence(s * 4.0, t * 4.0, seed)
    shade = 0.6
    head = ((s - 0.5) / 0.15) ** 2 + ((t - 0.62) / 0.2) ** 2
    body = ((s - 0.5) / 0.36) ** 2 + ((t - 0.05) / 0.36) ** 2
    if head < 1.0:
        mix, shade = 1.0, 1.5 - 0.6 * s
    elif body < 1.0:
        mix, shade = 0.7, 0.75 - 0.4 * s
    return mix, shade


@kernel
def _ceiling_grid(
    u: float, v: float, su: float, sv: float, contrast: float, seed: int, footprint: float, fine: float
) -> tuple[float, float]:
    """Ceiling tiles with holes, in a grid of rails."""
    du = (0.5 - abs(u / su - math.floor(u / su) - 0.5)) * su
    dv = (0.5 - abs(v / sv - math.floor(v / sv) - 0.5)) * sv
    mix = max(_line(du, 0.012, footprint), _line(dv, 0.012, footprint))
    holes = noise(u * 42.0, v * 42.0, seed)
    cell = hash01(math.floor(u / su), math.floor(v / sv), seed)
    shade = 1.0 - contrast * (0.8 * fine * clamp01((holes - 0.62) * 5.0) + 0.5 * cell * cell)
    shade -= 0.5 * contrast * clamp01(turbulence(u * 0.5, v * 0.5, seed + 1) - 0.5)
    return mix, shade


@kernel
def _foliage(u: float, v: float, su: float, seed: int) -> tuple[float, float]:
    """Leaves, light and dark."""
    leaf = noise(u * 13.0 / su, v * 13.0 / su, seed)
    mix = clamp01(leaf * 1.4 - 0.2)
    shade = 0.45 + 0.8 * noise(u * 31.0 / su, v * 19.0 / su, seed + 2)
    return mix, shade


@kernel
def _goods(
    red: float, green: float, blue: float, u: float, v: float, su: float, sv: float, seed: int
) -> tuple[float, float, float, float, float]:
    """Shelves of boxes and bottles in colours of their own; ``red``, ``green``, ``blue``: the board."""
    row = math.floor(v / sv)
    y = v / sv - row
    place = u / su + 0.37 * hash01(int(row), 2, seed)
    item = math.floor(place)
    cell = hash01(int(item), int(row), seed)
    x = place - item
    tall = 0.38 + 0.5 * hash01(int(item) // 3, int(row), seed + 1)
    wide = 0.62 + 0.36 * hash01(int(item), int(row), seed + 2)
    mix = 0.0
    if y < 0.09:
        shade = 1.2
    elif y < tall and x < wide and cell > 0.12:
        hue = 6.283 * hash01(int(item) // 2, int(row), seed + 3)
        tone = 0.25 + 0.55 * cell
        label = 1.5 if abs(y - 0.5 * tall) < 0.08 and cell > 0.5 else 1.0
        red = tone * label * (0.55 + 0.45 * math.cos(hue))
        green = tone * label * (0.5 + 0.4 * math.cos(hue - 2.2))
        blue = tone * label * (0.5 + 0.45 * math.cos(hue + 2.2))
        shade = 0.75 + 0.5 * math.sqrt(max(0.0, 1.0 - (2.0 * x / wide - 1.0) ** 2))
    else:
        mix = 1.0
        shade = 0.55 + 0.5 * (1.0 - y)
    return red, green, blue, mix, shade


@kernel
def _clothes(u: float, v: float, su: float, seed: int) -> tuple[float, float, float, float]:
    """Clothes on a rail: colour and shade."""
    place = u / su
    item = math.floor(place)
    cell = hash01(int(item), 1, seed)
    hue = 6.283 * hash01(int(item) // 3, 2, seed)
    tone = 0.12 + 0.5 * cell
    red = tone * (0.6 + 0.4 * math.cos(hue))
    green = tone * (0.55 + 0.35 * math.cos(hue - 2.1))
    blue = tone * (0.6 + 0.4 * math.cos(hue + 2.1))
    shade = 0.35 + 0.75 * math.sin(math.pi * (place - item)) * (0.8 + 0.3 * noise(u * 9.0, v * 2.5, seed))
    return red, green, blue, shade


@kernel
def _diffuser(
    u: float, v: float, s: float, t: float, su: float, sv: float, contrast: float, footprint: float
) -> float:
    """The bright face of a lamp, darker at its bars and edges."""
    du = (0.5 - abs(u / su - math.floor(u / su) - 0.5)) * su
    dv = (0.5 - abs(v / sv - math.floor(v / sv) - 0.5)) * sv
    shade = 1.0 - contrast * max(_line(du, 0.02, footprint), _line(dv, 0.02, footprint))
    shade *= 0.85 + 0.3 * math.sin(math.pi * clamp01(s)) * math.sin(math.pi * clamp01(t))
    return shade


@kernel
def _wallpaper(
    u: float, v: float, su: float, sv: float, contrast: float, seed: int, footprint: float
) -> tuple[float, float]:
    """Stripes and flowers."""
    du = u / su - math.floor(u / su)
    mix = contrast if du < 0.5 else 0.0
    bloom = math.sqrt((du - 0.25) ** 2 * su * su + ((v / sv - math.floor(v / sv)) - 0.5) ** 2 * sv * sv) / su
    mix = clamp01(mix + contrast * (1.0 if bloom < 0.13 else 0.0) - contrast * (2.0 if bloom < 0.06 else 0.0))
    mix *= 1.0 / (1.0 + (footprint / (0.4 * su)) ** 2)
    shade = 0.95 + 0.1 * turbulence(u * 1.5, v * 1.5, seed)
    return mix, shade


@kernel
def _outdoors(
    red: float, green: float, blue: float, u: float, v: float, t: float, seed: int
) -> tuple[float, float, float, float, float]:
    """What lies outside a window: sky, clouds, blocks of a town, trees."""
    mix = 0.0
    skyline = 0.24 + 0.22 * hash01(math.floor(u / 2.3), 1, seed)
    tree = 0.10 + 0.12 * turbulence(u * 1.4, 0.3, seed + 3)
    if t < tree:
        red, green, blue = 0.10, 0.16, 0.07
        shade = 0.6 + 0.9 * turbulence(u * 5.0, v * 5.0, seed + 4)
    elif t < skyline:
        lit = hash01(math.floor(u / 0.45), math.floor(v / 0.35), seed + 5)
        shade = 0.42 + 0.25 * lit
        mix = 0.6
    else:
        mix = clamp01(2.2 * turbulence(u * 0.45, v * 0.9, seed + 6) - 0.7)
        shade = 1.25 - 0.3 * t
    return red, green, blue, mix, shade


@kernel
def _metal(
    u: float, v: float, s: float, t: float, contrast: float, seed: int, fine: float
) -> tuple[float, float]:
    """Brushed metal."""
    brushed = noise(u * 3.0, v * 160.0, seed) * fine + 0.5 * (1.0 - fine)
    mix = clamp01(0.5 + 0.5 * math.sin(t * 3.0 + 5.0 * noise(s * 2.0, t * 2.0, seed + 1)))
    shade = 1.0 + contrast * (brushed - 0.5)
    return mix, shade


@kernel
def _drapes(u: float, v: float, su: float, contrast: float, seed: int, fine: float) -> tuple[float, float]:
    """Cloth that hangs in folds."""
    fold = math.sin(6.2832 * (u / su + 0.35 * noise(u * 2.0, v * 0.4, seed)))
    mix = clamp01(0.5 + 0.5 * fold)
    shade = 1.0 - contrast * 0.5 * (1.0 - fold) * 0.5 + 0.08 * (noise(u * 40.0, v * 40.0, seed) - 0.5) * fine
    return mix, shade


@kernel
def texture(
    materials: Array, m: int, u: float, v: float, s: float, t: float, footprint: float
) -> tuple[float, float, float]:
    """Colour of material ``m`` at ``(u, v)`` metres, ``(s, t)`` in 0..1 across the face.

    ``footprint`` is the width in metres that one ray stands for; detail finer than that fades to its mean.
    """
    kind = int(materials[m, 0])
    ar, ag, ab = materials[m, 1], materials[m, 2], materials[m, 3]
    br, bg, bb = materials[m, 4], materials[m, 5], materials[m, 6]
    su, sv, contrast = materials[m, 7], materials[m, 8], materials[m, 9]
    seed = int(materials[m, 13])
    mix = 0.0
    shade = 1.0
    fine = 1.0 / (1.0 + (footprint / 0.03) ** 2)
    footprint = max(footprint, 1e-4)
    if kind == PLASTER:
        shade = _plaster(u, v, contrast, seed, fine)
    elif kind in (TILES, MARBLE):
        mix, shade = _slabs(kind, u, v, su, sv, contrast, seed, footprint, fine)
    elif kind == PARQUET:
        mix, shade = _parquet(u, v, su, sv, contrast, seed, footprint, fine)
    elif kind == CARPET:
        mix, shade = _carpet(u, v, su, sv, contrast, seed, footprint, fine)
    elif kind in (BRICK, ASHLAR):
        mix, shade = _masonry(kind, u, v, su, sv, contrast, seed, footprint, fine)
    elif kind == PANELS:
        mix, shade = _panels(u, v, su, sv, contrast, seed, footprint, fine)
    elif kind == SIGN:
        mix = _sign(s, t, su, sv, seed, footprint)
    elif kind == PICTURE:
        if seed % 4 == 3:
            br, bg, bb = 0.42 + 0.2 * ar, 0.25 + 0.1 * ag, 0.16 + 0.1 * ab
            mix, shade = _portrait(s, t, seed)
        else:
            mix, shade = _painting(s, t, seed)
        shade *= 0.92 + 0.16 * noise(s * 90.0, t * 90.0, seed + 9)
    elif kind == GRID:
        mix, shade = _ceiling_grid(u, v, su, sv, contrast, seed, footprint, fine)
    elif kind == FOLIAGE:
        mix, shade = _foliage(u, v, su, seed)
    elif kind == GOODS:
        ar, ag, ab, mix, shade = _goods(ar, ag, ab, u, v, su, sv, seed)
    elif kind == CLOTHES:
        ar, ag, ab, shade = _clothes(u, v, su, seed)
    elif kind == DIFFUSER:
        shade = _diffuser(u, v, s, t, su, sv, contrast, footprint)
    elif kind == WALLPAPER:
        mix, shade = _wallpaper(u, v, su, sv, contrast, seed, footprint)
    elif kind == VIEW:
        ar, ag, ab, mix, shade = _outdoors(ar, ag, ab, u, v, t, seed)
    elif kind == METAL:
        mix, shade = _metal(u, v, s, t, contrast, seed, fine)
    else:
        mix, shade = _drapes(u, v, su, contrast, seed, fine)
    shade = max(shade, 0.04)
    return (shade * (ar + (br - ar) * mix), shade * (ag + (bg - ag) * mix), shade * (ab + (bb - ab) * mix))

"""Things that stand and hang in rooms of more than one kind. Each function adds one to a room."""

from __future__ import annotations

import math

from fgbgpack.rendering.colours import PICTURES, rgb, vary
from fgbgpack.rendering.kernels import raycast, textures
from fgbgpack.rendering.room import Room


def panel(
    room: Room, x: float, y: float, z: float, half: tuple[float, float], power: float, material: int
) -> None:
    """A lamp let into a ceiling at height y."""
    room.box((x - half[0], x + half[0]), (y - 0.03, y + 0.05), (z - half[1], z + half[1]), material)
    room.light(x, y - 0.05, z, power, half=half)


def pendant(
    room: Room, x: float, z: float, ceiling: float, height: float, power: float, shade: int, rod: int
) -> None:
    """A lamp on a rod: a ball or a cone."""
    room.tube(x, z, (height, ceiling), 0.015, 0.015, rod)
    if room.dice.chance(0.5):
        room.ball(x, height, z, (0.22, 0.2, 0.22), shade)
    else:
        room.tube(x, z, (height - 0.15, height + 0.15), 0.3, 0.16, shade)
    room.light(x, height - 0.1, z, power, half=(0.12, 0.12), down=False, reach=14.0)


def chandelier(room: Room, x: float, z: float, ceiling: float, height: float, power: float) -> None:
    """Two rings of candles on a rod."""
    brass, bulb = room.metal("b9924a"), room.glowing((1.0, 0.83, 0.58), 3.2)
    radius = room.dice.between(0.5, 0.9)
    room.tube(x, z, (height, ceiling), 0.025, 0.025, brass)
    room.tube(x, z, (height - 0.12, height + 0.3), 0.05, 0.14, brass)
    for ring, level in ((1.0, 0.0), (0.55, 0.38)):
        r = radius * ring
        room.tube(x, z, (height + level - 0.03, height + level), r, r, brass)
        arms = 10 if ring == 1.0 else 6
        for arm in range(arms):
            angle = 2.0 * math.pi * arm / arms
            bx, bz = x + r * math.cos(angle), z + r * math.sin(angle)
            room.tube(bx, bz, (height + level, height + level + 0.17), 0.045, 0.03, bulb)
    room.light(
        x, height - 0.1, z, power, half=(radius, radius), down=False, reach=18.0, colour=(1.0, 0.85, 0.64)
    )


def plant(room: Room, x: float, z: float, size: float = 1.0, floor: float = 0.0) -> None:
    """A pot with a bush, or with a small tree."""
    dice = room.dice
    if dice.chance(0.5):
        pot = room.paint(dice.pick(("e8e4da", "3a3a3c", "a5573a", "6f7c85")), 0.3, 0.05)
    else:
        pot = room.material(textures.PANELS, rgb("7a5433"), rgb("3f2a19"), cell=(0.07, 0.5), contrast=0.9)
    green = vary(dice, rgb(dice.pick(("2f5d2a", "3f7a35", "56783a", "24502f"))), 0.25)
    leaf = room.material(
        textures.FOLIAGE,
        (green[0] * 0.45, green[1] * 0.5, green[2] * 0.45),
        green,
        cell=(1.0, 1.0),
        group=raycast.LEAVES,
    )
    trunk = room.wood("5a4128", 0.0)
    tall = size * dice.between(0.34, 0.55)
    if dice.chance(0.4):
        room.box(
            (x - 0.24 * size, x + 0.24 * size),
            (floor, floor + tall),
            (z - 0.24 * size, z + 0.24 * size),
            pot,
        )
    else:
        room.tube(x, z, (floor, floor + tall), 0.18 * size, 0.28 * size, pot)
    soil = room.material(textures.PLASTER, rgb("2b1d12"), contrast=0.9)
    room.tube(x, z, (floor + tall, floor + tall + 0.01), 0.22 * size, 0.22 * size, soil)
    core = room.material(textures.PLASTER, (0.25 * green[0], 0.25 * green[1], 0.25 * green[2]), contrast=0.9)
    if dice.chance(0.55):
        top = floor + tall + size * dice.between(0.7, 1.1)
        room.tube(x, z, (floor + tall, top), 0.035 * size, 0.025 * size, trunk)
        for _ in range(4):
            a, r = dice.between(0.0, 6.28), dice.between(0.0, 0.25) * size
            radius = size * dice.between(0.28, 0.42)
            bx, bz = x + r * math.cos(a), z + r * math.sin(a)
            y = top + dice.between(-0.1, 0.35) * size
            room.ball(bx, y, bz, (radius, 0.8 * radius, radius), leaf)
            room.ball(bx, y, bz, (0.72 * radius, 0.55 * radius, 0.72 * radius), core)
    else:
        for layer in range(3):
            radius = size * (0.46 - 0.09 * layer)
            y = floor + tall + size * (0.25 + 0.3 * layer)
            room.ball(x, y, z, (radius, 0.42 * size, radius), leaf)
            room.ball(x, y, z, (0.6 * radius, 0.3 * size, 0.6 * radius), core)


def bench(room: Room, x: float, z: float, turn: float, seat: int, legs: int, length: float = 1.8) -> None:
    """A bench without a back."""
    h = length / 2.0
    about = (x, z)
    room.box((x - h, x + h), (0.4, 0.48), (z - 0.26, z + 0.26), seat, turn, about)
    for side in (-1.0, 1.0):
        cx = x + side * (h - 0.25)
        room.box((cx - 0.05, cx + 0.05), (0.0, 0.4), (z - 0.22, z + 0.22), legs, turn, about)


def sofa(room: Room, x: float, z: float, turn: float, cloth: int, feet: int, length: float = 1.9) -> None:
    """A sofa whose back is towards +z before it is turned."""
    h = length / 2.0
    about = (x, z)
    room.box((x - h, x + h), (0.1, 0.3), (z - 0.42, z + 0.42), cloth, turn, about)
    room.box((x - h, x + h), (0.3, 0.84), (z + 0.24, z + 0.44), cloth, turn, about)
    count = max(1, round(length / 0.75))
    wide = (length - 0.36) / count
    for i in range(count):
        left = x - h + 0.18 + i * wide
        room.box((left + 0.012, left + wide - 0.012), (0.3, 0.46), (z - 0.43, z + 0.22), cloth, turn, about)
    for side in (-1.0, 1.0):
        edge = x + side * (h - 0.09)
        room.box((edge - 0.09, edge + 0.09), (0.1, 0.62), (z - 0.42, z + 0.42), cloth, turn, about)
        for front in (-0.36, 0.36):
            room.box(
                (edge - 0.03, edge + 0.03),
                (0.0, 0.1),
                (z + front - 0.03, z + front + 0.03),
                feet,
                turn,
                about,
            )


def low_table(room: Room, x: float, z: float, turn: float, top: int, legs: int) -> None:
    """A round or a square table, perhaps with flowers."""
    if room.dice.chance(0.5):
        room.tube(x, z, (0.36, 0.41), 0.48, 0.48, top)
        room.tube(x, z, (0.03, 0.36), 0.05, 0.05, legs)
        room.tube(x, z, (0.0, 0.03), 0.28, 0.26, legs)
    else:
        room.box((x - 0.6, x + 0.6), (0.36, 0.41), (z - 0.32, z + 0.32), top, turn)
        for a in (-0.5, 0.5):
            for b in (-0.25, 0.25):
                room.box(
                    (x + a - 0.025, x + a + 0.025),
                    (0.0, 0.36),
                    (z + b - 0.025, z + b + 0.025),
                    legs,
                    turn,
                    (x, z),
                )
    if room.dice.chance(0.6):
        vase = room.paint(room.dice.pick(("2f6f8f", "d8d0c0", "8f2f3f", "d0a33f")), 0.2, 0.12)
        room.tube(x, z, (0.41, 0.52), 0.05, 0.09, vase)
        leaf = room.material(
            textures.FOLIAGE, rgb("2d5a2c"), rgb("c95b7b"), cell=(0.5, 0.5), group=raycast.LEAVES
        )
        room.ball(x, 0.62, z, (0.17, 0.15, 0.17), leaf)


def floor_lamp(room: Room, x: float, z: float, rod: int, shade: int, power: float = 1.6) -> None:
    """A lamp on a stand."""
    room.tube(x, z, (0.0, 0.03), 0.16, 0.15, rod)
    room.tube(x, z, (0.03, 1.45), 0.018, 0.018, rod)
    room.tube(x, z, (1.38, 1.68), 0.24, 0.17, shade)
    room.light(x, 1.5, z, power, half=(0.1, 0.1), down=False, reach=7.0, colour=(1.0, 0.8, 0.55))


def counter(room: Room, x: tuple[float, float], z: tuple[float, float], front: int, top: int) -> None:
    """A counter with one or two screens."""
    room.box(x, (0.1, 1.02), z, front)
    room.box((x[0] + 0.08, x[1] - 0.08), (0.0, 0.1), (z[0] + 0.08, z[1] - 0.08), room.paint("2a2725"))
    room.box((x[0] - 0.06, x[1] + 0.06), (1.02, 1.08), (z[0] - 0.06, z[1] + 0.06), top)
    screen, frame = room.paint("10151c", 0.05, 0.2), room.paint("26282c", 0.05)
    for _ in range(1 + room.dice.below(2)):
        cx, cz = room.dice.between(x[0] + 0.3, x[1] - 0.3), 0.5 * (z[0] + z[1])
        room.box((cx - 0.02, cx + 0.02), (1.08, 1.2), (cz - 0.02, cz + 0.02), frame)
        room.box(
            (cx - 0.24, cx + 0.24),
            (1.18, 1.5),
            (cz - 0.02, cz + 0.02),
            screen,
            room.dice.between(-0.4, 0.4),
        )


def column(
    room: Room, x: float, z: float, top: float, radius: float, shaft: int, trim: int, round_shaft: bool
) -> None:
    """A round or square column with base and capital."""
    if round_shaft:
        room.tube(x, z, (0.0, top), radius, 0.92 * radius, shaft)
        room.tube(x, z, (0.12, 0.24), 1.22 * radius, 1.08 * radius, trim)
        room.tube(x, z, (top - 0.42, top - 0.14), 1.0 * radius, 1.3 * radius, trim)
    else:
        room.box((x - radius, x + radius), (0.0, top), (z - radius, z + radius), shaft)
    wide = 1.32 * radius
    room.box((x - wide, x + wide), (0.0, 0.14), (z - wide, z + wide), trim)
    room.box((x - wide, x + wide), (top - 0.14, top), (z - wide, z + wide), trim)


def picture(
    room: Room, side: str, at: float, middle: float, y: float, wide: float, high: float, frame: int
) -> None:
    """A framed picture."""
    first, second = room.dice.pick(PICTURES)
    canvas = room.material(textures.PICTURE, vary(room.dice, rgb(first)), vary(room.dice, rgb(second)))
    mount = room.paint("efece4", 0.05)
    a, b = wide / 2.0, high / 2.0
    room.on_wall(side, at, (middle - a - 0.06, middle + a + 0.06), (y - b - 0.06, y + b + 0.06), frame, 0.04)
    if room.dice.chance(0.5):
        room.on_wall(side, at, (middle - a, middle + a), (y - b, y + b), mount, 0.045)
        a, b = 0.8 * a, 0.8 * b
    room.on_wall(side, at, (middle - a, middle + a), (y - b, y + b), canvas, 0.05)


def door(
    room: Room, side: str, at: float, middle: float, leaf: int, frame: int, handle: int, wide: float = 0.95
) -> None:
    """A closed door with frame and handle."""
    h = wide / 2.0
    room.on_wall(side, at, (middle - h - 0.09, middle - h), (0.0, 2.12), frame, 0.07)
    room.on_wall(side, at, (middle + h, middle + h + 0.09), (0.0, 2.12), frame, 0.07)
    room.on_wall(side, at, (middle - h - 0.09, middle + h + 0.09), (2.12, 2.22), frame, 0.07)
    room.on_wall(side, at, (middle - h, middle + h), (0.0, 2.12), leaf, 0.03)
    edge = middle + (h - 0.12) * (1.0 if room.dice.chance(0.5) else -1.0)
    room.on_wall(side, at, (edge - 0.07, edge + 0.07), (1.0, 1.03), handle, 0.09)
    room.on_wall(side, at, (edge - 0.025, edge + 0.025), (0.92, 1.12), handle, 0.045)


def window(
    room: Room, side: str, at: float, along: tuple[float, float], y: tuple[float, float], frame: int, day: int
) -> None:
    """A lit view outside, with a frame and glazing bars, that sheds daylight."""
    room.on_wall(side, at, along, y, day, 0.03)
    bars = max(1, round((along[1] - along[0]) / 1.1))
    for i in range(bars + 1):
        a = along[0] + (along[1] - along[0]) * i / bars
        room.on_wall(side, at, (a - 0.035, a + 0.035), y, frame, 0.07)
    for level in (y[0], y[0] + 0.68 * (y[1] - y[0]), y[1]):
        room.on_wall(side, at, (along[0] - 0.05, along[1] + 0.05), (level - 0.04, level + 0.04), frame, 0.09)
    middle, height = 0.5 * (along[0] + along[1]), 0.5 * (y[0] + y[1])
    area = (along[1] - along[0]) * (y[1] - y[0])
    daylight = (0.86, 0.95, 1.12)
    if side == "back":
        room.light(
            middle,
            height,
            at - 0.35,
            0.45 * area,
            half=(0.4, 0.05),
            down=False,
            reach=14.0,
            colour=daylight,
        )
    else:
        x = at + 0.35 if side == "left" else at - 0.35
        room.light(x, height, middle, 0.45 * area, half=(0.05, 0.4), down=False, reach=14.0, colour=daylight)


def statue(room: Room, x: float, z: float) -> None:
    """A bust, an urn or some balls on a plinth."""
    dice = room.dice
    plinth, stone = (
        room.paint("d8d2c6", 0.2),
        room.paint(dice.pick(("e8e4da", "8a7a5c", "3c3a38", "b5613f")), 0.35, 0.08),
    )
    high = dice.between(0.7, 1.1)
    room.box((x - 0.3, x + 0.3), (0.0, high), (z - 0.3, z + 0.3), plinth)
    room.box((x - 0.36, x + 0.36), (high, high + 0.06), (z - 0.36, z + 0.36), plinth)
    base, kind = high + 0.06, dice.below(3)
    if kind == 0:
        room.tube(x, z, (base, base + 0.12), 0.11, 0.08, stone)
        room.ball(x, base + 0.27, z, (0.26, 0.17, 0.15), stone)
        room.tube(x, z, (base + 0.35, base + 0.5), 0.065, 0.06, stone)
        room.ball(x, base + 0.6, z, (0.1, 0.14, 0.12), stone)
    elif kind == 1:
        room.tube(x, z, (base, base + 0.1), 0.14, 0.06, stone)
        room.tube(x, z, (base + 0.1, base + 0.5), 0.07, 0.26, stone)
        room.tube(x, z, (base + 0.5, base + 0.62), 0.26, 0.14, stone)
        room.tube(x, z, (base + 0.62, base + 0.68), 0.14, 0.2, stone)
    else:
        for level, radius in ((0.2, 0.2), (0.52, 0.15), (0.75, 0.1)):
            room.ball(x + dice.between(-0.05, 0.05), base + level, z, (radius, radius, radius), stone)

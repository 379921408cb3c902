"""Furniture and fittings of rooms of more than one kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import product

from fgbgpack.rendering.colours import DAYLIGHT, PICTURES, choose_pair, choose_varied, rgb, tint, vary
from fgbgpack.rendering.kernels import textures
from fgbgpack.rendering.room import Pair, Point, Room, Span, around

_CANDLELIGHT = (1.0, 0.8, 0.55)
_URN = ((0.0, 0.1, 0.14, 0.06), (0.1, 0.5, 0.07, 0.26), (0.5, 0.62, 0.26, 0.14), (0.62, 0.68, 0.14, 0.2))


class FurnishedRoom(Room):
    """A room with furniture and lamps: each method adds one, at (x, z) or, in a ceiling, at (x, y, z)."""

    def wall(self, side: str, at: float) -> Wall:
        """A wall to put things on."""
        return Wall(self, side, at)

    def panel(self, at: Point, half: Pair, power: float, face: int) -> None:
        """A lamp let into a ceiling at height y."""
        x, y, z = at
        self.box(around(x, half[0]), (y - 0.03, y + 0.05), around(z, half[1]), face)
        self.light((x, y - 0.05, z), power, half=half)

    def pendant(self, at: Pair, y: Span, power: float, shade: int, rod: int) -> None:
        """A lamp on a rod, from its height to the ceiling's: a ball or a cone."""
        (x, z), height = at, y[0]
        self.tube(x, z, y, 0.015, 0.015, rod)
        if self.rng.bernoulli(0.5):
            self.ball(x, height, z, (0.22, 0.2, 0.22), shade)
        else:
            self.tube(x, z, around(height, 0.15), 0.3, 0.16, shade)
        self.light((x, height - 0.1, z), power, half=(0.12, 0.12), down=False, reach=14.0)

    def chandelier(self, at: Pair, y: Span, power: float) -> None:
        """Two rings of candles on a rod, from its height to the ceiling's."""
        (x, z), height = at, y[0]
        brass, bulb = self.metal("b9924a"), self.lamp_face((1.0, 0.83, 0.58), 3.2)
        radius = self.rng.uniform(0.5, 0.9)
        self.tube(x, z, y, 0.025, 0.025, brass)
        self.tube(x, z, (height - 0.12, height + 0.3), 0.05, 0.14, brass)
        for ring, level, arms in ((1.0, 0.0, 10), (0.55, 0.38, 6)):
            r = radius * ring
            self.tube(x, z, (height + level - 0.03, height + level), r, r, brass)
            for arm in range(arms):
                angle = 2.0 * math.pi * arm / arms
                bx, bz = x + r * math.cos(angle), z + r * math.sin(angle)
                self.tube(bx, bz, (height + level, height + level + 0.17), 0.045, 0.03, bulb)
        warm = (1.0, 0.85, 0.64)
        self.light((x, height - 0.1, z), power, half=(radius, radius), down=False, reach=18.0, colour=warm)

    def plant(self, x: float, z: float, size: float) -> None:
        """A pot with a bush, or with a small tree."""
        rng = self.rng
        if rng.bernoulli(0.5):
            pot = self.paint("e8e4da 3a3a3c a5573a 6f7c85", 0.3, 0.05)
        else:
            pot = self.material(textures.PANELS, rgb("7a5433"), rgb("3f2a19"), cell=(0.07, 0.5), contrast=0.9)
        green = choose_varied(rng, "2f5d2a 3f7a35 56783a 24502f", 0.25)
        leaf = self.foliage(tint(green, 0.45, 0.5, 0.45), green, 1.0)
        trunk = self.wood("5a4128", 0.0)
        tall = size * rng.uniform(0.34, 0.55)
        if rng.bernoulli(0.4):
            self.box(around(x, 0.24 * size), (0.0, tall), around(z, 0.24 * size), pot)
        else:
            self.tube(x, z, (0.0, tall), 0.18 * size, 0.28 * size, pot)
        soil = self.material(textures.PLASTER, rgb("2b1d12"), contrast=0.9)
        self.tube(x, z, (tall, tall + 0.01), 0.22 * size, 0.22 * size, soil)
        core = self.material(textures.PLASTER, tint(green, 0.25, 0.25, 0.25), contrast=0.9)
        if rng.bernoulli(0.55):
            top = tall + size * rng.uniform(0.7, 1.1)
            self.tube(x, z, (tall, top), 0.035 * size, 0.025 * size, trunk)
            for _ in range(4):
                a, r = rng.uniform(0.0, 6.28), rng.uniform(0.0, 0.25) * size
                radius = size * rng.uniform(0.28, 0.42)
                bx, bz = x + r * math.cos(a), z + r * math.sin(a)
                y = top + rng.uniform(-0.1, 0.35) * size
                self.ball(bx, y, bz, (radius, 0.8 * radius, radius), leaf)
                self.ball(bx, y, bz, (0.72 * radius, 0.55 * radius, 0.72 * radius), core)
        else:
            for layer in range(3):
                radius = size * (0.46 - 0.09 * layer)
                y = tall + size * (0.25 + 0.3 * layer)
                self.ball(x, y, z, (radius, 0.42 * size, radius), leaf)
                self.ball(x, y, z, (0.6 * radius, 0.3 * size, 0.6 * radius), core)

    def bench(self, x: float, z: float, seat: int, legs: int, length: float = 1.8) -> None:
        """A bench without a back, along or across the room."""
        box = partial(self.box, turn=self.rng.choice((0.0, math.pi / 2.0)), about=(x, z))
        h = length / 2.0
        box(around(x, h), (0.4, 0.48), around(z, 0.26), seat)
        for side in (-1.0, 1.0):
            box(around(x + side * (h - 0.25), 0.05), (0.0, 0.4), around(z, 0.22), legs)

    def sofa(self, at: Pair, turn: float, cloth: int, feet: int, length: float = 1.9) -> None:
        """A sofa whose back is towards +z before it is turned."""
        (x, z), h = at, length / 2.0
        box = partial(self.box, turn=turn, about=at)
        box(around(x, h), (0.1, 0.3), around(z, 0.42), cloth)
        box(around(x, h), (0.3, 0.84), (z + 0.24, z + 0.44), cloth)
        count = max(1, round(length / 0.75))
        wide = (length - 0.36) / count
        for i in range(count):
            left = x - h + 0.18 + i * wide
            box((left + 0.012, left + wide - 0.012), (0.3, 0.46), (z - 0.43, z + 0.22), cloth)
        for side in (-1.0, 1.0):
            edge = x + side * (h - 0.09)
            box(around(edge, 0.09), (0.1, 0.62), around(z, 0.42), cloth)
            for front in (-0.36, 0.36):
                box(around(edge, 0.03), (0.0, 0.1), around(z + front, 0.03), feet)

    def low_table(self, x: float, z: float, turn: float, top: int, legs: int) -> None:
        """A round or a square table, perhaps with flowers."""
        if self.rng.bernoulli(0.5):
            self.tube(x, z, (0.36, 0.41), 0.48, 0.48, top)
            self.tube(x, z, (0.03, 0.36), 0.05, 0.05, legs)
            self.tube(x, z, (0.0, 0.03), 0.28, 0.26, legs)
        else:
            self.box(around(x, 0.6), (0.36, 0.41), around(z, 0.32), top, turn)
            for a, b in product((-0.5, 0.5), (-0.25, 0.25)):
                self.box(around(x + a, 0.025), (0.0, 0.36), around(z + b, 0.025), legs, turn, (x, z))
        if self.rng.bernoulli(0.6):
            vase = self.paint("2f6f8f d8d0c0 8f2f3f d0a33f", 0.2, 0.12)
            self.tube(x, z, (0.41, 0.52), 0.05, 0.09, vase)
            self.ball(x, 0.62, z, (0.17, 0.15, 0.17), self.foliage(rgb("2d5a2c"), rgb("c95b7b"), 0.5))

    def floor_lamp(self, x: float, z: float, rod: int, shade: int) -> None:
        """A lamp on a stand."""
        self.tube(x, z, (0.0, 0.03), 0.16, 0.15, rod)
        self.tube(x, z, (0.03, 1.45), 0.018, 0.018, rod)
        self.tube(x, z, (1.38, 1.68), 0.24, 0.17, shade)
        self.light((x, 1.5, z), 1.6, down=False, reach=7.0, colour=_CANDLELIGHT)

    def counter(self, x: Span, z: Span, front: int, top: int) -> None:
        """A counter with one or two screens."""
        self.box(x, (0.1, 1.02), z, front)
        self.box((x[0] + 0.08, x[1] - 0.08), (0.0, 0.1), (z[0] + 0.08, z[1] - 0.08), self.paint("2a2725"))
        self.box((x[0] - 0.06, x[1] + 0.06), (1.02, 1.08), (z[0] - 0.06, z[1] + 0.06), top)
        screen, frame = self.paint("10151c", 0.05, 0.2), self.paint("26282c", 0.05)
        for _ in range(1 + self.rng.integer(2)):
            cx, depth = self.rng.uniform(x[0] + 0.3, x[1] - 0.3), around(0.5 * (z[0] + z[1]), 0.02)
            self.box(around(cx, 0.02), (1.08, 1.2), depth, frame)
            self.box(around(cx, 0.24), (1.18, 1.5), depth, screen, self.rng.uniform(-0.4, 0.4))

    def column(self, at: Pair, top: float, radius: float, materials: tuple[int, int], rounded: bool) -> None:
        """A column with base and capital, round or square; ``materials`` are of the shaft and of these."""
        (x, z), (shaft, trim) = at, materials
        if rounded:
            self.tube(x, z, (0.0, top), radius, 0.92 * radius, shaft)
            self.tube(x, z, (0.12, 0.24), 1.22 * radius, 1.08 * radius, trim)
            self.tube(x, z, (top - 0.42, top - 0.14), radius, 1.3 * radius, trim)
        else:
            self.box(around(x, radius), (0.0, top), around(z, radius), shaft)
        for y in ((0.0, 0.14), (top - 0.14, top)):
            self.box(around(x, 1.32 * radius), y, around(z, 1.32 * radius), trim)

    def statue(self, x: float, z: float) -> None:
        """A bust, an urn or some balls on a plinth."""
        rng = self.rng
        plinth, stone = self.paint("d8d2c6", 0.2), self.paint("e8e4da 8a7a5c 3c3a38 b5613f", 0.35, 0.08)
        high = rng.uniform(0.7, 1.1)
        self.box(around(x, 0.3), (0.0, high), around(z, 0.3), plinth)
        self.box(around(x, 0.36), (high, high + 0.06), around(z, 0.36), plinth)
        base, kind = high + 0.06, rng.integer(3)
        if kind == 0:
            self.tube(x, z, (base, base + 0.12), 0.11, 0.08, stone)
            self.ball(x, base + 0.27, z, (0.26, 0.17, 0.15), stone)
            self.tube(x, z, (base + 0.35, base + 0.5), 0.065, 0.06, stone)
            self.ball(x, base + 0.6, z, (0.1, 0.14, 0.12), stone)
        elif kind == 1:
            for low, top, bottom_radius, top_radius in _URN:
                self.tube(x, z, (base + low, base + top), bottom_radius, top_radius, stone)
        else:
            for level, radius in ((0.2, 0.2), (0.52, 0.15), (0.75, 0.1)):
                self.ball(x + rng.uniform(-0.05, 0.05), base + level, z, (radius, radius, radius), stone)


@dataclass(frozen=True)
class Wall:
    """A wall of a room, to put flat things on.

    Attributes:
        side: ``left`` or ``right`` (the plane x = ``at``), or ``back`` (the plane z = ``at``).
    """

    room: FurnishedRoom
    side: str
    at: float

    @property
    def inward(self) -> float:
        """1 where the room lies on the far side of ``at``, as at a left wall, else -1."""
        return 1.0 if self.side == "left" else -1.0

    def add(self, along: Span, y: Span, material: int, thick: float = 0.04, gap: float = 0.0) -> None:
        """A flat block along the wall, ``thick`` metres thick and ``gap`` before it."""
        near = self.at + self.inward * gap
        depth = (near, near + self.inward * thick)
        x, z = (along, depth) if self.side == "back" else (depth, along)
        self.room.box(x, y, z, material)

    def wall_lamp(self, z: float) -> None:
        """A lamp on a left or right wall."""
        room, x = self.room, self.at + 0.1 * self.inward
        room.tube(x, z, (1.7, 1.95), 0.05, 0.09, room.lamp_face(_CANDLELIGHT, 1.6, (5.0, 5.0)))
        room.light((x + 0.12 * self.inward, 1.95, z), 0.5, down=False, reach=5.0, colour=_CANDLELIGHT)

    def picture(self, middle: float, y: float, size: Pair, frame: int) -> None:
        """A framed picture of this width and height."""
        room, rng = self.room, self.room.rng
        first, second = choose_pair(rng, PICTURES)
        canvas = room.material(textures.PICTURE, vary(rng, first), vary(rng, second))
        mount = room.paint("efece4", 0.05)
        a, b = size[0] / 2.0, size[1] / 2.0
        self.add((middle - a - 0.06, middle + a + 0.06), (y - b - 0.06, y + b + 0.06), frame, 0.04)
        if rng.bernoulli(0.5):
            self.add(around(middle, a), around(y, b), mount, 0.045)
            a, b = 0.8 * a, 0.8 * b
        self.add(around(middle, a), around(y, b), canvas, 0.05)

    def door(self, middle: float, leaf: int, frame: int, handle: int, wide: float = 0.95) -> None:
        """A closed door with frame and handle."""
        h = wide / 2.0
        self.add((middle - h - 0.09, middle - h), (0.0, 2.12), frame, 0.07)
        self.add((middle + h, middle + h + 0.09), (0.0, 2.12), frame, 0.07)
        self.add((middle - h - 0.09, middle + h + 0.09), (2.12, 2.22), frame, 0.07)
        self.add(around(middle, h), (0.0, 2.12), leaf, 0.03)
        edge = middle + (h - 0.12) * (1.0 if self.room.rng.bernoulli(0.5) else -1.0)
        self.add(around(edge, 0.07), (1.0, 1.03), handle, 0.09)
        self.add(around(edge, 0.025), (0.92, 1.12), handle, 0.045)

    def window(self, along: Span, y: Span, frame: int, view: int) -> None:
        """A lit view outside, with a frame and glazing bars, that sheds daylight."""
        self.add(along, y, view, 0.03)
        wide, high = along[1] - along[0], y[1] - y[0]
        bars = max(1, round(wide / 1.1))
        for i in range(bars + 1):
            self.add(around(along[0] + wide * i / bars, 0.035), y, frame, 0.07)
        for level in (y[0], y[0] + 0.68 * high, y[1]):
            self.add((along[0] - 0.05, along[1] + 0.05), around(level, 0.04), frame, 0.09)
        middle, height = 0.5 * (along[0] + along[1]), 0.5 * (y[0] + y[1])
        if self.side == "back":
            at, half = (middle, height, self.at - 0.35), (0.4, 0.05)
        else:
            at, half = (self.at + 0.35 * self.inward, height, middle), (0.05, 0.4)
        self.room.light(at, 0.45 * (wide * high), half=half, down=False, reach=14.0, colour=DAYLIGHT)

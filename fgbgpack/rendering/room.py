"""What a room is built with: materials, solids, lamps, and a record of the floor that is taken."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fgbgpack.rendering.camera import Camera
from fgbgpack.rendering.colours import CLOTHS, WOODS, Colour, rgb, vary
from fgbgpack.rendering.kernels import raycast, textures
from fgbgpack.rendering.rng import Dice
from fgbgpack.rendering.tree import bounding_tree

_SIGNS = (
    ("c8102e", "ffffff"),
    ("0b3d91", "ffd23f"),
    ("ffffff", "1a1a1a"),
    ("1a1a1a", "f2c14e"),
    ("0f6b4f", "f5f0e1"),
    ("f26419", "ffffff"),
    ("5b2a86", "f7c6d9"),
    ("f5e9cf", "7b2d26"),
    ("2aa9b8", "ffffff"),
    ("d7263d", "f5d547"),
)
_BRICKS = (("9a4f38", "b9aea0"), ("b98b6a", "d6cdbf"), ("7a3b30", "a59a8c"), ("d8d0c4", "bfb7aa"))
_PAPERS = (("d9cdb0", "b79a6a"), ("8fa39a", "6b8078"), ("a8474a", "8a3238"), ("d8d4c6", "9fb0b8"))


class Room:
    """Collects solids, materials and lamps. Materials are known by number."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self._solids: list[list[float]] = []
        self._low: list[tuple[float, float, float]] = []
        self._high: list[tuple[float, float, float]] = []
        self._materials: list[list[float]] = []
        self._groups: list[int] = []
        self._lights: list[list[float]] = []
        self._taken: list[tuple[float, float, float]] = []
        self.lamp_colour: Colour = (1.0, 1.0, 1.0)
        self.ambient = 0.06

    # Materials

    def material(
        self,
        texture: int,
        first: Colour,
        second: Colour | None = None,
        *,
        cell: tuple[float, float] = (1.0, 1.0),
        contrast: float = 0.3,
        mirror: float = 0.0,
        blur: float = 0.04,
        glow: float = 0.0,
        group: int = raycast.OPAQUE,
    ) -> int:
        """Add a material and return its number. The arguments are what ``textures`` reads."""
        second = first if second is None else second
        seed = float(self.dice.below(1_000_000))
        self._materials.append([texture, *first, *second, *cell, contrast, mirror, blur, glow, seed])
        self._groups.append(group)
        return len(self._materials) - 1

    def paint(self, code: str, contrast: float = 0.22, mirror: float = 0.0) -> int:
        """Plaster in about this colour."""
        return self.material(
            textures.PLASTER, vary(self.dice, rgb(code)), contrast=contrast, mirror=mirror, blur=0.25
        )

    def wood(self, code: str | None = None, mirror: float = 0.06) -> int:
        """Boards."""
        first = vary(self.dice, rgb(code or self.dice.pick(WOODS)))
        second = (first[0] * 0.55, first[1] * 0.5, first[2] * 0.46)
        cell = (self.dice.between(0.18, 0.7), self.dice.between(0.8, 2.4))
        return self.material(
            textures.PANELS, first, second, cell=cell, contrast=0.8, mirror=mirror, blur=0.12
        )

    def metal(self, code: str = "b8babd") -> int:
        """Brushed metal."""
        first = rgb(code)
        second = (first[0] * 0.45, first[1] * 0.45, first[2] * 0.47)
        return self.material(textures.METAL, first, second, contrast=0.35, mirror=0.35, blur=0.16)

    def cloth(self, code: str | None = None) -> int:
        """Plain upholstery."""
        first = vary(self.dice, rgb(code or self.dice.pick(CLOTHS)))
        return self.material(textures.PLASTER, first, contrast=0.45)

    def glass(self) -> int:
        """A pane that is looked through and mirrors a little."""
        return self.material(textures.METAL, (0.5, 0.55, 0.53), mirror=0.22, blur=0.0, group=raycast.GLASS)

    def glowing(
        self, colour: Colour | None = None, glow: float = 3.0, cell: tuple[float, float] = (0.3, 0.3)
    ) -> int:
        """The face of a lamp."""
        tint = self.lamp_colour if colour is None else colour
        return self.material(
            textures.DIFFUSER, tint, cell=cell, contrast=0.35, glow=glow, group=raycast.GLOWING
        )

    def sign(self, wide: float, high: float, glow: float = 0.9) -> int:
        """A lit sign of this size in metres."""
        ground, figure = self.dice.pick(_SIGNS)
        return self.material(textures.SIGN, rgb(ground), rgb(figure), cell=(wide, high), glow=glow)

    def view(self) -> int:
        """What is seen through a window."""
        sky = vary(self.dice, rgb(self.dice.pick(("8fb8e0", "b9cfe2", "d9d2c4", "7fa3cf"))))
        return self.material(textures.VIEW, sky, rgb("dfe3e8"), glow=1.5, group=raycast.GLOWING)

    def stone_floor(self) -> int:
        """A polished floor: marble slabs or tiles."""
        dice = self.dice
        size = dice.between(0.45, 1.0)
        mirror, blur = dice.between(0.16, 0.42), dice.between(0.02, 0.12)
        pale = vary(dice, rgb(dice.pick(("e6ddcb", "d8d4cc", "cdbfa8", "e9e6e0", "c4b6a0", "b9b4ac"))))
        if dice.chance(0.45):
            vein = rgb(dice.pick(("8a7f70", "6b6660", "a58a62", "7f6a52")))
            return self.material(
                textures.MARBLE, pale, vein, cell=(size, size), contrast=0.9, mirror=mirror, blur=blur
            )
        dark = rgb(dice.pick(("8f8474", "3c3a3a", "7a4a3a", "5f6b66", "a3977f", "c9bca3")))
        second = pale if dice.chance(0.35) else dark
        return self.material(
            textures.TILES, pale, second, cell=(size, size), contrast=0.35, mirror=mirror, blur=blur
        )

    def wood_floor(self) -> int:
        """Parquet."""
        dice = self.dice
        first = vary(dice, rgb(dice.pick(WOODS[2:])), 0.15)
        second = (first[0] * 0.55, first[1] * 0.5, first[2] * 0.45)
        cell = (dice.between(0.5, 1.4), dice.between(0.08, 0.16))
        return self.material(
            textures.PARQUET,
            first,
            second,
            cell=cell,
            contrast=0.8,
            mirror=dice.between(0.1, 0.25),
            blur=0.14,
        )

    def carpet(self) -> int:
        """A carpet with a pattern."""
        dice = self.dice
        first, second = dice.pick(
            (
                ("6b2027", "c79a4b"),
                ("27384d", "a9a08a"),
                ("54483a", "8c7a5b"),
                ("2d4a3c", "c2ac6a"),
                ("5a5d63", "7f8388"),
                ("7b3b2c", "2b2430"),
                ("3a2a44", "b58a5a"),
            )
        )
        size = dice.between(0.4, 1.3)
        return self.material(
            textures.CARPET, rgb(first), rgb(second), cell=(size, size), contrast=dice.between(0.5, 1.0)
        )

    def wall(self) -> int:
        """A wall of stone, brick, wood, paper or plaster."""
        dice = self.dice
        choice = dice.below(6)
        if choice == 0:
            brick, mortar = dice.pick(_BRICKS)
            colour = vary(dice, rgb(brick))
            return self.material(textures.BRICK, colour, rgb(mortar), cell=(0.25, 0.083), contrast=0.7)
        if choice == 1:
            stone = vary(dice, rgb(dice.pick(("cdbd9d", "b5aa98", "9f9a92", "d9cfb8"))))
            joint = (stone[0] * 0.5, stone[1] * 0.5, stone[2] * 0.5)
            cell = (dice.between(0.7, 1.3), dice.between(0.35, 0.6))
            return self.material(textures.ASHLAR, stone, joint, cell=cell, contrast=0.45)
        if choice == 2:
            return self.wood()
        if choice == 3:
            ground, figure = dice.pick(_PAPERS)
            cell = (dice.between(0.2, 0.5), dice.between(0.3, 0.6))
            return self.material(textures.WALLPAPER, rgb(ground), rgb(figure), cell=cell, contrast=0.6)
        return self.paint(
            dice.pick(("d9cdb6", "c9d0cc", "e3d6c2", "b7c2c9", "d8b89a", "c7bfae", "e4e1d8")), 0.3
        )

    # Solids and lamps

    def _add(self, row: list[float], reach: tuple[float, float, float]) -> None:
        """Add a row of ``raycast.SOLID`` columns that reaches this far from its centre."""
        self._solids.append(row)
        centre = row[1:4]
        self._low.append((centre[0] - reach[0], centre[1] - reach[1], centre[2] - reach[2]))
        self._high.append((centre[0] + reach[0], centre[1] + reach[1], centre[2] + reach[2]))

    def box(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: tuple[float, float],
        material: int,
        turn: float = 0.0,
        about: tuple[float, float] | None = None,
    ) -> None:
        """A block between three pairs of coordinates, turned about a vertical axis (its own by default)."""
        half = [max(1e-4, abs(b - a) / 2.0) for a, b in (x, y, z)]
        cx, cy, cz = ((a + b) / 2.0 for a, b in (x, y, z))
        c, s = math.cos(turn), math.sin(turn)
        if about is not None:
            rx, rz = cx - about[0], cz - about[1]
            cx, cz = about[0] + c * rx - s * rz, about[1] + s * rx + c * rz
        reach = (abs(c) * half[0] + abs(s) * half[2], half[1], abs(s) * half[0] + abs(c) * half[2])
        self._add(
            [raycast.BOX, cx, cy, cz, *half, c, s if turn else 0.0, material, self._groups[material]], reach
        )

    def tube(
        self, x: float, z: float, y: tuple[float, float], bottom: float, top: float, material: int
    ) -> None:
        """An upright cylinder or, with two radii, cone."""
        wide = max(bottom, top)
        row = [raycast.ROUND, x, (y[0] + y[1]) / 2.0, z, bottom, (y[1] - y[0]) / 2.0, top, 1.0, 0.0, material]
        self._add([*row, self._groups[material]], (wide, (y[1] - y[0]) / 2.0, wide))

    def ball(self, x: float, y: float, z: float, radii: tuple[float, float, float], material: int) -> None:
        """An ellipsoid."""
        self._add([raycast.ELLIPSOID, x, y, z, *radii, 1.0, 0.0, material, self._groups[material]], radii)

    def on_wall(
        self,
        side: str,
        at: float,
        along: tuple[float, float],
        y: tuple[float, float],
        material: int,
        thick: float = 0.04,
        gap: float = 0.0,
    ) -> None:
        """A flat thing on a wall: ``side`` left or right (a wall at x = at) or back (at z = at)."""
        if side == "left":
            self.box((at + gap, at + gap + thick), y, along, material)
        elif side == "right":
            self.box((at - gap - thick, at - gap), y, along, material)
        else:
            self.box(along, y, (at - gap - thick, at - gap), material)

    def light(
        self,
        x: float,
        y: float,
        z: float,
        power: float,
        *,
        half: tuple[float, float] = (0.1, 0.1),
        down: bool = True,
        reach: float = 16.0,
        colour: Colour | None = None,
    ) -> None:
        """Add a lamp that sheds light but is not seen itself."""
        tint = self.lamp_colour if colour is None else colour
        self._lights.append([x, y, z, *half, *(power * c for c in tint), float(down), reach])

    # Where things may stand

    def take(self, x: float, z: float, radius: float) -> bool:
        """Reserve a circle of floor; False if something stands there already."""
        if any(math.hypot(x - a, z - b) < radius + r for a, b, r in self._taken):
            return False
        self._taken.append((x, z, radius))
        return True

    def aim(self, x: float, z: float, *, spread: float) -> Camera:
        """A camera at eye level at (x, z), with floor kept free around it and before it."""
        dice = self.dice
        yaw = dice.between(-spread, spread)
        y = dice.between(1.25, 1.85)
        pitch = dice.between(-0.16, 0.07)
        # The focal length is in widths here; ``render_scene`` makes pixels of it.
        focal = 0.5 / math.tan(math.radians(dice.between(56.0, 84.0)) / 2.0)
        self.take(x, z, 1.0)
        self.take(x + 1.2 * math.sin(yaw), z + 1.2 * math.cos(yaw), 0.7)
        return Camera((x, y, z), yaw, pitch, focal)

    # What the kernels read

    def _enclose(self) -> None:
        """Shut the room into a dark shell just outside its solids, so that every ray ends."""
        low, high = np.min(self._low, axis=0).tolist(), np.max(self._high, axis=0).tolist()
        dark = self.paint("6a6660")
        for axis in range(3):
            for edge, outer in ((low[axis], low[axis] - 0.1), (high[axis], high[axis] + 0.1)):
                spans = [(low[a] - 0.1, high[a] + 0.1) for a in range(3)]
                spans[axis] = (min(edge, outer), max(edge, outer))
                self.box(spans[0], spans[1], spans[2], dark)

    def arrays(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Solids, materials, lights and the tree of bounding boxes over the solids, all float64."""
        self._enclose()
        low, high = np.array(self._low), np.array(self._high)
        lights = np.array(self._lights, dtype=np.float64).reshape(-1, raycast.LIGHT)
        return np.array(self._solids), np.array(self._materials), lights, bounding_tree(low, high)

"""What a room is built with: materials, solids, lamps, and a record of the occupied floor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fgbgpack.rendering.bvh import bounds, build_bvh
from fgbgpack.rendering.camera import Camera
from fgbgpack.rendering.colours import CLOTHS, Colour, choose, choose_pair, choose_varied, rgb, tint, vary
from fgbgpack.rendering.kernels import solids, textures
from fgbgpack.rendering.kernels.light import LIGHT, World
from fgbgpack.rendering.rng import Rng

Pair = tuple[float, float]
Point = tuple[float, float, float]
#: From one coordinate to another, in metres.
Span = Pair

_SIGNS = (
    "c8102e ffffff, 0b3d91 ffd23f, ffffff 1a1a1a, 1a1a1a f2c14e, 0f6b4f f5f0e1, "
    "f26419 ffffff, 5b2a86 f7c6d9, f5e9cf 7b2d26, 2aa9b8 ffffff, d7263d f5d547"
)
_CARPETS = (
    "6b2027 c79a4b, 27384d a9a08a, 54483a 8c7a5b, 2d4a3c c2ac6a, 5a5d63 7f8388, 7b3b2c 2b2430, 3a2a44 b58a5a"
)
_WOODS = "8a5a33 6b4226 a9774a c59b6d 4a2f20 9c6b43 b58a5a"
_BRICKS = "9a4f38 b9aea0, b98b6a d6cdbf, 7a3b30 a59a8c, d8d0c4 bfb7aa"
_WALLPAPERS = "d9cdb0 b79a6a, 8fa39a 6b8078, a8474a 8a3238, d8d4c6 9fb0b8"


def around(middle: float, half: float) -> Span:
    """The span that reaches ``half`` to both sides of ``middle``."""
    return middle - half, middle + half


class Room:
    """Collects solids, materials and lamps. Materials are known by number."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self._solids: list[list[float]] = []
        self._materials: list[list[float]] = []
        self._groups: list[int] = []
        self._lights: list[list[float]] = []
        self._occupied: list[Point] = []
        self.lamp_colour: Colour = (1.0, 1.0, 1.0)
        self.ambient = 0.06

    def material(
        self,
        texture: int,
        first: Colour,
        second: Colour | None = None,
        *,
        cell: Pair = (1.0, 1.0),
        contrast: float = 0.3,
        mirror: float = 0.0,
        blur: float = 0.04,
        glow: float = 0.0,
        group: int = solids.OPAQUE,
    ) -> int:
        """Add a material and return its number. The arguments are what ``kernels.textures`` reads."""
        colours, seed = (*first, *(second or first)), float(self.rng.integer(1_000_000))
        self._materials.append([texture, *colours, *cell, contrast, mirror, blur, glow, seed])
        self._groups.append(group)
        return len(self._materials) - 1

    def paint(self, palette: str, contrast: float = 0.22, mirror: float = 0.0) -> int:
        """Plaster in about one of these colours."""
        colour = choose_varied(self.rng, palette)
        return self.material(textures.PLASTER, colour, contrast=contrast, mirror=mirror, blur=0.25)

    def wood(self, palette: str = _WOODS, mirror: float = 0.06) -> int:
        """Boards."""
        first = choose_varied(self.rng, palette)
        both = first, tint(first, 0.55, 0.5, 0.46)
        cell = (self.rng.uniform(0.18, 0.7), self.rng.uniform(0.8, 2.4))
        return self.material(textures.PANELS, *both, cell=cell, contrast=0.8, mirror=mirror, blur=0.12)

    def metal(self, palette: str = "b8babd") -> int:
        """Brushed metal."""
        first = choose(self.rng, palette)
        second = tint(first, 0.45, 0.45, 0.47)
        return self.material(textures.METAL, first, second, contrast=0.35, mirror=0.35, blur=0.16)

    def cloth(self) -> int:
        """Plain upholstery."""
        return self.material(textures.PLASTER, choose_varied(self.rng, CLOTHS), contrast=0.45)

    def glass(self) -> int:
        """A pane that is looked through and mirrors a little."""
        return self.material(textures.METAL, (0.5, 0.55, 0.53), mirror=0.22, blur=0.0, group=solids.GLASS)

    def foliage(self, first: Colour, second: Colour, cell: float) -> int:
        """Leaves with gaps between them."""
        return self.material(textures.FOLIAGE, first, second, cell=(cell, cell), group=solids.LEAVES)

    def lamp_face(self, colour: Colour | None = None, glow: float = 3.0, cell: Pair = (0.3, 0.3)) -> int:
        """The face of a lamp."""
        kind, face = textures.DIFFUSER, colour or self.lamp_colour
        return self.material(kind, face, cell=cell, contrast=0.35, glow=glow, group=solids.GLOWING)

    def sign(self, wide: float, high: float, glow: float = 0.9) -> int:
        """A lit sign of this size in metres."""
        return self.material(textures.SIGN, *choose_pair(self.rng, _SIGNS), cell=(wide, high), glow=glow)

    def view(self) -> int:
        """What is seen through a window."""
        sky = choose_varied(self.rng, "8fb8e0 b9cfe2 d9d2c4 7fa3cf")
        return self.material(textures.VIEW, sky, rgb("dfe3e8"), glow=1.5, group=solids.GLOWING)

    def goods(self, cell: Pair, boards: str = "c9b48f", back: str = "3b322a") -> int:
        """Shelves of goods."""
        return self.material(textures.GOODS, rgb(boards), rgb(back), cell=cell)

    def stone_floor(self) -> int:
        """A polished floor: marble slabs or tiles."""
        rng = self.rng
        size, mirror, blur = rng.uniform(0.45, 1.0), rng.uniform(0.16, 0.42), rng.uniform(0.02, 0.12)
        pale = choose_varied(rng, "e6ddcb d8d4cc cdbfa8 e9e6e0 c4b6a0 b9b4ac")
        if rng.bernoulli(0.45):
            texture, second, contrast = textures.MARBLE, choose(rng, "8a7f70 6b6660 a58a62 7f6a52"), 0.9
        else:
            dark = choose(rng, "8f8474 3c3a3a 7a4a3a 5f6b66 a3977f c9bca3")
            texture, second, contrast = textures.TILES, pale if rng.bernoulli(0.35) else dark, 0.35
        return self.material(
            texture, pale, second, cell=(size, size), contrast=contrast, mirror=mirror, blur=blur
        )

    def wood_floor(self) -> int:
        """Parquet."""
        rng = self.rng
        first = choose_varied(rng, "a9774a c59b6d 4a2f20 9c6b43 b58a5a", 0.15)
        both = first, tint(first, 0.55, 0.5, 0.45)
        cell, mirror = (rng.uniform(0.5, 1.4), rng.uniform(0.08, 0.16)), rng.uniform(0.1, 0.25)
        return self.material(textures.PARQUET, *both, cell=cell, contrast=0.8, mirror=mirror, blur=0.14)

    def carpet(self) -> int:
        """A carpet with a pattern."""
        first, second = choose_pair(self.rng, _CARPETS)
        size, contrast = self.rng.uniform(0.4, 1.3), self.rng.uniform(0.5, 1.0)
        return self.material(textures.CARPET, first, second, cell=(size, size), contrast=contrast)

    def wall_finish(self) -> int:
        """Stone, brick, wood, paper or plaster."""
        rng = self.rng
        choice = rng.integer(6)
        if choice == 0:
            brick, mortar = choose_pair(rng, _BRICKS)
            return self.material(textures.BRICK, vary(rng, brick), mortar, cell=(0.25, 0.083), contrast=0.7)
        if choice == 1:
            stone = choose_varied(rng, "cdbd9d b5aa98 9f9a92 d9cfb8")
            cell = (rng.uniform(0.7, 1.3), rng.uniform(0.35, 0.6))
            return self.material(textures.ASHLAR, stone, tint(stone, 0.5, 0.5, 0.5), cell=cell, contrast=0.45)
        if choice == 2:
            return self.wood()
        if choice == 3:
            ground, figure = choose_pair(rng, _WALLPAPERS)
            cell = (rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.6))
            return self.material(textures.WALLPAPER, ground, figure, cell=cell, contrast=0.6)
        return self.paint("d9cdb6 c9d0cc e3d6c2 b7c2c9 d8b89a c7bfae e4e1d8", 0.3)

    def box(
        self, x: Span, y: Span, z: Span, material: int, turn: float = 0.0, about: Pair | None = None
    ) -> None:
        """A block, turned about a vertical axis: its own, or the one at (x, z) ``about``."""
        half = (max(1e-4, abs(b - a) / 2.0) for a, b in (x, y, z))
        cx, cy, cz = ((a + b) / 2.0 for a, b in (x, y, z))
        c, s = math.cos(turn), math.sin(turn)
        if about is not None:
            rx, rz = cx - about[0], cz - about[1]
            cx, cz = about[0] + c * rx - s * rz, about[1] + s * rx + c * rz
        self._solids.append([solids.BOX, cx, cy, cz, *half, c, s, material])

    def tube(self, x: float, z: float, y: Span, bottom: float, top: float, material: int) -> None:
        """An upright cylinder or, with two radii, cone."""
        middle, half = (y[0] + y[1]) / 2.0, (y[1] - y[0]) / 2.0
        self._solids.append([solids.ROUND, x, middle, z, bottom, half, top, 1.0, 0.0, material])

    def ball(self, x: float, y: float, z: float, radii: Point, material: int) -> None:
        """An ellipsoid."""
        self._solids.append([solids.ELLIPSOID, x, y, z, *radii, 1.0, 0.0, material])

    def light(
        self,
        at: Point,
        power: float,
        *,
        half: Pair = (0.1, 0.1),
        down: bool = True,
        reach: float = 16.0,
        colour: Colour | None = None,
    ) -> None:
        """Add a lamp that sheds light but is not seen itself."""
        power_rgb = (power * c for c in colour or self.lamp_colour)
        self._lights.append([*at, *half, *power_rgb, float(down), reach])

    def reserve(self, x: float, z: float, radius: float) -> bool:
        """Reserve a circle of floor; False if something stands there already."""
        if any(math.hypot(x - a, z - b) < radius + r for a, b, r in self._occupied):
            return False
        self._occupied.append((x, z, radius))
        return True

    def place_camera(self, x: float, z: float, *, spread: float) -> Camera:
        """A camera at eye level at (x, z), with floor kept free around it and before it.

        Its yaw is up to ``spread`` radians. Its focal length is in widths of the picture.
        """
        rng = self.rng
        yaw = rng.uniform(-spread, spread)
        y = rng.uniform(1.25, 1.85)
        pitch = rng.uniform(-0.16, 0.07)
        focal = 0.5 / math.tan(math.radians(rng.uniform(56.0, 84.0)) / 2.0)
        self.reserve(x, z, 1.0)
        self.reserve(x + 1.2 * math.sin(yaw), z + 1.2 * math.cos(yaw), 0.7)
        return Camera((x, y, z), yaw, pitch, focal)

    def world(self, camera: npt.NDArray[Any]) -> World:
        """The room as the kernels read it, seen by ``camera``, a row of ``camera_row``."""
        # A dark shell just outside the solids, so that every ray ends.
        lows, highs = bounds(np.array(self._solids))
        low, high = lows.min(axis=0).tolist(), highs.max(axis=0).tolist()
        dark = self.paint("6a6660")
        for axis in range(3):
            for shell in ((low[axis] - 0.1, low[axis]), (high[axis], high[axis] + 0.1)):
                spans = [(low[a] - 0.1, high[a] + 0.1) for a in range(3)]
                spans[axis] = shell
                self.box(spans[0], spans[1], spans[2], dark)
        rows = np.array(self._solids)
        groups = np.array(self._groups)[rows[:, 9].astype(np.intp)]
        return World(
            solids=np.column_stack([rows, groups]),
            nodes=build_bvh(*bounds(rows)),
            materials=np.array(self._materials),
            lights=np.array(self._lights, dtype=np.float64).reshape(-1, LIGHT),
            ambient=np.array([self.ambient * c for c in self.lamp_colour]),
            camera=camera,
        )

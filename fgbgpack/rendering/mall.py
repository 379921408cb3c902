"""Shopping malls."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fgbgpack.rendering import furniture
from fgbgpack.rendering.camera import Camera
from fgbgpack.rendering.colours import PICTURES, lamp_colour, rgb
from fgbgpack.rendering.kernels import raycast, textures
from fgbgpack.rendering.room import Room


@dataclass(frozen=True)
class _Street:
    """Measures in metres: half the width, where it ends, and the height of one storey and of all."""

    wide: float
    far: float
    storeys: int
    storey: float
    top: float


def build_mall(room: Room) -> Camera:
    """A shopping street between two rows of shops, on one level or two under a glass roof."""
    dice = room.dice
    room.lamp_colour = lamp_colour(dice)
    wide, far = dice.between(4.2, 7.0), dice.between(24.0, 46.0)
    storeys = 2 if dice.chance(0.5) else 1
    storey = dice.between(3.9, 4.6)
    top = storey * storeys + (0.6 if storeys == 2 else 0.0)
    street = _Street(wide, far, storeys, storey, top)
    camera = room.aim(dice.between(-0.5, 0.5) * wide, dice.between(-1.0, 1.0), spread=0.42)
    floor, wall, trim = room.stone_floor(), room.wall(), room.paint("ece7dc", 0.12, 0.04)
    room.box((-wide - 9.0, wide + 9.0), (-0.3, 0.0), (-12.0, far + 8.0), floor)
    room.box((-wide - 9.0, wide + 9.0), (-1.0, top + 3.0), (-12.3, -12.0), wall)
    _add_shops(room, street, wall, floor, trim)
    if storeys == 2:
        _add_walkways(room, street, trim)
        _add_glass_roof(room, street)
    else:
        _add_ceiling(room, street, trim)
    _add_far_end(room, street)
    if dice.chance(0.5):
        _add_columns(room, street)
    _add_things(room, street)
    return camera


def _add_shops(room: Room, street: _Street, wall: int, floor: int, trim: int) -> None:
    """Shops on both sides of every storey, with bare walls and posters between them."""
    dice = room.dice
    wide, far, storeys, storey = street.wide, street.far, street.storeys, street.storey
    for side, out in (("left", -1.0), ("right", 1.0)):
        for level in range(storeys):
            base = level * (storey + 0.1)
            z = -11.0 + dice.between(0.0, 2.0)
            while z < far:
                length = dice.between(4.2, 7.5)
                if dice.chance(0.82):
                    _shop(room, side, out * wide, (z, z + length), base, base + storey, wall, floor)
                else:
                    room.box(
                        (out * wide, out * (wide + 0.5)), (base, base + storey), (z - 0.35, z + length), wall
                    )
                    if dice.chance(0.6):
                        poster = room.material(
                            textures.PICTURE, *(rgb(c) for c in dice.pick(PICTURES)), glow=0.5
                        )
                        middle = z + 0.5 * length
                        room.on_wall(
                            side,
                            out * wide,
                            (middle - 0.75, middle + 0.75),
                            (base + 0.5, base + 2.6),
                            room.metal(),
                        )
                        room.on_wall(
                            side,
                            out * wide,
                            (middle - 0.7, middle + 0.7),
                            (base + 0.55, base + 2.55),
                            poster,
                            0.06,
                        )
                z += length
            room.box(
                (out * (wide + 0.3), out * (wide + 9.0)),
                (base + storey - 0.3, base + storey),
                (-12.0, far + 8.0),
                trim,
            )


def _add_walkways(room: Room, street: _Street, trim: int) -> None:
    """Galleries with glass rails before the upper shops."""
    dice = room.dice
    wide, far, storey = street.wide, street.far, street.storey
    edge = wide - dice.between(1.8, 2.6)
    rail, glass = room.metal("a58a5a" if dice.chance(0.4) else "b8babd"), room.glass()
    for out in (-1.0, 1.0):
        room.box((out * edge, out * wide), (storey - 0.35, storey + 0.1), (-12.0, far), trim)
        room.box((out * edge, out * (edge + 0.02)), (storey + 0.1, storey + 1.1), (-12.0, far), glass)
        room.box(
            (out * (edge - 0.03), out * (edge + 0.05)), (storey + 1.1, storey + 1.17), (-12.0, far), rail
        )
        lamp = room.glowing()
        for i in range(round(far / 4.5)):
            furniture.panel(
                room, out * 0.5 * (edge + wide), storey - 0.35, 2.0 + 4.5 * i, (0.2, 0.2), 2.6, lamp
            )


def _add_glass_roof(room: Room, street: _Street) -> None:
    """Beams under the sky, and the daylight between them."""
    wide, far, top = street.wide, street.far, street.top
    day = room.material(textures.VIEW, rgb("9cc2ea"), rgb("eef2f6"), glow=2.2, group=raycast.GLOWING)
    room.box((-wide - 2.0, wide + 2.0), (top + 0.5, top + 0.6), (-12.0, far + 1.0), day)
    beam = room.paint("e2e2e0", 0.1)
    for i in range(round((far + 12.0) / 2.2)):
        z = -12.0 + 2.2 * i
        room.box((-wide - 0.3, wide + 0.3), (top + 0.1, top + 0.45), (z - 0.07, z + 0.07), beam)
    for x0 in (-0.6 * wide, 0.0, 0.6 * wide):
        room.box((x0 - 0.06, x0 + 0.06), (top + 0.2, top + 0.45), (-12.0, far), beam)
    for i in range(round(far / 5.0) + 1):
        room.light(
            0.0, top - 0.1, 5.0 * i, 24.0, half=(0.6 * wide, 2.0), reach=20.0, colour=(0.92, 0.98, 1.08)
        )


def _add_ceiling(room: Room, street: _Street, trim: int) -> None:
    """A ceiling of panels and lamps."""
    dice = room.dice
    wide, far, top = street.wide, street.far, street.top
    ceiling = room.material(textures.GRID, rgb("e4e1da"), rgb("bcb8b0"), cell=(1.2, 1.2), contrast=0.15)
    room.box((-wide - 9.0, wide + 9.0), (top + 0.3, top + 0.5), (-12.0, far + 8.0), ceiling)
    drop, lamp = dice.chance(0.6), room.glowing()
    if drop:  # a lower band along the shops
        for out in (-1.0, 1.0):
            room.box(
                (out * wide, out * (wide - dice.between(0.9, 1.5))),
                (top - 0.25, top + 0.3),
                (-12.0, far + 1.0),
                trim,
            )
    rows = (-0.35 * wide, 0.35 * wide) if wide > 5.0 else (0.0,)
    step = dice.between(3.2, 4.6)
    for i in range(round((far + 2.0) / step)):
        for x0 in rows:
            furniture.panel(
                room,
                x0,
                top + 0.3,
                -1.0 + step * i,
                (0.6, 0.6) if len(rows) == 2 else (1.2, 0.3),
                9.0,
                lamp,
            )


def _add_far_end(room: Room, street: _Street) -> None:
    """A bright shop front with a sign across the end of the street."""
    wide, far, top = street.wide, street.far, street.top
    room.box((-wide - 0.3, wide + 0.3), (0.0, top + 0.6), (far, far + 0.4), room.wall())
    room.on_wall("back", far, (-2.6, 2.6), (3.0, 4.0), room.sign(5.2, 1.0), 0.12)
    room.on_wall("back", far, (-2.2, 2.2), (0.1, 2.7), room.view(), 0.05)
    for x0 in (-2.2, -1.1, 0.0, 1.1, 2.2):
        room.on_wall("back", far, (x0 - 0.05, x0 + 0.05), (0.0, 2.75), room.metal("3a3a3c"), 0.1)
    room.light(0.0, 2.0, far - 1.0, 5.0, half=(1.5, 0.1), down=False)


def _add_columns(room: Room, street: _Street) -> None:
    """Two rows of columns."""
    dice = room.dice
    wide, far, storeys, storey, top = street.wide, street.far, street.storeys, street.storey, street.top
    shaft, base = room.wall(), room.paint("4a4640", 0.1, 0.15)
    step, x0, kind = dice.between(5.5, 8.0), dice.between(0.45, 0.6) * wide, dice.chance(0.6)
    for i in range(round(far / step)):
        for x in (-x0, x0):
            if room.take(x, 3.0 + step * i, 0.7):
                furniture.column(
                    room,
                    x,
                    3.0 + step * i,
                    storey - 0.3 if storeys == 2 else top + 0.3,
                    0.32,
                    shaft,
                    base,
                    kind,
                )


def _add_things(room: Room, street: _Street) -> None:
    """Benches, plants, stalls and bins down the middle."""
    dice = room.dice
    wide, far = street.wide, street.far
    seat, legs = room.wood(), room.metal("55585c")
    z = 3.0
    while z < far - 4.0:
        x = dice.between(-0.3, 0.3) * wide
        what = dice.below(5)
        if what <= 1 and room.take(x, z, 1.2):
            furniture.bench(room, x, z, dice.pick((0.0, math.pi / 2.0)), seat, legs, 2.0)
            if dice.chance(0.7) and room.take(x + 1.6, z + 0.4, 0.25):
                furniture.plant(room, x + 1.6, z + 0.4, dice.between(0.9, 1.4))
        elif what == 2 and room.take(x, z, 1.0):
            furniture.plant(room, x, z, dice.between(1.2, 1.8))
        elif what == 3 and z > 6.0 and room.take(x, z, 1.8):
            _kiosk(room, x, z)
        elif room.take(x, z, 0.5):
            room.tube(x, z, (0.0, 0.85), 0.22, 0.24, room.metal("606468"))
            room.tube(x, z, (0.85, 0.9), 0.25, 0.2, room.paint("202224"))
        z += dice.between(2.5, 5.0)


def _shop(
    room: Room, side: str, at: float, z: tuple[float, float], base: float, top: float, wall: int, floor: int
) -> None:
    """A shop along a wall at x = at: pillars, sign, glass front with a way in, lit and stocked inside."""
    dice = room.dice
    out = 1.0 if side == "right" else -1.0
    deep = dice.between(3.5, 6.0)
    head = base + dice.between(2.6, 2.95)
    wide = z[1] - z[0]

    def across(a: float, b: float) -> tuple[float, float]:
        return min(at + out * a, at + out * b), max(at + out * a, at + out * b)

    room.box(across(-0.12, 0.35), (base, top), (z[0] - 0.35, z[0] + 0.35), wall)  # pillar
    room.box(across(0.0, 0.3), (head, top), z, wall)
    high = min(0.85, 0.7 * (top - head))
    if high > 0.3:
        middle, half = 0.5 * (z[0] + z[1]), min(0.42 * wide, high * dice.between(1.8, 3.4))
        y = head + 0.5 * (top - head)
        board = (y - high / 2.0, y + high / 2.0)
        room.box(across(-0.1, 0.0), board, (middle - half, middle + half), room.sign(2.0 * half, high))
    inner = room.paint(dice.pick(("f2efe8", "e9dfcf", "d9e0e2", "f0d9d4", "40444c", "cfd8c4")))
    stock = dice.pick((textures.GOODS, textures.GOODS, textures.CLOTHES))
    if stock == textures.GOODS:
        cell = (dice.between(0.14, 0.3), dice.between(0.34, 0.5))
        wares = room.material(textures.GOODS, rgb("c9b48f"), rgb("3b322a"), cell=cell)
    else:
        wares = room.material(textures.CLOTHES, rgb("888888"), cell=(dice.between(0.07, 0.12), 1.0))
    room.box(across(deep, deep + 0.2), (base, head + 0.3), z, inner)
    room.box(across(deep - 0.4, deep - 0.02), (base + 0.1, base + 2.2), (z[0] + 0.4, z[1] - 0.4), wares)
    room.box(across(0.3, deep), (base, head + 0.3), (z[0] - 0.1, z[0] + 0.1), inner)
    room.box(across(0.3, deep), (base, head + 0.3), (z[1] - 0.1, z[1] + 0.1), inner)
    for edge, inward in ((z[0] + 0.1, 0.35), (z[1] - 0.1, -0.35)):
        room.box(across(1.3, deep - 0.6), (base + 0.1, base + 2.0), (edge, edge + inward), wares)
    room.box(across(0.3, deep), (head + 0.05, head + 0.3), z, inner)
    room.box(across(0.0, deep), (base - 0.2, base + 0.004), z, floor)
    lamp = room.glowing(glow=2.6)
    x, middle = at + out * 0.5 * deep, 0.5 * (z[0] + z[1])
    furniture.panel(room, x, head + 0.04, middle, (0.9, 0.5 * wide - 0.8), 6.5, lamp)
    for _ in range(dice.below(4)):
        cx, cz = at + out * dice.between(1.2, deep - 1.3), dice.between(z[0] + 0.9, z[1] - 0.9)
        if stock == textures.CLOTHES:
            room.box((cx - 0.28, cx + 0.28), (base + 0.35, base + 1.35), (cz - 0.6, cz + 0.6), wares)
            room.box((cx - 0.02, cx + 0.02), (base, base + 1.42), (cz - 0.62, cz + 0.62), room.metal())
        else:
            room.box((cx - 0.35, cx + 0.35), (base, base + 0.8), (cz - 0.5, cz + 0.5), room.wood())
            room.box((cx - 0.25, cx + 0.25), (base + 0.8, base + 1.1), (cz - 0.4, cz + 0.4), wares)
    if dice.chance(0.6):
        _mannequin(room, at + out * 0.8, z[0] + dice.between(0.9, 1.3), base + 0.12)
    frame = room.metal(dice.pick(("3a3a3c", "b8babd", "7a6240", "e4e2dc")))
    glass = room.glass()
    way = dice.between(z[0] + 0.3 * wide, z[1] - 0.3 * wide)
    half = min(0.85, 0.2 * wide)
    for a, b in ((z[0] + 0.35, way - half), (way + half, z[1] - 0.35)):
        if b - a < 0.3:
            continue
        room.box(across(0.1, 0.2), (base, base + 0.22), (a, b), frame)
        room.box(across(0.13, 0.15), (base + 0.22, head - 0.08), (a, b), glass)
        posts = max(1, round((b - a) / 1.4))
        for i in range(posts + 1):
            p = a + (b - a) * i / posts
            room.box(across(0.1, 0.2), (base, head), (p - 0.03, p + 0.03), frame)
    room.box(across(0.1, 0.2), (head - 0.08, head), z, frame)


def _mannequin(room: Room, x: float, z: float, floor: float) -> None:
    """A dressed body without arms, on a stand."""
    body = room.paint(room.dice.pick(("e6dccb", "d0c4b4", "2a2a2c")), 0.05, 0.08)
    dress = room.cloth()
    room.tube(x, z, (floor - 0.12, floor + 0.02), 0.28, 0.26, room.paint("50525a"))
    room.tube(x, z, (floor, floor + 0.85), 0.05, 0.11, body)
    room.tube(x, z, (floor + 0.6, floor + 1.02), 0.23, 0.13, dress)
    room.tube(x, z, (floor + 1.02, floor + 1.4), 0.12, 0.18, dress)
    room.ball(x, floor + 1.4, z, (0.18, 0.07, 0.12), dress)
    room.tube(x, z, (floor + 1.42, floor + 1.54), 0.04, 0.04, body)
    room.ball(x, floor + 1.62, z, (0.08, 0.11, 0.09), body)


def _kiosk(room: Room, x: float, z: float) -> None:
    """A stall with a roof and a sign in the middle of a mall."""
    front, top = room.wood(), room.paint("2f2c2a", 0.1, 0.2)
    furniture.counter(room, (x - 1.0, x + 1.0), (z - 0.7, z - 0.25), front, top)
    wares = room.material(textures.GOODS, rgb("c9b48f"), rgb("3b322a"), cell=(0.16, 0.32))
    room.box((x - 1.0, x + 1.0), (0.0, 1.7), (z + 0.5, z + 0.85), wares)
    post = room.metal()
    for a in (-1.0, 1.0):
        for b in (-0.7, 0.8):
            room.box((x + a - 0.03, x + a + 0.03), (0.0, 2.35), (z + b - 0.03, z + b + 0.03), post)
    room.box((x - 1.15, x + 1.15), (2.35, 2.8), (z - 0.85, z + 0.95), room.sign(2.3, 0.45))
    room.light(x, 2.3, z, 1.5, half=(0.6, 0.4), reach=6.0)

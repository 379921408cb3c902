"""Shopping malls."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from fgbgpack.rendering.camera import Camera
from fgbgpack.rendering.colours import PICTURES, choose_pair, lamp_colour, rgb
from fgbgpack.rendering.furniture import FurnishedRoom, Wall
from fgbgpack.rendering.kernels import solids, textures
from fgbgpack.rendering.room import Span, around


@dataclass(frozen=True)
class _Street:
    """Measures in metres: half the width, where it ends, and the height of one storey and of all."""

    room: FurnishedRoom
    wide: float
    far: float
    storeys: int
    storey: float
    top: float


def build_mall(room: FurnishedRoom) -> Camera:
    """A shopping street between two rows of shops, on one level or two under a glass roof."""
    rng = room.rng
    room.lamp_colour = lamp_colour(rng)
    wide, far = rng.uniform(4.2, 7.0), rng.uniform(24.0, 46.0)
    storeys = 2 if rng.bernoulli(0.5) else 1
    storey = rng.uniform(3.9, 4.6)
    street = _Street(room, wide, far, storeys, storey, storey * storeys + (0.6 if storeys == 2 else 0.0))
    camera = room.place_camera(rng.uniform(-0.5, 0.5) * wide, rng.uniform(-1.0, 1.0), spread=0.42)
    floor, finish, trim = room.stone_floor(), room.wall_finish(), room.paint("ece7dc", 0.12, 0.04)
    room.box(around(0.0, wide + 9.0), (-0.3, 0.0), (-12.0, far + 8.0), floor)
    room.box(around(0.0, wide + 9.0), (-1.0, street.top + 3.0), (-12.3, -12.0), finish)
    _add_shops(street, finish, floor, trim)
    if storeys == 2:
        _add_walkways(street, trim)
        _add_glass_roof(street)
    else:
        _add_ceiling(street, trim)
    _add_far_end(street)
    if rng.bernoulli(0.5):
        _add_columns(street)
    _add_furniture(street)
    return camera


def _add_shops(street: _Street, finish: int, floor: int, trim: int) -> None:
    """Shops on both sides of every storey, with bare walls and posters between them."""
    room, rng, wide, storey = street.room, street.room.rng, street.wide, street.storey
    for out, wall in ((-1.0, room.wall("left", -wide)), (1.0, room.wall("right", wide))):
        for level in range(street.storeys):
            base = level * (storey + 0.1)
            top = base + storey
            z = -11.0 + rng.uniform(0.0, 2.0)
            while z < street.far:
                length = rng.uniform(4.2, 7.5)
                if rng.bernoulli(0.82):
                    _add_shop(wall, (z, z + length), (base, top), finish, floor)
                else:
                    room.box((wall.at, out * (wide + 0.5)), (base, top), (z - 0.35, z + length), finish)
                    if rng.bernoulli(0.6):
                        poster = room.material(textures.PICTURE, *choose_pair(rng, PICTURES), glow=0.5)
                        middle = z + 0.5 * length
                        wall.add(around(middle, 0.75), (base + 0.5, base + 2.6), room.metal())
                        wall.add(around(middle, 0.7), (base + 0.55, base + 2.55), poster, 0.06)
                z += length
            x = (out * (wide + 0.3), out * (wide + 9.0))
            room.box(x, (base + storey - 0.3, top), (-12.0, street.far + 8.0), trim)


def _add_walkways(street: _Street, trim: int) -> None:
    """Galleries with glass rails before the upper shops."""
    room, wide, storey, along = street.room, street.wide, street.storey, (-12.0, street.far)
    edge = wide - room.rng.uniform(1.8, 2.6)
    rail, glass = room.metal("a58a5a" if room.rng.bernoulli(0.4) else "b8babd"), room.glass()
    for out in (-1.0, 1.0):
        room.box((out * edge, out * wide), (storey - 0.35, storey + 0.1), along, trim)
        room.box((out * edge, out * (edge + 0.02)), (storey + 0.1, storey + 1.1), along, glass)
        room.box((out * (edge - 0.03), out * (edge + 0.05)), (storey + 1.1, storey + 1.17), along, rail)
        face = room.lamp_face()
        for i in range(round(street.far / 4.5)):
            at = (out * 0.5 * (edge + wide), storey - 0.35, 2.0 + 4.5 * i)
            room.panel(at, (0.2, 0.2), 2.6, face)


def _add_glass_roof(street: _Street) -> None:
    """Beams under the sky, and the daylight between them."""
    room, wide, far, top = street.room, street.wide, street.far, street.top
    sky = room.material(textures.VIEW, rgb("9cc2ea"), rgb("eef2f6"), glow=2.2, group=solids.GLOWING)
    room.box(around(0.0, wide + 2.0), (top + 0.5, top + 0.6), (-12.0, far + 1.0), sky)
    beam = room.paint("e2e2e0", 0.1)
    for i in range(round((far + 12.0) / 2.2)):
        room.box(around(0.0, wide + 0.3), (top + 0.1, top + 0.45), around(-12.0 + 2.2 * i, 0.07), beam)
    for x in (-0.6 * wide, 0.0, 0.6 * wide):
        room.box(around(x, 0.06), (top + 0.2, top + 0.45), (-12.0, far), beam)
    half, daylight = (0.6 * wide, 2.0), (0.92, 0.98, 1.08)
    for i in range(round(far / 5.0) + 1):
        room.light((0.0, top - 0.1, 5.0 * i), 24.0, half=half, reach=20.0, colour=daylight)


def _add_ceiling(street: _Street, trim: int) -> None:
    room, rng, wide, far, top = street.room, street.room.rng, street.wide, street.far, street.top
    ceiling = room.material(textures.GRID, rgb("e4e1da"), rgb("bcb8b0"), cell=(1.2, 1.2), contrast=0.15)
    room.box(around(0.0, wide + 9.0), (top + 0.3, top + 0.5), (-12.0, far + 8.0), ceiling)
    drop, face = rng.bernoulli(0.6), room.lamp_face()
    if drop:  # a lower band along the shops
        for out in (-1.0, 1.0):
            band = (out * wide, out * (wide - rng.uniform(0.9, 1.5)))
            room.box(band, (top - 0.25, top + 0.3), (-12.0, far + 1.0), trim)
    rows, half = ((-0.35 * wide, 0.35 * wide), (0.6, 0.6)) if wide > 5.0 else ((0.0,), (1.2, 0.3))
    step = rng.uniform(3.2, 4.6)
    for i in range(round((far + 2.0) / step)):
        for x in rows:
            room.panel((x, top + 0.3, -1.0 + step * i), half, 9.0, face)


def _add_far_end(street: _Street) -> None:
    """A bright shop front with a sign across the end of the street."""
    room, far = street.room, street.far
    wall = room.wall("back", far)
    room.box(around(0.0, street.wide + 0.3), (0.0, street.top + 0.6), (far, far + 0.4), room.wall_finish())
    wall.add((-2.6, 2.6), (3.0, 4.0), room.sign(5.2, 1.0), 0.12)
    wall.add((-2.2, 2.2), (0.1, 2.7), room.view(), 0.05)
    for x in (-2.2, -1.1, 0.0, 1.1, 2.2):
        wall.add(around(x, 0.05), (0.0, 2.75), room.metal("3a3a3c"), 0.1)
    room.light((0.0, 2.0, far - 1.0), 5.0, half=(1.5, 0.1), down=False)


def _add_columns(street: _Street) -> None:
    room, rng = street.room, street.room.rng
    shaft, base = room.wall_finish(), room.paint("4a4640", 0.1, 0.15)
    step, x0, rounded = rng.uniform(5.5, 8.0), rng.uniform(0.45, 0.6) * street.wide, rng.bernoulli(0.6)
    top = street.storey - 0.3 if street.storeys == 2 else street.top + 0.3
    for i in range(round(street.far / step)):
        for x in (-x0, x0):
            if room.reserve(x, 3.0 + step * i, 0.7):
                room.column((x, 3.0 + step * i), top, 0.32, (shaft, base), rounded)


def _add_furniture(street: _Street) -> None:
    """Benches, plants, stalls and bins down the middle."""
    room, rng = street.room, street.room.rng
    seat, legs = room.wood(), room.metal("55585c")
    z = 3.0
    while z < street.far - 4.0:
        x = rng.uniform(-0.3, 0.3) * street.wide
        kind = rng.integer(5)
        if kind <= 1 and room.reserve(x, z, 1.2):
            room.bench(x, z, seat, legs, 2.0)
            if rng.bernoulli(0.7) and room.reserve(x + 1.6, z + 0.4, 0.25):
                room.plant(x + 1.6, z + 0.4, rng.uniform(0.9, 1.4))
        elif kind == 2 and room.reserve(x, z, 1.0):
            room.plant(x, z, rng.uniform(1.2, 1.8))
        elif kind == 3 and z > 6.0 and room.reserve(x, z, 1.8):
            _add_kiosk(room, x, z)
        elif room.reserve(x, z, 0.5):
            room.tube(x, z, (0.0, 0.85), 0.22, 0.24, room.metal("606468"))
            room.tube(x, z, (0.85, 0.9), 0.25, 0.2, room.paint("202224"))
        z += rng.uniform(2.5, 5.0)


def _add_shop(wall: Wall, z: Span, y: Span, finish: int, floor: int) -> None:
    """A shop along a wall: pillar, sign, glass front with a way in, lit and stocked inside."""
    room, rng, (base, top), wide = wall.room, wall.room.rng, y, z[1] - z[0]
    deep, head = rng.uniform(3.5, 6.0), base + rng.uniform(2.6, 2.95)

    def inside(depth: float) -> float:
        return wall.at - wall.inward * depth

    def box(a: float, b: float, y: Span, z: Span, material: int) -> None:
        room.box((inside(a), inside(b)), y, z, material)

    box(-0.12, 0.35, y, around(z[0], 0.35), finish)  # pillar
    box(0.0, 0.3, (head, top), z, finish)
    high = min(0.85, 0.7 * (top - head))
    if high > 0.3:
        half = min(0.42 * wide, high * rng.uniform(1.8, 3.4))
        board = around(head + 0.5 * (top - head), high / 2.0)
        box(-0.1, 0.0, board, around(0.5 * (z[0] + z[1]), half), room.sign(2.0 * half, high))
    inner = room.paint("f2efe8 e9dfcf d9e0e2 f0d9d4 40444c cfd8c4")
    clothes = rng.integer(3) == 2
    if clothes:
        wares = room.material(textures.CLOTHES, rgb("888888"), cell=(rng.uniform(0.07, 0.12), 1.0))
    else:
        wares = room.goods((rng.uniform(0.14, 0.3), rng.uniform(0.34, 0.5)))
    box(deep, deep + 0.2, (base, head + 0.3), z, inner)
    box(deep - 0.4, deep - 0.02, (base + 0.1, base + 2.2), (z[0] + 0.4, z[1] - 0.4), wares)
    for edge in z:
        box(0.3, deep, (base, head + 0.3), around(edge, 0.1), inner)
    for edge, inward in ((z[0] + 0.1, 0.35), (z[1] - 0.1, -0.35)):
        box(1.3, deep - 0.6, (base + 0.1, base + 2.0), (edge, edge + inward), wares)
    box(0.3, deep, (head + 0.05, head + 0.3), z, inner)
    box(0.0, deep, (base - 0.2, base + 0.004), z, floor)
    lamp = (inside(0.5 * deep), head + 0.04, 0.5 * (z[0] + z[1]))
    room.panel(lamp, (0.9, 0.5 * wide - 0.8), 6.5, room.lamp_face(glow=2.6))
    for _ in range(rng.integer(4)):
        x0, z0 = inside(rng.uniform(1.2, deep - 1.3)), rng.uniform(z[0] + 0.9, z[1] - 0.9)
        if clothes:
            room.box(around(x0, 0.28), (base + 0.35, base + 1.35), around(z0, 0.6), wares)
            room.box(around(x0, 0.02), (base, base + 1.42), around(z0, 0.62), room.metal())
        else:
            room.box(around(x0, 0.35), (base, base + 0.8), around(z0, 0.5), room.wood())
            room.box(around(x0, 0.25), (base + 0.8, base + 1.1), around(z0, 0.4), wares)
    if rng.bernoulli(0.6):
        _add_mannequin(room, inside(0.8), z[0] + rng.uniform(0.9, 1.3), base + 0.12)
    frame, glass = room.metal("3a3a3c b8babd 7a6240 e4e2dc"), room.glass()
    way, half = rng.uniform(z[0] + 0.3 * wide, z[1] - 0.3 * wide), min(0.85, 0.2 * wide)
    for a, b in ((z[0] + 0.35, way - half), (way + half, z[1] - 0.35)):
        if b - a < 0.3:
            continue
        box(0.1, 0.2, (base, base + 0.22), (a, b), frame)
        box(0.13, 0.15, (base + 0.22, head - 0.08), (a, b), glass)
        posts = max(1, round((b - a) / 1.4))
        for i in range(posts + 1):
            box(0.1, 0.2, (base, head), around(a + (b - a) * i / posts, 0.03), frame)
    box(0.1, 0.2, (head - 0.08, head), z, frame)


def _add_mannequin(room: FurnishedRoom, x: float, z: float, floor: float) -> None:
    """A dressed body without arms, on a stand."""
    body = room.paint("e6dccb d0c4b4 2a2a2c", 0.05, 0.08)
    dress = room.cloth()
    room.tube(x, z, (floor - 0.12, floor + 0.02), 0.28, 0.26, room.paint("50525a"))
    room.tube(x, z, (floor, floor + 0.85), 0.05, 0.11, body)
    room.tube(x, z, (floor + 0.6, floor + 1.02), 0.23, 0.13, dress)
    room.tube(x, z, (floor + 1.02, floor + 1.4), 0.12, 0.18, dress)
    room.ball(x, floor + 1.4, z, (0.18, 0.07, 0.12), dress)
    room.tube(x, z, (floor + 1.42, floor + 1.54), 0.04, 0.04, body)
    room.ball(x, floor + 1.62, z, (0.08, 0.11, 0.09), body)


def _add_kiosk(room: FurnishedRoom, x: float, z: float) -> None:
    front, top = room.wood(), room.paint("2f2c2a", 0.1, 0.2)
    room.counter(around(x, 1.0), (z - 0.7, z - 0.25), front, top)
    room.box(around(x, 1.0), (0.0, 1.7), (z + 0.5, z + 0.85), room.goods((0.16, 0.32)))
    post = room.metal()
    for a, b in product((-1.0, 1.0), (-0.7, 0.8)):
        room.box(around(x + a, 0.03), (0.0, 2.35), around(z + b, 0.03), post)
    room.box(around(x, 1.15), (2.35, 2.8), (z - 0.85, z + 0.95), room.sign(2.3, 0.45))
    room.light((x, 2.3, z), 1.5, half=(0.6, 0.4), reach=6.0)

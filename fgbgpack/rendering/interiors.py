"""Lobbies, halls, galleries and corridors. Each function builds one room and returns a camera in it."""

from __future__ import annotations

import math

from fgbgpack.rendering.camera import Camera
from fgbgpack.rendering.colours import CLOTHS, choose, choose_varied, lamp_colour, rgb, tint
from fgbgpack.rendering.furniture import FurnishedRoom, Wall
from fgbgpack.rendering.kernels import textures
from fgbgpack.rendering.room import Span, around


def build_lobby(room: FurnishedRoom) -> Camera:
    """A hotel lobby: reception, seats on rugs, lifts, windows, chandeliers."""
    rng = room.rng
    room.lamp_colour = rng.choice(((1.0, 0.88, 0.72), (1.0, 0.93, 0.82)))
    half, far, top = rng.uniform(5.5, 9.0), rng.uniform(10.0, 17.0), rng.uniform(3.4, 5.2)
    camera = room.place_camera(rng.uniform(-0.55, 0.55) * half, rng.uniform(-1.2, 0.6), spread=0.5)
    floor = rng.choice((room.stone_floor, room.stone_floor, room.wood_floor, room.carpet))()
    finish, back_finish, side_finish = room.wall_finish(), room.wood(), room.wall_finish()
    trim, dark = room.paint("e9e2d2", 0.12), room.paint("2f2a26", 0.15, 0.1)
    left, right, back = room.wall("left", -half), room.wall("right", half), room.wall("back", far)
    wide, across, high = around(0.0, half + 6.0), around(0.0, half + 0.4), (0.0, top + 1.0)
    room.box(wide, (-0.3, 0.0), (-6.0, far + 8.0), floor)
    room.box(wide, (-0.3, top + 1.0), (-6.3, -6.0), finish)
    room.box((-half - 0.4, -half), high, (-6.0, far + 0.4), side_finish)
    # The right wall has an opening to a corridor with a light in it.
    gap = rng.uniform(4.0, far - 3.5)
    thick, casing, corridor = (half, half + 0.4), (half - 0.06, half + 0.44), (half + 0.4, half + 6.0)
    room.box(thick, high, (-6.0, gap - 1.1), finish)
    room.box(thick, high, (gap + 1.1, far + 0.4), finish)
    room.box(thick, (2.6, top + 1.0), around(gap, 1.1), finish)
    for edge in around(gap, 1.1):
        room.box(casing, (0.0, 2.7), around(edge, 0.09), trim)
    room.box(casing, (2.6, 2.78), around(gap, 1.19), trim)
    room.box((half + 5.6, half + 6.0), (0.0, 3.0), around(gap, 2.0), side_finish)
    for edge in around(gap, 1.7):
        room.box(corridor, (0.0, 3.0), around(edge, 0.1), finish)
    room.box(corridor, (2.9, 3.1), around(gap, 1.7), trim)
    room.panel((half + 2.5, 2.9, gap), (0.5, 0.3), 5.0, room.lamp_face())
    room.wall("right", half + 5.6).picture(gap, 1.6, (1.0, 1.2), dark)
    room.box(across, high, (far, far + 0.4), back_finish)
    room.box(across, (top, top + 0.3), (-6.0, far + 0.4), room.paint("ece7dc dcd4c4 e9e9e6", 0.1))
    for y, edging, depth in (((0.0, 0.14), dark, 0.03), ((top - 0.16, top), trim, 0.12)):
        left.add((-6.0, far), y, edging, depth)
        right.add((-6.0, gap - 1.2), y, edging, depth)
        right.add((gap + 1.2, far), y, edging, depth)
        back.add((-half, half), y, edging, depth)
    steel = _add_reception(back, half, top, dark, trim)
    _add_windows(left, far, top, trim)
    z = -3.0
    while z < far - 1.5:
        if abs(z - gap) > 2.2 and rng.bernoulli(0.75):
            right.picture(z, 1.7, (rng.uniform(0.7, 1.3), rng.uniform(0.7, 1.2)), dark)
        z += rng.uniform(2.2, 3.4)
    if rng.bernoulli(0.65):
        shaft, rounded = room.wall_finish(), rng.bernoulli(0.6)
        x0, step = rng.uniform(0.45, 0.6) * half, rng.uniform(4.0, 5.5)
        for i in range(int(far / step)):
            for x in (-x0, x0):
                if room.reserve(x, 2.5 + step * i, 0.6):
                    radius = rng.choice((0.28, 0.34))
                    room.column((x, 2.5 + step * i), top, radius, (shaft, trim), rounded)
    lamps = rng.integer(3)
    if lamps == 0:
        for z in (3.0, 8.5):
            room.chandelier((0.0, z), (top - rng.uniform(1.1, 1.5), top), 14.0)
    face = room.lamp_face(cell=(5.0, 5.0))
    step = rng.uniform(2.4, 3.4)
    for i in range(int((far + 3.0) / step)):
        for x in (-0.6 * half, 0.0, 0.6 * half):
            z = -1.0 + step * i
            if lamps == 1 and i % 2 == 0:
                room.pendant((x, z), (rng.uniform(2.5, 2.8), top), 2.6, face, steel)
            else:
                room.panel((x, top, z), (0.16, 0.16), 3.4, face)
    _add_seats(room, half, far, dark, steel)
    for _ in range(6):
        x, z = rng.choice((-half + 0.6, half - 0.6)), rng.uniform(0.5, far - 0.6)
        if abs(z - gap) > 1.8 and room.reserve(x, z, 0.5):
            room.plant(x, z, rng.uniform(1.0, 1.6))
    return camera


def _add_reception(back: Wall, half: float, top: float, dark: int, trim: int) -> int:
    """A counter with a lit sign over it, lifts or pictures beside it; returns the metal of the lifts."""
    room, rng, far = back.room, back.room.rng, back.at
    desk = rng.uniform(-0.4, 0.4) * half
    long = rng.uniform(1.5, 2.4)
    front = room.wood() if rng.bernoulli(0.5) else room.stone_floor()
    room.counter(around(desk, long), (far - 2.4, far - 1.8), front, room.paint("1f1d1c", 0.2, 0.3))
    room.reserve(desk, far - 2.0, long + 0.2)
    back.add(around(desk, 1.5), (2.2, 2.9), room.sign(3.0, 0.7, 0.7), 0.08)
    pigeonholes = room.goods((0.12, 0.22), "5a3c22", "2a1c12")
    if rng.bernoulli(0.5):
        back.add(around(desk, 1.2), (1.15, 2.0), pigeonholes, 0.12)
    spot = room.lamp_face(glow=2.5)
    for x in (desk - 1.2, desk, desk + 1.2):
        room.panel((x, top, far - 1.4), (0.12, 0.12), 3.2, spot)
    steel = room.metal("b9924a" if rng.bernoulli(0.4) else "b8babd")
    for x in (desk - long - 2.0, desk + long + 2.0):
        if abs(x) > half - 1.0:
            continue
        if rng.bernoulli(0.6):
            back.add(around(x, 0.75), (0.0, 2.35), trim, 0.1)
            back.add((x - 0.6, x - 0.006), (0.0, 2.2), steel, 0.12)
            back.add((x + 0.006, x + 0.6), (0.0, 2.2), steel, 0.12)
            arrow = room.material(textures.PLASTER, (1.0, 0.5, 0.2), glow=1.2)
            back.add(around(x, 0.12), (2.42, 2.5), arrow, 0.06)
        else:
            back.picture(x, 1.75, (1.1, 1.3), dark)
    return steel


def _add_windows(wall: Wall, far: float, top: float, frame: int) -> None:
    """Tall windows with curtains along a wall."""
    room, rng = wall.room, wall.room.rng
    view, first = room.view(), choose(rng, CLOTHS)
    curtain = room.material(textures.DRAPES, first, tint(first, 1.6, 1.6, 1.6), cell=(0.14, 1), contrast=0.8)
    wide, high = rng.uniform(1.4, 2.6), rng.uniform(2.3, top - 0.5)
    low, pitch = rng.choice((0.15, 0.75)), wide + rng.uniform(1.2, 2.0)
    for i in range(int((far + 4.0) / pitch)):
        z = -4.0 + pitch * (i + 0.5)
        if z + wide / 2.0 > far - 0.4:
            break
        span = around(z, wide / 2.0)
        wall.window(span, (low, high), frame, view)
        for edge in span:
            wall.add(around(edge, 0.22), (0.03, high + 0.12), curtain, 0.13, 0.05)
        wall.add((span[0] - 0.35, span[1] + 0.35), (high + 0.12, high + 0.17), frame, 0.2)


def _add_seats(room: FurnishedRoom, half: float, far: float, dark: int, steel: int) -> None:
    rng = room.rng
    cloth, wood, shade = room.cloth(), room.wood(), room.lamp_face((1.0, 0.8, 0.55), 1.4, (5.0, 5.0))
    for _ in range(14):
        x, z = rng.uniform(-0.75, 0.75) * half, rng.uniform(2.2, far - 4.0)
        if not room.reserve(x, z, 1.9):
            continue
        rug = room.carpet()
        turn = rng.choice((0.0, 0.5 * math.pi, math.pi, -0.5 * math.pi)) + rng.uniform(-0.15, 0.15)
        room.box(around(x, 1.7), (0.0, 0.02), around(z, 1.3), rug, turn)
        room.low_table(x, z, turn, wood, steel)
        c, s = math.cos(turn), math.sin(turn)
        behind, right, left, back_right, back_left = (
            (x + c * dx - s * dz, z + s * dx + c * dz)
            for dx, dz in ((0.0, 1.05), (1.35, 0.0), (-1.35, 0.0), (1.25, 1.2), (-1.4, 1.25))
        )
        room.sofa(behind, turn, cloth, dark)
        for side, at in ((-1.0, left), (1.0, right)):
            if rng.bernoulli(0.75):
                room.sofa(at, turn - side * 0.5 * math.pi, cloth, dark, 0.95)
        if rng.bernoulli(0.6):
            room.floor_lamp(*back_right, steel, shade)
        if rng.bernoulli(0.5):
            room.plant(*back_left, rng.uniform(0.8, 1.2))


def build_hall(room: FurnishedRoom) -> Camera:
    """A great hall: two rows of columns, coffers, tall windows, a long runner or bare stone."""
    rng = room.rng
    room.lamp_colour = lamp_colour(rng)
    half, far, top = rng.uniform(6.5, 10.5), rng.uniform(22.0, 44.0), rng.uniform(5.2, 8.5)
    camera = room.place_camera(rng.uniform(-0.6, 0.6) * half, rng.uniform(-1.0, 3.0), spread=0.5)
    floor, finish, trim = room.stone_floor(), room.wall_finish(), room.paint("e4dccb", 0.15)
    wide, across = around(0.0, half + 1.0), around(0.0, half + 0.5)
    room.box(wide, (-0.3, 0.0), (-9.0, far + 1.0), floor)
    room.box(wide, (0.0, top + 1.0), (-9.3, -9.0), finish)
    room.box((-half - 0.5, -half), (0.0, top + 1.0), (-9.0, far), finish)
    room.box((half, half + 0.5), (0.0, top + 1.0), (-9.0, far), finish)
    room.box(across, (0.0, top + 1.0), (far, far + 0.5), finish)
    room.box(across, (top, top + 0.3), (-9.0, far + 0.5), room.paint("dcd5c6", 0.15))
    left, right, back = room.wall("left", -half), room.wall("right", half), room.wall("back", far)
    step, inner = rng.uniform(4.0, 5.6), rng.uniform(0.5, 0.66) * half
    beam, rounded = room.paint("cfc6b2", 0.2) if rng.bernoulli(0.5) else room.wood(), rng.bernoulli(0.65)
    if rng.bernoulli(0.4):
        shaft = room.wall_finish()
    else:
        stone, vein = choose_varied(rng, "d8cdb8 b9a58a 7f8a86 a5675a e4e0d8"), rgb("5a4a40")
        shaft = room.material(textures.MARBLE, stone, vein, cell=(9, 9), contrast=0.9, mirror=0.12, blur=0.1)
    radius, view, skirting = rng.uniform(0.3, 0.5), room.view(), room.paint("5a5046", 0.2)
    windows, lamp, brass = rng.bernoulli(0.6), room.lamp_face(), room.metal("a58a4a")
    hanging = rng.integer(3)
    for i in range(int((far + 8.0) / step)):
        z = -8.0 + step * i
        middle = z + 0.5 * step
        for out, wall in ((-1.0, left), (1.0, right)):
            x = out * inner
            if math.hypot(camera.position[0] - x, camera.position[2] - z) > 1.3:
                room.column((x, z), top - 0.35, radius, (shaft, trim), rounded)
                room.reserve(x, z, 0.8)
            room.box((wall.at, out * (half - 0.18)), (0.0, top), around(z, 0.35), trim)  # pilaster
            if middle + 1.2 > far:
                continue
            if windows and (out < 0 or rng.bernoulli(0.7)):
                wall.window(around(middle, 0.9), (1.0, top - 1.2), trim, view)
            elif rng.bernoulli(0.6):
                wall.picture(middle, 2.2, (rng.uniform(1.1, 1.9), rng.uniform(1.1, 1.9)), brass)
            else:
                wall.door(middle, room.wood(), trim, brass, 1.3)
        room.box((-half, half), (top - 0.35, top), around(z, 0.2), beam)
        if hanging == 0 and i % 2 == 0:
            room.chandelier((0.0, middle), (top - rng.uniform(1.4, 2.0), top), 22.0)
        if hanging == 1:
            for x in (-0.8 * half, 0.0, 0.8 * half):
                room.pendant((x, middle), (min(3.6, top - 1.2), top), 6.0, lamp, brass)
        else:
            for share in (-0.33, 0.33) if hanging == 0 else (-0.8, -0.25, 0.25, 0.8):
                power = 7.0 if hanging == 0 else 11.0
                room.panel((share * half, top, middle), (0.35, 0.35), power, lamp)
    for x in (-inner, inner, 0.0):
        room.box(around(x, 0.2), (top - 0.36, top), (-9.0, far), beam)
    for wall in (left, right):
        wall.add((-9.0, far), (0.0, 0.22), skirting, 0.05)
        wall.add((-9.0, far), (top - 0.75, top - 0.35), trim, 0.16)
    # The far wall: a portal to a lit room, or a great picture.
    if rng.bernoulli(0.5):
        back.window((-1.8, 1.8), (0.3, min(4.0, top - 1.0)), trim, view)
    else:
        back.picture(0.0, 2.8, (3.6, 2.4), brass)
    if rng.bernoulli(0.5):
        room.box((-1.1, 1.1), (0.0, 0.015), (3.0, far - 1.0), room.carpet())
    seat, legs = room.wood(), room.metal("55585c")
    for _ in range(12):
        x, z = rng.uniform(-0.9, 0.9) * half, rng.uniform(3.0, far - 3.0)
        if abs(x) > 1.6 and room.reserve(x, z, 1.1):
            if rng.bernoulli(0.5):
                room.bench(x, z, seat, legs)
            elif rng.bernoulli(0.6):
                room.plant(x, z, rng.uniform(1.0, 1.7))
            else:
                room.statue(x, z)
    return camera


def build_gallery(room: FurnishedRoom) -> Camera:
    """Rooms of pictures in a row, seen through their doorways, with free-standing walls and plinths."""
    rng = room.rng
    room.lamp_colour = rng.choice(((1.0, 0.97, 0.92), (1.0, 0.93, 0.82)))
    half, top = rng.uniform(3.8, 6.2), rng.uniform(3.4, 4.6)
    camera = room.place_camera(rng.uniform(-0.5, 0.5) * half, rng.uniform(-1.0, 0.5), spread=0.5)
    floor = rng.choice((room.wood_floor, room.wood_floor, room.stone_floor, room.carpet))()
    frame, trim = room.wood(), room.paint("eeeae2", 0.08)
    start = end = -4.0
    across, high, high_wall = around(0.0, half + 0.4), (0.0, top + 0.5), (2.6, top + 0.5)
    colours = "ece9e2 d9d4ca 7f2f32 33506b 4f6b57 d8c9a8 e6e3dc"
    spot, steel = room.lamp_face(glow=2.8, cell=(5.0, 5.0)), room.metal("3a3a3c")
    rooms = 2 + rng.integer(3)
    room.box(across, high, (start - 0.3, start), room.paint(colours))
    for k in range(rooms):
        z, length = end, rng.uniform(6.5, 10.0) + (3.0 if k == 0 else 0.0)
        end = z + length
        finish = room.paint(colours, 0.16) if rng.bernoulli(0.8) else room.wall_finish()
        room.box((-half - 0.4, -half), high, (z, end), finish)
        room.box((half, half + 0.4), high, (z, end), finish)
        if k == rooms - 1:
            room.box(across, high, (end, end + 0.3), finish)
            room.wall("back", end).picture(0.0, 1.8, (rng.uniform(1.4, 2.4), rng.uniform(1.2, 1.9)), frame)
        else:  # a doorway, and pictures beside it
            gap, way = rng.uniform(-0.35, 0.35) * half, rng.uniform(0.8, 1.4)
            left, right = around(gap, way)
            for x, y in (((-half, left), high), ((right, half), high), ((left, right), high_wall)):
                room.box(x, y, (end - 0.25, end), finish)
            for edge in (left, right):
                room.box(around(edge, 0.08), (0.0, 2.66), (end - 0.3, end + 0.04), trim)
            room.box((left - 0.08, right + 0.08), (2.58, 2.7), (end - 0.3, end + 0.04), trim)
            for middle in (0.5 * (-half + gap - way), 0.5 * (half + gap + way)):
                if half - abs(middle) > 0.7:
                    size = (min(1.4, 1.5 * (half - abs(middle)) - 0.2), rng.uniform(0.8, 1.5))
                    room.wall("back", end - 0.25).picture(middle, 1.65, size, frame)
        for wall in (room.wall("left", -half), room.wall("right", half)):
            wall.add((z, end), (0.0, 0.12), trim, 0.03)
            wall.add((z, end), (top - 0.12, top), trim, 0.1)
            p = z + rng.uniform(1.0, 1.6)
            while p < end - 1.2:
                size = (rng.uniform(0.7, 1.8), rng.uniform(0.7, 1.6))
                wall.picture(p + size[0] / 2.0, 1.65, size, frame)
                at = (wall.at + 1.2 * wall.inward, top, p + size[0] / 2.0)
                room.panel(at, (0.1, 0.1), 2.6, spot)
                p += size[0] + rng.uniform(0.7, 1.5)
        for out in (-1.1, 1.1):  # rails of the lamps
            room.box(around(out * (half - 1.1) / 1.1, 0.03), (top - 0.08, top), (z + 0.3, end - 0.3), steel)
        if rng.bernoulli(0.6):
            sky = room.lamp_face((0.95, 1.0, 1.06), 2.4, (1.0, 1.0))
            room.panel((0.0, top, 0.5 * (z + end)), (0.8, 0.3 * length), 13.0, sky)
        else:
            for share in (0.25, 0.75):
                room.panel((0.0, top, z + share * length), (0.4, 0.4), 7.0, spot)
        for _ in range(3):
            x0, z0 = rng.uniform(-0.55, 0.55) * half, rng.uniform(z + 1.5, end - 1.5)
            kind = rng.integer(4)
            if kind == 0 and room.reserve(x0, z0, 1.0):
                room.bench(x0, z0, frame, steel)
            elif kind <= 2 and room.reserve(x0, z0, 0.6):
                room.statue(x0, z0)
            elif z0 > 4.0 and room.reserve(x0, z0, 1.4):
                room.box(around(x0, 1.2), (0.0, 2.6), (z0, z0 + 0.25), finish)
                room.wall("back", z0).picture(x0, 1.6, (1.5, 1.2), frame)
    room.box(across, (-0.3, 0.0), (start, end + 0.4), floor)
    room.box(across, (top, top + 0.3), (start, end + 0.4), room.paint("e9e7e2", 0.08))
    return camera


def build_office(room: FurnishedRoom) -> Camera:
    """A corridor of an office or a hotel: doors on both sides, notices, a window at the end."""
    rng = room.rng
    hotel = rng.bernoulli(0.4)
    room.lamp_colour = (1.0, 0.88, 0.72) if hotel else rng.choice(((0.95, 1.0, 1.04), (1.0, 0.97, 0.92)))
    half, far, top = rng.uniform(1.15, 2.1), rng.uniform(12.0, 30.0), rng.uniform(2.5, 3.1)
    camera = room.place_camera(rng.uniform(-0.45, 0.45) * half, rng.uniform(-0.5, 0.5), spread=0.3)
    speckled = choose_varied(rng, "9fa6a3 b8ad98 7f8c95 c9c4b8")
    if hotel or rng.bernoulli(0.35):
        floor = room.carpet()
    else:
        floor = room.material(textures.TILES, speckled, cell=(0.5, 0.5), contrast=0.3, mirror=0.22, blur=0.1)
    finish = room.wall_finish()
    low_finish = room.wood() if rng.bernoulli(0.4) else room.paint("6b7f78 8a7a66 5a6a80")
    trim = room.paint("e6e2d8 5a4636 8c9196", 0.1)
    cross, out = rng.uniform(4.5, far - 4.0), rng.choice((-1.0, 1.0))
    y = (0.0, top + 0.4)
    for way in (-1.0, 1.0):
        x = (way * half, way * (half + 0.3))
        if way != out:
            room.box(x, y, (-5.0, far + 0.3), finish)
            continue
        # A cross corridor opens to this side.
        room.box(x, y, (-5.0, cross - 1.0), finish)
        room.box(x, y, (cross + 1.0, far + 0.3), finish)
        for edge in (cross - 1.15, cross + 1.15):
            room.box((way * half, way * (half + 7.0)), y, around(edge, 0.15), finish)
        room.box((way * (half + 6.7), way * (half + 7.0)), y, around(cross, 1.2), finish)
        room.light((way * (half + 2.5), top - 0.1, cross), 5.0, half=(0.5, 0.3))
    wide = around(0.0, half + 7.3)
    room.box(wide, (-0.3, 0.0), (-5.0, far + 0.3), floor)
    room.box(wide, y, (-5.3, -5.0), finish)
    room.box(around(0.0, half + 0.3), y, (far, far + 0.3), finish)
    tile = (rng.choice((0.6, 1.2)), 0.6)
    ceiling = room.material(textures.GRID, rgb("e2e0d9"), rgb("a5a39c"), cell=tile, contrast=0.25)
    ceiling = room.paint("e6dfd0") if hotel else ceiling
    room.box(wide, (top, top + 0.3), (-5.0, far + 0.3), ceiling)
    step, lamp, steel = rng.uniform(2.2, 3.4), room.lamp_face(cell=(0.15, 0.6)), room.metal()
    for i in range(int((far + 3.0) / step)):
        size = (0.14, 0.14) if hotel else rng.choice(((0.3, 0.6), (0.6, 0.15)))
        room.panel((0.0, top, -2.0 + step * i), size, 3.6, lamp)
    rail = rng.bernoulli(0.5)
    for wall in (room.wall("left", -half), room.wall("right", half)):
        opening = around(cross, 1.05) if wall.inward == -out else None
        z = -4.0 + rng.uniform(0.0, 2.0)
        for span in [(-5.0, far)] if opening is None else [(-5.0, opening[0]), (opening[1], far)]:
            wall.add(span, (0.0, 0.12), trim, 0.025)
            if rail:
                wall.add(span, (0.12, 0.9), low_finish, 0.015)
                wall.add(span, (0.9, 0.96), trim, 0.04)
        if hotel or rng.bernoulli(0.6):
            leaf = room.wood()
        else:
            leaf = room.paint("4a6a8a 8a4a3a d8d4c8 5f7a5a", 0.1)
        while z < far - 0.8:
            clear = _is_clear(z, opening, 0.9)
            if clear:
                wall.door(z, leaf, trim, steel)
                wall.add((z + 0.68, z + 0.88), (1.5, 1.64), room.sign(0.2, 0.14, 0.0), 0.02)
                if hotel:
                    wall.wall_lamp(z + 1.25)
            p = z + rng.uniform(1.5, 1.9)
            if clear and _is_clear(p, opening, 1.4) and p < far - 1.0:
                _add_between_doors(wall, p, trim, hotel)
            z += rng.uniform(2.9, 4.2)
    back = room.wall("back", far)
    if rng.bernoulli(0.55):
        back.window((-0.7 * half, 0.7 * half), (0.8, 2.2), trim, room.view())
    else:
        back.door(0.0, room.wood(), trim, steel, 1.1)
    exit_sign = room.material(textures.SIGN, rgb("0a7a3a"), rgb("f0f5f0"), cell=(0.5, 0.2), glow=1.2)
    z = min(far - 0.5, cross + 1.6)
    room.box((-0.28, 0.28), (top - 0.3, top - 0.08), (z, z + 0.05), exit_sign)
    return camera


def _is_clear(z: float, opening: Span | None, margin: float) -> bool:
    return opening is None or not opening[0] - margin < z < opening[1] + margin


def _add_between_doors(wall: Wall, z: float, trim: int, hotel: bool) -> None:
    """A picture, a notice board, a fire extinguisher, a plant or nothing."""
    room, rng = wall.room, wall.room.rng
    kind = rng.integer(5)
    if kind <= 1:
        wall.picture(z, 1.6, (rng.uniform(0.4, 0.8), rng.uniform(0.5, 0.9)), trim)
    elif kind == 2 and not hotel:
        cork = room.material(textures.CARPET, rgb("a5794a"), rgb("8a6238"), cell=(3.0, 3.0), contrast=0.4)
        wall.add(around(z, 0.55), (1.1, 1.9), trim, 0.03)
        wall.add(around(z, 0.5), (1.15, 1.85), cork, 0.035)
        for _ in range(5):
            a, b = rng.uniform(z - 0.4, z + 0.3), rng.uniform(1.2, 1.6)
            wall.add((a, a + 0.15), (b, b + 0.2), room.paint("f2f0e6 f5e27a bcd9ee f0b8b0", 0.05), 0.04)
    elif kind == 3:
        x = wall.at + 0.11 * wall.inward
        room.tube(x, z, (0.75, 1.2), 0.075, 0.075, room.paint("c01818", 0.1, 0.15))
        room.tube(x, z, (1.2, 1.3), 0.05, 0.02, room.paint("202020"))
    elif abs(wall.at) > 1.4:
        x = wall.at + 0.4 * wall.inward
        if room.reserve(x, z, 0.45):
            room.plant(x, z, rng.uniform(0.7, 1.0))

"""Galleries of pictures."""

from __future__ import annotations

import math

from fgbgpack.rendering import furniture
from fgbgpack.rendering.camera import Camera
from fgbgpack.rendering.room import Room


def build_gallery(room: Room) -> Camera:
    """Rooms of pictures in a row, seen through their doorways, with free-standing walls and plinths."""
    dice = room.dice
    room.lamp_colour = dice.pick(((1.0, 0.97, 0.92), (1.0, 0.93, 0.82)))
    half, top = dice.between(3.8, 6.2), dice.between(3.4, 4.6)
    camera = room.aim(dice.between(-0.5, 0.5) * half, dice.between(-1.0, 0.5), spread=0.5)
    floor = dice.pick((room.wood_floor, room.wood_floor, room.stone_floor, room.carpet))()
    frame, trim = room.wood(), room.paint("eeeae2", 0.08)
    z, start = -4.0, -4.0
    colours = ("ece9e2", "d9d4ca", "7f2f32", "33506b", "4f6b57", "d8c9a8", "e6e3dc")
    spot, steel = room.glowing(glow=2.8, cell=(5.0, 5.0)), room.metal("3a3a3c")
    rooms = 2 + dice.below(3)
    room.box(
        (-half - 0.4, half + 0.4), (0.0, top + 0.5), (start - 0.3, start), room.paint(dice.pick(colours))
    )
    for k in range(rooms):
        length = dice.between(6.5, 10.0) + (3.0 if k == 0 else 0.0)
        end = z + length
        wall = room.paint(dice.pick(colours), 0.16) if dice.chance(0.8) else room.wall()
        room.box((-half - 0.4, -half), (0.0, top + 0.5), (z, end), wall)
        room.box((half, half + 0.4), (0.0, top + 0.5), (z, end), wall)
        last = k == rooms - 1
        if last:
            room.box((-half - 0.4, half + 0.4), (0.0, top + 0.5), (end, end + 0.3), wall)
            furniture.picture(
                room, "back", end, 0.0, 1.8, dice.between(1.4, 2.4), dice.between(1.2, 1.9), frame
            )
        else:
            gap, way = dice.between(-0.35, 0.35) * half, dice.between(0.8, 1.4)
            room.box((-half, gap - way), (0.0, top + 0.5), (end - 0.25, end), wall)
            room.box((gap + way, half), (0.0, top + 0.5), (end - 0.25, end), wall)
            room.box((gap - way, gap + way), (2.6, top + 0.5), (end - 0.25, end), wall)
            for edge in (gap - way, gap + way):
                room.box((edge - 0.08, edge + 0.08), (0.0, 2.66), (end - 0.3, end + 0.04), trim)
            room.box((gap - way - 0.08, gap + way + 0.08), (2.58, 2.7), (end - 0.3, end + 0.04), trim)
            for x in (0.5 * (-half + gap - way), 0.5 * (half + gap + way)):
                if half - abs(x) > 0.7:
                    size = min(1.4, 1.5 * (half - abs(x)) - 0.2)
                    furniture.picture(room, "back", end - 0.25, x, 1.65, size, dice.between(0.8, 1.5), frame)
        for side, at in (("left", -half), ("right", half)):
            room.on_wall(side, at, (z, end), (0.0, 0.12), trim, 0.03)
            room.on_wall(side, at, (z, end), (top - 0.12, top), trim, 0.1)
            p = z + dice.between(1.0, 1.6)
            while p < end - 1.2:
                wide, high = dice.between(0.7, 1.8), dice.between(0.7, 1.6)
                furniture.picture(room, side, at, p + wide / 2.0, 1.65, wide, high, frame)
                x = at + (1.2 if side == "left" else -1.2)
                furniture.panel(room, x, top, p + wide / 2.0, (0.1, 0.1), 2.6, spot)
                p += wide + dice.between(0.7, 1.5)
        for out in (-1.1, 1.1):
            x = out * (half - 1.1) / 1.1
            room.box((x - 0.03, x + 0.03), (top - 0.08, top), (z + 0.3, end - 0.3), steel)
        if dice.chance(0.6):
            sky = room.glowing((0.95, 1.0, 1.06), 2.4, (1.0, 1.0))
            furniture.panel(room, 0.0, top, 0.5 * (z + end), (0.8, 0.3 * length), 13.0, sky)
        else:
            for zz in (z + 0.25 * length, z + 0.75 * length):
                furniture.panel(room, 0.0, top, zz, (0.4, 0.4), 7.0, spot)
        for _ in range(3):
            x, zz = dice.between(-0.55, 0.55) * half, dice.between(z + 1.5, end - 1.5)
            what = dice.below(4)
            if what == 0 and room.take(x, zz, 1.0):
                furniture.bench(room, x, zz, dice.pick((0.0, math.pi / 2.0)), frame, steel)
            elif what <= 2 and room.take(x, zz, 0.6):
                furniture.statue(room, x, zz)
            elif zz > 4.0 and room.take(x, zz, 1.4):
                room.box((x - 1.2, x + 1.2), (0.0, 2.6), (zz, zz + 0.25), wall)
                furniture.picture(room, "back", zz, x, 1.6, 1.5, 1.2, frame)
        z = end
    room.box((-half - 0.4, half + 0.4), (-0.3, 0.0), (start, z + 0.4), floor)
    room.box((-half - 0.4, half + 0.4), (top, top + 0.3), (start, z + 0.4), room.paint("e9e7e2", 0.08))
    return camera

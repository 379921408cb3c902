"""Great halls with columns."""

from __future__ import annotations

import math

from fgbgpack.rendering import furniture
from fgbgpack.rendering.camera import Camera
from fgbgpack.rendering.colours import lamp_colour, rgb, vary
from fgbgpack.rendering.kernels import textures
from fgbgpack.rendering.room import Room


def build_hall(room: Room) -> Camera:
    """A great hall: two rows of columns, coffers, tall windows, a long runner or bare stone."""
    dice = room.dice
    room.lamp_colour = lamp_colour(dice)
    half, far, top = dice.between(6.5, 10.5), dice.between(22.0, 44.0), dice.between(5.2, 8.5)
    camera = room.aim(dice.between(-0.6, 0.6) * half, dice.between(-1.0, 3.0), spread=0.5)
    floor, wall, trim = room.stone_floor(), room.wall(), room.paint("e4dccb", 0.15)
    room.box((-half - 1.0, half + 1.0), (-0.3, 0.0), (-9.0, far + 1.0), floor)
    room.box((-half - 1.0, half + 1.0), (0.0, top + 1.0), (-9.3, -9.0), wall)
    room.box((-half - 0.5, -half), (0.0, top + 1.0), (-9.0, far), wall)
    room.box((half, half + 0.5), (0.0, top + 1.0), (-9.0, far), wall)
    room.box((-half - 0.5, half + 0.5), (0.0, top + 1.0), (far, far + 0.5), wall)
    room.box((-half - 0.5, half + 0.5), (top, top + 0.3), (-9.0, far + 0.5), room.paint("dcd5c6", 0.15))
    step, inner = dice.between(4.0, 5.6), dice.between(0.5, 0.66) * half
    beam, round_shaft = room.paint("cfc6b2", 0.2) if dice.chance(0.5) else room.wood(), dice.chance(0.65)
    if dice.chance(0.4):
        shaft = room.wall()
    else:
        stone = vary(dice, rgb(dice.pick(("d8cdb8", "b9a58a", "7f8a86", "a5675a", "e4e0d8"))))
        shaft = room.material(
            textures.MARBLE, stone, rgb("5a4a40"), cell=(9.0, 9.0), contrast=0.9, mirror=0.12, blur=0.1
        )
    radius, day, skirt = dice.between(0.3, 0.5), room.view(), room.paint("5a5046", 0.2)
    windows, lamp, brass = dice.chance(0.6), room.glowing(), room.metal("a58a4a")
    hanging = dice.below(3)
    for i in range(int((far + 8.0) / step)):
        z = -8.0 + step * i
        for out in (-1.0, 1.0):
            if math.hypot(camera.position[0] - out * inner, camera.position[2] - z) > 1.3:
                furniture.column(room, out * inner, z, top - 0.35, radius, shaft, trim, round_shaft)
                room.take(out * inner, z, 0.8)
            room.box((out * half, out * (half - 0.18)), (0.0, top), (z - 0.35, z + 0.35), trim)  # pilaster
            side, middle = ("left" if out < 0 else "right"), z + 0.5 * step
            if middle + 1.2 > far:
                continue
            if windows and (out < 0 or dice.chance(0.7)):
                furniture.window(
                    room, side, out * half, (middle - 0.9, middle + 0.9), (1.0, top - 1.2), trim, day
                )
            elif dice.chance(0.6):
                furniture.picture(
                    room, side, out * half, middle, 2.2, dice.between(1.1, 1.9), dice.between(1.1, 1.9), brass
                )
            else:
                furniture.door(room, side, out * half, middle, room.wood(), trim, brass, 1.3)
        room.box((-half, half), (top - 0.35, top), (z - 0.2, z + 0.2), beam)
        middle = z + 0.5 * step
        if hanging == 0:
            if i % 2 == 0:
                furniture.chandelier(room, 0.0, middle, top, top - dice.between(1.4, 2.0), 22.0)
        elif hanging == 1:
            for x in (-0.8 * half, 0.0, 0.8 * half):
                furniture.pendant(room, x, middle, top, min(3.6, top - 1.2), 6.0, lamp, brass)
        if hanging != 1:
            for x in (
                (-0.33 * half, 0.33 * half)
                if hanging == 0
                else (-0.8 * half, -0.25 * half, 0.25 * half, 0.8 * half)
            ):
                furniture.panel(room, x, top, middle, (0.35, 0.35), 11.0 if hanging == 2 else 7.0, lamp)
    for x in (-inner, inner, 0.0):
        room.box((x - 0.2, x + 0.2), (top - 0.36, top), (-9.0, far), beam)
    for side, at in (("left", -half), ("right", half)):
        room.on_wall(side, at, (-9.0, far), (0.0, 0.22), skirt, 0.05)
        room.on_wall(side, at, (-9.0, far), (top - 0.75, top - 0.35), trim, 0.16)
    # The far wall: a portal to a lit room, or a great picture.
    if dice.chance(0.5):
        furniture.window(room, "back", far, (-1.8, 1.8), (0.3, min(4.0, top - 1.0)), trim, day)
    else:
        furniture.picture(room, "back", far, 0.0, 2.8, 3.6, 2.4, brass)
    if dice.chance(0.5):
        room.box((-1.1, 1.1), (0.0, 0.015), (3.0, far - 1.0), room.carpet())
    seat, legs = room.wood(), room.metal("55585c")
    for _ in range(12):
        x, z = dice.between(-0.9, 0.9) * half, dice.between(3.0, far - 3.0)
        if abs(x) > 1.6 and room.take(x, z, 1.1):
            if dice.chance(0.5):
                furniture.bench(room, x, z, dice.pick((0.0, math.pi / 2.0)), seat, legs)
            elif dice.chance(0.6):
                furniture.plant(room, x, z, dice.between(1.0, 1.7))
            else:
                furniture.statue(room, x, z)
    return camera

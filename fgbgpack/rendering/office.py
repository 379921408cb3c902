"""Corridors of offices and hotels."""

from __future__ import annotations

from fgbgpack.rendering import furniture
from fgbgpack.rendering.camera import Camera
from fgbgpack.rendering.colours import rgb, vary
from fgbgpack.rendering.kernels import textures
from fgbgpack.rendering.room import Room


def build_office(room: Room) -> Camera:
    """A corridor of an office or a hotel: doors on both sides, notices, a window at the end."""
    dice = room.dice
    hotel = dice.chance(0.4)
    room.lamp_colour = (1.0, 0.88, 0.72) if hotel else dice.pick(((0.95, 1.0, 1.04), (1.0, 0.97, 0.92)))
    half, far, top = dice.between(1.15, 2.1), dice.between(12.0, 30.0), dice.between(2.5, 3.1)
    camera = room.aim(dice.between(-0.45, 0.45) * half, dice.between(-0.5, 0.5), spread=0.3)
    speckled = vary(dice, rgb(dice.pick(("9fa6a3", "b8ad98", "7f8c95", "c9c4b8"))))
    floor = (
        room.carpet()
        if hotel or dice.chance(0.35)
        else room.material(textures.TILES, speckled, cell=(0.5, 0.5), contrast=0.3, mirror=0.22, blur=0.1)
    )
    wall, low_wall = (
        room.wall(),
        room.wood() if dice.chance(0.4) else room.paint(dice.pick(("6b7f78", "8a7a66", "5a6a80"))),
    )
    trim = room.paint(dice.pick(("e6e2d8", "5a4636", "8c9196")), 0.1)
    # A cross corridor opens to the left or right.
    cross, out = dice.between(4.5, far - 4.0), dice.pick((-1.0, 1.0))
    for way in (-1.0, 1.0):
        xs = (way * half, way * (half + 0.3))
        if way == out:
            room.box(xs, (0.0, top + 0.4), (-5.0, cross - 1.0), wall)
            room.box(xs, (0.0, top + 0.4), (cross + 1.0, far + 0.3), wall)
            xs = (way * half, way * (half + 7.0))
            for edge in (cross - 1.15, cross + 1.15):
                room.box(xs, (0.0, top + 0.4), (edge - 0.15, edge + 0.15), wall)
            room.box(
                (way * (half + 6.7), way * (half + 7.0)), (0.0, top + 0.4), (cross - 1.2, cross + 1.2), wall
            )
            room.light(way * (half + 2.5), top - 0.1, cross, 5.0, half=(0.5, 0.3))
        else:
            room.box(xs, (0.0, top + 0.4), (-5.0, far + 0.3), wall)
    room.box((-half - 7.3, half + 7.3), (-0.3, 0.0), (-5.0, far + 0.3), floor)
    room.box((-half - 7.3, half + 7.3), (0.0, top + 0.4), (-5.3, -5.0), wall)
    room.box((-half - 0.3, half + 0.3), (0.0, top + 0.4), (far, far + 0.3), wall)
    tile = dice.pick((0.6, 1.2))
    ceiling = room.material(textures.GRID, rgb("e2e0d9"), rgb("a5a39c"), cell=(tile, 0.6), contrast=0.25)
    room.box(
        (-half - 7.3, half + 7.3),
        (top, top + 0.3),
        (-5.0, far + 0.3),
        ceiling if not hotel else room.paint("e6dfd0"),
    )
    step, lamp, steel = dice.between(2.2, 3.4), room.glowing(cell=(0.15, 0.6)), room.metal()
    for i in range(int((far + 3.0) / step)):
        size = (0.14, 0.14) if hotel else dice.pick(((0.3, 0.6), (0.6, 0.15)))
        furniture.panel(room, 0.0, top, -2.0 + step * i, size, 3.6, lamp)
    rail = dice.chance(0.5)
    for side, at in (("left", -half), ("right", half)):
        opening = (cross - 1.05, cross + 1.05) if (side == "left") == (out < 0) else None
        z = -4.0 + dice.between(0.0, 2.0)
        spans = [(-5.0, far)] if opening is None else [(-5.0, opening[0]), (opening[1], far)]
        for span in spans:
            room.on_wall(side, at, span, (0.0, 0.12), trim, 0.025)
            if rail:
                room.on_wall(side, at, span, (0.12, 0.9), low_wall, 0.015)
                room.on_wall(side, at, span, (0.9, 0.96), trim, 0.04)
        leaf = (
            room.wood()
            if hotel or dice.chance(0.6)
            else room.paint(dice.pick(("4a6a8a", "8a4a3a", "d8d4c8", "5f7a5a")), 0.1)
        )
        while z < far - 0.8:
            clear = opening is None or not opening[0] - 0.9 < z < opening[1] + 0.9
            if clear:
                furniture.door(room, side, at, z, leaf, trim, steel)
                number = room.sign(0.2, 0.14, 0.0)
                room.on_wall(side, at, (z + 0.68, z + 0.88), (1.5, 1.64), number, 0.02)
                if hotel:
                    glow = room.glowing((1.0, 0.8, 0.55), 1.6, (5.0, 5.0))
                    x = at + (0.1 if side == "left" else -0.1)
                    room.tube(x, z + 1.25, (1.7, 1.95), 0.05, 0.09, glow)
                    inward = x + (0.12 if side == "left" else -0.12)
                    room.light(inward, 1.95, z + 1.25, 0.5, down=False, reach=5.0, colour=(1.0, 0.8, 0.55))
            p = z + dice.between(1.5, 1.9)
            if clear and (opening is None or not opening[0] - 1.4 < p < opening[1] + 1.4) and p < far - 1.0:
                what = dice.below(5)
                if what <= 1:
                    furniture.picture(
                        room, side, at, p, 1.6, dice.between(0.4, 0.8), dice.between(0.5, 0.9), trim
                    )
                elif what == 2 and not hotel:
                    cork = room.material(
                        textures.CARPET, rgb("a5794a"), rgb("8a6238"), cell=(3.0, 3.0), contrast=0.4
                    )
                    room.on_wall(side, at, (p - 0.55, p + 0.55), (1.1, 1.9), trim, 0.03)
                    room.on_wall(side, at, (p - 0.5, p + 0.5), (1.15, 1.85), cork, 0.035)
                    for _ in range(5):
                        a, b = dice.between(p - 0.4, p + 0.3), dice.between(1.2, 1.6)
                        note = room.paint(dice.pick(("f2f0e6", "f5e27a", "bcd9ee", "f0b8b0")), 0.05)
                        room.on_wall(side, at, (a, a + 0.15), (b, b + 0.2), note, 0.04)
                elif what == 3:
                    red = room.paint("c01818", 0.1, 0.15)
                    x = at + (0.11 if side == "left" else -0.11)
                    room.tube(x, p, (0.75, 1.2), 0.075, 0.075, red)
                    room.tube(x, p, (1.2, 1.3), 0.05, 0.02, room.paint("202020"))
                elif half > 1.4:
                    x = at + (0.4 if side == "left" else -0.4)
                    if room.take(x, p, 0.45):
                        furniture.plant(room, x, p, dice.between(0.7, 1.0))
            z += dice.between(2.9, 4.2)
    if dice.chance(0.55):
        furniture.window(room, "back", far, (-0.7 * half, 0.7 * half), (0.8, 2.2), trim, room.view())
    else:
        furniture.door(room, "back", far, 0.0, room.wood(), trim, steel, 1.1)
    exit_sign = room.material(textures.SIGN, rgb("0a7a3a"), rgb("f0f5f0"), cell=(0.5, 0.2), glow=1.2)
    z = min(far - 0.5, cross + 1.6)
    room.box((-0.28, 0.28), (top - 0.3, top - 0.08), (z, z + 0.05), exit_sign)
    return camera

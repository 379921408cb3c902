"""Hotel lobbies."""

from __future__ import annotations

import math

from fgbgpack.rendering import furniture
from fgbgpack.rendering.camera import Camera
from fgbgpack.rendering.colours import CLOTHS, rgb
from fgbgpack.rendering.kernels import textures
from fgbgpack.rendering.room import Room


def build_lobby(room: Room) -> Camera:
    """A hotel lobby: reception, seats on rugs, lifts, windows, chandeliers."""
    dice = room.dice
    room.lamp_colour = dice.pick(((1.0, 0.88, 0.72), (1.0, 0.93, 0.82)))
    half, far, top = dice.between(5.5, 9.0), dice.between(10.0, 17.0), dice.between(3.4, 5.2)
    camera = room.aim(dice.between(-0.55, 0.55) * half, dice.between(-1.2, 0.6), spread=0.5)
    floor = dice.pick((room.stone_floor, room.stone_floor, room.wood_floor, room.carpet))()
    wall, back, side_wall = room.wall(), room.wood(), room.wall()
    trim, dark = room.paint("e9e2d2", 0.12), room.paint("2f2a26", 0.15, 0.1)
    room.box((-half - 6.0, half + 6.0), (-0.3, 0.0), (-6.0, far + 8.0), floor)
    room.box((-half - 6.0, half + 6.0), (-0.3, top + 1.0), (-6.3, -6.0), wall)
    room.box((-half - 0.4, -half), (0.0, top + 1.0), (-6.0, far + 0.4), side_wall)
    # The right wall has an opening to a corridor with a light in it.
    gap = dice.between(4.0, far - 3.5)
    room.box((half, half + 0.4), (0.0, top + 1.0), (-6.0, gap - 1.1), wall)
    room.box((half, half + 0.4), (0.0, top + 1.0), (gap + 1.1, far + 0.4), wall)
    room.box((half, half + 0.4), (2.6, top + 1.0), (gap - 1.1, gap + 1.1), wall)
    for edge in (gap - 1.1, gap + 1.1):
        room.box((half - 0.06, half + 0.44), (0.0, 2.7), (edge - 0.09, edge + 0.09), trim)
    room.box((half - 0.06, half + 0.44), (2.6, 2.78), (gap - 1.19, gap + 1.19), trim)
    room.box((half + 5.6, half + 6.0), (0.0, 3.0), (gap - 2.0, gap + 2.0), side_wall)
    for edge in (gap - 1.7, gap + 1.7):
        room.box((half + 0.4, half + 6.0), (0.0, 3.0), (edge - 0.1, edge + 0.1), wall)
    room.box((half + 0.4, half + 6.0), (2.9, 3.1), (gap - 1.7, gap + 1.7), trim)
    furniture.panel(room, half + 2.5, 2.9, gap, (0.5, 0.3), 5.0, room.glowing())
    furniture.picture(room, "right", half + 5.6, gap, 1.6, 1.0, 1.2, dark)
    room.box((-half - 0.4, half + 0.4), (0.0, top + 1.0), (far, far + 0.4), back)
    ceiling = room.paint(dice.pick(("ece7dc", "dcd4c4", "e9e9e6")), 0.1)
    room.box((-half - 0.4, half + 0.4), (top, top + 0.3), (-6.0, far + 0.4), ceiling)
    # Skirting and cornice.
    for y, thick in (((0.0, 0.14), 0.03), ((top - 0.16, top), 0.12)):
        skirt = dark if y[0] == 0.0 else trim
        room.on_wall("left", -half, (-6.0, far), y, skirt, thick)
        room.on_wall("right", half, (-6.0, gap - 1.2), y, skirt, thick)
        room.on_wall("right", half, (gap + 1.2, far), y, skirt, thick)
        room.on_wall("back", far, (-half, half), y, skirt, thick)
    # Reception before the back wall, with a lit sign over it.
    desk = dice.between(-0.4, 0.4) * half
    long = dice.between(1.5, 2.4)
    front = room.wood() if dice.chance(0.5) else room.stone_floor()
    furniture.counter(
        room, (desk - long, desk + long), (far - 2.4, far - 1.8), front, room.paint("1f1d1c", 0.2, 0.3)
    )
    room.take(desk, far - 2.0, long + 0.2)
    room.on_wall("back", far, (desk - 1.5, desk + 1.5), (2.2, 2.9), room.sign(3.0, 0.7, 0.7), 0.08)
    keys = room.material(textures.GOODS, rgb("5a3c22"), rgb("2a1c12"), cell=(0.12, 0.22))
    if dice.chance(0.5):
        room.on_wall("back", far, (desk - 1.2, desk + 1.2), (1.15, 2.0), keys, 0.12)
    spot = room.glowing(glow=2.5)
    for x in (desk - 1.2, desk, desk + 1.2):
        furniture.panel(room, x, top, far - 1.4, (0.12, 0.12), 3.2, spot)
    # Lifts or pictures beside it.
    steel = room.metal("b9924a" if dice.chance(0.4) else "b8babd")
    for x in (desk - long - 2.0, desk + long + 2.0):
        if abs(x) > half - 1.0:
            continue
        if dice.chance(0.6):
            room.on_wall("back", far, (x - 0.75, x + 0.75), (0.0, 2.35), trim, 0.1)
            room.on_wall("back", far, (x - 0.6, x - 0.006), (0.0, 2.2), steel, 0.12)
            room.on_wall("back", far, (x + 0.006, x + 0.6), (0.0, 2.2), steel, 0.12)
            arrow = room.material(textures.PLASTER, (1.0, 0.5, 0.2), glow=1.2)
            room.on_wall("back", far, (x - 0.12, x + 0.12), (2.42, 2.5), arrow, 0.06)
        else:
            furniture.picture(room, "back", far, x, 1.75, 1.1, 1.3, dark)
    _window_wall(room, "left", -half, far, top, trim)
    z = -3.0
    while z < far - 1.5:
        if abs(z - gap) > 2.2 and dice.chance(0.75):
            furniture.picture(
                room, "right", half, z, 1.7, dice.between(0.7, 1.3), dice.between(0.7, 1.2), dark
            )
        z += dice.between(2.2, 3.4)
    if dice.chance(0.65):
        shaft, kind = room.wall(), dice.chance(0.6)
        x0, step = dice.between(0.45, 0.6) * half, dice.between(4.0, 5.5)
        for i in range(int(far / step)):
            for x in (-x0, x0):
                if room.take(x, 2.5 + step * i, 0.6):
                    furniture.column(room, x, 2.5 + step * i, top, dice.pick((0.28, 0.34)), shaft, trim, kind)
    lamps = dice.below(3)
    if lamps == 0:
        for z in (3.0, 8.5):
            furniture.chandelier(room, 0.0, z, top, top - dice.between(1.1, 1.5), 14.0)
    panel = room.glowing(cell=(5.0, 5.0))
    step = dice.between(2.4, 3.4)
    for i in range(int((far + 3.0) / step)):
        for x in (-0.6 * half, 0.0, 0.6 * half):
            if lamps == 1 and i % 2 == 0:
                furniture.pendant(room, x, -1.0 + step * i, top, dice.between(2.5, 2.8), 2.6, panel, steel)
            else:
                furniture.panel(room, x, top, -1.0 + step * i, (0.16, 0.16), 3.4, panel)
    # Groups of seats on rugs.
    cloth, top_wood, shade = room.cloth(), room.wood(), room.glowing((1.0, 0.8, 0.55), 1.4, (5.0, 5.0))
    for _ in range(14):
        x, z = dice.between(-0.75, 0.75) * half, dice.between(2.2, far - 4.0)
        if not room.take(x, z, 1.9):
            continue
        rug = room.carpet()
        turn = dice.pick((0.0, 0.5 * math.pi, math.pi, -0.5 * math.pi)) + dice.between(-0.15, 0.15)
        room.box((x - 1.7, x + 1.7), (0.0, 0.02), (z - 1.3, z + 1.3), rug, turn)
        furniture.low_table(room, x, z, turn, top_wood, steel)

        def beside(
            dx: float, dz: float, x: float = x, z: float = z, turn: float = turn
        ) -> tuple[float, float]:
            c, s = math.cos(turn), math.sin(turn)
            return x + c * dx - s * dz, z + s * dx + c * dz

        furniture.sofa(room, *beside(0.0, 1.05), turn, cloth, dark)
        for side in (-1.0, 1.0):
            if dice.chance(0.75):
                furniture.sofa(
                    room, *beside(1.35 * side, 0.0), turn - side * 0.5 * math.pi, cloth, dark, 0.95
                )
        if dice.chance(0.6):
            furniture.floor_lamp(room, *beside(1.25, 1.2), steel, shade)
        if dice.chance(0.5):
            furniture.plant(room, *beside(-1.4, 1.25), dice.between(0.8, 1.2))
    for _ in range(6):
        x, z = dice.pick((-half + 0.6, half - 0.6)), dice.between(0.5, far - 0.6)
        if abs(z - gap) > 1.8 and room.take(x, z, 0.5):
            furniture.plant(room, x, z, dice.between(1.0, 1.6))
    return camera


def _window_wall(room: Room, side: str, at: float, far: float, top: float, frame: int) -> None:
    """Tall windows with curtains along a wall."""
    dice = room.dice
    day, first = room.view(), rgb(dice.pick(CLOTHS))
    second = (first[0] * 1.6, first[1] * 1.6, first[2] * 1.6)
    curtain = room.material(textures.DRAPES, first, second, cell=(0.14, 1.0), contrast=0.8)
    wide, high = dice.between(1.4, 2.6), dice.between(2.3, top - 0.5)
    low, pitch = dice.pick((0.15, 0.75)), wide + dice.between(1.2, 2.0)
    for i in range(int((far + 4.0) / pitch)):
        z = -4.0 + pitch * (i + 0.5)
        if z + wide / 2.0 > far - 0.4:
            break
        furniture.window(room, side, at, (z - wide / 2.0, z + wide / 2.0), (low, high), frame, day)
        for edge in (z - wide / 2.0, z + wide / 2.0):
            room.on_wall(side, at, (edge - 0.22, edge + 0.22), (0.03, high + 0.12), curtain, 0.13, 0.05)
        room.on_wall(
            side, at, (z - wide / 2.0 - 0.35, z + wide / 2.0 + 0.35), (high + 0.12, high + 0.17), frame, 0.2
        )

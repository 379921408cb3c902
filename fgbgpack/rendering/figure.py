"""Figures: people built from tapered parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fgbgpack.rendering.colours import CLOTHS, Colour, codes, rgb, vary
from fgbgpack.rendering.kernels import figures
from fgbgpack.rendering.rng import Dice

Point = tuple[float, float, float]


def _step(start: Point, direction: Point, length: float) -> Point:
    return (
        start[0] + length * direction[0],
        start[1] + length * direction[1],
        start[2] + length * direction[2],
    )


class _Body:
    """Builds a figure from tapered parts: x to its left, y up, z to where it looks."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.tall = dice.between(1.56, 1.9)
        self._parts: list[list[float]] = []
        self._cloths: list[list[float]] = []

    def stuff(
        self,
        pattern: int,
        first: Colour,
        second: Colour | None = None,
        *,
        cells: float = 20.0,
        folds: float = 0.0,
        gloss: float = 0.0,
    ) -> int:
        second = first if second is None else second
        self._cloths.append([pattern, *first, *second, cells, folds, gloss, self.dice.below(100_000)])
        return len(self._cloths) - 1

    def garment(self, colours: Sequence[str], plain: float, patterns: Sequence[int], folds: float) -> int:
        """Cloth in two of the colours, plain with probability ``plain``, otherwise in one of the patterns."""
        first = vary(self.dice, rgb(self.dice.pick(colours)))
        second = vary(self.dice, rgb(self.dice.pick(colours)))
        pattern = figures.PLAIN if self.dice.chance(plain) else self.dice.pick(patterns)
        cells = {figures.HOOPS: 18.0, figures.PINSTRIPES: 34.0, figures.CHECK: 14.0, figures.DOTS: 24.0}.get(
            pattern, 20.0
        )
        return self.stuff(pattern, first, second, cells=cells * self.dice.between(0.7, 1.3), folds=folds)

    def part(
        self,
        a: Point,
        b: Point,
        ra: float,
        rb: float,
        material: int,
        *,
        blend: float = 0.02,
        flat: float = 1.0,
        across: Point = (0.0, 0.0, 1.0),
        cut: int = 0,
    ) -> None:
        """A part in units of the body's height (``blend``: metres), ``flat`` times thinner along ``across``.

        ``cut`` is the number of ends that are flat instead of round: the second one, or both.
        """
        t = self.tall
        ends = [t * v for v in (*a, *b, ra, rb)]
        self._parts.append([*ends, *across, flat, material, blend, float(cut)])

    def arrays(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Parts, those of one material together, and materials."""
        return np.array(sorted(self._parts, key=lambda row: row[12])), np.array(self._cloths)


_SKINS = codes("f1c9a5 e0ac84 c98f68 a8704a 8a5636 5f3a26 f4d6bd d9a27a 46291b")
_HAIRS = codes("17120f 2b1d14 4a2f1c 6e4a2a a5793f cda765 8c8a88 7a2f1a 0e0d10 d8d4cc")
_SHIRTS = codes(
    "e9e7e1 2f4a6d 8f2f2f 3d5c43 c7a24a 2a2c30 7c8a99 d88a9a "
    "5a3f66 4f8fa8 b5532f cfd8de 12507a e0c9a6 6f1d3a 1f7a6d"
)
_TROUSERS = codes("26303f 1c1d20 5b5f66 7a6a52 3b4a34 4a3427 a89a80 2c3b5c d0cabb")
_PATTERNS = (figures.HOOPS, figures.PINSTRIPES, figures.CHECK, figures.DOTS, figures.KNIT, figures.KNIT)


def _pose(dice: Dice) -> dict[str, float]:
    """Angles in radians of arms and legs, of a figure that walks or stands."""
    if dice.chance(0.45):
        swing = dice.between(0.24, 0.46) * dice.pick((-1.0, 1.0))
        pose = {"leg1": swing, "leg2": -0.85 * swing, "knee1": 0.12, "knee2": 0.12, "lean": 0.03}
        pose["knee1" if swing < 0.0 else "knee2"] = dice.between(0.35, 0.7)
        pose |= {
            "arm1": -0.9 * swing,
            "arm2": 0.9 * swing,
            "elbow1": 0.35,
            "elbow2": 0.35,
            "out1": 0.1,
            "out2": 0.1,
        }
        return pose
    shift = dice.between(0.0, 0.1)
    pose = {"leg1": shift, "leg2": -0.5 * shift, "knee1": 0.5 * shift, "knee2": 0.02, "lean": 0.0}
    pose |= {"arm1": dice.between(-0.06, 0.1), "arm2": dice.between(-0.06, 0.1)}
    pose |= {"elbow1": dice.between(0.1, 0.3), "elbow2": dice.between(0.1, 0.3)}
    pose |= {"out1": dice.between(0.1, 0.24), "out2": dice.between(0.1, 0.24)}
    return pose


@dataclass(frozen=True)
class _Looks:
    """What a figure is like: its shape and stance, and the numbers of its materials."""

    woman: bool
    build: float
    pose: dict[str, float]
    skirt: bool
    dress: bool
    coat: bool
    long_coat: bool
    long_sleeves: bool
    skin: int
    face: int
    hair: int
    shirt: int
    legs: int
    shoe: int
    top: int

    @property
    def lean(self) -> float:
        """How far the shoulders are before the hips."""
        return self.pose["lean"]

    @property
    def shoulder(self) -> float:
        """Half the width between the shoulders."""
        return (0.08 if self.woman else 0.095) * (0.6 + 0.4 * self.build)


def _choose_looks(body: _Body) -> _Looks:
    dice = body.dice
    woman = dice.chance(0.5)
    build = dice.between(0.9, 1.08) if dice.chance(0.7) else dice.between(1.08, 1.26)
    pose = _pose(dice)
    skin_colour, hair_colour = (
        vary(dice, rgb(dice.pick(_SKINS)), 0.06),
        vary(dice, rgb(dice.pick(_HAIRS))),
    )
    skin = body.stuff(figures.SKIN, skin_colour, gloss=0.05)
    face = body.stuff(figures.FACE, skin_colour, hair_colour, gloss=0.06)
    bright = (min(1.0, hair_colour[0] * 1.7), min(1.0, hair_colour[1] * 1.6), min(1.0, hair_colour[2] * 1.5))
    hair = body.stuff(figures.HAIR, hair_colour, bright, gloss=0.12)

    shirt = body.garment(_SHIRTS, 0.5, _PATTERNS, dice.between(0.25, 0.5))
    jeans = dice.chance(0.4)
    if jeans:
        blue = vary(dice, rgb(dice.pick(("2c4263", "1e2c47", "5a7595", "33363d"))))
        light = (blue[0] * 1.9, blue[1] * 1.8, blue[2] * 1.6)
        legs = body.stuff(figures.DENIM, blue, light, folds=0.3)
    else:
        legs = body.garment(_TROUSERS, 0.85, (figures.PINSTRIPES, figures.CHECK), 0.3)
    leather = vary(dice, rgb(dice.pick(("1a1614", "4a2c1a", "e6e3dc", "7a1f22", "2b3040", "8a6a48"))))
    shoe = body.stuff(figures.PLAIN, leather, gloss=0.25)
    skirt = woman and dice.chance(0.5)
    dress = skirt and dice.chance(0.5)
    coat = dice.chance(0.42)
    long_coat = coat and dice.chance(0.55)
    long_sleeves = coat or dice.chance(0.55)
    top = shirt
    if coat:
        outer = vary(dice, rgb(dice.pick(_TROUSERS if dice.chance(0.6) else _SHIRTS)))
        under = vary(dice, rgb(dice.pick(("e9e7e1", "cfd8de", "2a2c30", "b9c7d6", "d9c7a8", "8f2f2f"))))
        top = body.stuff(figures.SHIRT_FRONT, outer, under, cells=dice.pick((0.0, 0.05, 0.075)), folds=0.35)
    return _Looks(
        woman=woman,
        build=build,
        pose=pose,
        skirt=skirt,
        dress=dress,
        coat=coat,
        long_coat=long_coat,
        long_sleeves=long_sleeves,
        skin=skin,
        face=face,
        hair=hair,
        shirt=shirt,
        legs=legs,
        shoe=shoe,
        top=top,
    )


def _add_legs(body: _Body, looks: _Looks) -> None:
    dice = body.dice
    build, pose, skirt, legs, shoe = looks.build, looks.pose, looks.skirt, looks.legs, looks.shoe
    hip_wide = 0.05 if looks.woman else 0.046
    extra = 0.0 if skirt else 0.006
    leg_stuff = looks.skin if skirt and dice.chance(0.6) else legs
    tights = body.stuff(figures.PLAIN, rgb(dice.pick(("1a1a1c", "3a2a2a", "c9a184"))), gloss=0.03)
    if skirt and leg_stuff == legs:
        leg_stuff = tights
    for number, x in ((1, hip_wide), (2, -hip_wide)):
        a, bend = pose[f"leg{number}"], pose[f"knee{number}"]
        hip = (x, 0.505, 0.0)
        spread = 0.03 if x > 0 else -0.03
        knee = _step(hip, (spread, -math.cos(a), math.sin(a)), 0.235)
        ankle = _step(knee, (0.3 * spread, -math.cos(a - bend), math.sin(a - bend)), 0.225)
        thigh, calf = (0.05 + extra) * build, (0.035 + extra) * (0.5 + 0.5 * build)
        body.part(hip, knee, thigh, calf, leg_stuff, blend=0.03)
        if leg_stuff == legs:
            flare = dice.between(0.026, 0.034)
            low = _step(knee, (0.3 * spread, -math.cos(a - bend), math.sin(a - bend)), 0.218)
            body.part(knee, low, calf, flare, legs, blend=0.02, cut=1)
        else:
            middle = _step(knee, (0.0, -math.cos(a - bend), math.sin(a - bend) - 0.03), 0.07)
            body.part(knee, middle, 0.031 * build, 0.033 * build, leg_stuff, blend=0.02)
            body.part(middle, ankle, 0.033 * build, 0.019, leg_stuff, blend=0.02)
            body.part(ankle, _step(ankle, (0.0, -1.0, 0.3), 0.02), 0.02, 0.02, leg_stuff)
        # The foot lies flat before the body and rolls over the toes behind it.
        roll = max(-0.25, min(0.75, 0.9 * (bend - a)))
        heel = (ankle[0], ankle[1] - 0.016, ankle[2] - 0.006)
        toe = _step(heel, (0.12 * (1 if x > 0 else -1), -math.sin(roll) - 0.06, math.cos(roll)), 0.088)
        body.part(heel, toe, 0.025, 0.019, shoe, blend=0.015, flat=1.15, across=(0.0, 1.0, 0.0))
        ball = _step(heel, (0.1 * (1 if x > 0 else -1), -math.sin(roll), math.cos(roll)), 0.055)
        body.part(ball, toe, 0.023, 0.018, shoe, blend=0.012, flat=1.2, across=(0.0, 1.0, 0.0))
        if not skirt or dice.chance(0.3):
            body.part(ankle, heel, 0.024, 0.026, shoe, blend=0.012)


def _add_trunk(body: _Body, looks: _Looks) -> None:
    dice = body.dice
    build, lean, top, skirt = looks.build, looks.lean, looks.top, looks.skirt
    lower = looks.shirt if looks.dress else looks.legs
    if skirt and not looks.dress:
        lower = body.garment(_SHIRTS, 0.5, _PATTERNS, 0.4)
    waist = (0.064 if looks.woman else 0.07) * build
    chest = (0.078 if looks.woman else 0.086) * (0.5 + 0.5 * build)
    hips = (0.082 if looks.woman else 0.076) * build
    body.part((0.0, 0.5, 0.0), (0.0, 0.575, 0.0), hips, 0.95 * waist + 0.008, lower, blend=0.04, flat=1.25)
    if skirt:
        hem = dice.between(0.29, 0.4)
        stride = max(abs(math.sin(looks.pose["leg1"])), abs(math.sin(looks.pose["leg2"])))
        girth = 0.104 * build
        widest = girth + 0.08 * stride + dice.between(0.0, 0.035)
        body.part((0.0, 0.585, 0.0), (0.0, 0.5, 0.0), hips * 0.9, girth, lower, blend=0.03, flat=1.22)
        loose = max(1.0, 1.22 - 0.5 * stride)
        body.part((0.0, 0.5, 0.0), (0.0, hem, 0.0), girth, widest, lower, blend=0.03, flat=loose, cut=1)
    over = 0.011 if looks.coat else 0.002
    body.part((0.0, 0.525 if looks.coat else 0.565, 0.0), (0.0, 0.63, 0.0), hips + over, waist + 0.004, top,
              blend=0.04, flat=1.24, cut=0 if looks.dress else 2)  # fmt: skip
    body.part((0.0, 0.63, 0.0), (0.0, 0.735, lean), waist + 0.004, chest, top, blend=0.05, flat=1.32)
    body.part((0.0, 0.735, lean), (0.0, 0.765, lean), chest, 0.06, top, blend=0.04, flat=1.3)
    for out in (-1.0, 1.0):
        body.part(
            (0.02 * out, 0.808, lean - 0.006),
            (looks.shoulder * out, 0.782, lean),
            0.034,
            0.034,
            top,
            blend=0.035,
        )
    body.part((0.0, 0.79, lean - 0.005), (0.0, 0.833, lean - 0.003), 0.048, 0.034, top, blend=0.03, cut=1)
    if build > 1.1:
        body.part((0.0, 0.6, 0.022), (0.0, 0.63, 0.022), 0.065 * build, 0.06 * build, top, blend=0.06)
    if looks.woman:
        for x in (-0.034, 0.034):
            body.part((x, 0.725, lean + 0.032), (x, 0.72, lean + 0.036), 0.036, 0.034, top, blend=0.05)
    if looks.long_coat:
        open_out = 0.05 * max(abs(math.sin(looks.pose["leg1"])), abs(math.sin(looks.pose["leg2"])))
        girth = 0.108 * build + 0.008
        hem = dice.between(0.27, 0.4)
        widest = girth + 0.012 + open_out
        body.part((0.0, 0.6, 0.0), (0.0, 0.505, 0.0), hips + 0.004, girth, top, blend=0.04, flat=1.22)
        loose = 1.22 - 3.0 * open_out
        body.part((0.0, 0.505, 0.0), (0.0, hem, 0.0), girth, widest, top, blend=0.03, flat=loose, cut=1)
    if not looks.dress and not looks.coat and dice.chance(0.5):
        belt = body.stuff(figures.PLAIN, rgb(dice.pick(("1a1614", "4a2c1a"))), gloss=0.15)
        body.part((0.0, 0.56, 0.0), (0.0, 0.578, 0.0), hips + 0.003, hips + 0.002, belt, flat=1.27, cut=2)


def _add_arms(body: _Body, looks: _Looks, carries: int) -> list[Point]:
    """Add arms, hands and perhaps a telephone; returns where the hands hold things."""
    dice = body.dice
    build, lean, top, skin = looks.build, looks.lean, looks.top, looks.skin
    hands: list[Point] = []
    gestures = {1: dice.below(6), 2: dice.below(6)}
    for number, out in ((1, 1.0), (2, -1.0)):
        swing, bend, away = (
            looks.pose[f"arm{number}"],
            looks.pose[f"elbow{number}"],
            looks.pose[f"out{number}"] + 0.06 * (build - 1.0),
        )
        twist = 0.0
        if gestures[number] == 0 and looks.pose["leg1"] < 0.15:  # hand on the hip
            swing, away, bend, twist = -0.35, 0.75, 1.5, -1.15
        elif gestures[number] == 1 and (carries != number):  # forearm raised: a telephone, a gesture
            swing, away, bend, twist = 0.25, 0.15, dice.between(1.5, 2.2), -0.35
        joint = (out * (looks.shoulder + 0.01), 0.778, lean)
        arm = (out * math.sin(away), -math.cos(away) * math.cos(swing), math.cos(away) * math.sin(swing))
        elbow = _step(joint, arm, 0.168)
        turn = swing + bend
        fore = (out * math.sin(away * 0.5 + twist) if twist else out * math.sin(0.4 * away), 0.0, 0.0)
        rest = math.sqrt(1.0 - fore[0] ** 2)
        fore = (fore[0], -rest * math.cos(turn), rest * math.sin(turn))
        if twist < -1.0:
            fore = (-out * 0.82, -0.5, 0.28)
        wrist = _step(elbow, fore, 0.146)
        thick = 0.5 + 0.5 * build
        sleeve = 0.006 if looks.coat else 0.003
        if looks.long_sleeves:
            body.part(joint, elbow, (0.033 + sleeve) * thick, (0.026 + sleeve) * thick, top, blend=0.03)
            cuff = _step(elbow, fore, 0.14)
            body.part(elbow, cuff, (0.026 + sleeve) * thick, 0.019 + sleeve, top, blend=0.012, cut=1)
        else:
            half = _step(joint, arm, dice.between(0.075, 0.11))
            body.part(joint, half, (0.034 + sleeve) * thick, (0.033 + sleeve) * thick, top, blend=0.03, cut=1)
            body.part(joint, elbow, 0.031 * thick, 0.024 * thick, skin, blend=0.02)
            body.part(elbow, _step(elbow, fore, 0.05), 0.024 * thick, 0.025 * thick, skin, blend=0.012)
            body.part(_step(elbow, fore, 0.05), wrist, 0.025 * thick, 0.016, skin, blend=0.012)
        palm = _step(wrist, fore, 0.045)
        thin = (out, 0.0, 0.0) if abs(fore[0]) < 0.5 else (0.0, 0.0, 1.0)
        body.part(wrist, palm, 0.0155, 0.021, skin, blend=0.012, flat=1.8, across=thin)
        curl = (fore[0] - 0.15 * out, fore[1], fore[2] + 0.3)
        body.part(palm, _step(palm, curl, 0.036), 0.019, 0.012, skin, blend=0.01, flat=1.7, across=thin)
        thumb = _step(wrist, fore, 0.018)
        body.part(
            thumb,
            (thumb[0] - 0.006 * out, thumb[1] - 0.024, thumb[2] + 0.024),
            0.0085,
            0.007,
            skin,
            blend=0.008,
        )
        hands.append(_step(palm, fore, 0.012))
        if gestures[number] == 1 and bend > 1.4 and dice.chance(0.5):
            phone = body.stuff(figures.PLAIN, rgb(dice.pick(("101216", "e8e8ea", "b01830"))), gloss=0.3)
            tip = _step(palm, fore, 0.02)
            body.part(
                tip, (tip[0], tip[1] + 0.06, tip[2]), 0.019, 0.019, phone, flat=3.5, across=(0.0, 0.2, 0.98)
            )
    return hands


def _add_load(body: _Body, looks: _Looks, carries: int, hands: list[Point]) -> None:
    """Add a bag in a hand (1, 2), a rucksack (3), a bag at the hip (4) or nothing."""
    dice = body.dice
    build, lean = looks.build, looks.lean
    stuff = body.stuff(
        figures.PLAIN, vary(dice, rgb(dice.pick((*CLOTHS, "1a1614", "e6e3dc")))), folds=0.06, gloss=0.12
    )
    strap = body.stuff(figures.PLAIN, vary(dice, rgb(dice.pick(("1a1614", "4a2c1a", "5a5048")))), gloss=0.05)
    hand = hands[0] if carries != 2 else hands[1]
    side = 1.0 if carries != 2 else -1.0
    if carries in (1, 2) and hand[1] < 0.55:  # a bag in the hand
        big = dice.between(0.8, 1.3)
        top_y = hand[1] - 0.055 * big
        for z in (-0.03, 0.03):
            body.part(
                (hand[0], hand[1] - 0.005, hand[2] + 0.2 * z),
                (hand[0], top_y, hand[2] + z),
                0.0035,
                0.0035,
                strap,
            )
        bottom = (hand[0] + 0.004 * side, top_y - 0.1 * big, hand[2])
        body.part(
            (hand[0], top_y - 0.015, hand[2]),
            bottom,
            0.048 * big,
            0.06 * big,
            stuff,
            flat=2.6,
            across=(1.0, 0.0, 0.0),
            cut=1,
        )
    elif carries == 3:  # a rucksack
        body.part(
            (0.0, 0.64, -0.105 * build), (0.0, 0.76, -0.1 * build), 0.062, 0.055, stuff, flat=1.25, blend=0.03
        )
        body.part((0.0, 0.63, -0.15 * build), (0.0, 0.66, -0.15 * build), 0.035, 0.03, stuff, blend=0.02)
        for x in (-0.058, 0.058):
            high, low = (x, 0.825, lean), (1.08 * x, 0.775, lean + 0.057)
            body.part((x, 0.79, -0.05), high, 0.009, 0.009, strap, blend=0.01)
            body.part(high, low, 0.009, 0.009, strap, blend=0.01)
            body.part(low, (1.3 * x, 0.69, lean + 0.056), 0.009, 0.008, strap, blend=0.01)
    elif carries == 4:  # a bag at the hip, its strap across the chest
        body.part((0.105 * build, 0.5, -0.02), (0.105 * build, 0.56, -0.02), 0.052, 0.05, stuff, flat=1.9,
                  across=(0.9, 0.0, 0.43), blend=0.02)  # fmt: skip
        points = (
            (-0.055, 0.826, 0.01),
            (-0.045, 0.78, 0.054),
            (0.0, 0.71, 0.08),
            (0.055, 0.63, 0.064),
            (0.09, 0.57, 0.02),
        )
        for start, end in pairwise(points):
            body.part(start, end, 0.008, 0.008, strap, blend=0.01)


def _add_head(body: _Body, looks: _Looks) -> npt.NDArray[Any]:
    """Add neck, head and hair; returns the head's frame as ``figures.draw_figure`` reads it."""
    dice = body.dice
    woman, lean, skin, face, hair = looks.woman, looks.lean, looks.skin, looks.face, looks.hair
    unit = 1.0 / dice.between(7.1, 7.6)
    chin: Point = (0.0, 0.99 - unit, lean + 0.008)
    nod, look = dice.between(-0.1, 0.12), dice.between(-0.35, 0.35)
    front: Point = (math.sin(look) * math.cos(nod), -math.sin(nod), math.cos(look) * math.cos(nod))
    left: Point = (math.cos(look), 0.0, -math.sin(look))
    up: Point = (math.sin(look) * math.sin(nod), math.cos(nod), math.cos(look) * math.sin(nod))

    def at(a: float, c: float, f: float) -> Point:
        return _step(_step(_step(chin, left, a * unit), up, c * unit), front, f * unit)

    def lump(
        a: Point, b: Point, ra: float, rb: float, material: int, blend: float = 0.02, flat: float = 1.0
    ) -> None:
        body.part(at(*a), at(*b), ra * unit, rb * unit, material, blend=blend, flat=flat, across=left)

    jaw = 0.15 if woman else 0.18
    body.part(
        (0.0, 0.8, lean - 0.004),
        at(0.0, 0.22, -0.08),
        0.036 if woman else 0.041,
        0.029 if woman else 0.034,
        skin,
    )
    lump((0.0, 0.63, -0.1), (0.0, 0.63, 0.03), 0.36, 0.335, face, 0.03, 1.12)
    lump((0.0, 0.48, 0.06), (0.0, 0.17, 0.12), 0.285, jaw, face, 0.04, 1.04)
    lump((0.0, 0.52, 0.33), (0.0, 0.37, 0.405), 0.03, 0.047, face, 0.012)
    for x in (-1.0, 1.0):
        lump((0.06 * x, 0.56, 0.3), (0.2 * x, 0.555, 0.24), 0.05, 0.045, face, 0.02)  # brow ridge
        lump((0.325 * x, 0.42, -0.05), (0.335 * x, 0.52, -0.06), 0.045, 0.06, face, 0.006, 2.0)
    cut = dice.below(6) if woman else dice.pick((0, 0, 0, 5, 6, 6, 7, 3))
    if cut != 7:
        lump((0.0, 0.755, -0.13), (0.0, 0.765, 0.04), 0.345, 0.29, hair, 0.03, 1.02)
        lump((0.0, 0.52, -0.2), (0.0, 0.68, -0.16), 0.27, 0.33, hair, 0.03)
        for x in (-1.0, 1.0):
            lump((0.27 * x, 0.56, -0.08), (0.255 * x, 0.72, 0.06), 0.075, 0.12, hair, 0.03)
    else:  # a bald head keeps a rim
        lump((0.0, 0.42, -0.21), (0.0, 0.5, -0.2), 0.24, 0.26, hair, 0.02)
    if cut in (1, 2):  # long
        drop = dice.between(-0.55, -0.1)
        for x in (-1.0, 1.0):
            lump((0.28 * x, 0.68, -0.04), (0.33 * x, drop, 0.0), 0.12, 0.1, hair, 0.04)
        lump((0.0, 0.6, -0.25), (0.0, drop - 0.1, -0.3), 0.28, 0.2, hair, 0.05)
    elif cut == 3:  # to the chin, or a full head of curls
        for x in (-1.0, 1.0):
            lump((0.29 * x, 0.66, -0.06), (0.31 * x, 0.2, -0.03), 0.14, 0.12, hair, 0.04)
        lump((0.0, 0.6, -0.22), (0.0, 0.22, -0.24), 0.3, 0.25, hair, 0.04)
    elif cut == 4:  # a knot at the back
        lump((0.0, 0.86, -0.44), (0.0, 0.88, -0.46), 0.16, 0.15, hair, 0.02)
    elif cut == 5 and woman:  # a tail
        lump((0.0, 0.78, -0.45), (0.0, 0.7, -0.55), 0.1, 0.12, hair, 0.02)
        lump((0.0, 0.7, -0.55), (0.0, 0.05, -0.55), 0.12, 0.06, hair, 0.02)
    elif cut == 6:  # a quiff
        lump((-0.14, 0.95, 0.12), (0.14, 0.98, 0.1), 0.13, 0.12, hair, 0.04)
    if dice.chance(0.12):
        hat = body.garment(_SHIRTS, 0.7, (figures.KNIT, figures.HOOPS), 0.1)
        lump((0.0, 0.8, -0.12), (0.0, 0.82, 0.02), 0.37, 0.34, hat, 0.03)
        if dice.chance(0.6):
            lump((-0.1, 0.78, 0.3), (0.1, 0.78, 0.3), 0.2, 0.2, hat, 0.02)
    beard = (
        dice.between(0.5, 1.0)
        if not woman and dice.chance(0.4)
        else (0.0 if woman else dice.between(0.0, 0.25))
    )
    glasses = dice.pick((0.0, 0.0, 0.0, 1.0, 0.0, 2.0)) if dice.chance(0.8) else 0.0
    scaled = [v * body.tall for v in (*chin, unit)]
    return np.array([*scaled, *left, *up, *front, dice.between(0.3, 1.0) if woman else 0.0, beard, glasses])


def build_figure(dice: Dice) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], float]:
    """Parts, materials and head frame of one figure, and how far it is turned from the viewer."""
    body = _Body(dice)
    looks = _choose_looks(body)
    _add_legs(body, looks)
    _add_trunk(body, looks)
    carries = dice.below(6)
    hands = _add_arms(body, looks, carries)
    _add_load(body, looks, carries, hands)
    head = _add_head(body, looks)
    yaw = dice.pick((0.0, 0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.9, 0.25, -0.25)) + dice.between(-0.2, 0.2)
    parts, cloths = body.arrays()
    return parts, cloths, head, yaw

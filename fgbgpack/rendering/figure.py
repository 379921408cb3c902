"""Figures: people built from tapered parts."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgbgpack.rendering.colours import CLOTHS, Colour, choose, choose_varied, tint
from fgbgpack.rendering.kernels import figures
from fgbgpack.rendering.rng import Rng

Point = tuple[float, float, float]

_SKINS = "f1c9a5 e0ac84 c98f68 a8704a 8a5636 5f3a26 f4d6bd d9a27a 46291b"
_HAIRS = "17120f 2b1d14 4a2f1c 6e4a2a a5793f cda765 8c8a88 7a2f1a 0e0d10 d8d4cc"
_SHIRTS = (
    "e9e7e1 2f4a6d 8f2f2f 3d5c43 c7a24a 2a2c30 7c8a99 d88a9a "
    "5a3f66 4f8fa8 b5532f cfd8de 12507a e0c9a6 6f1d3a 1f7a6d"
)
_TROUSERS = "26303f 1c1d20 5b5f66 7a6a52 3b4a34 4a3427 a89a80 2c3b5c d0cabb"
_LEATHER = "1a1614 4a2c1a"
_PATTERNS = (figures.HOOPS, figures.PINSTRIPES, figures.CHECK, figures.DOTS, figures.KNIT, figures.KNIT)
#: Cells a metre of patterns that do not have 20.
_CELLS = {figures.HOOPS: 18.0, figures.PINSTRIPES: 34.0, figures.CHECK: 14.0, figures.DOTS: 24.0}
_ASIDE, _UP = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def _step(start: Point, direction: Point, length: float) -> Point:
    x, y, z = (a + length * d for a, d in zip(start, direction, strict=True))
    return x, y, z


class _Pose(NamedTuple):
    """Angles in radians, of the left limb and of the right one."""

    legs: tuple[float, float]
    knees: tuple[float, float]
    arms: tuple[float, float]
    elbows: tuple[float, float]
    out: tuple[float, float]
    lean: float

    @property
    def stride(self) -> float:
        """Sine of the angle of the leg that is farther from the vertical."""
        return max(abs(math.sin(leg)) for leg in self.legs)

    @classmethod
    def draw(cls, rng: Rng) -> _Pose:
        if rng.bernoulli(0.45):
            swing = rng.uniform(0.24, 0.46) * rng.choice((-1.0, 1.0))
            bent = rng.uniform(0.35, 0.7)
            knees = (bent, 0.12) if swing < 0.0 else (0.12, bent)
            arms = (-0.9 * swing, 0.9 * swing)
            return cls((swing, -0.85 * swing), knees, arms, (0.35, 0.35), (0.1, 0.1), 0.03)
        shift = rng.uniform(0.0, 0.1)
        arms, elbows, out = (
            (rng.uniform(low, high), rng.uniform(low, high))
            for low, high in ((-0.06, 0.1), (0.1, 0.3), (0.1, 0.24))
        )
        return cls((shift, -0.5 * shift), (0.5 * shift, 0.02), arms, elbows, out, 0.0)


class _Body:
    """A figure that is being built: x to its left, y up, z to where it looks, in units of its height."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self._parts: list[list[float]] = []
        self._materials: list[list[float]] = []
        self.tall = rng.uniform(1.56, 1.9)
        self.woman = rng.bernoulli(0.5)
        self.build = rng.uniform(0.9, 1.08) if rng.bernoulli(0.7) else rng.uniform(1.08, 1.26)
        self.pose = _Pose.draw(rng)
        skin, hair = choose_varied(rng, _SKINS, 0.06), choose_varied(rng, _HAIRS)
        self.skin = self.material(figures.SKIN, skin, gloss=0.05)
        self.face = self.material(figures.FACE, skin, hair, gloss=0.06)
        red, green, blue = tint(hair, 1.7, 1.6, 1.5)
        bright = (min(1.0, red), min(1.0, green), min(1.0, blue))
        self.hair = self.material(figures.HAIR, hair, bright, gloss=0.12)
        self.shirt = self.garment(_SHIRTS, 0.5, _PATTERNS, rng.uniform(0.25, 0.5))
        if rng.bernoulli(0.4):
            jeans = choose_varied(rng, "2c4263 1e2c47 5a7595 33363d")
            self.trousers = self.material(figures.DENIM, jeans, tint(jeans, 1.9, 1.8, 1.6), folds=0.3)
        else:
            self.trousers = self.garment(_TROUSERS, 0.85, (figures.PINSTRIPES, figures.CHECK), 0.3)
        leather = choose_varied(rng, _LEATHER + " e6e3dc 7a1f22 2b3040 8a6a48")
        self.shoe = self.material(figures.PLAIN, leather, gloss=0.25)
        self.skirt = self.woman and rng.bernoulli(0.5)
        self.dress = self.skirt and rng.bernoulli(0.5)
        self.coat = rng.bernoulli(0.42)
        self.long_coat = self.coat and rng.bernoulli(0.55)
        self.long_sleeves = self.coat or rng.bernoulli(0.55)
        self.top = self.shirt
        if self.coat:
            outer = choose_varied(rng, _TROUSERS if rng.bernoulli(0.6) else _SHIRTS)
            under = choose_varied(rng, "e9e7e1 cfd8de 2a2c30 b9c7d6 d9c7a8 8f2f2f")
            cells = rng.choice((0.0, 0.05, 0.075))
            self.top = self.material(figures.SHIRT_FRONT, outer, under, cells=cells, folds=0.35)
        self.shoulder = (0.08 if self.woman else 0.095) * (0.6 + 0.4 * self.build)

    def material(
        self,
        pattern: int,
        first: Colour,
        second: Colour | None = None,
        *,
        cells: float = 20.0,
        folds: float = 0.0,
        gloss: float = 0.0,
    ) -> int:
        """Add a material and return its number. The arguments are what ``kernels.figures`` reads."""
        colours, seed = (*first, *(second or first)), self.rng.integer(100_000)
        self._materials.append([pattern, *colours, cells, folds, gloss, seed])
        return len(self._materials) - 1

    def garment(self, palette: str, plain: float, patterns: tuple[int, ...], folds: float) -> int:
        """Cloth in two of the colours, plain with probability ``plain``, otherwise in one of the patterns."""
        rng = self.rng
        first, second = choose_varied(rng, palette), choose_varied(rng, palette)
        pattern = figures.PLAIN if rng.bernoulli(plain) else rng.choice(patterns)
        cells = _CELLS.get(pattern, 20.0) * rng.uniform(0.7, 1.3)
        return self.material(pattern, first, second, cells=cells, folds=folds)

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
        """A part from ``a`` to ``b`` (``blend`` is in metres), ``flat`` times thinner along ``across``.

        ``cut`` is the number of ends that are flat instead of round: the second one, or both.
        """
        ends = [self.tall * v for v in (*a, *b, ra, rb)]
        self._parts.append([*ends, *across, flat, material, blend, float(cut)])

    def figure(self, head: npt.NDArray[Any]) -> figures.Figure:
        """What the kernels read: parts of one material together."""
        parts = np.array(sorted(self._parts, key=lambda row: row[12]))
        return figures.Figure(parts, np.array(self._materials), head)

    def add_legs(self) -> None:
        rng, build, trousers, shoe = self.rng, self.build, self.trousers, self.shoe
        hip_wide = 0.05 if self.woman else 0.046
        extra = 0.0 if self.skirt else 0.006
        bare = self.skirt and rng.bernoulli(0.6)
        tights = self.material(figures.PLAIN, choose(rng, "1a1a1c 3a2a2a c9a184"), gloss=0.03)
        surface = self.skin if bare else (tights if self.skirt else trousers)
        for side, a, bend in zip((1.0, -1.0), self.pose.legs, self.pose.knees, strict=True):
            hip = (side * hip_wide, 0.505, 0.0)
            shin = (0.009 * side, -math.cos(a - bend), math.sin(a - bend))
            knee = _step(hip, (0.03 * side, -math.cos(a), math.sin(a)), 0.235)
            ankle = _step(knee, shin, 0.225)
            thigh, calf = (0.05 + extra) * build, (0.035 + extra) * (0.5 + 0.5 * build)
            self.part(hip, knee, thigh, calf, surface, blend=0.03)
            if surface == trousers:
                self.part(knee, _step(knee, shin, 0.218), calf, rng.uniform(0.026, 0.034), trousers, cut=1)
            else:
                middle = _step(knee, (0.0, shin[1], shin[2] - 0.03), 0.07)
                self.part(knee, middle, 0.031 * build, 0.033 * build, surface)
                self.part(middle, ankle, 0.033 * build, 0.019, surface)
                self.part(ankle, _step(ankle, (0.0, -1.0, 0.3), 0.02), 0.02, 0.02, surface)
            # The foot lies flat before the body and rolls over the toes behind it.
            roll = max(-0.25, min(0.75, 0.9 * (bend - a)))
            heel = (ankle[0], ankle[1] - 0.016, ankle[2] - 0.006)
            toe = _step(heel, (0.12 * side, -math.sin(roll) - 0.06, math.cos(roll)), 0.088)
            ball = _step(heel, (0.1 * side, -math.sin(roll), math.cos(roll)), 0.055)
            self.part(heel, toe, 0.025, 0.019, shoe, blend=0.015, flat=1.15, across=_UP)
            self.part(ball, toe, 0.023, 0.018, shoe, blend=0.012, flat=1.2, across=_UP)
            if not self.skirt or rng.bernoulli(0.3):
                self.part(ankle, heel, 0.024, 0.026, shoe, blend=0.012)

    def add_trunk(self) -> None:
        """Hips to neck, with skirt, coat and belt."""
        rng, build, lean, top, part = self.rng, self.build, self.pose.lean, self.top, self.part
        lower = self.shirt if self.dress else self.trousers
        if self.skirt and not self.dress:
            lower = self.garment(_SHIRTS, 0.5, _PATTERNS, 0.4)
        waist = (0.064 if self.woman else 0.07) * build
        chest = (0.078 if self.woman else 0.086) * (0.5 + 0.5 * build)
        hips = (0.082 if self.woman else 0.076) * build
        stride = self.pose.stride
        part((0, 0.5, 0), (0, 0.575, 0), hips, 0.95 * waist + 0.008, lower, blend=0.04, flat=1.25)
        if self.skirt:
            hem = rng.uniform(0.29, 0.4)
            girth = 0.104 * build
            widest = girth + 0.08 * stride + rng.uniform(0.0, 0.035)
            part((0, 0.585, 0), (0, 0.5, 0), hips * 0.9, girth, lower, blend=0.03, flat=1.22)
            loose = max(1.0, 1.22 - 0.5 * stride)
            part((0, 0.5, 0), (0, hem, 0), girth, widest, lower, blend=0.03, flat=loose, cut=1)
        start, over = (0.525, 0.011) if self.coat else (0.565, 0.002)
        cut = 0 if self.dress else 2
        part((0, start, 0), (0, 0.63, 0), hips + over, waist + 0.004, top, blend=0.04, flat=1.24, cut=cut)
        part((0, 0.63, 0), (0, 0.735, lean), waist + 0.004, chest, top, blend=0.05, flat=1.32)
        part((0, 0.735, lean), (0, 0.765, lean), chest, 0.06, top, blend=0.04, flat=1.3)
        for out in (-1.0, 1.0):
            joint = (self.shoulder * out, 0.782, lean)
            part((0.02 * out, 0.808, lean - 0.006), joint, 0.034, 0.034, top, blend=0.035)
        part((0, 0.79, lean - 0.005), (0, 0.833, lean - 0.003), 0.048, 0.034, top, blend=0.03, cut=1)
        if build > 1.1:
            part((0, 0.6, 0.022), (0, 0.63, 0.022), 0.065 * build, 0.06 * build, top, blend=0.06)
        if self.woman:
            for x in (-0.034, 0.034):
                part((x, 0.725, lean + 0.032), (x, 0.72, lean + 0.036), 0.036, 0.034, top, blend=0.05)
        if self.long_coat:
            open_out = 0.05 * stride
            girth = 0.108 * build + 0.008
            hem, widest, loose = rng.uniform(0.27, 0.4), girth + 0.012 + open_out, 1.22 - 3.0 * open_out
            part((0, 0.6, 0), (0, 0.505, 0), hips + 0.004, girth, top, blend=0.04, flat=1.22)
            part((0, 0.505, 0), (0, hem, 0), girth, widest, top, blend=0.03, flat=loose, cut=1)
        if not self.dress and not self.coat and rng.bernoulli(0.5):
            belt = self.material(figures.PLAIN, choose(rng, _LEATHER), gloss=0.15)
            part((0, 0.56, 0), (0, 0.578, 0), hips + 0.003, hips + 0.002, belt, flat=1.27, cut=2)

    def add_arms(self, carries: int) -> list[Point]:
        """Arms, hands and perhaps a telephone; returns where the hands hold things."""
        rng, build, lean, top, skin, part = (
            self.rng, self.build, self.pose.lean, self.top, self.skin, self.part,
        )  # fmt: skip
        hands: list[Point] = []
        gestures = [rng.integer(6), rng.integer(6)]
        thick, sleeve = 0.5 + 0.5 * build, 0.006 if self.coat else 0.003
        for number, out in enumerate((1.0, -1.0)):
            swing, bend, twist = self.pose.arms[number], self.pose.elbows[number], 0.0
            away = self.pose.out[number] + 0.06 * (build - 1.0)
            if gestures[number] == 0 and self.pose.legs[0] < 0.15:  # hand on the hip
                swing, away, bend, twist = -0.35, 0.75, 1.5, -1.15
            elif gestures[number] == 1 and carries != number + 1:  # forearm raised: a telephone, a gesture
                swing, away, bend, twist = 0.25, 0.15, rng.uniform(1.5, 2.2), -0.35
            joint = (out * (self.shoulder + 0.01), 0.778, lean)
            arm = (out * math.sin(away), -math.cos(away) * math.cos(swing), math.cos(away) * math.sin(swing))
            elbow = _step(joint, arm, 0.168)
            turn = swing + bend
            aside = out * math.sin(away * 0.5 + twist if twist else 0.4 * away)
            rest = math.sqrt(1.0 - aside**2)
            fore = (aside, -rest * math.cos(turn), rest * math.sin(turn))
            if twist < -1.0:
                fore = (-out * 0.82, -0.5, 0.28)
            wrist, cuff, low = _step(elbow, fore, 0.146), _step(elbow, fore, 0.14), _step(elbow, fore, 0.05)
            if self.long_sleeves:
                part(joint, elbow, (0.033 + sleeve) * thick, (0.026 + sleeve) * thick, top, blend=0.03)
                part(elbow, cuff, (0.026 + sleeve) * thick, 0.019 + sleeve, top, blend=0.012, cut=1)
            else:
                half, radius = _step(joint, arm, rng.uniform(0.075, 0.11)), (0.034 + sleeve) * thick
                part(joint, half, radius, (0.033 + sleeve) * thick, top, blend=0.03, cut=1)
                part(joint, elbow, 0.031 * thick, 0.024 * thick, skin)
                part(elbow, low, 0.024 * thick, 0.025 * thick, skin, blend=0.012)
                part(low, wrist, 0.025 * thick, 0.016, skin, blend=0.012)
            palm = _step(wrist, fore, 0.045)
            thin = (out, 0.0, 0.0) if abs(fore[0]) < 0.5 else (0.0, 0.0, 1.0)
            part(wrist, palm, 0.0155, 0.021, skin, blend=0.012, flat=1.8, across=thin)
            curl = (fore[0] - 0.15 * out, fore[1], fore[2] + 0.3)
            part(palm, _step(palm, curl, 0.036), 0.019, 0.012, skin, blend=0.01, flat=1.7, across=thin)
            thumb = _step(wrist, fore, 0.018)
            tip = (thumb[0] - 0.006 * out, thumb[1] - 0.024, thumb[2] + 0.024)
            part(thumb, tip, 0.0085, 0.007, skin, blend=0.008)
            hands.append(_step(palm, fore, 0.012))
            if gestures[number] == 1 and bend > 1.4 and rng.bernoulli(0.5):
                phone = self.material(figures.PLAIN, choose(rng, "101216 e8e8ea b01830"), gloss=0.3)
                low = _step(palm, fore, 0.02)
                high = (low[0], low[1] + 0.06, low[2])
                part(low, high, 0.019, 0.019, phone, flat=3.5, across=(0.0, 0.2, 0.98))
        return hands

    def add_load(self, carries: int, hands: list[Point]) -> None:
        """A bag in a hand (1, 2), a rucksack (3), a bag at the hip (4) or nothing."""
        rng, build, lean, part = self.rng, self.build, self.pose.lean, self.part
        colour = choose_varied(rng, CLOTHS + " 1a1614 e6e3dc")
        bag = self.material(figures.PLAIN, colour, folds=0.06, gloss=0.12)
        strap = self.material(figures.PLAIN, choose_varied(rng, _LEATHER + " 5a5048"), gloss=0.05)
        x, y, z = hands[0] if carries != 2 else hands[1]
        if carries in (1, 2) and y < 0.55:
            big = rng.uniform(0.8, 1.3)
            top = y - 0.055 * big
            for dz in (-0.03, 0.03):
                part((x, y - 0.005, z + 0.2 * dz), (x, top, z + dz), 0.0035, 0.0035, strap)
            bottom = (x + (0.004 if carries == 1 else -0.004), top - 0.1 * big, z)
            wide = 0.048 * big, 0.06 * big
            part((x, top - 0.015, z), bottom, *wide, bag, flat=2.6, across=_ASIDE, cut=1)
        elif carries == 3:
            back = -0.15 * build
            part((0, 0.64, -0.105 * build), (0, 0.76, -0.1 * build), 0.062, 0.055, bag, flat=1.25, blend=0.03)
            part((0, 0.63, back), (0, 0.66, back), 0.035, 0.03, bag)
            for x in (-0.058, 0.058):
                high, low = (x, 0.825, lean), (1.08 * x, 0.775, lean + 0.057)
                part((x, 0.79, -0.05), high, 0.009, 0.009, strap, blend=0.01)
                part(high, low, 0.009, 0.009, strap, blend=0.01)
                part(low, (1.3 * x, 0.69, lean + 0.056), 0.009, 0.008, strap, blend=0.01)
        elif carries == 4:  # its strap lies across the chest
            x = 0.105 * build
            part((x, 0.5, -0.02), (x, 0.56, -0.02), 0.052, 0.05, bag, flat=1.9, across=(0.9, 0.0, 0.43))
            shoulder, hip = ((-0.055, 0.826, 0.01), (-0.045, 0.78, 0.054)), (0.09, 0.57, 0.02)
            for start, end in pairwise((*shoulder, (0, 0.71, 0.08), (0.055, 0.63, 0.064), hip)):
                part(start, end, 0.008, 0.008, strap, blend=0.01)

    def add_head(self) -> npt.NDArray[Any]:
        """Neck, head and hair; returns the head as ``kernels.figures.Figure`` describes it."""
        rng, woman, face, hair = self.rng, self.woman, self.face, self.hair
        unit = 1.0 / rng.uniform(7.1, 7.6)
        chin: Point = (0.0, 0.99 - unit, self.pose.lean + 0.008)
        nod, turn = rng.uniform(-0.1, 0.12), rng.uniform(-0.35, 0.35)
        front: Point = (math.sin(turn) * math.cos(nod), -math.sin(nod), math.cos(turn) * math.cos(nod))
        left: Point = (math.cos(turn), 0.0, -math.sin(turn))
        up: Point = (math.sin(turn) * math.sin(nod), math.cos(nod), math.cos(turn) * math.sin(nod))

        def at(a: float, c: float, f: float) -> Point:
            return _step(_step(_step(chin, left, a * unit), up, c * unit), front, f * unit)

        def lump(
            a: Point, b: Point, ra: float, rb: float, material: int, blend: float = 0.02, flat: float = 1.0
        ) -> None:
            self.part(at(*a), at(*b), ra * unit, rb * unit, material, blend=blend, flat=flat, across=left)

        jaw, low, high = (0.15, 0.036, 0.029) if woman else (0.18, 0.041, 0.034)
        self.part((0, 0.8, self.pose.lean - 0.004), at(0, 0.22, -0.08), low, high, self.skin)
        lump((0, 0.63, -0.1), (0, 0.63, 0.03), 0.36, 0.335, face, 0.03, 1.12)
        lump((0, 0.48, 0.06), (0, 0.17, 0.12), 0.285, jaw, face, 0.04, 1.04)
        lump((0, 0.52, 0.33), (0, 0.37, 0.405), 0.03, 0.047, face, 0.012)
        for x in (-1.0, 1.0):
            lump((0.06 * x, 0.56, 0.3), (0.2 * x, 0.555, 0.24), 0.05, 0.045, face)  # brow ridge
            lump((0.325 * x, 0.42, -0.05), (0.335 * x, 0.52, -0.06), 0.045, 0.06, face, 0.006, 2.0)
        cut = rng.integer(6) if woman else rng.choice((0, 0, 0, 5, 6, 6, 7, 3))
        if cut != 7:
            lump((0, 0.755, -0.13), (0, 0.765, 0.04), 0.345, 0.29, hair, 0.03, 1.02)
            lump((0, 0.52, -0.2), (0, 0.68, -0.16), 0.27, 0.33, hair, 0.03)
            for x in (-1.0, 1.0):
                lump((0.27 * x, 0.56, -0.08), (0.255 * x, 0.72, 0.06), 0.075, 0.12, hair, 0.03)
        else:  # a bald head keeps a rim
            lump((0, 0.42, -0.21), (0, 0.5, -0.2), 0.24, 0.26, hair)
        if cut in (1, 2):  # long
            drop = rng.uniform(-0.55, -0.1)
            for x in (-1.0, 1.0):
                lump((0.28 * x, 0.68, -0.04), (0.33 * x, drop, 0), 0.12, 0.1, hair, 0.04)
            lump((0, 0.6, -0.25), (0, drop - 0.1, -0.3), 0.28, 0.2, hair, 0.05)
        elif cut == 3:  # to the chin, or a full head of curls
            for x in (-1.0, 1.0):
                lump((0.29 * x, 0.66, -0.06), (0.31 * x, 0.2, -0.03), 0.14, 0.12, hair, 0.04)
            lump((0, 0.6, -0.22), (0, 0.22, -0.24), 0.3, 0.25, hair, 0.04)
        elif cut == 4:  # a knot at the back
            lump((0, 0.86, -0.44), (0, 0.88, -0.46), 0.16, 0.15, hair)
        elif cut == 5 and woman:  # a tail
            lump((0, 0.78, -0.45), (0, 0.7, -0.55), 0.1, 0.12, hair)
            lump((0, 0.7, -0.55), (0, 0.05, -0.55), 0.12, 0.06, hair)
        elif cut == 6:  # a quiff
            lump((-0.14, 0.95, 0.12), (0.14, 0.98, 0.1), 0.13, 0.12, hair, 0.04)
        if rng.bernoulli(0.12):
            hat = self.garment(_SHIRTS, 0.7, (figures.KNIT, figures.HOOPS), 0.1)
            lump((0, 0.8, -0.12), (0, 0.82, 0.02), 0.37, 0.34, hat, 0.03)
            if rng.bernoulli(0.6):
                lump((-0.1, 0.78, 0.3), (0.1, 0.78, 0.3), 0.2, 0.2, hat)
        if woman:
            beard = 0.0
        else:
            beard = rng.uniform(0.5, 1.0) if rng.bernoulli(0.4) else rng.uniform(0.0, 0.25)
        glasses = rng.choice((0.0, 0.0, 0.0, 1.0, 0.0, 2.0)) if rng.bernoulli(0.8) else 0.0
        lips = rng.uniform(0.3, 1.0) if woman else 0.0
        scaled = [v * self.tall for v in (*chin, unit)]
        return np.array([*scaled, *left, *up, *front, lips, beard, glasses])


def build_figure(rng: Rng) -> tuple[figures.Figure, float]:
    """A figure, and how far it is turned from the viewer in radians."""
    body = _Body(rng)
    body.add_legs()
    body.add_trunk()
    carries = rng.integer(6)
    body.add_load(carries, body.add_arms(carries))
    figure = body.figure(body.add_head())
    yaw = rng.choice((0.0, 0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.9, 0.25, -0.25)) + rng.uniform(-0.2, 0.2)
    return figure, yaw

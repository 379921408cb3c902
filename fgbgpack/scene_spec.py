"""The options of scenes: what samples hold beyond one foreground of one height, pasted whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

Placement: TypeAlias = Literal["inside", "floor", "anchored", "auto"]
Blend: TypeAlias = Literal["soft", "hard", "feather"]

#: Where foregrounds go, and what becomes of their edges.
PLACEMENT_NAMES: tuple[Placement, ...] = get_args(Placement)
BLENDS: tuple[Blend, ...] = get_args(Blend)

#: The most objects of a sample.
MOST_OBJECTS = 16

#: The largest angle that objects may be turned by, in degrees.
LARGEST_ROTATION = 45

_NUMBERS = re.compile(r"([0-9]{1,4})(%?)(?:-([0-9]{1,4})(%?))?")
_SMALLEST = 1

#: By the names of presets: the fields of a spec that they set.
PRESETS: dict[str, dict[str, Any]] = {
    "reference": {},
    "scenes": {
        "objects": "1-3",
        "foreground_height": "20%-86%",
        "placement": "anchored",
        "overlap": 0.3,
    },
}


@dataclass(frozen=True)
class SceneOptions:
    """The fields of a spec that say whether samples are scenes, and of which kind.

    Attributes:
        samples: The number of samples of random pairs; ``None`` pastes every foreground on every background.
        objects: Objects of a sample: a number, or ``"LOW-HIGH"``, 1 to 16.
        empty: The share of samples without any object, 0 to 1.
        foreground_height: Height of the foregrounds in pixels, or ``"LOW-HIGH"`` in pixels or percent of the
            sample's height, each height as likely as another on a scale of ratios.
        truncate: The largest share of an object's height and width that may lie outside the picture.
        overlap: The least share of each object that is to be visible; those with less are drawn again.
        placement: Where objects go.
        rotation: The largest angle that an object is turned by, to either side, in degrees.
        blend: What becomes of edges: one of ``BLENDS``, or several, separated by commas.
        light_match: Whether the brightness of an object is brought near that of its surroundings.
        shadow: Whether whole objects darken the ground below them.
        occlude: Whether things in backgrounds hide those who stand behind them.
        classes: Whether subfolders of the foregrounds are categories.
        height: Height of every sample in pixels, which percentages are of.
    """

    samples: int | None
    objects: int | str
    empty: float
    foreground_height: int | str
    truncate: float
    overlap: float
    placement: Placement
    rotation: float
    blend: str
    light_match: bool
    shadow: bool
    occlude: bool
    classes: bool
    height: int

    @property
    def is_scene(self) -> bool:
        """Whether samples are more than one whole foreground of one height, inside the picture."""
        return (
            self.samples is not None
            or self.object_range != (1, 1)
            or self.height_range[0] != self.height_range[1]
            or self.placement != "inside"
            or self.blends != ("soft",)
            or self.empty > 0
            or self.truncate > 0
            or self.overlap > 0
            or self.rotation > 0
            or self.light_match
            or self.shadow
            or self.classes
        )

    @property
    def has_floor(self) -> bool:
        """Whether whole foregrounds stand on the floors of backgrounds."""
        return self.placement in ("floor", "auto")

    @property
    def object_range(self) -> tuple[int, int]:
        """The least and the greatest number of objects of a sample that is not empty."""
        low, high, _ = _range(self.objects) or (1, 1, False)
        return low, high

    @property
    def height_range(self) -> tuple[int, int]:
        """The least and the greatest height of a foreground in pixels."""
        low, high, is_share = _range(self.foreground_height) or (1, 1, False)
        if is_share:
            # Half a percent of a pixel more or less is no matter; that all machines say the same is.
            return max(_SMALLEST, (low * self.height + 50) // 100), (high * self.height + 50) // 100
        return low, high

    @property
    def blends(self) -> tuple[Blend, ...]:
        """The blends, in the order of ``BLENDS``."""
        named = self.blend.split(",")
        return tuple(name for name in BLENDS if name in named)

    @property
    def problems(self) -> Iterator[str]:
        """What no schema can say: a line for each range that cannot be, and for options of no use."""
        for name, value in (("objects", self.objects), ("foreground_height", self.foreground_height)):
            found = _range(value)
            if found is None:
                yield f"{name}: found {value!r}, expected a number, or a range such as {_EXAMPLES[name]}"
                continue
            low, high, is_share = found
            if name == "objects" and is_share:
                yield f"{name}: found {value!r}, expected numbers without %"
            elif low > high:
                yield f"{name}: {low} to {high} is the wrong way round, expected the smaller number first"
            elif low < _SMALLEST:
                yield f"{name}: found {low}, expected at least {_SMALLEST}"
            elif name == "objects" and high > MOST_OBJECTS:
                yield f"{name}: {high} is more than the most objects of a sample, {MOST_OBJECTS}"
        if _range(self.foreground_height) is not None:
            low, high = self.height_range
            if self.has_floor and low == high:
                yield (
                    f"placement: {self.placement} takes heights from the floor: give foreground_height as a "
                    f"range, such as {_EXAMPLES['foreground_height']}"
                )
            if low <= high and high > self.height:
                yield f"foreground_height: {high} is more than the samples' height, {self.height}"
        if self.occlude and not self.has_floor:
            yield (
                "occlude: it hides what stands on the floor: give placement floor or auto, found "
                f"{self.placement}"
            )
        unknown = [name for name in self.blend.split(",") if name not in BLENDS]
        if unknown:
            yield f"blend: there is no {unknown[0]!r}, expected some of {', '.join(BLENDS)}"


_EXAMPLES = {"objects": "1-3", "foreground_height": "26-110 or 20%-86%"}


def _range(value: int | str) -> tuple[int, int, bool] | None:
    """The ends of a range, and whether they are percentages; ``None`` where it is none."""
    if isinstance(value, int):
        return value, value, False
    match = _NUMBERS.fullmatch(value)
    if match is None or (match[3] is not None and match[2] != match[4]):
        return None
    return int(match[1]), int(match[3] or match[1]), bool(match[2])

"""How good a cut-out looks, by its alpha and the photograph alone: numbers, and flags of what is odd."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fgbgpack.cutout.kernels import count_weak, label
from fgbgpack.cutout.matte import SOLID, Part, agreement, box_of
from fgbgpack.sources.cuts import SIDES

#: The flag of a photograph in which nothing was found.
NOTHING = "nothing"

#: Alpha between these is neither foreground nor background.
_UNSURE = (32, 223)
#: Alpha changes over so many pixels at a clean edge, at the size at which networks see a photograph, or less.
_EDGE_WIDTH, _SEEN = 2.0, 1024
#: The outline is looked at so many pixels to each side, and so much difference in one channel is an edge.
_REACH, _EDGE = 3, 12


@dataclass(frozen=True)
class Quality:
    """The numbers of one cut-out.

    Attributes:
        height: Of its box, in pixels of the photograph.
        area: The share of the photograph that is solid foreground.
        confidence: 1 less the share of its pixels whose alpha is between 32 and 223 of 255, beyond those that
            a clean edge has.
        holes: The share of holes in it, of the area within its outer outline.
        leaks: The share of its outline where the photograph shows no edge.
        border: The share of the photograph's four borders that it covers, relative to its own box's.
        sides: The sides of the photograph at which it is cut, in words; ``"none"`` for none.
        pieces: How many parts it has that do not touch.
        specks: The share of foreground that was dropped as specks.
        others: How many more parts of the photograph could be a foreground each.
        agreement: How much of what it or the second network finds both do; ``None`` without one.
    """

    height: int
    area: float
    confidence: float
    holes: float
    leaks: float
    border: float
    sides: str
    pieces: int
    specks: float
    others: int
    agreement: float | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """What is suspicious of it, in the words of the documentation."""
        is_alone = self.agreement is None
        found = {
            "disputed": self.agreement is not None and self.agreement < _LEAST_AGREEMENT,
            "unsure": self.confidence < (_LEAST_CONFIDENCE if is_alone else _LEAST_IF_CONFIRMED),
            "holes": self.holes > _MOST_HOLES,
            "leaks": is_alone and self.leaks > _MOST_LEAKS,
            "border": self.border > _MOST_BORDER,
            "tiny": self.area < _LEAST_AREA or self.height < _LEAST_HEIGHT,
            "fragmented": self.pieces > _MOST_PIECES or self.specks > _MOST_SPECKS,
            "several": self.others > 0,
        }
        return tuple(flag for flag, is_so in found.items() if is_so)


#: Beyond these a cut-out is flagged. They were set on photographs of people with known masks: docs/cutout.md
#: says what they find there.
_LEAST_CONFIDENCE = 0.97
#: A second network tells more than these signs: so there is another limit where there is one, and no leaks.
_LEAST_AGREEMENT, _LEAST_IF_CONFIRMED = 0.8, 0.9
_MOST_HOLES = 0.1
_MOST_LEAKS = 0.12
_MOST_BORDER = 0.35
_LEAST_AREA, _LEAST_HEIGHT = 0.01, 64
_MOST_PIECES, _MOST_SPECKS = 3, 0.05

#: The names of the numbers, in the order of the table.
NUMBERS = tuple(field.name for field in fields(Quality))


def measure(
    rgb: NDArray[np.uint8], part: Part, *, is_split: bool, second: NDArray[np.uint8] | None = None
) -> Quality:
    """The numbers of a cut-out of a photograph ``(h, w, 3)`` uint8; ``is_split`` where each large part of it
    is one of its own. ``second`` is what a second network finds, ``(h, w)`` uint8, of that part if so.
    """
    alpha = part.alpha
    solid = (alpha > SOLID).astype(np.uint8)
    shown = alpha > _UNSURE[0]
    area = int(solid.sum())
    left, top, right, bottom = box_of(solid)
    inside = np.pad(solid[top:bottom, left:right], 1)
    places, weak = count_weak(rgb, solid, _REACH, _EDGE)
    holes = _hole_pixels(inside)
    unsure = np.count_nonzero(shown & (alpha <= _UNSURE[1]))
    width = _EDGE_WIDTH * max(1.0, max(alpha.shape) / _SEEN)
    lines = {"top": solid[0], "left": solid[:, 0], "bottom": solid[-1], "right": solid[:, -1]}
    extents = {"top": right - left, "bottom": right - left, "left": bottom - top, "right": bottom - top}
    contact = {side: int(line.sum()) for side, line in lines.items()}
    cut = [side for side in SIDES if contact[side] * 10 > extents[side]]
    return Quality(
        height=bottom - top,
        area=_rounded(area / solid.size),
        confidence=_rounded(1 - max(0.0, unsure - width * places) / np.count_nonzero(shown)),
        holes=_rounded(holes / (area + holes)),
        leaks=_rounded(weak / places if places else 1.0),
        border=_rounded(sum(contact.values()) / sum(extents.values())),
        sides=" ".join(cut) or "none",
        pieces=part.pieces,
        specks=_rounded(part.specks),
        others=0 if is_split else part.large - 1,
        agreement=None if second is None else _rounded(agreement(alpha, second)),
    )


def _hole_pixels(solid: NDArray[np.uint8]) -> int:
    """The pixels of holes in ``(h, w)``, whose outermost pixels are 0."""
    empty = 1 - solid
    labels = np.empty(solid.shape, np.int32)
    label(empty, False, np.empty(solid.size, np.int32), labels)
    return int(np.count_nonzero(empty) - np.count_nonzero(labels == labels[0, 0]))


def _rounded(share: float) -> float:
    return round(float(share), 4)

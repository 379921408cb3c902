"""What a page asks for: which samples, in which order, as the parameters of an address say it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fgbgpack.errors import SpecError
from fgbgpack.scene_spec import BLENDS

#: The most of what is named in one filter, and the most characters of a text.
_MOST_NAMED = 500
_MOST_TEXT = 200
_MOST_NUMBER = 2**31

#: What samples can be sorted by; ``spread`` is an even mixture, in which neighbours differ.
SORTS = (
    "number",
    "spread",
    "background",
    "foreground",
    "height",
    "visible",
    "objects",
    "depth_min",
    "depth_max",
)

Range = tuple[float, float]


@dataclass(frozen=True)
class Query:
    """Which samples of a dataset, and in which order. Of scenes, what is said of objects holds for one of
    them, as in ``Dataset.where``.

    Attributes:
        backgrounds: The numbers of backgrounds, one of which a sample has; empty for any.
        foregrounds: The same of foregrounds.
        categories: The same of categories.
        blends: The same of blends, by their place in ``BLENDS``.
        flip: Whether the object is mirrored; ``None`` for any.
        split: The name of a saved split and of one of its parts; the part is empty for samples in none.
        height: The least and the greatest height of the object, in pixels.
        visible: The least and the greatest share of the object that is seen.
        objects: The least and the greatest number of objects.
        depth_min: The least and the greatest of the samples' least depth.
        depth_max: The same of their greatest depth.
        region: Left, top, right and bottom, in pixels, of where the middle of the object is.
        text: Words, all of which are in the names of a sample, or of its pictures and their categories.
        sort: One of ``SORTS``.
        descending: Whether the greatest come first.
    """

    backgrounds: tuple[int, ...] = ()
    foregrounds: tuple[int, ...] = ()
    categories: tuple[int, ...] = ()
    blends: tuple[int, ...] = ()
    flip: bool | None = None
    split: tuple[str, str] | None = None
    height: Range | None = None
    visible: Range | None = None
    objects: Range | None = None
    depth_min: Range | None = None
    depth_max: Range | None = None
    region: tuple[float, float, float, float] | None = None
    text: tuple[str, ...] = ()
    sort: str = "number"
    descending: bool = False

    @property
    def is_all(self) -> bool:
        """Whether all samples are asked for."""
        return self == Query(sort=self.sort, descending=self.descending)

    @property
    def needs_order(self) -> bool:
        """Whether the order is one of values, which all have to be known."""
        return self.sort not in ("number", "spread")

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Query:
        """The query of the parameters of an address; others than its own are left alone.

        Raises:
            SpecError: Some are wrong; all are named together.
        """
        problems: list[str] = []

        def read(name: str, how: Callable[[str], Any], default: Any, expected: str) -> Any:
            text = parameters.get(name)
            if text is None:
                return default
            try:
                return how(text)
            except (ValueError, OverflowError):
                problems.append(f"{name}: found {text[:80]!r}, expected {expected}")
                return default

        numbers, span = "numbers from 0, separated by commas", "the least and the greatest, such as 20:60"
        split = read("split", _text, None, "the name of a split")
        part = read("part", _text_or_nothing, "", "the name of a part")
        found: dict[str, Any] = {
            **{
                field: read(name, _numbers, (), numbers)
                for name, field in (("bg", "backgrounds"), ("fg", "foregrounds"), ("cat", "categories"))
            },
            "blends": read("blend", _blends, (), f"some of {', '.join(BLENDS)}"),
            "flip": read("flip", _yes_or_no, None, "yes or no"),
            "split": None if split is None else (split, part),
            **{
                name: read(name, _range, None, span)
                for name in ("height", "visible", "objects", "depth_min", "depth_max")
            },
            "region": read("region", _region, None, "left, top, right and bottom in pixels"),
            "text": read("text", _words, (), f"at most {_MOST_TEXT} characters"),
            "sort": read("sort", _sort, "number", f"one of {', '.join(SORTS)}"),
            "descending": read("desc", _flag, False, "1 or 0"),
        }
        if problems:
            raise SpecError("This view cannot be shown:", problems, code="view-invalid")
        return cls(**found)


def whole(parameters: Mapping[str, str], name: str, least: int, most: int, default: int | None = None) -> int:
    """A whole number of the parameters of an address; SpecError where it is missing or out of range."""
    text = parameters.get(name)
    if text is None and default is not None:
        return default
    value = int(text) if text is not None and re.fullmatch(r"[0-9]{1,12}", text) else -1
    if not least <= value <= most:
        found = "nothing" if text is None else repr(text[:80])
        raise SpecError(f"{name}: found {found}, expected {least} to {most}.", code="view-invalid")
    return value


def choice(parameters: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    """One of a few words, the first of which is the default; SpecError where it is another."""
    value = parameters.get(name, known[0])
    if value not in known:
        raise SpecError(
            f"{name}: found {value[:80]!r}, expected one of {', '.join(known)}.", code="view-invalid"
        )
    return value


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(text)
    return text == "1"


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) > _MOST_NAMED or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise ValueError(text)
    return tuple(sorted({int(part) for part in parts}))


def _blends(text: str) -> tuple[int, ...]:
    names: list[Any] = text.split(",")
    return tuple(sorted({BLENDS.index(name) for name in names}))


def _number(text: str) -> float:
    if not re.fullmatch(r"-?[0-9]{0,12}\.?[0-9]{0,12}(e[+-]?[0-9]{1,2})?", text):
        raise ValueError(text)
    return float(text)


def _range(text: str) -> Range:
    low, colon, high = text.partition(":")
    if not colon:
        raise ValueError(text)
    ends = _number(low) if low else -math.inf, _number(high) if high else math.inf
    if ends[0] > ends[1]:
        raise ValueError(text)
    return ends


def _region(text: str) -> tuple[float, float, float, float]:
    left, top, right, bottom = map(_number, text.split(","))
    if not (-_MOST_NUMBER < left <= right < _MOST_NUMBER and -_MOST_NUMBER < top <= bottom < _MOST_NUMBER):
        raise ValueError(text)
    return left, top, right, bottom


def _text(text: str) -> str:
    if not 0 < len(text) <= 255:
        raise ValueError(text)
    return text


def _text_or_nothing(text: str) -> str:
    return text and _text(text)


def _words(text: str) -> tuple[str, ...]:
    if len(text) > _MOST_TEXT:
        raise ValueError(text)
    return tuple(text.lower().split())


def _sort(text: str) -> str:
    if text not in SORTS:
        raise ValueError(text)
    return text

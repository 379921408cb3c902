"""The options of ``fgbgpack create`` that only scenes need, and how their texts are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fgbgpack.cli import completion
from fgbgpack.cli.options import Panel
from fgbgpack.cli.parse import Parser
from fgbgpack.scene_spec import BLENDS, PRESETS

PRESET = Panel.SCENES.option(
    "--preset reference|scenes",
    "What options are by default; scenes: one to three objects of many sizes, those that are cut at the "
    "border, with several kinds of edges (default reference: one object of one height, anywhere inside).",
    completion.one_of(*PRESETS),
)
SAMPLES = Panel.SCENES.option(
    "--samples N",
    "Number of samples of random foregrounds, as many for each background (default: every foreground on "
    "every background, --placements times).",
)
OBJECTS = Panel.SCENES.option(
    "--objects N|LOW-HIGH", "How many objects a sample has, such as 1-3; 16 at most (default 1)."
)
EMPTY = Panel.SCENES.option("--empty SHARE", "The share of samples without any object, 0 to 1 (default 0).")
TRUNCATE = Panel.SCENES.option(
    "--truncate SHARE",
    "The largest share of an object's height and width that may be outside the picture, 0 to 0.9 (default "
    "0).",
)
OVERLAP = Panel.SCENES.option(
    "--overlap SHARE",
    "The least share of each object that is to be visible, 0 to 1: others are drawn again (default 0).",
)
ROTATION = Panel.SCENES.option(
    "--rotation DEGREES",
    "Turn each object by up to so many degrees to either side, 0 to 45 (default 0).",
)
BLEND = Panel.SCENES.option(
    "--blend NAME,...",
    f"What becomes of edges, one or several of {', '.join(BLENDS)} (default soft: as they are).",
    completion.one_of(*BLENDS),
)
LIGHT_MATCH = Panel.SCENES.option(
    "--light-match/--no-light-match",
    "Bring the light of objects near that of their surroundings (default: as they are).",
)
SHADOW = Panel.SCENES.option(
    "--shadow/--no-shadow", "Darken the ground at the feet of whole objects (default: no shadows)."
)
OCCLUDE = Panel.SCENES.option(
    "--occlude/--no-occlude",
    "Let things in backgrounds hide those who stand behind them, which needs depth in metres, such as that "
    "of --background-depth (default: objects are in front of everything).",
)

CLASSES = Panel.SCENES.option(
    "--classes/--no-classes",
    "Subfolders of the foregrounds are categories (default: their pictures are in no subfolders).",
)

_RANGE = re.compile(r"[0-9]{1,4}(%|%?-[0-9]{1,4}%?)")


def scene_fields(parser: Parser, **given: str | bool | None) -> dict[str, Any]:
    """The fields of a spec that these options are, by their names; ``None`` where one was not given."""
    found: dict[str, Any] = dict(given)
    found["samples"] = parser.integer("--samples", _text(given["samples"]))
    found["objects"] = number_or_range(parser, "--objects", _text(given["objects"]))
    for name in ("empty", "truncate", "overlap", "rotation"):
        found[name] = parser.number(f"--{name}", _text(given[name]))
    return found


def number_or_range(parser: Parser, option: str, text: str | None) -> int | str | None:
    """A whole number, or a range such as ``1-3`` or ``20%-86%``, which the spec checks."""
    if text is not None and _RANGE.fullmatch(text):
        return text
    return parser.integer(option, text)


def preset_fields(parser: Parser, name: str | None) -> Mapping[str, Any]:
    """The fields of a spec that a preset sets."""
    return PRESETS[parser.choice("--preset", name, tuple(PRESETS))]


def _text(value: str | bool | None) -> str | None:
    return value if isinstance(value, str) else None

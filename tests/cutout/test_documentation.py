"""The page on cut-outs says what the code does: its flags with their limits, and its networks."""

from __future__ import annotations

import re

from documents import table

from fgbgpack.cutout import quality
from fgbgpack.depth import registry


def test_flags_have_the_limits_that_are_documented():
    texts = {row[0].strip("`"): row[1] for row in table("docs/cutout.md", "flag")}
    numbers = {flag: [int(number) for number in re.findall(r"\d+", text)] for flag, text in texts.items()}
    assert numbers == {
        "nothing": [],
        "disputed": [round(100 * quality._LEAST_AGREEMENT)],
        "unsure": [
            round(100 * (1 - least)) for least in (quality._LEAST_CONFIDENCE, quality._LEAST_IF_CONFIRMED)
        ],
        "leaks": [round(100 * quality._MOST_LEAKS)],
        "holes": [round(100 * quality._MOST_HOLES)],
        "border": [round(100 * quality._MOST_BORDER)],
        "tiny": [round(100 * quality._LEAST_AREA), quality._LEAST_HEIGHT],
        "fragmented": [quality._MOST_PIECES, round(100 * quality._MOST_SPECKS)],
        "several": [],
    }


def test_networks_are_those_that_have_cards():
    rows = {row[0].split("`")[1]: row for row in table("docs/cutout.md", "name")}
    cards = {
        name: registry.our_card(name) for name in registry.names_of("cutout") if registry.find(name).is_ours
    }
    assert rows.keys() == cards.keys()
    for name, card in cards.items():
        _, _, _, size, licence = rows[name]
        assert (size, licence) == (f"{(card.size or 0) / 1e6:.0f} MB", card.licence)

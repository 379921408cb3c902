"""Descriptions of a dataset for people (``DATACARD.md``) and for machines (``croissant.json``)."""

from fgbgpack.cards.about import About
from fgbgpack.cards.datacard import exported_card
from fgbgpack.cards.files import Cards, cards_are_stale, stated_about, write_cards
from fgbgpack.cards.summary import summarize

__all__ = [
    "About",
    "Cards",
    "cards_are_stale",
    "exported_card",
    "stated_about",
    "summarize",
    "write_cards",
]

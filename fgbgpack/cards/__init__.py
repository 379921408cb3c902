"""Descriptions of a dataset for people (``DATACARD.md``) and for machines (``croissant.json``)."""

from fgbgpack.cards.about import About
from fgbgpack.cards.files import Cards, cards_are_stale, write_cards

__all__ = ["About", "Cards", "cards_are_stale", "write_cards"]

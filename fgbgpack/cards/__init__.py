"""What a dataset is, told to people (``DATACARD.md``) and to machines (``croissant.json``)."""

from fgbgpack.cards.about import About
from fgbgpack.cards.files import Cards, cards_are_stale, write_cards

__all__ = ["About", "Cards", "cards_are_stale", "write_cards"]

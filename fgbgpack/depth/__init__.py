"""Depth networks: their cards, the graphs compiled from them, and the session that runs those."""

from fgbgpack.depth.background import BackgroundDepth
from fgbgpack.depth.card import DepthModel, load_model
from fgbgpack.depth.graph import rounding_bound
from fgbgpack.depth.session import DepthSession, Device

__all__ = ["BackgroundDepth", "DepthModel", "DepthSession", "Device", "load_model", "rounding_bound"]

"""Depth networks: their cards, the graphs compiled from them, and the session that runs those."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgbgpack.depth.background import BackgroundDepth
    from fgbgpack.depth.card import DepthModel, load_model
    from fgbgpack.depth.graph import rounding_bound
    from fgbgpack.depth.session import DepthSession, Device

__all__ = ["BackgroundDepth", "DepthModel", "DepthSession", "Device", "load_model", "rounding_bound"]

_HOME = {
    "BackgroundDepth": "background",
    "DepthModel": "card",
    "DepthSession": "session",
    "Device": "session",
    "load_model": "card",
    "rounding_bound": "graph",
}


def __getattr__(name: str) -> object:
    """Import a name when it is first used: the registry alone starts without ONNX Runtime."""
    if name in _HOME:
        return getattr(importlib.import_module(f"fgbgpack.depth.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

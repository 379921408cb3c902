"""Depth networks: their cards, the graphs compiled from them, and the session that runs these."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgbgpack.depth.background import BackgroundDepth
    from fgbgpack.depth.card import Card
    from fgbgpack.depth.graph import rounding_bound
    from fgbgpack.depth.model import DepthModel, load_model
    from fgbgpack.depth.providers import Device, Execution
    from fgbgpack.depth.session import DepthSession

__all__ = [
    "BackgroundDepth",
    "Card",
    "DepthModel",
    "DepthSession",
    "Device",
    "Execution",
    "load_model",
    "rounding_bound",
]

_HOME = {
    "BackgroundDepth": "background",
    "Card": "card",
    "DepthModel": "model",
    "DepthSession": "session",
    "Device": "providers",
    "Execution": "providers",
    "load_model": "model",
    "rounding_bound": "graph",
}


def __getattr__(name: str) -> object:
    """Imports a name when it is first used: the registry alone starts without ONNX and ONNX Runtime."""
    if name in _HOME:
        return getattr(importlib.import_module(f"fgbgpack.depth.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

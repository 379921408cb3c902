"""Samples changed at random as they are read: crops, zoom, mirroring, colours, blur and noise.

- ``augment``: what is changed and how much, and the arrays of a batch changed so.
- ``kernels``: the arithmetic, exact on every machine.
"""

from __future__ import annotations

from fgbgpack.augment.augment import Augment

__all__ = ["Augment"]

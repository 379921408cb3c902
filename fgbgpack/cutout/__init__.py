"""Foregrounds cut out of photographs: alpha, colours without the old background, and how good they look."""

from fgbgpack.cutout.run import CutoutReport, cut_out

__all__ = ["CutoutReport", "cut_out"]

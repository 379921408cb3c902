"""What the attributes of ``/depth`` say."""

from __future__ import annotations

from typing import Any

from fgbgpack.document import DepthInfo, ImportedDepthInfo


def depth_attributes(depth: DepthInfo | None, largest_error: float | None) -> dict[str, Any]:
    """The attributes of ``/depth``: what its numbers mean and, once that is known, how they were rounded."""
    if depth is None:
        return {"quantity": None, "unit": None}
    meaning = {"quantity": depth.quantity, "unit": depth.unit}
    error = {"largest_error": largest_error, "largest_error_of": "max - min of all depth"}
    if isinstance(depth, ImportedDepthInfo):
        rounding = {"rule": "to the nearest float16", **error}
        return meaning if largest_error is None else {**meaning, "rounding": rounding}
    if depth.step is None:
        return meaning
    rule = "to the nearest multiple of step, then to the nearest float16"
    return {**meaning, "rounding": {"step": depth.step, "rule": rule, **error}}

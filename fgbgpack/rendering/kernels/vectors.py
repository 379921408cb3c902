"""Vectors in space, as tuples of three floats that kernels pass by value."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy.typing as npt

from fgbgpack.jit import kernel

Array: TypeAlias = npt.NDArray[Any]
Vector: TypeAlias = tuple[float, float, float]


@kernel
def vector(rows: Array, i: int, column: int) -> Vector:
    """Three columns of row ``i``."""
    return rows[i, column], rows[i, column + 1], rows[i, column + 2]


@kernel
def minus(a: Vector, b: Vector) -> Vector:
    """``a - b``."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@kernel
def scaled(a: Vector, factor: float) -> Vector:
    """``factor * a``."""
    return a[0] * factor, a[1] * factor, a[2] * factor


@kernel
def along(origin: Vector, direction: Vector, t: float) -> Vector:
    """``origin + t * direction``."""
    return origin[0] + t * direction[0], origin[1] + t * direction[1], origin[2] + t * direction[2]


@kernel
def dot(a: Vector, b: Vector) -> float:
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel
def cross(a: Vector, b: Vector) -> Vector:
    """Vector product."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@kernel
def turned(a: Vector, cosine: float, sine: float) -> Vector:
    """``a`` turned about the vertical axis."""
    return cosine * a[0] + sine * a[2], a[1], cosine * a[2] - sine * a[0]

"""The camera that rooms are seen through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels and the principal point in the middle of the picture.

    Attributes:
        position: x, y, z in metres; y is the height above the floor.
        yaw: Turn to the right in radians; 0 looks along z.
        pitch: Turn upwards in radians; negative looks down.
        focal: Focal length in pixels.
    """

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    focal: float


def camera_row(camera: Camera, height: int, width: int) -> npt.NDArray[Any]:
    """The camera of a picture as ``kernels.passes.camera_ray`` reads it: float64 (15,)."""
    cy, sy = math.cos(camera.yaw), math.sin(camera.yaw)
    cp, sp = math.cos(camera.pitch), math.sin(camera.pitch)
    step = 1.0 / camera.focal
    forward = (sy * cp, sp, cy * cp)
    right = (step * cy, 0.0, -step * sy)
    down = (step * sy * sp, -step * cp, step * cy * sp)
    pixel = math.sqrt(right[0] * right[0] + right[1] * right[1] + right[2] * right[2])
    return np.array([*camera.position, *forward, *right, *down, width / 2.0, height / 2.0, pixel])

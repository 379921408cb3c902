"""Rays of a camera from its angles alone."""

from __future__ import annotations

import math

import numpy as np

from fgbgpack.rendering import Camera


def naive_rays(camera: Camera, height: int, width: int) -> np.ndarray:
    """Directions (h, w, 3) through pixel centres, of length 1 along the optical axis, from angles alone."""
    columns = (np.arange(width) + 0.5 - width / 2) / camera.focal
    rows = (height / 2 - np.arange(height) - 0.5) / camera.focal
    right, up = np.meshgrid(columns, rows)
    # Pitch about the camera's x axis, then yaw about the vertical.
    y = up * math.cos(camera.pitch) + math.sin(camera.pitch)
    forward = math.cos(camera.pitch) - up * math.sin(camera.pitch)
    x = right * math.cos(camera.yaw) + forward * math.sin(camera.yaw)
    z = forward * math.cos(camera.yaw) - right * math.sin(camera.yaw)
    return np.stack([x, y, z], axis=-1)

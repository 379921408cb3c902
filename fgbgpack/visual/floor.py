"""Rendered rooms with a rendered figure on the floor of each, whose depth is known everywhere."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import Compositor
from fgbgpack.composition.placement import Placements
from fgbgpack.rendering import Scene, render_figure
from fgbgpack.rendering.camera import Camera

#: How tall people are, in metres.
_TALL = 1.7

#: How tall a figure shall be in the picture, as parts of its height: one near, one farther away.
_WANTED = (0.7, 0.4)

#: What is seen where a figure stands is floor if its depth is the floor's, give or take so much.
_FLOOR_OFF = 0.03

#: A figure is pasted before everything, so nothing may be nearer than it by more than this.
_IN_FRONT = 0.05

#: How wide a figure is at most, as a part of its height: what has to be free around it.
_WIDE = 0.5

#: Places for feet are looked for at every so many pixels.
_GRID = 4


@dataclass(frozen=True)
class Standing:
    """Pictures of h x w pixels with one figure each.

    A figure is a flat cut-out that faces the camera, so all of it is as far as the floor under its feet.

    Attributes:
        image: ``(n, h, w, 3)``, uint8.
        mask: ``(n, h, w)``, uint8: the figure's alpha.
        room: ``(n,)``, int32: which of the rooms each figure stands in.
        distance: ``(n,)``, float32: depth of the figure in metres.
        truth: ``(n, h, w)``, float32: metres; that of the figure where alpha is one half or more.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    room: NDArray[np.int32]
    distance: NDArray[np.float32]
    truth: NDArray[np.float32]


def stand_figures(scenes: Sequence[Scene]) -> Standing:
    """Put figures on the floor of rooms: one near and one farther away in each that has the place for them.

    Args:
        scenes: Rooms of one size.
    """
    places = []
    for index, scene in enumerate(scenes):
        for wanted in _WANTED:
            place = _find_place(scene, wanted)
            if place is not None:
                places.append((index, *place))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        figures = list(pool.map(lambda i: render_figure(i, height=places[i][3]), range(len(places))))
    n, (height, width) = len(places), scenes[0].depth.shape
    sizes = np.array([figure.shape[:2] for figure in figures], np.int32)
    patches = np.zeros((n, *sizes.max(axis=0), 4), np.uint8)
    for patch, figure in zip(patches, figures, strict=True):
        patch[: figure.shape[0], : figure.shape[1]] = figure
    room = np.array([place[0] for place in places], np.int32)
    placements = Placements(
        background=room,
        foreground=np.arange(n, dtype=np.int32),
        flip=np.zeros(n, np.bool_),
        replica=np.zeros(n, np.int32),
        y=np.array([place[1] for place in places], np.int32) - sizes[:, 0],
        x=np.array([place[2] for place in places], np.int32) - sizes[:, 1] // 2,
    )
    image = np.empty((n, height, width, 3), np.uint8)
    mask = np.empty((n, height, width), np.uint8)
    Compositor(np.stack([scene.image for scene in scenes]), patches, sizes).compose(placements, image, mask)
    distance = np.array([place[4] for place in places], np.float32)
    empty = np.stack([scene.depth for scene in scenes])[room]
    truth = np.where(mask >= 128, distance[:, None, None], empty)
    return Standing(image, mask, room, distance, truth)


def _find_place(scene: Scene, wanted: float) -> tuple[int, int, int, float] | None:
    """Where a figure can stand: row and column below its feet, height in pixels, depth in metres.

    Of all places it is the one where the figure is nearest to ``wanted`` times as high as the picture.
    """
    height, width = scene.depth.shape
    places = []
    for row in range(height // 2, height, _GRID):
        distance = _floor_distance(scene.camera, row, height)
        if distance is None:
            continue
        tall = round(scene.camera.focal * _TALL / distance)
        reach = math.ceil(_WIDE * tall / 2)
        if tall > row or 2 * reach >= width:
            continue
        for column in range(reach, width - reach, _GRID):
            around = scene.depth[row - tall : row, column - reach : column + reach]
            seen = scene.depth[row - 1, column]
            if abs(seen / distance - 1) <= _FLOOR_OFF and around.min() >= distance * (1 - _IN_FRONT):
                off = abs(tall / height - wanted)
                places.append((off, abs(column - width // 2), row, column, tall, distance))
    return min(places)[2:] if places else None


def _floor_distance(camera: Camera, row: int, height: int) -> float | None:
    """Depth of the floor at the upper edge of a row, ``None`` where the view does not go down to it."""
    down = (row - height / 2) / camera.focal
    fall = down * math.cos(camera.pitch) - math.sin(camera.pitch)  # metres down for each metre ahead
    return camera.position[1] / fall if fall > 0 else None

"""Rendered rooms with a rendered figure on the floor of each, with true depth everywhere."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import Compositor
from fgbgpack.composition.placement import Placements
from fgbgpack.rendering import Scene, render_figure
from fgbgpack.rendering.camera import Camera

#: Height of people in metres.
_PERSON_HEIGHT = 1.7

#: Height of the figures as a part of the picture's: one near, one farther away in each room.
_RELATIVE_HEIGHTS = (0.7, 0.4)

#: Largest relative difference between the depth of a pixel that shows the floor and the floor's own.
_FLOOR_TOLERANCE = 0.03

#: A figure is pasted on top, so nothing behind it may be nearer than it by more than this part of its depth.
_OCCLUSION_TOLERANCE = 0.05

#: Largest width of a figure as a part of its height: the width that has to be free around it.
_RELATIVE_WIDTH = 0.5

#: Distance in pixels of the places that are tried.
_GRID = 4


@dataclass(frozen=True)
class FloorFigures:
    """Pictures of h x w pixels with one figure each.

    A figure is a flat cut-out that faces the camera, so all of it is as far as the floor under its feet.

    Attributes:
        image: ``(n, h, w, 3)``, uint8.
        mask: ``(n, h, w)``, uint8: the figure's alpha.
        scene: ``(n,)``, int32: index of the scene that each figure stands in.
        distance: ``(n,)``, float32: depth of the figure in metres.
        truth: ``(n, h, w)``, float32: depth in metres; that of the figure where its alpha is 128 or more.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    scene: NDArray[np.int32]
    distance: NDArray[np.float32]
    truth: NDArray[np.float32]

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> FloorFigures:
        """Place figures on the floor of scenes of one size: one near and one farther away, where they fit."""
        found = [
            (index, place)
            for index, scene in enumerate(scenes)
            for relative_height in _RELATIVE_HEIGHTS
            if (place := _find_place(scene, relative_height)) is not None
        ]
        places = [place for _, place in found]
        n, (height, width) = len(places), scenes[0].depth.shape
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            figures = list(pool.map(lambda i: render_figure(i, height=places[i].height), range(n)))
        sizes = np.array([figure.shape[:2] for figure in figures], np.int32)
        patches = np.zeros((n, *sizes.max(axis=0), 4), np.uint8)
        for patch, figure in zip(patches, figures, strict=True):
            patch[: figure.shape[0], : figure.shape[1]] = figure
        index_of = np.array([index for index, _ in found], np.int32)
        placements = Placements(
            background=index_of,
            foreground=np.arange(n, dtype=np.int32),
            flip=np.zeros(n, np.bool_),
            replica=np.zeros(n, np.int32),
            y=np.array([place.row for place in places], np.int32) - sizes[:, 0],
            x=np.array([place.column for place in places], np.int32) - sizes[:, 1] // 2,
        )
        image = np.empty((n, height, width, 3), np.uint8)
        mask = np.empty((n, height, width), np.uint8)
        compositor = Compositor(np.stack([scene.image for scene in scenes]), patches, sizes)
        compositor.compose(placements, image, mask)
        distance = np.array([place.distance for place in places], np.float32)
        empty = np.stack([scene.depth for scene in scenes])[index_of]
        truth = np.where(mask >= 128, distance[:, None, None], empty)
        return cls(image, mask, index_of, distance, truth)


class _Place(NamedTuple):
    """Row and column below the feet of a figure, its height in pixels, its depth in metres."""

    row: int
    column: int
    height: int
    distance: float


def _find_place(scene: Scene, relative_height: float) -> _Place | None:
    """The place where a figure's height is nearest to a part of the picture's, and which is most central."""
    height, width = scene.depth.shape
    found = []
    for row in range(height // 2, height, _GRID):
        distance = _floor_distance(scene.camera, row, height)
        if distance is None:
            continue
        figure = round(scene.camera.focal * _PERSON_HEIGHT / distance)
        half = math.ceil(_RELATIVE_WIDTH * figure / 2)
        if figure > row or 2 * half >= width:
            continue
        for column in range(half, width - half, _GRID):
            behind = scene.depth[row - figure : row, column - half : column + half]
            shows_floor = abs(scene.depth[row - 1, column] / distance - 1) <= _FLOOR_TOLERANCE
            if shows_floor and behind.min() >= distance * (1 - _OCCLUSION_TOLERANCE):
                misfit = (abs(figure / height - relative_height), abs(column - width // 2))
                found.append((misfit, _Place(row, column, figure, distance)))
    return min(found)[1] if found else None


def _floor_distance(camera: Camera, row: int, height: int) -> float | None:
    """Depth of the floor at the upper edge of a row; ``None`` above the horizon."""
    down = (row - height / 2) / camera.focal
    fall = down * math.cos(camera.pitch) - math.sin(camera.pitch)  # metres down for each metre ahead
    return camera.position[1] / fall if fall > 0 else None

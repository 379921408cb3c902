"""Rendering: a room through its camera to a picture with depth, a figure to a cut-out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgbgpack.rendering.camera import Camera, camera_row
from fgbgpack.rendering.colours import encode
from fgbgpack.rendering.figure import build_figure
from fgbgpack.rendering.gallery import build_gallery
from fgbgpack.rendering.hall import build_hall
from fgbgpack.rendering.kernels import figures, raycast
from fgbgpack.rendering.limits import check
from fgbgpack.rendering.lobby import build_lobby
from fgbgpack.rendering.mall import build_mall
from fgbgpack.rendering.office import build_office
from fgbgpack.rendering.rng import Dice
from fgbgpack.rendering.room import Room

_SUPERSAMPLING = 2

_KINDS: tuple[tuple[str, Callable[[Room], Camera]], ...] = (
    ("mall", build_mall),
    ("lobby", build_lobby),
    ("hall", build_hall),
    ("gallery", build_gallery),
    ("office", build_office),
)


@dataclass(frozen=True)
class Scene:
    """One rendered room.

    Attributes:
        image: uint8 (h, w, 3), sRGB.
        depth: float32 (h, w), metres along the optical axis at the centre of each pixel. Glass is looked
            through.
        kind: The kind of room, e.g. ``"mall"``.
        camera: The camera that took it.
    """

    image: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    kind: str
    camera: Camera


def render_scene(index: int, *, seed: int = 0, height: int = 240, width: int = 320) -> Scene:
    """Render view ``index`` of a seed: a pure function of its arguments.

    Args:
        index: Number of the view, from 0. Kinds of rooms take turns.
        seed: 0..2**64-1.
        height: Rows of the picture in pixels.
        width: Columns of the picture in pixels.

    Raises:
        SpecError: If an argument is out of range.
    """
    check(index=index, seed=seed, height=height, width=width)
    dice = Dice(seed, index, 1)
    kind, build = _KINDS[index % len(_KINDS)]
    room = Room(dice)
    camera = build(room)
    camera = Camera(camera.position, camera.yaw, camera.pitch, camera.focal * width)
    solids, materials, lights, nodes = room.arrays()
    ambient = np.array([room.ambient * c for c in room.lamp_colour])
    view = camera_row(camera, height, width)
    depth = np.empty((height, width), np.float32)
    owner = np.empty((height, width), np.int32)
    normal = np.zeros((height, width, 3), np.float32)
    light = np.zeros((height, width, 6), np.float32)
    smooth = np.empty((height, width, 6), np.float32)
    colour = np.empty((height, width, 3), np.float32)
    raycast.light_rooms(solids, materials, lights, nodes, view, ambient, depth, owner, normal, light)
    raycast.smooth_light(depth, owner, normal, light, smooth)
    raycast.paint_rooms(solids, materials, nodes, view, owner, normal, smooth, _SUPERSAMPLING, colour)
    return Scene(_develop(colour, dice), depth, kind, camera)


def _develop(colour: npt.NDArray[np.float32], dice: Dice) -> npt.NDArray[np.uint8]:
    """Linear light to an sRGB picture: exposure by the mean, soft highlights, a little bloom and grain."""
    height, width = colour.shape[:2]
    level = np.exp(np.mean(np.log(colour.mean(axis=2) + 0.02)))
    exposed = colour * np.float32(dice.between(0.3, 0.42) / level)
    bright = np.maximum(exposed - 1.2, 0.0).clip(max=3.0)
    reach = max(1, width // 80)
    for axis in (0, 1):  # two box blurs make a soft bloom
        for _ in range(2):
            padded = np.pad(bright, [(reach, reach) if a == axis else (0, 0) for a in range(3)], mode="edge")
            bright = np.mean(
                [padded.take(range(i, i + bright.shape[axis]), axis=axis) for i in range(2 * reach + 1)],
                axis=0,
            )
    exposed = exposed + 0.35 * bright
    mapped = exposed * (1.0 + exposed / 9.0) / (1.0 + exposed)  # extended Reinhard curve, white at 3
    mapped = mapped * (0.72 + 0.56 * mapped) / (0.72 + 0.56 * mapped.clip(max=1.0) ** 2)  # deeper shadows
    grain = np.random.Generator(np.random.Philox(key=dice.word())).random((height, width, 1))
    return np.clip(np.rint(255.0 * encode(mapped) + 5.0 * (grain - 0.5)), 0, 255).astype(np.uint8)


def render_figure(index: int, *, seed: int = 0, height: int = 320) -> npt.NDArray[np.uint8]:
    """Render figure ``index`` of a seed: a pure function of its arguments.

    Args:
        index: Number of the figure, from 0.
        seed: 0..2**64-1.
        height: Rows of the picture in pixels, which the figure fills from head to foot.

    Returns:
        uint8 (height, w, 4), sRGB and soft alpha, not premultiplied; cropped to the figure. Where alpha is 0
        the colour is that of the figure nearby.

    Raises:
        SpecError: If an argument is out of range.
    """
    check(index=index, seed=seed, height=height)
    dice = Dice(seed, index, 2)
    parts, cloths, head, yaw = build_figure(dice)
    pitch = dice.between(-0.12, 0.02)
    view = (math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch))
    right = (math.cos(yaw), 0.0, -math.sin(yaw))
    up = (
        view[1] * right[2] - view[2] * right[1],
        view[2] * right[0] - view[0] * right[2],
        view[0] * right[1] - view[1] * right[0],
    )
    aside, above = dice.between(-0.9, 0.9), dice.between(0.5, 1.1)
    towards = np.array(right) * aside + np.array(up) * above + np.array(view) * 0.8
    towards /= np.linalg.norm(towards)
    warm, strength = dice.between(0.86, 1.0), dice.between(0.75, 1.05)
    around = dice.between(0.36, 0.55)
    lamp = np.array(
        [*towards, strength, strength * warm, strength * warm * warm, around, around, around * 1.04]
    )

    # The frame that just holds the parts. Melting and cuts change it by some pixels: measure and correct it.
    ends = np.concatenate([parts[:, :3], parts[:, 3:6]])
    radii = np.concatenate([parts[:, 6], parts[:, 7]])
    u, v = ends @ np.array(right), ends @ np.array(up)
    left, wide = float((u - radii).min()), float((u + radii).max() - (u - radii).min())
    low, high = float((v - radii).min()), float((v + radii).max())
    strip = min(height, 24)
    for _ in range(6):
        pixel = (high - low) / height
        columns = math.ceil(wide / pixel) + 4
        frame = np.array([*right, *up, *view, left - 2.0 * pixel, high, pixel])
        empty = []
        for first_row in (0, height - strip):
            frame[10] = high - first_row * pixel
            picture = np.zeros((strip, columns, 4))
            figures.draw_figure(parts, cloths, head, frame, lamp, _SUPERSAMPLING, False, picture)
            seen = (picture[..., 3] * 255.0 >= 0.5).any(axis=1)
            rows = np.flatnonzero(seen if first_row == 0 else np.flip(seen))
            empty.append(int(rows[0]) if len(rows) else strip - 1)
        if empty == [0, 0]:
            break
        high, low = high - empty[0] * pixel, low + empty[1] * pixel
    frame[10] = high
    picture = np.zeros((height, columns, 4))
    figures.draw_figure(parts, cloths, head, frame, lamp, _SUPERSAMPLING, True, picture)
    return _finish_figure(picture)


def _finish_figure(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Linear colour and coverage to a cropped sRGB cut-out whose colour goes on beyond its edge."""
    alpha = np.rint(255.0 * picture[..., 3])
    colour, known = picture[..., :3].copy(), picture[..., 3] > 0.0
    for _ in range(8):
        padded, weight = (
            np.pad(colour * known[..., None], ((1, 1), (1, 1), (0, 0))),
            np.pad(known, 1).astype(np.float64),
        )
        shifts = [
            (slice(a, a + alpha.shape[0]), slice(b, b + alpha.shape[1])) for a in range(3) for b in range(3)
        ]
        total = np.sum([weight[s] for s in shifts], axis=0)
        grown = np.sum([padded[s] for s in shifts], axis=0) / np.maximum(total, 1.0)[..., None]
        colour = np.where(known[..., None], colour, grown)
        known = known | (total > 0.0)
    colour[~known] = colour[picture[..., 3] > 0.5].mean(axis=0)
    colour = colour.clip(0.0, 1.0)
    rgba = np.concatenate([np.rint(255.0 * encode(colour)), alpha[..., None]], axis=2).astype(np.uint8)
    rows, columns = np.flatnonzero((alpha > 0).any(axis=1)), np.flatnonzero((alpha > 0).any(axis=0))
    return np.ascontiguousarray(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])

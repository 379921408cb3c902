"""Rendering: a room through its camera to a picture with depth, a figure to a cut-out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgbgpack.errors import SpecError
from fgbgpack.rendering.camera import Camera, camera_row
from fgbgpack.rendering.colours import encode
from fgbgpack.rendering.figure import build_figure
from fgbgpack.rendering.furniture import FurnishedRoom
from fgbgpack.rendering.interiors import build_gallery, build_hall, build_lobby, build_office
from fgbgpack.rendering.kernels import figures, passes
from fgbgpack.rendering.mall import build_mall
from fgbgpack.rendering.rng import WORDS, Rng

_SUPERSAMPLING = 2
_MAX_PICTURES = 10_000
#: What a portrait shows of a figure, from the top.
_PORTRAIT_SHARE = 0.4
_KINDS: dict[str, Callable[[FurnishedRoom], Camera]] = {
    "mall": build_mall,
    "lobby": build_lobby,
    "hall": build_hall,
    "gallery": build_gallery,
    "office": build_office,
}


def check_numbers(**values: int) -> None:
    """Raises SpecError for numbers that are out of range, all of them together."""
    pixels, pictures, words = (2, 4096), (1, _MAX_PICTURES), (0, WORDS - 1)
    limits = {"seed": words, "index": words, "height": pixels, "width": pixels}
    limits |= {"backgrounds": pictures, "foregrounds": pictures}
    problems = []
    for name, value in values.items():
        low, high = limits[name]
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
            problems.append(f"{name}: found {value!r}, expected a whole number from {low} to {high}")
    if problems:
        raise SpecError("These sample pictures cannot be made.", problems, code="samples-out-of-range")


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
    check_numbers(index=index, seed=seed, height=height, width=width)
    rng = Rng(seed, index, 1)
    kind = list(_KINDS)[index % len(_KINDS)]
    room = FurnishedRoom(rng)
    camera = _KINDS[kind](room)
    camera = replace(camera, focal=camera.focal * width)
    world = room.world(camera_row(camera, height, width))
    depth, seen = np.empty((height, width), np.float32), np.empty((height, width), np.int32)
    normals, colour = (np.zeros((height, width, 3), np.float32) for _ in range(2))
    light, smooth = (np.empty((height, width, 6), np.float32) for _ in range(2))
    passes.light_pass(world, depth, seen, normals, light)
    passes.smooth_light(seen, normals, light, smooth)
    passes.shade_pass(world, seen, normals, smooth, _SUPERSAMPLING, colour)
    return Scene(_develop(colour, rng), depth, kind, camera)


def _develop(colour: npt.NDArray[np.float32], rng: Rng) -> npt.NDArray[np.uint8]:
    """Linear light to an sRGB picture: exposure by the mean, soft highlights, a little bloom and grain."""
    height, width = colour.shape[:2]
    level = np.exp(np.mean(np.log(colour.mean(axis=2) + 0.02)))
    exposed = colour * np.float32(rng.uniform(0.3, 0.42) / level)
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
    grain = np.random.Generator(np.random.Philox(key=rng.bits())).random((height, width, 1))
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
    check_numbers(index=index, seed=seed, height=height)
    return _render_figure(index, seed, height, height)


def render_portrait(index: int, *, seed: int = 0, height: int = 320) -> npt.NDArray[np.uint8]:
    """Render the upper part of figure ``index`` of a seed, as portraits show people: it ends below in a
    straight edge. Arguments, result and errors are those of :func:`render_figure`.
    """
    check_numbers(index=index, seed=seed, height=height)
    return _render_figure(index, seed, round(height / _PORTRAIT_SHARE), height)


def _render_figure(index: int, seed: int, height: int, shown: int) -> npt.NDArray[np.uint8]:
    """The first ``shown`` rows of a figure that is ``height`` rows high."""
    rng = Rng(seed, index, 2)
    figure, yaw = build_figure(rng)
    pitch = rng.uniform(-0.12, 0.02)
    view = np.array([math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
    right = np.array([math.cos(yaw), 0.0, -math.sin(yaw)])
    up = np.cross(view, right)
    aside, above = rng.uniform(-0.9, 0.9), rng.uniform(0.5, 1.1)
    towards = right * aside + up * above + view * 0.8
    towards /= np.linalg.norm(towards)
    warm, direct, around = rng.uniform(0.86, 1.0), rng.uniform(0.75, 1.05), rng.uniform(0.36, 0.55)
    lamp = np.array([*towards, direct, direct * warm, direct * warm * warm, around, around, around * 1.04])

    # The frame that just holds the parts. Melting and cuts change it by some pixels: measure and correct it.
    ends = np.concatenate([figure.parts[:, :3], figure.parts[:, 3:6]])
    radii = np.concatenate([figure.parts[:, 6], figure.parts[:, 7]])
    u, v = ends @ right, ends @ up
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
            figures.draw_figure(figure, frame, lamp, _SUPERSAMPLING, False, picture)
            seen = (picture[..., 3] * 255.0 >= 0.5).any(axis=1)
            rows = np.flatnonzero(seen if first_row == 0 else np.flip(seen))
            empty.append(int(rows[0]) if len(rows) else strip - 1)
        if empty == [0, 0]:
            break
        high, low = high - empty[0] * pixel, low + empty[1] * pixel
    frame[10] = high
    picture = np.zeros((shown, columns, 4))
    figures.draw_figure(figure, frame, lamp, _SUPERSAMPLING, True, picture)
    return _finish_figure(picture)


def _finish_figure(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Linear colour and coverage to a cropped sRGB cut-out whose colour goes on beyond its edge."""
    alpha = np.rint(255.0 * picture[..., 3])
    colour, known = picture[..., :3].copy(), picture[..., 3] > 0.0
    height, width = alpha.shape
    shifts = [np.s_[a : a + height, b : b + width] for a in range(3) for b in range(3)]
    for _ in range(8):
        padded = np.pad(colour * known[..., None], ((1, 1), (1, 1), (0, 0)))
        weight = np.pad(known, 1).astype(np.float64)
        total = np.sum([weight[s] for s in shifts], axis=0)
        grown = np.sum([padded[s] for s in shifts], axis=0) / np.maximum(total, 1.0)[..., None]
        colour = np.where(known[..., None], colour, grown)
        known = known | (total > 0.0)
    colour[~known] = colour[picture[..., 3] > 0.5].mean(axis=0)
    colour = colour.clip(0.0, 1.0)
    rgba = np.concatenate([np.rint(255.0 * encode(colour)), alpha[..., None]], axis=2).astype(np.uint8)
    rows, columns = np.flatnonzero((alpha > 0).any(axis=1)), np.flatnonzero((alpha > 0).any(axis=0))
    return np.ascontiguousarray(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])

"""The pictures that the networks learn from, and their labels, made once and kept in files.

A **view** is a square part of a photograph, or of a rendered room, without people. A **composite** is a view
with a foreground pasted on it. The label of photographs is a teacher's depth at high resolution; rendered
rooms have their true depth, and so have foregrounds that stand on their floor.

Item i depends only on the seed, on i and on the pictures, so interrupted work resumes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from fgbgpack.composition.compositor import Compositor
from fgbgpack.composition.placement import Placements
from fgbgpack.depth import DepthModel, DepthSession, Execution
from fgbgpack.depth.background import centre_and_spread
from fgbgpack.errors import SourceError
from fgbgpack.files import write_atomically
from fgbgpack.rendering import render_figure, render_scene
from fgbgpack.sources.catalog import load_catalog
from fgbgpack.sources.listing import Source, find_sources
from fgbgpack.sources.pictures import read_picture
from fgbgpack.sources.resizing import resize_premultiplied

#: Side of a view, and of its label and of a composite, in pixels.
VIEW, LABEL = 384, 192
#: The label is the mean over these inputs of the teacher, as (side of the answer, scale), and over mirroring.
_TEACHER_INPUTS = ((192, 2), (128, 4))
#: Height of cut-outs.
_CUTOUT = 320
#: Rendered rooms and figures with lower numbers are held out.
_FIRST_ROOM, _FIRST_FIGURE, _ROOM_SEED = 1000, 1000, 0
#: Least correlation of the teacher's answers with and without a foreground for which its label is used.
_LEAST_AGREEMENT = 0.6
#: Share of the teacher's relief within a person that is kept: much of it is clothes, and feet that fade.
_RELIEF = 0.25
_ATTEMPTS = 1000
#: Share of composites that stand on the floor of rendered rooms.
_STANDING = 0.25
_THREADS = min(8, os.cpu_count() or 1)

OnItem = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Folders:
    """Where pictures come from; files whose names match a pattern of ``hold_out`` are not used."""

    photographs: Path
    backgrounds: Path
    foregrounds: Path
    hold_out: tuple[str, ...] = ()

    def held_out(self, name: str) -> bool:
        """Whether a file is held out."""
        return any(fnmatch(name, pattern) for pattern in self.hold_out)


@dataclass(frozen=True)
class Counts:
    """Numbers of views of each kind, of rendered figures among the foregrounds, and of composites."""

    photographs: int = 4000
    backgrounds: int = 800
    rooms: int = 700
    figures: int = 80
    composites: int = 4000

    @property
    def views(self) -> int:
        """Views of all kinds."""
        return self.photographs + self.backgrounds + self.rooms

    @property
    def ranges(self) -> tuple[range, range, range]:
        """Which views are photographs, backgrounds and rooms."""
        indoors = self.photographs + self.backgrounds
        return range(self.photographs), range(self.photographs, indoors), range(indoors, self.views)


class Views:
    """Views and composites with their labels, in files below one folder.

    Attributes:
        image: (v, 384, 384, 3) uint8, the views.
        label: (v, 192, 192) float16, their inverse depth, normalised.
        camera: (v, 6) float32: focal length and row of the optical axis in pixels of the view, height of the
            camera in metres, its pitch in radians, and a and b: ``a * label + b`` is true inverse depth in
            1/m. All 0 where the view is a photograph.
        composite: (c, 192, 192, 3) uint8; ``mask``: (c, 192, 192) uint8.
        foreground: (c, 192, 192) float16, inverse depth of the foreground in units of the view's label.
        view: (c,) int32, the view that each composite is pasted on.
    """

    def __init__(
        self,
        folder: Path,
        folders: Folders,
        counts: Counts,
        teacher: DepthModel,
        *,
        seed: int,
        on_item: OnItem,
    ) -> None:
        self.counts = counts
        self._folders, self._seed, self._on_item = folders, seed, on_item
        self._found = find_sources(folders.backgrounds, folders.foregrounds)
        photographs = find_sources(folders.photographs, folders.foregrounds).backgrounds
        self._photographs = self._training_sources(photographs)
        self._backgrounds = self._training_sources(self._found.backgrounds)
        self._teacher = [
            DepthSession(teacher, (side, side), scale=scale, execution=Execution(device="cpu"))
            for side, scale in _TEACHER_INPUTS
        ]
        made_of = {
            "version": 1,
            "seed": seed,
            "teacher": teacher.sha256,
            "counts": vars(counts),
            "hold_out": folders.hold_out,
            "photographs": [source.name for source in self._photographs],
            "backgrounds": [source.name for source in self._backgrounds],
            "foregrounds": [source.name for source in self._training_sources(self._found.foregrounds)],
        }
        pictures = (*self._photographs, *self._backgrounds, *self._found.foregrounds)
        whole = json.dumps([made_of, [source.sha256 for source in pictures]]).encode()
        self._folder = folder / f"views-{hashlib.sha256(whole).hexdigest()[:12]}"
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / "made-of.json", json.dumps(made_of, indent=2).encode())
        v, c = counts.views, counts.composites
        self.image = self._array("image", np.uint8, (v, VIEW, VIEW, 3))
        self.label = self._array("label", np.float16, (v, LABEL, LABEL))
        self.camera = self._array("camera", np.float32, (v, 6))
        self.composite = self._array("composite", np.uint8, (c, LABEL, LABEL, 3))
        self.mask = self._array("mask", np.uint8, (c, LABEL, LABEL))
        self.foreground = self._array("foreground", np.float16, (c, LABEL, LABEL))
        self.view = self._array("view", np.int32, (c,))
        self._make("views", self._array("views-made", np.bool_, (v,)), self._make_view)
        self._cutouts: list[NDArray[np.uint8]] = []
        made = self._array("composites-made", np.bool_, (c,))
        if not made.all():
            self._cutouts = self._load_cutouts()
        self._make("composites", made, self._make_composite)

    def _training_sources(self, sources: Sequence[Source]) -> list[Source]:
        return [source for source in sources if not self._folders.held_out(source.name)]

    def _array(self, name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        path = self._folder / f"{name}.npy"
        if path.exists():
            return np.lib.format.open_memmap(path, mode="r+")
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)

    def _make(self, what: str, made: NDArray[np.bool_], make: Callable[[int], None]) -> None:
        missing = np.flatnonzero(~made).tolist()
        with ThreadPoolExecutor(_THREADS) as pool:
            for done, (item, _) in enumerate(zip(missing, pool.map(make, missing), strict=True), start=1):
                made[item] = True
                self._on_item(what, len(made) - len(missing) + done, len(made))

    def _rng(self, kind: int, item: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, kind, item])

    def _make_view(self, item: int) -> None:
        rng, (photographs, _, rooms) = self._rng(0, item), self.counts.ranges
        if item in rooms:
            self._make_room(item, rng)
            return
        files = self._photographs if item in photographs else self._backgrounds
        picture = read_picture(files[item % len(files)].path).rgb
        self.image[item] = image = _random_crop(picture, rng)
        self.label[item] = self._teacher_label(image)

    def _make_room(self, item: int, rng: np.random.Generator) -> None:
        scene = render_scene(_FIRST_ROOM + item, seed=_ROOM_SEED, height=288, width=384)
        side = int(rng.integers(224, 289))
        top, left = int(rng.integers(0, 289 - side)), int(rng.integers(0, 385 - side))
        crop = np.s_[top : top + side, left : left + side]
        image = Image.fromarray(scene.image[crop]).resize((VIEW, VIEW), Image.Resampling.LANCZOS)
        self.image[item] = _jitter_colours(image, rng)
        inverse = Image.fromarray(1.0 / scene.depth[crop]).resize((LABEL, LABEL), Image.Resampling.BOX)
        self.label[item], median, spread = _normalised(np.asarray(inverse))
        zoom, camera = VIEW / side, scene.camera
        lens = (camera.focal * zoom, (144.0 - top) * zoom)
        self.camera[item] = (*lens, camera.position[1], camera.pitch, spread, median)

    def _teacher_label(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(192, 192), normalised: the teacher's mean answer over sizes and mirroring."""
        both = np.stack([image, image[:, ::-1]])
        total = np.zeros((LABEL, LABEL), np.float32)
        for session, (side, scale) in zip(self._teacher, _TEACHER_INPUTS, strict=True):
            size = (side * scale, side * scale)
            images = [Image.fromarray(one).resize(size, Image.Resampling.BICUBIC) for one in both]
            answer = np.empty((2, side, side), np.float16)
            session.run(np.stack([np.asarray(one) for one in images]), answer)
            for depth in (answer[0], answer[1, :, ::-1]):
                label = Image.fromarray(_normalised(depth)[0])
                total += np.asarray(label.resize((LABEL, LABEL), Image.Resampling.BILINEAR))
        return _normalised(total)[0]

    def _load_cutouts(self) -> list[NDArray[np.uint8]]:
        catalog = load_catalog(
            self._found,
            height=VIEW,
            width=VIEW,
            fit="crop",
            foreground_height=_CUTOUT,
            with_backgrounds=False,
        )
        patches = zip(catalog.foregrounds, catalog.foreground, catalog.foreground_size, strict=True)
        cutouts = [
            np.ascontiguousarray(patch[:height, :width])
            for source, patch, (height, width) in patches
            if not self._folders.held_out(source.name)
        ]
        figures = range(_FIRST_FIGURE, _FIRST_FIGURE + self.counts.figures)
        with ThreadPoolExecutor(_THREADS) as pool:
            cutouts += pool.map(lambda index: render_figure(index, seed=_ROOM_SEED), figures)
        return cutouts

    def _make_composite(self, item: int) -> None:
        photographs, backgrounds, rooms = self.counts.ranges
        standing = len(rooms) > 0 and self._rng(1, item).random() < _STANDING
        for attempt in range(_ATTEMPTS):
            rng = self._rng(2 + attempt, item)
            cutout = self._cutouts[int(rng.integers(len(self._cutouts)))]
            if standing:
                views, paste = rooms, self._stand_on_floor
            else:
                # Backgrounds are fewer than photographs and more like what users have: every other one.
                views, paste = backgrounds if backgrounds and rng.random() < 0.5 else photographs, self._paste
            self.view[item] = view = views[int(rng.integers(len(views)))]
            if paste(item, view, cutout, rng):
                return
        raise SourceError(
            f"Composite {item} has no usable label after {_ATTEMPTS} attempts: the teacher changes its "
            "depth of a view with the foreground on it. Give other photographs or another teacher.",
            code="composite-without-label",
        )

    def _paste(self, item: int, view: int, cutout: NDArray[np.uint8], rng: np.random.Generator) -> bool:
        """Pastes a foreground anywhere, labelled by the teacher. Returns whether the label can be used."""
        height = int(VIEW * np.exp(rng.uniform(math.log(0.2), math.log(0.8))))
        patch = _augment_cutout(cutout, height, rng)
        if rng.random() < 0.25:  # cut at a border
            y = int(rng.integers(-patch.shape[0] // 3, VIEW - patch.shape[0] // 2))
            x = int(rng.integers(-patch.shape[1] // 2, VIEW - patch.shape[1] // 2))
        else:
            y = int(rng.integers(0, max(1, VIEW - patch.shape[0])))
            x = int(rng.integers(0, max(1, VIEW - patch.shape[1])))
        image, small = _composite(self.image[view], patch, y, x)
        if (small > 229).sum() < 100:
            return False
        background, answer = self.label[view].astype(np.float32), self._teacher_label(image)
        outside = _away_from(small)
        if outside.sum() < 1000:
            return False
        agreement = np.corrcoef(answer[outside], background[outside])[0, 1]
        if not agreement > _LEAST_AGREEMENT:
            return False
        slope = agreement * background[outside].std() / answer[outside].std()
        aligned = slope * (answer - answer[outside].mean()) + background[outside].mean()
        median = np.median(aligned[small > 229])
        self._store(item, image, small, median + _RELIEF * (aligned - median))
        return True

    def _stand_on_floor(
        self, item: int, view: int, cutout: NDArray[np.uint8], rng: np.random.Generator
    ) -> bool:
        """Pastes a foreground on a room's floor, at its true size. Returns whether it can stand there."""
        focal, axis_y, eye, pitch, a, b = (float(value) for value in self.camera[view])
        inverse = a * self.label[view].astype(np.float32) + b
        foot_x, foot_y = (int(value) for value in rng.integers(0, (VIEW, VIEW)))
        down = (foot_y - axis_y) / focal
        fall = down * math.cos(pitch) - math.sin(pitch)  # metres down for each metre ahead
        if fall <= 0.02:
            return False
        depth = eye / fall
        # The floor is what is seen there.
        if abs(inverse[foot_y // 2, foot_x // 2] * depth - 1.0) > 0.04:
            return False
        height = round(focal * rng.uniform(1.5, 1.9) / depth)
        if not 0.12 * VIEW <= height <= 1.3 * VIEW:
            return False
        patch = _augment_cutout(cutout, height, rng)
        image, small = _composite(self.image[view], patch, foot_y - height, foot_x - patch.shape[1] // 2)
        opaque = small > 229
        # Nothing may stand before it, since it is pasted before everything.
        if opaque.sum() < 100 or (inverse[opaque] * depth > 1.1).mean() > 0.03:
            return False
        self._store(item, image, small, np.full((LABEL, LABEL), (1.0 / depth - b) / a))
        return True

    def _store(
        self, item: int, image: NDArray[np.uint8], mask: NDArray[Any], foreground: NDArray[Any]
    ) -> None:
        self.composite[item] = np.rint(image.reshape(LABEL, 2, LABEL, 2, 3).mean((1, 3)))
        self.mask[item] = np.rint(mask)
        self.foreground[item] = np.clip(foreground, -20.0, 60.0)


def _normalised(depth: NDArray[Any]) -> tuple[NDArray[np.float32], float, float]:
    """A map less its median, over its mean absolute deviation; and those two."""
    median, spread = centre_and_spread(depth.astype(np.float64))
    return ((depth - median) / spread).astype(np.float32), median, spread


def _random_crop(picture: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A square part of a photograph at the size of a view, sometimes as coarse as a small photograph is."""
    short = min(picture.size)
    side = max(32, round(short * (1.0 if rng.random() < 0.25 else rng.uniform(0.55, 1.0))))
    left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
    box = (left, top, left + side, top + side)
    if rng.random() < 0.3:
        coarse = int(rng.integers(128, 257))
        picture = picture.resize((coarse, coarse), Image.Resampling.LANCZOS, box=box)
        box = (0, 0, coarse, coarse)
    return _jitter_colours(picture.resize((VIEW, VIEW), Image.Resampling.LANCZOS, box=box), rng)


def _jitter_colours(picture: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(h, w, 3): the picture with other brightness, contrast and saturation."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(float(rng.uniform(0.75, 1.25)))
    return np.asarray(picture)


def _augment_cutout(cutout: NDArray[np.uint8], height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(height, w, 4): a cut-out at that height, mirrored or not, in other light, sometimes blurred."""
    picture = Image.fromarray(cutout)
    rgb = Image.fromarray(_jitter_colours(picture.convert("RGB"), rng))
    alpha = picture.getchannel("A")
    if rng.random() < 0.3:
        blur = ImageFilter.GaussianBlur(float(rng.uniform(0.5, 2.5)))
        rgb, alpha = rgb.filter(blur), alpha.filter(blur)
    patch = resize_premultiplied(rgb, alpha, height, max(1, round(picture.width * height / picture.height)))
    return np.ascontiguousarray(patch[:, ::-1] if rng.random() < 0.5 else patch)


def _composite(
    view: NDArray[np.uint8], patch: NDArray[np.uint8], y: int, x: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The composite as datasets have it, and its mask at the size of a label; what is outside is cut off."""
    top, left = max(0, -y), max(0, -x)
    part = np.ascontiguousarray(patch[top : VIEW - y, left : VIEW - x])
    size, zero = np.array([part.shape[:2]], np.int32), np.zeros(1, np.int32)
    corner = np.array([max(y, 0)], np.int32), np.array([max(x, 0)], np.int32)
    placement = Placements(zero, zero, zero.astype(np.bool_), zero, *corner)
    image, mask = np.empty((1, VIEW, VIEW, 3), np.uint8), np.empty((1, VIEW, VIEW), np.uint8)
    Compositor(view[None], part[None], size).compose(placement, image, mask)
    return image[0], mask.reshape(LABEL, 2, LABEL, 2).mean((1, 3))


def _away_from(mask: NDArray[Any], pixels: int = 10) -> NDArray[np.bool_]:
    """Where no foreground is within so many pixels."""
    near = Image.fromarray((mask > 3).astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * pixels + 1))
    far: NDArray[np.bool_] = np.asarray(near) == 0
    return far

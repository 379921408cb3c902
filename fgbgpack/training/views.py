"""The pictures that the networks learn from, and their labels, made once and kept in files.

A **view** is a square part of a photograph, or of a rendered room, without anybody in it. A **composite** is
a view with a foreground pasted on it. What a teacher says of them at high resolution is the label of
photographs; rendered rooms have their true depth, and so have foregrounds that stand on their floor.

Item i depends on the seed, on i and on the pictures, on nothing else, so work that was stopped goes on.
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
from fgbgpack.rendering import render_figure, render_scene
from fgbgpack.sources.catalog import load_catalog
from fgbgpack.sources.listing import Source, find_sources
from fgbgpack.sources.pictures import read_picture
from fgbgpack.sources.resizing import resize_premultiplied

#: Side of a view, and of its label and of a composite, in pixels.
VIEW, LABEL = 384, 192
#: The label is the mean over these inputs of the teacher, as (answer's side, scale), and over mirroring.
_TEACHER_SIZES = ((192, 2), (128, 4))
#: Height at which cut-outs are kept.
_CUTOUT = 320
#: Rendered rooms and figures that are held out have lower numbers than those that are learnt from.
_FIRST_ROOM, _FIRST_FIGURE, _ROOM_SEED = 1000, 1000, 0
#: A view is refused as a background where the teacher's answers with and without the foreground agree less.
_LEAST_AGREEMENT = 0.6
#: How much of the teacher's relief within a person is kept: much of it is clothes, and feet that fade.
_RELIEF = 0.25
_ATTEMPTS = 1000
#: Part of the composites that stand on the floor of rendered rooms.
_STANDING = 0.25
_THREADS = min(8, os.cpu_count() or 1)

OnItem = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Folders:
    """Where pictures come from, and what is held out.

    Attributes:
        photographs: Folder of photographs of anything.
        backgrounds: Folder of scenes.
        foregrounds: Folder of cut-outs.
        hold_out: Patterns of file names, e.g. ``"hall-*"``: those files are not learnt from.
    """

    photographs: Path
    backgrounds: Path
    foregrounds: Path
    hold_out: tuple[str, ...] = ()

    def held_out(self, name: str) -> bool:
        """Whether a file is held out."""
        return any(fnmatch(name, pattern) for pattern in self.hold_out)


@dataclass(frozen=True)
class Counts:
    """How many items are made.

    Attributes:
        photographs: Views of photographs.
        backgrounds: Views of backgrounds.
        rooms: Views of rendered rooms.
        figures: Rendered figures among the foregrounds.
        composites: Composites on those views.
    """

    photographs: int = 4000
    backgrounds: int = 800
    rooms: int = 700
    figures: int = 80
    composites: int = 4000

    @property
    def views(self) -> int:
        """Views of all kinds."""
        return self.photographs + self.backgrounds + self.rooms


class Views:
    """Views and composites with their labels, in files below one folder.

    Attributes:
        image: (v, 384, 384, 3) uint8, the views.
        label: (v, 192, 192) float16, their inverse depth, normalised.
        camera: (v, 6) float32: focal length and row of the optical axis in pixels of the view, height of the
            camera in metres, its pitch in radians, and a and b: ``a * label + b`` is true inverse depth in
            1/m. All 0 where the view is a photograph.
        composite: (c, 192, 192, 3) uint8.
        mask: (c, 192, 192) uint8.
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
        self._folders, self._counts, self._seed, self._on_item = folders, counts, seed, on_item
        self._found = find_sources(folders.backgrounds, folders.foregrounds)
        photographs = find_sources(folders.photographs, folders.foregrounds).backgrounds
        self._photographs = self._learnt_from(photographs)
        self._backgrounds = self._learnt_from(self._found.backgrounds)
        self._teacher = [
            DepthSession(teacher, (side, side), scale=scale, execution=Execution(device="cpu"))
            for side, scale in _TEACHER_SIZES
        ]
        self._folder = folder / f"views-{self._digest(teacher)}"
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "made-of.json").write_text(json.dumps(self._recipe(teacher), indent=2))
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

    # --- files -------------------------------------------------------------------------------------

    def _learnt_from(self, sources: Sequence[Source]) -> list[Source]:
        return [source for source in sources if not self._folders.held_out(source.name)]

    def _recipe(self, teacher: DepthModel) -> dict[str, Any]:
        return {
            "version": 1,
            "seed": self._seed,
            "teacher": teacher.sha256,
            "counts": vars(self._counts),
            "hold_out": self._folders.hold_out,
            "photographs": [source.name for source in self._photographs],
            "backgrounds": [source.name for source in self._backgrounds],
            "foregrounds": [source.name for source in self._learnt_from(self._found.foregrounds)],
        }

    def _digest(self, teacher: DepthModel) -> str:
        pictures = (*self._photographs, *self._backgrounds, *self._found.foregrounds)
        made_of = [self._recipe(teacher), [source.sha256 for source in pictures]]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]

    def _array(self, name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        path = self._folder / f"{name}.npy"
        if path.exists():
            return np.lib.format.open_memmap(path, mode="r+")
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)

    def _make(self, what: str, made: NDArray[np.bool_], make: Callable[[int], None]) -> None:
        missing = np.flatnonzero(~made)

        def work(item: int) -> int:
            make(item)
            return item

        with ThreadPoolExecutor(_THREADS) as pool:
            for done, item in enumerate(pool.map(work, missing.tolist()), start=1):
                made[item] = True
                self._on_item(what, len(made) - len(missing) + done, len(made))

    def _dice(self, kind: int, item: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, kind, item])

    # --- views -------------------------------------------------------------------------------------

    def _make_view(self, item: int) -> None:
        dice, counts = self._dice(0, item), self._counts
        if item >= counts.photographs + counts.backgrounds:
            self._make_room(item, dice)
            return
        files = self._photographs if item < counts.photographs else self._backgrounds
        picture = read_picture(files[item % len(files)].path).rgb
        self.image[item] = image = _square_part(picture, dice)
        self.label[item] = self._taught(image)

    def _make_room(self, item: int, dice: np.random.Generator) -> None:
        scene = render_scene(_FIRST_ROOM + item, seed=_ROOM_SEED, height=288, width=384)
        side = int(dice.integers(224, 289))
        top, left = int(dice.integers(0, 289 - side)), int(dice.integers(0, 385 - side))
        part = Image.fromarray(scene.image[top : top + side, left : left + side])
        self.image[item] = _developed(part.resize((VIEW, VIEW), Image.Resampling.LANCZOS), dice)
        inverse = Image.fromarray(1.0 / scene.depth[top : top + side, left : left + side])
        shrinks = side >= LABEL
        inverse = inverse.resize(
            (LABEL, LABEL), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        )
        label, median, spread = _normalised(np.asarray(inverse))
        self.label[item] = label
        zoom = VIEW / side
        camera = scene.camera
        self.camera[item] = (
            camera.focal * zoom,
            (144.0 - top) * zoom,
            camera.position[1],
            camera.pitch,
            spread,
            median,
        )

    def _taught(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(192, 192), normalised: the teacher's mean answer over sizes and mirroring."""
        both = np.stack([image, image[:, ::-1]])
        total = np.zeros((LABEL, LABEL), np.float32)
        for session, (side, scale) in zip(self._teacher, _TEACHER_SIZES, strict=True):
            seen = both
            if side * scale != VIEW:
                seen = np.stack([_resized(one, side * scale) for one in both])
            answer = np.empty((2, side, side), np.float16)
            session.run(np.ascontiguousarray(seen), answer)
            for depth in (answer[0], answer[1, :, ::-1]):
                label = _normalised(depth)[0]
                if side != LABEL:
                    picture = Image.fromarray(label)
                    label = np.asarray(picture.resize((LABEL, LABEL), Image.Resampling.BILINEAR))
                total += label
        return _normalised(total)[0]

    # --- composites --------------------------------------------------------------------------------

    def _load_cutouts(self) -> list[NDArray[np.uint8]]:
        catalog = load_catalog(
            self._found,
            height=VIEW,
            width=VIEW,
            fit="crop",
            foreground_height=_CUTOUT,
            with_backgrounds=False,
        )
        cutouts = [
            np.ascontiguousarray(patch[:height, :width])
            for source, patch, (height, width) in zip(
                catalog.foregrounds, catalog.foreground, catalog.foreground_size, strict=True
            )
            if not self._folders.held_out(source.name)
        ]
        figures = range(_FIRST_FIGURE, _FIRST_FIGURE + self._counts.figures)
        with ThreadPoolExecutor(_THREADS) as pool:
            cutouts += pool.map(lambda index: render_figure(index, seed=_ROOM_SEED), figures)
        return cutouts

    def _make_composite(self, item: int) -> None:
        counts = self._counts
        standing = bool(counts.rooms) and self._dice(1, item).random() < _STANDING
        for attempt in range(_ATTEMPTS):
            dice = self._dice(2 + attempt, item)
            cutout = self._cutouts[int(dice.integers(len(self._cutouts)))]
            if standing:
                view = counts.photographs + counts.backgrounds + int(dice.integers(counts.rooms))
                done = self._stand(item, view, cutout, dice)
            else:
                # Backgrounds are fewer than photographs and more like what users have: every other one.
                indoors = counts.backgrounds and dice.random() < 0.5
                first, count = (
                    (counts.photographs, counts.backgrounds) if indoors else (0, counts.photographs)
                )
                view = first + int(dice.integers(count))
                done = self._paste(item, view, cutout, dice)
            if done:
                self.view[item] = view
                return
        raise RuntimeError(f"no usable composite was found for item {item} in {_ATTEMPTS} attempts")

    def _paste(self, item: int, view: int, cutout: NDArray[np.uint8], dice: np.random.Generator) -> bool:
        """A foreground anywhere, labelled by the teacher. Returns whether the label can be used."""
        height = int(VIEW * np.exp(dice.uniform(math.log(0.2), math.log(0.8))))
        patch = _varied(cutout, height, dice)
        if dice.random() < 0.25:  # cut at a border
            y = int(dice.integers(-patch.shape[0] // 3, VIEW - patch.shape[0] // 2))
            x = int(dice.integers(-patch.shape[1] // 2, VIEW - patch.shape[1] // 2))
        else:
            y = int(dice.integers(0, max(1, VIEW - patch.shape[0])))
            x = int(dice.integers(0, max(1, VIEW - patch.shape[1])))
        image, mask = _pasted(self.image[view], patch, y, x)
        small = mask.reshape(LABEL, 2, LABEL, 2).mean((1, 3))
        if (small > 229).sum() < 100:
            return False
        background, answer = self.label[view].astype(np.float32), self._taught(image)
        outside = _far_from(small)
        if outside.sum() < 1000:
            return False
        agreement = np.corrcoef(answer[outside], background[outside])[0, 1]
        if not agreement > _LEAST_AGREEMENT:
            return False
        slope = agreement * background[outside].std() / answer[outside].std()
        aligned = slope * (answer - answer[outside].mean()) + background[outside].mean()
        median = np.median(aligned[small > 229])
        self._keep(item, image, small, median + _RELIEF * (aligned - median))
        return True

    def _stand(self, item: int, view: int, cutout: NDArray[np.uint8], dice: np.random.Generator) -> bool:
        """A foreground on the floor of a rendered room, at the size that it has there; its depth is true."""
        focal, axis_y, eye, pitch, a, b = (float(value) for value in self.camera[view])
        inverse = a * self.label[view].astype(np.float32) + b
        foot_x, foot_y = (int(value) for value in dice.integers(0, (VIEW, VIEW)))
        down = (foot_y - axis_y) / focal
        fall = down * math.cos(pitch) - math.sin(pitch)  # metres down for each metre ahead
        if fall <= 0.02:
            return False
        depth = eye / fall
        # The floor is what is seen there.
        if abs(inverse[foot_y // 2, foot_x // 2] * depth - 1.0) > 0.04:
            return False
        height = round(focal * dice.uniform(1.5, 1.9) / depth)
        if not 0.12 * VIEW <= height <= 1.3 * VIEW:
            return False
        patch = _varied(cutout, height, dice)
        image, mask = _pasted(self.image[view], patch, foot_y - height, foot_x - patch.shape[1] // 2)
        small = mask.reshape(LABEL, 2, LABEL, 2).mean((1, 3))
        opaque = small > 229
        # Nothing may stand before it, since it is pasted before everything.
        if opaque.sum() < 100 or (inverse[opaque] * depth > 1.1).mean() > 0.03:
            return False
        self._keep(item, image, small, np.full((LABEL, LABEL), (1.0 / depth - b) / a))
        return True

    def _keep(
        self, item: int, image: NDArray[np.uint8], mask: NDArray[Any], foreground: NDArray[Any]
    ) -> None:
        self.composite[item] = np.rint(image.reshape(LABEL, 2, LABEL, 2, 3).mean((1, 3)))
        self.mask[item] = np.rint(mask)
        self.foreground[item] = np.clip(foreground, -20.0, 60.0)


def _normalised(depth: NDArray[Any]) -> tuple[NDArray[np.float32], float, float]:
    """A map less its median, over its mean absolute deviation; and those two."""
    median, spread = centre_and_spread(depth.astype(np.float64))
    return ((depth - median) / spread).astype(np.float32), median, spread


def _resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def _square_part(picture: Image.Image, dice: np.random.Generator) -> NDArray[np.uint8]:
    """A square part of a photograph at the size of a view, at times as coarse as a small photograph is."""
    short = min(picture.size)
    side = max(32, round(short * (1.0 if dice.random() < 0.25 else dice.uniform(0.55, 1.0))))
    left, top = (int(dice.integers(0, length - side + 1)) for length in picture.size)
    box = (left, top, left + side, top + side)
    if dice.random() < 0.3:
        coarse = int(dice.integers(128, 257))
        picture = picture.resize((coarse, coarse), Image.Resampling.LANCZOS, box=box)
        box = (0, 0, coarse, coarse)
    return _developed(picture.resize((VIEW, VIEW), Image.Resampling.LANCZOS, box=box), dice)


def _developed(picture: Image.Image, dice: np.random.Generator) -> NDArray[np.uint8]:
    """Other light and colours, and at times mirrored or a little blurred: for colour, alpha is left alone."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(float(dice.uniform(0.75, 1.25)))
    return np.asarray(picture)


def _varied(cutout: NDArray[np.uint8], height: int, dice: np.random.Generator) -> NDArray[np.uint8]:
    """(height, w, 4): a cut-out at that height, mirrored or not, in other light, at times blurred."""
    picture = Image.fromarray(cutout)
    rgb = Image.fromarray(_developed(picture.convert("RGB"), dice))
    alpha = picture.getchannel("A")
    if dice.random() < 0.3:
        blur = ImageFilter.GaussianBlur(float(dice.uniform(0.5, 2.5)))
        rgb, alpha = rgb.filter(blur), alpha.filter(blur)
    patch = resize_premultiplied(rgb, alpha, height, max(1, round(picture.width * height / picture.height)))
    return np.ascontiguousarray(patch[:, ::-1] if dice.random() < 0.5 else patch)


def _pasted(
    view: NDArray[np.uint8], patch: NDArray[np.uint8], y: int, x: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The composite and its mask, as fgbgpack makes them; what lies outside the view is cut off."""
    top, left = max(0, -y), max(0, -x)
    part = np.ascontiguousarray(patch[top : VIEW - y, left : VIEW - x])
    size = np.array([part.shape[:2]], np.int32)
    zero = np.zeros(1, np.int32)
    placement = Placements(
        background=zero,
        foreground=zero,
        flip=np.zeros(1, np.bool_),
        replica=zero,
        y=np.array([max(y, 0)], np.int32),
        x=np.array([max(x, 0)], np.int32),
    )
    image = np.empty((1, VIEW, VIEW, 3), np.uint8)
    mask = np.empty((1, VIEW, VIEW), np.uint8)
    Compositor(view[None], part[None], size).compose(placement, image, mask)
    return image[0], mask[0]


def _far_from(mask: NDArray[Any], pixels: int = 10) -> NDArray[np.bool_]:
    """Where no foreground is within so many pixels."""
    near = Image.fromarray((mask > 3).astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * pixels + 1))
    far: NDArray[np.bool_] = np.asarray(near) == 0
    return far

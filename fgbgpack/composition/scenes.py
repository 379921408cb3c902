"""Scenes: which objects each sample has, and what composites them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.compositor import checked_array, checked_top, is_within
from fgbgpack.composition.drawing_kernels import ANCHORED, FLOOR, INSIDE, draw_objects, match_light
from fgbgpack.composition.kernels import philox_key
from fgbgpack.composition.objects import Objects, shapes
from fgbgpack.composition.placement import check_samples, cropped, digest_of, epoch_seed
from fgbgpack.composition.scene_kernels import compose_scenes
from fgbgpack.composition.sprites import Sprites
from fgbgpack.composition.standing import Standing, feet_rows
from fgbgpack.composition.turning_kernels import TENTHS
from fgbgpack.document import IMAGE, INSTANCE, MASK, OBJECTS
from fgbgpack.errors import SpecError
from fgbgpack.scene_spec import BLENDS, LARGEST_ROTATION, Blend, Placement

_PLACEMENTS: Mapping[Placement, int] = {
    "inside": INSIDE,
    "anchored": ANCHORED,
    "floor": FLOOR,
    "auto": FLOOR,
}
#: The third word of counters, apart from those of other draws: that of random pairs, and of every pair.
_OF_SCENES, _RANDOM = 0x80000000, 0x40000000
_SAME_LIGHT = 256
#: Scenes of one background, whose numbers are a word of counters.
_MOST_SCENES = (1 << 31) - 1
#: What objects are drawn by, beside their sprites.
_DRAWN = ("flip", "y", "x", "rotation", "gain", "shadow")


@dataclass(frozen=True)
class ScenePlacements:
    """The background of each of n scenes, and which of the samples of that background it is: (n,) each."""

    background: NDArray[np.int32]
    replica: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.background)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> ScenePlacements:
        return ScenePlacements(self.background[index], self.replica[index])


@dataclass(frozen=True)
class ScenePlan:
    """Sample index to objects, in the order of the backgrounds.

    Objects depend on the seed, the sample and the pictures, not on other samples. With ``samples`` that many
    are dealt out to the backgrounds, as evenly as can be, and foregrounds are drawn; else every foreground is
    the first object of ``placements`` samples of each background, and of as many mirrored with ``flip``.

    ``cut`` says at which sides each foreground is cut, as ``cut_sides`` does, and ``categories`` what it is;
    ``empty`` is a share of 2^32, ``least_visible`` one of 2^16, ``slack`` one of 256, and ``rotation`` the
    greatest angle in tenths of a degree. ``drawn`` are the foregrounds that objects are drawn from; ``None``:
    all.
    """

    height: int
    width: int
    background_words: tuple[int, ...]
    foreground_words: tuple[int, ...]
    foreground_sizes: tuple[tuple[int, int], ...]
    cut: tuple[int, ...]
    categories: tuple[int, ...]
    random_samples: int | None
    placements: int
    flip: bool
    seed: int
    objects: tuple[int, int]
    empty: int
    heights: tuple[int, ...]
    placement: Placement
    slack: int
    least_visible: int
    rotation: int
    blends: tuple[Blend, ...]
    light_match: bool
    shadow: bool
    drawn: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_samples(self.samples)
        if self.samples_per_background > _MOST_SCENES:
            raise SpecError(
                f"{self.samples_per_background:,} samples of one background are more than "
                f"{_MOST_SCENES:,}: use more backgrounds, or fewer samples.",
                code="samples-too-many",
            )

    @property
    def samples(self) -> int:
        """All samples."""
        if self.random_samples is not None:
            return self.random_samples
        return len(self.background_words) * self._samples_of_every_pair

    @property
    def samples_per_background(self) -> int:
        """Samples of one background, or one more than some have."""
        if self.random_samples is None:
            return self._samples_of_every_pair
        return -(-self.random_samples // len(self.background_words))

    @property
    def _samples_of_every_pair(self) -> int:
        return len(self.foreground_words) * self.placements * (2 if self.flip else 1)

    @property
    def most_objects(self) -> int:
        """The most objects that a sample can have."""
        return self.objects[1]

    def at_epoch(self, epoch: int, drawn: tuple[int, ...] | None) -> ScenePlan:
        """The plan of an epoch: that of the first is this one, others draw from some of the foregrounds."""
        return replace(self, seed=epoch_seed(self.seed, epoch), drawn=drawn) if epoch else self

    def placements_of(self, samples: range | NDArray[np.int64]) -> ScenePlacements:
        """The backgrounds of some samples."""
        index = np.asarray(samples, np.int64)
        backgrounds = len(self.background_words)
        background = index * backgrounds // self.samples
        first = -(-background * self.samples // backgrounds)
        return ScenePlacements(background.astype(np.int32), (index - first).astype(np.int32))

    def objects_of(
        self,
        samples: range | NDArray[np.int64],
        sprites: Sprites,
        background: NDArray[np.uint8],
        standing: Standing,
    ) -> Objects:
        """The objects of some samples, of these sprites and backgrounds (B, h, w, 3), and where in these
        figures can stand.
        """
        placed = self.placements_of(samples)
        given, counter = self._drawn(placed)
        found = Objects.none(len(placed), self.most_objects)
        draw_objects(
            counter,
            philox_key(self.seed),
            given,
            np.array(range(len(self.cut)) if self.drawn is None else self.drawn, np.int32),
            self.height,
            self.width,
            *self.objects,
            self.empty,
            _PLACEMENTS[self.placement],
            self.slack,
            self.least_visible,
            self.rotation,
            self.flip,
            np.array([BLENDS.index(blend) for blend in self.blends], np.int8),
            sprites.levels,
            sprites.first,
            sprites.size,
            sprites.area,
            sprites.feet,
            np.array(self.cut, np.uint8),
            sprites.pixels,
            sprites.offset,
            self.shadow,
            (found.foreground, *list(found.arrays().values())[2:]),
            placed.background,
            standing.level,
            standing.count,
            standing.front,
            np.zeros((self.height, self.width), np.uint8),
        )
        is_object = found.foreground >= 0
        found.category[is_object] = np.asarray(self.categories, np.int16)[found.foreground[is_object]]
        found.gain[is_object] = _SAME_LIGHT
        if self.light_match:
            where = found.foreground, found.y, found.x, found.height, found.width
            match_light(background, placed.background, sprites.light, *where, found.gain)
        return found

    def counters(self, samples: range | NDArray[np.int64]) -> NDArray[np.uint32]:
        """(n, 3): the words of the counters that the objects of some samples are drawn with; the fourth word
        counts the draws.
        """
        return self._drawn(self.placements_of(samples))[1]

    def _drawn(self, placed: ScenePlacements) -> tuple[NDArray[np.int32], NDArray[np.uint32]]:
        """The first foreground of samples and whether it is mirrored, -1 where these are drawn, too; and the
        words of the counters.
        """
        counter = np.empty((len(placed), 3), np.uint32)
        counter[:, 0] = np.asarray(self.background_words, np.uint32)[placed.background]
        given = np.full((len(placed), 2), -1, np.int32)
        if self.random_samples is None:
            pair = 2 if self.flip else 1
            given[:, 0], within = np.divmod(placed.replica, pair * self.placements)
            given[:, 1], again = np.divmod(within, self.placements)
            counter[:, 1] = np.asarray(self.foreground_words, np.uint32)[given[:, 0]]
            counter[:, 2] = (2 * again + given[:, 1]).astype(np.uint32) | np.uint32(_OF_SCENES)
        else:
            counter[:, 1] = placed.replica
            counter[:, 2] = _OF_SCENES | _RANDOM
        return given, counter

    def recipe_digest(
        self,
        background: NDArray[np.uint8],
        foreground: NDArray[np.uint8],
        *floors: NDArray[np.int16],
    ) -> str:
        """SHA-256, 64 hexadecimal digits, of what the pixels are a function of: plan and resized sources.

        ``background`` is (B, h, w, 3) uint8, ``foreground`` (F, ph, pw, 4) uint8, zero-padded, ``floors``
        what is known of them, where that is asked for: the height of persons in pixels, and whom things
        hide, (B, h, w) int16 each.
        """
        known = [array.astype("<i2", copy=False) for array in floors]
        arrays = [background, *cropped(foreground, self.foreground_sizes), *known]
        plan = {name: value for name, value in asdict(self).items() if name != "drawn" or value is not None}
        return digest_of(b"fgbgpack scenes 1\n", plan, arrays)


class SceneCompositor:
    """Composites objects of a set of sprites. Safe to use from several threads at once.

    Backgrounds are (B, h, w, 3) uint8, RGB; ``cut`` is (F,), not 0 of foregrounds that do not stand.
    """

    def __init__(
        self,
        background: NDArray[np.uint8],
        sprites: Sprites,
        cut: NDArray[np.uint8],
        standing: Standing,
    ) -> None:
        self._background = checked_array(background, np.uint8, "background", (None, None, None, 3))
        self._sprites, self._cut = sprites, cut
        shape = self._background.shape[:3] if standing.hides else (0, 0, 0)
        self._front = checked_array(standing.front, np.int16, "front_row", shape)

    def place(self, placements: ScenePlacements, objects: Objects) -> Scenes:
        """The scenes of some samples, which are checked here once and for all (SpecError)."""
        n, most = len(placements), objects.foreground.shape[1]
        which = checked_array(placements.background, np.int32, "background", (n,))
        if not is_within(which, len(self._background)):
            raise SpecError("A placement names a background that is not there.", code="picture-unknown")
        forms = shapes(n, most)
        arrays = {}
        for name in _DRAWN:
            shape, dtype = forms[f"{OBJECTS}/{name}"]
            arrays[name] = checked_array(getattr(objects, name), dtype, f"objects.{name}", shape)
        sprite = self._sprites.index(objects.foreground, objects.height, objects.blend)
        if np.any((sprite < 0) & (objects.foreground >= 0)):
            raise SpecError(
                "An object names a foreground, a height or a blend that is not there.", code="picture-unknown"
            )
        if np.any((np.abs(objects.rotation) > LARGEST_ROTATION * TENTHS) & (objects.foreground >= 0)):
            raise SpecError(
                f"An object is turned by more than {LARGEST_ROTATION} degrees.", code="placement-outside"
            )
        # Where nothing hides objects, no one reads the rows of their feet: any array of this shape will do.
        hides = len(self._front) > 0
        rows = feet_rows(self._sprites, self._cut, sprite, objects) if hides else sprite
        return Scenes(self._background, self._sprites, which, sprite, arrays, self._front, rows)


@dataclass(frozen=True, eq=False)
class Scenes:
    """Scenes of objects, any of them at any time: :meth:`SceneCompositor.place` has checked all.

    Safe to use from several threads at once.
    """

    _background: NDArray[np.uint8]
    _sprites: Sprites
    _which: NDArray[np.int32]
    _sprite: NDArray[np.int32]
    _objects: Mapping[str, NDArray[Any]]
    #: What hides objects, (B, h, w) or (0, 0, 0), and where the feet of these are, if anything does.
    _front: NDArray[np.int16]
    _feet_row: NDArray[np.int32]

    def compose(
        self,
        samples: slice | NDArray[np.int64],
        planes: Mapping[str, NDArray[np.uint8]],
        *,
        top: int = 0,
    ) -> None:
        """Fill planes of some scenes, as :meth:`fgbgpack.composition.compositor.Composites.compose` does.

        ``planes`` are those of ``image``, ``mask`` and ``instance`` that are wanted.
        """
        which, width = self._which[samples], self._background.shape[2]
        rows = next(iter(planes.values())).shape[1]
        for name, plane in planes.items():
            shape = (len(which), rows, width, *((3,) if name == IMAGE else ()))
            checked_array(plane, np.uint8, name, shape, copy=False)
        checked_top(top, self._background.shape[1])
        image = planes.get(IMAGE)
        shape = (len(which), rows, width)
        mask, instance = (
            planes[name] if name in planes else np.empty(shape, np.uint8) for name in (MASK, INSTANCE)
        )
        sprites = self._sprites
        flip, y, x, rotation, gain, shadow = (self._objects[name][samples] for name in _DRAWN)
        compose_scenes(
            self._background,
            which,
            sprites.pixels,
            sprites.offset,
            sprites.size,
            sprites.feet,
            sprites.is_hard,
            self._sprite[samples],
            flip,
            y,
            x,
            rotation,
            gain,
            shadow,
            self._front,
            self._feet_row[samples],
            top,
            image is not None,
            np.empty((0, 0, 0, 3), np.uint8) if image is None else image,
            mask,
            instance,
        )

    def differ(
        self,
        samples: slice | NDArray[np.int64],
        planes: Mapping[str, NDArray[np.uint8]],
        *,
        top: int = 0,
    ) -> NDArray[np.bool_]:
        """Which of some scenes are not what ``planes`` hold, (n,); nothing in them is changed."""
        expected = {name: np.empty_like(plane) for name, plane in planes.items()}
        self.compose(samples, expected, top=top)
        n = len(self._which[samples])
        differs = np.zeros(n, np.bool_)
        for name, plane in planes.items():
            differs |= (plane != expected[name]).reshape(n, -1).any(axis=1)
        return differs

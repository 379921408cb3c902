"""Depth strategies: samples in, depth maps out.

A network sees each sample (:class:`PerSample`); or one sees its background (:class:`SceneDepth`), and that
depth guides another one (:class:`Guided`), or is what the foreground stands before (:class:`Layered`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import Objects
from fgbgpack.composition.occlusion_kernels import hide_alphas
from fgbgpack.composition.originals import Backgrounds, Renderer, depth_of_backgrounds
from fgbgpack.composition.placement import Placements, cropped
from fgbgpack.composition.recipe import Recipe, Samples
from fgbgpack.composition.scenes import ScenePlacements
from fgbgpack.composition.standing import feet_rows
from fgbgpack.depth.background import BackgroundDepth, centre_and_spread
from fgbgpack.depth.card import Quantity, Size
from fgbgpack.depth.kernels import half_extent
from fgbgpack.depth.layered import Layers, Outlines, Placed, figures_at, layer_step
from fgbgpack.depth.model import DepthModel, load_model
from fgbgpack.depth.providers import Execution
from fgbgpack.depth.session import DepthSession
from fgbgpack.document import IMAGE, MASK
from fgbgpack.errors import DepthModelError
from fgbgpack.sources.background_depth import filled
from fgbgpack.sources.cuts import BOTTOM
from fgbgpack.spec import FILES_MODEL, GUIDED_MODEL, DepthMode, DepthSpec
from fgbgpack.storage.reading import StoredArray

#: Samples that are rendered and run at a time, unless the session takes larger batches; and the most bytes
#: of their pictures.
_BATCH = 32
_BATCH_BYTES = 32 << 20
#: The most bytes of depth that are composed at a time in layers: they stay in a processor's cache.
_LAYERED_BYTES = 1 << 20
_FINE_BITS = 10
#: The most bytes of depth of backgrounds that are kept for those who need them next.
_SEEN_BYTES = 256 << 20

#: The digest of a network, scale, precision and execution provider, and the number of a background.
SceneKey: TypeAlias = tuple[str, int, str, str, int]
#: The minimum and the maximum of each of n depth maps, (n,) each.
Extremes: TypeAlias = tuple[NDArray[np.float16], NDArray[np.float16]]


@dataclass(frozen=True)
class Networks:
    """The networks that fill depth: ``model`` sees each sample or, where there is a guide or depth is in
    layers, each background, and is ``None`` where files say how far these are; ``guide`` sees each sample,
    guided by the depth of its background. Raises DepthModelError where one of them is of the other's kind.
    """

    model: DepthModel | None
    guide: DepthModel | None = None
    is_layered: bool = False

    def __post_init__(self) -> None:
        if self.model is not None and self.model.card.is_guided:
            raise DepthModelError(
                f"{self.model.name} is a guided network: it needs the depth of the empty background. Give it "
                "as --depth-guide, and a network that sees backgrounds as --depth-model.",
                code="model-kind-mismatch",
            )
        if self.guide is not None and not self.guide.card.is_guided:
            raise DepthModelError(
                f"{self.guide.name} is not a guided network: its card has no guides.background_depth. Give "
                f"it as --depth-model, and a guided network such as {GUIDED_MODEL} as --depth-guide.",
                code="model-kind-mismatch",
            )

    @classmethod
    def load(cls, depth: DepthSpec) -> Networks:
        """The networks that a spec names. Raises DepthModelError where one cannot be used so."""
        guide = depth.resolved_guide
        model = None if depth.model == FILES_MODEL else load_model(depth.model)
        is_layered = depth.resolved_mode == "layered"
        return cls(model, None if guide is None else load_model(guide), is_layered)

    @property
    def name(self) -> str:
        """The name of the model, or of what takes its place."""
        return FILES_MODEL if self.model is None else self.model.name

    @property
    def sha256(self) -> str | None:
        """The digest of the model's file."""
        return None if self.model is None else self.model.sha256

    @property
    def card(self) -> Mapping[str, Any] | None:
        """The document of the model's card."""
        return None if self.model is None else self.model.card.document

    @property
    def network(self) -> DepthModel:
        """The model; DepthModelError where there is none."""
        if self.model is None:
            raise DepthModelError(
                f"{FILES_MODEL!r} is no network: it is depth of backgrounds from files, which fgbgpack "
                "create takes with --background-depth. Name a network.",
                code="model-kind-mismatch",
            )
        return self.model

    @property
    def mode(self) -> DepthMode:
        """How they fill depth."""
        if self.guide is not None:
            return "guided"
        return "layered" if self.is_layered else "per-sample"

    @property
    def meaning(self) -> Quantity:
        """What the depth means: in every mode it has the quantity of the model; that of files is metric."""
        return Quantity("depth", "m") if self.model is None else self.model.card.output.meaning


class RenderedPictures:
    """Samples rendered at a scale, from the recipe of their dataset. Raises SourceError where original
    pictures, which scales above 1 need, are not those that the dataset was made of.
    """

    def __init__(self, recipe: Recipe, scale: int, *, backgrounds_kept: int) -> None:
        self.size, self.scale = (recipe.height, recipe.width), scale
        self._recipe = recipe
        self._render = Renderer(recipe, scale, backgrounds_kept=backgrounds_kept)

    def __call__(self, samples: Samples, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """Fill ``image``, (n, h * scale, w * scale, 3), RGB, and ``mask``, (n, h, w), with n samples."""
        if self.scale == 1:
            self._render(samples, image, mask)
            return
        self._render(samples, image, np.empty(image.shape[:3], np.uint8))
        self._recipe.place(samples).compose(slice(None), {MASK: mask})


class StoredPictures:
    """Samples as they are stored, of a dataset without a recipe."""

    scale = 1

    def __init__(self, image: StoredArray, mask: StoredArray, *, chunks_kept: int) -> None:
        self.size = (mask.shape[1], mask.shape[2])
        self._image, self._mask = image.reader, mask.reader
        self._image.keep = self._mask.keep = chunks_kept

    def __call__(self, samples: Samples, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """The same; raises DatasetError where the dataset is damaged or cannot be read."""
        # The caller has its own threads.
        self._image.read(samples, image, threads=1)
        self._mask.read(samples, mask, threads=1)


#: Gives the pictures of samples that a network sees, ``scale`` times as large as the sample's ``(height,
#: width)``. Safe to call from several threads at once.
Pictures: TypeAlias = RenderedPictures | StoredPictures


class PerSample:
    """Depth by a network that sees every sample, mostly ``per_call`` at a time or a multiple of that; raises
    DepthModelError where it cannot be used.
    """

    def __init__(
        self, pictures: Pictures, model: DepthModel, execution: Execution, *, per_call: int | None = None
    ) -> None:
        self.session = DepthSession(
            model, pictures.size, scale=pictures.scale, execution=execution, per_call=per_call
        )
        self.batch = _batch(self.session, pictures.size, pictures.scale)
        self._pictures, self._takes_mask = pictures, model.card.takes_mask

    def __call__(self, samples: Samples, out: NDArray[np.float16], *, step: float = 0.0) -> Extremes:
        """Fills ``out``, (n, h, w), C-contiguous, with the depth of n samples, rounded to multiples of
        ``step``, a power of two, or for 0 to float16 only. Raises DepthModelError where the network fails, or
        gives values that are not finite.
        """
        image, mask = self.session.buffers(len(out))
        self._pictures(samples, image, mask)
        return self.session.run(image, out, step=step, mask=mask if self._takes_mask else None)


class Guided:
    """Depth by a network that sees every sample, its mask, and the depth of its empty background; mostly
    ``per_call`` at a time or a multiple of that. Raises DepthModelError where it cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe,
        guide: DepthModel,
        backgrounds: BackgroundDepth,
        execution: Execution,
        *,
        per_call: int | None = None,
    ) -> None:
        size = (recipe.height, recipe.width)
        self.session = DepthSession(
            guide, size, execution=execution, backgrounds=backgrounds, per_call=per_call
        )
        self.batch = _batch(self.session, size, 1)
        self._recipe, self._takes_mask = recipe, guide.card.takes_mask

    def __call__(self, samples: Samples, out: NDArray[np.float16], *, step: float = 0.0) -> Extremes:
        """As :meth:`PerSample.__call__`."""
        placements = self._recipe.placements(samples)
        image, mask = self.session.buffers(len(out))
        self._recipe.place(samples, placements).compose(slice(None), {IMAGE: image, MASK: mask})
        guide_mask = mask if self._takes_mask else None
        return self.session.run(image, out, step=step, mask=guide_mask, background=placements.background)


class Layered:
    """Depth of samples in layers: that of the background, and before it the foreground as a plane, as far
    away as a person of its height is. No network sees the samples.

    ``depth``, ``(B, h, w)`` float32, is that of the backgrounds, finite, and ``figures`` of each what
    :func:`fgbgpack.depth.layered.figure_depth` gives.
    """

    def __init__(
        self, recipe: Recipe, depth: NDArray[np.float32], figures: NDArray[np.float32], meaning: Quantity
    ) -> None:
        self._recipe, self._meaning = recipe, meaning
        self._depth, self._figures = BackgroundDepth.of(depth, meaning).depth, figures
        self._outlines = _outlines(recipe)
        self.batch = max(1, _LAYERED_BYTES // (2 * recipe.height * recipe.width))
        self._layers: Layers | None = None

    def step(self, bits: int) -> float:
        """The grid of depth that gives the range of it so many bits; it depends on the pictures only."""
        low, high = float(self._depth.min()), float(self._depth.max())
        highest = self._outlines.person_pixels.max()
        nearest = figures_at(self._figures, np.full(len(self._figures), highest), self._meaning)
        if not np.isnan(nearest).all():
            # What is farther than all backgrounds comes before what it hides.
            low, high = (
                (low, max(high, float(np.nanmax(nearest))))
                if self._meaning.kind == "inverse_depth"
                else (min(low, float(np.nanmin(nearest))), high)
            )
        return layer_step(low, high, bits)

    def layers(self, step: float) -> Layers:
        """What composes depth on a grid; it is kept, as there is one grid only."""
        if self._layers is None or self._layers.step != step:
            self._layers = Layers(self._depth, self._figures, self._meaning, self._outlines, step)
        return self._layers

    def __call__(self, samples: Samples, out: NDArray[np.float16], *, step: float = 0.0) -> Extremes:
        """As :meth:`PerSample.__call__`, exactly on the grid; for 0 on a fine one."""
        recipe = self._recipe
        objects = recipe.objects(samples) if recipe.has_objects else None
        self.fill(recipe.placements(samples), objects, out, step=step)
        minimum, maximum = np.empty((2, len(out)), np.float16)
        half_extent(
            out.view(np.uint16).reshape(len(out), -1), minimum.view(np.uint16), maximum.view(np.uint16)
        )
        return minimum, maximum

    def fill(
        self,
        placed: Placements | ScenePlacements,
        objects: Objects | None,
        out: NDArray[np.float16],
        *,
        step: float = 0.0,
    ) -> None:
        """Fill ``out`` as :meth:`__call__` does, of samples whose placements, or objects, are known."""
        layers = self.layers(step or self.step(_FINE_BITS))
        outline, before, outlines = self._before(placed, objects)
        layers.compose(placed.background, before, layers.numbers(placed.background, outline), out, outlines)

    def objects_at(
        self, placed: Placements | ScenePlacements, objects: Objects | None, step: float
    ) -> NDArray[np.float64]:
        """(n, K): the depth of each object of some samples on a grid, as it is drawn; NaN where there is
        none.
        """
        layers = self.layers(step)
        outline, before, outlines = self._before(placed, objects)
        out = np.empty((len(outline), self._recipe.height, self._recipe.width), np.float16)
        numbers = layers.numbers(placed.background, outline)
        drawn = layers.compose(placed.background, before, numbers, out, outlines)
        return np.where(before.outline < 0, np.nan, drawn * step)

    def with_recipe(self, recipe: Recipe) -> Layered:
        """The same of another recipe of the same pictures."""
        other = copy.copy(self)
        other._recipe = recipe
        return other

    def _before(
        self, placed: Placements | ScenePlacements, objects: Objects | None
    ) -> tuple[NDArray[np.int32], Placed, Outlines]:
        """The outlines of what is before the backgrounds of some samples; where it is, and what it looks like
        there.
        """
        if isinstance(placed, Placements):
            outline = self._outlines.number(placed.foreground, placed.flip)[:, None]
            return outline, Placed(outline, placed.y[:, None], placed.x[:, None]), self._outlines
        if objects is None:
            raise ValueError("depth of scenes is that of their objects")
        sprite = self._recipe.sprites.index(objects.foreground, objects.height, objects.blend)
        outline = self._outlines.number(sprite, objects.flip)
        return outline, *self._turned(placed.background, objects, sprite, outline)

    def _turned(
        self,
        background: NDArray[np.int32],
        objects: Objects,
        sprite: NDArray[np.int32],
        outline: NDArray[np.int32],
    ) -> tuple[Placed, Outlines]:
        """Where objects of these sprites are, and what can be seen of them before their backgrounds."""
        y, x = objects.y.astype(np.int32), objects.x.astype(np.int32)
        if not (self._recipe.spec.rotation or self._recipe.spec.occlude):
            return Placed(outline, y, x), self._outlines
        turned = self._recipe.sprites.turned(sprite, objects.flip, objects.rotation)
        number = np.arange(sprite.size, dtype=np.int32).reshape(sprite.shape)
        placed = Placed(
            np.where(sprite < 0, np.int32(-1), number), y - turned.margin[..., 0], x - turned.margin[..., 1]
        )
        if self._recipe.spec.occlude:
            standing, cut = self._recipe.standing, self._recipe.catalog.cut
            hide_alphas(
                standing.front,
                background,
                feet_rows(self._recipe.sprites, cut, sprite, objects),
                placed.y,
                placed.x,
                turned.size,
                turned.offset,
                turned.alpha,
            )
        return placed, Outlines(turned.alpha, turned.offset, turned.size, self._outlines.person_pixels)


def _outlines(recipe: Recipe) -> Outlines:
    """The outlines of all that a recipe pastes."""
    catalog = recipe.catalog
    whole = cropped(catalog.foreground, recipe.plan.foreground_sizes)
    is_portrait = [bool(sides & BOTTOM) for sides in catalog.cut.tolist()]
    if not recipe.has_objects:
        return Outlines.of([patch[..., 3] for patch in whole], is_portrait)
    sprites = recipe.sprites
    bounds = [*sprites.offset.tolist(), len(sprites.pixels)]
    alphas = [
        sprites.pixels[start + 3 : stop : 4].reshape(size)
        for start, stop, size in zip(bounds, bounds[1:], sprites.size.tolist(), strict=False)
    ]
    foreground = np.repeat(np.arange(len(whole)), sprites.levels * len(sprites.blends))
    return Outlines.of(alphas, [is_portrait[i] for i in foreground])


#: Gives the depth of samples, best in batches of ``batch``. Safe to call from several threads at once.
DepthSource: TypeAlias = PerSample | Guided | Layered


class SeenBackgrounds:
    """Depth of the backgrounds of one recipe that a network has been asked for, until it is needed again:
    none is seen twice by the same network. Safe to use from several threads at once.
    """

    def __init__(self) -> None:
        self._depth: dict[SceneKey, NDArray[np.float32]] = {}

    def put(self, key: SceneKey, depth: NDArray[np.float32]) -> None:
        """Keep the depth of a background, (h, w), unless there are too many."""
        if (len(self._depth) + 1) * depth.nbytes <= _SEEN_BYTES:
            self._depth[key] = depth

    def take(self, key: SceneKey) -> NDArray[np.float32] | None:
        """The depth that was kept, and now no longer is."""
        return self._depth.pop(key, None)


class SceneDepth:
    """Depth of empty backgrounds, by a network that sees each in two sizes, as it is and mirrored.

    The errors of a network differ between sizes and between mirror images, so the mean of the four is nearer
    to the truth; it costs little, since each background is seen once. The second size is one step of the
    scale up. It is left out at scale 1, where the step would double the size, and for networks of one size.

    Safe to call from several threads at once; each call keeps one background in memory. Raises SourceError
    where original pictures, which are read for scales above 1, are missing, or not those that the dataset was
    made of, and DepthModelError where the network, or the device, cannot be used.
    """

    def __init__(self, recipe: Recipe, model: DepthModel, scale: int, execution: Execution) -> None:
        self._names = [source.name for source in recipe.catalog.backgrounds]
        self._size = height, width = recipe.height, recipe.width
        self._is_relative = model.card.output.unit is None
        self._no_foreground = np.zeros((2, height, width), np.uint8) if model.card.takes_mask else None
        size_for = model.card.input.size.size_for
        first, second = (size_for(height * s, width * s) for s in (scale, scale + 1))
        scales = (scale,) if scale == 1 or first == second else (scale, scale + 1)
        self._pictures = Backgrounds(recipe, *scales)
        self._sessions = [
            DepthSession(model, self._size, scale=s, execution=execution, per_call=2) for s in scales
        ]
        self.session = self._sessions[0]
        self._seen_by = model.sha256, scale, self.session.precision, self.session.provider

    def key(self, index: int) -> SceneKey:
        """What the depth of a background depends on, for one recipe."""
        return (*self._seen_by, index)

    def __call__(self, index: int) -> NDArray[np.float32]:
        """The depth of a background, (h, w), finite, in the quantity and unit of the model's card: the mean
        of the network's answers. Relative answers are first brought to the median and the mean absolute
        deviation of the answer to the unmirrored picture in the first size. Raises SourceError and
        DepthModelError.
        """
        answers = []
        for picture, session in zip(self._pictures(index), self._sessions, strict=True):
            both = np.empty((2, *self._size), np.float16)
            try:
                session.run(np.stack([picture, picture[:, ::-1]]), both, mask=self._no_foreground)
            except DepthModelError as exc:
                exc.add_note(f"while running on the background {self._names[index]}")
                raise
            answers += [both[0].astype(np.float64), both[1, :, ::-1].astype(np.float64)]
        if self._is_relative:
            (centre, spread), *others = map(centre_and_spread, answers)
            answers[1:] = [
                (answer - its_centre) / its_spread * spread + centre
                for answer, (its_centre, its_spread) in zip(answers[1:], others, strict=True)
            ]
        mean: NDArray[np.float32] = np.mean(answers, axis=0).astype(np.float32)
        return mean


class FileDepth:
    """Depth of empty backgrounds, as files say it: metres. Raises SourceError as
    :func:`fgbgpack.composition.originals.depth_of_backgrounds`. Safe to call from several threads at once.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.measured = depth_of_backgrounds(recipe)

    def __call__(self, index: int) -> NDArray[np.float32]:
        """The depth of a background, (h, w), finite: what is unknown is filled from its sides."""
        return filled(self.measured[index])


def _batch(session: DepthSession, size: Size, scale: int) -> int:
    """How many samples to render at a time."""
    if session.has_one_batch_size:
        return session.batch_size
    rendered_bytes = size[0] * size[1] * scale**2 * 3
    return max(1, min(max(_BATCH, session.batch_size), _BATCH_BYTES // rendered_bytes))

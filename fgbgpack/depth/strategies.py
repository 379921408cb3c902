"""What gives the depth of samples: a network that sees each of them, or one that is guided by the depth of
their backgrounds, which another network has seen before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.originals import Backgrounds, Renderer
from fgbgpack.composition.recipe import Recipe, Samples
from fgbgpack.depth import BackgroundDepth, DepthModel, DepthSession, Device, load_model
from fgbgpack.depth.background import centre_and_spread
from fgbgpack.depth.card import input_size
from fgbgpack.depth.precision import Precision
from fgbgpack.errors import DepthModelError
from fgbgpack.spec import GUIDED_MODEL, DepthMode, DepthSpec
from fgbgpack.storage.reading import StoredArray

#: Samples that are rendered and run at a time: so many, or as many as the network sees at once, which is the
#: session's affair; but no more than take so many bytes.
_BATCH = 32
_BATCH_BYTES = 32 << 20



@dataclass(frozen=True)
class Networks:
    """The networks that fill depth, and so in which mode.

    Attributes:
        model: What sees each sample, or where there is a guide, each background.
        guide: What sees each sample and is told the depth of its background; ``None`` per sample.

    Raises:
        DepthModelError: One of them is of the other's kind.
    """

    model: DepthModel
    guide: DepthModel | None = None

    def __post_init__(self) -> None:
        if self.model.is_guided:
            raise DepthModelError(
                f"{self.model.name} is a guided network: it has to be told the depth of the empty "
                "background. Give it as --depth-guide, and a network that sees backgrounds as --depth-model."
            )
        if self.guide is not None and not self.guide.is_guided:
            raise DepthModelError(
                f"{self.guide.name} is no guided network: its card says nothing of the background's depth "
                "(guides.background_depth). Give it as --depth-model, and as --depth-guide one that is told, "
                f"such as {GUIDED_MODEL}."
            )

    @classmethod
    def load(cls, depth: DepthSpec) -> Networks:
        """The networks that a spec names.

        Raises:
            DepthModelError: One of them is not there, cannot be used, or is of the other's kind.
        """
        guide = depth.resolved_guide
        return cls(load_model(depth.model), None if guide is None else load_model(guide))

    @property
    def mode(self) -> DepthMode:
        """How depth is filled by them."""
        return "per-sample" if self.guide is None else "guided"

    @property
    def output(self) -> Mapping[str, Any]:
        """What depth by them means, as a card says it: guided or not, it is in the terms of the model."""
        output: Mapping[str, Any] = self.model.card["output"]
        return output


class Pictures(Protocol):
    """What gives the pictures of samples that a network sees. Safe to call from several threads at once.

    Attributes:
        height: Height of a sample in pixels.
        width: Width of a sample in pixels.
        scale: How many times as large as a sample its picture is.
    """

    height: int
    width: int
    scale: int

    def __call__(
        self, samples: Samples, *, with_mask: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """The pictures of n samples, and their masks.

        Returns:
            (n, h * scale, w * scale, 3) uint8, RGB; and (n, h, w) uint8, ``None`` unless it is asked for.
        """


class RenderedPictures:
    """Samples drawn anew at a scale, from the recipe of their dataset; masks are of the sample's size.

    Args:
        recipe: What the samples are; its spec's folders are read for scales above 1.
        scale: How many times as large as a sample its picture is.
        backgrounds_kept: How many backgrounds stay in memory, for scales above 1.

    Raises:
        SourceError: The original pictures are not there, or not the ones the dataset was made of.
    """

    def __init__(self, recipe: Recipe, scale: int, *, backgrounds_kept: int) -> None:
        self.height, self.width, self.scale = recipe.height, recipe.width, scale
        self._render = Renderer(recipe, scale, backgrounds_kept=backgrounds_kept)
        self._as_sample = self._render if scale == 1 else Renderer(recipe, 1, backgrounds_kept=0)

    def __call__(
        self, samples: Samples, *, with_mask: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """As :class:`Pictures` has it."""
        image, mask = self._render(samples)
        if with_mask and self.scale > 1:
            _, mask = self._as_sample(samples)
        return image, mask if with_mask else None


class StoredPictures:
    """Samples as they are stored, of a dataset that has no recipe to draw them by.

    Args:
        image: (n, h, w, 3) uint8, RGB.
        mask: (n, h, w) uint8.
        chunks_kept: How many decoded chunks of each stay in memory, for reads that come back to them.
    """

    scale = 1

    def __init__(self, image: StoredArray, mask: StoredArray, *, chunks_kept: int) -> None:
        _, self.height, self.width = mask.shape
        self._image, self._mask = image.reader, mask.reader
        self._image.keep = self._mask.keep = chunks_kept

    def __call__(
        self, samples: Samples, *, with_mask: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """As :class:`Pictures` has it.

        Raises:
            DatasetError: The dataset is damaged or cannot be read.
        """
        # Whoever calls has threads enough.
        image = self._image.read(samples, threads=1)
        return image, self._mask.read(samples, threads=1) if with_mask else None


class DepthSource(Protocol):
    """What gives the depth of samples. Safe to call from several threads at once.

    Attributes:
        session: What runs the network.
        batch: How many samples it had better be asked for at a time.
    """

    session: DepthSession
    batch: int

    def __call__(
        self, samples: Samples, out: NDArray[np.float16], *, step: float = 0.0
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Fill ``out`` with the depth of n samples.

        Args:
            samples: The n samples.
            out: (n, h, w), C-contiguous.
            step: The power of two that values are rounded to multiples of; 0 rounds to float16 only.

        Returns:
            The minimum and the maximum of each sample, (n,) each.

        Raises:
            DepthModelError: The network fails, or gives values that are not finite.
        """


class PerSample:
    """Depth by a network that sees every sample.

    Args:
        pictures: What it sees of them.
        model: The network.
        precision: What its products are taken in.
        device: What runs it.

    Raises:
        DepthModelError: The network, or the device, cannot be used.
    """

    def __init__(
        self, pictures: Pictures, model: DepthModel, *, precision: Precision, device: Device
    ) -> None:
        size = (pictures.height, pictures.width)
        self.session = DepthSession(
            model, height=size[0], width=size[1], scale=pictures.scale, precision=precision, device=device
        )
        self.batch = _batch(self.session, size, pictures.scale)
        self._pictures = pictures
        self._takes_mask = model.takes_mask

    def __call__(
        self, samples: Samples, out: NDArray[np.float16], *, step: float = 0.0
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """As :class:`DepthSource` has it."""
        image, mask = self._pictures(samples, with_mask=self._takes_mask)
        return self.session.run(image, out, step=step, mask=mask)


class Guided:
    """Depth by a network that sees every sample, its mask, and the depth of its empty background.

    Args:
        recipe: What the samples are.
        guide: The network.
        backgrounds: The depth of all backgrounds of the dataset, or of those that will be asked for, at
            their places.
        precision: What the network's products are taken in.
        device: What runs it.

    Raises:
        DepthModelError: The network, or the device, cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe,
        guide: DepthModel,
        backgrounds: BackgroundDepth,
        *,
        precision: Precision,
        device: Device,
    ) -> None:
        self.session = DepthSession(
            guide,
            height=recipe.height,
            width=recipe.width,
            precision=precision,
            device=device,
            backgrounds=backgrounds,
        )
        self.batch = _batch(self.session, (recipe.height, recipe.width), 1)
        self._recipe = recipe
        self._takes_mask = guide.takes_mask

    def __call__(
        self, samples: Samples, out: NDArray[np.float16], *, step: float = 0.0
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """As :class:`DepthSource` has it."""
        placements = self._recipe.placements(samples)
        image = np.empty((len(samples), self._recipe.height, self._recipe.width, 3), np.uint8)
        mask = np.empty(image.shape[:3], np.uint8)
        self._recipe.compositor.compose(placements, image, mask)
        return self.session.run(
            image,
            out,
            step=step,
            mask=mask if self._takes_mask else None,
            background=placements.background,
        )


class SceneDepth:
    """Depth of empty backgrounds, by a network that sees each in two sizes, as it is and mirrored.

    A network errs otherwise at another size and in the mirror, so the mean over the four is nearer to what is
    there; a background is seen once, so it costs next to nothing. The second size is one step of the scale
    up. It is left out at scale 1, where the step would double the size, and where a network takes one size.

    Safe to call from several threads at once; each holds one background at a time.

    Args:
        recipe: What the samples are; its spec's folder of backgrounds is read for scales above 1.
        model: The network.
        scale: How many times as large as a sample the background is that it sees first.
        precision: What its products are taken in.
        device: What runs it.

    Attributes:
        session: What runs the network at the first size.

    Raises:
        SourceError: The original pictures are not there, or not the ones the dataset was made of.
        DepthModelError: The network, or the device, cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: DepthModel,
        scale: int,
        *,
        precision: Precision,
        device: Device,
    ) -> None:
        self._names = [source.name for source in recipe.catalog.backgrounds]
        self._size = height, width = recipe.height, recipe.width
        self._is_relative = model.card["output"]["unit"] is None
        self._no_foreground = np.zeros((2, *self._size), np.uint8) if model.takes_mask else None
        first, second = (input_size(model.card, height * s, width * s) for s in (scale, scale + 1))
        scales = (scale,) if scale == 1 or first == second else (scale, scale + 1)
        self._seen = [
            (
                Backgrounds(recipe, s),
                DepthSession(
                    model, height=height, width=width, scale=s, precision=precision, device=device
                ),
            )
            for s in scales
        ]
        self.session = self._seen[0][1]

    def __call__(self, index: int) -> NDArray[np.float32]:
        """The depth of a background: the mean of what the network says of it.

        Scale and shift of relative depth are those that the network gave to the picture itself at the first
        size: its other answers are brought to the same median and mean absolute deviation before.

        Returns:
            (h, w), finite, in the quantity and unit of the model's card.

        Raises:
            SourceError: The original picture cannot be used, or is not the one the dataset was made of.
            DepthModelError: The network fails, or gives values that are not finite.
        """
        answers = []
        for pictures, session in self._seen:
            picture = pictures(index)
            both = np.empty((2, *self._size), np.float16)
            try:
                session.run(np.stack([picture, picture[:, ::-1]]), both, mask=self._no_foreground)
            except DepthModelError as exc:
                exc.add_note(f"while running on the background {self._names[index]}")
                raise
            answers += [both[0].astype(np.float64), both[1, :, ::-1].astype(np.float64)]
        if self._is_relative:
            centre, spread = centre_and_spread(answers[0])
            answers[1:] = [_brought_to(centre, spread, answer) for answer in answers[1:]]
        mean: NDArray[np.float32] = np.mean(answers, axis=0).astype(np.float32)
        return mean


def _brought_to(centre: float, spread: float, depth: NDArray[np.float64]) -> NDArray[np.float64]:
    its_centre, its_spread = centre_and_spread(depth)
    return (depth - its_centre) / its_spread * spread + centre


def _batch(session: DepthSession, size: tuple[int, int], scale: int) -> int:
    rendered_bytes = size[0] * size[1] * scale**2 * 3
    return max(1, min(max(_BATCH, session.batch_size), _BATCH_BYTES // rendered_bytes))

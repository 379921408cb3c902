"""Check a depth model on rendered rooms of known depth: is its answer depth, with near and far the right way?

A guided network gets the rooms' true depth, and has to place figures that stand on their floors.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fgbgpack.depth import BackgroundDepth, DepthModel, DepthSession, Device, Execution
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.guided import HIDING
from fgbgpack.depth.precision import Precision
from fgbgpack.rendering import Scene, render_scene
from fgbgpack.visual.canvas import INK, PAPER
from fgbgpack.visual.colours import depth_colours
from fgbgpack.visual.floor import FloorFigures
from fgbgpack.visual.statistics import OPAQUE, band_width, outline_bands, outline_step, spearman

#: The rooms: one of each kind, at the size of the sample pictures.
_ROOMS, _HEIGHT, _WIDTH = 5, 240, 320

#: The rank agreement that a model must reach above that of a plain gradient. Lower parts of a picture are
#: mostly nearer, so the gradient alone reaches 0.61 in these rooms. TCMonoDepth small, a very small network,
#: reaches 0.83 with its card, and 0.67 with a wrong value range.
_ABOVE_GRADIENT = 0.1

#: Largest factor between metres and true metres; beyond it they are of another unit, or not metres at all.
_LARGEST_METRE_FACTOR = 3.0

#: Largest relative error of a figure's depth; beyond it the figure is not placed at all.
_LARGEST_FIGURE_ERROR = 0.5

#: The part of the true step at a figure's outline that a model must reach.
_LEAST_STEP = 0.5

#: Pictures are run repeatedly until this much time is measured.
_TIMED_SECONDS = 0.5

_GAP, _CAPTION = 8, 22


@dataclass(frozen=True)
class FigureCheck:
    """The depth that a guided network gives n figures that stand on the floor of rooms.

    Attributes:
        distance: True depth of each figure in metres.
        found: The median of its depth over each figure's opaque pixels.
        step: How much nearer figures are than the pixels beside them: the mean ``outline_step``.
        true_step: The same of true depth.
        uses_mask: Whether another mask changes the depth of the figures; ``None`` if the network takes none.
    """

    distance: tuple[float, ...]
    found: tuple[float, ...]
    step: float
    true_step: float
    uses_mask: bool | None

    @property
    def each_off(self) -> tuple[float, ...]:
        """Relative error of each figure's depth."""
        return tuple(abs(f / d - 1) for f, d in zip(self.found, self.distance, strict=True))

    @property
    def off(self) -> float:
        """Their median."""
        return float(np.median(self.each_off))


@dataclass(frozen=True)
class ModelCheck:
    """Results of a model on n rendered rooms of h x w pixels.

    Attributes:
        picture: ``(h, w)`` of the rooms.
        network: ``(h, w)`` of the network's input for them, by the card's size rule.
        quantity: As the card says; of a guided network ``"depth"``, since it gets the rooms' depth in metres.
        minimum: The smallest value; ``maximum`` is the largest.
        agreement: Spearman's rank correlation with true nearness, for each room: 1 if all pixels are in the
            true order from near to far, 0 for noise, negative where nearer comes out farther.
        gradient: The same for a picture that only gets brighter from top to bottom, mean over the rooms.
        metres: The median of depth over true depth, where the unit is metres.
        rate: Pictures per second.
        problems: One line for each sign that the model or its card is wrong.
        images: ``(n, h, w, 3)``, uint8: the pictures.
        truth: ``(n, h, w)``, float32: true depth in metres.
        depth: ``(n, h, w)``, float16: the model's answer.
    """

    model: str
    path: str
    sha256: str
    provider: str
    precision: str
    picture: tuple[int, int]
    network: tuple[int, int]
    quantity: str
    unit: str | None
    minimum: float
    maximum: float
    agreement: tuple[float, ...]
    gradient: float
    metres: float | None
    rate: float
    figures: FigureCheck | None
    problems: tuple[str, ...]
    images: NDArray[np.uint8] = field(repr=False, compare=False)
    truth: NDArray[np.float32] = field(repr=False, compare=False)
    depth: NDArray[np.float16] = field(repr=False, compare=False)

    @property
    def rank(self) -> float:
        """Mean rank agreement over the rooms."""
        return float(np.mean(self.agreement))

    def to_dict(self) -> dict[str, Any]:
        """All but the arrays, as JSON."""
        document = {f.name: getattr(self, f.name) for f in fields(self) if f.repr}
        if self.figures is not None:
            document["figures"] = asdict(self.figures) | {"off": self.figures.off}
        return document | {"rank": self.rank, "ok": not self.problems}


def check_model(model: DepthModel, *, precision: Precision = "fp32", device: Device = "auto") -> ModelCheck:
    """Run a model on rendered rooms and compare its answer with their true depth.

    Rendered rooms are no photographs, so the agreement says whether the card is right, not which of two
    models is better. A DepthModelError says that it cannot run, or gives values that are not finite.
    """
    guided, backgrounds = model.card.is_guided, None
    guides: dict[str, Any] = {}
    images, truth = scene_pictures()
    if guided:
        backgrounds = BackgroundDepth.of(truth, Quantity("depth", "m"))
        guides["background"] = floor_figures().scene
    if guided or model.card.takes_mask:
        images, truth = floor_figures().image, floor_figures().truth
    if model.card.takes_mask:
        guides["mask"] = floor_figures().mask
    execution = Execution(precision, device)
    session = DepthSession(model, (_HEIGHT, _WIDTH), execution=execution, backgrounds=backgrounds)
    depth = np.empty(truth.shape, np.float16)
    session.run(images, depth, **guides)
    quantity, unit = model.card.output.meaning if backgrounds is None else backgrounds.meaning
    sign = 1 if quantity == "inverse_depth" else -1
    agreement = tuple(spearman(sign * d, -t) for d, t in zip(depth, truth, strict=True))
    rows = np.repeat(np.arange(_HEIGHT), _WIDTH)
    gradient = float(np.mean([spearman(rows, -t) for t in truth]))
    metres = float(np.median(depth.astype(np.float32) / truth)) if unit == "m" and not guided else None
    figures = _check_figures(session, depth, guides) if guided else None
    if figures is None:
        problems = _problems(depth, float(np.mean(agreement)), gradient, metres)
    else:
        problems = _guided_problems(figures)
    return ModelCheck(
        model=model.name,
        path=str(model.path),
        sha256=model.sha256,
        provider=session.provider,
        precision=precision,
        picture=(_HEIGHT, _WIDTH),
        network=model.card.input.size.size_for(_HEIGHT, _WIDTH),
        quantity=quantity,
        unit=unit,
        minimum=float(depth.min()),
        maximum=float(depth.max()),
        agreement=agreement,
        gradient=gradient,
        metres=metres,
        rate=_rate(lambda: session.run(images, depth, **guides), len(images)),
        figures=figures,
        problems=tuple(problems),
        images=images,
        truth=truth,
        depth=depth,
    )


@cache
def _scenes() -> tuple[Scene, ...]:
    with ThreadPoolExecutor(max_workers=min(_ROOMS, os.cpu_count() or 1)) as pool:
        return tuple(pool.map(partial(render_scene, height=_HEIGHT, width=_WIDTH), range(_ROOMS)))


@cache
def scene_pictures() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The rooms, (5, h, w, 3) uint8, and their true depth in metres, (5, h, w) float32; read-only."""
    images = np.stack([scene.image for scene in _scenes()])
    truth = np.stack([scene.depth for scene in _scenes()])
    images.flags.writeable = truth.flags.writeable = False
    return images, truth


@cache
def floor_figures() -> FloorFigures:
    """The rooms with figures on their floors."""
    return FloorFigures.of(_scenes())


def _check_figures(session: DepthSession, depth: NDArray[np.float16], guides: dict[str, Any]) -> FigureCheck:
    figures = floor_figures()
    opaque = figures.mask >= OPAQUE
    uses_mask = None
    if "mask" in guides:
        # A mask as if everything had been pasted: inside the figures, only the network can make a difference,
        # since fgbgpack itself looks at opaque pixels alone, to put them before what they hide.
        other = np.empty_like(depth)
        session.run(figures.image, other, **guides | {"mask": np.maximum(figures.mask, HIDING)})
        inside = figures.mask == 255
        uses_mask = bool((other[inside] != depth[inside]).any())
    found, steps, true_steps = [], [], []
    for i, mask in enumerate(figures.mask):
        answer = depth[i].astype(np.float64)
        found.append(float(np.median(answer[opaque[i]])))
        height = int(np.count_nonzero(opaque[i].any(axis=1)))
        bands = outline_bands(mask, band_width(height))
        steps.append(outline_step(1 / answer, *bands) or 0.0)
        true_steps.append(outline_step(1 / figures.truth[i], *bands) or 0.0)
    return FigureCheck(
        distance=tuple(map(float, figures.distance)),
        found=tuple(found),
        step=float(np.mean(steps)),
        true_step=float(np.mean(true_steps)),
        uses_mask=uses_mask,
    )


def _rate(run: Callable[[], object], count: int) -> float:
    done, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < _TIMED_SECONDS:
        run()
        done += count
    return done / seconds


def _guided_problems(figures: FigureCheck) -> list[str]:
    problems = []
    if figures.uses_mask is False:
        problems.append(
            "the mask is ignored: with another mask, the figures' depth stays the same. Look at "
            "guides.mask.name, which may be that of another input"
        )
    if figures.step < _LEAST_STEP * figures.true_step:
        problems.append(
            f"figures do not stand out: the step at their outlines is {figures.step:.2f} standard "
            f"deviations, and {figures.true_step:.2f} in true depth. Look at guides.mask.range, "
            "output.transform and output.of, and at input.range, mean and std"
        )
    if figures.off > _LARGEST_FIGURE_ERROR:
        problems.append(
            f"figures are misplaced: their distance is {figures.off:.0%} off (median). Look at guides, "
            "output.transform, and at input.range, mean and std"
        )
    return problems


def _problems(depth: NDArray[np.float16], rank: float, gradient: float, metres: float | None) -> list[str]:
    if all(values.min() == values.max() for values in depth):
        return [
            "every pixel of a picture has the same value: look at input.range, mean and std, and at "
            "output.transform (a clip may cut everything off)"
        ]
    problems = []
    required = gradient + _ABOVE_GRADIENT
    if rank <= -required:
        problems.append(
            "nearer comes out farther: output.quantity is the wrong one of 'depth' and 'inverse_depth', or "
            "output.transform inverts it"
        )
    elif rank < required:
        problems.append(
            f"depth hardly follows the true one: its rank agreement is {rank:.2f}, and a plain gradient from "
            f"top to bottom reaches {gradient:.2f}. Look at input.range, mean, std, channels and size"
        )
    if metres is not None and not 1 / _LARGEST_METRE_FACTOR <= metres <= _LARGEST_METRE_FACTOR:
        problems.append(
            f"metres are {metres:.3g} times the true ones: look at output.transform and output.unit"
        )
    return problems


def render_check(check: ModelCheck) -> Image.Image:
    """Draw each room in a row: the picture, its true depth, and the model's depth; near is bright in both."""
    n, height, width = check.truth.shape
    canvas = Image.new("RGB", (3 * width + 4 * _GAP, n * (height + _GAP) + _CAPTION + _GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    unit = f" in {check.unit}" if check.unit else ""
    captions = ("picture", "true depth", f"{check.quantity.replace('_', ' ')}{unit}, {check.model}")
    for column, caption in enumerate(captions):
        at = (_GAP + column * (width + _GAP), _GAP // 2)
        draw.text(at, caption, fill=INK, font=ImageFont.load_default(15))
    for row in range(n):
        cells = (
            check.images[row],
            depth_colours(check.truth[row], larger_is_nearer=False),
            depth_colours(check.depth[row], larger_is_nearer=check.quantity == "inverse_depth"),
        )
        for column, cell in enumerate(cells):
            at = (_GAP + column * (width + _GAP), _CAPTION + _GAP + row * (height + _GAP))
            canvas.paste(Image.fromarray(cell), at)
    return canvas

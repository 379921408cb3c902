"""Try a depth model on rooms whose depth is known: is what it says depth, and the right way round?"""

from __future__ import annotations

import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fgbgpack.depth import DepthModel, DepthSession, Device
from fgbgpack.depth.card import input_size
from fgbgpack.depth.precision import Precision
from fgbgpack.report.colours import depth_colours
from fgbgpack.report.page import INK, PAPER
from fgbgpack.report.statistics import spearman
from fgbgpack.scenes import render_scene

#: The rooms: one of each kind, at the size of the sample pictures.
_ROOMS, _HEIGHT, _WIDTH = 5, 240, 320

#: How much better than a plain gradient a model has to order the pixels. What is lower in a picture is mostly
#: nearer, so the gradient alone reaches 0.61 in these rooms. TCMonoDepth small, a very small network, reaches
#: 0.83 with its card, and 0.67 with the value range wrong.
_ABOVE_GRADIENT = 0.1

#: Metres that are off by more than this factor are of another unit, or not metres at all.
_METRES_OFF = 3.0

#: Pictures are run again until this much time is measured.
_TIMED_SECONDS = 0.5

_GAP, _CAPTION = 8, 22


@dataclass(frozen=True)
class ModelCheck:
    """What came out of a model for n rendered rooms of h x w pixels.

    Attributes:
        model: The model's name.
        path: Its ONNX file.
        sha256: The digest of that.
        provider: What ran it.
        precision: What its products were taken in.
        picture: ``(h, w)`` of the rooms.
        network: ``(h, w)`` of the network's input for them, by the card's size rule.
        quantity: ``"depth"`` or ``"inverse_depth"``, as the card says.
        unit: ``"m"`` or ``None``.
        minimum: The smallest value that it gave.
        maximum: The largest.
        agreement: Spearman's rank correlation with true nearness, for each room: 1 if it orders all pixels
            from near to far as they are, 0 for noise, negative where nearer comes out farther.
        gradient: The same for a picture that only gets brighter from top to bottom, mean over the rooms.
        metres: The median of its depth over the true one, where the unit is metres.
        rate: Pictures a second.
        problems: One line for each thing that speaks against the model or its card; empty if there is none.
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
    problems: tuple[str, ...]
    images: NDArray[np.uint8] = field(repr=False, compare=False)
    truth: NDArray[np.float32] = field(repr=False, compare=False)
    depth: NDArray[np.float16] = field(repr=False, compare=False)

    @property
    def rank(self) -> float:
        """Mean rank agreement over the rooms."""
        return float(np.mean(self.agreement))

    def to_dict(self) -> dict[str, Any]:
        """All but the arrays, as JSON has it."""
        arrays = {"images", "truth", "depth"}
        fields = [f.name for f in dataclasses.fields(self) if f.name not in arrays]
        return {name: getattr(self, name) for name in fields} | {"rank": self.rank, "ok": not self.problems}


def check_model(model: DepthModel, *, precision: Precision = "fp32", device: Device = "auto") -> ModelCheck:
    """Run a model on rendered rooms and compare what comes out with their true depth.

    Rendered rooms are no photographs, so the agreement says whether the card is right, not which of two
    models is better.

    Args:
        model: The model.
        precision: What its products are taken in.
        device: What runs it.

    Raises:
        DepthModelError: It cannot run, or gives values that are not finite.
    """
    images, truth = _rooms()
    session = DepthSession(model, height=_HEIGHT, width=_WIDTH, precision=precision, device=device)
    depth = np.empty(truth.shape, np.float16)
    session.run(images, depth)
    result = model.card["output"]
    nearer = 1 if result["quantity"] == "inverse_depth" else -1
    agreement = tuple(spearman(nearer * d, -t) for d, t in zip(depth, truth, strict=True))
    rows = np.repeat(np.arange(_HEIGHT), _WIDTH)
    gradient = float(np.mean([spearman(rows, -t) for t in truth]))
    metres = float(np.median(depth.astype(np.float32) / truth)) if result["unit"] == "m" else None
    return ModelCheck(
        model=model.name,
        path=str(model.path),
        sha256=model.sha256,
        provider=session.provider,
        precision=precision,
        picture=(_HEIGHT, _WIDTH),
        network=input_size(model.card, _HEIGHT, _WIDTH),
        quantity=result["quantity"],
        unit=result["unit"],
        minimum=float(depth.min()),
        maximum=float(depth.max()),
        agreement=agreement,
        gradient=gradient,
        metres=metres,
        rate=_rate(session, images, depth),
        problems=tuple(_problems(depth, float(np.mean(agreement)), gradient, metres)),
        images=images,
        truth=truth,
        depth=depth,
    )


@cache
def _rooms() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pictures of the rooms and their true depth, rendered once."""
    with ThreadPoolExecutor(max_workers=min(_ROOMS, os.cpu_count() or 1)) as pool:
        scenes = list(pool.map(partial(render_scene, height=_HEIGHT, width=_WIDTH), range(_ROOMS)))
    images, truth = (np.stack(arrays) for arrays in zip(*((s.image, s.depth) for s in scenes), strict=True))
    images.flags.writeable = truth.flags.writeable = False
    return images, truth


def _rate(session: DepthSession, images: NDArray[np.uint8], out: NDArray[np.float16]) -> float:
    done, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < _TIMED_SECONDS:
        session.run(images, out)
        done += len(images)
    return done / seconds


def _problems(depth: NDArray[np.float16], rank: float, gradient: float, metres: float | None) -> list[str]:
    if all(values.min() == values.max() for values in depth):
        return [
            "every pixel of a picture has the same value: look at input.range, mean and std, and at "
            "output.transform (a clip may cut everything off)"
        ]
    problems = []
    enough = gradient + _ABOVE_GRADIENT
    if rank <= -enough:
        problems.append(
            "nearer comes out farther: output.quantity is the wrong one of 'depth' and 'inverse_depth', or "
            "output.transform turns it round"
        )
    elif rank < enough:
        problems.append(
            f"depth hardly follows the true one: its rank agreement is {rank:.2f}, and a plain gradient from "
            f"top to bottom reaches {gradient:.2f}. Look at input.range, mean, std, channels and size"
        )
    if metres is not None and not 1 / _METRES_OFF <= metres <= _METRES_OFF:
        problems.append(
            f"metres are {metres:.3g} times the true ones: look at output.transform and output.unit"
        )
    return problems


def render_check(check: ModelCheck) -> Image.Image:
    """Draw each room in a row: the picture, its true depth, and the model's; near is bright in both.

    Returns:
        An RGB picture.
    """
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

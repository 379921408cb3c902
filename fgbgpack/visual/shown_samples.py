"""Which samples pictures show, and what they show of scenes."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import Objects
from fgbgpack.composition.placement import Placements
from fgbgpack.dataset.batch import Batch
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.sources.catalog import Catalog
from fgbgpack.visual.canvas import Colour, shortened

#: The colours of objects, far to near, and of their boxes.
_OBJECT_COLOURS: tuple[Colour, ...] = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167))
_BOX: Colour = (255, 255, 255)
#: Objects that are named in the label of a row, and the characters of a name for which there is room there.
_NAMED_OBJECTS, _NAME_LENGTH = 3, 12


def spread_samples(dataset: Dataset, count: int, seed: int) -> list[int]:
    """Draw ``count`` different samples of a dataset that has a recipe, as :func:`choose_samples` does; of
    scenes at random, with backgrounds that differ as long as there are others.
    """
    if not dataset.has_objects:
        return choose_samples(dataset.placements, count, seed)
    order = np.random.default_rng(seed).permutation(len(dataset))
    backgrounds = dataset.sample_arrays["background"][order]
    # How often its background came before: those that come first are taken first.
    by_background = np.argsort(backgrounds, kind="stable")
    starts = np.searchsorted(backgrounds[by_background], backgrounds)
    turn = np.empty(len(order), np.int64)
    turn[by_background] = np.arange(len(order))
    turn -= starts
    return sorted(order[np.argsort(turn, kind="stable")[:count]].tolist())


def choose_samples(placements: Placements, count: int, seed: int) -> list[int]:
    """Draw ``count`` different samples, or all if there are fewer, at random; sorted.

    They are spread over backgrounds, foregrounds, and mirrored or not: no background or foreground is drawn
    again before all others have been, and no pair of them either.
    """
    rng = np.random.default_rng(seed)
    backgrounds = rng.permutation(np.unique(placements.background))
    foregrounds = rng.permutation(np.unique(placements.foreground))
    cycle = int(np.lcm(len(backgrounds), len(foregrounds)))
    chosen: list[int] = []
    draw = 0
    while len(chosen) < min(count, len(placements)):
        # Walking both lists at once meets every pair if one of them slips by one after each cycle of both.
        background = backgrounds[draw % len(backgrounds)]
        foreground = foregrounds[(draw + draw // cycle) % len(foregrounds)]
        draw += 1
        of_pair = np.flatnonzero(
            (placements.background == background) & (placements.foreground == foreground)
        )
        left = of_pair[~np.isin(of_pair, chosen)]
        turned = left[placements.flip[left] == bool(draw % 2)]
        if len(left):
            chosen.append(int(rng.choice(turned if len(turned) else left)))
    return sorted(chosen)


def objects_in_words(objects: Objects, catalog: Catalog) -> list[str]:
    """A line for each of the objects of one sample, far to near."""
    numbers = [int(number) for number in objects.foreground if number >= 0]
    if not numbers:
        return ["no objects"]
    lines = [
        f"{k + 1} {_short_name(catalog.foregrounds[number].name)}, {float(objects.visible[k]):.0%} seen"
        for k, number in enumerate(numbers[:_NAMED_OBJECTS])
    ]
    return lines if len(numbers) <= _NAMED_OBJECTS else [*lines[:-1], f"and {len(numbers) - 2} more"]


def _short_name(name: str) -> str:
    """The name of a picture without its extension, and without its middle where it is long: names mostly
    differ at their ends.
    """
    stem = name.removesuffix(PurePath(name).suffix)
    return shortened(stem, lambda shorter: len(shorter) <= _NAME_LENGTH)


def instance_picture(batch: Batch) -> NDArray[np.uint8]:
    """The instances of one sample in colours (h, w, 3), with the boxes of what is seen."""
    colours = np.zeros((256, 3), np.uint8)
    colours[1:] = [_OBJECT_COLOURS[k % len(_OBJECT_COLOURS)] for k in range(255)]
    picture = colours[batch.instance]
    for top, left, bottom, right in batch.objects.box.tolist():
        if bottom > top:
            picture[[top, bottom - 1], left:right] = _BOX
            picture[top:bottom, [left, right - 1]] = _BOX
    return picture

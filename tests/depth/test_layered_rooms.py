"""Layered depth against true depth: rooms that the scene network sees, with figures on their floors."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import numpy as np
import pytest

from fgbgpack.depth import DepthSession, Execution, load_model
from fgbgpack.depth.layered import Layers, Outlines, Placed, figure_depth, layer_step
from fgbgpack.rendering import render_scene
from fgbgpack.spec import SCENE_MODEL
from fgbgpack.visual.floor import FloorFigures

SIDE, SCALE, SEED = 128, 3, 11
BITS = 9


def calibrated(found, truth):
    """Scale and shift that make relative inverse depth metric, by nine tenths of the pixels: (2,)."""
    x, y = found.ravel(), truth.ravel()
    kept = np.ones(len(x), np.bool_)
    for _ in range(4):
        line = np.polyfit(x[kept], y[kept], 1)
        rest = np.abs(np.polyval(line, x) - y)
        kept = rest < np.quantile(rest, 0.9)
    return line


@pytest.mark.slow
def test_people_are_as_far_as_the_floor_that_they_stand_on(all_faults, count_faults):
    """One person, and two in one room, whose order has to be right."""
    count = 60 if all_faults else 5
    model = load_model(SCENE_MODEL)
    session = DepthSession(model, (SIDE, SIDE), scale=SCALE, execution=Execution("fp32", "cpu"))
    scenes = [render_scene(i, seed=SEED, height=SIDE, width=SIDE) for i in range(count)]
    large = [render_scene(i, seed=SEED, height=SCALE * SIDE, width=SCALE * SIDE).image for i in range(count)]
    depth = np.empty((count, SIDE, SIDE), np.float16)
    session.run(np.stack(large), depth)
    backgrounds, meaning = depth.astype(np.float32), model.card.output.meaning
    figures = FloorFigures.of(scenes)
    covered = [np.nonzero(mask) for mask in figures.mask]
    corner = np.array([(rows.min(), columns.min()) for rows, columns in covered], np.int32)
    outlines = Outlines.of(
        [
            mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            for mask, (rows, columns) in zip(figures.mask, covered, strict=True)
        ],
        [False] * len(covered),
    )
    step = layer_step(float(backgrounds.min()) - 5, float(backgrounds.max()) + 5, BITS)
    persons = np.stack([figure_depth(background, meaning) for background in backgrounds])
    layers = Layers(backgrounds, persons, meaning, outlines, step)
    lines = [
        calibrated(found.astype(np.float64), 1 / scene.depth.astype(np.float64))
        for found, scene in zip(backgrounds, scenes, strict=True)
    ]
    errors: dict[str, list[float]] = {"one": [], "two": []}
    order: Counter[str] = Counter()
    for room, group in groupby(range(len(figures.scene)), key=lambda i: int(figures.scene[i])):
        numbers = sorted(group, key=lambda i: -float(figures.distance[i]))
        for name, some in (("one", [[i] for i in numbers]), ("two", [numbers] if len(numbers) == 2 else [])):
            for chosen in some:
                outline = np.array([chosen], np.int32)
                placed = Placed(outline, corner[chosen, 0][None], corner[chosen, 1][None])
                which = np.array([room], np.int32)
                out = np.empty((1, SIDE, SIDE), np.float16)
                planes = layers.compose(which, placed, layers.numbers(which, outline), out)[0]
                inverse = np.polyval(lines[room], planes * step)
                errors[name] += (np.abs(1 / inverse / figures.distance[chosen] - 1)).tolist()
                if name == "two":
                    order["right" if planes[1] > planes[0] else "wrong"] += 1
    count_faults("pairs of people in rooms by their order", order)
    count_faults(
        "distances of people in rooms",
        Counter("within 5.5 %" if error <= 0.055 else "farther off" for error in errors["one"]),
    )
    medians = {name: float(np.median(found)) for name, found in errors.items()}
    assert medians["one"] <= 0.055
    assert medians["two"] <= 0.055
    assert order["right"] >= 0.99 * order.total()
    assert order.total() > count / 2

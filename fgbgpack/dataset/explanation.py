"""All that a dataset knows of one sample, as JSON data."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbgpack.composition.kernels import philox_key
from fgbgpack.composition.placement import Placements
from fgbgpack.composition.scenes import ScenePlan
from fgbgpack.dataset.batch import Batch
from fgbgpack.document import (
    DEPTH,
    DEPTH_MAX,
    DEPTH_MIN,
    IMAGE,
    MASK,
    PLACEMENTS,
    NetworkDepthInfo,
)
from fgbgpack.errors import DatasetError
from fgbgpack.scene_spec import BLENDS
from fgbgpack.source_info import PictureCredit, SourceInfo
from fgbgpack.storage.indices import sample_indices
from fgbgpack.storage.places import chunks_of_sample

if TYPE_CHECKING:
    from fgbgpack.dataset.dataset import Dataset


def explain(dataset: Dataset, sample: int) -> dict[str, Any]:
    """All that an open dataset knows of one sample, as JSON data.

    ``background`` is its background, with digests and credits; ``objects`` are its objects, far to near: the
    foreground of each, where it is and how much of it is seen; ``draw`` is what its placement is drawn from:
    the words of the counter of Philox4x32-10, and its key; ``arrays`` says where the bytes of each array are,
    or that it is ``composed``; ``depth`` how depth was made; ``parts`` names the part of each saved split
    that it is in; ``mask`` is what was measured on its pixels. What does not exist is ``None``, such as the
    background of an imported sample.

    Raises IndexError where there is no such sample, DatasetError where the dataset is damaged.
    """
    number = int(sample_indices([sample], len(dataset))[0])
    document = dataset.document
    name = None if dataset.names is None else dataset.names[number]
    one = dataset.read([number], (IMAGE, MASK))
    return {
        "path": dataset.path,
        "sample": number,
        "of": len(dataset),
        "height": dataset.height,
        "width": dataset.width,
        "complete": dataset.complete,
        "name": name,
        "imported": _imported(dataset, name, number),
        "recipe": None if document.recipe is None else document.recipe.sha256,
        "draw": _draw(dataset, number, one) if dataset.has_recipe else None,
        "background": _background(dataset, one) if dataset.has_recipe else None,
        "objects": _objects(dataset, one) if dataset.has_recipe else _imported_objects(dataset, one),
        "mask": _measured(one),
        "depth": _depth(dataset, number),
        "parts": _parts(dataset, number),
        "arrays": _arrays(dataset, number),
    }


#: What is said of a source.
_SOURCE = (
    *("name", "sha256", "mask_name", "mask_sha256", "depth_name", "depth_sha256"),
    *("license", "author", "url"),
)


def _source(source: SourceInfo, number: int) -> dict[str, Any]:
    """A source with its number; what is not stated of it is ``None``."""
    return {
        "number": number,
        **{name: getattr(source, name) for name in _SOURCE},
    }


def _imported(dataset: Dataset, name: str | None, number: int) -> dict[str, Any] | None:
    """Where the pictures of an imported sample were: its name stands for the fields of the patterns; and what
    is stated of its picture.
    """
    imported = dataset.document.imported
    if imported is None:
        return None
    credit = dataclasses.asdict(PictureCredit() if dataset.credits is None else dataset.credits[number])
    return {"name": name, "patterns": dict(imported.patterns), "fit": imported.fit, **credit}


def _draw(dataset: Dataset, sample: int, one: Batch) -> dict[str, Any]:
    plan = dataset.recipe.plan
    words = [f"{word:08x}" for word in plan.counters(np.array([sample]))[0].tolist()]
    key = [f"{word:08x}" for word in philox_key(plan.seed).tolist()]
    how = "the fourth word counts the draws" if isinstance(plan, ScenePlan) else "words 0 and 1 give y and x"
    placement = dataset.document.spec.scene.placement if dataset.document.spec else None
    return {
        "seed": plan.seed,
        "generator": "Philox4x32-10",
        "key": key,
        "counter": words,
        "how": how,
        "placement": placement,
        "replica": int(one.replica[0]),
    }


def _background(dataset: Dataset, one: Batch) -> dict[str, Any]:
    _, sources = dataset.require_recipe("background")
    number = int(one.background[0])
    return _source(sources.backgrounds[number], number)


def _objects(dataset: Dataset, one: Batch) -> list[dict[str, Any]]:
    """Objects from far to near; the one foreground that was pasted, of samples that are no scenes."""
    _, sources = dataset.require_recipe("objects")
    if not dataset.has_objects:
        number = int(one.foreground[0])
        height, width = dataset.recipe.catalog.foreground_size[number].tolist()
        placed = Placements(*(one.arrays[name] for name in PLACEMENTS))
        return [
            {
                "foreground": _source(sources.foregrounds[number], number),
                "category": sources.foregrounds[number].category or None,
                "mirrored": bool(one.flip[0]),
                "y": int(one.y[0]),
                "x": int(one.x[0]),
                "height": height,
                "width": width,
                "box": dataset._outlines.boxes(placed)[0].tolist(),
                "visible": float(dataset._outlines.visible[number]),
            }
        ]
    found = []
    of = {name: values[0] for name, values in vars(one.objects).items()}
    for k, number in enumerate(of["foreground"].tolist()):
        if number >= 0:
            source = sources.foregrounds[number]
            found.append(
                {
                    "foreground": _source(source, number),
                    "category": source.category or None,
                    "mirrored": bool(of["flip"][k]),
                    **{name: int(of[name][k]) for name in ("y", "x", "height", "width")},
                    "box": of["box"][k].tolist(),
                    "visible": float(of["visible"][k]),
                    "rotation": int(of["rotation"][k]),
                    "edges": BLENDS[int(of["blend"][k])],
                    "gain": (of["gain"][k] / 256).tolist(),
                    "shadow": int(of["shadow"][k]),
                }
            )
    return found


def _imported_objects(dataset: Dataset, one: Batch) -> list[dict[str, Any]] | None:
    """What is known of the objects of an imported sample; ``None`` where they are not told apart."""
    if not dataset.has_objects:
        return None
    of = {name: values[0] for name, values in vars(one.objects).items()}
    return [
        {
            "category": dataset.categories[number] or None,
            "box": of["box"][k].tolist(),
            "visible": float(of["visible"][k]) if "visible" in of else None,
        }
        for k, number in enumerate(of["category"].tolist())
        if number >= 0
    ]


def _measured(one: Batch) -> dict[str, Any]:
    """What the pixels themselves say."""
    opaque = int((one.mask > 127).sum())
    return {
        "pixels": opaque,
        "share": opaque / one.mask.size,
        "mean_colour": (one.image.reshape(-1, 3).mean(axis=0) / 255).round(4).tolist(),
    }


def _depth(dataset: Dataset, sample: int) -> dict[str, Any] | None:
    depth = dataset.document.depth
    if depth is None:
        return None
    attributes = dataset.depth.attrs
    least, greatest = (float(dataset.whole(name)[sample]) for name in (DEPTH_MIN, DEPTH_MAX))
    found: dict[str, Any] = {
        "mode": depth.mode,
        "quantity": attributes.get("quantity"),
        "unit": attributes.get("unit"),
        "least": None if math.isnan(least) else least,
        "greatest": None if math.isnan(greatest) else greatest,
        "model": None,
        "guide": None,
        "scale": None,
        "step": None,
        "provider": None,
        "objects": None,
    }
    if not isinstance(depth, NetworkDepthInfo):
        return found | {"factor": depth.factor, "offset": depth.offset}
    found |= {
        "model": {"name": depth.model_name, "sha256": depth.sha256},
        "guide": None if depth.guide is None else {"name": depth.guide_name, "sha256": depth.guide.sha256},
        "scale": depth.scale,
        "step": depth.step,
        "provider": depth.sample_provider,
    }
    if dataset.document.is_layered and (layers := dataset.composer.layers) is not None:
        layered, step = layers
        placed, objects = dataset.composer.made_of(np.array([sample]), {})
        drawn = layered.objects_at(placed, objects, step)[0].tolist()
        found["objects"] = [value for value in drawn if not math.isnan(value)]
    return found


def _parts(dataset: Dataset, sample: int) -> dict[str, str | None]:
    """The part of each split that the sample is in; ``None`` where it is in none."""
    found: dict[str, str | None] = {}
    for name in dataset.splits:
        parts = dataset.split(name).items()
        found[name] = next((part for part, samples in parts if sample in samples), None)
    return found


def _arrays(dataset: Dataset, sample: int) -> dict[str, Any]:
    """Where the bytes of each array of pictures are."""
    found: dict[str, Any] = {}
    fields = (*dataset.document.planes, *((DEPTH,) if dataset.has_depth else ()))
    for name in fields:
        array = dataset.plane(name) if name != DEPTH else dataset.depth
        raw = math.prod(array.shape[1:]) * array.dtype.itemsize
        described = {"type": str(array.dtype), "bytes": raw, "composed": name in dataset.document.composed}
        chunks = None
        if not described["composed"]:
            try:
                chunks = [dataclasses.asdict(one) for one in chunks_of_sample(dataset.store, name, sample)]
            except DatasetError:
                if dataset.complete:
                    raise
        found[name] = described | {"chunks": chunks}
    return found

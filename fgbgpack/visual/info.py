"""A description of a dataset, as JSON data."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.dataset.stats import Stats
from fgbgpack.document import DEPTH, MANIFEST, GuideInfo, NetworkDepthInfo
from fgbgpack.storage.reading import StoredArray

_RECIPE_OPTIONS = (
    "fit",
    "foreground_height",
    "placements",
    "flip",
    "placement",
    "seed",
    "samples",
    "objects",
    "empty",
    "truncate",
    "overlap",
    "rotation",
    "blend",
    "light_match",
    "shadow",
    "occlude",
    "classes",
)
_NETWORK_OPTIONS = ("scale", "bits", "precision", "provider")


def describe(dataset: Dataset) -> dict[str, Any]:
    """Describe a dataset, complete or not, as JSON data, without reading a sample.

    ``arrays`` has ``dtype``, ``shape`` and ``chunk`` of ``image``, ``mask``, of scenes ``instance``, and
    ``depth``, the number of samples that are ``filled``, their bytes ``stored`` and ``raw`` (in memory), and
    ``ratio`` (raw to stored) and ``bytes_per_sample``; both are ``None`` where nothing is filled, as in
    arrays of a ``virtual`` dataset that are ``composed`` when they are read. ``depth`` is ``None`` where
    there is none; ``mode`` is how it was filled, and ``guide`` the guided network, if any; all about networks
    is ``None`` for imported depth. ``bytes`` is the size of all stored arrays, placements and sources
    included. ``splits`` are the saved splits. ``imported`` is the document's section on an imported dataset,
    for which ``recipe``, ``sources``, ``backgrounds``, ``foregrounds`` and ``masks`` are ``None``. ``faulty``
    has, for each array that lacks objects or has some that are not what the manifest says, their number and
    that of all; that needs no decoding. ``verified`` is what ``fgbgpack verify --record`` has said of the
    dataset as it is now, and ``stats`` the ``mean`` and ``std`` of its images, the share of ``foreground``
    pixels and the range of its ``depth``, as it keeps them; ``None`` where that is nothing.
    """
    document = dataset.document.to_dict()
    stored = dataset.stored_bytes()
    written = dataset.written_samples()
    return {
        "path": dataset.path,
        "schema": document["schema"],
        "complete": dataset.complete,
        "faulty": _describe_faulty(dataset),
        "verified": dataset.verified,
        "stats": _describe_stats(dataset.saved_stats),
        "virtual": dataset.document.is_virtual,
        "scenes": dataset.document.is_scene,
        "objects": None if not dataset.has_objects else dataset.document.most_objects,
        "categories": list(dataset.categories),
        "samples": len(dataset),
        "width": dataset.width,
        "height": dataset.height,
        **_describe_recipe(dataset),
        "imported": document.get("imported"),
        "arrays": {
            name: {
                **_describe_array(array, written[name], stored.get(name, 0)),
                "composed": name in dataset.document.composed,
            }
            for name, array in (
                *((plane, dataset.plane(plane)) for plane in dataset.document.planes),
                (DEPTH, dataset.depth),
            )
        },
        "bytes": sum(stored.values()),
        "splits": dataset.splits,
        "depth": _describe_depth(dataset),
        "sources": document.get("sources"),
        "software": document["software"],
    }


def _describe_recipe(dataset: Dataset) -> dict[str, Any]:
    spec, sources, recipe = dataset.document.spec, dataset.document.sources, dataset.document.recipe
    if spec is None or sources is None or recipe is None:
        return dict.fromkeys(("backgrounds", "foregrounds", "masks", "recipe"))
    return {
        "backgrounds": len(sources.backgrounds),
        "foregrounds": len(sources.foregrounds),
        "masks": sum(source.mask_sha256 is not None for source in sources.foregrounds),
        "recipe": {"sha256": recipe.sha256, **{name: getattr(spec, name) for name in _RECIPE_OPTIONS}},
    }


def _describe_faulty(dataset: Dataset) -> dict[str, dict[str, int]]:
    found = {}
    for path, shards in dataset.faulty_objects().items():
        layout = None if path.startswith(MANIFEST) else dataset.store.layout(path)
        total = 1 if layout is None else layout.shards
        # Without numbers it is the array as a whole.
        found[path] = {"objects": len(shards) or total, "of": total}
    return found


def _describe_stats(stats: Stats | None) -> dict[str, Any] | None:
    if stats is None:
        return None
    depth = stats.whole.depth
    return {
        "mean": list(stats.mean),
        "std": list(stats.std),
        "foreground": stats.whole.mask.share,
        "depth": None if depth is None else [depth.least, depth.greatest],
    }


def _describe_array(array: StoredArray, filled: int, stored: int) -> dict[str, Any]:
    raw = filled * math.prod(array.shape[1:]) * array.dtype.itemsize
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "chunk": list(array.chunks),
        "filled": filled,
        "stored": stored,
        "raw": raw,
        "ratio": raw / stored if filled else None,
        "bytes_per_sample": stored / filled if filled else None,
    }


def _describe_guide(guide: GuideInfo) -> dict[str, Any]:
    return {
        "model": str(guide.model["name"]),
        "sha256": guide.sha256,
        "provider": guide.provider,
        "devices": [device.to_dict() for device in guide.devices],
    }


def _describe_depth(dataset: Dataset) -> dict[str, Any] | None:
    depth = dataset.document.depth
    if depth is None:
        return None
    attributes = dataset.depth.attrs
    if isinstance(depth, NetworkDepthInfo):
        guide = depth.guide
        described: dict[str, Any] = {
            "complete": depth.complete,
            "model": depth.model_name,
            "sha256": depth.sha256,
            "mode": depth.mode,
            "guide": None if guide is None else _describe_guide(guide),
            "devices": [device.to_dict() for device in depth.devices],
            **{name: getattr(depth, name) for name in _NETWORK_OPTIONS},
        }
    else:
        described = {
            **dict.fromkeys(("model", "sha256", "guide", "devices", *_NETWORK_OPTIONS)),
            "complete": depth.complete,
            "mode": depth.mode,
            **asdict(depth),
        }
    return described | {name: attributes.get(name) for name in ("quantity", "unit", "rounding")}

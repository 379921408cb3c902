"""What a dataset holds, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.storage.reading import StoredArray
from fgbgpack.storage.store import DEPTH, IMAGE, MASK, has_recipe, is_virtual


def describe(dataset: Dataset) -> dict[str, Any]:
    """Describe a dataset, complete or not, without reading a sample.

    Args:
        dataset: An open dataset.

    Returns:
        JSON data. ``arrays`` has for each of ``image``, ``mask`` and ``depth`` its ``dtype``, ``shape`` and
        ``chunk``, the number of samples that are ``filled``, the bytes that they take ``stored`` and ``raw``
        (in memory), and ``ratio`` (raw to stored) and ``bytes_per_sample``, which are ``None`` where nothing
        is filled, as image and mask of a dataset that is ``virtual``. ``depth`` is ``None`` where there is
        none; its ``mode`` says how it came about, and ``guide`` which network saw the samples where that was
        not ``model``; what tells of networks is ``None`` where depth was imported. ``bytes`` is all that is
        stored, placements and sources included. ``splits`` are those that are saved. ``imported`` is what the
        document says of a dataset that was imported, which has ``None`` for ``recipe``, ``sources``,
        ``backgrounds``, ``foregrounds`` and ``masks``.
    """
    document = dataset.document
    stored = dataset.stored_bytes()
    written = dataset.written_samples()
    return {
        "path": dataset.path,
        "schema": document["schema"],
        "complete": dataset.complete,
        "virtual": is_virtual(document),
        "samples": len(dataset),
        "width": dataset.width,
        "height": dataset.height,
        **_describe_recipe(document),
        "imported": document.get("imported"),
        "arrays": {
            name: _describe_array(array, written[name], stored.get(name, 0))
            for name, array in ((IMAGE, dataset.image), (MASK, dataset.mask), (DEPTH, dataset.depth))
        },
        "bytes": sum(stored.values()),
        "splits": dataset.splits,
        "depth": _describe_depth(dataset),
        "sources": document.get("sources"),
        "software": document["software"],
    }


def _describe_recipe(document: Mapping[str, Any]) -> dict[str, Any]:
    if not has_recipe(document):
        return dict.fromkeys(("backgrounds", "foregrounds", "masks", "recipe"))
    spec, sources = document["spec"], document["sources"]
    return {
        "backgrounds": len(sources["backgrounds"]),
        "foregrounds": len(sources["foregrounds"]),
        "masks": sum("mask_sha256" in source for source in sources["foregrounds"]),
        "recipe": {
            "sha256": document["recipe"]["sha256"],
            **{
                name: spec[name]
                for name in ("fit", "foreground_height", "placements", "flip", "placement", "seed")
            },
        },
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


def _describe_depth(dataset: Dataset) -> dict[str, Any] | None:
    depth = dataset.document["depth"]
    if depth is None:
        return None
    attributes = dict(dataset.depth.attrs)
    meaning = {name: attributes.get(name) for name in ("quantity", "unit", "rounding")}
    if depth["mode"] == "imported":
        of_models = ("model", "sha256", "guide", "scale", "bits", "precision", "provider", "onnxruntime")
        return {**dict.fromkeys(of_models), **depth, **meaning}
    guide = depth["guide"]
    return {
        "complete": depth["complete"],
        "model": depth["model"]["name"],
        "sha256": depth["sha256"],
        "mode": depth["mode"],
        "guide": None if guide is None else {**guide, "model": guide["model"]["name"]},
        "scale": depth["scale"],
        "bits": depth["bits"],
        "precision": depth["precision"],
        "provider": depth["provider"],
        "onnxruntime": depth["onnxruntime"],
        **meaning,
    }

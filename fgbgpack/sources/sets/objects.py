"""The objects of a picture as annotations tell them, and as a map of instances."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.extras import require
from fgbgpack.sources.decoding import quiet_decoders
from fgbgpack.sources.problems import problem

#: What an object covers: polygons, each x and y of its corners in turn, or run lengths as pycocotools has
#: them, with ``size`` and ``counts``.
Outline: TypeAlias = tuple[NDArray[np.float32], ...] | dict[str, Any]

#: The most objects of a sample: a map of instances has bytes.
MOST_OBJECTS = 255


@dataclass(frozen=True, eq=False, slots=True)
class SampleObjects:
    """The objects of a picture, in their order; with ``outlines``, or by the ``values`` of their pixels.

    Attributes:
        categories: The number of the category of each.
        outlines: What each covers.
        crowds: What groups cover in which objects are not told apart.
        size: Width and height of the picture that outlines are of, in pixels; ``None`` where corners are
            fractions of the picture.
        values: The number that the pixels of each have in a picture of instances.
        visible: The share of each that is seen, if that is known.
    """

    categories: tuple[int, ...] = ()
    outlines: tuple[Outline, ...] = ()
    crowds: tuple[Outline, ...] = ()
    size: tuple[int, int] | None = None
    values: tuple[int, ...] = ()
    visible: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.categories)

    @property
    def digest(self) -> bytes:
        """What tells these objects from others."""
        found = hashlib.sha256(repr((self.categories, self.size, self.values, self.visible)).encode())
        for outline in (*self.outlines, *self.crowds):
            parts = [outline["counts"]] if isinstance(outline, dict) else [one.tobytes() for one in outline]
            found.update(b"\0".join([b"outline", *parts]))
        return found.digest()


def draw(objects: SampleObjects, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The map of instances of a picture of so many columns and rows, (h, w): 0, or 1 + the number of an
    object; and (h, w) where an object or a group is.

    Where objects overlap, the smaller one is seen. Pixels are those that pycocotools gives polygons. Raises
    ValueError for run lengths that are none. Time grows with the lengths of edges, so that corners should
    not be far outside of the picture.
    """
    api, (width, height) = mask_api(), size
    instance = np.zeros((height, width), np.uint8)
    scale = (1, 1) if objects.size is not None else size

    def encoded(outline: Outline) -> Any:
        if isinstance(outline, dict):
            return outline
        flat = [(one.reshape(-1, 2) * scale).reshape(-1).tolist() for one in outline]
        return api.merge(api.frPyObjects(flat, height, width))

    with quiet_decoders():
        runs = [encoded(outline) for outline in objects.outlines]
        areas = [int(api.area(one)) for one in runs]
        for number in sorted(range(len(runs)), key=lambda i: -areas[i]):
            instance[api.decode(runs[number]).astype(np.bool_)] = number + 1
        covered = instance > 0
        for crowd in objects.crowds:
            covered |= api.decode(encoded(crowd)).astype(np.bool_)
    return instance, covered


def numbered(path: object, values: NDArray[Any], objects: SampleObjects) -> NDArray[np.uint8]:
    """The map of instances (h, w) of a picture whose pixels have the numbers of objects, or 0.

    Raises SourceError where a pixel has the number of none.
    """
    known = np.array([0, *objects.values], np.int64)
    order = np.argsort(known, kind="stable")
    flat = values.reshape(-1).astype(np.int64)
    place = np.minimum(np.searchsorted(known[order], flat), len(known) - 1)
    found = order[place]
    if (unknown := known[found] != flat).any():
        number = int(flat[unknown][0])
        expected = f"the numbers of its {len(objects)} objects: annotate that one, or make its pixels 0"
        raise problem(path, f"pixels of the number {number}", expected, "instance-unknown")
    return found.astype(np.uint8).reshape(values.shape)


def mask_api(extra: Literal["coco", "yolo"] = "coco") -> Any:
    """pycocotools, which draws outlines; MissingPackageError where it is not installed, with the extra that
    has it and what else a layout needs.
    """
    return require("pycocotools.mask", extra=extra, needed_by="Drawing the outlines of objects")

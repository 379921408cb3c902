"""PNG files with labels of detection and segmentation, for Ultralytics YOLO."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import DEPTH, IMAGE
from fgbgpack.errors import SpecError
from fgbgpack.export.coco import objects_of
from fgbgpack.export.objects import (
    MASK_ABOVE,
    categories_of,
    category_names,
    problems_of_category,
    problems_of_fields,
)
from fgbgpack.export.png import png
from fgbgpack.export.target import ExportJob, Run, Target
from fgbgpack.pipeline.events import Notice

_DATA = "data.yaml"
_IMAGES, _LABELS = "images", "labels"
_TRAIN = "train"
#: What Ultralytics calls the parts of a split, what others call them, and those that there must be.
_ALIASES = {
    _TRAIN: (_TRAIN, "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_NEEDED = (_TRAIN, "val")
#: Fractions of the width and the height have so many digits: 0.01 pixels in 10,000.
_DIGITS = 6


class YoloTarget(Target):
    """``images/<part>/<sample>.png``, ``labels/<part>/<sample>.txt`` and ``data.yaml``.

    A label is a line: the number of the category, and x and y of the corners of a polygon as fractions of the
    picture. Ultralytics takes boxes from the same lines. The file is empty where no object is seen.
    """

    OPTIONS: ClassVar = frozenset({"category"})
    WITHOUT: ClassVar = frozenset({DEPTH})

    def __init__(self, job: ExportJob) -> None:
        if problems := [*problems_of_fields(job, "YOLO"), *problems_of_category(job)]:
            raise SpecError("YOLO labels cannot be written so.", problems, code="export-options-invalid")
        super().__init__(job)
        height, width = job.dataset.height, job.dataset.width
        #: The fraction that each corner of pixels is, as text.
        self._fractions = [_fractions(width), _fractions(height)]

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes pictures and labels of a run together, and what lists the parts."""
        for part in self._job.parts:
            for name in (_IMAGES, _LABELS):
                (folder / name / part.slug).mkdir(parents=True)
            for _ in self._job.encoded(part, partial(self._encode, folder, part.slug), writes_to=folder):
                pass
        (folder / _DATA).write_text(self._data(), encoding="utf-8", newline="\n")
        return {"mask_above": MASK_ABOVE}

    def _data(self) -> str:
        """The folders that Ultralytics looks for, and the categories; JSON's strings are YAML's, too."""
        folders = {part.slug or _TRAIN: f"{_IMAGES}/{part.slug}".rstrip("/") for part in self._job.parts}
        lines = []
        for name, aliases in _ALIASES.items():
            known = [folders[alias] for alias in aliases if alias in folders]
            if not known and name in _NEEDED:
                known = list(folders.values())
                text = f"No part is called {name}, which Ultralytics needs: in {_DATA} it is {known[0]}, too."
                self._job.on_event(Notice(text))
            lines += [f"{name}: {_text(folder)}" for folder in known[:1]]
        names = enumerate(category_names(self._job))
        lines += ["names:", *(f"  {number}: {_text(name)}" for number, name in names)]
        return "\n".join(lines) + "\n"

    def _encode(self, folder: Path, slug: str, run: Run) -> None:
        objects, categories = objects_of(self._job, run), categories_of(self._job, run)
        for i, sample in enumerate(run.samples.tolist()):
            key = self._job.ids.key(sample)
            (folder / _IMAGES / slug / f"{key}.png").write_bytes(png(run.arrays[IMAGE][i]))
            lines = (
                self._label(categories[i][number], one["segmentation"])
                for number, one in enumerate(objects[i])
                if one["area"]
            )
            (folder / _LABELS / slug / f"{key}.txt").write_bytes("".join(lines).encode())

    def _label(self, category: int, polygons: Sequence[Sequence[int]]) -> str:
        across, down = self._fractions
        corners = joined(polygons)
        texts = [f"{across[x]} {down[y]}" for x, y in zip(corners[::2], corners[1::2], strict=True)]
        return f"{category} {' '.join(texts)}\n"

    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """With Ultralytics, by a model for segmentation or for detection."""
        return [
            "from ultralytics import YOLO",
            f'YOLO("yolo11n-seg.pt").train(data={str((Path(out) / _DATA).absolute())!r}, imgsz=128)',
        ]


def joined(polygons: Sequence[Sequence[int]]) -> list[int]:
    """Polygons as one: a label has only one. It goes to the nearest corner of the next polygon, round that
    one, and back the same way, which encloses nothing.

    Example:
        >>> joined([[0, 0, 1, 0, 1, 1, 0, 1], [3, 0, 4, 0, 4, 1, 3, 1]])
        [0, 0, 1, 0, 3, 0, 4, 0, 4, 1, 3, 1, 3, 0, 1, 0, 1, 1, 0, 1]
    """
    first, *others = polygons
    if not others:
        return list(first)
    path = _corners(first)
    left = [_corners(polygon) for polygon in others]
    while left:
        near = [_nearest(path, corners) for corners in left]
        number = min(range(len(left)), key=lambda i: near[i][0])
        _, here, there = near[number]
        detour = np.roll(left.pop(number), -there, axis=0)
        path = np.concatenate([path[: here + 1], detour, detour[:1], path[here:]])
    flat: list[int] = path.reshape(-1).tolist()
    return flat


def _corners(polygon: Sequence[int]) -> NDArray[np.int64]:
    return np.array(polygon, np.int64).reshape(-1, 2)


def _nearest(one: NDArray[np.int64], other: NDArray[np.int64]) -> tuple[int, int, int]:
    """The least squared distance of a corner of each of two polygons, and the numbers of the two."""
    apart = one[:, None] - other[None]
    squares = (apart * apart).sum(axis=2)
    here, there = np.unravel_index(int(squares.argmin()), squares.shape)
    return int(squares[here, there]), int(here), int(there)


def _fractions(length: int) -> list[str]:
    """What fraction of a length each place from 0 to its end is, as text.

    Ultralytics multiplies in single precision and cuts what is behind the point: a little less than a whole
    number would be one pixel less. So the nearest fraction is taken that gives no less.

    Example:
        >>> _fractions(3), int(float("0.666667") * 3)
        (['0', '0.333334', '0.666667', '1'], 2)
    """
    texts = []
    for place in range(length + 1):
        nearest = round(place / length * 10**_DIGITS)
        while np.float32(nearest / 10**_DIGITS) * np.float32(length) < place or (
            nearest / 10**_DIGITS * length < place
        ):
            nearest += 1
        texts.append(f"{nearest / 10**_DIGITS:.{_DIGITS}f}".rstrip("0").rstrip("."))
    return texts


_text = partial(json.dumps, ensure_ascii=False)

"""Pictures, and their instances with boxes, areas and runs of pixels in JSON, as COCO has them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import SpecError
from fgbgpack.export.pictures import png
from fgbgpack.export.rle_kernel import mask_runs, runs_bound
from fgbgpack.export.target import Part, Run, Target, Work
from fgbgpack.storage.store import DEPTH, IMAGE, MASK

#: A pixel is foreground where its mask is greater.
MASK_ABOVE = 127

_CATEGORY = 1
_DEPTH_BITS = 16
_IMAGES, _DEPTHS, _ANNOTATIONS = "images", "depth", "annotations"


@dataclass(frozen=True)
class Outline:
    """Which pixels of a sample are foreground.

    Attributes:
        counts: Their runs, column by column, in COCO's compressed code.
        box: Left, top, width and height of the box around them in pixels, all 0 where there are none.
        area: How many there are.
    """

    counts: str
    box: tuple[int, int, int, int]
    area: int

    @classmethod
    def of(cls, mask: NDArray[np.uint8]) -> Outline:
        """The pixels of a (h, w) uint8 mask that are greater than ``MASK_ABOVE``.

        Raises:
            SpecError: It is no such array.

        Example:
            >>> Outline.of(np.array([[0, 255], [0, 128], [0, 127]], np.uint8))
            Outline(counts='321', box=(1, 0, 1, 2), area=2)
        """
        if mask.ndim != 2 or mask.dtype != np.uint8:
            raise SpecError(f"mask: found {mask.dtype} of shape {mask.shape}, expected uint8, (h, w).")
        text = np.empty(runs_bound(mask.size), np.uint8)
        box = np.empty(4, np.int32)
        used, area = mask_runs(np.ascontiguousarray(mask), MASK_ABOVE, text, box)
        left, top, width, height = box.tolist()
        return cls(text[:used].tobytes().decode("ascii"), (left, top, width, height), area)


@dataclass(frozen=True)
class Entries:
    """The JSON of some samples' images and annotations, an object on each line."""

    images: str
    annotations: str


class CocoTarget(Target[Entries]):
    """``images/<sample>.png``, ``annotations/instances_<part>.json``, and ``depth/<sample>.png`` with depth.

    An image's id is the number of its sample. That of its annotation is one more, as pycocotools takes an
    annotation with the id 0 for none. Where no pixel is foreground there is no annotation.
    """

    TO = "coco"
    OPTIONS = frozenset({"category", "depth_bits"})

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._category = "foreground" if work.options.category is None else work.options.category
        problems = []
        if not {IMAGE, MASK} <= set(work.fields):
            problems.append(f"--fields: found {', '.join(work.fields)}; images and boxes need image and mask")
        if not self._category.strip():
            problems.append("--category: found an empty name, expected one such as person")
        if problems:
            raise SpecError("COCO cannot be written so.", problems)
        self._depth_scale = None
        if DEPTH in work.fields:
            self._depth_scale = work.depth_scale(work.options.depth_bits or _DEPTH_BITS)
        self._licences = _Licences.of(work)
        self._files: list[_Instances] = []
        for name in (_IMAGES, _ANNOTATIONS, *([_DEPTHS] if self._depth_scale else [])):
            (work.folder / name).mkdir()

    def begin(self, part: Part) -> None:
        """Write what comes before the images."""
        of_part = f" of part {part.name}" if part.name else ""
        head = {
            "info": {
                "description": f"{len(part.samples)} samples{of_part} of an fgbgpack dataset",
                "mask_above": MASK_ABOVE,
            },
            "licenses": self._licences.entries,
            "categories": [{"id": _CATEGORY, "name": self._category, "supercategory": self._category}],
        }
        self._files.append(_Instances(self.work.folder / _ANNOTATIONS / _json_name(part), head))

    def encode(self, run: Run) -> Entries:
        """Write the pictures, and make the JSON."""
        images, annotations = [], []
        mask = run.batch.mask
        height, width = mask.shape[1:]
        for i, (sample, record) in enumerate(zip(run.samples.tolist(), self.work.records(run), strict=True)):
            name = f"{sample:08d}.png"
            (self.work.folder / _IMAGES / name).write_bytes(png(run.batch.image[i]))
            image = {"id": sample, "file_name": name, "width": width, "height": height}
            if self._depth_scale is not None:
                pixels = self._depth_scale.apply(run.batch.arrays[DEPTH][i])
                (self.work.folder / _DEPTHS / name).write_bytes(png(pixels))
                image["depth_file_name"] = name
            licence = self._licences.of_sample(run, i)
            if licence is not None:
                image["license"] = licence
            del record["sample"]
            images.append(image | record)
            outline = Outline.of(mask[i])
            if outline.area:
                annotation = {
                    "id": sample + 1,
                    "image_id": sample,
                    "category_id": _CATEGORY,
                    "bbox": outline.box,
                    "area": outline.area,
                    "iscrowd": 0,
                    "segmentation": {"size": [height, width], "counts": outline.counts},
                }
                annotations.append(annotation)
        return Entries(_lines(images), _lines(annotations))

    def write(self, run: Run, encoded: Entries) -> None:
        """Add the JSON."""
        self._files[-1].add(encoded)

    def end(self, part: Part) -> None:
        """Finish the part's JSON."""
        self._files[-1].finish()

    def close(self) -> None:
        """Let go of open files."""
        for file in self._files:
            file.close()

    def finish(self) -> dict[str, Any]:
        """What pixels count as foreground, and how depth was made whole numbers."""
        described: dict[str, Any] = {"mask_above": MASK_ABOVE}
        if self._depth_scale is not None:
            described["depth"] = self._depth_scale.to_dict()
        return described

    def how_to_open(self, out: str) -> list[str]:
        """With pycocotools."""
        path = Path(out) / _ANNOTATIONS / _json_name(self.work.parts[0])
        return [
            "from pycocotools.coco import COCO",
            f"coco = COCO({str(path)!r})",
            "mask = coco.annToMask(coco.loadAnns(coco.getAnnIds())[0])",
        ]


class _Instances:
    """A JSON document with ``head``, images and annotations, of which none stays in memory."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        # Annotations come after the last image: they wait for it in a file of their own.
        self._waiting = path.with_suffix(".waiting")
        self._images = path.open("w", encoding="utf-8", newline="\n")
        self._annotations = self._waiting.open("w+", encoding="utf-8", newline="\n")
        self._images.write(f'{_dumps(head)[:-1]}, "images": [')
        self._between = {self._images: "\n", self._annotations: "\n"}

    def add(self, entries: Entries) -> None:
        for file, lines in ((self._images, entries.images), (self._annotations, entries.annotations)):
            if lines:
                file.write(self._between[file] + lines)
                self._between[file] = ",\n"

    def finish(self) -> None:
        self._images.write('\n], "annotations": [')
        self._annotations.seek(0)
        shutil.copyfileobj(self._annotations, self._images)
        self._images.write("\n]}\n")
        self.close()
        self._waiting.unlink()

    def close(self) -> None:
        self._annotations.close()
        self._images.close()


@dataclass(frozen=True)
class _Licences:
    """The licences of samples, each made from a background and a foreground.

    Attributes:
        entries: COCO's ``licenses``: one for each pair of licences that there can be.
        ids: The id of the entry of each pair.
        sources: The licences of all backgrounds and of all foregrounds, ``None`` where it is not known.
    """

    entries: list[dict[str, Any]]
    ids: dict[tuple[str | None, ...], int]
    sources: tuple[Sequence[str | None], ...]

    @classmethod
    def of(cls, work: Work) -> _Licences:
        """Those that the document of the dataset tells."""
        sources = work.dataset.document.get("sources") or {"backgrounds": [], "foregrounds": []}
        known = tuple(
            [source.get("license") or None for source in sources[kind]]
            for kind in ("backgrounds", "foregrounds")
        )
        entries: list[dict[str, Any]] = []
        ids: dict[tuple[str | None, ...], int] = {}
        for pair in product(*map(dict.fromkeys, known)):
            if pair == (None, None):
                continue
            ids[pair] = len(entries) + 1
            background, foreground = (licence or "unknown" for licence in pair)
            one = background == foreground
            name = background if one else f"{background} (background), {foreground} (foreground)"
            url = name if one and name.startswith(("https://", "http://")) else ""
            entries.append({"id": ids[pair], "name": name, "url": url})
        return cls(entries, ids, known)

    def of_sample(self, run: Run, i: int) -> int | None:
        """The id of the licence of the run's sample at a place; ``None`` where it is not known."""
        if not self.entries:
            return None
        backgrounds, foregrounds = self.sources
        return self.ids.get((backgrounds[run.batch.background[i]], foregrounds[run.batch.foreground[i]]))


def _json_name(part: Part) -> str:
    return f"instances_{part.folder or 'all'}.json"


def _lines(objects: Sequence[dict[str, Any]]) -> str:
    return ",\n".join(map(_dumps, objects))


def _dumps(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False)

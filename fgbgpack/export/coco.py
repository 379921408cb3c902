"""PNG files, and JSON with boxes, areas and outlines of masks, for COCO tools."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain, product, repeat
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import DEPTH, IMAGE, MASK, OBJECT_FOREGROUND
from fgbgpack.errors import SpecError
from fgbgpack.export.objects import (
    MASK_ABOVE,
    categories_of,
    category_names,
    category_of_all,
    measures_in,
    of_each_object,
    problems_of_category,
    problems_of_fields,
)
from fgbgpack.export.png import png
from fgbgpack.export.polygons import polygons_of
from fgbgpack.export.target import ExportJob, Part, Run, Target
from fgbgpack.extras import require
from fgbgpack.source_info import SourcesInfo
from fgbgpack.sources.names import counted

#: How masks are written.
POLYGONS, RLE = SEGMENTATIONS = ("polygons", "rle")

FIRST_CATEGORY = 1
_IMAGES, _DEPTHS, ANNOTATIONS = "images", "depth", "annotations"


class CocoTarget(Target):
    """``images/<part>/<sample>.png``, ``annotations/instances_<part>.json``, and with depth
    ``depth/<part>/<sample>.png``.

    A sample without foreground pixels has no annotation, and a scene one for each object of which a pixel is
    seen. Without a split, pictures are in no folder of a part.
    """

    OPTIONS: ClassVar = frozenset({"category", "depth_bits", "segmentation"})
    #: What the JSON files are called after.
    _KIND: ClassVar = "instances"

    def __init__(self, job: ExportJob) -> None:
        segmentation = job.options.segmentation or POLYGONS
        problems = [*problems_of_fields(job, "COCO"), *problems_of_category(job)]
        if segmentation not in SEGMENTATIONS:
            problems.append(f"--segmentation: found {segmentation!r}, expected {' or '.join(SEGMENTATIONS)}")
        if problems:
            raise SpecError("COCO cannot be written so.", problems, code="export-options-invalid")
        if segmentation == RLE:
            _mask_api()
        super().__init__(job)
        self._segmentation, self._licences = segmentation, _Licences(job)

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes the pictures of a run together, and the JSON in order; none of it stays in memory."""
        pictures = (_IMAGES, *([_DEPTHS] if DEPTH in self._job.fields else []))
        (folder / ANNOTATIONS).mkdir()
        for part in self._job.parts:
            for name in pictures:
                (folder / name / part.slug).mkdir(parents=True)
            self._prepare(folder, part.slug)
            # Annotations follow the last image: they wait in a file of their own.
            with (
                (folder / ANNOTATIONS / self._json_name(part.slug)).open(
                    "w", encoding="utf-8", newline="\n"
                ) as file,
                tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder) as waiting,
            ):
                file.write(f'{_dumps(self._head(part))[:-1]}, "images": [')
                # What precedes each item of the two JSON arrays.
                before_image, before_annotation = (chain(["\n"], repeat(",\n")) for _ in range(2))
                for images, annotations in self._job.encoded(
                    part, partial(self._encode, folder, part.slug), writes_to=folder
                ):
                    file.writelines(next(before_image) + item for item in images)
                    waiting.writelines(next(before_annotation) + item for item in annotations)
                file.write('\n], "annotations": [')
                waiting.seek(0)
                shutil.copyfileobj(waiting, file)
                file.write("\n]}\n")
        return {"mask_above": MASK_ABOVE, "segmentation": self._segmentation}

    def _head(self, part: Part) -> dict[str, Any]:
        of_part = f" of part {part.name}" if part.name else ""
        return {
            "info": {
                "description": f"{counted(len(part.samples), 'sample')}{of_part} of an fgbgpack dataset",
                "mask_above": MASK_ABOVE,
            },
            "licenses": self._licences.entries,
            "categories": self._categories(),
        }

    def _categories(self) -> list[dict[str, Any]]:
        above = category_of_all(self._job)
        return [
            {"id": FIRST_CATEGORY + number, "name": name, "supercategory": above}
            for number, name in enumerate(category_names(self._job))
        ]

    def _prepare(self, folder: Path, slug: str) -> None:
        """Makes what a part needs beside its pictures."""

    def _json_name(self, slug: str) -> str:
        return f"{self._KIND}_{slug or 'all'}.json"

    def _encode(self, folder: Path, slug: str, run: Run) -> tuple[list[str], list[str]]:
        """Writes the pictures of a run; the JSON of its images and annotations."""
        images = []
        ids, depth = self._job.ids, self._job.pictures(run, DEPTH) if DEPTH in run.arrays else None
        licences = self._licences.of(run)
        _, height, width = run.arrays[MASK].shape
        for i, record in enumerate(ids.records(run.samples)):
            sample = record.pop("sample")
            name = f"{ids.key(sample)}.png"
            (folder / _IMAGES / slug / name).write_bytes(png(run.arrays[IMAGE][i]))
            image = {"id": sample, "file_name": name, "width": width, "height": height}
            if depth is not None:
                (folder / _DEPTHS / slug / name).write_bytes(png(depth[i]))
                image["depth_file_name"] = name
            if licences[i] is not None:
                image["license"] = licences[i]
            images.append(_dumps(image | self._licences.address_of(sample) | record))
        return images, [_dumps(annotation) for annotation in self._annotations(folder, slug, run)]

    def _annotations(self, folder: Path, slug: str, run: Run) -> Iterator[dict[str, Any]]:
        """One for each object that is seen."""
        categories = categories_of(self._job, run)
        for i, masks in enumerate(objects_of(self._job, run, self._segmentation)):
            sample = int(run.samples[i])
            for number, mask in enumerate(masks):
                if mask["area"]:
                    annotation = {
                        "id": self._job.ids.annotation_id(sample * len(masks) + number),
                        "image_id": sample,
                        "category_id": FIRST_CATEGORY + categories[i][number],
                    }
                    yield annotation | mask

    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """With pycocotools."""
        path = Path(out) / ANNOTATIONS / self._json_name(self._job.parts[0].slug)
        return [
            "from pycocotools.coco import COCO",
            f"coco = COCO({str(path)!r})",
            "mask = coco.annToMask(coco.loadAnns(coco.getAnnIds())[0])",
        ]


def objects_of(job: ExportJob, run: Run, segmentation: str = POLYGONS) -> list[list[dict[str, Any]]]:
    """The outline of each sample of a run or, of scenes, of each object that there can be."""
    return of_each_object(job, run, partial(_outlines_in, segmentation=segmentation))


def mask_outlines(mask: NDArray[np.uint8], segmentation: str = POLYGONS) -> list[dict[str, Any]]:
    """Box, area and polygons of each of (n, h, w) uint8 masks, as COCO's annotations have them.

    The box is left, top, width and height in pixels, all 0 where no pixel is foreground. With ``"rle"`` there
    is a run-length encoding, compressed, in place of polygons; raises MissingPackageError where pycocotools,
    which makes it, is not installed.

    Example:
        >>> mask_outlines(np.array([[[0, 255], [0, 128], [0, 127]]], np.uint8))
        [{'bbox': [1, 0, 1, 2], 'area': 2, 'iscrowd': 0, 'segmentation': [[1, 0, 2, 0, 2, 2, 1, 2]]}]
    """
    return _outlines_in(mask > MASK_ABOVE, segmentation)


def _outlines_in(inside: NDArray[np.bool_], segmentation: str) -> list[dict[str, Any]]:
    """Box, area and outline of each of (n, h, w) masks, as COCO's annotations have them."""
    outlines = _run_lengths(inside) if segmentation == RLE else map(polygons_of, inside)
    return [
        measures | {"segmentation": outline}
        for measures, outline in zip(measures_in(inside), outlines, strict=True)
    ]


def _run_lengths(inside: NDArray[np.bool_]) -> list[dict[str, Any]]:
    # pycocotools takes (h, w, n) in Fortran order: columns of pixels, mask after mask.
    columns = np.ascontiguousarray(inside.transpose(0, 2, 1)).view(np.uint8)
    encoded = _mask_api().encode(columns.transpose(2, 1, 0))
    return [{"size": one["size"], "counts": one["counts"].decode("ascii")} for one in encoded]


def _mask_api() -> Any:
    return require(
        "pycocotools.mask",
        extra="coco",
        needed_by="--segmentation rle",
        otherwise="Polygons need no package.",
    )


class _Licences:
    """The licences of samples: one for each set of a background's and foregrounds' that occurs."""

    def __init__(self, job: ExportJob) -> None:
        dataset = job.dataset
        sources = dataset.document.sources or SourcesInfo((), ())
        self._dataset, self._credits = dataset, dataset.credits
        self._backgrounds = [source.license or None for source in sources.backgrounds]
        self._foregrounds = [source.license or None for source in sources.foregrounds]
        if self._credits is not None:
            sets: dict[_LicenceSet, None] = {(one.license, ()): None for one in self._credits}
        elif dataset.has_objects:
            every = [part.samples for part in job.parts]
            sets = dict.fromkeys(chain.from_iterable(map(self._sets_of, every)))
        else:
            pairs = product(dict.fromkeys(self._backgrounds), dict.fromkeys(self._foregrounds))
            sets = dict.fromkeys((background, (foreground,)) for background, foreground in pairs)
        known = (one for one in sets if any((one[0], *one[1])))
        self._numbers = {one: number for number, one in enumerate(known, start=1)}
        self.entries = [_licence(number, *one) for one, number in self._numbers.items()]

    def of(self, run: Run) -> list[int | None]:
        """The numbers of the licences of a run's samples."""
        if not self.entries:
            return [None] * len(run.samples)
        return [self._numbers.get(one) for one in self._sets_of(run.samples)]

    def address_of(self, sample: int) -> dict[str, str]:
        """Where the picture of an imported sample is from, if that is stated, as a field of an image."""
        url = None if self._credits is None else self._credits[sample].url
        return {} if url is None else {"flickr_url" if "flickr.com/" in url else "coco_url": url}

    def _sets_of(self, samples: NDArray[np.int64]) -> Iterator[_LicenceSet]:
        if self._credits is not None:
            yield from ((self._credits[sample].license, ()) for sample in samples.tolist())
            return
        made_of = self._dataset.sample_arrays
        foregrounds = made_of[OBJECT_FOREGROUND if self._dataset.has_objects else "foreground"]
        used = foregrounds[samples].reshape(len(samples), -1).tolist()
        for background, numbers in zip(made_of["background"][samples].tolist(), used, strict=True):
            licences = {self._foregrounds[number] for number in numbers if number >= 0}
            yield self._backgrounds[background], tuple(sorted(licences, key=lambda one: one or ""))


#: That of a background or of an imported picture, and those of foregrounds; ``None`` where it is not known.
_LicenceSet: TypeAlias = tuple[str | None, tuple[str | None, ...]]


def _licence(number: int, background: str | None, foregrounds: tuple[str | None, ...]) -> dict[str, Any]:
    name = background or "unknown"
    url = name if name.startswith(("https://", "http://")) else ""
    if any(background != foreground for foreground in foregrounds):
        texts = ", ".join(foreground or "unknown" for foreground in foregrounds)
        name, url = f"{name} (background), {texts} (foreground)", ""
    return {"id": number, "name": name, "url": url}


_dumps = partial(json.dumps, ensure_ascii=False)

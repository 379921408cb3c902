"""The objects of samples as exports describe them: what they are, and what is seen of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.geometry import mask_boxes
from fgbgpack.document import CATEGORIES, INSTANCE, MASK
from fgbgpack.export.target import ExportJob, Run

#: A pixel is foreground where its mask is greater.
MASK_ABOVE = 127
#: What there is to say of an object of which no pixel is seen.
_NOTHING: dict[str, Any] = {"bbox": [0, 0, 0, 0], "area": 0, "iscrowd": 0}


def problems_of_fields(job: ExportJob, format_name: str) -> list[str]:
    """What is wrong with the exported fields for a format that needs those that show objects."""
    needed = job.dataset.document.planes
    if set(needed) <= set(job.fields):
        return []
    return [f"--fields: found {', '.join(job.fields)}; {format_name} needs {' and '.join(needed)}"]


def problems_of_category(job: ExportJob) -> list[str]:
    """What is wrong with the name that ``--category`` gives."""
    if category_of_all(job).strip():
        return []
    return ["--category: found an empty name, expected one such as person"]


def category_of_all(job: ExportJob) -> str:
    """What foregrounds of no category are."""
    return "foreground" if job.options.category is None else job.options.category


def category_names(job: ExportJob) -> list[str]:
    """The name of each category, by its number here: no two are the same."""
    return list(dict.fromkeys(_named(job)))


def _named(job: ExportJob) -> list[str]:
    """What each category of the dataset is called here, by its number there."""
    return [name or category_of_all(job) for name in job.dataset.categories or ("",)]


def categories_of(job: ExportJob, run: Run) -> list[list[int]]:
    """The number of the category of each object that a sample of a run can have; of no matter where there is
    none.
    """
    dataset, names, sources = job.dataset, category_names(job), job.dataset.document.sources
    if len(names) == 1:
        return [[0] * most_objects(job)] * len(run.samples)
    numbers = np.array([*map(names.index, _named(job)), -1])
    if dataset.has_objects or sources is None:
        of_objects = dataset.sample_arrays[CATEGORIES][run.samples]
    else:
        of_foregrounds = np.array(sources.category_numbers)
        of_objects = of_foregrounds[dataset.sample_arrays["foreground"][run.samples]][:, None]
    found: list[list[int]] = numbers[of_objects].tolist()
    return found


def most_objects(job: ExportJob) -> int:
    """The most objects that a sample can have."""
    return job.dataset.document.most_objects if job.dataset.has_objects else 1


def shows_objects(job: ExportJob) -> bool:
    """Whether what shows objects is exported."""
    return (INSTANCE if job.dataset.has_objects else MASK) in job.fields


def seen_objects(job: ExportJob, run: Run) -> list[dict[str, list[Any]]]:
    """Of each sample of a run the objects of which a pixel is seen, far to near, as lists: ``bbox``,
    ``area``, ``category``, its number, and of scenes ``instance``, its number in the map of instances.
    """
    rows = []
    for categories, measures in zip(categories_of(job, run), measures_of(job, run), strict=True):
        seen = [number for number, one in enumerate(measures) if one["area"]]
        row: dict[str, list[Any]] = {
            "bbox": [measures[number]["bbox"] for number in seen],
            "area": [measures[number]["area"] for number in seen],
            "category": [categories[number] for number in seen],
        }
        if job.dataset.has_objects:
            row["instance"] = [number + 1 for number in seen]
        rows.append(row)
    return rows


def measures_of(job: ExportJob, run: Run) -> list[list[dict[str, Any]]]:
    """Box and area of each object that a sample of a run can have; both are 0 where nothing of it is seen."""
    return of_each_object(job, run, measures_in)


def of_each_object(
    job: ExportJob, run: Run, describe: Callable[[NDArray[np.bool_]], list[dict[str, Any]]]
) -> list[list[dict[str, Any]]]:
    """What ``describe`` says of (n, h, w) masks, for each object that a sample of a run can have. Of one that
    is not seen in a map of instances it is box and area alone, which are 0.
    """
    if INSTANCE not in run.arrays:
        return [[one] for one in describe(run.arrays[MASK] > MASK_ABOVE)]
    found = []
    for instance in run.arrays[INSTANCE]:
        seen = np.flatnonzero(np.bincount(instance.ravel(), minlength=1 << 8)[1:])
        of_sample = [_NOTHING] * most_objects(job)
        of_seen = describe(instance == (1 + seen).astype(np.uint8)[:, None, None]) if seen.size else []
        for number, one in zip(seen.tolist(), of_seen, strict=True):
            of_sample[number] = one
        found.append(of_sample)
    return found


def measures_in(inside: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Box and area of each of (n, h, w) masks, as COCO's annotations have them: the box is left, top, width
    and height in pixels, all 0 where no pixel is set.
    """
    areas = np.count_nonzero(inside, axis=(1, 2)).tolist()
    top, left, bottom, right = mask_boxes(inside).T
    boxes = np.stack([left, top, right - left, bottom - top], axis=1).tolist()
    return [{"bbox": box, "area": area, "iscrowd": 0} for box, area in zip(boxes, areas, strict=True)]

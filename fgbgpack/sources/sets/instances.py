"""Sets of pictures with a picture of instances each: pixels have the number of their object, or 0."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fgbgpack.sources.credits import CREDITS_FILE
from fgbgpack.sources.decoding import PictureFile
from fgbgpack.sources.names import in_natural_order, listed
from fgbgpack.sources.pairing import Kind, Pairs, common_folder, find_pairs
from fgbgpack.sources.pictures import read_numbers
from fgbgpack.sources.problems import problem
from fgbgpack.sources.sets.objects import MOST_OBJECTS, SampleObjects
from fgbgpack.sources.sets.sample_set import Folder, SampleSet, plain
from fgbgpack.spec import Reading

#: Names of folders, in lower case and letters alone. Of masks of instances some are called plainly masks.
_PICTURES = re.compile("(png|jpe?g)?(images?|imgs?|pictures?)|photos?|rgb")
_INSTANCES = re.compile("instances?(masks?|maps?|ids?|labels?)?|ped(estrian)?masks?|objectmasks?")
_MASKS = re.compile("masks?|labels?|segmentations?|annotations?")
_SHOWN = 5


def instance_folders(folder: Folder, *, masks: bool) -> tuple[list[str], list[str]]:
    """The folders of pictures, and those of instances; ``masks`` may be these, too."""
    tops = in_natural_order({path.partition("/")[0] for path in folder.pictures if "/" in path})
    letters = {top: re.sub(r"[\W\d_]", "", top).lower() for top in tops}
    pictures = [top for top in tops if _PICTURES.fullmatch(letters[top])]
    instances = [top for top in tops if _INSTANCES.fullmatch(letters[top])]
    if not instances and masks:
        instances = [top for top in tops if _MASKS.fullmatch(letters[top])]
    return pictures, instances


def read_instances(folder: Folder, *, skip_unmatched: bool) -> SampleSet:
    """The set in a folder: each picture with that of its instances, which is called alike.

    Raises SourceError where folders are not recognised, or pictures have no partners.
    """
    pictures, instances = instance_folders(folder, masks=True)
    given: dict[Kind, str | None] = {
        "images": folder.images or (f"{pictures[0]}/" if len(pictures) == 1 else None),
        "masks": folder.masks or (f"{instances[0]}/" if len(instances) == 1 else None),
        "depths": None,
    }
    if None in (given["images"], given["masks"]):
        expected = (
            "a folder of pictures and one of instances, such as PNGImages and PedMasks: --images, --masks"
        )
        raise folder.lacks(expected, "instance-masks")
    found = find_pairs(folder.pictures, given, folder=str(folder.root), without=["depths"])
    if found.unmatched and not (skip_unmatched and found.names):
        raise folder.error(found.unmatched)
    patterns: dict[Kind, str | None] = {
        "images": found.patterns["images"],
        "masks": None,
        "depths": None,
        "instances": found.patterns["masks"],
    }
    files: dict[Kind, list[str]] = {"images": found.files["images"], "instances": found.files["masks"]}
    pairs = Pairs(patterns, files, found.names, found.unmatched, found.left_out)
    return SampleSet("instance-masks", pairs)


def with_categories(found: SampleSet) -> SampleSet:
    """A set whose objects are of the category that ``sources.csv`` says, or else their sub-folder."""
    pictures = found.pairs.files["images"]
    below = common_folder(pictures)
    of_samples = [
        plain(credit.category or path.removeprefix(below).rpartition("/")[0])
        for path, credit in zip(pictures, found.credits.of, strict=True)
    ]
    categories = tuple(dict.fromkeys(of_samples))
    notices = list(found.notices)
    if len(categories) > 1 or categories[0]:
        shown = listed([name or "none" for name in categories], _SHOWN)
        notices.append(f"Objects are of the categories that sub-folders or {CREDITS_FILE} say: {shown}.")
    return replace(found, categories=categories, of_samples=of_samples, notices=notices)


def read_instance_values(path: PictureFile, reading: Reading) -> NDArray[np.integer]:
    """The numbers in a picture of instances, (h, w): gray of any depth, or the entries of a palette.

    Raises SourceError for colours, and for what cannot be read.
    """
    # Numbers of 32 bits are read as such only where they are numbers of something.
    values = read_numbers(path, replace(reading, mask_value=0, mask_threshold=None)).values
    if values is None:
        expected = "a number a pixel: gray of 8 or 16 bits, or a palette"
        raise problem(path, "a picture of instances in colours", expected, "instance-in-colour")
    return values


def with_values(
    path: PictureFile, values: NDArray[np.integer], objects: SampleObjects | None, category: int
) -> SampleObjects:
    """The objects of a picture by the numbers that its pixels have, in their order; all of one category where
    nothing is known of ``objects``.

    Raises SourceError where there are too many, or others than are known.
    """
    found: Sequence[int] = [number for number in np.unique(values).tolist() if number]
    if len(found) > MOST_OBJECTS:
        expected = f"at most {MOST_OBJECTS} numbers but 0: is it a picture of instances?"
        raise problem(path, f"{len(found):,} different numbers", expected, "annotations-invalid")
    if objects is None:
        return SampleObjects((category,) * len(found), values=tuple(found))
    if len(found) != len(objects):
        expected = f"{len(objects)}, as many as it has objects"
        raise problem(path, f"{len(found)} instances", expected, "annotations-invalid")
    return replace(objects, values=tuple(found))

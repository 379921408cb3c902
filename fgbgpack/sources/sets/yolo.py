"""Sets as Ultralytics YOLO takes them: ``data.yaml``, and a file of labels beside each picture."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import SourceError
from fgbgpack.extras import require
from fgbgpack.sources.names import counted, in_natural_order
from fgbgpack.sources.pairing import Kind, common_folder
from fgbgpack.sources.problems import CountedProblems, problem
from fgbgpack.sources.sets.objects import SampleObjects, mask_api
from fgbgpack.sources.sets.sample_set import (
    LACKING,
    WRONG,
    Folder,
    SampleSet,
    pairs_of,
    parts_of,
    plain,
    require_few,
)

_PARTS = ("train", "val", "test")
_NAMES, _LISTED = (
    re.compile(rb"^names\s*:", re.MULTILINE),
    re.compile(rb"^(train|val|test)\s*:", re.MULTILINE),
)
_IMAGES, _LABELS = "/images/", "/labels/"
#: The least numbers of a label after its category: x and y of three corners. A box has four.
_LEAST, _OF_BOX = 6, 4
#: Fractions outside of the picture that are no mistake of rounding.
_OUTSIDE = 0.01


def yolo_files(folder: Folder) -> list[str]:
    """The files in a folder that list categories and parts, as ``data.yaml`` does."""
    near = sorted(path for path in folder.ending(".yaml", ".yml") if "/" not in path)
    return [path for path in near if all(one.search(folder.read(path)) for one in (_NAMES, _LISTED))]


def read_yolo(folder: Folder) -> SampleSet:
    """The set in a folder: pictures of the parts that ``data.yaml`` lists, and the polygons of their labels.
    A picture without a file of labels has no objects.

    Raises SourceError with all that is wrong with it, and MissingPackageError where PyYAML or pycocotools is.
    """
    paths = yolo_files(folder)
    if len(paths) != 1:
        found = f" alone: there are {', '.join(paths)}" if paths else ""
        raise folder.lacks(f"data.yaml with names and train{found}", "yolo")
    mask_api("yolo")
    where = folder.root / paths[0]
    data = _yaml(where, folder.read(paths[0]))
    names = _names_of(where, data)
    pictures: dict[str, str] = {}
    again, places = 0, []
    for part in _PARTS:
        if data.get(part) in places:
            continue  # Ultralytics asks for train and val, also where there is one part.
        places.append(data.get(part))
        for path in _pictures_of(folder, where, data, part):
            again += path in pictures
            pictures.setdefault(path, part)
    problems, objects = CountedProblems(), []
    for path in pictures:
        objects.append(_objects_of(folder, path, len(names), problems))
        require_few(folder.root / path, len(objects[-1]), problems)
    if problems:
        raise folder.error(problems)
    if not pictures:
        raise folder.lacks(f"pictures in the folders that {paths[0]} names", "yolo")
    notices = []
    if again:
        notices.append(f"{counted(again, 'picture')} listed in several parts: each is in the first one.")
    if bare := sum(not len(one) for one in objects):
        notices.append(f"{counted(bare, 'picture')} without objects.")
    patterns: dict[Kind, str | None] = {"images": common_folder(list(pictures)), "instances": paths[0]}
    return SampleSet(
        "yolo",
        pairs_of({"images": list(pictures)}, patterns),
        names,
        objects,
        parts_of(list(pictures.values())),
        [*paths, *(label for path in pictures if (label := label_of(path)) in folder.files)],
        notices,
    )


def label_of(picture: str) -> str:
    """The file of a picture's labels: in ``labels`` where that is in ``images``, else beside it.

    Example:
        >>> label_of("images/train/a.jpg"), label_of("a.jpg")
        ('labels/train/a.txt', 'a.txt')
    """
    before, found, after = f"/{picture}".rpartition(_IMAGES)
    path = f"{before}{_LABELS}{after}" if found else f"/{picture}"
    return str(PurePosixPath(path[1:]).with_suffix(".txt"))


def _yaml(where: object, content: bytes) -> Mapping[str, Any]:
    yaml: Any = require("yaml", extra="yolo", needed_by="--from yolo")
    try:
        data = yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        found = f"it cannot be read ({' '.join(str(error).split())})"
        raise problem(where, found, "a YAML file", "annotations-unreadable") from error
    if not isinstance(data, dict):
        expected = "names and train, as Ultralytics has them"
        raise problem(str(where), "no fields", expected, "annotations-invalid")
    return data


def _names_of(where: object, data: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of categories by their numbers: a list, or a field for each number from 0 on."""
    given = data.get("names")
    if isinstance(given, dict):
        given = [given.get(number) for number in range(len(given))]
    if not isinstance(given, list) or not given or not all(isinstance(name, (str, int)) for name in given):
        expected = "a list of the names of categories, or one for each number from 0 on"
        raise problem(str(where), f"names: {given!r}", expected, "annotations-invalid")
    names = tuple(plain(str(name)) for name in given)
    if len(set(names)) < len(names):
        raise problem(str(where), "names: one of them is there twice", "each once", "annotations-invalid")
    return names


def _pictures_of(folder: Folder, where: object, data: Mapping[str, Any], part: str) -> Iterator[str]:
    """The pictures of a part: of folders, or listed in text files."""
    given = data.get(part)
    root = data.get("path")
    for one in given if isinstance(given, list) else [given]:
        if one is None or one == "":
            continue
        if not isinstance(one, str) or not (root is None or isinstance(root, str)):
            expected = "a folder, a list of pictures, or several"
            raise problem(str(where), f"{part}: {one!r}", expected, "annotations-invalid")
        found = [_below(folder, path) for path in (posixpath.join(root or "", one), one)]
        for path in dict.fromkeys(path for path in found if path is not None):
            if path in folder.files and path.endswith(".txt"):
                yield from _listed(folder, path)
                break
            inside = "" if path == "." else f"{path}/"
            if pictures := [picture for picture in folder.pictures if picture.startswith(inside)]:
                yield from in_natural_order(pictures)
                break
        else:
            expected = f"a folder of pictures below {folder.root}: change it, or leave it out"
            raise problem(str(where), f"{part}: {one} is not there", expected, "picture-missing")


def _below(folder: Folder, path: str) -> str | None:
    """A path as one below the folder; ``None`` where it leads out of it."""
    root = posixpath.abspath(folder.root.as_posix())
    found = posixpath.relpath(posixpath.join(root, path.replace("\\", "/")), root)
    return None if found.startswith("..") else found


def _listed(folder: Folder, path: str) -> Iterator[str]:
    """The pictures that a text file lists, one a line."""
    try:
        lines = folder.read(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        expected = "a list of pictures"
        raise problem(folder.root / path, "it is no UTF-8", expected, "annotations-unreadable") from error
    for number, line in enumerate(lines, start=1):
        if line := line.strip():
            base = posixpath.dirname(path) if line.startswith("./") else ""
            found = _below(folder, posixpath.join(base, line))
            if found is None or found not in folder.files:
                expected = f"a picture below {folder.root}: put it there, or take out the line"
                where = f"{folder.root / path}, line {number}"
                raise problem(where, f"{line} is not there", expected, "picture-missing")
            yield found


def _objects_of(folder: Folder, picture: str, categories: int, problems: CountedProblems) -> SampleObjects:
    """The objects that the labels of a picture tell."""
    path = label_of(picture)
    if path not in folder.files:
        return SampleObjects()
    where, numbers, outlines = folder.root / path, [], []
    try:
        lines = folder.read(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        problems.add(WRONG, f"{where}: it is no UTF-8; expected a file of labels", "annotations-unreadable")
        return SampleObjects()
    except SourceError as error:
        problems.add_error(LACKING, error)
        return SampleObjects()
    for row, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _label(line, categories)
        if isinstance(found, str):
            problems.add(WRONG, f"{where}, line {row}: {found}", "annotations-invalid")
        else:
            numbers.append(found[0])
            outlines.append((found[1],))
    return SampleObjects(tuple(numbers), tuple(outlines))


def _label(line: str, categories: int) -> tuple[int, NDArray[np.float32]] | str:
    """The category and the corners of a label, as fractions of the picture; or what is wrong with it."""
    first, *rest = line.split()
    try:
        corners = np.array([float(word) for word in rest])
        number = int(first)
    except ValueError:
        return f"{line.strip()[:40]!r} are no numbers; expected a category, and x and y of corners"
    if not 0 <= number < categories:
        return f"the unknown category {number}; expected 0 to {categories - 1}: add it to names in data.yaml"
    if len(corners) == _OF_BOX:
        return "a box, which tells no mask; expected the corners of a polygon: labels for segmentation"
    if len(corners) < _LEAST or len(corners) % 2:
        found = f"a polygon of {len(corners)} numbers"
        return f"{found}; expected x and y of three corners or more: fix or remove it"
    if not (np.isfinite(corners).all() and corners.min() >= -_OUTSIDE and corners.max() <= 1 + _OUTSIDE):
        return "corners outside of the picture; expected fractions of its width and height, 0 to 1"
    return number, corners.astype(np.float32)

"""How exports identify samples and name files: every id, key and path of a sample is made here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.objects import Objects
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.document import OBJECTS, PLACEMENTS, SCENE_PLACEMENTS

#: Characters that have a meaning for Windows, shells or paths, and lone surrogates.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
#: Names that Windows reserves for devices, with any extension.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
#: File systems accept 255 bytes, encrypted ones 143; an extension and a number must fit too.
_MAX_BYTES = 120
_PICTURE = ".png"
#: Words in names of folders and files that Hugging Face's datasets takes for the names of splits.
_SPLIT_WORDS = re.compile(
    "(?<![^-._ 0-9])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?![^-._ 0-9])"
)


#: What a foreground shows.
CATEGORY = "category"
#: What is said of each object beside its foreground.
_OF_OBJECTS = ("flip", "y", "x", "height", "width", "visible", "box")


class SampleIds:
    """The identity of a dataset's samples in all formats.

    A sample is identified by its number in the dataset. It is described by ``columns``: its placement, and
    the category of its foreground where foregrounds have any, or, where it was imported, its name, and its
    objects where these are told apart; a scene by its background and its objects, far to near.
    ``source_names`` has the file names of the ``"background"`` and ``"foreground"`` pictures that placements
    number; it is empty for an imported dataset.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        sources = dataset.document.sources
        scene = (*SCENE_PLACEMENTS, OBJECTS)
        #: The names of the categories of foregrounds, where these have any.
        self.category_names = list(dataset.categories) if any(dataset.categories) else []
        pair = (*PLACEMENTS, CATEGORY) if self.category_names else PLACEMENTS
        imported = ("name", OBJECTS) if dataset.has_objects else ("name",)
        self.columns = imported if not sources else scene if dataset.has_objects else pair
        self.source_names: dict[str, list[str]] = {}
        if sources:
            kinds = {"background": sources.backgrounds, "foreground": sources.foregrounds}
            self.source_names = {kind: [one.name for one in listed] for kind, listed in kinds.items()}

    def __getstate__(self) -> dict[str, Any]:
        # Other processes make the names of files by themselves.
        made = ("_source_folders", "_imported_paths")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    @staticmethod
    def key(sample: int) -> str:
        """The name of a sample without extension, in formats that number samples."""
        return f"{sample:08d}"

    @staticmethod
    def annotation_id(sample: int) -> int:
        """The id of a sample's annotation in COCO: pycocotools ignores matches with annotation 0."""
        return sample + 1

    def arrays(self, samples: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """``"sample"``, the (n,) numbers, and the columns of these samples, each (n,); objects as JSON."""
        found = self._values(samples)
        if OBJECTS in found:
            texts = [json.dumps(objects, ensure_ascii=False) for objects in found[OBJECTS]]
            found[OBJECTS] = np.array(texts, np.str_)
        return found

    def _values(self, samples: NDArray[np.int64]) -> dict[str, Any]:
        """The same, with a list of dictionaries for the objects of each sample."""
        read = self._dataset.read(samples, ())
        found: dict[str, Any] = {"sample": samples}
        for name in self.columns:
            if name == "name":
                names = self._dataset.names or []
                found[name] = np.array([names[i] for i in samples.tolist()], np.str_)
            elif name == OBJECTS:
                found[name] = self._objects(read.objects)
            elif name == CATEGORY:
                found[name] = self._category_numbers[read.arrays["foreground"]]
            else:
                found[name] = read.arrays[name]
        return found

    @cached_property
    def _category_numbers(self) -> NDArray[np.int64]:
        """The number of the category of each foreground."""
        sources = self._dataset.document.sources
        return np.array(() if sources is None else sources.category_numbers, np.int64)

    @property
    def meanings(self) -> dict[str, Any]:
        """What the numbers in columns stand for, as details of an export: the files of sources, and the names
        of categories.
        """
        sources = {"sources": self.source_names} if self.source_names else {}
        return sources | ({"categories": self.category_names} if self.category_names else {})

    def records(self, samples: NDArray[np.int64]) -> list[dict[str, Any]]:
        """The same for each sample, as JSON; backgrounds, foregrounds and categories by their names."""
        columns = {
            name: values if name == OBJECTS else values.tolist()
            for name, values in self._values(samples).items()
        }
        for kind, names in (self.source_names | {CATEGORY: self.category_names}).items():
            if kind in columns:
                columns[kind] = [names[i] for i in columns[kind]]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _objects(self, objects: Objects) -> list[list[dict[str, Any]]]:
        """What there is to say of the objects of each sample, far to near."""
        known = {path.removeprefix(f"{OBJECTS}/"): array.tolist() for path, array in objects.arrays().items()}
        names, categories = self.source_names.get("foreground", []), self.category_names
        said = [name for name in _OF_OBJECTS if name in known]
        return [
            [
                {
                    **({"foreground": names[known["foreground"][i][k]]} if names else {}),
                    **({CATEGORY: categories[known[CATEGORY][i][k]]} if categories else {}),
                    **{name: known[name][i][k] for name in said},
                }
                for k in range(count)
            ]
            for i, count in enumerate(objects.count.tolist())
        ]

    def paths(self, samples: NDArray[np.int64]) -> list[str]:
        """The path of each sample, without extension: ``<background>/<foreground>/<flip>-<replica>``, or its
        name; of scenes ``<background>/<replica>``. All paths differ, also where case is ignored.
        """
        if not self.source_names:
            return [self._imported_paths[i] for i in samples.tolist()]
        backgrounds, foregrounds = self._source_folders
        if OBJECTS in self.columns:
            placed = self._dataset.read(samples, ())
            pairs = zip(placed.background.tolist(), placed.replica.tolist(), strict=True)
            return [f"{backgrounds[background]}/{replica:06d}" for background, replica in pairs]
        arrays = self.arrays(samples)
        columns = (arrays[name].tolist() for name in ("background", "foreground", "flip", "replica"))
        return [
            f"{backgrounds[background]}/{foregrounds[foreground]}/{int(flip)}-{replica}"
            for background, foreground, flip, replica in zip(*columns, strict=True)
        ]

    @cached_property
    def _source_folders(self) -> list[list[str]]:
        return [
            distinct_names([_picture_name(PurePosixPath(name).stem) for name in names])
            for names in self.source_names.values()
        ]

    @cached_property
    def _imported_paths(self) -> list[str]:
        paths = []
        for name in self._dataset.names or ():
            *folders, last = map(_picture_name, name.split("/"))
            # A folder whose name ends like a picture's could collide with one.
            folders = [f"{one}_" if one.casefold().endswith(_PICTURE) else one for one in folders]
            paths.append("/".join([*folders, last]))
        return distinct_names(paths)


def safe_name(text: str) -> str:
    """A text as a file or folder name that every file system accepts, with ``_`` for other characters. It
    begins like no hidden file, no option of a command, and no formula of a spreadsheet.

    Example:
        >>> safe_name("a/b?"), safe_name("nul.png"), safe_name(".."), safe_name("=1+1")
        ('a_b_', '_nul.png', '_', '_=1+1')
    """
    name = _UNSAFE.sub("_", text).encode()[:_MAX_BYTES].decode(errors="ignore").rstrip(". ")
    if not name:
        return "_"
    return f"_{name}" if _DEVICES.fullmatch(name) or name[0] in ".-=+@" else name


def _picture_name(text: str) -> str:
    """The name of a picture or its folder, without words that are taken for those of splits."""
    return _SPLIT_WORDS.sub(r"\1~", safe_name(text))


def distinct_names(names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """The names, with ``-2``, ``-3`` and so on appended to those that repeat an earlier or a taken one,
    ignoring case.

    Example:
        >>> distinct_names(["a", "A", "b", "a-2"])
        ['a', 'A-3', 'b', 'a-2']
    """
    used = {name.casefold() for name in taken}
    reserved = used | {name.casefold() for name in names}
    distinct = []
    for name in names:
        candidate, number = name, 2
        if name.casefold() in used:
            while candidate.casefold() in reserved:
                candidate, number = f"{name}-{number}", number + 1
            reserved.add(candidate.casefold())
        used.add(candidate.casefold())
        distinct.append(candidate)
    return distinct

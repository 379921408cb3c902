"""Sets in Parquet files, as the Hugging Face Hub keeps them and ``datasets`` writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from fgbgpack.document import DEPTH, IMAGE, INSTANCE, MASK, OBJECTS
from fgbgpack.sources.names import in_natural_order
from fgbgpack.sources.pairing import NONE, Kind
from fgbgpack.sources.problems import CountedProblems, problem
from fgbgpack.sources.sets.objects import SampleObjects
from fgbgpack.sources.sets.sample_set import WRONG, Folder, SampleSet, pairs_of, parts_of, plain, require_few
from fgbgpack.sources.sets.tables import Tables, column_values, pyarrow_parquet, readable_table, row_of

#: What columns of pictures are called, the most usual first.
_NAMES: Mapping[Kind, tuple[str, ...]] = {
    "images": (IMAGE, "img", "picture", "photo", "pixel_values", "jpg"),
    "masks": (MASK, "masks", "alpha", "segmentation", "label", "annotation"),
    "instances": (INSTANCE, "instances", "instance_mask", "instance_map"),
    "depths": (DEPTH, "depths", "depth_map", "disparity"),
}
_CATEGORY = ("category", "categories", "label", "labels", "category_id")
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
_SHOWN = 6


@dataclass(frozen=True)
class _Form:
    """The columns of a table: of pictures, by their kind; and what its features are to ``datasets``."""

    pictures: Mapping[Kind, str]
    others: Sequence[str]
    features: Mapping[str, Any]
    all_pictures: Sequence[str]


def read_parquet(folder: Folder) -> SampleSet:
    """The set in a folder: pictures, their masks or instances, and ``objects``, as ``--to parquet`` exports
    them. Names of files such as ``train-00000-of-00002.parquet`` say the parts.

    Raises SourceError with all that is wrong with it, and MissingPackageError where pyarrow is not installed.
    """
    paths = in_natural_order(folder.ending(".parquet"))
    if not paths:
        raise folder.lacks("Parquet files, such as data/train-00000-of-00001.parquet", "parquet")
    form, rows = _form_of(folder, paths[0]), {}
    for path in paths:
        found = _form_of(folder, path)
        if (found.pictures, OBJECTS in found.others) != (form.pictures, OBJECTS in form.others):
            known = ", ".join(form.pictures.values())
            expected = f"those of {paths[0]} ({known}): import it apart"
            raise problem(folder.root / path, "other columns", expected, "annotations-invalid")
        rows[path] = _count(folder, path)
    return _Reader(folder, form, rows).sample_set()


def _form_of(folder: Folder, path: str) -> _Form:
    where = folder.root / path
    with readable_table(where):
        schema = pyarrow_parquet().read_schema(where)
        stated = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    info = stated.get("info") if isinstance(stated, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    features = features if isinstance(features, dict) else {}
    kinds = {one.name: str(one.type) for one in schema}
    pictures = [
        name
        for name, kind in kinds.items()
        if _is_image(features.get(name)) or (kind.startswith("struct<") and "bytes: binary" in kind)
    ]
    chosen: dict[Kind, str] = {}
    asked: dict[Kind, str | None] = {
        "images": folder.images,
        "masks": folder.masks,
        "instances": None,
        "depths": folder.depths,
    }
    for kind, given in asked.items():
        if given == NONE and kind in ("masks", "depths"):
            continue
        if (
            kind == "depths"
            and given is not None
            and any(map(folder.depth_places[0].holds, folder.depth_files))
        ):
            continue  # a folder beside the tables
        if given is not None and given not in pictures:
            expected = f"one of pictures, for --{kind}: {', '.join(pictures[:_SHOWN]) or 'there are none'}"
            raise problem(where, f"no such column as {given}", expected, "annotations-invalid")
        usual = (name for name in _NAMES[kind] if name in pictures)
        name = given or next(usual, None)
        if name is not None:
            chosen[kind] = name
    if "images" not in chosen and len(pictures) == 1:
        chosen["images"] = pictures[0]
    if "images" not in chosen:
        expected = (
            f"a column of pictures called image, or --images with one of {', '.join(pictures) or 'them'}"
        )
        raise problem(where, f"the columns {', '.join(kinds)}", expected, "annotations-invalid")
    others = [name for name in kinds if name not in pictures]
    return _Form(chosen, others, features, pictures)


def _is_image(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "Image"


def _count(folder: Folder, path: str) -> int:
    with readable_table(folder.root / path):
        return int(pyarrow_parquet().read_metadata(folder.root / path).num_rows)


class _Reader:
    """Reads all columns but those of pictures, and collects what is wrong."""

    def __init__(self, folder: Folder, form: _Form, rows: Mapping[str, int]) -> None:
        self._folder, self._form, self._rows = folder, form, rows
        self._labels = _labels_of(form.features.get(OBJECTS))
        self._categories: dict[str, int] = {}
        for name in self._labels or ():
            self._categories.setdefault(name, len(self._categories))
        self._problems = CountedProblems()

    def sample_set(self) -> SampleSet:
        """The samples, in the order of the tables."""
        pictures = dict(self._form.pictures)
        has_objects = OBJECTS in self._form.others
        objects = list(self._objects()) if has_objects else None
        if self._problems:
            raise self._folder.error(self._problems)
        of_masks = (
            objects is not None
            and "masks" in pictures
            and "instances" not in pictures
            and all(len(one) <= 1 for one in objects)
        )
        if of_masks:
            pictures["instances"] = pictures["masks"]
            objects = [replace(one, values=(255,) * len(one)) for one in objects or ()]
        told = "instances" in pictures
        unused = [name for name in self._form.all_pictures if name not in pictures.values()]
        lines = [f"Not imported: the columns {', '.join(unused)}."] if unused else []
        if has_objects and not told:
            lines.append("Objects are not imported: no column of instances tells them apart.")
        rows = [row_of(path, number) for path, count in self._rows.items() for number in range(count)]
        if not rows:
            raise self._folder.lacks("tables with a row or more", "parquet")
        files: dict[Kind, list[str]] = dict.fromkeys(pictures, rows)
        places: dict[Kind, str | None] = {**pictures}
        return SampleSet(
            "parquet",
            pairs_of(files, places, self._names()),
            (tuple(self._categories) or ("",)) if told else (),
            objects if told else None,
            parts_of([_part_of(path) for path, count in self._rows.items() for _ in range(count)]),
            list(self._rows),
            lines,
            Tables(self._folder.root, pictures),
            of_masks=of_masks,
        )

    def _names(self) -> list[str]:
        """The names of samples: those in ``name``, else of their files, else their numbers in each part."""
        if "name" in self._form.others:
            tables = (column_values(self._folder.root, path, ["name"]) for path in self._rows)
            found = [row["name"] for table in tables for row in table]
            if all(isinstance(name, str) and name for name in found) and len(set(found)) == len(found):
                return [plain(name) for name in found]
        named: list[str] = []
        column = self._form.pictures["images"]
        for path in self._rows:
            for row in column_values(self._folder.root, path, [f"{column}.path"]):
                file = (row.get(column) or {}).get("path") if isinstance(row.get(column), dict) else None
                named.append(str(PurePosixPath(file).with_suffix("")).strip("/") if file else "")
        if all(named) and len(set(named)) == len(named):
            return named
        numbers: dict[str, int] = {}
        numbered = []
        for path, count in self._rows.items():
            part = _part_of(path)
            for _ in range(count):
                numbered.append(f"{part}/{numbers.get(part, 0):08d}")
                numbers[part] = numbers.get(part, 0) + 1
        return numbered

    def _objects(self) -> Iterator[SampleObjects]:
        """The objects of each sample."""
        for path in self._rows:
            for number, row in enumerate(column_values(self._folder.root, path, [OBJECTS])):
                where = f"{self._folder.root / path}, row {number}, {OBJECTS}"
                found = self._of_row(where, _as_lists(row[OBJECTS]))
                require_few(where, len(found), self._problems)
                yield found

    def _of_row(self, where: str, lists: Mapping[str, Sequence[Any]]) -> SampleObjects:
        named = next((name for name in _CATEGORY if name in lists), None)
        given = lists[named] if named else [""] * max(map(len, lists.values()), default=0)
        numbers = tuple(self._number_of(where, one) for one in given)
        values = self._numbers(where, "instance", lists, len(numbers))
        shares = lists.get("visible")
        visible = None
        if shares is not None:
            are_shares = all(isinstance(one, float) and 0 <= one <= 1 for one in shares)
            if are_shares and len(shares) == len(numbers):
                visible = tuple(map(float, shares))
            else:
                self._wrong(where, "visible is no share of each object; expected numbers from 0 to 1")
        return SampleObjects(numbers, values=values, visible=visible)

    def _numbers(
        self, where: str, name: str, lists: Mapping[str, Sequence[Any]], count: int
    ) -> tuple[int, ...]:
        """Whole numbers of the objects that a list has, each once; none where there is no such list."""
        given = lists.get(name)
        if given is None:
            return ()
        are_numbers = all(isinstance(one, int) and one > 0 for one in given)
        if not are_numbers or len(set(given)) != count or len(given) != count:
            found = list(given)[:_SHOWN]
            self._wrong(where, f"{name} is {found}; expected the number of each object, from 1")
            return ()
        return tuple(given)

    def _number_of(self, where: str, category: Any) -> int:
        """The number of a category, by its number in the declared names or by its name."""
        if category is None:
            self._wrong(where, "an object of no category; expected one: name it, or leave the column out")
            return 0
        if self._labels is not None and isinstance(category, int):
            if 0 <= category < len(self._labels):
                return self._categories[self._labels[category]]
            known = f"expected 0 to {len(self._labels) - 1}, the categories that are declared"
            self._wrong(where, f"the unknown category {category}; {known}")
            return 0
        return self._categories.setdefault(plain(str(category)), len(self._categories))

    def _wrong(self, where: str, line: str) -> None:
        self._problems.add(WRONG, f"{where}: {line}", "annotations-invalid")


def _labels_of(feature: Any) -> tuple[str, ...] | None:
    """The names of a ``ClassLabel`` among what objects have."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    for name in _CATEGORY if isinstance(feature, dict) else ():
        one = feature.get(name)
        while isinstance(one, dict) and isinstance(one.get("feature"), dict):
            one = one["feature"]
        names = one.get("names") if isinstance(one, dict) else None
        if isinstance(names, list) and all(isinstance(text, str) for text in names):
            return tuple(map(plain, names))
    return None


def _as_lists(value: Any) -> dict[str, Sequence[Any]]:
    """Objects as a list of each thing that is said: a table may have a list of structures in its place."""
    if isinstance(value, list):
        names = dict.fromkeys(name for one in value if isinstance(one, dict) for name in one)
        return {name: [one.get(name) for one in value] for name in names}
    return {name: one for name, one in (value or {}).items() if isinstance(one, list)}


def _part_of(path: str) -> str:
    """The part that a file is of, by its name or its folder."""
    stem = PurePosixPath(path).stem
    if named := _SHARD.fullmatch(stem):
        return named[1]
    folder = PurePosixPath(path).parent.name
    return folder if stem.isdigit() and folder else stem

"""Sets as COCO keeps them: pictures, and JSON files of the objects in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbgpack.extras import require
from fgbgpack.sources.credits import Credit
from fgbgpack.sources.names import counted, in_natural_order, normal
from fgbgpack.sources.pairing import Kind, common_folder
from fgbgpack.sources.problems import CountedProblems
from fgbgpack.sources.sample_credits import SampleCredits
from fgbgpack.sources.sets.objects import Outline, SampleObjects, mask_api
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

if TYPE_CHECKING:
    from fgbgpack.sources.sets.coco_json import Annotation, Category, Image, Licence, RunLengths

_SETS = re.compile(r"(.*/)?(instances[_-][^/]*|[^/]*\.coco)\.json", re.IGNORECASE)
_OTHERS = re.compile(
    r"(.*/)?(captions|person_keypoints|panoptic|stuff|image_info)_[^/]*\.json|fgbgpack\.json"
)
#: Folders of pictures, where others have files of the same names, such as depth.
_IMAGES = re.compile("(jpe?g|png)?(images?|imgs?)")
_CREATIVE_COMMONS = re.compile(r"https?://(www\.)?creativecommons\.org/", re.IGNORECASE)
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
#: No side of a picture is longer: so many pixels can be counted in 32 bits.
_LONGEST_SIDE = 65_535
_FIRST = 1 << 20  # bytes in which the keys of a file of annotations are looked for


def coco_files(folder: Folder) -> list[str]:
    """The files of instances in a folder: those that are named as such, else those that hold some."""
    found = [path for path in in_natural_order(folder.ending(".json")) if not _OTHERS.fullmatch(path)]
    if named := [path for path in found if _SETS.fullmatch(path)]:
        return named
    near = [path for path in found if path.count("/") <= 1]
    return [path for path in near if sum(key in _start(folder, path) for key in _KEYS) > 1]


def _start(folder: Folder, path: str) -> bytes:
    try:
        with (folder.root / path).open("rb") as file:
            return file.read(_FIRST)
    except OSError:
        return b""


def read_coco(folder: Folder) -> SampleSet:
    """The set in a folder. Each JSON file is a part, where there are several. Groups of objects that are not
    told apart (``iscrowd``) are in the mask, and no objects.

    Raises SourceError with all that is wrong with it, and MissingPackageError where pycocotools or msgspec is
    not installed.
    """
    paths = coco_files(folder)
    if not paths:
        raise folder.lacks("a JSON file of COCO instances, such as annotations/instances_train.json", "coco")
    mask_api()
    reader = _Reader(folder)
    for path in paths:
        reader.add(path, _part_of(path))
    if reader.problems:
        raise folder.error(reader.problems)
    if not reader.samples:
        raise folder.lacks(f"pictures in {', '.join(paths)}", "coco")
    return reader.sample_set(paths)


@dataclass(slots=True)
class _Sample:
    """A picture, in a part; its objects and groups as they are found."""

    path: str
    part: str
    size: tuple[int, int]
    credit: Credit
    categories: list[int] = field(default_factory=list)
    outlines: list[Outline] = field(default_factory=list)
    crowds: list[Outline] = field(default_factory=list)

    def objects(self) -> SampleObjects:
        return SampleObjects(tuple(self.categories), tuple(self.outlines), tuple(self.crowds), self.size)


class _Reader:
    """Reads the files of a set one after the other, and collects what is wrong with them."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.problems = CountedProblems()
        self.samples: dict[str, _Sample] = {}
        self._categories: dict[str, int] = {}
        self._unlisted = 0

    def add(self, path: str, part: str) -> None:
        """The pictures and objects of a file."""
        coco_json, where = _coco_json(), self._folder.root / path
        try:
            found = coco_json.parse_instances(self._folder.read(path))
        except coco_json.NotInstances as error:
            expected = "expected lists of images, annotations and categories, as a COCO instance set has them"
            self.problems.add(
                WRONG, f"{where}: it is no such set ({error}); {expected}", "annotations-invalid"
            )
            return
        except ValueError as error:
            line = f"{where}: it cannot be read ({error}); expected the JSON of a COCO instance set"
            self.problems.add(WRONG, f"{line}: export it again", "annotations-unreadable")
            return
        numbers = self._numbers_of(where, found.categories)
        licences = self._licences_of(where, found.licenses or [])
        samples = self._pictures_of(where, part, found.images, licences)
        seen: set[Any] = set()
        for item in found.annotations:
            self._require_once(where, item, seen)
            self._add_object(where, item, samples, numbers)
        for sample in samples.values():
            require_few(f"{where}: {sample.path}", len(sample.outlines), self.problems)

    def _require_once(self, where: object, item: Annotation, seen: set[Any]) -> None:
        """An annotation need not have an id; tools that read files by ids would drop one of two."""
        if (key := _key(item.id)) is not None:
            if key in seen:
                expected = "expected an id for each: give one of them another one"
                self._wrong(where, f"the annotation id {key!r} is there twice; {expected}")
            seen.add(key)

    def _numbers_of(self, where: object, categories: list[Category]) -> dict[Any, int]:
        """The numbers of categories by their ids: those of one name are one, in all files."""
        found: dict[Any, int] = {}
        for item in categories:
            name, key = item.name, _key(item.id)
            if not isinstance(name, str) or key is None or key in found:
                again = "an id that is there twice" if key in found else "no id and name"
                self._wrong(where, f"the category {item.id!r} has {again}; expected one of each")
                continue
            found[key] = self._categories.setdefault(plain(name), len(self._categories))
        return found

    def _licences_of(self, where: object, licences: list[Licence]) -> dict[Any, str | None]:
        """The texts of licences by their ids; ``None`` for one of which nothing is said."""
        found: dict[Any, str | None] = {}
        for item in licences:
            key, texts = _key(item.id), [one or "" for one in (item.name, item.url)]
            if key is None or key in found or not all(isinstance(text, str) for text in texts):
                again = "an id that is there twice" if key in found else "no id, name and address"
                self._wrong(where, f"the licence {item.id!r} has {again}; expected one of each")
                found.setdefault(key, None)
                continue
            found[key] = _licence(*texts)
        return found

    def _credit_of(self, where: object, item: Image, licences: Mapping[Any, str | None]) -> Credit:
        """What is said of a picture. Where no licence is listed, ids of some say nothing."""
        licence = item.license if item.license not in ("", None) else None
        if licence is not None and licences and _key(licence) not in licences:
            expected = "expected one in the list of licenses: add it there, or take it out of the image"
            self._wrong(where, f"the image {item.id!r} has the unknown licence {licence!r}; {expected}")
        self._unlisted += licence is not None and not licences
        addresses = [one for one in (item.flickr_url, item.coco_url) if isinstance(one, str) and one.strip()]
        return Credit(license=licences.get(_key(licence)), url=addresses[0] if addresses else None)

    def _pictures_of(
        self, where: object, part: str, images: list[Image], licences: Mapping[Any, str | None]
    ) -> dict[Any, _Sample]:
        found: dict[Any, _Sample] = {}
        for item in images:
            key, name, size = _key(item.id), item.file_name, (item.width, item.height)
            if key is None or not isinstance(name, str) or not all(_is_side(side) for side in size):
                expected = "expected id, file_name, and width and height in pixels"
                self._wrong(where, f"the image {item.id!r} is not described; {expected}")
                continue
            if key in found:
                advice = f"expected an id for each picture: give {name} another one"
                self._wrong(where, f"the image id {key} is there twice, for {found[key].path}; {advice}")
                continue
            path = self._find(where, name, part)
            if path is None:
                continue
            if path in self.samples:
                before = self.samples[path].part
                advice = f"expected it in one part only: leave it out of {part or 'one of them'}"
                self._wrong(where, f"{path} is there twice (in {before or 'this file'}); {advice}")
                continue
            credit = self._credit_of(where, item, licences)
            found[key] = self.samples[path] = _Sample(path, part, size, credit)
        return found

    def _find(self, where: object, name: str, part: str) -> str | None:
        """Where a picture is: the file whose path ends so, in a folder of the part if there are several."""
        wanted = normal(name.replace("\\", "/")).lstrip("/")
        called = self._folder.by_name.get(wanted.rpartition("/")[2], [])
        found = [path for path in called if f"/{normal(path)}".endswith(f"/{wanted}")]
        likely: tuple[Callable[[str], bool], ...] = (
            lambda path: part in path.split("/")[:-1],
            lambda path: any(map(_IMAGES.fullmatch, path.lower().split("/")[:-1])),
            lambda path: normal(path) in (wanted, f"images/{wanted}"),
        )
        for is_likely in likely:
            if len(found) > 1:
                found = [path for path in found if is_likely(path)] or found
        if len(found) == 1:
            return found[0]
        root = self._folder.root
        if not found:
            line = f"{where}: the picture {name} is not there; expected it below {root}"
            self.problems.add(LACKING, f"{line}: put it there, or take it out of the file", "picture-missing")
        else:
            listed = ", ".join(in_natural_order(found)[:3])
            found_line = f"{name} is the name of {len(found)} pictures ({listed})"
            self._wrong(where, f"{found_line}; expected one: say where it is with --images")
        return None

    def _add_object(
        self,
        where: object,
        item: Annotation,
        samples: Mapping[Any, _Sample],
        numbers: Mapping[Any, int],
    ) -> None:
        name, image, category = item.id, item.image_id, item.category_id
        sample = samples.get(_key(image))
        if sample is None:
            if not self.problems:
                expected = "expected the id of one in the list of images: add it, or take this out"
                found = f"the annotation {name!r} is of the image {image!r}, which is not there"
                self._wrong(where, f"{found}; {expected}")
            return
        if (number := numbers.get(_key(category))) is None:
            expected = "expected one in the list of categories: add it there"
            self._wrong(where, f"the annotation {name!r} has the unknown category {category!r}; {expected}")
            return
        outline = self._outline_of(where, f"the annotation {name!r} of {sample.path}", item, sample.size)
        if outline is None:
            return
        if item.iscrowd:
            sample.crowds.append(outline)
        else:
            sample.categories.append(number)
            sample.outlines.append(outline)

    def _outline_of(
        self, where: object, what: str, item: Annotation, size: tuple[int, int]
    ) -> Outline | None:
        coco_json = _coco_json()
        corners = "expected x and y of three corners or more: fix or remove it"
        try:
            outline = coco_json.outline_of(item.segmentation)
        except ValueError as error:
            self._wrong(where, f"{what} has a polygon of other things than places ({error}); {corners}")
            return None
        if isinstance(outline, coco_json.RunLengths):
            return self._run_lengths(where, what, outline, size)
        if not outline:
            expected = "expected polygons or run lengths: boxes alone tell no mask"
            self._wrong(where, f"{what} has no segmentation; {expected}")
            return None
        for polygon in outline:
            if len(polygon) < 6 or len(polygon) % 2:
                self._wrong(where, f"{what} has a polygon of {len(polygon)} numbers; {corners}")
                return None
        if outside := _outside(outline, size):
            width, height = size
            expected = f"expected corners in or near it, which has {width}x{height} pixels: fix or remove it"
            self._wrong(where, f"{what} has {outside} its picture; {expected}")
            return None
        return tuple(np.array(polygon, np.float32) for polygon in outline)

    def _run_lengths(
        self, where: object, what: str, outline: RunLengths, size: tuple[int, int]
    ) -> Outline | None:
        """Run lengths, compressed; those that are not are lists of numbers."""
        width, height = size
        counts = outline.counts
        if outline.size != [height, width]:
            expected = f"expected [{height}, {width}], the height and width of its picture"
            self._wrong(where, f"{what} has run lengths of the size {outline.size!r}; {expected}")
            return None
        if isinstance(counts, str):
            return {"size": [height, width], "counts": counts.encode()}
        is_list = isinstance(counts, list) and all(isinstance(one, int) and one >= 0 for one in counts)
        if not is_list or sum(counts or ()) != width * height:
            expected = f"expected numbers that add up to its {width * height:,} pixels"
            self._wrong(where, f"{what} has run lengths that are none; {expected}")
            return None
        uncompressed = {"size": [height, width], "counts": counts}
        compressed: dict[str, Any] = mask_api().frPyObjects(uncompressed, height, width)
        return compressed

    def _wrong(self, where: object, line: str) -> None:
        self.problems.add(WRONG, f"{where}: {line}", "annotations-invalid")

    def sample_set(self, paths: list[str]) -> SampleSet:
        """All that was read, part by part, in the natural order of the pictures."""
        there = dict.fromkeys(sample.part for sample in self.samples.values())
        parts = {part: number for number, part in enumerate(there)}
        order = in_natural_order(self.samples)
        samples = sorted((self.samples[path] for path in order), key=lambda sample: parts[sample.part])
        pictures = [sample.path for sample in samples]
        places: dict[Kind, str | None] = {"images": common_folder(pictures), "instances": ", ".join(paths)}
        return SampleSet(
            "coco",
            pairs_of({"images": pictures}, places),
            tuple(self._categories) or ("",),
            [sample.objects() for sample in samples],
            parts_of([sample.part for sample in samples]),
            paths,
            list(self._notices(samples)),
            credits=SampleCredits([sample.credit for sample in samples]),
        )

    def _notices(self, samples: list[_Sample]) -> Iterator[str]:
        if crowds := sum(len(sample.crowds) for sample in samples):
            yield (
                f"{counted(crowds, 'group')} of objects that are not told apart (iscrowd): they are in the "
                "mask, and no objects."
            )
        if bare := sum(not sample.outlines and not sample.crowds for sample in samples):
            yield f"{counted(bare, 'picture')} without objects."
        if self._unlisted:
            several = counted(self._unlisted, "picture")
            yield f"{several} with the id of a licence, where no licences are listed."


def _part_of(path: str) -> str:
    """What the part is called that a file is of: what follows ``instances_``, or the folder of the file."""
    stem = PurePosixPath(path).stem
    if named := re.fullmatch(r"instances[_-](.+)", stem, re.IGNORECASE):
        return named[1]
    return PurePosixPath(path).parent.name if stem.startswith("_") else stem


def _key(value: Any) -> Any:
    """An id, which is a whole number or a text; ``None`` for anything else."""
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LONGEST_SIDE


def _outside(polygons: list[list[float]], size: tuple[int, int]) -> str:
    """What is wrong with polygons that are not of a picture of this width and height, before "its picture":
    corners may be beyond its edges, as rounding and cropping leave them, but not farther than it is large.
    """
    is_apart = False
    for first, side in enumerate(size):
        least = min(min(polygon[first::2]) for polygon in polygons)
        most = max(max(polygon[first::2]) for polygon in polygons)
        if least < -side or most > 2 * side:
            return f"a corner at {'xy'[first]} = {least if least < -side else most:g}, far outside of"
        is_apart |= most <= 0 or least >= side
    return "polygons outside of" if is_apart else ""


def _licence(name: str, url: str) -> str | None:
    """A licence as ``sources.csv`` would state it: the addresses of Creative Commons tell theirs, whose names
    are written in many ways; else its name, with its address if that says more.
    """
    name, url = name.strip(), url.strip()
    if not name or _CREATIVE_COMMONS.match(url):
        return url or name or None
    return name if url in ("", name) else f"{name} ({url})"


def _coco_json() -> Any:
    """What decodes the files; MissingPackageError where msgspec is not installed."""
    require("msgspec", extra="coco", needed_by="--from coco")
    from fgbgpack.sources.sets import coco_json

    return coco_json

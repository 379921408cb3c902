"""What a folder of annotated pictures holds, whatever the tool that it is of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from fgbgpack.errors import SourceError
from fgbgpack.import_info import ImportLayout
from fgbgpack.inputs import read_file
from fgbgpack.sources.decoding import picture_suffixes
from fgbgpack.sources.names import in_natural_order, listed, normal
from fgbgpack.sources.pairing import NONE, Kind, Pairs, Pattern, common_folder, folders_of
from fgbgpack.sources.problems import CountedProblems, problem
from fgbgpack.sources.sample_credits import SampleCredits
from fgbgpack.sources.sample_files import ARRAY_SUFFIX
from fgbgpack.sources.sets.objects import MOST_OBJECTS, SampleObjects
from fgbgpack.sources.sets.tables import Tables

#: Bytes of the largest file of annotations: that of COCO's 118,000 photographs has 450 MB.
LARGEST_ANNOTATIONS = 4 << 30
#: What files that cannot be used are called together, and pictures that are not there.
WRONG, LACKING = "annotations that cannot be used", "pictures that are not there"
_SHOWN = 3
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_LONGEST = 255  # characters of a name


@dataclass(frozen=True)
class Folder:
    """A folder that is imported: its ``files`` with their sizes, by their paths below ``root``; and what
    ``images``, ``masks`` and ``depths`` say of where pictures are, ``None`` where nothing is said.
    """

    root: Path
    files: Mapping[str, int]
    images: str | None = None
    masks: str | None = None
    depths: str | None = None

    @cached_property
    def pictures(self) -> list[str]:
        """The paths of the pictures, without those of depth."""
        found = self.ending(*picture_suffixes())
        return [path for path in found if not any(place.holds(path) for place in self.depth_places)]

    @cached_property
    def depth_places(self) -> list[Pattern]:
        """Where depth is, as it is given, or else the folders that are called so."""
        if self.depths is not None:
            return [] if self.depths == NONE else [Pattern(self.depths)]
        return [Pattern(f"{top}/") for top in folders_of("depths", self.depth_files)]

    @cached_property
    def depth_files(self) -> list[str]:
        """The paths of the files that may be depth."""
        return self.ending(*picture_suffixes(), ARRAY_SUFFIX)

    @cached_property
    def by_name(self) -> Mapping[str, list[str]]:
        """The paths of the pictures by their last parts, in NFC."""
        found: dict[str, list[str]] = {}
        given = None if self.images is None else Pattern(self.images)
        for path in self.pictures:
            if given is None or given.holds(path):
                found.setdefault(normal(path.rpartition("/")[2]), []).append(path)
        return found

    def ending(self, *suffixes: str) -> list[str]:
        """The paths of files with one of some extensions."""
        return [path for path in self.files if path.lower().endswith(suffixes)]

    def read(self, path: str) -> bytes:
        """The content of a file; raises SourceError where it cannot be read."""
        try:
            return read_file(self.root / path, LARGEST_ANNOTATIONS)
        except OSError as error:
            found = f"it cannot be read ({error.strerror})"
            raise problem(self.root / path, found, "a readable file", "annotations-unreadable") from error

    def error(self, problems: CountedProblems) -> SourceError:
        """One error for all that is wrong with annotations."""
        counts = ", ".join(f"{group}: {count:,}" for group, count in problems.counts.items())
        message = f"{self.root} cannot be imported ({counts}). Fix or remove what is named here:"
        return SourceError(message, problems.lines(), code=problems.code)

    def lacks(self, expected: str, option: str) -> SourceError:
        """The error for a folder that is not of the layout that was asked for."""
        there = listed(in_natural_order({path.partition("/")[0] for path in self.files}), _SHOWN)
        return SourceError(
            f"{self.root} cannot be imported as --from {option}: there are {there}; expected {expected}.",
            code="layout-differs",
        )


@dataclass(frozen=True, eq=False)
class SampleSet:
    """The samples of a folder of annotated pictures, in their order.

    Attributes:
        layout: What kind of folder it is.
        pairs: Their names, and their files of each kind; where ``tables`` hold them, these are rows.
        categories: The names of the categories of objects, by number.
        objects: The objects of each sample; ``None`` where nothing tells them apart.
        parts: The numbers of the samples of each part, where the folder has parts.
        annotations: The files that say what objects there are.
        notices: What is to be said of it.
        tables: What holds the pictures, where they are no files.
        of_samples: The category of all objects of a sample, by its name, where that is known before them.
        credits: What is stated of each sample's picture.
        of_masks: Whether instances are the pixels of masks above 127.
    """

    layout: ImportLayout
    pairs: Pairs
    categories: tuple[str, ...] = ()
    objects: Sequence[SampleObjects] | None = None
    parts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    annotations: Sequence[str] = ()
    notices: Sequence[str] = ()
    tables: Tables | None = None
    of_samples: Sequence[str] = ()
    credits: SampleCredits = field(default_factory=SampleCredits)
    of_masks: bool = False

    def only(self, kept: Sequence[int], pairs: Pairs) -> SampleSet:
        """Some of the samples, by their numbers, in this order; ``pairs`` are theirs."""
        place = {number: new for new, number in enumerate(kept)}
        parts = {
            part: [place[number] for number in numbers if number in place]
            for part, numbers in self.parts.items()
        }
        return replace(
            self,
            pairs=pairs,
            objects=None if self.objects is None else [self.objects[number] for number in kept],
            parts={part: numbers for part, numbers in parts.items() if numbers},
            credits=SampleCredits([self.credits.of[number] for number in kept] if self.credits.of else ()),
        )


def pairs_of(
    files: Mapping[Kind, list[str]], places: Mapping[Kind, str | None], names: Sequence[str] | None = None
) -> Pairs:
    """Samples of files of each kind, named by the paths of their pictures below the folder of all pictures,
    without extension where they differ all the same.
    """
    if names is None:
        folder = common_folder(files["images"])
        below = [normal(path.removeprefix(folder)) for path in files["images"]]
        names = [str(PurePosixPath(path).with_suffix("")) for path in below]
        if len(set(names)) < len(names):
            names = below
    kinds: tuple[Kind, ...] = ("images", "masks", "depths", "instances")
    patterns = {kind: places.get(kind) for kind in kinds}
    return Pairs(patterns, dict(files), list(names))


def plain(text: str) -> str:
    """A name as datasets store it: of one line, without control characters, not too long."""
    return _CONTROL.sub("_", " ".join(text.split()))[:_LONGEST]


def require_few(where: object, objects: int, problems: CountedProblems) -> None:
    """Notes a picture with more objects than a map of instances can hold."""
    if objects > MOST_OBJECTS:
        found = f"{objects:,} objects; expected at most {MOST_OBJECTS} in a picture"
        problems.add(WRONG, f"{where}: {found}: leave it out, or join objects", "annotations-invalid")


def parts_of(samples: Sequence[str]) -> dict[str, list[int]]:
    """The numbers of the samples of each part, by the part that each is in; none where there is one part."""
    found: dict[str, list[int]] = {}
    for number, part in enumerate(samples):
        found.setdefault(part, []).append(number)
    return found if len(found) > 1 else {}

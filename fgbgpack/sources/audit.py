"""Looks at folders of pictures before a dataset is made of them: what would be refused, and what is odd."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.sources.decoding import hash_file
from fgbgpack.sources.listing import list_pictures
from fgbgpack.sources.masks import check_alpha, read_mask
from fgbgpack.sources.memory import decoding
from fgbgpack.sources.names import counted
from fgbgpack.sources.pictures import Picture, read_picture
from fgbgpack.sources.problems import place_of, run_all
from fgbgpack.spec import AS_USUAL, Reading

#: What the pictures of a folder are, by what most of them are.
FolderKind: TypeAlias = Literal["pictures", "cut-outs", "masks"]
#: What a finding is about; ``refused`` is an error wherever the picture is used.
FindingKind: TypeAlias = Literal["refused", "remark", "identical", "similar", "mask", "colour", "size"]

_HASH_SIDE = 16  # of the perceptual hash, which has its square of bits
_WORDS = _HASH_SIDE * _HASH_SIDE // 16
#: Bits by which the hashes of nearly the same pictures differ at most. Of as many words as a hash has, some
#: are then the same: this is how such pairs are found.
_SIMILAR_BITS = 12
_LARGEST_GROUP = 500  # of pictures that share a word: more have hardly any content
_FLAT = 2.0  # standard deviation of gray levels below which a picture shows nothing
_DARK, _BRIGHT = 8.0, 247.0
_COLOURLESS = 1.5  # mean difference between channels of a gray picture
_PARTS, _ASPECT = 16, 3.0  # of the usual area, and of the usual aspect
_BLACK_OR_WHITE, _MOSTLY = 16, 0.6
_LITTLE, _NEARLY_ALL = 0.005, 0.98
_LOOKED_AT = 256


@dataclass(frozen=True)
class Finding:
    """What is found of a picture, or of several that are alike, with their paths."""

    kind: FindingKind
    paths: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Audit:
    """What is found in folders of pictures.

    Attributes:
        pictures: How many pictures each folder has.
        kinds: What they are: most of them have alpha (``"cut-outs"``), are black and white (``"masks"``), or
            neither (``"pictures"``).
        findings: What is wrong or odd, by kind and path.
    """

    pictures: dict[str, int]
    kinds: dict[str, FolderKind]
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> int:
        """How many files would be refused."""
        return len({path for found in self.findings if found.kind == "refused" for path in found.paths})

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {**dataclasses.asdict(self), "refused": self.refused}


@dataclass
class _Seen:
    """What one picture is like; what cannot be known of one that is refused is not there."""

    path: Path
    sha256: str = ""
    error: SourceError | None = None
    remarks: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    coverage: float = 1.0
    has_alpha: bool = False
    is_mask: bool = False
    spread: float = 0.0
    brightness: float = 0.0
    colour: float = 0.0
    bits: NDArray[np.uint16] = field(default_factory=lambda: np.zeros(_WORDS, np.uint16))


def audit(
    folders: Sequence[str | Path],
    reading: Reading = AS_USUAL,
    on_picture: Callable[[int, int], None] | None = None,
) -> Audit:
    """Decodes all pictures in folders, and says what would be refused, is a copy, or is unlike the others.

    Raises SourceError where a folder is missing, cannot be listed or has no pictures.
    """
    paths: list[tuple[Path, list[Path]]] = []
    findings: list[Finding] = []
    for folder in dict.fromkeys(map(Path, folders)):
        pictures, problems = list_pictures(folder)
        for where, what in map(place_of, problems):
            findings.append(Finding("refused", (where,), what))
        paths.append((folder, pictures))
    jobs = [partial(_look_at, path, reading) for _, pictures in paths for path in pictures]
    seen = iter(run_all(jobs, on_picture))
    kinds: dict[str, FolderKind] = {}
    everything: list[_Seen] = []
    for folder, pictures in paths:
        own = [next(seen) for _ in pictures]
        kind = kinds[str(folder)] = _kind(own)
        findings += _of_folder(own, kind, reading)
        if kind != "masks":
            everything += [one for one in own if one.error is None]
    findings += _copies(everything)
    order = get_args(FindingKind)
    findings.sort(key=lambda found: (order.index(found.kind), found.paths))
    return Audit({str(folder): len(pictures) for folder, pictures in paths}, kinds, tuple(findings))


def _look_at(path: Path, reading: Reading) -> _Seen:
    try:
        with decoding():
            return _seen(path, read_picture(path, reading=reading))
    except SourceError as error:
        return _Seen(path, error=error)


def _seen(path: Path, picture: Picture) -> _Seen:
    width, height = picture.rgb.size
    seen = _Seen(path, hash_file(path), remarks=picture.remarks, size=(width, height))
    part = max(1, -(-max(width, height) // _LOOKED_AT))
    size = (max(1, width // part), max(1, height // part))
    small = picture.rgb.resize(size, Image.Resampling.BOX)
    if picture.alpha is not None and picture.alpha.getextrema() != (255, 255):
        opacity = picture.alpha.resize(size, Image.Resampling.BOX)
        seen.has_alpha, seen.coverage = True, float(np.asarray(opacity).mean()) / 255
        small = Image.composite(small, Image.new("RGB", size, (128, 128, 128)), opacity)
    colours = np.asarray(small).astype(np.float32)
    gray = colours.mean(axis=2)
    seen.spread, seen.brightness = float(gray.std()), float(gray.mean())
    seen.colour = float(np.ptp(colours, axis=2).mean())
    extreme = (gray < _BLACK_OR_WHITE) | (gray > 255 - _BLACK_OR_WHITE)
    seen.is_mask = seen.colour < _COLOURLESS and float(extreme.mean()) > _MOSTLY
    steps = np.asarray(small.convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX))
    bits = np.packbits(steps[:, 1:] > steps[:, :-1])
    seen.bits = bits.view(np.uint16)
    return seen


def _kind(seen: Sequence[_Seen]) -> FolderKind:
    usable = [one for one in seen if one.error is None]
    if 2 * sum(one.has_alpha for one in usable) > len(usable):
        return "cut-outs"
    return "masks" if 2 * sum(one.is_mask for one in usable) > len(usable) else "pictures"


def _of_folder(seen: Sequence[_Seen], kind: FolderKind, reading: Reading) -> Iterator[Finding]:
    usable = [one for one in seen if one.error is None]
    for one in seen:
        if one.error is not None:
            yield Finding("refused", (str(one.path),), place_of(one.error)[1])
        for remark in one.remarks:
            yield Finding("remark", (str(one.path),), remark)
    as_usual = []
    for one in usable:
        if odd := _odd_in_mask(one, kind, reading):
            yield Finding(odd[0], (str(one.path),), odd[1])
        else:
            as_usual.append(one)
    if kind != "masks":
        yield from _odd_in_colour(as_usual)
    yield from _odd_in_size(usable)


def _odd_in_mask(one: _Seen, kind: FolderKind, reading: Reading) -> tuple[FindingKind, str] | None:
    if kind == "pictures":
        return ("mask", "it is transparent in places, and most here are not") if one.has_alpha else None
    try:
        with decoding():
            if kind == "masks":
                read_mask(one.path, reading)
            else:
                check_alpha(one.path, read_picture(one.path, reading=reading).alpha, reading)
    except SourceError as error:
        return "refused", place_of(error)[1]
    if kind == "cut-outs" and one.coverage < _LITTLE:
        return "mask", f"only {one.coverage:.2%} of it is opaque"
    if kind == "cut-outs" and one.coverage > _NEARLY_ALL:
        return "mask", f"{one.coverage:.1%} of it is opaque: is the object cut out?"
    return None


def _odd_in_colour(seen: Sequence[_Seen]) -> Iterator[Finding]:
    gray = [one for one in seen if one.colour < _COLOURLESS]
    are_few = 4 * len(gray) < len(seen)
    for one in seen:
        if one.spread < _FLAT:
            yield Finding("colour", (str(one.path),), "it shows nothing: all of it has nearly one colour")
        elif not _DARK < one.brightness < _BRIGHT:
            yield Finding("colour", (str(one.path),), f"its mean gray is {one.brightness:.0f} of 255")
        elif one.colour < _COLOURLESS and are_few:
            yield Finding("colour", (str(one.path),), "it is gray, and most here have colours")


def _odd_in_size(seen: Sequence[_Seen]) -> Iterator[Finding]:
    if len(seen) < 3:
        return
    sizes = np.array([one.size for one in seen], np.float64)
    areas, aspects = sizes.prod(axis=1), sizes[:, 0] / sizes[:, 1]
    area, aspect = np.median(areas), np.median(aspects)
    for one, own_area, own_aspect in zip(seen, areas, aspects, strict=True):
        size = "{}x{}".format(*one.size)
        if own_area * _PARTS <= area or own_area >= area * _PARTS:
            usual = f"{round(float(area) / 1000):,} thousand pixels" if area >= 1000 else f"{area:.0f} pixels"
            yield Finding("size", (str(one.path),), f"it has {size} pixels, and most have about {usual}")
        elif max(own_aspect / aspect, aspect / own_aspect) >= _ASPECT:
            yield Finding("size", (str(one.path),), f"its shape ({size}) is unlike that of most")


def _copies(seen: Sequence[_Seen]) -> Iterator[Finding]:
    """Files with the same bytes, and pictures that look nearly the same."""
    by_digest: defaultdict[str, list[_Seen]] = defaultdict(list)
    for one in seen:
        by_digest[one.sha256].append(one)
    for same in by_digest.values():
        if len(same) > 1:
            paths = tuple(sorted(str(one.path) for one in same))
            yield Finding("identical", paths, f"{counted(len(paths), 'file')} with the same bytes")
    # One of each, of those that show something.
    distinct = [same[0] for same in by_digest.values() if same[0].spread >= _FLAT]
    for group in _similar(distinct):
        paths = tuple(sorted(str(distinct[i].path) for i in group))
        yield Finding("similar", paths, f"{counted(len(paths), 'picture')} that look nearly the same")


def _similar(seen: Sequence[_Seen]) -> list[list[int]]:
    """Groups of pictures that are linked by hashes of few different bits."""
    links = list(range(len(seen)))

    def root(index: int) -> int:
        while links[index] != index:
            links[index] = links[links[index]]
            index = links[index]
        return index

    for word in range(_WORDS):
        shared: defaultdict[int, list[int]] = defaultdict(list)
        for index, one in enumerate(seen):
            shared[int(one.bits[word])].append(index)
        for group in shared.values():
            if len(group) == 1:
                continue
            some = group[:_LARGEST_GROUP]
            bits = np.stack([seen[index].bits for index in some])
            different = np.bitwise_count(bits[:, None] ^ bits).sum(axis=2)
            for first, second in np.argwhere(np.triu(different <= _SIMILAR_BITS, 1)).tolist():
                links[root(some[first])] = root(some[second])
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index in range(len(seen)):
        groups[root(index)].append(index)
    return [group for group in groups.values() if len(group) > 1]

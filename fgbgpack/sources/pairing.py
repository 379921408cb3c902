"""Which files below a folder belong together: pictures, their masks, their depth. Pure: names in, names out.

Files are named by their paths below the folder, with ``/`` between folders. They are found in folders that
are called after what is in them, or by patterns such as ``depth/{bg}/{fg}_{n}.png``.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Literal, TypeAlias, get_args

from fgbgpack.errors import SourceError, SpecError

Kind: TypeAlias = Literal["images", "masks", "depths"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: One file of each kind, in messages.
ONE: Mapping[Kind, str] = {"images": "picture", "masks": "mask", "depths": "depth map"}

#: How folders are called, in small letters and without what is no letter. Those of foregrounds, backgrounds
#: and their masks are not among them: these are what pictures were made of.
_WHOLE = "fgbg|bgfg|composites?|images?|overlay"
_FOLDERS: Mapping[Kind, re.Pattern[str]] = {
    "images": re.compile(
        "(images?|imgs?|pictures?|composites?|rgbs?|colou?rs?|overlay(s|ed)?|jpegimages"
        "|(fgbg|bgfg)s?(images?|imgs?|rgb)?)"
    ),
    "masks": re.compile(f"({_WHOLE})?(masks?|alphas?|mattes?)(images?|imgs?)?"),
    "depths": re.compile(f"({_WHOLE}|dense|inverse)?(depths?|depthmaps?|disparit(y|ies))(images?|imgs?)?"),
}
_USUAL: Mapping[Kind, str] = {
    "images": "images, composites or fg_bg",
    "masks": "masks or fg_bg_mask",
    "depths": "depth",
}
#: What a file's name may begin or end with that its partner's does not.
_WORDS = (
    "fg|bg|fgbg|bgfg|images?|imgs?|pictures?|composites?|comp|rgb|colou?r|overlay|masks?|alpha|matte|"
    "depth|depths|depthmap|dm|disparity|disp"
)
_LETTER = r"[^\W\d_]"
_BEFORE = re.compile(rf"^(?:(?:{_WORDS})(?!{_LETTER})[\W_]*)+", re.IGNORECASE)
_AFTER = re.compile(rf"(?:[\W_]*(?<!{_LETTER})(?:{_WORDS}))+$", re.IGNORECASE)
_EXAMPLES = 3
_SHOWN = 5
#: Between the fields of a key: no name of a file has it.
_BETWEEN = "\0"
#: Tells how a file of a kind would be called that has a key.
_Expected: TypeAlias = Callable[[Kind, str], str]
#: Pictures, and the files of another kind, by their keys: by what files of one sample share.
_Keyed: TypeAlias = dict[Kind, dict[str, str]]


def natural(path: str) -> str:
    """What to sort paths by, so that numbers in them count as numbers: 2.jpg comes before 10.jpg."""
    return _DIGITS.sub(_with_length, path).replace("/", "\0")


_DIGITS = re.compile("[0-9]+")


def _with_length(digits: re.Match[str]) -> str:
    number = digits[0].lstrip("0")
    return f"{len(number):03}{number}"


def _ordered(paths: Iterable[str]) -> list[str]:
    # Names that differ only in leading zeros have an order, too.
    return sorted(sorted(paths), key=natural)


class Mismatches:
    """What is wrong with files, by what is wrong with them, and how many of each there are."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._more: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return sum(map(len, self._found.values())) + self._more.total()

    def add(self, group: str, line: str) -> None:
        """One more problem of a group, such as ``"pictures without a mask"``."""
        listed = self._found.setdefault(group, [])
        if len(listed) < _SHOWN:
            listed.append(line)
        else:
            self._more[group] += 1

    def add_all(self, other: Mismatches) -> None:
        """All problems of another."""
        for group, lines in other._found.items():
            for line in lines:
                self.add(group, line)
            if more := other._more[group]:
                self._more[group] += more

    def lines(self) -> list[str]:
        """The first few of each group, and how many more there are."""
        found = []
        for group, lines in self._found.items():
            found += lines
            if more := self._more[group]:
                found.append(f"... and {more:,} more {group}, {more + len(lines):,} in all")
        return found

    def groups(self) -> dict[str, int]:
        """How many there are of each group."""
        return {group: len(lines) + self._more[group] for group, lines in self._found.items()}


@dataclass(frozen=True)
class Pattern:
    """Where files are: a folder, or a path with named fields.

    A field in braces stands for anything but a slash, and so does ``*``, of which nothing is kept. The fields
    of a file together are what its partners must have, too. ``{{`` and ``}}`` are plain braces.

    Attributes:
        text: As it was given.

    Raises:
        SpecError: It cannot be understood.
    """

    text: str

    def __post_init__(self) -> None:
        _ = self._pieces

    @cached_property
    def _pieces(self) -> list[tuple[str, str | None]]:
        """Plain text, each followed by the name of a field."""
        try:
            parsed = list(string.Formatter().parse(self.text))
        except ValueError as exc:
            raise SpecError(f"The pattern {self.text!r} cannot be read: {exc}.") from exc
        for _, name, spec, conversion in parsed:
            if name is not None and (not name.isidentifier() or spec or conversion):
                raise SpecError(
                    f"The pattern {self.text!r} has a field {{{name}}}, expected a plain name such as {{id}}."
                )
        for (_, name, _, _), (plain, following, _, _) in pairwise([*parsed, ("/", None, None, None)]):
            if name is not None and (plain.startswith("*") or (not plain and following)):
                raise SpecError(
                    f"The pattern {self.text!r} cannot be used: nothing tells where {{{name}}} ends. Put "
                    "there what comes after it."
                )
        if self.text.startswith("/") or ".." in self.text.split("/"):
            raise SpecError(f"The pattern {self.text!r} leads out of the folder, expected a path below it.")
        return [(plain, name) for plain, name, _, _ in parsed]

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in their order."""
        return tuple(dict.fromkeys(name for _, name in self._pieces if name is not None))

    @property
    def is_folder(self) -> bool:
        """Whether it has neither field nor ``*``."""
        return not self.fields and "*" not in self.text

    @property
    def folder(self) -> str:
        """The folder that all of its files are in, with a slash at the end; empty where that is the root."""
        if self.is_folder:
            return f"{self.text.strip('/')}/".removeprefix("./")
        plain = self._pieces[0][0].partition("*")[0]
        return plain[: plain.rfind("/") + 1]

    @property
    def weight(self) -> int:
        """How much of it is plain text: a file that two patterns fit belongs to the one that says more."""
        return sum(len(plain.replace("*", "")) for plain, _ in self._pieces)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        expression, seen = "", set()
        for plain, name in self._pieces:
            expression += "[^/]*".join(re.escape(part) for part in plain.split("*"))
            if name is not None:
                expression += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
                seen.add(name)
        return re.compile(expression)

    def match(self, path: str) -> dict[str, str] | None:
        """The fields of a file; ``None`` where it does not fit."""
        found = self._regex.fullmatch(path)
        return None if found is None else found.groupdict()

    def fill(self, fields: Mapping[str, str]) -> str:
        """The path that a file with these fields has."""
        return "".join(plain + (fields[name] if name is not None else "") for plain, name in self._pieces)


@dataclass(frozen=True)
class Pairs:
    """Files that belong together.

    Attributes:
        patterns: Where each kind was found, as the document has it; ``None`` for depth where there is none.
        files: The files of each kind, those of one sample at the same place, in natural order of the
            pictures. Without depth there is no such entry.
        names: What each sample is called: the path of its picture below the folder of all pictures, without
            the ending.
        mismatches: Files without partners, or with too many.
        left_out: How many files these are.
    """

    patterns: dict[Kind, str | None]
    files: dict[Kind, list[str]]
    names: list[str]
    mismatches: Mismatches = field(default_factory=Mismatches)
    left_out: int = 0


def find_pairs(
    files: Collection[str],
    given: Mapping[Kind, str | None],
    *,
    folder: str,
    without_depth: bool = False,
) -> Pairs:
    """Find which files are pictures, masks and depth, and which belong together.

    Where no pattern with fields is given, each kind has a folder, which is told or known by its name, and
    files are paired by their paths below it without the ending; or, where that leaves some alone, by these
    without what is before or after them and says what they are, as in ``12_mask.png`` or ``fgbg_12.jpg``.

    Args:
        files: The paths of all files below the folder.
        given: A pattern or a folder for each kind; ``None`` for what is to be found by its folder's name.
        folder: What messages call the folder.
        without_depth: Whether depth is not looked for.

    Raises:
        SpecError: The patterns do not go together; all problems are named together.
        SourceError: There are no pictures or no masks, or nothing tells which they are, or which belong
            together.
    """
    patterns = {kind: Pattern(text) for kind in KINDS if (text := given[kind]) is not None}
    if any(not pattern.is_folder for pattern in patterns.values()):
        _refuse_patterns(patterns)
        return _by_fields(files, patterns, folder)
    return _by_names(files, _places(files, patterns, folder, without_depth=without_depth), folder)


# --- by fields -------------------------------------------------------------------------------------


def _refuse_patterns(patterns: Mapping[Kind, Pattern]) -> None:
    problems = [
        f"--{kind}: not given, expected a pattern as well" for kind in KINDS[:2] if kind not in patterns
    ]
    expected = patterns["images"].fields if "images" in patterns else ()
    for kind, pattern in patterns.items():
        if not pattern.fields:
            problems.append(f"--{kind}: {pattern.text!r} has no field, expected one such as {{id}}")
        elif expected and set(pattern.fields) != set(expected):
            found = ", ".join(pattern.fields)
            problems.append(f"--{kind}: it has the fields {found}, expected those of --images: "
                            f"{', '.join(expected)}")  # fmt: skip
    if problems:
        raise SpecError("These patterns do not go together:", problems)


def _by_fields(files: Iterable[str], patterns: Mapping[Kind, Pattern], folder: str) -> Pairs:
    fields = patterns["images"].fields
    by_weight = sorted(patterns, key=lambda kind: -patterns[kind].weight)
    texts: dict[Kind, str | None] = {
        kind: patterns[kind].text if kind in patterns else None for kind in KINDS
    }
    joined = _Joined(folder, texts)
    for path in files:
        for kind in by_weight:
            matched = patterns[kind].match(path)
            if matched is not None:
                joined.add(kind, _BETWEEN.join(_normal(matched[name]) for name in fields), path)
                break
    problems = [
        f"--{kind} {patterns[kind].text!r}: no file fits; there are {_some(files)}"
        for kind in patterns
        if kind not in joined.kinds
    ]
    if problems:
        raise SourceError(f"Nothing can be imported from {folder}:", problems)

    def expected(kind: Kind, key: str) -> str:
        return patterns[kind].fill(dict(zip(fields, key.split(_BETWEEN), strict=True)))

    return joined.pairs(patterns["images"], expected, lambda keyed: keyed)


# --- by the names of folders and files -------------------------------------------------------------


def _places(
    files: Iterable[str], given: Mapping[Kind, Pattern], folder: str, *, without_depth: bool
) -> dict[Kind, str]:
    """The folder of each kind, with a slash at the end."""
    tops = _ordered({path.partition("/")[0] for path in files if "/" in path})
    there = _listed([f"{top}/" for top in tops]) if tops else f"only files, such as {_some(files)}"
    places: dict[Kind, str] = {}
    problems = []
    for kind in KINDS:
        if kind in given:
            places[kind] = given[kind].folder
            continue
        if kind == "depths" and without_depth:
            continue
        named = [top for top in tops if _FOLDERS[kind].fullmatch(re.sub(r"[\W\d_]", "", top).lower())]
        if len(named) > 1:
            problems.append(
                f"{', '.join(named)}: {len(named)} folders that could hold the {ONE[kind]}s; say which with "
                f"--{kind} {named[0]}"
            )
        elif named:
            places[kind] = f"{named[0]}/"
        elif kind != "depths":
            problems.append(
                f"no folder of {ONE[kind]}s: there are {there}; expected one called {_USUAL[kind]}, or "
                f"--{kind}"
            )
    if problems:
        raise SourceError(
            f"Nothing tells what is what in {folder}. Name folders, as in --images composites, or patterns, "
            'as in --images "fgbg/{id}.jpg" --masks "masks/{id}_mask.png":',
            problems,
        )
    return places


def _by_names(files: Collection[str], places: Mapping[Kind, str], folder: str) -> Pairs:
    joined = _Joined(folder, {kind: places.get(kind) for kind in KINDS})
    examples: dict[Kind, str] = {}
    # The longest first: one folder may lie in another.
    order = sorted(places.items(), key=lambda item: -len(item[1]))
    for path in files:
        for kind, place in order:
            if path.startswith(place):
                joined.add(kind, _key(path, place), path)
                examples[kind] = min(examples.get(kind, path), path)
                break
    problems = [
        f"{places[kind]}: there are no {ONE[kind]}s in it; expected picture files"
        for kind in places
        if kind not in joined.kinds
    ]
    if problems:
        raise SourceError(f"Nothing can be imported from {folder}:", problems)

    def expected(kind: Kind, key: str) -> str:
        # Called as another file is, with what that has before and after what files share.
        example = examples[kind]
        name = _key(example, places[kind]).rpartition("/")[2]
        before, _, after = name.partition(_bare(name))
        parent, slash, bare = key.rpartition("/")
        shared = f"{before}{bare}{after}" if bare == _bare(bare) else bare
        return f"{places[kind]}{parent}{slash}{shared}{PurePosixPath(example).suffix}"

    return joined.pairs(Pattern(places["images"]), expected, _closest)


def _key(path: str, place: str) -> str:
    name = path[len(place) :]
    dot = name.rfind(".")
    return _normal(name[:dot] if dot > name.rfind("/") + 1 else name)


def _closest(keyed: _Keyed) -> _Keyed:
    """The files by their keys, or by what is left of these without what says what they are."""
    images, others = keyed.values()
    alike = len(images.keys() & others.keys())
    if alike == len(images) == len(others):
        return keyed
    bare: _Keyed = {kind: {_bare(key): path for key, path in paths.items()} for kind, paths in keyed.items()}
    if any(len(bare[kind]) < len(paths) for kind, paths in keyed.items()):
        return keyed
    first, second = bare.values()
    return bare if len(first.keys() & second.keys()) > alike else keyed


def _bare(key: str) -> str:
    """A key without the words before and after it that tell what the file is."""
    parent, slash, name = key.rpartition("/")
    shorter = _AFTER.sub("", _BEFORE.sub("", name))
    return f"{parent}{slash}{shorter or name}"


# --- joining ---------------------------------------------------------------------------------------


class _Joined:
    """Joins files, and collects those that have no partner.

    Args:
        folder: What messages call the folder.
        patterns: Where each kind was found.
    """

    def __init__(self, folder: str, patterns: dict[Kind, str | None]) -> None:
        self._folder, self._patterns = folder, patterns
        self._mismatches = Mismatches()
        self._files: _Keyed = {}
        self._doubles: dict[tuple[Kind, str], list[str]] = {}
        self._found = 0

    @property
    def kinds(self) -> Collection[Kind]:
        """The kinds of which there are files."""
        return self._files.keys()

    def add(self, kind: Kind, key: str, path: str) -> None:
        """One more file. Of files that have one key, none is taken."""
        self._found += 1
        first = self._files.setdefault(kind, {}).setdefault(key, path)
        if first is not path:
            self._doubles.setdefault((kind, key), [first]).append(path)

    def pairs(self, images: Pattern, expected: _Expected, closest: Callable[[_Keyed], _Keyed]) -> Pairs:
        """The samples that have all.

        Args:
            images: Where the pictures are.
            expected: How a partner would be called.
            closest: Gives pictures and other files the keys that are best to join them by.
        """
        for (kind, key), paths in self._doubles.items():
            del self._files[kind][key]
            self._mismatches.add(
                f"{ONE[kind]}s of the same name",
                f"{', '.join(sorted(paths))}: {len(paths)} {ONE[kind]}s of the same name; expected one",
            )
        partners: dict[Kind, dict[str, str]] = {}
        for kind in [kind for kind in self._files if kind != "images"]:
            pair = closest({"images": self._files["images"], kind: self._files.pop(kind)})
            pictures, others = pair["images"], pair[kind]
            if not pictures.keys() & others.keys():
                raise self._nothing_in_common(kind, pictures.values(), others.values())
            partners[kind] = {path: others[key] for key, path in pictures.items() if key in others}
            sides: tuple[tuple[Kind, Kind, Mapping[str, str], Mapping[str, str]], ...] = (
                ("images", kind, pictures, others),
                (kind, "images", others, pictures),
            )
            for alone, partner, here, there in sides:
                missing = {
                    path: key
                    for key, path in here.items()
                    if key not in there and (partner, key) not in self._doubles
                }
                for path in _ordered(missing):
                    wanted = expected(partner, missing[path])
                    self._mismatches.add(
                        f"{ONE[alone]}s without a {ONE[partner]}",
                        f"{path}: there is no {ONE[partner]} for it; expected {wanted}",
                    )
        del pair, pictures, others, sides, here, there
        whole = set.intersection(*(set(found) for found in partners.values()))
        self._files.clear()
        files: dict[Kind, list[str]] = {"images": _ordered(whole)}
        for kind in KINDS[1:]:
            if found := partners.pop(kind, None):
                files[kind] = [found[path] for path in files["images"]]
        names = [_key(path, images.folder) for path in files["images"]]
        if len(set(names)) < len(names):
            names = [_normal(path.removeprefix(images.folder)) for path in files["images"]]
        left_out = self._found - sum(map(len, files.values()))
        return Pairs(self._patterns, files, names, self._mismatches, left_out)

    def _nothing_in_common(self, kind: Kind, *found: Collection[str]) -> SourceError:
        picture, other = (min(paths, key=natural, default="(none)") for paths in found)
        return SourceError(
            f"No {ONE[kind]} in {self._folder} is called like a picture: there are {picture} and {other}. "
            "Say what they share with patterns, such as "
            '--images "fgbg/{id}.jpg" --masks "masks/{id}_mask.png".'
        )


def _normal(name: str) -> str:
    """One spelling for names that look the same (file systems differ in how they store accents)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _some(files: Iterable[str]) -> str:
    return _listed(_ordered(files))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_EXAMPLES])
    return f"{shown}, ..." if len(names) > _EXAMPLES else shown or "none"

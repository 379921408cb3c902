"""Which files below a folder belong together: pictures, their masks, their depth. Pure: names in, names out.

Files are named by their paths below the folder, with ``/`` between folders. They are found in folders that
are named after their content, or by patterns such as ``depth/{bg}/{fg}_{n}.png``.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Literal, TypeAlias, get_args

from fgbgpack.errors import SourceError, SpecError
from fgbgpack.sources.names import in_natural_order, listed, normal
from fgbgpack.sources.problems import CountedProblems

Kind: TypeAlias = Literal["images", "masks", "depths", "instances"]
#: The kinds of files that are paired.
KINDS: tuple[Kind, ...] = get_args(Kind)[:3]
#: What messages call one file of each kind.
SINGULAR: Mapping[Kind, str] = {
    "images": "picture",
    "masks": "mask",
    "depths": "depth map",
    "instances": "picture of instances",
}

#: In place of a pattern: the folder's files of this kind are ignored.
NONE = "none"
#: The codes of problems of files that are not there.
MISSING: Mapping[Kind, str] = {
    "images": "picture-missing",
    "masks": "mask-missing",
    "depths": "depth-map-missing",
}
#: Names of folders in lower case, without anything but letters. Those of foregrounds, backgrounds and their
#: masks are not among them: they hold what pictures were made of.
_WHOLE = "fgbg|bgfg|composites?|images?|overlay"
_FOLDERS: Mapping[Kind, re.Pattern[str]] = {
    "images": re.compile(
        "(images?|imgs?|pictures?|composites?|rgbs?|colou?rs?|overlay(s|ed)?|jpegimages"
        "|(fgbg|bgfg)s?(images?|imgs?|rgb)?)"
    ),
    "masks": re.compile(f"({_WHOLE})?(masks?|alphas?|mattes?)(images?|imgs?)?"),
    "depths": re.compile(f"({_WHOLE}|dense|inverse)?(depths?|depthmaps?|disparit(y|ies))(images?|imgs?)?"),
}
_USUAL_FOLDERS: Mapping[Kind, str] = {
    "images": "images, composites or fg_bg",
    "masks": "masks or fg_bg_mask",
    "depths": "depth",
}
#: Words at the beginning or the end of a file's name that its partner's name may lack.
_WORDS = (
    "fg|bg|fgbg|bgfg|images?|imgs?|pictures?|composites?|comp|rgb|colou?r|overlay|masks?|alpha|matte|"
    "depth|depths|depthmap|dm|disparity|disp"
)
_LETTER = r"[^\W\d_]"
_PREFIX = re.compile(rf"^(?:(?:{_WORDS})(?!{_LETTER})[\W_]*)+", re.IGNORECASE)
_SUFFIX = re.compile(rf"(?:[\W_]*(?<!{_LETTER})(?:{_WORDS}))+$", re.IGNORECASE)
_SHOWN = 3
#: Separates the fields of a key: no name of a file has it.
_SEPARATOR = "\0"
#: The paths of each kind by their keys: by what the files of one sample share.
_Keyed: TypeAlias = dict[Kind, dict[str, str]]


@dataclass(frozen=True)
class Pattern:
    """Where files are: a folder, or a path with named fields; raises SpecError where the text is neither.

    A field in braces stands for anything but a slash, and so does ``*``, which is not kept. Files that belong
    together have the same fields. ``{{`` and ``}}`` are plain braces.

    Example:
        >>> Pattern("fgbg/{bg}_{n}.jpg").match("fgbg/3_17.jpg")
        {'bg': '3', 'n': '17'}
    """

    text: str

    def __post_init__(self) -> None:
        _ = self._pieces

    @cached_property
    def _pieces(self) -> list[tuple[str, str | None]]:
        """Pieces of plain text, each with the name of the field that follows it."""
        try:
            parsed = list(string.Formatter().parse(self.text))
        except ValueError as exc:
            raise self._invalid(f"cannot be read: {exc}.") from exc
        for _, name, spec, conversion in parsed:
            if name is not None and (not name.isidentifier() or spec or conversion):
                raise self._invalid(f"has a field {{{name}}}, expected a plain name such as {{id}}.")
        for (_, name, _, _), (plain, following, _, _) in pairwise([*parsed, ("/", None, None, None)]):
            if name is not None and (plain.startswith("*") or (not plain and following)):
                raise self._invalid(
                    f"cannot be used: nothing tells where {{{name}}} ends. Add the text that follows it."
                )
        if self.text.startswith("/") or ".." in self.text.split("/"):
            raise self._invalid("leads out of the folder, expected a path below it.")
        return [(plain, name) for plain, name, _, _ in parsed]

    def _invalid(self, reason: str) -> SpecError:
        return SpecError(f"The pattern {self.text!r} {reason}", code="pattern-invalid")

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in their order."""
        return tuple(dict.fromkeys(name for _, name in self._pieces if name is not None))

    @property
    def is_folder(self) -> bool:
        """Whether it has neither field nor ``*``."""
        return not self.fields and "*" not in self.text

    @cached_property
    def folder(self) -> str:
        """The folder that holds all its files, with a slash at the end; empty for the root."""
        if self.is_folder:
            folder = f"{self.text.strip('/')}/".removeprefix("./")
            return "" if folder == "/" else folder
        plain = self._pieces[0][0].partition("*")[0]
        return plain[: plain.rfind("/") + 1]

    @property
    def weight(self) -> int:
        """Number of plain characters: a file that two patterns match belongs to the one with more."""
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
        """The fields of a file; ``None`` where it does not match."""
        found = self._regex.fullmatch(path)
        return None if found is None else found.groupdict()

    def holds(self, path: str) -> bool:
        """Whether a file is in the folder, or matches."""
        return path.startswith(self.folder) if not self.fields else self.match(path) is not None

    def fill(self, fields: Mapping[str, str]) -> str:
        """The path of a file with these fields."""
        return "".join(plain + (fields[name] if name is not None else "") for plain, name in self._pieces)


@dataclass(frozen=True)
class Pairs:
    """Files that belong together.

    ``patterns`` says where each kind was found, as documents state it; ``None`` for depth where there is
    none. ``files`` has those of one sample at the same place, in natural order of the pictures, whose paths
    below their folder, without extension, are the ``names``. ``left_out`` files have no partner, or several.
    """

    patterns: dict[Kind, str | None]
    files: dict[Kind, list[str]]
    names: list[str]
    unmatched: CountedProblems = field(default_factory=CountedProblems)
    left_out: int = 0


def find_pairs(
    files: Collection[str],
    given: Mapping[Kind, str | None],
    *,
    folder: str,
    without: Collection[Kind] = (),
) -> Pairs:
    """Finds which files below a folder are pictures, masks and depth, and which belong together.

    Each kind may have a pattern or a folder. Where no pattern with fields is given, folders that are not
    given are recognised by their names, but those of kinds that are done ``without``. Files are paired by
    their paths below them without extension or, where that leaves some unmatched, also without words before
    and after that say what the file is, as in ``12_mask.png`` or ``fgbg_12.jpg``. Raises SpecError where
    patterns are not valid or do not fit together, with all problems; SourceError where there are no pictures
    or no masks, or nothing tells which they are, or which belong together.

    Example:
        >>> files = ["images/a.jpg", "masks/a_mask.png", "images/b.jpg"]
        >>> pairs = find_pairs(files, {"images": None, "masks": None, "depths": None}, folder="in")
        >>> pairs.files, pairs.names, pairs.left_out
        ({'images': ['images/a.jpg'], 'masks': ['masks/a_mask.png']}, ['a'], 1)
    """
    patterns = {kind: Pattern(text) for kind in KINDS if (text := given[kind]) is not None}
    if all(pattern.is_folder for pattern in patterns.values()):
        places = _recognised_folders(files, patterns, folder, without)
    else:
        check_patterns(patterns, without)
        places = {kind: Place(pattern, patterns["images"].fields) for kind, pattern in patterns.items()}
    return _Matcher(files, places, folder).pairs()


def common_folder(paths: Sequence[str]) -> str:
    """The folder that all files are in, with a slash at the end; empty for the root."""
    common = 0
    first, last = min(paths, default=""), max(paths, default="")
    while common < min(len(first), len(last)) and first[common] == last[common]:
        common += 1
    return first[: first.rfind("/", 0, common) + 1]


def folders_of(kind: Kind, files: Iterable[str]) -> list[str]:
    """The folders at the top that are called as those of a kind are."""
    tops = in_natural_order({path.partition("/")[0] for path in files if "/" in path})
    return [top for top in tops if _FOLDERS[kind].fullmatch(re.sub(r"[\W\d_]", "", top).lower())]


def require_one(kind: Kind, folders: Sequence[str], folder: str) -> None:
    """Raises SourceError where several folders may be those of a kind."""
    if len(folders) > 1:
        message = f"The {SINGULAR[kind]}s in {folder} are not recognised:"
        raise SourceError(message, [_several(kind, folders)], code="folders-not-recognised")


def _several(kind: Kind, folders: Sequence[str]) -> str:
    return (
        f"{', '.join(folders)}: {len(folders)} folders that could hold the {SINGULAR[kind]}s; choose "
        f"one, as in --{kind} {folders[0]}"
    )


def check_patterns(patterns: Mapping[Kind, Pattern], without: Collection[Kind]) -> None:
    """Raises SpecError where patterns with fields do not go together, with all that is wrong."""
    problems = [
        f"--{kind}: not given, expected a pattern as well"
        for kind in KINDS[:2]
        if kind not in patterns and kind not in without
    ]
    expected = patterns["images"].fields if "images" in patterns else ()
    for kind, pattern in patterns.items():
        if not pattern.fields:
            problems.append(f"--{kind}: {pattern.text!r} has no field, expected one such as {{id}}")
        elif expected and set(pattern.fields) != set(expected):
            found, shared = ", ".join(pattern.fields), ", ".join(expected)
            problems.append(f"--{kind}: it has the fields {found}, expected those of --images: {shared}")
    if problems:
        raise SpecError("These patterns do not go together:", problems, code="patterns-differ")


def _recognised_folders(
    files: Collection[str], given: Mapping[Kind, Pattern], folder: str, without: Collection[Kind]
) -> dict[Kind, Place]:
    """The folder of each kind that is given or has a known name."""
    tops = in_natural_order({path.partition("/")[0] for path in files if "/" in path})
    present = listed([f"{top}/" for top in tops], _SHOWN) or f"only files, such as {_examples(files)}"
    places: dict[Kind, Place] = {}
    problems = []
    for kind in KINDS:
        if kind in given:
            places[kind] = Place(Pattern(given[kind].folder))
            continue
        if kind in without:
            continue
        named = folders_of(kind, files)
        if len(named) > 1:
            problems.append(_several(kind, named))
        elif named:
            places[kind] = Place(Pattern(f"{named[0]}/"))
        elif kind != "depths":
            problems.append(
                f"no folder of {SINGULAR[kind]}s: there are {present}; expected one called "
                f"{_USUAL_FOLDERS[kind]}, or --{kind}"
            )
    if problems:
        raise SourceError(
            f"Pictures and masks in {folder} are not recognised. Give folders, as in --images composites, or "
            'patterns, as in --images "fgbg/{id}.jpg" --masks "masks/{id}_mask.png":',
            problems,
            code="folders-not-recognised",
        )
    return places


def _without_extension(path: str, folder: str) -> str:
    name = path[len(folder) :]
    dot = name.rfind(".")
    return normal(name[:dot] if dot > name.rfind("/") + 1 else name)


def best_keys(keyed: _Keyed) -> _Keyed:
    """The pictures and other files by their keys, or by these without words where that pairs more."""
    images, others = keyed.values()
    paired = len(images.keys() & others.keys())
    if paired == len(images) == len(others):
        return keyed
    shorter: _Keyed = {
        kind: {_without_words(key): path for key, path in paths.items()} for kind, paths in keyed.items()
    }
    if any(len(shorter[kind]) < len(paths) for kind, paths in keyed.items()):
        return keyed
    first, second = shorter.values()
    return shorter if len(first.keys() & second.keys()) > paired else keyed


def _without_words(key: str) -> str:
    """A key without the words before and after it that say what the file is."""
    parent, slash, name = key.rpartition("/")
    shorter = _SUFFIX.sub("", _PREFIX.sub("", name))
    return f"{parent}{slash}{shorter or name}"


@dataclass
class Place:
    """Where the files of a kind are, and the fields of their keys: none where paths are keys."""

    pattern: Pattern
    fields: tuple[str, ...] = ()
    example: str = ""

    def key(self, path: str) -> str | None:
        """What a file shares with its partners; ``None`` for a file that is elsewhere."""
        if not self.fields:
            folder = self.pattern.folder
            return _without_extension(path, folder) if path.startswith(folder) else None
        matched = self.pattern.match(path)
        return None if matched is None else _SEPARATOR.join(normal(matched[name]) for name in self.fields)

    def path_of(self, key: str) -> str:
        """The path that a file with this key is expected to have."""
        if self.fields:
            return self.pattern.fill(dict(zip(self.fields, key.split(_SEPARATOR), strict=True)))
        # Like the example, with the words that it has before and after what files share.
        folder = self.pattern.folder
        name = _without_extension(self.example, folder).rpartition("/")[2]
        before, _, after = name.partition(_without_words(name))
        parent, slash, bare = key.rpartition("/")
        shared = f"{before}{bare}{after}" if bare == _without_words(bare) else bare
        return f"{folder}{parent}{slash}{shared}{PurePosixPath(self.example).suffix}"


class _Matcher:
    def __init__(self, files: Collection[str], places: Mapping[Kind, Place], folder: str) -> None:
        self._places, self._folder = places, folder
        self._unmatched = CountedProblems()
        self._files: _Keyed = {}
        self._duplicates: dict[tuple[Kind, str], list[str]] = {}
        self._count = 0
        order = sorted(places.items(), key=lambda item: -item[1].pattern.weight)
        for path in files:
            for kind, place in order:
                if (key := place.key(path)) is not None:
                    self._count += 1
                    first = self._files.setdefault(kind, {}).setdefault(key, path)
                    if first is not path:
                        self._duplicates.setdefault((kind, key), [first]).append(path)
                    break
        problems = [
            unfitting(kind, place.pattern, files) for kind, place in places.items() if kind not in self._files
        ]
        if problems:
            raise no_file_fits(folder, problems)
        for kind, place in places.items():
            place.example = min(self._files[kind].values())

    def pairs(self) -> Pairs:
        """The samples that have all their files. Files of one kind with the same key are all left out."""
        for (kind, key), paths in self._duplicates.items():
            del self._files[kind][key]
            same = f"{SINGULAR[kind]}s of the same name"
            line = f"{', '.join(sorted(paths))}: {len(paths)} {same}; expected one"
            self._unmatched.add(same, line, "name-not-unique")
        partners = self._partners()
        # There may be millions of files: what is not needed any more is freed.
        complete = set.intersection(*(set(found) for found in partners.values()))
        self._files.clear()
        files: dict[Kind, list[str]] = {"images": in_natural_order(complete)}
        for kind in KINDS[1:]:
            if found := partners.pop(kind, None):
                files[kind] = [found[path] for path in files["images"]]
        folder = self._places["images"].pattern.folder
        names = [_without_extension(path, folder) for path in files["images"]]
        if len(set(names)) < len(names):
            names = [normal(path.removeprefix(folder)) for path in files["images"]]
        patterns = {kind: self._places[kind].pattern.text if kind in self._places else None for kind in KINDS}
        left_out = self._count - sum(map(len, files.values()))
        return Pairs(patterns, files, names, self._unmatched, left_out)

    def _partners(self) -> dict[Kind, dict[str, str]]:
        """The other files of each picture, by their kind; the pictures themselves where there are none."""
        partners: dict[Kind, dict[str, str]] = {}
        for kind in [kind for kind in KINDS[1:] if kind in self._files]:
            pair: _Keyed = {"images": self._files["images"], kind: self._files.pop(kind)}
            pictures, others = (pair if self._places[kind].fields else best_keys(pair)).values()
            if not pictures.keys() & others.keys():
                picture, other = (
                    in_natural_order(paths.values())[0] if paths else "(none)" for paths in (pictures, others)
                )
                raise names_differ(self._folder, kind, picture, other)
            partners[kind] = {path: others[key] for key, path in pictures.items() if key in others}
            self._report_missing("images", pictures, kind, others)
            self._report_missing(kind, others, "images", pictures)
        if not partners:
            partners["images"] = {path: path for path in self._files["images"].values()}
        return partners

    def _report_missing(
        self, kind: Kind, files: Mapping[str, str], partner: Kind, partners: Mapping[str, str]
    ) -> None:
        alone = {
            path: key
            for key, path in files.items()
            if key not in partners and (partner, key) not in self._duplicates
        }
        group = f"{SINGULAR[kind]}s without a {SINGULAR[partner]}"
        for path in in_natural_order(alone):
            expected = self._places[partner].path_of(alone[path])
            line = f"{path}: there is no {SINGULAR[partner]} for it; expected {expected}"
            self._unmatched.add(group, line, MISSING[partner])


def names_differ(folder: str, kind: Kind, picture: str, other: str) -> SourceError:
    """The error where no file of a kind is named like a picture, with one of both."""
    return SourceError(
        f"No {SINGULAR[kind]} in {folder} is named like a picture: there are {picture} and {other}. Say what "
        "they share with patterns, such as "
        '--images "fgbg/{id}.jpg" --masks "masks/{id}_mask.png".',
        code="names-differ",
    )


def no_file_fits(folder: str, problems: Sequence[str]) -> SourceError:
    """The error where kinds of files are not where they were said to be."""
    return SourceError(f"Nothing can be imported from {folder}:", problems, code="folder-without-pictures")


def unfitting(kind: Kind, pattern: Pattern, files: Iterable[str]) -> str:
    """What is wrong with a pattern that no file fits."""
    return f"--{kind} {pattern.text!r}: no file fits; there are {_examples(files)}"


def _examples(files: Iterable[str]) -> str:
    return listed(in_natural_order(files), _SHOWN) or "none"

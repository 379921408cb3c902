"""Lists the files of folders: the pictures that a dataset is made of, and the files of an import."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from fgbgpack.errors import SourceError
from fgbgpack.files import is_url, shown
from fgbgpack.source_info import SourceInfo
from fgbgpack.sources.credits import CREDITS_FILE, OF_BACKGROUNDS, OF_FOREGROUNDS, Credit, read_credits
from fgbgpack.sources.decoding import hash_file, lacking_plugins, picture_suffixes
from fgbgpack.sources.memory import decoding
from fgbgpack.sources.names import counted, listed, normal
from fgbgpack.sources.pictures import read_picture
from fgbgpack.sources.problems import combined, problem, run_all
from fgbgpack.sources.sample_files import ARRAY_SUFFIX
from fgbgpack.spec import AS_USUAL, Reading, is_unicode

_BACKGROUNDS, _FOREGROUNDS, _MASKS = "--backgrounds", "--foregrounds", "--masks"
_DEPTH = "--background-depth"
_MASK_PATTERN, _SAME_STEM = "--mask-pattern", "{name}"
_SHOWN, _MOST_NAMED = 3, 5
# As in the schema of the document, which holds these names.
_CONTROL = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True, eq=False)
class Source(SourceInfo):
    """A picture that was found, and how it is read. It equals what a dataset says of the same picture.

    ``cut`` is at which sides it is cut, where ``sources.csv`` says so, ``depth_path`` the file of its depth.
    """

    path: Path = field(kw_only=True)
    mask_path: Path | None = field(default=None, kw_only=True)
    reading: Reading = field(default=AS_USUAL, kw_only=True)
    cut: int | None = field(default=None, kw_only=True)
    depth_path: Path | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Sources:
    """The pictures found in the folders, in the order of their names. Ignored are files that are no pictures
    by their extension, subfolders (ending in a slash), and masks of no foreground; notices are about
    ``sources.csv``.
    """

    backgrounds: tuple[Source, ...]
    foregrounds: tuple[Source, ...]
    ignored: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def find_sources(
    backgrounds: Path,
    foregrounds: Path,
    masks: Path | None = None,
    mask_pattern: str | None = None,
    reading: Reading = AS_USUAL,
    *,
    classes: bool = False,
    floors: bool = False,
    depth: Path | None = None,
) -> Sources:
    """Lists and hashes the pictures of each folder.

    A file is a picture if Pillow can decode files of its extension. Pictures are ordered by their names in
    NFC; hidden files are ignored and subfolders are not searched. Masks are matched by file stem in NFC, or
    are called as ``mask_pattern`` says, with ``{name}`` for the stem of the foreground, and then lie beside
    the foregrounds unless there is a folder of them. Without either the foregrounds' own alpha is their mask.
    A ``sources.csv`` beside backgrounds or foregrounds may state their licences, authors and addresses, and
    the categories of foregrounds. With
    ``classes`` each subfolder of the foregrounds is a category: it is searched, its masks are in a subfolder
    of the same name, and the names of its pictures begin with it and a slash. With ``floors`` the backgrounds
    have the horizons, focal lengths and masks of floors that ``sources.csv`` names. Each background has a
    file of its stem in the folder ``depth``, if there is one.

    Raises:
        SourceError: A folder is missing, a file, or without pictures; two files of a folder share a stem; a
            foreground has no mask, or a background no depth; a file cannot be read; a ``sources.csv`` is
            broken. Pictures that cannot be decoded are named too when there is another problem; otherwise
            ``load_catalog`` finds them.
    """
    listing = _Listing()
    naming = _MaskNames(mask_pattern or _SAME_STEM)
    # Masks beside the foregrounds are told from these by their names alone.
    beside = mask_pattern is not None and (masks is None or _is_same(masks, foregrounds))
    background_paths = listing.pictures(_BACKGROUNDS, backgrounds)
    # One folder of both has one table of both.
    is_shared = _is_same(backgrounds, foregrounds)
    credit_of = listing.credits(backgrounds, background_paths, () if is_shared else OF_FOREGROUNDS)
    name_of = {path: path.name for path in background_paths}
    foreground_paths: list[Path] = []
    mask_of: dict[Path, Path] = {}
    floor_of = listing.floors(backgrounds, credit_of) if floors else {}
    name_of |= {path: path.relative_to(backgrounds).as_posix() for path in floor_of.values()}
    for category in listing.categories(foregrounds) if classes else [""]:
        folder, mask_folder = foregrounds / category, None if masks is None else masks / category
        found = listing.pictures(_FOREGROUNDS, folder, naming if beside else None)
        if mask_folder is not None or beside:
            mask_paths = listing.masks_beside if beside else listing.pictures(_MASKS, mask_folder or folder)
            if found and (mask_paths or beside):
                mask_of |= listing.matched(folder, found, mask_folder or folder, mask_paths, naming)
        credit_of |= listing.credits(folder, found, () if is_shared else OF_BACKGROUNDS)
        foreground_paths += found
        masks_found = [mask_of[path] for path in found if path in mask_of]
        prefix = f"{category}/" if category else ""
        name_of |= {path: f"{prefix}{path.name}" for path in (*found, *masks_found)}

    depth_of = {} if depth is None else listing.depths(depth, background_paths)
    paths = [*background_paths, *foreground_paths, *mask_of.values(), *floor_of.values()]
    if listing.problems:
        try:
            run_all([partial(_decode, path, reading) for path in paths])
        except SourceError as error:
            listing.problems.append(error)
        raise combined(listing.problems)
    paths += depth_of.values()
    digest = dict(zip(paths, run_all([partial(hash_file, path) for path in paths]), strict=True))

    def source(path: Path, mask: Path | None = None) -> Source:
        stated, its_depth = credit_of.get(path, Credit()), depth_of.get(path)
        return Source(
            name_of[path],
            digest[path],
            None if mask is None else name_of[mask],
            None if mask is None else digest[mask],
            stated.license,
            stated.author,
            stated.url,
            stated.horizon if floors else None,
            stated.focal_length if floors else None,
            None if its_depth is None else its_depth.name,
            None if its_depth is None else digest[its_depth],
            path=path,
            mask_path=mask,
            reading=reading,
            cut=stated.cut,
            stated_category=stated.category,
            depth_path=its_depth,
        )

    return Sources(
        tuple(source(path, floor_of.get(path)) for path in background_paths),
        tuple(source(path, mask_of.get(path)) for path in foreground_paths),
        tuple(listing.ignored),
        tuple(dict.fromkeys(listing.notices)),
    )


@decoding()
def _decode(path: Path, reading: Reading) -> None:
    read_picture(path, reading=reading)


class _MaskNames:
    """What the masks of foregrounds are called: a pattern with ``{name}`` for the foreground's stem."""

    def __init__(self, pattern: str) -> None:
        self._before, _, self._after = normal(pattern).partition("{name}")
        self._has_suffix = Path(f"x{self._after}").suffix.lower() in picture_suffixes()

    def of(self, foreground: Path) -> str:
        """What the mask of a foreground is called, without extension where the pattern has none."""
        return f"{self._before}{_stem(foreground)}{self._after}"

    def key(self, mask: Path) -> str:
        """What a mask is found by: its name, without extension where the pattern has none."""
        return normal(mask.name) if self._has_suffix else _stem(mask)

    def example(self, foreground: Path) -> str:
        """What the mask of a foreground may be called."""
        return self.of(foreground) + ("" if self._has_suffix else ".png (or another extension)")

    def divide(self, paths: list[Path]) -> tuple[list[Path], list[Path]]:
        """The foregrounds and the masks in one folder."""
        masks: list[Path] = []
        others: list[Path] = []
        for path in paths:
            key = self.key(path)
            inner = len(key) - len(self._before) - len(self._after)
            is_mask = inner > 0 and key.startswith(self._before) and key.endswith(self._after)
            (masks if is_mask else others).append(path)
        return others, masks


def _is_same(folder: Path, other: Path) -> bool:
    try:
        return folder.samefile(other)
    except OSError:
        return False


def list_pictures(folder: Path) -> tuple[list[Path], list[SourceError]]:
    """The pictures of a folder in the order of their names, and what is wrong with names and other files.

    Raises SourceError where the folder is missing, cannot be listed or has no pictures.
    """
    listing = _Listing()
    pictures = listing.pictures("", folder)
    if not pictures and listing.problems:
        raise combined(listing.problems)
    return pictures, listing.problems


class _Listing:
    """Lists folders of pictures and collects their problems, and the paths that were left out."""

    def __init__(self) -> None:
        self.problems: list[SourceError] = []
        self.ignored: list[str] = []
        self.notices: list[str] = []
        self.masks_beside: list[Path] = []

    def _add(self, where: Path | str, found: str, expected: str, code: str) -> None:
        self.problems.append(problem(where, found, expected, code))

    def categories(self, folder: Path) -> list[str]:
        """The names of the subfolders of a folder; what lies beside them is ignored."""
        where, expected = f"{_FOREGROUNDS} {shown(folder)}", "a folder with a subfolder for each category"
        entries = self._entries(where, folder, expected)
        if entries is None:
            return []
        names = [entry.name for entry in entries if entry.is_dir() and is_unicode(entry.name)]
        self.ignored += sorted(str(entry) for entry in entries if not entry.is_dir())
        if not names:
            self._add(where, "no subfolders", expected, "folder-without-categories")
        return names

    def _entries(self, where: str, folder: Path, expected: str) -> list[Path] | None:
        """What is in a folder and not hidden, in the order of names; ``None`` where it cannot be listed."""
        try:
            if folder.is_dir():
                entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
                return sorted(entries, key=lambda entry: (normal(entry.name), entry.name))
            self._add(where, _no_folder(folder), expected, "folder-missing")
        except OSError as error:
            self._add(where, f"it cannot be listed ({error.strerror})", expected, "folder-unreadable")
        return None

    def pictures(self, option: str, folder: Path, masks: _MaskNames | None = None) -> list[Path]:
        """The pictures of a folder; those that are called as masks are ``masks_beside``."""
        where = f"{option} {shown(folder)}".lstrip()
        entries = self._entries(where, folder, "a folder of pictures")
        if entries is None:
            return []
        pictures: list[Path] = []
        folders: list[str] = []
        others: list[str] = []
        for entry in entries:
            if not is_unicode(entry.name):
                self._add(
                    f"{str(entry)!a}", "its name is not valid Unicode", "a name that is", "name-not-unicode"
                )
            elif _CONTROL.search(entry.name):
                self._add(
                    repr(str(entry)),
                    "its name has control characters",
                    "a name without",
                    "name-not-printable",
                )
            elif entry.is_dir():
                folders.append(f"{entry}/")
            elif entry.suffix.lower() in lacking_plugins():
                self._add(entry, *needs_plugin(entry.suffix))
            elif entry.suffix.lower() not in picture_suffixes():
                others.append(str(entry))
            elif not entry.is_file():
                self._add(entry, "no regular file (a broken link?)", "a picture file", "picture-not-a-file")
            else:
                pictures.append(entry)
        if masks is not None:
            pictures, self.masks_beside = masks.divide(pictures)
        credits = str(folder / CREDITS_FILE)
        self.ignored += [other for other in others if other != credits or option == _MASKS] + folders
        if not pictures:
            found = "the folder is empty"
            names = listed([Path(path).name for path in (*others, *folders)], _SHOWN)
            if entries and len(folders) == len(entries):
                found = f"only subfolders ({names}), which are not searched"
            elif entries:
                found = f"no picture among {counted(len(entries), 'entry', 'entries')} ({names})"
            self._add(where, found, "picture files directly in it", "folder-without-pictures")
        for same in (pictures, self.masks_beside if masks is not None else []):
            self._check_stems(where, same)
        return pictures

    def _check_stems(self, where: str, pictures: list[Path]) -> None:
        by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for path in pictures:
            by_stem[_stem(path)].append(path.name)
        for stem, names_of_stem in by_stem.items():
            if len(names_of_stem) > 1:
                found = f"{len(names_of_stem)} files share the stem {stem!r} ({', '.join(names_of_stem)})"
                self._add(where, found, "one file for each stem", "stem-not-unique")

    def matched(
        self,
        foregrounds: Path,
        foreground_paths: list[Path],
        masks: Path,
        mask_paths: list[Path],
        naming: _MaskNames,
    ) -> dict[Path, Path]:
        """The mask of each foreground, by its name; spare masks are ignored."""
        if mask_paths is not self.masks_beside and _is_same(masks, foregrounds):
            expected = (
                "a folder of grayscale masks, or what they are called, as in "
                f'{_MASK_PATTERN} "{{name}}_mask.png" (without either, their own alpha is used)'
            )
            found = f"the same folder as {_FOREGROUNDS}"
            self._add(f"{_MASKS} {masks}", found, expected, "masks-in-foregrounds")
            return {}
        by_key = {naming.key(path): path for path in mask_paths}
        mask_of = {path: by_key[key] for path in foreground_paths if (key := naming.of(path)) in by_key}
        for path in foreground_paths:
            if path not in mask_of:
                expected = f"one named {naming.example(path)}"
                self._add(path, f"no mask for it in {masks}", expected, "mask-missing")
        used = set(mask_of.values())
        self.ignored += [str(path) for path in mask_paths if path not in used]
        return mask_of

    def floors(self, folder: Path, credit_of: Mapping[Path, Credit]) -> dict[Path, Path]:
        """The mask of the floor of each background that has one: a file in a folder beside it."""
        found: dict[Path, Path] = {}
        for path, credit in credit_of.items():
            if credit.floor is None:
                continue
            parts, mask = PurePosixPath(credit.floor).parts, folder / credit.floor
            if len(parts) == 2 and ".." not in parts and mask.is_file():
                found[path] = mask
            else:
                what = "a mask in a folder beside the picture, such as floors/hall.png"
                named = f"{credit.floor!r} as the floor of {path.name}"
                self._add(folder / CREDITS_FILE, named, what, "floor-mask-missing")
        return found

    def depths(self, folder: Path, backgrounds: list[Path]) -> dict[Path, Path]:
        """The file with the depth of each background, by its stem; others are ignored."""
        where = f"{_DEPTH} {shown(folder)}"
        entries = self._entries(where, folder, "a folder with a file of depth for each background")
        if entries is None:
            return {}
        suffixes = picture_suffixes() | {ARRAY_SUFFIX}
        files = [entry for entry in entries if entry.suffix.lower() in suffixes and entry.is_file()]
        self._check_stems(where, files)
        by_stem = {_stem(path): path for path in files}
        found = {path: by_stem[stem] for path in backgrounds if (stem := _stem(path)) in by_stem}
        for path in backgrounds:
            if path not in found:
                expected = f"one named {path.stem}.png or {path.stem}{ARRAY_SUFFIX}"
                self._add(path, f"no depth for it in {folder}", expected, "background-depth-missing")
        used = set(found.values())
        self.ignored += [str(entry) for entry in entries if entry not in used]
        return found

    def credits(self, folder: Path, pictures: Iterable[Path], misplaced: Sequence[str]) -> dict[Path, Credit]:
        by_name = {path.name: path for path in pictures}
        if not by_name:
            return {}
        credits = read_credits(folder, by_name, misplaced)
        self.problems += credits.problems
        self.notices += credits.notices
        return {by_name[name]: credit for name, credit in credits.by_name.items()}


def _stem(path: Path) -> str:
    return normal(path.stem)


def _no_folder(path: Path) -> str:
    if is_url(path):
        return "it is a URL, and pictures are read from folders of this machine: copy them to one"
    return "it is a file" if path.exists() else "there is no such folder"


def needs_plugin(suffix: str) -> tuple[str, str, str]:
    """What is wrong with a picture that needs a plugin: what was found and expected, and the code."""
    suffix = suffix.lower()
    found = f"a {suffix.removeprefix('.').upper()} file, which Pillow alone cannot decode"
    return found, lacking_plugins()[suffix], "picture-plugin-missing"


def find_files(folder: Path, more_suffixes: Iterable[str] = ()) -> tuple[dict[str, int], int]:
    """The size in bytes of each picture, or file with one of ``more_suffixes``, below a folder, by its path;
    and the number of other files. Hidden entries are ignored; a link back to a folder above it is not
    followed. Raises SourceError where the folder is missing, cannot be listed, has no such files, or names
    that are not Unicode.
    """
    if not folder.is_dir():
        raise SourceError(
            f"{shown(folder)}: {_no_folder(folder)}; expected a folder of pictures, masks and perhaps depth.",
            code="folder-missing",
        )
    suffixes = picture_suffixes().union(more_suffixes)
    undecodable: list[str] = []
    sizes: dict[str, int] = {}
    others = 0
    seen: set[tuple[int, int]] = set()
    remaining = [""]
    try:
        while remaining:
            below = remaining.pop()
            state = (folder / below).stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith(".") or name == "__MACOSX":
                        continue
                    suffix = f".{name.lower().rpartition('.')[2]}"
                    if entry.is_dir():
                        remaining.append(f"{below}{name}/")
                    elif suffix in suffixes and entry.is_file():
                        sizes[f"{below}{name}"] = entry.stat().st_size
                    elif suffix in lacking_plugins():
                        undecodable.append(entry.path)
                    else:
                        others += 1
    except OSError as exc:
        raise SourceError(
            f"{exc.filename or folder} cannot be listed: {exc.strerror}.", code="folder-unreadable"
        ) from exc
    if undecodable:
        raise combined(
            [problem(path, *needs_plugin(Path(path).suffix)) for path in sorted(undecodable)[:_MOST_NAMED]]
        )
    if not_unicode := sorted(path for path in sizes if not is_unicode(path)):
        raise SourceError(
            "Names of samples are stored as UTF-8, and these files have others: rename them.",
            [f"{path!a}: its name is not valid Unicode" for path in not_unicode[:_MOST_NAMED]],
            code="name-not-unicode",
        )
    if controls := sorted(path for path in sizes if _CONTROL.search(path)):
        raise SourceError(
            "Names of samples are texts of one line, and these files have others: rename them.",
            [f"{path!r}: its name has control characters" for path in controls[:_MOST_NAMED]],
            code="name-not-printable",
        )
    if not sizes:
        raise SourceError(
            f"{folder}: there are no pictures in it; expected folders such as images and masks.",
            code="folder-without-pictures",
        )
    return sizes, others

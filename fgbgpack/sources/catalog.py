"""Folders of picture files, read into the arrays that compositing needs.

Listing (`find_sources`) is separate from decoding (`load_catalog`, `load_background`): the first
names files and their digests, the second reads the same bytes again, checks that they are still
the same, and resizes. All files that cannot be used are reported together, in one `SourceError`.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.sources.credits import CREDITS_FILE, Credit, read_credits
from fgbgpack.sources.pictures import (
    crop_box,
    hash_file,
    picture_suffixes,
    problem,
    read_picture,
    refusal,
    resize_premultiplied,
)
from fgbgpack.spec import is_unicode

T = TypeVar("T")


_MASKS = "--masks"

# Each thread holds one original picture, so a few threads bound the memory as well.
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Source:
    """One input picture: a background, or a foreground with its mask file if it has one.

    Attributes:
        name: File name without folder, for example ``person-001.png``.
        sha256: Hexadecimal SHA-256 digest of the file's bytes.
        mask_name: File name of the mask, or None when the foreground's own alpha is its mask.
        mask_sha256: Digest of the mask file's bytes, or None.
        path: Where the file lies; None for a source that a dataset remembers. Not compared.
        mask_path: Where the mask file lies, or None. Not compared.
        license: Its licence as ``sources.csv`` states it, or None. Not compared, as all that follows.
        author: Who made it, or None.
        url: Where it comes from, or None.
    """

    name: str
    sha256: str
    mask_name: str | None = None
    mask_sha256: str | None = None
    path: Path | None = field(default=None, compare=False)
    mask_path: Path | None = field(default=None, compare=False)
    license: str | None = field(default=None, compare=False)
    author: str | None = field(default=None, compare=False)
    url: str | None = field(default=None, compare=False)

    @property
    def word(self) -> int:
        """The first 32 bits of the digest: what placements know the picture by."""
        return int(self.sha256[:8], 16)


@dataclass(frozen=True)
class Sources:
    """The pictures found in the folders, in the order of their names.

    Attributes:
        backgrounds: All background pictures.
        foregrounds: All foreground pictures, each with its mask if a folder of masks was given.
        ignored: Paths that were left out: files that are no pictures by their extension,
            subfolders (ending in a slash), and masks that belong to no foreground.
        notices: What there is to know of each ``sources.csv``, one line each.
    """

    backgrounds: tuple[Source, ...]
    foregrounds: tuple[Source, ...]
    ignored: tuple[str, ...]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Catalog:
    """All pictures of a dataset, decoded and resized: what compositing needs, in memory.

    Attributes:
        background: uint8 ``(B, h, w, 3)``, RGB; ``B`` is 0 when loaded without backgrounds.
        foreground: uint8 ``(F, ph, pw, 4)``, RGBA not premultiplied, each patch in the top-left
            corner and padded with zeros to the largest one. Colour is 0 where alpha is 0.
        foreground_size: int32 ``(F, 2)``, height and width of each patch in pixels.
        backgrounds: The sources of ``background``, also when it was not loaded.
        foregrounds: The sources of ``foreground``.
    """

    background: NDArray[np.uint8]
    foreground: NDArray[np.uint8]
    foreground_size: NDArray[np.int32]
    backgrounds: tuple[Source, ...]
    foregrounds: tuple[Source, ...]


def find_sources(backgrounds: Path, foregrounds: Path, masks: Path | None = None) -> Sources:
    """List and hash the pictures of each folder.

    A file is a picture if Pillow can decode files of its extension. Pictures are ordered by their
    NFC-normalised names; hidden files are passed over and subfolders are not searched. A ``sources.csv``
    beside backgrounds or foregrounds may tell their licences, authors and addresses.

    Args:
        backgrounds: Folder of background pictures.
        foregrounds: Folder of foreground pictures.
        masks: Folder with one mask for each foreground, matched by file stem (NFC-normalised). None
            if the foregrounds' own alpha is their mask.

    Raises:
        SourceError: A folder is missing, a file, or without pictures; two files of a folder share a
            stem; a foreground has no mask; a file cannot be read; a ``sources.csv`` is broken. Pictures
            that cannot be decoded are named too when there is another problem; otherwise `load_catalog`
            finds them.
    """
    problems: list[str] = []
    ignored: list[str] = []
    background_paths = _list_pictures("--backgrounds", backgrounds, problems, ignored)
    foreground_paths = _list_pictures("--foregrounds", foregrounds, problems, ignored)
    mask_of: dict[Path, Path] = {}
    if masks is not None:
        mask_paths = _list_pictures(_MASKS, masks, problems, ignored)
        if mask_paths and foreground_paths:
            mask_of = _match_masks(foregrounds, foreground_paths, masks, mask_paths, problems, ignored)

    notices: list[str] = []
    credit_of = _credits(backgrounds, background_paths, problems, notices)
    credit_of |= _credits(foregrounds, foreground_paths, problems, notices)

    paths = [*background_paths, *foreground_paths, *mask_of.values()]
    if problems:
        try:
            _run_all([partial(read_picture, path) for path in paths])
        except SourceError as error:
            problems.extend(error.problems)
        raise refusal(problems)

    digest = dict(zip(paths, _run_all([partial(hash_file, path) for path in paths]), strict=True))

    def source(path: Path) -> Source:
        mask = mask_of.get(path)
        credit = credit_of.get(path, Credit())
        return Source(
            name=path.name,
            sha256=digest[path],
            mask_name=None if mask is None else mask.name,
            mask_sha256=None if mask is None else digest[mask],
            path=path,
            mask_path=mask,
            license=credit.license,
            author=credit.author,
            url=credit.url,
        )

    return Sources(
        tuple(map(source, background_paths)),
        tuple(map(source, foreground_paths)),
        tuple(ignored),
        tuple(dict.fromkeys(notices)),
    )


def load_background(source: Source, *, height: int, width: int, fit: str) -> NDArray[np.uint8]:
    """Decode one background and resize it with a Lanczos filter, in one step.

    Args:
        source: The picture, with its path.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        fit: ``"crop"`` cuts the largest centred part of the result's aspect out of the picture;
            ``"stretch"`` takes the whole picture.

    Returns:
        uint8 ``(height, width, 3)``, RGB.

    Raises:
        SourceError: The file cannot be used, or is not the one that was listed.
    """
    picture = read_picture(source.path, source.name, source.sha256)
    lowest_alpha = 255 if picture.alpha is None else picture.alpha.getextrema()[0]
    if lowest_alpha != 255:
        raise problem(
            source.path,
            f"a background that is transparent in places (alpha goes down to {lowest_alpha})",
            "an opaque picture: flatten it",
        )
    box = crop_box(picture.rgb.size, height, width) if fit == "crop" else None
    return np.asarray(picture.rgb.resize((width, height), Image.Resampling.LANCZOS, box=box))


def load_catalog(
    sources: Sources,
    *,
    height: int,
    width: int,
    fit: str,
    foreground_height: int,
    scale: int = 1,
    with_backgrounds: bool = True,
    on_picture: Callable[[int, int], None] | None = None,
) -> Catalog:
    """Decode and resize all pictures, on a few threads; the result does not depend on them.

    A patch is ``foreground_height`` high and ``max(1, round(w * foreground_height / h))`` wide, with
    ``h`` and ``w`` the size of its upright picture. It is resized with a Lanczos filter in
    premultiplied alpha, at float precision, so that colours of transparent pixels do not bleed
    into its edges. At scale ``k`` every size is exactly ``k`` times that at scale 1.

    Args:
        sources: What `find_sources` found.
        height: Height of the dataset's pictures in pixels, at scale 1.
        width: Width of the dataset's pictures in pixels, at scale 1.
        fit: ``"crop"`` or ``"stretch"``, as in `load_background`.
        foreground_height: Height of the patches in pixels, at scale 1.
        scale: How many times as large everything is rendered, from the original pictures.
        with_backgrounds: Whether to load the backgrounds; if not, ``background`` is ``(0, h, w, 3)``.
        on_picture: Called in the calling thread after each picture (a foreground and its mask are
            one) with how many are done, from 1, and how many there are.

    Raises:
        SourceError: Names every file that cannot be used: unreadable, damaged, animated, too small
            or too large, changed since it was listed; a foreground without usable alpha; a mask
            of another size; a patch that is larger than the dataset's pictures.
    """
    backgrounds = sources.backgrounds if with_backgrounds else ()
    background = np.empty((len(backgrounds), height * scale, width * scale, 3), np.uint8)

    def load_into(place: NDArray[np.uint8], source: Source) -> NDArray[np.uint8]:
        place[...] = load_background(source, height=height * scale, width=width * scale, fit=fit)
        return place

    jobs = [partial(load_into, place, source) for place, source in zip(background, backgrounds, strict=True)]
    jobs += [
        partial(_load_patch, source, height, width, foreground_height, scale)
        for source in sources.foregrounds
    ]
    patches = _run_all(jobs, on_picture)[len(backgrounds) :]
    sizes = np.array([patch.shape[:2] for patch in patches], np.int32).reshape(-1, 2)
    foreground = np.zeros((len(patches), *sizes.max(axis=0, initial=0), 4), np.uint8)
    for padded, patch in zip(foreground, patches, strict=True):
        padded[: patch.shape[0], : patch.shape[1]] = patch
    return Catalog(background, foreground, sizes, sources.backgrounds, sources.foregrounds)


# --- Listing -----------------------------------------------------------------------------------


def _list_pictures(option: str, folder: Path, problems: list[str], ignored: list[str]) -> list[Path]:
    """The picture files of ``folder`` in order; what is wrong with it goes to ``problems``."""
    expected = "a folder of pictures"
    try:
        if not folder.is_dir():
            found = "it is a file" if folder.exists() else "there is no such folder"
            problems.append(f"{option} {folder}: {found}; expected {expected}")
            return []
        entries = sorted(
            (entry for entry in folder.iterdir() if not entry.name.startswith(".")),
            key=lambda entry: (_normal(entry.name), entry.name),
        )
    except OSError as error:
        problems.append(f"{option} {folder}: it cannot be listed ({error.strerror}); expected {expected}")
        return []

    pictures: list[Path] = []
    folders: list[str] = []
    others: list[str] = []
    for entry in entries:
        if not is_unicode(entry.name):
            problems.append(f"{str(entry)!a}: its name is not valid Unicode; expected a name that is")
        elif entry.is_dir():
            folders.append(f"{entry}/")
        elif entry.suffix.lower() not in picture_suffixes():
            others.append(str(entry))
        elif not entry.is_file():
            problems.append(f"{entry}: no regular file (a broken link?); expected a picture file")
        else:
            pictures.append(entry)
    credits = str(folder / CREDITS_FILE)
    ignored += [other for other in others if other != credits or option == _MASKS] + folders
    if not pictures:
        found = _describe_no_pictures(entries, folders, others)
        problems.append(f"{option} {folder}: {found}; expected picture files directly in it")
    _report_shared_stems(option, folder, pictures, problems)
    return pictures


def _credits(
    folder: Path, pictures: list[Path], problems: list[str], notices: list[str]
) -> dict[Path, Credit]:
    """What the folder's ``sources.csv`` says of its pictures."""
    if not pictures:
        return {}
    by_name = {path.name: path for path in pictures}
    return {
        by_name[name]: credit for name, credit in read_credits(folder, by_name, problems, notices).items()
    }


def _describe_no_pictures(entries: list[Path], folders: list[str], others: list[str]) -> str:
    if not entries:
        return "the folder is empty"
    if len(folders) == len(entries):
        return f"only subfolders ({_shorten(folders)}), which are not searched"
    return f"no picture among {len(entries)} entries ({_shorten(others + folders)})"


def _shorten(paths: list[str], most: int = 3) -> str:
    names = [Path(path).name for path in paths[:most]]
    return ", ".join([*names, "..."] if len(paths) > most else names)


def _report_shared_stems(option: str, folder: Path, pictures: list[Path], problems: list[str]) -> None:
    by_stem: defaultdict[str, list[Path]] = defaultdict(list)
    for path in pictures:
        by_stem[_normal(path.stem)].append(path)
    problems.extend(
        f"{option} {folder}: {len(paths)} files share the stem {stem!r} "
        f"({', '.join(path.name for path in paths)}); expected one file for each stem"
        for stem, paths in by_stem.items()
        if len(paths) > 1
    )


def _match_masks(
    foregrounds: Path,
    foreground_paths: list[Path],
    masks: Path,
    mask_paths: list[Path],
    problems: list[str],
    ignored: list[str],
) -> dict[Path, Path]:
    """The mask of each foreground, by stem; spare masks go to ``ignored``."""
    if masks.samefile(foregrounds):
        problems.append(
            f"--masks {masks}: the same folder as --foregrounds; expected a folder of grayscale masks "
            "(without --masks, the pictures' own alpha is used)"
        )
        return {}
    by_stem = {_normal(path.stem): path for path in mask_paths}
    mask_of = {path: by_stem[stem] for path in foreground_paths if (stem := _normal(path.stem)) in by_stem}
    problems.extend(
        f"{path}: no mask for it in {masks}; expected one named {path.stem}.png (or another extension)"
        for path in foreground_paths
        if path not in mask_of
    )
    stems = {_normal(path.stem) for path in foreground_paths}
    ignored.extend(str(path) for path in mask_paths if _normal(path.stem) not in stems)
    return mask_of


def _normal(name: str) -> str:
    """One spelling for names that look the same (file systems differ in how they store accents)."""
    return unicodedata.normalize("NFC", name)


# --- Foregrounds -------------------------------------------------------------------------------


def _load_patch(
    source: Source, height: int, width: int, foreground_height: int, scale: int
) -> NDArray[np.uint8]:
    """One foreground, resized: uint8 ``(patch height, patch width, 4)``, RGBA."""
    rgb, alpha = _load_cutout(source)
    patch_width = _patch_width(rgb.size, foreground_height)
    if foreground_height > height or patch_width > width:
        fitting = [tall for tall in range(height, 0, -1) if _patch_width(rgb.size, tall) <= width][:1]
        advice = f"--foreground-height of at most {fitting[0]}" if fitting else "a less elongated picture"
        raise problem(
            source.path,
            f"a foreground of {patch_width}x{foreground_height} pixels (width x height) once resized, "
            f"larger than the dataset's {width}x{height}",
            advice,
        )
    patch = resize_premultiplied(rgb, alpha, foreground_height * scale, patch_width * scale)
    if not patch[..., 3].any():
        raise problem(
            source.mask_path or source.path,
            f"so little is opaque that nothing is left at {patch_width}x{foreground_height} pixels",
            "a foreground that can be seen: crop it closer",
        )
    return patch


def _load_cutout(source: Source) -> tuple[Image.Image, Image.Image]:
    """Colour and alpha of a foreground at its original size, with the problems of both its files."""
    problems: list[str] = []
    picture = mask = None
    try:
        picture = read_picture(source.path, source.name, source.sha256)
    except SourceError as error:
        problems.extend(error.problems)
    if source.mask_name is not None:
        try:
            mask = _load_mask(source)
        except SourceError as error:
            problems.extend(error.problems)
    if problems or picture is None:
        raise refusal(problems)

    if mask is not None:
        if mask.size != picture.rgb.size:
            raise problem(
                source.mask_path,
                "a mask of {}x{} pixels".format(*mask.size),
                "{}x{}, as {}".format(*picture.rgb.size, source.path),
            )
        return picture.rgb, mask
    if picture.alpha is None:
        raise problem(source.path, "no alpha channel", "transparency around the object, or --masks")
    lowest, highest = picture.alpha.getextrema()
    if lowest == 255:
        raise problem(
            source.path,
            "alpha is 255 everywhere, so the mask would be the full rectangle",
            "transparency around the object: cut it out, or give --masks",
        )
    if highest == 0:
        raise problem(source.path, "alpha is 0 everywhere", "something opaque")
    return picture.rgb, picture.alpha


def _load_mask(source: Source) -> Image.Image:
    """The mask file of a foreground as gray, mode L; its own alpha plays no part."""
    picture = read_picture(source.mask_path, source.mask_name or "", source.mask_sha256)
    gray = picture.rgb.convert("L")
    lowest, highest = gray.getextrema()
    if picture.alpha is not None and lowest == highest:
        lowest_alpha, highest_alpha = picture.alpha.getextrema()
        if lowest_alpha != highest_alpha:
            raise problem(
                source.mask_path,
                f"a mask whose gray is {lowest} everywhere while its alpha varies",
                "the mask as gray values: save its alpha channel as a grayscale picture",
            )
    if highest == 0:
        raise problem(source.mask_path, "a mask that is 0 everywhere", "something opaque (255)")
    if highest == 1:
        raise problem(
            source.mask_path,
            "a mask with no value above 1",
            "0 (transparent) to 255 (opaque): multiply it by 255",
        )
    return gray


def _patch_width(size: tuple[int, int], patch_height: int) -> int:
    """Width of a patch of that height, for an original of ``size`` = (width, height)."""
    return max(1, round(size[0] * patch_height / size[1]))


# --- Problems ----------------------------------------------------------------------------------


def _run_all(jobs: Sequence[Callable[[], T]], on_done: Callable[[int, int], None] | None = None) -> list[T]:
    """Run all jobs on threads: results in order, and the problems of all of them in one error."""
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fgbgpack-sources")
    try:
        futures = [pool.submit(job) for job in jobs]
        for done, _ in enumerate(as_completed(futures), start=1):
            if on_done is not None:
                on_done(done, len(jobs))
    finally:
        pool.shutdown(cancel_futures=True)
    results: list[T] = []
    problems: list[str] = []
    for future in futures:
        try:
            results.append(future.result())
        except SourceError as error:
            problems.extend(error.problems)
    if problems:
        raise refusal(problems)
    return results

"""What is to be imported: the files in a folder, which belong together, and how their samples come out."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import SourceError, SpecError
from fgbgpack.pipeline.executor import Notice, OnEvent, Progress, worker_count
from fgbgpack.pipeline.import_exported import exported_depth
from fgbgpack.pipeline.import_files import (
    ARRAY_SUFFIX,
    DepthValues,
    Frame,
    Quantity,
    depth_of,
    header_of,
    image_of,
    mask_of,
    wrong_size,
)
from fgbgpack.sources.pairing import KINDS, ONE, Kind, Mismatches, Pairs, find_pairs
from fgbgpack.sources.pictures import Header, picture_suffixes
from fgbgpack.spec import is_unicode
from fgbgpack.storage import store as disk
from fgbgpack.storage.layout import Extent

#: Where files are not to be looked for.
NONE = "none"
Fit: TypeAlias = Literal["crop", "stretch"]

#: Samples in a chunk where neighbours look alike, and where they do not. Sorted composites of one background
#: take a tenth of the bytes of each alone when 40 are compressed together (those that went through JPEG, a
#: third); pictures that share nothing gain a few percent, and one at random is read sooner from a few.
_ALIKE_SAMPLES, _OTHER_SAMPLES = 40, 8
#: Neighbours look alike where a few together take less than this part of what they take each alone.
_ALIKE = 0.75
_CHUNK_BYTES = 32 << 20  # pictures that are held at once, by each thread
_TRIED_RUNS = 3
_HEADERS_AT_ONCE = 1000
#: So many problems with pixels are enough: looking for more takes as long as the import.
_ENOUGH = 200
_ASPECT_TOLERANCE = 0.02
_LARGEST = 8192
_SHOWN = 5
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_JPEG_EFFECTS: Mapping[Kind, str] = {
    "masks": "around edges they have values that the drawn masks had not",
    "depths": "they are off by a few grey levels",
}


@dataclass(frozen=True)
class ImportSpec:
    """What to import, and as what.

    Attributes:
        folder: The folder of all files.
        images: Where the composites are: a pattern below ``folder`` such as ``"fgbg/{bg}/{n}.jpg"``, or a
            folder; ``None`` for a folder that is called like that.
        masks: The same of their masks.
        depths: The same of their depth; ``None`` takes it where there is such a folder, ``"none"`` leaves it.
        width: Width of every sample in pixels; ``None`` with ``height``: that of all files.
        height: Height of every sample in pixels.
        fit: How files get another size: ``"crop"`` or ``"stretch"``.
        depth_quantity: ``"depth"`` or ``"inverse_depth"``; ``None`` where that is not known. Where the files
            are of an export, its document tells what of this and the next four is ``None``.
        depth_unit: The unit that depth is in once factor and offset are applied; ``None`` for none.
        depth_factor: What values in files are multiplied by; ``None`` for 1.
        depth_offset: What is then added to them; ``None`` for 0.
        depth_invalid: The value in files that stands for unknown depth; ``None`` for none.
        chunk: Samples that are compressed together; ``None``: as many as is worth while.
        skip_unmatched: Whether files without partners are left out; else they are an error.

    Raises:
        SpecError: A field is out of range; all problems are named together.
    """

    folder: str
    images: str | None = None
    masks: str | None = None
    depths: str | None = None
    width: int | None = None
    height: int | None = None
    fit: Fit = "crop"
    depth_quantity: Quantity | None = None
    depth_unit: str | None = None
    depth_factor: float | None = None
    depth_offset: float | None = None
    depth_invalid: float | None = None
    chunk: int | None = None
    skip_unmatched: bool = False

    def __post_init__(self) -> None:
        problems = [
            f"{option}: found {found}, expected {expected}"
            for wrong, option, found, expected in (
                ((self.width is None) != (self.height is None), "--size", "one side", "both, or neither"),
                *(
                    (
                        side is not None and not 2 <= side <= _LARGEST,
                        "--size",
                        side,
                        f"2 to {_LARGEST} pixels",
                    )
                    for side in (self.width, self.height)
                ),
                (self.fit not in get_args(Fit), "--fit", repr(self.fit), "crop or stretch"),
                (
                    self.depth_quantity not in (None, *get_args(Quantity)),
                    "--depth-quantity",
                    repr(self.depth_quantity),
                    "depth or inverse_depth",
                ),
                (
                    self.depth_factor is not None
                    and not (math.isfinite(self.depth_factor) and self.depth_factor > 0),
                    "--depth-factor",
                    self.depth_factor,
                    "a number above 0",
                ),
                (
                    not math.isfinite(self.depth_offset or 0),
                    "--depth-offset",
                    self.depth_offset,
                    "a number",
                ),
                (
                    not math.isfinite(self.depth_invalid or 0),
                    "--depth-invalid",
                    self.depth_invalid,
                    "a number",
                ),
                (self.chunk is not None and self.chunk < 1, "--chunk", self.chunk, "1 or more samples"),
                *((getattr(self, kind) == NONE, f"--{kind}", NONE, "where they are") for kind in KINDS[:2]),
                (
                    self.depths == NONE and bool(self.depth_quantity or self.depth_unit),
                    "--depths",
                    NONE,
                    "somewhere: the quantity or unit of depth is given",
                ),
            )
            if wrong
        ]
        if problems:
            raise SpecError("Nothing can be imported so:", problems)


class Gathered:
    """The files of an import, found, paired and looked at.

    Args:
        spec: What to import.
        workers: Threads.
        tell: Hears of progress, and of what one should know of files that can be used.

    Attributes:
        spec: The same.
        pairs: The files of all samples.
        ignored: How many files are none of these.
        digest: SHA-256 of their names and sizes. What is in them would have to be read for another.
        frame: The size that samples get.
        extent: How many samples there are, of that size.
        depth: What the values in files of depth mean.
        trial: What some of them showed.

    Raises:
        SpecError: Patterns that do not go together.
        SourceError: Files that cannot be used, or do not pair; all are named together.
    """

    def __init__(self, spec: ImportSpec, workers: int | None, tell: OnEvent) -> None:
        self.spec, self._workers, self._tell = spec, workers, tell
        self._root = Path(spec.folder)
        self._unusable: set[tuple[Kind, int]] = set()
        sizes, self.ignored = _listed_files(self._root)
        given: dict[Kind, str | None] = {"images": spec.images, "masks": spec.masks}
        without_depth = spec.depths == NONE
        given["depths"] = None if without_depth else spec.depths
        self.pairs: Pairs = find_pairs(sizes, given, folder=spec.folder, without_depth=without_depth)
        files = self.pairs.files
        self.ignored += len(sizes) - sum(map(len, files.values())) - self.pairs.left_out
        wrong = Mismatches()
        if not (spec.skip_unmatched and self.pairs.names):
            wrong.add_all(self.pairs.mismatches)
        if not self.pairs.names:
            raise refusal(wrong, spec.folder)
        digest = hashlib.sha256(b"fgbgpack files 1\n")
        for paths in zip(*files.values(), strict=True):
            digest.update("".join(f"{path}\0{sizes[path]}\0" for path in paths).encode())
        self.digest = digest.hexdigest()
        del sizes
        self.depth = self._depth_values() if self.has_depth else DepthValues()
        self.frame = self._look_at_headers(wrong)
        self.extent = Extent(len(self.pairs.names), self.frame.height, self.frame.width)
        self.trial = Trial(self, wrong)
        if wrong:
            skip = bool(self.pairs.mismatches) and not spec.skip_unmatched
            raise refusal(wrong, spec.folder, skip=skip)

    @property
    def has_depth(self) -> bool:
        """Whether there is depth among them."""
        return "depths" in self.pairs.files

    def _path(self, kind: Kind, sample: int) -> Path:
        return self._root / self.pairs.files[kind][sample]

    # --- their pixels ------------------------------------------------------------------------------

    def fill(self, kind: Kind, samples: range, into: NDArray[Any], wrong: Wrong) -> None:
        """Decode the files of some samples to the first places of an array, as far as they can be used."""
        for place, sample in zip(into, samples, strict=False):
            if (kind, sample) not in self._unusable:
                try:
                    place[...] = self._decode(kind, self._path(kind, sample))
                except SourceError as exc:
                    wrong.add(kind, exc)

    def _decode(self, kind: Kind, path: Path) -> NDArray[Any]:
        match kind:
            case "images":
                return image_of(path, self.frame)
            case "masks":
                return mask_of(path, self.frame)
            case "depths":
                return depth_of(path, self.frame, self.depth)

    # --- what they mean ----------------------------------------------------------------------------

    def _depth_values(self) -> DepthValues:
        """What the values of depth mean: as the options say and, where these say nothing, the export."""
        spec = self.spec
        given = {
            name: value
            for name in (field.name for field in dataclasses.fields(DepthValues))
            if (value := getattr(spec, f"depth_{name}")) is not None
        }
        told = exported_depth(self._root, self.pairs.files["depths"])
        if told is None:
            return DepthValues(**given)
        path, values = told
        taken = {name: value for name, value in dataclasses.asdict(values).items() if value is not None}
        if {"factor", "offset"} & given.keys():
            # They belong together, and the unit is that of what they give.
            for name in ("factor", "offset", "unit"):
                taken.pop(name, None)
        taken = {name: value for name, value in taken.items() if name not in given}
        if taken:
            options = " ".join(f"--depth-{name} {value}" for name, value in taken.items())
            self._tell(Notice(f"Depth is taken as {path} says: {options}"))
        return DepthValues(**taken, **given)

    # --- their heads -------------------------------------------------------------------------------

    def _look_at_headers(self, wrong: Mismatches) -> Frame:
        """The size of all samples; files that are of another, or cannot be opened, are wrong."""
        kinds, total = tuple(self.pairs.files), len(self.pairs.names)
        sizes: dict[Kind, NDArray[np.int64]] = {kind: np.zeros((total, 2), np.int64) for kind in kinds}
        jpegs: dict[Kind, int] = dict.fromkeys(kinds, 0)
        transparent = done = 0
        self._tell(Progress("sources", 0, total * len(kinds)))
        for kind, run, headers in self._headers():
            for sample, header in zip(run, headers, strict=True):
                if isinstance(header, SourceError):
                    self._unusable.add((kind, sample))
                    _add(wrong, f"{ONE[kind]}s that cannot be read", header)
                    continue
                sizes[kind][sample] = header.size
                jpegs[kind] += header.format == "JPEG"
                transparent += kind == "images" and header.mode in _TRANSPARENT
            done += len(run)
            self._tell(Progress("sources", done, total * len(kinds)))
        self._say(jpegs, transparent)
        if self.spec.width is not None and self.spec.height is not None:
            frame = Frame(self.spec.height, self.spec.width, self.spec.fit)
            if all((found == frame.size).all() for found in sizes.values()):
                frame = dataclasses.replace(frame, fit=None)
            self._check_aspects(sizes, wrong)
            return frame
        there, counts = np.unique(sizes["images"][sizes["images"].any(axis=1)], axis=0, return_counts=True)
        if not len(there):
            raise refusal(wrong, self.spec.folder)
        width, height = there[counts.argmax()].tolist()
        frame = Frame(height, width, None)
        for kind, found in sizes.items():
            off = found.any(axis=1) & (found != frame.size).any(axis=1)
            self._refuse_sizes(kind, off, found, np.broadcast_to(frame.size, found.shape), wrong)
        return frame

    def _headers(self) -> Iterator[tuple[Kind, range, list[Header | SourceError]]]:
        total = len(self.pairs.names)
        jobs = [
            (kind, range(first, min(first + _HEADERS_AT_ONCE, total)))
            for first in range(0, total, _HEADERS_AT_ONCE)
            for kind in self.pairs.files
        ]

        def look_at(job: tuple[Kind, range]) -> tuple[Kind, range, list[Header | SourceError]]:
            kind, run = job
            headers: list[Header | SourceError] = []
            for sample in run:
                try:
                    headers.append(header_of(self._path(kind, sample)))
                except SourceError as exc:
                    headers.append(exc)
            return kind, run, headers

        pool = ThreadPoolExecutor(worker_count(self._workers), thread_name_prefix="fgbgpack-files")
        try:
            yield from pool.map(look_at, jobs)
        finally:
            pool.shutdown(cancel_futures=True)

    def _check_aspects(self, sizes: Mapping[Kind, NDArray[np.int64]], wrong: Mismatches) -> None:
        """What is resized together must show the same."""
        width, height = sizes["images"].T
        for kind, found in sizes.items():
            own_width, own_height = found.T
            off = np.abs(own_width * height - own_height * width) > _ASPECT_TOLERANCE * own_height * width
            off &= (width > 0) & (own_width > 0)
            why = "or of that aspect, as its picture"
            self._refuse_sizes(kind, off, found, sizes["images"], wrong, why)

    def _refuse_sizes(
        self,
        kind: Kind,
        off: NDArray[np.bool_],
        found: NDArray[np.int64],
        expected: NDArray[np.int64],
        wrong: Mismatches,
        why: str = "",
    ) -> None:
        for sample in np.flatnonzero(off).tolist():
            self._unusable.add((kind, sample))
            sides = (tuple(found[sample].tolist()), tuple(expected[sample].tolist()))
            _add(wrong, f"{ONE[kind]}s of another size", wrong_size(self._path(kind, sample), *sides, why))

    def _say(self, jpegs: Mapping[Kind, int], transparent: int) -> None:
        """What one should know of files that can be used."""
        said = []
        if self.ignored:
            said.append(f"Ignored {self.ignored:,} files that are no pictures, masks or depth maps.")
        if self.pairs.mismatches and self.spec.skip_unmatched:
            said.append(f"Left out {self.pairs.left_out:,} files that nothing pairs with:")
            said += [f"  {line}" for line in self.pairs.mismatches.lines()]
        if transparent:
            said.append(f"Pictures that have an alpha channel, which is left out: {transparent:,}.")
        said += [
            f"Files of {ONE[kind]}s that are JPEG: {jpegs[kind]:,}; {effect}. They stay as they are."
            for kind, effect in _JPEG_EFFECTS.items()
            if jpegs.get(kind)
        ]
        if self.has_depth and self.depth.quantity is None:
            said.append("What depth is, is not known: tell it by --depth-quantity depth or inverse_depth.")
        for line in said:
            self._tell(Notice(line))


class Wrong:
    """Files that turn out to be unusable when they are decoded.

    Attributes:
        found: What is wrong with which.
        shards: The shards of pixels, and of depth, that were not written for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.found = Mismatches()
        self.shards: dict[str, set[int]] = {disk.IMAGE: set(), disk.DEPTH: set()}

    def add(self, kind: Kind, error: SourceError) -> None:
        """One more file."""
        _add(self.found, f"{ONE[kind]}s that cannot be used", error)

    def take(self, other: Wrong, array: str, shard: int) -> None:
        """What is wrong with the files of one shard, which is then not written."""
        with self._lock:
            self.found.add_all(other.found)
            self.shards[array].add(shard)

    @property
    def is_enough(self) -> bool:
        """Whether so much is wrong that no more is looked for."""
        return len(self.found) >= _ENOUGH


class Trial:
    """Some samples from the beginning, the middle and the end, decoded and encoded.

    Attributes:
        chunk: How many samples are worth compressing together.
        bytes: Estimated bytes of each array.
        seconds: Estimated time of one thread for all.
    """

    def __init__(self, files: Gathered, wrong: Mismatches) -> None:
        extent, encode = files.extent, disk.PIXEL_CODEC.encode
        most = max(1, _CHUNK_BYTES // (extent.height * extent.width * 3))
        many = min(files.spec.chunk or min(_ALIKE_SAMPLES, most), extent.samples)
        few = min(_OTHER_SAMPLES, many)
        firsts = np.unique(np.linspace(0, extent.samples - many, _TRIED_RUNS).astype(int)).tolist()
        image = np.zeros((many, extent.height, extent.width, 3), np.uint8)
        mask = np.zeros(image.shape[:3], np.uint8)
        depth = np.zeros(mask.shape, np.float16)
        stored = dict.fromkeys((disk.IMAGE, disk.MASK, disk.DEPTH), 0)
        few_together = alone = 0
        self.seconds = 0.0
        tried = Wrong()
        for first in firsts:
            start = time.perf_counter()
            run = range(first, first + many)
            files.fill("images", run, image, tried)
            files.fill("masks", run, mask, tried)
            stored[disk.IMAGE] += len(encode(image))
            stored[disk.MASK] += len(encode(mask))
            if files.has_depth:
                files.fill("depths", run, depth, tried)
                stored[disk.DEPTH] += len(disk.DEPTH_CODEC.encode(depth))
            self.seconds += time.perf_counter() - start
            few_together += sum(len(encode(image[i : i + few])) for i in range(0, many, few))
            alone += sum(len(encode(one)) for one in image)
        wrong.add_all(tried.found)
        are_alike = few_together < _ALIKE * alone
        self.chunk = many if files.spec.chunk or are_alike else few
        if self.chunk == few:
            stored[disk.IMAGE] = few_together
        scale = extent.samples / (many * len(firsts))
        self.seconds *= scale
        self.bytes = {array: round(size * scale) for array, size in stored.items() if size}


def _listed_files(root: Path) -> tuple[dict[str, int], int]:
    """The size of every file below a folder that could be a picture or an array, and the number of others.

    Raises:
        SourceError: The folder is not there or cannot be read.
    """
    if not root.is_dir():
        found = "it is a file" if root.exists() else "there is no such folder"
        raise SourceError(f"{root}: {found}; expected a folder of pictures, masks and perhaps depth.")
    suffixes = picture_suffixes() | {ARRAY_SUFFIX}
    sizes: dict[str, int] = {}
    ignored = 0
    seen: set[tuple[int, int]] = set()
    left = [""]
    try:
        while left:
            folder = left.pop()
            # A link may lead back to a folder above it.
            state = (root / folder).stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith(".") or name == "__MACOSX":
                        continue
                    if entry.is_dir():
                        left.append(f"{folder}{name}/")
                    elif f".{name.lower().rpartition('.')[2]}" in suffixes and entry.is_file():
                        sizes[f"{folder}{name}"] = entry.stat().st_size
                    else:
                        ignored += 1
    except OSError as exc:
        raise SourceError(f"{exc.filename or root} cannot be listed: {exc.strerror}.") from exc
    named_badly = sorted(path for path in sizes if not is_unicode(path))
    if named_badly:
        raise SourceError(
            "Names of samples are stored as UTF-8, and these files have others: rename them.",
            [f"{path!a}: its name is not valid Unicode" for path in named_badly[:_SHOWN]],
        )
    if not sizes:
        raise SourceError(f"{root}: there are no pictures in it; expected folders such as images and masks.")
    return sizes, ignored


def _add(wrong: Mismatches, group: str, error: SourceError) -> None:
    for line in error.problems:
        wrong.add(group, line)


def refusal(wrong: Mismatches, folder: str, *, skip: bool = False, begun: str = "") -> SourceError:
    """The error that names what is wrong with files, the first few of each kind.

    Args:
        wrong: What is wrong.
        folder: What messages call the folder.
        skip: Whether ``--skip-unmatched`` would help.
        begun: The dataset, where that is begun.
    """
    counts = ", ".join(f"{group}: {count:,}" for group, count in wrong.groups().items())
    advice = "Fix or remove what is named here"
    if skip:
        advice += ", or leave out what nothing pairs with by --skip-unmatched"
    if begun:
        advice += f", then run again with --overwrite, for {begun} is begun with the files as they were"
    return SourceError(f"{folder} cannot be imported ({counts}). {advice}:", wrong.lines())

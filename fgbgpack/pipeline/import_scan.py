"""What is to be imported: the files in a folder, which belong together, and how their samples come out."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import Quantity
from fgbgpack.errors import SourceError, SpecError
from fgbgpack.pipeline.events import Notice, OnEvent, Progress
from fgbgpack.pipeline.executor import Threads
from fgbgpack.pipeline.import_files import SampleFiles
from fgbgpack.pipeline.import_probe import Failures, Probe
from fgbgpack.sources.decoding import EXIF_ADVICE, Header
from fgbgpack.sources.exported_depth import exported_depth
from fgbgpack.sources.listing import find_files
from fgbgpack.sources.names import counted
from fgbgpack.sources.pairing import SINGULAR, Kind, find_pairs
from fgbgpack.sources.problems import CountedProblems
from fgbgpack.sources.resizing import Fit, Frame
from fgbgpack.sources.sample_files import (
    ARRAY_SUFFIX,
    DepthValues,
    read_file_header,
    wrong_size,
)
from fgbgpack.spec import LARGEST_ALPHA, LARGEST_MASK_VALUE, Exif, Reading
from fgbgpack.storage.layout import Extent

#: In place of a pattern: the folder's files of this kind are ignored.
NONE = "none"

_HEADERS_AT_ONCE, _RUNS_AHEAD = 1000, 8
_ASPECT_TOLERANCE = 0.02
_LARGEST_SIDE = 8192
_WHOLE_NUMBERS = ("I", "int", "uint16", "uint32", "uint64")  # modes of Pillow, types of NumPy
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_JPEG_EFFECTS: Mapping[Kind, str] = {
    "masks": "around edges they have values that the original masks did not have",
    "depths": "they are off by a few grey levels",
}


@dataclass(frozen=True)
class ImportSpec:
    """What to import, and as what.

    Attributes:
        folder: The folder of all files.
        images: Where the composites are: a pattern below ``folder`` such as ``"fgbg/{bg}/{n}.jpg"``, or a
            folder; ``None`` for a folder that is recognised by its name.
        masks: The same of their masks; ``"none"``: not at all, so that ``/mask`` is 0.
        depths: The same of their depth; ``None``: where there is such a folder, ``"none"``: not at all.
        mask_value: The number in masks that is the object, 0 to 65535; ``None`` where they are alpha.
        mask_threshold: The least alpha, 1 to 255, that becomes 255, while the rest becomes 0.
        invert_masks: Whether masks are 0 where the object is.
        exif: ``"apply"`` turns files as their EXIF orientation says, ``"ignore"`` does not.
        strict: Whether files are refused whose data is damaged, where decoders pass over that.
        frame: Which frame of animations is the picture, from 0; ``None`` refuses them.
        width: Width of every sample in pixels; ``None``, with ``height``, for that of all files.
        height: Height of every sample in pixels.
        fit: How files of another size get this one: ``"crop"`` or ``"stretch"``.
        depth_quantity: ``"depth"`` or ``"inverse_depth"``; ``None`` where that is not known. Of files that
            fgbgpack exported, the document beside them states this and the next four where they are ``None``.
        depth_unit: The unit of depth once factor and offset are applied; ``None`` for none.
        depth_factor: What values in files are multiplied by, above 0; ``None`` for 1.
        depth_offset: What is then added to them; ``None`` for 0.
        depth_invalid: The value in files that stands for unknown depth; ``None`` for none.
        chunk: Samples that are compressed together, 1 or more; ``None`` to choose by their similarity.
        skip_unmatched: Whether files without partners are left out; otherwise they are an error.

    Raises:
        SpecError: A field is out of range; all problems are named together.
    """

    folder: str
    images: str | None = None
    masks: str | None = None
    depths: str | None = None
    mask_value: int | None = None
    mask_threshold: int | None = None
    invert_masks: bool = False
    exif: Exif = "apply"
    strict: bool = True
    frame: int | None = None
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
        def is_number(value: float | None) -> bool:
            return value is None or math.isfinite(value)

        sides, factor, chunk = (self.width, self.height), self.depth_factor, self.chunk
        is_factor = factor is None or (is_number(factor) and factor > 0)
        is_depth_left_out = self.depths == NONE and bool(self.depth_quantity or self.depth_unit)
        is_quantity = self.depth_quantity in (None, *get_args(Quantity))
        checks: tuple[tuple[bool, str, object, str], ...] = (
            ((sides[0] is None) == (sides[1] is None), "size", "one side", "both, or neither"),
            *(
                (side is None or 2 <= side <= _LARGEST_SIDE, "size", side, f"2 to {_LARGEST_SIDE} pixels")
                for side in sides
            ),
            (
                self.mask_value is None or 0 <= self.mask_value <= LARGEST_MASK_VALUE,
                "mask-value",
                self.mask_value,
                f"0 to {LARGEST_MASK_VALUE}",
            ),
            (
                self.mask_threshold is None or 1 <= self.mask_threshold <= LARGEST_ALPHA,
                "mask-threshold",
                self.mask_threshold,
                f"1 to {LARGEST_ALPHA}",
            ),
            (self.exif in get_args(Exif), "exif", repr(self.exif), "apply or ignore"),
            (self.frame is None or self.frame >= 0, "frame", self.frame, "0 or more"),
            (self.fit in get_args(Fit), "fit", repr(self.fit), "crop or stretch"),
            (is_quantity, "depth-quantity", repr(self.depth_quantity), "depth or inverse_depth"),
            (is_factor, "depth-factor", factor, "a number above 0"),
            (is_number(self.depth_offset), "depth-offset", self.depth_offset, "a number"),
            (is_number(self.depth_invalid), "depth-invalid", self.depth_invalid, "a number"),
            (chunk is None or chunk >= 1, "chunk", chunk, "1 or more samples"),
            (self.images != NONE, "images", NONE, "where they are"),
            (not is_depth_left_out, "depths", NONE, "somewhere: the quantity or unit of depth is given"),
        )
        problems = [
            f"--{option}: found {found}, expected {expected}"
            for ok, option, found, expected in checks
            if not ok
        ]
        problems += [f"--{line.replace('_', '-')}" for line in self.reading.problems]
        if problems:
            raise SpecError("These options of an import are not valid:", problems)

    @property
    def reading(self) -> Reading:
        """How pictures and masks are read."""
        return Reading(
            mask_value=self.mask_value,
            mask_threshold=self.mask_threshold,
            invert_masks=self.invert_masks,
            frame=self.frame,
            exif=self.exif,
            strict=self.strict,
        )


class ImportScan:
    """The files of an import: found, paired, and their headers read. Files that can be used may cause
    notices.

    ``ignored`` files are none of these; ``digest`` is the SHA-256 of their names and sizes: that of their
    content would take reading all of them. ``depth`` is what the values in depth files mean, ``files``
    decodes them. Raises SpecError for patterns that do not go together, and
    SourceError with all files that cannot be used or paired.
    """

    def __init__(self, spec: ImportSpec, threads: Threads, on_event: OnEvent) -> None:
        self.spec, self._threads, self._on_event = spec, threads, on_event
        self._root, self._reading = Path(spec.folder), spec.reading
        start = time.perf_counter()
        self._unusable: set[tuple[Kind, int]] = set()
        sizes, self.ignored = find_files(self._root, (ARRAY_SUFFIX,))
        stated: dict[Kind, str | None] = {
            "images": spec.images,
            "masks": spec.masks,
            "depths": spec.depths,
        }
        without = [kind for kind, pattern in stated.items() if pattern == NONE]
        given = {kind: None if kind in without else pattern for kind, pattern in stated.items()}
        self.pairs = find_pairs(sizes, given, folder=spec.folder, without=without)
        files = self.pairs.files
        self.ignored += len(sizes) - sum(map(len, files.values())) - self.pairs.left_out
        problems = CountedProblems()
        if not (spec.skip_unmatched and self.pairs.names):
            problems.update(self.pairs.unmatched)
        if not self.pairs.names:
            raise self.error(problems)
        digest = hashlib.sha256(b"fgbgpack files 1\n")
        for paths in zip(*files.values(), strict=True):
            digest.update("".join(f"{path}\0{sizes[path]}\0" for path in paths).encode())
        self.digest = digest.hexdigest()
        del sizes
        self.depth = self._depth_values() if self.has_depth else DepthValues()
        self.frame = self._scan_headers(problems)
        self.extent = Extent(len(self.pairs.names), self.frame.height, self.frame.width)
        self.files = SampleFiles(
            self._root, self.pairs.files, self.frame, self.depth, self._reading, self._unusable
        )
        self.probe = Probe(self, problems)
        self.files.remarks.clear()
        self._seconds = time.perf_counter() - start
        if problems:
            raise self.error(problems)

    @property
    def has_depth(self) -> bool:
        """Whether depth is imported."""
        return "depths" in self.pairs.files

    def error(self, problems: CountedProblems, *, unfinished: str = "") -> SourceError:
        """The error for files that cannot be imported: the first few problems of each kind. ``unfinished`` is
        the name of the dataset, where part of it is written.
        """
        advice = "Fix or remove what is named here"
        if self.pairs.names and self.pairs.unmatched and not self.spec.skip_unmatched:
            advice += ", or leave out files without partners with --skip-unmatched"
        if unfinished:
            advice += f", then run again with --overwrite: {unfinished} was begun with the files as they were"
        counts = ", ".join(f"{group}: {count:,}" for group, count in problems.counts.items())
        message = f"{self.spec.folder} cannot be imported ({counts}). {advice}:"
        return SourceError(message, problems.lines(), code=problems.code)

    def fill(self, kind: Kind, samples: range, into: NDArray[Any], failures: Failures) -> None:
        """As :meth:`~fgbgpack.pipeline.import_files.SampleFiles.fill`."""
        self.files.fill(kind, samples, into, failures)

    def estimated_seconds(self) -> float:
        """What an import of all samples would take, this scan included."""
        return self._seconds + self.probe.seconds(self, self._threads)

    def _path(self, kind: Kind, sample: int) -> Path:
        return self._root / self.pairs.files[kind][sample]

    def _depth_values(self) -> DepthValues:
        """What values of depth mean: what the options say, then the document of an export."""
        given = {
            field.name: value
            for field in dataclasses.fields(DepthValues)
            if (value := getattr(self.spec, f"depth_{field.name}")) is not None
        }
        exported = exported_depth(self._root, self.pairs.files["depths"])
        if exported is None:
            return DepthValues(**given)
        path, values = exported
        # Factor and offset belong together, and the unit is that of their result.
        overridden = {"factor", "offset", "unit"} if {"factor", "offset"} & given.keys() else set()
        stated = {
            name: value
            for name, value in dataclasses.asdict(values).items()
            if value is not None and name not in given.keys() | overridden
        }
        if stated:
            options = " ".join(f"--depth-{name} {value}" for name, value in stated.items())
            self._on_event(Notice(f"Depth is taken as {path} says: {options}"))
        return DepthValues(**stated, **given)

    def _scan_headers(self, problems: CountedProblems) -> Frame:
        """The size of all samples; files of another one, or without a valid header, are problems."""
        kinds, total = tuple(self.pairs.files), len(self.pairs.names)
        runs = [
            (kind, range(first, min(first + _HEADERS_AT_ONCE, total)))
            for first in range(0, total, _HEADERS_AT_ONCE)
            for kind in kinds
        ]
        sizes: dict[Kind, NDArray[np.int64]] = {kind: np.zeros((total, 2), np.int64) for kind in kinds}
        jpegs: dict[Kind, int] = dict.fromkeys(kinds, 0)
        orientations: dict[Kind, NDArray[np.uint8]] = {kind: np.ones(total, np.uint8) for kind in kinds}
        transparent = whole_numbers = done = 0
        self._on_event(Progress("sources", 0, total * len(kinds)))
        for (kind, run), headers in self._threads.in_order(self._read_headers, runs, ahead=_RUNS_AHEAD):
            for sample, header in zip(run, headers, strict=True):
                if isinstance(header, SourceError):
                    self._unusable.add((kind, sample))
                    problems.add_error(f"{SINGULAR[kind]}s that cannot be read", header)
                    continue
                sizes[kind][sample] = header.size
                orientations[kind][sample] = header.orientation
                jpegs[kind] += header.format == "JPEG"
                whole_numbers += kind == "depths" and header.mode.startswith(_WHOLE_NUMBERS)
                transparent += kind == "images" and header.mode in _TRANSPARENT
            done += len(run)
            self._on_event(Progress("sources", done, total * len(kinds)))
        self._report(jpegs, transparent, orientations)
        if whole_numbers and self.depth.factor == 1 and self.depth.unit is None:
            many = counted(whole_numbers, "file")
            self._on_event(
                Notice(
                    f"Depth in whole numbers of 16 bits or more, in {many}, is stored as it is. Where they "
                    "have a unit give it, as in --depth-factor 0.001 --depth-unit m for millimetres."
                )
            )
        if self.spec.width is not None and self.spec.height is not None:
            frame = Frame(self.spec.height, self.spec.width, self.spec.fit)
            if all((found == frame.size).all() for found in sizes.values()):
                frame = dataclasses.replace(frame, fit=None)
        else:
            with_header = sizes["images"][sizes["images"].any(axis=1)]
            known, counts = np.unique(with_header, axis=0, return_counts=True)
            if not len(known):
                raise self.error(problems)
            width, height = known[counts.argmax()].tolist()
            frame = Frame(height, width, None)
        self._check_sizes(sizes, orientations.values(), frame, problems)
        return frame

    def _read_headers(self, run: tuple[Kind, range]) -> list[Header | SourceError]:
        def header(path: Path) -> Header | SourceError:
            try:
                return read_file_header(path, self._reading)
            except SourceError as exc:
                return exc

        return [header(self._path(run[0], sample)) for sample in run[1]]

    def _check_sizes(
        self,
        sizes: Mapping[Kind, NDArray[np.int64]],
        orientations: Collection[NDArray[np.uint8]],
        frame: Frame,
        problems: CountedProblems,
    ) -> None:
        """Files need the size of all others or, where they are resized, the aspect of their picture."""
        are_resized = self.spec.width is not None
        expected = sizes["images"] if are_resized else np.broadcast_to(frame.size, sizes["images"].shape)
        advice = "or of that aspect, as its picture" if are_resized else ""
        for kind, found in sizes.items():
            differs = (found != expected).any(axis=1)
            if are_resized:
                across = found[:, 1] * expected[:, 0]
                differs = np.abs(found[:, 0] * expected[:, 1] - across) > _ASPECT_TOLERANCE * across
            have_headers = found.any(axis=1) & expected.any(axis=1)
            for sample in np.flatnonzero(differs & have_headers).tolist():
                self._unusable.add((kind, sample))
                size, other = found[sample].tolist(), expected[sample].tolist()
                is_turned = size == other[::-1] and any(of_kind[sample] >= 5 for of_kind in orientations)
                hint = EXIF_ADVICE if is_turned else ""
                error = wrong_size(self._path(kind, sample), size, other, advice, hint)
                problems.add_error(f"{SINGULAR[kind]}s of another size", error)

    def _report(
        self, jpegs: Mapping[Kind, int], transparent: int, orientations: Mapping[Kind, NDArray[np.uint8]]
    ) -> None:
        lines = []
        if self.ignored:
            lines.append(
                f"Ignored {counted(self.ignored, 'file')} that are no pictures, masks or depth maps."
            )
        if self.pairs.unmatched and self.spec.skip_unmatched:
            lines.append(f"Left out {counted(self.pairs.left_out, 'file')} without partners:")
            lines += [f"  {line}" for line in self.pairs.unmatched.lines()]
        if "masks" not in self.pairs.files:
            lines.append("No masks are imported: /mask is 0 everywhere.")
        lines += self._report_orientations(orientations)
        if transparent:
            lines.append(f"Pictures with an alpha channel, which is left out: {transparent:,}.")
        lines += [
            f"Files of {SINGULAR[kind]}s that are JPEG: {jpegs[kind]:,}; {effect}. They stay as they are."
            for kind, effect in _JPEG_EFFECTS.items()
            if jpegs.get(kind)
        ]
        if self.has_depth and self.depth.quantity is None:
            lines.append("The meaning of depth is not known: give --depth-quantity depth or inverse_depth.")
        for line in lines:
            self._on_event(Notice(line))

    def _report_orientations(self, orientations: Mapping[Kind, NDArray[np.uint8]]) -> list[str]:
        """What is to be said where EXIF turns the files of a sample in different ways."""
        pictures = orientations["images"]
        if self._reading.exif == "ignore":
            turned = counted(int((pictures > 1).sum()), "picture")
            return [f"EXIF orientation is ignored, of {turned}."] if (pictures > 1).any() else []
        lines = []
        for kind, of_kind in orientations.items():
            apart = int((of_kind != pictures).sum())
            if apart:
                lines.append(
                    f"EXIF orientation turns {counted(apart, 'picture')} in another way than the "
                    f"{SINGULAR[kind]}, so that they may not lie on one another: look at them with fgbgpack "
                    f"preview. {EXIF_ADVICE[0].upper()}{EXIF_ADVICE[1:]}."
                )
        return lines

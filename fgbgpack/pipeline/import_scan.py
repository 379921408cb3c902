"""What is to be imported: the files in a folder, which belong together, and how their samples come out."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import SourceError
from fgbgpack.import_info import ImportLayout
from fgbgpack.pipeline.events import Notice, OnEvent, Progress
from fgbgpack.pipeline.executor import Threads
from fgbgpack.pipeline.import_files import Planes, SampleFiles
from fgbgpack.pipeline.import_probe import Failures, Probe
from fgbgpack.pipeline.import_spec import ImportSpec
from fgbgpack.sources.decoding import EXIF_ADVICE, Header, PictureFile
from fgbgpack.sources.exported import DOCUMENT, FILES, exported_depth
from fgbgpack.sources.listing import find_files
from fgbgpack.sources.names import counted, in_natural_order, listed
from fgbgpack.sources.pairing import NONE, SINGULAR, Kind, Pairs, find_pairs
from fgbgpack.sources.problems import CountedProblems
from fgbgpack.sources.resizing import Frame
from fgbgpack.sources.sample_credits import SampleCredits, read_sample_credits
from fgbgpack.sources.sample_files import (
    ARRAY_SUFFIX,
    DepthValues,
    read_file_header,
    wrong_size,
)
from fgbgpack.sources.sets import (
    ANNOTATIONS,
    Folder,
    SampleObjects,
    SampleSet,
    Tables,
    read_instance_values,
    read_set,
    recognised,
    table_of,
    with_values,
)
from fgbgpack.storage.layout import Extent

_HEADERS_AT_ONCE, _RUNS_AHEAD = 1000, 8
_ASPECT_TOLERANCE = 0.02
_SHOWN = 3
_WHOLE_NUMBERS = ("I", "int", "uint16", "uint32", "uint64")  # modes of Pillow, types of NumPy
_ROWS = "rows.png"  # what exports write to a column, too
#: What is wrong with masks that may be pictures of instances.
_OF_INSTANCES = ("mask-of-classes", "mask-of-0-and-1", "mask-in-colour")
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_JPEG_EFFECTS: Mapping[Kind, str] = {
    "masks": "around edges they have values that the original masks did not have",
    "depths": "they are off by a few grey levels",
}


@dataclasses.dataclass(frozen=True)
class Ignored:
    """Files of a folder that are not imported: ``pictures`` (or arrays), some of which are in ``folders`` of
    which nothing is imported, and ``others``.
    """

    pictures: int
    others: int
    folders: Sequence[str]

    @property
    def files(self) -> int:
        """How many files these are."""
        return self.pictures + self.others

    @property
    def line(self) -> str:
        """What is said of them."""
        files = f"Ignored {counted(self.files, 'file')}"
        if not self.pictures:
            are = (
                "is no picture, mask or depth map"
                if self.files == 1
                else "are no pictures, masks or depth maps"
            )
            return f"{files} that {are}."
        where = f" (in {listed(self.folders, _SHOWN)})" if self.folders else ""
        pictures = counted(self.pictures, "picture or depth map", "pictures or depth maps")
        rest = f", {counted(self.others, 'other')}" if self.others else ""
        return f"{files}: {pictures}{where}{rest}."


class ImportScan:
    """The files of an import: found, paired, and their headers read. Files that can be used may cause
    notices.

    ``ignored`` files are not imported; ``digest`` is the SHA-256 of their names and sizes: that of their
    content would take reading all of them. ``depth`` is what the values in depth files mean, ``files``
    decodes them. Raises SpecError for patterns that do not go together, and
    SourceError with all files that cannot be used or paired.
    """

    def __init__(self, spec: ImportSpec, threads: Threads, on_event: OnEvent) -> None:
        self.spec, self._threads, self._on_event = spec, threads, on_event
        self._root, self._reading = Path(spec.folder), spec.reading
        start = time.perf_counter()
        self._unusable: set[tuple[Kind, int]] = set()
        sizes, others = find_files(self._root, (ARRAY_SUFFIX, *ANNOTATIONS))
        #: The set of annotated pictures that the folder holds; ``None`` where it holds files.
        self.set = self._sample_set(sizes)
        if self.set is None:
            self.pairs = self._paired(self._without_annotations(sizes))
        else:
            self.pairs = self.set.pairs
        files = self.pairs.files
        problems = CountedProblems()
        if not (spec.skip_unmatched and self.pairs.names):
            problems.update(self.pairs.unmatched)
        if not self.pairs.names:
            raise self.error(problems)
        digest = hashlib.sha256(b"fgbgpack files 1\n")
        for paths in zip(*files.values(), strict=True):
            digest.update(
                "".join(
                    f"{path}\0{sizes[self._file_of(kind, path)]}\0"
                    for kind, path in zip(files, paths, strict=True)
                ).encode()
            )
        #: What is stated of each sample's picture.
        self.credits = self._credits() if self.set is None else self.set.credits
        self.ignored = self._ignored(sizes, others)
        del sizes
        self.depth = self._depth_values() if self.has_depth else DepthValues()
        self.frame, picture_sizes = self._scan_headers(problems)
        self.extent = Extent(len(self.pairs.names), self.frame.height, self.frame.width)
        #: The objects of each sample; ``None`` where nothing tells them apart.
        self.objects = self._objects(problems)
        for credit in self.credits.of if self.credits.stated else ():
            digest.update(repr((credit.license, credit.author, credit.url)).encode())
        if self.set is not None and self.objects is not None:
            digest.update("\0".join(self.set.categories).encode())
            for one in self.objects:
                digest.update(one.digest)
        self.digest = digest.hexdigest()
        self.files = SampleFiles(
            self._root,
            self.pairs.files,
            self.frame,
            self.depth,
            self._reading,
            self._unusable,
            tables=self.set.tables if self.set else None,
            objects=self.objects,
            sizes=picture_sizes,
            of_masks=self.set is not None and self.set.of_masks,
        )
        self.probe = Probe(self, problems)
        self.files.remarks.clear()
        self._seconds = time.perf_counter() - start
        if problems:
            raise self.error(problems)

    @property
    def layout(self) -> ImportLayout:
        """What the folder holds."""
        return "files" if self.set is None else self.set.layout

    def _sample_set(self, sizes: Mapping[str, int]) -> SampleSet | None:
        """The set of annotated pictures, if that is asked for or recognised; its notices are told."""
        spec = self.spec
        folder = Folder(self._root, sizes, spec.images, spec.masks, spec.depths)
        layout = spec.layout
        if layout is None:
            is_told = any((spec.images, spec.masks)) and bool(folder.pictures)
            layout = "files" if is_told else recognised(folder)
            if layout != "files":
                self._on_event(Notice(f"{self._root} is imported as --from {layout}."))
        if layout == "files":
            return None
        found = read_set(layout, folder, skip_unmatched=spec.skip_unmatched)
        for line in found.notices:
            self._on_event(Notice(line))
        return found

    def _credits(self) -> SampleCredits:
        """What ``sources.csv`` says of the pictures of files; notices are told."""
        pictures = self.pairs.files["images"]
        found = read_sample_credits(self._root, pictures, {path.rpartition("/")[0] for path in pictures})
        for line in found.notices:
            self._on_event(Notice(line))
        return found

    def _without_annotations(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The files that may be pictures, masks or depth; SourceError where there are none."""
        found = {path: size for path, size in sizes.items() if not path.lower().endswith(ANNOTATIONS)}
        return found or find_files(self._root, (ARRAY_SUFFIX,))[0]

    def _ignored(self, sizes: Mapping[str, int], others: int) -> Ignored:
        """The files that are not imported, but those that say what is, and those that have no partners."""
        used = {self._file_of(kind, path) for kind, of_kind in self.pairs.files.items() for path in of_kind}
        used.update({DOCUMENT, FILES}, () if self.set is None else self.set.annotations)
        tables = {path.relative_to(self._root).as_posix() for path in self.credits.tables}
        unused = [path for path in sizes if path not in used and path not in tables]
        others -= len(tables - sizes.keys())
        pictures = [path for path in unused if not path.lower().endswith(ANNOTATIONS)]
        used_folders = {path.partition("/")[0] for path in used}
        apart = in_natural_order({path.partition("/")[0] for path in pictures if "/" in path} - used_folders)
        return Ignored(
            len(pictures) - self.pairs.left_out,
            others + len(unused) - len(pictures),
            [f"{top}/" for top in apart],
        )

    def _paired(self, sizes: Mapping[str, int]) -> Pairs:
        """The files of samples, by their names or the patterns that are given."""
        spec = self.spec
        stated: dict[Kind, str | None] = {
            "images": spec.images,
            "masks": spec.masks,
            "depths": spec.depths,
        }
        without = [kind for kind, pattern in stated.items() if pattern == NONE]
        given = {kind: None if kind in without else pattern for kind, pattern in stated.items()}
        return find_pairs(sizes, given, folder=spec.folder, without=without)

    def _tables_of(self, kind: Kind) -> Tables | None:
        """What holds the pictures of a kind, where they are no files."""
        tables = None if self.set is None else self.set.tables
        return tables if tables is not None and kind in tables.columns else None

    def _file_of(self, kind: Kind, path: str) -> str:
        """The file that holds what stands for a picture."""
        return path if self._tables_of(kind) is None else table_of(path)

    def _objects(self, problems: CountedProblems) -> list[SampleObjects] | None:
        """The objects of samples; those that pictures of instances tell apart, by the numbers in these."""
        found = self.set
        if found is None or not found.categories:
            return None
        said = found.objects
        is_known = said is not None and all(len(one.values) == len(one) for one in said)
        is_told = said is not None and ("instances" not in self.pairs.files or is_known)
        if said is not None and is_told:
            self._check_annotated(said, problems)
            return list(said)
        category = {name: number for number, name in enumerate(found.categories)}

        def values_of(sample: int) -> SampleObjects | SourceError:
            if ("instances", sample) in self._unusable:
                return SampleObjects()
            of_sample = found.of_samples[sample] if found.of_samples else ""
            try:
                file = self._file("instances", sample)
                values = read_instance_values(file, self._reading)
                known = None if said is None else said[sample]
                return with_values(file, values, known, category.get(of_sample, 0))
            except SourceError as exc:
                return exc

        objects = []
        everything = range(len(self.pairs.names))
        for sample, one in self._threads.in_order(values_of, everything, ahead=_RUNS_AHEAD):
            if isinstance(one, SourceError):
                self._unusable.add(("instances", sample))
                problems.add_error(f"{SINGULAR['instances']} that cannot be used", one)
                one = SampleObjects()
            objects.append(one)
        return objects

    def _check_annotated(self, objects: Sequence[SampleObjects], problems: CountedProblems) -> None:
        """Pictures have the sizes that their outlines are of."""
        for sample, one in enumerate(objects):
            size = self._picture_sizes[sample].tolist()
            if one.size is not None and any(size) and tuple(size) != one.size:
                self._unusable.add(("images", sample))
                hint = EXIF_ADVICE if tuple(size) == one.size[::-1] else ""
                where = self._where("images", sample)
                error = wrong_size(where, size, one.size, "as its annotations say: correct one of them", hint)
                problems.add_error(f"{SINGULAR['images']}s of another size", error)

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
        if self.layout == "files" and problems.code in _OF_INSTANCES:
            advice += ", or give --from instance-masks if their pixels have the numbers of objects"
        if self.spec.depths is None and any("depth map" in group for group in problems.counts):
            advice += ", or leave out depth with --depths none"
        if unfinished:
            advice += f", then run again with --overwrite: {unfinished} was begun with the files as they were"
        counts = ", ".join(f"{group}: {count:,}" for group, count in problems.counts.items())
        message = f"{self.spec.folder} cannot be imported ({counts}). {advice}:"
        return SourceError(message, problems.lines(), code=problems.code)

    def fill(self, samples: range, into: Planes, failures: Failures) -> None:
        """As :meth:`~fgbgpack.pipeline.import_files.SampleFiles.fill`."""
        self.files.fill(samples, into, failures)

    @staticmethod
    def planes_into(
        image: NDArray[np.uint8], mask: NDArray[np.uint8], instance: NDArray[np.uint8]
    ) -> dict[Kind, NDArray[Any]]:
        """The arrays that pixels are decoded into, by their kinds."""
        return {"images": image, "masks": mask, "instances": instance}

    def estimated_seconds(self) -> float:
        """What an import of all samples would take, this scan included."""
        return self._seconds + self.probe.seconds(self, self._threads)

    def _file(self, kind: Kind, sample: int) -> PictureFile:
        path = self.pairs.files[kind][sample]
        tables = self._tables_of(kind)
        return self._root / path if tables is None else tables.picture(kind, path)

    def _where(self, kind: Kind, sample: int) -> Path:
        """What messages call the file of a sample."""
        return self._root / self.pairs.files[kind][sample]

    def _depth_values(self) -> DepthValues:
        """What values of depth mean: what the options say, then the document of an export."""
        given = {
            field.name: value
            for field in dataclasses.fields(DepthValues)
            if (value := getattr(self.spec, f"depth_{field.name}")) is not None
        }
        tables = self._tables_of("depths")
        files = self.pairs.files["depths"] if tables is None else [f"{tables.columns['depths']}/{_ROWS}"]
        exported = exported_depth(self._root, files)
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

    def _scan_headers(self, problems: CountedProblems) -> tuple[Frame, NDArray[np.int64]]:
        """The size of all samples, and those of their pictures, (n, 2); files of another one, or without a
        valid header, are problems.
        """
        of_masks = self.set is not None and self.set.of_masks
        kinds = tuple(kind for kind in self.pairs.files if not (of_masks and kind == "instances"))
        total = len(self.pairs.names)
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
        self._picture_sizes = sizes["images"]
        return frame, sizes["images"]

    def _read_headers(self, run: tuple[Kind, range]) -> list[Header | SourceError]:
        def header(sample: int) -> Header | SourceError:
            try:
                return read_file_header(self._file(run[0], sample), self._reading)
            except SourceError as exc:
                return exc

        return [header(sample) for sample in run[1]]

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
                error = wrong_size(self._where(kind, sample), size, other, advice, hint)
                problems.add_error(f"{SINGULAR[kind]}s of another size", error)

    def _report(
        self, jpegs: Mapping[Kind, int], transparent: int, orientations: Mapping[Kind, NDArray[np.uint8]]
    ) -> None:
        lines = []
        if self.ignored.files:
            lines.append(self.ignored.line)
        if self.pairs.unmatched and self.spec.skip_unmatched:
            lines.append(f"Left out {counted(self.pairs.left_out, 'file')} without partners:")
            lines += [f"  {line}" for line in self.pairs.unmatched.lines()]
        if "masks" not in self.pairs.files and (self.set is None or not self.set.categories):
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

"""``export``: checks what is asked for, lets the target write it, and publishes the folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack import schema
from fgbgpack.dataset.dataset import Dataset, open_dataset
from fgbgpack.dataset.reader import Fields
from fgbgpack.document import DEPTH
from fgbgpack.errors import IncompleteDatasetError, RecipeMismatchError, SpecError
from fgbgpack.export.coco import CocoTarget
from fgbgpack.export.coco_panoptic import CocoPanopticTarget
from fgbgpack.export.folder import FolderTarget
from fgbgpack.export.litdata import LitdataTarget
from fgbgpack.export.mds import MdsTarget
from fgbgpack.export.naming import distinct_names, safe_name
from fgbgpack.export.npz import NpzTarget
from fgbgpack.export.output_folder import OutputFolder
from fgbgpack.export.parquet import ParquetTarget
from fgbgpack.export.target import ExportJob, Options, Part, Target
from fgbgpack.export.webdataset import WebdatasetTarget
from fgbgpack.export.yolo import YoloTarget
from fgbgpack.pipeline.events import Notice, Reporting, reporting, silent
from fgbgpack.pipeline.workers import engine_of
from fgbgpack.sources.exported import DOCUMENT, FILES
from fgbgpack.storage.indices import Index, sample_indices
from fgbgpack.storage.targets import Target as DatasetLocation
from fgbgpack.version import __version__

#: The formats to export to.
TARGETS: Mapping[str, type[Target]] = {
    "folder": FolderTarget,
    "webdataset": WebdatasetTarget,
    "mds": MdsTarget,
    "litdata": LitdataTarget,
    "coco": CocoTarget,
    "coco-panoptic": CocoPanopticTarget,
    "npz": NpzTarget,
    "yolo": YoloTarget,
    "parquet": ParquetTarget,
}

#: Options whose names on the command line differ.
_FLAGS = {"shard_bytes": "--shard-size"}
# Of bytes or samples: more than any file holds, and a number that every reader of JSON takes.
_LARGEST_SHARD = 10**15


@dataclass(frozen=True)
class ExportReport:
    """What is in an export.

    Attributes:
        path: The folder, as it was given.
        to: The format.
        samples: Number of samples.
        parts: Number of samples in each part of the split; ``None`` without a split.
        fields: The exported fields.
        written: Samples that this run wrote: none where the same export is there already.
        files: Number of files.
        bytes: Size of all files.
        seconds: Duration.
        opened_by: Lines of Python that open the export.
    """

    path: str
    to: str
    samples: int
    parts: Mapping[str, int] | None
    fields: tuple[str, ...]
    written: int
    files: int
    bytes: int
    seconds: float
    opened_by: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return dataclasses.asdict(self)


def export(
    dataset: DatasetLocation | Dataset,
    out: str | Path,
    *,
    to: str,
    samples: Index | Sequence[slice] | None = None,
    split: str | Mapping[str, Index] | None = None,
    parts: Sequence[str] | None = None,
    fields: Fields = None,
    depth_bits: int | None = None,
    shard_bytes: int | None = None,
    shard_samples: int | None = None,
    compression: str | None = None,
    category: str | None = None,
    segmentation: str | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    cache: str | os.PathLike[str] | None = None,
    on_event: Reporting = silent,
) -> ExportReport:
    """Writes samples in a format of another tool, to a folder that appears when it is complete.

    The same samples and options give the same bytes, with any number of workers, on processors of one kind
    with the same versions. ``fgbgpack.json`` in the folder says what they were made of,
    ``fgbgpack-files.csv`` which files they are. Nothing is written where the same export is there already.

    Args:
        dataset: A complete dataset: open, or a local path, a URL, or a Zarr store.
        out: The folder to create.
        to: ``"folder"`` (PNG files in folders of their sources), ``"webdataset"`` (tar files), ``"mds"``
            (shards of mosaicml-streaming), ``"litdata"`` (chunks of LitData), ``"coco"`` (PNG files and
            JSON), ``"coco-panoptic"`` (the same with a map of segments for each picture), ``"npz"`` (arrays
            for NumPy), ``"yolo"`` (PNG files and labels for Ultralytics) or ``"parquet"`` (Parquet files with
            PNG files in them, for Hugging Face ``datasets``; needs the extra ``parquet``).
        samples: An index of the first axis as in NumPy, or several slices; each sample is written once, in
            ascending order. ``None`` for all.
        split: The name of a split saved in the dataset, or the samples of each part by its name, as
            ``Dataset.split`` returns them. Each part is written separately.
        parts: Only these parts of the split; ``None`` for all.
        fields: Which of ``"image"``, ``"mask"`` and ``"depth"``; ``None`` for all that the dataset has,
            and the format has a place for: ``"yolo"`` has none for depth.
        depth_bits: Bits per pixel of depth pictures, 8 or 16 (the default), for ``"folder"``, both of COCO
            and ``"parquet"``: depth becomes ``round((depth - low) / (high - low) * (2**bits - 1))``, where
            low and high are the least and the greatest depth of all exported samples.
        shard_bytes: Approximate size of a shard in bytes, for ``"webdataset"``, ``"mds"``, ``"litdata"`` and
            ``"parquet"``.
        shard_samples: Maximum number of samples in a shard, for the same but ``"mds"``, and ``"npz"``.
        compression: ``"none"``, ``"zstd"`` or ``"zstd:<level>"``, for ``"mds"`` and ``"litdata"``.
        category: What the foregrounds show, for ``"litdata"``, both of COCO, ``"yolo"`` and ``"parquet"``.
        segmentation: How masks are written, for ``"coco"``: ``"polygons"`` (the default) or ``"rle"``,
            compressed run lengths (needs the extra ``coco``). Both cover the same pixels.
        workers: Threads; ``None`` for one per processor.
        executor: What writes the files of ``"folder"``, both of COCO, ``"npz"`` and ``"yolo"`` in place of
            threads, as for :func:`~fgbgpack.create`. The others are written by one process.
        overwrite: Replace an export at ``out``. Files that others have put into its folder stay.
        storage_options: As for :func:`fgbgpack.open_dataset`, where the dataset is a URL.
        cache: As for :func:`fgbgpack.open_dataset`, where the dataset is not open.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Raises:
        SpecError: There are no such samples, parts, fields or options; all problems are reported together.
        IncompleteDatasetError: The dataset is not complete.
        RecipeMismatchError: ``out`` is another export, and not to be replaced.
        DatasetError: The dataset cannot be read, something else is at ``out``, an export that lost files, or
            files that are in the way, another process is writing it, or the disk is full.

    Example:
        >>> from fgbgpack.export import export
        >>> export("lobby.zarr", "lobby-tars", to="webdataset", split="by-background")  # doctest: +SKIP
    """
    start = time.perf_counter()
    engine = engine_of(workers, executor)
    if isinstance(dataset, Dataset):
        opened = dataset
        for name, given in (("storage_options", storage_options), ("cache", cache)):
            if given is not None:
                raise SpecError(
                    f"{name}: the dataset is open already and takes none.", code="options-conflict"
                )
    else:
        opened = open_dataset(dataset, storage_options=storage_options, cache=cache)
    if not opened.complete:
        raise IncompleteDatasetError(
            f"{opened.path} is not complete: run the command that creates it again to finish it, then export."
        )
    if to not in TARGETS:
        raise SpecError(
            f"--to: found {to!r}, expected one of {', '.join(TARGETS)}.", code="export-target-unknown"
        )
    options = Options(depth_bits, shard_bytes, shard_samples, compression, category, segmentation)
    problems = _option_problems(to, options)
    chosen_fields = _select_fields(opened, fields, TARGETS[to].WITHOUT, problems)
    chosen_parts = _select_parts(opened, samples, split, parts, problems)
    if problems:
        raise SpecError(f"{opened.path} cannot be exported so.", problems, code="export-options-invalid")

    with reporting(on_event) as notify:
        job = ExportJob(opened, chosen_fields, chosen_parts, options, engine, notify)
        target, request = TARGETS[to](job), _request(job, to)
        place = OutputFolder(Path(out), notify)
        with place.opened() as folder:
            document = place.check(opened, overwrite=overwrite)
            written = 0
            if document is None:
                job.advance(0)
                document = _document(job, request, target.write(folder.absolute()))
                sizes = place.publish(document)
                written = job.samples
            elif lines := _differences(document, request):
                raise RecipeMismatchError(
                    f"{out} is another export: name another folder, or replace it with --overwrite.",
                    lines,
                    code="output-exists",
                )
            else:
                sizes = place.sizes()
                notify(Notice(f"{out} is complete already."))
    return ExportReport(
        path=str(out),
        to=to,
        samples=job.samples,
        parts=None if split is None else {part.name: len(part.samples) for part in chosen_parts},
        fields=chosen_fields,
        written=written,
        files=len(sizes),
        bytes=sum(sizes.values()),
        seconds=time.perf_counter() - start,
        opened_by=tuple(target.how_to_open(str(out), document["details"])),
    )


def _option_problems(to: str, options: Options) -> list[str]:
    problems = []
    for field, value in dataclasses.asdict(options).items():
        flag = _flag(field)
        if value is None:
            continue
        if field not in TARGETS[to].OPTIONS:
            *others, last = [other for other, target in TARGETS.items() if field in target.OPTIONS]
            only = f"{', '.join(others)} and {last}" if others else last
            problems.append(f"{flag}: not an option of --to {to}, only of {only}")
        elif field == "depth_bits" and value not in (8, 16):
            problems.append(f"{flag}: found {value}, expected 8 or 16")
        elif field.startswith("shard_") and not 1 <= value <= _LARGEST_SHARD:
            problems.append(f"{flag}: found {value}, expected 1 to {_LARGEST_SHARD}")
    return problems


def _flag(option: str) -> str:
    return _FLAGS.get(option, f"--{option.replace('_', '-')}")


def _select_fields(
    dataset: Dataset, fields: Fields, without: frozenset[str], problems: list[str]
) -> tuple[str, ...]:
    if fields is None:
        return tuple(name for name in dataset.fields if name not in without)
    names = [fields] if isinstance(fields, str) else list(fields)
    available = ", ".join(dataset.fields)
    if not names:
        problems.append(f"--fields: found none, expected some of {available}")
    for name in dict.fromkeys(names):
        if name == DEPTH and not dataset.has_depth:
            problems.append(
                f"--fields: there is no depth: fill it with fgbgpack depth {dataset.path}, or leave it out"
            )
        elif name in without:
            problems.append(f"--fields: the format has no place for {name}: leave it out")
        elif name not in dataset.fields:
            problems.append(f"--fields: there is no {name!r}, expected some of {available}")
    return tuple(name for name in dataset.fields if name in names)


def _select_parts(
    dataset: Dataset,
    samples: Index | Sequence[slice] | None,
    split: str | Mapping[str, Index] | None,
    parts: Sequence[str] | None,
    problems: list[str],
) -> list[Part]:
    if samples is not None and split is not None:
        problems.append("--samples: cannot be combined with --split: leave one of them out")
    if parts is not None and split is None:
        problems.append("--part: needs --split, which names the split that it is a part of")
    if split is None:
        every = slice(None) if samples is None else samples
        return [Part("", "", _sample_numbers(len(dataset), every, "--samples", problems))]
    if isinstance(split, str):
        if split not in dataset.splits:
            saved = ", ".join(map(repr, dataset.splits))
            others = f"; it has {saved}" if saved else ", nor any other: Dataset.save_split saves one"
            problems.append(f"--split: {dataset.path} has no split {split!r}{others}")
            return []
        split = dataset.split(split)
    chosen = list(split if parts is None else dict.fromkeys(parts))
    problems += [
        f"--part: there is no part {name!r}, expected some of {', '.join(split)}"
        for name in chosen
        if name not in split
    ]
    names = [name for name in split if name in chosen]
    slugs = distinct_names([safe_name(name) for name in names], taken=[DOCUMENT, FILES])
    return [
        Part(name, slug, _sample_numbers(len(dataset), split[name], f"part {name!r}", problems))
        for name, slug in zip(names, slugs, strict=True)
    ]


def _sample_numbers(
    count: int, samples: Index | Sequence[slice], where: str, problems: list[str]
) -> NDArray[np.int64]:
    """(n,) int64: the samples of 0 to ``count - 1`` that an index selects, each once, in ascending order."""
    has_slices = isinstance(samples, Sequence) and any(isinstance(item, slice) for item in samples)
    items: Any = samples if has_slices else [samples]
    ends = (
        end for item in items if isinstance(item, slice) for end in (item.start, item.stop and item.stop - 1)
    )
    outside = [str(end) for end in dict.fromkeys(ends) if end is not None and end >= count]
    try:
        numbers = np.unique(np.concatenate([sample_indices(item, count) for item in items]))
    except IndexError as exc:
        problems.append(f"{where}: {exc}")
        return np.empty(0, np.int64)
    if outside:
        problems.append(f"{where}: there is no sample {', '.join(outside)}, expected 0 to {count - 1}")
    elif not numbers.size:
        problems.append(f"{where}: there are no samples in it")
    return numbers


def _request(job: ExportJob, to: str) -> dict[str, Any]:
    """What makes two exports the same: the fields of the document that are known before it is written."""
    origin = job.dataset.document.to_dict()
    selection = hashlib.sha256()
    for part in job.parts:
        selection.update(f"{part.name!r} {len(part.samples)}\n".encode())
        selection.update(part.samples.astype("<i8").tobytes())
    options = dataclasses.asdict(job.options)
    return {
        "format": to,
        "samples": job.samples,
        "selection": selection.hexdigest(),
        "fields": list(job.fields),
        "parts": {part.name: len(part.samples) for part in job.parts if part.name} or None,
        "options": {name: value for name, value in options.items() if value is not None},
        "dataset": {
            **{key: origin[key] for key in ("schema", "recipe", "imported") if key in origin},
            "sha256": _dataset_digest(origin),
        },
    }


def _dataset_digest(origin: Mapping[str, Any]) -> str:
    """The digest of all that samples depend on, the same for a virtual dataset and one that is not."""
    # Imported pictures have no recipe: what they hold is known by the generation.
    keys = ["recipe", "sources", "depth"] if "recipe" in origin else ["imported", "depth", "generation"]
    text = json.dumps({key: origin.get(key) for key in keys}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _differences(document: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    """How the export that is there differs from the one asked for, one line each."""

    def line(flag: str, was: Any, now: Any) -> str:
        return f"{flag}: the export has {_text(was)}, asked for {_text(now)}"

    lines = [
        line(flag, document.get(key), request[key])
        for flag, key in (("--to", "format"), ("--fields", "fields"), ("--split", "parts"))
        if document.get(key) != request[key]
    ]
    if document.get("samples") != request["samples"]:
        lines.append(line("--samples", document.get("samples"), request["samples"]))
    elif document.get("selection") != request["selection"]:
        lines.append("--samples, --split: the export has others")
    before: Mapping[str, Any] = document.get("options") or {}
    lines += [
        line(_flag(name), before.get(name, "the default"), request["options"].get(name, "the default"))
        for name in sorted(before.keys() | request["options"].keys())
        if before.get(name) != request["options"].get(name)
    ]
    digests = (one.get("dataset", {}).get("sha256") for one in (document, request))
    if len(set(digests)) > 1:
        lines.append("the dataset: the export is of another one, or it has changed since")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value or "none")


def _document(job: ExportJob, request: Mapping[str, Any], details: dict[str, Any]) -> dict[str, Any]:
    dataset, depth = job.dataset, None
    info = dataset.document.depth
    if DEPTH in job.fields and info is not None:
        scale = job.depth_scale if "depth_bits" in TARGETS[request["format"]].OPTIONS else None
        depth = {"quantity": info.quantity, "unit": info.unit, "mapping": scale and scale.to_dict()}
    document = {
        "schema": "export/1.0",
        **request,
        "height": dataset.height,
        "width": dataset.width,
        "depth": depth,
        "details": details,
        "software": {"fgbgpack": __version__},
    }
    return schema.read("export", document, where="the document to be written")

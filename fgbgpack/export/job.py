"""One export: what is asked for, who writes it, and how it comes to its place whole or not at all."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from fgbgpack import schema
from fgbgpack.dataset.batch import Batch
from fgbgpack.dataset.dataset import Dataset, Fields, Index, open_dataset
from fgbgpack.errors import IncompleteDatasetError, SpecError
from fgbgpack.export.names import safe, told_apart
from fgbgpack.export.place import DOCUMENT, Place
from fgbgpack.export.target import Options, Part, Run, Target, Work
from fgbgpack.pipeline.executor import OnEvent, Progress, check_workers, in_order, silent
from fgbgpack.storage.store import DEPTH

_TARGETS = {
    "folder": "FolderTarget",
    "webdataset": "WebdatasetTarget",
    "mds": "MdsTarget",
    "coco": "CocoTarget",
    "npz": "NpzTarget",
}
#: The forms to export to.
TARGETS = tuple(_TARGETS)

_READ_BYTES = 24 << 20
_RUN_BYTES = 2 << 20
#: Runs under way beyond those that are being encoded: work for the threads while the next samples are read.
_RUNS_AHEAD = 8
_SHOWN = 5
#: What an option of the library is called on the command line.
_OPTION_NAMES = {"shard_bytes": "--shard-size"}


@dataclass(frozen=True)
class ExportReport:
    """What an export made.

    Attributes:
        path: Where it is.
        to: Its form.
        samples: How many samples are in it.
        parts: The samples of each part of the split; ``None`` where all are in one.
        fields: Which arrays.
        files: How many files it has.
        bytes: Bytes that they take.
        seconds: What the run took.
        opened_by: Lines of Python that open it.
    """

    path: str
    to: str
    samples: int
    parts: Mapping[str, int] | None
    fields: tuple[str, ...]
    files: int
    bytes: int
    seconds: float
    opened_by: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return dataclasses.asdict(self)


def export(
    dataset: str | Path | Store | Dataset,
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
    workers: int | None = None,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
) -> ExportReport:
    """Write samples in a form that other tools read, in a folder that appears when it is whole.

    The same samples and options give the same bytes, with any number of workers. Beside its files lies
    ``fgbgpack.json``, which says what they were made of.

    Args:
        dataset: A dataset, complete: open, or a local path, a URL that fsspec opens, or a Zarr store.
        out: The folder to make.
        to: ``"folder"`` (PNG files in folders of their sources), ``"webdataset"`` (tar files), ``"mds"``
            (shards of mosaicml-streaming), ``"coco"`` (PNG files and JSON) or ``"npz"`` (arrays for NumPy).
        samples: Which samples: what indexes the first axis of a NumPy array, or several slices; each is taken
            once, in ascending order. ``None`` for all.
        split: The name of a split that is saved in the dataset, or the samples of each part by its name, as
            ``Dataset.split`` gives them: each part is written apart.
        parts: Only these parts of the split; ``None`` for all.
        fields: Which of ``"image"``, ``"mask"`` and ``"depth"``; ``None`` for all that there are.
        depth_bits: Bits of the pixels of depth pictures, 8 or 16 (the default), for ``"folder"`` and
            ``"coco"``. Depth becomes ``round((depth - low) / (high - low) * most)``, with the least and the
            greatest depth of all exported samples.
        shard_bytes: About how many bytes a file of many samples may have, for ``"webdataset"`` and ``"mds"``.
        shard_samples: How many samples it may have at most, for ``"webdataset"`` and ``"npz"``.
        compression: ``"none"``, ``"zstd"`` or ``"zstd:<level>"``, for ``"mds"``.
        category: What the foregrounds are, for ``"coco"``.
        workers: Threads; ``None`` takes one for each processor.
        overwrite: Replace another export at ``out``.
        on_event: Called in this thread with progress and notices.

    Raises:
        SpecError: There are no such samples, parts, fields or options; all problems are named together.
        IncompleteDatasetError: The dataset is not complete.
        RecipeMismatchError: ``out`` is an export already, and not to be replaced.
        DatasetError: The dataset cannot be read, something else is at ``out``, another process is writing it,
            or the disk is full.

    Example:
        >>> from fgbgpack.export import export
        >>> export("lobby.zarr", "lobby-tars", to="webdataset", split="by-background")  # doctest: +SKIP
    """
    start = time.perf_counter()
    check_workers(workers)
    tell = silent if on_event is None else on_event
    held = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if not held.complete:
        raise IncompleteDatasetError(
            f"{held.path} is not complete: run the command that makes it again to finish it, then export it."
        )
    options = Options(depth_bits, shard_bytes, shard_samples, compression, category)
    target = _target_class(to)
    problems = _option_problems(target, to, options)
    wanted = _wanted_fields(held, fields, problems)
    chosen = _parts(held, samples, split, parts, problems)
    if problems:
        raise SpecError(f"{held.path} cannot be exported so.", problems)

    with Place(Path(out), tell).filled(held, overwrite) as folder:
        work = Work(held, wanted, chosen, folder, options)
        writer = target(work)
        try:
            _write_all(work, writer, workers, tell)
            details = writer.finish()
        finally:
            writer.close()
        document = _document(work, to, details)
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        (folder / DOCUMENT).write_text(text, encoding="utf-8", newline="\n")
        files, size = _measured(folder)
    return ExportReport(
        path=str(out),
        to=to,
        samples=sum(len(part.samples) for part in chosen),
        parts=None if split is None else {part.name: len(part.samples) for part in chosen},
        fields=wanted,
        files=files,
        bytes=size,
        seconds=time.perf_counter() - start,
        opened_by=tuple(writer.how_to_open(str(out))),
    )


# --- what is asked for -----------------------------------------------------------------------------


def _target_class(to: str) -> type[Target[Any]]:
    if to not in _TARGETS:
        raise SpecError(f"--to: found {to!r}, expected one of {', '.join(TARGETS)}.")
    found: type[Target[Any]] = getattr(importlib.import_module(f"fgbgpack.export.{to}"), _TARGETS[to])
    return found


def _option_problems(target: type[Target[Any]], to: str, options: Options) -> list[str]:
    problems = []
    for field, value in dataclasses.asdict(options).items():
        name = _OPTION_NAMES.get(field, f"--{field.replace('_', '-')}")
        if value is None:
            continue
        if field not in target.OPTIONS:
            others = [other for other in TARGETS if field in _target_class(other).OPTIONS]
            problems.append(f"{name}: of no use with --to {to}, only with {' and '.join(others)}")
        elif field == "depth_bits" and value not in (8, 16):
            problems.append(f"{name}: found {value}, expected 8 or 16")
        elif field.startswith("shard_") and value < 1:
            problems.append(f"{name}: found {value}, expected 1 or more")
    return problems


def _wanted_fields(held: Dataset, fields: Fields, problems: list[str]) -> tuple[str, ...]:
    """The fields to write, in the order of the dataset's."""
    if fields is None:
        return held.fields
    asked = [fields] if isinstance(fields, str) else list(fields)
    if not asked:
        problems.append(f"--fields: found none, expected some of {', '.join(held.fields)}")
    for name in dict.fromkeys(asked):
        if name == DEPTH and DEPTH not in held.fields:
            problems.append(
                f"--fields: there is no depth: fill it with fgbgpack depth {held.path}, or leave it out"
            )
        elif name not in held.fields:
            problems.append(f"--fields: there is no {name!r}, expected some of {', '.join(held.fields)}")
    return tuple(name for name in held.fields if name in asked)


def _parts(
    held: Dataset,
    samples: Index | Sequence[slice] | None,
    split: str | Mapping[str, Index] | None,
    parts: Sequence[str] | None,
    problems: list[str],
) -> list[Part]:
    """What is exported, part by part."""
    if samples is not None and split is not None:
        problems.append("--samples: of no use with --split: leave one of them out")
    if parts is not None and split is None:
        problems.append("--part: of no use without --split, which names the split that it is a part of")
    if split is None:
        chosen = np.arange(len(held)) if samples is None else _numbers(held, samples, "--samples", problems)
        return [Part("", "", chosen)]
    if isinstance(split, str):
        if split not in held.splits:
            saved = ", ".join(map(repr, held.splits))
            others = f"; it has {saved}" if saved else ", nor any other: Dataset.save_split saves one"
            problems.append(f"--split: {held.path} has no split {split!r}{others}")
            return []
        split = held.split(split)
    wanted = dict.fromkeys(split if parts is None else parts)
    missing = [name for name in wanted if name not in split]
    problems += [
        f"--part: there is no part {name!r}, expected some of {', '.join(split)}" for name in missing
    ]
    names = [name for name in split if name in wanted]
    folders = told_apart([safe(name) for name in names], taken=[DOCUMENT])
    return [
        Part(name, folder, _numbers(held, split[name], f"part {name!r}", problems))
        for name, folder in zip(names, folders, strict=True)
    ]


def _numbers(
    held: Dataset, samples: Index | Sequence[slice], where: str, problems: list[str]
) -> NDArray[np.int64]:
    """(n,) int64: the samples that an index names, each once, in ascending order."""
    count = len(held)
    nothing = np.empty(0, np.int64)
    if isinstance(samples, (int, np.integer)):
        samples = [int(samples)]
    if isinstance(samples, slice):
        samples = [samples]
    if isinstance(samples, Sequence) and any(isinstance(one, slice) for one in samples):
        slices = [one if isinstance(one, slice) else slice(int(one), int(one) + 1) for one in samples]
        ends = [one.stop - 1 for one in slices if one.stop is not None and one.stop > count]
        starts = [one.start for one in slices if one.start is not None and one.start >= count]
        index = np.concatenate([np.arange(*one.indices(count)) for one in slices])
        outside = [*starts, *(end for end in ends if end not in starts)]
    else:
        index = np.asarray(samples)
        if index.dtype == np.bool_ and index.shape == (count,):
            index = np.flatnonzero(index)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            problems.append(
                f"{where}: found {index.dtype} of shape {index.shape}, expected whole numbers of samples, or "
                f"{count} truth values"
            )
            return nothing
        index = index.astype(np.int64)
        outside = index[(index < -count) | (index >= count)].tolist()
        index = np.where(index < 0, index + count, index)
    if outside:
        shown = ", ".join(map(str, outside[:_SHOWN])) + (", ..." if len(outside) > _SHOWN else "")
        problems.append(f"{where}: there is no sample {shown}, expected 0 to {count - 1}")
        return nothing
    if not index.size:
        problems.append(f"{where}: there are no samples in it")
    return np.unique(index)


# --- writing ---------------------------------------------------------------------------------------


def _write_all(work: Work, target: Target[Any], workers: int | None, tell: OnEvent) -> None:
    """Let the target write all samples: encoded on threads, a few runs ahead of what is written."""
    total = sum(len(part.samples) for part in work.parts)
    done = 0
    tell(Progress("export", done, total))
    for part in work.parts:
        target.begin(part)
        for run, encoded in in_order(target.encode, _runs(work, part), workers, ahead=_RUNS_AHEAD):
            target.write(run, encoded)
            done += len(run.samples)
            tell(Progress("export", done, total))
        target.end(part)


def _runs(work: Work, part: Part) -> Iterator[Run]:
    """The samples of a part, in runs of a few megabytes; many are read together, as chunks hold many."""
    held = work.dataset
    each = sum(array.nbytes for array in held.read([0], work.fields).arrays.values())
    length = max(1, _RUN_BYTES // each)
    together = length * max(1, _READ_BYTES // (length * each))
    for first in range(0, len(part.samples), together):
        numbers = part.samples[first : first + together]
        arrays = held.read(numbers, work.fields).arrays
        for start in range(0, len(numbers), length):
            some = slice(start, start + length)
            batch = Batch({name: array[some] for name, array in arrays.items()})
            yield Run(part, first + start, numbers[some], batch)


def _document(work: Work, to: str, details: dict[str, Any]) -> dict[str, Any]:
    """What ``fgbgpack.json`` says."""
    held, mapping = work.dataset, details.pop("depth", None)
    of = {key: held.document[key] for key in ("schema", "recipe", "imported") if key in held.document}
    depth = None
    if DEPTH in work.fields:
        meaning = held.depth.attrs
        depth = {"quantity": meaning.get("quantity"), "unit": meaning.get("unit"), "mapping": mapping}
    document = {
        "schema": "export/1.0",
        "format": to,
        "samples": sum(len(part.samples) for part in work.parts),
        "height": held.height,
        "width": held.width,
        "fields": list(work.fields),
        "parts": {part.name: len(part.samples) for part in work.parts if part.name} or None,
        "depth": depth,
        "details": details,
        "dataset": of,
        "software": {"fgbgpack": version("fgbgpack")},
    }
    return schema.read("export", document, where="the document to be written")


def _measured(folder: Path) -> tuple[int, int]:
    """How many files are below a folder, and how many bytes they have."""
    sizes = [
        os.stat(os.path.join(root, name)).st_size  # noqa: PTH116, PTH118  (a million files)
        for root, _, names in os.walk(folder)
        for name in names
    ]
    return len(sizes), sum(sizes)

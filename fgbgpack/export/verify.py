"""Verify an export: its files are those of its list, and all that they hold can be decoded."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fgbgpack import schema
from fgbgpack.errors import DatasetError
from fgbgpack.export.output_folder import files_of, size_of
from fgbgpack.export.webdataset import TAR_END
from fgbgpack.extras import require
from fgbgpack.files import sha256_of
from fgbgpack.inputs import PARSING_NUMPY, read_json
from fgbgpack.pipeline.events import Progress, Reporting, reporting, silent
from fgbgpack.pipeline.executor import Monitor, Threads
from fgbgpack.pipeline.faults import Fault, Findings
from fgbgpack.sources.exported import DOCUMENT, FILES, file_column
from fgbgpack.sources.names import counted

#: The faults that a report names; the rest is counted.
SHOWN = 20


@dataclass(frozen=True)
class ExportVerification:
    """What verifying an export of ``samples`` at ``path`` found, in ``seconds``.

    Attributes:
        to: The format.
        files: The files of its list.
        bytes: What they take.
        sound: Whether nothing is wrong.
        faults: The first faults.
        fault_count: How many there are in all.
    """

    path: str
    to: str
    samples: int
    seconds: float
    files: int
    bytes: int
    sound: bool
    faults: tuple[Fault, ...]
    fault_count: int

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)

    def check(self) -> None:
        """Raise DatasetError (``export-damaged``) if it is not sound."""
        if not self.sound:
            count = counted(self.fault_count, "fault")
            raise DatasetError(
                f"{self.path} is not sound: {count}. Replace it with fgbgpack export --overwrite.",
                code="export-damaged",
            )


def is_export(path: str | Path) -> bool:
    """Whether a folder holds an export, and no dataset."""
    return (Path(path) / DOCUMENT).is_file() and not (Path(path) / "zarr.json").exists()


def verify_export(
    folder: str | Path, *, workers: int | None = None, on_event: Reporting = silent
) -> ExportVerification:
    """Compare the files of an export with its list, and decode them.

    Pictures must have the size of the samples, files with digests these, and the samples must be as many as
    ``fgbgpack.json`` says. The pixels are not compared with those of a dataset.

    Args:
        folder: The folder.
        workers: Threads; ``None`` takes one for each processor.
        on_event: Called in this thread with progress, in files; ``"progress"`` shows it.

    Raises:
        DatasetError: There is no export, or its document or its list is damaged.
        MissingPackageError: The export is Parquet, and pyarrow is not installed.

    Example:
        >>> from fgbgpack.export import verify_export
        >>> verify_export("lobby-tars").sound  # doctest: +SKIP
        True
    """
    start, threads, root = time.perf_counter(), Threads(workers), Path(folder)
    document, listed = _document(root), files_of(root)
    if listed is None:
        raise DatasetError(
            f"{folder} has no {FILES}, or a damaged one: it is not known which files the export has.",
            code="export-damaged",
        )
    checks = _Checks(root, document, listed)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        notify(Progress("verify", done, len(listed)))

    with reporting(on_event) as notify:
        notify(Progress("verify", 0, len(listed)))
        threads.run(checks.check, listed, advance, "verify")
    checks.count()
    faults = checks.findings.all()
    return ExportVerification(
        path=str(folder),
        to=document["format"],
        samples=document["samples"],
        seconds=time.perf_counter() - start,
        files=len(listed),
        bytes=sum(listed.values()),
        sound=not faults,
        faults=tuple(faults[:SHOWN]),
        fault_count=len(faults),
    )


def _document(folder: Path) -> dict[str, Any]:
    def error(message: str, problems: list[str]) -> DatasetError:
        return DatasetError(message, problems, code="export-document-damaged")

    try:
        document = read_json(folder / DOCUMENT)
        return schema.read("export", document, where=str(folder / DOCUMENT), error=error)
    except (OSError, ValueError) as exc:
        raise error(f"{folder / DOCUMENT} cannot be read: {exc}.", []) from exc


class _Checks:
    """Checks the files of an export, on threads, and counts the samples in them."""

    def __init__(self, folder: Path, document: Mapping[str, Any], listed: Mapping[str, int]) -> None:
        self._folder, self._document, self._listed = folder, document, listed
        self.findings = Findings()
        self._samples: Counter[str] = Counter()
        if any(name.endswith(".parquet") for name in listed):
            self._parquet()
        self._checks: dict[str, Callable[[str], None]] = {
            ".png": self._picture,
            ".npz": self._arrays,
            ".tar": self._archive,
            ".csv": self._table,
            ".json": self._json,
            ".txt": self._labels,
            ".parquet": self._rows,
        }

    def check(self, name: str, monitor: Monitor) -> None:
        """Check a file of the list."""
        monitor.check()
        size = size_of(self._folder / name)
        if size != self._listed[name]:
            code = "file-missing" if size is None else "file-size-differs"
            found = "is missing" if size is None else f"has {size:,} bytes, expected {self._listed[name]:,}"
            self._fault(code, name, f"{name} {found}.")
        elif (check := self._checks.get(Path(name).suffix)) is not None:
            try:
                check(name)
            except PermissionError as exc:
                self._fault("io-failed", name, f"{name} cannot be read: {exc.strerror}.")
            except Exception as exc:  # what decodes damaged files has errors of all kinds
                self._fault("file-damaged", name, f"{name} is damaged: {' '.join(str(exc).split())}.")
        monitor.advance(1)

    def count(self) -> None:
        """Compare the number of samples with that of the document, unless a file is at fault already."""
        found, expected = sum(self._samples.values()), self._document["samples"]
        if found != expected and not self.findings.all():
            message = f"There are {counted(found, 'sample')} in the files, expected {expected:,}."
            self._fault("samples-missing", DOCUMENT, message)

    def _fault(self, code: str, name: str, message: str) -> None:
        self.findings.add(Fault(code, name, name, message))

    def _picture(self, name: str) -> None:
        self._decode((self._folder / name).read_bytes())

    def _decode(self, content: bytes) -> None:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            expected = self._document["width"], self._document["height"]
            if picture.size != expected:
                raise ValueError(f"it is {picture.size[0]}x{picture.size[1]}")

    def _arrays(self, name: str) -> None:
        with PARSING_NUMPY, np.load(self._folder / name, allow_pickle=False) as arrays:
            # Reading a member to its end compares its checksum.
            lengths = [len(arrays[field]) for field in self._document["fields"]]
            for other in set(arrays.files) - set(self._document["fields"]):
                arrays[other]
        if len(set(lengths)) != 1:
            raise ValueError("its arrays have different numbers of samples")
        self._samples[name] = lengths[0]

    def _archive(self, name: str) -> None:
        end = 0
        with tarfile.open(self._folder / name) as archive:
            for member in archive:
                end = member.offset_data + tarfile.BLOCKSIZE * -(-member.size // tarfile.BLOCKSIZE)
                file = archive.extractfile(member)
                content = b"" if file is None else file.read()
                suffix = Path(member.name).suffix
                if suffix == ".png":
                    self._decode(content)
                elif suffix == ".npy":
                    with PARSING_NUMPY:
                        np.load(io.BytesIO(content), allow_pickle=False)
                elif suffix == ".json":
                    json.loads(content)
                    self._samples[name] += 1
        # A damaged head of a member is the end to tarfile.
        if end + len(TAR_END) != self._listed[name]:
            raise ValueError(f"its members end after {end:,} bytes")

    def _parquet(self) -> Any:
        needed_by = f"Reading the Parquet files of {self._folder}"
        return require("pyarrow.parquet", extra="parquet", needed_by=needed_by)

    def _rows(self, name: str) -> None:
        with self._parquet().ParquetFile(self._folder / name, page_checksum_verification=True) as file:
            for number in range(file.num_row_groups):
                group = file.read_row_group(number)
                for field in self._document["fields"]:
                    for picture in group.column(field).to_pylist():
                        self._decode(picture["bytes"])
            self._samples[name] = file.metadata.num_rows

    def _table(self, name: str) -> None:
        """Every file that the table of a folder of pictures names is on the list."""
        with (self._folder / name).open(encoding="utf-8", newline="") as table:
            rows = list(csv.DictReader(table))
        below = name.rpartition("/")[0]
        prefix = f"{below}/" if below else ""
        for row in rows:
            for field in self._document["fields"]:
                path = row[file_column(field)]
                if prefix + path not in self._listed:
                    raise ValueError(f"it names {path}, which is not one of the export's files")
        self._samples[name] = len(rows)

    def _json(self, name: str) -> None:
        content = json.loads((self._folder / name).read_text(encoding="utf-8"))
        if self._document["format"] == "mds" and Path(name).name == "index.json":
            self._shards(name, content)
        elif self._document["format"] == "litdata" and Path(name).name == "index.json":
            self._chunks(name, content)
        elif (
            self._document["format"].startswith("coco") and isinstance(content, dict) and "images" in content
        ):
            self._samples[name] = len(content["images"])

    def _labels(self, name: str) -> None:
        """The labels of a sample: a category and the corners of a polygon in each line."""
        for line in (self._folder / name).read_text(encoding="utf-8").splitlines():
            category, *corners = line.split(" ")
            values = [float(text) for text in corners]
            if (
                int(category) < 0
                or len(values) < 6
                or len(values) % 2
                or not all(0 <= v <= 1 for v in values)
            ):
                raise ValueError(f"it has a line that is no polygon: {line[:40]}")
        self._samples[name] = 1

    def _chunks(self, name: str, index: Mapping[str, Any]) -> None:
        """The chunks of an index have the digests that the document says."""
        below = name.rpartition("/")[0]
        for chunk in index["chunks"]:
            self._samples[name] += chunk["chunk_size"]
            path = f"{below}/{chunk['filename']}" if below else chunk["filename"]
            expected = self._document["details"]["sha256"][path]
            if sha256_of(self._folder / path) != expected:
                self._fault("file-damaged", path, f"{path} is damaged: its SHA-256 is another one.")

    def _shards(self, name: str, index: Mapping[str, Any]) -> None:
        """The shards of an index have the digests that it says."""
        folder = (self._folder / name).parent
        for shard in index["shards"]:
            self._samples[name] += shard["samples"]
            entry = shard["zip_data"] or shard["raw_data"]
            content = (folder / entry["basename"]).read_bytes()
            for kind, digest in entry["hashes"].items():
                if hashlib.new(kind, content, usedforsecurity=False).hexdigest() != digest:
                    path = (folder / entry["basename"]).relative_to(self._folder).as_posix()
                    self._fault("file-damaged", path, f"{path} is damaged: its {kind} is another one.")

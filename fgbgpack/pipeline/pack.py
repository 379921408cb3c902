"""A dataset as one zip file, whose files are stored as they are, so that it is read in place."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgbgpack.errors import DatasetError, RecipeMismatchError, SpecError
from fgbgpack.files import disk_errors, replacing, require_local
from fgbgpack.pipeline.events import OnEvent, Progress, Reporting, reporting, silent
from fgbgpack.pipeline.run import Result
from fgbgpack.storage import sealing
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.manifest import joined_paths
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target
from fgbgpack.storage.zipped import SUFFIX

#: Objects that are asked for together.
_TOGETHER = 4
#: The date of all files: that of the oldest that a zip file can have, so that the same dataset gives the same
#: bytes. Files of Unix that all may read.
_DATE, _UNIX, _MODE = (1980, 1, 1, 0, 0, 0), 3, 0o100644 << 16
_SHOWN = 3


@dataclass(frozen=True)
class Packed(Result):
    """What packing a dataset did in ``seconds``; the ``samples`` are at ``path``.

    Attributes:
        files: Files in the zip file.
        total_bytes: Bytes of the zip file.
        written: Whether this run wrote it; else it was there already.
    """

    files: int
    total_bytes: int
    written: bool


def pack(
    dataset: Target,
    out: str | Path,
    *,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Packed:
    """Pack a dataset into one zip file, to be carried, uploaded, and read as it is: nothing is unpacked.

    Its files are stored, not compressed again, under the keys that they have in the dataset. The same dataset
    gives the same bytes. It appears whole or not at all. What lies beside the dataset, such as its cards, is
    left out.

    Args:
        dataset: A complete dataset: a local folder, a URL, a Zarr store, or a zip file.
        out: The zip file to write, on this machine.
        overwrite: Replace another file.
        storage_options: What a URL is opened with; see :func:`fgbgpack.open_dataset`.
        on_event: Called in this thread with progress; ``"progress"`` shows it.

    Raises:
        SpecError: ``out`` does not end with ``.zip``, or is a URL.
        DatasetError: The dataset is an HDF5 file, which is one file already, is damaged, or cannot be read;
            or ``out`` cannot be written.
        IncompleteDatasetError: The dataset is not complete.
        RecipeMismatchError: Something else is at ``out``.

    Example:
        >>> from fgbgpack.pipeline import pack
        >>> pack("lobby.zarr", "lobby.zip").files  # doctest: +SKIP
        41
        >>> fgbgpack.open_dataset("lobby.zip").image[0:40]  # doctest: +SKIP
    """
    start = time.perf_counter()
    require_local(out, "Zip files are")
    path = Path(out)
    if path.suffix.lower() != SUFFIX:
        raise SpecError(f"{path}: the name of a zip file ends with {SUFFIX}.", code="option-invalid")
    store = DatasetStore.open(dataset, read_only=True, storage_options=storage_options)
    if isinstance(store.store, Hdf5Store):
        raise DatasetError(
            f"{store.name} is an HDF5 file, which is one file already: carry it as it is, or make a Zarr "
            "dataset of it with fgbgpack convert.",
            code="target-unsupported",
        )
    document = store.existing_document(complete=True)
    if faulty := sealing.faulty_objects(store):
        raise DatasetError(
            f"{store.name} is damaged: objects of {joined_paths(faulty, _SHOWN)} are missing or others. Mend "
            "it with fgbgpack repair first.",
            code="dataset-damaged",
        )
    keys = sorted(store.own_keys(), key=_order)
    written = True
    if path.exists() and not overwrite:
        _require_same(path, store)
        written = False
    else:
        with reporting(on_event) as notify, disk_errors(str(path), "written"):
            _write(store, keys, path, notify)
    return Packed(
        path=str(out),
        samples=document.samples,
        seconds=time.perf_counter() - start,
        files=len(keys),
        total_bytes=path.stat().st_size,
        written=written,
    )


def _order(key: str) -> tuple[bool, str, list[int]]:
    """Metadata come first, and then arrays with their shards in order."""
    path, _, rest = key.partition("/c/")
    numbers = [int(part) for part in rest.split("/") if part.isdecimal()]
    return not key.endswith(METADATA), path, numbers


def _require_same(path: Path, store: DatasetStore) -> None:
    """Raises RecipeMismatchError where something else is there than a dataset, with all that it says of
    itself: its splits, for one.
    """
    try:
        found = DatasetStore.open(path, read_only=True)
        found.existing_document(complete=True)
        is_same = found.get(METADATA) == store.get(METADATA)
    except DatasetError:
        is_same = False
    if not is_same:
        raise RecipeMismatchError(
            f"{path} is there already, and is something else than {store.name} is now: give another name, or "
            "replace it with --overwrite."
        )


def _write(store: DatasetStore, keys: list[str], path: Path, on_event: OnEvent) -> None:
    on_event(Progress("chunks", 0, len(keys)))
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for number, (key, value) in enumerate(_values(store, keys), start=1):
            info = zipfile.ZipInfo(key, _DATE)
            info.create_system, info.external_attr = _UNIX, _MODE
            archive.writestr(info, value)
            on_event(Progress("chunks", number, len(keys)))


def _values(store: DatasetStore, keys: list[str]) -> Iterator[tuple[str, bytes]]:
    """The values of keys, some at a time."""
    for start in range(0, len(keys), _TOGETHER):
        some = keys[start : start + _TOGETHER]
        for key, value in zip(some, store.get_all(some), strict=True):
            if value is None:
                raise DatasetError(
                    f"{store.name}/{key} is missing: something else writes to the dataset, or it is damaged.",
                    code="shards-lost",
                )
            yield key, value

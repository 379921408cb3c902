"""Where a dataset is written: in its place, or, for an HDF5 file, in a folder beside it until it is whole.

An HDF5 file cannot be resumed where its writer was killed, nor written by many threads. So whatever makes or
changes one works on Zarr in that folder, which is resumed as any other, and then copies the chunks.

Where that changes a file, the folder knows which: it never takes the place of another one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.storage import LocalStore

from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.pipeline.convert import Source, to_hdf5, to_zarr
from fgbgpack.pipeline.executor import OnEvent
from fgbgpack.storage import store as disk
from fgbgpack.storage.hdf5 import UNFINISHED, Hdf5Store, Hdf5Writer, is_hdf5
from fgbgpack.storage.store import Keys

#: In the folder, the digest of the document of the file that it was copied from.
_COPY_OF = "copy-of.sha256"


class _WorkStore(LocalStore):
    """A folder that messages call by the name of the file that is made of it."""

    def __init__(self, root: Path, file: Path, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._called = file

    def with_read_only(self, read_only: bool = False) -> _WorkStore:
        return _WorkStore(self.root, self._called, read_only=read_only)

    def __str__(self) -> str:
        return str(self._called)


@contextmanager
def workplace(
    target: str | Path | Store,
    workers: int | None,
    tell: OnEvent,
    *,
    source: str | Path | Store | None = None,
) -> Iterator[str | Path | Store]:
    """Where to write the dataset that is to be at ``target``.

    That is ``target`` itself, unless it is an HDF5 file. Then it is a folder beside it that holds the same as
    the file, if there is one, and that becomes the file once the block is left and the dataset in it is
    complete. When the block is left by an error, the folder stays for the next try if anything was begun. A
    portable file stays one.

    Args:
        target: A local folder or HDF5 file, a URL that fsspec opens, or a Zarr store.
        workers: Threads that copy chunks; ``None`` takes one for each processor.
        tell: Hears how far that is.
        source: The dataset that it is made of; ``None`` where that is the one at ``target``, or none.

    Raises:
        SpecError: ``source`` is the file itself.
        DatasetError: There is something else than a dataset, it is damaged, another process is writing it, a
            package is not installed, or the disk is full; or the folder was begun when another file, or none,
            was there.
    """
    if not is_hdf5(target) or Path(str(target)).is_dir():
        yield target
        return
    path = Path(str(target))
    folder = path.with_name(path.name + UNFINISHED)
    store = _WorkStore(folder, path)
    keys = Keys(store, str(path))
    before, portable = None, False
    if path.exists():
        if is_hdf5(source) and path.samefile(str(source)):
            raise SpecError(f"{path} is the dataset itself: give another place for the result.")
        file = Hdf5Store(path)
        before, portable = disk.read_document(Keys(file, str(path)), str(path)), file.file.portable
    # What is not installed is said now, and not when all is done.
    Hdf5Writer(path, portable=portable)
    unpacked = before is not None and _unpack(path, before, keys, workers, tell)
    held = keys.find("") if unpacked else []
    try:
        yield store
    except BaseException:
        if unpacked:
            with suppress(DatasetError), disk.exclusive(store, str(path)):
                if keys.find("") == held and disk.read_document(keys, str(path)) == before:
                    shutil.rmtree(folder)
        raise
    with disk.exclusive(store, str(path)):
        document: dict[str, Any] | None = disk.read_document(keys, str(path))
        if document is not None and document["complete"]:
            if document != before:
                to_hdf5(Source(store), path, portable=portable, workers=workers, overwrite=True, tell=tell)
            shutil.rmtree(folder)


def _unpack(path: Path, before: dict[str, Any], keys: Keys, workers: int | None, tell: OnEvent) -> bool:
    """Have the folder hold what the file does, unless it holds what was begun on that; whether it did not.

    Raises:
        DatasetError: The folder holds something else.
    """
    digest = hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest().encode()
    held = disk.read_document(keys, str(path))
    # Where this was killed while it copied the file, it goes on with that.
    if held not in (None, before, disk.begun(before)):
        if keys.get(_COPY_OF) != digest:
            raise DatasetError(
                f"{path} has changed since {path}{UNFINISHED} was begun, which would take its place: delete "
                "the one that you do not need, and run the same command again."
            )
        return False
    if held != before:
        to_zarr(Source(path), keys, workers=workers, overwrite=False, tell=tell)
    keys.put(_COPY_OF, digest)
    return held != before

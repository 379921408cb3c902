"""Where a dataset is written: in its place, or for an HDF5 file in a folder beside it until it is whole.

An HDF5 file cannot be resumed where its writer was killed, nor written by many threads. So whatever makes or
changes one works on Zarr in that folder, which is resumed as any other, and then copies the chunks.

Where that changes a file, the folder knows which one: it never replaces another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zarr.storage import LocalStore

from fgbgpack.document import Document
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.files import disk_errors, finish_removal, remove_folder
from fgbgpack.pipeline.convert import Source, to_hdf5, to_zarr
from fgbgpack.pipeline.events import OnEvent
from fgbgpack.pipeline.executor import Threads
from fgbgpack.pipeline.own_nodes import cannot_convert, own_nodes
from fgbgpack.pipeline.replacing import Replacement
from fgbgpack.pipeline.run import Run
from fgbgpack.storage.hdf5 import UNFINISHED, Hdf5Store, Hdf5Writer, is_hdf5
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target

#: In the folder, the digest of the document of the file that it was copied from.
_COPY_OF = "copy-of.sha256"


class _StagingStore(LocalStore):
    """A folder that messages call by the name of the file that is made of it."""

    def __init__(self, root: Path, file: Path, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._file = file

    def with_read_only(self, read_only: bool = False) -> _StagingStore:
        return _StagingStore(self.root, self._file, read_only=read_only)

    def __str__(self) -> str:
        return str(self._file)


@contextmanager
def staged(
    target: Target, threads: Threads, on_event: OnEvent, *, source: Target | None = None
) -> Iterator[Target]:
    """Where to write the dataset that is to be at ``target``, made of another at ``source`` or of what is
    there.

    That is ``target`` itself, unless it is an HDF5 file. Then it is a folder beside it that holds the same as
    the file, if there is one, and that becomes the file once the block is left and the dataset in it is
    complete. When the block fails, the folder stays for the next try if anything was begun. A portable file
    stays one.

    Raises SpecError if ``source`` is the file itself, and DatasetError if something else than a dataset is
    there, it is damaged, another process is writing it, a package is not installed, the disk is full, or the
    folder was begun when another file, or none, was there.
    """
    if not is_hdf5(target) or Path(str(target)).is_dir():
        replacement = Replacement.of(DatasetStore.open(target, read_only=False))
        if replacement is not None:
            replacement.finish_exchange()
        yield target
        return
    path = Path(str(target))
    folder = path.with_name(path.name + UNFINISHED)
    staging = DatasetStore(_StagingStore(folder, path), str(path))
    with disk_errors(str(path)):
        finish_removal(folder)
    run = Run(staging, threads, on_event)
    before, portable = None, False
    if path.exists():
        if is_hdf5(source) and path.samefile(str(source)):
            raise SpecError(
                f"{path} is the dataset itself: give another place for the result.", code="target-is-source"
            )
        file = Hdf5Store(path)
        before, portable = DatasetStore(file, str(path)).document(), file.file.portable
        _require_convertible(DatasetStore(file, str(path)))
    # A package that is not installed is reported now, not when all is done.
    Hdf5Writer(path, portable=portable)
    unpacked = before is not None and _unpack(path, before, run)
    unchanged = staging.find() if unpacked else []
    try:
        yield staging.store
    except BaseException:
        if unpacked:
            with suppress(DatasetError), staging.exclusive():
                if staging.find() == unchanged and staging.document() == before:
                    remove_folder(folder)
        raise
    with staging.exclusive():
        document = staging.document()
        if document is not None and document.complete:
            if document != before:
                to_hdf5(Source(staging), path, run, portable=portable, overwrite=True)
            remove_folder(folder)


def _require_convertible(dataset: DatasetStore) -> None:
    """See that a file holds nothing of others' that is lost when it is written anew (DatasetError)."""
    nodes = own_nodes(dataset, ())
    lost = [f"/{node.path}: {why}" for node, _ in nodes if (why := cannot_convert(node))]
    if lost:
        raise DatasetError(
            f"{dataset.name} is written anew, and would lose what others added: keep that in another file.",
            lost,
            code="own-array-unknown",
        )


def _unpack(path: Path, before: Document, run: Run) -> bool:
    """Copy the file to the folder, unless that holds what was begun on it; return whether it was copied."""
    staging = run.store
    text = json.dumps(before.to_dict(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest().encode()
    document = staging.document()
    # A copy of the file that was interrupted is continued.
    is_copy = document is None or document == before
    if document is not None and not is_copy:
        is_copy = not document.pixels.complete and document.begun() == before.begun()
    if not is_copy:
        if staging.get(_COPY_OF) != digest:
            raise DatasetError(
                f"{path} has changed since {path}{UNFINISHED} was begun, which would take its place: delete "
                "the one that you do not need, and run the same command again.",
                code="staging-stale",
            )
        return False
    if document != before:
        to_zarr(Source.open(path), run, overwrite=False)
    staging.put(_COPY_OF, digest)
    return document != before

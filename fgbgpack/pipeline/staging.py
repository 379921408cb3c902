"""Where a dataset is written: in its place, or for an HDF5 file in a folder beside it until it is whole.

An HDF5 file cannot be resumed where its writer was killed, nor written by many threads. So whatever makes or
changes one works on Zarr in that folder, which is resumed as any other, and then copies the chunks.

Where that changes a file, the folder knows which one: it never replaces another.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zarr.storage import LocalStore

from fgbgpack.document import Document
from fgbgpack.errors import DatasetError, IncompleteDatasetError, SpecError
from fgbgpack.files import disk_errors, finish_removal, remove_folder
from fgbgpack.pipeline.convert import Source, check_target, to_hdf5, to_zarr
from fgbgpack.pipeline.events import OnEvent
from fgbgpack.pipeline.executor import Engine
from fgbgpack.pipeline.own_nodes import cannot_convert, own_nodes
from fgbgpack.pipeline.replacing import Replacement, link_or_copy
from fgbgpack.pipeline.run import Run
from fgbgpack.storage import sealing
from fgbgpack.storage.codecs import REPAIR
from fgbgpack.storage.hdf5 import (
    NOT_CLOSED,
    UNFINISHED,
    ChangedFile,
    Hdf5Store,
    Hdf5Writer,
    SalvagedFile,
    is_hdf5,
    require_unused,
)
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target

#: In the folder, the digest of the document of the file that it was copied from, and whether that is damaged.
_COPY_OF, _DAMAGED = "copy-of.sha256", b" damaged"
#: What the folder beside a file is called to which it is copied as others have left it.
_ACCEPTED = ".accepted"
#: What a damaged file is called where others may have added to it what cannot be read.
_KEPT = ".damaged"

#: Codes of files of which something may be whole.
_DAMAGES = frozenset(
    {
        "array-foreign",
        "array-missing",
        "chunk-missing",
        "document-damaged",
        "file-changed",
        "file-cut-short",
        "file-damaged",
        NOT_CLOSED,
        "file-not-hdf5",
        "metadata-damaged",
    }
)


class StagingStore(LocalStore):
    """A folder that messages call by the name of the file that is made of it.

    ``damage`` is what is wrong with that file, ``None`` if it can be opened; ``is_kept`` is whether it stays
    as it is, since it is damaged and not all of it can be written anew.
    """

    def __init__(self, root: Path, file: Path, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._file = file
        self.damage: DatasetError | None = None
        self.is_kept = False

    def with_read_only(self, read_only: bool = False) -> StagingStore:
        """The same folder, to be read only or not."""
        return StagingStore(self.root, self._file, read_only=read_only)

    def __str__(self) -> str:
        return str(self._file)

    def require_complete(self, document: Document) -> None:
        """See that the folder does not hold what another command has begun (IncompleteDatasetError)."""
        if not document.complete:
            raise IncompleteDatasetError(
                f"A command that changes {self._file} was stopped: run it again, or delete {self.root.name}, "
                "which holds what it has begun."
            )


@contextmanager
def staged(
    target: Target, engine: Engine, on_event: OnEvent, *, source: Target | None = None
) -> Iterator[Target]:
    """Where to write the dataset that is to be at ``target``, made of another at ``source`` or of what is
    there.

    That is ``target`` itself, unless it is an HDF5 file. Then it is a :class:`StagingStore`, a folder beside
    it that holds the same as the file, if there is one, and that becomes the file once the block is left and
    the dataset in it is complete. When the block fails, the folder stays for the next try if anything was
    begun. A portable file stays one.

    Of a damaged file the folder holds what is whole. It becomes the file if nothing is missing in the end.

    Raises SpecError if ``source`` is the file itself, MissingPackageError if a package is not installed, and
    DatasetError if something else than a dataset is there, its document is damaged, another process is
    writing it, the disk is full, or the folder was begun when another file, or none, was there.
    """
    if not is_hdf5(target) or Path(str(target)).is_dir():
        replacement = Replacement.of(DatasetStore.open(target, read_only=False))
        if replacement is not None:
            replacement.finish_exchange()
        yield target
        return
    path = Path(str(target))
    folder = path.with_name(path.name + UNFINISHED)
    with disk_errors(str(path)):
        finish_removal(folder)
    place = StagingStore(folder, path)
    staging = DatasetStore(place, str(path))
    run = Run(staging, engine, on_event)
    file, before, portable = None, None, False
    if path.exists():
        if is_hdf5(source) and path.samefile(str(source)):
            raise SpecError(
                f"{path} is the dataset itself: give another place for the result.", code="target-is-source"
            )
        require_unused(path)
        file, place.damage = _opened(path)
        if place.damage is not None:
            wrong = place.damage.message.partition(REPAIR)[0].rstrip()
            run.notify(f"{wrong} What is whole of it is taken.")
        before, portable = DatasetStore(file, str(path)).document(), file.file.portable
        _require_convertible(DatasetStore(file, str(path)))
    # A package that is not installed is reported now, not when all is done.
    Hdf5Writer(path, portable=portable)
    unpacked = file is not None and before is not None and _unpack(file, before, run)
    unchanged = staging.find() if unpacked else []
    try:
        yield place
    except BaseException:
        if unpacked:
            with suppress(DatasetError), staging.exclusive():
                if staging.find() == unchanged and staging.document() == before:
                    remove_folder(folder)
        raise
    # Another one: what the block has written is not what the first one remembers of its own writes.
    staging = DatasetStore(place, str(path))
    with staging.exclusive():
        document = staging.document()
        if document is not None and document.complete:
            is_damaged = place.damage is not None or _is_of_damaged(staging)
            if is_damaged and not _is_whole(staging):
                place.is_kept = True
                run.notify(f"{path} stays as it is, for not all that it has lost can be given back.")
            elif document != before or is_damaged:
                copied = Source(staging)
                if place.damage is None:
                    check_target(copied, path, run, overwrite=True)
                if file is not None and file.file.others_unknown:
                    _keep(path, run)
                to_hdf5(copied, path, run, portable=portable)
            remove_folder(folder)


@contextmanager
def staged_as_changed(path: Path, engine: Engine, on_event: OnEvent) -> Iterator[Target]:
    """A folder with the dataset of an HDF5 file as others have left it, chunks that they wrote included.

    It becomes the file if its document is another one once the block is left. Raises DatasetError as
    :func:`staged`, and if anything that the file holds is damaged.
    """
    folder = path.with_name(path.name + _ACCEPTED)
    with disk_errors(str(path), kept="It stays as it is."):
        shutil.rmtree(folder, ignore_errors=True)
        staging = DatasetStore(StagingStore(folder, path), str(path))
        run = Run(staging, engine, on_event)
        try:
            file = Hdf5Store(path, kind=ChangedFile)
            dataset = DatasetStore(file, str(path))
            before, portable = dataset.existing_document(), file.file.portable
            _require_convertible(dataset)
            copied = Source(dataset)
            to_zarr(copied, run, overwrite=False, keeps_manifest=True)
            yield staging.store
            if staging.document() != before:
                to_hdf5(Source(staging), path, run, portable=portable)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _opened(path: Path) -> tuple[Hdf5Store, DatasetError | None]:
    """A file, or what is whole of it, and then what is wrong with it."""
    try:
        file = Hdf5Store(path)
        return file, file.file.damage
    except DatasetError as exc:
        if exc.code not in _DAMAGES:
            raise
        damage = exc
    try:
        return Hdf5Store(path, kind=SalvagedFile), damage
    except DatasetError as exc:
        # Others may have written it, or it is something else.
        raise exc if exc.code == damage.code else damage from None


def _keep(path: Path, run: Run) -> None:
    """Keep a damaged file under another name."""
    kept = path.with_name(path.name + _KEPT)
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}{_KEPT}-{number}")
    link_or_copy(path, kept)
    run.notify(
        f"What others may have added to {path} cannot be read: the damaged file is kept as {kept}. Delete it "
        "if there was nothing."
    )


def _is_whole(staging: DatasetStore) -> bool:
    """Whether all is there that the manifest names."""
    try:
        staging.existing_document()
        return not sealing.faulty_objects(staging)
    except DatasetError:
        return False


def _is_of_damaged(staging: DatasetStore) -> bool:
    """Whether the folder was copied from a damaged file."""
    return (staging.get(_COPY_OF) or b"").endswith(_DAMAGED)


def _require_convertible(dataset: DatasetStore) -> None:
    """See that a file holds nothing of others' that is lost when it is written anew (DatasetError)."""
    nodes = own_nodes(dataset, ())
    lost = [f"/{node.path}: {why}" for node, _ in nodes if (why := cannot_convert(node))]
    if isinstance(dataset.store, Hdf5Store):
        lost += [
            f"{name}: only the root and others' arrays" for name in dataset.store.file.own_attributes()[1]
        ]
    if lost:
        raise DatasetError(
            f"{dataset.name} is written anew, and would lose what others added: keep that in another file.",
            lost,
            code="own-array-unknown",
        )


def _unpack(file: Hdf5Store, before: Document, run: Run) -> bool:
    """Copy the file to the folder, unless that holds what was begun on it; return whether it was copied."""
    staging, path = run.store, file.path
    text = json.dumps(before.to_dict(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest().encode()
    document = staging.document()
    # A copy of the file that was interrupted is continued.
    is_copy = document is None or document == before
    if document is not None and not is_copy:
        is_copy = not document.pixels.complete and document.begun() == before.begun()
    if (staging.get(_COPY_OF) or b"").removesuffix(_DAMAGED) == digest:
        return False
    if not is_copy:
        raise DatasetError(
            f"{path} has changed since {path}{UNFINISHED} was begun, which would take its place: delete "
            "the one that you do not need, and run the same command again.",
            code="staging-stale",
        )
    if document != before:
        to_zarr(Source(DatasetStore(file, str(path)), may_be_damaged=True), run, overwrite=False)
    staging.put(_COPY_OF, digest if _is_whole(staging) else digest + _DAMAGED)
    return document != before

"""A dataset in a local folder that replaces another one: made beside it, and put in its place once whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Container
from contextlib import AbstractContextManager
from pathlib import Path

from zarr.storage import LocalStore

from fgbgpack.dataset.kept_stats import STATS
from fgbgpack.document import VERIFIED, is_own
from fgbgpack.files import (
    PARTIAL,
    disk_errors,
    finish_removal,
    finish_swap,
    locked,
    remove_folder,
    swap,
    sync_file,
)
from fgbgpack.storage.arrays import METADATA, Node
from fgbgpack.storage.manifest import copies_in
from fgbgpack.storage.store import DatasetStore

#: What the document is called until all files that it speaks of are there.
_UNFINISHED = f"{METADATA}.last"


class Replacement:
    """What may replace the dataset in a folder, whose lock the caller holds: in a hidden folder beside it.

    What a stopped run leaves there is gone on with by one that replaces the dataset, and deleted by others.
    """

    #: An incomplete dataset is changed where it is: the lock keeps others out.
    takes_incomplete = False

    def __init__(self, target: DatasetStore, root: Path) -> None:
        self._target, self._root = target, root
        self._beside = root.with_name(f".{root.name}.new")
        self._refusal = f"Another process is replacing {target.name}: wait for it, or end it."

    @classmethod
    def of(cls, target: DatasetStore) -> Replacement | None:
        """That of a dataset; ``None`` where it is in no folder of its own."""
        return cls(target, target.store.root) if type(target.store) is LocalStore else None

    def finish_exchange(self) -> None:
        """Put right what a kill in the middle of an exchange has left: before the dataset is read or locked,
        which may not be where it belongs.
        """
        with self._disk_errors():
            finish_swap(self._beside, self._root, self._refusal)

    def recover(self) -> None:
        """Put right what a kill after an exchange has left."""
        with self._disk_errors():
            finish_removal(self._beside)
            self._return_others()

    def open(self, without: Container[str] | None = None) -> DatasetStore:
        """The store of the new dataset. Where nothing is there yet it has the arrays and the document of the
        old one, but not those arrays; with ``None`` it has nothing.
        """
        with self._disk_errors():
            if not os.access(self._root, os.W_OK):
                # It could be replaced, but what was replaced could not be deleted.
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._root))
            if without is not None and not (self._beside / METADATA).exists():
                self.remove()
                self._link(without)
            self._beside.mkdir(exist_ok=True)
        return DatasetStore(LocalStore(self._beside), self._target.name)

    def _link(self, without: Container[str]) -> None:
        """Make the new dataset of the files of the old one, which are never changed in place."""
        for folder, _, files in os.walk(self._root):
            parts = Path(folder).relative_to(self._root).parts
            if any("/".join(parts[: i + 1]) in without for i in range(len(parts))):
                continue
            if parts and not is_own(parts[0]):
                continue
            target = self._beside.joinpath(*parts)
            target.mkdir()
            for name in files:
                if parts or name == METADATA:
                    link_or_copy(Path(folder, name), target / (name if parts else _UNFINISHED))
        # Who is killed before that begins anew.
        (self._beside / _UNFINISHED).rename(self._beside / METADATA)

    def publish(self) -> None:
        """Put the new dataset in the place of the old one, which is deleted. What others put there stays."""
        self._inherit(self._target.root())
        with self._disk_errors(), locked(self._beside, self._refusal):
            swap(self._beside, self._root)
            self._return_others()
            remove_folder(self._beside)

    def _inherit(self, old: Node) -> None:
        """Take what others wrote into the root's metadata of the old dataset."""
        new = self.open()
        known = {*new.root()["attributes"], VERIFIED, STATS}
        attributes = {name: value for name, value in old.get("attributes", {}).items() if name not in known}
        copies = {path: copy for path, copy in copies_in(old).items() if not is_own(path)}
        if attributes or copies:
            new.add_to_root(attributes, copies)

    def _return_others(self) -> None:
        """Move what others put into the old dataset to the new one."""
        for entry in self._beside.iterdir() if self._beside.is_dir() else ():
            is_ours = entry.name in (METADATA, _UNFINISHED) or is_own(entry.name)
            is_ours = is_ours or PARTIAL.search(entry.name) is not None
            if not is_ours and not os.path.lexists(target := self._root / entry.name):
                entry.rename(target)

    def remove(self) -> None:
        """Delete what a stopped run has left."""
        with self._disk_errors():
            if self._beside.exists():
                remove_folder(self._beside)

    def _disk_errors(self) -> AbstractContextManager[None]:
        return disk_errors(self._target.name, kept="The dataset that is to be replaced is whole.")


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where a file has only one."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
        sync_file(target)

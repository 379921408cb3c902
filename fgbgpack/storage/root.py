"""The root's metadata of a dataset in a store: changed only from what was read, and durable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from fgbgpack.document import ATTRIBUTE
from fgbgpack.errors import DatasetError
from fgbgpack.files import FolderSync, sync_file, sync_folder, write_atomically
from fgbgpack.inputs import parse_json
from fgbgpack.storage.arrays import METADATA, Node
from fgbgpack.storage.beside import WRITING, moving_from
from fgbgpack.storage.claims import Claims, is_shared, replaced, writer_of
from fgbgpack.storage.keys import Keys
from fgbgpack.storage.objects import Version

#: In the place of a generation: there is no dataset.
NO_DATASET = ""


class Root(Keys):
    """The keys of a store, and the metadata of its root group, in which a dataset has its document."""

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store, name)
        #: What is written to it is fenced off from other writers, where no lock keeps them apart.
        self.claims = Claims(self.base, name) if is_shared(self.base) else None
        #: That of the dataset that was last read or committed, from which all changes go out.
        self._generation: str | None = None
        self._folder: FolderSync | None = None
        self._unsynced = False
        #: The root's metadata that were last found to be of the same generation.
        self._seen: bytes | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_folder": None, "_seen": None}

    def has_lost_document(self) -> bool:
        """Whether there is nothing in the file of the document, as after a power loss."""
        return is_blank(self._root())

    def _root(self) -> bytes | None:
        # Reading would make a local folder that is not there.
        is_there = not isinstance(self.base, LocalStore) or self.base.root.is_dir()
        return Keys(self.base, self.name).get(METADATA) if is_there else None

    def root(self) -> dict[str, Any]:
        """The metadata of the root group, unchecked, without what writers tell each other in them."""
        node: dict[str, Any] = parse_json(self._root() or b"{}")
        if isinstance(attributes := node.get("attributes"), dict):
            attributes.pop(WRITING, None)
        return node

    def told(self) -> Mapping[str, Any]:
        """What the writer that began last tells others in the root."""
        attributes = parse_json(self._root() or b"{}").get("attributes")
        told = attributes.get(WRITING) if isinstance(attributes, dict) else None
        return told if isinstance(told, dict) else {}

    def add_to_root(self, attributes: Mapping[str, object], copies: Mapping[str, Node] | None = None) -> None:
        """Set attributes beside the document, and add copies of metadata of arrays that users have added."""
        node, version = self._root_to_change()
        node["attributes"] |= attributes
        if copies:
            node["consolidated_metadata"]["metadata"] |= copies
        self._publish(node, version, was_complete=True)

    def replace_root(
        self, node: Node, *, told: Mapping[str, object] | None = None, was_complete: bool = True
    ) -> None:
        """Publish metadata of the root in the place of those that were read or committed (DatasetError). All
        that a stopped process may have left is on disk before, unless the dataset ``was_complete``.

        They tell other writers what they did before or, if it is given, this: nothing if this has done all.
        """
        before, version = self._root_to_change()
        telling = before["attributes"].get(WRITING)
        if told is not None:
            telling = {"writer": self.claims.writer, **told} if told and self.claims is not None else None
        attributes = {name: value for name, value in node["attributes"].items() if name != WRITING}
        if telling:
            attributes[WRITING] = telling
        self._publish({**node, "attributes": attributes}, version, was_complete=was_complete)
        self._generation = attributes.get(ATTRIBUTE, {}).get("generation")

    def claim(self, **told: object) -> None:
        """Say in the root that this writes the dataset now, so that writers before it stop; only where no
        lock keeps them out, and where there is a dataset. Raises DatasetError where the dataset is not the
        one that was read.
        """
        if self.claims is None:
            return
        with self.claims.lock:
            if self.claims.held and not told:
                return
            node, version = self._root_to_change(goes_on="moving" in told)
            if ATTRIBUTE in node["attributes"]:
                node["attributes"][WRITING] = {"writer": self.claims.writer, **told}
                self._publish(node, version, was_complete=True)

    def join_claim(self) -> None:
        """Write together with others for the writer that has begun the dataset; see :meth:`Claims.join`."""
        if self.claims is not None:
            self._run(self.claims.join())

    def sync(self) -> None:
        """Have all that was written to a local folder survive a power loss, without a commit."""
        if self._unsynced and self._folder is not None:
            with self._disk_errors():
                self._folder.sync()
            self._unsynced = False

    def sync_files(self, keys: Iterable[str]) -> None:
        """Make the values of some keys durable that this machine has written to a folder."""
        if not isinstance(self.store, LocalStore):
            return
        root = self.store.root
        with self._disk_errors():
            folders = set()
            for key in keys:
                sync_file(root / key)
                folders |= {root / parent for parent in Path(key).parents}
            for folder in folders:
                sync_folder(folder)

    def check_claim(self, *, at_once: bool = False) -> None:
        """Raises DatasetError if another writer has begun since this one has."""
        if self.claims is not None:
            self._run(self.claims.check(at_once=at_once))

    def lend(self) -> None:
        """Get ready for other processes that write the dataset in the name of this one, which holds the lock
        or the claim: they have copies of this object.
        """
        if self._root() is not None:
            self.claim()
            self._note_change()

    def generation(self) -> str | None:
        """The generation in the document that is there now; ``None`` where there is none."""
        try:
            return str(parse_json(self._root() or b"{}")["attributes"][ATTRIBUTE]["generation"])
        except (ValueError, KeyError, TypeError):
            return None

    def require_unchanged(self) -> None:
        """See that the dataset is still the one that was read or committed (DatasetError), before something
        is written that no claim fences off.
        """
        if self.claims is not None:
            return
        root = self._root()
        if root is None or root != self._seen:
            if self.generation() != self._generation:
                raise replaced(self.name)
            self._seen = root

    def _root_to_change(self, *, goes_on: bool = False) -> tuple[dict[str, Any], Version]:
        """The metadata of the root, if it is still the one that was read or committed (DatasetError), and
        their version in a store that others may write.

        Only what ``goes_on`` with an exchange of datasets changes one that is not done.
        """
        version = None
        if self.claims is None:
            root = self._root()
        else:
            root, version = self._run(self.claims.read())
        if root is None or is_blank(root):
            root = b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'
        node: dict[str, Any] = parse_json(root)
        before = node["attributes"].get(ATTRIBUTE)
        held = None if self.claims is None else self.claims.held
        if held is None and not goes_on and moving_from(node["attributes"].get(WRITING)) is not None:
            raise DatasetError(
                f"{self.name} is being replaced by another process: wait until it has ended. If it was "
                "stopped, run the command that it ran again.",
                code="dataset-locked",
            )
        is_other = self._generation not in (None, (before or {}).get("generation", NO_DATASET))
        if is_other or (held is not None and writer_of(root) != held):
            raise replaced(self.name)
        return node, version

    def _note_change(self) -> None:
        """Something in a local folder is going to change; errors of the disk are noticed from now on."""
        if isinstance(self.store, LocalStore) and not self.store.read_only:
            if self._folder is None:
                with self._disk_errors():
                    self.store.root.mkdir(parents=True, exist_ok=True)
                    self._folder = FolderSync(self.store.root)
            self._unsynced = True

    def _publish(self, node: Node, version: Version, *, was_complete: bool) -> None:
        """Publish the root's metadata, in the place of those of a version where others may write them too; in
        a local folder, after all that is not on disk yet.

        A stopped process may have left files of an incomplete dataset that were never synced.
        """
        root = json.dumps(node, indent=2, ensure_ascii=False).encode()
        if self.claims is not None:
            self._run(self.claims.publish(root, version))
            return
        if not isinstance(self.store, LocalStore) or self.store.read_only:
            self._run(self.store.set(METADATA, default_buffer_prototype().buffer.from_bytes(root)))
            return
        if not was_complete:
            self._note_change()
        with self._disk_errors():
            self.sync()
            write_atomically(self.store.root / METADATA, root, follows_link=False)


def is_blank(root: bytes | None) -> bool:
    """Whether a file is there with nothing in it but zeros."""
    return root is not None and not root.strip(b"\0")


def parsed_root(root: bytes, name: str) -> tuple[dict[str, Any], Any]:
    """The metadata of the root of a dataset, and the document in them; DatasetError if it is none."""
    try:
        node = parse_json(root)
    except ValueError as exc:
        raise DatasetError(
            f"{METADATA} of {name} is damaged: it is no JSON ({exc}). Restore that file from a copy, or give "
            "another place.",
            code="metadata-damaged",
        ) from exc
    try:
        return node, node["attributes"][ATTRIBUTE]
    except (KeyError, TypeError) as exc:
        kind = "a Zarr store" if b"zarr_format" in root else "a folder"
        raise DatasetError(
            f"{name} is {kind} that fgbgpack did not make: give another place.", code="dataset-foreign"
        ) from exc

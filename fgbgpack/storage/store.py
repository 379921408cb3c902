"""One dataset in a store: its document, the keys of its arrays, which shards are there, and its lock."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import compress
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from fgbgpack.document import (
    ATTRIBUTE,
    DIGEST,
    OBJECTS,
    SOURCES,
    Document,
    is_own,
)
from fgbgpack.errors import DatasetError, IncompleteDatasetError
from fgbgpack.files import locked, write_atomically
from fgbgpack.inputs import parse_json
from fgbgpack.manifest_info import ManifestInfo
from fgbgpack.storage import sealing
from fgbgpack.storage.arrays import METADATA, ArrayForm, ArraySpec, Node, parse_array
from fgbgpack.storage.beside import HIDDEN, WRITING, BesideStore, moving_from
from fgbgpack.storage.codecs import CRC_BYTES
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.manifest import (
    ChunkNotes,
    WrittenChunks,
    adds_up,
    copies_in,
    digest_of,
    ends_of_file,
    metadata_digest,
    with_document,
)
from fgbgpack.storage.objects import RemoteStore
from fgbgpack.storage.reading import ArrayReader
from fgbgpack.storage.reading.cache import ChunkCache, DatasetCache
from fgbgpack.storage.reading.checks import Checks, ChunkChecks, ManifestParts, NoChunks
from fgbgpack.storage.root import NO_DATASET, Root, is_blank, parsed_root
from fgbgpack.storage.sharding import ABSENT, index_bytes, read_index
from fgbgpack.storage.targets import Target, name_of, zarr_store

#: Files of this machine from this size on are written to the disk as soon as they are there.
_STARTED_BYTES = 1 << 20
_SHOWN = 3

T = TypeVar("T")


class DatasetStore(Root):
    """One dataset in a Zarr store. Its methods may be called from any thread; it can be pickled.

    The store publishes a key whole or not at all, as all of Zarr's own do.
    """

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store, name)
        #: Whether nothing that is there was made for this dataset but what was written through this object.
        self.is_new = False
        #: The manifest, once the document was read: what the readers of arrays are held to.
        self.manifest: ManifestInfo | None = None
        self._parts: ManifestParts | None = None
        #: The arrays of depth, with their shapes, where by the document that was read there is none.
        self.unfilled: Mapping[str, tuple[int, ...]] = {}
        #: Arrays that are written anew: what is read of them need not be what the manifest says.
        self.unchecked: frozenset[str] = frozenset()
        #: Copies of the arrays' metadata, where readers need not ask for these one by one.
        self._copies: Mapping[str, Node] = {}
        #: Where what is read of a store far away is kept on this machine.
        self.cache: ChunkCache | None = None
        #: What was written through this object.
        self.written = WrittenChunks()

    @classmethod
    def open(
        cls, target: Target, *, read_only: bool, storage_options: Mapping[str, Any] | None = None
    ) -> DatasetStore:
        """The store of a target, which need not hold a dataset yet if it is to be written."""
        return cls(zarr_store(target, read_only=read_only, storage_options=storage_options), name_of(target))

    # --- keys --------------------------------------------------------------------------------------

    def put(self, key: str, value: bytes) -> None:
        """Publish a value under a key, in one step; a commit makes it durable."""
        self._note_change()
        self._copies = {}
        if self.claims is not None and key != METADATA:
            self.claim()
            self._run(self.claims.put(key, value))
        else:
            self._run(self.store.set(key, default_buffer_prototype().buffer.from_bytes(value)))
        if "/" in key:
            self.written.note(key, value)
        if self._folder is not None and len(value) >= _STARTED_BYTES:
            self._folder.start(key)

    def take_notes(self, notes: Sequence[ChunkNotes]) -> None:
        """Another process has written these, in the name of this one."""
        self._note_change()
        self.written.take(notes)

    def put_changed(self, key: str, value: bytes) -> None:
        """Publish a value under a key, unless it is there already.

        A power loss leaves the one before or this one: a file is written before it takes another's name.
        """
        before = self.get(key)
        if before == value:
            return
        if before is None or not isinstance(self.store, LocalStore):
            self.put(key, value)
            return
        self._note_change()
        with self._disk_errors():
            write_atomically(self.store.root / key, value, follows_link=False)
        self.written.note(key, value)

    def delete_below(self, prefix: str) -> None:
        """Delete every key below ``prefix``."""
        self._copies = {}
        self._note_change()
        self.check_claim()
        self._run(self.store.delete_dir(prefix))
        self.written.forget(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete some keys."""
        keys, self._copies = list(keys), {}
        self.check_claim()
        self._each(keys, self.store.delete)
        for key in keys:
            self.written.forget(key)

    def copy(self, places: Mapping[str, str]) -> None:
        """Copy the values of some keys to others, in a store that others may write."""
        if (claims := self.claims) is not None:
            self._each(list(places), lambda source: claims.copy(source, places[source]))

    def own_keys(self) -> list[str]:
        """The keys of the dataset. Files beside the document, such as cards, are not part of it."""
        return [key for key in self.find() if is_part(key)]

    def stored_bytes(self) -> dict[str, int]:
        """Bytes that each array takes, by its path; the document is ``zarr.json``."""
        if isinstance(self.store, Hdf5Store):
            return self.store.file.stored_bytes()
        total = Counter[str]()
        listed = self._listed_sizes()
        if listed is None:
            keys = self.own_keys()
            listed = dict(zip(keys, self._each(keys, self.store.getsize), strict=True))
        for key, size in listed.items():
            if not is_part(key):
                continue
            parts = key.split("/")
            path = "/".join(parts[:2] if parts[0] in (OBJECTS, SOURCES) and len(parts) > 2 else parts[:1])
            total[path] += size
        return dict(total)

    def _listed_sizes(self, prefix: str = "") -> dict[str, int] | None:
        """The keys that start with ``prefix``, sorted, each with the bytes of its value; ``None`` of stores
        whose listings do not tell.
        """
        if not isinstance(store := self.store, RemoteStore):
            return None

        async def listed() -> dict[str, int]:
            return dict(sorted([found async for found in store.sizes(prefix)]))

        return self._run(listed())

    # --- the document ------------------------------------------------------------------------------

    def document(self, on_damage: Callable[[DatasetError], None] | None = None) -> Document | None:
        """The document, checked; ``None`` where there is nothing at all.

        Raises DatasetError if something else is there, or a document that is damaged or of a newer schema;
        ``on_damage`` gets the damages that leave a document to be read, in place of the first being raised.
        """
        report = _raise if on_damage is None else on_damage
        root = self._root()
        # Another process may begin one meanwhile.
        if root is None and (others := self.find(at_most=_SHOWN + 1)) and (root := self._root()) is None:
            some = ", ".join([*others[:_SHOWN], *["..."] * (len(others) > _SHOWN)])
            raise DatasetError(
                f"{self.name} is no dataset, and holds other things ({some}): give another place.",
                code="dataset-foreign",
            )
        if root is None:
            self._generation = NO_DATASET
            return None
        if is_blank(root):
            raise DatasetError(
                f"{METADATA} of {self.name} is empty, as after a power loss or on a full disk: nothing says "
                "what its arrays are. Restore that file from a copy; or delete the folder, if nothing else "
                "of yours is in it, and run the command that makes the dataset again.",
                code="document-empty",
            )
        node, document = parsed_root(root, self.name)
        found = Document.from_dict(document, where=self.name)
        if isinstance(self.store, Hdf5Store):
            # The file has checksums of its own: of the document, and of where each chunk is and what it is.
            return found
        # One that is not complete is compared with what is asked for before anything is built on it.
        if found.complete and node["attributes"].get(DIGEST) != metadata_digest(document):
            message = (
                f"The document of {self.name} is damaged, or something else than fgbgpack has changed it: "
                f"its digest is not that in the attribute {DIGEST}. Restore it from a copy."
            )
            report(DatasetError(message, code="document-damaged"))
        wrong = sealing.wrong_copies(self.name, node, found.manifest)
        if wrong is not None:
            report(wrong)
        moving = moving_from(node["attributes"].get(WRITING))
        if moving is not None:
            self.store = BesideStore(self.base, *moving)
        manifest = found.manifest
        covers_all = (
            manifest is not None and set(manifest.arrays) == set(found.whole_arrays) and adds_up(manifest)
        )
        if found.complete and not covers_all:
            message = f"The manifest of {self.name} does not cover what the document says is complete."
            report(DatasetError(message, code="document-damaged"))
        self.manifest = manifest if covers_all else None
        trusted = covers_all and wrong is None and moving is None and not isinstance(self.store, LocalStore)
        self._copies = copies_in(node) if trusted else {}
        self.unfilled = sealing.unfilled_arrays(found)
        self._generation = found.generation
        return found

    def existing_document(self, *, complete: bool = False) -> Document:
        """The document of a dataset that must be there, and ``complete`` if asked for
        (IncompleteDatasetError).
        """
        document = self.document()
        if document is None:
            raise DatasetError(f"There is no dataset at {self.name}.", code="dataset-missing")
        if complete and not document.complete:
            raise IncompleteDatasetError(
                f"{self.name} is not complete: run the command that makes it again to finish it."
            )
        return document

    def commit(self, document: Document, *, may_lack: bool = False) -> Document:
        """Publish the document, if it follows its schema, in the root group; its other attributes stay.

        It gets a manifest of the arrays that are there as a whole, and a generation. Once the dataset is
        complete its arrays' metadata no longer change, and the group gets a copy of it (Zarr's inline
        consolidated metadata): a remote reader then makes one request instead of one an array. Copies of
        arrays that users have added stay there.

        Arrays ``may_lack`` chunks of nothing but the fill value, as other tools leave them out. Returns the
        document as it is now; raises DatasetError where another writer has committed one since
        this store has read or committed it.

        In a local folder all that the document tells of is on disk before it is, and it is on disk when this
        returns: a power loss leaves no document without its data.
        """
        if isinstance(self.store, Hdf5Store):
            return self._commit_to_file(document)
        self.unfilled = sealing.unfilled_arrays(document)
        manifest = sealing.manifest_for(self, document, may_lack=may_lack)
        node, version = self._root_to_change()
        is_whole = document.complete and manifest is not None
        generation = digest_of(manifest) if is_whole and manifest else uuid.uuid4().hex
        document = dataclasses.replace(document, manifest=manifest, generation=generation)
        fields = Document.from_dict(document.to_dict(), where="the document to be written").to_dict()
        was_complete = node["attributes"].get(ATTRIBUTE, {"complete": True}).get("complete")
        node["attributes"] = with_document(node["attributes"], fields)
        others = (node.pop("consolidated_metadata", None) or {}).get("metadata", {})
        if document.complete:
            nodes = document.nodes
            found = zip(nodes, self.get_all(f"{path}/{METADATA}" for path in nodes), strict=True)
            below = {path: parse_json(value or b"{}") for path, value in found}
            below |= {path: copy for path, copy in others.items() if not is_own(path)}
            node["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": below}
        if self.claims is not None:
            if not document.complete:
                node["attributes"] = {**node["attributes"], WRITING: {"writer": self.claims.writer}}
            elif self.claims.held or not was_complete:
                # Another's stays where a dataset that is complete is being replaced.
                node["attributes"].pop(WRITING, None)
        self._publish(node, version, was_complete=was_complete)
        if document.complete:
            # Before that, who has opened the dataset may still read what is whole.
            sealing.sweep_manifests(self, manifest)
        self.manifest, self._generation = manifest, generation
        self.written.changed.clear()
        return document

    def _commit_to_file(self, document: Document) -> Document:
        """Publish a document whose arrays have not changed in an HDF5 file."""
        fields = Document.from_dict(document.to_dict(), where="the document to be written").to_dict()
        node: dict[str, Any] = parse_json(self.get(METADATA) or b"{}")
        node["attributes"] = with_document(node["attributes"], fields)
        self.put(METADATA, json.dumps(node, indent=2, ensure_ascii=False).encode())
        return document

    # --- the manifest ------------------------------------------------------------------------------

    def accept(self) -> Document:
        """Take what is stored as what it should be: the document gets a new manifest, and is returned. Its
        pixels count as edited.

        Raises DatasetError where the document does not follow its schema, or a chunk is missing or damaged.
        """
        document = Document.from_dict(self.root().get("attributes", {}).get(ATTRIBUTE), where=self.name)
        self.manifest, self._generation = None, None
        pixels = dataclasses.replace(document.pixels, edited=document.pixels.stored)
        return self.commit(dataclasses.replace(document, pixels=pixels), may_lack=True)

    def checks(self, path: str) -> ChunkChecks | None:
        """What the chunks of an array must be; ``None`` where no manifest that was read tells."""
        if self.manifest is None or path not in self.manifest.arrays:
            return None
        if self._parts is None or self._parts.manifest is not self.manifest:
            self._parts = ManifestParts(self.store, self.name, self.manifest)
        return ChunkChecks(self._parts, path)

    # --- arrays ------------------------------------------------------------------------------------

    def declare(self, *specs: ArraySpec) -> None:
        """Publish the metadata of some arrays."""
        for spec in specs:
            self.written.declare(spec.path, spec.layout, sharded=spec.sharded)
            self.put_changed(f"{spec.path}/{METADATA}", spec.metadata())

    def write_rows(self, spec: ArraySpec, number: int, rows: NDArray[Any]) -> None:
        """Publish a chunk of whole rows of an array whose chunks lie in no shards."""
        self.written.declare(spec.path, spec.layout, sharded=False)
        self.put_changed(*spec.chunk(number, rows))

    def forms(
        self, paths: Iterable[str], *, checked: bool = True, copied: bool = False
    ) -> dict[str, ArrayForm]:
        """How some arrays are cut and encoded, as their own metadata describe it, which must be what the
        manifest says, if it was read. Of a store far away the root may have them ``copied``.
        """
        paths = list(paths)
        copies = self._copies if copied else {}
        found: dict[str, bytes | None] = {p: json.dumps(copies[p]).encode() for p in paths if p in copies}
        others = [path for path in paths if path not in found]
        found |= zip(others, self.get_all(f"{path}/{METADATA}" for path in others), strict=True)
        forms = {path: parse_array(metadata, path, self.name) for path, metadata in found.items()}
        if checked and self.manifest is not None:
            sealing.check_metadata(self.name, found, self.manifest)
        for path in self.unfilled.keys() & forms.keys() if checked else ():
            sealing.check_unfilled(self.name, path, forms[path], self.unfilled[path])
        return forms

    def layout(self, array: str) -> Layout | None:
        """How an array that is there is cut; ``None`` if there is none, or its metadata were cut off."""
        metadata = self.get(f"{array}/{METADATA}")
        try:
            parse_json(metadata or b"")
        except ValueError:
            return None
        return parse_array(metadata, array, self.name).layout

    def reader(self, path: str, form: ArrayForm | None = None, *, checked: bool = True) -> ArrayReader:
        """The reader of an array, whose form is read unless it is known; ``checked`` by the manifest."""
        checks: Checks | None = None
        if checked and path not in self.unchecked:
            checks = NoChunks() if path in self.unfilled else self.checks(path)
        cache = None
        if self.cache and isinstance(checks, ChunkChecks) and self._generation:
            cache = DatasetCache(self.cache, self._generation)
        form = form or self.forms([path], copied=True)[path]
        return ArrayReader(self.store, path, self.name, form, checks=checks, cache=cache)

    def read(self, *paths: str) -> list[NDArray[Any]]:
        """The whole of some arrays; meant for small ones."""
        forms = self.forms(paths, copied=True)
        readers = [self.reader(path, forms[path]) for path in paths]
        for reader in readers:
            reader.ahead(self, range(reader.layout.shape[0]))
        return [reader.read(range(reader.layout.shape[0])) for reader in readers]

    # --- shards ------------------------------------------------------------------------------------

    def sound_shards(
        self,
        array: str,
        layout: Layout,
        *,
        checks: ChunkChecks | None = None,
        sharded: bool = True,
        among: range | None = None,
    ) -> set[int]:
        """Which shards of an array, or ``among`` some, are there, with a whole index that points inside
        them; and with the chunks that the manifest names, where the ends of local files show it.
        """
        if isinstance(self.store, Hdf5Store):
            return self.store.file.shards_there(array)
        expected = None if checks is None else checks.all().reshape(layout.shards, -1)
        known = {f"{array}/{layout.key(i)}": i for i in (range(layout.shards) if among is None else among)}
        # All keys of a large array are too many to be listed by everybody who works on a part of it.
        sizes = self._listed_sizes(f"{array}/c/") if among is None else None
        if among is not None:
            present = list(compress(known, self.present(known)))
        else:
            listed = self.find(f"{array}/c/") if sizes is None else sizes
            present = [key for key in listed if key in known]
        if self.is_new:
            # A writer before this one may have been at it until now.
            present = [key for key in present if self.written.has(key)]

        async def check(key: str) -> bool:
            size = await self.store.getsize(key) if sizes is None else sizes[key]
            length = index_bytes(math.prod(layout.grid)) if sharded else CRC_BYTES
            tail = await self._get(key, SuffixByteRequest(length)) or b""
            ends = np.array([size])
            if sharded:
                try:
                    index = read_index(tail, size, layout.grid, key).reshape(-1, 2)
                except DatasetError:
                    return False
                ends = np.where(index[:, 0] == ABSENT, 0, index[:, 0] + index[:, 1]).astype(np.int64)
            if self.written.is_other(key, size, tail):
                return False
            if expected is None or not isinstance(self.store, LocalStore):
                return size > 0
            found = await asyncio.to_thread(ends_of_file, self.store.root / key, ends)
            return bool((found == expected[known[key]]).all())

        return {known[key] for key in compress(present, self._each(present, check))}

    # --- the lock ----------------------------------------------------------------------------------

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Write together with others that hold this lock, each the same bytes under the same keys, but with
        nobody who replaces or commits the dataset (DatasetError). What is written is durable at the end.
        """
        self.join_claim()
        if not isinstance(self.store, LocalStore) or os.name != "posix":
            yield
            return
        with ExitStack() as lock:
            refusal = (
                f"Another process is making, finishing or replacing {self.name}: wait for it, or end it."
            )
            with self._disk_errors():
                lock.enter_context(locked(self.store.root, refusal, shared=True))
            try:
                yield
            finally:
                self.sync()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes of this machine from writing the dataset (DatasetError): two writers lose
        data.

        The lock is the system's, on the folder itself: it leaves no file, and a process that dies frees it.
        Where the file system has no locks it is a file beside the folder.
        """
        if not isinstance(self.store, LocalStore) or os.name != "posix":
            yield
            return
        root = self.store.root
        try:
            with ExitStack() as lock:
                refusal = f"Another process is writing {self.name}: wait for it, or end it."
                with self._disk_errors():
                    root.mkdir(parents=True, exist_ok=True)
                    lock.enter_context(locked(root, refusal))
                sealing.sweep(self)
                yield
        finally:
            # A folder in which nothing was written does not stay.
            with suppress(OSError):
                root.rmdir()


def is_part(key: str) -> bool:
    """Whether a key is one of a dataset, and not of what is beside it."""
    return ("/" in key or key == METADATA) and not key.startswith(HIDDEN)


def _raise(error: DatasetError) -> None:
    raise error

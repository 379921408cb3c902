"""One dataset in a store: its document, the keys of its arrays, which shards are there, and its lock."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import compress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from fgbgpack.document import ATTRIBUTE, SOURCES, Document
from fgbgpack.errors import DatasetError, IncompleteDatasetError
from fgbgpack.files import PARTIAL, disk_errors, locked
from fgbgpack.inputs import LARGEST_JSON, check_regular, parse_json
from fgbgpack.storage.arrays import METADATA, ArrayForm, ArraySpec, parse_array
from fgbgpack.storage.hdf5 import Hdf5Store, is_hdf5
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading import ArrayReader
from fgbgpack.storage.sharding import index_bytes, read_index

#: Where a dataset is: a local folder, an HDF5 file, a URL that fsspec opens, or a Zarr store.
Target: TypeAlias = str | os.PathLike[str] | Store

_CONCURRENT_REQUESTS = 32
_SHOWN = 3

T = TypeVar("T")


def zarr_store(target: Target, *, read_only: bool) -> Store:
    """The Zarr store of a target.

    Raises DatasetError if a local path to be read is missing or no dataset, an HDF5 file is to be written, or
    a URL cannot be opened.
    """
    if isinstance(target, Store):
        return target
    if str(target).startswith("file://"):
        target = url2pathname(urlsplit(str(target)).path)
    elif "://" in str(target):
        return _remote_store(str(target), read_only)
    path = Path(target)
    if path.is_file() or (is_hdf5(path) and not path.is_dir()):
        if not read_only:
            raise DatasetError(
                f"{path} is {'an HDF5' if is_hdf5(path) else 'a'} file, which is not written here: make a "
                "folder (Zarr); fgbgpack convert makes HDF5 of that, and that of HDF5.",
                code="target-is-file",
            )
        return Hdf5Store(path)
    if read_only and not path.is_dir():
        raise DatasetError(f"There is no dataset at {path}: no such folder.", code="dataset-missing")
    return LocalStore(path, read_only=read_only)


def _remote_store(url: str, read_only: bool) -> Store:
    try:
        return FsspecStore.from_url(url, read_only=read_only)
    except ImportError as exc:
        raise DatasetError(
            f"{url} is a URL, which needs fsspec and the package of its protocol: pip install fsspec ({exc})",
            code="extra-missing",
        ) from exc
    except ValueError as exc:
        raise DatasetError(f"{url} is a URL that fsspec does not open: {exc}.", code="url-unknown") from exc


class DatasetStore:
    """One dataset in a Zarr store. Its methods may be called from any thread; it can be pickled.

    The store publishes a key whole or not at all, as all of Zarr's own do; ``name`` is what messages call it.
    Every method raises DatasetError where the store cannot be read or written.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name

    @classmethod
    def open(cls, target: Target, *, read_only: bool) -> DatasetStore:
        """The store of a target, which need not hold a dataset yet if it is to be written."""
        return cls(zarr_store(target, read_only=read_only), str(target))

    def same_place_as(self, other: DatasetStore) -> bool:
        """Whether two stores are one and the same."""
        one, two = self.store, other.store
        if isinstance(one, LocalStore) and isinstance(two, LocalStore):
            return one.root.exists() and two.root.exists() and one.root.samefile(two.root)
        return one == two

    # --- keys --------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """The value of a key; ``None`` if there is none."""
        return self._run(self._get(key))

    def get_all(self, keys: Iterable[str]) -> list[bytes | None]:
        """The values of some keys, requested at once; ``None`` for those that are missing."""
        return self._each(list(keys), self._get)

    def put(self, key: str, value: bytes) -> None:
        """Publish a value under a key, in one step."""
        self._run(self.store.set(key, default_buffer_prototype().buffer.from_bytes(value)))

    def put_changed(self, key: str, value: bytes) -> None:
        """Publish a value under a key, unless it is there already."""
        if self.get(key) != value:
            self.put(key, value)

    def find(self, prefix: str = "", at_most: int | None = None) -> list[str]:
        """The keys that start with ``prefix``, sorted, without what a writer has not finished."""

        async def collect() -> list[str]:
            found: list[str] = []
            async for key in self.store.list_prefix(prefix):
                if not PARTIAL.search(key):
                    found.append(key)
                if len(found) == at_most:
                    break
            return sorted(found)

        return self._run(collect())

    def delete_below(self, prefix: str) -> None:
        """Delete every key below ``prefix``."""
        self._run(self.store.delete_dir(prefix))

    def own_keys(self) -> list[str]:
        """The keys of the dataset. Files beside the document, such as cards, are not part of it."""
        return [key for key in self.find() if "/" in key or key == METADATA]

    def stored_bytes(self) -> dict[str, int]:
        """Bytes that each array takes, by its path; the document is ``zarr.json``."""
        if isinstance(self.store, Hdf5Store):
            return self.store.file.stored_bytes()
        keys, total = self.own_keys(), Counter[str]()
        for key, size in zip(keys, self._each(keys, self.store.getsize), strict=True):
            parts = key.split("/")
            path = "/".join(parts[:2] if parts[0] == SOURCES and len(parts) > 2 else parts[:1])
            total[path] += size
        return dict(total)

    # --- the document ------------------------------------------------------------------------------

    def document(self) -> Document | None:
        """The document, checked; ``None`` where there is nothing at all.

        Raises DatasetError if something else is there, or a document that is damaged or of a newer schema.
        """
        # Reading would make a local folder that is not there.
        if isinstance(self.store, LocalStore) and not self.store.root.is_dir():
            return None
        root = self.get(METADATA)
        if root is None:
            if others := self.find(at_most=_SHOWN):
                raise DatasetError(
                    f"{self.name} holds other things than a dataset ({', '.join(others)}, ...): give another "
                    "place.",
                    code="dataset-foreign",
                )
            return None
        try:
            document = parse_json(root)["attributes"][ATTRIBUTE]
        except (ValueError, KeyError, TypeError) as exc:
            kind = "a Zarr store" if b"zarr_format" in root else "a folder"
            raise DatasetError(
                f"{self.name} is {kind} that fgbgpack did not make: give another place.",
                code="dataset-foreign",
            ) from exc
        return Document.from_dict(document, where=self.name)

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

    def commit(self, document: Document) -> None:
        """Publish the document, if it follows its schema, in the root group; its other attributes stay.

        Once the dataset is complete its arrays' metadata no longer change, and the group gets a copy of it
        (Zarr's inline consolidated metadata): a remote reader then makes one request instead of one an array.
        """
        fields = Document.from_dict(document.to_dict(), where="the document to be written").to_dict()
        root = self.get(METADATA) or b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'
        node: dict[str, Any] = parse_json(root)
        node["attributes"][ATTRIBUTE] = fields
        node.pop("consolidated_metadata", None)
        if document.complete:
            found = self.get_all(f"{path}/{METADATA}" for path in document.nodes)
            below = {
                path: parse_json(value or b"{}") for path, value in zip(document.nodes, found, strict=True)
            }
            node["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": below}
        self.put(METADATA, json.dumps(node, indent=2, ensure_ascii=False).encode())

    # --- arrays ------------------------------------------------------------------------------------

    def declare(self, *specs: ArraySpec) -> None:
        """Publish the metadata of some arrays."""
        for spec in specs:
            self.put_changed(f"{spec.path}/{METADATA}", spec.metadata())

    def write_rows(self, spec: ArraySpec, number: int, rows: NDArray[Any]) -> None:
        """Publish a chunk of whole rows of an array whose chunks lie in no shards."""
        self.put_changed(*spec.chunk(number, rows))

    def forms(self, paths: Iterable[str]) -> dict[str, ArrayForm]:
        """How some arrays are cut and encoded, as their own metadata describe it."""
        paths = list(paths)
        found = zip(paths, self.get_all(f"{path}/{METADATA}" for path in paths), strict=True)
        return {path: parse_array(metadata, path, self.name) for path, metadata in found}

    def layout(self, array: str) -> Layout | None:
        """How an array that is there is cut; ``None`` if there is none."""
        metadata = self.get(f"{array}/{METADATA}")
        return None if metadata is None else parse_array(metadata, array, self.name).layout

    def reader(self, path: str, form: ArrayForm | None = None) -> ArrayReader:
        """The reader of an array, whose form is read unless it is known."""
        return ArrayReader(self.store, path, self.name, form or self.forms([path])[path])

    def read(self, *paths: str) -> list[NDArray[Any]]:
        """The whole of some arrays; meant for small ones."""
        forms = self.forms(paths)
        return [self.reader(path, forms[path]).read(np.arange(forms[path].layout.shape[0])) for path in paths]

    # --- shards ------------------------------------------------------------------------------------

    def sound_shards(self, array: str, layout: Layout) -> set[int]:
        """Which shards of an array are there, with an index that is whole and points inside them."""
        if isinstance(self.store, Hdf5Store):
            return self.store.file.shards_there(array)
        known = {f"{array}/{layout.key(i)}": i for i in range(layout.shards)}
        present = [key for key in self.find(f"{array}/c/") if key in known]

        async def check(key: str) -> bool:
            size = await self.store.getsize(key)
            tail = await self._get(key, SuffixByteRequest(index_bytes(math.prod(layout.grid))))
            try:
                read_index(tail or b"", size, layout.grid, key)
            except DatasetError:
                return False
            return True

        return {known[key] for key in compress(present, self._each(present, check))}

    def missing_shards(self, layouts: Mapping[str, Layout]) -> list[int]:
        """The shards, by their numbers, that one of some arrays lacks; all have the same number of shards."""
        there = [self.sound_shards(array, layout) for array, layout in layouts.items()]
        count = next(iter(layouts.values())).shards
        return sorted(set(range(count)).difference(set[int].intersection(*there)))

    # --- the lock ----------------------------------------------------------------------------------

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes of this machine from writing the dataset (DatasetError): two writers lose
        data.

        The lock is the system's, on the folder itself: it leaves no file, and a process that dies frees it.
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
                self.sweep()
                yield
        finally:
            # A folder in which nothing was written does not stay.
            with suppress(OSError):
                root.rmdir()

    def sweep(self) -> None:
        """Delete what writers that were killed left half-written in a local folder."""
        if isinstance(self.store, LocalStore):
            with self._disk_errors():
                for left_over in self.store.root.rglob("*.partial"):
                    if PARTIAL.search(left_over.name):
                        left_over.unlink(missing_ok=True)

    # --- requests ----------------------------------------------------------------------------------

    async def _get(self, key: str, part: ByteRequest | None = None) -> bytes | None:
        if isinstance(self.store, LocalStore):
            # It would wait for what a pipe in the place of a file gives.
            check_regular(self.store.root / key, LARGEST_JSON if key.endswith(METADATA) else None)
        value = await self.store.get(key, default_buffer_prototype(), part)
        return None if value is None else value.to_bytes()

    def _each(self, keys: list[str], action: Callable[[str], Coroutine[Any, Any, T]]) -> list[T]:
        async def all_of_them() -> list[T]:
            limit = asyncio.Semaphore(_CONCURRENT_REQUESTS)

            async def one(key: str) -> T:
                async with limit:
                    return await action(key)

            return await asyncio.gather(*(one(key) for key in keys))

        return self._run(all_of_them())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._disk_errors():
            try:
                return sync(work)
            except (OSError, DatasetError):
                raise
            except Exception as exc:  # each kind of store has errors of its own
                raise DatasetError(
                    f"{self.name} cannot be read or written: {exc}.", code="io-failed"
                ) from exc

    def _disk_errors(self) -> AbstractContextManager[None]:
        return disk_errors(self.name, kept="What is written already stays.")

"""A dataset in a zip file, read in place: each key is a file in it, stored as it is."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from fgbgpack.errors import DatasetError
from fgbgpack.inputs import open_descriptor
from fgbgpack.storage.answers import answer
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.hdf5 import FileStore, span_of
from fgbgpack.storage.over import StoreOver
from fgbgpack.storage.zip_directory import (
    HEADER_BYTES,
    TAIL_BYTES,
    ZipEntry,
    damaged,
    data_start,
    find_directory,
    parse_directory,
)

#: What names of zip files end with.
SUFFIX = ".zip"
_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
#: More is not read at a time of a file, which may end before.
_READ_BYTES = 1 << 30
_UNCHANGED = "zip files are not changed"


def is_zip(path: Path) -> bool:
    """Whether a file that is there is a zip file, or is called like one."""
    if path.suffix.lower() == SUFFIX:
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) in _SIGNATURES
    except OSError:
        return False


def _below_folder(entries: dict[str, ZipEntry]) -> Mapping[str, ZipEntry]:
    """The files by their keys: some zip files have the folder of a dataset in them, and not what is in it."""
    folders = {name.partition("/")[0] for name in entries}
    if METADATA in entries or len(folders) != 1:
        return entries
    (folder,) = folders
    if f"{folder}/{METADATA}" not in entries:
        return entries
    return {name[len(folder) + 1 :]: entry for name, entry in entries.items()}


async def _list_prefix(keys: Mapping[str, ZipEntry], prefix: str) -> AsyncIterator[str]:
    for key in keys:
        if key.startswith(prefix):
            yield key


async def _list_dir(keys: Mapping[str, ZipEntry], prefix: str) -> AsyncIterator[str]:
    folder = f"{prefix.strip('/')}/".lstrip("/")
    below = (key[len(folder) :] for key in keys if key.startswith(folder))
    for name in dict.fromkeys(key.partition("/")[0] for key in below):
        yield name


class LocalZipStore(FileStore):
    """A zip file of this machine as a Zarr store, which is read only. It can be pickled and forked, and used
    on threads.

    Raises DatasetError where there is none, or it is damaged or compressed.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        super().__init__(path, read_only=True)
        self.name = str(path) if name is None else name
        self._number, self._lock = -1, threading.Lock()
        try:
            self._number = open_descriptor(path)
            size = os.fstat(self._number).st_size
            tail = self.read_at(max(0, size - TAIL_BYTES), min(size, TAIL_BYTES))
            place = find_directory(tail, size, self.name)
            directory = self.read_at(place.start, place.size)
        except FileNotFoundError as exc:
            raise DatasetError(
                f"There is no dataset at {self.name}: no such file.", code="dataset-missing"
            ) from exc
        except OSError as exc:
            raise DatasetError(f"{self.name} cannot be read: {exc.strerror}.", code="io-failed") from exc
        self._entries = _below_folder(parse_directory(directory, place, self.name))

    def __del__(self) -> None:
        if getattr(self, "_number", -1) >= 0:
            os.close(self._number)

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalZipStore, (self.path, self.name)

    def with_read_only(self, read_only: bool = False) -> LocalZipStore:
        """The same store; NotImplementedError where it is to be written."""
        if not read_only:
            raise NotImplementedError(_UNCHANGED)
        return self

    def read_at(self, start: int, size: int) -> bytes:
        """Bytes of the file, fewer where it ends before."""
        parts = []
        while size > 0 and (part := self._some(start, min(size, _READ_BYTES))):
            parts.append(part)
            start, size = start + len(part), size - len(part)
        return b"".join(parts)

    def _some(self, start: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._number, size, start)
        with self._lock:
            os.lseek(self._number, start, os.SEEK_SET)
            return os.read(self._number, size)

    def span(self, key: str) -> tuple[int, int] | None:
        """Where the value of a key begins in the file, and its bytes; ``None`` if there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        return data_start(self.read_at(entry.header, HEADER_BYTES), entry, self.name), entry.size

    def _value(self, key: str, part: ByteRequest | None) -> bytes | None:
        if (span := self.span(key)) is None:
            return None
        start, stop = span_of(part, span[1])
        value = self.read_at(span[0] + start, stop - start)
        if len(value) < stop - start:
            raise damaged(self.name, "it is cut short")
        return value

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of a key, or a part of it."""
        prototype = prototype or default_buffer_prototype()
        value = await asyncio.to_thread(self._value, key, byte_range)
        return None if value is None else prototype.buffer.from_bytes(value)

    async def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return key in self._entries

    async def getsize(self, key: str) -> int:
        """The bytes of a key's value."""
        if (entry := self._entries.get(key)) is None:
            raise FileNotFoundError(key)
        return entry.size

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that start with ``prefix``."""
        return _list_prefix(self._entries, prefix)

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names directly below ``prefix``."""
        return _list_dir(self._entries, prefix)

    @property
    def supports_listing(self) -> bool:
        """It does."""
        return True

    async def set(self, key: str, value: Buffer) -> None:
        """Nothing can be set."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Nothing can be deleted."""
        self._check_writable()


class RemoteZipStore(StoreOver):
    """A zip file under a key of another store as a Zarr store, which is read only: what is asked for is asked
    for as ranges of bytes. Its directory is read when it is first needed, in one or two requests.
    """

    def __init__(self, store: Store, key: str, name: str) -> None:
        super().__init__(store, read_only=True)
        self.key, self.name = key, name
        self._known: Mapping[str, ZipEntry] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": None}

    def with_read_only(self, read_only: bool = False) -> RemoteZipStore:
        """The same store; NotImplementedError where it is to be written."""
        if not read_only:
            raise NotImplementedError(_UNCHANGED)
        return self

    def __eq__(self, value: object) -> bool:
        return isinstance(value, RemoteZipStore) and (self.key, self._store) == (value.key, value._store)

    def __hash__(self) -> int:
        return hash((type(self), self.key, self.name))

    def __str__(self) -> str:
        return self.name

    async def _entries(self) -> Mapping[str, ZipEntry]:
        if self._known is None:
            tail = await answer(self._store, self.key, SuffixByteRequest(TAIL_BYTES), self.name)
            if tail is None:
                raise DatasetError(f"There is no dataset at {self.name}.", code="dataset-missing")
            place = find_directory(tail, None, self.name)
            first = place.end_in_tail - place.size
            if first >= 0:
                directory = tail[first : place.end_in_tail]
            else:
                directory = await self._bytes(place.start, place.start + place.size)
            self._known = _below_folder(parse_directory(directory, place, self.name))
        return self._known

    async def _bytes(self, start: int, stop: int) -> bytes:
        found = await answer(self._store, self.key, RangeByteRequest(start, stop), self.name)
        if found is None:
            raise damaged(self.name, "it has gone while it was read")
        return found

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of a key, or a part of it."""
        entry = (await self._entries()).get(key)
        if entry is None:
            return None
        first = entry.start
        if first is None:
            header = await self._bytes(entry.header, entry.header + HEADER_BYTES)
            first = data_start(header, entry, self.name)
        start, stop = span_of(byte_range, entry.size)
        if start == stop:
            return prototype.buffer.from_bytes(b"")
        value = await self._store.get(
            self.key, prototype, byte_range=RangeByteRequest(first + start, first + stop)
        )
        if value is not None and len(value) > stop - start:
            # A server that knows no ranges sends the whole file.
            return value[first + start : first + stop]
        return value

    async def exists(self, key: str) -> bool:
        """Whether a key is there."""
        return key in await self._entries()

    async def getsize(self, key: str) -> int:
        """The bytes of a value."""
        if (entry := (await self._entries()).get(key)) is None:
            raise FileNotFoundError(key)
        return entry.size

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with ``prefix``."""
        async for key in _list_prefix(await self._entries(), prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names directly below ``prefix``."""
        async for name in _list_dir(await self._entries(), prefix):
            yield name

    @property
    def supports_listing(self) -> bool:
        """It does, whatever the store that it is in."""
        return True

    @property
    def supports_writes(self) -> bool:
        """Nothing can be set."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """Nothing can be deleted."""
        return False

    async def set(self, key: str, value: Buffer) -> None:
        """Nothing can be set."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Nothing can be deleted."""
        self._check_writable()

"""What the chunks of an array must be, by the manifest of the dataset that a reader has opened."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from fgbgpack.errors import DatasetError
from fgbgpack.manifest_info import ManifestInfo
from fgbgpack.storage.codecs import CRC_BYTES
from fgbgpack.storage.manifest import NEVER_WRITTEN, PART, manifest_array, part_checksum

if TYPE_CHECKING:
    from fgbgpack.storage.reading.reader import ArrayReader

#: What can have happened to a chunk that is missing or another one.
CAUSES = (
    "The dataset was damaged or copied in part, or it was replaced while it was open: open it again, mend it "
    "with fgbgpack repair, or restore it from a copy."
)


class Checks(Protocol):
    """What is known of the chunks of an array before they are read."""

    def check(self, chunk: int, encoded: NDArray[np.uint8] | None, name: Callable[[], str]) -> None:
        """Raises DatasetError where a chunk, by its number, is not there or is another one; ``name`` gives
        what messages call it.
        """


class NoChunks:
    """That an array has no chunks, as one of depth where there is no depth."""

    def check(self, chunk: int, encoded: NDArray[np.uint8] | None, name: Callable[[], str]) -> None:
        """Raises DatasetError where there is a chunk."""
        if encoded is not None:
            raise DatasetError(
                f"{name()} is there, but by its document the dataset has no depth. {CAUSES}",
                code="chunk-unexpected",
            )


class ManifestParts:
    """The manifest of a dataset: the checksums of the chunks of all arrays. Its parts are read when they are
    first needed.

    It may be used on threads, forked and pickled.
    """

    def __init__(self, store: Store, name: str, manifest: ManifestInfo) -> None:
        self.manifest = manifest
        self._store, self._name = store, name
        self._array = manifest_array(manifest)
        self._read: dict[int, NDArray[np.uint32]] = {}
        #: What reads the parts that were asked for ahead of time.
        self._coming: dict[int, ArrayReader] = {}
        self._lock, self._process = threading.Lock(), os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "_lock"}
        return kept | {"_read": {}, "_coming": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self._lock, self._process = threading.Lock(), os.getpid()

    def __getitem__(self, part: int) -> NDArray[np.uint32]:
        values = self._read.get(part)
        return self._load(part) if values is None else values

    def ahead(self, part: int) -> None:
        """Begins to read a part, where it is in a store far away; nothing waits."""
        if part not in self._read and part not in self._coming:
            reader = self._coming[part] = self._reader()
            reader.ahead(self._array.path, [part * PART])

    def _reader(self) -> ArrayReader:
        from fgbgpack.storage.reading.reader import ArrayReader

        return ArrayReader(self._store, self._array.path, self._name, self._array.form)

    def _load(self, part: int) -> NDArray[np.uint32]:
        if self._process != os.getpid():
            # A thread of the parent may have had the lock when this process was forked.
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            if part not in self._read:
                spec = self._array
                reader = self._coming.pop(part, None) or self._reader()
                values = reader.read(
                    np.arange(part * PART, min((part + 1) * PART, spec.layout.shape[0])), threads=1
                )
                if part_checksum(values) != self.manifest.parts[part]:
                    raise DatasetError(
                        f"{self._name}/{spec.path} is not the manifest that the document names. {CAUSES}",
                        code="manifest-foreign",
                    )
                self._read[part] = values
            return self._read[part]


class ChunkChecks:
    """The checksums that the chunks of one array must have."""

    def __init__(self, parts: ManifestParts, path: str) -> None:
        entry = parts.manifest.arrays[path]
        self._parts, self._first, self.chunks = parts, entry.first, entry.chunks

    def check(self, chunk: int, encoded: NDArray[np.uint8] | None, name: Callable[[], str]) -> None:
        """As :meth:`Checks.check`."""
        expected = self.expected(chunk)
        if encoded is not None:
            if int.from_bytes(encoded[-CRC_BYTES:].tobytes(), "little") != expected:
                raise DatasetError(
                    f"{name()} is another one than the manifest says. {CAUSES}", code="chunk-foreign"
                )
        elif expected != NEVER_WRITTEN:
            raise DatasetError(f"{name()} is missing. {CAUSES}", code="chunk-missing")

    def ahead(self) -> None:
        """Begins to read what tells of the first chunk."""
        self._parts.ahead(self._first // PART)

    def expected(self, chunk: int) -> int:
        """The checksum of a chunk, by its number in the array."""
        part, place = divmod(self._first + chunk, PART)
        return int(self._parts[part][place])

    def all(self) -> NDArray[np.uint32]:
        """The checksums of all chunks."""
        first, last = self._first // PART, -(-(self._first + self.chunks) // PART)
        parts = [self._parts[part] for part in range(first, last)]
        start = self._first - first * PART
        return np.concatenate([np.zeros(0, np.uint32), *parts])[start : start + self.chunks]

"""Several writers of one dataset in a store that has no locks: the one that began last goes on.

A writer puts its name into the root's metadata, on the condition that they are still what it has read. From
then on a writer that was there before can commit nothing more, and puts no object in the place of one that
has been written since: it finds out, and stops.

The stores of obstore know such conditions: S3, Google Cloud Storage, Azure, and its own in memory. Of others
all that can be done is to look before and after, which leaves moments in between.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore

from fgbgpack.errors import DatasetError
from fgbgpack.inputs import parse_json
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.beside import WRITING, BesideStore
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.objects import RemoteStore, Version

#: Times that an object is put while others put it as well.
_TRIES = 5
#: Looking at a root without conditions takes no more than one part in so many of the time.
_SELDOM = 20


def is_shared(store: Store) -> bool:
    """Whether processes may write a store that no lock keeps apart."""
    return not isinstance(store, LocalStore | Hdf5Store)


class _ChangedError(Exception):
    """An object is not, or no longer, the one that was to be replaced."""


class Claims:
    """What one writer may change of a dataset that others may write too. It can be pickled, and used from any
    thread.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        #: What this writer calls itself in the root.
        self.writer = uuid.uuid4().hex
        #: The same while it is there, and what this writes is fenced off; else ``None``.
        self.held: str | None = None
        self._version: Version = None
        self._ignores_conditions: bool | None = None
        self._check_after = 0.0
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self.lock = threading.Lock()

    @property
    def is_exact(self) -> bool:
        """Whether the store itself keeps writers apart, as far as this is known."""
        return isinstance(self._located(METADATA)[0], RemoteStore) and not self._ignores_conditions

    @property
    def lacks_conditions(self) -> bool:
        """Whether something was written to a store that does not keep writers apart."""
        return self._version is not None and not self.is_exact

    async def read(self) -> tuple[bytes | None, Version]:
        """The metadata of the root, with their version."""
        return await self._read(METADATA)

    async def join(self) -> None:
        """Write for the writer that the root names, until another one begins (DatasetError if there is none).

        Those that do that do not keep each other out: they must write the same bytes under the same keys.
        """
        root, version = await self.read()
        self.held = writer_of(root)
        if self.held is None:
            raise replaced(self._name)
        self._version = version

    async def publish(self, root: bytes, version: Version) -> None:
        """Put metadata of the root in the place of those of a version; DatasetError if there are others."""
        try:
            self._version = await self._put_if(METADATA, root, version)
        except _ChangedError as exc:
            raise replaced(self._name) from exc
        self.held = self.writer if writer_of(root) == self.writer else None
        if self._ignores_conditions is None and self.is_exact:
            await self._try_out(root)

    async def _try_out(self, root: bytes) -> None:
        """See whether the store keeps to conditions: some that speak the protocol of S3 do not know them."""
        store, key = self._located(METADATA)
        from obstore.exceptions import AlreadyExistsError

        try:
            self._version = await store.put_if(key, root, None)
            self._ignores_conditions = True
        except AlreadyExistsError:
            self._ignores_conditions = False

    async def check(self, *, at_once: bool = False) -> None:
        """Raises DatasetError if another writer has begun since this one has; in a store without conditions
        it is not looked at each time, unless ``at_once``.
        """
        if self.held is None:
            return
        start = time.monotonic()
        if self.is_exact:
            if await self._version_of(METADATA) == self._version:
                return
        elif start < self._check_after and not at_once:
            return
        root, version = await self.read()
        if writer_of(root) != self.held:
            raise replaced(self._name)
        now = time.monotonic()
        self._check_after = now + _SELDOM * (now - start)
        self._version = version

    async def put(self, key: str, value: bytes) -> None:
        """Put an object, unless another writer has begun, who may have put it (DatasetError)."""
        for _ in range(_TRIES):
            # What is put after the check is not what is replaced: another writer's objects are safe.
            version = await self._version_of(key) if self.is_exact and self.held else None
            await self.check()
            if not self.is_exact or not self.held:
                return await self._set(key, value)
            try:
                await self._put_if(key, value, version)
            except _ChangedError:
                continue
            return None
        raise replaced(self._name)

    async def copy(self, source: str, key: str) -> None:
        """Copy an object, in the store itself where it can, unless another writer has begun."""
        await self.check()
        store, key_there = self._located(key)
        _, source_there = self._located(source)
        if isinstance(store, RemoteStore):
            await store.copy(source_there, key_there)
        elif isinstance(store, FsspecStore):
            places = [f"{store.path.rstrip('/')}/{name}" for name in (source_there, key_there)]
            await store.fs._cp_file(*places)
        else:
            value = await store.get(source_there, default_buffer_prototype())
            if value is None:
                raise DatasetError(
                    f"{self._name}/{source} is missing: the store loses data, or something else writes to "
                    "it.",
                    code="shards-lost",
                )
            await store.set(key_there, value)

    # --- objects -----------------------------------------------------------------------------------

    def _located(self, key: str) -> tuple[Any, str]:
        store: Store = self._store
        while isinstance(store, BesideStore):
            store, key = store.located(key)
        return store, key

    async def _set(self, key: str, value: bytes) -> None:
        await self._store.set(key, default_buffer_prototype().buffer.from_bytes(value))

    async def _read(self, key: str) -> tuple[bytes | None, Version]:
        store, key_there = self._located(key)
        if isinstance(store, RemoteStore):
            return await store.read(key_there)
        value = await self._store.get(key, default_buffer_prototype())
        found = None if value is None else value.to_bytes()
        return found, found

    async def _version_of(self, key: str) -> Version:
        store, key_there = self._located(key)
        if isinstance(store, RemoteStore):
            return await store.version_of(key_there)
        return (await self._read(key))[1]

    async def _put_if(self, key: str, value: bytes, version: Version) -> Version:
        """Put an object in the place of that version of it, and return its own version; else _ChangedError.

        What is there already as it should be is as good as put: a request may be repeated whose answer was
        lost.
        """
        if self.is_exact:
            from obstore.exceptions import AlreadyExistsError, PreconditionError

            store, key_there = self._located(key)
            try:
                return await store.put_if(key_there, value, version)
            except (AlreadyExistsError, PreconditionError):
                found, version = await self._read(key)
                if found != value:
                    raise _ChangedError from None
                return version
            except NotImplementedError:
                self._ignores_conditions = True
        if await self._version_of(key) != version:
            raise _ChangedError
        await self._set(key, value)
        found, version = await self._read(key)
        if found != value:
            raise _ChangedError
        return version


def replaced(name: str) -> DatasetError:
    """What is raised where another writer was faster."""
    return DatasetError(
        f"Another process has changed {name} meanwhile: wait until it has ended, and run the same command "
        "again.",
        code="dataset-replaced",
    )


def writer_of(root: bytes | None) -> str | None:
    """The name of the writer in the metadata of a root; ``None`` if there is none."""
    try:
        writing = parse_json(root or b"{}")["attributes"][WRITING]
        return str(writing["writer"])
    except (ValueError, KeyError, TypeError):
        return None

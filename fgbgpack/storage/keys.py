"""The keys of a store: requests one by one and many at once, with errors that name the place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeGuard, TypeVar

from zarr.abc.store import ByteRequest, Store, SuffixByteRequest
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from fgbgpack.errors import DatasetError
from fgbgpack.files import PARTIAL, disk_errors
from fgbgpack.inputs import LARGEST_JSON, check_regular, read_file
from fgbgpack.storage.answers import answer
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.beside import HIDDEN
from fgbgpack.storage.failures import unreadable
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.objects import RemoteStore
from fgbgpack.storage.processes import usable
from fgbgpack.storage.zipped import LocalZipStore, RemoteZipStore

#: Enough that a store at a distance is asked as fast as this process can ask.
_CONCURRENT_REQUESTS = 128

T = TypeVar("T")


class Keys:
    """The keys and values of a Zarr store, which messages call ``name``. Its methods may be called from any
    thread, and raise DatasetError where the store cannot be read or written.
    """

    def __init__(self, store: Store, name: str) -> None:
        if type(store) is ObjectStore:
            store = RemoteStore(store.store, read_only=store.read_only, name=name)
        self._store = store
        #: The store itself: ``store`` shows what lies beside a dataset whose place that is going to take.
        self.base = store
        self.name = name

    @property
    def store(self) -> Store:
        """The Zarr store, as this process can use it."""
        return usable(self._store)

    @store.setter
    def store(self, store: Store) -> None:
        self._store = store

    @property
    def is_far(self) -> bool:
        """Whether what is read and written is known to go over a network.

        Stores of other kinds do not count, nor obstore's in memory: to ``is_far_away``, which decides on
        reading ahead, they do.
        """
        base = self.base._store if isinstance(self.base, RemoteZipStore) else self.base
        return isinstance(base, FsspecStore) or (isinstance(base, RemoteStore) and base.is_far)

    def same_place_as(self, other: Keys) -> bool:
        """Whether two stores are one and the same."""
        one, two = self.base, other.base
        if isinstance(one, LocalStore) and isinstance(two, LocalStore):
            return one.root.exists() and two.root.exists() and one.root.samefile(two.root)
        if isinstance(one, ObjectStore) and isinstance(two, ObjectStore):
            # One may be open for reading only.
            return bool(one.store == two.store)
        return one == two

    def get(self, key: str) -> bytes | None:
        """The value of a key; ``None`` if there is none."""
        if _reads_files(self.store):
            with self._disk_errors():
                return _read_local(self.store, key)
        return self._run(self._get(key))

    def get_part(self, key: str, part: ByteRequest) -> bytes | None:
        """A part of the value of a key; ``None`` if there is none."""
        return self._run(self._get(key, part))

    def size(self, key: str) -> int | None:
        """The bytes of the value of a key; ``None`` if there is none."""

        async def size() -> int | None:
            with suppress(FileNotFoundError):
                return await self.store.getsize(key)
            return None

        return self._run(size())

    def get_all(self, keys: Iterable[str]) -> list[bytes | None]:
        """The values of some keys, requested at once; ``None`` for those that are missing."""
        if _reads_files(self.store):
            return [self.get(key) for key in keys]
        return self._each(list(keys), self._get)

    def present(self, keys: Iterable[str]) -> list[bool]:
        """Whether there is anything under each of some keys, requested at once; not all stores list keys."""

        async def is_there(key: str) -> bool:
            if isinstance(self.store, LocalStore):
                with suppress(FileNotFoundError):
                    return bool((self.store.root / key).lstat())
                return False
            return await self._get(key, SuffixByteRequest(1)) is not None

        return self._each(list(keys), is_there)

    def find(self, prefix: str = "", at_most: int | None = None) -> list[str]:
        """The keys that start with ``prefix``, sorted, without what a writer has not finished, or makes
        beside the dataset.
        """

        async def collect() -> list[str]:
            found: list[str] = []
            async for key in self.store.list_prefix(prefix):
                if not PARTIAL.search(key) and key.startswith(HIDDEN) == prefix.startswith(HIDDEN):
                    found.append(key)
                if len(found) == at_most:
                    break
            return sorted(found)

        return self._run(collect())

    def names_in(self, prefix: str) -> list[str]:
        """What lies directly below a prefix: keys, and what other keys start with; sorted."""

        async def collect() -> list[str]:
            return [name async for name in self.store.list_dir(prefix) if not PARTIAL.search(name)]

        return sorted(self._run(collect()))

    async def _get(self, key: str, part: ByteRequest | None = None) -> bytes | None:
        if isinstance(self.store, LocalStore):
            # It would wait for what a pipe in the place of a file gives.
            check_regular(self.store.root / key, LARGEST_JSON if key.endswith(METADATA) else None)
        return await answer(self.store, key, part, f"{self.name}/{key}")

    def _each(self, keys: list[str], action: Callable[[str], Coroutine[Any, Any, T]]) -> list[T]:
        async def all_of_them() -> list[T]:
            found: list[Any] = [None] * len(keys)
            left = iter(enumerate(keys))

            async def take_turns() -> None:
                for number, key in left:
                    found[number] = await action(key)

            # A task for each of very many keys would take far more memory than what is found.
            tasks = [asyncio.ensure_future(take_turns()) for _ in keys[:_CONCURRENT_REQUESTS]]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
            return found

        return self._run(all_of_them())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if isinstance(self.base, (LocalStore, LocalZipStore, Hdf5Store)):
            with self._disk_errors():
                return sync(work)
        try:
            return sync(work)
        except DatasetError:
            raise
        except Exception as exc:  # each kind of store has errors of its own
            raise unreadable(exc, self.name) from None

    def _disk_errors(self) -> AbstractContextManager[None]:
        return disk_errors(self.name, kept="What is written already stays.")


def _reads_files(store: Store) -> TypeGuard[LocalStore]:
    """Whether a store gives what files hold, and nothing in its place."""
    return isinstance(store, LocalStore) and type(store).get is LocalStore.get


def _read_local(store: LocalStore, key: str) -> bytes | None:
    """The value of a key in a folder, without the way over Zarr's thread, which takes longer than that."""
    try:
        return read_file(store.root / key, LARGEST_JSON if key.endswith(METADATA) else None)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None

"""A dataset that is made beside another one in the same store, until it takes its place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from fgbgpack.document import is_own
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.over import StoreOver, folder_of

#: What all keys of what is made beside a dataset begin with. They are no part of the dataset.
HIDDEN = ".fgbgpack/"
#: The root's attribute in which a process says that it writes a dataset in a store without locks.
WRITING = "fgbgpack_writing"


class BesideStore(StoreOver):
    """The new dataset, under the keys that it is to have: they are kept below ``prefix``, as far as they are
    the root's metadata or below one of ``paths``; with ``None``, all are. Others are those of the old one.
    """

    def __init__(self, store: Store, prefix: str, paths: Iterable[str] | None = None) -> None:
        super().__init__(store)
        self.prefix = prefix
        self.paths = None if paths is None else tuple(paths)

    def with_read_only(self, read_only: bool = False) -> BesideStore:
        """The same, to be read only or not."""
        return BesideStore(self._store.with_read_only(read_only), self.prefix, self.paths)

    def __eq__(self, value: object) -> bool:
        return (
            isinstance(value, BesideStore)
            and (self.prefix, self.paths) == (value.prefix, value.paths)
            and self._store == value._store
        )

    def __str__(self) -> str:
        return f"{self._store}/{self.prefix}"

    def located(self, key: str) -> tuple[Store, str]:
        """The store that is wrapped, and what the key is called there."""
        return self._store, f"{self.prefix}/{key}" if self._is_new(key) else key

    def _is_new(self, key: str) -> bool:
        return self.paths is None or key == METADATA or is_below(key, self.paths)

    def _key(self, key: str) -> str:
        return self.located(key)[1]

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value, or a part of it; ``None`` where there is none."""
        return await self._store.get(self._key(key), prototype, byte_range)

    async def exists(self, key: str) -> bool:
        """Whether a key is there."""
        return await self._store.exists(self._key(key))

    async def getsize(self, key: str) -> int:
        """The bytes of a value."""
        return await self._store.getsize(self._key(key))

    async def set(self, key: str, value: Buffer) -> None:
        """Publish a value."""
        await self._store.set(self._key(key), value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Publish a value where there is none."""
        await self._store.set_if_not_exists(self._key(key), value)

    async def delete(self, key: str) -> None:
        """Delete a key."""
        await self._store.delete(self._key(key))

    async def delete_dir(self, prefix: str) -> None:
        """Delete all keys below a prefix."""
        for key in [key async for key in self.list_prefix(folder_of(prefix))]:
            await self.delete(key)

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with ``prefix``, as they are to be called."""
        async for key in self._store.list_prefix(f"{self.prefix}/{prefix}"):
            yield key.removeprefix(f"{self.prefix}/")
        if self.paths is not None:
            async for key in self._store.list_prefix(prefix):
                if not key.startswith(HIDDEN) and not self._is_new(key):
                    yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names of what is in the folder ``prefix``."""
        folder = folder_of(prefix)
        found = {key.removeprefix(folder).partition("/")[0] async for key in self.list_prefix(folder)}
        for name in sorted(found):
            yield name


def is_below(key: str, paths: Iterable[str]) -> bool:
    """Whether a key is one of arrays or groups, by their paths, or below them."""
    return any(key == path or key.startswith(f"{path}/") for path in paths)


def moving_from(writing: Any) -> tuple[str, tuple[str, ...]] | None:
    """Where the new dataset is whose document has taken the place of the old one while its arrays have not
    yet, and which arrays and groups those are; from the root's attribute that tells of writers.

    Nothing where it tells of no such dataset: what others wrote there is not followed to other places.
    """
    fields, prefix = writing if isinstance(writing, dict) else {}, prefix_of(writing)
    paths = fields.get("paths")
    if prefix is None or fields.get("moving") is not True or not isinstance(paths, list):
        return None
    if not all(isinstance(path, str) and is_own(path) for path in paths):
        return None
    return prefix, tuple(paths)


def prefix_of(writing: Any) -> str | None:
    """Where a dataset is made that is to replace this one; from the same."""
    prefix = writing.get("beside") if isinstance(writing, dict) else None
    if not isinstance(prefix, str) or not prefix.startswith(HIDDEN):
        return None
    return prefix if prefix.removeprefix(HIDDEN).isalnum() else None

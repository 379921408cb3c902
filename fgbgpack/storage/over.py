"""What stores share whose values are in another store under other keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype


class StoreOver(Store):
    """A store over another one, which has the values under other keys.

    Zarr's wrapper of stores hands on whatever a class does not define itself, with the keys as they are, and
    newer versions of Zarr ask for more than older ones. Here all comes down to what the class defines.
    """

    def __init__(self, store: Store, *, read_only: bool | None = None) -> None:
        super().__init__(read_only=store.read_only if read_only is None else read_only)
        self._store = store

    async def _open(self) -> None:
        await self._store._ensure_open()
        await super()._open()

    def close(self) -> None:
        """Close both stores."""
        self._store.close()
        super().close()

    @property
    def supports_writes(self) -> bool:
        """Whether values can be set, as in the other store."""
        return self._store.supports_writes

    @property
    def supports_deletes(self) -> bool:
        """Whether values can be deleted, as in the other store."""
        return self._store.supports_deletes

    @property
    def supports_listing(self) -> bool:
        """Whether keys can be listed, as in the other store."""
        return self._store.supports_listing

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Parts of values, asked for at once."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    def list(self) -> AsyncIterator[str]:
        """All keys."""
        return self.list_prefix("")

    async def is_empty(self, prefix: str) -> bool:
        """Whether no key is below a prefix."""
        async for _ in self.list_prefix(folder_of(prefix)):
            return False
        return True


def folder_of(prefix: str) -> str:
    """What all keys below a prefix begin with."""
    return f"{prefix.rstrip('/')}/" if prefix else ""

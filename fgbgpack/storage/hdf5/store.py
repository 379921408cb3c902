"""An HDF5 file as the Zarr store that it is a copy of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from fgbgpack.errors import DatasetError
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.codecs import encoded_size, recode
from fgbgpack.storage.hdf5.file import Hdf5File, root_text
from fgbgpack.storage.hdf5.probe import require_unused
from fgbgpack.storage.hdf5.repack import locked_file, repack
from fgbgpack.storage.hdf5.writer import hdf5_errors
from fgbgpack.storage.sharding import index_bytes, index_of


class DerivedStore(Store):
    """A Zarr store whose values are made when they are read, and from which nothing can be deleted."""

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Parts of the values of some keys."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def list(self) -> AsyncIterator[str]:
        """All keys."""
        async for key in self.list_prefix(""):
            yield key

    @property
    def supports_writes(self) -> bool:
        """Whether anything may be set."""
        return not self.read_only

    @property
    def supports_deletes(self) -> bool:
        """It does not."""
        return False


class FileStore(DerivedStore):
    """A file of this machine as such a store."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        super().__init__(read_only=read_only)
        self.path = path

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.path == other.path

    def __hash__(self) -> int:
        return hash((type(self), self.path))

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}>"


class Hdf5Store(FileStore):
    """An HDF5 file as the Zarr store that it is a copy of, byte for byte.

    It is read-only, but for its root's metadata, for which there is room in the file. It can be pickled
    and forked. What was deflated is encoded anew where it is read as Zarr. It raises what :class:`Hdf5File`
    does, or another ``kind`` of it; messages call it by a ``name``, or else by its path.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = True,
        kind: type[Hdf5File] = Hdf5File,
        name: str | None = None,
    ) -> None:
        super().__init__(path, read_only=read_only)
        self._kind = kind
        self._last: tuple[str, int, list[bytes | None]] | None = None
        self.file = kind(path, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, (self.path, self.read_only, self._kind, self.file.name)

    @staticmethod
    def _again(path: Path, read_only: bool, kind: type[Hdf5File], name: str) -> Hdf5Store:
        return Hdf5Store(path, read_only=read_only, kind=kind, name=name)

    def with_read_only(self, read_only: bool = False) -> Hdf5Store:
        """The same store, to be read only or not."""
        return self._again(self.path, read_only, self._kind, self.file.name)

    # --- as Zarr -----------------------------------------------------------------------------------

    def _keys(self) -> Iterator[str]:
        yield METADATA
        yield from (f"{path}/{METADATA}" for path in self.file.nodes)
        for path, array in self.file.arrays.items():
            for shard in range(array.form.layout.shards):
                if array.there(shard):
                    yield f"{path}/{array.form.layout.key(shard)}"

    def _metadata(self, key: str) -> bytes | None:
        if key == METADATA:
            return self.file.root
        path, _, last = key.rpartition("/")
        return self.file.nodes.get(path) if last == METADATA else None

    def _shard(self, key: str) -> tuple[str, int] | None:
        """The array and the number of the shard that a key is of, if there is one."""
        path, _, rest = key.partition("/c/")
        array, number = self.file.arrays.get(path), rest.partition("/")[0]
        if array is None or not number.isdecimal() or int(number) >= array.form.layout.shards:
            return None
        shard = int(number)
        return (path, shard) if array.form.layout.key(shard) == f"c/{rest}" and array.there(shard) else None

    def _sizes(self, path: str, shard: int) -> tuple[list[int | None], list[bytes | None] | None]:
        """The size of each chunk of a shard as Zarr; and the chunks where these had to be encoded for it."""
        array = self.file.arrays[path]
        sizes: list[int | None] = []
        for number in array.form.chunks_of(shard):
            span = array.span(number)
            if span is None:
                sizes.append(None)
                continue
            expected = encoded_size(span[1], array.codec, array.form.codec)
            if expected is None:
                chunks = self._encoded_anew(path, shard)
                return [None if chunk is None else len(chunk) for chunk in chunks], chunks
            sizes.append(expected)
        return sizes, None

    def _encoded_anew(self, path: str, shard: int) -> list[bytes | None]:
        """All chunks of a shard; those of the last one asked for are kept, as readers ask for parts."""
        # Other threads may replace it meanwhile.
        last = self._last
        if last is None or last[:2] != (path, shard):
            numbers = self.file.arrays[path].form.chunks_of(shard)
            last = self._last = (path, shard, [self._chunk(path, number) for number in numbers])
        return last[2]

    def _chunk(self, path: str, number: int) -> bytes | None:
        """A chunk as Zarr has it."""
        if (encoded := self.file.read(path, number)) is None:
            return None
        array = self.file.arrays[path]
        form = array.form
        name = f"Chunk {number} of {self.file.name}/{path}"
        return recode(encoded, array.codec, form.codec, form.chunk_bytes, lambda: name)

    def _value(self, key: str, part: ByteRequest | None) -> bytes | None:
        """The part of a key's value that is asked for; ``None`` if there is no such key."""
        if (metadata := self._metadata(key)) is not None:
            start, stop = span_of(part, len(metadata))
            return metadata[start:stop]
        if (found := self._shard(key)) is None:
            return None
        path, shard = found
        array = self.file.arrays[path]
        sizes, chunks = self._sizes(path, shard)
        ends = np.cumsum([size or 0 for size in sizes])
        index = index_of(sizes, array.form.layout.grid) if array.form.sharded else b""
        start, stop = span_of(part, int(ends[-1]) + len(index))
        # Only the chunks that the part touches are read.
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(ends, stop, side="left"))
        numbers = array.form.chunks_of(shard)[first : last + 1]
        touched = [self._chunk(path, i) for i in numbers] if chunks is None else chunks[first : last + 1]
        whole = b"".join([*(chunk or b"" for chunk in touched), index if last >= len(sizes) else b""])
        before = int(ends[first - 1]) if first else 0
        return whole[start - before : stop - before]

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of a key, or a part of it."""
        prototype = prototype or default_buffer_prototype()
        value = await asyncio.to_thread(self._value, key, byte_range)
        return None if value is None else prototype.buffer.from_bytes(value)

    async def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return self._metadata(key) is not None or self._shard(key) is not None

    async def getsize(self, key: str) -> int:
        """The bytes of a key's value."""
        if (metadata := self._metadata(key)) is not None:
            return len(metadata)
        if (found := self._shard(key)) is None:
            raise FileNotFoundError(key)
        sizes, _ = await asyncio.to_thread(self._sizes, *found)
        form = self.file.arrays[found[0]].form
        return sum(size or 0 for size in sizes) + (index_bytes(form.chunks_per_shard) if form.sharded else 0)

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that start with ``prefix``."""
        for key in self._keys():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names directly below ``prefix``."""
        folder = f"{prefix.strip('/')}/".lstrip("/")
        below = (key[len(folder) :] for key in self._keys() if key.startswith(folder))
        for name in dict.fromkeys(key.partition("/")[0] for key in below):
            yield name

    @property
    def supports_listing(self) -> bool:
        """It does."""
        return True

    async def set(self, key: str, value: Buffer) -> None:
        """Set the root's metadata; nothing else can be."""
        self._check_writable()
        if key != METADATA:
            raise NotImplementedError("of an HDF5 file only the document can be set")
        await asyncio.to_thread(self._set_root, json.loads(value.to_bytes()))

    def _set_root(self, node: dict[str, Any]) -> None:
        """Write another root: what is killed on the way leaves the old one or the new."""
        nodes = {path: json.loads(text) for path, text in self.file.nodes.items()}
        text = root_text(node, nodes)
        if text == self.file.root:
            return
        require_unused(self.path)
        with hdf5_errors(), locked_file(self.path):
            changed = Hdf5File(self.path)
            if changed.root != self.file.root or not self.file.is_at(self.path):
                raise DatasetError(
                    f"Another process has written {self.file.name} meanwhile: try again.",
                    code="dataset-replaced",
                )
            front = changed.front and replace(changed.front, sequence=changed.front.sequence + 1, text=text)
            if front is not None and front.has_room:
                changed.set_front(front)
            else:
                repack(changed, text)
        self.file = Hdf5File(self.path, self.file.name)

    async def delete(self, key: str) -> None:
        """Nothing can be deleted."""
        self._check_writable()
        raise NotImplementedError("nothing of an HDF5 file can be deleted")


def span_of(part: ByteRequest | None, size: int) -> tuple[int, int]:
    """Where the part that is asked for of a value of some bytes starts and ends."""
    match part:
        case None:
            return 0, size
        case RangeByteRequest(start, end):
            return min(start, size), min(end, size)
        case OffsetByteRequest(offset):
            return min(offset, size), size
        case SuffixByteRequest(suffix):
            return max(0, size - suffix), size
    raise TypeError(f"{part!r} is no part of a value")

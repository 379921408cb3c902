"""A virtual dataset as a Zarr store in which all its arrays are in place, for all that reads Zarr.

Their chunks are made when they are read. They are not compressed and in no shards: the size of each is known
beforehand, and no time is spent on encoding what the reader then decodes.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from fgbgpack.dataset.dataset import Dataset, open_dataset
from fgbgpack.document import DEPTH, PLANE_DIMENSIONS
from fgbgpack.inputs import parse_json
from fgbgpack.storage.arrays import METADATA, ArraySpec
from fgbgpack.storage.hdf5 import DerivedStore, span_of
from fgbgpack.storage.layout import DEFAULT_POLICY, Layout, LayoutPolicy
from fgbgpack.storage.processes import usable
from fgbgpack.storage.reading import StoredArray
from fgbgpack.storage.targets import Target

_DIMENSIONS = {**PLANE_DIMENSIONS, DEPTH: ("sample", "height", "width")}


def store(
    path: Target,
    *,
    layout: LayoutPolicy = DEFAULT_POLICY,
    storage_options: Mapping[str, Any] | None = None,
) -> Store:
    """A dataset as a read-only Zarr store, for all that reads Zarr.

    A virtual dataset has all its arrays in it, made when they are read, and an HDF5 file its chunks, as the
    Zarr dataset has them that it is a copy of.

    Args:
        path: A dataset: a local folder, an HDF5 file, a URL that fsspec opens, or a Zarr store.
        layout: How the image and mask of a virtual dataset are cut into chunks.
        storage_options: As for :func:`fgbgpack.open_dataset`.

    Returns:
        A store for ``zarr.open_group``, ``xarray.open_zarr`` and whatever else takes one. It can be pickled.
        Of a Zarr dataset that is not virtual it is the store itself.

    Raises:
        DatasetError: There is no dataset, it is damaged, or its schema is of a newer major version.
        IncompleteDatasetError: Its creation has not finished.

    Example:
        >>> import fgbgpack, zarr
        >>> group = zarr.open_group(fgbgpack.store("virtual.zarr"), mode="r")  # doctest: +SKIP
        >>> group["image"][5].shape  # doctest: +SKIP
        (128, 128, 3)
    """
    dataset = open_dataset(path, layout=layout, storage_options=storage_options)
    zarr_store = dataset.store.store
    return _VirtualStore(zarr_store, dataset, layout) if dataset.document.is_virtual else zarr_store


class _VirtualStore(DerivedStore):
    """All keys of the store of a virtual dataset, and those of the arrays that it lacks."""

    def __init__(self, below: Store, dataset: Dataset, layout: LayoutPolicy) -> None:
        super().__init__(read_only=True)
        self._stored, self._layout = below, layout
        # All that chunks are made of is read now: a read from within a read could wait for itself.
        dataset.prepare_samples()
        names = [name for name in dataset.document.composed if name in dataset.fields]
        self._arrays = {name: _Chunks(name, getattr(dataset, name)) for name in names}

    @property
    def _below(self) -> Store:
        return usable(self._stored)

    def __reduce__(self) -> tuple[Any, ...]:
        # Sources and placements are large, and another process reads them for itself.
        return partial(store, self._below, layout=self._layout), ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _VirtualStore) and (
            (self._below, self._layout) == (other._below, other._layout)
        )

    def __hash__(self) -> int:
        return hash((type(self), str(self._below)))

    def __str__(self) -> str:
        return f"virtual {self._below}"

    def __repr__(self) -> str:
        return f"<fgbgpack.store of {self._below}>"

    def _array_of(self, key: str) -> _Chunks | None:
        """The array that a key belongs to, if it is one of those that are made."""
        return self._arrays.get(key.partition("/")[0])

    # --- values ------------------------------------------------------------------------------------

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        prototype = prototype or default_buffer_prototype()
        array = self._array_of(key)
        if array is not None:
            # Kernels run without the GIL: chunks that are asked for together are made together.
            value = await asyncio.to_thread(array.value, key)
        elif key == METADATA:
            value = await self._root()
        else:
            return await self._below.get(key, prototype, byte_range)
        if value is None:
            return None
        start, stop = span_of(byte_range, len(value))
        return prototype.buffer.from_bytes(value[start:stop])

    async def _root(self) -> bytes | None:
        """The root's metadata; the copy of that of all arrays in it has these as well."""
        if (root := await self._below.get(METADATA, default_buffer_prototype())) is None:
            return None
        node = parse_json(root.to_bytes())
        if "consolidated_metadata" in node:
            added = {name: parse_json(array.metadata) for name, array in self._arrays.items()}
            node["consolidated_metadata"]["metadata"] = added | node["consolidated_metadata"]["metadata"]
        return json.dumps(node, indent=2, ensure_ascii=False).encode()

    async def exists(self, key: str) -> bool:
        array = self._array_of(key)
        return await self._below.exists(key) if array is None else array.size(key) is not None

    async def getsize(self, key: str) -> int:
        array = self._array_of(key)
        if array is None and key != METADATA:
            return await self._below.getsize(key)
        size = len(await self._root() or b"") if array is None else array.size(key)
        if not size:
            raise FileNotFoundError(key)
        return size

    # --- keys --------------------------------------------------------------------------------------

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        async for key in self._below.list_prefix(prefix):
            if self._array_of(key) is None:
                yield key
        for array in self._arrays.values():
            for key in array.keys_from(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        prefix = prefix.strip("/")
        if (array := self._array_of(prefix)) is not None:
            below = (key[len(prefix) + 1 :] for key in array.keys_from(f"{prefix}/"))
            for name in dict.fromkeys(key.partition("/")[0] for key in below):
                yield name
            return
        async for name in self._below.list_dir(prefix):
            if prefix or name not in self._arrays:
                yield name
        if not prefix:
            for name in self._arrays:
                yield name

    # --- what it does not do -----------------------------------------------------------------------

    @property
    def supports_listing(self) -> bool:
        return self._below.supports_listing

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()

    async def delete(self, key: str) -> None:
        self._check_writable()


class _Chunks:
    """The keys and values of an array whose chunks are their bare bytes, made when they are asked for."""

    def __init__(self, name: str, array: StoredArray) -> None:
        self.name, self._array = name, array
        self._shape, self._chunk = array.shape, array.chunks
        # How many chunks there are along samples and rows; chunks span all other axes.
        self._grid = -(-self._shape[0] // self._chunk[0]), -(-self._shape[1] // self._chunk[1])
        layout = Layout(self._shape, self._chunk, self._chunk)
        self.metadata = ArraySpec(
            name, layout, array.dtype.type, _DIMENSIONS[name], codec=None, attributes=array.attrs
        ).metadata()

    def _key(self, row: int, band: int) -> str:
        return "/".join([self.name, "c", str(row), str(band), *["0"] * (len(self._shape) - 2)])

    def keys_from(self, prefix: str) -> Iterator[str]:
        """Those of all keys of the array that start with ``prefix``."""
        rows, bands = self._grid
        # Most prefixes are those of other arrays, and there may be many keys.
        if prefix.startswith(self.name) or self.name.startswith(prefix):
            keys = (self._key(row, band) for row in range(rows) for band in range(bands))
            yield from (key for key in chain([f"{self.name}/{METADATA}"], keys) if key.startswith(prefix))

    def _place(self, key: str) -> tuple[int, int] | None:
        """The row of chunks and the band that a key is of; ``None`` if there is no such chunk."""
        numbers = key.removeprefix(f"{self.name}/c/").split("/")
        if len(numbers) != len(self._shape) or not all(number.isdecimal() for number in numbers):
            return None
        row, band = int(numbers[0]), int(numbers[1])
        # A number is written in one way only.
        there = row < self._grid[0] and band < self._grid[1] and key == self._key(row, band)
        return (row, band) if there else None

    def size(self, key: str) -> int | None:
        """The bytes of a key's value; ``None`` if there is none."""
        if key == f"{self.name}/{METADATA}":
            return len(self.metadata)
        return None if self._place(key) is None else math.prod(self._chunk) * self._array.dtype.itemsize

    def value(self, key: str) -> bytes | None:
        """The value of a key; ``None`` if there is none."""
        if key == f"{self.name}/{METADATA}":
            return self.metadata
        if (place := self._place(key)) is None:
            return None
        corner = tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, self._chunk, strict=False))
        part = self._array[corner]
        if part.shape != self._chunk:
            # At the end of the array a chunk is as large as anywhere.
            whole = np.zeros(self._chunk, self._array.dtype)
            whole[: part.shape[0], : part.shape[1]] = part
            part = whole
        made: bytes = part.tobytes()
        return made

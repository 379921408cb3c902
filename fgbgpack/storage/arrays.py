"""Arrays as Zarr metadata describe them: those that are declared, and those that are found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from fgbgpack.errors import DatasetError
from fgbgpack.inputs import parse_json
from fgbgpack.storage.array_metadata import parse_metadata
from fgbgpack.storage.codecs import BloscChunk, ChunkCodec, ZstdChunk
from fgbgpack.storage.layout import Layout

#: The key, below a group or an array, of its metadata.
METADATA = "zarr.json"

PIXEL_CODEC = ZstdChunk()
#: Of depth that shares nothing with that of other samples; what repeats that of its background is as pixels.
DEPTH_CODEC = BloscChunk(itemsize=2)
BACKGROUND_DEPTH_CODEC = BloscChunk(itemsize=4)

#: The attributes of an array that say what its numbers mean.
_MEANING = ("quantity", "unit")

#: The metadata of a Zarr array or group, as its ``zarr.json`` has them.
Node: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class ArraySpec:
    """An array to be written. Without a ``codec`` chunks are bare bytes; unless ``sharded``, each is an
    object.
    """

    path: str
    layout: Layout
    dtype: type[np.generic]
    dimensions: tuple[str, ...]
    codec: ZstdChunk | BloscChunk | None = PIXEL_CODEC
    sharded: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def metadata(self) -> bytes:
        """What its ``zarr.json`` holds."""
        dtype, attributes = np.dtype(self.dtype), json.dumps(dict(self.attributes))
        return _metadata(self.layout, dtype, self.dimensions, self.codec, self.sharded, attributes)

    def chunk(self, number: int, rows: NDArray[Any]) -> tuple[str, bytes]:
        """The key and value of a chunk of whole rows, which the last one may lack, where chunks lie in no
        shards.
        """
        chunk = np.ascontiguousarray(rows, self.dtype)
        if len(chunk) < self.layout.chunk[0]:
            chunk = np.zeros(self.layout.chunk, self.dtype)
            chunk[: len(rows)] = rows
        encoded = chunk.tobytes() if self.codec is None else self.codec.encode(chunk)
        return f"{self.path}/{self.layout.key(number)}", encoded

    @property
    def form(self) -> ArrayForm:
        """The form that it has once it is written; ValueError where it has no codec."""
        if self.codec is None:
            raise ValueError(f"{self.path} is not encoded")
        dtype, attributes = np.dtype(self.dtype), dict(self.attributes)
        return ArrayForm(
            self.layout, self.sharded, self.codec, dtype, _fill_of(self), attributes, self.dimensions
        )


# Zarr takes a millisecond for each of a dataset's twenty arrays, which are declared again and again.
@lru_cache(maxsize=1000)
def _metadata(
    layout: Layout,
    dtype: np.dtype[Any],
    dimensions: tuple[str, ...],
    codec: ZstdChunk | BloscChunk | None,
    sharded: bool,
    attributes: str,
) -> bytes:
    memory = MemoryStore()
    codecs = {"compressors": None} if codec is None else codec.zarr_codecs()
    zarr.create_array(
        store=memory,
        name="array",
        shape=layout.shape,
        chunks=layout.chunk,
        shards=layout.shard if sharded else None,
        dtype=dtype,
        fill_value=np.nan if dtype.kind == "f" else 0,
        dimension_names=dimensions,
        attributes=json.loads(attributes),
        # A chunk of nothing but zeros is data like any other: its absence means it was never written.
        config={"write_empty_chunks": True},
        **codecs,
    )
    return _value(memory, f"array/{METADATA}")


@cache
def group_metadata() -> bytes:
    """What the ``zarr.json`` of a group without attributes holds."""
    memory = MemoryStore()
    zarr.create_group(store=memory, path="group")
    return _value(memory, f"group/{METADATA}")


def _value(memory: MemoryStore, key: str) -> bytes:
    value = sync(memory.get(key, default_buffer_prototype()))
    if value is None:
        raise KeyError(key)
    return value.to_bytes()


@dataclass(frozen=True)
class ArrayForm:
    """How an array that is there is cut and encoded, little-endian; ``fill`` are elements never written.

    ``dimensions`` are the names of its axes, ``None`` where they have none.
    """

    layout: Layout
    sharded: bool
    codec: ChunkCodec
    dtype: np.dtype[Any]
    fill: float
    attributes: Mapping[str, Any]
    dimensions: tuple[str | None, ...] | None = None

    @classmethod
    def of(cls, node: object, where: str) -> ArrayForm:
        """The form that metadata describe; DatasetError if they are not as fgbgpack writes them."""
        found = parse_metadata(node, where)
        return cls(
            found.layout,
            found.sharded,
            found.codec,
            found.dtype,
            found.fill,
            found.attributes,
            found.dimensions,
        )

    @property
    def chunk_bytes(self) -> int:
        """The bytes of a decoded chunk."""
        return math.prod(self.layout.chunk) * self.dtype.itemsize

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks of the whole array, along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.layout.shape, self.layout.chunk, strict=True))

    @property
    def chunk_count(self) -> int:
        """Chunks of the whole array."""
        return math.prod(self.grid)

    @property
    def chunks_per_shard(self) -> int:
        """Chunks of a shard."""
        return math.prod(self.layout.grid)

    def chunks_of(self, shard: int) -> range:
        """The chunks of a shard, without those beyond the array's end, by their numbers in C order."""
        per_shard = self.chunks_per_shard
        return range(shard * per_shard, min((shard + 1) * per_shard, self.chunk_count))


def parse_array(metadata: bytes | None, path: str, name: str) -> ArrayForm:
    """The form of an array, from its ``zarr.json`` (``None`` if there is none).

    Raises DatasetError if there is no such array, or its metadata are damaged or not as fgbgpack writes them.
    """
    try:
        described = parse_json(metadata or b"{}")
    except ValueError as exc:
        raise DatasetError(
            f"The metadata of array /{path} in {name} is damaged: {exc}.", code="metadata-damaged"
        ) from exc
    if isinstance(described, dict) and described.get("node_type") != "array":
        raise DatasetError(
            f"{name} has no array /{path}: it is damaged, or the command that makes it was stopped: run that "
            "again, or fgbgpack repair.",
            code="array-missing",
        )
    return ArrayForm.of(described, f"{name}/{path}")


def differences(found: ArrayForm, spec: ArraySpec) -> list[str]:
    """How an array that is there differs from the one that was to be written: a line for each such thing.

    Shape, chunks, shards, type, codec, fill value and names of axes are compared, and of the attributes those
    that say what numbers mean, ``quantity`` and ``unit``, each by its value.

    Example:
        >>> spec = ArraySpec("flip", Layout((9,), (4,), (4,)), np.bool_, ("sample",))
        >>> longer = ArraySpec("flip", Layout((12,), (4,), (4,)), np.bool_, ("sample",))
        >>> differences(spec.form, longer)
        ['shape: found (9,), expected (12,)']
    """
    dtype, layout = np.dtype(spec.dtype), found.layout
    pairs: list[tuple[str, object, object]] = [
        ("shape", layout.shape, spec.layout.shape),
        ("chunks", layout.chunk, spec.layout.chunk),
        ("shards", layout.shard if found.sharded else None, spec.layout.shard if spec.sharded else None),
        ("type", found.dtype.name, dtype.name),
        ("codec", found.codec, spec.codec),
        # As text, in which NaN is like NaN.
        ("fill value", str(found.fill), str(_fill_of(spec))),
        ("axes", found.dimensions, spec.dimensions),
        *((name, found.attributes.get(name), spec.attributes.get(name)) for name in _MEANING),
    ]
    return [f"{what}: found {one}, expected {other}" for what, one, other in pairs if one != other]


def _fill_of(spec: ArraySpec) -> float:
    return math.nan if issubclass(spec.dtype, np.floating) else 0.0

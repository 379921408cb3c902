"""The metadata of a Zarr array, field by field: nothing in them is believed that was not looked at.

What fgbgpack reads with them are memory and positions in files: a number that is absurd must be an error
before anything is allocated, and a way to cut or encode that is overlooked would give wrong numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fgbgpack.errors import DatasetError
from fgbgpack.spec import MOST_SAMPLES
from fgbgpack.storage.codecs import ChunkCodec, codec_of, same_json
from fgbgpack.storage.layout import Layout

T = TypeVar("T")

#: Zarr's names of the types of elements that fgbgpack writes.
DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float32")
_OTHER_DTYPES = ("int64", "uint64", "float64", "complex64", "complex128")
#: Bytes of a decoded chunk: most that fgbgpack chooses have 3 MiB, and one large sample may have 200.
LARGEST_CHUNK = 2 << 30
#: Chunks in a shard, whose index takes 16 bytes for each.
MOST_CHUNKS = 1 << 20
#: Shards in an array, whose names are listed to find those that are missing.
MOST_SHARDS = 1 << 22
#: Along each axis but that of samples.
_LONGEST_SIDE = (1 << 31) - 1
_MOST_AXES = 4
_SHOWN = 120

_INDEX_CODECS = ({"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"})
_FIELDS = {
    "zarr_format",
    "node_type",
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_key_encoding",
    "fill_value",
    "codecs",
    "attributes",
    "dimension_names",
    "storage_transformers",
}


@dataclass(frozen=True)
class ArrayMetadata:
    """What the metadata say, checked; ``dimensions`` is ``None`` where the axes have no names."""

    layout: Layout
    sharded: bool
    codec: ChunkCodec
    dtype: np.dtype[Any]
    fill: float
    dimensions: tuple[str | None, ...] | None
    attributes: Mapping[str, Any]


def parse_metadata(node: object, where: str) -> ArrayMetadata:
    """The metadata of an array, from the JSON of its ``zarr.json``; ``where`` names it in messages.

    Raises DatasetError with every field that is wrong: ``array-foreign`` if all of them are what Zarr allows
    and fgbgpack does not write, else ``metadata-damaged``.
    """
    return _Parser(node, where).parse()


class _Parser:
    """Looks at one field after another, and collects what is wrong."""

    def __init__(self, node: object, where: str) -> None:
        self._where = where
        self._damaged: list[str] = []
        self._foreign: list[str] = []
        self._node: dict[str, Any] = node if isinstance(node, dict) else {}
        if not isinstance(node, dict):
            self._damaged.append(f"the document: found {_shown(node)}, expected an object")

    def parse(self) -> ArrayMetadata:
        self._expect("zarr_format", 3)
        self._expect("node_type", "array")
        self._expect("storage_transformers", [], optional=True)
        self._expect(
            "chunk_key_encoding",
            {"name": "default", "configuration": {"separator": "/"}},
            {"name": "default"},
            {"name": "default", "configuration": {}},
        )
        for name, extension in self._node.items():
            # Zarr says that a reader may skip these, and none else.
            skipped = isinstance(extension, dict) and extension.get("must_understand") is False
            if name not in _FIELDS and not skipped:
                self._foreign.append(f"{_shown(name)}: found, expected no such field")
        dtype = self._dtype()
        fill = None if dtype is None else self._fill(dtype)
        layout, sharded, codecs = self._cut()
        if dtype is not None and layout is not None:
            self._check_sizes(layout, dtype.itemsize)
        codec = None if dtype is None or codecs is None else codec_of(codecs, dtype.itemsize)
        if dtype is not None and codecs is not None and codec is None:
            self._foreign.append(f"codecs: found {_shown(codecs)}, which fgbgpack does not write")
        dimensions = self._dimensions(len(layout.shape) if layout else None)
        attributes = self._attributes()
        if dtype is None or layout is None or codec is None or fill is None or self._damaged or self._foreign:
            raise self._error()
        return ArrayMetadata(layout, sharded, codec, dtype, fill, dimensions, attributes)

    def _error(self) -> DatasetError:
        if self._damaged:
            return DatasetError(
                f"The Zarr metadata of {self._where} are damaged:",
                self._damaged + self._foreign,
                code="metadata-damaged",
            )
        return DatasetError(
            f"The array {self._where} is not as fgbgpack writes it; read it with zarr:",
            self._foreign,
            code="array-foreign",
        )

    # --- fields ------------------------------------------------------------------------------------

    def _field(self, name: str, check: Callable[[Any], bool], expected: str) -> Any:
        """The value of a field; ``None``, and a problem, where it is missing or wrong."""
        if name not in self._node:
            self._damaged.append(f"{name}: missing, expected {expected}")
        elif not check(self._node[name]):
            self._damaged.append(f"{name}: found {_shown(self._node[name])}, expected {expected}")
        else:
            return self._node[name]
        return None

    def _expect(self, name: str, *known: object, optional: bool = False) -> None:
        if name not in self._node and not optional:
            self._damaged.append(f"{name}: missing, expected {_shown(known[0])}")
        elif name in self._node and not same_json(self._node[name], *known):
            self._foreign.append(f"{name}: found {_shown(self._node[name])}, expected {_shown(known[0])}")

    def _dtype(self) -> np.dtype[Any] | None:
        name = self._node.get("data_type")
        if isinstance(name, str) and name in DTYPES:
            dtype: np.dtype[Any] = np.dtype(name).newbyteorder("<")
            return dtype
        found = self._foreign if isinstance(name, str) and name in _OTHER_DTYPES else self._damaged
        found.append(f"data_type: found {_shown(name)}, expected one of {', '.join(DTYPES)}")
        return None

    def _fill(self, dtype: np.dtype[Any]) -> float | None:
        if dtype.kind == "b":
            found = self._field("fill_value", lambda value: isinstance(value, bool), "true or false")
        elif dtype.kind == "f":
            found = self._field(
                "fill_value", lambda value: value == "NaN" or _is_number(value), 'a number or "NaN"'
            )
        else:
            least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
            found = self._field(
                "fill_value", lambda value: _is_integer(value, least, most), f"a whole number of {dtype.name}"
            )
        return None if found is None else float(found)

    def _sides(self, name: str, value: object) -> tuple[int, ...] | None:
        """A shape: 1 to 4 sides, the first one along samples."""
        sides = value if isinstance(value, list) else []
        most = [MOST_SAMPLES, *[_LONGEST_SIDE] * (_MOST_AXES - 1)]
        if 1 <= len(sides) <= _MOST_AXES and all(map(_is_integer, sides, [1] * _MOST_AXES, most)):
            return tuple(sides)
        self._damaged.append(
            f"{name}: found {_shown(value)}, expected 1 to {_MOST_AXES} whole numbers from 1 to "
            f"{_LONGEST_SIDE:,}, the first to {MOST_SAMPLES:,}"
        )
        return None

    def _cut(self) -> tuple[Layout | None, bool, object]:
        """How the array is cut, whether into shards, and the codecs of a chunk; ``None`` where wrong."""
        shape, shard = self._sides("shape", self._node.get("shape")), self._grid()
        codecs, sharded = self._node.get("codecs"), False
        chunk = shard
        match codecs:
            case [{"name": "sharding_indexed", "configuration": dict(given), **others}] if not others:
                chunk, codecs, sharded = self._sharding(given), given.get("codecs"), True
            case [{"name": _}, *_]:
                pass
            case _:
                self._damaged.append(f"codecs: found {_shown(codecs)}, expected a list of codecs")
                codecs = None
        if shape is None or shard is None or chunk is None:
            return None, sharded, codecs
        cut = f"chunks of {_shape(chunk)} in shards of {_shape(shard)}"
        if not len(shape) == len(shard) == len(chunk):
            expected = f"as many axes as the shape {_shape(shape)} has"
        elif any(outer % inner for outer, inner in zip(shard, chunk, strict=True)):
            expected = "shards that are a multiple of chunks"
        else:
            return Layout(shape, chunk, shard), sharded, codecs
        self._damaged.append(f"chunk_grid: found {cut}, expected {expected}")
        return None, sharded, codecs

    def _grid(self) -> tuple[int, ...] | None:
        """What the array is cut into: shards, or chunks where it has none of these."""
        grid = self._node.get("chunk_grid")
        match grid:
            case {"name": "regular", "configuration": {"chunk_shape": sides}}:
                regular = {"name": "regular", "configuration": {"chunk_shape": sides}}
                if same_json(grid, regular):
                    return self._sides("chunk_grid", sides)
        self._foreign.append(f"chunk_grid: found {_shown(grid)}, expected a regular grid")
        return None

    def _sharding(self, given: Mapping[str, Any]) -> tuple[int, ...] | None:
        """The chunks within a shard."""
        index = {key: given[key] for key in given if key not in ("chunk_shape", "codecs")}
        ours = {"index_codecs": _INDEX_CODECS}
        if not same_json(index, {**ours, "index_location": "end"}, ours):
            self._foreign.append(
                f"codecs: found shards with {_shown(index)}, expected an index at their end, of "
                "little-endian bytes with crc32c"
            )
        return self._sides("codecs: chunk_shape", given.get("chunk_shape"))

    def _check_sizes(self, layout: Layout, itemsize: int) -> None:
        """That what is read at once can be, before anything is allocated for it."""
        for what, found, most in (
            ("bytes of a chunk", math.prod(layout.chunk) * itemsize, LARGEST_CHUNK),
            ("chunks in a shard", math.prod(layout.grid), MOST_CHUNKS),
            ("shards", layout.shards, MOST_SHARDS),
        ):
            if found > most:
                self._damaged.append(f"chunk_grid: found {found:,} {what}, expected at most {most:,}")

    def _dimensions(self, axes: int | None) -> tuple[str | None, ...] | None:
        found = self._node.get("dimension_names")
        if found is None:
            return None
        is_list = isinstance(found, list) and axes in (None, len(found))
        if not is_list or not all(name is None or isinstance(name, str) for name in found):
            self._damaged.append(f"dimension_names: found {_shown(found)}, expected a name for each axis")
            return None
        return tuple(found)

    def _attributes(self) -> dict[str, Any]:
        """The attributes; of those that are relied on, the kind is looked at."""
        found = self._node.get("attributes", {})
        if not isinstance(found, dict):
            self._damaged.append(f"attributes: found {_shown(found)}, expected an object")
            return {}
        kinds: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
            ("quantity", lambda value: value in ("depth", "inverse_depth"), "depth, inverse_depth or null"),
            ("unit", lambda value: isinstance(value, str), "a text or null"),
            ("rounding", _is_rounding, "an object with step, rule and largest error"),
        )
        for name, is_kind, expected in kinds:
            value = found.get(name)
            if not (value is None or is_kind(value)):
                self._damaged.append(f"attributes.{name}: found {_shown(value)}, expected {expected}")
        return found


def _is_rounding(value: object) -> bool:
    """Whether this is how the depth was rounded, as the pipeline writes it."""
    if not isinstance(value, dict):
        return False
    numbers = all(value.get(name) is None or _is_number(value[name]) for name in ("step", "largest_error"))
    texts = all(isinstance(value.get(name, ""), str) for name in ("rule", "largest_error_of"))
    return numbers and texts


def _is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _shape(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

"""Chunks of raw samples, for StreamingDataset of LitData.

A folder has chunks and ``index.json``, which lists them and says what an item is: a tree of dictionaries,
and the serializer of each of its leaves. A chunk has, in little-endian numbers:

- the count n of its items, uint32;
- n + 1 offsets into the chunk, uint32: item i extends from the i-th to the next;
- the items, each the sizes of its leaves, uint32, and then these.

Leaves here are of three kinds. An ``int`` is an int64, a ``str`` is UTF-8. A ``numpy`` is the number of its
type in LitData's list, the number of its axes and the length of each, all uint32, and then its values.

A chunk may be compressed, as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numcodecs.zstd import compress
from numpy.typing import NDArray

from fgbgpack.document import OBJECT_FOREGROUND, OBJECTS
from fgbgpack.errors import SpecError
from fgbgpack.export.naming import CATEGORY
from fgbgpack.export.objects import (
    category_names,
    most_objects,
    problems_of_category,
    seen_objects,
    shows_objects,
)
from fgbgpack.export.shards import NO_COMPRESSION, ZSTD, problems_of_shards, zstd_level
from fgbgpack.export.target import ExportJob, Run, Target

_INDEX = "index.json"
_CHUNK_BYTES = 1 << 26
#: The sizes of the leaves, the first thing in an item.
_SIZES = "sizes"
_INTEGER, _TEXT, _ARRAY = "int", "str", "numpy"
_UINT32, _INT64 = np.dtype("<u4"), np.dtype("<i8")
#: The numbers of types in LitData's list.
_TYPES = {
    np.dtype(name): number
    for number, name in enumerate(("i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8"))
}
#: The axes of what is said of each object, beside that of objects.
_OF_OBJECTS: Mapping[str, tuple[int, ...]] = {
    "bbox": (4,),
    "area": (),
    "category": (),
    "instance": (),
    "foreground": (),
}
#: Stands for an object that there is not, in all arrays of objects.
_NONE = -1


@dataclass(frozen=True)
class _Leaf:
    """A leaf of all items: the path of its keys, its serializer, and the type and shape of its values. A text
    has neither, and no fixed size.
    """

    path: tuple[str, ...]
    serializer: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Its path as one word."""
        return ".".join(self.path)

    @property
    def head(self) -> NDArray[np.uint32]:
        """What is before its values."""
        is_array = self.serializer == _ARRAY
        numbers = [_TYPES[self.dtype], len(self.shape), *self.shape] if is_array else []
        return np.array(numbers, _UINT32)

    @property
    def size(self) -> int:
        """Its bytes, but for a text."""
        return self.head.nbytes + self.dtype.itemsize * int(np.prod(self.shape))

    @property
    def meaning(self) -> str:
        """Its type and shape in words."""
        if self.serializer != _ARRAY:
            return self.serializer
        return f"{self.dtype.name}:{','.join(map(str, self.shape))}"


class LitdataTarget(Target):
    """``index.json`` and ``chunk-0-0.bin`` or ``chunk-0-0.zstd.bin``, in a folder for each part.

    Items have the exported fields as arrays, their number in the dataset as ``sample``, and their placement
    as integers, or their name. ``objects`` has box, area and category of each object that is seen, as arrays
    that are as long in all items.
    """

    OPTIONS: ClassVar = frozenset({"category", "compression", "shard_bytes", "shard_samples"})

    def __init__(self, job: ExportJob) -> None:
        if problems := [*problems_of_shards(job), *problems_of_category(job)]:
            raise SpecError("LitData cannot be written so.", problems, code="export-options-invalid")
        super().__init__(job)
        self._level = zstd_level(job.options.compression or NO_COMPRESSION)
        self._leaves = _leaves(job)
        #: The part of an item that has the same size in all.
        self._fixed = _fixed_type(self._leaves)

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes the chunks of each part, and their index."""
        job, digests = self._job, dict[str, str]()
        # Hashes are computed while the next chunk is filled.
        with ThreadPoolExecutor(1) as hashing:
            for part in job.parts:
                own = part.folder_in(folder)
                chunks = _Chunks(own, job, self._level, hashing)
                for items in job.encoded(part, self._encode):
                    for item in items:
                        chunks.add(item)
                chunks.finish()
                own_digests = chunks.digests()
                (own / _INDEX).write_text(self._index(chunks, own_digests), encoding="utf-8")
                prefix = f"{part.slug}/" if part.slug else ""
                digests |= {f"{prefix}{name}": digest for name, digest in own_digests.items()}
        return {
            "columns": {leaf.name: leaf.meaning for leaf in self._leaves},
            **job.ids.meanings,
            **({"categories": category_names(job)} if shows_objects(job) else {}),
            "sha256": digests,
        }

    def _index(self, chunks: _Chunks, digests: Mapping[str, str]) -> str:
        config = {
            "chunk_bytes": chunks.max_bytes,
            "chunk_size": chunks.max_samples,
            "compression": None if self._level is None else ZSTD,
            "data_format": [leaf.serializer for leaf in self._leaves],
            "data_spec": json.dumps([1, _tree(self._leaves)]),
            "encryption": None,
            "item_loader": "PyTreeLoader",
        }
        # Copies of chunks of another state are known by it.
        state = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
        return json.dumps({"chunks": chunks.written, "config": config, "updated_at": state}, sort_keys=True)

    def _encode(self, run: Run) -> list[bytes]:
        """The items of a run."""
        columns = run.arrays | self._job.ids.arrays(run.samples)
        if shows_objects(self._job):
            columns |= {f"{OBJECTS}.{name}": values for name, values in self._objects(run).items()}
        items = np.empty(len(run.samples), self._fixed)
        texts = [b""] * len(run.samples)
        for number, leaf in enumerate(self._leaves):
            values = columns[leaf.name]
            if leaf.serializer == _TEXT:
                texts = [text.encode() for text in values.tolist()]
                items[_SIZES][:, number] = [len(text) for text in texts]
            else:
                items[_SIZES][:, number] = leaf.size
                items[f"head of {leaf.name}"] = leaf.head
                items[leaf.name] = values
        return [item.tobytes() + text for item, text in zip(items, texts, strict=True)]

    def _objects(self, run: Run) -> dict[str, NDArray[Any]]:
        """The arrays of the objects of each sample that are seen, followed by -1 for those that are not."""
        found: dict[str, NDArray[Any]] = {}
        for i, row in enumerate(seen_objects(self._job, run)):
            if self._job.dataset.document.is_scene:
                made_of = self._job.dataset.sample_arrays[OBJECT_FOREGROUND][run.samples[i]]
                row["foreground"] = [made_of[number - 1] for number in row["instance"]]
            for name, values in row.items():
                if name not in found:
                    shape = (len(run.samples), most_objects(self._job), *_OF_OBJECTS[name])
                    found[name] = np.full(shape, _NONE, np.int32)
                if values:
                    found[name][i, : len(values)] = values
        return found

    def how_to_open(self, out: str, details: Mapping[str, Any]) -> list[str]:
        """With LitData. It would unpack compressed chunks in place and delete them, but for ``local:``."""
        folder = str(Path(out) / self._job.parts[0].slug)
        address = folder if self._level is None else f"local:{Path(folder).absolute()}"
        return [
            "from litdata import StreamingDataset",
            f"ds = StreamingDataset({address!r})",
            f'ds[0]["{self._job.fields[0]}"]',
        ]


class _Chunks:
    """The chunks of a part, each written when the next item would not fit."""

    def __init__(self, folder: Path, job: ExportJob, level: int | None, hashing: ThreadPoolExecutor) -> None:
        self._folder, self._level, self._hashing = folder, level, hashing
        self.max_bytes, self.max_samples = job.options.shard_bytes or _CHUNK_BYTES, job.options.shard_samples
        #: What the index says of each.
        self.written: list[dict[str, Any]] = []
        self._digests: list[Future[str]] = []
        self._items: list[bytes] = []
        self._bytes = 0

    def add(self, item: bytes) -> None:
        is_full = self._head_size(len(self._items) + 1) + self._bytes + len(item) > self.max_bytes
        if self._items and (is_full or len(self._items) == self.max_samples):
            self._write()
        self._items.append(item)
        self._bytes += len(item)

    def finish(self) -> None:
        if self._items:
            self._write()

    def digests(self) -> dict[str, str]:
        """The SHA-256 of each file."""
        files = [chunk["filename"] for chunk in self.written]
        return dict(zip(files, [digest.result() for digest in self._digests], strict=True))

    @staticmethod
    def _head_size(count: int) -> int:
        """Bytes before so many items: their count, and one offset more than it."""
        return (count + 2) * _UINT32.itemsize

    def _write(self) -> None:
        count = len(self._items)
        ends = self._head_size(count) + np.cumsum([0, *map(len, self._items)])
        pieces = [np.array([count, *ends], _UINT32).tobytes(), *self._items]
        name = f"chunk-0-{len(self.written)}.bin"
        if self._level is not None:
            name = name.replace(".bin", f".{ZSTD}.bin")
            pieces = [compress(b"".join(pieces), self._level, checksum=True)]
        with (self._folder / name).open("xb") as file:
            file.writelines(pieces)
        if self._digests:
            # No more than two chunks are in memory.
            self._digests[-1].result()
        self._digests.append(self._hashing.submit(_sha256, pieces))
        self.written.append(
            {"chunk_bytes": int(ends[-1]), "chunk_size": count, "dim": None, "filename": name}
        )
        self._items, self._bytes = [], 0


def _sha256(pieces: list[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _leaves(job: ExportJob) -> list[_Leaf]:
    """The leaves of an item; a text is the last."""
    leaves = [
        _Leaf((name,), _ARRAY, dtype.newbyteorder("<"), tuple(shape))
        for name, ((_, *shape), dtype) in job.shapes(1).items()
    ]
    # What objects are is said with them.
    elsewhere = ("name", OBJECTS, *((CATEGORY,) if shows_objects(job) else ()))
    columns = [name for name in job.ids.columns if name not in elsewhere]
    leaves += [_Leaf((name,), _INTEGER, _INT64) for name in ("sample", *columns)]
    if shows_objects(job):
        most, is_scene = most_objects(job), job.dataset.document.is_scene
        leaves += [
            _Leaf((OBJECTS, name), _ARRAY, np.dtype("<i4"), (most, *shape))
            for name, shape in _OF_OBJECTS.items()
            if (job.dataset.has_objects or name != "instance") and (is_scene or name != "foreground")
        ]
    return leaves + [_Leaf(("name",), _TEXT, np.dtype("V")) for name in job.ids.columns if name == "name"]


def _fixed_type(leaves: list[_Leaf]) -> np.dtype[Any]:
    """The part of an item that has the same size in all."""
    fields: list[Any] = [(_SIZES, _UINT32, (len(leaves),))]
    for leaf in leaves:
        if leaf.serializer != _TEXT:
            fields += [
                (f"head of {leaf.name}", _UINT32, leaf.head.shape),
                (leaf.name, leaf.dtype, leaf.shape),
            ]
    return np.dtype(fields)


def _tree(leaves: list[_Leaf], depth: int = 0) -> dict[str, Any]:
    """The dictionaries of an item, in the terms of the index."""
    groups: dict[str, list[_Leaf]] = {}
    for leaf in leaves:
        if depth == len(leaf.path):
            return {"type": None, "context": None, "children_spec": []}
        groups.setdefault(leaf.path[depth], []).append(leaf)
    return {
        "type": "builtins.dict",
        "context": json.dumps(list(groups)),
        "children_spec": [_tree(below, depth + 1) for below in groups.values()],
    }

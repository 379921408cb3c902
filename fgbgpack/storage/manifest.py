"""The manifest of a dataset: what its arrays must hold, chunk by chunk.

Every chunk ends with its checksum, so one that is damaged is noticed. One that is missing, or belongs
elsewhere, is noticed by the manifest: the checksums of all chunks, in one small array, and the digests of the
arrays' metadata, in the document. A reader holds the manifest of the dataset that it has opened, so it also
notices one that is replaced meanwhile. The array is named by what it holds, so that a new one never takes the
place of the one that the document still names.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import ATTRIBUTE, DIGEST, MANIFEST
from fgbgpack.errors import DatasetError
from fgbgpack.manifest_info import ManifestArray, ManifestInfo
from fgbgpack.storage.arrays import ArraySpec, Node
from fgbgpack.storage.codecs import CRC_BYTES, REPAIR, crc32c, is_whole
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.sharding import ABSENT, read_index

#: The checksums in a chunk of the manifest: what is read, and checked, at a time.
PART = 1 << 16

#: What stands for the checksum of a chunk that holds nothing but the fill value and was left out, which
#: fgbgpack never does, and for those beyond the last sample.
NEVER_WRITTEN = 0

#: The checksum of each chunk of an array, or of a part of it, as the 4 bytes after the chunk say it.
Checksums = NDArray[np.uint32]


@dataclass(frozen=True)
class ChunkNotes:
    """What one writer tells another of an object that it has written: its key, its size with the last of its
    bytes, as one number, and the checksums of its chunks; ``None`` where nothing tells how the array is cut.
    """

    key: str
    end: int
    checksums: Checksums | None


class ShardChecksums(MutableMapping[int, Checksums]):
    """The checksums of the chunks of an array, by the numbers of the shards that are known: 4 bytes a chunk.

    ``all`` has those of all chunks, 0 where a shard is not known.
    """

    def __init__(self, layout: Layout) -> None:
        self._is_known = np.zeros(layout.shards, np.bool_)
        self._per_shard = math.prod(layout.grid)
        self.all: Checksums = np.zeros(chunk_count(layout), np.uint32)

    def __getitem__(self, shard: int) -> Checksums:
        if not (0 <= shard < len(self._is_known) and self._is_known[shard]):
            raise KeyError(shard)
        return self.all[shard * self._per_shard : (shard + 1) * self._per_shard]

    def __setitem__(self, shard: int, checksums: Checksums) -> None:
        if 0 <= shard < len(self._is_known):
            self.all[shard * self._per_shard : (shard + 1) * self._per_shard] = checksums
            self._is_known[shard] = True

    def __delitem__(self, shard: int) -> None:
        self[shard][:] = 0
        self._is_known[shard] = False

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self._is_known).tolist())

    def __len__(self) -> int:
        return int(self._is_known.sum())


class WrittenChunks:
    """What one writer has written of a dataset: the checksums of its chunks, and which arrays it has changed.

    It may be used from any thread.
    """

    def __init__(self) -> None:
        self.changed: set[str] = set()
        self._forms: dict[str, tuple[Layout, bool]] = {}
        self._checksums: dict[str, MutableMapping[int, Checksums]] = {}
        #: Whether it is told what others write, too: all shards of an array.
        self._has_all = True
        #: The size of each value and its last bytes, as one number: there may be very many.
        self._ends: dict[str, int] = {}

    def declare(self, path: str, layout: Layout, *, sharded: bool) -> None:
        """Tell how an array is cut whose objects are going to be written."""
        if self._forms.get(path) != (layout, sharded):
            self._forms[path] = layout, sharded
            self._checksums.pop(path, None)

    def note(self, key: str, value: bytes) -> None:
        """A value was written under a key."""
        path, _, rest = key.partition("/c/")
        if not rest:
            self.changed.add(key.rpartition("/")[0])
            return
        self.changed.add(path)
        self._ends[key] = _end_of(len(value), value)
        if path in self._forms and (number := rest.partition("/")[0]).isdecimal():
            layout, sharded = self._forms[path]
            of_array = self._of(path)
            try:
                index = read_index(value, len(value), layout.grid, key).reshape(-1, 2) if sharded else None
                of_array[int(number)] = checksums_of(value, index)
            except DatasetError:
                of_array.pop(int(number), None)

    def __getstate__(self) -> dict[str, Any]:
        # Another process tells what it writes itself, by notes.
        return {**WrittenChunks().__dict__, "_forms": self._forms, "_has_all": False}

    def pop(self, keys: Iterable[str]) -> list[ChunkNotes]:
        """What was noted of some keys, for another writer; it is forgotten here."""
        notes = []
        for key in keys:
            path, _, rest = key.partition("/c/")
            number = rest.partition("/")[0]
            checksums = None
            if path in self._forms and number.isdecimal() and int(number) in (of_array := self._of(path)):
                checksums = of_array[int(number)].copy()
                del of_array[int(number)]
            notes.append(ChunkNotes(key, self._ends.pop(key), checksums))
        return notes

    def take(self, notes: Iterable[ChunkNotes]) -> None:
        """Another writer has written these."""
        for note in notes:
            path, _, rest = note.key.partition("/c/")
            self.changed.add(path)
            self._ends[note.key] = note.end
            if note.checksums is not None and path in self._forms:
                self._of(path)[int(rest.partition("/")[0])] = note.checksums

    def forget(self, prefix: str) -> None:
        """All keys below a prefix were deleted."""
        path, separator, rest = prefix.partition("/c/")
        if separator:
            self.changed.add(path)
            if path in self._checksums:
                self._checksums[path].pop(int(rest.partition("/")[0]), None)
            self._ends.pop(prefix, None)
            return
        path = prefix.removesuffix("/c").strip("/")
        for known in {*self._forms, path}:
            if known == path or known.startswith(f"{path}/"):
                self.changed.add(known)
                self._checksums.pop(known, None)
        for key in [key for key in self._ends if key.startswith(prefix)]:
            self._ends.pop(key, None)

    def of(self, path: str, layout: Layout) -> ShardChecksums:
        """The checksums of the objects of an array that were written, by the numbers of their shards."""
        known = self._of(path) if self._forms.get(path, (None,))[0] == layout else {}
        if isinstance(known, ShardChecksums):
            return known
        found = ShardChecksums(layout)
        found.update(known)
        return found

    def _of(self, path: str) -> MutableMapping[int, Checksums]:
        if path not in self._checksums:
            self._checksums[path] = ShardChecksums(self._forms[path][0]) if self._has_all else {}
        return self._checksums[path]

    def has(self, key: str) -> bool:
        """Whether a chunk or shard was written under a key."""
        return key in self._ends

    def is_other(self, key: str, size: int, tail: bytes) -> bool:
        """Whether the value of a key is another one than was written, by its size and its end."""
        written = self._ends.get(key)
        return written is not None and written != _end_of(size, tail)


def _end_of(size: int, tail: bytes) -> int:
    """The size of a value, and the last bytes of its ``tail``."""
    return size << 8 * CRC_BYTES | int.from_bytes(tail[-CRC_BYTES:], "little")


def metadata_digest(node: Node) -> str:
    """The SHA-256 of an array's metadata, whatever the order and the spaces that they are written with."""
    text = json.dumps(node, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def with_document(attributes: Mapping[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """The attributes of the root with a document and its digest, which come last."""
    others = {name: value for name, value in attributes.items() if name not in (ATTRIBUTE, DIGEST)}
    return {**others, ATTRIBUTE: fields, DIGEST: metadata_digest(fields)}


def manifest_array(manifest: ManifestInfo) -> ArraySpec:
    """The array of a manifest."""
    count = sum(entry.chunks for entry in manifest.arrays.values())
    part = min(max(1, count), PART)
    return ArraySpec(manifest.path, Layout((count,), (part,), (part,)), np.uint32, ("chunk",))


def adds_up(manifest: ManifestInfo) -> bool:
    """Whether the chunks of all arrays follow one another, and have as many parts as they need."""
    total = 0
    for entry in sorted(manifest.arrays.values(), key=lambda entry: (entry.first, entry.chunks)):
        if entry.first != total:
            return False
        total += entry.chunks
    return len(manifest.parts) == -(-total // PART)


def manifest_of(nodes: Mapping[str, Node], checksums: Mapping[str, Checksums]) -> ManifestInfo:
    """What the document says of a manifest of the checksums of some arrays, by their paths in order."""
    arrays, first = {}, 0
    for path, of_array in checksums.items():
        arrays[path] = ManifestArray(metadata_digest(nodes[path]), first, len(of_array))
        first += len(of_array)
    everything, parts = hashlib.sha256(), []
    for part in parts_of(checksums.values()):
        everything.update(part.data)
        parts.append(part_checksum(part))
    return ManifestInfo(f"{MANIFEST}/{everything.hexdigest()[:16]}", arrays, tuple(parts))


def parts_of(checksums: Iterable[Checksums]) -> Iterator[Checksums]:
    """The parts of a manifest one after the other, of the checksums of several arrays."""
    pieces: list[Checksums] = []
    for of_array in checksums:
        start = 0
        while start < len(of_array):
            piece = of_array[start : start + PART - sum(map(len, pieces))]
            pieces.append(piece)
            start += len(piece)
            if sum(map(len, pieces)) == PART:
                yield np.concatenate(pieces).astype("<u4", copy=False)
                pieces = []
    if pieces:
        yield np.concatenate(pieces).astype("<u4", copy=False)


def digest_of(manifest: ManifestInfo) -> str:
    """32 hexadecimal digits that stand for all that the manifest covers."""
    return metadata_digest(manifest.to_dict())[:32]


def part_checksum(part: Checksums) -> str:
    """The CRC-32C of a part of the manifest, 8 hexadecimal digits."""
    return crc32c(part.astype("<u4").tobytes())[::-1].hex()


def chunk_count(layout: Layout) -> int:
    """How many chunks the shards of an array have, those beyond its last sample included."""
    return layout.shards * math.prod(layout.grid)


def is_within(layout: Layout, chunk: int) -> bool:
    """Whether a chunk holds samples of the array; those beyond the last one are never written."""
    shard, inner = divmod(chunk, math.prod(layout.grid))
    row = inner // math.prod(layout.grid[1:])
    return shard * layout.shard[0] + row * layout.chunk[0] < layout.shape[0]


def checksums_of(value: bytes | memoryview, index: NDArray[np.uint64] | None) -> Checksums:
    """The checksums of the chunks in a shard, from its bytes and its index ``(chunks, 2)``, 0 for one that is
    absent; of an object that is one chunk, where there is no index.
    """
    data = np.frombuffer(value, np.uint8)
    if index is None:
        return _last_four(data, np.array([len(data)]))
    there = index[:, 0] != ABSENT
    found = np.zeros(len(index), np.uint32)
    found[there] = _last_four(data, (index[there, 0] + index[there, 1]).astype(np.int64))
    return found


def check_chunks(value: bytes, index: NDArray[np.uint64] | None, where: str) -> None:
    """Raises DatasetError where a chunk in the bytes of a shard does not end with its checksum."""
    data = np.frombuffer(value, np.uint8)
    spans = [(0, len(value))] if index is None else index[index[:, 0] != ABSENT].tolist()
    for offset, size in spans:
        if not is_whole(data[offset : offset + size], "crc32c"):
            raise DatasetError(f"{where} is damaged: a checksum is wrong. {REPAIR}", code="checksum-wrong")


def ends_of_file(path: Path, ends: NDArray[np.int64]) -> Checksums:
    """The checksums of the chunks that end at some places of a file; 0 for an end of 0."""
    found = np.zeros(len(ends), "<u4")
    with path.open("rb", buffering=0) as file:
        for number, end in enumerate(ends.tolist()):
            if end >= CRC_BYTES:
                file.seek(end - CRC_BYTES)
                found[number] = int.from_bytes(file.read(CRC_BYTES), "little")
    return found


def _last_four(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> Checksums:
    places = ends[:, None] + np.arange(-CRC_BYTES, 0)
    # An object shorter than a checksum has none.
    return np.ascontiguousarray(data[np.maximum(places, 0)]).view("<u4").ravel() if len(data) else _NONE


_NONE: Checksums = np.zeros(1, np.uint32)


def copies_in(root: Node) -> Mapping[str, Node]:
    """The copies of the metadata of arrays and groups in the root, by their paths."""
    copies: Mapping[str, Node] = (root.get("consolidated_metadata") or {}).get("metadata", {})
    return copies


def differing(found: Mapping[str, Any], expected: Mapping[str, ManifestArray]) -> list[str]:
    """The paths of arrays whose metadata are not those of the manifest."""
    return [
        path
        for path, entry in expected.items()
        if path in found and metadata_digest(found[path]) != entry.sha256
    ]


def joined_paths(paths: Iterable[str], shown: int) -> str:
    """Some of many paths, for a message."""
    names: Sequence[str] = [f"/{path}" for path in paths]
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")

"""An HDF5 file, open for reading: offset, size and content of its chunks."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import ATTRIBUTE, DEPTHS, DIGEST, VERIFIED, Document
from fgbgpack.errors import DatasetError, IncompleteDatasetError
from fgbgpack.inputs import open_descriptor, parse_json
from fgbgpack.storage.arrays import ArrayForm, Node
from fgbgpack.storage.codecs import REPAIR, Bytes, ChunkCodec, DeflateChunk, crc32c, is_whole
from fgbgpack.storage.hdf5.form import ORDER, UNFINISHED, ZARR, codec_of
from fgbgpack.storage.hdf5.parts import (
    Front,
    Index,
    find_front,
    front_at,
    read_index,
    require_inside,
    seal_of,
    write_front,
)
from fgbgpack.storage.hdf5.probe import (
    NOT_CLOSED,
    Found,
    FoundArray,
    OwnNode,
    left_open,
    own_node,
    probe,
)
from fgbgpack.storage.sharding import ABSENT

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Where the superblock says how long the file is, by its version.
_END_AT = {0: 40, 1: 44, 2: 28, 3: 28}
_BARE_ROOT = '{"zarr_format": 3, "node_type": "group", "attributes": {}}'
# Of a file that others wrote: their tables take 16 bytes of memory for each chunk.
_MOST_CHUNKS = 1 << 25


def chunk_sum(encoded: bytes | Bytes) -> int:
    """What :class:`StoredChunks` says of a chunk: the CRC-32C of its bytes as they are stored."""
    return int.from_bytes(crc32c(encoded), "little")


def _new_bytes(size: int) -> Bytes:
    return np.empty(size, np.uint8)


@dataclass(frozen=True)
class StoredChunks:
    """The chunks of an array in a file, and how they are encoded there; ``form`` is how it is cut as Zarr.

    ``chunks`` are (chunks, 2) uint64: offset and bytes of each, in C order, ``ABSENT`` where there is none.
    ``sums`` are (chunks,) uint32: what :func:`chunk_sum` says of each, 0 where there is none; ``None`` where
    others wrote the file, which then does not say.
    """

    form: ArrayForm
    codec: ChunkCodec
    chunks: NDArray[np.uint64]
    sums: NDArray[np.uint32] | None

    def span(self, number: int) -> tuple[int, int] | None:
        """Offset and bytes of a chunk, by its number in C order; ``None`` where it was never written."""
        if number >= len(self.chunks):
            return None
        offset, size = self.chunks[number].tolist()
        return None if offset == ABSENT else (offset, size)

    def there(self, shard: int) -> bool:
        """Whether any chunk of a shard is there."""
        numbers = self.form.chunks_of(shard)
        return bool((self.chunks[numbers.start : numbers.stop, 0] != ABSENT).any())


class Hdf5File:
    """A file that is open. It may be used on threads and after a fork.

    All but the content of chunks is read when it is opened: a file that is then replaced can be read on. A
    file that is as fgbgpack wrote it is read without the HDF5 library. Of one that has changed since, or that
    others wrote, that library says in a process of its own which chunks there are.

    ``root`` and ``nodes`` are the Zarr metadata of the root, with the document, and of all below it, as text.
    ``sealed`` is whether it is as fgbgpack wrote it, but for pixels, which are checked when they are read.

    Raises IncompleteDatasetError if it is still being made, DatasetError if it is missing, none of
    fgbgpack's, cut short or damaged, and MissingPackageError if others changed it and h5py is not installed.
    """

    front: Front | None
    index: Index | None
    #: Whether there may be arrays of others that cannot be found.
    others_unknown = False

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        #: What messages call it.
        self.name = str(path) if name is None else name
        if not path.is_file():
            if path.with_name(path.name + UNFINISHED).is_dir():
                raise IncompleteDatasetError(
                    f"{self.name} is not finished: run the command that makes it again, which goes on with "
                    f"{self.name}{UNFINISHED}."
                )
            raise DatasetError(f"There is no dataset at {self.name}: no such file.", code="dataset-missing")
        try:
            self._number = open_descriptor(path)
        except OSError as exc:
            raise DatasetError(f"{self.name} cannot be read: {exc.strerror}.", code="io-failed") from exc
        try:
            self._require_whole()
            self.front, self.index, found = self._parts()
            self.sealed = self._is_sealed(found)
            self.root, nodes, document = _nodes(self.front, found, self.name)
            self.nodes = {name: json.dumps(node, indent=2).encode() for name, node in nodes.items()}
            self.arrays = {
                name: self._array(node, name, found)
                for name, node in nodes.items()
                if node["node_type"] == "array"
            }
            self._require_all(document)
            if not self.is_at(path):
                raise DatasetError(f"{self.name} is being replaced: open it again.", code="dataset-replaced")
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as exc:
            raise _damaged(self.name, repr(exc)) from exc
        except (ArithmeticError, MemoryError, struct.error) as exc:
            raise _damaged(self.name, repr(exc)) from exc

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)

    def _require_whole(self) -> None:
        """See that the file is HDF5, and as long as it says (DatasetError)."""
        start, size = os.pread(self._number, 64, 0), self._bytes
        if start[: len(_SIGNATURE)] != _SIGNATURE:
            raise DatasetError(
                f"{self.name} is a file, but not HDF5: a dataset is a folder or HDF5.", code="file-not-hdf5"
            )
        end_at = _END_AT.get(start[8]) if len(start) == 64 else None
        if len(start) < 64 or (end_at and struct.unpack_from("<Q", start, end_at)[0] > size):
            raise DatasetError(
                f"{self.name} is cut short: only {size:,} bytes of it are there. {REPAIR}",
                code="file-cut-short",
            )

    def _is_sealed(self, found: Found | None) -> bool:
        """Whether all but pixels is as it was written, once the parts are known."""
        return found is None

    def _parts(self) -> tuple[Front | None, Index | None, Found | None]:
        """What the file says of itself and, where that is not all or not right, what the library says."""
        try:
            front = find_front(self._number)
            if (index := self._sealed_index(front)) is not None:
                return front, index, None
            index = None if front is None else read_index(self._number, front)
            found = probe(self.path, None if index is None else list(index.arrays))
            if front is None and found.document is not None and len(found.document) == 3:
                # The start of the first slot is damaged, or was being written.
                front = front_at(self._number, found.document[0], found.document[2])
                if (index := self._sealed_index(front)) is not None:
                    return front, index, None
                index = None if front is None else read_index(self._number, front)
        except DatasetError as exc:
            if str(self.path) in exc.message:
                raise
            raise _damaged(self.name, exc.message) from exc
        if front is not None and (found.document or (None,))[0] != front.at:
            raise _damaged(self.name, "its document is not where it was")
        return front, index, found

    def _sealed_index(self, front: Front | None) -> Index | None:
        """The index of a file that is as it was written."""
        index = None if front is None else read_index(self._number, front)
        if front is None or index is None or seal_of(self._number, front, index) != front.seal:
            return None
        return index

    def _array(self, node: Node, name: str, found: Found | None) -> StoredChunks:
        where = f"{self.name}/{name}"
        form = ArrayForm.of(node, where)
        if found is not None:
            if name not in found.arrays:
                raise DatasetError(f"{where} is not there. {REPAIR}", code="array-missing")
            _require_form(found.arrays[name], form, where)
        if self.index is None:
            array = found.arrays[name] if found is not None else None
            if array is None or array.table is None:
                raise DatasetError(f"{where} has no list of chunks. {REPAIR}", code="file-damaged")
            table = _chunk_table(array.table, form, self._bytes, where)
            return StoredChunks(form, codec_of(array.filters, form, where), table, None)
        indexed = self.index.arrays[name]
        if len(indexed.spans) != form.chunk_count:
            raise DatasetError(
                f"{where} has other chunks than its metadata say. {REPAIR}", code="file-damaged"
            )
        if found is not None:
            listed = found.arrays[name]
            if (
                listed.table is None
                or listed.filters != indexed.filters
                or not np.array_equal(_chunk_table(listed.table, form, self._bytes, where), indexed.spans)
            ):
                raise DatasetError(
                    f"{where} was changed by others, or its list of chunks is damaged. {REPAIR} "
                    "If you have changed it on purpose: fgbgpack verify --accept.",
                    code="file-changed",
                )
        return StoredChunks(form, codec_of(indexed.filters, form, where), indexed.spans, indexed.sums)

    def _require_all(self, document: Document) -> None:
        """See that no chunk of a complete dataset is missing, which would be read as 0."""
        for name, array in self.arrays.items():
            missing = int((array.chunks[:, 0] == ABSENT).sum())
            if missing and document.complete and not (document.depth is None and name in DEPTHS):
                raise DatasetError(
                    f"{self.name}/{name} is damaged: {missing} of its {len(array.chunks)} chunks are not "
                    f"there. {REPAIR}",
                    code="chunk-missing",
                )

    @property
    def damage(self) -> DatasetError | None:
        """What is wrong with a file that can be read: it has lost the checksums of its chunks, or no other
        HDF5 library opens it, since a program that was writing to it has been killed.
        """
        if (opened := left_open(self.path)) is not None and opened.code == NOT_CLOSED:
            return opened
        if self.front is None or self.index is not None:
            return None
        return DatasetError(
            f"The list of the chunks of {self.name} is damaged: only the HDF5 library says where they are. "
            f"{REPAIR}",
            code="file-damaged",
        )

    @property
    def portable(self) -> bool:
        """Whether chunks are deflated, so that they are read without plugins."""
        there = [array for array in self.arrays.values() if (array.chunks[:, 0] != ABSENT).any()]
        return bool(there) and all(isinstance(array.codec, DeflateChunk) for array in there)

    @property
    def _bytes(self) -> int:
        return os.fstat(self._number).st_size

    def is_at(self, path: Path) -> bool:
        """Whether this is the file that has that name now, and as it was."""
        now, opened = path.stat(), os.fstat(self._number)
        return os.path.samestat(now, opened) and now.st_size == opened.st_size

    def read(self, path: str, number: int, take: Callable[[int], Bytes] = _new_bytes) -> Bytes | None:
        """A chunk of an array, by its number in C order, in memory that ``take`` gives for its bytes.

        ``None`` where it was never written; raises DatasetError if its CRC is wrong.
        """
        array = self.arrays[path]
        if (span := array.span(number)) is None:
            return None
        out = take(span[1])
        content = out[: os.preadv(self._number, [out.data], span[0])]
        if array.sums is not None and chunk_sum(content) != array.sums[number]:
            raise self._wrong_chunk(path, number, content)
        return content

    def _wrong_chunk(self, path: str, number: int, content: Bytes) -> DatasetError:
        """The error of a chunk that is not the one that the index names."""
        array = self.arrays[path]
        shard, inner = divmod(number, array.form.chunks_per_shard)
        name = f"Chunk {inner} of shard {self.name}/{path}/{array.form.layout.key(shard)}"
        if array.codec.checksum is not None and is_whole(content, array.codec.checksum):
            return DatasetError(
                f"{name} is not the one that was written: others have changed it. {REPAIR}",
                code="chunk-foreign",
            )
        return DatasetError(f"{name} is damaged: its checksum is wrong. {REPAIR}", code="checksum-wrong")

    def chunk_sums(self, path: str) -> NDArray[np.uint32]:
        """(chunks,) uint32: :func:`chunk_sum` of every chunk of an array in C order, 0 where there is none.

        They are read from the index or, of a file that others wrote, made of the chunks.
        """
        array = self.arrays[path]
        if array.sums is not None:
            return array.sums
        chunks = (self.read(path, number) for number in range(len(array.chunks)))
        return np.array([0 if chunk is None else chunk_sum(chunk) for chunk in chunks], np.uint32)

    @property
    def own(self) -> tuple[str, ...]:
        """The paths of what others added to the file, in alphabetical order."""
        if self.sealed and self.index is not None:
            return self.index.own
        found = self._listed()
        return () if found is None else own_paths(found, self.nodes)

    def _listed(self) -> Found | None:
        """What the HDF5 library finds in the file, without chunks; ``None`` if that may be unknown."""
        return probe(self.path, [])

    def own_attributes(self) -> tuple[dict[str, Any], list[str]]:
        """What others added to the attributes of the root; and what cannot be kept elsewhere: the names of
        other such attributes, and of those that they added to the dataset's arrays, after their paths.
        """
        found = None if self.sealed else self._listed()
        if found is None:
            return {}, []
        lost = [f"/@{name}" for name in found.left_out]
        for path, array in found.arrays.items():
            if path in self.nodes:
                known = json.loads(self.nodes[path]).get("attributes") or {}
                lost += [f"/{path}@{name}" for name in array.attributes if name not in known]
        return found.attributes, lost

    def own_nodes(self) -> Iterator[tuple[OwnNode, Iterator[NDArray[Any]]]]:
        """What others added to the file, each with its elements in parts of some rows, to be taken in turn.

        Elements are left out that are no numbers, whose ``dtype`` is ``None``. The HDF5 library reads them in
        a process of its own; raises DatasetError as :class:`Hdf5File`.
        """
        if not self.own:
            return
        found = probe(self.path, [])
        for name in own_paths(found, self.nodes):
            with own_node(self.path, name, found) as node:
                yield node

    def set_front(self, front: Front) -> None:
        """Write another document in the place of this one."""
        file = os.open(self.path, os.O_RDWR)
        try:
            write_front(file, front)
        finally:
            os.close(file)

    def shards_there(self, path: str) -> set[int]:
        """Which shards of an array there are; none where there is no such array."""
        array = self.arrays.get(path)
        return set() if array is None else set(filter(array.there, range(array.form.layout.shards)))

    def stored_bytes(self) -> dict[str, int]:
        """Bytes of the chunks of each array, by its path, and of all the rest as ``zarr.json``."""
        sizes = {path: array.chunks[:, 1] for path, array in self.arrays.items()}
        total = {path: int(of_array[of_array != ABSENT].sum()) for path, of_array in sizes.items()}
        return {"zarr.json": self._bytes - sum(total.values()), **total}


def own_paths(found: Found, nodes: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths of all nodes of a file that are neither the dataset's, its scales nor on the way to them."""
    ways = {parent.as_posix() for path in nodes for parent in PurePosixPath(path).parents}
    scales = {name for name, array in found.arrays.items() if array.is_scale}
    return tuple(sorted(set(found.texts) - set(nodes) - scales - ways - {""}))


def _damaged(name: str, why: str) -> DatasetError:
    return DatasetError(
        f"{name} is damaged, or no HDF5 file: {why.rstrip('.')}. {REPAIR}", code="file-damaged"
    )


def without_document(name: str) -> DatasetError:
    """The error of a file of which neither copy of the document is whole."""
    return DatasetError(
        f"Both copies of the document of {name} are damaged: nothing says what its arrays are. Restore it "
        "from a copy; or delete the file, if nothing else of yours is in it, and run the command that makes "
        "the dataset again.",
        code="document-damaged",
    )


def root_of(node: Node) -> dict[str, Any]:
    """The root's metadata without the document and without consolidated metadata."""
    kept = {key: value for key, value in node.items() if key != "consolidated_metadata"}
    dropped = ATTRIBUTE, DIGEST, VERIFIED  # A copy is not verified because the original was.
    kept["attributes"] = {key: value for key, value in node["attributes"].items() if key not in dropped}
    return kept


def root_text(root: Mapping[str, Any], nodes: Mapping[str, Node]) -> bytes:
    """The root's metadata as text, with the copy in it of the metadata of some nodes."""
    kept = {key: value for key, value in root.items() if key != "consolidated_metadata"}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": dict(nodes)}
    kept["consolidated_metadata"] = consolidated
    return json.dumps(kept, indent=2, ensure_ascii=False).encode()


def _nodes(front: Front | None, found: Found | None, name: str) -> tuple[bytes, dict[str, Any], Document]:
    """The metadata of the root, document included, and of all nodes below it; and the document."""
    try:
        if front is not None:
            root = parse_json(front.text)
            document = Document.from_dict(root["attributes"][ATTRIBUTE], where=name)
            return front.text, dict(root["consolidated_metadata"]["metadata"]), document
    except (ValueError, KeyError, TypeError) as exc:
        raise DatasetError(f"The document in {name} is damaged: {exc!r}.", code="document-damaged") from exc
    return _nodes_of_others(found, name)


def _nodes_of_others(found: Found | None, name: str) -> tuple[bytes, dict[str, Any], Document]:
    """The same from attributes, as others may write them: ``fgbgpack`` of the root, ``zarr`` of all nodes."""
    if found is None or ATTRIBUTE not in found.texts[""]:
        raise DatasetError(
            f"{name} is an HDF5 file that fgbgpack did not make (it has no attribute {ATTRIBUTE!r}): give "
            "another place.",
            code="dataset-foreign",
        )
    if found.document is not None:
        raise without_document(name)
    texts = found.texts[""]
    known = {name: parse_json(of_node[ZARR]) for name, of_node in found.texts.items() if ZARR in of_node}
    root = known.pop("", None) or parse_json(_BARE_ROOT)
    listed = [name for name in parse_json(texts.get(ORDER, "[]")) if name in known]
    nodes = {name: known[name] for name in (*listed, *known)}
    try:
        root["attributes"][ATTRIBUTE] = parse_json(texts[ATTRIBUTE])
        document = Document.from_dict(root["attributes"][ATTRIBUTE], where=name)
    except (ValueError, KeyError, TypeError) as exc:
        raise DatasetError(f"The document in {name} is damaged: {exc!r}.", code="document-damaged") from exc
    if document.complete:
        return root_text(root, nodes), nodes, document
    return json.dumps(root, indent=2, ensure_ascii=False).encode(), nodes, document


def _require_form(array: FoundArray, form: ArrayForm, where: str) -> None:
    """See that an array is cut as its Zarr metadata say (DatasetError)."""
    if array.chunks != form.layout.chunk or array.shape != form.layout.shape or array.dtype != form.dtype:
        raise DatasetError(
            f"{where} is {array.dtype} of shape {array.shape} in chunks of {array.chunks}, but its metadata "
            f"say {form.dtype} of shape {form.layout.shape} in chunks of {form.layout.chunk}.",
            code="array-foreign",
        )


def _chunk_table(listed: NDArray[np.uint64], form: ArrayForm, size: int, where: str) -> NDArray[np.uint64]:
    """(chunks, 2) uint64: offset and size of each chunk; none is outside the file or overlaps another."""
    if form.chunk_count > _MOST_CHUNKS:
        raise DatasetError(
            f"{where} has {form.chunk_count:,} chunks: that is too many.", code="array-foreign"
        )
    table = np.full((form.chunk_count, 2), ABSENT, np.uint64)
    if not len(listed):
        return table
    corners, odd = np.divmod(listed[:, :-3].astype(np.int64), np.array(form.layout.chunk))
    numbers = np.ravel_multi_index(tuple(corners.T), form.grid)
    if odd.any() or len(np.unique(numbers)) < len(numbers):
        raise DatasetError(f"{where} is damaged: chunks overlap. {REPAIR}", code="file-damaged")
    table[numbers] = listed[:, -3:-1]
    if listed[:, -1].any():
        raise DatasetError(
            f"{where} has chunks that skip a filter, as HDF5 leaves those that do not get smaller: write "
            "them with all filters.",
            code="array-foreign",
        )
    try:
        require_inside(table[numbers], size)
    except DatasetError as exc:
        raise DatasetError(f"{where} is damaged: {exc.message}. {REPAIR}", code="file-damaged") from exc
    return table

"""An HDF5 file, open for reading: offset, size and content of its chunks."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import ATTRIBUTE, DEPTHS, Document
from fgbgpack.errors import DatasetError, IncompleteDatasetError
from fgbgpack.inputs import open_descriptor, parse_json
from fgbgpack.storage.arrays import ArrayForm
from fgbgpack.storage.codecs import Bytes, ChunkCodec, DeflateChunk
from fgbgpack.storage.hdf5.form import ORDER, UNFINISHED, ZARR, codec_in, h5py_for
from fgbgpack.storage.sharding import ABSENT

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BARE_ROOT = '{"zarr_format": 3, "node_type": "group", "attributes": {}}'


@dataclass(frozen=True)
class StoredChunks:
    """The chunks of an array in a file, and how they are encoded there; ``form`` is how it is cut as Zarr.

    ``chunks`` are (chunks, 2) uint64: offset and bytes of each, in C order, ``ABSENT`` where there is none.
    """

    form: ArrayForm
    codec: ChunkCodec
    chunks: NDArray[np.uint64]

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

    All that the HDF5 library has to say is asked for when it is opened: a file that is then replaced can be
    read on. ``root`` and ``nodes`` are the Zarr metadata of the root, with the document, and of all below it,
    as text.

    Raises IncompleteDatasetError if it is still being made, and DatasetError if it is missing, none of
    fgbgpack's, cut short or damaged, or h5py is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            if path.with_name(path.name + UNFINISHED).is_dir():
                raise IncompleteDatasetError(
                    f"{path} is not finished: run the command that makes it again, which goes on with "
                    f"{path}{UNFINISHED}."
                )
            raise DatasetError(f"There is no dataset at {path}: no such file.", code="dataset-missing")
        h5py = h5py_for(str(path))
        try:
            self._number = open_descriptor(path)
        except OSError as exc:
            raise DatasetError(f"{path} cannot be read: {exc.strerror}.", code="io-failed") from exc
        try:
            if os.pread(self._number, len(_SIGNATURE), 0) != _SIGNATURE:
                raise DatasetError(
                    f"{path} is a file, but not HDF5: a dataset is a folder or HDF5.", code="file-not-hdf5"
                )
            # Files are only ever replaced: there is nothing to lock.
            with h5py.File(path, "r", locking=False) as file:
                self.root, self.nodes, document = _nodes(file, path)
                self.arrays = {
                    name: self._array(file[name], name)
                    for name, node in self.nodes.items()
                    if json.loads(node)["node_type"] == "array"
                }
            self._require_all(document)
            if not self.is_at(path):
                raise DatasetError(f"{path} is being replaced: open it again.", code="dataset-replaced")
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as exc:
            raise _refusal(path, exc) from exc

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)

    def _array(self, array: Any, name: str) -> StoredChunks:
        where = f"{self.path}/{name}"
        form = ArrayForm.of(parse_json(self.nodes[name]), where)
        return StoredChunks(form, codec_in(array, form, where), _chunk_table(array, form, self._bytes, where))

    def _require_all(self, document: Document) -> None:
        """See that no chunk of a complete dataset is missing, which would be read as 0.

        Nothing guards the lists of chunks in the file: where one is damaged, the HDF5 library finds fewer.
        """
        for name, array in self.arrays.items():
            missing = int((array.chunks[:, 0] == ABSENT).sum())
            if missing and document.complete and not (document.depth is None and name in DEPTHS):
                raise DatasetError(
                    f"{self.path}/{name} is damaged: {missing} of its {len(array.chunks)} chunks are not "
                    "there. Copy the file again, or convert it again.",
                    code="chunk-missing",
                )

    @property
    def portable(self) -> bool:
        """Whether chunks are deflated, so that they are read without plugins."""
        return any(isinstance(array.codec, DeflateChunk) for array in self.arrays.values())

    @property
    def _bytes(self) -> int:
        return os.fstat(self._number).st_size

    def is_at(self, path: Path) -> bool:
        """Whether this is the file that has that name now, and as it was."""
        now, opened = path.stat(), os.fstat(self._number)
        return os.path.samestat(now, opened) and now.st_size == opened.st_size

    def read(self, offset: int, out: Bytes) -> Bytes:
        """The bytes of the file from an offset on, as many as fit in ``out``."""
        return out[: os.preadv(self._number, [out.data], offset)]

    def shards_there(self, path: str) -> set[int]:
        """Which shards of an array there are; none where there is no such array."""
        array = self.arrays.get(path)
        return set() if array is None else set(filter(array.there, range(array.form.layout.shards)))

    def stored_bytes(self) -> dict[str, int]:
        """Bytes of the chunks of each array, by its path, and of all the rest as ``zarr.json``."""
        sizes = {path: array.chunks[:, 1] for path, array in self.arrays.items()}
        total = {path: int(of_array[of_array != ABSENT].sum()) for path, of_array in sizes.items()}
        return {"zarr.json": self._bytes - sum(total.values()), **total}


def _refusal(path: Path, error: Exception) -> DatasetError:
    """Why a file cannot be read."""
    text = str(error)
    if "truncated" in text or "eof" in text.lower():
        size = path.stat().st_size
        return DatasetError(
            f"{path} is cut short: only {size:,} bytes of it are there. Copy it again.", code="file-cut-short"
        )
    return DatasetError(
        f"{path} is damaged, or no HDF5 file: {text.rstrip('.')}. Copy it again, or convert it again.",
        code="file-damaged",
    )


def _nodes(file: Any, path: Path) -> tuple[bytes, dict[str, bytes], Document]:
    """The metadata of the root, document included, and of all nodes below it; and the document."""
    if ATTRIBUTE not in file.attrs:
        raise DatasetError(
            f"{path} is an HDF5 file that fgbgpack did not make: it has no attribute {ATTRIBUTE!r}.",
            code="dataset-foreign",
        )
    found: dict[str, bytes] = {}

    def visit(name: str, thing: Any) -> None:
        if ZARR in thing.attrs:
            found[name] = json.dumps(parse_json(thing.attrs[ZARR]), indent=2).encode()

    file.visititems(visit)
    listed = [name for name in parse_json(file.attrs.get(ORDER, "[]")) if name in found]
    nodes = {name: found[name] for name in (*listed, *found)}
    try:
        root = parse_json(file.attrs.get(ZARR, _BARE_ROOT))
        root["attributes"][ATTRIBUTE] = parse_json(file.attrs[ATTRIBUTE])
        document = Document.from_dict(root["attributes"][ATTRIBUTE], where=str(path))
        if document.complete:
            below = {name: json.loads(node) for name, node in nodes.items()}
            root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": below}
    except (ValueError, KeyError, TypeError) as exc:
        raise DatasetError(f"The document in {path} is damaged: {exc!r}.", code="document-damaged") from exc
    return json.dumps(root, indent=2, ensure_ascii=False).encode(), nodes, document


def _chunk_table(dataset: Any, form: ArrayForm, file_bytes: int, where: str) -> NDArray[np.uint64]:
    """(chunks, 2) uint64: offset and size of each chunk; none is outside the file or overlaps another."""
    found: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(
        lambda chunk: found.append((*chunk.chunk_offset, chunk.byte_offset, chunk.size, chunk.filter_mask))
    )
    table = np.full((form.chunk_count, 2), ABSENT, np.uint64)
    if found:
        listed = np.array(found, np.uint64)
        corners, odd = np.divmod(listed[:, :-3].astype(np.int64), np.array(form.layout.chunk))
        numbers = np.ravel_multi_index(tuple(corners.T), form.grid)
        if odd.any() or len(np.unique(numbers)) < len(numbers):
            raise DatasetError(
                f"{where} is damaged: chunks overlap. Copy the file again.", code="file-damaged"
            )
        table[numbers] = listed[:, -3:-1]
        if listed[:, -1].any():
            raise DatasetError(
                f"{where} has chunks that skip a filter, as HDF5 leaves those that do not get smaller: write "
                "them with all filters.",
                code="array-foreign",
            )
        offsets, sizes = listed[:, -3], listed[:, -2]
        # Compared by subtraction: a sum of damaged numbers could wrap round.
        if (sizes > file_bytes).any() or (offsets > file_bytes - np.minimum(sizes, file_bytes)).any():
            raise DatasetError(
                f"{where} is damaged: chunks lie outside the file. Copy the file again.", code="file-damaged"
            )
    return table

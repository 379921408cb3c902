"""Files that are not as they were written: what is whole of a damaged one, and what others made of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import Document
from fgbgpack.errors import DatasetError
from fgbgpack.storage.arrays import ArrayForm, Node
from fgbgpack.storage.hdf5.file import Hdf5File, StoredChunks, without_document
from fgbgpack.storage.hdf5.form import codec_of
from fgbgpack.storage.hdf5.parts import Front, Index, find_front, front_at, read_index
from fgbgpack.storage.hdf5.probe import Found, probe
from fgbgpack.storage.sharding import ABSENT


class SalvagedFile(Hdf5File):
    """What is whole of a damaged file: chunks that are lost are not there, others are checked when they are
    read.

    Chunks are where the index says, in a file that may be cut short; without an index they are where the HDF5
    library says, if it says anything. Raises DatasetError (``document-damaged``) if neither copy of the
    document is whole.
    """

    def _require_whole(self) -> None:
        """Less of it may be there."""

    def _is_sealed(self, found: Found | None) -> bool:
        try:
            return super()._sealed_index(self.front) is not None
        except DatasetError:
            return False

    def _parts(self) -> tuple[Front | None, Index | None, Found | None]:
        front = find_front(self._number)
        index = None if front is None else read_index(self._number, front)
        if index is not None:
            return front, index, None
        found = _probed(self.path)
        if front is None and found is not None and found.document is not None and len(found.document) == 3:
            front = front_at(self._number, found.document[0], found.document[2])
            index = None if front is None else read_index(self._number, front)
        if front is None:
            raise without_document(self.name)
        return front, index, found

    def _array(self, node: Node, name: str, found: Found | None) -> StoredChunks:
        where = f"{self.name}/{name}"
        form = ArrayForm.of(node, where)
        try:
            if self.index is None and found is not None:
                return super()._array(node, name, found)
            table = None if self.index is None else self.index.arrays.get(name)
            if table is not None and len(table.spans) == form.chunk_count:
                spans = _inside(table.spans, self._bytes)
                return StoredChunks(form, codec_of(table.filters, form, where), spans, table.sums)
        except DatasetError:
            pass
        nothing = np.full((form.chunk_count, 2), ABSENT, np.uint64)
        return StoredChunks(form, replace(form.codec, checksum="fletcher32"), nothing, None)

    def _require_all(self, document: Document) -> None:
        """Chunks may be missing."""

    def _listed(self) -> Found | None:
        try:
            return super()._listed()
        except DatasetError:
            self.others_unknown = True
            return None


class ChangedFile(Hdf5File):
    """What others have made of a file: its chunks are where the HDF5 library says, which knows what others
    wrote, and end with Fletcher-32. The document is the one that was written.
    """

    def _is_sealed(self, found: Found | None) -> bool:
        return False

    def _parts(self) -> tuple[Front | None, Index | None, Found | None]:
        front, found = find_front(self._number), probe(self.path, None)
        if front is None and found.document is not None and len(found.document) == 3:
            front = front_at(self._number, found.document[0], found.document[2])
        if front is None and found.document is not None:
            raise without_document(self.name)
        return front, None, found


def _probed(path: Path) -> Found | None:
    """What the HDF5 library says of a file; ``None`` where it says nothing."""
    try:
        return probe(path, None)
    except DatasetError:
        return None


def _inside(spans: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """Offset and bytes of chunks, ``ABSENT`` for those outside a file of some bytes."""
    offsets, sizes = spans[:, 0], spans[:, 1]
    outside = (sizes > size) | (offsets > size - np.minimum(sizes, size))
    return np.where(outside[:, None], np.uint64(ABSENT), spans)

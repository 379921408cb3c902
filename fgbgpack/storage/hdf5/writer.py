"""Writing an HDF5 file: whole, under a name of its own, and then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import ATTRIBUTE
from fgbgpack.files import PartialFile, replacing_file
from fgbgpack.storage.arrays import ArrayForm, Node
from fgbgpack.storage.codecs import ChunkCodec, DeflateChunk
from fgbgpack.storage.hdf5.child import is_reserved
from fgbgpack.storage.hdf5.file import chunk_sum, root_of
from fgbgpack.storage.hdf5.form import (
    ATTRIBUTE_BYTES,
    ZARR,
    as_text,
    filters_of,
    h5py_for,
    numbers_of,
    register_filters,
)
from fgbgpack.storage.hdf5.parts import (
    DOCUMENT,
    HEADER_BYTES,
    INDEX,
    ChunkTable,
    Front,
    Index,
    capacity_for,
    seal_of,
    write_front,
    write_through,
)
from fgbgpack.storage.hdf5.probe import OwnNode
from fgbgpack.storage.sharding import ABSENT

# In the HDF5 library's message about an error of the system.
_SYSTEM_ERROR = re.compile(r"errno = (\d+)")

# What the netCDF library writes as the name of a scale that has no values of its own.
_NO_VALUES = "This is a netCDF dimension but not a netCDF variable.%10d"
#: What the attribute of the root says to who looks for the document.
HINT = (
    "A dataset made by fgbgpack. Its document is JSON: of the two rows of the array /fgbgpack/document, "
    f"which are bytes, take the greater one, leave out the first {HEADER_BYTES} and the zeros at its end, "
    f"and look in its attributes for {ATTRIBUTE}."
)
_GZIP_LEVEL = 4


class Hdf5Writer:
    """Writes one file, ``portable`` ones deflated; one that is there is replaced when the new one is whole.

    Raises MissingPackageError if h5py or hdf5plugin is not installed, and OSError if the file cannot be
    written.
    """

    def __init__(self, path: Path, *, portable: bool) -> None:
        self._path, self._portable = path, portable
        self._h5py: Any = h5py_for(str(path))
        if not portable:
            register_filters(str(path))
        self._forms: dict[str, ArrayForm] = {}
        self._filters: dict[str, tuple[int, ...]] = {}
        self._sums: dict[str, NDArray[np.uint32]] = {}
        self._own: list[str] = []
        self._text = b""
        self._file: Any = None

    @contextmanager
    def open(self) -> Iterator[Hdf5Writer]:
        """Open the file; it is published when the block succeeds, and an error leaves nothing."""
        with hdf5_errors(), replacing_file(self._path) as partial:
            self._file = open_partial(self._h5py, partial, portable=self._portable)
            try:
                yield self
                at, index_at, index = self._parts()
            except BaseException:
                # What is left to be written may not fit any more, too.
                with suppress(OSError, RuntimeError):
                    self._file.close()
                raise
            self._file.close()
            _seal(partial.path, self._text, at, index_at, index)
            if self._path.is_file():
                shutil.copymode(self._path, partial.path)

    def put_root(self, text: bytes) -> None:
        """Set the root's metadata, which no other call comes before."""
        self._text = text
        self._file.attrs[ATTRIBUTE] = np.bytes_(HINT)
        # The text has all of them; those that HDF5 has no like of, or that are large, are there alone.
        for name, value in root_of(json.loads(text))["attributes"].items():
            if _own_value(value) is not None and len(as_text(value)) < ATTRIBUTE_BYTES // 4:
                self._put_own_attribute(self._file, name, value)
        self._put_bytes(DOCUMENT, (2, capacity_for(text)))

    def put_group(self, path: str) -> None:
        """Make a group."""
        self._file.create_group(path)

    def put_array(self, path: str, node: Node) -> ChunkCodec:
        """Make an array without chunks; return how these are to be encoded."""
        h5py = self._h5py
        form = ArrayForm.of(node, path)
        codec: ChunkCodec = replace(form.codec, checksum="fletcher32")
        if self._portable:
            codec = DeflateChunk(form.dtype.itemsize)
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk(form.layout.chunk)
        creation.set_obj_track_times(False)
        creation.set_fill_value(np.array(form.fill).astype(form.dtype))
        for number, values in filters_of(codec, form):
            creation.set_filter(number, h5py.h5z.FLAG_OPTIONAL, values)
        creation.set_fletcher32()
        space = h5py.h5s.create_simple(form.layout.shape)
        kind = h5py.h5t.py_create(form.dtype, logical=True)
        array = self._made(path, kind, space, creation)
        self._describe(array, node.get("dimension_names") or [], node["attributes"])
        self._forms[path] = form
        self._filters[path] = numbers_of(codec, form)
        self._sums[path] = np.zeros(form.chunk_count, np.uint32)
        return codec

    def _made(self, path: str, kind: Any, space: Any, creation: Any) -> Any:
        h5py = self._h5py
        links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        return h5py.Dataset(h5py.h5d.create(self._file.id, path.encode(), kind, space, creation, links))

    def _put_bytes(self, path: str, shape: tuple[int, ...]) -> None:
        """Make an array of bytes that has its place in the file at once, and is written later."""
        h5py = self._h5py
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_obj_track_times(False)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        kind = h5py.h5t.py_create(np.dtype(np.uint8))
        self._made(path, kind, h5py.h5s.create_simple(shape), creation)

    def _describe(self, thing: Any, dimensions: Sequence[str | None], attributes: Mapping[str, Any]) -> None:
        for axis, name in enumerate(dimensions):
            if name:
                thing.dims[axis].label = name
        for name, value in attributes.items():
            if value is not None:
                self._put_attribute(thing, name, value)

    def _put_attribute(self, thing: Any, name: str, value: Any) -> None:
        """Set an attribute; text of a fixed length, for HDF5 protects no other."""
        if isinstance(value, (int, float)):
            thing.attrs[name] = value
            return
        text = (value if isinstance(value, str) else as_text(value)).encode()
        thing.attrs.create(name, text, dtype=self._h5py.string_dtype("utf-8", max(1, len(text))))

    # --- what is not fgbgpack's --------------------------------------------------------------------

    def put_own(self, node: OwnNode, parts: Iterable[NDArray[Any]]) -> None:
        """Make an array of others' or a group, with its attributes; the elements come in parts of rows."""
        if node.shape is None:
            thing = self._file.require_group(node.path)
        else:
            options: dict[str, Any] = {}
            if node.shape and 0 not in node.shape:
                options = {"chunks": node.chunks or True, "compression": "gzip", "shuffle": True}
                options |= {"compression_opts": _GZIP_LEVEL, "fletcher32": True}
            made = self._file.create_dataset
            thing = made(node.path, node.shape, node.dtype, track_times=False, **options)
        self._describe(thing, node.dimension_names, {})
        for name, value in node.attributes.items():
            self._put_own_attribute(thing, name, value)
        if node.node is not None:
            self._put_attribute(thing, ZARR, as_text(node.node))
        self._own.append(node.path)
        start = 0
        for rows in parts:
            if rows.shape:
                thing[start : start + len(rows)] = rows
                start += len(rows)
            else:
                thing[()] = rows

    def _put_own_attribute(self, thing: Any, name: str, value: Any) -> None:
        """Set an attribute of others'; what HDF5 has no like of is JSON."""
        if value is not None and not is_reserved(name):
            found = _own_value(value)
            thing.attrs[name] = json.dumps(value) if found is None else found

    # --- the chunks --------------------------------------------------------------------------------

    def put_chunks(self, path: str, first: int, chunks: Sequence[bytes | None]) -> None:
        """Write chunks that follow one another in C order, from number ``first`` on; ``None`` is left out."""
        form = self._forms[path]
        target = self._file[path].id
        for number, chunk in enumerate(chunks, start=first):
            if chunk is not None:
                self._sums[path][number] = chunk_sum(chunk)
                corner = np.unravel_index(number, form.grid)
                start = tuple(int(i) * n for i, n in zip(corner, form.layout.chunk, strict=True))
                target.write_direct_chunk(start, chunk, 0)

    def _parts(self) -> tuple[int, int, Index]:
        """Offsets of the document and of the index, and what that is to hold."""
        self._file.flush()
        arrays = {}
        for path, form in self._forms.items():
            spans = np.full((form.chunk_count, 2), ABSENT, np.uint64)
            for corner, span in self._chunks_of(path):
                numbers = (i // n for i, n in zip(corner, form.layout.chunk, strict=True))
                spans[np.ravel_multi_index(tuple(numbers), form.grid)] = span
            arrays[path] = ChunkTable(self._filters[path], spans, self._sums[path])
        index = self._index(arrays)
        at, index_at = (self._file[path].id.get_offset() for path in (DOCUMENT, INDEX))
        return at, index_at, index

    def _index(self, arrays: Mapping[str, ChunkTable]) -> Index:
        """The index of chunks of the dataset, with those of others', which are all there."""
        own = [span for path in self._own if self._is_cut(path) for _, span in self._chunks_of(path)]
        return Index(arrays, tuple(self._own), np.array(own, np.uint64).reshape(-1, 2))

    def reserve_index(self) -> None:
        """Give the index its place, before all chunks: of a file that is cut short it is there.

        Nothing but chunks may be put afterwards.
        """
        self._file.flush()
        nowhere = {
            path: ChunkTable(
                self._filters[path], np.full((form.chunk_count, 2), ABSENT, np.uint64), self._sums[path]
            )
            for path, form in self._forms.items()
        }
        self._put_bytes(INDEX, (len(self._index(nowhere).encode()),))

    def _is_cut(self, path: str) -> bool:
        return getattr(self._file[path], "chunks", None) is not None

    def _chunks_of(self, path: str) -> list[tuple[tuple[int, ...], tuple[int, int]]]:
        """Corner, and offset and bytes, of all chunks of an array that are there."""
        found: list[tuple[tuple[int, ...], tuple[int, int]]] = []
        self._file[path].id.chunk_iter(
            lambda chunk: found.append((tuple(chunk.chunk_offset), (chunk.byte_offset, chunk.size)))
        )
        return found

    def put_scales(self) -> None:
        """Give each axis of all arrays that are there a scale, which carries its name."""
        for path in (*self._forms, *self._own):
            thing = self._file[path]
            for axis, length in enumerate(getattr(thing, "shape", ())):
                # Others' arrays that bear the name of their own axis are scales themselves.
                if (label := thing.dims[axis].label) and not thing.is_scale:
                    scale = self._scale(path, label, length)
                    if scale != thing:
                        thing.dims[axis].attach_scale(scale)

    def _scale(self, path: str, name: str, length: int) -> Any:
        """The scale of an axis: the root's if that has one like it, else one beside the array."""
        group = path.rpartition("/")[0]
        for place in ("", group):
            scale = self._file.get(f"{place}/{name}")
            if getattr(scale, "shape", None) == (length,) and self._may_scale(scale):
                return scale
        place = f"{group}/{name}"
        while place in self._file:
            place += "_"
        # It is never written: its length is all that there is to it.
        scale = self._file.create_dataset(place, (length,), ">f4", track_times=False)
        scale.make_scale(_NO_VALUES % length)
        return scale

    def _may_scale(self, array: Any) -> bool:
        """Whether an array is a scale, or one of others' that becomes one by the name of its axis."""
        path = array.name.lstrip("/")
        if not array.is_scale and path in self._own and array.dims[0].label == path.rpartition("/")[2]:
            array.make_scale(array.dims[0].label)
        return bool(array.is_scale)


def _own_value(value: Any) -> Any:
    """An attribute of others' as HDF5 has it: text, and numbers and lists of them; ``None`` for all else."""
    if isinstance(value, str):
        return None if "\0" in value else value
    try:
        numbers = np.array(value)
    except (ValueError, OverflowError):
        return None
    return numbers if numbers.size and numbers.dtype.kind in "biuf" else None


def _seal(path: Path, text: bytes, at: int, index_at: int, index: Index) -> None:
    """Write document and index into a file that is closed otherwise."""
    content = index.encode()
    file = os.open(path, os.O_RDWR)
    try:
        write_through(file, index_at, content)
        digest, place = hashlib.sha256(content).hexdigest(), (index_at, len(content))
        front = Front(1, at, capacity_for(text), place, digest, "", text)
        write_front(file, replace(front, seal=seal_of(file, front, index)))
    finally:
        os.close(file)


def open_partial(h5py: Any, partial: PartialFile, *, portable: bool) -> Any:
    """A new file that is not whole yet as an ``h5py.File``, to be closed before it is published.

    The format of HDF5 1.10 has checksums of most metadata; the oldest one, of a portable file, has none.
    """
    versions = ("earliest" if portable else "v110", "v110")
    try:
        return h5py.File(partial.path, "w", locking=False, libver=versions)
    except BlockingIOError:
        # The environment has the HDF5 library lock whatever it opens: its lock replaces ours.
        partial.unlock()
        return h5py.File(partial.path, "w", libver=versions)


@contextmanager
def hdf5_errors() -> Iterator[None]:
    """Turn what the HDF5 library says of an error of the system into that OSError."""
    try:
        yield
    except (OSError, RuntimeError) as exc:
        match = _SYSTEM_ERROR.search(str(exc))
        if match is None:
            raise
        raise OSError(int(match[1]), os.strerror(int(match[1]))) from exc

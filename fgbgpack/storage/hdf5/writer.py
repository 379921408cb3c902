"""Writing an HDF5 file: whole, under a name of its own, and then renamed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fgbgpack.document import ATTRIBUTE, Document
from fgbgpack.files import PartialFile, replacing_file
from fgbgpack.storage.arrays import ArrayForm, Node
from fgbgpack.storage.codecs import ChunkCodec, DeflateChunk
from fgbgpack.storage.hdf5.form import ORDER, ZARR, as_text, filters_of, h5py_for, register_filters

# In the HDF5 library's message about an error of the system.
_SYSTEM_ERROR = re.compile(r"errno = (\d+)")

#: A scale is stored beside its arrays and needs a name of its own there: these names are taken.
_SCALES = {"y": "height", "x": "width", "background": "backgrounds", "foreground": "foregrounds"}
# What the netCDF library writes as the name of a scale that has no values of its own.
_NO_VALUES = "This is a netCDF dimension but not a netCDF variable.%10d"


class Hdf5Writer:
    """Writes one file, ``portable`` ones deflated; one that is there is replaced when the new one is whole.

    Raises DatasetError if h5py or hdf5plugin is
    not installed, and OSError if the file cannot be written.
    """

    def __init__(self, path: Path, *, portable: bool) -> None:
        self._path, self._portable = path, portable
        self._h5py: Any = h5py_for(str(path))
        if not portable:
            register_filters(str(path))
        self._forms: dict[str, ArrayForm] = {}
        self._file: Any = None

    @contextmanager
    def open(self) -> Iterator[Hdf5Writer]:
        """Open the file; it is published when the block succeeds, and an error leaves nothing."""
        with hdf5_errors(), replacing_file(self._path) as partial:
            self._file = open_partial(self._h5py, partial, "w", portable=self._portable)
            try:
                yield self
            except BaseException:
                # What is left to be written may not fit any more, too.
                with suppress(OSError, RuntimeError):
                    self._file.close()
                raise
            self._file.close()

    def put_root(self, node: Node, document: Document, order: Sequence[str]) -> None:
        """Set the root's metadata, the document, and the order of the paths of all nodes below."""
        self._file.attrs[ZARR] = as_text(node)
        self._file.attrs[ORDER] = as_text(order)
        self._file.attrs[ATTRIBUTE] = as_text(document.to_dict())

    def put_group(self, path: str, node: Node) -> None:
        """Make a group."""
        self._file.create_group(path).attrs[ZARR] = as_text(node)

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
        links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        kind = h5py.h5t.py_create(form.dtype, logical=True)
        array = h5py.Dataset(h5py.h5d.create(self._file.id, path.encode(), kind, space, creation, links))
        array.attrs[ZARR] = as_text(node)
        for axis, name in enumerate(node.get("dimension_names") or []):
            array.dims[axis].label = name
        for name, value in node["attributes"].items():
            if value is not None:
                array.attrs[name] = value if isinstance(value, (str, int, float)) else as_text(value)
        self._forms[path] = form
        return codec

    def put_chunks(self, path: str, first: int, chunks: Sequence[bytes | None]) -> None:
        """Write chunks that follow one another in C order, from number ``first`` on; ``None`` is left out."""
        form = self._forms[path]
        target = self._file[path].id
        for number, chunk in enumerate(chunks, start=first):
            if chunk is not None:
                corner = np.unravel_index(number, form.grid)
                start = tuple(int(i) * n for i, n in zip(corner, form.layout.chunk, strict=True))
                target.write_direct_chunk(start, chunk, 0)

    def put_scales(self) -> None:
        """Give each axis of all arrays that are there a scale, which carries its name."""
        for path, form in self._forms.items():
            array = self._file[path]
            for axis, length in enumerate(form.layout.shape):
                dimension = array.dims[axis]
                if dimension.label:
                    dimension.attach_scale(self._scale(path, dimension.label, length))

    def _scale(self, path: str, name: str, length: int) -> Any:
        """The scale of an axis: the root's if that has one like it, else one beside the array."""
        called = _SCALES.get(name, name)
        group = path.rpartition("/")[0]
        for place in ("", group):
            scale = self._file.get(f"{place}/{called}")
            if scale is not None and scale.is_scale and scale.shape == (length,):
                return scale
        # It is never written: its length is all that there is to it.
        scale = self._file.create_dataset(f"{group}/{called}", (length,), ">f4", track_times=False)
        scale.make_scale(_NO_VALUES % length)
        return scale


def open_partial(h5py: Any, partial: PartialFile, mode: str, *, portable: bool) -> Any:
    """A file that is not whole yet as an ``h5py.File``, to be closed before it is published.

    The format of HDF5 1.10 has checksums of all metadata; the oldest one, of a portable file, has none.
    """
    versions = ("earliest" if portable else "v110", "v110")
    try:
        return h5py.File(partial.path, mode, locking=False, libver=versions)
    except BlockingIOError:
        # The environment has the HDF5 library lock whatever it opens: its lock replaces ours.
        partial.unlock()
        return h5py.File(partial.path, mode, libver=versions)


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

"""Datasets as HDF5 files: how one is written, and how it is read as the Zarr store that it is a copy of.

An array of the file has the path of the Zarr array, and its chunks, which hold the same compressed bytes:
only the checksum behind them is HDF5's Fletcher-32 in place of Zarr's CRC-32C. So chunks are copied and not
made anew, and any HDF5 library that has the filters zstd and blosc reads them. Two arrays of bytes in the
group ``/fgbgpack`` hold the document and where all chunks are, each with a checksum.

- ``form``: what HDF5 calls the ways in which Zarr arrays are cut and encoded.
- ``parts``: the document, the index and the seal, which are read and written without the HDF5 library.
- ``writer``: a file is only ever written whole, under a name of its own, and then renamed.
- ``file``: reading one, by any number of threads and processes. No handle of the HDF5 library's stays open,
  so that nothing of it is carried over a fork.
- ``probe`` and ``child``: the HDF5 library is asked about files that have changed, in another process.
- ``store``: the file as a Zarr store.
- ``salvage``: what is whole of a damaged file, and what others have made of one.
- ``repack``: a file without room for its document is written anew.
"""

from fgbgpack.storage.hdf5.file import Hdf5File, StoredChunks, chunk_sum, root_of, root_text
from fgbgpack.storage.hdf5.form import ATTRIBUTE_BYTES, SUFFIXES, UNFINISHED, is_hdf5
from fgbgpack.storage.hdf5.parts import GROUP
from fgbgpack.storage.hdf5.probe import NOT_CLOSED, OwnNode, require_unused
from fgbgpack.storage.hdf5.salvage import ChangedFile, SalvagedFile
from fgbgpack.storage.hdf5.store import DerivedStore, FileStore, Hdf5Store, span_of
from fgbgpack.storage.hdf5.writer import Hdf5Writer

__all__ = [
    "ATTRIBUTE_BYTES",
    "GROUP",
    "NOT_CLOSED",
    "SUFFIXES",
    "UNFINISHED",
    "ChangedFile",
    "DerivedStore",
    "FileStore",
    "Hdf5File",
    "Hdf5Store",
    "Hdf5Writer",
    "OwnNode",
    "SalvagedFile",
    "StoredChunks",
    "chunk_sum",
    "is_hdf5",
    "require_unused",
    "root_of",
    "root_text",
    "span_of",
]

"""Datasets as HDF5 files: how one is written, and how it is read as the Zarr store that it is a copy of.

An array of the file has the path of the Zarr array, and its chunks, which hold the same compressed bytes:
only the checksum behind them is HDF5's Fletcher-32 in place of Zarr's CRC-32C. So chunks are copied and not
made anew, and any HDF5 library that has the filters zstd and blosc reads them. The attribute ``zarr`` of
groups and arrays holds the metadata that they have as Zarr, and the attribute ``fgbgpack`` of the root the
document.

- ``form``: what HDF5 calls the ways in which Zarr arrays are cut and encoded.
- ``writer``: a file is only ever written whole, under a name of its own, and then renamed.
- ``file``: the HDF5 library tells the offsets of chunks; they are read without it, by any number of threads
  and processes. No handle of it stays open, so that nothing of it is carried over a fork.
- ``store``: the file as a Zarr store.
"""

from fgbgpack.storage.hdf5.form import UNFINISHED, is_hdf5
from fgbgpack.storage.hdf5.store import DerivedStore, Hdf5Store, root_of, span_of
from fgbgpack.storage.hdf5.writer import Hdf5Writer

__all__ = ["UNFINISHED", "DerivedStore", "Hdf5Store", "Hdf5Writer", "is_hdf5", "root_of", "span_of"]

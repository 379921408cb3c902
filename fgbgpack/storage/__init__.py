"""Bytes on disk: layout, codecs, sharding, stores, the array reader, HDF5."""

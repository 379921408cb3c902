"""Where a dataset is, and the Zarr store that it is opened with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from fgbgpack.errors import DatasetError
from fgbgpack.storage.hdf5 import Hdf5Store, is_hdf5

#: Where a dataset is: a local folder, an HDF5 file, a URL that fsspec opens, or a Zarr store.
Target: TypeAlias = str | os.PathLike[str] | Store


def zarr_store(target: Target, *, read_only: bool) -> Store:
    """The Zarr store of a target.

    Raises DatasetError if a local path to be read is missing or no dataset, an HDF5 file is to be written, or
    a URL cannot be opened.
    """
    if isinstance(target, Store):
        return target
    if str(target).startswith("file://"):
        target = url2pathname(urlsplit(str(target)).path)
    elif "://" in str(target):
        return _remote_store(str(target), read_only)
    # The process may change its folder, and other processes may have another one.
    path = Path(target).absolute()
    if path.is_symlink() and not path.exists():
        raise DatasetError(
            f"{target} is a link to {path.readlink()}, which is not there: make that folder, or remove "
            "the link.",
            code="target-is-broken-link",
        )
    if path.is_file() or (is_hdf5(path) and not path.is_dir()):
        if not read_only:
            raise DatasetError(
                f"{target} is {'an HDF5' if is_hdf5(path) else 'a'} file, which is not written here: make a "
                "folder (Zarr); fgbgpack convert makes HDF5 of that, and that of HDF5.",
                code="target-is-file",
            )
        return Hdf5Store(path)
    if read_only and not path.is_dir():
        raise DatasetError(f"There is no dataset at {target}: no such folder.", code="dataset-missing")
    return LocalStore(path, read_only=read_only)


def _remote_store(url: str, read_only: bool) -> Store:
    try:
        return FsspecStore.from_url(url, read_only=read_only)
    except ImportError as exc:
        raise DatasetError(
            f"{url} is a URL, which needs fsspec and the package of its protocol: pip install fsspec ({exc})",
            code="extra-missing",
        ) from exc
    except ValueError as exc:
        raise DatasetError(f"{url} is a URL that fsspec does not open: {exc}.", code="url-unknown") from exc


def writable(store: Store, name: str) -> Store:
    """The same store to be written, where it was opened for reading; DatasetError if it cannot be."""
    try:
        return store.with_read_only(False) if store.read_only else store
    except NotImplementedError as exc:
        raise DatasetError(f"{name} cannot be written: {exc}.", code="store-read-only") from exc

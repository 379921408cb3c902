"""Where a dataset is, and the Zarr store that it is opened with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

from zarr import Group
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.inputs import parse_json
from fgbgpack.storage.hdf5 import SUFFIXES, Hdf5Store, is_hdf5

#: Where a dataset is: a local folder, an HDF5 file, a URL that fsspec opens (or obstore, where it begins with
#: ``obstore+``), a Zarr store, or its root group.
Target: TypeAlias = str | os.PathLike[str] | Store | Group
#: The environment variable with options for URLs, as a JSON object.
OPTIONS_VARIABLE = "FGBGPACK_STORAGE_OPTIONS"

#: What names of archives, and of files of other libraries, end with.
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".npz", ".npy", ".mat", ".parquet", ".lmdb", ".nc")
#: What a URL begins with that obstore opens.
_OBSTORE = "obstore+"


def name_of(target: Target) -> str:
    """What messages call a target."""
    return str(target.store) if isinstance(target, Group) else str(target)


def zarr_store(target: Target, *, read_only: bool, storage_options: Mapping[str, Any] | None = None) -> Store:
    """The Zarr store of a target; ``storage_options`` are those of fsspec for a URL, and default to those of
    the environment.

    Raises DatasetError if a local path to be read is missing or no dataset, an HDF5 file is to be written, or
    a URL cannot be opened; SpecError for options that cannot be used.
    """
    is_url = isinstance(target, (str, os.PathLike)) and "://" in str(target)
    if storage_options is not None and not is_url:
        raise SpecError(
            f"storage_options: {name_of(target)} is no URL and takes none.", code="options-conflict"
        )
    if isinstance(target, Group):
        if target.path:
            raise DatasetError(
                f"{target} is a group inside {target.store}: only the root group of a store can be a "
                "dataset. Open the store, or the URL, of the group itself.",
                code="target-unsupported",
            )
        target = target.store
    if isinstance(target, Store):
        if not isinstance(target, LocalStore):
            _open(target)
        return target
    if not read_only:
        require_writable_name(target)
    if str(target).startswith("file://"):
        target = url2pathname(urlsplit(str(target)).path)
    elif "://" in str(target):
        return _remote_store(str(target), read_only, storage_options)
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
                f"{target} is {'an HDF5' if is_hdf5(path) else 'a'} file, which is not written here: give "
                "another place, such as lobby.zarr or lobby.h5.",
                code="target-is-file",
            )
        return Hdf5Store(path, name=str(target))
    if read_only and not path.is_dir():
        raise DatasetError(f"There is no dataset at {target}: no such folder.", code="dataset-missing")
    return LocalStore(path, read_only=read_only)


def require_writable_name(target: Target) -> None:
    """Refuses names that promise another form than would be written under them: archives, and HDF5 files at a
    URL. Raises DatasetError, ``target-unsupported``.
    """
    if isinstance(target, (Store, Group)):
        return
    text = os.fspath(target)
    name = text.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    if "://" in text and name.endswith(SUFFIXES):
        raise DatasetError(
            f"{text}: HDF5 files are written to this machine only. Give a path and copy the file, or another "
            "name for a dataset of many objects (Zarr).",
            code="target-unsupported",
        )
    if name.endswith(_ARCHIVES):
        raise DatasetError(
            f"{text}: datasets are written as folders (Zarr) or HDF5 files. Give a name such as lobby.zarr, "
            "and pack the folder when it is complete.",
            code="target-unsupported",
        )


def _open(store: Store) -> None:
    """Open a store that was only made: until then one of a zip file has neither a file nor a lock."""
    try:
        sync(store._ensure_open())
    except FileNotFoundError as exc:
        raise DatasetError(f"There is no dataset at {store}: {exc}.", code="dataset-missing") from exc
    except Exception as exc:  # each kind of store has errors of its own
        raise DatasetError(f"{store} cannot be opened: {exc}.", code="io-failed") from exc


def _options_of_environment() -> dict[str, Any]:
    text = os.environ.get(OPTIONS_VARIABLE, "")
    try:
        options = parse_json(text.encode()) if text else {}
    except ValueError as exc:
        raise SpecError(f"{OPTIONS_VARIABLE} is not JSON: {exc}.", code="option-invalid") from exc
    if not isinstance(options, dict):
        raise SpecError(
            f'{OPTIONS_VARIABLE}: found {text!r}, expected an object such as {{"anon": true}}.',
            code="option-invalid",
        )
    return options


def _remote_store(url: str, read_only: bool, options: Mapping[str, Any] | None) -> Store:
    options = _options_of_environment() if options is None else dict(options)
    if url.startswith(_OBSTORE):
        return _object_store(url, read_only, options)
    try:
        return FsspecStore.from_url(url, read_only=read_only, storage_options=options or None)
    except TypeError as exc:
        raise SpecError(
            f"storage_options: {url} cannot be opened with {', '.join(options)}: {exc}.",
            code="option-invalid",
        ) from exc
    except ImportError as exc:
        raise DatasetError(
            f"{url} is a URL, which needs fsspec and the package of its protocol: pip install fsspec ({exc})",
            code="extra-missing",
        ) from exc
    except ValueError as exc:
        raise DatasetError(f"{url} is a URL that fsspec does not open: {exc}.", code="url-unknown") from exc


def _object_store(url: str, read_only: bool, options: Mapping[str, Any]) -> Store:
    try:
        from obstore.store import from_url
    except ImportError as exc:
        raise DatasetError(f"{url} needs obstore: pip install obstore ({exc})", code="extra-missing") from exc
    try:
        return ObjectStore(from_url(url.removeprefix(_OBSTORE), **options), read_only=read_only)
    except Exception as exc:  # it has errors of its own for each kind of store
        raise DatasetError(f"{url} is a URL that obstore does not open: {exc}.", code="url-unknown") from exc


def writable(store: Store, name: str) -> Store:
    """The same store to be written, where it was opened for reading; DatasetError if it cannot be."""
    try:
        return store.with_read_only(False) if store.read_only else store
    except NotImplementedError as exc:
        raise DatasetError(f"{name} cannot be written: {exc}.", code="store-read-only") from exc

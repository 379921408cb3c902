"""Where a dataset is, and the Zarr store that it is opened with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

from zarr import Group
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from fgbgpack.errors import DatasetError, MissingPackageError, SpecError, redacted
from fgbgpack.inputs import parse_json
from fgbgpack.storage.hdf5 import SUFFIXES, Hdf5Store, is_hdf5
from fgbgpack.storage.objects import is_object_url, open_objects
from fgbgpack.storage.zipped import SUFFIX, LocalZipStore, RemoteZipStore, is_zip

#: Where a dataset is: a local folder, an HDF5 or a zip file, a URL of an object store (which obstore opens)
#: or of another place (fsspec), a Zarr store, or its root group.
Target: TypeAlias = str | os.PathLike[str] | Store | Group
#: The environment variable with options for URLs, as a JSON object.
OPTIONS_VARIABLE = "FGBGPACK_STORAGE_OPTIONS"

#: What names of archives, and of files of other libraries, end with.
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".npz", ".npy", ".mat", ".parquet", ".lmdb", ".nc")


class Located(os.PathLike[str]):
    """A URL with the options that its store is opened with. Shown is the URL alone, without passwords,
    signatures and options.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any]) -> None:
        self.url, self.storage_options = url, dict(storage_options)

    def __fspath__(self) -> str:
        return redacted(self.url)

    def __str__(self) -> str:
        return redacted(self.url)

    def __repr__(self) -> str:
        return f"Located({redacted(self.url)!r})"


def is_url(target: object) -> bool:
    """Whether a target is a URL, of this machine's files or another place."""
    return isinstance(target, (str, os.PathLike)) and "://" in str(target)


def is_elsewhere(target: object) -> bool:
    """Whether a target is a URL of another place than the files of this machine."""
    return is_url(target) and not str(target).startswith("file://")


def located(target: Target, storage_options: Mapping[str, Any] | None) -> Target:
    """A target, with the options that its store is opened with if it is a URL; else they are refused
    (SpecError).
    """
    return located_all([target], storage_options)[0]


def located_all(targets: Sequence[Target], storage_options: Mapping[str, Any] | None) -> list[Target]:
    """Several targets, with the same options for those that are URLs, of which there must be one."""
    if storage_options is None:
        return list(targets)
    if not any(map(is_url, targets)):
        names = " and ".join(map(name_of, targets))
        raise SpecError(f"storage_options: {names} is no URL and takes none.", code="options-conflict")
    return [Located(_url_of(one), storage_options) if is_url(one) else one for one in targets]


def name_of(target: Target) -> str:
    """What messages call a target: nothing secret is in it."""
    if isinstance(target, Group):
        target = target.store
    return redacted(str(target)) if is_url(target) or isinstance(target, Store) else str(target)


def _url_of(target: object) -> str:
    return target.url if isinstance(target, Located) else str(target)


def zarr_store(target: Target, *, read_only: bool, storage_options: Mapping[str, Any] | None = None) -> Store:
    """The Zarr store of a target; ``storage_options`` are those that obstore or fsspec opens a URL with,
    beside those of the environment.

    Raises DatasetError if a local path to be read is missing or no dataset, an HDF5 file is to be written, or
    a URL cannot be opened; SpecError for options that cannot be used; MissingPackageError where the package
    that opens such a URL is not installed.
    """
    target = located(target, storage_options)
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
    if is_elsewhere(target):
        return _remote_store(target, read_only)
    if is_url(target):  # of a file
        target = url2pathname(urlsplit(str(target)).path)
    # The process may change its folder, and other processes may have another one.
    path = Path(target).absolute()
    if path.is_symlink() and not path.exists():
        raise DatasetError(
            f"{target} is a link to {path.readlink()}, which is not there: make that folder, or remove "
            "the link.",
            code="target-is-broken-link",
        )
    if read_only and path.is_file() and is_zip(path) and not is_hdf5(path):
        return LocalZipStore(path, name=str(target))
    if path.is_file() or (is_hdf5(path) and not path.is_dir()):
        if not read_only:
            raise DatasetError(
                f"{target} is {'an HDF5' if is_hdf5(path) else 'a'} file, which is not written here: give "
                "another place, such as lobby.zarr or lobby.h5.",
                code="target-is-file",
            )
        return Hdf5Store(path, name=str(target))
    if read_only and not path.is_dir():
        kind = "file" if path.suffix.lower() == SUFFIX else "folder"
        raise DatasetError(f"There is no dataset at {target}: no such {kind}.", code="dataset-missing")
    return LocalStore(path, read_only=read_only)


def require_writable_name(target: Target) -> None:
    """Refuses names that promise another form than would be written under them: archives, and HDF5 files at a
    URL. Raises DatasetError, ``target-unsupported``.
    """
    if isinstance(target, (Store, Group)):
        return
    text = name_of(target)
    name = _last_part(text)
    if "://" in text and name.endswith(SUFFIXES):
        raise DatasetError(
            f"{text}: HDF5 files are written to this machine only. Give a path and copy the file, or another "
            "name for a dataset of many objects (Zarr).",
            code="target-unsupported",
        )
    if name.endswith(_ARCHIVES):
        raise DatasetError(
            f"{text}: datasets are written as folders (Zarr) or HDF5 files. Give a name such as lobby.zarr, "
            "and pack it with fgbgpack pack when it is complete.",
            code="target-unsupported",
        )


def _last_part(path: str) -> str:
    """The last part of a path or a URL, in lower case."""
    return path.partition("?")[0].replace("\\", "/").rstrip("/").rpartition("/")[2].lower()


def _open(store: Store) -> None:
    """Open a store that was only made: until then one of a zip file has neither a file nor a lock."""
    name = name_of(store)
    try:
        sync(store._ensure_open())
    except FileNotFoundError as exc:
        raise DatasetError(
            f"There is no dataset at {name}: {redacted(str(exc))}.", code="dataset-missing"
        ) from exc
    except Exception as exc:  # each kind of store has errors of its own
        raise DatasetError(f"{name} cannot be opened: {redacted(str(exc))}.", code="io-failed") from exc


def _options_of_environment() -> dict[str, Any]:
    text = os.environ.get(OPTIONS_VARIABLE, "")
    try:
        options = parse_json(text.encode()) if text else {}
    except ValueError as exc:
        raise SpecError(f"{OPTIONS_VARIABLE} is not JSON: {exc}.", code="option-invalid") from exc
    if not isinstance(options, dict):
        raise SpecError(
            f'{OPTIONS_VARIABLE}: expected an object such as {{"anon": true}}.',
            code="option-invalid",
        )
    return options


def _remote_store(target: Target, read_only: bool) -> Store:
    url, name = _url_of(target), name_of(target)
    if _last_part(name).endswith(SUFFIXES):
        raise DatasetError(
            f"{name}: HDF5 files are read on this machine only. Download it, and give its path.",
            code="target-unsupported",
        )
    is_packed = read_only and _last_part(name).endswith(SUFFIX)
    options = _options_of_environment()
    if isinstance(target, Located):
        options |= target.storage_options
    if is_object_url(url):
        if is_packed:
            folder, _, file = url.partition("?")[0].rstrip("/").rpartition("/")
            return RemoteZipStore(open_objects(folder, options, read_only=True), file, name)
        return open_objects(url, options, read_only=read_only)
    try:
        parsed = {name: _typed(value) for name, value in options.items()}
        store = FsspecStore.from_url(url, read_only=read_only, storage_options=parsed or None)
        # Its path is the file itself, with the signature of its address if there is one.
        return RemoteZipStore(store, "", name) if is_packed else store
    except TypeError:
        raise SpecError(
            f"storage_options: {name} cannot be opened with {', '.join(options)}.", code="option-invalid"
        ) from None
    except ImportError as exc:
        raise MissingPackageError(
            f"{name} needs fsspec and the package of its protocol: pip install fsspec ({exc})."
        ) from exc
    except ValueError as exc:
        message = f"{name} is a URL that fsspec does not open: {redacted(str(exc))}."
        raise DatasetError(message, code="url-unknown") from None


def _typed(value: Any) -> Any:
    """What text means to fsspec, whose options have types: JSON, where it is that."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def writable(store: Store, name: str) -> Store:
    """The same store to be written, where it was opened for reading; DatasetError if it cannot be."""
    try:
        return store.with_read_only(False) if store.read_only else store
    except NotImplementedError as exc:
        raise DatasetError(f"{name} cannot be written: {exc}.", code="store-read-only") from exc

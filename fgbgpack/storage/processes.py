"""Stores in forked processes. Connections, event loops and offsets in files are those of the parent there."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import threading
import weakref
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore, ObjectStore, WrapperStore, ZipStore

from fgbgpack.errors import DatasetError
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.over import StoreOver
from fgbgpack.storage.zipped import LocalZipStore

#: Packages whose stores run on threads of native code, which a forked process does not have.
_NATIVE = ("obstore", "icechunk")

#: The process that each store belongs to. Stores cannot be keys: most have no hash.
_process_of: dict[int, tuple[weakref.ref[Store], int]] = {}
_lock = threading.Lock()
#: The process that has used native stores; those that are forked from it cannot.
_native_process: int | None = None
#: The module of obstore that is native code.
_LIBRARY = "obstore._obstore"
#: The modules of obstore that a forked process has from its parent, where it has loaded its own.
_of_parent: dict[str, ModuleType] = {}
#: What forked processes have left unused of their parents: closing it would close the parents' connections.
_left_alone: list[dict[str, Any]] = []


def _unwrapped(store: Store) -> Store:
    while isinstance(store, (WrapperStore, StoreOver)):
        store = store._store
    return store


def is_native(store: Store) -> bool:
    """Whether a store runs on threads of native code, so that no process may be forked from its user."""
    store = _unwrapped(store)
    return isinstance(store, ObjectStore) or type(store).__module__.partition(".")[0] in _NATIVE


def is_far_away(store: Store) -> bool:
    """Whether a store is asked for values over a network, or may be: all but folders, archives, HDF5 files
    and Zarr's memory. Less certain than ``Keys.is_far``: reading ahead costs little where it is not needed.
    """
    store = _unwrapped(store)
    return not isinstance(store, (LocalStore, LocalZipStore, MemoryStore, ZipStore, Hdf5Store))


def usable(store: Store) -> Store:
    """The store, made usable in this process: in a forked one it is opened anew, in its place.

    Raises DatasetError for a store of a native runtime that would wait for ever in a forked process.
    """
    if isinstance(store, (LocalStore, LocalZipStore, MemoryStore)):
        return store
    process = os.getpid()
    if is_native(store):
        _check_native(store, process)
    known = _process_of.get(id(store))
    if known is not None and known[0]() is store and known[1] == process:
        return store
    with _lock:
        known = _process_of.get(id(store))
        is_known = known is not None and known[0]() is store
        if (is_known and known is not None and known[1] != process) or _is_of_parent(store):
            _open_anew(store)
        number = id(store)
        _process_of[number] = weakref.ref(store, lambda _: _process_of.pop(number, None)), process
    return store


def _check_native(store: Store, process: int) -> None:
    """Raises DatasetError where a store runs on threads that this process has not, and cannot have."""
    global _native_process
    if _native_process is None:
        _native_process = process
    elif _native_process != process:
        with _lock:
            if _native_process == process:
                return
            if not _renew_obstore(store):
                raise _forked(store)
            _native_process = process


def _forked(store: Store) -> DatasetError:
    return DatasetError(
        f"{store} runs on threads of native code, which this process lacks: it was forked from one that "
        "had used such a store. Start it by spawn or forkserver, as make_loader does by default.",
        code="store-forked",
    )


def _renew_obstore(store: Store) -> bool:
    """Load obstore once more in a forked process, whose copy of it waits for the threads of the parent.

    Its library is loaded from a copy in memory, since the system loads each file once. Returns whether the
    store can be used with it.
    """
    store = _unwrapped(store)
    native = sys.modules.get(_LIBRARY)
    file = getattr(native, "__file__", None)
    if not isinstance(store, ObjectStore) or file is None or not hasattr(os, "memfd_create"):
        return False
    copy = os.memfd_create("obstore")
    with Path(file).open("rb") as library, os.fdopen(copy, "wb", closefd=False) as target:
        shutil.copyfileobj(library, target, 1 << 20)
    names = [name for name in sys.modules if name.partition(".")[0] == "obstore"]
    _of_parent.update({name: sys.modules.pop(name) for name in names})
    loader = ExtensionFileLoader(_LIBRARY, f"/proc/self/fd/{copy}")
    spec = spec_from_loader(_LIBRARY, loader)
    if spec is None:
        return False
    module = module_from_spec(spec)
    sys.modules[_LIBRARY] = module
    loader.exec_module(module)
    return True


def _is_of_parent(store: Store) -> bool:
    """Whether a store is of the modules that this process has from its parent, and has replaced."""
    store = _unwrapped(store)
    if not (_of_parent and isinstance(store, ObjectStore)):
        return False
    kind: type = type(store.store)
    return getattr(sys.modules.get(kind.__module__), kind.__name__, kind) is not kind or (
        kind.__module__ in _of_parent and kind.__module__ not in sys.modules
    )


def _pickled(store: Store) -> bytes:
    """A store as bytes; one of the parent belongs to modules that may have been replaced."""
    names = [name for name in sys.modules if name.partition(".")[0] == "obstore"]
    own = {name: sys.modules[name] for name in names if _of_parent}
    sys.modules.update(_of_parent)
    try:
        return pickle.dumps(store)
    finally:
        for name in _of_parent:
            sys.modules.pop(name, None)
        sys.modules.update(own)


def _open_anew(store: Store) -> None:
    try:
        fresh: Store = pickle.loads(_pickled(store))  # noqa: S301 what it has just written
    except Exception as exc:  # some stores cannot be pickled, and need not
        if is_native(store):
            raise _forked(store) from exc
        return
    _left_alone.append(dict(store.__dict__))
    store.__dict__.clear()
    store.__dict__.update(fresh.__dict__)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

"""Stores in forked processes. Connections, event loops and offsets in files are those of the parent there."""

from __future__ import annotations

import os
import pickle
import threading
import weakref
from typing import Any

from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore, ObjectStore, WrapperStore

from fgbgpack.errors import DatasetError

#: Packages whose stores run on threads of native code, which a forked process does not have.
_NATIVE = ("obstore", "icechunk")

#: The process that each store belongs to. Stores cannot be keys: most have no hash.
_process_of: dict[int, tuple[weakref.ref[Store], int]] = {}
_lock = threading.Lock()
#: The process that has used native stores; those that are forked from it cannot.
_native_process: int | None = None
#: What forked processes have left unused of their parents: closing it would close the parents' connections.
_left_alone: list[dict[str, Any]] = []


def is_native(store: Store) -> bool:
    """Whether a store runs on threads of native code, so that no process may be forked from its user."""
    while isinstance(store, WrapperStore):
        store = store._store
    return isinstance(store, ObjectStore) or type(store).__module__.partition(".")[0] in _NATIVE


def usable(store: Store) -> Store:
    """The store, made usable in this process: in a forked one it is opened anew, in its place.

    Raises DatasetError for a store of a native runtime, which would wait for ever in a forked process.
    """
    if isinstance(store, (LocalStore, MemoryStore)):
        return store
    process = os.getpid()
    if is_native(store):
        _check_native(store, process)
    known = _process_of.get(id(store))
    if known is not None and known[0]() is store and known[1] == process:
        return store
    with _lock:
        known = _process_of.get(id(store))
        if known is not None and known[0]() is store and known[1] != process:
            _open_anew(store)
        number = id(store)
        _process_of[number] = weakref.ref(store, lambda _: _process_of.pop(number, None)), process
    return store


def _check_native(store: Store, process: int) -> None:
    global _native_process
    if _native_process is None:
        _native_process = process
    elif _native_process != process:
        raise DatasetError(
            f"{store} runs on threads of native code, which this process lacks: it was forked from one that "
            "had used such a store. Start it by spawn or forkserver, as make_loader does by default.",
            code="store-forked",
        )


def _open_anew(store: Store) -> None:
    try:
        fresh: Store = pickle.loads(pickle.dumps(store))  # noqa: S301 what it has just written
    except Exception:  # some stores cannot be pickled, and need not
        return
    _left_alone.append(dict(store.__dict__))
    store.__dict__.clear()
    store.__dict__.update(fresh.__dict__)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

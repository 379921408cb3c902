"""How kernels are compiled, and the array types that they take."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bool: TypeAlias = NDArray[np.bool_]
UInt8: TypeAlias = NDArray[np.uint8]
UInt16: TypeAlias = NDArray[np.uint16]
UInt32: TypeAlias = NDArray[np.uint32]
UInt64: TypeAlias = NDArray[np.uint64]
Int8: TypeAlias = NDArray[np.int8]
Int16: TypeAlias = NDArray[np.int16]
Int32: TypeAlias = NDArray[np.int32]
Int64: TypeAlias = NDArray[np.int64]

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile ``function`` without the GIL, cached on disk, with exact (not fast) arithmetic.

    Kernels run on ordinary Python threads: no ``prange`` and no threading layer, which would
    not survive a fork. Where no folder can be written that they could be kept in, each process compiles
    them for itself.
    """
    compiled: Any = njit(nogil=True, fastmath=False)(function)
    # With NUMBA_DISABLE_JIT it is the function itself.
    if hasattr(compiled, "enable_caching"):
        with suppress(RuntimeError):
            compiled.enable_caching()
            compiled._cache = _OptionalCache(compiled._cache)
    return cast(F, compiled)


class _OptionalCache:
    """A cache of Numba's that is done without where it cannot be read or written: the disk may be full."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, signature: object, context: object) -> Any:
        """What is kept for a signature; ``None`` if nothing is, or it cannot be read."""
        try:
            return self._cache.load_overload(signature, context)
        except (OSError, EOFError, pickle.UnpicklingError):
            return None

    def save_overload(self, signature: object, data: object) -> None:
        """Keep what was compiled, if that can be."""
        with suppress(OSError):
            self._cache.save_overload(signature, data)

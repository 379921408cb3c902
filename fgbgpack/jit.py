"""How kernels are compiled, and the array types that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bool: TypeAlias = NDArray[np.bool_]
UInt8: TypeAlias = NDArray[np.uint8]
UInt16: TypeAlias = NDArray[np.uint16]
UInt32: TypeAlias = NDArray[np.uint32]
Int32: TypeAlias = NDArray[np.int32]

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile ``function`` without the GIL, cached on disk, with exact (not fast) arithmetic.

    Kernels run on ordinary Python threads: no ``prange`` and no threading layer, which would
    not survive a fork.
    """
    return cast(F, njit(nogil=True, cache=True, fastmath=False)(function))

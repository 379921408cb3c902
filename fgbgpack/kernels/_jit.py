"""The one way this project compiles a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile ``function`` without the GIL, cached on disk, with exact (not fast) arithmetic.

    Kernels run on ordinary Python threads: no ``prange`` and no threading layer, which would
    not survive a fork.
    """
    return cast(F, njit(nogil=True, cache=True, fastmath=False)(function))

"""Work on many samples a block at a time, on threads, with scratch memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fgbgpack.storage.reading.threads import helpers, usable_cores

#: Bytes made in one call: so many that the call itself costs little, and few enough for threads to share.
_BLOCK_BYTES = 4 << 20
#: More than this, which a single large picture takes, is not kept from one block to the next.
_KEPT_BYTES = 4 << 20


def in_blocks(work: Callable[[slice], None], count: int, sample_bytes: int, threads: int | None) -> None:
    """Do the work of ``count`` samples in blocks, on so many threads; ``None``: one for each processor."""
    size = max(1, _BLOCK_BYTES // max(1, sample_bytes))
    if count <= size:
        if count:
            work(slice(0, count))
        return
    blocks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    if threads is None:
        threads = usable_cores()
    if threads == 1:
        for block in blocks:
            work(block)
    else:
        helpers.run(blocks, work, threads)


class _Scratch(threading.local):
    """Scratch arrays of each thread, for what is made on the way to a result."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[np.uint8]] = {}

    def of(self, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of that shape, with anything in it; good until the next one of the name."""
        size = math.prod(shape)
        if size > _KEPT_BYTES:
            return np.empty(shape, np.uint8)
        array = self._arrays.get(name)
        if array is None or len(array) < size:
            array = self._arrays[name] = np.empty(size, np.uint8)
        return array[:size].reshape(shape)


scratch = _Scratch()

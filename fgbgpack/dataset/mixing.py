"""How many samples a shuffled order mixes: what is read together, and how much of it memory holds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: How many blocks are mixed at least.
_BLOCKS = 16
#: How many parts of chunks are mixed where they fit: several may be of one background.
_MORE_BLOCKS = 32
#: A part of a chunk is decoded from the chunk's start: in so many parts a chunk takes 4.5 times as long.
_PARTS = 8


class Mixing(NamedTuple):
    """Blocks of samples that are read together: whole chunks of ``chunk`` samples, or parts of them.

    A window of ``window`` blocks is mixed, of at most ``part`` samples each.
    """

    chunk: int
    part: int
    window: int

    @classmethod
    def within(cls, samples: int, chunk: int, *, composed: bool) -> Mixing:
        """What to mix where memory should hold so many samples, in chunks of ``chunk``.

        It is 16 whole chunks where that is affordable. Large chunks are cut into parts, up to 8, so that 32
        parts are mixed, or at least 16 even if these take more memory. Samples that are ``composed``, not
        decoded, can be read one by one at the same speed.
        """
        if _BLOCKS * chunk <= samples:
            return cls(chunk, chunk, _BLOCKS)
        part = 1 if composed else max(1, -(-chunk // _PARTS), samples // _MORE_BLOCKS)
        part = min(part, chunk)
        return cls(chunk, part, max(_BLOCKS, samples // part))

    @classmethod
    def of_chunks(cls, window: int, chunk: int) -> Mixing:
        """So many whole chunks."""
        return cls(chunk, chunk, window)

    def blocks(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) int64: the number of the block that each sample lies in."""
        if self.part == self.chunk:
            return samples // self.chunk
        chunk, place = np.divmod(samples, self.chunk)
        numbers: NDArray[np.int64] = chunk * -(-self.chunk // self.part) + place // self.part
        return numbers

"""How many samples a shuffled order mixes: what is read together, and how much of it memory holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: How many blocks are mixed at least.
_BLOCKS = 16
#: How many parts of chunks are mixed where they fit: several may be of one background.
_MORE_BLOCKS = 32
#: A part of a chunk is decoded from the chunk's start: in so many parts a chunk takes 4.5 times as long.
_PARTS = 8
#: How many blocks that follow one another are read soon after one another from a store far away, where one
#: request for all of them takes hardly longer than one for a single block.
ADJACENT = 4
#: How many windows of such runs there are at least.
_LEAST_WINDOWS = 8


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


@dataclass(frozen=True)
class Runs:
    """Blocks that follow one another, ``length`` at a time, of ``count`` blocks in ascending order.

    The blocks of ``window`` runs are read one after the other, one of each run in turn: any ``window`` blocks
    that are read together are of as many runs, and those of a run are read at about the same time.
    """

    count: int
    length: int
    window: int

    @classmethod
    def within(cls, count: int, adjacent: int, window: int) -> Runs:
        """Runs of at most ``adjacent`` blocks; shorter ones where there are too few blocks to mix."""
        return cls(count, max(1, min(adjacent, count // (_LEAST_WINDOWS * window))), window)

    def __len__(self) -> int:
        return -(-self.count // self.length)

    def order(
        self, runs: NDArray[Any], blocks: NDArray[Any] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The place of each block in the order that it is read in, and the window that it comes to.

        Runs, and the blocks of each run, are sorted by some numbers; of runs of one block these need none.
        """
        rank = np.empty(len(self), np.int64)
        rank[np.argsort(runs, kind="stable")] = np.arange(len(self))
        if blocks is None:
            return rank, rank // self.window
        run = np.arange(self.count) // self.length
        turn = np.empty(self.count, np.int64)
        turn[np.lexsort((blocks, run))] = np.arange(self.count)
        turn -= run * self.length
        window = rank[run] // self.window
        place = np.empty(self.count, np.int64)
        place[np.lexsort((rank[run], turn, window))] = np.arange(self.count)
        return place, window

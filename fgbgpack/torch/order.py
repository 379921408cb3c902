"""The batches of one rank in one pass over all samples: a pure function of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.mixing import Runs
from fgbgpack.errors import SpecError
from fgbgpack.torch.batches import Positions

#: The lane of a batch, the positions of its group, its first place in that, its size, and what comes after
#: its group in the lane, as far as that lies together with what is in the group or comes next.
GroupPart: TypeAlias = tuple[int, Positions, int, int, Positions]


@dataclass(frozen=True, eq=False)
class RankOrder:
    """What :class:`fgbgpack.torch.BlockShuffleSampler` describes, for rank ``rank`` of ``world_size``.

    ``count`` is the number of samples, and ``blocks_of`` gives (n,) int64: what each sample is read together
    with. It is called only for an order that is shuffled. Raises SpecError where there are too few samples
    for so many ranks.
    """

    count: int
    blocks_of: Callable[[], NDArray[np.int64]]
    batch_size: int
    window: int
    lanes: int
    seed: int
    drop_last: bool
    shuffle: bool
    rank: int
    world_size: int
    adjacent: int = 1

    def __post_init__(self) -> None:
        if self.drop_last and not self._full_steps:
            raise SpecError(
                f"{self.count} samples do not fill a batch of {self.batch_size} for each of "
                f"{self.world_size} ranks: use smaller batches, or do without drop_last.",
                code="samples-too-few",
            )
        if self.count < self.world_size:
            raise SpecError(
                f"{self.count} samples cannot be shared by {self.world_size} ranks: use fewer ranks.",
                code="samples-too-few",
            )

    def __len__(self) -> int:
        """Batches in a pass of this rank."""
        return len(self.sizes)

    @property
    def _full_steps(self) -> int:
        return self.count // (self.world_size * self.batch_size)

    @cached_property
    def sizes(self) -> Positions:
        """The size of each batch."""
        if self.drop_last:
            return np.full(self._full_steps, self.batch_size)
        size = self.batch_size
        most = -(-self.count // self.world_size)
        own = self._end(self.rank + 1) - self._end(self.rank)
        sizes = np.full(-(-most // size), size)
        sizes[-1] = size - (len(sizes) * size - own)
        if not sizes[-1] and size > 1:
            sizes[-2:] = size - 1, 1
        return sizes[sizes > 0]

    def _end(self, ranks: int) -> int:
        """Number of samples of the first ``ranks`` ranks."""
        return self.count * ranks // self.world_size

    @cached_property
    def blocks(self) -> NDArray[np.int64]:
        """(n,) int64: what each sample is read together with."""
        return self.blocks_of()

    @cached_property
    def _block_count(self) -> int:
        return len(np.unique(self.blocks))

    @cached_property
    def batches_per_group(self) -> int:
        """Number of batches in a group."""
        if not self.shuffle:
            return 1
        return max(1, round(self.window * self.count / self._block_count / self.batch_size))

    @cached_property
    def lanes_used(self) -> int:
        """Number of lanes that have enough blocks for a group; one where samples come in their own order."""
        if not self.shuffle:
            return 1
        return max(1, min(self.lanes, self._block_count // (self.world_size * self.window), len(self)))

    def batches(self, number: int, first: int, stop: int) -> Iterable[GroupPart]:
        """The batches of this rank from ``first`` to before ``stop`` in the pass of a number."""
        return self._shuffled(number)[first:stop] if self.shuffle else self._in_order(first, stop)

    @cached_property
    def _total(self) -> int:
        """Number of samples of this rank."""
        return int(self.sizes.sum())

    @property
    def _first(self) -> int:
        """Place of this rank's first sample in the order of all of them."""
        return self.rank * self._total if self.drop_last else self._end(self.rank)

    def _in_order(self, first: int, stop: int) -> Iterator[GroupPart]:
        none = np.empty(0, np.int64)
        start = self._first + int(self.sizes[:first].sum())
        for number in range(first, stop):
            size = int(self.sizes[number])
            yield 0, np.arange(start, start + size), 0, size, none
            start += size

    def _shuffled(self, number: int) -> list[GroupPart]:
        total, first = self._total, self._first
        rng = np.random.Philox(key=np.array([self.seed, number], np.uint64))
        own, windows = (part[first : first + total] for part in self._by_block(rng))
        lanes = self.lanes_used
        batches: list[GroupPart] = [(0, own, 0, 0, own)] * len(self)
        start = 0
        for lane in range(lanes):
            sizes = self.sizes[lane::lanes].tolist()
            # The first groups end one after the other, and so do all later ones: they are not read together.
            count = -(-self.batches_per_group * (lane + 1) // lanes)
            of_lane: list[GroupPart] = []
            end = start + sum(sizes)
            while sizes:
                of_group, sizes = sizes[:count], sizes[count:]
                group = own[start : start + sum(of_group)]
                group = group[_random_order(len(group), rng)]
                start += len(group)
                next_window = windows[start - 1] + 1
                ahead = own[start : np.searchsorted(windows[:end], next_window, "right")]
                of_lane += [(lane, group, sum(of_group[:i]), size, ahead) for i, size in enumerate(of_group)]
                count = self.batches_per_group
            batches[lane::lanes] = of_lane
        return batches

    def _by_block(self, rng: np.random.Philox) -> tuple[Positions, Positions]:
        """All positions, block by block in random order, and in random order within each; and to which window
        of :class:`Runs` each belongs.
        """
        blocks, block_of = np.unique(self.blocks, return_inverse=True)
        runs = Runs.within(len(blocks), self.adjacent, self.window)
        of_runs = rng.random_raw(len(runs))
        rank, window = runs.order(of_runs, rng.random_raw(len(blocks)) if runs.length > 1 else None)
        order = _random_order(len(block_of), rng)
        order = order[np.argsort(rank[block_of[order]], kind="stable")]
        return order, window[block_of[order]]


def _random_order(count: int, rng: np.random.Philox) -> Positions:
    """The numbers from 0 to ``count`` in random order: the same with every version of NumPy."""
    return np.argsort(rng.random_raw(count), kind="stable")

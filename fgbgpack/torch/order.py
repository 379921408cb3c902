"""The batches of one rank in one pass over all samples: a pure function of numbers."""

from __future__ import annotations

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

    ``blocks`` are (n,) int64: what each sample is read together with. Raises SpecError where there are too
    few samples for so many ranks.
    """

    blocks: NDArray[np.int64]
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
                f"{len(self.blocks)} samples do not fill a batch of {self.batch_size} for each of "
                f"{self.world_size} ranks: use smaller batches, or do without drop_last.",
                code="samples-too-few",
            )
        if len(self.blocks) < self.world_size:
            raise SpecError(
                f"{len(self.blocks)} samples cannot be shared by {self.world_size} ranks: use fewer ranks.",
                code="samples-too-few",
            )

    def __len__(self) -> int:
        """Batches in a pass of this rank."""
        return len(self.sizes)

    @property
    def _full_steps(self) -> int:
        return len(self.blocks) // (self.world_size * self.batch_size)

    @cached_property
    def sizes(self) -> Positions:
        """The size of each batch."""
        if self.drop_last:
            return np.full(self._full_steps, self.batch_size)
        size = self.batch_size
        most = -(-len(self.blocks) // self.world_size)
        own = self._end(self.rank + 1) - self._end(self.rank)
        sizes = np.full(-(-most // size), size)
        sizes[-1] = size - (len(sizes) * size - own)
        if not sizes[-1] and size > 1:
            sizes[-2:] = size - 1, 1
        return sizes[sizes > 0]

    def _end(self, ranks: int) -> int:
        """Number of samples of the first ``ranks`` ranks."""
        return len(self.blocks) * ranks // self.world_size

    @cached_property
    def _block_count(self) -> int:
        return len(np.unique(self.blocks))

    @cached_property
    def batches_per_group(self) -> int:
        """Number of batches in a group."""
        mean = len(self.blocks) / self._block_count
        return max(1, round(self.window * mean / self.batch_size)) if self.shuffle else 1

    @cached_property
    def lanes_used(self) -> int:
        """Number of lanes that have enough blocks for a group."""
        return max(1, min(self.lanes, self._block_count // (self.world_size * self.window), len(self)))

    def batches(self, number: int) -> list[GroupPart]:
        """The batches of this rank in the pass of a number."""
        total = int(self.sizes.sum())
        first = self.rank * total if self.drop_last else self._end(self.rank)
        rng = np.random.Philox(key=np.array([self.seed, number], np.uint64))
        if not self.shuffle:
            own, starts = np.arange(first, first + total), np.cumsum(self.sizes) - self.sizes
            return [(0, own, int(a), int(n), own[:0]) for a, n in zip(starts, self.sizes, strict=True)]
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
                group = group[_shuffled(len(group), rng)]
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
        order = _shuffled(len(block_of), rng)
        order = order[np.argsort(rank[block_of[order]], kind="stable")]
        return order, window[block_of[order]]


def _shuffled(count: int, rng: np.random.Philox) -> Positions:
    """The numbers from 0 to ``count`` in random order: the same with every version of NumPy."""
    return np.argsort(rng.random_raw(count), kind="stable")

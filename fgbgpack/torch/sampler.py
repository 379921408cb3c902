"""An order of samples that is shuffled and still cheap to read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import distributed
from torch.utils.data import Sampler

from fgbgpack.errors import SpecError
from fgbgpack.torch.batches import GroupBatch, Positions
from fgbgpack.torch.dataset import FgBgDataset

_WINDOW = 16
_MIN_WINDOW = 4  # of the default window, however large chunks are
_WINDOW_BYTES = 512 << 20
_LANES = 4
_SEEDS = 1 << 64
#: The options that a state must have in common with the sampler that loads it.
_STATE_OPTIONS = ("samples", "batch_size", "window", "lanes", "world_size", "drop_last", "shuffle")


class BlockShuffleSampler(Sampler[list[int]]):
    """Batches of positions, with every sample once in an epoch, in an order that is fast to read.

    Chunks of images (about 40 samples) are shuffled, and every ``window`` chunks make a group, whose samples
    are shuffled and divided into batches. A :class:`FgBgDataset` reads a group at once for the first of its
    batches, so each chunk is decoded once.

    There are several ``lanes`` of groups, and batches come from them in turn. A ``DataLoader`` gives batches
    to its workers in turn, too, so where the number of lanes is a multiple of that of workers, no two workers
    read the same group. The order depends on lanes, but not on workers.

    The order is a function of the seed, the epoch and the options here, the same on every machine. Pass the
    sampler to a ``DataLoader`` as its ``batch_sampler``.

    **Ranks.** All ranks together take each sample once, each rank its own, and none is repeated. The numbers
    of samples of two ranks differ by at most one, the numbers of batches are equal: where a rank has fewer
    samples, its last batches are smaller. (With ``batch_size=1`` it has one batch less.) With ``drop_last``
    all batches are full, and the few samples left over, others in each epoch, are taken by no rank.

    **State.** ``state_dict`` holds the epoch and how many of its batches were returned. A ``DataLoader`` with
    workers requests batches ahead of your loop, which a sampler cannot see: the loader of :func:`make_loader`
    counts correctly, and for a plain ``DataLoader`` you pass the number of batches that your loop has had.

    Args:
        dataset: The samples.
        batch_size: Samples in a batch; see above for the last ones.
        window: Number of chunks in a group; ``None``: 16, or fewer where the groups of all lanes would take
            more than 512 MiB with image, mask and depth, but at least 4. They are in memory together.
        lanes: Number of groups that are read side by side; fewer where there are not enough chunks.
        seed: 64 bits.
        rank: Number of this process among ``world_size``, from 0; ``None``: that of ``torch.distributed``,
            else 0.
        world_size: Number of processes that share the samples; ``None``: that of ``torch.distributed``,
            else 1.
        drop_last: Whether to leave out batches that are not full.
        shuffle: With ``False`` samples come in their own order, those of each rank one after the other.

    Attributes:
        epoch: Number of the epoch of the next order; :meth:`set_epoch` changes it.
        window: Number of chunks in a group.
        batches_per_group: Number of batches in a group.
        lanes_used: Number of lanes that have enough chunks for a group.

    Raises:
        SpecError: A number is out of range; all problems are reported together.

    Example:
        >>> sampler = BlockShuffleSampler(dataset, 64, seed=1)  # doctest: +SKIP
        >>> loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)  # doctest: +SKIP
    """

    def __init__(
        self,
        dataset: FgBgDataset,
        batch_size: int,
        *,
        window: int | None = None,
        lanes: int = _LANES,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
        shuffle: bool = True,
    ) -> None:
        if distributed.is_available() and distributed.is_initialized():
            rank = distributed.get_rank() if rank is None else rank
            world_size = distributed.get_world_size() if world_size is None else world_size
        self.batch_size = batch_size
        self.rank = 0 if rank is None else rank
        self.world_size = 1 if world_size is None else world_size
        self.drop_last, self.shuffle = drop_last, shuffle
        self.seed, self.epoch = seed, 0
        self.lanes = lanes
        self.window = _WINDOW if window is None else window
        self._check()
        if window is None:
            affordable = _WINDOW_BYTES // (lanes * dataset.block_bytes)
            self.window = min(_WINDOW, max(_MIN_WINDOW, affordable))
        self._blocks = dataset.blocks
        self._samples = f"{len(dataset)} {hashlib.sha256(dataset.indices.data).hexdigest()[:16]}"
        self._sizes = self._batch_sizes()
        blocks = len(np.unique(self._blocks))
        mean = len(self._blocks) / blocks
        self.batches_per_group = max(1, round(self.window * mean / batch_size)) if shuffle else 1
        self.lanes_used = max(1, min(lanes, blocks // (self.world_size * self.window), len(self._sizes)))
        self._returned = 0  # batches of this epoch, by the last iterator
        self.position = 0  # batches of its epoch that the next iterator leaves out

    def _check(self) -> None:
        limits = {
            "batch_size": (1, 1 << 31),
            "window": (1, 1 << 31),
            "lanes": (1, 1 << 10),
            "seed": (0, _SEEDS),
            "world_size": (1, 1 << 31),
            "rank": (0, max(1, self.world_size)),
        }
        problems = [
            f"{name}: found {number!r}, expected a whole number from {least} to {end - 1}"
            for name, (least, end) in limits.items()
            if isinstance(number := getattr(self, name), bool)
            or not isinstance(number, int)
            or not least <= number < end
        ]
        if problems:
            raise SpecError("There is no such order of samples:", problems, code="order-invalid")

    def _batch_sizes(self) -> Positions:
        samples, ranks, size = len(self._blocks), self.world_size, self.batch_size
        if self.drop_last:
            steps = samples // (ranks * size)
            if not steps:
                raise SpecError(
                    f"{samples} samples do not fill a batch of {size} for each of {ranks} ranks: use smaller "
                    "batches, or do without drop_last.",
                    code="samples-too-few",
                )
            return np.full(steps, size)
        if samples < ranks:
            raise SpecError(
                f"{samples} samples cannot be shared by {ranks} ranks: use fewer ranks.",
                code="samples-too-few",
            )
        most, own = -(-samples // ranks), self._end(self.rank + 1) - self._end(self.rank)
        sizes = np.full(-(-most // size), size)
        sizes[-1] = size - (len(sizes) * size - own)
        if not sizes[-1] and size > 1:
            sizes[-2:] = size - 1, 1
        return sizes[sizes > 0]

    def _end(self, ranks: int) -> int:
        """Number of samples of the first ``ranks`` ranks."""
        return len(self._blocks) * ranks // self.world_size

    def __len__(self) -> int:
        """Batches in an epoch of this rank."""
        return len(self._sizes)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this epoch; after ``load_state_dict``, once, the remaining ones."""
        # A DataLoader may make iterators that it never uses: only the first step of one uses up a state.
        self._returned, self.position = self.position, 0
        for lane, group, start, size in self._order()[self._returned :]:
            self._returned += 1
            batch = GroupBatch(lane, group, start, size)
            yield batch if self.shuffle else list(batch)

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch. A state that was loaded for this very epoch stays in force."""
        if not 0 <= epoch < _SEEDS:
            raise SpecError(
                f"epoch: found {epoch!r}, expected a number from 0 to {_SEEDS - 1}.", code="order-invalid"
            )
        if epoch != self.epoch:
            self.epoch, self._returned, self.position = epoch, 0, 0

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """The order and the position in it, of builtin types, after so many batches of this epoch that were
        returned; ``None``: all that were requested.
        """
        returned = self._returned if batches is None else batches
        ended = returned >= len(self)
        return {
            "seed": self.seed,
            "epoch": self.epoch + ended,
            "batches": 0 if ended else returned,
            **self._state_options(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state: the next iterator returns the remaining batches of its epoch. Raises SpecError
        where the state is of other samples, or of an order with other options.
        """
        own = self._state_options()
        problems = [
            f"{name}: found {state.get(name)!r}, expected {value!r}"
            for name, value in own.items()
            if state.get(name) != value
        ]
        if problems:
            raise SpecError(
                "This state is of another order: make that with the same options.",
                problems,
                code="state-differs",
            )
        self.seed, self.epoch = state["seed"], state["epoch"]
        self._returned = self.position = state["batches"]

    def _state_options(self) -> dict[str, Any]:
        return {name: self._samples if name == "samples" else getattr(self, name) for name in _STATE_OPTIONS}

    def _order(self) -> list[tuple[int, Positions, int, int]]:
        """The arguments of the :class:`GroupBatch` of each batch of this rank in this epoch."""
        total = int(self._sizes.sum())
        first = self.rank * total if self.drop_last else self._end(self.rank)
        rng = np.random.Philox(key=np.array([self.seed, self.epoch], np.uint64))
        everything = self._by_block(rng) if self.shuffle else np.arange(len(self._blocks))
        own = everything[first : first + total]
        if not self.shuffle:
            starts = np.cumsum(self._sizes) - self._sizes
            return [(0, own, int(a), int(n)) for a, n in zip(starts, self._sizes, strict=True)]
        lanes = self.lanes_used
        batches: list[tuple[int, Positions, int, int]] = [(0, own, 0, 0)] * len(self._sizes)
        start = 0
        for lane in range(lanes):
            sizes = self._sizes[lane::lanes].tolist()
            # The first groups end one after the other, and so do all later ones: they are not read together.
            count = -(-self.batches_per_group * (lane + 1) // lanes)
            of_lane = []
            while sizes:
                of_group, sizes = sizes[:count], sizes[count:]
                group = own[start : start + sum(of_group)]
                group = group[_shuffled(len(group), rng)]
                of_lane += [(lane, group, sum(of_group[:i]), size) for i, size in enumerate(of_group)]
                start += len(group)
                count = self.batches_per_group
            batches[lane::lanes] = of_lane
        return batches

    def _by_block(self, rng: np.random.Philox) -> Positions:
        """All positions, block by block in random order, and in random order within each."""
        blocks, block_of = np.unique(self._blocks, return_inverse=True)
        rank = np.empty(len(blocks), np.int64)
        rank[_shuffled(len(blocks), rng)] = np.arange(len(blocks))
        order = _shuffled(len(block_of), rng)
        return order[np.argsort(rank[block_of[order]], kind="stable")]


def _shuffled(count: int, rng: np.random.Philox) -> Positions:
    """The numbers from 0 to ``count`` in random order: the same with every version of NumPy."""
    return np.argsort(rng.random_raw(count), kind="stable")

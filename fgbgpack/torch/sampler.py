"""An order of samples that is shuffled and still cheap to read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import distributed
from torch.utils.data import Sampler

from fgbgpack.errors import SpecError
from fgbgpack.torch.batches import Positions, Stretch
from fgbgpack.torch.dataset import FgBgDataset

_WINDOW = 16
_FEWEST = 4  # chunks of a window that was not asked for, however large they are
_WINDOW_BYTES = 512 << 20
_LANES = 4
_SEEDS = 1 << 64
#: What must be the same for a state to be gone on from.
_SAME = ("samples", "batch_size", "window", "lanes", "world_size", "drop_last", "shuffle")


class BlockShuffleSampler(Sampler[list[int]]):
    """Batches of positions, every sample of an epoch once, in an order that can be read at speed.

    Chunks of images (about 40 samples) are put in random order, and so many of them as ``window`` says make
    a lot, whose samples are put in random order and make batches. A :class:`FgBgDataset` reads a lot at once
    when the first of its batches is asked for, so each chunk is decoded once.

    There are several ``lanes`` of lots, and batches come from them in turn. A ``DataLoader`` asks its workers
    in turn, too, so where lanes are a multiple of workers, no two workers read the same lot. Lanes do not
    depend on workers, so neither does the order.

    The order is a function of the seed, the epoch and the options here, the same on every machine. Give the
    sampler to a ``DataLoader`` as its ``batch_sampler``.

    **Ranks.** All ranks together take each sample once, each rank its own, and none is repeated. Ranks get
    equally many samples or one less, in equally many batches: where one has fewer samples, its last batches
    are smaller. (With ``batch_size=1`` that cannot be: then it has one batch less.) With ``drop_last`` all
    batches are full and equally many, and the few samples that are left over, others in each epoch, are
    taken by nobody.

    **State.** ``state_dict`` tells how many batches of which epoch were given out. A ``DataLoader`` with
    workers asks for batches before it gives them out, which a sampler cannot see: the loader of
    :func:`make_loader` counts right, and with a plain ``DataLoader`` you say how many your loop has had.

    Args:
        dataset: Where the samples come from.
        batch_size: Samples in a batch; see above for the last ones.
        window: How many chunks make a lot; ``None``: 16, or fewer where the lots of all lanes would take
            more than 512 MiB with image, mask and depth, but at least 4. They are in memory at the same time.
        lanes: How many lots are read side by side; fewer where there are not enough chunks.
        seed: 64 bits.
        rank: Which of ``world_size`` processes this is, from 0 on; ``None``: as ``torch.distributed`` has it,
            else 0.
        world_size: How many processes share the samples; ``None``: as ``torch.distributed`` has it, else 1.
        drop_last: Whether batches that would not be full are left out.
        shuffle: With ``False`` samples come in their own order, each rank's one after the other.

    Attributes:
        epoch: The number of the epoch that the next order is of; change it by ``set_epoch``.
        window: How many chunks make a lot.
        batches_of_lot: How many batches come out of a lot.
        lanes_used: How many lanes there are: each has the chunks for a lot.

    Raises:
        SpecError: A number is out of range; all problems are named together.

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
            fit = _WINDOW_BYTES // (lanes * dataset.block_bytes)
            self.window = min(_WINDOW, max(_FEWEST, fit))
        self._blocks = dataset.blocks
        self._samples = f"{len(dataset)} {hashlib.sha256(dataset.indices.data).hexdigest()[:16]}"
        self._sizes = self._batch_sizes()
        blocks = len(np.unique(self._blocks))
        mean = len(self._blocks) / blocks
        self.batches_of_lot = max(1, round(self.window * mean / batch_size)) if shuffle else 1
        self.lanes_used = max(1, min(lanes, blocks // (self.world_size * self.window), len(self._sizes)))
        self._given = 0  # batches of this epoch, by the last iterator
        self._skip = 0  # batches that the next iterator leaves out

    def _check(self) -> None:
        told: tuple[tuple[str, int, int, int], ...] = (
            ("batch_size", self.batch_size, 1, 1 << 31),
            ("window", self.window, 1, 1 << 31),
            ("lanes", self.lanes, 1, 1 << 10),
            ("seed", self.seed, 0, _SEEDS),
            ("world_size", self.world_size, 1, 1 << 31),
            ("rank", self.rank, 0, max(1, self.world_size)),
        )
        problems = [
            f"{name}: found {number!r}, expected a whole number from {least} to {end - 1}"
            for name, number, least, end in told
            if isinstance(number, bool) or not isinstance(number, int) or not least <= number < end
        ]
        if problems:
            raise SpecError("There is no such order of samples.", problems)

    def _batch_sizes(self) -> Positions:
        """The sizes of this rank's batches."""
        samples, ranks, size = len(self._blocks), self.world_size, self.batch_size
        if self.drop_last:
            steps = samples // (ranks * size)
            if not steps:
                raise SpecError(
                    f"{samples} samples do not fill a batch of {size} for each of {ranks} ranks: use smaller "
                    "batches, or do without drop_last."
                )
            return np.full(steps, size)
        if samples < ranks:
            raise SpecError(f"{samples} samples cannot be shared by {ranks} ranks: use fewer ranks.")
        most, own = -(-samples // ranks), self._end(self.rank + 1) - self._end(self.rank)
        sizes = np.full(-(-most // size), size)
        sizes[-1] = size - (len(sizes) * size - own)
        if not sizes[-1] and size > 1:
            sizes[-2:] = size - 1, 1
        return sizes[sizes > 0]

    def _end(self, ranks: int) -> int:
        """How many samples the first so many ranks take."""
        return len(self._blocks) * ranks // self.world_size

    def __len__(self) -> int:
        """Batches in an epoch of this rank."""
        return len(self._sizes)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this epoch; after ``load_state_dict``, once, those that are left of it."""
        # A DataLoader may make iterators that it never asks for anything: only who asks uses up a state.
        self._given, self._skip = self._skip, 0
        for lane, lot, start, size in self._order()[self._given :]:
            self._given += 1
            batch = Stretch(lane, lot, start, size)
            yield batch if self.shuffle else list(batch)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next. A state that was loaded for this very epoch stays in force."""
        if not 0 <= epoch < _SEEDS:
            raise SpecError(f"epoch: found {epoch!r}, expected a number from 0 to {_SEEDS - 1}.")
        if epoch != self.epoch:
            self.epoch, self._given, self._skip = epoch, 0, 0

    @property
    def position(self) -> int:
        """How many batches of its epoch the next iterator leaves out."""
        return self._skip

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Where in which order this is, of builtin types.

        Args:
            batches: How many batches of this epoch were given out; ``None``: as many as were asked for.
        """
        given = self._given if batches is None else batches
        ended = given >= len(self)
        return {
            "seed": self.seed,
            "epoch": self.epoch + ended,
            "batches": 0 if ended else given,
            **self._options(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: the next iterator gives the batches that were left of its epoch.

        Raises:
            SpecError: The state is of other samples, or of an order with other options.
        """
        own = self._options()
        problems = [
            f"{name}: found {state.get(name)!r}, expected {own[name]!r}"
            for name in _SAME
            if state.get(name) != own[name]
        ]
        if problems:
            raise SpecError("This state is of another order: make that with the same options.", problems)
        self.seed, self.epoch = state["seed"], state["epoch"]
        self._given = self._skip = state["batches"]

    def _options(self) -> dict[str, Any]:
        return {name: self._samples if name == "samples" else getattr(self, name) for name in _SAME}

    # --- the order ---------------------------------------------------------------------------------

    def _order(self) -> list[tuple[int, Positions, int, int]]:
        """The batches of this rank in this epoch: the lane, the lot, where it begins there, its size."""
        total = int(self._sizes.sum())
        first = self.rank * total if self.drop_last else self._end(self.rank)
        numbers = np.random.Philox(key=np.array([self.seed, self.epoch], np.uint64))
        everything = self._by_block(numbers) if self.shuffle else np.arange(len(self._blocks))
        own = everything[first : first + total]
        if not self.shuffle:
            starts = np.cumsum(self._sizes) - self._sizes
            return [(0, own, int(a), int(n)) for a, n in zip(starts, self._sizes, strict=True)]
        lanes = self.lanes_used
        batches: list[tuple[int, Positions, int, int]] = [(0, own, 0, 0)] * len(self._sizes)
        start = 0
        for lane in range(lanes):
            sizes = self._sizes[lane::lanes].tolist()
            # The first lots end one after the other, and so do all others: they are not read all at once.
            most = -(-self.batches_of_lot * (lane + 1) // lanes)
            dealt = []
            while sizes:
                some, sizes = sizes[:most], sizes[most:]
                lot = own[start : start + sum(some)]
                lot = lot[_shuffled(len(lot), numbers)]
                dealt += [(lane, lot, sum(some[:i]), size) for i, size in enumerate(some)]
                start += len(lot)
                most = self.batches_of_lot
            batches[lane::lanes] = dealt
        return batches

    def _by_block(self, numbers: np.random.Philox) -> Positions:
        """All positions, block by block in random order, and in random order within each."""
        blocks, place = np.unique(self._blocks, return_inverse=True)
        rank = np.empty(len(blocks), np.int64)
        rank[_shuffled(len(blocks), numbers)] = np.arange(len(blocks))
        order = _shuffled(len(place), numbers)
        return order[np.argsort(rank[place[order]], kind="stable")]


def _shuffled(count: int, numbers: np.random.Philox) -> Positions:
    """The numbers from 0 to ``count`` in random order: the same with every version of NumPy."""
    return np.argsort(numbers.random_raw(count), kind="stable")

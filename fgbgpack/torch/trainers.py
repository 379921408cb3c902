"""What trainers find in a loader that they take apart: Lightning, Fabric, accelerate, ignite.

Trainers share samples among processes by putting a sampler of their own in the place of a loader's, by
taking every nth batch of its batch sampler, or not at all. Here the loader itself shares them. So its
``sampler`` is a :class:`RankSampler`, which says that this is done already, and its ``batch_sampler`` a
:class:`TrainerBatches`, whose batches are those of all ranks, of which a trainer may take every nth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import BatchSampler, DistributedSampler, Sampler, SequentialSampler

from fgbgpack.errors import SpecError
from fgbgpack.torch.dataset import FgBgDataset
from fgbgpack.torch.sampler import BlockShuffleSampler


class RankSampler(DistributedSampler[int]):
    """A distributed sampler, for trainers that look for one: Lightning then leaves a loader as it is.

    Its samples are those of ``order``; it passes on the epochs that it is told to ``tell``.
    """

    def __init__(self, order: BlockShuffleSampler, tell: Callable[[int], None]) -> None:
        super().__init__(order.dataset, num_replicas=1, rank=0, shuffle=order.shuffle, seed=0)
        self.order, self._tell = order, tell

    def __iter__(self) -> Iterator[int]:
        return (position for batch in self.order for position in batch)

    def __len__(self) -> int:
        return len(self.order.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Note the number of a trainer's epoch."""
        self._tell(epoch)


class TrainerBatches(BatchSampler):
    """The batches of all ranks, one rank's after the other's, as they are where one process has all samples.

    Accelerate gives the nth of them to the nth process. Trainers that make a batch sampler anew, with a
    sampler of their own choice, get the batches of this rank; with a ``SequentialSampler`` they are not
    shuffled.

    Args:
        sampler: The order of a rank; a ``RankSampler`` of one, or a ``SequentialSampler`` of samples.
        batch_size: Samples in a batch; ``None``: as in the order.
        drop_last: Whether batches that are not full are left out; ``None``: as in the order.

    Attributes:
        order: The order of this rank.

    Raises:
        SpecError: It is another sampler.
    """

    def __init__(
        self, sampler: Sampler[Any], batch_size: int | None = None, drop_last: bool | None = None
    ) -> None:
        is_first = isinstance(sampler, BlockShuffleSampler)
        if isinstance(sampler, BlockShuffleSampler):
            self.order = sampler
        elif isinstance(sampler, RankSampler):
            self.order = sampler.order.changed(drop_last=drop_last)
        elif isinstance(sampler, SequentialSampler) and isinstance(sampler.data_source, FgBgDataset):
            self.order = BlockShuffleSampler(
                sampler.data_source, batch_size or 1, drop_last=bool(drop_last), shuffle=False
            )
        else:
            raise SpecError(
                f"This loader shares its samples among ranks by itself, and takes no "
                f"{type(sampler).__name__}: tell the trainer to leave samplers alone, as Lightning's "
                "Trainer(use_distributed_sampler=False) does.",
                code="order-invalid",
            )
        self.batch_size = self.order.batch_size
        self.drop_last = self.order.drop_last or self.order.steps_per_epoch is not None
        self.sampler: RankSampler = RankSampler(self.order, self.set_epoch)
        self._is_first = is_first
        # Made when it is needed: only then is it known how many ranks there are.
        self._of_all: BlockShuffleSampler | None = None
        self._told: int | None = None

    @property
    def _batches(self) -> BlockShuffleSampler:
        if not self._is_first:
            return self.order
        if self._of_all is None:
            self._of_all = self.order.for_all_ranks()
            if self._told is not None:
                self._of_all.tell_epoch(self._told)
        return self._of_all

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_epoch(self, epoch: int) -> None:
        """Note the number of a trainer's epoch."""
        self._told = epoch
        self.order.tell_epoch(epoch)
        if self._of_all is not None:
            self._of_all.tell_epoch(epoch)


def rank_batches(batch_sampler: Any) -> tuple[Any, BlockShuffleSampler, Any]:
    """The batch sampler of a loader, the order of its rank, and what gives the loader its batches.

    ``batch_sampler`` is an order, a :class:`TrainerBatches`, or what a trainer has wrapped one in. Raises
    SpecError for others.
    """
    if isinstance(batch_sampler, BlockShuffleSampler):
        batch_sampler = TrainerBatches(batch_sampler)
    if isinstance(batch_sampler, TrainerBatches):
        return batch_sampler, batch_sampler.order, batch_sampler.order
    inner = getattr(batch_sampler, "batch_sampler", None)  # ignite
    if isinstance(inner, TrainerBatches):
        batch_sampler.batch_sampler = inner = TrainerBatches(inner.sampler)
        return batch_sampler, inner.order, batch_sampler
    order = getattr(batch_sampler, "order", None)  # Lightning copies all attributes
    if isinstance(order, BlockShuffleSampler):
        return batch_sampler, order, batch_sampler
    raise SpecError(
        f"batch_sampler: found a {type(batch_sampler).__name__}, expected a BlockShuffleSampler.",
        code="order-invalid",
    )

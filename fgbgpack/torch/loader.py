"""Batches of a dataset, with good defaults and a state to go on from."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import gcd
from multiprocessing.context import BaseContext
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from zarr.abc.store import Store

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import SpecError
from fgbgpack.storage.reading.threads import usable_cores
from fgbgpack.torch.batches import Slots, collate
from fgbgpack.torch.dataset import FgBgDataset
from fgbgpack.torch.sampler import BlockShuffleSampler

_MOST_WORKERS = 4
#: Batches that the process that trains holds: the one it works on, the one it takes next, one to spare.
_HELD = 3


class FgBgLoader(DataLoader[dict[str, Any]]):
    """A ``DataLoader`` that knows how many batches it has given out; get one with :func:`make_loader`.

    Every time that it is gone through to the end the next epoch begins, in an order of its own; who leaves
    before the end begins the same epoch again.

    Attributes:
        order: The sampler that says which samples a batch has.
    """

    def __init__(self, dataset: FgBgDataset, order: BlockShuffleSampler, **options: Any) -> None:
        self.order = order
        self._given: int | None = None
        super().__init__(dataset, batch_sampler=order, **options)

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """The batches of this epoch; after ``load_state_dict``, once, those that are left of it."""
        self._given = self.order.position
        try:
            for batch in super().__iter__():
                self._given += 1
                yield batch
        except Exception:
            # PyTorch's errors hold on to the workers; who leaves those to Python's collector waits for them.
            iterator, self._iterator = self._iterator, None
            if isinstance(iterator, _MultiProcessingDataLoaderIter):
                iterator._shutdown_workers()
            raise
        self.set_epoch(self.order.epoch + 1)

    @property
    def epoch(self) -> int:
        """The number of the epoch that is under way, or comes next."""
        return self.order.epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next. A state that was loaded for this very epoch stays in force."""
        if epoch != self.order.epoch:
            self._given = None
        self.order.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch this is, of builtin types; batches that workers read ahead do not count."""
        return self.order.state_dict(self._given)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: the first batch is the one after the last that was given out.

        Raises:
            SpecError: The state is of other samples, or of an order with other options.
        """
        self.order.load_state_dict(state)
        self._given = None


def make_loader(
    dataset: str | os.PathLike[str] | Store | Dataset | FgBgDataset,
    batch_size: int = 64,
    *,
    shuffle: bool = True,
    seed: int = 0,
    workers: int | None = None,
    prefetch: int = 4,
    window: int | None = None,
    lanes: int = 4,
    rank: int | None = None,
    world_size: int | None = None,
    drop_last: bool = False,
    pin_memory: bool | None = None,
    start_method: str | None = None,
    worker_init: Callable[[int], None] | None = None,
    **options: Any,
) -> FgBgLoader:
    """Batches of a dataset for training: shuffled, read ahead by workers, each chunk decoded once.

    A batch is a dictionary of tensors as :class:`FgBgDataset` describes them, with one more axis in front.
    Workers write it straight into memory that they share with this process, which is used again once no
    tensor of it is left.

    Args:
        dataset: A local folder, a URL that fsspec opens, a Zarr store, an open dataset, or a ``FgBgDataset``.
        batch_size: Samples in a batch.
        shuffle: Whether samples come in random order, as :class:`BlockShuffleSampler` describes it.
        seed: 64 bits: what the order depends on, with the number of the epoch.
        workers: Processes that read ahead; ``None``: one for each processor but one, at most 4. With 0 this
            process reads each batch when it is asked for, on threads.
        prefetch: Batches that each worker reads ahead.
        window: As for :class:`BlockShuffleSampler`, as the next four.
        lanes: Best a multiple of ``workers``.
        rank: Which of ``world_size`` processes this is.
        world_size: How many processes share the samples.
        drop_last: Whether batches that would not be full are left out.
        pin_memory: Whether batches lie in pinned memory; ``None``: where CUDA is there.
        start_method: How workers start: ``"fork"``, ``"spawn"`` or ``"forkserver"``; ``None``: as Python's
            default is. All give the same.
        worker_init: Called in each worker with its number.
        **options: ``fields``, ``indices``, ``split``, ``dtype``, ``transform``, ``placements``, ``pixels``
            and ``allow_incomplete`` of :class:`FgBgDataset`, where ``dataset`` is not one.

    Raises:
        DatasetError: The dataset cannot be opened, or has no depth and that is asked for.
        SpecError: An option cannot be carried out.

    Example:
        >>> loader = make_loader("lobby.zarr", 64, split=("eighty", "train"))  # doctest: +SKIP
        >>> for epoch in range(loader.epoch, 20):  # doctest: +SKIP
        ...     for batch in loader:
        ...         step(batch["image"], batch["mask"], batch["depth"])
        ...         torch.save({"loader": loader.state_dict()}, "state.pt")
    """
    if pin_memory and not torch.cuda.is_available():
        raise SpecError("pin_memory: there is no CUDA here for which to pin memory; leave it out.")
    if not isinstance(dataset, FgBgDataset):
        dataset = FgBgDataset(dataset, **options)
    elif options:
        raise SpecError(f"A FgBgDataset has its options already: leave out {', '.join(options)}.")
    order = BlockShuffleSampler(
        dataset,
        batch_size,
        window=window,
        lanes=lanes,
        seed=seed,
        rank=rank,
        world_size=world_size,
        drop_last=drop_last,
        shuffle=shuffle,
    )
    count = min(_MOST_WORKERS, usable_cores() - 1) if workers is None else workers
    pinned = torch.cuda.is_available() if pin_memory is None else pin_memory
    if not count:
        return FgBgLoader(
            dataset, order, collate_fn=partial(collate, pin_memory=pinned), pin_memory=pinned, num_workers=0
        )
    context = multiprocessing.get_context(start_method)
    return FgBgLoader(
        dataset,
        order,
        num_workers=count,
        prefetch_factor=prefetch,
        collate_fn=partial(collate, slots=_slots(dataset, order, count, prefetch, context)),
        pin_memory=pinned,
        persistent_workers=True,
        multiprocessing_context=context,
        worker_init_fn=worker_init,
    )


def _slots(
    dataset: FgBgDataset, order: BlockShuffleSampler, workers: int, prefetch: int, context: BaseContext
) -> Slots:
    """Memory for what workers send: lots where batches are parts of these as they are, else batches."""
    ahead = workers * prefetch + _HELD
    if order.shuffle and dataset.dtype is None and dataset.transform is None:
        batches = order.batches_of_lot
        # A worker reads a lot of each lane that it meets, and lots that end are held until batches are gone.
        lots = workers * (order.lanes_used // gcd(order.lanes_used, workers))
        size = min(batches * order.batch_size, len(dataset))
        return Slots(lots + -(-ahead // batches) + 1, dataset.packing(size, None).bytes, batches, context)
    # A transform may make samples larger: batches that do not fit travel as PyTorch sends them.
    return Slots(ahead, dataset.packing(order.batch_size, dataset.dtype).bytes, 1, context)

"""Batches of a dataset, with good defaults and a state to resume from."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from math import gcd
from multiprocessing.context import BaseContext
from typing import Any, TypeAlias, TypeVar, overload

import torch
from torch.utils.data import DataLoader, Subset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import ClusterError, SpecError
from fgbgpack.options import checked_numbers, whole_number
from fgbgpack.sources.names import counted
from fgbgpack.storage.processes import is_native
from fgbgpack.storage.reading.threads import usable_cores
from fgbgpack.storage.targets import Target
from fgbgpack.torch.batches import collate
from fgbgpack.torch.dataset import FgBgDataset
from fgbgpack.torch.memory import SharedBuffers
from fgbgpack.torch.mixture import FgBgMixture, alike, enough, shares
from fgbgpack.torch.sampler import BlockShuffleSampler
from fgbgpack.torch.trainers import rank_batches

T = TypeVar("T")
#: What batches can be made of.
Source: TypeAlias = Target | Dataset | FgBgDataset | Subset[Any]

_MAX_WORKERS = 4
#: The least and the most of batches that are read ahead unless told otherwise.
_AHEAD, _MOST_AHEAD = 4, 32
#: How PyTorch's error begins when a worker has died.
_LOST = "DataLoader worker"
#: Batches in the training process: the current one, the next one, and one to spare.
_IN_USE = 3


class FgBgLoader(DataLoader[dict[str, Any]]):
    """A ``DataLoader`` that counts the batches it has returned; get one with :func:`make_loader`.

    Each iteration is one epoch, and the next one has another order, also where one was left early.

    Trainers may take it apart: under Lightning, Fabric and ignite it shares samples among processes itself,
    and accelerate's ``prepare`` shares them as those of other loaders.
    """

    def __init__(
        self, dataset: FgBgDataset, batch_sampler: Any, *, read_ahead: int = _AHEAD, **options: Any
    ) -> None:
        #: Batches that a thread of this process reads ahead where there are no workers.
        self.read_ahead = read_ahead
        batch_sampler, self._order, self._own_batches = rank_batches(batch_sampler)
        #: Batches of this epoch that were returned; None before the first iteration.
        self._returned: int | None = None
        self._iterations = 0
        super().__init__(dataset, batch_sampler=batch_sampler, **options)
        # For trainers: DataLoader allows neither beside a batch sampler.
        self.__dict__["sampler"] = batch_sampler.sampler
        self.__dict__["drop_last"] = self._order.drop_last or self._order.steps_per_epoch is not None

    @property
    def _index_sampler(self) -> Any:
        """Where PyTorch takes the batches of this loader from."""
        return self._own_batches

    def __getstate__(self) -> dict[str, Any]:
        # Another process has workers of its own, and so memory that it shares with them.
        state = self.__dict__ | {"_iterator": None}
        shared = _shared_of(self.collate_fn)
        return state if shared is None else state | {"collate_fn": None, "_shared_like": shared.like()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        make = state.pop("_shared_like", None)
        self.__dict__.update(state)
        if make is not None:
            self.__dict__["collate_fn"] = partial(collate, shared=make())

    @property
    def order(self) -> BlockShuffleSampler:
        """The sampler of the batches of this rank."""
        return self._order

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """The batches of an epoch; after ``load_state_dict`` the remaining ones of that of the state."""
        if self._returned is not None:
            # PyTorch has requested more of the order than it has returned.
            self._order.seek(*self._order.following(self._returned))
        self._iterations += 1
        iteration, returned = self._iterations, self._order.start
        self._returned = returned
        batches = super().__iter__()
        ahead = _ahead(batches, self.read_ahead) if self._reads_on_a_thread else batches
        try:
            for batch in ahead:
                returned += 1
                if iteration == self._iterations:
                    self._returned = returned
                yield batch
        except Exception as exc:
            # PyTorch's errors refer to the workers, which would otherwise live until they are collected.
            self._iterator = None
            if isinstance(batches, _MultiProcessingDataLoaderIter):
                batches._shutdown_workers()
                if isinstance(exc, RuntimeError) and str(exc).startswith(_LOST):
                    raise ClusterError(
                        f"A worker ended before its batches were read: {str(exc).split('. ')[0]}. Where it "
                        "was killed, memory may have run out: use fewer workers, a smaller prefetch or "
                        "window. Else see what it printed, or find the fault with workers=0.",
                        code="worker-lost",
                    ) from exc
            raise

    @property
    def _reads_on_a_thread(self) -> bool:
        """Whether a thread reads ahead: not where code of the user would run on it."""
        is_ours = isinstance(self.collate_fn, partial) and self.collate_fn.func is collate
        has_transform = self._order.dataset.transform is not None
        return not self.num_workers and self.read_ahead > 0 and is_ours and not has_transform

    def __repr__(self) -> str:
        if self.num_workers:
            how = f"{counted(self.num_workers, 'worker')}, {self.prefetch_factor} batches ahead each"
        elif self._reads_on_a_thread:
            how = f"this process on a thread, {self.read_ahead} batches ahead"
        else:
            how = "this process when they are requested"
        what = f"batches of {self._order.batch_size} of {self.dataset!r}"
        return f"<fgbgpack.torch.FgBgLoader: {what}, read by {how}>"

    @property
    def epoch(self) -> int:
        """The number of this epoch, or of the next one once all batches of this one were returned."""
        return int(self.state_dict()["epoch"])

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration. A state that was loaded for this very epoch stays in force."""
        self._order.set_epoch(epoch)
        self._iterations += 1
        self._returned = None

    def state_dict(self) -> dict[str, Any]:
        """The order and the position in it, of builtin types; batches read ahead do not count."""
        return self._order.state_dict(self._returned)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state: the first batch is the one after the last that was returned. Raises SpecError
        where the state is of other samples, or of an order with other options.
        """
        self._order.load_state_dict(state)
        self._iterations += 1
        self._returned = None


def _ahead(batches: Iterator[T], count: int) -> Iterator[T]:
    """The same, of which a thread reads about the next ``count`` while one is used.

    It reads half of them at a time: to wake another thread for each costs as much as to compose some samples.
    """
    with ThreadPoolExecutor(1, "fgbgpack-loader") as thread:
        coming = deque(thread.submit(_some, batches, -(-count // 2)) for _ in range(2))
        try:
            while True:
                some, error = coming.popleft().result()
                coming.append(thread.submit(_some, batches, -(-count // 2)))
                yield from some
                if error is not None:
                    raise error
                if not some:
                    return
        finally:
            for future in coming:
                future.cancel()


def _some(batches: Iterator[T], count: int) -> tuple[list[T], Exception | None]:
    """Some batches, fewer at the end, and the error that came in the place of the next."""
    found: list[T] = []
    try:
        found.extend(islice(batches, count))
    except Exception as exc:
        return found, exc
    return found, None


def _shared_of(collate_fn: Any) -> SharedBuffers | None:
    """The buffers that a loader of :func:`make_loader` shares with its workers."""
    if isinstance(collate_fn, partial) and collate_fn.func is collate:
        shared: SharedBuffers | None = collate_fn.keywords.get("shared")
        return shared
    return None


@overload
def make_loader(
    dataset: Source, batch_size: int = 64, *, weights: None = None, **options: Any
) -> FgBgLoader: ...
@overload
def make_loader(
    dataset: Sequence[Source], batch_size: int = 64, *, weights: Sequence[float] | None = None, **options: Any
) -> FgBgMixture: ...
def make_loader(
    dataset: Source | Sequence[Source],
    batch_size: int = 64,
    *,
    weights: Sequence[float] | None = None,
    shuffle: bool = True,
    seed: int = 0,
    workers: int | None = None,
    prefetch: int | None = None,
    window: int | None = None,
    lanes: int = 4,
    adjacent: int | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    drop_last: bool = False,
    steps_per_epoch: float | None = None,
    pin_memory: bool | None = None,
    persistent_workers: bool | None = None,
    start_method: str | None = None,
    worker_init: Callable[[int], None] | None = None,
    **options: Any,
) -> FgBgLoader | FgBgMixture:
    """Batches of a dataset for training: shuffled, read ahead by workers, each chunk decoded once.

    A batch is a dictionary of tensors as :class:`FgBgDataset` describes them, with one more axis in front.
    Workers write it straight into memory that they share with this process, which is recycled once no tensor
    of it is left.

    Args:
        dataset: A local folder, an HDF5 file, a URL that fsspec opens, a Zarr store, an open dataset, a
            ``FgBgDataset``, or a ``Subset`` of one, such as ``random_split`` returns. Of a list of several
            each batch has samples of all, as :class:`FgBgMixture` describes.
        batch_size: Samples in a batch.
        weights: Of several datasets, in what proportion a batch has samples of them; ``None``: in that of
            their numbers of samples.
        shuffle: Whether samples come in random order, as :class:`BlockShuffleSampler` describes it.
        seed: 64 bits; the order depends on it and on the number of the epoch.
        workers: Processes that read ahead. ``None``: one for each processor, at most 4; but none where
            samples of one foreground are composed and not augmented or transformed, or where there is one
            processor. With 0 a thread of this process reads ahead while your step runs; with a ``transform``
            each batch is read when it is requested. ``repr`` says which it is.
        prefetch: Batches that each worker, or that thread, reads ahead; ``None``: as many as are read
            together, from 4 to 32. With 0 there is no thread.
        window: As for :class:`BlockShuffleSampler`, as are the next six.
        lanes: Best a multiple of ``workers``.
        adjacent: Chunks that are requested together.
        rank: Number of this process among ``world_size``.
        world_size: Number of processes that share the samples.
        drop_last: Whether to leave out batches that are not full; those of several datasets always are.
        steps_per_epoch: Batches in an epoch, for trainers that count steps; ``math.inf`` for a stream without
            end.
        pin_memory: Whether batches lie in pinned memory; ``None``: where there is CUDA.
        persistent_workers: Whether workers stay from one epoch to the next. They keep the ``transform`` that
            they started with: what you change in it between epochs reaches only workers that start anew.
            ``None``: they stay where there is no ``transform``.
        start_method: How workers start: ``"fork"``, ``"spawn"`` or ``"forkserver"``; ``None``: Python's
            default, but never fork where the store runs on threads of native code (obstore). All give the
            same batches.
        worker_init: Called in each worker with its number.
        **options: ``fields``, ``indices``, ``split``, ``dtype``, ``augment``, ``transform``, ``placements``,
            ``fresh``, ``pixels``, ``allow_incomplete``, ``storage_options``, ``cache`` and ``cache_bytes`` of
            :class:`FgBgDataset`, where ``dataset`` is none.

    Raises:
        DatasetError: The dataset cannot be opened.
        SpecError: An option is wrong.
        ClusterError: While it is iterated: a worker was lost.

    Example:
        >>> loader = make_loader("lobby.zarr", 64, split=("eighty", "train"))  # doctest: +SKIP
        >>> for epoch in range(loader.epoch, 20):  # doctest: +SKIP
        ...     for batch in loader:
        ...         step(batch["image"], batch["mask"], batch["depth"])
        ...         torch.save({"loader": loader.state_dict()}, "state.pt")
    """
    if pin_memory and not torch.cuda.is_available():
        raise SpecError(
            "pin_memory: there is no CUDA to pin memory for; leave the option out.", code="device-missing"
        )
    if isinstance(dataset, (list, tuple)):
        given = {
            "shuffle": shuffle,
            "seed": seed,
            "workers": workers,
            "prefetch": prefetch,
            "window": window,
            "lanes": lanes,
            "adjacent": adjacent,
            "rank": rank,
            "world_size": world_size,
            "drop_last": drop_last,
            "pin_memory": pin_memory,
            "persistent_workers": persistent_workers,
            "start_method": start_method,
            "worker_init": worker_init,
        }
        return _mixture(dataset, batch_size, weights, steps_per_epoch, given, options)
    if weights is not None:
        raise SpecError(
            "weights: there is only one dataset, expected a list of several.", code="options-conflict"
        )
    samples: Any = _without_subsets(dataset)
    if not isinstance(samples, FgBgDataset):
        samples = FgBgDataset(samples, **options)
    elif options:
        raise SpecError(
            f"A FgBgDataset has its own options: leave out {', '.join(options)}.", code="options-conflict"
        )
    if workers is None:
        workers = _best_workers(samples)
    limits = {
        "workers": (workers, 0, 1 << 10),
        "prefetch": (_AHEAD if prefetch is None else prefetch, 1 if workers else 0, 1 << 10),
    }
    count, ahead = checked_numbers(limits, "There are no such workers:")
    order = BlockShuffleSampler(
        samples,
        batch_size,
        window=window,
        lanes=lanes,
        adjacent=adjacent,
        seed=seed,
        rank=rank,
        world_size=world_size,
        drop_last=drop_last,
        shuffle=shuffle,
        steps_per_epoch=steps_per_epoch,
    )
    if prefetch is None:
        # A group is read whole for its first batch. A worker that cannot begin the next group until this one
        # is used up has to wait, and the other workers then wait for it.
        ahead = min(_MOST_AHEAD, max(_AHEAD, order.batches_per_group))
    pinned = torch.cuda.is_available() if pin_memory is None else pin_memory
    if not count:
        return FgBgLoader(
            dataset=samples,
            batch_sampler=order,
            collate_fn=partial(collate, pin_memory=pinned),
            pin_memory=pinned,
            read_ahead=ahead,
        )
    if start_method is None and is_native(samples.dataset.store.store):
        start_method = "spawn" if multiprocessing.get_start_method() == "spawn" else "forkserver"
    context = multiprocessing.get_context(start_method)
    shared = _shared_buffers(samples, order, count, count * ahead + _IN_USE, context)
    return FgBgLoader(
        dataset=samples,
        batch_sampler=order,
        num_workers=count,
        prefetch_factor=ahead,
        collate_fn=partial(collate, shared=shared),
        pin_memory=pinned,
        persistent_workers=samples.transform is None if persistent_workers is None else persistent_workers,
        multiprocessing_context=context,
        worker_init_fn=worker_init,
    )


def _mixture(
    datasets: Sequence[Source],
    batch_size: int,
    weights: Sequence[float] | None,
    steps_per_epoch: float | None,
    given: dict[str, Any],
    options: dict[str, Any],
) -> FgBgMixture:
    whole: list[Any] = [_without_subsets(dataset) for dataset in datasets]
    parts = [one if isinstance(one, FgBgDataset) else FgBgDataset(one, **options) for one in whole]
    if (weights is not None and len(weights) != len(parts)) or not parts:
        found = "none" if weights is None else len(weights)
        raise SpecError(f"weights: found {found} for {len(parts)} datasets.", code="option-invalid")
    (size,) = checked_numbers({"batch_size": (batch_size, 1, 1 << 31)}, "There are no such batches:")
    counts = shares(size, [len(part) for part in parts] if weights is None else weights)
    parts = alike(parts)
    if given["workers"] is None:
        given = given | {"workers": max(map(_best_workers, parts))}
    if (workers := whole_number(given["workers"])) is not None:
        # Each dataset has workers of its own.
        given = given | {"workers": -(-workers // len(parts))}
    place = {name: given[name] for name in ("rank", "world_size")}
    ranks = BlockShuffleSampler(parts[0], 1, **place).world_size
    if steps_per_epoch is None:
        steps_per_epoch = max(1, sum(map(len, parts)) // (size * ranks))
    parts = [enough(part, count * ranks) for part, count in zip(parts, counts, strict=True)]
    # A batch that is not full would have another proportion.
    given = given | {"drop_last": True}
    return FgBgMixture(
        [
            make_loader(part, count, steps_per_epoch=steps_per_epoch, **given)
            for part, count in zip(parts, counts, strict=True)
        ]
    )


def _best_workers(samples: FgBgDataset) -> int:
    """How many workers are best: none where a thread is as fast, or where there is one processor for all."""
    cores = usable_cores()
    return 0 if samples.is_cheap or cores == 1 else min(_MAX_WORKERS, cores)


def _without_subsets(dataset: Any) -> Any:
    """The samples of a ``Subset`` of a ``FgBgDataset`` as one; everything else as it is."""
    if not isinstance(dataset, Subset):
        return dataset
    whole = _without_subsets(dataset.dataset)
    if not isinstance(whole, FgBgDataset):
        raise SpecError(
            f"dataset: found a Subset of a {type(whole).__name__}, expected one of a FgBgDataset.",
            code="samples-invalid",
        )
    return whole.subset(dataset.indices)


def _shared_buffers(
    dataset: FgBgDataset, order: BlockShuffleSampler, workers: int, batches: int, context: BaseContext
) -> SharedBuffers:
    """Buffers for so many batches of workers: of whole groups where batches are unchanged parts of them."""
    if order.shuffle and dataset.dtype is None and dataset.augment is None and dataset.transform is None:
        per_group = order.batches_per_group
        # A worker reads a group of each lane that it meets, and old groups are held until batches are gone.
        groups = workers * (order.lanes_used // gcd(order.lanes_used, workers)) + -(-batches // per_group) + 1
        size = min(per_group * order.batch_size, len(dataset))
        return SharedBuffers(groups, dataset.layout(size, None).bytes, per_group, context)
    # A transform may make samples larger: PyTorch copies batches that do not fit.
    return SharedBuffers(batches, dataset.layout(order.batch_size, dataset.dtype).bytes, 1, context)

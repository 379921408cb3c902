"""Samples to batches: every tensor of a batch lies in one buffer, which is written once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from fgbgpack.errors import SpecError
from fgbgpack.torch.memory import (
    Allocator,
    Buffer,
    BufferLayout,
    MemoryPool,
    Share,
    SharedBuffers,
    Tensors,
    TensorSpec,
    received,
)

if TYPE_CHECKING:
    from fgbgpack.torch.dataset import FgBgDataset

Positions: TypeAlias = NDArray[np.int64]


class Ahead(NamedTuple):
    """The positions that come after those of a group in its lane, and how many lanes there are."""

    lanes: int
    positions: Positions


class EpochBatch(list[int]):
    """The positions of a batch, and the number of the pass over all samples that they are of.

    Trainers that share a batch among processes take parts of it, and join such parts.
    """

    def __init__(self, positions: Iterable[int], epoch: int) -> None:
        super().__init__(positions)
        self.epoch = epoch

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return EpochBatch, (list(self), self.epoch)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return EpochBatch(found, self.epoch) if isinstance(index, slice) else found

    def __add__(self, others: Any) -> Any:
        return EpochBatch(super().__add__(others), self.epoch)


def epoch_of(positions: Sequence[int]) -> int:
    """The epoch that positions are of; 0 where they do not say."""
    return positions.epoch if isinstance(positions, EpochBatch) else 0


class GroupBatch(EpochBatch):
    """The positions of a batch out of a group: many samples, at (n,) int64 positions, that are best read
    together. A process that reads several groups at a time reads one of each lane. The first batch of a group
    knows what comes ``ahead``, if it is to be read ahead.
    """

    def __init__(
        self,
        lane: int,
        group: Positions,
        start: int,
        count: int,
        epoch: int = 0,
        ahead: Ahead | None = None,
    ) -> None:
        super().__init__(group[start : start + count].tolist(), epoch)
        self.lane, self.group, self.start, self.ahead = lane, group, start, ahead

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if not self.is_whole:
            return super().__reduce__()
        return GroupBatch, (self.lane, self.group, self.start, len(self), self.epoch, self.ahead)

    @property
    def is_whole(self) -> bool:
        """Whether it is still a part of its group: accelerate fills up last batches in their place."""
        return np.array_equal(self, self.group[self.start : self.start + len(self)])


class LazySamples(Sequence[dict[str, Any]]):
    """Samples at some positions that are read when the first is needed, or all at once by :func:`collate`."""

    def __init__(self, dataset: FgBgDataset, positions: Sequence[int]) -> None:
        self.dataset, self.positions = dataset, positions
        self._samples: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> Any:
        if self._samples is None:
            buffer, specs = self.read(self.dataset.pool)
            tensors = buffer.views(specs)
            samples = [{name: tensor[i] for name, tensor in tensors.items()} for i in range(len(self))]
            transform = self.dataset.transform
            self._samples = samples if transform is None else [transform(sample) for sample in samples]
        return self._samples[index]

    def read(self, allocate: Allocator) -> tuple[Buffer, list[TensorSpec]]:
        """All samples in one buffer: read, augmented, converted, but not transformed."""
        dataset = self.dataset
        steps: list[tuple[torch.dtype | None, Callable[[Tensors, Tensors], None]]] = []
        if dataset.augment is not None:
            steps.append((None, partial(dataset.change, epoch=epoch_of(self.positions))))
        if dataset.dtype is not None:
            steps.append((dataset.dtype, dataset.convert))
        # Only the last buffer is that of the batch.
        allocators = [dataset.pool] * len(steps) + [allocate]
        buffer, specs = dataset.read(self.positions, allocators[0])
        for (dtype, fill), allocator in zip(steps, allocators[1:], strict=True):
            layout = dataset.layout(len(self), dtype)
            filled = allocator(layout.bytes)
            fill(buffer.views(specs), filled.views(layout.tensors))
            buffer, specs = filled, layout.tensors
        return buffer, specs


def collate(
    samples: Sequence[dict[str, Any]],
    *,
    pin_memory: bool | None = None,
    shared: SharedBuffers | None = None,
) -> dict[str, Any]:
    """Join samples to one batch: each of its tensors has one more axis in front.

    Samples of a :class:`FgBgDataset` are read only now, all at once, into the memory in which the batch is
    used: pinned memory, memory shared with the process that asked for them, or else memory of this process.

    Args:
        samples: Samples of a ``FgBgDataset`` as a ``DataLoader`` passes them, or a list of dictionaries.
        pin_memory: Whether to write into pinned memory, from which a GPU copies by itself; ``None`` pins
            where there is CUDA. Workers cannot: a ``DataLoader`` with ``pin_memory=True`` pins their batches.
        shared: Buffers shared with workers; :func:`make_loader` makes them.

    Returns:
        A dictionary with the names of the samples. PyTorch collates what is not a tensor.

    Raises:
        SpecError: A tensor has different shapes or types in the samples.
        DatasetError: The dataset is damaged or cannot be read.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> loader = DataLoader(FgBgDataset("lobby.zarr"), batch_size=8, collate_fn=collate)  # doctest: +SKIP
    """
    in_worker = get_worker_info() is not None
    allocate: Allocator = samples.dataset.pool if isinstance(samples, LazySamples) else MemoryPool()
    if in_worker:
        allocate = partial(_shared_or_own, shared, allocate)
    elif pin_memory or (pin_memory is None and _has_cuda()):
        allocate = Buffer.pinned
    others: dict[str, Any] = {}
    if isinstance(samples, LazySamples) and samples.dataset.transform is None:
        buffer, specs = samples.read(allocate)
    else:
        buffer, specs = _stack(samples, allocate, others)
    return SharedBatch(buffer, specs, others) if in_worker else buffer.views(specs) | others


def _stack(
    samples: Sequence[dict[str, Any]], allocate: Allocator, others: dict[str, Any]
) -> tuple[Buffer, list[TensorSpec]]:
    """Stack the tensors of some samples; their other values go to ``others``."""
    layout, columns = BufferLayout(), {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if isinstance(first, Tensor):
            kinds = {f"{str(v.dtype).removeprefix('torch.')} of shape {tuple(v.shape)}": None for v in values}
            if len(kinds) > 1:
                raise SpecError(
                    f"The samples of a batch must have equal shapes and types, but {name} is "
                    f"{' and '.join([*kinds][:3])}: return one shape and type from the transform, or use "
                    "another collate_fn.",
                    code="samples-differ",
                )
            layout.add(name, first.dtype, (len(values), *first.shape))
            columns[name] = values
        else:
            others[name] = default_collate(values)
    buffer = allocate(layout.bytes)
    for name, tensor in buffer.views(layout.tensors).items():
        torch.stack(columns[name], out=tensor)
    return buffer, layout.tensors


def _shared_or_own(shared: SharedBuffers | None, own: Allocator, size: int) -> Buffer:
    """A shared buffer if one is free; else PyTorch copies the batch to shared memory."""
    return (shared.acquire(size) if shared is not None else None) or own(size)


@lru_cache(maxsize=1)
def _has_cuda() -> bool:
    return torch.cuda.is_available()


class SharedBatch(dict[str, Any]):
    """A batch in a worker: a dictionary that is sent without its bytes where they lie in a shared buffer."""

    def __init__(self, buffer: Buffer, specs: list[TensorSpec], others: dict[str, Any]) -> None:
        self._tensors = buffer.views(specs)
        super().__init__(self._tensors | others)
        self._buffer, self._specs = buffer, specs

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # A collate function that wraps ours may have replaced some tensors.
        specs = [spec for spec in self._specs if self.get(spec.name) is self._tensors[spec.name]]
        names = {spec.name for spec in specs}
        others = {name: value for name, value in self.items() if name not in names}
        return _received_batch, (self._buffer.hand_over(), specs, others)


def _received_batch(
    source: Tensor | Share, specs: list[TensorSpec], others: dict[str, Any]
) -> dict[str, Any]:
    return received(source).views(specs) | others

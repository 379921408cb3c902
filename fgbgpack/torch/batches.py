"""Samples to batches: every tensor of a batch lies in one piece of memory, which is written once."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing.context import BaseContext
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from fgbgpack.errors import SpecError

#: Tensors by name: of one sample, or of several with one more axis in front.
Tensors: TypeAlias = dict[str, Tensor]
Positions: TypeAlias = NDArray[np.int64]

_ALIGNMENT = 64
_PAGE = 4096
_RECYCLED = 8  # pieces of memory that are kept at most
_RECYCLED_BYTES = 1 << 20  # smaller ones are had again by themselves
# Who holds the lock does next to nothing with it; only one that was killed just then keeps it so long.
_PATIENCE_SECONDS = 1.0


# --- tensors in one piece of memory ----------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Where a tensor lies in a piece of memory: its elements begin at byte ``offset``."""

    name: str
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def of(self, memory: Tensor) -> Tensor:
        """The tensor in (bytes,) uint8."""
        elements = 1 + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        end = self.offset + elements * self.dtype.itemsize
        return memory[self.offset : end].view(self.dtype).as_strided(self.size, self.stride)

    def rows(self, start: int, count: int) -> Part:
        """Where some of its samples lie."""
        offset = self.offset + start * self.stride[0] * self.dtype.itemsize
        return replace(self, size=(count, *self.size[1:]), offset=offset)


class Packing:
    """Tensors one after the other in a piece of memory.

    Attributes:
        parts: Where each lies.
        bytes: How much memory they take.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.bytes = 0

    def add(self, name: str, dtype: torch.dtype, size: Sequence[int], *, channels_last: bool = False) -> None:
        """One more tensor; with ``channels_last`` (n, c, h, w) lies in the order n, h, w, c."""
        order = (0, 2, 3, 1) if channels_last else range(len(size))
        stride, step = [0] * len(size), 1
        for axis in reversed(order):
            stride[axis] = step
            step *= size[axis]
        self.parts.append(Part(name, dtype, tuple(size), tuple(stride), self.bytes))
        self.bytes += -(-step * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT


def tensors_in(memory: Memory, parts: Sequence[Part]) -> Tensors:
    """The tensors that lie in some memory."""
    return {part.name: part.of(memory.tensor) for part in parts}


# --- memory ----------------------------------------------------------------------------------------


class Memory:
    """A piece of memory.

    Attributes:
        tensor: (bytes,) uint8.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @classmethod
    def pinned(cls, size: int) -> Memory:
        """Pinned memory; PyTorch uses it again once no copy from it is on its way."""
        return cls(torch.empty(size, dtype=torch.uint8, pin_memory=True))


#: Gives memory of so many bytes.
Place: TypeAlias = Callable[[int], Memory]


class Recycled:
    """Memory of this process, used again once no tensor of it is left: fresh one costs much."""

    def __init__(self) -> None:
        # Threads, and the collector of any of them, append to it and take from it in single steps.
        self._free: deque[NDArray[np.uint8]] = deque()

    def __reduce__(self) -> tuple[type[Recycled], tuple[()]]:
        return Recycled, ()

    def __call__(self, size: int) -> Memory:
        """Memory of so many bytes."""
        if size < _RECYCLED_BYTES:
            return Memory(torch.from_numpy(np.empty(size, np.uint8)))
        whole = self._fitting(size)
        memory = whole[:size]
        # A tensor keeps the array that it was made from, and all views of a tensor keep the same one.
        weakref.finalize(memory, self._free.append, whole)
        return Memory(torch.from_numpy(memory))

    def _fitting(self, size: int) -> NDArray[np.uint8]:
        with suppress(IndexError):  # another thread took the last
            for _ in range(len(self._free)):
                room = self._free.popleft()
                if size <= len(room) <= 2 * size:
                    return room
                if len(self._free) < _RECYCLED:
                    self._free.append(room)
        return np.empty(size, np.uint8)


#: The slots that this process made, by their number, for batches that come back from workers.
_slots: weakref.WeakValueDictionary[int, Slots] = weakref.WeakValueDictionary()
_numbers = itertools.count()


class Slots:
    """Memory shared with worker processes, used again and again.

    A worker writes samples into a free slot and sends where they are, not their bytes. The slot is free
    again once the worker is done with it and no tensor of it is left in the process that got it. Fresh shared
    memory for every batch costs several times what it takes to decode the batch.

    Args:
        count: How many.
        size: Bytes of each.
        pieces: How many batches come out of one.
        context: What starts the workers.
    """

    def __init__(self, count: int, size: int, pieces: int, context: BaseContext) -> None:
        self._count, self._size = count, -(-size // _PAGE) * _PAGE
        self._memory = _shared(count * self._size, context)
        # Who uses a slot: first the worker that fills it, then who has each piece of it. An entry is set by
        # one process and cleared by one; the worker's stays until those of the pieces are set.
        self._users = _shared(count * (1 + pieces), context)
        self._lock = context.Lock()
        self.number = next(_numbers)
        _slots[self.number] = self

    @property
    def _table(self) -> NDArray[np.uint8]:
        """(slots, 1 + pieces) uint8: 1 where a slot is used."""
        return np.frombuffer(self._users, np.uint8).reshape(self._count, -1)

    def take(self, size: int) -> Slot | None:
        """A free slot of so many bytes; ``None`` if there is none."""
        if size > self._size or not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            return None
        try:
            free = np.flatnonzero(~self._table.any(axis=1))
            if not len(free):
                return None
            slot = int(free[0])
            self._table[slot, 0] = 1
        finally:
            self._lock.release()
        return Slot(self, slot)

    def hand_on(self, slot: int, piece: int) -> bool:
        """Mark a piece as used; whether there is such a piece."""
        if piece >= self._table.shape[1]:
            return False
        self._table[slot, piece] = 1
        return True

    def lent(self, slot: int, piece: int) -> Tensor:
        """The memory of a slot that is marked as used, until nothing of it is in use in this process."""
        memory = np.frombuffer(self._memory, np.uint8, count=self._size, offset=slot * self._size)
        # As above, the tensors of a batch keep this array.
        weakref.finalize(memory, self._free, slot, piece, os.getpid())
        return torch.from_numpy(memory)

    def _free(self, slot: int, piece: int, process: int) -> None:
        # A process that was forked meanwhile holds what its parent held, and has no say in it.
        if os.getpid() == process:
            self._table[slot, piece] = 0


class Slot(Memory):
    """A slot while the worker that took it uses it."""

    def __init__(self, slots: Slots, number: int) -> None:
        super().__init__(slots.lent(number, 0))
        self.slots, self.number = slots, number
        self._pieces = itertools.count(1)

    def hand_on(self) -> int | None:
        """The number of a piece that another process is to get; ``None`` if all were handed on."""
        piece = next(self._pieces)
        return piece if self.slots.hand_on(self.number, piece) else None


def _shared(size: int, context: BaseContext) -> Any:
    """(size,) bytes of zeros, shared with processes that this one starts."""
    if context.get_start_method() == "fork":
        # It takes no room in /dev/shm, of which containers have little.
        return mmap.mmap(-1, size)
    return context.RawArray(ctypes.c_uint8, size)


# --- samples that are read together ----------------------------------------------------------------


class Stretch(list[int]):
    """The positions of a batch out of a lot: many samples that are best read all at once.

    Attributes:
        lane: Who reads several lots at a time reads one of each lane.
        lot: (n,) int64, the positions of all samples of the lot.
        start: Where in the lot the batch begins.
    """

    def __init__(self, lane: int, lot: Positions, start: int, count: int) -> None:
        super().__init__(lot[start : start + count].tolist())
        self.lane, self.lot, self.start = lane, lot, start

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Stretch, (self.lane, self.lot, self.start, len(self))


class Source(Protocol):
    """What samples are read from.

    Attributes:
        dtype: The floating type that fields are converted to; ``None``: they stay as they are stored.
        transform: Changes one sample.
        own: Memory of this process.
    """

    own: Recycled
    dtype: torch.dtype | None
    transform: Callable[[Tensors], dict[str, Any]] | None

    def packing(self, count: int, dtype: torch.dtype | None) -> Packing:
        """The tensors of so many samples."""

    def read(self, positions: Sequence[int], place: Place) -> tuple[Memory, list[Part]]:
        """Samples as they are stored: from a lot that was read before, or read to memory of ``place``."""

    def convert(self, stored: Tensors, converted: Tensors) -> None:
        """Fill tensors of another type."""


class Samples(Sequence[dict[str, Any]]):
    """Some samples that are not read yet: one by one for who asks for them, or all at once by ``collate``.

    Args:
        source: What they are read from.
        positions: Which samples of it.
    """

    def __init__(self, source: Source, positions: Sequence[int]) -> None:
        self.source, self.positions = source, positions
        self._listed: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> Any:
        if self._listed is None:
            tensors = tensors_in(*self.untransformed(self.source.own))
            listed = [{name: tensor[i] for name, tensor in tensors.items()} for i in range(len(self))]
            change = self.source.transform
            self._listed = listed if change is None else [change(sample) for sample in listed]
        return self._listed[index]

    def untransformed(self, place: Place) -> tuple[Memory, list[Part]]:
        """Where all of them lie, in memory of ``place``."""
        dtype = self.source.dtype
        if dtype is None:
            return self.source.read(self.positions, place)
        stored = tensors_in(*self.source.read(self.positions, self.source.own))
        packing = self.source.packing(len(self), dtype)
        memory = place(packing.bytes)
        self.source.convert(stored, tensors_in(memory, packing.parts))
        return memory, packing.parts


# --- collating -------------------------------------------------------------------------------------


def collate(
    samples: Sequence[dict[str, Any]], *, pin_memory: bool | None = None, slots: Slots | None = None
) -> dict[str, Any]:
    """One batch of some samples: each of its tensors has one more axis in front.

    Samples that come from :class:`FgBgDataset` are only now read, all at once, to where the batch will be
    used: pinned memory, memory shared with the process that asked for them, or else memory of this process.

    Args:
        samples: Samples of a ``FgBgDataset`` as a ``DataLoader`` hands them on, or a list of dictionaries.
        pin_memory: Whether to write into pinned memory, from which a GPU copies by itself; ``None``: where
            CUDA is there. Workers cannot: a ``DataLoader`` with ``pin_memory=True`` pins what they send.
        slots: Memory shared with workers, to write into while there is some; ``make_loader`` sees to it.

    Returns:
        A dictionary with the names that the samples have. What is no tensor is collated as PyTorch does it.

    Raises:
        SpecError: A tensor has not the same shape and type in all samples.
        DatasetError: The dataset is damaged or cannot be read.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> loader = DataLoader(FgBgDataset("lobby.zarr"), batch_size=8, collate_fn=collate)  # doctest: +SKIP
    """
    own = samples.source.own if isinstance(samples, Samples) else Recycled()
    in_worker = get_worker_info() is not None
    place = partial(_shared_place, slots, own) if in_worker else _place(pin_memory, own)
    others: dict[str, Any] = {}
    if isinstance(samples, Samples) and samples.source.transform is None:
        memory, parts = samples.untransformed(place)
    else:
        memory, parts = _stacked(list(samples), place, others)
    return Parcel(memory, parts, others) if in_worker else tensors_in(memory, parts) | others


def _stacked(
    samples: list[dict[str, Any]], place: Place, others: dict[str, Any]
) -> tuple[Memory, list[Part]]:
    """The tensors of some samples, stacked; what else they have goes to ``others``."""
    packing, columns = Packing(), {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if isinstance(first, Tensor):
            _check_alike(name, values)
            packing.add(name, first.dtype, (len(values), *first.shape))
            columns[name] = values
        else:
            others[name] = default_collate(values)
    memory = place(packing.bytes)
    for name, tensor in tensors_in(memory, packing.parts).items():
        torch.stack(columns[name], out=tensor)
    return memory, packing.parts


def _check_alike(name: str, values: list[Tensor]) -> None:
    kinds = dict.fromkeys(f"{_name_of(value.dtype)} of shape {tuple(value.shape)}" for value in values)
    if len(kinds) > 1:
        raise SpecError(
            f"The samples of a batch must be alike, and {name} is {' and '.join([*kinds][:3])}: let the "
            "transform give one shape and type, or take another collate_fn."
        )


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _place(pin_memory: bool | None, own: Place) -> Place:
    return Memory.pinned if pin_memory or (pin_memory is None and _cuda_is_there()) else own


def _shared_place(slots: Slots | None, own: Place, size: int) -> Memory:
    """A slot if there is one; PyTorch moves other memory to where processes share it."""
    return (slots.take(size) if slots is not None else None) or own(size)


@lru_cache(maxsize=1)
def _cuda_is_there() -> bool:
    return torch.cuda.is_available()


# --- sending batches -------------------------------------------------------------------------------


class Parcel(dict[str, Any]):
    """A batch in a worker, to be sent: a dictionary like any other, which arrives as one.

    Args:
        memory: What the tensors lie in.
        parts: Where they lie.
        others: What is no tensor.
    """

    def __init__(self, memory: Memory, parts: list[Part], others: dict[str, Any]) -> None:
        self._packed = tensors_in(memory, parts)
        super().__init__(self._packed | others)
        self._memory, self._parts = memory, parts

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # Who has had the batch in hand before it is sent may have put others in the place of some tensors.
        parts = [part for part in self._parts if self.get(part.name) is self._packed[part.name]]
        packed = {part.name for part in parts}
        others = {name: value for name, value in self.items() if name not in packed}
        memory = self._memory
        if isinstance(memory, Slot) and (piece := memory.hand_on()) is not None:
            return _arrived_in_slot, (memory.slots.number, memory.number, piece, parts, others)
        return _arrived, (memory.tensor, parts, others)


def _arrived(tensor: Tensor, parts: list[Part], others: dict[str, Any]) -> dict[str, Any]:
    return tensors_in(Memory(tensor), parts) | others


def _arrived_in_slot(
    number: int, slot: int, piece: int, parts: list[Part], others: dict[str, Any]
) -> dict[str, Any]:
    return _arrived(_slots[number].lent(slot, piece), parts, others)

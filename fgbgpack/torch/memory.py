"""Memory of batches: tensors packed into one buffer, which is recycled, pinned, or shared with workers."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.context import BaseContext
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Tensors by name: of one sample, or of several with one more axis in front.
Tensors: TypeAlias = dict[str, Tensor]

_ALIGNMENT = 64
_PAGE = 4096
_MAX_FREE_BUFFERS = 8
_LEAST_RECYCLED_BYTES = 1 << 20  # allocators recycle smaller memory by themselves
#: The lock is held for microseconds. Only the lock of a process that was killed meanwhile takes this long.
_LOCK_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class TensorSpec:
    """A tensor in a buffer: its first element is at byte ``offset``, strides are in elements."""

    name: str
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def view(self, buffer: Tensor) -> Tensor:
        """The tensor in a (bytes,) uint8 buffer."""
        elements = 1 + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        end = self.offset + elements * self.dtype.itemsize
        return buffer[self.offset : end].view(self.dtype).as_strided(self.size, self.stride)

    def rows(self, start: int, count: int) -> TensorSpec:
        """The part of the tensor that holds some samples."""
        offset = self.offset + start * self.stride[0] * self.dtype.itemsize
        return replace(self, size=(count, *self.size[1:]), offset=offset)


class BufferLayout:
    """Tensors one after the other in a buffer, and its size in bytes."""

    def __init__(self) -> None:
        self.tensors: list[TensorSpec] = []
        self.bytes = 0

    def add(self, name: str, dtype: torch.dtype, size: Sequence[int], *, channels_last: bool = False) -> None:
        """Append a tensor; with ``channels_last`` (n, c, h, w) is stored in the order n, h, w, c."""
        order = (0, 2, 3, 1) if channels_last else range(len(size))
        stride, step = [0] * len(size), 1
        for axis in reversed(order):
            stride[axis] = step
            step *= size[axis]
        self.tensors.append(TensorSpec(name, dtype, tuple(size), tuple(stride), self.bytes))
        self.bytes += -(-step * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT


class Buffer:
    """Memory of a batch: a (bytes,) uint8 tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @classmethod
    def pinned(cls, size: int) -> Buffer:
        """Pinned memory; PyTorch recycles it once no copy from it is under way."""
        return cls(torch.empty(size, dtype=torch.uint8, pin_memory=True))

    def views(self, specs: Iterable[TensorSpec]) -> Tensors:
        """The tensors in the buffer, by name."""
        return {spec.name: spec.view(self.tensor) for spec in specs}

    def hand_over(self) -> Tensor | Share:
        """What the process that receives it passes to :func:`received`."""
        return self.tensor


#: Returns a buffer of a number of bytes.
Allocator: TypeAlias = Callable[[int], Buffer]
#: A share of a shared buffer: the numbers of the buffers, of the buffer and of the share.
Share: TypeAlias = tuple[int, int, int]


def received(source: Tensor | Share) -> Buffer:
    """The buffer that another process has handed over to this one."""
    if isinstance(source, Tensor):
        return Buffer(source)
    number, buffer, share = source
    return Buffer(_made_here[number].view(buffer, share))


class MemoryPool:
    """Allocates memory of this process, and recycles it once no tensor of it is left: new memory is slow."""

    def __init__(self) -> None:
        # Threads, and the garbage collector in any of them, append and pop in single steps.
        self._free: deque[NDArray[np.uint8]] = deque()

    def __reduce__(self) -> tuple[type[MemoryPool], tuple[()]]:
        return MemoryPool, ()

    def __call__(self, size: int) -> Buffer:
        """A buffer of ``size`` bytes."""
        if size < _LEAST_RECYCLED_BYTES:
            return Buffer(torch.from_numpy(np.empty(size, np.uint8)))
        whole = self._fitting(size)
        memory = whole[:size]
        # A tensor keeps the array that it was made from, and all views of a tensor keep the same array.
        weakref.finalize(memory, self._free.append, whole)
        return Buffer(torch.from_numpy(memory))

    def _fitting(self, size: int) -> NDArray[np.uint8]:
        with suppress(IndexError):  # another thread took the last
            for _ in range(len(self._free)):
                memory = self._free.popleft()
                if size <= len(memory) <= 2 * size:
                    return memory
                if len(self._free) < _MAX_FREE_BUFFERS:
                    self._free.append(memory)
        return np.empty(size, np.uint8)


#: The shared buffers that this process made, by number, for batches that arrive from workers.
_made_here: weakref.WeakValueDictionary[int, SharedBuffers] = weakref.WeakValueDictionary()
_numbers = itertools.count()


class SharedBuffers:
    """``count`` buffers of ``size`` bytes shared with worker processes, each for ``shares`` batches, and
    recycled.

    A worker writes samples into a free buffer and sends where they are, not their bytes. The buffer is free
    again once the worker has dropped it and no tensor of it is left in the process that received it. Fresh
    shared memory for every batch costs several times the time to decode the batch.
    """

    def __init__(self, count: int, size: int, shares: int, context: BaseContext) -> None:
        self.count, self._size = count, -(-size // _PAGE) * _PAGE
        self._shares, self._context = shares, context
        self._memory = _shared_bytes(count * self._size, context)
        # The users of each buffer: the worker that fills it, then the receiver of each share. An entry is set
        # by one process and cleared by one; the worker's stays until those of the shares are set.
        self._users = _shared_bytes(count * (1 + shares), context)
        self._lock = context.Lock()
        self.number = next(_numbers)
        _made_here[self.number] = self

    def like(self) -> Callable[[], SharedBuffers]:
        """What makes other buffers of the same sizes, in another process: these are this one's."""
        return partial(SharedBuffers, self.count, self._size, self._shares, self._context)

    @property
    def _table(self) -> NDArray[np.uint8]:
        """(buffers, 1 + shares) uint8: 1 where a buffer is in use."""
        return np.frombuffer(self._users, np.uint8).reshape(self.count, -1)

    def acquire(self, size: int) -> SharedBuffer | None:
        """A free buffer of at least ``size`` bytes; ``None`` if there is none."""
        if size > self._size or not self._lock.acquire(timeout=_LOCK_TIMEOUT_SECONDS):
            return None
        try:
            free = np.flatnonzero(~self._table.any(axis=1))
            if not len(free):
                return None
            buffer = int(free[0])
            self._table[buffer, 0] = 1
        finally:
            self._lock.release()
        return SharedBuffer(self, buffer)

    def mark(self, buffer: int, share: int) -> bool:
        """Mark a share as in use by its receiver; False if there is no such share."""
        if share >= self._table.shape[1]:
            return False
        self._table[buffer, share] = 1
        return True

    def view(self, buffer: int, share: int) -> Tensor:
        """The memory of a buffer; its mark is cleared when no tensor of it is left in this process."""
        memory = np.frombuffer(self._memory, np.uint8, count=self._size, offset=buffer * self._size)
        weakref.finalize(memory, self._release, buffer, share, os.getpid())
        return torch.from_numpy(memory)

    def _release(self, buffer: int, share: int, process: int) -> None:
        # A process forked meanwhile has copies of its parent's arrays, but does not own the marks.
        if os.getpid() == process:
            self._table[buffer, share] = 0


class SharedBuffer(Buffer):
    """A shared buffer in the worker that acquired it."""

    def __init__(self, buffers: SharedBuffers, number: int) -> None:
        super().__init__(buffers.view(number, 0))
        self._buffers, self._number = buffers, number
        self._shares = itertools.count(1)

    def hand_over(self) -> Tensor | Share:
        """A share, marked as in use by its receiver; the tensor itself if no share is left."""
        share = next(self._shares)
        if not self._buffers.mark(self._number, share):
            return self.tensor
        return self._buffers.number, self._number, share


def _shared_bytes(size: int, context: BaseContext) -> Any:
    """(size,) bytes of zeros, shared with processes that this one starts."""
    if context.get_start_method() == "fork":
        # Takes no space in /dev/shm, which is small in containers.
        return mmap.mmap(-1, size)
    return context.RawArray(ctypes.c_uint8, size)

"""Arrays of the host as what an ONNX Runtime session takes and gives, on any device."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def value_of(array: NDArray[Any], device: str = "cpu") -> Any:
    """ONNX Runtime's value of a C-contiguous array: on the host the array itself, elsewhere a copy."""
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0)


def run_into(session: Any, feeds: Mapping[str, Any], output: str, out: NDArray[Any]) -> None:
    """Runs a session from values, on the host or on its device, and writes an output into an array.

    ``out`` is C-contiguous. Of the ways that ONNX Runtime's Python interface has, this one copies to and from
    a device on the stream that computes, and without Python's lock: with the others no thread of Python goes
    on meanwhile.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import OrtValueVector

    given, taken = OrtValueVector(), OrtValueVector()
    for value in feeds.values():
        given.push_back(value._get_c_value())
    answer = value_of(out)
    taken.push_back(answer._get_c_value())
    host = onnxruntime.OrtDevice.make("cpu", 0)._get_c_device()
    session.run_with_ortvaluevector(onnxruntime.RunOptions(), list(feeds), given, [output], taken, [host])


class Buffers(threading.local):
    """Buffers of the calling thread, kept by their names for its next calls.

    ``allocate`` gives so many bytes, (n,) uint8, from which the device copies best; ``None`` for ordinary
    memory.
    """

    def __init__(self, allocate: Callable[[int], NDArray[np.uint8]] | None) -> None:
        self._allocate = allocate or (lambda size: np.empty(size, np.uint8))
        self._kept: dict[str, NDArray[np.uint8]] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """The buffer of that name, as an array of any content; it is made anew where it is too small."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if name not in self._kept or len(self._kept[name]) < size:
            self._kept[name] = self._allocate(size)
        return self._kept[name][:size].view(dtype).reshape(shape)

    def staged(self, name: str, array: NDArray[Any], rows: int, *, is_copied: bool) -> NDArray[Any]:
        """The array with so many rows, the last one repeated; in a buffer where the device copies it.

        What lies in the buffer of that name, and has all rows, stays where it is.
        """
        if len(array) == rows and (not is_copied or self._has(name, array)):
            return array
        staged = self.get(f"staged {name}", (rows, *array.shape[1:]), array.dtype)
        staged[: len(array)] = array
        staged[len(array) :] = array[-1]
        return staged

    def _has(self, name: str, array: NDArray[Any]) -> bool:
        buffer = self._kept.get(name)
        if buffer is None:
            return False
        start, first = array.ctypes.data, buffer.ctypes.data
        return first <= start and start + array.nbytes <= first + len(buffer)

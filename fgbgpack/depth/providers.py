"""ONNX Runtime's execution providers, and NVIDIA's driver.

CUDA graphs are not used: they save some microseconds for each kernel that is launched, which batches in
flight hide, since one is launched while another computes. And they replay old numbers silently unless every
input keeps its address, one thread runs them and no node runs elsewhere. docs/gpu.md has the numbers.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import platform
import re
import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from fgbgpack.depth.libraries import build_refusal, driver_refusal, preload
from fgbgpack.depth.model import DepthModel
from fgbgpack.depth.onnx_file import bind_batch, declared_shape
from fgbgpack.depth.precision import Precision
from fgbgpack.depth.registry import models_folder

Device = Literal["auto", "cpu", "cuda", "tensorrt"]

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


#: The library of NVIDIA's driver.
DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@dataclass(frozen=True)
class Execution:
    """How networks run. The device ``"auto"`` takes the first of TensorRT, CUDA and CPU that works."""

    precision: Precision = "fp32"
    device: Device = "auto"


#: Messages of ONNX Runtime, CUDA, cuDNN, cuBLAS and TensorRT when memory runs out.
_OUT_OF_MEMORY = re.compile(
    "failed to allocate memory|out of memory|outofmemory|cudaerrormemoryallocation|status_alloc_failed"
    "|bad_alloc|bad allocation",
    re.IGNORECASE,
)

#: Every provider has these for pictures: where one runs on the CPU, it computes a shape.
_SHAPE_ARITHMETIC = {
    "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor",
    "Gather", "Greater", "Identity", "Less", "Mod", "Mul", "Not", "Or", "Range", "ReduceProd", "Reshape",
    "Round", "ScatterND", "Shape", "Size", "Slice", "Split", "Squeeze", "Sub", "Transpose",
    "Unsqueeze", "Where",
}  # fmt: skip

#: The part of the free memory that one batch may take, since others use the GPU too.
_SHARE_OF_FREE = 0.5
#: Convolutions need about as much memory for their workspace as for their tensors.
_WORKSPACE = 2
#: Of pinned memory: all contexts know it as such.
_PORTABLE = 1


class UnavailableError(Exception):
    """A device that cannot be used here, with the reason."""


#: The smallest and the largest shape of each input.
ShapeRanges: TypeAlias = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]


def input_shapes(compiled: ModelProto, most: Mapping[str, int]) -> ShapeRanges:
    """The shapes of the inputs of a compiled graph, whose free axes go from 1 to ``most``, by their names."""
    shapes = {}
    for value in compiled.graph.input:
        sides = value.type.tensor_type.shape.dim
        least, largest = (
            tuple(axes[side.dim_param] if side.dim_param else side.dim_value for side in sides)
            for axes in (dict.fromkeys(most, 1), most)
        )
        shapes[value.name] = least, largest
    return shapes


def provider_options(
    device: str, precision: Precision, shapes: ShapeRanges, engines: Path | None
) -> list[tuple[str, dict[str, str]]]:
    """The providers of a session with their options, that of the device first.

    ``shapes`` are those of the inputs, and ``engines`` is where TensorRT caches its engines; ``None`` to
    build them each time.
    """
    if device == "cpu":
        return [(PROVIDERS["cpu"], {})]
    cuda = {
        "use_tf32": "0",  # full float32, as on a CPU
        # Measuring picks other convolutions from run to run, with other last bits.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The default grows to powers of two, half of which may never be used.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if device == "cuda":
        return [(PROVIDERS["cuda"], cuda)]
    free = {name: both for name, both in shapes.items() if both[0] != both[1]}
    least, most = (
        ",".join(f"{name}:{'x'.join(map(str, both[end]))}" for name, both in free.items()) for end in (0, 1)
    )
    # For TensorRT, ONNX Runtime accepts "True" and "False" only, not "1" as for CUDA.
    tensorrt = {"trt_fp16_enable": str(precision == "fp16")}
    if engines is not None:
        for cache in ("engine", "timing"):
            tensorrt |= {f"trt_{cache}_cache_enable": "True", f"trt_{cache}_cache_path": str(engines)}
    if free:
        tensorrt |= {
            "trt_profile_min_shapes": least,
            "trt_profile_opt_shapes": most,
            "trt_profile_max_shapes": most,
        }
    return [(PROVIDERS["tensorrt"], tensorrt), (PROVIDERS["cuda"], cuda)]


def engine_folder(model: DepthModel, precision: Precision, sizes: Mapping[str, Any], gpu: str) -> Path:
    """Where TensorRT caches its engine: a folder for everything that the engine depends on, such as the sizes
    that the graph was compiled for and those of batches. TensorRT itself checks little of that before it
    loads a cached engine.
    """
    import onnxruntime

    key = {
        "model": model.sha256,
        "card": model.card.document,
        "precision": precision,
        "sizes": dict(sizes),
        "gpu": gpu,
        "onnxruntime": onnxruntime.__version__,
        "tensorrt": _tensorrt_version(),
        # Tells TensorRT whether it may round float32 to TF32.
        "tf32": os.environ.get("NVIDIA_TF32_OVERRIDE"),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return models_folder() / "tensorrt" / f"{model.name}-{digest[:16]}"


def affordable_batch(free: int, picture_bytes: int) -> int:
    """The largest batch that fits into the free memory of a GPU: a power of two, at least 1, so that slightly
    different free memory does not make TensorRT build another engine.
    """
    count = int(free * _SHARE_OF_FREE) // max(1, picture_bytes * _WORKSPACE)
    return 1 << max(0, count.bit_length() - 1)


def picture_bytes(compiled: ModelProto) -> int:
    """The most bytes that the tensors of one picture take while a compiled graph runs in order: an estimate,
    as tensors of unknown shape count as nothing.
    """
    graph = ModelProto()
    graph.CopyFrom(compiled)
    bind_batch(graph.graph)
    del graph.graph.output[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    except Exception:  # inference raises anything
        return 0
    sizes = {value.name: _bytes(value) for value in (*inferred.input, *inferred.value_info)}
    last_use = {name: i for i, node in enumerate(inferred.node) for name in (*node.input, *node.output)}
    alive = most = sum(sizes[value.name] for value in inferred.input)
    for i, node in enumerate(inferred.node):
        alive += sum(sizes.get(name, 0) for name in node.output)
        most = max(most, alive)
        ended = {name for name in (*node.input, *node.output) if last_use[name] == i}
        alive -= sum(sizes.get(name, 0) for name in ended)
    return most


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of ONNX Runtime says that memory ran out."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def cpu_fallbacks(session: Any, provider: str) -> str | None:
    """A notice of the nodes that run on the CPU, if any, of a GPU session that was opened with the entry
    ``session.record_ep_graph_assignment_info``.
    """
    if provider == PROVIDERS["cpu"]:
        return None
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return "This version of ONNX Runtime does not tell which parts of the network run on the CPU."
    where = session.get_provider_graph_assignment_info()
    nodes = [(part.ep_name, node.op_type) for part in where for node in part.get_nodes()]
    on_cpu = Counter(op for name, op in nodes if name == PROVIDERS["cpu"] and op not in _SHAPE_ARITHMETIC)
    if not on_cpu:
        return None
    listed = ", ".join(f"{op} ({count})" for op, count in sorted(on_cpu.items()))
    return (
        f"{on_cpu.total()} of the {len(nodes)} nodes of the network run on the CPU, since {provider} lacks "
        f"them: {listed}."
    )


class Gpu:
    """A GPU that this process may use, by default the first, through NVIDIA's driver."""

    def __init__(self, driver: Any, index: int = 0) -> None:
        self._driver = driver
        self._index = index

    @classmethod
    def require(cls, onnxruntime: Any, device: str) -> Gpu:
        """Checks for provider, driver and GPU before ONNX Runtime, which writes to stderr, tries."""
        if PROVIDERS[device] not in onnxruntime.get_available_providers():
            raise UnavailableError(str(build_refusal(PROVIDERS[device])))
        try:
            driver = ctypes.CDLL(DRIVER)
        except OSError:
            raise UnavailableError(f"there is no NVIDIA driver ({DRIVER} was not found)") from None
        count = ctypes.c_int(0)
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
            raise UnavailableError(f"the NVIDIA driver ({DRIVER}) is there, but it finds no GPU")
        supported = ctypes.c_int(0)
        driver.cuDriverGetVersion(ctypes.byref(supported))
        if (refusal := driver_refusal(supported.value, device)) is not None:
            raise UnavailableError(str(refusal))
        preload(device)
        return cls(driver)

    @property
    def name(self) -> str:
        """Its name; empty if unknown."""
        text = ctypes.create_string_buffer(256)
        device = ctypes.c_int(0)
        failed = self._driver.cuDeviceGet(ctypes.byref(device), self._index) != 0
        return "" if failed or self._driver.cuDeviceGetName(text, 256, device) != 0 else text.value.decode()

    @property
    def total_bytes(self) -> int | None:
        """Its memory; ``None`` if unknown."""
        total, device = ctypes.c_size_t(0), ctypes.c_int(0)
        if self._driver.cuDeviceGet(ctypes.byref(device), self._index) != 0:
            return None
        return None if self._driver.cuDeviceTotalMem_v2(ctypes.byref(total), device) != 0 else total.value

    @property
    def capability(self) -> tuple[int, int] | None:
        """Its compute capability, e.g. ``(7, 5)``; ``None`` if unknown."""
        device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
        if self._driver.cuDeviceGet(ctypes.byref(device), self._index) != 0:
            return None
        # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        for attribute, value in ((75, major), (76, minor)):
            if self._driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != 0:
                return None
        return major.value, minor.value

    @property
    def free_bytes(self) -> int | None:
        """Its free memory; ``None`` if unknown."""
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        with self._context() as is_there:
            asked = is_there and self._driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
        return free.value if asked else None

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Bytes of host memory that the GPU copies from by itself, at the full rate of the bus and while it
        computes; ordinary memory where none can be had, from which the driver copies more slowly.
        """
        address = ctypes.c_void_p()
        with self._context() as is_there:
            if not is_there or self._driver.cuMemHostAlloc(ctypes.byref(address), size, _PORTABLE) != 0:
                return np.empty(size, np.uint8)
        memory = (ctypes.c_uint8 * size).from_address(address.value or 0)
        # At exit the driver may be gone before it.
        weakref.finalize(memory, self._free_pinned, address).atexit = False
        return np.ctypeslib.as_array(memory)

    def _free_pinned(self, address: ctypes.c_void_p) -> None:
        with self._context() as is_there:
            if is_there:
                self._driver.cuMemFreeHost(address)

    @contextmanager
    def _context(self) -> Iterator[bool]:
        """The primary context, which ONNX Runtime's CUDA runtime shares; ``False`` where it cannot be had."""
        driver, device, context = self._driver, ctypes.c_int(0), ctypes.c_void_p()
        is_there = driver.cuDeviceGet(ctypes.byref(device), self._index) == 0
        if not is_there or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) != 0:
            yield False
            return
        is_current = driver.cuCtxPushCurrent_v2(context) == 0
        try:
            yield is_current
        finally:
            if is_current:
                driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
            driver.cuDevicePrimaryCtxRelease_v2(device)


def processor_name() -> str:
    """The name of this machine's processor; empty if unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor()


def _bytes(value: onnx.ValueInfoProto) -> int:
    element = value.type.tensor_type.elem_type
    shape = declared_shape(value)
    if shape is None or element in (TensorProto.UNDEFINED, TensorProto.STRING):
        return 0
    return int(helper.tensor_dtype_to_np_dtype(element).itemsize) * math.prod(side or 0 for side in shape)


def _tensorrt_version() -> int | None:
    library = "nvinfer_10.dll" if sys.platform == "win32" else "libnvinfer.so.10"
    try:
        return int(ctypes.CDLL(library).getInferLibVersion())
    except (OSError, AttributeError):
        return None

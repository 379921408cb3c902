"""What ONNX Runtime and NVIDIA's driver are asked for, and what they answer.

No CUDA graphs are used. They would save the launching of kernels, some microseconds each, where a batch as
large as it is here works for tens of milliseconds; in return they want every input at one address, one
thread, and no node anywhere else, and where one of these is overlooked they replay old numbers. Nor is memory
pinned: a batch is some megabytes of bytes, copied while other threads render the next, and ONNX Runtime's
Python interface has pinned memory in its newest versions only.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, TensorProto, helper

from fgbgpack.depth.card import DepthModel, declared_shape
from fgbgpack.depth.precision import Precision
from fgbgpack.depth.registry import models_folder

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

#: How ONNX Runtime, CUDA, cuDNN, cuBLAS and TensorRT say that memory has run out; in lower case.
_OUT_OF_MEMORY = (
    "failed to allocate memory",
    "out of memory",
    "outofmemory",
    "cudaerrormemoryallocation",
    "status_alloc_failed",
    "bad_alloc",
    "bad allocation",
)

#: Providers have all of these for pictures: where one stays on the CPU, it works out the shape of something.
_SHAPE_ARITHMETIC = {
    "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor",
    "Gather", "Greater", "Identity", "Less", "Mod", "Mul", "Not", "Or", "Range", "ReduceProd", "Reshape",
    "Round", "ScatterND", "Shape", "Size", "Slice", "Split", "Squeeze", "Sub", "Transpose",
    "Unsqueeze", "Where",
}  # fmt: skip

#: Of the memory that is free, the part that one batch may take: others use the GPU too.
_SHARE_OF_FREE = 0.5
#: What convolutions take to work in is about as much as what they work on.
_WORKSPACE = 2


class UnavailableError(Exception):
    """A device that cannot be had here, with the reason."""


def provider_options(
    device: str,
    precision: Precision,
    batch: tuple[int, int],
    inputs: Mapping[str, tuple[int, ...]],
    engines: Path | None,
) -> list[tuple[str, dict[str, str]]]:
    """The providers of a session on a device, the first being the one that is asked for, with their options.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"tensorrt"``.
        precision: Of the network.
        batch: The fewest and the most pictures in a batch.
        inputs: The graph's inputs that hold something for each picture, with the shape of one.
        engines: Where TensorRT keeps what it has built; ``None`` to build it each time.
    """
    if device == "cpu":
        return [(PROVIDERS["cpu"], {})]
    cuda = {
        "use_tf32": "0",  # full float32, as on a CPU
        # By measuring, the fastest convolution is another one from run to run, and so are the last bits.
        "cudnn_conv_algo_search": "HEURISTIC",
        # Else memory grows to the next power of two, and half of it may never be used.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if device == "cuda":
        return [(PROVIDERS["cuda"], cuda)]
    fewest, most = (
        ",".join(f"{name}:{'x'.join(map(str, (n, *shape)))}" for name, shape in inputs.items()) for n in batch
    )
    # ONNX Runtime takes these two words for TensorRT, and nothing else: not "1", as for CUDA.
    tensorrt = {"trt_fp16_enable": str(precision == "fp16")}
    if engines is not None:
        for cache in ("engine", "timing"):
            tensorrt |= {f"trt_{cache}_cache_enable": "True", f"trt_{cache}_cache_path": str(engines)}
    if fewest != most:
        tensorrt |= {
            "trt_profile_min_shapes": fewest,
            "trt_profile_opt_shapes": most,
            "trt_profile_max_shapes": most,
        }
    return [(PROVIDERS["tensorrt"], tensorrt), (PROVIDERS["cuda"], cuda)]


def engine_folder(
    model: DepthModel, precision: Precision, batch: tuple[int, int], sizes: Mapping[str, Any], gpu: str
) -> Path:
    """Where TensorRT keeps what it has built of a model: a folder of its own for all that it depends on.

    TensorRT itself looks at little of that before it takes an engine that it finds.

    Args:
        model: The model.
        precision: Its precision.
        batch: The fewest and the most pictures in a batch.
        sizes: Of the pictures and the samples, and all else that the graph was compiled for.
        gpu: Name of the GPU.
    """
    import onnxruntime

    key = {
        "model": model.sha256,
        "card": model.card,
        "precision": precision,
        "batch": batch,
        "sizes": dict(sizes),
        "gpu": gpu,
        "onnxruntime": onnxruntime.__version__,
        "tensorrt": _tensorrt_version(),
        # Nobody else tells TensorRT whether float32 may be rounded to TF32.
        "tf32": os.environ.get("NVIDIA_TF32_OVERRIDE"),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return models_folder() / "tensorrt" / f"{model.name}-{digest[:16]}"


def affordable_batch(free: int, picture_bytes: int) -> int:
    """How many pictures at once fit into the free memory of a GPU: a power of two, at least 1.

    A power of two, since a little more or less free memory must not make TensorRT build another engine.
    """
    count = int(free * _SHARE_OF_FREE) // max(1, picture_bytes * _WORKSPACE)
    return 1 << max(0, count.bit_length() - 1)


def picture_bytes(compiled: ModelProto) -> int:
    """The most bytes that the tensors of one picture take at a time, while a compiled graph runs in order.

    Tensors whose shape cannot be told count as nothing: it is a guess, to be mended when memory runs out.
    """
    graph = ModelProto()
    graph.CopyFrom(compiled)
    for value in graph.graph.input:
        batch = value.type.tensor_type.shape.dim[0]
        if batch.dim_param:
            batch.dim_value = 1
    del graph.graph.output[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    except Exception:  # it raises whatever it stumbles on
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
    """Whether that is what an error of ONNX Runtime says."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY)


def strays(session: Any, provider: str) -> str | None:
    """What of the graph of a session on another device runs on the CPU; ``None`` if there is nothing to tell.

    The session must have been made with the entry ``session.record_ep_graph_assignment_info``.
    """
    if provider == PROVIDERS["cpu"]:
        return None
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return "This version of ONNX Runtime cannot tell whether parts of the network run on the CPU."
    where = session.get_provider_graph_assignment_info()
    nodes = [(part.ep_name, node.op_type) for part in where for node in part.get_nodes()]
    on_cpu = Counter(op for name, op in nodes if name == PROVIDERS["cpu"] and op not in _SHAPE_ARITHMETIC)
    if not on_cpu:
        return None
    listed = ", ".join(f"{op} ({count})" for op, count in sorted(on_cpu.items()))
    return (
        f"{on_cpu.total()} of the {len(nodes)} nodes of the network run on the CPU, as {provider} does not "
        f"have them: {listed}."
    )


class Gpu:
    """The first GPU that this process may use, through NVIDIA's driver."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    @classmethod
    def require(cls, onnxruntime: Any, device: str) -> Gpu:
        """Make sure that a GPU can be there at all, before ONNX Runtime tries and complains.

        Raises:
            UnavailableError: It cannot.
        """
        if PROVIDERS[device] not in onnxruntime.get_available_providers():
            raise UnavailableError(
                f"this build of ONNX Runtime ({onnxruntime.__version__}) has no {PROVIDERS[device]}; "
                "pip install onnxruntime-gpu in place of onnxruntime"
            )
        library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        try:
            driver = ctypes.CDLL(library)
        except OSError:
            raise UnavailableError(f"there is no NVIDIA driver ({library} was not found)") from None
        count = ctypes.c_int(0)
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
            raise UnavailableError(f"the NVIDIA driver ({library}) is there, but it finds no GPU")
        if hasattr(onnxruntime, "preload_dlls"):
            # It finds the libraries that pip installed, and prints what it does not find.
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                onnxruntime.preload_dlls()
        return cls(driver)

    @property
    def name(self) -> str:
        """What it is called; empty where the driver does not say."""
        text = ctypes.create_string_buffer(256)
        device = ctypes.c_int(0)
        failed = self._driver.cuDeviceGet(ctypes.byref(device), 0) != 0
        return "" if failed or self._driver.cuDeviceGetName(text, 256, device) != 0 else text.value.decode()

    @property
    def free_bytes(self) -> int | None:
        """The memory that is free on it; ``None`` where the driver does not say."""
        driver, device, context = self._driver, ctypes.c_int(0), ctypes.c_void_p()
        if driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
            return None
        # Memory is asked of a context: the one that ONNX Runtime's CUDA runtime shares.
        if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) != 0:
            return None
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        try:
            if driver.cuCtxPushCurrent_v2(context) != 0:
                return None
            told = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
            driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        finally:
            driver.cuDevicePrimaryCtxRelease_v2(device)
        return free.value if told else None


def _bytes(value: onnx.ValueInfoProto) -> int:
    element = value.type.tensor_type.elem_type
    shape = declared_shape(value)
    if shape is None or element in (TensorProto.UNDEFINED, TensorProto.STRING):
        return 0
    size = int(helper.tensor_dtype_to_np_dtype(element).itemsize)
    for side in shape:
        size *= side or 0
    return size


def _tensorrt_version() -> int | None:
    library = "nvinfer_10.dll" if sys.platform == "win32" else "libnvinfer.so.10"
    try:
        return int(ctypes.CDLL(library).getInferLibVersion())
    except (OSError, AttributeError):
        return None

"""The ONNX Runtime session that runs a compiled depth model, on the device that was asked for."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fgbgpack.depth.card import DepthModel, input_size
from fgbgpack.depth.graph import DEPTH, IMAGES, STEP, compile_graph, session_options
from fgbgpack.errors import DepthModelError
from fgbgpack.kernels.half import half_extent

Device = Literal["auto", "cpu", "cuda", "tensorrt"]

_PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

#: Pixels that go through the network at once on a CPU. More do not stay in its cache: TCMonoDepth small at
#: 128x128 runs 780 pictures/s in batches of 4 and 640 in batches of 32, in an eighth of the memory.
_CPU_PIXELS = 4 * 128 * 128

#: The same on a GPU, which wants more to do at once, and the most pictures for both.
_GPU_PIXELS = 32 * 256 * 256
_LARGEST_BATCH = 32


class DepthSession:
    """A depth model, ready to run on batches of rendered pictures.

    On a CPU every run stays in the thread that calls it, and many threads may call one session at a
    time: that is faster than threads within the session, and no result depends on how many there are.

    Attributes:
        model: The model.
        provider: The execution provider that runs it, e.g. ``"CPUExecutionProvider"``. What that provider
            has no operator for runs on the CPU; the whole graph never does unless asked for.
        batch_size: How many pictures go through the network at once; it depends on nothing but the sizes and
            the kind of device. ``run`` takes any number.
        passed_over: With the device ``"auto"``, one line for each better device that could not be had.
    """

    def __init__(
        self,
        model: DepthModel,
        *,
        height: int,
        width: int,
        scale: int = 1,
        device: Device = "auto",
    ) -> None:
        """Compile the model for one size of pictures, choose the device, and prove that it runs there.

        Args:
            model: The network and its card.
            height: Height of a sample; pictures are rendered ``scale`` times as high.
            width: Width of a sample; likewise.
            scale: How many times larger than the sample the pictures are rendered.
            device: ``"auto"`` takes the first of TensorRT, CUDA and CPU that works.

        Raises:
            DepthModelError: The model cannot run at this size or gives values that are not finite, or the
                device cannot be had.
        """
        self.model = model
        self._rendered = (height * scale, width * scale)
        self._sample = (height, width)
        compiled = compile_graph(model, height=height, width=width, scale=scale)
        #: The batch size that the network's own graph is bound to, 0 where it is free.
        self._bound_batch: int = compiled.graph.input[0].type.tensor_type.shape.dim[0].dim_value
        graph = compiled.SerializeToString()
        refusals: list[str] = []
        for name in ("tensorrt", "cuda", "cpu") if device == "auto" else (device,):
            try:
                self._open(graph, name)
            except _UnavailableError as exc:
                refusals.append(f"{name}: {exc}")
            except DepthModelError as exc:
                if name == "cpu" or device != "auto":
                    raise
                refusals.append(f"{name}: {exc.message}")
            else:
                break
        else:
            raise DepthModelError(
                f"Depth cannot run on the device {device!r}. The device 'cpu' always works, and 'auto' takes "
                "the best that does:",
                refusals,
            )
        self.passed_over = tuple(refusals)

    def _open(self, graph: bytes, device: str) -> None:
        """Open the session on that device and prove that it runs there.

        Raises:
            _UnavailableError: The device cannot be had.
            DepthModelError: The model cannot run there.
        """
        size = "x".join(map(str, self._rendered))
        pixels = max(np.prod(self._rendered), np.prod(input_size(self.model.card, *self._rendered)))
        affordable = int((_CPU_PIXELS if device == "cpu" else _GPU_PIXELS) // pixels)
        self.batch_size = self._bound_batch or max(1, min(_LARGEST_BATCH, affordable))
        try:
            self._session = _session(
                self.model, graph, device, (self._bound_batch or 1, self.batch_size), self._rendered
            )
        except _UnavailableError:
            raise
        except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
            raise DepthModelError(
                f"{self.model.path} cannot be loaded for pictures of {size}: {exc}"
            ) from exc
        self.provider: str = self._session.get_providers()[0]
        self._on_host = device == "cpu"
        self._buffers = threading.local()
        pictures = np.zeros((2, *self._rendered, 3), np.uint8)
        pictures[1] = np.random.default_rng(0).integers(0, 256, pictures.shape[1:], np.uint8)
        try:
            self.run(pictures, np.empty((2, *self._sample), np.float16))
        except DepthModelError as exc:
            # What cannot work shall fail now, not after an hour.
            raise DepthModelError(
                f"A trial with a black and a noisy picture of {size} failed: {exc.message}"
            ) from exc

    def run(
        self, images: NDArray[np.uint8], out: NDArray[np.float16], *, step: float = 0.0
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Fill ``out`` with the depth of ``images``. Safe to call from many threads at once.

        Args:
            images: ``(n, height * scale, width * scale, 3)``, RGB.
            out: ``(n, height, width)``, C-contiguous, filled in the card's quantity and unit.
            step: The power of two that values are rounded to multiples of; 0 rounds to float16 only.

        Returns:
            The minimum and the maximum of each sample, ``(n,)`` each.

        Raises:
            DepthModelError: The network fails, or gives values that are not finite.
            ValueError: An array has another shape or type than this.
        """
        n = len(images)
        if images.shape != (n, *self._rendered, 3) or images.dtype != np.uint8:
            raise ValueError(
                f"images: found {images.dtype} {images.shape}, expected uint8 {('n', *self._rendered, 3)}"
            )
        if out.shape != (n, *self._sample) or out.dtype != np.float16 or not out.flags.c_contiguous:
            raise ValueError(
                f"out: found {out.dtype} {out.shape}, expected C-contiguous float16 {(n, *self._sample)}"
            )
        images = np.ascontiguousarray(images)
        grid = np.array([step], np.float32)
        try:
            for part in self._parts(n):
                self._run_part(images[part], out[part], grid)
        except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
            raise DepthModelError(f"{self.model.path} failed on a batch of pictures: {exc}") from exc
        minimum, maximum = np.empty(n, np.float16), np.empty(n, np.float16)
        bits = out.view(np.uint16).reshape(n, self._sample[0] * self._sample[1])
        wrong = half_extent(bits, minimum.view(np.uint16), maximum.view(np.uint16))
        if wrong:
            raise DepthModelError(
                f"{self.model.path} gave depth that is infinite or not a number for {wrong} of {n} pictures. "
                "Either the network does not fit its card (range, mean, std, transform), or its values "
                "exceed 65504, the largest that is stored: then scale them down in output.transform."
            )
        return minimum, maximum

    def _parts(self, n: int) -> Iterator[slice]:
        """Batches of equal size, but for one, so that none is left with a picture or two."""
        if self._bound_batch:
            step = self._bound_batch
        else:
            batches = -(-n // self.batch_size)
            step = -(-n // max(1, batches))
        for start in range(0, n, max(1, step)):
            yield slice(start, min(start + step, n))

    def _run_part(
        self, images: NDArray[np.uint8], out: NDArray[np.float16], step: NDArray[np.float32]
    ) -> None:
        n = len(images)
        if n < self._bound_batch:
            whole = np.zeros((self._bound_batch, *self._rendered, 3), np.uint8)
            whole[:n] = images
            answer = np.empty((self._bound_batch, *self._sample), np.float16)
            self._run_part(whole, answer, step)
            out[...] = answer[:n]
            return
        if self._on_host:
            binding = self._session.io_binding()
            binding.bind_input(IMAGES, "cpu", 0, np.uint8, images.shape, images.ctypes.data)
            binding.bind_input(STEP, "cpu", 0, np.float32, step.shape, step.ctypes.data)
            binding.bind_output(DEPTH, "cpu", 0, np.float16, out.shape, out.ctypes.data)
            self._session.run_with_iobinding(binding)
            return
        binding, images_there, depth_there = self._device_buffers(n)
        images_there.update_inplace(images)
        binding.bind_cpu_input(STEP, step)
        self._session.run_with_iobinding(binding)
        out[...] = depth_there.numpy()

    def _device_buffers(self, n: int) -> tuple[Any, Any, Any]:
        """The calling thread's buffers on the GPU for ``n`` pictures, made once, and the binding to them."""
        import onnxruntime

        by_count: dict[int, tuple[Any, Any, Any]] = self._buffers.__dict__.setdefault("by_count", {})
        if n not in by_count:
            make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
            images = make((n, *self._rendered, 3), np.uint8, "cuda", 0)
            depth = make((n, *self._sample), np.float16, "cuda", 0)
            binding = self._session.io_binding()
            binding.bind_ortvalue_input(IMAGES, images)
            binding.bind_ortvalue_output(DEPTH, depth)
            by_count[n] = binding, images, depth
        return by_count[n]


class _UnavailableError(Exception):
    """A device that cannot be had here, with the reason."""


def _session(
    model: DepthModel, graph: bytes, device: str, batch: tuple[int, int], rendered: tuple[int, int]
) -> Any:
    """An ONNX Runtime session of ``graph`` on that device, and no other, for that range of batch sizes.

    Raises:
        _UnavailableError: The device cannot be had.
    """
    import onnxruntime

    options = session_options(model)
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    if device == "cpu":
        return onnxruntime.InferenceSession(graph, options, providers=[_PROVIDERS["cpu"]])
    _require_gpu(onnxruntime, device)
    providers: list[Any] = [(_PROVIDERS["cuda"], {"use_tf32": "0"})]  # full float32, as on a CPU
    if device == "tensorrt":
        one, most = (f"{IMAGES}:{n}x{rendered[0]}x{rendered[1]}x3" for n in batch)
        shapes = {"min": one, "opt": most, "max": most}
        profile = {f"trt_profile_{which}_shapes": shape for which, shape in shapes.items()}
        providers.insert(0, (_PROVIDERS["tensorrt"], profile if one != most else {}))
    # A provider that cannot be loaded is only reported on stderr, and the next one taken: so silence, then
    # look. The severity that is set again is ONNX Runtime's default; it cannot be asked for.
    onnxruntime.set_default_logger_severity(4)
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=providers)
    finally:
        onnxruntime.set_default_logger_severity(2)
    session.disable_fallback()
    if session.get_providers()[0] != _PROVIDERS[device]:
        libraries, packages = "CUDA and cuDNN", '"onnxruntime-gpu[cuda,cudnn]"'
        if device == "tensorrt":
            libraries, packages = f"TensorRT, {libraries}", f"{packages} tensorrt"
        raise _UnavailableError(
            f"libraries that {_PROVIDERS[device]} needs cannot be loaded ({libraries}; ONNX Runtime "
            f"{onnxruntime.__version__} is built for CUDA {onnxruntime.cuda_version}): pip install {packages}"
        )
    return session


def _require_gpu(onnxruntime: Any, device: str) -> None:
    """Make sure that a GPU can be there at all, before ONNX Runtime tries and complains.

    Raises:
        _UnavailableError: It cannot.
    """
    if _PROVIDERS[device] not in onnxruntime.get_available_providers():
        raise _UnavailableError(
            f"this build of ONNX Runtime ({onnxruntime.__version__}) has no {_PROVIDERS[device]}; "
            "pip install onnxruntime-gpu in place of onnxruntime"
        )
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        raise _UnavailableError(f"there is no NVIDIA driver ({library} was not found)") from None
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        raise _UnavailableError(f"the NVIDIA driver ({library}) is there, but it finds no GPU")
    if hasattr(onnxruntime, "preload_dlls"):
        # It finds the libraries that pip installed, and prints what it does not find.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            onnxruntime.preload_dlls()

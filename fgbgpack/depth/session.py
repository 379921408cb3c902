"""The ONNX Runtime session that runs a compiled depth model, on the device that was asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from fgbgpack.depth.background import BackgroundDepth
from fgbgpack.depth.card import DepthModel, input_size
from fgbgpack.depth.graph import DEPTH, IMAGES, STEP, compile_graph, session_options
from fgbgpack.depth.guided import BACKGROUND, CENTRE, MASK, SPREAD
from fgbgpack.depth.kernels import half_extent
from fgbgpack.depth.precision import Precision
from fgbgpack.depth.providers import (
    PROVIDERS,
    Gpu,
    UnavailableError,
    affordable_batch,
    engine_folder,
    is_out_of_memory,
    picture_bytes,
    provider_options,
    strays,
)
from fgbgpack.errors import DepthModelError

Device = Literal["auto", "cpu", "cuda", "tensorrt"]

#: Pixels that go through the network at once on a CPU. More do not stay in its cache: TCMonoDepth small at
#: 128x128 runs 780 pictures/s in batches of 4 and 640 in batches of 32, in an eighth of the memory.
_CPU_PIXELS = 4 * 128 * 128

#: The same on a GPU, which wants more to do at once; memory permitting.
_GPU_PIXELS = 32 * 256 * 256

#: The most pictures in a batch.
_LARGEST_BATCH = {"cpu": 32, "cuda": 128, "tensorrt": 128}


class DepthSession:
    """A depth model, ready to run on batches of rendered pictures.

    On a CPU every run stays in the thread that calls it, and many threads may call one session at a
    time: that is faster than threads within the session, and no result depends on how many there are, or on
    the batches. On a GPU the threads take turns, so that its memory need hold one batch; the last bits of a
    result may depend on the size of the batch, and so on the memory that was free.

    Attributes:
        model: The model.
        precision: What the network's products are taken in.
        provider: The execution provider that runs it, e.g. ``"CPUExecutionProvider"``. What that provider
            has no operator for runs on the CPU; the whole graph never does unless asked for.
        batch_size: How many pictures go through the network at once, at most; ``run`` takes any number. It is
            halved where memory runs out.
        passed_over: With the device ``"auto"``, one line for each better device that could not be had.
        notices: What the user should know, a line each. It may grow while the session runs.
    """

    def __init__(
        self,
        model: DepthModel,
        *,
        height: int,
        width: int,
        scale: int = 1,
        precision: Precision = "fp32",
        device: Device = "auto",
        backgrounds: BackgroundDepth | None = None,
    ) -> None:
        """Compile the model for one size of pictures, choose the device, and prove that it runs there.

        Args:
            model: The network and its card.
            height: Height of a sample; pictures are rendered ``scale`` times as high.
            width: Width of a sample; likewise.
            scale: How many times larger than the sample the pictures are rendered.
            precision: ``"fp32"``, or ``"fp16"`` for the network's products in float16.
            device: ``"auto"`` takes the first of TensorRT, CUDA and CPU that works.
            backgrounds: Depth of the empty backgrounds, of ``height`` x ``width`` pixels, for a guided
                network and no other.

        Raises:
            DepthModelError: The model cannot run at this size or in this precision or gives values that are
                not finite, or the device cannot be had; or it is a guided network, and there is no depth
                of backgrounds.
            ValueError: The backgrounds have another size, or the network is not guided.
        """
        self.model = model
        self.precision = precision
        self._rendered = (height * scale, width * scale)
        self._sample = (height, width)
        self._turn = threading.Lock()
        self._backgrounds = backgrounds
        if backgrounds is not None and backgrounds.depth.shape[1:] != self._sample:
            raise ValueError(
                f"backgrounds: found depth of shape {backgrounds.depth.shape}, expected "
                f"{('backgrounds', *self._sample)}"
            )
        compiled = compile_graph(
            model,
            height=height,
            width=width,
            scale=scale,
            precision=precision,
            background=None if backgrounds is None else backgrounds.meaning,
        )
        #: What the graph takes of each picture: its inputs, with the shape of one.
        self._inputs: Mapping[str, tuple[int, ...]] = {
            value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim[1:])
            for value in compiled.graph.input
            if value.name != STEP
        }
        #: The batch size that the network's own graph is bound to, 0 where it is free.
        self._bound_batch: int = compiled.graph.input[0].type.tensor_type.shape.dim[0].dim_value
        refusals: list[str] = []
        for name in ("tensorrt", "cuda", "cpu") if device == "auto" else (device,):
            try:
                self._open(compiled, name)
            except UnavailableError as exc:
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

    def _open(self, compiled: ModelProto, device: str) -> None:
        """Open the session on that device and prove that it runs there.

        Raises:
            UnavailableError: The device cannot be had.
            DepthModelError: The model cannot run there.
        """
        self.notices: list[str] = []
        self._on_host = device == "cpu"
        self._buffers = threading.local()
        size = "x".join(map(str, self._rendered))
        gpu = None if device == "cpu" else _gpu(device)
        self.batch_size = self._bound_batch or self._first_batch(compiled, device, gpu)
        try:
            self._session = self._new_session(compiled.SerializeToString(), device, gpu)
        except UnavailableError:
            raise
        except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
            raise DepthModelError(
                f"{self.model.path} cannot be loaded for pictures of {size} in {self.precision}: {exc}"
            ) from exc
        self.provider: str = self._session.get_providers()[0]
        self._say_what_is_not_as_asked(device)
        pictures = np.zeros((2, *self._rendered, 3), np.uint8)
        pictures[1] = np.random.default_rng(0).integers(0, 256, pictures.shape[1:], np.uint8)
        # Whether a whole batch fits into a GPU's memory had better show here.
        n = 2 if self._on_host else max(2, self.batch_size)
        try:
            self.run(
                pictures[np.arange(n) % 2],
                np.empty((n, *self._sample), np.float16),
                mask=np.full((n, *self._sample), 255, np.uint8) if MASK in self._inputs else None,
                background=None
                if self._backgrounds is None
                else (np.arange(n) % len(self._backgrounds)).astype(np.int32),
            )
        except DepthModelError as exc:
            # What cannot work shall fail now, not after an hour.
            raise DepthModelError(
                f"A trial with a black and a noisy picture of {size} failed: {exc.message}"
            ) from exc

    def _first_batch(self, compiled: ModelProto, device: str, gpu: Gpu | None) -> int:
        """The batch size to begin with: it depends on the sizes, and on the free memory of a GPU."""
        pixels = max(np.prod(self._rendered), np.prod(input_size(self.model.card, *self._rendered)))
        wanted = int((_CPU_PIXELS if device == "cpu" else _GPU_PIXELS) // pixels)
        wanted = max(1, min(_LARGEST_BATCH[device], wanted))
        free = None if gpu is None else gpu.free_bytes
        return wanted if free is None else min(wanted, affordable_batch(free, picture_bytes(compiled)))

    def _new_session(self, graph: bytes, device: str, gpu: Gpu | None) -> Any:
        """An ONNX Runtime session of ``graph`` on that device, and no other.

        Raises:
            UnavailableError: The device cannot be had.
        """
        import onnxruntime

        options = session_options(self.model)
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        batch = (self._bound_batch or 1, self.batch_size)
        engines = self._engines(batch, gpu) if gpu is not None and device == "tensorrt" else None
        providers = provider_options(device, self.precision, batch, self._inputs, engines)
        if gpu is None:
            return onnxruntime.InferenceSession(graph, options, providers=providers)
        # A provider that cannot be loaded is only reported on stderr, and the next one taken: so silence,
        # then look. The severity that is set again is ONNX Runtime's default; it cannot be asked for.
        onnxruntime.set_default_logger_severity(4)
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=providers, enable_fallback=0)
        except Exception as exc:
            if "TensorRT libraries" in str(exc):
                raise _missing_libraries(onnxruntime, device) from exc
            raise
        finally:
            onnxruntime.set_default_logger_severity(2)
        if session.get_providers()[0] != PROVIDERS[device]:
            raise _missing_libraries(onnxruntime, device)
        return session

    def _engines(self, batch: tuple[int, int], gpu: Gpu) -> Path | None:
        """Where TensorRT keeps its engines; ``None`` where nothing can be kept."""
        meaning = None if self._backgrounds is None else self._backgrounds.meaning
        sizes = {"sample": self._sample, "rendered": self._rendered, "background": meaning}
        folder = engine_folder(self.model, self.precision, batch, sizes, gpu.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            self.notices.append(
                f"TensorRT builds its engine anew each time, as {folder} cannot be made: {exc}"
            )
            return None
        return folder

    def _say_what_is_not_as_asked(self, device: str) -> None:
        stray = strays(self._session, self.provider)
        if stray is not None:
            self.notices.append(stray)
        if device == "cpu" and self.precision == "fp16":
            self.notices.append(
                "fp16 is for GPUs: a CPU has no float16 arithmetic that is fast, and fp32 is more exact."
            )
        if (
            device == "tensorrt"
            and self.precision == "fp32"
            and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
        ):
            self.notices.append(
                "TensorRT may take products in TF32, which has 10 bits of precision and not 23: for float32 "
                "give --device cuda, or set NVIDIA_TF32_OVERRIDE=0."
            )

    def run(
        self,
        images: NDArray[np.uint8],
        out: NDArray[np.float16],
        *,
        step: float = 0.0,
        mask: NDArray[np.uint8] | None = None,
        background: NDArray[np.int32] | None = None,
    ) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Fill ``out`` with the depth of ``images``. Safe to call from many threads at once.

        Args:
            images: ``(n, height * scale, width * scale, 3)``, RGB.
            out: ``(n, height, width)``, C-contiguous, filled in the card's quantity and unit, or by a guided
                network in those of the backgrounds.
            step: The power of two that values are rounded to multiples of; 0 rounds to float16 only.
            mask: ``(n, height, width)``, where the foreground is; for a network that takes it, and no other.
            background: ``(n,)``, int32, which of the backgrounds each picture has; for a guided network, and
                no other.

        Returns:
            The minimum and the maximum of each sample, ``(n,)`` each.

        Raises:
            DepthModelError: The network fails, or gives values that are not finite.
            ValueError: An array has another shape or type than this, is missing or not for this network.
        """
        n = len(images)
        _check_array("images", images, np.uint8, (n, *self._rendered, 3))
        _check_array("out", out, np.float16, (n, *self._sample))
        if not out.flags.c_contiguous:
            raise ValueError("out: found an array that is not C-contiguous, expected one that is")
        self._check_guides(n, mask, background)
        given = {IMAGES: np.ascontiguousarray(images)}
        if mask is not None:
            given[MASK] = np.ascontiguousarray(mask)
        grid = np.array([step], np.float32)
        done = 0
        while done < n:
            part = slice(done, done + self._next_batch(n - done))
            fed: dict[str, NDArray[Any]] = {name: array[part] for name, array in given.items()}
            if background is not None:
                fed |= self._told(background[part])
            try:
                self._run_part(fed, out[part], grid)
            except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
                if is_out_of_memory(exc) and self._halve(len(out[part])):
                    continue
                raise DepthModelError(f"{self.model.path} failed on a batch of pictures: {exc}") from exc
            done = part.stop
        minimum, maximum = np.empty(n, np.float16), np.empty(n, np.float16)
        bits = out.view(np.uint16).reshape(n, self._sample[0] * self._sample[1])
        wrong = half_extent(bits, minimum.view(np.uint16), maximum.view(np.uint16))
        if wrong:
            narrow = (
                "Perhaps the network needs larger numbers than float16 has: try --precision fp32. "
                if self.precision == "fp16"
                else ""
            )
            raise DepthModelError(
                f"{self.model.path} gave depth that is infinite or not a number for {wrong} of {n} pictures. "
                f"{narrow}Either the network does not fit its card (range, mean, std, transform), or its "
                "values exceed 65504, the largest that is stored: then scale them down in output.transform."
            )
        return minimum, maximum

    def _next_batch(self, left: int) -> int:
        """How many of the pictures that are left come next: equal batches, so that no small one remains."""
        if self._bound_batch:
            return min(self._bound_batch, left)
        batches = -(-left // self.batch_size)
        return -(-left // batches)

    def _halve(self, failed: int) -> bool:
        """Make batches half as large as the one that was too much for memory; False if there is no half."""
        if self._bound_batch or failed == 1:
            return False
        self._buffers.__dict__.clear()
        with self._turn:
            # Another thread may have been here with a batch of the same size.
            if self.batch_size > failed // 2:
                self.batch_size = failed // 2
                self.notices.append(
                    f"Memory does not suffice for {failed} pictures at a time: batches are of "
                    f"{self.batch_size} from here on."
                )
        return True

    def _check_guides(
        self, n: int, mask: NDArray[np.uint8] | None, background: NDArray[np.int32] | None
    ) -> None:
        for name, array, takes in (
            ("mask", mask, MASK in self._inputs),
            ("background", background, self._backgrounds is not None),
        ):
            if takes != (array is not None):
                found, takes_it = ("an array", "takes none") if array is not None else ("None", "needs it")
                raise ValueError(f"{name}: found {found}, but {self.model.name} {takes_it}")
        if mask is not None:
            _check_array("mask", mask, np.uint8, (n, *self._sample))
        if background is not None and self._backgrounds is not None:
            _check_array("background", background, np.int32, (n,))
            most = len(self._backgrounds) - 1
            if n and (background.min() < 0 or background.max() > most):
                raise ValueError(
                    f"background: found {background.min()} to {background.max()}, expected 0 to {most}"
                )

    def _told(self, background: NDArray[np.int32]) -> dict[str, NDArray[np.float32]]:
        """What a guided network is told of some backgrounds."""
        backgrounds = self._backgrounds
        if backgrounds is None:
            return {}
        return {
            BACKGROUND: backgrounds.depth[background],
            CENTRE: backgrounds.centre[background],
            SPREAD: backgrounds.spread[background],
        }

    def _run_part(
        self, fed: Mapping[str, NDArray[Any]], out: NDArray[np.float16], step: NDArray[np.float32]
    ) -> None:
        n = len(out)
        if n < self._bound_batch:
            # The last picture again, as often as it takes.
            whole = np.minimum(np.arange(self._bound_batch), n - 1)
            answer = np.empty((self._bound_batch, *self._sample), np.float16)
            self._run_part({name: array[whole] for name, array in fed.items()}, answer, step)
            out[...] = answer[:n]
            return
        if self._on_host:
            binding = self._session.io_binding()
            for name, array in (*fed.items(), (STEP, step)):
                binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            binding.bind_output(DEPTH, "cpu", 0, np.float16, out.shape, out.ctypes.data)
            self._session.run_with_iobinding(binding)
            return
        binding, there, depth_there = self._device_buffers(n)
        for name, array in fed.items():
            there[name].update_inplace(array)
        binding.bind_cpu_input(STEP, step)
        with self._turn:
            self._session.run_with_iobinding(binding)
        out[...] = depth_there.numpy()

    def _device_buffers(self, n: int) -> tuple[Any, dict[str, Any], Any]:
        """The calling thread's buffers on the GPU for ``n`` pictures, made once, and the binding to them."""
        import onnxruntime

        by_count: dict[int, tuple[Any, dict[str, Any], Any]]
        by_count = self._buffers.__dict__.setdefault("by_count", {})
        if n not in by_count:
            make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
            there = {
                name: make((n, *shape), _input_type(name), "cuda", 0) for name, shape in self._inputs.items()
            }
            depth = make((n, *self._sample), np.float16, "cuda", 0)
            binding = self._session.io_binding()
            for name, value in there.items():
                binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(DEPTH, depth)
            by_count[n] = binding, there, depth
        return by_count[n]


def _input_type(name: str) -> type[np.generic]:
    """The type of one of the compiled graph's inputs: pictures and masks are bytes, depth is not."""
    return np.uint8 if name in (IMAGES, MASK) else np.float32


def _check_array(name: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name}: found {array.dtype} {array.shape}, expected {np.dtype(dtype)} {('n', *shape[1:])}"
        )


def _gpu(device: str) -> Gpu:
    import onnxruntime

    return Gpu.require(onnxruntime, device)


def _missing_libraries(onnxruntime: Any, device: str) -> UnavailableError:
    libraries, packages = "CUDA and cuDNN", '"onnxruntime-gpu[cuda,cudnn]"'
    if device == "tensorrt":
        libraries, packages = f"TensorRT, {libraries}", f"{packages} tensorrt"
    return UnavailableError(
        f"libraries that {PROVIDERS[device]} needs cannot be loaded ({libraries}; ONNX Runtime "
        f"{onnxruntime.__version__} is built for CUDA {onnxruntime.cuda_version}): pip install {packages}"
    )

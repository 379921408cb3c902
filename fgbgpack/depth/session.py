"""The ONNX Runtime session that runs a compiled depth model on a device."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from fgbgpack.depth.background import BackgroundDepth
from fgbgpack.depth.card import Size
from fgbgpack.depth.graph import DEPTH, IMAGES, STEP, compile_graph, session_options
from fgbgpack.depth.guided import BACKGROUND, CENTRE, MASK, SPREAD
from fgbgpack.depth.kernels import half_extent
from fgbgpack.depth.libraries import is_missing_library, libraries_refusal
from fgbgpack.depth.model import DepthModel
from fgbgpack.depth.providers import (
    PROVIDERS,
    Execution,
    Gpu,
    UnavailableError,
    affordable_batch,
    cpu_fallbacks,
    engine_folder,
    is_out_of_memory,
    picture_bytes,
    provider_options,
)
from fgbgpack.errors import DepthModelError

#: Pixels in a batch on a CPU. More do not stay in its cache: TCMonoDepth small at 128x128 runs 780 pictures/s
#: in batches of 4 and 640 in batches of 32, in an eighth of the memory.
_CPU_PIXELS = 4 * 128 * 128

#: Pixels in a batch on a GPU, memory permitting.
_GPU_PIXELS = 32 * 256 * 256

#: The most pictures in a batch.
_LARGEST_BATCH = {"cpu": 32, "cuda": 128, "tensorrt": 128}


class DepthSession:
    """A depth model, ready to run on batches of rendered pictures.

    On a CPU every run stays in the thread that calls it, and many threads may call one session at a time:
    that is faster than threads within the session, and no result depends on their number, or on the batches.
    On a GPU the threads take turns, so that its memory holds one batch; the last bits of a result may depend
    on the size of the batch, and so on the memory that was free.

    Attributes:
        provider: The execution provider that runs it, e.g. ``"CPUExecutionProvider"``. Single operators that
            it lacks run on the CPU; the whole graph never does unless requested.
        batch_size: The largest batch of the network; ``run`` takes any number of pictures. It is halved where
            memory runs out.
        passed_over: With the device ``"auto"``, one line for each better device that was not available.
        notices: What the user should know, a line each. It may grow while the session runs.
    """

    def __init__(
        self,
        model: DepthModel,
        sample: Size,
        *,
        scale: int = 1,
        execution: Execution | None = None,
        backgrounds: BackgroundDepth | None = None,
    ) -> None:
        """Compiles the model for samples of ``(height, width)``, rendered ``scale`` times larger, chooses the
        device (default: fp32 on the best), and tries the model on it. A guided network needs the depth of the
        empty backgrounds at the size of a sample.

        Raises:
            DepthModelError: The model cannot run at this size or in this precision or gives values that are
                not finite, or the device is not available; or it is a guided network without backgrounds.
            ValueError: The backgrounds have another size, or the network is not guided.
        """
        self.model = model
        execution = execution or Execution()
        self.precision, device = execution.precision, execution.device
        self._sample = sample
        self._rendered = (sample[0] * scale, sample[1] * scale)
        self._turn = threading.Lock()
        self._backgrounds = backgrounds
        if backgrounds is not None and backgrounds.depth.shape[1:] != sample:
            raise ValueError(
                f"backgrounds: found depth of shape {backgrounds.depth.shape}, expected "
                f"{('backgrounds', *sample)}"
            )
        self._meaning = None if backgrounds is None else backgrounds.meaning
        compiled = compile_graph(
            model, sample, scale=scale, precision=self.precision, background=self._meaning
        )
        #: The shape of one picture's part of each input of the graph.
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
                code="device-unavailable",
            )
        self.passed_over = tuple(refusals)

    def _open(self, compiled: ModelProto, device: str) -> None:
        """Opens the session on that device and tries it there. Raises UnavailableError or DepthModelError."""
        import onnxruntime

        self.notices: list[str] = []
        self._on_host = device == "cpu"
        self._buffers = threading.local()
        size = "x".join(map(str, self._rendered))
        gpu = None if self._on_host else Gpu.require(onnxruntime, device)
        self.batch_size = self._bound_batch or self._first_batch(compiled, device, gpu)
        try:
            self._session = self._new_session(compiled.SerializeToString(), device, gpu)
        except UnavailableError:
            raise
        except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
            raise DepthModelError(
                f"{self.model.path} cannot be loaded for pictures of {size} in {self.precision}: {exc}",
                code="model-not-runnable",
            ) from exc
        self.provider: str = self._session.get_providers()[0]
        self._add_notices(device)
        pictures = np.zeros((2, *self._rendered, 3), np.uint8)
        pictures[1] = np.random.default_rng(0).integers(0, 256, pictures.shape[1:], np.uint8)
        # On a GPU, a whole batch shows whether it fits into the memory.
        numbers = np.arange(2 if self._on_host else max(2, self.batch_size), dtype=np.int32)
        shape, backgrounds = (len(numbers), *self._sample), self._backgrounds
        mask = np.full(shape, 255, np.uint8) if MASK in self._inputs else None
        seen = None if backgrounds is None else numbers % len(backgrounds)
        try:
            self.run(pictures[numbers % 2], np.empty(shape, np.float16), mask=mask, background=seen)
        except DepthModelError as exc:
            raise DepthModelError(
                f"A trial with a black and a noisy picture of {size} failed: {exc.message}", code=exc.code
            ) from exc

    def _first_batch(self, compiled: ModelProto, device: str, gpu: Gpu | None) -> int:
        """The batch size to begin with, from the sizes and the free memory of a GPU."""
        seen = self.model.card.input.size.size_for(*self._rendered)
        pixels = max(np.prod(self._rendered), np.prod(seen))
        batch = int((_CPU_PIXELS if self._on_host else _GPU_PIXELS) // pixels)
        batch = max(1, min(_LARGEST_BATCH[device], batch))
        free = None if gpu is None else gpu.free_bytes
        return batch if free is None else min(batch, affordable_batch(free, picture_bytes(compiled)))

    def _new_session(self, graph: bytes, device: str, gpu: Gpu | None) -> Any:
        """An ONNX Runtime session on that device, and no other; raises UnavailableError."""
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
        # ONNX Runtime only logs a provider that it cannot load, and takes the next one: so its log is
        # silenced and the provider checked. The severity set again is its default, which it does not expose.
        onnxruntime.set_default_logger_severity(4)
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=providers, enable_fallback=0)
        except Exception as exc:
            if is_missing_library(exc):
                raise UnavailableError(str(libraries_refusal(device, PROVIDERS[device]))) from exc
            raise
        finally:
            onnxruntime.set_default_logger_severity(2)
        if session.get_providers()[0] != PROVIDERS[device]:
            raise UnavailableError(str(libraries_refusal(device, PROVIDERS[device])))
        return session

    def _engines(self, batch: tuple[int, int], gpu: Gpu) -> Path | None:
        """Where TensorRT caches its engines; ``None`` where that is not possible."""
        sizes = {"sample": self._sample, "rendered": self._rendered, "background": self._meaning}
        folder = engine_folder(self.model, self.precision, batch, sizes, gpu.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            self.notices.append(f"TensorRT cannot cache its engine, as {folder} cannot be made: {exc}")
            return None
        return folder

    def _add_notices(self, device: str) -> None:
        if fallbacks := cpu_fallbacks(self._session, self.provider):
            self.notices.append(fallbacks)
        if device == "cpu" and self.precision == "fp16":
            self.notices.append(
                "fp16 is for GPUs: a CPU has no fast float16 arithmetic, and fp32 is more exact."
            )
        may_use_tf32 = self.precision == "fp32" and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
        if device == "tensorrt" and may_use_tf32:
            self.notices.append(
                "TensorRT may compute products in TF32, which has 10 bits of precision and not 23: for "
                "float32 give --device cuda, or set NVIDIA_TF32_OVERRIDE=0."
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
        """Fills ``out`` with the depth of ``images``. Safe to call from many threads at once.

        Args:
            images: ``(n, height * scale, width * scale, 3)``, RGB.
            out: ``(n, height, width)``, C-contiguous, filled in the card's quantity and unit; in those of the
                backgrounds by a guided network.
            step: The power of two that values are rounded to multiples of; 0 rounds to float16 only.
            mask: ``(n, height, width)``, the foreground's alpha, for a network that takes it and no other.
            background: ``(n,)``, int32, the background of each picture, for a guided network and no other.

        Returns:
            The minimum and the maximum of each sample, ``(n,)`` each.

        Raises:
            DepthModelError: The network fails, or gives values that are not finite.
            ValueError: An array has another shape or type, is missing, or is not for this network.
        """
        n = len(images)
        _check_array("images", images, np.uint8, (n, *self._rendered, 3))
        _check_array("out", out, np.float16, (n, *self._sample))
        if not out.flags.c_contiguous:
            raise ValueError("out: found an array that is not C-contiguous, expected one that is")
        self._check_guides(n, mask, background)
        arrays = {IMAGES: np.ascontiguousarray(images)}
        if mask is not None:
            arrays[MASK] = np.ascontiguousarray(mask)
        grid = np.array([step], np.float32)
        done = 0
        while done < n:
            part = slice(done, done + self._next_batch(n - done))
            fed: dict[str, NDArray[Any]] = {name: array[part] for name, array in arrays.items()}
            if background is not None and self._backgrounds is not None:
                which = background[part]
                fed[BACKGROUND] = self._backgrounds.depth[which]
                fed[CENTRE] = self._backgrounds.centre[which]
                fed[SPREAD] = self._backgrounds.spread[which]
            try:
                self._run_part(fed, out[part], grid)
            except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
                if is_out_of_memory(exc) and self._halve(len(out[part])):
                    continue
                raise DepthModelError(
                    f"{self.model.path} failed on a batch of pictures: {exc}", code="network-failed"
                ) from exc
            done = part.stop
        minimum, maximum = np.empty(n, np.float16), np.empty(n, np.float16)
        bits = out.view(np.uint16).reshape(n, self._sample[0] * self._sample[1])
        wrong = half_extent(bits, minimum.view(np.uint16), maximum.view(np.uint16))
        if wrong:
            is_half = self.precision == "fp16"
            hint = "The network may exceed the range of float16: try --precision fp32. " if is_half else ""
            raise DepthModelError(
                f"{self.model.path} gave depth that is infinite or not a number for {wrong} of {n} pictures. "
                f"{hint}Either the network does not fit its card (range, mean, std, transform), or values "
                "exceed 65504, the largest that is stored: then scale them down in output.transform.",
                code="network-output-not-finite",
            )
        return minimum, maximum

    def _next_batch(self, left: int) -> int:
        """The size of the next batch: equal batches, so that no small one remains."""
        if self._bound_batch:
            return min(self._bound_batch, left)
        batches = -(-left // self.batch_size)
        return -(-left // batches)

    def _halve(self, failed: int) -> bool:
        """Halves the batches after one did not fit into memory; ``False`` if that is not possible."""
        if self._bound_batch or failed == 1:
            return False
        self._buffers.__dict__.clear()
        with self._turn:
            # Another thread may have failed with a batch of the same size.
            if self.batch_size > failed // 2:
                self.batch_size = failed // 2
                self.notices.append(
                    f"Not enough memory for {failed} pictures at a time: batches have {self.batch_size} from "
                    "now on."
                )
        return True

    def _check_guides(
        self, n: int, mask: NDArray[np.uint8] | None, background: NDArray[np.int32] | None
    ) -> None:
        for name, array, is_taken in (
            ("mask", mask, MASK in self._inputs),
            ("background", background, self._backgrounds is not None),
        ):
            if is_taken != (array is not None):
                found = "None, but {} needs it" if is_taken else "an array, but {} takes none"
                raise ValueError(f"{name}: found {found.format(self.model.name)}")
        if mask is not None:
            _check_array("mask", mask, np.uint8, (n, *self._sample))
        if background is not None and self._backgrounds is not None:
            _check_array("background", background, np.int32, (n,))
            last = len(self._backgrounds) - 1
            if n and (background.min() < 0 or background.max() > last):
                raise ValueError(
                    f"background: found {background.min()} to {background.max()}, expected 0 to {last}"
                )

    def _run_part(
        self, fed: Mapping[str, NDArray[Any]], out: NDArray[np.float16], step: NDArray[np.float32]
    ) -> None:
        n = len(out)
        if n < self._bound_batch:
            # Filled up with the last picture.
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
        binding, inputs, depth = self._device_buffers(n)
        for name, array in fed.items():
            inputs[name].update_inplace(array)
        binding.bind_cpu_input(STEP, step)
        with self._turn:
            self._session.run_with_iobinding(binding)
        out[...] = depth.numpy()

    def _device_buffers(self, n: int) -> tuple[Any, dict[str, Any], Any]:
        """The calling thread's buffers on the GPU for ``n`` pictures: binding, inputs and depth."""
        import onnxruntime

        by_count: dict[int, tuple[Any, dict[str, Any], Any]]
        by_count = self._buffers.__dict__.setdefault("by_count", {})
        if n not in by_count:
            make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
            binding, inputs = self._session.io_binding(), {}
            for name, shape in self._inputs.items():
                dtype = np.uint8 if name in (IMAGES, MASK) else np.float32
                inputs[name] = make((n, *shape), dtype, "cuda", 0)
                binding.bind_ortvalue_input(name, inputs[name])
            depth = make((n, *self._sample), np.float16, "cuda", 0)
            binding.bind_ortvalue_output(DEPTH, depth)
            by_count[n] = binding, inputs, depth
        return by_count[n]


def _check_array(name: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name}: found {array.dtype} {array.shape}, expected {np.dtype(dtype)} {('n', *shape[1:])}"
        )

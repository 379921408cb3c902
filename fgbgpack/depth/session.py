"""The ONNX Runtime session that runs a compiled depth model on a device."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from fgbgpack.depth.background import BackgroundDepth
from fgbgpack.depth.binding import Buffers, run_into, value_of
from fgbgpack.depth.card import Size
from fgbgpack.depth.graph import DEPTH, IMAGES, STEP, compile_graph, new_session, session_options
from fgbgpack.depth.guided import BACKGROUND, CENTRE, MASK, SPREAD, WHICH
from fgbgpack.depth.kernels import half_extent
from fgbgpack.depth.libraries import is_missing_library, libraries_refusal, missing_libraries
from fgbgpack.depth.model import DepthModel
from fgbgpack.depth.providers import (
    PROVIDERS,
    Execution,
    Gpu,
    UnavailableError,
    affordable_batch,
    cpu_fallbacks,
    engine_folder,
    input_shapes,
    is_out_of_memory,
    picture_bytes,
    processor_name,
    provider_options,
)
from fgbgpack.depth.trial import judge, trial_pictures
from fgbgpack.errors import DepthModelError

#: Pixels in a batch on a CPU. More do not stay in its cache: TCMonoDepth small at 128x128 runs 780 pictures/s
#: in batches of 4 and 640 in batches of 32, in an eighth of the memory.
_CPU_PIXELS = 4 * 128 * 128

#: Pixels in a batch on a GPU, memory permitting.
_GPU_PIXELS = 32 * 256 * 256

#: The most pictures in a batch.
_LARGEST_BATCH = {"cpu": 32, "cuda": 128, "tensorrt": 128}

#: Batches in flight on a GPU: while it computes one, the next is copied to it and its kernels are queued.
IN_FLIGHT = 2

#: The part of a GPU's free memory that the depth of all backgrounds may take; else each batch brings its own.
_SHARE_OF_TABLE = 0.25


class DepthSession:
    """A depth model, ready to run on batches of rendered pictures.

    On a CPU every run stays in the thread that calls it, and many threads may call one session at a time:
    that is faster than threads within the session, and no result depends on their number, or on the batches.
    On a GPU ``IN_FLIGHT`` threads run at a time, and all batches have one size, filled up where pictures are
    few: so the network sees one shape, and a result does not depend on how many pictures came with it. Its
    last bits may depend on that size, and so on the memory that was free.

    Attributes:
        provider: The execution provider that runs it, e.g. ``"CPUExecutionProvider"``. Single operators that
            it lacks run on the CPU; the whole graph never does unless requested.
        hardware: The name of the processor that runs it, e.g. ``"NVIDIA H100 80GB HBM3"``; empty if unknown.
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
        per_call: int | None = None,
    ) -> None:
        """Compiles the model for samples of ``(height, width)``, rendered ``scale`` times larger, chooses the
        device (default: fp32 on the best), and tries the model on it. A guided network needs the depth of the
        empty backgrounds at the size of a sample. ``per_call`` is how many pictures ``run`` mostly gets, or a
        multiple of that: batches on a GPU divide it evenly.

        Raises:
            DepthModelError: The model cannot run at this size or in this precision, gives values that are
                not finite or another depth each time, or the device is not available; or it is a guided
                network without backgrounds.
            ValueError: The backgrounds have another size, or the network is not guided.
        """
        self.model = model
        execution = execution or Execution()
        self.precision, device = execution.precision, execution.device
        self._noun = model.card.output.noun
        self._sample = sample
        self._rendered = (sample[0] * scale, sample[1] * scale)
        self._per_call = per_call
        self._turns = threading.Semaphore(IN_FLIGHT)
        self._halving = threading.Lock()
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
        self._takes_mask = any(value.name == MASK for value in compiled.graph.input)
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
                f"{self._noun.capitalize()} cannot run on the device {device!r}. The device 'cpu' always "
                "works, and 'auto' takes the best that does:",
                refusals,
                code="device-unavailable",
            )
        self.passed_over = tuple(refusals)

    def _open(self, compiled: ModelProto, device: str) -> None:
        """Opens the session on that device and tries it there. Raises UnavailableError or DepthModelError."""
        import onnxruntime

        self.notices: list[str] = []
        self._on_host = device == "cpu"
        self._takes_one = False
        size = "x".join(map(str, self._rendered))
        gpu = None if self._on_host else Gpu.require(onnxruntime, device)
        self._buffers = Buffers(None if gpu is None else gpu.pinned)
        self.hardware = processor_name() if gpu is None else gpu.name
        self.batch_size = self._bound_batch or self._first_batch(compiled, device, gpu)
        self._table_rows = self._resident_rows(gpu)
        try:
            self._session = self._new_session(compiled, device, gpu)
            self._tables = self._new_tables()
        except UnavailableError:
            raise
        except Exception as exc:  # ONNX Runtime has an exception of its own for each kind of failure
            raise DepthModelError(
                f"{self.model.path} cannot be loaded for pictures of {size} in {self.precision}: {exc}",
                code="model-not-runnable",
            ) from exc
        self.provider: str = self._session.get_providers()[0]
        self._add_notices(device)
        try:
            self._try_out()
        except DepthModelError as exc:
            # cuDNN is loaded as the first convolution runs.
            if gpu is not None and is_missing_library(exc) and missing_libraries(device):
                raise UnavailableError(str(libraries_refusal(device, PROVIDERS[device]))) from exc
            raise DepthModelError(
                f"A trial with a black picture and two noisy ones of {size} failed: {exc.message}",
                code=exc.code,
            ) from exc

    def _try_out(self) -> None:
        """Tries the network, and gives it one picture at a time where others would change its depth."""
        pictures, backgrounds = trial_pictures(*self._rendered), self._backgrounds

        def answers(numbers: NDArray[np.int32]) -> NDArray[np.float16]:
            depth = np.empty((len(numbers), *self._sample), np.float16)
            mask = np.full(depth.shape, 255, np.uint8) if self._takes_mask else None
            seen = None if backgrounds is None else numbers % len(backgrounds)
            self.run(pictures[numbers], depth, mask=mask, background=seen)
            return depth

        if self.model.card.kind == "cutout":
            # Pictures go one at a time, noise may well have no foreground, and a large network takes seconds.
            answers(np.zeros(1, np.int32))
            return
        # On a GPU, a whole batch shows whether it fits into the memory.
        verdict = judge(answers, 3 if self._on_host else max(3, self.batch_size), self.model.name)
        if verdict == "constant" and backgrounds is None:
            self.notices.append(
                f"{self.model.name} gives one and the same depth for black, dark and bright pictures: does "
                "its card fit?"
            )
        elif verdict in ("fails in batches", "mixes pictures"):
            self._takes_one = True
            self.batch_size = self._bound_batch or 1
            why = "mixes those of a batch" if verdict == "mixes pictures" else "fails on batches"
            self.notices.append(
                f"{self.model.name} gets one picture at a time, as it {why}: say so on its card, with "
                '"batch": 1 in the input.'
            )

    def _first_batch(self, compiled: ModelProto, device: str, gpu: Gpu | None) -> int:
        """The batch size to begin with, from the sizes and the free memory of a GPU."""
        seen = self.model.card.input.size.size_for(*self._rendered)
        pixels = max(np.prod(self._rendered), np.prod(seen))
        batch = int((_CPU_PIXELS if self._on_host else _GPU_PIXELS) // pixels)
        batch = max(1, min(_LARGEST_BATCH[device], batch))
        if gpu is None:
            return batch
        if (free := gpu.free_bytes) is not None:
            batch = min(batch, affordable_batch(free // IN_FLIGHT, picture_bytes(compiled)))
        if self._per_call is not None:
            batch = _even_part(self._per_call, batch)
        return batch

    def _resident_rows(self, gpu: Gpu | None) -> int:
        """How many backgrounds the device keeps the depth of: all or none."""
        if self._backgrounds is None:
            return 0
        free = None if gpu is None else gpu.free_bytes
        fits = free is None or self._backgrounds.depth.nbytes <= free * _SHARE_OF_TABLE
        return len(self._backgrounds) if fits else 0

    def _new_tables(self) -> dict[str, Any]:
        """The inputs that stay the same, on the device: depth of all backgrounds and what is known of it."""
        if self._backgrounds is None or not self._table_rows:
            return {}
        device = "cpu" if self._on_host else "cuda"
        return {name: value_of(table, device) for name, table in _tables_of(self._backgrounds).items()}

    def _new_session(self, compiled: ModelProto, device: str, gpu: Gpu | None) -> Any:
        """An ONNX Runtime session on that device, and no other; raises UnavailableError."""
        import onnxruntime

        options = session_options()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        engines = None
        # Smaller batches come where memory runs out.
        most = {"n": self.batch_size, "b": self._table_rows or self.batch_size}
        shapes = input_shapes(compiled, most)
        if gpu is not None and device == "tensorrt":
            engines = self._engines(most, gpu)
        providers = provider_options(device, self.precision, shapes, engines)
        if gpu is None:
            return new_session(self.model, compiled, options, providers=providers)
        # ONNX Runtime only logs a provider that it cannot load, and takes the next one: so its log is
        # silenced and the provider checked. The severity set again is its default, which it does not expose.
        onnxruntime.set_default_logger_severity(4)
        try:
            session = new_session(self.model, compiled, options, providers=providers, enable_fallback=0)
        except Exception as exc:
            if is_missing_library(exc):
                raise UnavailableError(str(libraries_refusal(device, PROVIDERS[device]))) from exc
            raise
        finally:
            onnxruntime.set_default_logger_severity(2)
        if session.get_providers()[0] != PROVIDERS[device]:
            raise UnavailableError(str(libraries_refusal(device, PROVIDERS[device])))
        return session

    def _engines(self, most: Mapping[str, int], gpu: Gpu) -> Path | None:
        """Where TensorRT caches its engines; ``None`` where that is not possible."""
        sizes = {"sample": self._sample, "rendered": self._rendered, "background": self._meaning, **most}
        folder = engine_folder(self.model, self.precision, sizes, gpu.name)
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

    def buffers(self, n: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Arrays for ``n`` pictures and their masks, as ``run`` takes them, to be filled and given to it.

        They are the calling thread's, until it asks again. A GPU copies out of them by itself, as they lie in
        pinned memory; any other array is first copied into such memory.
        """
        images = self._buffers.get(IMAGES, (n, *self._rendered, 3), np.uint8)
        return images, self._buffers.get(MASK, (n, *self._sample), np.uint8)

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
        if background is not None:
            arrays[WHICH] = np.ascontiguousarray(background)
        grid = np.array([step], np.float32)
        done = 0
        while done < n:
            part = slice(done, done + self._next_batch(n - done))
            fed = {name: array[part] for name, array in arrays.items()}
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
                f"{self.model.path} gave {self._noun} that is infinite or not a number for {wrong} of {n} "
                f"pictures. {hint}Either the network does not fit its card (range, mean, std, transform), or "
                "values exceed 65504, the largest that is stored: then scale them down in output.transform.",
                code="network-output-not-finite",
            )
        return minimum, maximum

    @property
    def why_here(self) -> tuple[str, ...]:
        """A line that says why it is on no better device, if there are better ones."""
        devices: dict[str, list[str]] = {}
        for refusal in self.passed_over:
            device, _, reason = refusal.partition(": ")
            devices.setdefault(reason.rstrip("."), []).append(device)
        reasons = list(devices)
        if len(reasons) > 1:
            reasons = [f"no {names[0]}, as {reason}" for reason, names in devices.items()]
        where = "the CPU" if self._on_host else self.provider
        return (f"{self._noun.capitalize()} on {where}: {'; '.join(reasons)}.",) if reasons else ()

    @property
    def waiting_threads(self) -> int:
        """How many of the threads that call it wait for a GPU rather than compute."""
        return 0 if self._on_host else IN_FLIGHT

    @property
    def has_one_batch_size(self) -> bool:
        """Whether the network gets whole batches only, filled up where pictures are few."""
        return bool(self._bound_batch) or not self._on_host

    def _next_batch(self, left: int) -> int:
        """The pictures in the next batch: on a CPU equal batches, so that no small one remains."""
        if self._takes_one:
            return 1
        if self.has_one_batch_size:
            return min(self.batch_size, left)
        batches = -(-left // self.batch_size)
        return -(-left // batches)

    def _halve(self, failed: int) -> bool:
        """Halves the batches after one did not fit into memory; ``False`` if that is not possible."""
        if self._bound_batch or failed == 1:
            return False
        with self._halving:
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
            ("mask", mask, self._takes_mask),
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
        self, fed: dict[str, NDArray[Any]], out: NDArray[np.float16], step: NDArray[np.float32]
    ) -> None:
        """Runs one batch, filled up to the size that the network gets."""
        n = len(out)
        rows = max(n, self.batch_size) if self.has_one_batch_size else n
        tables = self._tables
        if self._backgrounds is not None and not tables:
            seen, fed[WHICH] = _distinct(fed[WHICH])
            tables = {name: value_of(table[seen]) for name, table in _tables_of(self._backgrounds).items()}
        feeds = {
            name: value_of(self._buffers.staged(name, array, rows, is_copied=not self._on_host))
            for name, array in fed.items()
        }
        feeds |= {STEP: value_of(step), **tables}
        answer = out if rows == n else np.empty((rows, *self._sample), np.float16)
        with nullcontext() if self._on_host else self._turns:
            run_into(self._session, feeds, DEPTH, answer)
        if answer is not out:
            out[...] = answer[:n]


def _tables_of(backgrounds: BackgroundDepth) -> dict[str, NDArray[np.float32]]:
    return {
        BACKGROUND: backgrounds.depth,
        CENTRE: backgrounds.centre,
        SPREAD: backgrounds.spread,
    }


def _distinct(which: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The distinct numbers, and where each is among them."""
    distinct, where = np.unique(which, return_inverse=True)
    return distinct, where.astype(np.int32)


def _even_part(count: int, most: int) -> int:
    """The size, ``most`` at most, of the fewest equal parts of ``count``."""
    parts = -(-count // most)
    return max(1, -(-count // parts)) if parts else most


def _check_array(name: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name}: found {array.dtype} {array.shape}, expected {np.dtype(dtype)} {('n', *shape[1:])}"
        )

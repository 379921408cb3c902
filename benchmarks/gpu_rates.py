"""Samples a second: the bare network, the session, whole runs; what they need of memory and processors."""

from __future__ import annotations

import copy
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
from gpu_checks import INVERSE, Pictures, open_session, sessions_are
from gpu_networks import encoder_decoder
from gpu_report import Report, Settings, verdict

from fgbgpack import DatasetSpec, DepthSpec, create, fill_depth, open_dataset
from fgbgpack.depth import load_model
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.providers import PROVIDERS, Gpu, UnavailableError, is_out_of_memory
from fgbgpack.pipeline import Progress
from fgbgpack.rendering import write_samples
from fgbgpack.spec import GUIDED_MODEL, SCENE_MODEL
from fgbgpack.storage.arrays import DEPTH_CODEC, PIXEL_CODEC

#: The part of the bare network's rate that filling depth is to reach where the network is not trivial.
PROMISE = 0.95
#: Operations for a sample from which a network is not trivial.
NOT_TRIVIAL = 1e9

_DTYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


@dataclass(frozen=True)
class Subject:
    """A network that is measured, at a size of samples; ``depth`` is how it fills a dataset."""

    name: str
    model: str
    size: tuple[int, int]
    precision: str
    meaning: Quantity | None = None
    flop: float = 0.0

    @property
    def depth(self) -> DepthSpec:
        if self.meaning is not None:
            return DepthSpec(mode="guided", guide=self.model, precision=self.precision)
        return DepthSpec(self.model, mode="per-sample", scale=1, precision=self.precision)

    @property
    def title(self) -> str:
        return f"{self.name} {self.precision}"


def subjects(settings: Settings) -> list[Subject]:
    """The included networks, one that is not trivial, and the one that was given."""
    side = 64 if settings.quick else 256
    path, flop = encoder_decoder(settings.folder / "networks" / "big.onnx", 4 if settings.quick else 40)
    kinds = [
        ("guided", GUIDED_MODEL, (128, 128), INVERSE, 0.0),
        ("scene", SCENE_MODEL, (128, 128), None, 0.0),
        ("enc-dec", str(path), (side, side), None, flop * side * side),
    ]
    if settings.network is not None:
        meaning = INVERSE if load_model(settings.network).card.is_guided else None
        # What is not known to be trivial is held to the promise.
        kinds.append(
            (f"own {settings.network.stem[:8]}", str(settings.network), (128, 128), meaning, NOT_TRIVIAL)
        )
    return [
        Subject(name, model, size, precision, meaning, flop)
        for name, model, size, meaning, flop in kinds
        for precision in ("fp32", "fp16")
    ]


# --- the bare network --------------------------------------------------------------------------------


def remembering() -> type:
    """A class of sessions that remember what they were opened with: ``opened_with``."""

    class Remembering(onnxruntime.InferenceSession):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.opened_with = (args, kwargs)
            super().__init__(*args, **kwargs)

    return Remembering


def opened(subject: Subject, device: str) -> Any:
    """A session of a network whose session of ONNX Runtime remembers what it was opened with."""
    with sessions_are(remembering()):
        return open_session(
            load_model(subject.model), subject.size, subject.precision, device, meaning=subject.meaning
        )


class Bare:
    """The compiled graph alone: its inputs lie on the device and its output stays there."""

    def __init__(self, depth_session: Any, device: str, *, cuda_graph: bool = False) -> None:
        args, kwargs = depth_session._session.opened_with
        if cuda_graph:
            kwargs = copy.copy(kwargs)
            kwargs["providers"] = [
                (name, options | ({"enable_cuda_graph": "1"} if name == PROVIDERS["cuda"] else {}))
                for name, options in kwargs["providers"]
            ]
        self.session = onnxruntime.InferenceSession(*args, **kwargs)
        self.place = "cpu" if device == "cpu" else "cuda"

    @property
    def fixed_batch(self) -> int | None:
        """The batch that the graph is bound to."""
        first = self.session.get_inputs()[0].shape[0]
        return first if isinstance(first, int) else None


class BareRun:
    """A run of a batch, with buffers of its own: one thread may call it at a time. It has run once."""

    def __init__(self, network: Bare, batch: int) -> None:
        self._session, make = network.session, onnxruntime.OrtValue
        self._binding = self._session.io_binding()
        axis = self._session.get_inputs()[0].shape[0]
        self._bound = []  # a binding does not keep what is bound to it
        for value in self._session.get_inputs():
            given = make.ortvalue_from_numpy(_filled(value, batch, axis), network.place, 0)
            self._binding.bind_ortvalue_input(value.name, given)
            self._bound.append(given)
        (value,) = self._session.get_outputs()
        shape = [side if isinstance(side, int) else batch for side in value.shape]
        self._output = make.ortvalue_from_shape_and_type(shape, _DTYPES[value.type], network.place, 0)
        self._binding.bind_ortvalue_output(value.name, self._output)
        self()

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def answer(self) -> np.ndarray:
        """The depth that the last run gave."""
        return self._output.numpy()


def _filled(value: Any, batch: int, axis: Any) -> np.ndarray:
    """Values for an input: pictures of noise, numbers of about 1, indices 0. A free axis that is not the
    batch's, ``axis``, is that of the backgrounds, of which a batch sees few.
    """
    free = {axis: batch, None: batch}
    shape = [side if isinstance(side, int) else free.get(side, max(1, batch // 16)) for side in value.shape]
    dtype, rng = _DTYPES[value.type], np.random.default_rng(1)
    if dtype == np.uint8:
        return rng.integers(0, 256, shape, np.uint8)
    if np.issubdtype(dtype, np.integer):
        return np.zeros(shape, dtype)
    if value.shape == [1]:
        return np.full(shape, 2.0**-8, dtype)  # the step of the grid
    return rng.uniform(0.5, 1.5, shape).astype(dtype)


def rate(runs: Sequence[Callable[[], None]], samples: int, seconds: float) -> float:
    """Samples a second of runs of ``samples`` each, each on a thread of its own."""
    stop = time.perf_counter() + seconds
    counts, ends, errors = [0] * len(runs), [0.0] * len(runs), []

    def loop(number: int) -> None:
        try:
            while time.perf_counter() < stop or counts[number] == 0:
                runs[number]()
                counts[number] += 1
        except Exception as exc:  # raised in the thread that waits
            errors.append(exc)
        ends[number] = time.perf_counter()

    start = time.perf_counter()
    threads = [threading.Thread(target=loop, args=(number,)) for number in range(len(runs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts) * samples / (max(ends) - start)


def bare(settings: Settings, report: Report) -> None:
    """Batches of several sizes, several at once, and with CUDA graphs."""
    on_cpu = settings.device == "cpu"
    batches = (1, 8, 32, 128, 512) if not on_cpu else (1, 4) if settings.quick else (1, 4, 32)
    seconds = 0.1 if settings.quick else 0.3
    for subject in subjects(settings):
        name = f"bare {subject.title}"
        if not report.has_time(name):
            continue
        with report.attempt(name):
            run_by = opened(subject, settings.device)
            network = Bare(run_by, settings.device)
            chosen = network.fixed_batch or run_by.batch_size
            # An engine of TensorRT is built for the batches of the session; others would build it again.
            is_bound = network.fixed_batch is not None or settings.device == "tensorrt"
            rates = {}
            for batch in [chosen] if is_bound else sorted({*batches, chosen}):
                if report.has_time(f"{name}, batches of {batch}"):
                    several = batch in (32, 128, chosen)
                    rates[batch] = found = _rates_of_batch(network, batch, seconds, several=several)
                    report.row(f"{name}, batch {batch}", _told(found.get(1)), _at_once(found))
            report.number(**{name: {"rates": rates, "batch size": chosen}})
            answer = BareRun(network, chosen).answer()
            report.check(f"{name}: depth is finite", np.isfinite(answer).all(), "it is not")
            if not on_cpu:
                _with_cuda_graph(name, run_by, settings.device, answer, rates[chosen].get(1), seconds, report)


def _rates_of_batch(network: Bare, batch: int, seconds: float, *, several: bool) -> dict[Any, Any]:
    """Samples a second by the number of runs at once; less of them where memory runs out."""
    found: dict[Any, Any] = {}
    runs: list[BareRun] = []
    try:
        for count in (1, 2, 4) if several else (1,):
            runs += [BareRun(network, batch) for _ in range(count - len(runs))]
            found[count] = rate(runs, batch, seconds)
    except Exception as exc:
        if not is_out_of_memory(exc):
            raise
        found["error"] = str(exc)
    return found


def _told(found: float | None) -> str:
    return "out of memory" if found is None else f"{found:,.0f}/s"


def _at_once(found: dict[Any, Any]) -> str:
    return ", ".join(f"x{count} {found[count]:,.0f}" for count in (2, 4) if count in found)


def _with_cuda_graph(
    name: str,
    run_by: Any,
    device: str,
    answer: np.ndarray,
    without: float | None,
    seconds: float,
    report: Report,
) -> None:
    """What CUDA graphs would give, if they can be used at all."""
    with report.attempt(f"{name}, CUDA graph", must=False):
        network = Bare(run_by, device, cuda_graph=True)
        run = BareRun(network, len(answer))
        for _ in range(3):  # the graph is captured in the first runs
            run()
        found = rate([run], len(answer), seconds)
        same = np.array_equal(run.answer(), answer)
        report.number(**{f"{name}, CUDA graph": {"rate": found, "batch": len(answer), "equal bytes": same}})
        gain = f"{found / without:.2f} times, " if without else ""
        report.row(f"{name}, CUDA graph", f"{found:,.0f}/s", f"{gain}{'equal' if same else 'not equal'}")


# --- the session -------------------------------------------------------------------------------------


def session(settings: Settings, report: Report) -> None:
    """``DepthSession.run`` from NumPy arrays, on several threads."""
    most = 2 if settings.quick else 16
    counts = [count for count in (1, 2, 4, 8, 16) if count <= most]
    for subject in subjects(settings):
        name = f"session {subject.title}"
        if not report.has_time(name):
            continue
        with report.attempt(name):
            model = load_model(subject.model)
            run_by = open_session(
                model, subject.size, subject.precision, settings.device, meaning=subject.meaning
            )
            samples = max(32, run_by.batch_size) if settings.device != "cpu" else run_by.batch_size
            pictures = Pictures.random(model, samples, subject.size, 1, False)
            run = partial(pictures.depth, run_by, slice(None))
            run()
            seconds = 0.1 if settings.quick else 0.7
            rates = {count: rate([run] * count, samples, seconds) for count in counts}
            report.number(**{name: {"rates": rates, "batch size": run_by.batch_size, "samples": samples}})
            best = max(rates, key=lambda count: rates[count])
            report.row(
                f"{name}, batch {run_by.batch_size}",
                f"{rates[best]:,.0f}/s by {best}",
                f"by 1 thread {rates[1]:,.0f}/s",
            )


# --- end to end --------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Events of a run, with their times."""

    stages: dict[str, list[tuple[float, int]]]

    def __call__(self, event: Any) -> None:
        if isinstance(event, Progress):
            self.stages.setdefault(event.stage, []).append((time.perf_counter(), event.done))

    @property
    def depth(self) -> tuple[float, float]:
        """When the first and the last sample was begun or finished."""
        times = self.stages["depth"]
        return times[0][0], times[-1][0]


class Timed(onnxruntime.InferenceSession):
    """A session that records when it ran: (start, end) of each run of any of them."""

    runs: ClassVar[list[tuple[float, float]]] = []

    def _timed(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return run(*args, **kwargs)
        finally:
            Timed.runs.append((start, time.perf_counter()))

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return self._timed(super().run, *args, **kwargs)

    def run_with_ortvaluevector(self, *args: Any, **kwargs: Any) -> Any:
        return self._timed(super().run_with_ortvaluevector, *args, **kwargs)


def busy_share(runs: Sequence[tuple[float, float]], start: float, end: float) -> float:
    """The part of a time in which at least one run was in progress."""
    total, reached = 0.0, start
    for first, last in sorted(runs):
        first, last = max(first, reached), min(last, end)
        if last > first:
            total += last - first
            reached = last
    return total / (end - start) if end > start else 0.0


#: What nvidia-smi is asked for.
_USE = ("utilization.gpu", "memory.used", "power.draw", "clocks.sm")


class Sampler:
    """Memory of the GPU and of this process, and the use of the GPU, while something runs."""

    def __init__(self, device: str) -> None:
        self.gpu = None if device == "cpu" else gpu_of(device)
        self.least_free: int | None = self.free()
        self.use: list[tuple[float, list[float]]] = []
        self._stop = threading.Event()

    def free(self) -> int | None:
        return None if self.gpu is None else self.gpu.free_bytes

    @contextmanager
    def sampling(self) -> Iterator[None]:
        self._stop.clear()
        threads = [threading.Thread(target=self._poll, daemon=True)]
        smi = _nvidia_smi() if self.gpu is not None else None
        if smi is not None:
            threads.append(threading.Thread(target=self._read, args=(smi,), daemon=True))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            if smi is not None:
                smi.kill()
                smi.wait()
            for thread in threads:
                thread.join(2)

    def _poll(self) -> None:
        while not self._stop.wait(0.05):
            free = self.free()
            if free is not None:
                self.least_free = min(free, self.least_free or free)

    def _read(self, smi: Any) -> None:
        for line in smi.stdout:
            told = [float(value) if _is_number(value) else np.nan for value in line.split(",")]
            if len(told) == len(_USE):
                self.use.append((time.perf_counter(), told))

    def use_between(self, start: float, end: float) -> dict[str, float]:
        """The mean of what nvidia-smi told within a time."""
        values = [value for moment, value in self.use if start <= moment <= end]
        means = np.mean(values, axis=0) if values else ()
        return {name: float(mean) for name, mean in zip(_USE, means, strict=False) if np.isfinite(mean)}


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdigit()


def gpu_of(device: str) -> Gpu | None:
    with suppress(UnavailableError):
        return Gpu.require(onnxruntime, device)
    return None


def _nvidia_smi() -> Any:
    command = ["nvidia-smi", f"--query-gpu={','.join(_USE)}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.Popen(
            [*command, "-i", "0", "-lms", "200"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        return None


def resident_bytes(which: str = "VmRSS") -> int | None:
    """The resident memory of this process, now or (``VmHWM``) at most so far."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith(f"{which}:")).split()[1]) * 1024
    return None


def dataset_spec(settings: Settings, size: tuple[int, int], samples: int) -> DatasetSpec:
    """A spec of at least so many samples of the rendered pictures, which are made when first needed."""
    pictures = settings.folder / "pictures"
    each = 1 if settings.quick else 3 if settings.device == "cpu" else 12
    if not pictures.exists():
        write_samples(pictures, backgrounds=each, foregrounds=each)
    return DatasetSpec(
        backgrounds=str(pictures / "backgrounds"),
        foregrounds=str(pictures / "foregrounds"),
        height=size[0],
        width=size[1],
        foreground_height=size[0] * 2 // 5,
        placements=max(1, -(-samples // (2 * each * each))),
        depth=None,
    )


def end_to_end(settings: Settings, report: Report) -> None:
    """Depth of whole datasets, against the bare network in the batches that the session chose."""
    chosen = [one for one in subjects(settings) if one.precision == "fp32" or one.flop >= NOT_TRIVIAL]
    # The networks that the promise is about come first.
    for subject in sorted(chosen, key=lambda one: one.flop < NOT_TRIVIAL):
        name = f"end to end {subject.title}"
        if report.has_time(name):
            with report.attempt(name):
                _end_to_end(name, subject, settings, report)


def _end_to_end(name: str, subject: Subject, settings: Settings, report: Report) -> None:
    folder = settings.folder / "datasets"
    with suppress(OSError):  # forgets the peak of what was measured before
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    sampler = Sampler(settings.device)
    free_before, resident_before = sampler.free(), resident_bytes()

    run_by = opened(subject, settings.device)
    free_opened, batch, provider = sampler.free(), run_by.batch_size, run_by.provider
    network = Bare(run_by, settings.device)
    batch = network.fixed_batch or batch
    at_once = (1, 2) if settings.device == "cpu" else (1, 2, 4)
    runs = [BareRun(network, batch) for _ in range(at_once[-1])]
    bares = {n: rate(runs[:n], batch, 0.2 if settings.quick else 1.0) for n in at_once}
    best = max(bares.values())
    alone = _alone(subject, settings, run_by, bares[1])
    del run_by, network, runs

    # The kernels are compiled by now. A short run tells how many samples a long one takes.
    seconds = 0.2 if settings.quick else 15.0
    first = _fill(folder / "first.zarr", subject, settings, int(min(best * seconds / 5, 5_000)))
    left = max(1.0, settings.deadline - time.time())
    samples = int(min(first.rate * min(seconds, left / 2), 300_000))
    sampler.least_free = sampler.free()
    Timed.runs.clear()
    with sampler.sampling(), sessions_are(Timed):
        whole = _fill(folder / "whole.zarr", subject, settings, samples)
    busy = busy_share(Timed.runs, *whole.window)
    used = sampler.use_between(*whole.window)
    on_device = report.check(
        f"{name}: runs on the device", whole.provider == PROVIDERS[settings.device], whole.provider
    )
    ratio = whole.rate / best
    report.number(
        **{
            name: {
                "samples": whole.samples,
                "rate": whole.rate,
                "rate from start to end": whole.samples / whole.seconds,
                "bare by runs at once": bares,
                "batch size": batch,
                "ratio to bare": ratio,
                "flop per sample": subject.flop,
                "part of the time in runs": busy,
                "nvidia-smi": used,
                "seconds per 1,000 samples": alone,
                "device bytes": {
                    "free before": free_before,
                    "free opened": free_opened,
                    "least free": sampler.least_free,
                },
                "host bytes": {"before": resident_before, "peak": resident_bytes("VmHWM")},
                "provider when it was opened": provider,
            }
        }
    )
    report.row(
        f"{name}, {whole.samples:,}",
        f"{whole.rate:,.0f}/s, {whole.seconds:.0f} s",
        f"bare {best:,.0f}/s: {ratio:.0%}",
        verdict(on_device),
    )
    if subject.flop >= NOT_TRIVIAL:
        met = "met" if ratio >= PROMISE else "MISSED"
        report.row(f"  promise: {subject.title}", f"{ratio:.1%} of bare", f">= {PROMISE:.0%}", met)
    utilisation = f"nvidia-smi {used['utilization.gpu']:.0f} %" if "utilization.gpu" in used else ""
    report.row("  time with a run in progress", f"{busy:.0%}", utilisation)
    if None not in (free_before, free_opened, sampler.least_free):
        opening, peak = free_before - free_opened, free_before - sampler.least_free
        report.row("  GPU memory, opened; at most", f"{opening / 1e6:,.0f}; {peak / 1e6:,.0f} MB")
    peak_host = resident_bytes("VmHWM")
    if peak_host is not None:
        report.row("  peak of the process", f"{peak_host / 1e6:,.0f} MB")
    host = [alone[what] for what in ("compositing", "compression", "copying and checking")]
    report.row(
        "  1,000: compose, compress, copy",
        " + ".join(f"{seconds:.3f}" for seconds in host) + " s",
        f"{sum(host) * best / 1000:.1f} cores for bare",
    )


@dataclass(frozen=True)
class Filled:
    """A dataset whose depth was filled: samples a second while they were filled, and the whole time."""

    path: Path
    samples: int
    rate: float
    seconds: float
    window: tuple[float, float]
    provider: str


def _fill(path: Path, subject: Subject, settings: Settings, samples: int) -> Filled:
    """Makes a dataset without stored pixels, which are of no use here, and fills its depth."""
    watch = Watch({})
    create(path, dataset_spec(settings, subject.size, samples), virtual=True, overwrite=True)
    start = time.perf_counter()
    done = fill_depth(path, subject.depth, device=settings.device, overwrite=True, on_event=watch)
    seconds = time.perf_counter() - start
    first, last = watch.depth
    return Filled(
        path, done.samples, done.samples / (last - first), seconds, (first, last), str(done.provider)
    )


def _alone(subject: Subject, settings: Settings, run_by: Any, bare_rate: float) -> dict[str, float]:
    """Seconds for 1,000 samples of what else there is to do, each on one core."""
    path = settings.folder / "datasets" / f"alone-{subject.size[0]}.zarr"
    count = 18 if settings.quick else 500
    create(path, dataset_spec(settings, subject.size, count), virtual=True, overwrite=True)
    recipe = open_dataset(path).recipe
    count = min(count, len(recipe))
    image = np.empty((count, *subject.size, 3), np.uint8)
    mask = np.empty((count, *subject.size), np.uint8)

    def compose() -> None:
        recipe.compose(range(count), image, mask)

    compose()
    compositing = _best_of_three(compose)
    model = load_model(subject.model)
    guides = Pictures.random(model, count, subject.size, 1, False)
    pictures = Pictures(image, None if guides.mask is None else mask, guides.background, subject.size)
    on_gpu = settings.device != "cpu"
    some = np.arange(min(count, 256 if on_gpu else 2 * run_by.batch_size))
    span = pictures.depth(run_by, some).astype(np.float32)
    step = 2.0 ** np.floor(np.log2(max(float(np.ptp(span)), 1e-3) / 512))
    depth = pictures.depth(run_by, some, step)
    through_session = _best_of_three(lambda: pictures.depth(run_by, some, step)) / len(some)
    codec, chunk = (DEPTH_CODEC, 4) if subject.meaning is None else (PIXEL_CODEC, 16)

    def compress() -> None:
        for first in range(0, len(depth), chunk):
            codec.encode(np.ascontiguousarray(depth[first : first + chunk]))

    return {
        "compositing": 1000 * compositing / count,
        "inference": 1000 / bare_rate,
        "compression": 1000 * _best_of_three(compress) / len(depth),
        "copying and checking": 1000 * max(0.0, through_session - 1 / bare_rate),
    }


def _best_of_three(work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def filled_as_on_cpu(settings: Settings, report: Report) -> None:
    """A whole small dataset by the device, against the same by the CPU: guided, and per sample."""
    for subject in subjects(settings):
        name = f"dataset by {subject.title}"
        if subject.precision != "fp32" or not report.has_time(name):
            continue
        with report.attempt(name):
            depths, steps = [], []
            for device in (settings.device, "cpu"):
                path = settings.folder / "datasets" / f"same-{device}.zarr"
                create(path, dataset_spec(settings, subject.size, 1), virtual=True, overwrite=True)
                fill_depth(path, subject.depth, device=device, overwrite=True)
                dataset = open_dataset(path)
                depths.append(np.asarray(dataset.depth[:]).astype(np.float64))
                steps.append(dataset.document.depth.step)
            found, expected = depths
            span = float(np.ptp(expected))
            # Where the grid's rounding falls the other way, values are a step apart.
            apart, allowed = np.abs(found - expected).max() / span, 1e-3 + 1.01 * max(steps) / span
            held = report.check(f"{name}: as the CPU fills it", apart <= allowed, f"{apart:.2e} of the range")
            report.number(**{name: {"apart": apart, "allowed": allowed, "samples": len(found)}})
            report.row(
                f"{name}, {len(found)}", f"{apart:.0e} of the range", f"<= {allowed:.1e}", verdict(held)
            )

"""What is installed on this machine to run depth networks with, what is missing, and whether it works."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np

from fgbgpack.depth.kernels import half_extent
from fgbgpack.depth.libraries import (
    Library,
    Refusal,
    build_refusal,
    capability_refusal,
    cuda_major,
    driver_refusal,
    install_command,
    libraries,
    onnxruntime_packages,
    replace_command,
    version_text,
)
from fgbgpack.depth.model import load_model
from fgbgpack.depth.providers import DRIVER, PROVIDERS, Device, Execution, Gpu, UnavailableError
from fgbgpack.depth.registry import models_folder
from fgbgpack.depth.session import DepthSession
from fgbgpack.errors import DepthModelError
from fgbgpack.version import software

#: The order in which ``auto`` tries the devices.
DEVICES: tuple[Device, ...] = ("tensorrt", "cuda", "cpu")
#: Variables that decide which libraries, GPUs and folders are used.
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "LD_LIBRARY_PATH",
    "FGBGPACK_MODELS",
    "NUMBA_CACHE_DIR",
    "NUMBA_DISABLE_JIT",
)
#: What NVIDIA's kernel module tells of itself on Linux.
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")
#: The network of the trials, and the size of their pictures.
_NETWORK, _SIZE = "fgbgpack-scene", (64, 96)
#: The largest difference from the CPU, as part of the range, that rounding explains. TF32 has 10 bits.
_LARGEST_DIFFERENCE = 0.05
#: TensorRT compiles an engine, which takes it minutes on a slow machine.
_TRIAL_SECONDS = 900.0
#: A broken driver or library may end the process that tries it, and prints what it likes.
_TRIAL = (
    "import json, sys; sys.path.append(sys.argv[2]); from fgbgpack.depth.installation import run_trial; "
    "print(json.dumps(run_trial(sys.argv[1])))"
)


@dataclass(frozen=True)
class GpuFacts:
    """A GPU: sizes in bytes, the compute capability as text, e.g. ``"9.0"``; ``None`` what is unknown."""

    name: str
    total: int | None
    free: int | None
    capability: str | None


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        found: Whether its library is there.
        version: Its own version, e.g. ``"580.65.06"``; ``None`` if unknown.
        cuda: The newest CUDA that it supports, e.g. ``"13.0"``; ``None`` if unknown.
        problem: Why it cannot be used; ``None`` if it can.
        gpus: The GPUs that this process may use.
    """

    found: bool
    version: str | None = None
    cuda: str | None = None
    problem: str | None = None
    gpus: tuple[GpuFacts, ...] = ()


@dataclass(frozen=True)
class Folder:
    """A folder that fgbgpack writes to: bytes used by its files there, bytes free; ``None`` if unknown."""

    purpose: str
    path: str
    writable: bool
    used: int | None
    free: int | None


@dataclass(frozen=True)
class Finding:
    """Something to mend: what is wrong, and the command that mends it, if one does."""

    text: str
    command: str | None = None


@dataclass(frozen=True)
class Trial:
    """A trial of the included network on a device.

    Attributes:
        device: ``"tensorrt"``, ``"cuda"`` or ``"cpu"``.
        opened: Whether a session opened and ran there, so that ``auto`` would take the device.
        difference: The largest difference of its depth from the CPU's, as part of the range of the CPU's;
            ``None`` on the CPU, or where it did not run.
        refusal: Why the device cannot be used; ``None`` if it works.
        notices: What else the session says.
    """

    device: str
    opened: bool
    difference: float | None = None
    refusal: str | None = None
    notices: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Whether the device can be used."""
        return self.refusal is None


@dataclass(frozen=True)
class Installation:
    """What is installed here.

    Attributes:
        software: The versions of fgbgpack, of Python, and of the packages that it runs with.
        python: The interpreter.
        platform: The system.
        cores: The processors that this process may use.
        onnxruntime: The packages that own the module of ONNX Runtime, with their versions.
        cuda: The CUDA that ONNX Runtime is built for; ``None`` for a build without.
        providers: The execution providers of this build, the best first.
        torch: The version of PyTorch, ``None`` if it is not installed; and the CUDA that it is built for.
        torch_cuda: The same.
        driver: NVIDIA's driver and the GPUs.
        libraries: What each GPU device needs, by its name; empty for one that this build lacks.
        folders: The folders that fgbgpack writes to.
        variables: The variables of the environment that matter here and are set.
        findings: What keeps a GPU from being used, and how to mend it.
    """

    software: Mapping[str, str]
    python: str
    platform: str
    cores: int
    onnxruntime: tuple[tuple[str, str], ...]
    cuda: str | None
    providers: tuple[str, ...]
    torch: str | None
    torch_cuda: str | None
    driver: Driver
    libraries: Mapping[str, tuple[Library, ...]]
    folders: tuple[Folder, ...]
    variables: Mapping[str, str]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        document = asdict(self)
        document["onnxruntime"] = [{"package": name, "version": v} for name, v in self.onnxruntime]
        return document


def examine() -> Installation:
    """Looks at what is installed here. Nothing is changed, and only NVIDIA's libraries are loaded."""
    import onnxruntime

    providers = tuple(onnxruntime.get_available_providers())
    driver, supported = _driver()
    needed = {device: libraries(device) for device in ("cuda", "tensorrt")}
    cuda = getattr(onnxruntime, "cuda_version", None) or cuda_major()
    torch, torch_cuda = _torch()
    return Installation(
        software={**software(), "onnx": metadata.version("onnx"), "onnxruntime": onnxruntime.__version__},
        python=f"{platform.python_version()} in {sys.prefix}",
        platform=f"{platform.platform()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        onnxruntime=tuple(onnxruntime_packages()),
        cuda=None if cuda is None else str(cuda),
        providers=providers,
        torch=torch,
        torch_cuda=torch_cuda,
        driver=driver,
        libraries=needed,
        folders=tuple(_folders()),
        variables={name: os.environ[name] for name in _VARIABLES if os.environ.get(name)},
        findings=tuple(_findings(providers, driver, supported, needed)),
    )


def try_device(device: Device) -> Trial:
    """Runs the included network on a device and compares its depth with the CPU's.

    On a GPU a process of its own does that, which a broken driver or library may end.
    """
    if device == "cpu":
        return Trial(**run_trial(device))
    import onnxruntime

    try:
        Gpu.require(onnxruntime, device)
    except UnavailableError as exc:
        return Trial(device, opened=False, refusal=str(exc))
    root = str(Path(__file__).resolve().parents[2])
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-P", "-c", _TRIAL, device, root],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TRIAL_SECONDS,
            check=False,
        )
        return Trial(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        refusal = f"the trial did not end within {_TRIAL_SECONDS / 60:g} minutes"
    except (OSError, ValueError, IndexError, TypeError):
        last = done.stderr.strip().splitlines()[-1:]
        refusal = ": ".join([f"the trial ended with exit status {done.returncode}", *last])
    return Trial(device, opened=False, refusal=refusal)


def run_trial(device: Device) -> dict[str, Any]:
    """The fields of a :class:`Trial`, of a trial in this process."""
    model = load_model(_NETWORK)
    try:
        session = DepthSession(model, _SIZE, execution=Execution(device=device))
        found = _depth(session)
    except DepthModelError as exc:
        refusal = "; ".join(problem.removeprefix(f"{device}: ") for problem in exc.problems) or exc.message
        return {"device": device, "opened": False, "refusal": refusal}
    trial: dict[str, Any] = {"device": device, "opened": True, "notices": tuple(session.notices)}
    if device == "cpu":
        return trial
    expected = _depth(DepthSession(model, _SIZE, execution=Execution(device="cpu")))
    difference = float(np.abs(found - expected).max() / np.ptp(expected))
    if difference > _LARGEST_DIFFERENCE:
        trial["refusal"] = (
            f"it computes another depth than the CPU: they differ by {difference:.2%} of the range, where "
            f"rounding explains {_LARGEST_DIFFERENCE:.0%} at most"
        )
    return {**trial, "difference": difference}


def chosen(trials: list[Trial]) -> Trial:
    """The trial of the device that is taken: the first that opened, or else the last that was tried."""
    return next((trial for trial in trials if trial.opened), trials[-1])


def _depth(session: DepthSession) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The depth of two pictures: a bright one with a dark block before it, and noise."""
    height, width = _SIZE
    pictures = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    pictures[0] = np.linspace(96, 255, width, dtype=np.uint8)[:, None]
    pictures[0, height // 3 :, width // 3 : width // 2] = 24
    depth = np.empty((2, height, width), np.float16)
    session.run(pictures, depth)
    return depth.astype(np.float64)


def _driver() -> tuple[Driver, int]:
    """The driver, and the newest CUDA that it supports in its own numbers: 12040 for 12.4, 0 if unknown."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return Driver(found=False, version=_driver_version(), problem=f"{DRIVER} was not found"), 0
    supported, count = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(supported))
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if failed:
        problem: str | None = f"it answers {_cuda_error(driver, failed)}"
    else:
        problem = None if count.value else "it finds no GPU"
    gpus = []
    for gpu in (Gpu(driver, index) for index in range(0 if failed else count.value)):
        capability = gpu.capability
        known = None if capability is None else ".".join(map(str, capability))
        gpus.append(GpuFacts(gpu.name or "unknown", gpu.total_bytes, gpu.free_bytes, known))
    newest = version_text(supported.value) if supported.value else None
    return Driver(True, _driver_version(), newest, problem, tuple(gpus)), supported.value


def _cuda_error(driver: Any, code: int) -> str:
    """An error of the driver by its name and number: ``"CUDA_ERROR_NO_DEVICE (100)"``."""
    name = ctypes.c_char_p()
    if not hasattr(driver, "cuGetErrorName") or driver.cuGetErrorName(code, ctypes.byref(name)) != 0:
        return f"CUDA error {code}"
    return f"{(name.value or b'').decode()} ({code})"


def _driver_version() -> str | None:
    """The version of NVIDIA's driver: from its management library, or from what the kernel tells."""
    text = ctypes.create_string_buffer(96)
    try:
        management = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        if management.nvmlInit_v2() == 0:
            failed = management.nvmlSystemGetDriverVersion(text, ctypes.c_uint(len(text)))
            management.nvmlShutdown()
            if not failed:
                return text.value.decode(errors="replace")
    except (OSError, AttributeError):
        pass  # a driver without it
    try:
        told = _KERNEL_MODULE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", told)
    return None if match is None else match[0]


def _torch() -> tuple[str | None, str | None]:
    """The version of PyTorch and of the CUDA that it is built for, without importing it."""
    spec = util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None, None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
        version = metadata.version("torch")
    except (OSError, UnicodeDecodeError, metadata.PackageNotFoundError):
        return None, None
    match = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return version, None if match is None else match[1]


def _folders() -> Iterator[Folder]:
    models = models_folder()
    yield _folder("depth models", models, models.glob("*.onnx"))
    yield _folder("TensorRT engines", models / "tensorrt", (models / "tensorrt").rglob("*"))
    cache = getattr(getattr(half_extent, "stats", None), "cache_path", None)
    if cache is not None:
        # Numba keeps compiled kernels beside each module, or all of them in one folder.
        beside = Path(cache).name == "__pycache__"
        folder = Path(__file__).parents[1] if beside else Path(cache).parent
        yield _folder("compiled kernels", folder, folder.rglob("*.nb[ic]"))
    yield _folder("temporary files", Path(tempfile.gettempdir()), None)


def _folder(purpose: str, path: Path, files: Iterator[Path] | None) -> Folder:
    used: int | None = None
    free: int | None = None
    # Another program may remove a file, and a folder may not be readable.
    with suppress(OSError):
        if files is not None:
            used = sum(file.stat().st_size for file in files if file.is_file())
    there = next((folder for folder in (path, *path.parents) if folder.exists()), path)
    with suppress(OSError):
        free = shutil.disk_usage(there).free
    return Folder(purpose, str(path), os.access(there, os.W_OK | os.X_OK), used, free)


def _findings(
    providers: tuple[str, ...],
    driver: Driver,
    supported: int,
    needed: Mapping[str, tuple[Library, ...]],
) -> Iterator[Finding]:
    packages = onnxruntime_packages()
    if len(packages) > 1:
        listed = " and ".join(f"{name} {version}" for name, version in packages)
        yield Finding(f"{listed} overwrite each other's files: keep one.", replace_command())
    elif PROVIDERS["cuda"] not in providers:
        yield _finding(build_refusal(PROVIDERS["cuda"]))
    too_old = driver_refusal(supported, "cuda")
    if not driver.found:
        yield Finding(
            f"There is no NVIDIA driver: {DRIVER} was not found. It comes from NVIDIA or your distribution, "
            "not from pip. A container gets the host's with the NVIDIA Container Toolkit and the option "
            "'--gpus all'."
        )
    elif driver.problem is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f" CUDA_VISIBLE_DEVICES is {visible!r}."
        yield Finding(
            f"The NVIDIA driver is there, but {driver.problem}.{hidden} See whether 'nvidia-smi' shows the "
            "GPU; after an update of the driver, restart the machine."
        )
    if too_old is not None:
        yield _finding(too_old)
    for gpu in driver.gpus:
        known = gpu.capability and capability_refusal(gpu.name, _numbers(gpu.capability))
        if known:
            yield _finding(known)
    cudnn = [name for name in ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13") if _is_installed(name)]
    if len(cudnn) > 1:
        keep = f"nvidia-cudnn-cu{cuda_major() or 13}"
        yield Finding(
            f"{_listed(cudnn)} overwrite each other's files: keep {keep}.",
            f"pip uninstall -y {' '.join(cudnn)} && pip install {keep}",
        )
    if too_old is None:
        yield from _missing(needed)


def _missing(needed: Mapping[str, tuple[Library, ...]]) -> Iterator[Finding]:
    """The libraries that are missing, each once, though TensorRT needs those of CUDA too."""
    told: set[str] = set()
    for device, whom in (("cuda", "CUDA needs"), ("tensorrt", "TensorRT, which is optional, needs")):
        names = [entry.name for entry in needed[device] if entry.required and not entry.found]
        new = [name for name in names if name not in told]
        if new:
            yield Finding(f"{whom} {_listed(new)}, which cannot be loaded.", install_command(device))
        told.update(new)


def _finding(refusal: Refusal) -> Finding:
    return Finding(f"{refusal.reason[0].upper()}{refusal.reason[1:]}.", refusal.command)


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True

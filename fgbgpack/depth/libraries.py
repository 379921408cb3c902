"""NVIDIA's libraries that ONNX Runtime's providers load: which they are, where, and how to install them.

Pip puts those of CUDA and cuDNN in ``site-packages/nvidia`` and those of TensorRT in
``site-packages/tensorrt_libs``. No loader looks there, so they are loaded by their paths before ONNX Runtime
needs them.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import platform
import re
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

#: The oldest driver for each major version of CUDA, on Linux and on Windows: NVIDIA's release notes of CUDA.
_OLDEST_DRIVER = {12: ("525.60.13", "527.41"), 13: ("580.65.06", "580")}
#: CUDA 13 dropped the GPUs before Turing.
_LEAST_CAPABILITY = {13: (7, 5)}

_GPU_PACKAGE = '"onnxruntime-gpu[cuda,cudnn]{}"'
#: The last versions of onnxruntime-gpu for CUDA 12, and the first for CUDA 13 whose extras can be installed.
_FOR_CUDA_12, _FOR_CUDA_13 = ">=1.21,<1.27", ">=1.28"

#: What ONNX Runtime says where a library is missing: as it opens a session, or as the first node runs that
#: needs a library which it loads late.
_MISSING = re.compile(
    "cannot open shared object file|dlopen failed for|LoadLibrary failed|install TensorRT libraries"
    "|is unavailable (or disabled )?for CUDA",
    re.IGNORECASE,
)
_RTLD_DI_LINKMAP = 2
#: What newer versions of ONNX Runtime load when the first node needs it.
_LATE = ("libcudnn.so.9",)


@dataclass(frozen=True)
class Library:
    """A library that a provider needs.

    Attributes:
        name: The name that it is loaded by, e.g. ``"libcudnn.so.9"``.
        required: Whether every network needs it; else only those with certain nodes.
        path: The file that was loaded; ``None`` if none was, or on a system that does not tell.
        package: The pip package that the file belongs to, e.g. ``"nvidia-cudnn-cu13 9.28.1.4"``.
        problem: Why it cannot be loaded, in the loader's words; ``None`` if it can.
    """

    name: str
    required: bool
    path: str | None
    package: str | None
    problem: str | None

    @property
    def found(self) -> bool:
        """Whether it can be loaded."""
        return self.problem is None


@dataclass(frozen=True)
class Refusal:
    """Why a device cannot be used, and the command that mends it, if one does."""

    reason: str
    command: str | None = None

    def __str__(self) -> str:
        return self.reason if self.command is None else f"{self.reason}: {self.command}"


def preload(device: str) -> None:
    """Loads the libraries that pip installed, silently, so that ONNX Runtime finds them."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        # It prints those that it does not find.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            onnxruntime.preload_dlls()
    for name in (*_names("cuda"), *_LATE):
        # It looks beside ONNX Runtime only. PyTorch's libraries may be in another folder of packages.
        _load_first(name, (path for folder in _folders_of("nvidia") for path in folder.glob(f"*/lib/{name}")))
    if device == "tensorrt":
        for name in _names("tensorrt"):
            _load_first(name, (folder / name for folder in _folders_of("tensorrt_libs")))


def _folders_of(package: str) -> list[Path]:
    """The folders of an importable package, which may be several."""
    spec = importlib.util.find_spec(package)
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]


def _load_first(name: str, paths: Iterable[Path]) -> None:
    """Load a library from the first of some places where it is, unless it is found without."""
    with suppress(OSError):
        ctypes.CDLL(name)
        return
    for path in paths:
        with suppress(OSError):
            if path.is_file():
                ctypes.CDLL(str(path))
                return


def libraries(device: str) -> tuple[Library, ...]:
    """The libraries that a device, ``"cuda"`` or ``"tensorrt"``, needs, as far as this process can load them.

    Empty where this build of ONNX Runtime has no such provider.
    """
    preload(device)
    own = _names(device)
    if not own:
        return ()
    # TensorRT hands to CUDA what it lacks.
    names = list(dict.fromkeys((*_names("cuda"), *own)))
    optional: list[str] = []
    if sys.platform != "win32":
        # Newer versions of ONNX Runtime load these late: cuDNN for the first convolution, cuFFT for the first
        # Fourier transform.
        if not any(name.startswith("libcudnn.so") for name in names):
            names.append("libcudnn.so.9")
        if not any(name.startswith("libcufft.so") for name in names):
            optional.append(f"libcufft.so.{(cuda_major() or 13) - 1}")
    return tuple(_look_up(name, name in names) for name in (*names, *optional))


def missing_libraries(device: str) -> tuple[str, ...]:
    """The names of the libraries that a device needs for every network, and that cannot be loaded."""
    return tuple(library.name for library in libraries(device) if library.required and not library.found)


def is_missing_library(error: BaseException) -> bool:
    """Whether an error of ONNX Runtime says that a library of CUDA, cuDNN or TensorRT cannot be loaded."""
    return _MISSING.search(str(error)) is not None


def libraries_refusal(device: str, provider: str) -> Refusal:
    """Why a provider cannot be loaded: the libraries that are missing, and the command that installs them."""
    missing = missing_libraries(device)
    if missing:
        names = ", ".join(missing)
        reason = f"libraries that {provider} needs cannot be loaded ({names}; {_built_for()})"
        return Refusal(reason, install_command(device))
    return Refusal(
        f"{provider} could not be used, though the driver and all libraries are there; 'fgbgpack doctor' "
        "shows their versions"
    )


def driver_refusal(supported: int, device: str) -> Refusal | None:
    """Why a driver is too old for this build of ONNX Runtime, and what to do; ``None`` if it is not.

    ``supported`` is the newest version of CUDA that the driver supports, as it tells it: 12040 for 12.4.
    """
    major = cuda_major()
    if major is None or not 0 < supported < major * 1000:
        return None
    oldest = _OLDEST_DRIVER.get(major)
    newer = "" if oldest is None else f" to {oldest[sys.platform == 'win32']} or newer"
    reason = (
        f"the NVIDIA driver supports CUDA {version_text(supported)} at most, and {_built_for()}: update the "
        f"driver{newer}"
    )
    if supported < 12000:
        return Refusal(reason)
    return Refusal(f"{reason}, or install a version for CUDA 12", _install(device, _FOR_CUDA_12, 12))


def capability_refusal(gpu: str, capability: tuple[int, int]) -> Refusal | None:
    """Why a GPU is too old for the CUDA of this build of ONNX Runtime; ``None`` if it is not."""
    major = cuda_major()
    least = _LEAST_CAPABILITY.get(major or 0)
    if least is None or capability >= least:
        return None
    has, needs = (f"{a}.{b}" for a, b in (capability, least))
    return Refusal(
        f"{gpu} has compute capability {has}, and CUDA {major} needs at least {needs}: install a version for "
        "CUDA 12",
        _install("cuda", _FOR_CUDA_12, 12),
    )


def build_refusal(provider: str) -> Refusal:
    """Why this build of ONNX Runtime lacks a provider, and how to replace it."""
    import onnxruntime

    packages = " and ".join(f"{name} {version}" for name, version in onnxruntime_packages())
    has_none = f"this build of ONNX Runtime ({packages or onnxruntime.__version__}) has no {provider}"
    command = replace_command()
    return Refusal(has_none if command else f"{has_none}, and there is none for this platform", command)


def install_command(device: str) -> str:
    """The command that installs the libraries which a device needs, for this version of ONNX Runtime."""
    import onnxruntime

    version = tuple(int(part) for part in re.findall(r"\d+", onnxruntime.__version__)[:2])
    # 1.20 has no such extras, and those of 1.27 name packages that do not exist.
    if version < (1, 21) or version == (1, 27):
        return _install(device, _FOR_CUDA_13, 13).replace("install", "install --upgrade", 1)
    return _install(device, "", cuda_major() or 13)


def replace_command() -> str | None:
    """The command that puts the GPU build in the place of all builds of ONNX Runtime; ``None`` where there is
    no such build for this platform.
    """
    if sys.platform not in ("linux", "win32") or platform.machine() not in ("x86_64", "AMD64"):
        return None
    names = " ".join(name for name, _ in onnxruntime_packages())
    return f"pip uninstall -y {names or 'onnxruntime'} && {_install('cuda', '', 13)}"


def cuda_major() -> int | None:
    """The major version of CUDA that this build of ONNX Runtime is for; ``None`` if for none."""
    import onnxruntime

    # Version 1.20 may not tell; but it names the libraries.
    told = re.match(r"\d+", getattr(onnxruntime, "cuda_version", None) or "")
    if told is not None:
        return int(told[0])
    found = (re.fullmatch(r"libcudart\.so\.(\d+)", name) for name in _names("cuda"))
    return next((int(match[1]) for match in found if match), None)


def onnxruntime_packages() -> list[tuple[str, str]]:
    """The installed packages that own the module ``onnxruntime``, with their versions: one, or a conflict."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.name
        if name is None or not re.match(r"(onnxruntime|ort)\b", name.lower()):
            continue
        if any(
            str(file) in ("onnxruntime/__init__.py", r"onnxruntime\__init__.py")
            for file in _files(distribution)
        ):
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return sorted(found.items())


def version_text(version: int) -> str:
    """A version of CUDA as the driver tells it, for people: 12040 is ``"12.4"``."""
    return f"{version // 1000}.{version % 1000 // 10}"


def needed_libraries(path: Path) -> tuple[str, ...]:
    """What a shared object of 64-bit little-endian Linux is linked with: its ``DT_NEEDED`` entries, in order.

    Empty for any other file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return tuple(_needed(data))
    except (OSError, ValueError, struct.error):
        return ()


def _needed(data: mmap.mmap) -> Iterator[str]:
    # "System V ABI", chapters 4 and 5: the ELF header, program headers and the dynamic section.
    if data[:6] != b"\x7fELF\x02\x01":
        return
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    loaded = [(at, start, length) for kind, _, at, start, _, length in headers if kind == 1]
    entries = [
        struct.unpack_from("<QQ", data, position)
        for kind, _, at, _, _, length in headers
        if kind == 2
        for position in range(at, at + length, 16)
    ]
    strings = next((value for tag, value in entries if tag == 5), 0)
    for at, start, length in loaded:
        if start <= strings < start + length:
            for tag, value in entries:
                if tag == 1:
                    begin = strings - start + at + value
                    yield data[begin : data.find(b"\0", begin)].decode()
            return


def _names(device: str) -> tuple[str, ...]:
    """NVIDIA's libraries that a provider's own file is linked with; empty where there is no such provider."""
    import onnxruntime

    # The files of another build may have stayed behind.
    if not any(device in name.lower() for name in onnxruntime.get_available_providers()):
        return ()
    folder = Path(onnxruntime.__file__).parent / "capi"
    if sys.platform == "win32":
        if not (folder / f"onnxruntime_providers_{device}.dll").is_file():
            return ()
        if device == "tensorrt":
            return ("nvinfer_10.dll", "nvonnxparser_10.dll")
        major = cuda_major() or 13
        return (f"cublasLt64_{major}.dll", f"cublas64_{major}.dll", f"cudart64_{major}.dll", "cudnn64_9.dll")
    names = needed_libraries(folder / f"libonnxruntime_providers_{device}.so")
    # libcuda.so.1 is the driver.
    return tuple(name for name in names if name.startswith(("libcu", "libnv")) and name != "libcuda.so.1")


def _look_up(name: str, required: bool) -> Library:
    try:
        loaded = ctypes.CDLL(name)
    except OSError as exc:
        return Library(name, required, None, None, str(exc))
    path = _path(loaded)
    return Library(name, required, path, None if path is None else _package(Path(path)), None)


class _LinkMap(ctypes.Structure):
    """The beginning of the C library's ``struct link_map``."""

    _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))


def _path(library: ctypes.CDLL) -> str | None:
    """The file of a loaded library; ``None`` where the system does not tell."""
    if sys.platform != "linux":
        return None
    entry = ctypes.POINTER(_LinkMap)()
    try:
        ask = ctypes.CDLL(None).dlinfo
    except (OSError, AttributeError):
        return None
    if ask(ctypes.c_void_p(library._handle), _RTLD_DI_LINKMAP, ctypes.byref(entry)) != 0:
        return None
    return (entry.contents.name or b"").decode(errors="replace") or None


def _package(path: Path) -> str | None:
    """The pip package that a file of NVIDIA belongs to."""
    for distribution in metadata.distributions():
        name = distribution.name
        if name is None or not name.lower().startswith(("nvidia", "tensorrt", "torch")):
            continue
        for file in _files(distribution):
            if file.name == path.name and _is_same(distribution.locate_file(file), path):
                return f"{name} {distribution.version}"
    return None


def _files(distribution: metadata.Distribution) -> Iterable[metadata.PackagePath]:
    try:
        return distribution.files or ()
    except (OSError, ValueError):
        return ()


def _is_same(one: Any, other: Path) -> bool:
    try:
        return Path(str(one)).samefile(other)
    except OSError:
        return False


def _install(device: str, versions: str, major: int) -> str:
    command = f"pip install {_GPU_PACKAGE.format(versions)}"
    # All providers so far need TensorRT 10: libnvinfer.so.10.
    return f'{command} "tensorrt-cu{major}~=10.0"' if device == "tensorrt" else command


def _built_for() -> str:
    import onnxruntime

    version = getattr(onnxruntime, "cuda_version", None) or cuda_major()
    return f"ONNX Runtime {onnxruntime.__version__} is built for CUDA {version}"

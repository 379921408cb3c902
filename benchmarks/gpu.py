"""Check and measure depth on an NVIDIA GPU, in a few minutes.

    python benchmarks/gpu.py [--device cuda|tensorrt|cpu] [--quick] [--network FILE] [--limit SECONDS]
                             [--json FILE]

Each section runs in a process of its own, and goes on after what fails: a crash or a hang costs one section.
What would begin after the limit is skipped. Everything is written to a temporary folder. The table goes to
stdout, and with what is behind it to a JSON file; the exit status is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gpu_report import (
    Report,
    Settings,
    failed_in,
    numbers_in,
    read_lines,
    say,
    table,
)

ROOT = Path(__file__).resolve().parents[1]

#: Seconds after which nothing begins, and those that a section may then still take.
LIMIT, GRACE = 300.0, 30.0

#: Where each section's function is, what the table calls it, and how much of the limit it may take at most.
SECTIONS = {
    "environment": ("gpu", "Environment", 0.2),
    "correctness": ("gpu_checks", "Depth's error, of its range", 0.4),
    "kernels": ("gpu_checks", "Kernels that run", 0.2),
    "together": ("gpu_loader", "With PyTorch in one process", 0.3),
    "filled_as_on_cpu": ("gpu_rates", "Datasets, against the CPU's", 0.2),
    "end_to_end": ("gpu_rates", "End to end", 0.5),
    "bare": ("gpu_rates", "Bare network", 0.3),
    "session": ("gpu_rates", "Session, from NumPy arrays", 0.2),
    "loader": ("gpu_loader", "Loader, batches to the device", 0.2),
    "tensorrt": ("gpu_checks", "TensorRT", 0.4),
}
PACKAGES = (
    "onnxruntime-gpu", "onnxruntime", "onnx", "torch", "numpy", "numba", "zarr", "numcodecs",
    "nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cuda-runtime", "tensorrt",
)  # fmt: skip


# --- the environment ---------------------------------------------------------------------------------


def environment(settings: Settings, report: Report) -> None:
    """The machine, and whether a session opens on the device as fgbgpack opens it."""
    import onnxruntime
    from gpu_checks import CASES, open_session
    from gpu_rates import gpu_of

    import fgbgpack
    from fgbgpack.depth import load_model
    from fgbgpack.errors import DepthModelError
    from fgbgpack.storage.reading.threads import usable_cores
    from fgbgpack.version import commit

    about = {
        "fgbgpack": [fgbgpack.__version__, commit()],
        "cores": usable_cores(),
        "processor": _processor(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := _version_of(name))},
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime's CUDA": getattr(onnxruntime, "cuda_version", None),
        "providers": onnxruntime.get_available_providers(),
        "nvidia-smi": _nvidia_smi(),
    }
    report.row("processor", f"{about['cores']} cores", about["processor"])
    versions = f"{about['python']}, {about['onnxruntime']}"
    report.row("Python, ONNX Runtime; PyTorch", versions, _version_of("torch"))
    if settings.device != "cpu":
        gpu = gpu_of(settings.device)
        about["gpu"] = None if gpu is None else {"name": gpu.name, "free bytes": gpu.free_bytes}
        smi = about["nvidia-smi"]
        if gpu is not None:
            report.row("GPU", gpu.name, f"driver {smi.get('driver_version', 'unknown')}")
            free = f"{(gpu.free_bytes or 0) / 1e9:.1f} GB free"
            report.row("GPU memory", free, smi.get("memory.total", ""))
    report.number(environment=about)

    case = CASES[0]
    model = load_model(case.make(settings.folder / "networks"))
    with report.attempt("a session opens"):
        needs_torch = False
        try:
            session = open_session(model, case.size, "fp32", settings.device)
        except DepthModelError as exc:
            if exc.code != "device-unavailable":
                raise
            report.number(without_torch=str(exc))
            import torch  # brings CUDA's libraries into the process

            session = open_session(model, case.size, "fp32", settings.device)
            needs_torch = True
        report.number(needs_torch=needs_torch, notices=session.notices)
        how = "after import torch" if needs_torch else "by itself"
        report.row("a session opens", how, session.provider)
    if about["packages"].get("torch"):
        with report.attempt("PyTorch", must=False):
            import torch

            told = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
            report.number(torch=told | {"finds a GPU": torch.cuda.is_available()})


def _processor() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return platform.machine()


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _nvidia_smi() -> dict[str, str]:
    fields = ("name", "driver_version", "memory.total", "memory.used", "clocks.max.sm", "power.limit")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "-i", "0"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(fields, [value.strip() for value in told.stdout.split(",")], strict=False))


# --- sections, each in a process of its own ------------------------------------------------------------


@dataclass
class Section:
    """What a section found, and how its process ended."""

    name: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    ended: str = ""
    output: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """The names of its checks that failed; that it ended before its end is one."""
        return [*failed_in(self.lines), *([f"section {self.name}: {self.ended}"] if self.ended else [])]

    @property
    def rows(self) -> list[Sequence[str]]:
        rows = [line["row"] for line in self.lines if "row" in line]
        return [*rows, (f"section {self.name}", self.ended, "", "FAILED")] if self.ended else rows

    def to_dict(self) -> dict[str, Any]:
        kinds = {
            "checks": [line for line in self.lines if "check" in line],
            "errors": [line for line in self.lines if "error" in line],
            "skipped": [line for line in self.lines if "skipped" in line],
        }
        about = {"seconds": self.seconds, "ended": self.ended, "failed": self.failed}
        return {**about, "numbers": numbers_in(self.lines), "rows": self.rows, **kinds, "output": self.output}


def run_section(name: str, settings: Settings, *, limit: float, import_torch: bool) -> Section:
    """Runs a section in a process of its own, and ends it after ``limit`` seconds."""
    section, file, start = Section(name), settings.folder / f"{name}.jsonl", time.monotonic()
    given = {
        "device": settings.device,
        "folder": str(settings.folder),
        "deadline": settings.deadline,
        "quick": settings.quick,
        "network": None if settings.network is None else str(settings.network),
    }
    command = [sys.executable, str(Path(__file__).resolve()), "--section", name, json.dumps(given)]
    if import_torch:
        command.append("--import-torch")
    # A group of its own, so that workers and helpers end with it.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    last: deque[str] = deque(maxlen=60)

    def listen() -> None:
        for line in process.stdout or ():
            last.append(line.rstrip())
            say(f"  {line.rstrip()}")

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        status = None
        # Its handler writes where every thread is.
        process.send_signal(signal.SIGABRT)
        time.sleep(1)
    finally:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        listener.join(5)
        if process.stdout is not None:
            process.stdout.close()
    section.seconds = time.monotonic() - start
    section.lines, section.output = read_lines(file), list(last)
    if status is None:
        section.ended = f"ended after {section.seconds:.0f} s"
    elif status:
        section.ended = f"ended with status {status}"
    return section


def be_section(name: str, given: dict[str, Any], *, import_torch: bool) -> None:
    """The other end of ``run_section``."""
    faulthandler.enable()
    network = given["network"] and Path(given["network"])
    settings = Settings(given["device"], Path(given["folder"]), given["deadline"], given["quick"], network)
    if import_torch:
        with suppress(ImportError):
            import torch  # noqa: F401 brings CUDA's libraries into the process
    report = Report(settings.deadline, settings.folder / f"{name}.jsonl")
    with report.attempt(f"section {name}"):
        module = importlib.import_module(SECTIONS[name][0])
        getattr(module, name)(settings, report)
    # Whatever fails while libraries are taken down does not concern what was found.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def run(settings: Settings, limit: float, json_file: Path, names: Sequence[str]) -> Iterator[Section]:
    """All sections; the JSON is written anew after each, so that it is there whatever comes."""
    start, import_torch = time.monotonic(), False
    sections: list[Section] = []
    for name in names:
        left = limit - (time.monotonic() - start)
        if left <= 0:
            skipped = Section(name)
            skipped.lines.append({"skipped": f"section {name}", "why": "it would begin after the deadline"})
            skipped.lines.append({"row": ("the whole section", "after the deadline", "", "skipped")})
            sections.append(skipped)
            yield skipped
            continue
        say(f"{time.monotonic() - start:.0f} s: {name}")
        until = time.time() + min(left, limit * SECTIONS[name][2])
        its = Settings(settings.device, settings.folder, until, settings.quick, settings.network)
        section = run_section(name, its, limit=until - time.time() + GRACE, import_torch=import_torch)
        sections.append(section)
        if name == "environment":
            # Where fgbgpack finds CUDA's libraries in PyTorch only, or that is not known.
            import_torch = settings.device != "cpu" and numbers_in(section.lines).get("needs_torch", True)
            if import_torch:
                add_cuda_libraries()
        write_json(json_file, settings, sections, time.monotonic() - start)
        yield section
    write_json(json_file, settings, sections, time.monotonic() - start)


def write_json(file: Path, settings: Settings, sections: Sequence[Section], seconds: float) -> None:
    document = {
        "device": settings.device,
        "quick": settings.quick,
        "network": None if settings.network is None else str(settings.network),
        "seconds": seconds,
        "failed": [name for section in sections for name in section.failed],
        "sections": {section.name: section.to_dict() for section in sections},
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as exc:
        say(f"{file} cannot be written: {exc}")


def prepare(folder: Path) -> None:
    """What the processes of the sections inherit: they run on machines where only this folder is writable."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    # The included networks themselves, and TensorRT's engines of this run only.
    os.environ["FGBGPACK_MODELS"] = str(folder / "models")
    if not os.access(ROOT / "fgbgpack", os.W_OK):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))
    if not os.access(Path.home(), os.W_OK):
        os.environ.setdefault("XDG_CACHE_HOME", str(folder / "cache"))


def add_cuda_libraries() -> None:
    """Lets later processes find the libraries of CUDA that pip installed, wherever ONNX Runtime is."""
    spec = importlib.util.find_spec("nvidia")
    places = (spec and spec.submodule_search_locations) or ()
    folders = [str(folder) for place in places for folder in sorted(Path(place).glob("*/lib"))]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(
        filter(None, [*folders, os.environ.get("LD_LIBRARY_PATH")])
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "tensorrt", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks and datasets; rates mean nothing")
    parser.add_argument("--network", type=Path, help="one more network: an ONNX file, its card beside it")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds after which nothing begins")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="the file for all that was found")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be repeated")
    parser.add_argument("--section", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--import-torch", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.section:
        be_section(args.section[0], json.loads(args.section[1]), import_torch=args.import_torch)
    network = args.network and args.network.resolve()
    start, sections = time.monotonic(), []
    interrupted: list[str] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="fgbgpack-gpu-"))
    try:
        prepare(folder)
        settings = Settings(args.device, folder, time.time() + args.limit, args.quick, network)
        for section in run(settings, args.limit, args.json, args.only or list(SECTIONS)):
            sections.append(section)  # noqa: PERF402 what is there when it is interrupted is shown
    except KeyboardInterrupt:
        interrupted = ["it was interrupted"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    failed = [*(name for section in sections for name in section.failed), *interrupted]
    checks = sum("check" in line for section in sections for line in section.lines)
    print(f"Device {args.device}, {checks} checks, {time.monotonic() - start:.0f} s")
    for section in sections:
        for line in section.lines:
            if "skipped" in line:
                print(f"Skipped: {line['skipped']}: {line['why']}")
    for name in failed:
        print(f"FAILED: {name}")
    print()
    print(table({SECTIONS[section.name][1]: section.rows for section in sections}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

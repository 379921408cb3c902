"""Batches of a dataset on the device, and PyTorch and ONNX Runtime in one process.

    python benchmarks/gpu_loader.py torch|onnxruntime DEVICE FOLDER

is the second of the two: that one comes first, and one line of JSON says whether both were right.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gpu_report import Report, Settings, verdict

BATCH = 256
#: Seconds until the process in which both are is given up.
TIMEOUT = 60
ORDERS = ("torch", "onnxruntime")


def usable_torch(settings: Settings, report: Report, what: str) -> Any:
    """PyTorch, if it is here and reaches the device; else ``None``, and ``what`` is skipped."""
    try:
        import torch
    except ImportError as exc:
        report.skip(what, f"PyTorch cannot be imported: {exc}")
    else:
        if settings.device == "cpu" or torch.cuda.is_available():
            return torch
        report.skip(what, f"PyTorch {torch.__version__} finds no CUDA")
    report.row(what, "no PyTorch for it", "", "skipped")
    return None


# --- the loader --------------------------------------------------------------------------------------


def loader(settings: Settings, report: Report) -> None:
    """How fast batches come to the device, and whether they are the dataset's."""
    torch = usable_torch(settings, report, "loader to the device")
    if torch is None:
        return
    from gpu_rates import dataset_spec

    from fgbgpack import DepthSpec, create, fill_depth, open_dataset

    path = settings.folder / "datasets" / "loader.zarr"
    samples = 18 if settings.quick else 10_000 if settings.device != "cpu" else 1_000
    create(path, dataset_spec(settings, (128, 128), samples))
    fill_depth(path, DepthSpec(mode="guided"), device=settings.device)
    dataset = open_dataset(path)
    device = torch.device("cpu" if settings.device == "cpu" else "cuda")
    kinds = (False,) if settings.device == "cpu" else (False, True)
    numbers: dict[str, Any] = {}
    for workers in (0, 2):
        for pinned in kinds:
            kind = "pinned" if pinned else "pageable"
            what = f"loader, {workers} workers, {kind}"
            if report.has_time(what):
                with report.attempt(what):
                    numbers[what] = _measured(torch, path, device, workers, pinned, settings.quick)
                    told = numbers[what]
                    report.row(what, f"{told['samples/s']:,.0f}/s", f"{told['GB/s']:.1f} GB/s")
                    right = _same_values(torch, path, dataset, device, workers, pinned)
                    held = report.check(f"{what}: the dataset's values", right, "other values on the device")
                    report.row("  values on the device", "the dataset's", "", verdict(held))
    if device.type == "cuda":
        with report.attempt("copies to the device"):
            copies = {pinned: _copy_rate(torch, pinned) for pinned in kinds}
            numbers["copies, GB/s"] = {"pinned": copies[True], "pageable": copies[False]}
            report.row(
                "copy alone, pinned", f"{copies[True]:.1f} GB/s", f"pageable: {copies[False]:.1f} GB/s"
            )
    report.number(loader=numbers | {"samples": len(dataset), "batch": BATCH})


def _on_device(
    torch: Any, path: Path, device: Any, workers: int, pinned: bool, **options: Any
) -> Iterator[dict]:
    """Batches on the device, copied without waiting where memory is pinned."""
    from fgbgpack.torch import make_loader

    for batch in make_loader(path, BATCH, workers=workers, pin_memory=pinned, **options):
        yield {name: value.to(device, non_blocking=pinned) for name, value in batch.items()}


def _measured(
    torch: Any, path: Path, device: Any, workers: int, pinned: bool, quick: bool
) -> dict[str, float]:
    from fgbgpack.torch import make_loader

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    batches = make_loader(path, BATCH, workers=workers, pin_memory=pinned)
    seconds, count, size, started = 0.2 if quick else 2.0, 0, 0, None
    while started is None or time.perf_counter() - started < seconds:
        for batch in batches:
            moved = {name: value.to(device, non_blocking=pinned) for name, value in batch.items()}
            if started is not None:
                count += len(moved["image"])
                size += sum(value.nbytes for value in moved.values())
        wait()
        if started is None:  # the first epoch starts the workers
            started = time.perf_counter()
    wait()
    took = time.perf_counter() - started
    return {"samples/s": count / took, "GB/s": size / took / 1e9}


def _same_values(torch: Any, path: Path, dataset: Any, device: Any, workers: int, pinned: bool) -> bool:
    seen = 0
    for batch in _on_device(torch, path, device, workers, pinned):
        here = {name: value.cpu().numpy() for name, value in batch.items()}
        expected = dataset[here["index"]]
        same = (
            np.array_equal(here["image"], expected.image.transpose(0, 3, 1, 2))
            and np.array_equal(here["mask"][:, 0], expected.mask)
            and np.array_equal(here["depth"][:, 0], expected.depth)
        )
        if not same:
            return False
        seen += len(here["index"])
    return seen == len(dataset)


def _copy_rate(torch: Any, pinned: bool) -> float:
    """GB/s of copies of 64 MB, without a loader."""
    source = torch.ones(64 << 20, dtype=torch.uint8, pin_memory=pinned)
    target = torch.empty_like(source, device="cuda")
    best = 0.0
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(4):
            target.copy_(source, non_blocking=pinned)
        torch.cuda.synchronize()
        best = max(best, 4 * source.nbytes / (time.perf_counter() - start) / 1e9)
    return best


# --- both in one process -----------------------------------------------------------------------------


def together(settings: Settings, report: Report) -> None:
    """PyTorch's CUDA libraries and ONNX Runtime's in one process, in either order."""
    if usable_torch(settings, report, "both in one process") is None:
        return
    for first in ORDERS:
        name = f"{first} first, then the other"
        if not report.has_time(name):
            continue
        with report.attempt(name):
            finished = subprocess.run(
                [sys.executable, str(Path(__file__).resolve()), first, settings.device, str(settings.folder)],
                stdout=subprocess.PIPE,
                text=True,
                timeout=TIMEOUT,
            )
            found = json.loads(finished.stdout.splitlines()[-1]) if finished.returncode == 0 else {}
            ended = f"status {finished.returncode}: {found}"
            held = report.check(f"{name}: both are right", bool(found) and all(found.values()), ended)
            report.row(name, "both are right" if held else ended, "", verdict(held))


def run_together(first: str, device: str, folder: Path) -> dict[str, bool]:
    """What was right, in order: one, the other, and the first again."""
    steps = [use_torch, use_onnxruntime] if first == "torch" else [use_onnxruntime, use_torch]
    return {f"{number}, {step.__name__}": step(device, folder) for number, step in enumerate(steps * 2)}


def use_torch(device: str, folder: Path) -> bool:
    """A product and a convolution on the device, against the same in float64 on the CPU."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    place = "cpu" if device == "cpu" else "cuda"
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(256, 256, generator=generator)
    pictures, weights = torch.randn(4, 8, 32, 32, generator=generator), torch.randn(8, 8, 3, 3)
    product = (matrix.to(place) @ matrix.to(place)).cpu()
    folded = torch.nn.functional.conv2d(pictures.to(place), weights.to(place)).cpu()
    exact = torch.nn.functional.conv2d(pictures.double(), weights.double())
    return bool(
        (product - matrix.double() @ matrix.double()).abs().max() < 1e-3
        and (folded - exact).abs().max() < 1e-3
    )


def use_onnxruntime(device: str, folder: Path) -> bool:
    """The included guided network on the device, against the CPU."""
    from gpu_checks import INVERSE, Pictures, difference, open_session, provider_is, tolerance

    from fgbgpack.depth import load_model
    from fgbgpack.spec import GUIDED_MODEL

    model, size = load_model(GUIDED_MODEL), (128, 128)
    pictures = Pictures.random(model, 8, size, 1, False)
    session = open_session(model, size, "fp32", device, meaning=INVERSE)
    expected = pictures.depth(open_session(model, size, "fp32", "cpu", meaning=INVERSE), slice(None))
    found = pictures.depth(session, slice(None))
    is_near = difference(found, expected, expected) <= tolerance(expected, 1e-3)
    return is_near and provider_is(session, device)[0]


if __name__ == "__main__":
    print(json.dumps(run_together(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))

"""Measure exports, and that they are the same bytes each time and with any number of workers.

    python benchmarks/export_rates.py [--only FORMAT ...] [--samples N] [--pictures DIR] [--folder DIR]

The dataset is virtual, with images and masks of 128x128, in a folder in memory unless another is named. Each
export runs twice in processes of their own, the second time with one worker, and is deleted again; a format
takes up to 66 KB a sample meanwhile. The table has the rate of the first run, the processor's time per sample
of both, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import convert
from bench import ROOT, SAMPLES, peak_bytes, pictures_in

from fgbgpack import DatasetSpec, create
from fgbgpack.export import TARGETS, export

FORMATS = ("parquet", "yolo", "litdata")


def measured(dataset: Path, out: Path, to: str, workers: int | None) -> dict[str, Any]:
    """One export in a process of its own: what it took, and the digest of its files."""
    job = json.dumps({"dataset": str(dataset), "out": str(out), "to": to, "workers": workers})
    command = [sys.executable, str(Path(__file__).resolve()), "--job", job]
    report: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    report["digest"] = convert.digest(out)
    shutil.rmtree(out)
    return report


def run(job: dict[str, Any]) -> dict[str, Any]:
    """An export in this process; compiling is not counted, since kernels are compiled once."""
    few = Path(f"{job['out']}-few")
    export(job["dataset"], few, to=job["to"], samples=range(200))
    shutil.rmtree(few)
    start, before = time.perf_counter(), time.process_time()
    report = export(job["dataset"], job["out"], to=job["to"], workers=job["workers"])
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - before,
        "samples": report.samples,
        "bytes": report.bytes,
        "peak_bytes": peak_bytes(),
    }


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=FORMATS, metavar="FORMAT")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="at most so many")
    parser.add_argument("--pictures", type=Path, help="a folder with backgrounds/ and foregrounds/")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(run(json.loads(options.job))))
        return
    (ROOT / "bench-data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fgbgpack-exports-", dir=options.folder) as folder:
        dataset = Path(folder) / "it.zarr"
        placements = max(1, round(options.samples / SAMPLES * 20))
        root = options.pictures or pictures_in(ROOT / "bench-data")
        pictures = {name: str(root / name) for name in ("backgrounds", "foregrounds")}
        create(dataset, DatasetSpec(**pictures, placements=placements, depth=None), virtual=True)
        print(f"{'format':14}{'samples/s':>11}{'ms of CPU':>11}{'one worker':>12}{'bytes':>9}{'peak MB':>9}")
        for to in options.only:
            runs = [measured(dataset, Path(folder) / "out", to, workers) for workers in (None, 1)]
            if runs[0]["digest"] != runs[1]["digest"]:
                sys.exit(f"{to}: the two exports differ")
            first, second = runs
            count = first["samples"]
            print(
                f"{to:14}{count / first['seconds']:11,.0f}{first['cpu_seconds'] / count * 1e3:11.3f}"
                f"{second['cpu_seconds'] / count * 1e3:12.3f}{first['bytes'] / count:9,.0f}"
                f"{first['peak_bytes'] / 1e6:9,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

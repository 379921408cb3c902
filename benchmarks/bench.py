"""Measure fgbgpack against today's way of doing the same, in one run on one machine.

    python benchmarks/bench.py [--quick] [--only NAME ...] [--pictures DIR] [--model FILE] [--dataset DIR]

Every job of fgbgpack runs in a process of its own, so that its time is that of a fresh process whose
kernels are compiled already, and its peak memory is its own. What is compared runs just before and after.
The table goes to stdout and, as JSON, to bench-data/bench.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import convert
import numpy as np
import pillow_loop
import read
import trust
import view
import zarr
from PIL import Image

from fgbgpack import Dataset, DatasetSpec, DepthSpec, create, fill_depth, open_dataset
from fgbgpack.composition.recipe import Recipe
from fgbgpack.depth.registry import our_card
from fgbgpack.pipeline import convert as convert_dataset
from fgbgpack.storage.codecs import BloscChunk

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
MODEL = SHARED / "models" / "tcmonodepth-small" / "tcmonodepth-small.onnx"

#: 48 backgrounds, 47 foregrounds, 20 placements, each also mirrored.
SAMPLES = 90_240
#: At least so many are browsed.
BROWSED = 400_000
#: Bytes that a composite and its mask may take on disk while memory is measured; twice what they do.
SPACE_PER_SAMPLE = 7_000
BATCH = 32
#: Pixels of the largest pictures that memory is measured with, ``(width, height)``.
HUGE = (11_000, 8_000)
SECTIONS = (
    "composites", "bytes", "memory", "huge", "depth", "layered", "guided", "depth-chunks", "read", "trust",
    "view", "convert",
)  # fmt: skip


# --- one job, in a process of its own ----------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """What a job did, and what it took."""

    report: dict[str, Any]
    seconds: float
    peak_bytes: int


def run_job(job: dict[str, Any]) -> Done:
    """Run ``create``, ``fill_depth`` or ``convert``, or measure reading or checking, in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps(job)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if finished.returncode:
        sys.exit("This job failed, as told above: " + json.dumps(job))
    return Done(**json.loads(finished.stdout))


def do_job(job: dict[str, Any]) -> None:
    """The other end of ``run_job``."""
    start = time.perf_counter()
    if "spec" in job:
        options = {name: job[name] for name in ("workers", "virtual") if name in job}
        report = create(job["dataset"], DatasetSpec.from_dict(job["spec"]), **options).to_dict()
    elif "depth" in job:
        report = fill_depth(job["dataset"], DepthSpec(**job["depth"]), device="cpu").to_dict()
    elif "convert" in job:
        report = convert_dataset(job["dataset"], job["convert"], portable=job["portable"]).to_dict()
    elif "by_hand" in job:
        convert.by_hand(job["dataset"], job["by_hand"])
        report = {}
    elif "trust" in job:
        report = trust.measure(job["trust"], quick=job["quick"])
    else:
        report = read.measure(job["dataset"], quick=job["quick"])
    seconds = time.perf_counter() - start
    print(json.dumps(dataclasses.asdict(Done(report, seconds, peak_bytes()))))


def peak_bytes() -> int:
    """The largest resident memory of this process so far.

    Linux counts that of the parent into a child's ``ru_maxrss``, so there the process's own is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


# --- results -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the table. ``met`` is None where there is no goal."""

    section: str
    what: str
    measured: str
    compared: str = ""
    ratio: str = ""
    goal: str = ""
    met: bool | None = None


class Results:
    """Rows for people, and the numbers behind them."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.numbers: dict[str, Any] = {}

    def add(self, *row: Any, **fields: Any) -> None:
        self.rows.append(Row(*row, **fields))

    def note(self, line: str) -> None:
        self.notes.append(line)
        say(line)

    def publish(self, path: Path, about: dict[str, Any], *, quick: bool, seconds: float) -> None:
        """Print the table of a run that took so long on a machine, and write it as JSON."""
        print(f"\n{in_words(about)}, {seconds:.0f} s")
        print("\n".join(self.notes), self.table(), sep="\n\n")
        document = {
            "machine": about,
            "quick": quick,
            "notes": self.notes,
            "numbers": self.numbers,
            "rows": [dataclasses.asdict(row) for row in self.rows],
        }
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def table(self) -> str:
        header = ("", "what", "measured", "compared with", "ratio", "goal", "")
        told = {True: "met", False: "MISSED", None: ""}
        return table(
            header,
            [(r.section, r.what, r.measured, r.compared, r.ratio, r.goal, told[r.met]) for r in self.rows],
        )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns, each as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, rule, *rows)
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    packages = (
        "fgbgpack", "zarr", "numcodecs", "numpy", "numba", "pillow", "onnxruntime-gpu", "onnxruntime", "torch"
    )  # fmt: skip
    installed = {}
    for package in packages:
        try:
            installed[package] = version(package)
        except ModuleNotFoundError:
            continue
    return {
        "cpu": model,
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        # Of others: what is measured on a busy machine is too low.
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "packages": installed,
    }


def pictures_in(data: Path) -> Path:
    """Real pictures where there are some; else rendered ones, which stay in ``data``."""
    images = SHARED / "images"
    if images.is_dir():
        return images
    rendered = data / "pictures"
    if not rendered.is_dir():
        say("Rendering sample pictures")
        call = "from fgbgpack.cli import main; main()"
        subprocess.run([sys.executable, "-c", call, "sample", str(rendered)], check=True)
    return rendered


def pictures_of(folder: Path) -> list[Path]:
    """The pictures in a folder, without what is told of them."""
    return sorted(path for path in folder.iterdir() if path.suffix != ".csv")


def some_of(pictures: Path, part: Path, **counts: int) -> None:
    """Make a folder with the first so many pictures of each kind, all where no number is given."""
    for kind in ("backgrounds", "foregrounds"):
        (part / kind).mkdir(parents=True)
        for path in pictures_of(pictures / kind)[: counts.get(kind)]:
            (part / kind / path.name).symlink_to(path.resolve())


def in_words(about: dict[str, Any]) -> str:
    return f"{about['cpu']}, {about['cores']} cores, load {about['load']} before, Python {about['python']}"


# --- what is measured --------------------------------------------------------------------------------


class Bench:
    """One run: the pictures, the model, and the datasets that several sections share."""

    def __init__(
        self, *, data: Path, pictures: Path | None, model: Path, dataset: Path | None, quick: bool
    ) -> None:
        self.data, self.quick, self.model, self.dataset = data, quick, model, dataset
        self.pictures = pictures or pictures_in(data)
        self.results = Results()
        counts = [len(pictures_of(self.pictures / kind)) for kind in ("backgrounds", "foregrounds")]
        self.samples_per_placement = 2 * counts[0] * counts[1]
        self.placements = max(1, round(SAMPLES / self.samples_per_placement))
        self.results.note(f"Pictures: {self.pictures} ({counts[0]} backgrounds, {counts[1]} foregrounds)")
        self._temporary: list[Path] = []

    def temporary(self, name: str) -> Path:
        """A folder that is not there now, and will not be after the run."""
        path = self.data / name
        shutil.rmtree(path, ignore_errors=True)
        self._temporary.append(path)
        return path

    def clean_up(self) -> None:
        for path in self._temporary:
            shutil.rmtree(path, ignore_errors=True)

    def spec(
        self, placements: int, pictures: Path | None = None, depth: DepthSpec | None = None
    ) -> dict[str, Any]:
        folder = pictures or self.pictures
        return DatasetSpec(
            backgrounds=str(folder / "backgrounds"),
            foregrounds=str(folder / "foregrounds"),
            placements=placements,
            depth=depth,
        ).to_dict()

    def create(self, name: str, placements: int, pictures: Path | None = None) -> tuple[Path, Done]:
        path = self.temporary(name)
        return path, run_job({"dataset": str(path), "spec": self.spec(placements, pictures)})

    def warm_up(self) -> None:
        """Have the kernels compiled and cached, by a process that is not measured."""
        path, done = self.create("warm-up.zarr", 1, self._few_pictures)
        shutil.rmtree(path)
        self.results.note(f"Kernels are compiled and cached before anything is timed ({done.seconds:.1f} s)")

    @cached_property
    def _few_pictures(self) -> Path:
        return self._part_of("few-pictures", backgrounds=8, foregrounds=8)

    def _part_of(self, name: str, **counts: int) -> Path:
        """A folder with the first so many pictures of each kind, all where no number is given."""
        part = self.temporary(name)
        some_of(self.pictures, part, **counts)
        return part

    # --- 1 and 2

    @cached_property
    def _composites(self) -> tuple[Path, Done, float, float, Path]:
        """The dataset, how it was made, and the seconds a sample of the loop in one process and in many."""
        count = 150 if self.quick else 750
        # Fewer backgrounds, not fewer placements: what a sample takes must not depend on --quick.
        pictures = self._part_of("quick-pictures", backgrounds=12) if self.quick else self.pictures
        small, _ = self.create("small.zarr", 1, pictures)
        catalog = open_dataset(small).catalog()
        plan = Recipe.of(DatasetSpec.from_dict(self.spec(self.placements)), catalog).plan
        chosen = np.arange(count) * plan.samples // count
        folder = self.temporary("png")
        folder.mkdir()
        work = pillow_loop.Work(catalog, chosen, plan.placements_of(chosen), folder)

        say("Composites: Pillow")
        before = pillow_loop.seconds_in_one_process(work)
        say("Composites: fgbgpack")
        path, done = self.create("composites.zarr", self.placements, pictures)
        say("Composites: Pillow again, and in all processes")
        after = pillow_loop.seconds_in_one_process(work)
        in_all = pillow_loop.seconds_in_processes(work, cores())
        _require_same(open_dataset(path), work)
        return path, done, (before + after) / (2 * count), in_all / count, folder

    def composites(self) -> None:
        _, done, one, many, _ = self._composites
        samples = done.report["samples"]
        rate, loop, all_loops = samples / done.seconds, 1 / one, 1 / many
        self.results.numbers["composites"] = {
            "samples": samples,
            "seconds": done.seconds,
            "rate": rate,
            "pillow_rate_one_process": loop,
            f"pillow_rate_{cores()}_processes": all_loops,
        }
        what = f"composites + masks, {samples:,} samples, start to end"
        self.results.add(
            "composites",
            what,
            f"{rate:,.0f}/s",
            f"Pillow + 2 PNGs, 1 process: {loop:,.0f}/s",
            f"{rate / loop:.1f}",
            ">= 60",
            rate / loop >= 60,
        )
        self.results.add(
            "composites",
            "the same",
            f"{rate:,.0f}/s",
            f"{cores()} processes: {all_loops:,.0f}/s",
            f"{rate / all_loops:.1f}",
        )

    def bytes(self) -> None:
        path, done, _, _, folder = self._composites
        opened = open_dataset(path)
        stored = done.report["stored_bytes"]
        ours = (stored["image"] + stored["mask"]) / len(opened)
        pngs = pillow_loop.png_bytes(folder, "image") + pillow_loop.png_bytes(folder, "mask")
        self.results.numbers["bytes"] = {"image_and_mask": ours, "png_image_and_mask": pngs}
        self._add_bytes("image + mask", ours, pngs, 3_600)
        if self._model_ready():
            path, done = self._depth_filled
            depth = done.report["stored_bytes"]["depth"] / done.report["samples"]
            pngs = _depth_png_bytes(open_dataset(path))
            self.results.numbers["bytes"] |= {"depth": depth, "png_16_bit_depth": pngs}
            self._add_bytes("depth", depth, pngs, 9_000, bits=16)

    def _add_bytes(self, what: str, ours: float, pngs: float, goal: int, *, bits: int = 8) -> None:
        self.results.add(
            "bytes",
            f"{what}, bytes a sample",
            f"{ours:,.0f}",
            f"PNG of {bits} bits: {pngs:,.0f}",
            f"{pngs / ours:.1f}",
            f"< {goal:,}",
            ours < goal,
        )

    # --- 3

    def memory(self) -> None:
        base = max(1, self.placements // (10 if self.quick else 1))
        peaks = {}
        for placements in (base, 10 * base):
            name = f"memory-{placements}.zarr"
            samples = placements * self.samples_per_placement
            wanted, free = samples * SPACE_PER_SAMPLE / 1e9, shutil.disk_usage(self.data).free / 1e9
            if free < wanted:
                self.results.note(
                    f"Memory at {samples:,} samples is not measured: it wants {wanted:.0f} GB of free disk, "
                    f"{free:.0f} GB are there"
                )
                continue
            say(f"Memory: create at {samples:,} samples")
            path, done = self.create(name, placements)
            shutil.rmtree(path)
            peaks[samples] = done.peak_bytes
            self.results.add(
                "memory",
                f"peak of create, {done.report['samples']:,} samples",
                f"{done.peak_bytes / 1e6:,.0f} MB",
                f"{done.report['samples'] / done.seconds:,.0f} samples/s",
                "",
                "< 1 GB",
                done.peak_bytes < 1e9,
            )
        self.results.numbers["memory"] = {"peak_bytes": peaks}
        if len(peaks) == 2:
            small, large = peaks.values()
            # What two runs of the same differ by is a few per cent: threads meet differently each time.
            self.results.add(
                "memory", "ten times the samples", f"{large / 1e6:,.0f} MB", f"{small / 1e6:,.0f} MB",
                f"{large / small:.2f}", "<= 1.1", large <= 1.1 * small,
            )  # fmt: skip

    def huge(self) -> None:
        """Memory with pictures of 88 million pixels, which 4 workers decode and show to the network."""
        if self.quick:
            return
        say("Memory: pictures of 88 million pixels")
        folder = self.temporary("huge-pictures")
        for kind, formats in (("backgrounds", ("jpg", "jpg", "png")), ("foregrounds", ("png", "png"))):
            (folder / kind).mkdir(parents=True)
            chosen = pictures_of(self.pictures / kind)[: len(formats)]
            for number, (path, suffix) in enumerate(zip(chosen, formats, strict=True)):
                with Image.open(path) as picture:
                    mode = "RGBA" if kind == "foregrounds" else "RGB"
                    large = picture.convert(mode).resize(HUGE, Image.Resampling.BICUBIC)
                large.save(folder / kind / f"{number}.{suffix}", compress_level=1)
        job = {"dataset": str(self.temporary("huge.zarr")), "spec": self.spec(5, folder, DepthSpec())}
        peak = run_job(job | {"workers": 4}).peak_bytes
        self.results.numbers["huge"] = {"peak_bytes": peak}
        what = f"peak of create with depth, pictures of {HUGE[0]:,}x{HUGE[1]:,}, 4 workers"
        self.results.add("huge", what, f"{peak / 1e6:,.0f} MB", goal="< 1.5 GB", met=peak < 1.5e9)

    # --- 4

    def _model_ready(self) -> bool:
        if not self.model.is_file():
            if not any("No depth model" in note for note in self.results.notes):
                self.results.note(f"No depth model at {self.model}: everything about depth is skipped")
            return False
        return True

    @cached_property
    def _carded_model(self) -> Path:
        """A copy of the model with its card beside it."""
        folder = self.data / "models"
        folder.mkdir(exist_ok=True)
        copy = folder / self.model.name
        shutil.copyfile(self.model, copy)
        card = self.model.with_suffix(".json")
        ours = json.dumps(our_card(MODEL.stem).document)
        text = card.read_text(encoding="utf-8") if card.is_file() else ours
        copy.with_suffix(".json").write_text(text, encoding="utf-8")
        return copy

    def _depth_job(self, path: Path, scale: int) -> Done:
        depth = {"model": str(self._carded_model), "scale": scale}
        return run_job({"dataset": str(path), "depth": depth})

    @cached_property
    def _depth_filled(self) -> tuple[Path, Done]:
        # At least 8,000 samples in a full run.
        placements = max(1, round(self.placements / (20 if self.quick else 5)))
        path, _ = self.create("depth.zarr", placements)
        say("Depth: fgbgpack")
        return path, self._depth_job(path, scale=1)

    def depth(self) -> None:
        if not self._model_ready():
            return
        import onnxruntime

        source, _ = self.create("depth-input.zarr", 1)
        images = np.asarray(open_dataset(source).image[: 4 * BATCH]).transpose(0, 3, 1, 2).astype(np.float32)
        one_thread = onnxruntime.SessionOptions()
        one_thread.intra_op_num_threads = 1

        def session(options: Any) -> Any:
            return onnxruntime.InferenceSession(
                str(self._carded_model), options, providers=["CPUExecutionProvider"]
            )

        bare = {
            "default options": (session(onnxruntime.SessionOptions()), 1),
            f"{cores()} threads of one": (session(one_thread), cores()),
        }

        def rates(scale: int) -> dict[str, float]:
            """What the bare sessions do with pictures of that size, which lie in memory."""
            say(f"Depth: the bare session, scale {scale}")
            large = images.repeat(scale, axis=2).repeat(scale, axis=3)
            batches = [large[i : i + BATCH] for i in range(0, len(large), BATCH)]
            seconds = 1.0 if self.quick else 6.0
            return {name: _bare_rate(*how, batches, seconds) for name, how in bare.items()}

        self.results.numbers["depth"] = {}
        for scale in (1,) if self.quick else (1, 2, 3):
            before = rates(scale)
            path, done = self._depth_filled if scale == 1 else self._depth_at(scale)
            after = rates(scale)
            samples = done.report["samples"]
            ours = samples / done.seconds
            numbers = {"samples": samples, "rate": ours, "peak_bytes": done.peak_bytes}
            for name in bare:
                rate = 2 / (1 / before[name] + 1 / after[name])
                numbers[f"bare session, {name}"] = rate
                self.results.add(
                    "depth",
                    f"scale {scale}, {samples:,} samples, start to end",
                    f"{ours:,.0f}/s",
                    f"bare session, batches of {BATCH}, {name}: {rate:,.0f}/s",
                    f"{ours / rate:.0%}",
                    ">= 85 %",
                    ours / rate >= 0.85,
                )
            self.results.numbers["depth"][f"scale {scale}"] = numbers
            self._add_rounding(path, scale)
            if scale == 1:
                peak = f"{done.peak_bytes / 1e6:,.0f} MB"
                self.results.add(
                    "depth", "peak of filling depth", peak, goal="< 1 GB", met=done.peak_bytes < 1e9
                )
        if self.quick:
            self.results.note("Depth at scales 2 and 3 is measured in the full run only")

    def _depth_at(self, scale: int) -> tuple[Path, Done]:
        say(f"Depth: fgbgpack, scale {scale}")
        path, _ = self.create(f"depth-{scale}.zarr", 16, self._few_pictures)
        return path, self._depth_job(path, scale)

    def _add_rounding(self, path: Path, scale: int) -> None:
        rounding: Any = open_dataset(path).depth.attrs["rounding"]
        error = rounding["largest_error"]
        self.results.numbers["depth"][f"largest_rounding_error_scale_{scale}"] = error
        self.results.add(
            "depth",
            f"largest rounding error, scale {scale}, of depth's range",
            f"{error:.3%}",
            goal="<= 0.11 %",
            met=error <= 0.0011,
        )

    # --- 5

    def layered(self) -> None:
        """What ``create`` makes by default, depth in layers included; the same virtual; and filling alone."""
        pictures = self._part_of("layered-pictures", backgrounds=6) if self.quick else self.pictures
        numbers: dict[str, Any] = {}
        for kind, goal in (("stored", 4_300), ("virtual", 60)):
            say(f"Depth in layers: all three, {kind}")
            path = self.temporary(f"layered-{kind}.zarr")
            spec = self.spec(self.placements, pictures, DepthSpec())
            done = run_job({"dataset": str(path), "spec": spec, "virtual": kind == "virtual"})
            report, samples = done.report, done.report["samples"]
            size = sum(report["stored_bytes"].values()) / samples
            numbers[kind] = {
                "samples": samples,
                "seconds": done.seconds,
                "depth_rate": samples / report["depth_seconds"],
                "bytes": size,
                "depth_bytes": report["stored_bytes"].get("depth", 0) / samples,
                "peak_bytes": done.peak_bytes,
            }
            rate = samples / done.seconds
            least = 400_000 / (60 if kind == "stored" else 20)
            what = f"composites, masks and depth, {kind}, {samples:,} samples, start to end"
            self.results.add(
                "layered", what, f"{rate:,.0f}/s", f"peak {done.peak_bytes / 1e6:,.0f} MB", "",
                f">= {least:,.0f}/s", None if self.quick else rate >= least,
            )  # fmt: skip
            what = f"bytes a sample of all that is {kind}"
            # With few samples on each background, those take most of what is virtual.
            met = None if self.quick and kind == "virtual" else size <= goal
            self.results.add("layered", what, f"{size:,.0f}", "", "", f"<= {goal:,}", met)
        rate = numbers["stored"]["depth_rate"]
        self.results.add(
            "layered", "depth alone, backgrounds included", f"{rate:,.0f}/s", "", "",
            ">= 10,000/s", None if self.quick else rate >= 10_000,
        )  # fmt: skip
        self.results.numbers["layered"] = numbers

    # --- 6

    def guided(self) -> None:
        """Guided depth, that of the backgrounds included: by our networks, and with another one on those."""
        jobs: dict[str, tuple[dict[str, Any], str]] = {"our networks": ({"mode": "guided"}, ">= 500/s")}
        if self._model_ready():
            jobs[f"{self.model.stem} on the backgrounds"] = (
                {"model": str(self._carded_model), "mode": "guided"},
                "",
            )
        # Backgrounds take their time once: with few samples on each, that would be most of it.
        pictures, placements = None, max(1, round(self.placements / 4))
        if self.quick:
            pictures, placements = self._few_pictures, 16
        self.results.numbers["guided"] = {}
        for number, (name, (depth, goal)) in enumerate(jobs.items()):
            path, _ = self.create(f"guided-{number}.zarr", placements, pictures)
            say(f"Guided depth: {name}")
            done = run_job({"dataset": str(path), "depth": depth})
            opened = open_dataset(path)
            rate, scale = len(opened) / done.seconds, opened.document.depth.scale
            backgrounds = len(opened.document.sources.backgrounds)
            self.results.numbers["guided"][name] = {
                "samples": len(opened),
                "backgrounds": backgrounds,
                "scale": scale,
                "rate": rate,
                "peak_bytes": done.peak_bytes,
                "bytes": done.report["stored_bytes"]["depth"] / len(opened),
            }
            self.results.add(
                "guided",
                f"{name}, {len(opened):,} samples, start to end",
                f"{rate:,.0f}/s",
                f"{backgrounds} backgrounds at {scale} times the size; peak {done.peak_bytes / 1e6:,.0f} MB",
                "",
                goal,
                rate >= 500 if goal else None,
            )

    # --- 7

    def depth_chunks(self) -> None:
        if not self._model_ready():
            return
        path, _ = self._depth_filled
        opened = open_dataset(path)
        maps = np.asarray(opened.depth[: 2 * opened.depth.shards[0]])
        reads, rounds = (100, 2) if self.quick else (500, 4)
        chosen = np.random.default_rng(0).integers(0, len(maps), reads)
        arrays, sizes = {}, {}
        for chunk in (1, 4, 8):
            store = self.temporary(f"chunks-{chunk}.zarr")
            array = zarr.create_array(
                store=str(store),
                shape=maps.shape,
                chunks=(chunk, *maps.shape[1:]),
                shards=(opened.depth.shards[0], *maps.shape[1:]),
                dtype=np.float16,
                fill_value=np.nan,
                **BloscChunk(itemsize=2).zarr_codecs(),
            )
            array[:] = maps
            arrays[chunk] = zarr.open_array(str(store), mode="r")
            sizes[chunk] = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / len(maps)

        def at_random(array: Any) -> float:
            start = time.perf_counter()
            for index in chosen:
                array[int(index)]
            return reads / (time.perf_counter() - start)

        def in_order(array: Any) -> float:
            start = time.perf_counter()
            for first in range(0, len(maps), BATCH):
                array[first : first + BATCH]
            return len(maps) / (time.perf_counter() - start)

        # By turns, and the best of each: what disturbs one of them must not decide.
        say("Depth chunks: reading")
        best = {chunk: [0.0, 0.0] for chunk in arrays}
        for _ in range(rounds):
            for chunk, array in arrays.items():
                rates = (at_random(array), in_order(array))
                best[chunk] = [max(pair) for pair in zip(best[chunk], rates, strict=True)]

        numbers = {}
        for chunk, (random, ordered) in best.items():
            numbers[chunk] = {"random_reads": random, "in_order": ordered, "bytes": sizes[chunk]}
            used = " (as fgbgpack writes)" if opened.depth.chunks[0] == chunk else ""
            self.results.add(
                "depth-chunks",
                f"chunks of {chunk}{used}, read by zarr-python",
                f"{random:,.0f} maps/s at random",
                f"{ordered:,.0f} maps/s in batches of {BATCH}; {sizes[chunk]:,.0f} bytes a map",
            )
        self.results.numbers["depth_chunks"] = numbers

    # --- 8

    @cached_property
    def _whole_dataset(self) -> Path:
        """A dataset with depth as it comes by default."""
        pictures = self._part_of("whole-pictures", backgrounds=3 if self.quick else 12)
        path, _ = self.create("whole.zarr", self.placements, pictures)
        say("Depth for what is read and converted")
        run_job({"dataset": str(path), "depth": {}})
        return path

    def read(self) -> None:
        """Reading all that a dataset has: depth as it comes by default, pixels stored and recomposed."""
        path = self._whole_dataset
        say("Reading")
        done = run_job({"dataset": str(path), "quick": self.quick})
        numbers = done.report
        samples = len(open_dataset(path))
        self.results.numbers["read"] = numbers | {"samples": samples, "peak_bytes": done.peak_bytes}
        self.results.note(
            f"Reading: one dataset of {samples:,} samples, files in the page cache; the best of turns"
        )

        def against_zarr(what: str, group: dict[str, float], goal: str, met: bool | None) -> None:
            ours, zarrs = group["stored"], group["zarr-python"]
            self.results.add(
                "read",
                what,
                f"{ours:,.0f}/s",
                f"zarr-python: {zarrs:,.0f}/s",
                f"{ours / zarrs:.1f}",
                goal,
                met,
            )

        def alone(what: str, found: float, least: int | None = None) -> None:
            goal, met = (f">= {least:,}/s", found >= least) if least else ("", None)
            self.results.add("read", what, f"{found:,.0f}/s", goal=goal, met=met)

        single = numbers["single"]
        against_zarr("random single samples, all three", single, ">= 2,500/s", single["stored"] >= 2_500)
        alone("random single samples, image + mask recomposed", single["recomposed"], 20_000)
        alone("random single samples, all three by default", single["all three by default"], 20_000)
        for fields in ("image + mask", "all three"):
            group = numbers[f"chunks, {fields}"]
            ratio = group["stored"] / group["zarr-python"]
            against_zarr(f"whole random chunks, {fields}", group, ">= 4 times", ratio >= 4)
        alone("shuffled epoch, image + mask", numbers["epoch"]["image + mask"], 60_000)
        alone("shuffled epoch, all three", numbers["epoch"]["all three"], 25_000)
        alone(
            "batches from anywhere, image + mask recomposed on one core",
            numbers["random batches"]["recomposed, one core"],
            25_000,
        )
        batches = numbers["random batches"]["all three by default, one core"]
        alone("batches from anywhere, all three by default on one core", batches, 25_000)
        if "loader" not in numbers:
            self.results.note("Reading through a DataLoader is skipped: there is no PyTorch here")
        for what, found in numbers.get("loader", {}).items():
            alone(f"DataLoader, batches of {read.BATCH}, shuffled, {what}", found)

    # --- 9

    def trust(self) -> None:
        """Opening, which checks what the dataset says of itself, and verifying all of it."""
        path = self._whole_dataset
        say("Opening and verifying")
        numbers = run_job({"trust": str(path), "quick": self.quick}).report
        self.results.numbers["trust"] = numbers
        opening, whole, share = numbers["open"], numbers["whole"], numbers["manifest"]["share"]
        self.results.add(
            "trust",
            "opening a dataset",
            f"{opening['fgbgpack']:.1f} ms",
            f"zarr-python, group and arrays, unchecked: {opening['zarr-python']:.1f} ms",
            f"{opening['zarr-python'] / opening['fgbgpack']:.1f}",
        )
        self.results.add(
            "trust",
            "verifying: all decoded, pixels and extremes compared",
            f"{whole['verify']:,.0f}/s",
            f"reading all batches in order: {whole['read']:,.0f}/s",
            f"{whole['ratio']:.2f}",
            ">= 0.8",
            whole["ratio"] >= 0.8,
        )
        for name, what in (
            ("stats", "statistics of all pixels"),
            ("stats recomposed", "the same, recomposed"),
        ):
            self.results.add(
                "trust",
                what,
                f"{whole[name]:,.0f}/s",
                f"reading all batches in order: {whole['read']:,.0f}/s",
                f"{whole[name] / whole['read']:.2f}",
            )
        self.results.add("trust", "manifest, of all bytes", f"{share:.3%}", goal="< 0.1 %", met=share < 0.001)

    # --- 10

    def view(self) -> None:
        """The page of 400,000 samples, of a virtual dataset and of a stored one."""
        placements = -(-BROWSED // self.samples_per_placement)
        paths = {kind: self.temporary(f"browsed-{kind}.zarr") for kind in ("virtual", "stored")}
        for kind, path in paths.items():
            if kind == "stored" and self.quick:
                continue
            say(f"Browsing: making a {kind} dataset")
            job = {"dataset": str(path), "spec": self.spec(placements), "virtual": kind == "virtual"}
            samples = run_job(job).report["samples"]
            say(f"Browsing: a {kind} dataset")
            found = view.measure(str(path))
            self.results.numbers.setdefault("view", {})[kind] = found
            what = f"a page of {samples:,} samples, {kind}"
            self.results.add(
                "view",
                f"{what}: the first {view.FIRST} pictures",
                f"{found['first']:.2f} s",
                f"from the start of the command: {found['start']:.1f} s",
                goal="< 1 s",
                met=found["first"] < 1,
            )
            self.results.add(
                "view",
                f"{what}: the slowest of {len(view.FILTERS)} filters",
                f"{found['filter']:.2f} s",
                f"counted by all there is: {found['counts']:.2f} s",
                goal="< 0.5 s",
                met=found["filter"] < 0.5,
            )
            if (peak := found["peak_bytes"]) is not None:
                self.results.add(
                    "view", f"{what}: peak memory", f"{peak / 1e6:,.0f} MB", goal="< 300 MB", met=peak < 300e6
                )
            shutil.rmtree(path)

    # --- 11

    def convert(self) -> None:
        """From Zarr to HDF5 and back, against reading and writing each chunk with the same codecs."""
        source = self.dataset or self._whole_dataset
        samples = len(open_dataset(source))
        folder = self.temporary("convert")
        folder.mkdir()
        h5, hand, portable, back = (
            str(folder / name) for name in ("ours.h5", "by-hand.h5", "portable.h5", "back.zarr")
        )

        def ours(dataset: str, target: str, *, portable: bool = False) -> Done:
            say(f"Converting to {Path(target).name}")
            return run_job({"dataset": dataset, "convert": target, "portable": portable})

        before = ours(str(source), h5)
        say("Converting by hand")
        loop = run_job({"dataset": str(source), "by_hand": hand})
        jobs = {
            "Zarr to HDF5": ours(str(source), h5),
            "HDF5 to Zarr": ours(h5, back),
            "Zarr to portable HDF5": ours(str(source), portable, portable=True),
        }
        say("Comparing")
        convert.require_same(str(source), h5, hand, portable)
        if convert.digest(Path(back)) != convert.digest(source):
            raise RuntimeError("Zarr made of the HDF5 file is not the Zarr that it was made of")
        seconds = {name: done.seconds for name, done in jobs.items()}
        seconds["Zarr to HDF5"] = (before.seconds + seconds["Zarr to HDF5"]) / 2
        sizes = {"by hand": Path(hand).stat().st_size} | {
            name: done.report["total_bytes"] for name, done in jobs.items()
        }
        self.results.numbers["convert"] = {
            "samples": samples,
            "seconds": {"by hand": loop.seconds, **seconds},
            "bytes": sizes,
            "peak_bytes": {"by hand": loop.peak_bytes} | {name: job.peak_bytes for name, job in jobs.items()},
        }
        for name, done in jobs.items():
            ratio, peak = loop.seconds / seconds[name], done.peak_bytes
            has_goal = name != "Zarr to portable HDF5"
            self.results.add(
                "convert",
                f"{name}, {samples:,} samples",
                f"{samples / seconds[name]:,.0f}/s",
                f"zarr-python and h5py, same codecs: {samples / loop.seconds:,.0f}/s",
                f"{ratio:.1f}",
                ">= 10" if has_goal else "",
                ratio >= 10 if has_goal else None,
            )
            self.results.add(
                "convert",
                f"peak of {name}",
                f"{peak / 1e6:,.0f} MB",
                f"the result has {sizes[name] / samples:,.0f} bytes a sample",
                goal="< 500 MB",
                met=peak < 500e6,
            )


def _require_same(opened: Dataset, work: pillow_loop.Work) -> None:
    """Both made the same pictures, or comparing their speed means nothing."""
    for index in work.samples[:50]:
        sample = opened[int(index)]
        image = np.asarray(Image.open(work.folder / f"image-{index:07d}.png")).astype(int)
        mask = np.asarray(Image.open(work.folder / f"mask-{index:07d}.png"))
        if np.abs(image - sample.image).max() > 1 or not np.array_equal(mask, sample.mask):
            raise RuntimeError(f"sample {index} differs from what Pillow makes of it")


def _bare_rate(session: Any, threads: int, batches: list[np.ndarray], seconds: float) -> float:
    """Pictures a second of a session that is handed float32 batches that lie in memory."""
    name = session.get_inputs()[0].name
    session.run(None, {name: batches[0]})
    counts = [0] * threads
    stop = time.perf_counter() + seconds

    def loop(thread: int) -> None:
        index = thread
        while time.perf_counter() < stop:
            session.run(None, {name: batches[index % len(batches)]})
            counts[thread] += BATCH
            index += threads

    start = time.perf_counter()
    running = [threading.Thread(target=loop, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def _depth_png_bytes(opened: Dataset) -> float:
    """The mean size of 16-bit PNGs of depth, each stretched over its own range."""
    sizes = []
    for index in range(0, len(opened), max(1, len(opened) // 200)):
        depth = opened[index].depth.astype(np.float32)
        stretched = (depth - depth.min()) / max(1e-9, depth.max() - depth.min()) * 65535
        file = io.BytesIO()
        Image.fromarray(np.rint(stretched).astype(np.uint16)).save(file, "PNG")
        sizes.append(len(file.getvalue()))
    return float(np.mean(sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute; numbers are rough")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be repeated")
    parser.add_argument("--pictures", type=Path, help="a folder with backgrounds/ and foregrounds/")
    parser.add_argument("--model", type=Path, default=MODEL, help="an ONNX file, its card beside it")
    parser.add_argument("--dataset", type=Path, help="one to convert, in place of one made for that")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        do_job(json.loads(args.job))
        return

    data = ROOT / "bench-data"
    data.mkdir(exist_ok=True)
    about = machine()
    bench = Bench(data=data, pictures=args.pictures, model=args.model, dataset=args.dataset, quick=args.quick)
    say(in_words(about))
    start = time.perf_counter()
    try:
        bench.warm_up()
        for section in args.only or SECTIONS:
            getattr(bench, section.replace("-", "_"))()
    finally:
        bench.clean_up()
    seconds = time.perf_counter() - start
    bench.results.publish(data / "bench.json", about, quick=args.quick, seconds=seconds)


if __name__ == "__main__":
    main()

"""What a small network that was trained on composites alone finds in photographs.

    python benchmarks/transfer.py [--photos DIR] [--rows NAME ...] [--seeds 3] [--steps 500]

Each row is a recipe of composites, with or without augmentation. A U-Net is trained from scratch on each,
with the same number of steps and samples, and tested on photographs, of which it has seen none: average
precision and, at a threshold of 1/2, intersection over union of all pixels of all photographs.
Guessing has the average precision of the share of pixels that are people.

``--photos`` has pictures in ``image/`` and masks of the same names in ``mask/`` (white where people are).
They are resized to a short side of 128, as the samples are, with their own proportions.

The table goes to stdout and, as JSON, to bench-data/transfer.json. What is there already is not done again: a
run that was stopped goes on, and rows can be added.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from fgbgpack import Augment, DatasetSpec, create
from fgbgpack.scene_spec import PRESETS
from fgbgpack.torch import make_loader

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT.parent / "shared" / "images"

SIDE = 128
#: What a row's samples are of; recipes that pair every picture with every other have about as many.
SAMPLES = 36_096
PLACEMENTS = 8
#: Sides of photographs are whole multiples of what the network halves.
MULTIPLE = 16
WIDTHS = (16, 32, 52, 94)
LEARNING_RATE = 4e-3


@dataclass(frozen=True)
class Row:
    """A recipe, by the fields of its spec, and what changes its samples."""

    spec: dict[str, Any] = field(default_factory=dict)
    augment: Augment | None = None

    @property
    def key(self) -> str:
        """All that the row's figures depend on but seeds and steps, to find them again."""
        augment = None if self.augment is None else self.augment.to_dict()
        return json.dumps({"spec": self.spec, "augment": augment}, sort_keys=True)


#: Features that the preset ``scenes`` has off, each with what switches it on. A row each.
FEATURES: dict[str, Any] = {
    "truncate": 0.3,
    "empty": 0.1,
    "rotation": 10.0,
    "blend": "soft,hard,feather",
    "light_match": True,
    "shadow": True,
}
#: Options of augmentation, each with what switches it off. A row each.
CHANGES: dict[str, dict[str, Any]] = {
    "window": {"zoom": None, "crop": False},
    "mirror": {"mirror": 0},
    "colour": {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "tint": 0},
    "blur": {"blur": 0},
    "noise": {"noise": 0},
}


def all_rows() -> dict[str, Row]:
    """All rows, by name."""
    augment, preset = Augment(), PRESETS["scenes"]
    scenes = {"samples": SAMPLES} | preset
    rows = {
        "reference": Row(),
        "reference, augmented": Row(augment=augment),
        "scenes": Row(scenes),
        "scenes, augmented": Row(scenes, augment),
    }
    defaults = {one.name: one.default for one in fields(DatasetSpec)}
    for name in preset:
        rows[f"scenes, augmented, without {name}"] = Row(scenes | {name: defaults[name]}, augment)
    for name, value in FEATURES.items():
        rows[f"scenes, augmented, with {name}"] = Row(scenes | {name: value}, augment)
    for name, off in CHANGES.items():
        rows[f"scenes, augmented, without {name}"] = Row(scenes, replace(augment, **off))
    return rows


# --- the network -------------------------------------------------------------------------------------


class UNet(nn.Module):
    """An encoder to 1/16 of the picture and a decoder back to 1/2, of 0.28 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, WIDTHS[0], stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(before, width, stride=2), _convolution(width, width))
            for before, width in pairwise(WIDTHS)
        )
        self.up = nn.ModuleList(
            _convolution(after + width, width)
            for width, after in zip(WIDTHS[-2::-1], WIDTHS[:0:-1], strict=True)
        )
        self.head = nn.Conv2d(WIDTHS[0], 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """(n, 3, h, w) uint8 to (n, 1, h, w) logits; sides are multiples of 16."""
        levels = [self.stem((image.float() - 127.5) / 64)]
        for step in self.down:
            levels.append(step(levels[-1]))
        found = levels.pop()
        for step in self.up:
            side = levels.pop()
            found = step(torch.cat([interpolate(found, scale_factor=2.0, mode="nearest"), side], dim=1))
        return interpolate(self.head(found), scale_factor=2.0, mode="bilinear", align_corners=False)


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


def trained(dataset: Path, row: Row, options: argparse.Namespace, seed: int) -> UNet:
    """A network after so many steps on batches of a dataset."""
    torch.manual_seed(seed)
    # Made on the CPU, whose numbers are the same everywhere.
    network = UNet().to(options.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=options.steps)
    loader = make_loader(
        dataset,
        options.batch,
        fields=["image", "mask"],
        augment=None if row.augment is None else replace(row.augment, seed=seed),
        seed=seed,
        steps_per_epoch=options.steps,
        workers=options.workers,
    )
    begun, shown = time.monotonic(), 0.0
    for step, batch in enumerate(loader, 1):
        image, mask = (batch[name].to(options.device) for name in ("image", "mask"))
        logits, target = network(image), mask.float() / 255
        cover = torch.sigmoid(logits)
        dice = 1 - (2 * (cover * target).sum() + 1) / (cover.sum() + target.sum() + 1)
        loss = binary_cross_entropy_with_logits(logits, target) + dice
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        if time.monotonic() > shown + 10:
            shown = time.monotonic()
            left = (shown - begun) / step * (options.steps - step)
            print(f"\r  step {step} of {options.steps}, {left:.0f} s left ", end="", file=sys.stderr)
    print("\r" + " " * 60, end="\r", file=sys.stderr)
    return network.cpu().eval()


# --- the photographs ---------------------------------------------------------------------------------


def photographs(folder: Path) -> list[tuple[Tensor, NDArray[np.bool_]]]:
    """(1, 3, h, w) uint8 pictures and (h, w) masks."""
    images = {path.stem: path for path in sorted((folder / "image").iterdir())}
    masks = {path.stem: path for path in sorted((folder / "mask").iterdir())}
    if not images or images.keys() != masks.keys():
        sys.exit(f"{folder}: expected pictures in image/, and for each a mask of its name in mask/")
    found = []
    for name, path in images.items():
        with Image.open(path) as opened, Image.open(masks[name]) as mask:
            scale = SIDE / min(opened.size)
            size = tuple(max(1, round(side * scale / MULTIPLE)) * MULTIPLE for side in opened.size)
            picture = np.asarray(opened.convert("RGB").resize(size, Image.Resampling.BOX))
            people = np.asarray(mask.convert("L").resize(size, Image.Resampling.BOX)) > 127
        found.append((torch.from_numpy(picture.copy()).permute(2, 0, 1)[None], people))
    return found


def measures(network: UNet, photos: Sequence[tuple[Tensor, NDArray[np.bool_]]]) -> dict[str, float]:
    """Average precision and intersection over union of all pixels."""
    with torch.inference_mode():
        scores = [torch.sigmoid(network(picture))[0, 0].numpy() for picture, _ in photos]
    score = np.concatenate([one.ravel() for one in scores])
    truth = np.concatenate([people.ravel() for _, people in photos])
    found = score > 0.5
    union = int((found | truth).sum())
    return {
        "ap": average_precision(score, truth),
        "iou": float((found & truth).sum() / union) if union else 0.0,
    }


def average_precision(score: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """The mean over all true pixels of the precision among pixels with at least their score."""
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(truth[order])
    # Pixels of one score are found together: each has the precision at the last of them.
    last = np.r_[np.flatnonzero(np.diff(ranked)), len(ranked) - 1]
    new = np.diff(hits[last], prepend=0)
    return float((new * hits[last] / (last + 1)).sum() / max(1, hits[-1]))


# --- the table ---------------------------------------------------------------------------------------


def results(options: argparse.Namespace, rows: dict[str, Row]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The figures of each row and seed, from the file where they are there, and written to it otherwise."""
    photos = photographs(options.photos)
    kept: list[dict[str, Any]] = json.loads(options.json.read_text()) if options.json.exists() else []
    for seed in range(options.seeds):
        for name, row in rows.items():
            about = {name: getattr(options, name) for name in ("steps", "batch", "device")}
            about |= {"key": row.key, "seed": seed}
            done = next((one for one in kept if about.items() <= one.items()), None)
            if done is None:
                print(f"{name}, seed {seed}", file=sys.stderr)
                begun = time.monotonic()
                with tempfile.TemporaryDirectory() as folder:
                    dataset = Path(folder) / "composites.zarr"
                    create(dataset, spec_of(row, options, seed), virtual=True)
                    network = trained(dataset, row, options, seed)
                done = about | measures(network, photos) | {"seconds": time.monotonic() - begun}
                kept.append(done)
                options.json.parent.mkdir(parents=True, exist_ok=True)
                unfinished = options.json.with_suffix(".part")
                unfinished.write_text(json.dumps(kept, indent=1))
                unfinished.replace(options.json)
            yield name, done


def spec_of(row: Row, options: argparse.Namespace, seed: int) -> DatasetSpec:
    """The spec of a row's composites."""
    common = {"width": SIDE, "height": SIDE, "seed": seed, "depth": None}
    pairs = {} if "samples" in row.spec else {"placements": PLACEMENTS}
    folders = {name: str(getattr(options, name)) for name in ("backgrounds", "foregrounds")}
    return DatasetSpec(**folders, **common, **pairs, **row.spec)


def print_table(found: dict[str, list[dict[str, Any]]]) -> None:
    print("| composites | average precision | IoU | seeds |\n|---|---|---|---|")
    for name, seeds in found.items():
        cells = []
        for measure in ("ap", "iou"):
            values = [one[measure] for one in seeds]
            spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        print(f"| {name} | {' | '.join(cells)} | {len(seeds)} |")


def main() -> None:
    rows = all_rows()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("photos", "backgrounds", "foregrounds"):
        there = IMAGES / name
        parser.add_argument(f"--{name}", type=Path, default=there, required=not there.is_dir())
    parser.add_argument(
        "--rows", nargs="+", choices=list(rows), metavar="NAME", help=", ".join(map(repr, rows))
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where networks are trained")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of PyTorch; one for each core that has no worker")
    parser.add_argument("--json", type=Path, default=ROOT / "bench-data" / "transfer.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or max(1, len(os.sched_getaffinity(0)) - options.workers))
    # On a GPU some gradients have no such algorithm: their last bits differ from run to run.
    torch.use_deterministic_algorithms(True, warn_only=options.device == "cuda")
    chosen = {name: row for name, row in rows.items() if not options.rows or name in options.rows}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    for name, done in results(options, chosen):
        found[name].append(done)
    print_table(found)


if __name__ == "__main__":
    main()

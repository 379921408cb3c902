"""Today's way to make such data: paste with Pillow, save two PNG files, one sample after the other.

It is given what it would otherwise spend time on: sources that are resized, mirrored and in memory, and
the placements.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from PIL import Image

from fgbgpack.composition.placement import Placements
from fgbgpack.sources.catalog import Catalog


@dataclass(frozen=True)
class Work:
    """The samples to make, and what to make them of."""

    catalog: Catalog
    samples: np.ndarray  # (n,) int64, their indices, which name the files
    placements: Placements
    folder: Path

    def part(self, index: int, parts: int) -> Work:
        """Every ``parts``-th sample, from the one at ``index`` on."""
        return Work(
            self.catalog, self.samples[index::parts], self.placements[slice(index, None, parts)], self.folder
        )


class Sources:
    """The catalog as Pillow images."""

    def __init__(self, catalog: Catalog) -> None:
        self.backgrounds = [Image.fromarray(picture) for picture in catalog.background]
        self.patches = []
        for patch, (height, width) in zip(catalog.foreground, catalog.foreground_size, strict=True):
            cutout = Image.fromarray(np.ascontiguousarray(patch[:height, :width]))
            both = (cutout, cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
            self.patches.append([(side.convert("RGB"), side.getchannel("A")) for side in both])


def make(work: Work, sources: Sources) -> None:
    """The loop itself."""
    p = work.placements
    for i, sample in enumerate(work.samples):
        colour, alpha = sources.patches[p.foreground[i]][int(p.flip[i])]
        corner = (int(p.x[i]), int(p.y[i]))
        image = sources.backgrounds[p.background[i]].copy()
        image.paste(colour, corner, alpha)
        mask = Image.new("L", image.size)
        mask.paste(alpha, corner)
        image.save(work.folder / f"image-{sample:07d}.png")
        mask.save(work.folder / f"mask-{sample:07d}.png")


def seconds_in_one_process(work: Work) -> float:
    sources = Sources(work.catalog)
    start = time.perf_counter()
    make(work, sources)
    return time.perf_counter() - start


def seconds_in_processes(work: Work, processes: int) -> float:
    """The same, in several processes that are up and running before time is taken."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(processes)
    parts = [work.part(index, processes) for index in range(processes)]
    with ProcessPoolExecutor(processes, context, initializer=_meet_at, initargs=(together,)) as pool:
        return max(pool.map(_seconds, parts))


_together: Barrier | None = None


def _meet_at(together: Barrier) -> None:
    global _together
    _together = together


def _seconds(work: Work) -> float:
    """Prepare, wait until all processes have, then make; return how long that took."""
    sources = Sources(work.catalog)
    if _together is None:
        raise RuntimeError("this runs in a pool of processes only")
    _together.wait()
    start = time.perf_counter()
    make(work, sources)
    return time.perf_counter() - start


def png_bytes(folder: Path, kind: str) -> float:
    """The mean size of the ``image`` or ``mask`` files in ``folder``."""
    sizes = [path.stat().st_size for path in folder.glob(f"{kind}-*.png")]
    return sum(sizes) / len(sizes)

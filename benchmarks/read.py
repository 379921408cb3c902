"""How fast samples of one dataset are read: what ``bench.py`` measures in its part ``read``.

Everything runs in one process, on one dataset, whose files are in the page cache: what is measured is what
reading costs, not the disk. What is compared takes turns, and the best of each counts, because whatever else
the machine does can only slow them down.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import zarr

from fgbgpack import Augment, Dataset, open_dataset

#: Reads on and on, and yields how many samples each step gave.
Work: TypeAlias = Generator[int, None, None]

BATCH = 64
PIXELS = ("image", "mask")
ALL = (*PIXELS, "depth")


def rate(work: Work, seconds: float) -> float:
    """Samples a second, once it is under way."""
    next(work)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds / 2:
        next(work)
    samples, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        samples += next(work)
    return samples / passed


def by_turns(works: dict[str, Callable[[], Work]], seconds: float, rounds: int) -> dict[str, float]:
    """The best rate of each."""
    best = dict.fromkeys(works, 0.0)
    for _ in range(rounds):
        for name, begin in works.items():
            work = begin()
            best[name] = max(best[name], rate(work, seconds))
            work.close()
    return best


class Reads:
    """The ways to read a dataset."""

    def __init__(self, path: str) -> None:
        self.stored = open_dataset(path, pixels="stored")
        #: As it comes by default: from whatever is cheaper.
        self.recomposed = open_dataset(path)
        group: Any = zarr.open_group(path, mode="r")
        self.arrays: dict[str, Any] = {name: group[name] for name in ALL}
        self.order = np.random.default_rng(0).permutation(len(self.stored))
        self._check()

    def _check(self) -> None:
        """Whatever the way, samples are the same, or comparing their speed means nothing."""
        chosen = np.sort(self.order[:20])
        ours, anew = self.stored.read(chosen), self.recomposed.read(chosen)
        for name, array in self.arrays.items():
            expected = array.oindex[chosen]
            for batch in (ours, anew):
                if not np.array_equal(getattr(batch, name), expected, equal_nan=name == "depth"):
                    raise RuntimeError(f"{name} is not what zarr-python reads")

    def one_by_one(self, dataset: Dataset, fields: tuple[str, ...]) -> Work:
        for i in itertools.cycle(self.order.tolist()):
            dataset.read([i], fields)
            yield 1

    def one_by_one_by_zarr(self) -> Work:
        arrays = self.arrays.values()
        for i in itertools.cycle(self.order.tolist()):
            for array in arrays:
                array[i]
            yield 1

    def _random_chunks(self) -> Iterator[slice]:
        size = self.stored.image.chunks[0]
        chunks = np.random.default_rng(1).permutation(len(self.stored) // size)
        return (slice(c * size, (c + 1) * size) for c in itertools.cycle(chunks.tolist()))

    def whole_chunks(self, fields: tuple[str, ...]) -> Work:
        out: Any = None
        for samples in self._random_chunks():
            out = self.stored.read(samples, fields, out=out)
            yield len(out.y)

    def whole_chunks_by_zarr(self, fields: tuple[str, ...]) -> Work:
        arrays = [self.arrays[name] for name in fields]
        for samples in self._random_chunks():
            for array in arrays:
                array[samples]
            yield samples.stop - samples.start

    def epochs(self, fields: tuple[str, ...]) -> Work:
        for epoch in itertools.count():
            for batch in self.stored.batches(BATCH, fields=fields, shuffle=True, epoch=epoch, reuse=True):
                yield len(batch.y)

    def at_random(self, dataset: Dataset, fields: tuple[str, ...], threads: int) -> Work:
        """Batches of samples from anywhere."""
        out: Any = None
        starts = range(0, len(self.order) - BATCH + 1, BATCH)
        for start in itertools.cycle(starts):
            out = dataset.read(self.order[start : start + BATCH], fields, out=out, threads=threads)
            yield BATCH

    def loader(
        self, dataset: Dataset, fields: tuple[str, ...], workers: int, augment: Augment | None = None
    ) -> Work:
        from fgbgpack.torch import make_loader

        loader = make_loader(dataset, BATCH, workers=workers, fields=fields, augment=augment)
        while True:
            for batch in loader:
                yield len(batch["index"])


def measure(path: str, *, quick: bool) -> dict[str, dict[str, float]]:
    """Samples a second of each way to read the dataset, in groups that are compared with one another."""
    reads = Reads(path)
    stored, recomposed = reads.stored, reads.recomposed
    seconds, rounds = (0.3, 1) if quick else (0.8, 3)
    groups: dict[str, dict[str, Callable[[], Work]]] = {
        "single": {
            "stored": lambda: reads.one_by_one(stored, ALL),
            "zarr-python": reads.one_by_one_by_zarr,
            "recomposed": lambda: reads.one_by_one(recomposed, PIXELS),
            "all three by default": lambda: reads.one_by_one(recomposed, ALL),
        },
        "chunks, image + mask": {
            "stored": lambda: reads.whole_chunks(PIXELS),
            "zarr-python": lambda: reads.whole_chunks_by_zarr(PIXELS),
        },
        "chunks, all three": {
            "stored": lambda: reads.whole_chunks(ALL),
            "zarr-python": lambda: reads.whole_chunks_by_zarr(ALL),
        },
        "epoch": {
            "image + mask": lambda: reads.epochs(PIXELS),
            "all three": lambda: reads.epochs(ALL),
        },
        "random batches": {
            "recomposed, one core": lambda: reads.at_random(recomposed, PIXELS, 1),
            "all three by default, one core": lambda: reads.at_random(recomposed, ALL, 1),
        },
    }
    if find_spec("torch") is not None:
        groups["loader"] = {
            f"{name}, {workers} workers": lambda d=dataset, f=fields, w=workers: reads.loader(d, f, w)
            for name, dataset, fields in (
                ("image + mask", stored, PIXELS),
                ("all three", stored, ALL),
                ("image + mask recomposed", recomposed, PIXELS),
                ("all three by default", recomposed, ALL),
            )
            for workers in (0, 2)
        }
        # Everything is on, and no sample stays sharp.
        augment = Augment(blur_probability=1)
        groups["loader"] |= {
            f"image + mask recomposed and augmented, {w} workers": lambda w=w: reads.loader(
                recomposed, PIXELS, w, augment
            )
            for w in (0, 2)
        }
    return {name: by_turns(works, seconds, rounds) for name, works in groups.items()}

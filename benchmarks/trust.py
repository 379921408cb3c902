"""What it costs that nothing is silently wrong: what ``bench.py`` measures in its part ``trust``.

Opening checks the document, the metadata of arrays and the manifest; verifying reads everything and compares
it with the recipe; statistics are of every pixel. Everything runs in one process on one dataset, whose files
are in the page cache, and takes turns with what it is compared with.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import zarr

from fgbgpack import open_dataset
from fgbgpack.pipeline import verify

BATCH = 256


def measure(path: str, *, quick: bool) -> dict[str, dict[str, float]]:
    """Milliseconds to open a dataset, samples a second to read and to verify all of it, and the part of its
    bytes that the manifest has.
    """
    dataset = open_dataset(path, pixels="stored")

    def read() -> None:
        for _ in dataset.batches(BATCH, reuse=True):
            pass

    def check() -> None:
        if not verify(path).sound:
            raise RuntimeError(f"{path} is not sound")

    def open_with_zarr() -> None:
        group: Any = zarr.open_group(path, mode="r")
        for name in dataset.fields:
            group[name]

    composed = open_dataset(path, pixels="recomposed")
    opening = _turns({"fgbgpack": lambda: open_dataset(path), "zarr-python": open_with_zarr}, 40)
    whole = _turns(
        {
            "read": read,
            "verify": check,
            "stats": lambda: dataset.stats(),
            "stats recomposed": lambda: composed.stats(),
        },
        3 if quick else 9,
    )
    samples, stored = len(dataset), dataset.stored_bytes()
    return {
        "open": {name: 1000 * min(seconds) for name, seconds in opening.items()},
        "whole": {
            **{name: samples / min(seconds) for name, seconds in whole.items()},
            # Of each turn, as the machine may have less time for one turn than for another.
            "ratio": statistics.median(a / b for a, b in zip(whole["read"], whole["verify"], strict=True)),
        },
        "manifest": {"bytes": stored["manifest"], "share": stored["manifest"] / sum(stored.values())},
    }


def _turns(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each turn; the first, in which kernels are loaded, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds

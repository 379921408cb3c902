"""What reads and writes one dataset at once, each in a process of its own until its time is over.

Each function sends one tuple at the end: a Counter of how its attempts ended, and a list of what must not be.
"""

from __future__ import annotations

import pickle
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from fgbgpack import Batch, DatasetSpec, create, fill_depth, open_dataset
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import FgbgError
from fgbgpack.pipeline import convert
from fgbgpack.spec import DepthSpec
from fgbgpack.storage.layout import LayoutPolicy

Arrays = Mapping[str, np.ndarray]

#: How reading may fail: the dataset is another one than was opened.
REPLACED = {"chunk-foreign", "chunk-missing", "dataset-replaced", "manifest-foreign", "metadata-foreign"}
#: How writing may fail: another one writes, or the dataset is not the one that was to be changed.
CONFLICTS = {"dataset-locked", *REPLACED}

#: After its time, one that has had no success gives up in so many seconds.
LONGEST = 120.0


class Attempts:
    """Counts how attempts end, until the time is over and a few were successful."""

    def __init__(self, seconds: float, least: int) -> None:
        self._end, self._left = time.monotonic() + seconds, least
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []

    def __iter__(self) -> Iterator[int]:
        for number in count():
            beyond = time.monotonic() - self._end
            if beyond > 0 and self._left <= 0:
                return
            if beyond > LONGEST:
                self.wrong.append(f"{self._left} attempts more should have been successful")
                return
            yield number

    def attempt(self, action: Callable[[], Any], success: str, codes: set[str]) -> bool:
        """Count how an action ends: in success, or an error of ours with one of some codes."""
        try:
            action()
        except FgbgError as exc:
            self.ends[exc.code] += 1
            if exc.code not in codes:
                self.wrong.append(f"{exc.code}: {exc}")
            return False
        except Exception as exc:
            self.ends["FOREIGN"] += 1
            self.wrong.append(f"{type(exc).__name__}: {exc}")
            return False
        self.ends[success] += 1
        self._left -= 1
        return True

    def send(self, sender) -> None:
        sender.send((self.ends, self.wrong[:5]))


# --- readers ---------------------------------------------------------------------------------------


class Wholes:
    """The whole datasets that there may be, by their names, and which of them batches can be of."""

    def __init__(self, wholes: Mapping[str, Arrays]) -> None:
        self._wholes = wholes

    def of(self, batch: Batch, samples: Any) -> set[str]:
        """The datasets that have all arrays of a batch, sample by sample."""
        return {
            name
            for name, whole in self._wholes.items()
            if all(
                np.array_equal(array, whole[field][samples], equal_nan=array.dtype.kind == "f")
                for field, array in batch.arrays.items()
            )
        }


def read_batches(sender, path: Path, wholes_file: Path, seconds: float, seed: int) -> None:
    """Open a dataset again and again, and read batches until there is an error: each must be of one of the
    datasets that there may be, and all that are read of one open dataset of the same one.
    """
    wholes, rng = Wholes(pickle.loads(wholes_file.read_bytes())), random.Random(seed)
    attempts = Attempts(seconds, 60)
    for _ in attempts:
        opened: list[Dataset] = []
        pixels = rng.choice(["auto", "auto", "recomposed"])

        def open_it(opened: list[Dataset] = opened, pixels: str = pixels) -> None:
            opened.append(open_dataset(path, pixels=pixels))

        if not attempts.attempt(open_it, "opened", REPLACED):
            continue
        ds, possible = opened[0], None
        for _ in range(rng.choice([1, 5, 50])):
            batches: list[tuple[Any, Batch]] = []
            if not attempts.attempt(lambda d=ds, b=batches: b.extend(_read(d, rng)), "reads", REPLACED):
                break
            for samples, batch in batches:
                found = wholes.of(batch, samples)
                possible = found if possible is None else possible & found
                if not found:
                    attempts.wrong.append(f"samples {samples} are of no whole dataset")
                elif not possible:
                    attempts.wrong.append(f"samples {samples} are of another dataset than those before")
                attempts.ends["batches, whole" if possible else "BATCHES of several datasets"] += 1
            time.sleep(rng.choice([0, 0, 0, 0.01, 0.1]))
    attempts.send(sender)


def _read(ds: Dataset, rng: random.Random) -> Iterator[tuple[Any, Batch]]:
    n = len(ds)
    how = rng.randrange(4)
    if how == 0:
        samples = np.array([rng.randrange(n) for _ in range(8)])
        yield samples, ds.read(samples)
    elif how == 1:
        start = rng.randrange(n)
        yield slice(start, start + 9), ds[start : start + 9]
    elif how == 2:
        order = np.array(rng.sample(range(n), n))
        for start, batch in zip(range(0, n, 10), ds.batches(10, indices=order), strict=True):
            yield order[start : start + 10], batch
    else:
        yield slice(None), Batch(ds.to_numpy())


# --- writers ---------------------------------------------------------------------------------------


def save_splits(sender, path: Path, seconds: float, seed: int) -> None:
    """Save splits under names of their own; the names of those that were saved are sent at the end, too."""
    rng, attempts, saved = random.Random(seed), Attempts(seconds, 5), []
    for number in attempts:
        name = f"{seed}-{number % 20}"

        def save(name: str = name) -> None:
            open_dataset(path).save_split(name, {"train": 0.5, "test": 0.5})

        if attempts.attempt(save, "saved", CONFLICTS):
            saved.append(name)
        time.sleep(rng.choice([0, 0.01, 0.05]))
    attempts.send(sender)
    sender.send(saved)


def replace_depths(sender, path: Path, depths: list[DepthSpec], layout: LayoutPolicy, seconds: float) -> None:
    """Fill depth with one network after the other, in place of that of the one before."""
    attempts = Attempts(seconds, 2)
    for number in attempts:
        depth = depths[number % len(depths)]
        attempts.attempt(
            lambda depth=depth: fill_depth(path, depth, overwrite=True, workers=1, layout=layout),
            "replaced",
            CONFLICTS,
        )
        time.sleep(0.02)
    attempts.send(sender)


def replace_all(sender, path: Path, specs: list[DatasetSpec], layout: LayoutPolicy, seconds: float) -> None:
    """Make one dataset after the other in the place of the one before."""
    attempts = Attempts(seconds, 2)
    for number in attempts:
        spec = specs[number % len(specs)]
        attempts.attempt(
            lambda spec=spec: create(path, spec, overwrite=True, workers=1, layout=layout),
            "replaced",
            CONFLICTS,
        )
        time.sleep(0.02)
    attempts.send(sender)


def replace_file(sender, path: Path, sources: list[Path], seconds: float) -> None:
    """Convert one dataset after the other to a file in the place of the one before."""
    attempts = Attempts(seconds, 2)
    for number in attempts:
        source = sources[number % len(sources)]
        attempts.attempt(lambda source=source: convert(source, path, overwrite=True), "replaced", CONFLICTS)
        time.sleep(0.02)
    attempts.send(sender)

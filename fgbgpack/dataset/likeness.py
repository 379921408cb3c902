"""Which sources and samples of a dataset are the same, within it and between the parts of a split."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.stats import Shared
from fgbgpack.document import OBJECT_ARRAYS, OBJECTS

if TYPE_CHECKING:
    from fgbgpack.dataset.dataset import Dataset

#: Samples that are compared with each other, at most.
_COMPARED = 4_000_000
#: Arrays of objects that samples are not compared by: foregrounds are compared by content, the others follow.
_DERIVED = ("foreground", "category", "visible", "box")


class Likeness:
    """What is the same in a dataset, by the digests of the sources' files and by what samples are made of.

    Nothing is known of imported samples. ``label`` is the number of the part that each sample is in, (n,),
    ``sources`` how many samples of each part have each background, and how many objects each foreground.
    """

    def __init__(
        self, dataset: Dataset, label: NDArray[np.integer], sources: tuple[NDArray[np.int64], ...]
    ) -> None:
        self._dataset, self._label, self._used = dataset, label, sources

    @cached_property
    def _identities(self) -> tuple[NDArray[np.int64], ...]:
        """The number of each background, and of each foreground: the same for files with the same content."""
        sources = self._dataset.document.sources
        if sources is None:
            return ()
        digests = [
            [f"{source.sha256} {source.mask_sha256}" for source in kind]
            for kind in (sources.backgrounds, sources.foregrounds)
        ]
        return tuple(np.unique(kind, return_inverse=True)[1].reshape(-1) for kind in digests)

    def copies(self) -> list[int | None]:
        """How many backgrounds, and how many foregrounds, are the same as others."""
        if not self._identities:
            return [None, None]
        return [len(kind) - len(np.unique(kind)) for kind in self._identities]

    def used(self, *parts: int) -> list[int | None]:
        """How many different backgrounds, and foregrounds, samples of some parts have."""
        if not self._identities:
            return [None, None]
        return [int(self._there(kind, parts).sum()) for kind in range(2)]

    def _there(self, kind: int, parts: tuple[int, ...]) -> NDArray[np.bool_]:
        """Which sources of a kind, by their identities, samples of some parts have."""
        identity, there = self._identities[kind], self._used[kind][list(parts)].any(axis=0)
        found = np.zeros(int(identity.max()) + 1, np.bool_)
        found[identity[there]] = True
        return found

    @cached_property
    def _samples(self) -> NDArray[np.int64] | None:
        """(n,) a number of each sample: the same for those that are; ``None`` where that is not known."""
        dataset = self._dataset
        if not self._identities or len(dataset) > _COMPARED:
            return None
        arrays = dataset.sample_arrays
        backgrounds, foregrounds = self._identities
        columns = [backgrounds[arrays["background"]]]
        if dataset.has_objects:
            foreground = arrays[f"{OBJECTS}/foreground"]
            columns.append(np.where(foreground < 0, -1, foregrounds[foreground]))
            derived = {f"{OBJECTS}/{name}" for name in _DERIVED}
            columns += [arrays[path] for path in OBJECT_ARRAYS if path not in derived]
        else:
            columns.append(foregrounds[arrays["foreground"]])
            columns += [arrays[name] for name in ("flip", "y", "x")]
        rows = [column.reshape(len(dataset), -1).astype(np.int32) for column in columns]
        table = np.ascontiguousarray(np.concatenate(rows, axis=1))
        keys = table.view(np.dtype((np.void, table.itemsize * table.shape[1]))).reshape(-1)
        return np.asarray(np.unique(keys, return_inverse=True)[1].reshape(-1))

    @property
    def same_samples(self) -> int | None:
        """How many samples are the same as one before; ``None`` where that is not known."""
        return None if self._samples is None else len(self._samples) - len(np.unique(self._samples))

    def between(self, first: int, second: int, names: tuple[str, str]) -> Shared:
        """What two parts have in common."""
        if not self._identities:
            return Shared(names, None, None, None, None)
        shared = [self._there(kind, (first,)) & self._there(kind, (second,)) for kind in range(2)]
        is_shared = shared[0][self._identities[0]]
        samples = self._samples
        same = None
        if samples is not None:
            here, there = samples[self._label == first], samples[self._label == second]
            same = int(np.isin(there, here).sum())
        return Shared(
            parts=names,
            backgrounds=int(shared[0].sum()),
            foregrounds=int(shared[1].sum()),
            background_samples=int(self._used[0][second][is_shared].sum()),
            samples=same,
        )

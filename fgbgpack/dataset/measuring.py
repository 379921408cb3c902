"""Statistics of a dataset, measured in one pass over its samples.

Pixels that are not stored are composed of the recipe, and nothing is decoded for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.batch import BufferPool, shapes
from fgbgpack.dataset.counting import Counting
from fgbgpack.dataset.likeness import Likeness
from fgbgpack.dataset.stats import Stats
from fgbgpack.document import DEPTH, IMAGE, MASK
from fgbgpack.errors import IncompleteDatasetError
from fgbgpack.storage.reading.threads import helpers, usable_cores

if TYPE_CHECKING:
    from fgbgpack.dataset.dataset import Dataset

#: Called with how many samples were counted, and of how many.
OnSamples = Callable[[int, int], None]

#: Read by one thread at a time, or one chunk if that has more: some chunks, as each call costs something too.
_READ_BYTES = 24 << 20
#: How often that is read until it is said how far it is, and asked for together in a store far away.
_TOGETHER = 16


def measure(
    dataset: Dataset,
    split: Mapping[str, Any] | None,
    parts: Mapping[str, NDArray[np.int64]],
    on_samples: OnSamples | None,
) -> Stats:
    """The statistics of all samples that are there, and of the ``parts`` of a split; see
    :meth:`fgbgpack.Dataset.stats`.
    """
    names = list(parts)
    label = np.full(len(dataset), len(names), np.int32)
    for number, name in enumerate(names):
        label[parts[name]] = number
    is_there = dataset.samples_there()
    total = len(dataset) if is_there is None else int(is_there.sum())
    if not total:
        raise IncompleteDatasetError(
            f"{dataset.path} is not complete, and has no sample yet that statistics could be of: run the "
            "command that makes it again to finish it."
        )

    def on_counted(done: int) -> None:
        if on_samples is not None:
            on_samples(done, total)

    counting = _counted(dataset, label, len(names) + 1, is_there, on_counted)
    likeness = Likeness(dataset, label, counting.sources)
    everything = range(len(names) + 1)
    # Where samples are dealt out by both of their sources, or are not all there, a part may have none.
    there = {name: number for number, name in enumerate(names) if counting.samples[number]}
    copies = likeness.copies()
    return Stats(
        generation=dataset.document.generation,
        total=len(dataset),
        height=dataset.height,
        width=dataset.width,
        whole=counting.part(*everything, sources=likeness.used(*everything)),
        places=counting.places(),
        counts=counting.counts(),
        sizes=counting.sizes(),
        same_backgrounds=copies[0],
        same_foregrounds=copies[1],
        same_samples=likeness.same_samples,
        split=split,
        parts={name: counting.part(part, sources=likeness.used(part)) for name, part in there.items()},
        shared=tuple(
            likeness.between(there[one], there[other], (one, other)) for one, other in permutations(there, 2)
        ),
    )


def _counted(
    dataset: Dataset,
    label: NDArray[np.int32],
    parts: int,
    is_there: NDArray[np.bool_] | None,
    on_counted: Callable[[int], None],
) -> Counting:
    """All samples that are there, counted on threads, each of which reads a chunk at a time."""
    fields = (IMAGE, MASK, *((DEPTH,) if dataset.has_depth else ()))
    chunk = 1 if dataset.composes(fields) else dataset.image.chunks[0]
    size = chunk * max(1, _READ_BYTES // (chunk * dataset.sample_bytes))
    counting = Counting(dataset, parts)
    own, others = threading.local(), list[Counting]()
    buffers = BufferPool(shapes(size, dataset.document), (*fields, *dataset.placed))

    def count(samples: NDArray[np.int64]) -> None:
        if not hasattr(own, "counting"):
            own.counting, own.arrays = Counting(dataset, parts), buffers.arrays()
            others.append(own.counting)
        out = {name: array[: len(samples)] for name, array in own.arrays.items()}
        batch = dataset.read(samples, fields, out=out, threads=1)
        own.counting.add(batch, label[samples].astype(np.int64))

    stream, done = object(), 0
    dataset.prepare_samples()
    on_counted(done)
    for start in range(0, len(dataset), size * _TOGETHER):
        some = [
            samples if is_there is None else samples[is_there[samples]]
            for samples in _runs(start, min(start + size * _TOGETHER, len(dataset)), size)
        ]
        if dataset.reads_ahead:
            stop = min(start + 2 * size * _TOGETHER, len(dataset))
            dataset.read_ahead(stream, np.arange(start, stop), fields)
        helpers.run([samples for samples in some if len(samples)], count, usable_cores())
        done += sum(map(len, some))
        on_counted(done)
    for other in others:
        counting.join(other)
    return counting


def _runs(start: int, stop: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Numbers one after the other, so many at a time."""
    return (np.arange(first, min(first + size, stop)) for first in range(start, stop, size))

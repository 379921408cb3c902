"""What a few files of an import show before the work: bytes, seconds, and what cannot be used."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from fgbgpack.document import DEPTH, IMAGE, INSTANCE, MASK
from fgbgpack.errors import SourceError
from fgbgpack.pipeline.executor import Threads
from fgbgpack.sources.pairing import SINGULAR, Kind
from fgbgpack.sources.problems import CountedProblems
from fgbgpack.storage.arrays import DEPTH_CODEC, PIXEL_CODEC

if TYPE_CHECKING:
    from fgbgpack.pipeline.import_scan import ImportScan

#: Samples in a chunk where neighbours look alike, and where they do not. Sorted composites of one background
#: take a tenth of the bytes of each alone when 40 are compressed together (those that went through JPEG, a
#: third); pictures that share nothing gain a few percent, and a random one is read faster from a few.
_SIMILAR_SAMPLES, _OTHER_SAMPLES = 40, 8
#: Neighbours look alike where a few together take less than this part of what they take each alone.
_SIMILAR = 0.75
_CHUNK_BYTES = 32 << 20  # largest chunk of pictures in memory, for each thread
_PROBED_RUNS, _PROBED_DEPTHS, _MEASURED_RUNS = 3, 100, 200
#: Decoding stops after so many problems: to find all would take as long as the import.
_MOST_PROBLEMS = 200


class Failures:
    """Files that cannot be used, found while they are decoded, and the shards of pixels, and of depth, that
    were not written because of them. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.problems = CountedProblems()
        self.shards: dict[str, set[int]] = {IMAGE: set(), DEPTH: set()}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]  # the lock is this process's own
        self.__dict__ |= state

    def add(self, kind: Kind, error: SourceError) -> None:
        """Adds a file."""
        self.problems.add_error(f"{SINGULAR[kind]}s that cannot be used", error)

    def take(self, other: Failures, array: str, shard: int) -> None:
        """Adds those of one shard, which is then not written."""
        with self._lock:
            self.problems.update(other.problems)
            self.shards[array].add(shard)

    @property
    def is_enough(self) -> bool:
        """Whether there are so many that no more are looked for."""
        return len(self.problems) >= _MOST_PROBLEMS


class Probe:
    """What decoding and encoding some samples from the beginning, the middle and the end shows: how many are
    worth compressing together, and estimated bytes of each array.
    """

    def __init__(self, files: ImportScan, problems: CountedProblems) -> None:
        extent, encode = files.extent, PIXEL_CODEC.encode
        most = max(1, _CHUNK_BYTES // (extent.height * extent.width * 3))
        many = min(files.spec.chunk or min(_SIMILAR_SAMPLES, most), extent.samples)
        few = min(_OTHER_SAMPLES, many)
        firsts = np.unique(np.linspace(0, extent.samples - many, _PROBED_RUNS).astype(int)).tolist()
        image = np.zeros((many, extent.height, extent.width, 3), np.uint8)
        mask = np.zeros(image.shape[:3], np.uint8)
        depth = np.zeros(mask.shape, np.float16)
        instance = np.zeros(mask.shape, np.uint8)
        planes = files.planes_into(image, mask, instance)
        stored = dict.fromkeys((IMAGE, MASK, INSTANCE, DEPTH), 0)
        few_together = alone = 0
        failures = Failures()
        for first in firsts:
            run = range(first, first + many)
            files.fill(run, planes, failures)
            stored[IMAGE] += len(encode(image))
            stored[MASK] += len(encode(mask))
            if files.objects is not None:
                stored[INSTANCE] += len(encode(instance))
            if files.has_depth:
                files.fill(run, {"depths": depth}, failures)
                stored[DEPTH] += len(DEPTH_CODEC.encode(depth))
            few_together += sum(len(encode(image[i : i + few])) for i in range(0, many, few))
            alone += sum(len(encode(one)) for one in image)
        if files.has_depth:
            # Values that cannot be stored are found before the work: it would end with them.
            spread = np.unique(np.linspace(0, extent.samples - 1, _PROBED_DEPTHS).astype(int)).tolist()
            for sample in spread:
                if not any(first <= sample < first + many for first in firsts):
                    files.fill(range(sample, sample + 1), {"depths": depth}, failures)
        problems.update(failures.problems)
        are_similar = few_together < _SIMILAR * alone
        self.chunk = many if files.spec.chunk or are_similar else few
        if self.chunk == few:
            stored[IMAGE] = few_together
        scale = extent.samples / (many * len(firsts))
        self.bytes = {array: round(size * scale) for array, size in stored.items() if size}

    def seconds(self, files: ImportScan, threads: Threads) -> float:
        """What decoding and encoding all samples would take, from about a second's work on all threads."""
        extent, failures = files.extent, Failures()
        many = min(self.chunk, extent.samples)

        def work(run: range) -> None:
            image = np.zeros((len(run), extent.height, extent.width, 3), np.uint8)
            mask = np.zeros(image.shape[:3], np.uint8)
            instance = np.zeros(mask.shape, np.uint8)
            files.fill(run, files.planes_into(image, mask, instance), failures)
            PIXEL_CODEC.encode(image)
            PIXEL_CODEC.encode(mask)
            if files.objects is not None:
                PIXEL_CODEC.encode(instance)
            if files.has_depth:
                depth = np.zeros(mask.shape, np.float16)
                files.fill(run, {"depths": depth}, failures)
                DEPTH_CODEC.encode(depth)

        spread = np.linspace(0, extent.samples - many, min(_MEASURED_RUNS, -(-extent.samples // many)))
        runs = [range(first, first + many) for first in spread.astype(int).tolist()]
        done, seconds = threads.measure(work, runs)
        return seconds * extent.samples / done

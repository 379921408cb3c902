"""What every target of an export is given, and what it has to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.batch import Batch
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.export.pictures import DepthScale
from fgbgpack.storage.store import DEPTH_MAX, DEPTH_MIN, PLACEMENTS

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What only some targets take; ``None`` leaves it to the target.

    Attributes:
        depth_bits: Bits of each pixel of depth pictures, 8 or 16.
        shard_bytes: About how many bytes a file of many samples may have.
        shard_samples: How many samples it may have at most.
        compression: How such files are compressed: ``"none"``, ``"zstd"`` or ``"zstd:<level>"``.
        category: What the foregrounds are.
    """

    depth_bits: int | None = None
    shard_bytes: int | None = None
    shard_samples: int | None = None
    compression: str | None = None
    category: str | None = None


@dataclass(frozen=True)
class Part:
    """Samples that belong together: those of a part of a split, or all that are exported.

    Attributes:
        name: What the split calls it; empty where there is no split.
        folder: The same as the name of a folder or the start of a file's name, safe on any file system and
            different for each part; empty where there is no split.
        samples: (n,) int64, ascending.
    """

    name: str
    folder: str
    samples: NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """Some samples of a part, one after the other as they are in ``part.samples``.

    Attributes:
        part: The part.
        start: The place of the first of them in ``part.samples``.
        samples: (n,) int64, their numbers in the dataset.
        batch: Their arrays: of image, mask and depth those that are exported, and the placements if there
            are any.
    """

    part: Part
    start: int
    samples: NDArray[np.int64]
    batch: Batch


@dataclass(frozen=True)
class Work:
    """What is exported, and where to.

    Attributes:
        dataset: The dataset, open and complete.
        fields: Which of ``"image"``, ``"mask"`` and ``"depth"``, in this order.
        parts: All parts, in order.
        folder: Where the target writes: it is there and empty, and gets its final name once all is written.
        options: What the target was asked for.
    """

    dataset: Dataset
    fields: tuple[str, ...]
    parts: Sequence[Part]
    folder: Path
    options: Options

    def depth_scale(self, bits: int) -> DepthScale:
        """How depth becomes whole numbers: one mapping for all samples that are exported."""
        chosen = np.concatenate([part.samples for part in self.parts])
        low, high = (self.dataset.whole(name)[chosen] for name in (DEPTH_MIN, DEPTH_MAX))
        # Networks tell the depth of every pixel; files that were imported need not.
        return DepthScale.of(low, high, bits, unknown=self.dataset.document["depth"]["mode"] == "imported")

    def records(self, run: Run) -> list[dict[str, Any]]:
        """What is known of each sample of a run, as JSON: its number, and its placement with the sources'
        file names, or the name it was imported under.
        """
        records: list[dict[str, Any]] = [{"sample": sample} for sample in run.samples.tolist()]
        if self.source_names is None:
            for record, name in zip(records, self._names(run.samples), strict=True):
                record["name"] = name
            return records
        columns = {name: run.batch.arrays[name].tolist() for name in PLACEMENTS}
        for kind, names in self.source_names.items():
            columns[kind] = [names[i] for i in columns[kind]]
        for i, record in enumerate(records):
            record |= {name: column[i] for name, column in columns.items()}
        return records

    @cached_property
    def source_names(self) -> dict[str, list[str]] | None:
        """The file names of all backgrounds and foregrounds, by ``"background"`` and ``"foreground"``;
        ``None`` for a dataset without recipe.
        """
        sources = self.dataset.document.get("sources")
        if sources is None:
            return None
        return {kind: [source["name"] for source in sources[f"{kind}s"]] for kind in PLACEMENTS[:2]}

    def _names(self, samples: NDArray[np.int64]) -> list[str]:
        names = self.dataset.names or []
        return [names[i] for i in samples.tolist()]


class Target(ABC, Generic[T]):
    """A form to export to. One object writes one export, all of it below ``work.folder``.

    For each part ``begin``, then for each of its runs ``encode`` and ``write``, then ``end``; after the last
    part ``finish``. ``encode`` runs on several threads at a time, in any order, and must give the same for a
    run whoever runs it; all else is called from one thread, ``write`` in the order of the samples. Where runs
    end depends on nothing but the samples, but files must not: cut them by samples and bytes.

    Attributes:
        TO: What it is called.
        OPTIONS: The fields of :class:`Options` that it takes.
        work: What is exported, and where to.

    Args:
        work: The same.

    Raises:
        SpecError: The options or fields are not for this target.
    """

    TO: ClassVar[str]
    OPTIONS: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, work: Work) -> None:
        self.work = work

    def begin(self, part: Part) -> None:
        """Make ready for the samples of a part."""

    @abstractmethod
    def encode(self, run: Run) -> T:
        """The bytes of some samples, or whatever else takes time to make; may write files of these alone."""

    @abstractmethod
    def write(self, run: Run, encoded: T) -> None:
        """Add what was made of a run."""

    def end(self, part: Part) -> None:
        """Finish the files of a part."""

    def finish(self) -> dict[str, Any]:
        """Finish all files.

        Returns:
            What ``fgbgpack.json`` is to say of this target beyond what it says of any, as JSON; under
            ``"depth"`` how depth became whole numbers, if it did.
        """
        return {}

    def close(self) -> None:
        """Let go of open files: called at the end in any case, also after an error."""

    @abstractmethod
    def how_to_open(self, out: str) -> list[str]:
        """Lines of Python that open what is at ``out`` with the tool it is meant for."""

"""The depth of several datasets, as that of the one which they are merged into."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.document import DEPTH, EXTREMES, DeviceInfo, NetworkDepthInfo
from fgbgpack.errors import DatasetError, RecipeMismatchError
from fgbgpack.pipeline.conflicts import is_fed_differently
from fgbgpack.pipeline.depth import DepthFilling, DepthStage, bands, encoded_extremes
from fgbgpack.pipeline.devices import makers_of, with_makers
from fgbgpack.pipeline.events import StageName
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.pipeline.stage import LayoutStage, Product
from fgbgpack.pipeline.union import Union
from fgbgpack.storage.arrays import BACKGROUND_DEPTH_CODEC, DEPTH_CODEC, PIXEL_CODEC
from fgbgpack.storage.codecs import ChunkCodec, recode
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.reading import ArrayReader
from fgbgpack.storage.store import DatasetStore


class Chunks:
    """The encoded chunks of one array of all datasets, as a codec encodes them. It can be pickled."""

    def __init__(self, union: Union, path: str, codec: ChunkCodec) -> None:
        self._union, self._path, self._codec = union, path, codec
        self.readers: list[ArrayReader | None] = [
            None if path in dataset.document.composed else dataset.store.reader(path)
            for dataset in union.datasets
        ]

    def of(self, run: range, layout: Layout) -> list[bytes] | None:
        """Those of a chunk's worth of samples, band by band; ``None`` where no dataset has them as such."""
        owner, local = self._union.located(run)
        first = int(local[0])
        if (owner != owner[0]).any() or (np.diff(local) != 1).any():
            return None
        return self.copied(int(owner[0]), first, len(run), layout)

    def copied(self, number: int, first: int, count: int, layout: Layout) -> list[bytes] | None:
        """Those of ``count`` rows of a dataset from a number on, if they are just a chunk there."""
        reader = self.readers[number]
        if reader is None or reader.layout.chunk != layout.chunk:
            return None
        cut = reader.layout
        if first % cut.chunk[0] or min(cut.chunk[0], cut.shape[0] - first) != count:
            return None
        shard, within = divmod(first, cut.shard[0])
        per_row = math.prod(cut.grid[1:])
        inner = within // cut.chunk[0] * per_row
        places = [(shard, inner + band) for band in range(per_row)]
        size = math.prod(cut.chunk) * reader.dtype.itemsize
        store = self._union.datasets[number].store
        where = partial(str, f"A chunk of shard {store.name}/{self._path}/{cut.key(shard)}")
        chunks = []
        for encoded in reader.encoded(places):
            if encoded is None:
                raise DatasetError(f"{where()} is missing.", code="chunk-missing")
            chunks.append(recode(encoded, reader.codec, self._codec, size, where))
        return chunks

    def read(self, run: range, out: NDArray[np.float16]) -> None:
        """Decode the rows of some samples."""
        owner, local = self._union.located(run)
        for number in np.unique(owner).tolist():
            reader, ours = self.readers[number], owner == number
            if reader is not None:
                out[ours] = reader.read(local[ours], threads=1)


@dataclass(frozen=True)
class DepthOfUnion:
    """The depth of several datasets that have that of the same networks and options.

    The step of its grid follows from the range of a dataset's depth, so it may differ. That of the union is
    the largest, as its range is. Depth of another step is inferred again: rounding what is rounded already is
    not the same.
    """

    union: Union
    sections: tuple[NetworkDepthInfo, ...]

    @classmethod
    def of(cls, union: Union) -> DepthOfUnion | None:
        """That of a union; ``None`` where none of the datasets has depth. RecipeMismatchError if they have
        other depth.
        """
        found = [(dataset, dataset.document.depth) for dataset in union.datasets]
        if all(depth is None for _, depth in found):
            return None
        (first, depth), lines = found[0], []
        for dataset, other in found[1:]:
            lines += [
                f"{what}: {first.path} has {one}, {dataset.path} has {two}"
                for what, one, two in _compared(depth, other)
                if one != two
            ]
        sections = tuple(one for _, one in found if isinstance(one, NetworkDepthInfo))
        if lines or len(sections) < len(found):
            raise RecipeMismatchError(
                "The depth of these datasets cannot be merged: --without-depth leaves it out, and fgbgpack "
                "depth then fills it.",
                lines or ["depth: it was imported from files"],
                code="merge-depth-differs",
            )
        return cls(union, sections)

    @property
    def step(self) -> float:
        """The step of the union."""
        return max(section.step or 0.0 for section in self.sections)

    @property
    def stale(self) -> frozenset[int]:
        """The datasets, by their numbers, whose depth has another step."""
        return frozenset(i for i, section in enumerate(self.sections) if section.step != self.step)

    def section(self, maker: DeviceInfo | None = None) -> NetworkDepthInfo:
        """What the document says of it, where ``maker`` has inferred again what has another step."""
        first = self.sections[0]
        makers = [
            (maker,) if maker is not None and number in self.stale else makers_of(section)
            for number, section in enumerate(self.sections)
        ]
        devices = _devices(self.union, makers)
        if first.guide is None:
            return replace(first, step=self.step, devices=devices)
        of_backgrounds = _background_devices(self.union, [section.devices for section in self.sections])
        guide = replace(first.guide, devices=devices)
        return replace(first, step=self.step, guide=guide, devices=of_backgrounds)


def _compared(one: object, two: object) -> Iterator[tuple[str, object, object]]:
    if not (isinstance(one, NetworkDepthInfo) and isinstance(two, NetworkDepthInfo)):
        yield "depth", _kind(one), _kind(two)
        return
    for what in ("mode", "model_name", "sha256", "guide_name", "scale", "bits", "precision"):
        yield f"depth {what.removesuffix('_name')}", getattr(one, what), getattr(two, what)
    yield "depth guide's file", one.guide and one.guide.sha256, two.guide and two.guide.sha256
    if is_fed_differently(one.model or {}, two.model or {}):
        yield "depth model's card", "one", "another"
    if one.guide and two.guide and is_fed_differently(one.guide.model, two.guide.model):
        yield "depth guide's card", "one", "another"


def _kind(depth: object) -> str:
    return (
        "none" if depth is None else "that of networks" if isinstance(depth, NetworkDepthInfo) else "files'"
    )


def _devices(union: Union, devices: Sequence[tuple[DeviceInfo, ...]]) -> tuple[DeviceInfo, ...]:
    """The devices that have seen the samples of the union."""
    if all(len(one) <= 1 and one == devices[0] for one in devices):
        return devices[0]
    plan = union.recipe.plan

    def made() -> Iterator[tuple[DeviceInfo, range]]:
        per_background = plan.samples_per_background
        for start in range(0, plan.samples, per_background):
            samples = range(start, start + per_background)
            yield from _makers(samples, *union.located(samples), devices)

    return with_makers((devices[-1][-1],), made(), plan.samples)


def _background_devices(union: Union, devices: Sequence[tuple[DeviceInfo, ...]]) -> tuple[DeviceInfo, ...]:
    """The devices that have seen the backgrounds of the union."""
    if all(len(one) <= 1 and one == devices[0] for one in devices):
        return devices[0]
    homes = np.array(union.backgrounds.homes())
    made = _makers(range(len(homes)), homes[:, 0], homes[:, 1], devices)
    return with_makers((devices[-1][-1],), made, len(homes))


def _makers(
    numbers: range,
    owner: NDArray[np.signedinteger],
    local: NDArray[np.int64],
    devices: Sequence[tuple[DeviceInfo, ...]],
) -> Iterator[tuple[DeviceInfo, range]]:
    """Runs of samples, or backgrounds, with the device that made them: what no range has is of the last."""
    maker = np.empty((len(numbers), 2), np.int64)
    for k in np.unique(owner).tolist():
        ours = owner == k
        found = np.full(ours.sum(), len(devices[k]) - 1)
        for i, device in enumerate(devices[k][:-1]):
            for start, stop in device.ranges or ():
                found[(local[ours] >= start) & (local[ours] < stop)] = i
        maker[ours] = np.stack([np.full_like(found, k), found], axis=1)
    cuts = [0, *(np.flatnonzero((maker[1:] != maker[:-1]).any(axis=1)) + 1).tolist(), len(numbers)]
    for first, last in pairwise(cuts):
        k, i = maker[first].tolist()
        yield devices[k][i], range(numbers[first], numbers[last - 1] + 1)


class MergedBackgrounds(LayoutStage):
    """What depth is made of, of each background of the union, copied from the first dataset that has it."""

    name: ClassVar[StageName] = "backgrounds"

    def __init__(self, union: Union, path: str, layout: Layout) -> None:
        super().__init__({path: layout})
        self._path, self._layout, self._homes = path, layout, union.backgrounds.homes()
        self._chunks = Chunks(union, path, BACKGROUND_DEPTH_CODEC)

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """The shard with that number."""
        chunks: list[bytes] = []
        for background in self._layout.samples_of(shard):
            monitor.check()
            number, local = self._homes[background]
            copied = self._chunks.copied(number, local, 1, self._layout)
            if copied is None:
                reader = self._chunks.readers[number]
                copied = [] if reader is None else [BACKGROUND_DEPTH_CODEC.encode(reader.read([local])[0])]
            chunks += copied
            monitor.advance(1)
        return Product(self.joined(shard, {self._path: chunks}))


class MergedDepth(LayoutStage):
    """The depth of the samples of the union: copied where a chunk is just one of a dataset's, else encoded
    again.
    """

    name: ClassVar[StageName] = "depth"

    def __init__(self, union: Union, layout: Layout, *, guided: bool) -> None:
        super().__init__({DEPTH: layout})
        self._layout = layout
        self._codec = PIXEL_CODEC if guided else DEPTH_CODEC
        self._chunks = Chunks(union, DEPTH, self._codec)
        self._extremes = [Chunks(union, path, PIXEL_CODEC) for path in EXTREMES]

    def produce(self, shard: int, monitor: Monitor) -> Product:
        """The shard with that number; the extremes that belong to it come first."""
        samples, chunks = self._layout.samples_of(shard), []
        for run in self._layout.chunk_runs(shard):
            monitor.check()
            chunks += self.encoded(run)
            monitor.advance(len(run))
        extremes = np.full((2, self._layout.shard[0]), np.nan, np.float16)
        self.read_extremes(samples, extremes[:, : len(samples)])
        return Product(encoded_extremes(shard, extremes) | self.joined(shard, {DEPTH: chunks}))

    def encoded(self, run: range) -> list[bytes]:
        """The encoded chunks of a chunk's worth of samples."""
        if (copied := self._chunks.of(run, self._layout)) is not None:
            return copied
        layout, fill = self._layout, np.float16(np.nan)
        depth = np.full((layout.chunk[0], *layout.shape[1:]), fill, np.float16)
        self._chunks.read(run, depth[: len(run)])
        return [self._codec.encode(band) for band in bands(depth, layout, fill)]

    def read_extremes(self, run: range, out: NDArray[np.float16]) -> None:
        """Fill the least and the greatest depth of some samples, (2, n)."""
        for values, source in zip(out, self._extremes, strict=True):
            source.read(run, values)


class RefilledDepth(DepthStage):
    """The same, with depth inferred for chunks of which a dataset has some that has another step."""

    def __init__(
        self, filling: DepthFilling, store: DatasetStore, merged: MergedDepth, depth: DepthOfUnion
    ) -> None:
        super().__init__(filling.job, filling.mode, store, depth.step)
        self._merged, self._union, self._stale = merged, depth.union, depth.stale

    def encode(self, run: range, monitor: Monitor) -> tuple[list[bytes], NDArray[np.float16]]:
        """As :meth:`DepthStage.encode`."""
        chunks: list[bytes] = []
        extremes = np.full((2, self.layout.shard[0]), np.nan, np.float16)
        size = self.layout.chunk[0]
        parts = [range(start, min(start + size, run.stop)) for start in range(run.start, run.stop, size)]
        for is_stale, group in groupby(parts, self._is_stale):
            some = list(group)
            samples = range(some[0].start, some[-1].stop)
            place = slice(samples.start - run.start, samples.stop - run.start)
            if is_stale:
                made, found = super().encode(samples, monitor)
                chunks += made
                extremes[:, place] = found[:, : len(samples)]
                continue
            for part in some:
                monitor.check()
                chunks += self._merged.encoded(part)
                monitor.advance(len(part))
            self._merged.read_extremes(samples, extremes[:, place])
        return chunks, extremes

    def _is_stale(self, run: range) -> bool:
        owner, _ = self._union.located(run)
        return not self._stale.isdisjoint(owner.tolist())

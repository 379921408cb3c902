"""How arrays of samples are cut into chunks and shards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

#: Arrays of one number a sample, roughly, that one process writes and that count as one array of shards.
_VECTORS = 16


@dataclass(frozen=True)
class Extent:
    """How many samples there are, how large in pixels; how many in a row share a background (1: unknown)."""

    samples: int
    height: int
    width: int
    per_background: int = 1


@dataclass(frozen=True)
class Layout:
    """How an array of samples, the first axis, is cut: chunks are read whole, shards are written whole.

    A shard is a multiple of the chunk on every axis, and spans all axes but the first.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks in a shard, along each axis."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    @property
    def shards(self) -> int:
        """Shards in the array."""
        return -(-self.shape[0] // self.shard[0])

    @property
    def vector(self) -> Layout:
        """How an array of one number a sample is cut that has a chunk for each shard of this one."""
        return Layout(self.shape[:1], self.shard[:1], self.shard[:1])

    def samples_of(self, shard: int) -> range:
        """The samples in a shard; the last one may hold fewer than its shape says."""
        start = shard * self.shard[0]
        return range(start, min(start + self.shard[0], self.shape[0]))

    def key(self, shard: int) -> str:
        """The key of a shard below its array (Zarr v3 default chunk key encoding)."""
        return "/".join(["c", str(shard), *["0"] * (len(self.shape) - 1)])

    def rows(self) -> Iterator[slice]:
        """The samples of each chunk of the whole array."""
        for start in range(0, self.shape[0], self.chunk[0]):
            yield slice(start, min(start + self.chunk[0], self.shape[0]))

    def chunk_runs(self, shard: int) -> Iterator[range]:
        """The samples of a shard, a chunk's worth at a time."""
        samples = self.samples_of(shard)
        for start in range(samples.start, samples.stop, self.chunk[0]):
            yield range(start, min(start + self.chunk[0], samples.stop))


@dataclass(frozen=True)
class LayoutPolicy:
    """How large chunks and shards become. The defaults were measured on pictures of 128x128 and larger.

    Attributes:
        pixel_chunk_samples: About how many samples of one background a chunk of pixels has.
        pixel_chunk_bytes: Largest chunk of pixels; pictures are cut by rows to keep below it.
        pixel_shard_bytes: Largest shard of images, decoded, if it has more than one chunk.
        depth_chunk_bytes: Chunk of depth per sample.
        guided_chunk_samples: About how many maps of one background a chunk of guided or layered depth has.
        guided_chunk_bytes: Largest chunk of it; maps are cut by rows to keep below it.
        guided_shard_bytes: Shard of it, which a thread holds while a guided network fills it.
        depth_memory_bytes: Maps that a thread holds while it fills one chunk of it, all bands of rows.
        depth_shard_bytes: Shard of depth per sample: what is lost when a slow network is stopped.
        source_chunk_bytes: Chunk of sources, and shard of the depth of backgrounds.
        vector_chunk: Elements in a chunk of an array of one number a sample.
        max_shard_chunks: Most chunks in a shard.
        min_shards: Shards of a small dataset, so that every thread has work.
        max_shards: Shards of an array of very many samples, which become larger so that there are no more.
        max_growth: How many times as large they become at most.
        background_depth_shards: Shards of the depth of backgrounds: few files, little to repeat after a kill.
    """

    pixel_chunk_samples: int = 40
    pixel_chunk_bytes: int = 3 << 20
    pixel_shard_bytes: int = 128 << 20
    depth_chunk_bytes: int = 128 << 10
    guided_chunk_samples: int = 40
    guided_chunk_bytes: int = 2 << 20
    guided_shard_bytes: int = 32 << 20
    depth_memory_bytes: int = 256 << 20
    depth_shard_bytes: int = 8 << 20
    source_chunk_bytes: int = 8 << 20
    vector_chunk: int = 1 << 16
    max_shard_chunks: int = 4096
    min_shards: int = 16
    max_shards: int = 100_000
    max_growth: int = 16
    background_depth_shards: int = 64

    def pixels(self, extent: Extent, chunk: int | None = None) -> tuple[Layout, Layout]:
        """The layouts of image and mask: the same samples in the same shard of both.

        A chunk (of ``chunk`` samples if given) holds samples of one background, whose pixels a compressor
        with a window larger than one sample's part of the chunk finds again and again. Large pictures are cut
        by rows, not by samples, so that this stays so: one sample's rows of the chunk are then far fewer than
        the window.
        """
        row_bytes, shape = extent.width * 3, (extent.samples, extent.height, extent.width)
        samples = min(chunk or _even_part(extent, self.pixel_chunk_samples), extent.samples)
        rows = _band(extent, self.pixel_chunk_bytes // (samples * row_bytes))
        height = -(-extent.height // rows) * rows
        chunks = min(
            max(1, self.pixel_shard_bytes // (samples * height * row_bytes)),
            max(1, self.max_shard_chunks // (height // rows)),
            self._fair_share(extent.samples, samples),
        )
        grown = chunks * self._growth(-(-extent.samples // (samples * chunks)))
        chunks = max(chunks, min(grown, self.max_shard_chunks // (height // rows)))
        mask = Layout(shape, (samples, rows, extent.width), (samples * chunks, height, extent.width))
        return Layout((*mask.shape, 3), (*mask.chunk, 3), (*mask.shard, 3)), mask

    def depth(self, extent: Extent, *, guided: bool) -> Layout:
        """The layout of depth.

        Guided and layered depth repeat that of their background wherever no foreground stands: as with
        pixels, a chunk holds samples of one background and is cut by rows, so that a compressor finds the
        background in the sample before. Depth per sample shares nothing with its neighbours: chunks are whole
        maps.
        """
        sample_bytes, rows = extent.height * extent.width * 2, extent.height
        if guided:
            target = max(1, min(self.guided_chunk_samples, self.depth_memory_bytes // sample_bytes))
            samples = min(_even_part(extent, target), extent.samples)
            rows = _band(extent, self.guided_chunk_bytes // (samples * extent.width * 2))
        else:
            samples = min(max(1, self.depth_chunk_bytes // sample_bytes), extent.samples)
        height = -(-extent.height // rows) * rows
        shard_bytes = self.guided_shard_bytes if guided else self.depth_shard_bytes
        most = max(1, shard_bytes // (sample_bytes * samples))
        chunks = min(most, self._fair_share(extent.samples, samples))
        chunks *= self._growth(-(-extent.samples // (samples * chunks)))
        shape = (extent.samples, extent.height, extent.width)
        return Layout(shape, (samples, rows, extent.width), (samples * chunks, height, extent.width))

    def background_depth(self, backgrounds: int, height: int, width: int) -> Layout:
        """The layout of the depth of backgrounds: each is a chunk."""
        together = max(1, self.source_chunk_bytes // (4 * height * width))
        together = min(together, -(-backgrounds // self.background_depth_shards))
        return Layout((backgrounds, height, width), (1, height, width), (together, height, width))

    def rows(self, shape: tuple[int, ...], row_bytes: int) -> Layout:
        """The layout of an array whose rows are written and read whole, several at a time."""
        step = max(1, min(shape[0], self.source_chunk_bytes // max(1, row_bytes)))
        return Layout(shape, (step, *shape[1:]), (step, *shape[1:]))

    def vector(self, samples: int) -> Layout:
        """The layout of an array of one number a sample."""
        chunk = self.vector_chunk * self._growth(-(-samples // self.vector_chunk) * _VECTORS)
        chunk = min(samples, chunk)
        return Layout((samples,), (chunk,), (chunk,))

    def objects(self, shape: tuple[int, ...]) -> Layout:
        """The layout of an array of some numbers for each object of a sample."""
        chunk = (min(shape[0], self.vector_chunk), *shape[1:])
        return Layout(shape, chunk, chunk)

    def _fair_share(self, samples: int, chunk: int) -> int:
        """The chunks of each shard when there are no more shards than a small dataset needs."""
        return -(-samples // (chunk * self.min_shards))

    def _growth(self, shards: int) -> int:
        """How many times as large shards have to be."""
        return min(self.max_growth, max(1, -(-shards // self.max_shards)))


DEFAULT_POLICY = LayoutPolicy()


def _even_part(extent: Extent, target: int) -> int:
    """About ``target`` samples: an even part of a background's, or all those of a few backgrounds."""
    whole = extent.per_background
    if whole <= target:
        return whole * (target // whole)
    even = [n for n in range(max(1, target // 2), target * 13 // 8) if whole % n == 0]
    return min(even, key=lambda n: abs(math.log(n / target)), default=target)


def _band(extent: Extent, most: int) -> int:
    """The rows of bands of about the same height, of ``most`` rows at most, that make up the picture."""
    bands = -(-extent.height // min(extent.height, max(1, most)))
    return -(-extent.height // bands)

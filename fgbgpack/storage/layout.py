"""How arrays of samples are cut into chunks and shards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fgbgpack.composition.placement import Plan

_PIXEL_CHUNK_SAMPLES = 40
_PIXEL_CHUNK_BYTES = 3 << 20
_PIXEL_SHARD_BYTES = 128 << 20
_DEPTH_CHUNK_BYTES = 128 << 10
_GUIDED_CHUNK_BYTES = 320 << 10
_GUIDED_CHUNK_SAMPLES = (10, 40)  # of large maps, and of small ones
_DEPTH_HELD_BYTES = 256 << 20  # whole maps that are filled together, by each thread
_DEPTH_SHARD_BYTES = 8 << 20  # 256 maps of 128x128: what is lost when a slow network is stopped
_LARGEST_SHARD_CHUNKS = 4096
_FEWEST_SHARDS = 16  # of a small dataset, so that every thread has work


@dataclass(frozen=True)
class Extent:
    """How many samples there are where nothing is known of how they came about, and how large they are.

    Attributes:
        samples: All samples.
        height: Height of every sample in pixels.
        width: Width of every sample in pixels.
    """

    samples: int
    height: int
    width: int

    @property
    def samples_per_background(self) -> int:
        """None is known to share a background with another."""
        return 1


@dataclass(frozen=True)
class Layout:
    """How an array of samples is cut: chunks are what is compressed and read, shards what is written.

    Attributes:
        shape: Shape of the array, samples first.
        chunk: Shape of a chunk.
        shard: Shape of a shard, a multiple of the chunk on every axis; it spans all axes but the first.
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

    def samples_of(self, shard: int) -> range:
        """The samples in a shard; the last one may hold fewer than its shape says."""
        start = shard * self.shard[0]
        return range(start, min(start + self.shard[0], self.shape[0]))

    def key(self, shard: int) -> str:
        """The key of a shard below its array (Zarr v3 default chunk key encoding)."""
        return "/".join(["c", str(shard), *["0"] * (len(self.shape) - 1)])

    def chunk_runs(self, shard: int) -> Iterator[range]:
        """The samples of a shard, a chunk's worth at a time."""
        samples = self.samples_of(shard)
        for start in range(samples.start, samples.stop, self.chunk[0]):
            yield range(start, min(start + self.chunk[0], samples.stop))


def pixel_layouts(
    plan: Plan | Extent, chunk: int | None, most_bytes: int | None = None
) -> tuple[Layout, Layout]:
    """The layouts of image and mask: the same samples in the same shard of both.

    A chunk holds about 40 samples of one background, whose pixels a compressor with a window larger than
    one sample's part of the chunk finds again and again. Chunks are cut to 3 MB by rows, not by
    samples, so that this stays so for large pictures: one sample's rows of the chunk are then far
    fewer than the window.

    Args:
        plan: The samples.
        chunk: How many samples a chunk has; ``None`` for a number that fits the plan.
        most_bytes: How many bytes of pictures a shard has at most, if it has more than one chunk.
    """
    row_bytes = plan.width * 3
    samples = min(chunk or _even_part(plan, _PIXEL_CHUNK_SAMPLES), plan.samples)
    rows = _band(plan, _PIXEL_CHUNK_BYTES // (samples * row_bytes))
    height = -(-plan.height // rows) * rows
    bands = height // rows
    held = _PIXEL_SHARD_BYTES if most_bytes is None else min(most_bytes, _PIXEL_SHARD_BYTES)
    chunks = max(1, held // (samples * height * row_bytes))
    chunks = min(chunks, max(1, _LARGEST_SHARD_CHUNKS // bands), _fair_share(plan.samples, samples))
    shape = (plan.samples, plan.height, plan.width)
    return (
        Layout((*shape, 3), (samples, rows, plan.width, 3), (samples * chunks, height, plan.width, 3)),
        Layout(shape, (samples, rows, plan.width), (samples * chunks, height, plan.width)),
    )


def _even_part(plan: Plan | Extent, target: int) -> int:
    """About ``target`` samples: an even part of a background's, or all those of a few backgrounds."""
    whole = plan.samples_per_background
    if whole <= target:
        return whole * (target // whole)
    even = [n for n in range(max(1, target // 2), target * 13 // 8) if whole % n == 0]
    return min(even, key=lambda n: abs(math.log(n / target)), default=target)


def _band(plan: Plan | Extent, most: int) -> int:
    """The rows of bands of about the same height, of ``most`` rows at most, that make up the picture."""
    bands = -(-plan.height // min(plan.height, max(1, most)))
    return -(-plan.height // bands)


def _fair_share(samples: int, chunk: int) -> int:
    """The chunks of each shard when there are no more shards than a small dataset needs."""
    chunks = -(-samples // chunk)
    return -(-chunks // _FEWEST_SHARDS)


def depth_layout(plan: Plan | Extent, *, guided: bool) -> Layout:
    """The layout of depth.

    Guided depth repeats that of its background wherever no foreground stands: as with pixels, a chunk holds
    samples of one background, and is cut by rows, not by samples, so that a compressor that looks back
    64 KiB finds the background in the sample before. They are fewer than with pixels, for one map shall be
    had without decoding many.

    Depth per sample shares nothing with its neighbours that a compressor finds: small chunks of whole maps.
    """
    sample_bytes = plan.height * plan.width * 2
    rows = plan.height
    if guided:
        least, most = _GUIDED_CHUNK_SAMPLES
        target = min(max(least, _GUIDED_CHUNK_BYTES // sample_bytes), most)
        target = max(1, min(target, _DEPTH_HELD_BYTES // sample_bytes))
        samples = min(_even_part(plan, target), plan.samples)
        rows = _band(plan, _GUIDED_CHUNK_BYTES // (max(least, samples) * plan.width * 2))
    else:
        samples = min(max(1, _DEPTH_CHUNK_BYTES // sample_bytes), plan.samples)
    height = -(-plan.height // rows) * rows
    chunks = max(1, _DEPTH_SHARD_BYTES // (sample_bytes * samples))
    chunks = min(chunks, _fair_share(plan.samples, samples))
    shape = (plan.samples, plan.height, plan.width)
    return Layout(shape, (samples, rows, plan.width), (samples * chunks, height, plan.width))

"""Which placement each sample has, and how samples are cut into chunks and shards. Nothing here does
I/O or keeps state: everything is a pure function of the plan's fields.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.errors import SpecError
from fgbgpack.kernels.philox import multiply_high, philox4x32

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
class Placements:
    """Where each of n samples has which foreground, as arrays of shape (n,).

    Attributes:
        background: int32, index of the background.
        foreground: int32, index of the foreground.
        flip: bool, whether the foreground is mirrored left to right.
        replica: int32, which of the repeated placements of one pair this is.
        y: int32, row of the patch's top edge, in pixels.
        x: int32, column of the patch's left edge, in pixels.
    """

    background: NDArray[np.int32]
    foreground: NDArray[np.int32]
    flip: NDArray[np.bool_]
    replica: NDArray[np.int32]
    y: NDArray[np.int32]
    x: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.background)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> Placements:
        return Placements(*(getattr(self, field.name)[index] for field in fields(self)))

    def scaled(self, scale: int) -> Placements:
        """The same placements in pictures ``scale`` times as large."""
        return Placements(
            self.background, self.foreground, self.flip, self.replica, self.y * scale, self.x * scale
        )


@dataclass(frozen=True)
class Plan:
    """Sample index to placement. Samples are ordered by background, foreground, flip, replica.

    A placement depends on the seed and on its two pictures, nothing else: not on the order or the number
    of pictures, nor on what else is in the dataset.

    Attributes:
        height: Height of every sample in pixels.
        width: Width of every sample in pixels.
        background_words: The first 32 bits of every background's SHA-256.
        foreground_words: The first 32 bits of every foreground's SHA-256.
        foreground_sizes: ``(height, width)`` of every patch in pixels.
        placements: Placements of each pair, and as many more mirrored with ``flip``.
        flip: Whether there are mirrored placements.
        seed: 64 bits.
    """

    height: int
    width: int
    background_words: tuple[int, ...]
    foreground_words: tuple[int, ...]
    foreground_sizes: tuple[tuple[int, int], ...]
    placements: int
    flip: bool
    seed: int

    def __post_init__(self) -> None:
        if self.samples > 2**31 - 1:
            raise SpecError(
                f"{self.samples:,} samples are more than the 2,147,483,647 that a dataset can hold: "
                "use fewer placements or pictures."
            )

    @property
    def samples_per_pair(self) -> int:
        """Samples of one background with one foreground."""
        return self.placements * (2 if self.flip else 1)

    @property
    def samples_per_background(self) -> int:
        """Samples of one background with all foregrounds."""
        return self.samples_per_pair * len(self.foreground_words)

    @property
    def samples(self) -> int:
        """All samples."""
        return self.samples_per_background * len(self.background_words)

    def placements_of(self, samples: range | NDArray[np.int64]) -> Placements:
        """The placements of some samples.

        The random numbers are Philox4x32-10 with the seed as key (low word first) and ``(background
        word, foreground word, flip, replica)`` as counter; word 0 gives y and word 1 gives x.
        """
        index = np.asarray(samples, np.int64)
        pair, within = np.divmod(index, self.samples_per_pair)
        background, foreground = np.divmod(pair, len(self.foreground_words))
        flip, replica = np.divmod(within, self.placements)
        counter = np.empty((len(index), 4), np.uint32)
        counter[:, 0] = np.asarray(self.background_words, np.uint32)[background]
        counter[:, 1] = np.asarray(self.foreground_words, np.uint32)[foreground]
        counter[:, 2] = flip
        counter[:, 3] = replica
        words = np.empty_like(counter)
        philox4x32(counter, np.array([self.seed & 0xFFFFFFFF, self.seed >> 32], np.uint32), words)
        positions = np.array([self.height, self.width]) - np.asarray(self.foreground_sizes) + 1
        corner = np.empty((2, len(index)), np.int32)
        for axis in range(2):
            multiply_high(
                np.ascontiguousarray(words[:, axis]),
                positions[foreground, axis].astype(np.int32),
                corner[axis],
            )
        return Placements(
            background.astype(np.int32),
            foreground.astype(np.int32),
            flip.astype(np.bool_),
            replica.astype(np.int32),
            corner[0],
            corner[1],
        )

    def to_dict(self) -> dict[str, Any]:
        """All that placements depend on, as JSON."""
        return {
            "placement": "inside",
            "height": self.height,
            "width": self.width,
            "background_words": list(self.background_words),
            "foreground_words": list(self.foreground_words),
            "foreground_sizes": [list(size) for size in self.foreground_sizes],
            "placements": self.placements,
            "flip": self.flip,
            "seed": self.seed,
        }

    def recipe_digest(self, background: NDArray[np.uint8], foreground: NDArray[np.uint8]) -> str:
        """SHA-256 of what image and mask are a function of: the plan and the resized sources.

        Args:
            background: (B, h, w, 3) uint8.
            foreground: (F, ph, pw, 4) uint8, zero-padded.

        Returns:
            64 hexadecimal digits. Two datasets with the same digest have the same image and mask.
        """
        digest = hashlib.sha256(b"fgbgpack recipe 1\n")
        digest.update(json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":")).encode())
        digest.update(np.ascontiguousarray(background).data)
        for patch, (height, width) in zip(foreground, self.foreground_sizes, strict=True):
            digest.update(np.ascontiguousarray(patch[:height, :width]).data)
        return digest.hexdigest()


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

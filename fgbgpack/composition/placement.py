"""Which foreground each sample has, and where. Nothing here does I/O or keeps state: everything is a pure
function of the plan's fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.kernels import philox_key, place_patches
from fgbgpack.errors import SpecError
from fgbgpack.spec import MOST_SAMPLES

#: 2^64 over the golden ratio, rounded to an odd number.
_BETWEEN_EPOCHS = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Placements:
    """Where each of n samples has which foreground, as arrays of shape (n,).

    These are the indices of background and foreground, whether the foreground is mirrored left to right,
    which of the repeated placements of one pair it is, and the patch's top row and left column in pixels.
    """

    background: NDArray[np.int32]
    foreground: NDArray[np.int32]
    flip: NDArray[np.bool_]
    replica: NDArray[np.int32]
    y: NDArray[np.int32]
    x: NDArray[np.int32]

    @classmethod
    def empty(cls, samples: int) -> Placements:
        """Arrays for the placements of so many samples, with anything in them."""
        background, foreground, replica, y, x = (np.empty(samples, np.int32) for _ in range(5))
        return cls(background, foreground, np.empty(samples, np.bool_), replica, y, x)

    def __len__(self) -> int:
        return len(self.background)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> Placements:
        return Placements(*(getattr(self, field.name)[index] for field in fields(self)))

    def scaled(self, scale: int) -> Placements:
        """The same placements in pictures ``scale`` times as large."""
        return replace(self, y=self.y * scale, x=self.x * scale)


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch of 64 bits: that of epoch 0 is ``seed``, and no two epochs have the same.

    Multiples of the golden ratio lie apart (Knuth, "The Art of Computer Programming" 3, section 6.4, theorem
    S): two seeds that differ by less than 2^32 have no epoch in common among their first 2^31.
    """
    return (seed + epoch * _BETWEEN_EPOCHS) % (1 << 64)


def check_samples(samples: int) -> None:
    """Raise SpecError, ``samples-too-many``, where no dataset can hold so many."""
    if samples > MOST_SAMPLES:
        raise SpecError(
            f"{samples:,} samples are more than the {MOST_SAMPLES:,} that a dataset can hold: "
            "use fewer placements or pictures.",
            code="samples-too-many",
        )


@dataclass(frozen=True)
class Plan:
    """Sample index to placement. Samples are ordered by background, foreground, flip, replica.

    A placement depends on the seed (64 bits) and on its two pictures, nothing else: not on the order or the
    number of pictures, nor on what else is in the dataset. Words are the first 32 bits of each picture's
    SHA-256, sizes ``(height, width)`` in pixels; each pair has ``placements``, and as many more mirrored with
    ``flip``.
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
        check_samples(self.samples)

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

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _words(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """The words of backgrounds and of foregrounds."""
        return np.array(self.background_words, np.uint32), np.array(self.foreground_words, np.uint32)

    @cached_property
    def _key(self) -> NDArray[np.uint32]:
        """The key of all random numbers."""
        return philox_key(self.seed)

    @cached_property
    def _positions(self) -> NDArray[np.int32]:
        """(F, 2): how many rows, and how many columns, the top left corner of each foreground can be in."""
        sizes = np.array(self.foreground_sizes, np.int32).reshape(-1, 2)
        return np.array([self.height, self.width], np.int32) - sizes + np.int32(1)

    def at_epoch(self, epoch: int) -> Plan:
        """The plan of an epoch, which has the same pictures at other places: that of epoch 0 is this one."""
        return replace(self, seed=epoch_seed(self.seed, epoch))

    def placements_of(self, samples: range | NDArray[np.int64]) -> Placements:
        """The placements of some samples.

        The random numbers are Philox4x32-10 with the seed as key (low word first) and ``(background
        word, foreground word, flip, replica)`` as counter; word 0 gives y and word 1 gives x.

        Raises IndexError where there is no such sample.
        """
        index = np.asarray(samples, np.int64)
        if len(index) and not (index.min() >= 0 and index.max() < self.samples):
            raise IndexError(f"there are {self.samples} samples, and others are asked for")
        placed = Placements.empty(len(index))
        self.fill_placements(index, placed)
        return placed

    def fill_placements(self, samples: NDArray[np.int64], placed: Placements) -> None:
        """Fill the arrays of ``placed`` as :meth:`placements_of` does: n samples from 0 to below
        ``self.samples``, which is not checked.
        """
        place_patches(
            samples,
            *self._words,
            self._positions,
            self.placements,
            self.samples_per_pair,
            self._key,
            placed.background,
            placed.foreground,
            placed.flip,
            placed.replica,
            placed.y,
            placed.x,
        )

    def counters(self, samples: NDArray[np.int64]) -> NDArray[np.uint32]:
        """(n, 4): the words of the counters that the placements of some samples are drawn with."""
        pair, within = np.divmod(samples, self.samples_per_pair)
        background, foreground = np.divmod(pair, len(self.foreground_words))
        words = self._words[0][background], self._words[1][foreground]
        return np.stack([*words, *np.divmod(within, self.placements)], axis=1).astype(np.uint32)

    def recipe_digest(
        self, background: NDArray[np.uint8], foreground: NDArray[np.uint8], cut: NDArray[np.uint8]
    ) -> str:
        """SHA-256, 64 hexadecimal digits, of what image, mask and the layers of depth are a function of: plan
        and resized sources.

        ``background`` is (B, h, w, 3) uint8, ``foreground`` (F, ph, pw, 4) uint8, zero-padded, and ``cut``
        (F,) uint8, at which sides each foreground is cut.
        """
        plan = {"placement": "inside", **asdict(self)}
        patches = cropped(foreground, self.foreground_sizes)
        return digest_of(b"fgbgpack recipe 1\n", plan, [background, *patches, cut])


def cropped(foreground: NDArray[np.uint8], sizes: Sequence[tuple[int, int]]) -> list[NDArray[np.uint8]]:
    """The patches of (F, ph, pw, 4) foregrounds without the padding."""
    return [patch[:height, :width] for patch, (height, width) in zip(foreground, sizes, strict=True)]


def digest_of(title: bytes, plan: Mapping[str, Any], arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256, 64 hexadecimal digits, of a plan as JSON and of arrays, in C order."""
    digest = hashlib.sha256(title)
    digest.update(json.dumps(plan, sort_keys=True, separators=(",", ":")).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

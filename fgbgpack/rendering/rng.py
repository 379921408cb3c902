"""Random choices that are the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

WORDS = 2**64

T = TypeVar("T")


class Rng:
    """A splitmix64 generator, seeded by whole numbers of 64 bits."""

    def __init__(self, *words: int) -> None:
        self._state = 0
        for word in words:
            self._state ^= word & (WORDS - 1)
            self._state = self.bits()

    def bits(self) -> int:
        """The next 64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) % WORDS
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % WORDS
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % WORDS
        return z ^ (z >> 31)

    def uniform(self, low: float, high: float) -> float:
        """A number from ``low`` to ``high``, the latter not included."""
        return low + (high - low) * ((self.bits() >> 11) / 2.0**53)

    def integer(self, count: int) -> int:
        """A whole number from 0 to ``count - 1``."""
        return self.bits() % count

    def bernoulli(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform(0.0, 1.0) < probability

    def choice(self, choices: Sequence[T]) -> T:
        """One of the choices, each as likely as the others."""
        return choices[self.integer(len(choices))]

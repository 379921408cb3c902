"""Which bytes of a shard are asked for together: parts that lie close to one another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

#: A chunk by its number in a shard, the place of its first byte, and how many it has.
Part: TypeAlias = tuple[int, int, int]

#: Bytes between two parts that are read and thrown away: another request takes longer than so many.
GAP = 64 << 10
#: Bytes that one request asks for at most, unless a single chunk has more: many go on at a time.
LONGEST = 4 << 20


@dataclass
class Span:
    """Bytes from ``start`` to ``stop`` of a shard, and the parts in them, in the order of their places."""

    start: int
    stop: int
    parts: list[Part] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes, those between its parts included."""
        return self.stop - self.start


def joined(parts: Iterable[Part], *, gap: int = GAP, longest: int = LONGEST) -> list[Span]:
    """The spans that hold all parts of a shard, in the order of their places.

    No two parts of a span have more than ``gap`` bytes between them, and no span of several parts has more
    than ``longest`` bytes.
    """
    spans: list[Span] = []
    for part in sorted(parts, key=lambda part: part[1:]):
        _, start, size = part
        stop = start + size
        last = spans[-1] if spans else None
        if last is not None and start - last.stop <= gap and max(last.stop, stop) - last.start <= longest:
            last.stop = max(last.stop, stop)
        else:
            last = Span(start, stop)
            spans.append(last)
        last.parts.append(part)
    return spans

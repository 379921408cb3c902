"""Which samples belong to which part of a dataset, and in what order they come. Pure functions of numbers.

All random numbers are Philox4x32-10 with the seed as key (low word first). They number what is to be put in
order, which is then sorted by them, so an order is the same on every machine and with every version of NumPy.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.kernels import philox4x32, philox_key
from fgbgpack.dataset.mixing import Mixing, Runs
from fgbgpack.document import OBJECT_FOREGROUND
from fgbgpack.errors import SpecError
from fgbgpack.options import checked_numbers, truth, whole_number

#: What must be in one part only; "field:NAME" for what a field of the names of imported samples says.
By: TypeAlias = Literal["background", "foreground", "both", "sample"] | str
_KINDS = ("background", "foreground", "both", "sample")
_FIELD = "field:"

_SEEDS = 1 << 64
#: What the names of splits and of their parts are, as in the schema of the document.
LABEL = "a name of 1 to 255 characters, none of them a control character"
_LABEL = re.compile("[^\x00-\x1f\x7f\ud800-\udfff]{1,255}")
_SHOWN = 80
#: Fractions that add up to so much more than 1 were meant to add up to 1.
_ROUNDING = 1e-9
#: The third word of counters, apart from one another and from that of placements, which is 0 or 1.
_OF_CHUNKS, _OF_SAMPLES, _OF_PARTS, _OF_RUNS = 2, 3, 4, 6
#: Numbers of samples have 64 bits: the low half is the first word of a counter, the high half the last.
_LOW_WORD, _WORD_BITS = 0xFFFFFFFF, 32
#: The second word of those of scenes.
_OF_SCENES = 1
#: Stands for the part of a source where a scene has no more objects.
_NO_SOURCE = -2


# --- the order of samples --------------------------------------------------------------------------


def shuffled(
    samples: NDArray[np.int64], mixing: Mixing, *, seed: int = 0, epoch: int = 0, adjacent: int = 1
) -> list[NDArray[np.int64]]:
    """Samples in an order that is random and yet can be read at speed: those of each window.

    Blocks are shuffled and taken a window at a time; the samples of these blocks are shuffled. A reader of
    whole windows, or one that keeps so many chunks, decodes each block once. Up to ``adjacent`` blocks that
    follow one another come to windows that do, as :class:`Runs` describes. ``samples`` are (n,) int64 in any
    order, ``seed`` has 64 bits, ``epoch`` 32. Raises SpecError with all numbers that are out of range.
    """
    chunk, _, window = mixing
    limits = {
        "chunk": (chunk, 1, 1 << 31),
        "window": (window, 1, 1 << 31),
        "seed": (seed, 0, _SEEDS),
        "epoch": (epoch, 0, 1 << 32),
    }
    chunk, window, seed, epoch = checked_numbers(limits, "Numbers are out of range.")
    if not len(samples):
        return []
    chunks, place = np.unique(mixing.blocks(samples), return_inverse=True)
    runs = Runs.within(len(chunks), adjacent, window)
    of_chunks = _numbers(seed, chunks & _LOW_WORD, epoch, _OF_CHUNKS, chunks >> _WORD_BITS)
    if runs.length == 1:
        rank, _ = runs.order(of_chunks, None)
    else:
        rank, _ = runs.order(_numbers(seed, np.arange(len(runs)), epoch, _OF_RUNS, 0), of_chunks)
    in_window = rank[place] // window
    of_samples = _numbers(seed, samples & _LOW_WORD, epoch, _OF_SAMPLES, samples >> _WORD_BITS)
    order = np.lexsort((samples, of_samples, in_window))
    ends = np.cumsum(np.bincount(in_window))[:-1]
    return np.split(samples[order], ends)


# --- parts -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """How samples are dealt out to parts, as :meth:`fgbgpack.Dataset.split` describes.

    Raises SpecError with all fields that are out of range.
    """

    parts: Mapping[str, float]
    by: By = "background"
    seed: int = 0

    def __post_init__(self) -> None:
        problems: list[str] = []
        if self.by not in _KINDS and self.field is None:
            problems.append(f"by: found {self.by!r}, expected {', '.join(_KINDS)} or {_FIELD}NAME")
        if (seed := whole_number(self.seed)) is None or not 0 <= seed < _SEEDS:
            problems.append(f"seed: found {self.seed!r}, expected 0 to 2^64 - 1")
        if not self.parts:
            problems.append("parts: found none, expected at least one, such as {'train': 0.8, 'test': 0.2}")
        for name, fraction in self.parts.items():
            problems += part_name_problems(name)
            if not _is_fraction(fraction):
                problems.append(f"parts: {name} is {fraction!r}, expected a fraction above 0 and at most 1")
        if not problems and sum(self.parts.values()) > 1 + _ROUNDING:
            problems.append(f"parts: they add up to {sum(self.parts.values()):g}, expected at most 1")
        if problems:
            raise SpecError("This is no way to split a dataset.", problems, code="split-invalid")

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Split:
        """A split as the dataset's document has it."""
        return cls(document["parts"], document["by"], document["seed"])

    @property
    def field(self) -> str | None:
        """The field of imported samples that is dealt out, if one is."""
        name = self.by.removeprefix(_FIELD) if isinstance(self.by, str) else ""
        return name if name.isidentifier() and name != self.by else None

    def to_dict(self) -> dict[str, Any]:
        """The split as the dataset's document has it."""
        return {"by": self.by, "seed": int(self.seed), "parts": {n: float(f) for n, f in self.parts.items()}}

    def samples(
        self,
        made_of: Callable[[], Iterator[Mapping[str, NDArray[Any]]]],
        backgrounds: Sequence[str],
        foregrounds: Sequence[str],
    ) -> dict[str, NDArray[np.int64]]:
        """The samples of each part, in ascending order; SpecError if there are fewer things to deal out than
        parts.

        ``made_of`` gives the arrays that say what samples are made of, by their paths in a dataset, of some
        after the other. Sources are known by the SHA-256 of their pictures: two files with the same
        content are in the same part. The order in which they are dealt out depends on the seed and on the
        pictures alone. Of scenes, a sample is in the part that all of its foregrounds are in; one without any
        is dealt out by itself, or with its background.
        """
        pictures = {"background": backgrounds, "foreground": foregrounds}
        if self.by == "sample":
            return self._by_name(self._part_of_sample(made_of(), pictures))
        kinds = ("background", "foreground") if self.by == "both" else (self.by,)
        dealt = {kind: self._part_of_source(kind, pictures) for kind in kinds}
        part = np.concatenate([self._part_of_used(some, dealt) for some in made_of()])
        is_empty = part == _NO_SOURCE
        if is_empty.any():
            part[is_empty] = self._part_of_sample(made_of(), pictures)[is_empty]
        return self._by_name(part)

    def _part_of_sample(
        self,
        made_of: Iterator[Mapping[str, NDArray[Any]]],
        pictures: Mapping[str, Sequence[str]],
    ) -> NDArray[np.int32]:
        """(n,) the number of the part that each sample is in, where these are dealt out one by one."""
        words = {
            kind: np.array([int(digest[:8], 16) for digest in digests], np.uint32)
            for kind, digests in pictures.items()
        }
        return self._dealt(np.concatenate([self._sample_numbers(some, words) for some in made_of]), "samples")

    def _sample_numbers(
        self, made_of: Mapping[str, NDArray[Any]], words: Mapping[str, NDArray[np.uint32]]
    ) -> NDArray[np.uint64]:
        """(n,) what samples are put in order by."""
        background = words["background"][made_of["background"]]
        if OBJECT_FOREGROUND in made_of:
            # Which sample of its background it is, is all that tells scenes apart.
            return _numbers(self.seed, background, _OF_SCENES, _OF_PARTS, made_of["replica"])
        pair = background, words["foreground"][made_of["foreground"]]
        tag = made_of["flip"] + np.uint32(_OF_PARTS)
        return _numbers(self.seed, *pair, tag, made_of["replica"])

    def _part_of_used(
        self, made_of: Mapping[str, NDArray[Any]], dealt: Mapping[str, NDArray[np.int32]]
    ) -> NDArray[np.int32]:
        """(n,) the number of the part that all sources of a sample are in of the kinds that are dealt out; -1
        for none, and -2 where there is no source.
        """
        if "foreground" not in dealt:
            return np.asarray(dealt["background"][made_of["background"]])
        part: NDArray[np.int32]
        used = made_of[OBJECT_FOREGROUND if OBJECT_FOREGROUND in made_of else "foreground"]
        part = np.where(used < 0, np.int32(_NO_SOURCE), dealt["foreground"][used])
        if part.ndim > 1:
            first = part[:, 0]
            is_same = (part == first[:, None]) | (part == _NO_SOURCE)
            part = np.where(is_same.all(axis=1), first, np.int32(-1))
        if "background" in dealt:
            behind = dealt["background"][made_of["background"]]
            part = np.where((part == behind) | (part == _NO_SOURCE), behind, np.int32(-1))
        return part

    def of_names(self, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """The samples of each part, in ascending order, by their names alone or what a field in them says:
        those that have the same are in one part.
        """
        distinct, which = np.unique(np.array(names, object), return_inverse=True)
        what = "samples" if self.field is None else f"different values of {self.field}"
        digests = b"".join(hashlib.sha256(name.encode()).digest()[:12] for name in distinct)
        words = np.frombuffer(digests, ">u4").reshape(-1, 3)
        part = self._dealt(_numbers(self.seed, words[:, 0], words[:, 1], _OF_PARTS, words[:, 2]), what)
        return self._by_name(part[which])

    def _by_name(self, part: NDArray[np.int32]) -> dict[str, NDArray[np.int64]]:
        """The samples of each part, from the number of each sample's part: that of its name, in order."""
        names = sorted(self.parts)
        return {name: np.flatnonzero(part == names.index(name)) for name in self.parts}

    def _part_of_source(self, kind: str, pictures: Mapping[str, Sequence[str]]) -> NDArray[np.int32]:
        """The number of the part that each background, or foreground, is in; -1 for none."""
        digests, which = np.unique(np.array(pictures[kind]), return_inverse=True)
        words = np.array([[int(d[i : i + 8], 16) for i in range(0, 32, 8)] for d in digests], np.uint32)
        part = self._dealt(_numbers(self.seed, *words.T), f"different {kind}s")
        return np.asarray(part[which])

    def _dealt(self, numbers: NDArray[np.uint64], what: str) -> NDArray[np.int32]:
        """The number of the part that each of some things gets, in the order of theirs; -1 for none."""
        counts = self._counts(len(numbers), what)
        part = np.full(len(numbers), -1, np.int32)
        dealt = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        part[np.argsort(numbers, kind="stable")[: len(dealt)]] = dealt
        return part

    def _counts(self, count: int, what: str) -> list[int]:
        """How many of ``count`` things each part gets, by the parts' names in order.

        It is what the fraction makes, rounded down, and one more where most was lost by that; at least 1.
        """
        fractions = [float(self.parts[name]) for name in sorted(self.parts)]
        if count < len(fractions):
            raise SpecError(
                f"{count} {what} cannot be dealt out to {len(fractions)} parts: name fewer parts, or split "
                "by something else.",
                code="split-impossible",
            )
        exact = [fraction * count for fraction in fractions]
        counts = [int(number + _ROUNDING) for number in exact]
        total = min(count, round(sum(exact)))
        by_loss = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
        for i in by_loss[: max(0, total - sum(counts))]:
            counts[i] += 1
        for i, count_of_part in enumerate(counts):
            if not count_of_part:
                counts[i] = 1
                if sum(counts) > count:
                    counts[counts.index(max(counts))] -= 1
        return counts


# --- random numbers --------------------------------------------------------------------------------


def _numbers(seed: int, *words: int | NDArray[Any]) -> NDArray[np.uint64]:
    """A number of 64 bits for each counter of four words."""
    size = max(np.size(word) for word in words)
    counter = np.empty((size, 4), np.uint32)
    for i, word in enumerate(words):
        counter[:, i] = word
    out = np.empty_like(counter)
    philox4x32(counter, philox_key(int(seed)), out)
    return (out[:, 1].astype(np.uint64) << np.uint64(32)) | out[:, 0]


def _is_fraction(value: Any) -> bool:
    return isinstance(value, Real) and truth(value) is None and 0 < float(value) <= 1


def is_label(name: object) -> bool:
    """Whether a split, or a part of one, can have that name."""
    return isinstance(name, str) and _LABEL.fullmatch(name) is not None


def part_name_problems(name: object) -> list[str]:
    """What is wrong with the name of a part, if anything is."""
    return [] if is_label(name) else [f"parts: found {str(name)[:_SHOWN]!r}, expected {LABEL}"]

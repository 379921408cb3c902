"""Splits whose parts are lists of samples, as somebody chose them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.splits import part_name_problems
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.inputs import check_regular, read_file
from fgbgpack.storage.indices import Index, sample_indices

#: What a saved split of this kind says that it is dealt out by.
LIST = "list"
#: The most runs of numbers that follow one another: a document is read whole whenever a dataset is opened.
_MOST_RUNS = 100_000
#: Bytes of a list as text.
_MOST_TEXT = 64 << 20
_RUN = re.compile(r"([0-9]{1,15})(?::([0-9]{1,15}))?")


@dataclass(frozen=True, eq=False)
class ListedSplit:
    """The samples of each part, (n,) int64, ascending, none twice; of a dataset of ``count`` samples."""

    parts: Mapping[str, NDArray[np.int64]]
    count: int

    @classmethod
    def of(cls, parts: Mapping[str, Index], count: int) -> ListedSplit:
        """The split of lists in any order.

        Raises:
            SpecError: A name cannot be one, a list is empty, there is no such sample, one comes twice, or the
                lists are too long for a document; all are told together.
        """
        problems = [problem for name in parts for problem in part_name_problems(name)]
        chosen: dict[str, NDArray[np.int64]] = {}
        for name, samples in parts.items():
            try:
                chosen[name] = np.unique(sample_indices(samples, count))
            except IndexError as error:
                problems.append(f"parts: {name}: {error}")
        problems += [f"parts: {name} has no samples" for name, samples in chosen.items() if not len(samples)]
        if not problems:
            numbers, times = np.unique(np.concatenate(list(chosen.values())), return_counts=True)
            if len(twice := numbers[times > 1]):
                problems.append(f"parts: sample {twice[0]} is in several")
        runs = sum(len(_starts(samples)) for samples in chosen.values())
        if runs > _MOST_RUNS:
            problems.append(
                f"parts: the lists have {runs:,} runs of samples that follow one another, expected at most "
                f"{_MOST_RUNS:,}; use longer ones as indices"
            )
        if problems:
            raise SpecError("This is no way to split a dataset.", problems, code="split-invalid")
        return cls(chosen, count)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], count: int, where: str) -> ListedSplit:
        """A split as a document has it; DatasetError where its lists are damaged."""
        try:
            found = {name: _numbers(text, count) for name, text in document["samples"].items()}
        except (KeyError, ValueError) as error:
            raise DatasetError(f"A split of {where} is damaged: {error}.", code="document-damaged") from error
        if found.keys() != document["parts"].keys():
            raise DatasetError(f"A split of {where} has other parts than lists.", code="document-damaged")
        return cls(found, count)

    def to_dict(self) -> dict[str, Any]:
        """The split as a document has it, with the share of all samples that each part is."""
        return {
            "by": LIST,
            "seed": 0,
            "parts": {name: len(samples) / self.count for name, samples in self.parts.items()},
            "samples": {name: _text(samples) for name, samples in self.parts.items()},
        }


def read_list(path: Path) -> NDArray[np.int64]:
    """The numbers of samples in a file of NumPy (``.npy``), or of text: one a line, or with spaces between.

    Raises:
        OSError: There is no such file, or it is too large.
        ValueError: It holds something else.
    """
    if path.suffix == ".npy":
        check_regular(path)
        # Mapped, so that a file that claims to be larger than it is takes no memory.
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except EOFError:
            raise ValueError("it is empty") from None
        if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iu":
            raise ValueError("expected an array of one axis of whole numbers")
        return found.astype(np.int64)
    words = read_file(path, _MOST_TEXT).split()
    if not all(re.fullmatch(rb"[0-9]{1,15}", word) for word in words):
        raise ValueError("expected whole numbers, one a line")
    return np.array([int(word) for word in words], np.int64)


def _starts(samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places where runs of numbers that follow one another begin."""
    if not len(samples):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.diff(samples, prepend=samples[0] - 2) != 1)


def _text(samples: NDArray[np.int64]) -> str:
    starts = _starts(samples)
    lengths = np.diff(np.append(starts, len(samples)))
    firsts = samples[starts].tolist()
    return ",".join(
        str(first) if length == 1 else f"{first}:{first + length}"
        for first, length in zip(firsts, lengths.tolist(), strict=True)
    )


def _numbers(text: str, count: int) -> NDArray[np.int64]:
    """The numbers of a text; ValueError where they are none, not ascending, or not below ``count``."""
    runs, last = [], 0
    for part in text.split(","):
        match = _RUN.fullmatch(part)
        first = int(match[1]) if match else 0
        stop = int(match[2]) if match and match[2] else first + 1
        if match is None or not last <= first < stop <= count:
            raise ValueError(f"{part[:40]!r} is no run of samples in ascending order below {count}")
        runs.append((first, stop))
        last = stop
    return np.concatenate([np.arange(first, stop) for first, stop in runs])

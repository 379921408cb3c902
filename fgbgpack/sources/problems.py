"""Problems of input files: one line and one code for each, and one error for all of them."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from fgbgpack.errors import SourceError
from fgbgpack.sources.names import counted

T = TypeVar("T")

#: The code of an error whose problems have different codes.
_SEVERAL = "sources-unusable"
_ADVICE = "{} with the pictures: fix or remove what is named here"
#: Problems of a kind that are listed one by one where kinds are counted.
_LISTED = 5
# Each thread holds one original picture, so a few threads bound the memory as well.
_THREADS = min(4, os.cpu_count() or 1)


def problem(where: object, found: str, expected: str, code: str) -> SourceError:
    """The error for one problem: the file or place, what was found there, what was expected.

    Example:
        >>> print(problem("fg/a.jpg", "no alpha channel", "transparency", "alpha-missing"))
        1 problem with the pictures: fix or remove what is named here
          - fg/a.jpg: no alpha channel; expected transparency
    """
    return _Problem(str(where), f"{found}; expected {expected}", code)


def place_of(error: SourceError) -> tuple[str, str]:
    """The file or place of a problem, and what is said of it. Several problems at once have no place.

    Example:
        >>> place_of(problem("fg/a: b.jpg", "no alpha channel", "transparency", "alpha-missing"))
        ('fg/a: b.jpg', 'no alpha channel; expected transparency')
    """
    if isinstance(error, _Problem):
        return error.where, error.what
    return "", "; ".join(error.problems)


def combined(problems: Sequence[SourceError]) -> SourceError:
    """One error with the problems of several; its code is that of all, or ``sources-unusable``. What many
    files have in common is one line.
    """
    alike: dict[str, list[str]] = {}
    for error in problems:
        if isinstance(error, _Problem):
            alike.setdefault(error.what, []).append(error.where)
    lines: list[str] = []
    for error in problems:
        files = alike[error.what] if isinstance(error, _Problem) else []
        if not isinstance(error, _Problem) or len(files) <= _LISTED:
            lines += error.problems
        elif error.where == files[0]:
            some, more = ", ".join(files[:_LISTED]), len(files) - _LISTED
            lines.append(f"{some} and {more:,} more: {error.what}")
    return _error(lines, _common({e.code for e in problems}), sum(len(e.problems) for e in problems))


def _common(codes: Set[str]) -> str:
    return next(iter(codes)) if len(codes) == 1 else _SEVERAL


def _error(lines: Sequence[str], code: str, count: int) -> SourceError:
    return SourceError(_ADVICE.format(counted(count, "problem")), lines, code=code)


class _Problem(SourceError):
    """One problem of one file or place."""

    def __init__(self, where: str, what: str, code: str) -> None:
        self.where, self.what = where, what
        super().__init__(_ADVICE.format(counted(1, "problem")), [f"{where}: {what}"], code=code)

    def __reduce__(self) -> tuple[type[_Problem], tuple[str, str, str]]:
        return _Problem, (self.where, self.what, self.code)


def run_all(jobs: Sequence[Callable[[], T]], on_done: Callable[[int, int], None] | None = None) -> list[T]:
    """Runs jobs on a few threads and returns their results in order. After each, ``on_done`` is called in
    this thread with how many are done and how many there are. Raises SourceError with the problems of all
    jobs.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fgbgpack-sources")
    try:
        futures = [pool.submit(job) for job in jobs]
        for done, _ in enumerate(as_completed(futures), start=1):
            if on_done is not None:
                on_done(done, len(jobs))
    finally:
        pool.shutdown(cancel_futures=True)
    problems = [error for future in futures if isinstance(error := future.exception(), SourceError)]
    results = [future.result() for future in futures if not isinstance(future.exception(), SourceError)]
    if problems:
        raise combined(problems)
    return results


class Remarks:
    """What is to be said of files that can be used: each remark with the first few of them, and their number.
    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]  # the lock is this process's own
        self.__dict__ |= state

    def update(self, other: Remarks) -> None:
        """Adds all of others."""
        with self._lock:
            self._counts.update(other._counts)
            for remark, files in other._files.items():
                self._files[remark] = [*self._files.get(remark, []), *files][:_LISTED]

    def add(self, path: object, remarks: Iterable[str]) -> None:
        """Adds what is to be said of a file, each as the end of a sentence that begins with "pictures"."""
        with self._lock:
            for remark in remarks:
                self._counts[remark] += 1
                files = self._files.setdefault(remark, [])
                if len(files) < _LISTED:
                    files.append(str(path))

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._files.clear()
            self._counts.clear()

    def lines(self) -> list[str]:
        """A sentence for each remark."""
        return [
            f"{counted(count, 'picture')} {remark}: {', '.join(sorted(self._files[remark]))}"
            + (", ..." if count > _LISTED else "")
            for remark, count in sorted(self._counts.items())
        ]


class CountedProblems:
    """Problems by groups such as ``"pictures without a mask"``: the first few of each, and their number."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lines: dict[str, list[str]] = {}
        self._codes: set[str] = set()

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, group: str, line: str, code: str) -> None:
        """Adds one problem to a group."""
        self.counts[group] += 1
        self._codes.add(code)
        lines = self._lines.setdefault(group, [])
        if len(lines) < _LISTED:
            lines.append(line)

    def add_error(self, group: str, error: SourceError) -> None:
        """Adds each problem of an error to a group."""
        for line in error.problems:
            self.add(group, line, error.code)

    def update(self, other: CountedProblems) -> None:
        """Adds all problems of another one."""
        self.counts.update(other.counts)
        self._codes |= other._codes
        for group, lines in other._lines.items():
            self._lines[group] = [*self._lines.get(group, []), *lines][:_LISTED]

    @property
    def code(self) -> str:
        """The code that all problems have, or ``sources-unusable``."""
        return _common(self._codes)

    def lines(self) -> list[str]:
        """The first few problems of each group, and how many more there are."""
        found = []
        for group, lines in self._lines.items():
            found += lines
            if more := self.counts[group] - len(lines):
                found.append(f"... and {more:,} more {group}, {more + len(lines):,} in all")
        return found

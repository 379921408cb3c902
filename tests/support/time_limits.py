"""A limit to the time that a block of a test takes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise an AssertionError in a block that takes longer: a test that hangs fails. Not on Windows."""

    def fail(number: int, frame: Any) -> None:
        raise AssertionError(f"it has not ended after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

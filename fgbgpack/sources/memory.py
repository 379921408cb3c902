"""A limit to the memory that all threads together take for decoded pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fgbgpack.system import return_memory

#: Bytes of a pixel while a picture is decoded, its colour and its alpha are told apart, and it is turned.
_BYTES_A_PIXEL = 10
#: Of so many bytes the memory is given back to the system once they are freed.
_KEPT = 200_000_000
#: One picture of the most pixels that are decoded, or several smaller ones.
_MOST = 1_000_000_000


class Budget:
    """Bytes that threads may take together. A thread that asks for more than is left waits until others have
    given theirs back; one that has some gets more at once, and so does one that is alone: there is no
    deadlock, and no picture is too large.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._changed = threading.Condition()
        self._own = threading.local()

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What this thread takes in here is given back at the end."""
        outer = getattr(self._own, "taken", None)
        if outer is None:
            self._own.taken = 0
        try:
            yield
        finally:
            if outer is None:
                if self._own.taken > _KEPT:
                    return_memory()
                with self._changed:
                    self._taken -= self._own.taken
                    self._changed.notify_all()
                self._own.taken = None

    def take(self, size: int) -> None:
        """Takes some bytes until the end of the scope; outside of all scopes, none."""
        own = getattr(self._own, "taken", None)
        if own is None:
            return
        with self._changed:
            self._changed.wait_for(lambda: bool(own) or not self._taken or self._taken + size <= self._most)
            self._taken += size
        self._own.taken = own + size


_PICTURES = Budget(_MOST)
#: Where pictures are decoded and made small: they count until the end of this.
decoding = _PICTURES.scope


def take_pixels(width: int, height: int) -> None:
    """Waits until a picture of this size may be decoded."""
    _PICTURES.take(width * height * _BYTES_A_PIXEL)

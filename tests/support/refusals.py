"""What refuses to work says why with an error of a stable code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fgbgpack.errors import FgbgError


@contextmanager
def refused(
    kind: type[FgbgError], code: str, match: str | None = None
) -> Iterator[pytest.ExceptionInfo[FgbgError]]:
    """The block raises an error of exactly this kind and code, whose message has ``match`` in it. A private
    class of this kind is the same to users.
    """
    with pytest.raises(kind, match=match) as caught:
        yield caught
    public = next(one for one in type(caught.value).__mro__ if not one.__name__.startswith("_"))
    assert public is kind, caught.value
    assert caught.value.code == code, caught.value

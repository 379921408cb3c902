"""Pages that several tests look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pages import served

from fgbgpack import open_dataset
from fgbgpack.viewer.connection import Patience


@pytest.fixture(scope="package")
def plain_page(kinds) -> Iterator[str]:
    """The address of a page of 36 samples with depth."""
    with served(open_dataset(kinds["depth"]), patience=Patience(idle=30, head=0.3, answer=0.5)) as address:
        yield address

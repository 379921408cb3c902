"""Pages of datasets, served by the process of a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from fgbgpack import Dataset
from fgbgpack.viewer.connection import Patience
from fgbgpack.viewer.server import Page, Place


@contextmanager
def served(*datasets: Dataset, host: str = "127.0.0.1", patience: Patience | None = None) -> Iterator[str]:
    """The address of a page of one dataset or two, while it is served; no answer may be a bug."""
    failures = list[BaseException]()
    page = Page(datasets, Place(host, 0), on_failure=failures.append, patience=patience)
    page.prepare()
    thread = threading.Thread(target=page.serve)
    thread.start()
    try:
        yield page.address
    finally:
        page.stop()
        thread.join(30)
    assert failures == []


def port_of(address: str) -> int:
    """The port of an address."""
    return urlsplit(address).port or 80

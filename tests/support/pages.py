"""Pages of datasets, served by the process of a test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from fgbgpack import Dataset
from fgbgpack.viewer.http import Patience
from fgbgpack.viewer.server import Place, serve


@contextmanager
def served(*datasets: Dataset, host: str = "127.0.0.1", patience: Patience | None = None) -> Iterator[str]:
    """The address of a page of one dataset or two, while it is served; no answer may be a bug."""
    ready, failures = threading.Event(), list[BaseException]()
    addresses: list[str] = []
    stops: list[Callable[[], object]] = []

    def on_ready(address: str) -> None:
        addresses.append(address)
        ready.set()

    async def run() -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stopped.set))
        place = Place(host, 0)
        work = serve(datasets, place, on_ready=on_ready, on_failure=failures.append, patience=patience)
        task = asyncio.create_task(work)
        await stopped.wait()
        task.cancel()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield addresses[0]
    finally:
        stops[0]()
        thread.join(30)
    assert failures == []


def port_of(address: str) -> int:
    """The port of an address."""
    return urlsplit(address).port or 80

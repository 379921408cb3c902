"""Running the page: from datasets to a server, until it is stopped."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import FgbgError, SpecError
from fgbgpack.viewer.app import App
from fgbgpack.viewer.collection import Collection
from fgbgpack.viewer.guard import Guard
from fgbgpack.viewer.http import Patience, Server

#: Where pages are by default; the next free port is taken where it is in use.
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8300
_PORTS_TRIED = 20
#: Seconds that the address is held back until the first pictures can be drawn at once.
_PREPARED_SECONDS = 3.0


@dataclass(frozen=True)
class Place:
    """Where a page is: ``port`` 0 is any free one, ``None`` the first free one from ``DEFAULT_PORT`` on."""

    host: str = DEFAULT_HOST
    port: int | None = None


async def serve(
    datasets: Sequence[Dataset],
    place: Place,
    *,
    on_ready: Callable[[str], None],
    on_failure: Callable[[BaseException], None],
    patience: Patience | None = None,
) -> None:
    """Serve a page of one dataset or two until the task is cancelled.

    Args:
        datasets: One or two; they are not changed.
        place: Where.
        on_ready: Called once with the address of the page.
        on_failure: Called with errors that are bugs.
        patience: How long clients may take.

    Raises:
        SpecError: Nothing can listen there (``view-address``).
    """
    collections = tuple(Collection(dataset) for dataset in datasets)
    server = Server(App.refuse, on_failure, patience)
    guard = Guard.of(place.host, await _opened(server, place))
    app = App(collections, guard)
    loop = asyncio.get_running_loop()
    prepared = [loop.run_in_executor(None, _prepare, collection) for collection in collections]
    # Who is told the address sees pictures at once, unless these are far away.
    await asyncio.wait(prepared, timeout=_PREPARED_SECONDS)
    await server.run(app.answer, lambda: on_ready(guard.address))


async def _opened(server: Server, place: Place) -> int:
    ports = range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED) if place.port is None else [place.port]
    why = ""
    for port in ports:
        try:
            return await server.open(place.host, port)
        except (OSError, UnicodeError) as error:
            # Names that cannot be looked up have numbers, and texts, of their own.
            is_system = isinstance(error, OSError) and not isinstance(error, socket.gaierror)
            why = os.strerror(getattr(error, "errno", None) or 0) if is_system else "there is no such host"
            if not (isinstance(error, OSError) and error.errno == errno.EADDRINUSE):
                break
    shown = f"port {place.port}" if place.port else f"ports {ports[0]} to {ports[-1]}"
    raise SpecError(
        f"No page can be served at {place.host}, {shown}: {why}. Name another --host or --port.",
        code="view-address",
    )


def _prepare(collection: Collection) -> None:
    """Does once what the first pictures would otherwise wait for: loads kernels and sources."""
    # What is wrong with the dataset is said when it is asked for.
    with suppress(FgbgError, OSError):
        for layer in ("image", "depth"):
            if layer in collection.layers:
                collection.sheet(layer, np.zeros(1, np.int64), 64, one_scale=True)

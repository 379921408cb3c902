"""Running the page: from datasets to a server, until it is stopped."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import uvicorn

from fgbgpack.dataset.dataset import Dataset
from fgbgpack.errors import FgbgError, SpecError
from fgbgpack.viewer.app import App
from fgbgpack.viewer.collection import Collection
from fgbgpack.viewer.connection import Connection, Patience
from fgbgpack.viewer.guard import FIELDS, MOST_HEAD, Guard

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


class Page:
    """A page of one dataset or two, and the server of it.

    Args:
        datasets: One or two; they are not changed.
        place: Where.
        on_failure: Called with errors that are bugs.
        patience: How long clients may take.

    Raises:
        SpecError: Nothing can listen there (``view-address``).

    Attributes:
        address: Its address, with the token that it needs.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        place: Place,
        *,
        on_failure: Callable[[BaseException], None],
        patience: Patience | None = None,
    ) -> None:
        self._socket = _bound(place)
        guard = Guard.of(place.host, self._socket.getsockname()[1])
        self.address = guard.address
        self._collections = tuple(Collection(dataset) for dataset in datasets)
        patience = patience or Patience()
        config = uvicorn.Config(
            App(self._collections, guard, on_failure),
            http=cast(type[asyncio.Protocol], partial(Connection, patience)),
            timeout_keep_alive=patience.idle,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=MOST_HEAD,
            headers=list(FIELDS.items()),
            server_header=False,
            loop="asyncio",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            # What goes wrong is told to on_failure.
            log_config=None,
            log_level=logging.CRITICAL + 1,
            access_log=False,
        )
        self._server = uvicorn.Server(config)

    def prepare(self) -> None:
        """Draw first pictures once, for some seconds at most: who is told the address then sees pictures at
        once, unless these are far away.
        """
        threads = ThreadPoolExecutor(len(self._collections))
        wait([threads.submit(_prepare, one) for one in self._collections], timeout=_PREPARED_SECONDS)
        threads.shutdown(wait=False)

    def serve(self) -> None:
        """Answer requests until ``stop`` is called in another thread or, in the main thread, until SIGINT or
        SIGTERM arrives, which is then raised again.
        """
        # Some versions of uvicorn leave the socket open where they are stopped before they have begun.
        with self._socket:
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Make ``serve`` return."""
        self._server.should_exit = True


def _bound(place: Place) -> socket.socket:
    """A socket that listens at the place."""
    ports = range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED) if place.port is None else [place.port]
    why = ""
    for port in ports:
        try:
            # A name may have several addresses; those of IPv4 come first.
            family, *_, address = min(socket.getaddrinfo(place.host, port, type=socket.SOCK_STREAM))
            return socket.create_server((str(address[0]), port), family=family)
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

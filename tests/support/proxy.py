"""A proxy of HTTP on loopback: it counts requests, and does to some what networks and servers do.

Faults are chosen request by request: by rate and seed (:func:`at_random`), or by any function of the request.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

#: The connection is reset before the server has seen the request.
RESET = "reset"
#: The server does what was asked, but the connection is reset before it can say so.
LOST = "lost"
#: The answer begins late, and comes in small parts.
SLOW = "slow"
#: The connection ends in the middle of the answer's body (of its head, where it has none).
TRUNCATED = "truncated"
#: No answer ever comes.
SILENT = "silent"
#: What happens on a bad day, as by :func:`at_random`. A status such as ``503`` is answered for the server.
BAD_DAY = ("500", "503", RESET, LOST, SLOW, TRUNCATED)

_PIECE = 1 << 18
_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    "<Error><Code>{code}</Code><Message>injected</Message><RequestId>0</RequestId></Error>"
)


@dataclass(frozen=True)
class Request:
    """What a client asked for: ``path`` is without the query; ``range`` and ``condition`` are headers."""

    number: int
    method: str
    path: str
    query: str
    range: str | None
    condition: str | None
    length: int

    @property
    def kind(self) -> str:
        """The method, or ``LIST`` for what S3 calls so."""
        return "LIST" if self.method == "GET" and "list-type=" in self.query else self.method


#: Says what is done to a request; ``None`` for nothing.
Choice = Callable[[Request], str | None]


def at_random(rate: float, seed: int, kinds: tuple[str, ...] = BAD_DAY) -> Choice:
    """One of some faults for that share of requests: a function of the seed and the request's number."""

    def choose(request: Request) -> str | None:
        rng = random.Random(f"{seed}/{request.number}")
        return rng.choice(kinds) if rng.random() < rate else None

    return choose


class Proxy:
    """A proxy before the server at ``upstream``, such as ``http://127.0.0.1:8333``; use :func:`proxy`.

    ``choose`` and ``latency`` (seconds before each request is passed on) may be changed at any time.
    """

    def __init__(self, upstream: str, choose: Choice | None = None, *, latency: float = 0.0) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self.choose, self.latency = choose, latency
        #: All requests so far, and what was done to some, by their number.
        self.requests: list[Request] = []
        self.faults: dict[int, str] = {}
        #: Seconds that a slow answer takes.
        self.slow_seconds = 0.3
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._is_closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def reset(self) -> None:
        """Forget the requests so far; their numbers go on from zero."""
        with self._lock:
            self.requests, self.faults = [], {}

    def counts(self) -> Counter[str]:
        """How many requests there were of each kind."""
        return Counter(request.kind for request in list(self.requests))

    def close(self) -> None:
        """End all connections."""
        self._is_closed.set()
        # A listener that is only closed may go on waiting in its thread.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for connection in sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._accepting.join()

    def _accept(self) -> None:
        while not self._is_closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        connection = _Connection(self, client)
        try:
            with self._lock:
                self._sockets.add(client)
            while not self._is_closed.is_set() and connection.serve_one():
                pass
        except OSError:
            pass  # one of both ends has gone
        finally:
            connection.close()
            with self._lock:
                self._sockets -= {client, connection.server_socket}

    def note(self, method: str, target: str, headers: dict[str, str]) -> tuple[Request, str | None]:
        """The next request, and what is to be done to it."""
        path, _, query = target.partition("?")
        condition = headers.get("if-match") or headers.get("if-none-match")
        length = int(headers.get("content-length", 0))
        with self._lock:
            number = len(self.requests)
            request = Request(number, method, path, query, headers.get("range"), condition, length)
            self.requests.append(request)
            fault = None if self.choose is None else self.choose(request)
            if fault is not None:
                self.faults[number] = fault
        return request, fault

    def connect(self) -> socket.socket:
        """A new connection to the server."""
        server = socket.create_connection(self._upstream)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets.add(server)
        return server

    def wait(self, seconds: float | None = None) -> None:
        """Wait, but no longer than the proxy is open."""
        self._is_closed.wait(seconds)


class _Connection:
    """A client, and the connection to the server that is made for it."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy, self._client = proxy, client
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._from_client = client.makefile("rb", buffering=_PIECE)
        self.server_socket: socket.socket | None = None

    def serve_one(self) -> bool:
        """Serve the next request; whether another may follow on this connection."""
        head = _head(self._from_client)
        if head is None:
            return False
        first, headers, raw = head
        method, target = first.split(" ")[:2]
        request, fault = self._proxy.note(method, target, headers)
        if headers.get("expect", "").lower() == "100-continue":
            self._client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            raw = b"\r\n".join(line for line in raw.split(b"\r\n") if not line.lower().startswith(b"expect:"))
        body = list(_body(self._from_client, headers, until_end=False))
        if self._proxy.latency:
            time.sleep(self._proxy.latency)
        if fault == RESET:
            return self._reset()
        if fault == SILENT:
            self._proxy.wait()
            return False
        if fault is not None and fault.isdigit():
            return self._answer(int(fault), is_head=method == "HEAD")
        from_server = self._pass_on(raw, body)
        return self._reply(request, fault, from_server, keeps=headers.get("connection") != "close")

    def _pass_on(self, raw: bytes, body: list[bytes]) -> object:
        """Send a request on; the stream that its answer is read from."""
        is_reused = self.server_socket is not None
        if self.server_socket is None:
            self.server_socket = self._proxy.connect()
            self._from_server = self.server_socket.makefile("rb", buffering=_PIECE)
        try:
            for piece in (raw, *body):
                self.server_socket.sendall(piece)
            if self._from_server.peek(1):
                return self._from_server
        except OSError:
            pass
        self._drop_server()
        if not is_reused:
            raise ConnectionError
        # The server has ended a connection on which nothing came for long.
        return self._pass_on(raw, body)

    def _reply(self, request: Request, fault: str | None, from_server: object, *, keeps: bool) -> bool:
        head = _head(from_server)
        if head is None:
            return False
        first, headers, raw = head
        if first.split(" ")[1] == "100":
            return self._reply(request, fault, from_server, keeps=keeps)
        status = int(first.split(" ")[1])
        has_body = request.method != "HEAD" and status not in (204, 304)
        pieces = _body(from_server, headers, until_end=True) if has_body else iter(())
        if fault == LOST:
            for _ in pieces:
                pass
            return self._reset()
        if fault == TRUNCATED:
            whole = raw + b"".join(pieces)
            cut = len(raw) + (len(whole) - len(raw)) // 2 if len(whole) > len(raw) + 1 else len(raw) // 2
            self._client.sendall(whole[:cut])
            return False
        if fault == SLOW:
            self._proxy.wait(self._proxy.slow_seconds / 2)
            whole = raw + b"".join(pieces)
            parts = 8
            for k in range(parts):
                self._client.sendall(whole[k * len(whole) // parts : (k + 1) * len(whole) // parts])
                self._proxy.wait(self._proxy.slow_seconds / 2 / parts)
        else:
            self._client.sendall(raw)
            for piece in pieces:
                self._client.sendall(piece)
        ends = has_body and "content-length" not in headers and "transfer-encoding" not in headers
        if headers.get("connection", "").lower() == "close":
            self._drop_server()
            return False
        return keeps and not ends

    def _answer(self, status: int, *, is_head: bool) -> bool:
        phrase = HTTPStatus(status).phrase
        body = _ERROR.format(code=phrase.replace(" ", "")).encode()
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/xml\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        self._client.sendall(head.encode() + (b"" if is_head else body))
        return True

    def _reset(self) -> bool:
        # Without lingering the end of a connection is a reset.
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def _drop_server(self) -> None:
        if self.server_socket is not None:
            self._from_server.close()
            self.server_socket.close()
            self.server_socket = None

    def close(self) -> None:
        self._from_client.close()
        self._client.close()
        if self.server_socket is not None:
            self._from_server.close()
            self.server_socket.close()


def _head(stream) -> tuple[str, dict[str, str], bytes] | None:
    """The first line, the headers by their names in lower case, and all of it as it came."""
    first = stream.readline()
    if not first:
        return None
    raw, headers = [first], {}
    while (line := stream.readline()).strip():
        raw.append(line)
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return first.decode("latin-1").strip(), headers, b"".join([*raw, b"\r\n"])


def _body(stream, headers: dict[str, str], *, until_end: bool) -> Iterator[bytes]:
    """The body of a message in pieces, as it came."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while True:
            line = stream.readline()
            size = int(line.split(b";")[0], 16)
            yield line + stream.read(size) + stream.readline()
            if size == 0:
                return
    left = int(headers["content-length"]) if "content-length" in headers else None
    if left is None:
        while until_end and (piece := stream.read1(_PIECE)):
            yield piece
        return
    while left and (piece := stream.read(min(left, _PIECE))):
        left -= len(piece)
        yield piece


@contextmanager
def proxy(upstream: str, choose: Choice | None = None, *, latency: float = 0.0) -> Iterator[Proxy]:
    """A proxy before a server, which ends with the block."""
    opened = Proxy(upstream, choose, latency=latency)
    try:
        yield opened
    finally:
        opened.close()

"""A small HTTP/1.1 server that answers GET and nothing else.

Requests have no body, so a request is a head of bounded size that has to arrive in bounded time, and an
answer has to be taken in bounded time: promises that servers for the open web leave to what is before them.
Every fault of a client is answered with a status from 400 to 499, and ends its connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote_to_bytes

#: The most bytes of a request: its target holds all filters of a page.
_MOST_HEAD = 16_384
_MOST_TARGET = 8_192
#: The most parameters of a request.
_MOST_PARAMETERS = 100
#: The most connections at a time; a browser opens six for each window.
_MOST_CONNECTIONS = 256
#: Threads that answer: reading and drawing let go of the interpreter.
_THREADS = 4
#: What is written to a connection before its client has to take some of it.
_WRITTEN_AHEAD = 1 << 16

_REQUEST = re.compile(rb"([!-~]{1,32}) (/[!-~]*) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")


@dataclass(frozen=True)
class Request:
    """A request: the path of its target, its parameters (each comes once), and its header fields, whose names
    are in lower case.
    """

    path: str
    parameters: Mapping[str, str]
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Response:
    """An answer: its status, its body whole or in parts, what that is, and further header fields."""

    status: int = 200
    body: bytes | Iterator[bytes] = b""
    kind: str = "text/plain; charset=utf-8"
    fields: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """A request that is answered with a status from 400 to 499, and why."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(why)


@dataclass(frozen=True)
class Patience:
    """How many seconds a client may take: until a request begins, for its head, and to take an answer."""

    idle: float = 75.0
    head: float = 10.0
    answer: float = 30.0


#: What answers requests.
Answering: TypeAlias = Callable[[Request], Response]


class Server:
    """Answers requests until it is closed.

    ``refused`` makes the answer to a request that is no request, ``failed`` is told of errors that
    what answers raises beyond Refusal.
    """

    def __init__(
        self,
        refused: Callable[[Refusal], Response],
        failed: Callable[[BaseException], None],
        patience: Patience | None = None,
    ) -> None:
        self._refused, self._failed = refused, failed
        self._answering: Answering | None = None
        self._patience = patience or Patience()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="fgbgpack-view")
        self._connections = 0
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> int:
        """Take an address; returns the port, which the system chooses where ``port`` is 0. Raises OSError."""
        self._server = await asyncio.start_server(
            self._connected, host, port, limit=_MOST_HEAD, start_serving=False
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def run(self, answering: Answering, on_ready: Callable[[], None]) -> None:
        """Answer until the task is cancelled; ``answering`` is called in threads, ``on_ready`` once requests
        can come.
        """
        if self._server is None:
            raise ValueError("a server is opened before it runs")
        self._answering = answering
        try:
            await self._server.start_serving()
            on_ready()
            await self._server.serve_forever()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    # --- a connection ------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=_WRITTEN_AHEAD)
        self._connections += 1
        try:
            if self._connections > _MOST_CONNECTIONS:
                await self._write(
                    writer, self._refused(Refusal(429, "There are too many connections.")), last=True
                )
                return
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            # The client has gone, or takes too long to take its answer.
            writer.transport.abort()
        except asyncio.CancelledError:
            # The server stops. This is the outermost frame of its task: raised on, asyncio logs it as a bug.
            writer.transport.abort()
        finally:
            self._connections -= 1
            if writer.transport.get_write_buffer_size():
                # Closing waits for what is written to be taken, which may be never.
                with suppress(ConnectionError, TimeoutError):
                    await asyncio.wait_for(self._flushed(writer), self._patience.answer)
                writer.transport.abort()
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; false where the connection is to be closed."""
        try:
            first = await asyncio.wait_for(reader.readexactly(1), self._patience.idle)
        except TimeoutError:
            return False
        try:
            head = first + await self._head(reader)
            request, stays = parsed(head)
        except Refusal as refusal:
            await self._write(writer, self._refused(refusal), last=True)
            return False
        response = await asyncio.get_running_loop().run_in_executor(
            self._threads, self._answer, request, reader.at_eof
        )
        if response is None:
            return False
        await self._write(writer, response, last=not stays)
        return stays

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self._patience.head)
        except TimeoutError:
            raise Refusal(408, f"The request did not arrive within {self._patience.head:g} s.") from None
        except asyncio.LimitOverrunError:
            raise Refusal(431, f"The request is longer than {_MOST_HEAD} bytes.") from None

    def _answer(self, request: Request, has_gone: Callable[[], bool]) -> Response | None:
        """The answer, in a thread; none where nobody waits for it any more, as when a page is scrolled."""
        if has_gone() or self._answering is None:
            return None
        try:
            return self._answering(request)
        except Refusal as refusal:
            return self._refused(refusal)
        except Exception as error:
            self._failed(error)
            return self._refused(Refusal(500, "This is a bug: the terminal of fgbgpack view shows more."))

    async def _write(self, writer: asyncio.StreamWriter, response: Response, *, last: bool) -> None:
        body = response.body
        length = (
            {"Content-Length": str(len(body))}
            if isinstance(body, bytes)
            else {"Transfer-Encoding": "chunked"}
        )
        fields = {
            "Date": formatdate(usegmt=True),
            "Content-Type": response.kind,
            **length,
            **response.fields,
            "Connection": "close" if last else "keep-alive",
        }
        lines = [
            f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
            *map(": ".join, fields.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if isinstance(body, bytes):
            for start in range(0, len(body), _WRITTEN_AHEAD):
                await self._put(writer, body[start : start + _WRITTEN_AHEAD])
        else:
            loop = asyncio.get_running_loop()
            while part := await loop.run_in_executor(self._threads, lambda: next(body, b"")):
                await self._put(writer, b"%x\r\n%s\r\n" % (len(part), part))
            writer.write(b"0\r\n\r\n")
        await asyncio.wait_for(writer.drain(), self._patience.answer)

    async def _put(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await asyncio.wait_for(writer.drain(), self._patience.answer)

    @staticmethod
    async def _flushed(writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)
        await writer.drain()


def parsed(head: bytes) -> tuple[Request, bool]:
    """The request of a head, and whether its connection stays open after the answer.

    Raises:
        Refusal: It is no request, or not one that can be answered.
    """
    first, *lines = head[: -len(b"\r\n\r\n")].split(b"\r\n")
    if (match := _REQUEST.fullmatch(first)) is None:
        raise Refusal(400, "This is no request of HTTP/1.1.")
    if match[1] != b"GET":
        raise Refusal(405, "Only GET is answered.")
    if len(match[2]) > _MOST_TARGET:
        raise Refusal(414, f"The address is longer than {_MOST_TARGET} bytes.")
    fields: dict[str, str] = {}
    for line in lines:
        if (found := _FIELD.fullmatch(line)) is None:
            raise Refusal(400, "A header field is none.")
        name = found[1].decode("ascii").lower()
        if name in fields and name in ("host", "content-length", "transfer-encoding", "cookie"):
            raise Refusal(400, f"The header field {name} comes twice.")
        fields[name] = found[2].decode("latin-1")
    if fields.get("content-length", "0") != "0" or "transfer-encoding" in fields:
        raise Refusal(413, "Requests have no body here.")
    path, _, query = match[2].partition(b"?")
    stays = match[3] == b"1" and fields.get("connection", "").lower() != "close"
    return Request(_decoded(path), _parameters(query), fields), stays


def _decoded(path: bytes) -> str:
    try:
        return unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise Refusal(400, "The path is not UTF-8.") from None


def _parameters(query: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise Refusal(400, "The parameters are none, or too many.") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refusal(400, "A parameter comes twice.")
    return found

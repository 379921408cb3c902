"""What uvicorn leaves to a server before it: how long a client may take, and how many there may be."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: The most connections at a time; a browser opens six for each window.
_MOST_CONNECTIONS = 256
#: Bytes that a client has to take of an answer each time that its patience is asked.
_TAKEN_AT_LEAST = 1 << 16


@dataclass(frozen=True)
class Patience:
    """How many seconds a client may take: until a request begins, for its head, and to take some of an
    answer.
    """

    idle: int = 75
    head: float = 10.0
    answer: float = 30.0


class Connection(H11Protocol):
    """A connection whose client has to hurry; one too many is refused."""

    def __init__(self, patience: Patience, **given: Any) -> None:
        super().__init__(**given)
        self._patience = patience
        self._late: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request, unless there are too many connections."""
        super().connection_made(transport)
        # Whatever the system has not taken yet pauses writing.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > _MOST_CONNECTIONS:
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS)
        else:
            # As after an answer; uvicorn itself would wait for ever for the first byte.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all waiting."""
        super().connection_lost(exc)
        # Uvicorn keeps its own timer where a connection breaks.
        for timer in (self.timeout_keep_alive_task, self._late, self._stuck):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Waits for the rest of a head that has begun."""
        if self._late is None and self.conn.their_state is h11.IDLE:
            late = HTTPStatus.REQUEST_TIMEOUT
            self._late = self.loop.call_later(self._patience.head, self._refuse, late)
        super().data_received(data)
        if self._late is not None and self.conn.their_state is not h11.IDLE:
            self._late.cancel()
            self._late = None

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no request, with the status that h11 suggests, in place of uvicorn's text."""
        hint = getattr(sys.exception(), "error_status_hint", HTTPStatus.BAD_REQUEST)
        is_fault_of_client = hint in range(400, 500)
        self._refuse(HTTPStatus(hint) if is_fault_of_client else HTTPStatus.BAD_REQUEST)

    def pause_writing(self) -> None:
        """Waits for the client to take what is written."""
        super().pause_writing()
        self._expect_less(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Everything has been taken."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def shutdown(self) -> None:
        """Ends the connection, whatever is being answered: uvicorn would wait until it is taken."""
        self.transport.abort()

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer with a status, unless another answer has begun, and end the connection."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            head = f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            self.transport.write(head.encode())
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()

    def _expect_less(self, left: int) -> None:
        """Drop the client if it has not taken some of what is ``left`` by the end of its patience."""

        def check() -> None:
            now = self.transport.get_write_buffer_size()
            if now > left - _TAKEN_AT_LEAST:
                self.transport.abort()
            else:
                self._expect_less(now)

        self._stuck = self.loop.call_later(self._patience.answer, check)

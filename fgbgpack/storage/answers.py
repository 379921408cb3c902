"""Answers of stores: in time, of the length that was asked for, and requested again where they are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import LocalStore

from fgbgpack.errors import DatasetError
from fgbgpack.storage.failures import Failure, unreadable
from fgbgpack.storage.objects import RemoteStore

#: How often a value is requested before that is an error.
_TRIES = 5
#: How often a value is requested whose content is wrong: if it stays wrong, the connection is not to blame.
_CONTENT_TRIES = 3
#: The first answer may take so many seconds, and in addition what its bytes take at so many a second; each
#: further one may take twice as long.
_TIMEOUT, _SLOWEST = 10.0, 256 << 10
#: Values of any length, such as whole shards, may take longer.
_WHOLE_TIMEOUT = 60.0
#: Seconds before the second try, and twice as many before each further one.
_PAUSE = 0.1


async def answer(
    store: Store,
    key: str,
    part: ByteRequest | None,
    where: str,
    *,
    is_right: Callable[[bytes], bool] | None = None,
) -> bytes | None:
    """The value of a key or a part of it, which messages call ``where``; ``None`` if there is no such key.

    Where a server ignores the range and sends the whole, the part is cut out. The request is made again, a
    few times, if it gets no answer in time, an error that may pass, less than it asked for, or what is not
    ``is_right``. What is still not right at the last try is returned; any other failure raises DatasetError,
    or what a folder of this machine raises.
    """
    answers, tries = 0, 0
    while True:
        tries += 1
        try:
            found = _cut(await _in_time(store, key, part, where, tries), part, where)
        except _Again as exc:
            if tries == _TRIES:
                raise exc.error from exc.__cause__
            await asyncio.sleep(_PAUSE * 2 ** (tries - 1))
            continue
        answers += 1
        if found is None or is_right is None or is_right(found) or answers == _CONTENT_TRIES:
            return found


class _Again(Exception):
    """A request that may succeed when it is made again; ``error`` is what it comes to otherwise."""

    def __init__(self, error: DatasetError) -> None:
        super().__init__(str(error))
        self.error = error


async def _in_time(store: Store, key: str, part: ByteRequest | None, where: str, tries: int) -> Buffer | None:
    """The answer of a store, within the time limit of a try; ``tries`` counts this one."""
    request = store.get(key, default_buffer_prototype(), byte_range=part)
    if part is None and isinstance(store, RemoteStore):
        # It has time limits of its own.
        return await request
    limit = (_WHOLE_TIMEOUT if part is None else _TIMEOUT + _size(part) / _SLOWEST) * 2 ** (tries - 1)
    try:
        return await asyncio.wait_for(request, timeout=limit)
    except DatasetError:
        # Of a store that has tried again by itself.
        raise
    except TimeoutError as exc:
        message = f"{where} cannot be read: no answer within {limit:.3g} seconds to {_asked(part)}."
        raise _Again(DatasetError(f"{message}{_often(tries)}", code="store-timeout")) from exc
    except Exception as exc:  # each kind of store has errors of its own
        if isinstance(store, LocalStore):
            raise
        error = unreadable(exc, where, "GET", tries=tries)
        raise _Again(error) if Failure.of(exc).may_pass else error from None


def _cut(value: Buffer | None, part: ByteRequest | None, where: str) -> bytes | None:
    """The bytes of a part, which the store may have sent more of."""
    if value is None:
        return None
    found = value.to_bytes()
    if isinstance(part, SuffixByteRequest):
        return found[-part.suffix :]
    if isinstance(part, RangeByteRequest):
        size = part.end - part.start
        if len(found) > size:
            found = found[part.start : part.end]
        if len(found) < size:
            message = (
                f"{where} is cut short: {len(found)} bytes of {size} came for {_asked(part)}. The connection "
                "was cut, or the file is damaged: try again, then restore it from a copy."
            )
            raise _Again(DatasetError(message, code="shard-cut-short"))
    return found


def _size(part: ByteRequest) -> int:
    """Bytes that are asked for."""
    if isinstance(part, RangeByteRequest):
        return part.end - part.start
    return part.suffix if isinstance(part, SuffixByteRequest) else 0


def _asked(part: ByteRequest | None) -> str:
    """A request in words."""
    if isinstance(part, RangeByteRequest):
        return f"a request for bytes {part.start} to {part.end}"
    if isinstance(part, SuffixByteRequest):
        return f"a request for the last {part.suffix} bytes"
    return "a request for the whole"


def _often(tries: int) -> str:
    return f" It was tried {tries} times." if tries > 1 else ""

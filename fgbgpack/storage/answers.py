"""What stores answer: within a time, and of the length that was asked for."""

from __future__ import annotations

import asyncio

from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import LocalStore

from fgbgpack.errors import DatasetError
from fgbgpack.storage.failures import may_pass, unreadable
from fgbgpack.storage.objects import RemoteStore

#: Seconds that an answer may take. Many are asked for at once, so each may have to wait for the others.
_TIMEOUT = 120.0
#: How often a value is asked for, and the pause after the first time, in seconds.
_TRIES, _BACKOFF_SECONDS = 4, 0.1


async def _answer_in_time(store: Store, key: str, part: ByteRequest | None, where: str) -> Buffer | None:
    """What a store without retries of its own gives; DatasetError where it fails for good."""
    tries = 0
    while True:
        tries += 1
        try:
            request = store.get(key, default_buffer_prototype(), byte_range=part)
            return await asyncio.wait_for(request, timeout=_TIMEOUT)
        except DatasetError:
            raise
        except TimeoutError as exc:
            raise DatasetError(
                f"{where} cannot be read: no answer within {_TIMEOUT:g} seconds.", code="store-timeout"
            ) from exc
        except Exception as exc:  # each kind of store has errors of its own
            if not may_pass(exc) or tries == _TRIES:
                raise unreadable(exc, where, "GET", tries=tries) from None
        await asyncio.sleep(_BACKOFF_SECONDS * 2**tries)


async def answer(store: Store, key: str, part: ByteRequest | None, where: str) -> bytes | None:
    """The value of a key or a part of it, which messages call ``where``; ``None`` if there is no such key.

    Some servers ignore that only a part is asked for and send the whole. Raises DatasetError where no answer
    comes in time, or less than was asked for; and what the store raises.
    """
    if isinstance(store, (LocalStore, RemoteStore)):
        # The one has no time limits, the other its own.
        value = await store.get(key, default_buffer_prototype(), byte_range=part)
    else:
        value = await _answer_in_time(store, key, part, where)
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
            raise DatasetError(
                f"{where} is cut short: {len(found)} bytes of {size}. The connection was cut, or the file is "
                "damaged: try again, then restore it from a copy.",
                code="shard-cut-short",
            )
    return found

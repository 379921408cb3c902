"""What stores answer: within a time, and of the length that was asked for."""

from __future__ import annotations

import asyncio

from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype

from fgbgpack.errors import DatasetError

#: Seconds that an answer may take. Many are asked for at once, so each may have to wait for the others.
_TIMEOUT = 120.0


async def answer(store: Store, key: str, part: ByteRequest | None, where: str) -> bytes | None:
    """The value of a key or a part of it, which messages call ``where``; ``None`` if there is no such key.

    Some servers ignore that only a part is asked for and send the whole. Raises DatasetError where no answer
    comes in time, or less than was asked for; and what the store raises.
    """
    try:
        value = await asyncio.wait_for(
            store.get(key, default_buffer_prototype(), byte_range=part), timeout=_TIMEOUT
        )
    except TimeoutError as exc:
        raise DatasetError(
            f"{where} cannot be read: no answer within {_TIMEOUT:g} seconds.", code="store-timeout"
        ) from exc
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

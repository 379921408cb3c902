"""Options of files of many raw samples, which may be compressed as a whole."""

from __future__ import annotations

import re

from fgbgpack.export.target import ExportJob

NO_COMPRESSION, ZSTD = "none", "zstd"
_LEVEL = 3
_COMPRESSION = re.compile(rf"{ZSTD}(?::([1-9]|1[0-9]|2[0-2]))?")
#: Some readers take the 32-bit offsets as signed.
_MAX_BYTES = (1 << 31) - 1


def problems_of_shards(job: ExportJob) -> list[str]:
    """What is wrong with the compression and the size that are asked for."""
    compression, limit = job.options.compression or NO_COMPRESSION, job.options.shard_bytes or 1
    problems = []
    if compression != NO_COMPRESSION and _COMPRESSION.fullmatch(compression) is None:
        problems.append(f"--compression: found {compression!r}, expected none, zstd, or zstd:1 to zstd:22")
    if limit > _MAX_BYTES:
        found, most = (f"{size / 1e6:.0f} MB" for size in (limit, _MAX_BYTES))
        problems.append(f"--shard-size: found {found}, expected at most {most}")
    return problems


def zstd_level(compression: str) -> int | None:
    """The level of zstd that the name of a compression means; ``None`` for no compression.

    Example:
        >>> zstd_level("zstd"), zstd_level("zstd:19"), zstd_level("none")
        (3, 19, None)
    """
    match = _COMPRESSION.fullmatch(compression)
    return int(match[1] or _LEVEL) if match else None

"""The directory of a zip file: where the bytes of each of its files are, without reading these.

The layout is that of PKWARE's APPNOTE.TXT, sections 4.3.6 to 4.3.16: a header before the bytes of each file,
one entry for each in a directory behind all of them, and records that say where the directory is, those of
Zip64 where there are more than 65,535 files or 4 GiB.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from fgbgpack.errors import DatasetError

#: Bytes at the end of a zip file in which the last records are, with a comment as long as it may be.
TAIL_BYTES = 22 + 65_535 + 20 + 56

_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY, _HEADER = b"PK\x01\x02", b"PK\x03\x04"
_END_BYTES, _END64_BYTES, _LOCATOR_BYTES, _ENTRY_BYTES = 22, 56, 20, 46
#: Bytes of the header before a file, without its name and its extra fields.
HEADER_BYTES = 30
_STORED = 0
_ENCRYPTED, _SIZE_BEHIND = 1, 8
_MOST16, _MOST32 = 0xFFFF, 0xFFFFFFFF
_ZIP64_FIELD, _ZIP64_BYTES = 1, 20
_UTF8 = 1 << 11


@dataclass(frozen=True)
class ZipEntry:
    """A file in a zip file: its header begins at ``header``, and it has ``size`` bytes, which begin at
    ``start``, or ``None`` where only its header tells that.
    """

    header: int
    size: int
    start: int | None


@dataclass(frozen=True)
class DirectoryPlace:
    """Where the directory of a zip file is: its first byte, its bytes, how many files it lists; and where it
    ends in the tail of the file that tells of it, below 0 if it ends before.
    """

    start: int
    size: int
    entries: int
    end_in_tail: int


def damaged(name: str, what: str) -> DatasetError:
    """The error of a zip file that is damaged."""
    return DatasetError(
        f"{name} is damaged, or no whole zip file: {what}. Copy or download it again, or make it anew with "
        "fgbgpack pack.",
        code="archive-damaged",
    )


def find_directory(tail: bytes, size: int | None, name: str) -> DirectoryPlace:
    """Where the directory is, from the last ``TAIL_BYTES`` of a zip file or all of it; ``size`` is that of
    the file, ``None`` where it is not known.

    Raises DatasetError (``archive-damaged``) where these bytes do not end a zip file.
    """
    at = tail.rfind(_END)
    while at >= 0 and not _is_end(tail, at):
        at = tail.rfind(_END, 0, at)
    if at < 0:
        raise damaged(name, "its end, where the list of its files is, is missing")
    disk, first_disk, _, entries, length, start = struct.unpack_from("<HHHHII", tail, at + 4)
    if (disk, first_disk) not in ((0, 0), (_MOST16, _MOST16)):
        raise damaged(name, "it is one of several parts")
    before = at
    locator = at - _LOCATOR_BYTES
    if locator >= 0 and tail[locator : locator + 4] == _LOCATOR:
        before = locator - _END64_BYTES
        if before < 0 or tail[before : before + 4] != _END64:
            raise damaged(name, "its Zip64 record is missing")
        entries, length, start = struct.unpack_from("<QQQ", tail, before + 32)
    elif entries == _MOST16 or _MOST32 in (length, start):
        raise damaged(name, "its Zip64 record is missing")
    if size is not None and start + length != size - len(tail) + before:
        raise damaged(name, "the list of its files is not where its end says")
    if entries * _ENTRY_BYTES > length:
        raise damaged(name, "the list of its files is too short")
    return DirectoryPlace(start, length, entries, before)


def _is_end(tail: bytes, at: int) -> bool:
    """Whether a record that ends a zip file begins there: its comment ends where the file does."""
    if at + _END_BYTES > len(tail):
        return False
    (comment,) = struct.unpack_from("<H", tail, at + 20)
    return bool(at + _END_BYTES + comment == len(tail))


def parse_directory(directory: bytes, place: DirectoryPlace, name: str) -> dict[str, ZipEntry]:
    """The files of a zip file, by their names, from its directory.

    Raises DatasetError: ``archive-compressed`` where a file is compressed or encrypted, so that no part of it
    can be read alone; ``archive-damaged`` where the directory is.
    """
    found: dict[str, _Listed] = {}
    for entry in _entries(directory, place, name):
        if entry.name in found:
            raise damaged(name, f"it lists {entry.name!r} twice")
        if entry.header + HEADER_BYTES + entry.size > place.start:
            raise damaged(name, f"{entry.name!r} would lie outside of it")
        found[entry.name] = entry
    # What lies without a gap begins where the next header does, less its size: no header need be read.
    in_order = sorted(found.values(), key=lambda entry: entry.header)
    ends = [*(entry.header for entry in in_order[1:]), place.start]
    entries: dict[str, ZipEntry] = {}
    for entry, end in zip(in_order, ends, strict=True):
        start = end - entry.size
        if start < entry.header + HEADER_BYTES:
            raise damaged(name, f"{entry.name!r} and another file lie over each other")
        if not entry.name.endswith("/"):
            is_known = start in entry.starts
            entries[entry.name] = ZipEntry(entry.header, entry.size, start if is_known else None)
    return entries


@dataclass(frozen=True)
class _Listed:
    """A file as the directory lists it, and where its bytes may begin, if nothing but them follows."""

    name: str
    header: int
    size: int
    starts: tuple[int, ...]


def _entries(directory: bytes, place: DirectoryPlace, name: str) -> Iterator[_Listed]:
    """Each file in the order of the list, folders included."""
    at = 0
    for _ in range(place.entries):
        if directory[at : at + 4] != _ENTRY or at + _ENTRY_BYTES > len(directory):
            raise damaged(name, "the list of its files is cut short")
        flags, method = struct.unpack_from("<HH", directory, at + 8)
        packed, size = struct.unpack_from("<II", directory, at + 20)
        name_bytes, extra_bytes, comment_bytes = struct.unpack_from("<HHH", directory, at + 28)
        (header,) = struct.unpack_from("<I", directory, at + 42)
        end = at + _ENTRY_BYTES + name_bytes
        if end + extra_bytes + comment_bytes > len(directory):
            raise damaged(name, "the list of its files is cut short")
        try:
            entry = directory[at + _ENTRY_BYTES : end].decode("utf-8" if flags & _UTF8 else "cp437")
        except UnicodeDecodeError as exc:
            raise damaged(name, "a name in it is not UTF-8") from exc
        wide = [value for value in (size, packed, header) if value == _MOST32]
        if wide:
            numbers = iter(_zip64(directory[end : end + extra_bytes], len(wide), name))
            size, packed, header = (
                next(numbers) if value == _MOST32 else value for value in (size, packed, header)
            )
        if method != _STORED or flags & _ENCRYPTED:
            how = "encrypted" if flags & _ENCRYPTED else "compressed"
            raise DatasetError(
                f"{name} holds {entry!r} {how}: a dataset is read in place, of files that are stored as they "
                "are. Unpack it, and pack it with fgbgpack pack (or zip -0).",
                code="archive-compressed",
            )
        if packed != size:
            raise damaged(name, f"the sizes of {entry!r} contradict each other")
        # Its header has no extra fields, the same as here, or those of Zip64 alone.
        least = header + HEADER_BYTES + name_bytes
        starts = () if flags & _SIZE_BEHIND else (least, least + extra_bytes, least + _ZIP64_BYTES)
        yield _Listed(entry, header, size, starts)
        at = end + extra_bytes + comment_bytes


def _zip64(extra: bytes, count: int, name: str) -> tuple[int, ...]:
    """The numbers of 8 bytes in the Zip64 field among the extra fields of a file."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == _ZIP64_FIELD and size >= 8 * count and at + 4 + size <= len(extra):
            numbers: tuple[int, ...] = struct.unpack_from(f"<{count}Q", extra, at + 4)
            return numbers
        at += 4 + size
    raise damaged(name, "a size is missing in the list of its files")


def data_start(header: bytes, entry: ZipEntry, name: str) -> int:
    """Where the bytes of a file begin, from the ``HEADER_BYTES`` of its header."""
    if len(header) < HEADER_BYTES or header[:4] != _HEADER:
        raise damaged(name, "a file is not where the list says")
    name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
    return int(entry.header + HEADER_BYTES + name_bytes + extra_bytes)

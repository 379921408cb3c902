"""Shared objects for Linux without a compiler: files that can be loaded and hold nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

_PAGE = 4096
_X86_64, _SHARED = 62, 3
_LOAD, _DYNAMIC = 1, 2
#: Tags of the dynamic section.
_NEEDED, _STRTAB, _SYMTAB, _STRSZ, _SYMENT, _SONAME = 1, 5, 6, 10, 11, 14


def write_shared_object(path: Path, *, needed: Iterable[str] = (), offset: int = 0) -> Path:
    """Writes a 64-bit little-endian shared object that is called like its file and linked with ``needed``.

    ``offset``, in pages, is where the file's content is loaded: the addresses in it are that much larger.
    """
    base = offset * _PAGE
    strings, names = bytearray(b"\0"), {}
    for name in (path.name, *needed):
        names[name] = len(strings)
        strings += name.encode() + b"\0"
    symbols, dynamic = 64 + 2 * 56, 64 + 2 * 56 + 24
    entries = [(_SONAME, names[path.name]), *((_NEEDED, names[name]) for name in needed)]
    table = dynamic + 16 * (len(entries) + 5)
    entries += [
        (_STRTAB, base + table),
        (_SYMTAB, base + symbols),
        (_STRSZ, len(strings)),
        (_SYMENT, 24),
        (0, 0),
    ]
    size = table + len(strings)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", _SHARED, _X86_64, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", _LOAD, 6, 0, base, base, size, size, _PAGE)
    length = 16 * len(entries)
    pointer = struct.pack(
        "<IIQQQQQQ", _DYNAMIC, 6, dynamic, base + dynamic, base + dynamic, length, length, 8
    )
    content = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + load + pointer + bytes(24) + content + strings)
    return path

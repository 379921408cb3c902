"""Names that any file system takes, made of names that people gave."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: What Windows, or a shell, or a path takes for something else; and what is no text at all.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
#: Names that are devices on Windows, whatever ending they have.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
#: File systems take 255 bytes, or 143 where they encrypt: room for an ending, and for a number.
_MOST_BYTES = 120


def safe(name: str) -> str:
    """A name as that of a file or folder, with ``_`` for what some file system does not take.

    Example:
        >>> safe("a/b?"), safe("nul.png"), safe("..")
        ('a_b_', '_nul.png', '_')
    """
    text = _UNSAFE.sub("_", name).encode()[:_MOST_BYTES].decode(errors="ignore").rstrip(". ")
    if not text:
        return "_"
    return f"_{text}" if _DEVICES.fullmatch(text) or text[0] in ".-" else text


def told_apart(names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """The same names, with ``-2``, ``-3`` and so on after those that came before: none comes twice, also
    where large and small letters are the same.

    Args:
        names: Names, in order.
        taken: Names that none may have.

    Example:
        >>> told_apart(["a", "A", "b", "a-2"])
        ['a', 'A-3', 'b', 'a-2']
    """
    known = {name.casefold() for name in (*names, *taken)}
    given = {name.casefold() for name in taken}
    found = []
    for name in names:
        one, number = name, 2
        if name.casefold() in given:
            while one.casefold() in known:
                one, number = f"{name}-{number}", number + 1
            known.add(one.casefold())
        given.add(one.casefold())
        found.append(one)
    return found

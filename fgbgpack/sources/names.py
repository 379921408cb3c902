"""Names of files: one spelling, natural order, and short lists of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_DIGITS = re.compile("[0-9]+")


def normal(name: str) -> str:
    """The name in NFC: file systems differ in how they store accents."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def in_natural_order(paths: Iterable[str]) -> list[str]:
    """The paths sorted so that numbers in them count as numbers.

    Example:
        >>> in_natural_order(["10.jpg", "2.jpg", "a/1.jpg"])
        ['2.jpg', '10.jpg', 'a/1.jpg']
    """
    # Names that differ only in leading zeros have an order, too.
    return sorted(sorted(paths), key=lambda path: _DIGITS.sub(_with_length, path).replace("/", "\0"))


def _with_length(digits: re.Match[str]) -> str:
    number = digits[0].lstrip("0")
    return f"{len(number):03}{number}"


def listed(names: Sequence[str], most: int) -> str:
    """The first ``most`` names, separated by commas, and dots where there are more.

    Example:
        >>> listed(["a.png", "b.png", "c.png"], 2)
        'a.png, b.png, ...'
    """
    return ", ".join([*names[:most], "..."] if len(names) > most else names)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things.

    Example:
        >>> counted(1, "picture"), counted(2_000, "picture"), counted(0, "copy", "copies")
        ('1 picture', '2,000 pictures', '0 copies')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def pictures_of(backgrounds: int, foregrounds: int) -> str:
    """The numbers of both kinds of pictures.

    Example:
        >>> pictures_of(100, 1)
        '100 backgrounds, 1 foreground'
    """
    return f"{counted(backgrounds, 'background')}, {counted(foregrounds, 'foreground')}"

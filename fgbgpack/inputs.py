"""What comes from elsewhere, before anything relies on it: regular files only, and JSON within limits.

A path that should name a file may name a pipe, which waits for a writer for ever, or a device. JSON may be
nested so deep that a parser runs out of stack, or hold numbers and texts that nothing else can hold.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Bytes of the largest JSON that is read. In a dataset's document a picture takes about 200.
LARGEST_JSON = 64 << 20

#: Held while the header of a NumPy file is parsed. It is a Python literal, and Python 3.11 now and then fails
#: to parse one while another thread parses another (``AST constructor recursion depth mismatch``).
PARSING_NUMPY = threading.Lock()

#: Of arrays and objects within one another. Documents have less than 20, with room for extensions of cards.
_DEEPEST = 64
_MOST_DIGITS = 20  # as many as 2^64 - 1 has
_SHOWN = 40
_AT_ONCE = 1 << 20  # bytes

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Not to be had on Windows.
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


# --- files -----------------------------------------------------------------------------------------


def check_regular(path: str | os.PathLike[str], most: int | None = None) -> None:
    """Raises OSError where there is a pipe, a socket or a device, or a file of more than ``most`` bytes.

    A folder, a link to nothing or nothing at all is left to whoever opens it.
    """
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    _check(found, path, most)


def _check(found: os.stat_result, path: str | os.PathLike[str], most: int | None = None) -> None:
    if stat.S_ISREG(found.st_mode):
        if most is not None and found.st_size > most:
            raise _too_large(path, most)
        return
    for is_kind, name in _KINDS:
        if is_kind(found.st_mode):
            raise OSError(errno.EINVAL, f"it is {name}, and no file", str(path))


def _too_large(path: str | os.PathLike[str], most: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))


def open_descriptor(path: str | os.PathLike[str]) -> int:
    """A descriptor of a regular file, open for reading, which the caller closes.

    Links are followed. Raises OSError, at once, where there is none, or a folder, a pipe, a socket or a
    device.
    """
    # Before it is opened, since to open a device may do something; and then of what was opened.
    # Paths are not taken apart here: files of chunks are opened all the time.
    _check(os.stat(path), path)  # noqa: PTH116
    descriptor = os.open(path, os.O_RDONLY | _WITHOUT_WAITING)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        _check(found, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_file(path: str | os.PathLike[str]) -> io.BufferedReader:
    """A regular file, open for reading; raises OSError as :func:`open_descriptor`."""
    return io.BufferedReader(io.FileIO(open_descriptor(path), "rb"))


def read_file(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises OSError as :func:`open_descriptor`, and where the file is larger.
    """
    with open_file(path) as file:
        if most is None:
            return file.read()
        found = os.fstat(file.fileno())
        _check(found, path, most)
        # As much memory is taken as is asked for, however little there is to read.
        content = file.read(found.st_size + 1)
        if len(content) > found.st_size:  # A file of the system's may hold more than it says.
            more = bytearray(content)
            while len(more) <= most and (some := file.read(_AT_ONCE)):
                more += some
            content = bytes(more)
    if len(content) > most:
        raise _too_large(path, most)
    return content


# --- JSON ------------------------------------------------------------------------------------------


def parse_json(content: str | bytes, most: int | None = None) -> Any:
    """The value of some JSON of at most ``most`` bytes (64 MiB), UTF-8, with or without a byte order mark.

    Raises ValueError, within a time and memory that follow from the size, for what is no JSON, and for what
    Python's parser takes and others do not, or that only fails later: NaN and infinities, numbers beyond a
    double or of more than 20 digits, a field that is there twice, half a surrogate pair, a larger text,
    arrays and objects more than 64 deep.
    """
    most = LARGEST_JSON if most is None else most
    if len(content) > most:
        raise ValueError(f"{len(content):,} characters, more than the {most:,} that are read")
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise _too_deep() from None
    # Only these can make it deep, and hardly any document has so few of them.
    if text.count("[") + text.count("{") > _DEEPEST:
        _check_depth(value)
    # Written as themselves they are no UTF-8, so a text from elsewhere is looked at as well.
    if "\\ud" in text.lower() or not isinstance(content, bytes):
        _check_unicode(value)
    return value


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value of a JSON file. Raises OSError as :func:`read_file`, and ValueError as :func:`parse_json`."""
    return parse_json(read_file(Path(path), LARGEST_JSON))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the field {twice[:_SHOWN]!r} is there more than once")
    return fields


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits, more than {_MOST_DIGITS}")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:_SHOWN]} is beyond what numbers can be")
    return number


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _too_deep() -> ValueError:
    return ValueError(f"arrays and objects are nested more than {_DEEPEST} deep")


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(_DEEPEST):
        parts = (part for node in level for part in (node.values() if isinstance(node, dict) else node))
        level = [part for part in parts if isinstance(part, (dict, list))]
        if not level:
            return
    raise _too_deep()


def _check_unicode(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise ValueError("a text holds half of a surrogate pair, which is no character") from exc

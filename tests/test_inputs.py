"""Files and JSON from elsewhere: only what can be read in bounded time and memory, and means one thing."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import tracemalloc

import pytest

from fgbgpack import inputs
from fgbgpack.inputs import check_regular, open_descriptor, open_file, parse_json, read_file, read_json

posix = pytest.mark.skipif(sys.platform == "win32", reason="there are no such files on Windows")


def special_files(folder):
    """Paths that name no file, by what is wrong with them."""
    os.mkfifo(folder / "pipe")
    (folder / "link to a pipe").symlink_to(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return {
        "a named pipe": [folder / "pipe", folder / "link to a pipe"],
        "a socket": [folder / "socket"],
        "a device": ["/dev/zero", "/dev/null"],
    }


@posix
@pytest.mark.parametrize("read", [open_descriptor, open_file, read_file, read_json, check_regular])
def test_what_is_no_file_is_refused_at_once(tmp_path, read):
    for kind, paths in special_files(tmp_path).items():
        for path in paths:
            with pytest.raises(OSError, match=kind) as caught:
                read(path)
            assert caught.value.errno == errno.EINVAL
            assert caught.value.strerror == f"it is {kind}, and no file"


@posix
def test_folders_and_links_to_nothing_are_refused_as_the_system_does(tmp_path):
    (tmp_path / "broken").symlink_to(tmp_path / "none")
    (tmp_path / "cycle").symlink_to(tmp_path / "cycle")
    for path, kind in (("", IsADirectoryError), ("none", FileNotFoundError), ("broken", FileNotFoundError)):
        with pytest.raises(kind):
            open_descriptor(tmp_path / path)
        check_regular(tmp_path / path)
    with pytest.raises(OSError, match="symbolic"):
        open_descriptor(tmp_path / "cycle")


def test_a_file_is_read_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    with open_file(path) as file:
        assert file.read() == b"12345"
    assert read_file(path) == read_file(path, 5) == b"12345"
    check_regular(path, 5)
    for read in (read_file, check_regular):
        with pytest.raises(OSError, match="larger than 4 bytes") as caught:
            read(path, 4)
        assert caught.value.errno == errno.EFBIG


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")
def test_a_file_that_holds_more_than_it_says_is_limited():
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_file("/proc/self/status", 10)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")
def test_a_file_that_holds_more_than_it_says_is_read():
    assert read_file("/proc/self/cmdline", 1 << 20) == read_file("/proc/self/cmdline") != b""


def test_a_limit_takes_no_memory(tmp_path):
    """Python's files take as much as they are asked for before they read."""
    path = tmp_path / "small"
    path.write_bytes(b"12345")
    tracemalloc.start()
    try:
        assert read_file(path, 1 << 30) == b"12345"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_hole_of_a_terabyte_is_not_read(tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than"):
        read_json(path)


# --- JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [{"a": [1, -2.5, None, True, "ß𝄞"]}, [], 3, 2**64 - 1, -(2**63), "", None])
def test_json_is_read_as_python_does(value, tmp_path):
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert parse_json(text) == parse_json(text.encode()) == value
        (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1] [2]",
        "[NaN]",
        "[-Infinity]",
        "1e999",
        "-1e400",
        "1" + "0" * 20,
        "9" * 1_000_000,
        '{"a": 1, "a": 1}',
        '{"a": {"b": 1, "b": 2}}',
        '"\\ud800"',
        '["\\uDFFF"]',
        '{"\\ud83d": 1}',
        "[" * 65 + "]" * 65,
        '{"a":' * 65 + "1" + "}" * 65,
        "[" * 1_000_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 10_000,
    ],
)
def test_json_that_cannot_be_relied_on_is_refused(text):
    for content in (text, text.encode()):
        with pytest.raises(ValueError):
            parse_json(content)


@pytest.mark.parametrize("content", [b"\xff\xfe[\x001\x00]\x00", b"\xff", b'"\xed\xa0\x80"', b"\x00"])
def test_other_encodings_are_refused(content):
    with pytest.raises(ValueError):
        parse_json(content)


def test_text_that_is_no_unicode_is_refused():
    with pytest.raises(ValueError, match="surrogate"):
        parse_json('["\ud800"]')


def test_as_deep_as_allowed_is_read():
    assert parse_json("[" * 64 + "]" * 64)
    wide = [[[i]] for i in range(1000)]
    assert parse_json(json.dumps(wide)) == wide


def test_too_much_json_is_refused(monkeypatch):
    monkeypatch.setattr(inputs, "LARGEST_JSON", 10)
    assert parse_json(b"[1234567]") == [1234567]
    with pytest.raises(ValueError, match="more than the 10"):
        parse_json(b"[123456789]")

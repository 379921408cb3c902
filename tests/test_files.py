"""Files of this machine: replaced in one step or not at all, locked, and what errors of the disk say."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os

import pytest
from builders import names_in
from refusals import refused

from fgbgpack.errors import DatasetError
from fgbgpack.files import (
    disk_errors,
    locked,
    replacing,
    replacing_file,
    sha256_of,
    try_lock,
    write_atomically,
)


def no_locks(descriptor, operation):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_digest_is_that_of_the_content(tmp_path, size):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    (tmp_path / "it").write_bytes(content)
    assert sha256_of(tmp_path / "it") == hashlib.sha256(content).hexdigest()


# --- replacing -------------------------------------------------------------------------------------


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "new" / "it.bin"
    for content in (b"first", b"second"):
        with replacing(path) as partial:
            partial.write_bytes(content)
            assert not path.exists() or path.read_bytes() != content
        assert path.read_bytes() == content
        assert names_in(path.parent) == ["it.bin"]
    write_atomically(path, b"third")
    assert path.read_bytes() == b"third"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_file_stays_as_it_was_where_writing_fails(tmp_path, error):
    path = tmp_path / "it.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as partial:  # noqa: PT012
        partial.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["it.bin"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "it.bin", tmp_path / "link.bin"
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert names_in(tmp_path) == ["link.bin", "there"]


def test_what_a_killed_writer_left_is_deleted_and_what_another_is_writing_is_not(tmp_path):
    path = tmp_path / "it.bin"
    left_over = tmp_path / f"it.bin.{'0' * 32}.partial"
    other = tmp_path / f"other.bin.{'0' * 32}.partial"
    for file in (left_over, other):
        file.write_bytes(b"half")
    with replacing_file(path) as first:
        first.path.write_bytes(b"first")
        assert not left_over.exists()
        with replacing(path) as second:
            second.write_bytes(b"second")
            assert first.path.exists()
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["it.bin", other.name]


def test_a_file_is_written_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    write_atomically(tmp_path / "it.bin", b"new")
    assert names_in(tmp_path) == ["it.bin"]


# --- locks -----------------------------------------------------------------------------------------


def test_one_at_a_time_holds_a_lock(tmp_path):
    with locked(tmp_path, "busy"):
        with refused(DatasetError, "dataset-locked", "^busy$"), locked(tmp_path, "busy"):
            pass
        descriptor = os.open(tmp_path, os.O_RDONLY)
        assert not try_lock(descriptor)
        os.close(descriptor)
    with locked(tmp_path, "busy"):
        pass
    assert names_in(tmp_path) == []


def test_a_folder_without_locks_is_not_one_that_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)), locked(tmp_path, "busy"):
        pass


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EDQUOT, "disk-full"),
        (errno.EACCES, "io-failed"),
        (errno.EIO, "io-failed"),
    ],
)
def test_errors_of_the_disk_name_the_place(number, code):
    error = OSError(number, os.strerror(number))
    error.add_note("as noted")
    with (
        refused(DatasetError, code, "lobby") as caught,
        disk_errors("lobby", kept="What is there stays."),
    ):
        raise error
    assert caught.value.__cause__ is error
    assert caught.value.__notes__ == ["as noted"]
    assert ("What is there stays." in caught.value.message) is (code == "disk-full")
    assert (os.strerror(number) in caught.value.message) is (code == "io-failed")


def test_other_errors_are_left_alone():
    with pytest.raises(KeyError), disk_errors("lobby"):
        raise KeyError("it")

"""Files of this machine: replaced in one step or not at all, locked, and what errors of the disk say."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from builders import names_in
from durability import recorded
from refusals import refused

from fgbgpack import lock_file, system
from fgbgpack.errors import DatasetError
from fgbgpack.files import (
    FolderSync,
    disk_errors,
    finish_removal,
    finish_swap,
    locked,
    remove_folder,
    replacing,
    replacing_file,
    sha256_of,
    swap,
    sync_file,
    sync_folder,
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
        assert first.path.read_bytes() == b""
        first.path.write_bytes(b"first")
        with replacing(path) as second:
            second.write_bytes(b"second")
            assert first.path.read_bytes() == b"first"
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["it.bin", other.name]


def test_what_the_second_of_two_killed_writers_left_is_deleted_too(tmp_path):
    path = tmp_path / "it.bin"
    with replacing_file(path) as first, replacing(path) as second:
        left = [tmp_path / first.path.name, second]
        names = [file.name for file in left]
        for file in left:
            file.write_bytes(b"new")
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    write_atomically(path, b"whole")
    assert names_in(tmp_path) == ["it.bin"]


def test_a_file_whose_lock_was_given_up_is_taken_by_nobody(tmp_path):
    path = tmp_path / "it.bin"
    (tmp_path / f"it.bin.{'a' * 32}.partial").write_bytes(b"left by a killed writer")
    with replacing_file(path) as first:
        first.unlock()
        write_atomically(path, b"other")
        first.path.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["it.bin"]


# --- durable ---------------------------------------------------------------------------------------


only_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc, or is for Linux only")


@only_linux
def test_a_file_is_synced_before_it_gets_its_name_and_its_folder_after(tmp_path, monkeypatch):
    calls = recorded(monkeypatch, tmp_path)
    write_atomically(tmp_path / "a" / "b" / "it.bin", b"new")
    assert calls == [
        ("sync", "a"),
        ("sync", "."),
        ("sync", f"a/b/it.bin.{'0' * 32}.partial"),
        ("rename", "a/b/it.bin"),
        ("sync", "a/b"),
    ]


@only_linux
def test_a_folder_is_synced_with_one_call(tmp_path, monkeypatch):
    calls = recorded(monkeypatch, tmp_path)
    folder = FolderSync(tmp_path)
    for name in "ab":
        (tmp_path / name).write_bytes(b"new")
    folder.sync()
    # Of some file systems one call does not do: then the files follow.
    assert calls[0] == ("syncfs", ".")


@only_linux
def test_without_such_a_call_each_file_is_synced_and_then_the_folders_upwards(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/b/file", "a/file"):
        (tmp_path / name).write_bytes(b"new")
    (tmp_path / "a" / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "a" / "pipe")
    calls = recorded(monkeypatch, tmp_path, syncfs=False)
    FolderSync(tmp_path / "a").sync()
    expected = ["a/b/file", "a/file", "a/b", "a", ".", "outside"]
    assert list(dict.fromkeys(calls)) == [("sync", name) for name in expected]


def c_function(result, number):
    """A function of the C library that fails with this number, or is missing without one."""

    def call(*arguments):
        ctypes.set_errno(number)
        return result

    return call


@only_linux
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_what_could_not_be_written_is_an_error(tmp_path, monkeypatch, number):
    library = SimpleNamespace(fstatfs=c_function(0, 0), syncfs=c_function(-1, number))
    monkeypatch.setattr(system, "_library", lambda: library)
    monkeypatch.setattr(system, "_SYNCED", {0})
    with pytest.raises(OSError, match=os.strerror(number)):
        FolderSync(tmp_path).sync()


@only_linux
@pytest.mark.parametrize(
    ("library", "kernel", "kinds"),
    [
        (SimpleNamespace(), "6.1.0", {0}),
        (SimpleNamespace(fstatfs=c_function(0, 0), syncfs=c_function(-1, errno.ENOSYS)), "6.1.0", {0}),
        (SimpleNamespace(fstatfs=c_function(0, 0), syncfs=c_function(0, 0)), "6.1.0", {1}),
        (SimpleNamespace(fstatfs=c_function(0, 0), syncfs=c_function(0, 0)), "5.4.0-7", {0}),
        (SimpleNamespace(fstatfs=c_function(0, 0), syncfs=c_function(0, 0)), "6.1.0", {0}),
    ],
    ids=["no function", "no such call", "another file system", "errors are not reported", "works"],
)
def test_the_files_are_synced_where_one_call_does_not_do(tmp_path, monkeypatch, library, kernel, kinds):
    (tmp_path / "file").write_bytes(b"new")
    monkeypatch.setattr(system, "_library", lambda: library)
    monkeypatch.setattr(system, "_SYNCED", kinds)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=kernel))
    calls = recorded(monkeypatch, tmp_path)
    FolderSync(tmp_path).sync()
    works = hasattr(library, "syncfs") and (kernel, kinds) == ("6.1.0", {0}) and library.syncfs() == 0
    assert (("sync", "file") in calls) is not works


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    sync_folder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        sync_file(tmp_path / "file")


# --- exchanged -------------------------------------------------------------------------------------


def two_folders(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    return tmp_path / "new", tmp_path / "old"


@pytest.mark.parametrize("in_one_step", [True, False])
def test_folders_exchange_their_names(tmp_path, monkeypatch, in_one_step):
    new, old = two_folders(tmp_path)
    if not in_one_step:
        monkeypatch.setattr(system, "exchange", lambda new, old: False)
    swap(new, old)
    assert (names_in(new), names_in(old), names_in(tmp_path)) == (["old"], ["new"], ["new", "old"])
    finish_swap(new, old, "busy")
    assert names_in(tmp_path) == ["new", "old"]


@only_linux
def test_the_exchange_is_one_step_on_linux(tmp_path, monkeypatch):
    new, old = two_folders(tmp_path)
    calls = recorded(monkeypatch, tmp_path)
    swap(new, old)
    assert calls == [("rename", "old"), ("sync", ".")]


@pytest.mark.parametrize("renames", [1, 2])
def test_an_exchange_that_was_killed_is_put_right(tmp_path, monkeypatch, renames):
    new, old = two_folders(tmp_path)
    monkeypatch.setattr(system, "exchange", lambda new, old: False)
    real, left = os.rename, [None] * renames

    def rename(one, other):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        real(one, other)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        swap(new, old)
    monkeypatch.setattr(os, "rename", real)
    finish_swap(new, old, "busy")
    found = (names_in(new), names_in(old))
    assert found == ((["new"], ["old"]) if renames == 1 else (["old"], ["new"]))
    assert names_in(tmp_path) == ["new", "old"]


def test_an_exchange_that_was_killed_is_put_right_where_an_empty_folder_is_in_its_place(tmp_path):
    new, old = two_folders(tmp_path)
    old.rename(tmp_path / "new.aside")
    old.mkdir()
    finish_swap(new, old, "busy")
    assert (names_in(new), names_in(old), names_in(tmp_path)) == (["new"], ["old"], ["new", "old"])


def test_an_exchange_that_is_under_way_is_left_alone(tmp_path):
    new, old = two_folders(tmp_path)
    with locked(old, "busy"):
        old.rename(tmp_path / "new.aside")
        with refused(DatasetError, "dataset-locked", "^busy$"):
            finish_swap(new, old, "busy")
    assert names_in(tmp_path) == ["new", "new.aside"]


@pytest.mark.parametrize("deleted", range(6))
def test_a_folder_has_lost_its_name_when_it_is_deleted(tmp_path, monkeypatch, deleted):
    folder = tmp_path / ".it.new"
    (folder / "a/b").mkdir(parents=True)
    for name in ("a/b/1", "a/2", "3"):
        (folder / name).touch()
    left = [None] * deleted

    def stopping(real):
        def delete(*arguments, **options):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            real(*arguments, **options)

        return delete

    with monkeypatch.context() as patch:
        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, stopping(getattr(os, name)))
        with pytest.raises(KeyboardInterrupt):
            remove_folder(folder)
    assert names_in(tmp_path) == [".it.new.removed"]
    folder.mkdir()
    (folder / "new").touch()
    finish_removal(folder)
    assert (names_in(tmp_path), names_in(folder)) == ([".it.new"], ["new"])


def test_a_folder_is_deleted_where_another_one_was_left(tmp_path):
    folder = tmp_path / "it.h5.unfinished"
    for name in (folder.name, f".{folder.name}.removed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    remove_folder(folder)
    remove_folder(folder)
    assert names_in(tmp_path) == []


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


def test_an_error_of_the_disk_is_not_a_lock(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), locked(tmp_path, "busy"):
        pass


class TestWithoutLocksOfTheSystem:
    """A file beside the folder that names its process stands in for the lock."""

    @pytest.fixture(autouse=True, params=[errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
    def no_locks(self, monkeypatch, request):
        def flock(descriptor, operation):
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(fcntl, "flock", flock)

    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "it.zarr").mkdir()
        return tmp_path / "it.zarr"

    @pytest.fixture
    def lock(self, folder):
        return folder.with_name(".it.zarr.fgbgpack-lock")

    def owner(self, folder, lock):
        with locked(folder, "busy"):
            return json.loads(lock.read_text())

    def is_taken(self, folder):
        with ExitStack() as held:
            try:
                held.enter_context(locked(folder, "busy"))
            except DatasetError:
                return True
        return False

    def test_one_at_a_time_holds_it(self, folder, lock):
        with locked(folder, "busy"):
            with refused(DatasetError, "dataset-locked") as caught, locked(folder, "busy"):
                pass
            assert caught.value.message.startswith(f"busy It is process {os.getpid()} on ")
            assert f"delete {lock}" in caught.value.message
            assert lock.exists()
        assert names_in(folder.parent) == ["it.zarr"]
        assert not self.is_taken(folder)

    def test_those_that_share_it_keep_out_others(self, folder, lock):
        with locked(folder, "busy", shared=True), locked(folder, "busy", shared=True):
            assert len(names_in(folder.parent)) == 3
            with refused(DatasetError, "dataset-locked", "^busy It is process"), locked(folder, "busy"):
                pass
            assert not lock.exists()
        assert names_in(folder.parent) == ["it.zarr"]
        with locked(folder, "busy"):
            with (
                refused(DatasetError, "dataset-locked", "^busy It is process"),
                locked(folder, "busy", shared=True),
            ):
                pass
            assert names_in(folder.parent) == [lock.name, "it.zarr"]
        assert not self.is_taken(folder)

    def test_that_of_one_that_shared_it_and_has_ended_is_removed(self, folder, lock):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        owner = self.owner(folder, lock) | {"pid": ended.pid}
        shared = lock.with_name(f"{lock.name}.shared-0")
        shared.write_text(json.dumps(owner))
        assert not self.is_taken(folder)
        assert names_in(folder.parent) == ["it.zarr"]
        shared.write_text(json.dumps(owner | {"host": "other"}))
        assert self.is_taken(folder)
        assert shared.exists()

    def test_an_error_within_it_frees_it(self, folder, lock):
        with pytest.raises(OSError, match="mine"), locked(folder, "busy"):
            raise OSError(errno.ENOLCK, "mine")
        assert not lock.exists()

    def test_that_of_a_process_that_has_ended_is_removed(self, folder, lock):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        lock.write_text(json.dumps(self.owner(folder, lock) | {"pid": ended.pid}))
        assert not self.is_taken(folder)
        assert names_in(folder.parent) == ["it.zarr"]

    @only_linux
    @pytest.mark.parametrize(
        ("change", "taken"),
        [
            ({"started": "1"}, False),
            ({"boot": "before the last start", "machine": "known"}, False),
            ({"boot": "before the last start", "machine": ""}, True),
            ({"host": "other", "started": "1"}, True),
            ({"namespace": "another container", "started": "1"}, True),
        ],
    )
    def test_only_what_has_surely_ended_is_removed(self, folder, lock, monkeypatch, change, taken):
        real = lock_file._text
        machine = change.get("machine", "known")
        monkeypatch.setattr(
            lock_file, "_text", lambda path: machine if path.name == "machine-id" else real(path)
        )
        lock.write_text(json.dumps(self.owner(folder, lock) | change))
        assert self.is_taken(folder) is taken
        assert lock.exists() is taken

    @pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": "x"}'])
    def test_one_that_names_nobody_is_held(self, folder, lock, content):
        lock.write_text(content)
        with refused(DatasetError, "dataset-locked", "does not say which process"), locked(folder, "busy"):
            pass
        assert lock.read_text() == content

    def test_the_lock_of_another_process_is_not_removed_with_an_old_one(self, folder, lock):
        lock.write_text("that of another process, made just now")
        lock_file._remove(lock, b"the old one")
        assert names_in(folder.parent) == [lock.name, "it.zarr"]

    def test_a_place_that_takes_no_file(self, folder, lock, monkeypatch):
        def no_writing(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", no_writing)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)), locked(folder, "busy"):
            pass
        assert not lock.exists()


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

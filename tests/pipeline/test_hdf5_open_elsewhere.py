"""HDF5 files that a program holds open are read all the same, and never written under its hands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest
import xarray
from builders import assert_same_arrays, tree
from refusals import refused

from fgbgpack import open_dataset
from fgbgpack.errors import DatasetError
from fgbgpack.pipeline import convert, fill_depth, repair, verify
from fgbgpack.storage.hdf5 import parts

FORMS = ("normal", "portable")

# Opens a file, adds to it if it is asked to, and waits until its standard input ends.
_HOLDER = """
import sys
import h5py

with h5py.File(sys.argv[1], sys.argv[2]) as file:
    if sys.argv[3]:
        file[sys.argv[3]] = [1, 2, 3]
        file.flush()
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def own(kinds, tmp_path):
    """A function that copies a dataset as HDF5 for the test alone."""

    def copy(kind="plain", form="normal"):
        return Path(shutil.copy(kinds.hdf5(kind, form), tmp_path / "own.h5"))

    return copy


@contextmanager
def held_here(path: Path, mode: str) -> Iterator[None]:
    with h5py.File(path, mode):
        yield


@contextmanager
def held_elsewhere(
    path: Path, mode: str, added: str = "", *, killed: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", _HOLDER, str(path), mode, added]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        if killed:
            process.kill()
            process.wait()
        yield process


@contextmanager
def held_by_xarray(path: Path, mode: str) -> Iterator[None]:
    with xarray.open_dataset(path, engine="h5netcdf", phony_dims="access"):
        yield


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("holder", "mode"),
    [
        (held_here, "r"),
        (held_here, "r+"),
        (held_elsewhere, "r"),
        (held_elsewhere, "r+"),
        (held_by_xarray, "r"),
    ],
)
def test_a_file_that_is_open_elsewhere_is_read(own, tmp_path, holder, mode, form):
    path = own(form=form)
    expected = open_dataset(path).to_numpy()
    convert(path, tmp_path / "expected.zarr")
    with holder(path, mode):
        assert_same_arrays(open_dataset(path).to_numpy(), expected)
        assert verify(path).sound
        convert(path, tmp_path / "found.zarr")
    assert tree(tmp_path / "found.zarr") == tree(tmp_path / "expected.zarr")


@pytest.mark.parametrize("holder", [held_here, held_elsewhere])
def test_a_file_that_is_open_for_writing_is_not_written(own, tmp_path, holder):
    path = own()
    content = path.read_bytes()
    convert(path, tmp_path / "copy.zarr")
    with holder(path, "r+"):
        open_ = path.read_bytes()
        assert open_ != content
        for change in (
            lambda: repair(path),
            lambda: fill_depth(path),
            lambda: convert(tmp_path / "copy.zarr", path, overwrite=True),
            lambda: open_dataset(path).save_split("halves", {"a": 0.5, "b": 0.5}),
        ):
            with refused(DatasetError, "file-in-use", r"own\.h5 is open for writing elsewhere"):
                change()
        assert path.read_bytes() == open_
    assert path.read_bytes() == content
    assert verify(path).sound


def test_a_file_that_is_being_changed_is_in_use(own):
    path = own()
    expected = open_dataset(path).to_numpy()
    with held_elsewhere(path, "r+", added="labels") as process:
        for read in (open_dataset, verify, repair):
            with refused(DatasetError, "file-in-use", "close it there"):
                read(path)
        process.communicate()
        assert_same_arrays(open_dataset(path).to_numpy(), expected)
    with h5py.File(path) as file:
        assert file["labels"][:].tolist() == [1, 2, 3]


def test_a_file_whose_writer_was_killed_is_repaired(own):
    path = own()
    content, expected = path.read_bytes(), open_dataset(path).to_numpy()
    with held_elsewhere(path, "r+", killed=True):
        pass
    with pytest.raises(OSError, match="consistency flags"), h5py.File(path):
        pass
    assert_same_arrays(open_dataset(path).to_numpy(), expected)
    assert [fault.code for fault in verify(path).faults] == ["file-not-closed"]
    assert repair(path).left_count == 0
    assert path.read_bytes() == content
    assert verify(path).sound


def test_of_a_file_whose_writer_was_killed_at_work_the_rest_is_kept(own):
    path = own()
    content = path.read_bytes()
    with held_elsewhere(path, "r+", added="labels", killed=True):
        pass
    for read in (open_dataset, verify):
        with refused(DatasetError, "file-not-closed", "unless that was killed"):
            read(path)
    assert repair(path).left_count == 0
    assert path.read_bytes() == content
    assert path.with_name("own.h5.damaged").exists()


def test_a_mark_without_its_checksum_is_damage(own):
    path = own()
    content = bytearray(path.read_bytes())
    content[11] = 1
    path.write_bytes(content)
    with path.open("rb") as file:
        assert not parts.is_marked_open(file.fileno())
    with refused(DatasetError, "file-damaged"):
        open_dataset(path)

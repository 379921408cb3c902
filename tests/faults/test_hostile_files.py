"""What is no file where one belongs: a pipe, a device or a hole as large as a disk is an error at once."""

from __future__ import annotations

import errno
import os
import shutil
import sys

import numpy as np
import pytest
from refusals import refused
from stored import open_stored
from time_limits import time_limit

from fgbgpack import create, open_dataset
from fgbgpack.depth import load_model
from fgbgpack.errors import DatasetError, DepthModelError, SourceError, SpecError
from fgbgpack.jit import kernel
from fgbgpack.sources.exported import exported_depth
from fgbgpack.sources.sample_files import read_file_header
from fgbgpack.spec import read_config

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes on Windows")


@pytest.fixture(autouse=True)
def _at_once():
    """End a test that waits for a pipe."""
    with time_limit(60):
        yield


def pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def hole(path):
    """A file of a terabyte, with nothing in it."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    return path


def device(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")
    return path


NO_FILES = pytest.mark.parametrize("instead", [pipe, hole, device])


def read_all(path):
    ds = open_stored(path)
    return ds.to_numpy(), ds.catalog(), ds.bbox


@NO_FILES
@pytest.mark.parametrize(
    "key",
    [
        "zarr.json",
        "image/zarr.json",
        "y/zarr.json",
        "image/c/0/0/0/0",
        "y/c/0",
        "sources/background/c/0/0/0/0",
    ],
)
def test_in_a_dataset(dataset, tmp_path, instead, key):
    path = shutil.copytree(dataset, tmp_path / "copy.zarr")
    instead(path / key)
    with pytest.raises(DatasetError, match=r"copy\.zarr"):
        read_all(path)


@NO_FILES
def test_in_a_dataset_of_which_all_is_listed(dataset, tmp_path, instead):
    path = shutil.copytree(dataset, tmp_path / "copy.zarr")
    instead(path / "image/c/0/0/0/0")
    ds = open_dataset(path)
    assert ds.written_samples()["image"] < len(ds) == ds.written_samples()["mask"]


@NO_FILES
def test_among_pictures(own_pictures, tmp_path, instead):
    instead(own_pictures.backgrounds / "b1.png")
    with pytest.raises(SourceError, match=r"b1\.png"):
        create(tmp_path / "it.zarr", own_pictures.spec())
    assert not (tmp_path / "it.zarr").exists()


@NO_FILES
def test_in_the_place_of_credits(own_pictures, tmp_path, instead):
    instead(own_pictures.backgrounds / "sources.csv")
    with refused(SourceError, "credits-unreadable", r"sources\.csv"):
        create(tmp_path / "it.zarr", own_pictures.spec())


def test_credits_that_are_a_broken_link(own_pictures, tmp_path):
    (own_pictures.backgrounds / "sources.csv").symlink_to(tmp_path / "none")
    with refused(SourceError, "credits-unreadable", r"sources\.csv"):
        create(tmp_path / "it.zarr", own_pictures.spec())


@NO_FILES
@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_in_the_place_of_a_spec(tmp_path, instead, suffix):
    with refused(SpecError, "config-unreadable", "it"):
        read_config(instead(tmp_path / f"it{suffix}"))


@NO_FILES
def test_in_the_place_of_a_model_or_its_card(depth_model, tmp_path, instead):
    model = tmp_path / "tiny.onnx"
    shutil.copy(depth_model, model)
    instead(model.with_suffix(".json"))
    with pytest.raises(DepthModelError, match=r"tiny\.json"):
        load_model(model)
    instead(model)
    with pytest.raises(DepthModelError, match=r"tiny\.onnx"):
        load_model(model)


@NO_FILES
def test_in_the_place_of_depth(tmp_path, instead):
    with refused(SourceError, "picture-unreadable" if instead is not hole else "array-not-readable"):
        read_file_header(instead(tmp_path / "a.npy"))


def test_in_the_place_of_the_document_of_an_export(tmp_path):
    hole(tmp_path / "fgbgpack.json")
    with refused(SourceError, "export-document-damaged"):
        exported_depth(tmp_path, ["depth/a.png"])


# --- NumPy files -----------------------------------------------------------------------------------


def header(text, size=64):
    """A NumPy file with that header and so many bytes after it."""
    padded = text.encode() + b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + bytes(size)


def described(shape, descr="'<f4'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (header(described((10**18, 4))), "array-not-readable"),
        (header(described((4, 5))), "array-not-readable"),
        (header(described((2**31, 2**31))), "array-not-readable"),
        (header(described((-4, -4))), "array-shape-wrong"),
        (header(described((0, 4))), "array-shape-wrong"),
        (header(described((10**18,))), "array-shape-wrong"),
        (header(described((4, 4), "'|O'")), "array-not-readable"),
        (header(described((4, 4), "[('a', '<f4')]")), "array-shape-wrong"),
        (header("__import__('os').abort()"), "array-not-readable"),
        (header("[" * 100), "array-not-readable"),
        (b"\x93NUMPY\x01\x00\xff\xff", "array-not-readable"),
        (b"\x93NUMPY\x09\x00" + bytes(80), "array-not-readable"),
        (b"\x80\x04]", "array-not-readable"),
        (b"", "array-not-readable"),
    ],
)
def test_absurd_numpy_files(tmp_path, content, code):
    (tmp_path / "a.npy").write_bytes(content)
    with refused(SourceError, code):
        read_file_header(tmp_path / "a.npy")


def test_an_archive_that_is_called_an_array(tmp_path):
    np.savez(tmp_path / "a.npz", np.zeros((4, 4)))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with refused(SourceError, "array-not-readable", r"\.npz"):
        read_file_header(tmp_path / "a.npy")


# --- names and caches ------------------------------------------------------------------------------


def test_pictures_whose_names_have_control_characters(own_pictures, tmp_path):
    (own_pictures.backgrounds / "b1.png").rename(own_pictures.backgrounds / "b\n1.png")
    with refused(SourceError, "name-not-printable", r"b\\n1\.png"):
        create(tmp_path / "it.zarr", own_pictures.spec())


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 256, "\ud800", 3])
def test_splits_of_absurd_names(dataset, name):
    ds = open_dataset(dataset)
    with refused(SpecError, "split-invalid"):
        ds.split({name: 0.5})
    with refused(SpecError, "split-invalid"):
        ds.save_split(name, {"a": 0.5})


def test_kernels_work_without_a_folder_to_keep_them_in(monkeypatch):
    locate = "numba.core.caching.{}.from_function"
    for locator in (
        "UserProvidedCacheLocator",
        "InTreeCacheLocator",
        "UserWideCacheLocator",
        "ZipCacheLocator",
    ):
        monkeypatch.setattr(locate.format(locator), lambda *_: None)
    assert kernel(_doubled)(2) == 4


@pytest.mark.skipif(bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="nothing is compiled")
def test_kernels_work_where_the_disk_is_full(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("_load_overload", "_save_overload"):
        monkeypatch.setattr(f"numba.core.caching.Cache.{name}", full)
    assert kernel(_doubled)(2) == 4


def _doubled(number):
    return 2 * number

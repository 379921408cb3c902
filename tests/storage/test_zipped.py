"""Zip files read in place: those of any program, as long as they store what is in them as it is."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zipfile

import numpy as np
import pytest
from builders import assert_same_arrays, collect, value
from object_stores import Counting
from refusals import refused
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import FsspecStore, MemoryStore

from fgbgpack import open_dataset
from fgbgpack.errors import DatasetError
from fgbgpack.pipeline import pack
from fgbgpack.storage.zip_directory import TAIL_BYTES, find_directory, parse_directory
from fgbgpack.storage.zipped import LocalZipStore, RemoteZipStore

_MOST = 2**32 - 1
CONTENT = {"zarr.json": b"{}", "a/zarr.json": b"", "a/c/0": bytes(range(256)), "a/c/1": b"one", "é/c/0": b"x"}


def write_zip(path, content=CONTENT, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


class Unseekable(io.RawIOBase):
    """A stream that has no way back, as a pipe: sizes come behind the bytes of each file."""

    def __init__(self, path):
        self._file = path.open("wb")

    def writable(self):
        return True

    def write(self, data):
        return self._file.write(data)

    def close(self):
        self._file.close()
        super().close()


def remote(path):
    """A store that has the file under a key, and counts what is asked of it."""
    memory = Counting(MemoryStore())
    memory._store._store_dict["folder/it.zip"] = _buffer(path)
    return RemoteZipStore(memory, "folder/it.zip", "memory/it.zip")


def _buffer(path):
    from zarr.core.buffer import default_buffer_prototype

    return default_buffer_prototype().buffer.from_bytes(path.read_bytes())


@pytest.fixture(params=["local", "remote"])
def make(request):
    """A function that opens a zip file, on this machine or in another store."""
    return (lambda path: LocalZipStore(path)) if request.param == "local" else remote


class TestKeys:
    @pytest.mark.parametrize(
        "written", ["plain", "folder", "streamed", "commented", "folders listed", "aligned"]
    )
    def test_all_zip_files_that_store_are_read(self, make, tmp_path, written):
        path = tmp_path / "it.zip"
        if written == "folder":
            write_zip(path, {f"lobby.zarr/{name}": data for name, data in CONTENT.items()})
        elif written == "streamed":
            with zipfile.ZipFile(Unseekable(path), "w") as archive:
                for name, data in CONTENT.items():
                    archive.writestr(name, data)
        else:
            write_zip(path)
        if written == "commented":
            with zipfile.ZipFile(path, "a") as archive:
                archive.comment = b"PK\x05\x06 is how such a file ends" * 9
        if written == "folders listed":
            with zipfile.ZipFile(path, "a") as archive:
                archive.mkdir("a/c/")
                archive.writestr("z", b"last")
        if written == "aligned":
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in CONTENT.items():
                    archive.writestr(name, data)
                    archive.fp.write(bytes(17))
                    archive.start_dir = archive.fp.tell()
        store = make(path)
        assert set(collect(store.list_prefix(""))) - {"z"} == set(CONTENT)
        assert sorted(collect(store.list_dir("a"))) == ["c", "zarr.json"]
        for key, data in CONTENT.items():
            assert value(store, key) == data
            assert value(store, key, RangeByteRequest(1, 3)) == data[1:3]
            assert value(store, key, SuffixByteRequest(2)) == data[-2:]
            assert value(store, key, OffsetByteRequest(100)) == data[100:]
        assert value(store, "a/c/2") is None

    def test_a_store_is_only_read(self, make, tmp_path):
        store = make(write_zip(tmp_path / "it.zip"))
        with pytest.raises(NotImplementedError):
            store.with_read_only(False)
        assert not store.supports_writes
        assert not store.supports_deletes

    def test_what_is_asked_of_another_store_is_little(self, kinds, tmp_path):
        pack(kinds["depth"], tmp_path / "it.zip")
        store = remote(tmp_path / "it.zip")
        ds = open_dataset(store)
        expected = open_dataset(kinds["depth"])
        assert_same_arrays(ds.to_numpy(), expected.to_numpy())
        assert_same_arrays(ds[7].arrays, expected[7].arrays)


class TestRefusals:
    @pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
    def test_compressed_files_cannot_be_read_in_place(self, make, tmp_path, method):
        path = write_zip(tmp_path / "it.zip", compression=method)
        with refused(DatasetError, "archive-compressed"):
            value(make(path), "zarr.json")

    def test_encrypted_ones_neither(self, tmp_path):
        path = write_zip(tmp_path / "it.zip")
        content = bytearray(path.read_bytes())
        content[content.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
        with refused(DatasetError, "archive-compressed"):
            LocalZipStore(path)

    def test_wherever_it_is_cut_short_it_is_called_damaged(self, tmp_path):
        content = write_zip(tmp_path / "it.zip").read_bytes()
        for size in range(len(content)):
            (tmp_path / "short.zip").write_bytes(content[:size])
            with refused(DatasetError, "archive-damaged"):
                LocalZipStore(tmp_path / "short.zip")

    def test_a_name_twice_and_files_over_each_other(self, tmp_path):
        path = tmp_path / "it.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", b"1")
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("a", b"2")
        with refused(DatasetError, "archive-damaged"):
            LocalZipStore(path)
        content = bytearray(write_zip(path).read_bytes())
        second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
        struct.pack_into("<I", content, second + 42, 0)
        path.write_bytes(content)
        with refused(DatasetError, "archive-damaged"):
            LocalZipStore(path)

    def test_what_is_no_zip_file(self, tmp_path):
        (tmp_path / "it.zip").write_bytes(b"this is no archive")
        with refused(DatasetError, "archive-damaged", "it.zip"):
            open_dataset(tmp_path / "it.zip")
        with refused(DatasetError, "dataset-missing"):
            open_dataset(tmp_path / "none.zip")
        write_zip(tmp_path / "it.zip", {"readme": b"text"})
        with refused(DatasetError, "dataset-foreign"):
            open_dataset(tmp_path / "it.zip")

    def test_any_bit_that_flips_is_an_error_or_no_difference(self, kinds, tmp_path, all_faults):
        pack(kinds["imported"], tmp_path / "it.zip")
        content = (tmp_path / "it.zip").read_bytes()
        expected = open_dataset(kinds["imported"]).to_numpy()
        rng = np.random.default_rng(0)
        wrong = 0
        for place in rng.choice(len(content), 2000 if all_faults else 60, replace=False).tolist():
            changed = bytearray(content)
            changed[place] ^= 1 << int(rng.integers(8))
            (tmp_path / "hurt.zip").write_bytes(changed)
            try:
                found = open_dataset(tmp_path / "hurt.zip").to_numpy()
            except DatasetError:
                wrong += 1
            else:
                assert_same_arrays(found, expected)
        assert wrong


class TestZip64:
    @pytest.mark.slow
    def test_more_than_65535_files(self, tmp_path):
        count = 66_000
        write_zip(tmp_path / "it.zip", {f"c/{i}": b"%d" % i for i in range(count)})
        store = LocalZipStore(tmp_path / "it.zip")
        assert len(collect(store.list_prefix("c/"))) == count
        assert value(store, "c/65999") == b"65999"
        assert value(remote(tmp_path / "it.zip"), "c/65999") == b"65999"

    def test_files_beyond_4_gib(self, tmp_path):
        path = tmp_path / "it.zip"
        with path.open("wb") as file:
            os.truncate(file.fileno(), (5 << 30) + 3)
        if path.stat().st_blocks * 512 > 1 << 20:
            pytest.skip("this file system has no sparse files")
        with zipfile.ZipFile(path, "a") as archive:
            for name, data in CONTENT.items():
                archive.writestr(name, data)
        store = LocalZipStore(path)
        assert {key: value(store, key) for key in CONTENT} == CONTENT

    def test_sizes_of_8_bytes(self):
        size, header = (5 << 30) + 7, (6 << 30) + 9
        extra = struct.pack("<HHQQQ", 1, 24, size, size, header)
        numbers = (45, 45, 0, 0, 0, 0, 0, _MOST, _MOST, 1, len(extra), 0, 0, 0, 0, _MOST)
        entry = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", *numbers)
        directory = entry + b"a" + extra
        start = header + 30 + 1 + 20 + size
        numbers = (44, 45, 45, 0, 0, 1, 1, len(directory), start)
        tail = directory + struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", *numbers)
        tail += struct.pack("<4sIQI", b"PK\x06\x07", 0, start + len(directory), 1)
        tail += struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), _MOST, 0)
        place = find_directory(tail, start + len(tail), "it")
        assert (place.start, place.entries) == (start, 1)
        (found,) = parse_directory(directory, place, "it").values()
        assert (found.header, found.size, found.start) == (header, size, header + 30 + 1 + 20)


def test_a_tail_has_room_for_all_that_ends_a_file():
    assert TAIL_BYTES >= 22 + 20 + 56 + 65_535


@pytest.mark.slow
def test_a_url_of_fsspec_is_read_in_ranges(kinds, tmp_path):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    pack(kinds["depth"], tmp_path / "it.zip")
    memory.put(str(tmp_path / "it.zip"), f"/{tmp_path.name}/it.zip")
    ds = open_dataset(f"memory://{tmp_path.name}/it.zip")
    assert isinstance(ds.store.base, RemoteZipStore)
    assert isinstance(ds.store.base._store, FsspecStore)
    assert_same_arrays(ds.to_numpy(), open_dataset(kinds["depth"]).to_numpy())
    with refused(DatasetError, "dataset-missing"):
        open_dataset(f"memory://{tmp_path.name}/none.zip")
    shutil.rmtree(tmp_path, ignore_errors=True)

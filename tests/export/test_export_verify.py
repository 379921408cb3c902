"""An export that lost something is found so, one that did not is sound."""

from __future__ import annotations

import json
import os
import shutil
import tarfile

import pytest
from refusals import refused

from fgbgpack import open_dataset
from fgbgpack.errors import DatasetError
from fgbgpack.export import TARGETS, export, is_export, verify_export


@pytest.fixture(scope="session")
def exports(tmp_path_factory, split_dataset):
    """An export in each format, with and without a split, not to be changed."""
    folder = tmp_path_factory.mktemp("exports")
    for to in TARGETS:
        category = {"category": "person"} if to == "coco" else {}
        export(split_dataset, folder / to, to=to, **category)
        export(split_dataset, folder / f"{to} split", to=to, split="by-background", **category)
    return folder


@pytest.mark.parametrize("split", ["", " split"])
@pytest.mark.parametrize("to", TARGETS)
class TestFormats:
    def test_an_export_is_sound(self, exports, to, split):
        found = verify_export(exports / (to + split), workers=2)
        found.check()
        assert (found.sound, found.samples, found.to) == (True, 36, to)

    def test_a_file_that_is_missing_or_damaged_is_named(self, exports, tmp_path, to, split):
        path = shutil.copytree(exports / (to + split), tmp_path / "it")
        suffixes = {".png", ".npz", ".tar", ".zstd", ".parquet", ".bin"}
        files = sorted(file for file in path.rglob("*") if file.suffix in suffixes)
        last = files[-1]
        content = last.read_bytes()
        half = len(content) // 2
        for changed, codes in (
            (content[:-1], {"file-size-differs", "file-damaged"}),
            (content[:half] + b"\0" * 8 + content[half + 8 :], {"file-damaged"}),
            (None, {"file-missing", "file-damaged"}),
        ):
            last.unlink()
            if changed is not None:
                last.write_bytes(changed)
            found = verify_export(path)
            assert not found.sound
            assert {fault.code for fault in found.faults} <= codes
            assert last.relative_to(path).as_posix() in {fault.key for fault in found.faults}
            with refused(DatasetError, "export-damaged"):
                found.check()


@pytest.mark.skipif(os.name != "posix", reason="files of other systems have no such mode")
def test_a_file_that_may_not_be_read_is_not_called_damaged(exports, tmp_path):
    path = shutil.copytree(exports / "npz", tmp_path / "it")
    (file,) = path.glob("*.npz")
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user may read all files")
    (fault,) = verify_export(path).faults
    assert (fault.code, fault.message) == ("io-failed", f"{file.name} cannot be read: Permission denied.")


def test_a_tar_file_that_breaks_off_at_a_member_is_named(exports, tmp_path):
    path = shutil.copytree(exports / "webdataset", tmp_path / "it")
    (tar,) = path.glob("*.tar")
    with tarfile.open(tar) as archive:
        last = list(archive)[-1]
    with tar.open("r+b") as file:
        file.seek(last.offset)
        file.write(bytes(8))
    (fault,) = verify_export(path).faults
    assert (fault.code, fault.key) == ("file-damaged", tar.name)


def test_samples_are_counted(exports, tmp_path):
    path = shutil.copytree(exports / "npz", tmp_path / "it")
    document = json.loads((path / "fgbgpack.json").read_text(encoding="utf-8"))
    (path / "fgbgpack.json").write_text(json.dumps(document | {"samples": 37}), encoding="utf-8")
    assert [fault.code for fault in verify_export(path).faults] == ["samples-missing"]


DEEP = '{"a":' * 100_000


def test_json_that_is_too_deep_is_named(exports, tmp_path):
    path = shutil.copytree(exports / "coco", tmp_path / "it")
    (path / "fgbgpack.json").write_text(DEEP, encoding="utf-8")
    with refused(DatasetError, "export-document-damaged"):
        verify_export(path)
    shutil.copy(exports / "coco/fgbgpack.json", path)
    (annotations,) = (path / "annotations").glob("*.json")
    size = annotations.stat().st_size
    annotations.write_text(DEEP[:size].ljust(size), encoding="utf-8")
    found = verify_export(path)
    key = annotations.relative_to(path).as_posix()
    assert {(fault.code, fault.key) for fault in found.faults} == {("file-damaged", key)}


def test_what_is_no_export_is_refused(exports, tmp_path, dataset):
    assert not is_export(dataset)
    assert not is_export(tmp_path)
    with refused(DatasetError, "export-document-damaged"):
        verify_export(tmp_path)
    path = shutil.copytree(exports / "npz", tmp_path / "it")
    (path / "fgbgpack-files.csv").unlink()
    with refused(DatasetError, "export-damaged"):
        verify_export(path)
    assert open_dataset(dataset).complete

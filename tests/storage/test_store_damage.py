"""What is not a dataset, or not a whole one, is refused with an error that names it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr
from refusals import refused
from sealing import edit_document as edit
from stored import open_stored

from fgbgpack.dataset.dataset import open_dataset
from fgbgpack.errors import DatasetError, IncompleteDatasetError
from fgbgpack.schema import NewerSchemaWarning


@pytest.fixture
def copy(dataset, tmp_path):
    """A dataset of the test's own."""
    return shutil.copytree(dataset, tmp_path / "copy.zarr")


def test_an_incomplete_dataset_is_refused_unless_allowed(copy):
    edit(copy, lambda document: document.update(complete=False, manifest=None))
    with refused(IncompleteDatasetError, "dataset-incomplete", r"copy\.zarr"):
        open_dataset(copy)
    ds = open_dataset(copy, allow_incomplete=True)
    assert not ds.complete
    assert "incomplete" in repr(ds)
    shutil.rmtree(copy / "image" / "c")
    assert not open_dataset(copy, allow_incomplete=True).image[:].any()


def test_a_newer_minor_version_opens_with_a_warning(copy):
    def change(document):
        document["schema"] = "dataset/1.3"
        document["colour_space"] = "sRGB"
        document["sources"]["backgrounds"][0]["licence"] = "CC0"

    edit(copy, change)
    with pytest.warns(NewerSchemaWarning, match=r"dataset/1\.3"):
        ds = open_dataset(copy)
    assert "colour_space" not in ds.document.to_dict()
    assert ds[0].image.shape == (21, 33, 3)


@pytest.mark.parametrize("part", ["dataset", "spec"])
def test_a_newer_major_version_is_refused_with_what_to_do(copy, part):
    def change(document):
        (document if part == "dataset" else document["spec"])["schema"] = f"{part}/2.0"

    edit(copy, change)
    with refused(DatasetError, "schema-newer", rf"copy\.zarr.*{part}/2\.0"):
        open_dataset(copy)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda document: document.clear(), "schema-mismatch"),
        (lambda document: document.update(schema="dataset"), "schema-mismatch"),
        (lambda document: document.pop("spec"), "schema-violated"),
        (lambda document: document.update(complete="yes"), "schema-violated"),
        (lambda document: document["spec"].update(width=0), "schema-violated"),
        (lambda document: document["recipe"].update(sha256="?"), "schema-violated"),
        (lambda document: document["sources"].update(backgrounds=[]), "schema-violated"),
    ],
)
def test_a_damaged_document_is_refused(copy, change, code):
    edit(copy, change)
    with refused(DatasetError, code, r"copy\.zarr"):
        open_dataset(copy)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "metadata-damaged"),
        (b"\xff\xfe", "metadata-damaged"),
        (b"[]", "dataset-foreign"),
        (b"3", "dataset-foreign"),
        (b"null", "dataset-foreign"),
        (b'{"attributes": {}}', "dataset-foreign"),
        (b'{"zarr_format": 3, "attributes": 1}', "dataset-foreign"),
    ],
)
def test_a_damaged_group_is_refused(copy, content, code):
    (copy / "zarr.json").write_bytes(content)
    with refused(DatasetError, code, r"copy\.zarr"):
        open_dataset(copy)


@pytest.mark.parametrize("array", ["image", "mask", "depth"])
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "array-missing"),
        (b"", "array-missing"),
        (b"{", "metadata-damaged"),
        (b"[]", "metadata-damaged"),
        (b'{"zarr_format": 3, "node_type": "group"}', "array-missing"),
        (b'{"zarr_format": 3, "node_type": "array"}', "metadata-damaged"),
    ],
)
def test_damaged_metadata_of_an_array_is_refused(copy, array, content, code):
    if content is None:
        shutil.rmtree(copy / array)
    else:
        (copy / array / "zarr.json").write_bytes(content)
    with refused(DatasetError, code, rf"/{array}\b.*"):
        open_dataset(copy)


@pytest.mark.slow
def test_a_flipped_bit_is_an_error_never_a_wrong_pixel(depth_dataset, tmp_path):
    path = shutil.copytree(depth_dataset, tmp_path / "copy.zarr")
    ds = open_dataset(path)
    expected = {name: ds.whole(name) for name in ("image", "mask", "depth")}
    random = np.random.default_rng(0)
    for name, whole in expected.items():
        shard = next(p for p in (path / name / "c").rglob("*") if p.is_file())
        content = shard.read_bytes()
        for _ in range(40):
            damaged = bytearray(content)
            bit = int(random.integers(0, len(content) * 8))
            damaged[bit // 8] ^= 1 << bit % 8
            shard.write_bytes(damaged)
            with refused(DatasetError, "checksum-wrong", f"{name}/c/"):
                open_stored(path).whole(name)
        shard.write_bytes(content)
        np.testing.assert_array_equal(open_stored(path).whole(name), whole)


def test_what_is_not_a_dataset_is_refused(tmp_path):
    (tmp_path / "file.zarr").write_text("hello")
    (tmp_path / "empty").mkdir()
    zarr.create_array(tmp_path / "group.zarr", name="a", shape=(3,), dtype="i4")
    zarr.create_array(tmp_path / "array.zarr", shape=(3,), dtype="i4")
    zarr.create_group(tmp_path / "two.zarr", zarr_format=2)
    for name, code in (
        ("none.zarr", "dataset-missing"),
        ("file.zarr", "file-not-hdf5"),
        ("file.zarr/below", "dataset-missing"),
        ("empty", "dataset-missing"),
        ("", "dataset-foreign"),
        ("group.zarr", "dataset-foreign"),
        ("array.zarr", "dataset-foreign"),
        ("two.zarr", "dataset-foreign"),
    ):
        with refused(DatasetError, code, str(tmp_path / name)):
            open_dataset(tmp_path / name)
    assert not (tmp_path / "none.zarr").exists()


def test_paths_may_be_text_with_spaces_and_any_letters(dataset, tmp_path, monkeypatch):
    path = shutil.copytree(dataset, tmp_path / "größer als 背景.zarr")
    assert len(open_dataset(str(path))) == 36
    monkeypatch.chdir(tmp_path)
    assert len(open_dataset(path.name)) == 36
    assert open_dataset(path.name).path == path.name

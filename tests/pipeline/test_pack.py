"""A packed dataset is the same one in a single file: whatever kind it is, and for all that reads it."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import zipfile

import damage
import numpy as np
import pytest
import zarr
from builders import assert_same_arrays, names_in
from refusals import refused

import fgbgpack
from fgbgpack import create, fill_depth, open_dataset
from fgbgpack.cards import write_cards
from fgbgpack.dataset.explanation import explain
from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SpecError
from fgbgpack.export import export
from fgbgpack.pipeline import Progress, convert, diff, materialize, pack, verify
from fgbgpack.spec import DepthSpec


@pytest.fixture
def packed(kinds, tmp_path):
    """The dataset with depth and splits, as a zip file."""
    pack(kinds["split"], tmp_path / "split.zip")
    return tmp_path / "split.zip"


class TestReading:
    @pytest.mark.parametrize("kind", ["plain", "banded", "guided", "layered-virtual", "imported"])
    def test_it_holds_what_the_dataset_holds(self, kinds, tmp_path, kind):
        done = pack(kinds[kind], tmp_path / "it.zip")
        assert done.written
        assert done.total_bytes == (tmp_path / "it.zip").stat().st_size
        expected, ds = open_dataset(kinds[kind]), open_dataset(tmp_path / "it.zip")
        assert_same_arrays(ds.to_numpy(), expected.to_numpy())
        some = [len(ds) - 1, 0, 3, 3]
        assert_same_arrays(ds.read(some).arrays, expected.read(some).arrays)
        assert ds.stats() == expected.stats()
        assert verify(tmp_path / "it.zip").sound
        found = diff(kinds[kind], tmp_path / "it.zip")
        assert found.equal
        assert "values" not in {array.by for array in found.arrays.values()}

    def test_samples_are_read_in_other_processes(self, packed):
        ds = open_dataset(packed)
        expected = ds.read(range(36))
        assert_same_arrays(pickle.loads(pickle.dumps(ds)).read(range(36)).arrays, expected.arrays)
        if "fork" in multiprocessing.get_all_start_methods():
            reader, writer = os.pipe()
            child = os.fork()
            if not child:
                same = bool((ds.image[:] == expected.image).all())
                os.write(writer, b"1" if same else b"0")
                os._exit(0)
            os.waitpid(child, 0)
            assert os.read(reader, 1) == b"1"

    @pytest.mark.slow
    def test_workers_of_pytorch_read_it(self, packed):
        torch = pytest.importorskip("fgbgpack.torch")
        expected = open_dataset(packed)
        loader = torch.make_loader(str(packed), 8, workers=2, shuffle=False)
        images = np.concatenate([batch["image"].numpy() for batch in loader])
        np.testing.assert_array_equal(images.transpose(0, 2, 3, 1), expected.image[:])

    def test_as_zarr(self, packed, kinds):
        group = zarr.open_group(fgbgpack.store(packed), mode="r")
        np.testing.assert_array_equal(group["mask"][:], open_dataset(packed).mask[:])
        with zarr.storage.ZipStore(packed, mode="r") as store:
            np.testing.assert_array_equal(
                zarr.open_group(store, mode="r")["image"][5], open_dataset(kinds["split"]).image[5]
            )

    def test_where_bytes_are_is_told_within_the_shard(self, packed):
        chunk = explain(open_dataset(packed), 5)["arrays"]["image"]["chunks"][0]
        with zipfile.ZipFile(packed) as archive:
            content = archive.read(chunk["object"])
        assert content[chunk["offset"] + chunk["size"] - 4 :][:4][::-1].hex() == chunk["checksum"]

    def test_other_commands_take_it(self, packed, kinds, tmp_path):
        convert(packed, tmp_path / "it.h5")
        assert diff(packed, tmp_path / "it.h5").equal
        export(packed, tmp_path / "out", to="npz", samples=[slice(0, 3)])
        pack(packed, tmp_path / "again.zip")
        assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()
        pack(kinds["guided-virtual"], tmp_path / "virtual.zip")
        materialize(tmp_path / "virtual.zip", tmp_path / "stored.zarr")
        assert diff(kinds["guided"], tmp_path / "stored.zarr").equal
        shutil.unpack_archive(packed, tmp_path / "unpacked.zarr")
        assert diff(packed, tmp_path / "unpacked.zarr").layout == ()


class TestWriting:
    def test_the_same_dataset_gives_the_same_bytes(self, kinds, tmp_path):
        copy = shutil.copytree(kinds["depth"], tmp_path / "copy.zarr")
        for path in copy.rglob("*"):
            os.utime(path, (1, 1))
        (copy / "notes.txt").write_text("beside the dataset")
        for source, name in ((kinds["depth"], "one.zip"), (copy, "two.zip")):
            pack(source, tmp_path / name)
        assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
        with zipfile.ZipFile(tmp_path / "one.zip") as archive:
            assert archive.testzip() is None
            assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
            assert json.loads(archive.read("zarr.json"))["attributes"]["fgbgpack"]["complete"]

    def test_it_is_written_once_and_replaced_when_asked_for(self, kinds, tmp_path):
        pack(kinds["depth"], tmp_path / "it.zip")
        before = (tmp_path / "it.zip").stat().st_mtime_ns
        assert not pack(kinds["depth"], tmp_path / "it.zip").written
        assert (tmp_path / "it.zip").stat().st_mtime_ns == before
        copy = shutil.copytree(kinds["depth"], tmp_path / "copy.zarr")
        open_dataset(copy).save_split("fair", {"all": 1.0})
        for other in (copy, kinds["plain"]):
            with refused(RecipeMismatchError, "dataset-differs"):
                pack(other, tmp_path / "it.zip")
        assert pack(kinds["plain"], tmp_path / "it.zip", overwrite=True).written
        assert not open_dataset(tmp_path / "it.zip").has_depth
        (tmp_path / "text.zip").write_text("mine")
        with refused(RecipeMismatchError, "dataset-differs"):
            pack(kinds["plain"], tmp_path / "text.zip")
        assert (tmp_path / "text.zip").read_text() == "mine"

    @pytest.mark.parametrize("number", [0, 3, 20])
    def test_who_is_stopped_leaves_nothing(self, kinds, tmp_path, number):
        def stop(event):
            if isinstance(event, Progress) and event.done == number:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pack(kinds["depth"], tmp_path / "it.zip", on_event=stop)
        assert names_in(tmp_path) == []

    def test_what_cannot_be_packed_is_refused(self, kinds, tmp_path, pictures):
        with refused(DatasetError, "target-unsupported", "HDF5"):
            pack(kinds.hdf5("depth"), tmp_path / "it.zip")
        with refused(SpecError, "option-invalid"):
            pack(kinds["depth"], tmp_path / "it.tar")
        copy = shutil.copytree(kinds["depth"], tmp_path / "copy.zarr")
        damage.delete(damage.objects(copy, "image")[0])
        with refused(DatasetError, "dataset-damaged"):
            pack(copy, tmp_path / "it.zip")
        node = json.loads((copy / "zarr.json").read_text(encoding="utf-8"))
        document = node["attributes"]["fgbgpack"]
        document["complete"] = document["pixels"]["complete"] = False
        (copy / "zarr.json").write_text(json.dumps(node), encoding="utf-8")
        with refused(IncompleteDatasetError, "dataset-incomplete"):
            pack(copy, tmp_path / "it.zip")
        assert not (tmp_path / "it.zip").exists()

    def test_a_zip_file_is_not_changed(self, packed, pictures, depth_model, tmp_path):
        before, ds = packed.read_bytes(), open_dataset(packed)
        with refused(DatasetError, "store-read-only"):
            ds.save_split("new", {"all": 1.0})
        with refused(DatasetError, "store-read-only"):
            ds.save_stats(ds.stats())
        with refused(DatasetError, "target-unsupported"):
            fill_depth(packed, DepthSpec(str(depth_model), scale=1), overwrite=True)
        with refused(DatasetError, "target-unsupported"):
            create(packed, pictures.spec(), overwrite=True)
        with refused(SpecError, "folder-missing"):
            write_cards(packed)
        assert write_cards(packed, folder=tmp_path / "cards").datacard.exists()
        assert packed.read_bytes() == before

"""What is exported as MDS, as StreamingDataset reads it."""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
from builders import tree
from other_tools import MDS, needs, printed_by

from fgbgpack import create, open_dataset
from fgbgpack.errors import SpecError
from fgbgpack.export import export

needs_reader = needs("streaming", "torch", packages=MDS)

#: The modules of the reader as they are, less what ``streaming`` and ``streaming.base`` import of themselves:
#: data of other kinds, and a loader that needs transformers.
PREAMBLE = """
import json, sys, types
from importlib.util import find_spec
for name in ("streaming", "streaming.base"):
    spec = find_spec(name)
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = spec.submodule_search_locations
import numpy as np
from streaming.base.dataset import StreamingDataset
from streaming.base.local import LocalDataset
sys.modules["streaming"].StreamingDataset = StreamingDataset
"""

INDEX = "index.json"


def in_reader(tmp_path: Path, code: str, *arguments: object) -> str:
    """What a program prints that has the reader; it fails as the program does."""
    return printed_by(PREAMBLE + textwrap.dedent(code), *arguments, cwd=tmp_path, packages=MDS)


#: Reads all samples of some folders, and saves each column of each.
READ_ALL = """
    out, *parts = sys.argv[1:]
    for number, part in enumerate(parts):
        ds = StreamingDataset(
            remote=out, local=f"cache-{number}", split=part, batch_size=1, validate_hash="sha1"
        )
        samples = [ds[i] for i in range(len(ds))]
        columns = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
        np.savez(f"read-{number}.npz", **columns)
"""

COMPRESSIONS = {"none": "none", "zstd": "zstd", "best": "zstd:22"}
PARTS = ("train", "val")


@pytest.fixture(scope="module")
def read_back(tmp_path_factory, depth_dataset, split_dataset, imported, annotated):
    """All columns of exports as the reader has them, by their folders: to it any folder is a part. It starts
    once.
    """
    out = tmp_path_factory.mktemp("read-back")
    for folder, compression in COMPRESSIONS.items():
        export(depth_dataset, out / folder, to="mds", compression=compression, shard_bytes=30_000)
    export(split_dataset, out / "split", to="mds", split="by-background")
    export(imported, out / "imported", to="mds")
    export(annotated, out / "annotated", to="mds")
    folders = [*COMPRESSIONS, *(f"split/{part}" for part in PARTS), "imported", "annotated"]
    in_reader(out, READ_ALL, out, *folders)
    return {folder: dict(np.load(out / f"read-{number}.npz")) for number, folder in enumerate(folders)}


def assert_same(found: dict[str, np.ndarray], ds, samples: np.ndarray) -> None:
    """A part has the dataset's values, of its types."""
    truth = ds.read(samples).arrays
    assert set(found) == {*truth, "sample"}
    np.testing.assert_array_equal(found["sample"], samples)
    for name, array in truth.items():
        np.testing.assert_array_equal(found[name], array)
        if name in ds.fields:
            assert found[name].dtype == array.dtype
        else:
            assert found[name].dtype == np.int64


@pytest.fixture(scope="module")
def exported(tmp_path_factory, depth_dataset):
    """Several shards."""
    out = tmp_path_factory.mktemp("mds") / "all"
    export(depth_dataset, out, to="mds", shard_bytes=30_000)
    return out


@pytest.mark.slow
@needs_reader
def test_streaming_reads_every_sample(read_back, depth_dataset):
    ds = open_dataset(depth_dataset)
    for folder in COMPRESSIONS:
        assert_same(read_back[folder], ds, np.arange(len(ds)))


@needs_reader
def test_streaming_reads_each_part_of_a_split(read_back, split_dataset):
    for part, samples in split_dataset.split("by-background").items():
        assert_same(read_back[f"split/{part}"], split_dataset, samples)


@needs_reader
def test_imported_samples_have_their_names_and_objects(read_back, imported, annotated):
    found = read_back["imported"]
    assert sorted(found) == ["depth", "image", "mask", "name", "sample"]
    assert found["name"].tolist() == imported.names
    for field in imported.fields:
        np.testing.assert_array_equal(found[field], getattr(imported, field)[:])
    scenes = read_back["annotated"]
    assert scenes["name"].tolist() == annotated.names
    objects = [json.loads(text) for text in scenes["objects"].tolist()]
    assert [len(of_sample) for of_sample in objects] == annotated.objects.count.tolist()
    for of_sample, boxes in zip(objects, annotated.objects.box.tolist(), strict=True):
        assert [one["box"] for one in of_sample] == boxes[: len(of_sample)]


@pytest.mark.slow
@needs_reader
def test_streaming_goes_through_an_epoch_in_batches(tmp_path, exported):
    printed = in_reader(
        tmp_path,
        """
        from torch.utils.data import DataLoader
        ds = StreamingDataset(remote=sys.argv[1], local="cache", batch_size=5, shuffle=True, shuffle_seed=1)
        batches = list(DataLoader(ds, batch_size=5))
        assert all(batch["image"].shape[1:] == (21, 33, 3) for batch in batches)
        print(json.dumps([number for batch in batches for number in batch["sample"].tolist()]))
        """,
        exported,
    )
    order = json.loads(printed)
    assert sorted(order) == list(range(36))
    assert order != sorted(order)


@pytest.mark.slow
@needs_reader
def test_the_lines_that_say_how_to_open_it_do(tmp_path, own_pictures):
    create(tmp_path / "d.zarr", own_pictures.spec())
    open_dataset(tmp_path / "d.zarr").save_split("two", {"it's train": 2 / 3, "test": 1 / 3})
    report = export(tmp_path / "d.zarr", tmp_path / "out", to="mds", split="two")
    lines = "\n".join([*report.opened_by, "print(len(ds))"])
    assert int(in_reader(tmp_path, lines)) == report.parts["it's train"]


@pytest.mark.slow
@needs_reader
def test_what_is_not_compressed_is_read_in_its_place(tmp_path, dataset):
    export(dataset, tmp_path / "out", to="mds", compression="none", samples=[7, 3, 30])
    printed = in_reader(
        tmp_path,
        """
        ds = LocalDataset(sys.argv[1])
        print(json.dumps([[ds[i]["sample"], int(ds[i]["mask"].sum())] for i in range(len(ds))]))
        """,
        tmp_path / "out",
    )
    truth = open_dataset(dataset).read([3, 7, 30]).mask.sum(axis=(1, 2)).tolist()
    assert json.loads(printed) == [list(pair) for pair in zip([3, 7, 30], truth, strict=True)]


@pytest.mark.slow
@needs_reader
def test_a_damaged_shard_is_found(tmp_path, depth_dataset):
    out = tmp_path / "out"
    export(depth_dataset, out, to="mds")
    shard = out / "shard.00000.mds.zstd"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    printed = in_reader(
        tmp_path,
        """
        ds = StreamingDataset(remote=sys.argv[1], local="cache", batch_size=1, validate_hash="sha1")
        try:
            ds[0]
        except ValueError as exc:
            print(exc)
        """,
        out,
    )
    assert "Checksum failure" in printed


def test_shards_are_cut_by_bytes_and_the_index_tells_them(exported):
    index = json.loads((exported / INDEX).read_text())
    assert index["version"] == 2
    assert sum(shard["samples"] for shard in index["shards"]) == 36
    names = [shard["zip_data"]["basename"] for shard in index["shards"]]
    assert names == [f"shard.{i:05d}.mds.zstd" for i in range(len(names))]
    assert {path.name for path in exported.iterdir()} == {
        *(*names, INDEX, "fgbgpack.json", "fgbgpack-files.csv")
    }
    one_more = (index["shards"][0]["raw_data"]["bytes"] // index["shards"][0]["samples"]) * 1.1
    for shard in index["shards"]:
        data = (exported / shard["zip_data"]["basename"]).read_bytes()
        assert shard["zip_data"]["bytes"] == len(data)
        assert shard["zip_data"]["hashes"] == {"sha1": hashlib.sha1(data).hexdigest()}
        assert shard["raw_data"]["bytes"] <= 30_000
    for shard in index["shards"][:-1]:
        assert shard["raw_data"]["bytes"] + one_more > 30_000


def test_a_sample_larger_than_a_shard_has_one_alone(tmp_path, dataset):
    export(dataset, tmp_path / "out", to="mds", shard_bytes=10, samples=[0, 1, 2])
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert [shard["samples"] for shard in index["shards"]] == [1, 1, 1]


def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path, exported, depth_dataset):
    export(depth_dataset, tmp_path / "again", to="mds", shard_bytes=30_000, workers=1)
    assert tree(tmp_path / "again") == tree(exported)


def test_the_numbers_of_sources_are_explained(exported):
    details = json.loads((exported / "fgbgpack.json").read_text())["details"]
    assert details["sources"] == {
        "background": ["b0.png", "b1.png", "b2.png"],
        "foreground": ["f0.png", "f1.png"],
    }
    assert details["columns"]["depth"] == "ndarray:float16:21,33"


def test_all_problems_are_reported_together(tmp_path, dataset):
    with pytest.raises(SpecError) as caught:
        export(dataset, tmp_path / "out", to="mds", compression="zstd:23", shard_bytes=1 << 31)
    assert caught.value.code == "export-options-invalid"
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--compression", "--shard-size"]
    assert not (tmp_path / "out").exists()

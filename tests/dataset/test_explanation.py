"""What is said of one sample is what its dataset holds, down to the bytes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from builders import SMALL_SHARDS, depth_of

from fgbgpack import create, open_dataset
from fgbgpack.composition.kernels import philox4x32, philox_key
from fgbgpack.dataset.explanation import explain
from fgbgpack.errors import DatasetError
from fgbgpack.storage.codecs import crc32c
from fgbgpack.visual.layers_picture import render_layers


@pytest.fixture(scope="module")
def scenes(pictures, tmp_path_factory, depth_model):
    path = tmp_path_factory.mktemp("scenes") / "it.zarr"
    spec = pictures.spec(
        samples=20,
        objects="1-3",
        empty=0.2,
        foreground_height="6-12",
        blend="hard",
        depth=depth_of(depth_model, mode="layered", scale=2),
    )
    create(path, spec, layout=SMALL_SHARDS)
    return open_dataset(path)


@pytest.mark.parametrize("kind", ["plain", "banded", "guided", "imported"])
def test_the_bytes_that_are_named_are_those_of_the_chunk(kinds, kind):
    ds = open_dataset(kinds[kind])
    for sample in (0, len(ds) - 1):
        found = explain(ds, sample)
        assert json.loads(json.dumps(found)) == found
        for name, array in found["arrays"].items():
            assert array["bytes"] == ds[sample].arrays[name].nbytes
            chunks = ds.plane(name).chunks if name != "depth" else ds.depth.chunks
            assert len(array["chunks"]) == -(-ds.height // chunks[1])
            for chunk in array["chunks"]:
                content = (kinds[kind] / chunk["object"]).read_bytes()
                encoded = content[chunk["offset"] : chunk["offset"] + chunk["size"]]
                assert encoded[-4:] == crc32c(encoded[:-4])
                assert encoded[-4:][::-1].hex() == chunk["checksum"]
                assert sample % chunks[0] == chunk["row"] < chunk["samples"] <= chunks[0]


def test_a_chunk_that_is_damaged_is_the_one_that_reading_names(kinds, tmp_path):
    path = shutil.copytree(kinds["depth"], tmp_path / "it.zarr")
    chunk = explain(open_dataset(path), 20)["arrays"]["depth"]["chunks"][0]
    content = bytearray((path / chunk["object"]).read_bytes())
    content[chunk["offset"] + 3] ^= 1
    (path / chunk["object"]).write_bytes(content)
    with pytest.raises(DatasetError, match=f"Chunk {chunk['chunk']} of shard .*{chunk['object']}"):
        open_dataset(path).depth[20]


def test_of_an_hdf5_file_bytes_are_those_of_the_file(kinds):
    path = kinds.hdf5("depth")
    for array in explain(open_dataset(path), 7)["arrays"].values():
        (chunk,) = array["chunks"]
        encoded = path.read_bytes()[chunk["offset"] : chunk["offset"] + chunk["size"]]
        assert chunk["object"] == str(path)
        assert chunk["checksum"] == f"{int.from_bytes(crc32c(encoded), 'little'):08x}"


def test_the_draw_gives_the_placement(kinds):
    ds = open_dataset(kinds["plain"])
    for sample in range(len(ds)):
        found = explain(ds, sample)
        counter = np.array([[int(word, 16) for word in found["draw"]["counter"]]], np.uint32)
        key = np.array([int(word, 16) for word in found["draw"]["key"]], np.uint32)
        assert key.tolist() == philox_key(ds.document.spec.seed).tolist()
        words = np.empty_like(counter)
        philox4x32(counter, key, words)
        (pasted,) = found["objects"]
        free = 21 + 1 - pasted["height"], 33 + 1 - pasted["width"]
        corner = [int(word) * many >> 32 for word, many in zip(words[0].tolist(), free, strict=False)]
        assert [pasted["y"], pasted["x"]] == corner
        assert found["background"]["sha256"][:8] == found["draw"]["counter"][0]
        assert pasted["box"] == ds.bbox[sample].tolist()


def test_objects_of_scenes_are_listed_far_to_near_with_their_depth(scenes):
    counts = set()
    for sample in range(len(scenes)):
        found, objects = explain(scenes, sample), scenes.objects
        there = int((objects.foreground[sample] >= 0).sum())
        counts.add(there)
        assert len(found["objects"]) == len(found["depth"]["objects"]) == there
        depth, instance = scenes.depth[sample], scenes.instance[sample]
        for k, one in enumerate(found["objects"]):
            assert one["foreground"]["number"] == objects.foreground[sample, k]
            assert one["visible"] == float(objects.visible[sample, k])
            if one["visible"]:
                assert set(depth[instance == k + 1].tolist()) == {found["depth"]["objects"][k]}
    assert {0, 1} < counts


def test_splits_virtual_and_imported_ones(kinds):
    ds = open_dataset(kinds["split"])
    for sample in (0, 20):
        parts = explain(ds, sample)["parts"]
        for name, part in parts.items():
            there = [one for one, samples in ds.split(name).items() if sample in samples]
            assert there == ([] if part is None else [part])
    virtual = explain(open_dataset(kinds["layered-virtual"]), 3)
    assert {array["composed"] for array in virtual["arrays"].values()} == {True}
    assert virtual["depth"]["objects"]
    imported = explain(open_dataset(kinds["imported"]), 3)
    assert imported["imported"]["name"] == imported["name"] == open_dataset(kinds["imported"]).names[3]
    assert (imported["draw"], imported["background"], imported["objects"]) == (None, None, None)


def test_no_other_sample_is_looked_at(kinds, scenes):
    for path in (kinds["plain"], kinds["layered"], scenes.path):
        ds = open_dataset(path)
        explain(ds, 3)
        assert not {"sample_arrays", "placements", "objects"} & vars(ds).keys()


def test_there_are_no_samples_beyond_the_last(kinds):
    ds = open_dataset(kinds["plain"])
    assert explain(ds, -1)["sample"] == 35
    with pytest.raises(IndexError):
        explain(ds, 36)


def test_layers_are_drawn_one_beside_the_other(scenes, kinds):
    most = int(np.argmax(scenes.objects.count))
    least = int(np.argmin(scenes.objects.count))
    assert render_layers(scenes, most).height >= render_layers(scenes, least).height
    alone = render_layers(open_dataset(kinds["imported-plain"]), 2)
    assert alone.width < render_layers(open_dataset(kinds["plain"]), 2).width

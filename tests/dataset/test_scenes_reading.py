"""Scenes as users read them: batches, objects, boxes, choices and splits, exports and pictures."""

from __future__ import annotations

import csv
import json
import tarfile

import numpy as np
import pytest
from builders import SMALL_SHARDS, assert_same_arrays, depth_of
from refusals import refused

from fgbgpack import create, open_dataset
from fgbgpack.document import OBJECT_ARRAYS
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.export import export, verify_export
from fgbgpack.visual.preview import render_preview
from fgbgpack.visual.shown_samples import spread_samples

N = 60


@pytest.fixture(scope="module", params=["stored", "virtual"])
def scenes(request, pictures, tmp_path_factory, depth_model, guide_model):
    """An open dataset of scenes with guided depth, not to be changed."""
    path = tmp_path_factory.mktemp("scenes") / "it.zarr"
    spec = pictures.spec(
        samples=N,
        objects="1-3",
        empty=0.2,
        foreground_height="6-12",
        truncate=0.3,
        rotation=15 if request.param == "virtual" else 0,
        depth=depth_of(depth_model, guide=str(guide_model)),
    )
    create(path, spec, layout=SMALL_SHARDS, virtual=request.param == "virtual")
    return open_dataset(path)


def test_batches_hold_the_objects_of_their_samples(scenes):
    everything, objects = scenes.to_numpy(), scenes.objects
    assert scenes.fields == ("image", "mask", "instance", "depth")
    assert objects.foreground.shape == (N, 3)
    for some in ([4], [59, 0, 0, 17], slice(3, 30)):
        batch = scenes.read(some)
        assert_same_arrays(batch.arrays, {name: array[some] for name, array in everything.items()})
        assert_same_arrays(batch.objects.arrays(), objects[np.arange(N)[some]].arrays())
    one = scenes[5]
    assert one.instance.shape == (21, 33)
    assert one.objects.foreground.tolist() == objects.foreground[5].tolist()
    found = list(scenes.batches(16, shuffle=True, seed=3, fields=["instance"]))
    assert sum(len(batch.instance) for batch in found) == N
    again = scenes.read([3, 4], out=scenes.read([8, 9]))
    np.testing.assert_array_equal(again.instance, everything["instance"][[3, 4]])


def test_the_empty_background_is_read_where_it_is_named(scenes):
    some = np.array([50, 2, 2])
    batch = scenes.read(some, fields=["mask", "background_image", "background_depth"])
    which = scenes.sample_arrays["background"][some]
    np.testing.assert_array_equal(batch.background_image, scenes.catalog().background[which])
    np.testing.assert_array_equal(batch.background_depth, scenes.background_depth[:][which])
    # Where no object is, the composite is the background.
    image = scenes.read(some).image
    nothing = batch.mask == 0
    np.testing.assert_array_equal(image[nothing], batch.background_image[nothing])
    with refused(SpecError, "field-missing"):
        _ = scenes.read(some).background_image


def test_boxes_areas_and_shares_are_those_of_the_instances(scenes):
    instance, objects = scenes.instance[:], scenes.objects
    np.testing.assert_array_equal(scenes.area, (instance > 0).sum(axis=(1, 2)))
    for i in range(N):
        seen = np.argwhere(instance[i] > 0)
        assert scenes.bbox[i].tolist() == (
            [*seen.min(axis=0), *(seen.max(axis=0) + 1)] if len(seen) else [0] * 4
        )
        for k in range(3):
            own = np.argwhere(instance[i] == k + 1)
            expected = [*own.min(axis=0), *(own.max(axis=0) + 1)] if len(own) else [0] * 4
            if k < objects.count[i]:
                assert objects.box[i, k].tolist() == expected
            else:
                assert (len(own), objects.box[i, k].tolist()) == (0, [-1] * 4)


def test_what_only_single_foregrounds_have_is_refused(scenes):
    for name in ("placements", "visible"):
        with refused(DatasetError, "placements-missing"):
            getattr(scenes, name)
    with refused(SpecError, "field-missing", "objects"):
        _ = scenes[0].foreground


def test_others_have_no_objects(pictures, tmp_path):
    create(tmp_path / "it.zarr", pictures.spec(placements=1))
    plain = open_dataset(tmp_path / "it.zarr")
    for read in (lambda: plain.objects, lambda: plain.instance):
        with refused(DatasetError, "objects-missing"):
            read()
    with refused(SpecError, "field-missing"):
        _ = plain[0].objects
    with refused(SpecError, "field-unknown"):
        plain.read([0], fields="instance")
    np.testing.assert_array_equal(
        plain.read([7], fields="background_image").background_image[0],
        plain.catalog().background[plain.placements.background[7]],
    )


def test_samples_are_found_by_any_of_their_objects(scenes):
    objects = scenes.objects
    for number, name in enumerate(("f0.png", "f1.png")):
        expected = np.flatnonzero((objects.foreground == number).any(axis=1))
        np.testing.assert_array_equal(scenes.where(foreground=name), expected)
    np.testing.assert_array_equal(scenes.where(flip=True), np.flatnonzero((objects.flip == 1).any(axis=1)))
    np.testing.assert_array_equal(scenes.where(flip=False), np.flatnonzero((objects.flip == 0).any(axis=1)))
    found = scenes.where(background=1, replica=[0, 19])
    assert found.tolist() == [20, 39]
    with refused(SpecError, "sample-unknown"):
        scenes.where(replica=20)


@pytest.mark.parametrize("by", ["background", "foreground", "both", "sample"])
def test_splits_keep_sources_apart(scenes, by):
    parts = scenes.split({"train": 0.5, "test": 0.5}, by=by, seed=2)
    assert not set(parts["train"]) & set(parts["test"])
    assert all(len(part) for part in parts.values())
    used = {
        "background": {
            n: set(scenes.sample_arrays["background"][part].tolist()) for n, part in parts.items()
        },
        "foreground": {
            n: set(scenes.objects.foreground[part].ravel().tolist()) - {-1} for n, part in parts.items()
        },
    }
    for kind, sets in used.items():
        if by in (kind, "both"):
            assert not sets["train"] & sets["test"]
    if by in ("background", "sample"):
        assert sum(map(len, parts.values())) == N
    if by == "foreground":
        # Samples without any foreground are in one of the parts.
        empty = set(np.flatnonzero(scenes.objects.count == 0).tolist())
        assert empty <= {int(i) for part in parts.values() for i in part}


def test_coco_has_an_annotation_for_each_object_that_is_seen(scenes, tmp_path):
    export(scenes, tmp_path / "coco", to="coco")
    found = json.loads((tmp_path / "coco" / "annotations" / "instances_all.json").read_text())
    instance = scenes.instance[:]
    expected = [(i, k) for i in range(N) for k in range(1, 4) if (instance[i] == k).any()]
    assert len(found["annotations"]) == len(expected)
    assert len({one["id"] for one in found["annotations"]}) == len(expected)
    for annotation, (sample, number) in zip(found["annotations"], expected, strict=True):
        top, left, bottom, right = scenes.objects.box[sample, number - 1].tolist()
        assert annotation["image_id"] == sample
        assert annotation["bbox"] == [left, top, right - left, bottom - top]
        assert annotation["area"] == (instance[sample] == number).sum()


@pytest.mark.parametrize("target", ["webdataset", "npz", "folder"])
def test_other_formats_hold_instances_and_say_what_objects_are(scenes, tmp_path, target):
    export(scenes, tmp_path / target, to=target)
    assert verify_export(tmp_path / target).sound
    names = [source.name for source in scenes.document.sources.foregrounds]
    found = objects_of(tmp_path / target, target)
    assert len(found) == N
    for i, record in enumerate(found):
        expected = [names[number] for number in scenes.objects.foreground[i] if number >= 0]
        assert [one["foreground"] for one in record] == expected
        assert [one["box"] for one in record] == scenes.objects.box[i, : len(record)].tolist()


def objects_of(folder, target):
    """What an export says of the objects of each sample."""
    if target == "npz":
        with np.load(folder / "part-00000.npz") as arrays:
            return [json.loads(text) for text in arrays["objects"]]
    if target == "folder":
        with (folder / "metadata.csv").open(newline="") as table:
            return [json.loads(row["objects"]) for row in csv.DictReader(table)]
    if target == "webdataset":
        with tarfile.open(folder / "samples-000000.tar") as tar:
            records = [name for name in tar.getnames() if name.endswith(".json")]
            return [json.load(tar.extractfile(name))["objects"] for name in records]
    raise ValueError(target)


def test_mds_has_columns_of_scenes(scenes, tmp_path):
    export(scenes, tmp_path / "mds", to="mds")
    assert verify_export(tmp_path / "mds").sound
    shard = json.loads((tmp_path / "mds" / "index.json").read_text())["shards"][0]
    columns = dict(zip(shard["column_names"], shard["column_encodings"], strict=True))
    assert columns.keys() == {
        "image",
        "mask",
        "instance",
        "depth",
        "sample",
        "background",
        "replica",
        "objects",
    }
    assert (columns["objects"], columns["instance"]) == ("str", "ndarray:uint8:21,33")


def test_previews_show_scenes(scenes):
    chosen = spread_samples(scenes, 7, seed=0)
    assert len(set(chosen)) == 7
    assert set(scenes.sample_arrays["background"][chosen[:7]].tolist()) == {0, 1, 2}
    assert render_preview(scenes, rows=3).size == render_preview(scenes, samples=chosen[:3]).size
    narrow = render_preview(scenes, rows=3, columns=["image", "instance"])
    assert narrow.width < render_preview(scenes, rows=3).width
    with refused(SpecError, "preview-invalid", "foreground"):
        render_preview(scenes, columns=["foreground"])


class TestTorch:
    def test_samples_have_instances_and_objects(self, scenes):
        torch = pytest.importorskip("torch")
        from fgbgpack.torch import FgBgDataset, make_loader

        dataset = FgBgDataset(scenes, placements=True)
        one = dataset[7]
        assert one["instance"].dtype == torch.uint8
        assert one["instance"].shape == (1, 21, 33)
        for path in OBJECT_ARRAYS:
            np.testing.assert_array_equal(one[path].numpy(), scenes.sample_arrays[path][7])
        fields = ["mask", "instance", "background_image", "background_depth"]
        for batch in make_loader(scenes, batch_size=9, fields=fields, dtype=torch.float32, workers=0):
            samples = batch["index"].numpy()
            expected = scenes.read(samples, fields)
            np.testing.assert_array_equal(batch["instance"][:, 0].numpy(), expected.instance)
            np.testing.assert_array_equal(batch["background_depth"][:, 0].numpy(), expected.background_depth)
            picture = batch["background_image"].permute(0, 2, 3, 1).numpy()
            np.testing.assert_allclose(picture, expected.background_image / 255, rtol=1e-6)

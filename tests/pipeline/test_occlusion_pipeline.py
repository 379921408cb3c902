"""Datasets in which things of backgrounds hide those who stand behind them."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import onnx_models
import pytest
import zarr
from builders import SMALL_SHARDS, Pictures, Stop, assert_same_arrays, assert_same_files, depth_of, tree
from PIL import Image
from refusals import refused
from sample_folders import Events

from fgbgpack import DepthSpec, create, open_dataset
from fgbgpack.cards import write_cards
from fgbgpack.composition.floor import find_floor
from fgbgpack.composition.occlusion import front_rows, hidden_feet
from fgbgpack.composition.standing import feet_rows
from fgbgpack.errors import RecipeMismatchError, SpecError
from fgbgpack.export import export
from fgbgpack.pipeline import begin_create, create_part, estimate, finish_create, materialize, repair, verify

SIDE, HORIZON, WALL, CAMERA, FOCAL = 64, 25.0, 8.0, 1.55, 64.0
#: A box on the floor: the distances of its front and its back, its height, and half its width, in metres.
NEAR, FAR, HIGH, HALF = 2.6, 3.0, 0.8, 0.4
FRONT = "sources/front_row"
STANDING = {
    "samples": 50,
    "objects": "1-2",
    "foreground_height": "10-60",
    "width": SIDE,
    "height": SIDE,
    "chunk": 5,
    "placement": "floor",
    "overlap": 0.1,
    "rotation": 6,
    "shadow": True,
    "occlude": True,
}


def room():
    """(h, w) metres: a floor, seen by a level camera, up to a wall, and a box before it."""
    down = np.maximum(np.arange(SIDE) + 0.5 - HORIZON, 0.1)[:, None] / FOCAL
    across = np.abs(np.arange(SIDE) + 0.5 - SIDE / 2)[None] / FOCAL
    depth = np.minimum(CAMERA / down, WALL) + 0 * across
    top = (CAMERA - HIGH) / down
    depth = np.where((top >= NEAR) & (top <= FAR) & (across * top <= HALF), top, depth)
    face = (across * NEAR <= HALF) & (down * NEAR >= CAMERA - HIGH) & (down * NEAR <= CAMERA)
    return np.where(face, NEAR, depth).astype(np.float32)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """A room and its mirror image, further away, their depth, and two whole figures; not to be changed."""
    pictures = Pictures(tmp_path_factory.mktemp("rooms"), backgrounds=0, size=(SIDE, SIDE), patch=(60, 20))
    (pictures.root / "depth").mkdir()
    for name, depth in (("b0", room()), ("b1", np.roll(room(), 9, axis=1))):
        gray = np.rint(depth * 25).astype(np.uint8)
        Image.fromarray(np.repeat(gray[..., None], 3, axis=2)).save(pictures.backgrounds / f"{name}.png")
        np.save(pictures.root / "depth" / f"{name}.npy", depth)
    return pictures


@pytest.fixture(scope="module")
def spec(rooms):
    return rooms.spec(**STANDING, background_depth=str(rooms.root / "depth"), depth=DepthSpec())


@pytest.fixture(scope="module")
def made(spec, tmp_path_factory):
    """A dataset and its virtual twin, not to be changed."""
    folder, events = tmp_path_factory.mktemp("occluded"), Events()
    create(folder / "stored.zarr", spec, layout=SMALL_SHARDS, workers=1, on_event=events)
    create(folder / "virtual.zarr", spec, layout=SMALL_SHARDS, virtual=True)
    assert "Figures can stand behind things in 2 of 2 backgrounds." in events.notices
    return folder


def hidden_pixels(ds):
    """By sample of one figure: where things hide it, of the rectangle that it is in before it is turned."""
    recipe, objects, background = ds.recipe, ds.objects, ds.whole("background")
    sprite = recipe.sprites.index(objects.foreground, objects.height, objects.blend)
    feet = feet_rows(recipe.sprites, recipe.catalog.cut, sprite, objects)
    found = {}
    for i in np.flatnonzero(objects.count == 1):
        top, left = int(objects.y[i, 0]), int(objects.x[i, 0])
        is_in = np.zeros((SIDE, SIDE), np.bool_)
        is_in[max(0, top) : top + objects.height[i, 0], max(0, left) : left + objects.width[i, 0]] = True
        is_in &= ds.whole(FRONT)[background[i]] >= feet[i, 0]
        if is_in.sum() > 20:
            found[int(i)] = is_in
    return found


def test_what_is_stored_is_what_depth_tells(made):
    ds = open_dataset(made / "stored.zarr")
    stored, persons = ds.whole(FRONT), ds.whole("sources/person_pixels")
    assert (stored.dtype, stored.shape) == (np.int16, (2, SIDE, SIDE))
    for depth, front, person in zip(ds.background_depth[:], stored, persons, strict=True):
        inverse = 1 / depth.astype(np.float64)
        floor = find_floor(inverse, is_metric=True)
        np.testing.assert_array_equal(front, front_rows(inverse, floor))
        hidden = hidden_feet(inverse, floor, front)
        assert (person[hidden] > 0).any()


def test_things_in_front_show_in_all_that_is_made(made, tmp_path):
    ds = open_dataset(made / "stored.zarr")
    found = hidden_pixels(ds)
    assert len(found) >= 3
    assert (ds.objects.visible[[*found], 0] < 0.9).sum() >= 3
    background, pictures = ds.whole("background"), ds.recipe.catalog.background
    for i, is_behind in found.items():
        sample = ds[i]
        assert not sample.mask[is_behind].any()
        assert not ds.instance[i][is_behind].any()
        np.testing.assert_array_equal(sample.image[is_behind], pictures[background[i]][is_behind])
        far = ds.background_depth[background[i]][is_behind]
        assert np.abs(sample.depth[is_behind] - far).max() < 0.02
        seen = ds.instance[i] == 1
        rows, columns = np.nonzero(seen)
        box = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        assert ds.objects.box[i, 0].tolist() == box
        assert (sample.depth[seen] > sample.depth[is_behind].min()).mean() > 0.9
    export(ds, tmp_path / "coco", to="coco")
    found_there = json.loads((tmp_path / "coco" / "annotations" / "instances_all.json").read_text())
    areas = {}
    for one in found_there["annotations"]:
        areas.setdefault(one["image_id"], []).append(one["area"])
    numbers = sorted(one["id"] for one in found_there["images"])
    for i in found:
        assert areas[numbers[i]] == [int((ds.instance[i] == 1).sum())]


def test_stored_recomposed_and_virtual_samples_are_the_same(made, tmp_path):
    stored, virtual = (open_dataset(made / f"{kind}.zarr") for kind in ("stored", "virtual"))
    assert_same_arrays(virtual.to_numpy(), stored.to_numpy())
    assert_same_arrays(open_dataset(made / "stored.zarr", pixels="recomposed").to_numpy(), stored.to_numpy())
    np.testing.assert_array_equal(virtual.depth[:], stored.depth[:])
    assert verify(made / "stored.zarr", depth=8).sound
    shutil.copytree(made / "virtual.zarr", tmp_path / "v.zarr")
    materialize(tmp_path / "v.zarr", layout=SMALL_SHARDS)
    assert tree(tmp_path / "v.zarr") == tree(made / "stored.zarr")


@pytest.mark.parametrize("workers", [2, 7])
def test_any_number_of_workers_makes_the_same_files(made, tmp_path, spec, workers):
    create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS, workers=workers)
    assert_same_files(tmp_path / "it.zarr", made / "stored.zarr")


@pytest.mark.parametrize("stage", ["samples", "backgrounds", "depth"])
def test_what_was_stopped_is_finished(made, tmp_path, spec, stage):
    with pytest.raises(KeyboardInterrupt):
        create(tmp_path / "it.zarr", spec, workers=1, on_event=Stop(stage, 1), layout=SMALL_SHARDS)
    events = Events()
    create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS, on_event=events)
    assert tree(tmp_path / "it.zarr") == tree(made / "stored.zarr")
    assert ("Floors: " in events.notices) == (stage == "backgrounds")


def test_parts_make_the_same_files(made, tmp_path, spec):
    begin_create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
    for part in (1, 0):
        create_part(tmp_path / "it.zarr", part, 2)
    finish_create(tmp_path / "it.zarr")
    assert tree(tmp_path / "it.zarr") == tree(made / "stored.zarr")


def test_what_is_lost_is_repaired_and_what_others_wrote_is_found(made, tmp_path):
    path = tmp_path / "it.zarr"
    shutil.copytree(made / "stored.zarr", path)
    shutil.rmtree(path / FRONT / "c")
    assert not verify(path).sound
    assert repair(path).left_count == 0
    assert_same_files(path, made / "stored.zarr")
    array = zarr.open_group(path)[FRONT]
    values = array[:]
    values[0, 40, 5] += 1
    array[:] = values
    assert {fault.array for fault in verify(path).faults} >= {FRONT}


def test_an_epoch_is_the_dataset_of_its_seed(made, tmp_path, spec):
    epoch = open_dataset(made / "virtual.zarr").at_epoch(3)
    create(tmp_path / "it.zarr", dataclasses.replace(spec, seed=epoch.seed), virtual=True)
    fields = [*epoch.fields]
    assert_same_arrays(epoch.to_numpy(fields), open_dataset(tmp_path / "it.zarr").to_numpy(fields))
    assert "depth" in fields


def test_without_it_is_another_dataset(made, tmp_path, spec):
    path = tmp_path / "it.zarr"
    shutil.copytree(made / "stored.zarr", path)
    with refused(RecipeMismatchError, "dataset-differs") as error:
        create(path, dataclasses.replace(spec, occlude=False))
    assert "occlude: the dataset has True, asked for False" in error.value.problems


def test_everything_else_knows_it(made, tmp_path, spec):
    write_cards(made / "stored.zarr", folder=tmp_path)
    card = (tmp_path / "DATACARD.md").read_text()
    assert "--occlude" in card
    assert "before those who stand" in card
    assert "front_row" in card
    assert estimate(spec).samples == 50


class TestNetworks:
    @pytest.fixture
    def metric(self, tmp_path):
        """A network that takes gray for metres."""
        card = onnx_models.card(output={"quantity": "depth", "unit": "m"})
        weights = np.full((1, 3, 1, 1), 1 / 75, np.float32)
        nodes = [onnx_models.helper.make_node("Conv", ["input", "weights"], ["output"])]
        return onnx_models.write_network(
            tmp_path / "metric.onnx", nodes, weights={"weights": weights}, card=card
        )

    def test_metres_are_as_good_as_those_of_files(self, rooms, metric, tmp_path):
        create(tmp_path / "it.zarr", rooms.spec(**STANDING, depth=depth_of(metric, mode="layered")))
        ds = open_dataset(tmp_path / "it.zarr")
        assert len(hidden_pixels(ds)) >= 3
        assert verify(tmp_path / "it.zarr").sound

    def test_relative_depth_is_refused(self, rooms, tmp_path):
        for depth in (depth_of(onnx_models.gray(tmp_path / "gray.onnx"), mode="layered"), None):
            with refused(SpecError, "occlusion-not-metric", "--background-depth"):
                create(tmp_path / "it.zarr", rooms.spec(**STANDING, depth=depth))
            assert not (tmp_path / "it.zarr").exists()

"""Datasets whose figures stand on floors: found once by a network, and then stored."""

from __future__ import annotations

import dataclasses
import math
import shutil

import numpy as np
import onnx_models
import pytest
import zarr
from builders import SMALL_SHARDS, Pictures, assert_same_arrays, assert_same_files, depth_of
from PIL import ExifTags, Image
from refusals import refused

from fgbgpack import DatasetSpec, create, open_dataset
from fgbgpack.composition.floor import find_floor
from fgbgpack.composition.standing import person_pixels
from fgbgpack.depth import strategies
from fgbgpack.depth.strategies import SceneDepth, SeenBackgrounds
from fgbgpack.errors import RecipeMismatchError, SourceError, SpecError
from fgbgpack.pipeline import begin_create, create_part, estimate, finish_create, repair, verify
from fgbgpack.pipeline.events import Notice, Progress
from fgbgpack.rendering import render_scene, write_samples
from fgbgpack.storage.store import DatasetStore

SIDE = 64
FLOOR = "person_pixels"
STANDING = {
    "samples": 30,
    "objects": "1-2",
    "foreground_height": "10-50",
    "width": SIDE,
    "height": SIDE,
    "chunk": 5,
    "placement": "auto",
    "overlap": 0.3,
    "rotation": 6,
    "shadow": True,
    "light_match": True,
}


def room(path, wall=30):
    """A wall, and below it a floor that is brighter, so nearer for the network here, from row to row."""
    rows = np.arange(SIDE)
    brightness = 60 + np.maximum(0, rows - wall) * 4
    Image.fromarray(np.broadcast_to(brightness[:, None, None], (SIDE, SIDE, 3)).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Two rooms and a bare wall, with two whole foregrounds, not to be changed."""
    pictures = Pictures(tmp_path_factory.mktemp("rooms"), backgrounds=0, size=(SIDE, SIDE), patch=(60, 20))
    room(pictures.backgrounds / "a.png")
    Image.new("RGB", (SIDE, SIDE), (90, 90, 90)).save(pictures.backgrounds / "b.png")
    room(pictures.backgrounds / "c.png", wall=34)
    return pictures


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network that takes what is bright for near."""
    return onnx_models.gray(tmp_path_factory.mktemp("networks") / "gray.onnx")


@pytest.fixture(scope="module")
def spec(rooms, network):
    return rooms.spec(**STANDING, depth=depth_of(network, mode="layered", scale=1))


@pytest.fixture(scope="module")
def made(spec, tmp_path_factory):
    """A dataset of figures that stand, and its virtual twin, not to be changed."""
    folder = tmp_path_factory.mktemp("floors")
    create(folder / "stored.zarr", spec, layout=SMALL_SHARDS, workers=1)
    create(folder / "virtual.zarr", spec, layout=SMALL_SHARDS, virtual=True)
    return folder


def notices(events):
    return [event.message for event in events if isinstance(event, Notice)]


def test_figures_stand_where_the_depth_of_backgrounds_has_a_floor(made):
    ds = open_dataset(made / "stored.zarr")
    stored = ds.whole(f"sources/{FLOOR}")
    assert (stored.dtype, stored.shape) == (np.int16, (3, SIDE, SIDE))
    for depth, found in zip(ds.background_depth[:], stored, strict=True):
        floor = find_floor(depth.astype(np.float64), is_metric=False)
        np.testing.assert_array_equal(found, person_pixels(floor, 10, 50))
    assert [bool(one.any()) for one in stored] == [True, False, True]
    objects, background = ds.objects, ds.whole("background")
    standing = (objects.foreground >= 0) & (background != 1)[:, None]
    feet = (objects.y + objects.height)[standing]
    assert standing.sum() > 15
    assert feet.min() > 30
    by_row = stored.max(axis=(0, 2))
    assert np.abs(objects.height[standing] - by_row[np.minimum(feet, SIDE) - 1]).max() <= 6


def test_stored_recomposed_and_virtual_samples_are_the_same(made):
    stored, virtual = (open_dataset(made / f"{kind}.zarr") for kind in ("stored", "virtual"))
    assert_same_arrays(virtual.to_numpy(), stored.to_numpy())
    assert_same_arrays(open_dataset(made / "stored.zarr", pixels="recomposed").to_numpy(), stored.to_numpy())
    np.testing.assert_array_equal(virtual.depth[:], stored.depth[:])
    assert verify(made / "stored.zarr", depth=8).sound
    assert verify(made / "virtual.zarr").sound


@pytest.mark.parametrize("workers", [2, 7])
def test_any_number_of_workers_makes_the_same_files(made, tmp_path, spec, workers):
    create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS, workers=workers)
    assert_same_files(tmp_path / "it.zarr", made / "stored.zarr")


@pytest.mark.parametrize("placement", ["auto", "inside"])
def test_a_network_sees_each_background_once(made, tmp_path, spec, monkeypatch, placement):
    seen, see = [], SceneDepth.__call__

    def noted(scene, index):
        seen.append(index)
        return see(scene, index)

    monkeypatch.setattr(SceneDepth, "__call__", noted)
    wanted = dataclasses.replace(spec, placement=placement)
    create(tmp_path / "it.zarr", wanted, layout=SMALL_SHARDS)
    assert sorted(seen) == [0, 1, 2]
    known = open_dataset(made / "stored.zarr").background_depth[:]
    np.testing.assert_array_equal(open_dataset(tmp_path / "it.zarr").background_depth[:], known)


def test_what_was_seen_is_given_once_and_no_more_is_kept_than_memory_holds(monkeypatch):
    monkeypatch.setattr(strategies, "_SEEN_BYTES", 2 * 64)
    seen, depth = SeenBackgrounds(), [np.full((4, 4), i, np.float32) for i in range(3)]
    keys = [("network", 1, "fp32", "CPUExecutionProvider", i) for i in range(3)]
    for key, values in zip(keys, depth, strict=True):
        seen.put(key, values)
    assert seen.take(keys[1]) is depth[1]
    assert [seen.take(key) for key in keys] == [depth[0], None, None]


def test_parts_make_the_same_files(made, tmp_path, spec):
    begin_create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
    for part in range(2):
        create_part(tmp_path / "it.zarr", part, 2)
    finish_create(tmp_path / "it.zarr")
    assert_same_arrays(
        open_dataset(tmp_path / "it.zarr").to_numpy(), open_dataset(made / "stored.zarr").to_numpy()
    )


def test_what_is_resumed_has_the_floors_that_are_stored(made, tmp_path, spec):
    path, events = tmp_path / "it.zarr", []
    shutil.copytree(made / "stored.zarr", path)
    store = DatasetStore.open(path, read_only=False)
    store.commit(store.document().begun())
    for lost in ("image/c/1", "objects/y"):
        shutil.rmtree(path / lost)
    assert create(path, spec, layout=SMALL_SHARDS, on_event=events.append).created > 0
    assert_same_files(path, made / "stored.zarr")
    assert not any("Floors: " in text for text in notices(events))
    assert not any(isinstance(event, Progress) and event.stage == "backgrounds" for event in events)


def test_floors_that_are_lost_before_the_end_are_found_again(made, tmp_path, spec):
    path, events = tmp_path / "it.zarr", []
    shutil.copytree(made / "stored.zarr", path)
    store = DatasetStore.open(path, read_only=False)
    store.commit(store.document().begun())
    shutil.rmtree(path / "sources" / FLOOR)
    create(path, spec, layout=SMALL_SHARDS, on_event=events.append)
    assert_same_files(path, made / "stored.zarr")
    assert any("Floors: " in text for text in notices(events))


@pytest.mark.parametrize("lost", [f"sources/{FLOOR}/c", "objects/x/c", "sources/foreground_cut/c"])
def test_what_is_lost_is_repaired(made, tmp_path, lost):
    path = tmp_path / "it.zarr"
    shutil.copytree(made / "stored.zarr", path)
    shutil.rmtree(path / lost)
    assert not verify(path).sound
    assert repair(path).left_count == 0
    assert_same_files(path, made / "stored.zarr")


def test_floors_that_others_wrote_are_found(made, tmp_path):
    path = tmp_path / "it.zarr"
    shutil.copytree(made / "stored.zarr", path)
    array = zarr.open_group(path)[f"sources/{FLOOR}"]
    values = array[:]
    values[0, 50, 5] += 1
    array[:] = values
    assert {fault.array for fault in verify(path).faults} >= {f"sources/{FLOOR}"}


def test_what_stands_where_is_said(rooms, network, tmp_path):
    events = []
    spec = rooms.spec(**{**STANDING, "samples": 6}, depth=depth_of(network, mode="layered", scale=1))
    create(tmp_path / "it.zarr", spec, on_event=events.append)
    (said,) = (text for text in notices(events) if "Floors: " in text)
    assert said.startswith(
        "Floors: 2 of 3 backgrounds have one (2 from relative depth). Foregrounds: 2 whole, which stand "
        "there, and 0 cut, which lie at the border. Whole ones are anywhere inside 1 background without a "
        "floor: b.png (depth does not grow upwards"
    )


def test_an_estimate_of_them(spec):
    assert estimate(spec).samples == 30


def test_another_network_makes_another_recipe(made, tmp_path, rooms, make_depth_model):
    path = tmp_path / "it.zarr"
    shutil.copytree(made / "stored.zarr", path)
    other = rooms.spec(**STANDING, depth=depth_of(make_depth_model(), mode="layered", scale=1))
    with refused(RecipeMismatchError, "dataset-differs", "depth model"):
        create(path, other)
    create(path, other, layout=SMALL_SHARDS, overwrite=True)
    create(tmp_path / "new.zarr", other, layout=SMALL_SHARDS)
    assert_same_files(path, tmp_path / "new.zarr")


class TestGiven:
    """What sources.csv says of backgrounds."""

    @pytest.fixture
    def halls(self, own_pictures):
        """Rooms of 80 x 64 pixels, of which samples show the middle."""
        for path in own_pictures.backgrounds.iterdir():
            image = Image.new("RGB", (SIDE, 80))
            room(path)
            with Image.open(path) as middle:
                image.paste(middle, (0, 8))
            image.save(path)
        return own_pictures

    @pytest.fixture
    def begin(self, halls, network, tmp_path):
        """A function that makes a dataset with a table of horizons and floors."""

        def run(table, **fields):
            (halls.backgrounds / "sources.csv").write_text(table, encoding="utf-8")
            given = {**STANDING, "depth": depth_of(network, mode="layered", scale=1), **fields}
            create(tmp_path / "it.zarr", halls.spec(**given), layout=SMALL_SHARDS)
            return open_dataset(tmp_path / "it.zarr")

        return run

    def test_horizon(self, begin):
        ds = begin("file,horizon\nb0.png,0.45\nb1.png,\n")
        depth, stored = ds.background_depth[:].astype(np.float64), ds.whole(f"sources/{FLOOR}")
        for number, horizon in ((0, 0.45 * 80 - 8), (1, None)):
            floor = find_floor(depth[number], is_metric=False, horizon=horizon)
            np.testing.assert_array_equal(stored[number], person_pixels(floor, 10, 50))
        assert (stored[0] != stored[1]).any()
        assert [source.horizon for source in ds.document.sources.backgrounds] == [0.45, None, None]

    @pytest.mark.parametrize("told_by", ["table", "exif"])
    def test_focal_length(self, begin, halls, tmp_path, told_by):
        """Of depth in metres, which tells how far persons are, but not how high in the picture."""
        metres = np.rint(1000 * 8.0 / np.maximum(np.arange(80) - 30.0, 1.0)).astype(np.uint16)
        folder = tmp_path / "metres"
        folder.mkdir()
        for path in halls.backgrounds.iterdir():
            Image.fromarray(np.broadcast_to(metres[:, None], (80, SIDE)).copy()).save(folder / path.name)
        table, focal = "file,focal_length\nb0.png,70\n", 70.0
        if told_by == "exif":
            exif, table, focal = Image.Exif(), "file\n", 35 * np.hypot(80, SIDE) / np.hypot(36, 24)
            exif[ExifTags.Base.Orientation] = 1
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 35
            with Image.open(halls.backgrounds / "b0.png") as picture:
                picture.save(halls.backgrounds / "b0.png", exif=exif)
        ds = begin(table, depth=None, background_depth=str(folder))
        stored = ds.whole(f"sources/{FLOOR}")
        for number, length in ((0, focal), (1, None)):
            inverse = np.broadcast_to(1000 / metres[8:72, None].astype(np.float64), (SIDE, SIDE))
            floor = find_floor(inverse, is_metric=True, focal=length)
            np.testing.assert_array_equal(stored[number], person_pixels(floor, 10, 50))
        assert (stored[0] != stored[1]).any()
        stated = [source.focal_length for source in ds.document.sources.backgrounds]
        assert stated == [70.0 if told_by == "table" else None, None, None]

    def test_floor(self, begin, halls):
        mask = np.zeros((80, SIDE), np.uint8)
        mask[50:, 10:30] = 255
        (halls.backgrounds / "floors").mkdir()
        Image.fromarray(mask).save(halls.backgrounds / "floors" / "one.png")
        ds = begin("file,floor\nb1.png,floors/one.png\n")
        stored = ds.whole(f"sources/{FLOOR}")
        depth = ds.background_depth[1].astype(np.float64)
        expected = find_floor(depth, is_metric=False, mask=mask[8:72] > 127)
        assert expected.kind == "given"
        np.testing.assert_array_equal(stored[1], person_pixels(expected, 10, 50))
        rows, columns = np.nonzero(stored[1])
        assert rows.min() >= 42
        assert columns.min() >= 10
        assert columns.max() < 30
        assert ds.document.sources.backgrounds[1].mask_name == "floors/one.png"

    def test_figures_are_as_far_away_as_the_floor_under_them(self, begin):
        ds = begin("file,horizon\nb0.png,0.25\nb1.png,0.25\nb2.png,0.25\n")
        stored, figures = ds.whole(f"sources/{FLOOR}"), ds.whole("sources/figure_depth")
        for depth, person, (far, near) in zip(ds.background_depth[:], stored, figures, strict=True):
            under = person > 0
            span = np.ptp(depth[under])
            assert span > 0
            assert np.abs(far + near * person[under] - depth[under]).max() < 0.05 * span

    def test_what_is_given_otherwise_is_another_dataset(self, begin):
        begin("file,horizon\nb0.png,0.45\n")
        with refused(RecipeMismatchError, "dataset-differs") as error:
            begin("file,horizon\nb0.png,0.40\n")
        assert "backgrounds: 1 have changed (b0.png)" in error.value.problems

    def test_what_does_not_stand_does_not_depend_on_it(self, begin):
        begin("file,horizon\nb0.png,0.45\n", placement="inside")
        begin("file,horizon\nb0.png,0.40\n", placement="inside")

    @pytest.mark.parametrize(
        ("table", "code", "text"),
        [
            ("file,horizon\nb0.png,1.2\n", "credits-invalid", "'1.2' in the column 'horizon'"),
            ("file,horizon\nb0.png,-0.1\n", "credits-invalid", "'-0.1' in the column 'horizon'"),
            ("file,horizon\nb0.png,nan\n", "credits-invalid", "'nan' in the column 'horizon'"),
            ("file,horizon\nb0.png,40 %\n", "credits-invalid", "'40 %' in the column 'horizon'"),
            (
                "file,horizon\nb9.png,0.4\n",
                "credits-invalid",
                "b9.png, of which it says horizon, is not there",
            ),
            ("file,focal_length\nb0.png,0\n", "credits-invalid", "'0' in the column 'focal_length'"),
            ("file,focal_length\nb0.png,-3\n", "credits-invalid", "'-3' in the column 'focal_length'"),
            ("file,focal_length\nb0.png,inf\n", "credits-invalid", "'inf' in the column 'focal_length'"),
            ("file,focal_length\nb0.png,35 mm\n", "credits-invalid", "'35 mm' in the column 'focal_length'"),
            (
                "file,floor,focal_length\nb9.png,floors/a.png,9\n",
                "credits-invalid",
                "b9.png, of which it says floor and focal_length, is not there",
            ),
            ("file,floor\nb9.png,floors/a.png\n", "credits-invalid", "b9.png, of which it says"),
            ("file,floor\nb0.png,floors/a.png\n", "floor-mask-missing", "'floors/a.png' as the floor of b0"),
            ("file,floor\nb0.png,../fg/f0.png\n", "floor-mask-missing", "'../fg/f0.png' as the floor"),
            ("file,floor\nb0.png,b1.png\n", "floor-mask-missing", "'b1.png' as the floor of b0.png"),
        ],
    )
    def test_what_names_nothing_is_refused(self, begin, table, code, text):
        with refused(SourceError, code) as error:
            begin(table)
        assert text in error.value.problems[0]

    def test_a_mask_of_another_size_is_refused(self, begin, halls):
        (halls.backgrounds / "floors").mkdir()
        Image.new("L", (SIDE, SIDE), 255).save(halls.backgrounds / "floors" / "one.png")
        with refused(SourceError, "mask-size-differs"):
            begin("file,floor\nb1.png,floors/one.png\n")


class TestNothingCanStand:
    def test_no_floor(self, tmp_path, own_pictures, network):
        for path in own_pictures.backgrounds.iterdir():
            Image.new("RGB", (SIDE, SIDE), (90, 90, 90)).save(path)
        given = {**STANDING, "placement": "floor", "depth": depth_of(network, mode="layered", scale=1)}
        with refused(SpecError, "floor-missing", "--placement auto") as error:
            create(tmp_path / "it.zarr", own_pictures.spec(**given))
        assert len(error.value.problems) == 3
        assert error.value.problems[0].startswith("background b0.png: depth does not grow upwards")
        assert not (tmp_path / "it.zarr").exists()
        create(tmp_path / "it.zarr", own_pictures.spec(**{**given, "placement": "auto"}))
        assert not open_dataset(tmp_path / "it.zarr").whole(f"sources/{FLOOR}").any()

    def test_heights_that_nobody_has(self, tmp_path, rooms, network):
        given = {**STANDING, "placement": "floor", "foreground_height": "61-63", "objects": 1}
        with refused(SpecError, "floor-missing") as error:
            create(
                tmp_path / "it.zarr",
                rooms.spec(**given, depth=depth_of(network, mode="layered", scale=1)),
            )
        assert any("61 to 63 pixels high" in problem for problem in error.value.problems)

    def test_no_whole_foreground(self, tmp_path, own_pictures, network):
        for path in own_pictures.backgrounds.iterdir():
            room(path)
        Image.new("RGBA", (20, 60), (9, 9, 9, 255)).save(own_pictures.foregrounds / "f0.png")
        for path in own_pictures.foregrounds.iterdir():
            patch = np.full((60, 20, 4), 200, np.uint8)
            patch[:5, :5, 3] = 0
            Image.fromarray(patch).save(path)
        given = {**STANDING, "placement": "floor", "depth": depth_of(network, mode="layered", scale=1)}
        with refused(SpecError, "floor-missing", "anchored") as error:
            create(tmp_path / "it.zarr", own_pictures.spec(**given))
        assert list(error.value.problems) == [
            "foreground f0.png: it is cut",
            "foreground f1.png: it is cut",
        ]


def test_people_in_sample_pictures_are_as_high_as_they_would_be(tmp_path):
    write_samples(tmp_path, backgrounds=12, foregrounds=1)
    spec = DatasetSpec(
        **{name: str(tmp_path / name) for name in ("backgrounds", "foregrounds")},
        background_depth=str(tmp_path / "depth"),
        placement="floor",
        foreground_height="5%-95%",
        samples=1,
        depth=None,
    )
    create(tmp_path / "it.zarr", spec, virtual=True)
    ds = open_dataset(tmp_path / "it.zarr")
    found = {}
    for source, persons in zip(ds.document.sources.backgrounds, ds.whole(f"sources/{FLOOR}"), strict=True):
        scene = render_scene(int(source.name[-7:-4]))
        height, camera = len(scene.depth), scene.camera
        horizon = height / 2 + camera.focal * math.tan(camera.pitch)
        rows = np.nonzero(persons.any(axis=1))[0]
        expected = 1.7 / camera.position[1] * (rows + 0.5 - horizon * 128 / height)
        found[source.name] = np.median(np.abs(persons.max(axis=1)[rows] / expected - 1))
    assert max(found.values()) < 0.05, found
    assert np.median(list(found.values())) < 0.02, found

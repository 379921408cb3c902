"""Depth of backgrounds from files: floors and layers without any network, and what becomes of the files."""

from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from builders import SMALL_SHARDS, Pictures, Stop, depth_of, tree
from command_line import run
from refusals import refused
from sample_folders import Events

from fgbgpack import DatasetSpec, DepthSpec, create, fill_depth, open_dataset
from fgbgpack.cards import write_cards
from fgbgpack.depth.strategies import Networks
from fgbgpack.errors import DatasetError, DepthModelError, RecipeMismatchError, SourceError, SpecError
from fgbgpack.pipeline import (
    begin_create,
    create_part,
    estimate,
    finish_create,
    materialize,
    merge,
    repair,
    verify,
)
from fgbgpack.pipeline.recorded_depth import recorded_job
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import render_preview

SIDE, HORIZON, WALL = 64, 25.0, 8.0
#: A camera as high as most are held, with a usual lens.
CAMERA, FOCAL = 1.55, 64.0
STANDING = {"samples": 12, "objects": "1-2", "foreground_height": "10-60", "placement": "floor", "chunk": 5}


def room(wall=WALL):
    """(h, w) metres: a floor, seen by a level camera, up to a wall."""
    rows = np.maximum(np.arange(SIDE) + 0.5 - HORIZON, 0.1)
    return np.broadcast_to(np.minimum(FOCAL * CAMERA / rows, wall)[:, None], (SIDE, SIDE)).copy()


@pytest.fixture
def rooms(tmp_path):
    """Two rooms, their depth in both forms, with a hole in the wall of the second, and two whole figures."""
    pictures = Pictures(tmp_path / "pictures", backgrounds=2, size=(SIDE, SIDE), patch=(60, 20))
    depth = pictures.root / "depth"
    depth.mkdir()
    np.save(depth / "b0.npy", room().astype(np.float32))
    measured = room(6.0)
    measured[4:8, 10:30] = 0
    np.save(depth / "b1.npy", np.rint(measured * 1000).astype(np.uint16))
    return pictures


@pytest.fixture
def spec(rooms) -> DatasetSpec:
    return rooms.spec(
        width=SIDE, height=SIDE, background_depth=str(rooms.root / "depth"), depth=DepthSpec(), **STANDING
    )


@pytest.fixture(autouse=True)
def no_network(monkeypatch, request):
    if "guided" not in request.node.name:
        monkeypatch.setattr("fgbgpack.depth.session.DepthSession.__init__", None)


def lowest_rows(sprites):
    """The row of the feet in each sprite, by its foreground and height."""
    found = np.zeros((2, SIDE), int)
    for sprite, (height, _) in enumerate(sprites.size.tolist()):
        found[int(sprite >= sprites.first[1]), height] = sprites.feet[sprite, 0]
    return found


def test_floors_and_depth_are_those_of_the_files(spec, tmp_path):
    events = Events()
    create(tmp_path / "it.zarr", spec, on_event=events, layout=SMALL_SHARDS)
    ds = open_dataset(tmp_path / "it.zarr")
    background = ds.background_depth[:]
    np.testing.assert_array_equal(background[0], room().astype(np.float32))
    np.testing.assert_allclose(background[1], room(6.0), atol=0.0006)
    assert "b1.png (2%)" in events.notices
    assert "2 of 2 backgrounds have one (2 from metric depth)" in events.notices
    person = ds.whole("sources/person_pixels")
    for b in range(2):
        rows, columns = np.nonzero(person[b])
        assert len(rows) > SIDE * SIDE / 10
        expected = 1.7 * FOCAL / background[b][rows, columns]
        assert np.abs(person[b][rows, columns] - expected).max() <= 1
    assert ds.depth.attrs["quantity"], ds.depth.attrs["unit"] == ("depth", "m")
    # A figure is a plane as far away as the floor below its feet.
    errors, feet_of = [], lowest_rows(ds.recipe.sprites)
    for sample in range(len(ds)):
        one, seen = ds[sample], ds.instance[sample]
        for k in np.flatnonzero(one.objects.foreground >= 0):
            feet = int(one.objects.y[k]) + int(feet_of[one.objects.foreground[k], one.objects.height[k]])
            found = one.depth[seen == k + 1]
            if len(found):
                errors.append(np.median(found) / room()[feet, 0] - 1)
    assert len(errors) > 5
    assert np.median(np.abs(errors)) < 0.03
    document = ds.document
    assert (document.depth.model, document.depth.sha256, document.depth.devices) == (None, None, ())
    assert [source.depth_name for source in document.sources.backgrounds] == ["b0.npy", "b1.npy"]
    result = verify(tmp_path / "it.zarr", depth=5)
    assert (result.sound, result.depth_inferred) == (True, 5)


def test_the_reference_recipe_takes_it_too(spec, rooms, tmp_path):
    plain = rooms.spec(width=SIDE, height=SIDE, background_depth=spec.background_depth, depth=DepthSpec())
    assert (plain.depth.model, plain.is_scene) == ("files", False)
    create(tmp_path / "it.zarr", plain)
    np.testing.assert_array_equal(
        open_dataset(tmp_path / "it.zarr").background_depth[0], room().astype(np.float32)
    )


class TestTheSameBytes:
    @pytest.mark.parametrize("stage", ["samples", "backgrounds", "depth"])
    def test_after_a_stop(self, spec, tmp_path, stage):
        create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
        with pytest.raises(KeyboardInterrupt):
            create(tmp_path / "again.zarr", spec, workers=1, on_event=Stop(stage, 1), layout=SMALL_SHARDS)
        create(tmp_path / "again.zarr", spec, layout=SMALL_SHARDS)
        assert tree(tmp_path / "again.zarr") == tree(tmp_path / "it.zarr")

    def test_virtual_and_stored(self, spec, tmp_path):
        create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
        create(tmp_path / "virtual.zarr", spec, layout=SMALL_SHARDS, virtual=True)
        shutil.rmtree(spec.background_depth)
        stored, virtual = (open_dataset(tmp_path / f"{name}.zarr") for name in ("it", "virtual"))
        np.testing.assert_array_equal(stored.depth[:], virtual.depth[:])
        materialize(tmp_path / "virtual.zarr", layout=SMALL_SHARDS)
        assert tree(tmp_path / "virtual.zarr") == tree(tmp_path / "it.zarr")

    def test_in_parts_that_see_no_files(self, spec, tmp_path):
        create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
        begin_create(tmp_path / "parts.zarr", spec, layout=SMALL_SHARDS)
        shutil.rmtree(spec.background_depth)
        for part in (1, 0):
            create_part(tmp_path / "parts.zarr", part, 2)
        finish_create(tmp_path / "parts.zarr")
        assert tree(tmp_path / "parts.zarr") == tree(tmp_path / "it.zarr")

    def test_by_other_processes(self, spec, tmp_path):
        create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
        with ProcessPoolExecutor(1) as executor:
            create(tmp_path / "other.zarr", spec, layout=SMALL_SHARDS, executor=executor)
        assert tree(tmp_path / "other.zarr") == tree(tmp_path / "it.zarr")

    def test_repaired(self, spec, tmp_path):
        path = tmp_path / "it.zarr"
        create(path, spec, layout=SMALL_SHARDS)
        before = tree(path)
        for array in ("sources/background_depth", "sources/person_pixels", "depth"):
            shutil.rmtree(path / array / "c")
        assert repair(path).left_count == 0
        assert tree(path) == before

    def test_filled_later(self, spec, tmp_path):
        create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
        create(tmp_path / "later.zarr", replace(spec, depth=None), layout=SMALL_SHARDS)
        moved = shutil.move(spec.background_depth, tmp_path / "moved")
        fill_depth(tmp_path / "later.zarr", layout=SMALL_SHARDS, background_depth=moved)
        assert tree(tmp_path / "later.zarr") == tree(tmp_path / "it.zarr")


def test_guided_depth_is_guided_by_the_files(spec, guide_model, tmp_path):
    create(tmp_path / "it.zarr", replace(spec, depth=DepthSpec(mode="guided", guide=str(guide_model))))
    ds = open_dataset(tmp_path / "it.zarr")
    np.testing.assert_array_equal(ds.background_depth[0], room().astype(np.float32))
    assert ds.document.depth.model is None
    assert ds.document.depth.sample_provider == "CPUExecutionProvider"


def test_parts_are_merged(spec, rooms, tmp_path):
    parts = []
    for name in ("b0", "b1"):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(rooms.backgrounds / f"{name}.png", folder)
        one = rooms.spec(width=SIDE, height=SIDE, background_depth=spec.background_depth, depth=DepthSpec())
        parts.append(tmp_path / f"{name}.zarr")
        create(parts[-1], replace(one, backgrounds=str(folder)), layout=SMALL_SHARDS)
    merge(parts, tmp_path / "it.zarr", layout=SMALL_SHARDS)
    ds = open_dataset(tmp_path / "it.zarr")
    np.testing.assert_array_equal(ds.background_depth[0], room().astype(np.float32))
    assert [source.depth_name for source in ds.document.sources.backgrounds] == ["b0.npy", "b1.npy"]
    assert verify(tmp_path / "it.zarr").sound


class TestWhatIsNotTheSame:
    @pytest.fixture
    def begun(self, spec, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            create(tmp_path / "it.zarr", spec, workers=1, on_event=Stop("samples", 1), layout=SMALL_SHARDS)
        return tmp_path / "it.zarr"

    def test_another_file(self, spec, begun, rooms):
        np.save(rooms.root / "depth" / "b0.npy", room(7.0).astype(np.float32))
        with refused(RecipeMismatchError, "dataset-differs") as error:
            create(begun, spec, layout=SMALL_SHARDS)
        assert "backgrounds: 1 have changed (b0.png)" in error.value.problems

    def test_other_meaning(self, spec, begun):
        with refused(RecipeMismatchError, "dataset-differs") as error:
            create(begun, replace(spec, depth_factor=0.01), layout=SMALL_SHARDS)
        assert "depth_factor: the dataset has none, asked for 0.01" in error.value.problems

    def test_a_network(self, spec, begun, depth_model):
        with refused(RecipeMismatchError, "dataset-differs") as error:
            create(begun, replace(spec, depth=depth_of(depth_model, mode="layered")), layout=SMALL_SHARDS)
        assert any(line.startswith("depth model: the dataset has files") for line in error.value.problems)

    def test_files_that_the_dataset_was_made_without(self, spec, tmp_path):
        folder = spec.background_depth
        create(tmp_path / "later.zarr", replace(spec, depth=None, placement="inside", background_depth=None))
        with refused(SourceError, "background-depth-missing"):
            fill_depth(tmp_path / "later.zarr", background_depth=folder)

    def test_other_depth_of_a_background_in_datasets_to_be_merged(self, spec, rooms, tmp_path):
        plain = rooms.spec(width=SIDE, height=SIDE, background_depth=spec.background_depth, depth=DepthSpec())
        create(tmp_path / "one.zarr", plain)
        np.save(rooms.root / "depth" / "b0.npy", room(7.0).astype(np.float32))
        create(tmp_path / "two.zarr", plain)
        with refused(DatasetError, "merge-names-clash") as error:
            merge([tmp_path / "one.zarr", tmp_path / "two.zarr"], tmp_path / "it.zarr")
        assert [problem.split(" in ")[0] for problem in error.value.problems] == [
            "backgrounds: b0.png has other depth"
        ]

    def test_another_file_when_depth_is_filled_later(self, spec, rooms, tmp_path):
        create(tmp_path / "later.zarr", replace(spec, depth=None))
        np.save(rooms.root / "depth" / "b0.npy", room(7.0).astype(np.float32))
        with refused(SourceError, "background-depth-changed"):
            fill_depth(tmp_path / "later.zarr")


def test_all_that_is_wrong_is_told_at_once(spec, rooms, tmp_path):
    np.save(rooms.root / "depth" / "b0.npy", -room())
    np.save(rooms.root / "depth" / "b1.npy", np.zeros((SIDE, SIDE)))
    with refused(SourceError, "sources-unusable") as error:
        create(tmp_path / "it.zarr", spec)
    assert len(error.value.problems) == 2
    assert not (tmp_path / "it.zarr").exists()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"depth_factor": 0.1}, "depth_factor: of no use without background_depth"),
        ({"depth_invalid": 1.0}, "depth_invalid: of no use without background_depth"),
        (
            {"depth": DepthSpec("files")},
            "depth.model: 'files' needs background_depth, the folder of the files",
        ),
        (
            {"depth": DepthSpec("files", mode="per-sample"), "background_depth": "d"},
            "depth.mode: 'per-sample' needs a network, found the model 'files'",
        ),
        (
            {"depth": DepthSpec(scale=2), "background_depth": "d"},
            "depth.scale: of no use where depth of the backgrounds is that of files",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(pictures, fields, problem):
    with refused(SpecError, "spec-invalid") as error:
        pictures.spec(**fields)
    assert error.value.problems == (problem,)


def test_files_are_no_network():
    with refused(DepthModelError, "model-kind-mismatch"):
        _ = Networks.load(DepthSpec("files")).network


def test_commands_tell_of_it_where_they_tell_of_networks(spec, tmp_path):
    path = tmp_path / "it.zarr"
    create(path, spec, layout=SMALL_SHARDS)
    picture = tmp_path / "it.png"
    for command in (
        ("info", path),
        ("explain", path, 0, "--picture", picture),
        ("stats", path),
        ("diff", path, path),
        ("preview", path, "-o", picture),
        ("card", path),
        ("verify", path),
        ("pack", path, tmp_path / "it.zip"),
        ("export", path, tmp_path / "out", "--to", "npz"),
    ):
        result = run(*command)
        assert result.exit_code == 0, result.output
        assert "None" not in result.stdout
    explained = run("explain", path, 0).stdout
    assert "b0.npy" in explained
    assert "none: that of the background is from its file" in " ".join(explained.split())


def test_everything_else_knows_it(spec, tmp_path):
    create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
    ds = open_dataset(tmp_path / "it.zarr")
    assert describe(ds)["depth"]["model"] == "files"
    assert render_preview(ds, [0]).size[0] > 100
    write_cards(tmp_path / "it.zarr")
    card = (tmp_path / "it.zarr" / "DATACARD.md").read_text()
    assert "Depth of the backgrounds was read from files, in metres." in card
    assert "--background-depth depth" in card
    assert estimate(spec).samples == len(ds)
    assert (
        recorded_job(ds.document, ds.recipe, device="auto", engine=None, on_event=Events()).networks.model
        is None
    )

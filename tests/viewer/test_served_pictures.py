"""What is drawn and said of samples, compared with what datasets hold."""

from __future__ import annotations

import io

import fsspec
import numpy as np
import pytest
from builders import SMALL_SHARDS, Stop
from command_line import run
from PIL import Image
from sample_folders import write_samples

from fgbgpack import DatasetError, SpecError, create, open_dataset
from fgbgpack.export.exporter import export
from fgbgpack.pipeline import ImportSpec, import_folder
from fgbgpack.viewer.collection import BLOCK, Collection
from fgbgpack.viewer.comparison import Pair
from fgbgpack.viewer.layers import (
    DepthScale,
    depth_numbers,
    depth_palette,
    difference_numbers,
    difference_palette,
    outlines,
    tile_size,
)
from fgbgpack.viewer.locations import refuse_export
from fgbgpack.viewer.query import Query
from fgbgpack.visual.colours import colour_map


@pytest.fixture(scope="module")
def deep(kinds):
    return Collection(open_dataset(kinds["depth"]))


def opened(picture, *, exact: bool) -> tuple[Image.Image, str]:
    data, kind = picture.encoded(exact=exact)
    image = Image.open(io.BytesIO(data))
    assert kind == f"image/{(image.format or '').lower()}"
    return image, kind


def test_planes_are_exact(deep):
    sample = deep.dataset[7]
    for layer in ("image", "mask"):
        image, _ = opened(deep.plane(layer, 7, one_scale=True), exact=True)
        assert np.array_equal(np.asarray(image), getattr(sample, layer))
    image, _ = opened(deep.plane("background", 7, one_scale=True), exact=True)
    assert np.array_equal(np.asarray(image), deep.dataset.recipe.catalog.background[sample.background])


@pytest.mark.parametrize("kind", ["depth", "depth-virtual", "banded", "imported", "split"])
def test_all_kinds_are_drawn(kind, kinds):
    collection = Collection(open_dataset(kinds[kind]))
    samples = np.array([5, 0, 11, 2, 2, 7, 9, 1, 3, 4])
    for layer in collection.layers:
        picture = collection.sheet(layer, samples, 128, one_scale=False)
        # Ten tiles, eight in a row.
        assert picture.pixels.shape[:2] == (2 * 21, 8 * 33)
        assert not picture.pixels[21:, 2 * 33 :].any()
        for place, number in ((0, 5), (3, 2), (9, 4)):
            top, left = place // 8 * 21, place % 8 * 33
            tile = picture.pixels[top : top + 21, left : left + 33]
            assert np.array_equal(tile, collection.plane(layer, number, one_scale=False).pixels)


def test_hdf5_is_drawn(kinds, deep):
    collection = Collection(open_dataset(kinds.hdf5("depth")))
    for layer in collection.layers:
        expected = deep.plane(layer, 3, one_scale=True).pixels
        assert np.array_equal(collection.plane(layer, 3, one_scale=True).pixels, expected)
    collection.dataset.close()


def test_a_remote_dataset_is_drawn_and_searched(kinds, deep):
    fsspec.filesystem("memory").put(str(kinds["depth"]), "/viewed/it.zarr", recursive=True)
    try:
        collection = Collection(open_dataset("memory://viewed/it.zarr"))
        samples = np.array([3, 30, 8])
        for layer in collection.layers:
            found = collection.sheet(layer, samples, 128, one_scale=True).pixels
            assert np.array_equal(found, deep.sheet(layer, samples, 128, one_scale=True).pixels)
        query = Query.of({"bg": "1", "flip": "yes"})
        expected = deep.dataset.where(background=1, flip=True).tolist()
        assert collection.searches.samples(query, range(36), 60).tolist() == expected
        assert collection.rows(samples, boxes=True) == deep.rows(samples, boxes=True)
    finally:
        fsspec.filesystem("memory").rm("/viewed", recursive=True)


def test_an_unfinished_dataset_is_drawn_black_where_nothing_is(kinds, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        create(
            tmp_path / "part.zarr",
            kinds.specs["plain"],
            layout=SMALL_SHARDS,
            workers=1,
            on_event=Stop("samples", 2),
        )
    ds = open_dataset(tmp_path / "part.zarr", allow_incomplete=True)
    collection = Collection(ds)
    assert not collection.describe()["complete"]
    drawn = [bool(collection.plane("image", i, one_scale=True).pixels.any()) for i in range(36)]
    assert {*drawn} == {True, False}
    for i in np.flatnonzero(drawn).tolist():
        assert np.array_equal(collection.plane("image", i, one_scale=True).pixels, ds[i].image)


def test_large_samples_become_small_tiles():
    assert tile_size(21, 33, 128) == (21, 33)
    assert tile_size(1000, 500, 100) == (100, 50)
    assert tile_size(3, 4000, 64) == (1, 64)
    assert tile_size(4000, 3000, None) == (4000, 3000)


def test_tiles_are_averages_of_pictures_and_picks_of_numbers(deep):
    image = deep.sheet("image", np.array([4]), 16, one_scale=True).pixels
    whole = Image.fromarray(deep.dataset[4].image)
    assert np.array_equal(image, np.asarray(whole.resize((16, 10), Image.Resampling.BOX)))
    instances = deep.sheet("instances", np.array([4]), 16, one_scale=True).pixels
    assert set(np.unique(instances).tolist()) <= {0, 1}


def test_outlines_are_the_border_of_an_area_and_what_is_beside_it():
    inside = np.zeros((1, 5, 6), bool)
    inside[0, 1:4, 2:6] = True
    assert outlines(inside)[0].tolist() == [
        [0, 0, 2, 2, 2, 2],
        [0, 2, 1, 1, 1, 1],
        [0, 2, 1, 0, 0, 0],
        [0, 2, 1, 1, 1, 1],
        [0, 0, 2, 2, 2, 2],
    ]


def test_depth_has_one_scale_or_each_its_own():
    depth = np.array([[[0.0, 1.0, np.nan, 2.0]], [[10.0, 20.0, 30.0, np.inf]]], np.float16)
    scale = DepthScale(0.0, 30.0, larger_is_nearer=True)
    one = depth_numbers(depth, scale, larger_is_nearer=True)
    assert one.tolist() == [[[1, 9, 0, 18]], [[86, 170, 255, 0]]]
    own = depth_numbers(depth, None, larger_is_nearer=False)
    assert own.tolist() == [[[255, 128, 0, 1]], [[255, 128, 1, 0]]]
    assert depth_numbers(np.full((1, 1, 2), 3.0), None, larger_is_nearer=True).tolist() == [[[128, 128]]]
    palette = depth_palette()
    assert palette[0].tolist() == [0, 0, 0, 255]
    assert palette[255, :3].tolist() == colour_map()[255].tolist()


def test_the_scale_of_all_samples_spans_nearly_all_of_their_depth(deep):
    scale = deep.scale
    assert scale is not None
    low, high = np.nanmin(deep.dataset.depth_min), np.nanmax(deep.dataset.depth_max)
    assert low <= scale.low < scale.high <= high


def test_values_are_those_of_the_arrays(deep):
    sample = deep.dataset[9]
    data = deep.values(9, 0, 0)
    pixels = 21 * 33
    assert np.array_equal(
        np.frombuffer(data[: 4 * pixels], "<f4").reshape(21, 33), sample.depth.astype(np.float32)
    )
    assert data[4 * pixels : 7 * pixels] == sample.image.tobytes()
    assert data[7 * pixels :] == sample.mask.tobytes()
    with pytest.raises(SpecError):
        deep.values(9, 1, 0)
    assert BLOCK >= 33


def test_what_is_said_of_a_sample(deep):
    ds, number = deep.dataset, 13
    told, sample = deep.sample(number), ds[number]
    sources = ds.document.sources
    assert told["background"]["name"] == sources.backgrounds[sample.background].name
    (one,) = told["objects"]
    assert one["foreground"]["sha256"] == sources.foregrounds[sample.foreground].sha256
    assert [one["y"], one["x"], one["flip"]] == [int(sample.y), int(sample.x), int(sample.flip)]
    assert one["box"] == ds.bbox[number].tolist()
    assert told["depth"] == [float(ds.depth_min[number]), float(ds.depth_max[number])]
    assert told["python"] == f"fgbgpack.open_dataset({ds.path!r})[13]"


def test_whose_an_imported_picture_is(tmp_path, kinds):
    write_samples(tmp_path / "in", ["a", "b"], depth=False)
    (tmp_path / "in/sources.csv").write_text(
        "file,license,author,url\na.png,CC0-1.0,Ada,https://example.org/a\n"
    )
    import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "in")))
    found = [Collection(open_dataset(tmp_path / "it.zarr")).sample(i)["picture"] for i in (0, 1)]
    assert found[0] == {"name": "a", "license": "CC0-1.0", "author": "Ada", "url": "https://example.org/a"}
    nothing = {"license": None, "author": None, "url": None}
    assert found[1] == {"name": "b", **nothing}
    ds = open_dataset(kinds["imported"])
    assert Collection(ds).sample(3)["picture"] == {"name": ds.names[3], **nothing}


# --- two datasets ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(kinds):
    return Pair(open_dataset(kinds["layered-virtual"]), open_dataset(kinds["guided-virtual"]))


def test_the_same_recipe_has_the_same_pictures_and_other_depth(pair):
    assert pair.is_same_recipe
    assert pair.problem is None
    samples = np.array([3, 8])
    for layer in ("image", "mask"):
        assert not pair.difference(layer, samples).values.any()
    found = pair.difference("depth", samples)
    first, second = (one[samples].depth.astype(np.float32) for one in (pair._first, pair._second))
    # Both come from one network, and are compared as they are.
    assert found.fit is None
    assert np.array_equal(found.values, second - first, equal_nan=True)


def test_other_recipes_differ_in_pictures(kinds):
    pair = Pair(open_dataset(kinds["plain"]), open_dataset(kinds["plain-older"]))
    assert not pair.is_same_recipe
    assert pair.layers == ("image", "mask")
    one = pair.difference("image", np.array([0]))
    first, second = (ds[0].image.astype(int) for ds in (pair._first, pair._second))
    assert np.array_equal(np.abs(one.values[0]), np.abs(second - first).max(axis=2))
    said = one.to_dict()
    assert said["pixels"] == int((first != second).any(axis=2).sum())
    assert said["of"] == 21 * 33
    with pytest.raises(SpecError, match="no depth"):
        pair.difference("depth", np.array([0]))


def test_depth_of_unlike_measures_is_brought_together(kinds, tmp_path):
    first = open_dataset(kinds["depth"])
    pair = Pair(first, open_dataset(kinds["imported"]))
    found = pair.difference("depth", np.array([1]))
    assert found.fit is not None
    a, b = first[1].depth.astype(float), pair._second[1].depth.astype(float)
    known = np.isfinite(a) & np.isfinite(b)
    expected = np.polyfit(b[known], a[known], 1)
    assert found.fit[0] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_differences_have_a_middle_and_two_ends():
    values = np.array([[-2.0, -1.0, 0.0, 0.5, 9.0, np.nan]], np.float32)
    assert difference_numbers(values, 1.0).tolist() == [[1, 1, 128, 192, 255, 0]]
    assert difference_numbers(np.zeros((1, 2), np.float32), 0.0).tolist() == [[128, 128]]
    palette = difference_palette()
    assert len({tuple(palette[k]) for k in (0, 1, 128, 255)}) == 4


# --- what is no dataset ------------------------------------------------------------------------------


def test_an_export_says_how_it_can_be_viewed(kinds, tmp_path):
    export(kinds["depth"], tmp_path / "folder", to="folder", samples=[0, 1])
    export(kinds["depth"], tmp_path / "arrays", to="npz", samples=[0, 1])
    for name, says in (("folder", "fgbgpack import"), ("arrays", "View the dataset that it was made from.")):
        with pytest.raises(DatasetError, match=says) as refused:
            refuse_export(str(tmp_path / name))
        assert refused.value.code == "dataset-is-export"
        result = run("view", tmp_path / name)
        assert result.exit_code == 4
        assert says in result.stderr
    refuse_export(str(kinds["depth"]))
    refuse_export(str(tmp_path / "nowhere"))
    refuse_export("s3://bucket/x")

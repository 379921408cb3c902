"""Depth of backgrounds from files: what their numbers mean, how they are cut, and how holes are filled."""

from __future__ import annotations

import numpy as np
import pytest
from picture_files import cutout, noise, write
from refusals import refused

from fgbgpack.errors import SourceError
from fgbgpack.sources.background_depth import MetricValues, filled, holes_in_words, read_metres
from fgbgpack.sources.catalog import load_background, load_catalog
from fgbgpack.sources.listing import find_sources
from fgbgpack.sources.resizing import Frame

CROPPED = Frame(12, 12, "crop")
METRES = np.linspace(1, 9, 20 * 30).reshape(20, 30)
MILLIMETRES = np.rint(METRES * 1000).astype(np.uint16)
BYTES = (METRES * 25).astype(np.uint8)


def saved(folder, values, name="b.npy"):
    if name.endswith(".npy"):
        np.save(folder / name, values)
        return folder / name
    return write(folder / name, values)


def cut(values):
    """The mean of what is near the centres of 12 x 12 pixels in the middle 20 x 20 of 20 x 30."""
    result = np.full((12, 12), np.nan)
    step = 20 / 12
    for y, x in np.ndindex(12, 12):
        centre = float(values[int((y + 0.5) * step), int(5 + (x + 0.5) * step)])
        found = [centre]
        for row, column in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
            value = float(values[int((y + row) * step), int(5 + (x + column) * step)])
            if np.isfinite(value) and value and abs(value - centre) <= 0.05 * centre:
                found.append(value)
        if np.isfinite(centre) and centre:
            result[y, x] = np.mean(found)
    return result


@pytest.mark.parametrize(
    ("values", "name", "meaning", "expected"),
    [
        (MILLIMETRES, "b.png", MetricValues(), MILLIMETRES * 0.001),
        (MILLIMETRES, "b.npy", MetricValues(), MILLIMETRES * 0.001),
        (MILLIMETRES.astype(np.int32), "b.npy", MetricValues(), MILLIMETRES * 0.001),
        (METRES.astype(np.float32), "b.npy", MetricValues(), METRES),
        (METRES.astype(np.float32), "b.tiff", MetricValues(), METRES),
        (METRES.astype(">f8"), "b.npy", MetricValues(factor=2), METRES * 2),
        (MILLIMETRES, "b.png", MetricValues(factor=0.0002), MILLIMETRES * 0.0002),
        (BYTES, "b.png", MetricValues(factor=0.04), BYTES * 0.04),
    ],
)
def test_numbers_become_metres_and_are_cut_as_pictures_are(tmp_path, values, name, meaning, expected):
    found = read_metres(saved(tmp_path, values, name), CROPPED, meaning)
    assert (found.dtype, found.shape) == (np.float32, (12, 12))
    np.testing.assert_allclose(found, cut(expected), rtol=1e-6)


def test_edges_are_not_mixed_and_holes_stay(tmp_path):
    values = np.full((20, 30), 2.0)
    values[:, 14:] = 7.0
    values[9:14, 3:9] = 0
    found = read_metres(saved(tmp_path, values), CROPPED, MetricValues())
    np.testing.assert_array_equal(found, cut(values).astype(np.float32))
    assert set(np.unique(found[~np.isnan(found)])) == {2.0, 7.0}
    assert np.isnan(found).sum() == 6


def test_noise_becomes_less(tmp_path):
    values = np.random.default_rng(0).normal(3.0, 0.03, (200, 300))
    found = read_metres(saved(tmp_path, values), CROPPED, MetricValues())
    assert found.std() < 0.03 / 6


def test_it_is_cut_where_the_picture_is(tmp_path, folders):
    """A picture whose brightness is its depth: they stay together, cropped and stretched."""
    brightness = np.repeat(np.arange(5, 245, 8, dtype=np.uint8)[None], 20, axis=0)
    folders.background("b.png", np.repeat(brightness[..., None], 3, axis=2))
    path = saved(tmp_path, brightness.astype(np.float32))
    folders.foreground("f.png", cutout())
    for fit, width in (("crop", 12), ("stretch", 30)):
        source = folders.find().backgrounds[0]
        (picture,) = load_background(source, Frame(12, width, fit))
        found = read_metres(path, Frame(12, width, fit), MetricValues(), picture=source.path)
        assert np.abs(found - picture[..., 0]).max() <= 6


@pytest.mark.parametrize("unknown", [0, np.nan, np.inf, -np.inf])
def test_what_is_unknown_is_not_a_number(tmp_path, unknown):
    values = METRES.astype(np.float32)
    values[:10, :16] = unknown
    found = read_metres(saved(tmp_path, values), CROPPED, MetricValues())
    assert np.isnan(found[:6, :6]).all()
    assert np.isfinite(found[6:]).all()


def test_a_number_may_stand_for_unknown_depth(tmp_path):
    values = MILLIMETRES.copy()
    values[:10, :16] = 65535
    found = read_metres(saved(tmp_path, values), CROPPED, MetricValues(invalid=65535))
    assert np.isnan(found).sum() == 42


@pytest.mark.parametrize(
    ("values", "name", "code", "words"),
    [
        (np.zeros((20, 30), np.uint16), "b.png", "background-depth-unknown", "no known depth"),
        (np.where(METRES < 6, 0, METRES), "b.npy", "background-depth-unknown", "%"),
        (-METRES, "b.npy", "background-depth-unusable", "-9"),
        (BYTES, "b.png", "background-depth-unusable", "--depth-factor"),
        (MILLIMETRES[:, :20], "b.png", "background-depth-size-differs", "20x20"),
        (noise(20, 30), "b.png", "values-in-colour", "colours"),
        (np.array(["a"]), "b.npy", "array-shape-wrong", "shape"),
    ],
)
def test_what_cannot_be_depth_is_refused_by_name(tmp_path, values, name, code, words):
    picture = write(tmp_path / "pictures" / "b.png", noise(40, 60))
    path = saved(tmp_path, values, name)
    with refused(SourceError, code) as error:
        read_metres(path, CROPPED, MetricValues(), picture=picture)
    assert str(path) in str(error.value)
    assert words in str(error.value)


def test_another_size_of_the_same_aspect_is_taken(tmp_path):
    picture = write(tmp_path / "pictures" / "b.png", noise(201, 301))
    assert read_metres(saved(tmp_path, METRES), CROPPED, MetricValues(), picture=picture).shape == (12, 12)


def naive_filled(metres):
    result = metres.copy()
    for _ in range(2):
        height, width = result.shape
        before = result.copy()
        for y in range(height):
            for x in range(width):
                left = [v for v in before[y, :x] if not np.isnan(v)][-1:]
                right = [v for v in before[y, x + 1 :] if not np.isnan(v)][:1]
                if np.isnan(before[y, x]) and left + right:
                    result[y, x] = max(left + right)
        result = result.T
    return result


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_holes_get_the_farther_depth_at_their_sides(share):
    rng = np.random.default_rng(int(share * 10))
    metres = rng.uniform(1, 9, (11, 17)).astype(np.float32)
    metres[rng.random(metres.shape) < share] = np.nan
    metres[3:5] = np.nan
    np.testing.assert_array_equal(filled(metres), naive_filled(metres))
    assert np.isnan(filled(metres)).all() == (share == 1)


def test_holes_are_told():
    whole, half = np.ones((4, 4)), np.array([[1.0, np.nan]])
    assert holes_in_words({"a.png": whole}) is None
    assert "25.0%" in str(holes_in_words({"a.png": whole, "b.png": half}))
    assert "b.png (50%)" in str(holes_in_words({"a.png": whole, "b.png": half}))


def test_each_background_has_its_file(folders, tmp_path):
    depth = tmp_path / "depth"
    depth.mkdir()
    for name in ("b", "a", "c"):
        folders.background(f"{name}.png", noise(20, 30))
    folders.foreground("f.png", cutout())
    saved(depth, METRES * 2, "b.npy")
    saved(depth, MILLIMETRES, "a.png")
    saved(depth, MILLIMETRES, "spare.png")
    with refused(SourceError, "background-depth-missing", "no depth for it") as error:
        find_sources(folders.backgrounds, folders.foregrounds, depth=depth)
    assert "c.png" in str(error.value)
    saved(depth, METRES * 3, "c.npy")
    found = find_sources(folders.backgrounds, folders.foregrounds, depth=depth)
    assert [source.depth_name for source in found.backgrounds] == ["a.png", "b.npy", "c.npy"]
    assert found.ignored == (str(depth / "spare.png"),)
    catalog = load_catalog(found, height=12, width=12, fit="crop", foreground_height=4)
    for measured, times in zip(catalog.background_depth, (1, 2, 3), strict=True):
        np.testing.assert_allclose(measured, cut(METRES) * times, atol=0.001)
    saved(depth, METRES, "c.png.npy")
    saved(depth, MILLIMETRES, "c.png")
    with refused(SourceError, "stem-not-unique"):
        find_sources(folders.backgrounds, folders.foregrounds, depth=depth)
    with refused(SourceError, "folder-missing"):
        find_sources(folders.backgrounds, folders.foregrounds, depth=tmp_path / "nowhere")

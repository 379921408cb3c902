"""Depth in layers in whole datasets: what is stored is what its parts give, whatever stops in between."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial

import naive
import naive_scenes
import numpy as np
import pytest
import xarray
import zarr
from builders import SMALL_SHARDS, Stop, depth_of, tree
from refusals import refused
from sample_folders import write_samples

import fgbgpack
from fgbgpack import DepthSpec, estimate, open_dataset
from fgbgpack.cards import write_cards
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.layered import PORTRAIT_HEIGHT
from fgbgpack.depth.strategies import Networks
from fgbgpack.errors import DatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline import ImportSpec, convert, import_folder, materialize, repair, verify, virtualize
from fgbgpack.sources.cuts import BOTTOM
from fgbgpack.visual.comparison import compare
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import render_preview

create = partial(fgbgpack.create, layout=SMALL_SHARDS)
fill_depth = partial(fgbgpack.fill_depth, layout=SMALL_SHARDS)


@pytest.fixture
def layered(depth_model) -> DepthSpec:
    return depth_of(depth_model, mode="layered", scale=2)


@pytest.fixture
def made(tmp_path, pictures, layered):
    """A dataset with layered depth, its spec, and every file of it."""
    spec = pictures.spec(chunk=5, depth=layered)
    create(tmp_path / "made.zarr", spec)
    return spec, tree(tmp_path / "made.zarr")


def expected_depth(ds, sample: int):
    """The depth of a sample by its parts, step by step, (h, w) float64."""
    attributes = ds.depth.attrs
    quantity, step = Quantity(attributes["quantity"], attributes["unit"]), attributes["rounding"]["step"]
    placed, catalog = ds.placements[slice(sample, sample + 1)], ds.catalog()
    background, foreground = int(placed.background[0]), int(placed.foreground[0])
    height, width = catalog.foreground_size[foreground]
    patch = catalog.foreground[foreground, :height, :width]
    pixels = height * (1.7 / PORTRAIT_HEIGHT if catalog.cut[foreground] & BOTTOM else 1)
    far, near = ds.whole("sources/figure_depth")[background].astype(np.float64)
    nearer = 1 if quantity.kind == "inverse_depth" else -1
    number = -nearer * 2048
    if np.isfinite(far):
        inverse = far + near * pixels
        depth = 1 / max(inverse, 1e-3) if quantity.unit == "m" and nearer < 0 else nearer * inverse
        number = int(np.clip(round(depth / step), -2048, 2048))
    codes = np.rint(ds.background_depth[background].astype(np.float64) / step)
    sprite = patch, bool(placed.flip[0]), int(placed.y[0]), int(placed.x[0])
    return naive.layer_depth(codes, [sprite], [number], nearer)[0] * step


@pytest.mark.parametrize("metres", [False, True])
def test_depth_is_what_its_parts_give(tmp_path, pictures, make_depth_model, metres):
    output = {"quantity": "depth", "unit": "m"} if metres else {}
    spec = pictures.spec(depth=depth_of(make_depth_model(**output), mode="layered", scale=2))
    create(tmp_path / "d.zarr", spec)
    ds = open_dataset(tmp_path / "d.zarr")
    assert ds.document.depth.mode == "layered"
    assert ds.document.depth.guide is None
    assert ds.depth.attrs["rounding"]["step"] == ds.document.depth.step
    for sample in range(0, len(ds), 5):
        np.testing.assert_array_equal(ds.depth[sample].astype(np.float64), expected_depth(ds, sample))
    quantity = Quantity(ds.depth.attrs["quantity"], ds.depth.attrs["unit"])
    background = ds.background_depth[:].astype(np.float64)[ds.placements.background]
    ahead = (ds.depth[:] - background) * (1 if quantity.kind == "inverse_depth" else -1)
    half = ds.document.depth.step / 2
    assert (ahead >= -half)[ds.mask[:] > 127].all(), "before all that it hides"
    assert (np.abs(ahead) <= half)[ds.mask[:] == 0].all(), "and nowhere else"


class TestTheSameBytes:
    def test_whatever_the_number_of_workers(self, tmp_path, made):
        spec, expected = made
        create(tmp_path / "again.zarr", spec, workers=3)
        assert tree(tmp_path / "again.zarr") == expected

    @pytest.mark.parametrize(
        ("stage", "n"), [("backgrounds", 1), ("backgrounds", 2), ("depth", 1), ("depth", 3)]
    )
    def test_after_a_stop(self, tmp_path, made, stage, n):
        spec, expected = made
        with pytest.raises(KeyboardInterrupt):
            create(tmp_path / "again.zarr", spec, workers=1, on_event=Stop(stage, n))
        create(tmp_path / "again.zarr", spec)
        assert tree(tmp_path / "again.zarr") == expected

    def test_filled_later(self, tmp_path, pictures, layered, made):
        create(tmp_path / "later.zarr", pictures.spec(chunk=5))
        fill_depth(tmp_path / "later.zarr", layered)
        found, expected = open_dataset(tmp_path / "later.zarr"), open_dataset(tmp_path / "made.zarr")
        np.testing.assert_array_equal(found.depth[:], expected.depth[:])
        np.testing.assert_array_equal(found.depth_max, expected.depth_max)

    def test_in_the_place_of_other_depth(self, tmp_path, pictures, depth_model, guide_model, layered, made):
        path = tmp_path / "other.zarr"
        guided = depth_of(depth_model, guide=str(guide_model), scale=2)
        create(path, pictures.spec(chunk=5, depth=guided))
        with refused(RecipeMismatchError, "dataset-differs") as error:
            fill_depth(path, layered)
        assert any("mode" in problem for problem in error.value.problems)
        fill_depth(path, layered, overwrite=True)
        np.testing.assert_array_equal(
            open_dataset(path).depth[:], open_dataset(tmp_path / "made.zarr").depth[:]
        )
        fill_depth(path, guided, overwrite=True)
        assert not (path / "sources" / "figure_depth").exists()
        assert verify(path).sound


@pytest.mark.parametrize("virtual", [False, True])
def test_what_sources_csv_says_of_cut_sides_is_its_depth(tmp_path, own_pictures, layered, virtual):
    spec = own_pictures.spec(depth=layered)
    table = own_pictures.foregrounds / "sources.csv"
    found = []
    for name, sides in (("whole", "none"), ("cut", "bottom")):
        table.write_text(f"file,cut\nf0.png,{sides}\nf1.png,none\n")
        path = tmp_path / f"{name}.zarr"
        create(path, spec, virtual=virtual)
        ds = open_dataset(path)
        assert ds.whole("sources/foreground_cut").tolist() == [4 if sides == "bottom" else 0, 0]
        for sample in range(0, len(ds), 5):
            np.testing.assert_array_equal(ds.depth[sample].astype(np.float64), expected_depth(ds, sample))
        assert verify(path).sound
        found.append(ds)
    whole, cut = found
    # What is nearer widens the range of depth, and with it the grid of all.
    step = max(ds.document.depth.step for ds in found)
    differs = np.abs(whole.depth[:].astype(np.float64) - cut.depth[:]).max(axis=(1, 2)) > step
    assert differs[whole.placements.foreground == 0].mean() > 0.5
    assert not differs[whole.placements.foreground == 1].any()
    assert whole.document.recipe != cut.document.recipe
    np.testing.assert_array_equal(whole.image[:], cut.image[:])
    with refused(RecipeMismatchError, "dataset-differs", "cut"):
        create(tmp_path / "whole.zarr", spec, virtual=virtual)


def made_step(tmp_path) -> float:
    return open_dataset(tmp_path / "made.zarr").document.depth.step


class TestEverythingElseKnowsIt:
    def test_verify(self, made, tmp_path):
        path = tmp_path / "made.zarr"
        result = verify(path, depth=9)
        assert (result.sound, result.complete, result.depth_inferred) == (True, True, 9)
        assert "sources/figure_depth" in result.arrays

    def test_repair(self, made, tmp_path):
        path = tmp_path / "made.zarr"
        for name in ("depth/c/1/0/0", "sources/figure_depth/c/0/0"):
            target = path / name
            damaged = bytearray(target.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            target.write_bytes(bytes(damaged))
        assert not verify(path).sound
        repair(path)
        assert tree(path) == made[1]

    def test_hdf5(self, made, tmp_path):
        convert(tmp_path / "made.zarr", tmp_path / "made.h5")
        found, stored = open_dataset(tmp_path / "made.h5"), open_dataset(tmp_path / "made.zarr")
        np.testing.assert_array_equal(found.depth[:], stored.depth[:])
        np.testing.assert_array_equal(
            found.whole("sources/figure_depth"), stored.whole("sources/figure_depth")
        )
        assert verify(tmp_path / "made.h5").sound

    def test_info_preview_and_estimate(self, made, tmp_path):
        ds = open_dataset(tmp_path / "made.zarr")
        assert describe(ds)["depth"]["mode"] == "layered"
        assert render_preview(ds, rows=2).size[0] > 0
        expected = estimate(made[0])
        assert expected.depth_rate > 0
        assert expected.provider == "CPUExecutionProvider"

    def test_comparison(self, made, tmp_path, depth_model):
        networks = Networks.load(made[0].depth)
        comparison = compare(open_dataset(tmp_path / "made.zarr"), [(networks, 2)], samples=6, device="cpu")
        (figures,) = comparison.models
        assert (figures.mode, figures.guide) == ("layered", None)
        assert figures.label.startswith("layered:")
        stored = open_dataset(tmp_path / "made.zarr").depth[list(comparison.samples)]
        apart = np.abs(comparison.maps[0].astype(np.float64) - stored)
        assert apart.max() <= made_step(tmp_path), "as it is stored, on a finer grid"


class TestVirtual:
    """A virtual dataset has no depth on disk, and gives that of the stored one to the last bit."""

    @pytest.fixture
    def virtual(self, tmp_path, made):
        create(tmp_path / "virtual.zarr", made[0], virtual=True)
        return tmp_path / "virtual.zarr"

    def test_it_reads_as_if_depth_were_stored(self, tmp_path, virtual):
        ds, stored = open_dataset(virtual), open_dataset(tmp_path / "made.zarr")
        assert not (virtual / "depth").exists()
        assert (ds.depth.shape, ds.depth.dtype) == (stored.depth.shape, stored.depth.dtype)
        assert dict(ds.depth.attrs) == dict(stored.depth.attrs)
        np.testing.assert_array_equal(ds.depth[:], stored.depth[:])
        np.testing.assert_array_equal(ds.depth[3:30:4, 2:9, ::-3], stored.depth[3:30:4, 2:9, ::-3])
        np.testing.assert_array_equal(ds[7].depth, stored[7].depth)
        np.testing.assert_array_equal(ds.depth_min, stored.depth_min)
        np.testing.assert_array_equal(ds.background_depth[:], stored.background_depth[:])
        batch = ds.read([5, 1, 30, 5], fields="depth")
        np.testing.assert_array_equal(batch.depth, stored.depth[[5, 1, 30, 5]])
        (first, *_) = ds.batches(9, shuffle=True, seed=3)
        assert first.depth.shape == (9, *ds.depth.shape[1:])
        again = pickle.loads(pickle.dumps(ds))
        np.testing.assert_array_equal(again.depth[4], stored.depth[4])

    def test_stored_depth_is_recomposed_if_asked_for(self, tmp_path, made):
        stored = open_dataset(tmp_path / "made.zarr", pixels="stored")
        composed = open_dataset(tmp_path / "made.zarr", pixels="recomposed")
        np.testing.assert_array_equal(composed.depth[:], stored.depth[:])
        assert composed.depth.chunks_decoded == 0

    def test_zarr_and_xarray_read_it(self, tmp_path, virtual):
        stored = open_dataset(tmp_path / "made.zarr")
        group = zarr.open_group(fgbgpack.store(virtual), mode="r")
        np.testing.assert_array_equal(group["depth"][:], stored.depth[:])
        assert dict(group["depth"].attrs) == dict(stored.depth.attrs)
        with xarray.open_zarr(fgbgpack.store(virtual)) as opened:
            np.testing.assert_array_equal(opened["depth"][8].values, stored.depth[8])

    def test_the_same_bytes_however_it_is_made(self, tmp_path, made, virtual):
        expected = tree(virtual)
        done = virtualize(tmp_path / "made.zarr", tmp_path / "made-virtual.zarr")
        assert done.checked == done.samples  # once each, though depth is compared too
        found = tree(tmp_path / "made-virtual.zarr")
        assert found.keys() == expected.keys()
        assert [path for path in expected if path != "zarr.json" and found[path] != expected[path]] == []
        with pytest.raises(KeyboardInterrupt):
            create(tmp_path / "v.zarr", made[0], virtual=True, workers=1, on_event=Stop("depth", 2))
        create(tmp_path / "v.zarr", made[0], virtual=True)
        assert tree(tmp_path / "v.zarr") == expected

    def test_stored_again(self, tmp_path, made, virtual):
        materialize(virtual, tmp_path / "back.zarr", layout=SMALL_SHARDS)
        assert tree(tmp_path / "back.zarr") == made[1]
        materialize(virtual, layout=SMALL_SHARDS)
        assert tree(virtual) == made[1]

    def test_depth_filled_later_and_replaced(self, tmp_path, pictures, made, layered, guide_model):
        path = tmp_path / "later.zarr"
        create(path, pictures.spec(chunk=5), virtual=True)
        fill_depth(path, layered)
        assert not (path / "depth").exists()
        stored = open_dataset(tmp_path / "made.zarr")
        np.testing.assert_array_equal(open_dataset(path).depth[:], stored.depth[:])
        guided = replace(layered, mode="guided", guide=str(guide_model))
        fill_depth(path, guided, overwrite=True)
        assert (path / "depth" / "c").exists()
        assert verify(path).sound
        fill_depth(path, layered, overwrite=True)
        assert not (path / "depth").exists()
        np.testing.assert_array_equal(open_dataset(path).depth[:], stored.depth[:])

    def test_verify_and_repair(self, virtual):
        expected = tree(virtual)
        result = verify(virtual, depth=3)
        assert (result.sound, result.complete, result.depth_inferred) == (True, True, 0)
        assert "depth" not in result.arrays
        target = virtual / "depth_max" / "c" / "1"
        damaged = bytearray(target.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        target.write_bytes(bytes(damaged))
        assert not verify(virtual).sound
        repair(virtual)
        assert tree(virtual) == expected

    def test_extremes_that_are_not_those_of_the_layers(self, virtual):
        array = zarr.open_array(virtual / "depth_min", mode="r+")
        array[7] = array[7] + np.float16(1)
        verify(virtual, accept=True)
        faults = verify(virtual).faults
        assert [(fault.code, fault.array) for fault in faults] == [("extremes-differ", "depth_min")]

    def test_depth_that_is_not_of_the_layers_is_not_left_out(self, tmp_path, made):
        path = tmp_path / "made.zarr"
        array = zarr.open_array(path / "depth", mode="r+")
        array[11, 3, 4] = array[11, 3, 4] + np.float16(0.5)
        verify(path, accept=True)
        with refused(DatasetError, "pixels-differ", "depth"):
            virtualize(path, tmp_path / "out.zarr")

    def test_while_it_is_not_complete(self, tmp_path, made):
        with pytest.raises(KeyboardInterrupt):
            create(tmp_path / "v.zarr", made[0], virtual=True, workers=1, on_event=Stop("backgrounds", 1))
        ds = open_dataset(tmp_path / "v.zarr", allow_incomplete=True)
        assert np.isnan(ds.depth[:3]).all(), "what is not there yet reads as NaN"

    def test_hdf5_info_card_and_estimate(self, tmp_path, made, virtual):
        convert(virtual, tmp_path / "v.h5")
        stored = open_dataset(tmp_path / "made.zarr")
        np.testing.assert_array_equal(open_dataset(tmp_path / "v.h5").depth[:], stored.depth[:])
        assert describe(open_dataset(virtual))["arrays"]["depth"]["stored"] == 0
        assert "depth" not in estimate(made[0], virtual=True).bytes
        write_cards(virtual, folder=tmp_path)
        text = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.md"))
        assert "plane before that depth" in text


@pytest.mark.parametrize("rotation", [0, 20])
def test_scenes(tmp_path, pictures, layered, rotation):
    """Objects are drawn from far to near: each is before what it hides, other objects too."""
    more = {
        "objects": "1-3",
        "foreground_height": "6-12",
        "samples": 24,
        "truncate": 0.4,
        "rotation": rotation,
        "blend": "soft,hard",
    }
    spec = pictures.spec(depth=layered, **more)
    create(tmp_path / "s.zarr", spec)
    create(tmp_path / "v.zarr", spec, virtual=True)
    ds = open_dataset(tmp_path / "s.zarr")
    np.testing.assert_array_equal(open_dataset(tmp_path / "v.zarr").depth[:], ds.depth[:])
    assert verify(tmp_path / "s.zarr", depth=8).sound
    step, figures = ds.document.depth.step, ds.whole("sources/figure_depth").astype(np.float64)
    objects, sprites, cut = ds.objects, ds.recipe.sprites, ds.recipe.catalog.cut
    backgrounds, codes = ds.whole("background"), np.rint(ds.background_depth[:].astype(np.float64) / step)
    for sample, background in enumerate(backgrounds.tolist()):
        parts, numbers = [], []
        for k in range(int(objects.count[sample])):
            one = {name: array[sample, k] for name, array in vars(objects).items()}
            where = (np.array([one[name]]) for name in ("foreground", "height", "blend"))
            sprite = int(sprites.index(*where)[0])
            height, width = sprites.size[sprite]
            start = sprites.offset[sprite]
            patch = sprites.pixels[start : start + 4 * height * width].reshape(height, width, 4)
            upright = patch[:, ::-1] if one["flip"] else patch
            turned, rows, columns = naive_scenes.turn(upright, int(one["rotation"]), one["blend"] == 1)
            parts.append((turned, False, int(one["y"]) - rows, int(one["x"]) - columns))
            far, near = figures[background]
            pixels = height * (1.7 / PORTRAIT_HEIGHT if cut[one["foreground"]] & BOTTOM else 1)
            nearness = (far + near * pixels) / step
            numbers.append(-2048 if np.isnan(nearness) else int(np.clip(round(nearness), -2048, 2048)))
        expected, _ = naive.layer_depth(codes[background], parts, numbers, 1)
        np.testing.assert_array_equal(ds.depth[sample].astype(np.float64), expected * step)


class TestWhatCannotBe:
    def test_a_guide(self, depth_model, guide_model, pictures):
        with refused(SpecError, "spec-invalid") as error:
            pictures.spec(depth=depth_of(depth_model, mode="layered", guide=str(guide_model)))
        assert any("guide" in problem for problem in error.value.problems)

    def test_an_imported_dataset(self, tmp_path, layered):
        root = write_samples(tmp_path / "files", [f"bg/{i}" for i in range(4)])
        import_folder(tmp_path / "imported.zarr", ImportSpec(str(root), depths="none"))
        with refused(SpecError, "depth-impossible") as error:
            fill_depth(tmp_path / "imported.zarr", layered)
        assert "layered" in error.value.problems[0]

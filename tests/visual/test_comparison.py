"""Depth models compared on real datasets, by networks whose answers are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import naive
import numpy as np
import pytest
from builders import Pictures, depth_of
from onnx import helper
from onnx_models import card, gray, not_a_number, write_network
from PIL import Image
from pixels import enlarged, find_all

from fgbgpack import create, open_dataset
from fgbgpack.composition.compositor import Compositor
from fgbgpack.depth import load_model
from fgbgpack.depth.strategies import Networks
from fgbgpack.errors import DatasetError, DepthModelError, IncompleteDatasetError, SourceError, SpecError
from fgbgpack.rendering import render_scene
from fgbgpack.sources.catalog import load_catalog
from fgbgpack.sources.listing import find_sources
from fgbgpack.visual.colours import depth_colours
from fgbgpack.visual.comparison import compare
from fgbgpack.visual.comparison_picture import render_comparison
from fgbgpack.visual.shown_samples import choose_samples
from fgbgpack.visual.statistics import Spread

# --- networks of known answers ---------------------------------------------------------------------


def luminance(images):
    """What ``gray`` answers, exact in float16: (..., 3) to (...)."""
    return images.astype(float) @ [0.25, 0.5, 0.25]


def inverted(path):
    """A network that answers 255 less the luminance."""
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["gray"]),
        helper.make_node("Sub", ["white", "gray"], ["output"]),
    ]
    weights = {
        "weights": np.array([0.25, 0.5, 0.25], np.float32).reshape(1, 3, 1, 1),
        "white": np.array(255, np.float32),
    }
    return write_network(path, nodes, weights=weights, card=card(name="inverted"))


def constant(path):
    """A network that answers 7, whatever it sees."""
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Mul", ["red", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "seven"], ["output"]),
    ]
    numbers = {"nothing": np.array(0, np.float32), "seven": np.array(7, np.float32)}
    weights = {"channel": np.array([0]), **numbers}
    return write_network(path, nodes, weights=weights, card=card(name="constant"))


def row_number(path):
    """A network that answers the number of the pixel's row: floors recede upwards."""
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Mul", ["red", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "one"], ["ones"]),
        helper.make_node("CumSum", ["ones", "axis"], ["output"]),
    ]
    numbers = {"nothing": np.array(0, np.float32), "one": np.array(1, np.float32)}
    weights = {"channel": np.array([0]), "axis": np.array(2), **numbers}
    return write_network(path, nodes, weights=weights, card=card(name="rows"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    paths = {
        "gray": gray(folder / "gray.onnx", card=card(name="gray")),
        "metres": gray(
            folder / "metres.onnx", card=card(name="metres", output={"quantity": "depth", "unit": "m"})
        ),
        "farther": gray(folder / "farther.onnx", card=card(name="farther", output={"quantity": "depth"})),
        "inverted": inverted(folder / "inverted.onnx"),
        "constant": constant(folder / "constant.onnx"),
        "rows": row_number(folder / "rows.onnx"),
    }
    return {name: load_model(path) for name, path in paths.items()}


@pytest.fixture(scope="module")
def guide(guide_model):
    return load_model(guide_model)


@pytest.fixture(scope="module")
def plain(dataset):
    return open_dataset(dataset)


def run(dataset, *models, **options):
    chosen = [(Networks(model), 1) for model in models]
    return compare(dataset, chosen, **({"device": "cpu", "samples": 12} | options))


def ranks_of(comparison):
    return {(pair.first, pair.second): pair.rank for pair in comparison.agreement}


# --- models on a dataset ---------------------------------------------------------------------------


class TestCompare:
    @pytest.mark.slow
    def test_known_networks(self, plain, models):
        comparison = run(
            plain, *(models[name] for name in ("gray", "inverted", "constant", "farther", "metres"))
        )
        chosen = choose_samples(plain.placements, 12, seed=0)
        near = np.array([luminance(plain[i].image) for i in chosen])
        np.testing.assert_array_equal(comparison.maps[0], near)
        np.testing.assert_array_equal(comparison.maps[1], 255 - near)
        assert comparison.samples == tuple(chosen)
        assert comparison.band == 2

        steps = [naive.outline_step(n, plain[i].mask, 2) for n, i in zip(near, chosen, strict=True)]
        inverse = 1 / np.maximum(near, 0.1)
        inverse_steps = [
            naive.outline_step(n, plain[i].mask, 2) for n, i in zip(inverse, chosen, strict=True)
        ]
        for figures, expected in zip(
            comparison.models,
            (steps, np.negative(steps), np.zeros(12), np.negative(steps), inverse_steps),
            strict=True,
        ):
            quartiles = np.quantile(expected, [0.25, 0.5, 0.75])
            found = figures.step
            assert [found.lower, found.median, found.upper] == pytest.approx(quartiles, abs=1e-12)
            assert found.count == 12
            assert figures.truth is None

        ranks = ranks_of(comparison)
        assert len(ranks) == 10
        # Turned so that larger is nearer, luminance as depth is as much the opposite as its inversion.
        assert ranks["gray x1", "inverted x1"] == Spread(-1.0, -1.0, -1.0, 12)
        assert ranks["gray x1", "metres x1"] == Spread(-1.0, -1.0, -1.0, 12)
        assert ranks["inverted x1", "farther x1"] == Spread(1.0, 1.0, 1.0, 12)
        assert ranks["gray x1", "constant x1"] == Spread(0.0, 0.0, 0.0, 12)

    @pytest.mark.slow
    def test_agreement_is_spearman_of_each_map(self, plain, models):
        comparison = run(plain, models["gray"], models["rows"], samples=5)
        expected = [naive.spearman(*comparison.maps[:, i]) for i in range(5)]
        quartiles = np.quantile(expected, [0.25, 0.5, 0.75])
        rank = comparison.agreement[0].rank
        assert [rank.lower, rank.median, rank.upper] == pytest.approx(quartiles, abs=1e-12)

    def test_a_scale_renders_from_the_originals(self, pictures, plain, models):
        comparison = compare(plain, [(Networks(models["gray"]), 2)], samples=12, device="cpu")
        sources = find_sources(pictures.backgrounds, pictures.foregrounds)
        large = load_catalog(sources, height=21, width=33, fit="crop", foreground_height=10, scale=2)
        image = np.empty((12, 42, 66, 3), np.uint8)
        placements = plain.placements[np.array(comparison.samples)].scaled(2)
        compositor = Compositor(large.background, large.foreground, large.foreground_size)
        compositor.compose(placements, image, np.empty(image.shape[:3], np.uint8))
        averaged = luminance(image).reshape(12, 21, 2, 33, 2).mean(axis=(2, 4))
        np.testing.assert_allclose(comparison.maps[0].astype(float), averaged, atol=0.07)

    @pytest.mark.slow
    @pytest.mark.parametrize("scale", [1, 2])
    def test_answers_what_the_dataset_stores(self, own_pictures, depth_model, tmp_path, scale):
        create(tmp_path / "d.zarr", own_pictures.spec(depth=depth_of(depth_model, scale=scale)), device="cpu")
        ds = open_dataset(tmp_path / "d.zarr")
        models = [(Networks(load_model(depth_model)), scale)]
        comparison = compare(ds, models, stored=True, samples=10, device="cpu")
        kept, fresh = comparison.maps.astype(float)
        assert np.array_equal(kept, [ds[i].depth for i in comparison.samples])
        # The grid's rounding, then that of float16, which may go the same way.
        tolerance = ds.document.depth.step / 2 + np.spacing(np.float16(kept.max()))
        assert np.abs(kept - fresh).max() <= tolerance
        of_stored, of_model = comparison.models
        assert (of_stored.label, of_stored.model, of_stored.scale) == ("stored", "tiny", scale)
        assert of_model.label == f"tiny x{scale}"
        assert of_stored.sha256 == of_model.sha256
        assert of_stored.precision == of_model.precision == "fp32"
        assert comparison.agreement[0].rank.lower > 0.999

    def test_stored_depth_alone(self, depth_dataset):
        comparison = compare(open_dataset(depth_dataset), [], stored=True, samples=5)
        assert [model.label for model in comparison.models] == ["stored"]
        assert comparison.agreement == ()

    def test_the_same_seed_looks_at_the_same_samples(self, plain, models):
        first, again, other = (run(plain, models["gray"], samples=6, seed=seed) for seed in (3, 3, 4))
        assert first == again
        assert first.samples != other.samples
        assert set(plain.placements.background[list(first.samples)]) == {0, 1, 2}

    def test_more_than_there_are(self, plain, models):
        assert run(plain, models["gray"], samples=1000).samples == tuple(range(36))

    def test_tells_how_far_it_is(self, plain, models):
        heard = []
        run(plain, models["gray"], models["rows"], on_map=lambda *count: heard.append(count))
        assert heard == sorted(heard)
        assert heard[-1] == (24, 24)
        assert {total for _, total in heard} == {24}

    def test_models_of_one_name_have_labels_of_their_own(self, plain, models):
        comparison = run(plain, models["gray"], models["gray"])
        assert [model.label for model in comparison.models] == ["gray x1", "gray x1 #2"]
        assert ranks_of(comparison)["gray x1", "gray x1 #2"].median == 1

    def test_in_half_precision(self, plain, models):
        figures = run(plain, models["gray"], precision="fp16").models[0]
        assert figures.precision == "fp16"
        assert figures.step == run(plain, models["gray"]).models[0].step  # quarters are exact in float16

    def test_survives_json(self, plain, models):
        comparison = run(plain, models["gray"], models["constant"])
        document = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
        assert document["samples"] == list(comparison.samples)
        assert document["models"][0]["provider"] == "CPUExecutionProvider"
        assert document["models"][0]["step"]["median"] == comparison.models[0].step.median
        assert document["agreement"][0] == {
            "first": "gray x1",
            "second": "constant x1",
            "rank": {"lower": 0, "median": 0, "upper": 0, "count": 12},
        }


# --- true depth ------------------------------------------------------------------------------------


def save_depth(path: Path, millimetres: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(millimetres.astype(np.uint16)).save(path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Backgrounds of the dataset's size whose gray is linear in inverse depth, with their true depth."""
    root = tmp_path_factory.mktemp("measured")
    pictures = Pictures(root / "pictures", backgrounds=0)
    for i in range(2):
        value = np.random.default_rng(i).integers(0, 200, (21, 33))
        Image.fromarray(np.dstack([value] * 3).astype(np.uint8)).save(pictures.backgrounds / f"room {i}.png")
        save_depth(pictures.root / "depth" / f"room {i}.png", np.rint(2e6 / (value + 50)))
    create(root / "m.zarr", pictures.spec())
    return pictures, open_dataset(root / "m.zarr")


class TestTrueDepth:
    def test_is_found_beside_the_backgrounds(self, measured, models):
        _, ds = measured
        near, far, flat = run(ds, models["gray"], models["inverted"], models["constant"]).models
        assert near.truth == Spread(1.0, 1.0, 1.0, 12)
        assert far.truth == Spread(-1.0, -1.0, -1.0, 12)
        assert flat.truth.median == 0
        # Scale and shift are free, so the opposite fits as well; millimetres are rounded.
        assert near.truth_error.upper < 1e-4
        assert far.truth_error.upper < 1e-4
        assert flat.truth_error.lower > 0.1

    def test_relative_depth_has_an_order_but_no_error(self, measured, models):
        _, ds = measured
        farther = run(ds, models["farther"]).models[0]
        assert farther.truth.median == -1
        assert farther.truth_error is None

    def test_metres_are_those_of_the_file_outside_the_mask(self, measured, models):
        pictures, ds = measured
        comparison = run(ds, models["gray"])
        assert comparison.true_depth == str(pictures.root / "depth")
        for sample, truth in zip(comparison.samples, comparison.truth, strict=True):
            batch = ds[sample]
            with Image.open(pictures.root / "depth" / f"room {batch.background}.png") as picture:
                metres = np.asarray(picture) / np.float32(1000)
            np.testing.assert_array_equal(truth, np.where(batch.mask == 0, metres, np.nan))

    def test_another_folder_and_zeros_that_are_not_known(self, measured, models, tmp_path):
        _, ds = measured
        millimetres = np.zeros((21, 33))
        millimetres[:, 16:] = 1000 + np.arange(17)
        save_depth(tmp_path / "elsewhere" / "room 1.png", millimetres)
        comparison = run(ds, models["rows"], true_depth=tmp_path / "elsewhere")
        here = ds.placements.background[list(comparison.samples)] == 1
        assert np.isnan(comparison.truth[~here]).all()
        assert np.isnan(comparison.truth[..., :16]).all()
        assert np.isfinite(comparison.truth[here][:, :, 16:]).any()
        # Rows and columns know nothing of each other but where the person hides some.
        assert comparison.models[0].truth.count == here.sum()
        assert abs(comparison.models[0].truth.median) < 0.2

    @pytest.mark.parametrize("fit", ["crop", "stretch"])
    def test_is_cut_like_the_background(self, models, tmp_path, fit):
        # Twice as wide as needed and twice as large: every value stands on 2x2 pixels, or 4x2 when stretched.
        pictures = Pictures(tmp_path / "wide", backgrounds=0)
        column = np.arange(96) // (2 if fit == "crop" else 4)
        value = np.repeat(column[None] * 2 + 20, 48, axis=0)
        Image.fromarray(np.dstack([value] * 3).astype(np.uint8)).save(pictures.backgrounds / "wide.png")
        save_depth(pictures.root / "depth" / "wide.png", value * 10)
        create(tmp_path / "w.zarr", pictures.spec(width=24, height=24, fit=fit, placements=2))
        ds = open_dataset(tmp_path / "w.zarr")
        comparison = run(ds, models["farther"])
        known = np.isfinite(comparison.truth)
        expected = np.broadcast_to((np.arange(24) + (12 if fit == "crop" else 0)) * 2 + 20, known.shape)
        np.testing.assert_allclose(comparison.truth[known], expected[known] / 100, rtol=1e-6)
        # The background itself is seen through a wider filter, so it is the order that is the same.
        assert comparison.models[0].truth.lower > 0.999

    @pytest.mark.slow
    def test_rendered_rooms(self, models, tmp_path):
        pictures = Pictures(tmp_path / "rooms", backgrounds=0, patch=(12, 8))
        scenes = [render_scene(i, height=24, width=32) for i in range(2)]
        for i, scene in enumerate(scenes):
            Image.fromarray(scene.image).save(pictures.backgrounds / f"{i}.png")
            save_depth(pictures.root / "depth" / f"{i}.png", np.rint(scene.depth.astype(float) * 1000))
        create(tmp_path / "r.zarr", pictures.spec(width=32, height=24))
        ds = open_dataset(tmp_path / "r.zarr")
        comparison = run(ds, models["rows"], samples=4)
        rows = np.repeat(np.arange(24)[:, None], 32, axis=1)
        expected = []
        for sample in comparison.samples:
            batch = ds[sample]
            metres = np.rint(scenes[int(batch.background)].depth.astype(float) * 1000) / 1000
            free = batch.mask == 0
            expected.append(naive.spearman(rows[free], 1 / metres[free]))
        found = comparison.models[0].truth
        assert found.median == pytest.approx(np.median(expected), abs=1e-9)
        # Floors recede upwards in every room.
        assert found.median > 0.3

    def test_a_folder_of_other_pictures_beside_the_backgrounds_is_ignored(self, measured, models, tmp_path):
        pictures, ds = measured
        shutil.copytree(pictures.backgrounds, tmp_path / "bg")
        (tmp_path / "depth").mkdir()
        Image.new("L", (33, 21)).save(tmp_path / "depth" / "room 0.png")
        comparison = run(ds, models["gray"], backgrounds=tmp_path / "bg")
        assert comparison.true_depth is None
        assert comparison.truth is None
        assert comparison.models[0].truth is None

    def test_a_given_folder_must_fit(self, measured, models, tmp_path):
        pictures, ds = measured
        folder = Path(shutil.copytree(pictures.root / "depth", tmp_path / "depth"))
        Image.new("L", (33, 21)).save(folder / "room 0.png")
        (folder / "room 1.png").write_bytes((folder / "room 1.png").read_bytes()[:90])
        with pytest.raises(SourceError) as caught:
            run(ds, models["gray"], true_depth=folder)
        assert caught.value.code == "true-depth-unusable"
        assert len(caught.value.problems) == 2
        assert "room 0.png: numbers of 8 bits; expected millimetres of 16 bits" in caught.value.problems[0]
        assert "room 1.png" in caught.value.problems[1]

    def test_a_folder_without_them(self, measured, models, tmp_path):
        _, ds = measured
        with pytest.raises(SourceError) as caught:
            run(ds, models["gray"], true_depth=tmp_path / "nowhere")
        assert caught.value.code == "true-depth-missing"
        assert "room 0.png" in caught.value.message


# --- what cannot be compared -----------------------------------------------------------------------


class TestRefuses:
    def test_options_all_at_once(self, plain, models, guide):
        with pytest.raises(SpecError) as caught:
            compare(
                plain,
                [
                    (Networks(models["gray"]), 5),
                    (Networks(models["rows"]), 0),
                    (Networks(models["rows"], guide), 17),
                ],
                samples=0,
                seed=-1,
            )
        assert caught.value.problems == (
            "scale of gray: found 5, expected 1 to 4",
            "scale of rows: found 0, expected 1 to 4",
            "scale of guided:rows: found 17, expected 1 to 16",
            "samples: found 0, expected 1 or more",
            "seed: found -1, expected 0 or more",
        )

    def test_nothing_to_compare(self, plain):
        with pytest.raises(SpecError) as caught:
            compare(plain, [])
        assert caught.value.problems == ("models: found none, expected at least one",)

    def test_missing_depth(self, plain):
        with pytest.raises(DatasetError) as caught:
            compare(plain, [], stored=True)
        assert caught.value.code == "depth-missing"

    @pytest.mark.parametrize("part", ["pixels", "depth"])
    def test_incomplete_datasets(self, depth_dataset, tmp_path, part):
        path = tmp_path / "d.zarr"
        path.mkdir()
        for entry in depth_dataset.iterdir():
            (path / entry.name).symlink_to(entry)
        root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        document = root["attributes"]["fgbgpack"]
        document["complete"] = document[part]["complete"] = False
        (path / "zarr.json").unlink()
        (path / "zarr.json").write_text(json.dumps(root), encoding="utf-8")
        with pytest.raises(IncompleteDatasetError) as caught:
            compare(open_dataset(path, allow_incomplete=True), [], stored=True)
        assert caught.value.code == f"{part}-incomplete"

    def test_a_network_that_fails(self, plain, tmp_path):
        with pytest.raises(DepthModelError):
            run(plain, load_model(not_a_number(tmp_path / "nan.onnx")))

    @pytest.mark.slow
    def test_missing_originals_unless_their_folders_are_given(self, own_pictures, models, tmp_path):
        create(tmp_path / "d.zarr", own_pictures.spec())
        ds = open_dataset(tmp_path / "d.zarr")
        before = compare(ds, [(Networks(models["gray"]), 2)], device="cpu")
        moved = own_pictures.root.rename(tmp_path / "moved")
        with pytest.raises(SourceError):
            compare(ds, [(Networks(models["gray"]), 2)], device="cpu")
        folders = {"backgrounds": moved / "bg", "foregrounds": moved / "fg"}
        again = compare(ds, [(Networks(models["gray"]), 2)], device="cpu", **folders)
        np.testing.assert_array_equal(again.maps, before.maps)
        assert compare(ds, [(Networks(models["gray"]), 1)], device="cpu").models

    def test_changed_originals(self, own_pictures, models, tmp_path):
        create(tmp_path / "d.zarr", own_pictures.spec())
        own_pictures.background("b1.png", 40, 60, seed=77)
        (own_pictures.foregrounds / "f0.png").unlink()
        with pytest.raises(SourceError) as caught:
            compare(open_dataset(tmp_path / "d.zarr"), [(Networks(models["gray"]), 2)], device="cpu")
        assert [problem.split(": ")[0] for problem in caught.value.problems] == [
            "background b1.png",
            "foreground f0.png",
        ]


# --- the picture -----------------------------------------------------------------------------------


class TestPicture:
    def test_shows_each_sample_and_what_each_model_made_of_it(self, measured, models):
        _, ds = measured
        comparison = run(ds, models["gray"], models["metres"])
        figure = render_comparison(ds, comparison, rows=3)
        for row, index in enumerate((0, 6, 11)):  # evenly from twelve
            batch = ds[comparison.samples[index]]
            cells = [
                batch.image,
                batch.mask,
                depth_colours(comparison.maps[0, index], larger_is_nearer=True),
                depth_colours(
                    1 / np.maximum(comparison.maps[1, index].astype(float), 0.1), larger_is_nearer=True
                ),
            ]
            places = [find_all(figure, enlarged(cell, 7)) for cell in cells]
            assert all(len(place) == 1 for place in places), row
            lefts = [left for ((_, left),) in places]
            assert lefts == sorted(set(lefts))
            assert len({top for ((top, _),) in places}) == 1
            # True depth stands between the mask and the first model, unless covered.
            (top, second), third = places[1][0], lefts[2]
            left = second + (third - second) // 2
            true = depth_colours(1 / comparison.truth[index].astype(float), larger_is_nearer=True)
            colours = enlarged(true, 7)
            shown = np.asarray(figure)[top : top + 147, left : left + 231]
            known = enlarged(batch.mask == 0, 7)
            np.testing.assert_array_equal(shown[known], colours[known])
            assert (shown[~known] > 200).all()

    def test_is_the_same_every_time_and_has_a_column_less_without_true_depth(self, plain, models):
        comparison = run(plain, models["gray"], samples=3)
        figure = render_comparison(plain, comparison)
        assert figure.tobytes() == render_comparison(plain, comparison, rows=3).tobytes()
        two = run(plain, models["gray"], models["rows"], samples=3)
        assert render_comparison(plain, two).width > figure.width

    @pytest.mark.parametrize("rows", [0, 49])
    def test_refuses_rows_that_cannot_be_drawn(self, plain, models, rows):
        comparison = run(plain, models["gray"], samples=1)
        with pytest.raises(SpecError) as caught:
            render_comparison(plain, comparison, rows=rows)
        assert caught.value.code == "rows-invalid"

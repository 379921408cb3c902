"""Checks of depth models on rendered rooms: what is measured, and which signs of wrong cards are found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import card, constant_guided, gray, guided_card, halving, write_guided, write_network

from fgbgpack.depth import BackgroundDepth, load_model
from fgbgpack.depth.card import Quantity
from fgbgpack.visual import model_check
from fgbgpack.visual.model_check import ModelCheck, check_model, render_check


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch):
    monkeypatch.setattr(model_check, "_TIMED_SECONDS", 0.01)


def check(path: Path) -> ModelCheck:
    return check_model(load_model(path), device="cpu")


@pytest.fixture(scope="module")
def knowing(tmp_path_factory) -> Path:
    """A network that knows the rooms: it tells them by their mean colour, and answers their true depth."""
    images, truth = model_check.scene_pictures()
    colours = images.mean(axis=(1, 2)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "one_by_three"], ["mean"]),
        helper.make_node("Sub", ["mean", "colours"], ["difference"]),
        helper.make_node("ReduceL2", ["difference"], ["distance"], axes=[2], keepdims=0),
        helper.make_node("ArgMin", ["distance"], ["which"], axis=1, keepdims=0),
        helper.make_node("Gather", ["depths", "which"], ["output"], axis=0),
    ]
    return write_network(
        tmp_path_factory.mktemp("knowing") / "knowing.onnx",
        nodes,
        input=("input", TensorProto.FLOAT, ["n", 3, 240, 320]),
        output=("output", TensorProto.FLOAT, ["n", 1, 240, 320]),
        weights={"one_by_three": np.array([-1, 1, 3]), "colours": colours[None], "depths": truth[:, None]},
        card=knowing_card(),
    )


def knowing_card(**output) -> dict:
    result = {"quantity": "depth", "unit": "m"} | output
    return card(name="knowing", input={"size": {"fixed": [240, 320]}}, output=result)


class TestPlain:
    def with_card(self, knowing, tmp_path, **output) -> ModelCheck:
        path = tmp_path / "knowing.onnx"
        path.write_bytes(knowing.read_bytes())
        path.with_suffix(".json").write_text(json.dumps(knowing_card(**output)))
        return check(path)

    @pytest.mark.slow
    def test_a_model_that_is_right(self, knowing):
        checked = check(knowing)
        assert checked.problems == ()
        assert (checked.network, len(checked.agreement)) == ((240, 320), 5)
        assert checked.rank > 0.999
        assert checked.metres == pytest.approx(1, abs=0.01)
        assert checked.rate > 0
        picture = np.asarray(render_check(checked))
        assert picture.shape[1] > 3 * 320
        # True depth and a perfect answer have the same colours.
        np.testing.assert_allclose(picture[30:270, 336:656], picture[30:270, 664:984], atol=3)

    @pytest.mark.slow
    def test_a_card_that_has_near_and_far_the_wrong_way_round(self, knowing, tmp_path):
        checked = self.with_card(knowing, tmp_path, quantity="inverse_depth", unit=None)
        assert checked.rank < 0
        assert ["output.quantity" in problem for problem in checked.problems] == [True]

    def test_a_card_that_has_another_unit(self, knowing, tmp_path):
        checked = self.with_card(knowing, tmp_path, transform=[{"multiply": 1000}])
        assert checked.metres == pytest.approx(1000, rel=0.01)
        assert ["output.unit" in problem for problem in checked.problems] == [True]

    def test_a_transform_that_cuts_everything_off(self, knowing, tmp_path):
        checked = self.with_card(knowing, tmp_path, transform=[{"clip": [100, 200]}])
        assert checked.minimum == checked.maximum == 100
        assert ["output.transform" in problem for problem in checked.problems] == [True]

    def test_a_network_that_does_not_see_depth(self, tmp_path):
        checked = check(gray(tmp_path / "gray.onnx"))
        assert checked.rank < checked.gradient
        assert ["input.range" in problem for problem in checked.problems] == [True]

    def test_sizes_are_reported(self, tmp_path):
        checked = check(halving(tmp_path / "m.onnx", card=card(input={"size": {"multiple_of": 128}})))
        assert (checked.picture, checked.network) == ((240, 320), (256, 384))


def knowing_guide(path: Path, *, of: str = "foreground", looks_at: str = "mask") -> Path:
    """A guided network that knows the figures by how much of the picture they cover, and where they stand."""
    figures, (_, rooms) = model_check.floor_figures(), model_check.scene_pictures()
    backgrounds = BackgroundDepth.of(rooms, Quantity("depth", "m"))
    areas = figures.mask.mean(axis=(1, 2)) / 255
    inverse = 1 / (figures.truth if of == "picture" else figures.distance[:, None, None])
    answers = (inverse - backgrounds.centre[figures.scene, None, None]) / backgrounds.spread[
        figures.scene, None, None
    ]
    answers = np.broadcast_to(answers, figures.truth.shape)
    # To be told from the areas, which lie between 0 and 1, when the network is to look at nothing.
    nodes = [
        helper.make_node("Mul", ["mask", "gain"], ["perhaps"]),
        helper.make_node("GlobalAveragePool", ["perhaps"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "one"], ["area"]),
        helper.make_node("Sub", ["area", "areas"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("ArgMin", ["distance"], ["which"], axis=1, keepdims=0),
        helper.make_node("Gather", ["answers", "which"], ["output"], axis=0),
    ]
    return write_guided(
        path,
        nodes,
        size=(240, 320),
        weights={
            "gain": np.array(1 if looks_at == "mask" else 0, np.float32),
            "one": np.array([-1, 1]),
            "areas": areas[None].astype(np.float32),
            "answers": np.ascontiguousarray(answers[:, None], np.float32),
        },
        card=guided_card(
            name="guide",
            guides={"mask": {"name": "mask", "range": [0, 1]}},
            input={"size": {"fixed": [240, 320]}},
            output={"of": of},
        ),
    )


class TestGuided:
    @pytest.mark.slow
    @pytest.mark.parametrize("of", ["picture", "foreground"])
    def test_a_network_that_is_right(self, tmp_path, of):
        checked = check(knowing_guide(tmp_path / "guide.onnx", of=of))
        assert checked.problems == ()
        assert (checked.quantity, checked.unit) == ("depth", "m")
        assert checked.rank > 0.99
        figures = checked.figures
        assert figures is not None
        assert figures.uses_mask is True
        assert figures.off < 0.01
        assert figures.found == pytest.approx(figures.distance, rel=0.01)
        assert figures.step == pytest.approx(figures.true_step, abs=0.05)
        assert render_check(checked).width > 3 * 320

    @pytest.mark.slow
    def test_a_network_that_ignores_the_mask(self, tmp_path):
        checked = check(knowing_guide(tmp_path / "guide.onnx", looks_at="nothing"))
        assert checked.figures is not None
        assert checked.figures.uses_mask is False
        assert "guides.mask.name" in checked.problems[0]

    @pytest.mark.slow
    def test_figures_that_do_not_stand_out(self, tmp_path):
        nodes = [
            helper.make_node("Mul", ["mask", "little"], ["some"]),
            helper.make_node("Add", ["some", "background"], ["output"]),
        ]
        path = write_guided(tmp_path / "m.onnx", nodes, weights={"little": np.array(0.01, np.float32)})
        assert any("guides.mask.range" in problem for problem in check(path).problems)

    @pytest.mark.slow
    def test_figures_that_stand_anywhere(self, tmp_path):
        checked = check(constant_guided(tmp_path / "m.onnx", 40.0))
        assert checked.figures is not None
        assert checked.figures.off > 0.3
        assert any("Look at guides, " in problem for problem in checked.problems)

    @pytest.mark.slow
    def test_a_network_that_is_told_of_the_mask_alone(self, tmp_path):
        document = guided_card(guides={"background_depth": ...}, output={"of": ...})
        nodes = [helper.make_node("Identity", ["mask"], ["output"])]
        path = write_guided(tmp_path / "m.onnx", nodes, inputs=("input", "mask"), card=document)
        checked = check(path)
        assert checked.figures is None
        assert len(checked.agreement) == 10
        assert (checked.minimum, checked.maximum) == (-1, 1)

    @pytest.mark.slow
    def test_where_the_figures_stand(self):
        figures, (images, rooms) = model_check.floor_figures(), model_check.scene_pictures()
        assert figures.scene.tolist() == sorted([*range(5)] * 2)
        for i, room in enumerate(figures.scene):
            outside = figures.mask[i] == 0
            np.testing.assert_array_equal(figures.image[i][outside], images[room][outside])
            np.testing.assert_array_equal(figures.truth[i][outside], rooms[room][outside])
            covered = figures.mask[i] >= 128
            np.testing.assert_array_equal(figures.truth[i][covered], figures.distance[i])
            # On the floor that was seen below its feet, and before everything behind it.
            foot = np.flatnonzero(covered.any(axis=1))[-1]
            column = int(np.median(np.flatnonzero(covered[foot])))
            assert rooms[room][min(foot + 1, 239), column] == pytest.approx(figures.distance[i], rel=0.06)
            assert rooms[room][covered].min() > 0.94 * figures.distance[i]
        assert len(np.unique(figures.distance)) == 10

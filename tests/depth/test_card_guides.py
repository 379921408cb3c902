"""Cards of networks with guides."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper
from onnx_models import (
    UINT8,
    card,
    echo,
    guided,
    guided_card,
    write_network,
)
from refusals import refused

from fgbgpack import schema
from fgbgpack.depth import load_model
from fgbgpack.errors import DepthModelError


def refusal(path):
    with refused(DepthModelError, "card-invalid") as caught:
        load_model(path)
    return caught.value.problems


class TestCard:
    def test_is_told_from_other_models(self, tmp_path):
        assert not load_model(echo(tmp_path / "e.onnx")).card.is_guided
        model = load_model(guided(tmp_path / "m.onnx"))
        assert model.card.is_guided
        assert model.card.takes_mask

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"guides": {}}, "guides"),
            ({"guides": {"normals": {"name": "n"}}}, "'normals'"),
            ({"guides": {"mask": {"range": [0, 1]}}}, "guides.mask: 'name' is a required property"),
            ({"guides": {"mask": {"name": "mask"}}}, "guides.mask: 'range' is a required property"),
            (
                {"guides": {"background_depth": {"name": "background", "normalise": "mean"}}},
                "guides.background_depth.normalise: 'mean'",
            ),
        ],
    )
    def test_schema(self, changes, words):
        assert words in "".join(schema.problems("depth-model", card(**changes)))
        assert schema.problems("depth-model", guided_card()) == []

    @pytest.mark.parametrize(
        ("document", "expected"),
        [
            (
                guided_card(guides={"mask": {"name": "mask", "range": [2, 2]}}),
                ["guides.mask.range: found [2, 2], expected two different numbers"],
            ),
            (
                guided_card(output={"quantity": "depth", "unit": "m"}),
                ["output.quantity: found 'depth', expected 'inverse_depth'"],
            ),
            (guided_card(input={"dtype": "uint8"}), ["guides.mask.range", "input.dtype: uint8 cannot"]),
            (guided_card(guides={"mask": ...}), ["output.of: 'foreground'", "the graph also needs 'mask'"]),
            (guided_card(guides={"background_depth": ...}), ["output.of", "also needs 'background'"]),
            (
                guided_card(guides={"mask": {"name": "alpha", "range": [0, 1]}}),
                ["guides.mask.name: the graph has no input 'alpha'; it has 'input', 'mask', 'background'"],
            ),
            (
                guided_card(guides={"mask": {"name": "background", "range": [0, 1]}}),
                ["guides.background_depth.name: the input 'background' is used twice"],
            ),
            (guided_card(input={"name": ...}), ["input.name: not given, and the graph has several inputs"]),
        ],
    )
    def test_what_makes_no_sense_or_does_not_fit(self, tmp_path, document, expected):
        found = refusal(guided(tmp_path / "m.onnx", card=document))
        for words in expected:
            assert any(words in problem for problem in found), (words, found)

    def test_tensors_that_do_not_fit(self, tmp_path):
        nodes = [helper.make_node("Identity", ["background"], ["output"])]
        path = write_network(
            tmp_path / "m.onnx",
            nodes,
            more_inputs=[
                ("mask", UINT8, ["n", 3, "h", "w"]),
                ("background", TensorProto.FLOAT, ["n", "h", "w"]),
            ],
            card=guided_card(),
        )
        found = "\n".join(refusal(path))
        assert "guides.mask: the graph's 'mask' is uint8, expected float32" in found
        assert "guides.mask: NCHW puts the channels where the graph's 'mask'" in found
        assert "guides.background_depth: the graph's 'background' of shape (free, free, free)" in found

    def test_a_guide_of_one_size_only(self, tmp_path):
        path = guided(tmp_path / "m.onnx", size=(24, 32))
        assert all('expected {"fixed": [24, 32]}' in problem for problem in refusal(path))
        path = guided(
            tmp_path / "n.onnx", size=(24, 32), card=guided_card(input={"size": {"fixed": [24, 32]}})
        )
        load_model(path)

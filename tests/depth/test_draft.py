"""Drafts of cards for networks that have none."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import (
    card,
    gray,
    guided,
    guided_card,
    write_network,
)

from fgbgpack.depth import Card, load_model
from fgbgpack.depth.draft import draft
from fgbgpack.depth.onnx_file import read_graph


class TestDraft:
    def drafted(self, path, **options):
        return draft(path, read_graph(path).graph, **options)

    def test_recognises_guides_by_their_names(self, tmp_path):
        path = guided(tmp_path / "m.onnx", inputs=("image", "fg_mask", "Background_Depth"), card=None)
        found = self.drafted(path)
        assert found.card["guides"] == {
            "mask": {"name": "fg_mask", "range": [0, 1]},
            "background_depth": {"name": "Background_Depth", "normalise": "median"},
        }
        assert list(found.card) == ["schema", "name", "input", "guides", "output"]
        assert {"guides.mask.range", "output.of"} <= set(found.guessed)
        assert "output.quantity" not in found.guessed  # a guided network has no choice
        path.with_suffix(".json").write_text(json.dumps(found.card))
        assert load_model(path).card.is_guided

    def test_takes_what_it_is_told(self, tmp_path):
        path = guided(tmp_path / "m.onnx", inputs=("image", "alpha", "prior"), card=None)
        answers = {
            "guides.mask.name": "alpha",
            "guides.mask.range": [-1, 1],
            "guides.background_depth.name": "prior",
            "output.of": "foreground",
        }
        found = self.drafted(path, answers=answers)
        assert found.card["guides"]["mask"] == {"name": "alpha", "range": [-1, 1]}
        assert found.card["output"]["of"] == "foreground"
        assert not {"guides.mask.range", "output.of"} & set(found.guessed)
        path.with_suffix(".json").write_text(json.dumps(found.card))
        assert load_model(path).card.is_guided

    def test_like_another(self, tmp_path):
        path = guided(tmp_path / "m.onnx", inputs=("image", "a_mask", "a_background"), card=None)
        lender = Card.from_dict(guided_card(), where="a card")
        found = self.drafted(path, like=lender)
        assert found.guessed == ()
        assert found.card["guides"]["mask"] == {"name": "a_mask", "range": [-1, 1]}
        assert found.card["output"]["of"] == "foreground"
        assert lender.document == guided_card()

    def test_a_network_without_guides_gets_none_from_another(self, tmp_path):
        path = gray(tmp_path / "m.onnx", card=None)
        found = self.drafted(path, like=Card.from_dict(guided_card(), where="a card"))
        assert "guides" not in found.card
        assert "of" not in found.card["output"]

    def test_a_picture_of_the_background_is_no_depth_of_it(self, tmp_path):
        nodes = [helper.make_node("Gather", ["image", "channel"], ["output"], axis=1)]
        path = write_network(
            tmp_path / "m.onnx",
            nodes,
            input=("image", TensorProto.FLOAT, ["n", 3, "h", "w"]),
            more_inputs=[("background", TensorProto.FLOAT, ["n", 3, "h", "w"])],
            weights={"channel": np.array([0])},
            card=None,
        )
        assert "guides" not in self.drafted(path).card

    @pytest.mark.parametrize(
        ("shape", "layout"),
        [
            (["n", 3, "h", "w"], "NCHW"),
            (["n", "h", "w", 3], "NHWC"),
            (["n", 1, 3, "h", "w"], "N1CHW"),
            (["n", 1, "h", "w", 3], "N1HWC"),
        ],
    )
    def test_layouts(self, tmp_path, shape, layout):
        axis = layout.index("C")
        nodes = [helper.make_node("Gather", ["input", "channel"], ["output"], axis=axis)]
        value = ("input", TensorProto.FLOAT, shape)
        weights = {"channel": np.array(0)}
        output = ("output", TensorProto.FLOAT, shape[:axis] + shape[axis + 1 :])
        path = write_network(
            tmp_path / "m.onnx", nodes, input=value, weights=weights, output=output, card=None
        )
        assert self.drafted(path).card["input"]["layout"] == layout

    def test_asks_which_of_several_outputs_is_depth(self, tmp_path):
        path = self.two_outputs(tmp_path)
        found = self.drafted(path)
        assert found.guessed[0] == "output.name"
        assert "name" not in found.card["output"]
        found = self.drafted(path, answers={"output.name": "far"})
        assert "output.name" not in found.guessed
        assert found.card["output"]["name"] == "far"

    def test_takes_the_output_of_another_where_there_is_one_of_its_name(self, tmp_path):
        path = self.two_outputs(tmp_path)
        for name, guessed in (("far", ()), ("other", ("output.name",))):
            lender = Card.from_dict(card(output={"name": name}), where="a card")
            found = self.drafted(path, like=lender)
            assert found.guessed == guessed
            assert found.card["output"].get("name") == (None if guessed else name)

    def test_an_output_that_cannot_be_depth_is_no_question(self, tmp_path):
        path = self.two_outputs(tmp_path, other=["n", 20, "h", "w"])
        found = self.drafted(path)
        assert "output.name" not in found.guessed
        assert found.card["output"]["name"] == "far"

    def two_outputs(self, tmp_path, other=("n", 1, "h", "w")):
        nodes = [
            helper.make_node("Gather", ["input", "channel"], [name], axis=1) for name in ("features", "far")
        ]
        path = write_network(
            tmp_path / "m.onnx",
            nodes,
            output=("features", TensorProto.FLOAT, list(other)),
            weights={"channel": np.array([0])},
            card=None,
        )
        network = onnx.load(path)
        far = helper.make_tensor_value_info("far", TensorProto.FLOAT, ["n", 1, "h", "w"])
        network.graph.output.append(far)
        onnx.save(network, path)
        return path

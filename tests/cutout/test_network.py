"""Networks of cut-outs: how they are fed, what their answers become, and the cards of fgbgpack."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from cutout_photos import CARD, card, figure, photo, redness, short_sighted
from onnx import helper
from onnx_models import CARD as DEPTH_CARD
from onnx_models import FLOAT, gray, write_network
from PIL import Image
from refusals import refused

from fgbgpack import schema
from fgbgpack.cutout.network import CutoutNetwork
from fgbgpack.depth import Execution, load_model, registry
from fgbgpack.errors import DepthModelError

CPU = Execution(device="cpu")
#: (height, width) that the network sees of a photograph of 400x300, how a pixel (51, 102, 204) arrives,
#: values, licence. Written out, not read from the cards.
CARDS = {
    "birefnet-general": (
        (1024, 1024),
        [(0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.8 - 0.406) / 0.225],
        "logits",
        "MIT",
    ),
    "isnet-general-use": ((1024, 1024), [-0.3, -0.1, 0.3], "alpha", "Apache-2.0"),
    "modnet": ((512, 672), [-0.6, -0.2, 0.6], "alpha", "Apache-2.0"),
    "u2net": (
        (320, 320),
        [(0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.8 - 0.406) / 0.225],
        "alpha",
        "Apache-2.0",
    ),
    "u2net-human-seg": (
        (320, 320),
        [(0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.8 - 0.406) / 0.225],
        "alpha",
        "Apache-2.0",
    ),
}


def alpha_by(path, share, **options):
    picture = Image.fromarray(photo(share))
    network = CutoutNetwork(load_model(path, "cutout"), CPU, share.shape)
    return network.alpha(picture)


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


class TestAnswers:
    def test_alpha_is_that_of_the_foreground(self, tmp_path):
        share = figure(60, 44, soft=6)
        found = alpha_by(redness(tmp_path / "n.onnx"), share)
        assert np.abs(found.astype(int) - np.rint(share * 255)).max() <= 10

    def test_logits_go_through_a_sigmoid(self, tmp_path):
        share = figure(60, 44, soft=6)
        logits = alpha_by(redness(tmp_path / "n.onnx", logits=True), share)
        expected = 1 / (1 + np.exp(-20 * 1.6 * (share - 0.5)))
        assert np.abs(logits.astype(int) - np.rint(np.clip(expected * 271 - 8, 0, 255))).max() <= 12

    def test_a_photograph_is_resized_to_what_the_network_sees_and_alpha_back(self, tmp_path):
        document = card(input={"size": {"fixed": [64, 64]}})
        share = figure(150, 100, soft=8)
        found = alpha_by(redness(tmp_path / "n.onnx", card=document), share)
        assert found.shape == (150, 100)
        assert np.abs(found.astype(int) - np.rint(share * 255)).mean() < 4

    def test_each_size_has_its_own_session(self, tmp_path):
        document = card(input={"size": {"multiple_of": 8}})
        network = CutoutNetwork(
            load_model(redness(tmp_path / "n.onnx", card=document), "cutout"), CPU, (64, 48)
        )
        for height, width in ((64, 48), (48, 64), (80, 48), (96, 48), (64, 96), (64, 48)):
            share = figure(height, width)
            found = network.alpha(Image.fromarray(photo(share)))
            assert np.abs(found.astype(int) - np.rint(share * 255)).mean() < 2

    def test_nodes_may_be_in_no_order(self, tmp_path):
        share = figure(40, 30)
        ordered, shuffled = (redness(tmp_path / f"{flag}.onnx", shuffled=flag) for flag in (False, True))
        with pytest.raises(onnx.checker.ValidationError):
            onnx.checker.check_model(str(shuffled))
        np.testing.assert_array_equal(alpha_by(shuffled, share), alpha_by(ordered, share))

    def test_the_first_of_several_answers_is_alpha(self, tmp_path):
        path = redness(tmp_path / "n.onnx")
        network = onnx.load(path)
        network.graph.output.append(helper.make_tensor_value_info("difference", FLOAT, None))
        onnx.save(network, path)
        share = figure(40, 30)
        np.testing.assert_array_equal(alpha_by(path, share), alpha_by(redness(tmp_path / "m.onnx"), share))


class TestSecondLook:
    """Networks that see 48 pixels, at photographs in which a figure is small."""

    SHARE = np.pad(figure(80, 60, soft=3), ((170, 150), (40, 300)))

    def peak(self, path, *, loses, share=SHARE):
        network = short_sighted(path / "n.onnx", loses=loses, above=share.mean() * 1.5, seen=48)
        return int(alpha_by(network, share).max())

    @pytest.mark.parametrize("size", [{"fixed": [48, 48]}, {"multiple_of": 8, "target": {"short_side": 48}}])
    def test_edges_are_finer(self, tmp_path, size):
        document = card(input={"size": size})
        found = alpha_by(redness(tmp_path / "n.onnx", card=document), self.SHARE)
        seen = Image.fromarray(np.uint8(np.rint(self.SHARE * 255)))
        once = np.asarray(seen.resize((48, 48), Image.Resampling.BILINEAR).resize(seen.size))
        errors = [np.abs(one.astype(int) - np.asarray(seen)).sum() for one in (found, once)]
        assert errors[0] < 0.5 * errors[1]

    def test_it_counts_if_it_finds_the_same_and_the_first_makes_up_for_what_it_is_unsure_of(self, tmp_path):
        network = short_sighted(tmp_path / "n.onnx", loses=0.1, above=self.SHARE.mean() * 1.5, seen=48)
        found = alpha_by(network, self.SHARE)
        middle = found[200:220, 65:75]
        assert (middle == 255).all()
        # At the edge the second look tells alone: it has nine tenths of what is there.
        expected = np.rint(self.SHARE * 255)
        edge = (expected > 100) & (expected < 200)
        assert 0.8 < found[edge].mean() / expected[edge].mean() < 0.97

    def test_it_does_not_if_it_loses_the_figure(self, tmp_path):
        assert self.peak(tmp_path, loses=0.9) > 250

    @pytest.mark.parametrize(
        "share",
        [np.pad(figure(40, 30), ((5, 15), (3, 27))), figure(400, 300), np.zeros((400, 400))],
        ids=["a small photograph", "a large figure", "nothing"],
    )
    def test_there_is_none_where_it_shows_no_more(self, tmp_path, share):
        # Any other look would show more of the figure, and so lose it.
        found = alpha_by(
            short_sighted(tmp_path / "n.onnx", loses=0.1, above=share.mean() + 0.02, seen=48), share
        )
        assert found.max() == (255 if share.any() else 0)

    def test_it_may_be_at_any_side(self, tmp_path):
        document = card(input={"size": {"fixed": [48, 48]}})
        for rows in ((0, 240), (240, 0)):
            for columns in ((0, 340), (340, 0)):
                share = np.pad(figure(160, 60, soft=3)[40:120], (rows, columns))
                found = alpha_by(redness(tmp_path / "n.onnx", card=document), share)
                assert np.abs(found.astype(int) - np.rint(share * 255)).mean() < 0.6


class TestRefusals:
    def test_a_network_of_depth_cuts_nothing_out(self, tmp_path):
        with refused(DepthModelError, "model-kind-mismatch", match="--depth-model"):
            load_model(gray(tmp_path / "n.onnx", card=DEPTH_CARD), "cutout")
        with refused(DepthModelError, "model-kind-mismatch", match="--depth-model"):
            load_model("fgbgpack-scene", "cutout")

    def test_a_network_of_cutouts_gives_no_depth(self, tmp_path):
        with refused(DepthModelError, "model-kind-mismatch", match="fgbgpack cutout"):
            load_model(redness(tmp_path / "n.onnx"))

    def test_a_card_with_mistakes(self, tmp_path):
        wrong = card(output={"values": "percent"}, input={"range": [1, 0], "batch": 2})
        with refused(DepthModelError, "card-invalid") as caught:
            load_model(redness(tmp_path / "n.onnx", card=wrong), "cutout")
        assert {line.split(":")[0] for line in caught.value.problems} == {"input", "output.values"}

    def test_a_network_without_a_card_gets_one_to_start_from(self, tmp_path):
        path = redness(tmp_path / "n.onnx", card=None)
        with refused(DepthModelError, "card-missing") as caught:
            load_model(path, "cutout")
        start = caught.value.message.index("{")
        path.with_suffix(".json").write_text(caught.value.message[start:])
        assert load_model(path, "cutout").card.kind == "cutout"

    def test_alpha_that_is_not_a_number(self, tmp_path):
        nodes = [
            helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
            helper.make_node("Sub", ["red", "much"], ["negative"]),
            helper.make_node("Sqrt", ["negative"], ["output"]),
        ]
        weights = {"channel": np.array([0]), "much": np.array(9, np.float32)}
        path = write_network(tmp_path / "n.onnx", nodes, weights=weights, card=CARD)
        with refused(DepthModelError, "network-output-not-finite", match="gave alpha"):
            alpha_by(path, figure(30, 20))

    def test_a_model_that_is_not_there_says_how_to_get_it(self, models):
        with refused(DepthModelError, "model-file-missing", match="fgbgpack models get u2net"):
            load_model("u2net", "cutout")


def test_there_are_no_other_cards():
    ours = [name for name in registry.names_of("cutout") if registry.find(name).is_ours]
    assert {name for name in ours if registry.our_card(name).kind == "cutout"} == CARDS.keys()
    assert not {*CARDS} & {*registry.names_of("depth")}


@pytest.mark.parametrize("name", CARDS)
class TestCards:
    def test_it_follows_the_schema_and_says_what_people_need(self, name):
        document = registry.our_card(name).document
        assert schema.problems("cutout-model", document) == []
        assert document["name"] == name
        assert (document["output"]["values"], document["licence"]) == CARDS[name][2:]
        assert {"title", "description", "made_by", "source", "sha256", "size"} <= document.keys()
        assert document["download"].startswith("https://")

    def test_a_photograph_arrives_as_the_network_wants_it(self, models, name):
        (height, width), expected, _, _ = CARDS[name]
        assert registry.our_card(name).input.size.size_for(300, 400) == (height, width)
        is_fixed = registry.our_card(name).input.size.fixed is not None
        for channel, value in enumerate(expected):
            # Answers with a tenth of the channel, less what is expected, and 0.5.
            nodes = [
                helper.make_node("Gather", ["input", "channel"], ["plane"], axis=1),
                helper.make_node("Mul", ["plane", "tenth"], ["small"]),
                helper.make_node("Add", ["small", "offset"], ["output"]),
            ]
            offset = 0.5 - value / 10
            weights = {
                "channel": np.array([channel]),
                "tenth": np.array(0.1, np.float32),
                "offset": np.array(offset, np.float32),
            }
            document = {**registry.our_card(name).document}
            del document["sha256"]
            document["output"] = {**document["output"], "values": "alpha"}
            write_network(
                models / f"{name}.onnx",
                nodes,
                weights=weights,
                input=("input", FLOAT, ["n", 3, *((height, width) if is_fixed else ("h", "w"))]),
                output=("output", FLOAT, None),
                card=json.loads(json.dumps(document)),
            )
            network = CutoutNetwork(load_model(name, "cutout"), CPU, (300, 400))
            found = network.alpha(Image.new("RGB", (400, 300), (51, 102, 204)))
            assert np.abs(found.astype(int) - 127).max() <= 1

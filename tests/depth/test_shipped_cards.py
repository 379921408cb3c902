"""The cards that come with fgbgpack: what arrives in a network that is fed by each, and what is stored."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import write_network
from refusals import refused

from fgbgpack import schema
from fgbgpack.depth import BackgroundDepth, DepthSession, Execution, load_model, registry
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.keras import write_densedepth
from fgbgpack.errors import DepthModelError

HEIGHT, WIDTH = 240, 320
PIXEL = (51, 102, 204)  # one colour all over, so that no resizing changes it

#: What each of these does to the value of a channel, written out; not read from the card.
UNIT = (0.2, 0.4, 0.8)
BYTES = (51.0, 102.0, 204.0)
IMAGENET = ((0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.8 - 0.406) / 0.225)
HALF = (-0.6, -0.2, 0.6)

RELATIVE = {3.5: 3.5, -2.0: -2.0, 500.0: 500.0}
METRES = {3.5: 3.5, 0.25: 0.25, 9.0: 9.0}

#: layout, values of the pixel in the network, (height, width) of its input for a picture of 240x320, resize
#: filter, axes of the answer, quantity, unit, raw answers with what is stored for them, licence.
CARDS = {
    "densedepth-nyu": (
        "NHWC", UNIT, (256, 320), "bilinear", "NHW1", "depth", "m",
        {2.5: 4.0, 10.0: 1.0, 1.0: 10.0, 0.5: 10.0, 100.0: 0.1, 200.0: 0.1}, "GPL-3.0",
    ),
    "densedepth-kitti": (
        "NHWC", UNIT, (256, 320), "bilinear", "NHW1", "depth", "m",
        {10.0: 8.0, 2.0: 40.0, 0.5: 80.0, 200.0: 1.0}, "GPL-3.0",
    ),
    "midas-v2.1-small": (
        "NCHW", IMAGENET, (192, 256), "bicubic", "NHW", "inverse_depth", None, RELATIVE, "MIT",
    ),
    "midas-v2.1": ("NCHW", UNIT, (384, 384), "bicubic", "NHW", "inverse_depth", None, RELATIVE, "MIT"),
    "dpt-hybrid": ("NCHW", HALF, (384, 384), "bicubic", "NHW", "inverse_depth", None, RELATIVE, "MIT"),
    "dpt-large": ("NCHW", HALF, (384, 384), "bicubic", "NHW", "inverse_depth", None, RELATIVE, "MIT"),
    "depth-anything-v2-small": (
        "NCHW", IMAGENET, (518, 686), "bicubic", "NHW", "inverse_depth", None, RELATIVE, "Apache-2.0",
    ),
    "depth-anything-v2-base": (
        "NCHW", IMAGENET, (518, 686), "bicubic", "NHW", "inverse_depth", None, RELATIVE, "CC-BY-NC-4.0",
    ),
    "depth-anything-v2-large": (
        "NCHW", IMAGENET, (518, 686), "bicubic", "NHW", "inverse_depth", None, RELATIVE, "CC-BY-NC-4.0",
    ),
    "zoedepth-nyu": ("NCHW", HALF, (384, 512), "bilinear", "NHW", "depth", "m", METRES, "MIT"),
    "tcmonodepth-small": (
        "NCHW", BYTES, (240, 320), "bilinear", "N1HW", "inverse_depth", None, RELATIVE, "MIT",
    ),
}  # fmt: skip

#: Published files whose tensors are known by name; the others are called as their exporter likes.
TENSORS = {
    name: ("pixel_values", "predicted_depth") for name in CARDS if name.startswith(("dpt", "depth-anything"))
}


#: Cards of networks that come with fgbgpack.
EMBEDDED = ("fgbgpack-guided", "fgbgpack-scene")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path))
    return tmp_path


def our_card(name: str) -> dict:
    return json.loads((Path(registry.__file__).parent / "cards" / f"{name}.json").read_text())


def install(folder: Path, name: str, answer: str) -> None:
    """A network of the card's convention under its name, with nodes that make what it shall answer.

    ``answer`` is a channel of its input ("0"), the height or width of that ("H"), or a raw value ("=3.5").
    """
    layout, _, _, _, axes, *_ = CARDS[name]
    given, result = TENSORS.get(name, ("picture", "answer"))
    channel = layout.index("C")
    nodes = [
        helper.make_node("Gather", [given, "which"], ["one"], axis=channel),  # (n, 1, h, w) or (n, h, w, 1)
        helper.make_node("Mul", ["one", "gain"], ["scaled"]),
        helper.make_node("Shape", [given], ["shape"]),
        helper.make_node("Gather", ["shape", "side"], ["length"]),
        helper.make_node("Cast", ["length"], ["length_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["length_float", "side_gain"], ["length_or_not"]),
        helper.make_node("Add", ["scaled", "length_or_not"], ["sum"]),
        helper.make_node("Add", ["sum", "offset"], ["whole"]),
    ]
    weights = {
        "which": np.array([int(answer) if answer.isdigit() else 0]),
        "gain": np.array(1 if answer.isdigit() else 0, np.float32),
        "side": np.array(layout.index(answer) if answer in ("H", "W") else 0),
        "side_gain": np.array(1 if answer in ("H", "W") else 0, np.float32),
        "offset": np.array(float(answer[1:]) if answer.startswith("=") else 0, np.float32),
    }
    last = "whole"
    if name.startswith("densedepth"):  # answers at half the size
        nodes.append(helper.make_node("Slice", ["whole", "begin", "end", "axes", "step"], ["half"]))
        weights |= {"begin": np.array([0, 0]), "end": np.array([9999, 9999])}
        weights |= {"axes": np.array([1, 2]), "step": np.array([2, 2])}
        last = "half"
    if axes == "NHW":
        nodes.append(helper.make_node("Squeeze", [last, "squeezed"], [result]))
        weights["squeezed"] = np.array([channel])
    else:
        nodes.append(helper.make_node("Identity", [last], [result]))
    dims = {"N": "n", "C": 3, "H": "h", "W": "w"}
    path = write_network(
        folder / f"{name}.onnx",
        nodes,
        input=(given, TensorProto.FLOAT, [dims[axis] for axis in layout]),
        output=(result, TensorProto.FLOAT, [{"1": 1}.get(a, f"out_{a}") for a in axes]),
        weights=weights,
        card=None,
    )
    card = our_card(name)
    if "sha256" in card:  # that of the published file, which this is not
        del card["sha256"]
        path.with_suffix(".json").write_text(json.dumps(card))


def stored(name: str) -> np.ndarray:
    picture = np.broadcast_to(np.array(PIXEL, np.uint8), (1, HEIGHT, WIDTH, 3))
    session = DepthSession(load_model(name), (HEIGHT, WIDTH), execution=Execution(device="cpu"))
    depth = np.empty((1, HEIGHT, WIDTH), np.float16)
    session.run(np.ascontiguousarray(picture), depth)
    return depth


def untransformed(folder: Path, name: str) -> None:
    """Leave the card's transform out, so that an answer is stored as it is."""
    beside = folder / f"{name}.json"
    card = json.loads(beside.read_text()) if beside.exists() else our_card(name)
    card["output"].pop("transform", None)
    card["output"] |= {"quantity": "inverse_depth", "unit": None}
    beside.write_text(json.dumps(card))


def test_there_are_no_others():
    cards = (Path(registry.__file__).parent / "cards").glob("*.json")
    assert {path.stem for path in cards} == {*CARDS, *EMBEDDED}


@pytest.mark.parametrize("name", CARDS)
class TestCard:
    def test_follows_the_schema_and_says_what_people_need(self, name):
        card = our_card(name)
        assert schema.problems("depth-model", card) == []
        assert card["name"] == name
        assert card["licence"] == CARDS[name][-1]
        assert {"title", "description", "made_by", "source"} <= card.keys()
        assert ("download" in card) != ("obtain" in card)
        assert "download" not in card or card["download"].startswith("https://")
        assert "download" not in card or card["size"] > 1_000_000

    @pytest.mark.slow
    def test_colours_arrive_as_the_network_wants_them(self, folder, name):
        for channel, expected in enumerate(CARDS[name][1]):
            install(folder, name, str(channel))
            untransformed(folder, name)
            np.testing.assert_allclose(stored(name), expected, rtol=2e-3)

    def test_the_picture_arrives_in_the_size_that_the_network_wants(self, folder, name):
        for side, expected in zip("HW", CARDS[name][2], strict=True):
            install(folder, name, side)
            untransformed(folder, name)
            np.testing.assert_array_equal(stored(name), expected)

    @pytest.mark.slow
    def test_answers_are_stored_as_the_quantity_that_they_mean(self, folder, name):
        _, _, _, resized, axes, quantity, unit, answers, _ = CARDS[name]
        for raw, expected in answers.items():
            install(folder, name, f"={raw}")
            np.testing.assert_allclose(stored(name), expected, rtol=1e-3)
        card = load_model(name).card
        assert card.output.meaning == (quantity, unit)
        assert (card.output.axes, card.input.filter) == (axes, resized)


@pytest.mark.parametrize("name", EMBEDDED)
class TestEmbeddedCard:
    def test_follows_the_schema_and_says_what_people_need(self, name):
        card = our_card(name)
        assert schema.problems("depth-model", card) == []
        assert card["name"] == name
        assert {"title", "description", "made_by", "source", "licence"} <= card.keys()
        assert {"download", "obtain", "size"}.isdisjoint(card)

    def test_has_its_network_which_runs(self, folder, name):
        model = load_model(name)
        assert model.card.output.quantity == "inverse_depth"
        rng = np.random.default_rng(1)
        images, depth = rng.integers(0, 256, (3, 48, 80, 3), np.uint8), np.empty((3, 48, 80), np.float16)
        guides, backgrounds = {}, None
        if model.card.is_guided:
            backgrounds = BackgroundDepth.of(rng.uniform(1, 9, (2, 48, 80)), Quantity("depth", "m"))
            guides = {
                "mask": rng.integers(0, 256, (3, 48, 80), np.uint8),
                "background": np.array([0, 1, 1], np.int32),
            }
        session = DepthSession(model, (48, 80), execution=Execution(device="cpu"), backgrounds=backgrounds)
        low, high = session.run(images, depth, **guides)
        assert (low < high).all()


@pytest.mark.parametrize("name", ["depth-anything-v2-small", "dpt-hybrid"])
def test_a_file_with_another_digest_is_refused(folder, name):
    install(folder, name, "0")
    (folder / f"{name}.json").unlink()
    with refused(DepthModelError, "card-invalid") as caught:
        load_model(name)
    assert caught.value.problems[-1].startswith(
        f"sha256: the card is for a file with digest {our_card(name)['sha256']}"
    )


@pytest.mark.parametrize("which", ["nyu", "kitti"])
def test_the_card_of_densedepth_is_the_one_that_the_importer_writes(tmp_path, which):
    source = Path(__file__).parents[1] / "data/keras/densedepth-small.h5"
    write_densedepth(source, tmp_path / "d.onnx", which)
    written, ours = json.loads((tmp_path / "d.json").read_text()), our_card(f"densedepth-{which}")
    assert len(written.pop("sha256")) == len(written.pop("x-keras-sha256")) == 64
    assert written.pop("x-bilinear") == "half_pixel"
    del ours["obtain"]
    assert written == ours


def test_card_texts_name_commands_that_exist():
    text = "".join(json.dumps(our_card(name)) for name in CARDS)
    assert set(re.findall(r"fgbgpack models (\w+)", text)) == {"import"}

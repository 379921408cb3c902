"""``fgbgpack models``: what is listed, downloaded, written and compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import write_depth_model
from command_line import failure, rejected, run
from model_site import Site, serving
from onnx import TensorProto, helper
from onnx_models import card, gray, guided, halving, write_network
from PIL import Image

from fgbgpack import DepthSpec, create, open_dataset
from fgbgpack.depth import load_model

KERAS = Path(__file__).parents[1] / "data" / "keras" / "densedepth-small.h5"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The models folder, empty."""
    path = tmp_path / "models"
    path.mkdir()
    monkeypatch.setenv("FGBGPACK_MODELS", str(path))
    return path


def models(*arguments: object) -> dict[str, Any]:
    """The result of a command that succeeds."""
    result = run("models", *arguments, "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


class TestList:
    def test_own_models_and_those_that_come_with_fgbgpack(self, folder):
        path = gray(folder / "mine.onnx")
        listed = models("list")
        assert listed["folder"] == str(folder)
        found = {model["name"]: model for model in listed["models"]}
        assert len(found) == 19
        assert found["u2net"]["quantity"] == "alpha"
        assert found["mine"] == {
            "name": "mine",
            "quantity": "inverse_depth",
            "unit": None,
            "guided": False,
            "licence": None,
            "size": path.stat().st_size,
            "source": None,
            "here": True,
            "embedded": False,
            "path": str(path),
        }
        ours = found["fgbgpack-guided"]
        assert (ours["here"], ours["embedded"], ours["guided"]) == (True, True, True)
        assert not found["zoedepth-nyu"]["here"]

    def test_files_that_are_no_models_are_named_in_warnings(self, folder):
        gray(folder / "bare.onnx", card=None)
        result = run("models", "list")
        assert result.exit_code == 0
        assert result.stderr.startswith(f"warning: {folder / 'bare.onnx'}: ")


def test_show_a_model_of_the_users_folder(folder):
    path = gray(folder / "mine.onnx", card=card(input={"size": {"fixed": [24, 32]}, "mean": [1, 2, 3]}))
    shown = models("show", "mine")
    assert (shown["path"], shown["here"]) == (str(path), True)
    assert shown["card"]["input"]["size"] == {"fixed": [24, 32]}
    text = run("models", "show", "mine").stdout
    assert "32x24 (width x height)" in text
    assert "mean 1, 2, 3" in text


class TestGet:
    @pytest.fixture
    def site(self, folder, tmp_path):
        """A server with the file of the model 'midas-v2.1', whose card is in the folder."""
        content = gray(tmp_path / "elsewhere" / "mine.onnx").read_bytes()
        with serving(Site(content=content)) as site:
            # A name that fgbgpack has a card of is known before its file is here.
            self.write_card(folder, site)
            yield site

    def write_card(self, folder, site, **fields):
        (folder / "midas-v2.1.json").write_text(json.dumps(card(download=site.url, **fields)))

    def test_a_file_is_fetched_once(self, folder, site):
        digest = hashlib.sha256(site.content).hexdigest()
        path = folder / "midas-v2.1.onnx"
        result = {"name": "midas-v2.1", "path": str(path), "sha256": digest, "verified": False}
        assert models("get", "midas-v2.1") == {**result, "received": len(site.content)}
        assert path.read_bytes() == site.content
        assert models("get", "midas-v2.1") == {**result, "received": 0}

    def test_its_digest_is_verified(self, folder, site):
        self.write_card(folder, site, sha256=hashlib.sha256(site.content).hexdigest())
        assert models("get", "midas-v2.1")["verified"]

    def test_a_file_that_does_not_fit_its_card(self, folder, site):
        self.write_card(folder, site, input={"layout": "NHWC"})
        assert failure("models", "get", "midas-v2.1")[0] == 5

    def test_no_such_file_there(self, site):
        site.statuses = [404]
        assert failure("models", "get", "midas-v2.1")[0] == 5

    def test_a_network_that_comes_with_fgbgpack(self, folder):
        assert models("get", "fgbgpack-guided")["received"] == 0
        assert list(folder.iterdir()) == []


CONVENTION = ("--range", "0,255", "--mean", "none", "--std", "none", "--size", "multiple 16")
QUANTITY = ("--quantity", "inverse_depth")


class TestCard:
    @pytest.fixture
    def network(self, tmp_path) -> Path:
        return gray(tmp_path / "My Network.onnx", card=None)

    def write(self, network, *options):
        """Write a card and return it."""
        result = run("models", "card", network, *options)
        assert result.exit_code == 0, result.output
        document = json.loads(network.with_suffix(".json").read_text())
        assert load_model(network).card.document == document
        return document

    def test_from_options(self, network):
        assert self.write(network, *CONVENTION, *QUANTITY, "--licence", "CC0-1.0") == {
            "schema": "depth-model/1.0",
            "name": "my-network",
            "licence": "CC0-1.0",
            "input": {
                "name": "input",
                "layout": "NCHW",
                "channels": "RGB",
                "range": [0, 255],
                "size": {"multiple_of": 16},
            },
            "output": {"name": "output", "axes": "N1HW", "quantity": "inverse_depth", "unit": None},
        }

    def test_all_that_is_missing_is_reported(self, network):
        missing = ["--mean", "--std", "--size", "--quantity"]
        assert rejected("models", "card", network, "--range", "0,1") == missing
        assert not network.with_suffix(".json").exists()

    def test_depth_needs_a_unit(self, network):
        depth = (*CONVENTION, "--quantity", "depth")
        assert rejected("models", "card", network, *depth) == ["--unit"]
        assert self.write(network, *depth, "--unit", "m")["output"]["unit"] == "m"

    def test_like_another_model(self, network):
        written = self.write(network, "--like", "zoedepth-nyu", "--channels", "BGR")
        assert written["input"]["std"] == [0.5, 0.5, 0.5]
        assert written["input"]["channels"] == "BGR"
        assert (written["output"]["unit"], written["output"]["axes"]) == ("m", "N1HW")  # axes: the graph's
        assert written["licence"] == "MIT"
        assert {"source", "obtain", "title", "sha256", "download"}.isdisjoint(written)

    def test_shorthands(self, network):
        words = ["--range", "0,1", "--mean", "imagenet", "--std", "imagenet", "--filter", "bicubic"]
        words += ["--size", "multiple 14, short_side 518", "--quantity", "depth", "--unit", "none"]
        written = self.write(network, *words, "--transform", '[{"reciprocal_of": 1}]')
        assert written["input"]["mean"] == [0.485, 0.456, 0.406]
        assert written["input"]["std"] == [0.229, 0.224, 0.225]
        assert written["input"]["size"] == {"multiple_of": 14, "target": {"short_side": 518}}
        assert written["input"]["filter"] == "bicubic"
        assert written["output"]["transform"] == [{"reciprocal_of": 1}]

    def test_what_the_graph_says_is_not_asked(self, tmp_path):
        path = write_network(
            tmp_path / "m.onnx",
            [helper.make_node("ReduceMean", ["picture"], ["depth"], axes=[3], keepdims=0)],
            input=("picture", TensorProto.FLOAT16, [1, 24, 32, 3]),
            output=("depth", TensorProto.FLOAT16, [1, 24, 32]),
            card=None,
        )
        written = self.write(path, "--range", "0,1", "--mean", "half", "--std", "half", *QUANTITY)
        assert written["input"]["size"] == {"fixed": [24, 32]}
        assert (written["input"]["layout"], written["input"]["dtype"]) == ("NHWC", "float16")
        assert written["output"]["axes"] == "NHW"

    def test_it_asks_on_a_terminal(self, network, monkeypatch):
        monkeypatch.setattr("fgbgpack.cli.models.card._on_terminal", lambda: True)
        answers = "0,255\nnone\nbanana\nnone\nmultiple 8\ndepth\nm\n"
        result = run("models", "card", network, stdin=answers)
        assert result.exit_code == 0, result.output
        assert result.stderr.count("cannot be parsed") == 1
        written = load_model(network).card.document
        assert written["input"]["size"] == {"multiple_of": 8}
        assert written["output"]["unit"] == "m"
        assert "mean" not in written["input"]

    def test_a_card_is_replaced_only_by_force(self, network):
        path = network.with_suffix(".json")
        path.write_text("precious")
        assert run("models", "card", network, *CONVENTION, *QUANTITY).exit_code == 2
        assert path.read_text() == "precious"
        self.write(network, *CONVENTION, *QUANTITY, "--force")

    def test_a_card_that_does_not_fit_replaces_nothing(self, tmp_path):
        path = halving(tmp_path / "two.onnx", output=("output", 1, ["n", 2, "h2", "w2"]), card=None)
        path.with_suffix(".json").write_text("precious")
        assert run("models", "card", path, *CONVENTION, *QUANTITY, "--force").exit_code == 5
        assert path.with_suffix(".json").read_text() == "precious"

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (["--range", "0;1"], "--range"),
            (["--mean", "1,2"], "--mean"),
            (["--size", "16"], "--size"),
            (["--transform", "{"], "--transform"),
            (["--quantity", "disparity"], "output.quantity"),
            (["--channels", "GRB"], "input.channels"),
            (["--mask-range", "0,1"], "guides.mask"),
        ],
    )
    def test_values_that_make_no_card(self, network, words, problem):
        assert rejected("models", "card", network, *CONVENTION, *QUANTITY, *words) == [problem]
        assert not network.with_suffix(".json").exists()

    def test_a_guided_network(self, tmp_path):
        path = guided(tmp_path / "guide.onnx", inputs=("image", "mask", "prior"), card=None)
        given = (*CONVENTION, "--background-depth", "prior")
        assert rejected("models", "card", path, *given) == ["--mask-range", "--of"]
        written = self.write(path, *given, "--mask-range", "0,1", "--of", "foreground")
        assert written["guides"] == {
            "mask": {"name": "mask", "range": [0, 1]},
            "background_depth": {"name": "prior", "normalise": "median"},
        }
        assert (written["output"]["of"], written["output"]["quantity"]) == ("foreground", "inverse_depth")

    def test_a_file_that_is_no_network(self, tmp_path):
        (tmp_path / "x.onnx").write_text("hello")
        for name in ("x.onnx", "nothing.onnx"):
            assert run("models", "card", tmp_path / name, *CONVENTION, *QUANTITY).exit_code == 5


class TestImport:
    IMPORT = ("models", "import", "densedepth")

    def test_into_the_models_folder(self, folder, tmp_path):
        (tmp_path / "nyu.h5").write_bytes(KERAS.read_bytes())
        result = run(*self.IMPORT, tmp_path / "nyu.h5")
        assert result.exit_code == 0, result.output
        model = load_model("densedepth-nyu")
        assert model.path == folder / "densedepth-nyu.onnx"
        assert model.card.output.unit == "m"

    @pytest.mark.slow
    def test_what_is_imported_fills_depth_in_metres(self, folder, tmp_path, pictures):
        assert run(*self.IMPORT, KERAS, "--weights", "nyu").exit_code == 0
        spec = pictures.spec(placements=1, depth=DepthSpec("densedepth-nyu", scale=3))
        assert create(tmp_path / "it.zarr", spec).depth_model == "densedepth-nyu"
        ds = open_dataset(tmp_path / "it.zarr")
        assert (ds.depth.attrs["quantity"], ds.depth.attrs["unit"]) == ("depth", "m")
        metres = ds.depth[:].astype(np.float32)
        assert metres.shape == (len(ds), ds.height, ds.width)
        near = 0.1 - ds.depth.attrs["rounding"]["step"] / 2
        assert near <= metres.min() < metres.max() <= 10.0

    def test_to_a_file_that_is_replaced_only_by_force(self, folder, tmp_path):
        out = tmp_path / "mine.onnx"
        command = (*self.IMPORT, KERAS, "-o", out, "--weights", "kitti", "--bilinear", "align_corners")
        assert run(*command).exit_code == 0
        assert load_model(out).card.output.transform == ({"reciprocal_of": 80}, {"clip": (1, 80)})
        assert run(*command).exit_code == 2
        assert run(*command, "--force").exit_code == 0
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("words", [(), ("--weights", "sun"), ("--weights", "")])
    def test_its_weights_are_not_guessed(self, words):
        assert run(*self.IMPORT, KERAS, *words).exit_code == 2

    def test_a_file_that_is_no_keras_file(self, tmp_path):
        (tmp_path / "nyu.h5").write_text("hello")
        assert run(*self.IMPORT, tmp_path / "nyu.h5").exit_code == 5


class TestCompare:
    @pytest.mark.slow
    def test_two_models(self, folder, dataset, tmp_path):
        for seed, name in enumerate(("first", "second")):
            write_depth_model(folder, name=name, seed=seed)
        picture = tmp_path / "compare.png"
        words = ("first", "second@1", "--on", dataset, "--samples", 4, "--device", "cpu")
        document = models("compare", *words, "-o", picture)
        assert [model["scale"] for model in document["models"]] == [4, 1]
        assert -1 <= document["agreement"][0]["rank"]["median"] <= 1
        with Image.open(picture) as drawn:
            assert drawn.size[0] > 200

    @pytest.mark.slow
    def test_both_modes_and_stored_depth(self, depth_dataset, depth_model):
        words = (f"{depth_model}@1", f"guided:{depth_model}@7", "guided:fgbgpack-scene", "stored")
        compared = models("compare", *words, "--on", depth_dataset, "--samples", "3", "--device", "cpu")
        assert [(m["label"], m["mode"], m["guide"]) for m in compared["models"]] == [
            ("stored", "per-sample", None),
            ("tiny x1", "per-sample", None),
            ("guided:tiny x7", "guided", "fgbgpack-guided"),
            ("guided:fgbgpack-scene x16", "guided", "fgbgpack-guided"),
        ]

    def test_bad_options_are_reported_at_once(self, dataset):
        wrong = ("", "a", "--on", dataset, "--samples", "0", "--seed", "x", "-o", "a.jpg", "--guide", "b")
        options = ["--samples", "--seed", "--output", "--guide", "MODEL"]
        assert rejected("models", "compare", *wrong) == options

    def test_a_model_or_dataset_that_is_not_there(self, dataset, depth_model, tmp_path):
        for words, status in (
            (("midas-v2.1", "--on", dataset), 5),
            (("midas-v2.1", "--on", tmp_path / "no.zarr"), 4),
            ((f"guided:{depth_model}", "--on", dataset, "--guide", depth_model), 5),
            ((f"{depth_model}@5", "--on", dataset), 2),
        ):
            assert failure("models", "compare", *words)[0] == status

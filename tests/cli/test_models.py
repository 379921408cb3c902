"""``fgbgpack models`` as users meet it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import write_depth_model
from model_site import Site, serving
from onnx import TensorProto, helper
from onnx_models import card, constant_guided, gray, guided, guided_card, halving, write_guided, write_network
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner, Result

from fgbgpack import DepthSpec, create, open_dataset
from fgbgpack.cli import app
from fgbgpack.depth import BackgroundDepth, load_model
from fgbgpack.visual import model_check
from fgbgpack.visual.model_check import check_model

COMMANDS = get_command(app).commands["models"].commands  # type: ignore[attr-defined]
KERAS = Path(__file__).parents[1] / "data" / "keras" / "densedepth-small.h5"


def run(*arguments: object, stdin: str | None = None) -> Result:
    words = ["models", *map(str, arguments)]
    return CliRunner().invoke(app, words, prog_name="fgbgpack", input=stdin)


def problems(result: Result) -> list[str]:
    return re.findall(r"^  - (.*)$", result.stderr, re.MULTILINE)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The models folder, empty."""
    path = tmp_path / "models"
    path.mkdir()
    monkeypatch.setenv("FGBGPACK_MODELS", str(path))
    return path


class TestHelp:
    def test_every_command_explains_itself(self):
        paths = [[name] for name in COMMANDS if name != "import"] + [["import", "densedepth"]]
        assert {path[0] for path in paths} == {"list", "show", "get", "check", "card", "compare", "import"}
        for path in paths:
            result = run(*path, "--help")
            assert result.exit_code == 0
            assert re.search(rf"Example.*fgbgpack models {' '.join(path)}", result.stdout, re.DOTALL), path

    def test_every_option_has_help(self):
        commands = [*COMMANDS.values(), *COMMANDS["import"].commands.values()]
        for command in commands:
            assert command.help
            assert all(parameter.help for parameter in command.params), command.name

    def test_help_imports_none_of_the_library(self):
        code = (
            "import sys\nfrom fgbgpack.cli import app\n"
            "try: app(['models', 'card', '--help'])\nexcept SystemExit: pass\n"
            "print([name for name in ('numpy', 'onnx', 'zarr', 'onnxruntime') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


class TestList:
    def test_says_what_there_is_and_what_is_here(self, folder):
        gray(folder / "mine.onnx", card=card(licence="my own", source="my attic"))
        result = run("list")
        assert result.exit_code == 0
        assert re.search(
            r"^mine +inverse depth +my own +\d+ B +here\n +my attic$", result.stdout, re.MULTILINE
        )
        assert re.search(r"^densedepth-nyu +metres +GPL-3.0 +- +by hand$", result.stdout, re.MULTILINE)
        assert re.search(r"^depth-anything-v2-small +inverse depth +Apache-2.0 +99.1 MB +models get$",
                         result.stdout, re.MULTILINE)  # fmt: skip
        assert re.search(
            r"^fgbgpack-guided +foregrounds +.* comes with fgbgpack$", result.stdout, re.MULTILINE
        )
        assert re.search(
            r"^fgbgpack-scene +inverse depth +.* comes with fgbgpack$", result.stdout, re.MULTILINE
        )
        assert str(folder) in result.stdout

    def test_as_json(self, folder):
        path = gray(folder / "mine.onnx")
        document = json.loads(run("list", "--json").stdout)
        assert document["folder"] == str(folder)
        models = {model["name"]: model for model in document["models"]}
        assert len(models) == 14
        assert models["mine"] == {
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
        ours = models["fgbgpack-guided"]
        assert (ours["here"], ours["embedded"], ours["guided"]) == (True, True, True)
        assert not models["zoedepth-nyu"]["here"]

    def test_warns_of_files_that_are_no_models(self, folder):
        gray(folder / "bare.onnx", card=None)
        result = run("list")
        assert result.exit_code == 0
        assert "bare.onnx: it has no card" in result.stderr


class TestShow:
    def test_a_model_that_is_not_here(self):
        result = run("show", "densedepth-nyu")
        assert result.exit_code == 0
        for word in (
            "DenseDepth (NYU Depth v2)",
            "GPL-3.0",
            "NHWC; RGB; 0 to 1",
            "multiples of 32",
            "metres",
        ):
            assert word in result.stdout
        for word in ("reciprocal_of", "not here yet", "fgbgpack models import densedepth nyu.h5"):
            assert word in result.stdout

    def test_a_model_that_is_here(self, folder):
        path = gray(folder / "mine.onnx", card=card(input={"size": {"fixed": [24, 32]}, "mean": [1, 2, 3]}))
        result = run("show", "mine")
        assert str(path) in result.stdout
        assert "--depth-model mine" in result.stdout
        assert "32x24 (width x height)" in result.stdout
        assert "mean 1, 2, 3" in result.stdout

    def test_as_json(self):
        document = json.loads(run("show", "midas-v2.1", "--json").stdout)
        assert document["card"]["input"]["size"] == {"fixed": [384, 384]}
        assert document["here"] is False

    def test_a_network_that_comes_with_fgbgpack(self):
        result = run("show", "fgbgpack-scene")
        assert re.search(
            r"^  file +\S+fgbgpack-scene\.onnx, comes with fgbgpack$", result.stdout, re.MULTILINE
        )
        assert "--depth-model fgbgpack-scene" in result.stdout

    def test_a_guided_network(self, folder):
        guided(folder / "guide.onnx", card=guided_card(guides={"mask": {"name": "mask", "range": [-1, 2]}}))
        result = run("show", "guide")
        for words in (
            "gives +where a pasted foreground stands, beside a network",
            "mask +-1 to 2",
            "background +inverse depth, less its median",
            "answers +N1HW, of the foreground",
        ):
            assert re.search(rf"^  {words}", result.stdout, re.MULTILINE), words
        assert "--depth-mode guided --depth-guide guide" in result.stdout

    def test_an_unknown_name(self):
        result = run("show", "midass-v2.1")
        assert result.exit_code == 5
        assert "Did you mean 'midas-v2.1'" in result.stderr


class TestGet:
    @pytest.fixture
    def site(self, folder, tmp_path):
        """A server with the file of the model 'mine', whose card is in the folder."""
        content = gray(tmp_path / "elsewhere" / "mine.onnx").read_bytes()
        with serving(Site(content=content)) as site:
            # Known by name before its file is here: so is every card that comes with fgbgpack.
            (folder / "midas-v2.1.json").write_text(json.dumps(card(download=site.url, name="mine")))
            yield site

    def test_fetches_and_says_what_came(self, folder, site):
        result = run("get", "midas-v2.1")
        assert result.exit_code == 0, result.output
        assert (folder / "midas-v2.1.onnx").read_bytes() == site.content
        assert hashlib.sha256(site.content).hexdigest() in result.stdout
        assert "Not verified" in result.stdout
        assert "--depth-model midas-v2.1" in result.stdout
        assert "Already there" in run("get", "midas-v2.1").stdout

    def test_as_json(self, folder, site):
        digest = hashlib.sha256(site.content).hexdigest()
        (folder / "midas-v2.1.json").write_text(json.dumps(card(download=site.url, sha256=digest)))
        document = json.loads(run("get", "midas-v2.1", "--json").stdout)
        assert (document["verified"], document["sha256"]) == (True, digest)
        assert document["received"] == len(site.content)

    def test_a_file_that_does_not_fit_the_card(self, folder, site):
        document = card(download=site.url, input={"layout": "NHWC"})
        (folder / "midas-v2.1.json").write_text(json.dumps(document))
        result = run("get", "midas-v2.1")
        assert result.exit_code == 5
        assert "input.layout" in result.stderr

    def test_no_such_file_there(self, site):
        site.statuses = [404]
        result = run("get", "midas-v2.1")
        assert result.exit_code == 5
        assert "answered 404" in result.stderr
        assert "put the file here" in result.stderr

    def test_a_network_that_comes_with_fgbgpack(self, folder):
        result = run("get", "fgbgpack-guided")
        assert result.exit_code == 0, result.output
        assert "Already there" in result.stdout
        assert "--depth-mode guided --depth-guide fgbgpack-guided" in result.stdout
        assert list(folder.iterdir()) == []

    def test_a_model_that_has_to_be_made(self):
        result = run("get", "densedepth-kitti")
        assert result.exit_code == 5
        assert "fgbgpack models import densedepth kitti.h5" in result.stderr


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


class TestCheck:
    @pytest.fixture(autouse=True)
    def _in_a_hurry(self, monkeypatch):
        monkeypatch.setattr(model_check, "_TIMED_SECONDS", 0.01)

    def check(self, knowing, folder, **output) -> Result:
        path = folder / "knowing.onnx"
        path.write_bytes(knowing.read_bytes())
        path.with_suffix(".json").write_text(json.dumps(knowing_card(**output)))
        return run("check", "knowing", "--device", "cpu")

    def test_a_model_that_is_right(self, knowing, tmp_path):
        result = run("check", knowing, "--device", "cpu", "-o", tmp_path / "check.png")
        assert result.exit_code == 0, result.output
        assert "depth that can be used" in result.stdout
        assert re.search(r"rank agreement +1\.00 with true depth", result.stdout)
        assert re.search(r"nearer is nearer +yes", result.stdout)
        assert re.search(r"metres +1 times the true ones", result.stdout)
        assert "pictures/s on CPUExecutionProvider, fp32" in result.stdout
        with Image.open(tmp_path / "check.png") as drawn:
            picture = np.asarray(drawn)
        assert picture.shape[1] > 3 * 320
        # True depth and a perfect answer have the same colours.
        np.testing.assert_allclose(picture[30:270, 336:656], picture[30:270, 664:984], atol=3)

    def test_as_json(self, knowing):
        document = json.loads(run("check", knowing, "--device", "cpu", "--json").stdout)
        assert document["ok"]
        assert len(document["agreement"]) == 5
        assert document["rank"] > 0.999
        assert document["network"] == [240, 320]
        assert document["problems"] == []

    def test_a_card_that_has_near_and_far_the_wrong_way_round(self, knowing, folder):
        result = self.check(knowing, folder, quantity="inverse_depth", unit=None)
        assert result.exit_code == 5
        assert "nearer comes out farther" in result.stdout
        assert ["output.quantity" in problem for problem in problems(result)] == [True]

    def test_a_card_that_has_another_unit(self, knowing, folder):
        result = self.check(knowing, folder, transform=[{"multiply": 1000}])
        assert result.exit_code == 5
        assert "metres are 1e+03 times the true ones" in problems(result)[0]

    def test_a_transform_that_cuts_everything_off(self, knowing, folder):
        result = self.check(knowing, folder, transform=[{"clip": [100, 200]}])
        assert result.exit_code == 5
        assert "every pixel of a picture has the same value" in problems(result)[0]

    def test_a_network_that_does_not_see_depth(self, tmp_path):
        result = run("check", gray(tmp_path / "gray.onnx"), "--device", "cpu")
        assert result.exit_code == 5
        assert "hardly follows the true one" in problems(result)[0]

    def test_sizes_are_told(self, tmp_path):
        path = halving(tmp_path / "m.onnx", card=card(input={"size": {"multiple_of": 128}}))
        checked = check_model(load_model(path), device="cpu")
        assert (checked.picture, checked.network) == ((240, 320), (256, 384))

    def test_options_that_cannot_be_used(self, knowing, tmp_path):
        result = run(
            "check", knowing, "-o", tmp_path / "no" / "x.jpg", "--device", "abacus", "--precision", "int8"
        )
        assert result.exit_code == 2
        assert [problem.split(":")[0] for problem in problems(result)] == [
            "--device",
            "--precision",
            "--output",
            "--output",
        ]

    def test_a_model_that_is_not_there(self):
        assert run("check", "midas-v2.1").exit_code == 5


def knowing_guide(path: Path, *, of: str = "foreground", looks_at: str = "mask") -> Path:
    """A guided network that knows the figures by how much of the picture they cover, and where they stand."""
    figures, (_, rooms) = model_check.floor_figures(), model_check.scene_pictures()
    backgrounds = BackgroundDepth.of(rooms, "depth", "m")
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


class TestCheckGuided:
    @pytest.fixture(autouse=True)
    def _in_a_hurry(self, monkeypatch):
        monkeypatch.setattr(model_check, "_TIMED_SECONDS", 0.01)

    @pytest.mark.parametrize("of", ["picture", "foreground"])
    def test_a_network_that_is_right(self, tmp_path, of):
        path, picture = knowing_guide(tmp_path / "guide.onnx", of=of), tmp_path / "check.png"
        result = run("check", path, "--device", "cpu", "-o", picture)
        assert result.exit_code == 0, result.output
        assert re.search(r"pictures +10 rendered rooms of 320x240, with one figure each", result.stdout)
        assert re.search(r"figures' distance +0% off", result.stdout)
        assert re.search(r"rank agreement +1\.00 with true depth", result.stdout)
        step = re.search(r"step at the outline +(\S+); true depth has (\S+)$", result.stdout, re.MULTILINE)
        assert step is not None
        assert float(step[1]) == pytest.approx(float(step[2]), abs=0.05)
        assert picture.is_file()

    def test_as_json(self, tmp_path):
        path = knowing_guide(tmp_path / "guide.onnx")
        document = json.loads(run("check", path, "--device", "cpu", "--json").stdout)
        assert document["ok"]
        assert (document["quantity"], document["unit"]) == ("depth", "m")
        figures = document["figures"]
        assert figures["uses_mask"] is True
        assert figures["off"] < 0.01
        assert figures["found"] == pytest.approx(figures["distance"], rel=0.01)
        assert figures["step"] == pytest.approx(figures["true_step"], abs=0.05)
        assert document["rank"] > 0.99

    def test_a_network_that_ignores_the_mask(self, tmp_path):
        result = run("check", knowing_guide(tmp_path / "guide.onnx", looks_at="nothing"), "--device", "cpu")
        assert result.exit_code == 5
        assert "the mask is ignored" in problems(result)[0]
        assert "guides.mask.name" in problems(result)[0]

    def test_figures_that_do_not_stand_out(self, tmp_path):
        nodes = [
            helper.make_node("Mul", ["mask", "little"], ["some"]),
            helper.make_node("Add", ["some", "background"], ["output"]),
        ]
        path = write_guided(tmp_path / "m.onnx", nodes, weights={"little": np.array(0.01, np.float32)})
        result = run("check", path, "--device", "cpu")
        assert result.exit_code == 5
        assert any("figures do not stand out" in problem for problem in problems(result))

    def test_figures_that_stand_anywhere(self, tmp_path):
        result = run("check", constant_guided(tmp_path / "m.onnx", 40.0), "--device", "cpu")
        assert result.exit_code == 5
        assert any("figures are misplaced" in problem for problem in problems(result))

    def test_a_network_that_is_told_of_the_mask_alone(self, tmp_path):
        document = guided_card(guides={"background_depth": ...}, output={"of": ...})
        nodes = [helper.make_node("Identity", ["mask"], ["output"])]
        path = write_guided(tmp_path / "m.onnx", nodes, inputs=("input", "mask"), card=document)
        checked = check_model(load_model(path), device="cpu")
        assert checked.figures is None
        assert len(checked.agreement) == 10
        assert (checked.minimum, checked.maximum) == (-1, 1)

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


SAID = (
    "--range",
    "0,255",
    "--mean",
    "none",
    "--std",
    "none",
    "--size",
    "multiple 16",
    "--quantity",
    "inverse_depth",
)


class TestCard:
    @pytest.fixture
    def network(self, tmp_path) -> Path:
        return gray(tmp_path / "My Network.onnx", card=None)

    def test_from_options(self, network):
        result = run("card", network, *SAID, "--licence", "CC0-1.0")
        assert result.exit_code == 0, result.output
        assert json.loads(network.with_suffix(".json").read_text()) == {
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
        load_model(network)
        assert "fgbgpack models check" in result.stdout

    def test_all_that_is_missing_is_told(self, network):
        result = run("card", network, "--range", "0,1")
        assert result.exit_code == 2
        assert [problem.split(":")[0] for problem in problems(result)] == [
            "--mean",
            "--std",
            "--size",
            "--quantity",
        ]
        assert not network.with_suffix(".json").exists()

    def test_depth_wants_a_unit(self, network):
        result = run("card", network, *SAID[:-1], "depth")
        assert [problem.split(":")[0] for problem in problems(result)] == ["--unit"]
        assert run("card", network, *SAID[:-1], "depth", "--unit", "m").exit_code == 0
        assert load_model(network).card.output.unit == "m"

    def test_like_another_model(self, network):
        assert run("card", network, "--like", "zoedepth-nyu", "--channels", "BGR").exit_code == 0
        written = load_model(network).card.document
        assert written["input"]["std"] == [0.5, 0.5, 0.5]
        assert written["input"]["channels"] == "BGR"
        assert (written["output"]["unit"], written["output"]["axes"]) == ("m", "N1HW")  # axes: the graph's
        assert written["licence"] == "MIT"
        assert {"source", "obtain", "title", "sha256", "download"}.isdisjoint(written)

    def test_shorthands(self, network):
        words = ["--range", "0,1", "--mean", "imagenet", "--std", "imagenet", "--filter", "bicubic"]
        words += ["--size", "multiple 14, short_side 518", "--quantity", "depth", "--unit", "none"]
        words += ["--transform", '[{"reciprocal_of": 1}]']
        assert run("card", network, *words).exit_code == 0
        written = load_model(network).card.document
        assert written["input"]["mean"] == [0.485, 0.456, 0.406]
        assert written["input"]["std"] == [0.229, 0.224, 0.225]
        assert written["input"]["size"] == {"multiple_of": 14, "target": {"short_side": 518}}
        assert written["input"]["filter"] == "bicubic"
        assert written["output"]["transform"] == [{"reciprocal_of": 1}]

    def test_what_the_graph_tells_is_not_asked(self, tmp_path):
        path = write_network(
            tmp_path / "m.onnx",
            [helper.make_node("ReduceMean", ["picture"], ["depth"], axes=[3], keepdims=0)],
            input=("picture", TensorProto.FLOAT16, [1, 24, 32, 3]),
            output=("depth", TensorProto.FLOAT16, [1, 24, 32]),
            card=None,
        )
        result = run(
            "card", path, "--range", "0,1", "--mean", "half", "--std", "half", "--quantity", "inverse_depth"
        )
        assert result.exit_code == 0, result.output
        written = load_model(path).card.document
        assert written["input"]["size"] == {"fixed": [24, 32]}
        assert (written["input"]["layout"], written["input"]["dtype"]) == ("NHWC", "float16")
        assert written["output"]["axes"] == "NHW"

    def test_asks_on_a_terminal(self, network, monkeypatch):
        monkeypatch.setattr("fgbgpack.cli.models._on_terminal", lambda: True)
        answers = "0,255\nnone\nbanana\nnone\nmultiple 8\ndepth\nm\n"
        result = run("card", network, stdin=answers)
        assert result.exit_code == 0, result.output
        assert "That cannot be read" in result.stderr
        written = load_model(network).card.document
        assert written["input"]["size"] == {"multiple_of": 8}
        assert written["output"]["unit"] == "m"
        assert "mean" not in written["input"]

    def test_does_not_replace_a_card_unless_told(self, network):
        network.with_suffix(".json").write_text("precious")
        result = run("card", network, *SAID)
        assert result.exit_code == 2
        assert "--force" in result.stderr
        assert network.with_suffix(".json").read_text() == "precious"
        assert run("card", network, *SAID, "--force").exit_code == 0
        load_model(network)

    def test_a_card_that_does_not_fit_replaces_nothing(self, tmp_path):
        path = halving(tmp_path / "two.onnx", output=("output", 1, ["n", 2, "h2", "w2"]), card=None)
        path.with_suffix(".json").write_text("precious")
        result = run("card", path, *SAID, "--force")
        assert result.exit_code == 5
        assert "output.axes" in result.stderr
        assert path.with_suffix(".json").read_text() == "precious"

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            (["--range", "0;1"], "--range: '0;1' cannot be read"),
            (["--mean", "1,2"], "--mean: '1,2' cannot be read (expected 3 numbers"),
            (["--size", "16"], "--size: '16' cannot be read"),
            (["--transform", "{"], "--transform: '{' cannot be read"),
            (["--quantity", "disparity"], "output.quantity: 'disparity'"),
            (["--channels", "GRB"], "input.channels: 'GRB'"),
        ],
    )
    def test_values_that_make_no_card(self, network, words, found):
        result = run("card", network, *SAID, *words)
        assert result.exit_code == 2
        assert found in problems(result)[0]
        assert not network.with_suffix(".json").exists()

    def test_tensors_by_name(self, network):
        result = run("card", network, *SAID, "--input", "image")
        assert result.exit_code == 5
        assert "The graph has no input 'image'; it has 'input'" in result.stderr

    def test_a_guided_network(self, tmp_path):
        path = guided(tmp_path / "guide.onnx", inputs=("image", "mask", "prior"), card=None)
        said = [word for word in SAID if word not in ("--quantity", "inverse_depth")]
        result = run("card", path, *said, "--background-depth", "prior")
        assert result.exit_code == 2
        assert [problem.split(":")[0] for problem in problems(result)] == ["--mask-range", "--of"]
        words = [*said, "--background-depth", "prior", "--mask-range", "0,1", "--of", "foreground"]
        assert run("card", path, *words).exit_code == 0
        written = load_model(path).card.document
        assert written["guides"] == {
            "mask": {"name": "mask", "range": [0, 1]},
            "background_depth": {"name": "prior", "normalise": "median"},
        }
        assert (written["output"]["of"], written["output"]["quantity"]) == ("foreground", "inverse_depth")

    def test_a_mask_that_the_network_does_not_take(self, network):
        result = run("card", network, *SAID, "--mask-range", "0,1")
        assert result.exit_code == 2
        assert "guides.mask: 'name' is a required property" in problems(result)[0]

    def test_a_file_that_is_no_network(self, tmp_path):
        (tmp_path / "x.onnx").write_text("hello")
        assert run("card", tmp_path / "x.onnx", *SAID).exit_code == 5
        assert run("card", tmp_path / "nothing.onnx", *SAID).exit_code == 5


class TestImport:
    def test_into_the_models_folder(self, folder, tmp_path):
        (tmp_path / "nyu.h5").write_bytes(KERAS.read_bytes())
        result = run("import", "densedepth", tmp_path / "nyu.h5")
        assert result.exit_code == 0, result.output
        assert "--depth-model densedepth-nyu" in result.stdout
        model = load_model("densedepth-nyu")
        assert model.path == folder / "densedepth-nyu.onnx"
        assert model.card.output.unit == "m"

    def test_what_is_imported_fills_depth_in_metres(self, folder, tmp_path, pictures):
        assert run("import", "densedepth", KERAS, "--weights", "nyu").exit_code == 0
        spec = pictures.spec(placements=1, depth=DepthSpec("densedepth-nyu", scale=3))
        assert create(tmp_path / "it.zarr", spec).depth_model == "densedepth-nyu"
        ds = open_dataset(tmp_path / "it.zarr")
        assert (ds.depth.attrs["quantity"], ds.depth.attrs["unit"]) == ("depth", "m")
        metres = ds.depth[:].astype(np.float32)
        assert metres.shape == (len(ds), ds.height, ds.width)
        near = 0.1 - ds.depth.attrs["rounding"]["step"] / 2
        assert near <= metres.min() < metres.max() <= 10.0

    def test_to_a_file(self, folder, tmp_path):
        out = tmp_path / "mine.onnx"
        words = [
            "import",
            "densedepth",
            KERAS,
            "-o",
            out,
            "--weights",
            "kitti",
            "--bilinear",
            "align_corners",
        ]
        assert run(*words).exit_code == 0
        assert load_model(out).card.output.transform == ({"reciprocal_of": 80}, {"clip": (1, 80)})
        result = run(*words)
        assert result.exit_code == 2
        assert f"{out} and {out.with_suffix('.json')} there already; --force" in result.stderr
        assert run(*words, "--force").exit_code == 0
        assert list(folder.iterdir()) == []

    def test_which_weights_they_are_is_not_guessed(self):
        result = run("import", "densedepth", KERAS)
        assert result.exit_code == 2
        assert "--weights: not given" in result.stderr
        assert (
            "'sun' is not one of nyu, kitti" in run("import", "densedepth", KERAS, "--weights", "sun").stderr
        )

    def test_a_file_that_is_no_keras_file(self, tmp_path):
        (tmp_path / "nyu.h5").write_text("hello")
        result = run("import", "densedepth", tmp_path / "nyu.h5")
        assert result.exit_code == 5
        assert "nyu.h5" in result.stderr


class TestCompare:
    def test_two_models(self, folder, dataset, tmp_path):
        for seed, name in enumerate(("first", "second")):
            write_depth_model(folder, name=name, seed=seed)
        picture = tmp_path / "compare.png"
        words = ("compare", "first", "second@1", "--on", dataset, "--samples", 4, "--device", "cpu")
        result = run(*words, "-o", picture)
        assert result.exit_code == 0, result.output
        assert "4 samples of" in result.stdout
        assert re.search(
            r"^first.*\n +gives +inverse depth; scale 4, CPUExecutionProvider, fp32\n"
            r" +step at the outline +-?\d\.\d\d \(",
            result.stdout,
            re.MULTILINE,
        )
        assert re.search(r"^second.*\n +gives +inverse depth; scale 1,", result.stdout, re.MULTILINE)
        assert re.search(
            r"^Rank agreement.*\n +first.*, second.* +-?\d\.\d\d \(", result.stdout, re.MULTILINE
        )
        with Image.open(picture) as drawn:
            assert drawn.size[0] > 200
        document = json.loads(run(*words, "--json").stdout)
        assert [model["scale"] for model in document["models"]] == [4, 1]
        assert -1 <= document["agreement"][0]["rank"]["median"] <= 1

    def test_stored_depth(self, depth_dataset, depth_model):
        result = run("compare", "stored", f"{depth_model}@1", "--on", depth_dataset, "--samples", 3)
        assert result.exit_code == 0, result.output
        assert re.search(r"^stored$", result.stdout, re.MULTILINE)

    def test_problems_are_told_at_once(self, dataset):
        result = run("compare", "a", "--on", dataset, "--samples", "0", "--seed", "x", "-o", "a.jpg")
        assert result.exit_code == 2
        assert [problem.split(":")[0] for problem in problems(result)] == ["--samples", "--seed", "--output"]

    def test_a_model_or_dataset_that_is_not_there(self, dataset, tmp_path):
        assert run("compare", "midas-v2.1", "--on", dataset).exit_code == 5
        assert run("compare", "midas-v2.1", "--on", tmp_path / "no.zarr").exit_code == 4

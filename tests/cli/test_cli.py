"""The command line as users meet it: what it prints, where, and the exit code."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import tree
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner, Result

from fgbgpack.cli import app
from fgbgpack.cli.progress import ProgressDisplay
from fgbgpack.dataset.dataset import open_dataset
from fgbgpack.pipeline import Notice, Progress

COMMANDS = (
    "card",
    "convert",
    "create",
    "depth",
    "export",
    "import",
    "info",
    "materialize",
    "models",
    "preview",
    "sample",
    "schema",
    "split",
    "virtualize",
)
PROGRAM = [sys.executable, "-c", "from fgbgpack.cli import main; main()"]
TINY = ("--depth-model", "none", "--size", "32x24", "--foreground-height", "10", "--placements", "2")
SAMPLES = 3 * 2 * 2 * 2


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three backgrounds of 40x30 in ``bg``, two foregrounds with alpha in ``fg``."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(5)
    for name, count, shape in (("bg", 3, (30, 40, 3)), ("fg", 2, (20, 14, 4))):
        (folder / name).mkdir()
        for i in range(count):
            pixels = random.integers(1, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}-{i}.png")
    return folder


@pytest.fixture(scope="session")
def folders(pictures: Path) -> tuple[str, ...]:
    return ("--backgrounds", str(pictures / "bg"), "--foregrounds", str(pictures / "fg"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of one layer, the mean of the colours, with its card."""
    path = tmp_path_factory.mktemp("model") / "mean.onnx"
    weights = numpy_helper.from_array(np.full((1, 3, 1, 1), 1 / 3, np.float32), "weights")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["picture", "weights"], ["grey"])],
        "mean",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("grey", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    card = {
        "schema": "depth-model/1.0",
        "name": "mean-of-colours",
        "input": {
            "name": "picture",
            "layout": "NCHW",
            "channels": "RGB",
            "range": [0, 1],
            "size": {"multiple_of": 1},
        },
        "output": {"name": "grey", "axes": "N1HW", "quantity": "inverse_depth", "unit": None},
    }
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, folders: tuple[str, ...]) -> Path:
    """A complete dataset without depth, for reading only."""
    out = tmp_path_factory.mktemp("made") / "tiny.zarr"
    assert run("create", out, *folders, *TINY, "--quiet").exit_code == 0
    return out


@pytest.fixture(scope="session")
def virtual(tmp_path_factory: pytest.TempPathFactory, folders: tuple[str, ...]) -> Path:
    """The dataset ``made``, virtual; for reading only."""
    out = tmp_path_factory.mktemp("virtual") / "tiny.zarr"
    result = run("create", out, *folders, *TINY, "--virtual")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"image, mask +virtual", result.stdout)
    return out


def run(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="fgbgpack")


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
    )


def problems(result: Result) -> list[str]:
    return re.findall(r"^  - (.*)$", result.stderr, re.MULTILINE)


class TestHelp:
    def test_top_level_names_every_command(self) -> None:
        result = run("--help")
        assert result.exit_code == 0
        assert {command.name for command in get_command(app).commands.values()} == set(COMMANDS)
        for command in COMMANDS:
            assert re.search(rf"^\W*{command}\s+\w", result.stdout, re.MULTILINE)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_explains_itself(self, command: str) -> None:
        result = run(command, "--help")
        assert result.exit_code == 0
        assert re.search(rf"Example.*fgbgpack {command} ", result.stdout, re.DOTALL)
        parsed = get_command(app).commands[command]
        assert parsed.help
        for parameter in parsed.params:
            assert parameter.help, f"{command} {parameter.name} has no help"

    def test_no_command_shows_help(self) -> None:
        result = run()
        assert result.exit_code == 2
        assert "Usage: fgbgpack" in result.output

    def test_version(self) -> None:
        result = run("--version")
        assert result.exit_code == 0
        assert re.fullmatch(r"fgbgpack \d+\.\d+\.\d+\S*\n", result.stdout)

    def test_help_imports_none_of_the_library(self) -> None:
        code = (
            "import sys\n"
            "from fgbgpack.cli import app\n"
            "try: app(['--help'])\n"
            "except SystemExit: pass\n"
            "heavy = {'numpy', 'zarr', 'numba', 'onnxruntime', 'PIL', 'jsonschema'} & set(sys.modules)\n"
            "sys.exit(f'imported {heavy}' if heavy else 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("arguments", [("creat",), ("create",), ("create", "x.zarr", "--sed", "1")])
    def test_usage_errors_exit_2(self, arguments: tuple[str, ...]) -> None:
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Usage" in result.stderr


class TestOptions:
    def test_all_problems_are_told_at_once(self, tmp_path: Path) -> None:
        result = run(
            *("create", tmp_path / "x.zarr", "--size", "axb", "--seed", "abc", "--placements", "0"),
            *("--device", "gpu", "--workers", "0", "--fit", "squash", "--chunk", "-1"),
            *("--depth-model", "m.onnx", "--depth-scale", "9", "--depth-bits", "x"),
        )
        assert result.exit_code == 2
        told = [problem.split(":")[0] for problem in problems(result)]
        assert sorted(told) == [
            *(
                "--backgrounds",
                "--chunk",
                "--depth-bits",
                "--depth-scale",
                "--device",
                "--fit",
                "--foregrounds",
            ),
            *("--placements", "--seed", "--size", "--workers"),
        ]
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("option", "value", "found"),
        [
            ("--seed", "abc", "'abc' is not a whole number"),
            ("--seed", "1_000", "'1_000' is not a whole number"),
            ("--seed", "-1", "-1 is less than"),
            ("--seed", str(2**64), f"{2**64} is greater than"),
            ("--size", "0x0", "(width): 0 is less than"),
            ("--size", "0x0", "(height): 0 is less than"),
            ("--size", "32", None),
            ("--size", "32x", "'32x' is not a size"),
            ("--size", "-32x24", "'-32x24' is not a size"),
            ("--size", "32x9000", "(height): 9000 is greater than"),
            ("--placements", "0", "0 is less than"),
            ("--placements", "2.5", "'2.5' is not a whole number"),
            ("--foreground-height", "0", "0 is less than"),
            ("--foreground-height", "25", "25 is more than the sample's height of 24"),
            ("--placement", "outside", "'outside'"),
            ("--workers", "many", "'many' is not a whole number"),
            ("--depth-scale", "2", "of no use with --depth-model none"),
            ("--depth-mode", "guided", "of no use with --depth-model none"),
            ("--depth-model", "", "'' should be non-empty"),
        ],
    )
    def test_bad_value_is_told_by_the_name_of_its_option(
        self, tmp_path: Path, folders: tuple[str, ...], option: str, value: str, found: str | None
    ) -> None:
        result = run("create", tmp_path / "x.zarr", *folders, *TINY, option, value, "--dry-run")
        if found is None:
            assert result.exit_code == 0
        else:
            assert result.exit_code == 2
            assert any(p.startswith(option) and found in p for p in problems(result)), result.stderr
        assert result.exit_code == 0 or result.stdout == ""

    def test_bad_size_does_not_accuse_the_foreground_height(self, folders: tuple[str, ...]) -> None:
        result = run("create", "x.zarr", *folders, "--size", "big", "--foreground-height", "900")
        assert [problem.split(":")[0] for problem in problems(result)] == ["--size"]

    def test_largest_seed_is_fine(self, tmp_path: Path, folders: tuple[str, ...]) -> None:
        out = tmp_path / "x.zarr"
        assert run("create", out, *folders, *TINY, "--seed", 2**64 - 1).exit_code == 0
        assert open_dataset(out).document["spec"]["seed"] == 2**64 - 1

    def test_depth_and_preview_tell_theirs(self, made: Path) -> None:
        wrong = ("--depth-bits", "99", "--device", "x", "--precision", "fp8", "--depth-model", "none")
        result = run("depth", made, *wrong)
        assert result.exit_code == 2
        told = ["--device", "--depth-model", "--depth-bits", "--precision"]
        assert [p.split(":")[0] for p in problems(result)] == told
        wrong = ("--depth-mode", "per-sample", "--depth-guide", "mine", "--depth-scale", "5")
        told = ["--depth-guide", "--depth-scale"]
        for command in (("create", "x.zarr", "--backgrounds", "b", "--foregrounds", "f"), ("depth", made)):
            result = run(*command, *wrong)
            assert result.exit_code == 2
            assert [p.split(":")[0] for p in problems(result)] == told
        result = run("depth", made, "--depth-mode", "both")
        assert [p.split(":")[0] for p in problems(result)] == ["--depth-mode"]
        result = run("preview", made, "-o", "x.png", "--samples", "1,x", "--rows", "0")
        assert result.exit_code == 2
        assert [p.split(":")[0] for p in problems(result)] == ["--samples", "--rows"]


class TestConfig:
    def write(self, folder: Path, pictures: Path, name: str, more: str = "") -> Path:
        path = folder / name
        fields = {"backgrounds": str(pictures / "bg"), "foregrounds": str(pictures / "fg")}
        fields |= {
            "width": 32,
            "height": 24,
            "foreground_height": 10,
            "placements": 1,
            "flip": False,
            "seed": 3,
        }
        if name.endswith(".json"):
            path.write_text(json.dumps(fields))
        else:
            path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items()) + more)
        return path

    @pytest.mark.parametrize("name", ["tiny.toml", "tiny.json"])
    def test_values_of_the_file_stand_unless_an_option_is_given(
        self, tmp_path: Path, pictures: Path, name: str
    ) -> None:
        config = self.write(tmp_path, pictures, name)
        out = tmp_path / "x.zarr"
        result = run("create", out, "--config", config, "--placements", 4, "--size", "30x20", "--json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["samples"] == 3 * 2 * 4
        spec = open_dataset(out).document["spec"]
        assert (spec["width"], spec["height"]) == (30, 20)
        assert (spec["placements"], spec["flip"], spec["seed"], spec["foreground_height"]) == (
            4,
            False,
            3,
            10,
        )

    def test_problems_say_whether_file_or_option(self, tmp_path: Path, pictures: Path) -> None:
        more = 'fit = "squash"\nsed = 1\n[depth]\nmodel = "m.onnx"\nscale = 7\nbits = 5\n'
        config = self.write(tmp_path, pictures, "bad.toml", more)
        result = run("create", tmp_path / "x.zarr", "--config", config, "--seed", "-3", "--depth-bits", 22)
        assert result.exit_code == 2
        told = problems(result)
        assert len(told) == 5
        for beginning in (
            f"fit in {config}: 'squash'",
            f"{config}: Additional properties are not allowed ('sed'",
            f"depth.scale in {config}: 7",
            "--seed: -3",
            "--depth-bits: 22",
        ):
            assert any(problem.startswith(beginning) for problem in told), told

    def test_options_of_depth_go_on_top_of_those_of_the_file(self, tmp_path: Path, pictures: Path) -> None:
        more = '[depth]\nmodel = "nowhere"\nmode = "per-sample"\nscale = 4\nbits = 7\n'
        config = self.write(tmp_path, pictures, "depth.toml", more)
        out = tmp_path / "x.zarr"
        given = ("--depth-model", "fgbgpack-scene", "--depth-mode", "guided", "--depth-scale", "2")
        assert run("create", out, "--config", config, *given, "--quiet").exit_code == 0
        depth = open_dataset(out).document["spec"]["depth"]
        assert (depth["model"], depth["mode"], depth["scale"], depth["bits"]) == (
            "fgbgpack-scene",
            "guided",
            2,
            7,
        )

    def test_a_file_that_asks_for_no_depth(self, tmp_path: Path, pictures: Path) -> None:
        config = self.write(tmp_path, pictures, "none.toml", '[depth]\nmodel = "none"\n')
        command = ("create", tmp_path / "x.zarr", "--config", config, "--quiet")
        refused = run(*command, "--depth-scale", "2")
        assert refused.exit_code == 2
        assert "none.toml asks for no depth; a model is needed too" in refused.stderr
        assert run(*command).exit_code == 0
        assert not open_dataset(tmp_path / "x.zarr").has_depth

    def test_no_depth_overrides_the_file(self, tmp_path: Path, pictures: Path) -> None:
        config = self.write(tmp_path, pictures, "depth.toml", '[depth]\nmodel = "nowhere.onnx"\n')
        assert run("create", tmp_path / "x.zarr", "--config", config).exit_code == 5
        assert run("create", tmp_path / "x.zarr", "--config", config, "--depth-model", "none").exit_code == 0

    def test_unreadable_file(self, tmp_path: Path) -> None:
        config = tmp_path / "broken.toml"
        config.write_text("seed = = 1")
        result = run("create", tmp_path / "x.zarr", "--config", config, "--size", "big")
        assert result.exit_code == 2
        assert [problem.split(":")[0] for problem in problems(result)] == ["--size", "--config"]
        assert "broken.toml is not valid TOML" in result.stderr


class TestCreate:
    def test_summary_on_stdout_the_rest_on_stderr(self, tmp_path: Path, folders: tuple[str, ...]) -> None:
        out = tmp_path / "a b.zarr"
        result = run("create", out, *folders, *TINY)
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Created {out}: {SAMPLES} samples of 32x24 in ")
        assert f"fgbgpack preview '{out}' -o 'a b.png'" in result.stdout
        assert f"fgbgpack depth '{out}'\n" in result.stdout
        assert f"open_dataset({str(out)!r})" in result.stdout
        assert "Pictures: 5 of 5" in result.stderr
        assert f"Samples: {SAMPLES} of {SAMPLES}" in result.stderr
        assert "\x1b" not in result.output
        again = run("create", out, *folders, *TINY)
        assert again.exit_code == 0
        assert "nothing to do" in again.stdout

    def test_json_is_all_there_is_on_stdout(self, tmp_path: Path, folders: tuple[str, ...]) -> None:
        result = run("create", tmp_path / "x.zarr", *folders, *TINY, "--json")
        report = json.loads(result.stdout)
        assert report["samples"] == report["created"] == SAMPLES
        assert report["complete"] is True
        assert report["depth_model"] is None
        assert report["stored_bytes"]["image"] > 0

    def test_quiet(self, tmp_path: Path, folders: tuple[str, ...]) -> None:
        result = run("create", tmp_path / "x.zarr", *folders, *TINY, "--quiet")
        assert (result.exit_code, result.output) == (0, "")
        result = run("create", tmp_path / "x.zarr", *folders, *TINY, "--quiet", "--json")
        assert json.loads(result.output)["created"] == 0
        result = run("create", tmp_path / "x.zarr", *folders, *TINY, "--quiet", "--seed", "1")
        assert result.exit_code == 4
        assert result.stderr.startswith("error: ")

    def test_dry_run_writes_nothing(self, tmp_path: Path, folders: tuple[str, ...]) -> None:
        result = run("create", tmp_path / "x.zarr", *folders, *TINY, "--dry-run")
        assert result.exit_code == 0
        assert f"Would create {SAMPLES} samples of 32x24" in result.stdout
        assert "3 backgrounds, 2 foregrounds" in result.stdout
        estimate = json.loads(
            run("create", tmp_path / "x.zarr", *folders, *TINY, "--dry-run", "--json").stdout
        )
        assert estimate["samples"] == SAMPLES
        assert not list(tmp_path.iterdir())

    def test_other_recipe_is_refused_unless_overwritten(
        self, tmp_path: Path, folders: tuple[str, ...]
    ) -> None:
        out = tmp_path / "x.zarr"
        assert run("create", out, *folders, *TINY).exit_code == 0
        refused = run("create", out, *folders, *TINY, "--no-flip")
        assert refused.exit_code == 4
        assert any("flip" in problem for problem in problems(refused))
        assert len(open_dataset(out)) == SAMPLES
        assert run("create", out, *folders, *TINY, "--no-flip", "--overwrite").exit_code == 0
        assert len(open_dataset(out)) == SAMPLES / 2


class TestErrors:
    def test_pictures_exit_3_and_every_bad_one_is_named(self, tmp_path: Path, pictures: Path) -> None:
        bad = tmp_path / "bad"
        bad.mkdir()
        for name in ("[bold]one[red].png", "two ü.png"):
            (bad / name).write_bytes(b"no picture")
        result = run(
            "create", tmp_path / "x.zarr", "--backgrounds", bad, "--foregrounds", pictures / "fg", *TINY
        )
        assert result.exit_code == 3
        assert "[bold]one[red].png" in result.stderr
        assert "two ü.png" in result.stderr
        assert result.stdout == ""

    def test_missing_folder_exits_3_and_its_path_is_not_wrapped(self, tmp_path: Path, pictures: Path) -> None:
        missing = tmp_path / ("deep folder/" * 20) / "none"
        result = run(
            "create", tmp_path / "x.zarr", "--backgrounds", missing, "--foregrounds", pictures / "fg", *TINY
        )
        assert result.exit_code == 3
        assert str(missing) in result.stderr

    def test_out_that_is_a_file_exits_4(self, tmp_path: Path, folders: tuple[str, ...]) -> None:
        out = tmp_path / "x.zarr"
        out.write_text("precious")
        result = run("create", out, *folders, *TINY, "--overwrite")
        assert result.exit_code == 4
        assert str(out) in result.stderr
        assert out.read_text() == "precious"

    @pytest.mark.parametrize(
        "command", [("info",), ("preview", "-o", "x.png"), ("depth", "--depth-model", "m")]
    )
    def test_no_dataset_exits_4(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        result = run(*command, tmp_path / "nothing.zarr")
        assert result.exit_code == 4
        assert result.stderr.startswith("error: ")
        assert "nothing.zarr" in result.stderr

    def test_depth_model_exits_5(self, tmp_path: Path, folders: tuple[str, ...], made: Path) -> None:
        missing = tmp_path / "none.onnx"
        for command in (("create", tmp_path / "x.zarr", *folders, *TINY), ("depth", made)):
            result = run(*command, "--depth-model", missing)
            assert result.exit_code == 5
            assert str(missing) in result.stderr
        assert not list(tmp_path.iterdir())

    def test_control_characters_do_not_reach_the_terminal(self, tmp_path: Path) -> None:
        result = run("info", tmp_path / "a\x1b[2Jb")
        assert result.exit_code == 4
        assert "\x1b" not in result.stderr
        assert r"a\x1b[2Jb" in result.stderr

    def test_bug_says_so_with_a_traceback(self) -> None:
        code = (
            "import fgbgpack.schema\n"
            "def broken(*arguments): raise RuntimeError('no [idea]')\n"
            "fgbgpack.schema.load_schema = broken\n"
            "import sys; sys.argv[1:] = ['schema', 'spec']\n"
            "from fgbgpack.cli import main; main()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "RuntimeError: no [idea]" in done.stderr
        assert "please report it" in done.stderr
        assert done.stdout == ""

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_full_disk_under_stdout(self) -> None:
        with Path("/dev/full").open("w") as full:
            process = start("schema", "spec", stdout=full)
            _, stderr = process.communicate()
        assert process.returncode == 4
        assert stderr == "error: The disk is full.\n"


class TestInfo:
    def test_json(self, made: Path) -> None:
        result = run("info", made, "--json")
        assert result.exit_code == 0
        assert result.stderr == ""
        info = json.loads(result.stdout)
        assert (info["samples"], info["width"], info["height"]) == (SAMPLES, 32, 24)
        assert (info["backgrounds"], info["foregrounds"], info["complete"]) == (3, 2, True)
        image, depth = info["arrays"]["image"], info["arrays"]["depth"]
        assert image["filled"] == SAMPLES
        assert image["raw"] == SAMPLES * 24 * 32 * 3
        assert image["ratio"] == pytest.approx(image["raw"] / image["stored"])
        assert image["bytes_per_sample"] == pytest.approx(image["stored"] / SAMPLES)
        on_disk = {p: p.stat().st_size for p in made.rglob("*") if p.is_file()}
        assert image["stored"] == sum(size for p, size in on_disk.items() if p.is_relative_to(made / "image"))
        assert info["bytes"] == sum(on_disk.values())
        assert (depth["filled"], depth["ratio"], info["depth"]) == (0, None, None)
        assert [source["name"] for source in info["sources"]["backgrounds"]] == [
            f"bg-{i}.png" for i in range(3)
        ]

    def test_table(self, made: Path) -> None:
        result = run("info", made)
        assert result.exit_code == 0
        assert f"{made}: {SAMPLES} samples of 32x24, complete" in result.stdout
        assert re.search(r"^image +uint8 +100 % .* : 1$", result.stdout, re.MULTILINE)
        assert re.search(r"^depth +float16 +0 % ", result.stdout, re.MULTILINE)

    def test_incomplete_dataset(self, tmp_path: Path, folders: tuple[str, ...], model: Path) -> None:
        out = tmp_path / "x.zarr"
        assert run("create", out, *folders, *TINY, "--quiet").exit_code == 0
        root = out / "zarr.json"
        node = json.loads(root.read_text())
        node["attributes"]["fgbgpack"]["complete"] = False
        node["attributes"]["fgbgpack"]["pixels"]["complete"] = False
        root.write_text(json.dumps(node))
        (out / "image/c/0/0/0/0").unlink()
        result = run("info", out)
        assert result.exit_code == 0
        assert "NOT COMPLETE" in result.stdout
        assert re.search(r"^image +uint8 +0 % ", result.stdout, re.MULTILINE)
        assert re.search(r"^mask +uint8 +100 % ", result.stdout, re.MULTILINE)
        drawn = run("preview", out, "-o", tmp_path / "x.png")
        assert drawn.exit_code == 0
        assert "warning: " in drawn.stderr
        assert "not complete" in drawn.stderr
        assert run("depth", out, "--depth-model", model, "--depth-scale", "1").exit_code == 4


class TestDepth:
    def test_fills_and_tells(self, tmp_path: Path, folders: tuple[str, ...], model: Path) -> None:
        out = tmp_path / "x.zarr"
        assert run("create", out, *folders, *TINY, "--quiet").exit_code == 0
        fill = ("depth", out, "--depth-model", model, "--depth-scale", "1", "--device", "cpu")
        result = run(*fill)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith(f"Filled {out}: {SAMPLES} samples")
        assert "mean-of-colours on CPUExecutionProvider" in result.stdout
        assert f"Depth: {SAMPLES} of {SAMPLES}" in result.stderr
        again = json.loads(run(*fill, "--json").stdout)
        assert (again["depth_filled"], again["complete"]) == (0, True)
        info = json.loads(run("info", out, "--json").stdout)
        assert info["depth"]["model"] == "mean-of-colours"
        assert info["depth"]["quantity"] == "inverse_depth"
        assert info["arrays"]["depth"]["filled"] == SAMPLES
        assert "inverse depth, relative" in run("info", out).stdout
        assert run(*fill, "--depth-bits", "6").exit_code == 4
        assert run(*fill, "--depth-bits", "6", "--overwrite").exit_code == 0

    def test_create_with_a_model(self, tmp_path: Path, folders: tuple[str, ...], model: Path) -> None:
        options = ("--depth-model", model, "--depth-scale", "2", "--device", "cpu", "--precision", "fp16")
        result = run("create", tmp_path / "x.zarr", *folders, *TINY, *options)
        assert result.exit_code == 0, result.stderr
        assert "fp16 is for GPUs" in " ".join(result.stderr.split())
        assert "on CPUExecutionProvider in fp16" in run("info", tmp_path / "x.zarr").stdout
        assert "batch.depth" in result.stdout
        assert "fgbgpack depth" not in result.stdout

    def test_guided_unless_told_otherwise(self, tmp_path: Path, folders: tuple[str, ...]) -> None:
        out = tmp_path / "x.zarr"
        command = ("create", out, *folders, *TINY[2:], "--device", "cpu")
        dry = run(*command, "--dry-run")
        assert dry.exit_code == 0, dry.stderr
        assert re.search(
            r"depth [\d,]+/s on CPUExecutionProvider, once that of the backgrounds is", dry.stdout
        )
        result = run(*command)
        assert result.exit_code == 0, result.stderr
        assert "fgbgpack-scene on the backgrounds, then fgbgpack-guided on CPUExecution" in result.stdout
        assert "Backgrounds: 3 of 3" in result.stderr
        told = run("info", out).stdout
        assert re.search(r"depth model +fgbgpack-scene on CPUE.*, guided, scale 16\n", told)
        assert re.search(r"depth guide +fgbgpack-guided on CPUExecutionProvider in fp32\n", told)
        depth = json.loads(run("info", out, "--json").stdout)["depth"]
        assert (depth["mode"], depth["model"], depth["guide"]["model"]) == (
            "guided",
            "fgbgpack-scene",
            "fgbgpack-guided",
        )
        assert json.loads(run(*command, "--json").stdout)["depth_guide"] == "fgbgpack-guided"
        refused = run("depth", out, "--depth-mode", "per-sample")
        assert refused.exit_code == 4
        assert "depth mode: the dataset has guided, asked for per-sample" in problems(refused)
        assert run("depth", out, "--depth-mode", "per-sample", "--overwrite", "--quiet").exit_code == 0
        assert json.loads(run("info", out, "--json").stdout)["depth"]["guide"] is None

    def test_compare_both_modes(self, tmp_path: Path, made: Path, model: Path) -> None:
        words = ("models", "compare", f"{model}@1", f"guided:{model}@7", "guided:fgbgpack-scene")
        result = run(*words, "--on", made, "--samples", "4", "--device", "cpu", "--json")
        assert result.exit_code == 0, result.stderr
        figures = json.loads(result.stdout)["models"]
        assert [(f["label"], f["mode"], f["guide"]) for f in figures] == [
            ("mean-of-colours x1", "per-sample", None),
            ("guided:mean-of-colours x7", "guided", "fgbgpack-guided"),
            ("guided:fgbgpack-scene x16", "guided", "fgbgpack-guided"),
        ]
        refused = run("models", "compare", "fgbgpack-scene", "--on", made, "--guide", "fgbgpack-guided")
        assert refused.exit_code == 2
        assert "of no use where no model is 'guided:'" in refused.stderr
        wrong = run("models", "compare", f"guided:{model}", "--on", made, "--guide", model)
        assert wrong.exit_code == 5
        assert "is not a guided network" in wrong.stderr
        assert run("models", "compare", f"{model}@5", "--on", made).exit_code == 2


class TestOtherCommands:
    def test_preview(self, made: Path, tmp_path: Path) -> None:
        picture = tmp_path / "pre view.png"
        result = run("preview", made, "-o", picture, "--samples", "0, 5,23")
        assert result.exit_code == 0, result.stderr
        assert str(picture) in result.stdout
        with Image.open(picture) as image:
            assert image.format == "PNG"
        assert run("preview", made, "-o", picture, "--samples", SAMPLES).exit_code == 2

    def test_sample(self, tmp_path: Path) -> None:
        folder = tmp_path / "my pictures"
        result = run("sample", folder, "--backgrounds", 1, "--foregrounds", 1)
        assert result.exit_code == 0, result.stderr
        command = re.search(r"fgbgpack create .*", result.stdout)
        assert command is not None
        assert f"'{folder}" in command[0]
        refused = run("sample", folder, "--backgrounds", 0, "--foregrounds", "x")
        assert refused.exit_code == 2
        assert [p.split(":")[0] for p in problems(refused)] == ["--backgrounds", "--foregrounds"]

    def test_schema(self) -> None:
        listed = run("schema")
        assert listed.exit_code == 0
        for name in ("dataset", "spec", "depth-model"):
            assert re.search(rf"^ +{name} +1\.0$", listed.stdout, re.MULTILINE)
            printed = run("schema", name)
            assert json.loads(printed.stdout)["$id"] == f"urn:fgbgpack:schema:{name}:1.0"
            assert run("schema", f"{name}/1.0").stdout == printed.stdout
        assert run("schema", "nothing").exit_code == 2
        assert run("schema", "spec/9.9").exit_code == 2


class TestVirtual:
    def test_dry_run(self, tmp_path: Path, folders: tuple[str, ...]) -> None:
        result = run("create", tmp_path / "x.zarr", *folders, *TINY, "--virtual", "--dry-run")
        assert result.exit_code == 0, result.stderr
        assert re.search(r"on disk +about [\d,.]+ k?B \(recipe", result.stdout)
        assert not (tmp_path / "x.zarr").exists()

    def test_info_and_preview(self, virtual: Path, tmp_path: Path) -> None:
        told = run("info", virtual)
        assert told.exit_code == 0
        for name in ("pixels +virtual", "image +uint8 +virtual +- +- +-", "mask +uint8 +virtual +- +- +-"):
            assert re.search(rf"^ *{name}", told.stdout, re.MULTILINE), told.stdout
        assert json.loads(run("info", virtual, "--json").stdout)["virtual"] is True
        assert run("preview", virtual, "-o", tmp_path / "x.png").exit_code == 0

    def test_there_and_back(self, virtual: Path, made: Path, tmp_path: Path) -> None:
        stored, again = tmp_path / "stored.zarr", tmp_path / "a gain.zarr"
        result = run("materialize", virtual, stored)
        assert result.exit_code == 0, result.stderr
        assert f"Made {stored}: a dataset of {SAMPLES} samples" in result.stdout
        assert f"Samples: {SAMPLES} of {SAMPLES}" in result.stderr
        assert f"Checking: {SAMPLES} of {SAMPLES}" in result.stderr
        assert tree(stored) == tree(made)
        result = run("virtualize", stored, again, "--workers", "1")
        assert result.exit_code == 0, result.stderr
        assert f"Made {again}: a virtual dataset of {SAMPLES} samples" in result.stdout
        assert f"fgbgpack preview '{again}'" in result.stdout
        assert tree(again) == tree(virtual)
        assert "nothing to do" in run("virtualize", stored, again).stdout

        result = run("materialize", again, "--json", "--quiet")
        assert result.stderr == ""
        told = json.loads(result.stdout)
        assert (told["samples"], told["written"], told["virtual"]) == (SAMPLES, SAMPLES, False)
        assert tree(again) == tree(made)
        silent = run("materialize", again, "--quiet")
        assert (silent.exit_code, silent.stdout, silent.stderr) == (0, "", "")

    def test_refused(self, virtual: Path, made: Path, tmp_path: Path, folders: tuple[str, ...]) -> None:
        assert run("materialize", virtual, virtual).exit_code == 2
        assert run("virtualize", virtual, tmp_path / "x.zarr").exit_code == 4
        assert run("virtualize", tmp_path / "nothing.zarr", tmp_path / "x.zarr").exit_code == 4
        wrong = run("materialize", virtual, tmp_path / "x.zarr", "--workers", "none")
        assert wrong.exit_code == 2
        assert problems(wrong) == ["--workers: 'none' is not a whole number"]
        assert not (tmp_path / "x.zarr").exists()
        other = run("create", made, *folders, *TINY, "--virtual")
        assert other.exit_code == 4
        assert "fgbgpack virtualize" in problems(other)[0]
        there = tmp_path / "there.zarr"
        assert run("create", there, *folders, *TINY, "--seed", 8, "--quiet").exit_code == 0
        assert run("virtualize", made, there).exit_code == 4
        assert run("virtualize", made, there, "--overwrite").exit_code == 0
        assert tree(there) == tree(virtual)


class TestProgress:
    def show(self, *events: Notice | Progress, interval: float = 0.0, quiet: bool = False) -> list[str]:
        file = io.StringIO()
        with ProgressDisplay(console=Console(file=file), interval=interval, quiet=quiet) as display:
            for event in events:
                display(event)
        return file.getvalue().splitlines()

    def test_lines_where_there_is_no_terminal(self) -> None:
        stages = [Progress("samples", done, 2000) for done in (500, 1000, 2000)]
        lines = self.show(Notice("[b]note[/b]"), *stages, Progress("depth", 0, 9))
        assert lines[0] == "[b]note[/b]"
        assert lines[1] == "Samples: 500 of 2,000"
        assert re.fullmatch(r"Samples: 1,000 of 2,000 \(50%\), [\d,]+/s, .* left", lines[2])
        assert re.fullmatch(r"Samples: 2,000 of 2,000 in .*, [\d,]+/s", lines[3])
        assert lines[4:] == ["Depth: 0 of 9"]

    def test_lines_are_few(self) -> None:
        stages = [Progress("samples", done, 500) for done in range(501)]
        assert len(self.show(*stages, interval=3600.0)) == 2

    def test_finished_stage_is_told_once(self) -> None:
        assert self.show(Progress("samples", 9, 9), Progress("samples", 9, 9)) == ["Samples: 9 of 9"]

    def test_quiet(self) -> None:
        assert self.show(Notice("note"), Progress("samples", 0, 9), quiet=True) == []

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
    @pytest.mark.parametrize("columns", [80, 120])
    def test_bars_on_a_terminal(self, tmp_path: Path, folders: tuple[str, ...], columns: int) -> None:
        shown, stdout, code = in_terminal(columns, "create", tmp_path / "x.zarr", *folders, *TINY)
        assert code == 0
        assert stdout.startswith("Created ")
        assert "\x1b" not in stdout
        last = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in shown.splitlines()]
        bars = [line for line in last if re.match(r"(Pictures|Samples) +━+ 100% .*/s", line)]
        assert len(bars) >= 2
        assert max(map(len, last)) <= columns


def in_terminal(columns: int, *arguments: object) -> tuple[str, str, int]:
    """Run a command with a terminal for its stderr; return what that showed, stdout, and the exit code."""
    import fcntl
    import pty
    import struct
    import termios

    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    process = start(*arguments, stderr=stderr, env=environment)
    os.close(stderr)
    shown = b""
    try:
        while part := os.read(terminal, 65536):
            shown += part
    except OSError:
        pass  # How Linux says that the other side was closed.
    os.close(terminal)
    stdout, _ = process.communicate()
    return shown.decode(), stdout, process.returncode


class TestPipesAndSignals:
    def test_reader_that_leaves_after_a_line(self) -> None:
        with start("schema", "dataset") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "{\n"
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 0

    @pytest.mark.parametrize("closed", ["stdout", "stderr"])
    def test_work_is_finished_though_nobody_reads(
        self, tmp_path: Path, folders: tuple[str, ...], closed: str
    ) -> None:
        out = tmp_path / "x.zarr"
        with start("create", out, *folders, *TINY) as process:
            getattr(process, closed).close()
            other = process.stderr if closed == "stdout" else process.stdout
            assert other is not None
            text = other.read()
        assert "Traceback" not in text
        assert "BrokenPipe" not in text
        assert process.returncode == 0
        assert open_dataset(out).complete

    @pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
    @pytest.mark.skipif(bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="too much work for plain Python")
    def test_stopped_runs_resume_with_the_same_command(
        self, tmp_path: Path, folders: tuple[str, ...]
    ) -> None:
        out = tmp_path / "x.zarr"
        # Several shards, and seconds of work for one thread.
        command = ("create", out, *folders, *TINY[:-1], "60000", "--workers", "1")
        for sent, code, word in (
            (signal.SIGINT, 130, "interrupted"),
            (signal.SIGTERM, 143, "terminated"),
        ):
            with start(*command) as process:
                wait_for_another_shard(out, process)
                process.send_signal(sent)
                stdout, stderr = process.communicate()
            assert process.returncode == code, stderr
            assert f"{word}: What is written is kept: run the same command again" in stderr
            assert "Traceback" not in stderr
            assert stdout == ""
            assert "NOT COMPLETE" in run("info", out).stdout
        result = run(*command[:-2], "--json")
        assert result.exit_code == 0, result.stderr
        report = json.loads(result.stdout)
        assert report["complete"] is True
        assert 0 < report["created"] < report["samples"]


def wait_for_another_shard(out: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a process has published one more shard of images than there were."""

    def shards() -> int:
        return len(list((out / "image/c").glob("*/0/0/0")))

    before = shards()
    while shards() == before:
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.01)


class TestSplit:
    @pytest.fixture
    def own(self, made: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(made, tmp_path / "own.zarr"))

    def test_a_split_is_saved_and_told(self, own: Path) -> None:
        result = run("split", own, "fair", "train=0.5", "test=.25", "--by", "sample", "--seed", "7")
        assert result.exit_code == 0, result.stderr
        saved = open_dataset(own)
        assert saved.splits == {
            "fair": {"by": "sample", "seed": 7, "parts": {"train": 0.5, "test": 0.25}},
        }
        parts = saved.split("fair")
        total, left = len(saved), len(saved) - sum(map(len, parts.values()))
        assert left > 0
        for name, count in (
            ("train", len(parts["train"])),
            ("test", len(parts["test"])),
            ("in no part", left),
        ):
            assert f"{name} {count:,} samples, {count / total:.1%}" in " ".join(result.stdout.split())
        assert "fair (by sample: train 0.5, test 0.25)" in run("info", own).stdout

    def test_it_is_told_as_json_and_takes_the_place_of_another_of_its_name(self, own: Path) -> None:
        assert run("split", own, "fair", "a=1").exit_code == 0
        told = json.loads(run("split", own, "fair", "b=0.5", "--json").stdout)
        counts = {"b": len(open_dataset(own).split("fair")["b"])}
        assert told == {
            "path": str(own),
            "name": "fair",
            "by": "background",
            "seed": 0,
            "parts": {"b": 0.5},
            "samples": counts,
        }
        assert list(open_dataset(own).splits) == ["fair"]
        assert json.loads(run("info", own, "--json").stdout)["splits"] == open_dataset(own).splits

    def test_all_that_is_wrong_is_said_at_once_and_nothing_is_saved(self, own: Path) -> None:
        result = run("split", own, "fair", "a=0.5", "a=0.1", "b", "=1", "c=-1", "d=1e3", "--seed", "x")
        assert result.exit_code == 2
        for said in ("'a=0.1': the part 'a' is named twice", "'b' is no part", "'=1' is no", "'c=-1' is no"):
            assert said in result.stderr
        assert "'d=1e3' is no part" in result.stderr
        assert "--seed: 'x' is not a whole number" in result.stderr
        for words, said in (
            (("a=0.8", "b=0.3"), "they add up to 1.1"),
            (("a=0",), "expected a fraction above 0"),
            (("a=1", "--by", "people"), "--by: 'people' is not one of background, foreground, both, sample"),
        ):
            result = run("split", own, "fair", *words)
            assert result.exit_code == 2
            assert said in " ".join(result.stderr.split())
        assert open_dataset(own).splits == {}

"""``fgbgpack create`` and ``depth``: options, config files, and what they make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import TINY, failure, rejected, run

from fgbgpack.dataset.dataset import open_dataset
from fgbgpack.spec import DatasetSpec

PICTURES = ("--backgrounds", "bg", "--foregrounds", "fg")
CREATE = ("create", "x.zarr", *PICTURES, *TINY)
SAMPLES = 3 * 2 * 2 * 2


def created(*arguments: object) -> dict[str, Any]:
    """The report of a command that succeeds."""
    result = run(*arguments, "--json", "--quiet")
    assert (result.exit_code, result.stderr) == (0, ""), result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def spec(path: str = "x.zarr") -> DatasetSpec:
    stored = open_dataset(path).document.spec
    assert stored is not None
    return stored


class TestOptions:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("option", "value", "problems"),
        [
            ("--seed", "abc", ["--seed"]),
            ("--seed", "1_000", ["--seed"]),
            ("--seed", "-1", ["--seed"]),
            ("--seed", str(2**64), ["--seed"]),
            ("--size", "0x0", ["--size (height)", "--size (width)"]),
            ("--size", "32x", ["--size"]),
            ("--size", "-32x24", ["--size"]),
            ("--size", "32x9000", ["--size (height)"]),
            ("--placements", "2.5", ["--placements"]),
            ("--placements", "٣", ["--placements"]),
            ("--foreground-height", "0", ["--foreground-height"]),
            ("--foreground-height", "25", ["--foreground-height"]),
            ("--placement", "outside", ["--placement"]),
            ("--foreground-height", "20-6", ["--foreground-height"]),
            ("--foreground-height", "10%-120%", ["--foreground-height"]),
            ("--objects", "3-1", ["--objects"]),
            ("--objects", "17", ["--objects"]),
            ("--objects", "some", ["--objects"]),
            ("--samples", "0", ["--samples"]),
            ("--empty", "1.5", ["--empty"]),
            ("--overlap", "half", ["--overlap"]),
            ("--rotation", "right", ["--rotation"]),
            ("--blend", "sharp", ["--blend"]),
            ("--preset", "portraits", ["--preset"]),
            ("--workers", "many", ["--workers"]),
            ("--depth-scale", "2", ["--depth-scale"]),
            ("--depth-model", "", ["--depth-model"]),
        ],
    )
    def test_a_bad_value_is_reported_by_its_option(
        self, workspace: Path, option: str, value: str, problems: list[str]
    ) -> None:
        assert rejected(*CREATE, option, value, "--dry-run") == problems

    @pytest.mark.slow
    @pytest.mark.parametrize(("option", "value"), [("--size", "32"), ("--seed", str(2**64 - 1))])
    def test_good_values(self, workspace: Path, option: str, value: str) -> None:
        created(*CREATE, option, value)
        assert value in (str(spec().width), str(spec().seed))

    def test_a_bad_size_causes_no_other_problem(self, workspace: Path) -> None:
        wrong = ("--size", "big", "--foreground-height", 900)
        assert rejected("create", "x.zarr", *PICTURES, *wrong) == ["--size"]


class TestConfig:
    @pytest.mark.slow
    def test_options_override_the_file(self, workspace: Path) -> None:
        path = Path("small.json")
        path.write_text(json.dumps({"backgrounds": "bg", "foregrounds": "fg", "height": 24, "depth": None}))
        for config in (path, "tiny.toml"):
            given = ("--placements", 4, "--size", "30x20", "--foreground-height", 9, "--overwrite")
            assert created("create", "x.zarr", "--config", config, *given)["samples"] == 3 * 2 * 4 * 2
            made = spec()
            assert (made.width, made.height, made.placements, made.foreground_height) == (30, 20, 4, 9)

    def test_the_file_holds_where_no_option_is_given(self, workspace: Path) -> None:
        created("create", "x.zarr", "--config", "tiny.toml", "--seed", 3, "--no-flip")
        assert (spec().width, spec().placements, spec().seed, spec().flip) == (32, 2, 3, False)

    def test_options_of_depth_override_those_of_the_file(self, workspace: Path) -> None:
        with Path("tiny.toml").open("a") as file:
            file.write('mode = "per-sample"\nscale = 4\nbits = 7\n')
        given = ("--depth-model", "gray.onnx", "--depth-scale", 2, "--device", "cpu")
        created("create", "x.zarr", "--config", "tiny.toml", *given)
        depth = spec().depth
        assert depth is not None
        assert (depth.model, depth.mode, depth.scale, depth.bits) == ("gray.onnx", "per-sample", 2, 7)

    @pytest.mark.slow
    def test_no_depth_overrides_the_file_and_is_overridden(self, workspace: Path) -> None:
        command = ("create", "x.zarr", "--config", "tiny.toml")
        assert rejected(*command, "--depth-scale", "2") == ["--depth-scale"]
        assert failure(*command, "--depth-model", "nowhere.onnx")[0] == 5
        Path("tiny.toml").write_text(Path("tiny.toml").read_text().replace('"none"', '"nowhere.onnx"'))
        assert failure(*command)[0] == 5
        assert not Path("x.zarr").exists()
        created(*command, "--depth-model", "none")
        assert not open_dataset("x.zarr").has_depth


class TestCreate:
    def test_the_report(self, workspace: Path) -> None:
        report = created(*CREATE)
        assert report["samples"] == report["created"] == SAMPLES
        assert report["complete"] is True
        assert report["stored_bytes"]["image"] > 0
        assert created(*CREATE)["created"] == 0

    def test_a_dry_run_writes_nothing(self, workspace: Path) -> None:
        assert created(*CREATE, "--dry-run")["samples"] == SAMPLES
        assert created(*CREATE, "--dry-run", "--virtual")["bytes"].keys() == {"recipe"}
        assert not Path("x.zarr").exists()

    @pytest.mark.slow
    def test_another_recipe_is_refused_unless_it_overwrites(self, workspace: Path) -> None:
        created(*CREATE)
        assert failure(*CREATE, "--no-flip") == (4, "dataset-differs")
        assert len(open_dataset("x.zarr")) == SAMPLES
        created(*CREATE, "--no-flip", "--overwrite")
        assert len(open_dataset("x.zarr")) == SAMPLES / 2

    def test_cards_are_written_with_it(self, workspace: Path) -> None:
        created(*CREATE, "--cards")
        assert Path("x.zarr/croissant.json").is_file()
        assert Path("x.zarr/DATACARD.md").is_file()


class TestScenes:
    def test_a_preset_is_overridden_by_the_file_and_the_options(self, workspace: Path) -> None:
        Path("tiny.toml").write_text(
            'backgrounds = "bg"\nforegrounds = "fg"\nwidth = 32\nheight = 24\nobjects = 2\nblend = "soft"\n'
        )
        report = created(
            "create", "x.zarr", "--config", "tiny.toml", "--preset", "scenes", "--samples", "12",
            "--blend", "hard", "--depth-model", "none",
        )  # fmt: skip
        made = spec()
        assert (report["samples"], report["objects"]) == (12, 2)
        assert (made.objects, made.blend, made.placement, made.overlap) == (2, "hard", "anchored", 0.3)

    def test_options_of_scenes_are_those_of_the_spec(self, workspace: Path) -> None:
        options = ["--samples", 9, "--objects", "1-2", "--empty", 0.25, "--foreground-height", "5-9"]
        options += [
            "--truncate",
            0.5,
            "--overlap",
            0.1,
            "--rotation",
            7.5,
            "--blend",
            "soft,hard",
            "--light-match",
            "--shadow",
            "--no-occlude",
        ]
        created(*CREATE, *options)
        made = spec()
        found = made.samples, made.objects, made.empty, made.foreground_height, made.truncate, made.overlap
        assert found == (9, "1-2", 0.25, "5-9", 0.5, 0.1)
        assert (made.rotation, made.blend, made.light_match, made.shadow) == (7.5, "soft,hard", True, True)
        assert not made.occlude


class TestDepth:
    @pytest.mark.slow
    def test_it_fills_and_replaces(self, workspace: Path) -> None:
        fill = ("depth", "tiny.zarr", "--depth-model", "gray.onnx", "--depth-scale", "1", "--device", "cpu")
        assert created(*fill)["depth_filled"] == SAMPLES
        assert created(*fill)["depth_filled"] == 0
        info = json.loads(run("info", "tiny.zarr", "--json").stdout)
        assert (info["depth"]["model"], info["depth"]["quantity"]) == ("gray", "inverse_depth")
        assert info["arrays"]["depth"]["filled"] == SAMPLES
        assert failure(*fill, "--depth-bits", "6") == (4, "dataset-differs")
        assert created(*fill, "--depth-bits", "6", "--overwrite")["depth_filled"] == SAMPLES

    @pytest.mark.slow
    def test_it_is_in_layers_unless_another_mode_is_given(self, workspace: Path) -> None:
        command = ("create", "x.zarr", *PICTURES, *TINY[2:], "--depth-scale", "4", "--device", "cpu")
        report = created(*command)
        networks = ("layered", "fgbgpack-scene", None)
        assert (report["depth_mode"], report["depth_model"], report["depth_guide"]) == networks
        depth = json.loads(run("info", "x.zarr", "--json").stdout)["depth"]
        assert (depth["mode"], depth["model"], depth["guide"]) == networks
        guided = ("depth", "x.zarr", "--depth-mode", "guided", "--depth-scale", "4", "--device", "cpu")
        assert created(*guided, "--overwrite")["depth_guide"] == "fgbgpack-guided"
        other = ("depth", "x.zarr", "--depth-mode", "per-sample", "--depth-scale", "1", "--device", "cpu")
        assert failure(*other) == (4, "dataset-differs")
        assert created(*other, "--overwrite")["depth_guide"] is None

"""Commands on a dataset: info, preview, split, convert, materialize, virtualize; and schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import tree
from command_line import failure, rejected, run
from PIL import Image

from fgbgpack.dataset.dataset import open_dataset

SAMPLES = 24


def result_of(*arguments: object) -> dict[str, Any]:
    """The result of a command that succeeds, and prints nothing else."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


class TestInfo:
    def test_sizes_are_those_on_disk(self, workspace: Path) -> None:
        info = result_of("info", "tiny.zarr")
        assert (info["samples"], info["width"], info["height"]) == (SAMPLES, 32, 24)
        assert (info["backgrounds"], info["foregrounds"], info["complete"]) == (3, 2, True)
        image, depth = info["arrays"]["image"], info["arrays"]["depth"]
        assert (image["filled"], image["raw"]) == (SAMPLES, SAMPLES * 24 * 32 * 3)
        assert image["ratio"] == pytest.approx(image["raw"] / image["stored"])
        assert image["bytes_per_sample"] == pytest.approx(image["stored"] / SAMPLES)
        on_disk = {p: p.stat().st_size for p in Path("tiny.zarr").rglob("*") if p.is_file()}
        assert image["stored"] == sum(
            size for p, size in on_disk.items() if p.is_relative_to("tiny.zarr/image")
        )
        assert info["bytes"] == sum(on_disk.values())
        assert (depth["filled"], depth["ratio"], info["depth"]) == (0, None, None)
        assert [source["name"] for source in info["sources"]["backgrounds"]] == ["0.png", "1.png", "2.png"]

    @pytest.mark.slow
    def test_an_incomplete_dataset(self, workspace: Path) -> None:
        root = Path("tiny.zarr/zarr.json")
        node = json.loads(root.read_text())
        node["attributes"]["fgbgpack"]["complete"] = False
        node["attributes"]["fgbgpack"]["pixels"]["complete"] = False
        root.write_text(json.dumps(node))
        Path("tiny.zarr/image/c/0/0/0/0").unlink()
        info = result_of("info", "tiny.zarr")
        assert info["complete"] is False
        assert [info["arrays"][name]["filled"] for name in ("image", "mask")] == [0, SAMPLES]
        drawn = run("preview", "tiny.zarr", "-o", "x.png")
        assert drawn.exit_code == 0
        assert drawn.stderr.startswith("warning: tiny.zarr is not complete")
        depth = ("depth", "tiny.zarr", "--depth-model", "gray.onnx", "--depth-scale", "1")
        assert failure(*depth) == (4, "dataset-incomplete")


@pytest.mark.slow
def test_preview_draws_a_png(workspace: Path) -> None:
    for dataset in ("tiny.zarr", "virtual.zarr"):
        assert run("preview", dataset, "-o", "pre view.png", "--samples", "0, 5,23").exit_code == 0
        with Image.open("pre view.png") as image:
            assert image.format == "PNG"


@pytest.mark.slow
def test_schemas_are_printed_whole() -> None:
    for name in ("cutout-model", "dataset", "spec", "depth-model", "export"):
        printed = run("schema", name)
        assert json.loads(printed.stdout)["$id"] == f"urn:fgbgpack:schema:{name}:1.0"
        assert run("schema", f"{name}/1.0").stdout == printed.stdout


class TestVirtual:
    @pytest.mark.slow
    def test_there_and_back(self, workspace: Path) -> None:
        assert result_of("materialize", "virtual.zarr", "stored.zarr")["written"] == SAMPLES
        assert tree(Path("stored.zarr")) == tree(Path("tiny.zarr"))
        assert result_of("virtualize", "stored.zarr", "a gain.zarr", "--workers", "1")["checked"] == SAMPLES
        assert tree(Path("a gain.zarr")) == tree(Path("virtual.zarr"))
        assert result_of("virtualize", "stored.zarr", "a gain.zarr")["checked"] == 0
        assert result_of("materialize", "a gain.zarr")["virtual"] is False
        assert tree(Path("a gain.zarr")) == tree(Path("tiny.zarr"))

    def test_quiet(self, workspace: Path) -> None:
        result = run("materialize", "virtual.zarr", "--quiet")
        assert (result.exit_code, result.output) == (0, "")

    def test_refused(self, workspace: Path) -> None:
        assert failure("materialize", "virtual.zarr", "virtual.zarr")[0] == 2
        assert failure("virtualize", "virtual.zarr", "x.zarr")[0] == 4
        assert rejected("materialize", "virtual.zarr", "x.zarr", "--workers", "none") == ["--workers"]
        assert not Path("x.zarr").exists()

    def test_another_dataset_is_replaced_only_when_told(self, workspace: Path) -> None:
        assert failure("virtualize", "tiny.zarr", "deep.zarr") == (4, "dataset-differs")
        assert run("virtualize", "tiny.zarr", "deep.zarr", "--overwrite").exit_code == 0
        assert tree(Path("deep.zarr")) == tree(Path("virtual.zarr"))


class TestSplit:
    def test_it_is_saved_and_reported(self, workspace: Path) -> None:
        told = result_of(
            "split", "tiny.zarr", "fair", "train=0.5", "test=.25", "--by", "sample", "--seed", "7"
        )
        saved = open_dataset("tiny.zarr")
        how = {"by": "sample", "seed": 7, "parts": {"train": 0.5, "test": 0.25}}
        assert saved.splits == {"fair": how}
        counts = {part: len(samples) for part, samples in saved.split("fair").items()}
        assert told == {"path": "tiny.zarr", "name": "fair", **how, "samples": counts}
        assert sum(counts.values()) < len(saved)
        assert result_of("info", "tiny.zarr")["splits"] == saved.splits

    def test_it_says_that_cards_are_of_an_earlier_state(self, workspace: Path) -> None:
        assert run("split", "tiny.zarr", "one", "a=1").stderr == ""
        result_of("card", "tiny.zarr")
        assert "fgbgpack card tiny.zarr" in run("split", "tiny.zarr", "two", "a=1").stderr
        assert run("split", "tiny.zarr", "three", "a=1", "--quiet").stderr == ""
        result_of("card", "tiny.zarr")
        assert "three" in Path("tiny.zarr/DATACARD.md").read_text(encoding="utf-8")

    def test_it_replaces_another_of_its_name(self, workspace: Path) -> None:
        result_of("split", "deep.zarr", "fair", "b=0.5")
        assert open_dataset("deep.zarr").splits == {
            "fair": {"by": "background", "seed": 0, "parts": {"b": 0.5}}
        }

    @pytest.mark.parametrize("words", [("a=0.5", "a=0.1"), ("a=0.8", "b=0.3"), ("a=1", "--by", "people")])
    def test_nothing_is_saved_if_anything_is_wrong(self, workspace: Path, words: tuple[str, ...]) -> None:
        assert failure("split", "tiny.zarr", "fair", *words)[0] == 2
        assert open_dataset("tiny.zarr").splits == {}


class TestPreviewOfSomeSamples:
    def picture(self, *options: str) -> bytes:
        result = run("preview", "tiny.zarr", "-o", "it.png", *options)
        assert result.exit_code == 0, result.stderr
        return Path("it.png").read_bytes()

    def test_ranges_and_conditions(self, workspace: Path) -> None:
        dataset = open_dataset("tiny.zarr")
        found = dataset.where(background=1, flip=True).tolist()
        listed = self.picture("--samples", ",".join(map(str, found[:3])))
        assert self.picture("--samples", f"{len(dataset) - 3}:") != listed
        conditions = ("--where", "background=1", "--where", "flip=yes")
        assert self.picture("--samples", f"{found[0]}:{found[2] + 1}", *conditions) == listed
        drawn = self.picture(*conditions, "--rows", "2")
        assert drawn == self.picture(*conditions, "--rows", "2")
        assert drawn != self.picture(*conditions, "--rows", "2", "--seed", "3")

    def test_wrong_ones_are_told_together(self, workspace: Path) -> None:
        words = ("--samples", "a:b", "--where", "flip=perhaps", "--where", "colour=red", "--cell", "x")
        assert rejected("preview", "tiny.zarr", "-o", "it.png", *words) == [
            "--samples", "--where", "--where", "--cell",
        ]  # fmt: skip


class TestSplitByField:
    def test_it_keeps_what_names_say_together(self, workspace: Path) -> None:
        options = ("--images", "images/{bg}.png", "--masks", "masks/{bg}.png", "--depths", "none")
        assert run("import", "files", "fields.zarr", *options).exit_code == 0
        split = ("split", "fields.zarr", "fair", "train=0.5", "test=0.5")
        result = result_of(*split, "--by-field", "bg")
        assert result["by"] == "field:bg"
        assert result["samples"] == {"train": 2, "test": 2}
        assert failure(*split, "--by-field", "fg") == (2, "split-invalid")
        assert rejected(*split, "--by-field", "bg", "--by", "sample") == ["--by-field"]

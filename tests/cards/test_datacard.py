"""DATACARD.md, as people and the Hugging Face Hub read it, and other readers of a dataset with cards."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import xarray
import yaml
import zarr
from card_helpers import ABOUT, KINDS, document
from PIL import Image
from sealing import is_manifest
from typer.testing import CliRunner

from fgbgpack import create, open_dataset
from fgbgpack.cards import About, cards_are_stale, sentences, write_cards
from fgbgpack.cards.datacard import datacard
from fgbgpack.cards.summary import summarize
from fgbgpack.cli import app
from fgbgpack.pipeline import verify
from fgbgpack.visual.info import describe

SPDX = "https://spdx.org/licenses"


def front_matter(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8").split("---\n")[1])


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


class TestDataCard:
    @pytest.mark.parametrize("kind", KINDS)
    def test_its_python_runs(self, kinds, cards, kind, monkeypatch):
        card = cards[kind].datacard
        monkeypatch.chdir(card.parent if kind == "hdf5" else card.parents[1])
        text = card.read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert len(blocks) == (4 if kind in ("guided", "hdf5") else 3)
        dataset = open_dataset(kinds[kind])
        known: dict = {}
        for block in blocks:
            exec(compile(block, str(card), "exec"), known)
        assert np.array_equal(known["images"], dataset.image[0:8])
        assert np.array_equal(known["masks"], dataset.mask[0:8])
        if kind == "guided":
            assert known["samples"].tolist() == dataset.split("fair")["train"].tolist()
            assert known["frame"].sizes["sample"] == len(dataset)

    @pytest.mark.parametrize("kind", ["plain", "virtual"])
    def test_its_command_makes_the_same_pixels(self, kinds, cards, kind, tmp_path, pictures, monkeypatch):
        text = cards[kind].datacard.read_text(encoding="utf-8")
        (command,) = re.findall(r"^```sh\n(.*)\n```$", text, re.MULTILINE)
        for folder in (pictures.backgrounds, pictures.foregrounds):
            (tmp_path / folder.name).symlink_to(folder)
        monkeypatch.chdir(tmp_path)
        result = cli(*shlex.split(command)[1:], "--quiet")
        assert result.exit_code == 0, result.output
        again, before = open_dataset(tmp_path / kinds[kind].name), open_dataset(kinds[kind])
        assert again.document.recipe == before.document.recipe
        assert again.pixels == before.pixels

    def test_its_command_has_every_option_that_is_not_as_by_default(self, tmp_path, pictures, monkeypatch):
        spec = pictures.spec(
            mask_threshold=200, invert_masks=False, exif="ignore", strict=False, vary_copies=True, overlap=0.2
        )
        create(tmp_path / "odd.zarr", spec)
        text = write_cards(tmp_path / "odd.zarr").datacard.read_text(encoding="utf-8")
        (command,) = re.findall(r"^```sh\n(.*)\n```$", text, re.MULTILINE)
        for folder in (pictures.backgrounds, pictures.foregrounds):
            (tmp_path / folder.name).symlink_to(folder)
        before = open_dataset(tmp_path / "odd.zarr").document.recipe
        (tmp_path / "odd.zarr").rename(tmp_path / "first.zarr")
        monkeypatch.chdir(tmp_path)
        result = cli(*shlex.split(command)[1:], "--quiet")
        assert result.exit_code == 0, result.output
        again = open_dataset(tmp_path / "odd.zarr").document
        assert again.recipe == before
        assert {again.spec.exif, again.spec.strict, again.spec.mask_threshold} == {"ignore", False, 200}

    def test_its_limits_say_where_foregrounds_stand(self, dataset):
        summary = summarize(open_dataset(dataset))
        spec = replace(summary.document.spec, placement="auto", foreground_height="20%-86%")
        standing = replace(summary, document=replace(summary.document, spec=spec))
        told = [" ".join(sentences.limits(one)) for one in (summary, standing)]
        assert ["floor" in text for text in told] == [False, True]

    def test_the_command_fills_depth_as_it_was(self, published):
        text = (published / "DATACARD.md").read_text(encoding="utf-8")
        (command,) = re.findall(r"^```sh\n(.*)\n```$", text, re.MULTILINE)
        assert "--depth-model tiny.onnx" in command
        assert "--depth-guide guide.onnx" in command
        assert "--depth-scale 2" in command

    def test_its_front_matter_is_what_the_hub_reads(self, published):
        matter = front_matter(published / "DATACARD.md")
        assert matter["license"] == "cc-by-nc-4.0"
        assert matter["pretty_name"] == ABOUT.name
        assert matter["task_categories"] == ["image-segmentation", "depth-estimation"]
        assert matter["size_categories"] == ["n<1K"]
        assert "synthetic" in matter["tags"]
        # It shows no arrays.
        assert matter["viewer"] is False

    @pytest.mark.parametrize(
        ("licence", "expected"),
        [
            (None, {"license": "unknown"}),
            ("MIT", {"license": "mit"}),
            ("https://creativecommons.org/licenses/by/4.0/", {"license": "cc-by-4.0"}),
            ("PDDL-1.0", {"license": "pddl"}),
            ("ODbL-1.0", {"license": "odbl"}),
            ("0BSD", {"license": "other", "license_name": "0bsd", "license_link": f"{SPDX}/0BSD"}),
            ("Ask: us", {"license": "other", "license_name": "ask-us"}),
            ("Ünïcode", {"license": "other", "license_name": "n-code"}),
            ("独自", {"license": "other", "license_name": "custom"}),
            (
                "https://example.org/terms",
                {
                    "license": "other",
                    "license_name": "example.org-terms",
                    "license_link": "https://example.org/terms",
                },
            ),
        ],
    )
    def test_licences_as_the_hub_knows_them(self, kinds, tmp_path, licence, expected):
        written = write_cards(kinds["plain"], About(license=licence), folder=tmp_path)
        matter = front_matter(written.datacard)
        assert {key: value for key, value in matter.items() if key.startswith("license")} == expected

    @pytest.mark.parametrize(
        "name",
        [
            "no",
            "NULL",
            "On",
            "y",
            "1e5",
            "a: b",
            "- a",
            "\"q'",
            "line\nline",
            "# a",
            "😀 ü",
            "\x85\u2028\x7f\t|",
            "---",
        ],
    )
    def test_any_name_is_a_text_in_the_front_matter(self, kinds, tmp_path, name):
        written = write_cards(kinds["plain"], About(name=name, license=f"{name} licence"), folder=tmp_path)
        matter = front_matter(written.datacard)
        assert matter["pretty_name"] == name
        assert re.fullmatch(r"[a-z0-9.-]+", matter["license_name"])

    @pytest.mark.parametrize(
        ("samples", "expected"),
        [
            (999, "n<1K"), (1000, "1K<n<10K"), (400_000, "100K<n<1M"), (10**9, "1B<n<10B"),
            (2**31 - 1, "1B<n<10B"),
        ],
    )  # fmt: skip
    def test_sizes_as_the_hub_knows_them(self, kinds, samples, expected):
        summary = summarize(open_dataset(kinds["plain"]))
        recipe = replace(summary.document.recipe, samples=samples)
        larger = replace(summary, document=replace(summary.document, recipe=recipe))
        text = datacard(larger, About(), croissant="croissant.json")
        assert yaml.safe_load(text.split("---\n")[1])["size_categories"] == [expected]

    def test_the_hub_takes_it_for_its_readme(self, published, tmp_path):
        """A copy of a dataset with what a download from the Hub adds to it is the same dataset."""
        copied = tmp_path / "lobby.zarr"
        shutil.copytree(published, copied)
        shutil.copy(copied / "DATACARD.md", copied / "README.md")
        (copied / ".gitattributes").write_text("*.zip filter=lfs\n")
        (copied / ".cache" / "huggingface").mkdir(parents=True)
        (copied / ".cache" / "huggingface" / ".gitignore").write_text("*")
        # The expression by which the Hub finds it.
        found = re.search(
            r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))", (copied / "README.md").read_text()
        )
        assert found is not None
        assert yaml.safe_load(found[2]) == front_matter(published / "DATACARD.md")
        assert verify(copied).sound
        assert not cards_are_stale(copied)
        assert np.array_equal(open_dataset(copied).image[:], open_dataset(published).image[:])

    def test_it_lists_numbers_and_arrays(self, published):
        text = (published / "DATACARD.md").read_text(encoding="utf-8")
        group = zarr.open_group(published, mode="r")
        assert "36, each 33x21 pixels" in text
        assert "3 backgrounds x 2 foregrounds, each pair 3 times and 3 times mirrored" in text
        listed = dict(re.findall(r"^\| `([\w/]+)` \| \w+ \| \(([\d, ]+)\) \|", text, re.MULTILINE))
        for name, shape in listed.items():
            assert tuple(int(n) for n in shape.split(",") if n.strip()) == group[name].shape
        arrays = {name for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
        assert listed.keys() == {name for name in arrays if not is_manifest(name)}

    def test_it_lists_licences(self, published):
        text = (published / "DATACARD.md").read_text(encoding="utf-8")
        assert "No licence is stated for 3 of the 5 pictures" in text
        assert "1 picture is not for commercial use: CC-BY-NC-4.0." in text
        assert "| **none stated** | 1 | 2 |" in text
        assert r"Ada \| Lovelace" in text
        assert "<https://example.org/b0>" in text

    def test_every_table_is_whole(self, published):
        text = (published / "DATACARD.md").read_text(encoding="utf-8")
        tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
        assert len(tables) == 6
        for table in tables:
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(cells) == 1, table

    def test_no_statement_can_break_it(self, published):
        text = (published / "DATACARD.md").read_text(encoding="utf-8")
        assert r"# Lobby: people in \*halls\*" in text
        assert "````\n@misc{lobby, title={Lobby --> ``` }}\n````" in text
        assert text.count("-->") == 2  # of the citation, and of the end of the last line

    def test_its_picture_is_there(self, published):
        assert "](preview.png)" in (published / "DATACARD.md").read_text(encoding="utf-8")
        with Image.open(published / "preview.png") as picture:
            assert picture.size > (100, 100)

    def test_an_imported_dataset_says_so_and_guesses_nothing(self, cards):
        written = cards["imported"]
        text = written.datacard.read_text(encoding="utf-8")
        assert "imported from files" in text
        assert "what made it is not recorded" in text
        assert "Whether depth grows or falls with distance, and its unit, are not known." in text
        assert "composite" not in text.split("## Limits")[1]
        assert "fgbgpack create" not in text
        assert [rs["name"] for rs in document(written.croissant)["recordSet"]] == ["samples"]
        assert written.findings == ()

    def test_many_pictures_are_cut_short(self, kinds, tmp_path, monkeypatch):
        monkeypatch.setattr("fgbgpack.cards.datacard._MAX_PICTURES", 2)
        text = write_cards(kinds["plain"], folder=tmp_path).datacard.read_text(encoding="utf-8")
        assert "... and 3 more, all of which are in `croissant.json`." in text
        assert "`b1.png`" in text
        assert "`b2.png`" not in text


class TestOtherReaders:
    def test_nothing_warns_of_the_cards(self, published):
        # Every warning is an error here.
        group = zarr.open_group(published, mode="r")
        found = dict(group.members(max_depth=None))
        assert {"image", "sources", "sources/background_depth"} < found.keys()
        assert not {"croissant.json", "DATACARD.md", "preview.png"} & found.keys()
        assert dict(group["sources"].members())
        assert xarray.open_zarr(published).sizes["sample"] == 36
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(published / "mask")}}
        assert tensorstore.open(spec, open=True).result().shape == (36, 21, 33)

    def test_the_dataset_is_as_large_as_without_them(self, made, published):
        before, after = (describe(open_dataset(path)) for path in (made, published))
        assert {**after, "path": ""} == {**before, "path": ""}
        assert open_dataset(published).stored_bytes().keys() == open_dataset(made).stored_bytes().keys()

"""The cards of a dataset: croissant.json as mlcroissant reads it, DATACARD.md as people and the Hub do."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import mlcroissant
import numpy as np
import pandas
import pytest
import tensorstore
import xarray
import yaml
import zarr
from builders import Pictures, depth_of, tree
from PIL import Image
from typer.testing import CliRunner

from fgbgpack import create, open_dataset
from fgbgpack.cards import About, cards_are_stale, write_cards
from fgbgpack.cards.licences import Terms, findings, group_by_licence, terms_of
from fgbgpack.cli import app
from fgbgpack.document import SourceInfo, SourcesInfo
from fgbgpack.errors import DatasetError, IncompleteDatasetError, SpecError
from fgbgpack.pipeline import ImportSpec, convert, import_folder
from fgbgpack.visual.info import describe

CREDITS = """file,license,author,url
b0.png,CC BY-NC 4.0,"Ada | Lovelace",https://example.org/b0
b1.png,CC0-1.0,,
"""
ABOUT = About(
    name="Lobby: people in *halls*",
    description="People in halls.",
    license="CC-BY-NC-4.0",
    creators=("Ada Lovelace",),
    organizations=("Example",),
    url="https://example.org/lobby",
    version="1.2.0",
    published="2024-05-31",
    citation="@misc{lobby, title={Lobby --> ``` }}",
)


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def copy(path: Path, folder: Path) -> Path:
    if path.is_dir():
        return Path(shutil.copytree(path, folder / path.name))
    return Path(shutil.copy(path, folder / path.name))


@pytest.fixture(scope="module")
def made(tmp_path_factory, depth_model, guide_model) -> Path:
    """A dataset with guided depth, credits of two of its five pictures, and a split."""
    root = tmp_path_factory.mktemp("made")
    pictures = Pictures(root / "pictures")
    (pictures.backgrounds / "sources.csv").write_text(CREDITS, encoding="utf-8")
    path = root / "lobby.zarr"
    create(path, pictures.spec(depth=depth_of(depth_model, guide=str(guide_model), scale=2)))
    open_dataset(path).save_split("fair", {"train": 0.6, "rest": 0.4}, by="foreground", seed=2**64 - 1)
    return path


@pytest.fixture(scope="module")
def kinds(tmp_path_factory, made, dataset, pictures) -> dict[str, Path]:
    """Datasets of every kind."""
    root = tmp_path_factory.mktemp("kinds")
    folder = root / "found"
    rng = np.random.default_rng(0)
    for i in range(5):
        for kind, shape in (("images", (8, 12, 3)), ("masks", (8, 12)), ("depths", (8, 12))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / kind / f"{i}.png")
    spec = ImportSpec(str(folder), images="images/{n}.png", masks="masks/{n}.png", depths="depths/{n}.png")
    import_folder(root / "imported.zarr", spec)
    create(root / "virtual.zarr", pictures.spec(), virtual=True)
    convert(made, root / "lobby.h5")
    return {
        "guided": made,
        "plain": dataset,
        "virtual": root / "virtual.zarr",
        "imported": root / "imported.zarr",
        "hdf5": root / "lobby.h5",
    }


KINDS = ("guided", "plain", "virtual", "imported", "hdf5")


@pytest.fixture
def lobby(made, tmp_path) -> Path:
    """A copy of the dataset, to be changed."""
    return copy(made, tmp_path)


@pytest.fixture(scope="module")
def published(made, tmp_path_factory) -> Path:
    """A copy of the dataset with cards that say all that can be said, not to be changed."""
    path = copy(made, tmp_path_factory.mktemp("published"))
    write_cards(path, ABOUT, preview=True)
    return path


def load(path: Path) -> mlcroissant.Dataset:
    with warnings.catch_warnings():
        # What it parses JSON-LD with complains of itself.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="rdflib")
        return mlcroissant.Dataset(str(path))


def document(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def front_matter(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8").split("---\n")[1])


class TestCroissant:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_valid(self, kinds, kind, tmp_path):
        written = write_cards(copy(kinds[kind], tmp_path), ABOUT)
        issues = load(written.croissant).metadata.issues
        assert issues.errors == set()
        assert issues.warnings == set()

    def test_unstated_facts_are_those_that_mlcroissant_misses(self, lobby):
        written = write_cards(lobby)
        warnings = load(written.croissant).metadata.issues.warnings
        missed = {re.search(r"(\w+)\" is recommended", warning)[1] for warning in warnings}
        assert missed == {"citeAs", "datePublished", "license", "version"}
        assert set(written.unsaid) == {"license", "creator", "url", "version", "published", "citation"}
        assert write_cards(lobby, ABOUT).unsaid == ()

    def test_its_own_command_finds_it_valid(self, published, tmp_path):
        def validate(path):
            command = [Path(sys.executable).with_name("mlcroissant"), "validate", "--jsonld", str(path)]
            return subprocess.run(command, capture_output=True, text=True, check=False)

        good = validate(published / "croissant.json")
        assert good.returncode == 0, good.stderr
        assert "warning" not in good.stderr
        broken = document(published / "croissant.json")
        del broken["distribution"][0]["sha256"]
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        assert validate(tmp_path / "broken.json").returncode == 1

    def test_it_has_the_stated_facts(self, published):
        metadata = load(published / "croissant.json").metadata
        assert metadata.name == ABOUT.name
        assert metadata.description == ABOUT.description
        assert metadata.license == ["https://spdx.org/licenses/CC-BY-NC-4.0"]
        assert [creator.name for creator in metadata.creators] == ["Ada Lovelace", "Example"]
        assert metadata.url == ABOUT.url
        assert metadata.version == "1.2.0"
        assert metadata.date_published.isoformat() == "2024-05-31T00:00:00"
        assert metadata.cite_as == ABOUT.citation
        assert metadata.conforms_to[0] == "http://mlcommons.org/croissant/1.1"

    def test_it_states_the_limits_of_composites_and_of_depth(self, published):
        metadata = load(published / "croissant.json").metadata
        limits = " ".join(metadata.data_limitations)
        assert "no shadow" in limits
        assert "was not measured" in limits
        assert "2 of the 5 pictures" not in metadata.data_collection_raw_data
        assert "No licence is stated for 3 of the 5 pictures" in metadata.data_collection_raw_data
        assert any(tool.startswith("tiny") for tool in metadata.machine_annotation_tools)

    def test_its_sources_can_be_iterated(self, published):
        dataset = open_dataset(published)
        records = list(load(published / "croissant.json").records("sources"))
        sources = dataset.document.sources
        expected = [
            (kind, index, asdict(source))
            for kind, pictures in (("background", sources.backgrounds), ("foreground", sources.foregrounds))
            for index, source in enumerate(pictures)
        ]
        assert len(records) == len(expected) == 5
        for record, (kind, index, source) in zip(records, expected, strict=True):
            found = {
                key.removeprefix("sources/"): value for key, value in record.items() if not pandas.isna(value)
            }
            assert (found.pop("kind"), found.pop("index")) == (kind, index)
            assert found.pop("file") == source.pop("name")
            assert found == {key: value for key, value in source.items() if value is not None}

    def test_its_splits_can_be_iterated(self, published):
        parts = open_dataset(published).split("fair")
        records = {r["splits/part"]: r for r in load(published / "croissant.json").records("splits")}
        assert {part: r["splits/samples"] for part, r in records.items()} == {
            part: len(samples) for part, samples in parts.items()
        }
        assert records["train"]["splits/url"] == "cr:TrainingSplit"
        assert pandas.isna(records["rest"]["splits/url"])
        assert records["rest"]["splits/seed"] == 2**64 - 1

    def test_every_array_of_samples_has_its_field(self, published):
        fields = {
            field.name: field for field in load(published / "croissant.json").metadata.record_sets[0].fields
        }
        arrays = dict(zarr.open_group(published, mode="r").arrays())
        assert fields.keys() == arrays.keys()
        for name, array in arrays.items():
            kind = fields[name].data_type
            assert np.dtype(kind) == array.dtype
            assert (fields[name].array_shape_tuple or ()) == array.shape[1:]

    def test_it_names_every_file_once(self, published):
        described = document(published / "croissant.json")["distribution"]
        patterns = [pattern for entry in described for pattern in entry.get("includes", [])]
        patterns += [entry["contentUrl"] for entry in described if "contentUrl" in entry]
        cards = {"croissant.json", "DATACARD.md", "preview.png"}
        for file in tree(published).keys() - cards:
            assert sum(fnmatch.fnmatch(file, pattern) for pattern in patterns) == 1, file
        for file in cards:
            assert not any(fnmatch.fnmatch(file, pattern) for pattern in patterns)

    @pytest.mark.parametrize("kind", ["guided", "hdf5"])
    def test_the_digest_is_that_of_the_file(self, kinds, kind, tmp_path):
        written = write_cards(copy(kinds[kind], tmp_path))
        entry = document(written.croissant)["distribution"][0]
        content = (written.croissant.parent / entry["contentUrl"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["contentSize"] == f"{len(content)} B"

    def test_pixels_that_are_made_when_read_have_no_file(self, kinds, tmp_path):
        written = write_cards(copy(kinds["virtual"], tmp_path))
        described = document(written.croissant)
        fields = {field["name"]: field for field in described["recordSet"][0]["field"]}
        assert "source" not in fields["image"]
        assert "composed of sources" in fields["mask"]["description"]
        assert "image/**" not in described["distribution"][1]["includes"]
        assert fields["image"]["arrayShape"] == "21,33,3"


class TestDataCard:
    @pytest.mark.parametrize("kind", KINDS)
    def test_its_python_runs(self, kinds, kind, tmp_path, monkeypatch):
        written = write_cards(copy(kinds[kind], tmp_path))
        monkeypatch.chdir(tmp_path)
        text = written.datacard.read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert len(blocks) == (4 if kind in ("guided", "hdf5") else 3)
        dataset = open_dataset(kinds[kind])
        known: dict = {}
        for block in blocks:
            exec(compile(block, str(written.datacard), "exec"), known)
        assert np.array_equal(known["images"], dataset.image[0:8])
        assert np.array_equal(known["masks"], dataset.mask[0:8])
        if kind == "guided":
            assert known["samples"].tolist() == dataset.split("fair")["train"].tolist()
            assert known["frame"].sizes["sample"] == len(dataset)

    @pytest.mark.parametrize("kind", ["plain", "virtual"])
    def test_its_command_makes_the_same_pixels(self, kinds, kind, tmp_path, pictures, monkeypatch):
        written = write_cards(kinds[kind], folder=tmp_path / "cards")
        text = written.datacard.read_text(encoding="utf-8")
        (command,) = re.findall(r"^```sh\n(.*)\n```$", text, re.MULTILINE)
        for folder in (pictures.backgrounds, pictures.foregrounds):
            (tmp_path / folder.name).symlink_to(folder)
        monkeypatch.chdir(tmp_path)
        result = cli(*shlex.split(command)[1:], "--quiet")
        assert result.exit_code == 0, result.output
        again, before = open_dataset(tmp_path / kinds[kind].name), open_dataset(kinds[kind])
        assert again.document.recipe == before.document.recipe
        assert again.pixels == before.pixels

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

    @pytest.mark.parametrize(
        ("licence", "expected"),
        [
            (None, {"license": "unknown"}),
            ("MIT", {"license": "mit"}),
            ("https://creativecommons.org/licenses/by/4.0/", {"license": "cc-by-4.0"}),
            ("Ask: us", {"license": "other", "license_name": "Ask: us"}),
            (
                "https://example.org/terms",
                {
                    "license": "other",
                    "license_name": "https://example.org/terms",
                    "license_link": "https://example.org/terms",
                },
            ),
        ],
    )
    def test_licences_as_the_hub_knows_them(self, kinds, tmp_path, licence, expected):
        written = write_cards(kinds["plain"], About(license=licence), folder=tmp_path)
        matter = front_matter(written.datacard)
        assert {key: value for key, value in matter.items() if key.startswith("license")} == expected

    def test_it_lists_numbers_and_arrays(self, published):
        text = (published / "DATACARD.md").read_text(encoding="utf-8")
        group = zarr.open_group(published, mode="r")
        assert "36, each 33x21 pixels" in text
        assert "3 backgrounds x 2 foregrounds, each pair 3 times and 3 times mirrored" in text
        listed = dict(re.findall(r"^\| `([\w/]+)` \| \w+ \| \(([\d, ]+)\) \|", text, re.MULTILINE))
        for name, shape in listed.items():
            assert tuple(int(n) for n in shape.split(",") if n.strip()) == group[name].shape
        arrays = {name for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
        assert listed.keys() == arrays

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

    def test_an_imported_dataset_says_so_and_guesses_nothing(self, kinds, tmp_path):
        written = write_cards(kinds["imported"], folder=tmp_path)
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


class TestWriting:
    def test_the_same_statements_give_the_same_files(self, lobby, published):
        write_cards(lobby, ABOUT, preview=True)
        assert tree(lobby) == tree(published)
        write_cards(lobby)
        assert tree(lobby) == tree(published)

    def test_statements_stay_until_they_are_replaced(self, lobby):
        write_cards(lobby, ABOUT)
        write_cards(lobby, About(version="2.0.0", creators=("Grace", "Alan")))
        described = document(lobby / "croissant.json")
        assert described["version"] == "2.0.0"
        assert described["name"] == ABOUT.name
        assert [creator["name"] for creator in described["creator"]] == ["Grace", "Alan", "Example"]

    @pytest.mark.parametrize("name", ["croissant.json", "DATACARD.md", "preview.png"])
    def test_edited_cards_are_replaced_only_with_overwrite(self, lobby, name):
        write_cards(lobby, ABOUT, preview=True)
        with (lobby / name).open("ab") as file:
            file.write(b"\nmine")
        before = tree(lobby)
        with pytest.raises(SpecError) as caught:
            write_cards(lobby, About(version="3.0.0"))
        assert caught.value.code == "cards-edited"
        assert caught.value.problems == (str(lobby / name),)
        assert tree(lobby) == before
        write_cards(lobby, About(version="3.0.0"), overwrite=True)
        assert document(lobby / "croissant.json")["version"] == "3.0.0"
        assert document(lobby / "croissant.json")["url"] == ABOUT.url
        assert b"mine" not in (lobby / name).read_bytes()

    def test_cards_of_other_programs_are_not_replaced(self, lobby):
        (lobby / "DATACARD.md").write_text("# Mine\n")
        with pytest.raises(SpecError) as caught:
            write_cards(lobby)
        assert caught.value.problems == (str(lobby / "DATACARD.md"),)

    def test_nothing_is_left_where_writing_fails(self, lobby, monkeypatch):
        write_cards(lobby)
        before = tree(lobby)

        def full(path, target):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(DatasetError) as caught:
            write_cards(lobby, About(version="3.0.0"))
        assert caught.value.code == "cards-unwritable"
        assert tree(lobby) == before

    def test_a_dataset_that_is_not_complete_gets_none(self, lobby):
        root = document(lobby / "zarr.json")
        root["attributes"]["fgbgpack"]["complete"] = False
        (lobby / "zarr.json").write_text(json.dumps(root))
        with pytest.raises(IncompleteDatasetError):
            write_cards(lobby)
        assert not (lobby / "croissant.json").exists()

    def test_beside_an_hdf5_file(self, kinds, tmp_path):
        path = copy(kinds["hdf5"], tmp_path)
        written = write_cards(path, preview=True)
        names = {"lobby.h5", "lobby.croissant.json", "lobby.DATACARD.md", "lobby.preview.png"}
        assert {file.name for file in tmp_path.iterdir()} == names
        assert document(written.croissant)["distribution"][0]["contentUrl"] == "lobby.h5"
        assert "](lobby.preview.png)" in written.datacard.read_text(encoding="utf-8")

    def test_cards_of_a_changed_dataset_are_stale(self, lobby, tmp_path, kinds):
        assert not cards_are_stale(lobby)
        write_cards(lobby)
        assert not cards_are_stale(lobby)
        open_dataset(lobby).save_split("other", {"all": 1.0})
        assert cards_are_stale(lobby)
        write_cards(lobby)
        assert not cards_are_stale(lobby)
        file = copy(kinds["hdf5"], tmp_path)
        write_cards(file)
        assert not cards_are_stale(file)
        file.write_bytes(file.read_bytes() + b"x")
        assert cards_are_stale(file)


class TestAbout:
    def test_all_problems_are_reported_together(self):
        with pytest.raises(SpecError) as caught:
            About(url="example.org", version="v1", published="31.5.2024", creators=("Ada", " "), citation="")
        assert caught.value.code == "about-invalid"
        wrong = [problem.partition(":")[0] for problem in caught.value.problems]
        assert wrong == ["url", "version", "published", "creators", "citation"]

    def test_it_survives_json(self):
        assert About.from_dict(json.loads(json.dumps(ABOUT.to_dict()))) == ABOUT
        assert About.from_dict({}) == About()


class TestLicences:
    @pytest.mark.parametrize(
        ("stated", "name", "adaptations", "commercial", "alike"),
        [
            ("CC-BY-4.0", "CC-BY-4.0", True, True, False),
            ("cc by sa 3.0", "CC-BY-SA-3.0", True, True, True),
            ("CC BY-NC-ND 4.0", "CC-BY-NC-ND-4.0", False, False, False),
            ("https://creativecommons.org/licenses/by-nc/4.0/deed.de", "CC-BY-NC-4.0", True, False, False),
            ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0", True, True, False),
            ("CC0", "CC0-1.0", True, True, False),
            ("MIT License", "MIT", True, True, False),
            ("https://spdx.org/licenses/Apache-2.0.html", "Apache-2.0", True, True, False),
            ("All rights reserved.", "All rights reserved.", False, True, False),
            ("Pexels licence", "Pexels licence", None, True, False),
        ],
    )
    def test_their_terms(self, stated, name, adaptations, commercial, alike):
        terms = terms_of(stated)
        found = (terms.name, terms.adaptations, terms.commercial, terms.share_alike)
        assert found == (name, adaptations, commercial, alike)

    @staticmethod
    def groups(backgrounds, foregrounds):
        pictures = (
            tuple(SourceInfo("a.png", "0" * 64, license=licence) for licence in licences)
            for licences in (backgrounds, foregrounds)
        )
        return group_by_licence(SourcesInfo(*pictures))

    def found(self, background, foreground):
        return findings(self.groups([background], [foreground]))

    def test_what_they_mean(self):
        assert self.found("CC0-1.0", "CC0") == [
            "All pictures are under licences that permit redistributing adaptations."
        ]
        assert "No licence is stated for any of the 2 pictures" in self.found(None, None)[0]
        assert "1 picture is under licences that do not permit" in self.found("CC-BY-ND-4.0", "MIT")[0]
        assert "terms are not known to fgbgpack" in self.found("Pexels licence", "MIT")[0]
        mixed = self.found("CC-BY-SA-4.0", "CC-BY-NC-SA-4.0")
        assert any("may meet neither" in line for line in mixed)
        assert mixed[-1].startswith("Name the authors")

    def test_the_same_licence_is_counted_once(self):
        groups = self.groups(["CC0", None], ["CC0 1.0"])
        assert [(group.terms, group.backgrounds, group.foregrounds) for group in groups] == [
            (Terms("CC0-1.0", "CC0-1.0", adaptations=True), 1, 1),
            (None, 1, 0),
        ]


class TestCommand:
    def test_it_writes_and_reports(self, lobby):
        result = cli("card", lobby, "--license", "MIT", "--creator", "Ada", "--creator", "Grace", "--preview")
        assert result.exit_code == 0, result.output
        for name in ("croissant.json", "DATACARD.md", "preview.png"):
            assert f"Wrote {lobby / name}" in result.stdout
        assert "No licence is stated for 3 of the 5 pictures" in result.stdout
        assert "--url, --version, --published, --citation" in result.stdout
        assert len(document(lobby / "croissant.json")["creator"]) == 2

    def test_as_json(self, lobby):
        result = cli("card", lobby, "--json")
        assert json.loads(result.stdout)["datacard"] == str(lobby / "DATACARD.md")
        assert cli("card", lobby, "--quiet").stdout == ""

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (("nowhere.zarr",), 4, "no such folder"),
            (("https://example.org/lobby.zarr",), 2, "-o FOLDER"),
            (("lobby.zarr", "--version", "one"), 2, "version: 'one'"),
        ],
    )
    def test_errors(self, words, code, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        result = cli("card", *words)
        assert result.exit_code == code
        assert message in result.stderr

    def test_create_writes_them_and_reminds_of_them(self, own_pictures, tmp_path):
        words = ["create", tmp_path / "d.zarr", "--backgrounds", own_pictures.backgrounds]
        words += [
            "--foregrounds",
            own_pictures.foregrounds,
            "--foreground-height",
            "10",
            "--depth-model",
            "none",
        ]
        words += ["--placements", "1"]
        result = cli(*words, "--cards")
        assert result.exit_code == 0, result.output
        assert load(tmp_path / "d.zarr" / "croissant.json").metadata.issues.errors == set()
        assert "fgbgpack card" not in cli(*words).stderr

        table = own_pictures.backgrounds / "sources.csv"
        table.write_text("file,license\nb0.png,MIT\n", encoding="utf-8")
        assert f"fgbgpack card {tmp_path / 'd.zarr'}" in cli(*words).stderr
        assert cli(*words, "--cards").exit_code == 0
        assert "| MIT | 1 | 0 |" in (tmp_path / "d.zarr" / "DATACARD.md").read_text(encoding="utf-8")

    def test_create_refuses_cards_of_a_url_before_any_work(self, own_pictures):
        result = cli("create", "memory://d.zarr", "--cards", "--backgrounds", own_pictures.backgrounds)
        assert result.exit_code == 2
        assert "--cards: OUT is a URL" in result.stderr

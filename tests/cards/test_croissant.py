"""croissant.json, as mlcroissant reads it."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import mlcroissant
import numpy as np
import pandas
import pytest
import zarr
from builders import tree
from card_helpers import ABOUT, KINDS, document, load

from fgbgpack import open_dataset
from fgbgpack.cards import write_cards


class TestCroissant:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_valid(self, cards, kind):
        issues = load(cards[kind].croissant).metadata.issues
        assert issues.errors == set()
        assert issues.warnings == set()

    def test_unstated_facts_are_those_that_mlcroissant_misses(self, lobby):
        written = write_cards(lobby)
        warnings = load(written.croissant).metadata.issues.warnings
        missed = {re.search(r"(\w+)\" is recommended", warning)[1] for warning in warnings}
        assert missed == {"citeAs", "datePublished", "license", "version"}
        assert set(written.unsaid) == {"license", "creator", "url", "version", "published", "citation"}
        assert write_cards(lobby, ABOUT).unsaid == ()

    @pytest.mark.slow
    def test_its_own_command_finds_it_valid(self, published, tmp_path):
        command = [Path(sys.executable).with_name("mlcroissant"), "validate", "--jsonld"]
        good = subprocess.run([*command, published / "croissant.json"], capture_output=True, text=True)
        assert good.returncode == 0, good.stderr
        assert "warning" not in good.stderr
        broken = document(published / "croissant.json")
        del broken["distribution"][0]["sha256"]
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        with pytest.raises(mlcroissant.ValidationError):
            load(tmp_path / "broken.json")

    @pytest.mark.slow
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
    def test_the_digest_is_that_of_the_file(self, cards, kind):
        path = cards[kind].croissant
        entry = document(path)["distribution"][0]
        content = (path.parent / entry["contentUrl"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["contentSize"] == f"{len(content)} B"

    def test_pixels_that_are_made_when_read_have_no_file(self, cards):
        described = document(cards["virtual"].croissant)
        fields = {field["name"]: field for field in described["recordSet"][0]["field"]}
        assert "source" not in fields["image"]
        assert "composed of sources" in fields["mask"]["description"]
        assert "image/**" not in described["distribution"][1]["includes"]
        assert fields["image"]["arrayShape"] == "21,33,3"

"""Cards written and replaced, by the library and by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import tree
from card_helpers import ABOUT, copy, document, load
from typer.testing import CliRunner

from fgbgpack import open_dataset
from fgbgpack.cards import About, cards_are_stale, write_cards
from fgbgpack.cli import app
from fgbgpack.errors import DatasetError, IncompleteDatasetError, SpecError


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


class TestWriting:
    @pytest.mark.slow
    def test_the_same_statements_give_the_same_files(self, published, tmp_path):
        path = copy(published, tmp_path)
        write_cards(path)
        assert tree(path) == tree(published)

    @pytest.mark.slow
    def test_statements_stay_until_they_are_replaced(self, lobby):
        write_cards(lobby, ABOUT)
        write_cards(lobby, About(version="2.0.0", creators=("Grace", "Alan")))
        described = document(lobby / "croissant.json")
        assert described["version"] == "2.0.0"
        assert described["name"] == ABOUT.name
        assert [creator["name"] for creator in described["creator"]] == ["Grace", "Alan", "Example"]

    @pytest.mark.slow
    def test_edited_cards_are_replaced_only_with_overwrite(self, published, tmp_path):
        path = copy(published, tmp_path)
        files = [path / name for name in ("croissant.json", "DATACARD.md", "preview.png")]
        for edited in (files[:1], files[1:2], files[2:], files):
            originals = [file.read_bytes() for file in edited]
            for file in edited:
                file.write_bytes(file.read_bytes() + b"\nmine")
            before = tree(path)
            with pytest.raises(SpecError) as caught:
                write_cards(path, About(version="3.0.0"))
            assert caught.value.code == "cards-edited"
            assert caught.value.problems == tuple(map(str, edited))
            assert tree(path) == before
            if edited != files:
                for file, original in zip(edited, originals, strict=True):
                    file.write_bytes(original)
        write_cards(path, About(version="3.0.0"), overwrite=True)
        assert document(path / "croissant.json")["version"] == "3.0.0"
        assert document(path / "croissant.json")["url"] == ABOUT.url
        assert not any(b"mine" in file.read_bytes() for file in files)

    def test_cards_of_other_programs_are_not_replaced(self, lobby):
        (lobby / "DATACARD.md").write_text("# Mine\n")
        with pytest.raises(SpecError) as caught:
            write_cards(lobby)
        assert caught.value.problems == (str(lobby / "DATACARD.md"),)

    def test_a_run_that_was_stopped_is_finished_by_the_same_command(self, lobby, tmp_path, monkeypatch):
        files = ("preview.png", "croissant.json", "DATACARD.md")
        whole = copy(lobby, tmp_path / "whole")
        write_cards(whole, preview=True)
        replace = Path.replace
        for written in range(len(files)):
            path, left = copy(lobby, tmp_path / str(written)), [None] * written

            def stopping(source, target, left=left):
                if not left:
                    raise KeyboardInterrupt
                left.pop()
                return replace(source, target)

            with monkeypatch.context() as patch:
                patch.setattr(Path, "replace", stopping)
                with pytest.raises(KeyboardInterrupt):
                    write_cards(path, preview=True)
            assert [name for name in files if (path / name).exists()] == list(files[:written])
            write_cards(path, preview=True)
            assert tree(path) == tree(whole)

    def test_a_picture_of_others_is_not_replaced(self, lobby):
        (lobby / "preview.png").write_bytes(b"mine")
        with pytest.raises(SpecError) as caught:
            write_cards(lobby, preview=True)
        assert (caught.value.code, caught.value.problems) == ("cards-edited", (str(lobby / "preview.png"),))
        write_cards(lobby)
        assert (lobby / "preview.png").read_bytes() == b"mine"

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

    @pytest.mark.slow
    def test_beside_an_hdf5_file(self, kinds, tmp_path):
        path = copy(kinds["hdf5"], tmp_path)
        written = write_cards(path, preview=True)
        names = {"lobby.h5", "lobby.croissant.json", "lobby.DATACARD.md", "lobby.preview.png"}
        assert {file.name for file in tmp_path.iterdir()} == names
        assert document(written.croissant)["distribution"][0]["contentUrl"] == "lobby.h5"
        assert "](lobby.preview.png)" in written.datacard.read_text(encoding="utf-8")

    @pytest.mark.slow
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


class TestCommand:
    @pytest.mark.slow
    def test_it_writes_and_reports(self, lobby):
        result = cli("card", lobby, "--license", "MIT", "--creator", "Ada", "--creator", "Grace", "--preview")
        assert result.exit_code == 0, result.output
        for name in ("croissant.json", "DATACARD.md", "preview.png"):
            assert f"Wrote {lobby / name}" in result.stdout
        assert "No licence is stated for 3 of the 5 pictures" in result.stdout
        assert "--url, --version, --published, --citation" in result.stdout
        assert len(document(lobby / "croissant.json")["creator"]) == 2

    @pytest.mark.slow
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

    @pytest.mark.slow
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

"""sources.csv beside the pictures: what is read of it, what is said when it is wrong, and where it goes."""

from __future__ import annotations

import hashlib
import json
import unicodedata

import pytest
from builders import tree

from fgbgpack import create, open_dataset
from fgbgpack.errors import RecipeMismatchError, SourceError
from fgbgpack.sources.credits import Credit, Credits, read_credits
from fgbgpack.sources.listing import find_sources

NAMES = ("b0.png", "b1.png", "b2.png")


def write(folder, content, encoding="utf-8"):
    path = folder / "sources.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def read(folder, content, names=NAMES):
    """What is read of a table, and what is said of it."""
    write(folder, content)
    credits = read_credits(folder, names)
    return credits.by_name, [line for error in credits.problems for line in error.problems], credits.notices


class TestReading:
    def test_all_columns_in_any_order(self, tmp_path):
        credits, problems, _ = read(
            tmp_path,
            "url,author,file,license\n"
            "https://example.org/0,Ada,b0.png,CC-BY-4.0\n"
            ",,b1.png,CC0-1.0\n"
            'x,"Hopper, Grace",b2.png,\n',
        )
        assert credits == {
            "b0.png": Credit("CC-BY-4.0", "Ada", "https://example.org/0"),
            "b1.png": Credit("CC0-1.0"),
            "b2.png": Credit(None, "Hopper, Grace", "x"),
        }
        assert problems == []

    @pytest.mark.parametrize(
        "table",
        [
            "file,license\nb0.png,MIT\nb1.png,MIT\nb2.png,MIT",
            "FILE,Licence\r\nb0.png,MIT\r\nb1.png,MIT\r\nb2.png,MIT\r\n",
            "file;license\nb0.png;MIT\nb1.png;MIT\nb2.png;MIT\n",
            "file\tlicense\nb0.png\tMIT\nb1.png\tMIT\nb2.png\tMIT\n",
            "\n\nfile,license\n\n b0.png , MIT\n,\nb1.png,MIT\nb2.png,MIT\n\n",
            b"\xef\xbb\xbffile,license\nb0.png,MIT\nb1.png,MIT\nb2.png,MIT\n",
        ],
        ids=["plain", "windows", "semicolons", "tabs", "blanks", "byte-order-mark"],
    )
    def test_the_ways_in_which_tables_are_written(self, tmp_path, table):
        assert read(tmp_path, table) == ({name: Credit("MIT") for name in NAMES}, [], [])

    def test_a_row_may_leave_out_its_last_cells(self, tmp_path):
        credits, problems, _ = read(tmp_path, "file,license,author,url\nb0.png,MIT\nb1.png\n")
        assert credits == {"b0.png": Credit("MIT")}
        assert problems == []

    def test_names_that_look_the_same_are_the_same(self, tmp_path):
        stored = unicodedata.normalize("NFD", "café.png")
        credits, _, _ = read(tmp_path, "file,license\ncafé.png,MIT\n", [stored])
        assert credits == {stored: Credit("MIT")}

    def test_a_folder_without_such_a_table(self, tmp_path):
        assert read_credits(tmp_path, NAMES) == Credits()


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("table", "where", "what"),
        [
            ("", "", "it is empty"),
            ("name,license\nb0.png,MIT\n", "", "no column 'file' among name, license"),
            ("file,license,licence\nb0.png,MIT,MIT\n", "", "2 columns 'license'"),
            ("file,license\nb0.png,MIT\nb1.png,MIT,x,y\n", ", line 3", "4 cells, the header has 2"),
            ("file,license\nb0.png,MIT\nb0.png,GPL\n", ", line 3", "b0.png is on line 2 too"),
            ("file,license\n,MIT\n", ", line 2", "no file is named"),
            ('file,license\nb0.png,"MIT\n', ", line 2", "unexpected end of data"),
            (b"file,license\nb0.png,MIT\nb1.png,\xe9\n", ", line 3", "it is not UTF-8"),
        ],
    )
    def test_broken_tables_are_errors_that_name_the_line(self, tmp_path, table, where, what):
        _, problems, _ = read(tmp_path, table)
        assert len(problems) == 1
        assert problems[0].startswith(f"{tmp_path / 'sources.csv'}{where}: ")
        assert what in problems[0]
        assert "; expected " in problems[0]

    def test_every_bad_row_is_named(self, tmp_path):
        _, problems, _ = read(tmp_path, "file,license\nb0.png,MIT,x\n,MIT\nb1.png,MIT\nb1.png,MIT\n")
        assert [problem.split(": ")[0].rpartition(" ")[2] for problem in problems] == ["2", "3", "5"]

    def test_a_table_that_cannot_be_read(self, tmp_path):
        (tmp_path / "sources.csv").mkdir()
        credits = read_credits(tmp_path, NAMES)
        assert credits.by_name == {}
        assert [error.code for error in credits.problems] == ["credits-unreadable"]

    def test_what_is_only_to_be_known(self, tmp_path):
        credits, problems, notices = read(
            tmp_path, "file,license,note,\nb0.png,MIT,x,y\nb1.png,,x,y\ngone.png,MIT,,\n"
        )
        assert credits == {"b0.png": Credit("MIT")}
        assert problems == []
        unused, strangers, unstated = notices
        assert unused.endswith("not used are the columns note, (no name).")
        assert strangers.endswith("1 of its rows are for pictures that are not there: gone.png (line 4)")
        assert unstated.endswith("no licence is stated for 2 of 3 pictures: b1.png, b2.png")


class TestSources:
    def test_they_go_with_the_pictures(self, own_pictures):
        write(own_pictures.backgrounds, "file,license,author,url\nb1.png,MIT,Ada,https://example.org\n")
        found = find_sources(own_pictures.backgrounds, own_pictures.foregrounds)
        first, second, _ = found.backgrounds
        assert (first.license, first.author, first.url) == (None, None, None)
        assert (second.license, second.author, second.url) == ("MIT", "Ada", "https://example.org")
        assert found.ignored == ()
        assert len(found.notices) == 1

    def test_they_change_nothing_that_pictures_are_compared_by(self, own_pictures):
        before = find_sources(own_pictures.backgrounds, own_pictures.foregrounds)
        write(own_pictures.foregrounds, "file,license\nf0.png,MIT\nf1.png,MIT\n")
        after = find_sources(own_pictures.backgrounds, own_pictures.foregrounds)
        assert after == before
        assert [source.license for source in after.foregrounds] == ["MIT", "MIT"]

    def test_a_broken_table_is_told_together_with_other_problems(self, own_pictures):
        write(own_pictures.backgrounds, "file,license\nb0.png,MIT,x\n")
        (own_pictures.foregrounds / "f1.png").write_bytes(b"no picture")
        with pytest.raises(SourceError) as caught:
            find_sources(own_pictures.backgrounds, own_pictures.foregrounds)
        assert len(caught.value.problems) == 2
        assert "sources.csv, line 2" in caught.value.problems[0]
        assert "f1.png" in caught.value.problems[1]

    def test_the_table_alone_makes_no_folder_of_pictures(self, tmp_path, own_pictures):
        empty = tmp_path / "empty"
        empty.mkdir()
        write(empty, "file,license\n")
        with pytest.raises(SourceError, match=r"no picture among 1 entries \(sources.csv\)"):
            find_sources(empty, own_pictures.foregrounds)

    def test_beside_masks_it_is_not_read(self, own_pictures):
        masks = own_pictures.root / "masks"
        masks.mkdir()
        for path in own_pictures.foregrounds.iterdir():
            (masks / path.name).write_bytes(path.read_bytes())
        table = write(masks, "no table")
        assert find_sources(own_pictures.backgrounds, own_pictures.foregrounds, masks).ignored == (
            str(table),
        )


class TestInTheDataset:
    def test_they_are_in_its_document(self, own_pictures, tmp_path):
        write(own_pictures.backgrounds, "file,licence,author,url\nb0.png,CC0-1.0,Ada,https://example.org\n")
        said = []
        create(tmp_path / "d.zarr", own_pictures.spec(), on_event=said.append)
        dataset = open_dataset(tmp_path / "d.zarr")
        first, second, _ = dataset.document["sources"]["backgrounds"]
        assert (first["license"], first["author"], first["url"]) == ("CC0-1.0", "Ada", "https://example.org")
        assert second.keys() == {"name", "sha256"}
        assert dataset.catalog().backgrounds[0].license == "CC0-1.0"
        assert any("no licence is stated for 2 of 3" in getattr(event, "message", "") for event in said)

    def test_other_ones_are_taken_over_and_nothing_else_changes(self, own_pictures, tmp_path):
        path = tmp_path / "d.zarr"
        create(path, own_pictures.spec())
        before = tree(path)
        write(own_pictures.foregrounds, "file,license\nf0.png,MIT\nf1.png,CC0-1.0\n")
        said = []
        create(path, own_pictures.spec(), on_event=said.append)
        after = tree(path)
        listed = open_dataset(path).document["sources"]["foregrounds"]
        assert [source["license"] for source in listed] == ["MIT", "CC0-1.0"]
        assert any("are new" in getattr(event, "message", "") for event in said)
        assert {key for key in after if after[key] != before.get(key)} == {"zarr.json"}
        assert after.keys() == before.keys()
        assert json.loads(after["zarr.json"])["consolidated_metadata"]

        create(path, own_pictures.spec())
        assert tree(path) == after

    def test_they_stay_where_the_table_has_gone(self, own_pictures, tmp_path):
        table = write(own_pictures.foregrounds, "file,license\nf0.png,MIT\nf1.png,MIT\n")
        create(tmp_path / "d.zarr", own_pictures.spec())
        before = tree(tmp_path / "d.zarr")
        table.unlink()
        create(tmp_path / "d.zarr", own_pictures.spec())
        assert tree(tmp_path / "d.zarr") == before

    def test_another_picture_is_still_another_picture(self, own_pictures, tmp_path):
        write(own_pictures.backgrounds, "file,license\nb0.png,MIT\n")
        create(tmp_path / "d.zarr", own_pictures.spec())
        own_pictures.background("b0.png", 40, 60, seed=77)
        write(own_pictures.backgrounds, "file,license\nb0.png,CC0-1.0\n")
        with pytest.raises(RecipeMismatchError, match="1 have changed"):
            create(tmp_path / "d.zarr", own_pictures.spec())

    def test_the_recipe_does_not_depend_on_them(self, own_pictures, tmp_path):
        create(tmp_path / "before.zarr", own_pictures.spec())
        write(own_pictures.backgrounds, "file,license\nb0.png,MIT\n")
        create(tmp_path / "after.zarr", own_pictures.spec())
        before, after = (open_dataset(tmp_path / f"{name}.zarr") for name in ("before", "after"))
        assert before.document["recipe"] == after.document["recipe"]
        for name in ("image", "mask"):
            pixels = [hashlib.sha256(ds.whole(name).tobytes()).digest() for ds in (before, after)]
            assert pixels[0] == pixels[1]

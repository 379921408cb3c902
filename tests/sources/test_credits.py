"""sources.csv beside the pictures: what is read of it, what is wrong with it, and where it goes."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from builders import tree
from picture_files import write
from sample_folders import Events

from fgbgpack import create, open_dataset
from fgbgpack.errors import RecipeMismatchError, SourceError
from fgbgpack.sources.credits import Credit, Credits, read_credits
from fgbgpack.sources.listing import find_sources

NAMES = ("b0.png", "b1.png", "b2.png")


def write_table(folder, content):
    return write(folder / "sources.csv", content if isinstance(content, bytes) else content.encode())


def read(folder, content, names=NAMES):
    write_table(folder, content)
    return read_credits(folder, names)


class TestReading:
    def test_all_columns_in_any_order(self, tmp_path):
        credits = read(
            tmp_path,
            "url,author,file,license\n"
            "https://example.org/0,Ada,b0.png,CC-BY-4.0\n"
            ",,b1.png,CC0-1.0\n"
            'x,"Hopper, Grace",b2.png,\n',
        )
        assert credits.by_name == {
            "b0.png": Credit("CC-BY-4.0", "Ada", "https://example.org/0"),
            "b1.png": Credit("CC0-1.0"),
            "b2.png": Credit(None, "Hopper, Grace", "x"),
        }
        assert credits.problems == []

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
        assert read(tmp_path, table) == Credits({name: Credit("MIT") for name in NAMES})

    def test_a_row_may_leave_out_its_last_cells(self, tmp_path):
        credits = read(tmp_path, "file,license,author,url\nb0.png,MIT\nb1.png\n")
        assert (credits.by_name, credits.problems) == ({"b0.png": Credit("MIT")}, [])

    def test_names_that_look_the_same_are_the_same(self, tmp_path):
        stored = unicodedata.normalize("NFD", "café.png")
        assert read(tmp_path, "file,license\ncafé.png,MIT\n", [stored]).by_name == {stored: Credit("MIT")}

    def test_a_folder_without_such_a_table(self, tmp_path):
        assert read_credits(tmp_path, NAMES) == Credits()


class TestProblems:
    @pytest.mark.parametrize(
        ("table", "wheres"),
        [
            ("", [""]),
            ("name,license\nb0.png,MIT\n", [""]),
            ("file,license,licence\nb0.png,MIT,MIT\n", [""]),
            ("license,licence\nMIT,MIT\n", ["", ""]),
            ("file,license\nb0.png,MIT\nb1.png,MIT,x,y\n", [", line 3"]),
            ("file,license\nb0.png,MIT\nb0.png,GPL\n", [", line 3"]),
            ("file,license\n,MIT\n", [", line 2"]),
            ('file,license\nb0.png,"MIT\n', [", line 2"]),
            (b"file,license\nb0.png,MIT\nb1.png,\xe9\n", [", line 3"]),
            (
                "file,license\nb0.png,MIT,x\n,MIT\nb1.png,MIT\nb1.png,MIT\n",
                [", line 2", ", line 3", ", line 5"],
            ),
        ],
    )
    def test_broken_tables_are_errors_that_name_the_line(self, tmp_path, table, wheres):
        problems = read(tmp_path, table).problems
        assert {error.code for error in problems} == {"credits-invalid"}
        lines = [line for error in problems for line in error.problems]
        for line, where in zip(lines, wheres, strict=True):
            assert line.startswith(f"{tmp_path / 'sources.csv'}{where}: ")
            assert "; expected " in line

    def test_categories_are_names(self, tmp_path):
        credits = read(tmp_path, f"file,category\nb0.png,a  dog\nb1.png,\x01\nb2.png,{'x' * 256}\n")
        assert credits.by_name["b0.png"].category == "a dog"
        assert [error.code for error in credits.problems] == ["credits-invalid"] * 2
        said = [problem.partition(":")[0] for error in credits.problems for problem in error.problems]
        assert said == [f"{tmp_path / 'sources.csv'}, line {line}" for line in (3, 4)]

    def test_a_table_that_cannot_be_read(self, tmp_path):
        (tmp_path / "sources.csv").mkdir()
        credits = read_credits(tmp_path, NAMES)
        assert credits.by_name == {}
        assert [error.code for error in credits.problems] == ["credits-unreadable"]

    def test_notices(self, tmp_path):
        credits = read(tmp_path, "file,license,note,\nb0.png,MIT,x,y\nb1.png,,x,y\ngone.png,MIT,,\n")
        assert (credits.by_name, credits.problems) == ({"b0.png": Credit("MIT")}, [])
        unused, absent, unstated = credits.notices
        assert unused.endswith("note, (no name).")
        assert absent.endswith(": gone.png (line 4)")
        assert unstated.endswith(" 2 of 3 pictures: b1.png, b2.png")


class TestSources:
    def test_they_go_with_the_pictures(self, own_pictures):
        write_table(own_pictures.backgrounds, "file,license,author,url\nb1.png,MIT,Ada,https://example.org\n")
        found = find_sources(own_pictures.backgrounds, own_pictures.foregrounds)
        first, second, _ = found.backgrounds
        assert (first.license, first.author, first.url) == (None, None, None)
        assert (second.license, second.author, second.url) == ("MIT", "Ada", "https://example.org")
        assert found.ignored == ()
        assert len(found.notices) == 1

    def test_they_change_nothing_that_pictures_are_compared_by(self, own_pictures):
        before = find_sources(own_pictures.backgrounds, own_pictures.foregrounds)
        write_table(own_pictures.foregrounds, "file,license\nf0.png,MIT\nf1.png,MIT\n")
        after = find_sources(own_pictures.backgrounds, own_pictures.foregrounds)
        assert after == before
        assert [source.license for source in after.foregrounds] == ["MIT", "MIT"]

    def test_a_broken_table_is_told_together_with_other_problems(self, own_pictures):
        write_table(own_pictures.backgrounds, "file,license\nb0.png,MIT,x\n")
        (own_pictures.foregrounds / "f1.png").write_bytes(b"no picture")
        with pytest.raises(SourceError) as caught:
            find_sources(own_pictures.backgrounds, own_pictures.foregrounds)
        assert len(caught.value.problems) == 2
        assert "sources.csv, line 2" in caught.value.problems[0]
        assert "f1.png" in caught.value.problems[1]

    @pytest.mark.parametrize(
        ("kind", "table", "problem"),
        [
            ("backgrounds", "file,cut\nb0.png,\nb1.png,bottom\n", "line 3: the column 'cut' has values"),
            ("backgrounds", "file,category\nb0.png,hall\n", "line 2: the column 'category' has values"),
            (
                "foregrounds",
                "file,focal_length\nf0.png,900\n",
                "line 2: the column 'focal_length' has values",
            ),
            ("foregrounds", "file,horizon\nf0.png,0.4\n", "line 2: the column 'horizon' has values"),
            ("foregrounds", "file,floor\nf1.png,floors/a.png\n", "line 2: the column 'floor' has values"),
        ],
    )
    def test_what_only_the_others_have_is_refused(self, own_pictures, kind, table, problem):
        folder = getattr(own_pictures, kind)
        write_table(folder, table)
        with pytest.raises(SourceError) as caught:
            find_sources(own_pictures.backgrounds, own_pictures.foregrounds)
        assert caught.value.code == "credits-invalid"
        others = {"backgrounds", "foregrounds"} - {kind}
        assert caught.value.problems == (
            f"{folder / 'sources.csv'}, {problem}; expected it in the table of the {others.pop()}",
        )

    def test_empty_columns_of_the_others_are_no_matter(self, own_pictures):
        write_table(own_pictures.backgrounds, "file,license,cut\nb0.png,MIT,\n")
        write_table(own_pictures.foregrounds, "file,horizon,floor\nf0.png,,\n")
        assert (
            find_sources(own_pictures.backgrounds, own_pictures.foregrounds).backgrounds[0].license == "MIT"
        )

    def test_who_says_nothing_of_licences_is_not_asked_for_them(self, own_pictures):
        write_table(own_pictures.backgrounds, "file,focal_length\nb0.png,301.5\n")
        found = find_sources(own_pictures.backgrounds, own_pictures.foregrounds, floors=True)
        assert found.notices == ()
        assert [source.focal_length for source in found.backgrounds] == [301.5, None, None]

    def test_one_folder_of_both_has_one_table(self, own_pictures):
        write_table(own_pictures.foregrounds, "file,cut,horizon\nf0.png,bottom,0.4\n")
        found = find_sources(own_pictures.foregrounds, own_pictures.foregrounds, floors=True)
        assert found.foregrounds[0].cut == 4
        assert found.backgrounds[0].horizon == 0.4

    def test_the_table_alone_makes_no_folder_of_pictures(self, tmp_path, own_pictures):
        table = write_table(tmp_path / "empty", "file,license\n")
        with pytest.raises(SourceError, match=str(table.parent)) as caught:
            find_sources(table.parent, own_pictures.foregrounds)
        assert caught.value.code == "folder-without-pictures"

    def test_beside_masks_it_is_not_read(self, own_pictures):
        masks = own_pictures.root / "masks"
        masks.mkdir()
        for path in own_pictures.foregrounds.iterdir():
            (masks / path.name).write_bytes(path.read_bytes())
        table = write_table(masks, "no table")
        assert find_sources(own_pictures.backgrounds, own_pictures.foregrounds, masks).ignored == (
            str(table),
        )


class TestInTheDataset:
    @pytest.mark.slow
    def test_they_are_in_its_document_and_nothing_else_depends_on_them(self, own_pictures, tmp_path):
        create(tmp_path / "before.zarr", own_pictures.spec())
        write_table(own_pictures.backgrounds, "file,licence,author,url\nb0.png,CC0-1.0,Ada,https://x.org\n")
        events = Events()
        create(tmp_path / "after.zarr", own_pictures.spec(), on_event=events)
        assert "no licence is stated for 2 of 3" in events.notices
        before, after = (open_dataset(tmp_path / f"{name}.zarr") for name in ("before", "after"))
        first, second, _ = after.document.to_dict()["sources"]["backgrounds"]
        assert (first["license"], first["author"], first["url"]) == ("CC0-1.0", "Ada", "https://x.org")
        assert second.keys() == {"name", "sha256"}
        assert after.catalog().backgrounds[0].license == "CC0-1.0"
        assert before.document.recipe == after.document.recipe
        for name in ("image", "mask"):
            np.testing.assert_array_equal(before.whole(name), after.whole(name))

    def test_new_ones_are_adopted_and_nothing_else_changes(self, own_pictures, tmp_path):
        path = tmp_path / "d.zarr"
        create(path, own_pictures.spec())
        before = tree(path)
        table = write_table(own_pictures.foregrounds, "file,license\nf0.png,MIT\nf1.png,CC0-1.0\n")
        events = Events()
        create(path, own_pictures.spec(), on_event=events)
        after = tree(path)
        sources = open_dataset(path).document.sources
        assert [source.license for source in sources.foregrounds] == ["MIT", "CC0-1.0"]
        assert "are new" in events.notices
        assert {key for key in after if after[key] != before.get(key)} == {"zarr.json"}
        assert after.keys() == before.keys()
        assert json.loads(after["zarr.json"])["consolidated_metadata"]
        # They stay where nothing is new, and where the table is gone.
        for missing in (False, True):
            if missing:
                table.unlink()
            create(path, own_pictures.spec())
            assert tree(path) == after

    def test_another_picture_is_still_another_picture(self, own_pictures, tmp_path):
        write_table(own_pictures.backgrounds, "file,license\nb0.png,MIT\n")
        create(tmp_path / "d.zarr", own_pictures.spec())
        own_pictures.background("b0.png", 40, 60, seed=77)
        write_table(own_pictures.backgrounds, "file,license\nb0.png,CC0-1.0\n")
        with pytest.raises(RecipeMismatchError, match="1 have changed"):
            create(tmp_path / "d.zarr", own_pictures.spec())

    def test_another_category_is_another_foreground(self, own_pictures, tmp_path):
        spec = own_pictures.spec(samples=4, objects="1-2")
        write_table(own_pictures.foregrounds, "file,category\nf0.png,dog\nf1.png,person\n")
        create(tmp_path / "d.zarr", spec)
        assert create(tmp_path / "d.zarr", spec).created == 0
        write_table(own_pictures.foregrounds, "file,category\nf0.png,dog\nf1.png,dog\n")
        with pytest.raises(RecipeMismatchError, match="1 have changed"):
            create(tmp_path / "d.zarr", spec)

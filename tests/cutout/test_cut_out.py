"""From a folder of photographs to foregrounds, masks, a table and a picture; and what a second run does."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import failure, run, start
from cutout_photos import BACKGROUND, FOREGROUND, THING, card, figure, greenless, photo, redness, write_photo
from picture_files import turned
from PIL import Image
from refusals import refused

from fgbgpack.cutout.run import cut_out
from fgbgpack.depth import Execution
from fgbgpack.errors import DatasetError, DepthModelError, SourceError, SpecError
from fgbgpack.files import locked
from fgbgpack.pipeline import Progress
from fgbgpack.sources.credits import read_credits
from fgbgpack.sources.listing import find_sources


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The working folder: a network, and photographs of one person, two, none, and a speck."""
    monkeypatch.chdir(tmp_path)
    redness(tmp_path / "net.onnx")
    one = np.zeros((120, 200))
    one[:, 40:120] = figure(120, 80)
    two = np.hstack([figure(120, 80), figure(120, 80)])
    small = np.zeros((120, 90))
    small[50:62, 40:50] = figure(12, 10)
    for name, share in (("one", one), ("two", two), ("none", np.zeros((120, 90))), ("small", small)):
        write_photo(tmp_path / f"photos/{name}.png", share, seed=1)
    return tmp_path


def cut(**options):
    execution = Execution(device="cpu")
    return cut_out("photos", "out", **{"model": "net.onnx", "execution": execution} | options)


def rows():
    with Path("out/cutouts.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"] or row["photo"]: row for row in csv.DictReader(file)}


def decide(**keep):
    table = rows()
    for name, word in keep.items():
        table[f"{name}.png"]["keep"] = word
    with Path("out/cutouts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, next(iter(table.values())))
        writer.writeheader()
        writer.writerows(table.values())


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def on(ground, image):
    """A picture with alpha on a ground of one colour, as integers."""
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, ground), image)).astype(int)


def filled(colour, alpha):
    image = Image.new("RGBA", alpha.size, colour)
    image.putalpha(alpha)
    return image


def names(folder):
    return sorted(path.name for path in (folder if folder.is_dir() else folder.parent).glob("*.png"))


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.png") if path.name != "review.png"}


class TestFiles:
    def test_a_cutout_is_what_is_there_in_the_colours_of_the_foreground(self, desk):
        report = cut()
        assert (report.photos, report.done, report.cutouts, report.used) == (4, 4, 3, 3)
        assert (
            names(desk / "out/foregrounds")
            == names(desk / "out/masks")
            == ["one.png", "small.png", "two.png"]
        )
        with Image.open("out/foregrounds/one.png") as image, Image.open("out/masks/one.png") as mask:
            assert (image.mode, mask.mode) == ("RGBA", "L")
            pixels = np.asarray(image)
            np.testing.assert_array_equal(pixels[..., 3], np.asarray(mask))
        expected = np.rint(figure(120, 80) * 255)
        seen = np.flatnonzero(expected.any(axis=1))
        assert pixels.shape[0] in (len(seen), len(seen) - 1, len(seen) - 2)
        soft = (pixels[..., 3] > 60) & (pixels[..., 3] < 255)
        assert np.abs(pixels[soft][:, :3].astype(int) - FOREGROUND).mean() < 25

    @pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255), (0, 177, 64)])
    def test_there_is_no_halo_on_another_ground(self, desk, ground):
        share = figure(150, 110, soft=6)
        write_photo(desk / "photos/soft.png", share, seed=2)
        cut()
        with Image.open("out/foregrounds/soft.png") as image:
            alpha = image.getchannel("A")
            seen = on(ground, image)
        expected = on(ground, filled(FOREGROUND, alpha))
        old = np.asarray(alpha)[..., None] / 255
        mixed = old * FOREGROUND + (1 - old) * BACKGROUND
        halo = on(ground, Image.fromarray(np.dstack([np.uint8(mixed), alpha])))
        edge = (np.asarray(alpha) > 25) & (np.asarray(alpha) < 230)
        assert np.abs(seen - expected)[edge].mean() < 5
        assert np.abs(halo - expected)[edge].mean() > 20

    def test_the_table_has_numbers_and_flags(self, desk):
        report = cut()
        table = rows()
        assert {name: row["flags"] for name, row in table.items()} == {
            "none.png": "nothing",
            "one.png": "",
            "small.png": "tiny",
            "two.png": "several",
        }
        assert report.flags == {"nothing": 1, "several": 1, "tiny": 1}
        assert table["one.png"]["photo"] == "one.png"
        assert float(table["one.png"]["area"]) == pytest.approx(
            (figure(120, 80) > 0.5).sum() / 24000, rel=0.03
        )
        assert table["none.png"]["used"] == "no"

    def test_people_apart_are_several_cutouts(self, desk):
        cut(split=True)
        assert names(desk / "out/foregrounds") == ["one-1.png", "small-1.png", "two-1.png", "two-2.png"]
        assert rows()["two-2.png"]["flags"] == ""
        cut()
        assert names(desk / "out/foregrounds") == ["one.png", "small.png", "two.png"]

    def test_credits_go_on_and_say_where_figures_are_cut(self, desk):
        share = np.vstack([np.zeros((30, 80)), figure(200, 80)[:90]])
        write_photo(desk / "photos/portrait.png", share)
        credits = "file,licence,author,category\none.png,CC0-1.0,Ann,person\nportrait.png,CC-BY-4.0,Bob,\n"
        (desk / "photos/sources.csv").write_text(credits, encoding="utf-8")
        cut()
        found = read_credits(desk / "out/foregrounds", names(desk / "out/foregrounds"))
        assert found.problems == []
        assert (found.by_name["one.png"].license, found.by_name["one.png"].author) == ("CC0-1.0", "Ann")
        assert (found.by_name["one.png"].category, found.by_name["portrait.png"].category) == ("person", None)
        assert found.by_name["one.png"].cut == 0
        assert found.by_name["portrait.png"].cut == 4

    def test_they_are_foregrounds_for_a_dataset(self, desk):
        cut()
        write_photo(desk / "bg/wall.png", np.zeros((40, 60)))
        found = find_sources(desk / "bg", desk / "out/foregrounds")
        assert [source.name for source in found.foregrounds] == ["one.png", "small.png", "two.png"]

    def test_photographs_are_turned_upright(self, desk):
        upright = figure(120, 80, top=0.2)
        (desk / "photos/phone.jpg").write_bytes(turned(photo(upright), 6, "JPEG", quality=95))
        cut()
        with Image.open("out/foregrounds/phone.png") as image:
            assert image.height > image.width
            assert abs(image.height - 73) <= 6

    def test_all_are_in_the_picture(self, desk):
        cut()
        with Image.open("out/review.png") as image:
            pixels = np.asarray(image).reshape(-1, 3)
        assert (np.abs(pixels.astype(int) - FOREGROUND).max(axis=1) < 30).sum() > 5000


class TestTwoNetworks:
    """``greenless`` finds people only; ``redness`` takes things that are red for foreground, too."""

    @pytest.fixture
    def street(self, desk):
        """A photograph of somebody beside a thing, and one of a thing alone."""
        greenless(desk / "people.onnx")
        (desk / "photos").rename(desk / "others")
        somebody = np.pad(figure(120, 80), ((0, 0), (40, 80)))
        thing = np.pad(figure(60, 60), ((60, 0), (100, 40)))
        pixels = photo(somebody)
        both = np.where(thing[..., None] > 0.5, THING, pixels).astype(np.uint8)
        (desk / "photos").mkdir()
        Image.fromarray(both).save(desk / "photos/both.png")
        alone = np.where(thing[..., None] > 0.5, THING, photo(0 * somebody)).astype(np.uint8)
        Image.fromarray(alone).save(desk / "photos/alone.png")
        return somebody

    def test_things_go(self, street):
        cut()
        assert pixels_of("out/masks/both.png").shape[1] > 85
        report = cut(confirm="people.onnx")
        assert (report.model, report.confirm, report.done, report.cutouts) == ("redness", "greenless", 2, 1)
        box = np.flatnonzero(street.any(axis=0))
        found = pixels_of("out/masks/both.png")
        assert abs(found.shape[1] - len(box)) <= 4
        assert np.abs(found.sum() / 255 / street.sum() - 1) < 0.06
        table = rows()
        assert float(table["both.png"]["agreement"]) > 0.9
        assert table["both.png"]["flags"] == ""
        assert table["alone.png"]["flags"] == "nothing"
        cut()
        assert rows()["both.png"]["agreement"] == ""

    def test_what_is_missed_is_disputed(self, street):
        cut(model="people.onnx", confirm="net.onnx")
        table = rows()
        assert table["both.png"]["flags"] == "disputed"
        assert float(table["both.png"]["agreement"]) < 0.8

    def test_people_apart_are_compared_one_by_one(self, street, desk):
        (desk / "others/two.png").rename(desk / "photos/two.png")
        cut(confirm="people.onnx", split=True)
        table = rows()
        assert [float(table[f"two-{n}.png"]["agreement"]) > 0.9 for n in (1, 2)] == [True, True]

    def test_the_command(self, street):
        words = ("--model", "net.onnx", "--confirm", "people.onnx", "--device", "cpu")
        printed = run("cutout", "photos", "out", *words)
        assert printed.exit_code == 0, printed.output
        assert "1 cut-out of 2 photographs" in printed.stdout
        assert "greenless" in printed.stdout
        assert failure("cutout", "photos", "out", "--model", "net.onnx", "--confirm", "x") == (
            5,
            "model-unknown",
        )


class TestAgain:
    def test_what_is_done_stays(self, desk):
        cut()
        before = times(desk / "out")
        events = []
        report = cut(on_event=events.append)
        assert (report.done, report.provider) == (0, None)
        assert times(desk / "out") == before
        assert events == [Progress("cutouts", 4, 4)]

    @pytest.mark.parametrize("change", ["photo", "network", "second network", "option", "file"])
    def test_what_has_changed_is_done_again(self, desk, change):
        cut()
        options = {}
        if change == "photo":
            write_photo(desk / "photos/one.png", figure(90, 90))
        elif change == "network":
            redness(desk / "net.onnx", logits=True)
        elif change == "second network":
            options = {"confirm": greenless(desk / "second.onnx")}
        elif change == "option":
            options = {"split": True}
        else:
            (desk / "out/foregrounds/one.png").unlink()
        assert cut(**options).done == (1 if change in ("photo", "file") else 4)

    def test_somebody_decides(self, desk):
        cut(only_good=True)
        assert names(desk / "out/foregrounds") == ["one.png"]
        assert names(desk / "out/left-out") == ["small.png", "two.png"]
        decide(one="no", two="YES")
        report = cut(only_good=True)
        assert (report.done, report.used) == (0, 1)
        assert names(desk / "out/foregrounds") == ["two.png"]
        assert {name: (row["keep"], row["used"]) for name, row in rows().items()} == {
            "none.png": ("", "no"),
            "one.png": ("no", "no"),
            "small.png": ("", "no"),
            "two.png": ("yes", "yes"),
        }
        cut()
        assert names(desk / "out/foregrounds") == ["small.png", "two.png"]

    def test_a_table_that_a_spreadsheet_saved(self, desk):
        cut()
        (desk / "out/cutouts.csv").write_bytes("\ufefffile;keep\r\none.png;no\r\n".encode())
        cut()
        assert names(desk / "out/left-out") == ["one.png"]

    def test_a_name_is_no_formula(self, desk):
        (desk / "photos/one.png").rename(desk / "photos/=1+1.png")
        cut()
        table = rows()
        assert table["./=1+1.png"]["photo"] == "./=1+1.png"
        Path("out/cutouts.csv").write_text("file,keep\n./=1+1.png,no\n", encoding="utf-8")
        cut()
        assert names(desk / "out/left-out") == ["=1+1.png"]

    def test_a_table_with_mistakes_changes_nothing(self, desk):
        cut()
        decide(one="maybe", two="perhaps")
        before = (desk / "out/cutouts.csv").read_bytes()
        with refused(SourceError, "cutouts-table-invalid") as caught:
            cut()
        assert len(caught.value.problems) == 2
        assert (desk / "out/cutouts.csv").read_bytes() == before

    def test_photographs_are_added(self, desk):
        cut()
        write_photo(desk / "photos/new.png", figure(100, 70))
        report = cut()
        assert (report.done, report.cutouts) == (1, 4)

    @pytest.mark.slow
    def test_a_run_that_was_stopped_goes_on(self, desk):
        for number in range(8):
            write_photo(desk / f"photos/many-{number}.png", figure(500, 400), seed=number)
        words = ("cutout", "photos", "out", "--model", "net.onnx", "--device", "cpu")
        with start(*words) as process:
            records = desk / "out/.fgbgpack-cutout"
            while process.poll() is None and not (records.is_dir() and any(records.glob("*.json"))):
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate()
        assert process.returncode == 130, told
        assert "run the same command again" in told
        done = len(list(records.glob("*.json")))
        assert 0 < done < 12
        report = cut()
        assert (report.done, report.cutouts) == (12 - done, 11)


class TestRefusals:
    def test_a_broken_photograph_keeps_none_of_the_others_back(self, desk):
        (desk / "photos/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
        with refused(SourceError, "picture-not-decodable") as caught:
            cut()
        assert "broken.jpg" in caught.value.problems[0]
        assert len(rows()) == 4
        (desk / "photos/broken.jpg").unlink()
        assert cut().done == 0

    def test_a_folder_with_other_things(self, desk):
        (desk / "out").mkdir()
        (desk / "out/mine.txt").write_text("mine")
        with refused(SpecError, "output-not-cutouts"):
            cut()
        with refused(SpecError, "output-is-file"):
            cut_out("photos", "net.onnx", model="net.onnx")

    @pytest.mark.skipif(os.name != "posix", reason="locks of folders")
    def test_one_at_a_time(self, desk):
        cut()
        with locked(desk / "out", "mine"), refused(DatasetError, "dataset-locked"):
            cut()

    def test_no_photographs(self, desk):
        with refused(SourceError, "folder-missing"):
            cut_out("nowhere", "out", model="net.onnx")

    def test_folders_are_looked_at_before_the_network(self, desk, monkeypatch):
        monkeypatch.setenv("FGBGPACK_MODELS", str(desk / "no networks"))
        lacking = {"model": "isnet-general-use"}
        with refused(SourceError, "folder-missing"):
            cut_out("nowhere", "out", **lacking)
        with refused(SpecError, "output-is-file"):
            cut_out("photos", "net.onnx", **lacking)
        with refused(SpecError, "output-not-cutouts"):
            cut_out("photos", "photos", **lacking)
        with refused(DepthModelError, "model-file-missing"):
            cut_out("photos", "out", **lacking)
        assert not (desk / "out").exists()


class TestCommand:
    def test_json(self, desk):
        printed = run(
            "cutout", "photos", "out", "--model", "net.onnx", "--device", "cpu", "--only-good", "--json"
        )
        assert printed.exit_code == 0, printed.output
        report = json.loads(printed.stdout)
        assert (report["cutouts"], report["used"], report["flagged"]) == (3, 1, 3)
        assert report["foregrounds"] == "out/foregrounds"

    def test_text(self, desk):
        printed = run("cutout", "photos", "out", "--model", "net.onnx", "--device", "cpu")
        assert printed.exit_code == 0, printed.output
        assert "3 cut-outs of 4 photographs" in printed.stdout
        assert "nothing 1, several 1, tiny 1" in printed.stdout

    def test_failures(self, desk):
        redness(desk / "wrong.onnx", card=card(output={"name": "depth"}))
        assert failure("cutout", "photos", "out", "--model", "wrong.onnx") == (5, "card-invalid")
        assert failure("cutout", "photos", "out", "--model", "nothing") == (5, "model-unknown")
        assert failure("cutout", "nowhere", "out", "--model", "net.onnx") == (3, "folder-missing")
        assert failure("cutout", "photos", "out", "--device", "abacus") == (2, "options-invalid")

"""Licences, authors and addresses of imported pictures: from COCO's files, and from sources.csv."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from annotated_sets import Coco, penn_fudan, picture, yolo
from PIL import Image
from pyarrow import parquet
from refusals import refused
from sample_folders import Events, write_samples
from typer.testing import CliRunner

from fgbgpack import open_dataset
from fgbgpack.cards import write_cards
from fgbgpack.cli import app
from fgbgpack.dataset.explanation import explain
from fgbgpack.document import NAME
from fgbgpack.errors import RecipeMismatchError, SourceError
from fgbgpack.export import export
from fgbgpack.pipeline import ImportSpec, convert, import_folder, scan, verify
from fgbgpack.source_info import PictureCredit

BY_SA = "http://creativecommons.org/licenses/by-sa/2.0/"
FLICKR = "http://farm9.staticflickr.com/8186/1_z.jpg"
COCO_URL = "http://images.cocodataset.org/train2017/000000000009.jpg"
NOTHING = PictureCredit()


def licensed() -> Coco:
    """A set as COCO states licences and addresses."""
    coco = Coco()
    coco.licenses = [
        {"id": 4, "name": "Attribution-ShareAlike License", "url": BY_SA},
        {"id": 0, "name": "MIT", "url": "https://opensource.org/license/mit"},
    ]
    coco.images[0] |= {
        "license": 4,
        "flickr_url": FLICKR,
        "coco_url": COCO_URL,
        "date_captured": "2013-11-14",
    }
    coco.images[1] |= {"license": 0, "coco_url": COCO_URL}
    return coco


def imported(root: Path, **options):
    """The dataset of a folder, and the notices of its import."""
    events, out = Events(), root.parent / "out.zarr"
    import_folder(out, ImportSpec(str(root), **options), on_event=events)
    return open_dataset(out), events.notices


def test_licences_of_coco(tmp_path):
    ds, notices = imported(licensed().write(tmp_path / "coco"))
    assert ds.credits == [
        PictureCredit(BY_SA, None, FLICKR),
        PictureCredit("MIT (https://opensource.org/license/mit)", None, COCO_URL),
    ]
    assert "no licence is stated" not in notices
    assert ds.document.imported.credits == ("sources/license", "sources/url")
    assert verify(tmp_path / "out.zarr").sound
    found = explain(ds, 0)["imported"]
    assert (found["license"], found["author"], found["url"]) == (BY_SA, None, FLICKR)
    shown = CliRunner().invoke(app, ["explain", str(tmp_path / "out.zarr"), "0"]).output
    assert BY_SA in shown
    assert FLICKR in shown


def test_a_table_says_it_better_cell_by_cell(tmp_path):
    root = licensed().write(tmp_path / "coco")
    (root / "sources.csv").write_text("file,license,author\np7.png,CC0-1.0,Ada\ntrain/p9.png,,Grace\n")
    (root / "train/sources.csv").write_text("file,author\np7.png,Ada Lovelace\n")
    ds, _ = imported(root)
    assert ds.credits == [
        PictureCredit("CC0-1.0", "Ada Lovelace", FLICKR),
        PictureCredit("MIT (https://opensource.org/license/mit)", "Grace", COCO_URL),
    ]


@pytest.mark.parametrize("place", ["", "pictures/", "pictures/deep/"])
@pytest.mark.parametrize("layout", ["coco", "yolo", "parquet", "instance-masks", "files"])
def test_tables_are_read_alike_in_all_sets(tmp_path, layout, place):
    """In the root, beside the pictures, and in between."""
    root, credit = tmp_path / "set", PictureCredit("CC0-1.0", "Ada", "https://example.org/7")
    if layout == "coco":
        Coco().write(root, pictures="pictures/deep/train")
        places, name = ("", "pictures/", "pictures/deep/train/"), "p7.png"
    elif layout == "yolo":
        yolo(root, {"p7": "", "p9": ""}, part="deep/train")
        places, name = ("", "images/", "images/deep/train/"), "p7.png"
    elif layout == "parquet":
        (root / "pictures/deep").mkdir(parents=True)
        file = io.BytesIO()
        Image.fromarray(picture(0)).save(file, "PNG")
        columns = {"image": [{"bytes": file.getvalue(), "path": f"{name}.png"} for name in ("p7", "p9")]}
        parquet.write_table(pa.table(columns), root / "pictures/deep/0.parquet")
        places, name = ("", "pictures/", "pictures/deep/"), "p7.png"
    elif layout == "instance-masks":
        penn_fudan(root)
        places, name = ("", "PNGImages/", "PNGImages/"), "Fudan00000.png"
    else:
        write_samples(root, ("deep/p7", "deep/p9"), depth=False)
        places, name = ("", "images/", "images/deep/"), "p7.png"
    at = places[("", "pictures/", "pictures/deep/").index(place)]
    (root / at / "sources.csv").write_text(
        f"file,license,author,url\n{name},CC0-1.0,Ada,https://example.org/7\n"
    )
    ds, notices = imported(root)
    assert ds.credits == [credit, *([NOTHING] * (len(ds) - 1))]
    assert f"no licence is stated for {len(ds) - 1} of {len(ds)} pictures" in notices
    assert scan(ImportSpec(str(root))).ignored == 0


def test_categories_in_the_root(tmp_path):
    root = tmp_path / "pf"
    penn_fudan(root)
    (root / "sources.csv").write_text(
        "file,category\nPNGImages/Fudan00000.png,dog\nFudan00002.png,cat\nx.png,cow\n"
    )
    ds, notices = imported(root)
    assert ds.categories == ("dog", "", "cat")
    assert "x.png" in notices
    assert ds.document.imported.credits == ()
    assert ds.credits == [NOTHING] * 3


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ("file,category\np7.png,dog\n", "it is for pictures of instances"),
        ("file,cut\np7.png,left\n", "the column 'cut'"),
        ("file,license\np7.png,MIT\ntrain/p7.png,MIT\n", "train/p7.png is on line 2 too"),
        (f"file,license\np7.png,{'x' * 1001}\n", "1,001 characters"),
        ("license\nMIT\n", "no column 'file'"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path, table, word):
    root = Coco().write(tmp_path / "coco")
    (root / "sources.csv").write_text(table)
    with refused(SourceError, "credits-invalid") as caught:
        imported(root)
    assert "sources.csv" in str(caught.value) or "p7.png" in str(caught.value)
    assert word in str(caught.value)


def test_a_name_that_several_pictures_have(tmp_path):
    write_samples(tmp_path / "it", ("a/1", "b/1"), depth=False)
    table = tmp_path / "it/sources.csv"
    table.write_text("file,license\n1.png,MIT\n")
    with refused(SourceError, "credits-invalid", r"1.png is the name of 2 pictures"):
        imported(tmp_path / "it")
    table.write_text("file,license\nb/1.png,MIT\n")
    assert [one.license for one in imported(tmp_path / "it")[0].credits] == [None, "MIT"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda coco: coco.images[0].update(license=9), ("image 7", "unknown licence 9", "add it there")),
        (lambda coco: coco.images[0].update(license=[1]), ("image 7", "unknown licence [1]")),
        (lambda coco: coco.licenses.append(coco.licenses[0]), ("licence 4", "twice")),
        (lambda coco: coco.licenses[0].update(name=5), ("licence 4", "no id, name and address")),
    ],
)
def test_licences_of_coco_that_are_none(tmp_path, change, words):
    coco = licensed()
    change(coco)
    with refused(SourceError, "annotations-invalid") as caught:
        imported(coco.write(tmp_path / "coco"))
    assert len(caught.value.problems) == 1
    for word in ("instances_train.json", *words):
        assert word in caught.value.problems[0]


@pytest.mark.parametrize("licences", [None, [], [{"id": 0, "name": "", "url": ""}]])
def test_numbers_of_licences_that_tools_write_for_none(tmp_path, licences):
    coco = Coco()
    coco.licenses = licences
    coco.images[0] |= {"license": 0, "flickr_url": "", "coco_url": None}
    coco.images[1] |= {"license": None, "flickr_url": 5}
    ds, notices = imported(coco.write(tmp_path / "coco"))
    assert ds.credits == [NOTHING] * 2
    assert ("1 picture with the id of a licence" in notices) == (not licences)


def test_other_licences_are_another_dataset(tmp_path):
    coco = licensed()
    root = coco.write(tmp_path / "coco")
    imported(root)
    coco.images[0]["license"] = 0
    coco.write(root)
    with refused(RecipeMismatchError, "dataset-differs", "licences"):
        imported(root)


def test_cards_exports_and_copies_have_them(tmp_path):
    ds, _ = imported(licensed().write(tmp_path / "coco"))
    cards = write_cards(str(tmp_path / "out.zarr"))
    card = (tmp_path / "out.zarr/DATACARD.md").read_text(encoding="utf-8")
    assert "| CC-BY-SA-2.0 | 1 |" in card
    assert "| MIT | 1 |" in card
    assert f"<{FLICKR}>" in card
    assert any("require the same licence" in line for line in cards.findings)
    convert(tmp_path / "out.zarr", tmp_path / "it.h5")
    assert open_dataset(tmp_path / "it.h5").credits == ds.credits
    export(ds, tmp_path / "again", to="coco")
    document = json.loads((tmp_path / "again/annotations/instances_all.json").read_text())
    assert [one["name"] for one in document["licenses"]] == [one.license for one in ds.credits]
    assert [one["license"] for one in document["images"]] == [1, 2]
    assert (document["images"][0]["flickr_url"], document["images"][1]["coco_url"]) == (FLICKR, COCO_URL)
    import_folder(tmp_path / "again.zarr", ImportSpec(str(tmp_path / "again")))
    assert open_dataset(tmp_path / "again.zarr").credits == ds.credits


def test_a_licence_that_is_damaged_is_found(tmp_path):
    imported(licensed().write(tmp_path / "coco"))
    path = tmp_path / "out.zarr/sources/license/c/0/0"
    path.write_bytes(path.read_bytes()[::-1])
    assert {fault.array for fault in verify(tmp_path / "out.zarr").faults} == {"sources/license"}


def test_what_was_created_has_its_credits_in_its_sources(tmp_path, pictures):
    from fgbgpack import create

    create(tmp_path / "it.zarr", pictures.spec())
    ds = open_dataset(tmp_path / "it.zarr")
    assert ds.credits is None
    assert NAME not in ds.document.nodes

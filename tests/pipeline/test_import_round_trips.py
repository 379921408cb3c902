"""What comes back of datasets that are exported and imported, by format and by kind of dataset."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from annotated_sets import as_imported
from builders import Pictures, depth_of, write_depth_model
from exports import export_document
from refusals import refused
from sample_folders import Events, write_samples

from fgbgpack import create, open_dataset
from fgbgpack.errors import SourceError, SpecError
from fgbgpack.export import export
from fgbgpack.pipeline import ImportSpec, import_folder, scan, verify

#: What formats hold of a sample beside its picture and its objects.
HOLDS = {"folder": {"mask", "depth"}, "parquet": {"mask", "depth"}, "coco": {"depth"}, "yolo": set()}
#: What the foregrounds of a kind show, and the split that is exported.
KINDS = ("plain", "categories", "scenes", "crowded")
SPLIT = "mine"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Open datasets by their kinds: references, one with categories and depth, and scenes with categories, of
    no to three persons and chairs with depth, or of 16. Two are to be exported with a split.
    """
    root = tmp_path_factory.mktemp("originals")
    plain, classed = Pictures(root / "plain"), Pictures(root / "classed")
    (classed.foregrounds / "sources.csv").write_text("file,category\nf0.png,chair\nf1.png,person\n")
    depth = depth_of(write_depth_model(root))
    few = {"samples": 24, "objects": "1-3", "empty": 0.2, "foreground_height": "6-12", "truncate": 0.3}
    specs = {
        "plain": plain.spec(),
        "categories": classed.spec(depth=depth),
        "scenes": classed.spec(depth=depth, **few),
        "crowded": classed.spec(samples=6, objects=16, foreground_height="6-12"),
    }
    found = {}
    for kind, spec in specs.items():
        create(root / f"{kind}.zarr", spec)
        found[kind] = open_dataset(root / f"{kind}.zarr")
    for kind in ("categories", "scenes"):
        count = len(found[kind])
        found[kind].save_split(SPLIT, {"train": range(count * 3 // 4), "val": range(count * 3 // 4, count)})
    return found


def round_trip(ds, folder: Path, to: str, **options):
    """The dataset that an export of another is imported as, and what is said of it."""
    split = SPLIT if SPLIT in ds.splits else None
    export(ds, folder, to=to, split=split, **options)
    events, out = Events(), folder.with_suffix(".zarr")
    import_folder(out, ImportSpec(str(folder)), on_event=events)
    assert f"--from {to}" in events.notices
    return open_dataset(out), events.notices


def shown(ds, sample: int, *, with_hidden: bool) -> tuple[np.ndarray, list[str]]:
    """The instances of a sample, and the categories of its objects; with those of which nothing is seen, or
    numbered without them. The one object of a reference is where its mask is.
    """
    names = [name or "foreground" for name in ds.categories or ("",)]
    if ds.has_objects and with_hidden:
        categories = ds.objects.category[sample]
        return ds.instance[sample], [names[number] for number in categories if number >= 0]
    if ds.has_objects:
        instance, numbers = as_imported(ds, sample)
        return instance, [names[number] for number in numbers]
    of_foregrounds = ds.document.sources.category_numbers
    foreground = int(ds.placements.foreground[sample])
    name = names[of_foregrounds[foreground]] if len(names) > 1 else names[0]
    return (ds.mask[sample] > 127).astype(np.uint8), [name]


def assert_near(found: np.ndarray, expected: np.ndarray, mapping: dict) -> None:
    """Depth is within half a step of its pixels, and of float16."""
    step = (mapping["high"] - mapping["low"]) / (2 ** mapping["bits"] - 1)
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    assert (np.abs(found - expected) <= 0.5001 * step + np.abs(expected) * 2.0**-11).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", HOLDS)
def test_what_comes_back(tmp_path, originals, to, kind):
    ds = originals[kind]
    again, notices = round_trip(ds, tmp_path / "it", to)
    assert again.has_depth == (ds.has_depth and "depth" in HOLDS[to])
    assert "gnored" not in notices.replace("Ignored 1 file that is no picture, mask or depth map.", "")
    np.testing.assert_array_equal(again.image[:], ds.image[:])
    if "mask" in HOLDS[to]:
        np.testing.assert_array_equal(again.mask[:], ds.mask[:])
    elif to == "coco":
        expected = ds.instance[:] > 0 if ds.has_objects else ds.mask[:] > 127
        np.testing.assert_array_equal(again.mask[:], np.where(expected, 255, 0))
    if again.has_depth:
        assert_near(again.depth[:], ds.depth[:], export_document(tmp_path / "it")["depth"]["mapping"])
        for name in ("quantity", "unit"):
            assert again.depth.attrs[name] == ds.depth.attrs[name]
    has_parts = SPLIT in ds.splits
    parts = again.split("imported") if has_parts else {}
    assert {name: some.tolist() for name, some in parts.items()} == (
        {name: some.tolist() for name, some in ds.split(SPLIT).items()} if has_parts else {}
    )
    if (to, kind) == ("folder", "plain"):
        assert not again.has_objects
        return
    shares = []
    for sample in range(len(ds)):
        instance, categories = shown(ds, sample, with_hidden=to == "folder")
        found = [again.categories[number] or "foreground" for number in again.objects.category[sample]]
        found = found[: int((again.objects.category[sample] >= 0).sum())]
        assert found == categories
        if to == "yolo":  # a polygon each: pieces of one object are joined
            shares.append((again.instance[sample] == instance).mean())
        else:
            np.testing.assert_array_equal(again.instance[sample], instance)
    if to == "yolo":
        assert np.median(shares) > 0.99
        assert min(shares) > 0.9
    elif to == "folder" and ds.has_objects:
        np.testing.assert_array_equal(
            again.objects.visible, ds.objects.visible[:, : again.objects.visible.shape[1]]
        )
    assert verify(tmp_path / "it.zarr").sound


def test_a_folder_that_was_imported_comes_back_again(tmp_path, originals):
    first, _ = round_trip(originals["scenes"], tmp_path / "one", "folder")
    second, _ = round_trip(first, tmp_path / "two", "folder")
    assert second.names == first.names
    assert second.categories == first.categories
    for name in ("image", "mask", "instance"):
        np.testing.assert_array_equal(getattr(second, name)[:], getattr(first, name)[:])
    for name in ("category", "box", "visible"):
        np.testing.assert_array_equal(getattr(second.objects, name), getattr(first.objects, name))


def test_names_that_spreadsheets_would_change_come_back(tmp_path):
    names = ["007", "=1+1", "'a", "b", "nan", "u/-2"]
    write_samples(tmp_path / "in", names)
    import_folder(tmp_path / "first.zarr", ImportSpec(str(tmp_path / "in"), depths="none"))
    first = open_dataset(tmp_path / "first.zarr")
    again, _ = round_trip(first, tmp_path / "it", "folder")
    assert again.names == first.names
    assert sorted(again.names) == sorted(names)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, originals) -> Path:
    """Scenes with depth in a folder of two parts, not to be changed."""
    folder = tmp_path_factory.mktemp("exported") / "it"
    export(originals["scenes"], folder, to="folder", split=SPLIT)
    return folder


def test_one_part_comes_back_alone(tmp_path, originals, exported):
    import_folder(tmp_path / "it.zarr", ImportSpec(str(exported / "val")))
    again, samples = open_dataset(tmp_path / "it.zarr"), originals["scenes"].split(SPLIT)["val"]
    for name in ("image", "mask", "instance"):
        np.testing.assert_array_equal(getattr(again, name)[:], getattr(originals["scenes"], name)[samples])
    assert (again.has_depth, list(again.splits)) == (True, [])


@pytest.mark.parametrize(
    ("fields", "objects", "notice"),
    [
        (("image", "mask"), None, "no pictures of instances tell them apart"),
        (("image", "instance"), 38, ""),
        (("image",), None, "No masks are imported"),
    ],
    ids=["without-instances", "without-masks", "pictures"],
)
def test_some_fields_come_back(tmp_path, originals, fields, objects, notice):
    again, notices = round_trip(originals["scenes"], tmp_path / "it", "folder", fields=fields)
    assert notice in notices
    assert again.has_objects == (objects is not None)
    mask = originals["scenes"].mask[:] if "mask" in fields else np.zeros(again.mask.shape, np.uint8)
    if objects:
        mask = np.where(originals["scenes"].instance[:] > 0, 255, 0)
        assert (again.objects.category >= 0).sum() == objects
    np.testing.assert_array_equal(again.mask[:], mask)


def test_depth_that_is_not_wanted_is_ignored_and_named(tmp_path, originals, exported):
    events = Events()
    spec = ImportSpec(str(exported), depths="none")
    assert scan(spec, on_event=events).ignored == 24
    assert "Ignored 24 files: 24 pictures or depth maps." in events.notices
    export(originals["scenes"], tmp_path / "coco", to="coco")
    (tmp_path / "coco/notes.md").write_text("")
    assert scan(ImportSpec(str(tmp_path / "coco"), depths="none"), on_event=events).ignored == 25
    assert "Ignored 25 files: 24 pictures or depth maps (in depth/), 1 other." in events.notices
    shutil.copytree(exported / "val/instance", tmp_path / "in/instance")
    write_samples(tmp_path / "in", ["a"])
    assert scan(ImportSpec(str(tmp_path / "in"), layout="files"), on_event=events).ignored == 6
    assert "Ignored 6 files: 6 pictures or depth maps (in instance/)." in events.notices


@pytest.mark.parametrize("to", ["coco-panoptic", "npz", "webdataset", "mds", "litdata"])
def test_formats_that_are_not_imported_are_named(tmp_path, originals, to):
    export(originals["plain"], tmp_path / "it", to=to)
    with refused(SourceError, "layout-not-imported") as caught:
        scan(ImportSpec(str(tmp_path / "it")))
    assert f"--to {to}" in str(caught.value)
    assert "folder, coco, yolo, parquet" in str(caught.value)


def change(row: int, column: str, text: str) -> Callable[[list[list[str]]], None]:
    """A change of one cell of a table."""

    def apply(rows: list[list[str]]) -> None:
        rows[row][rows[0].index(column)] = text

    return apply


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (change(1, "objects", "{"), "annotations-invalid", "line 2: objects are '{'"),
        (change(1, "objects", "[1]"), "annotations-invalid", "expected a list"),
        (
            change(2, "objects", '[{"category": 3}]'),
            "annotations-invalid",
            "line 3: an object has a category",
        ),
        (change(2, "objects", '[{"visible": 7}]'), "annotations-invalid", "numbers from 0 to 1"),
        (change(1, "objects", "[]"), "instance-unknown", "instance/b0/000000.png"),
        (change(1, "file_name", "image/x.png"), "picture-missing", "train/image/x.png is not there"),
        (lambda rows: rows[3].pop(), "annotations-invalid", "line 4: 7 cells; expected 8"),
        (change(0, "mask_file_name", "other"), "annotations-invalid", "the columns"),
    ],
)
def test_a_table_that_was_changed(tmp_path, exported, spoil, code, words):
    folder = Path(shutil.copytree(exported, tmp_path / "it"))
    table = folder / "train/metadata.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    spoil(rows)
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    with refused(SourceError, code) as caught:
        import_folder(tmp_path / "it.zarr", ImportSpec(str(folder)))
    assert words in str(caught.value)


def test_a_table_that_is_no_text(tmp_path, exported):
    folder = Path(shutil.copytree(exported, tmp_path / "it"))
    train = folder / "train/metadata.csv"
    train.write_bytes(b"\xef\xbb\xbf" + train.read_bytes())  # as spreadsheets save it
    assert scan(ImportSpec(str(folder))).samples == 24
    with (folder / "val/metadata.csv").open("ab") as file:
        file.write(b"\xff")
    with refused(SourceError, "annotations-unreadable") as caught:
        scan(ImportSpec(str(folder)))
    assert "val/metadata.csv: it cannot be read" in str(caught.value)


def test_samples_whose_files_are_gone_are_left_out_where_that_is_asked_for(tmp_path, exported):
    folder = Path(shutil.copytree(exported, tmp_path / "it"))
    gone = min((folder / "val/mask").rglob("*.png"))
    gone.unlink()
    with refused(SourceError, "mask-missing") as caught:
        scan(ImportSpec(str(folder)))
    assert str(gone.relative_to(folder)) in str(caught.value)
    plan = scan(ImportSpec(str(folder), skip_unmatched=True))
    assert (plan.samples, plan.left_out, plan.ignored, plan.parts) == (23, 3, 0, {"train": 18, "val": 5})


def test_a_folder_without_its_table_is_one_of_files(tmp_path, originals):
    export(originals["scenes"], tmp_path / "it", to="folder")
    (tmp_path / "it/metadata.csv").unlink()
    plan = scan(ImportSpec(str(tmp_path / "it")))
    assert (plan.layout, plan.samples, plan.objects) == ("files", 24, None)
    with refused(SourceError, "layout-differs"):
        scan(ImportSpec(str(tmp_path / "it"), layout="folder"))
    with pytest.raises(SpecError):
        ImportSpec("x", layout="folder", masks="m")

"""Sets of annotated pictures become datasets with instances: what is exported and imported is the same."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import naive
import numpy as np
import pyarrow as pa
import pytest
from annotated_sets import HEIGHT, WIDTH, Coco, as_imported, penn_fudan, picture, yolo
from PIL import Image
from pyarrow import parquet
from refusals import refused
from sample_folders import TINY_SHARDS, Events

from fgbgpack import create, open_dataset
from fgbgpack.cards import write_cards
from fgbgpack.dataset.explanation import explain
from fgbgpack.dataset.stats import Stats
from fgbgpack.document import CATEGORIES
from fgbgpack.errors import RecipeMismatchError, SourceError, SpecError
from fgbgpack.export import export
from fgbgpack.pipeline import ImportSpec, convert, import_folder, pack, repair, scan, verify
from fgbgpack.visual.info import describe
from fgbgpack.visual.layers_picture import render_layers
from fgbgpack.visual.preview import render_preview
from fgbgpack.visual.stats_picture import render_stats


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """24 scenes of no to three persons and chairs, with a split, open."""
    from builders import Pictures

    root = tmp_path_factory.mktemp("scenes")
    pictures = Pictures(root / "pictures")
    for name, category in (("f0.png", "chair"), ("f1.png", "person")):
        (pictures.foregrounds / category).mkdir()
        (pictures.foregrounds / name).rename(pictures.foregrounds / category / name)
    options = {"samples": 24, "objects": "1-3", "empty": 0.2, "foreground_height": "6-12", "truncate": 0.3}
    create(root / "it.zarr", pictures.spec(classes=True, **options))
    ds = open_dataset(root / "it.zarr")
    ds.save_split("mine", {"train": range(18), "val": range(18, 24)})
    return ds


def boxes_of(instance: np.ndarray, count: int) -> list[list[int]]:
    return [naive.box(instance == number) for number in range(1, count + 1)]


def assert_same(ds, again, numbers: dict[int, int], *, exact_mask=False) -> None:
    """The samples of a dataset that was exported and imported, whose sample is ``numbers`` of its own."""
    names = [ds.categories.index(name) for name in again.categories]
    for sample, original in numbers.items():
        instance, categories = as_imported(ds, original)
        np.testing.assert_array_equal(again.image[sample], ds.image[original])
        np.testing.assert_array_equal(again.instance[sample], instance)
        objects = again[sample].objects
        count = int((objects.category >= 0).sum())
        assert [names[number] for number in objects.category[:count]] == categories
        assert objects.box[:count].tolist() == boxes_of(instance, count)
        assert (objects.box[count:] == -1).all()
        mask = again.mask[sample]
        if exact_mask:
            np.testing.assert_array_equal(mask, ds.mask[original])
        else:
            np.testing.assert_array_equal(mask, np.where(instance > 0, 255, 0))


def numbers_in(names) -> dict[int, int]:
    """The number that each sample had, by the name of its picture."""
    return {sample: int(name.rpartition("/")[2]) for sample, name in enumerate(names)}


@pytest.mark.slow
@pytest.mark.parametrize("segmentation", ["rle", "polygons"])
def test_coco_comes_back_as_it_was(tmp_path, scenes, segmentation):
    export(scenes, tmp_path / "coco", to="coco", split=scenes.split("mine"), segmentation=segmentation)
    events = Events()
    done = import_folder(tmp_path / "again.zarr", ImportSpec(str(tmp_path / "coco")), on_event=events)
    again = open_dataset(tmp_path / "again.zarr")
    assert "--from coco" in events.notices
    assert (done.layout, done.parts) == ("coco", {"train": 18, "val": 6})
    assert again.names[:2] == ["train/00000000", "train/00000001"]
    assert again.categories == ("chair", "person")
    assert_same(scenes, again, numbers_in(again.names))
    assert {name: len(some) for name, some in again.split("imported").items()} == {"train": 18, "val": 6}
    assert again.split("imported")["val"].tolist() == list(range(18, 24))
    assert verify(tmp_path / "again.zarr").sound


def test_yolo_comes_back_nearly_as_it_was(tmp_path, scenes):
    """One polygon of a label may go from piece to piece, and where it does so its edges are drawn."""
    export(scenes, tmp_path / "yolo", to="yolo", split=scenes.split("mine"))
    import_folder(tmp_path / "again.zarr", ImportSpec(str(tmp_path / "yolo")))
    again = open_dataset(tmp_path / "again.zarr")
    assert again.categories == ("chair", "person")
    overlaps = []
    for sample, original in numbers_in(again.names).items():
        instance, categories = as_imported(scenes, original)
        assert again.objects.category[sample][: len(categories)].tolist() == categories
        for number in range(1, len(categories) + 1):
            one, other = again.instance[sample] == number, instance == number
            overlaps.append((one & other).sum() / (one | other).sum())
    assert np.median(overlaps) == 1
    assert min(overlaps) > 0.9
    assert {name: len(some) for name, some in again.split("imported").items()} == {"train": 18, "val": 6}


@pytest.mark.slow
def test_parquet_comes_back_as_it_was(tmp_path, scenes):
    export(scenes, tmp_path / "hub", to="parquet", split=scenes.split("mine"), shard_samples=7)
    import_folder(tmp_path / "again.zarr", ImportSpec(str(tmp_path / "hub")))
    again = open_dataset(tmp_path / "again.zarr")
    assert again.names[:2] == ["00000000", "00000001"]
    assert again.categories == ("chair", "person")
    assert_same(scenes, again, numbers_in(again.names), exact_mask=True)
    # What was imported is exported as it is, too.
    export(again, tmp_path / "twice", to="parquet")
    import_folder(tmp_path / "twice.zarr", ImportSpec(str(tmp_path / "twice")))
    twice = open_dataset(tmp_path / "twice.zarr")
    assert twice.names == again.names
    for name in ("image", "mask", "instance"):
        np.testing.assert_array_equal(getattr(twice, name)[:], getattr(again, name)[:])
    np.testing.assert_array_equal(twice.objects.box, again.objects.box)


@pytest.mark.slow
def test_parquet_of_one_foreground_a_sample_has_one_object(tmp_path, pictures):
    create(tmp_path / "it.zarr", pictures.spec())
    ds = open_dataset(tmp_path / "it.zarr")
    export(ds, tmp_path / "hub", to="parquet", category="person")
    import_folder(tmp_path / "again.zarr", ImportSpec(str(tmp_path / "hub")))
    again = open_dataset(tmp_path / "again.zarr")
    assert again.categories == ("person",)
    np.testing.assert_array_equal(again.mask[:], ds.mask[:])
    np.testing.assert_array_equal(again.instance[:], (ds.mask[:] > 127).astype(np.uint8))
    np.testing.assert_array_equal(again.objects.count, np.ones(len(ds)))


@pytest.mark.parametrize(("mode", "step"), [(None, 1), ("P", 1), ("I;16", 700)])
def test_pictures_of_instances_are_told_apart(tmp_path, mode, step):
    maps = penn_fudan(tmp_path / "pf", mode=mode, step=step)
    done = import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "pf")))
    assert (done.layout, done.objects) == ("instance-masks", 5)
    ds = open_dataset(tmp_path / "it.zarr")
    for i, expected in enumerate(maps):
        np.testing.assert_array_equal(ds.image[i], picture(i))
        np.testing.assert_array_equal(ds.instance[i], expected)
        np.testing.assert_array_equal(ds.mask[i], np.where(expected > 0, 255, 0))
        count = int(expected.max())
        assert ds.objects.box[i, :count].tolist() == boxes_of(expected, count)
    assert ds.objects.category.tolist() == [[0, 0, -1], [-1, -1, -1], [0, 0, 0]]
    assert ds.categories == ("",)


def test_what_is_not_known_of_objects_is_not_there(tmp_path):
    penn_fudan(tmp_path / "pf")
    import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "pf")))
    ds = open_dataset(tmp_path / "it.zarr")
    assert set(ds[0].arrays) == {"image", "mask", "instance", "objects/category", "objects/box"}
    for name in ("foreground", "visible", "flip"):
        with refused(SpecError, "field-missing"):
            getattr(ds.objects, name)
    assert ds.objects[1:].count.tolist() == [0, 3]
    assert ds.where(category=0).tolist() == [0, 2]
    assert ds.where(category=0, name="Fudan00002").tolist() == [2]
    np.testing.assert_array_equal(ds.bbox[1], [0, 0, 0, 0])
    assert ds.area.tolist() == [int((ds.mask[i] > 0).sum()) for i in range(3)]


def test_objects_are_of_the_category_of_their_folder(tmp_path):
    maps = penn_fudan(tmp_path / "pf")
    for folder in ("PNGImages", "PedMasks"):
        for category, numbers in (("dog", [1]), ("person", [0, 2])):
            (tmp_path / "pf" / folder / category).mkdir()
            for number in numbers:
                for path in (tmp_path / "pf" / folder).glob(f"Fudan0000{number}*"):
                    path.rename(path.parent / category / path.name)
    import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "pf")))
    ds = open_dataset(tmp_path / "it.zarr")
    assert ds.names == ["dog/Fudan00001", "person/Fudan00000", "person/Fudan00002"]
    assert ds.categories == ("dog", "person")
    assert ds.where(category="person").tolist() == [1, 2]
    stats = ds.stats()
    assert stats.counts.categories == {"dog": 0, "person": 5}
    assert stats.counts.objects == (1, 0, 1, 1)
    boxes = [*boxes_of(maps[0], 2), *boxes_of(maps[2], 3)]
    heights = [bottom - top for top, _, bottom, _ in boxes]
    assert stats.sizes.objects == 5
    assert (stats.sizes.height[0], stats.sizes.height[-1]) == (min(heights), max(heights))
    assert stats.sizes.visible is None


def test_a_table_says_the_categories_of_pictures(tmp_path):
    penn_fudan(tmp_path / "pf")
    table = "file,category\nFudan00000.png,dog\nFudan00002.png,cat\n"
    (tmp_path / "pf/PNGImages/sources.csv").write_text(table)
    import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "pf")))
    ds = open_dataset(tmp_path / "it.zarr")
    assert ds.categories == ("dog", "", "cat")
    assert (ds.where(category="dog").tolist(), ds.where(category="cat").tolist()) == ([0], [2])
    (tmp_path / "pf/PNGImages/sources.csv").write_text("file,cut\nFudan00000.png,left\n")
    with refused(SourceError, "credits-invalid", "cut"):
        scan(ImportSpec(str(tmp_path / "pf")))


def test_other_names_of_categories_are_another_dataset(tmp_path):
    coco = Coco()
    spec = ImportSpec(str(coco.write(tmp_path / "coco")))
    import_folder(tmp_path / "it.zarr", spec)
    coco.categories[0]["name"] = "wolf"
    coco.write(tmp_path / "coco")
    with refused(RecipeMismatchError, "dataset-differs", "annotations"):
        import_folder(tmp_path / "it.zarr", spec)


def test_groups_are_in_the_mask_and_no_objects(tmp_path):
    events = Events()
    import_folder(tmp_path / "it.zarr", ImportSpec(str(Coco().write(tmp_path / "coco"))), on_event=events)
    ds = open_dataset(tmp_path / "it.zarr")
    assert "iscrowd" in events.notices
    assert ds.names == ["p7", "p9"]
    assert ds.categories == ("dog", "person")
    assert ds.objects.category.tolist() == [[1, 0], [-1, -1]]
    assert ds.objects.box[0].tolist() == [[3, 2, 10, 8], [3, 12, 9, 20]]
    assert ds.instance[1].max() == 0
    np.testing.assert_array_equal(ds.mask[1][:, :2], 255)
    assert ds.mask[1][:, 2:].max() == 0
    assert ds.splits == {}


def test_pictures_are_told_from_files_of_the_same_name(tmp_path):
    root = Coco().write(tmp_path / "coco", pictures="images/train")
    for other in ("depth/train", "images/val", "masks"):
        (root / other).mkdir(parents=True)
        for name in ("p7.png", "p9.png"):
            Image.fromarray(picture(50)).save(root / other / name)
    with refused(SourceError, "values-in-colour", "--depths none"):
        scan(ImportSpec(str(root), layout="coco"))
    import_folder(tmp_path / "it.zarr", ImportSpec(str(root), layout="coco", depths="none"))
    np.testing.assert_array_equal(open_dataset(tmp_path / "it.zarr").image[:], [picture(7), picture(9)])


def test_where_outlines_overlap_the_smaller_is_seen(tmp_path):
    coco = Coco()
    coco.annotations = [
        coco.rectangle(1, image=7, category=18, left=10, top=5, right=14, bottom=9),
        coco.rectangle(2, image=7, category=18, left=5, top=2, right=25, bottom=18),
    ]
    import_folder(tmp_path / "it.zarr", ImportSpec(str(coco.write(tmp_path / "coco"))))
    ds = open_dataset(tmp_path / "it.zarr")
    assert (ds.instance[0] == 1).sum() == 16
    assert (ds.instance[0] == 2).sum() == 20 * 16 - 16


def test_categories_of_one_name_are_one_in_all_files(tmp_path):
    train, val = Coco(), Coco()
    val.images = val.images[:1]
    val.images[0] |= {"id": 1, "file_name": "q.png"}
    val.categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "cat"}]
    val.annotations = [
        val.rectangle(1, image=1, category=2, left=1, top=1, right=4, bottom=4),
        val.rectangle(2, image=1, category=1, left=8, top=1, right=14, bottom=4),
    ]
    train.write(tmp_path / "coco")
    val.write(tmp_path / "coco", "annotations/instances_val.json", pictures="val")
    plan = scan(ImportSpec(str(tmp_path / "coco")))
    assert plan.categories == {"dog": 1, "person": 2, "cat": 1}
    assert plan.parts == {"train": 2, "val": 1}
    import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "coco")))
    ds = open_dataset(tmp_path / "it.zarr")
    assert ds.categories == ("dog", "person", "cat")
    assert ds.objects.category.tolist() == [[1, 0], [-1, -1], [2, 1]]
    assert ds.split("imported")["val"].tolist() == [2]


def test_instances_are_resized_by_nearest_pixels_and_boxes_follow(tmp_path):
    maps = penn_fudan(tmp_path / "pf")
    for fit in ("stretch", "crop"):
        spec = ImportSpec(str(tmp_path / "pf"), width=15, height=15, fit=fit)
        import_folder(tmp_path / f"{fit}.zarr", spec)
        ds = open_dataset(tmp_path / f"{fit}.zarr")
        for i, original in enumerate(maps):
            box = (5, 0, 25, 20) if fit == "crop" else None
            found = Image.fromarray(original).resize((15, 15), Image.Resampling.NEAREST, box=box)
            np.testing.assert_array_equal(ds.instance[i], np.asarray(found))
            np.testing.assert_array_equal(ds.mask[i] > 127, np.asarray(found) > 0)
            count = int(original.max())
            assert ds.objects.box[i, :count].tolist() == boxes_of(np.asarray(found), count)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_usual_tables_of_pictures_are_imported(tmp_path):
    """Columns as ``datasets`` writes them: pictures and masks, and a column of others."""
    data = tmp_path / "hub/data"
    data.mkdir(parents=True)
    masks = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    masks[0, :, 10:], masks[1, :, 11:] = 255, 255
    table = pa.table(
        {
            "img": [{"bytes": png(picture(i)), "path": None} for i in (0, 1)],
            "mask": [{"bytes": png(mask), "path": None} for mask in masks],
            "thumbnail": [{"bytes": png(picture(5, 2, 2)), "path": "t.png"} for i in (0, 1)],
            "id": ["x", "y"],
        }
    )
    parquet.write_table(table, data / "train-00000-of-00001.parquet")
    events = Events()
    import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "hub")), on_event=events)
    ds = open_dataset(tmp_path / "it.zarr")
    assert "thumbnail" in events.notices
    assert not ds.has_objects
    assert ds.fields == ("image", "mask")
    assert ds.names == ["train/00000000", "train/00000001"]
    np.testing.assert_array_equal(ds.image[:], [picture(0), picture(1)])
    np.testing.assert_array_equal(ds.mask[:], masks)


def test_objects_of_tables_may_be_lists_of_structures_with_shares(tmp_path):
    (tmp_path / "hub").mkdir()
    stored = np.zeros((HEIGHT, WIDTH), np.uint8)
    stored[2:5, 3:9], stored[10:12, 1:4] = 40, 7
    objects = [
        {"category": "cat", "instance": 40, "visible": 0.5},
        {"category": "dog", "instance": 7, "visible": 1.0},
    ]
    table = pa.table(
        {
            "image": [{"bytes": png(picture(0)), "path": "a.png"}],
            "instance": [{"bytes": png(stored), "path": "a.png"}],
            "objects": [objects],
        }
    )
    parquet.write_table(table, tmp_path / "hub/0.parquet")
    import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "hub")))
    ds = open_dataset(tmp_path / "it.zarr")
    assert ds.categories == ("cat", "dog")
    np.testing.assert_array_equal(ds.instance[0], np.where(stored == 40, 1, np.where(stored == 7, 2, 0)))
    assert ds.objects.visible.tolist() == [[0.5, 1.0]]
    assert ds.objects.box[0].tolist() == [[2, 3, 5, 9], [10, 1, 12, 4]]
    assert ds.where(visible=(0.4, 0.6)).tolist() == [0]


def test_declared_labels_of_one_name_are_one_category(tmp_path):
    (tmp_path / "hub").mkdir()
    stored = np.zeros((HEIGHT, WIDTH), np.uint8)
    stored[2:5, 3:9], stored[10:12, 1:4], stored[15:17, 1:4] = 1, 2, 3
    label = {"feature": {"names": ["dog", "dog ", "cat"], "_type": "ClassLabel"}, "_type": "Sequence"}
    stated = {"info": {"features": {"image": {"_type": "Image"}, "objects": {"category": label}}}}
    table = pa.table(
        {
            "image": [{"bytes": png(picture(0)), "path": "a.png"}],
            "instance": [{"bytes": png(stored), "path": "a.png"}],
            "objects": [{"category": [2, 1, 0], "instance": [1, 2, 3]}],
        }
    )
    table = table.replace_schema_metadata({"huggingface": json.dumps(stated)})
    parquet.write_table(table, tmp_path / "hub/0.parquet")
    import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "hub")))
    ds = open_dataset(tmp_path / "it.zarr")
    assert ds.categories == ("dog", "cat")
    assert ds.objects.category.tolist() == [[1, 0, 0]]


@pytest.mark.slow
def test_an_import_that_was_stopped_goes_on(tmp_path, scenes):
    export(scenes, tmp_path / "coco", to="coco", segmentation="rle")
    spec = ImportSpec(str(tmp_path / "coco"), chunk=4)
    import_folder(tmp_path / "whole.zarr", spec, layout=TINY_SHARDS)
    shutil.copytree(tmp_path / "whole.zarr", tmp_path / "part.zarr")
    whole = content_of(tmp_path / "whole.zarr")
    for name in ("instance/c/1/0/0", "objects/box/c/0/0/0"):
        (tmp_path / "part.zarr" / name).unlink()
    done = import_folder(tmp_path / "part.zarr", spec, layout=TINY_SHARDS)
    assert 0 < done.written < len(scenes)
    assert content_of(tmp_path / "part.zarr") == whole
    assert import_folder(tmp_path / "part.zarr", spec, layout=TINY_SHARDS).written == 0


def content_of(root: Path) -> dict[str, bytes]:
    """The files of a dataset by their paths in it."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_changed_annotations_are_another_dataset(tmp_path):
    coco = Coco()
    spec = ImportSpec(str(coco.write(tmp_path / "coco")))
    import_folder(tmp_path / "it.zarr", spec)
    coco.annotations[0]["segmentation"][0][0] += 1
    coco.write(tmp_path / "coco")
    with refused(RecipeMismatchError, "dataset-differs", "annotations"):
        import_folder(tmp_path / "it.zarr", spec)
    import_folder(tmp_path / "it.zarr", spec, overwrite=True)


def test_labels_beside_no_polygon_are_empty(tmp_path):
    names = "names:\n  0: dog\n  1: person"
    root = yolo(tmp_path / "yolo", {"a": "1 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n", "b": ""}, names)
    (root / "labels/train/b.txt").unlink()
    import_folder(tmp_path / "it.zarr", ImportSpec(str(root)))
    ds = open_dataset(tmp_path / "it.zarr")
    assert ds.objects.category.tolist() == [[1], [-1]]
    assert ds.objects.box[0, 0].tolist() == [2, 3, 10, 15]
    assert (ds.instance[0] == 1).sum() == 8 * 12
    assert ds.store.reader(CATEGORIES).layout.shape == (2, 1)
    assert (
        json.loads((tmp_path / "it.zarr/zarr.json").read_text())["attributes"]["fgbgpack"]["imported"][
            "layout"
        ]
        == "yolo"
    )


@pytest.mark.slow
def test_everything_tells_the_same_categories(tmp_path):
    import_folder(tmp_path / "it.zarr", ImportSpec(str(Coco().write(tmp_path / "coco"))))
    ds = open_dataset(tmp_path / "it.zarr")
    described = describe(ds)
    assert (described["objects"], described["scenes"]) == (2, False)
    assert described["categories"] == ["dog", "person"]
    assert explain(ds, 0)["objects"] == [
        {"category": "person", "box": [3, 2, 10, 8], "visible": None},
        {"category": "dog", "box": [3, 12, 9, 20], "visible": None},
    ]
    assert explain(ds, 1)["objects"] == []
    write_cards(str(tmp_path / "it.zarr"))
    card = (tmp_path / "it.zarr/DATACARD.md").read_text(encoding="utf-8")
    assert "2 categories: dog, person" in card
    stats = ds.stats()
    assert Stats.from_dict(stats.to_dict()) == stats
    for picture_of in (render_stats(stats, "it"), render_preview(ds, rows=2), render_layers(ds, 0)):
        assert picture_of.size > (100, 100)
    for form in ("it.h5", "it.zip"):
        (convert if form == "it.h5" else pack)(tmp_path / "it.zarr", tmp_path / form)
        again = open_dataset(tmp_path / form)
        assert again.categories == ("dog", "person")
        np.testing.assert_array_equal(again.objects.box, ds.objects.box)
        np.testing.assert_array_equal(again.instance[:], ds.instance[:])


def test_objects_that_are_damaged_are_found(tmp_path):
    import_folder(tmp_path / "it.zarr", ImportSpec(str(Coco().write(tmp_path / "coco"))))
    path = tmp_path / "it.zarr/objects/category/c/0/0"
    path.write_bytes(path.read_bytes()[::-1])
    found = verify(tmp_path / "it.zarr")
    assert [fault.array for fault in found.faults] == ["objects/category"]
    left = repair(tmp_path / "it.zarr").left
    assert [one.fault.array for one in left] == ["objects/category"]
    assert "fgbgpack import" in left[0].advice

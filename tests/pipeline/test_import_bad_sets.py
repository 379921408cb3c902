"""What is wrong with a set of annotated pictures is one error that names the file, and what to do."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from annotated_sets import HEIGHT, WIDTH, Coco, instances, penn_fudan, picture, yolo
from PIL import Image
from pyarrow import parquet

from fgbgpack import open_dataset
from fgbgpack.errors import FgbgError, SourceError, SpecError
from fgbgpack.pipeline import ImportSpec, import_folder, scan

LABEL = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n"


def error_of(folder: Path, **options) -> FgbgError:
    """What an import of a folder ends with, before anything is written."""
    out = folder.parent / "out.zarr"
    with pytest.raises(FgbgError) as caught:
        import_folder(out, ImportSpec(str(folder), **options))
    assert not out.exists()
    return caught.value


def one_line(error: FgbgError, code: str, *words: str) -> None:
    """There is one problem, of this code, and these words are in it."""
    assert isinstance(error, SourceError)
    assert error.code == code
    assert len(error.problems) == 1, error.problems
    for word in words:
        assert word in error.problems[0]


#: What may stand where something else is expected.
OTHERS = (None, True, 0, -1, 1e308, "x", [], {}, [[]], 10**19, 1.5, [1, 2, 3, 4, 5, 6], [None] * 6)


def with_a_change(document: dict, rng: random.Random) -> dict:
    """A document in which one value, wherever it is, is another one or is not there."""
    node = document
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
            node = node[key]
        elif rng.random() < 0.2:
            del node[key]
            return document
        else:
            node[key] = rng.choice(OTHERS)
            return document


class TestCoco:
    @pytest.fixture
    def coco(self):
        return Coco()

    def test_a_picture_that_is_not_there(self, coco, tmp_path):
        coco.write(tmp_path / "coco")
        (tmp_path / "coco/train/p9.png").unlink()
        error = error_of(tmp_path / "coco")
        one_line(error, "picture-missing", "instances_train.json", "p9.png", "put it there")

    def test_an_unknown_category(self, coco, tmp_path):
        coco.annotations[1]["category_id"] = 5
        error = error_of(coco.write(tmp_path / "coco"))
        one_line(error, "annotations-invalid", "instances_train.json", "annotation 2", "category 5", "add it")

    @pytest.mark.parametrize(
        "polygon",
        [[1, 2, 3, 4, 5], [1, 2, 3, 4], [], *([1, 2, 3, 4, 5, other] for other in ("6", True, None))],
    )
    def test_a_polygon_that_is_none(self, coco, tmp_path, polygon):
        coco.annotations[0]["segmentation"] = [polygon]
        error = error_of(coco.write(tmp_path / "coco"))
        place = "annotation 1 of train/p7.png"
        one_line(error, "annotations-invalid", "instances_train.json", place, "three corners")

    @pytest.mark.parametrize(
        ("corners", "words"),
        [
            ([1, 2, 3, 4, 5, 1e308], ("a corner at y = 1e+308", "far outside")),
            ([1, 2, 3, 4, 61, 4], ("a corner at x = 61", "far outside", "30x20 pixels")),
            ([1, 2, -31, 4, 5, 4], ("a corner at x = -31", "far outside")),
            ([30, 2, 40, 2, 40, 9], ("polygons outside of its picture", "30x20 pixels")),
            ([1, -5, 9, -5, 9, 0], ("polygons outside of its picture",)),
        ],
    )
    def test_a_polygon_that_is_not_of_its_picture(self, coco, tmp_path, corners, words):
        coco.annotations[0]["segmentation"] = [corners]
        error = error_of(coco.write(tmp_path / "coco"))
        one_line(error, "annotations-invalid", "annotation 1 of train/p7.png", *words, "fix or remove")

    def test_a_polygon_beyond_the_edge_is_cut_there(self, coco, tmp_path):
        """Its slanted edges stay where they are: corners are not moved to the edge of the picture."""
        corners = [20, 2, 40, 12, 20, 12]
        coco.annotations[1]["segmentation"] = [corners]
        import_folder(tmp_path / "it.zarr", ImportSpec(str(coco.write(tmp_path / "coco"))))
        # The corners of the lines y = 2 + (x - 20) / 2 and y = 12, cut at x = 30, where y is 7.
        y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        inside = (x > 20) & (y < 12) & (y > 2 + (x - 20) / 2)
        found = open_dataset(tmp_path / "it.zarr").instance[0] == 2
        assert (found != inside).sum() <= 10  # of pixels that the edge goes through
        assert found[11, 29]
        assert not found[5, 29]

    def test_an_annotation_id_that_is_there_twice(self, coco, tmp_path):
        coco.annotations[1]["id"] = 1
        error = error_of(coco.write(tmp_path / "coco"))
        one_line(error, "annotations-invalid", "annotation id 1 is there twice", "another")

    @pytest.mark.parametrize(("name", "key"), [("images", "width"), ("images", "id"), ("categories", "id")])
    def test_numbers_that_are_none(self, coco, tmp_path, name, key):
        path = coco.write(tmp_path / "coco") / "annotations/instances_train.json"
        for number in (10**19, -1, 1.5, True, None) if key == "width" else (1.5, True, None):
            getattr(coco, name)[0][key] = number
            path.write_text(json.dumps(coco.document))
            error = error_of(tmp_path / "coco")
            assert error.code == "annotations-invalid"
            assert ("pixels" if name == "images" else "no id and name") in error.problems[0]

    @pytest.mark.parametrize(
        ("old", "new", "word"),
        [
            ('"area": 42', '"area": NaN', "at 'NaN"),
            ('"area": 42', '"area": -Infinity', "at 'Infinity"),
            ('"id": 7', '"id": 1e999', "out of range"),
            ('"id": 7', f'"id": {"9" * 5000}', "out of range"),
            ('"area": 42', f'"area": {"[" * 100_000}', "too deep"),
            ("]}", "", "truncated"),
        ],
    )  # fmt: skip
    def test_numbers_and_files_that_are_broken(self, coco, tmp_path, old, new, word):
        path = coco.write(tmp_path / "coco") / "annotations/instances_train.json"
        whole = path.read_text()
        path.write_text(new.join(whole.rsplit(old, 1)))
        error = error_of(tmp_path / "coco")
        assert error.code in ("annotations-unreadable", "annotations-invalid")
        assert "instances_train.json" in error.problems[0]
        assert word in error.problems[0]

    def test_a_mark_of_utf8_is_passed_over(self, coco, tmp_path):
        path = coco.write(tmp_path / "coco") / "annotations/instances_train.json"
        path.write_text(path.read_text(), encoding="utf-8-sig")
        assert scan(ImportSpec(str(tmp_path / "coco"))).samples == 2

    @pytest.mark.parametrize("outline", [None, [], {}, "abc"])
    def test_an_annotation_without_an_outline(self, coco, tmp_path, outline):
        coco.annotations[0]["segmentation"] = outline
        error = error_of(coco.write(tmp_path / "coco"))
        assert (error.code, len(error.problems)) == ("annotations-invalid", 1)

    def test_an_image_id_that_is_there_twice(self, coco, tmp_path):
        coco.images[1]["id"] = 7
        coco.annotations.pop()
        error = error_of(coco.write(tmp_path / "coco"))
        one_line(error, "annotations-invalid", "instances_train.json", "image id 7", "another")

    def test_an_annotation_of_no_image(self, coco, tmp_path):
        coco.annotations[0]["image_id"] = 70
        error = error_of(coco.write(tmp_path / "coco"))
        one_line(error, "annotations-invalid", "instances_train.json", "annotation 1", "image 70")

    def test_a_picture_in_two_parts(self, coco, tmp_path):
        coco.write(tmp_path / "coco")
        coco.write(tmp_path / "coco", "annotations/instances_val.json")
        error = error_of(tmp_path / "coco")
        assert error.code == "annotations-invalid"
        assert "train/p7.png" in error.problems[0]

    @pytest.mark.parametrize("counts", [[1, 2], [-1, HEIGHT * WIDTH + 1], "P" * 100, 5])
    def test_run_lengths_that_are_none(self, coco, tmp_path, counts):
        coco.annotations[2]["segmentation"]["counts"] = counts
        error = error_of(coco.write(tmp_path / "coco"))
        assert error.code == "annotations-invalid"
        assert "p9.png" in error.problems[0]

    def test_run_lengths_of_another_size(self, coco, tmp_path):
        coco.annotations[2]["segmentation"]["size"] = [WIDTH, HEIGHT]
        error = error_of(coco.write(tmp_path / "coco"))
        one_line(error, "annotations-invalid", "p9.png", f"[{HEIGHT}, {WIDTH}]")

    def test_a_picture_of_another_size_than_its_annotations_say(self, coco, tmp_path):
        coco.write(tmp_path / "coco")
        for name in ("p7", "p9"):
            Image.fromarray(picture(1, HEIGHT, WIDTH + 1)).save(tmp_path / f"coco/train/{name}.png")
        error = error_of(tmp_path / "coco")
        assert error.code == "size-differs"
        assert "p7.png" in error.problems[0]
        assert f"{WIDTH}x{HEIGHT}" in error.problems[0]

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"images": 1, "annotations": [], "categories": []}'])
    def test_a_file_that_is_no_set(self, coco, tmp_path, text):
        coco.write(tmp_path / "coco")
        (tmp_path / "coco/annotations/instances_train.json").write_text(text)
        error = error_of(tmp_path / "coco")
        assert error.code in ("annotations-invalid", "annotations-unreadable")
        assert "instances_train.json" in error.problems[0]

    def test_more_objects_than_a_map_of_instances_holds(self, coco, tmp_path):
        coco.annotations = [
            coco.rectangle(i, image=7, category=3, left=1, top=1, right=3, bottom=3) for i in range(1, 257)
        ]
        error = error_of(coco.write(tmp_path / "coco"))
        one_line(error, "annotations-invalid", "p7.png", "256 objects", "255")

    @pytest.mark.slow
    def test_whatever_a_file_holds_the_answer_is_an_error_or_a_set(self, coco, tmp_path):
        coco.write(tmp_path / "coco")
        path = tmp_path / "coco/annotations/instances_train.json"
        whole, rng, codes = path.read_text(), random.Random(5), Counter()
        for _ in range(150):
            path.write_text(json.dumps(with_a_change(json.loads(whole), rng)))
            try:
                codes["none"] += scan(ImportSpec(str(tmp_path / "coco")), workers=1).samples > 0
            except SourceError as error:
                codes[error.code] += 1
        assert codes["none"] > 10
        assert codes["annotations-invalid"] > 50

    def test_all_that_is_wrong_is_told_together(self, coco, tmp_path):
        coco.annotations[0]["category_id"] = 5
        coco.annotations[1]["segmentation"] = [[1, 2, 3]]
        coco.annotations[2]["image_id"] = 1
        assert len(error_of(coco.write(tmp_path / "coco")).problems) == 2


class TestYolo:
    def test_labels_of_boxes(self, tmp_path):
        error = error_of(yolo(tmp_path / "yolo", {"a": LABEL, "b": "0 0.5 0.5 0.2 0.2\n"}))
        one_line(error, "annotations-invalid", "labels/train/b.txt, line 1", "a box", "segmentation")

    @pytest.mark.parametrize(
        ("line", "word"),
        [
            ("2 0.1 0.1 0.5 0.1 0.5 0.5", "unknown category 2"),
            ("0 0.1 0.1 0.5 0.1 0.5", "polygon of 5 numbers"),
            ("0 0.1 0.1 0.5 0.1 0.5 1.5", "outside"),
            ("0 0.1 0.1 0.5 0.1 0.5 nan", "outside"),
            ("0 0.1 0.1 0.5 0.1 0.5 1e308", "outside"),
            ("dog 0.1 0.1 0.5 0.1 0.5 0.2", "no numbers"),
        ],
    )
    def test_a_label_that_is_none(self, tmp_path, line, word):
        error = error_of(yolo(tmp_path / "yolo", {"a": f"{LABEL}{line}\n"}))
        one_line(error, "annotations-invalid", "a.txt, line 2", word)

    @pytest.mark.parametrize("names", ["names: 3", "names: [a, a]", "names: []", "names: {1: a}"])
    def test_names_that_are_none(self, tmp_path, names):
        error = error_of(yolo(tmp_path / "yolo", {"a": LABEL}, names))
        one_line(error, "annotations-invalid", "data.yaml", "names")

    def test_a_file_that_is_no_yaml(self, tmp_path):
        root = yolo(tmp_path / "yolo", {"a": LABEL}, "names: [a, b]\nextra: [")
        one_line(error_of(root), "annotations-unreadable", "data.yaml")

    def test_a_folder_that_is_not_there(self, tmp_path):
        root = yolo(tmp_path / "yolo", {"a": LABEL})
        (root / "data.yaml").write_text("train: pictures/train\nval: images/train\nnames: [a]\n")
        one_line(error_of(root), "picture-missing", "data.yaml", "pictures/train")

    def test_a_list_with_a_picture_that_is_not_there(self, tmp_path):
        root = yolo(tmp_path / "yolo", {"a": LABEL})
        (root / "train.txt").write_text("./images/train/a.png\n./images/train/b.png\n")
        (root / "data.yaml").write_text("train: train.txt\nnames: [a]\n")
        one_line(error_of(root), "picture-missing", "train.txt, line 2", "b.png")


class TestInstances:
    def test_a_picture_of_instances_of_another_size(self, tmp_path):
        penn_fudan(tmp_path / "pf")
        Image.fromarray(instances(1, 2, HEIGHT, WIDTH + 4)).save(tmp_path / "pf/PedMasks/Fudan00001_mask.png")
        one_line(error_of(tmp_path / "pf"), "size-differs", "Fudan00001_mask.png", f"{WIDTH}x{HEIGHT}")

    def test_a_picture_of_instances_in_colours(self, tmp_path):
        penn_fudan(tmp_path / "pf")
        Image.fromarray(picture(1)).save(tmp_path / "pf/PedMasks/Fudan00001_mask.png")
        one_line(error_of(tmp_path / "pf"), "instance-in-colour", "Fudan00001_mask.png", "palette")

    def test_more_numbers_than_a_map_of_instances_holds(self, tmp_path):
        penn_fudan(tmp_path / "pf")
        many = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)
        Image.fromarray(many).save(tmp_path / "pf/PedMasks/Fudan00001_mask.png")
        one_line(error_of(tmp_path / "pf"), "annotations-invalid", "Fudan00001_mask.png", "255")

    def test_a_picture_without_its_instances(self, tmp_path):
        penn_fudan(tmp_path / "pf")
        (tmp_path / "pf/PedMasks/Fudan00001_mask.png").unlink()
        error = error_of(tmp_path / "pf")
        assert error.code == "mask-missing"
        assert "Fudan00001" in error.problems[0]
        plan = scan(ImportSpec(str(tmp_path / "pf"), skip_unmatched=True))
        assert (plan.samples, plan.left_out) == (2, 1)

    def test_folders_that_are_not_recognised(self, tmp_path):
        penn_fudan(tmp_path / "pf")
        (tmp_path / "pf/PedMasks").rename(tmp_path / "pf/other")
        error = error_of(tmp_path / "pf", layout="instance-masks")
        assert error.code == "layout-differs"
        spec = ImportSpec(str(tmp_path / "pf"), layout="instance-masks", images="PNGImages", masks="other")
        assert scan(spec).objects == 5


class TestParquet:
    @pytest.fixture
    def table(self):
        file = io.BytesIO()
        Image.fromarray(picture(0)).save(file, "PNG")
        shown = io.BytesIO()
        Image.fromarray(instances(0, 2)).save(shown, "PNG")
        return {
            "image": [{"bytes": file.getvalue(), "path": "a.png"}] * 2,
            "instance": [{"bytes": shown.getvalue(), "path": "a.png"}] * 2,
            "objects": [{"category": ["a", "b"], "instance": [1, 2]}] * 2,
        }

    def write(self, root: Path, table: dict, name="train-00000-of-00001.parquet") -> Path:
        root.mkdir(exist_ok=True)
        parquet.write_table(pa.table(table), root / name)
        return root

    def test_a_file_that_is_cut_off(self, table, tmp_path):
        root = self.write(tmp_path / "hub", table)
        path = root / "train-00000-of-00001.parquet"
        path.write_bytes(path.read_bytes()[:-20])
        one_line(error_of(root), "annotations-unreadable", path.name, "get it again")

    def test_bytes_that_are_changed(self, table, tmp_path):
        root = self.write(tmp_path / "hub", table)
        path = root / "train-00000-of-00001.parquet"
        data = bytearray(path.read_bytes())
        data[20:200] = bytes(180)
        path.write_bytes(bytes(data))
        codes = "annotations-unreadable", "picture-not-decodable", "picture-format-unknown"
        assert error_of(root).code in codes

    def test_other_columns_in_one_file(self, table, tmp_path):
        self.write(tmp_path / "hub", table)
        del table["objects"]
        root = self.write(tmp_path / "hub", table, "val-00000-of-00001.parquet")
        one_line(error_of(root), "annotations-invalid", "val-00000-of-00001.parquet", "other columns")

    def test_no_column_of_pictures(self, tmp_path):
        root = self.write(tmp_path / "hub", {"text": ["a", "b"]})
        one_line(error_of(root), "annotations-invalid", "train-00000", "--images")

    def test_a_column_that_is_not_there(self, table, tmp_path):
        root = self.write(tmp_path / "hub", table)
        one_line(error_of(root, layout="parquet", images="photo"), "annotations-invalid", "photo", "image")

    def test_a_row_without_a_picture(self, table, tmp_path):
        table["image"] = [table["image"][0], {"bytes": None, "path": "b.png"}]
        one_line(error_of(self.write(tmp_path / "hub", table)), "picture-missing", "row 1", "b.png", "embed")

    def test_pixels_of_no_object(self, table, tmp_path):
        table["objects"] = [table["objects"][0], {"category": ["a"], "instance": [2]}]
        one_line(error_of(self.write(tmp_path / "hub", table)), "instance-unknown", "row 1", "number 1")

    @pytest.mark.parametrize("numbers", [[1, 1], [0, 1], [1]])
    def test_numbers_of_objects_that_are_none(self, table, tmp_path, numbers):
        table["objects"] = [table["objects"][0], {"category": ["a", "b"], "instance": numbers}]
        one_line(error_of(self.write(tmp_path / "hub", table)), "annotations-invalid", "row 1", "instance")

    def test_objects_of_another_number_than_instances(self, table, tmp_path):
        table["objects"] = [{"category": ["a", "b"]}, {"category": ["a"]}]
        one_line(error_of(self.write(tmp_path / "hub", table)), "annotations-invalid", "row 1", "2 instances")


def test_masks_that_are_instances_are_told(tmp_path):
    """A folder of masks may hold either: what it holds is seen when they are read."""
    root = tmp_path / "it"
    penn_fudan(root, (3, 3, 3))
    (root / "PNGImages").rename(root / "images")
    (root / "PedMasks").rename(root / "masks")
    error = error_of(root)
    assert error.code == "mask-of-classes"
    assert "--from instance-masks" in error.message
    assert scan(ImportSpec(str(root), layout="instance-masks")).objects == 9


def test_a_folder_of_several_layouts_needs_a_word(tmp_path):
    root = Coco().write(tmp_path / "it")
    yolo(root, {"a": LABEL})
    error = error_of(root)
    assert error.code == "layout-ambiguous"
    assert [line.split(":")[0] for line in error.problems] == ["--from coco", "--from yolo"]
    assert scan(ImportSpec(str(root), layout="coco")).samples == 2


@pytest.mark.parametrize("layout", ["coco", "yolo", "parquet", "instance-masks"])
def test_a_folder_of_another_layout(tmp_path, layout):
    (tmp_path / "it/pictures").mkdir(parents=True)
    Image.fromarray(picture(0)).save(tmp_path / "it/pictures/a.png")
    error = error_of(tmp_path / "it", layout=layout)
    assert error.code == "layout-differs"
    assert layout in error.message


def test_options_that_do_not_go_together():
    with pytest.raises(SpecError) as caught:
        ImportSpec("x", layout="yolo", masks="m", images="i")
    assert len(caught.value.problems) == 2
    with pytest.raises(SpecError, match="--from"):
        ImportSpec("x", layout="voc")

"""What is exported for Ultralytics: labels that enclose the pixels of masks, and the list of parts."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import yaml
from exports import read_picture
from PIL import Image
from test_polygons import soft_masks

from fgbgpack import open_dataset
from fgbgpack.errors import SpecError
from fgbgpack.export import export, verify_export
from fgbgpack.export.objects import MASK_ABOVE
from fgbgpack.export.polygons import polygons_of
from fgbgpack.export.yolo import joined
from fgbgpack.pipeline import ImportSpec, Notice, import_folder


def labels_in(path, shape) -> list[tuple[int, np.ndarray]]:
    """The category and the pixels of each line, as the corners say."""
    height, width = shape
    found = []
    for line in path.read_text().splitlines():
        category, *corners = line.split()
        values = np.array(corners, float).reshape(-1, 2) * (width, height)
        places = np.rint(values).astype(int)
        np.testing.assert_allclose(values, places, atol=0.01)
        inside = naive.inside_polygon(places.ravel().tolist(), height, width)
        found.append((int(category), inside.astype(bool)))
    return found


@pytest.mark.parametrize("mask", soft_masks(), ids=["ring", "hips", "nested", "hair", "lace"])
def test_one_polygon_encloses_what_several_do(mask):
    inside = mask[::2, ::2] > MASK_ABOVE
    polygons = polygons_of(inside)
    assert len(polygons) > 1
    np.testing.assert_array_equal(naive.inside_polygon(joined(polygons), *inside.shape), inside)


def test_labels_are_the_masks_of_the_samples(tmp_path, depth_dataset):
    report = export(depth_dataset, tmp_path / "out", to="yolo", category="a 'person'")
    assert report.fields == ("image", "mask")
    ds = open_dataset(depth_dataset)
    for sample in range(len(ds)):
        pixels = read_picture(tmp_path / "out" / "images" / f"{sample:08d}.png")
        np.testing.assert_array_equal(pixels, ds.image[sample])
        ((category, inside),) = labels_in(tmp_path / "out" / "labels" / f"{sample:08d}.txt", pixels.shape[:2])
        assert category == 0
        np.testing.assert_array_equal(inside, ds.mask[sample] > MASK_ABOVE)
    assert yaml.safe_load((tmp_path / "out" / "data.yaml").read_text()) == {
        "train": "images", "val": "images", "names": {0: "a 'person'"}
    }  # fmt: skip
    checked = verify_export(tmp_path / "out")
    assert checked.sound, checked.faults


def test_parts_have_the_names_that_ultralytics_looks_for(tmp_path, dataset):
    told: list = []
    split = {"holdout": [0], "training": [1, 2], "validation": [3]}
    export(dataset, tmp_path / "a", to="yolo", split=split, on_event=told.append)
    said = yaml.safe_load((tmp_path / "a" / "data.yaml").read_text())
    assert said == {"train": "images/training", "val": "images/validation", "names": {0: "foreground"}}
    assert not [event for event in told if isinstance(event, Notice)]
    labels = tmp_path / "a" / "labels"
    found = {path.relative_to(labels).as_posix() for path in labels.rglob("*.txt")}
    assert found == {f"{part}/{sample:08d}.txt" for part, samples in split.items() for sample in samples}

    export(dataset, tmp_path / "b", to="yolo", split={"test": [0], "dev": [1]}, on_event=told.append)
    said = yaml.safe_load((tmp_path / "b" / "data.yaml").read_text())
    assert (said["train"], said["val"], said["test"]) == ("images/test", "images/dev", "images/test")
    (notice,) = [event for event in told if isinstance(event, Notice)]
    assert "train" in notice.message


def test_scenes_have_a_line_for_each_object_that_is_seen(scenes, tmp_path):
    ds = scenes
    export(ds, tmp_path / "out", to="yolo")
    for sample in range(len(ds)):
        instance = ds.instance[sample]
        found = labels_in(tmp_path / "out" / "labels" / f"{sample:08d}.txt", instance.shape)
        seen = [number for number in range(1, 256) if (instance == number).any()]
        assert len(found) == len(seen)
        for number, (_, inside) in zip(seen, found, strict=True):
            np.testing.assert_array_equal(inside, instance == number)


def test_where_nothing_is_seen_the_file_is_empty(tmp_path):
    # Alpha of many values, of which none counts as the object.
    pixels = np.arange(30, 102, dtype=np.uint8).reshape(8, 9)
    for name, picture in (("images", np.stack([pixels] * 3, axis=-1)), ("masks", pixels)):
        (tmp_path / "files" / name).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "files" / name / "0.png")
    import_folder(tmp_path / "faint.zarr", ImportSpec(str(tmp_path / "files")))
    export(tmp_path / "faint.zarr", tmp_path / "out", to="yolo")
    assert (tmp_path / "out" / "labels" / "00000000.txt").read_bytes() == b""
    assert verify_export(tmp_path / "out").sound


def test_damaged_labels_are_found(tmp_path, dataset):
    export(dataset, tmp_path / "out", to="yolo", samples=[0, 1])
    path = tmp_path / "out" / "labels" / "00000001.txt"
    path.write_bytes(b"0 1.2" + path.read_bytes()[5:])
    (fault,) = verify_export(tmp_path / "out").faults
    assert (fault.code, fault.key) == ("file-damaged", "labels/00000001.txt")


def test_all_problems_are_reported_together(tmp_path, depth_dataset):
    with pytest.raises(SpecError) as caught:
        export(depth_dataset, tmp_path / "out", to="yolo", fields=["image", "depth"], segmentation="rle")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--segmentation", "--fields"]
    with pytest.raises(SpecError) as caught:
        export(depth_dataset, tmp_path / "out", to="yolo", fields=["image"], category=" ")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--fields", "--category"]
    assert not (tmp_path / "out").exists()

"""What is exported for Ultralytics: labels that enclose the pixels of masks, and the list of parts."""

from __future__ import annotations

import json
from itertools import product

import naive
import numpy as np
import pytest
import yaml
from exports import read_picture
from other_tools import READERS, needs, printed_by
from PIL import Image
from test_polygons import soft_masks

from fgbgpack import open_dataset
from fgbgpack.errors import SpecError
from fgbgpack.export import export, verify_export
from fgbgpack.export.objects import MASK_ABOVE
from fgbgpack.export.polygons import polygons_of
from fgbgpack.export.yolo import _fractions, joined
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


#: Loads the parts of data sets as Ultralytics does to train, and saves what it has of each picture.
LOADS = """
    import json, sys
    from itertools import product
    from pathlib import Path
    import numpy as np
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset
    from ultralytics.utils import USER_CONFIG_DIR

    # It would fetch a font for the names of categories, to draw them.
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        (USER_CONFIG_DIR / name).touch()
    options = get_cfg(overrides={"mask_ratio": 1, "overlap_mask": False})
    arrays, said = {}, {}
    for kind, task, part in product(("pairs", "scenes"), ("detect", "segment"), ("train", "val")):
        data = check_det_dataset(f"{kind}/data.yaml", autodownload=False)
        found = YOLODataset(
            img_path=data[part], data=data, task=task, imgsz=33, augment=False, hyp=options, cache=False
        )
        for i, label in enumerate(found.labels):
            key = f"{kind} {task} {part} {Path(label['im_file']).stem}"
            said[key] = [data["names"][int(number)] for number in label["cls"][:, 0]]
            arrays[f"{key} boxes"] = label["bboxes"]
            arrays[f"{key} image"] = found.load_image(i)[0]
            if task == "segment":
                arrays[f"{key} masks"] = found[i]["masks"].numpy()
    np.savez("read.npz", **arrays)
    print(json.dumps(said))
"""


@pytest.mark.slow
@needs("ultralytics", "cv2", "torchvision", packages=READERS)
def test_ultralytics_loads_what_is_in_the_dataset(categorised, tmp_path):
    parts = {"train": np.array([0, 2, 3, 7, 10, 11]), "val": np.array([1, 5])}
    for kind, (ds, _) in categorised.items():
        export(ds, tmp_path / kind, to="yolo", split=parts)
    printed = printed_by(
        LOADS, cwd=tmp_path, packages=READERS,
        YOLO_CONFIG_DIR=tmp_path / "home", YOLO_OFFLINE=1, YOLO_VERBOSE=False,
    )  # fmt: skip
    # The labels that it caches in the folders are no matter.
    assert all(verify_export(tmp_path / kind).sound for kind in categorised)
    categories, arrays = json.loads(printed.splitlines()[-1]), np.load(tmp_path / "read.npz")
    assert len(categories) == 2 * 2 * sum(map(len, parts.values()))
    for (kind, (ds, category_of)), task in product(categorised.items(), ("detect", "segment")):
        for part, sample in ((part, sample) for part, samples in parts.items() for sample in samples):
            found = f"{kind} {task} {part} {sample:08d}"
            assert_loaded(found, categories, arrays, ds, category_of, sample)


def assert_loaded(found, categories, arrays, ds, category_of, sample) -> None:
    """Categories, boxes, pixels and masks of a picture are those of a sample."""
    made_of = ds.objects.foreground if ds.has_objects else ds.placements.foreground[:, None]
    foregrounds = [source.name for source in ds.document.sources.foregrounds]
    numbers = ds.instance[sample] if ds.has_objects else (ds.mask[sample] > MASK_ABOVE).astype(int)
    seen = [number for number in np.unique(numbers) if number]
    assert categories[found] == [category_of[foregrounds[made_of[sample, number - 1]]] for number in seen]
    # Its pictures are blue, green and red.
    np.testing.assert_array_equal(arrays[f"{found} image"], ds.image[sample][..., ::-1])
    boxes = np.array([centred_box(numbers == number) for number in seen]).reshape(-1, 4)
    size = np.array([ds.width, ds.height, ds.width, ds.height])
    np.testing.assert_allclose(arrays[f"{found} boxes"] * size, boxes, atol=1e-3)
    if "segment" in found and seen:
        top = (ds.width - ds.height) // 2  # pictures are made square
        masks = arrays[f"{found} masks"][:, top : top + ds.height]
        assert len(masks) == len(seen)
        for mask, number in zip(masks, seen, strict=True):
            assert_filled(mask > 0, numbers == number)


def centred_box(inside: np.ndarray) -> list[float]:
    """The middle, width and height of what is set."""
    rows, columns = np.nonzero(inside)
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    return [columns.min() + width / 2, rows.min() + height / 2, width, height]


def assert_filled(mask: np.ndarray, inside: np.ndarray) -> None:
    """OpenCV fills a polygon and its edges: to the right and below there is one pixel more."""
    assert mask[inside].all()
    if len(polygons_of(inside)) == 1:
        grown = np.zeros(inside.shape, bool)
        for down, right in product((0, 1), repeat=2):
            grown[down:, right:] |= inside[: inside.shape[0] - down, : inside.shape[1] - right]
        assert grown[mask].all()


@pytest.mark.parametrize("length", [3, 21, 33, 128, 640, 1000, 4321])
def test_fractions_give_their_pixels_where_what_is_behind_the_point_is_cut_off(length):
    texts = _fractions(length)
    for kind in (np.float32, np.float64):
        products = np.array([float(text) for text in texts], kind) * kind(length)
        np.testing.assert_array_equal(products.astype(int), np.arange(length + 1))
        assert (products - np.arange(length + 1) < 0.01).all()


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

"""What is exported for COCO panoptic segmentation: maps whose segments are those that the JSON describes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from exports import read_picture
from other_tools import READERS, needs, printed_by

from fgbgpack.errors import SpecError
from fgbgpack.export import export, verify_export
from fgbgpack.export.objects import MASK_ABOVE

CATEGORY = {"id", "name", "supercategory", "isthing", "color"}
SEGMENT = {"id", "category_id", "area", "bbox", "iscrowd"}


def segments_in(out, part="all") -> dict[int, tuple[np.ndarray, dict[int, dict]]]:
    """The ids of all pixels and the segments of each image, checked as the evaluation of COCO reads them."""
    said = json.loads((out / "annotations" / f"panoptic_{part}.json").read_text(encoding="utf-8"))
    images = {image["id"]: image for image in said["images"]}
    categories = {one["id"]: one for one in said["categories"]}
    assert all(one.keys() == CATEGORY for one in categories.values())
    assert len({tuple(one["color"]) for one in categories.values()} | {(0, 0, 0)}) == len(categories) + 1
    found = {}
    for annotation in said["annotations"]:
        assert annotation.keys() == {"image_id", "file_name", "segments_info"}
        colours = read_picture(out / "annotations" / f"panoptic_{part}" / annotation["file_name"])
        image = images[annotation["image_id"]]
        assert colours.shape == (image["height"], image["width"], 3)
        assert colours.dtype == np.uint8
        ids = colours.astype(np.int64) @ [1, 256, 256**2]
        segments = {segment["id"]: segment for segment in annotation["segments_info"]}
        # Each pixel is of one segment, 0 of none, and each segment is there.
        assert set(np.unique(ids)) == segments.keys()
        assert 0 not in segments
        for number, segment in segments.items():
            assert segment.keys() == SEGMENT
            assert segment["category_id"] in categories
            assert segment["iscrowd"] == 0
            rows, columns = np.nonzero(ids == number)
            assert segment["area"] == len(rows)
            left, top, width, height = segment["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
        found[annotation["image_id"]] = ids, segments
    assert found.keys() == images.keys()
    return found


def test_masks_are_one_thing_before_one_background(split_dataset, tmp_path):
    ds = split_dataset
    export(ds, tmp_path / "out", to="coco-panoptic", split="by-background", category="person")
    total = 0
    for part, samples in ds.split("by-background").items():
        found = segments_in(tmp_path / "out", part)
        assert list(found) == list(samples)
        for sample, (ids, segments) in found.items():
            np.testing.assert_array_equal(ids == 1, ds.mask[sample] > MASK_ABOVE)
            assert {number: one["category_id"] for number, one in segments.items()} == {1: 1, 256: 2}
            image = read_picture(tmp_path / "out" / "images" / part / f"{sample:08d}.png")
            np.testing.assert_array_equal(image, ds.image[sample])
        total += len(found)
    assert total == len(ds)
    said = json.loads((tmp_path / "out" / "annotations" / "panoptic_train.json").read_text())
    assert [(one["name"], one["isthing"]) for one in said["categories"]] == [("person", 1), ("background", 0)]
    assert verify_export(tmp_path / "out").sound


def test_segments_of_scenes_are_those_of_the_instance_maps(scenes, tmp_path):
    export(scenes, tmp_path / "out", to="coco-panoptic")
    found = segments_in(tmp_path / "out")
    assert list(found) == list(range(20))
    most = 0
    for sample, (ids, segments) in found.items():
        np.testing.assert_array_equal(np.where(ids == 256, 0, ids), scenes.instance[sample])
        most = max(most, len(segments))
    assert most == 4
    assert min(len(segments) for _, segments in found.values()) == 1


def test_things_may_be_called_as_the_background(dataset, tmp_path):
    export(dataset, tmp_path / "out", to="coco-panoptic", samples=[0], category="background")
    said = json.loads((tmp_path / "out" / "annotations" / "panoptic_all.json").read_text())
    names = [(one["name"], one["isthing"]) for one in said["categories"]]
    assert names == [("background", 1), ("background-2", 0)]


def test_masks_have_one_form(dataset, tmp_path):
    with pytest.raises(SpecError) as caught:
        export(dataset, tmp_path / "out", to="coco-panoptic", segmentation="rle")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--segmentation"]


#: What COCO's evaluation of panoptic segmentation says of some predictions.
EVALUATES = """
    import json, sys
    from panopticapi.evaluation import pq_compute

    if __name__ == "__main__":
        truth, *predictions = sys.argv[1:]
        print(json.dumps([pq_compute(truth, one, pred_folder=truth[:-5]) for one in predictions]))
"""


@pytest.mark.slow
@needs("panopticapi", packages=READERS)
def test_the_evaluation_of_coco_finds_the_segments(categorised, tmp_path):
    ds, _ = categorised["scenes"]
    export(ds, tmp_path / "out", to="coco-panoptic")
    truth, other = tmp_path / "out" / "annotations" / "panoptic_all.json", tmp_path / "other.json"
    said = json.loads(truth.read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in said["categories"]}
    # An object that is called something else is found in neither category.
    segments = (one for item in said["annotations"] for one in item["segments_info"])
    segment = next(one for one in segments if one["id"] == 1)
    was = segment["category_id"]
    others = (number for number in names if number != was and names[number] != "background")
    segment["category_id"] = next(others)
    other.write_text(json.dumps(said), encoding="utf-8")
    printed = printed_by(EVALUATES, truth, truth, other, cwd=tmp_path, packages=READERS)
    same, changed = json.loads(printed.splitlines()[-1])
    assert same["All"] == {"pq": 1, "sq": 1, "rq": 1, "n": 4}
    assert (same["Things"]["n"], same["Stuff"]["n"]) == (3, 1)
    worse = {int(number) for number, one in changed["per_class"].items() if one["pq"] < 1}
    assert worse == {was, segment["category_id"]}

"""What is exported as COCO, as pycocotools reads it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from exports import read_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sealing import edit_document

from fgbgpack import create, open_dataset
from fgbgpack.errors import MissingPackageError, SpecError
from fgbgpack.export import export
from fgbgpack.export.coco import SEGMENTATIONS, mask_outlines
from fgbgpack.export.objects import MASK_ABOVE
from fgbgpack.pipeline import ImportSpec, import_folder

# pycocotools meets NumPy 2 with a class of its own that is older.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


# --- masks -----------------------------------------------------------------------------------------


@st.composite
def masks(draw):
    """Some masks of one size, of every density, with runs from one pixel to all of them."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 17)), draw(st.integers(1, 17))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    is_set = random.random(shape) < draw(st.sampled_from([0, 0.02, 0.2, 0.5, 0.9, 1]))
    mask = np.where(is_set, *random.choice([[128, 127], [255, 0], [200, 100]]))
    times = 1, draw(st.sampled_from([1, 1, 2, 40])), draw(st.sampled_from([1, 3]))
    return np.kron(mask, np.ones(times)).astype(np.uint8)


def assert_outlined(mask: np.ndarray) -> None:
    """The outlines of (n, h, w) masks are what NumPy says of their pixels, and pycocotools decodes them."""
    for segmentation in SEGMENTATIONS:
        assert_outlined_so(mask, segmentation)


def assert_outlined_so(mask: np.ndarray, segmentation: str) -> None:
    outlines = mask_outlines(mask, segmentation)
    assert len(outlines) == len(mask)
    for is_foreground, outline in zip(mask > MASK_ABOVE, outlines, strict=True):
        if segmentation == "rle":
            assert outline["segmentation"]["size"] == list(is_foreground.shape)
            np.testing.assert_array_equal(coco_mask.decode(outline["segmentation"]), is_foreground)
        elif outline["segmentation"]:
            encoded = coco_mask.frPyObjects(outline["segmentation"], *is_foreground.shape)
            np.testing.assert_array_equal(coco_mask.decode(coco_mask.merge(encoded)), is_foreground)
        else:
            assert not is_foreground.any()
        rows, columns = np.nonzero(is_foreground)
        assert outline["area"] == len(rows)
        box = [0, 0, 0, 0]
        if len(rows):
            left, top = columns.min(), rows.min()
            box = [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
        assert outline["bbox"] == box
    assert json.loads(json.dumps(outlines)) == outlines


@pytest.mark.slow
@settings(max_examples=150)
@given(masks())
def test_outlines_of_masks(mask):
    assert_outlined(mask)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 7), (2, 7, 1), (3, 5, 9), (1, 3, 2000), (300, 40, 40)])
@pytest.mark.parametrize("value", [0, 127, 128, 255])
def test_outlines_of_one_value(shape, value):
    assert_outlined(np.full(shape, value, np.uint8))


def test_a_missing_pycocotools_is_named_before_anything_is_written(tmp_path, dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(MissingPackageError, match="Polygons"):
        export(dataset, tmp_path / "out", to="coco", segmentation="rle")
    assert not list(tmp_path.iterdir())
    # Polygons need nothing.
    assert export(dataset, tmp_path / "out", to="coco").written == 36


# --- the export ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["polygons", "rle"])
def exported(tmp_path_factory, depth_dataset, request):
    out = tmp_path_factory.mktemp("coco") / "all"
    export(depth_dataset, out, to="coco", segmentation=request.param)
    return out


@pytest.fixture(scope="module")
def coco(exported):
    return COCO(str(exported / "annotations" / "instances_all.json"))


def test_pycocotools_finds_the_masks_of_every_sample(coco, depth_dataset):
    truth = open_dataset(depth_dataset).to_numpy(["mask"])["mask"] > MASK_ABOVE
    assert sorted(coco.getImgIds()) == list(range(len(truth)))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["foreground"]
    for sample, binary in enumerate(truth):
        (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=[sample]))
        np.testing.assert_array_equal(coco.annToMask(annotation), binary)
        rows, columns = np.nonzero(binary)
        left, top, width, height = annotation["bbox"]
        assert (left, left + width) == (columns.min(), columns.max() + 1)
        assert (top, top + height) == (rows.min(), rows.max() + 1)
        assert annotation["area"] == binary.sum()
        assert annotation["iscrowd"] == 0


def test_the_pictures_are_those_of_the_samples(coco, exported, depth_dataset):
    ds = open_dataset(depth_dataset)
    truth = ds.to_numpy()
    scale = json.loads((exported / "fgbgpack.json").read_text())["depth"]["mapping"]
    for image in coco.loadImgs(coco.getImgIds()):
        sample = image["id"]
        pixels = read_picture(exported / "images" / image["file_name"])
        np.testing.assert_array_equal(pixels, truth["image"][sample])
        assert (image["height"], image["width"]) == pixels.shape[:2]
        assert image["background"] == f"b{truth['background'][sample]}.png"
        assert image["foreground"] == f"f{truth['foreground'][sample]}.png"
        assert [image[name] for name in ("flip", "replica", "y", "x")] == [
            truth[name][sample] for name in ("flip", "replica", "y", "x")
        ]
        depth = read_picture(exported / "depth" / image["depth_file_name"])
        assert depth.dtype == np.uint16
        found = depth / 65535 * (scale["high"] - scale["low"]) + scale["low"]
        step = (scale["high"] - scale["low"]) / 65535
        np.testing.assert_allclose(found, truth["depth"][sample].astype(np.float64), rtol=0, atol=0.51 * step)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_the_evaluation_of_the_truth_against_itself_is_perfect(coco, kind):
    found = [
        {name: annotation[name] for name in ("image_id", "category_id", "bbox", "segmentation")}
        | {"score": 1.0}
        for annotation in coco.loadAnns(coco.getAnnIds())
    ]
    evaluation = COCOeval(coco, coco.loadRes(found), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == 1


def test_a_sample_whose_mask_is_empty_has_an_image_alone(tmp_path):
    for name, channels in (("images", (3,)), ("masks", ())):
        (tmp_path / "files" / name).mkdir(parents=True)
        for sample in range(3):
            # Alpha of many values, of which none counts as the object.
            pixels = np.arange(30, 102, dtype=np.uint8).reshape(8, 9, *(1 for _ in channels))
            pixels = np.broadcast_to(pixels, (8, 9, *channels)).copy()
            if sample != 1:
                pixels[2:] = 200
            Image.fromarray(pixels).save(tmp_path / "files" / name / f"{sample}.png")
    import_folder(tmp_path / "faint.zarr", ImportSpec(str(tmp_path / "files")))
    export(tmp_path / "faint.zarr", tmp_path / "out", to="coco")
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_all.json"))
    assert set(coco.getImgIds()) == {0, 1, 2}
    assert {annotation["image_id"] for annotation in coco.anns.values()} == {0, 2}


def test_imported_samples_have_their_names(tmp_path, imported):
    export(imported, tmp_path / "out", to="coco")
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_all.json"))
    assert [coco.imgs[sample]["name"] for sample in range(6)] == imported.names
    for sample in range(6):
        np.testing.assert_array_equal(
            coco.annToMask(coco.anns[sample + 1]), imported.mask[sample] > MASK_ABOVE
        )


def test_each_part_has_its_annotations_and_its_pictures(tmp_path, own_pictures):
    create(tmp_path / "d.zarr", own_pictures.spec())
    ds = open_dataset(tmp_path / "d.zarr")
    parts = ds.save_split("two", {"train": 2 / 3, "test": 1 / 3})
    export(tmp_path / "d.zarr", tmp_path / "out", to="coco", split="two")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("annotations", "images", "fgbgpack.json", "fgbgpack-files.csv")
    }
    assert {path.name for path in (tmp_path / "out" / "images").iterdir()} == set(parts)
    assert {path.name for path in (tmp_path / "out" / "annotations").iterdir()} == {
        "instances_train.json", "instances_test.json"
    }  # fmt: skip
    for name, samples in parts.items():
        coco = COCO(str(tmp_path / "out" / "annotations" / f"instances_{name}.json"))
        assert sorted(coco.getImgIds()) == samples.tolist()
        assert sorted(annotation["image_id"] for annotation in coco.anns.values()) == samples.tolist()
        # As detectron2, sahi and others join the two: a folder for each JSON file, with these names in it.
        files = {image["file_name"] for image in coco.imgs.values()}
        assert files == {path.name for path in (tmp_path / "out" / "images" / name).iterdir()}
        for image in coco.imgs.values():
            pixels = read_picture(tmp_path / "out" / "images" / name / image["file_name"])
            np.testing.assert_array_equal(pixels, ds.image[image["id"]])


def test_the_category_can_be_named(tmp_path, dataset):
    report = export(dataset, tmp_path / "out", to="coco", category="person", samples=[3, 5])
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_all.json"))
    assert coco.getCatIds(catNms=["person"]) == [1]
    assert sorted(coco.getImgIds(catIds=[1])) == [3, 5]
    assert "depth_file_name" not in coco.imgs[3]

    opened: dict = {}
    exec("\n".join(report.opened_by), opened)
    assert opened["mask"].sum() == coco.anns[4]["area"]


def test_all_problems_are_reported_together(tmp_path, dataset):
    with pytest.raises(SpecError) as caught:
        export(dataset, tmp_path / "out", to="coco", fields=["image"], category=" ", segmentation="mask")
    assert caught.value.code == "export-options-invalid"
    flags = [problem.split(":")[0] for problem in caught.value.problems]
    assert flags == ["--fields", "--category", "--segmentation"]
    assert not (tmp_path / "out").exists()


def test_licences_of_sources_go_along(tmp_path, own_pictures):
    path = tmp_path / "d.zarr"
    create(path, own_pictures.spec())

    def license_them(document):
        sources = document["sources"]
        sources["backgrounds"][0]["license"] = sources["foregrounds"][0]["license"] = "CC-BY-4.0"
        sources["backgrounds"][1]["license"] = "https://example.org/terms"

    edit_document(path, license_them)
    export(path, tmp_path / "out", to="coco")
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_all.json"))
    names = {licence["id"]: licence["name"] for licence in coco.dataset["licenses"]}
    of_pair = {
        (image["background"], image["foreground"]): names.get(image.get("license"))
        for image in coco.imgs.values()
    }
    assert of_pair == {
        ("b0.png", "f0.png"): "CC-BY-4.0",
        ("b0.png", "f1.png"): "CC-BY-4.0 (background), unknown (foreground)",
        ("b1.png", "f0.png"): "https://example.org/terms (background), CC-BY-4.0 (foreground)",
        ("b1.png", "f1.png"): "https://example.org/terms (background), unknown (foreground)",
        ("b2.png", "f0.png"): "unknown (background), CC-BY-4.0 (foreground)",
        ("b2.png", "f1.png"): None,
    }

"""What is exported as COCO, as pycocotools reads it."""

from __future__ import annotations

import json
from pathlib import Path

import naive
import numpy as np
import pytest
from builders import tree
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fgbgpack import create, open_dataset
from fgbgpack.errors import SpecError
from fgbgpack.export.coco import MASK_ABOVE, Outline
from fgbgpack.export.job import export
from fgbgpack.export.rle_kernel import mask_runs, runs_bound
from fgbgpack.pipeline import ImportSpec, import_folder

# pycocotools meets NumPy 2 with a class of its own that is older.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


# --- the runs of masks -----------------------------------------------------------------------------


@st.composite
def masks(draw):
    """Masks of every size and density, with runs from one pixel to all of them."""
    shape = draw(st.integers(1, 17)), draw(st.integers(1, 17))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    set_pixels = random.random(shape) < draw(st.sampled_from([0, 0.02, 0.2, 0.5, 0.9, 1]))
    mask = np.where(set_pixels, *random.choice([[128, 127], [255, 0], [200, 100]]))
    if draw(st.booleans()):
        mask[...] = mask[0, 0]
        mask[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = draw(
            st.integers(0, 255)
        )
    times = draw(st.sampled_from([1, 1, 2, 40])), draw(st.sampled_from([1, 3]))
    return np.kron(mask, np.ones(times)).astype(np.uint8)


@settings(max_examples=150)
@given(masks())
def test_runs_equal_the_naive_ones_and_those_of_pycocotools(mask):
    outline = Outline.of(mask)
    expected, box, area = naive.mask_runs(mask, MASK_ABOVE)
    assert (outline.counts, list(outline.box), outline.area) == (expected, box, area)

    binary = np.asfortranarray(mask > MASK_ABOVE, np.uint8)
    theirs = coco_mask.encode(binary)
    assert outline.counts == theirs["counts"].decode()
    ours = {"size": list(mask.shape), "counts": outline.counts}
    np.testing.assert_array_equal(coco_mask.decode(ours), binary)
    assert coco_mask.area(ours) == outline.area
    assert coco_mask.toBbox(ours).tolist() == list(outline.box)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 9), (128, 128), (3, 2000)])
@pytest.mark.parametrize("value", [0, 127, 128, 255])
def test_runs_of_one_value(shape, value):
    outline = Outline.of(np.full(shape, value, np.uint8))
    whole = (0, 0, shape[1], shape[0])
    assert (outline.box, outline.area) == (
        ((0, 0, 0, 0), 0) if value <= 127 else (whole, shape[0] * shape[1])
    )
    expected = coco_mask.encode(np.full(shape, value > 127, np.uint8, order="F"))
    assert outline.counts == expected["counts"].decode()


@settings(max_examples=60)
@given(masks())
def test_the_kernel_uncompiled_stays_within_its_bound(mask):
    # Python's indices are checked, those of compiled code are not.
    text, box = np.zeros(runs_bound(mask.size), np.uint8), np.zeros(4, np.int32)
    used, area = getattr(mask_runs, "py_func", mask_runs)(mask, MASK_ABOVE, text, box)
    assert (text[:used].tobytes().decode(), box.tolist(), area) == naive.mask_runs(mask, MASK_ABOVE)


@pytest.mark.parametrize("long", [17, 513, 16385])
def test_the_bound_holds_where_numbers_are_longest(long):
    # Runs that go up and down by as much as takes another character.
    column = np.repeat(np.tile([0, 0, 255, 255], 6), np.tile([1, 1, long, long], 6)).astype(np.uint8)
    for mask in (column[:, None], column[::-1, None], column[None, 1:]):
        outline = Outline.of(mask)
        assert len(outline.counts) <= runs_bound(mask.size)
        assert outline.counts == naive.mask_runs(mask, MASK_ABOVE)[0]


@pytest.mark.parametrize("mask", [np.zeros((3, 3, 1), np.uint8), np.zeros((3, 3), np.int32)])
def test_what_is_no_mask_is_refused(mask):
    with pytest.raises(SpecError, match=r"expected uint8, \(h, w\)"):
        Outline.of(mask)


# --- the export ------------------------------------------------------------------------------------


def read_picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, depth_dataset):
    out = tmp_path_factory.mktemp("coco") / "all"
    export(depth_dataset, out, to="coco")
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


def test_a_sample_whose_mask_is_empty_has_an_image_alone(tmp_path, own_pictures):
    picture = own_pictures.foregrounds / "f0.png"
    with Image.open(picture) as opened:
        opened.putalpha(opened.getchannel("A").point(lambda alpha: alpha // 4))
        opened.save(picture)
    create(tmp_path / "faint.zarr", own_pictures.spec())
    export(tmp_path / "faint.zarr", tmp_path / "out", to="coco")
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_all.json"))
    ds = open_dataset(tmp_path / "faint.zarr")
    faint = set(ds.where(foreground="f0.png").tolist())
    assert set(coco.getImgIds()) == set(range(len(ds)))
    assert {annotation["image_id"] for annotation in coco.anns.values()} == set(range(len(ds))) - faint
    assert 0 in faint


def import_pictures(folder: Path) -> Path:
    """A dataset without recipe: of pictures in folders, one of them with a name that is not ASCII."""
    random = np.random.default_rng(0)
    for name in ("a/1", "a/é", "b"):
        for kind, shape in (("images", (20, 30, 3)), ("masks", (20, 30))):
            path = folder / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)
    import_folder(folder / "imported.zarr", ImportSpec(str(folder)))
    return folder / "imported.zarr"


def test_imported_samples_have_their_names(tmp_path):
    path = import_pictures(tmp_path)
    export(path, tmp_path / "out", to="coco")
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_all.json"))
    ds = open_dataset(path)
    assert [coco.imgs[sample]["name"] for sample in range(3)] == ds.names == ["a/1", "a/é", "b"]
    for sample in range(3):
        np.testing.assert_array_equal(coco.annToMask(coco.anns[sample + 1]), ds.mask[sample] > MASK_ABOVE)


def test_each_part_has_its_annotations_and_they_share_the_pictures(tmp_path, own_pictures):
    create(tmp_path / "d.zarr", own_pictures.spec())
    parts = open_dataset(tmp_path / "d.zarr").save_split("two", {"train": 2 / 3, "test": 1 / 3})
    export(tmp_path / "d.zarr", tmp_path / "out", to="coco", split="two")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"annotations", "images", "fgbgpack.json"}
    assert len(list((tmp_path / "out" / "images").iterdir())) == 36
    assert {path.name for path in (tmp_path / "out" / "annotations").iterdir()} == {
        "instances_train.json", "instances_test.json"
    }  # fmt: skip
    for name, samples in parts.items():
        coco = COCO(str(tmp_path / "out" / "annotations" / f"instances_{name}.json"))
        assert sorted(coco.getImgIds()) == samples.tolist()
        assert sorted(annotation["image_id"] for annotation in coco.anns.values()) == samples.tolist()


def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path, exported, depth_dataset):
    export(depth_dataset, tmp_path / "again", to="coco", workers=1)
    assert tree(tmp_path / "again") == tree(exported)


def test_the_category_can_be_named(tmp_path, dataset):
    report = export(dataset, tmp_path / "out", to="coco", category="person", samples=[3, 5])
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_all.json"))
    assert coco.getCatIds(catNms=["person"]) == [1]
    assert sorted(coco.getImgIds(catIds=[1])) == [3, 5]
    assert "depth_file_name" not in coco.imgs[3]

    opened: dict = {}
    exec("\n".join(report.opened_by), opened)
    assert opened["mask"].sum() == coco.anns[4]["area"]


def test_all_that_is_wrong_is_told_together(tmp_path, dataset):
    with pytest.raises(SpecError) as caught:
        export(dataset, tmp_path / "out", to="coco", fields=["image"], category=" ")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--fields", "--category"]
    assert not (tmp_path / "out").exists()


def test_licences_of_sources_go_along(tmp_path, own_pictures):
    path = tmp_path / "d.zarr"
    create(path, own_pictures.spec())
    document = json.loads((path / "zarr.json").read_text())
    sources = document["attributes"]["fgbgpack"]["sources"]
    sources["backgrounds"][0]["license"] = sources["foregrounds"][0]["license"] = "CC-BY-4.0"
    sources["backgrounds"][1]["license"] = "https://example.org/terms"
    (path / "zarr.json").write_text(json.dumps(document))
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

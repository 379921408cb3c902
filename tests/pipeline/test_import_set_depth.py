"""Depth beside annotated pictures is imported as depth beside plain pictures is."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from annotated_sets import HEIGHT, WIDTH, Coco, instances, penn_fudan, picture, yolo
from PIL import Image
from pyarrow import parquet
from refusals import refused
from sample_folders import MILLIMETRES, Events, depth_of

from fgbgpack import open_dataset
from fgbgpack.errors import FgbgError, SourceError, SpecError
from fgbgpack.export import export
from fgbgpack.pipeline import ImportSpec, import_folder, scan

LABEL = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n"


def millimetres(seed: int) -> np.ndarray:
    """(h, w) uint16, 0 in a corner."""
    return depth_of(seed, HEIGHT, WIDTH)


def metres(*seeds: int) -> np.ndarray:
    """(n, h, w) float16: the same as ``MILLIMETRES`` describes it."""
    stored = np.stack([millimetres(seed) for seed in seeds])
    return np.where(stored == 0, np.nan, stored * 0.001).astype(np.float16)


def write_depth(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, millimetres(seed))
    else:
        Image.fromarray(millimetres(seed)).save(path)


def imported(root: Path, **options):
    """The dataset of a folder, whose depth is in millimetres."""
    out = root.parent / "out.zarr"
    import_folder(out, ImportSpec(str(root), **(MILLIMETRES | options)))
    return open_dataset(out)


def refusal(error: type[FgbgError], code: str, *words: str, **spec) -> None:
    """A folder is not imported, for a reason in which these words are."""
    with refused(error, code) as caught:
        scan(ImportSpec(**(MILLIMETRES | spec)))
    for word in words:
        assert word in str(caught.value)


def coco(root: Path, places: dict[str, int], **options) -> Path:
    """A set of the pictures p7 and p9, and depth."""
    Coco().write(root, **options)
    for place, seed in places.items():
        write_depth(root / place, seed)
    return root


@pytest.mark.parametrize(
    ("places", "options"),
    [
        ({"depth/p7.png": 7, "depth/p9.png": 9}, {}),
        ({"depth/train/p7.npy": 7, "depth/train/p9.png": 9}, {}),
        ({"depth/p7_depth.png": 7, "depth/p9_depth.png": 9}, {}),
        ({"far/p7.png": 7, "far/p9.png": 9}, {"depths": "far"}),
        (
            {"train/d/p7.png": 7, "train/d/p9.png": 9},
            {"depths": "{part}/d/{n}.png", "images": "{part}/{n}.png", "layout": "coco"},
        ),
    ],
    ids=["beside", "by-part", "with-a-word", "given", "pattern"],
)
def test_depth_beside_coco(tmp_path, places, options):
    ds = imported(coco(tmp_path / "coco", places), **options)
    assert ds.names == ["p7", "p9"]
    np.testing.assert_array_equal(ds.depth[:], metres(7, 9))
    np.testing.assert_array_equal(ds.image[:], [picture(7), picture(9)])
    assert (ds.depth.attrs["quantity"], ds.depth.attrs["unit"]) == ("depth", "m")
    assert ds.objects.category.tolist() == [[1, 0], [-1, -1]]


def test_depth_beside_two_parts_of_coco(tmp_path):
    root = tmp_path / "coco"
    train, val = Coco(), Coco()
    train.write(root)
    for image, name in zip(val.images, ("q1.png", "q2.png"), strict=True):
        image["file_name"] = name
    val.write(root, "annotations/instances_val.json", pictures="val")
    for number, place in enumerate(("train/p7", "train/p9", "val/q1", "val/q2")):
        write_depth(root / f"depth/{place}.png", number)
    ds = imported(root)
    assert ds.names == ["train/p7", "train/p9", "val/q1", "val/q2"]
    np.testing.assert_array_equal(ds.depth[:], metres(0, 1, 2, 3))


def test_depth_beside_yolo(tmp_path):
    root = yolo(tmp_path / "yolo", {"a": LABEL, "b": LABEL})
    for seed, name in enumerate("ab"):
        write_depth(root / f"depth/train/{name}.png", seed)
    np.testing.assert_array_equal(imported(root).depth[:], metres(0, 1))
    (root / "depth").rename(root / "z")
    options = {"images": "images/{part}/{n}.png", "depths": "z/{part}/{n}.png"}
    assert scan(ImportSpec(str(root), layout="yolo", **options)).patterns["depths"] == "z/{part}/{n}.png"


def test_depth_beside_pictures_of_instances(tmp_path):
    root = tmp_path / "pf"
    penn_fudan(root)
    for seed in range(3):
        write_depth(root / f"Depth/Fudan{seed:05d}.png", seed)
    ds = imported(root)
    np.testing.assert_array_equal(ds.depth[:], metres(0, 1, 2))
    assert ds.objects.category.tolist() == [[0, 0, -1], [-1, -1, -1], [0, 0, 0]]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def table(root: Path, **more) -> Path:
    """Two rows with instances, called a and b."""
    root.mkdir()
    columns = {
        "name": ["a", "b"],
        "image": [{"bytes": png(picture(i)), "path": None} for i in (0, 1)],
        "instance": [{"bytes": png(instances(i, 2)), "path": None} for i in (0, 1)],
        "objects": [{"category": ["cat", "dog"], "instance": [1, 2]}] * 2,
    }
    parquet.write_table(pa.table(columns | more), root / "train-00000-of-00001.parquet")
    return root


@pytest.mark.parametrize(("column", "options"), [("depth", {}), ("far", {"depths": "far"})])
def test_depth_in_a_column(tmp_path, column, options):
    stored = [{"bytes": png(millimetres(i)), "path": None} for i in (5, 6)]
    ds = imported(table(tmp_path / "hub", **{column: stored}), **options)
    np.testing.assert_array_equal(ds.depth[:], metres(5, 6))
    np.testing.assert_array_equal(ds.instance[:], [instances(0, 2), instances(1, 2)])


def test_depth_beside_tables(tmp_path):
    root = table(tmp_path / "hub")
    for seed, name in enumerate("ab"):
        write_depth(root / f"depth/{name}.png", seed)
    ds = imported(root)
    np.testing.assert_array_equal(ds.depth[:], metres(0, 1))
    np.testing.assert_array_equal(ds.image[:], [picture(0), picture(1)])
    refusal(
        SpecError, "patterns-differ", "column", folder=str(root), depths="depth/{n}.png", layout="parquet"
    )


def test_depth_that_is_not_wanted(tmp_path):
    root = coco(tmp_path / "coco", {"depth/p7.png": 7})
    import_folder(tmp_path / "it.zarr", ImportSpec(str(root), depths="none"))
    assert not open_dataset(tmp_path / "it.zarr").has_depth


def test_a_picture_without_depth(tmp_path):
    root = coco(tmp_path / "coco", {"depth/p9.png": 9, "depth/p11.png": 11})
    words = "train/p7.png", "depth/p7.png", "--skip-unmatched"
    refusal(SourceError, "depth-map-missing", *words, folder=str(root))
    events = Events()
    done = import_folder(
        tmp_path / "it.zarr", ImportSpec(str(root), skip_unmatched=True, **MILLIMETRES), on_event=events
    )
    ds = open_dataset(tmp_path / "it.zarr")
    assert (ds.names, done.left_out) == (["p9"], 2)
    assert "1 depth map" in events.notices
    np.testing.assert_array_equal(ds.depth[:], metres(9))
    np.testing.assert_array_equal(ds.mask[0][:, :2], 255)
    assert ds.objects.category.tolist() == [[-1]]


@pytest.mark.parametrize(
    ("places", "options", "code", "words"),
    [
        ({"depth/x.png": 1, "depth/y.png": 1}, {}, "names-differ", ("depth map", "depth/x.png", "--images")),
        ({"depth/p7.png": 1, "depth/p7.npy": 1, "depth/p9.png": 1}, {}, "name-not-unique", ("depth/p7.npy",)),
        ({"depth/p7.png": 1, "disparity/p7.png": 1}, {}, "folders-not-recognised", ("--depths depth",)),
        ({"depth/p7.png": 1}, {"depths": "far"}, "folder-without-pictures", ("--depths 'far'",)),
        ({"depth/p7.png": 1}, {"depths": "d/{n}.png"}, "patterns-differ", ("--images",)),
    ],
    ids=["names", "twice", "two-folders", "no-folder", "no-pattern"],
)
def test_depth_that_cannot_be_paired(tmp_path, places, options, code, words):
    root = coco(tmp_path / "coco", places)
    kind = SpecError if code == "patterns-differ" else SourceError
    refusal(kind, code, *words, folder=str(root), **options)


def test_depth_of_another_size(tmp_path):
    root = coco(tmp_path / "coco", {"depth/p7.png": 7, "depth/p9.png": 9})
    Image.fromarray(depth_of(1, HEIGHT, WIDTH + 1)).save(root / "depth/p9.png")
    refusal(SourceError, "size-differs", "depth/p9.png: 31x20 pixels", "30x20", folder=str(root))


@pytest.mark.slow
@pytest.mark.parametrize("to", ["coco", "parquet"])
def test_exported_depth_comes_back(tmp_path, depth_dataset, to):
    """What the pixels of depth mean is in the document of the export, parts or not."""
    ds = open_dataset(depth_dataset)
    shutil.copytree(depth_dataset, tmp_path / "it.zarr")
    mine = open_dataset(tmp_path / "it.zarr")
    mine.save_split("mine", {"train": range(20), "val": range(20, len(ds))})
    for split in (None, mine.split("mine")):
        folder, out = tmp_path / f"{to}-{split is None}", tmp_path / f"{to}-{split is None}.zarr"
        export(mine, folder, to=to, split=split, depth_bits=16)
        import_folder(out, ImportSpec(str(folder)))
        again = open_dataset(out)
        step = (np.nanmax(ds.depth[:]) - np.nanmin(ds.depth[:])).astype(np.float64) / 65535
        np.testing.assert_allclose(again.depth[:], ds.depth[:], atol=step + 1e-3 * np.nanmax(ds.depth[:]))
        for name in ("quantity", "unit"):
            assert again.depth.attrs[name] == ds.depth.attrs[name]

"""The dataset that an import makes, as users hold it."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from picture_files import write
from PIL import Image
from refusals import refused
from sample_folders import HEIGHT, WIDTH, depth_of, image_of, mask_of, write_samples

import fgbgpack
from fgbgpack import open_dataset
from fgbgpack.document import Document
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.pipeline import ImportSpec, import_folder, materialize, virtualize
from fgbgpack.visual.comparison import compare
from fgbgpack.visual.info import describe
from fgbgpack.visual.preview import render_preview

NAMES = [f"{i // 20}/ä{i % 20}" for i in range(60)]
EMPTY = 33  # the sample without a foreground


def expected_mask(sample):
    return np.zeros((HEIGHT, WIDTH), np.uint8) if sample == EMPTY else mask_of(sample)


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """60 imported samples with depth, not to be changed."""
    root = write_samples(tmp_path_factory.mktemp("files"), NAMES)
    write(root / f"masks/{NAMES[EMPTY]}.png", expected_mask(EMPTY))
    out = tmp_path_factory.mktemp("datasets") / "imported.zarr"
    import_folder(out, ImportSpec(str(root), chunk=7, depth_quantity="inverse_depth"))
    return out


def code_of(error, action):
    with pytest.raises(error) as caught:
        action()
    return caught.value.code


@pytest.mark.slow
def test_samples_are_read_in_every_way(imported):
    ds = open_dataset(imported)
    assert not ds.has_recipe
    batch = ds[[5, 3]]
    assert set(batch.arrays) == {"image", "mask", "depth"}
    np.testing.assert_array_equal(batch.image, [image_of(5), image_of(3)])
    np.testing.assert_array_equal(ds[-1].mask, mask_of(59))
    into = ds.read([8, 9], out=batch)
    np.testing.assert_array_equal(into.depth, [depth_of(i).astype(np.float16) for i in (8, 9)])
    arrays = {"mask": np.empty((1, HEIGHT, WIDTH), np.uint8), "y": np.empty(1, np.int32)}
    assert code_of(SpecError, lambda: ds.read([1], out=arrays)) == "array-misfit"
    for name in ("background", "foreground", "flip", "replica", "y", "x"):
        assert code_of(SpecError, lambda name=name: getattr(batch, name)) == "field-missing"
    seen = np.concatenate([b.image for b in ds.batches(16, shuffle=True, seed=2, fields="image")])
    assert sorted(map(bytes, seen)) == sorted(bytes(image_of(i)) for i in range(60))
    assert list(ds.to_numpy("mask", indices=slice(0, 4))) == ["mask"]
    assert len(list(ds)) == 60
    assert "60 samples of 26x18 with depth" in repr(ds)
    with pickle.loads(pickle.dumps(ds)) as copy:
        assert copy.names == ds.names
        np.testing.assert_array_equal(copy.image[7], image_of(7))


@pytest.mark.slow
def test_samples_have_names(imported, dataset):
    ds = open_dataset(imported)
    assert ds.names == NAMES
    assert ds.where(name="1/ä5").tolist() == [25]
    assert ds.where(name=["2/ä0", "0/ä1"]).tolist() == [1, 40]
    assert len(ds.where()) == 60
    assert code_of(SpecError, lambda: ds.where(name=["3/ä0", "0/ä0"])) == "sample-unknown"
    assert open_dataset(dataset).names is None
    assert code_of(SpecError, lambda: open_dataset(dataset).where(name="b0")) == "sample-unknown"


def test_what_needs_a_recipe_says_so(tmp_path, imported):
    ds = open_dataset(imported)
    assert ds.background_depth is None
    for action in (
        lambda: ds.placements,
        ds.catalog,
        lambda: ds.visible,
        lambda: ds.where(background=1, flip=True),
        lambda: open_dataset(imported, pixels="recomposed"),
        lambda: materialize(imported, tmp_path / "other.zarr"),
        lambda: virtualize(imported, tmp_path / "other.zarr"),
    ):
        assert code_of(DatasetError, action) == "recipe-missing"


def test_masks_are_measured(imported):
    ds = open_dataset(imported)
    for i in (0, 7, EMPTY, 59):
        mask = expected_mask(i)
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        expected = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1] if len(rows) else [0] * 4
        assert ds.bbox[i].tolist() == expected
        assert ds.area[i] == (mask > 127).sum()
    assert (ds.bbox.dtype, ds.area.dtype) == (np.int32, np.int64)


def test_samples_are_split_by_their_names(tmp_path, imported):
    shutil.copytree(imported, tmp_path / "own.zarr")
    ds = open_dataset(tmp_path / "own.zarr")
    sizes = {"train": 0.8, "test": 0.2}
    parts = ds.split(sizes, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {"train": 48, "test": 12}
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(60))
    assert parts["test"].tolist() != ds.split(sizes, seed=4)["test"].tolist()
    with pytest.raises(DatasetError, match="split it by='sample'"):
        ds.split({"train": 0.5}, by="background")
    saved = ds.save_split("mine", sizes, seed=3)
    again = open_dataset(tmp_path / "own.zarr")
    assert again.splits["mine"]["by"] == "sample"
    for name, part in parts.items():
        np.testing.assert_array_equal(saved[name], part)
        np.testing.assert_array_equal(again.split("mine")[name], part)


@pytest.mark.slow  # PyTorch is imported
def test_pytorch_reads_them(imported):
    torch = pytest.importorskip("torch")
    from fgbgpack.torch import FgBgDataset, make_loader

    with pytest.raises(SpecError, match="placements"):
        FgBgDataset(imported, placements=True)
    seen = []
    for batch in make_loader(imported, 16, workers=0):
        assert batch["image"].dtype == torch.uint8
        for index, mask in zip(batch["index"].tolist(), batch["mask"], strict=True):
            np.testing.assert_array_equal(mask[0].numpy(), expected_mask(index))
            seen.append(index)
    assert sorted(seen) == list(range(60))


def test_zarr_and_xarray_open_them_without_a_warning(imported):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(imported, mode="r")
        assert sorted(group) == ["depth", "depth_max", "depth_min", "image", "manifest", "mask", "name"]
        np.testing.assert_array_equal(group["image"][12], image_of(12))
        arrays = xarray.open_zarr(imported)
        assert dict(arrays.sizes) == {"sample": 60, "height": HEIGHT, "width": WIDTH, "channel": 3, "byte": 6}
        np.testing.assert_array_equal(arrays["mask"][12], mask_of(12))
        assert bytes(arrays["name"][25].values).rstrip(b"\0").decode() == "1/ä5"
    assert set(group.metadata.consolidated_metadata.metadata) == set(group)
    assert fgbgpack.store(imported).read_only


def test_it_is_described_drawn_and_not_compared(imported):
    ds = open_dataset(imported)
    described = json.loads(json.dumps(describe(ds)))
    assert described["imported"]["files"] == 180
    assert described["recipe"] is described["sources"] is described["backgrounds"] is None
    assert described["depth"]["mode"] == "imported"
    assert described["depth"]["quantity"] == "inverse_depth"
    assert described["arrays"]["image"]["filled"] == 60
    figure = render_preview(ds, rows=2)
    assert figure == render_preview(ds, rows=2)
    columns_with_sources = 6
    assert figure.width < columns_with_sources * 200
    assert len({colour for _, colour in figure.getcolors(1 << 20)}) > 1000
    assert code_of(DatasetError, lambda: compare(ds, [], stored=True)) == "recipe-missing"


def test_a_document_is_of_a_recipe_or_of_an_import(imported):
    document = open_dataset(imported).document.to_dict()
    both = document | {"recipe": {"sha256": "0" * 64, "samples": 60}}
    neither = {name: value for name, value in document.items() if name != "imported"}
    for changed in (both, neither):
        with pytest.raises(DatasetError, match="does not follow schema"):
            Document.from_dict(changed, where="memory")


class TestSplitsByField:
    @pytest.fixture
    def scenes(self, tmp_path):
        """12 samples of 4 scenes, named by both."""
        rng = np.random.default_rng(2)
        for name, shape in (("fgbg", (8, 9, 3)), ("masks", (8, 9))):
            (tmp_path / "files" / name / "all").mkdir(parents=True)
            for scene in range(4):
                for number in range(3):
                    file = tmp_path / "files" / name / "all" / f"scene-{scene}_{number}.png"
                    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(file)
        spec = ImportSpec(
            str(tmp_path / "files"), images="fgbg/all/{bg}_{n}.png", masks="masks/all/{bg}_{n}.png"
        )
        import_folder(tmp_path / "it.zarr", spec)
        return tmp_path / "it.zarr"

    def test_each_value_is_in_one_part(self, scenes):
        dataset = open_dataset(scenes)
        parts = dataset.save_split("fair", {"train": 0.5, "test": 0.5}, by="field:bg", seed=4)
        scene = np.array([name.rpartition("_")[0].rpartition("-")[2] for name in dataset.names])
        shown = {name: set(scene[samples]) for name, samples in parts.items()}
        assert {len(samples) for samples in parts.values()} == {6}
        assert shown["train"] | shown["test"] == {"0", "1", "2", "3"}
        assert not shown["train"] & shown["test"]
        again = open_dataset(scenes).split("fair")
        assert {name: samples.tolist() for name, samples in again.items()} == {
            name: samples.tolist() for name, samples in parts.items()
        }

    def test_too_few_values_and_unknown_fields_are_told(self, scenes):
        dataset = open_dataset(scenes)
        with refused(SpecError, "split-impossible", "4 different values of bg cannot be dealt out to 5"):
            dataset.split({str(i): 0.2 for i in range(5)}, by="field:bg")
        with refused(SpecError, "split-invalid", "has no field 'fg'; it has bg, n"):
            dataset.split({"train": 0.5, "test": 0.5}, by="field:fg")
        for by in ("field:", "field:a b", "fields:bg", 3):
            with refused(SpecError, "split-invalid"):
                dataset.split({"train": 0.5}, by=by)

    def test_samples_that_were_made_have_no_fields(self, dataset):
        with refused(SpecError, "split-invalid", "was not imported"):
            open_dataset(dataset).split({"train": 0.5, "test": 0.5}, by="field:bg")

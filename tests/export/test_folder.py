"""Folders of pictures, as Pillow reads them and as they are imported."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from builders import Pictures, tree
from exports import export_document, file_column, read_picture, source_names, table_rows
from PIL import Image

from fgbgpack import create, open_dataset
from fgbgpack.export import export
from fgbgpack.pipeline import ImportSpec, import_folder

N = 36
#: Words by which Hugging Face's datasets knows splits, between the characters that part words there.
SPLIT_WORDS = {
    *("train", "training", "validation", "valid", "dev", "val", "test", "testing", "eval", "evaluation")
}
BETWEEN_WORDS = re.compile("[-._ 0-9]+")
PLACEMENTS = ("background", "foreground", "flip", "replica", "y", "x")


class TestFolder:
    @pytest.mark.parametrize("bits", [None, 8, 16])
    def test_pillow_reads_the_same(self, split_dataset, tmp_path, bits):
        report = export(split_dataset, tmp_path / "out", to="folder", depth_bits=bits)
        found = table_rows(tmp_path / "out")
        said = export_document(tmp_path / "out")["depth"]
        assert (said["quantity"], said["unit"]) == ("inverse_depth", None)
        mapping = said["mapping"]
        assert mapping["bits"] == (bits or 16)
        assert mapping["low"] == np.nanmin(split_dataset.depth[:])
        assert mapping["high"] == np.nanmax(split_dataset.depth[:])
        step = (mapping["high"] - mapping["low"]) / (2 ** mapping["bits"] - 1)
        names = source_names(split_dataset)
        assert [int(row["sample"]) for row in found] == list(range(N))
        for i, row in enumerate(found):
            sample = split_dataset[i]
            sources = "/".join(Path(row[kind]).stem for kind in ("background", "foreground"))
            path = f"{sources}/{row['flip']}-{row['replica']}"
            for field in ("image", "mask", "depth"):
                assert row[file_column(field)] == f"{field}/{path}.png"
            np.testing.assert_array_equal(read_picture(tmp_path / "out" / row["file_name"]), sample.image)
            np.testing.assert_array_equal(read_picture(tmp_path / "out" / row["mask_file_name"]), sample.mask)
            numbers = read_picture(tmp_path / "out" / row["depth_file_name"])
            assert numbers.dtype == (np.uint8 if bits == 8 else np.uint16)
            depth = mapping["low"] + numbers * step
            assert np.abs(depth - sample.depth.astype(np.float64)).max() <= step / 2 * (1 + 1e-9)
            assert row["background"] == names["background"][sample.background]
            assert row["foreground"] == names["foreground"][sample.foreground]
            for name in PLACEMENTS[2:]:
                assert int(row[name]) == getattr(sample, name)
        assert report.files == 3 * N + 3 == len(tree(tmp_path / "out"))
        assert report.bytes == sum(map(len, tree(tmp_path / "out").values()))

    def test_source_names_that_are_unsafe_or_repeat(self, tmp_path):
        pictures = Pictures(tmp_path / "pictures", backgrounds=0, foregrounds=1)
        for i, name in enumerate(("a.png", "A.bmp", "a-2.png", "aux.png", "what?.png", "what_.png")):
            pictures.background(name, 40, 60, seed=i)
        create(tmp_path / "ds.zarr", pictures.spec(placements=1, flip=False))
        export(tmp_path / "ds.zarr", tmp_path / "out", to="folder")
        ds = open_dataset(tmp_path / "ds.zarr")
        found = {row["background"]: row["file_name"].split("/")[1] for row in table_rows(tmp_path / "out")}
        assert found == {
            "A.bmp": "A", "a.png": "a-3", "a-2.png": "a-2", "aux.png": "_aux", "what?.png": "what_",
            "what_.png": "what_-2",
        }  # fmt: skip
        for row in table_rows(tmp_path / "out"):
            picture = read_picture(tmp_path / "out" / row["file_name"])
            np.testing.assert_array_equal(picture, ds.image[int(row["sample"])])

    def test_without_a_recipe(self, imported, tmp_path):
        export(imported, tmp_path / "out", to="folder")
        found = table_rows(tmp_path / "out")
        assert list(found[0]) == ["file_name", "mask_file_name", "depth_file_name", "sample", "name"]
        assert [row["name"] for row in found] == imported.names
        paths = dict(zip(imported.names, (row["file_name"] for row in found), strict=True))
        assert paths["a/0"] == "image/a/0.png"
        assert paths["a.png/0"] == "image/a.png_/0.png"
        assert paths["b/con"] == "image/b/_con.png"
        mapping = export_document(tmp_path / "out")["depth"]["mapping"]
        for i, row in enumerate(found):
            for field in ("image", "mask"):
                picture = read_picture(tmp_path / "out" / row[file_column(field)])
                np.testing.assert_array_equal(picture, getattr(imported, field)[i])
            numbers = read_picture(tmp_path / "out" / row["depth_file_name"])
            depth = imported.depth[i].astype(np.float64)
            np.testing.assert_array_equal(numbers == mapping["unknown"], np.isnan(depth))
            undone = eval(mapping["to_depth"], {}, {"value": numbers.astype(np.float64), **mapping})
            step = (mapping["high"] - mapping["low"]) / 65534
            assert np.nanmax(np.abs(np.where(np.isnan(depth), np.nan, undone - depth))) <= step / 2 * (
                1 + 1e-9
            )

    def test_imported_again_it_has_the_same_pixels(self, split_dataset, tmp_path):
        export(split_dataset, tmp_path / "out", to="folder", fields=["image", "mask"])
        spec = ImportSpec(str(tmp_path / "out"), images="image", masks="mask")
        import_folder(tmp_path / "again.zarr", spec)
        again = open_dataset(tmp_path / "again.zarr")
        order = {
            row["file_name"].removeprefix("image/").removesuffix(".png"): int(row["sample"])
            for row in table_rows(tmp_path / "out")
        }
        samples = [order[name] for name in again.names]
        np.testing.assert_array_equal(again.image[:], split_dataset.image[samples])
        np.testing.assert_array_equal(again.mask[:], split_dataset.mask[samples])


# --- what Hugging Face's imagefolder goes by ---------------------------------------------------------

#: Names that are formulas to spreadsheets, that are escaped, and that look like those of splits.
BACKGROUNDS = (
    *("=1+1.png", "+a.png", "-a.png", "@a.png", "'quoted.png", "''b.png", "\uff1da.png"),
    *("a,b.png", 'say "x".png', "train-station.png", "test.png", "my_val2.png", "eval-1 dev.png"),
)
FORMULAS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
LOADS = """
import json, sys
from datasets import load_dataset

def plain(value):
    return value if isinstance(value, (int, str)) else list(value.getdata())

found = load_dataset("imagefolder", data_dir=sys.argv[1])
print(json.dumps({
    split: [{name: plain(value) for name, value in row.items()} for row in rows]
    for split, rows in found.items()
}))
"""


@pytest.fixture(scope="module")
def awkward(tmp_path_factory):
    """A dataset of backgrounds with such names, and one foreground, with a saved split, open."""
    folder = tmp_path_factory.mktemp("awkward")
    pictures = Pictures(folder / "pictures", backgrounds=0, foregrounds=1)
    for seed, name in enumerate(BACKGROUNDS):
        pictures.background(name, 40, 60, seed=seed)
    create(folder / "ds.zarr", pictures.spec(placements=1))
    open_dataset(folder / "ds.zarr").save_split("fair", {"train": 0.5, "val": 0.3, "test": 0.2})
    return open_dataset(folder / "ds.zarr")


class TestImageFolder:
    def test_no_cell_is_a_formula_and_names_read_back_right(self, awkward, tmp_path):
        export(awkward, tmp_path / "out", to="folder")
        for name in ("metadata.csv", "fgbgpack-files.csv"):
            with (tmp_path / "out" / name).open(encoding="utf-8", newline="") as file:
                cells = [cell for row in csv.reader(file) for cell in row]
            assert not [cell for cell in cells if cell[0] in FORMULAS]
        rows = table_rows(tmp_path / "out")
        assert {row["background"].removeprefix("'") for row in rows} == set(BACKGROUNDS)
        assert {row["background"] for row in rows} >= {"'=1+1.png", "''quoted.png", "a,b.png"}
        names = source_names(awkward)["background"]
        for row in rows:
            expected = names[awkward[int(row["sample"])].background]
            assert row["background"].removeprefix("'") == expected

    def test_names_of_imported_samples_are_texts_to_pandas(self, tmp_path):
        names = [
            *(
                "0001",
                "12",
                "1e5",
                "-3",
                "inf",
                "nan",
                "NA",
                "N_A",
                "null",
                "None",
                "True",
                "false",
                "=1",
                "'x",
            ),
            *("a/007", "x1", "1.5.2"),
        ]
        random = np.random.default_rng(2)
        for name in names:
            for kind, shape in (("image", (8, 9, 3)), ("mask", (8, 9))):
                path = tmp_path / "files" / kind / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)
        import_folder(tmp_path / "d.zarr", ImportSpec(str(tmp_path / "files"), images="image", masks="mask"))
        ds = open_dataset(tmp_path / "d.zarr")
        # Each alone: pandas must not need the others to know that they are texts.
        for i, name in enumerate(ds.names):
            export(ds, tmp_path / str(i), to="folder", samples=[i])
            (read,) = pandas.read_csv(tmp_path / str(i) / "metadata.csv").name
            assert isinstance(read, str)
            assert read.removeprefix("'") == name
        assert sorted(ds.names) == sorted(names)

    def test_a_part_that_is_named_like_a_formula(self, awkward, tmp_path):
        export(awkward, tmp_path / "out", to="folder", split={"=1+1": [0, 1], "+": [2]})
        with (tmp_path / "out" / "fgbgpack-files.csv").open(encoding="utf-8", newline="") as file:
            names = [row[0] for row in csv.reader(file)][1:]
        assert {name.split("/")[0] for name in names} == {"_=1+1", "_+"}

    @pytest.mark.parametrize("split", [None, "fair"])
    def test_each_part_has_a_table_that_names_every_picture_once(self, awkward, tmp_path, split):
        export(awkward, tmp_path / "out", to="folder", split=split)
        parts = {"": np.arange(len(awkward))} if split is None else awkward.split(split)
        assert len(list((tmp_path / "out").rglob("metadata.csv"))) == len(parts)
        for part, samples in parts.items():
            folder = tmp_path / "out" / part
            rows = table_rows(folder)
            assert [int(row["sample"]) for row in rows] == samples.tolist()
            named = [row[column] for row in rows for column in ("file_name", "mask_file_name")]
            found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
            assert sorted(named) == sorted(found)
            for path in found:
                words = {word for name in path.split("/") for word in BETWEEN_WORDS.split(name)}
                assert not words & SPLIT_WORDS, path
                assert not [name for name in path.split("/") if name.startswith((".", "__"))]

    def test_without_images_the_columns_of_the_others_stay(self, awkward, tmp_path):
        export(awkward, tmp_path / "out", to="folder", fields="mask", samples=[3])
        (row,) = table_rows(tmp_path / "out")
        assert "file_name" not in row
        assert (tmp_path / "out" / row["mask_file_name"]).is_file()

    @pytest.mark.slow
    @pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
    @pytest.mark.parametrize("split", [None, "fair"])
    def test_datasets_loads_one_row_for_each_sample(self, awkward, tmp_path, split):
        export(awkward, tmp_path / "out", to="folder", split=split)
        environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", LOADS, str(tmp_path / "out")]
        printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        parts = {"train": np.arange(len(awkward))}
        if split is not None:
            saved = awkward.split(split)
            parts = {"train": saved["train"], "validation": saved["val"], "test": saved["test"]}
        loaded = json.loads(printed.stdout)
        assert loaded.keys() == parts.keys()
        names = source_names(awkward)
        for name, rows in loaded.items():
            assert [row["sample"] for row in rows] == parts[name].tolist()
            for row in rows:
                sample = awkward[row["sample"]]
                np.testing.assert_array_equal(np.array(row["image"]), sample.image.reshape(-1, 3))
                np.testing.assert_array_equal(np.array(row["mask"]), sample.mask.reshape(-1))
                assert row["background"].removeprefix("'") == names["background"][sample.background]
                assert [row["y"], row["x"]] == [sample.y, sample.x]

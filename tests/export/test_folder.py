"""Folders of pictures, as Pillow reads them and as they are imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import Pictures, tree
from exports import export_document, read_picture, source_names, table_rows

from fgbgpack import create, open_dataset
from fgbgpack.export import export
from fgbgpack.pipeline import ImportSpec, import_folder

N = 36
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
                assert row[field] == f"{field}/{path}.png"
            np.testing.assert_array_equal(read_picture(tmp_path / "out" / row["image"]), sample.image)
            np.testing.assert_array_equal(read_picture(tmp_path / "out" / row["mask"]), sample.mask)
            numbers = read_picture(tmp_path / "out" / row["depth"])
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
        found = {row["background"]: row["image"].split("/")[1] for row in table_rows(tmp_path / "out")}
        assert found == {
            "A.bmp": "A", "a.png": "a-3", "a-2.png": "a-2", "aux.png": "_aux", "what?.png": "what_",
            "what_.png": "what_-2",
        }  # fmt: skip
        for row in table_rows(tmp_path / "out"):
            picture = read_picture(tmp_path / "out" / row["image"])
            np.testing.assert_array_equal(picture, ds.image[int(row["sample"])])

    def test_without_a_recipe(self, imported, tmp_path):
        export(imported, tmp_path / "out", to="folder")
        found = table_rows(tmp_path / "out")
        assert list(found[0]) == ["sample", "image", "mask", "depth", "name"]
        assert [row["name"] for row in found] == imported.names
        paths = dict(zip(imported.names, (row["image"] for row in found), strict=True))
        assert paths["a/0"] == "image/a/0.png"
        assert paths["a.png/0"] == "image/a.png_/0.png"
        assert paths["b/con"] == "image/b/_con.png"
        mapping = export_document(tmp_path / "out")["depth"]["mapping"]
        for i, row in enumerate(found):
            for field in ("image", "mask"):
                picture = read_picture(tmp_path / "out" / row[field])
                np.testing.assert_array_equal(picture, getattr(imported, field)[i])
            numbers = read_picture(tmp_path / "out" / row["depth"])
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
            row["image"].removeprefix("image/").removesuffix(".png"): int(row["sample"])
            for row in table_rows(tmp_path / "out")
        }
        samples = [order[name] for name in again.names]
        np.testing.assert_array_equal(again.image[:], split_dataset.image[samples])
        np.testing.assert_array_equal(again.mask[:], split_dataset.mask[samples])


def test_names_that_spreadsheets_take_for_formulas_are_paths(tmp_path):
    made = Pictures(tmp_path / "pictures", 1, 0)
    for name in ("=1+1", "+2", "@sum", "-x", "a=1"):
        made.foreground(f"{name}.png", 24, 18, seed=1)
    create(tmp_path / "a.zarr", made.spec(placements=1, flip=False))
    with open_dataset(tmp_path / "a.zarr") as dataset:
        export(dataset, tmp_path / "out", to="folder")
    table = (tmp_path / "out/placements.csv").read_text().splitlines()[1:]
    cells = [cell for line in table for cell in line.split(",")]
    assert not [cell for cell in cells if cell[0] in "=+-@"]
    assert {"./=1+1.png", "./+2.png", "./@sum.png", "./-x.png", "a=1.png"} <= set(cells)

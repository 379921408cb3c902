"""What is exported as Parquet: rows with pictures, what they are to datasets, and the sizes of files."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
import yaml
from exports import export_document, source_names
from other_tools import needs, printed_by
from PIL import Image

from fgbgpack import open_dataset
from fgbgpack.cards import About, write_cards
from fgbgpack.errors import SpecError
from fgbgpack.export import export, parquet, verify_export
from fgbgpack.export.objects import MASK_ABOVE
from fgbgpack.pipeline import pack

arrow = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

LOADS = """
import json, sys
import numpy as np
from datasets import load_dataset

found = load_dataset(sys.argv[1])
print(json.dumps({
    split: {
        "features": {name: str(feature) for name, feature in rows.features.items()},
        "rows": [
            {
                name: [np.asarray(value).tolist(), str(np.asarray(value).dtype)]
                if hasattr(value, "getdata") else value
                for name, value in row.items()
            }
            for row in rows
        ],
    }
    for split, rows in found.items()
}))
"""


def loaded_by_datasets(folder, home) -> dict:
    return json.loads(printed_by(LOADS, folder, cwd=folder.parent, HF_HOME=home, HF_HUB_OFFLINE=1))


def rows_of(out, split="train") -> list[dict]:
    return [row for path in sorted((out / "data").glob(f"{split}-*")) for row in rows_in(path)]


def rows_in(path) -> list[dict]:
    return arrow.read_table(path).to_pylist()


def pixels_of(picture) -> np.ndarray:
    with Image.open(io.BytesIO(picture["bytes"])) as read:
        return np.asarray(read)


def box_of(inside) -> list[int]:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]


@pytest.mark.slow
@needs("datasets")
def test_datasets_loads_what_is_in_the_dataset(split_dataset, tmp_path):
    ds = split_dataset
    split = {"train": np.arange(5, 20), "hold-out": np.array([1, 3])}
    export(ds, tmp_path / "out", to="parquet", split=split, category="person", shard_samples=4)
    found = loaded_by_datasets(tmp_path / "out", tmp_path / "home")
    assert list(found) == ["train", "hold_out"]
    features = found["train"]["features"]
    assert [name for name, kind in features.items() if kind.startswith("Image")] == ["image", "mask", "depth"]
    assert "ClassLabel(names=['person'])" in features["objects"]
    mapping = export_document(tmp_path / "out")["depth"]["mapping"]
    names = source_names(ds)
    for name, samples in zip(found, split.values(), strict=True):
        rows = found[name]["rows"]
        assert [row["sample"] for row in rows] == samples.tolist()
        for row in rows:
            sample = row["sample"]
            assert row["image"] == [ds.image[sample].tolist(), "uint8"]
            assert row["mask"] == [ds.mask[sample].tolist(), "uint8"]
            value, kind = row["depth"]
            assert kind == "uint16"
            depth = mapping["low"] + np.array(value) * (mapping["high"] - mapping["low"]) / 65535
            step = (mapping["high"] - mapping["low"]) / 65535
            np.testing.assert_allclose(depth, ds.depth[sample].astype(float), atol=step)
            assert row["background"] == names["background"][ds.placements.background[sample]]
            assert row["flip"] is bool(ds.placements.flip[sample])
            inside = ds.mask[sample] > MASK_ABOVE
            assert row["objects"] == {
                "bbox": [box_of(inside)], "area": [int(inside.sum())], "category": [0]
            }  # fmt: skip


def test_objects_of_scenes_are_those_of_the_instance_maps(scenes, tmp_path):
    ds = scenes
    export(ds, tmp_path / "out", to="parquet")
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 20
    seen = 0
    for sample, row in enumerate(rows):
        np.testing.assert_array_equal(pixels_of(row["instance"]), ds.instance[sample])
        objects = row["objects"]
        numbers = [number for number in range(1, 256) if (ds.instance[sample] == number).any()]
        assert objects["instance"] == numbers
        assert objects["bbox"] == [box_of(ds.instance[sample] == number) for number in numbers]
        assert objects["area"] == [(ds.instance[sample] == number).sum() for number in numbers]
        made_of = ds.objects.foreground[sample]
        expected = [source_names(ds)["foreground"][made_of[number - 1]] for number in numbers]
        assert objects["foreground"] == expected
        seen += len(numbers)
    assert seen > 15
    assert verify_export(tmp_path / "out").sound


def test_imported_samples_have_their_names(imported, tmp_path):
    export(imported, tmp_path / "out", to="parquet", depth_bits=8)
    rows = rows_of(tmp_path / "out")
    assert [row["name"] for row in rows] == list(imported.names)
    assert pixels_of(rows[0]["depth"]).dtype == np.uint8
    assert not pixels_of(rows[0]["depth"])[:2].any()


def test_files_are_as_large_as_asked_for(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 5)
    export(dataset, tmp_path / "a", to="parquet", shard_samples=13)
    assert export_document(tmp_path / "a")["details"]["files"] == {
        "data/train-00000-of-00003.parquet": 13,
        "data/train-00001-of-00003.parquet": 13,
        "data/train-00002-of-00003.parquet": 10,
    }
    groups = arrow.ParquetFile(tmp_path / "a/data/train-00000-of-00003.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [5, 5, 3]
    assert [row["sample"] for row in rows_of(tmp_path / "a")] == list(range(36))

    export(dataset, tmp_path / "b", to="parquet", shard_bytes=20_000)
    paths = sorted((tmp_path / "b" / "data").iterdir())
    assert len(paths) > 2
    for path in paths:
        # What is not rows is the schema, and where they are.
        assert path.stat().st_size < 20_000 + 8_000
    assert [row["sample"] for row in rows_of(tmp_path / "b")] == list(range(36))


def test_the_card_names_the_files_and_says_what_the_dataset_states(depth_dataset, tmp_path):
    ds = open_dataset(depth_dataset)
    path = tmp_path / "stated.zarr"
    export(ds, tmp_path / "plain", to="parquet", split={"a.b": [0], "a b": [1]})
    shutil.copytree(depth_dataset, path)
    write_cards(path, About(name="Lobby: people", license="CC-BY-4.0", citation="Somebody, 2026"))
    export(path, tmp_path / "out", to="parquet", samples=range(3))
    matter, text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1:]
    said = yaml.safe_load(matter)
    assert (said["pretty_name"], said["license"]) == ("Lobby: people", "cc-by-4.0")
    assert "viewer" not in said
    assert said["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}
    ]
    assert "Somebody, 2026" in text
    assert "3 of 36" in text
    plain = yaml.safe_load((tmp_path / "plain" / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    splits = [one["split"] for one in plain["configs"][0]["data_files"]]
    assert splits == ["a_b_0", "a_b_1"]
    for split, sample in zip(splits, (0, 1), strict=True):
        assert [row["sample"] for row in rows_of(tmp_path / "plain", split)] == [sample]


def test_a_zip_file_has_no_cards_beside_it(dataset, tmp_path):
    pack(dataset, tmp_path / "it.zip")
    export(tmp_path / "it.zip", tmp_path / "out", to="parquet", samples=[0])
    matter = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1]
    assert yaml.safe_load(matter)["license"] == "unknown"


def test_masks_may_be_left_out(dataset, tmp_path):
    export(dataset, tmp_path / "out", to="parquet", fields="image", samples=[4])
    (row,) = rows_of(tmp_path / "out")
    assert list(row) == ["image", "sample", "background", "foreground", "flip", "replica", "y", "x"]


def test_an_empty_category_is_refused(dataset, tmp_path):
    with pytest.raises(SpecError, match="Parquet") as caught:
        export(dataset, tmp_path / "out", to="parquet", category=" ")
    assert caught.value.code == "export-options-invalid"

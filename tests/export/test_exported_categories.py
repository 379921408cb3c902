"""Categories of foregrounds, by folders and tables, arrive in every format, by their names."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from card_helpers import load
from exports import export_document, litdata_items, mds_samples, table_rows
from pyarrow import parquet
from zarr.storage import MemoryStore

from fgbgpack import create, open_dataset
from fgbgpack.cards import write_cards
from fgbgpack.export import TARGETS, export
from fgbgpack.pipeline import convert

#: The categories of each sample, by the number of the sample.
Found = dict[int, list[str]]


def in_records(records) -> Found:
    """What records of samples say: of a pair its category, of a scene those of all its objects."""
    return {
        int(record["sample"]): [record["category"]]
        if "category" in record
        else [one["category"] for one in record["objects"]]
        for record in records
    }


def in_table(out: Path) -> Found:
    rows = table_rows(out)
    return in_records(row | {"objects": json.loads(row.get("objects", "[]"))} for row in rows)


def in_tar(out: Path) -> Found:
    with tarfile.open(out / "samples-000000.tar") as tar:
        names = [name for name in tar.getnames() if name.endswith(".json")]
        return in_records([json.load(tar.extractfile(name)) for name in names])


def in_columns(samples: list[dict], details: dict) -> Found:
    """What columns of numbers say, whose meanings are details of the export."""
    named = [
        sample | {"category": details["categories"][sample["category"]]}
        if "category" in sample
        else sample | {"objects": json.loads(sample["objects"])}
        for sample in samples
    ]
    return in_records(named)


def in_shards(out: Path) -> Found:
    return in_columns(mds_samples(out), export_document(out)["details"])


def in_arrays(out: Path) -> Found:
    with np.load(out / "part-00000.npz") as arrays:
        columns = {name: arrays[name].tolist() for name in arrays if arrays[name].ndim == 1}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return in_columns(rows, export_document(out)["details"])


def in_chunks(out: Path) -> Found:
    names = export_document(out)["details"]["categories"]
    return {
        item["sample"]: [names[number] for number in item["objects"]["category"] if number >= 0]
        for item in litdata_items(out)
    }


def in_coco(out: Path) -> Found:
    said = json.loads((out / "annotations" / "instances_all.json").read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in said["categories"]}
    assert len(set(names.values())) == len(names)
    found: Found = {image["id"]: [] for image in said["images"]}
    for one in said["annotations"]:
        found[one["image_id"]].append(names[one["category_id"]])
    return found


def in_panoptic(out: Path) -> Found:
    said = json.loads((out / "annotations" / "panoptic_all.json").read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in said["categories"] if one["isthing"]}
    return {
        one["image_id"]: [
            names[segment["category_id"]]
            for segment in one["segments_info"]
            if segment["category_id"] in names
        ]
        for one in said["annotations"]
    }


def in_labels(out: Path) -> Found:
    names = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))["names"]
    return {
        int(path.stem): [names[int(line.split()[0])] for line in path.read_text().splitlines()]
        for path in (out / "labels").iterdir()
    }


def in_rows(out: Path) -> Found:
    (path,) = (out / "data").iterdir()
    rows = parquet.read_table(path)
    features = json.loads(rows.schema.metadata[b"huggingface"])["info"]["features"]
    names = features["objects"]["category"]["feature"]["names"]
    assert len(set(names)) == len(names)
    return {
        row["sample"]: [names[number] for number in row["objects"]["category"]] for row in rows.to_pylist()
    }


#: How categories are found in each format, and whether those of objects that are hidden are among them.
READERS = {
    "folder": (in_table, True),
    "webdataset": (in_tar, True),
    "mds": (in_shards, True),
    "npz": (in_arrays, True),
    "litdata": (in_chunks, False),
    "coco": (in_coco, False),
    "coco-panoptic": (in_panoptic, False),
    "yolo": (in_labels, False),
    "parquet": (in_rows, False),
}


def categories_in(ds, category_of: dict[str, str], *, with_hidden: bool) -> Found:
    """The truth, by the names of the files that the objects of samples were made of."""
    names = [source.name for source in ds.document.sources.foregrounds]
    if not ds.has_objects:
        foregrounds = ds.placements.foreground.tolist()
        return {sample: [category_of[names[number]]] for sample, number in enumerate(foregrounds)}
    found: Found = {}
    for sample, numbers in enumerate(ds.objects.foreground.tolist()):
        found[sample] = [
            category_of[names[number]]
            for place, number in enumerate(numbers, start=1)
            if number >= 0 and (with_hidden or (ds.instance[sample] == place).any())
        ]
    return found


@pytest.mark.parametrize("kind", ["pairs", "scenes"])
@pytest.mark.parametrize("to", TARGETS)
def test_the_category_of_each_object_arrives_by_its_name(categorised, tmp_path, to, kind):
    ds, category_of = categorised[kind]
    read, with_hidden = READERS[to]
    export(ds, tmp_path / "out", to=to)
    expected = categories_in(ds, category_of, with_hidden=with_hidden)
    assert read(tmp_path / "out") == expected
    assert {name for names in expected.values() for name in names} == set(category_of.values())


@pytest.mark.parametrize("to", TARGETS)
def test_categories_of_imported_objects_arrive(categorised, annotated, tmp_path, to):
    export(annotated, tmp_path / "out", to=to)
    scenes, category_of = categorised["scenes"]
    # What was hidden is not in the files that were imported.
    expected = categories_in(scenes, category_of, with_hidden=False)
    assert READERS[to][0](tmp_path / "out") == expected


@pytest.mark.parametrize("to", ["litdata", "coco", "coco-panoptic", "yolo", "parquet"])
def test_foregrounds_of_no_category_may_be_called_as_one(own_pictures, tmp_path, to):
    (own_pictures.foregrounds / "sources.csv").write_text("file,category\nf1.png,dog\n")
    store = MemoryStore()
    create(store, own_pictures.spec(placements=1))
    for name in ("dog", "cat"):
        export(store, tmp_path / name, to=to, category=name)
        found = READERS[to][0](tmp_path / name)
        assert {names[0] for names in found.values()} == {"dog", name}
        assert found[0] == [name]


def test_categories_are_there_without_masks(categorised, tmp_path):
    ds, category_of = categorised["pairs"]
    export(ds, tmp_path / "chunks", to="litdata", fields="image")
    found = in_columns(litdata_items(tmp_path / "chunks"), export_document(tmp_path / "chunks")["details"])
    assert found == categories_in(ds, category_of, with_hidden=True)


@pytest.mark.parametrize("kind", ["pairs", "scenes"])
def test_categories_are_the_same_in_hdf5(categorised, tmp_path, kind):
    ds, category_of = categorised[kind]
    path = tmp_path / "it.h5"
    convert(ds.path, path)
    assert open_dataset(path).categories == ds.categories == tuple(dict.fromkeys(category_of.values()))
    if kind == "scenes":
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["objects/category"][:], ds.objects.category)


@pytest.mark.parametrize("kind", ["pairs", "scenes"])
def test_samples_are_found_by_categories(categorised, kind):
    ds, category_of = categorised[kind]
    truth = categories_in(ds, category_of, with_hidden=True)
    for name in ds.categories:
        expected = [sample for sample, names in truth.items() if name in names]
        assert ds.where(category=name).tolist() == expected
    dogs = [name for name, category in category_of.items() if category == "dog"]
    both = ds.where(category="dog", foreground=dogs[0]).tolist()
    assert both == ds.where(foreground=dogs[0]).tolist()


@pytest.mark.parametrize("kind", ["pairs", "scenes"])
def test_cards_name_categories(categorised, tmp_path, kind):
    ds, category_of = categorised[kind]
    shutil.copytree(ds.path, tmp_path / "it.zarr")
    written = write_cards(tmp_path / "it.zarr")
    sources = list(load(written.croissant).records("sources"))
    found = {
        record["sources/file"]: record["sources/category"]
        for record in sources
        if record["sources/kind"] == "foreground"
    }
    assert found == category_of
    lines = written.datacard.read_text(encoding="utf-8").splitlines()
    (said,) = [line for line in lines if line.startswith("| Categories |")]
    for number, name in enumerate(ds.categories):
        count = sum(category == name for category in category_of.values())
        assert f"{number} {name} ({count} foreground" in said

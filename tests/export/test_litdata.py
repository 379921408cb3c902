"""What is exported for LitData: items that are the samples, as it reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders import tree
from exports import export_document, litdata_items, source_names
from other_tools import READERS, needs, printed_by

from fgbgpack import open_dataset
from fgbgpack.errors import SpecError
from fgbgpack.export import export, verify_export
from fgbgpack.export.objects import MASK_ABOVE

needs_litdata = needs("litdata", "torch", packages=READERS)

#: Saves all samples of some addresses as LitData reads them, leaf by leaf.
READ_ALL = """
    import json, sys
    import numpy as np
    from litdata import StreamingDataLoader, StreamingDataset

    def leaves(item, path=""):
        for key, value in item.items():
            yield from leaves(value, f"{path}{key}.") if isinstance(value, dict) else [(path + key, value)]

    orders = []
    saved, *addresses = sys.argv[1:]
    for number, address in enumerate(addresses):
        ds = StreamingDataset(address)
        items = [dict(leaves(ds[i])) for i in range(len(ds))]
        columns = {name: np.stack([item[name] for item in items]) for name in items[0]}
        np.savez(f"{saved}-{number}.npz", **columns)
        shuffled = StreamingDataset(address, shuffle=True, seed=1)
        loader = StreamingDataLoader(shuffled, batch_size=4, num_workers=0 if number else 2)
        orders.append([sample for batch in loader for sample in batch["sample"].tolist()])
    print(json.dumps(orders))
"""


def in_litdata(tmp_path: Path, code: str, *arguments: object) -> str:
    """What a program prints that reads by LitData; it fails as the program does."""
    # It copies what is compressed below the home directory.
    return printed_by(code, *arguments, cwd=tmp_path, packages=READERS, HOME=tmp_path / "home")


def flat(item: dict) -> dict:
    """An item as LitData's test program saves it."""
    objects = {f"objects.{name}": values for name, values in item.get("objects", {}).items()}
    return {name: value for name, value in item.items() if name != "objects"} | objects


def assert_items(items: list[dict], ds, samples) -> None:
    """Items are samples of a dataset of pairs, with their types."""
    truth = ds.read(samples).arrays
    assert [item["sample"] for item in items] == list(samples)
    for i, item in enumerate(items):
        assert item.keys() == {*truth, "sample", "objects"}
        for name, array in truth.items():
            np.testing.assert_array_equal(item[name], array[i])
            if name in ds.fields:
                assert item[name].dtype == array.dtype
        rows, columns = np.nonzero(truth["mask"][i] > MASK_ABOVE)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        found = {name: values.tolist() for name, values in item["objects"].items()}
        assert found == {"bbox": [box], "area": [len(rows)], "category": [0]}


def test_items_are_the_samples(depth_dataset, tmp_path):
    ds = open_dataset(depth_dataset)
    split = {"train": np.arange(5, 20), "hold out": np.array([1, 3])}
    export(ds, tmp_path / "out", to="litdata", split=split, category="person", shard_samples=4)
    for name, samples in split.items():
        assert_items(litdata_items(tmp_path / "out" / name), ds, samples)
    assert {path.name for path in (tmp_path / "out" / "train").iterdir()} == {
        "index.json", *(f"chunk-0-{i}.bin" for i in range(4))
    }  # fmt: skip
    details = export_document(tmp_path / "out")["details"]
    assert details["categories"] == ["person"]
    assert details["sources"] == source_names(ds)
    assert details["columns"]["depth"] == "float16:21,33"
    assert details["columns"]["objects.bbox"] == "int32:1,4"
    assert verify_export(tmp_path / "out").sound


def test_objects_of_scenes_are_those_of_the_instance_maps(scenes, tmp_path):
    ds = scenes
    export(ds, tmp_path / "out", to="litdata", compression="zstd")
    items = litdata_items(tmp_path / "out")
    assert [item["sample"] for item in items] == list(range(20))
    counts = set()
    for sample, item in enumerate(items):
        for field in ds.fields:
            np.testing.assert_array_equal(item[field], ds.read([sample]).arrays[field][0])
        objects, instance = item["objects"], ds.instance[sample]
        numbers = [number for number in range(1, 256) if (instance == number).any()]
        count = len(numbers)
        counts.add(count)
        assert {name: len(values) for name, values in objects.items()} == dict.fromkeys(
            ("bbox", "area", "category", "instance", "foreground"), 3
        )
        assert all((values[count:] == -1).all() for values in objects.values())
        assert objects["instance"][:count].tolist() == numbers
        assert objects["area"][:count].tolist() == [(instance == number).sum() for number in numbers]
        made_of = ds.objects.foreground[sample]
        assert objects["foreground"][:count].tolist() == [made_of[number - 1] for number in numbers]
        for (left, top, width, height), number in zip(objects["bbox"], numbers, strict=False):
            rows, columns = np.nonzero(instance == number)
            assert (left, top) == (columns.min(), rows.min())
            assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert counts >= {0, 1, 3}
    assert verify_export(tmp_path / "out").sound


def test_imported_samples_have_their_names(imported, tmp_path):
    export(imported, tmp_path / "out", to="litdata")
    items = litdata_items(tmp_path / "out")
    assert [item["name"] for item in items] == imported.names
    for sample, item in enumerate(items):
        np.testing.assert_array_equal(item["depth"], imported.depth[sample])


def test_masks_may_be_left_out(dataset, tmp_path):
    export(dataset, tmp_path / "out", to="litdata", fields="image", samples=[4])
    (item,) = litdata_items(tmp_path / "out")
    assert list(item) == ["image", "sample", "background", "foreground", "flip", "replica", "y", "x"]
    assert "categories" not in export_document(tmp_path / "out")["details"]


@pytest.mark.slow
@needs_litdata
def test_litdata_reads_what_is_in_the_files(depth_dataset, scenes, imported, tmp_path):
    places, addresses = [], []
    for number, (ds, options) in enumerate(
        [
            (depth_dataset, {"shard_samples": 7}),
            (depth_dataset, {"compression": "zstd:9", "shard_bytes": 40_000}),
            (scenes, {}),
            (imported, {"compression": "zstd"}),
        ]
    ):
        report = export(ds, tmp_path / f"it's {number}", to="litdata", **options)
        namespace: dict = {}
        exec(report.opened_by[1].replace("StreamingDataset", "str"), namespace)
        addresses.append(namespace["ds"])
        places.append(tmp_path / f"it's {number}")
    before = {place: tree(place) for place in places}
    printed = in_litdata(tmp_path, READ_ALL, tmp_path / "read", *addresses)
    orders = json.loads(printed.splitlines()[-1])
    for number, (place, order) in enumerate(zip(places, orders, strict=True)):
        assert sorted(order) == list(range(len(order)))
        assert order != sorted(order)
        items = [flat(item) for item in litdata_items(place)]
        found = dict(np.load(tmp_path / f"read-{number}.npz"))
        assert found.keys() == items[0].keys()
        assert len(found["sample"]) == len(items) == len(order)
        for name, values in found.items():
            expected = np.stack([item[name] for item in items])
            np.testing.assert_array_equal(values, expected)
            assert values.dtype == expected.dtype
        # Reading changes nothing.
        assert tree(place) == before[place]


def test_chunks_are_as_large_as_asked_for(dataset, tmp_path):
    export(dataset, tmp_path / "out", to="litdata", shard_bytes=30_000)
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    counts = [chunk["chunk_size"] for chunk in index["chunks"]]
    assert sum(counts) == 36
    assert len(counts) > 3
    for chunk in index["chunks"]:
        size = (tmp_path / "out" / chunk["filename"]).stat().st_size
        assert size == chunk["chunk_bytes"] <= 30_000
    # No chunk but the last has room for another item.
    one = index["chunks"][0]["chunk_bytes"] // counts[0]
    assert all(chunk["chunk_bytes"] + one > 30_000 for chunk in index["chunks"][:-1])
    # An item larger than a chunk has one alone.
    export(dataset, tmp_path / "alone", to="litdata", shard_bytes=10, samples=[0, 1, 2])
    index = json.loads((tmp_path / "alone" / "index.json").read_text())
    assert [chunk["chunk_size"] for chunk in index["chunks"]] == [1, 1, 1]


def test_a_changed_pixel_is_found(dataset, tmp_path):
    export(dataset, tmp_path / "sound", to="litdata", split={"a": [0, 1], "b": [2]})
    out = shutil.copytree(tmp_path / "sound", tmp_path / "out")
    path = out / "b" / "chunk-0-0.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (fault,) = verify_export(out).faults
    assert (fault.code, fault.key) == ("file-damaged", "b/chunk-0-0.bin")


def test_all_problems_are_reported_together(dataset, tmp_path):
    with pytest.raises(SpecError) as caught:
        export(dataset, tmp_path / "out", to="litdata", compression="gz", shard_bytes=1 << 31, category=" ")
    assert caught.value.code == "export-options-invalid"
    named = [problem.split(":")[0] for problem in caught.value.problems]
    assert named == ["--compression", "--shard-size", "--category"]
    assert not (tmp_path / "out").exists()

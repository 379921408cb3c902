"""Exports as tests look at them: their files, tables and documents."""

from __future__ import annotations

import csv
import gc
import json
import struct
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import webdataset
from builders import names_in as names_in
from numcodecs import zstd
from PIL import Image


def export_document(out: Path) -> dict:
    return json.loads((out / "fgbgpack.json").read_text(encoding="utf-8"))


def table_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def file_column(field: str) -> str:
    """The column of that table with the paths of a field's pictures."""
    return {"image": "file_name", "mask": "mask_file_name", "depth": "depth_file_name"}[field]


def read_picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def source_names(ds) -> dict[str, list[str]]:
    """The file names of a dataset's backgrounds and foregrounds."""
    sources = ds.document.sources
    return {
        "background": [source.name for source in sources.backgrounds],
        "foreground": [source.name for source in sources.foregrounds],
    }


def webdataset_samples(urls: object, **options) -> list[dict]:
    """All samples, with image and mask decoded to arrays."""
    found = webdataset.WebDataset(urls, **({"shardshuffle": False} | options))
    gray = webdataset.imagehandler("l8")
    mask = webdataset.handle_extension("mask.png", lambda data: gray("png", data))
    with warnings.catch_warnings():
        # It leaves its files to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(found.decode(mask, "rgb8"))
        gc.collect()
    return samples


#: The types of arrays by their numbers in LitData's list.
LITDATA_TYPES = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def litdata_items(folder: Path) -> list[dict]:
    """The items of a folder of LitData's chunks, read as its format is described."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    config = index["config"]
    version, tree = json.loads(config["data_spec"])
    assert version == 1
    assert config["item_loader"] == "PyTreeLoader"
    assert config["encryption"] is None
    items = []
    for chunk in index["chunks"]:
        data = (folder / chunk["filename"]).read_bytes()
        if config["compression"] is not None:
            assert config["compression"] == "zstd"
            assert f".{config['compression']}.bin" in chunk["filename"]
            data = bytes(zstd.decompress(data))
        assert len(data) == chunk["chunk_bytes"]
        (count,) = struct.unpack_from("<I", data)
        assert count == chunk["chunk_size"]
        offsets = struct.unpack_from(f"<{count + 1}I", data, 4)
        assert offsets[0] == 4 * (count + 2)
        assert offsets[-1] == len(data)
        for start, end in pairwise(offsets):
            leaves = _litdata_leaves(data[start:end], config["data_format"])
            items.append(_litdata_tree(tree, leaves))
            assert not leaves
    return items


def _litdata_leaves(item: bytes, formats: list[str]) -> list:
    sizes = struct.unpack_from(f"<{len(formats)}I", item)
    found, place = [], 4 * len(formats)
    for kind, size in zip(formats, sizes, strict=True):
        found.append(_litdata_leaf(kind, item[place : place + size]))
        place += size
    assert place == len(item)
    return found


def _litdata_leaf(kind: str, data: bytes) -> object:
    if kind == "int":
        (number,) = struct.unpack("<q", data)
        return number
    if kind == "str":
        return data.decode()
    assert kind == "numpy"
    number, axes = struct.unpack_from("<II", data)
    shape = struct.unpack_from(f"<{axes}I", data, 8)
    return np.frombuffer(data[8 + 4 * axes :], f"<{LITDATA_TYPES[number]}").reshape(shape)


def _litdata_tree(spec: dict, leaves: list) -> object:
    if spec["type"] is None:
        return leaves.pop(0)
    assert spec["type"] == "builtins.dict"
    below = spec["children_spec"]
    return {
        key: _litdata_tree(one, leaves) for key, one in zip(json.loads(spec["context"]), below, strict=True)
    }


def mds_samples(folder: Path) -> list[dict]:
    """The samples of a folder of MDS shards, read as its format is described."""
    samples = []
    for shard in json.loads((folder / "index.json").read_text(encoding="utf-8"))["shards"]:
        entry = shard["zip_data"] or shard["raw_data"]
        data = (folder / entry["basename"]).read_bytes()
        if shard["zip_data"]:
            data = bytes(zstd.decompress(data))
        (count,) = struct.unpack_from("<I", data)
        assert count == shard["samples"]
        for start, _ in pairwise(struct.unpack_from(f"<{count + 1}I", data, 4)):
            sizes = []
            for size in shard["column_sizes"]:
                if size is None:
                    (size,) = struct.unpack_from("<I", data, start)
                    start += 4
                sizes.append(size)
            sample = {}
            for name, kind, size in zip(shard["column_names"], shard["column_encodings"], sizes, strict=True):
                sample[name] = _mds_value(kind, data[start : start + size])
                start += size
            samples.append(sample)
    return samples


def _mds_value(kind: str, data: bytes) -> object:
    if kind == "int":
        (number,) = struct.unpack("<q", data)
        return number
    if kind == "str":
        return data.decode()
    _, dtype, shape = kind.split(":")
    return np.frombuffer(data, dtype).reshape([int(length) for length in shape.split(",")])

"""Exports as tests look at them: their files, tables and documents."""

from __future__ import annotations

import csv
import gc
import json
import warnings
from pathlib import Path

import numpy as np
import webdataset
from builders import names_in as names_in
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

"""All that the cards tell of a dataset, gathered once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from fgbgpack.cards.licences import LicenceGroup, group_by_licence
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.storage.hdf5 import is_hdf5
from fgbgpack.storage.store import (
    BACKGROUND_DEPTH,
    DEPTH,
    DEPTH_MAX,
    DEPTH_MIN,
    IMAGE,
    MASK,
    NAME,
    PLACEMENTS,
    ROOT,
    SOURCE_ARRAYS,
    Keys,
    is_guided,
    is_virtual,
    own_keys,
    store_of,
)

_PLACEMENT_MEANINGS = {
    "background": "which background",
    "foreground": "which foreground",
    "flip": "whether the foreground is mirrored",
    "replica": "which placement of its pair",
    "y": "top row of the pasted foreground, in pixels",
    "x": "left column of the pasted foreground, in pixels",
}


@dataclass(frozen=True)
class Array:
    """An array of a dataset.

    Attributes:
        path: Its path in the dataset.
        dtype: Its type, as NumPy calls it.
        shape: Its shape.
        meaning: What its numbers are, with their unit.
        stored: Bytes that it takes on disk; None where it is not stored, or that is not known.
        virtual: Whether it is made when it is read.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    meaning: str
    stored: int | None
    virtual: bool = False

    @property
    def per_sample(self) -> bool:
        """Whether its first axis counts samples."""
        return "/" not in self.path


@dataclass(frozen=True)
class File:
    """A file that can be checked: where it is from the card's point of view, its size and its digest."""

    address: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """A part of a saved split."""

    split: str
    part: str
    by: str
    seed: int
    fraction: float
    samples: int


@dataclass(frozen=True)
class Facts:
    """What there is to tell of a dataset.

    Attributes:
        name: The name of its folder or file.
        opened_as: How code that lies beside it opens it: that name, or its address.
        form: Whether it is a Zarr store or an HDF5 file.
        document: What it says of itself.
        samples: How many there are.
        height: Their height in pixels.
        width: Their width in pixels.
        arrays: Its arrays.
        total: Bytes of all of it; None where that cannot be told from afar.
        files: How many files it is; None where that cannot be told from afar.
        checked: The file whose digest tells this dataset from others: its document, or all of an HDF5 file.
        depth_attributes: The attributes of /depth; None where there is no depth.
        parts: The parts of all saved splits.
    """

    name: str
    opened_as: str
    form: Literal["zarr", "hdf5"]
    document: Mapping[str, Any]
    samples: int
    height: int
    width: int
    arrays: tuple[Array, ...]
    total: int | None
    files: int | None
    checked: File
    depth_attributes: Mapping[str, Any] | None
    parts: tuple[Part, ...]

    @property
    def spec(self) -> Mapping[str, Any] | None:
        """What was asked for; None of a dataset that was imported."""
        return self.document.get("spec")

    @property
    def sources(self) -> Mapping[str, Any] | None:
        """The pictures that it was made of; None of a dataset that was imported."""
        return self.document.get("sources")

    @property
    def depth(self) -> Mapping[str, Any] | None:
        """How depth was filled; None where there is none."""
        section: Mapping[str, Any] | None = self.document["depth"]
        return section

    @property
    def networks(self) -> list[Mapping[str, Any]]:
        """The cards of the depth networks."""
        if self.depth is None or "model" not in self.depth:
            return []
        guide = self.depth["guide"]
        return [self.depth["model"], *([] if guide is None else [guide["model"]])]

    @property
    def virtual(self) -> bool:
        """Whether image and mask are made when they are read."""
        return is_virtual(self.document)

    @property
    def backgrounds(self) -> int:
        """How many backgrounds there are."""
        return len(self.sources["backgrounds"]) if self.sources else 0

    @property
    def foregrounds(self) -> int:
        """How many foregrounds there are."""
        return len(self.sources["foregrounds"]) if self.sources else 0

    @cached_property
    def licences(self) -> list[LicenceGroup]:
        """The licences of the pictures."""
        return group_by_licence(self.sources) if self.sources else []

    @property
    def made_by(self) -> str:
        """What wrote the dataset."""
        return f"fgbgpack {self.document['software'].get('fgbgpack', '')}".strip()


def gather(dataset: Dataset) -> Facts:
    """What there is to tell of an open dataset.

    Raises:
        DatasetError: The dataset is damaged or cannot be read.
    """
    path = dataset.path
    is_remote = "://" in path and not path.startswith("file://")
    name = (PurePosixPath(urlsplit(path).path) if is_remote else Path(path).resolve()).name
    is_file = is_hdf5(path)
    stored = dataset.stored_bytes()
    keys = None if is_file else Keys(store_of(path, read_only=True), path)
    attributes = dict(dataset.depth.attrs) if dataset.has_depth else None
    checked = _hdf5_file(Path(path), name) if keys is None else _document_file(keys, path, is_remote)
    return Facts(
        name=name,
        opened_as=path if is_remote else name,
        form="hdf5" if is_file else "zarr",
        document=dataset.document,
        samples=len(dataset),
        height=dataset.height,
        width=dataset.width,
        arrays=tuple(_arrays(dataset, stored, attributes)),
        total=checked.bytes if keys is None else sum(stored.values()) or None,
        files=1 if keys is None else len(own_keys(keys)) or None,
        checked=checked,
        depth_attributes=attributes,
        parts=tuple(_parts(dataset)),
    )


def _document_file(keys: Keys, path: str, is_remote: bool) -> File:
    content = keys.get(ROOT) or b""
    address = f"{path.rstrip('/')}/{ROOT}" if is_remote else ROOT
    return File(address, len(content), hashlib.sha256(content).hexdigest())


def _hdf5_file(path: Path, name: str) -> File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return File(name, file.tell(), digest)


def _parts(dataset: Dataset) -> list[Part]:
    return [
        Part(split, part, recipe["by"], recipe["seed"], recipe["parts"][part], len(samples))
        for split, recipe in dataset.splits.items()
        for part, samples in dataset.split(split).items()
    ]


def _arrays(
    dataset: Dataset, stored: Mapping[str, int], depth_attributes: Mapping[str, Any] | None
) -> list[Array]:
    n, size = len(dataset), (dataset.height, dataset.width)
    virtual = is_virtual(dataset.document)
    what = "alpha of the pasted foreground" if dataset.has_recipe else "the mask as it was imported"
    arrays = [
        Array(IMAGE, "uint8", (n, *size, 3), "RGB, 0 to 255", stored.get(IMAGE), virtual),
        Array(MASK, "uint8", (n, *size), f"{what}, 0 to 255", stored.get(MASK), virtual),
    ]
    if depth_attributes is not None:
        unit = meaning_of_depth(depth_attributes)
        if dataset.document["depth"].get("invalid") is not None:
            unit += "; NaN where it is not known"
        arrays += [
            Array(DEPTH, "float16", (n, *size), unit, stored.get(DEPTH)),
            Array(DEPTH_MIN, "float16", (n,), "the smallest depth of each sample", stored.get(DEPTH_MIN)),
            Array(DEPTH_MAX, "float16", (n,), "the largest depth of each sample", stored.get(DEPTH_MAX)),
        ]
    if not dataset.has_recipe:
        shape = dataset.whole(NAME).shape
        return [*arrays, Array(NAME, "uint8", shape, "name of each sample, UTF-8", stored.get(NAME))]
    arrays += [
        Array(path, "bool" if path == "flip" else "int32", (n,), _PLACEMENT_MEANINGS[path], stored.get(path))
        for path in PLACEMENTS
    ]
    sources = dataset.document["sources"]
    backgrounds, foregrounds = len(sources["backgrounds"]), len(sources["foregrounds"])
    background, foreground, foreground_size = SOURCE_ARRAYS
    largest = tuple(int(side) for side in dataset.whole(foreground_size).max(axis=0))
    arrays += [
        Array(background, "uint8", (backgrounds, *size, 3), "the backgrounds, RGB", stored.get(background)),
        Array(
            foreground,
            "uint8",
            (foregrounds, *largest, 4),
            "the foregrounds, RGBA, padded with zeros",
            stored.get(foreground),
        ),
        Array(
            foreground_size,
            "int32",
            (foregrounds, 2),
            "height and width of each foreground, in pixels",
            stored.get(foreground_size),
        ),
    ]
    if depth_attributes is not None and is_guided(dataset.document["depth"]):
        unit = meaning_of_depth(depth_attributes)
        shape = (backgrounds, *size)
        arrays.append(
            Array(
                BACKGROUND_DEPTH,
                "float32",
                shape,
                f"of the backgrounds: {unit}",
                stored.get(BACKGROUND_DEPTH),
            )
        )
    return arrays


def meaning_of_depth(attributes: Mapping[str, Any]) -> str:
    """What the numbers of /depth are, by its attributes."""
    quantity, unit = attributes.get("quantity"), attributes.get("unit")
    if quantity is None:
        return "depth, whose kind and unit are not known"
    word = "inverse depth" if quantity == "inverse_depth" else "depth"
    side = "nearer" if quantity == "inverse_depth" else "farther"
    if unit:
        return f"{word} in {unit}, larger is {side}"
    return f"{word}, relative: larger is {side}, scale and shift are not known"

"""All facts about a dataset that its cards state, collected once."""

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
from fgbgpack.dataset.stats import Stats
from fgbgpack.document import (
    BACKGROUND_DEPTH,
    BOXES,
    CATEGORIES,
    DEPTH,
    DEPTH_MAX,
    DEPTH_MIN,
    FIGURE_DEPTH,
    FRONT_ROW,
    IMAGE,
    INSTANCE,
    MASK,
    NAME,
    OBJECT_ARRAYS,
    PERSON_PIXELS,
    SOURCE_ARRAYS,
    VISIBLE,
    Document,
    ImportedDepthInfo,
    NetworkDepthInfo,
)
from fgbgpack.files import sha256_of
from fgbgpack.import_info import CREDITS
from fgbgpack.source_info import PictureCredit
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.hdf5 import is_hdf5
from fgbgpack.storage.targets import is_elsewhere

_PLACEMENT_MEANINGS = {
    "background": "which background",
    "foreground": "which foreground",
    "flip": "whether the foreground is mirrored",
    "replica": "which placement of its pair",
    "y": "top row of the pasted foreground, in pixels",
    "x": "left column of the pasted foreground, in pixels",
}
_SCENE_MEANINGS = {
    "background": "which background",
    "replica": "which of the samples of its background",
    **dict(
        zip(
            OBJECT_ARRAYS,
            (
                "which foreground each object is, far to near; -1 in all of these where there is none",
                "what it is: the number of its category",
                "whether it is mirrored",
                "its top row, in pixels, before it is turned",
                "its left column, in pixels, before it is turned",
                "its height, in pixels, before it is turned",
                "its width, in pixels, before it is turned",
                "how far it is turned clockwise about its middle, in tenths of a degree",
                "what its edges are: 0 soft, 1 hard, 2 feathered",
                "what its red, green and blue are multiplied by, times 256",
                "how dark its shadow is, 0 to 255",
                "the share of its pixels (alpha above 127) that is seen",
                "top, left, bottom and right of these pixels",
            ),
            strict=True,
        )
    ),
}


_CREDIT_MEANINGS = dict(
    zip(
        CREDITS,
        (
            "the licence of each sample's picture, as stated, UTF-8; empty where none is",
            "who made it, in the same form",
            "where it is from, in the same form",
        ),
        strict=True,
    )
)
_IMPORTED_MEANINGS = {
    CATEGORIES: "what each object is: the number of its category; -1 in all of these where there is none",
    VISIBLE: "the share of each object that is seen",
    BOXES: "top, left, bottom and right of the pixels of each object in /instance",
}


@dataclass(frozen=True)
class ArraySummary:
    """An array of a dataset.

    Attributes:
        meaning: What its values are, with their unit.
        stored: Its bytes on disk; ``None`` where it is not stored or that is unknown.
        virtual: Whether it is composed when it is read.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    meaning: str
    stored: int | None
    virtual: bool

    @property
    def per_sample(self) -> bool:
        """Whether its first axis counts samples."""
        return "/" not in self.path


@dataclass(frozen=True)
class CheckedFile:
    """A file with its address as seen from the card, its size and its digest."""

    address: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitPart:
    """A part of a saved split: its requested fraction, and its number of samples."""

    split: str
    part: str
    by: str
    seed: int
    fraction: float
    samples: int


@dataclass(frozen=True)
class DatasetSummary:
    """The facts about a dataset that its cards state.

    Attributes:
        name: The name of its folder or file.
        target: What code beside it passes to ``open_dataset``: that name, or its address.
        total: Bytes of all files; ``None`` where that is unknown, as for ``files``, their number.
        checked: The file whose digest identifies the dataset: its document, or the whole HDF5 file.
        depth_attributes: The attributes of ``/depth``; ``None`` where there is no depth.
        stats: The statistics that the dataset keeps.
        credits: The name of each imported sample, and what is stated of its picture; ``None`` where nothing
            is stated of any.
    """

    name: str
    target: str
    form: Literal["zarr", "hdf5"]
    document: Document
    arrays: tuple[ArraySummary, ...]
    total: int | None
    files: int | None
    checked: CheckedFile
    depth_attributes: Mapping[str, Any] | None
    parts: tuple[SplitPart, ...]
    stats: Stats | None
    credits: tuple[tuple[str, PictureCredit], ...] | None = None

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.document.samples

    @property
    def size(self) -> str:
        """Width and height of a sample."""
        return f"{self.document.width}x{self.document.height}"

    @property
    def network_cards(self) -> list[Mapping[str, Any]]:
        """The cards of the depth networks."""
        depth = self.document.depth
        if not isinstance(depth, NetworkDepthInfo):
            return []
        cards = depth.model, None if depth.guide is None else depth.guide.model
        return [card for card in cards if card is not None]

    @property
    def backgrounds(self) -> int:
        """Number of backgrounds."""
        return len(self.document.sources.backgrounds) if self.document.sources else 0

    @property
    def foregrounds(self) -> int:
        """Number of foregrounds."""
        return len(self.document.sources.foregrounds) if self.document.sources else 0

    @cached_property
    def licences(self) -> list[LicenceGroup]:
        """The licences of the pictures; none where nothing is stated of those that were imported."""
        if self.credits is not None:
            return group_by_licence(imported=[credit.license for _, credit in self.credits])
        sources = self.document.sources
        if sources is None:
            return []
        return group_by_licence(
            *([one.license for one in kind] for kind in (sources.backgrounds, sources.foregrounds))
        )

    @property
    def made_by(self) -> str:
        """The program that wrote the dataset, with its version."""
        return f"fgbgpack {self.document.software.get('fgbgpack', '')}".strip()


def summarize(dataset: Dataset) -> DatasetSummary:
    """Collect the facts about an open dataset; a DatasetError if it is damaged or cannot be read."""
    path = dataset.path
    is_remote = is_elsewhere(path)
    name = (PurePosixPath(urlsplit(path).path) if is_remote else Path(path).resolve()).name
    is_file = is_hdf5(path)
    stored = dataset.stored_bytes()
    if is_file:
        checked = CheckedFile(name, Path(path).stat().st_size, sha256_of(Path(path)))
        total: int | None = checked.bytes
        files: int | None = 1
    else:
        content = dataset.store.get(METADATA) or b""
        address = f"{path.rstrip('/')}/{METADATA}" if is_remote else METADATA
        checked = CheckedFile(address, len(content), hashlib.sha256(content).hexdigest())
        total = sum(stored.values()) or None
        files = len(dataset.store.own_keys()) or None
    return DatasetSummary(
        name=name,
        target=path if is_remote else name,
        form="hdf5" if is_file else "zarr",
        document=dataset.document,
        arrays=_arrays(dataset, stored),
        total=total,
        files=files,
        checked=checked,
        depth_attributes=dict(dataset.depth.attrs) if dataset.has_depth else None,
        parts=tuple(
            SplitPart(split, part, recipe["by"], recipe["seed"], recipe["parts"][part], len(samples))
            for split, recipe in dataset.splits.items()
            for part, samples in dataset.split(split).items()
        ),
        stats=dataset.saved_stats,
        credits=_credits(dataset),
    )


def _credits(dataset: Dataset) -> tuple[tuple[str, PictureCredit], ...] | None:
    is_stated = not set(CREDITS).isdisjoint(dataset.document.of_imported)
    if not is_stated or dataset.names is None or dataset.credits is None:
        return None
    return tuple(zip(dataset.names, dataset.credits, strict=True))


def _arrays(dataset: Dataset, stored: Mapping[str, int]) -> tuple[ArraySummary, ...]:
    document = dataset.document
    alpha = "alpha of the pasted foreground" if document.has_recipe else "the mask as it was imported"
    meanings = {IMAGE: "RGB, 0 to 255", MASK: f"{alpha}, 0 to 255"}
    if document.is_scene:
        meanings[MASK] = "alpha of all objects together, 0 to 255"
    if document.has_objects:
        meanings[INSTANCE] = "0, or 1 + the number of the object on top where its alpha is above 127"
    depth = ""
    if document.depth is not None:
        depth = meaning_of_depth(dataset.depth.attrs)
        is_partial = isinstance(document.depth, ImportedDepthInfo) and document.depth.invalid is not None
        meanings |= {
            DEPTH: f"{depth}; NaN where it is not known" if is_partial else depth,
            DEPTH_MIN: "the smallest depth of each sample",
            DEPTH_MAX: "the largest depth of each sample",
        }
    if not document.has_recipe:
        meanings[NAME] = "name of each sample, UTF-8"
        meanings |= {path: _CREDIT_MEANINGS[path] for path in document.of_imported if path in CREDITS}
        meanings |= {path: _IMPORTED_MEANINGS[path] for path in document.object_arrays}
    else:
        source_meanings = (
            "the backgrounds, RGB",
            "the foregrounds, RGBA, padded with zeros",
            "height and width of each foreground, in pixels",
            "at which sides each foreground is cut: 1 top, 2 left, 4 bottom, 8 right, added up",
        )
        placed = _SCENE_MEANINGS if document.has_objects else _PLACEMENT_MEANINGS
        meanings |= placed | dict(zip(SOURCE_ARRAYS, source_meanings, strict=True))
    if PERSON_PIXELS in document.recipe_arrays:
        meanings[PERSON_PIXELS] = (
            "how high a person is, in pixels, whose feet are at each pixel of the backgrounds; 0 where "
            "nobody can stand"
        )
    if FRONT_ROW in document.recipe_arrays:
        meanings[FRONT_ROW] = (
            "the lowest row of feet of somebody whom each pixel of the backgrounds hides; -1 where it hides "
            "nobody"
        )
    of_sources = {
        BACKGROUND_DEPTH: f"of the backgrounds: {depth}",
        FIGURE_DEPTH: "of each background: inverse depth of a person who is p pixels high is the first "
        "number plus p times the second",
    }
    meanings |= {path: of_sources[path] for path in document.depth_sources}

    composed = {path: getattr(dataset, path) for path in document.composed if path in meanings}
    forms = dataset.store.forms(path for path in meanings if path not in composed)
    shapes = {path: (form.dtype, form.layout.shape) for path, form in forms.items()}
    shapes |= {path: (array.dtype, array.shape) for path, array in composed.items()}
    return tuple(
        ArraySummary(path, str(shapes[path][0]), shapes[path][1], meaning, stored.get(path), path in composed)
        for path, meaning in meanings.items()
    )


def meaning_of_depth(attributes: Mapping[str, Any]) -> str:
    """What the values of ``/depth`` are, by its attributes."""
    quantity, unit = attributes.get("quantity"), attributes.get("unit")
    if quantity is None:
        return "depth, whose kind and unit are not known"
    name = quantity.replace("_", " ")
    side = "nearer" if quantity == "inverse_depth" else "farther"
    if unit:
        return f"{name} in {unit}, larger is {side}"
    return f"{name}, relative: larger is {side}, scale and shift are not known"

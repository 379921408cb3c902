"""What users hold: an open dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from fgbgpack.composition.placement import Placements
from fgbgpack.dataset.batch import FIELDS, Batch, Room, check_out, shapes
from fgbgpack.dataset.splits import By, Split, shuffled
from fgbgpack.document import SourceInfo
from fgbgpack.errors import DatasetError, IncompleteDatasetError, SpecError
from fgbgpack.sources.catalog import Catalog
from fgbgpack.storage.layout import pixel_layouts
from fgbgpack.storage.reading import ArrayReader, StoredArray, extremes, read_together
from fgbgpack.storage.store import (
    BACKGROUND_DEPTH,
    DEPTH,
    IMAGE,
    MASK,
    NAME,
    PLACEMENTS,
    ROOT,
    SOURCE_ARRAYS,
    Keys,
    described_array,
    exclusive,
    has_recipe,
    is_guided,
    is_virtual,
    name_of,
    plan_of,
    read_document,
    store_of,
    stored_bytes,
    write_document,
)

if TYPE_CHECKING:
    from fgbgpack.dataset.composed import Recomposed

#: Where image and mask come from.
Pixels: TypeAlias = Literal["stored", "recomposed"]
#: The names of fields: one, several, or ``None`` for all that there are.
Fields: TypeAlias = str | Sequence[str] | None
#: Which samples: what indexes the first axis of a NumPy array.
Index: TypeAlias = int | slice | Sequence[int] | NDArray[Any]

#: What batches mix and read together by default: so many chunks, or what takes so much memory.
_WINDOW_CHUNKS = 16
_WINDOW_BYTES = 256 << 20
_BYTES_PER_PIXEL = 6  # of image, mask and depth together
_OPAQUE_HALF = 127
_MASKS_MEASURED = 256  # at a time
_SHOWN = 5
#: Attributes of a Dataset that hold what can be read again.
_READ_WHEN_NEEDED = ("placements", "names", "background_depth", "_recomposed", "_outlines", "_measured_masks")


class Dataset:
    """A dataset that is open for reading; get one with :func:`open_dataset`.

    It may be used from many threads, forked and pickled at any time. Leave it with ``close``, or use it in a
    ``with`` statement.

    Args:
        store: Where it is.
        name: What messages call it.
        document: What it says of itself.
        pixels: Where image and mask are to come from; ``"auto"`` takes stored ones where there are some.

    Attributes:
        document: What the dataset says of itself, as ``schemas/dataset`` describes it.
        pixels: ``"stored"`` where image and mask are read, ``"recomposed"`` where they are made of the
            sources and the placements, which gives the same bytes.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        document: dict[str, Any],
        pixels: Literal["auto", "stored", "recomposed"] = "auto",
    ) -> None:
        self._store = store
        self._name = name
        self.document = document
        self.pixels = _source_of_pixels(pixels, document, name)
        stored = FIELDS if self.pixels == "stored" else (DEPTH,)
        # What is there is found now, not when it is first read.
        self._stored = dict(zip(stored, self._open(*stored), strict=True))

    # --- what it is --------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self.document["recipe" if self.has_recipe else "imported"]["samples"])

    def __repr__(self) -> str:
        state = "" if self.complete else ", incomplete"
        depth = " with depth" if self.has_depth else ""
        size = f"{self.width}x{self.height}"
        return f"<fgbgpack.Dataset {self._name!r}: {len(self):,} samples of {size}{depth}{state}>"

    @property
    def path(self) -> str:
        """Where the dataset is, as it was given."""
        return self._name

    @property
    def complete(self) -> bool:
        """Whether all that the spec asks for is there."""
        return bool(self.document["complete"])

    @property
    def has_recipe(self) -> bool:
        """Whether it was made of sources and placements; else it was imported from pictures."""
        return has_recipe(self.document)

    @property
    def has_depth(self) -> bool:
        """Whether depth is filled, at least in part."""
        return self.document["depth"] is not None

    @property
    def height(self) -> int:
        """Height of every sample in pixels."""
        return int(self.document["spec" if self.has_recipe else "imported"]["height"])

    @property
    def width(self) -> int:
        """Width of every sample in pixels."""
        return int(self.document["spec" if self.has_recipe else "imported"]["width"])

    @property
    def fields(self) -> tuple[str, ...]:
        """What of ``"image"``, ``"mask"`` and ``"depth"`` there is to read."""
        return FIELDS if self.has_depth else FIELDS[:2]

    # --- its arrays --------------------------------------------------------------------------------

    @property
    def image(self) -> StoredArray:
        """Array (n, h, w, 3) uint8, RGB; it is indexed as NumPy's are, and reads what an index touches."""
        return self._array(IMAGE) if self.pixels == "stored" else StoredArray(self._recomposed[0], {})

    @property
    def mask(self) -> StoredArray:
        """Array (n, h, w) uint8, alpha of the pasted foreground, 0..255."""
        return self._array(MASK) if self.pixels == "stored" else StoredArray(self._recomposed[1], {})

    @property
    def depth(self) -> StoredArray:
        """Array (n, h, w) float16, NaN where it is not filled; its ``attrs`` tell quantity and unit."""
        return self._array(DEPTH)

    @cached_property
    def _recomposed(self) -> tuple[Recomposed, Recomposed]:
        """What makes image and mask anew."""
        from fgbgpack.dataset.composed import Recomposed

        catalog = self.catalog()
        image, mask = pixel_layouts(plan_of(self.document["spec"], catalog), self.document["spec"]["chunk"])
        return (
            Recomposed(catalog, self.placements, image, "image"),
            Recomposed(catalog, self.placements, mask, "mask"),
        )

    @cached_property
    def background_depth(self) -> StoredArray | None:
        """Array (B, h, w) float32: the depth of empty backgrounds where that guided ``depth``, else ``None``.

        It is in the quantity and unit of ``depth``, and NaN where it is not filled yet.
        """
        return StoredArray(*self._open(BACKGROUND_DEPTH)[0]) if is_guided(self.document["depth"]) else None

    @cached_property
    def placements(self) -> Placements:
        """The placements of all samples.

        Raises:
            DatasetError: The dataset was imported, and has none.
        """
        self._require_recipe("placements")
        return Placements(*self._wholes(*PLACEMENTS))

    @cached_property
    def names(self) -> list[str] | None:
        """What the picture of each imported sample was called: its path below the folder of all pictures,
        without the ending. ``None`` for samples that were made of a recipe.

        Example:
            >>> fgbgpack.open_dataset("imported.zarr").names[:2]  # doctest: +SKIP
            ['bg1/fg1/000', 'bg1/fg1/001']
        """
        if self.has_recipe:
            return None
        stored = self._wholes(NAME)[0]
        return [name.decode() for name in stored.view(f"S{stored.shape[1]}")[:, 0].tolist()]

    @property
    def _placed(self) -> tuple[str, ...]:
        """The names of the arrays of placements that batches have."""
        return PLACEMENTS if self.has_recipe else ()

    def _require_recipe(self, what: str) -> None:
        if not self.has_recipe:
            raise DatasetError(
                f"{self._name} was imported from pictures: it has no {what}. Only datasets that fgbgpack "
                "create made have."
            )

    def whole(self, name: str) -> NDArray[Any]:
        """The whole of an array, by its path: meant for the small ones."""
        return np.asarray(getattr(self, name)[:]) if name in FIELDS else self._wholes(name)[0]

    def _wholes(self, *paths: str) -> list[NDArray[Any]]:
        return [reader.read(range(reader.layout.shape[0])) for reader, _ in self._open(*paths)]

    def catalog(self) -> Catalog:
        """The resized sources that the samples were made of, with their names and digests.

        Raises:
            DatasetError: The dataset was imported, and has none.
        """
        self._require_recipe("sources")
        background, foreground, foreground_size = self._wholes(*SOURCE_ARRAYS)
        listed = self.document["sources"]
        return Catalog(
            background,
            foreground,
            foreground_size,
            tuple(SourceInfo(**source) for source in listed["backgrounds"]),
            tuple(SourceInfo(**source) for source in listed["foregrounds"]),
        )

    def _array(self, name: str) -> StoredArray:
        return StoredArray(*self._stored[name])

    def _open(self, *paths: str) -> list[tuple[ArrayReader, dict[str, Any]]]:
        """The reader and the attributes of some arrays of the store.

        They are as their own metadata describes them: the copy in the root is for others.

        Raises:
            DatasetError: One is not there, damaged, or not as fgbgpack writes it.
        """
        keys = Keys(self._store, self._name)
        metadata = keys.get_all(f"{path}/{ROOT}" for path in paths)
        arrays = map(partial(described_array, keys), paths, metadata)
        return [(ArrayReader.of(array, self._name), dict(array.attrs)) for array in arrays]

    # --- reading samples ---------------------------------------------------------------------------

    def __getitem__(self, index: Index) -> Batch:
        """One sample, or those of a slice, a list, an array of integers or of truth values, in all arrays.

        Raises:
            IndexError: There is no such sample.
            DatasetError: The dataset is damaged or cannot be read.

        Example:
            >>> ds[5].image.shape, ds[-40:].image.shape, ds[[3, 1]].y  # doctest: +SKIP
            ((128, 128, 3), (40, 128, 128, 3), array([17, 60], dtype=int32))
        """
        if isinstance(index, (int, np.integer)):
            one = self.read(np.array([index]))
            return Batch({name: array[0] for name, array in one.arrays.items()})
        return self.read(index)

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))

    def read(
        self,
        indices: Index,
        fields: Fields = None,
        out: Batch | Mapping[str, NDArray[Any]] | None = None,
        threads: int | None = None,
    ) -> Batch:
        """Some samples, in the order given; the same may come twice. Each chunk touched is decoded once.

        Args:
            indices: What indexes the first axis of a NumPy array: (n,) integers, negative ones count from
                the end, a slice, or truth values for all samples.
            fields: Which of ``"image"``, ``"mask"`` and ``"depth"``; ``None`` for all that there are, or all
                that ``out`` has. Placements always come with them, where there are any.
            out: Arrays that are filled instead of new ones, by name, or a batch of them: of the shapes and
                types that :class:`Batch` describes and C-contiguous.
            threads: How many decode; ``None``: one for each processor, and for little this one alone.

        Raises:
            IndexError: There is no such sample.
            SpecError: There is no such field, or ``out`` does not fit.
            DatasetError: The dataset is damaged or cannot be read.

        Example:
            >>> batch = ds.read([7, 400, 31])  # doctest: +SKIP
            >>> batch = ds.read([8, 2, 77], out=batch)  # into the same memory  # doctest: +SKIP
        """
        samples = self._samples(indices)
        given = out.arrays if isinstance(out, Batch) else dict(out or {})
        wanted = self._wanted(fields, given if out is not None else None)
        expected = shapes(len(samples), self.height, self.width, placements=self.has_recipe)
        if given:
            check_out(given, wanted, expected)
        arrays = {
            name: given[name] if name in given else np.empty(*expected[name])
            for name in (*wanted, *self._placed)
        }
        for name in self._placed:
            getattr(self.placements, name).take(samples, out=arrays[name], mode="clip")
        read = wanted
        if self.pixels == "recomposed":
            from fgbgpack.dataset.composed import recompose_together

            recompose_together(*self._recomposed, samples, arrays.get(IMAGE), arrays.get(MASK), threads)
            read = tuple(name for name in wanted if name == DEPTH)
        read_together([(self._stored[name][0], samples, arrays[name]) for name in read], threads=threads)
        return Batch(arrays)

    def batches(
        self,
        size: int,
        *,
        fields: Fields = None,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        indices: Index | None = None,
        drop_last: bool = False,
        window: int | None = None,
        reuse: bool = False,
    ) -> Iterator[Batch]:
        """Batches of all samples, or of some, each sample once.

        The samples of a window of chunks are read together, so that each chunk is decoded once, in any order:
        that is what memory holds, and from one window to the next nothing stays.

        Args:
            size: Samples in a batch; the last one may have fewer.
            fields: As for :meth:`read`.
            shuffle: Whether samples come in random order: chunks are shuffled, and the samples of every
                ``window`` of them. Else they come in the order of ``indices``.
            seed: 64 bits: the order depends on nothing but this, ``epoch``, ``window`` and ``indices``.
            epoch: The number of the epoch: each has an order of its own.
            indices: Which samples, as for :meth:`read`; ``None`` for all.
            drop_last: Whether a last batch of fewer samples is left out.
            window: How many chunks are mixed, by default 16, or as many as take 256 MiB of pictures.
            reuse: Whether a batch is good only until the next one is asked for. Else it is good for as long
                as anything refers to it, and takes the memory of all batches that were read with it.

        Raises:
            SpecError: A number is out of range, or there is no such field.
            IndexError: There is no such sample.
            DatasetError: The dataset is damaged or cannot be read.

        Example:
            >>> train = ds.split({"train": 0.9, "test": 0.1})["train"]  # doctest: +SKIP
            >>> for batch in ds.batches(64, shuffle=True, epoch=3, indices=train):  # doctest: +SKIP
            ...     step(batch.image, batch.mask)
        """
        if size < 1:
            raise SpecError(f"size is {size}, expected a batch of 1 sample or more.")
        wanted = self._wanted(fields, None)
        samples = self._samples(slice(None) if indices is None else indices)
        chunk = self.image.chunks[0]
        most = max(1, _WINDOW_BYTES // (self.height * self.width * _BYTES_PER_PIXEL))
        if window is None:
            window = min(_WINDOW_CHUNKS, max(1, most // chunk))
        windows = shuffled(samples, chunk, window=window, seed=seed, epoch=epoch) if shuffle else [samples]
        together = max(size, min(window * chunk, most))
        runs = [run[i : i + together] for run in windows for i in range(0, len(run), together)]
        return self._batches(runs, size, wanted, drop_last=drop_last, reuse=reuse)

    def _batches(
        self,
        runs: list[NDArray[np.int64]],
        size: int,
        wanted: tuple[str, ...],
        *,
        drop_last: bool,
        reuse: bool,
    ) -> Iterator[Batch]:
        """Batches of the samples of some runs, each of which is read together."""
        most = size - 1 + max(map(len, runs), default=0)
        room = Room(most, self.height, self.width, (*wanted, *self._placed))
        rest: dict[str, NDArray[Any]] = {}
        left = 0  # samples that were read and are less than a batch
        for run in runs:
            held = left + len(run)
            arrays = {name: array[:held] for name, array in room.arrays(even_in_use=reuse).items()}
            for name, array in rest.items():
                arrays[name][:left] = array
            self.read(run, wanted, out={name: array[left:] for name, array in arrays.items()})
            left = held % size
            rest = {name: array[held - left :] for name, array in arrays.items()}
            for start in range(0, held - left, size):
                yield Batch({name: array[start : start + size] for name, array in arrays.items()})
        if left and not drop_last:
            yield Batch(rest)

    def to_numpy(self, fields: Fields = None, indices: Index | None = None) -> dict[str, NDArray[Any]]:
        """All samples in memory, or some of them, as arrays by their names, placements included.

        Args:
            fields: As for :meth:`read`.
            indices: As for :meth:`read`; ``None`` for all.

        Example:
            >>> arrays = ds.to_numpy("mask", indices=ds.where(background=3))  # doctest: +SKIP
            >>> arrays["mask"].shape, arrays["foreground"].shape  # doctest: +SKIP
            ((4000, 128, 128), (4000,))
        """
        return self.read(slice(None) if indices is None else indices, fields).arrays

    def _samples(self, indices: Index) -> NDArray[np.int64]:
        """(n,) int64, from 0 on: the samples that an index names."""
        if isinstance(indices, slice):
            return np.arange(*indices.indices(len(self)))
        index = np.asarray(indices)
        if index.dtype == np.bool_ and index.shape == (len(self),):
            return np.flatnonzero(index)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise IndexError(
                f"samples are named by a list of integers or by {len(self)} truth values, not by "
                f"{index.dtype} of shape {index.shape}"
            )
        samples = index.astype(np.int64)
        if samples.size:
            least, greatest = extremes(samples)
            if least < -len(self) or greatest >= len(self):
                wrong = least if least < -len(self) else greatest
                raise IndexError(f"there is no sample {wrong}: the dataset has {len(self)}")
            if least < 0:
                samples[samples < 0] += len(self)
        return samples

    def _wanted(self, fields: Fields, given: Mapping[str, Any] | None) -> tuple[str, ...]:
        """The fields to read, in the order of ``FIELDS``."""
        if fields is None:
            return self.fields if given is None else tuple(name for name in FIELDS if name in given)
        asked = {fields} if isinstance(fields, str) else set(fields)
        unknown = asked - set(FIELDS)
        if unknown:
            found = ", ".join(sorted(map(repr, unknown)))
            raise SpecError(f"fields: found {found}, expected some of {', '.join(FIELDS)}.")
        if DEPTH in asked and not self.has_depth:
            raise DatasetError(
                f"{self._name} has no depth: fill it with fgbgpack depth {self._name}, or name other fields."
            )
        return tuple(name for name in FIELDS if name in asked)

    # --- which samples -----------------------------------------------------------------------------

    def where(
        self,
        *,
        background: int | str | Sequence[int | str] | None = None,
        foreground: int | str | Sequence[int | str] | None = None,
        flip: bool | None = None,
        replica: int | Sequence[int] | None = None,
        name: str | Sequence[str] | None = None,
    ) -> NDArray[np.int64]:
        """The samples for which all of this holds, (n,) int64 in ascending order. No picture is read for it.

        Args:
            background: The number of a background, or its file name, or several of them.
            foreground: The same of foregrounds.
            flip: Whether the foreground is mirrored.
            replica: Which placement of its pair a sample is, or which ones.
            name: Of imported samples, which have none of the others: one of ``names``, or several.

        Raises:
            SpecError: There is no such background, foreground, replica or name; all are named together.
            DatasetError: The dataset was imported, and something else than a name is asked for.

        Example:
            >>> ds.image[ds.where(background="mall-03.jpg", foreground=[1, 2], flip=False)]  # doctest: +SKIP
        """
        given = {"background": background, "foreground": foreground, "flip": flip, "replica": replica}
        asked_for = [kind for kind, asked in given.items() if asked is not None]
        if not self.has_recipe:
            if asked_for:
                self._require_recipe(f"placements, and so no {', '.join(asked_for)}: name samples by name=")
            return self._named(name)
        if name is not None:
            raise SpecError(f"{self._name} has no names: its samples were made, and found by their sources.")
        spec, sources = self.document["spec"], self.document["sources"]
        problems: list[str] = []
        holds = np.ones(len(self), np.bool_)
        for kind, asked, listed in (
            ("background", background, [source["name"] for source in sources["backgrounds"]]),
            ("foreground", foreground, [source["name"] for source in sources["foregrounds"]]),
            ("replica", replica, [None] * spec["placements"]),
        ):
            if asked is not None:
                chosen = np.zeros(len(listed), np.bool_)
                chosen[_numbered(kind, asked, listed, problems)] = True
                holds &= chosen[getattr(self.placements, kind)]
        if problems:
            raise SpecError(f"{self._name} has no such samples.", problems)
        if flip is not None:
            holds &= self.placements.flip == flip
        return np.flatnonzero(holds)

    def _named(self, asked: str | Sequence[str] | None) -> NDArray[np.int64]:
        """The imported samples of these names; all of them where none is given."""
        if asked is None:
            return np.arange(len(self))
        wanted = {asked} if isinstance(asked, str) else set(asked)
        found = {name: i for i, name in enumerate(self.names or ()) if name in wanted}
        missing = sorted(map(repr, wanted - found.keys()))
        if missing:
            first = (self.names or [""])[0]
            raise SpecError(
                f"{self._name} has no such samples.",
                [f"name: there is no {name}, expected such as {first!r}" for name in missing[:_SHOWN]]
                + ([f"... and {len(missing) - _SHOWN} more"] if len(missing) > _SHOWN else []),
            )
        return np.array(sorted(found.values()), np.int64)

    def split(
        self, parts: Mapping[str, float] | str, *, by: By | None = None, seed: int | None = None
    ) -> dict[str, NDArray[np.int64]]:
        """Deal samples out to parts, such as those to train, validate and test with.

        With ``by`` a source, no source is in two parts, so a network is tested on backgrounds, or people,
        that it never saw. Two files with the same content count as one source. Which part a source comes to
        depends on the seed, the pictures and the fractions, not on their order or on placements.

        Args:
            parts: The fraction of each part, together at most 1; or the name of a split that is saved.
            by: What is dealt out: ``"background"`` (the default), ``"foreground"``, ``"both"`` or
                ``"sample"``. With ``"both"`` a sample belongs to a part only if both of its sources do: no
                source is in two parts, and samples whose sources lie in different ones are in none (with 80,
                10 and 10 percent that is one in three). Imported samples are known by their names alone, so
                ``"sample"`` is their default and all that there is.
            seed: 64 bits; 0 by default.

        Returns:
            The samples of each part, (n,) int64 in ascending order.

        Raises:
            SpecError: The parts are no such fractions, there are fewer sources than parts, or no split of
                that name is saved.
            DatasetError: Imported samples are to be split by something else than samples.

        Example:
            >>> parts = ds.split({"train": 0.8, "val": 0.1, "test": 0.1}, by="both", seed=1)  # doctest: +SKIP
            >>> {name: len(samples) for name, samples in parts.items()}  # doctest: +SKIP
            {'test': 4000, 'train': 256000, 'val': 4000}
        """
        if isinstance(parts, str):
            if by is not None or seed is not None:
                raise SpecError(f"The split {parts!r} is saved with its own by and seed: leave them out.")
            if parts not in self.splits:
                names = ", ".join(self.splits) or "none"
                raise SpecError(f"{self._name} has no split {parts!r}; it has {names}.")
            recipe = Split.from_dict(self.splits[parts])
        else:
            recipe = Split(parts, by or self._split_by, seed or 0)
        if self.names is not None:
            if recipe.by != "sample":
                self._require_recipe(f"sources to split by ({recipe.by}): split it by='sample'")
            return recipe.of_names(self.names)
        digests = (
            [source["sha256"] for source in self.document["sources"][kind]]
            for kind in ("backgrounds", "foregrounds")
        )
        return recipe.samples(self.placements, *digests)

    @property
    def _split_by(self) -> By:
        """What is dealt out unless somebody says what."""
        return "background" if self.has_recipe else "sample"

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """The splits that are saved in the dataset, by name, each with ``by``, ``seed`` and ``parts``."""
        return dict(self.document.get("splits", {}))

    def save_split(
        self, name: str, parts: Mapping[str, float], *, by: By | None = None, seed: int = 0
    ) -> dict[str, NDArray[np.int64]]:
        """Split the samples as :meth:`split` does, and save how in the dataset under a name.

        What is saved is what the parts are computed from, in the dataset's document. A split of the same name
        is replaced. An HDF5 file is written anew as a whole.

        Returns:
            What :meth:`split` returns, now and whenever it is called with the name.

        Raises:
            SpecError: As :meth:`split`.
            DatasetError: The dataset cannot be written, or another process is writing it.

        Example:
            >>> ds.save_split("by-background", {"train": 0.9, "test": 0.1})  # doctest: +SKIP
            >>> fgbgpack.open_dataset("lobby.zarr").split("by-background")["test"]  # doctest: +SKIP
            array([   40,    41,    42, ..., 399997, 399998, 399999])
        """
        if not name:
            raise SpecError("A split needs a name.")
        by = by or self._split_by
        samples = self.split(parts, by=by, seed=seed)
        try:
            store = self._store.with_read_only(False) if self._store.read_only else self._store
        except NotImplementedError as exc:
            raise DatasetError(f"{self._name} cannot be written: {exc}.") from exc
        keys = Keys(store, self._name)
        with exclusive(store, self._name):
            document = read_document(keys, self._name)
            if document is None:
                raise DatasetError(f"{self._name} has gone.")
            splits = document.setdefault("splits", {})
            splits[name] = Split(parts, by, seed).to_dict()
            write_document(keys, document)
        self.document["splits"] = splits
        return samples

    # --- what is known of masks without reading them -----------------------------------------------

    @property
    def bbox(self) -> NDArray[np.int32]:
        """(n, 4) int32: top, left, bottom and right of the pixels whose mask is above 0, in pixels.

        Bottom and right are the first row and column that have none any more, so all of the foreground is in
        ``mask[top:bottom, left:right]``. All four are 0 where the mask is empty. No pixel is read for this:
        it is known from the placements and the foregrounds, as are ``area`` and ``visible``. Only where
        samples were imported all masks are read, once, for this and ``area``.
        """
        if not self.has_recipe:
            return self._measured_masks[0]
        p = self.placements
        box = self._outlines.box[p.flip.astype(np.intp), p.foreground]
        there = (box[:, 2] > 0)[:, None]
        corner = np.stack([p.y, p.x, p.y, p.x], axis=1)
        return np.where(there, box + corner, 0).astype(np.int32)

    @property
    def area(self) -> NDArray[np.int64]:
        """(n,) int64: how many pixels have a mask above 127."""
        if not self.has_recipe:
            return self._measured_masks[1]
        return self._outlines.area[self.placements.foreground]

    @property
    def visible(self) -> NDArray[np.float32]:
        """(n,) float32: how much of each foreground is within the picture, by its alpha, 0 to 1.

        It is 1 for foregrounds that are placed inside the picture, as all are so far.

        Raises:
            DatasetError: The dataset was imported: nobody knows what lay outside of the picture.
        """
        self._require_recipe("foregrounds, and nothing tells what lay outside of its pictures")
        return self._outlines.visible[self.placements.foreground]

    @cached_property
    def _outlines(self) -> _Outlines:
        return _Outlines.of(*self._wholes(*SOURCE_ARRAYS[1:]))

    @cached_property
    def _measured_masks(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """``bbox`` and ``area``, of the masks themselves."""
        box, area = np.zeros((len(self), 4), np.int32), np.zeros(len(self), np.int64)
        first = 0
        for batch in self.batches(_MASKS_MEASURED, fields=MASK, reuse=True):
            mask = batch.mask
            some = slice(first, first + len(mask))
            area[some] = (mask > _OPAQUE_HALF).sum(axis=(1, 2))
            for start, axis in ((0, 2), (1, 1)):  # rows that have any, then columns
                there = np.any(mask, axis=axis)
                box[some, start] = there.argmax(axis=1)
                box[some, start + 2] = np.where(
                    there.any(axis=1), there.shape[1] - there[:, ::-1].argmax(axis=1), 0
                )
            first += len(mask)
        return box, area

    # --- the store ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of open files, decoded chunks and what was read of the recipe.

        The dataset can still be used: what is needed is then opened again.
        """
        for reader, _ in self._stored.values():
            reader.close()
        for name in _READ_WHEN_NEEDED:
            self.__dict__.pop(name, None)

    def __enter__(self) -> Dataset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        # What is large and can be read again, other processes read for themselves.
        return {name: value for name, value in self.__dict__.items() if name not in _READ_WHEN_NEEDED}

    def written_samples(self) -> dict[str, int]:
        """How many samples of each array of pictures are in shards that are there and sound."""
        keys = Keys(self._store, self._name)
        written = {}
        for name in FIELDS:
            if name in self._stored:
                layout = self._stored[name][0].layout
                written[name] = sum(len(layout.samples_of(i)) for i in keys.sound_shards(name, layout))
            else:
                written[name] = 0
        return written

    def stored_bytes(self) -> dict[str, int]:
        """Bytes that each array takes in the store, by its path, metadata included."""
        return stored_bytes(Keys(self._store, self._name))


@dataclass(frozen=True)
class _Outlines:
    """What the masks of F foregrounds are like where they are pasted as a whole.

    Attributes:
        box: (2, F, 4) int64, as they are and mirrored: the rows and columns of the patch with alpha above 0.
        area: (F,) int64, the pixels with alpha above 127.
        visible: (F,) float32, 1, or 0 where nothing is to be seen of it.
    """

    box: NDArray[np.int64]
    area: NDArray[np.int64]
    visible: NDArray[np.float32]

    @classmethod
    def of(cls, foreground: NDArray[np.uint8], size: NDArray[np.int32]) -> _Outlines:
        """Those of (F, ph, pw, 4) uint8 foregrounds, whose patches have the (F, 2) sizes."""
        alpha = foreground[..., 3]
        box = np.zeros((2, len(alpha), 4), np.int64)
        for i, (picture, width) in enumerate(zip(alpha, size[:, 1].tolist(), strict=True)):
            rows, columns = (np.flatnonzero(picture.any(axis=axis)) for axis in (1, 0))
            if len(rows):
                top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
                box[0, i] = top, left, bottom, right
                box[1, i] = top, width - right, bottom, width - left
        solid = (alpha > _OPAQUE_HALF).sum(axis=(1, 2))
        return cls(box, solid, (box[0, :, 2] > 0).astype(np.float32))


def _numbered(
    name: str, asked: int | str | Sequence[int | str], listed: Sequence[str | None], problems: list[str]
) -> list[int]:
    """The places in a list of what is asked for by place or by name; what is not there is a problem."""
    found = []
    for one in [asked] if isinstance(asked, (int, str, np.integer)) else asked:
        if isinstance(one, str) and one in listed:
            found.append(listed.index(one))
        elif not isinstance(one, str) and 0 <= one < len(listed):
            found.append(int(one))
        else:
            names = " or its file name" if listed[0] else ""
            problems.append(f"{name}: there is no {one!r}, expected 0 to {len(listed) - 1}{names}")
    return found


def _source_of_pixels(asked: str, document: Mapping[str, Any], name: str) -> Pixels:
    are_stored = not is_virtual(document)
    if asked not in ("auto", "stored", "recomposed"):
        raise SpecError(f"pixels: found {asked!r}, expected 'auto', 'stored' or 'recomposed'.")
    if asked == "recomposed" and not has_recipe(document):
        raise DatasetError(
            f"{name} was imported from pictures: it has no recipe to make pixels of. Open it with "
            "pixels='stored'."
        )
    if asked == "stored" and not are_stored:
        raise DatasetError(
            f"{name} is virtual, no pixels are stored: open it with pixels='recomposed', or store them with "
            "fgbgpack materialize."
        )
    return "recomposed" if asked == "recomposed" or not are_stored else "stored"


def open_dataset(
    path: str | os.PathLike[str] | Store,
    *,
    allow_incomplete: bool = False,
    pixels: Literal["auto", "stored", "recomposed"] = "auto",
) -> Dataset:
    """Open a dataset for reading.

    Args:
        path: A local folder, an HDF5 file, a URL that fsspec opens, or a Zarr store.
        allow_incomplete: Open it also while its creation has not finished; what is not written yet
            reads as 0, and depth as NaN.
        pixels: Where image and mask come from: ``"stored"`` reads them, ``"recomposed"`` makes them anew of
            the sources and the placements, which gives the same bytes, and ``"auto"`` reads them where they
            are stored.

    Raises:
        DatasetError: There is no dataset, it is damaged, or its schema is of a newer major version; or pixels
            are to be stored and are not.
        IncompleteDatasetError: Its creation has not finished.

    Example:
        >>> import fgbgpack
        >>> ds = fgbgpack.open_dataset("lobby.zarr")  # doctest: +SKIP
        >>> ds.image[0:8].shape, ds[5].mask.max()  # doctest: +SKIP
        ((8, 128, 128, 3), 255)
    """
    target = path if isinstance(path, Store) else str(path) if "://" in str(path) else Path(path)
    name = name_of(target)
    store = store_of(target, read_only=True)
    document = read_document(Keys(store, name), name)
    if document is None:
        raise DatasetError(f"There is no dataset at {name}.")
    if not (document["complete"] or allow_incomplete):
        raise IncompleteDatasetError(
            f"{name} is not complete: run the command that makes it again to finish it, or open it with "
            "allow_incomplete=True to read what is there."
        )
    return Dataset(store, name, document, pixels)

"""What is read of an open dataset: its document, its arrays, and samples of all arrays."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.placement import Placements
from fgbgpack.composition.recipe import Recipe
from fgbgpack.dataset.batch import Batch, BufferPool, check_out, shapes
from fgbgpack.dataset.composed import ComposedArray, compose_together
from fgbgpack.dataset.mixing import ADJACENT, Mixing
from fgbgpack.dataset.pixel_source import PixelSource, pixel_source
from fgbgpack.dataset.splits import shuffled
from fgbgpack.document import (
    BACKGROUND_DEPTH,
    DEPTH,
    DEPTH_MAX,
    DEPTH_MIN,
    FIELDS,
    IMAGE,
    MASK,
    NAME,
    PLACEMENTS,
    SOURCE_ARRAYS,
    Document,
    SourcesInfo,
)
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.options import checked_flags, checked_numbers, whole_number
from fgbgpack.sources.catalog import Catalog
from fgbgpack.sources.names import counted
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage.indices import Index, sample_indices
from fgbgpack.storage.layout import DEFAULT_POLICY, Extent, LayoutPolicy
from fgbgpack.storage.processes import is_far_away
from fgbgpack.storage.reading import StoredArray, read_together
from fgbgpack.storage.store import DatasetStore

#: The names of fields: one, several, or ``None`` for all that there are.
Fields: TypeAlias = str | Sequence[str] | None

#: What batches mix and read together by default.
_WINDOW_BYTES = 256 << 20
_BYTES_PER_PIXEL = 6  # of image, mask and depth together


class DatasetReader:
    """The arrays of an open dataset, and the samples in them.

    ``pixels`` is ``"stored"`` where image and mask are read, ``"recomposed"`` where they are composed of the
    sources and the placements, which gives the same bytes; asked for as ``"auto"``, stored where there are
    some. ``document`` is what the dataset says of itself, ``layout`` how image and mask are cut where they
    are not stored.
    """

    def __init__(
        self,
        store: DatasetStore,
        document: Document,
        pixels: PixelSource = "auto",
        layout: LayoutPolicy = DEFAULT_POLICY,
    ) -> None:
        self.store = store
        self.document = document
        self.pixels = pixel_source(pixels, document, store.name)
        self._layout_policy = layout
        # What is missing or damaged is found now, not when it is first read.
        forms = store.forms(FIELDS if self.pixels == "stored" else (DEPTH,), copied=True)
        self._readers = {path: store.reader(path, form) for path, form in forms.items()}

    # --- what it is --------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.document.samples

    def __repr__(self) -> str:
        state = "" if self.complete else ", incomplete"
        depth = " with depth" if self.has_depth else ""
        size = f"{self.width}x{self.height}"
        return f"<fgbgpack.Dataset {self.path!r}: {counted(len(self), 'sample')} of {size}{depth}{state}>"

    @property
    def path(self) -> str:
        """Where the dataset is, as it was given."""
        return self.store.name

    @property
    def complete(self) -> bool:
        """Whether all that the spec asks for is there."""
        return self.document.complete

    @property
    def has_recipe(self) -> bool:
        """Whether it was made of sources and placements; else it was imported from pictures."""
        return self.document.has_recipe

    @property
    def has_depth(self) -> bool:
        """Whether depth is filled, at least in part."""
        return self.document.depth is not None

    @property
    def height(self) -> int:
        """Height of every sample in pixels."""
        return self.document.height

    @property
    def width(self) -> int:
        """Width of every sample in pixels."""
        return self.document.width

    @property
    def reads_ahead(self) -> bool:
        """Whether it is in a store of which chunks can be asked for before they are needed."""
        return is_far_away(self.store.store)

    @property
    def adjacent(self) -> int:
        """How many chunks that follow one another should be read soon after one another."""
        return ADJACENT if self.reads_ahead else 1

    @property
    def sample_bytes(self) -> int:
        """Bytes of image, mask and depth of a sample in memory."""
        return self.height * self.width * _BYTES_PER_PIXEL

    @property
    def fields(self) -> tuple[str, ...]:
        """Which of ``"image"``, ``"mask"`` and ``"depth"`` can be read."""
        return FIELDS if self.has_depth else FIELDS[:2]

    # --- its arrays --------------------------------------------------------------------------------

    @property
    def image(self) -> StoredArray:
        """Array (n, h, w, 3) uint8, RGB; it is indexed as NumPy's are, and reads what an index touches."""
        return StoredArray(self._readers[IMAGE] if self.pixels == "stored" else self._composed[0])

    @property
    def mask(self) -> StoredArray:
        """Array (n, h, w) uint8, alpha of the pasted foreground, 0..255."""
        return StoredArray(self._readers[MASK] if self.pixels == "stored" else self._composed[1])

    @property
    def depth(self) -> StoredArray:
        """Array (n, h, w) float16, NaN where it is not filled; its ``attrs`` tell quantity and unit."""
        return StoredArray(self._readers[DEPTH])

    @cached_property
    def depth_min(self) -> NDArray[Any] | None:
        """(n,) the least depth of each sample, in the quantity and unit of ``depth``; NaN where it is not
        filled, ``None`` where there is no depth.
        """
        return self.store.read(DEPTH_MIN)[0] if self.has_depth else None

    @cached_property
    def depth_max(self) -> NDArray[Any] | None:
        """(n,) the greatest depth of each sample, as ``depth_min``."""
        return self.store.read(DEPTH_MAX)[0] if self.has_depth else None

    @cached_property
    def _composed(self) -> tuple[ComposedArray, ComposedArray]:
        """Image and mask, composed when they are read."""
        extent = Extent(len(self), self.height, self.width, self.recipe.plan.samples_per_background)
        image, mask = self._layout_policy.pixels(extent, self.document.chunk)
        composites = self.recipe.compositor.place(self.placements)
        return ComposedArray(composites, image, "image"), ComposedArray(composites, mask, "mask")

    @cached_property
    def background_depth(self) -> StoredArray | None:
        """Array (B, h, w) float32: the depth of empty backgrounds where that guided ``depth``, else ``None``.

        It is in the quantity and unit of ``depth``, and NaN where it is not filled yet.
        """
        return StoredArray(self.store.reader(BACKGROUND_DEPTH)) if self.document.is_guided else None

    @cached_property
    def placements(self) -> Placements:
        """The placements of all samples.

        Raises:
            DatasetError: The dataset was imported, and has none.
        """
        self.require_recipe("placements")
        return Placements(*self.store.read(*PLACEMENTS))

    @cached_property
    def names(self) -> list[str] | None:
        """The path of each imported sample's picture below the folder of all pictures, without the ending.

        ``None`` for samples that were made of a recipe.

        Example:
            >>> fgbgpack.open_dataset("imported.zarr").names[:2]  # doctest: +SKIP
            ['bg1/fg1/000', 'bg1/fg1/001']
        """
        if self.has_recipe:
            return None
        (stored,) = self.store.read(NAME)
        return [name.decode() for name in stored.view(f"S{stored.shape[1]}")[:, 0].tolist()]

    @property
    def _placed(self) -> tuple[str, ...]:
        """The names of the arrays of placements that batches have."""
        return PLACEMENTS if self.has_recipe else ()

    def require_recipe(self, what: str) -> tuple[DatasetSpec, SourcesInfo]:
        """The spec and the pictures; DatasetError if the dataset was imported, and so lacks ``what``."""
        document = self.document
        if document.spec is None or document.sources is None:
            raise DatasetError(
                f"{self.path} was imported from pictures: it has no {what}. Only datasets that fgbgpack "
                "create made have.",
                code="recipe-missing",
            )
        return document.spec, document.sources

    def whole(self, name: str) -> NDArray[Any]:
        """The whole of an array, by its path: meant for the small ones."""
        return np.asarray(getattr(self, name)[:]) if name in FIELDS else self.store.read(name)[0]

    def catalog(self) -> Catalog:
        """The resized sources that the samples were made of, with their names and digests."""
        _, sources = self.require_recipe("sources")
        background, foreground, size = self.store.read(*SOURCE_ARRAYS)
        return Catalog(background, foreground, size, sources.backgrounds, sources.foregrounds)

    @cached_property
    def recipe(self) -> Recipe:
        """What the samples are a function of; DatasetError if the dataset was imported."""
        spec, _ = self.require_recipe("recipe")
        return Recipe.of(spec, self.catalog())

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
        if (number := whole_number(index)) is None:
            return self.read(index)
        one = self.read(np.array([number]))
        return Batch({name: array[0] for name, array in one.arrays.items()})

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
        samples = sample_indices(indices, len(self))
        given = out.arrays if isinstance(out, Batch) else dict(out or {})
        chosen = self._chosen(fields, given if out is not None else None)
        expected = shapes(len(samples), self.height, self.width, placements=self.has_recipe)
        if given:
            check_out(given, chosen, expected)
        arrays = {
            name: given[name] if name in given else np.empty(*expected[name])
            for name in (*chosen, *self._placed)
        }
        for name in self._placed:
            getattr(self.placements, name).take(samples, out=arrays[name], mode="clip")
        if self.pixels == "recomposed":
            compose_together(*self._composed, samples, arrays.get(IMAGE), arrays.get(MASK), threads)
        read = [name for name in chosen if name in self._readers]
        read_together([(self._readers[name], samples, arrays[name]) for name in read], threads=threads)
        return Batch(arrays)

    def read_ahead(self, stream: Hashable, indices: Index, fields: Fields = None) -> None:
        """Begins to read samples that the next reads of a stream need, where they are in a store far away.

        Nothing waits for it. What the stream has begun to read before, and is not among the samples, is given
        up; all streams of a process together hold at most 128 MiB.

        Args:
            stream: What stands for the reads that follow one another, such as a text.
            indices: As for :meth:`read`.
            fields: As for :meth:`read`.

        Raises:
            IndexError: There is no such sample.
            SpecError: There is no such field.

        Example:
            >>> ds.read_ahead("mine", range(640, 1280))  # doctest: +SKIP
            >>> batch = ds.read(range(0, 640))  # doctest: +SKIP
        """
        samples = sample_indices(indices, len(self))
        for name in self._chosen(fields):
            if name in self._readers:
                self._readers[name].ahead(stream, samples)

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
        adjacent: int | None = None,
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
            seed: 64 bits: the order depends on nothing but this, ``epoch``, ``window``, ``adjacent`` and
                ``indices``.
            epoch: The number of the epoch: each has an order of its own.
            indices: Which samples, as for :meth:`read`; ``None`` for all.
            drop_last: Whether a last batch of fewer samples is left out.
            window: How many chunks are mixed; ``None``: 16, or parts of as many where these take more than
                256 MiB of pictures.
            adjacent: How many chunks that follow one another come soon after one another, each in a window of
                its own, so that they can be requested together; ``None``: 4 in a store far away, else 1.
                Where there are few chunks, fewer.
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
        size, _, adjacent, *_ = checked_numbers(
            {
                "size": (size, 1, 1 << 31),
                "window": (1 if window is None else window, 1, 1 << 31),
                "adjacent": (self.adjacent if adjacent is None else adjacent, 1, 1 << 31),
                "seed": (seed, 0, 1 << 64),
                "epoch": (epoch, 0, 1 << 32),
            },
            "There are no such batches:",
        )
        shuffle, drop_last, reuse = checked_flags(shuffle=shuffle, drop_last=drop_last, reuse=reuse)
        chosen = self._chosen(fields)
        samples = sample_indices(slice(None) if indices is None else indices, len(self))
        chunk = self.image.chunks[0]
        most = max(1, _WINDOW_BYTES // self.sample_bytes)
        composed = self.pixels == "recomposed" and DEPTH not in chosen
        mixing = Mixing.within(most, chunk, composed=composed)
        if window is not None:
            mixing = Mixing.of_chunks(int(window), chunk)
        windows = [samples]
        if shuffle:
            windows = shuffled(samples, mixing, seed=seed, epoch=epoch, adjacent=adjacent)
        together = max(size, min(most, mixing.window * mixing.part))
        runs = [run[i : i + together] for run in windows for i in range(0, len(run), together)]
        return self._batches(runs, size, chosen, drop_last=drop_last, reuse=reuse)

    def _batches(
        self,
        runs: list[NDArray[np.int64]],
        size: int,
        chosen: tuple[str, ...],
        *,
        drop_last: bool,
        reuse: bool,
    ) -> Iterator[Batch]:
        """Batches of the samples of some runs, each of which is read together."""
        most = size - 1 + max(map(len, runs), default=0)
        pool = BufferPool(most, self.height, self.width, (*chosen, *self._placed))
        rest: dict[str, NDArray[Any]] = {}
        left = 0  # samples that were read and are less than a batch
        stream = object()
        for number, run in enumerate(runs):
            if self.reads_ahead and number % ADJACENT == 0:
                self.read_ahead(stream, np.concatenate(runs[number : number + 2 * ADJACENT]), chosen)
            total = left + len(run)
            arrays = {name: array[:total] for name, array in pool.arrays(even_in_use=reuse).items()}
            for name, array in rest.items():
                arrays[name][:left] = array
            self.read(run, chosen, out={name: array[left:] for name, array in arrays.items()})
            left = total % size
            rest = {name: array[total - left :] for name, array in arrays.items()}
            for start in range(0, total - left, size):
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

    def _chosen(self, fields: Fields, given: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """The fields to read, in the order of ``FIELDS``."""
        if fields is None:
            return self.fields if given is None else tuple(name for name in FIELDS if name in given)
        names = {fields} if isinstance(fields, str) else set(fields)
        if unknown := names - set(FIELDS):
            found = ", ".join(sorted(map(repr, unknown)))
            raise SpecError(
                f"fields: found {found}, expected some of {', '.join(FIELDS)}.", code="field-unknown"
            )
        if DEPTH in names and not self.has_depth:
            raise DatasetError(
                f"{self.path} has no depth: fill it with fgbgpack depth {self.path}, or name other fields.",
                code="depth-missing",
            )
        return tuple(name for name in FIELDS if name in names)

    # --- the store ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of open files, decoded chunks and what was read of the recipe.

        The dataset can still be used: what is needed is then opened again.
        """
        for reader in self._readers.values():
            reader.close()
        self.__dict__ = self.__getstate__()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        # Other processes read what is large for themselves.
        return {
            name: value
            for name, value in self.__dict__.items()
            if not isinstance(getattr(type(self), name, None), cached_property)
        }

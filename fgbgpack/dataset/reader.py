"""What is read of an open dataset: its document, its arrays, and samples of all arrays."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset.arrays import DatasetArrays
from fgbgpack.dataset.batch import Batch, BufferPool, check_out, shapes
from fgbgpack.dataset.mixing import ADJACENT, Mixing
from fgbgpack.dataset.splits import shuffled
from fgbgpack.document import (
    BACKGROUND_PICTURE,
    DEPTH,
    OF_BACKGROUND,
)
from fgbgpack.errors import SpecError
from fgbgpack.options import checked_flags, checked_numbers, whole_number
from fgbgpack.storage.indices import Index, sample_indices
from fgbgpack.storage.reading import read_together

#: The names of fields: one, several, or ``None`` for all that there are.
Fields: TypeAlias = str | Sequence[str] | None

#: What batches mix and read together by default.
_WINDOW_BYTES = 256 << 20


class DatasetReader(DatasetArrays):
    """The samples of an open dataset, in all arrays that are asked for.

    :class:`fgbgpack.dataset.arrays.DatasetArrays` describes its arguments and attributes.
    """

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
        one = self.read([number])
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
            fields: Which of ``"image"``, ``"mask"``, ``"instance"`` and ``"depth"``; ``None`` for all that
                there are, or all that ``out`` has. ``"background_image"`` and ``"background_depth"`` are read
                of the empty background of each sample, where they are named. Placements and objects always
                come with them, where there are any.
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
        if out is None:
            chosen = self._chosen(fields)
            arrays = self._new_arrays(len(samples), (*chosen, *self.placed))
        else:
            given = out.arrays if isinstance(out, Batch) else dict(out)
            chosen = self._chosen(fields, given)
            if given:
                check_out(given, chosen, shapes(len(samples), self.document))
            names = (*chosen, *self.placed)
            missing = self._new_arrays(len(samples), [name for name in names if name not in given])
            arrays = {name: given[name] if name in given else missing[name] for name in names}
        self._fill(samples, chosen, arrays, threads)
        return Batch(arrays)

    def _new_arrays(self, count: int, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Arrays of these names for some samples."""
        forms, arrays = self._forms, {}
        for name in names:
            shape, dtype = forms[name]
            arrays[name] = np.empty((count, *shape), dtype)
        return arrays

    def _fill(
        self,
        samples: NDArray[np.int64],
        chosen: Sequence[str],
        arrays: Mapping[str, NDArray[Any]],
        threads: int | None,
    ) -> None:
        """Fill arrays with samples, in the fields that are chosen and in what samples are made of."""
        made = [name for name in chosen if name in self.made]
        if made:
            self.composer.fill(samples, {name: arrays[name] for name in (*made, *self.placed)}, threads)
        else:
            self.fill_sample_arrays(samples, arrays)
        if len(made) == len(chosen):
            return
        for name in set(chosen) & set(OF_BACKGROUND):
            self._of_backgrounds[name].take(arrays["background"], axis=0, out=arrays[name], mode="clip")
        read = [name for name in chosen if name in self._readers and name not in made]
        read_together([(self._readers[name], samples, arrays[name]) for name in read], threads=threads)

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
            if name in self._readers and name not in self.made:
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
        composed = self.composes(chosen)
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
        pool = BufferPool(shapes(most, self.document), (*chosen, *self.placed))
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
        """The fields to read, in the order of ``document.PICTURES``."""
        if fields is None and given is None:
            return self._all_fields
        known = (*self.document.planes, DEPTH, *self.background_fields)
        if fields is None:
            return tuple(name for name in known if name in (given or ()))
        names = {fields} if isinstance(fields, str) else set(fields)
        if unknown := names - set(known):
            found = ", ".join(sorted(map(repr, unknown)))
            raise SpecError(
                f"fields: found {found}, expected some of {', '.join(known)}.", code="field-unknown"
            )
        if DEPTH in names:
            self.require_depth()
        return tuple(name for name in known if name in names)

    @cached_property
    def _all_fields(self) -> tuple[str, ...]:
        return self.fields

    @cached_property
    def _of_backgrounds(self) -> dict[str, NDArray[Any]]:
        """The pictures of the empty backgrounds, and their depth where that guided depth, by the fields."""
        found: dict[str, NDArray[Any]] = {BACKGROUND_PICTURE: self.recipe.catalog.background}
        if self.background_depth is not None:
            found[OF_BACKGROUND[1]] = np.asarray(self.background_depth[:])
        return found

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

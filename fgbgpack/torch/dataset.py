"""A map-style PyTorch dataset: samples by their positions, as dictionaries of tensors."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as MapDataset
from torch.utils.data import get_worker_info

from fgbgpack.augment import Augment
from fgbgpack.composition.objects import NO_OBJECT
from fgbgpack.dataset.batch import shapes
from fgbgpack.dataset.dataset import Dataset, EpochDataset, open_dataset
from fgbgpack.dataset.mixing import Mixing
from fgbgpack.dataset.pixel_source import PixelSource
from fgbgpack.document import (
    BACKGROUND_PICTURE,
    CATEGORIES,
    DEPTH,
    IMAGE,
    INSTANCE,
    OBJECTS,
    OF_BACKGROUND,
)
from fgbgpack.errors import FgbgError, SpecError
from fgbgpack.options import checked_flags, whole_number
from fgbgpack.sources.names import counted
from fgbgpack.storage.indices import Index, from_start, sample_indices
from fgbgpack.storage.reading.cache import DEFAULT_BYTES
from fgbgpack.storage.targets import Target
from fgbgpack.torch.batches import Ahead, GroupBatch, LazySamples, Positions, epoch_of
from fgbgpack.torch.memory import Allocator, Buffer, BufferLayout, MemoryPool, Tensors, TensorSpec

_WHITE, _PICTURE_AXES = 255, 4
#: The types of fields that are no bytes, and of arrays of placements and objects, as they are stored.
_STORED = {DEPTH: torch.float16, OF_BACKGROUND[1]: torch.float32}
_TYPES = {
    "bool": torch.bool,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "float32": torch.float32,
}


class _Group:
    """Samples that were read together from ``start`` on, of which batches are taken one after the other."""

    def __init__(
        self, positions: Positions, epoch: int, start: int, buffer: Buffer, specs: list[TensorSpec]
    ) -> None:
        self.positions, self.epoch, self.buffer, self._specs = positions, epoch, buffer, specs
        self._first = self._next = start

    def has(self, batch: GroupBatch) -> bool:
        """Whether a batch can be taken; only once, since its receiver may change it."""
        is_next = batch.start >= self._next and batch.epoch == self.epoch
        return is_next and np.array_equal(batch.group, self.positions)

    def take(self, batch: GroupBatch) -> list[TensorSpec]:
        self._next = batch.start + len(batch)
        return [spec.rows(batch.start - self._first, len(batch)) for spec in self._specs]

    @property
    def is_empty(self) -> bool:
        return self._next == len(self.positions)


class FgBgDataset(MapDataset[dict[str, Any]]):
    """Samples of a dataset for ``torch.utils.data.DataLoader``; :func:`make_loader` combines the two.

    A sample is a dictionary of

    - ``image``: (3, h, w) uint8, RGB. In memory colours are innermost, as they are stored: a batch is in
      PyTorch's ``channels_last`` format.
    - ``mask``: (1, h, w) uint8, alpha of the pasted foreground, 0..255.
    - ``depth``: (1, h, w) float16 in the quantity and unit of the dataset.
    - ``index``: int64, the number of the sample in the dataset.
    - ``instance``: (1, h, w) uint8, of scenes: 0, or 1 + the number of the object on top.
    - ``background_image``, ``background_depth``: (3, h, w) uint8 and (1, h, w) float32 of the empty
      background; only where they are named.
    - with ``placements``: ``background``, ``foreground``, ``replica``, ``y``, ``x``: int32, ``flip``: bool;
      of scenes ``background``, ``replica``, and of all objects, far to near, ``objects/foreground`` and the
      others of :class:`fgbgpack.composition.objects.Objects`: (K,) or more, -1 where there is no object.

    It may be forked and pickled at any time: each process opens its own files, and workers started by any
    method read alike.

    Args:
        dataset: A local folder, an HDF5 file, a URL that fsspec opens, a Zarr store, or an open dataset.
        fields: Which of ``"image"``, ``"mask"``, ``"instance"`` and ``"depth"``; ``None`` for all that there
            are. Also ``"background_image"`` and ``"background_depth"``.
        indices: Which samples of the dataset: what indexes the first axis of a NumPy array; ``None`` for all.
        split: The name of a saved split and of one of its parts, such as ``("eighty", "train")``, in place of
            ``indices``.
        dtype: ``None`` for the types above. With a floating type image and mask are divided by 255, to 0..1,
            and depth is converted; instances stay. Small types travel faster, so convert on the GPU where you
            can.
        augment: Changes samples at random, others in each epoch; see :class:`Augment`. Samples that come
            without an epoch, by their positions or in the order of another sampler than
            :class:`BlockShuffleSampler`, are those of epoch 0.
        transform: Changes one sample, after that. It gets all fields together, so that a crop or a flip is
            the same for all of them. It runs in the workers.
        placements: Whether samples have their placement, and what is known of their objects; imported samples
            have the latter, where their objects are told apart.
        fresh: Whether samples are placed anew in each epoch, as :meth:`fgbgpack.Dataset.at_epoch` places
            them: epoch 0 is the dataset itself. They are composed, and nothing is stored. Objects of scenes
            are drawn from the foregrounds that the chosen samples have, so that what a split keeps apart
            stays apart. Not for imported samples, nor for depth that is not in layers.
        pixels: As for :func:`fgbgpack.open_dataset`.
        allow_incomplete: Open a dataset also while its creation has not finished.
        storage_options: As for :func:`fgbgpack.open_dataset`.
        cache: A folder of this machine that keeps what is read of a store far away.
        cache_bytes: How many bytes it may take.

    Attributes:
        dataset: The open dataset.
        fields: The fields that are read.
        augment: What changes samples at random, or ``None``.
        transform: What changes one sample after that, or ``None``.
        dtype: The floating type of samples; ``None`` for those as stored.
        fresh: Whether samples are placed anew in each epoch.
        size: (height, width) of samples.
        placements: The names of what is read of placements and objects.
        categories: What numbers of categories count: the dataset's categories or, beside other datasets in a
            mixture, those of all.
        most_objects: The most objects that a sample has, there.
        pool: Memory of this process.

    Raises:
        DatasetError: The dataset cannot be opened.
        SpecError: An option is wrong; all problems are reported together.

    Example:
        >>> train = FgBgDataset("lobby.zarr", split=("eighty", "train"))  # doctest: +SKIP
        >>> train[0]["image"].shape  # doctest: +SKIP
        torch.Size([3, 128, 128])
    """

    def __init__(
        self,
        dataset: Target | Dataset,
        *,
        fields: str | Sequence[str] | None = None,
        indices: Index | None = None,
        split: tuple[str, str] | None = None,
        dtype: torch.dtype | None = None,
        augment: Augment | None = None,
        transform: Callable[[Tensors], dict[str, Any]] | None = None,
        placements: bool = False,
        fresh: bool = False,
        pixels: PixelSource = "auto",
        allow_incomplete: bool = False,
        storage_options: Mapping[str, Any] | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int = DEFAULT_BYTES,
    ) -> None:
        placements, fresh, allow_incomplete = checked_flags(
            placements=placements, fresh=fresh, allow_incomplete=allow_incomplete
        )
        if not isinstance(dataset, Dataset):
            dataset = open_dataset(
                dataset,
                allow_incomplete=allow_incomplete,
                pixels=pixels,
                storage_options=storage_options,
                cache=cache,
                cache_bytes=cache_bytes,
            )
        names = dataset.fields if fields is None else (fields,) if isinstance(fields, str) else tuple(fields)
        known = (*dataset.document.planes, DEPTH, *dataset.background_fields)
        expected = f"expected some of {', '.join(known)}"
        problems = [f"fields: found {name!r}, {expected}" for name in names if name not in known]
        if not names:
            problems.append(f"fields: found none, {expected}")
        if DEPTH in names and not dataset.has_depth:
            problems.append(
                f"fields: {dataset.path} has no depth; fill it with fgbgpack depth, or leave depth out"
            )
        if placements and not dataset.placed:
            problems.append(f"placements: {dataset.path} was imported and has none, expected False")
        if fresh and not dataset.has_recipe:
            problems.append(
                f"fresh: {dataset.path} was imported and has no recipe to place samples anew, expected False"
            )
        elif fresh and DEPTH in names and dataset.has_depth and not dataset.document.is_layered:
            problems.append(
                f"fresh: depth of {dataset.path} is what a network says of each stored sample; name other "
                "fields, or make the dataset with depth in layers (--depth-mode layered)"
            )
        if dtype is not None and not dtype.is_floating_point:
            problems.append(f"dtype: found {dtype}, expected a floating type, or None for pixels as stored")
        self.size = (dataset.height, dataset.width)
        try:
            if augment is not None:
                self.size = _size_of(augment, *self.size)
        except SpecError as exc:
            problems.append(f"augment: {exc}")
        try:
            self._chosen = _select(dataset, indices, split)
        except (FgbgError, IndexError, ValueError) as exc:
            problems.append(f"{'indices' if split is None else 'split'}: {exc}")
        if problems:
            raise SpecError(
                f"These samples of {dataset.path} cannot be read:", problems, code="samples-invalid"
            )
        self.dataset = dataset
        self.fields = tuple(name for name in known if name in names)
        #: Whether the fields were asked for by their names.
        self.are_named = fields is not None
        #: The categories that numbers of categories count.
        self.categories = dataset.categories
        self.most_objects = dataset.document.most_objects
        self.dtype = dtype
        self.augment = augment
        self.transform = transform
        self.pool = MemoryPool()
        self.placements = dataset.placed if placements else ()
        self.fresh = fresh
        self._epochs: dict[int, EpochDataset] = {}
        self._drawn: tuple[int, ...] | None = None
        self._prepare(is_part=indices is not None or split is not None)
        self._groups: dict[int, _Group] = {}
        self._process = os.getpid()

    def _prepare(self, *, is_part: bool) -> None:
        """Read what these samples are made of, once for all processes that are forked from then on. Of a part
        of a dataset, other epochs draw only from the foregrounds that its samples have.
        """
        if self.fresh:
            self._drawn, self._epochs = self.dataset.drawn_from(self.indices if is_part else None), {}
            self._at_epoch(0).prepare_samples()
        else:
            self.dataset.prepare_samples()

    def _at_epoch(self, epoch: int) -> Dataset:
        """What holds the samples of an epoch."""
        if not self.fresh:
            return self.dataset
        found = self._epochs.get(epoch)
        if found is None:
            found = EpochDataset(self.dataset, epoch, self._drawn)
            # Where passes follow one another, batches of two of them are read in turn.
            self._epochs = dict([*self._epochs.items()][-1:]) | {epoch: found}
        return found

    @property
    def indices(self) -> Positions:
        """(n,) int64, the samples of the dataset; computed at each call where they are evenly spaced."""
        chosen = self._chosen
        if isinstance(chosen, range):
            return np.arange(chosen.start, chosen.stop, chosen.step)
        return chosen

    @property
    def indices_digest(self) -> str:
        """What tells these samples from others, however they were named."""
        chosen = self._chosen
        data = repr(chosen).encode() if isinstance(chosen, range) else chosen.data
        return hashlib.sha256(data).hexdigest()

    def _samples_at(self, positions: Positions) -> Positions:
        """(n,) int64: the samples at some positions; IndexError where there is no such position."""
        chosen = self._chosen
        if isinstance(chosen, range):
            return chosen.start + chosen.step * from_start(positions, len(chosen))
        return chosen[positions]

    def __len__(self) -> int:
        return len(self._chosen)

    def __repr__(self) -> str:
        return f"<fgbgpack.torch.FgBgDataset: {counted(len(self), 'sample')} of {self.dataset!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_groups": {}, "_epochs": {}}

    def __getitem__(self, position: int) -> dict[str, Any]:
        """One sample. Many random samples are read faster together: by a ``DataLoader`` or ``__getitems__``.

        Raises:
            IndexError: There is no such sample.
            DatasetError: The dataset is damaged or cannot be read.
        """
        number = whole_number(position)
        if number is None or not -len(self) <= number < len(self):
            raise IndexError(f"there is no sample {position}: there are {len(self)}")
        sample: dict[str, Any] = LazySamples(self, [number])[0]
        return sample

    def __getitems__(self, positions: Sequence[int]) -> LazySamples:
        """Some samples, which are read together when the first is used, or by :func:`collate`."""
        return LazySamples(self, positions)

    @property
    def is_cheap(self) -> bool:
        """Whether all that is done for a sample is to compose it, of one foreground."""
        composed = self.fresh or self.dataset.composes(self.fields)
        return composed and not self.dataset.has_objects and self.augment is None and self.transform is None

    def subset(self, positions: Index) -> FgBgDataset:
        """Some of these samples, by their positions; all else stays the same."""
        some = copy.copy(self)
        some._chosen = _evenly_spaced(self._samples_at(sample_indices(positions, len(self))))
        some.pool, some._groups = MemoryPool(), {}
        some._prepare(is_part=True)
        return some

    def among(
        self,
        fields: Sequence[str],
        placements: Sequence[str],
        categories: tuple[str, ...],
        most_objects: int,
    ) -> FgBgDataset:
        """The same samples as those of others are: with these fields and placements, numbers of categories
        that count ``categories``, and room for so many objects.
        """
        same = copy.copy(self)
        same.fields, same.placements = tuple(fields), tuple(placements)
        same.categories, same.most_objects = categories, most_objects
        same.pool, same._groups = MemoryPool(), {}
        return same

    @cached_property
    def _shapes(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """The shapes of one sample in what is known of it beside its pictures, as it is stored."""
        return shapes(1, self.dataset.document)

    def mixing(self, window: int | None, memory: int) -> Mixing:
        """What an order mixes: ``window`` whole chunks, or with ``None`` what is best in so many bytes."""
        dataset = self.dataset
        chunk = dataset.image.chunks[0]
        if window is not None:
            return Mixing.of_chunks(window, chunk)
        composed = self.fresh or dataset.composes(self.fields)
        return Mixing.within(memory // dataset.sample_bytes, chunk, composed=composed)

    def layout(self, count: int, dtype: torch.dtype | None) -> BufferLayout:
        """The tensors of ``count`` samples, with fields of a floating type, or as stored with ``None``."""
        return self._layout(count, dtype, self.size)

    def _layout(self, count: int, dtype: torch.dtype | None, size: tuple[int, int]) -> BufferLayout:
        layout = BufferLayout()
        for name in self.fields:
            is_colour = name in (IMAGE, BACKGROUND_PICTURE)
            shape = (count, 3 if is_colour else 1, *size)
            # Numbers of objects stay whole.
            kept = None if name == INSTANCE else dtype
            layout.add(name, kept or _STORED.get(name, torch.uint8), shape, channels_last=is_colour)
        layout.add("index", torch.int64, (count,))
        for name in self.placements:
            (_, *more), kind = self._shapes[name]
            more[:1] = [self.most_objects] if name.startswith(f"{OBJECTS}/") else more[:1]
            layout.add(name, _TYPES[kind.name], (count, *more))
        return layout

    def read(self, positions: Sequence[int], allocate: Allocator) -> tuple[Buffer, list[TensorSpec]]:
        """Samples as they are stored; those of a group together, once for all of its batches. Raises as for
        one.
        """
        if not (isinstance(positions, GroupBatch) and positions.is_whole):
            return self._read(np.asarray(positions, np.int64), epoch_of(positions), allocate)
        if self._process != os.getpid():
            self._groups, self._process = {}, os.getpid()
        group = self._groups.pop(positions.lane, None)
        if group is None or not group.has(positions):
            group = None  # frees its memory for the next group
            rest = positions.group[positions.start :]
            if positions.ahead is not None and not self.fresh:
                self._read_ahead(positions.lane, positions.ahead, rest)
            read = self._read(rest, positions.epoch, allocate)
            group = _Group(positions.group, positions.epoch, positions.start, *read)
        specs = group.take(positions)
        if not group.is_empty:
            self._groups[positions.lane] = group
        return group.buffer, specs

    def _read_ahead(self, lane: int, ahead: Ahead, rest: Positions) -> None:
        """Begin to read what is left of a group, and what this process reads of its lane after that."""
        worker = get_worker_info()
        if worker is None or not ahead.lanes % worker.num_workers:
            samples = self._samples_at(np.concatenate([rest, ahead.positions]))
            self.dataset.read_ahead((id(self), lane), samples, self.fields)

    def _read(self, positions: Positions, epoch: int, allocate: Allocator) -> tuple[Buffer, list[TensorSpec]]:
        layout = self._layout(len(positions), None, (self.dataset.height, self.dataset.width))
        buffer = allocate(layout.bytes)
        tensors = buffer.views(layout.tensors)
        samples = self._samples_at(positions)
        tensors["index"].copy_(torch.from_numpy(samples))
        filled = {name: _as_stored(tensors[name]).numpy() for name in (*self.fields, *self.placements)}
        out = {name: self._room(name, array) for name, array in filled.items()}
        threads = None if get_worker_info() is None else 1
        self._at_epoch(epoch).read(samples, self.fields, out=out, threads=threads)
        for name, array in filled.items():
            if (found := out[name]) is not array:
                array[:, : found.shape[1]] = found
                array[:, found.shape[1] :] = NO_OBJECT
        if CATEGORIES in filled and self.categories != self.dataset.categories:
            number = np.array([self.categories.index(name) for name in self.dataset.categories], np.int16)
            there = filled[CATEGORIES] >= 0
            filled[CATEGORIES][there] = number[filled[CATEGORIES][there]]
        return buffer, layout.tensors

    def _room(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """An array to read into: another one where samples of others have more objects."""
        if name not in self.placements or array.shape[1:] == self._shapes[name][0][1:]:
            return array
        return np.empty((len(array), *self._shapes[name][0][1:]), array.dtype)

    def change(self, stored: Tensors, changed: Tensors, *, epoch: int) -> None:
        """Fill tensors with samples that are augmented as in an epoch."""
        if self.augment is None:
            raise ValueError("these samples are not augmented")
        arrays, out = (
            {name: _as_stored(tensor).numpy() for name, tensor in tensors.items()}
            for tensors in (stored, changed)
        )
        threads = None if get_worker_info() is None else 1
        found = self.augment.arrays(arrays, arrays["index"], epoch=epoch, out=out, threads=threads)
        for name, array in found.items():
            if array is not out[name]:
                out[name][...] = array

    def convert(self, stored: Tensors, converted: Tensors) -> None:
        """Fill tensors of another type: pixels are divided by 255."""
        for name, tensor in converted.items():
            source, target = _as_stored(stored[name]), _as_stored(tensor)
            if target.is_floating_point() and source.dtype == torch.uint8:
                # PyTorch divides integers in float32 whatever the result's type.
                torch.div(source.double() if target.dtype == torch.float64 else source, _WHITE, out=target)
            else:
                target.copy_(source)


def _evenly_spaced(samples: Positions) -> range | Positions:
    """Samples, as a range where they are evenly spaced in ascending order."""
    if not len(samples):
        return samples
    step = int(samples[1]) - int(samples[0]) if len(samples) > 1 else 1
    if step < 1 or (np.diff(samples) != step).any():
        return samples
    return range(int(samples[0]), int(samples[-1]) + 1, step)


def _select(
    dataset: Dataset, indices: Index | None, split: tuple[str, str] | None
) -> range | NDArray[np.int64]:
    """The samples of some indices or of a part of a split, numbered from 0; a range where all are meant."""
    if split is None:
        if indices is None:
            chosen: range | Positions = range(len(dataset))
        else:
            chosen = _evenly_spaced(sample_indices(indices, len(dataset)))
        if not len(chosen):
            raise ValueError("found none, expected at least one sample")
        return chosen
    if indices is not None:
        raise ValueError("found indices as well, expected one of the two")
    if not (isinstance(split, (tuple, list)) and len(split) == 2 and isinstance(split[0], str)):
        raise ValueError(f"found {split!r}, expected the names of a split and of one of its parts")
    name, part = split
    parts = dataset.split(name)
    if part not in parts:
        raise ValueError(f"{name!r} has no part {part!r}; it has {', '.join(parts)}")
    return _evenly_spaced(parts[part])


def _size_of(augment: Augment, height: int, width: int) -> tuple[int, int]:
    """What samples of a size are augmented to; SpecError where they cannot be."""
    if not isinstance(augment, Augment):
        raise SpecError(f"found {augment!r}, expected an Augment")
    return augment.size_of(height, width)


def _as_stored(tensor: Tensor) -> Tensor:
    """A batch's tensor in the shape of the dataset's arrays: pictures are (n, h, w, 3) or (n, h, w)."""
    if tensor.ndim != _PICTURE_AXES:
        return tensor
    return tensor.permute(0, 2, 3, 1) if tensor.shape[1] == 3 else tensor[:, 0]

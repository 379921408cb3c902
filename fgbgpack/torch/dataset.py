"""A dataset as PyTorch takes it: samples by their positions, as dictionaries of tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as MapDataset
from torch.utils.data import get_worker_info
from zarr.abc.store import Store

from fgbgpack.composition.placement import Placements
from fgbgpack.dataset.dataset import Dataset, open_dataset
from fgbgpack.errors import SpecError
from fgbgpack.torch.batches import (
    Memory,
    Packing,
    Part,
    Place,
    Positions,
    Recycled,
    Samples,
    Stretch,
    Tensors,
    tensors_in,
)

_DEPTH = "depth"
_FIELDS = ("image", "mask", _DEPTH)
_PLACEMENTS = tuple(field.name for field in fields(Placements))
_WHITE = 255


class _Lot:
    """Samples that were read together, and of which batches are taken one after the other.

    Args:
        positions: Their positions.
        start: How many of these were left out, those at the beginning.
        memory: What they lie in.
        parts: Where.
    """

    def __init__(self, positions: Positions, start: int, memory: Memory, parts: list[Part]) -> None:
        self.positions, self.memory, self.parts = positions, memory, parts
        self._first = self._next = start

    def has(self, batch: Stretch) -> bool:
        """Whether a batch can be taken; only once, for who has it may change what is in it."""
        return batch.start >= self._next and np.array_equal(batch.lot, self.positions)

    def take(self, batch: Stretch) -> list[Part]:
        """Where a batch lies."""
        self._next = batch.start + len(batch)
        return [part.rows(batch.start - self._first, len(batch)) for part in self.parts]

    @property
    def is_empty(self) -> bool:
        """Whether all was taken."""
        return self._next == len(self.positions)


class FgBgDataset(MapDataset[dict[str, Any]]):
    """Samples of a dataset for ``torch.utils.data.DataLoader``; :func:`make_loader` puts both together.

    A sample is a dictionary of

    - ``image``: (3, h, w) uint8, RGB. In memory colours are innermost, as they are stored: a batch is in
      PyTorch's ``channels_last`` format.
    - ``mask``: (1, h, w) uint8, alpha of the pasted foreground, 0..255.
    - ``depth``: (1, h, w) float16 in the quantity and unit of the dataset.
    - ``index``: int64, which sample of the dataset it is.
    - ``background``, ``foreground``, ``replica``, ``y``, ``x``: int32, ``flip``: bool, with ``placements``,
      which imported samples do not have.

    It may be forked and pickled at any time: a process opens files of its own, and workers that are forked,
    spawned or started by a server read alike.

    Args:
        dataset: A local folder, a URL that fsspec opens, a Zarr store, or a dataset that is open.
        fields: Which of ``"image"``, ``"mask"`` and ``"depth"``; ``None`` for all that there are.
        indices: Which samples of the dataset, (n,) integers; ``None`` for all.
        split: A split that is saved in the dataset and one of its parts, such as ``("eighty", "train")``,
            instead of ``indices``.
        dtype: ``None`` for the types above. With a floating type image and mask are divided by 255, to 0..1,
            and depth is converted. Small numbers travel faster: the GPU is a better place for that.
        transform: Changes one sample. It gets image, mask and depth together, so that a crop or a flip is the
            same for all of them. It runs in the workers.
        placements: Whether a sample tells its placement, too.
        pixels: As for :func:`fgbgpack.open_dataset`, as the next.
        allow_incomplete: Open a dataset also while its creation has not finished.

    Attributes:
        dataset: The open dataset.
        indices: (n,) int64, which samples of it these are.
        fields: The fields that are read.
        transform: As above, as the next.
        dtype: As above.
        own: Memory of this process to read to.

    Raises:
        DatasetError: The dataset cannot be opened, or has no depth and that is asked for.
        SpecError: An option cannot be carried out; all problems are named together.

    Example:
        >>> train = FgBgDataset("lobby.zarr", split=("eighty", "train"))  # doctest: +SKIP
        >>> train[0]["image"].shape  # doctest: +SKIP
        torch.Size([3, 128, 128])
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str] | Store | Dataset,
        *,
        fields: Sequence[str] | None = None,
        indices: Sequence[int] | NDArray[np.integer[Any]] | None = None,
        split: tuple[str, str] | None = None,
        dtype: torch.dtype | None = None,
        transform: Callable[[Tensors], dict[str, Any]] | None = None,
        placements: bool = False,
        pixels: Literal["auto", "stored", "recomposed"] = "auto",
        allow_incomplete: bool = False,
    ) -> None:
        if isinstance(dataset, Dataset):
            self.dataset = dataset
        else:
            self.dataset = open_dataset(dataset, allow_incomplete=allow_incomplete, pixels=pixels)
        asked = self.dataset.fields if fields is None else (fields,) if isinstance(fields, str) else fields
        problems = [
            f"fields: found {name!r}, expected some of {', '.join(_FIELDS)}"
            for name in asked
            if name not in _FIELDS
        ]
        if not asked:
            problems.append(f"fields: found none, expected some of {', '.join(_FIELDS)}")
        if _DEPTH in asked and not self.dataset.has_depth:
            problems.append(
                f"fields: {self.dataset.path} has no depth; fill it with fgbgpack depth, or leave depth out"
            )
        if placements and not self.dataset.has_recipe:
            problems.append(f"placements: {self.dataset.path} was imported and has none, expected False")
        if dtype is not None and not dtype.is_floating_point:
            problems.append(f"dtype: found {dtype}, expected a floating type, or None for pixels as stored")
        if indices is not None and split is not None:
            problems.append("split: found indices as well, expected one of the two")
        self.indices = _samples(self.dataset, indices, split, problems)
        if problems:
            raise SpecError(f"Samples of {self.dataset.path} cannot be had so.", problems)
        self.fields = tuple(name for name in _FIELDS if name in asked)
        self.dtype = dtype
        self.transform = transform
        self._placements = _PLACEMENTS if placements else ()
        self._block = self.dataset.image.chunks[0]
        if self.dataset.has_recipe:
            # Forked workers get them from here; only those that begin with nothing read them again.
            _ = self.dataset.placements
        self.own = Recycled()
        self._lots: dict[int, _Lot] = {}
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"<fgbgpack.torch.FgBgDataset: {len(self):,} samples of {self.dataset!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lots": {}}

    def __getitem__(self, position: int) -> dict[str, Any]:
        """One sample. Many at random are had sooner together, by a ``DataLoader`` or ``__getitems__``.

        Raises:
            IndexError: There is no such sample.
            DatasetError: The dataset is damaged or cannot be read.
        """
        if not -len(self) <= position < len(self):
            raise IndexError(f"there is no sample {position}: there are {len(self)}")
        sample: dict[str, Any] = Samples(self, [position])[0]
        return sample

    def __getitems__(self, positions: Sequence[int]) -> Samples:
        """Some samples, which are read together when the first is looked at, or by :func:`collate`."""
        return Samples(self, positions)

    # --- what batches and samplers are made with ---------------------------------------------------

    @property
    def blocks(self) -> NDArray[np.int64]:
        """(n,) int64: which chunk of images each sample lies in. Samples of one are read together sooner."""
        return self.indices // self._block

    @property
    def block_bytes(self) -> int:
        """Bytes of a chunk of images, decoded, with the masks and the depth of the same samples."""
        return self._block * self.dataset.height * self.dataset.width * (3 + 1 + 2)

    def packing(self, count: int, dtype: torch.dtype | None) -> Packing:
        """The tensors of so many samples: fields of a floating type, or ``None``: as they are stored."""
        height, width = self.dataset.height, self.dataset.width
        packing = Packing()
        for name in self.fields:
            stored = torch.float16 if name == _DEPTH else torch.uint8
            is_image = name == "image"
            size = (count, 3 if is_image else 1, height, width)
            packing.add(name, dtype or stored, size, channels_last=is_image)
        packing.add("index", torch.int64, (count,))
        for name in self._placements:
            packing.add(name, torch.bool if name == "flip" else torch.int32, (count,))
        return packing

    def read(self, positions: Sequence[int], place: Place) -> tuple[Memory, list[Part]]:
        """Samples as they are stored: from a lot that was read before, or read to memory of ``place``.

        Raises:
            IndexError: There is no such sample.
            DatasetError: The dataset is damaged or cannot be read.
        """
        if not isinstance(positions, Stretch):
            return self._read(np.asarray(positions, np.int64), place)
        if self._process != os.getpid():
            self._lots, self._process = {}, os.getpid()
        lot = self._lots.pop(positions.lane, None)
        if lot is None or not lot.has(positions):
            lot = None  # its memory may be what the next is read to
            left = positions.lot[positions.start :]
            lot = _Lot(positions.lot, positions.start, *self._read(left, place))
        parts = lot.take(positions)
        if not lot.is_empty:
            self._lots[positions.lane] = lot
        return lot.memory, parts

    def _read(self, positions: Positions, place: Place) -> tuple[Memory, list[Part]]:
        packing = self.packing(len(positions), None)
        memory = place(packing.bytes)
        tensors = tensors_in(memory, packing.parts)
        samples = self.indices[positions]
        tensors["index"].copy_(torch.from_numpy(samples))
        out = {name: _as_stored(tensors[name]).numpy() for name in (*self.fields, *self._placements)}
        threads = None if get_worker_info() is None else 1
        self.dataset.read(samples, self.fields, out=out, threads=threads)
        return memory, packing.parts

    def convert(self, stored: Tensors, converted: Tensors) -> None:
        """Fill tensors of another type: pixels are divided by 255."""
        for name, tensor in converted.items():
            source, target = _as_stored(stored[name]), _as_stored(tensor)
            if target.is_floating_point() and source.dtype == torch.uint8:
                # PyTorch divides integers in float32, whatever it is to be.
                torch.div(source.double() if target.dtype == torch.float64 else source, _WHITE, out=target)
            else:
                target.copy_(source)


def _samples(
    dataset: Dataset,
    indices: Sequence[int] | NDArray[np.integer[Any]] | None,
    split: Any,
    problems: list[str],
) -> NDArray[np.int64]:
    """(n,) int64, from 0 on: the samples asked for; what is wrong with them is added to ``problems``."""
    everything = np.arange(len(dataset))
    if split is not None:
        if not (isinstance(split, (tuple, list)) and len(split) == 2):
            problems.append(f"split: found {split!r}, expected the names of a split and of one of its parts")
            return everything
        name, part = split
        if name not in dataset.splits:
            there = ", ".join(dataset.splits) or "none"
            problems.append(f"split: found {name!r}, expected one that {dataset.path} has: {there}")
            return everything
        parts = dataset.split(name)
        if part not in parts:
            problems.append(f"split: found part {part!r}, expected one of {', '.join(parts)}")
            return everything
        return parts[part]
    if indices is None:
        return everything
    chosen: NDArray[Any] = np.asarray(indices)
    if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
        problems.append(f"indices: found {chosen.dtype} of shape {chosen.shape}, expected a list of integers")
        return everything
    least, greatest = int(chosen.min()), int(chosen.max())
    if least < -len(dataset) or greatest >= len(dataset):
        wrong = greatest if greatest >= len(dataset) else least
        problems.append(f"indices: found {wrong}, expected samples of a dataset that has {len(dataset)}")
        return everything
    return everything[chosen.astype(np.int64)]


def _as_stored(tensor: Tensor) -> Tensor:
    """A batch's tensor in the shape that the dataset has it in: (n, h, w, 3), (n, h, w) or (n,)."""
    if tensor.ndim == 1:
        return tensor
    return tensor.permute(0, 2, 3, 1) if tensor.shape[1] == 3 else tensor[:, 0]

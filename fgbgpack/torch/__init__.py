"""Datasets in PyTorch: ``make_loader``, and its parts for other combinations.

- ``dataset``: a map-style dataset, whose samples are dictionaries of tensors.
- ``sampler``: an order that is shuffled and still fast to read.
- ``batches``: samples to one dictionary of tensors, written once, in the memory in which it is used.
- ``memory``: that memory: recycled, pinned, or shared with workers.
- ``loader``: all of it with good defaults, and a state to resume from.
- ``mixture``: batches that mix several datasets, each with a loader.

Needs PyTorch (the extra ``torch``); nothing else in fgbgpack imports this package.

Example:
    >>> from fgbgpack.torch import make_loader
    >>> loader = make_loader("lobby.zarr", batch_size=64)  # doctest: +SKIP
    >>> for batch in loader:  # doctest: +SKIP
    ...     image = batch["image"].to("cuda", non_blocking=True).float() / 255
"""

from __future__ import annotations

from fgbgpack.extras import require as _require

_require("torch", extra="torch", needed_by="fgbgpack.torch")

from fgbgpack.augment import Augment
from fgbgpack.torch.batches import collate
from fgbgpack.torch.dataset import FgBgDataset
from fgbgpack.torch.loader import FgBgLoader, make_loader
from fgbgpack.torch.mixture import FgBgMixture
from fgbgpack.torch.sampler import BlockShuffleSampler

__all__ = [
    "Augment",
    "BlockShuffleSampler",
    "FgBgDataset",
    "FgBgLoader",
    "FgBgMixture",
    "collate",
    "make_loader",
]

"""Composite foregrounds on backgrounds into one Zarr dataset of images, masks and depth.

Example:
    >>> import fgbgpack
    >>> spec = fgbgpack.DatasetSpec(backgrounds="bg", foregrounds="fg")
    >>> fgbgpack.create("lobby.zarr", spec)  # doctest: +SKIP
    >>> ds = fgbgpack.open_dataset("lobby.zarr")  # doctest: +SKIP
    >>> ds[0].image.shape  # doctest: +SKIP
    (128, 128, 3)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from fgbgpack.version import __version__ as __version__

if TYPE_CHECKING:
    from fgbgpack.augment import Augment
    from fgbgpack.dataset.batch import Batch
    from fgbgpack.dataset.dataset import Dataset, open_dataset
    from fgbgpack.dataset.virtual import store
    from fgbgpack.errors import ClusterError, DatasetError, DepthModelError, FgbgError, SourceError, SpecError
    from fgbgpack.pipeline.create import create
    from fgbgpack.pipeline.estimate import estimate
    from fgbgpack.pipeline.fill_depth import fill_depth
    from fgbgpack.pipeline.parts import begin_create, create_part, finish_create
    from fgbgpack.spec import DatasetSpec, DepthSpec

__all__ = [
    "Augment",
    "Batch",
    "ClusterError",
    "Dataset",
    "DatasetError",
    "DatasetSpec",
    "DepthModelError",
    "DepthSpec",
    "FgbgError",
    "SourceError",
    "SpecError",
    "begin_create",
    "create",
    "create_part",
    "estimate",
    "fill_depth",
    "finish_create",
    "open_dataset",
    "store",
]

_HOME = {
    "augment": ("Augment",),
    "pipeline": ("begin_create", "create", "create_part", "estimate", "fill_depth", "finish_create"),
    "dataset.batch": ("Batch",),
    "dataset.dataset": ("Dataset", "open_dataset"),
    "errors": ("ClusterError", "DatasetError", "DepthModelError", "FgbgError", "SourceError", "SpecError"),
    "spec": ("DatasetSpec", "DepthSpec"),
    "dataset.virtual": ("store",),
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: what needs no arrays starts without NumPy and Zarr."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"fgbgpack.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

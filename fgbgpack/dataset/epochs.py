"""The samples of other epochs: the recipe of a dataset placed anew, composed as samples are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.recipe import Recipe
from fgbgpack.dataset.blocks import in_blocks
from fgbgpack.dataset.composer import Composer
from fgbgpack.dataset.reader import DatasetReader
from fgbgpack.depth.attributes import depth_attributes
from fgbgpack.errors import DatasetError
from fgbgpack.storage.reading import StoredArray

#: The numbers of epochs are below this.
EPOCHS = 1 << 62
#: So many samples are placed at a time where all of them are.
_PLACED_AT_ONCE = 1 << 16


class EpochReader(DatasetReader):
    """The samples of an epoch of a dataset that is open, ``stored``: its recipe, placed anew.

    Objects of scenes are drawn from the foregrounds that ``drawn`` lists; ``None``: from all. ``epoch`` is
    its number.
    """

    def __init__(self, stored: DatasetReader, epoch: int, drawn: tuple[int, ...] | None) -> None:
        spec, _ = stored.require_recipe("recipe, by which samples could be placed anew")
        document = stored.document
        self.epoch, self._stored, self._drawn = epoch, stored, drawn if epoch else None
        document = replace(
            document,
            spec=replace(spec, seed=stored.recipe.at_epoch(epoch).spec.seed),
            pixels=replace(document.pixels, stored=False),
            depth=document.depth if document.is_layered else None,
            generation="",
        )
        super().__init__(stored.store, document, "recomposed", stored._layout_policy)

    # --- what samples are made of ------------------------------------------------------------------

    @cached_property
    def recipe(self) -> Recipe:
        """What the samples of the epoch are a function of."""
        return self._stored.recipe.at_epoch(self.epoch, self._drawn)

    @cached_property
    def composer(self) -> Composer:
        """What makes the samples of the epoch."""
        return self._stored.composer.with_recipe(self.recipe)

    @cached_property
    def sample_arrays(self) -> dict[str, NDArray[Any]]:
        """What all samples are made of, by the paths of the arrays."""
        return self.recipe.sample_arrays(np.arange(len(self)))

    def sample_parts(self) -> Iterator[tuple[slice, Mapping[str, NDArray[Any]]]]:
        """The same, part by part."""
        for start in range(0, len(self), _PLACED_AT_ONCE):
            rows = slice(start, min(start + _PLACED_AT_ONCE, len(self)))
            yield rows, self.recipe.sample_arrays(np.arange(rows.start, rows.stop))

    def fill_sample_arrays(self, samples: NDArray[np.int64], out: Mapping[str, NDArray[Any]]) -> None:
        """As for stored samples."""
        self.composer.made_of(samples, out)

    # --- its arrays --------------------------------------------------------------------------------

    @property
    def depth(self) -> StoredArray:
        """Array (n, h, w) float16; DatasetError where depth is not in layers."""
        self.require_depth()
        return super().depth

    @cached_property
    def _depth_attributes(self) -> Mapping[str, Any]:
        # The largest error is known of stored samples alone.
        return depth_attributes(self.document.depth, None)

    def require_depth(self) -> None:
        """DatasetError where depth is not in layers: that of a network is of the stored samples alone."""
        if not self.has_depth and self._stored.has_depth:
            raise DatasetError(
                f"Depth of {self.path} is what a network says of each stored sample, and epochs have none: "
                "name other fields, or make the dataset with depth in layers (--depth-mode layered).",
                code="depth-not-composed",
            )
        super().require_depth()

    @cached_property
    def _extremes(self) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        low, high = np.empty((2, len(self)), np.float16)

        def fill(block: slice) -> None:
            maps = self.depth[block].reshape(block.stop - block.start, -1)
            maps.min(axis=1, out=low[block])
            maps.max(axis=1, out=high[block])

        in_blocks(fill, len(self), self.sample_bytes, None)
        return low, high

    @property
    def depth_min(self) -> NDArray[Any] | None:
        """(n,) the least depth of each sample: all maps are composed for it. ``None`` without depth."""
        return self._extremes[0] if self.has_depth else None

    @property
    def depth_max(self) -> NDArray[Any] | None:
        """(n,) the greatest depth of each sample, as ``depth_min``."""
        return self._extremes[1] if self.has_depth else None

    @property
    def background_depth(self) -> StoredArray | None:
        """Array (B, h, w) float32: the depth of empty backgrounds, as :attr:`Dataset.background_depth`."""
        return self._stored.background_depth

    @property
    def background_fields(self) -> tuple[str, ...]:
        """Which of ``"background_image"`` and ``"background_depth"`` can be read as well."""
        return self._stored.background_fields

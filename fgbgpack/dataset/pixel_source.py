"""Where image, mask and instance of an open dataset come from: the store, or the recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from fgbgpack.dataset.sample_table import SampleTable
from fgbgpack.document import SOURCE_ARRAYS, Document
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.storage.store import DatasetStore

#: Where image and mask come from.
Pixels: TypeAlias = Literal["stored", "recomposed"]
PixelSource: TypeAlias = Literal["auto", "stored", "recomposed"]

#: Sources that take more memory are not read for pixels that are stored: on this machine, and in a store far
#: away, where all of them have to come before the first sample.
_MOST_BYTES, _MOST_BYTES_FAR = 256 << 20, 16 << 20
#: How much more a foreground takes as sprites of all heights, eight to an octave, with one blend.
_SPRITES = 7
#: Objects are drawn anew sooner than read from a store far away if a sample has at most so many.
_FEW_OBJECTS = 4


def pixel_source(source: str, document: Document, name: str) -> Pixels | None:
    """What ``source`` means for a dataset that messages call ``name``; ``None`` where both are possible.

    Raises SpecError or DatasetError where it cannot be.
    """
    if source not in get_args(PixelSource):
        raise SpecError(
            f"pixels: found {source!r}, expected 'auto', 'stored' or 'recomposed'.", code="option-invalid"
        )
    if source == "recomposed" and not document.has_recipe:
        raise DatasetError(
            f"{name} was imported from pictures: it has no recipe to make pixels of. Open it with "
            "pixels='stored'.",
            code="recipe-missing",
        )
    if source == "stored" and document.is_virtual:
        raise DatasetError(
            f"{name} is virtual, no pixels are stored: open it with pixels='recomposed', or store them with "
            "fgbgpack materialize.",
            code="pixels-not-stored",
        )
    if source == "recomposed" or document.is_virtual:
        return "recomposed"
    # What is not written yet is not to be seen.
    is_of_recipe = document.has_recipe and document.complete and not document.pixels.edited
    return None if source == "auto" and is_of_recipe else "stored"


def is_worth_composing(store: DatasetStore, document: Document, catalog: Sequence[str], *, far: bool) -> bool:
    """Whether samples of a dataset that stores its pixels are composed of its sources: that is cheaper than
    decoding, unless the sources, of the paths of ``catalog``, are too many to be read for it.
    """
    try:
        forms = store.forms(catalog, copied=True)
    except DatasetError:
        return False  # Sources are damaged, and stored pixels need none.
    sizes = {path: math.prod(form.layout.shape) * form.dtype.itemsize for path, form in forms.items()}
    if document.spec is not None and document.has_objects:
        sizes[SOURCE_ARRAYS[1]] *= 1 + _SPRITES * len(document.spec.scene.blends)
    return sum(sizes.values()) <= (_MOST_BYTES_FAR if far else _MOST_BYTES)


def is_drawn(document: Document, table: SampleTable, *, far: bool) -> bool:
    """Whether the objects of scenes are drawn anew, and not read from the ``table``: where that is too large
    to be kept, so that random samples would read it again and again, or in a store far away.
    """
    return not table.fits or (far and document.most_objects <= _FEW_OBJECTS)

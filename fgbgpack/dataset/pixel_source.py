"""Where image and mask of an open dataset come from."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from fgbgpack.document import Document
from fgbgpack.errors import DatasetError, SpecError

#: Where image and mask come from.
Pixels: TypeAlias = Literal["stored", "recomposed"]
PixelSource: TypeAlias = Literal["auto", "stored", "recomposed"]


def pixel_source(source: str, document: Document, name: str) -> Pixels:
    """What ``source`` means for a dataset that messages call ``name``.

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
    return "recomposed" if source == "recomposed" or document.is_virtual else "stored"

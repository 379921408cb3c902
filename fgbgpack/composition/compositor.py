"""Composites of placed foregrounds: the checked layer over the compositing kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fgbgpack.composition.kernels import composite, composite_differs, paste_alpha
from fgbgpack.composition.placement import Placements
from fgbgpack.document import IMAGE, MASK
from fgbgpack.errors import SpecError

T = TypeVar("T", bound=np.generic)

_EVERY = slice(None)


class Compositor:
    """Composites placements of a set of sources. Safe to use from several threads at once.

    Backgrounds are (B, h, w, 3) uint8, RGB; foregrounds (F, ph, pw, 4) uint8, straight-alpha RGBA, each patch
    in the top-left corner, of ``foreground_size`` (F, 2) int32, ``(height, width)`` in pixels. Raises
    SpecError if the arrays do not fit each other, or a patch is larger than the picture.
    """

    def __init__(
        self,
        background: NDArray[np.uint8],
        foreground: NDArray[np.uint8],
        foreground_size: NDArray[np.int32],
    ) -> None:
        self._background = checked_array(background, np.uint8, "background", (None, None, None, 3))
        self._foreground = checked_array(foreground, np.uint8, "foreground", (None, None, None, 4))
        self._size = checked_array(foreground_size, np.int32, "foreground_size", (len(foreground), 2))
        largest = np.minimum(self._background.shape[1:3], self._foreground.shape[1:3])
        if np.any(self._size < 1) or np.any(self._size > largest):
            raise SpecError(
                "A foreground is smaller than 1x1 or larger than the picture or the array that holds it, "
                f"{largest[0]} rows of {largest[1]} pixels.",
                code="foreground-too-large",
            )

    def compose(
        self, placements: Placements, image: NDArray[np.uint8], mask: NDArray[np.uint8], *, top: int = 0
    ) -> None:
        """Fill ``image`` and ``mask`` with the composites of ``placements``, as :meth:`Composites.compose`
        does.
        """
        self.place(placements).compose(_EVERY, {IMAGE: image, MASK: mask}, top=top)

    def compose_planned(
        self, placed: Placements, planes: Mapping[str, NDArray[np.uint8]], *, top: int = 0
    ) -> None:
        """Fill ``planes`` as :meth:`Composites.compose` does, with composites of placements that the plan of
        these sources has computed. Nothing is checked: for one sample that takes longer than compositing.
        """
        p, image = placed, planes.get(IMAGE)
        if image is None:
            paste_alpha(self._foreground, self._size, p.foreground, p.flip, p.y, p.x, top, planes[MASK])
            return
        mask = planes[MASK] if MASK in planes else np.empty(image.shape[:3], np.uint8)
        placed_as = p.background, p.foreground, p.flip, p.y, p.x
        composite(self._background, self._foreground, self._size, *placed_as, top, image, mask)

    def place(self, placements: Placements) -> Composites:
        """The composites of ``placements``, which are checked here once and for all (SpecError)."""
        n = len(placements)
        _, height, width, _ = self._background.shape
        p = Placements(
            checked_array(placements.background, np.int32, "placements.background", (n,)),
            checked_array(placements.foreground, np.int32, "placements.foreground", (n,)),
            checked_array(placements.flip, np.bool_, "placements.flip", (n,)),
            placements.replica,
            checked_array(placements.y, np.int32, "placements.y", (n,)),
            checked_array(placements.x, np.int32, "placements.x", (n,)),
        )
        there = is_within(p.background, len(self._background)) and is_within(
            p.foreground, len(self._foreground)
        )
        if not there:
            raise SpecError(
                "A placement names a background or foreground that is not there.", code="picture-unknown"
            )
        size = self._size[p.foreground]
        if not (is_within(p.y, height - size[:, 0] + 1) and is_within(p.x, width - size[:, 1] + 1)):
            raise SpecError("A placement puts a patch partly outside the picture.", code="placement-outside")
        return Composites(self._background, self._foreground, self._size, p)


@dataclass(frozen=True, eq=False)
class Composites:
    """The composites of placements, any of them at any time: :meth:`Compositor.place` has checked all.

    Safe to use from several threads at once.
    """

    _background: NDArray[np.uint8]
    _foreground: NDArray[np.uint8]
    _size: NDArray[np.int32]
    _placements: Placements

    def compose(
        self,
        samples: slice | NDArray[np.int64],
        planes: Mapping[str, NDArray[np.uint8]],
        *,
        top: int = 0,
    ) -> None:
        """Fill ``planes`` with some composites, exactly rounded.

        Args:
            samples: Which n placements; as an index of an array.
            planes: By their names: ``image``, (n, rows, w, 3) uint8, filled with rows ``top`` on of each
                composite, RGB; ``mask``, (n, rows, w) uint8, filled with the same rows of the pasted alpha,
                0..255. One of the two may be left out.
            top: The first row. Rows below the picture's last are filled with 0.

        Raises:
            SpecError: A shape or dtype is wrong.
            IndexError: There is no such placement.
        """
        p, width = self._placements, self._background.shape[2]
        checked_top(top, self._background.shape[1])
        image = planes.get(IMAGE)
        placed = p.foreground[samples], p.flip[samples], p.y[samples], p.x[samples]
        if image is None:
            mask = checked_array(planes[MASK], np.uint8, MASK, (len(placed[0]), None, width), copy=False)
            paste_alpha(self._foreground, self._size, *placed, top, mask)
            return
        checked_array(image, np.uint8, IMAGE, (len(placed[0]), None, width, 3), copy=False)
        mask = planes[MASK] if MASK in planes else np.empty(image.shape[:3], np.uint8)
        checked_array(mask, np.uint8, MASK, image.shape[:3], copy=False)
        which = p.background[samples]
        composite(self._background, self._foreground, self._size, which, *placed, top, image, mask)

    def differ(
        self,
        samples: slice | NDArray[np.int64],
        planes: Mapping[str, NDArray[np.uint8]],
        *,
        top: int = 0,
    ) -> NDArray[np.bool_]:
        """Which of some composites are not what ``planes``, both of them, hold, (n,).

        Arguments and errors are those of :meth:`compose`, which would fill the two; nothing is filled.
        """
        p, width = self._placements, self._background.shape[2]
        which, image, mask = p.background[samples], planes[IMAGE], planes[MASK]
        checked_array(image, np.uint8, IMAGE, (len(which), None, width, 3), copy=False)
        checked_array(mask, np.uint8, MASK, image.shape[:3], copy=False)
        checked_top(top, self._background.shape[1])
        placed = which, p.foreground[samples], p.flip[samples], p.y[samples], p.x[samples]
        differs = np.zeros(len(which), np.bool_)
        composite_differs(self._background, self._foreground, self._size, *placed, top, image, mask, differs)
        return differs


def checked_array(
    array: NDArray[T], dtype: type[T], name: str, shape: tuple[int | None, ...], *, copy: bool = True
) -> NDArray[T]:
    """``array``, contiguous; an output (``copy=False``) has to be contiguous and writable already. SpecError,
    ``array-misfit``, where it has another type or shape.
    """
    fits = array.ndim == len(shape) and all(
        want is None or want == found for want, found in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise SpecError(
            f"{name} is {array.dtype} of shape {array.shape}, "
            f"expected {np.dtype(dtype)} of shape ({expected}).",
            code="array-misfit",
        )
    if copy:
        return np.ascontiguousarray(array)
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise SpecError(
            f"{name} is to be filled, so it must be contiguous and writable.", code="array-misfit"
        )
    return array


def checked_top(top: int, height: int) -> None:
    """Raise SpecError, ``row-outside``, where a picture of that height has no such row."""
    if not 0 <= top < height:
        raise SpecError(f"The first row is {top}, expected 0 to {height - 1}.", code="row-outside")


def is_within(index: NDArray[np.int32], count: int | NDArray[np.int32]) -> bool:
    """Whether all of an index are from 0 to below ``count``."""
    return bool(np.all((index >= 0) & (index < count)))

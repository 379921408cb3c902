"""What a mask is: one check of mask files and of the alpha of foregrounds, for all that reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.sources.decoding import PictureFile
from fgbgpack.sources.names import listed
from fgbgpack.sources.pictures import read_numbers
from fgbgpack.sources.problems import problem
from fgbgpack.spec import AS_USUAL, LARGEST_ALPHA, Reading

#: Largest difference between the channels of a gray mask that JPEG stored as colours. In masks of classes,
#: whose colours stand for numbers, they differ by far more.
_GRAY_NOISE = 24
#: The least alpha that is opaque to the eye: masks of nothing below it are the whole rectangle.
_OPAQUE = 250
#: A mask of classes has few numbers, each on many pixels; soft edges have many, each on a few.
_MOST_CLASSES, _FEWEST_OF_A_CLASS = 40, 16
_SOLID = 128  # the least alpha that counts as the object: /area counts those above 127
_SHOWN = 8


def read_mask(
    path: PictureFile, reading: Reading = AS_USUAL, sha256: str | None = None, *, may_be_uniform: bool = False
) -> Image.Image:
    """A mask as alpha at its own size, upright: mode L, 0 for the background to 255 for the object.

    It is gray, or alpha where gray is constant, or where ``reading`` names a number of it, that number. Only
    where it ``may_be_uniform`` it may be 0 or 255 everywhere. Raises SourceError where it cannot be used:
    colours, classes, a mask of 0 and 1.
    """
    numbers = read_numbers(path, reading, sha256, noise=_GRAY_NOISE)
    gray, alpha, values = numbers.gray, numbers.alpha, numbers.values
    if reading.mask_value is not None:
        if values is None:
            found = "a picture in colours, whose pixels have no number"
            expected = "a gray picture or one with a palette, as --mask-value is given"
            raise problem(path, found, expected, "mask-in-colour")
        of_value = _where(path, values, reading.mask_value, may_be_absent=may_be_uniform)
        return _checked(path, of_value, reading, may_be_uniform)
    if gray is None:
        raise _in_colour(path, values)
    lowest, highest = gray.getextrema()
    if alpha is not None and lowest == highest:
        gray = alpha
    elif values is not None and numbers.bits > 8 and (top := int(values.max())) <= LARGEST_ALPHA:
        # As alpha from 0 to 65535 it would be next to nothing.
        gray = Image.fromarray(values.astype(np.uint8))
        if top > 1 and reading.mask_threshold is None:
            found = f"a mask of 16 bits with no value above {top}"
            expected = "0 (background) to 65535 (object): save it with 8 bits"
            raise problem(path, found, expected, "mask-of-classes")
    return _checked(path, gray, reading, may_be_uniform)


def _in_colour(path: PictureFile, entries: NDArray[np.generic] | None) -> SourceError:
    found, expected = "a mask in colours", "gray, from 0 (background) to 255 (object)"
    if entries is not None:
        used = [str(entry) for entry in np.unique(entries)[: _SHOWN + 1].tolist()]
        found += f" of a palette, of which it has the entries {listed(used, _SHOWN)}"
        expected += ", or --mask-value with the entry of the object"
    return problem(path, found, expected, "mask-in-colour")


def check_alpha(path: PictureFile, alpha: Image.Image | None, reading: Reading = AS_USUAL) -> Image.Image:
    """The alpha of a foreground, mode L, as the mask that it is; raises SourceError where it is none."""
    if alpha is None:
        expected = "transparency around the object, or --masks"
        raise problem(path, "no alpha channel", expected, "alpha-missing")
    if reading.mask_value is not None:
        values = np.asarray(alpha)
        alpha = _where(path, values, reading.mask_value)
    return _checked(path, alpha, reading, False, is_mask=False)


def _where(
    path: PictureFile, values: NDArray[np.generic], value: int, *, may_be_absent: bool = False
) -> Image.Image:
    chosen = values == value
    if not (may_be_absent or chosen.any()):
        there = [str(number) for number in np.unique(values)[: _SHOWN + 1].tolist()]
        found = f"no pixel has the number {value}: there are {listed(there, _SHOWN)}"
        raise problem(path, found, "the --mask-value of the object in every mask", "mask-value-absent")
    return Image.fromarray(chosen.astype(np.uint8) * np.uint8(LARGEST_ALPHA))


def _checked(
    path: PictureFile, alpha: Image.Image, reading: Reading, may_be_uniform: bool, *, is_mask: bool = True
) -> Image.Image:
    """Alpha with threshold and inversion done; raises SourceError where it is none."""
    if reading.mask_threshold is None:
        _refuse_numbers(path, alpha.histogram(), "a mask" if is_mask else "alpha")
    else:
        least = reading.mask_threshold
        alpha = alpha.point([LARGEST_ALPHA * (value >= least) for value in range(LARGEST_ALPHA + 1)])
    if reading.invert_masks:
        alpha = alpha.point([LARGEST_ALPHA - value for value in range(LARGEST_ALPHA + 1)])
    if not may_be_uniform:
        _refuse_uniform(path, alpha, is_mask=is_mask)
    return alpha


def _refuse_numbers(path: PictureFile, histogram: list[int], what: str) -> None:
    """Raises SourceError where alpha holds the numbers of classes."""
    used = [value for value, count in enumerate(histogram) if count and value]
    if used == [1]:
        found = f"{what} with no value above 1"
        expected = "0 (transparent) to 255 (opaque): multiply it by 255, or give --mask-threshold 1"
        raise problem(path, found, expected, "mask-of-0-and-1")
    faint = [value for value in used if value < _SOLID]
    pixels, solid = sum(histogram[1:_SOLID]), sum(histogram[_SOLID:])
    are_few = len(used) <= _MOST_CLASSES and pixels >= _FEWEST_OF_A_CLASS * len(faint)
    if faint and are_few and pixels > solid:
        numbers = listed([str(value) for value in used], _SHOWN)
        found = f"{what} of few and faint values ({numbers}), which look like the numbers of classes"
        expected = "0 (transparent) to 255 (opaque), or --mask-value or --mask-threshold"
        raise problem(path, found, expected, "mask-of-classes")


def _refuse_uniform(path: PictureFile, alpha: Image.Image, *, is_mask: bool) -> None:
    what = "a mask that" if is_mask else "alpha that"
    lowest, highest = alpha.getextrema()
    assert not isinstance(lowest, tuple)
    assert not isinstance(highest, tuple)
    if highest == 0:
        code = "mask-empty" if is_mask else "alpha-empty"
        raise problem(path, f"{what} is 0 everywhere", "something opaque (255)", code)
    if highest < _SOLID:
        found = f"{what} has no value above {highest}, so that nothing of it counts as the object"
        expected = f"values of {_SOLID} and more where the object is, or --mask-threshold"
        raise problem(path, found, expected, "mask-faint")
    if lowest >= _OPAQUE:
        found = f"{what} is {lowest} or more everywhere, so that the object would be the full rectangle"
        expected = "transparency around the object: cut it out" + ("" if is_mask else ", or give --masks")
        raise problem(path, found, expected, "mask-opaque" if is_mask else "alpha-opaque")

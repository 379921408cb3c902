"""Decodes the files of an existing sample: picture, mask and depth map, at the size of all samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.document import Quantity
from fgbgpack.errors import SourceError
from fgbgpack.sources.pictures import Header, read_header, read_picture, read_values
from fgbgpack.sources.problems import problem
from fgbgpack.sources.resizing import Frame

#: The extension of NumPy files, which may hold depth.
ARRAY_SUFFIX = ".npy"

#: Largest difference between the channels of a gray mask that JPEG stored as colours. In masks of classes,
#: whose colours stand for numbers, they differ by far more.
_GRAY_NOISE = 24
_LARGEST_FLOAT16 = 65504


@dataclass(frozen=True)
class DepthValues:
    """What the values in depth files mean: they are multiplied by ``factor``, then ``offset`` is added, and
    ``invalid`` stands for unknown depth. The quantity is ``None`` where it is not known, the unit where it is
    relative or not known.
    """

    quantity: Quantity | None = None
    unit: str | None = None
    factor: float = 1.0
    offset: float = 0.0
    invalid: float | None = None


def wrong_size(path: Path, found: Sequence[int], expected: Sequence[int], advice: str = "") -> SourceError:
    """The error for a file that is not of the expected size, both ``(width, height)`` in pixels."""
    advice = advice or "as the others: resize it, or all with --size"
    return problem(path, "{}x{} pixels".format(*found), "{}x{}, {}".format(*expected, advice), "size-differs")


def read_file_header(path: Path) -> Header:
    """The header of a picture or of a NumPy file, which has the format ``"NPY"``."""
    if path.suffix.lower() != ARRAY_SUFFIX:
        return read_header(path)
    array = _read_array(path, "r")
    return Header((array.shape[1], array.shape[0]), "NPY", str(array.dtype))


def read_image(path: Path, frame: Frame) -> NDArray[np.uint8]:
    """The picture of a sample, ``(h, w, 3)`` uint8, RGB; its alpha is ignored. Raises SourceError where the
    file cannot be used, or has another size and is not to be resized.
    """
    rgb = read_picture(path).rgb
    _check_size(path, rgb.size, frame)
    return np.asarray(frame.resize(rgb))


def read_mask(path: Path, frame: Frame) -> NDArray[np.uint8]:
    """The mask of a sample, ``(h, w)`` uint8, 0 for background to 255 for foreground: its gray, or its alpha
    where gray is constant. Raises SourceError as :func:`read_image`, and for colours, or no value above 1.
    """
    picture = read_picture(path)
    _check_size(path, picture.rgb.size, frame)
    colours = np.asarray(picture.rgb)
    # Most masks have one channel, and comparing is fast.
    is_gray = (colours[..., 0] == colours[..., 1]).all() and (colours[..., 1] == colours[..., 2]).all()
    if not is_gray and np.ptp(colours.astype(np.int16), axis=2).max() > _GRAY_NOISE:
        expected = "gray, from 0 (background) to 255 (foreground)"
        raise problem(path, "a mask in colours", expected, "mask-in-colour")
    gray = picture.rgb.convert("L")
    lowest, highest = gray.getextrema()
    if picture.alpha is not None and lowest == highest:
        gray = picture.alpha
        highest = gray.getextrema()[1]
    if highest == 1:
        expected = "0 (background) to 255 (foreground): multiply the masks by 255"
        raise problem(path, "a mask with no value above 1", expected, "mask-of-0-and-1")
    return np.asarray(frame.resize(gray))


def read_depth(path: Path, frame: Frame, values: DepthValues) -> NDArray[np.float16]:
    """The depth map of a sample, ``(h, w)`` float16, NaN where depth is unknown, from a gray picture of 8 or
    16 bits or of floating-point numbers, or a NumPy file: its values times a factor plus an offset, rounded
    to nearest. NaN in the file is always unknown.

    Where it is resized, a pixel is the mean of the known values in its area, so none is beyond those in the
    file. Raises SourceError as :func:`read_image`, and for colours, or values that float16 cannot hold.
    """
    is_array = path.suffix.lower() == ARRAY_SUFFIX
    stored: NDArray[Any] = _read_array(path, None) if is_array else read_values(path)
    _check_size(path, (stored.shape[1], stored.shape[0]), frame)
    depth = stored.astype(np.float64)
    if values.invalid is not None:
        depth[stored == values.invalid] = np.nan
    if depth.shape != (frame.height, frame.width):
        depth = _mean_of_known(depth, frame)
    depth = depth * values.factor + values.offset
    largest = np.max(np.abs(depth), initial=0, where=~np.isnan(depth))
    if largest > _LARGEST_FLOAT16:
        expected = (
            f"at most {_LARGEST_FLOAT16:,}, all that float16 holds: give --depth-factor, such as 0.001 to "
            "make metres of millimetres, or --depth-invalid for what is unknown"
        )
        raise problem(path, f"depth of {largest:g}", expected, "depth-out-of-range")
    return depth.astype(np.float16)


def _check_size(path: Path, size: tuple[int, int], frame: Frame) -> None:
    if frame.fit is None and size != frame.size:
        raise wrong_size(path, size, frame.size)


def _mean_of_known(values: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    def mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        picture = Image.fromarray(plane.astype(np.float32))
        return np.asarray(frame.resize(picture, Image.Resampling.BOX)).astype(np.float64)

    known = ~np.isnan(values)
    if known.all():
        return mean(values)
    weight = mean(known.astype(np.float64))
    total = mean(np.where(known, values, 0))
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan)


def _read_array(path: Path, mmap_mode: Literal["r"] | None) -> NDArray[Any]:
    """The ``(h, w)`` array in a NumPy file."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except Exception as exc:  # On damaged files, NumPy raises almost anything.
        expected = "one array, as numpy.save writes it"
        raise problem(path, f"it cannot be read ({exc})", expected, "array-not-readable") from exc
    shape = array.shape
    array = array.reshape([side for side in shape if side > 1])
    if array.ndim != 2 or array.dtype.kind not in "uif":
        found = f"an array of {array.dtype} of shape {shape}"
        raise problem(path, found, "one of numbers, of shape (h, w)", "array-shape-wrong")
    return array

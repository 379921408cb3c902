"""The files of an imported sample: what their heads say, and their pixels at the size of all samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.sources.pictures import Header, crop_box, problem, read_header, read_picture, read_values

Quantity: TypeAlias = Literal["depth", "inverse_depth"]

ARRAY_SUFFIX = ".npy"
ARRAY_FORMAT = "NPY"

#: Between the channels of a gray mask that went through JPEG as colours. Masks of classes, whose colours mean
#: numbers, differ by far more.
_GRAY_NOISE = 24
_LARGEST_FLOAT16 = 65504


@dataclass(frozen=True)
class Frame:
    """The size that all samples get.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        fit: How pictures of another size get it: ``"crop"`` cuts the largest centred part of this aspect out
            first, ``"stretch"`` only resizes; ``None`` where all must have it.
    """

    height: int
    width: int
    fit: Literal["crop", "stretch"] | None

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)``."""
        return self.width, self.height

    def resized(self, picture: Image.Image, how: Image.Resampling) -> Image.Image:
        """A picture in this size."""
        if picture.size == self.size:
            return picture
        box = crop_box(picture.size, self.height, self.width) if self.fit == "crop" else None
        return picture.resize(self.size, how, box=box)

    def check(self, path: Path, size: tuple[int, int]) -> None:
        """Raise SourceError for a file of another size where nothing is resized."""
        if self.fit is None and size != self.size:
            raise wrong_size(path, size, self.size)


@dataclass(frozen=True)
class DepthValues:
    """What the values in files of depth mean.

    Attributes:
        quantity: ``"depth"`` (larger is farther) or ``"inverse_depth"``; ``None`` where that is not known.
        unit: The unit of depth; ``None`` where it is relative or not known.
        factor: What values are multiplied by.
        offset: What is then added to them.
        invalid: The value that stands for unknown depth; ``None`` where there is none.
    """

    quantity: Quantity | None = None
    unit: str | None = None
    factor: float = 1.0
    offset: float = 0.0
    invalid: float | None = None


def wrong_size(path: Path, found: tuple[int, int], expected: tuple[int, int], why: str = "") -> SourceError:
    """The error for a file of another size than it should have, both ``(width, height)``."""
    advice = why or "as the others: resize it, or all with --size"
    return problem(path, "{}x{} pixels".format(*found), "{}x{}, {}".format(*expected, advice))


def header_of(path: Path) -> Header:
    """What the head of a picture, or of a NumPy file, says.

    Raises:
        SourceError: It is neither, or cannot be read.
    """
    if path.suffix.lower() != ARRAY_SUFFIX:
        return read_header(path)
    array = _array_in(path, "r")
    return Header((array.shape[1], array.shape[0]), ARRAY_FORMAT, str(array.dtype))


def image_of(path: Path, frame: Frame) -> NDArray[np.uint8]:
    """A picture, (h, w, 3) uint8, RGB; alpha plays no part.

    Raises:
        SourceError: The file cannot be used.
    """
    rgb = read_picture(path).rgb
    frame.check(path, rgb.size)
    return np.asarray(frame.resized(rgb, Image.Resampling.LANCZOS))


def mask_of(path: Path, frame: Frame) -> NDArray[np.uint8]:
    """A mask, (h, w) uint8: its gray, or its alpha where that varies and gray does not.

    Raises:
        SourceError: The file cannot be used, has colours, or ends at 1.
    """
    picture = read_picture(path)
    frame.check(path, picture.rgb.size)
    colours = np.asarray(picture.rgb)
    # Comparing is soon done, and most masks have one channel.
    is_gray = (colours[..., 0] == colours[..., 1]).all() and (colours[..., 1] == colours[..., 2]).all()
    if not is_gray and np.ptp(colours.astype(np.int16), axis=2).max() > _GRAY_NOISE:
        raise problem(path, "a mask in colours", "gray, from 0 (background) to 255 (foreground)")
    gray = picture.rgb.convert("L")
    lowest, highest = gray.getextrema()
    if picture.alpha is not None and lowest == highest:
        gray = picture.alpha
        lowest, highest = gray.getextrema()
    if highest == 1:
        raise problem(
            path,
            "a mask with no value above 1",
            "0 (background) to 255 (foreground): multiply the masks by 255",
        )
    return np.asarray(frame.resized(gray, Image.Resampling.LANCZOS))


def depth_of(path: Path, frame: Frame, means: DepthValues) -> NDArray[np.float16]:
    """A depth map, (h, w) float16: the values in the file times a factor plus an offset, to the nearest.

    Where it is resized, a pixel is the mean of the known values in its area, so none is beyond those in the
    file. It is NaN where none is known.

    Args:
        path: A gray picture of 8 or 16 bits or of floating-point numbers, or a NumPy file.
        frame: The size.
        means: What its values mean; NaN is always unknown.

    Raises:
        SourceError: The file cannot be used, has colours, or values that float16 cannot hold.
    """
    is_array = path.suffix.lower() == ARRAY_SUFFIX
    stored: NDArray[Any] = np.array(_array_in(path, None)) if is_array else read_values(path)
    frame.check(path, (stored.shape[1], stored.shape[0]))
    values = stored.astype(np.float64)
    if means.invalid is not None:
        values[stored == means.invalid] = np.nan
    if values.shape != (frame.height, frame.width):
        values = _mean_of_known(values, frame)
    values = values * means.factor + means.offset
    largest = np.max(np.abs(values), initial=0, where=~np.isnan(values))
    if largest > _LARGEST_FLOAT16:
        raise problem(
            path,
            f"depth of {largest:g}",
            f"at most {_LARGEST_FLOAT16:,}, all that float16 holds: give --depth-factor, such as 0.001 to "
            "make metres of millimetres, or --depth-invalid for what is unknown",
        )
    return values.astype(np.float16)


def _mean_of_known(values: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    def mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        picture = Image.fromarray(plane.astype(np.float32))
        return np.asarray(frame.resized(picture, Image.Resampling.BOX)).astype(np.float64)

    known = ~np.isnan(values)
    if known.all():
        return mean(values)
    weight = mean(known.astype(np.float64))
    total = mean(np.where(known, values, 0))
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan)


def _array_in(path: Path, mmap_mode: Literal["r"] | None) -> NDArray[Any]:
    """The (h, w) array in a NumPy file."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except Exception as exc:  # On damaged files, NumPy raises almost anything.
        raise problem(path, f"it cannot be read ({exc})", "one array, as numpy.save writes it") from exc
    shape = array.shape
    array = array.reshape([side for side in array.shape if side > 1])
    if array.ndim != 2 or array.dtype.kind not in "uif":
        raise problem(path, f"an array of {array.dtype} of shape {shape}", "one of numbers, of shape (h, w)")
    return array

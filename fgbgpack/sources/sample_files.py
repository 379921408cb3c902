"""Decodes the files of an existing sample: picture, mask and depth map, at the size of all samples."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.document import Quantity
from fgbgpack.errors import SourceError
from fgbgpack.inputs import PARSING_NUMPY, open_file
from fgbgpack.sources import masks
from fgbgpack.sources.decoding import Embedded, Header, PictureFile, read_header, readable
from fgbgpack.sources.pictures import read_picture, read_values
from fgbgpack.sources.problems import Remarks, problem
from fgbgpack.sources.resizing import Frame
from fgbgpack.spec import AS_USUAL, Reading

#: The extension of NumPy files, which may hold depth.
ARRAY_SUFFIX = ".npy"

_LARGEST_FLOAT16 = 65504

_NPY_MAGIC, _ZIP_MAGIC = b"\x93NUMPY", b"PK"
_NPY_HEADERS = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
_EXPECTED_ARRAY = "one whole array, as numpy.save writes it"
_LARGEST_ARRAY = 2 << 30  # bytes


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


def wrong_size(
    path: object, found: Sequence[int], expected: Sequence[int], advice: str = "", hint: str = ""
) -> SourceError:
    """The error for a file that is not of the expected size, both ``(width, height)`` in pixels."""
    advice = advice or "as the others: resize it, or all with --size"
    size = "{}x{}, {}".format(*expected, advice) + (f" ({hint})" if hint else "")
    return problem(path, "{}x{} pixels".format(*found), size, "size-differs")


def read_file_header(path: PictureFile, reading: Reading = AS_USUAL) -> Header:
    """The header of a picture or of a NumPy file, which has the format ``"NPY"``."""
    if isinstance(path, Embedded) or path.suffix.lower() != ARRAY_SUFFIX:
        return read_header(path, reading)
    with readable(path), open_file(path) as file:
        array = _ArrayFile.read(path, file)
    return Header(array.size[::-1], "NPY", str(array.dtype))


def read_image(
    path: PictureFile, frame: Frame, reading: Reading = AS_USUAL, remarks: Remarks | None = None
) -> NDArray[np.uint8]:
    """The picture of a sample, ``(h, w, 3)`` uint8, RGB; its alpha is ignored. Raises SourceError where the
    file cannot be used, or has another size and is not to be resized. What is to be said of it goes to
    ``remarks``.
    """
    picture = read_picture(path, reading=reading)
    if remarks is not None:
        remarks.add(path, picture.remarks)
    rgb = picture.rgb
    _check_size(path, rgb.size, frame)
    return np.asarray(frame.resize(rgb))


def read_mask(path: PictureFile, frame: Frame, reading: Reading = AS_USUAL) -> NDArray[np.uint8]:
    """The mask of a sample, ``(h, w)`` uint8, 0 for background to 255 for foreground, which may be all of
    it. Raises SourceError as :func:`read_image`, and where :func:`fgbgpack.sources.masks.read_mask` does.
    """
    mask = masks.read_mask(path, reading, may_be_uniform=True)
    _check_size(path, mask.size, frame)
    return np.asarray(frame.resize(mask))


def read_depth(
    path: PictureFile, frame: Frame, values: DepthValues, reading: Reading = AS_USUAL
) -> NDArray[np.float16]:
    """The depth map of a sample, ``(h, w)`` float16, NaN where depth is unknown, from a gray picture of 8 or
    16 bits or of floating-point numbers, or a NumPy file: its values times a factor plus an offset, rounded
    to nearest. NaN in the file is always unknown.

    Where it is resized, a pixel is the mean of the known values in its area, so none is beyond those in the
    file. Raises SourceError as :func:`read_image`, and for colours, or values that float16 cannot hold.
    """
    stored = read_numbers(path, reading)
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


def read_numbers(path: PictureFile, reading: Reading = AS_USUAL) -> NDArray[Any]:
    """The numbers, ``(h, w)``, in a gray picture or a NumPy file, as they are stored; raises SourceError."""
    if isinstance(path, Embedded) or path.suffix.lower() != ARRAY_SUFFIX:
        return read_values(path, reading)
    return _read_array(path)


def _check_size(path: PictureFile, size: tuple[int, int], frame: Frame) -> None:
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


@dataclass(frozen=True)
class _ArrayFile:
    """The header of a NumPy file, checked: an ``(h, w)`` array of numbers, all of which are in the file."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns: axes of length 1 do not count."""
        height, width = (side for side in self.shape if side > 1)
        return height, width

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @classmethod
    def read(cls, path: Path, file: BinaryIO) -> _ArrayFile:
        """The header of a file, which is then at the array's first byte."""
        start = file.read(len(_NPY_MAGIC))
        if start != _NPY_MAGIC:
            is_archive = start.startswith(_ZIP_MAGIC)
            found = "an archive of arrays (.npz)" if is_archive else "no NumPy file"
            raise problem(path, found, _EXPECTED_ARRAY, "array-not-readable")
        file.seek(0)
        try:
            # Version 3 is for names of fields.
            with PARSING_NUMPY:
                header = cls(*_NPY_HEADERS[read_magic(file)](file))
        except Exception as exc:  # On damaged headers, NumPy raises almost anything.
            told = f"its header cannot be read ({exc})"
            raise problem(path, told, _EXPECTED_ARRAY, "array-not-readable") from exc
        if header.dtype.hasobject:
            raise problem(path, "a pickle", _EXPECTED_ARRAY, "array-not-readable")
        sides = [side for side in header.shape if side != 1]
        if len(sides) != 2 or min(sides) < 1 or header.dtype.kind not in "uif":
            told = f"an array of {header.dtype} of shape {header.shape}"
            raise problem(path, told, "one of numbers, of shape (h, w)", "array-shape-wrong")
        there = os.fstat(file.fileno()).st_size - file.tell()
        if not header.nbytes <= min(there, _LARGEST_ARRAY):
            told = f"an array of {header.nbytes:,} bytes, of which {there:,} are there"
            raise problem(path, told, _EXPECTED_ARRAY, "array-not-readable")
        return header


def _read_array(path: Path) -> NDArray[Any]:
    """The ``(h, w)`` array in a NumPy file."""
    with readable(path), open_file(path) as file:
        header = _ArrayFile.read(path, file)
        values = np.frombuffer(file.read(header.nbytes), header.dtype)
    return values.reshape(header.size, order="F" if header.is_fortran else "C")

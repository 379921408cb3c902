"""Decodes one picture file, of any mode, to upright colour and alpha."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from fgbgpack.errors import SourceError
from fgbgpack.files import sha256_of
from fgbgpack.inputs import check_regular, open_file, read_file
from fgbgpack.sources.problems import problem

# Pillow only recognises these (HDF5, GRIB, BUFR, WMF and MPEG) or runs a program on them (EPS: Ghostscript).
_UNDECODABLE_FORMATS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})

# Tried first: each begins with bytes that no other format begins with.
_USUAL_FORMATS = frozenset({"JPEG", "PNG"})

# What turns a stored picture upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Largest difference between the channels of a gray picture that JPEG stored as colours.
_GRAY_NOISE = 2

_TIFF_WHITE_IS_ZERO = 0

# In bytes: the most pixels that Pillow decodes, with four channels of 16 bits, have 0.7 GB.
_LARGEST_FILE = 2 << 30

_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_filters = ExitStack()


@cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that it decodes by itself, in the order in which to try them: the usual
    ones first, as some of the others read far into a file before they reject it.
    """
    Image.init()
    names = [name for name in Image.ID if name not in _UNDECODABLE_FORMATS]
    return tuple(sorted(names, key=lambda name: name not in _USUAL_FORMATS))


@cache
def picture_suffixes() -> frozenset[str]:
    """Lower-case file extensions of pictures, with the dot."""
    formats = set(_formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits; raises SourceError where it cannot be read."""
    with readable(path):
        check_regular(path, _LARGEST_FILE)
        return sha256_of(path)


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright: Pillow images of mode RGB and, unless the file has no alpha, of mode L."""

    rgb: Image.Image
    alpha: Image.Image | None


def read_picture(path: Path, sha256: str | None = None) -> Picture:
    """Reads a file once and decodes it; its bytes must have the digest, if one is given.

    Raises:
        SourceError: The file cannot be read, is none or more than one picture, is damaged, too small, too
            large or of an unknown range of values, or has changed.
    """
    with _quiet_pillow():
        image, data = _open_and_load(path, sha256)
        upright = _UPRIGHT.get(_orientation(image))
        alpha = _alpha_of(path, image, data)
        rgb = _rgb_of(path, image)
    if upright is not None:
        rgb = rgb.transpose(upright)
        alpha = None if alpha is None else alpha.transpose(upright)
    return Picture(rgb, alpha)


@dataclass(frozen=True)
class Header:
    """The header of a picture: upright ``(width, height)`` in pixels, Pillow's names of format and mode."""

    size: tuple[int, int]
    format: str
    mode: str


def read_header(path: Path) -> Header:
    """The size and kind of a picture. It is not decoded: the rest of the file may still be damaged. Raises
    SourceError where the file cannot be read or is no picture.
    """
    with readable(path), open_file(path) as file, _decodable(path):
        image = Image.open(file, formats=_formats())
        # The size of a TIFF is upright already. An EXIF block at the end of a PNG is not looked for: Pillow
        # would decode all of it.
        known = image.format != "TIFF" and not (image.format == "PNG" and "exif" not in image.info)
        turned = known and 5 <= _orientation(image) <= 8  # those that exchange width and height
    return Header(image.size[::-1] if turned else image.size, image.format or "", image.mode)


def read_values(path: Path) -> NDArray[np.generic]:
    """The numbers in a gray picture, upright, as they are in the file: ``(h, w)`` uint8, uint16, int32 or
    float32. It may have one channel or equal ones; alpha is ignored. Raises SourceError for colours, or a
    file that cannot be used.
    """
    with _quiet_pillow():
        image, _ = _open_and_load(path)
        upright = _UPRIGHT.get(_orientation(image))
        if image.mode not in ("L", "I", "F") and not image.mode.startswith("I;16"):
            image = _gray_of_colours(path, image)
    if upright is not None:
        image = image.transpose(upright)
    values = np.asarray(image)
    return values.astype(np.uint16) if image.mode.startswith("I;16") else values


def _gray_of_colours(path: Path, image: Image.Image) -> Image.Image:
    colours = np.asarray(_rgb_of(path, image)).astype(np.int16)
    if np.ptp(colours, axis=2).max() > _GRAY_NOISE:
        expected = (
            "gray: one number a pixel. A colour map cannot be undone; save the numbers themselves, as PNG of "
            "16 bits or .npy"
        )
        raise problem(path, "colours", expected, "values-in-colour")
    return Image.fromarray(colours[..., 1].astype(np.uint8))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns an OSError into a SourceError."""
    try:
        yield
    except OSError as error:
        found = f"it cannot be read ({error.strerror})"
        raise problem(path, found, "a readable file", "picture-unreadable") from error


@contextmanager
def _decodable(path: Path) -> Iterator[None]:
    """Silences Pillow's warnings, and turns its errors into a SourceError."""
    try:
        with _quiet_pillow():
            yield
    except SourceError:
        raise
    except Image.DecompressionBombError as error:
        found, expected = f"more than {Image.MAX_IMAGE_PIXELS:,} pixels", "a smaller picture: scale it down"
        raise problem(path, found, expected, "picture-too-large") from error
    except UnidentifiedImageError as error:
        found = "not the content of any picture format"
        raise problem(path, found, "a picture", "picture-format-unknown") from error
    except Exception as error:  # On damaged data, decoders raise almost anything.
        found = f"it cannot be decoded ({str(error) or type(error).__name__})"
        raise problem(path, found, "an undamaged picture", "picture-not-decodable") from error


def _open_and_load(path: Path, sha256: str | None = None) -> tuple[Image.Image, bytes]:
    with readable(path):
        data = read_file(path, _LARGEST_FILE)
    if sha256 is not None and (now := hashlib.sha256(data).hexdigest()) != sha256:
        expected = f"{sha256[:12]}..., as when it was listed: leave it unchanged and run again"
        raise problem(path, f"the file has changed: SHA-256 {now[:12]}...", expected, "picture-changed")
    if not data:
        raise problem(path, "an empty file (0 bytes)", "a picture", "picture-empty")
    most = Image.MAX_IMAGE_PIXELS
    with _decodable(path):
        image = Image.open(io.BytesIO(data), formats=_formats())
        width, height = image.size
        if most is not None and width * height > most:
            raise Image.DecompressionBombError
        if min(width, height) < 2:
            raise problem(path, f"a picture of {width}x{height} pixels", "at least 2x2", "picture-too-small")
        # Further pictures in an MPO file (phones write them) belong to its first, the photograph.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > 1:
            expected = "a single still picture: save the frame that you want as a file of its own"
            found = f"an animation, or a file of {frames} frames"
            raise problem(path, found, expected, "picture-animated")
        image.load()
    return image, data


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # A damaged EXIF block raises almost anything; viewers ignore it.
        return 1


def _alpha_of(path: Path, image: Image.Image, data: bytes) -> Image.Image | None:
    """Alpha as a channel, through a palette, or by one colour that stands for transparent."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return image.getchannel(len(image.getbands()) - 1)
    if image.mode == "P":
        return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    key = image.info.get("transparency")
    if key is None:
        return None
    if image.format == "PNG":
        bits = data[24]  # bit depth, in the IHDR chunk
        if image.mode == "RGB" and bits == 16:
            found = "one transparent colour (tRNS) of 16 bits a channel, of which 8 bits are read"
            raise problem(path, found, "an alpha channel", "transparency-not-decodable")
        if image.mode == "L" and bits < 8:  # Pillow scales the pixels to 0..255, but not the key
            key = key * 255 // ((1 << bits) - 1)
    stored = np.asarray(image.convert("L") if image.mode == "1" else image)
    opaque = stored != np.asarray(key)
    if opaque.ndim == 3:
        opaque = opaque.any(axis=-1)
    return Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8))


def _rgb_of(path: Path, image: Image.Image) -> Image.Image:
    """Colour in 8 bits, whatever alpha says."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _gray_from_16_bits(image).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "integer" if image.mode == "I" else "floating-point"
        found = f"{kind} pixels of no known range (mode {image.mode})"
        raise problem(path, found, "8 or 16 bits a channel", "picture-range-unknown")
    if image.mode in ("P", "PA", "RGBa", "La"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("RGB")


def _gray_from_16_bits(image: Image.Image) -> Image.Image:
    """Scale to 0..255, to the nearest; Pillow's own conversion would clip instead."""
    values = np.asarray(image).astype(np.uint32)
    top = 65535
    tags = getattr(image, "tag_v2", None)
    if tags is not None:  # Pillow neither scales 12 bits of TIFF nor inverts white-is-zero.
        top = (1 << tags.get(ExifTags.Base.BitsPerSample, (16,))[0]) - 1
        if tags.get(ExifTags.Base.PhotometricInterpretation) == _TIFF_WHITE_IS_ZERO:
            values = top - values
    return Image.fromarray(((values * 510 + top) // (2 * top)).astype(np.uint8))


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silences Pillow's warnings: what matters of them is reported as a problem. The filters belong to the
    whole process, so the first thread to enter sets them and the last one to leave restores them.
    """
    global _quiet_users
    with _quiet_lock:
        _quiet_users += 1
        if _quiet_users == 1:
            _quiet_filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0:
                _quiet_filters.close()

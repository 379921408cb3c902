"""Decodes one picture file, of any mode, to upright colour and alpha, or to the numbers in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from fgbgpack.sources.colour import PROFILE_UNUSABLE, plain_rgb, to_srgb
from fgbgpack.sources.decoding import Decoded, PictureFile, decodable, decode
from fgbgpack.sources.problems import problem
from fgbgpack.spec import AS_USUAL, Reading

# Largest difference between the channels of a gray picture that JPEG stored as colours.
_GRAY_NOISE = 2

_BAND = 1 << 20  # pixels that are looked at together: a large picture has no second copy of all its pixels
_BITS_IN_PNG = 24  # where the bit depth is, in the IHDR chunk


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright: Pillow images of mode RGB and, unless the file has no alpha, of mode L.

    ``remarks`` is what is to be said of it, as the end of a sentence about pictures, and ``orientation`` that
    of its EXIF block, 1 to 8.
    """

    rgb: Image.Image
    alpha: Image.Image | None
    remarks: tuple[str, ...]
    orientation: int


def read_picture(path: PictureFile, sha256: str | None = None, reading: Reading = AS_USUAL) -> Picture:
    """Reads a file once and decodes it; its bytes must have the digest, if one is given. Colour becomes sRGB
    by the file's profile.

    Raises:
        SourceError: The file cannot be read, is none or more than one picture, is damaged, too small, too
            large or of an unknown range of values, or has changed.
    """
    with decodable(path):
        decoded = decode(path, reading, sha256)
        alpha = _alpha_of(path, decoded)
        rgb, is_srgb = to_srgb(path, decoded.image)
    remarks = decoded.remarks if is_srgb else (*decoded.remarks, PROFILE_UNUSABLE)
    return _upright(decoded, rgb, alpha, remarks)


def _upright(
    decoded: Decoded, rgb: Image.Image, alpha: Image.Image | None, remarks: tuple[str, ...]
) -> Picture:
    turned = None if alpha is None else decoded.turned(alpha)
    return Picture(decoded.turned(rgb), turned, remarks, decoded.orientation)


@dataclass(frozen=True)
class Numbers:
    """A picture whose pixels are numbers, upright.

    ``values`` are those numbers as they are in the file, ``(h, w)`` integers of ``bits``: gray, or entries of
    a palette; ``None`` for colours. ``gray`` is what they look like, mode L, without regard to the
    colour profile; ``None`` for colours. ``alpha`` is as that of a picture.
    """

    gray: Image.Image | None
    alpha: Image.Image | None
    values: NDArray[np.integer] | None
    bits: int


def read_numbers(
    path: PictureFile, reading: Reading = AS_USUAL, sha256: str | None = None, *, noise: int = 0
) -> Numbers:
    """Reads a mask, of alpha or of classes. Colours whose channels differ by no more than ``noise`` are gray.
    Raises SourceError as :func:`read_picture`.
    """
    with decodable(path):
        decoded = decode(path, reading, sha256)
        image, alpha = decoded.image, _alpha_of(path, decoded)
        if alpha is not None:
            alpha = decoded.turned(alpha)
        if image.mode == "I" and reading.mask_value is not None:
            return Numbers(None, alpha, np.asarray(decoded.turned(image)), 32)
        stored, bits = _stored_gray(image), 8
        if stored is None:
            rgb = plain_rgb(path, image)
            gray = rgb.convert("L") if _is_gray(rgb, noise) else None
            stored = image.getchannel(0) if image.mode == "PA" else image if image.mode == "P" else None
            if stored is None and gray is not None and _is_gray(rgb, 0):
                stored = gray
        else:
            gray = plain_rgb(path, stored).getchannel(0) if stored.mode != "L" else stored
            bits = 16 if stored.mode.startswith("I;16") else 1 if stored.mode == "1" else 8
        gray = None if gray is None else decoded.turned(gray)
        values = None if stored is None else np.asarray(decoded.turned(stored))
    if values is None:
        return Numbers(gray, alpha, None, bits)
    if image.mode == "L" and (few := _bits_of_gray(decoded)) < 8:
        values = values // np.uint8(255 // ((1 << few) - 1))  # Pillow scales them to 0..255
    return Numbers(gray, alpha, values.astype(np.uint8) if bits == 1 else values, bits)


def _bits_of_gray(decoded: Decoded) -> int:
    if decoded.image.format == "PNG":
        return decoded.data[_BITS_IN_PNG]
    tags = getattr(decoded.image, "tag_v2", {})
    return int(tags.get(ExifTags.Base.BitsPerSample, (8,))[0])


def _stored_gray(image: Image.Image) -> Image.Image | None:
    """The gray channel of a gray picture."""
    if image.mode in ("1", "L") or image.mode.startswith("I;16"):
        return image
    return image.getchannel(0) if image.mode in ("LA", "La") else None


def _is_gray(rgb: Image.Image, noise: int) -> bool:
    """Whether channels differ by no more than some noise."""
    width, height = rgb.size
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = np.asarray(rgb.crop((0, top, width, min(top + rows, height))))
        # Most masks have equal channels, and comparing is fast.
        is_equal = (band[..., 0] == band[..., 1]).all() and (band[..., 1] == band[..., 2]).all()
        if not is_equal and np.ptp(band.astype(np.int16), axis=2).max() > noise:
            return False
    return True


def read_values(path: PictureFile, reading: Reading = AS_USUAL) -> NDArray[np.generic]:
    """The numbers in a gray picture, upright, as they are in the file: ``(h, w)`` uint8, uint16, int32 or
    float32. It may have one channel or equal ones; alpha is ignored. Raises SourceError for colours, or a
    file that cannot be used.
    """
    with decodable(path):
        decoded = decode(path, reading)
        image = decoded.image
        if image.mode not in ("L", "I", "F") and not image.mode.startswith("I;16"):
            image = _gray_of_colours(path, image)
        values = np.asarray(decoded.turned(image))
    return values.astype(np.uint16) if image.mode.startswith("I;16") else values


def _gray_of_colours(path: PictureFile, image: Image.Image) -> Image.Image:
    rgb = plain_rgb(path, image)
    if not _is_gray(rgb, _GRAY_NOISE):
        expected = (
            "gray: one number a pixel. A colour map cannot be undone; save the numbers themselves, as PNG of "
            "16 bits or .npy"
        )
        raise problem(path, "colours", expected, "values-in-colour")
    return rgb.getchannel(1)


def _alpha_of(path: PictureFile, decoded: Decoded) -> Image.Image | None:
    """Alpha as a channel, through a palette, or by one colour that stands for transparent."""
    image = decoded.image
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return image.getchannel(len(image.getbands()) - 1)
    if image.mode == "P":
        return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    key = image.info.get("transparency")
    if key is None:
        return None
    if image.format == "PNG":
        bits = decoded.data[_BITS_IN_PNG]
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

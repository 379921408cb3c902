"""Colour in 8 bits of sRGB, whatever the mode, the depth and the colour profile of a picture."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import ExifTags, Image, ImageCms

from fgbgpack.sources.decoding import PictureFile
from fgbgpack.sources.problems import problem

_TIFF_WHITE_IS_ZERO = 0
_PROFILES_KEPT = 16
#: Levels in each channel of the colours by which a profile is compared with sRGB, and the largest difference
#: at which it is sRGB: rounding alone gives 1.
_COMPARED, _SAME = 18, 1

#: What is said of pictures whose profile is of no use.
PROFILE_UNUSABLE = "with a colour profile that cannot be used; they are taken as sRGB"


def to_srgb(path: PictureFile, image: Image.Image) -> tuple[Image.Image, bool]:
    """The colour of a decoded picture as sRGB, mode RGB, whatever its alpha says; and whether that took its
    colour profile into account, or it has none.

    The image itself may be changed. Raises SourceError for numbers of an unknown range.
    """
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        return _transformed(image, None), True
    if not profile:
        return plain_rgb(path, image), True
    try:
        space = _space_of(profile)
        if space == "CMYK" and image.mode == "CMYK":
            return _transformed(image, profile), True
        rgb = plain_rgb(path, image)
        is_gray = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
        if space == "GRAY" and is_gray:
            gray = rgb.getchannel(0)
            return _transformed(gray, profile), True
        if space == "RGB" and image.mode != "CMYK":
            return _transformed(rgb, profile), True
    except (ImageCms.PyCMSError, OSError, ValueError):
        pass
    return plain_rgb(path, image), False


@lru_cache(maxsize=_PROFILES_KEPT)
def _space_of(profile: bytes) -> str:
    return str(ImageCms.getOpenProfile(io.BytesIO(profile)).profile.xcolor_space).strip()


def _transformed(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _transform(profile, image.mode)
    if transform is None:
        return image.convert("RGB") if image.mode != "RGB" else image
    if image.mode == "RGB":
        ImageCms.applyTransform(image, transform, inPlace=True)
        return image
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


@lru_cache(maxsize=_PROFILES_KEPT)
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels of a profile, of LAB without one, to sRGB; ``None`` where they are sRGB already."""
    source = (
        ImageCms.createProfile("LAB") if profile is None else ImageCms.ImageCmsProfile(io.BytesIO(profile))
    )
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        # By default dark grays of steep curves would be off by several levels.
        flags=ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.HIGHRESPRECALC,
    )
    if mode not in ("L", "RGB"):
        return transform
    levels = np.linspace(0, 255, _COMPARED).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    compared = Image.fromarray(colours if mode == "RGB" else levels[None])
    there = ImageCms.applyTransform(compared, transform)
    difference = np.asarray(there).astype(int) - np.asarray(compared.convert("RGB"))
    return transform if np.abs(difference).max() > _SAME else None


def plain_rgb(path: PictureFile, image: Image.Image) -> Image.Image:
    """Colour in 8 bits as it is stored, mode RGB, whatever alpha says."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return gray_from_16_bits(image).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "integer" if image.mode == "I" else "floating-point"
        found = f"{kind} pixels of no known range (mode {image.mode})"
        raise problem(path, found, "8 or 16 bits a channel", "picture-range-unknown")
    if image.mode in ("P", "PA", "RGBa", "La"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def gray_from_16_bits(image: Image.Image) -> Image.Image:
    """Scale to 0..255, to the nearest; Pillow's own conversion would clip instead."""
    stored = np.asarray(image)
    top, is_inverse = 65535, False
    tags = getattr(image, "tag_v2", None)
    if tags is not None:  # Pillow neither scales 12 bits of TIFF nor inverts white-is-zero.
        top = (1 << tags.get(ExifTags.Base.BitsPerSample, (16,))[0]) - 1
        is_inverse = tags.get(ExifTags.Base.PhotometricInterpretation) == _TIFF_WHITE_IS_ZERO
    gray = np.empty(stored.shape, np.uint8)
    # Row by row: a large picture has no second copy of four bytes each.
    for row, scaled in zip(stored, gray, strict=True):
        values = row.astype(np.uint32)
        if is_inverse:
            values = top - values
        scaled[...] = (values * 510 + top) // (2 * top)
    return Image.fromarray(gray)

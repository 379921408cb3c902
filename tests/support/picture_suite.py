"""One small file of every format, mode and depth that Pillow writes, and each with several faults."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from picture_files import disc, smooth
from PIL import Image, ImageCms, ImageFile

SIZE = (37, 29)
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")
#: Formats by their extension, each with the options of its variants.
FORMATS = {
    "png": [{}, {"compress_level": 0}, {"optimize": True}],
    "tif": [
        *({"compression": name} for name in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        {"compression": "group4"},
        {"tiffinfo": {262: 0}},
        {"big_tiff": True},
    ],
    "jpg": [{}, {"quality": 100, "subsampling": 0}, {"progressive": True}, {"restart_marker_blocks": 2}],
    "webp": [{"lossless": True}, {"quality": 80}],
    "jp2": [{}, {"irreversible": True}],
    "avif": [{}],
    "tga": [{}, {"compression": "tga_rle"}],
    "sgi": [{}],
    **{kind: [{}] for kind in ("bmp", "dib", "gif", "ppm", "pcx", "ico", "icns", "im", "msp", "xbm", "dds")},
    **{kind: [{}] for kind in ("blp", "qoi", "spider", "palm", "eps", "pdf", "mpo", "pfm")},
}
#: Those of their variants that keep every number of 8 bits.
LOSSLESS = frozenset({"png", "tif", "bmp", "dib", "ppm", "pcx", "tga", "sgi", "im", "qoi"})


@dataclass(frozen=True)
class File:
    """A file: its name, its bytes, the picture that it was made of where it is whole, and what it is."""

    name: str
    data: bytes
    picture: Image.Image | None
    mode: str
    options: dict


def picture_of(mode: str) -> Image.Image:
    """The same picture in a mode, as far as that can hold it."""
    width, height = SIZE
    rgb = Image.fromarray(smooth(height, width))
    alpha = Image.fromarray(disc(height, width))
    if mode in ("LA", "PA", "RGBA"):
        rgba = rgb.copy()
        rgba.putalpha(alpha)
        return rgba if mode == "RGBA" else rgba.convert("LA") if mode == "LA" else rgba.convert("PA")
    if mode in ("I", "I;16", "F"):
        gray = np.asarray(rgb.convert("L"))
        kinds = {
            "I": gray.astype(np.int32) * 90,
            "I;16": gray.astype(np.uint16) * 257,
            "F": gray / np.float32(9),
        }
        return Image.fromarray(kinds[mode])
    if mode == "LAB":
        return ImageCms.profileToProfile(
            rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    if mode == "P":
        return rgb.quantize(64)
    return rgb.convert(mode)


def whole_files() -> Iterator[File]:
    """Every format, mode and variant that Pillow can write."""
    Image.init()
    by_suffix = Image.registered_extensions()
    for suffix, variants in FORMATS.items():
        for mode in MODES:
            for number, options in enumerate(variants):
                file, picture = io.BytesIO(), picture_of(mode)
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", DeprecationWarning)  # a later Pillow lacks some
                        picture.save(file, by_suffix.get(f".{suffix}", suffix.upper()), **options)
                except (OSError, ValueError, KeyError, TypeError, SystemError, RuntimeError):
                    continue  # no file of this format holds this mode
                name = f"{mode.replace(';', '')}-{number}.{suffix}"
                yield File(name, file.getvalue(), picture, mode, options)


def faulty_files(whole: File) -> Iterator[File]:
    """The same file with faults."""
    data, rng = whole.data, np.random.default_rng(len(whole.data))
    flipped = bytearray(data)
    flipped[int(rng.integers(min(64, len(data))))] ^= 0x41
    middle = len(data) // 2
    faults = {
        "cut": data[:middle],
        "start": data[:9],
        "header": bytes(flipped),
        "zeros": data[:middle] + bytes(min(40, len(data) - middle)) + data[middle + 40 :],
        "lost": data[:middle] + data[middle + 7 :],
        "tail": data + b"more" * 20,
        "large": data[:8] + b"\x7f\xff\xff\xff" + data[12:],
    }
    for fault, content in faults.items():
        yield File(f"{fault}-{whole.name}", content, None, whole.mode, whole.options)


def large_buffer(monkeypatch) -> None:
    """Pillow's JPEG encoder cannot be suspended, so its buffer has to be large enough."""
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 1 << 20)

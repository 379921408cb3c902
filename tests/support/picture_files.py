"""Picture files of every mode and every kind of damage."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from fgbgpack.sources.catalog import load_catalog
from fgbgpack.sources.listing import find_sources
from fgbgpack.spec import AS_USUAL

ORIENTATION = 0x0112


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width):
    """Colour that survives resizing recognisably: a ramp to the right, one downwards, and a constant."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 77)], -1).astype(
        np.uint8
    )


def disc(height, width):
    """Alpha with a soft edge, 255 inside and 0 in the corners."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((y - height / 2 + 0.5) / (height / 2), (x - width / 2 + 0.5) / (width / 2))
    return np.clip((0.95 - distance) * 10 * 255, 0, 255).astype(np.uint8)


def cutout(height=40, width=30, seed=0):
    return Image.fromarray(np.dstack([noise(height, width, 3, seed), disc(height, width)]))


def encoded(image, kind, **options):
    """The bytes of a file of this kind."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def turned(image, orientation, kind="PNG", **options):
    """The bytes of a file that stores an upright array turned, with the EXIF orientation that says so."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(np.ascontiguousarray(STORED[orientation](image)), kind, exif=exif, **options)


#: How an upright picture is stored so that each orientation turns it upright again.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def png(width, height, bits, colour_type, rows, *chunks):
    """A PNG file as bytes, for kinds that Pillow does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    scanlines = b"".join(b"\0" + row for row in rows)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(deep, order="<", white_is_zero=False, more=()):
    """A 16-bit gray TIFF file as bytes, with ``more`` tags as (tag, type, count, value)."""
    height, width = deep.shape
    data = deep.astype(order + "u2").tobytes()
    short = {256: width, 257: height, 258: 16, 259: 1, 262: 0 if white_is_zero else 1, 273: 250}
    short |= {277: 1, 278: height, 279: len(data)}
    entries = [struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in short.items()]
    entries += [struct.pack(order + "HHII", *entry) for entry in more]
    head = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    return (head + b"".join(entries)).ljust(250, b"\0") + data


def write(path, content, **options):
    """Writes a file of bytes, an array or a Pillow image, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        content = Image.fromarray(content)
    if isinstance(content, Image.Image):
        content.save(path, **options)
    else:
        path.write_bytes(content)
    return path


class Folders:
    """Three folders of source pictures."""

    def __init__(self, root: Path) -> None:
        self.backgrounds, self.foregrounds, self.masks = (root / name for name in ("bg", "fg", "masks"))
        for folder in (self.backgrounds, self.foregrounds, self.masks):
            folder.mkdir()

    def background(self, name, content):
        return write(self.backgrounds / name, content)

    def foreground(self, name, content):
        return write(self.foregrounds / name, content)

    def mask(self, name, content):
        return write(self.masks / name, content)

    def good(self):
        self.background("good.png", noise(32, 32))
        self.foreground("good.png", cutout())
        return self

    def find(self, masks=False, reading=AS_USUAL):
        found = self.masks if masks else None
        return find_sources(self.backgrounds, self.foregrounds, found, reading=reading)

    def load(self, masks=False, reading=AS_USUAL, **options):
        settings = {"height": 32, "width": 32, "fit": "crop", "foreground_height": 20} | options
        return load_catalog(self.find(masks, reading), **settings)

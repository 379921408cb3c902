"""What is wrong with a picture file that Pillow decodes all the same, or decodes to something else."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

from PIL import ExifTags, Image

from fgbgpack.sources import jpeg

_PNG_START = 8
_TIFF_SEPARATE_PLANES, _TIFF_SIGNED = 2, 2
_JP2_SUPERBOX, _JP2_PALETTE = b"jp2h", b"pclr"


def fault(image: Image.Image, data: bytes) -> str | None:
    """What is wrong with the data of a decoded picture; ``None`` where nothing is, or nothing can tell."""
    check = _CHECKS.get(image.format or "")
    return None if check is None else check(data)


def _png_fault(data: bytes) -> str | None:
    """Pillow compares the checksums of pixels neither in chunks nor at their end."""
    at = _PNG_START
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if end + 4 > len(data):
            return "its last chunk is cut short"
        if kind == b"IDAT" and zlib.crc32(data[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"the checksum of the pixels at byte {at} is wrong"
        if kind == b"IEND":
            return None
        at = end + 4
    return "it has no end"


_CHECKS: Mapping[str, Callable[[bytes], str | None]] = {
    "JPEG": jpeg.fault,
    "MPO": jpeg.fault,
    "PNG": _png_fault,
}


def misread(image: Image.Image, data: bytes) -> str | None:
    """What a picture is whose pixels Pillow would take for others; ``None`` where it does not."""
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        planes = tags.get(ExifTags.Base.PlanarConfiguration, 1)
        bits = max(tags.get(ExifTags.Base.BitsPerSample, (1,)))
        if planes == _TIFF_SEPARATE_PLANES and bits > 8 and tags.get(ExifTags.Base.SamplesPerPixel, 1) > 1:
            return f"a TIFF file of {bits} bits with its channels one after the other (planar)"
        if bits <= 8 and _TIFF_SIGNED in tags.get(ExifTags.Base.SampleFormat, ()):
            return "a TIFF file of numbers with a sign"
    if image.format == "JPEG2000" and any(kind == _JP2_PALETTE for kind in _jp2_boxes(data)):
        return "a JPEG 2000 file with a palette"
    return None


def _jp2_boxes(data: bytes) -> Iterator[bytes]:
    """The kinds of the boxes in the header of a JPEG 2000 file."""
    at, end = 0, len(data)
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        if kind == _JP2_SUPERBOX:
            end = min(end, at + length)
            at += header
            continue
        yield kind
        if length < header:  # it goes on to the end
            return
        at += length

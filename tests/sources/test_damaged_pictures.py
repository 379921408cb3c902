"""Damage that decoders pass over: JPEG and PNG files whose data is not whole, and pixels taken for others."""

from __future__ import annotations

import struct
import zlib

import naive_jpeg
import numpy as np
import pytest
from picture_files import encoded, noise, png, write
from PIL import Image, ImageFile

from fgbgpack.errors import SourceError
from fgbgpack.sources import jpeg
from fgbgpack.sources.pictures import read_picture
from fgbgpack.spec import Reading

KINDS = {
    "sequential": {},
    "progressive": {"progressive": True},
    "own-tables": {"optimize": True},
    "restarts": {"restart_marker_blocks": 3},
    "progressive-restarts": {"progressive": True, "restart_marker_rows": 1},
}


@pytest.fixture(autouse=True)
def large_buffer(monkeypatch):
    """Pillow's encoder cannot be suspended, so its buffer has to be large enough."""
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 1 << 22)


def photograph(height, width, seed=0):
    """Soft colours with grain, as cameras make them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(soft + rng.normal(0, 8, soft.shape), 0, 255).astype(np.uint8)


# --- JPEG --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_whole_files_are_whole(kind, mode):
    for size, quality, subsampling in (
        ((1, 1), 100, 0),
        ((17, 9), 1, 2),
        ((64, 33), 100, 1),
        ((90, 131), 75, 2),
        ((40, 200), 95, 0),
    ):
        for pixels in (photograph(*size), noise(*size)):
            image = Image.fromarray(pixels).convert(mode)
            options = KINDS[kind] | ({"subsampling": subsampling} if mode == "RGB" else {})
            assert jpeg.fault(encoded(image, "JPEG", quality=quality, **options)) is None


def damaged(data, kind, rng):
    at = int(rng.integers(700, len(data) - 450))
    if kind == "lost":
        return data[:at] + data[at + 400 :]
    if kind == "cut":
        return data[:at] + b"\xff\xd9"
    if kind == "zeros":
        return data[:at] + bytes(400) + data[at + 400 :]
    if kind == "random":
        return data[:at] + rng.bytes(400) + data[at + 400 :]
    return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["lost", "cut", "zeros", "random"])
def test_damage_in_the_middle_is_found(tmp_path, kind, damage):
    data = encoded(photograph(300, 400), "JPEG", quality=90, **KINDS[kind])
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(25):
        path = write(tmp_path / "x.jpg", damaged(data, damage, rng))
        try:
            read_picture(path)
        except SourceError:
            continue
        missed += 1
    # By chance, what is left may have as many blocks as the picture.
    assert missed <= (2 if damage == "zeros" else 0)


@pytest.mark.slow
def test_the_kernel_finds_what_its_twin_finds():
    """In files of which a byte is another: some are as good as whole, as nothing in them tells."""
    rng = np.random.default_rng(2)
    found = {True: 0, False: 0}
    for kind in ("sequential", "own-tables", "restarts"):
        data = encoded(photograph(40, 56), "JPEG", quality=80, **KINDS[kind])
        assert naive_jpeg.is_whole(data, jpeg.LARGEST_COEFFICIENT)
        start = data.index(b"\xff\xda") + 14
        for _ in range(60):
            changed = bytearray(data)
            changed[int(rng.integers(start, len(data) - 2))] = int(rng.integers(255))
            is_whole = naive_jpeg.is_whole(bytes(changed), jpeg.LARGEST_COEFFICIENT)
            assert (jpeg.fault(bytes(changed)) is None) == is_whole
            found[is_whole] += 1
    assert min(found.values()) > 20


def test_a_progressive_file_without_its_last_scans_is_not_whole():
    data = encoded(photograph(64, 64), "JPEG", progressive=True)
    scans = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xda"]
    assert len(scans) > 3
    for scan in scans[1:]:
        assert "ends before" in jpeg.fault(data[:scan] + b"\xff\xd9")


def test_what_follows_the_end_does_not_matter():
    data = encoded(photograph(16, 16), "JPEG")
    assert jpeg.fault(data + b"\xff\xd8 the next picture of a phone") is None
    assert jpeg.fault(data.replace(b"\xff\xd9", b"\0\0\xff\xd9")) is not None


def test_files_of_other_kinds_are_left_to_the_decoder():
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xc9\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0\xff\xd9"):
        assert jpeg.fault(data) in (None, "it has no end")


def test_damaged_files_are_used_where_that_is_asked_for(tmp_path):
    data = encoded(photograph(300, 400), "JPEG", quality=90)
    path = write(tmp_path / "x.jpg", data[: len(data) // 2] + b"\xff\xd9")
    picture = read_picture(path, reading=Reading(strict=False))
    assert picture.rgb.size == (400, 300)
    assert picture.remarks == ("that are damaged, and used as they are",)
    with pytest.raises(SourceError) as caught:
        read_picture(path)
    assert caught.value.code == "picture-damaged"


# --- PNG ---------------------------------------------------------------------------------------------


def stored_png(pixels):
    """A PNG whose data is not compressed, so that nothing but checksums tells what was changed in it."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_a_changed_byte_in_the_pixels_of_a_png_is_found(tmp_path):
    data = stored_png(noise(20, 30))
    assert np.array_equal(read_picture(write(tmp_path / "a.png", data)).rgb, noise(20, 30))
    for at in (60, 700, len(data) - 30):
        path = write(tmp_path / "b.png", data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(SourceError) as caught:
            read_picture(path)
        assert caught.value.code in ("picture-damaged", "picture-not-decodable")


@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"gAMA", b"PLTE"])
def test_a_file_with_one_bad_chunk_is_damaged_and_no_unknown_format(tmp_path, kind):
    data = png(2, 2, 8, 2, [bytes(6)] * 2, (kind, bytes(12)))
    at = data.index(kind)
    path = write(tmp_path / "a.png", data[: at + 5] + b"!" + data[at + 6 :])
    with pytest.raises(SourceError) as caught:
        read_picture(path)
    assert caught.value.code in ("picture-not-decodable", "picture-damaged")


def test_other_formats_with_a_bad_header_are_damaged_too(tmp_path):
    rgb = noise(16, 16)
    for kind, name in (("GIF", "a.gif"), ("BMP", "a.bmp"), ("TIFF", "a.tif"), ("JPEG", "a.jpg")):
        path = write(tmp_path / name, encoded(rgb, kind)[:12])
        with pytest.raises(SourceError) as caught:
            read_picture(path)
        assert caught.value.code == "picture-not-decodable", kind


# --- pixels that Pillow takes for others -------------------------------------------------------------


def planar_tiff(planes):
    """A TIFF of 16 bits with one channel after the other."""
    count, height, width = planes.shape
    size = height * width * 2
    arrays = struct.pack(f"<{count}H", *[16] * count)
    offsets = struct.pack(f"<{count}I", *(400 + size * i for i in range(count)))
    sizes = struct.pack(f"<{count}I", *[size] * count)
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, count, 300), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, count, 320), (277, 3, 1, count), (278, 3, 1, height), (279, 4, count, 340), (284, 3, 1, 2),
    ]  # fmt: skip
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    head += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    head = head.ljust(300, b"\0") + arrays.ljust(20, b"\0") + offsets.ljust(20, b"\0") + sizes
    return head.ljust(400, b"\0") + planes.astype("<u2").tobytes()


def test_tiff_of_16_bits_in_planes_is_refused(tmp_path):
    planes = np.random.default_rng(0).integers(0, 65536, (3, 9, 11), np.uint16)
    with pytest.raises(SourceError) as caught:
        read_picture(write(tmp_path / "a.tif", planar_tiff(planes)))
    assert caught.value.code == "picture-misread"


def test_jpeg_2000_with_a_palette_is_refused(tmp_path):
    data = encoded(noise(16, 16, 0), "JPEG2000", irreversible=False)
    at = data.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", data, at)
    boxes = struct.pack(">I4s", 8 + 14, b"pclr") + struct.pack(">HB3B", 2, 3, 7, 7, 7) + bytes(8)
    changed = data[:at] + struct.pack(">I", length + len(boxes)) + data[at + 4 : at + length] + boxes
    path = write(tmp_path / "a.jp2", changed + data[at + length :])
    with pytest.raises(SourceError) as caught:
        read_picture(path)
    assert caught.value.code in ("picture-misread", "picture-not-decodable")
    assert np.array_equal(read_picture(write(tmp_path / "b.jp2", data)).rgb.getchannel(0), noise(16, 16, 0))

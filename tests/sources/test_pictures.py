"""Picture files of every mode and every kind of damage, decoded to upright colour and alpha."""

from __future__ import annotations

import io
import struct
import warnings
from functools import partial

import numpy as np
import pytest
from picture_files import STORED, encoded, noise, png, smooth, tiff, turned, write
from PIL import ExifTags, Image, ImageCms

from fgbgpack.errors import SourceError
from fgbgpack.sources.decoding import hash_file, read_header
from fgbgpack.sources.pictures import read_picture, read_values
from fgbgpack.sources.problems import run_all


def picture(folder, content, name="x.png"):
    """Colour (h, w, 3) and alpha (h, w) of a file; alpha is None where it has none."""
    read = read_picture(write(folder / name, content))
    assert read.rgb.mode == "RGB"
    return np.asarray(read.rgb), None if read.alpha is None else np.asarray(read.alpha)


def colour(folder, content, name="x.png"):
    return picture(folder, content, name)[0]


def refused(path):
    with pytest.raises(SourceError) as caught:
        read_picture(path)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: ")
    assert "; expected " in line
    return caught.value.code


# --- modes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        Image.fromarray,
        lambda gray: Image.merge("LA", [Image.fromarray(gray), Image.new("L", (5, 6), 255)]),
        lambda gray: Image.fromarray(gray).convert("P"),
        lambda gray: Image.fromarray(np.dstack([gray] * 3 + [255 - gray])),
    ],
    ids=["L", "LA", "P", "RGBA"],
)
def test_gray_modes(tmp_path, made):
    gray = noise(6, 5, 0)
    assert np.array_equal(colour(tmp_path, made(gray)), np.dstack([gray] * 3))


def test_bilevel(tmp_path):
    bilevel = Image.fromarray(noise(6, 5, 0) > 99)
    assert bilevel.mode == "1"
    assert np.array_equal(colour(tmp_path, bilevel), np.dstack([np.asarray(bilevel) * np.uint8(255)] * 3))


def test_colour_modes(tmp_path):
    rgb = noise(6, 5)
    assert np.array_equal(colour(tmp_path, rgb), rgb)
    few = rgb // 128 * 255
    palette = Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    assert np.array_equal(colour(tmp_path, palette), few)
    luma = Image.fromarray(rgb).convert("YCbCr")
    found = colour(tmp_path, luma, "y.tif")
    assert np.array_equal(found, np.asarray(luma.convert("RGB")))
    assert np.abs(found.astype(int) - rgb).max() <= 3


@pytest.mark.parametrize(
    ("kind", "ink", "expected"),
    [
        ("TIFF", (0, 153, 255, 51), (204, 81.6, 0)),
        ("JPEG", (0, 153, 255, 51), (204, 81.6, 0)),
        # Pillow writes the inverted inks and the Adobe marker that says so, as Photoshop does.
        ("JPEG", (255, 0, 0, 0), (0, 255, 255)),
    ],
)
def test_cmyk(tmp_path, kind, ink, expected):
    image = Image.merge("CMYK", [Image.new("L", (16, 8), value) for value in ink])
    data = encoded(image, kind, **({"quality": 98} if kind == "JPEG" else {}))
    assert kind == "TIFF" or b"Adobe" in data
    assert np.abs(colour(tmp_path, data, f"x.{kind}").astype(float) - expected).max() <= 3


def test_lab(tmp_path):
    rgb = Image.fromarray(smooth(12, 16))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.applyTransform(rgb, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert lab.mode == "LAB"
    assert np.abs(colour(tmp_path, lab, "lab.tif").astype(int) - np.asarray(rgb)).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled_not_clipped(tmp_path, kind):
    deep = np.array([[0, 128, 129, 257, 300], [32767, 32768, 65406, 65407, 65535]], np.uint16)
    expected = np.array([[0, 0, 1, 1, 1], [127, 128, 254, 255, 255]], np.uint8)
    assert np.array_equal(expected, np.rint(deep / 257))
    found = colour(tmp_path, encoded(deep, kind), f"deep.{kind.lower()}")
    assert np.array_equal(found, np.dstack([expected] * 3))


@pytest.mark.parametrize(("order", "white_is_zero"), [("<", False), (">", False), ("<", True)])
def test_big_endian_and_white_is_zero_16_bit_tiff(tmp_path, order, white_is_zero):
    deep = np.array([[0, 257, 514], [771, 65278, 65535]], np.uint16)
    expected = np.array([[0, 1, 2], [3, 254, 255]], np.uint8)
    found = colour(tmp_path, tiff(deep, order, white_is_zero), "deep.tif")
    assert np.array_equal(found[..., 0], 255 - expected if white_is_zero else expected)


def test_16_bit_colour_png(tmp_path):
    deep = np.random.default_rng(1).integers(0, 65536, (3, 4, 3), np.uint16)
    found = colour(tmp_path, png(4, 3, 16, 2, [row.astype(">u2").tobytes() for row in deep]))
    assert np.abs(found - deep / 257).max() < 1


def test_the_first_picture_of_a_phone_file_is_the_picture(tmp_path):
    rgb = smooth(32, 32)
    extra = Image.fromarray(noise(32, 32))
    data = encoded(rgb, "MPO", save_all=True, append_images=[extra], quality=95)
    assert np.abs(colour(tmp_path, data, "phone.jpg").astype(int) - rgb).max() < 30


# --- transparency ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_channels(tmp_path, mode):
    gray, alpha = noise(10, 12, 0), noise(10, 12, 0, seed=1)
    planes = [gray] * (len(mode) - 1) + [alpha]
    found, found_alpha = picture(tmp_path, Image.merge(mode, [Image.fromarray(plane) for plane in planes]))
    assert np.array_equal(found_alpha, alpha)
    assert np.array_equal(found, np.dstack([gray] * 3))


@pytest.mark.parametrize(
    ("kind", "key", "expected"),
    [
        ("PNG", 0, [[0, 255, 255], [255, 255, 0]]),
        ("PNG", bytes([0, 128, 255]), [[0, 128, 255], [255, 128, 0]]),
        ("GIF", 1, [[255, 0, 255], [255, 0, 255]]),
        ("PNG", 4, [[255] * 3] * 2),  # no pixel has this colour
    ],
)
def test_palette_transparency(tmp_path, kind, key, expected):
    colours = np.array([[9, 9, 9], [100, 110, 120], [200, 210, 220], [1, 2, 3], [4, 5, 6]], np.uint8)
    image = Image.new("P", (3, 2))
    image.putdata([0, 1, 2, 2, 1, 0])
    image.putpalette(colours.ravel().tolist())
    found, alpha = picture(tmp_path, encoded(image, kind, transparency=key), f"x.{kind.lower()}")
    assert alpha.tolist() == expected
    assert np.array_equal(found[alpha > 0], colours[[[0, 1, 2], [2, 1, 0]]][alpha > 0])


@pytest.mark.parametrize(
    ("bits", "colour_type", "row", "key", "alpha"),
    [
        (8, 0, bytes([5, 6, 7, 5]), struct.pack(">H", 5), [0, 255, 255, 0]),
        (1, 0, bytes([0b10110000]), struct.pack(">H", 1), [0, 255, 0, 0]),
        (2, 0, bytes([0b00011011]), struct.pack(">H", 2), [255, 255, 0, 255]),
        (4, 0, bytes([0x0F, 0x7F]), struct.pack(">H", 15), [255, 0, 255, 0]),
        (16, 0, struct.pack(">4H", 300, 301, 65535, 300), struct.pack(">H", 300), [0, 255, 255, 0]),
        (8, 2, bytes([1, 2, 3, 1, 2, 4, 0, 2, 3, 1, 2, 3]), struct.pack(">3H", 1, 2, 3), [0, 255, 255, 0]),
    ],
    ids=["gray", "bilevel", "2-bit", "4-bit", "16-bit", "rgb"],
)
def test_one_transparent_colour(tmp_path, bits, colour_type, row, key, alpha):
    _, found = picture(tmp_path, png(4, 2, bits, colour_type, [row, row], (b"tRNS", key)))
    assert found.tolist() == [alpha, alpha]


# --- EXIF ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", sorted(STORED))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation(tmp_path, orientation, kind):
    upright = np.kron(noise(3, 4, seed=3), np.ones((8, 8, 1), np.uint8))
    options = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
    path = write(tmp_path / f"a.{kind.lower()}", turned(upright, orientation, kind, **options[kind]))
    found = np.asarray(read_picture(path).rgb)
    assert np.abs(found.astype(int) - upright).max() < (24 if kind == "JPEG" else 1)
    assert read_header(path).size == (32, 24)
    assert read_header(path).format == kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("millimetres", "pixels"),
    # 26 mm before a diagonal of 43.27 mm, of which that of 32 x 24 pixels is 40.
    [(26, 26 * 40 / 43.2666153), (0, None), (None, None)],
)
def test_the_focal_length_in_exif(tmp_path, kind, millimetres, pixels):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    if millimetres is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = millimetres
    path = write(tmp_path / f"a.{kind.lower()}", encoded(noise(24, 32), kind, exif=exif))
    assert read_header(path).focal_length == (None if pixels is None else pytest.approx(pixels))


def test_exif_orientation_turns_alpha_and_values_too(tmp_path):
    rgba = noise(16, 12, 4)
    found, alpha = picture(tmp_path, turned(rgba, 8))
    assert np.array_equal(np.dstack([found, alpha]), rgba)
    values = np.random.default_rng(2).integers(0, 65536, (5, 7), np.uint16)
    path = write(tmp_path / "deep.tif", turned(values, 6, "TIFF"))
    assert np.array_equal(read_values(path), values)


def test_damaged_exif_counts_as_none(tmp_path):
    rgb = noise(6, 5)
    assert np.array_equal(colour(tmp_path, encoded(rgb, "PNG", exif=b"Exif\0\0garbage")), rgb)


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("x.png", np.uint8),
        ("x.png", np.uint16),
        ("x.tif", np.uint16),
        ("x.tif", np.int32),
        ("x.tif", np.float32),
    ],
)
def test_values_are_as_they_are_in_the_file(tmp_path, name, dtype):
    values = (np.arange(12).reshape(3, 4) * 20).astype(dtype)
    found = read_values(write(tmp_path / name, values))
    assert found.dtype == dtype
    assert np.array_equal(found, values)


def test_values_of_equal_channels_are_one_channel_and_colours_are_refused(tmp_path):
    gray = noise(6, 5, 0)
    assert np.array_equal(read_values(write(tmp_path / "gray.png", np.dstack([gray] * 3))), gray)
    with pytest.raises(SourceError, match=r"colours\.png") as caught:
        read_values(write(tmp_path / "colours.png", noise(6, 5)))
    assert caught.value.code == "values-in-colour"


# --- files that cannot be used ---------------------------------------------------------------------


def half(kind):
    data = encoded(noise(64, 64), kind)
    return data[: len(data) // 2]


def moving(kind):
    frames = [Image.fromarray(noise(16, 16, seed=seed)) for seed in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        *((f"half.{kind}", half(kind), "picture-not-decodable") for kind in ("PNG", "JPEG", "BMP", "TIFF")),
        ("zero.png", b"", "picture-empty"),
        ("text.png", b"these are not pixels", "picture-format-unknown"),
        ("page.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "picture-format-unknown"),
        ("dot.png", np.zeros((1, 1, 3), np.uint8), "picture-too-small"),
        ("line.png", np.zeros((1, 50, 3), np.uint8), "picture-too-small"),
        *((f"moving.{kind}", moving(kind), "picture-animated") for kind in ("GIF", "WEBP", "PNG", "TIFF")),
        ("bomb.png", png(9500, 9500, 8, 0, []), "picture-too-large"),
        ("larger bomb.png", png(60000, 60000, 8, 0, []), "picture-too-large"),
        ("float.tif", np.ones((8, 8), np.float32), "picture-range-unknown"),
        ("int.tif", np.ones((8, 8), np.int32), "picture-range-unknown"),
        ("key.png", png(2, 2, 16, 2, [bytes(12)] * 2, (b"tRNS", bytes(6))), "transparency-not-decodable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_cannot_be_used(tmp_path, name, content, code):
    assert refused(write(tmp_path / name, content)) == code


def test_files_that_cannot_be_read(tmp_path):
    missing = tmp_path / "missing.png"
    assert refused(missing) == "picture-unreadable"
    for read in (read_header, read_values, hash_file):
        with pytest.raises(SourceError) as caught:
            read(missing)
        assert caught.value.code == "picture-unreadable"


def test_headers_of_files_that_are_no_pictures(tmp_path):
    for content, code in (
        (b"these are not pixels", "picture-format-unknown"),
        (half("PNG")[:20], "picture-not-decodable"),
    ):
        with pytest.raises(SourceError, match=r"x\.png") as caught:
            read_header(write(tmp_path / "x.png", content))
        assert caught.value.code == code


def test_warnings_of_pillow_stay_inside_and_filters_are_restored(tmp_path):
    """Tests turn warnings into errors, so one that came through would make its file undecodable."""
    data = tiff(np.full((32, 32), 65535, np.uint16), more=[(320, 3, 4000, 9999)])  # beyond the file's end
    with pytest.warns(UserWarning, match="Tag data larger than file"), Image.open(io.BytesIO(data)) as image:
        image.load()
    before = list(warnings.filters)
    path = write(tmp_path / "x.tif", data)
    for read in run_all([partial(read_picture, path)] * 20):
        assert read.rgb.getextrema() == ((255, 255),) * 3
    assert warnings.filters == before
    bomb = write(tmp_path / "b.png", png(9500, 9500, 8, 0, []))
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(bomb).close()
    assert refused(bomb) == "picture-too-large"
    assert warnings.filters == before

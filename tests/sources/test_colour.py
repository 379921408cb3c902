"""Colour profiles: pictures become sRGB, numbers in masks stay, and premultiplied colours are told."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from picture_files import cutout, disc, encoded, noise, smooth, write
from PIL import Image, ImageCms

from fgbgpack.sources.masks import read_mask
from fgbgpack.sources.pictures import read_picture, read_values
from fgbgpack.spec import Reading

D50 = (0.9642, 1, 0.8249)


def fixed(value):
    return struct.pack(">i", round(value * 65536))


def xyz(*values):
    return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))


def profile(space, gamma, **more):
    """A colour profile of a device: its tags beside those that all have."""
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(78)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    parts = {"desc": text + bytes(-len(text) % 4), "cprt": b"text\0\0\0\0CC0\0", "wtpt": xyz(*D50)} | more
    parts |= dict.fromkeys(["kTRC"] if space == b"GRAY" else ["rTRC", "gTRC", "bTRC"], curve)
    table, body = struct.pack(">I", len(parts)), b""
    start = 132 + 12 * len(parts)
    for tag, data in parts.items():
        table += struct.pack(">4sII", tag.encode(), start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"    ", 0x02400000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(fixed, D50))
    return head.ljust(128, b"\0") + table + body


#: The primaries of Adobe RGB (1998).
WIDE = profile(
    b"RGB ",
    2.2,
    rXYZ=xyz(0.60974, 0.31111, 0.01947),
    gXYZ=xyz(0.20528, 0.62567, 0.06087),
    bXYZ=xyz(0.14919, 0.06322, 0.74457),
)
LINEAR_GRAY = profile(b"GRAY", 1.0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def linear(values):
    """Light of sRGB values, by the formula of its standard."""
    part = np.asarray(values) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def encoded_light(light):
    light = np.clip(light, 0, 1)
    part = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return part * 255


def wide_to_srgb(rgb):
    """By the matrices of both: from the light of Adobe RGB to that of sRGB, both adapted to D50."""
    wide = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
    srgb = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    light = (rgb / 255) ** (563 / 256)
    return encoded_light(light @ wide.T @ np.linalg.inv(srgb).T)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_colours_become_srgb(tmp_path, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    plain = encoded(smooth(48, 64), kind, **options)
    rgb = np.asarray(read_picture(write(tmp_path / f"plain.{kind.lower()}", plain)).rgb)
    path = write(tmp_path / f"a.{kind.lower()}", encoded(smooth(48, 64), kind, icc_profile=WIDE, **options))
    found = np.asarray(read_picture(path).rgb).astype(float)
    expected = wide_to_srgb(rgb)
    assert np.abs(expected - rgb).max() > 40
    assert np.abs(found - expected).max() < 2


def test_alpha_and_palettes_and_gray_have_profiles_too(tmp_path):
    rgba = np.dstack([smooth(48, 64), disc(48, 64)])
    picture = read_picture(write(tmp_path / "a.png", encoded(rgba, "PNG", icc_profile=WIDE)))
    assert np.array_equal(picture.alpha, disc(48, 64))
    assert np.abs(np.asarray(picture.rgb) - wide_to_srgb(rgba[..., :3])).max() < 2
    few = Image.fromarray(smooth(48, 64)).quantize(16)
    found = read_picture(write(tmp_path / "b.png", encoded(few, "PNG", icc_profile=WIDE))).rgb
    assert np.abs(np.asarray(found) - wide_to_srgb(np.asarray(few.convert("RGB")))).max() < 2
    gray = np.linspace(0, 255, 256).astype(np.uint8).reshape(8, 32)
    found = read_picture(write(tmp_path / "c.png", encoded(gray, "PNG", icc_profile=LINEAR_GRAY))).rgb
    assert np.abs(np.asarray(found)[..., 1] - encoded_light(gray / 255)).max() < 2
    deep = gray.astype(np.uint16) * 257
    found = read_picture(write(tmp_path / "d.png", encoded(deep, "PNG", icc_profile=LINEAR_GRAY))).rgb
    assert np.abs(np.asarray(found)[..., 1] - encoded_light(gray / 255)).max() < 2


def test_srgb_stays_as_it_is(tmp_path):
    rgb = noise(40, 50)
    picture = read_picture(write(tmp_path / "a.png", encoded(rgb, "PNG", icc_profile=SRGB)))
    assert np.array_equal(picture.rgb, rgb)
    assert picture.remarks == ()


@pytest.mark.parametrize("data", [b"no profile", LINEAR_GRAY, WIDE[:200]], ids=["text", "of gray", "cut"])
def test_profiles_that_cannot_be_used_are_remarked_on(tmp_path, data):
    rgb = noise(40, 50)
    picture = read_picture(write(tmp_path / "a.png", encoded(rgb, "PNG", icc_profile=data)))
    assert np.array_equal(picture.rgb, rgb)
    assert len(picture.remarks) == 1
    assert "colour profile" in picture.remarks[0]


def test_lab_becomes_srgb(tmp_path):
    rgb = Image.fromarray(smooth(20, 30))
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    found = read_picture(write(tmp_path / "a.tif", encoded(lab, "TIFF"))).rgb
    assert np.abs(np.asarray(found).astype(int) - np.asarray(rgb)).mean() < 3


def test_numbers_have_no_colour(tmp_path):
    mask = disc(20, 30)
    path = write(tmp_path / "a.png", encoded(mask, "PNG", icc_profile=LINEAR_GRAY))
    assert np.array_equal(read_mask(path), mask)
    assert np.array_equal(read_values(path), mask)
    coloured = write(tmp_path / "b.png", encoded(np.dstack([mask] * 3), "PNG", icc_profile=WIDE))
    assert np.array_equal(read_mask(coloured), mask)
    assert np.array_equal(read_values(coloured), mask)


# --- premultiplied alpha -----------------------------------------------------------------------------


def premultiplied(rgba):
    rounded = (rgba[..., :3].astype(int) * rgba[..., 3:] + 127) // 255
    return np.dstack([rounded.astype(np.uint8), rgba[..., 3]])


def soft_cutout():
    """Bright colours that do not change, so that resizing leaves them, behind a wide soft edge."""
    y, x = np.mgrid[:80, :60]
    alpha = np.clip((1.2 - np.hypot((y - 39.5) / 40, (x - 29.5) / 30)) * 255, 0, 255).astype(np.uint8)
    return np.dstack([np.full((80, 60, 3), (200, 180, 90), np.uint8), alpha])


def test_premultiplied_colours_are_told_and_undone(folders):
    folders.background("b.png", noise(64, 64))
    folders.foreground("f.png", premultiplied(soft_cutout()))
    dark = folders.load()
    assert len(dark.notices) == 1
    assert "--premultiplied" in dark.notices[0]
    light = folders.load(reading=Reading(premultiplied=True))
    assert light.notices == ()
    seen = light.foreground[0][..., 3] > 20
    assert np.abs(light.foreground[0][..., :3][seen].astype(int) - (200, 180, 90)).max() <= 8
    assert dark.foreground[0][..., 0][seen].min() < 100
    folders.foreground("f.png", soft_cutout())
    straight = folders.load()
    assert straight.notices == ()
    assert np.array_equal(straight.foreground[..., 3], light.foreground[..., 3])


def test_the_cutouts_of_other_tests_are_not_premultiplied(folders):
    folders.background("b.png", noise(64, 64))
    for seed in range(5):
        folders.foreground(f"{seed}.png", cutout(seed=seed))
    folders.foreground("dark.png", np.where(np.arange(4) < 3, 0, soft_cutout()).astype(np.uint8))
    assert folders.load().notices == ()


# --- formats of plugins ------------------------------------------------------------------------------


def test_pictures_of_other_formats_are_read_with_their_plugin(tmp_path):
    rgb = np.kron(noise(6, 8, seed=5), np.ones((8, 8, 1), np.uint8))
    for package, kind, suffix in (("pillow_heif", "HEIF", "heic"), ("pillow_jxl", "JXL", "jxl")):
        pytest.importorskip(package, reason="the extra heif is not installed")
        read_picture(write(tmp_path / "a.png", rgb))  # registers the formats
        data = encoded(rgb, kind, quality=90)
        found = np.asarray(read_picture(write(tmp_path / f"a.{suffix}", data)).rgb)
        assert np.abs(found.astype(int) - rgb).mean() < 6


def test_avif_is_read(tmp_path):
    rgb = np.kron(noise(6, 8, seed=5), np.ones((8, 8, 1), np.uint8))
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "AVIF", quality=100, subsampling="4:4:4")
    found = np.asarray(read_picture(write(tmp_path / "a.avif", file.getvalue())).rgb)
    assert np.abs(found.astype(int) - rgb).mean() < 6

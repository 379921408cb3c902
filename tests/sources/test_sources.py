"""Folders of real picture files, in every mode and every kind of damage, to arrays and back to messages."""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import unicodedata
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from fgbgpack.document import SourceInfo
from fgbgpack.errors import SourceError
from fgbgpack.sources import problems as module
from fgbgpack.sources.catalog import load_background, load_catalog
from fgbgpack.sources.listing import Source, Sources, find_sources
from fgbgpack.sources.pictures import hash_file
from fgbgpack.sources.resizing import crop_box

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


def png(width, height, bits, colour_type, rows, *chunks):
    """A PNG file as bytes, for kinds that Pillow does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    scanlines = b"".join(b"\0" + row for row in rows)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


class Folders:
    """Three folders, with one good background and one good foreground to begin with."""

    def __init__(self, root):
        self.backgrounds = root / "bg"
        self.foregrounds = root / "fg"
        self.masks = root / "masks"
        for folder in (self.backgrounds, self.foregrounds, self.masks):
            folder.mkdir()

    def background(self, name, content):
        return self._write(self.backgrounds / name, content)

    def foreground(self, name, content):
        return self._write(self.foregrounds / name, content)

    def mask(self, name, content):
        return self._write(self.masks / name, content)

    @staticmethod
    def _write(path, content):
        if isinstance(content, np.ndarray):
            content = Image.fromarray(content)
        if isinstance(content, Image.Image):
            content.save(path)
        else:
            path.write_bytes(content)
        return path

    def good(self):
        self.background("good.png", noise(32, 32))
        self.foreground("good.png", cutout())
        return self

    def find(self, masks=False):
        return find_sources(self.backgrounds, self.foregrounds, self.masks if masks else None)

    def load(self, masks=False, **options):
        settings = {"height": 32, "width": 32, "fit": "crop", "foreground_height": 20} | options
        return load_catalog(self.find(masks), **settings)

    def refusal(self, masks=False, **options):
        with pytest.raises(SourceError) as caught:
            self.load(masks, **options)
        assert all(problem in str(caught.value) for problem in caught.value.problems)
        return caught.value.problems


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


def pixels_of(tmp_path, content, name="picture.png"):
    """A background as decoded, at its own size."""
    path = Folders._write(tmp_path / name, content)
    source = Source(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), path=path)
    with Image.open(path) as image:
        width, height = image.size
    return load_background(source, height=height, width=width, fit="crop")


# --- Listing -----------------------------------------------------------------------------------


def test_lists_pictures_in_order_of_their_normalised_names(folders):
    decomposed = unicodedata.normalize("NFD", "été.png")
    names = ["zebra.png", "b 2.PNG", "a.jpeg", decomposed, "naïve café 日本.png", "ö.tif"]
    for name in names:
        folders.background(name, encoded(Image.fromarray(noise(8, 8)), "PNG"))
    folders.good()
    listed = [source.name for source in folders.find().backgrounds]
    assert sorted(listed) == sorted([*names, "good.png"])
    assert listed == [
        "a.jpeg",
        "b 2.PNG",
        "good.png",
        "naïve café 日本.png",
        "zebra.png",
        decomposed,
        "ö.tif",
    ]


def test_names_digests_and_paths(folders):
    folders.good()
    mask = folders.mask("good.tif", disc(40, 30))
    found = folders.find(masks=True)
    data = (folders.foregrounds / "good.png").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert found.foregrounds == (SourceInfo("good.png", digest, "good.tif", hash_file(mask)),)
    assert found.foregrounds[0].path == folders.foregrounds / "good.png"
    assert found.foregrounds[0].mask_path == mask
    assert found.backgrounds[0].mask_name is None
    assert found.foregrounds[0].word == int.from_bytes(hashlib.sha256(data).digest()[:4], "big")


def test_two_pictures_of_the_same_content_are_two(folders):
    folders.good()
    folders.background("copy.png", (folders.backgrounds / "good.png").read_bytes())
    found = folders.find()
    assert [source.name for source in found.backgrounds] == ["copy.png", "good.png"]
    assert found.backgrounds[0].sha256 == found.backgrounds[1].sha256
    assert len(folders.load().background) == 2


def test_what_is_no_picture_is_ignored_and_told(folders):
    folders.good()
    notes = folders.background("notes.txt", b"hello")
    script = folders.background("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n")
    folders.background(".hidden.png", b"")
    (folders.foregrounds / "more.png").mkdir()
    (folders.foregrounds / "more.png" / "inner.png").write_bytes(b"")
    found = folders.find()
    assert found.ignored == (str(notes), str(script), f"{folders.foregrounds / 'more.png'}/")
    assert len(found.backgrounds) == len(found.foregrounds) == 1


def test_folders_that_are_none_are_told_by_their_options(folders):
    file = folders.backgrounds / "x"
    file.write_bytes(b"")
    (folders.masks / "people").mkdir()
    (folders.masks / "dogs").mkdir()
    missing = folders.foregrounds / "nowhere"
    with pytest.raises(SourceError) as caught:
        find_sources(file, missing, folders.masks)
    background, foreground, mask = caught.value.problems
    assert background == f"--backgrounds {file}: it is a file; expected a folder of pictures"
    assert foreground == f"--foregrounds {missing}: there is no such folder; expected a folder of pictures"
    assert mask.startswith(f"--masks {folders.masks}: only subfolders (dogs, people)")


def test_folders_without_pictures(folders):
    folders.background(".only-hidden.png", noise(4, 4))
    for index in range(4):
        folders.foreground(f"{index}.txt", b"")
    background, foreground = folders.refusal()
    assert background.startswith(f"--backgrounds {folders.backgrounds}: the folder is empty")
    assert "no picture among 4 entries (0.txt, 1.txt, 2.txt, ...)" in foreground


def test_duplicate_stems_are_all_named_in_each_folder(folders):
    decomposed = unicodedata.normalize("NFD", "é.png")
    for name in ["a.png", "a.jpg", "A.png", decomposed, "é.gif"]:
        folders.background(name, encoded(Image.fromarray(noise(8, 8)), "PNG"))
    for name in ["p.png", "p.webp", "p.tif", "q.png"]:
        folders.foreground(name, cutout())
    for name in ["p.png", "q.png", "q.bmp"]:
        folders.mask(name, disc(40, 30))
    problems = folders.refusal(masks=True)
    assert len(problems) == 4
    assert "--backgrounds" in problems[0]
    assert "(a.jpg, a.png)" in problems[0]
    assert decomposed in problems[1]
    assert "é.gif" in problems[1]
    assert "--foregrounds" in problems[2]
    assert "3 files" in problems[2]
    assert "(p.png, p.tif, p.webp)" in problems[2]
    assert "--masks" in problems[3]
    assert "(q.bmp, q.png)" in problems[3]


def test_missing_masks_are_all_named_and_spare_ones_ignored(folders):
    folders.good()
    for name in ["one.png", "two.png", "three.png"]:
        folders.foreground(name, cutout())
    folders.mask("two.png", disc(40, 30))
    spare = folders.mask("spare.png", disc(40, 30))
    problems = folders.refusal(masks=True)
    assert len(problems) == 3
    for name, problem in zip(["good", "one", "three"], problems, strict=True):
        assert f"{name}.png: no mask for it" in problem
        assert str(folders.masks) in problem
    for name in ["good.png", "one.png", "three.png"]:
        folders.mask(name, disc(40, 30))
    assert folders.find(masks=True).ignored == (str(spare),)


def test_masks_match_by_normalised_stem_and_any_extension(folders):
    folders.good()
    folders.mask("good.bmp", disc(40, 30))
    folders.foreground(unicodedata.normalize("NFD", "señora 1.a.png"), cutout())
    folders.mask(unicodedata.normalize("NFC", "señora 1.a.tif"), disc(40, 30))
    found = folders.find(masks=True)
    assert [source.mask_name for source in found.foregrounds] == ["good.bmp", "señora 1.a.tif"]


def test_masks_in_the_folder_of_foregrounds_are_a_mistake(folders):
    folders.good()
    with pytest.raises(SourceError, match="same folder as --foregrounds"):
        find_sources(folders.backgrounds, folders.foregrounds, folders.foregrounds)


def test_broken_links_and_names_that_are_not_unicode_are_told(folders):
    folders.good()
    (folders.backgrounds / "gone.png").symlink_to(folders.backgrounds / "nothing.png")
    odd = bytes(folders.foregrounds) + b"/caf\xe9.png"
    try:
        Path(odd.decode(errors="surrogateescape")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    link, name = folders.refusal()
    assert "gone.png: no regular file" in link
    assert "caf\\udce9.png" in name
    assert "not valid Unicode" in name


def test_damaged_files_are_named_along_with_structural_problems(folders):
    folders.good()
    folders.background("zero.png", b"")
    folders.foreground("good.jpg", b"")
    problems = folders.refusal()
    assert len(problems) == 3
    assert "share the stem 'good'" in problems[0]
    assert "zero.png: an empty file" in problems[1]
    assert "good.jpg: an empty file" in problems[2]


# --- Modes -------------------------------------------------------------------------------------


def test_gray_modes(tmp_path):
    gray = noise(6, 5, 0)
    expected = np.dstack([gray] * 3)
    assert np.array_equal(pixels_of(tmp_path, gray), expected)
    opaque = Image.merge("LA", [Image.fromarray(gray), Image.new("L", (5, 6), 255)])
    assert np.array_equal(pixels_of(tmp_path, opaque), expected)
    bilevel = Image.fromarray(gray > 99)
    assert bilevel.mode == "1"
    assert np.array_equal(pixels_of(tmp_path, bilevel), np.dstack([(gray > 99) * np.uint8(255)] * 3))


def test_colour_modes(tmp_path):
    rgb = noise(6, 5)
    assert np.array_equal(pixels_of(tmp_path, rgb), rgb)
    assert np.array_equal(pixels_of(tmp_path, np.dstack([rgb, np.full((6, 5), 255, np.uint8)])), rgb)
    few = rgb // 128 * 255
    palette = Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    assert np.array_equal(pixels_of(tmp_path, palette), few)
    luma = Image.fromarray(rgb).convert("YCbCr")
    assert np.array_equal(pixels_of(tmp_path, luma, "y.tif"), np.asarray(luma.convert("RGB")))
    assert np.abs(pixels_of(tmp_path, luma, "y.tif").astype(int) - rgb).max() <= 3


def test_palette_with_unused_transparency_is_opaque(tmp_path):
    indices = Image.fromarray(noise(6, 5, 0) % 4, "L")
    image = Image.new("P", indices.size)
    image.putdata(list(np.asarray(indices).ravel().tolist()))
    colours = [[10, 20, 30], [40, 50, 60], [70, 80, 90], [200, 210, 220], [1, 2, 3]]
    image.putpalette(np.ravel(colours).tolist())
    found = pixels_of(tmp_path, encoded(image, "PNG", transparency=4))
    assert np.array_equal(found, np.array(colours, np.uint8)[np.asarray(indices)])


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk(tmp_path, kind):
    ink = Image.merge("CMYK", [Image.new("L", (16, 8), value) for value in (0, 153, 255, 51)])
    found = pixels_of(
        tmp_path, encoded(ink, kind, **({"quality": 98} if kind == "JPEG" else {})), f"x.{kind}"
    )
    expected = [255 * 0.8, 255 * 0.4 * 0.8, 0]
    assert np.abs(found.astype(float) - expected).max() <= 3


def test_adobe_inverted_cmyk_jpeg(tmp_path):
    """Pillow writes the inverted inks and the Adobe marker that says so, as Photoshop does."""
    ink = Image.merge("CMYK", [Image.new("L", (16, 8), value) for value in (255, 0, 0, 0)])
    data = encoded(ink, "JPEG", quality=98)
    assert b"Adobe" in data
    assert np.abs(pixels_of(tmp_path, data, "x.jpg").astype(int) - [0, 255, 255]).max() <= 3


def test_lab(tmp_path):
    rgb = Image.fromarray(smooth(12, 16))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.applyTransform(rgb, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert lab.mode == "LAB"
    found = pixels_of(tmp_path, lab, "lab.tif").astype(int)
    assert np.abs(found - np.asarray(rgb)).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled_not_clipped(tmp_path, kind):
    deep = np.array([[0, 128, 129, 257, 300], [32767, 32768, 65406, 65407, 65535]], np.uint16)
    data = encoded(Image.fromarray(deep), kind)
    found = pixels_of(tmp_path, data, f"deep.{kind.lower()}")
    expected = np.array([[0, 0, 1, 1, 1], [127, 128, 254, 255, 255]], np.uint8)
    assert np.array_equal(expected, np.rint(deep / 257))
    assert np.array_equal(found, np.dstack([expected] * 3))


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


@pytest.mark.parametrize(("order", "white_is_zero"), [("<", False), (">", False), ("<", True)])
def test_big_endian_and_white_is_zero_16_bit_tiff(tmp_path, order, white_is_zero):
    deep = np.array([[0, 257, 514], [771, 65278, 65535]], np.uint16)
    expected = np.array([[0, 1, 2], [3, 254, 255]], np.uint8)
    found = pixels_of(tmp_path, tiff(deep, order, white_is_zero), "deep.tif")
    assert np.array_equal(found[..., 0], 255 - expected if white_is_zero else expected)


def test_16_bit_colour_png(tmp_path):
    deep = np.random.default_rng(1).integers(0, 65536, (3, 4, 3), np.uint16)
    found = pixels_of(tmp_path, png(4, 3, 16, 2, [row.astype(">u2").tobytes() for row in deep]))
    assert np.abs(found - deep / 257).max() < 1


def test_pixels_of_no_known_range_are_refused(folders):
    folders.good()
    folders.background("float.tif", np.ones((8, 8), np.float32))
    folders.background("int.tif", np.ones((8, 8), np.int32))
    real, integer = folders.refusal()
    assert "float.tif: floating-point pixels of no known range" in real
    assert "int.tif: integer pixels of no known range" in integer
    assert "expected 8 or 16 bits a channel" in integer


def test_transparent_backgrounds_are_refused_and_opaque_alpha_accepted(folders):
    folders.good()
    folders.background("holes.png", cutout(32, 32))
    folders.background("rgba.png", np.dstack([noise(32, 32), np.full((32, 32), 255, np.uint8)]))
    (problem,) = folders.refusal()
    assert "holes.png: a background that is transparent in places (alpha goes down to 0)" in problem


# --- Transparency ------------------------------------------------------------------------------


def alpha_of(folders, content, name="x.png"):
    """Alpha and colour of a foreground, at its own size."""
    if not list(folders.backgrounds.iterdir()):
        folders.background("good.png", noise(64, 64))
    for path in folders.foregrounds.iterdir():
        path.unlink()
    path = folders.foreground(name, content)
    with Image.open(path) as image:
        height = image.size[1]
    patch = folders.load(height=64, width=64, foreground_height=height).foreground[0]
    return patch[..., 3], patch[..., :3]


def test_alpha_channels(folders):
    alpha, gray = disc(10, 12), noise(10, 12, 0)
    for image in (
        Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)]),
        Image.merge("RGBA", [Image.fromarray(plane) for plane in (gray, gray, gray, alpha)]),
    ):
        found, colour = alpha_of(folders, image)
        assert np.array_equal(found, alpha)
        assert np.array_equal(colour, np.dstack([np.where(alpha > 0, gray, 0)] * 3))


def test_palette_transparency(folders):
    image = Image.new("P", (3, 2))
    image.putdata([0, 1, 2, 2, 1, 0])
    image.putpalette([9, 9, 9, 100, 110, 120, 200, 210, 220])
    found, colour = alpha_of(folders, encoded(image, "PNG", transparency=0))
    assert found.tolist() == [[0, 255, 255], [255, 255, 0]]
    assert colour[0].tolist() == [[0, 0, 0], [100, 110, 120], [200, 210, 220]]
    found, colour = alpha_of(folders, encoded(image, "PNG", transparency=bytes([0, 128, 255])))
    assert found.tolist() == [[0, 128, 255], [255, 128, 0]]
    assert colour[0].tolist() == [[0, 0, 0], [100, 110, 120], [200, 210, 220]]
    found, _ = alpha_of(folders, encoded(image, "GIF", transparency=1), "x.gif")
    assert found.tolist() == [[255, 0, 255], [255, 0, 255]]


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
def test_one_transparent_colour(folders, bits, colour_type, row, key, alpha):
    found, _ = alpha_of(folders, png(4, 2, bits, colour_type, [row, row], (b"tRNS", key)))
    assert found.tolist() == [alpha, alpha]


def test_16_bit_transparent_colour_is_refused(folders):
    folders.good()
    folders.foreground("x.png", png(2, 2, 16, 2, [bytes(12)] * 2, (b"tRNS", bytes(6))))
    (problem,) = folders.refusal()
    assert "x.png: one transparent colour (tRNS) of 16 bits" in problem


def test_foregrounds_without_usable_alpha_are_all_named(folders):
    folders.good()
    opaque = np.full((40, 30), 255, np.uint8)
    folders.foreground("a.jpg", noise(40, 30))
    folders.foreground("b.png", np.dstack([noise(40, 30), opaque]))
    folders.foreground("c.png", np.dstack([noise(40, 30), opaque * 0]))
    speck = np.zeros((400, 300), np.uint8)
    speck[0, 0] = 1
    folders.foreground("d.png", np.dstack([noise(400, 300), speck]))
    none, full, empty, faint = folders.refusal()
    assert "a.jpg: no alpha channel; expected transparency around the object, or --masks" in none
    assert "b.png: alpha is 255 everywhere, so the mask would be the full rectangle" in full
    assert "c.png: alpha is 0 everywhere" in empty
    assert "d.png: so little is opaque that nothing is left at 15x20 pixels" in faint


# --- Masks -------------------------------------------------------------------------------------


def test_a_mask_replaces_alpha_whatever_its_mode(folders):
    folders.background("good.png", noise(64, 64))
    gray = disc(16, 12)
    rgb = noise(16, 12)
    variants = {
        "l": Image.fromarray(gray),
        "rgb": Image.fromarray(np.dstack([gray] * 3)),
        "rgba": Image.fromarray(np.dstack([gray] * 3 + [noise(16, 12, 0)])),
        "deep": Image.fromarray(gray.astype(np.uint16) * 257),
        "p": Image.fromarray(gray).convert("P"),
    }
    for name, mask in variants.items():
        folders.foreground(f"{name}.png", np.dstack([rgb, noise(16, 12, 0, 1)]))
        folders.mask(f"{name}.png", mask)
    catalog = folders.load(masks=True, height=64, width=64, foreground_height=16)
    assert len(catalog.foreground) == len(variants)
    expected = np.dstack([np.where(gray[..., None] > 0, rgb, 0), gray])
    for patch in catalog.foreground:
        assert np.array_equal(patch, expected)


def test_a_full_mask_is_taken_at_its_word(folders):
    folders.background("good.png", noise(64, 64))
    rgb = noise(16, 12)
    folders.foreground("box.jpg", encoded(Image.fromarray(rgb), "PNG"))
    folders.mask("box.png", np.full((16, 12), 255, np.uint8))
    patch = folders.load(masks=True, height=64, width=64, foreground_height=16).foreground[0]
    assert np.array_equal(patch, np.dstack([rgb, np.full((16, 12), 255, np.uint8)]))


def test_masks_that_cannot_be_meant_are_all_named(folders):
    folders.good()
    folders.mask("good.png", disc(40, 30))
    for name in "abcde":
        folders.foreground(f"{name}.png", noise(40, 30))
    white = np.full((40, 30), 255, np.uint8)
    folders.mask("a.png", np.dstack([white, white, white, disc(40, 30)]))
    folders.mask("b.png", disc(20, 15))
    folders.mask("c.png", white * 0)
    folders.mask("d.png", (disc(40, 30) > 99).astype(np.uint8))
    folders.mask("e.png", Image.merge("LA", [Image.fromarray(white), Image.fromarray(disc(40, 30))]))
    by_alpha, other_size, empty, labels, by_alpha_too = folders.refusal(masks=True)
    assert (
        f"{folders.masks / 'a.png'}: a mask whose gray is 255 everywhere while its alpha varies" in by_alpha
    )
    assert f"{folders.masks / 'b.png'}: a mask of 15x20 pixels; expected 30x40, as" in other_size
    assert str(folders.foregrounds / "b.png") in other_size
    assert f"{folders.masks / 'c.png'}: a mask that is 0 everywhere" in empty
    assert f"{folders.masks / 'd.png'}: a mask with no value above 1" in labels
    assert f"{folders.masks / 'e.png'}: a mask whose gray is 255" in by_alpha_too


def test_picture_and_mask_are_each_turned_upright_before_their_sizes_are_compared(folders):
    folders.background("good.png", noise(64, 64))
    rgb, mask = noise(16, 12), disc(16, 12)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = Image.fromarray(np.rot90(rgb).copy())
    folders.foreground("x.png", encoded(stored, "PNG", exif=exif))
    folders.mask("x.png", mask)
    patch = folders.load(masks=True, height=64, width=64, foreground_height=16).foreground[0]
    assert np.array_equal(patch[..., 3], mask)
    assert np.array_equal(patch[..., :3][mask > 0], rgb[mask > 0])
    folders.mask("x.png", np.ascontiguousarray(np.rot90(mask)))
    (problem,) = folders.refusal(masks=True)
    assert "a mask of 16x12 pixels; expected 12x16" in problem


# --- EXIF --------------------------------------------------------------------------------------

# How the upright picture is stored so that each orientation turns it upright again.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", sorted(STORED))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation(folders, orientation, kind):
    upright = np.kron(noise(3, 4, seed=3), np.ones((8, 8, 1), np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    folders.good().background(f"a.{kind.lower()}", encoded(stored, kind, exif=exif, **options[kind]))
    found = load_background(folders.find().backgrounds[0], height=24, width=32, fit="stretch")
    if kind == "JPEG":
        assert np.abs(found.astype(int) - upright).max() < 24
    else:
        assert np.array_equal(found, upright)


def test_exif_orientation_turns_alpha_too(folders):
    rgba = np.asarray(cutout(16, 12))
    rgba = np.where(rgba[..., 3:] > 0, rgba, 0).astype(np.uint8)
    rgba[:6, :, 3] //= 2
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    folders.background("good.png", noise(64, 64))
    stored = Image.fromarray(np.ascontiguousarray(STORED[8](rgba)))
    folders.foreground("x.png", encoded(stored, "PNG", exif=exif))
    catalog = folders.load(height=64, width=64, foreground_height=16)
    assert catalog.foreground_size.tolist() == [[16, 12]]
    assert np.array_equal(catalog.foreground[0], rgba)


def test_damaged_exif_counts_as_none(tmp_path):
    rgb = noise(6, 5)
    assert np.array_equal(
        pixels_of(tmp_path, encoded(Image.fromarray(rgb), "PNG", exif=b"Exif\0\0garbage")), rgb
    )


# --- Files that cannot be used -----------------------------------------------------------------


def test_every_bad_file_is_named_in_one_error(folders):
    folders.good()
    folders.mask("good.png", disc(40, 30))
    whole = {kind: encoded(Image.fromarray(noise(64, 64)), kind) for kind in ("PNG", "JPEG", "BMP", "TIFF")}
    frames = [Image.fromarray(noise(16, 16, seed=seed)) for seed in range(3)]
    animated = {"save_all": True, "append_images": frames[1:]}
    bad = {
        "a-half.png": (whole["PNG"][: len(whole["PNG"]) // 2], "cannot be decoded"),
        "b-half.jpg": (whole["JPEG"][: len(whole["JPEG"]) // 2], "cannot be decoded"),
        "c-half.bmp": (whole["BMP"][: len(whole["BMP"]) // 2], "cannot be decoded"),
        "d-half.tif": (whole["TIFF"][: len(whole["TIFF"]) // 2], "cannot be decoded"),
        "e-zero.png": (b"", "an empty file (0 bytes)"),
        "f-text.png": (b"these are not pixels", "not the content of any picture format"),
        "g-dot.png": (encoded(Image.new("RGB", (1, 1)), "PNG"), "a picture of 1x1 pixels"),
        "h-line.png": (encoded(Image.new("RGB", (50, 1)), "PNG"), "a picture of 50x1 pixels"),
        "i-moving.gif": (encoded(frames[0], "GIF", **animated), "a file of 3 frames"),
        "j-moving.webp": (encoded(frames[0], "WEBP", **animated), "a file of 3 frames"),
        "k-moving.png": (encoded(frames[0], "PNG", **animated), "a file of 3 frames"),
        "l-pages.tif": (encoded(frames[0], "TIFF", **animated), "a file of 3 frames"),
        "m-bomb.png": (png(9500, 9500, 8, 0, []), "more than 89,478,485 pixels"),
        "n-bomb.png": (png(60000, 60000, 8, 0, []), "more than 89,478,485 pixels"),
        "o-page.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not the content of any"),
    }
    for name, (content, _) in bad.items():
        folders.background(name, content)
    folders.foreground("both.png", b"")
    folders.mask("both.png", b"no")
    problems = folders.refusal(masks=True)
    assert len(problems) == len(bad) + 2
    for problem, (name, (_, found)) in zip(problems, bad.items(), strict=False):
        assert problem.startswith(f"{folders.backgrounds / name}: ")
        assert found in problem
        assert "; expected " in problem
    assert problems[-2].startswith(f"{folders.foregrounds / 'both.png'}: an empty file")
    assert problems[-1].startswith(f"{folders.masks / 'both.png'}: not the content")


def test_the_first_picture_of_a_phone_file_is_the_picture(tmp_path):
    rgb = smooth(32, 32)
    extra = Image.fromarray(noise(32, 32))
    data = encoded(Image.fromarray(rgb), "MPO", save_all=True, append_images=[extra], quality=95)
    assert np.abs(pixels_of(tmp_path, data, "phone.jpg").astype(int) - rgb).max() < 30


def test_warnings_of_pillow_stay_inside_and_filters_are_restored(folders):
    """Tests turn warnings into errors, so one that came through would make its file undecodable."""
    folders.good()
    deep = np.full((32, 32), 65535, np.uint16)
    data = tiff(deep, more=[(320, 3, 4000, 9999)])  # a tag that points beyond the end of the file
    with pytest.warns(UserWarning, match="Tag data larger than file"), Image.open(io.BytesIO(data)) as image:
        image.load()
    for index in range(20):
        folders.background(f"a{index}.tif", data)
    before = list(warnings.filters)
    catalog = folders.load()
    assert warnings.filters == before
    assert (catalog.background[:20] == 255).all()
    bomb = folders.background("b.png", png(9500, 9500, 8, 0, []))
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(bomb).close()
    (problem,) = folders.refusal()
    assert f"{bomb}: more than 89,478,485 pixels" in problem
    assert warnings.filters == before


def test_a_file_that_changed_is_named(folders):
    folders.good()
    folders.background("b.png", noise(32, 32, seed=1))
    folders.mask("good.png", disc(40, 30))
    found = folders.find(masks=True)
    folders.background("b.png", noise(32, 32, seed=2))
    folders.mask("good.png", disc(40, 30) // 2)
    with pytest.raises(SourceError) as caught:
        load_catalog(found, height=32, width=32, fit="crop", foreground_height=20)
    assert len(caught.value.problems) == 2
    assert f"{folders.backgrounds / 'b.png'}: the file has changed" in caught.value.problems[0]
    assert f"{folders.masks / 'good.png'}: the file has changed" in caught.value.problems[1]
    with pytest.raises(SourceError, match=r"b\.png: the file has changed"):
        load_background(found.backgrounds[0], height=32, width=32, fit="crop")
    (folders.backgrounds / "b.png").unlink()
    with pytest.raises(SourceError, match=r"b\.png: it cannot be read \(No such file"):
        load_background(found.backgrounds[0], height=32, width=32, fit="crop")


# --- Backgrounds -------------------------------------------------------------------------------


def background_of(folders, rgb, **options):
    folders.background("x.png", rgb)
    folders.foreground("x.png", cutout())
    return load_background(folders.find().backgrounds[0], **options)


@pytest.mark.parametrize(
    ("size", "target", "box"),
    [
        ((60, 100), (30, 30), (20, 0, 80, 60)),
        ((100, 60), (30, 30), (0, 20, 60, 80)),
        ((60, 90), (20, 30), (0, 0, 90, 60)),
        ((60, 100), (20, 40), (0, 5, 100, 55)),
        ((30, 50), (60, 60), (10, 0, 40, 30)),
    ],
)
def test_crop_is_the_largest_centred_box_of_the_aspect(folders, size, target, box):
    rgb = noise(*size) // 4 + 96  # so that no intermediate result is clipped
    found = background_of(folders, rgb, height=target[0], width=target[1], fit="crop")
    direct = Image.fromarray(rgb).resize(target[::-1], Image.Resampling.LANCZOS, box=box)
    assert np.array_equal(found, np.asarray(direct))
    # Cutting first differs only where the filter would look beyond the cut.
    cut = Image.fromarray(rgb).crop(box).resize(target[::-1], Image.Resampling.LANCZOS)
    edge = 3 * max(1, target[0] // (box[3] - box[1]))
    inner = slice(edge, -edge)
    difference = found[inner, inner].astype(int) - np.asarray(cut)[inner, inner]
    assert np.abs(difference).max() <= 1


def testcrop_box_may_lie_between_pixels(folders):
    rgb = smooth(47, 101)
    found = background_of(folders, rgb, height=20, width=30, fit="crop").astype(float)
    width = 47 * 30 / 20
    centres = (101 - width) / 2 + (np.arange(30) + 0.5) * width / 30 - 0.5
    assert np.abs(found[:, 2:-2, 0] - (centres * 255 / 100)[2:-2]).max() < 1.5


@pytest.mark.parametrize("size", [(7, 1000), (1000, 7), (333, 77), (101, 103), (2, 2)])
@pytest.mark.parametrize("target", [(128, 128), (31, 97), (97, 31), (1, 1)])
def testcrop_box_never_leaves_the_picture(size, target):
    height, width = size
    left, top, right, bottom = crop_box((width, height), *target)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert left == 0 or top == 0
    assert left == pytest.approx(width - right, abs=1e-9)
    assert (right - left) * target[0] == pytest.approx((bottom - top) * target[1])


def test_stretch_takes_the_whole_picture(folders):
    rgb = noise(60, 100)
    found = background_of(folders, rgb, height=24, width=24, fit="stretch")
    assert np.array_equal(found, np.asarray(Image.fromarray(rgb).resize((24, 24), Image.Resampling.LANCZOS)))


# --- Foregrounds -------------------------------------------------------------------------------


def lanczos_matrix(size_in, size_out):
    """Weights of output pixels (rows) on input pixels: sinc windowed by sinc, 3 lobes, normalised."""
    stretch = max(size_in / size_out, 1)
    centres = (np.arange(size_out)[:, None] + 0.5) * size_in / size_out
    distance = (np.arange(size_in)[None] + 0.5 - centres) / stretch
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return weights / weights.sum(axis=1, keepdims=True)


def naive_resize(rgba, height, width):
    """Premultiply, filter, divide, in double precision."""
    rows, columns = lanczos_matrix(rgba.shape[0], height), lanczos_matrix(rgba.shape[1], width)
    opacity = rgba[..., 3] / 255
    weight = rows @ opacity @ columns.T
    alpha = np.floor(np.clip(weight * 255, 0, 255) + 0.5)
    result = np.zeros((height, width, 4))
    for channel in range(3):
        colour = (rows @ (rgba[..., channel] * opacity) @ columns.T) / np.where(alpha > 0, weight, 1)
        result[..., channel] = np.where(alpha > 0, np.floor(np.clip(colour, 0, 255) + 0.5), 0)
    result[..., 3] = alpha
    return result


def patch_of(folders, rgba, **options):
    folders.background("x.png", noise(8, 8))
    folders.foreground("x.png", rgba)
    settings = {"height": 128, "width": 128} | options
    return folders.load(**settings).foreground[0]


@pytest.mark.parametrize(("size", "height"), [((90, 61), 20), ((31, 47), 50), ((64, 64), 63), ((40, 40), 40)])
def test_resizing_equals_the_naive_reference(folders, size, height):
    alpha = disc(*size) // 2 + noise(*size, 0, seed=9) // 8
    rgba = np.dstack([noise(*size), alpha])
    found = patch_of(folders, rgba, foreground_height=height)
    expected = naive_resize(rgba, *found.shape[:2])
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001
    assert found[..., 3].std() > 1


def test_a_constant_colour_stays_whatever_alpha_does(folders):
    rgba = np.dstack([np.broadcast_to(np.uint8([250, 3, 128]), (80, 60, 3)), noise(80, 60, 0)])
    rgba[disc(80, 60) == 0] = (0, 255, 0, 0)
    patch = patch_of(folders, rgba, foreground_height=33)
    visible = patch[..., 3] > 0
    assert visible.any()
    assert not visible.all()
    assert np.array_equal(np.unique(patch[visible][:, :3], axis=0), [[250, 3, 128]])
    assert not patch[~visible].any()


def test_opaque_edges_do_not_ring_into_colour_or_wrap_alpha(folders):
    rgba = np.zeros((100, 100, 4), np.uint8)
    rgba[20:80, 20:80] = (200, 200, 200, 255)
    patch = patch_of(folders, rgba, foreground_height=41).astype(int)
    assert np.array_equal(np.unique(patch[patch[..., 3] > 0][:, :3]), [200])
    assert patch[20, 20, 3] == 255
    assert patch[1, 1, 3] == 0
    # Along a row, alpha rises once and stays near 255: an overshoot that wrapped would fall to 0.
    assert patch[20, 10:31, 3].min() > 235


def test_an_opaque_interior_equals_what_pillow_makes_of_the_opaque_picture(folders):
    rgb = noise(96, 96)
    alpha = np.zeros((96, 96), np.uint8)
    alpha[:, 32:] = 255
    patch = patch_of(folders, np.dstack([rgb, alpha]), foreground_height=32).astype(int)
    direct = np.asarray(Image.fromarray(rgb).resize((32, 32), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(patch[:, 16:, :3] - direct[:, 16:]).max() <= 1


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_sizes_at_scale_k_are_k_times_those_at_scale_1(folders, scale):
    sizes = [(101, 37), (77, 100), (50, 3), (400, 2), (33, 45)]
    for index, size in enumerate(sizes):
        rgba = np.dstack([noise(*size), np.full(size, 255, np.uint8)])
        rgba[0, 0, 3] = 0
        folders.foreground(f"{index}.png", rgba)
    folders.background("x.png", noise(64, 64))
    catalog = folders.load(height=48, width=56, foreground_height=23, scale=scale)
    expected = [(23, max(1, round(width * 23 / height))) for height, width in sizes]
    assert expected[3] == (23, 1)
    assert catalog.foreground_size.tolist() == [[scale * h, scale * w] for h, w in expected]
    assert catalog.foreground_size.dtype == np.int32
    assert catalog.background.shape == (1, 48 * scale, 56 * scale, 3)
    assert catalog.foreground.shape == (5, 23 * scale, scale * max(w for _, w in expected), 4)
    for patch, (height, width) in zip(catalog.foreground, catalog.foreground_size, strict=True):
        assert patch[height - 1, width - 1, 3] > 0
        assert not patch[height:].any()
        assert not patch[:, width:].any()


def test_patches_larger_than_the_picture_are_all_named_with_what_would_fit(folders):
    folders.good()
    folders.foreground("wide.png", cutout(20, 100))
    folders.foreground("wider.png", cutout(4, 1000))
    wide, wider = folders.refusal(height=32, width=40, foreground_height=20)
    assert "wide.png: a foreground of 100x20 pixels" in wide
    assert "larger than the dataset's 40x32; expected --foreground-height of at most 8" in wide
    assert "wider.png: a foreground of 5000x20 pixels" in wider
    assert "a less elongated picture" in wider
    (folders.foregrounds / "wider.png").unlink()
    assert len(folders.load(height=32, width=40, foreground_height=8).foreground) == 2
    assert len(folders.refusal(height=32, width=40, foreground_height=9)) == 1
    tall = folders.refusal(height=32, width=400, foreground_height=33)
    assert len(tall) == 2
    assert all("at most 32" in problem for problem in tall)


# --- The catalog -------------------------------------------------------------------------------


def test_catalog_without_backgrounds_does_not_read_them(folders):
    folders.good()
    folders.background("bad.png", b"")
    catalog = folders.load(with_backgrounds=False, scale=2)
    assert catalog.background.shape == (0, 64, 64, 3)
    assert [source.name for source in catalog.backgrounds] == ["bad.png", "good.png"]
    assert len(catalog.foreground) == 1


def test_catalog_of_no_foregrounds_is_empty():
    catalog = load_catalog(Sources((), (), ()), height=8, width=8, fit="crop", foreground_height=4)
    assert catalog.foreground.shape == (0, 0, 0, 4)
    assert catalog.foreground_size.shape == (0, 2)


def test_threads_change_nothing_and_progress_comes_from_the_caller(folders, monkeypatch):
    for index in range(12):
        folders.background(f"{index}.png", noise(20 + 40 * (index % 3), 50, seed=index))
        folders.foreground(f"{index}.png", cutout(60 - index, 30 + index, seed=index))
    monkeypatch.setattr(module, "_THREADS", 1)
    alone = folders.load()
    monkeypatch.setattr(module, "_THREADS", 8)
    seen = []
    together = folders.load(on_picture=lambda done, total: seen.append((done, total, threading.get_ident())))
    assert seen == [(done, 24, threading.get_ident()) for done in range(1, 25)]
    assert np.array_equal(alone.background, together.background)
    assert np.array_equal(alone.foreground, together.foreground)
    assert np.array_equal(alone.foreground_size, together.foreground_size)
    for source, picture in zip(together.backgrounds, together.background, strict=True):
        assert np.array_equal(picture, load_background(source, height=32, width=32, fit="crop"))


def test_an_error_in_the_callback_ends_the_loading(folders):
    folders.good()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folders.load(on_picture=stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fgbgpack-sources")]

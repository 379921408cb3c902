"""Masks of all kinds: gray, alpha, classes, palettes; one check for datasets that are made and imported."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from picture_files import disc, encoded, noise, png, write
from PIL import Image

from fgbgpack import DatasetSpec, SpecError, create, open_dataset
from fgbgpack.errors import SourceError
from fgbgpack.pipeline import ImportSpec, import_folder
from fgbgpack.sources.masks import check_alpha, read_mask
from fgbgpack.sources.resizing import Frame
from fgbgpack.sources.sample_files import read_mask as read_sample_mask
from fgbgpack.spec import Reading

HEIGHT, WIDTH = 40, 30
FRAME = Frame(HEIGHT, WIDTH, None)
SOFT = disc(HEIGHT, WIDTH)
#: Background, class 1, class 3 and what no class is known of.
CLASSES = np.zeros((HEIGHT, WIDTH), np.uint8)
CLASSES[5:25, 4:24], CLASSES[25:35, 4:24], CLASSES[4, 4:24] = 1, 3, 255
#: The colours that Pascal VOC and DAVIS give classes.
COLOURS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def palette(numbers, colours=COLOURS):
    image = Image.fromarray(numbers)
    image.putpalette(colours + [9] * (768 - len(colours)))
    return image


def packed(numbers, bits):
    """The rows of a PNG with some numbers in a byte."""
    each = 8 // bits
    padded = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % each)))
    parts = padded.reshape(len(padded), -1, each).astype(int) << np.arange(8 - bits, -1, -bits)
    return [bytes(row) for row in parts.sum(-1).astype(np.uint8)]


def few_bits(numbers, bits):
    return png(WIDTH, HEIGHT, bits, 0, packed(numbers, bits))


LOW = np.minimum(CLASSES, 3)  # no class above 3
FILES = {
    "gray": ("a.png", CLASSES),
    "deep": ("a.png", CLASSES.astype(np.uint16)),
    "tiff": ("a.tif", CLASSES.astype(np.uint16)),
    "integers": ("a.tif", CLASSES.astype(np.int32)),
    "palette": ("a.png", palette(CLASSES)),
    "gif": ("a.gif", encoded(palette(CLASSES), "GIF", optimize=False)),
    "gray and alpha": ("a.png", np.dstack([CLASSES, np.full_like(CLASSES, 255)])),
    "equal channels": ("a.png", np.dstack([CLASSES] * 3)),
    "two bits": ("a.png", few_bits(LOW, 2)),
    "four bits": ("a.png", few_bits(LOW, 4)),
}


def refused(read, path, *arguments):
    with pytest.raises(SourceError) as caught:
        read(path, *arguments)
    assert caught.value.problems[0].startswith(f"{path}: ")
    return caught.value


@pytest.mark.parametrize("kind", FILES)
def test_numbers_of_classes_are_refused_everywhere_and_the_value_says_which_is_meant(tmp_path, kind):
    name, content = FILES[kind]
    path = write(tmp_path / name, content)
    for value in (1, 3):
        expected = (LOW if "bits" in kind else CLASSES) == value
        reading = Reading(mask_value=value)
        assert np.array_equal(read_mask(path, reading), expected * np.uint8(255))
        assert np.array_equal(read_sample_mask(path, FRAME, reading), expected * np.uint8(255))
    if "bits" in kind:
        return  # scaled to 0..255 these are gray levels: nothing tells them from such
    codes = {"palette": "mask-in-colour", "gif": "mask-in-colour", "integers": "picture-range-unknown"}
    code = codes.get(kind, "mask-of-classes")
    assert refused(read_mask, path).code == code
    assert refused(read_sample_mask, path, FRAME).code == code


def test_a_palette_of_gray_is_gray(tmp_path):
    gray = list(itertools.chain.from_iterable([value] * 3 for value in range(256)))
    path = write(tmp_path / "a.png", palette(SOFT, gray))
    assert np.array_equal(read_mask(path), SOFT)
    assert np.array_equal(read_mask(path, Reading(mask_value=255)), (SOFT == 255) * np.uint8(255))


def test_a_value_that_is_not_there_is_said_with_those_that_are(tmp_path):
    path = write(tmp_path / "a.png", palette(LOW))
    error = refused(read_mask, path, Reading(mask_value=2))
    assert error.code == "mask-value-absent"
    assert "there are 0, 1, 3" in error.problems[0]
    coloured = write(tmp_path / "b.png", noise(HEIGHT, WIDTH))
    assert refused(read_mask, coloured, Reading(mask_value=2)).code == "mask-in-colour"
    # A sample may lack the object that others show.
    assert not read_sample_mask(path, FRAME, Reading(mask_value=2)).any()


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (np.minimum(SOFT, 1), "mask-of-0-and-1"),
        (np.minimum(SOFT, 1).astype(np.uint16), "mask-of-0-and-1"),
        (SOFT.astype(np.uint16), "mask-of-classes"),
        ((SOFT > 99) * np.uint8(100), "mask-of-classes"),
        (CLASSES // 255 * 255 + LOW * 15 * (CLASSES < 255), "mask-of-classes"),
        (np.full_like(SOFT, 255), "mask-opaque"),
        (np.full_like(SOFT, 251), "mask-opaque"),
        (SOFT * 0, "mask-empty"),
        (noise(HEIGHT, WIDTH, 0) // 3, "mask-faint"),
        (np.dstack([SOFT, np.zeros_like(SOFT), SOFT]), "mask-in-colour"),
    ],
    ids=[
        "0-1",
        "deep-0-1",
        "deep-0-255",
        "percent",
        "void",
        "full",
        "nearly-full",
        "empty",
        "faint",
        "colour",
    ],
)
def test_what_is_no_alpha_is_refused(tmp_path, mask, code):
    assert refused(read_mask, write(tmp_path / "a.png", mask)).code == code


@pytest.mark.parametrize("top", [0, 255])
def test_all_opaque_alpha_and_all_white_masks_are_alike(tmp_path, top):
    full = Image.new("L", (WIDTH, HEIGHT), top)
    with pytest.raises(SourceError) as of_alpha:
        check_alpha(tmp_path / "a.png", full)
    of_mask = refused(read_mask, write(tmp_path / "a.png", full))
    assert of_alpha.value.code.removeprefix("alpha-") == of_mask.code.removeprefix("mask-")
    # Those of samples may be of nothing, or of all.
    assert (read_sample_mask(tmp_path / "a.png", FRAME) == top).all()


def test_few_values_at_soft_edges_are_no_classes(tmp_path):
    mask = (SOFT > 127) * np.uint8(255)
    mask[mask.any(axis=1).argmax() - 1, 10:20] = 60
    assert np.array_equal(read_mask(write(tmp_path / "a.png", mask)), mask)


def test_thresholds_and_inversion(tmp_path):
    ones = np.minimum(SOFT, 1)
    of_ones = read_mask(write(tmp_path / "a.png", ones), Reading(mask_threshold=1))
    assert np.array_equal(of_ones, ones * np.uint8(255))
    deep = write(tmp_path / "b.png", ones.astype(np.uint16))
    assert np.array_equal(read_mask(deep, Reading(mask_threshold=1)), ones * np.uint8(255))
    soft = write(tmp_path / "c.png", SOFT)
    assert np.array_equal(read_mask(soft, Reading(mask_threshold=128)), (SOFT >= 128) * np.uint8(255))
    inverse = Reading(invert_masks=True)
    assert np.array_equal(read_mask(soft, inverse), 255 - SOFT)
    both = replace(inverse, mask_threshold=200)
    assert np.array_equal(read_mask(soft, both), (SOFT < 200) * np.uint8(255))
    of_value = read_mask(write(tmp_path / "d.png", palette(LOW)), replace(inverse, mask_value=1))
    assert np.array_equal(of_value, (LOW != 1) * np.uint8(255))


def test_the_options_are_for_the_alpha_of_foregrounds_too(tmp_path):
    path, ones = tmp_path / "a.png", Image.fromarray(np.minimum(SOFT, 1))
    found = check_alpha(path, ones, Reading(mask_threshold=1))
    assert np.array_equal(found, np.asarray(ones) * np.uint8(255))
    assert np.array_equal(check_alpha(path, ones, Reading(mask_value=1)), found)
    assert np.array_equal(check_alpha(path, Image.fromarray(SOFT), Reading(invert_masks=True)), 255 - SOFT)


def test_options_that_exclude_each_other_are_named():
    with pytest.raises(SpecError, match="mask_threshold: of no use with mask_value"):
        DatasetSpec("bg", "fg", mask_value=1, mask_threshold=1)
    with pytest.raises(SpecError, match="--mask-threshold: of no use"):
        ImportSpec("in", mask_value=1, mask_threshold=1)
    with pytest.raises(SpecError) as caught:
        ImportSpec("in", mask_value=-1, mask_threshold=256, frame=-1, exif="no")
    assert len(caught.value.problems) == 5


def test_classes_make_the_dataset_that_their_masks_make(folders, tmp_path):
    folders.background("b.png", noise(64, 64))
    folders.foreground("f.jpg", encoded(noise(HEIGHT, WIDTH), "JPEG"))
    folders.mask("f.png", palette(CLASSES))
    spec = DatasetSpec(
        str(folders.backgrounds), str(folders.foregrounds), str(folders.masks),
        width=64, height=64, foreground_height=HEIGHT, placements=1, flip=False, mask_value=3, depth=None,
    )  # fmt: skip
    create(str(tmp_path / "a.zarr"), spec)
    with open_dataset(str(tmp_path / "a.zarr")) as dataset:
        assert int((dataset.mask[0] == 255).sum()) == int((CLASSES == 3).sum())
        assert int(dataset.mask[0].astype(int).sum()) == 255 * int((CLASSES == 3).sum())


def test_classes_are_imported(tmp_path):
    for i in range(3):
        write(tmp_path / f"in/images/{i}.png", noise(HEIGHT, WIDTH, seed=i))
        write(tmp_path / f"in/masks/{i}.png", palette(np.roll(CLASSES, i, axis=1)))
    import_folder(str(tmp_path / "a.zarr"), ImportSpec(str(tmp_path / "in"), mask_value=1))
    with open_dataset(str(tmp_path / "a.zarr")) as dataset:
        for i in range(3):
            assert np.array_equal(dataset.mask[i], (np.roll(CLASSES, i, axis=1) == 1) * np.uint8(255))

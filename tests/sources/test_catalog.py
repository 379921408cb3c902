"""Backgrounds, foregrounds and masks, decoded and resized to the arrays that compositing needs."""

from __future__ import annotations

import numpy as np
import pytest
from picture_files import cutout, disc, encoded, noise, turned
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.sources import problems as problems_module
from fgbgpack.sources.catalog import load_background, load_catalog
from fgbgpack.sources.listing import Sources
from fgbgpack.sources.resizing import Frame
from fgbgpack.spec import Reading

WHITE = np.full((40, 30), 255, np.uint8)
#: As large as the pictures of most tests, so that nothing is resized.
ORIGINAL = {"height": 64, "width": 64, "foreground_height": 16}


def refusal(folders, masks=False, **options):
    with pytest.raises(SourceError) as caught:
        folders.load(masks, **options)
    assert all(line in str(caught.value) for line in caught.value.problems)
    return caught.value


# --- backgrounds -----------------------------------------------------------------------------------


def test_backgrounds_are_cut_or_stretched(good):
    rgb = noise(60, 100)
    good.background("a.png", rgb)
    source = good.find().backgrounds[0]
    for fit, box in (("crop", (20, 0, 80, 60)), ("stretch", None)):
        found = load_background(source, Frame(24, 24, fit))[0]
        expected = Image.fromarray(rgb).resize((24, 24), Image.Resampling.LANCZOS, box=box)
        assert np.array_equal(found, np.asarray(expected))


def test_transparent_backgrounds_are_refused_and_opaque_alpha_accepted(good):
    good.background("rgba.png", np.dstack([noise(32, 32), np.full((32, 32), 255, np.uint8)]))
    assert np.array_equal(good.load().background[1], noise(32, 32))
    good.background("holes.png", cutout(32, 32))
    error = refusal(good)
    assert error.code == "background-transparent"
    assert "holes.png" in error.problems[0]


# --- foregrounds and masks -------------------------------------------------------------------------


def test_the_alpha_of_a_foreground_is_its_mask(folders):
    rgba = np.asarray(cutout(16, 12))
    folders.background("good.png", noise(64, 64))
    folders.foreground("x.png", turned(rgba, 8))
    catalog = folders.load(**ORIGINAL)
    assert catalog.foreground_size.tolist() == [[16, 12]]
    assert np.array_equal(catalog.foreground[0], np.where(rgba[..., 3:] > 0, rgba, 0))


def test_a_mask_replaces_alpha_whatever_its_mode(folders):
    folders.background("good.png", noise(64, 64))
    gray, rgb = disc(16, 12), noise(16, 12)
    masks = {
        "l": gray,
        "rgb": np.dstack([gray] * 3),
        "rgba": np.dstack([gray] * 3 + [noise(16, 12, 0)]),
        "deep": gray.astype(np.uint16) * 257,
        "p": Image.fromarray(gray).convert("P"),
        "turned": turned(gray, 6),
        "in alpha": np.dstack([np.full((16, 12, 3), 255, np.uint8), gray]),
    }
    for name, mask in masks.items():
        folders.foreground(f"{name}.png", np.dstack([rgb, noise(16, 12, 0, 1)]))
        folders.mask(f"{name}.png", mask)
    folders.foreground("p.png", turned(rgb, 5))
    catalog = folders.load(masks=True, **ORIGINAL)
    expected = np.dstack([np.where(gray[..., None] > 0, rgb, 0), gray])
    assert len(catalog.foreground) == len(masks)
    for patch in catalog.foreground:
        assert np.array_equal(patch, expected)


def speck():
    alpha = np.zeros((400, 300), np.uint8)
    alpha[0, 0] = 130
    return np.dstack([noise(400, 300), alpha])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (noise(40, 30), "alpha-missing"),
        (np.dstack([noise(40, 30), WHITE]), "alpha-opaque"),
        (np.dstack([noise(40, 30), WHITE * 0]), "alpha-empty"),
        (np.dstack([noise(40, 30), disc(40, 30) > 99]).astype(np.uint8), "mask-of-0-and-1"),
        (speck(), "foreground-invisible"),
        (b"", "picture-empty"),
    ],
    ids=["none", "opaque", "empty", "labels", "speck", "file"],
)
def test_foregrounds_without_usable_alpha(good, content, code):
    path = good.foreground("a.png", content)
    error = refusal(good)
    assert error.code == code
    assert error.problems[0].startswith(f"{path}: ")
    good.foreground("b.png", content)
    for name, line in zip("ab", refusal(good).problems, strict=True):
        assert f"{name}.png" in line


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (WHITE, "mask-opaque"),
        (disc(20, 15), "mask-size-differs"),
        (disc(30, 40), "mask-size-differs"),
        (WHITE * 0, "mask-empty"),
        ((disc(40, 30) > 99).astype(np.uint8), "mask-of-0-and-1"),
        (b"no", "picture-format-unknown"),
    ],
    ids=["opaque", "smaller", "lying", "empty", "labels", "file"],
)
def test_masks_that_cannot_be_meant(good, mask, code):
    path = good.mask("good.png", mask)
    error = refusal(good, masks=True)
    assert error.code == code
    assert error.problems[0].startswith(f"{path}: ")


def test_every_bad_file_is_named_in_one_error(good):
    good.mask("good.png", disc(40, 30))
    good.background("a.png", b"")
    good.background("b.png", cutout(32, 32))
    good.foreground("both.png", b"")
    good.mask("both.png", b"no")
    error = refusal(good, masks=True)
    assert error.code == "sources-unusable"
    expected = [
        good.backgrounds / "a.png",
        good.backgrounds / "b.png",
        good.foregrounds / "both.png",
        good.masks / "both.png",
    ]
    assert [line.split(": ")[0] for line in error.problems] == [str(path) for path in expected]


def test_files_that_changed_since_they_were_listed_are_named(good):
    good.background("b.png", noise(32, 32, seed=1))
    good.mask("good.png", disc(40, 30))
    found = good.find(masks=True)
    good.background("b.png", noise(32, 32, seed=2))
    good.mask("good.png", disc(40, 30) // 2)
    with pytest.raises(SourceError) as caught:
        load_catalog(found, height=32, width=32, fit="crop", foreground_height=20)
    assert caught.value.code == "picture-changed"
    names = (good.backgrounds / "b.png", good.masks / "good.png")
    assert [line.split(": ")[0] for line in caught.value.problems] == [str(name) for name in names]


def test_patches_larger_than_the_picture_are_all_named_with_what_would_fit(good):
    good.foreground("wide.png", cutout(20, 100))
    good.foreground("wider.png", cutout(4, 1000))
    error = refusal(good, height=32, width=40, foreground_height=20)
    assert error.code == "foreground-too-large"
    wide, wider = error.problems
    assert "wide.png: a foreground of 100x20 pixels" in wide
    assert "larger than the dataset's 40x32; expected --foreground-height of at most 8" in wide
    assert "wider.png: a foreground of 5000x20 pixels" in wider
    (good.foregrounds / "wider.png").unlink()
    assert len(good.load(height=32, width=40, foreground_height=8).foreground) == 2
    assert len(refusal(good, height=32, width=40, foreground_height=9).problems) == 1
    tall = refusal(good, height=32, width=400, foreground_height=33).problems
    assert len(tall) == 2
    assert all("at most 32" in line for line in tall)


@pytest.mark.parametrize("height", [12, 16])
def test_masks_on_the_stored_pixels_of_a_turned_foreground(folders, height):
    folders.background("good.png", noise(64, 64))
    rgb, mask = noise(height, 16), disc(height, 16)
    mask[:4] = 0
    folders.foreground("x.png", turned(np.rot90(rgb, -1), 6))
    folders.mask("x.png", mask)
    ignored = folders.load(
        masks=True, reading=Reading(exif="ignore"), **ORIGINAL | {"foreground_height": height}
    )
    assert np.array_equal(ignored.foreground[0], np.dstack([np.where(mask[..., None] > 0, rgb, 0), mask]))
    assert ignored.notices == ()
    if height < 16:
        error = refusal(folders, masks=True)
        assert error.code == "mask-size-differs"
        assert "--exif ignore" in error.problems[0]
        return
    applied = folders.load(masks=True, **ORIGINAL)
    assert len(applied.notices) == 1
    assert "--exif ignore" in applied.notices[0]
    folders.mask("x.png", turned(np.rot90(mask, -1), 6))
    assert folders.load(masks=True, **ORIGINAL).notices == ()


# --- the catalog -----------------------------------------------------------------------------------


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


def test_a_catalog_without_backgrounds_does_not_read_them(good):
    good.background("bad.png", b"")
    catalog = good.load(with_backgrounds=False, scale=2)
    assert catalog.background.shape == (0, 64, 64, 3)
    assert [source.name for source in catalog.backgrounds] == ["bad.png", "good.png"]
    assert len(catalog.foreground) == 1


def test_a_catalog_of_no_foregrounds_is_empty():
    catalog = load_catalog(Sources((), ()), height=8, width=8, fit="crop", foreground_height=4)
    assert catalog.foreground.shape == (0, 0, 0, 4)
    assert catalog.foreground_size.shape == (0, 2)


def test_the_number_of_threads_changes_nothing(folders, monkeypatch):
    for index in range(12):
        folders.background(f"{index}.png", noise(20 + 40 * (index % 3), 50, seed=index))
        folders.foreground(f"{index}.png", cutout(60 - index, 30 + index, seed=index))
    monkeypatch.setattr(problems_module, "_THREADS", 1)
    alone = folders.load()
    monkeypatch.setattr(problems_module, "_THREADS", 8)
    seen = []
    together = folders.load(on_picture=lambda *progress: seen.append(progress))
    assert seen == [(done, 24) for done in range(1, 25)]
    for array in ("background", "foreground", "foreground_size"):
        assert np.array_equal(getattr(alone, array), getattr(together, array))
    for source, picture in zip(folders.find().backgrounds, together.background, strict=True):
        assert np.array_equal(picture, load_background(source, Frame(32, 32, "crop"))[0])


# --- what is said ------------------------------------------------------------------------------------


def test_what_all_have_in_common_is_said_once_with_the_likely_reason(folders):
    for i in range(12):
        folders.background(f"{i}.png", cutout(32, 32, seed=i))
        folders.foreground(f"{i}.jpg", encoded(noise(40, 30, seed=i), "JPEG"))
    error = refusal(folders)
    assert error.message.startswith("24 problems")
    assert "did you swap the folders?" in error.message
    assert len(error.problems) == 2
    assert "/7.jpg" not in error.problems[1]
    assert "and 7 more: no alpha channel" in error.problems[1]
    for i in range(12):
        folders.background(f"{i}.png", noise(32, 32, seed=i))
    error = refusal(folders)
    assert error.code == "alpha-missing"
    assert "JPEG does not" in error.message


def test_pictures_that_are_blown_up_are_said(good):
    good.background("small.png", noise(16, 60))
    good.foreground("small.png", cutout(8, 8))
    notices = good.load(height=32, width=32, foreground_height=16).notices
    assert len(notices) == 2
    assert "1 picture no more than half as high as --foreground-height 16" in notices[0]
    assert "1 picture no more than half as large as samples of 32x32" in notices[1]


# --- cut sides -------------------------------------------------------------------------------------


def figure(height=320, width=120):
    """A whole figure in wide trousers: its feet, in the lowest row, are 0.3 of its width."""
    alpha = np.zeros((height, width), np.uint8)
    alpha[10:, 10:-10] = 255
    alpha[-4:] = 0
    alpha[-4:, 30:48] = alpha[-4:, 72:90] = 255
    return np.dstack([noise(height, width), alpha])


def test_small_whole_figures_are_not_cut(good):
    good.foreground("figure.png", figure())
    catalog = good.load()
    height, width = catalog.foreground_size[0]
    assert catalog.foreground[0, height - 1, :width, 3].mean() > 0.4 * 255
    assert catalog.cut.tolist() == [0, 0]
    assert catalog.cut.dtype == np.uint8


@pytest.mark.parametrize(
    ("sides", "stored"), [((np.s_[-1],), 4), ((np.s_[0], np.s_[:, -1]), 9), ((np.s_[:, 0],), 2)]
)
def test_sides_are_cut_where_more_than_four_tenths_of_the_original_are_opaque(folders, sides, stored):
    folders.background("good.png", noise(64, 64))
    for level, name in ((103, "cut.png"), (102, "whole.png")):  # 0.404 and 0.4 of 255
        rgba = figure()
        rgba[[0, -1], :, 3] = rgba[:, [0, -1], 3] = 0
        for side in sides:
            rgba[side][..., 3] = level
        folders.foreground(name, rgba)
    assert folders.load().cut.tolist() == [stored, 0]


def test_masks_say_where_foregrounds_are_cut(folders):
    folders.background("good.png", noise(64, 64))
    rgba = figure()
    folders.foreground("a.png", rgba[..., :3])
    mask = rgba[..., 3].copy()
    mask[-1] = 255
    folders.mask("a.png", mask)
    assert folders.load(masks=True).cut.tolist() == [4]
    assert folders.load(masks=True, reading=Reading(invert_masks=True)).cut.tolist() == [11]


def test_sources_csv_says_where_foregrounds_are_cut(good):
    good.foreground("figure.png", figure())
    (good.foregrounds / "sources.csv").write_text("file,cut\nfigure.png,bottom right\n")
    assert good.load().cut.tolist() == [12, 0]

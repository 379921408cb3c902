"""Pictures, masks and depth maps of samples that exist: every kind of file, at the size of all samples."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from picture_files import disc, noise, turned, write
from PIL import Image

from fgbgpack.errors import SourceError
from fgbgpack.sources import sample_files
from fgbgpack.sources.resizing import Frame
from fgbgpack.sources.sample_files import DepthValues, read_depth, read_file_header, read_image, read_mask

HEIGHT, WIDTH = 18, 26
FRAME = Frame(HEIGHT, WIDTH, None)
MASK = disc(HEIGHT, WIDTH)
MILLIMETRES = np.add.outer(np.arange(HEIGHT) * 37, np.arange(WIDTH) * 11).astype(np.uint16)


def refused(read, path, *arguments):
    with pytest.raises(SourceError) as caught:
        read(path, *arguments)
    assert caught.value.problems[0].startswith(f"{path}: ")
    return caught.value.code


def test_the_alpha_of_a_picture_is_ignored(tmp_path):
    rgba = noise(HEIGHT, WIDTH, 4)
    assert np.array_equal(read_image(write(tmp_path / "a.png", rgba), FRAME), rgba[..., :3])


# --- masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        Image.fromarray,
        lambda mask: Image.fromarray(mask).convert("RGB"),
        lambda mask: Image.fromarray(mask).convert("LA"),
        lambda mask: Image.fromarray(mask).quantize(256, dither=Image.Dither.NONE),
        lambda mask: np.dstack([np.full((HEIGHT, WIDTH, 3), 255, np.uint8), mask]),
        lambda mask: mask.astype(np.uint16) * 257,
        lambda mask: turned(mask, 6),
    ],
    ids=["gray", "rgb", "gray-and-alpha", "palette", "alpha", "16-bit", "turned"],
)
def test_masks_of_every_kind_keep_their_soft_edges(tmp_path, made):
    assert np.array_equal(read_mask(write(tmp_path / "a.png", made(MASK)), FRAME), MASK)


def test_masks_of_one_bit_are_0_and_255_and_may_be_empty(tmp_path):
    found = read_mask(write(tmp_path / "a.png", MASK > 127), FRAME)
    assert np.array_equal(found, (MASK > 127) * np.uint8(255))
    assert not read_mask(write(tmp_path / "b.png", MASK * 0), FRAME).any()


def test_masks_that_went_through_jpeg(tmp_path):
    path = write(tmp_path / "a.jpg", Image.fromarray(np.dstack([MASK] * 3)), quality=60)
    assert np.abs(read_mask(path, FRAME).astype(int) - MASK).mean() < 10


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (np.minimum(MASK, 1), "mask-of-0-and-1"),
        (noise(HEIGHT, WIDTH), "mask-in-colour"),
        (disc(5, 5), "size-differs"),
        (b"not a picture at all", "picture-format-unknown"),
    ],
)
def test_masks_that_cannot_be_used(tmp_path, content, code):
    assert refused(read_mask, write(tmp_path / "a.png", content), FRAME) == code


# --- depth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stored", "values"),
    [
        ("a.png", (MILLIMETRES // 16).astype(np.uint8), MILLIMETRES // 16),
        ("a.png", np.dstack([(MILLIMETRES // 16).astype(np.uint8)] * 3), MILLIMETRES // 16),
        ("a.png", MILLIMETRES, MILLIMETRES),
        ("a.tiff", MILLIMETRES.astype(np.float32) / 7, MILLIMETRES.astype(np.float32) / 7),
        ("a.npy", MILLIMETRES[None].astype(np.float32) / 7, MILLIMETRES.astype(np.float32) / 7),
        ("a.npy", MILLIMETRES.astype(np.int64), MILLIMETRES),
    ],
    ids=["8-bit", "rgb", "16-bit", "tiff", "npy", "npy-integers"],
)
def test_depth_of_every_kind(tmp_path, name, stored, values):
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, stored)
    else:
        write(path, stored)
    found = read_depth(path, FRAME, DepthValues(factor=0.5, offset=-2.5))
    assert found.dtype == np.float16
    assert np.array_equal(found, (values.astype(np.float64) * 0.5 - 2.5).astype(np.float16))
    assert read_file_header(path).size == (WIDTH, HEIGHT)


def test_unknown_depth_is_nan(tmp_path):
    stored = MILLIMETRES.astype(np.float32)
    stored[3, 4] = np.nan
    np.save(tmp_path / "a.npy", stored)
    found = read_depth(tmp_path / "a.npy", FRAME, DepthValues(factor=0.001, invalid=0))
    expected = np.where(stored == 0, np.nan, stored.astype(np.float64) * 0.001).astype(np.float16)
    assert np.isnan(expected).sum() == 2
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (noise(HEIGHT, WIDTH), "values-in-colour"),
        (np.full((HEIGHT, WIDTH), 65535, np.uint16), "depth-out-of-range"),
        (MILLIMETRES[1:], "size-differs"),
    ],
)
def test_depth_that_cannot_be_used(tmp_path, content, code):
    assert refused(read_depth, write(tmp_path / "a.png", content), FRAME, DepthValues()) == code


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((2, 3, 4)), "array-shape-wrong"),
        (np.zeros((3, 4), bool), "array-shape-wrong"),
        (np.array([[object()]]), "array-not-readable"),
    ],
)
def test_arrays_that_are_no_depth(tmp_path, array, code):
    path = tmp_path / "a.npy"
    np.save(path, array, allow_pickle=True)
    assert refused(read_file_header, path) == code


# --- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fit", "box"), [("crop", (25, 0, 65, 40)), ("stretch", None)])
def test_all_files_of_a_sample_are_resized_alike(tmp_path, fit, box):
    frame, lanczos = Frame(20, 20, fit), Image.Resampling.LANCZOS
    image, mask = noise(40, 90), disc(40, 90)
    for read, array in ((read_image, image), (read_mask, mask)):
        expected = Image.fromarray(array).resize((20, 20), lanczos, box=box)
        assert np.array_equal(read(write(tmp_path / "a.png", array), frame), np.asarray(expected))
    depth = np.full((20, 45), 2000, np.uint16)
    depth[:, 20:25] = 1000
    depth[5:15, 22] = 0
    found = read_depth(write(tmp_path / "d.png", depth), frame, DepthValues(invalid=0))
    known = found[~np.isnan(found)]
    # Never beyond what is in the file, and 0 is not a value.
    assert (known.min(), known.max()) == (1000, 2000)
    assert np.isnan(found).any() == (fit == "crop")


def test_headers_of_numpy_files_are_parsed_one_at_a_time(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((4, 5), np.float32))
    parsing, together = [], []
    parse = sample_files._NPY_HEADERS[1, 0]

    def slowly(file):
        parsing.append(1)
        together.append(len(parsing))
        time.sleep(0.01)
        found = parse(file)
        parsing.pop()
        return found

    monkeypatch.setitem(sample_files._NPY_HEADERS, (1, 0), slowly)
    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(lambda _: read_file_header(tmp_path / "a.npy").size, range(8)))
    assert sizes == [(5, 4)] * 8
    assert together == [1] * 8

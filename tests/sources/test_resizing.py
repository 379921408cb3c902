"""Pictures at the size of samples, and in premultiplied alpha."""

from __future__ import annotations

import numpy as np
import pytest
from picture_files import disc, noise, smooth
from PIL import Image

from fgbgpack.sources.resizing import Frame, crop_box, resize_premultiplied

LANCZOS = Image.Resampling.LANCZOS


def cropped(rgb, height, width):
    return np.asarray(Frame(height, width, "crop").resize(Image.fromarray(rgb)))


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
def test_crop_is_the_largest_centred_box_of_the_aspect(size, target, box):
    rgb = noise(*size) // 4 + 96  # so that no intermediate result is clipped
    found = cropped(rgb, *target)
    assert np.array_equal(found, np.asarray(Image.fromarray(rgb).resize(target[::-1], LANCZOS, box=box)))
    # Cutting first differs only where the filter would look beyond the cut.
    cut = Image.fromarray(rgb).crop(box).resize(target[::-1], LANCZOS)
    edge = 3 * max(1, target[0] // (box[3] - box[1]))
    inner = slice(edge, -edge)
    difference = found[inner, inner].astype(int) - np.asarray(cut)[inner, inner]
    assert np.abs(difference).max() <= 1


def test_the_box_may_lie_between_pixels():
    found = cropped(smooth(47, 101), 20, 30).astype(float)
    width = 47 * 30 / 20
    centres = (101 - width) / 2 + (np.arange(30) + 0.5) * width / 30 - 0.5
    assert np.abs(found[:, 2:-2, 0] - (centres * 255 / 100)[2:-2]).max() < 1.5


@pytest.mark.parametrize("size", [(7, 1000), (1000, 7), (333, 77), (101, 103), (2, 2)])
@pytest.mark.parametrize("target", [(128, 128), (31, 97), (97, 31), (1, 1)])
def test_the_box_never_leaves_the_picture(size, target):
    height, width = size
    left, top, right, bottom = crop_box((width, height), *target)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert left == 0 or top == 0
    assert left == pytest.approx(width - right, abs=1e-9)
    assert (right - left) * target[0] == pytest.approx((bottom - top) * target[1])


def test_stretch_takes_the_whole_picture_and_a_picture_of_the_size_stays():
    picture = Image.fromarray(noise(60, 100))
    found = Frame(24, 24, "stretch").resize(picture)
    assert np.array_equal(np.asarray(found), np.asarray(picture.resize((24, 24), LANCZOS)))
    for fit in ("crop", "stretch", None):
        assert np.array_equal(np.asarray(Frame(60, 100, fit).resize(picture)), np.asarray(picture))


# --- premultiplied alpha ---------------------------------------------------------------------------


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


def resized(rgba, height, width):
    return resize_premultiplied(
        Image.fromarray(rgba[..., :3].copy()), Image.fromarray(rgba[..., 3].copy()), height, width
    )


@pytest.mark.parametrize(
    ("size", "target"),
    [((90, 61), (20, 14)), ((31, 47), (50, 76)), ((64, 64), (63, 63)), ((40, 40), (40, 40))],
)
def test_resizing_equals_the_naive_twin(size, target):
    alpha = disc(*size) // 2 + noise(*size, 0, seed=9) // 8
    rgba = np.dstack([noise(*size), alpha])
    found = resized(rgba, *target)
    difference = np.abs(found - naive_resize(rgba, *target))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001
    assert found[..., 3].std() > 1


def test_a_constant_colour_stays_whatever_alpha_does():
    rgba = np.dstack([np.broadcast_to(np.uint8([250, 3, 128]), (80, 60, 3)), noise(80, 60, 0)])
    rgba[disc(80, 60) == 0] = (0, 255, 0, 0)
    patch = resized(rgba, 33, 25)
    visible = patch[..., 3] > 0
    assert visible.any()
    assert not visible.all()
    assert np.array_equal(np.unique(patch[visible][:, :3], axis=0), [[250, 3, 128]])
    assert not patch[~visible].any()


def test_opaque_edges_do_not_ring_into_colour_or_wrap_alpha():
    rgba = np.zeros((100, 100, 4), np.uint8)
    rgba[20:80, 20:80] = (200, 200, 200, 255)
    patch = resized(rgba, 41, 41).astype(int)
    assert np.array_equal(np.unique(patch[patch[..., 3] > 0][:, :3]), [200])
    assert patch[20, 20, 3] == 255
    assert patch[1, 1, 3] == 0
    # Along a row, alpha rises once and stays near 255: an overshoot that wrapped would fall to 0.
    assert patch[20, 10:31, 3].min() > 235

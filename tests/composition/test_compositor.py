"""The checked layer over the compositing kernel refuses all that could read or write out of bounds."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import naive
import numpy as np
import pytest
from refusals import refused

from fgbgpack.composition.compositor import Compositor
from fgbgpack.composition.placement import Placements
from fgbgpack.errors import SpecError

HEIGHT, WIDTH = 12, 17
RANDOM = np.random.default_rng(0)
BACKGROUND = RANDOM.integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
FOREGROUND = RANDOM.integers(0, 256, (2, 6, 9, 4), np.uint8)
SIZE = np.array([[6, 4], [5, 9]], np.int32)


def ints(*values):
    return np.array(values, np.int32)


GOOD = Placements(
    ints(0, 1, 2, 2),
    ints(0, 1, 0, 1),
    np.array([False, True, True, False]),
    ints(0, 0, 0, 0),
    ints(0, 7, 6, 3),
    ints(13, 8, 0, 5),
)


def outputs(n=4, rows=HEIGHT, width=WIDTH):
    return np.full((n, rows, width, 3), 7, np.uint8), np.full((n, rows, width), 7, np.uint8)


def compose(placements=GOOD, image=None, mask=None, **options):
    fresh = outputs(len(placements))
    image = fresh[0] if image is None else image
    mask = fresh[1] if mask is None else mask
    Compositor(BACKGROUND, FOREGROUND, SIZE).compose(placements, image, mask, **options)
    return image, mask


def refuse(code, placements=GOOD, image=None, mask=None, **options):
    image = outputs()[0] if image is None else image
    mask = outputs()[1] if mask is None else mask
    with refused(SpecError, code):
        compose(placements, image, mask, **options)
    for array in (image, mask):
        assert (array == 7).all(), "nothing is written before everything is checked"


def test_good_placements_give_the_naive_composites():
    image, mask = compose()
    for i, ref_image, ref_mask in naive.samples(GOOD, BACKGROUND, FOREGROUND, SIZE):
        np.testing.assert_array_equal(image[i], ref_image)
        np.testing.assert_array_equal(mask[i], ref_mask)


def test_any_of_placed_samples_are_composited_in_any_order_and_by_rows():
    placed = Compositor(BACKGROUND, FOREGROUND, SIZE).place(GOOD)
    expected = compose()
    some = np.array([3, 0, 0, -1, 2])
    for top, rows in ((0, HEIGHT), (5, 4), (9, 6)):
        inside = min(rows, HEIGHT - top)
        image, mask = outputs(5, rows)
        placed.compose(some, {"image": image, "mask": mask}, top=top)
        np.testing.assert_array_equal(image[:, :inside], expected[0][some, top : top + inside])
        np.testing.assert_array_equal(mask[:, :inside], expected[1][some, top : top + inside])
        assert not image[:, inside:].any()
        assert not mask[:, inside:].any()
        alone = outputs(5, rows)[1]
        placed.compose(some, {"mask": alone}, top=top)
        np.testing.assert_array_equal(alone, mask)


def test_placed_samples_that_are_not_there_and_outputs_that_do_not_fit_are_refused():
    placed = Compositor(BACKGROUND, FOREGROUND, SIZE).place(GOOD)
    image, mask = outputs(1)
    with pytest.raises(IndexError):
        placed.compose(np.array([4]), {"image": image, "mask": mask})
    for wrong in (
        outputs(2)[1],
        outputs(1, width=WIDTH + 1)[1],
        np.asfortranarray(mask),
        mask.astype(np.int8),
        mask[0],
    ):
        with refused(SpecError, "array-misfit", "^mask "):
            placed.compose(np.array([0]), {"mask": wrong})
    for top in (-1, HEIGHT):
        with refused(SpecError, "row-outside", f"{top}.* {HEIGHT - 1}"):
            placed.compose(np.array([0]), {"mask": mask}, top=top)
    assert (mask == 7).all()


def test_no_placements_are_no_work():
    image, mask = compose(GOOD[:0])
    assert image.shape == (0, HEIGHT, WIDTH, 3)
    assert mask.shape == (0, HEIGHT, WIDTH)


def test_inputs_need_not_be_contiguous():
    wide = Compositor(
        np.repeat(BACKGROUND, 2, 2)[:, :, ::2],
        np.repeat(FOREGROUND, 2, 3)[..., ::2],
        np.repeat(SIZE, 2, 0)[::2],
    )
    image, mask = outputs()
    twice = Placements(*(np.repeat(getattr(GOOD, f.name), 2)[::2] for f in dataclasses.fields(GOOD)))
    wide.compose(twice, image, mask)
    expected = compose()
    np.testing.assert_array_equal(image, expected[0])
    np.testing.assert_array_equal(mask, expected[1])


def test_threads_may_share_a_compositor():
    compositor = Compositor(BACKGROUND, FOREGROUND, SIZE)
    expected = compose()

    def work(_):
        image, mask = outputs()
        compositor.compose(GOOD, image, mask)
        return np.array_equal(image, expected[0]) and np.array_equal(mask, expected[1])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(200)))


# --- sources ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"background": BACKGROUND[..., :2]}, "background"),
        ({"background": BACKGROUND[0]}, "background"),
        ({"background": BACKGROUND.astype(np.int16)}, "background"),
        ({"foreground": FOREGROUND[..., :3]}, "foreground"),
        ({"foreground": FOREGROUND[0]}, "foreground"),
        ({"foreground": FOREGROUND.astype(np.float32)}, "foreground"),
        ({"foreground_size": SIZE.astype(np.int64)}, "foreground_size"),
        ({"foreground_size": SIZE[:1]}, "foreground_size"),
        ({"foreground_size": SIZE[:, :1]}, "foreground_size"),
        ({"foreground_size": SIZE.ravel()}, "foreground_size"),
    ],
)
def test_sources_of_other_shapes_or_types_are_refused(wrong, named):
    good = {"background": BACKGROUND, "foreground": FOREGROUND, "foreground_size": SIZE}
    with refused(SpecError, "array-misfit", f"^{named} "):
        Compositor(**(good | wrong))


@pytest.mark.parametrize(
    ("background", "size"),
    [
        (BACKGROUND, (7, 4, 5, 9)),  # higher than the array that holds it
        (BACKGROUND, (6, 10, 5, 9)),  # wider
        (BACKGROUND, (0, 4, 5, 9)),
        (BACKGROUND, (6, 4, 5, -1)),
        (BACKGROUND[:, :5], (6, 4, 5, 9)),  # higher than the picture
        (BACKGROUND[:, :, :8], (6, 4, 5, 9)),  # wider than the picture
    ],
)
def test_foregrounds_that_do_not_fit_the_picture_are_refused(background, size):
    with refused(SpecError, "foreground-too-large"):
        Compositor(background, FOREGROUND, ints(*size).reshape(2, 2))


# --- placements ------------------------------------------------------------------------------------


@pytest.mark.parametrize("i", [0, 1, 3])
@pytest.mark.parametrize(
    ("field", "values"),
    [("background", (-1, 3, 2**31 - 1, -(2**31))), ("foreground", (-1, 2, 2**31 - 1, -(2**31)))],
)
def test_an_index_that_is_not_there_is_refused(field, values, i):
    for value in values:
        changed = getattr(GOOD, field).copy()
        changed[i] = value
        refuse("picture-unknown", dataclasses.replace(GOOD, **{field: changed}))


@pytest.mark.parametrize("i", range(4))
@pytest.mark.parametrize("axis", [0, 1])
def test_a_patch_that_leaves_the_picture_is_refused_and_one_at_the_border_is_not(axis, i):
    field = "yx"[axis]
    room = (HEIGHT, WIDTH)[axis] - int(SIZE[GOOD.foreground[i], axis])
    for value in (-1, room + 1, 2**31 - 1, -(2**31)):
        corner = getattr(GOOD, field).copy()
        corner[i] = value
        refuse("placement-outside", dataclasses.replace(GOOD, **{field: corner}))
    for value in (0, room):
        corner = getattr(GOOD, field).copy()
        corner[i] = value
        compose(dataclasses.replace(GOOD, **{field: corner}))


@pytest.mark.parametrize("field", ["background", "foreground", "flip", "y", "x"])
def test_placements_of_another_length_or_type_are_refused(field):
    array = getattr(GOOD, field)
    # Arrays that are longer or shorter, of more axes, or of another type would be read out of bounds.
    for wrong in (array[:3], np.append(array, array[:1]), array[:, None], array.astype(np.int64)):
        refuse("array-misfit", dataclasses.replace(GOOD, **{field: wrong}))


# --- outputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (outputs(3)[0], outputs(4)[1]),
        (outputs(4)[0], outputs(3)[1]),
        (outputs(5)[0], outputs(5)[1]),
        (outputs(width=WIDTH - 1)[0], outputs(width=WIDTH - 1)[1]),
        (outputs()[0], outputs(rows=HEIGHT - 1)[1]),
        (outputs()[0], outputs(width=WIDTH - 1)[1]),
        (outputs()[0][..., :2], outputs()[1]),
        (outputs()[0].astype(np.uint16), outputs()[1]),
        (outputs()[0], outputs()[1].astype(np.int8)),
        (outputs()[0][..., 0], outputs()[1]),
        (outputs()[0], outputs()[0]),
        (outputs(8)[0][::2], outputs()[1]),
        (outputs()[0], outputs(8)[1][::2]),
        (np.asfortranarray(outputs()[0]), outputs()[1]),
    ],
)
def test_outputs_of_another_shape_type_or_order_are_refused(image, mask):
    refuse("array-misfit", image=image, mask=mask)


def test_outputs_that_cannot_be_written_are_refused():
    for which in (0, 1):
        arrays = outputs()
        arrays[which].flags.writeable = False
        refuse("array-misfit", image=arrays[0], mask=arrays[1])


@pytest.mark.parametrize("top", [-1, HEIGHT, HEIGHT + 1, -(2**40), 2**40])
def test_a_first_row_outside_the_picture_is_refused(top):
    image, mask = outputs(rows=2)
    refuse("row-outside", image=image, mask=mask, top=top)

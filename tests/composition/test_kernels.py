"""Every kernel against its naive twin, to the last bit; compiled, and as plain Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgbgpack.composition.compositor import Compositor
from fgbgpack.composition.kernels import composite, multiply_high, philox4x32
from fgbgpack.composition.placement import Placements

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
EXAMPLES = 150 if COMPILED else 20
BYTES = st.integers(0, 255)
WORDS = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1]))


def test_the_kernels_run_as_this_process_was_asked_to():
    assert hasattr(composite, "py_func") == COMPILED


# --- compositing -----------------------------------------------------------------------------------


@st.composite
def scenes(draw):
    """Sources and placements of every size and alpha, many of them at the borders of the picture."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    sizes = [
        (draw(st.integers(1, height)), draw(st.integers(1, width))) for _ in range(draw(st.integers(1, 3)))
    ]
    padding = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    largest = np.max(sizes, axis=0) + padding
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    background = random.integers(0, 256, (draw(st.integers(1, 3)), height, width, 3), np.uint8)
    foreground = random.integers(0, 256, (len(sizes), *largest, 4), np.uint8)
    # Random alpha seldom has the values that matter most.
    extreme = random.random(foreground.shape[:3]) < draw(st.sampled_from([0, 0.5, 1]))
    foreground[..., 3][extreme] = random.choice([0, 1, 127, 128, 254, 255], extreme.sum())
    n = draw(st.integers(0, 6))
    which = [draw(st.integers(0, len(sizes) - 1)) for _ in range(n)]

    def corner(axis, side):
        room = side - np.array([sizes[f][axis] for f in which], np.int64)
        return np.array([draw(st.one_of(st.sampled_from([0, r]), st.integers(0, r))) for r in room], np.int32)

    placements = Placements(
        np.array([draw(st.integers(0, len(background) - 1)) for _ in range(n)], np.int32),
        np.array(which, np.int32),
        np.array([draw(st.booleans()) for _ in range(n)], np.bool_),
        np.zeros(n, np.int32),
        corner(0, height),
        corner(1, width),
    )
    return background, foreground, np.array(sizes, np.int32), placements


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(scenes(), st.data())
def test_composites_equal_the_naive_ones_in_every_band(scene, data):
    background, foreground, size, placements = scene
    n, height, width = len(placements), *background.shape[1:3]
    top = data.draw(st.integers(0, height - 1))
    rows = data.draw(st.integers(0, height + 3))
    image = np.full((n, rows, width, 3), 99, np.uint8)
    mask = np.full((n, rows, width), 99, np.uint8)
    Compositor(background, foreground, size).compose(placements, image, mask, top=top)
    for i in range(n):
        f = placements.foreground[i]
        ref_image, ref_mask = naive.composite_pixels(
            background[placements.background[i]],
            foreground[f, : size[f, 0], : size[f, 1]],
            placements.flip[i],
            placements.y[i],
            placements.x[i],
        )
        inside = min(rows, height - top)
        np.testing.assert_array_equal(image[i, :inside], ref_image[top : top + inside])
        np.testing.assert_array_equal(mask[i, :inside], ref_mask[top : top + inside])
        assert not image[i, inside:].any()
        assert not mask[i, inside:].any()


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(scenes(), st.data())
def test_composites_differ_where_one_byte_does_in_every_band(scene, data):
    background, foreground, size, placements = scene
    n, height, width = len(placements), *background.shape[1:3]
    top = data.draw(st.integers(0, height - 1))
    rows = data.draw(st.integers(1, height + 3))
    image, mask = np.empty((n, rows, width, 3), np.uint8), np.empty((n, rows, width), np.uint8)
    placed = Compositor(background, foreground, size).place(placements)
    # That these are the naive ones another test says.
    planes = {"image": image, "mask": mask}
    placed.compose(slice(None), planes, top=top)
    assert not placed.differ(slice(None), planes, top=top).any()
    if n:
        changed = data.draw(st.sampled_from([image, mask]))
        place = data.draw(st.integers(0, changed.size - 1))
        before = changed.copy()
        changed.reshape(-1)[place] ^= 1 << data.draw(st.integers(0, 7))
        ref = (changed != before).reshape(n, -1).any(axis=1)
        np.testing.assert_array_equal(placed.differ(slice(None), planes, top=top), ref)
        reverse = np.arange(n)[::-1].copy()
        reversed_planes = {name: plane[::-1].copy() for name, plane in planes.items()}
        there = placed.differ(reverse, reversed_planes, top=top)
        np.testing.assert_array_equal(there, ref[::-1])


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(scenes())
def test_the_two_naive_composites_agree(scene):
    background, foreground, size, placements = scene
    for i, image, mask in naive.samples(placements, background, foreground, size):
        f = placements.foreground[i]
        patch = foreground[f, : size[f, 0], : size[f, 1]]
        ref_image, ref_mask = naive.composite_pixels(
            background[placements.background[i]], patch, placements.flip[i], placements.y[i], placements.x[i]
        )
        np.testing.assert_array_equal(image, ref_image)
        np.testing.assert_array_equal(mask, ref_mask)


@pytest.mark.slow
def test_every_blend_of_two_bytes_is_rounded_to_nearest():
    step = 1 if COMPILED else 51
    over, under = (plane.astype(np.uint8) for plane in np.mgrid[:256:step, :256:step])
    background = np.repeat(under[None, ..., None], 3, -1)
    image, mask = np.empty_like(background), np.empty(background.shape[:3], np.uint8)
    first, no, size = np.zeros(1, np.int32), np.zeros(1, np.bool_), np.array([over.shape], np.int32)
    for alpha in range(0, 256, step):
        foreground = np.full((1, *over.shape, 4), alpha, np.uint8)
        foreground[0, ..., :3] = over[..., None]
        composite(background, foreground, size, first, first, no, first, first, 0, image, mask)
        total = alpha * over.astype(np.int64) + (255 - alpha) * under.astype(np.int64)
        np.testing.assert_array_equal(image[0], np.repeat(naive.ROUNDED[total][..., None], 3, -1))
        assert (mask == alpha).all()


def test_transparent_pixels_leave_the_background_and_opaque_ones_cover_it():
    random = np.random.default_rng(1)
    background = random.integers(0, 256, (1, 6, 7, 3), np.uint8)
    foreground = random.integers(0, 256, (1, 6, 7, 4), np.uint8)
    foreground[..., 3] = random.choice([0, 255], (1, 6, 7))
    image, mask = np.empty_like(background), np.empty((1, 6, 7), np.uint8)
    first, no, size = np.zeros(1, np.int32), np.zeros(1, np.bool_), np.array([[6, 7]], np.int32)
    composite(background, foreground, size, first, first, no, first, first, 0, image, mask)
    solid = foreground[0, ..., 3] == 255
    np.testing.assert_array_equal(image[0][solid], foreground[0][solid][:, :3])
    np.testing.assert_array_equal(image[0][~solid], background[0][~solid])


# --- random numbers --------------------------------------------------------------------------------


def philox(counter, key):
    counter = np.array(counter, np.uint32).reshape(-1, 4)
    out = np.empty_like(counter)
    philox4x32(counter, np.array(key, np.uint32), out)
    return out.tolist()


ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (PI, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_philox_gives_the_known_answers(counter, key, expected):
    assert philox(counter, key) == [list(expected)]
    assert naive.philox4x32(counter, key) == list(expected)


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS), max_size=5), st.tuples(WORDS, WORDS))
def test_philox_equals_the_naive_one(counters, key):
    assert philox(counters, key) == [naive.philox4x32(counter, key) for counter in counters]


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(st.lists(st.tuples(WORDS, st.integers(1, 2**31 - 1)), max_size=8))
def test_multiply_high_equals_the_naive_one_and_stays_in_range(pairs):
    numbers = [multiply_high(np.uint32(word), np.int32(count)) for word, count in pairs]
    assert numbers == [naive.multiply_high(word, count) for word, count in pairs]
    assert all(0 <= number < count for number, (_, count) in zip(numbers, pairs, strict=True))


# --- without compilation ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="this is the run without compilation")
def test_all_of_this_holds_without_compilation():
    here = Path(__file__)
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(here.parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(here)],
        cwd=here.parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr

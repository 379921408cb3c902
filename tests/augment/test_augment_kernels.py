"""Every kernel of augmentation against its naive twin, to the last bit; compiled, and as plain Python."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import naive_augment
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgbgpack.augment import Augment, kernels
from fgbgpack.augment.augment import noise_table

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
EXAMPLES = 40 if COMPILED else 8
NONE = np.empty((0, 0, 0), np.uint8)
INDICES = np.array([0, 1, 2, 7, 2**31, 2**32 + 5, 2**40], np.int64)


@st.composite
def options(draw):
    """Options of every kind, at both ends of their ranges and between."""

    def number(most):
        return draw(st.one_of(st.sampled_from([0.0, most]), st.floats(0, most)))

    zoom = sorted(draw(st.lists(st.floats(1, 16), min_size=2, max_size=2)))
    return {
        "zoom": draw(st.sampled_from([None, (1, 1), tuple(zoom)])),
        "crop": draw(st.booleans()),
        "mirror": number(1.0),
        "brightness": number(1.0),
        "contrast": number(1.0),
        "saturation": number(1.0),
        "hue": number(0.25),
        "tint": number(1.0),
        "blur": number(4.0),
        "blur_probability": number(1.0),
        "noise": number(64.0),
        "seed": draw(st.integers(0, 2**64 - 1)),
    }


SIDES = st.integers(1, 9)


@st.composite
def cases(draw):
    """Some samples, and how they are to be augmented: to another size, at most half as large."""
    height, width = draw(SIDES), draw(SIDES)
    size = draw(st.integers(-(-height // 2), 12)), draw(st.integers(-(-width // 2), 12))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    image = random.integers(0, 256, (len(INDICES), height, width, 3), np.uint8)
    if draw(st.booleans()):
        image = np.where(image > 127, 255, 0).astype(np.uint8)
    augment = Augment(size=draw(st.sampled_from([None, size])), **draw(options()))
    return augment, image, draw(st.integers(0, 2**40))


@settings(max_examples=EXAMPLES)
@given(cases())
def test_pictures_masks_and_depth(case):
    augment, image, epoch = case
    n, height, width, _ = image.shape
    size = augment.size_of(height, width)
    changes = augment.draw(INDICES, height, width, epoch=epoch)
    mask = image[..., 1] ^ image[..., 0]
    out, out_mask, lone = np.empty((n, *size, 3), np.uint8), *np.empty((2, n, *size), np.uint8)
    colour = changes.colour, changes.blur, changes.noise
    geometry = changes.window, changes.mirror
    kernels.pictures(image, mask, *geometry, *colour, 1, noise_table(), out, out_mask)
    kernels.smooth(mask, *geometry, lone)
    behind, depth = np.empty_like(out), np.empty((n, *size), np.uint16)
    kernels.pictures(image, NONE, *geometry, *colour, 2, noise_table(), behind, NONE)
    near = mask.astype(np.uint16) * 257
    kernels.nearest(near, *geometry, depth)
    for i in range(n):
        at = changes.window[i].tolist(), bool(changes.mirror[i])
        table = noise_table()
        for found, stream in ((out, 1), (behind, 2)):
            amount, seed = changes.noise[i, 0], changes.noise[i, stream]
            expected = naive_augment.picture(
                image[i], *at, changes.colour[i], changes.blur[i], amount, seed, table, *size
            )
            np.testing.assert_array_equal(found[i], expected)
        expected_mask = naive_augment.linear(mask[i], *at, *size)
        np.testing.assert_array_equal(out_mask[i], expected_mask)
        np.testing.assert_array_equal(lone[i], expected_mask)
        np.testing.assert_array_equal(depth[i], naive_augment.nearest(near[i], *at, *size))


@settings(max_examples=EXAMPLES)
@given(options(), st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32))
def test_what_is_drawn(options, height, width, seed):
    """Whole numbers to the last bit, and the colours as a camera's formulas have them in real numbers."""
    augment = Augment(**options)
    words = np.random.default_rng(seed).integers(0, 2**32, (5, kernels.WORDS), np.uint32)
    words[0], words[1] = 0, 2**32 - 1
    drawn = augment.draw_from(words, height, width)
    least, most = augment.zoom or (1, 1)
    for i, word in enumerate(words.tolist()):
        between = naive_augment.between
        side = between(word[0], round(65536 / most), round(65536 / least))
        lengths = [height * side, width * side]
        free = [height * 65536 - lengths[0], width * 65536 - lengths[1]]
        corner = [between(word[1 + k], 0, free[k]) if augment.crop else free[k] // 2 for k in range(2)]
        assert drawn.window[i].tolist() == corner + lengths
        assert drawn.mirror[i] == (word[3] // 65536 < round(65536 * augment.mirror))
        changes = [
            1 + between(word[k], -most, most) / 4096
            for k, option in (
                (4, "brightness"),
                (5, "contrast"),
                (6, "saturation"),
                (8, "tint"),
                (9, "tint"),
                (10, "tint"),
            )
            for most in [round(getattr(augment, option) * 4096)]
        ]
        most_hue = round(65536 * augment.hue)
        turns = between(word[7], -most_hue, most_hue) / 65536
        expected = naive_augment.colours(*changes[:3], turns, changes[3:]) * 4096
        # Factors are rounded down some times, and are at most 8 times their unit.
        np.testing.assert_allclose(drawn.colour[i].reshape(3, 4), expected, rtol=0, atol=24)
        sigma = between(word[12], 0, round(65536 * augment.blur))
        if word[11] // 65536 >= round(65536 * augment.blur_probability):
            sigma = 0
        passes, *taps = drawn.blur[i].tolist()
        variance = sigma**2 // 65536
        assert passes == -(-3 * variance // (4 * 65536))
        if passes:
            assert taps[0] + 2 * taps[1] + 2 * taps[2] == 256
            assert min(taps) >= 0
            # The variance of all passes: taps are 1/256 each, rounded, and the outer ones count four times.
            assert abs(passes * (2 * taps[1] + 8 * taps[2]) / 256 - variance / 65536) <= passes * 6 / 256
        most_noise = round(65536 * augment.noise)
        assert drawn.noise[i].tolist() == [
            between(word[13], 0, most_noise) * 100 // 20902,
            word[14],
            word[15],
        ]


def test_nothing_changes_where_all_is_off():
    image = np.arange(7 * 5 * 6 * 3, dtype=np.uint8).reshape(7, 5, 6, 3)
    out = off().arrays({"image": image, "mask": image[..., 0]}, INDICES)
    np.testing.assert_array_equal(out["image"], image)
    np.testing.assert_array_equal(out["mask"], image[..., 0])


@pytest.mark.parametrize("turns", [-0.25, -0.1, 0.02, 0.25])
def test_hues_turn_and_greys_stay(turns):
    words = np.full((1, kernels.WORDS), 2**32 - 1 if turns > 0 else 0, np.uint32)
    augment = Augment(**{**off().to_dict(), "hue": abs(turns)})
    factors = augment.draw_from(words, 4, 4).colour.reshape(3, 4)
    assert np.abs(factors[:, :3].sum(axis=1) - 4096).max() <= 3
    np.testing.assert_allclose(factors[:, :3] / 4096, naive_augment.rotation(turns), rtol=0, atol=2e-3)


def test_noise_is_normal_and_as_strong_as_said():
    table = noise_table()
    assert abs(table.mean()) < 1
    assert abs(table.std() - 209.02) < 1
    shares = [(abs(table) < k * 209).mean() for k in (1, 2, 3)]
    np.testing.assert_allclose(shares, [0.683, 0.954, 0.9973], atol=0.006)
    grey = np.full((40, 32, 32, 3), 128, np.uint8)
    augment = Augment(**{**off().to_dict(), "noise": 16, "seed": 3})
    changed = augment.arrays({"image": grey, "background_image": grey}, np.arange(40))
    found = changed["image"].astype(float) - 128
    deviations = found.std(axis=(1, 2, 3))
    amounts = augment.draw(np.arange(40), 32, 32).noise[:, 0] * 209.02 / 65536
    np.testing.assert_allclose(deviations, amounts, atol=0.6)
    assert 13 < deviations.max() < 17
    # Neither rows, nor colours, nor the picture and the one behind it have the same noise.
    other = changed["background_image"].astype(float) - 128
    for first, second in (
        (found, other),
        (found[:, 1:], found[:, :-1]),
        (found[..., 0], found[..., 1]),
        (found[:, :, 1:], found[:, :, :-1]),
    ):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


def test_the_same_on_every_machine():
    """Digests of what these kernels gave once."""
    image = (np.arange(7 * 24 * 30 * 3) * 37 % 251).astype(np.uint8).reshape(7, 24, 30, 3)
    augment = Augment(size=(20, 20), blur_probability=1, hue=0.25, noise=20, seed=2**63 + 11)
    changed = augment.arrays(
        {"image": image, "mask": image[..., 2], "depth": image[..., 1]}, INDICES, epoch=9
    )
    digests = {name: hashlib.sha256(array.tobytes()).hexdigest()[:16] for name, array in changed.items()}
    assert digests == {"image": "58c7164308d18064", "mask": "1575b753a15dc490", "depth": "bded84395c550f83"}


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="this process compiles nothing")
def test_without_compilation():
    """All of the above with ``NUMBA_DISABLE_JIT``, which notices indices out of bounds and overflows."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", __file__],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def off() -> Augment:
    """Nothing is changed."""
    return Augment(
        zoom=None,
        crop=False,
        mirror=0,
        brightness=0,
        contrast=0,
        saturation=0,
        hue=0,
        tint=0,
        blur=0,
        noise=0,
    )
